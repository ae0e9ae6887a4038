/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an HTTP/1 parser said of one direction, stop by stop and head by head, however the
 * bytes came. Arenas are blocks of their exact size, so that sanitizers see a byte too far.
 */
#ifndef TESTS_UNIT_HTTP1_SAID_H
#define TESTS_UNIT_HTTP1_SAID_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http1.h"
#include "core/text.h"
#include "tests/unit/said_fields.h"

#define SAID_STOPS_MAX 4096
#define SAID_HEADS_MAX (256 * 1024)

struct said {
	struct http1 p;
	const struct http1_extra *extra;
	size_t grow;       /* a full arena grows by so much; 0: the head's values are cut */
	char *arena;
	size_t at;         /* bytes taken in all */
	size_t line_at;    /* where the present message began */
	uint64_t length;   /* of its body, as known at the end of its head */
	const char *wrong; /* what must never be, was */
	size_t n_stops;
	struct {
		size_t stop, at; /* enum http1_stop; no padding, for memcmp() */
	} stops[SAID_STOPS_MAX];
	struct text heads; /* a line a head: "GET/1.1 method=GET target=/ host=a", "204/1.1" */
	char heads_room[SAID_HEADS_MAX];
};

static inline void said_arena(struct said *s, size_t size)
{
	char *const arena = size > 0 ? malloc(size) : NULL;

	http1_move(&s->p, arena, size);
	free(s->arena);
	s->arena = arena;
}

static inline void said_begin(struct said *s, enum http1_side side, size_t arena, size_t grow,
			      const struct http1_extra *extra)
{
	free(s->arena);
	s->arena = arena > 0 ? malloc(arena) : NULL;
	http1_init(&s->p, side, s->arena, arena);
	s->extra = extra;
	s->grow = grow;
	s->at = s->line_at = s->n_stops = 0;
	s->wrong = NULL;
	s->heads = text_in(s->heads_room, sizeof(s->heads_room));
}

static inline void said_word_if(struct said *s, bool is, const char *word)
{
	if (is)
		text_add(&s->heads, word);
}

static inline void said_slices(struct said *s)
{
	const struct http1 *const p = &s->p;

	for (unsigned i = 0; i < p->n_fields; i++) {
		const struct http1_slice *const f = &p->fields[i];

		if (f->at + f->len > p->size)
			s->wrong = "a slice outside the arena";
		text_add(&s->heads, " ");
		text_add(&s->heads, said_fields[f->id]);
		text_add(&s->heads, "=");
		if (f->len > 0)
			text_add_n(&s->heads, s->arena + f->at, f->len);
		said_word_if(s, f->cut, "~");
	}
}

static inline void said_head(struct said *s)
{
	const struct http1 *const p = &s->p;

	if (p->head_bytes != s->at - s->line_at)
		s->wrong = "head_bytes are not the head's";
	s->length = p->to_read;
	if (p->side == HTTP1_REQUESTS)
		text_add(&s->heads, http1_method_name(p->method));
	else
		text_add_u64(&s->heads, p->status);
	text_add(&s->heads, p->minor ? "/1.1" : "/1.0");
	said_word_if(s, p->last, " last");
	said_word_if(s, p->upgrade, " upgrade");
	said_word_if(s, p->expects, " expects");
	said_word_if(s, p->until_close, " until-close");
	said_word_if(s, p->fields_cut, " fields-cut");
	if (p->to_read > 0) {
		text_add(&s->heads, " length=");
		text_add_u64(&s->heads, p->to_read);
	}
	said_slices(s);
	text_add(&s->heads, "\n");
}

static inline void said_stop(struct said *s, enum http1_stop stop)
{
	if (s->n_stops < SAID_STOPS_MAX) {
		s->stops[s->n_stops].stop = stop;
		s->stops[s->n_stops].at = s->at;
		s->n_stops++;
	}
	if (stop == HTTP1_LINE)
		s->line_at = s->at;
	if (stop == HTTP1_HEAD_DONE)
		said_head(s);
	if (stop != HTTP1_FULL)
		return;
	if (s->p.used != s->p.size)
		s->wrong = "full, with room in the arena";
	if (s->grow > 0 && s->p.size + s->grow <= UINT16_MAX)
		said_arena(s, s->p.size + s->grow);
	else
		http1_cut(&s->p);
}

/* Feeds all of it, as a caller does. */
static inline void said_feed(struct said *s, const char *bytes, size_t n)
{
	enum http1_stop stop;

	do {
		size_t used = SIZE_MAX;

		stop = http1_feed(&s->p, s->extra, bytes, n, &used);
		if (used > n || (stop == HTTP1_MORE && used != n)) {
			s->wrong = "more or fewer bytes taken than given";
			return;
		}
		bytes += used;
		n -= used;
		s->at += used;
		if (stop != HTTP1_MORE)
			said_stop(s, stop);
		if (stop == HTTP1_OPAQUE && s->p.reason == HTTP1_FOLLOWED)
			s->wrong = "opaque without a reason";
	} while (stop != HTTP1_MORE);
}

/* Within a body whose length was said in its head, or that lasts until close. */
static inline bool said_in_body(const struct said *s)
{
	return s->n_stops > 0 && s->stops[s->n_stops - 1].stop == HTTP1_HEAD_DONE &&
	       (s->length > 0 || s->p.until_close);
}

/* Skips up to @n bytes; returns how many. */
static inline size_t said_skip(struct said *s, size_t n)
{
	uint64_t used = UINT64_MAX;
	const enum http1_stop stop = http1_skip(&s->p, n, &used);

	if (used > n || (stop == HTTP1_MORE && used != n)) {
		s->wrong = "more or fewer bytes skipped than given";
		return n;
	}
	s->at += used;
	if (stop != HTTP1_MORE)
		said_stop(s, stop);
	return used;
}

static inline bool said_same(const struct said *a, const struct said *b)
{
	return a->n_stops == b->n_stops && a->p.reason == b->p.reason &&
	       memcmp(a->stops, b->stops, a->n_stops * sizeof(a->stops[0])) == 0 &&
	       a->heads.used == b->heads.used &&
	       memcmp(a->heads_room, b->heads_room, a->heads.used) == 0;
}

#endif
