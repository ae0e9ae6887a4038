/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of an HTTP/1 connection, fed every byte from its first one, cut anywhere. It
 * finds where messages, heads and bodies begin and end (RFC 9112), the place in a request's
 * head where a field may be added, and keeps the few fields that we want to know.
 *
 * What it cannot follow for certain (bad syntax, Transfer-Encoding beside Content-Length, a
 * tunnel, another protocol) makes the direction opaque for good.
 */
#ifndef CORE_HTTP1_H
#define CORE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP1_FIELDS_MAX  24    /* kept of one head: method, target, field lines of interest */
#define HTTP1_HEAD_MAX    65536 /* bytes of one head; a longer one makes the direction opaque */
#define HTTP1_EXTRA_MAX   8     /* names that the user wants kept */
#define HTTP1_NAME_SIZE   48    /* longest name kept, and a NUL */

enum http1_side { HTTP1_REQUESTS, HTTP1_RESPONSES };

enum http1_method {
	HTTP1_OTHER, /* a token that we have no name for, or none yet */
	HTTP1_CONNECT,
	HTTP1_DELETE,
	HTTP1_GET,
	HTTP1_HEAD,
	HTTP1_OPTIONS,
	HTTP1_PATCH,
	HTTP1_POST,
	HTTP1_PUT,
	HTTP1_TRACE,
};

/* What is kept of a head. The first two are of a request's first line. */
enum http1_field {
	HTTP1_METHOD,   /* as written */
	HTTP1_TARGET,   /* as written: origin, absolute, authority or asterisk form */
	HTTP1_HOST,
	HTTP1_TRACEPARENT,
	HTTP1_TRACESTATE,
	HTTP1_BAGGAGE,
	HTTP1_B3,
	HTTP1_B3_TRACEID,
	HTTP1_B3_SPANID,
	HTTP1_B3_PARENTSPANID,
	HTTP1_B3_SAMPLED,
	HTTP1_B3_FLAGS,
	HTTP1_UBER_TRACE_ID,
	HTTP1_X_TRACE_ID,
	HTTP1_USER_AGENT,
	HTTP1_X_FORWARDED_FOR,
	HTTP1_CONTENT_TYPE,
	HTTP1_EXTRA,    /* HTTP1_EXTRA + i: the user's i-th name */
	HTTP1_FIELD_IDS = HTTP1_EXTRA + HTTP1_EXTRA_MAX
};

/* A slice of the arena: one field line's value, white space around it left out. */
struct http1_slice {
	uint8_t id;     /* enum http1_field */
	bool cut;       /* the arena was full: the value goes on */
	uint16_t at, len;
};

enum http1_reason {
	HTTP1_FOLLOWED,        /* not opaque */
	HTTP1_NOT_HTTP,        /* the first bytes are another protocol's */
	HTTP1_H2_PREFACE,      /* "PRI * HTTP/2.0" */
	HTTP1_BAD_SYNTAX,
	HTTP1_BAD_FRAMING,     /* Transfer-Encoding with Content-Length, two lengths, a bad chunk */
	HTTP1_HEAD_TOO_LONG,
	HTTP1_UPGRADED,        /* 101 was answered */
	HTTP1_TUNNEL,          /* a CONNECT request, or the 2xx to it */
	HTTP1_UNSEEN,          /* bytes went past us (http1_lost(), http1_skip()) */
	HTTP1_CUT_SHORT,       /* the sender closed in the middle of a message (http1_end()) */
	HTTP1_REASONS
};

enum http1_stop {
	HTTP1_MORE,        /* every byte was taken, nothing more to say */
	HTTP1_LINE,        /* the first byte of a message comes next: nothing of it was taken */
	HTTP1_BLANK,       /* the blank line that ends the head comes next: fields may be added */
	HTTP1_HEAD_DONE,   /* the blank line was taken; status, fields, to_read are those of it */
	HTTP1_FULL,        /* the arena is full: http1_move(), or http1_cut(), and go on */
	HTTP1_DONE,        /* the message is over, body, trailers and all */
	HTTP1_OPAQUE,      /* from here on, and for good; see @reason; said once */
};

/*
 * 264 bytes, copied by assignment: a copy is a place to come back to, as long as nothing
 * but http1_feed() wrote to the arena since (it only adds to it, until the next message).
 * Callers read the members above the line, and write only @to.
 */
struct http1 {
	enum http1_side side;
	enum http1_reason reason;
	enum http1_method method;  /* of a request */
	/*
	 * Of responses: the method of the request that is answered next, for the caller to set
	 * before the end of the head is fed; it decides whether there is a body.
	 */
	enum http1_method to;
	uint16_t status;           /* of a response; 1xx: another head follows for this request */
	uint8_t minor;             /* HTTP/1.minor: 0 or 1 */
	bool until_close;          /* the body has no other end (responses) */
	bool last;                 /* Connection: close, or HTTP/1.0 without keep-alive */
	bool upgrade;              /* a request that asks for an upgrade */
	bool expects;              /* Expect: 100-continue */
	uint16_t n_fields;         /* of fields[], so far */
	bool fields_cut;           /* there were more of interest than fit */
	uint32_t head_bytes;       /* of the present head, so far */
	uint32_t lines;            /* field lines of the present head, so far */
	struct http1_slice fields[HTTP1_FIELDS_MAX];
	/* ---- the parser's own; see http1.c ---- */
	char *arena;               /* borrowed; may be NULL with size 0: every value is cut to 0 */
	uint64_t to_read;          /* body bytes still to come, of a length or a chunk */
	uint16_t size, used;       /* of the arena */
	uint8_t state, sub, role, flags;
	bool is_http;              /* a first line was one of HTTP/1 */
	bool in_trailers;
	bool open;                 /* the last slice is the present value's */
	bool folded;               /* a space is due before more of the value */
	bool cutting;              /* http1_cut() */
	uint8_t name_used;
	char name[HTTP1_NAME_SIZE];
};

/*
 * Names that the user wants kept beside ours; lower case. Immutable while in use. One that is
 * in enum http1_field anyway is kept under that id.
 */
struct http1_extra {
	uint8_t n;
	char names[HTTP1_EXTRA_MAX][HTTP1_NAME_SIZE];
};

/*
 * http1_init - at the first byte of a connection
 * @arena: where values are kept; borrowed until the direction is done with
 * @size:  of it; at most 65535
 */
void http1_init(struct http1 *p, enum http1_side side, char *arena, size_t size);

/*
 * http1_feed - look at the next @n bytes
 * @extra: the user's names; NULL for none
 * @ret_used: how many were taken; the caller calls again with the rest until HTTP1_MORE
 *
 * HTTP1_LINE is said once before each message's first byte (empty lines before a request are
 * skipped first), HTTP1_BLANK once in each head, before the CR (or LF) of the blank line.
 * HTTP1_HEAD_DONE follows, then HTTP1_DONE; between them, of bodies, nothing. A 1xx response
 * other than 101 ends with HTTP1_DONE as well. Bytes of a body are counted, not read.
 * HTTP1_DONE is said as soon as a body's last byte was taken; where there is no body it comes
 * with the next call, and HTTP1_OPAQUE after the head of a tunnel or an upgrade does too, for
 * which no byte need be at hand: with @n == 0 nothing else is said.
 * HTTP1_OPAQUE is said before the byte that makes it so; after it every byte is taken, with
 * HTTP1_MORE. Of a head that cannot be framed HTTP1_BLANK is not said. The HTTP/2 preface is
 * known when "PRI * HTTP/" was taken of it (head_bytes: 11).
 *
 * Stricter than RFC 9112 lets us be, for what its readers do not agree upon: a second
 * Content-Length, even an equal one or in a list, Transfer-Encoding with a parameter, an
 * empty element or in HTTP/1.0, HT behind the value of either, control characters in a head,
 * chunks without CR LF.
 *
 * Context: any thread, one at a time; no lock, no allocation; errno kept.
 */
enum http1_stop http1_feed(struct http1 *p, const struct http1_extra *extra, const char *bytes,
			   size_t n, size_t *ret_used);

/*
 * http1_skip - @n bytes of which only the number is known went by (sendfile, splice)
 * Taken as far as they are within a body or a chunk of known length, or in a body that lasts
 * until close; anywhere else the direction is opaque.
 * Returns as http1_feed(), with the same need to call again.
 */
enum http1_stop http1_skip(struct http1 *p, uint64_t n, uint64_t *ret_used);

/* http1_lost - bytes went by that were not seen: opaque, as the next http1_feed() says. */
void http1_lost(struct http1 *p);

/*
 * http1_end - the sender closed its side
 * HTTP1_DONE: that ended a body that lasts until then. HTTP1_MORE: between two messages, as
 * it should be. HTTP1_OPAQUE: in the middle of one, or opaque before.
 */
enum http1_stop http1_end(struct http1 *p);

/*
 * http1_move - go on in a larger arena: what is kept is copied there. @size > p->size, at
 * most 65535. Copies of @p made before stay with the old arena.
 */
void http1_move(struct http1 *p, char *arena, size_t size);

/* http1_cut - the present value, and those that come, may be cut: say no more HTTP1_FULL
 * in this head. */
void http1_cut(struct http1 *p);

/*
 * http1_unread - of how many of the next bytes only the number will matter: of a body, or
 * when nothing is followed any more; what cannot be told yet is not counted
 */
uint64_t http1_unread(const struct http1 *p);

/* Between two messages: nothing of the next one was taken. */
bool http1_between(const struct http1 *p);

/* http1_method_name - a method's name, "_OTHER" for HTTP1_OTHER; http1_reason_name - for people. */
const char *http1_method_name(enum http1_method method);
const char *http1_reason_name(enum http1_reason reason);

/*
 * http1_method_named - of a method as written
 * http1_field_named - what a field of this name, in lower case, is kept as; HTTP1_FIELD_IDS: not
 * For other versions of HTTP.
 */
enum http1_method http1_method_named(const char *name, size_t n);
enum http1_field http1_field_named(const char *name, size_t n, const struct http1_extra *extra);

/*
 * http1_find - the first slice of @id, or NULL; @ret_n (may be NULL): how many there are
 */
const struct http1_slice *http1_find(const struct http1 *p, enum http1_field id, unsigned *ret_n);

#endif
