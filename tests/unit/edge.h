/* SPDX-License-Identifier: Apache-2.0 */
/* Strings whose last byte is the last of a page, with an unreadable page behind it. */
#ifndef TESTS_UNIT_EDGE_H
#define TESTS_UNIT_EDGE_H

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EDGE_PAGES 32 /* longest string: 128 KiB, the kernel's limit on one variable */

/* Copies @text with its NUL; each call reuses the room of the one before. */
static inline const char *edge_text(const char *text)
{
	static char *end;
	const size_t page = (size_t) sysconf(_SC_PAGESIZE), size = strlen(text) + 1;

	if (!end) {
		char *room = mmap(NULL, (EDGE_PAGES + 1) * page, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert(room != MAP_FAILED);
		end = room + EDGE_PAGES * page;
		assert(mprotect(end, page, PROT_NONE) == 0);
	}
	assert(size <= EDGE_PAGES * page);
	return memcpy(end - size, text, size);
}

#endif
