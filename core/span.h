/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A span: one request as this process served it or made it. While it runs it is the very
 * record that will go into a ring (core/ring.h), so that ending it is a few stores and one
 * ring_write(). What does not fit the record follows in records of kind EVENT_SPAN_MORE,
 * which carry its ids.
 */
#ifndef CORE_SPAN_H
#define CORE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/event.h"
#include "core/text.h"

/* Values of struct event's span.* members; stored in shared memory: append only. */
enum span_kind { SPAN_INTERNAL, SPAN_SERVER, SPAN_CLIENT };
enum span_status { SPAN_UNSET, SPAN_ERROR };

/* Why a span failed: error.type, unless it is the status (SPAN_BY_STATUS). */
enum span_error {
	SPAN_NO_ERROR,
	SPAN_BY_STATUS,       /* error.type is the status code, of gRPC its name */
	SPAN_TIMEOUT,
	SPAN_RESET,           /* "connection_reset" */
	SPAN_EARLY_END,       /* "connection_closed": the peer ended before the answer did */
	SPAN_REFUSED_BY_BREAKER, /* "circuit_open" */
	SPAN_CONNECT_FAILED,  /* "connection_failed" */
	SPAN_ABANDONED,       /* "abandoned": the program let go, or ended, in the middle */
	SPAN_TLS,             /* "tls" */
	SPAN_OTHER,           /* "_OTHER" */
	SPAN_ERRORS
};

enum span_protocol { SPAN_HTTP_1_0, SPAN_HTTP_1_1, SPAN_HTTP_2, SPAN_NO_PROTOCOL };

/* Bits of span.bits. */
enum {
	SPAN_PARENT_REMOTE = 0x01,
	SPAN_HAS_PARENT = 0x02,
	SPAN_TRACE_AS_UUID = 0x04, /* the trace id is shown as a UUID, as it came */
	SPAN_MORE_FOLLOWS = 0x08,  /* EVENT_SPAN_MORE records carry its ids */
	SPAN_TLS_INSIDE = 0x10,    /* the scheme is https */
	SPAN_RPC = 0x20,           /* of gRPC: the path is its method, rpc_status its outcome */
};

/*
 * The texts of a span, one after another in event.text, each with its NUL, in this order; a
 * text that does not fit is cut at a whole character, and so may be empty.
 */
enum span_text {
	SPAN_METHOD, /* an HTTP method; of an internal span its whole name */
	SPAN_PATH,   /* without query */
	SPAN_HOST,   /* server.address; its port is span.port */
	SPAN_TEXTS
};

/*
 * span_begin - lay out a record
 * @e:      overwritten whole
 * @own:    this span's ids; @parent may be NULL
 * @method, @path, @host: not NUL-terminated, lengths beside them; may be NULL with 0
 * Ids, times and texts are set; the caller adds pid, tid, id and bits by name.
 * Context: any thread; no lock, no allocation; errno kept.
 */
void span_begin(struct event *e, enum span_kind kind, const struct context *own,
		const uint8_t parent_span_id[8], uint64_t wall_ns, uint64_t mono_ns);
void span_texts(struct event *e, const char *method, size_t method_len, const char *path,
		size_t path_len, const char *host, size_t host_len);

/*
 * span_end - the record is complete and may be written
 * @status: HTTP status or 0. By OpenTelemetry's rules a server's 5xx and a client's 4xx and
 *          5xx are errors; of gRPC it is what span.rpc_status says. @error SPAN_NO_ERROR leaves
 *          it to these.
 */
void span_end(struct event *e, uint16_t status, enum span_error error, uint64_t mono_ns);

/*
 * span_more - a record with further attributes of @of: "key\0value\0key\0value\0"
 * Returns false when the pair does not fit: write the record, begin the next with
 * span_more_begin(). A value is cut to what one record holds.
 */
void span_more_begin(struct event *more, const struct event *of);
bool span_more_add(struct event *more, const char *key, const char *value, size_t len);

/* span_more_of - is @more a record with further attributes of the span @of? */
bool span_more_of(const struct event *more, const struct event *of);

/*
 * span_more_next - the pair at *@at, 0 at first; false when there are no more
 * The texts lie in @more and end in it, whatever a torn record holds.
 */
bool span_more_next(const struct event *more, size_t *at, const char **ret_key,
		    const char **ret_value);

/* The @which-th text of a span (maybe a torn record: never beyond event.text). */
const char *span_text(const struct event *e, enum span_text which);

/* "GET /path", of an internal span its name: not escaped, not cleaned. EVENT_TEXT_SIZE + 8. */
void span_operation(const struct event *e, struct text *out);

/* The trace id as it is shown: 32 digits, or the UUID that it came as. */
void span_trace_id(const struct event *e, struct text *out);

/*
 * "server"; "connection_reset"; "1.1". NULL where there is nothing to name: SPAN_NO_ERROR,
 * SPAN_BY_STATUS, SPAN_NO_PROTOCOL. Numbers out of range (torn records) are "unknown", or NULL.
 */
const char *span_kind_name(unsigned kind);
const char *span_error_name(unsigned error);
const char *span_protocol_name(unsigned protocol);

/*
 * span_json - one JSON object, no newline: SEED.md's line and notes/tracing.md 5.2
 * @more:  EVENT_SPAN_MORE records, @n_more of them; the pairs of those that are this span's
 *         become members, but for keys that the line has already
 * Left out whole, with `cut` set, when it does not fit; EVENT_JSON_SIZE holds any without @more.
 */
void span_json(const struct event *e, const struct event *more, size_t n_more,
	       const char *service, struct text *out);

#endif
