/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of one breaker: plain numbers, copied by value, shared with nobody. */
#ifndef CORE_POLICY_H
#define CORE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* Half-open admissions are counted in ten bits of the quota word (breaker.c). */
#define POLICY_MAX_REQUESTS_MAX 1023

enum policy_mode {
	POLICY_ENFORCE,       /* decide, refuse while open */
	POLICY_OBSERVE,       /* decide and report, never refuse */
	POLICY_OFF,           /* not even decide */
	POLICY_FORCED_OPEN,   /* refuse every call */
	POLICY_FORCED_CLOSED, /* admit every call */
};

struct policy {
	uint64_t interval_ns;          /* closed counts are cleared this long after the
					* generation began; 0: never */
	uint64_t timeout_ns;           /* how long open lasts; > 0 */
	uint64_t probe_timeout_ns;     /* a probe older than this is lost; > 0 */
	uint64_t patience_ns;          /* waiting this long in vain is a failure */
	double failure_ratio;          /* trips at failures/requests >= this; 0: off */
	uint32_t max_requests;         /* half-open admissions and the successes that close,
					* 1..POLICY_MAX_REQUESTS_MAX */
	uint32_t consecutive_failures; /* trips at the Nth in a row; 0: off */
	uint32_t total_failures;       /* trips at the Nth of a generation; 0: off */
	uint32_t min_requests;         /* requests below which failure_ratio is not asked */
	int refusal_errno;             /* what a refused connect(2) reports */
	enum policy_mode mode;
};

/*
 * policy_product - what a program gets that sets nothing
 *
 * SEED.md: max_requests 3, interval 60 s, timeout 30 s, trips at the 5th failure in a row.
 * To be completed once the user's settings are in it: probe_timeout follows timeout.
 */
struct policy policy_product(void);

/*
 * policy_gobreaker - what sony/gobreaker v1 gives for zero Settings
 *
 * max_requests 1, interval 0, timeout 60 s, trips at the 6th failure in a row
 * ("ConsecutiveFailures > 5"). To be completed: gobreaker has no lease, we always have one.
 */
struct policy policy_gobreaker(void);

/*
 * policy_complete - fill what a zero stands for
 * @p: max_requests 0 becomes 1 and is cut to POLICY_MAX_REQUESTS_MAX; timeout_ns 0
 *     becomes 60 s; probe_timeout_ns 0 becomes timeout_ns.
 */
void policy_complete(struct policy *p);

/* policy_mode_name - "enforce", "observe", "off", "forced_open", "forced_closed" */
const char *policy_mode_name(enum policy_mode mode);

/* policy_mode_from - the mode of that name; false when there is none. Case matters. */
bool policy_mode_from(const char *name, enum policy_mode *ret_mode);

#endif
