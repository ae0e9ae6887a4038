/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random streams of HTTP/1 requests, and the look at what came of them on the wire: the
 * program's bytes, and exactly one block of fields before the blank line of each head that
 * is to have one. Settings: OTEL_PROPAGATORS=tracecontext,baggage,b3, so that a head which
 * has a traceparent of its own is added to as well.
 */
#ifndef TESTS_PRELOAD_STREAMS_H
#define TESTS_PRELOAD_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAMS_HEADS 128

/* A generator of random numbers: splitmix64. */
struct random {
	uint64_t state;
};

uint64_t random_next(struct random *r);
/* 0 … @n - 1, and @least … @most. */
uint64_t random_below(struct random *r, uint64_t n);
size_t random_within(struct random *r, size_t least, size_t most);

enum block {
	BLOCK_NONE,
	BLOCK_WHOLE,       /* traceparent and b3 */
	BLOCK_TRACEPARENT, /* the head is large: nothing else */
	BLOCK_B3,          /* it has a traceparent of its own */
	BLOCK_MAYBE,       /* WHOLE or NONE */
};

struct head {
	size_t at, blank, end; /* of its first byte, its blank line, its message's end */
	enum block block;
	bool to_head;          /* it asks by HEAD */
};

struct stream {
	char *bytes;
	size_t len, size;
	unsigned n_heads;
	struct head heads[STREAMS_HEADS];
	bool opaque;           /* from some place on it is not to be followed */
};

enum {
	STREAM_BIG = 0x01,     /* heads of 8 to 60 KiB, often */
	STREAM_SOUND = 0x02,   /* requests alone, all well formed and followed */
	STREAM_SHORT = 0x04,   /* nothing big */
};

/* stream_make - @n requests; the memory is kept for the next one */
void stream_make(struct stream *s, struct random *r, unsigned n, unsigned kinds);
void stream_clear(struct stream *s);
void stream_add(struct stream *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A request, as text, with no body. */
void stream_head(struct stream *s, enum block block, const char *text);
void stream_free(struct stream *s);

/*
 * stream_check - is @wire what the stream is to look like?
 * @whole: all of it was sent; else it may end anywhere
 * @maybe: blocks may be missing
 * @span:  of the last b3 field, 16 digits and NUL; may be NULL
 * Returns NULL, or what is wrong with it, and *ret_at the place in @wire.
 */
const char *stream_check(const struct stream *s, const char *wire, size_t n, bool whole,
			 bool maybe, char *span, size_t *ret_at);


/* stingy_below - put hosts/stingy.c below the shim, before host_start(); stingy_find - after it */
struct stingy;
void stingy_below(void);
struct stingy *stingy_find(void);

#endif
