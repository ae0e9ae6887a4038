/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, with our fields before the blank line of each request's head.
 *
 * A call is cut into pieces with at most one head in each, so that a piece which the kernel
 * takes only in part can be looked at again from its beginning, no further than was taken.
 * Where the kernel stops in the middle of our fields, the rest of them, the tail, goes out
 * before anything else on that connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/text.h"
#include "shim/blob.h"
#include "shim/call.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/raw.h"
#include "shim/real.h"
#include "shim/shared.h"
#include "shim/traffic.h"
#include "shim/traffic_place.h"

#define PIECES_MAX 60    /* of the program's buffers in one call of ours */
#define VECTOR_MAX (PIECES_MAX + 6) /* and ours: tail, fields, a patch that cuts a buffer in three */
/* Receivers have limits of 8 KiB and 100 fields; close to them only traceparent is added. */
#define HEAD_LARGE 7680
#define LINES_MANY 95
#define LINES_FULL 99
#define PARENT_AT  36    /* in a traceparent: "00-", 32 digits, "-" */
#define FLUSH_WAIT_MS 10

/* A place in the program's buffers. */
struct cursor {
	const struct iovec *iov;
	size_t n_iov, index, offset;
};

/* The part of a call that is handed to the kernel at once. */
struct portion {
	struct cursor from;
	size_t len;             /* of the program's bytes */
	bool whole;             /* all of the program's call */
	bool refused;
	bool head_done;         /* its last byte of a head is in it */
	bool line_said;         /* as t->line_said, before it */
	size_t line_at;         /* of the head's first byte, when it is in this piece */
	const char *fields;     /* ours, before byte @at of it; NULL none */
	size_t at, fields_len;
	bool patches;
	size_t patch_at;        /* 16 bytes from there on are t->patch */
	size_t patch_from;      /* of those of @patch: where to begin */
	struct http1 before;    /* the machine as it was */
};

static size_t left_in(const struct cursor *c)
{
	return c->iov[c->index].iov_len - c->offset;
}

static void step(struct cursor *c, size_t n)
{
	while (n > 0 || (c->index < c->n_iov && left_in(c) == 0)) {
		const size_t part = left_in(c) < n ? left_in(c) : n;

		c->offset += part;
		n -= part;
		if (c->index < c->n_iov && left_in(c) == 0) {
			c->index++;
			c->offset = 0;
		}
		if (c->index == c->n_iov)
			return;
	}
}

static bool at_end(const struct cursor *c)
{
	return c->index == c->n_iov;
}

/* ---- a head begins ---- */

/* A further request on the connection is a call of its own, that the breaker is asked about. */
static bool admitted(fds_word word, uint64_t now, int *ret_errno)
{
	const struct admission *last = stream_admission(word);
	struct admission next;

	switch (shared_admit_again(last, now, &next, ret_errno)) {
	case SHARED_REFUSED:
		return false;
	case SHARED_ADMITTED:
		if (!stream_renew(word, &next, now))
			shared_settle(&next, BREAKER_EXCLUDED, 0, now);
		break;
	case SHARED_UNJUDGED:
	case SHARED_UNGUARDED:
		break;
	}
	return true;
}

/* Once for each head, however often its first bytes are tried. */
static bool head_begins(struct traffic *t, fds_word word, int *ret_errno)
{
	const uint64_t now = clock_now();

	if (t->head_open)
		return true;
	if (t->asked && traffic_in_flight(t) == 0 && !admitted(word, now, ret_errno))
		return false;
	if (settings->trace) {
		const struct request_token owner =
			t->asked ? current_owner() : current_first_owner(t->owner, t->maker);

		t->making = call_begin(owner, clock_wall(), now);
		if (!t->asked)
			request_call(t->owner, -1); /* the request has its own place in the count */
	}
	if (!t->asked)
		traffic_count(METRICS_HTTP_CONNECTIONS);
	t->asked = t->head_open = true;
	t->queued = t->ids_taken = t->rewrite = t->injected = false;
	t->patched = 0;
	return true;
}

static void head_ends(struct traffic *t)
{
	t->head_open = false;
	t->making = (struct request_token) { 0 };
}

/* ---- what is added to it ---- */

static struct propagate_value field_of(const struct http1 *p, enum http1_field id)
{
	const struct http1_slice *s = http1_find(p, id, NULL);

	return s != NULL ? (struct propagate_value) { p->arena + s->at, s->len }
			 : (struct propagate_value) { 0 };
}

static struct call_wrote wrote_of(const struct http1 *p)
{
	struct call_wrote wrote = { .traceparent = field_of(p, HTTP1_TRACEPARENT) };

	for (uint16_t i = 0; i < p->n_fields; i++)
		wrote.fields |= UINT64_C(1) << p->fields[i].id;
	(void) http1_find(p, HTTP1_TRACEPARENT, &wrote.n_traceparent);
	return wrote;
}

struct block {
	struct text text;
	bool only_traceparent;
};

static void add_field(void *arg, const char *name, const char *value, size_t len)
{
	struct block *b = arg;

	if (b->only_traceparent && strcmp(name, "traceparent") != 0)
		return;
	text_add(&b->text, name);
	text_add(&b->text, ": ");
	text_add_n(&b->text, value, len);
	text_add(&b->text, "\r\n");
}

/* Lays the fields out in @buf; 0 when they do not fit, or there are none. */
static size_t lay_out(struct request *r, const struct call_wrote *wrote, const struct http1 *head,
		      char *buf, size_t size, bool *ret_cut)
{
	struct block b = { .only_traceparent =
				   head->head_bytes > HEAD_LARGE || head->lines > LINES_MANY };

	/* A second time when its owner ended meanwhile; as a root it has none to lose. */
	for (int tries = 0; tries < 2; tries++) {
		b.text = text_in(buf, size);
		if (call_fields(r, wrote, add_field, &b))
			break;
	}
	*ret_cut = b.text.cut;
	return b.text.cut ? 0 : b.text.used;
}

static void add_fields(struct traffic *t, struct request *r, const struct call_wrote *wrote,
		       struct portion *p)
{
	bool cut;

	t->block = t->out;
	p->fields_len = lay_out(r, wrote, &t->requests, t->out, sizeof(t->out), &cut);
	if (cut) {
		char *larger = traffic_blob(t);

		if (larger != NULL) {
			t->block = larger;
			p->fields_len = lay_out(r, wrote, &t->requests, larger, BLOB_SIZE, &cut);
		}
	}
	if (p->fields_len > 0)
		p->fields = t->block;
	else if (cut)
		traffic_count(METRICS_NO_ROOM);
}

static int lower(int c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* Do the bytes before @value, in @from on, end with "traceparent" and a colon? */
static bool named_traceparent(const char *from, const char *value)
{
	static const char name[] = "traceparent";
	const size_t len = sizeof(name) - 1;

	while (value > from && (value[-1] == ' ' || value[-1] == '\t'))
		value--;
	if (value == from || *--value != ':' || (size_t) (value - from) < len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (lower(value[(ptrdiff_t) i - (ptrdiff_t) len]) != name[i])
			return false;
	return true;
}

/* Finds the forwarded value among the bytes that are about to be sent, to put our id in. */
static void find_patch(struct traffic *t, const struct request *r, struct propagate_value value,
		       struct portion *p)
{
	static const char digits[] = "0123456789abcdef";
	struct cursor c = p->from;
	size_t at = 0;

	for (; c.index < c.n_iov && at < p->len; at += left_in(&c), c.index++, c.offset = 0) {
		const char *bytes = (const char *) c.iov[c.index].iov_base + c.offset;
		const size_t n = left_in(&c) < p->len - at ? left_in(&c) : p->len - at;
		const char *found = memmem(bytes, n, value.at, value.len);

		if (found == NULL || !named_traceparent(bytes, found))
			continue;
		for (size_t i = 0; i < TRAFFIC_PATCH; i++)
			t->patch[i] = digits[r->context.span_id[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
		p->patches = true;
		p->patch_at = at + (size_t) (found - bytes) + PARENT_AT;
		p->patch_from = 0;
		return;
	}
}

/* The blank line comes next: byte @at of the piece. */
static void head_complete(struct traffic *t, int fd, fds_word word, size_t at, struct portion *p)
{
	const struct http1 *head = &t->requests;
	const struct call_wrote wrote = wrote_of(head);
	struct request *r = request_at(t->making);

	if (!t->queued && !traffic_push(t, head->method, t->making)) {
		traffic_count(METRICS_OPAQUE_PIPELINE);
		http1_lost(&t->requests);
		traffic_lost(word, STREAM_IN);
		return;
	}
	t->queued = true;
	if (r == NULL || t->injected)
		return;
	if (!t->ids_taken) {
		r->method = head->method;
		t->rewrite = call_take_ids(r, &wrote);
		call_describe(r, field_of(head, HTTP1_METHOD), field_of(head, HTTP1_TARGET),
			      field_of(head, HTTP1_HOST), 0,
			      head->minor == 0 ? SPAN_HTTP_1_0 : SPAN_HTTP_1_1);
		t->ids_taken = true;
		if (wrote.n_traceparent > 0)
			traffic_count(METRICS_ADOPTED);
	}
	if (stream_admission(word)->private_peer) {
		traffic_count(METRICS_WITHHELD);
		return;
	}
	if (head->method == HTTP1_CONNECT || head->lines >= LINES_FULL)
		return;
	if (!stream_same_socket(fd, word)) {
		http1_lost(&t->requests);
		return;
	}
	if (t->rewrite) {
		p->len = at;
		find_patch(t, r, wrote.traceparent, p);
	}
	p->at = at;
	add_fields(t, r, &wrote, p);
}

/* ---- cutting the call into pieces ---- */

static void forget_piece(struct portion *p, const struct cursor *from, const struct traffic *t)
{
	p->from = *from;
	p->len = p->at = p->fields_len = p->line_at = 0;
	p->whole = p->refused = p->head_done = p->patches = false;
	p->fields = NULL;
	p->line_said = t->line_said;
	p->before = t->requests;
	if (t->patched > 0) { /* the rest of an id that the kernel cut */
		p->patches = true;
		p->patch_at = 0;
		p->patch_from = t->patched;
	}
}

/*
 * Looks at the bytes from @from on, up to where the next head begins or the pieces are too
 * many. A refusal is one of the piece's first byte: later ones wait for the program to ask
 * again.
 */
static void cut_piece(struct traffic *t, int fd, fds_word word, const struct cursor *from,
		      struct portion *p, int *ret_errno)
{
	struct cursor c = *from;
	size_t at = 0;

	forget_piece(p, from, t);
	if (t->line_said && !head_begins(t, word, ret_errno)) {
		p->refused = true;
		return;
	}
	t->line_said = false;
	while (!at_end(&c) && c.index - from->index < PIECES_MAX) {
		const char *bytes = (const char *) c.iov[c.index].iov_base + c.offset;
		size_t used;
		const enum http1_stop stop = http1_feed(&t->requests, &settings->forward, bytes,
							left_in(&c), &used);

		step(&c, used);
		at += used;
		switch (stop) {
		case HTTP1_LINE:
			if (at > 0) {
				t->line_said = true;
				p->len = at;
				return;
			}
			if (!head_begins(t, word, ret_errno)) {
				t->requests = p->before;
				p->refused = true;
				return;
			}
			break;
		case HTTP1_BLANK:
			head_complete(t, fd, word, at, p);
			break;
		case HTTP1_HEAD_DONE:
			p->head_done = true;
			break;
		case HTTP1_FULL:
			traffic_grow(t);
			break;
		case HTTP1_OPAQUE:
			traffic_opaque(t, fd, word, &t->requests);
			break;
		case HTTP1_DONE:
		case HTTP1_MORE:
			break;
		}
	}
	p->len = at;
	p->whole = from->index == 0 && from->offset == 0 && at_end(&c);
}

/* The kernel took only @n of the piece's bytes: the machine goes back and looks at those. */
static void take_back(struct traffic *t, struct portion *p, size_t n)
{
	struct cursor c = p->from;

	t->requests = p->before;
	t->line_said = p->line_said && n == 0;
	p->head_done = false;
	while (n > 0) {
		const size_t part = left_in(&c) < n ? left_in(&c) : n;
		size_t used;
		const enum http1_stop stop =
			http1_feed(&t->requests, &settings->forward,
				   (const char *) c.iov[c.index].iov_base + c.offset, part, &used);

		step(&c, used);
		n -= used;
		if (stop == HTTP1_HEAD_DONE)
			p->head_done = true;
		else if (stop == HTTP1_FULL)
			traffic_grow(t);
	}
}

/* ---- handing it to the kernel ---- */

struct vector {
	struct iovec v[VECTOR_MAX];
	size_t n;
};

static void add(struct vector *to, const void *at, size_t len)
{
	if (len > 0)
		to->v[to->n++] = (struct iovec) { (void *) at, len };
}

/* The program's bytes from @skip to @end of the piece. */
static void add_bytes(struct vector *to, const struct portion *p, size_t skip, size_t end)
{
	struct cursor c = p->from;

	step(&c, skip);
	while (skip < end) {
		const size_t part = left_in(&c) < end - skip ? left_in(&c) : end - skip;

		add(to, (const char *) c.iov[c.index].iov_base + c.offset, part);
		skip += part;
		step(&c, part);
	}
}

/* The same, with our id in its place. */
static void add_patched(struct vector *to, const struct traffic *t, const struct portion *p,
			size_t skip, size_t end)
{
	const size_t begin = p->patch_at, n = TRAFFIC_PATCH - p->patch_from;
	const size_t first = skip > begin ? skip : begin;
	const size_t last = end < begin + n ? end : begin + n;

	if (!p->patches || first >= last) {
		add_bytes(to, p, skip, end);
		return;
	}
	add_bytes(to, p, skip, first);
	add(to, t->patch + p->patch_from + (first - begin), last - first);
	add_bytes(to, p, last, end);
}

static ssize_t hand_over(int fd, const struct traffic_call *call, struct vector *v, bool first,
			 int flags)
{
	struct msghdr msg = { .msg_iov = v->v, .msg_iovlen = v->n };

	if (call->msg != NULL && first) {
		msg.msg_name = call->msg->msg_name;
		msg.msg_namelen = call->msg->msg_namelen;
		msg.msg_control = call->msg->msg_control;
		msg.msg_controllen = call->msg->msg_controllen;
	}
	/* write(2) on a socket is send(2) without flags. */
	return real.sendmsg(fd, &msg, call->flags | flags);
}

/* All of @buf goes before anything else; false, with errno, when it could not. */
static bool flush_tail(struct traffic *t, int fd, fds_word word, int flags)
{
	uint32_t left = atomic_load_explicit(&t->tail_len, memory_order_relaxed);

	while (left > 0) {
		const ssize_t n = real.send(fd, t->block + t->tail_at, left, flags);

		if (n < 0)
			return false;
		t->tail_at += (uint32_t) n;
		left -= (uint32_t) n;
		/* Release: who sees none left may send. */
		atomic_store_explicit(&t->tail_len, left, memory_order_release);
		if (guard_enter()) {
			stream_sent(fd, word, n, 0);
			guard_leave();
		}
	}
	return true;
}

static bool waits(int fd, int flags)
{
	return (flags & MSG_DONTWAIT) == 0 && (real.fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

/*
 * The kernel took @n bytes of the piece from byte @done of the program's on.
 * Returns how many of the program's that were; what is left of our fields is the tail.
 */
static size_t account(struct traffic *t, const struct portion *p, size_t done, size_t n)
{
	const bool ahead = p->fields != NULL && !t->injected && p->at >= done;
	const size_t before = ahead ? p->at - done : n;

	if (!ahead || n <= before)
		return n;
	t->injected = true;
	traffic_count(METRICS_INJECTED);
	if (n >= before + p->fields_len)
		return n - p->fields_len;
	t->tail_at = (uint32_t) (n - before);
	atomic_store_explicit(&t->tail_len, (uint32_t) (p->fields_len - (n - before)),
			      memory_order_release);
	return before;
}

static void note_patch(struct traffic *t, const struct portion *p, size_t done)
{
	const size_t n = TRAFFIC_PATCH - p->patch_from;

	if (!p->patches || done <= p->patch_at)
		t->patched = p->patches && p->patch_at == 0 && p->patch_from > 0
				     ? (uint8_t) p->patch_from
				     : 0;
	else
		t->patched = done - p->patch_at < n
				     ? (uint8_t) (p->patch_from + (done - p->patch_at))
				     : 0;
}

/*
 * Sends the piece, as much as the kernel takes. Returns how many of the program's bytes
 * went; *ret_error is the errno that stopped it, 0 when all of them went or it was merely cut.
 */
static size_t send_piece(struct traffic *t, int fd, fds_word word, struct portion *p,
			 const struct traffic_call *call, bool first, bool last, int *ret_error)
{
	size_t done = 0;

	*ret_error = 0;
	while (done < p->len) {
		struct vector v = { .n = 0 };
		const bool adds = p->fields != NULL && !t->injected && p->at >= done;
		int flags = last ? 0 : MSG_MORE;

		add_patched(&v, t, p, done, adds ? p->at : p->len);
		if (adds) {
			add(&v, p->fields, p->fields_len);
			/* The kernel sends such pages later, when ours may hold another head. */
			if ((call->flags & MSG_ZEROCOPY) == 0)
				add_patched(&v, t, p, p->at, p->len);
			else
				flags |= MSG_MORE;
		}

		struct traffic_call now = *call;

		if (adds)
			now.flags &= ~MSG_ZEROCOPY;

		const ssize_t n = hand_over(fd, &now, &v, first && done == 0, flags);

		if (n < 0) {
			*ret_error = errno;
			return done;
		}

		size_t of_all = 0;

		for (size_t i = 0; i < v.n; i++)
			of_all += v.v[i].iov_len;
		done += account(t, p, done, (size_t) n);
		if (guard_enter()) {
			stream_sent(fd, word, n, 0);
			guard_leave();
		}
		if (atomic_load_explicit(&t->tail_len, memory_order_relaxed) > 0) {
			if (!waits(fd, call->flags)) {
				*ret_error = EAGAIN;
				return done;
			}
			if (!flush_tail(t, fd, word, call->flags & ~MSG_ZEROCOPY)) {
				*ret_error = errno;
				return done;
			}
		} else if ((size_t) n < of_all) {
			return done;
		}
	}
	return done;
}

/* Another thread sends on this connection just now, and maybe our tail is still to go. */
static bool others_tail(int fd, fds_word word, int flags)
{
	while (traffic_tail(word)) {
		if (!waits(fd, flags)) {
			errno = EAGAIN;
			return false;
		}
		(void) real.poll(NULL, 0, FLUSH_WAIT_MS);
	}
	return true;
}

static ssize_t sent_plain(int fd, fds_word word, struct traffic *t, struct portion *p,
			  ssize_t (*plain)(void *arg), void *arg)
{
	const ssize_t rc = plain(arg);
	const int error = errno;

	if (guard_enter()) {
		stream_sent(fd, word, rc, error);
		if (rc < 0 || (size_t) rc < p->len)
			take_back(t, p, rc > 0 ? (size_t) rc : 0);
		if (p->head_done)
			head_ends(t);
		guard_leave();
	}
	errno = error;
	return rc;
}

static bool proven(struct traffic *t, int fd, fds_word word)
{
	bool same = false;

	if (guard_enter()) {
		same = stream_same_socket(fd, word);
		if (!same)
			http1_lost(&t->requests);
		guard_leave();
	}
	return same;
}

/* Piece by piece. The lane is ours; the guard is not. */
static ssize_t send_pieces(struct traffic *t, int fd, fds_word word, struct cursor *c,
			   const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg)
{
	struct portion p;
	size_t total = 0;
	int error = 0;

	do {
		if (!guard_enter())
			return total > 0 ? (ssize_t) total : plain(arg);
		cut_piece(t, fd, word, c, &p, &error);
		guard_leave();
		if (p.refused)
			break;
		if (p.whole && p.fields == NULL && !p.patches)
			return sent_plain(fd, word, t, &p, plain, arg);
		/* In parts only to what surely is the socket that we followed. */
		if (p.fields == NULL && total == 0 && !proven(t, fd, word))
			return sent_plain(fd, word, t, &p, plain, arg);

		struct cursor next = *c;

		step(&next, p.len);

		const size_t went = send_piece(t, fd, word, &p, call, total == 0, at_end(&next),
					       &error);

		total += went;
		if (guard_enter()) {
			if (went < p.len)
				take_back(t, &p, went);
			note_patch(t, &p, went);
			if (p.head_done)
				head_ends(t);
			if (error != 0 && total == 0)
				stream_sent(fd, word, -1, error);
			guard_leave();
		}
		if (went < p.len)
			break;
		*c = next;
	} while (!at_end(c));
	if (total > 0)
		return (ssize_t) total;
	errno = error;
	return error != 0 ? -1 : 0;
}

ssize_t traffic_send(int fd, fds_word word, const struct iovec *iov, size_t n_iov,
		     const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg)
{
	const int before = errno;
	struct cursor c = { .iov = iov, .n_iov = n_iov };
	ssize_t rc = -1;

	if (!guard_enter())
		return plain(arg);

	struct traffic *t = traffic_enter(word, STREAM_OUT);

	guard_leave();
	errno = before;
	if (t == NULL) {
		if (!others_tail(fd, word, call->flags))
			return -1;
		errno = before;
		rc = plain(arg);

		const int error = errno;

		if (guard_enter()) {
			stream_sent(fd, word, rc, error);
			guard_leave();
		}
		errno = error;
		return rc;
	}
	step(&c, 0);
	if (at_end(&c) || !flush_tail(t, fd, word, call->flags & ~MSG_ZEROCOPY))
		rc = at_end(&c) ? plain(arg) : -1;
	else
		rc = send_pieces(t, fd, word, &c, call, plain, arg);

	const int error = errno;

	traffic_leave(word, STREAM_OUT);
	errno = rc < 0 ? error : before;
	return rc;
}

bool traffic_flush(int fd, fds_word word, int flags)
{
	if (!traffic_tail(word))
		return true;

	struct traffic *t = traffic_enter(word, STREAM_OUT);

	if (t == NULL)
		return others_tail(fd, word, flags);

	const bool flushed = flush_tail(t, fd, word, flags);
	const int error = errno;

	traffic_leave(word, STREAM_OUT);
	errno = error;
	return flushed;
}
