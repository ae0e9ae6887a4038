/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock-free circuit breaker.
 *
 * State and anchor share one word, so nobody sees a state without its deadline. The word is
 * also the name of the generation. It never repeats: anchors never go back, every way round
 * the states leads through open to half-open, and that step, like those from a state to
 * itself, is made strictly after the old anchor. Two states may well begin at one instant;
 * moving the second by a nanosecond would move its deadline. Whatever else belongs to a generation (counts, quota, runs) carries a tag made
 * of that word and counts as zero under any other, so beginning a generation is one
 * compare-exchange and the winner alone speaks of it.
 *
 * The one rule for writing tagged words: a mismatch may be overwritten only after the word
 * has been read again and still names the writer's generation. A writer delayed after that
 * look can at worst plant the tag of an ended generation, which the next one replaces.
 *
 * Orders are acquire and release on `word`, on the quota and where failures add up, relaxed
 * elsewhere: each tagged word is a counter of its own, read by value, and publishes no other
 * memory.
 */
#include "core/breaker.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

#include "core/clock.h"

#define STATE_BITS  2
#define STATE_MASK  UINT64_C(3)
#define ANCHOR_MAX  (UINT64_MAX >> STATE_BITS)

#define QUOTA_BITS  10
#define QUOTA_MASK  UINT64_C(0x3ff)

/*
 * Clocks of one host differ by nothing, threads by their scheduling: one may be stopped for
 * minutes (a debugger, a frozen container) between reading its clock and coming here. An
 * instant further ahead than this was never written by us: somebody filled the memory with
 * noise.
 */
#define AHEAD_MAX_NS (3600 * NS_PER_S)

enum counter { REQUESTS, SUCCESSES, FAILURES, EXCLUSIONS };

/* Where in its stripe a tagged counter goes when its generation has ended. */
static const int folded_as[] = {
	[REQUESTS] = -1, /* the stripe is full: into a word that all stripes share */
	[SUCCESSES] = 0,
	[FAILURES] = 1,
	[EXCLUSIONS] = 2,
};

static const char *const state_names[] = {
	[BREAKER_CLOSED] = "closed",
	[BREAKER_HALF_OPEN] = "half-open",
	[BREAKER_OPEN] = "open",
};

static const char *const reason_names[] = {
	[BREAKER_REASON_NONE] = "none",
	[BREAKER_REASON_CONSECUTIVE_FAILURES] = "consecutive_failures",
	[BREAKER_REASON_FAILURE_RATIO] = "failure_ratio",
	[BREAKER_REASON_TOTAL_FAILURES] = "total_failures",
	[BREAKER_REASON_TIMEOUT_ELAPSED] = "timeout_elapsed",
	[BREAKER_REASON_PROBE_FAILED] = "probe_failed",
	[BREAKER_REASON_PROBES_SUCCEEDED] = "probes_succeeded",
	[BREAKER_REASON_PROBE_LOST] = "probe_lost",
	[BREAKER_REASON_REPAIRED] = "repaired",
};

static uint64_t word_of(enum breaker_state state, uint64_t anchor)
{
	return anchor << STATE_BITS | (uint64_t) state;
}

static enum breaker_state state_of(uint64_t word)
{
	const uint64_t state = word & STATE_MASK;

	/* Shared memory may hold anything; the fourth value of the field means closed. */
	return state < BREAKER_STATES ? (enum breaker_state) state : BREAKER_CLOSED;
}

static uint64_t anchor_of(uint64_t word)
{
	return word >> STATE_BITS;
}

/* Never 0, so that zero-filled memory belongs to no generation. */
static uint64_t tag_of(uint64_t word)
{
	/* Multiplied, lest anchors a round number of nanoseconds apart share low bits. */
	return (word * UINT64_C(0x9e3779b97f4a7c15)) >> 32 | 1;
}

static uint64_t quota_tag_of(uint64_t word)
{
	return (word * UINT64_C(0x9e3779b97f4a7c15)) >> 20 | 1;
}

static uint64_t tagged(uint64_t tag, uint64_t count)
{
	return tag << 32 | count;
}

/* The count in @value if it belongs to the generation of @tag, else 0. */
static uint64_t count_in(uint64_t value, uint64_t tag)
{
	return value >> 32 == tag ? value & UINT32_MAX : 0;
}

static uint64_t sum(const struct breaker *b, enum counter what, uint64_t tag)
{
	uint64_t total = 0;

	for (int i = 0; i < BREAKER_STRIPES; i++)
		total += count_in(atomic_load_explicit(&b->stripes[i].tagged[what],
						       memory_order_relaxed), tag);
	return total;
}

static struct breaker_counts counts_of(const struct breaker *b, uint64_t word)
{
	const uint64_t tag = tag_of(word);
	const uint64_t run = atomic_load_explicit(&b->run, memory_order_relaxed);
	const uint64_t mark = atomic_load_explicit(&b->mark, memory_order_relaxed);
	struct breaker_counts counts = {
		.requests = sum(b, REQUESTS, tag),
		.successes = sum(b, SUCCESSES, tag),
		.failures = sum(b, FAILURES, tag),
		.exclusions = sum(b, EXCLUSIONS, tag),
		.consecutive_failures = count_in(run, tag),
	};

	/* Successes write no run of their own: theirs is what came after the last failure. */
	if (counts.consecutive_failures == 0)
		counts.consecutive_successes = counts.successes
			- (count_in(mark, tag) < counts.successes ? count_in(mark, tag)
								   : counts.successes);
	return counts;
}

/* A line of this CPU's own; whose it is matters for speed alone. */
static struct breaker_stripe *stripe(struct breaker *b)
{
	return &b->stripes[(unsigned) sched_getcpu() % BREAKER_STRIPES];
}

/* Adds what a stripe counted in an ended generation to its total; once a generation. */
static void fold(struct breaker *b, struct breaker_stripe *s, enum counter what, uint64_t n)
{
	_Atomic uint64_t *const total = folded_as[what] < 0 ? &b->requests
							    : &s->folded[folded_as[what]];

	if (n != 0)
		atomic_fetch_add_explicit(total, n, memory_order_relaxed);
}

/*
 * Counts one in the generation of @word. Returns false, nothing counted, when that has ended.
 * Lock-free: retries only when another thread counted in the same stripe.
 */
__attribute__((noinline)) static bool count_in_stripe(struct breaker *b,
						      struct breaker_stripe *s,
						      enum counter what, uint64_t word)
{
	const uint64_t tag = tag_of(word);
	uint64_t seen = atomic_load_explicit(&s->tagged[what], memory_order_relaxed);
	uint64_t next;

	do {
		if (seen >> 32 == tag) {
			next = (seen & UINT32_MAX) == UINT32_MAX ? seen : seen + 1;
			continue;
		}
		if (atomic_load_explicit(&b->word, memory_order_acquire) != word)
			return false;
		next = tagged(tag, 1);
	} while (!atomic_compare_exchange_weak_explicit(&s->tagged[what], &seen, next,
							memory_order_relaxed,
							memory_order_relaxed));

	if (seen >> 32 != tag)
		fold(b, s, what, seen & UINT32_MAX);
	return true;
}

/* As above, in this CPU's stripe; the first try, which nearly always does, stands inline. */
static inline bool count(struct breaker *b, enum counter what, uint64_t word)
{
	struct breaker_stripe *s = stripe(b);
	uint64_t seen = atomic_load_explicit(&s->tagged[what], memory_order_relaxed);

	if (seen >> 32 == tag_of(word) && (seen & UINT32_MAX) != UINT32_MAX &&
	    atomic_compare_exchange_strong_explicit(&s->tagged[what], &seen, seen + 1,
						    memory_order_relaxed,
						    memory_order_relaxed))
		return true;
	return count_in_stripe(b, s, what, word);
}

void breaker_refuse(struct breaker *b)
{
	atomic_fetch_add_explicit(&stripe(b)->refused, 1, memory_order_relaxed);
}

static enum breaker_verdict refuse(struct breaker *b, enum breaker_verdict verdict)
{
	breaker_refuse(b);
	return verdict;
}

/* Noise, or memory that nobody wrote: instants are > 0, so 0 wraps to the furthest one. */
static bool nonsense(uint64_t instant, uint64_t now)
{
	return instant - 1 >= now + AHEAD_MAX_NS;
}

/*
 * The only function that changes the state: ends the generation of @old for @to. Whoever
 * wins counts the transition and tells of it; the others find the new word.
 */
static void enter(struct breaker *b, uint64_t old, enum breaker_state to,
		  enum breaker_reason reason, uint64_t now, const struct breaker_watch *watch)
{
	const uint64_t floor = reason == BREAKER_REASON_REPAIRED ? 1 : anchor_of(old);
	const uint64_t anchor = (now > floor ? now : floor) & ANCHOR_MAX;

	/*
	 * Before the exchange: after it others count in the new generation and take these
	 * words over. What made this transition due is in them by now.
	 */
	const struct breaker_counts counts = counts_of(b, old);

	/*
	 * Release: who sees the new generation sees the counts that ended the old one.
	 * Pairs with the acquire loads of `word`.
	 */
	if (!atomic_compare_exchange_strong_explicit(&b->word, &old, word_of(to, anchor),
						     memory_order_acq_rel,
						     memory_order_relaxed))
		return;
	if (reason == BREAKER_REASON_NONE)
		return; /* closed to closed: the interval is over, no transition */

	const enum breaker_state from = state_of(old);

	atomic_store_explicit(&b->last_reason, (uint32_t) reason, memory_order_relaxed);
	atomic_fetch_add_explicit(&b->changes[from][to], 1, memory_order_relaxed);
	if (reason == BREAKER_REASON_PROBE_LOST)
		atomic_fetch_add_explicit(&b->probes_lost, 1, memory_order_relaxed);
	if (watch != NULL && watch->on_change != NULL) {
		const struct breaker_change change = {
			.from = from,
			.to = to,
			.reason = reason,
			.generation = anchor,
			.counts = counts,
		};
		watch->on_change(watch->arg, &change);
	}
}

/* Strictly after, as gobreaker: at the deadline itself nothing has happened yet. */
static bool over(uint64_t word, uint64_t limit, uint64_t now)
{
	return clock_since(anchor_of(word), now) > limit;
}

/* Does @word stand at @now, neither due for a transition nor noise? */
static inline bool stands(uint64_t word, const struct policy *p, uint64_t now)
{
	if (nonsense(anchor_of(word), now))
		return false;
	switch (state_of(word)) {
	case BREAKER_CLOSED:
		return p->interval_ns == 0 || !over(word, p->interval_ns, now);
	case BREAKER_OPEN:
		return !over(word, p->timeout_ns, now);
	case BREAKER_HALF_OPEN:
		return true;
	}
	return true;
}

/* Makes the transitions that time alone brings; returns the word that is in force. */
__attribute__((noinline, cold)) static uint64_t refresh(struct breaker *b,
							const struct policy *p, uint64_t now,
							const struct breaker_watch *watch)
{
	for (;;) {
		const uint64_t word = atomic_load_explicit(&b->word, memory_order_acquire);

		if (stands(word, p, now))
			return word;
		if (nonsense(anchor_of(word), now))
			enter(b, word, BREAKER_CLOSED, BREAKER_REASON_REPAIRED, now, watch);
		else if (state_of(word) == BREAKER_OPEN)
			enter(b, word, BREAKER_HALF_OPEN, BREAKER_REASON_TIMEOUT_ELAPSED, now,
			      watch);
		else
			enter(b, word, BREAKER_CLOSED, BREAKER_REASON_NONE, now, NULL);
	}
}

/* The word in force at @now; kept small, as nearly every call finds nothing due. */
static inline uint64_t current(struct breaker *b, const struct policy *p, uint64_t now,
			       const struct breaker_watch *watch)
{
	const uint64_t word = atomic_load_explicit(&b->word, memory_order_acquire);

	return stands(word, p, now) ? word : refresh(b, p, now, watch);
}

/* The half-open quota: places taken (admitted less excluded) and successes, under a tag. */
static uint64_t quota_taken(uint64_t quota)
{
	return quota >> QUOTA_BITS & QUOTA_MASK;
}

static uint64_t quota_succeeded(uint64_t quota)
{
	return quota & QUOTA_MASK;
}

static uint64_t quota_of(uint64_t word, uint64_t taken, uint64_t succeeded)
{
	return quota_tag_of(word) << 2 * QUOTA_BITS | taken << QUOTA_BITS | succeeded;
}

/*
 * Reads the quota of @word's generation: 0 taken, 0 succeeded while nobody has written it.
 * @ret_seen is what a compare-exchange must expect. False: that generation has ended.
 */
static bool quota_read(struct breaker *b, uint64_t word, uint64_t *ret_seen, uint64_t *ret_quota)
{
	const uint64_t seen = atomic_load_explicit(&b->quota, memory_order_acquire);

	*ret_seen = seen;
	*ret_quota = seen;
	if (seen >> 2 * QUOTA_BITS == (quota_of(word, 0, 0) >> 2 * QUOTA_BITS))
		return true;
	*ret_quota = quota_of(word, 0, 0);
	return atomic_load_explicit(&b->word, memory_order_acquire) == word;
}

static bool quota_write(struct breaker *b, uint64_t seen, uint64_t next)
{
	return atomic_compare_exchange_strong_explicit(&b->quota, &seen, next,
						       memory_order_acq_rel,
						       memory_order_relaxed);
}

/*
 * Nobody is left to free a place whose holder was killed, so the last admission carries a
 * lease: once it is over, the next caller begins a fresh half-open generation.
 */
static bool lease_over(const struct breaker *b, const struct policy *p, uint64_t word, uint64_t now)
{
	const uint64_t probe_at = atomic_load_explicit(&b->probe_at, memory_order_relaxed);
	const bool usable = probe_at > anchor_of(word) && !nonsense(probe_at, now);
	const uint64_t last = usable ? probe_at : anchor_of(word);

	return clock_since(last, now) > p->probe_timeout_ns;
}

/*
 * Notes an admission at @now. Only forwards: a thread that lags must not shorten the lease of
 * those before it. Lock-free: retries only when another thread noted its own.
 */
static void lease_renew(struct breaker *b, uint64_t now)
{
	uint64_t seen = atomic_load_explicit(&b->probe_at, memory_order_relaxed);

	while ((seen < now || nonsense(seen, now)) &&
	       !atomic_compare_exchange_weak_explicit(&b->probe_at, &seen, now,
						      memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* Takes a half-open place. -1: the generation of @word has ended, look again. */
static int probe_admit(struct breaker *b, const struct policy *p, uint64_t word, uint64_t now,
		       const struct breaker_watch *watch)
{
	for (;;) {
		uint64_t seen, quota;

		if (!quota_read(b, word, &seen, &quota))
			return -1;
		if (quota_taken(quota) >= p->max_requests) {
			if (!lease_over(b, p, word, now))
				return refuse(b, BREAKER_REFUSED_TOO_MANY);
			enter(b, word, BREAKER_HALF_OPEN, BREAKER_REASON_PROBE_LOST, now, watch);
			return -1;
		}
		/* Before the place is taken: killed in between, the lease is only longer. */
		lease_renew(b, now);
		if (quota_write(b, seen, quota_of(word, quota_taken(quota) + 1,
						  quota_succeeded(quota))))
			return BREAKER_ADMITTED;
	}
}

enum breaker_verdict breaker_admit(struct breaker *b, const struct policy *p, uint64_t now,
				   const struct breaker_watch *watch,
				   struct breaker_ticket *ticket)
{
	for (;;) {
		const uint64_t word = current(b, p, now, watch);

		switch (state_of(word)) {
		case BREAKER_OPEN:
			return refuse(b, BREAKER_REFUSED_OPEN);
		case BREAKER_HALF_OPEN: {
			const int verdict = probe_admit(b, p, word, now, watch);

			if (verdict < 0)
				continue;
			if (verdict != BREAKER_ADMITTED)
				return (enum breaker_verdict) verdict;
			/* The place is ours even if the generation ends before it is counted. */
			if (count(b, REQUESTS, word))
				atomic_fetch_add_explicit(&b->probes, 1, memory_order_relaxed);
			break;
		}
		case BREAKER_CLOSED:
			if (!count(b, REQUESTS, word))
				continue;
			break;
		}
		ticket->generation = word;
		return BREAKER_ADMITTED;
	}
}

/* Ends a run of failures; writes nothing in a healthy breaker. */
static void run_end(struct breaker *b, uint64_t word)
{
	const uint64_t tag = tag_of(word);
	uint64_t seen = atomic_load_explicit(&b->run, memory_order_relaxed);

	while (count_in(seen, tag) != 0 &&
	       !atomic_compare_exchange_weak_explicit(&b->run, &seen, tagged(tag, 0),
						      memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* Lengthens the run of failures; returns its length, 0 when the generation has ended. */
static uint64_t run_add(struct breaker *b, uint64_t word)
{
	const uint64_t tag = tag_of(word);
	uint64_t seen = atomic_load_explicit(&b->run, memory_order_relaxed);
	uint64_t length;

	do {
		length = count_in(seen, tag);
		if (seen >> 32 != tag &&
		    atomic_load_explicit(&b->word, memory_order_acquire) != word)
			return 0;
		if (length < UINT32_MAX)
			length++;
		/*
		 * Acquire and release: of two failures the one that comes second here finds
		 * the other in its stripe when the rules sum up, so that N failures at once
		 * trip a rule of N. Pairs with itself.
		 */
	} while (!atomic_compare_exchange_weak_explicit(&b->run, &seen, tagged(tag, length),
							memory_order_acq_rel,
							memory_order_relaxed));
	/* For people's eyes (consecutive successes); a lost race shows an older mark. */
	atomic_store_explicit(&b->mark, tagged(tag, sum(b, SUCCESSES, tag) & UINT32_MAX),
			      memory_order_relaxed);
	return length;
}

/* Which rule, if any, trips on the failure that made the run @length long. */
static enum breaker_reason tripped(const struct breaker *b, const struct policy *p, uint64_t word,
				   uint64_t length)
{
	const uint64_t tag = tag_of(word);

	if (p->consecutive_failures != 0 && length >= p->consecutive_failures)
		return BREAKER_REASON_CONSECUTIVE_FAILURES;
	if (p->total_failures == 0 && p->failure_ratio <= 0)
		return BREAKER_REASON_NONE;

	/* Before the requests: a failure summed without its request would raise the ratio. */
	const uint64_t failures = sum(b, FAILURES, tag);

	if (p->total_failures != 0 && failures >= p->total_failures)
		return BREAKER_REASON_TOTAL_FAILURES;
	if (p->failure_ratio > 0) {
		const uint64_t requests = sum(b, REQUESTS, tag);

		/* As gobreaker's users write it: calls in flight are in the denominator. */
		if (requests > 0 && requests >= p->min_requests &&
		    (double) failures / (double) requests >= p->failure_ratio)
			return BREAKER_REASON_FAILURE_RATIO;
	}
	return BREAKER_REASON_NONE;
}

static bool settle_closed(struct breaker *b, const struct policy *p, uint64_t word,
			  enum breaker_outcome outcome, uint64_t now,
			  const struct breaker_watch *watch)
{
	switch (outcome) {
	case BREAKER_SUCCESS:
		if (!count(b, SUCCESSES, word))
			return false;
		run_end(b, word);
		return true;
	case BREAKER_FAILURE: {
		if (!count(b, FAILURES, word))
			return false;
		const uint64_t length = run_add(b, word);
		const enum breaker_reason reason = tripped(b, p, word, length);

		if (reason != BREAKER_REASON_NONE)
			enter(b, word, BREAKER_OPEN, reason, now, watch);
		return true;
	}
	case BREAKER_EXCLUDED:
		return count(b, EXCLUSIONS, word);
	}
	return false;
}

/* Gives a half-open place back, or turns it into a success. False: the generation ended. */
static bool probe_end(struct breaker *b, uint64_t word, bool success, uint64_t *ret_succeeded)
{
	for (;;) {
		uint64_t seen, quota;

		if (!quota_read(b, word, &seen, &quota))
			return false;

		const uint64_t taken = quota_taken(quota);
		const uint64_t succeeded = quota_succeeded(quota);

		/* Only noise written into shared memory makes these fail. */
		if (taken == 0 || succeeded >= QUOTA_MASK)
			return false;

		const uint64_t next = success ? quota_of(word, taken, succeeded + 1)
					      : quota_of(word, taken - 1, succeeded);

		if (quota_write(b, seen, next)) {
			*ret_succeeded = quota_succeeded(next);
			return true;
		}
	}
}

static bool settle_half_open(struct breaker *b, const struct policy *p, uint64_t word,
			     enum breaker_outcome outcome, uint64_t now,
			     const struct breaker_watch *watch)
{
	uint64_t succeeded;

	switch (outcome) {
	case BREAKER_SUCCESS:
		if (!count(b, SUCCESSES, word))
			return false;
		/* Counted it is, even if the generation ends before its place says so. */
		if (probe_end(b, word, true, &succeeded) && succeeded >= p->max_requests)
			enter(b, word, BREAKER_CLOSED, BREAKER_REASON_PROBES_SUCCEEDED, now,
			      watch);
		return true;
	case BREAKER_FAILURE:
		if (!count(b, FAILURES, word))
			return false;
		(void) run_add(b, word);
		enter(b, word, BREAKER_OPEN, BREAKER_REASON_PROBE_FAILED, now, watch);
		return true;
	case BREAKER_EXCLUDED:
		if (!count(b, EXCLUSIONS, word))
			return false;
		(void) probe_end(b, word, false, &succeeded);
		return true;
	}
	return false;
}

bool breaker_settle(struct breaker *b, const struct policy *p, struct breaker_ticket *ticket,
		    enum breaker_outcome outcome, uint64_t now,
		    const struct breaker_watch *watch)
{
	const uint64_t generation = ticket->generation;

	if (generation == 0)
		return false;
	ticket->generation = 0;

	const uint64_t word = current(b, p, now, watch);
	bool counted = false;

	if (word == generation) {
		switch (state_of(word)) {
		case BREAKER_CLOSED:
			counted = settle_closed(b, p, word, outcome, now, watch);
			break;
		case BREAKER_HALF_OPEN:
			counted = settle_half_open(b, p, word, outcome, now, watch);
			break;
		case BREAKER_OPEN: /* admits nobody, so has no tickets */
			break;
		}
	}
	if (!counted)
		atomic_fetch_add_explicit(&b->stale, 1, memory_order_relaxed);
	return counted;
}

enum breaker_state breaker_ticket_state(const struct breaker_ticket *ticket)
{
	return state_of(ticket->generation);
}

enum breaker_state breaker_state(struct breaker *b, const struct policy *p, uint64_t now,
				 const struct breaker_watch *watch)
{
	return state_of(current(b, p, now, watch));
}

enum breaker_state breaker_peek(const struct breaker *b, uint64_t *ret_since,
				struct breaker_counts *ret_counts)
{
	const uint64_t word = atomic_load_explicit(&b->word, memory_order_acquire);

	if (ret_since != NULL)
		*ret_since = anchor_of(word);
	if (ret_counts != NULL)
		*ret_counts = counts_of(b, word);
	return state_of(word);
}

struct breaker_totals breaker_totals(const struct breaker *b)
{
	struct breaker_totals totals = {
		.stale = atomic_load_explicit(&b->stale, memory_order_relaxed),
		.probes_lost = atomic_load_explicit(&b->probes_lost, memory_order_relaxed),
		.admitted = atomic_load_explicit(&b->requests, memory_order_relaxed),
		.probes = atomic_load_explicit(&b->probes, memory_order_relaxed),
	};
	uint64_t *const kept[] = { &totals.successes, &totals.failures, &totals.exclusions };

	for (int i = 0; i < BREAKER_STRIPES; i++) {
		const struct breaker_stripe *s = &b->stripes[i];

		totals.refused += atomic_load_explicit(&s->refused, memory_order_relaxed);
		totals.admitted += atomic_load_explicit(&s->tagged[REQUESTS],
							memory_order_relaxed) & UINT32_MAX;
		for (int k = 0; k < 3; k++)
			*kept[k] += atomic_load_explicit(&s->folded[k], memory_order_relaxed);
		for (int what = SUCCESSES; what <= EXCLUSIONS; what++)
			*kept[folded_as[what]] +=
				atomic_load_explicit(&s->tagged[what], memory_order_relaxed)
				& UINT32_MAX;
	}
	return totals;
}

enum breaker_reason breaker_last_reason(const struct breaker *b)
{
	return (enum breaker_reason) atomic_load_explicit(&b->last_reason, memory_order_relaxed);
}

uint32_t breaker_changes(const struct breaker *b, enum breaker_state from, enum breaker_state to)
{
	return atomic_load_explicit(&b->changes[from][to], memory_order_relaxed);
}

void breaker_init(struct breaker *b, uint64_t now)
{
	const uint64_t old = anchor_of(atomic_load_explicit(&b->word, memory_order_relaxed));
	const uint64_t anchor = nonsense(old, now) || old < now ? now : old + 1;

	atomic_store_explicit(&b->word, word_of(BREAKER_CLOSED, anchor), memory_order_release);
	atomic_store_explicit(&b->run, 0, memory_order_relaxed);
	atomic_store_explicit(&b->mark, 0, memory_order_relaxed);
	atomic_store_explicit(&b->quota, 0, memory_order_relaxed);
	atomic_store_explicit(&b->probe_at, 0, memory_order_relaxed);
	atomic_store_explicit(&b->stale, 0, memory_order_relaxed);
	atomic_store_explicit(&b->last_reason, 0, memory_order_relaxed);
	atomic_store_explicit(&b->probes_lost, 0, memory_order_relaxed);
	atomic_store_explicit(&b->probes, 0, memory_order_relaxed);
	atomic_store_explicit(&b->requests, 0, memory_order_relaxed);
	for (int from = 0; from < BREAKER_STATES; from++)
		for (int to = 0; to < BREAKER_STATES; to++)
			atomic_store_explicit(&b->changes[from][to], 0, memory_order_relaxed);
	for (int i = 0; i < BREAKER_STRIPES; i++) {
		for (int k = 0; k < 4; k++)
			atomic_store_explicit(&b->stripes[i].tagged[k], 0,
					      memory_order_relaxed);
		for (int k = 0; k < 3; k++)
			atomic_store_explicit(&b->stripes[i].folded[k], 0,
					      memory_order_relaxed);
		atomic_store_explicit(&b->stripes[i].refused, 0, memory_order_relaxed);
	}
}

const char *breaker_state_name(enum breaker_state state)
{
	return (unsigned) state < BREAKER_STATES ? state_names[state] : "unknown";
}

const char *breaker_reason_name(enum breaker_reason reason)
{
	return (size_t) reason < sizeof(reason_names) / sizeof(reason_names[0])
		       ? reason_names[reason]
		       : "unknown";
}
