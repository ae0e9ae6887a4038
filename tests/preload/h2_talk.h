/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client says over HTTP/2, made frame by frame with nghttp2's deflater, and the look at
 * what came of it on the wire: every frame as it was, but for one set of fields at the end of
 * each request's header block. Settings: OTEL_PROPAGATORS=tracecontext,baggage,b3.
 *
 * Literals without indexing leave no trace in header tables, so blocks whose bytes are the
 * program's and ours behind them say the same to the peer as without us, and ours.
 */
#ifndef TESTS_PRELOAD_H2_TALK_H
#define TESTS_PRELOAD_H2_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/h2_made.h"

#define TALK_FRAMES  512
#define TALK_STREAMS 100
#define TALK_SIZE    (1 << 20)
#define TALK_HELLO   (24 + 9)

enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
};

enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, HAS_PRIORITY = 32 };

enum talk_block {
	TALK_PLAIN,    /* a frame that is of no block, or the preface */
	TALK_REQUEST,  /* a block that gets fields, */
	TALK_OWN,      /* and has a traceparent already, */
	TALK_MANY,     /* or so much that traceparent alone is added */
	TALK_TRAILERS, /* a block that gets none */
};

/* A frame, or a block with all of its frames. */
struct talk_frame {
	size_t at, end;
	enum talk_block block;
	bool cut; /* the program's calls cut the head of a frame of it: it may be without ours */
};

struct talk {
	struct made made;
	size_t len;
	unsigned n_frames;
	uint32_t opened;                  /* streams */
	uint32_t open[TALK_STREAMS];      /* whose request goes on */
	unsigned n_open;
	struct talk_frame frames[TALK_FRAMES];
	char bytes[TALK_SIZE];
};

/* talk_begin - preface and SETTINGS; talk_end - gives its memory back */
void talk_begin(struct talk *t, uint32_t seed);
void talk_end(struct talk *t);

/* talk_some - at random: @n requests, what goes on of them, and frames of other kinds */
void talk_some(struct talk *t, unsigned n);

/* talk_frame - one frame as it is told */
void talk_frame(struct talk *t, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
		size_t n);

/* talk_request - a small one, of an own stream that it returns; with END_STREAM or without */
uint32_t talk_request(struct talk *t, bool ends);
/* The same with @n more fields, "name", "value" in turn. */
uint32_t talk_request_with(struct talk *t, bool ends, const char *const *fields, unsigned n);

/* talk_cut - the program handed over no more than @at bytes of it in a call */
void talk_cut(struct talk *t, size_t at);

/*
 * talk_check - is @wire what it is to look like?
 * @whole: all of it was sent; else it may end anywhere
 * @maybe: blocks may be without ours
 * @ret_added: requests that have ours; may be NULL
 * Returns NULL, or what is wrong, and *ret_at the place in @wire.
 */
const char *talk_check(const struct talk *t, const char *wire, size_t n, bool whole, bool maybe,
		       unsigned *ret_added, size_t *ret_at);

#endif
