/* SPDX-License-Identifier: Apache-2.0 */
/* Tells people what happened: a record in the service's ring, a line in the log if asked for. */
#ifndef SHIM_REPORT_H
#define SHIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/event.h"
#include "core/metrics.h"
#include "core/ring.h"

/* report_load - note what stdout and stderr are now; a daemon's next socket may be fd 2. */
void report_load(void);

/* Where events and spans go. Rings may be missing; all else stands. */
struct report_files {
	struct rings events, spans;
	_Atomic uint64_t *ids;   /* counts events */
	struct metrics *metrics; /* counts spans that were lost */
	const char *service;
};

/* report_to - use these from now on; borrowed for good */
void report_to(const struct report_files *files);

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

/*
 * report_span - record a span that has ended (see core/span.h); whole as it is, pid and all
 * Without a place for it, it is counted as dropped; every other count is the caller's.
 * With AGENTSHIM_LOG and level info it is also a line.
 * Context: as report_event(), with no system call when there is no log.
 */
void report_span(const struct event *e);

/*
 * report_span_more - as report_span(), with its EVENT_SPAN_MORE records
 * In the log their pairs stand in the span's line; where that gets too long, without them.
 */
void report_span_more(const struct event *e, const struct event *more, size_t n_more);

/* report_text - an event that is a kind and a text */
void report_text(enum event_kind kind, const char *text);

#endif
