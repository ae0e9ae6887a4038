/* SPDX-License-Identifier: Apache-2.0 */
/* Spans as records while they run and as lines of JSON when they are over. */
#include "core/span.h"

#include <assert.h>
#include <string.h>

#include "core/clock.h"
#include "core/rpc.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define TEXTS_ROOM (EVENT_TEXT_SIZE - SPAN_TEXTS) /* without the NULs */
#define HOST_KEPT  48 /* a long path leaves this much to the host; names are seldom longer */
#define KEY_MAX    64 /* of a pair; a longer key is cut, and the value has the rest */

static const char *const kind_names[] = {
	[SPAN_INTERNAL] = "internal",
	[SPAN_SERVER] = "server",
	[SPAN_CLIENT] = "client",
};

static const char *const error_names[SPAN_ERRORS] = {
	[SPAN_TIMEOUT] = "timeout",
	[SPAN_RESET] = "connection_reset",
	[SPAN_EARLY_END] = "connection_closed",
	[SPAN_REFUSED_BY_BREAKER] = "circuit_open",
	[SPAN_CONNECT_FAILED] = "connection_failed",
	[SPAN_ABANDONED] = "abandoned",
	[SPAN_TLS] = "tls",
	[SPAN_OTHER] = "_OTHER",
};

static const char *const protocol_names[] = {
	[SPAN_HTTP_1_0] = "1.0",
	[SPAN_HTTP_1_1] = "1.1",
	[SPAN_HTTP_2] = "2",
};

/* What OpenTelemetry names; any other is "_OTHER", so that methods stay few. */
static const char *const known_methods[] = {
	"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
};

/* Members that span_json() writes by itself: no pair may write one of them again. */
static const char *const own_members[] = {
	"level", "msg", "event", "ts", "trace_id", "span_id", "parent_span_id", "trace_flags",
	"operation", "kind", "duration_ms", "service", "status", "error.type", "pid", "tid",
	"http.request.method", "http.request.method_original", "http.response.status_code",
	"rpc.system.name", "rpc.method", "rpc.status_code",
	"url.scheme", "url.path", "server.address", "server.port", "network.protocol.version",
};

const char *span_kind_name(unsigned kind)
{
	return kind < ARRAY_SIZE(kind_names) ? kind_names[kind] : "unknown";
}

const char *span_error_name(unsigned error)
{
	return error < ARRAY_SIZE(error_names) ? error_names[error] : "unknown";
}

const char *span_protocol_name(unsigned protocol)
{
	return protocol < ARRAY_SIZE(protocol_names) ? protocol_names[protocol] : NULL;
}

/* ---- the record ---- */

void span_begin(struct event *e, enum span_kind kind, const struct context *own,
		const uint8_t parent_span_id[8], uint64_t wall_ns, uint64_t mono_ns)
{
	memset(e, 0, sizeof(*e));
	e->kind = EVENT_SPAN;
	e->wall_ns = wall_ns;
	e->mono_ns = mono_ns;
	memcpy(e->span.trace_id, own->trace_id, sizeof(e->span.trace_id));
	memcpy(e->span.span_id, own->span_id, sizeof(e->span.span_id));
	e->span.flags = (uint8_t) own->flags;
	e->span.kind = (uint8_t) kind;
	e->span.protocol = SPAN_NO_PROTOCOL;
	if ((own->flags & CONTEXT_UUID) != 0)
		e->span.bits |= SPAN_TRACE_AS_UUID;
	if (parent_span_id != NULL) {
		memcpy(e->span.parent_id, parent_span_id, sizeof(e->span.parent_id));
		e->span.bits |= SPAN_HAS_PARENT;
	}
}

static bool continues(char byte)
{
	return ((unsigned char) byte & 0xc0) == 0x80;
}

/* How much of @s, @len long, is kept of at most @room bytes: no NUL, whole characters. */
static size_t fitting(const char *s, size_t len, size_t room)
{
	size_t n;

	if (s == NULL)
		return 0;
	len = strnlen(s, len);
	if (len <= room)
		return len;
	for (n = room; n > 0 && room - n < 4; n--) {
		if (!continues(s[n]))
			return n;
	}
	return n > 0 ? room : 0; /* no character is that long: it is no UTF-8 anyway */
}

static size_t put_text(struct event *e, size_t at, const char *s, size_t n)
{
	if (n > 0)
		memcpy(e->text + at, s, n);
	e->text[at + n] = '\0';
	return at + n + 1;
}

void span_texts(struct event *e, const char *method, size_t method_len, const char *path,
		size_t path_len, const char *host, size_t host_len)
{
	const size_t kept = host_len < HOST_KEPT ? host_len : HOST_KEPT;
	const size_t n_method = fitting(method, method_len, TEXTS_ROOM);
	const size_t room = TEXTS_ROOM - n_method;
	const size_t n_path = fitting(path, path_len, room > kept ? room - kept : 0);
	const size_t n_host = fitting(host, host_len, room - n_path);
	size_t at = put_text(e, 0, method, n_method);

	at = put_text(e, at, path, n_path);
	at = put_text(e, at, host, n_host);
	memset(e->text + at, 0, sizeof(e->text) - at);
}

/*
 * OpenTelemetry: a server is not to blame for what a client asked (4xx), a client's request
 * failed either way.
 */
static bool status_fails(unsigned kind, uint16_t status)
{
	return (kind == SPAN_SERVER && status >= 500) || (kind == SPAN_CLIENT && status >= 400);
}

/* The same of gRPC, whose codes differ by whose fault they are. */
static bool rpc_fails(const struct event *e)
{
	const unsigned status = e->span.rpc_status - 1u;

	if (e->span.rpc_status == 0 || status == RPC_OK)
		return false;
	return e->span.kind == SPAN_CLIENT || rpc_server_fails(status);
}

static bool fails(const struct event *e, uint16_t status)
{
	return (e->span.bits & SPAN_RPC) != 0 && e->span.rpc_status != 0
		       ? rpc_fails(e)
		       : status_fails(e->span.kind, status);
}

void span_end(struct event *e, uint16_t status, enum span_error error, uint64_t mono_ns)
{
	assert(error < SPAN_ERRORS);
	if (error == SPAN_NO_ERROR && fails(e, status))
		error = SPAN_BY_STATUS;
	if (error == SPAN_BY_STATUS && status == 0 && e->span.rpc_status == 0)
		error = SPAN_OTHER;
	e->span.duration_ns = clock_since(e->mono_ns, mono_ns);
	e->span.status = status;
	e->span.error = (uint8_t) error;
	e->span.result = error != SPAN_NO_ERROR ? SPAN_ERROR : SPAN_UNSET;
}

const char *span_text(const struct event *e, enum span_text which)
{
	size_t at = 0;

	for (unsigned i = 0; at < sizeof(e->text); i++) {
		const size_t n = strnlen(e->text + at, sizeof(e->text) - at);

		if (at + n == sizeof(e->text))
			break; /* torn: no NUL is left */
		if (i == (unsigned) which)
			return e->text + at;
		at += n + 1;
	}
	return "";
}

/* ---- further attributes ---- */

void span_more_begin(struct event *more, const struct event *of)
{
	memset(more, 0, sizeof(*more));
	more->kind = EVENT_SPAN_MORE;
	more->wall_ns = of->wall_ns;
	more->mono_ns = of->mono_ns;
	more->pid = of->pid;
	more->tid = of->tid;
	more->id = of->id;
	memcpy(more->span.trace_id, of->span.trace_id, sizeof(more->span.trace_id));
	memcpy(more->span.span_id, of->span.span_id, sizeof(more->span.span_id));
}

bool span_more_next(const struct event *more, size_t *at, const char **ret_key,
		    const char **ret_value)
{
	const size_t size = sizeof(more->text);
	const size_t key = *at;

	if (key >= size || more->text[key] == '\0')
		return false;

	const size_t value = key + strnlen(more->text + key, size - key) + 1;

	if (value >= size)
		return false;

	const size_t end = value + strnlen(more->text + value, size - value);

	if (end >= size)
		return false;
	*ret_key = more->text + key;
	*ret_value = more->text + value;
	*at = end + 1;
	return true;
}

bool span_more_add(struct event *more, const char *key, const char *value, size_t len)
{
	const size_t size = sizeof(more->text);
	const char *k, *v;
	size_t at = 0;

	while (span_more_next(more, &at, &k, &v))
		;

	const size_t n_key = fitting(key, strlen(key), KEY_MAX);
	const size_t longest = size - 2 - n_key; /* of a value that has a record to itself */
	const size_t n_value = fitting(value, len, longest);

	if (n_key == 0)
		return true; /* an empty key would end the list: there is nothing to tell */
	if (at + n_key + n_value + 2 > size)
		return false;
	at = put_text(more, at, key, n_key);
	at = put_text(more, at, value, n_value);
	memset(more->text + at, 0, size - at);
	return true;
}

/* ---- JSON ---- */

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

static void add_hex(struct text *out, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text_add_hex(out, bytes[i], 2);
}

void span_trace_id(const struct event *e, struct text *out)
{
	static const size_t groups[] = { 4, 2, 2, 2, 6 };
	size_t at = 0;

	if ((e->span.bits & SPAN_TRACE_AS_UUID) == 0) {
		add_hex(out, e->span.trace_id, sizeof(e->span.trace_id));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (i > 0)
			text_add(out, "-");
		add_hex(out, e->span.trace_id + at, groups[i]);
		at += groups[i];
	}
}

/* "pkg.Service/Method" */
static const char *rpc_method(const struct event *e)
{
	const char *const path = span_text(e, SPAN_PATH);

	return *path == '/' ? path + 1 : path;
}

void span_operation(const struct event *e, struct text *out)
{
	const char *const method = span_text(e, SPAN_METHOD);
	const char *const path = span_text(e, SPAN_PATH);

	if (e->span.kind == SPAN_INTERNAL) {
		text_add(out, method);
		return;
	}
	if ((e->span.bits & SPAN_RPC) != 0) {
		text_add(out, rpc_method(e));
		return;
	}
	text_add(out, *method != '\0' ? method : "HTTP");
	if (*path != '\0') {
		text_add(out, " ");
		text_add(out, path);
	}
}

static void add_ids(struct text *out, const struct event *e)
{
	text_add_key(out, "trace_id");
	text_add(out, "\"");
	span_trace_id(e, out);
	text_add(out, "\"");
	text_add_key(out, "span_id");
	text_add(out, "\"");
	add_hex(out, e->span.span_id, sizeof(e->span.span_id));
	text_add(out, "\"");
	if ((e->span.bits & SPAN_HAS_PARENT) != 0) {
		text_add_key(out, "parent_span_id");
		text_add(out, "\"");
		add_hex(out, e->span.parent_id, sizeof(e->span.parent_id));
		text_add(out, "\"");
	}
	text_add_key(out, "trace_flags");
	text_add(out, "\"");
	text_add_hex(out, e->span.flags, 2);
	text_add(out, "\"");
}

static void add_operation(struct text *out, const struct event *e)
{
	char operation[EVENT_TEXT_SIZE + 8];
	struct text t = text_in(operation, sizeof(operation));

	span_operation(e, &t);
	add_string(out, "operation", operation);
}

static void add_method(struct text *out, const char *method)
{
	for (size_t i = 0; i < ARRAY_SIZE(known_methods); i++) {
		if (strcmp(method, known_methods[i]) == 0) {
			add_string(out, "http.request.method", method);
			return;
		}
	}
	add_string(out, "http.request.method", "_OTHER");
	if (*method != '\0')
		add_string(out, "http.request.method_original", method);
}

static void add_http(struct text *out, const struct event *e)
{
	const char *const protocol = span_protocol_name(e->span.protocol);
	const char *const path = span_text(e, SPAN_PATH);

	if (e->span.kind == SPAN_INTERNAL ||
	    (e->span.protocol == SPAN_NO_PROTOCOL && *span_text(e, SPAN_METHOD) == '\0'))
		return; /* nothing of HTTP was seen */
	add_method(out, span_text(e, SPAN_METHOD));
	if (e->span.status != 0)
		add_number(out, "http.response.status_code", e->span.status);
	add_string(out, "url.scheme", (e->span.bits & SPAN_TLS_INSIDE) != 0 ? "https" : "http");
	if (*path != '\0')
		add_string(out, "url.path", path);
	if (protocol != NULL)
		add_string(out, "network.protocol.version", protocol);
}

static const char *rpc_status_of(const struct event *e)
{
	return e->span.rpc_status != 0 ? rpc_status_name(e->span.rpc_status - 1u) : NULL;
}

/* After OpenTelemetry's conventions for RPC. */
static void add_rpc(struct text *out, const struct event *e)
{
	const char *const protocol = span_protocol_name(e->span.protocol);
	const char *const status = rpc_status_of(e);

	add_string(out, "rpc.system.name", "grpc");
	add_string(out, "rpc.method", rpc_method(e));
	if (status != NULL)
		add_string(out, "rpc.status_code", status);
	if (e->span.status != 0 && e->span.status != 200)
		add_number(out, "http.response.status_code", e->span.status);
	if (protocol != NULL)
		add_string(out, "network.protocol.version", protocol);
}

static void add_server(struct text *out, const struct event *e)
{
	const char *const host = span_text(e, SPAN_HOST);

	if (*host != '\0')
		add_string(out, "server.address", host);
	if (e->span.port != 0)
		add_number(out, "server.port", e->span.port);
}

static void add_result(struct text *out, const struct event *e)
{
	const char *const name = span_error_name(e->span.error);

	add_string(out, "status", e->span.result == SPAN_ERROR ? "error" : "unset");
	if (e->span.error == SPAN_NO_ERROR)
		return;
	text_add_key(out, "error.type");
	if (name != NULL) {
		text_add_json(out, name);
		return;
	}
	if ((e->span.bits & SPAN_RPC) != 0 && rpc_status_of(e) != NULL) {
		text_add_json(out, rpc_status_of(e));
		return;
	}
	text_add(out, "\""); /* a status is a string here, as OpenTelemetry has it */
	text_add_u64(out, e->span.status);
	text_add(out, "\"");
}

static bool own_member(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_members); i++) {
		if (strcmp(key, own_members[i]) == 0)
			return true;
	}
	return false;
}

bool span_more_of(const struct event *more, const struct event *of)
{
	return more->kind == EVENT_SPAN_MORE &&
	       memcmp(more->span.span_id, of->span.span_id, sizeof(of->span.span_id)) == 0 &&
	       memcmp(more->span.trace_id, of->span.trace_id, sizeof(of->span.trace_id)) == 0;
}

static void add_pairs(struct text *out, const struct event *more)
{
	const char *key, *value;
	size_t at = 0;

	while (span_more_next(more, &at, &key, &value)) {
		if (!own_member(key))
			add_string(out, key, value);
	}
}

static void add_span(struct text *out, const struct event *e, const char *service)
{
	add_string(out, "level", "info");
	add_string(out, "msg", "span completed");
	add_string(out, "event", event_kind_name(EVENT_SPAN));
	text_add_key(out, "ts");
	text_add(out, "\"");
	text_add_time(out, e->wall_ns);
	text_add(out, "\"");
	add_ids(out, e);
	add_operation(out, e);
	text_add_key(out, "duration_ms");
	text_add_ms(out, e->span.duration_ns);
	text_add_key(out, "service");
	text_add_json_n(out, service, strnlen(service, EVENT_SERVICE_MAX));
	add_string(out, "kind", span_kind_name(e->span.kind));
	add_result(out, e);
	if ((e->span.bits & SPAN_RPC) != 0)
		add_rpc(out, e);
	else
		add_http(out, e);
	add_server(out, e);
	add_number(out, "pid", e->pid);
	add_number(out, "tid", e->tid);
}

void span_json(const struct event *e, const struct event *more, size_t n_more,
	       const char *service, struct text *out)
{
	const size_t before = out->used;
	const bool was_cut = out->cut;

	out->cut = false;
	text_add(out, "{");
	add_span(out, e, service);
	for (size_t i = 0; i < n_more; i++) {
		if (span_more_of(&more[i], e))
			add_pairs(out, &more[i]);
	}
	text_add(out, "}");
	if (out->cut)
		text_cut_back(out, before);
	out->cut |= was_cut;
}
