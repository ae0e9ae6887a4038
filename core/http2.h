/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 connection (RFC 9113), both directions fed every byte from the first one, cut
 * anywhere. It finds where requests, answers and trailers begin and end, keeps the few fields
 * that we want to know, and tells the places in a request's header block where fields may be
 * added, within what the peer allows.
 *
 * What it cannot follow for certain (another protocol, a frame that may not be, a header block
 * that does not decode or needs more memory than there is) makes that direction opaque for good.
 * Nothing is added to requests when either direction is opaque.
 *
 * Bytes that were fed count as sent: header compression cannot be rolled back.
 *
 * A connection that came by an upgrade from HTTP/1 can be fed from its first byte of HTTP/2 on;
 * the answer on stream 1, whose request was HTTP/1, is not followed.
 */
#ifndef CORE_HTTP2_H
#define CORE_HTTP2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/hpack.h"
#include "core/http1.h"

#define HTTP2_MEMORY       131072 /* a connection's, well sized; pages are touched as needed */
#define HTTP2_MEMORY_MIN   16384
#define HTTP2_VALUES_MAX   16384   /* of one block's values that are kept */
#define HTTP2_FIELDS_MAX   28      /* kept of one block */
#define HTTP2_LIST_MAX     1048576 /* of a block, as SETTINGS_MAX_HEADER_LIST_SIZE counts */
#define HTTP2_BLOCK_FRAMES 256     /* of one block; most are made of one */
#define HTTP2_STREAMS      128     /* followed at a time */
#define HTTP2_UNANSWERED   16      /* SETTINGS of one side without their ACK */
#define HTTP2_FRAME_HEAD   9
#define HTTP2_NO_SLOT      UINT8_MAX

/* On which end of the connection the program is. */
enum http2_role { HTTP2_CLIENT, HTTP2_SERVER };

/*
 * What is kept of a block, beside enum http1_field: there :method is HTTP1_METHOD, :path
 * HTTP1_TARGET, :authority HTTP1_HOST (a field "host" too, after it).
 */
enum http2_field {
	HTTP2_SCHEME = HTTP1_FIELD_IDS,
	HTTP2_PROTOCOL, /* of an extended CONNECT */
	HTTP2_GRPC_STATUS,
	HTTP2_GRPC_MESSAGE,
	HTTP2_GRPC_TIMEOUT,
	HTTP2_FIELD_IDS
};

enum http2_kind {
	HTTP2_REQUEST,
	HTTP2_INFORMATIONAL, /* 1xx; another block follows for this request */
	HTTP2_RESPONSE,
	HTTP2_TRAILERS,
};

enum http2_reason {
	HTTP2_FOLLOWED,  /* not opaque */
	HTTP2_NOT_HTTP2, /* no preface, or no SETTINGS first: of both directions */
	HTTP2_BAD_FRAME,
	HTTP2_FRAME_TOO_LONG, /* longer than its receiver ever allowed */
	HTTP2_BAD_BLOCK,      /* of header compression */
	HTTP2_BLOCK_TOO_LONG, /* HTTP2_LIST_MAX, HTTP2_BLOCK_FRAMES */
	HTTP2_NO_MEMORY,      /* for its table, or for a value that is being read */
	HTTP2_BAD_SETTINGS,   /* values that may not be, an ACK of none, HTTP2_UNANSWERED */
	HTTP2_UNSEEN,         /* bytes went past us (http2_lost(), http2_skip()) */
	HTTP2_REASONS
};

enum http2_stop {
	HTTP2_MORE,       /* every byte was taken, nothing more to say */
	HTTP2_HEAD,       /* a request begins: the head of its HEADERS frame was taken */
	HTTP2_HOLD,       /* now or never: http2_hold() */
	HTTP2_BLOCK_END,  /* fields may be added here: http2_edits() */
	HTTP2_HEADERS,    /* a header block is complete, and its last frame was taken */
	HTTP2_END_STREAM, /* this side has sent all of its message */
	HTTP2_RESET,      /* RST_STREAM: the stream is over; see @code */
	HTTP2_GOAWAY,     /* streams above @last_stream were not and will not be looked at */
	HTTP2_OPAQUE,     /* from here on, and for good; see @reason; said once */
};

/* Where a request's block ends, and what it takes to add to it. See http2_edits(). */
struct http2_place {
	uint32_t stream;
	uint32_t length;              /* of the payload of the frame that ends the block */
	uint8_t type, flags, padding; /* of that frame, as the program wrote it */
	bool whole;                   /* all of it is in hand */
	bool held; /* http2_hold(): a CONTINUATION is due here, with fields or without */
	bool may_add;
	size_t back;          /* bytes from the first one of its head to here */
	size_t in_hand;       /* of those before here, the last ones, how many may be changed yet */
	uint32_t list_size;   /* of the block: for each field name, value and HPACK_ENTRY */
	uint32_t frame_limit; /* the peer's SETTINGS_MAX_FRAME_SIZE */
	uint32_t list_limit;  /* and SETTINGS_MAX_HEADER_LIST_SIZE; UINT32_MAX: it set none */
};

/* A SETTINGS frame that its receiver has not acknowledged: what it says of the table. */
struct http2_unanswered {
	uint32_t table_least, table; /* UINT32_MAX: nothing */
};

/*
 * One direction. Callers read the members above the line. Of a stream @stream to @fields are
 * what the last stop was about, and stay until http2_feed() is called for this direction again.
 */
struct http2_flow {
	_Atomic uint8_t reason; /* enum http2_reason */
	_Atomic bool parted;    /* http2_part() */
	uint8_t kind;           /* enum http2_kind */
	uint8_t slot;           /* of @stream; HTTP2_NO_SLOT: it is not followed (HTTP2_HEAD) */
	bool end_stream;        /* HTTP2_HEADERS: HTTP2_END_STREAM comes next */
	bool closed;            /* nothing will be said of @stream any more, by either side */
	bool tunnel;            /* a request by CONNECT: its DATA is another protocol's */
	bool fields_cut;        /* there were more of interest than fit */
	uint8_t n_fields;
	uint16_t status;          /* :status; 0 none */
	int16_t grpc_status;      /* of these fields; -1 none, or not a number */
	enum http1_method method; /* of a request */
	uint32_t stream;
	uint32_t code;             /* of HTTP2_RESET, HTTP2_GOAWAY */
	uint32_t last_stream;      /* of HTTP2_GOAWAY */
	uint32_t list_size, lines; /* of the block, so far */
	struct http1_slice fields[HTTP2_FIELDS_MAX];
	struct http2_place place; /* of HTTP2_BLOCK_END */
	char *values;             /* what the slices are of */
	/* ---- the machine's own; see http2.c ---- */
	struct hpack hpack;
	uint16_t values_size, values_used;
	uint8_t state, next;
	uint16_t due; /* stops to be said, 1 << enum http2_stop */
	uint8_t sub, flags, type, padding, prefix, pinned;
	uint8_t broken;     /* enum http2_reason of a block that is held */
	bool begun;         /* the first frame was seen */
	bool open;          /* a block goes on: CONTINUATION must come */
	bool fresh, pushed; /* of the block: a new request's, a push's */
	bool plain, odd;    /* it has a field that is no pseudo-header; is not as it should be */
	uint16_t frames;    /* of the block */
	uint32_t newest;    /* stream that the client opened last */
	uint32_t left;      /* payload still to come */
	struct http2_unanswered settings; /* of the frame that is being read */
	char buf[HTTP2_FRAME_HEAD];
	/* What this side says that it takes. Written by this direction, read by the other. */
	_Atomic uint32_t frame_limit, frame_most, list_limit;
	_Atomic uint32_t asked,
		answered; /* of @unanswered; the other direction counts the latter */
	struct http2_unanswered unanswered[HTTP2_UNANSWERED];
};

/* The flows by enum http1_side. At most 2 KiB beside the memory that http2_init() is given. */
struct http2 {
	struct http2_flow flows[2];
	enum http2_role role;
	_Atomic uint64_t streams[HTTP2_STREAMS]; /* `id:32 | flags`, see http2.c; 0: free */
};

/*
 * Bytes of one direction. Those that stand around them in the same call of the program's, as
 * yet unsent, are in hand too: they can still be changed. After a stop: http2_on().
 */
struct http2_input {
	const char *bytes;
	size_t n;
	size_t before; /* fed already, not sent yet */
	size_t after;  /* fed next */
};

static inline void http2_on(struct http2_input *in, size_t used)
{
	in->bytes += used;
	in->n -= used;
	in->before += used;
}

/*
 * http2_begins - are the first @n bytes of a direction HTTP/2's?
 * Returns 1 when they are, -1 when they are not, 0 when it takes more to tell: 24 bytes of
 * requests, 9 of responses. A server may greet before it has heard of the client.
 */
int http2_begins(enum http1_side side, const char *bytes, size_t n);

/*
 * http2_init - at the first byte of a connection
 * @memory: aligned to 8 bytes; borrowed until the connection is done with; half of it for each
 *          direction: a quarter of that, at most HTTP2_VALUES_MAX, for values, the rest for its
 *          header table
 * @size:   of it; from HTTP2_MEMORY_MIN on
 */
void http2_init(struct http2 *h, enum http2_role role, void *memory, size_t size);

/*
 * http2_feed - look at the next bytes of the direction @side
 * @extra: the user's names; NULL for none
 * @ret_used: how many were taken; the caller calls again with the rest until HTTP2_MORE, for
 *            there may be something to say with no byte left
 *
 * Of a stream come, in this order: HTTP2_HEAD once; if the program is the client HTTP2_HOLD and
 * HTTP2_BLOCK_END, each at most once; HTTP2_HEADERS, more than once; HTTP2_END_STREAM. Of one
 * for which there is no slot comes HTTP2_HEAD alone, of pushed ones nothing. When both sides have
 * ended it, or one resets it, @closed is set; its slot is free once http2_feed() is called again
 * for a direction that said so, and the other one has nothing more to say.
 *
 * HTTP2_HOLD: the frame that ends the block of a new request is not whole in hand, but its flags
 * are. To add fields all the same, http2_hold(), before anything is sent.
 * HTTP2_BLOCK_END: before padding and next frame, or, when it is held, after the padding. Not
 * said of trailers, or of blocks that are not a request's.
 * HTTP2_OPAQUE is said before the byte that makes it so, or a few later; after it every byte is
 * taken, with HTTP2_MORE.
 *
 * Context: any thread; for each direction one at a time, both directions at the same time; no
 * lock, no allocation; errno kept.
 */
enum http2_stop http2_feed(struct http2 *h, enum http1_side side, const struct http1_extra *extra,
			   const struct http2_input *in, size_t *ret_used);

/*
 * http2_skip - @n bytes of which only the number is known went by (sendfile, splice)
 * Taken as far as they are within DATA; anywhere else the direction is opaque.
 * Returns as http2_feed(), with the same need to call again.
 */
enum http2_stop http2_skip(struct http2 *h, enum http1_side side, uint64_t n, uint64_t *ret_used);

/*
 * http2_lost - bytes went by that were not seen: opaque, as the next http2_feed() says
 * While a block is held nothing can help its receiver any more, which waits for a CONTINUATION.
 */
void http2_lost(struct http2 *h, enum http1_side side);

/*
 * http2_part - the other direction is not followed any more: nor is this one, from its next
 * frame on, when what its receiver was promised (http2_hold()) has been said
 * Context: any thread.
 */
void http2_part(struct http2 *h, enum http1_side side);

/* http2_owes - is the CONTINUATION of http2_hold() still to come? */
bool http2_owes(const struct http2 *h);

/*
 * http2_plain - how many of the next @n bytes come before a header block
 * Only the heads of frames are read. Bytes of a block that goes on are none of them; of a head
 * that is cut, so that it cannot be told yet, none too.
 * @at: where the walk stands, from http2_walk(); a call's further pieces go on with it
 */
struct http2_walk {
	uint64_t left; /* of the payload */
	bool block;    /* the next byte is, or may be, of a header block */
};
struct http2_walk http2_walk(const struct http2 *h, enum http1_side side);
size_t http2_plain(struct http2_walk *at, const char *bytes, size_t n);

/* http2_frame_left - bytes to the end of the frame, or, between two, to the end of its head */
uint64_t http2_frame_left(const struct http2 *h, enum http1_side side);

/* http2_heads - is the next byte one of a frame's head? */
bool http2_heads(const struct http2 *h, enum http1_side side);

/* http2_frame_length - of the payload, by the first three bytes of a frame's head */
static inline uint32_t http2_frame_length(const char *head)
{
	return (uint32_t) (uint8_t) head[0] << 16 | (uint32_t) (uint8_t) head[1] << 8 |
	       (uint8_t) head[2];
}

/* Between two frames: nothing of the next one was taken, and no CONTINUATION is due. */
bool http2_between(const struct http2 *h, enum http1_side side);

/*
 * http2_stream - the stream in a slot, 0 for none
 * For walking all that are left, at the end of a connection or after HTTP2_GOAWAY.
 */
uint32_t http2_stream(const struct http2 *h, unsigned slot);

/* http2_find - the first slice of @id, or NULL; @ret_n (may be NULL): how many there are */
const struct http1_slice *http2_find(const struct http2_flow *f, unsigned id, unsigned *ret_n);

/* For people. */
const char *http2_reason_name(enum http2_reason reason);

/* ---- adding fields ---- */

/* A change of the program's bytes, at a place relative to where the stop was said. */
struct http2_edit {
	ptrdiff_t at;
	size_t replaced;   /* bytes there that give way; as many as come, or 0 */
	const char *bytes; /* borrowed from what the edit was made of */
	size_t n;
};

/* In order of their places. */
struct http2_edits {
	unsigned n;
	struct http2_edit list[2];
	char room[3];
};

/*
 * Fields to be added, literals without indexing (RFC 7541, 6.2.2): they leave no trace in the
 * tables of either side.
 */
struct http2_literals {
	char *room;         /* the first HTTP2_FRAME_HEAD bytes are left free */
	size_t size, used;  /* used: with those bytes */
	uint32_t list_size; /* as http2_place's */
	bool cut;           /* not all did fit */
};

/* @size: at least HTTP2_FRAME_HEAD */
struct http2_literals http2_literals_in(char *room, size_t size);

/*
 * http2_literal - add a field
 * @name:  lower case, no pseudo-header; NUL-terminated
 * @value: @len bytes; white space around it is left out
 *
 * Returns false, nothing added, when it may not be in a header block (control characters) or
 * finds no room (@cut).
 */
bool http2_literal(struct http2_literals *l, const char *name, const char *value, size_t len);

/* http2_frame_head - the nine bytes before a payload of @length bytes */
void http2_frame_head(char ret[HTTP2_FRAME_HEAD], uint32_t length, uint8_t type, uint8_t flags,
		      uint32_t stream);

/*
 * http2_hold - right after HTTP2_HOLD: the block will go on in a CONTINUATION of ours
 * @ret: clears the frame's END_HEADERS; its bytes live in @h until the direction is fed again
 *
 * The peer waits for that CONTINUATION: what http2_edits() says at HTTP2_BLOCK_END must be
 * done, with fields or without.
 */
void http2_hold(struct http2 *h, struct http2_edit *ret);

/*
 * http2_edits - what to change at HTTP2_BLOCK_END so that the block has the fields of @l too
 * @l: may have none; written to before its first literal; borrowed by the edits
 *
 * Returns false when they cannot be added: over a limit of the peer's, or the head of the frame
 * is not in hand. The edits have then to be done all the same: there is none, but for a place
 * that is held, an empty CONTINUATION.
 */
bool http2_edits(const struct http2_place *p, struct http2_literals *l, struct http2_edits *ret);

#endif
