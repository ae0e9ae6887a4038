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
#include "core/metrics.h"
#include "core/policy.h"
#include "core/state.h"

/* An admitted call: the ticket, and where and how it is to be settled. */
struct admission {
	uint32_t map;           /* which mapping @ref belongs to */
	uint32_t address;       /* hash of the one of the peer's that is connected to; 0 unknown */
	uint32_t peer;          /* hash of its key, peer_hash() */
	bool followed;          /* the name has another address to try next */
	bool judged;            /* there is a ticket; else a breaker has no say */
	enum policy_mode configured; /* what @policy.mode is when `agentshim` says nothing */
	bool private_peer;      /* the egress rule: our context stays at home */
	struct state_ref ref;
	struct breaker_ticket ticket;
	struct policy policy;   /* as it was at admission */
};

enum shared_verdict {
	SHARED_UNGUARDED, /* AGENTSHIM_PEERS leaves the peer out, or we know too little of it */
	SHARED_UNJUDGED,  /* a breaker has no say in this call; @ret is set, without a ticket */
	SHARED_ADMITTED,
	SHARED_REFUSED,
};

/*
 * shared_load - name the service while the process is still as it was started: before it
 * changes its directory, its root or its arguments. Context: once at load.
 */
void shared_load(void);

/* shared_ready - has this process mapped its files? One load. */
bool shared_ready(void);

/*
 * shared_map - map the files now if that is still to be done, and join new ones in place of
 * deleted ones: for processes that only accept connections, at each of them
 * Returns as shared_ready() then does.
 * Context: as shared_admit().
 */
bool shared_map(void);

/*
 * shared_metrics - the service's counters; NULL before anything is mapped
 * The memory stays mapped; after the files were deleted, a new answer counts in the new ones.
 * Context: any thread, signal handlers too; one load.
 */
struct metrics *shared_metrics(void);

/* shared_executable - the file that this process runs, as shared_load() found it; "" unknown */
const char *shared_executable(void);

/*
 * shared_admit - may this process connect to @addr now?
 * @addr: AF_INET or AF_INET6, already checked for length
 * @ret:  set when admitted or unjudged
 * @ret_errno: set when refused: what connect(2) is to report
 *
 * Context: any thread under the guard, not in a vfork child; may map files the first time;
 * no allocation; errno clobbered.
 */
enum shared_verdict shared_admit(const struct sockaddr *addr, uint64_t now,
				 struct admission *ret, int *ret_errno);

/*
 * shared_admit_name - may a call go out to @host, which the program names by itself?
 * @host: a name or an address without brackets
 * @asks: else only look: the answer is then SHARED_UNJUDGED or SHARED_UNGUARDED
 *
 * As shared_admit(), for callers that do not see the address (libcurl's). SHARED_UNGUARDED also
 * where a setting depends on an address that is not known yet: sockets will see it.
 * *@ret is set too when refused, without a ticket; @ret_key: STATE_PEER_SIZE bytes, as people see it
 */
enum shared_verdict shared_admit_name(const char *host, uint16_t port, bool asks, uint64_t now,
				      struct admission *ret, char *ret_key);

/*
 * shared_admit_again - may a further request go out on the connection that @last was made for?
 * @last: borrowed; its ticket may be settled
 * As shared_admit(), but without a look at the address or, where nothing has changed, at the
 * settings. Context: as shared_admit(); maps nothing.
 */
enum shared_verdict shared_admit_again(const struct admission *last, uint64_t now,
				       struct admission *ret, int *ret_errno);

/*
 * shared_admit_stream - the same for a further stream of an HTTP/2 connection
 * @probes: one of the connection's streams is a probe that has no outcome yet. Then a half-open
 *          breaker whose quota is spent has no say, and nothing is refused.
 */
enum shared_verdict shared_admit_stream(const struct admission *last, bool probes, uint64_t now,
					struct admission *ret, int *ret_errno);

/*
 * shared_settle - end an admitted call; at most once each
 * @error: the errno behind a failure, 0 when there is none
 * Context: any thread under the guard, signal handlers too; no lock; errno clobbered.
 */
void shared_settle(struct admission *a, enum breaker_outcome outcome, int error, uint64_t now);

/*
 * shared_settle_answer - the same by the status of an HTTP answer
 * shared_settle_rpc - by that of gRPC (core/rpc.h)
 */
void shared_settle_answer(struct admission *a, unsigned status, uint64_t now);
void shared_settle_rpc(struct admission *a, unsigned status, uint64_t now);

/*
 * shared_tries_next - is a failure to reach this address no failure of the call yet?
 * A name may have several addresses, and a host without a listener on ::1 fails the first
 * try of each call to localhost. So only the last address of a lookup counts, unless this
 * process has shown that it does not go on to the next one.
 * Context: as shared_settle().
 */
bool shared_tries_next(const struct admission *a);

/* shared_succeeded_since - did another call of this process to the peer succeed after @then? */
bool shared_succeeded_since(const struct admission *a, uint64_t then);

#endif
