/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A direction of HTTP/1 from anybody. The first byte says which and how large the arena is, the
 * second by how much that grows; the rest are its bytes. However they are cut, what is said and
 * kept is the same; copies can be come back to, bodies can be skipped, opaque is for good.
 */
#include "core/http1.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/http1_said.h"

static const struct http1_extra extra = {
	.n = 3,
	.names = { "x-request-id", "connection", "accept" },
};

static const enum http1_method tos[] = { HTTP1_OTHER, HTTP1_GET, HTTP1_HEAD, HTTP1_CONNECT };

struct input {
	uint8_t side, to, arena, grow;
	const char *bytes;
	size_t n;
	uint64_t random;
};

static void begin(struct said *s, const struct input *in)
{
	said_begin(s, in->side, in->arena, in->grow, &extra);
	s->p.to = tos[in->to];
}

static void check(const struct said *s)
{
	const struct http1 *const p = &s->p;

	if (s->wrong)
		fuzz_failed(__FILE__, __LINE__, s->wrong);
	FUZZ_CHECK(p->used <= p->size);
	FUZZ_CHECK(p->n_fields <= HTTP1_FIELDS_MAX);
	FUZZ_CHECK(p->head_bytes <= HTTP1_HEAD_MAX);
	FUZZ_CHECK(p->name_used <= HTTP1_NAME_SIZE);
	FUZZ_CHECK(p->reason < HTTP1_REASONS);
	for (unsigned i = 0; i < p->n_fields; i++) {
		FUZZ_CHECK(p->fields[i].id < HTTP1_FIELD_IDS);
		FUZZ_CHECK(p->fields[i].at + p->fields[i].len <= p->used);
	}
}

/* A copy of its own size, so that a sanitizer sees a byte too far. */
static void feed(struct said *s, const char *bytes, size_t n)
{
	char *const copy = malloc(n > 0 ? n : 1);

	if (n > 0)
		memcpy(copy, bytes, n);
	said_feed(s, copy, n);
	free(copy);
	check(s);
}

static uint64_t draw(struct input *in, uint64_t below)
{
	in->random = in->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (in->random >> 33) % below;
}

static size_t draw_length(struct input *in, size_t at, size_t longest)
{
	const size_t n = 1 + draw(in, longest);

	return n < in->n - at ? n : in->n - at;
}

/* Bytes of bodies are now and then skipped. */
static void feed_cut(struct said *s, struct input *in, size_t longest)
{
	for (size_t at = 0, n; at < in->n; at += n) {
		n = draw_length(in, at, longest);
		if (said_in_body(s) && draw(in, 2))
			n = said_skip(s, n);
		else
			feed(s, in->bytes + at, n);
		check(s);
	}
	feed(s, NULL, 0);
}

static void check_cuts(const struct said *whole, struct input *in)
{
	static const size_t longest[] = { 1, 8, 57, 400 };
	static struct said parts;

	begin(&parts, in);
	feed_cut(&parts, in, longest[draw(in, sizeof(longest) / sizeof(longest[0]))]);
	FUZZ_CHECK(said_same(whole, &parts));
}

static void feed_rest_of_message(struct http1 *p, const struct input *in, size_t at)
{
	const size_t begin = at;

	while (at < in->n && (at == begin || !http1_between(p))) {
		const size_t end = at + 1;
		enum http1_stop stop;

		do {
			size_t used;

			stop = http1_feed(p, &extra, in->bytes + at, end - at, &used);
			at += used;
			if (stop == HTTP1_FULL)
				http1_cut(p);
		} while (stop != HTTP1_MORE);
	}
}

/* Some bytes of a message are taken back and fed again. */
static void check_copies(struct input *in)
{
	static struct said whole, again;
	const size_t at = draw(in, in->n + 1);

	in->arena = UINT8_MAX;
	in->grow = 0;
	begin(&whole, in);
	feed(&whole, in->bytes, in->n);
	begin(&again, in);
	feed(&again, in->bytes, at);

	const struct http1 copy = again.p;

	feed_rest_of_message(&again.p, in, at);
	again.p = copy;
	feed(&again, in->bytes + at, in->n - at);
	FUZZ_CHECK(said_same(&whole, &again));
}

static void check_end(struct said *s)
{
	static const char get[] = "\r\n\r\nGET / HTTP/1.1\r\n\r\n";
	const bool between = http1_between(&s->p), until_close = s->p.until_close;
	const enum http1_reason reason = s->p.reason;
	const size_t n_stops = s->n_stops;
	const enum http1_stop stop = http1_end(&s->p);

	FUZZ_CHECK((stop == HTTP1_MORE) == between);
	FUZZ_CHECK(stop != HTTP1_DONE || until_close);
	FUZZ_CHECK((stop == HTTP1_OPAQUE) == (s->p.reason != HTTP1_FOLLOWED));
	FUZZ_CHECK(reason == HTTP1_FOLLOWED || reason == s->p.reason);
	if (stop != HTTP1_OPAQUE)
		return;
	feed(s, get, sizeof(get) - 1); /* for good */
	FUZZ_CHECK(s->n_stops == n_stops && said_skip(s, 7) == 7 && s->n_stops == n_stops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct said whole;

	if (size < 2)
		return 0;

	struct input in = {
		.side = data[0] & 1,
		.to = data[0] >> 1 & 3,
		.arena = data[0] >> 3, /* 0 to 31: most are soon full */
		.grow = data[1],
		.bytes = (const char *) data + 2,
		.n = size - 2,
	};

	for (size_t i = 0; i < size; i++)
		in.random = in.random * 31 + data[i];
	begin(&whole, &in);
	feed(&whole, in.bytes, in.n);
	check_cuts(&whole, &in);
	check_end(&whole);
	check_copies(&in);
	return 0;
}
