/* SPDX-License-Identifier: Apache-2.0 */
/* What the breaker costs by itself, against the bars of DESIGN.md section 9. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/breaker.h"
#include "core/clock.h"
#include "tests/bench/measure.h"

#define START (100000 * NS_PER_S)
#define CALLS 200000

static struct breaker breaker;
static struct policy policy;

/* Makes the compiler believe that the ticket matters. */
static inline void keep(struct breaker_ticket *ticket)
{
	__asm__ volatile("" : : "r"(ticket) : "memory");
}

static uint64_t clock_coarse(void)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec;
}

static void bare_loop(void *arg, uint64_t calls)
{
	struct breaker_ticket ticket = { 0 };

	(void) arg;
	for (uint64_t i = 0; i < calls; i++)
		keep(&ticket);
}

static void closed_loop(void *arg, uint64_t calls)
{
	struct breaker_ticket ticket;

	(void) arg;
	for (uint64_t i = 0; i < calls; i++) {
		(void) breaker_admit(&breaker, &policy, START + i, NULL, &ticket);
		keep(&ticket);
		(void) breaker_settle(&breaker, &policy, &ticket, BREAKER_SUCCESS, START + i,
				      NULL);
	}
}

static void closed_clock_loop(void *arg, uint64_t calls)
{
	struct breaker_ticket ticket;

	(void) arg;
	for (uint64_t i = 0; i < calls; i++) {
		(void) breaker_admit(&breaker, &policy, clock_now(), NULL, &ticket);
		keep(&ticket);
		(void) breaker_settle(&breaker, &policy, &ticket, BREAKER_SUCCESS, clock_now(),
				      NULL);
	}
}

static void open_loop(void *arg, uint64_t calls)
{
	struct breaker_ticket ticket;

	(void) arg;
	for (uint64_t i = 0; i < calls; i++) {
		(void) breaker_admit(&breaker, &policy, START + i, NULL, &ticket);
		keep(&ticket);
	}
}

static void open_coarse_loop(void *arg, uint64_t calls)
{
	struct breaker_ticket ticket;

	(void) arg;
	for (uint64_t i = 0; i < calls; i++) {
		(void) breaker_admit(&breaker, &policy, clock_coarse(), NULL, &ticket);
		keep(&ticket);
	}
}

static void make_closed(uint64_t now)
{
	memset(&breaker, 0, sizeof(breaker));
	breaker_init(&breaker, now);
}

static void make_open(uint64_t now)
{
	make_closed(now);
	while (breaker_state(&breaker, &policy, now, NULL) != BREAKER_OPEN) {
		struct breaker_ticket ticket;

		(void) breaker_admit(&breaker, &policy, now, NULL, &ticket);
		(void) breaker_settle(&breaker, &policy, &ticket, BREAKER_FAILURE, now, NULL);
	}
}

static const struct row {
	const char *what;
	void (*make)(uint64_t now);
	measure_fn *loop;
	unsigned threads;
	bool real_clock;
	double bar;
} rows[] = {
	{ "admit + settle, closed", make_closed, closed_loop, 1, false, 30 },
	{ "  each of 2 threads on one breaker", make_closed, closed_loop, 2, false, 50 },
	{ "  with two clock reads", make_closed, closed_clock_loop, 1, true, 100 },
	{ "refusal while open", make_open, open_loop, 1, false, 10 },
	{ "  with a coarse clock read", make_open, open_coarse_loop, 1, true, 25 },
};

int main(void)
{
	void *const args[2] = { NULL, NULL };

	policy = policy_product();
	policy.timeout_ns = 24 * 3600 * NS_PER_S; /* open throughout */
	policy_complete(&policy);
	printf("%u rounds of %d calls, alternating; thread CPU time; %u CPUs\n", MEASURE_ROUNDS,
	       CALLS, measure_cpus());
	measure_head();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		if (row->threads > measure_cpus()) {
			printf("%-44s needs %u CPUs\n", row->what, row->threads);
			continue;
		}
		row->make(row->real_clock ? clock_now() : START);
		const struct measure m =
			measure_run(bare_loop, row->loop, args, row->threads, CALLS);

		measure_print(row->what, &m, row->bar);
	}
	printf("a breaker takes %zu bytes of 1024, and calls nothing that allocates\n",
	       sizeof(struct breaker));
	return 0;
}
