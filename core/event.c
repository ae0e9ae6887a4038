/* SPDX-License-Identifier: Apache-2.0 */
/* Events as lines of JSON, and errno by name. */
#include "core/event.h"

#include <errno.h>
#include <string.h>

#include "core/span.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static const char *const kind_names[] = {
	[EVENT_NONE] = "none",
	[EVENT_STATE_CHANGE] = "state_change",
	[EVENT_CALL_REJECTED] = "call_rejected",
	[EVENT_BREAKER_CREATED] = "breaker_created",
	[EVENT_BREAKER_RETIRED] = "breaker_retired",
	[EVENT_CONFIG_ERROR] = "config_error",
	[EVENT_MODE_CHANGED] = "mode_changed",
	[EVENT_STATE_PRIVATE] = "state_private",
	[EVENT_STACK] = "stack",
	[EVENT_SPAN] = "span_completed",
	[EVENT_SPAN_MORE] = "span_more",
};

static const struct {
	const char *level, *message;
} speech[] = {
	[EVENT_NONE] = { "info", "nothing" },
	[EVENT_STATE_CHANGE] = { "warn", NULL }, /* said by where it went */
	[EVENT_CALL_REJECTED] = { "warn", "calls rejected" },
	[EVENT_BREAKER_CREATED] = { "info", "breaker created" },
	[EVENT_BREAKER_RETIRED] = { "info", "breaker retired" },
	[EVENT_CONFIG_ERROR] = { "error", "setting not understood" },
	[EVENT_MODE_CHANGED] = { "warn", "mode changed" },
	[EVENT_STATE_PRIVATE] = { "warn", "breakers not shared" },
	[EVENT_STACK] = { "info", "stack" },
	[EVENT_SPAN] = { "info", "span completed" },
	[EVENT_SPAN_MORE] = { "info", "more of a span" },
};

static const char *const changes[BREAKER_STATES] = {
	[BREAKER_CLOSED] = "breaker closed",
	[BREAKER_HALF_OPEN] = "breaker half-open",
	[BREAKER_OPEN] = "breaker opened",
};

static const char *const verdict_names[] = {
	[BREAKER_ADMITTED] = "admitted",
	[BREAKER_REFUSED_OPEN] = "open",
	[BREAKER_REFUSED_TOO_MANY] = "too_many",
};

static const char *const error_names[] = {
	[EVENT_ERROR_NONE] = "none",
	[EVENT_ERROR_LOCAL_ORIGIN] = "local_origin",
	[EVENT_ERROR_EXTERNAL] = "external",
};

static const char *const count_names[] = {
	"requests", "successes", "failures", "exclusions",
	"consecutive_successes", "consecutive_failures",
};

/* Names by number on Linux's generic table, which x86_64 and aarch64 share. */
static const char *const errno_names[] = {
#define ROW(e) [e] = #e
	ROW(EPERM),
	ROW(ENOENT),
	ROW(ESRCH),
	ROW(EINTR),
	ROW(EIO),
	ROW(ENXIO),
	ROW(E2BIG),
	ROW(ENOEXEC),
	ROW(EBADF),
	ROW(ECHILD),
	ROW(EAGAIN),
	ROW(ENOMEM),
	ROW(EACCES),
	ROW(EFAULT),
	ROW(ENOTBLK),
	ROW(EBUSY),
	ROW(EEXIST),
	ROW(EXDEV),
	ROW(ENODEV),
	ROW(ENOTDIR),
	ROW(EISDIR),
	ROW(EINVAL),
	ROW(ENFILE),
	ROW(EMFILE),
	ROW(ENOTTY),
	ROW(ETXTBSY),
	ROW(EFBIG),
	ROW(ENOSPC),
	ROW(ESPIPE),
	ROW(EROFS),
	ROW(EMLINK),
	ROW(EPIPE),
	ROW(EDOM),
	ROW(ERANGE),
	ROW(EDEADLK),
	ROW(ENAMETOOLONG),
	ROW(ENOLCK),
	ROW(ENOSYS),
	ROW(ENOTEMPTY),
	ROW(ELOOP),
	ROW(ENOMSG),
	ROW(EIDRM),
	ROW(ECHRNG),
	ROW(EL2NSYNC),
	ROW(EL3HLT),
	ROW(EL3RST),
	ROW(ELNRNG),
	ROW(EUNATCH),
	ROW(ENOCSI),
	ROW(EL2HLT),
	ROW(EBADE),
	ROW(EBADR),
	ROW(EXFULL),
	ROW(ENOANO),
	ROW(EBADRQC),
	ROW(EBADSLT),
	ROW(EBFONT),
	ROW(ENOSTR),
	ROW(ENODATA),
	ROW(ETIME),
	ROW(ENOSR),
	ROW(ENONET),
	ROW(ENOPKG),
	ROW(EREMOTE),
	ROW(ENOLINK),
	ROW(EADV),
	ROW(ESRMNT),
	ROW(ECOMM),
	ROW(EPROTO),
	ROW(EMULTIHOP),
	ROW(EDOTDOT),
	ROW(EBADMSG),
	ROW(EOVERFLOW),
	ROW(ENOTUNIQ),
	ROW(EBADFD),
	ROW(EREMCHG),
	ROW(ELIBACC),
	ROW(ELIBBAD),
	ROW(ELIBSCN),
	ROW(ELIBMAX),
	ROW(ELIBEXEC),
	ROW(EILSEQ),
	ROW(ERESTART),
	ROW(ESTRPIPE),
	ROW(EUSERS),
	ROW(ENOTSOCK),
	ROW(EDESTADDRREQ),
	ROW(EMSGSIZE),
	ROW(EPROTOTYPE),
	ROW(ENOPROTOOPT),
	ROW(EPROTONOSUPPORT),
	ROW(ESOCKTNOSUPPORT),
	ROW(EOPNOTSUPP),
	ROW(EPFNOSUPPORT),
	ROW(EAFNOSUPPORT),
	ROW(EADDRINUSE),
	ROW(EADDRNOTAVAIL),
	ROW(ENETDOWN),
	ROW(ENETUNREACH),
	ROW(ENETRESET),
	ROW(ECONNABORTED),
	ROW(ECONNRESET),
	ROW(ENOBUFS),
	ROW(EISCONN),
	ROW(ENOTCONN),
	ROW(ESHUTDOWN),
	ROW(ETOOMANYREFS),
	ROW(ETIMEDOUT),
	ROW(ECONNREFUSED),
	ROW(EHOSTDOWN),
	ROW(EHOSTUNREACH),
	ROW(EALREADY),
	ROW(EINPROGRESS),
	ROW(ESTALE),
	ROW(EUCLEAN),
	ROW(ENOTNAM),
	ROW(ENAVAIL),
	ROW(EISNAM),
	ROW(EREMOTEIO),
	ROW(EDQUOT),
	ROW(ENOMEDIUM),
	ROW(EMEDIUMTYPE),
	ROW(ECANCELED),
	ROW(ENOKEY),
	ROW(EKEYEXPIRED),
	ROW(EKEYREVOKED),
	ROW(EKEYREJECTED),
	ROW(EOWNERDEAD),
	ROW(ENOTRECOVERABLE),
	ROW(ERFKILL),
	ROW(EHWPOISON),
#undef ROW
};

static const struct {
	const char *name;
	int error;
} errno_aliases[] = {
	{ "EWOULDBLOCK", EWOULDBLOCK },
	{ "EDEADLOCK", EDEADLOCK },
	{ "ENOTSUP", ENOTSUP },
};

/* @index comes from shared memory. */
static const char *name_in(const char *const *names, size_t n, uint64_t index)
{
	return index < n && names[index] != NULL ? names[index] : "unknown";
}

const char *event_kind_name(enum event_kind kind)
{
	return name_in(kind_names, ARRAY_SIZE(kind_names), (uint64_t) (unsigned) kind);
}

const char *event_errno_name(int error)
{
	if (error <= 0 || (size_t) error >= ARRAY_SIZE(errno_names))
		return NULL;
	return errno_names[error];
}

int event_errno_from(const char *name)
{
	for (size_t i = 1; i < ARRAY_SIZE(errno_names); i++) {
		if (errno_names[i] != NULL && strcmp(errno_names[i], name) == 0)
			return (int) i;
	}
	for (size_t i = 0; i < ARRAY_SIZE(errno_aliases); i++) {
		if (strcmp(errno_aliases[i].name, name) == 0)
			return errno_aliases[i].error;
	}
	return 0;
}

static void add_string(struct text *out, const char *key, const char *value)
{
	text_add_key(out, key);
	text_add_json(out, value);
}

static void add_number(struct text *out, const char *key, uint64_t value)
{
	text_add_key(out, key);
	text_add_u64(out, value);
}

/* The record's text, which may have lost its NUL. */
static void add_own_text(struct text *out, const char *key, const struct event *e)
{
	text_add_key(out, key);
	text_add_json_n(out, e->text, strnlen(e->text, sizeof(e->text)));
}

static bool enforced(const struct event *e)
{
	return e->mode == POLICY_ENFORCE || e->mode == POLICY_FORCED_OPEN;
}

static void add_enforced(struct text *out, const struct event *e)
{
	text_add_key(out, "enforced");
	text_add(out, enforced(e) ? "true" : "false");
}

static const char *message_of(const struct event *e)
{
	if (e->kind == EVENT_STATE_CHANGE)
		return name_in(changes, ARRAY_SIZE(changes), e->to);
	return e->kind < ARRAY_SIZE(speech) ? speech[e->kind].message : "unknown";
}

static void add_always(struct text *out, const struct event *e, const char *service)
{
	add_string(out, "level", e->kind < ARRAY_SIZE(speech) ? speech[e->kind].level : "info");
	add_string(out, "msg", message_of(e));
	add_string(out, "event", event_kind_name((enum event_kind) e->kind));
	text_add_key(out, "ts");
	text_add(out, "\"");
	text_add_time(out, e->wall_ns);
	text_add(out, "\"");
	add_number(out, "mono_ns", e->mono_ns);
	add_number(out, "pid", e->pid);
	add_number(out, "tid", e->tid);
	add_number(out, "id", e->id);
	text_add_key(out, "service");
	text_add_json_n(out, service, strnlen(service, EVENT_SERVICE_MAX));
	add_string(out, "mode", policy_mode_name((enum policy_mode) e->mode));
}

static void add_error(struct text *out, const struct event *e)
{
	const char *const name = event_errno_name((int) e->error_code);

	if (e->error_kind == EVENT_ERROR_NONE)
		return;
	text_add_key(out, "last_error");
	text_add(out, "{");
	add_string(out, "kind", name_in(error_names, ARRAY_SIZE(error_names), e->error_kind));
	if (e->error_kind == EVENT_ERROR_LOCAL_ORIGIN && name != NULL)
		add_string(out, "code", name);
	else
		add_number(out, "code", e->error_code);
	text_add(out, "}");
}

static void add_state_change(struct text *out, const struct event *e)
{
	add_own_text(out, "breaker", e);
	add_string(out, "from", breaker_state_name((enum breaker_state) e->from));
	add_string(out, "to", breaker_state_name((enum breaker_state) e->to));
	add_string(out, "reason", breaker_reason_name((enum breaker_reason) e->reason));
	add_number(out, "generation", e->generation);
	if (e->to == BREAKER_OPEN) {
		text_add_key(out, "open_ms");
		text_add_ms(out, e->open_ns);
	}
	add_enforced(out, e);
	text_add_key(out, "counts");
	text_add(out, "{");
	for (size_t i = 0; i < ARRAY_SIZE(count_names); i++)
		add_number(out, count_names[i], e->counts[i]);
	text_add(out, "}");
	add_error(out, e);
}

static void add_call_rejected(struct text *out, const struct event *e)
{
	add_own_text(out, "breaker", e);
	add_string(out, "reason", e->mode == POLICY_FORCED_OPEN
					  ? "forced"
					  : name_in(verdict_names, ARRAY_SIZE(verdict_names),
						    e->verdict));
	add_number(out, "n", e->n);
	add_number(out, "generation", e->generation);
	add_enforced(out, e);
}

static void add_control(struct text *out, const struct event *e)
{
	if (e->text[0] != '\0') {
		add_own_text(out, "control", e);
		return;
	}
	text_add_key(out, "control");
	text_add(out, "null");
}

static void add_stack(struct text *out, const struct event *e)
{
	add_number(out, "of", e->id);
	add_number(out, "part", e->part);
	add_number(out, "parts", e->parts);
	add_own_text(out, "frames", e);
}

static void add_hex(struct text *out, const char *key, const uint8_t *bytes, size_t n)
{
	text_add_key(out, key);
	text_add(out, "\"");
	for (size_t i = 0; i < n; i++)
		text_add_hex(out, bytes[i], 2);
	text_add(out, "\"");
}

static void add_span_more(struct text *out, const struct event *e)
{
	const char *key, *value;
	size_t at = 0;

	add_hex(out, "trace_id", e->span.trace_id, sizeof(e->span.trace_id));
	add_hex(out, "span_id", e->span.span_id, sizeof(e->span.span_id));
	text_add_key(out, "attributes");
	text_add(out, "{");
	while (span_more_next(e, &at, &key, &value))
		add_string(out, key, value);
	text_add(out, "}");
}

static void add_kind(struct text *out, const struct event *e)
{
	switch (e->kind) {
	case EVENT_STATE_CHANGE:
		add_state_change(out, e);
		break;
	case EVENT_CALL_REJECTED:
		add_call_rejected(out, e);
		break;
	case EVENT_BREAKER_CREATED:
	case EVENT_BREAKER_RETIRED:
		add_own_text(out, "breaker", e);
		break;
	case EVENT_CONFIG_ERROR:
	case EVENT_STATE_PRIVATE:
		add_own_text(out, "problem", e);
		break;
	case EVENT_MODE_CHANGED:
		add_control(out, e);
		break;
	case EVENT_STACK:
		add_stack(out, e);
		break;
	case EVENT_SPAN_MORE:
		add_span_more(out, e);
		break;
	case EVENT_SPAN: /* has its own line */
	case EVENT_NONE: /* and any number that a later version or noise put there */
	default:
		break;
	}
}

void event_json(const struct event *e, const char *service, struct text *out)
{
	const size_t before = out->used;
	const bool was_cut = out->cut;

	if (e->kind == EVENT_SPAN) {
		span_json(e, NULL, 0, service, out);
		return;
	}
	out->cut = false;
	text_add(out, "{");
	add_always(out, e, service);
	add_kind(out, e);
	text_add(out, "}");
	if (out->cut)
		text_cut_back(out, before);
	out->cut |= was_cut;
}
