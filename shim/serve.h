/* SPDX-License-Identifier: Apache-2.0 */
/* A request that this process serves, from the head that it read. */
#ifndef SHIM_SERVE_H
#define SHIM_SERVE_H

#include <stdint.h>

#include "core/http1.h"
#include "core/span.h"
#include "shim/request.h"

/* A request's head, whatever version of HTTP it is of. */
struct serve_head {
	const struct http1_slice *fields; /* slices of @values; ids beyond HTTP1_FIELD_IDS are left out */
	unsigned n_fields;
	const char *values;
	enum http1_method method;
	enum span_protocol protocol;
	bool rpc; /* gRPC's */
};

/*
 * serve_begin - read the context that came with @head, and begin the server's span in it
 * @wall_ns, @mono_ns: when the head's first byte was read
 *
 * Void when tracing is off or there is no place for it.
 * Context: any thread under the guard; no lock, no allocation; may map files; errno clobbered.
 */
struct request_token serve_begin(const struct serve_head *head, uint64_t wall_ns, uint64_t mono_ns);

/* serve_path - where the path of a target begins and how long it is, without the query */
struct propagate_value serve_path(struct propagate_value target, struct propagate_value *ret_query);

/* serve_host - of a Host field; *ret_port stays as it is when it names none */
struct propagate_value serve_host(struct propagate_value field, uint16_t *ret_port);

#endif
