/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 connection from anybody. The first byte says how it begins; calls follow, a byte of
 * `length:7 | side:1` before each. However they are cut, what is said is the same; and what a
 * client sends with our fields in it says the same to a server, but for these fields.
 */
#include "core/http2.h"

#include <string.h>

#include "core/heap.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/http2_said.h"

static const struct http1_extra ours = { .n = 1, .names = { "x-ours" } };
static const char value[] = "0123456789012345678901234567890123456789";

struct input {
	enum http2_role role;
	bool greeted; /* both sides have sent and acknowledged SETTINGS */
	bool narrow;  /* little memory */
	bool holds;
	const char *bytes; /* the calls */
	size_t n;
	uint64_t random;
};

static uint64_t draw(struct input *in, uint64_t below)
{
	in->random = in->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (in->random >> 33) % below;
}

static void check(const struct said2 *s)
{
	if (s->wrong)
		fuzz_failed(__FILE__, __LINE__, s->wrong);
	for (int side = 0; side < 2; side++) {
		const struct http2_flow *f = &s->h.flows[side];

		FUZZ_CHECK(f->reason < HTTP2_REASONS);
		FUZZ_CHECK(f->n_fields <= HTTP2_FIELDS_MAX);
		FUZZ_CHECK(f->values_used <= f->values_size);
		FUZZ_CHECK(f->list_size <= HTTP2_LIST_MAX);
		FUZZ_CHECK(!s->lines[side].cut);
	}
}

/* A copy of its own size, so that a sanitizer sees a byte too far. */
static void feed(struct said2 *s, enum http1_side side, const char *bytes, size_t n)
{
	char *const copy = malloc(n > 0 ? n : 1);

	if (n > 0)
		memcpy(copy, bytes, n);
	said2_feed(s, side, copy, n);
	free(copy);
	check(s);
}

static void greet(struct said2 *s)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	static const char settings[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
	static const char ack[] = { 0, 0, 0, 4, 1, 0, 0, 0, 0 };

	feed(s, HTTP1_REQUESTS, preface, sizeof(preface) - 1);
	for (int side = 0; side < 2; side++)
		feed(s, (enum http1_side) side, settings, sizeof(settings));
	for (int side = 0; side < 2; side++)
		feed(s, (enum http1_side) side, ack, sizeof(ack));
}

static void begin(struct said2 *s, const struct input *in, enum http2_role role)
{
	said2_begin(s, role, in->narrow ? HTTP2_MEMORY_MIN : HTTP2_MEMORY, &ours);
	s->places = true;
	if (in->greeted)
		greet(s);
}

/* Takes a call off the front; false when there is none. */
static bool next_call(const struct input *in, size_t *at, enum http1_side *ret_side, size_t *ret_n)
{
	if (*at == in->n)
		return false;

	const uint8_t c = (uint8_t) in->bytes[(*at)++];
	const size_t left = in->n - *at, n = c >> 1;

	*ret_side = (enum http1_side)(c & 1);
	*ret_n = n < left ? n : left;
	return true;
}

/* Calls in parts of up to @longest bytes; 0: whole. */
static void feed_calls(struct said2 *s, struct input *in, size_t longest)
{
	enum http1_side side;
	size_t n;

	for (size_t at = 0; next_call(in, &at, &side, &n); at += n) {
		for (size_t done = 0, part; done < n; done += part) {
			part = longest > 0 ? 1 + draw(in, longest) : n;
			part = part < n - done ? part : n - done;
			feed(s, side, in->bytes + at + done, part);
		}
	}
}

static void check_opaque_for_good(struct said2 *s)
{
	static const char get[] = { 0, 0, 1, 1, 5, 0, 0, 0, 1, '\x82' };

	for (int side = 0; side < 2; side++) {
		const size_t used = s->lines[side].used;
		uint64_t skipped;

		if (s->h.flows[side].reason == HTTP2_FOLLOWED)
			continue;
		feed(s, (enum http1_side) side, get, sizeof(get));
		FUZZ_CHECK(s->lines[side].used == used);
		FUZZ_CHECK(http2_skip(&s->h, (enum http1_side) side, 7, &skipped) == HTTP2_MORE);
		FUZZ_CHECK(skipped == 7);
	}
}

/* ---- with our fields ---- */

#define CHANGED_MAX 65536

struct out {
	char bytes[CHANGED_MAX]; /* of one call, as it goes out */
	size_t n, taken;         /* taken: of the call's bytes */
};

/* Goes on to @at of the call's bytes, and changes what is there. */
static void change(struct out *out, const char *call, size_t n, size_t place,
		   const struct http2_edit *e)
{
	const size_t at = (size_t) ((ptrdiff_t) place + e->at);

	FUZZ_CHECK(at >= out->taken && at + e->replaced <= n);
	FUZZ_CHECK(out->n + (at - out->taken) + e->n <= CHANGED_MAX);
	memcpy(out->bytes + out->n, call + out->taken, at - out->taken);
	out->n += at - out->taken;
	memcpy(out->bytes + out->n, e->bytes, e->n);
	out->n += e->n;
	out->taken = at + e->replaced;
}

static void add(struct http2 *h, struct out *out, const char *call, size_t n, size_t place)
{
	char room[128];
	struct http2_literals l = http2_literals_in(room, sizeof(room));
	struct http2_edits e;

	FUZZ_CHECK(http2_literal(&l, "x-ours", value, sizeof(value) - 1));
	(void) http2_edits(&h->flows[HTTP1_REQUESTS].place, &l, &e);
	for (unsigned i = 0; i < e.n; i++)
		change(out, call, n, place, &e.list[i]);
}

/* A call of the client's, in parts: what is to go out for it is in @out. */
static void send_call(struct said2 *client, struct input *in, const char *call, size_t n,
		      struct out *out)
{
	out->n = out->taken = 0;
	for (size_t at = 0, part; at < n; at += part) {
		part = draw(in, 2) ? n - at : 1 + draw(in, n - at);

		struct http2_input input = { call + at, part, at, n - at - part };
		enum http2_stop stop;
		size_t used;

		do {
			stop = http2_feed(&client->h, HTTP1_REQUESTS, &ours, &input, &used);
			http2_on(&input, used);
			said2_stop(client, HTTP1_REQUESTS, stop);
			if (stop == HTTP2_HOLD && in->holds && draw(in, 4)) {
				struct http2_edit e;

				http2_hold(&client->h, &e);
				change(out, call, n, input.before, &e);
			} else if (stop == HTTP2_BLOCK_END) {
				add(&client->h, out, call, n, input.before);
			}
		} while (stop != HTTP2_MORE);
	}
	FUZZ_CHECK(out->n + n - out->taken <= CHANGED_MAX);
	memcpy(out->bytes + out->n, call + out->taken, n - out->taken);
	out->n += n - out->taken;
}

/* Leaves out ours, that they were one too many to keep, and where fields could be added. */
static void without_ours(const struct said2 *s, enum http1_side side, char *ret)
{
	static const char cut[] = " fields-cut";
	char mark[64];
	size_t used = 0;
	const size_t n_mark = (size_t) snprintf(mark, sizeof(mark), " extra0=%s", value);

	for (const char *line = s->room[side]; *line != '\0';) {
		const size_t n = strcspn(line, "\n") + 1;
		const bool add = strncmp(line, "add ", 4) == 0;

		for (size_t i = 0; i < n && !add;) {
			if (strncmp(line + i, mark, n_mark) == 0)
				i += n_mark;
			else if (strncmp(line + i, cut, sizeof(cut) - 1) == 0)
				i += sizeof(cut) - 1;
			else
				ret[used++] = line[i++];
		}
		line += n;
	}
	ret[used] = '\0';
}

static void check_with_ours(struct input *in)
{
	static struct said2 client, server;
	static struct out out;
	static char sent[SAID2_ROOM], read[SAID2_ROOM];
	enum http1_side side;
	size_t n;

	in->narrow = false; /* ours take a little */
	begin(&client, in, HTTP2_CLIENT);
	begin(&server, in, HTTP2_SERVER);
	client.places = server.places = false;
	for (size_t at = 0; next_call(in, &at, &side, &n); at += n) {
		if (side == HTTP1_RESPONSES) {
			feed(&client, side, in->bytes + at, n);
			feed(&server, side, in->bytes + at, n);
			continue;
		}
		send_call(&client, in, in->bytes + at, n, &out);
		feed(&server, side, out.bytes, out.n);
	}
	if (client.h.flows[HTTP1_REQUESTS].broken != HTTP2_FOLLOWED)
		return; /* opaque at the end of the frame only, which may not have come */
	for (int s = 0; s < 2; s++) {
		without_ours(&client, (enum http1_side) s, sent);
		without_ours(&server, (enum http1_side) s, read);
		FUZZ_CHECK(strcmp(sent, read) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t longest[] = { 1, 3, 12, 60 };
	static struct said2 whole, parts;

	if (size < 1)
		return 0;

	struct input in = {
		.role = data[0] & 1 ? HTTP2_SERVER : HTTP2_CLIENT,
		.greeted = !(data[0] & 2),
		.narrow = data[0] & 4,
		.holds = !(data[0] & 8),
		.bytes = (const char *) data + 1,
		.n = size - 1,
	};

	for (size_t i = 0; i < size; i++)
		in.random = in.random * 31 + data[i];
	begin(&whole, &in, in.role);
	feed_calls(&whole, &in, 0);
	begin(&parts, &in, in.role);
	feed_calls(&parts, &in, longest[draw(&in, 4)]);
	FUZZ_CHECK(said2_same(&whole, &parts));
	for (int side = 0; side < 2; side++)
		FUZZ_CHECK(heap_sound(parts.h.flows[side].hpack.heap));
	check_opaque_for_good(&whole);
	check_with_ours(&in);
	return 0;
}
