/* SPDX-License-Identifier: Apache-2.0 */
/* A place in the buffers that a program hands to writev(2) and its kin. */
#ifndef SHIM_CURSOR_H
#define SHIM_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct cursor {
	const struct iovec *iov;
	size_t n_iov, index, offset;
};

/* Of the buffer that it stands in. */
static inline size_t left_in(const struct cursor *c)
{
	return c->iov[c->index].iov_len - c->offset;
}

/* On by @n bytes, and over empty buffers. */
static inline void step(struct cursor *c, size_t n)
{
	while (n > 0 || (c->index < c->n_iov && left_in(c) == 0)) {
		const size_t part = left_in(c) < n ? left_in(c) : n;

		c->offset += part;
		n -= part;
		if (c->index < c->n_iov && left_in(c) == 0) {
			c->index++;
			c->offset = 0;
		}
		if (c->index == c->n_iov)
			return;
	}
}

static inline const char *byte_at(const struct cursor *c)
{
	return (const char *) c->iov[c->index].iov_base + c->offset;
}

static inline bool at_end(const struct cursor *c)
{
	return c->index == c->n_iov;
}

#endif
