/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen rings of event records in one shared file. A process claims a ring of its own when
 * it first has something to say; when all are taken by living processes it shares ring 0.
 * The oldest record is overwritten, nobody ever waits, and what was lost is counted. A writer
 * that is killed costs the record that it was writing.
 */
#ifndef CORE_RING_H
#define CORE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/event.h"

#define RINGS        16
#define RING_RECORDS 1000

struct ring_file; /* opaque; laid out in ring.c, at offset 0 of the mapped file's body */

/* Names a process for good: pids are reused, a start time tells the two apart. */
struct ring_owner {
	uint32_t pid;
	uint64_t start;  /* field 22 of /proc/PID/stat, or any number fixed per process */
	uint64_t pidns;  /* inode of the pid namespace; 0 when unknown */
};

/* Is the process of that pid, in our pid namespace, surely gone? kill(pid, 0) == ESRCH. */
typedef bool ring_gone(uint32_t pid);

size_t ring_file_size(void);

/* ring_init - make zero-filled memory of ring_file_size() bytes an empty set of rings */
void ring_init(struct ring_file *f);

/* ring_valid - were these bytes, maybe a copy, laid out by this version? */
bool ring_valid(const void *bytes, size_t size);

/*
 * ring_claim - the ring this process writes to, 0..RINGS-1
 * A ring whose owner is of another pid namespace is never taken for gone.
 * Context: any thread, signal handlers too; lock-free; errno kept.
 */
unsigned ring_claim(struct ring_file *f, const struct ring_owner *owner, ring_gone *gone);

/*
 * ring_write - append a record
 * @ring: masked, so that a bad number cannot leave the file
 * Returns false when the record was lost (a slower writer still holds the place).
 * Context: any thread, signal handlers too, several processes at once; lock-free; errno kept.
 */
bool ring_write(struct ring_file *f, unsigned ring, const struct event *e);

/*
 * ring_read - copy the records of all rings, oldest first by mono_ns
 * @bytes:  a private copy of the file's body (tools pread it)
 * @events: @max places; the newest @max are given
 * @ret_lost: overwritten or torn since the rings were made
 * Returns how many. Records whose sequence or checksum does not hold are skipped.
 */
size_t ring_read(const void *bytes, size_t size, struct event *events, size_t max,
		 uint64_t *ret_lost);

#endif
