/* SPDX-License-Identifier: Apache-2.0 */
/* An input's lines as values, each in a block of its own size. */
#ifndef TESTS_FUZZ_LINES_H
#define TESTS_FUZZ_LINES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/propagate.h"

#define LINES_MAX 64

struct lines {
	struct propagate_value line[LINES_MAX];
	char *copies[LINES_MAX];
	unsigned n;
};

/* Lines beyond LINES_MAX are left out; those that the input lacks are empty. */
static inline void lines_of(const uint8_t *data, size_t size, struct lines *ret)
{
	const char *at = (const char *) data, *const end = at + size;

	memset(ret, 0, sizeof(*ret));
	while (at < end && ret->n < LINES_MAX) {
		const char *newline = memchr(at, '\n', (size_t) (end - at));
		const size_t n = (size_t) ((newline ? newline : end) - at);
		char *copy = malloc(n > 0 ? n : 1);

		if (!copy)
			abort();
		memcpy(copy, at, n);
		ret->copies[ret->n] = copy;
		ret->line[ret->n++] = (struct propagate_value) { n > 0 ? copy : NULL, n };
		at += n + 1;
	}
}

static inline void lines_free(struct lines *l)
{
	while (l->n > 0)
		free(l->copies[--l->n]);
}

#endif
