/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two tables. Host names are written once and stay, found by linear probing. Addresses point
 * at names, in sets of four; the oldest of a full set gives way.
 *
 * Writers: one at a time, by a trylock whose loser forgets its lookup. The lock is the instant
 * it was taken at, because a fork may copy it held by a thread that the child does not have:
 * after a second anyone may take it over. So nothing relies on the lock alone: a name's place
 * is claimed by a compare-exchange, an entry by making its sequence odd. A writer that slept
 * through its lock, or was lost to a fork, costs the one place it had claimed.
 *
 * Readers copy an entry and look at its sequence before and after. There are no fences, which
 * ThreadSanitizer cannot see: fields are stored with release and loaded with acquire. Who
 * reads a new field also sees the odd sequence stored before it, so its second look differs.
 */
#include "core/names.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "core/address.h"
#include "core/clock.h"

#define WAYS        4
#define SETS        (NAMES_ADDRESSES / WAYS)
#define AMBIGUOUS   (UINT32_C(1) << 31) /* in entry.name: had several live names */
#define FOLLOWED    (UINT32_C(1) << 30) /* in entry.name: not the last of its latest lookup */
#define NAME_MASK   (FOLLOWED - 1)
#define STALE_NS    NS_PER_S /* a lookup is learned in microseconds */
#define REFRESH_NS  NS_PER_S /* being found is noted once a second, to keep lines shared */
#define READ_TRIES  4        /* an entry rewritten that often in a row is not worth more */

_Static_assert((NAMES_MAX & (NAMES_MAX - 1)) == 0, "probing wraps by a mask");
_Static_assert((SETS & (SETS - 1)) == 0, "sets are picked by a mask");

enum place { PLACE_FREE, PLACE_CLAIMED, PLACE_READY };

/* Immutable once ready. */
struct name {
	_Atomic uint32_t place; /* enum place; ready is stored with release, after the text */
	char text[NAMES_NAME_SIZE];
};

struct entry {
	_Atomic uint32_t sequence; /* odd while being written */
	_Atomic uint32_t name;     /* 1 + index, and the two flags; 0: free */
	_Atomic uint64_t address[2];
	_Atomic uint64_t live_at;  /* when the name was last looked up or found */
};

struct names {
	_Atomic uint64_t lock;     /* 0: free, else when it was taken */
	struct entry entries[NAMES_ADDRESSES];
	struct name names[NAMES_MAX];
};

/* An entry by value. */
struct copy {
	uint32_t name;
	uint64_t address[2];
	uint64_t live_at;
};

size_t names_size(void)
{
	return sizeof(struct names);
}

static uint64_t mixed(uint64_t h)
{
	h ^= h >> 32;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 29;
}

static uint64_t hash_address(const uint64_t address[2])
{
	return mixed(mixed(address[0]) + address[1]);
}

static uint32_t short_hash(const uint64_t address[2])
{
	return (uint32_t) (hash_address(address) >> 32) | 1; /* 0 means none */
}

static uint64_t hash_text(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (; *text; text++)
		h = (h ^ (unsigned char) *text) * UINT64_C(0x100000001b3);
	return mixed(h);
}

/* ---- the writers' lock ---- */

static bool lock_try(struct names *n, uint64_t now)
{
	uint64_t held = atomic_load_explicit(&n->lock, memory_order_relaxed);

	if (held != 0 && clock_since(held, now) < STALE_NS)
		return false;
	/* Acquire: pairs with unlock(), so that this writer goes on from what the last one left. */
	return atomic_compare_exchange_strong_explicit(&n->lock, &held, now,
						       memory_order_acquire,
						       memory_order_relaxed);
}

static void unlock(struct names *n, uint64_t taken_at)
{
	/* Fails when somebody took the lock over; then it is theirs to open. */
	(void) atomic_compare_exchange_strong_explicit(&n->lock, &taken_at, 0,
						       memory_order_release,
						       memory_order_relaxed);
}

/* ---- names ---- */

/* Lower case, no final dot. Returns false for what is no host name. */
static bool fold(const char *host, char *ret)
{
	struct in6_addr address;
	size_t n = strnlen(host, NAMES_NAME_SIZE + 1);

	if (n > 0 && host[n - 1] == '.')
		n--;
	if (n == 0 || n >= NAMES_NAME_SIZE)
		return false;
	for (size_t i = 0; i < n; i++)
		ret[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char) (host[i] - 'A' + 'a') : host[i];
	ret[n] = '\0';
	return !address_parse(ret, &address);
}

static bool ready(const struct name *name)
{
	/* Acquire: pairs with the release in name_write(); the text is whole. */
	return atomic_load_explicit(&name->place, memory_order_acquire) == PLACE_READY;
}

/* 1 + index of @text, 0 when it is not there. @ret_free: 1 + index of a free place, or 0. */
static uint32_t name_find(struct names *n, const char *text, uint32_t *ret_free)
{
	const uint32_t start = (uint32_t) hash_text(text);

	*ret_free = 0;
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		const uint32_t index = (start + i) & (NAMES_MAX - 1);
		struct name *name = &n->names[index];

		if (ready(name)) {
			if (strcmp(name->text, text) == 0)
				return 1 + index;
		} else if (atomic_load_explicit(&name->place, memory_order_relaxed)
			   == PLACE_FREE) {
			*ret_free = 1 + index;
			return 0;
		}
	}
	return 0;
}

static bool name_write(struct name *name, const char *text)
{
	uint32_t expected = PLACE_FREE;

	/* Relaxed: the claim only keeps a writer out who slept through its lock. */
	if (!atomic_compare_exchange_strong_explicit(&name->place, &expected, PLACE_CLAIMED,
						     memory_order_relaxed,
						     memory_order_relaxed))
		return false;
	(void) strcpy(name->text, text); /* fold() has seen to the size */
	atomic_store_explicit(&name->place, PLACE_READY, memory_order_release);
	return true;
}

/* Holding the lock: 1 + index of @text, added when it is new; 0 when there is no room. */
static uint32_t name_keep(struct names *n, const char *text)
{
	uint32_t place;
	const uint32_t known = name_find(n, text, &place);

	if (known != 0 || place == 0)
		return known;
	return name_write(&n->names[place - 1], text) ? place : 0;
}

/* ---- addresses ---- */

/* Returns false while the entry is being written. */
static bool entry_copy(const struct entry *e, struct copy *ret)
{
	for (int i = 0; i < READ_TRIES; i++) {
		const uint32_t before = atomic_load_explicit(&e->sequence, memory_order_acquire);
		const struct copy copy = {
			.name = atomic_load_explicit(&e->name, memory_order_acquire),
			.address = {
				atomic_load_explicit(&e->address[0], memory_order_acquire),
				atomic_load_explicit(&e->address[1], memory_order_acquire),
			},
			.live_at = atomic_load_explicit(&e->live_at, memory_order_relaxed),
		};

		if (before & 1)
			return false; /* its writer may be the thread that we interrupt */
		if (atomic_load_explicit(&e->sequence, memory_order_relaxed) == before) {
			*ret = copy;
			return true;
		}
	}
	return false;
}

static bool entry_write(struct entry *e, const struct copy *copy)
{
	uint32_t sequence = atomic_load_explicit(&e->sequence, memory_order_relaxed);

	if (sequence & 1
	    || !atomic_compare_exchange_strong_explicit(&e->sequence, &sequence, sequence + 1,
							memory_order_acquire,
							memory_order_relaxed))
		return false;
	/* Release each: pairs with the acquire loads in entry_copy(), see the top. */
	atomic_store_explicit(&e->name, copy->name, memory_order_release);
	atomic_store_explicit(&e->address[0], copy->address[0], memory_order_release);
	atomic_store_explicit(&e->address[1], copy->address[1], memory_order_release);
	atomic_store_explicit(&e->live_at, copy->live_at, memory_order_release);
	atomic_store_explicit(&e->sequence, sequence + 2, memory_order_release);
	return true;
}

static struct entry *set_of(struct names *n, const uint64_t address[2])
{
	return &n->entries[(hash_address(address) & (SETS - 1)) * WAYS];
}

static struct entry *entry_find(struct names *n, const uint64_t address[2], struct copy *ret)
{
	struct entry *set = set_of(n, address);

	for (int i = 0; i < WAYS; i++) {
		if (entry_copy(&set[i], ret) && ret->name != 0
		    && ret->address[0] == address[0] && ret->address[1] == address[1])
			return &set[i];
	}
	return NULL;
}

/* The entry to give to a new address: a free one, else the one not live for the longest. */
static struct entry *entry_oldest(struct names *n, const uint64_t address[2])
{
	struct entry *set = set_of(n, address), *oldest = NULL;
	uint64_t oldest_at = UINT64_MAX;

	for (int i = 0; i < WAYS; i++) {
		struct copy copy;

		if (!entry_copy(&set[i], &copy))
			continue;
		if (copy.name == 0)
			return &set[i];
		if (copy.live_at < oldest_at) {
			oldest = &set[i];
			oldest_at = copy.live_at;
		}
	}
	return oldest;
}

/* What an address's name becomes when @name (0: one that we could not keep) is looked up. */
static uint32_t renamed(const struct copy *old, uint32_t name, uint64_t now)
{
	if (old->name & AMBIGUOUS || (old->name & NAME_MASK) == name)
		return old->name;
	if (name != 0 && clock_since(old->live_at, now) >= NAMES_LIVE_NS)
		return name;
	return old->name | AMBIGUOUS;
}

/* Holding the lock. */
static void entry_learn(struct names *n, const uint64_t address[2], uint32_t name,
			bool followed, uint64_t now)
{
	struct copy copy;
	struct entry *e = entry_find(n, address, &copy);

	if (e) {
		copy.name = renamed(&copy, name, now);
	} else {
		if (name == 0)
			return;
		e = entry_oldest(n, address);
		copy = (struct copy) { name, { address[0], address[1] }, 0 };
	}
	copy.name = (copy.name & ~FOLLOWED) | (followed ? FOLLOWED : 0);
	copy.live_at = now;
	if (e)
		(void) entry_write(e, &copy);
}

/* ---- a thread's latest lookup ---- */

static void words_of(const struct in6_addr *address, uint64_t ret[2])
{
	memcpy(ret, address, 2 * sizeof(uint64_t));
}

static bool latest_has(const struct names_latest *latest, const uint64_t address[2],
		       bool *ret_followed)
{
	const uint32_t hash = short_hash(address);

	for (int i = 0; i < NAMES_LOOKUP_MAX; i++) {
		if (latest->addresses[i] != hash)
			continue;
		*ret_followed = i + 1 < NAMES_LOOKUP_MAX && latest->addresses[i + 1] != 0;
		return true;
	}
	return false;
}

static void latest_set(struct names_latest *latest, uint32_t name,
		       const struct in6_addr *addresses, size_t n_addresses)
{
	latest->name = 0;
	/* A handler on this thread sees the old lookup, none or the new one, never halves. */
	atomic_signal_fence(memory_order_seq_cst);
	for (size_t i = 0; i < NAMES_LOOKUP_MAX; i++) {
		uint64_t address[2];

		latest->addresses[i] = 0;
		if (i >= n_addresses)
			continue;
		words_of(&addresses[i], address);
		latest->addresses[i] = short_hash(address);
	}
	atomic_signal_fence(memory_order_seq_cst);
	latest->name = name;
}

void names_learn(struct names *n, const char *host, const struct in6_addr *addresses,
		 size_t n_addresses, uint64_t now, struct names_latest *latest)
{
	char text[NAMES_NAME_SIZE];
	uint32_t name, place;

	assert(now != 0);
	if (!fold(host, text))
		return;
	if (!lock_try(n, now)) {
		/* The table forgets this lookup; the thread need not, if the name is known. */
		name = name_find(n, text, &place);
		latest_set(latest, name, addresses, n_addresses);
		return;
	}

	name = name_keep(n, text);
	for (size_t i = 0; i < n_addresses && i < NAMES_LEARN_MAX; i++) {
		uint64_t address[2];

		words_of(&addresses[i], address);
		entry_learn(n, address, name, i + 1 < n_addresses, now);
	}
	unlock(n, now);
	latest_set(latest, name, addresses, n_addresses);
}

/* Names never change, so an index is as good as a copy. */
static bool text_of(const struct names *n, uint32_t name, char *ret_host)
{
	const struct name *found = &n->names[(name - 1) & (NAMES_MAX - 1)];

	if (!ready(found))
		return false;
	(void) strcpy(ret_host, found->text);
	return true;
}

bool names_find(struct names *n, const struct in6_addr *address,
		const struct names_latest *latest, uint64_t now, char *ret_host,
		bool *ret_followed)
{
	uint64_t words[2];
	struct copy copy;

	*ret_followed = false;

	words_of(address, words);
	struct entry *e = entry_find(n, words, &copy);

	/*
	 * Relaxed: a hint of use. Written into an entry that has just gone to another address
	 * it keeps that one a little longer.
	 */
	if (e && clock_since(copy.live_at, now) >= REFRESH_NS)
		atomic_store_explicit(&e->live_at, now, memory_order_relaxed);

	if (latest->name != 0 && latest_has(latest, words, ret_followed))
		return text_of(n, latest->name, ret_host);
	if (!e || copy.name & AMBIGUOUS)
		return false;
	*ret_followed = copy.name & FOLLOWED;
	return text_of(n, copy.name & NAME_MASK, ret_host);
}

bool names_address(struct names *n, const char *host, struct in6_addr *ret)
{
	char text[NAMES_NAME_SIZE];
	uint32_t place;
	const uint32_t name = fold(host, text) ? name_find(n, text, &place) : 0;

	for (uint32_t i = 0; name != 0 && i < NAMES_ADDRESSES; i++) {
		struct copy copy;

		if (!entry_copy(&n->entries[i], &copy) || (copy.name & NAME_MASK) != name)
			continue;
		memcpy(ret, copy.address, sizeof(*ret));
		return true;
	}
	return false;
}
