/* SPDX-License-Identifier: Apache-2.0 */
/* What happened: one fixed record in a shared ring, one line of JSON for people and machines. */
#ifndef CORE_EVENT_H
#define CORE_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/breaker.h"
#include "core/policy.h"
#include "core/text.h"

/* Stored in shared memory: append only. */
enum event_kind {
	EVENT_NONE,
	EVENT_STATE_CHANGE,    /* from, to, reason, generation, open_ns, counts, error */
	EVENT_CALL_REJECTED,   /* n refusals since the last such event, verdict */
	EVENT_BREAKER_CREATED,
	EVENT_BREAKER_RETIRED, /* its slot went to another peer */
	EVENT_CONFIG_ERROR,    /* text: the problem */
	EVENT_MODE_CHANGED,    /* text: the mode that `agentshim` set, "" when it was lifted */
	EVENT_STATE_PRIVATE,   /* text: why this process does not share its breakers */
	EVENT_STACK,           /* text: part of a stack that belongs to event @id */
	EVENT_SPAN,            /* a completed span, see span.h */
	EVENT_SPAN_MORE,       /* further attributes of a span, see span.h */
};

/* Who is to blame for a failure, after Envoy's split. */
enum event_error {
	EVENT_ERROR_NONE,
	EVENT_ERROR_LOCAL_ORIGIN, /* errno of connect, read or write; timeouts */
	EVENT_ERROR_EXTERNAL,     /* the peer answered, but badly; code is a status */
};

#define EVENT_TEXT_SIZE 152

struct event {
	uint32_t kind;      /* enum event_kind */
	uint8_t mode;       /* enum policy_mode in force */
	uint8_t from, to;   /* enum breaker_state */
	uint8_t reason;     /* enum breaker_reason */
	uint64_t wall_ns;   /* CLOCK_REALTIME */
	uint64_t mono_ns;   /* CLOCK_MONOTONIC */
	uint32_t pid, tid;
	uint64_t id;        /* unique among the events of a service; stacks refer to it */
	union {
		struct { /* of a breaker's event */
			uint64_t generation;
			uint64_t open_ns;   /* how long an opened breaker stays so */
			uint64_t n;
			uint32_t error_code; /* errno or status of the failure that caused it */
			uint8_t error_kind; /* enum event_error */
			uint8_t verdict;    /* enum breaker_verdict */
			uint8_t part, parts; /* of a stack */
			uint32_t counts[6]; /* requests, successes, failures, exclusions,
					     * consecutive s., f. */
		};
		struct { /* of a span; wall_ns and mono_ns are its beginning */
			uint8_t trace_id[16], span_id[8], parent_id[8];
			uint64_t duration_ns;
			uint16_t status;    /* of HTTP; 0: none came */
			uint16_t port;      /* server.port, 0: unknown */
			uint8_t flags;      /* trace-flags of W3C */
			uint8_t kind, result, error; /* enum span_kind, span_status, span_error */
			uint8_t protocol;   /* enum span_protocol */
			uint8_t bits;       /* SPAN_* bits */
			uint8_t rpc_status; /* of gRPC: 1 + its number; 0: none came */
			uint8_t spare[5];
		} span;
	};
	char text[EVENT_TEXT_SIZE]; /* the peer, or as the kind says; NUL-terminated, cut */
};

_Static_assert(sizeof(struct event) == 248, "a record is four cache lines with its sequence");

const char *event_kind_name(enum event_kind kind); /* "state_change"; "unknown" */

/*
 * A buffer of this size holds any event: every number at its longest, every byte of a text
 * and of EVENT_SERVICE_MAX bytes of service escaped. With a newline it is below PIPE_BUF, so
 * that one write(2) of a line is never mixed with another's.
 */
#define EVENT_JSON_SIZE   3328
#define EVENT_SERVICE_MAX 128 /* bytes of @service that are shown */

/*
 * event_json - one JSON object, no newline
 * @service: as people see it
 * @out:     appended to. An object that does not fit is left out whole and `cut` is set:
 *           half a line helps nobody who parses it.
 *
 * Always: level, msg, event, ts, mono_ns, pid, tid, id, service, mode. Then as the kind says:
 *   state_change     breaker, from, to, reason, generation, open_ms (when it opened),
 *                    enforced, counts {requests, successes, failures, exclusions,
 *                    consecutive_successes, consecutive_failures}, last_error {kind, code}
 *                    when there was one; code is an errno's name or a number
 *   call_rejected    breaker, reason (open, too_many, forced), n, generation, enforced
 *   breaker_created, breaker_retired   breaker
 *   config_error, state_private        problem
 *   mode_changed     control: the mode that the tool set, null when it lifted it
 *   stack            of (an event's id), part, parts, frames
 *   span_more        trace_id, span_id, attributes {...}
 * A span is span_json()'s line instead.
 * Values out of range (a torn record) are named "unknown", never trusted as an index or a
 * length.
 * Context: any thread, signal handlers too; no allocation, no stdio.
 */
void event_json(const struct event *e, const char *service, struct text *out);

/* errno's name, "ECONNREFUSED"; NULL when it has none. No locale, no allocation. */
const char *event_errno_name(int error);
/* The errno of that name ("EWOULDBLOCK" and other aliases too), 0 when there is none. */
int event_errno_from(const char *name);

#endif
