/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call that this process makes: its span, and the fields that carry its context. Used for
 * HTTP on a socket (traffic.c) and for libraries that are asked instead of it (curl.c).
 */
#ifndef SHIM_CALL_H
#define SHIM_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/http1.h"
#include "core/propagate.h"
#include "shim/request.h"

/* The fields of the context that the program wrote by itself. */
struct call_wrote {
	uint64_t fields;              /* bits of enum http1_field */
	unsigned n_traceparent;
	struct propagate_value traceparent; /* the first */
};

/*
 * call_wrote_add - the program writes a field itself
 * @name: of any case
 */
void call_wrote_add(struct call_wrote *wrote, const char *name, size_t name_len,
		    struct propagate_value value);

/*
 * call_begin - begin a call's span; void when tracing is off or there is no place
 * @owner: see current_owner(); may be void
 * Ended by request_end(), or request_drop() when nothing of it went out.
 * Context of all here: any thread under the guard; no lock, no allocation; may map files;
 * errno clobbered.
 */
struct request_token call_begin(struct request_token owner, uint64_t wall_ns, uint64_t mono_ns);

/*
 * call_take_parent - a place in the trace of the owner, else in the environment's, else in a
 * trace of its own; for own spans, too
 */
void call_take_parent(struct request *r);

/*
 * call_take_ids - the call's place in a trace: what the program wrote, else its owner's, else
 * the environment's, else a trace of its own
 *
 * Returns true when the program forwards, verbatim, the traceparent of a request that it is
 * serving: then the parent-id in it is to be replaced by this call's span id, where that can
 * be done.
 */
bool call_take_ids(struct request *r, const struct call_wrote *wrote);

/*
 * call_describe - method, target and host as texts of the span
 * @port: of the server, 0 when unknown; a port in @host goes before it
 */
void call_describe(struct request *r, struct propagate_value method,
		   struct propagate_value target, struct propagate_value host, uint16_t port,
		   enum span_protocol protocol);

/*
 * call_fields - one call of @field for each field to send, but for those that were written
 * Values live until it returns. False when the request that they are of ended meanwhile: what
 * was handed out must not be used, and the call has left its trace, unless an own span keeps
 * it there; ask again.
 */
bool call_fields(struct request *r, const struct call_wrote *wrote,
		 void (*field)(void *arg, const char *name, const char *value, size_t len),
		 void *arg);

#endif
