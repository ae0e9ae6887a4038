/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends over HTTP/2, with our fields in the header block of each request.
 *
 * A call is cut in two kinds of parts, in turn. Frames that are no header blocks go as they are,
 * and are looked at when the kernel has taken them. A block is copied, looked at, and laid out
 * with ours beside it before it goes: compression has a memory, so what was looked at once
 * counts as sent. Where the kernel takes only a part of such a piece the program is told so, and
 * comes again with bytes that we compare with our copy. It hears of the last byte of a piece
 * when all of ours have gone too.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/config.h"
#include "shim/blob.h"
#include "shim/call.h"
#include "shim/guard.h"
#include "shim/h2.h"
#include "shim/life.h"
#include "shim/readable.h"
#include "shim/real.h"
#include "shim/shared.h"

#define VECTOR_MAX 32   /* buffers of the program's in one call of ours */
#define LIST_LARGE 7680 /* as HEAD_LARGE of inject.c: close to receivers' limits */
#define SEGMENTS   8    /* of a piece: between and in its patches, and around ours */

/* A call of the program's on its way. */
struct sending {
	struct traffic *t;
	struct h2 *h;
	int fd;
	fds_word word;
	const struct traffic_call *call;
	size_t total; /* of the program's bytes that it will be told of */
	bool begun;   /* the kernel has had its control messages */
	int error;    /* what stopped it; 0: nothing, or the kernel took only a part */
	bool sealed;  /* inside TLS: a piece goes in a buffer of BLOB_SIZE, ours with it */
};

/* ---- handing bytes to the kernel ---- */

static ssize_t put(struct sending *s, struct iovec *v, size_t n_v, bool more)
{
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = n_v };
	int flags = s->call->flags | (more ? MSG_MORE : 0);

	if (s->call->msg != NULL && !s->begun) {
		msg.msg_name = s->call->msg->msg_name;
		msg.msg_namelen = s->call->msg->msg_namelen;
		msg.msg_control = s->call->msg->msg_control;
		msg.msg_controllen = s->call->msg->msg_controllen;
	}
	/* The program learns of a broken connection by its next call, and of the signal too. */
	if (s->begun)
		flags |= MSG_NOSIGNAL;

	const ssize_t n = real.sendmsg(s->fd, &msg, flags);

	if (n < 0)
		s->error = errno;
	s->begun = s->begun || n > 0;
	if (guard_enter()) {
		stream_sent(s->fd, s->word, n, s->error);
		guard_leave();
	}
	return n;
}

/* ---- pieces ---- */

static void note_left(struct traffic *t, const struct h2_piece *p)
{
	/* Release: whoever finds none may send. What is told of a piece is never more than went. */
	atomic_store_explicit(&t->tail_len, p->len - p->told, memory_order_release);
}

void h2_drop(struct traffic *t)
{
	struct h2 *h = h2_of(t);

	blob_give(&h->piece.blob);
	h->piece = (struct h2_piece) { 0 };
	note_left(t, &h->piece);
}

static void add(struct iovec *v, size_t *n, const void *at, size_t len)
{
	if (len > 0)
		v[(*n)++] = (struct iovec) { (void *) at, len };
}

/* The program's bytes from @from to @to, patched. */
static void add_patched(const struct h2_piece *p, struct iovec *v, size_t *n, uint32_t from,
			uint32_t to)
{
	const char *own = blob_at(p->blob);

	for (uint32_t i = 0; i < p->n_patches; i++) {
		if (p->patches[i].at < from || p->patches[i].at >= to)
			continue; /* a patch is never cut by our bytes */
		add(v, n, own + from, p->patches[i].at - from);
		add(v, n, p->patches[i].bytes, p->patches[i].n);
		from = p->patches[i].at + p->patches[i].n;
	}
	add(v, n, own + from, to - from);
}

/* All of the piece but its first @out bytes. */
static size_t lay_piece(const struct h2_piece *p, struct iovec v[SEGMENTS])
{
	size_t n = 0, skip = p->out, first = 0;

	add_patched(p, v, &n, 0, p->at);
	add(v, &n, p->bytes, p->n);
	add_patched(p, v, &n, p->at, p->len);
	while (first < n && skip >= v[first].iov_len)
		skip -= v[first++].iov_len;
	if (first < n) {
		v[first].iov_base = (char *) v[first].iov_base + skip;
		v[first].iov_len -= skip;
	}
	memmove(v, v + first, (n - first) * sizeof(*v));
	return n - first;
}

static bool all_out(const struct h2_piece *p)
{
	return p->out == p->len + p->n;
}

/* How many of the program's bytes it may be told of. */
static uint32_t to_tell(const struct h2_piece *p)
{
	if (all_out(p))
		return p->len;

	const uint32_t theirs = p->out <= p->at		 ? p->out
				: p->out < p->at + p->n ? p->at
							 : p->out - p->n;

	return theirs < p->len ? theirs : p->len - 1;
}

/* Sends what is left of it. Out of line: its vector is of no use to who calls. */
static __attribute__((noinline)) void put_piece(struct sending *s, bool more)
{
	struct h2_piece *p = &s->h->piece;

	while (!all_out(p)) {
		struct iovec v[SEGMENTS];
		const size_t n_v = lay_piece(p, v);
		const ssize_t n = put(s, v, n_v, more);

		if (n < 0)
			return;
		p->out += (uint32_t) n;
		if (all_out(p) || to_tell(p) > p->told)
			return;
		/* Only ours went, or nothing that can be told of: there is more to be done first. */
		if (!traffic_blocks(s->fd, s->call->flags)) {
			s->error = EAGAIN;
			return;
		}
	}
}

/* Does the program come with what it was told that did not go? */
static bool comes_again(const struct h2_piece *p, const struct cursor *at)
{
	const char *rest = blob_at(p->blob) + p->told;
	size_t left = p->len - p->told;

	for (struct cursor c = *at; left > 0 && !at_end(&c);) {
		const size_t n = left_in(&c) < left ? left_in(&c) : left;

		if (!readable(byte_at(&c), n) || memcmp(byte_at(&c), rest, n) != 0)
			return false;
		rest += n;
		left -= n;
		step(&c, n);
	}
	return true;
}

static size_t offered(const struct cursor *at, size_t most)
{
	size_t n = 0;

	for (size_t i = at->index; i < at->n_iov && n < most; i++)
		n += at->iov[i].iov_len - (i == at->index ? at->offset : 0);
	return n < most ? n : most;
}

/* Tells the program of what went, as far as it asked. False: it is to come again. */
static bool tell(struct sending *s, struct cursor *c)
{
	struct h2_piece *p = &s->h->piece;
	const size_t n = offered(c, to_tell(p) - p->told);

	p->told += (uint32_t) n;
	s->total += n;
	step(c, n);
	if (p->told < p->len) {
		note_left(s->t, p);
		return at_end(c);
	}
	h2_drop(s->t);
	return true;
}

/* ---- what is added to a block ---- */

struct block {
	struct http2_literals l;
	bool only_traceparent;
};

static void add_field(void *arg, const char *name, const char *value, size_t len)
{
	struct block *b = arg;

	if (!b->only_traceparent || strcmp(name, "traceparent") == 0)
		(void) http2_literal(&b->l, name, value, len);
}

static void lay_fields(struct request *r, const struct call_wrote *wrote, char *room, size_t size,
		       struct block *b)
{
	/* A second time when its owner ended meanwhile; as a root it has none to lose. */
	for (int tries = 0; tries < 2; tries++) {
		b->l = http2_literals_in(room, size);
		if (call_fields(r, wrote, add_field, b))
			return;
	}
}

/* Literals for the block, where they may stand; none for a place that is only held. */
static bool edits_of(struct sending *s, struct request *r, const struct call_wrote *wrote,
		     const struct http2_place *place, struct block *b, struct http2_edits *ret)
{
	struct traffic *t = s->t;

	b->l = http2_literals_in(t->out, sizeof(t->out));
	if (r == NULL)
		return http2_edits(place, &b->l, ret);
	lay_fields(r, wrote, t->out, sizeof(t->out), b);
	if (b->l.cut && !s->sealed) {
		char *larger = traffic_blob(t);

		if (larger != NULL)
			lay_fields(r, wrote, larger, BLOB_SIZE, b);
	}
	if (!b->l.cut && http2_edits(place, &b->l, ret))
		return true;
	b->only_traceparent = true;
	lay_fields(r, wrote, t->out, sizeof(t->out), b);
	if (http2_edits(place, &b->l, ret) && !b->l.cut)
		return true;
	traffic_count(METRICS_NO_ROOM);
	return false;
}

static void patch(struct h2_piece *p, uint32_t at, const char *bytes, size_t n)
{
	if (p->n_patches == H2_PATCHES)
		return;
	p->patches[p->n_patches].at = at;
	p->patches[p->n_patches].n = (uint32_t) n;
	memcpy(p->patches[p->n_patches++].bytes, bytes, n);
}

/* The stop was said at byte @pos of the piece. */
static void lay_edits(struct h2_piece *p, size_t pos, const struct http2_edits *e)
{
	for (unsigned i = 0; i < e->n; i++) {
		const struct http2_edit *edit = &e->list[i];
		const uint32_t at = (uint32_t) ((ptrdiff_t) pos + edit->at);

		if (edit->replaced > 0) {
			patch(p, at, edit->bytes, edit->n);
		} else {
			p->at = at;
			p->bytes = edit->bytes;
			p->n = (uint32_t) edit->n;
		}
	}
}

/* May anything of ours go on this connection? */
static bool may_add(struct sending *s)
{
	if (stream_admission(s->word)->private_peer)
		return false;
	if (stream_same_socket(s->fd, s->word) &&
	    stream_saw_all(s->fd, s->word, !s->h->added))
		return true;
	h2_lose(s->t, HTTP1_REQUESTS);
	return false;
}

static void block_ends(struct sending *s, size_t pos)
{
	const struct http2_flow *f = &s->h->machine.flows[HTTP1_REQUESTS];
	struct block b = { .only_traceparent = f->list_size > LIST_LARGE };
	struct call_wrote wrote;
	struct http2_edits edits;
	struct request *r = h2_take_ids(s->h, &wrote);

	if (r != NULL && stream_admission(s->word)->private_peer)
		traffic_count(METRICS_WITHHELD);
	if (r == NULL || f->tunnel || !may_add(s))
		r = NULL;
	if (r == NULL && !f->place.held)
		return;
	if (edits_of(s, r, &wrote, &f->place, &b, &edits) && r != NULL &&
	    b.l.used > HTTP2_FRAME_HEAD) {
		s->h->added = true;
		traffic_count(METRICS_INJECTED);
	}
	lay_edits(&s->h->piece, pos, &edits);
}

/* The frame is not whole in hand: now or never, if there will be anything to add. */
static void hold(struct sending *s, size_t pos)
{
	const struct http2_flow *f = &s->h->machine.flows[HTTP1_REQUESTS];
	struct http2_edit edit;

	if (f->slot == HTTP2_NO_SLOT || s->h->streams[f->slot].token.place == 0 || !may_add(s))
		return;
	http2_hold(&s->h->machine, &edit);
	patch(&s->h->piece, (uint32_t) ((ptrdiff_t) pos + edit.at), edit.bytes, edit.n);
}

/* ---- looking at a piece ---- */

/* Feeds @n bytes that were copied, @after more of this call follow. False: refused. */
static bool look(struct sending *s, size_t n, size_t after)
{
	struct h2_piece *p = &s->h->piece;
	struct http2_input in = {
		.bytes = blob_at(p->blob) + p->len,
		.n = n,
		.before = p->len,
		.after = after,
	};
	enum http2_stop stop;
	size_t pos = p->len;

	do {
		size_t used;

		stop = http2_feed(&s->h->machine, HTTP1_REQUESTS, &settings->forward, &in, &used);
		http2_on(&in, used);
		pos += used;
		if (stop == HTTP2_HOLD)
			hold(s, pos);
		else if (stop == HTTP2_BLOCK_END)
			block_ends(s, pos);
		else if (!h2_told(s->t, s->fd, s->word, HTTP1_REQUESTS, stop, &s->error))
			return false;
	} while (stop != HTTP2_MORE);
	p->len += (uint32_t) n;
	return true;
}

/* Copies up to @n bytes behind the piece; fewer where the call ends, or cannot be read. */
static size_t copy(struct h2_piece *p, struct cursor *c, size_t n)
{
	char *to = blob_at(p->blob) + p->len;
	size_t copied = 0;

	while (copied < n && !at_end(c)) {
		const size_t part = left_in(c) < n - copied ? left_in(c) : n - copied;

		if (!readable(byte_at(c), part))
			break;
		memcpy(to + copied, byte_at(c), part);
		copied += part;
		step(c, part);
	}
	return copied;
}

/*
 * Takes the header block at @at, or as much of it as this call and our memory hold.
 * Returns false when it was refused, or nothing of it can be read.
 */
static bool take_piece(struct sending *s, const struct cursor *at)
{
	struct h2_piece *p = &s->h->piece;
	struct cursor c = *at;

	if (blob_get(&p->blob) == NULL) {
		traffic_count(METRICS_NO_ROOM);
		h2_lose(s->t, HTTP1_REQUESTS);
		return false;
	}
	do {
		const uint64_t left = http2_frame_left(&s->h->machine, HTTP1_REQUESTS);
		const size_t size = s->sealed ? BLOB_SIZE - TRAFFIC_OUT : BLOB_SIZE;
		const size_t room = size - p->len;
		const size_t n = copy(p, &c, left < room ? (size_t) left : room);

		if (n == 0)
			break;
		if (!look(s, n, offered(&c, room - n)))
			return false;
		if (p->n > 0)
			break; /* one addition to a piece; what is left of its frame is a piece too */
	} while (http2_walk(&s->h->machine, HTTP1_REQUESTS).block);
	return p->len > 0;
}

/* ---- frames that are no blocks ---- */

/* How many bytes of the call come before the next block. @ret_all: that is all of them. */
static size_t plain_bytes(const struct sending *s, const struct cursor *at, bool *ret_all)
{
	struct http2_walk walk = http2_walk(&s->h->machine, HTTP1_REQUESTS);
	size_t n = 0;

	*ret_all = true;
	for (struct cursor c = *at; !at_end(&c);) {
		const size_t len = left_in(&c);
		/* Heads of frames are read, so they have to be there; payloads do not. */
		const bool legible = walk.left >= len || readable(byte_at(&c), len);
		const size_t part = legible ? http2_plain(&walk, byte_at(&c), len) : len;

		n += part;
		if (!legible) {
			h2_lose(s->t, HTTP1_REQUESTS);
			walk.left = UINT64_MAX;
		}
		if (part < len) {
			*ret_all = false;
			break;
		}
		step(&c, part);
	}
	return n;
}

/* They went. */
static void look_at_plain(struct sending *s, const struct cursor *at, size_t n)
{
	struct cursor c = *at;

	while (n > 0) {
		const size_t part = left_in(&c) < n ? left_in(&c) : n;

		h2_feed(s->t, s->fd, s->word, HTTP1_REQUESTS, byte_at(&c), part);
		n -= part;
		step(&c, part);
	}
}

static ssize_t put_plain(struct sending *s, const struct cursor *at, size_t n, bool more)
{
	struct iovec v[VECTOR_MAX];
	struct cursor c = *at;
	size_t n_v = 0, laid = 0;

	while (laid < n && n_v < VECTOR_MAX) {
		const size_t part = left_in(&c) < n - laid ? left_in(&c) : n - laid;

		v[n_v++] = (struct iovec) { (void *) byte_at(&c), part };
		laid += part;
		step(&c, part);
	}
	return put(s, v, n_v, more || laid < n);
}

/* The program's own call, as it stands. */
static ssize_t put_all(struct sending *s, const struct cursor *at, ssize_t (*plain)(void *arg),
		       void *arg)
{
	const ssize_t n = plain(arg);
	const int error = errno;

	if (guard_enter()) {
		stream_sent(s->fd, s->word, n, error);
		if (n > 0 && traffic_followed(s->word))
			look_at_plain(s, at, (size_t) n);
		guard_leave();
	}
	errno = error;
	return n;
}

/* ---- a call ---- */

/*
 * The connection is refused to whoever asks on it: its reader hears that it has ended. What is
 * on its way is not cut off in the kernel, where that would be a signal to the next writer.
 */
static void refuse(struct sending *s)
{
	h2_refuse(s->t, s->word, s->error);
	h2_drop(s->t);
	(void) real.shutdown(s->fd, SHUT_RD);
}

enum step { GO_ON, STOP, AS_IT_STANDS };

/* The rest of a piece that was begun by an earlier call, or by this one. */
static enum step piece_step(struct sending *s, struct cursor *c, bool fresh)
{
	bool good = true;

	if (!fresh && guard_enter()) {
		good = stream_pid(s->word) == life_pid() &&
		       stream_same_socket(s->fd, s->word) && comes_again(&s->h->piece, c);
		if (!good) {
			h2_lose(s->t, HTTP1_REQUESTS);
			h2_drop(s->t);
		}
		guard_leave();
	}
	if (!good)
		return s->total == 0 ? AS_IT_STANDS : STOP;
	put_piece(s, offered(c, (size_t) s->h->piece.len + 1) >
			     s->h->piece.len - s->h->piece.told);
	return tell(s, c) && s->error == 0 ? GO_ON : STOP;
}

static enum step next_step(struct sending *s, struct cursor *c, ssize_t (*plain)(void *arg),
			   void *arg, ssize_t *ret)
{
	bool all, taken;
	size_t n;

	if (s->h->piece.len > 0)
		return piece_step(s, c, false);
	if (!guard_enter())
		return AS_IT_STANDS;
	n = plain_bytes(s, c, &all);
	guard_leave();
	if (n > 0 && all && s->total == 0) {
		*ret = put_all(s, c, plain, arg);
		return STOP;
	}
	if (n > 0) {
		const ssize_t went = put_plain(s, c, n, !all);

		if (went < 0)
			return STOP;
		if (guard_enter()) {
			look_at_plain(s, c, (size_t) went);
			guard_leave();
		}
		s->total += (size_t) went;
		step(c, (size_t) went);
		return (size_t) went == n ? GO_ON : STOP;
	}
	if (!guard_enter())
		return AS_IT_STANDS;
	taken = take_piece(s, c);
	if (!taken && s->error != 0)
		refuse(s);
	guard_leave();
	if (taken)
		return piece_step(s, c, true);
	if (s->error != 0)
		return STOP;
	h2_drop(s->t);
	return s->total == 0 ? AS_IT_STANDS : STOP;
}

ssize_t h2_send(struct traffic *t, int fd, fds_word word, struct cursor *c,
		const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg)
{
	struct sending s = { .t = t, .h = h2_of(t), .fd = fd, .word = word, .call = call };
	const struct cursor begin = *c;
	const int refused = atomic_load_explicit(&s.h->refused, memory_order_relaxed);
	enum step next = GO_ON;
	ssize_t rc = 0;

	if (refused != 0) {
		errno = refused;
		return -1;
	}
	/* Copies of ours must not be what the kernel tells of having sent (MSG_ZEROCOPY). */
	if ((call->flags & MSG_ZEROCOPY) != 0 && s.h->piece.len == 0)
		h2_lose(t, HTTP1_REQUESTS);
	while (next == GO_ON && !at_end(c))
		next = next_step(&s, c, plain, arg, &rc);
	if (next == AS_IT_STANDS && s.total == 0)
		return put_all(&s, &begin, plain, arg);
	if (rc != 0)
		return rc;
	if (s.total > 0) {
		if (s.error == EAGAIN && (call->flags & MSG_MORE) == 0)
			traffic_uncork(fd);
		return (ssize_t) s.total;
	}
	errno = s.error != 0 ? s.error : EAGAIN;
	return -1;
}

bool h2_cut(struct traffic *t, int fd, fds_word word, const struct cursor *at, char *room,
	    struct traffic_cut *ret)
{
	const struct traffic_call call = { 0 };
	struct sending s = { .t = t, .h = h2_of(t), .fd = fd, .word = word, .call = &call,
			     .sealed = true };
	struct iovec v[SEGMENTS];
	size_t n_v;
	bool all;

	ret->error = atomic_load_explicit(&s.h->refused, memory_order_relaxed);
	if (ret->error != 0)
		return false;
	ret->covers = ret->merged = 0;
	ret->len = plain_bytes(&s, at, &all);
	if (ret->len > 0) {
		look_at_plain(&s, at, ret->len);
		return true;
	}
	if (!take_piece(&s, at)) {
		ret->error = s.error;
		ret->len = offered(at, SIZE_MAX);
		if (s.error != 0)
			refuse(&s);
		else
			h2_drop(t);
		return s.error == 0;
	}
	n_v = lay_piece(&s.h->piece, v);
	for (size_t i = 0; i < n_v; i++) {
		memcpy(room + ret->merged, v[i].iov_base, v[i].iov_len);
		ret->merged += v[i].iov_len;
	}
	ret->len = ret->covers = s.h->piece.len;
	h2_drop(t);
	return true;
}

bool h2_flush(struct traffic *t, int fd, fds_word word, int flags)
{
	const struct traffic_call call = { .flags = flags };
	struct sending s = { .t = t, .h = h2_of(t), .fd = fd, .word = word, .call = &call };

	put_piece(&s, true);
	if (s.error != 0) {
		errno = s.error;
		return false;
	}
	h2_drop(t);
	return true;
}
