/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fields added to HTTP/2 requests: the bytes of a literal, the changes that each place asks
 * for, and the proof: a client's bytes, written in calls of any size with our fields in them,
 * are what a server reads: the client's fields and ours, its trailers and bodies untouched,
 * every frame within the server's limits. The server is nghttp2's session where there is one.
 */
#include "core/http2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "core/text.h"
#include "tests/unit/edge.h"
#include "tests/unit/h2_made.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };

#define CONTINUATION 9
#define END_STREAM   1
#define END_HEADERS  4
#define PADDED       8
#define HAS_PRIORITY 32

/* ---- the bytes of a literal ---- */

static void a_literal_is_as_the_rfc_says(void **state)
{
	char room[1024];
	struct http2_literals l = http2_literals_in(room, sizeof(room));

	(void) state;
	assert_true(http2_literal(&l, "x-trace-id", "0123456789abcdef0123456789abcdef", 32));
	assert_int_equal(l.used - HTTP2_FRAME_HEAD, 45);
	assert_int_equal(l.list_size, 10 + 32 + 32);
	assert_memory_equal(room + HTTP2_FRAME_HEAD,
			    "\0\x0ax-trace-id\x20"
			    "0123456789abcdef0123456789abcdef",
			    45);
	assert_true(http2_literal(&l, "traceparent",
				  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 55));
	assert_int_equal(l.used - HTTP2_FRAME_HEAD, 45 + 69);
	assert_int_equal(l.list_size, 74 + 98);
	assert_false(l.cut);
}

static void lengths_go_on_behind_126(void **state)
{
	static const struct {
		size_t n;
		const char *bytes;
		size_t n_bytes;
	} rows[] = {
		{ 0, "\0", 1 },
		{ 126, "\x7e", 1 },
		{ 127, "\x7f\0", 2 },
		{ 128, "\x7f\1", 2 },
		{ 254, "\x7f\x7f", 2 },
		{ 255, "\x7f\x80\1", 3 },
		{ 512, "\x7f\x81\3", 3 },
		{ 16510, "\x7f\xff\x7f", 3 },
		{ 16511, "\x7f\x80\x80\1", 4 },
	};
	static char value[16511], room[17000];

	(void) state;
	memset(value, 'v', sizeof(value));
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		struct http2_literals l = http2_literals_in(room, sizeof(room));
		const char *at = room + HTTP2_FRAME_HEAD + 3;

		assert_true(http2_literal(&l, "a", value, rows[i].n));
		assert_memory_equal(at, rows[i].bytes, rows[i].n_bytes);
		assert_int_equal(l.used, HTTP2_FRAME_HEAD + 3 + rows[i].n_bytes + rows[i].n);
	}
}

static void a_literal_fits_or_is_left_out(void **state)
{
	const size_t n = HTTP2_FRAME_HEAD + 1 + 2 + 128 + 2;
	char *room = malloc(n), value[128];
	struct http2_literals l = http2_literals_in(room, n);

	(void) state;
	memset(value, 'v', sizeof(value));
	assert_false(http2_literal(&l, "ab", value, sizeof(value)));
	assert_true(l.cut);
	assert_int_equal(l.used, HTTP2_FRAME_HEAD);
	assert_int_equal(l.list_size, 0);
	assert_true(http2_literal(&l, "a", value, sizeof(value)));
	assert_int_equal(l.used, n);
	assert_false(http2_literal(&l, "", "", 0));
	free(room);
}

static void a_value_may_stand_in_a_block(void **state)
{
	static const struct {
		const char *value, *kept; /* NULL: not at all */
	} rows[] = {
		{ "", "" },
		{ " \t ", "" },
		{ " a b\t", "a b" },
		{ "a\tb", "a\tb" },
		{ "\xc3\xa4", "\xc3\xa4" },
		{ "a\nb", NULL },
		{ "a\r", NULL },
		{ "\x7f", NULL },
	};
	char room[64];

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		struct http2_literals l = http2_literals_in(room, sizeof(room));
		const char *value = edge_bytes(rows[i].value, strlen(rows[i].value));

		assert_int_equal(http2_literal(&l, "a", value, strlen(rows[i].value)),
				 rows[i].kept != NULL);
		assert_false(l.cut);
		if (rows[i].kept)
			assert_memory_equal(room + HTTP2_FRAME_HEAD + 4, rows[i].kept,
					    strlen(rows[i].kept));
		else
			assert_int_equal(l.used, HTTP2_FRAME_HEAD);
	}
}

/* ---- what a place asks for ---- */

#define LITERAL 69 /* bytes of a traceparent, which counts 98 */

/* "place: -replaced +bytes" a change, the first twelve bytes that come. */
static void show(const struct http2_edits *e, char *ret, size_t size)
{
	struct text t = text_in(ret, size);

	for (unsigned i = 0; i < e->n; i++) {
		const struct http2_edit *const c = &e->list[i];

		if (i > 0)
			text_add(&t, "; ");
		text_add_i64(&t, c->at);
		text_add(&t, ": -");
		text_add_u64(&t, c->replaced);
		text_add(&t, " +");
		text_add_u64(&t, c->n);
		for (size_t j = 0; j < c->n && j < 12; j++) {
			text_add(&t, " ");
			text_add_hex(&t, (unsigned char) c->bytes[j], 2);
		}
	}
}

static void each_place_asks_for_its_changes(void **state)
{
	static const struct http2_place usual = {
		.stream = 5,
		.length = 40,
		.type = HEADERS,
		.flags = END_HEADERS | END_STREAM,
		.whole = true,
		.may_add = true,
		.back = 49,
		.in_hand = 49,
		.list_size = 200,
		.frame_limit = 16384,
		.list_limit = UINT32_MAX,
	};
	static const char within[] =
		"-49: -3 +3 00 00 6d; 0: -0 +69 00 0b 74 72 61 63 65 70 61 72 65 6e";
	static const char behind[] = "-12: -1 +1 01; 0: -0 +78 00 00 45 09 04 00 00 00 05 00 0b 74";
	static const char added[] = "0: -0 +78 00 00 45 09 04 00 00 00 05 00 0b 74";
	static const char closed[] = "0: -0 +9 00 00 00 09 04 00 00 00 05";
	struct {
		const char *name;
		struct http2_place p;
		const char *edits;
		bool added;
	} rows[] = {
		{ "the usual one", usual, within, true },
		{ "not for us", usual, "", false },
		{ "a frame that just has room", usual, "-16324: -3 +3 00 40 00; 0: -0 +69", true },
		{ "and one that has not", usual, "", true },
		{ "its padding counts", usual, "", true },
		{ "no room, and not all of it in hand", usual, "", false },
		{ "the length has gone, the flags have not", usual, "", true },
		{ "the flags have gone too", usual, "", false },
		{ "a limit of the block's size that just suffices", usual, within, true },
		{ "and one that does not", usual, "", false },
		{ "a limit that the program has crossed itself", usual, "", false },
		{ "held", usual, added, true },
		{ "held, and not for us", usual, closed, false },
		{ "held, over the limit of the block's size", usual, closed, false },
	};
	char room[256], shown[512];

	(void) state;
	rows[1].p.may_add = false;
	rows[2].p.length = 16384 - LITERAL;
	rows[2].p.back = rows[2].p.in_hand = 16384 - 60;
	rows[2].edits = "-16324: -3 +3 00 40 00; 0: -0 +69 00 0b 74 72 61 63 65 70 61 72 65 6e";
	rows[3].p.length = 16384 - LITERAL + 1;
	rows[3].p.back = rows[3].p.in_hand = 16;
	rows[3].edits = behind;
	rows[4].p = rows[3].p;
	rows[4].p.padding = 10;
	rows[4].edits = "-12: -1 +1 01; 10: -0 +78 00 00 45 09 04 00 00 00 05 00 0b 74";
	rows[5].p = rows[3].p;
	rows[5].p.whole = false;
	rows[6].p.back = 16;
	rows[6].p.in_hand = 12;
	rows[6].edits = behind;
	rows[7].p = rows[6].p;
	rows[7].p.in_hand = 11;
	rows[8].p.list_limit = 298;
	rows[9].p.list_limit = 297;
	rows[10].p.list_limit = 100;
	rows[11].p.held = true;
	rows[11].p.in_hand = 0;
	rows[12].p = rows[11].p;
	rows[12].p.may_add = false;
	rows[13].p = rows[11].p;
	rows[13].p.list_limit = 297;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		struct http2_literals l = http2_literals_in(room, sizeof(room));
		struct http2_edits e;

		print_message("# %s\n", rows[i].name);
		assert_true(http2_literal(&l, "traceparent",
					  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
					  55));
		assert_int_equal(http2_edits(&rows[i].p, &l, &e), rows[i].added);
		show(&e, shown, sizeof(shown));
		assert_string_equal(shown, rows[i].edits);
	}
}

static void nothing_to_add_changes_nothing(void **state)
{
	struct http2_place p = { .stream = 5, .may_add = true, .frame_limit = 16384 };
	char room[HTTP2_FRAME_HEAD];
	struct http2_literals l = http2_literals_in(room, sizeof(room));
	struct http2_edits e;

	(void) state;
	assert_true(http2_edits(&p, &l, &e));
	assert_int_equal(e.n, 0);
	p.held = true;
	assert_true(http2_edits(&p, &l, &e));
	assert_int_equal(e.n, 1);
	assert_int_equal(e.list[0].n, HTTP2_FRAME_HEAD);
}

/* ---- a frame in pieces ---- */

/*
 * A client's HEADERS of @n bytes of payload on stream 1, in three calls: up to @now of its bytes,
 * up to @then, and the rest. Returns what is said of them, and where.
 */
static void in_pieces(struct http2 *h, const char *payload, size_t n, size_t now, size_t then,
		      bool hold, struct text *ret)
{
	char bytes[256];
	const size_t all = HTTP2_FRAME_HEAD + n;
	size_t at = 0;

	http2_frame_head(bytes, (uint32_t) n, HEADERS, END_HEADERS | PADDED, 1);
	memcpy(bytes + HTTP2_FRAME_HEAD, payload, n);
	for (int call = 0; call < 3; call++) {
		const size_t to = call == 0 ? now : call == 1 && then > 0 ? then : all;
		struct http2_input in = { .bytes = edge_bytes(bytes + at, to - at), .n = to - at };
		enum http2_stop stop;
		size_t used;

		do {
			static const char *const names[] = {
				"", "head", "hold", "end of block", "headers", "", "", "", "opaque"
			};

			stop = http2_feed(h, HTTP1_REQUESTS, NULL, &in, &used);
			http2_on(&in, used);
			at += used;
			if (stop == HTTP2_MORE)
				break;
			text_add(ret, names[stop]);
			text_add(ret, " ");
			text_add_u64(ret, at);
			if (stop == HTTP2_HOLD && hold) {
				struct http2_edit e;

				http2_hold(h, &e);
				assert_int_equal((size_t) e.bytes[0], PADDED);
				text_add(ret, " ");
				text_add_i64(ret, (int64_t) at + e.at);
			}
			if (stop == HTTP2_BLOCK_END) {
				char room[64];
				struct http2_literals l = http2_literals_in(room, sizeof(room));
				struct http2_edits e;

				assert_true(http2_literal(&l, "a", "b", 1));
				text_add(ret, http2_edits(&h->flows[HTTP1_REQUESTS].place, &l, &e)
						      ? " adds"
						      : " cannot");
				text_add(ret, e.n > 0 ? " and changes" : "");
			}
			text_add(ret, "\n");
		} while (true);
	}
}

static void a_frame_in_pieces_can_be_held(void **state)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static const char good[] = "\3\x82\x84\x86\0\0", bad[] = "\3\x82\xff\0\0\0";
	static const char worse[] = "\7\x82\x84\x86\0\0";
	static const struct {
		const char *name, *payload;
		size_t now, then; /* 0: all the rest */
		bool hold;
		const char *said;
	} rows[] = {
		{ "its head alone", good, 9, 0, true,
		  "head 9\nhold 9 4\nend of block 16 adds and changes\nheaders 16\n" },
		{ "a part of its block", good, 12, 0, true,
		  "head 9\nhold 9 4\nend of block 16 adds and changes\nheaders 16\n" },
		{ "a part of its padding", good, 15, 0, true,
		  "head 9\nhold 9 4\nend of block 16 adds and changes\nheaders 16\n" },
		{ "all of it", good, 16, 0, true,
		  "head 9\nend of block 13 adds and changes\nheaders 16\n" },
		{ "nobody holds it", good, 9, 0, false,
		  "head 9\nhold 9\nend of block 13 cannot\nheaders 16\n" },
		{ "nobody holds it, but for its padding it is in hand", good, 15, 0, false,
		  "head 9\nhold 9\nend of block 13 adds and changes\nheaders 16\n" },
		{ "its flags have gone, all else is in hand", good, 5, 0, true,
		  "head 9\nend of block 13 cannot\nheaders 16\n" },
		{ "its length has gone, and it is in pieces", good, 4, 12, true,
		  "head 9\nhold 9 4\nend of block 16 adds and changes\nheaders 16\n" },
		{ "its flags have gone, and it is in pieces", good, 5, 12, true,
		  "head 9\nend of block 13 cannot\nheaders 16\n" },
		{ "its length has gone, all else is in hand", good, 4, 0, true,
		  "head 9\nend of block 13 adds and changes\nheaders 16\n" },
		{ "it does not decode: the CONTINUATION comes first", bad, 9, 0, true,
		  "head 9\nhold 9 4\nend of block 16 cannot and changes\nopaque 16\n" },
		{ "it is no frame of a block: likewise", worse, 9, 0, true,
		  "head 9\nhold 9 4\nend of block 16 cannot and changes\nopaque 16\n" },
		{ "it does not decode, and nobody held it", bad, 9, 0, false,
		  "head 9\nhold 9\nopaque 11\n" },
	};
	char *memory = malloc(HTTP2_MEMORY);

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		static struct http2 h;
		char room[512];
		struct text said = text_in(room, sizeof(room));
		struct http2_input in = { .bytes = hello, .n = 24 + HTTP2_FRAME_HEAD };
		size_t used;

		print_message("# %s\n", rows[i].name);
		http2_init(&h, HTTP2_CLIENT, memory, HTTP2_MEMORY);
		assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_MORE);
		in_pieces(&h, rows[i].payload, 7, rows[i].now, rows[i].then, rows[i].hold, &said);
		assert_string_equal(room, rows[i].said);
	}
	free(memory);
}

/* The peer waits for a CONTINUATION, whatever has become of the stream. */
static void a_held_block_is_ended_when_its_stream_was_reset(void **state)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static const char head[] = { 0, 0, 1, HEADERS, END_HEADERS, 0, 0, 0, 1 };
	static const char reset[] = { 0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 7 };
	static struct http2 h;
	char *memory = malloc(HTTP2_MEMORY), room[HTTP2_FRAME_HEAD];
	struct http2_input in = { .bytes = hello, .n = 24 + HTTP2_FRAME_HEAD };
	struct http2_input answer = { .bytes = hello + 24, .n = HTTP2_FRAME_HEAD };
	struct http2_literals l = http2_literals_in(room, sizeof(room));
	struct http2_edit clears;
	struct http2_edits e;
	size_t used;

	(void) state;
	http2_init(&h, HTTP2_CLIENT, memory, HTTP2_MEMORY);
	assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_MORE);
	assert_int_equal(http2_feed(&h, HTTP1_RESPONSES, NULL, &answer, &used), HTTP2_MORE);
	in = (struct http2_input) { .bytes = head, .n = sizeof(head) };
	assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_HEAD);
	http2_on(&in, used);
	assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_HOLD);
	http2_hold(&h, &clears);
	answer = (struct http2_input) { .bytes = reset, .n = sizeof(reset) };
	assert_int_equal(http2_feed(&h, HTTP1_RESPONSES, NULL, &answer, &used), HTTP2_RESET);
	in = (struct http2_input) { .bytes = "\x82", .n = 1 };
	assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_BLOCK_END);
	assert_true(http2_edits(&h.flows[HTTP1_REQUESTS].place, &l, &e));
	assert_int_equal(e.n, 1);
	http2_on(&in, used);
	assert_int_equal(http2_feed(&h, HTTP1_REQUESTS, NULL, &in, &used), HTTP2_MORE);
	free(memory);
}

/* ---- a client ---- */

#define STREAMS    60            /* of one connection */
#define STREAM_MAX (2 * 1048576) /* bytes of one connection */
#define OPEN_MAX   6

/* What a stream carries: its blocks as text, and its bodies. */
struct carried {
	struct text blocks;
	char *room;
	uint64_t hash, length; /* of its DATA */
};

#define CARRIED_ROOM 65536

struct connection {
	struct made made;
	uint32_t frame_limit, list_limit;
	size_t n;
	char *bytes;
	uint32_t opened;
	uint32_t open[OPEN_MAX]; /* streams that the client has not ended */
	unsigned n_open;
	bool added[STREAMS];
	char *ours[STREAMS]; /* the lines that were added */
	struct carried sent[STREAMS], read[STREAMS];
};

static struct carried *of_stream(struct carried *all, uint32_t id)
{
	struct carried *c = &all[id / 2];

	if (!c->room) {
		c->room = malloc(CARRIED_ROOM);
		c->blocks = text_in(c->room, CARRIED_ROOM);
	}
	return c;
}

static void carry_field(struct carried *c, const void *name, size_t name_len, const void *value,
			size_t value_len)
{
	text_add_n(&c->blocks, name, name_len);
	text_add(&c->blocks, ": ");
	text_add_n(&c->blocks, value, value_len);
	text_add(&c->blocks, "\n");
}

static void carry_block_end(struct carried *c)
{
	text_add(&c->blocks, "\n");
	assert_false(c->blocks.cut);
}

static void carry_data(struct carried *c, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		c->hash = (c->hash ^ (uint8_t) bytes[i]) * UINT64_C(1099511628211);
	c->length += n;
}

static void put(struct connection *c, const char *bytes, size_t n)
{
	assert_true(n <= STREAM_MAX - c->n);
	if (n > 0)
		memcpy(c->bytes + c->n, bytes, n);
	c->n += n;
}

static void put_frame(struct connection *c, uint8_t type, uint8_t flags, uint32_t stream,
		      const char *payload, size_t n)
{
	char head[HTTP2_FRAME_HEAD];

	http2_frame_head(head, (uint32_t) n, type, flags, stream);
	put(c, head, sizeof(head));
	put(c, payload, n);
}

/* With padding and priority now and then; returns how much of the block is in it. */
static size_t put_headers(struct connection *c, uint8_t type, uint8_t flags, uint32_t stream,
			  const char *block, size_t n, bool all)
{
	static char payload[70000];
	struct made *m = &c->made;
	const bool headers = type == HEADERS;
	const size_t padding = headers && made_draw(m, 4) == 0 ? made_draw(m, 256) : 0;
	const size_t priority = headers && made_draw(m, 4) == 0 ? 5 : 0;
	size_t used = 0, room = c->frame_limit - padding - priority - 1;

	if (made_draw(m, 3) == 0)
		room = made_draw(m, 2) ? 1 + made_draw(m, 200) : room;
	if (n > c->frame_limit && n - c->frame_limit < room && made_draw(m, 2))
		room = n - c->frame_limit + made_draw(m, 100); /* the next one is full */
	room = room < n ? room : n;
	if (all && n <= c->frame_limit - padding - priority - 1 && made_draw(m, 4))
		room = n;
	if (padding > 0) {
		flags |= PADDED;
		payload[used++] = (char) padding;
	}
	if (priority > 0) {
		flags |= HAS_PRIORITY;
		memcpy(payload + used, "\0\0\0\0\x10", 5);
		used += 5;
	}
	memcpy(payload + used, block, room);
	memset(payload + used + room, 0, padding);
	put_frame(c, type, flags | (room == n ? END_HEADERS : 0), stream, payload,
		  used + room + padding);
	return room;
}

static void put_block(struct connection *c, enum made_kind kind, uint32_t stream, bool last)
{
	static char block[MADE_BLOCK_MAX];
	struct carried *sent = of_stream(c->sent, stream);
	struct made *m = &c->made;
	uint8_t type = HEADERS;

	made_fields(m, kind);
	if (kind == MADE_REQUEST && made_draw(m, 4) == 0) { /* about as large as a frame */
		for (int i = 0; i < 2; i++)
			made_add(m, "x-large", made_word(m, 7600 + made_draw(m, 560)));
	}
	for (size_t i = 0; i < m->n_fields; i++)
		carry_field(sent, m->fields[i].name, m->fields[i].namelen, m->fields[i].value,
			    m->fields[i].valuelen);
	carry_block_end(sent);

	const size_t n = made_block(m, block);

	for (size_t at = 0; at < n || type == HEADERS; type = CONTINUATION)
		at += put_headers(c, type, type == HEADERS && last ? END_STREAM : 0, stream,
				  block + at, n - at, made_draw(m, 3) != 0);
}

static void put_data(struct connection *c, uint32_t stream, bool last)
{
	static char payload[4096];
	struct made *m = &c->made;
	const size_t n = made_draw(m, made_draw(m, 4) ? 100 : 4000);

	for (size_t i = 0; i < n; i++)
		payload[i] = (char) made_draw(m, 256);
	carry_data(of_stream(c->sent, stream), payload, n);
	put_frame(c, DATA, last ? END_STREAM : 0, stream, payload, n);
}

static void put_other(struct connection *c)
{
	switch (made_draw(&c->made, 4)) {
	case 0:
		put_frame(c, PING, 0, 0, "12345678", 8);
		break;
	case 1:
		put_frame(c, WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
		break;
	case 2:
		put_frame(c, PRIORITY, 0, 2 * made_draw(&c->made, STREAMS) + 1, "\0\0\0\0\1", 5);
		break;
	default:
		put_frame(c, 0xfa, 0xff, made_draw(&c->made, 9), "unknown", 7);
	}
}

static void put_request(struct connection *c)
{
	const uint32_t stream = 2 * c->opened++ + 1;
	const bool last = c->n_open == OPEN_MAX || made_draw(&c->made, 2);

	put_block(c, MADE_REQUEST, stream, last);
	if (!last)
		c->open[c->n_open++] = stream;
}

/* More of a body, or the end of it. */
static void put_more(struct connection *c)
{
	const unsigned which = made_draw(&c->made, c->n_open);
	const uint32_t stream = c->open[which];
	const uint32_t what = made_draw(&c->made, 4);

	if (what == 0)
		put_block(c, MADE_TRAILERS, stream, true);
	else
		put_data(c, stream, what == 1);
	if (what <= 1)
		c->open[which] = c->open[--c->n_open];
}

static size_t server_settings(const struct connection *c, uint32_t table, char ret[64])
{
	const uint32_t values[3][2] = { { 1, table }, { 5, c->frame_limit }, { 6, c->list_limit } };

	http2_frame_head(ret, 18, SETTINGS, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		char *at = ret + HTTP2_FRAME_HEAD + 6 * i;

		at[0] = 0;
		at[1] = (char) values[i][0];
		for (unsigned j = 0; j < 4; j++)
			at[2 + j] = (char) (values[i][1] >> (24 - 8 * j));
	}
	return HTTP2_FRAME_HEAD + 18;
}

static void client(struct connection *c, uint32_t table)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	put(c, preface, sizeof(preface) - 1);
	put_frame(c, SETTINGS, 0, 0, NULL, 0);
	put_frame(c, SETTINGS, 1, 0, NULL, 0);
	nghttp2_hd_deflate_change_table_size(c->made.deflater, table);
	while (c->opened < STREAMS || c->n_open > 0) {
		const uint32_t what = made_draw(&c->made, 8);

		if (what == 0)
			put_other(c);
		else if (c->n_open > 0 && (what < 5 || c->opened == STREAMS))
			put_more(c);
		else if (c->opened < STREAMS)
			put_request(c);
	}
}

/* ---- the shim between them ---- */

struct change {
	size_t at, replaced, n;
	char *bytes;
};

struct between {
	struct connection *c;
	struct http2 h;
	char *memory;
	size_t n_changes;
	struct change changes[STREAMS * 3];
	size_t n;
	char *bytes; /* as they go out */
};

/* How it went, over all connections. */
static struct {
	unsigned within, behind, held, held_empty, refused;
} count;

static void change(struct between *b, size_t place, const struct http2_edit *e)
{
	struct change *to = &b->changes[b->n_changes++];

	assert_true(b->n_changes <= N_ELEMENTS(b->changes));
	*to = (struct change) { (size_t) ((ptrdiff_t) place + e->at), e->replaced, e->n,
			       malloc(e->n) };
	memcpy(to->bytes, e->bytes, e->n);
}

/* Ours: a traceparent and, of any length, a tracestate; too long a one now and then. */
static void our_fields(struct connection *c, struct http2_literals *l, char **ret_lines)
{
	static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	static char state[20000];
	struct made *m = &c->made;
	const size_t n = made_draw(m, made_draw(m, 16) == 0 ? sizeof(state) : 600);

	memset(state, 's', n);
	assert_true(http2_literal(l, "traceparent", parent, sizeof(parent) - 1));
	assert_true(http2_literal(l, "tracestate", state, n));
	*ret_lines = malloc(n + 200);
	(void) sprintf(*ret_lines, "traceparent: %s\ntracestate: %.*s\n", parent, (int) n, state);
}

static void count_edits(const struct http2_place *p, const struct http2_edits *e, bool added)
{
	if (p->held && !added)
		count.held_empty++;
	else if (p->held)
		count.held++;
	else if (!added)
		count.refused++;
	else if (e->list[0].replaced == 3)
		count.within++;
	else
		count.behind++;
}

/* @place: where the stop was said, among all the client's bytes. */
static void add(struct between *b, size_t place)
{
	static char room[HTTP2_FRAME_HEAD + 21000];
	const struct http2_place *p = &b->h.flows[HTTP1_REQUESTS].place;
	struct http2_literals l = http2_literals_in(room, sizeof(room));
	struct http2_edits e;
	char *lines;

	our_fields(b->c, &l, &lines);

	const bool added = http2_edits(p, &l, &e);

	assert_null(b->c->ours[p->stream / 2]); /* once for each */
	b->c->ours[p->stream / 2] = lines;
	b->c->added[p->stream / 2] = added;
	count_edits(p, &e, added);
	for (unsigned i = 0; i < e.n; i++)
		change(b, place, &e.list[i]);
}

static void answer(struct between *b, uint32_t stream)
{
	char bytes[HTTP2_FRAME_HEAD + 1];
	struct http2_input in = { .bytes = bytes, .n = sizeof(bytes) };
	size_t used;

	http2_frame_head(bytes, 1, HEADERS, END_STREAM | END_HEADERS, stream);
	bytes[HTTP2_FRAME_HEAD] = '\x88';
	for (enum http2_stop stop = HTTP2_HEAD; stop != HTTP2_MORE; http2_on(&in, used)) {
		stop = http2_feed(&b->h, HTTP1_RESPONSES, NULL, &in, &used);
		assert_int_not_equal(stop, HTTP2_OPAQUE);
	}
}

/* A call of the program's, in pieces as a vector has them. */
static void pass(struct between *b, size_t from, size_t n)
{
	struct made *m = &b->c->made;
	uint32_t ended[STREAMS];
	unsigned n_ended = 0;

	for (size_t at = from, piece; at < from + n; at += piece) {
		piece = made_draw(m, 2) ? from + n - at : 1 + made_draw(m, 40);
		piece = piece < from + n - at ? piece : from + n - at;

		struct http2_input in = { edge_bytes(b->c->bytes + at, piece), piece, at - from,
					  from + n - at - piece };
		enum http2_stop stop;
		size_t used;

		do {
			stop = http2_feed(&b->h, HTTP1_REQUESTS, NULL, &in, &used);
			http2_on(&in, used);
			assert_int_not_equal(stop, HTTP2_OPAQUE);
			if (stop == HTTP2_HOLD && made_draw(m, 4)) {
				struct http2_edit e;

				http2_hold(&b->h, &e);
				assert_true(in.before >= (size_t) -e.at);
				change(b, from + in.before, &e);
			} else if (stop == HTTP2_BLOCK_END) {
				add(b, from + in.before);
			} else if (stop == HTTP2_END_STREAM) {
				ended[n_ended++] = b->h.flows[HTTP1_REQUESTS].stream;
			}
		} while (stop != HTTP2_MORE);
	}
	for (unsigned i = 0; i < n_ended; i++)
		answer(b, ended[i]);
}

/* What goes out for the program's bytes of one call: every change lies within them. */
static void send_changed(struct between *b, size_t from, size_t n)
{
	size_t at = from;

	for (size_t i = 0; i < b->n_changes; i++) {
		struct change *c = &b->changes[i];

		assert_true(c->at >= at && c->at + c->replaced <= from + n);
		memcpy(b->bytes + b->n, b->c->bytes + at, c->at - at);
		b->n += c->at - at;
		memcpy(b->bytes + b->n, c->bytes, c->n);
		b->n += c->n;
		at = c->at + c->replaced;
		free(c->bytes);
	}
	memcpy(b->bytes + b->n, b->c->bytes + at, from + n - at);
	b->n += from + n - at;
	b->n_changes = 0;
}

static void shim(struct between *b, uint32_t table)
{
	char hello[64];
	struct http2_input in = { .bytes = hello, .n = server_settings(b->c, table, hello) };
	size_t used;

	http2_init(&b->h, HTTP2_CLIENT, b->memory, HTTP2_MEMORY);
	assert_int_equal(http2_feed(&b->h, HTTP1_RESPONSES, NULL, &in, &used), HTTP2_MORE);
	for (size_t at = 0, n; at < b->c->n; at += n) {
		const uint32_t largest[] = { 20, 300, 5000, 80000 };

		n = 1 + made_draw(&b->c->made, largest[made_draw(&b->c->made, 4)]);
		n = n < b->c->n - at ? n : b->c->n - at;
		pass(b, at, n);
		send_changed(b, at, n);
	}
}

/* ---- the server ---- */

/* A frame's head, and the rules that each has to keep to. */
static size_t read_fragment(const struct connection *c, const char *at, uint32_t n, uint8_t type,
			    uint8_t flags, size_t *ret_skipped)
{
	size_t skipped = 0, padding = 0;

	(void) c;
	if (type == HEADERS && (flags & PADDED)) {
		padding = (uint8_t) at[0];
		skipped = 1;
	}
	if (type == HEADERS && (flags & HAS_PRIORITY))
		skipped += 5;
	assert_true(skipped + padding <= n);
	*ret_skipped = skipped;
	return n - skipped - padding;
}

/* Returns what the block's fields count. */
static size_t read_block(struct carried *to, nghttp2_hd_inflater *inflater, const char *bytes,
			 size_t n)
{
	size_t size = 0;

	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		const ssize_t used = nghttp2_hd_inflate_hd2(inflater, &nv, &flags,
							    (const uint8_t *) bytes, n, 1);

		assert_true(used >= 0);
		bytes += used;
		n -= (size_t) used;
		if (flags & NGHTTP2_HD_INFLATE_EMIT) {
			carry_field(to, nv.name, nv.namelen, nv.value, nv.valuelen);
			size += nv.namelen + nv.valuelen + HPACK_ENTRY;
		}
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			break;
	}
	carry_block_end(to);
	assert_int_equal(nghttp2_hd_inflate_end_headers(inflater), 0);
	return size;
}

/* Frame by frame, by the rules. */
static void serve(struct connection *c, const struct between *b, uint32_t table)
{
	static char block[512 * 1024];
	nghttp2_hd_inflater *inflater;
	size_t n_block = 0, at = 24;
	uint32_t open = 0;

	assert_int_equal(nghttp2_hd_inflate_new2(&inflater, &c->made.mem), 0);
	assert_int_equal(nghttp2_hd_inflate_change_table_size(inflater, table), 0);
	while (at < b->n) {
		const uint8_t *head = (const uint8_t *) b->bytes + at;
		const uint32_t n = (uint32_t) head[0] << 16 | (uint32_t) head[1] << 8 | head[2];
		const uint32_t stream = (uint32_t) head[7] << 8 | head[8];
		const uint8_t type = head[3], flags = head[4];
		const char *payload = b->bytes + at + HTTP2_FRAME_HEAD;

		assert_true(n <= c->frame_limit);
		at += HTTP2_FRAME_HEAD + n;
		assert_true(at <= b->n);
		assert_int_equal(type == CONTINUATION, open != 0);
		if (open != 0)
			assert_int_equal(stream, open);
		if (type == DATA)
			carry_data(of_stream(c->read, stream), payload, n);
		if (type != HEADERS && type != CONTINUATION)
			continue;

		size_t skipped;
		const size_t part = read_fragment(c, payload, n, type, flags, &skipped);

		memcpy(block + n_block, payload + skipped, part);
		n_block += part;
		open = flags & END_HEADERS ? 0 : stream;
		if (open != 0)
			continue;

		struct carried *to = of_stream(c->read, stream);
		const bool ours = c->added[stream / 2] && to->blocks.used == 0;
		const size_t size = read_block(to, inflater, block, n_block);

		n_block = 0;
		if (ours) /* others may be over it by what the program itself wrote */
			assert_true(size <= c->list_limit);
	}
	nghttp2_hd_inflate_del(inflater);
}

#ifdef HAVE_SESSION
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *data)
{
	struct connection *c = data;

	(void) session;
	(void) flags;
	carry_field(of_stream(c->read, (uint32_t) frame->hd.stream_id), name, name_len, value,
		    value_len);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
	struct connection *c = data;

	(void) session;
	if (frame->hd.type == NGHTTP2_HEADERS)
		carry_block_end(of_stream(c->read, (uint32_t) frame->hd.stream_id));
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
		   size_t n, void *data)
{
	struct connection *c = data;

	(void) session;
	(void) flags;
	carry_data(of_stream(c->read, (uint32_t) stream), (const char *) bytes, n);
	return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int error, void *data)
{
	(void) session;
	(void) data;
	fail_msg("frame %u: %s", frame->hd.type, nghttp2_strerror(error));
	return 0;
}

static void drain(nghttp2_session *session)
{
	const uint8_t *bytes;

	while (nghttp2_session_mem_send(session, &bytes) > 0)
		;
}

/* The same by nghttp2's own server. */
static void serve_session(struct connection *c, const struct between *b, uint32_t table)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, table },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, c->frame_limit },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, c->list_limit },
	};
	nghttp2_session_callbacks *calls;
	nghttp2_option *option;
	nghttp2_session *session;

	nghttp2_session_callbacks_new(&calls);
	nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(calls, on_invalid);
	nghttp2_option_new(&option);
	nghttp2_option_set_no_http_messaging(option, 1); /* our fields have any letters */
	assert_int_equal(nghttp2_session_server_new2(&session, calls, c, option), 0);
	nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, N_ELEMENTS(settings));
	drain(session);
	for (size_t at = 0, n; at < b->n; at += n) {
		n = b->n - at < 4096 ? b->n - at : 4096;
		assert_int_equal(
			nghttp2_session_mem_recv(session, (const uint8_t *) b->bytes + at, n), n);
		drain(session);
	}
	assert_true(nghttp2_session_want_read(session)); /* it has no complaint */
	nghttp2_session_del(session);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(calls);
}
#endif

/* ---- the proof ---- */

/* The first block has ours at its end, where they could be added; all else is as it was. */
static void check_stream(const struct connection *c, unsigned i)
{
	static char wanted[CARRIED_ROOM + 21000];
	const char *blocks = c->sent[i].room, *first_end = strstr(blocks, "\n\n") + 1;
	const int n = (int) (first_end - blocks);

	(void) snprintf(wanted, sizeof(wanted), "%.*s%s%s", n, blocks,
			c->added[i] ? c->ours[i] : "", first_end);
	assert_string_equal(c->read[i].room, wanted);
	assert_int_equal(c->read[i].length, c->sent[i].length);
	assert_int_equal(c->read[i].hash, c->sent[i].hash);
}

static void check_streams(struct connection *c)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		check_stream(c, i);
		free(c->read[i].room);
		c->read[i] = (struct carried) { 0 };
	}
}

static void connection_run(uint32_t seed)
{
	static const uint32_t frame_limits[] = { 16384, 16384, 16384, 20000 };
	static const uint32_t list_limits[] = { UINT32_MAX, UINT32_MAX, 17000, 700 };
	static struct connection c;
	static struct between b;

	c = (struct connection) { .bytes = malloc(STREAM_MAX) };
	made_begin(&c.made, seed, 4096);
	c.frame_limit = frame_limits[made_draw(&c.made, 4)];
	c.list_limit = list_limits[made_draw(&c.made, 4)];

	const uint32_t table = made_draw(&c.made, 3) ? 4096 : made_draw(&c.made, 4096);

	client(&c, table);
	b = (struct between) { .c = &c,
			      .memory = malloc(HTTP2_MEMORY),
			      .bytes = malloc(2 * STREAM_MAX) };
	shim(&b, table);
	serve(&c, &b, table);
	check_streams(&c);
#ifdef HAVE_SESSION
	serve_session(&c, &b, table);
	check_streams(&c);
#endif
	made_end(&c.made);
	for (unsigned i = 0; i < STREAMS; i++) {
		free(c.sent[i].room);
		free(c.ours[i]);
	}
	free(b.memory);
	free(b.bytes);
	free(c.bytes);
}

static void a_server_reads_the_clients_fields_and_ours(void **state)
{
	(void) state;
	for (uint32_t seed = 0; seed < 100; seed++)
		connection_run(seed);
	print_message("# %u within the frame, %u behind it, %u held, %u held for nothing, %u not\n",
		      count.within, count.behind, count.held, count.held_empty, count.refused);
	assert_true(count.within > 1000 && count.behind > 20 && count.held > 100);
	assert_true(count.held_empty > 100 && count.refused > 100);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_literal_is_as_the_rfc_says),
		cmocka_unit_test(lengths_go_on_behind_126),
		cmocka_unit_test(a_literal_fits_or_is_left_out),
		cmocka_unit_test(a_value_may_stand_in_a_block),
		cmocka_unit_test(each_place_asks_for_its_changes),
		cmocka_unit_test(nothing_to_add_changes_nothing),
		cmocka_unit_test(a_frame_in_pieces_can_be_held),
		cmocka_unit_test(a_held_block_is_ended_when_its_stream_was_reset),
		cmocka_unit_test(a_server_reads_the_clients_fields_and_ours),
	};

	return cmocka_run_group_tests_name("http2_edits", tests, NULL, NULL);
}
