/* SPDX-License-Identifier: Apache-2.0 */
/* A client's frames, and the one thing that may have happened to them on the wire. */
#include "tests/preload/h2_talk.h"

#include "core/http2.h"

#define FRAME_MAX 16384
#define LIST_LARGE 7680 /* as h2_send.c has it */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* ---- making ---- */

static void put(struct talk *t, const void *bytes, size_t n)
{
	if (n > TALK_SIZE - t->len)
		abort();
	if (n > 0)
		memcpy(t->bytes + t->len, bytes, n);
	t->len += n;
}

static void put_frame(struct talk *t, uint8_t type, uint8_t flags, uint32_t stream,
		      const void *payload, size_t n)
{
	char head[HTTP2_FRAME_HEAD];

	http2_frame_head(head, (uint32_t) n, type, flags, stream);
	put(t, head, sizeof(head));
	put(t, payload, n);
}

static void note(struct talk *t, size_t at, enum talk_block block)
{
	if (t->n_frames == TALK_FRAMES)
		abort();
	t->frames[t->n_frames++] = (struct talk_frame) { at, t->len, block, false };
}

void talk_frame(struct talk *t, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
		size_t n)
{
	const size_t at = t->len;

	put_frame(t, type, flags, stream, payload, n);
	note(t, at, TALK_PLAIN);
}

void talk_begin(struct talk *t, uint32_t seed)
{
	t->len = 0;
	t->n_frames = t->n_open = 0;
	t->opened = 0;
	made_begin(&t->made, seed, 4096);
	put(t, preface, sizeof(preface) - 1);
	note(t, 0, TALK_PLAIN);
	talk_frame(t, SETTINGS, 0, 0, NULL, 0);
}

void talk_end(struct talk *t)
{
	made_end(&t->made);
}

static uint32_t draw(struct talk *t, uint32_t below)
{
	return made_draw(&t->made, below);
}

/* The block's first frame, with what may stand around the fragment. */
static void put_headers(struct talk *t, uint8_t flags, uint32_t stream, const char *fragment,
			size_t n)
{
	static char payload[FRAME_MAX];
	const size_t prefix = (flags & HAS_PRIORITY) != 0 ? 5 : 0;
	size_t padding = 0, used = 0;

	if ((flags & PADDED) != 0) {
		const size_t most = FRAME_MAX - 1 - prefix - n;

		padding = draw(t, most < 255 ? (uint32_t) most + 1 : 256);
		payload[used++] = (char) padding;
	}
	if (prefix > 0)
		memcpy(payload + used, "\0\0\0\0\x10", prefix);
	memcpy(payload + used + prefix, fragment, n);
	memset(payload + used + prefix + n, 0, padding);
	put_frame(t, HEADERS, flags, stream, payload, used + prefix + n + padding);
}

static void put_block(struct talk *t, uint8_t flags, uint32_t stream, enum talk_block kind)
{
	static char block[MADE_BLOCK_MAX];
	const size_t n = made_block(&t->made, block), at = t->len;
	const uint32_t pieces = draw(t, 4) == 0 ? draw(t, 3) : 0;
	size_t done = 0, part = n;

	if (n > FRAME_MAX - 6 || pieces > 0)
		part = draw(t, n < FRAME_MAX - 6 ? (uint32_t) n + 1 : FRAME_MAX - 5);
	put_headers(t, flags | (part == n ? END_HEADERS : 0), stream, block, part);
	for (done = part; part < n && done <= n; done += part) {
		const size_t left = n - done;

		part = draw(t, 3) == 0 ? draw(t, 40) : left;
		part = part > left ? left : part;
		part = part > FRAME_MAX ? FRAME_MAX : part;
		put_frame(t, CONTINUATION, done + part == n ? END_HEADERS : 0, stream, block + done,
			  part);
		if (done + part == n)
			break;
	}
	note(t, at, kind);
}

static size_t list_size(const struct made *m)
{
	size_t size = 0;

	for (size_t i = 0; i < m->n_fields; i++)
		size += m->fields[i].namelen + m->fields[i].valuelen + HPACK_ENTRY;
	return size;
}

static uint8_t headers_flags(struct talk *t)
{
	return (uint8_t) ((draw(t, 3) == 0 ? PADDED : 0) | (draw(t, 4) == 0 ? HAS_PRIORITY : 0));
}

static void remember(struct talk *t, uint32_t stream, bool ends)
{
	if (!ends)
		t->open[t->n_open++] = stream;
}

static void some_request(struct talk *t)
{
	static const char own[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	const uint32_t stream = 2 * t->opened++ + 1;
	const bool ends = draw(t, 2) == 0;
	enum talk_block kind = TALK_REQUEST;

	made_fields(&t->made, MADE_REQUEST);
	if (draw(t, 8) == 0) {
		made_add(&t->made, "traceparent", own);
		kind = TALK_OWN;
	}
	/* Values up to 16 KiB are followed; blocks may be longer. */
	for (uint32_t big = draw(t, 12) == 0 ? 1 + draw(t, 4) : 0; big > 0; big--) {
		const char *value = made_word(&t->made, 4000 + draw(t, 5000));

		made_add(&t->made, "x-big", value);
	}
	if (list_size(&t->made) > LIST_LARGE)
		kind = kind == TALK_OWN ? TALK_TRAILERS : TALK_MANY;
	put_block(t, headers_flags(t) | (ends ? END_STREAM : 0), stream, kind);
	remember(t, stream, ends);
}

static void some_more(struct talk *t)
{
	static char body[FRAME_MAX];
	const unsigned which = draw(t, t->n_open);
	const uint32_t stream = t->open[which];
	const bool ends = draw(t, 3) == 0;

	if (ends && draw(t, 2) == 0) {
		made_fields(&t->made, MADE_TRAILERS);
		put_block(t, headers_flags(t) | END_STREAM, stream, TALK_TRAILERS);
	} else if (ends && draw(t, 4) == 0) {
		talk_frame(t, RST_STREAM, 0, stream, "\0\0\0\x8", 4);
	} else {
		const size_t n = draw(t, draw(t, 6) == 0 ? FRAME_MAX + 1 : 200);

		for (size_t i = 0; i < n; i++)
			body[i] = (char) draw(t, 256);
		talk_frame(t, DATA, ends ? END_STREAM : 0, stream, body, n);
	}
	if (ends)
		t->open[which] = t->open[--t->n_open];
}

static void some_other(struct talk *t)
{
	switch (draw(t, 5)) {
	case 0:
		talk_frame(t, PING, 0, 0, "12345678", 8);
		break;
	case 1:
		talk_frame(t, WINDOW_UPDATE, 0, 0, "\0\0\1\0", 4);
		break;
	case 2:
		talk_frame(t, PRIORITY, 0, 2 * t->opened + 101, "\0\0\0\0\1", 5);
		break;
	case 3:
		talk_frame(t, 0x40, 0xff, draw(t, 9), "whatever", 8);
		break;
	default:
		talk_frame(t, WINDOW_UPDATE, 0, 1, "\0\0\1\0", 4);
	}
}

void talk_some(struct talk *t, unsigned n)
{
	while (t->opened < n || t->n_open > 0) {
		const uint32_t what = draw(t, 8);

		if (what == 0)
			some_other(t);
		else if (t->n_open > 0 && (what < 5 || t->opened == n))
			some_more(t);
		else if (t->opened < n)
			some_request(t);
	}
}

uint32_t talk_request_with(struct talk *t, bool ends, const char *const *fields, unsigned n)
{
	const uint32_t stream = 2 * t->opened++ + 1;
	static char block[MADE_BLOCK_MAX];
	const size_t at = t->len;

	t->made.n_fields = t->made.used = 0;
	made_add(&t->made, ":method", n > 0 ? "POST" : "GET");
	made_add(&t->made, ":scheme", "http");
	made_add(&t->made, ":path", "/talk");
	made_add(&t->made, ":authority", "them");
	for (unsigned i = 0; i < n; i++)
		made_add(&t->made, fields[2 * i], fields[2 * i + 1]);

	const size_t len = made_block(&t->made, block);

	put_frame(t, HEADERS, END_HEADERS | (ends ? END_STREAM : 0), stream, block, len);
	note(t, at, TALK_REQUEST);
	remember(t, stream, ends);
	return stream;
}

uint32_t talk_request(struct talk *t, bool ends)
{
	return talk_request_with(t, ends, NULL, 0);
}

/* Does @at lie within the head of a frame of the block? */
static bool in_a_head(const struct talk *t, const struct talk_frame *f, size_t at)
{
	for (size_t head = f->at; head < f->end;) {
		if (at > head && at < head + HTTP2_FRAME_HEAD)
			return true;
		head += HTTP2_FRAME_HEAD + http2_frame_length(t->bytes + head);
	}
	return false;
}

void talk_cut(struct talk *t, size_t at)
{
	for (unsigned i = 0; i < t->n_frames; i++) {
		struct talk_frame *f = &t->frames[i];

		if (f->block != TALK_PLAIN && at > f->at && at < f->end)
			f->cut = f->cut || in_a_head(t, f, at);
	}
}

/* ---- checking ---- */

/* A header block as it is on the wire, or in the program. */
struct block {
	uint32_t stream;
	uint8_t flags;   /* of its first frame, but END_HEADERS */
	uint8_t around[1 + 5];
	size_t n_around; /* padding's length and priority */
	size_t len;
	char fragment[2 * MADE_BLOCK_MAX];
};

/* Reads all frames of a block; returns what is wrong, "" when it ends too soon. */
static const char *read_block(const char *bytes, size_t n, size_t *at, struct block *b)
{
	uint8_t flags;

	b->len = b->n_around = 0;
	for (bool first = true;; first = false) {
		const char *head = bytes + *at, *payload = head + HTTP2_FRAME_HEAD;
		size_t padding = 0, skip = 0;

		if (n - *at < HTTP2_FRAME_HEAD)
			return "";

		const size_t len = http2_frame_length(head);
		const uint32_t stream = (uint32_t) (uint8_t) head[7] << 8 | (uint8_t) head[8];

		flags = (uint8_t) head[4];
		if (len > FRAME_MAX)
			return "a frame is too long";
		if (head[3] != (first ? HEADERS : CONTINUATION))
			return "a frame of another type within a block";
		if (first)
			b->stream = stream;
		else if (stream != b->stream)
			return "a frame of another stream within a block";
		if (n - *at - HTTP2_FRAME_HEAD < len)
			return "";
		if (first) {
			b->flags = flags & (uint8_t) ~END_HEADERS;
			if ((flags & PADDED) != 0)
				padding = (uint8_t) payload[skip++];
			skip += (flags & HAS_PRIORITY) != 0 ? 5 : 0;
			memcpy(b->around, payload, skip);
			b->n_around = skip;
		}
		if (skip + padding > len)
			return "no room for the padding";
		for (size_t i = len - padding; i < len; i++)
			if (payload[i] != 0)
				return "the padding is not as it was";
		memcpy(b->fragment + b->len, payload + skip, len - skip - padding);
		b->len += len - skip - padding;
		*at += HTTP2_FRAME_HEAD + len;
		if ((flags & END_HEADERS) != 0)
			return NULL;
	}
}

/* The literals behind the program's block. */
static const char *read_ours(const char *at, size_t n, unsigned *ret_parents, unsigned *ret_b3s)
{
	*ret_parents = *ret_b3s = 0;
	while (n > 0) {
		if (n >= 69 && memcmp(at, "\0\x0btraceparent\x37" "00-", 17) == 0) {
			++*ret_parents;
			at += 69;
			n -= 69;
		} else if (n >= 56 && memcmp(at, "\0\2b3\x33", 5) == 0) {
			++*ret_b3s;
			at += 56;
			n -= 56;
		} else {
			return "bytes of a block are neither the program's nor ours";
		}
	}
	return NULL;
}

static const char *check_ours(const struct talk_frame *f, const char *at, size_t n, bool maybe,
			      unsigned *added)
{
	static const struct {
		unsigned parents, b3s;
	} wanted[] = {
		[TALK_REQUEST] = { 1, 1 },
		[TALK_OWN] = { 0, 1 },
		[TALK_MANY] = { 1, 0 },
		[TALK_TRAILERS] = { 0, 0 },
	};
	unsigned parents, b3s;
	const char *wrong = read_ours(at, n, &parents, &b3s);

	if (wrong != NULL)
		return wrong;
	*added += n > 0;
	if (n == 0 && (maybe || f->cut))
		return NULL;
	if (parents != wanted[f->block].parents || b3s != wanted[f->block].b3s)
		return "our fields are not as they should be";
	return NULL;
}

static const char *check_block(const struct talk *t, const struct talk_frame *f, const char *wire,
			       size_t n, size_t *w, bool maybe, unsigned *added)
{
	static struct block was, is;
	size_t at = f->at;
	const char *wrong;

	(void) read_block(t->bytes, t->len, &at, &was);
	wrong = read_block(wire, n, w, &is);
	if (wrong != NULL)
		return wrong;
	if (is.stream != was.stream || is.flags != was.flags || is.n_around != was.n_around ||
	    memcmp(is.around, was.around, was.n_around) != 0)
		return "the head of a block is not the program's";
	if (is.len < was.len || memcmp(is.fragment, was.fragment, was.len) != 0)
		return "a block does not begin with the program's";
	return check_ours(f, is.fragment + was.len, is.len - was.len, maybe, added);
}

static const char *check_plain(const struct talk *t, const struct talk_frame *f, const char *wire,
			       size_t n, size_t *w)
{
	for (size_t i = f->at; i < f->end; i++, ++*w) {
		if (*w == n)
			return "";
		if (wire[*w] != t->bytes[i])
			return "a byte is not the program's";
	}
	return NULL;
}

const char *talk_check(const struct talk *t, const char *wire, size_t n, bool whole, bool maybe,
		       unsigned *ret_added, size_t *ret_at)
{
	unsigned added = 0;

	*ret_at = 0;
	for (unsigned i = 0; i < t->n_frames; i++) {
		const struct talk_frame *f = &t->frames[i];
		const char *wrong =
			f->block == TALK_PLAIN
				? check_plain(t, f, wire, n, ret_at)
				: check_block(t, f, wire, n, ret_at, maybe, &added);

		if (ret_added != NULL)
			*ret_added = added;
		if (wrong != NULL && *wrong == '\0')
			return whole ? "it ends too soon" : NULL;
		if (wrong != NULL)
			return wrong;
	}
	return *ret_at == n ? NULL : "there are bytes after the end";
}
