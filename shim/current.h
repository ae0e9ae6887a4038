/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which request does a thread work on? Reading a request says so, reading an answer takes the
 * thread back to the request that the call was made for, a tick of an event loop ends it.
 *
 * The rule above all: a wrong parent is worse than none. A thread that never ticks serves one
 * request at a time, and is believed, as long as no such thread of the program was seen to
 * leave a request unanswered for another, or to answer what another had read: then requests
 * change threads (pools of .NET and the like). Where connections are watched by an event loop
 * and read by such threads, they must let their reader wait, as in a pool for blocking work.
 * One that waits for new connections only, and answers before it waits again, is believed too. What watches accepted connections together, or ticks over an
 * unanswered request, is an event loop, whose next step may be any request's: a timer's, a
 * deferred function's. There only programs are believed that are known to act on each event at
 * once (nginx), and only while no other request of theirs stands idle (request.h). Everybody
 * else's calls begin a trace of their own.
 */
#ifndef SHIM_CURRENT_H
#define SHIM_CURRENT_H

#include <stdbool.h>

#include "core/context.h"
#include "shim/request.h"

#define CURRENT_STATE_MAX 512 /* of a tracestate that goes by environment: W3C 3.3.1.5 */

/*
 * current_load - who is this program? And what came with it.
 * @get: reads the environment
 * Context: at load.
 */
void current_load(const char *exe, const char *(*get)(void *arg, const char *name));

/* current_set - the thread has turned to @t (void: to nothing that we know) */
void current_set(struct request_token t);

/*
 * current_took - the thread has read @t, a request, just now
 * @alone: no other one of that connection waits for its answer
 */
void current_took(struct request_token t, bool alone);

/* current_answers - the thread begins to answer @r */
void current_answers(const struct request *r);

/* current_wrote - it has written to a client; @t: that one's request, void when not just one */
void current_wrote(struct request_token t);

/*
 * current_owner - the request that a call which the thread makes now is for; void in doubt
 * Context: any thread under the guard; errno kept.
 */
struct request_token current_owner(void);

/*
 * current_turn_back - the thread reads the answer to a call that was made for @owner
 * It turns to that if it read that request, or began that span, itself; a thread that reads
 * for others does not.
 */
void current_turn_back(struct request_token owner);

/*
 * current_first_owner - as current_owner(), for the first request on a connection
 * @made_for: current_owner() when it was made, by the thread whose guard is @maker
 * In an event loop the connection takes ticks to come about.
 */
struct request_token current_first_owner(struct request_token made_for, const void *maker);

/*
 * current_leaves - what a thread that is created now begins with; false: nothing
 * current_inherit - this is that thread
 * It is believed while it is all that the process works on: a pool's worker, created for one
 * request, may be handed another one's job at any time. So threads of a process that serves
 * one request at a time inherit, and those of one that serves many begin traces of their own.
 */
struct current_heritage {
	struct request_token current;
	uint32_t begun;
};
bool current_leaves(struct current_heritage *ret);
void current_inherit(const struct current_heritage *h);

/*
 * current_environment - the context that the process was started with, or NULL: parent of
 * calls without an owner, as long as the process serves nobody itself
 */
const struct context *current_environment(void);
const char *current_environment_state(void); /* its tracestate, checked; "" for none */

/*
 * current_for_children - the context that programs started by this thread are to have
 * @ret_state: CURRENT_STATE_MAX + 1 bytes: the tracestate with it, "" for none or one that is longer
 * Returns false when there is none but what the environment says anyway.
 * Context: any thread, also in a vfork child; changes nothing; errno kept.
 */
bool current_for_children(struct context *ret, char ret_state[CURRENT_STATE_MAX + 1]);

/*
 * current_started_with - TRACEPARENT as this process found it, however bad; "" for none. Of a
 * program that only starts others (Java's jspawnhelper): as the one that it does it for did.
 */
const char *current_started_with(void);
#define CURRENT_WAS "AGENTSHIM_TRACEPARENT_WAS" /* tells such a program */
bool current_is_helper(const char *path);

/* current_acts_at_once - is it a program that is known to act on each event at once? */
bool current_acts_at_once(void);

/*
 * current_tick - the thread waits for events
 * @learns: of other connections than the one it works on
 */
void current_tick(bool learns);

/* current_would_learn - would a tick change anything? False: there is no need to look for one. */
bool current_would_learn(void);

/* current_is_watched - is it known that some thread watches accepted connections together? */
bool current_is_watched(void);

/* current_event_loop - accepted connections are watched together: it is an event loop. */
void current_event_loop(void);

#endif
