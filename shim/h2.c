/* SPDX-License-Identifier: Apache-2.0 */
/* Following HTTP/2: what each stop of its machine means for requests, breakers and spans. */
#include "shim/h2.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/rpc.h"
#include "shim/blob.h"
#include "shim/call.h"
#include "shim/curl.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/pool.h"
#include "shim/raw.h"
#include "shim/serve.h"
#include "shim/shared.h"

#define CHUNK_BITS 2
#define CHUNKS     4096  /* 16,384 connections at once; further ones are not followed */
#define PAGE       4096u
#define KEPT       32768 /* of a direction's memory: what peers seldom exceed stays mapped */
#define DUE_NS     NS_PER_MS /* a deadline's timer fires so much early, as clocks are rounded */

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct h2, CHUNK_BITS);

/* ---- places ---- */

struct h2 *h2_of(const struct traffic *t)
{
	/* Acquire: it was laid out. Pairs with the exchange in h2_begins(). */
	const uint32_t place = atomic_load_explicit(&t->h2, memory_order_acquire);

	return place != 0 ? pool_at(&pool, place - 1) : NULL;
}

static void lay_out(struct h2 *h, bool inbound)
{
	http2_init(&h->machine, inbound ? HTTP2_SERVER : HTTP2_CLIENT, h->memory,
		   sizeof(h->memory));
	atomic_store_explicit(&h->in_flight, 0, memory_order_relaxed);
	atomic_store_explicit(&h->probes, 0, memory_order_relaxed);
	atomic_store_explicit(&h->refused, 0, memory_order_relaxed);
	atomic_store_explicit(&h->latest, 0, memory_order_relaxed);
	h->ids_taken = h->asked = h->added = false;
	h->piece = (struct h2_piece) { 0 };
	for (unsigned i = 0; i < HTTP2_STREAMS; i++)
		atomic_store_explicit(&h->streams[i].alive, false, memory_order_relaxed);
}

bool h2_begins(struct traffic *t, enum http1_side side)
{
	uint32_t number, none = 0;

	if (h2_of(t) == NULL) {
		if (!pool_take(&pool, &number)) {
			traffic_count(METRICS_OPAQUE_MEMORY);
			return false;
		}
		lay_out(pool_at(&pool, number), t->inbound);
		/* The other direction may have begun meanwhile: one place for both. */
		if (!atomic_compare_exchange_strong_explicit(&t->h2, &none, number + 1,
							     memory_order_acq_rel,
							     memory_order_acquire))
			pool_give(&pool, number);
	}
	atomic_store_explicit(&t->multiplexed[side], true, memory_order_relaxed);
	return true;
}

/* Tables that a peer made large are given back: they are of one connection, once. */
static void give_memory_back(struct h2 *h)
{
	for (unsigned side = 0; side < 2; side++) {
		const uintptr_t half = (uintptr_t) h->memory + side * (HTTP2_MEMORY / 2);
		const uintptr_t from = (half + KEPT + PAGE - 1) & ~(uintptr_t) (PAGE - 1);
		const uintptr_t end = (half + HTTP2_MEMORY / 2) & ~(uintptr_t) (PAGE - 1);

		if (hpack_touched(&h->machine.flows[side].hpack) > KEPT)
			(void) raw_syscall(SYS_madvise, (long) from, (long) (end - from),
					   MADV_DONTNEED, 0, 0, 0);
	}
}

/* ---- streams ---- */

static struct h2_stream *stream_at(struct h2 *h, const struct http2_flow *f)
{
	return f->slot != HTTP2_NO_SLOT ? &h->streams[f->slot] : NULL;
}

struct request_token h2_only(const struct h2 *h)
{
	const struct h2_stream *st =
		&h->streams[atomic_load_explicit(&h->latest, memory_order_relaxed)];

	/* Acquire: pairs with begin_stream(). */
	if (atomic_load_explicit(&h->in_flight, memory_order_acquire) != 1)
		return (struct request_token) { 0 };
	for (unsigned i = 0; !atomic_load_explicit(&st->alive, memory_order_acquire); i++) {
		if (i == HTTP2_STREAMS)
			return (struct request_token) { 0 };
		st = &h->streams[i];
	}
	return st->token;
}

/* What a stream comes to. */
enum judged_by { BY_STATUS, BY_RPC, BY_OUTCOME };
struct verdict {
	enum judged_by by;
	unsigned status; /* of HTTP, or gRPC's */
	enum breaker_outcome outcome;
	int error;
};

static void settle_by(struct admission *a, const void *how, uint64_t now)
{
	const struct verdict *v = how;

	switch (v->by) {
	case BY_STATUS:
		shared_settle_answer(a, v->status, now);
		break;
	case BY_RPC:
		shared_settle_rpc(a, v->status, now);
		break;
	case BY_OUTCOME:
		shared_settle(a, v->outcome, v->error, now);
		break;
	}
}

static void settle_further(const struct h2_stream *st, fds_word word, const struct verdict *v)
{
	struct admission a = *stream_admission(word);

	a.ticket = st->ticket;
	a.judged = true;
	settle_by(&a, v, clock_now());
}

static bool is_probe(const struct h2_stream *st)
{
	return !st->first && breaker_ticket_state(&st->ticket) == BREAKER_HALF_OPEN;
}

/* Once for each stream, whoever comes first: its answer, its end, or the connection's. */
static void settle(struct h2 *h, struct h2_stream *st, fds_word word, struct verdict v)
{
	if (!atomic_exchange_explicit(&st->unsettled, false, memory_order_acq_rel))
		return;
	if (is_probe(st))
		atomic_fetch_sub_explicit(&h->probes, 1, memory_order_relaxed);
	if (stream_pid(word) != life_pid())
		return; /* its parent's to settle */
	if (st->first)
		stream_settle_by(word, settle_by, &v);
	else
		settle_further(st, word, &v);
}

static void settle_as(struct h2 *h, struct h2_stream *st, fds_word word,
		      enum breaker_outcome outcome, int error)
{
	/* What we refused ourselves says nothing of the peer. */
	if (atomic_load_explicit(&h->refused, memory_order_relaxed) != 0)
		outcome = BREAKER_EXCLUDED;
	settle(h, st, word, (struct verdict) { .by = BY_OUTCOME, .outcome = outcome, .error = error });
}

static void rpc_ends(struct h2_stream *st, unsigned status)
{
	atomic_store_explicit(&st->rpc_status, (uint8_t) (1 + status), memory_order_relaxed);
}

static void finish(struct h2 *h, struct h2_stream *st, enum span_error error)
{
	struct request *r;

	if (!atomic_exchange_explicit(&st->alive, false, memory_order_acq_rel))
		return;
	atomic_fetch_sub_explicit(&h->in_flight, 1, memory_order_relaxed);
	r = request_at(st->token);
	if (r != NULL && st->rpc)
		r->span.span.rpc_status =
			atomic_load_explicit(&st->rpc_status, memory_order_relaxed);
	if (st->token.place != 0)
		request_end(st->token, atomic_load_explicit(&st->status, memory_order_relaxed),
			    error, clock_now());
}

/* A peer that answers before it is asked leaves a stream in a slot that is free again. */
static void clear_stream(struct h2 *h, struct h2_stream *st, fds_word word, uint64_t now)
{
	if (atomic_load_explicit(&st->alive, memory_order_acquire)) {
		settle_as(h, st, word, BREAKER_EXCLUDED, 0);
		finish(h, st, SPAN_NO_ERROR);
	}
	st->token = (struct request_token) { 0 };
	st->ticket = (struct breaker_ticket) { 0 };
	st->begun = now;
	st->timeout_ns = 0;
	st->rpc = st->first = false;
	atomic_store_explicit(&st->answered, false, memory_order_relaxed);
	atomic_store_explicit(&st->unsettled, false, memory_order_relaxed);
	atomic_store_explicit(&st->rpc_status, 0, memory_order_relaxed);
	atomic_store_explicit(&st->status, 0, memory_order_relaxed);
}

/* From here on whoever sees the end of the connection, or of an answer, ends it. */
static void begin_stream(struct h2 *h, uint8_t slot, struct h2_stream *st)
{
	/* Release: pairs with the acquire of each_left(). */
	atomic_store_explicit(&st->alive, true, memory_order_release);
	atomic_store_explicit(&h->latest, slot, memory_order_relaxed);
	/* Release: pairs with h2_only(). */
	atomic_fetch_add_explicit(&h->in_flight, 1, memory_order_release);
}

static void first_asked(struct traffic *t, struct h2 *h)
{
	if (h->asked)
		return;
	h->asked = true;
	traffic_count(METRICS_HTTP2_CONNECTIONS);
	if (!t->inbound)
		request_call(t->owner, -1); /* the request has its own place in the count */
	t->asked = true;
}

/* ---- connected: a stream begins ---- */

/* The ticket of the connect, while the first stream has it. */
static bool first_is_probe(fds_word word)
{
	return stream_open_ended(word) &&
	       breaker_ticket_state(&stream_admission(word)->ticket) == BREAKER_HALF_OPEN;
}

/*
 * Whose stream is it? Libraries send for several threads in one call, and one thread for
 * another (gRPC's do): a thread is believed while it is all that the process works on.
 */
static struct request_token owner_of(const struct traffic *t, const struct h2 *h)
{
	if (!current_acts_at_once() && request_work_count() > 1)
		return (struct request_token) { 0 };
	return h->asked ? current_owner() : current_first_owner(t->owner, t->maker);
}

/* Returns false when the breaker refuses. */
static bool admitted(struct h2 *h, struct h2_stream *st, fds_word word, uint64_t now,
		     int *ret_errno)
{
	const bool probes = atomic_load_explicit(&h->probes, memory_order_relaxed) > 0 ||
			    first_is_probe(word);
	struct admission next;

	switch (shared_admit_stream(stream_admission(word), probes, now, &next, ret_errno)) {
	case SHARED_REFUSED:
		return false;
	case SHARED_ADMITTED:
		st->ticket = next.ticket;
		if (is_probe(st))
			atomic_fetch_add_explicit(&h->probes, 1, memory_order_relaxed);
		atomic_store_explicit(&st->unsettled, true, memory_order_relaxed);
		break;
	case SHARED_UNJUDGED:
	case SHARED_UNGUARDED:
		break;
	}
	return true;
}

static bool client_begins(struct traffic *t, struct h2 *h, int fd, fds_word word, int *ret_errno)
{
	const struct http2_flow *f = &h->machine.flows[HTTP1_REQUESTS];
	const bool spoken = curl_speaks_again(stream_admission(word));
	struct h2_stream *st = stream_at(h, f);
	const uint64_t now = clock_now();

	h->ids_taken = false;
	if (st == NULL) {
		traffic_count(METRICS_STREAMS_UNFOLLOWED);
		return true;
	}
	clear_stream(h, st, word, now);
	if (!h->asked) {
		st->first = true;
		atomic_store_explicit(&st->unsettled, stream_open_ended(word),
				      memory_order_relaxed);
	} else if (!spoken && !admitted(h, st, word, now, ret_errno)) {
		if (stream_same_socket(fd, word))
			return false;
		h2_lose(t, HTTP1_REQUESTS);
		return true;
	}
	if (settings->trace && !spoken)
		st->token = call_begin(owner_of(t, h), life_wall(now), now);
	begin_stream(h, f->slot, st);
	first_asked(t, h);
	return true;
}

static struct propagate_value value_of(const struct http2_flow *f, unsigned id)
{
	const struct http1_slice *s = http2_find(f, id, NULL);

	return s != NULL ? (struct propagate_value) { f->values + s->at, s->len }
			 : (struct propagate_value) { 0 };
}

static struct call_wrote wrote_of(const struct http2_flow *f)
{
	struct call_wrote wrote = { .traceparent = value_of(f, HTTP1_TRACEPARENT) };

	for (unsigned i = 0; i < f->n_fields; i++) {
		if (f->fields[i].id < HTTP1_FIELD_IDS)
			wrote.fields |= UINT64_C(1) << f->fields[i].id;
	}
	(void) http2_find(f, HTTP1_TRACEPARENT, &wrote.n_traceparent);
	return wrote;
}

static bool speaks_rpc(const struct http2_flow *f)
{
	const struct propagate_value type = value_of(f, HTTP1_CONTENT_TYPE);

	return rpc_spoken(type.at, type.len);
}

static bool is_https(const struct http2_flow *f)
{
	const struct propagate_value scheme = value_of(f, HTTP2_SCHEME);

	return scheme.len == 5 && memcmp(scheme.at, "https", 5) == 0;
}

/* What of the head decides how the stream is judged. */
static void note_kind(struct h2_stream *st, const struct http2_flow *f)
{
	const struct propagate_value timeout = value_of(f, HTTP2_GRPC_TIMEOUT);

	st->rpc = speaks_rpc(f);
	if (st->rpc)
		st->timeout_ns = rpc_timeout(timeout.at, timeout.len);
}

struct request *h2_take_ids(struct h2 *h, struct call_wrote *ret_wrote)
{
	const struct http2_flow *f = &h->machine.flows[HTTP1_REQUESTS];
	struct h2_stream *st = stream_at(h, f);
	struct request *r = st != NULL ? request_at(st->token) : NULL;

	*ret_wrote = wrote_of(f);
	if (h->ids_taken || st == NULL)
		return r;
	h->ids_taken = true;
	note_kind(st, f);
	if (r == NULL)
		return NULL;
	r->method = f->method;
	(void) call_take_ids(r, ret_wrote);
	call_describe(r, value_of(f, HTTP1_METHOD), value_of(f, HTTP1_TARGET),
		      value_of(f, HTTP1_HOST), 0, SPAN_HTTP_2);
	if (st->rpc)
		r->span.span.bits |= SPAN_RPC;
	if (is_https(f))
		r->span.span.bits |= SPAN_TLS_INSIDE;
	if (ret_wrote->n_traceparent > 0)
		traffic_count(METRICS_ADOPTED);
	return r;
}

/* ---- accepted: a request is read ---- */

static void served_begins(struct traffic *t, struct h2 *h, fds_word word)
{
	const struct http2_flow *f = &h->machine.flows[HTTP1_REQUESTS];
	struct h2_stream *st = stream_at(h, f);

	h->began_mono = clock_now();
	h->began_wall = life_wall(h->began_mono);
	if (st == NULL) {
		traffic_count(METRICS_STREAMS_UNFOLLOWED);
	} else {
		clear_stream(h, st, word, h->began_mono);
		begin_stream(h, f->slot, st);
	}
	first_asked(t, h);
}

static void served_head(struct traffic *t, struct h2 *h, struct h2_stream *st, int fd, fds_word word)
{
	const struct http2_flow *f = &h->machine.flows[HTTP1_REQUESTS];
	const struct serve_head head = {
		.fields = f->fields,
		.n_fields = f->n_fields,
		.values = f->values,
		.method = f->method,
		.protocol = SPAN_HTTP_2,
		.rpc = speaks_rpc(f),
	};
	struct request *r;

	if (traffic_stranger(fd, word)) {
		h2_lose(t, HTTP1_REQUESTS);
		return;
	}
	note_kind(st, f);
	st->token = traffic_serves(fd, &head, h->began_wall, h->began_mono);
	r = request_at(st->token);
	if (r != NULL && is_https(f))
		r->span.span.bits |= SPAN_TLS_INSIDE;
	if (r != NULL)
		current_took(st->token,
			     atomic_load_explicit(&h->in_flight, memory_order_relaxed) == 1);
}

/* ---- heads and ends of streams ---- */

static void request_head(struct traffic *t, struct h2 *h, struct h2_stream *st, int fd,
			 fds_word word)
{
	struct call_wrote wrote;

	if (h->machine.flows[HTTP1_REQUESTS].kind != HTTP2_REQUEST)
		return;
	if (t->inbound)
		served_head(t, h, st, fd, word);
	else
		(void) h2_take_ids(h, &wrote);
}

static void answer_head(struct traffic *t, struct h2 *h, struct h2_stream *st, fds_word word)
{
	const struct http2_flow *f = &h->machine.flows[HTTP1_RESPONSES];

	if (f->kind == HTTP2_INFORMATIONAL)
		return;
	if (f->grpc_status >= 0 && f->grpc_status < RPC_STATUSES)
		rpc_ends(st, (unsigned) f->grpc_status);
	if (f->kind != HTTP2_RESPONSE)
		return;
	atomic_store_explicit(&st->status, f->status, memory_order_relaxed);
	if (t->inbound)
		traffic_answers(st->token);
	else if (!st->rpc)
		settle(h, st, word, (struct verdict) { .by = BY_STATUS, .status = f->status });
}

static void answer_whole(struct traffic *t, struct h2 *h, struct h2_stream *st, fds_word word)
{
	const unsigned status = atomic_load_explicit(&st->status, memory_order_relaxed);

	if (st->rpc && atomic_load_explicit(&st->rpc_status, memory_order_relaxed) == 0)
		rpc_ends(st, rpc_of_http(status));
	/* Release: whoever then resets the stream has nothing left to judge. */
	atomic_store_explicit(&st->answered, true, memory_order_release);
	if (!t->inbound && st->rpc)
		settle(h, st, word,
		       (struct verdict) {
			       .by = BY_RPC,
			       .status = atomic_load_explicit(&st->rpc_status,
							      memory_order_relaxed) - 1u });
}

static void stream_ended(struct traffic *t, struct h2 *h, struct h2_stream *st, fds_word word,
			 enum http1_side side)
{
	if (side == HTTP1_RESPONSES)
		answer_whole(t, h, st, word);
	else if (t->inbound)
		traffic_served(st->token);
	if (h->machine.flows[side].closed)
		finish(h, st, SPAN_NO_ERROR);
}

static uint64_t due_of(const struct h2_stream *st)
{
	return st->timeout_ns > DUE_NS ? st->timeout_ns - DUE_NS : st->timeout_ns;
}

/* The program let go of a call that it made. Returns why its span failed. */
static enum span_error given_up(struct h2 *h, struct h2_stream *st, fds_word word)
{
	const struct admission *a = stream_admission(word);
	const uint64_t waited = clock_since(st->begun, clock_now());
	const bool begun = atomic_load_explicit(&st->status, memory_order_relaxed) != 0;

	if (atomic_load_explicit(&st->answered, memory_order_acquire))
		return SPAN_NO_ERROR;
	if (st->timeout_ns > 0 && waited >= due_of(st) && !begun) {
		rpc_ends(st, RPC_DEADLINE_EXCEEDED);
		settle(h, st, word,
		       (struct verdict) { .by = BY_RPC, .status = RPC_DEADLINE_EXCEEDED });
		return SPAN_NO_ERROR; /* its status says so */
	}
	if (st->rpc)
		rpc_ends(st, RPC_CANCELLED);
	if (begun || waited < a->policy.patience_ns || shared_succeeded_since(a, st->begun) ||
	    inbound_hung_up()) {
		settle_as(h, st, word, BREAKER_EXCLUDED, 0);
		return SPAN_ABANDONED;
	}
	settle_as(h, st, word, BREAKER_FAILURE, ETIMEDOUT);
	return SPAN_TIMEOUT;
}

/* The peer of a call that the program made has reset it. */
static enum span_error reset_by_peer(struct h2 *h, struct h2_stream *st, fds_word word,
				     uint32_t code)
{
	const bool begun = atomic_load_explicit(&st->status, memory_order_relaxed) != 0;

	if (st->rpc) {
		if (atomic_load_explicit(&st->rpc_status, memory_order_relaxed) == 0)
			rpc_ends(st, rpc_of_reset(code));
		settle(h, st, word,
		       (struct verdict) { .by = BY_RPC,
					  .status = atomic_load_explicit(
							    &st->rpc_status,
							    memory_order_relaxed) - 1u });
		return SPAN_NO_ERROR;
	}
	settle_as(h, st, word,
		  rpc_of_reset(code) == RPC_CANCELLED ? BREAKER_EXCLUDED : BREAKER_FAILURE,
		  ECONNRESET);
	return code == 0 && begun ? SPAN_NO_ERROR : SPAN_RESET;
}

static void stream_reset(struct traffic *t, struct h2 *h, struct h2_stream *st, fds_word word,
			 enum http1_side side)
{
	const uint32_t code = h->machine.flows[side].code;
	enum span_error error = SPAN_NO_ERROR;

	if (atomic_load_explicit(&st->answered, memory_order_acquire)) {
		finish(h, st, SPAN_NO_ERROR);
		return;
	}
	if (t->inbound) {
		if (st->rpc)
			rpc_ends(st, side == HTTP1_REQUESTS ? RPC_CANCELLED : rpc_of_reset(code));
		error = side == HTTP1_REQUESTS ? SPAN_ABANDONED : SPAN_RESET;
	} else if (side == HTTP1_REQUESTS) {
		error = given_up(h, st, word);
	} else {
		error = reset_by_peer(h, st, word, code);
	}
	finish(h, st, error);
}

/* ---- the connection ---- */

/* Every stream above @after that is not over; 0: all. */
static void each_left(struct h2 *h, fds_word word, uint32_t after,
		      enum span_error (*why)(struct h2 *h, struct h2_stream *st, fds_word word))
{
	for (unsigned i = 0; i < HTTP2_STREAMS; i++) {
		struct h2_stream *st = &h->streams[i];

		if (atomic_load_explicit(&st->alive, memory_order_acquire) &&
		    (after == 0 || http2_stream(&h->machine, i) > after))
			finish(h, st, why(h, st, word));
	}
}

static enum span_error not_looked_at(struct h2 *h, struct h2_stream *st, fds_word word)
{
	settle_as(h, st, word, BREAKER_EXCLUDED, 0);
	return SPAN_EARLY_END;
}

static enum span_error not_seen(struct h2 *h, struct h2_stream *st, fds_word word)
{
	settle_as(h, st, word, BREAKER_EXCLUDED, 0);
	return SPAN_NO_ERROR;
}

static enum span_error abandoned(struct h2 *h, struct h2_stream *st, fds_word word)
{
	(void) h;
	(void) word;
	return atomic_load_explicit(&st->answered, memory_order_relaxed) ? SPAN_NO_ERROR
									  : SPAN_ABANDONED;
}

static enum metrics_counter counter_of(enum http2_reason reason)
{
	static const enum metrics_counter counters[HTTP2_REASONS] = {
		[HTTP2_NOT_HTTP2] = METRICS_OPAQUE_NOT_HTTP,
		[HTTP2_BAD_FRAME] = METRICS_OPAQUE_H2,
		[HTTP2_FRAME_TOO_LONG] = METRICS_OPAQUE_H2_TOO_LONG,
		[HTTP2_BAD_BLOCK] = METRICS_OPAQUE_H2_BLOCK,
		[HTTP2_BLOCK_TOO_LONG] = METRICS_OPAQUE_H2_TOO_LONG,
		[HTTP2_NO_MEMORY] = METRICS_OPAQUE_H2_MEMORY,
		[HTTP2_BAD_SETTINGS] = METRICS_OPAQUE_H2_SETTINGS,
		[HTTP2_UNSEEN] = METRICS_OPAQUE_UNSEEN,
	};

	return counters[reason];
}

static void became_opaque(struct traffic *t, struct h2 *h, int fd, fds_word word,
			  enum http1_side side)
{
	const enum http2_reason reason = (enum http2_reason) atomic_load_explicit(
		&h->machine.flows[side].reason, memory_order_relaxed);

	/* One direction alone tells nothing of what belongs together. */
	if (traffic_followed(word))
		traffic_count(counter_of(reason));
	http2_part(&h->machine, side == HTTP1_REQUESTS ? HTTP1_RESPONSES : HTTP1_REQUESTS);
	each_left(h, word, 0, not_seen);
	stream_http_ends(fd, word, STREAM_WAS_HTTP);
	if (!t->inbound && side == HTTP1_RESPONSES)
		stream_judge_bytes(fd, word);
}

/* A peer may answer what is only about to be asked. */
static bool too_early(const struct h2_stream *st, enum http1_side side, enum http2_stop stop)
{
	/* Acquire: pairs with begin_stream(). */
	return side == HTTP1_RESPONSES && stop >= HTTP2_HEADERS && stop <= HTTP2_RESET &&
	       !atomic_load_explicit(&st->alive, memory_order_acquire);
}

bool h2_told(struct traffic *t, int fd, fds_word word, enum http1_side side, enum http2_stop stop,
	     int *ret_errno)
{
	struct h2 *h = h2_of(t);
	struct h2_stream *st = stream_at(h, &h->machine.flows[side]);

	if (too_early(st, side, stop))
		return true;
	switch (stop) {
	case HTTP2_HEAD:
		if (!t->inbound)
			return client_begins(t, h, fd, word, ret_errno);
		served_begins(t, h, word);
		break;
	case HTTP2_HEADERS:
		if (side == HTTP1_REQUESTS)
			request_head(t, h, st, fd, word);
		else
			answer_head(t, h, st, word);
		break;
	case HTTP2_END_STREAM:
		stream_ended(t, h, st, word, side);
		break;
	case HTTP2_RESET:
		stream_reset(t, h, st, word, side);
		break;
	case HTTP2_GOAWAY:
		if (!t->inbound && side == HTTP1_RESPONSES)
			each_left(h, word, h->machine.flows[side].last_stream, not_looked_at);
		break;
	case HTTP2_OPAQUE:
		became_opaque(t, h, fd, word, side);
		break;
	case HTTP2_HOLD:      /* the sender's, who asks for what he says there */
	case HTTP2_BLOCK_END:
	case HTTP2_MORE:
		break;
	}
	return true;
}

void h2_feed(struct traffic *t, int fd, fds_word word, enum http1_side side, const char *bytes,
	     size_t n)
{
	struct h2 *h = h2_of(t);
	struct http2_input in = { .bytes = bytes, .n = n };
	enum http2_stop stop;

	do {
		size_t used;
		int refusal; /* it has gone: too late for that */

		stop = http2_feed(&h->machine, side, &settings->forward, &in, &used);
		http2_on(&in, used);
		(void) h2_told(t, fd, word, side, stop, &refusal);
	} while (stop != HTTP2_MORE);
}

void h2_skip(struct traffic *t, int fd, fds_word word, enum http1_side side, uint64_t n)
{
	struct h2 *h = h2_of(t);
	enum http2_stop stop;

	do {
		uint64_t used;
		int refusal;

		stop = http2_skip(&h->machine, side, n, &used);
		n -= used;
		(void) h2_told(t, fd, word, side, stop, &refusal);
	} while (stop != HTTP2_MORE);
}

void h2_lose(struct traffic *t, enum http1_side side)
{
	http2_lost(&h2_of(t)->machine, side);
}

void h2_refuse(struct traffic *t, fds_word word, int error)
{
	struct h2 *h = h2_of(t);

	atomic_store_explicit(&h->refused, error, memory_order_relaxed);
	/* What comes of them now is our doing. */
	for (unsigned i = 0; i < HTTP2_STREAMS; i++) {
		if (atomic_load_explicit(&h->streams[i].alive, memory_order_acquire))
			settle_as(h, &h->streams[i], word, BREAKER_EXCLUDED, 0);
	}
}

void h2_failed(struct traffic *t, fds_word word, int error)
{
	struct h2 *h = h2_of(t);

	for (unsigned i = 0; i < HTTP2_STREAMS; i++) {
		struct h2_stream *st = &h->streams[i];

		if (!atomic_load_explicit(&st->alive, memory_order_acquire))
			continue;
		settle_as(h, st, word, BREAKER_FAILURE, error);
		if (st->rpc && atomic_load_explicit(&st->rpc_status, memory_order_relaxed) == 0)
			rpc_ends(st, RPC_UNAVAILABLE);
		finish(h, st, abandoned(h, st, word) == SPAN_NO_ERROR ? SPAN_NO_ERROR
								       : traffic_error(error));
	}
}

void h2_ends(struct traffic *t, fds_word word)
{
	const uint32_t place = atomic_load_explicit(&t->h2, memory_order_acquire);
	struct h2 *h = h2_of(t);

	if (h == NULL)
		return;
	each_left(h, word, 0, t->inbound ? abandoned : given_up);
	h2_drop(t);
	give_memory_back(h);
	atomic_store_explicit(&t->h2, 0, memory_order_release);
	pool_give(&pool, place - 1);
}
