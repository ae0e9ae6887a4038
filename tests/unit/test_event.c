/* SPDX-License-Identifier: Apache-2.0 */
/* Events as JSON: each kind's fields, hostile records, buffers that are too small. */
#include "core/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tests/unit/json.h"

static struct event sample(enum event_kind kind, const char *text)
{
	struct event e = {
		.kind = kind,
		.mode = POLICY_ENFORCE,
		.wall_ns = UINT64_C(1795780800123456789),
		.mono_ns = 17,
		.pid = 100,
		.tid = 101,
		.id = 9,
	};

	strcpy(e.text, text);
	return e;
}

static const char *json_of(const struct event *e)
{
	static char buf[EVENT_JSON_SIZE];
	struct text t = text_in(buf, sizeof(buf));

	event_json(e, "curl", &t);
	assert_false(t.cut);
	assert_true(json_valid(buf));
	return buf;
}

#define ALWAYS(level, msg, event) \
	"{\"level\":\"" level "\",\"msg\":\"" msg "\",\"event\":\"" event "\"," \
	"\"ts\":\"2026-11-27T12:00:00.123456Z\",\"mono_ns\":17,\"pid\":100,\"tid\":101," \
	"\"id\":9,\"service\":\"curl\",\"mode\":\"enforce\","

static void a_trip_says_all_of_it(void **state)
{
	struct event e = sample(EVENT_STATE_CHANGE, "127.0.0.1:8080");

	(void) state;
	e.from = BREAKER_CLOSED;
	e.to = BREAKER_OPEN;
	e.reason = BREAKER_REASON_CONSECUTIVE_FAILURES;
	e.generation = 7;
	e.open_ns = UINT64_C(30000000000);
	e.error_kind = EVENT_ERROR_LOCAL_ORIGIN;
	e.error_code = ECONNREFUSED;
	for (uint32_t i = 0; i < 6; i++)
		e.counts[i] = i + 1;
	assert_string_equal(json_of(&e), ALWAYS("warn", "breaker opened", "state_change")
		"\"breaker\":\"127.0.0.1:8080\",\"from\":\"closed\",\"to\":\"open\","
		"\"reason\":\"consecutive_failures\",\"generation\":7,\"open_ms\":30000,"
		"\"enforced\":true,\"counts\":{\"requests\":1,\"successes\":2,\"failures\":3,"
		"\"exclusions\":4,\"consecutive_successes\":5,\"consecutive_failures\":6},"
		"\"last_error\":{\"kind\":\"local_origin\",\"code\":\"ECONNREFUSED\"}}");

	e.to = BREAKER_CLOSED;
	e.mode = POLICY_OBSERVE;
	e.error_kind = EVENT_ERROR_NONE;
	assert_null(strstr(json_of(&e), "open_ms"));
	assert_null(strstr(json_of(&e), "last_error"));
	assert_non_null(strstr(json_of(&e), "\"enforced\":false"));

	e.error_kind = EVENT_ERROR_EXTERNAL;
	e.error_code = 503;
	assert_non_null(strstr(json_of(&e), "{\"kind\":\"external\",\"code\":503}"));
	e.error_kind = EVENT_ERROR_LOCAL_ORIGIN;
	e.error_code = 4000000000;
	assert_non_null(strstr(json_of(&e), "{\"kind\":\"local_origin\",\"code\":4000000000}"));
}

static void other_kinds_say_theirs(void **state)
{
	static const struct {
		enum event_kind kind;
		const char *text, *json;
	} cases[] = {
		{ EVENT_CALL_REJECTED, "db:5432",
		  ALWAYS("warn", "calls rejected", "call_rejected")
		  "\"breaker\":\"db:5432\",\"reason\":\"too_many\",\"n\":12,\"generation\":7,"
		  "\"enforced\":true}" },
		{ EVENT_BREAKER_CREATED, "db:5432",
		  ALWAYS("info", "breaker created", "breaker_created")
		  "\"breaker\":\"db:5432\"}" },
		{ EVENT_BREAKER_RETIRED, "db:5432",
		  ALWAYS("info", "breaker retired", "breaker_retired")
		  "\"breaker\":\"db:5432\"}" },
		{ EVENT_CONFIG_ERROR, "AGENTSHIM_MODE: found \"x\"",
		  ALWAYS("error", "setting not understood", "config_error")
		  "\"problem\":\"AGENTSHIM_MODE: found \\\"x\\\"\"}" },
		{ EVENT_STATE_PRIVATE, "no space",
		  ALWAYS("warn", "breakers not shared", "state_private")
		  "\"problem\":\"no space\"}" },
		{ EVENT_MODE_CHANGED, "off",
		  ALWAYS("warn", "mode changed", "mode_changed") "\"control\":\"off\"}" },
		{ EVENT_MODE_CHANGED, "",
		  ALWAYS("warn", "mode changed", "mode_changed") "\"control\":null}" },
		{ EVENT_STACK, "0=/bin/x|0+1f",
		  ALWAYS("info", "stack", "stack")
		  "\"of\":9,\"part\":1,\"parts\":2,\"frames\":\"0=/bin/x|0+1f\"}" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct event e = sample(cases[i].kind, cases[i].text);

		print_message("# %s\n", event_kind_name(cases[i].kind));
		e.verdict = BREAKER_REFUSED_TOO_MANY;
		e.n = 12;
		e.generation = 7;
		e.part = 1;
		e.parts = 2;
		assert_string_equal(json_of(&e), cases[i].json);
	}
}

static void noise_is_valid_json_too(void **state)
{
	(void) state;
	for (unsigned seed = 0; seed < 10000; seed++) {
		unsigned short x[3] = { (unsigned short) seed, (unsigned short) (seed >> 16), 1 };
		struct event e;

		for (size_t i = 0; i < sizeof(e); i++)
			((unsigned char *) &e)[i] = (unsigned char) (nrand48(x) >> 8);
		if (seed % 2 == 0)
			e.kind %= EVENT_SPAN_MORE + 2;
		(void) json_of(&e);
	}
}

static void the_longest_event_fits_a_line(void **state)
{
	char service[300];
	size_t longest = 0;

	(void) state;
	assert_true(EVENT_JSON_SIZE + 1 <= PIPE_BUF);
	memset(service, 1, sizeof(service));
	service[sizeof(service) - 1] = '\0';
	for (uint32_t kind = 0; kind <= EVENT_SPAN_MORE + 1; kind++) {
		char buf[EVENT_JSON_SIZE];
		struct text t = text_in(buf, sizeof(buf));
		struct event e;

		memset(&e, 0xff, sizeof(e));
		e.kind = kind;
		e.to = BREAKER_OPEN;
		memset(e.text, 1, sizeof(e.text)); /* no NUL at its end */
		event_json(&e, service, &t);
		assert_false(t.cut);
		assert_true(json_valid(buf));
		longest = t.used > longest ? t.used : longest;
	}
	print_message("# longest: %zu bytes\n", longest);
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
	struct event e = sample(EVENT_CALL_REJECTED, "\x1b\"db:5432");
	const size_t needed = strlen(json_of(&e));
	char *buf = NULL;

	(void) state;
	for (size_t size = 3; size <= needed + 4; size++) {
		/* From the heap, so that a sanitizer sees the end of it. */
		buf = realloc(buf, size);
		assert_non_null(buf);

		struct text t = text_in(buf, size);

		text_add(&t, "x,");
		event_json(&e, "curl", &t);
		assert_int_equal(t.cut, size < needed + 3);
		assert_int_equal(t.used, t.cut ? 2 : needed + 2);
		assert_int_equal(strlen(buf), t.used);
		assert_memory_equal(buf, "x,", 2);
	}
	free(buf);
}

static void errno_has_names_both_ways(void **state)
{
	(void) state;
	for (int e = -1; e < 200; e++) {
		const char *const name = event_errno_name(e);
		const char *const libc = e > 0 ? strerrorname_np(e) : NULL;

		if (libc == NULL) {
			assert_null(name);
			continue;
		}
		assert_string_equal(name, libc);
		assert_int_equal(event_errno_from(name), e);
	}
	assert_int_equal(event_errno_from("EWOULDBLOCK"), EAGAIN);
	assert_int_equal(event_errno_from("ENOTSUP"), EOPNOTSUPP);
	assert_int_equal(event_errno_from("EDEADLOCK"), EDEADLK);
	assert_int_equal(event_errno_from("econnrefused"), 0);
	assert_int_equal(event_errno_from(""), 0);
	assert_null(event_errno_name(INT_MAX));
	assert_null(event_errno_name(INT_MIN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_trip_says_all_of_it),
		cmocka_unit_test(other_kinds_say_theirs),
		cmocka_unit_test(noise_is_valid_json_too),
		cmocka_unit_test(the_longest_event_fits_a_line),
		cmocka_unit_test(what_does_not_fit_is_left_out_whole),
		cmocka_unit_test(errno_has_names_both_ways),
	};

	return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
