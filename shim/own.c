/* SPDX-License-Identifier: Apache-2.0 */
/* What a program may say and ask by itself: spans of its own, and where in a trace it is. */
#include "shim/own.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/propagate.h"
#include "shim/call.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/raw.h"
#include "shim/request.h"
#include "shim/shared.h"

#define OPEN_MAX 4096 /* spans at once; a program that ends none must not take all places */
/* Once there are so many, look for those of ended threads: some ms, so not at each begin. */
#define SWEEP_NS (100 * NS_PER_MS)

EXPORT int agentshim_traceparent(char ret[CONTEXT_TRACEPARENT_SIZE]);
EXPORT void agentshim_span_begin(const char *name);
EXPORT void agentshim_span_tag(const char *key, const char *value);
EXPORT void agentshim_span_end(void);

static bool enter(int *ret_errno)
{
	*ret_errno = errno;
	if (armed && settings->trace && life_own_memory() && guard_enter())
		return true;
	errno = *ret_errno;
	return false;
}

static void leave(int saved)
{
	guard_leave();
	errno = saved;
}

static bool of_ended_thread(const struct request *r)
{
	return raw_syscall(SYS_tgkill, (long) r->pid, (long) r->span.tid, 0, 0, 0, 0) == -ESRCH;
}

static bool of_any_thread(const struct request *r)
{
	(void) r;
	return true;
}

void own_end_all(void)
{
	if (request_own_count() > 0)
		request_abandon(of_any_thread);
}

static bool room(void)
{
	static _Atomic uint64_t swept_at;
	uint64_t at = atomic_load_explicit(&swept_at, memory_order_relaxed);
	const uint64_t now = clock_now();

	if (request_own_count() < OPEN_MAX)
		return true;
	/* Relaxed: it only says whose turn it is. */
	if (clock_since(at, now) >= SWEEP_NS &&
	    atomic_compare_exchange_strong_explicit(&swept_at, &at, now, memory_order_relaxed,
						    memory_order_relaxed))
		request_abandon(of_ended_thread);
	return request_own_count() < OPEN_MAX;
}

static struct request_token begin(const char *name)
{
	const struct request_token owner = current_owner();
	struct request_token t = { 0 };
	struct request *r;

	if (!shared_ready())
		(void) shared_map();
	if (!room())
		return t;
	t = request_begin(&r);
	if (t.place == 0)
		return t;
	request_for(r, owner);
	span_begin(&r->span, SPAN_INTERNAL, &r->context, NULL, clock_wall(), clock_now());
	span_texts(&r->span, name, strnlen(name, EVENT_TEXT_SIZE), NULL, 0, NULL, 0);
	call_take_parent(r);
	r->span.tid = life_tid();
	request_owned(r);
	return t;
}

EXPORT void agentshim_span_begin(const char *name)
{
	struct request_token t = { 0 };
	int saved;

	if (!enter(&saved))
		return;
	/* Inside of one that there was no place for there is none, or ends would not match. */
	if (guard.unplaced == 0)
		t = begin(name != NULL ? name : "");
	if (t.place == 0) {
		guard.unplaced++;
	} else {
		guard.own = t;
		current_set(t);
	}
	leave(saved);
}

EXPORT void agentshim_span_tag(const char *key, const char *value)
{
	struct request *r;
	int saved;

	if (key == NULL || !enter(&saved))
		return;
	r = request_at(guard.own);
	if (r != NULL && guard.unplaced == 0 && r->recorded)
		(void) request_tag(r, key, value != NULL ? value : "");
	leave(saved);
}

/* What the thread turned to meanwhile, a request that it read, stays. */
static void end_innermost(void)
{
	const struct request_token t = guard.own;
	const struct request *r = request_at(t);

	guard.own = r != NULL ? r->below : (struct request_token) { 0 };
	if (r == NULL)
		return;
	if (guard.current.place == t.place && guard.current.generation == t.generation)
		current_set(request_owner(r));
	request_end(t, 0, SPAN_NO_ERROR, clock_now());
}

EXPORT void agentshim_span_end(void)
{
	int saved;

	if (!enter(&saved))
		return;
	if (guard.unplaced > 0)
		guard.unplaced--;
	else
		end_innermost();
	leave(saved);
}

EXPORT int agentshim_traceparent(char ret[CONTEXT_TRACEPARENT_SIZE])
{
	const struct request_token t =
		armed && settings->trace ? current_owner() : (struct request_token) { 0 };
	const struct request *r = request_at(t);
	struct context own;

	ret[0] = '\0';
	if (r == NULL)
		return 0;
	own = r->context;
	if (!request_still(r, t))
		return 0;
	propagate_traceparent(&own, ret);
	return 1;
}
