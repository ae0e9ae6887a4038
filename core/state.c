/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of breakers that processes share: open addressing by the peer's hash, claimed by
 * compare-exchange, resolved so that two claims for one peer end in the earlier slot.
 */
#include "core/state.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "core/clock.h"

#define INCARNATION_MASK UINT64_C(0xffffff)
#define PID_SHIFT        24
#define PID_MASK         UINT64_C(0x3fffff) /* PID_MAX_LIMIT is 2^22 */
#define NS_SHIFT         46
#define NS_MASK          UINT64_C(0x3ffff)

#define PEER_WORDS     (STATE_PEER_SIZE / 8)
#define SETTINGS_WORDS 6

/*
 * A slot takes a microsecond to write: who yields this often in one search has met stopped
 * processes. Not once for each of them: a table full of such slots would cost half a second.
 */
#define YIELDS_MAX 64
#define CLAIMS_MAX 8

_Static_assert(2 * CONFIG_KEYS <= 32, "two bits tell where each setting came from");
_Static_assert((STATE_SLOTS & (STATE_SLOTS - 1)) == 0, "indexes are masked");

uint64_t state_peer_hash(const char *peer)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a, 64 bits */

	for (; *peer != '\0'; peer++)
		hash = (hash ^ (unsigned char) *peer) * UINT64_C(0x100000001b3);
	hash ^= hash >> 29; /* FNV's low bits, our index, depend on few of the last bytes */
	return hash != 0 ? hash : 1;
}

static bool odd(uint64_t stamp)
{
	return stamp & 1;
}

static uint64_t ns_bits(const struct state_writer *w)
{
	return (w->pidns ^ w->pidns >> 18) & NS_MASK;
}

/* The stamp that claims a slot: the next odd incarnation, and whose it is. */
static uint64_t claimed(uint64_t stamp, const struct state_writer *w)
{
	const uint64_t next = (stamp & INCARNATION_MASK) + (odd(stamp) ? 2 : 1);

	return ns_bits(w) << NS_SHIFT | (w->pid & PID_MASK) << PID_SHIFT
	       | (next & INCARNATION_MASK);
}

/* The stamp that publishes it: even, and never 0, which means "never used". */
static uint64_t published(uint64_t claim)
{
	const uint64_t next = (claim + 1) & INCARNATION_MASK;

	return next != 0 ? next : 2;
}

/* Has this very stamp stood here for too long? Times it from when somebody first asks. */
static bool overdue(struct state_slot *slot, uint64_t stamp, uint64_t now)
{
	/* Acquire: the time belongs to that stamp or a later one. Pairs with the release. */
	if (atomic_load_explicit(&slot->odd_stamp, memory_order_acquire) == stamp)
		return clock_since(atomic_load_explicit(&slot->odd_since, memory_order_relaxed),
				   now) > STATE_WRITER_NS;
	atomic_store_explicit(&slot->odd_since, now, memory_order_relaxed);
	atomic_store_explicit(&slot->odd_stamp, stamp, memory_order_release);
	return false;
}

/* Only a writer of our own pid namespace can be known to be dead, however long it takes. */
static bool abandoned(struct state_slot *slot, uint64_t stamp, const struct state_writer *w,
		      uint64_t now)
{
	if ((stamp >> NS_SHIFT & NS_MASK) != ns_bits(w))
		return overdue(slot, stamp, now);
	return w->gone((uint32_t) (stamp >> PID_SHIFT & PID_MASK));
}

static void pack(const char *peer, uint64_t words[PEER_WORDS])
{
	memset(words, 0, STATE_PEER_SIZE);
	memcpy(words, peer, strnlen(peer, STATE_PEER_SIZE - 1));
}

static bool same_peer(const struct state_slot *slot, const uint64_t words[PEER_WORDS])
{
	for (int i = 0; i < PEER_WORDS; i++)
		if (atomic_load_explicit(&slot->peer[i], memory_order_relaxed) != words[i])
			return false;
	return true;
}

static bool idle(const struct state_slot *slot, uint64_t now)
{
	const uint64_t used_at = atomic_load_explicit(&slot->used_at, memory_order_relaxed);

	return atomic_load_explicit(&slot->hash, memory_order_relaxed) == 0 ||
	       clock_since(used_at, now) > STATE_IDLE_NS;
}

/* One peer's way through the table. */
struct search {
	struct state *state;
	const struct state_writer *writer;
	uint64_t hash, now;
	uint64_t words[PEER_WORDS];
	unsigned yields; /* so far */
};

static uint32_t place(const struct search *q, uint32_t step)
{
	return (uint32_t) (q->hash + step) & (STATE_SLOTS - 1);
}

enum look { LOOK_FOUND, LOOK_OTHER, LOOK_FREE, LOOK_BUSY, LOOK_END };

/* What stands at @index; @ret_stamp is what was seen there. */
static enum look look(const struct search *q, uint32_t index, uint64_t *ret_stamp)
{
	struct state_slot *slot = &q->state->slots[index];
	const uint64_t stamp = atomic_load_explicit(&slot->stamp, memory_order_acquire);
	const uint64_t hash = atomic_load_explicit(&slot->hash, memory_order_relaxed);

	*ret_stamp = stamp;
	if (odd(stamp))
		return abandoned(slot, stamp, q->writer, q->now) ? LOOK_FREE : LOOK_BUSY;
	if ((stamp & INCARNATION_MASK) == 0)
		return LOOK_END;
	if (hash == q->hash && same_peer(slot, q->words)) {
		/* Acquire: the bytes were read before the stamp is read again. */
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&slot->stamp, memory_order_relaxed) == stamp)
			return LOOK_FOUND;
		return LOOK_BUSY;
	}
	return idle(slot, q->now) ? LOOK_FREE : LOOK_OTHER;
}

/* As look(), but gives a living writer the time to finish. */
static enum look look_patiently(struct search *q, uint32_t index, uint64_t *ret_stamp)
{
	enum look seen = look(q, index, ret_stamp);

	for (; seen == LOOK_BUSY && q->yields < YIELDS_MAX; q->yields++) {
		(void) sched_yield();
		seen = look(q, index, ret_stamp);
	}
	return seen;
}

static struct state_ref ref_of(uint32_t index, uint64_t stamp)
{
	return (struct state_ref) { index, (uint32_t) (stamp & INCARNATION_MASK) };
}

/* Is the peer in the table, and if not, what is the first place it could have? */
static bool seek(struct search *q, uint32_t *ret_index, uint64_t *ret_stamp, bool *ret_free)
{
	*ret_free = false;
	for (uint32_t step = 0; step < STATE_SLOTS; step++) {
		const uint32_t index = place(q, step);
		uint64_t stamp;
		const enum look seen = look_patiently(q, index, &stamp);

		if (seen == LOOK_FOUND) {
			*ret_index = index;
			*ret_stamp = stamp;
			return true;
		}
		if ((seen == LOOK_FREE || seen == LOOK_END) && !*ret_free) {
			*ret_index = index;
			*ret_stamp = stamp;
			*ret_free = true;
		}
		if (seen == LOOK_END)
			break;
	}
	return false;
}

/* Does the peer stand in a slot before @index? A writer that will not finish counts as yes. */
static bool earlier(struct search *q, uint32_t index)
{
	for (uint32_t step = 0; step < STATE_SLOTS && place(q, step) != index; step++) {
		uint64_t stamp;
		const enum look seen = look_patiently(q, place(q, step), &stamp);

		if (seen == LOOK_FOUND || seen == LOOK_BUSY)
			return true;
	}
	return false;
}

static void peer_text(const struct state_slot *slot, char *ret_peer)
{
	for (int i = 0; i < PEER_WORDS; i++) {
		const uint64_t word =
			atomic_load_explicit(&slot->peer[i], memory_order_relaxed);

		memcpy(ret_peer + 8 * i, &word, 8);
	}
	ret_peer[STATE_PEER_SIZE - 1] = '\0';
}

static void fill(const struct search *q, struct state_slot *slot)
{
	atomic_store_explicit(&slot->hash, q->hash, memory_order_relaxed);
	atomic_store_explicit(&slot->used_at, q->now, memory_order_relaxed);
	atomic_store_explicit(&slot->last_error, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->told, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->told_at, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->traced, 0, memory_order_relaxed);
	for (int i = 0; i < SETTINGS_WORDS; i++)
		atomic_store_explicit(&slot->settings[i], 0, memory_order_relaxed);
	for (int i = 0; i < PEER_WORDS; i++)
		atomic_store_explicit(&slot->peer[i], q->words[i], memory_order_relaxed);
	breaker_init(&slot->breaker, q->now);
}

/* Takes the peer out of @slot, if @stamp is still what stands there. */
static void vacate(const struct search *q, struct state_slot *slot, uint64_t stamp)
{
	const uint64_t mine = claimed(stamp, q->writer);

	if (odd(stamp) || !atomic_compare_exchange_strong_explicit(&slot->stamp, &stamp, mine,
								   memory_order_acq_rel,
								   memory_order_relaxed))
		return;
	atomic_store_explicit(&slot->hash, 0, memory_order_relaxed);
	/* Release: as in claim(); whoever took us for dead by now publishes it himself. */
	stamp = mine;
	(void) atomic_compare_exchange_strong_explicit(&slot->stamp, &stamp, published(mine),
						       memory_order_release,
						       memory_order_relaxed);
}

/* Frees a slot of our peer that is one too many. */
static void give_back(const struct search *q, struct state_ref ref)
{
	struct state_slot *slot = &q->state->slots[ref.index];
	const uint64_t stamp = atomic_load_explicit(&slot->stamp, memory_order_relaxed);

	if ((stamp & INCARNATION_MASK) == ref.incarnation)
		vacate(q, slot, stamp);
}

/* Rewrites the slot for our peer. False: somebody else was faster, look again. */
static bool claim(const struct search *q, uint32_t index, uint64_t stamp, struct state_found *ret)
{
	struct state_slot *slot = &q->state->slots[index];
	const bool had_peer = !odd(stamp) && (stamp & INCARNATION_MASK) != 0 &&
			      atomic_load_explicit(&slot->hash, memory_order_relaxed) != 0;
	const uint64_t mine = claimed(stamp, q->writer);
	uint64_t still = mine;

	ret->evicted[0] = '\0';
	if (had_peer)
		peer_text(slot, ret->evicted);
	/* Release and acquire: what is written below stays between the two stamps. */
	if (!atomic_compare_exchange_strong_explicit(&slot->stamp, &stamp, mine,
						     memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	atomic_thread_fence(memory_order_release);
	fill(q, slot);

	/* Release: who reads the even stamp reads the whole slot. Pairs with look(). */
	if (!atomic_compare_exchange_strong_explicit(&slot->stamp, &still, published(mine),
						     memory_order_release,
						     memory_order_relaxed)) {
		/* We were stopped for so long that another took us for dead, and then wrote
		 * over its work: nobody shall find what that came to. */
		vacate(q, slot, still);
		return false;
	}
	ret->ref = ref_of(index, published(mine));
	ret->created = true;
	return true;
}

/*
 * Two processes may claim two slots for one peer, as when they disagree on which slots are
 * idle. The earlier slot stands: who claimed the later one gives it back, and who claimed the
 * earlier one frees the later one, whose owner may have looked before there was an earlier.
 */
static bool settle_claim(struct search *q, struct state_ref ref)
{
	/* Each of two claims is visible before its owner looks for the other one. */
	atomic_thread_fence(memory_order_seq_cst);
	if (earlier(q, ref.index)) {
		give_back(q, ref);
		return false;
	}
	for (uint32_t step = 1; step < STATE_SLOTS; step++) {
		const uint32_t index = (ref.index + step) & (STATE_SLOTS - 1);
		uint64_t stamp;
		const enum look seen = look(q, index, &stamp);

		if (index == place(q, 0) || seen == LOOK_END)
			break;
		if (seen == LOOK_FOUND) /* who is busy there will look for us when it is done */
			give_back(q, ref_of(index, stamp));
	}
	return true;
}

bool state_find(struct state *s, const char *peer, const struct state_writer *writer,
		uint64_t now, struct state_found *ret)
{
	struct search q = { .state = s, .writer = writer, .hash = state_peer_hash(peer), .now = now };

	pack(peer, q.words);
	for (int claims = 0; claims < CLAIMS_MAX; claims++) {
		uint32_t index = 0;
		uint64_t stamp = 0;
		bool free_place;

		if (seek(&q, &index, &stamp, &free_place)) {
			ret->ref = ref_of(index, stamp);
			ret->created = false;
			ret->evicted[0] = '\0';
			return true;
		}
		if (!free_place) {
			atomic_fetch_add_explicit(&s->full, 1, memory_order_relaxed);
			return false;
		}
		if (!claim(&q, index, stamp, ret))
			continue;
		if (settle_claim(&q, ret->ref))
			return true;
	}
	return false;
}

struct state_slot *state_slot(struct state *s, struct state_ref ref)
{
	struct state_slot *slot = &s->slots[ref.index & (STATE_SLOTS - 1)];
	const uint64_t stamp = atomic_load_explicit(&slot->stamp, memory_order_acquire);

	return (stamp & INCARNATION_MASK) == ref.incarnation ? slot : NULL;
}

void state_put_settings(struct state_slot *slot, const struct policy *p,
			const enum config_source sources[CONFIG_KEYS])
{
	uint64_t small = (uint64_t) p->mode << 16 | (uint16_t) p->refusal_errno;

	for (int key = 0; key < CONFIG_KEYS; key++)
		small |= (uint64_t) sources[key] << (32 + 2 * key);

	const uint64_t words[SETTINGS_WORDS] = {
		p->interval_ns,
		p->timeout_ns,
		p->probe_timeout_ns,
		p->patience_ns,
		(uint64_t) p->max_requests << 32 | p->consecutive_failures,
		small,
	};

	for (int i = 0; i < SETTINGS_WORDS; i++)
		atomic_store_explicit(&slot->settings[i], words[i], memory_order_relaxed);
}

bool state_settings(const struct state_slot *slot, struct policy *ret,
		    enum config_source ret_sources[CONFIG_KEYS])
{
	uint64_t words[SETTINGS_WORDS];

	for (int i = 0; i < SETTINGS_WORDS; i++)
		words[i] = atomic_load_explicit(&slot->settings[i], memory_order_relaxed);
	*ret = (struct policy) {
		.interval_ns = words[0],
		.timeout_ns = words[1],
		.probe_timeout_ns = words[2],
		.patience_ns = words[3],
		.max_requests = (uint32_t) (words[4] >> 32),
		.consecutive_failures = (uint32_t) words[4],
		.refusal_errno = (uint16_t) words[5],
		.mode = (enum policy_mode) (words[5] >> 16 & 0xffff),
	};
	for (int key = 0; key < CONFIG_KEYS; key++) {
		ret_sources[key] = (enum config_source) (words[5] >> (32 + 2 * key) & 3);
		if (ret_sources[key] > CONFIG_RULE)
			return false;
	}
	return ret->timeout_ns != 0 && ret->mode <= POLICY_FORCED_CLOSED;
}

void state_touch(struct state_slot *slot, uint64_t now)
{
	if (clock_since(atomic_load_explicit(&slot->used_at, memory_order_relaxed), now) > NS_PER_S)
		atomic_store_explicit(&slot->used_at, now, memory_order_relaxed);
}

bool state_read(const struct state *s, uint32_t index, char *ret_peer, struct state_ref *ret_ref)
{
	const struct state_slot *slot = &s->slots[index & (STATE_SLOTS - 1)];
	const uint64_t stamp = atomic_load_explicit(&slot->stamp, memory_order_acquire);

	if (odd(stamp) || (stamp & INCARNATION_MASK) == 0 ||
	    atomic_load_explicit(&slot->hash, memory_order_relaxed) == 0)
		return false;
	peer_text(slot, ret_peer);
	for (char *c = ret_peer; *c != '\0'; c++)
		if ((unsigned char) *c < 0x20 || (unsigned char) *c >= 0x7f)
			*c = '?';
	*ret_ref = ref_of(index & (STATE_SLOTS - 1), stamp);
	return true;
}
