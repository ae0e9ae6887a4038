/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of records that any number of processes write and nobody waits for.
 *
 * A writer takes a position from `head`; the place is the position modulo RING_RECORDS. The
 * place's stamp tells whose it is:
 *
 *            claim: CAS                          commit: CAS
 *   done(p - 1000) ------> writing(p), words... ------------> done(p), check of the words
 *          ^                                                      |
 *          `------------------- 1000 positions later -------------'
 *
 * A writer killed in between leaves writing(p): that record is missing, and the writer of
 * p + 1000 takes the place over as if it were done. One that was only slow finds on commit
 * that the stamp has moved on, so its record is lost; the words that it wrote meanwhile into
 * the newer record make that one's check fail, and readers skip it. So no place is ever
 * stuck and no torn record is ever shown, without a lock or a wait.
 *
 * Words and stamps are relaxed atomics but for the commit: a reader works on bytes that
 * pread(2) copied in no particular order, so it is the check over the words that tells a
 * whole record, never the order in which they arrived.
 */
#include "core/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RING_LAYOUT 1
#define WORDS       (sizeof(struct event) / sizeof(uint64_t))

/* Of a stamp: `position:39 | done:1 | check:24`. */
#define POSITION_SHIFT 25
#define POSITION_MASK  (UINT64_MAX >> POSITION_SHIFT)
#define DONE           (UINT64_C(1) << 24)
#define CHECK_MASK     (DONE - 1)

struct record {
	_Atomic uint64_t stamp; /* 0: never written */
	_Atomic uint64_t words[WORDS];
};

struct ring {
	_Atomic uint64_t owner; /* `pid:22 | start:24 | pidns:18`; 0: nobody yet */
	_Atomic uint64_t head;  /* the next position; the first is 1, so that no stamp is 0 */
	uint64_t pad[6];
	struct record records[RING_RECORDS];
};

struct ring_file {
	char magic[8];
	uint32_t layout, rings, records, record_size;
	uint64_t pad[5];
	struct ring rings_[RINGS];
};

_Static_assert(sizeof(struct record) == 256, "a record is four cache lines");
_Static_assert(offsetof(struct ring_file, rings_) % 64 == 0 && sizeof(struct ring) % 64 == 0,
	       "rings keep to cache lines of their own");
_Static_assert((RINGS & (RINGS - 1)) == 0, "ring numbers are masked");

static const char magic[8] = "agntring";

size_t ring_file_size(void)
{
	return sizeof(struct ring_file);
}

void ring_init(struct ring_file *f)
{
	for (unsigned i = 0; i < RINGS; i++)
		atomic_store_explicit(&f->rings_[i].head, 1, memory_order_relaxed);
	f->layout = RING_LAYOUT;
	f->rings = RINGS;
	f->records = RING_RECORDS;
	f->record_size = sizeof(struct record);
	memcpy(f->magic, magic, sizeof(magic));
}

bool ring_valid(const void *bytes, size_t size)
{
	const struct ring_file *const f = bytes;

	return size >= sizeof(*f) && memcmp(f->magic, magic, sizeof(magic)) == 0 &&
	       f->layout == RING_LAYOUT && f->rings == RINGS && f->records == RING_RECORDS &&
	       f->record_size == sizeof(struct record);
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

/* Of a pid every bit is kept (pid_max is at most 2^22), so that its death can be asked. */
static uint64_t owner_of(const struct ring_owner *owner)
{
	return (uint64_t) (owner->pid & 0x3fffff) << 42 |
	       (mix(1, owner->start) >> 40) << 18 | mix(2, owner->pidns) >> 46;
}

static uint32_t owner_pid(uint64_t owner)
{
	return (uint32_t) (owner >> 42);
}

static bool same_pidns(uint64_t a, uint64_t b)
{
	return ((a ^ b) & 0x3ffff) == 0;
}

static bool owner_gone(uint64_t owner, uint64_t own, ring_gone *gone)
{
	if (owner == 0)
		return true;
	if (!same_pidns(owner, own))
		return false; /* its pids mean nothing here */
	/* Our pid with another start: we have it, so that one has not. */
	return owner_pid(owner) == owner_pid(own) || gone(owner_pid(owner));
}

static unsigned claim(struct ring_file *f, uint64_t own, ring_gone *gone)
{
	for (unsigned i = 0; i < RINGS; i++) {
		if (atomic_load_explicit(&f->rings_[i].owner, memory_order_relaxed) == own)
			return i;
	}
	for (unsigned i = 0; i < RINGS; i++) {
		uint64_t seen = atomic_load_explicit(&f->rings_[i].owner, memory_order_relaxed);

		/* Relaxed: owning a ring spares others' cache lines, it guards nothing. */
		if (owner_gone(seen, own, gone) &&
		    atomic_compare_exchange_strong_explicit(&f->rings_[i].owner, &seen, own,
							    memory_order_relaxed,
							    memory_order_relaxed))
			return i;
		if (seen == own)
			return i; /* another thread of ours was quicker */
	}
	return 0;
}

unsigned ring_claim(struct ring_file *f, const struct ring_owner *owner, ring_gone *gone)
{
	const int kept = errno;
	const unsigned ring = claim(f, owner_of(owner), gone);

	errno = kept;
	return ring;
}

static uint64_t position_of(uint64_t stamp)
{
	return stamp >> POSITION_SHIFT;
}

/* How far @position is behind @head, on a circle of 2^39. */
static uint64_t behind(uint64_t head, uint64_t position)
{
	return (head - position) & POSITION_MASK;
}

static uint64_t writing(uint64_t position)
{
	return position << POSITION_SHIFT;
}

/* @words are hashed with their position, so that an old record cannot pass for a new one. */
static uint64_t done(uint64_t position, const uint64_t words[WORDS])
{
	uint64_t hash = position & POSITION_MASK;

	for (size_t i = 0; i < WORDS; i++)
		hash = mix(hash, words[i]);
	hash = mix(hash, WORDS); /* once more: the last word's high bits must reach the check */
	return position << POSITION_SHIFT | DONE | (hash >> 32 & CHECK_MASK);
}

/*
 * Does a stamp belong to a writer that was given a later turn than @position? Only one that
 * the head has really passed counts, lest noise in a file keep a place for ever.
 */
static bool overtaken(const struct ring *ring, uint64_t stamp, uint64_t position)
{
	const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	return behind(head, position_of(stamp)) - 1 < behind(head, position) - 1;
}

bool ring_write(struct ring_file *f, unsigned ring_index, const struct event *e)
{
	struct ring *const ring = &f->rings_[ring_index & (RINGS - 1)];
	const uint64_t position = atomic_fetch_add_explicit(&ring->head, 1, memory_order_relaxed);
	struct record *const record = &ring->records[position % RING_RECORDS];
	uint64_t words[WORDS];
	uint64_t seen = atomic_load_explicit(&record->stamp, memory_order_relaxed);
	uint64_t held = writing(position);

	memcpy(words, e, sizeof(words));
	/*
	 * Lock-free: fails only when another writer's turn at this place has come. Acquire, so
	 * that our words come after the claim; pairs with the release of the last commit.
	 */
	do {
		if (seen != 0 && overtaken(ring, seen, position))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&record->stamp, &seen, held,
							memory_order_acquire,
							memory_order_relaxed));

	for (size_t i = 0; i < WORDS; i++)
		atomic_store_explicit(&record->words[i], words[i], memory_order_relaxed);
	/* Release: who sees the stamp done sees our words. Pairs with read_record(). */
	return atomic_compare_exchange_strong_explicit(&record->stamp, &held,
						       done(position, words),
						       memory_order_release,
						       memory_order_relaxed);
}

static bool read_record(const struct record *record, uint64_t head, size_t place,
			struct event *ret)
{
	/* Acquire for a reader of the mapping itself; a copy has no order to keep. */
	const uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_acquire);
	const uint64_t age = behind(head, position_of(stamp));
	uint64_t words[WORDS];

	if ((stamp & DONE) == 0 || age == 0)
		return false;
	/*
	 * The whole position, of which the stamp keeps the low bits, must lead to this place.
	 * A head of noise may have gone round 2^64; so does this difference.
	 */
	if ((head - age) % RING_RECORDS != place)
		return false;
	for (size_t i = 0; i < WORDS; i++)
		words[i] = atomic_load_explicit(&record->words[i], memory_order_relaxed);
	if (done(position_of(stamp), words) != stamp)
		return false;
	memcpy(ret, words, sizeof(*ret));
	ret->text[sizeof(ret->text) - 1] = '\0';
	return true;
}

static int by_time(const void *a, const void *b)
{
	const struct event *const x = a, *const y = b;

	if (x->mono_ns != y->mono_ns)
		return x->mono_ns < y->mono_ns ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Keeps the newest @max in a heap whose root is the oldest of them. */
static void keep(struct event *heap, size_t *used, size_t max, const struct event *e)
{
	size_t at;

	if (*used < max) {
		for (at = (*used)++; at > 0 && by_time(e, &heap[(at - 1) / 2]) < 0;
		     at = (at - 1) / 2)
			heap[at] = heap[(at - 1) / 2];
		heap[at] = *e;
		return;
	}
	if (max == 0 || by_time(e, &heap[0]) <= 0)
		return;
	for (at = 0;;) {
		size_t child = 2 * at + 1;

		if (child >= max)
			break;
		if (child + 1 < max && by_time(&heap[child + 1], &heap[child]) < 0)
			child++;
		if (by_time(e, &heap[child]) <= 0)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = *e;
}

/* One look instead of a thousand; a head of noise that came round to 1 has written place 0. */
static bool unused(const struct ring *ring, uint64_t head)
{
	return head == 1 &&
	       atomic_load_explicit(&ring->records[0].stamp, memory_order_relaxed) == 0;
}

size_t ring_read(const void *bytes, size_t size, struct event *events, size_t max,
		 uint64_t *ret_lost)
{
	const struct ring_file *const f = bytes;
	uint64_t lost = 0;
	size_t used = 0;

	if (!ring_valid(bytes, size)) {
		*ret_lost = 0;
		return 0;
	}
	for (unsigned r = 0; r < RINGS; r++) {
		const struct ring *const ring = &f->rings_[r];
		const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
		uint64_t whole = 0;

		if (unused(ring, head))
			continue;
		for (size_t i = 0; i < RING_RECORDS; i++) {
			struct event e;

			if (!read_record(&ring->records[i], head, i, &e))
				continue;
			whole++;
			keep(events, &used, max, &e);
		}
		if (head > 0 && head - 1 > whole)
			lost += head - 1 - whole;
	}
	qsort(events, used, sizeof(*events), by_time);
	*ret_lost = lost;
	return used;
}
