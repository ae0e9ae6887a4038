/* SPDX-License-Identifier: Apache-2.0 */
/* What each thread works on, as far as its system calls tell. */
#include "shim/current.h"

#include <stdatomic.h>
#include <string.h>

#include "core/propagate.h"
#include "core/text.h"
#include "shim/guard.h"
#include "shim/life.h"

/* Programs that do on each event what is to be done, before they look at the next one. */
static const char *const prompt_programs[] = { "nginx", "angie" };

static bool prompt;
static _Atomic bool event_loop;
static struct context environment;
static char environment_state[520]; /* tracestate: 512 characters are to be kept (W3C 3.3.1.5) */

static struct propagate_value value_of(const char *text)
{
	return (struct propagate_value) { text, text != NULL ? strlen(text) : 0 };
}

void current_load(const char *exe, const char *traceparent, const char *tracestate)
{
	const char *slash = strrchr(exe, '/');
	const char *name = slash != NULL ? slash + 1 : exe;
	const struct propagate_value state = value_of(tracestate);
	struct text t = text_in(environment_state, sizeof(environment_state));

	for (size_t i = 0; i < sizeof(prompt_programs) / sizeof(prompt_programs[0]); i++)
		prompt = prompt || strcmp(name, prompt_programs[i]) == 0;
	if (traceparent != NULL && propagate_parse_traceparent(value_of(traceparent), &environment) &&
	    state.len > 0)
		(void) propagate_tracestate(&state, 1, &t);
}

void current_set(struct request_token t)
{
	guard.current = t;
}

/* A program that serves nobody may run a loop of calls within a span of its own. */
static struct request_token around_the_loop(void)
{
	const struct request *r = request_at(guard.own);

	return r != NULL && r->outer && !atomic_load_explicit(&life->serves, memory_order_relaxed)
		       ? guard.own
		       : (struct request_token) { 0 };
}

static bool begun_here(const struct request *r)
{
	return atomic_load_explicit(&r->beginner, memory_order_relaxed) == &guard;
}

/* Its own request may stand idle: that is what it turns to now. */
static bool others_idle(const struct request *r)
{
	return request_idle_count() > request_is_idle(r);
}

static bool believed(const struct request *r)
{
	/* A span of the thread's own is one from its beginning to the next tick. */
	if (!guard.loops || begun_here(r))
		return true;
	if (prompt)
		return !others_idle(r);
	return !atomic_load_explicit(&event_loop, memory_order_relaxed) && guard.unanswered <= 1;
}

void current_turn_back(struct request_token owner)
{
	const struct request *r = request_at(owner);

	if (r != NULL && begun_here(r))
		guard.current = guard.loops ? around_the_loop() : owner;
	else if (r != NULL && r->reader == &guard)
		guard.current = owner;
	else if (guard.loops)
		guard.current = (struct request_token) { 0 };
}

struct request_token current_first_owner(struct request_token made_for, const void *maker)
{
	if (!guard.loops)
		return current_owner();
	return maker == &guard && request_at(made_for) != NULL ? made_for
							       : (struct request_token) { 0 };
}

struct request_token current_owner(void)
{
	const struct request *r = request_at(guard.current);

	return r != NULL && believed(r) ? guard.current : (struct request_token) { 0 };
}

const struct context *current_environment(void)
{
	return context_some(&environment) &&
			       !atomic_load_explicit(&life->serves, memory_order_relaxed)
		       ? &environment
		       : NULL;
}

const char *current_environment_state(void)
{
	return environment_state;
}

void current_event_loop(void)
{
	if (!atomic_load_explicit(&event_loop, memory_order_relaxed))
		atomic_store_explicit(&event_loop, true, memory_order_relaxed);
}

void current_tick(bool learns)
{
	if (learns && guard.unanswered > 0)
		current_event_loop();
	guard.loops = guard.loops || learns;
	guard.current = around_the_loop();
}
