/* SPDX-License-Identifier: Apache-2.0 */
/* What traffic.c and inject.c share: a connection's HTTP, and its requests in flight. */
#ifndef SHIM_TRAFFIC_PLACE_H
#define SHIM_TRAFFIC_PLACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/http1.h"
#include "core/metrics.h"
#include "shim/guard.h"
#include "shim/request.h"
#include "shim/tls.h"
#include "shim/traffic.h"

#define TRAFFIC_QUEUE 128 /* requests in flight on one connection; power of two */
#define TRAFFIC_ARENA 512 /* of the fields of a request; longer ones move to a blob */
#define TRAFFIC_OUT   704 /* fields that we add; longer ones are laid out in a blob */
#define TRAFFIC_PATCH 16  /* digits of a parent-id */

/*
 * One connection. Members belong to whoever holds the lane of the direction that they are
 * about, unless they are atomic.
 */
struct traffic {
	struct http1 requests, responses;
	bool inbound;
	_Atomic bool lost[2];          /* by lane: something went past us */
	_Atomic uint32_t marks[2];     /* by lane: calls begun */
	_Atomic uint32_t pushed, popped; /* of @queue: by requests, by responses */
	_Atomic uint32_t queue[TRAFFIC_QUEUE]; /* `method:4 | place of its request:28` */
	uint16_t status;               /* of the answer that is being read or written */

	/* Accepted: when the present head began. */
	uint64_t began_wall, began_mono;

	/* Connected: the request that is being written. */
	struct request_token owner;    /* who had the connection made, for its first request */
	const void *maker;             /* guard of the thread that had it made */
	struct request_token making;
	bool asked;                    /* a request has begun on this connection */
	bool added;                    /* something was added on it, or may be */
	bool head_open;                /* from a head's first byte until its last was taken */
	bool line_said;                /* the next byte begins a head, and that was told */
	bool queued, ids_taken, rewrite; /* of the present head */
	bool injected;                 /* the kernel has taken at least a byte of our fields */
	uint8_t patched;               /* digits of @patch that went of an id that was cut */
	bool patch_due;                /* the others are to go in the place of @patch_old's … */
	uint32_t patch_after;          /* … after so many of the program's bytes */
	_Atomic(const void *) sender;  /* guard of the thread that is in traffic_send(); NULL */
	_Atomic uint32_t tail_len;     /* bytes of our fields still to be sent */
	uint32_t tail_at;              /* where they begin in @block */
	uint64_t tail_unseen;          /* stream_unseen() when they were left */
	const char *block;             /* the fields laid out last: @out, or a blob */
	uint32_t arena_blob, out_blob; /* 1 + number; 0 none */
	char patch[TRAFFIC_PATCH], patch_old[TRAFFIC_PATCH];
	/* TLS: of a record that waits to be written again, and what stands behind it. */
	struct {
		uint32_t blob, len, out; /* of ours and theirs, and how much of it went */
		uint32_t covers;         /* bytes of the program's that are in it */
		size_t fed;              /* looked at, from byte @done of the program's call on */
		size_t done;             /* went, and the program does not know */
		size_t raw;              /* length of the last write of its own bytes */
	} held;
	_Atomic bool holds;            /* something is held */
	_Atomic bool secure;           /* the handshake is over */
	_Atomic bool claimed;          /* a session of a library's is known to be its own */
	_Atomic int read_to;           /* 1 + errno (0: the end) that the socket was read to; 0 */
	bool framed;                   /* its hello came from below our hooks, and all since */
	uint8_t sealed_reads;          /* while nobody has claimed it */
	uint8_t hello_n;               /* bytes of @hello, as the peer's first ones come */
	char hello[TLS_HELLO];
	_Atomic uint32_t h2;           /* 1 + number of its place, when it is HTTP/2; 0 */
	_Atomic bool multiplexed[2];   /* by enum http1_side: the bytes are for that */
	bool greeted;                  /* the first bytes of answers were looked at */
	char arena[TRAFFIC_ARENA];
	char out[TRAFFIC_OUT];
};

/* By number 0 (STREAM_OUT) and 1 (STREAM_IN). */
static inline unsigned traffic_lane(enum stream_lane lane)
{
	return lane == STREAM_IN;
}

/* traffic_followed - are the bytes at hand looked at? Of TLS those inside, not those on the socket. */
static inline bool traffic_followed(fds_word word)
{
	return stream_http(word) == (guard.plaintext ? STREAM_TLS : STREAM_HTTP);
}

/* traffic_place - of a stream, whoever has its lanes */
struct traffic *traffic_place(fds_word word);

/*
 * traffic_enter - be alone with @lane's machine; NULL when there is nothing to do or somebody
 * else is, who finds it lost then
 */
struct traffic *traffic_enter(fds_word word, enum stream_lane lane);
static inline void traffic_leave(fds_word word, enum stream_lane lane)
{
	stream_lane_give(word, lane);
}

/* traffic_sender - is it the calling thread that sends on it just now, below a handler? */
bool traffic_sender(fds_word word);

/* traffic_push - a request's head is complete; false: too many are in flight */
bool traffic_push(struct traffic *t, enum http1_method method, struct request_token token);

/* Requests that have no whole answer yet. */
uint32_t traffic_in_flight(const struct traffic *t);

/*
 * traffic_tail_due - is it on @fd that the tail is due, and did nobody else send it, who came
 * by the connection in a fork? Context: the holder of the lane; errno clobbered.
 */
bool traffic_tail_due(const struct traffic *t, int fd, fds_word word);

/* traffic_grow - give the request machine a larger arena, or have it cut */
void traffic_grow(struct traffic *t);

/* traffic_opaque - a machine said HTTP1_OPAQUE */
void traffic_opaque(struct traffic *t, int fd, fds_word word, const struct http1 *p);

/* Bytes of a program's call inside TLS, looked at and to be written next. */
struct traffic_cut {
	size_t len;    /* of the program's */
	size_t covers; /* the first of them, which are written as … */
	size_t merged; /* … so many bytes of the caller's room; 0: all as they stand */
	int error;     /* of a refusal */
};

/*
 * traffic_cut - the next piece of a client's call
 * h2_cut - the same of HTTP/2
 * @room: BLOB_SIZE bytes
 * Returns false when it is refused: cut->error, an errno.
 * Context: the holder of the lane, under the guard.
 */
struct cursor;
bool traffic_cut(struct traffic *t, int fd, fds_word word, const struct cursor *at, bool first,
		 char *room, struct traffic_cut *ret);
bool h2_cut(struct traffic *t, int fd, fds_word word, const struct cursor *at, char *room,
	    struct traffic_cut *ret);

/* traffic_speaks_h2 - are the client's bytes HTTP/2's, or do they begin to be? */
bool traffic_speaks_h2(struct traffic *t, const struct cursor *at);

/*
 * Of requests that are read, whatever version of HTTP they are of.
 *
 * traffic_stranger - has a file taken the place of the socket, closed behind our back? It may
 *   hold requests. Event loops, which are not taken at their word by what they read alone, are
 *   spared the call.
 * traffic_serves - serve_begin(), for a request that came by @fd
 * traffic_served - all of it was read
 * traffic_answers - its answer begins
 * Context: under the guard; errno clobbered.
 */
bool traffic_stranger(int fd, fds_word word);
struct serve_head;
struct request_token traffic_serves(int fd, const struct serve_head *head, uint64_t wall_ns,
				    uint64_t mono_ns);
void traffic_served(struct request_token t);
void traffic_answers(struct request_token t);

/* traffic_error - what a span failed by, of an errno; 0: the peer ended */
enum span_error traffic_error(int error);

/*
 * traffic_uncork - the kernel holds the last part of what it took back, for more to come
 * (MSG_MORE), and takes no more: there is none
 */
void traffic_uncork(int fd);

/* traffic_blocks - would a call with @flags wait for room? Context: errno clobbered. */
bool traffic_blocks(int fd, int flags);

/* traffic_count - one more of a coverage counter */
void traffic_count(enum metrics_counter which);

/* traffic_blob - BLOB_SIZE bytes for fields that TRAFFIC_OUT does not hold; NULL: there are none */
char *traffic_blob(struct traffic *t);

#endif
