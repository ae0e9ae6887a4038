/* SPDX-License-Identifier: Apache-2.0 */
/* Following HTTP/1 on connections: what is read, what is answered, and how it all ends. */
#include "shim/traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/clock.h"
#include "core/config.h"
#include "shim/blob.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/h2.h"
#include "shim/life.h"
#include "shim/pool.h"
#include "shim/raw.h"
#include "shim/real.h"
#include "shim/serve.h"
#include "shim/shared.h"
#include "shim/traffic_place.h"

#define CHUNK_BITS      5     /* chunks and numbers as stream.c has them */
#define CHUNKS          32768
#define UNCLAIMED_MAX   4     /* reads of ciphertext after a hello that nobody shows us inside */
#define METHOD_SHIFT    28
#define PLACE_MASK      ((UINT32_C(1) << METHOD_SHIFT) - 1)

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct traffic, CHUNK_BITS);

static struct traffic *traffic_at(fds_word word)
{
	return pool_at(&pool, stream_number(word));
}

struct traffic *traffic_place(fds_word word)
{
	return traffic_at(word);
}

void traffic_count(enum metrics_counter which)
{
	struct metrics *m = shared_metrics();

	if (m != NULL)
		metrics_add(m, life_pid(), which, 1);
}

/* ---- the requests in flight ---- */

uint32_t traffic_in_flight(const struct traffic *t)
{
	/* Acquire: a request that is counted was laid out. Pairs with traffic_push(). */
	return atomic_load_explicit(&t->pushed, memory_order_acquire) -
	       atomic_load_explicit(&t->popped, memory_order_acquire);
}

bool traffic_push(struct traffic *t, enum http1_method method, struct request_token token)
{
	const uint32_t pushed = atomic_load_explicit(&t->pushed, memory_order_relaxed);

	if (traffic_in_flight(t) >= TRAFFIC_QUEUE)
		return false;
	atomic_store_explicit(&t->queue[pushed % TRAFFIC_QUEUE],
			      (uint32_t) method << METHOD_SHIFT | (token.place & PLACE_MASK),
			      memory_order_relaxed);
	/* Release: pairs with traffic_in_flight(). */
	atomic_store_explicit(&t->pushed, pushed + 1, memory_order_release);
	return true;
}

static uint32_t entry_at(const struct traffic *t, uint32_t position)
{
	return atomic_load_explicit(&t->queue[position % TRAFFIC_QUEUE], memory_order_relaxed);
}

/* The request that is answered next; void when there is none, or it is not traced. */
static struct request_token front(const struct traffic *t, enum http1_method *ret_method)
{
	const uint32_t entry =
		entry_at(t, atomic_load_explicit(&t->popped, memory_order_relaxed));

	*ret_method = HTTP1_OTHER;
	if (traffic_in_flight(t) == 0)
		return (struct request_token) { 0 };
	*ret_method = (enum http1_method) (entry >> METHOD_SHIFT);
	return request_token_of(entry & PLACE_MASK);
}

static struct request_token newest(const struct traffic *t)
{
	if (traffic_in_flight(t) == 0)
		return (struct request_token) { 0 };
	return request_token_of(
		entry_at(t, atomic_load_explicit(&t->pushed, memory_order_relaxed) - 1) &
		PLACE_MASK);
}

/* The request in front has come to its end. */
static void pop(struct traffic *t, uint16_t status, enum span_error error)
{
	enum http1_method method;
	const struct request_token token = front(t, &method);

	if (traffic_in_flight(t) == 0)
		return;
	/* Release: whoever finds the place free may use it. */
	atomic_store_explicit(&t->popped,
			      atomic_load_explicit(&t->popped, memory_order_relaxed) + 1,
			      memory_order_release);
	if (token.place != 0)
		request_end(token, status, error, clock_now());
	t->status = 0;
}

static void pop_all(struct traffic *t, enum span_error error)
{
	while (traffic_in_flight(t) > 0)
		pop(t, t->status, error);
}

/* ---- beginning and ending ---- */

bool traffic_begins(fds_word word, bool inbound)
{
	if (!pool_ready(&pool, stream_number(word))) {
		traffic_count(METRICS_OPAQUE_MEMORY);
		return false;
	}

	struct traffic *t = traffic_at(word);

	http1_init(&t->requests, HTTP1_REQUESTS, t->arena, sizeof(t->arena));
	http1_init(&t->responses, HTTP1_RESPONSES, NULL, 0);
	t->inbound = inbound;
	for (unsigned lane = 0; lane < 2; lane++) {
		atomic_store_explicit(&t->lost[lane], false, memory_order_relaxed);
		atomic_store_explicit(&t->marks[lane], 0, memory_order_relaxed);
	}
	atomic_store_explicit(&t->pushed, 0, memory_order_relaxed);
	atomic_store_explicit(&t->popped, 0, memory_order_relaxed);
	t->status = 0;
	atomic_store_explicit(&t->h2, 0, memory_order_relaxed);
	for (unsigned side = 0; side < 2; side++)
		atomic_store_explicit(&t->multiplexed[side], false, memory_order_relaxed);
	t->greeted = false;
	memset(&t->held, 0, sizeof(t->held));
	atomic_store_explicit(&t->holds, false, memory_order_relaxed);
	atomic_store_explicit(&t->secure, false, memory_order_relaxed);
	atomic_store_explicit(&t->claimed, false, memory_order_relaxed);
	atomic_store_explicit(&t->read_to, 0, memory_order_relaxed);
	t->framed = false;
	t->sealed_reads = 0;
	t->hello_n = 0;
	t->owner = t->making = (struct request_token) { 0 };
	t->asked = t->added = t->head_open = t->line_said = false;
	t->queued = t->ids_taken = t->rewrite = t->injected = false;
	t->patch_due = false;
	atomic_store_explicit(&t->sender, NULL, memory_order_relaxed);
	atomic_store_explicit(&t->tail_len, 0, memory_order_relaxed);
	t->arena_blob = t->out_blob = 0;
	if (!inbound && settings->trace) {
		t->owner = current_owner();
		t->maker = &guard;
		request_call(t->owner, +1); /* from the connect on there is a call in flight */
	}
	return true;
}

/* A client that waited long was let down by its peer; one that did not changed its mind. */
static enum span_error why_given_up(const struct traffic *t, fds_word word)
{
	enum http1_method method;
	const struct request *r = request_at(front(t, &method));
	const struct admission *a = stream_admission(word);

	if (t->inbound || r == NULL || a == NULL)
		return SPAN_ABANDONED;
	return clock_since(r->span.mono_ns, clock_now()) >= a->policy.patience_ns ? SPAN_TIMEOUT
										   : SPAN_ABANDONED;
}

void traffic_ends(fds_word word)
{
	struct traffic *t = traffic_at(word);

	h2_ends(t, word);
	/* An answer that lasts until its sender closes is whole now. */
	if (t->inbound && http1_end(&t->responses) == HTTP1_DONE)
		pop(t, t->status, SPAN_NO_ERROR);
	pop_all(t, why_given_up(t, word));
	if (t->making.place != 0 && !t->queued)
		request_drop(t->making);
	if (!t->inbound && !t->asked)
		request_call(t->owner, -1);
	t->making = t->owner = (struct request_token) { 0 };
	blob_give(&t->arena_blob);
	blob_give(&t->out_blob);
	blob_give(&t->held.blob);
}

/* ---- entering ---- */

static enum http1_side side_of(const struct traffic *t, enum stream_lane lane)
{
	return (lane == STREAM_OUT) == t->inbound ? HTTP1_RESPONSES : HTTP1_REQUESTS;
}

static struct http1 *machine(struct traffic *t, enum http1_side side)
{
	return side == HTTP1_RESPONSES ? &t->responses : &t->requests;
}

static bool multiplexed(const struct traffic *t, enum http1_side side)
{
	/* Relaxed: set and asked under the lane; others only want to know. */
	return atomic_load_explicit(&t->multiplexed[side], memory_order_relaxed);
}

/* What went by in this direction is not known. */
static void lose(struct traffic *t, enum http1_side side)
{
	if (multiplexed(t, side))
		h2_lose(t, side);
	else
		http1_lost(machine(t, side));
}

/* Nothing was asked on it yet, so a child that the program forked to serve it may do so. */
static bool untouched(const struct traffic *t)
{
	return http1_between(&t->requests) &&
	       atomic_load_explicit(&t->pushed, memory_order_relaxed) == 0;
}

/* False: the connection is another process's as well, and its bytes are not all ours to see. */
static bool of_this_process(struct traffic *t, fds_word word)
{
	if (stream_pid(word) == life_pid())
		return true;
	if (t->inbound && untouched(t)) {
		stream_adopt(word);
		return true;
	}
	return false;
}

/* Not to be looked at any more, but for what is left of our fields: that is due all the same. */
static bool only_tail(fds_word word, enum stream_lane lane)
{
	return lane == STREAM_OUT && traffic_tail(word);
}

struct traffic *traffic_enter(fds_word word, enum stream_lane lane)
{
	if (!traffic_followed(word) && !only_tail(word, lane))
		return NULL;

	struct traffic *t = traffic_at(word);

	if (!stream_lane_take(word, lane)) {
		if (stream_lasts(word))
			atomic_store_explicit(&t->lost[traffic_lane(lane)], true,
					      memory_order_relaxed);
		return NULL;
	}
	if (traffic_followed(word) && !of_this_process(t, word)) {
		traffic_count(METRICS_OPAQUE_FORKED);
		lose(t, HTTP1_REQUESTS);
		lose(t, HTTP1_RESPONSES);
		stream_http_ends(-1, word, STREAM_WAS_HTTP);
	}
	if (!traffic_followed(word) && !only_tail(word, lane)) {
		stream_lane_give(word, lane);
		return NULL;
	}
	/* The lane is ours: nobody else takes the mark away between the look and the exchange. */
	if (atomic_load_explicit(&t->lost[traffic_lane(lane)], memory_order_relaxed) &&
	    atomic_exchange_explicit(&t->lost[traffic_lane(lane)], false, memory_order_relaxed)) {
		traffic_count(METRICS_OPAQUE_RACE);
		lose(t, side_of(t, lane));
	}
	return t;
}

uint32_t traffic_mark(fds_word word, enum stream_lane lane)
{
	if (!traffic_followed(word))
		return 0;
	return atomic_fetch_add_explicit(&traffic_at(word)->marks[traffic_lane(lane)], 1,
					 memory_order_relaxed) +
	       1;
}

/* Did another call of this direction begin while this one ran? Then their order is not known. */
static void check_mark(struct traffic *t, enum stream_lane lane, uint32_t mark)
{
	if (atomic_load_explicit(&t->marks[traffic_lane(lane)], memory_order_relaxed) == mark)
		return;
	traffic_count(METRICS_OPAQUE_RACE);
	lose(t, side_of(t, lane));
}

void traffic_lost(fds_word word, enum stream_lane lane)
{
	if (traffic_followed(word))
		atomic_store_explicit(&traffic_at(word)->lost[traffic_lane(lane)], true,
				      memory_order_relaxed);
}

/* ---- room ---- */

void traffic_grow(struct traffic *t)
{
	char *larger = blob_get(&t->arena_blob);

	if (larger != NULL && t->requests.size < BLOB_SIZE)
		http1_move(&t->requests, larger, BLOB_SIZE);
	else
		http1_cut(&t->requests);
}

char *traffic_blob(struct traffic *t)
{
	return blob_get(&t->out_blob);
}

bool traffic_tail(fds_word word)
{
	/* Acquire: pairs with the release of whoever sent its last byte. */
	return stream_http(word) != STREAM_NOT_HTTP &&
	       atomic_load_explicit(&traffic_at(word)->tail_len, memory_order_acquire) > 0 &&
	       stream_lasts(word);
}

bool traffic_sender(fds_word word)
{
	/* Relaxed: what another thread writes here is not this thread's guard. */
	return atomic_load_explicit(&traffic_at(word)->sender, memory_order_relaxed) == &guard;
}

/* ---- what cannot be followed ---- */

static enum metrics_counter counter_of(enum http1_reason reason)
{
	static const enum metrics_counter counters[] = {
		[HTTP1_NOT_HTTP] = METRICS_OPAQUE_NOT_HTTP,
		[HTTP1_H2_PREFACE] = METRICS_OPAQUE_H2,
		[HTTP1_BAD_SYNTAX] = METRICS_OPAQUE_SYNTAX,
		[HTTP1_BAD_FRAMING] = METRICS_OPAQUE_FRAMING,
		[HTTP1_HEAD_TOO_LONG] = METRICS_OPAQUE_TOO_LONG,
		[HTTP1_UPGRADED] = METRICS_OPAQUE_UPGRADED,
		[HTTP1_TUNNEL] = METRICS_OPAQUE_TUNNEL,
		[HTTP1_UNSEEN] = METRICS_OPAQUE_UNSEEN,
		[HTTP1_CUT_SHORT] = METRICS_OPAQUE_UNSEEN,
	};

	return counters[reason];
}

static bool parted(enum http1_reason reason)
{
	return reason == HTTP1_UPGRADED || reason == HTTP1_TUNNEL;
}

/*
 * Where nothing was asked yet the connection is let go at once. Both lanes are ours then;
 * a request may just begin in the other one.
 */
static void another_protocol(struct traffic *t, int fd, fds_word word, const struct http1 *p)
{
	const enum stream_lane other = (p == &t->requests) == t->inbound ? STREAM_OUT : STREAM_IN;
	const bool alone = !t->asked && stream_lane_take(word, other);
	const bool unused = alone && !t->asked;

	if (unused) {
		request_call(t->owner, -1);
		t->owner = (struct request_token) { 0 };
		blob_give(&t->arena_blob);
	}
	stream_http_ends(fd, word, unused ? STREAM_NOT_HTTP : STREAM_WAS_HTTP);
	if (alone)
		stream_lane_give(word, other);
}

/* The beginning of HTTP/2's preface looked like a request's line as far as this. */
static const char preface_seen[] = "PRI * HTTP/";

static bool turns_out_h2(struct traffic *t, int fd, fds_word word, const struct http1 *p)
{
	if (p->reason != HTTP1_H2_PREFACE || !t->inbound || !h2_begins(t, HTTP1_REQUESTS))
		return false;
	h2_feed(t, fd, word, HTTP1_REQUESTS, preface_seen, sizeof(preface_seen) - 1);
	return true;
}

void traffic_opaque(struct traffic *t, int fd, fds_word word, const struct http1 *p)
{
	if (turns_out_h2(t, fd, word, p))
		return;
	if (p->reason != HTTP1_FOLLOWED && p->reason != HTTP1_CUT_SHORT)
		traffic_count(counter_of(p->reason));
	if (p == &t->responses && parted(p->reason))
		pop(t, p->status, SPAN_NO_ERROR);
	/* Requests in flight may still be answered; without one there is nothing to wait for. */
	if (p == &t->requests && traffic_in_flight(t) > 0)
		return;
	if (p == &t->requests && p->reason == HTTP1_TUNNEL)
		return; /* its answer is HTTP */
	/* Their end will not be seen: nobody is to work on them for ever. */
	if (p == &t->responses && t->inbound)
		pop_all(t, SPAN_NO_ERROR);
	another_protocol(t, fd, word, p);
	if (!t->inbound && p == &t->responses)
		stream_judge_bytes(fd, word);
}

/* ---- accepted: requests are read ---- */

bool traffic_stranger(int fd, fds_word word)
{
	return !guard.loops && !stream_same_socket(fd, word);
}

struct request_token traffic_serves(int fd, const struct serve_head *head, uint64_t wall_ns,
				    uint64_t mono_ns)
{
	const struct request_token token = serve_begin(head, wall_ns, mono_ns);
	struct request *r = request_at(token);

	if (r != NULL && !guard.loops && current_is_watched())
		r->blocking = (real.fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
	return token;
}

void traffic_served(struct request_token t)
{
	struct request *r = request_at(t);

	if (r != NULL && request_stage(r) == REQUEST_READING)
		request_stage_set(r, REQUEST_IDLE);
}

void traffic_answers(struct request_token t)
{
	struct request *r = request_at(t);

	if (r == NULL)
		return;
	current_answers(r);
	request_stage_set(r, REQUEST_ANSWERING);
}

static void served_head(struct traffic *t, int fd, fds_word word)
{
	if (traffic_stranger(fd, word)) {
		http1_lost(&t->requests);
		return;
	}

	const struct serve_head head = {
		.fields = t->requests.fields,
		.n_fields = t->requests.n_fields,
		.values = t->requests.arena,
		.method = t->requests.method,
		.protocol = t->requests.minor == 0 ? SPAN_HTTP_1_0 : SPAN_HTTP_1_1,
	};
	const struct request_token token =
		traffic_serves(fd, &head, t->began_wall, t->began_mono);

	if (!t->asked)
		traffic_count(METRICS_HTTP_CONNECTIONS);
	t->asked = true;
	if (traffic_push(t, t->requests.method, token)) {
		current_took(token, traffic_in_flight(t) == 1);
		return;
	}
	traffic_count(METRICS_OPAQUE_PIPELINE);
	request_drop(token);
	http1_lost(&t->requests);
	http1_lost(&t->responses);
}

/* One request at a time says what the reader turns to; of several, nobody can tell. */
static struct request_token only(const struct traffic *t)
{
	const struct h2 *h = h2_of(t);

	if (h != NULL)
		return h2_only(h);
	return traffic_in_flight(t) == 1 ? newest(t) : (struct request_token) { 0 };
}

static void on_request_read(struct traffic *t, int fd, fds_word word, enum http1_stop stop)
{
	switch (stop) {
	case HTTP1_LINE:
		t->began_mono = clock_now();
		t->began_wall = life_wall(t->began_mono);
		break;
	case HTTP1_HEAD_DONE:
		served_head(t, fd, word);
		break;
	case HTTP1_DONE:
		traffic_served(newest(t));
		break;
	case HTTP1_FULL:
		traffic_grow(t);
		break;
	case HTTP1_OPAQUE:
		traffic_opaque(t, fd, word, &t->requests);
		break;
	case HTTP1_BLANK:
	case HTTP1_MORE:
		break;
	}
}

/* ---- answers ---- */

static bool final(uint16_t status)
{
	return status >= 200 || status == 101;
}

static void on_answer_begins(struct traffic *t)
{
	enum http1_method method;
	const struct request_token token = front(t, &method);

	t->responses.to = method;
	if (t->inbound)
		traffic_answers(token);
}

static void on_answer(struct traffic *t, int fd, fds_word word, enum http1_stop stop)
{
	switch (stop) {
	case HTTP1_LINE:
		on_answer_begins(t);
		break;
	case HTTP1_HEAD_DONE:
		if (!final(t->responses.status))
			break;
		t->status = t->responses.status;
		if (!t->inbound)
			stream_answered(word, t->status);
		break;
	case HTTP1_DONE:
		if (final(t->responses.status))
			pop(t, t->responses.status, SPAN_NO_ERROR);
		break;
	case HTTP1_FULL:
		http1_cut(&t->responses);
		break;
	case HTTP1_OPAQUE:
		traffic_opaque(t, fd, word, &t->responses);
		break;
	case HTTP1_BLANK:
	case HTTP1_MORE:
		break;
	}
}

typedef void on_stop(struct traffic *t, int fd, fds_word word, enum http1_stop stop);

static void feed(struct traffic *t, int fd, fds_word word, enum http1_side side, const char *bytes,
		 size_t n)
{
	struct http1 *p = machine(t, side);
	on_stop *told = side == HTTP1_REQUESTS ? on_request_read : on_answer;
	enum http1_stop stop;

	do {
		size_t used;

		if (multiplexed(t, side)) {
			h2_feed(t, fd, word, side, bytes, n);
			return;
		}
		stop = http1_feed(p, &settings->forward, bytes, n, &used);
		bytes += used;
		n -= used;
		told(t, fd, word, stop);
	} while (stop != HTTP1_MORE);
}

/* The first bytes of answers: of HTTP/2 they are SETTINGS, maybe before anything was asked. */
static void greet(struct traffic *t, const char *bytes, size_t n)
{
	t->greeted = true;
	if (atomic_load_explicit(&t->h2, memory_order_relaxed) != 0 ||
	    http2_begins(HTTP1_RESPONSES, bytes, n) >= 0)
		(void) h2_begins(t, HTTP1_RESPONSES);
}

/* A ClientHello is the first that comes, and comes in parts: OpenSSL reads five bytes of it. */
static bool maybe_hello(const struct traffic *t)
{
	return t->inbound && !t->asked && !guard.plaintext && t->hello_n < TLS_HELLO &&
	       http1_between(&t->requests) && !multiplexed(t, HTTP1_REQUESTS);
}

/* True: it is one as far as can be told; nobody else is to look at these bytes. */
static bool hello_read(struct traffic *t, fds_word word, const char *bytes, size_t n)
{
	const size_t room = (size_t) TLS_HELLO - t->hello_n;
	const size_t part = n < room ? n : room;

	if (part == 0)
		return false;
	memcpy(t->hello + t->hello_n, bytes, part);
	if (!tls_may_be_hello(t->hello, t->hello_n + part)) {
		t->hello_n = TLS_HELLO; /* no more */
		return false;
	}
	t->hello_n = (uint8_t) (t->hello_n + part);
	if (t->hello_n == TLS_HELLO)
		(void) tls_hello(word, t->hello, true);
	return true;
}

static void feed_all(struct traffic *t, int fd, fds_word word, enum stream_lane lane,
		     const struct iovec *iov, size_t n_iov, size_t n)
{
	const enum http1_side side = side_of(t, lane);

	if (n_iov == 0) /* lost, and that is to be said */
		feed(t, fd, word, side, NULL, 0);
	for (size_t i = 0; i < n_iov && n > 0; i++) {
		const size_t len = iov[i].iov_len < n ? iov[i].iov_len : n;

		if (side == HTTP1_RESPONSES && !t->greeted && len > 0)
			greet(t, iov[i].iov_base, len);
		if (side == HTTP1_REQUESTS && maybe_hello(t) &&
		    hello_read(t, word, iov[i].iov_base, len))
			return;
		feed(t, fd, word, side, iov[i].iov_base, len);
		n -= len;
	}
}

static bool in_flight(const struct traffic *t, const struct h2 *h)
{
	return h != NULL ? atomic_load_explicit(&h->in_flight, memory_order_relaxed) > 0
			 : traffic_in_flight(t) > 0;
}

/* Whoever reads an answer, or of its failure, turns to what the call was made for. */
static void turn_to_owner(const struct traffic *t)
{
	enum http1_method method;
	const struct h2 *h = h2_of(t);
	const struct request *r = request_at(h != NULL ? h2_only(h) : front(t, &method));

	if (in_flight(t, h))
		current_turn_back(r != NULL ? request_owner(r) : (struct request_token) { 0 });
	else if (!t->asked)
		current_turn_back(t->owner);
}

bool traffic_waits(fds_word word)
{
	const struct traffic *t = traffic_at(word);

	return in_flight(t, h2_of(t));
}

bool traffic_greeted(fds_word word)
{
	const struct traffic *t = traffic_at(word);
	const struct h2 *h = h2_of(t);

	if (h != NULL)
		return !h->asked && multiplexed(t, HTTP1_RESPONSES);
	/* Relaxed, both: what one thread has not seen of another yet, it does not wait for. */
	return stream_http(word) == STREAM_TLS && !t->asked &&
	       atomic_load_explicit(&t->secure, memory_order_relaxed);
}

void traffic_secure(fds_word word, int error)
{
	if (stream_http(word) == STREAM_TLS && error == 0)
		atomic_store_explicit(&traffic_at(word)->secure, true, memory_order_relaxed);
}

void traffic_turn(fds_word word)
{
	if (settings->trace && traffic_followed(word) && !traffic_at(word)->inbound)
		turn_to_owner(traffic_at(word));
}

/* ---- ciphertext ---- */

static bool sealed(fds_word word)
{
	return stream_http(word) == STREAM_TLS && !guard.plaintext;
}

void traffic_claimed(fds_word word)
{
	struct traffic *t = traffic_at(word);

	if (stream_http(word) != STREAM_TLS ||
	    atomic_exchange_explicit(&t->claimed, true, memory_order_relaxed))
		return;
	t->framed = guard_tls();
	traffic_count(METRICS_TLS_CONNECTIONS);
}

/* Whoever reads it so often does not show us what is inside (Java's own TLS): let go of it. */
static void sealed_read(int fd, fds_word word)
{
	struct traffic *t = traffic_at(word);

	if (!t->inbound || atomic_load_explicit(&t->claimed, memory_order_relaxed) ||
	    ++t->sealed_reads < UNCLAIMED_MAX)
		return;
	traffic_count(METRICS_OPAQUE_NOT_HTTP);
	stream_http_ends(fd, word, STREAM_NOT_HTTP);
}

/* Where all of it came from below our hooks and now does not, something writes past them. */
static void sealed_wrote(fds_word word)
{
	struct traffic *t = traffic_at(word);

	if (t->framed && !guard_tls())
		atomic_store_explicit(&t->lost[traffic_lane(STREAM_OUT)], true,
				      memory_order_relaxed);
}

void traffic_read(int fd, fds_word word, const struct iovec *iov, size_t n_iov, size_t n,
		  uint32_t mark)
{
	if (sealed(word)) {
		sealed_read(fd, word);
		return;
	}

	struct traffic *t = traffic_enter(word, STREAM_IN);

	if (t == NULL && stream_inbound(word)) /* to what we do not know */
		current_set((struct request_token) { 0 });
	if (t == NULL)
		return;
	check_mark(t, STREAM_IN, mark);
	if (!t->inbound && settings->trace)
		turn_to_owner(t);
	feed_all(t, fd, word, STREAM_IN, iov, n_iov, n);
	if (t->inbound && settings->trace)
		current_set(only(t));
	traffic_leave(word, STREAM_IN);
}

void traffic_peeked(int fd, fds_word word)
{
	struct traffic *t = traffic_enter(word, STREAM_IN);

	if (t == NULL)
		return;
	if (!t->inbound && !t->asked)
		stream_judge_bytes(fd, word);
	traffic_leave(word, STREAM_IN);
}

void traffic_wrote(int fd, fds_word word, const struct iovec *iov, size_t n_iov, size_t n,
		   uint32_t mark)
{
	if (sealed(word)) {
		sealed_wrote(word);
		return;
	}

	struct traffic *t = traffic_enter(word, STREAM_OUT);

	if (t == NULL)
		return;
	check_mark(t, STREAM_OUT, mark);
	feed_all(t, fd, word, STREAM_OUT, iov, n_iov, n);
	if (t->inbound && settings->trace)
		current_wrote(only(t));
	traffic_leave(word, STREAM_OUT);
}

static void skip(struct traffic *t, int fd, fds_word word, enum http1_side side, uint64_t n)
{
	struct http1 *p = machine(t, side);
	enum http1_stop stop;

	do {
		uint64_t used;

		stop = http1_skip(p, n, &used);
		n -= used;
		if (side == HTTP1_RESPONSES)
			on_answer(t, fd, word, stop);
		else if (stop == HTTP1_OPAQUE)
			traffic_opaque(t, fd, word, p);
	} while (stop != HTTP1_MORE);
}

void traffic_skipped(int fd, fds_word word, size_t n, uint32_t mark)
{
	struct traffic *t = traffic_enter(word, STREAM_OUT);

	if (t == NULL)
		return;

	const enum http1_side side = side_of(t, STREAM_OUT);

	check_mark(t, STREAM_OUT, mark);
	if (multiplexed(t, side))
		h2_skip(t, fd, word, side, n);
	else
		skip(t, fd, word, side, n);
	if (t->inbound && settings->trace)
		current_wrote(only(t));
	traffic_leave(word, STREAM_OUT);
}

enum span_error traffic_error(int error)
{
	switch (error) {
	case 0:
		return SPAN_EARLY_END;
	case ETIMEDOUT:
		return SPAN_TIMEOUT;
	case ECONNRESET:
	case EPIPE:
		return SPAN_RESET;
	case EPROTO: /* no socket's: what a fault of TLS is handed on as */
		return SPAN_TLS;
	default:
		return SPAN_OTHER;
	}
}

void traffic_read_end(int fd, fds_word word, int error)
{
	if (sealed(word)) { /* what is inside may still be there to be read */
		atomic_store_explicit(&traffic_at(word)->read_to, 1 + error, memory_order_relaxed);
		return;
	}

	struct traffic *t = traffic_enter(word, STREAM_IN);

	(void) fd;
	if (t == NULL)
		return;

	/* An end without notice is a fault of TLS to its library: the socket knows better. */
	const int read_to = atomic_load_explicit(&t->read_to, memory_order_relaxed);

	if (error != 0 && read_to != 0)
		error = read_to - 1;
	if (!t->inbound) {
		if (settings->trace)
			turn_to_owner(t);
		if (error == 0 && http1_end(&t->responses) == HTTP1_DONE)
			pop(t, t->status, SPAN_NO_ERROR);
		pop_all(t, traffic_error(error));
		if (h2_of(t) != NULL)
			h2_failed(t, word, error);
		http1_lost(&t->responses);
	}
	traffic_leave(word, STREAM_IN);
}

bool traffic_tail_due(const struct traffic *t, int fd, fds_word word)
{
	return stream_same_socket(fd, word) && stream_unseen(fd, word) == t->tail_unseen;
}

/*
 * The program has given up in the middle of a head; it was not to be ours that is cut. A child
 * that closes what it inherited has given nothing up.
 */
static void last_of_tail(struct traffic *t, int fd, fds_word word)
{
	const uint32_t left = atomic_load_explicit(&t->tail_len, memory_order_relaxed);

	if (left == 0 || stream_pid(word) != life_pid())
		return;
	if (h2_of(t) == NULL && !traffic_tail_due(t, fd, word))
		return;
	if (h2_of(t) != NULL) { /* nothing of ours alone is left, ever */
		h2_drop(t);
		h2_lose(t, HTTP1_REQUESTS);
		return;
	}
	(void) raw_syscall(SYS_sendto, fd, (long) (t->block + t->tail_at), left,
			   MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
	atomic_store_explicit(&t->tail_len, 0, memory_order_release);
	http1_lost(&t->requests);
}

void traffic_closes(int fd, fds_word word)
{
	struct traffic *t = traffic_tail(word) ? traffic_enter(word, STREAM_OUT) : NULL;

	if (t != NULL) {
		last_of_tail(t, fd, word);
		traffic_leave(word, STREAM_OUT);
	}
	traffic_turn(word);
}

void traffic_leaves(int fd, fds_word word)
{
	struct traffic *t = traffic_enter(word, STREAM_OUT);

	if (t == NULL)
		return;
	last_of_tail(t, fd, word);
	if (t->inbound && http1_end(&t->responses) == HTTP1_DONE)
		pop(t, t->status, SPAN_NO_ERROR);
	else if (!t->inbound && settings->trace)
		turn_to_owner(t);
	traffic_leave(word, STREAM_OUT);
}
