/* SPDX-License-Identifier: Apache-2.0 */
/* A lock-free, grow-only table of peers; its replacement is the caller's matter (RCU). */
#include "core/roster.h"

#include <stdatomic.h>
#include <string.h>

#include "core/clock.h"

#define BUCKETS (2 * ROSTER_ENTRIES)

/* How long a peer that found the shared table full does without before it asks again. */
#define RETRY_NS (10 * NS_PER_MS)

_Static_assert((BUCKETS & (BUCKETS - 1)) == 0, "indexes are masked");

static struct roster_entry *entry_in(struct roster *r, uint32_t bucket)
{
	/* Acquire: the entry was filled before its bucket was. Pairs with roster_add(). */
	const uint32_t at = atomic_load_explicit(&r->buckets[bucket & (BUCKETS - 1)],
						 memory_order_acquire);

	return at != 0 ? &r->entries[at - 1] : NULL;
}

static bool same(const struct roster_entry *e, uint64_t hash, const char *peer)
{
	return e->hash == hash && strcmp(e->peer, peer) == 0;
}

struct roster_entry *roster_find(struct roster *r, const char *peer)
{
	const uint64_t hash = state_peer_hash(peer);

	/* At most half of the buckets are ever taken: an empty one ends the search. */
	for (uint32_t i = (uint32_t) hash;; i++) {
		struct roster_entry *e = entry_in(r, i);

		if (e == NULL || same(e, hash, peer))
			return e;
	}
}

static void fill(struct roster_entry *e, uint64_t hash, const char *peer, const struct config *c,
		 const struct config_peer *who)
{
	e->hash = hash;
	e->policy = config_policy(c, who, e->sources);
	e->wanted = config_wants(c, who);
	(void) strncpy(e->peer, peer, sizeof(e->peer) - 1); /* zero-filled before */
}

struct roster_entry *roster_add(struct roster *r, const char *peer, const struct config *c,
				const struct config_peer *who)
{
	struct roster_entry *found = roster_find(r, peer);

	if (found != NULL)
		return found;

	const uint32_t index = atomic_fetch_add_explicit(&r->used, 1, memory_order_relaxed);

	if (index >= ROSTER_ENTRIES)
		return NULL;

	struct roster_entry *e = &r->entries[index];
	const uint64_t hash = state_peer_hash(peer);

	fill(e, hash, peer, c, who);
	for (uint32_t i = (uint32_t) hash;; i++) {
		uint32_t empty = 0;

		/* Release: whoever sees the bucket sees the entry. Pairs with entry_in(). */
		if (atomic_compare_exchange_strong_explicit(&r->buckets[i & (BUCKETS - 1)],
							    &empty, index + 1,
							    memory_order_release,
							    memory_order_acquire))
			return e;
		/* Another thread added the same peer; our entry stays unused. */
		if (same(&r->entries[empty - 1], hash, peer))
			return &r->entries[empty - 1];
	}
}

struct state_slot *roster_slot(struct roster_entry *e, struct state *s,
			       const struct state_writer *writer, uint64_t now,
			       struct state_ref *ret_ref, struct state_found *ret_found)
{
	const uint64_t seen = atomic_load_explicit(&e->ref, memory_order_relaxed);
	const struct state_ref ref = { (uint32_t) (seen >> 32), (uint32_t) seen };
	struct state_slot *slot = seen != 0 ? state_slot(s, ref) : NULL;

	ret_found->created = false;
	*ret_ref = ref;
	if (slot != NULL)
		return slot;
	if (now < atomic_load_explicit(&e->retry_at, memory_order_relaxed))
		return NULL;
	if (!state_find(s, e->peer, writer, now, ret_found)) {
		atomic_store_explicit(&e->retry_at, now + RETRY_NS, memory_order_relaxed);
		return NULL;
	}
	*ret_ref = ret_found->ref;
	atomic_store_explicit(&e->ref,
			      (uint64_t) ret_found->ref.index << 32 | ret_found->ref.incarnation,
			      memory_order_relaxed);
	slot = state_slot(s, *ret_ref);
	if (slot != NULL)
		state_put_settings(slot, &e->policy, e->sources);
	return slot;
}
