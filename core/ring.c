/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of records that any number of processes write and nobody waits for.
 *
 * A writer takes a position from `head`; the place is the position modulo n, the number of
 * records of a ring. The place's stamp tells whose it is:
 *
 *         claim: CAS                          commit: CAS
 *   done(p - n) ------> writing(p), words... ------------> done(p), check of the words
 *        ^                                                     |
 *        `-------------------- n positions later --------------'
 *
 * A writer killed in between leaves writing(p): that record is missing, and the writer of
 * p + n takes the place over as if it were done. One that was only slow finds on commit
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

#define RING_LAYOUT 2
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
	struct record records[]; /* as many as the file says */
};

/* The head of a file; its rings follow. */
struct ring_file {
	char magic[8];
	uint32_t layout, rings, records, record_size;
	uint64_t pad[5];
};

_Static_assert(sizeof(struct record) == 256, "a record is four cache lines");
_Static_assert(sizeof(struct ring_file) == RING_HEAD_SIZE && sizeof(struct ring) == 64,
	       "rings keep to cache lines of their own");
_Static_assert((RINGS & (RINGS - 1)) == 0, "ring numbers are masked");

static const char magic[8] = "agntring";

static size_t ring_size(uint32_t records)
{
	return sizeof(struct ring) + records * sizeof(struct record);
}

/* Where ring @i begins in the file. */
static size_t ring_offset(uint32_t records, unsigned i)
{
	return sizeof(struct ring_file) + i * ring_size(records);
}

static struct ring *ring_at(const struct rings *r, unsigned i)
{
	return (struct ring *) ((char *) r->file + ring_offset(r->records, i & (RINGS - 1)));
}

size_t ring_file_size(uint32_t records)
{
	return ring_offset(records, RINGS);
}

void ring_init(struct ring_file *f, uint32_t records)
{
	const struct rings r = { f, records };

	for (unsigned i = 0; i < RINGS; i++)
		atomic_store_explicit(&ring_at(&r, i)->head, 1, memory_order_relaxed);
	f->layout = RING_LAYOUT;
	f->rings = RINGS;
	f->records = records;
	f->record_size = sizeof(struct record);
	memcpy(f->magic, magic, sizeof(magic));
}

/* The records of a ring in a file of @size bytes that begins with @head, 0: none of ours. */
static uint32_t records_of(const struct ring_file *head, size_t size)
{
	const uint32_t records = head->records;

	return memcmp(head->magic, magic, sizeof(magic)) == 0 && head->layout == RING_LAYOUT &&
			       head->rings == RINGS &&
			       head->record_size == sizeof(struct record) &&
			       records >= RING_RECORDS_MIN && records <= RING_RECORDS_MAX &&
			       size == ring_file_size(records)
		       ? records
		       : 0;
}

bool ring_open(void *bytes, size_t size, struct rings *ret)
{
	struct ring_file head;

	if (size < sizeof(head))
		return false;
	/* One look at what others may be writing to. */
	memcpy(&head, bytes, sizeof(head));

	const uint32_t records = records_of(&head, size);

	if (records != 0)
		*ret = (struct rings) { bytes, records };
	return records != 0;
}

bool ring_valid(const void *bytes, size_t size)
{
	struct rings r;

	return ring_open((void *) bytes, size, &r);
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

static unsigned claim(const struct rings *r, uint64_t own, ring_gone *gone)
{
	for (unsigned i = 0; i < RINGS; i++) {
		if (atomic_load_explicit(&ring_at(r, i)->owner, memory_order_relaxed) == own)
			return i;
	}
	for (unsigned i = 0; i < RINGS; i++) {
		struct ring *const ring = ring_at(r, i);
		uint64_t seen = atomic_load_explicit(&ring->owner, memory_order_relaxed);

		/* Relaxed: owning a ring spares others' cache lines, it guards nothing. */
		if (owner_gone(seen, own, gone) &&
		    atomic_compare_exchange_strong_explicit(&ring->owner, &seen, own,
							    memory_order_relaxed,
							    memory_order_relaxed))
			return i;
		if (seen == own)
			return i; /* another thread of ours was quicker */
	}
	return 0;
}

unsigned ring_claim(const struct rings *r, const struct ring_owner *owner, ring_gone *gone)
{
	const int kept = errno;
	const unsigned ring = claim(r, owner_of(owner), gone);

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

bool ring_write(const struct rings *r, unsigned ring_index, const struct event *e)
{
	struct ring *const ring = ring_at(r, ring_index);
	const uint64_t position = atomic_fetch_add_explicit(&ring->head, 1, memory_order_relaxed);
	struct record *const record = &ring->records[position % r->records];
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

/* Does @record hold the whole record of that stamp? */
static bool take_record(const struct record *record, uint64_t stamp, struct event *ret)
{
	uint64_t words[WORDS];

	for (size_t i = 0; i < WORDS; i++)
		words[i] = atomic_load_explicit(&record->words[i], memory_order_relaxed);
	if (done(position_of(stamp), words) != stamp)
		return false;
	memcpy(ret, words, sizeof(*ret));
	ret->text[sizeof(ret->text) - 1] = '\0';
	return true;
}

static bool read_record(const struct rings *r, const struct record *record, uint64_t head,
			size_t place, struct event *ret)
{
	/* Acquire for a reader of the mapping itself; a copy has no order to keep. */
	const uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_acquire);
	const uint64_t age = behind(head, position_of(stamp));

	if ((stamp & DONE) == 0 || age == 0)
		return false;
	/*
	 * The whole position, of which the stamp keeps the low bits, must lead to this place.
	 * A head of noise may have gone round 2^64; so does this difference.
	 */
	return (head - age) % r->records == place && take_record(record, stamp, ret);
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

/* The records of one ring; returns how many were whole. */
static uint64_t read_ring(const struct rings *r, const struct ring *ring, uint64_t head,
			  struct event *events, size_t *used, size_t max)
{
	uint64_t whole = 0;

	for (size_t i = 0; i < r->records; i++) {
		struct event e;

		if (!read_record(r, &ring->records[i], head, i, &e))
			continue;
		whole++;
		keep(events, used, max, &e);
	}
	return whole;
}

size_t ring_read(const void *bytes, size_t size, struct event *events, size_t max,
		 uint64_t *ret_lost)
{
	uint64_t lost = 0;
	size_t used = 0;
	struct rings r;

	*ret_lost = 0;
	if (!ring_open((void *) bytes, size, &r))
		return 0;
	for (unsigned i = 0; i < RINGS; i++) {
		const struct ring *const ring = ring_at(&r, i);
		const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

		if (unused(ring, head))
			continue;

		const uint64_t whole = read_ring(&r, ring, head, events, &used, max);

		if (head > 0 && head - 1 > whole)
			lost += head - 1 - whole;
	}
	qsort(events, used, sizeof(*events), by_time);
	*ret_lost = lost;
	return used;
}

/* ---- following ---- */

#define CHUNK 32 /* records copied at once: 8 KiB */

uint32_t ring_follow_begin(ring_copy *copy, void *arg, size_t size)
{
	struct ring_file head;

	return size >= sizeof(head) && copy(arg, &head, sizeof(head), 0)
		       ? records_of(&head, size)
		       : 0;
}

static bool copy_head(ring_copy *copy, void *arg, uint32_t records, unsigned i, uint64_t *ret)
{
	return copy(arg, ret, sizeof(*ret),
		    ring_offset(records, i) + offsetof(struct ring, head));
}

bool ring_follow_end(ring_copy *copy, void *arg, uint32_t records, struct ring_cursor *c)
{
	*c = (struct ring_cursor) { .ring = 0 };
	for (unsigned i = 0; i < RINGS; i++) {
		if (!copy_head(copy, arg, records, i, &c->next[i]))
			return false;
	}
	return true;
}

/* A reader on its way through one ring. */
struct following {
	ring_copy *copy;
	void *arg;
	uint32_t records;
	uint64_t head;
	uint64_t *lost;
};

/* Where to begin: what is older than a whole round has been overwritten. */
static uint64_t first_of(const struct following *f, uint64_t next)
{
	const uint64_t there = f->head - 1 < f->records ? f->head - 1 : f->records;

	if (next == 0)
		return f->head - there;
	if (f->head - next <= f->records)
		return next;
	/* A head that went back is another's, or noise: what comes now is new. */
	if (f->head - next > UINT64_MAX / 2)
		return f->head;
	*f->lost += f->head - next - f->records;
	return f->head - f->records;
}

/* How many records from @position on lie one behind another, CHUNK at most. */
static size_t run_of(const struct following *f, uint64_t position)
{
	const uint64_t to_head = f->head - position;
	const uint64_t to_end = f->records - position % f->records;
	const uint64_t n = to_head < to_end ? to_head : to_end;

	return n < CHUNK ? (size_t) n : CHUNK;
}

enum met { MET_WHOLE, MET_UNFINISHED, MET_LOST };

static enum met meet(const struct record *record, uint64_t position, struct event *ret)
{
	const uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_relaxed);
	const uint64_t wanted = position & POSITION_MASK;

	if (position_of(stamp) == wanted && (stamp & DONE) != 0)
		return take_record(record, stamp, ret) ? MET_WHOLE : MET_LOST;
	/* Just claimed, or not claimed yet: an older record, or none, still stands there. */
	if (position_of(stamp) == wanted || behind(wanted, position_of(stamp)) <= POSITION_MASK / 2)
		return MET_UNFINISHED;
	return MET_LOST;
}

/* Gives the records of ring @i that are new; returns false when there was no room for all. */
static bool follow_ring(const struct following *f, struct ring_cursor *c, unsigned i,
			struct event *events, size_t *used, size_t max)
{
	struct record chunk[CHUNK];
	uint64_t at = first_of(f, c->next[i]);

	while (at != f->head) {
		const size_t n = run_of(f, at);
		const size_t offset = ring_offset(f->records, i) + sizeof(struct ring)
				      + at % f->records * sizeof(struct record);

		if (*used == max || !f->copy(f->arg, chunk, n * sizeof(chunk[0]), offset))
			break;
		for (size_t k = 0; k < n && *used < max; k++) {
			const enum met met = meet(&chunk[k], at, &events[*used]);

			if (met == MET_UNFINISHED && at >= c->waited[i]) {
				c->waited[i] = f->head;
				c->next[i] = at;
				return true;
			}
			*used += met == MET_WHOLE;
			*f->lost += met != MET_WHOLE;
			at++;
		}
	}
	c->next[i] = at;
	return at == f->head;
}

size_t ring_follow(ring_copy *copy, void *arg, uint32_t records, struct ring_cursor *c,
		   struct event *events, size_t max, uint64_t *io_lost)
{
	struct following f = { copy, arg, records, 0, io_lost };
	size_t used = 0;

	for (; c->ring < RINGS; c->ring++) {
		if (!copy_head(copy, arg, records, c->ring, &f.head))
			continue;
		/* A head of 0 is noise; a head at our place says that nothing is new. */
		if (f.head != 0 && f.head != c->next[c->ring] &&
		    !follow_ring(&f, c, c->ring, events, &used, max) && used == max)
			return used;
	}
	c->ring = 0;
	return used;
}
