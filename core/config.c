/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the user's settings. `keys` lists what a breaker can be told, `settings` what a
 * process can; environment and rules go through the same rows.
 */
#include "core/config.h"

#include <errno.h>
#include <string.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/forward.h"
#include "core/piece.h"
#include "core/ring.h"
#include "core/text.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define VALUE_SIZE    64 /* longer than any good value of a key */
#define VARIABLE_SIZE 48 /* longer than "AGENTSHIM_" and any key in capitals */
#define PROPAGATORS_SHOWN 44 /* of unknown names: one of PIECE_SHOWN_MAX, or some that are short */

#define PREFIX       "AGENTSHIM_"
#define DAY_NS       (24 * 3600 * NS_PER_S)
#define HOUR_NS      (3600 * NS_PER_S)
#define FAILURES_MAX 1000000 /* arbitrary: far above use, far below 32 bits */

struct key {
	const char *name;
	const char *expected;
	bool (*parse)(const struct key *key, const char *value, void *field);
	void (*show)(struct text *t, const void *field);
	size_t offset, size; /* of the field in struct policy */
	uint64_t min, max;
	bool zero;           /* 0 is good too, below min */
};

/* What a setting of the whole process does with its value; `stands` when it declines. */
struct setting {
	const char *variable;
	bool (*parse)(struct piece value, struct config *c);
	const char *expected;
	const char *stands;
};

/* Where in the environment a problem was found. */
struct place {
	const char *variable;
	const char *kind;  /* of entry: "pattern", "rule", "name"; NULL outside lists */
	unsigned position; /* of the entry, from 1 */
	const char *key;   /* within a rule; NULL */
};

/* ---- problems ---- */

/* An empty line to say one in; false: more than fit are only counted. */
static bool begin_problem(struct config *c, struct text *ret)
{
	if (c->n_problems < UINT16_MAX)
		c->n_problems++;
	if (c->n_problems > CONFIG_PROBLEMS_MAX)
		return false;
	*ret = text_in(c->problems[c->n_problems - 1], CONFIG_PROBLEM_SIZE);
	return true;
}

static void complain(struct config *c, const struct place *place, struct piece found,
		     const char *expected, const char *stands)
{
	struct text t;

	if (!begin_problem(c, &t))
		return;
	text_add(&t, place->variable);
	text_add(&t, ": ");
	if (place->kind) {
		text_add(&t, place->kind);
		text_add(&t, " ");
		text_add_u64(&t, place->position);
		text_add(&t, ": ");
	}
	if (place->key) {
		text_add(&t, place->key);
		text_add(&t, ": ");
	}
	text_add(&t, "found \"");
	piece_add_shown(&t, found);
	text_add(&t, "\", expected ");
	text_add(&t, expected);
	text_add(&t, "; ");
	text_add(&t, stands);
}

/* An entry of a list that could not be read is left out, and only that. */
static void leave_out(struct config *c, const struct place *place, struct piece found,
		      const char *expected)
{
	char stands[32];
	struct text t = text_in(stands, sizeof(stands));

	text_add(&t, place->kind);
	text_add(&t, " left out");
	complain(c, place, found, expected, stands);
}

/* ---- the keys of a policy ---- */

/*
 * What connect(2) may report to a program that then gives up. EINPROGRESS and its kin would
 * send it waiting for a connection that nobody makes.
 */
static const struct errno_name {
	const char *name;
	int value;
} errno_names[] = {
	{ "ECONNREFUSED", ECONNREFUSED },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "EHOSTUNREACH", EHOSTUNREACH },
	{ "ENETUNREACH", ENETUNREACH },
	{ "ECONNRESET", ECONNRESET },
	{ "ECONNABORTED", ECONNABORTED },
	{ "EHOSTDOWN", EHOSTDOWN },
	{ "ENETDOWN", ENETDOWN },
	{ "EADDRNOTAVAIL", EADDRNOTAVAIL },
	{ "EACCES", EACCES },
	{ "EPERM", EPERM },
};

static bool parse_mode(const struct key *key, const char *value, void *field)
{
	(void) key;
	return policy_mode_from(value, field);
}

static void show_mode(struct text *t, const void *field)
{
	text_add(t, policy_mode_name(*(const enum policy_mode *) field));
}

static bool parse_errno(const struct key *key, const char *value, void *field)
{
	(void) key;
	for (size_t i = 0; i < N_ELEMENTS(errno_names); i++) {
		if (strcmp(value, errno_names[i].name) == 0) {
			*(int *) field = errno_names[i].value;
			return true;
		}
	}
	return false;
}

static void show_errno(struct text *t, const void *field)
{
	for (size_t i = 0; i < N_ELEMENTS(errno_names); i++) {
		if (*(const int *) field == errno_names[i].value) {
			text_add(t, errno_names[i].name);
			return;
		}
	}
	text_add_i64(t, *(const int *) field);
}

static bool allowed(const struct key *key, uint64_t value)
{
	return (value == 0 && key->zero) || (value >= key->min && value <= key->max);
}

static bool parse_number(const struct key *key, const char *value, void *field)
{
	uint64_t n;

	if (!piece_number(piece_of(value), 0, key->max, &n) || !allowed(key, n))
		return false;
	*(uint32_t *) field = (uint32_t) n;
	return true;
}

static void show_number(struct text *t, const void *field)
{
	text_add_u64(t, *(const uint32_t *) field);
}

static bool parse_duration(const struct key *key, const char *value, void *field)
{
	uint64_t ns;

	if (!duration_parse(value, &ns) || !allowed(key, ns))
		return false;
	*(uint64_t *) field = ns;
	return true;
}

static void show_duration(struct text *t, const void *field)
{
	duration_add(t, *(const uint64_t *) field);
}

#define FIELD(member) offsetof(struct policy, member), sizeof(((struct policy *) 0)->member)

/* docs/configuration.md repeats names and ranges; a test holds it to them. */
static const struct key keys[CONFIG_KEYS] = {
	[CONFIG_KEY_MODE] = {
		"mode", "enforce, observe, off, forced_open or forced_closed",
		parse_mode, show_mode, FIELD(mode), 0, 0, false },
	[CONFIG_KEY_MAX_REQUESTS] = {
		"max_requests", "a number from 1 to 1023",
		parse_number, show_number, FIELD(max_requests),
		1, POLICY_MAX_REQUESTS_MAX, false },
	[CONFIG_KEY_INTERVAL] = {
		"interval", "0, or a duration from 1ms to 24h",
		parse_duration, show_duration, FIELD(interval_ns), NS_PER_MS, DAY_NS, true },
	[CONFIG_KEY_TIMEOUT] = {
		"timeout", "a duration from 1ms to 24h, such as 1m30s",
		parse_duration, show_duration, FIELD(timeout_ns), NS_PER_MS, DAY_NS, false },
	[CONFIG_KEY_CONSECUTIVE_FAILURES] = {
		"consecutive_failures", "a number from 0 to 1000000",
		parse_number, show_number, FIELD(consecutive_failures),
		0, FAILURES_MAX, false },
	[CONFIG_KEY_PATIENCE] = {
		"patience", "a duration from 1ms to 1h, such as 500ms",
		parse_duration, show_duration, FIELD(patience_ns), NS_PER_MS, HOUR_NS, false },
	[CONFIG_KEY_PROBE_TIMEOUT] = {
		"probe_timeout", "a duration from 1ms to 24h, such as 1m30s",
		parse_duration, show_duration, FIELD(probe_timeout_ns),
		NS_PER_MS, DAY_NS, false },
	[CONFIG_KEY_ERRNO] = {
		"errno", "a name such as ECONNREFUSED or ETIMEDOUT",
		parse_errno, show_errno, FIELD(refusal_errno), 0, 0, false },
};

#undef FIELD

static void *field_of(struct policy *p, const struct key *key)
{
	return (char *) p + key->offset;
}

static const void *const_field_of(const struct policy *p, const struct key *key)
{
	return (const char *) p + key->offset;
}

static const struct key *key_named(struct piece name)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		if (piece_is(name, keys[i].name))
			return &keys[i];
	}
	return NULL;
}

static uint32_t bit_of(const struct key *key)
{
	return UINT32_C(1) << (key - keys);
}

static bool set_key(const struct key *key, struct piece value, struct policy *p)
{
	char text[VALUE_SIZE];

	return piece_copied(value, text, sizeof(text)) && key->parse(key, text, field_of(p, key));
}

const char *config_source_name(enum config_source source)
{
	static const char *const names[] = {
		[CONFIG_BUILT_IN] = "built in",
		[CONFIG_ENVIRONMENT] = "environment",
		[CONFIG_RULE] = "rule",
	};

	return (size_t) source < sizeof(names) / sizeof(names[0]) ? names[source] : "unknown";
}

const char *config_key_name(enum config_key key)
{
	return (size_t) key < CONFIG_KEYS ? keys[key].name : "unknown";
}

size_t config_key_text(const struct policy *p, enum config_key key, char *buf, size_t size)
{
	struct text t = text_in(buf, size);

	if ((size_t) key < CONFIG_KEYS)
		keys[key].show(&t, const_field_of(p, &keys[key]));
	return t.used;
}

/* ---- settings of the process ---- */

static bool read_path(struct piece value, char *ret)
{
	/* Relative to what? Programs change directory after we were loaded. */
	return *value.at == '/' && piece_copied(value, ret, CONFIG_PATH_SIZE);
}

/* A name is cut, not refused: service.c shortens it further anyway. */
static bool read_name(struct piece value, char *ret)
{
	if (piece_length(value) >= CONFIG_PATH_SIZE)
		value.end = value.at + CONFIG_PATH_SIZE - 1;
	return piece_copied(value, ret, CONFIG_PATH_SIZE);
}

static bool read_switch(struct piece value, bool *ret)
{
	static const char *const yes[] = { "1", "true", "yes", "on" };
	static const char *const no[] = { "0", "false", "no", "off" };

	for (size_t i = 0; i < N_ELEMENTS(yes); i++) {
		const bool on = piece_is_in_any_case(value, yes[i]);

		if (on || piece_is_in_any_case(value, no[i])) {
			*ret = on;
			return true;
		}
	}
	return false;
}

static bool parse_disable(struct piece value, struct config *c)
{
	return read_switch(value, &c->disabled);
}

static bool parse_trace(struct piece value, struct config *c)
{
	return read_switch(value, &c->trace);
}

static bool parse_rewrite(struct piece value, struct config *c)
{
	return read_switch(value, &c->rewrite);
}

/* What the specification says of booleans: true in any case, all else is false. */
static bool parse_otel_disabled(struct piece value, struct config *c)
{
	if (piece_is_in_any_case(value, "true"))
		c->trace = false;
	return piece_is_in_any_case(value, "true") || piece_is_in_any_case(value, "false");
}

static bool parse_log(struct piece value, struct config *c)
{
	if (piece_is(value, "stderr") || piece_is(value, "stdout"))
		return piece_copied(value, c->log, sizeof(c->log));
	return read_path(value, c->log);
}

static bool parse_log_level(struct piece value, struct config *c)
{
	c->log_level = piece_is(value, "info") ? CONFIG_LOG_INFO : CONFIG_LOG_WARN;
	return piece_is(value, "info") || piece_is(value, "warn");
}

static bool parse_span_records(struct piece value, struct config *c)
{
	uint64_t n;

	if (!piece_number(value, RING_RECORDS_MIN, RING_RECORDS_MAX, &n))
		return false;
	c->span_records = (uint32_t) n;
	return true;
}

static bool parse_dir(struct piece value, struct config *c)
{
	return read_path(value, c->dir);
}

static bool parse_service(struct piece value, struct config *c)
{
	return read_name(value, c->service);
}

static bool parse_otel_service(struct piece value, struct config *c)
{
	return read_name(value, c->otel_service);
}

static bool parse_deepbind(struct piece value, struct config *c)
{
	return piece_copied(value, c->deepbind, CONFIG_PATH_SIZE);
}

/* A list whose entries stand for themselves. */
struct list {
	const char *variable, *kind;
	bool (*add)(void *to, struct piece entry);
	const char *expected;
	bool (*full)(const void *to); /* NULL: it has no limit */
	const char *full_expected;
};

/* The lists speak for each of their entries and never decline as a whole. */
static void read_list(const struct list *list, struct piece value, struct config *c, void *to)
{
	struct place place = { .variable = list->variable, .kind = list->kind };

	while (value.at < value.end) {
		const struct piece entry = piece_take_entry(&value, ',');

		if (entry.at == entry.end)
			continue;
		place.position++;
		if (list->full && list->full(to)) {
			leave_out(c, &place, entry, list->full_expected);
			break;
		}
		if (!list->add(to, entry))
			leave_out(c, &place, entry, list->expected);
	}
}

static bool add_peer(void *to, struct piece entry)
{
	struct config *c = to;

	if (!pattern_read(entry, &c->text, &c->peers[c->n_peers]))
		return false;
	c->n_peers++;
	return true;
}

static bool peers_full(const void *to)
{
	return ((const struct config *) to)->n_peers == CONFIG_PATTERNS_MAX;
}

static bool parse_peers(struct piece value, struct config *c)
{
	static const struct list list = {
		PREFIX "PEERS", "pattern", add_peer, "host, host:port or address/bits",
		peers_full, "at most 64 patterns; from this on each",
	};

	read_list(&list, value, c, c);
	return true;
}

static bool add_egress(void *to, struct piece entry)
{
	struct config *c = to;

	return egress_add(&c->egress, entry, &c->text);
}

static bool egress_full(const void *to)
{
	return ((const struct config *) to)->egress.n == EGRESS_PATTERNS_MAX;
}

static bool parse_egress(struct piece value, struct config *c)
{
	static const struct list list = {
		PREFIX "EGRESS", "pattern", add_egress,
		"private, host, host:port or address/bits",
		egress_full, "at most 64 patterns; from this on each",
	};
	const struct egress *e = &c->egress;
	const unsigned before = c->n_problems;

	read_list(&list, value, c, c);
	c->egress.nobody = c->n_problems > before && e->n == 0 && !e->private_listed
			   && !e->private_barred;
	return true;
}

static bool add_forward(void *to, struct piece entry)
{
	return forward_add(to, entry);
}

static bool forward_full(const void *to)
{
	return ((const struct http1_extra *) to)->n == HTTP1_EXTRA_MAX;
}

static bool parse_forward(struct piece value, struct config *c)
{
	static const struct list list = {
		PREFIX "FORWARD_HEADERS", "name", add_forward,
		"a header that may be passed on, as x-request-id",
		forward_full, "at most 8 names; from this on each",
	};

	read_list(&list, value, c, &c->forward);
	return true;
}

static bool add_status(void *to, struct piece entry)
{
	return statuses_add(to, entry);
}

static bool parse_failure_status(struct piece value, struct config *c)
{
	static const struct list list = {
		PREFIX "FAILURE_STATUS", "status", add_status, "none, 503, 5xx or 500-599",
		NULL, NULL,
	};
	struct statuses_list read = { .some = piece_is_in_any_case(value, "none") };

	if (!read.some)
		read_list(&list, value, c, &read);
	c->failure_status = statuses_of(&read, &c->failure_status);
	return true;
}

static bool add_rpc(void *to, struct piece entry)
{
	return rpc_list_add(to, entry);
}

static bool parse_failure_grpc(struct piece value, struct config *c)
{
	static const struct list list = {
		PREFIX "FAILURE_GRPC", "status of gRPC", add_rpc, "none, UNAVAILABLE or 14",
		NULL, NULL,
	};
	struct rpc_list read = { .some = piece_is_in_any_case(value, "none") };

	if (!read.some)
		read_list(&list, value, c, &read);
	c->failure_grpc = rpc_list_set(&read, c->failure_grpc);
	return true;
}

/* Unknown names are left out alone, but told together. */
static bool parse_propagators(struct piece value, struct config *c)
{
	char names[PROPAGATORS_SHOWN];
	struct text found = text_in(names, sizeof(names)), t;

	if (propagators_from(value.at, &c->propagators, &found) || !begin_problem(c, &t))
		return true;
	text_add(&t, "OTEL_PROPAGATORS: ");
	text_add(&t, names);
	text_add(&t, found.cut ? "..." : "");
	text_add(&t, ", expected tracecontext, baggage, b3, b3multi, jaeger, xtraceid ");
	text_add(&t, "or none alone; left out");
	return true;
}

/* One "key=value" off the front of @text. */
static bool read_assignment(struct config *c, struct place *place, struct piece *text,
			    struct config_rule *rule)
{
	const struct piece whole = *text;
	const struct piece name = piece_take(text, '=');
	const struct key *key = key_named(name);

	if (text->at == text->end || *text->at != '=' || !key || rule->set & bit_of(key)) {
		leave_out(c, place, whole, key && rule->set & bit_of(key)
			  ? "each key once" : "key=value, such as timeout=5s");
		return false;
	}
	text->at++;
	*text = piece_trimmed(*text);

	const struct piece value = piece_take(text, ' ');
	if (!set_key(key, value, &rule->policy)) {
		place->key = key->name;
		leave_out(c, place, value, key->expected);
		return false;
	}
	rule->set |= bit_of(key);
	return true;
}

static void read_rule(struct config *c, struct place *place, struct piece entry)
{
	struct config_rule *rule = &c->rules[c->n_rules];
	const uint16_t text_used = c->text.used;
	struct piece rest = entry;
	const struct piece pattern = piece_take(&rest, ' ');

	memset(rule, 0, sizeof(*rule));
	if (*pattern.at == '!' || !pattern_read(pattern, &c->text, &rule->pattern)) {
		leave_out(c, place, pattern, "host, host:port or address/bits first");
		return;
	}
	if (rest.at == rest.end)
		leave_out(c, place, entry, "key=value after the pattern");
	while (rest.at < rest.end) {
		if (!read_assignment(c, place, &rest, rule)) {
			rule->set = 0;
			break;
		}
	}
	if (rule->set)
		c->n_rules++;
	else
		c->text.used = text_used;
}

static bool parse_rules(struct piece value, struct config *c)
{
	struct place place = { .variable = PREFIX "RULES", .kind = "rule" };

	while (value.at < value.end) {
		const struct piece entry = piece_take_entry(&value, ';');

		if (entry.at == entry.end)
			continue;
		place.position++;
		place.key = NULL;
		if (c->n_rules == CONFIG_RULES_MAX) {
			leave_out(c, &place, entry, "at most 64 rules; from this on each");
			break;
		}
		read_rule(c, &place, entry);
	}
	return true;
}

static const struct setting settings[] = {
	{ PREFIX "DISABLE", parse_disable, "1 or 0", "agentshim stays on" },
	{ PREFIX "DIR", parse_dir, "an absolute path below 256 bytes",
	  "/dev/shm/agentshim-UID stands" },
	{ PREFIX "LOG", parse_log, "stderr, stdout or an absolute path", "no log" },
	{ PREFIX "LOG_LEVEL", parse_log_level, "warn or info", "warn stands" },
	{ PREFIX "SPAN_RECORDS", parse_span_records, "a number from 16 to 65536", "1000 stands" },
	{ PREFIX "SERVICE", parse_service, NULL, NULL },
	{ "OTEL_SERVICE_NAME", parse_otel_service, NULL, NULL },
	{ PREFIX "PEERS", parse_peers, NULL, NULL },
	{ PREFIX "RULES", parse_rules, NULL, NULL },
	{ PREFIX "FAILURE_STATUS", parse_failure_status, NULL, NULL },
	{ PREFIX "FAILURE_GRPC", parse_failure_grpc, NULL, NULL },
	{ PREFIX "TRACE", parse_trace, "on or off", "on stands" },
	{ "OTEL_SDK_DISABLED", parse_otel_disabled, "true or false", "false stands" },
	{ "OTEL_PROPAGATORS", parse_propagators, NULL, NULL },
	{ PREFIX "REWRITE", parse_rewrite, "on or off", "on stands" },
	{ PREFIX "FORWARD_HEADERS", parse_forward, NULL, NULL },
	{ PREFIX "EGRESS", parse_egress, NULL, NULL },
	{ PREFIX "DEEPBIND", parse_deepbind, "globs of programs, less than 256 bytes", "php* stands" },
};

static void name_variable(const struct key *key, char *ret)
{
	struct text t = text_in(ret, VARIABLE_SIZE);

	text_add(&t, PREFIX);
	for (const char *at = key->name; *at; at++) {
		const char c = piece_upper(*at);

		text_add_n(&t, &c, 1);
	}
}

static void read_key(struct config *c, const struct key *key, struct piece value,
		     const char *variable)
{
	char stands[VALUE_SIZE];

	if (set_key(key, value, &c->policy)) {
		c->set |= bit_of(key);
		return;
	}

	struct text t = text_in(stands, sizeof(stands));
	if (bit_of(key) == UINT32_C(1) << CONFIG_KEY_PROBE_TIMEOUT)
		text_add(&t, "timeout's value");
	else
		key->show(&t, const_field_of(&c->policy, key));
	text_add(&t, " stands");
	complain(c, &(struct place) { .variable = variable }, value, key->expected, stands);
}

/* A setting of two variables: the first is copied, as the second may overwrite it. */
static void read_sampler(const char *(*get)(void *arg, const char *name), void *arg,
			 struct config *c)
{
	char name[VALUE_SIZE], problem[CONFIG_PROBLEM_SIZE];
	struct text copy = text_in(name, sizeof(name)), found = text_in(problem, sizeof(problem));
	const char *value = get(arg, "OTEL_TRACES_SAMPLER");
	const struct piece piece = piece_of(value);
	struct text t;

	text_add_n(&copy, piece.at, piece_length(piece));
	if (!sampler_from(name, get(arg, "OTEL_TRACES_SAMPLER_ARG"), &c->sampler, &found)
	    && begin_problem(c, &t))
		text_add(&t, problem);
}

static void set_defaults(struct config *c)
{
	memset(c, 0, sizeof(*c));
	c->policy = policy_product();
	c->span_records = RING_RECORDS;
	c->failure_status = statuses_product();
	c->failure_grpc = rpc_set_product();
	memcpy(c->deepbind, "php*", sizeof("php*"));
	c->trace = c->rewrite = true;
	c->propagators = propagators_default();
	c->sampler = sampler_default();
}

void config_from_environment(const char *(*get)(void *arg, const char *name), void *arg,
			     struct config *ret)
{
	set_defaults(ret);
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		char variable[VARIABLE_SIZE];

		name_variable(&keys[i], variable);
		const char *value = get(arg, variable);
		const struct piece piece = piece_of(value ? value : "");

		if (piece.at < piece.end)
			read_key(ret, &keys[i], piece, variable);
	}
	for (size_t i = 0; i < N_ELEMENTS(settings); i++) {
		const struct setting *s = &settings[i];
		const char *value = get(arg, s->variable);
		const struct piece piece = piece_of(value ? value : "");

		if (piece.at < piece.end && !s->parse(piece, ret))
			complain(ret, &(struct place) { .variable = s->variable }, piece,
				 s->expected, s->stands);
	}
	read_sampler(get, arg, ret);
	policy_complete(&ret->policy);
}

/* ---- questions ---- */

bool config_wants(const struct config *c, const struct config_peer *peer)
{
	return pattern_allows(pattern_list_ask(c->peers, c->n_peers, &c->text, peer));
}

bool config_egress_allows(const struct config *c, const struct config_peer *peer)
{
	return egress_allows(&c->egress, &c->text, peer);
}

static bool any_by_address(const struct config *c, const struct config_pattern *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (pattern_by_address(&list[i], &c->text))
			return true;
	return false;
}

bool config_by_address(const struct config *c)
{
	for (size_t i = 0; i < c->n_rules; i++)
		if (pattern_by_address(&c->rules[i].pattern, &c->text))
			return true;
	return c->egress.private_listed || c->egress.private_barred ||
	       any_by_address(c, c->peers, c->n_peers) ||
	       any_by_address(c, c->egress.patterns, c->egress.n);
}

bool config_egress_open(const struct config *c)
{
	const struct egress *e = &c->egress;

	return e->n == 0 && !e->private_listed && !e->private_barred && !e->nobody;
}

bool config_failure_status(const struct config *c, unsigned status)
{
	return statuses_have(&c->failure_status, status);
}

/* Copies the fields of @from named in @set to @to. */
static void overlay(struct policy *to, const struct policy *from, uint32_t set)
{
	for (const struct key *key = keys; key < keys + CONFIG_KEYS; key++) {
		if (set & bit_of(key))
			memcpy(field_of(to, key), const_field_of(from, key), key->size);
	}
}

struct policy config_policy(const struct config *c, const struct config_peer *peer,
			    enum config_source ret_sources[CONFIG_KEYS])
{
	struct policy policy = c->policy;
	char address[ADDRESS_TEXT_SIZE];
	uint32_t ruled = 0;

	if (c->n_rules > 0)
		address_text(&peer->address, address);
	for (size_t i = 0; i < c->n_rules; i++) {
		const struct config_rule *rule = &c->rules[i];

		if ((rule->set & ~ruled) == 0
		    || !pattern_matches(&rule->pattern, &c->text, peer, address))
			continue;
		overlay(&policy, &rule->policy, rule->set & ~ruled);
		ruled |= rule->set;
	}

	/* Given by nobody, the probe's time limit follows this peer's timeout. */
	if (!((ruled | c->set) & UINT32_C(1) << CONFIG_KEY_PROBE_TIMEOUT))
		policy.probe_timeout_ns = policy.timeout_ns;
	policy_complete(&policy);

	for (size_t i = 0; ret_sources && i < CONFIG_KEYS; i++)
		ret_sources[i] = ruled & UINT32_C(1) << i    ? CONFIG_RULE
				 : c->set & UINT32_C(1) << i ? CONFIG_ENVIRONMENT
							     : CONFIG_BUILT_IN;
	return policy;
}
