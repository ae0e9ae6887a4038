/* SPDX-License-Identifier: Apache-2.0 */
/* Tells people what happened: a record in the service's ring, a line in the log if asked for. */
#ifndef SHIM_REPORT_H
#define SHIM_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/event.h"
#include "core/ring.h"

/* report_load - note what stdout and stderr are now; a daemon's next socket may be fd 2. */
void report_load(void);

/* report_to - where events go from now on: @ring may be NULL, @ids counts them. */
void report_to(struct ring_file *ring, _Atomic uint64_t *ids, const char *service);

/*
 * report_event - complete @e (times, pid, tid, id) and record it
 * @stack: add the caller's stack, for whoever looks with `agentshim status --stacks`
 * Context: any thread under the guard; lock-free; never blocks; raises no SIGPIPE; no
 * allocation; errno clobbered.
 */
void report_event(struct event *e, bool stack);

/*
 * report_quietly - as report_text(), but without a system call: the ring alone, and only when
 * this process has mapped it. Context: any thread, signal handlers too.
 */
void report_quietly(enum event_kind kind, const char *text);

/* report_text - an event that is a kind and a text */
void report_text(enum event_kind kind, const char *text);

#endif
