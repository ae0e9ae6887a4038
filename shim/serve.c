/* SPDX-License-Identifier: Apache-2.0 */
/* From the head of a request to the span that serves it. */
#include "shim/serve.h"

#include <stdatomic.h>
#include <string.h>

#include "core/config.h"
#include "core/http2.h"
#include "core/metrics.h"
#include "core/propagate.h"
#include "core/sampler.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/shared.h"

#define FIELDS_MAX HTTP2_FIELDS_MAX /* of either version */
#define QUERY_MAX 100 /* one record beside the span's holds it */

/* A head's fields by name, so that they are walked once: see field() and lines_of(). */
struct fields {
	const struct serve_head *head;
	const struct http1_slice *first[HTTP1_FIELD_IDS];
	uint8_t n[HTTP1_FIELD_IDS];
};

static void sort(const struct serve_head *head, struct fields *ret)
{
	*ret = (struct fields) { .head = head };
	for (unsigned i = 0; i < head->n_fields; i++) {
		const struct http1_slice *s = &head->fields[i];

		if (s->id >= HTTP1_FIELD_IDS)
			continue;
		if (ret->n[s->id]++ == 0)
			ret->first[s->id] = s;
	}
}

static struct propagate_value slice_value(const struct serve_head *head, const struct http1_slice *s)
{
	return (struct propagate_value) { head->values + s->at, s->len };
}

static struct propagate_value field(const struct fields *f, enum http1_field id)
{
	return f->first[id] != NULL ? slice_value(f->head, f->first[id])
				    : (struct propagate_value) { 0 };
}

/* All lines of one name; what was cut counts as a line that is no good. */
static unsigned lines_of(const struct fields *f, enum http1_field id,
			 struct propagate_value ret[FIELDS_MAX])
{
	unsigned n = 0;

	for (const struct http1_slice *s = f->first[id]; n < f->n[id]; s++) {
		if (s->id != id)
			continue;
		if (s->cut)
			return 0;
		ret[n++] = slice_value(f->head, s);
	}
	return n;
}

struct received {
	struct propagate_value tracestate[FIELDS_MAX], baggage[FIELDS_MAX];
	struct propagate_in in;
};

static void receive(const struct fields *f, struct received *ret)
{
	ret->in = (struct propagate_in) {
		.n_traceparent = f->n[HTTP1_TRACEPARENT],
		.traceparent = field(f, HTTP1_TRACEPARENT),
		.n_tracestate = lines_of(f, HTTP1_TRACESTATE, ret->tracestate),
		.n_baggage = lines_of(f, HTTP1_BAGGAGE, ret->baggage),
		.tracestate = ret->tracestate,
		.baggage = ret->baggage,
		.b3 = field(f, HTTP1_B3),
		.b3_traceid = field(f, HTTP1_B3_TRACEID),
		.b3_spanid = field(f, HTTP1_B3_SPANID),
		.b3_sampled = field(f, HTTP1_B3_SAMPLED),
		.b3_flags = field(f, HTTP1_B3_FLAGS),
		.n_uber_trace_id = f->n[HTTP1_UBER_TRACE_ID],
		.uber_trace_id = field(f, HTTP1_UBER_TRACE_ID),
		.x_trace_id = field(f, HTTP1_X_TRACE_ID),
	};
}

struct propagate_value serve_path(struct propagate_value target, struct propagate_value *ret_query)
{
	const char *at = target.at, *end = target.at + target.len;
	const bool origin = target.len > 0 && *target.at == '/';
	const char *scheme = origin ? NULL : memmem(target.at, target.len, "://", 3);

	/* The absolute form, as a proxy is asked. */
	if (scheme != NULL) {
		const char *slash = memchr(scheme + 3, '/', (size_t) (end - (scheme + 3)));

		at = slash != NULL ? slash : end;
	}

	const char *mark = memchr(at, '?', (size_t) (end - at));

	*ret_query = mark != NULL ? (struct propagate_value) { mark + 1, (size_t) (end - mark - 1) }
				  : (struct propagate_value) { 0 };
	return (struct propagate_value) { at, (size_t) ((mark != NULL ? mark : end) - at) };
}

struct propagate_value serve_host(struct propagate_value host, uint16_t *ret_port)
{
	const char *end = host.at + host.len;
	const char *colon = host.len > 0 ? memrchr(host.at, ':', host.len) : NULL;
	unsigned port = 0;

	/* "[::1]" has colons and no port. */
	if (colon == NULL || memchr(colon, ']', (size_t) (end - colon)) != NULL)
		return host;
	for (const char *c = colon + 1; c < end; c++) {
		if (*c < '0' || *c > '9' || port > 65535)
			return host;
		port = port * 10 + (unsigned) (*c - '0');
	}
	if (port > 0 && port <= 65535)
		*ret_port = (uint16_t) port;
	return (struct propagate_value) { host.at, (size_t) (colon - host.at) };
}

static void describe(struct request *r, const struct fields *f)
{
	struct propagate_value query;
	struct event *e = &r->span;
	uint16_t port = 0;
	const struct propagate_value method = field(f, HTTP1_METHOD);
	const struct propagate_value path = serve_path(field(f, HTTP1_TARGET), &query);
	const struct propagate_value host = serve_host(field(f, HTTP1_HOST), &port);

	span_texts(e, method.at, method.len, path.at, path.len, host.at, host.len);
	e->span.port = port;
	e->span.protocol = (uint8_t) f->head->protocol;
	if (guard.plaintext)
		e->span.bits |= SPAN_TLS_INSIDE;
	if (f->head->rpc)
		e->span.bits |= SPAN_RPC;
	if (r->recorded && query.len > 0)
		(void) request_keep(r, REQUEST_QUERY, query.at,
				    query.len < QUERY_MAX ? query.len : QUERY_MAX);
}

/* What is to be sent on with the calls that are made for it. */
static void keep_values(struct request *r, const struct fields *f, const struct received *got,
			const struct propagate_found *found)
{
	if (found->tracestate)
		(void) request_keep_joined(r, REQUEST_TRACESTATE, propagate_tracestate,
					   got->tracestate, got->in.n_tracestate);
	if (found->baggage)
		(void) request_keep_joined(r, REQUEST_BAGGAGE, propagate_baggage, got->baggage,
					   got->in.n_baggage);
	if (found->foreign)
		(void) request_keep(r, REQUEST_FOREIGN, got->in.x_trace_id.at,
				    got->in.x_trace_id.len);
	for (unsigned i = 0; i < settings->forward.n; i++) {
		const struct propagate_value v =
			field(f, (enum http1_field) (HTTP1_EXTRA + i));

		(void) request_keep(r, (enum request_value) (REQUEST_EXTRA + i), v.at, v.len);
	}
}

static void choose_ids(struct request *r, const struct propagate_found *found)
{
	request_ids(&r->context, &found->context);
	/* "b3: d" brings no ids, and asks that the trace which begins here be seen all the way. */
	r->context.flags |= found->context.flags & CONTEXT_DEBUG;
	r->context.flags &= (uint16_t) ~(CONTEXT_SAMPLED | CONTEXT_DEFERRED);
	r->recorded = sampler_sample(&settings->sampler, found, r->context.trace_id);
	if (r->recorded)
		r->context.flags |= CONTEXT_SAMPLED;
	if (found->remote_span)
		r->came_with = found->context;
}

static void count_start(const struct propagate_found *found)
{
	struct metrics *m = shared_metrics();

	if (m != NULL && !found->remote_span)
		metrics_add(m, life_pid(), METRICS_TRACES_STARTED, 1);
}

struct request_token serve_begin(const struct serve_head *head, uint64_t wall_ns, uint64_t mono_ns)
{
	struct request *r;
	struct fields fields;
	struct received got;
	struct propagate_found found;
	struct request_token t = { 0 };

	if (!settings->trace)
		return t;
	if (!shared_ready())
		(void) shared_map();
	t = request_begin(&r);
	if (t.place == 0)
		return t;
	sort(head, &fields);
	receive(&fields, &got);
	propagate_extract(&settings->propagators, &got.in, &found);
	choose_ids(r, &found);
	r->method = head->method;
	span_begin(&r->span, SPAN_SERVER, &r->context,
		   found.remote_span ? found.context.span_id : NULL, wall_ns, mono_ns);
	if (found.remote_span)
		r->span.span.bits |= SPAN_PARENT_REMOTE;
	keep_values(r, &fields, &got, &found);
	describe(r, &fields);
	count_start(&found);
	request_serves(r);
	return t;
}
