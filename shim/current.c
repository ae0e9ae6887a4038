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

/* Programs that start others in the name of the one that started them. */
static const char *const helpers[] = { "jspawnhelper" };

static bool prompt, helper;
static _Atomic bool event_loop;
static _Atomic bool hands_on; /* requests change threads where nobody waits for events */
static struct context environment;
static char environment_state[CURRENT_STATE_MAX + 1];
static char started_with[128];

static struct propagate_value value_of(const char *text)
{
	return (struct propagate_value) { text, text != NULL ? strlen(text) : 0 };
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static bool listed(const char *const *names, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(base_name(path), names[i]) == 0)
			return true;
	return false;
}

bool current_is_helper(const char *path)
{
	return listed(helpers, sizeof(helpers) / sizeof(helpers[0]), path);
}

static void keep_start(const char *traceparent)
{
	/* A longer one is none that we could have made: it is told from its copy, and stays. */
	if (traceparent != NULL)
		(void) strncpy(started_with, traceparent, sizeof(started_with) - 1);
}

void current_load(const char *exe, const char *(*get)(void *arg, const char *name))
{
	const char *const traceparent = get(NULL, "TRACEPARENT");
	const struct propagate_value state = value_of(get(NULL, "TRACESTATE"));
	struct text t = text_in(environment_state, sizeof(environment_state));

	prompt = listed(prompt_programs, sizeof(prompt_programs) / sizeof(prompt_programs[0]), exe);
	helper = current_is_helper(exe);
	keep_start(helper ? get(NULL, CURRENT_WAS) : traceparent);
	if (traceparent != NULL && propagate_parse_traceparent(value_of(traceparent), &environment) &&
	    state.len > 0)
		(void) propagate_tracestate(&state, 1, &t);
}

const char *current_started_with(void)
{
	return started_with;
}

void current_set(struct request_token t)
{
	guard.current = t;
}

/* A program that serves nobody may run a loop of calls within a span of its own. */
static struct request_token around_the_loop(void)
{
	const struct request *r = request_at(guard.own);

	return r != NULL && r->outer && !request_has_served() ? guard.own
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

/*
 * A thread that was created for a request may be a worker that is kept for all: once another
 * has begun, whose job it does cannot be told.
 */
static bool inherited_in_doubt(const struct request *r)
{
	return guard.inherited && r->reader != &guard && !begun_here(r) &&
	       guard.begun != request_begun();
}

static void learn(_Atomic bool *truth)
{
	if (!atomic_load_explicit(truth, memory_order_relaxed))
		atomic_store_explicit(truth, true, memory_order_relaxed);
}

bool current_is_watched(void)
{
	return atomic_load_explicit(&event_loop, memory_order_relaxed);
}

static bool same_token(struct request_token a, struct request_token b)
{
	return a.place == b.place && a.generation == b.generation;
}

void current_took(struct request_token t, bool alone)
{
	const struct request *before = request_at(guard.taken);

	/* Left unanswered for this one. */
	if (!guard.loops && alone && before != NULL && before->pid == life_pid())
		learn(&hands_on);
	guard.taken = t;
}

void current_answers(const struct request *r)
{
	if (r->reader != NULL && r->reader != &guard && !r->by_loop)
		learn(&hands_on);
}

void current_wrote(struct request_token t)
{
	const struct request *r = request_at(guard.current);

	if (r != NULL && begun_here(r))
		return; /* a span of its own goes on until the thread ends it */
	if (prompt)
		guard.current = t;
	else if (!same_token(t, guard.current))
		guard.current = (struct request_token) { 0 };
}

static bool believed(const struct request *r)
{
	if (inherited_in_doubt(r))
		return false;
	/* A span of the thread's own is one from its beginning to the next tick. */
	if (begun_here(r))
		return true;
	/* One that the program opened a thread has from its creator, or from nobody. */
	if (!guard.loops)
		return request_is_own(r) ||
		       (!atomic_load_explicit(&hands_on, memory_order_relaxed) &&
			(!current_is_watched() || r->blocking));
	if (prompt)
		return !others_idle(r);
	return !current_is_watched() && guard.unanswered <= 1;
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

bool current_leaves(struct current_heritage *ret)
{
	ret->begun = request_begun();
	ret->current = current_owner();
	return ret->current.place != 0 && request_work_count() <= 1;
}

void current_inherit(const struct current_heritage *h)
{
	guard.inherited = true;
	guard.begun = h->begun;
	guard.current = h->current;
}

const struct context *current_environment(void)
{
	return context_some(&environment) && !request_has_served() ? &environment : NULL;
}

const char *current_environment_state(void)
{
	return environment_state;
}

static void copy_state(struct propagate_value state, char ret[CURRENT_STATE_MAX + 1])
{
	const size_t n = state.len <= CURRENT_STATE_MAX ? state.len : 0;

	if (n > 0)
		memcpy(ret, state.at, n);
	ret[n] = '\0';
}

/* What came with the served request behind @t; else, in its trace, with the environment. */
static void state_of(struct request_token t, const struct context *own,
		     char ret[CURRENT_STATE_MAX + 1])
{
	const struct request_token carrier = request_carrier(t);
	const struct request *r = request_at(carrier);

	ret[0] = '\0';
	if (r != NULL) {
		copy_state(request_value(r, REQUEST_TRACESTATE), ret);
		if (!request_still(r, carrier))
			ret[0] = '\0';
	} else if (memcmp(own->trace_id, environment.trace_id, sizeof(own->trace_id)) == 0) {
		copy_state(value_of(environment_state), ret);
	}
}

bool current_for_children(struct context *ret, char ret_state[CURRENT_STATE_MAX + 1])
{
	const struct request_token t = current_owner();
	const struct request *r = request_at(t);

	if (r != NULL) {
		*ret = r->context;
		state_of(t, ret, ret_state);
		return request_still(r, t);
	}
	if (!helper || !context_some(&environment))
		return false;
	*ret = environment;
	copy_state(value_of(environment_state), ret_state);
	return true;
}

bool current_would_learn(void)
{
	return guard.current.place != 0 || !guard.loops || !current_is_watched();
}

bool current_acts_at_once(void)
{
	return prompt;
}

void current_event_loop(void)
{
	learn(&event_loop);
}

void current_tick(bool learns)
{
	if (learns && guard.unanswered > 0)
		current_event_loop();
	guard.loops = guard.loops || learns;
	guard.current = around_the_loop();
}
