/* SPDX-License-Identifier: Apache-2.0 */
/* What is added to an HTTP/2 request: literals, frames, and where they go. */
#include "core/http2.h"

#include <assert.h>
#include <string.h>

#define FLAGS_AT     4 /* in the head of a frame */
#define CONTINUATION 9
#define END_HEADERS  0x04

void http2_frame_head(char ret[HTTP2_FRAME_HEAD], uint32_t length, uint8_t type, uint8_t flags,
		      uint32_t stream)
{
	for (unsigned i = 0; i < 3; i++)
		ret[i] = (char) (length >> (16 - 8 * i));
	ret[3] = (char) type;
	ret[FLAGS_AT] = (char) flags;
	for (unsigned i = 0; i < 4; i++)
		ret[5 + i] = (char) (stream >> (24 - 8 * i));
}

struct http2_literals http2_literals_in(char *room, size_t size)
{
	assert(size >= HTTP2_FRAME_HEAD);
	return (struct http2_literals) { .room = room, .size = size, .used = HTTP2_FRAME_HEAD };
}

/* A length after the bit that says whether Huffman code follows (RFC 7541, 5.1). */
static size_t put_length(char ret[6], uint32_t n)
{
	size_t used = 1;

	if (n < 127) {
		ret[0] = (char) n;
		return 1;
	}
	ret[0] = 127;
	for (n -= 127; n >= 128; n >>= 7)
		ret[used++] = (char) (n | 128);
	ret[used++] = (char) n;
	return used;
}

/* At most; exactly below 16,511. */
static size_t string_size(size_t n)
{
	return n + (n < 127 ? 1 : n < 127 + 128 ? 2 : n < 127 + 16384 ? 3 : 6);
}

static size_t put_string(char *to, const char *s, size_t n)
{
	const size_t used = put_length(to, (uint32_t) n);

	if (n > 0)
		memcpy(to + used, s, n);
	return used + n;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool may_stand(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (((unsigned char) value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f)
			return false;
	}
	return true;
}

bool http2_literal(struct http2_literals *l, const char *name, const char *value, size_t len)
{
	const size_t name_len = strlen(name);

	for (; len > 0 && blank(*value); len--)
		value++;
	while (len > 0 && blank(value[len - 1]))
		len--;
	if (!may_stand(value, len))
		return false;
	if (1 + string_size(name_len) + string_size(len) > l->size - l->used) {
		l->cut = true;
		return false;
	}
	l->room[l->used++] = 0;
	l->used += put_string(l->room + l->used, name, name_len);
	l->used += put_string(l->room + l->used, value, len);
	l->list_size += (uint32_t) (name_len + len + HPACK_ENTRY);
	return true;
}

static void edit(struct http2_edits *e, ptrdiff_t at, size_t replaced, const char *bytes, size_t n)
{
	e->list[e->n++] = (struct http2_edit) { at, replaced, bytes, n };
}

/* @n bytes of literals, in a frame that ends the block. */
static void add_continuation(const struct http2_place *p, struct http2_literals *l, size_t n,
			     struct http2_edits *ret)
{
	http2_frame_head(l->room, (uint32_t) n, CONTINUATION, END_HEADERS, p->stream);
	edit(ret, p->held ? 0 : p->padding, 0, l->room, HTTP2_FRAME_HEAD + n);
}

/* Into the frame itself: its length grows. */
static void add_within(const struct http2_place *p, struct http2_literals *l, size_t n,
		       struct http2_edits *ret)
{
	char head[HTTP2_FRAME_HEAD];

	http2_frame_head(head, p->length + (uint32_t) n, 0, 0, 0);
	memcpy(ret->room, head, 3);
	edit(ret, -(ptrdiff_t) p->back, 3, ret->room, 3);
	edit(ret, 0, 0, l->room + HTTP2_FRAME_HEAD, n);
}

/* Behind it: it no longer ends the block. */
static void add_behind(const struct http2_place *p, struct http2_literals *l, size_t n,
		       struct http2_edits *ret)
{
	ret->room[0] = (char) (p->flags & ~END_HEADERS);
	edit(ret, FLAGS_AT - (ptrdiff_t) p->back, 1, ret->room, 1);
	add_continuation(p, l, n, ret);
}

bool http2_edits(const struct http2_place *p, struct http2_literals *l, struct http2_edits *ret)
{
	const size_t n = l->used - HTTP2_FRAME_HEAD;
	const bool fit = p->may_add && n <= p->frame_limit &&
			 (uint64_t) p->list_size + l->list_size <= p->list_limit;

	ret->n = 0;
	if (p->held) {
		add_continuation(p, l, fit ? n : 0, ret);
		return fit || n == 0;
	}
	if (n == 0)
		return true;
	if (!fit)
		return false;
	if (p->in_hand >= p->back && p->frame_limit - n >= p->length) {
		add_within(p, l, n, ret);
		return true;
	}
	if (!p->whole || p->in_hand < p->back - FLAGS_AT)
		return false;
	add_behind(p, l, n, ret);
	return true;
}
