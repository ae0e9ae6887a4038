/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The circuit breaker: sony/gobreaker's semantics without its lock, in one block of memory
 * that processes share.
 *
 *            a trip rule holds on a failure          now > anchor + timeout
 *   CLOSED ------------------------------> OPEN --------------------------> HALF_OPEN
 *     ^ \                                   ^                                |  |  |
 *     |  `- interval over: fresh counts     `----- a probe failed -----------'  |  |
 *     |                                                                         |  |
 *     `---------------- max_requests probes succeeded --------------------------'  |
 *                                           HALF_OPEN, fresh quota <-- probes lost '
 *
 * Every arrow begins a new generation; a result that was admitted in an older one changes
 * nothing. Transitions are lazy: they happen in the first call that finds them due.
 */
#ifndef CORE_BREAKER_H
#define CORE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/policy.h"

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_HALF_OPEN,
	BREAKER_OPEN,
};
#define BREAKER_STATES 3

/* Why a generation ended. Stored in shared memory: append only. */
enum breaker_reason {
	BREAKER_REASON_NONE,
	BREAKER_REASON_CONSECUTIVE_FAILURES,
	BREAKER_REASON_FAILURE_RATIO,
	BREAKER_REASON_TOTAL_FAILURES,
	BREAKER_REASON_TIMEOUT_ELAPSED,
	BREAKER_REASON_PROBE_FAILED,
	BREAKER_REASON_PROBES_SUCCEEDED,
	BREAKER_REASON_PROBE_LOST,
	BREAKER_REASON_REPAIRED, /* the shared word was noise; closed again */
};

enum breaker_verdict {
	BREAKER_ADMITTED,
	BREAKER_REFUSED_OPEN,
	BREAKER_REFUSED_TOO_MANY, /* half-open, and its quota is spent */
};

enum breaker_outcome {
	BREAKER_SUCCESS,
	BREAKER_FAILURE,
	BREAKER_EXCLUDED, /* says nothing about the peer; frees a half-open place */
};

#define BREAKER_STRIPES 8

/*
 * One cache line of counts. The first four are tagged with the generation that they belong
 * to: `tag:32 | count:32`. A word with another tag counts as 0 and is folded into its total
 * by whoever writes to it next, so that clearing costs nothing and races with nobody.
 */
struct breaker_stripe {
	_Atomic uint64_t tagged[4]; /* requests, successes, failures, exclusions */
	_Atomic uint64_t folded[3]; /* successes, failures, exclusions of ended generations */
	_Atomic uint64_t refused;   /* since the breaker was made */
} __attribute__((aligned(64)));

/*
 * Holds no pointer and no lock: it lives in memory that processes map at different places
 * and that a killed process may have been writing to. Fields are private to breaker.c.
 */
struct breaker {
	/* The first line is read by every call and written by failures and transitions. */
	_Atomic uint64_t word;  /* `anchor_ns:62 | state:2`; the anchor is the instant at
				 * which the generation began; the word never repeats */
	_Atomic uint64_t run;   /* `tag:32 | failures in a row:32` */
	_Atomic uint64_t mark;  /* `tag:32 | successes before the last failure:32` */
	_Atomic uint64_t quota; /* half-open: `tag:44 | places taken:10 | successes:10` */
	_Atomic uint64_t probe_at;      /* last half-open admission */
	_Atomic uint64_t stale;         /* results of older generations, dropped */
	_Atomic uint32_t last_reason;   /* enum breaker_reason that led to this state */
	_Atomic uint32_t probes_lost;   /* half-open generations ended by their lease */
	_Atomic uint64_t probes;        /* half-open admissions since the breaker was made */
	_Atomic uint32_t changes[BREAKER_STATES][BREAKER_STATES]; /* [from][to] */
	uint32_t pad;
	_Atomic uint64_t requests;      /* of ended generations; written when they are folded */
	uint64_t spare[2];
	struct breaker_stripe stripes[BREAKER_STRIPES];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct breaker) <= 1024, "a breaker costs at most 1 KiB");

struct breaker_counts {
	uint64_t requests, successes, failures, exclusions;
	uint64_t consecutive_successes, consecutive_failures;
};

struct breaker_totals {
	uint64_t successes, failures, exclusions, refused, stale, probes_lost;
	uint64_t admitted; /* in any state */
	uint64_t probes;   /* of those, while half-open */
};

struct breaker_change {
	enum breaker_state from, to;
	enum breaker_reason reason;
	uint64_t generation; /* anchor of the generation that begins */
	struct breaker_counts counts; /* of the generation that ended */
};

/*
 * Told of each transition exactly once, by the thread that made it, after it has happened
 * and with nothing held: it may call breaker functions. Interval roll-over (closed to
 * closed) is no transition; a lost probe (half-open to half-open) is.
 * Context: wherever admit, settle or state were called.
 */
struct breaker_watch {
	void (*on_change)(void *arg, const struct breaker_change *change);
	void *arg;
};

/* Proof of an admission. Zero is no ticket: settling it does nothing. */
struct breaker_ticket {
	uint64_t generation; /* the word at admission */
};

/*
 * breaker_init - closed, with nothing counted
 * @b:   zero-filled, or a breaker that nobody else uses; its old anchor is respected, so
 *       that tickets of a former owner of the memory stay stale
 * @now: nanoseconds, > 0, < 2^62 as are all times here
 */
void breaker_init(struct breaker *b, uint64_t now);

/*
 * breaker_admit - may a call go out now?
 * @b:      borrowed for this call
 * @p:      complete settings (policy_complete())
 * @now:    CLOCK_MONOTONIC nanoseconds; may repeat, may lag behind another thread's
 * @watch:  told of transitions; may be NULL
 * @ticket: set when admitted, untouched otherwise; to be settled exactly once
 *
 * A refusal is an answer, not an error, and is counted as nothing but a refusal.
 * Context: any thread or process, signal handlers too; lock-free, retries only when
 * another caller moved the breaker on; no allocation; errno kept.
 */
enum breaker_verdict breaker_admit(struct breaker *b, const struct policy *p, uint64_t now,
				   const struct breaker_watch *watch,
				   struct breaker_ticket *ticket);

/*
 * breaker_refuse - count a refusal that the breaker was not asked about (forced open)
 * Context: as breaker_admit(); wait-free.
 */
void breaker_refuse(struct breaker *b);

/*
 * breaker_settle - report how an admitted call ended
 * @ticket: cleared, so that a second call does nothing
 *
 * Returns false when the ticket was empty or its generation has ended; a due transition may
 * still have happened then.
 * Context: as breaker_admit().
 */
bool breaker_settle(struct breaker *b, const struct policy *p, struct breaker_ticket *ticket,
		    enum breaker_outcome outcome, uint64_t now,
		    const struct breaker_watch *watch);

/* breaker_ticket_state - in which state was it admitted? Closed, of no ticket. */
enum breaker_state breaker_ticket_state(const struct breaker_ticket *ticket);

/*
 * breaker_state - the state after transitions that are due at @now
 * Context: as breaker_admit().
 */
enum breaker_state breaker_state(struct breaker *b, const struct policy *p, uint64_t now,
				 const struct breaker_watch *watch);

/*
 * breaker_peek - the state and counts as they stand; refreshes nothing
 * @b:          may be a copy of shared memory that was being written
 * @ret_since:  instant at which the generation began; may be NULL
 * @ret_counts: sums over stripes, exact while nobody else writes; may be NULL
 */
enum breaker_state breaker_peek(const struct breaker *b, uint64_t *ret_since,
				struct breaker_counts *ret_counts);

/* breaker_totals - what was counted since breaker_init(), over all generations */
struct breaker_totals breaker_totals(const struct breaker *b);

/* breaker_last_reason - why the present generation began; may be out of range in a copy */
enum breaker_reason breaker_last_reason(const struct breaker *b);

/* breaker_changes - transitions of that kind since breaker_init() */
uint32_t breaker_changes(const struct breaker *b, enum breaker_state from, enum breaker_state to);

/* Names as they stand in events: "half-open"; "consecutive_failures". Never NULL. */
const char *breaker_state_name(enum breaker_state state);
const char *breaker_reason_name(enum breaker_reason reason);

#endif
