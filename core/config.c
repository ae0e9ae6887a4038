/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the user's settings. `keys` lists what a breaker can be told, `settings` what a
 * process can; environment and rules go through the same rows.
 *
 * Text is walked as spans, pairs of pointers into the caller's string, so nothing is copied
 * but what is kept, and no length of input costs memory.
 */
#include "core/config.h"

#include <errno.h>
#include <string.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/text.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define VALUE_SIZE    64 /* longer than any good value of a key */
#define VARIABLE_SIZE 48 /* longer than "AGENTSHIM_" and any key in capitals */
#define HOST_SIZE     256 /* a host name is at most 253 bytes */
#define FOUND_MAX     30 /* bytes shown of a bad value; the longest problem just fits */

#define PREFIX       "AGENTSHIM_"
#define DAY_NS       (24 * 3600 * NS_PER_S)
#define HOUR_NS      (3600 * NS_PER_S)
#define FAILURES_MAX 1000000 /* arbitrary: far above use, far below 32 bits */

struct span {
	const char *at, *end;
};

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
	bool (*parse)(struct span value, struct config *c);
	const char *expected;
	const char *stands;
};

/* Where in the environment a problem was found. */
struct place {
	const char *variable;
	const char *kind;  /* of entry: "pattern", "rule"; NULL outside lists */
	unsigned position; /* of the entry, from 1 */
	const char *key;   /* within a rule; NULL */
};

/* ---- spans ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t length(struct span s)
{
	return (size_t) (s.end - s.at);
}

static bool is(struct span s, const char *word)
{
	return length(s) == strlen(word) && memcmp(s.at, word, length(s)) == 0;
}

static struct span trimmed(struct span s)
{
	while (s.at < s.end && blank(*s.at))
		s.at++;
	while (s.at < s.end && blank(s.end[-1]))
		s.end--;
	return s;
}

static struct span span_of(const char *text)
{
	return trimmed((struct span) { text, text + strlen(text) });
}

static const char *find(struct span s, char c)
{
	return s.at < s.end ? memchr(s.at, c, length(s)) : NULL;
}

/* Takes what precedes the next @separator off the front of @s, without blanks around it. */
static struct span take_entry(struct span *s, char separator)
{
	const char *at = find(*s, separator);
	const struct span entry = { s->at, at ? at : s->end };

	s->at = at ? at + 1 : s->end;
	return trimmed(entry);
}

/* Takes what precedes a blank (or '=', when @stop is) off the front of @s. */
static struct span take_word(struct span *s, char stop)
{
	struct span word = { s->at, s->at };

	while (word.end < s->end && !blank(*word.end) && *word.end != stop)
		word.end++;
	s->at = word.end;
	*s = trimmed(*s);
	return word;
}

/* Returns false when it does not fit; NUL-terminated otherwise. */
static bool copied(struct span s, char *buf, size_t size)
{
	if (length(s) >= size)
		return false;
	memcpy(buf, s.at, length(s));
	buf[length(s)] = '\0';
	return true;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char) (c - 'a' + 'A') : c;
}

static bool number_in(struct span s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.at == s.end)
		return false;
	for (; s.at < s.end; s.at++) {
		if (*s.at < '0' || *s.at > '9')
			return false;
		n = n * 10 + (uint64_t) (*s.at - '0');
		if (n > max) /* so n stays far from overflow */
			return false;
	}
	*ret = n;
	return n >= min;
}

/* ---- problems ---- */

static void add_found(struct text *t, struct span found)
{
	const size_t n = length(found) > FOUND_MAX ? FOUND_MAX : length(found);

	text_add_shown(t, found.at, n);
	if (n < length(found))
		text_add(t, "...");
}

static void complain(struct config *c, const struct place *place, struct span found,
		     const char *expected, const char *stands)
{
	if (c->n_problems < UINT16_MAX)
		c->n_problems++;
	if (c->n_problems > CONFIG_PROBLEMS_MAX)
		return;

	struct text t = text_in(c->problems[c->n_problems - 1], CONFIG_PROBLEM_SIZE);
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
	add_found(&t, found);
	text_add(&t, "\", expected ");
	text_add(&t, expected);
	text_add(&t, "; ");
	text_add(&t, stands);
}

/* An entry of a list that could not be read is left out, and only that. */
static void leave_out(struct config *c, const struct place *place, struct span found,
		      const char *expected)
{
	complain(c, place, found, expected,
		 strcmp(place->kind, "rule") == 0 ? "rule left out" : "pattern left out");
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

	if (!number_in(span_of(value), 0, key->max, &n) || !allowed(key, n))
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

static const struct key *key_named(struct span name)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		if (is(name, keys[i].name))
			return &keys[i];
	}
	return NULL;
}

static uint32_t bit_of(const struct key *key)
{
	return UINT32_C(1) << (key - keys);
}

static bool set_key(const struct key *key, struct span value, struct policy *p)
{
	char text[VALUE_SIZE];

	return copied(value, text, sizeof(text)) && key->parse(key, text, field_of(p, key));
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

/* ---- patterns ---- */

static bool host_byte(char c)
{
	const char l = lower(c);

	/* Bytes above ASCII: programs hand international names to the resolver as they are. */
	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || (c & 0x80)
	       || (c != '\0' && strchr("._-*?", c));
}

/* "10.0.0.256" and "443" would be names that no resolver ever answers for. */
static bool like_a_number(struct span host)
{
	for (; host.at < host.end; host.at++) {
		if (*host.at != '.' && (*host.at < '0' || *host.at > '9'))
			return false;
	}
	return true;
}

/* Keeps @host, folded to lower case, as a glob of @p. */
static bool keep_glob(struct config *c, struct span host, struct config_pattern *p)
{
	if (host.at < host.end && host.end[-1] == '.')
		host.end--;
	if (like_a_number(host) || length(host) >= HOST_SIZE
	    || length(host) >= sizeof(c->text) - c->text_used)
		return false;
	for (size_t i = 0; i < length(host); i++) {
		if (!host_byte(host.at[i]))
			return false;
	}

	p->glob = c->text_used;
	for (size_t i = 0; i < length(host); i++)
		c->text[c->text_used++] = lower(host.at[i]);
	c->text[c->text_used++] = '\0';
	return true;
}

static bool read_address(struct span host, struct config_pattern *p)
{
	char text[ADDRESS_TEXT_SIZE + 8]; /* room for "::ffff:" before the longest IPv4 */

	if (!copied(host, text, sizeof(text)) || !address_parse(text, &p->address))
		return false;
	p->network = true;
	p->prefix = 128;
	return true;
}

static bool read_prefix(struct span bits, bool dotted, struct config_pattern *p)
{
	const unsigned before = dotted ? ADDRESS_V4_PREFIX : 0;
	uint64_t n;

	if (!number_in(bits, 0, 128 - before, &n))
		return false;
	p->prefix = (uint8_t) (before + n);
	return true;
}

static bool read_port(struct span text, struct config_pattern *p)
{
	uint64_t n = 0;

	if (!is(text, "*") && !number_in(text, 1, 65535, &n))
		return false;
	p->port = (uint16_t) n;
	return true;
}

/*
 * Cuts "HOST[/BITS][:PORT]" where HOST may stand in brackets. A colon belongs to a bare IPv6
 * address when there are several before any slash. @bits and @port start one byte late and
 * are empty (NULL) when absent.
 */
static bool cut_pattern(struct span text, struct span *host, struct span *bits,
			struct span *port)
{
	struct span tail = text;

	*bits = *port = (struct span) { NULL, NULL };
	if (text.at < text.end && *text.at == '[') {
		const char *closing = find(text, ']');

		if (!closing)
			return false;
		*host = (struct span) { text.at + 1, closing };
		tail.at = closing + 1;
	} else {
		const char *slash = find(text, '/');
		const struct span before = { text.at, slash ? slash : text.end };
		const char *colon = find(before, ':');
		const bool v6 = colon && find((struct span) { colon + 1, before.end }, ':');

		host->at = text.at;
		host->end = tail.at = colon && !v6 ? colon : before.end;
	}

	if (tail.at < tail.end && *tail.at == '/') {
		const char *colon = find(tail, ':');

		*bits = (struct span) { tail.at + 1, colon ? colon : tail.end };
		tail.at = bits->end;
	}
	if (tail.at < tail.end && *tail.at == ':') {
		*port = (struct span) { tail.at + 1, tail.end };
		tail.at = tail.end;
	}
	return tail.at == tail.end;
}

static bool read_pattern(struct config *c, struct span text, struct config_pattern *ret)
{
	struct config_pattern p = { .negated = false };
	struct span host, bits, port;

	if (text.at < text.end && *text.at == '!') {
		p.negated = true;
		text.at++;
		text = trimmed(text);
	}
	if (!cut_pattern(text, &host, &bits, &port))
		return false;
	if (port.at && !read_port(port, &p))
		return false;
	if (read_address(host, &p)) {
		if (bits.at && !read_prefix(bits, !find(host, ':'), &p))
			return false;
	} else if (bits.at || *text.at == '[' || !keep_glob(c, host, &p)) {
		return false;
	}
	*ret = p;
	return true;
}

/* Does @text match @glob, where '*' stands for any bytes and '?' for one? */
static bool glob_matches(const char *glob, const char *text)
{
	const char *star = NULL, *resume = NULL;

	while (*text != '\0') {
		if (*glob == '*') {
			star = ++glob;
			resume = text;
		} else if (*glob == '?' || *glob == *text) {
			glob++;
			text++;
		} else if (star) {
			/* Let the latest star take one byte more; earlier ones need not. */
			glob = star;
			text = ++resume;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return *glob == '\0';
}

/* @address: the peer's, as text */
static bool matches(const struct config *c, const struct config_pattern *p,
		    const struct config_peer *peer, const char *address)
{
	if (p->port != 0 && p->port != peer->port)
		return false;
	if (p->network)
		return address_in(&peer->address, &p->address, p->prefix);

	const char *glob = &c->text[p->glob];
	return glob_matches(glob, peer->host) || glob_matches(glob, address);
}

/* ---- settings of the process ---- */

static bool read_path(struct span value, char *ret)
{
	/* Relative to what? Programs change directory after we were loaded. */
	return *value.at == '/' && copied(value, ret, CONFIG_PATH_SIZE);
}

/* A name is cut, not refused: service.c shortens it further anyway. */
static bool read_name(struct span value, char *ret)
{
	if (length(value) >= CONFIG_PATH_SIZE)
		value.end = value.at + CONFIG_PATH_SIZE - 1;
	return copied(value, ret, CONFIG_PATH_SIZE);
}

static bool parse_disable(struct span value, struct config *c)
{
	static const char *const yes[] = { "1", "true", "yes", "on" };
	static const char *const no[] = { "0", "false", "no", "off" };
	char word[8] = "";

	if (!copied(value, word, sizeof(word)))
		return false;
	for (char *at = word; *at; at++)
		*at = lower(*at);
	for (size_t i = 0; i < N_ELEMENTS(yes); i++) {
		c->disabled = strcmp(word, yes[i]) == 0;
		if (c->disabled || strcmp(word, no[i]) == 0)
			return true;
	}
	return false;
}

static bool parse_log(struct span value, struct config *c)
{
	if (is(value, "stderr") || is(value, "stdout"))
		return copied(value, c->log, sizeof(c->log));
	return read_path(value, c->log);
}

static bool parse_log_level(struct span value, struct config *c)
{
	c->log_level = is(value, "info") ? CONFIG_LOG_INFO : CONFIG_LOG_WARN;
	return is(value, "info") || is(value, "warn");
}

static bool parse_dir(struct span value, struct config *c)
{
	return read_path(value, c->dir);
}

static bool parse_service(struct span value, struct config *c)
{
	return read_name(value, c->service);
}

static bool parse_otel_service(struct span value, struct config *c)
{
	return read_name(value, c->otel_service);
}

/* The lists speak for each of their entries and never decline as a whole. */
static bool parse_peers(struct span value, struct config *c)
{
	struct place place = { .variable = PREFIX "PEERS", .kind = "pattern" };

	while (value.at < value.end) {
		const struct span entry = take_entry(&value, ',');

		if (entry.at == entry.end)
			continue;
		place.position++;
		if (c->n_peers == CONFIG_PATTERNS_MAX) {
			leave_out(c, &place, entry, "at most 64 patterns; from this on each");
			break;
		}
		if (read_pattern(c, entry, &c->peers[c->n_peers]))
			c->n_peers++;
		else
			leave_out(c, &place, entry, "host, host:port or address/bits");
	}
	return true;
}

/* One "key=value" off the front of @text. */
static bool read_assignment(struct config *c, struct place *place, struct span *text,
			    struct config_rule *rule)
{
	const struct span whole = *text;
	const struct span name = take_word(text, '=');
	const struct key *key = key_named(name);

	if (text->at == text->end || *text->at != '=' || !key || rule->set & bit_of(key)) {
		leave_out(c, place, whole, key && rule->set & bit_of(key)
			  ? "each key once" : "key=value, such as timeout=5s");
		return false;
	}
	text->at++;
	*text = trimmed(*text);

	const struct span value = take_word(text, ' ');
	if (!set_key(key, value, &rule->policy)) {
		place->key = key->name;
		leave_out(c, place, value, key->expected);
		return false;
	}
	rule->set |= bit_of(key);
	return true;
}

static void read_rule(struct config *c, struct place *place, struct span entry)
{
	struct config_rule *rule = &c->rules[c->n_rules];
	const uint16_t text_used = c->text_used;
	struct span rest = entry;
	const struct span pattern = take_word(&rest, ' ');

	memset(rule, 0, sizeof(*rule));
	if (*pattern.at == '!' || !read_pattern(c, pattern, &rule->pattern)) {
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
		c->text_used = text_used;
}

static bool parse_rules(struct span value, struct config *c)
{
	struct place place = { .variable = PREFIX "RULES", .kind = "rule" };

	while (value.at < value.end) {
		const struct span entry = take_entry(&value, ';');

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
	{ PREFIX "SERVICE", parse_service, NULL, NULL },
	{ "OTEL_SERVICE_NAME", parse_otel_service, NULL, NULL },
	{ PREFIX "PEERS", parse_peers, NULL, NULL },
	{ PREFIX "RULES", parse_rules, NULL, NULL },
};

static void name_variable(const struct key *key, char *ret)
{
	struct text t = text_in(ret, VARIABLE_SIZE);

	text_add(&t, PREFIX);
	for (const char *at = key->name; *at; at++) {
		const char c = upper(*at);

		text_add_n(&t, &c, 1);
	}
}

static void read_key(struct config *c, const struct key *key, struct span value,
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

void config_from_environment(const char *(*get)(void *arg, const char *name), void *arg,
			     struct config *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->policy = policy_product();

	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		char variable[VARIABLE_SIZE];

		name_variable(&keys[i], variable);
		const char *value = get(arg, variable);
		const struct span span = span_of(value ? value : "");

		if (span.at < span.end)
			read_key(ret, &keys[i], span, variable);
	}
	for (size_t i = 0; i < N_ELEMENTS(settings); i++) {
		const struct setting *s = &settings[i];
		const char *value = get(arg, s->variable);
		const struct span span = span_of(value ? value : "");

		if (span.at < span.end && !s->parse(span, ret))
			complain(ret, &(struct place) { .variable = s->variable }, span,
				 s->expected, s->stands);
	}
	policy_complete(&ret->policy);
}

/* ---- questions ---- */

bool config_wants(const struct config *c, const struct config_peer *peer)
{
	char address[ADDRESS_TEXT_SIZE];
	bool listed = false, wanted = false;

	if (c->n_peers == 0)
		return true;
	address_text(&peer->address, address);
	for (size_t i = 0; i < c->n_peers; i++) {
		const struct config_pattern *p = &c->peers[i];
		const bool match = matches(c, p, peer, address);

		if (match && p->negated)
			return false;
		listed |= !p->negated;
		wanted |= match;
	}
	return wanted || !listed;
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

		if ((rule->set & ~ruled) == 0 || !matches(c, &rule->pattern, peer, address))
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
