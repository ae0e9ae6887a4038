/* SPDX-License-Identifier: Apache-2.0 */
/* Which traces are kept, by name, by ratio and by what the caller decided. */
#include "core/sampler.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/edge.h"

#define HALF (UINT64_C(1) << 55)

static struct sampler read_back(const char *name, const char *arg, const char *problem)
{
	struct sampler s;
	char room[152];
	struct text t = text_in(room, sizeof(room));

	memset(&s, 0xa5, sizeof(s));
	errno = 77;
	const bool good = sampler_from(name ? edge_slot(0, name, strlen(name) + 1) : NULL,
				       arg ? edge_slot(1, arg, strlen(arg) + 1) : NULL, &s, &t);
	assert_int_equal(errno, 77);
	assert_string_equal(room, problem ? problem : "");
	assert_int_equal(good, !problem);
	assert_false(t.cut);
	assert_int_equal(sampler_from(name, arg, &s, NULL), good);
	return s;
}

static const struct {
	const char *name, *sampler, *arg;
	bool parent_based;
	uint64_t threshold;
} names[] = {
	{ "unset", NULL, NULL, true, 0 },
	{ "empty", "", "", true, 0 },
	{ "blank", " \t", "0.5", true, 0 },
	{ "always_on", "always_on", NULL, false, 0 },
	{ "always_off", "always_off", NULL, false, SAMPLER_NEVER },
	{ "traceidratio", "traceidratio", "0.5", false, HALF },
	{ "parentbased_always_on", "parentbased_always_on", NULL, true, 0 },
	{ "parentbased_always_off", "parentbased_always_off", NULL, true, SAMPLER_NEVER },
	{ "parentbased_traceidratio", "parentbased_traceidratio", "0.5", true, HALF },
	{ "any case", "ParentBased_TraceIdRatio", "0.5", true, HALF },
	{ "blanks around it", " always_off\n", NULL, false, SAMPLER_NEVER },
	{ "no ratio is all", "traceidratio", NULL, false, 0 },
	{ "an empty ratio is all", "traceidratio", "", false, 0 },
	{ "an argument that nobody reads", "always_on", "rate=5", false, 0 },
};

static void samplers_have_the_names_of_the_specification(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		print_message("# %s\n", names[i].name);
		const struct sampler s = read_back(names[i].sampler, names[i].arg, NULL);

		assert_int_equal(s.parent_based, names[i].parent_based);
		assert_true(s.threshold == names[i].threshold);
	}
	assert_true(sampler_default().parent_based && sampler_default().threshold == 0);
}

/* Kept of 2^56, for each way to write it. */
static const struct {
	const char *ratio;
	uint64_t kept;
} ratios[] = {
	{ "0", 0 },
	{ "0.0", 0 },
	{ "0e9", 0 },
	{ ".0", 0 },
	{ "1", SAMPLER_NEVER },
	{ "1.", SAMPLER_NEVER },
	{ "1.0", SAMPLER_NEVER },
	{ "001.000", SAMPLER_NEVER },
	{ "10e-1", SAMPLER_NEVER },
	{ "0.1e1", SAMPLER_NEVER },
	{ "0.1E+01", SAMPLER_NEVER },
	{ " 0.5 ", HALF },
	{ ".5", HALF },
	{ "5e-1", HALF },
	{ "500000000000000000000000e-24", HALF },
	{ "0.50000000000000000000000000000000000000000000000000000000000000", HALF },
	{ "0.25", HALF / 2 },
	{ "0.1", UINT64_C(7205759403792794) },
	{ "1e-3", UINT64_C(72057594037928) },
	{ "0.3333333333333333333333333", UINT64_C(24019198012642645) },
	{ "0.9999999999999999999999999", SAMPLER_NEVER },
	{ "0.99999999999999994", SAMPLER_NEVER - 4 },
	{ "1.3877787807814457e-17", 1 },
	{ "0.00000000000000001387778780781445700", 1 },
	{ "6e-18", 0 },
	{ "1e-30", 0 },
	{ "1e-999999999999999999999", 0 },
};

static void ratios_are_read_as_parts_of_two_to_the_56(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(ratios) / sizeof(ratios[0]); i++) {
		print_message("# %s\n", ratios[i].ratio);
		const struct sampler s = read_back("traceidratio", ratios[i].ratio, NULL);

		assert_true(SAMPLER_NEVER - s.threshold == ratios[i].kept);
	}
}

static void a_bad_ratio_is_all_and_a_problem(void **state)
{
	static const char *const bad[] = {
		"-1", "-0.1", "+1", "1.1", "2", "1.00000000000000001", "1e1", "1e999999999999999999",
		"1e30", "x", ".", "e1", "1e", "1e+", "1e-", "0.5x", "0,5", "0.5 0.5", "nan", "inf", "0x1",
		"50%",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char problem[152];

		print_message("# %s\n", bad[i]);
		(void) snprintf(problem, sizeof(problem), "OTEL_TRACES_SAMPLER_ARG: found \"%s\", "
				"expected a number from 0 to 1; 1 stands", bad[i]);
		const struct sampler s = read_back("parentbased_traceidratio", bad[i], problem);

		assert_true(s.parent_based && s.threshold == 0);
	}
}

static void an_unknown_sampler_is_the_default_and_a_problem(void **state)
{
	static const char *const unknown[] = {
		"jaeger_remote", "xray", "always", "always_on2", "parentbased_", "parentbased",
		"parentbased_parentbased_always_on", "traceidratio,always_on",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		char problem[152];

		print_message("# %s\n", unknown[i]);
		(void) snprintf(problem, sizeof(problem), "OTEL_TRACES_SAMPLER: found \"%.30s%s\", "
				"expected [parentbased_]always_on, always_off or traceidratio; the "
				"default stands", unknown[i], strlen(unknown[i]) > 30 ? "..." : "");
		const struct sampler s = read_back(unknown[i], "0.1", problem);

		assert_true(s.parent_based && s.threshold == 0);
	}
}

static void values_as_long_as_the_kernel_allows_are_walked_once(void **state)
{
	static char value[100000];
	struct sampler s;

	(void) state;
	for (const char *fill = "0195.e-p "; *fill; fill++) {
		memset(value, *fill, sizeof(value) - 1);
		(void) sampler_from("traceidratio", value, &s, NULL);
		assert_true(s.threshold <= SAMPLER_NEVER);
		value[1] = '.';
		(void) sampler_from("traceidratio", value, &s, NULL);
		(void) sampler_from(value, value, &s, NULL);
		assert_true(s.threshold <= SAMPLER_NEVER);
	}
}

#define KEPT    true
#define DROPPED false

static const struct {
	const char *name, *sampler;
	unsigned flags;
	enum propagate_decision decision;
	bool kept;
} decisions[] = {
	{ "on, accepted", "always_on", CONTEXT_SAMPLED, PROPAGATE_ACCEPT, KEPT },
	{ "on, denied", "always_on", 0, PROPAGATE_DENY, KEPT },
	{ "on, deferred", "always_on", CONTEXT_DEFERRED, PROPAGATE_DEFER, KEPT },
	{ "off, accepted", "always_off", CONTEXT_SAMPLED, PROPAGATE_ACCEPT, DROPPED },
	{ "off, denied", "always_off", 0, PROPAGATE_DENY, DROPPED },
	{ "off, deferred", "always_off", 0, PROPAGATE_DEFER, DROPPED },
	{ "off, debug", "always_off", CONTEXT_SAMPLED | CONTEXT_DEBUG, PROPAGATE_ACCEPT, KEPT },
	{ "parent or on, accepted", "parentbased_always_on", CONTEXT_SAMPLED, PROPAGATE_ACCEPT,
	  KEPT },
	{ "parent or on, denied", "parentbased_always_on", 0, PROPAGATE_DENY, DROPPED },
	{ "parent or on, deferred", "parentbased_always_on", 0, PROPAGATE_DEFER, KEPT },
	{ "parent or off, accepted", "parentbased_always_off", CONTEXT_SAMPLED, PROPAGATE_ACCEPT,
	  KEPT },
	{ "parent or off, denied", "parentbased_always_off", 0, PROPAGATE_DENY, DROPPED },
	{ "parent or off, deferred", "parentbased_always_off", 0, PROPAGATE_DEFER, DROPPED },
	{ "parent or off, debug", "parentbased_always_off", CONTEXT_SAMPLED | CONTEXT_DEBUG,
	  PROPAGATE_ACCEPT, KEPT },
};

static void the_caller_decides_where_it_may(void **state)
{
	static const uint8_t ids[2][16] = { { [0] = 0xff }, { [9] = 0xff } };

	(void) state;
	for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
		const struct sampler s = read_back(decisions[i].sampler, NULL, NULL);
		const struct propagate_found parent = {
			.context.flags = (uint16_t) decisions[i].flags,
			.decision = decisions[i].decision,
		};

		print_message("# %s\n", decisions[i].name);
		assert_int_equal(sampler_sample(&s, &parent, ids[0]), decisions[i].kept);
		assert_int_equal(sampler_sample(&s, &parent, ids[1]), decisions[i].kept);
	}
}

static const struct {
	const char *name, *ratio;
	uint8_t id[16];
	bool kept;
} ids[] = {
	{ "none of them", "0", { [9] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, DROPPED },
	{ "all of them", "1", { [0] = 1 }, KEPT },
	{ "half, just below", "0.5", { [8] = 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
	  DROPPED },
	{ "half, just there", "0.5", { [9] = 0x80 }, KEPT },
	{ "half, the other bits do not count", "0.5",
	  { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f }, DROPPED },
	{ "the rarest, just below", "1.3877787807814457e-17",
	  { [9] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe }, DROPPED },
	{ "the rarest, just there", "1.3877787807814457e-17",
	  { [9] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, KEPT },
};

static void the_last_56_bits_of_a_trace_id_are_its_lot(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		const struct sampler s = read_back("parentbased_traceidratio", ids[i].ratio, NULL);
		const struct propagate_found deferred = { .decision = PROPAGATE_DEFER };
		const struct propagate_found denied = { .decision = PROPAGATE_DENY };

		print_message("# %s\n", ids[i].name);
		assert_int_equal(sampler_sample(&s, NULL, ids[i].id), ids[i].kept);
		assert_int_equal(sampler_sample(&s, &deferred, ids[i].id), ids[i].kept);
		assert_false(sampler_sample(&s, &denied, ids[i].id));
	}
}

/* The level-2 promise: whoever keeps more keeps these, too. */
static void a_higher_ratio_keeps_what_a_lower_one_keeps(void **state)
{
	static const char *const rising[] = { "0", "0.001", "0.1", "0.5", "0.9", "1" };
	unsigned kept[6] = { 0 };
	uint64_t x = 1;

	(void) state;
	for (int n = 0; n < 20000; n++) {
		uint8_t id[16] = { 0 };
		bool before = false;

		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		for (size_t i = 0; i < 7; i++)
			id[15 - i] = (uint8_t) (x >> (8 + 8 * i));
		for (size_t i = 0; i < 6; i++) {
			struct sampler s;

			assert_true(sampler_from("traceidratio", rising[i], &s, NULL));
			const bool now = sampler_sample(&s, NULL, id);

			assert_true(now >= before);
			before = now;
			kept[i] += now;
		}
	}
	print_message("# kept %u %u %u %u %u %u of 20000\n", kept[0], kept[1], kept[2], kept[3],
		      kept[4], kept[5]);
	assert_int_equal(kept[0], 0);
	assert_in_range(kept[1], 5, 50);
	assert_in_range(kept[2], 1800, 2200);
	assert_in_range(kept[3], 9700, 10300);
	assert_in_range(kept[4], 17800, 18200);
	assert_int_equal(kept[5], 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samplers_have_the_names_of_the_specification),
		cmocka_unit_test(ratios_are_read_as_parts_of_two_to_the_56),
		cmocka_unit_test(a_bad_ratio_is_all_and_a_problem),
		cmocka_unit_test(an_unknown_sampler_is_the_default_and_a_problem),
		cmocka_unit_test(values_as_long_as_the_kernel_allows_are_walked_once),
		cmocka_unit_test(the_caller_decides_where_it_may),
		cmocka_unit_test(the_last_56_bits_of_a_trace_id_are_its_lot),
		cmocka_unit_test(a_higher_ratio_keeps_what_a_lower_one_keeps),
	};

	return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
