/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen rings of records in one shared file. A process claims a ring of its own when it
 * first has something to say; when all are taken by living processes it shares ring 0.
 * The oldest record is overwritten, nobody ever waits, and what was lost is counted. A writer
 * that is killed costs the record that it was writing.
 *
 * Events and spans have a file each, so that a flood of spans overwrites no state change. How
 * many records a ring has is up to whoever makes the file.
 */
#ifndef CORE_RING_H
#define CORE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/event.h"

#define RINGS            16
#define RING_EVENTS      128   /* records a ring in every file of events: 512 KiB in all */
#define RING_RECORDS     1000  /* in a file of spans, unless the user says otherwise */
#define RING_RECORDS_MIN 16
#define RING_RECORDS_MAX 65536 /* a file of 256 MiB */

struct ring_file; /* opaque; laid out in ring.c, at offset 0 of the mapped file's body */

/*
 * A file as a process has mapped it. The number of records was read once and is never looked
 * for in shared memory again: whatever is written there, no index leaves the mapping.
 */
struct rings {
	struct ring_file *file; /* NULL: none */
	uint32_t records;       /* of each ring */
};

/* Names a process for good: pids are reused, a start time tells the two apart. */
struct ring_owner {
	uint32_t pid;
	uint64_t start;  /* field 22 of /proc/PID/stat, or any number fixed per process */
	uint64_t pidns;  /* inode of the pid namespace; 0 when unknown */
};

/* Is the process of that pid, in our pid namespace, surely gone? kill(pid, 0) == ESRCH. */
typedef bool ring_gone(uint32_t pid);

/* ring_file_size - in bytes; @records: of each ring, RING_RECORDS_MIN.._MAX */
size_t ring_file_size(uint32_t records);

/* ring_init - make zero-filled memory of ring_file_size() bytes an empty set of rings */
void ring_init(struct ring_file *f, uint32_t records);

/*
 * ring_open - take @size bytes for rings
 * @ret: set when they are of this version and have room for as many records as they say
 */
bool ring_open(void *bytes, size_t size, struct rings *ret);

/* ring_valid - as ring_open() asks; of bytes that are maybe a copy */
bool ring_valid(const void *bytes, size_t size);

/*
 * ring_claim - the ring this process writes to, 0..RINGS-1
 * A ring whose owner is of another pid namespace is never taken for gone.
 * Context: any thread, signal handlers too; lock-free; errno kept.
 */
unsigned ring_claim(const struct rings *r, const struct ring_owner *owner, ring_gone *gone);

/*
 * ring_write - append a record
 * @ring: masked, so that a bad number cannot leave the file
 * Returns false when the record was lost (a slower writer still holds the place).
 * Context: any thread, signal handlers too, several processes at once; lock-free; errno kept.
 */
bool ring_write(const struct rings *r, unsigned ring, const struct event *e);

/*
 * ring_read - copy the records of all rings, oldest first by mono_ns
 * @bytes:  a private copy of the file's body (tools pread it)
 * @events: @max places; the newest @max are given
 * @ret_lost: overwritten or torn since the rings were made
 * Returns how many. Records whose sequence or checksum does not hold are skipped.
 */
size_t ring_read(const void *bytes, size_t size, struct event *events, size_t max,
		 uint64_t *ret_lost);

/* How far a reader that comes back has got. All zero: it begins at the oldest records. */
struct ring_cursor {
	uint64_t next[RINGS];   /* the position to read next; 0: the oldest there is */
	uint64_t waited[RINGS]; /* unfinished records before this have had their time */
	unsigned ring;          /* where to go on when there was no room */
};

/* Copies @size bytes at @offset of the file's body; false when it cannot. */
typedef bool ring_copy(void *arg, void *to, size_t size, size_t offset);

#define RING_HEAD_SIZE 64 /* of what ring_follow_begin() looks at */

/*
 * ring_follow_begin - how many records a ring of the file has; 0: it is no file of ours
 * @size: of its body
 */
uint32_t ring_follow_begin(ring_copy *copy, void *arg, size_t size);

/* ring_follow_end - move the cursor behind all that is there now */
bool ring_follow_end(ring_copy *copy, void *arg, uint32_t records, struct ring_cursor *c);

/*
 * ring_follow - the records since the last call, ring by ring
 * @events: @max places, at least 1; a full answer means that there may be more, and any other
 *          that the round over all rings is complete
 * @io_lost: added to: records that were overwritten or torn before we came
 * A record that is just being written is waited for until the next round, and no longer: its
 * writer may have been killed. So two rounds give all that there was before the first.
 * Whatever the file holds, a round looks at no record twice.
 */
size_t ring_follow(ring_copy *copy, void *arg, uint32_t records, struct ring_cursor *c,
		   struct event *events, size_t max, uint64_t *io_lost);

#endif
