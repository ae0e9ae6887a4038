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
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/text.h"
#include "shim/blob.h"
#include "shim/call.h"
#include "shim/cleanup.h"
#include "shim/curl.h"
#include "shim/cursor.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/h2.h"
#include "shim/life.h"
#include "shim/readable.h"
#include "shim/real.h"
#include "shim/shared.h"
#include "shim/traffic.h"
#include "shim/traffic_place.h"

#define VECTOR_MAX 48    /* buffers in one call of ours: our frames are 2 KiB together */
#define CALL_MAX   0x7ffff000 /* bytes that the kernel takes in one call (MAX_RW_COUNT) */
/* Receivers have limits of 8 KiB and 100 fields; close to them only traceparent is added. */
#define HEAD_LARGE 7680
#define LINES_MANY 95
#define LINES_FULL 99
#define PARENT_AT  36    /* in a traceparent: "00-", 32 digits, "-" */
#define FLUSH_WAIT_MS 10

/* The part of a call that is handed to the kernel at once. */
struct portion {
	struct cursor from;
	size_t len;             /* of the program's bytes */
	bool first;             /* it begins where the program's call does */
	bool whole;             /* all of the program's call */
	bool refused;
	bool head_done;         /* its last byte of a head is in it */
	bool line_said;         /* as t->line_said, before it */
	const char *fields;     /* ours, before byte @at of it; NULL none */
	size_t at, fields_len;
	bool patches;
	size_t patch_at;        /* 16 bytes from there on are t->patch */
	size_t patch_from;      /* of those of @patch: where to begin */
	struct http1 before;    /* the machine as it was */
};

#define NO_PAGE UINTPTR_MAX

/*
 * How many of the @n bytes the machine may be fed; 0: not even the next is there to be read.
 * @seen: the page that was asked for last, NO_PAGE none yet. Only within one look at a piece:
 * there is no call of the program's in between.
 */
static size_t legible(const struct http1 *p, const char *bytes, size_t n, uintptr_t *seen)
{
	const uintptr_t number = (uintptr_t) bytes / READABLE_PAGE;
	const uint64_t unread = http1_unread(p);
	const size_t page = readable_rest(bytes);

	if (unread > 0)
		return unread < n ? (size_t) unread : n;
	if (number != *seen && !readable(bytes, 1))
		return 0;
	*seen = number;
	return page < n ? page : n;
}

/* ---- a head begins ---- */

/* A further request on the connection is a call of its own, that the breaker is asked about. */
static bool admitted(fds_word word, bool parting, uint64_t now, int *ret_errno)
{
	const struct admission *last = stream_admission(word);
	struct admission next;

	switch (shared_admit_again(last, now, &next, ret_errno)) {
	case SHARED_REFUSED:
		return false;
	case SHARED_ADMITTED:
		if (!stream_renew(word, &next, parting, now))
			shared_settle(&next, BREAKER_EXCLUDED, 0, now);
		break;
	case SHARED_UNJUDGED:
	case SHARED_UNGUARDED:
		break;
	}
	return true;
}

/*
 * Once for each head, however often its first bytes are tried. @ask: the call begins with it;
 * a later one of the same call is pipelined, and goes with what went before it. Nothing is
 * refused to a file that took the place of a socket closed behind our back.
 */
static bool head_begins(struct traffic *t, int fd, fds_word word, bool ask, int *ret_errno)
{
	const uint64_t now = clock_now();
	bool spoken;

	if (t->head_open)
		return true;
	spoken = curl_speaks_again(stream_admission(word));
	/* Nothing of this head was taken yet: the machine tells of the one before. */
	if (ask && t->asked && traffic_in_flight(t) == 0 && !spoken &&
	    !admitted(word, t->requests.last, now, ret_errno)) {
		if (stream_same_socket(fd, word))
			return false;
		http1_lost(&t->requests);
		return true;
	}
	if (settings->trace) {
		const struct request_token owner =
			t->asked ? current_owner() : current_first_owner(t->owner, t->maker);

		if (!spoken)
			t->making = call_begin(owner, life_wall(now), now);
		if (!t->asked)
			request_call(t->owner, -1); /* the request has its own place in the count */
	}
	if (!t->asked)
		traffic_count(METRICS_HTTP_CONNECTIONS);
	t->asked = t->head_open = true;
	t->queued = t->ids_taken = t->rewrite = t->injected = t->patch_due = false;
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

/*
 * Finds @value in the line of the field "traceparent", among the first @end bytes of the piece,
 * however the program cut them. Of a line whose beginning went before, the name is not known.
 */
static bool find_value(const struct portion *p, struct propagate_value value, size_t end,
		       size_t *ret_at)
{
	static const char name[] = "traceparent:";
	const size_t name_len = sizeof(name) - 1, elsewhere = SIZE_MAX;
	size_t seen = elsewhere; /* bytes of @name and @value in this line, one after the other */
	size_t at = 0;

	for (struct cursor c = p->from; at < end; c.index++, c.offset = 0) {
		const char *bytes = byte_at(&c);
		const size_t n = left_in(&c) < end - at ? left_in(&c) : end - at;

		for (size_t i = 0; i < n; i++) {
			if (seen == elsewhere || bytes[i] == '\n') {
				const char *line = memchr(bytes + i, '\n', n - i);

				if (line == NULL)
					break;
				i = (size_t) (line - bytes);
				seen = 0;
			} else if (seen == name_len && (bytes[i] == ' ' || bytes[i] == '\t')) {
				continue;
			} else if (seen < name_len ? lower(bytes[i]) == name[seen]
						   : bytes[i] == value.at[seen - name_len]) {
				if (++seen == name_len + value.len) {
					*ret_at = at + i + 1 - value.len;
					return true;
				}
			} else {
				seen = elsewhere;
			}
		}
		at += n;
	}
	return false;
}

/* The forwarded value is about to be sent: our id goes in its place. */
static void find_patch(struct traffic *t, const struct request *r, struct propagate_value value,
		       struct portion *p)
{
	static const char digits[] = "0123456789abcdef";
	size_t at;

	/* Its owner may have ended meanwhile, and the call is in another trace then. */
	if (r->owner.place == 0 || !find_value(p, value, p->at, &at))
		return;
	for (size_t i = 0; i < TRAFFIC_PATCH; i++)
		t->patch[i] = digits[r->context.span_id[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
	memcpy(t->patch_old, value.at + PARENT_AT, TRAFFIC_PATCH);
	p->patches = true;
	p->patch_at = at + PARENT_AT;
	p->patch_from = 0;
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
	if (!stream_same_socket(fd, word) || !stream_saw_all(fd, word, !t->added)) {
		http1_lost(&t->requests);
		return;
	}
	t->added = true;
	p->at = at;
	add_fields(t, r, &wrote, p);
	if (t->rewrite)
		find_patch(t, r, wrote.traceparent, p);
}

/* ---- cutting the call into pieces ---- */

static void forget_piece(struct portion *p, const struct cursor *from, const struct traffic *t,
			 bool first)
{
	p->from = *from;
	p->len = p->at = p->fields_len = 0;
	p->first = first;
	p->whole = p->refused = p->head_done = p->patches = false;
	p->fields = NULL;
	p->line_said = t->line_said;
	p->before = t->requests;
	p->patch_from = 0;
}

/* The kernel cut the call that our id was in, and here is the rest: if it is the same bytes. */
static void go_on_patching(struct traffic *t, struct portion *p)
{
	struct cursor c = p->from;
	size_t at = t->patch_after;

	if (!t->patch_due || p->patches)
		return;
	p->patches = true;
	p->patch_at = at;
	p->patch_from = t->patched;
	if (at >= p->len)
		return;
	step(&c, at);
	for (size_t i = t->patched; i < TRAFFIC_PATCH && at < p->len; i++, at++) {
		p->patches = p->patches && *byte_at(&c) == t->patch_old[i];
		step(&c, 1);
	}
	t->patch_due = p->patches;
}

/* What looked like the end of a head was none: nothing is added before it. */
static void head_was_none(struct portion *p)
{
	p->fields = NULL;
	p->patches = false;
}

/* The machine has said @stop, byte @at of the piece comes next. False: the piece ends here. */
static bool on_stop(struct traffic *t, int fd, fds_word word, enum http1_stop stop, size_t at,
		    struct portion *p, int *ret_errno)
{
	switch (stop) {
	case HTTP1_LINE:
		if (at > 0) {
			t->line_said = true;
			return false;
		}
		if (!head_begins(t, fd, word, p->first, ret_errno)) {
			t->requests = p->before;
			p->refused = true;
			return false;
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
		if (!p->head_done)
			head_was_none(p);
		traffic_opaque(t, fd, word, &t->requests);
		break;
	case HTTP1_DONE:
	case HTTP1_MORE:
		break;
	}
	return true;
}

/*
 * Looks at the bytes from @from on, up to where the next head begins. A refusal is one of the
 * call's first byte: of later ones the program will hear when it asks again.
 */
static void cut_piece(struct traffic *t, int fd, fds_word word, const struct cursor *from,
		      bool first, struct portion *p, int *ret_errno)
{
	struct cursor c = *from;
	uintptr_t page = NO_PAGE;
	bool on = true;

	forget_piece(p, from, t, first);
	if (t->line_said && !head_begins(t, fd, word, first, ret_errno)) {
		p->refused = true;
		return;
	}
	t->line_said = false;
	while (on && !at_end(&c)) {
		const char *bytes = byte_at(&c);
		const size_t n = legible(&t->requests, bytes, left_in(&c), &page);
		size_t used;

		if (n == 0)
			http1_lost(&t->requests); /* the kernel's to answer */

		const enum http1_stop stop =
			http1_feed(&t->requests, &settings->forward, bytes, n, &used);

		step(&c, used);
		p->len += used;
		on = on_stop(t, fd, word, stop, p->len, p, ret_errno);
	}
	go_on_patching(t, p);
	p->whole = on && first;
}

/* The kernel took only @n of the piece's bytes: the machine goes back and looks at those. */
static void take_back(struct traffic *t, struct portion *p, size_t n)
{
	const bool lost = t->requests.reason == HTTP1_UNSEEN;
	struct cursor c = p->from;

	t->requests = p->before;
	t->line_said = p->line_said && n == 0;
	p->head_done = false;
	while (n > 0) {
		const size_t part = left_in(&c) < n ? left_in(&c) : n;
		size_t used;
		const enum http1_stop stop =
			http1_feed(&t->requests, &settings->forward,
				   byte_at(&c), part, &used);

		step(&c, used);
		n -= used;
		if (stop == HTTP1_HEAD_DONE)
			p->head_done = true;
		else if (stop == HTTP1_FULL)
			traffic_grow(t);
	}
	if (lost)
		http1_lost(&t->requests);
}

/* ---- handing it to the kernel ---- */

struct vector {
	size_t n, bytes;
	bool full; /* there was more */
	struct iovec v[VECTOR_MAX];
};

/* A call of the program's on its way. */
struct sending {
	struct traffic *t;
	int fd;
	fds_word word;
	const struct traffic_call *call;
	size_t total;     /* of the program's bytes that went */
	bool begun;       /* the kernel has had its control messages */
	int error;        /* what stopped it; 0: nothing, or the kernel took only a part */
};

static void add(struct vector *to, const void *at, size_t len)
{
	to->full = to->full || (len > 0 && to->n == VECTOR_MAX);
	if (len == 0 || to->full)
		return;
	to->v[to->n++] = (struct iovec) { (void *) at, len };
	to->bytes += len;
}

/* The program's bytes from @skip to @end of the piece. */
static void add_bytes(struct vector *to, const struct portion *p, size_t skip, size_t end)
{
	struct cursor c = p->from;

	step(&c, skip);
	while (skip < end && !to->full) {
		const size_t part = left_in(&c) < end - skip ? left_in(&c) : end - skip;

		add(to, byte_at(&c), part);
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

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Do our fields still have to go, before byte p->at, with or after byte @done? */
static bool adds(const struct traffic *t, const struct portion *p, size_t done)
{
	return p->fields != NULL && !t->injected && p->at >= done;
}

/*
 * What goes next, and by which flags. The program awaits one notice of the kernel's for a call
 * with MSG_ZEROCOPY, so the bytes that it begins with go that way and no others; never ours,
 * which would have to stay as they are until then.
 */
static int lay_vector(const struct sending *s, const struct portion *p, size_t done,
		      struct vector *v)
{
	const struct traffic *t = s->t;
	const bool adding = adds(t, p, done);
	int flags = s->call->flags;

	v->n = v->bytes = 0;
	v->full = false;
	/* The program learns of a broken connection by its next call, and of the signal too. */
	if (s->total + done > 0)
		flags = (flags | MSG_NOSIGNAL) & ~MSG_ZEROCOPY;
	if ((flags & MSG_ZEROCOPY) != 0 && !(adding && p->at == 0)) {
		size_t end = adding ? p->at : p->len;

		if (p->patches)
			end = least(end, p->patch_at > 0 ? p->patch_at
							 : TRAFFIC_PATCH - p->patch_from);
		add_patched(v, t, p, 0, end);
		v->full = v->full || end < p->len;
		return flags;
	}
	add_patched(v, t, p, done, adding ? p->at : p->len);
	if (adding && !v->full)
		add(v, p->fields, p->fields_len);
	if (adding && (flags & MSG_ZEROCOPY) == 0)
		add_patched(v, t, p, p->at, p->len);
	else if (adding)
		v->full = true;
	return flags & ~MSG_ZEROCOPY;
}

static ssize_t hand_over(struct sending *s, struct vector *v, int flags)
{
	struct msghdr msg = { .msg_iov = v->v, .msg_iovlen = v->n };

	if (s->call->msg != NULL && !s->begun) {
		msg.msg_name = s->call->msg->msg_name;
		msg.msg_namelen = s->call->msg->msg_namelen;
		msg.msg_control = s->call->msg->msg_control;
		msg.msg_controllen = s->call->msg->msg_controllen;
	}

	/* write(2) on a socket is send(2) without flags. */
	const ssize_t n = real.sendmsg(s->fd, &msg, flags);

	if (n < 0) {
		s->error = errno;
		return n;
	}
	s->begun = true;
	if (guard_enter()) {
		stream_sent(s->fd, s->word, n, 0);
		guard_leave();
	}
	return n;
}

/* Not send(2): a library below us may have that come back to our hooks (T10). */
static ssize_t send_tail(const struct traffic *t, int fd, size_t len, int flags)
{
	struct iovec v = { (void *) (t->block + t->tail_at), len };
	const struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };

	return real.sendmsg(fd, &msg, flags & ~MSG_ZEROCOPY);
}

/* All of the tail goes before anything else; false, with errno, when it could not. */
static bool flush_tail(struct traffic *t, int fd, fds_word word, int flags)
{
	uint32_t left = atomic_load_explicit(&t->tail_len, memory_order_relaxed);

	while (left > 0) {
		const ssize_t n = send_tail(t, fd, left, flags);

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

bool traffic_blocks(int fd, int flags)
{
	return (flags & MSG_DONTWAIT) == 0 && (real.fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

/*
 * The kernel took @n bytes of the piece from byte @done of the program's on.
 * Returns how many of the program's that were; what is left of our fields is the tail.
 */
static size_t account(struct sending *s, const struct portion *p, size_t done, size_t n)
{
	struct traffic *t = s->t;
	const size_t before = adds(t, p, done) ? p->at - done : n;

	if (n <= before)
		return n;
	t->injected = true;
	traffic_count(METRICS_INJECTED);
	if (n >= before + p->fields_len)
		return n - p->fields_len;
	t->tail_at = (uint32_t) (n - before);
	t->tail_unseen = stream_unseen(s->fd, s->word);
	atomic_store_explicit(&t->tail_len, (uint32_t) (p->fields_len - (n - before)),
			      memory_order_release);
	return before;
}

/* @done bytes of the piece went, and what of our id was among them. */
static void note_patch(struct traffic *t, const struct portion *p, size_t done)
{
	const size_t went = done > p->patch_at ? done - p->patch_at : 0;

	t->patch_due = p->patches && p->patch_from + went < TRAFFIC_PATCH;
	if (!t->patch_due)
		return;
	t->patched = (uint8_t) (p->patch_from + went);
	t->patch_after = (uint32_t) (done < p->patch_at ? p->patch_at - done : 0);
}

/* Our fields alone went, or a part of them: there is nothing yet to tell the program. */
static bool only_ours_went(struct sending *s)
{
	if (atomic_load_explicit(&s->t->tail_len, memory_order_relaxed) == 0)
		return true;
	if (!traffic_blocks(s->fd, s->call->flags)) {
		s->error = EAGAIN;
		return false;
	}
	if (flush_tail(s->t, s->fd, s->word, s->call->flags))
		return true;
	s->error = errno;
	return false;
}

/*
 * Sends the piece, as much as the kernel takes. Returns how many of the program's bytes
 * went. Where fewer went than were handed over the kernel will tell when there is room again;
 * so we return to the program only then. Out of line: its vector is a thousand bytes of stack.
 */
static __attribute__((noinline)) size_t send_piece(struct sending *s, const struct portion *p,
						   bool last)
{
	size_t done = 0;

	while (done < p->len) {
		struct vector v;
		const int flags = lay_vector(s, p, done, &v);
		const ssize_t n = hand_over(s, &v, last && !v.full ? flags : flags | MSG_MORE);

		if (n < 0)
			break;
		done += account(s, p, done, (size_t) n);
		if ((size_t) n == v.bytes)
			continue;
		if (s->total + done > 0 || !only_ours_went(s))
			break;
	}
	return done;
}

/* To take a cork out that is not in has no other effect. */
void traffic_uncork(int fd)
{
	int corked = 0;
	socklen_t len = sizeof(corked);

	if (real.getsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, &len) == 0 && !corked)
		(void) setsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, sizeof(corked));
}

/* Another thread sends on this connection just now, and maybe our tail is still to go. */
static bool others_tail(int fd, fds_word word, int flags)
{
	/*
	 * In a forked child the other thread is its parent's, and sends it there. A handler that
	 * interrupted the sender itself would wait for ever.
	 */
	while (stream_pid(word) == life_pid() && traffic_tail(word) && !traffic_sender(word)) {
		if (!traffic_blocks(fd, flags)) {
			errno = EAGAIN;
			return false;
		}
		(void) real.poll(NULL, 0, FLUSH_WAIT_MS);
	}
	return true;
}

/* The program's own call, @p NULL: of bytes that nobody follows. */
static ssize_t sent_plain(int fd, fds_word word, struct traffic *t, struct portion *p,
			  ssize_t (*plain)(void *arg), void *arg)
{
	const ssize_t rc = plain(arg);
	const int error = errno;

	if (guard_enter()) {
		stream_sent(fd, word, rc, error);
		if (p != NULL && (rc < 0 || (size_t) rc < p->len))
			take_back(t, p, rc > 0 ? (size_t) rc : 0);
		if (p != NULL && p->head_done)
			head_ends(t);
		guard_leave();
	}
	errno = error;
	return rc;
}

/* Are the bytes that we have yet to send due on @fd? If not they never are again, and go. */
static bool proven(struct traffic *t, int fd, fds_word word)
{
	const bool tail = atomic_load_explicit(&t->tail_len, memory_order_relaxed) > 0;
	bool same = false;

	if (guard_enter()) {
		same = tail ? traffic_tail_due(t, fd, word)
			    : stream_same_socket(fd, word) && stream_saw_all(fd, word, false);
		if (!same) {
			http1_lost(&t->requests);
			t->patch_due = false;
			atomic_store_explicit(&t->tail_len, 0, memory_order_release);
		}
		guard_leave();
	}
	return same;
}

/* What of the piece went. */
static void piece_went(struct sending *s, struct portion *p, size_t went)
{
	if (!guard_enter())
		return;
	if (went < p->len)
		take_back(s->t, p, went);
	note_patch(s->t, p, went);
	if (p->head_done)
		head_ends(s->t);
	if (s->error != 0)
		stream_sent(s->fd, s->word, -1, s->error);
	guard_leave();
}

/* Piece by piece. The lane is ours; the guard is not. */
static ssize_t send_pieces(struct sending *s, struct cursor *c, ssize_t (*plain)(void *arg),
			   void *arg)
{
	struct portion p;

	do {
		if (!guard_enter())
			return s->total > 0 ? (ssize_t) s->total : plain(arg);
		cut_piece(s->t, s->fd, s->word, c, s->total == 0, &p, &s->error);
		guard_leave();
		if (p.refused)
			break;
		if (p.whole && p.fields == NULL && !p.patches)
			return sent_plain(s->fd, s->word, s->t, &p, plain, arg);
		/* In parts only to what surely is the socket that we followed. */
		if (p.fields == NULL && p.first && !proven(s->t, s->fd, s->word))
			return sent_plain(s->fd, s->word, s->t, &p, plain, arg);
		step(c, p.len);

		const size_t went = send_piece(s, &p, at_end(c));

		piece_went(s, &p, went);
		s->total += went;
		if (went < p.len)
			break;
	} while (!at_end(c));
	if (s->total > 0) {
		if (s->error == EAGAIN && (s->call->flags & MSG_MORE) == 0)
			traffic_uncork(s->fd);
		return (ssize_t) s->total;
	}
	errno = s->error;
	return -1;
}

/* Else the kernel refuses or cuts the call: it is not worth a look, nor are the bytes there. */
static bool acceptable(const struct iovec *iov, size_t n_iov, const struct traffic_call *call)
{
	size_t total = 0;

	if (call->vector && !readable(iov, n_iov * sizeof(*iov)))
		return false;
	for (size_t i = 0; i < n_iov; i++) {
		if (iov[i].iov_len > CALL_MAX - total)
			return false;
		total += iov[i].iov_len;
	}
	return true;
}

/* What is left of our fields, together with the bytes that come after it; errno as the kernel's. */
static bool tail_went(struct traffic *t, int fd, fds_word word, int flags)
{
	int error;

	if (atomic_load_explicit(&t->tail_len, memory_order_relaxed) == 0 || !proven(t, fd, word) ||
	    flush_tail(t, fd, word, flags | MSG_MORE))
		return true;
	error = errno;
	if (guard_enter()) {
		stream_sent(fd, word, -1, error);
		guard_leave();
	}
	errno = error;
	return false;
}

static bool is_h2(const struct traffic *t)
{
	return atomic_load_explicit(&t->multiplexed[HTTP1_REQUESTS], memory_order_relaxed);
}

/* Of a connection that nothing was asked on yet: copied, as far as they are there to be read. */
static size_t first_bytes(const struct traffic *t, const struct cursor *at, char ret[TLS_HELLO])
{
	struct cursor c = *at;
	size_t n = 0;

	if (t->asked || !http1_between(&t->requests))
		return 0;
	while (n < TLS_HELLO && !at_end(&c) && readable(byte_at(&c), 1)) {
		const size_t part = least(least(left_in(&c), readable_rest(byte_at(&c))),
					  (size_t) TLS_HELLO - n);

		memcpy(ret + n, byte_at(&c), part);
		n += part;
		step(&c, part);
	}
	return n;
}

/* HTTP/2 is known by its first bytes, and by no fewer than four of them. */
static bool turns_to_h2(struct traffic *t, const char *first, size_t n)
{
	return n >= 4 && http2_begins(HTTP1_REQUESTS, first, n) >= 0 &&
	       h2_begins(t, HTTP1_REQUESTS);
}

bool traffic_speaks_h2(struct traffic *t, const struct cursor *at)
{
	char first[TLS_HELLO];

	return is_h2(t) || turns_to_h2(t, first, first_bytes(t, at, first));
}

/* A session's first bytes, whose plaintext is looked at from here on. */
static bool sends_hello(fds_word word, const char *first, size_t n)
{
	return n == TLS_HELLO && !guard.plaintext && tls_may_be_hello(first, n) &&
	       tls_hello(word, first, false);
}

bool traffic_cut(struct traffic *t, int fd, fds_word word, const struct cursor *at, bool first,
		 char *room, struct traffic_cut *ret)
{
	struct portion p;
	struct cursor c = *at;
	size_t patched, before;
	bool adds;

	cut_piece(t, fd, word, at, first, &p, &ret->error);
	if (p.refused)
		return false;
	ret->len = p.len;
	ret->covers = ret->merged = 0;
	patched = p.patches ? least(p.len, p.patch_at + TRAFFIC_PATCH - p.patch_from) : 0;
	adds = p.fields != NULL && !t->injected;
	before = adds ? p.at : 0;
	/* A head that leaves no room for our fields goes first, and they by themselves. */
	if (adds && before > 0 && before + p.fields_len > BLOB_SIZE) {
		take_back(t, &p, before);
		note_patch(t, &p, before);
		ret->len = before;
		return true;
	}
	/*
	 * As much as there is room for goes with it: a blank line in a record of its own would
	 * wait for the peer's acknowledgement of the head (Nagle).
	 */
	if (adds || (patched > 0 && patched <= BLOB_SIZE))
		ret->covers = least(p.len, BLOB_SIZE - (adds ? p.fields_len : 0));
	for (size_t n = 0; n < ret->covers;) {
		const size_t part = least(left_in(&c), ret->covers - n);

		memcpy(room + n, byte_at(&c), part);
		n += part;
		step(&c, part);
	}
	ret->merged = ret->covers;
	if (p.patches && patched <= ret->covers && patched > p.patch_at)
		memcpy(room + p.patch_at, t->patch + p.patch_from, patched - p.patch_at);
	if (adds) {
		memmove(room + before + p.fields_len, room + before, ret->covers - before);
		memcpy(room + before, p.fields, p.fields_len);
		ret->merged += p.fields_len;
		t->injected = true;
		traffic_count(METRICS_INJECTED);
	}
	note_patch(t, &p, p.len);
	if (p.head_done)
		head_ends(t);
	return true;
}

/* With the lane held. */
static ssize_t send_entered(struct traffic *t, int fd, fds_word word, const struct iovec *iov,
			    size_t n_iov, const struct traffic_call *call,
			    ssize_t (*plain)(void *arg), void *arg)
{
	struct sending s = { .t = t, .fd = fd, .word = word, .call = call };
	struct cursor c = { .iov = iov, .n_iov = n_iov };

	const bool h2 = is_h2(t);

	/* Nothing of it will go: what the program was told to come with again is still due. */
	if (h2 && call->vector && !readable(iov, n_iov * sizeof(*iov)))
		return plain(arg);

	const bool good = acceptable(iov, n_iov, call);

	if (!good && h2)
		h2_flush(t);
	else if (!good)
		http1_lost(&t->requests);
	else
		step(&c, 0);
	if (at_end(&c))
		return plain(arg);

	char first[TLS_HELLO];
	const size_t n = good && !h2 ? first_bytes(t, &c, first) : 0;

	if (sends_hello(word, first, n))
		return sent_plain(fd, word, t, NULL, plain, arg);
	if (good && (h2 || turns_to_h2(t, first, n)))
		return h2_send(t, fd, word, &c, call, plain, arg);
	if (!h2 && !tail_went(t, fd, word, call->flags))
		return -1;
	if (!good || !traffic_followed(word))
		return sent_plain(fd, word, t, NULL, plain, arg);
	return send_pieces(&s, &c, plain, arg);
}

/* For pthread_cleanup: the thread is cancelled, or a handler jumps out of the call. */
struct holder {
	struct traffic *t;
	int fd;
	fds_word word;
};

/* How much the kernel took the program will never hear, but of the tail we can ask. */
static void never_returned(void *arg)
{
	const struct holder *h = arg;
	const uint32_t left = atomic_load_explicit(&h->t->tail_len, memory_order_relaxed);
	const bool h2 = h2_of(h->t) != NULL;
	const uint64_t went = left > 0 && !h2 ? stream_unseen(h->fd, h->word) - h->t->tail_unseen
					      : 0;

	http1_lost(&h->t->requests);
	h->t->patch_due = false;
	atomic_store_explicit(&h->t->sender, NULL, memory_order_relaxed);
	if (h2) {
		h2_lose(h->t, HTTP1_REQUESTS);
		h2_drop(h->t);
		traffic_leave(h->word, STREAM_OUT);
		guard_leave();
		return;
	}
	if (went > 0 && went <= left)
		h->t->tail_at += (uint32_t) went;
	/* More than that: not by us. */
	atomic_store_explicit(&h->t->tail_len, went <= left ? left - (uint32_t) went : 0,
			      memory_order_release);
	traffic_leave(h->word, STREAM_OUT);
	guard_leave();
}

ssize_t traffic_send(int fd, fds_word word, const struct iovec *iov, size_t n_iov,
		     const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg)
{
	const int before = errno;
	ssize_t rc;

	if (!guard_enter()) {
		traffic_lost(word, STREAM_OUT);
		return plain(arg);
	}

	struct traffic *t = traffic_enter(word, STREAM_OUT);

	guard_leave();
	if (t == NULL) {
		if (!others_tail(fd, word, call->flags))
			return -1;
		errno = before;
		return sent_plain(fd, word, NULL, NULL, plain, arg);
	}

	struct holder h = { t, fd, word };

	const bool tail = atomic_load_explicit(&t->tail_len, memory_order_relaxed) > 0;

	atomic_store_explicit(&t->sender, &guard, memory_order_relaxed);
	cleanup_begin(never_returned, &h);
	errno = before;
	rc = send_entered(t, fd, word, iov, n_iov, call, plain, arg);
	cleanup_end();

	const int error = errno;

	atomic_store_explicit(&t->sender, NULL, memory_order_relaxed);
	if (tail && rc < 0 && (call->flags & MSG_MORE) == 0)
		traffic_uncork(fd);

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

	struct holder h = { t, fd, word };
	bool flushed;

	cleanup_begin(never_returned, &h);
	flushed = true;
	if (is_h2(t))
		h2_flush(t);
	else
		flushed = !proven(t, fd, word) || flush_tail(t, fd, word, flags);
	cleanup_end();

	const int error = errno;

	traffic_leave(word, STREAM_OUT);
	errno = error;
	return flushed;
}
