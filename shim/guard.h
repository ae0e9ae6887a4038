/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread's mark that our own code is running. A hook that finds it set, because we called
 * libc or because a signal handler came in between, forwards to libc and does nothing else.
 *
 * It is never held across a real call: a handler may leave that by siglongjmp, a cancelled
 * thread never returns from it, and the mark would stay.
 */
#ifndef SHIM_GUARD_H
#define SHIM_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "shim/request.h"

/* All thread-local memory of ours. Zero-filled in a new thread. */
struct guard {
	bool inside;
	struct names_latest latest; /* the thread's latest lookup (resolve.c) */
	struct request_token current; /* what the thread works on (current.h) */
	struct request_token own;   /* the innermost span that it has begun by itself (own.c) */
	uint32_t begun;             /* request_begun() when it was created, if it inherited */
	uint32_t unplaced;          /* and how many inside of that there was no place for */
	struct request_token taken; /* the request that it read last, answered or not */
	uint32_t tid, tid_of;       /* the thread's id, and the pid that it is of */
	uint32_t unanswered;        /* requests that it has read and not answered yet */
	bool inherited;             /* it began with what its creator worked on (thread.c) */
	uint64_t wall_at, wall_ahead; /* of life_wall() */
	bool loops;                 /* it has come to a tick of an event loop */
	const void *aside;          /* frame of a library's hook that speaks for its sockets */
	const void *tls;            /* frame of a hook of a TLS library's functions */
	bool plaintext;             /* what traffic.c is handed comes from inside TLS */
};

_Static_assert(sizeof(struct guard) <= 256, "static TLS is scarce in some hosts");

/* initial-exec: other models may allocate on a thread's first touch. */
extern __thread struct guard guard __attribute__((tls_model("initial-exec")));

/* Context: any thread, signal handlers too. */
static inline bool guard_enter(void)
{
	if (guard.inside)
		return false;
	guard.inside = true;
	/* A handler must see the mark before it sees what we do under it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

/*
 * guard_aside - are we below the frame of a hook that speaks for sockets (curl.h)?
 * guard_aside_enter - its frame is @frame; returns what guard_aside_leave() is to put back
 *
 * A frame that was left by siglongjmp or an exception counts no more once the thread is above
 * it, and for good after its next call into the library from there.
 */
static inline bool guard_below(const void *frame)
{
	return frame != NULL && (uintptr_t) __builtin_frame_address(0) < (uintptr_t) frame;
}

/* What is to be put back; a frame that was left without that is forgotten. */
static inline const void *guard_frame_enter(const void **mark, const void *frame)
{
	const void *outer = (uintptr_t) frame < (uintptr_t) *mark ? *mark : NULL;

	*mark = frame;
	return outer;
}

static inline bool guard_aside(void)
{
	return guard_below(guard.aside);
}

static inline const void *guard_aside_enter(const void *frame)
{
	return guard_frame_enter(&guard.aside, frame);
}

static inline void guard_aside_leave(const void *outer)
{
	guard.aside = outer;
}

/* The same for a TLS library's functions: whoever sends a ClientHello below is one that we hear. */
static inline bool guard_tls(void)
{
	return guard_below(guard.tls);
}

static inline const void *guard_tls_enter(const void *frame)
{
	return guard_frame_enter(&guard.tls, frame);
}

static inline void guard_tls_leave(const void *outer)
{
	guard.tls = outer;
}

static inline void guard_leave(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guard.inside = false;
}

#endif
