/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: how they begin and end, what is cut where, their lines, and hostile records. */
#include "core/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/rpc.h"
#include "tests/unit/json.h"

#define WALL UINT64_C(1795780800123456789)
#define MONO UINT64_C(5000)

static const struct context own = {
	.trace_id = { 0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4,
		      0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0x00, 0x00 },
	.span_id = { 0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1 },
	.flags = CONTEXT_SAMPLED,
};
static const uint8_t parent[8] = { 0, 1, 2, 3, 4, 5, 6, 0xff };

static struct event begun(enum span_kind kind, const char *method, const char *path,
			  const char *host)
{
	struct event e;

	memset(&e, 0xa5, sizeof(e)); /* nothing of what was there may stay */
	span_begin(&e, kind, &own, parent, WALL, MONO);
	span_texts(&e, method, strlen(method), path, strlen(path), host, strlen(host));
	e.pid = 100;
	e.tid = 101;
	return e;
}

static const char *json_of(const struct event *e, const struct event *more, size_t n_more)
{
	static char buf[4 * EVENT_JSON_SIZE];
	struct text t = text_in(buf, more == NULL ? EVENT_JSON_SIZE : sizeof(buf));

	span_json(e, more, n_more, "backend", &t);
	assert_false(t.cut);
	assert_true(json_valid(buf));
	return buf;
}

static void a_span_begins_with_its_ids_times_and_texts(void **state)
{
	struct event e = begun(SPAN_SERVER, "GET", "/users", "api.local");

	(void) state;
	assert_int_equal(e.kind, EVENT_SPAN);
	assert_int_equal(e.wall_ns, WALL);
	assert_int_equal(e.mono_ns, MONO);
	assert_memory_equal(e.span.trace_id, own.trace_id, 16);
	assert_memory_equal(e.span.span_id, own.span_id, 8);
	assert_memory_equal(e.span.parent_id, parent, 8);
	assert_int_equal(e.span.flags, 1);
	assert_int_equal(e.span.kind, SPAN_SERVER);
	assert_int_equal(e.span.bits, SPAN_HAS_PARENT);
	assert_int_equal(e.span.protocol, SPAN_NO_PROTOCOL);
	assert_int_equal(e.span.duration_ns, 0);
	assert_int_equal(e.id, 0);
	assert_string_equal(span_text(&e, SPAN_METHOD), "GET");
	assert_string_equal(span_text(&e, SPAN_PATH), "/users");
	assert_string_equal(span_text(&e, SPAN_HOST), "api.local");

	struct context uuid = own;

	uuid.flags = CONTEXT_RANDOM | CONTEXT_UUID;
	span_begin(&e, SPAN_CLIENT, &uuid, NULL, WALL, MONO);
	assert_int_equal(e.span.bits, SPAN_TRACE_AS_UUID);
	assert_int_equal(e.span.flags, 2);
	for (int which = 0; which < SPAN_TEXTS; which++)
		assert_string_equal(span_text(&e, (enum span_text) which), "");
	span_texts(&e, NULL, 0, NULL, 0, "h", 1);
	assert_string_equal(span_text(&e, SPAN_PATH), "");
	assert_string_equal(span_text(&e, SPAN_HOST), "h");
}

static void a_status_is_an_error_as_opentelemetry_has_it(void **state)
{
	static const struct {
		const char *name;
		enum span_kind kind;
		uint16_t status;
		enum span_error given, error;
	} cases[] = {
		{ "server 200", SPAN_SERVER, 200, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "server 404", SPAN_SERVER, 404, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "server 499", SPAN_SERVER, 499, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "server 500", SPAN_SERVER, 500, SPAN_NO_ERROR, SPAN_BY_STATUS },
		{ "client 399", SPAN_CLIENT, 399, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "client 400", SPAN_CLIENT, 400, SPAN_NO_ERROR, SPAN_BY_STATUS },
		{ "client 503", SPAN_CLIENT, 503, SPAN_NO_ERROR, SPAN_BY_STATUS },
		{ "internal 503", SPAN_INTERNAL, 503, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "no status", SPAN_CLIENT, 0, SPAN_NO_ERROR, SPAN_NO_ERROR },
		{ "timeout", SPAN_CLIENT, 0, SPAN_TIMEOUT, SPAN_TIMEOUT },
		{ "cut off after 200", SPAN_CLIENT, 200, SPAN_EARLY_END, SPAN_EARLY_END },
		{ "cut off after 503", SPAN_CLIENT, 503, SPAN_RESET, SPAN_RESET },
		{ "abandoned", SPAN_SERVER, 0, SPAN_ABANDONED, SPAN_ABANDONED },
		{ "by a status that never came", SPAN_CLIENT, 0, SPAN_BY_STATUS, SPAN_OTHER },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct event e = begun(cases[i].kind, "GET", "/", "h");

		print_message("# %s\n", cases[i].name);
		span_end(&e, cases[i].status, cases[i].given, MONO + 7);
		assert_int_equal(e.span.status, cases[i].status);
		assert_int_equal(e.span.error, cases[i].error);
		assert_int_equal(e.span.result,
				 cases[i].error == SPAN_NO_ERROR ? SPAN_UNSET : SPAN_ERROR);
		assert_int_equal(e.span.duration_ns, 7);
	}

	struct event e = begun(SPAN_SERVER, "GET", "/", "h");

	span_end(&e, 200, SPAN_NO_ERROR, MONO - 1); /* another thread's clock, a little behind */
	assert_int_equal(e.span.duration_ns, 0);
}

#define HEAD(trace) \
	"{\"level\":\"info\",\"msg\":\"span completed\",\"event\":\"span_completed\"," \
	"\"ts\":\"2026-11-27T12:00:00.123456Z\",\"trace_id\":\"" trace "\"," \
	"\"span_id\":\"6ba7b8109dad11d1\","

static void a_line_says_all_of_it(void **state)
{
	struct event e = begun(SPAN_CLIENT, "GET", "/users", "api.local");

	(void) state;
	e.span.protocol = SPAN_HTTP_1_1;
	e.span.port = 8080;
	span_end(&e, 503, SPAN_NO_ERROR, MONO + 45200 * NS_PER_US);
	assert_string_equal(json_of(&e, NULL, 0), HEAD("550e8400e29b41d4a716446655440000")
		"\"parent_span_id\":\"00010203040506ff\",\"trace_flags\":\"01\","
		"\"operation\":\"GET /users\",\"duration_ms\":45.2,\"service\":\"backend\","
		"\"kind\":\"client\",\"status\":\"error\",\"error.type\":\"503\","
		"\"http.request.method\":\"GET\",\"http.response.status_code\":503,"
		"\"url.scheme\":\"http\",\"url.path\":\"/users\","
		"\"network.protocol.version\":\"1.1\",\"server.address\":\"api.local\","
		"\"server.port\":8080,\"pid\":100,\"tid\":101}");

	/* The event's line is the same. */
	char line[EVENT_JSON_SIZE];
	struct text t = text_in(line, sizeof(line));

	event_json(&e, "backend", &t);
	assert_string_equal(line, json_of(&e, NULL, 0));
}

static void an_internal_span_and_a_uuid_are_shown_as_they_are(void **state)
{
	struct context uuid = own;
	struct event e;

	(void) state;
	uuid.flags |= CONTEXT_UUID;
	span_begin(&e, SPAN_INTERNAL, &uuid, NULL, WALL, MONO);
	span_texts(&e, "CreateProcess", 13, NULL, 0, NULL, 0);
	span_end(&e, 0, SPAN_NO_ERROR, MONO + NS_PER_MS);
	assert_string_equal(json_of(&e, NULL, 0), HEAD("550e8400-e29b-41d4-a716-446655440000")
		"\"trace_flags\":\"01\",\"operation\":\"CreateProcess\",\"duration_ms\":1,"
		"\"service\":\"backend\",\"kind\":\"internal\",\"status\":\"unset\","
		"\"pid\":0,\"tid\":0}");
}

static void what_fails_before_http_names_no_method(void **state)
{
	struct event e = begun(SPAN_CLIENT, "", "", "db");

	(void) state;
	span_end(&e, 0, SPAN_REFUSED_BY_BREAKER, MONO);

	const char *const line = json_of(&e, NULL, 0);

	assert_non_null(strstr(line, "\"operation\":\"HTTP\""));
	assert_non_null(strstr(line, "\"error.type\":\"circuit_open\""));
	assert_null(strstr(line, "http."));
	assert_null(strstr(line, "url."));
}

static void odd_methods_and_tls_are_told_apart(void **state)
{
	struct event e = begun(SPAN_SERVER, "BREW", "/pot", "h");

	(void) state;
	e.span.bits |= SPAN_TLS_INSIDE;
	e.span.protocol = SPAN_HTTP_2;
	span_end(&e, 0, SPAN_ABANDONED, MONO);

	const char *const line = json_of(&e, NULL, 0);

	assert_non_null(strstr(line, "\"operation\":\"BREW /pot\""));
	assert_non_null(strstr(line, "\"http.request.method\":\"_OTHER\""));
	assert_non_null(strstr(line, "\"http.request.method_original\":\"BREW\""));
	assert_non_null(strstr(line, "\"url.scheme\":\"https\""));
	assert_non_null(strstr(line, "\"error.type\":\"abandoned\""));
	assert_null(strstr(line, "status_code"));
}

/* Texts of every length and of characters of every width are cut between characters. */
/* The same outcome is an error to who called, and to who served only where it is its own. */
static void grpc_is_told_by_method_and_status(void **state)
{
	struct event client = begun(SPAN_CLIENT, "POST", "/pkg.Users/Get", "users.local");
	struct event server = begun(SPAN_SERVER, "POST", "/pkg.Users/Get", "users.local");
	const char *line;

	(void) state;
	client.span.bits |= SPAN_RPC;
	client.span.protocol = SPAN_HTTP_2;
	client.span.rpc_status = 1 + RPC_NOT_FOUND;
	span_end(&client, 200, SPAN_NO_ERROR, MONO + 1);
	line = json_of(&client, NULL, 0);
	assert_non_null(strstr(line, "\"operation\":\"pkg.Users/Get\""));
	assert_non_null(strstr(line, "\"rpc.system.name\":\"grpc\",\"rpc.method\":\"pkg.Users/Get\","
				     "\"rpc.status_code\":\"NOT_FOUND\""));
	assert_non_null(strstr(line, "\"status\":\"error\",\"error.type\":\"NOT_FOUND\""));
	assert_null(strstr(line, "http."));

	server.span.bits |= SPAN_RPC;
	server.span.rpc_status = 1 + RPC_NOT_FOUND;
	span_end(&server, 200, SPAN_NO_ERROR, MONO + 1);
	assert_int_equal(server.span.result, SPAN_UNSET);
	server.span.rpc_status = 1 + RPC_INTERNAL;
	span_end(&server, 200, SPAN_NO_ERROR, MONO + 1);
	assert_int_equal(server.span.result, SPAN_ERROR);

	/* A torn record's number is none. */
	client.span.rpc_status = 200;
	assert_null(strstr(json_of(&client, NULL, 0), "rpc.status_code"));
}

static void texts_are_cut_at_whole_characters(void **state)
{
	static const char *const characters[] = { "x", "\u00e9", "\u20ac", "\U0001f600" };

	(void) state;
	for (size_t c = 0; c < 4; c++) {
		const size_t width = strlen(characters[c]);

		for (size_t lead = 0; lead < 5; lead++) {
			char path[4 * EVENT_TEXT_SIZE];
			size_t n = lead;

			memset(path, '/', lead);
			for (; n + width <= sizeof(path); n += width)
				memcpy(path + n, characters[c], width);

			struct event e;

			span_begin(&e, SPAN_SERVER, &own, NULL, WALL, MONO);
			span_texts(&e, "GET", 3, path, n, "a-host.example", 14);

			const size_t kept = strlen(span_text(&e, SPAN_PATH));

			assert_int_equal((kept - lead) % width, 0);
			assert_in_range(kept, 149 - 3 - 14 - 3, 149 - 3 - 14);
			assert_string_equal(span_text(&e, SPAN_HOST), "a-host.example");

			/* A host has what is left. */
			span_texts(&e, "GET", 3, "/", 1, path, n);
			assert_in_range(strlen(span_text(&e, SPAN_HOST)), 145 - 3, 145);
			/* And a method all of it. */
			span_texts(&e, path, n, path, n, path, n);
			assert_in_range(strlen(span_text(&e, SPAN_METHOD)), 149 - 3, 149);
			assert_int_equal(e.text[EVENT_TEXT_SIZE - 1], '\0');
		}
	}
}

static void what_is_no_utf8_is_cut_anywhere(void **state)
{
	char bytes[400];
	struct event e;

	(void) state;
	memset(bytes, 0x80, sizeof(bytes));
	span_begin(&e, SPAN_SERVER, &own, NULL, WALL, MONO);
	span_texts(&e, "GET", 3, bytes, sizeof(bytes), NULL, 0);
	assert_int_equal(strlen(span_text(&e, SPAN_PATH)), 146);
	bytes[5] = '\0'; /* would be taken for the end of the text */
	span_texts(&e, "GET", 3, bytes, sizeof(bytes), "h", 1);
	assert_int_equal(strlen(span_text(&e, SPAN_PATH)), 5);
	assert_string_equal(span_text(&e, SPAN_HOST), "h");
}

static void pairs_become_members(void **state)
{
	struct event e = begun(SPAN_SERVER, "GET", "/", "h"), more[3];

	(void) state;
	span_end(&e, 200, SPAN_NO_ERROR, MONO);
	span_more_begin(&more[0], &e);
	assert_int_equal(more[0].kind, EVENT_SPAN_MORE);
	assert_true(span_more_of(&more[0], &e));
	assert_true(span_more_add(&more[0], "x.foreign_trace_id", "a\"b", 3));
	assert_true(span_more_add(&more[0], "trace_id", "forged", 6));
	assert_true(span_more_add(&more[0], "", "nameless", 8));
	assert_true(span_more_add(&more[0], "empty", "", 0));
	more[1] = more[0];
	more[1].span.span_id[0] ^= 1; /* another's */
	memcpy(more[1].text, "stray", 6);
	span_more_begin(&more[2], &e);
	assert_true(span_more_add(&more[2], "user_agent.original", "curl", 4));

	const char *const line = json_of(&e, more, 3);

	assert_non_null(strstr(line, "\"tid\":101,\"x.foreign_trace_id\":\"a\\\"b\",\"empty\":\"\","
				     "\"user_agent.original\":\"curl\"}"));
	assert_null(strstr(line, "forged"));
	assert_null(strstr(line, "stray"));

	char own_line[EVENT_JSON_SIZE];
	struct text t = text_in(own_line, sizeof(own_line));

	event_json(&more[2], "backend", &t);
	assert_true(json_valid(own_line));
	assert_non_null(strstr(own_line, "\"event\":\"span_more\""));
	assert_non_null(strstr(own_line, "\"span_id\":\"6ba7b8109dad11d1\",\"attributes\":"
					 "{\"user_agent.original\":\"curl\"}}"));
}

static void a_pair_that_does_not_fit_asks_for_another_record(void **state)
{
	struct event e = begun(SPAN_SERVER, "GET", "/", "h"), more;
	char value[1000], key[200];
	const char *k, *v;
	size_t at = 0;

	(void) state;
	memset(value, 'v', sizeof(value));
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	for (size_t len = 0; len <= 148; len++) {
		span_more_begin(&more, &e);
		assert_true(span_more_add(&more, "a", "1", 1)); /* takes 4 of the 152 */
		assert_int_equal(span_more_add(&more, "b", value, len), len <= 152 - 4 - 3);
	}
	/* Alone in a record it is cut instead, key and value. */
	span_more_begin(&more, &e);
	assert_true(span_more_add(&more, key, value, sizeof(value)));
	assert_true(span_more_next(&more, &at, &k, &v));
	assert_int_equal(strlen(k), 64);
	assert_int_equal(strlen(v), 152 - 64 - 2);
	assert_false(span_more_next(&more, &at, &k, &v));
	assert_false(span_more_add(&more, "b", "", 0));
}

/* Copies @e to where the page after it cannot be touched. */
static struct event *at_the_edge(const struct event *e)
{
	static char *pages;
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);

	if (pages == NULL) {
		pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
		assert_ptr_not_equal(pages, MAP_FAILED);
		assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
	}
	return memcpy(pages + page - sizeof(*e), e, sizeof(*e));
}

static void noise(struct event *e, unsigned seed)
{
	unsigned short x[3] = { (unsigned short) seed, (unsigned short) (seed >> 16), 1 };

	for (size_t i = 0; i < sizeof(*e); i++)
		((unsigned char *) e)[i] = (unsigned char) (nrand48(x) >> 8);
	if (seed % 2 == 0) /* longer runs without a NUL */
		for (size_t i = 0; i < sizeof(e->text); i++)
			e->text[i] = (char) (e->text[i] | 1);
	if (seed % 3 == 0)
		memset(e->text, 'x', seed % sizeof(e->text));
}

static void torn_records_are_read_within_their_bounds(void **state)
{
	(void) state;
	for (unsigned seed = 0; seed < 20000; seed++) {
		struct event raw;

		noise(&raw, seed);

		struct event *const e = at_the_edge(&raw);
		const char *k, *v;
		size_t at = 0;

		for (unsigned which = 0; which < SPAN_TEXTS + 2; which++) {
			const char *const s = span_text(e, (enum span_text) which);

			assert_true(*s == '\0' || (s >= e->text && s + strlen(s) < (char *) (e + 1)));
		}
		while (span_more_next(e, &at, &k, &v))
			assert_true(v + strlen(v) < (char *) (e + 1));
		(void) json_of(e, NULL, 0);
		e->kind = EVENT_SPAN_MORE;
		(void) json_of(e, e, 1);
		if (span_more_add(e, "key", "value", 5))
			(void) json_of(e, e, 1);
	}
}

static void the_longest_line_fits(void **state)
{
	struct event e;
	size_t longest = 0;
	char service[300];

	(void) state;
	memset(service, 1, sizeof(service));
	service[sizeof(service) - 1] = '\0';
	assert_true(EVENT_JSON_SIZE + 1 <= PIPE_BUF);
	for (unsigned method = 0; method <= 149; method++) {
		char line[EVENT_JSON_SIZE];
		struct text t = text_in(line, sizeof(line));

		memset(&e, 0xff, sizeof(e));
		e.span.protocol = SPAN_HTTP_1_1;
		e.span.error = SPAN_CONNECT_FAILED;
		memset(e.text, 1, sizeof(e.text));
		e.text[method] = e.text[EVENT_TEXT_SIZE - 2] = e.text[EVENT_TEXT_SIZE - 1] = '\0';
		span_json(&e, NULL, 0, service, &t);
		assert_false(t.cut);
		assert_true(json_valid(line));
		longest = t.used > longest ? t.used : longest;
	}
	print_message("# longest: %zu bytes\n", longest);
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
	struct event e = begun(SPAN_SERVER, "GET", "/\x1b\"", "h");
	const size_t needed = strlen(json_of(&e, NULL, 0));

	(void) state;
	for (size_t size = 3; size <= needed + 4; size++) {
		/* From the heap, so that a sanitizer sees the end of it. */
		char *const buf = malloc(size);

		assert_non_null(buf);

		struct text t = text_in(buf, size);

		text_add(&t, "x,");
		span_json(&e, NULL, 0, "backend", &t);
		assert_int_equal(t.cut, size < needed + 3);
		assert_int_equal(t.used, t.cut ? 2 : needed + 2);
		assert_memory_equal(buf, "x,", 2);
		free(buf);
	}
}

static void numbers_have_names(void **state)
{
	(void) state;
	assert_string_equal(span_kind_name(SPAN_SERVER), "server");
	assert_string_equal(span_kind_name(77), "unknown");
	assert_null(span_error_name(SPAN_NO_ERROR));
	assert_null(span_error_name(SPAN_BY_STATUS));
	for (unsigned error = SPAN_TIMEOUT; error < SPAN_ERRORS; error++)
		assert_string_not_equal(span_error_name(error), "unknown");
	assert_string_equal(span_error_name(SPAN_ERRORS), "unknown");
	assert_string_equal(span_protocol_name(SPAN_HTTP_2), "2");
	assert_null(span_protocol_name(SPAN_NO_PROTOCOL));
	assert_null(span_protocol_name(UINT_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_span_begins_with_its_ids_times_and_texts),
		cmocka_unit_test(a_status_is_an_error_as_opentelemetry_has_it),
		cmocka_unit_test(a_line_says_all_of_it),
		cmocka_unit_test(an_internal_span_and_a_uuid_are_shown_as_they_are),
		cmocka_unit_test(what_fails_before_http_names_no_method),
		cmocka_unit_test(odd_methods_and_tls_are_told_apart),
		cmocka_unit_test(grpc_is_told_by_method_and_status),
		cmocka_unit_test(texts_are_cut_at_whole_characters),
		cmocka_unit_test(what_is_no_utf8_is_cut_anywhere),
		cmocka_unit_test(pairs_become_members),
		cmocka_unit_test(a_pair_that_does_not_fit_asks_for_another_record),
		cmocka_unit_test(torn_records_are_read_within_their_bounds),
		cmocka_unit_test(the_longest_line_fits),
		cmocka_unit_test(what_does_not_fit_is_left_out_whole),
		cmocka_unit_test(numbers_have_names),
	};

	return cmocka_run_group_tests_name("span", tests, NULL, NULL);
}
