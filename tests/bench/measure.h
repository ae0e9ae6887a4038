/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures what a piece of code costs: rounds of a bare loop and of the same loop with the
 * code in it alternate, so that whatever the machine does meanwhile meets both.
 */
#ifndef TESTS_BENCH_MEASURE_H
#define TESTS_BENCH_MEASURE_H

#include <stdint.h>

/* Odd, so that the median is a round; fewer than 15 leave the interval too wide to tell. */
#define MEASURE_ROUNDS 21

/* Nanoseconds a call, the bare loop's share taken off. */
struct measure {
	double median, low, high; /* the true median lies within, with 97 % confidence */
};

/* One round of @calls calls. */
typedef void measure_fn(void *arg, uint64_t calls);

/*
 * measure_run - what @with costs more than @bare
 * @args:    one for each thread
 * @threads: how many run a round side by side, each on a CPU of its own; their mean counts
 *
 * Time is the thread's own (CLOCK_THREAD_CPUTIME_ID): being preempted costs nothing, a cache
 * line that another thread holds does. Exits with a message when threads cannot be made.
 */
struct measure measure_run(measure_fn *bare, measure_fn *with, void *const *args,
			   unsigned threads, uint64_t calls);

/* How many CPUs this process may use. */
unsigned measure_cpus(void);

/* Prints a row of the table, and whether @bar (0: none) is held. */
void measure_head(void);
void measure_print(const char *what, const struct measure *m, double bar);

#endif
