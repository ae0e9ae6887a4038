/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peers that this process has met: for each its settings and its slot in the shared
 * state. Entries are added without a lock; a roster that is full, or whose settings or shared
 * state have been replaced, is replaced as a whole, under RCU.
 */
#ifndef CORE_ROSTER_H
#define CORE_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "core/policy.h"
#include "core/state.h"

#define ROSTER_ENTRIES 1024

struct roster_entry {
	uint64_t hash;           /* state_peer_hash() of @peer */
	bool wanted;             /* AGENTSHIM_PEERS lets it be guarded, and its mode is not off */
	struct policy policy;    /* in force for it */
	enum config_source sources[CONFIG_KEYS]; /* of @policy's values */
	_Atomic uint64_t ref;    /* struct state_ref as `index:32 | incarnation:32`; 0: none */
	_Atomic uint64_t retry_at; /* without a slot: not to be sought before this instant */
	char peer[STATE_PEER_SIZE];
};

struct roster {
	_Atomic uint32_t used;   /* entries handed out, may run past ROSTER_ENTRIES */
	_Atomic uint32_t buckets[2 * ROSTER_ENTRIES]; /* 1 + index of an entry; 0: empty */
	struct roster_entry entries[ROSTER_ENTRIES];
};

/*
 * roster_find - the entry of @peer, or NULL
 * @r: zero-filled memory is an empty roster
 * Context: any thread, signal handlers too; wait-free; inside a read section.
 */
struct roster_entry *roster_find(struct roster *r, const char *peer);

/*
 * roster_add - the entry of @peer, made from @c if need be
 * @who: the same peer as config.h wants to see it
 * Returns NULL when the roster is full: time to publish an empty one.
 * Context: any thread, signal handlers too; lock-free; inside a read section.
 */
struct roster_entry *roster_add(struct roster *r, const char *peer, const struct config *c,
				const struct config_peer *who);

/*
 * roster_slot - the shared slot of an entry, found or claimed when need be
 * @ret_created: as state_find() says; created stays false when nothing was sought
 * Returns NULL when the service's table has no place for it: no breaker, the call goes on.
 * Context: as state_find().
 */
struct state_slot *roster_slot(struct roster_entry *e, struct state *s,
			       const struct state_writer *writer, uint64_t now,
			       struct state_ref *ret_ref, struct state_found *ret_found);

#endif
