/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of time in and out of text. */
#include "core/duration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/unit/edge.h"

static const struct {
	const char *text;
	uint64_t ns;
} good[] = {
	{ "0", 0 },
	{ "0s", 0 },
	{ "1ns", 1 },
	{ "10ns", 10 },
	{ "250us", 250 * NS_PER_US },
	{ "500ms", 500 * NS_PER_MS },
	{ "30s", 30 * NS_PER_S },
	{ "0030s", 30 * NS_PER_S },
	{ "1m30s", 90 * NS_PER_S },
	{ "90s", 90 * NS_PER_S },
	{ "1.5s", 1500 * NS_PER_MS },
	{ "1.50000000000000000000s", 1500 * NS_PER_MS },
	{ "0.25h", 900 * NS_PER_S },
	{ "2h", 7200 * NS_PER_S },
	{ "1h1m1s1ms1us1ns", 3661 * NS_PER_S + 1001001 },
	{ "0.000000001s", 1 },
	{ "1.5m0.5s", 90500 * NS_PER_MS },
	{ "4611686018427387903ns", DURATION_MAX_NS },
	{ "4611686018.427387903s", DURATION_MAX_NS },
};

static const char *const bad[] = {
	"", " ", "s", "30", "00", "0.0", "+30s", "-30s", " 30s", "30s ", "30 s", "30S", "30sec",
	"30 parsecs", ".5s", "1.s", "1..5s", "1.5.5s", "30s1m", "1s1s", "1m30", "1e3s", "0x1s",
	"1,5s", "1d", "1.5ns", "0.0000000001s", "30s\n", "30s;", "\xff", "3\xcc\xb6s",
	"4611686018427387904ns", "4611686018.427387904s", "4611686019s", "1281024h",
	"18446744073709551616ns", "18446744073709551617s",
	"99999999999999999999999999999999999999999999999h",
	"4611686018427387903ns1ns", "1281023h1281023h", "1281023h76861433m",
};

static void reads_what_people_write(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t ns = 77;

		print_message("# %s\n", good[i].text);
		assert_true(duration_parse(edge_text(good[i].text), &ns));
		assert_true(ns == good[i].ns);
	}
}

static void declines_anything_else_and_leaves_the_result_alone(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t ns = 77;

		print_message("# row %zu\n", i);
		assert_false(duration_parse(edge_text(bad[i]), &ns));
		assert_true(ns == 77);
	}
}

static const struct {
	uint64_t ns;
	const char *text;
} shown[] = {
	{ 0, "0" },
	{ 1, "1ns" },
	{ 999, "999ns" },
	{ 1000, "1us" },
	{ 1500, "1.5us" },
	{ 250 * NS_PER_US, "250us" },
	{ 500 * NS_PER_MS, "500ms" },
	{ 1500 * NS_PER_MS, "1.5s" },
	{ NS_PER_S + 1, "1.000000001s" },
	{ 30 * NS_PER_S, "30s" },
	{ 60 * NS_PER_S, "1m" },
	{ 90 * NS_PER_S, "1m30s" },
	{ 3600 * NS_PER_S, "1h" },
	{ 3600 * NS_PER_S + 5 * NS_PER_MS, "1h5ms" },
	{ 86400 * NS_PER_S, "24h" },
	{ UINT64_MAX, "5124095h34m33.709551615s" },
};

static void writes_what_people_read(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		char text[DURATION_SIZE];

		assert_int_equal(duration_text(shown[i].ns, text, sizeof(text)),
				 strlen(shown[i].text));
		assert_string_equal(text, shown[i].text);
	}
}

static void what_it_writes_it_reads_back(void **state)
{
	uint64_t x = 88172645463325252;

	(void) state;
	for (int i = 0; i < 20000; i++) {
		char text[DURATION_SIZE];
		uint64_t ns;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		const uint64_t sample = (x & DURATION_MAX_NS) >> (i % 62);
		(void) duration_text(sample, text, sizeof(text));
		assert_true(duration_parse(text, &ns));
		assert_true(ns == sample);
	}
}

static void cuts_to_the_buffer(void **state)
{
	char text[8];

	(void) state;
	for (size_t size = 1; size <= sizeof(text); size++) {
		memset(text, 'x', sizeof(text));
		assert_true(duration_text(90 * NS_PER_S, text, size) < size);
		assert_non_null(memchr(text, '\0', size));
		for (size_t i = size; i < sizeof(text); i++)
			assert_int_equal(text[i], 'x');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_people_write),
		cmocka_unit_test(declines_anything_else_and_leaves_the_result_alone),
		cmocka_unit_test(writes_what_people_read),
		cmocka_unit_test(what_it_writes_it_reads_back),
		cmocka_unit_test(cuts_to_the_buffer),
	};

	return cmocka_run_group_tests_name("duration", tests, NULL, NULL);
}
