/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and bytes whose last one is the last of a page, with an unreadable page behind it. */
#ifndef TESTS_UNIT_EDGE_H
#define TESTS_UNIT_EDGE_H

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EDGE_PAGES 32 /* longest string: 128 KiB, the kernel's limit on one variable */

#define EDGE_SLOTS 32 /* strings that may be needed at one time */

/* Copies @n bytes to the end of the slot; each call reuses the room of its slot. */
static inline const char *edge_slot(unsigned slot, const void *bytes, size_t n)
{
	static char *ends[EDGE_SLOTS];
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);

	assert(slot < EDGE_SLOTS && n <= EDGE_PAGES * page);
	if (!ends[slot]) {
		char *room = mmap(NULL, (EDGE_PAGES + 1) * page, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert(room != MAP_FAILED);
		ends[slot] = room + EDGE_PAGES * page;
		assert(mprotect(ends[slot], page, PROT_NONE) == 0);
	}
	return n > 0 ? memcpy(ends[slot] - n, bytes, n) : ends[slot];
}

/* The same in slot 0. */
static inline const char *edge_bytes(const void *bytes, size_t n)
{
	return edge_slot(0, bytes, n);
}

/* Copies @text with its NUL, to slot 0. */
static inline const char *edge_text(const char *text)
{
	return edge_bytes(text, strlen(text) + 1);
}

#endif
