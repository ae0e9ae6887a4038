/* SPDX-License-Identifier: Apache-2.0 */
/* Shared numbers: sums over stripes, bounds of buckets, many writers, names. */
#include "core/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "core/clock.h"

static struct metrics metrics;
static struct metrics_sums sums;

static int clear(void **state)
{
	(void) state;
	memset(&metrics, 0, sizeof(metrics));
	return 0;
}

static void stripes_are_summed_and_masked(void **state)
{
	(void) state;
	for (unsigned stripe = 0; stripe < 100; stripe++)
		metrics_add(&metrics, stripe, METRICS_INJECTED, stripe);
	metrics_add(&metrics, UINT_MAX, METRICS_ADOPTED, 5);
	metrics_sum(&metrics, &sums);
	assert_int_equal(sums.counters[METRICS_INJECTED], 4950);
	assert_int_equal(sums.counters[METRICS_ADOPTED], 5);
	assert_int_equal(sums.counters[METRICS_WITHHELD], 0);
	for (int c = METRICS_COUNTERS; c < METRICS_COUNTERS_MAX; c++)
		assert_int_equal(sums.counters[c], 0);
}

static void a_bound_belongs_to_the_bucket_below(void **state)
{
	(void) state;
	for (int i = 0; i < METRICS_BOUNDS; i++) {
		assert_true(i == 0 || metrics_bounds_ns[i] > metrics_bounds_ns[i - 1]);
		metrics_observe(&metrics, (unsigned) i, METRICS_SERVER_DURATION,
				metrics_bounds_ns[i]);
		metrics_observe(&metrics, (unsigned) i, METRICS_CLIENT_DURATION,
				metrics_bounds_ns[i] + 1);
	}
	metrics_observe(&metrics, 0, METRICS_SERVER_DURATION, 0);
	metrics_sum(&metrics, &sums);
	for (int i = 0; i <= METRICS_BOUNDS; i++) {
		assert_int_equal(sums.histograms[METRICS_SERVER_DURATION].buckets[i],
				 i == 0 ? 2 : i < METRICS_BOUNDS);
		assert_int_equal(sums.histograms[METRICS_CLIENT_DURATION].buckets[i], i > 0);
	}
	assert_int_equal(sums.histograms[METRICS_SERVER_DURATION].count, METRICS_BOUNDS + 1);
	assert_int_equal(metrics_bounds_ns[0], 5 * NS_PER_MS);
	assert_int_equal(metrics_bounds_ns[METRICS_BOUNDS - 1], 10 * NS_PER_S);
	assert_int_equal(sums.histograms[METRICS_CLIENT_DURATION].sum_ns -
				 sums.histograms[METRICS_SERVER_DURATION].sum_ns, METRICS_BOUNDS);
}

#define THREADS 8
#define EACH    20000

static void *work(void *arg)
{
	const unsigned stripe = (unsigned) (uintptr_t) arg / 2; /* two on each */

	for (int i = 0; i < EACH; i++) {
		metrics_add(&metrics, stripe, METRICS_SPANS_SERVER, 1);
		metrics_observe(&metrics, stripe, METRICS_SERVER_DURATION, NS_PER_S);
	}
	return NULL;
}

static void many_writers_lose_nothing(void **state)
{
	pthread_t threads[THREADS];

	(void) state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, (void *) i), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	metrics_sum(&metrics, &sums);
	assert_int_equal(sums.counters[METRICS_SPANS_SERVER], THREADS * EACH);
	assert_int_equal(sums.histograms[METRICS_SERVER_DURATION].count, THREADS * EACH);
	assert_int_equal(sums.histograms[METRICS_SERVER_DURATION].sum_ns,
			 THREADS * EACH * NS_PER_S);
}

static void each_counter_has_a_name_of_its_own(void **state)
{
	(void) state;
	for (int c = 0; c < METRICS_COUNTERS; c++) {
		const char *const name = metrics_counter_name((enum metrics_counter) c);

		assert_non_null(name);
		assert_string_not_equal(name, "unknown");
		/* As the value of a label it needs no escaping. */
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
		for (int other = 0; other < c; other++)
			assert_string_not_equal(name,
				metrics_counter_name((enum metrics_counter) other));
	}
	assert_string_equal(metrics_counter_name(METRICS_COUNTERS), "unknown");
	assert_string_equal(metrics_counter_name((enum metrics_counter) -1), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(stripes_are_summed_and_masked, clear),
		cmocka_unit_test_setup(a_bound_belongs_to_the_bucket_below, clear),
		cmocka_unit_test_setup(many_writers_lose_nothing, clear),
		cmocka_unit_test_setup(each_counter_has_a_name_of_its_own, clear),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
