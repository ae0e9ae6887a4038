/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a context from the fields of a request and writing it into those of the next one:
 * W3C Trace Context level 2 and Baggage, B3 single and multi, Jaeger, and x-trace-id.
 * Which of them is a list in the user's order (OTEL_PROPAGATORS).
 */
#ifndef CORE_PROPAGATE_H
#define CORE_PROPAGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/text.h"

enum propagator {
	PROPAGATE_TRACECONTEXT,
	PROPAGATE_BAGGAGE,
	PROPAGATE_XTRACEID,
	PROPAGATE_B3,
	PROPAGATE_B3MULTI,
	PROPAGATE_JAEGER,
	PROPAGATORS
};

#define PROPAGATE_TRACESTATE_MAX 16384 /* of a whole list taken in; more is dropped whole */
#define PROPAGATE_BAGGAGE_MAX    8192  /* W3C Baggage 3.3.2 */
#define PROPAGATE_FOREIGN_MAX    128   /* of an x-trace-id that is neither hex nor UUID */
/* Lines of one context at their longest, without tracestate, baggage and a foreign id. */
#define PROPAGATE_LINES_SIZE     512

/* Which formats, in the order to try and to write them. */
struct propagators {
	uint8_t n;
	uint8_t list[PROPAGATORS]; /* enum propagator */
};

/*
 * propagators_default - tracecontext, baggage, x-trace-id
 * propagators_from - the value of OTEL_PROPAGATORS: names with commas, white space around
 *   them dropped, repeats too; "none" alone is an empty list; an unknown name is left out
 *   and told in @problem (which may be NULL; appended to, "found \"xray\"")
 * Returns false when there was a problem; @ret is set all the same.
 */
struct propagators propagators_default(void);
bool propagators_from(const char *value, struct propagators *ret, struct text *problem);

/* A field's value; need not end with a NUL. @at may be NULL with @len 0. */
struct propagate_value {
	const char *at;
	size_t len;
};

/*
 * What came with a request. A field line that came more than once: traceparent and
 * uber-trace-id are then counted only (n), the first value of a b3 field and of x-trace-id
 * counts, tracestate and baggage lines come in order.
 */
struct propagate_in {
	unsigned n_traceparent, n_tracestate, n_baggage;
	unsigned n_uber_trace_id; /* may stay 0 when there is one */
	struct propagate_value traceparent;
	const struct propagate_value *tracestate; /* n_tracestate of them */
	const struct propagate_value *baggage;    /* n_baggage of them */
	struct propagate_value b3, b3_traceid, b3_spanid, b3_sampled, b3_flags;
	struct propagate_value uber_trace_id, x_trace_id;
};

/* The sampling decision that came along. */
enum propagate_decision { PROPAGATE_DEFER, PROPAGATE_ACCEPT, PROPAGATE_DENY };

/* What it means. */
struct propagate_found {
	/*
	 * Of the caller's span; none: ids all zero, and flags too but for what a decision alone
	 * says ("b3: d" is CONTEXT_SAMPLED and CONTEXT_DEBUG).
	 */
	struct context context;
	bool remote_span;            /* context.span_id is a span's (x-trace-id brings none) */
	enum propagate_decision decision; /* also without ids ("b3: 0") */
	bool tracestate, baggage;    /* were those valid and wanted? propagate_tracestate() */
	/*
	 * x_trace_id, without blanks around it, is kept verbatim: it is no id. Also beside a
	 * standard context, as the first service that forwards it sends both.
	 */
	bool foreign;
};

/*
 * propagate_extract - the first valid context in the list's order; x-trace-id last of all,
 * and only when none of the standard ones was there. One that repeats their trace id as a UUID
 * makes theirs CONTEXT_UUID.
 * Context: any thread; pure.
 */
void propagate_extract(const struct propagators *p, const struct propagate_in *in,
		       struct propagate_found *ret);

/*
 * propagate_tracestate - check and join the lines of a tracestate list
 * @out: appended to: members in order, empty ones dropped, white space around them dropped;
 *       nothing when one member is bad, there are more than 32, or it does not fit
 * Returns false when nothing was written.
 */
bool propagate_tracestate(const struct propagate_value *lines, unsigned n, struct text *out);

/*
 * propagate_baggage - the same of baggage, whose lines are joined as they are: bounded, and no
 * control characters, but not looked into
 */
bool propagate_baggage(const struct propagate_value *lines, unsigned n, struct text *out);

/* What goes out with a request. */
struct propagate_out {
	struct context context;      /* span_id: of the client's span, new for each request */
	struct propagate_value tracestate, baggage; /* joined and checked; may be empty */
	struct propagate_value foreign; /* x-trace-id as it came, verbatim; may be empty */
};

/*
 * propagate_inject - one call of @field for each field to send, in the list's order
 * @name:  lower case, NUL-terminated, static
 * @value: without a NUL; lives until the call returns
 *
 * A context without ids sends what stands without them (baggage, foreign), one without a
 * span_id the x-trace-id too. Ids go out in full and with a decision: CONTEXT_SHORT and
 * CONTEXT_DEFERRED are for readers. The caller leaves out fields that the program wrote itself.
 */
void propagate_inject(const struct propagators *p, const struct propagate_out *out,
		      void (*field)(void *arg, const char *name, const char *value, size_t len),
		      void *arg);

/* propagate_traceparent - version 00's 55 characters and a NUL */
void propagate_traceparent(const struct context *c, char ret[CONTEXT_TRACEPARENT_SIZE]);

/*
 * propagate_parse_traceparent - one value by the rules of level 2, unknown versions too
 * Returns false when it is not valid; @ret untouched.
 */
bool propagate_parse_traceparent(struct propagate_value value, struct context *ret);

#endif
