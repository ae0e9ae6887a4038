/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and bytes whose last one is the last of a page, with an unreadable page behind it. */
#ifndef TESTS_UNIT_EDGE_H
#define TESTS_UNIT_EDGE_H

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EDGE_PAGES 32 /* longest string: 128 KiB, the kernel's limit on one variable */

/* Copies @n bytes; each call reuses the room of the one before. */
static inline const char *edge_bytes(const void *bytes, size_t n)
{
	static char *end;
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);

	if (!end) {
		char *room = mmap(NULL, (EDGE_PAGES + 1) * page, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert(room != MAP_FAILED);
		end = room + EDGE_PAGES * page;
		assert(mprotect(end, page, PROT_NONE) == 0);
	}
	assert(n <= EDGE_PAGES * page);
	return memcpy(end - n, bytes, n);
}

/* Copies @text with its NUL. */
static inline const char *edge_text(const char *text)
{
	return edge_bytes(text, strlen(text) + 1);
}

#endif
