/* SPDX-License-Identifier: Apache-2.0 */
/* Interleaved rounds, their median, and a table of bars. */
#include "tests/bench/measure.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX 8

/*
 * Ranks of the interval around the median of 21: fewer than 6 of them fall below the true
 * median with a probability of 1.3 %, and so above it (binomial, no assumption on noise).
 */
#define RANK_LOW  5
#define RANK_HIGH 15

struct runner {
	measure_fn *run;
	void *arg;
	uint64_t calls;
	int cpu;
	pthread_barrier_t *start;
	double ns; /* a call */
};

static double thread_ns(void)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

unsigned measure_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned) CPU_COUNT(&set) : 1;
}

/* The @nth CPU that this process may use, or -1. */
static int nth_cpu(unsigned nth)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return -1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && nth-- == 0)
			return cpu;
	return -1;
}

static void *runner_thread(void *arg)
{
	struct runner *r = arg;

	if (r->cpu >= 0) {
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET(r->cpu, &one);
		(void) pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
	}
	r->run(r->arg, r->calls / 16 + 1); /* warms caches */
	(void) pthread_barrier_wait(r->start);

	const double before = thread_ns();

	r->run(r->arg, r->calls);
	r->ns = (thread_ns() - before) / (double) r->calls;
	return NULL;
}

static double one_round(measure_fn *run, void *const *args, unsigned threads, uint64_t calls)
{
	struct runner runners[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	pthread_barrier_t start;
	double total = 0;

	(void) pthread_barrier_init(&start, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		runners[i] = (struct runner) {
			.run = run,
			.arg = args[i],
			.calls = calls,
			.cpu = nth_cpu(i),
			.start = &start,
		};
		const int err = pthread_create(&ids[i], NULL, runner_thread, &runners[i]);

		if (err != 0) {
			fprintf(stderr, "bench: no thread: %s\n", strerror(err));
			exit(1);
		}
	}
	for (unsigned i = 0; i < threads; i++) {
		(void) pthread_join(ids[i], NULL);
		total += runners[i].ns;
	}
	(void) pthread_barrier_destroy(&start);
	return total / threads;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

struct measure measure_run(measure_fn *bare, measure_fn *with, void *const *args,
			   unsigned threads, uint64_t calls)
{
	double costs[MEASURE_ROUNDS];

	for (unsigned i = 0; i < MEASURE_ROUNDS; i++) {
		const double without = one_round(bare, args, threads, calls);

		costs[i] = one_round(with, args, threads, calls) - without;
	}
	qsort(costs, MEASURE_ROUNDS, sizeof(costs[0]), compare);
	return (struct measure) {
		.median = costs[MEASURE_ROUNDS / 2],
		.low = costs[RANK_LOW],
		.high = costs[RANK_HIGH],
	};
}

void measure_head(void)
{
	printf("%-44s %9s %19s %7s\n", "ns a call, bare loop taken off", "median",
	       "97 % interval", "bar");
}

void measure_print(const char *what, const struct measure *m, double bar)
{
	printf("%-44s %9.1f %8.1f .. %7.1f", what, m->median, m->low, m->high);
	if (bar > 0)
		printf(" %7.0f  %s", bar, m->median <= bar ? "held" : "MISSED");
	putchar('\n');
	(void) fflush(stdout);
}
