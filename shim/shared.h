/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's breakers as this process sees them: its files are mapped at the first call
 * that needs them, joined again when they were deleted, and never unmapped, so that a ticket
 * taken long ago can always be settled.
 */
#ifndef SHIM_SHARED_H
#define SHIM_SHARED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/breaker.h"
#include "core/event.h"
#include "core/policy.h"
#include "core/state.h"

/* An admitted call: the ticket, and where and how it is to be settled. */
struct admission {
	uint32_t map;           /* which mapping @ref belongs to */
	struct state_ref ref;
	struct breaker_ticket ticket;
	struct policy policy;   /* as it was at admission */
};

enum shared_verdict {
	SHARED_UNGUARDED, /* no breaker has a say in this call */
	SHARED_ADMITTED,
	SHARED_REFUSED,
};

/*
 * shared_admit - may this process connect to @addr now?
 * @addr: AF_INET or AF_INET6, already checked for length
 * @ret:  set when admitted
 * @ret_errno: set when refused: what connect(2) is to report
 *
 * Context: any thread under the guard, not in a vfork child; may map files the first time;
 * no allocation; errno clobbered.
 */
enum shared_verdict shared_admit(const struct sockaddr *addr, uint64_t now,
				 struct admission *ret, int *ret_errno);

/*
 * shared_settle - end an admitted call; at most once each
 * @error: the errno behind a failure, 0 when there is none
 * Context: any thread under the guard, signal handlers too; no lock; errno clobbered.
 */
void shared_settle(struct admission *a, enum breaker_outcome outcome, int error, uint64_t now);

/* shared_succeeded_since - did another call of this process to the same peer succeed after @then? */
bool shared_succeeded_since(const struct admission *a, uint64_t then);

/* shared_flush - report refusals not yet summed up; at exit. */
void shared_flush(void);

#endif
