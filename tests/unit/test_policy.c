/* SPDX-License-Identifier: Apache-2.0 */
/* The defaults of a breaker's settings, and what a zero stands for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/policy.h"

static void product_defaults_are_as_promised(void **state)
{
	struct policy p = policy_product();

	(void) state;
	policy_complete(&p);
	assert_int_equal(p.max_requests, 3);
	assert_int_equal(p.interval_ns, 60 * NS_PER_S);
	assert_int_equal(p.timeout_ns, 30 * NS_PER_S);
	assert_int_equal(p.probe_timeout_ns, p.timeout_ns);
	assert_int_equal(p.patience_ns, NS_PER_S);
	assert_int_equal(p.consecutive_failures, 5);
	assert_int_equal(p.refusal_errno, ECONNREFUSED);
	assert_int_equal(p.mode, POLICY_ENFORCE);
	assert_int_equal(p.total_failures, 0);
	assert_true(p.failure_ratio <= 0);
}

static void library_defaults_are_gobreakers(void **state)
{
	struct policy p = policy_gobreaker();

	(void) state;
	policy_complete(&p);
	assert_int_equal(p.max_requests, 1);
	assert_int_equal(p.interval_ns, 0);
	assert_int_equal(p.timeout_ns, 60 * NS_PER_S);
	assert_int_equal(p.consecutive_failures, 6);
	assert_int_equal(p.mode, POLICY_ENFORCE);
}

static const struct {
	const char *name;
	struct policy given, wanted;
} completions[] = {
	{ "zeros",
	  { 0 },
	  { .max_requests = 1, .timeout_ns = 60 * NS_PER_S, .probe_timeout_ns = 60 * NS_PER_S } },
	{ "the lease follows the timeout",
	  { .max_requests = 2, .timeout_ns = 5 },
	  { .max_requests = 2, .timeout_ns = 5, .probe_timeout_ns = 5 } },
	{ "or is what was set",
	  { .max_requests = 2, .timeout_ns = 5, .probe_timeout_ns = 7 },
	  { .max_requests = 2, .timeout_ns = 5, .probe_timeout_ns = 7 } },
	{ "the quota's limit",
	  { .max_requests = 1023, .timeout_ns = 5 },
	  { .max_requests = 1023, .timeout_ns = 5, .probe_timeout_ns = 5 } },
	{ "beyond the quota's limit",
	  { .max_requests = UINT32_MAX, .timeout_ns = 5 },
	  { .max_requests = 1023, .timeout_ns = 5, .probe_timeout_ns = 5 } },
};

static void completion_fills_what_zeros_stand_for(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(completions) / sizeof(completions[0]); i++) {
		struct policy p = completions[i].given;

		print_message("# %s\n", completions[i].name);
		for (int twice = 0; twice < 2; twice++) {
			policy_complete(&p);
			assert_int_equal(p.max_requests, completions[i].wanted.max_requests);
			assert_int_equal(p.timeout_ns, completions[i].wanted.timeout_ns);
			assert_int_equal(p.probe_timeout_ns,
					 completions[i].wanted.probe_timeout_ns);
		}
	}
}

static void modes_are_known_by_name(void **state)
{
	enum policy_mode mode;

	(void) state;
	for (int i = POLICY_ENFORCE; i <= POLICY_FORCED_CLOSED; i++) {
		mode = (enum policy_mode) (i + 1);
		assert_true(policy_mode_from(policy_mode_name((enum policy_mode) i), &mode));
		assert_int_equal(mode, i);
	}
	mode = POLICY_OBSERVE;
	assert_false(policy_mode_from("ENFORCE", &mode));
	assert_false(policy_mode_from("", &mode));
	assert_false(policy_mode_from("enforced", &mode));
	assert_int_equal(mode, POLICY_OBSERVE);
	assert_string_equal(policy_mode_name((enum policy_mode) 99), "unknown");
	assert_string_equal(policy_mode_name((enum policy_mode) -1), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(product_defaults_are_as_promised),
		cmocka_unit_test(library_defaults_are_gobreakers),
		cmocka_unit_test(completion_fills_what_zeros_stand_for),
		cmocka_unit_test(modes_are_known_by_name),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
