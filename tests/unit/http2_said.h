/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an HTTP/2 machine said of a connection, a line a stop for each direction, however the
 * bytes came. Memory is a block of its exact size, so that sanitizers see a byte too far.
 */
#ifndef TESTS_UNIT_HTTP2_SAID_H
#define TESTS_UNIT_HTTP2_SAID_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http2.h"
#include "core/text.h"
#include "tests/unit/said_fields.h"

#define SAID2_ROOM (64 * 1024)

struct said2 {
	struct http2 h;
	const struct http1_extra *extra;
	char *memory;
	size_t size;            /* of it; it serves again where it can */
	const char *wrong; /* what must never be, was */
	bool places;       /* lines end with the number of bytes taken before, but for the last */
	uint64_t at[2];    /* bytes taken in all, by side */
	struct text lines[2];
	char room[2][SAID2_ROOM];
};

static const char *const said2_kinds[] = { "request", "early", "response", "trailers" };

static inline void said2_begin(struct said2 *s, enum http2_role role, size_t memory,
			       const struct http1_extra *extra)
{
	if (s->size != memory) {
		free(s->memory);
		s->memory = malloc(memory);
		s->size = memory;
	}
	http2_init(&s->h, role, s->memory, memory);
	s->extra = extra;
	s->wrong = NULL;
	for (int side = 0; side < 2; side++) {
		s->at[side] = 0;
		s->lines[side] = text_in(s->room[side], SAID2_ROOM);
	}
}

static inline void said2_word_if(struct text *t, bool is, const char *word)
{
	if (is)
		text_add(t, word);
}

static inline void said2_block(struct said2 *s, const struct http2_flow *f, struct text *t)
{
	if (f->kind == HTTP2_REQUEST) {
		text_add(t, " ");
		text_add(t, http1_method_name(f->method));
	}
	if (f->status > 0) {
		text_add(t, " ");
		text_add_u64(t, f->status);
	}
	if (f->grpc_status >= 0) {
		text_add(t, " grpc ");
		text_add_i64(t, f->grpc_status);
	}
	said2_word_if(t, f->tunnel, " tunnel");
	said2_word_if(t, f->end_stream, " last");
	said2_word_if(t, f->fields_cut, " fields-cut");
	for (unsigned i = 0; i < f->n_fields; i++) {
		const struct http1_slice *const v = &f->fields[i];

		if (v->id >= HTTP2_FIELD_IDS || v->at + v->len > f->values_size)
			s->wrong = "a slice outside the values";
		text_add(t, " ");
		text_add(t, v->id == HTTP1_TARGET ? "path" : said_fields[v->id]);
		text_add(t, "=");
		text_add_n(t, f->values + v->at, v->len);
		said2_word_if(t, v->cut, "~");
	}
}

static inline void said2_number(struct text *t, const char *word, uint64_t value)
{
	text_add(t, word);
	text_add_u64(t, value);
}

static inline void said2_stop(struct said2 *s, enum http1_side side, enum http2_stop stop)
{
	const struct http2_flow *const f = &s->h.flows[side];
	struct text *const t = &s->lines[side];

	switch (stop) {
	case HTTP2_MORE:
	case HTTP2_HOLD:
		return;
	case HTTP2_HEAD:
		said2_number(t, "head ", f->stream);
		said2_word_if(t, f->slot == HTTP2_NO_SLOT, " no slot");
		break;
	case HTTP2_BLOCK_END:
		said2_number(t, "add ", f->place.stream);
		break;
	case HTTP2_HEADERS:
		text_add(t, said2_kinds[f->kind]);
		said2_number(t, " ", f->stream);
		said2_block(s, f, t);
		break;
	case HTTP2_END_STREAM:
		said2_number(t, "end ", f->stream);
		break;
	case HTTP2_RESET:
		said2_number(t, "reset ", f->stream);
		said2_number(t, " code ", f->code);
		break;
	case HTTP2_GOAWAY:
		said2_number(t, "goaway ", f->last_stream);
		said2_number(t, " code ", f->code);
		break;
	case HTTP2_OPAQUE:
		text_add(t, "opaque: ");
		text_add(t, http2_reason_name((enum http2_reason) f->reason));
		if (f->reason == HTTP2_FOLLOWED)
			s->wrong = "opaque without a reason";
		break;
	}
	if (stop == HTTP2_END_STREAM || stop == HTTP2_RESET)
		said2_word_if(t, f->closed, " closed");
	if (s->places && stop != HTTP2_OPAQUE)
		said2_number(t, " @", s->at[side]);
	text_add(t, "\n");
}

/* Feeds all of it, as a caller does; the next call of the program's has @after bytes in it. */
static inline void said2_feed(struct said2 *s, enum http1_side side, const char *bytes, size_t n)
{
	struct http2_input in = { .bytes = bytes, .n = n };
	enum http2_stop stop;

	do {
		size_t used = SIZE_MAX;

		stop = http2_feed(&s->h, side, s->extra, &in, &used);
		if (used > in.n || (stop == HTTP2_MORE && used != in.n)) {
			s->wrong = "more or fewer bytes taken than given";
			return;
		}
		s->at[side] += used;
		http2_on(&in, used);
		said2_stop(s, side, stop);
	} while (stop != HTTP2_MORE);
}

static inline bool said2_same(const struct said2 *a, const struct said2 *b)
{
	for (int side = 0; side < 2; side++) {
		if (a->lines[side].used != b->lines[side].used ||
		    memcmp(a->room[side], b->room[side], a->lines[side].used) != 0)
			return false;
	}
	return true;
}

#endif
