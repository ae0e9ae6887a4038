/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests in progress: those that this process serves, those that it makes, and spans that
 * it opens by itself. Each has a place in a pool and a generation; a token names both, so
 * that whoever kept one of a request that has ended holds nothing: no stale parent, ever.
 */
#ifndef SHIM_REQUEST_H
#define SHIM_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/event.h"
#include "core/http1.h"
#include "core/propagate.h"
#include "core/span.h"

#define REQUEST_RAW_SIZE 240 /* tracestate, baggage and the like; where they are longer, a blob */

struct request_token {
	uint32_t place;      /* 1 + number; 0: none */
	uint32_t generation;
};

/* What a request holds beside its span: values to be sent on, as they came. */
enum request_value {
	REQUEST_TRACESTATE,
	REQUEST_BAGGAGE,
	REQUEST_FOREIGN, /* x-trace-id that was none of ours */
	REQUEST_EXTRA,   /* + i: AGENTSHIM_FORWARD_HEADERS' i-th */
	REQUEST_QUERY = REQUEST_EXTRA + HTTP1_EXTRA_MAX, /* told with the span, not sent on */
	REQUEST_TAGS,    /* of an own span, likewise: "key\0value\0" for each */
	REQUEST_VALUES
};

/* How far a served request is. */
enum request_stage {
	REQUEST_READING,   /* its body is still coming */
	REQUEST_IDLE,      /* all of it was read, nothing was answered */
	REQUEST_ANSWERING, /* its answer has begun */
};

/*
 * What is known of a request while it runs. Read by other threads as a copy, see
 * request_look(); written by whoever holds the lane that made it.
 */
struct request {
	_Atomic uint32_t next_free;  /* the pool's */
	_Atomic uint32_t generation; /* odd while in progress */
	uint32_t pid;
	/* `calls made for it and not answered yet:30 | enum request_stage:2` */
	_Atomic uint32_t state;
	const void *reader;          /* of a served request: the guard of the thread that read it */
	bool by_loop;                /* that one waits for events (guard.loops) */
	bool blocking;               /* it was read from a socket that lets its reader wait */
	bool recorded;               /* its span is kept (sampled) */
	struct context context;      /* its own */
	struct context came_with;    /* as it stood in the traceparent that it came with */
	struct request_token owner;  /* of a call, of an own span: what it was made for */
	struct request_token carrier; /* the served request behind that, whose values go along */
	/* Of an own span: the guard of the thread that began it, and the one it stands in. */
	_Atomic(const void *) beginner;
	struct request_token below;
	bool top;                    /* it was made for nothing that we know */
	bool outer;                  /* begun before the thread came to an event loop */
	enum http1_method method;
	struct event span;
	/* Pairs of `len:16` and bytes, one for each value in order. */
	uint16_t lens[REQUEST_VALUES];
	uint16_t raw_used;
	uint32_t blob;               /* 1 + number; 0: they are in @raw */
	char raw[REQUEST_RAW_SIZE];
};

/*
 * request_begin - take a place
 * Returns a token whose place is 0 when there is none: the request goes untraced.
 * Context of all here: any thread under the guard, signal handlers too; lock-free; no
 * allocation; errno kept.
 */
struct request_token request_begin(struct request **ret);

/*
 * request_end - its span is written when it is recorded, and every token of it is void
 * @status: of HTTP, 0 for none
 */
void request_end(struct request_token t, uint16_t status, enum span_error error, uint64_t now);

/* request_drop - void, without a span: nothing of it went out. */
void request_drop(struct request_token t);

/*
 * request_for - it is made for @owner, which may be void: one call more in flight for it
 * request_owner - whom the thread turns back to when it is over: what it was made for, or,
 *                 where that was an own span that has ended, the served request behind it
 */
void request_for(struct request *r, struct request_token owner);
struct request_token request_owner(const struct request *r);

/* request_carrier - the served request whose values go along with what is made for @of */
struct request_token request_carrier(struct request_token of);

/*
 * request_tag - a pair for the span's record, in the place of an older one of that key
 * Of own spans, by the thread that began them. False when there is no room.
 */
bool request_tag(struct request *r, const char *key, const char *value);

/* request_abandon - end those of this process's own spans that @left says nobody will end */
void request_abandon(bool (*left)(const struct request *r));

/* request_own_count - own spans of this process that are open */
uint32_t request_own_count(void);

/*
 * request_work_count - requests that this process serves just now, and spans that it began
 *                      for none of them: what a thread may be working on
 * request_begun - how many of either have begun so far; wraps
 */
uint32_t request_work_count(void);
uint32_t request_begun(void);

/* request_owned - it is an own span, begun by this thread just now */
void request_owned(struct request *r);

/* request_token_of - the token of a place whose request is known to be in progress */
struct request_token request_token_of(uint32_t place);

/* request_at - the place of a token, or NULL when it is void */
struct request *request_at(struct request_token t);

/* Is the token's request still in progress? Asked after copying from its place: then the copy
 * is of that request. */
static inline bool request_still(const struct request *r, struct request_token t)
{
	/* Acquire fence: what was copied was read before the generation is read again. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&r->generation, memory_order_relaxed) == t.generation;
}

/*
 * request_keep - note a value to be sent on
 * Values are noted in the order of their numbers. False when there is no room, or none to keep.
 */
bool request_keep(struct request *r, enum request_value which, const char *at, size_t len);

/* request_keep_joined - the same of what @join makes of @n lines */
bool request_keep_joined(struct request *r, enum request_value which,
			 bool (*join)(const struct propagate_value *lines, unsigned n,
				      struct text *out),
			 const struct propagate_value *lines, unsigned n);

/* request_value - what was noted; borrowed */
struct propagate_value request_value(const struct request *r, enum request_value which);

/*
 * request_ids - a new span in the trace of @parent, or in a trace of its own
 * @parent: NULL or without ids: a root
 */
void request_ids(struct context *ret, const struct context *parent);

/* request_random - 64 bits, unlike those of any other process or time */
uint64_t request_random(void);

/* request_is_own - a span that the program opened by itself, see request_owned() */
bool request_is_own(const struct request *r);

/*
 * request_by_parent - the served request in progress that came with these ids
 * @likely: looked at before all others; may be void
 *
 * Exact, as a caller gives each of its requests a span of its own. Void when there is none, or
 * more than one: a caller that tries again in the same span while the first try lasts.
 */
struct request_token request_by_parent(const struct context *came_with, struct request_token likely);

/* request_serves - it is one that this process serves, read by this thread just now */
void request_serves(struct request *r);

/* request_stage_set - of a served request; request_call - one more, or one less, in flight */
void request_stage_set(struct request *r, enum request_stage stage);
enum request_stage request_stage(const struct request *r);
void request_call(struct request_token of, int difference);

/*
 * Served requests that are whole, unanswered and without a call in flight: what they do next
 * is up to a timer or another thread, and cannot be told from what others do.
 */
uint32_t request_idle_count(void);

bool request_is_idle(const struct request *r);

/* request_has_served - is this a server, or a child of one? It has been asked over HTTP. */
bool request_has_served(void);

/* Requests served at this moment, by this process. */
uint32_t request_served_count(void);

#endif
