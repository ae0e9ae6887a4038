/* SPDX-License-Identifier: Apache-2.0 */
/* Sixty-four threads on one breaker: exact quota, one event a transition, exact totals. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/breaker.h"
#include "core/clock.h"

#define THREADS 64
#define START   (100000 * NS_PER_S)
#define TIMEOUT (30 * NS_PER_S)

/* The last resort, should a loop never end. */
#define LIMIT_S 120

#define EVENTS_MAX (1 << 20)

static struct breaker breaker;
static struct policy policy;
static struct breaker_change *events; /* EVENTS_MAX of them */
static _Atomic uint32_t n_events;

static void keep_event(void *arg, const struct breaker_change *change)
{
	const uint32_t at = atomic_fetch_add_explicit(&n_events, 1, memory_order_relaxed);

	(void) arg;
	if (at < EVENTS_MAX)
		events[at] = *change;
}

static const struct breaker_watch watch = { .on_change = keep_event };

static int reset(void **state)
{
	(void) state;
	if (events == NULL)
		events = malloc(EVENTS_MAX * sizeof(*events));
	if (events == NULL)
		return -1;
	(void) alarm(LIMIT_S);
	n_events = 0;
	policy = policy_gobreaker();
	policy.timeout_ns = TIMEOUT;
	policy_complete(&policy);
	memset(&breaker, 0, sizeof(breaker));
	breaker_init(&breaker, START);
	return 0;
}

static void run_threads(void *(*body)(void *), void *args, size_t size)
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, body,
						(char *) args + i * size), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* --- the quota of one half-open generation, taken by all at once --- */

#define QUOTA_ROUNDS 400

struct prober {
	pthread_barrier_t *barrier;
	unsigned admitted[QUOTA_ROUNDS];
};

static uint64_t probe_time(unsigned round)
{
	return START + (round + 1) * 2 * TIMEOUT;
}

static uint32_t quota_in(unsigned round)
{
	return 1 + round * 7 % (THREADS + 3);
}

/* One thread a round is told to: brings the breaker back to open in time for the next. */
static void reopen(unsigned round)
{
	struct policy p = policy;
	struct breaker_ticket ticket;

	/* Ends what the round before left half-open: its probes are lost by then. */
	p.consecutive_failures = 1;
	p.probe_timeout_ns = 1;
	p.max_requests = 1;
	(void) breaker_admit(&breaker, &p, probe_time(round) - TIMEOUT - 1, NULL, &ticket);
	(void) breaker_settle(&breaker, &p, &ticket, BREAKER_FAILURE,
			      probe_time(round) - TIMEOUT - 1, NULL);
}

static void *probe_quota(void *arg)
{
	struct prober *prober = arg;

	for (unsigned round = 0; round < QUOTA_ROUNDS; round++) {
		struct policy p = policy;
		struct breaker_ticket ticket;

		p.max_requests = quota_in(round);
		if (pthread_barrier_wait(prober->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			reopen(round);
		(void) pthread_barrier_wait(prober->barrier);
		prober->admitted[round] = breaker_admit(&breaker, &p, probe_time(round), &watch,
							&ticket) == BREAKER_ADMITTED;
	}
	return NULL;
}

static void half_open_admits_exactly_its_quota(void **state)
{
	struct prober *probers = calloc(THREADS, sizeof(*probers));
	pthread_barrier_t barrier;

	(void) state;
	assert_non_null(probers);
	(void) pthread_barrier_init(&barrier, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		probers[i].barrier = &barrier;
	run_threads(probe_quota, probers, sizeof(*probers));
	for (unsigned round = 0; round < QUOTA_ROUNDS; round++) {
		const unsigned quota = quota_in(round);
		unsigned admitted = 0;

		for (unsigned i = 0; i < THREADS; i++)
			admitted += probers[i].admitted[round];
		assert_int_equal(admitted, quota < THREADS ? quota : THREADS);
	}
	assert_int_equal(n_events, QUOTA_ROUNDS); /* one thread each turned it half-open */
	(void) pthread_barrier_destroy(&barrier);
	free(probers);
}

/* --- a trip that needs every thread's one failure --- */

#define TRIP_ROUNDS 300

static void *fail_once_a_round(void *arg)
{
	pthread_barrier_t *barrier = *(pthread_barrier_t **) arg;

	for (unsigned round = 0; round < TRIP_ROUNDS; round++) {
		struct breaker_ticket ticket;

		if (pthread_barrier_wait(barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			breaker_init(&breaker, START);
		(void) pthread_barrier_wait(barrier);
		if (breaker_admit(&breaker, &policy, START, &watch, &ticket) == BREAKER_ADMITTED)
			(void) breaker_settle(&breaker, &policy, &ticket, BREAKER_FAILURE, START,
					      &watch);
	}
	return NULL;
}

static void the_last_of_n_failures_trips(void **state)
{
	pthread_barrier_t barrier, *args[THREADS];

	(void) state;
	for (unsigned rule = 0; rule < 3; rule++) {
		assert_int_equal(reset(NULL), 0);
		policy.consecutive_failures = rule == 0 ? THREADS : 0;
		policy.total_failures = rule == 1 ? THREADS : 0;
		policy.failure_ratio = rule == 2 ? 1 : 0;
		policy.min_requests = THREADS;
		(void) pthread_barrier_init(&barrier, NULL, THREADS);
		for (unsigned i = 0; i < THREADS; i++)
			args[i] = &barrier;
		run_threads(fail_once_a_round, args, sizeof(args[0]));
		assert_int_equal(n_events, TRIP_ROUNDS);
		for (unsigned i = 0; i < TRIP_ROUNDS; i++)
			assert_int_equal(events[i].counts.failures, THREADS);
		(void) pthread_barrier_destroy(&barrier);
	}
}

/* --- everything at once --- */

#define CALLS    20000
#define PENDING  4 /* tickets that a thread holds at a time */

/*
 * Short: a thread that is preempted with its clock in hand may lag by all that the others
 * advance meanwhile, and an hour of that is noise to the breaker.
 */
#define SHORT_TIMEOUT (100 * NS_PER_MS)
#define MAX_REQUESTS 5

struct caller {
	uint64_t seed;
	uint64_t admitted, refused;
	uint64_t counted[3], stale; /* by outcome */
	uint64_t *probes;           /* generations of half-open admissions */
	uint64_t *freed;            /* ... of those that were excluded */
	size_t n_probes, n_freed;
};

static _Atomic uint64_t now_shared;

static uint64_t random_word(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* The layout of a ticket is the breaker's own affair; a test may look. */
static bool of_half_open(uint64_t generation)
{
	return (generation & 3) == BREAKER_HALF_OPEN;
}

static void caller_settle(struct caller *c, struct breaker_ticket *ticket, uint64_t now)
{
	static const enum breaker_outcome outcomes[8] = {
		BREAKER_FAILURE, BREAKER_FAILURE, BREAKER_EXCLUDED,
	}; /* else BREAKER_SUCCESS */
	const uint64_t generation = ticket->generation;
	const enum breaker_outcome outcome = outcomes[random_word(&c->seed) >> 20 & 7];

	if (!breaker_settle(&breaker, &policy, ticket, outcome, now, &watch)) {
		c->stale++;
		return;
	}
	c->counted[outcome]++;
	if (outcome == BREAKER_EXCLUDED && of_half_open(generation))
		c->freed[c->n_freed++] = generation;
}

static void *call_at_random(void *arg)
{
	struct caller *c = arg;
	struct breaker_ticket pending[PENDING] = { 0 };

	for (unsigned i = 0; i < CALLS; i++) {
		const uint64_t dice = random_word(&c->seed);
		const uint64_t now = atomic_load_explicit(&now_shared, memory_order_relaxed);
		struct breaker_ticket *ticket = &pending[dice >> 10 & (PENDING - 1)];

		if (dice % 64 == 0)
			atomic_fetch_add_explicit(&now_shared, (dice >> 16) % SHORT_TIMEOUT,
						  memory_order_relaxed);
		if (ticket->generation != 0)
			caller_settle(c, ticket, now);
		if (breaker_admit(&breaker, &policy, now, &watch, ticket) != BREAKER_ADMITTED) {
			c->refused++;
			continue;
		}
		c->admitted++;
		if (of_half_open(ticket->generation))
			c->probes[c->n_probes++] = ticket->generation;
	}
	for (unsigned i = 0; i < PENDING; i++)
		if (pending[i].generation != 0)
			caller_settle(c, &pending[i], atomic_load(&now_shared));
	return NULL;
}

static int compare_words(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

static size_t how_many(const uint64_t *sorted, size_t n, uint64_t word)
{
	size_t many = 0;

	for (size_t low = 0, high = n; low < high;) {
		const size_t middle = low + (high - low) / 2;

		if (sorted[middle] < word)
			low = middle + 1;
		else
			high = middle;
		if (low == high)
			for (; low + many < n && sorted[low + many] == word; many++)
				;
	}
	return many;
}

/* Of each half-open generation: admissions less exclusions stay within the quota. */
static void check_quotas(struct caller *callers)
{
	uint64_t *probes = malloc(THREADS * CALLS * sizeof(*probes));
	uint64_t *freed = malloc(THREADS * CALLS * sizeof(*freed));
	size_t n_probes = 0, n_freed = 0;

	assert_true(probes != NULL && freed != NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		memcpy(probes + n_probes, callers[i].probes, callers[i].n_probes * 8);
		n_probes += callers[i].n_probes;
		memcpy(freed + n_freed, callers[i].freed, callers[i].n_freed * 8);
		n_freed += callers[i].n_freed;
	}
	qsort(probes, n_probes, 8, compare_words);
	qsort(freed, n_freed, 8, compare_words);
	assert_true(n_probes > 1000); /* else the test proves nothing */
	for (size_t i = 0; i < n_probes;) {
		const size_t taken = how_many(probes, n_probes, probes[i]);

		assert_true(taken <= MAX_REQUESTS + how_many(freed, n_freed, probes[i]));
		i += taken;
	}
	free(probes);
	free(freed);
}

static void check_totals(const struct caller *callers)
{
	struct caller sum = { 0 };

	for (unsigned i = 0; i < THREADS; i++) {
		sum.admitted += callers[i].admitted;
		sum.refused += callers[i].refused;
		sum.stale += callers[i].stale;
		for (int k = 0; k < 3; k++)
			sum.counted[k] += callers[i].counted[k];
	}

	const struct breaker_totals totals = breaker_totals(&breaker);

	print_message("# %llu admitted, %llu refused, %llu stale, %u events\n",
		      (unsigned long long) sum.admitted, (unsigned long long) sum.refused,
		      (unsigned long long) sum.stale, (unsigned) n_events);
	assert_int_equal(totals.successes, sum.counted[BREAKER_SUCCESS]);
	assert_int_equal(totals.failures, sum.counted[BREAKER_FAILURE]);
	assert_int_equal(totals.exclusions, sum.counted[BREAKER_EXCLUDED]);
	assert_int_equal(totals.stale, sum.stale);
	assert_int_equal(totals.refused, sum.refused);
	assert_int_equal(totals.successes + totals.failures + totals.exclusions + totals.stale,
			 sum.admitted);
}

static int compare_events(const void *a, const void *b)
{
	const struct breaker_change *x = a, *y = b;

	if (x->generation != y->generation)
		return x->generation < y->generation ? -1 : 1;
	/* Within one instant half-open comes first, then closed, then open. */
	static const int rank[] = { [BREAKER_HALF_OPEN] = 0, [BREAKER_CLOSED] = 1,
				    [BREAKER_OPEN] = 2 };
	return rank[x->to] - rank[y->to];
}

/* In order of their generations the events lead from one to the next: none lost, none twice. */
static void check_events(void)
{
	enum breaker_state state = BREAKER_CLOSED;

	assert_in_range(n_events, 1000, EVENTS_MAX);
	qsort(events, n_events, sizeof(*events), compare_events);
	for (uint32_t i = 0; i < n_events; i++) {
		const struct breaker_change *e = &events[i];

		assert_int_equal(e->from, state);
		state = e->to;
		assert_false(i > 0 && compare_events(e, e - 1) == 0);
		if (e->reason == BREAKER_REASON_PROBES_SUCCEEDED)
			assert_true(e->counts.successes >= MAX_REQUESTS);
		if (e->reason == BREAKER_REASON_CONSECUTIVE_FAILURES)
			assert_true(e->counts.failures >= policy.consecutive_failures);
		if (e->reason == BREAKER_REASON_PROBE_FAILED)
			assert_true(e->counts.failures >= 1);
	}
	assert_int_equal(state, breaker_peek(&breaker, NULL, NULL));
}

static void totals_and_events_are_exact(void **state)
{
	struct caller *callers = calloc(THREADS, sizeof(*callers));

	(void) state;
	assert_non_null(callers);
	policy.max_requests = MAX_REQUESTS;
	policy.consecutive_failures = 3;
	policy.timeout_ns = policy.probe_timeout_ns = SHORT_TIMEOUT;
	policy.interval_ns = 2 * SHORT_TIMEOUT;
	now_shared = START;
	for (unsigned i = 0; i < THREADS; i++) {
		callers[i].seed = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		callers[i].probes = malloc(CALLS * sizeof(uint64_t));
		callers[i].freed = malloc(CALLS * sizeof(uint64_t));
		assert_true(callers[i].probes != NULL && callers[i].freed != NULL);
	}
	run_threads(call_at_random, callers, sizeof(*callers));
	check_totals(callers);
	check_quotas(callers);
	check_events();
	for (unsigned i = 0; i < THREADS; i++) {
		free(callers[i].probes);
		free(callers[i].freed);
	}
	free(callers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(half_open_admits_exactly_its_quota, reset),
		cmocka_unit_test_setup(the_last_of_n_failures_trips, reset),
		cmocka_unit_test_setup(totals_and_events_are_exact, reset),
	};

	return cmocka_run_group_tests_name("breaker race", tests, NULL, NULL);
}
