/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 on a followed connection: its machine (core/http2.h), and what is known of each of its
 * streams. A connection turns out to be HTTP/2 by its first bytes, in each direction by itself;
 * from then on traffic.c hands that direction's bytes to these calls.
 *
 *   a call of the breaker's ... one for each stream; the first has the ticket of the connect
 *   refused .................. the connection, not the stream: whoever asks on it hears the errno
 *                              of refused connects, and its reader that it has ended
 *   outcome .................. gRPC's status, else HTTP's; a reset, an end in the middle
 *
 * Streams beyond HTTP2_STREAMS at once go by unfollowed, and are counted.
 */
#ifndef SHIM_H2_H
#define SHIM_H2_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/http2.h"
#include "shim/cursor.h"
#include "shim/traffic_place.h"

/* Of one stream. Plain members are written before the other side can know of it. */
struct h2_stream {
	struct request_token token;
	struct breaker_ticket ticket;
	uint64_t begun;              /* clock_now() */
	uint64_t timeout_ns;         /* that the caller gave it (grpc-timeout); 0 none */
	bool rpc;
	bool first;                  /* the connect's ticket is its own */
	_Atomic bool alive;          /* not over */
	_Atomic bool answered;       /* all of its answer has come */
	_Atomic bool unsettled;      /* its call has no outcome yet */
	_Atomic uint8_t rpc_status;  /* 1 + gRPC's; 0 none yet */
	_Atomic uint16_t status;     /* of its answer; 0 none yet */
};

#define H2_PATCHES 2

/*
 * A part of what a client sends that has a header block in it: looked at, with ours laid beside
 * it, and not all taken by the kernel yet. The program is told that its last byte went when
 * ours have gone too: so it comes back with the rest.
 */
struct h2_piece {
	uint32_t blob;               /* the program's bytes: 1 + number */
	uint32_t len, told;          /* of them, and how many the program knows to be sent */
	uint32_t at, n;              /* our bytes, before byte @at of them */
	const char *bytes;
	uint32_t n_patches;          /* bytes of theirs that are others when they go */
	struct {
		uint32_t at, n;
		char bytes[3];
	} patches[H2_PATCHES];
	uint32_t out;                /* bytes, ours and theirs, that went */
};

struct h2 {
	_Atomic uint32_t next_free;  /* the pool's */
	struct http2 machine;
	_Atomic uint32_t in_flight;  /* streams that are followed and not over */
	_Atomic uint32_t probes;     /* of them, those that a half-open breaker let pass */
	_Atomic int refused;         /* errno that everything sent from now on gets */
	_Atomic uint8_t latest;      /* slot of the stream that began last */
	uint64_t began_wall, began_mono; /* served: when the present head began */
	/* Connected: of the block that is being sent. */
	bool ids_taken, asked;       /* asked: a stream has begun */
	bool added;                  /* something was added on the connection */
	struct h2_piece piece;
	struct h2_stream streams[HTTP2_STREAMS];
	_Alignas(8) char memory[HTTP2_MEMORY];
};

/* h2_of - the place of a connection that is HTTP/2, or NULL. Context: any thread. */
struct h2 *h2_of(const struct traffic *t);

/*
 * h2_begins - the bytes of @side are HTTP/2's from here on
 * False: no memory, they are not followed. Context: the holder of that side's lane.
 */
bool h2_begins(struct traffic *t, enum http1_side side);

/*
 * h2_feed - these bytes of @side went by
 * h2_skip - so many did, unseen
 * h2_lose - what went by is not known
 * Context: the holder of that side's lane, under the guard.
 */
void h2_feed(struct traffic *t, int fd, fds_word word, enum http1_side side, const char *bytes,
	     size_t n);
void h2_skip(struct traffic *t, int fd, fds_word word, enum http1_side side, uint64_t n);
void h2_lose(struct traffic *t, enum http1_side side);

/*
 * h2_refuse - a stream was refused, and with it whatever is sent from now on
 * Context: the holder of the lane that is sent in, under the guard.
 */
void h2_refuse(struct traffic *t, fds_word word, int error);

/* h2_failed - the peer has ended its side (0), or the connection failed (an errno) */
void h2_failed(struct traffic *t, fds_word word, int error);

/* h2_ends - the connection is over. Context: both lanes are the caller's. */
void h2_ends(struct traffic *t, fds_word word);

/* h2_only - the one request that is in flight; void when there are more, or none */
struct request_token h2_only(const struct h2 *h);

/*
 * h2_told - the machine has said something of @side
 * Returns false when a stream that begins is refused: *ret_errno.
 */
bool h2_told(struct traffic *t, int fd, fds_word word, enum http1_side side, enum http2_stop stop,
	     int *ret_errno);

/*
 * h2_take_ids - the present block is a request's, and complete but for what we add
 * Returns the request of its stream, NULL when it is not traced; @ret_wrote: what the program
 * wrote of the fields that are ours.
 */
struct call_wrote;
struct request *h2_take_ids(struct h2 *h, struct call_wrote *ret_wrote);

/*
 * h2_send - send a client's bytes, with ours where they belong
 * As traffic_send(), with the lane held and the guard not; @c has bytes.
 */
ssize_t h2_send(struct traffic *t, int fd, fds_word word, struct cursor *c,
		const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg);

/* h2_flush - the program comes with bytes of which we see nothing: what it left is given up */
void h2_flush(struct traffic *t);

/* h2_drop - nothing of ours will go any more */
void h2_drop(struct traffic *t);

#endif
