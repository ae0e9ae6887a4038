/* SPDX-License-Identifier: Apache-2.0 */
/* The breaker from inside: transitions, events, skewed clocks, noise in shared memory. */
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

#define START   (100000 * NS_PER_S)
#define TIMEOUT (30 * NS_PER_S)
#define LEASE   (20 * NS_PER_S)
#define HOUR    (3600 * NS_PER_S)

/* The greatest instant that breaker.h allows. */
#define LAST_INSTANT (UINT64_MAX >> 2)

struct told {
	unsigned n;
	struct breaker_change last;
};

struct fixture {
	struct breaker b;
	struct policy p;
	struct told told;
	struct breaker_watch watch;
};

static void tell(void *arg, const struct breaker_change *change)
{
	struct told *told = arg;

	told->n++;
	told->last = *change;
}

/* Two probes, an interval of a minute, trips at the third failure in a row. */
static struct fixture *fixture_reset(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->p = (struct policy) {
		.interval_ns = 60 * NS_PER_S,
		.timeout_ns = TIMEOUT,
		.probe_timeout_ns = LEASE,
		.max_requests = 2,
		.consecutive_failures = 3,
	};
	policy_complete(&f->p);
	f->watch = (struct breaker_watch) { .on_change = tell, .arg = &f->told };
	breaker_init(&f->b, START);
	return f;
}

static int setup(void **state)
{
	struct fixture *f = aligned_alloc(_Alignof(struct fixture), sizeof(*f));

	if (f == NULL)
		return -1;
	*state = fixture_reset(f);
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static enum breaker_verdict admit(struct fixture *f, uint64_t now, struct breaker_ticket *t)
{
	return breaker_admit(&f->b, &f->p, now, &f->watch, t);
}

static bool settle(struct fixture *f, uint64_t now, struct breaker_ticket *t,
		   enum breaker_outcome outcome)
{
	return breaker_settle(&f->b, &f->p, t, outcome, now, &f->watch);
}

static enum breaker_verdict call(struct fixture *f, uint64_t now, enum breaker_outcome outcome)
{
	struct breaker_ticket ticket;
	const enum breaker_verdict verdict = admit(f, now, &ticket);

	if (verdict == BREAKER_ADMITTED)
		assert_true(settle(f, now, &ticket, outcome));
	return verdict;
}

static void fail_times(struct fixture *f, uint64_t now, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		assert_int_equal(call(f, now, BREAKER_FAILURE), BREAKER_ADMITTED);
}

/* Brings a fresh breaker into @state at @now, which must be later than START + TIMEOUT. */
static void bring_to(struct fixture *f, enum breaker_state state, uint64_t now)
{
	fixture_reset(f);
	if (state == BREAKER_OPEN)
		fail_times(f, now, 3);
	if (state == BREAKER_HALF_OPEN) {
		fail_times(f, now - TIMEOUT - 1, 3);
		assert_int_equal(breaker_state(&f->b, &f->p, now, NULL), state);
	}
	if (state == BREAKER_CLOSED)
		breaker_init(&f->b, now);
	f->told.n = 0;
	assert_int_equal(breaker_peek(&f->b, NULL, NULL), state);
}

static enum breaker_state peek(const struct fixture *f)
{
	return breaker_peek(&f->b, NULL, NULL);
}

#define NOBODY BREAKER_REASON_NONE

static const struct {
	const char *name;
	enum breaker_state from;
	enum breaker_outcome outcome;
	unsigned calls;
	uint64_t later; /* after the state was entered */
	enum breaker_state to;
	enum breaker_reason reason;
	unsigned told;
} transitions[] = {
	{ "closed stays on success", BREAKER_CLOSED, BREAKER_SUCCESS, 9, 0, BREAKER_CLOSED,
	  NOBODY, 0 },
	{ "closed stays below the rule", BREAKER_CLOSED, BREAKER_FAILURE, 2, 0,
	  BREAKER_CLOSED, NOBODY, 0 },
	{ "closed opens at the rule", BREAKER_CLOSED, BREAKER_FAILURE, 3, 0, BREAKER_OPEN,
	  BREAKER_REASON_CONSECUTIVE_FAILURES, 1 },
	{ "closed stays on exclusions", BREAKER_CLOSED, BREAKER_EXCLUDED, 9, 0,
	  BREAKER_CLOSED, NOBODY, 0 },
	{ "closed renews itself untold", BREAKER_CLOSED, BREAKER_SUCCESS, 1,
	  60 * NS_PER_S + 1, BREAKER_CLOSED, NOBODY, 0 },
	{ "open refuses", BREAKER_OPEN, BREAKER_SUCCESS, 9, 1, BREAKER_OPEN, NOBODY, 0 },
	{ "open refuses at its end", BREAKER_OPEN, BREAKER_SUCCESS, 9, TIMEOUT, BREAKER_OPEN,
	  NOBODY, 0 },
	{ "open lets probes through after it", BREAKER_OPEN, BREAKER_SUCCESS, 1, TIMEOUT + 1,
	  BREAKER_HALF_OPEN, BREAKER_REASON_TIMEOUT_ELAPSED, 1 },
	{ "open closes over half-open", BREAKER_OPEN, BREAKER_SUCCESS, 2, TIMEOUT + 1,
	  BREAKER_CLOSED, BREAKER_REASON_PROBES_SUCCEEDED, 2 },
	{ "open opens over half-open", BREAKER_OPEN, BREAKER_FAILURE, 1, TIMEOUT + 1,
	  BREAKER_OPEN, BREAKER_REASON_PROBE_FAILED, 2 },
	{ "half-open stays below max_requests", BREAKER_HALF_OPEN, BREAKER_SUCCESS, 1, 0,
	  BREAKER_HALF_OPEN, NOBODY, 0 },
	{ "half-open closes at max_requests", BREAKER_HALF_OPEN, BREAKER_SUCCESS, 2, 0,
	  BREAKER_CLOSED, BREAKER_REASON_PROBES_SUCCEEDED, 1 },
	{ "half-open opens at a failure", BREAKER_HALF_OPEN, BREAKER_FAILURE, 1, 0,
	  BREAKER_OPEN, BREAKER_REASON_PROBE_FAILED, 1 },
	{ "half-open stays on exclusions", BREAKER_HALF_OPEN, BREAKER_EXCLUDED, 9, 0,
	  BREAKER_HALF_OPEN, NOBODY, 0 },
	{ "half-open never expires", BREAKER_HALF_OPEN, BREAKER_SUCCESS, 1, 1000 * HOUR,
	  BREAKER_HALF_OPEN, NOBODY, 0 },
};

static void follows_the_table(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++) {
		print_message("# %s\n", transitions[i].name);
		bring_to(f, transitions[i].from, START + HOUR);
		for (unsigned k = 0; k < transitions[i].calls; k++)
			(void) call(f, START + HOUR + transitions[i].later,
				    transitions[i].outcome);
		assert_int_equal(peek(f), transitions[i].to);
		assert_int_equal(f->told.n, transitions[i].told);
		if (f->told.n > 0) {
			assert_int_equal(f->told.last.to, transitions[i].to);
			assert_int_equal(f->told.last.reason, transitions[i].reason);
		}
	}
}

static void tells_each_change_with_the_counts_that_it_ended(void **state)
{
	struct fixture *f = *state;
	const struct breaker_change *last = &f->told.last;

	(void) call(f, START, BREAKER_SUCCESS);
	(void) call(f, START, BREAKER_EXCLUDED);
	fail_times(f, START + 5, 3);
	assert_int_equal(f->told.n, 1);
	assert_int_equal(last->from, BREAKER_CLOSED);
	assert_int_equal(last->to, BREAKER_OPEN);
	assert_int_equal(last->generation, START + 5);
	assert_int_equal(last->counts.requests, 5);
	assert_int_equal(last->counts.successes, 1);
	assert_int_equal(last->counts.failures, 3);
	assert_int_equal(last->counts.exclusions, 1);
	assert_int_equal(last->counts.consecutive_failures, 3);
	assert_int_equal(last->counts.consecutive_successes, 0);

	const uint64_t later = START + 5 + TIMEOUT + 1;

	(void) call(f, later, BREAKER_SUCCESS);
	assert_int_equal(f->told.n, 2);
	assert_int_equal(last->counts.requests, 0);
	(void) call(f, later, BREAKER_SUCCESS);
	assert_int_equal(f->told.n, 3);
	assert_int_equal(last->from, BREAKER_HALF_OPEN);
	assert_int_equal(last->to, BREAKER_CLOSED);
	assert_int_equal(last->counts.requests, 2);
	assert_int_equal(last->counts.successes, 2);
	assert_int_equal(last->counts.consecutive_successes, 2);
}

static void tells_of_a_lost_probe(void **state)
{
	struct fixture *f = *state;
	struct breaker_ticket a, b;

	bring_to(f, BREAKER_HALF_OPEN, START + HOUR);
	assert_int_equal(admit(f, START + HOUR, &a), BREAKER_ADMITTED);
	assert_int_equal(admit(f, START + HOUR + 7, &b), BREAKER_ADMITTED);
	assert_int_equal(call(f, START + HOUR + 7 + LEASE, BREAKER_SUCCESS),
			 BREAKER_REFUSED_TOO_MANY);
	assert_int_equal(f->told.n, 0);
	assert_int_equal(call(f, START + HOUR + 7 + LEASE + 1, BREAKER_SUCCESS),
			 BREAKER_ADMITTED);
	assert_int_equal(f->told.n, 1);
	assert_int_equal(f->told.last.from, BREAKER_HALF_OPEN);
	assert_int_equal(f->told.last.to, BREAKER_HALF_OPEN);
	assert_int_equal(f->told.last.reason, BREAKER_REASON_PROBE_LOST);
	assert_int_equal(f->told.last.counts.requests, 2);
	assert_int_equal(breaker_totals(&f->b).probes_lost, 1);
	assert_false(settle(f, START + HOUR + 7 + LEASE + 1, &a, BREAKER_FAILURE));
	assert_false(settle(f, START + HOUR + 7 + LEASE + 1, &b, BREAKER_SUCCESS));
	assert_int_equal(breaker_totals(&f->b).stale, 2);
}

/* Of any number of generations, those that have ended too. */
static void admissions_are_told_apart_by_state(void **state)
{
	struct fixture *f = *state;
	uint64_t now = START;

	for (unsigned round = 0; round < 3; round++) {
		now += HOUR; /* a fresh interval, then a trip, a probe that fails, two that do not */
		assert_int_equal(call(f, now, BREAKER_SUCCESS), BREAKER_ADMITTED);
		assert_int_equal(call(f, now, BREAKER_EXCLUDED), BREAKER_ADMITTED);
		fail_times(f, now, 3);
		assert_int_equal(call(f, now, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
		now += HOUR;
		fail_times(f, now, 1);
		now += HOUR;
		assert_int_equal(call(f, now, BREAKER_SUCCESS), BREAKER_ADMITTED);
		assert_int_equal(call(f, now, BREAKER_SUCCESS), BREAKER_ADMITTED);
		assert_int_equal(peek(f), BREAKER_CLOSED);
	}

	const struct breaker_totals t = breaker_totals(&f->b);

	assert_int_equal(t.admitted, 3 * (5 + 1 + 2));
	assert_int_equal(t.probes, 3 * (1 + 2));
	assert_int_equal(t.successes, 3 * (1 + 2));
	assert_int_equal(t.failures, 3 * (3 + 1));
	assert_int_equal(t.exclusions, 3);
	assert_int_equal(t.refused, 3);
	breaker_init(&f->b, now);
	assert_int_equal(breaker_totals(&f->b).admitted, 0);
	assert_int_equal(breaker_totals(&f->b).probes, 0);
}

/* gobreaker calls back under its mutex, so that this deadlocks there. */
static void call_back(void *arg, const struct breaker_change *change)
{
	struct fixture *f = arg;
	struct breaker_ticket ticket;

	f->told.n++;
	assert_int_equal(breaker_peek(&f->b, NULL, NULL), change->to);
	assert_int_equal(breaker_state(&f->b, &f->p, START, &f->watch), change->to);
	assert_int_equal(admit(f, START, &ticket), BREAKER_REFUSED_OPEN);
}

static void on_change_may_call_the_breaker(void **state)
{
	struct fixture *f = *state;

	f->watch = (struct breaker_watch) { .on_change = call_back, .arg = f };
	fail_times(f, START, 3);
	assert_int_equal(f->told.n, 1);
}

static void on_change_is_optional(void **state)
{
	struct fixture *f = *state;

	f->watch.on_change = NULL;
	fail_times(f, START, 3);
	assert_int_equal(breaker_state(&f->b, &f->p, START + TIMEOUT + 1, NULL),
			 BREAKER_HALF_OPEN);
}

static const struct {
	const char *name;
	uint32_t consecutive, total, min_requests;
	double ratio;
	unsigned successes, failures; /* in this order; the last failure is expected to trip */
	enum breaker_reason reason;
} rules[] = {
	{ "in a row", 2, 0, 0, 0, 4, 2, BREAKER_REASON_CONSECUTIVE_FAILURES },
	{ "in all", 0, 4, 0, 0, 100, 4, BREAKER_REASON_TOTAL_FAILURES },
	{ "in all, at the first", 0, 1, 0, 0, 0, 1, BREAKER_REASON_TOTAL_FAILURES },
	{ "half of them", 0, 0, 0, 0.5, 3, 3, BREAKER_REASON_FAILURE_RATIO },
	{ "any at all", 0, 0, 0, 0.01, 20, 1, BREAKER_REASON_FAILURE_RATIO },
	{ "every one of five", 0, 0, 5, 1, 0, 5, BREAKER_REASON_FAILURE_RATIO },
	{ "minimum volume", 0, 0, 10, 0.1, 0, 10, BREAKER_REASON_FAILURE_RATIO },
	{ "runs are asked first", 3, 3, 0, 0.5, 3, 3, BREAKER_REASON_CONSECUTIVE_FAILURES },
	{ "then totals", 0, 3, 0, 0.5, 3, 3, BREAKER_REASON_TOTAL_FAILURES },
};

static void each_rule_trips_at_its_failure(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		print_message("# %s\n", rules[i].name);
		fixture_reset(f);
		f->p.consecutive_failures = rules[i].consecutive;
		f->p.total_failures = rules[i].total;
		f->p.failure_ratio = rules[i].ratio;
		f->p.min_requests = rules[i].min_requests;
		for (unsigned k = 0; k < rules[i].successes; k++)
			(void) call(f, START, BREAKER_SUCCESS);
		fail_times(f, START, rules[i].failures - 1);
		assert_int_equal(peek(f), BREAKER_CLOSED);
		fail_times(f, START, 1);
		assert_int_equal(peek(f), BREAKER_OPEN);
		assert_int_equal(f->told.n, 1);
		assert_int_equal(f->told.last.reason, rules[i].reason);
	}
}

static void without_a_rule_nothing_trips(void **state)
{
	struct fixture *f = *state;

	f->p.consecutive_failures = 0;
	fail_times(f, START, 100000);
	assert_int_equal(peek(f), BREAKER_CLOSED);
	assert_int_equal(f->told.n, 0);
}

static void a_ticket_settles_once(void **state)
{
	struct fixture *f = *state;
	struct breaker_ticket ticket = { 0 };
	struct breaker_counts counts;

	assert_false(settle(f, START, &ticket, BREAKER_FAILURE));
	assert_int_equal(admit(f, START, &ticket), BREAKER_ADMITTED);
	assert_true(settle(f, START, &ticket, BREAKER_FAILURE));
	assert_false(settle(f, START, &ticket, BREAKER_FAILURE));
	(void) breaker_peek(&f->b, NULL, &counts);
	assert_int_equal(counts.requests, 1);
	assert_int_equal(counts.failures, 1);
	assert_int_equal(breaker_totals(&f->b).stale, 0);
}

static void a_refusal_leaves_the_ticket_alone(void **state)
{
	struct fixture *f = *state;
	struct breaker_ticket ticket = { 42 };

	fail_times(f, START, 3);
	assert_int_equal(admit(f, START, &ticket), BREAKER_REFUSED_OPEN);
	assert_int_equal(ticket.generation, 42);
	assert_int_equal(breaker_totals(&f->b).refused, 1);
}

static void a_lagging_clock_moves_nothing_early(void **state)
{
	struct fixture *f = *state;
	const uint64_t now = START + HOUR;

	print_message("# an open breaker stays open for a thread that lags\n");
	bring_to(f, BREAKER_OPEN, now);
	assert_int_equal(call(f, now - 2 * TIMEOUT, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
	assert_int_equal(f->told.n, 0);

	print_message("# a lagging thread's trip takes the whole timeout\n");
	bring_to(f, BREAKER_CLOSED, now);
	fail_times(f, now - 5 * NS_PER_S, 3);
	assert_int_equal(f->told.last.generation, now);
	assert_int_equal(breaker_state(&f->b, &f->p, now + TIMEOUT, NULL), BREAKER_OPEN);
	assert_int_equal(breaker_state(&f->b, &f->p, now + TIMEOUT + 1, NULL),
			 BREAKER_HALF_OPEN);

	print_message("# counts of an interval are shared by those who lag\n");
	bring_to(f, BREAKER_CLOSED, now);
	fail_times(f, now - 70 * NS_PER_S, 2);
	fail_times(f, now, 1);
	assert_int_equal(peek(f), BREAKER_OPEN);
}

static void a_lagging_probe_does_not_shorten_the_lease(void **state)
{
	struct fixture *f = *state;
	const uint64_t now = START + HOUR;
	struct breaker_ticket a, b;

	bring_to(f, BREAKER_HALF_OPEN, now);
	assert_int_equal(admit(f, now + 10 * NS_PER_S, &a), BREAKER_ADMITTED);
	assert_int_equal(admit(f, now + 1 * NS_PER_S, &b), BREAKER_ADMITTED);
	assert_int_equal(call(f, now + 10 * NS_PER_S + LEASE, BREAKER_SUCCESS),
			 BREAKER_REFUSED_TOO_MANY);
	assert_true(settle(f, now + 10 * NS_PER_S + LEASE, &a, BREAKER_SUCCESS));
	assert_true(settle(f, now + 10 * NS_PER_S + LEASE, &b, BREAKER_SUCCESS));
	assert_int_equal(peek(f), BREAKER_CLOSED);
}

/* A thread may be stopped (SIGSTOP, a frozen container) between its clock and the breaker. */
static void a_thread_stopped_for_minutes_is_no_noise(void **state)
{
	struct fixture *f = *state;
	const uint64_t now = START + 2 * HOUR;

	bring_to(f, BREAKER_OPEN, now);
	assert_int_equal(call(f, now - HOUR, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
	assert_int_equal(f->told.n, 0);
}

static void huge_settings_mean_for_ever(void **state)
{
	struct fixture *f = *state;

	f->p.timeout_ns = f->p.interval_ns = f->p.probe_timeout_ns = UINT64_MAX;
	f->p.consecutive_failures = f->p.min_requests = f->p.total_failures = UINT32_MAX;
	fail_times(f, START, 10);
	(void) call(f, LAST_INSTANT - 1, BREAKER_SUCCESS);
	assert_int_equal(peek(f), BREAKER_CLOSED);
	f->p.consecutive_failures = 1;
	fail_times(f, LAST_INSTANT - 1, 1);
	assert_int_equal(call(f, LAST_INSTANT, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
}

static void the_last_instant_is_survived(void **state)
{
	struct fixture *f = *state;

	breaker_init(&f->b, LAST_INSTANT - TIMEOUT - 1);
	fail_times(f, LAST_INSTANT - TIMEOUT - 1, 3);
	assert_int_equal(call(f, LAST_INSTANT - 1, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
	assert_int_equal(call(f, LAST_INSTANT, BREAKER_SUCCESS), BREAKER_ADMITTED);
	assert_int_equal(call(f, LAST_INSTANT, BREAKER_SUCCESS), BREAKER_ADMITTED);
	assert_int_equal(peek(f), BREAKER_CLOSED);
	fail_times(f, LAST_INSTANT, 3);
	assert_int_equal(peek(f), BREAKER_OPEN);
}

static void zeroed_memory_is_a_closed_breaker(void **state)
{
	struct fixture *f = *state;

	memset(&f->b, 0, sizeof(f->b));
	f->p.interval_ns = 0;
	fail_times(f, START, 3);
	assert_int_equal(peek(f), BREAKER_OPEN);
	assert_int_equal(call(f, START, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
}

static uint64_t random_word(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/*
 * Calls once a second, successfully where it may. True when the breaker closes within what
 * the furthest believable anchor, a timeout and a lease add up to.
 */
static bool recovers(struct fixture *f, uint64_t *now)
{
	const uint64_t end = *now + HOUR + TIMEOUT + LEASE + 2 * NS_PER_S;

	for (; *now < end; *now += NS_PER_S) {
		struct breaker_ticket ticket;

		if (breaker_state(&f->b, &f->p, *now, &f->watch) == BREAKER_CLOSED)
			return true;
		for (unsigned i = 0; i <= f->p.max_requests; i++)
			if (admit(f, *now, &ticket) == BREAKER_ADMITTED)
				(void) settle(f, *now, &ticket, BREAKER_SUCCESS);
	}
	return false;
}

/* Whatever stood in the memory before, from here on it is a breaker. */
static void works_from_now_on(struct fixture *f, uint64_t now)
{
	const struct breaker_totals before = breaker_totals(&f->b);
	struct breaker_counts counts;

	assert_true(recovers(f, &now));
	assert_int_equal(breaker_peek(&f->b, NULL, &counts), BREAKER_CLOSED);
	assert_true(counts.consecutive_successes <= counts.successes);

	now += 2 * HOUR; /* a fresh interval, beyond anything that noise can have dated */
	(void) call(f, now, BREAKER_SUCCESS);
	(void) breaker_peek(&f->b, NULL, &counts);
	assert_int_equal(counts.requests, 1);
	assert_int_equal(counts.successes, 1);
	fail_times(f, now, 3);
	assert_int_equal(peek(f), BREAKER_OPEN);
	assert_int_equal(call(f, now + TIMEOUT, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
	assert_int_equal(call(f, now + TIMEOUT + 1, BREAKER_SUCCESS), BREAKER_ADMITTED);
	assert_int_equal(call(f, now + TIMEOUT + 1, BREAKER_SUCCESS), BREAKER_ADMITTED);
	assert_int_equal(peek(f), BREAKER_CLOSED);

	const struct breaker_totals after = breaker_totals(&f->b);

	assert_true(after.failures - before.failures >= 3);
	assert_true(after.failures - before.failures <= UINT32_MAX);
	assert_true(after.successes - before.successes >= 3);
	assert_true(after.successes - before.successes <= UINT32_MAX);
}

static void noise_heals(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = 1;

	(void) alarm(60); /* a loop for ever is what this test is for */
	for (unsigned round = 0; round < 10000; round++) {
		uint64_t words[sizeof(f->b) / 8];

		fixture_reset(f);
		for (size_t i = 0; i < sizeof(words) / 8; i++)
			words[i] = random_word(&seed);
		/* Every second time an anchor near the present, which is believed. */
		if (round % 2 == 1)
			words[0] = (START + random_word(&seed) % (2 * HOUR)) << 2 | words[0] >> 62;
		memcpy(&f->b, words, sizeof(words));
		works_from_now_on(f, START + HOUR);
	}
	(void) alarm(0);
}

/* One word at a time, with the values that arithmetic likes least, in every state. */
static void noise_in_each_word_heals(void **state)
{
	static const uint64_t values[] = { 0, 1, 3, UINT64_MAX, UINT64_MAX - 3, 1ull << 63,
					   UINT32_MAX, UINT64_C(0xfffff) };
	struct fixture *f = *state;

	(void) alarm(60);
	for (size_t at = 0; at < sizeof(f->b) / 8; at++) {
		for (size_t v = 0; v < sizeof(values) / 8; v++) {
			for (int from = 0; from < BREAKER_STATES; from++) {
				struct breaker_ticket ticket = { 0 };

				bring_to(f, (enum breaker_state) from, START + HOUR);
				(void) admit(f, START + HOUR, &ticket);
				memcpy((char *) &f->b + 8 * at, &values[v], 8);
				(void) settle(f, START + HOUR, &ticket, BREAKER_SUCCESS);
				works_from_now_on(f, START + HOUR);
			}
		}
	}
	(void) alarm(0);
}

static void a_result_is_counted_or_stale_never_both(void **state)
{
	static const enum breaker_outcome outcomes[] = { BREAKER_SUCCESS, BREAKER_FAILURE,
							 BREAKER_EXCLUDED };
	struct fixture *f = *state;

	for (size_t i = 0; i < 3; i++) {
		struct breaker_ticket ticket;

		bring_to(f, BREAKER_HALF_OPEN, START + HOUR);
		const struct breaker_totals before = breaker_totals(&f->b);

		assert_int_equal(admit(f, START + HOUR, &ticket), BREAKER_ADMITTED);
		/* As when a later generation has taken the word over meanwhile. */
		atomic_store(&f->b.quota, 0);
		(void) settle(f, START + HOUR, &ticket, outcomes[i]);
		const struct breaker_totals t = breaker_totals(&f->b);

		assert_int_equal(t.successes + t.failures + t.exclusions + t.stale,
				 before.successes + before.failures + before.exclusions + 1);
	}
}

static void peek_reads_a_copy(void **state)
{
	struct fixture *f = *state;
	struct fixture *copy = NULL;
	struct breaker_counts counts;
	uint64_t since, seed = 7;

	(void) call(f, START, BREAKER_SUCCESS);
	(void) call(f, START, BREAKER_FAILURE);
	assert_int_equal(setup((void **) &copy), 0);
	memcpy(&copy->b, &f->b, sizeof(f->b));
	fail_times(f, START + 1, 3 - 1);
	assert_int_equal(breaker_peek(&copy->b, &since, &counts), BREAKER_CLOSED);
	assert_int_equal(since, START);
	assert_int_equal(counts.requests, 2);
	assert_int_equal(counts.consecutive_failures, 1);
	assert_int_equal(breaker_peek(&f->b, &since, NULL), BREAKER_OPEN);
	assert_int_equal(since, START + 1);

	for (unsigned round = 0; round < 1000; round++) {
		for (size_t i = 0; i < sizeof(copy->b) / 8; i++) {
			const uint64_t word = random_word(&seed);

			memcpy((char *) &copy->b + 8 * i, &word, 8);
		}
		assert_true(breaker_peek(&copy->b, &since, &counts) < BREAKER_STATES);
		assert_true(counts.consecutive_successes <= counts.successes);
		(void) breaker_totals(&copy->b);
	}
	free(copy);
}

static void totals_outlive_generations(void **state)
{
	struct fixture *f = *state;
	uint64_t now = START;

	for (unsigned i = 0; i < 5000; i++) {
		(void) call(f, now, BREAKER_SUCCESS);
		(void) call(f, now, BREAKER_EXCLUDED);
		fail_times(f, now, 3);
		assert_int_equal(call(f, now, BREAKER_SUCCESS), BREAKER_REFUSED_OPEN);
		now += TIMEOUT + 1;
		(void) call(f, now, BREAKER_SUCCESS);
		(void) call(f, now, BREAKER_SUCCESS);
		now += i % 3 * f->p.interval_ns;
	}

	const struct breaker_totals totals = breaker_totals(&f->b);

	assert_int_equal(totals.successes, 3 * 5000);
	assert_int_equal(totals.failures, 3 * 5000);
	assert_int_equal(totals.exclusions, 5000);
	assert_int_equal(totals.refused, 5000);
	assert_int_equal(totals.stale, 0);
	assert_int_equal(f->told.n, 3 * 5000);
}

static const struct {
	const char *name;
	uint64_t later;
} inits[] = {
	{ "at the same instant", 0 },
	{ "later", NS_PER_S },
	{ "by a lagging clock", -5 * NS_PER_S },
};

static void init_keeps_tickets_of_a_former_owner_stale(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(inits) / sizeof(inits[0]); i++) {
		for (int from = 0; from < BREAKER_STATES; from++) {
			struct breaker_ticket closed, ticket = { 0 };
			struct breaker_counts counts;

			print_message("# %s, from %s\n", inits[i].name,
				      breaker_state_name((enum breaker_state) from));
			fixture_reset(f);
			assert_int_equal(admit(f, START, &closed), BREAKER_ADMITTED);
			if (from != BREAKER_CLOSED)
				fail_times(f, START, 3);
			const uint64_t now = START + TIMEOUT + 1;

			if (from == BREAKER_HALF_OPEN)
				assert_int_equal(admit(f, now, &ticket), BREAKER_ADMITTED);
			breaker_init(&f->b, now + inits[i].later);
			assert_false(settle(f, now, &closed, BREAKER_FAILURE));
			assert_false(settle(f, now, &ticket, BREAKER_FAILURE));
			assert_int_equal(breaker_peek(&f->b, NULL, &counts), BREAKER_CLOSED);
			assert_int_equal(counts.requests + counts.failures, 0);
			assert_int_equal(breaker_totals(&f->b).failures, 0);
		}
	}
}

static void init_over_noise_is_fresh(void **state)
{
	struct fixture *f = *state;
	uint64_t since;

	memset(&f->b, 0xff, sizeof(f->b));
	breaker_init(&f->b, START);
	assert_int_equal(breaker_peek(&f->b, &since, NULL), BREAKER_CLOSED);
	assert_int_equal(since, START);
	fail_times(f, START, 3);
	assert_int_equal(f->told.n, 1);
	assert_int_equal(f->told.last.reason, BREAKER_REASON_CONSECUTIVE_FAILURES);
}

/* Processes that share a breaker may have been started with different settings. */
static void a_changed_quota_does_not_wedge(void **state)
{
	struct fixture *f = *state;
	uint64_t now = START + HOUR;

	print_message("# smaller than what has succeeded already\n");
	bring_to(f, BREAKER_HALF_OPEN, now);
	f->p.max_requests = 5;
	for (unsigned i = 0; i < 3; i++)
		(void) call(f, now, BREAKER_SUCCESS);
	f->p.max_requests = 2;
	assert_true(recovers(f, &now));

	print_message("# larger than what was admitted\n");
	now = START + HOUR;
	bring_to(f, BREAKER_HALF_OPEN, now);
	(void) call(f, now, BREAKER_SUCCESS);
	f->p.max_requests = POLICY_MAX_REQUESTS_MAX;
	assert_true(recovers(f, &now));
}

static void names_are_never_null(void **state)
{
	(void) state;
	for (int i = -1; i < 20; i++) {
		assert_non_null(breaker_state_name((enum breaker_state) i));
		assert_non_null(breaker_reason_name((enum breaker_reason) i));
	}
	assert_string_equal(breaker_state_name(BREAKER_HALF_OPEN), "half-open");
	assert_string_equal(breaker_reason_name(BREAKER_REASON_PROBE_LOST), "probe_lost");
	assert_string_equal(breaker_reason_name((enum breaker_reason) 99), "unknown");
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(follows_the_table),
		STORY(tells_each_change_with_the_counts_that_it_ended),
		STORY(tells_of_a_lost_probe),
		STORY(on_change_may_call_the_breaker),
		STORY(on_change_is_optional),
		STORY(each_rule_trips_at_its_failure),
		STORY(without_a_rule_nothing_trips),
		STORY(a_ticket_settles_once),
		STORY(a_refusal_leaves_the_ticket_alone),
		STORY(a_lagging_clock_moves_nothing_early),
		STORY(a_lagging_probe_does_not_shorten_the_lease),
		STORY(a_thread_stopped_for_minutes_is_no_noise),
		STORY(huge_settings_mean_for_ever),
		STORY(the_last_instant_is_survived),
		STORY(zeroed_memory_is_a_closed_breaker),
		STORY(noise_heals),
		STORY(noise_in_each_word_heals),
		STORY(a_result_is_counted_or_stale_never_both),
		STORY(peek_reads_a_copy),
		STORY(totals_outlive_generations),
		STORY(admissions_are_told_apart_by_state),
		STORY(init_keeps_tickets_of_a_former_owner_stale),
		STORY(init_over_noise_is_fresh),
		STORY(a_changed_quota_does_not_wedge),
		STORY(names_are_never_null),
	};

	return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
