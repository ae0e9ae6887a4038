/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of HTTP/2: what is said of its two directions. Rows are frames in the order in
 * which they pass; each row comes whole, byte by byte and with every frame cut in two at every
 * place, at the edge of a page.
 */
#include "core/http2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/edge.h"
#include "tests/unit/http2_said.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define FRAMES_MAX        24
#define FRAME_MAX         70000

/* Frame types, and RAW for bytes that are none. */
enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
	ALTSVC,
	RAW = 256
};

/* Flags: of a stream's end, a block's end, padding, priority; of an ACK. */
enum { ES = 1, EH = 4, P = 8, PR = 32, A = 1 };

#define C HTTP1_REQUESTS
#define S HTTP1_RESPONSES

struct frame {
	enum http1_side side;
	unsigned type, flags, stream;
	const char *payload;
	size_t n;
};

struct row {
	const char *name;
	const char *said[2]; /* of requests and of responses */
	struct frame frames[FRAMES_MAX];
};

/* The bytes of a literal, NULs among them. */
#define BYTES(literal) (literal), sizeof(literal) - 1
#define NOTHING        NULL, 0

#define PREFACE   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define GET       "\x82\x86\x84\x41\1a" /* http, /, a */
#define GET_SAID  " GET last method=GET scheme=http path=/ host=a\n"
#define POST      "\x83\x86\x84\x41\1a"
#define POST_SAID " POST method=POST scheme=http path=/ host=a\n"

/* Both sides greet, and acknowledge. */
/* clang-format off */
#define BEGIN                                                                                    \
	{ C, RAW, 0, 0, BYTES(PREFACE) }, { C, SETTINGS, 0, 0, NOTHING },                        \
	{ S, SETTINGS, 0, 0, NOTHING }, { S, SETTINGS, A, 0, NOTHING },                          \
	{ C, SETTINGS, A, 0, NOTHING }
/* clang-format on */

static struct said2 whole, parts;

static size_t frame_bytes(const struct frame *f, char *ret)
{
	size_t n = 0;

	if (f->type != RAW) {
		http2_frame_head(ret, (uint32_t) f->n, (uint8_t) f->type, (uint8_t) f->flags,
				 f->stream);
		n = HTTP2_FRAME_HEAD;
	}
	if (f->n > 0)
		memcpy(ret + n, f->payload, f->n);
	return n + f->n;
}

static void feed(struct said2 *s, enum http1_side side, const char *bytes, size_t n)
{
	said2_feed(s, side, edge_bytes(bytes, n), n);
	assert_null(s->wrong);
}

/* Each frame cut at @cut, or in parts of @every bytes. */
static void run(struct said2 *s, const struct row *row, enum http2_role role, size_t cut,
		size_t every)
{
	static char bytes[FRAME_MAX];

	said2_begin(s, role, HTTP2_MEMORY, NULL);
	for (const struct frame *f = row->frames; f->payload || f->type || f->flags || f->stream;
	     f++) {
		const size_t n = frame_bytes(f, bytes);

		for (size_t at = 0, step; at < n; at += step) {
			step = every > 0 ? every : at == 0 && cut > 0 ? cut : n - at;
			step = step < n - at ? step : n - at;
			feed(s, f->side, bytes + at, step);
		}
	}
}

/* As a client says it, but that nothing may be added. */
static void check_server(const struct row *row)
{
	char wanted[SAID2_ROOM];
	size_t used = 0;

	for (const char *line = row->said[C]; *line != '\0';) {
		const size_t n = strcspn(line, "\n") + 1;

		if (strncmp(line, "add ", 4) != 0) {
			memcpy(wanted + used, line, n);
			used += n;
		}
		line += n;
	}
	wanted[used] = '\0';
	run(&parts, row, HTTP2_SERVER, 0, 0);
	assert_string_equal(parts.room[C], wanted);
	assert_string_equal(parts.room[S], row->said[S]);
}

static void check(const struct row *row)
{
	print_message("# %s\n", row->name);
	whole.places = parts.places = false;
	run(&whole, row, HTTP2_CLIENT, 0, 0);
	assert_string_equal(whole.room[C], row->said[C]);
	assert_string_equal(whole.room[S], row->said[S]);
	check_server(row);

	whole.places = parts.places = true;
	run(&whole, row, HTTP2_CLIENT, 0, 0);
	run(&parts, row, HTTP2_CLIENT, 0, 1);
	assert_true(said2_same(&whole, &parts));
	for (size_t cut = 1; cut < 100; cut++) {
		run(&parts, row, HTTP2_CLIENT, cut, 0);
		assert_true(said2_same(&whole, &parts));
	}
}

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check(&rows[i]);
}

static void requests_are_answered(void **state)
{
	static const struct row rows[] = {
		{ "nothing yet", { "", "" }, { BEGIN } },
		{ "a request without a body, an answer in one frame",
		  { "head 1\nadd 1\nrequest 1" GET_SAID "end 1\n",
		    "response 1 200 last\nend 1 closed\n" },
		  { BEGIN,
		    { C, HEADERS, ES | EH, 1, BYTES(GET) },
		    { S, HEADERS, ES | EH, 1, BYTES("\x88") } } },
		{ "bodies both ways",
		  { "head 1\nadd 1\nrequest 1" POST_SAID "end 1\n",
		    "response 1 404\nend 1 closed\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { C, DATA, 0, 1, BYTES("abc") },
		    { C, DATA, ES, 1, BYTES("\x00\x00\x01") },
		    { S, HEADERS, EH, 1, BYTES("\x8d") },
		    { S, DATA, P, 1,
		      BYTES("\x03"
			    "body\0\0\0") },
		    { S, DATA, ES, 1, NOTHING } } },
		{ "trailers both ways",
		  { "head 1\nadd 1\nrequest 1" POST_SAID "trailers 1 last\nend 1\n",
		    "response 1 200\ntrailers 1 grpc 14 last grpc-status=14 grpc-message=no\n"
		    "end 1 closed\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { C, DATA, 0, 1, BYTES("abc") },
		    { C, HEADERS, ES | EH, 1, BYTES("\0\1x\1y") },
		    { S, HEADERS, EH, 1, BYTES("\x88") },
		    { S, DATA, 0, 1, BYTES("abc") },
		    { S, HEADERS, ES | EH, 1,
		      BYTES("\0\x0bgrpc-status\2"
			    "14\0\x0cgrpc-message\2no") } } },
		{ "trailers alone",
		  { "head 1\nadd 1\nrequest 1" GET_SAID "end 1\n",
		    "response 1 200 grpc 0 last grpc-status=0\nend 1 closed\n" },
		  { BEGIN,
		    { C, HEADERS, ES | EH, 1, BYTES(GET) },
		    { S, HEADERS, ES | EH, 1,
		      BYTES("\x88\0\x0bgrpc-status\1"
			    "0") } } },
		{ "early answers",
		  { "head 1\nadd 1\nrequest 1" POST_SAID,
		    "early 1 100\nearly 1 103\nresponse 1 204 last\nend 1\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { S, HEADERS, EH, 1,
		      BYTES("\x08\3"
			    "100") },
		    { S, HEADERS, EH, 1,
		      BYTES("\x08\3"
			    "103") },
		    { S, HEADERS, ES | EH, 1, BYTES("\x89") } } },
		{ "several in flight, answered in another order",
		  { "head 1\nadd 1\nrequest 1" GET_SAID "end 1\nhead 5\nadd 5\nrequest 5" GET_SAID
		    "end 5\nhead 7\nadd 7\nrequest 7" POST_SAID "end 7 closed\n",
		    "response 7 200 last\nend 7\nresponse 1 200 last\nend 1 closed\n"
		    "response 5 500\nend 5 closed\n" },
		  { BEGIN,
		    { C, HEADERS, ES | EH, 1, BYTES(GET) },
		    { C, HEADERS, ES | EH, 5, BYTES(GET) },
		    { C, HEADERS, EH, 7, BYTES(POST) },
		    { S, HEADERS, ES | EH, 7, BYTES("\x88") },
		    { S, HEADERS, ES | EH, 1, BYTES("\x88") },
		    { C, DATA, ES, 7, BYTES("x") },
		    { S, HEADERS, EH, 5, BYTES("\x8e") },
		    { S, DATA, ES, 5, NOTHING } } },
		{ "a block in pieces, with padding and priority",
		  { "head 3\nadd 3\nrequest 3" GET_SAID "end 3\n", "response 3 200\n" },
		  { BEGIN,
		    { C, HEADERS, ES | P | PR, 3, BYTES("\2\0\0\0\0\x10\x82\x86\0\0") },
		    { C, CONTINUATION, 0, 3, NOTHING },
		    { C, CONTINUATION, 0, 3, BYTES("\x84") },
		    { C, CONTINUATION, EH, 3, BYTES("\x41\1a") },
		    { S, HEADERS, P, 3, BYTES("\0\x08") },
		    { S, CONTINUATION, EH, 3,
		      BYTES("\3"
			    "200") } } },
		{ "padding behind a whole block",
		  { "head 3\nadd 3\nrequest 3" GET_SAID "end 3\n", "" },
		  { BEGIN, { C, HEADERS, ES | EH | P, 3, BYTES("\x05" GET "\0\0\0\0\0") } } },
		{ "a traceparent, by itself and by the table",
		  { "head 1\nadd 1\nrequest 1 GET method=GET traceparent=00-x\n"
		    "head 3\nadd 3\nrequest 3 GET method=GET traceparent=00-x\n",
		    "" },
		  { BEGIN,
		    { C, HEADERS, EH, 1,
		      BYTES("\x82\x40\x0btraceparent\4"
			    "00-x") },
		    { C, HEADERS, EH, 3, BYTES("\x82\xbe") } } },
		{ "a tunnel, and one of another protocol",
		  { "head 1\nadd 1\nrequest 1 CONNECT tunnel method=CONNECT host=a\n"
		    "head 3\nadd 3\nrequest 3 CONNECT tunnel method=CONNECT protocol=websocket"
		    " scheme=http path=/ host=a\nend 3\n",
		    "response 3 200\nreset 3 code 8 closed\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES("\2\7CONNECT\1\1a") },
		    { C, HEADERS, EH, 3,
		      BYTES("\2\7CONNECT\0\x09:protocol\x09websocket\x86\x84\1\1a") },
		    { S, HEADERS, EH, 3, BYTES("\x88") },
		    { S, DATA, 0, 3, BYTES(PREFACE) },
		    { C, DATA, ES, 3, NOTHING },
		    { S, RST_STREAM, 0, 3, BYTES("\0\0\0\x08") } } },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void other_frames_pass(void **state)
{
	static const struct row rows[] = {
		{ "resets",
		  { "head 1\nadd 1\nrequest 1" POST_SAID "reset 1 code 8 closed\n"
		    "head 3\nadd 3\nrequest 3" GET_SAID "end 3\n",
		    "reset 3 code 7 closed\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { C, RST_STREAM, 0, 1, BYTES("\0\0\0\x08") },
		    { S, RST_STREAM, 0, 1, BYTES("\0\0\0\x08") }, /* they crossed */
		    { S, HEADERS, ES | EH, 1, BYTES("\x88") },
		    { C, HEADERS, ES | EH, 3, BYTES(GET) },
		    { S, RST_STREAM, 0, 3, BYTES("\0\0\0\x07") },
		    { C, DATA, ES, 1, NOTHING } } },
		{ "a reset after the answer",
		  { "head 1\nadd 1\nrequest 1" POST_SAID "reset 1 code 0 closed\n",
		    "response 1 200 last\nend 1\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { S, HEADERS, ES | EH, 1, BYTES("\x88") },
		    { C, RST_STREAM, 0, 1, BYTES("\0\0\0\0") } } },
		{ "a reset in the middle of a request",
		  { "head 1\n", "reset 1 code 7 closed\n" },
		  { BEGIN,
		    { C, RAW, 0, 0,
		      BYTES("\0\0\6\1\5\0\0\0\1"
			    "\x82\x86") },
		    { S, RST_STREAM, 0, 1, BYTES("\0\0\0\7") },
		    { S, PING, 0, 0, BYTES("12345678") },
		    { C, RAW, 0, 0, BYTES("\x84\x41\1a") } } },
		{ "a reset in the middle of trailers, the slot serves again",
		  { "head 1\nadd 1\nrequest 1" POST_SAID "head 257\nadd 257\nrequest 257" GET_SAID
		    "end 257\n",
		    "reset 1 code 7 closed\nresponse 257 200\n" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES(POST) },
		    { C, RAW, 0, 0,
		      BYTES("\0\0\5\1\5\0\0\0\1"
			    "\0\1") },
		    { S, RST_STREAM, 0, 1, BYTES("\0\0\0\7") },
		    { S, PING, 0, 0, BYTES("12345678") },
		    { C, RAW, 0, 0, BYTES("x\1y") },
		    { C, HEADERS, ES | EH, 257, BYTES(GET) },
		    { S, HEADERS, EH, 257, BYTES("\x88") } } },
		{ "farewells",
		  { "goaway 0 code 0\n", "goaway 2147483647 code 0\ngoaway 1 code 11\n" },
		  { BEGIN,
		    { S, GOAWAY, 0, 0, BYTES("\x7f\xff\xff\xff\0\0\0\0") },
		    { S, GOAWAY, 0, 0, BYTES("\0\0\0\1\0\0\0\x0btoo_many_pings") },
		    { C, GOAWAY, 0, 0, BYTES("\x80\0\0\0\0\0\0\0") } } },
		{ "what says nothing",
		  { "", "" },
		  { BEGIN,
		    { C, PING, 0, 0, BYTES("12345678") },
		    { S, PING, A, 0, BYTES("12345678") },
		    { C, WINDOW_UPDATE, 0, 0, BYTES("\0\0\1\0") },
		    { S, WINDOW_UPDATE, 0, 1, BYTES("\0\0\1\0") },
		    { C, PRIORITY, 0, 9, BYTES("\0\0\0\0\1") },
		    { C, PRIORITY, 0, 9, BYTES("\0") },
		    { S, ALTSVC, 0, 0, BYTES("\0\0h2=\":1\"") },
		    { S, 0xfa, 0xff, 7, BYTES("?") },
		    { C, 0xfa, 4, 0, NOTHING },
		    { S, RST_STREAM, 0, 99, BYTES("\0\0\0\1") },
		    { S, DATA, ES, 99, NOTHING } } },
		{ "pushes: decoded, for the table, and left alone",
		  { "head 1\nadd 1\nrequest 1" GET_SAID "end 1\nreset 1 code 8 closed\n",
		    "response 1 200 user-agent=b\n" },
		  { BEGIN,
		    { C, HEADERS, ES | EH, 1, BYTES(GET) },
		    { S, PUSH_PROMISE, P, 1, BYTES("\1\0\0\0\2\x82\x7a\0") },
		    { S, CONTINUATION, EH, 1, BYTES("\1b") },
		    { S, HEADERS, ES | EH, 2, BYTES("\x88") },
		    { S, HEADERS, EH, 1, BYTES("\x88\xbe") },
		    { S, DATA, ES, 2, NOTHING },
		    { C, RST_STREAM, 0, 2, BYTES("\0\0\0\x08") },
		    { C, RST_STREAM, 0, 1, BYTES("\0\0\0\x08") } } },
		{ "an answer to a request that was not seen",
		  { "", "" },
		  { BEGIN, { S, HEADERS, EH, 1, BYTES("\x88") }, { S, DATA, ES, 1, NOTHING } } },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

#define TABLE(size) "\0\1" size /* SETTINGS_HEADER_TABLE_SIZE */
#define FRAME(size) "\0\5" size /* SETTINGS_MAX_FRAME_SIZE */

static void settings_hold_from_their_ack_on(void **state)
{
	static const struct row rows[] = {
		{ "a smaller table: the block after the ACK says so",
		  { "head 1\nadd 1\nrequest 1 GET method=GET\nhead 3\nadd 3\n"
		    "request 3 GET method=GET\n",
		    "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\0\0")) },
		    { C, HEADERS, EH, 1, BYTES("\x82") },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 3, BYTES("\x20\x82") } } },
		{ "or is none",
		  { "head 1\nopaque: bad header block\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\0\0")) },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 1, BYTES("\x82") } } },
		{ "a larger one may be used after the ACK",
		  { "head 1\nadd 1\nrequest 1 GET method=GET\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\x40\0")) },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 1, BYTES("\x3f\xe1\x7f\x82") } } },
		{ "not before it",
		  { "head 1\nopaque: bad header block\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\x40\0")) },
		    { C, HEADERS, EH, 1, BYTES("\x3f\xe1\x7f\x82") } } },
		{ "of answers it is the client that asks",
		  { "head 1\nadd 1\nrequest 1" GET_SAID "end 1\n", "response 1 200\n" },
		  { BEGIN,
		    { C, SETTINGS, 0, 0, BYTES("\0\2\0\0\0\0" TABLE("\0\0\0\x40")) },
		    { C, HEADERS, ES | EH, 1, BYTES(GET) },
		    { S, SETTINGS, A, 0, NOTHING },
		    { S, HEADERS, EH, 1, BYTES("\x3f\x21\x88") } } },
		{ "two in one frame: the smaller has to be said too",
		  { "head 1\nopaque: bad header block\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\0\0") TABLE("\0\0\x10\0")) },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 1, BYTES("\x3f\xe1\x1f\x82") } } },
		{ "and is",
		  { "head 1\nadd 1\nrequest 1 GET method=GET\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\0\0") TABLE("\0\0\x10\0")) },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 1, BYTES("\x20\x3f\xe1\x1f\x82") } } },
		{ "each ACK is of the oldest",
		  { "head 1\nadd 1\nrequest 1 GET method=GET\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\x10\0")) },
		    { S, SETTINGS, 0, 0, BYTES(TABLE("\0\0\0\0")) },
		    { C, SETTINGS, A, 0, NOTHING },
		    { C, HEADERS, EH, 1, BYTES("\x82") } } },
		{ "no ACK of nothing",
		  { "", "opaque: bad settings\n" },
		  { { C, RAW, 0, 0, BYTES(PREFACE) },
		    { C, SETTINGS, 0, 0, NOTHING },
		    { S, SETTINGS, 0, 0, NOTHING },
		    { S, SETTINGS, A, 0, NOTHING },
		    { S, SETTINGS, A, 0, NOTHING } } },
		{ "a frame size too small",
		  { "", "opaque: bad settings\n" },
		  { BEGIN, { S, SETTINGS, 0, 0, BYTES(FRAME("\0\0\x3f\xff")) } } },
		{ "or too large",
		  { "opaque: bad settings\n", "" },
		  { BEGIN, { C, SETTINGS, 0, 0, BYTES(FRAME("\1\0\0\0")) } } },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void gives_up_where_it_cannot_follow(void **state)
{
	static const struct row rows[] = {
		{ "another protocol",
		  { "opaque: not HTTP/2\n", "opaque: not HTTP/2\n" },
		  { { C, RAW, 0, 0, BYTES("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n") },
		    { S, RAW, 0, 0, BYTES("HTTP/1.1 400 Bad\r\n\r\n") } } },
		{ "no SETTINGS first, but a look-alike",
		  { "", "opaque: not HTTP/2\n" },
		  { { S, RAW, 0, 0, BYTES("\0\0\0\1\0\0\0\1\0\0\0\0") } } },
		{ "an ACK first",
		  { "opaque: not HTTP/2\n", "" },
		  { { C, RAW, 0, 0, BYTES(PREFACE) }, { C, SETTINGS, A, 0, NOTHING } } },
		{ "SETTINGS of a stream first",
		  { "opaque: not HTTP/2\n", "" },
		  { { C, RAW, 0, 0, BYTES(PREFACE) }, { C, SETTINGS, 0, 1, NOTHING } } },
		{ "one side is not HTTP/2, so the other is not",
		  { "opaque: not HTTP/2\n", "opaque: not HTTP/2\n" },
		  { { C, RAW, 0, 0, BYTES(PREFACE) },
		    { C, SETTINGS, 0, 0, NOTHING },
		    { S, RAW, 0, 0, BYTES("HTTP/1.1 400 Bad\r\n\r\n") },
		    { C, HEADERS, EH, 1, BYTES(GET) } } },
		{ "HEADERS of no stream",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, HEADERS, EH, 0, BYTES(GET) } } },
		{ "a request on a stream of the server's",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, HEADERS, EH, 2, BYTES(GET) } } },
		{ "DATA of no stream",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, DATA, 0, 0, BYTES("x") } } },
		{ "padding longer than the frame",
		  { "head 1\nopaque: bad frame\n", "" },
		  { BEGIN, { C, HEADERS, EH | P, 1, BYTES("\7" GET) } } },
		{ "no room for the padding's length",
		  { "head 1\nopaque: bad frame\n", "" },
		  { BEGIN, { C, HEADERS, EH | P, 1, NOTHING } } },
		{ "no room for a priority",
		  { "head 1\nopaque: bad frame\n", "" },
		  { BEGIN, { C, HEADERS, EH | PR, 1, BYTES("\0\0\0\0") } } },
		{ "a CONTINUATION of nothing",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, CONTINUATION, EH, 1, BYTES(GET) } } },
		{ "a CONTINUATION of another stream",
		  { "head 1\nopaque: bad frame\n", "" },
		  { BEGIN,
		    { C, HEADERS, 0, 1, BYTES(GET) },
		    { C, CONTINUATION, EH, 3, BYTES("\x82") } } },
		{ "a frame within a block",
		  { "head 1\nopaque: bad frame\n", "" },
		  { BEGIN,
		    { C, HEADERS, 0, 1, BYTES(GET) },
		    { C, PING, 0, 0, BYTES("12345678") } } },
		{ "SETTINGS of a stream",
		  { "", "opaque: bad frame\n" },
		  { BEGIN, { S, SETTINGS, 0, 1, NOTHING } } },
		{ "SETTINGS with a rest",
		  { "", "opaque: bad frame\n" },
		  { BEGIN, { S, SETTINGS, 0, 0, BYTES("\0\1\0\0\0") } } },
		{ "an ACK with a payload",
		  { "opaque: bad frame\n", "" },
		  { BEGIN,
		    { S, SETTINGS, 0, 0, NOTHING },
		    { C, SETTINGS, A, 0, BYTES("\0\1\0\0\0\0") } } },
		{ "a short PING",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, PING, 0, 0, BYTES("1234567") } } },
		{ "a long RST_STREAM",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, RST_STREAM, 0, 1, BYTES("12345") } } },
		{ "a short GOAWAY",
		  { "", "opaque: bad frame\n" },
		  { BEGIN, { S, GOAWAY, 0, 0, BYTES("1234567") } } },
		{ "a client that pushes",
		  { "opaque: bad frame\n", "" },
		  { BEGIN, { C, PUSH_PROMISE, EH, 1, BYTES("\0\0\0\2\x82") } } },
		{ "a block that does not decode",
		  { "head 1\nopaque: bad header block\n", "" },
		  { BEGIN,
		    { C, HEADERS, EH, 1, BYTES("\x82\xbe") },
		    { C, HEADERS, EH, 3, BYTES(GET) } } },
		{ "a block that is cut",
		  { "head 1\nopaque: bad header block\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x82\x41\2a") } } },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

/* Of a request that its receiver will not take, nothing needs to be added to. */
static void adds_to_nothing_odd(void **state)
{
	static const struct row rows[] = {
		{ "no method",
		  { "head 1\nrequest 1 _OTHER path=/\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x84") } } },
		{ "two of them",
		  { "head 1\nrequest 1 POST method=GET method=POST\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x82\x83") } } },
		{ "two that have no name here",
		  { "head 1\nrequest 1 _OTHER method=X method=Y\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\2\1X\2\1Y") } } },
		{ "a pseudo-header behind a field",
		  { "head 1\nrequest 1 GET method=GET path=/\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x82\0\1a\1b\x84") } } },
		{ "one that there is not",
		  { "head 1\nrequest 1 GET method=GET\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x82\0\2:a\1b") } } },
		{ "a field without a name",
		  { "head 1\nrequest 1 GET method=GET\n", "" },
		  { BEGIN, { C, HEADERS, EH, 1, BYTES("\x82\0\0\1b") } } },
		{ "a status that is none",
		  { "", "" },
		  { BEGIN,
		    { S, HEADERS, EH, 1,
		      BYTES("\x08\3"
			    "2x0") } } },
		{ "the other direction is opaque",
		  { "head 1\nrequest 1" GET_SAID "end 1\n", "opaque: bad frame\n" },
		  { BEGIN, { S, PING, 0, 0, NOTHING }, { C, HEADERS, ES | EH, 1, BYTES(GET) } } },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

/* ---- beyond rows ---- */

static void the_first_bytes_tell(void **state)
{
	static const struct {
		enum http1_side side;
		const char *bytes;
		size_t n;
		int begins;
	} rows[] = {
		{ C, BYTES(PREFACE), 1 },
		{ C, BYTES(PREFACE "\0"), 1 },
		{ C, BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"), -1 },
		{ C, BYTES("PUT"), -1 },
		{ S, BYTES("\0\0\x12\4\0\0\0\0\0"), 1 },
		{ S, BYTES("\0\0\0\4\0\0\0\0\0\0\3"), 1 },
		{ S, BYTES("\0\0\7"), -1 },
		{ S, BYTES("\0\x40\2\4"), -1 },
		{ S, BYTES("\0\0\0\4\1"), -1 },
		{ S, BYTES("\0\0\0\4\0\0\0\0\1"), -1 },
		{ S, BYTES("HTTP/1.1"), -1 },
		{ S, BYTES("\0\0\0\1"), -1 },
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		const size_t wanted = rows[i].side == C ? sizeof(PREFACE) - 1 : HTTP2_FRAME_HEAD;

		for (size_t n = 0; n <= rows[i].n; n++) {
			const int begins =
				http2_begins(rows[i].side, edge_bytes(rows[i].bytes, n), n);

			if (n == rows[i].n)
				assert_int_equal(begins, rows[i].begins);
			else if (rows[i].begins > 0)
				assert_int_equal(begins, n >= wanted);
		}
	}
}

static void begin(struct said2 *s, enum http2_role role, size_t memory,
		  const struct http1_extra *extra)
{
	static const struct frame hello[] = { BEGIN };

	said2_begin(s, role, memory, extra);
	s->places = false;
	for (size_t i = 0; i < N_ELEMENTS(hello); i++) {
		char bytes[64];

		feed(s, hello[i].side, bytes, frame_bytes(&hello[i], bytes));
	}
}

static void send_frame(struct said2 *s, enum http1_side side, unsigned type, unsigned flags,
		       unsigned stream, const char *payload, size_t n)
{
	static char bytes[FRAME_MAX];
	const struct frame f = { side, type, flags, stream, payload, n };

	feed(s, side, bytes, frame_bytes(&f, bytes));
}

static void streams_beyond_the_table_are_not_followed(void **state)
{
	const unsigned more = HTTP2_STREAMS + 3;

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	for (unsigned i = 0; i < more; i++) {
		whole.lines[C] = text_in(whole.room[C], SAID2_ROOM);
		send_frame(&whole, C, HEADERS, EH | ES, 2 * i + 1, BYTES("\x82"));
		assert_int_equal(strstr(whole.room[C], "no slot") != NULL, i >= HTTP2_STREAMS);
		assert_int_equal(strstr(whole.room[C], "add") != NULL, i < HTTP2_STREAMS);
	}
	send_frame(&whole, S, HEADERS, EH | ES, 2 * more - 1, BYTES("\x88"));
	assert_string_equal(whole.room[S], "");
	send_frame(&whole, S, HEADERS, EH | ES, 7, BYTES("\x88"));
	assert_string_equal(whole.room[S], "response 7 200 last\nend 7 closed\n");
	for (unsigned slot = 0; slot < HTTP2_STREAMS; slot++)
		assert_int_equal(http2_stream(&whole.h, slot), slot == 3 ? 0 : 2 * slot + 1);

	/* Its slot serves again, far from home. */
	whole.lines[C] = text_in(whole.room[C], SAID2_ROOM);
	send_frame(&whole, C, HEADERS, EH | ES, 1001, BYTES("\x82"));
	assert_string_equal(whole.room[C],
			    "head 1001\nadd 1001\nrequest 1001 GET last method=GET\nend 1001\n");
	assert_int_equal(http2_stream(&whole.h, 3), 1001);
	whole.lines[S] = text_in(whole.room[S], SAID2_ROOM);
	send_frame(&whole, S, HEADERS, EH | ES, 1001, BYTES("\x88"));
	assert_string_equal(whole.room[S], "response 1001 200 last\nend 1001 closed\n");
}

/* What a caller keeps by slot is his until he feeds that direction again. */
static void a_slot_stays_until_the_next_call(void **state)
{
	char bytes[64];
	const struct frame f = { S, HEADERS, EH | ES, 1, BYTES("\x88") };
	struct http2_input in = { .bytes = bytes, .n = frame_bytes(&f, bytes) };
	const struct http2_flow *answers = &whole.h.flows[S];
	size_t used;

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	send_frame(&whole, C, HEADERS, EH | ES, 1, BYTES("\x82"));
	assert_int_equal(http2_feed(&whole.h, S, NULL, &in, &used), HTTP2_HEADERS);
	assert_int_equal(answers->slot, 0);
	http2_on(&in, used);
	assert_int_equal(http2_feed(&whole.h, S, NULL, &in, &used), HTTP2_END_STREAM);
	assert_true(answers->closed);
	assert_int_equal(http2_stream(&whole.h, 0), 0);
	/* Stream 257's home is slot 0; it is not free yet. */
	send_frame(&whole, C, HEADERS, EH, 257, BYTES("\x82"));
	assert_int_equal(whole.h.flows[C].slot, 1);
	assert_int_equal(http2_feed(&whole.h, S, NULL, &in, &used), HTTP2_MORE);
	send_frame(&whole, C, HEADERS, EH, 513, BYTES("\x82"));
	assert_int_equal(whole.h.flows[C].slot, 0);
}

static void long_values_are_cut(void **state)
{
	static char block[16000];
	static const struct http1_extra extra = { .n = 1, .names = { "x-long" } };
	const struct http1_slice *f;
	unsigned n;

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY_MIN, &extra); /* 2 KiB of values */
	memset(block, 'x', sizeof(block));
	memcpy(block, "\x82\0\6x-long\x7f\x81\x0f", 12); /* 127 + 1921 */
	send_frame(&whole, C, HEADERS, EH, 1, block, 12 + 2048);
	f = http2_find(&whole.h.flows[C], HTTP1_EXTRA, &n);
	assert_non_null(f);
	assert_int_equal(n, 1);
	assert_true(f->cut);
	assert_int_equal(f->len, 2048 - 3); /* GET stands before it */
	assert_int_equal(whole.h.flows[C].list_size, 7 + 3 + 32 + 6 + 2048 + 32);
}

static void a_flood_ends(void **state)
{
	static char block[16384];

	(void) state;
	/* Each byte is a field of 37, by the table. */
	begin(&whole, HTTP2_SERVER, HTTP2_MEMORY, NULL);
	memset(block, 0x86, sizeof(block));
	send_frame(&whole, C, HEADERS, 0, 1, block, sizeof(block));
	for (int i = 0; i < 10; i++)
		send_frame(&whole, C, CONTINUATION, 0, 1, block, sizeof(block));
	assert_non_null(strstr(whole.room[C], "head 1\nopaque: header block too long\n"));

	begin(&whole, HTTP2_SERVER, HTTP2_MEMORY, NULL);
	send_frame(&whole, C, HEADERS, 0, 1, BYTES("\x82"));
	for (int i = 1; i < HTTP2_BLOCK_FRAMES; i++)
		send_frame(&whole, C, CONTINUATION, 0, 1, NULL, 0);
	assert_string_equal(whole.room[C], "head 1\n");
	send_frame(&whole, C, CONTINUATION, 0, 1, NULL, 0);
	assert_string_equal(whole.room[C], "head 1\nopaque: header block too long\n");
}

static void memory_has_an_end(void **state)
{
	static char block[65600];

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	send_frame(&whole, S, SETTINGS, 0, 0, BYTES(FRAME("\0\2\0\0")));
	memcpy(block, "\x82\0\1a\x7f\x81\xff\x02", 8); /* 127 + 49025 */
	memset(block + 8, 'x', 65000);
	send_frame(&whole, C, HEADERS, EH, 1, block, 8 + 127 + 49025);
	assert_string_equal(whole.room[C], "head 1\nopaque: header table full\n");
	send_frame(&whole, S, HEADERS, EH, 1, BYTES("\x88"));
	assert_string_equal(whole.room[S], "response 1 200\n");
}

static void frames_may_be_as_long_as_was_ever_allowed(void **state)
{
	static char payload[40001];

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	send_frame(&whole, C, DATA, 0, 1, payload, 16384);
	send_frame(&whole, S, SETTINGS, 0, 0, BYTES(FRAME("\0\0\x9c\x40")));
	send_frame(&whole, C, DATA, 0, 1, payload, 40000);
	send_frame(&whole, S, SETTINGS, 0, 0, BYTES(FRAME("\0\0\x40\0")));
	send_frame(&whole, C, DATA, 0, 1, payload, 40000);
	assert_string_equal(whole.room[C], "");
	send_frame(&whole, C, DATA, 0, 1, payload, 40001);
	assert_string_equal(whole.room[C], "opaque: frame too long\n");
	send_frame(&whole, S, DATA, 0, 1, payload, 16385);
	assert_string_equal(whole.room[S], "opaque: frame too long\n");
}

static void unanswered_settings_have_an_end(void **state)
{
	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < HTTP2_UNANSWERED; i++)
			send_frame(&whole, S, SETTINGS, 0, 0, BYTES("\0\4\0\0\xff\xff"));
		for (int i = 0; i < HTTP2_UNANSWERED; i++)
			send_frame(&whole, C, SETTINGS, A, 0, NULL, 0);
	}
	for (int i = 0; i <= HTTP2_UNANSWERED; i++)
		send_frame(&whole, S, SETTINGS, 0, 0, NULL, 0);
	assert_string_equal(whole.room[C], "");
	assert_string_equal(whole.room[S], "opaque: bad settings\n");
}

static void data_can_be_skipped(void **state)
{
	char head[HTTP2_FRAME_HEAD];
	uint64_t used;

	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	send_frame(&whole, C, HEADERS, EH, 1, BYTES("\x82"));
	http2_frame_head(head, 1000, DATA, ES, 1);
	feed(&whole, C, head, sizeof(head));
	assert_false(http2_between(&whole.h, C));
	assert_int_equal(http2_skip(&whole.h, C, 999, &used), HTTP2_MORE);
	assert_int_equal(used, 999);
	assert_int_equal(http2_skip(&whole.h, C, 5, &used), HTTP2_END_STREAM);
	assert_int_equal(used, 1);
	assert_true(http2_between(&whole.h, C));
	assert_int_equal(http2_skip(&whole.h, C, 4, &used), HTTP2_OPAQUE);
	assert_int_equal(whole.h.flows[C].reason, HTTP2_UNSEEN);
	assert_int_equal(http2_skip(&whole.h, C, 4, &used), HTTP2_MORE);
	assert_int_equal(used, 4);
}

static void lost_bytes_make_it_opaque(void **state)
{
	(void) state;
	begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	http2_lost(&whole.h, C);
	send_frame(&whole, C, HEADERS, EH, 1, BYTES("\x82"));
	http2_lost(&whole.h, C);
	assert_string_equal(whole.room[C], "opaque: bytes not seen\n");
}

/* ---- both directions at once ---- */

#define RACE_STREAMS 20000

struct race {
	struct http2 h;
	char *memory;
	_Atomic uint32_t sent, asked;
	uint64_t seen[2]; /* closed, by side */
};

static void race_feed(struct race *r, enum http1_side side, uint32_t stream, unsigned type,
		      unsigned flags, const char *payload, size_t n)
{
	char bytes[64];
	const struct frame f = { side, type, flags, stream, payload, n };
	struct http2_input in = { .bytes = bytes, .n = frame_bytes(&f, bytes) };
	enum http2_stop stop;

	do {
		size_t used;

		stop = http2_feed(&r->h, side, NULL, &in, &used);
		http2_on(&in, used);
		if (stop == HTTP2_END_STREAM || stop == HTTP2_RESET)
			r->seen[side] += r->h.flows[side].closed;
	} while (stop != HTTP2_MORE);
}

static void *race_answers(void *arg)
{
	struct race *r = arg;

	for (uint32_t i = 0; i < RACE_STREAMS; i++) {
		while (atomic_load_explicit(&r->sent, memory_order_acquire) <= i)
			(void) sched_yield();
		if (i % 3 == 0)
			race_feed(r, S, 2 * i + 1, RST_STREAM, 0, BYTES("\0\0\0\1"));
		else
			race_feed(r, S, 2 * i + 1, HEADERS, EH | ES, BYTES("\x88"));
		if (i % 16 == 0) {
			race_feed(r, S, 0, SETTINGS, 0, BYTES(TABLE("\0\0\x10\0")));
			atomic_fetch_add_explicit(&r->asked, 1, memory_order_release);
		}
	}
	return NULL;
}

/* Whatever order they come in, each stream is closed once. */
static void directions_do_not_wait_for_each_other(void **state)
{
	static const struct frame hello[] = { BEGIN };
	static struct race r;
	uint32_t acks = 0;
	pthread_t thread;

	(void) state;
	r.memory = malloc(HTTP2_MEMORY);
	http2_init(&r.h, HTTP2_CLIENT, r.memory, HTTP2_MEMORY);
	for (size_t i = 0; i < N_ELEMENTS(hello); i++)
		race_feed(&r, hello[i].side, hello[i].stream, hello[i].type, hello[i].flags,
			  hello[i].payload, hello[i].n);
	assert_int_equal(pthread_create(&thread, NULL, race_answers, &r), 0);
	for (uint32_t i = 0; i < RACE_STREAMS; i++) {
		race_feed(&r, C, 2 * i + 1, HEADERS, EH | (i % 2 ? ES : 0), BYTES("\x82"));
		atomic_store_explicit(&r.sent, i + 1, memory_order_release);
		if (i % 2 == 0)
			race_feed(&r, C, 2 * i + 1, DATA, ES, "x", 1);
		if (i % 5 == 0)
			race_feed(&r, C, 2 * i + 1, RST_STREAM, 0, BYTES("\0\0\0\1"));
		for (; acks < atomic_load_explicit(&r.asked, memory_order_acquire); acks++)
			race_feed(&r, C, 0, SETTINGS, A, NULL, 0);
		while (i >= atomic_load_explicit(&r.asked, memory_order_acquire) * 16 + 64)
			(void) sched_yield(); /* the table has room for those in flight */
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (unsigned slot = 0; slot < HTTP2_STREAMS; slot++)
		assert_int_equal(http2_stream(&r.h, slot), 0);
	assert_int_equal(r.h.flows[C].reason | r.h.flows[S].reason, HTTP2_FOLLOWED);
	print_message("# closed by requests %llu, by answers %llu\n",
		      (unsigned long long) r.seen[C], (unsigned long long) r.seen[S]);
	assert_int_equal(r.seen[C] + r.seen[S], RACE_STREAMS);
	free(r.memory);
}

/* ---- where header blocks begin ---- */

static size_t plain(struct said2 *s, const char *bytes, size_t n, bool *ret_block)
{
	struct http2_walk at = http2_walk(&s->h, C);
	/* By itself on a page that ends with it: nothing beyond is read. */
	const size_t walked = http2_plain(&at, edge_bytes(bytes, n), n);

	*ret_block = at.block;
	return walked;
}

static void blocks_are_found_from_any_place(void **state)
{
	static const char frames[] = PREFACE "\0\0\0\4\0\0\0\0\0"       /* SETTINGS */
				     "\0\0\4\10\0\0\0\0\0" "\0\0\1\0" /* WINDOW_UPDATE */
				     "\0\0\6\1\5\0\0\0\1" GET;
	const size_t head = sizeof(frames) - 1 - (sizeof(GET) - 1) - HTTP2_FRAME_HEAD;
	bool block;

	(void) state;
	for (size_t fed = 0; fed < sizeof(frames) - 1; fed++) {
		said2_begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
		feed(&whole, C, frames, fed);

		const size_t walked =
			plain(&whole, frames + fed, sizeof(frames) - 1 - fed, &block);
		/* From within the head of a frame it cannot be told what that is. */
		const bool in_head = (fed > 24 && fed < 33) || (fed > 33 && fed < 42);

		assert_true(block);
		assert_int_equal(walked, fed > head || in_head ? 0 : head - fed);
		assert_int_equal(http2_frame_left(&whole.h, C) > 0, true);
	}
}

static void a_head_that_is_cut_may_be_of_a_block(void **state)
{
	static const char frames[] = "\0\0\2\0\0\0\0\0\1" "xx" "\0\0\5\1\5\0\0\0";
	bool block;

	(void) state;
	said2_begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	feed(&whole, C, PREFACE, 24);
	assert_int_equal(plain(&whole, frames, 11, &block), 11);
	assert_false(block);
	for (size_t n = 12; n < sizeof(frames); n++) {
		assert_int_equal(plain(&whole, frames, n, &block), 11);
		assert_true(block);
	}
	assert_int_equal(plain(&whole, frames, 8, &block), 0);
	assert_int_equal(http2_frame_left(&whole.h, C), HTTP2_FRAME_HEAD);
}

static void what_is_opaque_has_no_blocks(void **state)
{
	bool block;

	(void) state;
	said2_begin(&whole, HTTP2_CLIENT, HTTP2_MEMORY, NULL);
	http2_lost(&whole.h, C);
	assert_int_equal(plain(&whole, "\0\0\5\1\5\0\0\0\1", 9, &block), 9);
	assert_false(block);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_answered),
		cmocka_unit_test(blocks_are_found_from_any_place),
		cmocka_unit_test(a_head_that_is_cut_may_be_of_a_block),
		cmocka_unit_test(what_is_opaque_has_no_blocks),
		cmocka_unit_test(other_frames_pass),
		cmocka_unit_test(settings_hold_from_their_ack_on),
		cmocka_unit_test(gives_up_where_it_cannot_follow),
		cmocka_unit_test(adds_to_nothing_odd),
		cmocka_unit_test(the_first_bytes_tell),
		cmocka_unit_test(streams_beyond_the_table_are_not_followed),
		cmocka_unit_test(a_slot_stays_until_the_next_call),
		cmocka_unit_test(long_values_are_cut),
		cmocka_unit_test(a_flood_ends),
		cmocka_unit_test(memory_has_an_end),
		cmocka_unit_test(frames_may_be_as_long_as_was_ever_allowed),
		cmocka_unit_test(unanswered_settings_have_an_end),
		cmocka_unit_test(data_can_be_skipped),
		cmocka_unit_test(lost_bytes_make_it_opaque),
		cmocka_unit_test(directions_do_not_wait_for_each_other),
	};
	const int failed = cmocka_run_group_tests_name("http2", tests, NULL, NULL);

	free(whole.memory);
	free(parts.memory);
	return failed;
}
