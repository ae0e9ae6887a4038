/* SPDX-License-Identifier: Apache-2.0 */
/* Text in buffers: numbers, instants, JSON strings, and what happens when it does not fit. */
#include "core/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/json.h"

static void numbers_are_written_as_people_write_them(void **state)
{
	char buf[256];
	struct text t = text_in(buf, sizeof(buf));

	(void) state;
	text_add_u64(&t, 0);
	text_add(&t, " ");
	text_add_u64(&t, UINT64_MAX);
	text_add(&t, " ");
	text_add_i64(&t, INT64_MIN);
	text_add(&t, " ");
	text_add_i64(&t, 42);
	text_add(&t, " ");
	text_add_hex(&t, 0xbeef, 0);
	text_add(&t, " ");
	text_add_hex(&t, 0, 0);
	text_add(&t, " ");
	text_add_hex(&t, 0xbeef, 8);
	text_add(&t, " ");
	text_add_hex(&t, UINT64_MAX, 2);
	assert_string_equal(buf, "0 18446744073709551615 -9223372036854775808 42 beef 0 "
				 "0000beef ffffffffffffffff");
	assert_int_equal(t.used, strlen(buf));
	assert_false(t.cut);
}

static void milliseconds_lose_trailing_zeros(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 999, "0" },
		{ 1000, "0.001" },
		{ 12500000, "12.5" },
		{ 10000000, "10" },
		{ 1010000, "1.01" },
		{ 30000000000, "30000" },
		{ UINT64_MAX, "18446744073709.551" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buf[64];
		struct text t = text_in(buf, sizeof(buf));

		print_message("# %s\n", cases[i].text);
		text_add_ms(&t, cases[i].ns);
		assert_string_equal(buf, cases[i].text);
	}
}

static void instants_agree_with_gmtime(void **state)
{
	(void) state;
	for (uint64_t s = 0; s < UINT64_C(18446744073); s += 86400 * 13 + 4711) {
		char buf[64], expected[64];
		struct text t = text_in(buf, sizeof(buf));
		const time_t at = (time_t) s;
		struct tm tm;

		text_add_time(&t, s * 1000000000 + 123456789);
		assert_non_null(gmtime_r(&at, &tm));
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.123456Z", &tm);
		assert_string_equal(buf, expected);
	}
}

static void json_strings_escape_what_terminals_obey(void **state)
{
	static const struct {
		const char *raw, *json;
	} cases[] = {
		{ "", "\"\"" },
		{ "10.0.0.1:80", "\"10.0.0.1:80\"" },
		{ "a\"b\\c/", "\"a\\\"b\\\\c/\"" },
		{ "\x1b[2J\n\t\r\x01\x7f", "\"\\u001b[2J\\u000a\\u0009\\u000d\\u0001\\u007f\"" },
		{ "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f",
		  "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f\"" },
		{ "\xc2\x9b" "2J", "\"\\u009b2J\"" },
		{ "\xff" "a", "\"\xef\xbf\xbd" "a\"" },
		{ "\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },             /* too long a form */
		{ "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, /* a surrogate */
		{ "\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },             /* ends too early */
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buf[128];
		struct text t = text_in(buf, sizeof(buf));

		print_message("# %s\n", cases[i].json);
		text_add_json(&t, cases[i].raw);
		assert_string_equal(buf, cases[i].json);
		assert_true(json_valid(buf));
	}
}

static void any_bytes_become_a_valid_string(void **state)
{
	(void) state;
	for (unsigned seed = 0; seed < 10000; seed++) {
		char raw[64], buf[64 * TEXT_JSON_GROWTH + 3];
		struct text t = text_in(buf, sizeof(buf));
		unsigned short x[3] = { (unsigned short) seed, (unsigned short) (seed >> 16), 7 };

		for (size_t i = 0; i < sizeof(raw); i++)
			raw[i] = (char) (nrand48(x) >> (seed % 8));
		text_add_json_n(&t, raw, sizeof(raw));
		assert_false(t.cut);
		assert_true(json_valid(buf));
	}
}

static void keys_bring_their_comma(void **state)
{
	char buf[64];
	struct text t = text_in(buf, sizeof(buf));

	(void) state;
	text_add(&t, "{");
	text_add_key(&t, "a");
	text_add(&t, "[{");
	text_add_key(&t, "b");
	text_add(&t, "1}]");
	text_add_key(&t, "c");
	text_add(&t, "2}");
	assert_string_equal(buf, "{\"a\":[{\"b\":1}],\"c\":2}");
}

static void shown_text_cannot_move_the_cursor(void **state)
{
	char buf[64];
	struct text t = text_in(buf, sizeof(buf));

	(void) state;
	text_add_shown(&t, "a\x1b[2J\xc2\x9b\xff\xe2\x82\xac\0b", 13);
	assert_string_equal(buf, "a?[2J???\xe2\x82\xac");
	t = text_in(buf, 4); /* cut inside the second character */
	text_add_shown(&t, "\xc3\xa4\xc3\xb6", SIZE_MAX);
	assert_string_equal(buf, "\xc3\xa4?");
	assert_true(t.cut);
}

/* At every size, ending where no byte more may be touched. */
static void what_does_not_fit_is_cut_and_says_so(void **state)
{
	const long page = sysconf(_SC_PAGESIZE);
	char *const map = mmap(NULL, (size_t) page * 2, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void) state;
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + page, (size_t) page, PROT_NONE), 0);
	for (size_t size = 1; size <= 128; size++) {
		char whole[256];
		struct text full = text_in(whole, sizeof(whole));
		struct text t = text_in(map + page - size, size);
		struct text *const both[] = { &full, &t };

		for (int i = 0; i < 2; i++) {
			text_add_u64(both[i], 18446744073709551615u);
			text_add_time(both[i], 1);
			text_add_ms(both[i], 1500000);
			text_add_hex(both[i], 1, 16);
			text_add_key(both[i], "k\x01");
			text_add_json(both[i], "\"\xff\x1f\xe2\x82\xac");
			text_add_shown(both[i], "\x1b\x1b", 2);
		}
		assert_false(full.cut);
		assert_int_equal(t.cut, size <= full.used);
		assert_int_equal(t.used, t.cut ? size - 1 : full.used);
		assert_memory_equal(t.at, whole, t.used);
		assert_int_equal(t.at[t.used], '\0');
	}
	assert_int_equal(munmap(map, (size_t) page * 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_written_as_people_write_them),
		cmocka_unit_test(milliseconds_lose_trailing_zeros),
		cmocka_unit_test(instants_agree_with_gmtime),
		cmocka_unit_test(json_strings_escape_what_terminals_obey),
		cmocka_unit_test(any_bytes_become_a_valid_string),
		cmocka_unit_test(keys_bring_their_comma),
		cmocka_unit_test(shown_text_cannot_move_the_cursor),
		cmocka_unit_test(what_does_not_fit_is_cut_and_says_so),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
