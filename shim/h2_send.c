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
	bool more;    /* and holds the last bytes back: more was to come */
	int error;    /* what stopped it; 0: nothing, or the kernel took only a part */
	bool sealed;  /* inside TLS: a piece goes in a buffer of BLOB_SIZE, ours with it */
	uintptr_t page; /* the program's, that was found to be there; NO_PAGE */
};

#define NO_PAGE UINTPTR_MAX

/*
 * May these bytes be read? What was asked for last is remembered, as long as we make no call
 * of the program's.
 */
static bool legible(struct sending *s, const void *at, size_t len)
{
	const uintptr_t page = (uintptr_t) at / READABLE_PAGE;
	const uintptr_t last = ((uintptr_t) at + len - 1) / READABLE_PAGE;

	if (len == 0 || (page == s->page && last == page))
		return true;
	if (!readable(at, len))
		return false;
	s->page = last;
	return true;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- handing bytes to the kernel ---- */

static ssize_t put(struct sending *s, struct iovec *v, size_t n_v, bool more)
{
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = n_v };
	/* Copies of ours must not be what the kernel tells of having sent; see wants_notice(). */
	int flags = (s->call->flags & ~MSG_ZEROCOPY) | (more ? MSG_MORE : 0);

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

	s->page = NO_PAGE;
	if (n < 0)
		s->error = errno;
	s->begun = s->begun || n > 0;
	s->more = n > 0 ? (flags & MSG_MORE) != 0 : s->more;
	if (guard_enter()) {
		stream_sent(s->fd, s->word, n, s->error);
		guard_leave();
	}
	return n;
}

/* ---- pieces ---- */

static void note_left(struct traffic *t, uint32_t left)
{
	/* Release: whoever finds none may send. */
	atomic_store_explicit(&t->tail_len, left, memory_order_release);
}

/* Before the program is back: what of it has yet to come again, or of us to go. */
static void leave_piece(struct sending *s)
{
	const struct h2_piece *p = &s->h->piece;
	const uint32_t left = p->len > p->told ? p->len - p->told : http2_owes(&s->h->machine);

	if (left > 0 && guard_enter()) {
		s->t->tail_unseen = stream_unseen(s->fd, s->word);
		guard_leave();
	}
	note_left(s->t, left);
}

/* The program was told of all of it. Its memory stays ours while we owe something. */
static void piece_done(struct h2 *h)
{
	uint32_t blob = h->piece.blob;

	if (!http2_owes(&h->machine))
		blob_give(&blob);
	h->piece = (struct h2_piece) { .blob = blob };
}

void h2_drop(struct traffic *t)
{
	struct h2 *h = h2_of(t);

	blob_give(&h->piece.blob);
	h->piece = (struct h2_piece) { 0 };
	note_left(t, 0);
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

/* The piece from its byte @out to byte @end of all that goes. */
static size_t lay_piece(const struct h2_piece *p, uint32_t end, struct iovec v[SEGMENTS])
{
	size_t n = 0, kept = 0, at = 0;

	add_patched(p, v, &n, 0, p->at);
	add(v, &n, p->bytes, p->n);
	add_patched(p, v, &n, p->at, p->len);
	for (size_t i = 0; i < n; i++) {
		const size_t len = v[i].iov_len;
		const size_t from = at < p->out ? p->out - at : 0;
		const size_t to = at + len > end ? end - at : len;

		at += len;
		if (from < to && at - len < end)
			v[kept++] = (struct iovec) { (char *) v[i].iov_base + from, to - from };
	}
	return kept;
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

/* How much goes with the program's first @theirs bytes. */
static uint32_t reach(const struct h2_piece *p, uint32_t theirs)
{
	if (theirs == p->len)
		return p->len + p->n;
	return theirs <= p->at ? theirs : theirs + p->n;
}

/*
 * Sends what is left of it, as far as the program has come with it again: @n bytes. Out of
 * line: its vector is of no use to who calls.
 */
static __attribute__((noinline)) void put_piece(struct sending *s, size_t n, bool more)
{
	struct h2_piece *p = &s->h->piece;
	const uint32_t end = reach(p, p->told + (uint32_t) n);

	while (p->out < end) {
		struct iovec v[SEGMENTS];
		const size_t n_v = lay_piece(p, end, v);
		const ssize_t went = put(s, v, n_v, more);

		if (went < 0)
			return;
		p->out += (uint32_t) went;
		if (p->out >= end || to_tell(p) > p->told)
			return;
		/* Only ours went, or nothing that can be told of: there is more to be done first. */
		if (!traffic_blocks(s->fd, s->call->flags)) {
			s->error = EAGAIN;
			return;
		}
	}
}

/*
 * How many bytes does the program come again with, of those it was told did not go? Returns
 * -1 when they are others.
 */
static ssize_t comes_again(struct sending *s, const struct cursor *at)
{
	const struct h2_piece *p = &s->h->piece;
	const char *rest = blob_at(p->blob) + p->told;
	size_t left = p->len - p->told;

	for (struct cursor c = *at; left > 0 && !at_end(&c);) {
		const size_t n = left_in(&c) < left ? left_in(&c) : left;

		if (!legible(s, byte_at(&c), n))
			break;
		if (memcmp(byte_at(&c), rest, n) != 0)
			return -1;
		rest += n;
		left -= n;
		step(&c, n);
	}
	return (ssize_t) (p->len - p->told - left);
}

static size_t offered(const struct cursor *at, size_t most)
{
	size_t n = 0;

	for (size_t i = at->index; i < at->n_iov && n < most; i++)
		n += at->iov[i].iov_len - (i == at->index ? at->offset : 0);
	return n < most ? n : most;
}

/* Tells the program of what went, of the @n bytes that it came with. False: it has to come again. */
static bool tell(struct sending *s, struct cursor *c, size_t n)
{
	struct h2_piece *p = &s->h->piece;
	const size_t untold = to_tell(p) - p->told, told = untold < n ? untold : n;

	p->told += (uint32_t) told;
	s->total += told;
	step(c, told);
	if (p->told < p->len)
		return false;
	piece_done(s->h);
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

/* Feeds @n bytes that were copied, behind which @after more were. False: refused. */
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

/* Copies up to @n bytes to @to; fewer where the call ends, or cannot be read. */
static size_t copy(struct sending *s, char *to, struct cursor *c, size_t n)
{
	size_t copied = 0;

	while (copied < n && !at_end(c)) {
		const size_t part = left_in(c) < n - copied ? left_in(c) : n - copied;

		if (!legible(s, byte_at(c), part))
			break;
		memcpy(to + copied, byte_at(c), part);
		copied += part;
		step(c, part);
	}
	return copied;
}

static size_t piece_size(const struct sending *s)
{
	return s->sealed ? BLOB_SIZE - TRAFFIC_OUT : BLOB_SIZE;
}

/*
 * Where the copy is to end that has @n bytes from @from on, maybe the last ones of a frame's
 * head: with the payload of that, for it counts whether all of it can be changed.
 */
static size_t copy_end(const struct sending *s, const char *own, size_t from, size_t n)
{
	size_t end = from + n;

	/* Of a head that began in another call we do not know what it says. */
	if (http2_heads(&s->h->machine, HTTP1_REQUESTS))
		end = n == HTTP2_FRAME_HEAD ? end + http2_frame_length(own + from)
						  : piece_size(s);
	return least(end, piece_size(s));
}

/*
 * Takes the header block at @at, or as much of it as this call and our memory hold.
 * Returns false when it was refused, or nothing of it can be read.
 */
static bool take_piece(struct sending *s, const struct cursor *at)
{
	struct h2_piece *p = &s->h->piece;
	struct cursor c = *at;
	char *own = blob_get(&p->blob);
	size_t copied = 0; /* all that @own has of the call */

	if (own == NULL) {
		traffic_count(METRICS_NO_ROOM);
		h2_lose(s->t, HTTP1_REQUESTS);
		return false;
	}
	do {
		const uint64_t left = http2_frame_left(&s->h->machine, HTTP1_REQUESTS);
		const size_t room = piece_size(s) - p->len;
		const size_t n = left < room ? (size_t) left : room;

		/* The head of a frame can be changed while all of it is in hand. */
		if (p->len > 0 && room < left && http2_heads(&s->h->machine, HTTP1_REQUESTS))
			break;
		if (copied < p->len + n)
			copied += copy(s, own + copied, &c, p->len + n - copied);
		if (copied == p->len)
			break;

		const size_t now = least(n, copied - p->len);
		const size_t end = now == n ? copy_end(s, own, p->len, n) : copied;

		if (copied < end)
			copied += copy(s, own + copied, &c, end - copied);

		if (!look(s, now, copied - p->len - now))
			return false;
		if (p->n > 0)
			break; /* one addition to a piece; what is left of its frame is a piece too */
	} while (http2_walk(&s->h->machine, HTTP1_REQUESTS).block);
	return p->len > 0;
}

/* ---- frames that are no blocks ---- */

/*
 * How many bytes of the call come before the next block. @ret_all: that is all of them. Heads of
 * frames are read, so they have to be there; payloads do not.
 */
static size_t plain_bytes(struct sending *s, const struct cursor *at, bool *ret_all)
{
	struct http2_walk walk = http2_walk(&s->h->machine, HTTP1_REQUESTS);
	struct cursor c = *at;
	size_t n = 0;

	while (!walk.block && !at_end(&c)) {
		const size_t len = left_in(&c);
		const size_t skip = walk.left < len ? (size_t) walk.left : len;
		const char *head = byte_at(&c) + skip;
		const size_t rest = least(len - skip, HTTP2_FRAME_HEAD);

		if (!legible(s, head, rest)) {
			h2_lose(s->t, HTTP1_REQUESTS);
			walk.left = UINT64_MAX;
			continue;
		}

		const size_t part = http2_plain(&walk, byte_at(&c), skip + rest);

		n += part;
		step(&c, part);
	}
	*ret_all = at_end(&c);
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

/* Up to @n bytes, as many as a vector holds: *@ret_laid. */
static ssize_t put_plain(struct sending *s, const struct cursor *at, size_t n, bool more,
			 size_t *ret_laid)
{
	struct iovec v[VECTOR_MAX];
	struct cursor c = *at;
	size_t n_v = 0, laid = 0;

	while (laid < n && n_v < VECTOR_MAX) {
		const size_t part = least(left_in(&c), n - laid);

		v[n_v++] = (struct iovec) { (void *) byte_at(&c), part };
		laid += part;
		step(&c, part);
	}
	*ret_laid = laid;
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

/* The rest of a piece that was begun by an earlier call. */
static enum step again_step(struct sending *s, struct cursor *c)
{
	ssize_t n = -1;

	if (guard_enter()) {
		/* As the tail of HTTP/1 (traffic.c): a child may have it from its parent. */
		if (traffic_tail_due(s->t, s->fd, s->word))
			n = comes_again(s, c);
		if (n < 0) {
			h2_lose(s->t, HTTP1_REQUESTS);
			h2_drop(s->t);
		}
		guard_leave();
	}
	if (n < 0)
		return AS_IT_STANDS;
	if (n == 0) {
		s->error = EFAULT;
		return STOP;
	}
	put_piece(s, (size_t) n, offered(c, (size_t) n + 1) > (size_t) n);
	return tell(s, c, (size_t) n) && s->error == 0 ? GO_ON : STOP;
}

static enum step plain_step(struct sending *s, struct cursor *c, size_t n, bool all)
{
	size_t laid;
	const ssize_t went = put_plain(s, c, n, !all, &laid);

	if (went < 0)
		return STOP;
	if (guard_enter()) {
		look_at_plain(s, c, (size_t) went);
		guard_leave();
	}
	s->total += (size_t) went;
	step(c, (size_t) went);
	return (size_t) went == laid ? GO_ON : STOP;
}

static enum step block_step(struct sending *s, struct cursor *c)
{
	bool taken;

	if (!guard_enter())
		return AS_IT_STANDS;
	taken = take_piece(s, c);
	if (!taken && s->error != 0)
		refuse(s);
	else if (!taken)
		piece_done(s->h);
	guard_leave();
	if (!taken)
		return s->error == 0 ? AS_IT_STANDS : STOP;

	const size_t n = s->h->piece.len;

	put_piece(s, n, offered(c, n + 1) > n);
	return tell(s, c, n) && s->error == 0 ? GO_ON : STOP;
}

static enum step next_step(struct sending *s, struct cursor *c, ssize_t (*plain)(void *arg),
			   void *arg, ssize_t *ret)
{
	bool all;
	size_t n;

	if (s->h->piece.len > 0)
		return again_step(s, c);
	if (!guard_enter())
		return AS_IT_STANDS;
	n = plain_bytes(s, c, &all);
	guard_leave();
	if (n > 0 && all && s->total == 0) {
		*ret = put_all(s, c, plain, arg);
		return STOP;
	}
	return n > 0 ? plain_step(s, c, n, all) : block_step(s, c);
}

/*
 * A call with MSG_ZEROCOPY is answered by a notice of the kernel's, for the bytes as they lie
 * with the program; where a copy has to go in their place there is none. The kernel itself
 * says so at times, and programs then send without.
 */
static bool wants_notice(struct sending *s)
{
	int on = 0;
	socklen_t len = sizeof(on);

	return (s->call->flags & MSG_ZEROCOPY) != 0 &&
	       real.getsockopt(s->fd, SOL_SOCKET, SO_ZEROCOPY, &on, &len) == 0 && on != 0;
}

/* What the call returns. */
static ssize_t answer(struct sending *s, bool whole)
{
	if (s->total == 0) {
		errno = s->error != 0 ? s->error : EAGAIN;
		return -1;
	}
	if (!whole && s->more && (s->call->flags & MSG_MORE) == 0)
		traffic_uncork(s->fd);
	return (ssize_t) s->total;
}

ssize_t h2_send(struct traffic *t, int fd, fds_word word, struct cursor *c,
		const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg)
{
	struct sending s = { .t = t, .h = h2_of(t), .fd = fd, .word = word, .call = call,
			     .page = NO_PAGE };
	const struct cursor begin = *c;
	const int refused = atomic_load_explicit(&s.h->refused, memory_order_relaxed);
	enum step next = GO_ON;
	ssize_t rc = 0;

	if (refused != 0) {
		errno = refused;
		return -1;
	}
	if (wants_notice(&s)) {
		if (traffic_tail(word)) {
			errno = ENOBUFS;
			return -1;
		}
		h2_lose(t, HTTP1_REQUESTS);
	}
	while (next == GO_ON && !at_end(c))
		next = next_step(&s, c, plain, arg, &rc);
	if (next == AS_IT_STANDS && s.total == 0)
		rc = put_all(&s, &begin, plain, arg);
	leave_piece(&s);
	return rc != 0 ? rc : answer(&s, at_end(c));
}

bool h2_cut(struct traffic *t, int fd, fds_word word, const struct cursor *at, char *room,
	    struct traffic_cut *ret)
{
	const struct traffic_call call = { 0 };
	struct sending s = { .t = t, .h = h2_of(t), .fd = fd, .word = word, .call = &call,
			     .sealed = true, .page = NO_PAGE };
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
	n_v = lay_piece(&s.h->piece, s.h->piece.len + s.h->piece.n, v);
	for (size_t i = 0; i < n_v; i++) {
		memcpy(room + ret->merged, v[i].iov_base, v[i].iov_len);
		ret->merged += v[i].iov_len;
	}
	ret->len = ret->covers = s.h->piece.len;
	piece_done(s.h);
	return true;
}

void h2_flush(struct traffic *t)
{
	h2_lose(t, HTTP1_REQUESTS);
	h2_drop(t);
}
