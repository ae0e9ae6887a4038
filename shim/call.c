/* SPDX-License-Identifier: Apache-2.0 */
/* Whose child a call is, and what is to be sent with it. */
#include "shim/call.h"

#include <string.h>
#include <strings.h>

#include "core/config.h"
#include "core/metrics.h"
#include "core/sampler.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/serve.h"
#include "shim/shared.h"

#define HTTPS_PORT 443 /* where none is named */

/* Which field of a head each field that we send is. */
static const struct {
	const char *name;
	enum http1_field id;
} ours[] = {
	{ "traceparent", HTTP1_TRACEPARENT },
	{ "tracestate", HTTP1_TRACESTATE },
	{ "baggage", HTTP1_BAGGAGE },
	{ "x-trace-id", HTTP1_X_TRACE_ID },
	{ "b3", HTTP1_B3 },
	{ "x-b3-traceid", HTTP1_B3_TRACEID },
	{ "x-b3-spanid", HTTP1_B3_SPANID },
	{ "x-b3-sampled", HTTP1_B3_SAMPLED },
	{ "x-b3-flags", HTTP1_B3_FLAGS },
	{ "uber-trace-id", HTTP1_UBER_TRACE_ID },
};

static bool named(const char *name, size_t len, const char *wanted)
{
	return strncasecmp(name, wanted, len) == 0 && wanted[len] == '\0';
}

void call_wrote_add(struct call_wrote *wrote, const char *name, size_t name_len,
		    struct propagate_value value)
{
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (named(name, name_len, ours[i].name))
			wrote->fields |= UINT64_C(1) << ours[i].id;
	for (unsigned i = 0; i < settings->forward.n; i++)
		if (named(name, name_len, settings->forward.names[i]))
			wrote->fields |= UINT64_C(1) << (HTTP1_EXTRA + i);
	if (named(name, name_len, "traceparent") && wrote->n_traceparent++ == 0)
		wrote->traceparent = value;
}

struct request_token call_begin(struct request_token owner, uint64_t wall_ns, uint64_t mono_ns)
{
	struct request *r;
	struct request_token t = { 0 };

	if (!settings->trace)
		return t;
	t = request_begin(&r);
	if (t.place == 0)
		return t;
	request_for(r, owner);
	span_begin(&r->span, SPAN_CLIENT, &r->context, NULL, wall_ns, mono_ns);
	return t;
}

/* The owner's own place in its trace, if it is still there when we have read it. */
static bool owner_context(const struct request *r, struct context *ret)
{
	const struct request *owner = request_at(r->owner);

	if (owner == NULL)
		return false;
	*ret = owner->context;
	return request_still(owner, r->owner);
}

static void set_ids(struct request *r, const struct context *own, const uint8_t *parent_span)
{
	struct event *e = &r->span;

	r->context = *own;
	r->recorded = (own->flags & CONTEXT_SAMPLED) != 0;
	memcpy(e->span.trace_id, own->trace_id, sizeof(e->span.trace_id));
	memcpy(e->span.span_id, own->span_id, sizeof(e->span.span_id));
	e->span.flags = (uint8_t) own->flags;
	e->span.bits &= (uint8_t) ~(SPAN_HAS_PARENT | SPAN_PARENT_REMOTE | SPAN_TRACE_AS_UUID);
	if ((own->flags & CONTEXT_UUID) != 0)
		e->span.bits |= SPAN_TRACE_AS_UUID;
	if (parent_span == NULL)
		return;
	memcpy(e->span.parent_id, parent_span, sizeof(e->span.parent_id));
	e->span.bits |= SPAN_HAS_PARENT;
}

/* A trace of its own: sampled as any root is. */
static void take_root(struct request *r)
{
	static const struct propagate_found nobody;
	struct metrics *m = shared_metrics();
	struct context own;

	request_ids(&own, NULL);
	if (sampler_sample(&settings->sampler, &nobody, own.trace_id))
		own.flags |= CONTEXT_SAMPLED;
	set_ids(r, &own, NULL);
	if (m != NULL)
		metrics_add(m, life_pid(), METRICS_TRACES_STARTED, 1);
}

static void take_child(struct request *r, const struct context *parent)
{
	struct context own;

	request_ids(&own, parent);
	set_ids(r, &own, parent->span_id);
}

/* As a request that came with it would: the sampler has its say. */
static void take_environment(struct request *r, const struct context *parent)
{
	const struct propagate_found found = {
		.context = *parent,
		.remote_span = true,
		.decision = (parent->flags & CONTEXT_SAMPLED) != 0 ? PROPAGATE_ACCEPT
								   : PROPAGATE_DENY,
	};
	struct context own;

	request_ids(&own, parent);
	own.flags &= (uint16_t) ~CONTEXT_SAMPLED;
	if (sampler_sample(&settings->sampler, &found, own.trace_id))
		own.flags |= CONTEXT_SAMPLED;
	set_ids(r, &own, parent->span_id);
	r->span.span.bits |= SPAN_PARENT_REMOTE;
}

void call_take_parent(struct request *r)
{
	const struct context *environment = current_environment();
	struct context parent;

	if (owner_context(r, &parent))
		take_child(r, &parent);
	else if (environment != NULL)
		take_environment(r, environment);
	else
		take_root(r);
}

bool call_take_ids(struct request *r, const struct call_wrote *wrote)
{
	struct context parent;

	if (wrote->n_traceparent == 1 &&
	    propagate_parse_traceparent(wrote->traceparent, &parent)) {
		const struct request_token forwarded = request_by_parent(&parent, r->owner);

		if (forwarded.place != 0) {
			request_call(r->owner, -1);
			request_for(r, forwarded);
		}
		if (forwarded.place != 0 && owner_context(r, &parent)) {
			take_child(r, &parent);
			return settings->rewrite;
		}
		/* The program traces by itself: ours hangs beside what it calls. */
		take_child(r, &parent);
		return false;
	}
	call_take_parent(r);
	return false;
}

void call_describe(struct request *r, struct propagate_value method,
		   struct propagate_value target, struct propagate_value host, uint16_t port,
		   enum span_protocol protocol)
{
	struct propagate_value query;
	const struct propagate_value path = serve_path(target, &query);
	const struct propagate_value name = serve_host(host, &port);

	if (guard.plaintext) {
		r->span.span.bits |= SPAN_TLS_INSIDE;
		port = port != 0 ? port : HTTPS_PORT;
	}
	span_texts(&r->span, method.at, method.len, path.at, path.len, name.at, name.len);
	r->span.span.port = port;
	r->span.span.protocol = (uint8_t) protocol;
}

struct sending {
	const struct call_wrote *wrote;
	void (*field)(void *arg, const char *name, const char *value, size_t len);
	void *arg;
};

static bool written(const struct call_wrote *wrote, enum http1_field id)
{
	return (wrote->fields >> id & 1) != 0;
}

static void send_field(void *arg, const char *name, const char *value, size_t len)
{
	const struct sending *s = arg;
	/* From the first of ours to the last; mostly the program wrote none of them. */
	const uint64_t any = (UINT64_C(2) << HTTP1_X_TRACE_ID) - (UINT64_C(1) << HTTP1_TRACEPARENT);
	const bool look = (s->wrote->fields & any) != 0;

	for (size_t i = 0; look && i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (strcmp(ours[i].name, name) != 0)
			continue;
		/* A tracestate belongs to the traceparent beside it. */
		if (written(s->wrote, ours[i].id) ||
		    (ours[i].id == HTTP1_TRACESTATE && written(s->wrote, HTTP1_TRACEPARENT)))
			return;
	}
	s->field(s->arg, name, value, len);
}

static void send_forwarded(const struct request *carrier, const struct sending *s)
{
	for (unsigned i = 0; i < settings->forward.n; i++) {
		const struct propagate_value v =
			request_value(carrier, (enum request_value) (REQUEST_EXTRA + i));

		if (v.len > 0 && !written(s->wrote, (enum http1_field) (HTTP1_EXTRA + i)))
			s->field(s->arg, settings->forward.names[i], v.at, v.len);
	}
}

static bool same_trace(const struct context *a, const struct context *b)
{
	return memcmp(a->trace_id, b->trace_id, sizeof(a->trace_id)) == 0;
}

bool call_fields(struct request *r, const struct call_wrote *wrote,
		 void (*field)(void *arg, const char *name, const char *value, size_t len),
		 void *arg)
{
	struct sending s = { wrote, field, arg };
	struct propagate_out out = { .context = r->context };
	const struct request *carrier = request_at(r->carrier);
	const char *state = current_environment_state();

	if (carrier != NULL && same_trace(&carrier->context, &r->context)) {
		out.tracestate = request_value(carrier, REQUEST_TRACESTATE);
		out.baggage = request_value(carrier, REQUEST_BAGGAGE);
		out.foreign = request_value(carrier, REQUEST_FOREIGN);
	} else if (current_environment() != NULL &&
		   same_trace(current_environment(), &r->context)) {
		out.tracestate = (struct propagate_value) { state, strlen(state) };
	}
	propagate_inject(&settings->propagators, &out, send_field, &s);
	if (carrier == NULL)
		return true;
	send_forwarded(carrier, &s);
	if (request_still(carrier, r->carrier))
		return true;
	r->carrier = (struct request_token) { 0 };
	if (request_at(r->owner) == NULL) {
		r->owner = (struct request_token) { 0 };
		take_root(r);
	}
	return false;
}
