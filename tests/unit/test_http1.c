/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of HTTP/1: where messages, heads and bodies begin and end, what is kept, and
 * when to give up. Rows are messages with what is said of them set in between, "[line]GET ...";
 * each comes whole, byte by byte and cut in two at every place, at the edge of a page.
 */
#include "core/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/edge.h"
#include "tests/unit/http1_said.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define ARENA 4096
#define TEXT_MAX 4096
#define REQUEST  HTTP1_REQUESTS
#define RESPONSE HTTP1_RESPONSES

/* The bytes of a literal, NULs among them. */
#define BYTES(literal) .marked = (literal), .n = sizeof(literal) - 1

static struct said whole, parts;

struct row {
	const char *name;
	enum http1_side side;
	const char *marked;
	size_t n;
	const char *heads;          /* as said_head() writes them; NULL: not looked at */
	enum http1_reason reason;
	enum http1_method to;
};

static const char *const marks[] = {
	[HTTP1_LINE] = "[line]",
	[HTTP1_BLANK] = "[blank]",
	[HTTP1_HEAD_DONE] = "[head]",
	[HTTP1_FULL] = "[full]",
	[HTTP1_DONE] = "[done]",
	[HTTP1_OPAQUE] = "[opaque]",
};

static size_t without_marks(const char *marked, size_t n, char *ret)
{
	size_t used = 0;

	for (size_t i = 0; i < n;) {
		size_t mark = 0;

		for (size_t m = HTTP1_LINE; m < N_ELEMENTS(marks) && mark == 0; m++) {
			const size_t length = strlen(marks[m]);

			if (length <= n - i && memcmp(marked + i, marks[m], length) == 0)
				mark = length;
		}
		if (mark == 0)
			ret[used++] = marked[i++];
		i += mark;
	}
	return used;
}

static size_t with_marks(const struct said *s, const char *bytes, size_t n, char *ret)
{
	size_t used = 0, stop = 0;

	for (size_t i = 0; i <= n; i++) {
		for (; stop < s->n_stops && s->stops[stop].at == i; stop++)
			used += strlen(strcpy(ret + used, marks[s->stops[stop].stop]));
		if (i < n)
			ret[used++] = bytes[i];
	}
	return used;
}

static void begin(struct said *s, const struct row *row, size_t arena, size_t grow)
{
	said_begin(s, row->side, arena, grow, NULL);
	s->p.to = row->to;
}

static void feed(struct said *s, const char *bytes, size_t n)
{
	said_feed(s, edge_bytes(bytes, n), n);
	assert_null(s->wrong);
}

static void feed_bytes(struct said *s, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		feed(s, bytes + i, 1);
}

/* Whole it says what the row says; in any parts it says what it said whole. */
static void check_cuts(const struct row *row, const char *bytes, size_t n)
{
	begin(&parts, row, ARENA, 0);
	feed_bytes(&parts, bytes, n);
	assert_true(said_same(&whole, &parts));
	for (size_t cut = 0; cut <= n; cut++) {
		begin(&parts, row, ARENA, 0);
		feed(&parts, bytes, cut);
		said_feed(&parts, NULL, 0);
		feed(&parts, bytes + cut, n - cut);
		assert_true(said_same(&whole, &parts));
	}
}

/* From an arena of one byte that grows by one, the heads are the same. */
static void check_growth(const struct row *row, const char *bytes, size_t n)
{
	begin(&parts, row, 1, 1);
	feed(&parts, bytes, n);
	assert_string_equal(parts.heads_room, whole.heads_room);
}

/*
 * A copy of the struct at every place is one to come back to, after any number of further
 * bytes of the same message.
 */
static void check_copies(const struct row *row, const char *bytes, size_t n)
{
	for (size_t cut = 0; cut < n; cut++) {
		size_t next = cut;

		begin(&parts, row, ARENA, 0);
		feed(&parts, bytes, cut);

		const struct http1 copy = parts.p;
		const size_t at = parts.at, line_at = parts.line_at;
		const size_t n_stops = parts.n_stops, heads = parts.heads.used;

		while (next < n && (next == cut || !http1_between(&parts.p)))
			feed(&parts, bytes + next++, 1);
		parts.p = copy;
		parts.at = at;
		parts.line_at = line_at;
		parts.n_stops = n_stops;
		text_cut_back(&parts.heads, heads);
		feed(&parts, bytes + cut, n - cut);
		assert_true(said_same(&whole, &parts));
	}
}

static void check(const struct row *row)
{
	static char bytes[TEXT_MAX], said[TEXT_MAX];
	const size_t n = without_marks(row->marked, row->n, bytes);

	print_message("# %s\n", row->name);
	begin(&whole, row, ARENA, 0);
	feed(&whole, bytes, n);

	const size_t said_n = with_marks(&whole, bytes, n, said);

	if (said_n != row->n || memcmp(said, row->marked, said_n) != 0)
		fail_msg("said %.*s", (int) said_n, said);
	if (row->heads)
		assert_string_equal(whole.heads_room, row->heads);
	assert_int_equal(whole.p.reason, row->reason);
	check_cuts(row, bytes, n);
	check_growth(row, bytes, n);
	check_copies(row, bytes, n);
}

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check(&rows[i]);
}

#define GET   "[line]GET / HTTP/1.1\r\n"
#define POST  "[line]POST / HTTP/1.1\r\n"
#define OK    "[line]HTTP/1.1 200 OK\r\n"
#define BLANK "[blank]\r\n[head]"
#define NONE  "[blank]\r\n[head][done]" /* no body */
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static void requests_end_where_they_say(void **state)
{
	static const struct row rows[] = {
		{ "no body", REQUEST, BYTES(GET "Host: a\r\n" NONE),
		  "GET/1.1 method=GET target=/ host=a\n" },
		{ "no field at all", REQUEST, BYTES(GET NONE), "GET/1.1 method=GET target=/\n" },
		{ "a length", REQUEST, BYTES(POST "Content-Length: 5\r\n" BLANK "GET /[done]") },
		{ "a length of 0", REQUEST, BYTES(POST "content-length:0\r\n" NONE) },
		{ "a length with zeros and space", REQUEST,
		  BYTES(POST "CONTENT-LENGTH: \t 0003  \r\n" BLANK "abc[done]") },
		{ "chunks", REQUEST,
		  BYTES(POST CHUNKED BLANK "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n[done]") },
		{ "no chunk but the last", REQUEST, BYTES(POST CHUNKED BLANK "0\r\n\r\n[done]") },
		{ "chunks in upper case", REQUEST,
		  BYTES(POST "TRANSFER-ENCODING:CHUNKED\r\n" BLANK "0\r\n\r\n[done]") },
		{ "chunk extensions", REQUEST,
		  BYTES(POST CHUNKED BLANK "3;a=\"b\tc\"\r\nabc\r\n000 ; x\r\n\r\n[done]") },
		{ "a chunk like a head's end", REQUEST,
		  BYTES(POST CHUNKED BLANK "4\r\n\r\n\r\n\r\n0\r\n\r\n[done]") },
		{ "trailers", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r\na\r\n0\r\nHost: b\r\nContent-Length: 7\r\n"
					   " folded\r\n\r\n[done]"),
		  "POST/1.1 method=POST target=/\n" },
		{ "trailers by bare LF", REQUEST,
		  BYTES(POST CHUNKED BLANK "0\r\nA: b\n\n[done]") },
		{ "codings ending in chunked", REQUEST,
		  BYTES(POST "Transfer-Encoding: gzip,chunked\r\n" BLANK "0\r\n\r\n[done]") },
		{ "codings in two fields", REQUEST,
		  BYTES(POST "Transfer-Encoding: gzip\r\n" CHUNKED BLANK "0\r\n\r\n[done]") },
		{ "one after the other", REQUEST,
		  BYTES(POST "Content-Length: 1\r\n" BLANK "x[done]" GET NONE
			POST CHUNKED BLANK "1\r\nx\r\n0\r\n\r\n[done]" GET NONE),
		  "POST/1.1 length=1 method=POST target=/\nGET/1.1 method=GET target=/\n"
		  "POST/1.1 method=POST target=/\nGET/1.1 method=GET target=/\n" },
		{ "bare LF", REQUEST,
		  BYTES("[line]GET / HTTP/1.1\nHost: a\nX: y \n[blank]\n[head][done]" GET NONE),
		  "GET/1.1 method=GET target=/ host=a\nGET/1.1 method=GET target=/\n" },
		{ "LF and CR LF", REQUEST,
		  BYTES("[line]GET / HTTP/1.1\r\nHost: a\n[blank]\r\n[head][done]") },
		{ "empty lines first", REQUEST,
		  BYTES("\r\n\n\r\n" GET NONE "\r\n" GET NONE "\r\n") },
		{ "HTTP/1.0", REQUEST, BYTES("[line]GET / HTTP/1.0\r\n" NONE),
		  "GET/1.0 last method=GET target=/\n" },
		{ "HTTP/1.0 that stays", REQUEST,
		  BYTES("[line]GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" NONE),
		  "GET/1.0 method=GET target=/\n" },
		{ "a folded field that is none of ours", REQUEST,
		  BYTES(GET "X: a\r\n b\r\n\tc\r\n \r\n" NONE) },
		{ "a HEAD request with a body", REQUEST,
		  BYTES("[line]HEAD / HTTP/1.1\r\nContent-Length: 1\r\n" BLANK "x[done]") },
		{ "the head so far", REQUEST, BYTES(GET "Host: a\r\nX") },
		{ "the line so far", REQUEST, BYTES("[line]G") },
		{ "an empty line so far", REQUEST, BYTES("\r") },
		{ "the body so far", REQUEST, BYTES(POST "Content-Length: 5\r\n" BLANK "GET ") },
		{ "the chunk so far", REQUEST, BYTES(POST CHUNKED BLANK "fffffffffffffff\r\nGE") },
		{ "the longest length", REQUEST,
		  BYTES(POST "Content-Length: 18446744073709551615\r\n" BLANK "x") },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void request_lines_come_in_all_forms(void **state)
{
	static const struct row rows[] = {
		{ "origin", REQUEST, BYTES("[line]DELETE /a/b?c=d&e=%20 HTTP/1.1\r\n" NONE),
		  "DELETE/1.1 method=DELETE target=/a/b?c=d&e=%20\n" },
		{ "absolute", REQUEST, BYTES("[line]PUT http://a:80/b HTTP/1.1\r\n" NONE),
		  "PUT/1.1 method=PUT target=http://a:80/b\n" },
		{ "asterisk", REQUEST, BYTES("[line]OPTIONS * HTTP/1.1\r\n" NONE),
		  "OPTIONS/1.1 method=OPTIONS target=*\n" },
		{ "a target in UTF-8", REQUEST,
		  BYTES("[line]PATCH /\xc3\xa4\xff HTTP/1.1\r\n" NONE),
		  "PATCH/1.1 method=PATCH target=/\xc3\xa4\xff\n" },
		{ "TRACE", REQUEST, BYTES("[line]TRACE / HTTP/1.1\r\n" NONE),
		  "TRACE/1.1 method=TRACE target=/\n" },
		{ "a method unknown to us", REQUEST, BYTES("[line]PROPFIND / HTTP/1.1\r\n" NONE),
		  "_OTHER/1.1 method=PROPFIND target=/\n" },
		{ "methods have a case", REQUEST, BYTES("[line]get / HTTP/1.1\r\n" NONE),
		  "_OTHER/1.1 method=get target=/\n" },
		{ "a method's beginning", REQUEST, BYTES("[line]POS / HTTP/1.1\r\n" NONE),
		  "_OTHER/1.1 method=POS target=/\n" },
		{ "the longest method", REQUEST,
		  BYTES("[line]M-SEARCH.abcdefghij! / HTTP/1.1\r\n" NONE),
		  "_OTHER/1.1 method=M-SEARCH.abcdefghij! target=/\n" },
		{ "CONNECT", REQUEST,
		  BYTES("[line]CONNECT a:443 HTTP/1.1\r\nHost: a\r\n" BLANK "[opaque]\x16\x03"),
		  "CONNECT/1.1 method=CONNECT target=a:443 host=a\n", HTTP1_TUNNEL },
		{ "CONNECT with a length", REQUEST,
		  BYTES("[line]CONNECT a:443 HTTP/1.1\r\nContent-Length: 1\r\n" BLANK "[opaque]"),
		  NULL, HTTP1_TUNNEL },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void responses_end_where_they_say(void **state)
{
	static const struct row rows[] = {
		{ "a length", RESPONSE,
		  BYTES(OK "Content-Type: text/plain\r\nContent-Length: 5\r\n" BLANK "HTTP/[done]"),
		  "200/1.1 length=5 content-type=text/plain\n" },
		{ "a length of 0", RESPONSE, BYTES(OK "Content-Length: 0\r\n" NONE), "200/1.1\n" },
		{ "chunks", RESPONSE, BYTES(OK CHUNKED BLANK "1\r\na\r\n0\r\nX: y\r\n\r\n[done]") },
		{ "until close", RESPONSE, BYTES(OK BLANK "HTTP/1.1 200 OK\r\n\r\n"),
		  "200/1.1 until-close\n" },
		{ "a coding that is not chunked", RESPONSE,
		  BYTES(OK "Transfer-Encoding: gzip\r\n" BLANK "x"), "200/1.1 until-close\n" },
		{ "HTTP/1.0", RESPONSE, BYTES("[line]HTTP/1.0 200 OK\r\n" BLANK "x"),
		  "200/1.0 last until-close\n" },
		{ "HTTP/1.0 that stays", RESPONSE,
		  BYTES("[line]HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n"
			BLANK "x[done]" OK "Content-Length: 0\r\n" NONE),
		  "200/1.0 length=1\n200/1.1\n" },
		{ "to HEAD", RESPONSE,
		  BYTES(OK "Content-Length: 7\r\n" NONE OK CHUNKED NONE OK NONE),
		  "200/1.1\n200/1.1\n200/1.1\n", .to = HTTP1_HEAD },
		{ "204", RESPONSE, BYTES("[line]HTTP/1.1 204 No Content\r\n" NONE OK
			"Content-Length: 0\r\n" NONE) },
		{ "304 with a length", RESPONSE,
		  BYTES("[line]HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n" NONE) },
		{ "100, 103 and the answer", RESPONSE,
		  BYTES("[line]HTTP/1.1 100 Continue\r\n" NONE
			"[line]HTTP/1.1 103 Early Hints\r\nLink: x\r\n" NONE
			OK "Content-Length: 1\r\n" BLANK "x[done]"),
		  "100/1.1\n103/1.1\n200/1.1 length=1\n" },
		{ "101", RESPONSE,
		  BYTES("[line]HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
			"Connection: upgrade\r\n" BLANK "[opaque]\x81\x01x"),
		  "101/1.1\n", HTTP1_UPGRADED },
		{ "2xx to CONNECT", RESPONSE,
		  BYTES("[line]HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n" BLANK
			"[opaque]\x16"),
		  "200/1.1\n", HTTP1_TUNNEL, HTTP1_CONNECT },
		{ "407 to CONNECT", RESPONSE,
		  BYTES("[line]HTTP/1.1 407 No\r\nContent-Length: 1\r\n" BLANK "x[done]"),
		  "407/1.1 length=1\n", .to = HTTP1_CONNECT },
		{ "no reason", RESPONSE,
		  BYTES("[line]HTTP/1.1 404 \r\nContent-Length: 0\r\n" NONE) },
		{ "no space before no reason", RESPONSE,
		  BYTES("[line]HTTP/1.1 404\r\nContent-Length: 0\r\n" NONE) },
		{ "a reason in Latin-1", RESPONSE,
		  BYTES("[line]HTTP/1.1 999 gr\xfc\xdf\te\n[blank]\n[head]"),
		  "999/1.1 until-close\n" },
		{ "205 has its length", RESPONSE,
		  BYTES("[line]HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n" NONE) },
		{ "nothing is asked of an upgrade", RESPONSE,
		  BYTES(OK "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n" NONE),
		  "200/1.1\n" },
		{ "close", RESPONSE, BYTES(OK "Connection: close\r\nContent-Length: 0\r\n" NONE),
		  "200/1.1 last\n" },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void lists_are_heard_word_by_word(void **state)
{
	static const struct row rows[] = {
		{ "close", REQUEST, BYTES(GET "Connection: close\r\n" NONE),
		  "GET/1.1 last method=GET target=/\n" },
		{ "Close among others", REQUEST, BYTES(GET "Connection: a ,\t,Close , b\r\n" NONE),
		  "GET/1.1 last method=GET target=/\n" },
		{ "close in the second of two fields", REQUEST,
		  BYTES(GET "Connection: te\r\nConnection: close\r\n" NONE),
		  "GET/1.1 last method=GET target=/\n" },
		{ "close in a continued line", REQUEST,
		  BYTES(GET "Connection: te,\r\n close\r\n" NONE),
		  "GET/1.1 last method=GET target=/\n" },
		{ "close and keep-alive", REQUEST,
		  BYTES("[line]GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n" NONE),
		  "GET/1.0 last method=GET target=/\n" },
		{ "not close", REQUEST,
		  BYTES(GET "Connection: closed, clos, clo se, x close, \"close\"\r\n"
			    "Proxy-Connection: close\r\n" NONE),
		  "GET/1.1 method=GET target=/\n" },
		{ "a word too long to be one of ours", REQUEST,
		  BYTES(GET "Connection: close-close-close-close-close-close-close-close-close, "
			    "close\r\n" NONE),
		  "GET/1.1 last method=GET target=/\n" },
		{ "an upgrade", REQUEST,
		  BYTES(GET "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" NONE),
		  "GET/1.1 upgrade method=GET target=/\n" },
		{ "an upgrade to nothing", REQUEST,
		  BYTES(GET "Upgrade:\r\nConnection: Upgrade\r\n" NONE),
		  "GET/1.1 method=GET target=/\n" },
		{ "an upgrade not in Connection", REQUEST, BYTES(GET "Upgrade: h2c\r\n" NONE),
		  "GET/1.1 method=GET target=/\n" },
		{ "no upgrade from HTTP/1.0", REQUEST,
		  BYTES("[line]GET / HTTP/1.0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n" NONE),
		  "GET/1.0 last method=GET target=/\n" },
		{ "expects", REQUEST,
		  BYTES(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n" BLANK "x[done]"
			GET NONE),
		  "POST/1.1 expects length=1 method=POST target=/\nGET/1.1 method=GET target=/\n" },
		{ "expects, among others", REQUEST, BYTES(GET "Expect: 100-continue, x\r\n" NONE),
		  "GET/1.1 expects method=GET target=/\n" },
		{ "expects something else", REQUEST, BYTES(GET "Expect: 200-ok\r\n" NONE),
		  "GET/1.1 method=GET target=/\n" },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void fields_of_interest_are_kept(void **state)
{
	static const struct row rows[] = {
		{ "every name, in any case", REQUEST,
		  BYTES(GET "HOST: a.example:80\r\nTraceparent: 00-1\r\ntracestate: a=1\r\n"
			    "Baggage: k=v\r\nB3: 0\r\nX-B3-TraceId: 1\r\nx-b3-SPANID: 2\r\n"
			    "X-B3-ParentSpanId: 3\r\nX-B3-Sampled: 4\r\nX-B3-Flags: 5\r\n"
			    "Uber-Trace-Id: 6\r\nX-Trace-ID: 7\r\nUser-Agent: curl/7.88.1 (x)\r\n"
			    "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nContent-Type: a/b\r\n" NONE),
		  "GET/1.1 method=GET target=/ host=a.example:80 traceparent=00-1 tracestate=a=1 "
		  "baggage=k=v b3=0 x-b3-traceid=1 x-b3-spanid=2 x-b3-parentspanid=3 "
		  "x-b3-sampled=4 x-b3-flags=5 uber-trace-id=6 x-trace-id=7 "
		  "user-agent=curl/7.88.1 (x) x-forwarded-for=1.2.3.4, 5.6.7.8 "
		  "content-type=a/b\n" },
		{ "white space around", REQUEST,
		  BYTES(GET "B3:a\r\nB3: b\r\nB3:\t c \t\r\nB3:  d  e  \n" NONE),
		  "GET/1.1 method=GET target=/ b3=a b3=b b3=c b3=d  e\n" },
		{ "nothing but white space", REQUEST,
		  BYTES(GET "B3:\r\nB3: \t \r\nHost:\n" NONE),
		  "GET/1.1 method=GET target=/ b3= b3= host=\n" },
		{ "continued lines", REQUEST,
		  BYTES(GET "B3: a\r\n b\r\nB3: a\r\n \t\r\n\t\tb c\r\n" NONE),
		  "GET/1.1 method=GET target=/ b3=a b b3=a b c\n" },
		{ "white space and continued lines", REQUEST,
		  BYTES(GET "B3: a \r\n b\r\nB3:\r\n b\r\nB3: a\n \nB3: \n b \n c\n" NONE),
		  "GET/1.1 method=GET target=/ b3=a b b3=b b3=a b3=b c\n" },
		{ "names like ours", REQUEST,
		  BYTES(GET "b: 1\r\nb33: 2\r\ntraceparen: 3\r\ntraceparent_: 4\r\nhost-: 5\r\n"
			    "x-trace-ie: 6\r\n" NONE),
		  "GET/1.1 method=GET target=/\n" },
		{ "a name longer than any", REQUEST,
		  BYTES(GET "traceparent-traceparent-traceparent-traceparent-traceparent: 1\r\n"
			    "traceparent: 2\r\n" NONE),
		  "GET/1.1 method=GET target=/ traceparent=2\n" },
		{ "values of any byte", REQUEST, BYTES(GET "B3: \"\x80\xff,:\t;\\\r\n" NONE),
		  "GET/1.1 method=GET target=/ b3=\"\x80\xff,:\t;\\\n" },
		{ "of the present head alone", REQUEST, BYTES(GET "B3: 1\r\n" NONE GET NONE),
		  "GET/1.1 method=GET target=/ b3=1\nGET/1.1 method=GET target=/\n" },
	};

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void other_protocols_are_known_early(void **state)
{
#define OTHER NULL, HTTP1_NOT_HTTP
	static const struct row rows[] = {
		{ "TLS", REQUEST, BYTES("[opaque]\x16\x03\x01\x02\0\x01"), OTHER },
		{ "TLS, answering", RESPONSE, BYTES("[opaque]\x16\x03\x03"), OTHER },
		{ "PostgreSQL", REQUEST, BYTES("[opaque]\0\0\0\x08\x04\xd2\x16\x2f"), OTHER },
		{ "PostgreSQL, answering", RESPONSE, BYTES("[opaque]N"), OTHER },
		{ "MySQL, answering", RESPONSE, BYTES("[opaque]J\0\0\0"), OTHER },
		{ "Redis", REQUEST, BYTES("[line]*1[opaque]\r\n$4\r\nPING\r\n"), OTHER },
		{ "Redis by hand", REQUEST, BYTES("[line]PING[opaque]\r\n"), OTHER },
		{ "Redis, answering", RESPONSE, BYTES("[opaque]+PONG\r\n"), OTHER },
		{ "SSH", REQUEST, BYTES("[line]SSH-2.0-OpenSSH_9.2p[opaque]1\r\n"), OTHER },
		{ "SSH, answering", RESPONSE, BYTES("[opaque]SSH-2.0-OpenSSH_9.2p1\r\n"), OTHER },
		{ "SMTP", REQUEST, BYTES("[line]EHLO a.example[opaque]\r\n"), OTHER },
		{ "memcached", REQUEST, BYTES("[line]set k [opaque]0 0 1\r\n"), OTHER },
		{ "HTTP/0.9", REQUEST, BYTES("[line]GET /[opaque]\r\n"), OTHER },
		{ "HTTP/2.0, not by its preface", REQUEST,
		  BYTES("[line]GET / HTTP/[opaque]2.0"), OTHER },
		{ "HTTP/1.2", REQUEST, BYTES("[line]GET / HTTP/1.[opaque]2"), OTHER },
		{ "RTSP", REQUEST, BYTES("[line]OPTIONS rtsp://a [opaque]RTSP/1.0\r\n"), OTHER },
		{ "SIP, answering", RESPONSE, BYTES("[opaque]SIP/2.0 200 OK\r\n"), OTHER },
		{ "ICY, answering", RESPONSE, BYTES("[opaque]ICY 200 OK\r\n"), OTHER },
		{ "HTTP/2, answering", RESPONSE, BYTES("[opaque]\0\0\x12\x04\0\0\0\0\0"), OTHER },
		{ "HTTP/3 in letters", RESPONSE, BYTES("[line]HTTP/[opaque]3 200\r\n"), OTHER },
		{ "an answer that is a request", RESPONSE,
		  BYTES("[opaque]GET / HTTP/1.1\r\n"), OTHER },
		{ "an empty line before an answer", RESPONSE,
		  BYTES("[opaque]\r\nHTTP/1.1 200"), OTHER },
		{ "CR alone", REQUEST, BYTES("\r[opaque]GET / HTTP/1.1\r\n"), OTHER },
		{ "no method", REQUEST, BYTES("[opaque] / HTTP/1.1\r\n"), OTHER },
		{ "no target", REQUEST, BYTES("[line]GET [opaque] HTTP/1.1\r\n"), OTHER },
		{ "two spaces", REQUEST, BYTES("[line]GET / [opaque] HTTP/1.1\r\n"), OTHER },
		{ "a tab", REQUEST, BYTES("[line]GET[opaque]\t/ HTTP/1.1\r\n"), OTHER },
		{ "a method that is no token", REQUEST,
		  BYTES("[line]GE[opaque](T / HTTP/1.1\r\n"), OTHER },
		{ "a method too long", REQUEST,
		  BYTES("[line]ABCDEFGHIJKLMNOPQRST[opaque]U / HTTP/1.1\r\n"), OTHER },
		{ "DEL in a target", REQUEST,
		  BYTES("[line]GET /[opaque]\x7f HTTP/1.1\r\n"), OTHER },
		{ "NUL in a target", REQUEST, BYTES("[line]GET /[opaque]\0 HTTP/1.1\r\n"), OTHER },
		{ "http in lower case", REQUEST, BYTES("[line]GET / [opaque]http/1.1\r\n"), OTHER },
		{ "the HTTP/2 preface", REQUEST,
		  BYTES("[line]PRI * HTTP/[opaque]2.0\r\n\r\nSM\r\n\r\n"), NULL, HTTP1_H2_PREFACE },
		{ "the preface after an upgrade", REQUEST,
		  BYTES(GET NONE "[line]PRI * HTTP/[opaque]2.0\r\n"), NULL, HTTP1_H2_PREFACE },
		{ "nearly the preface", REQUEST, BYTES("[line]PR I* HTTP/[opaque]2.0\r\n"), OTHER },
		{ "the method PRI", REQUEST, BYTES("[line]PRI * HTTP/1.1\r\n" NONE) },
	};
#undef OTHER

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void bad_syntax_is_not_followed(void **state)
{
#define BAD NULL, HTTP1_BAD_SYNTAX
	static const struct row rows[] = {
		{ "space after the version", REQUEST,
		  BYTES("[line]GET / HTTP/1.1[opaque] \r\n"), BAD },
		{ "a version of two digits", REQUEST,
		  BYTES("[line]GET / HTTP/1.1[opaque]1\r\n"), BAD },
		{ "CR alone after the version", REQUEST,
		  BYTES("[line]GET / HTTP/1.1\r[opaque]X\n"), BAD },
		{ "space before the colon", REQUEST, BYTES(GET "Host[opaque] : a\r\n"), BAD },
		{ "no name", REQUEST, BYTES(GET "[opaque]: a\r\n"), BAD },
		{ "no colon", REQUEST, BYTES(GET "Host[opaque]\r\n\r\n"), BAD },
		{ "a name that is no token", REQUEST, BYTES(GET "Ho[opaque]@st: a\r\n"), BAD },
		{ "a name in UTF-8", REQUEST, BYTES(GET "H[opaque]\xc3\xb6st: a\r\n"), BAD },
		{ "a first line that is continued", REQUEST,
		  BYTES(GET "[opaque] Host: a\r\n"), BAD },
		{ "NUL in a name", REQUEST, BYTES(GET "H[opaque]\0: a\r\n"), BAD },
		{ "NUL in a value", REQUEST, BYTES(GET "Host: a[opaque]\0b\r\n"), BAD },
		{ "NUL in a value of no interest", REQUEST,
		  BYTES(GET "Hist: abcdefghijklmnop[opaque]\0b\r\n"), BAD },
		{ "a control character", REQUEST,
		  BYTES(GET "X: abcdefg[opaque]\x01hijklmnopq\r\n"), BAD },
		{ "DEL", REQUEST, BYTES(GET "X: abc\t\xff\x80[opaque]\x7f hijklmnopq\r\n"), BAD },
		{ "CR alone in a value", REQUEST, BYTES(GET "Host: a\r[opaque]b\r\n"), BAD },
		{ "two CR", REQUEST, BYTES(GET "Host: a\r[opaque]\r\n\r\n"), BAD },
		{ "CR alone for a blank line", REQUEST,
		  BYTES(GET "[blank]\r[opaque]Host: a\r\n"), BAD },
		{ "garbage after a message", REQUEST, BYTES(GET NONE "[opaque]\x16\x03"), BAD },
		{ "a bad line after a message", REQUEST,
		  BYTES(GET NONE "[line]GET /[opaque]\r\n"), BAD },
		{ "CR alone after a message", REQUEST, BYTES(GET NONE "\r[opaque]GET"), BAD },
		{ "garbage after an answer", RESPONSE,
		  BYTES(OK "Content-Length: 0\r\n" NONE "[opaque]x"), BAD },
		{ "an empty line after an answer", RESPONSE,
		  BYTES(OK "Content-Length: 0\r\n" NONE "[opaque]\r\n"), BAD },
		{ "a bad version after an answer", RESPONSE,
		  BYTES(OK "Content-Length: 0\r\n" NONE "[line]HTTP/1.[opaque]2 200"), BAD },
		{ "no space before the status", RESPONSE,
		  BYTES("[line]HTTP/1.1[opaque]200 OK\r\n"), BAD },
		{ "a status of two digits", RESPONSE,
		  BYTES("[line]HTTP/1.1 20[opaque] OK\r\n"), BAD },
		{ "a status of four digits", RESPONSE,
		  BYTES("[line]HTTP/1.1 200[opaque]0 OK\r\n"), BAD },
		{ "a status below 100", RESPONSE, BYTES("[line]HTTP/1.1 [opaque]099 OK\r\n"), BAD },
		{ "no status", RESPONSE, BYTES("[line]HTTP/1.1[opaque]\r\n"), BAD },
		{ "NUL in a reason", RESPONSE, BYTES("[line]HTTP/1.1 200 [opaque]\0\r\n"), BAD },
		{ "a trailer without colon", REQUEST,
		  BYTES(POST CHUNKED BLANK "0\r\nHost[opaque]\r\n\r\n"), BAD },
		{ "a first trailer that is continued", REQUEST,
		  BYTES(POST CHUNKED BLANK "0\r\n[opaque] x\r\n\r\n"), BAD },
		{ "CR alone after trailers", REQUEST,
		  BYTES(POST CHUNKED BLANK "0\r\n\r[opaque]x\r\n\r\n"), BAD },
	};
#undef BAD

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void doubtful_framing_is_not_followed(void **state)
{
#define BAD NULL, HTTP1_BAD_FRAMING
#define LENGTH "Content-Length: 5\r\n"
	static const struct row rows[] = {
		{ "unlike lengths", REQUEST,
		  BYTES(POST LENGTH "Content-Length[opaque]: 6\r\n\r\n"), BAD },
		{ "two equal lengths", REQUEST,
		  BYTES(POST LENGTH "Content-Length[opaque]: 5\r\n"), BAD },
		{ "a list of lengths", REQUEST,
		  BYTES(POST "Content-Length: 5[opaque], 5\r\n"), BAD },
		{ "two words", REQUEST, BYTES(POST "Content-Length: 5 [opaque]5\r\n"), BAD },
		{ "no length", REQUEST, BYTES(POST "Content-Length:\r\n[opaque]\r\n"), BAD },
		{ "a sign", REQUEST, BYTES(POST "Content-Length: [opaque]+5\r\n"), BAD },
		{ "hex", REQUEST, BYTES(POST "Content-Length: 0[opaque]x5\r\n"), BAD },
		{ "a length beyond 64 bits", REQUEST,
		  BYTES(POST "Content-Length: 1844674407370955161[opaque]6\r\n"), BAD },
		{ "a continued length", REQUEST,
		  BYTES(POST "Content-Length: 5\r\n[opaque] 6\r\n"), BAD },
		{ "a length, continued by nothing", REQUEST,
		  BYTES(POST "Content-Length: 5\r\n[opaque] \r\n"), BAD },
		{ "a length that begins a line later", REQUEST,
		  BYTES(POST "Content-Length:\r\n[opaque] 5\r\n"), BAD },
		{ "chunks and a length", REQUEST,
		  BYTES(POST CHUNKED "Content-Length[opaque]: 5\r\n"), BAD },
		{ "a length and chunks", REQUEST,
		  BYTES(POST LENGTH "Transfer-Encoding[opaque]: chunked\r\n"), BAD },
		{ "both in an answer", RESPONSE,
		  BYTES(OK LENGTH "Transfer-Encoding[opaque]: chunked\r\n"), BAD },
		{ "chunks in HTTP/1.0", REQUEST,
		  BYTES("[line]POST / HTTP/1.0\r\nTransfer-Encoding[opaque]: chunked\r\n"), BAD },
		{ "chunks in an answer of HTTP/1.0", RESPONSE,
		  BYTES("[line]HTTP/1.0 200 OK\r\nTransfer-Encoding[opaque]: chunked\r\n"), BAD },
		{ "another coding", REQUEST,
		  BYTES(POST "Transfer-Encoding: gzip\r\n[opaque]\r\n"), BAD },
		{ "nearly chunked", REQUEST,
		  BYTES(POST "Transfer-Encoding: xchunked\r\n[opaque]\r\n"), BAD },
		{ "chunked, but not last", REQUEST,
		  BYTES(POST "Transfer-Encoding: chunked, gzip\r\n[opaque]\r\n"), BAD },
		{ "chunked, but not last, in an answer", RESPONSE,
		  BYTES(OK CHUNKED "Transfer-Encoding: x\r\n[opaque]\r\n"), BAD },
		{ "chunked twice", REQUEST,
		  BYTES(POST CHUNKED CHUNKED "[opaque]\r\n"), BAD },
		{ "chunked and a comma", REQUEST,
		  BYTES(POST "Transfer-Encoding: chunked,\r\n[opaque]\r\n"), BAD },
		{ "a comma and chunked", REQUEST,
		  BYTES(POST "Transfer-Encoding: [opaque],chunked\r\n\r\n"), BAD },
		{ "no coding", RESPONSE, BYTES(OK "Transfer-Encoding:\r\n[opaque]\r\n"), BAD },
		{ "chunked with a parameter", REQUEST,
		  BYTES(POST "Transfer-Encoding: chunked[opaque];a=\"b,chunked\"\r\n\r\n"), BAD },
		{ "chunked in two words", REQUEST,
		  BYTES(POST "Transfer-Encoding: chunked [opaque]x\r\n\r\n"), BAD },
		{ "chunked behind a vertical tab", REQUEST,
		  BYTES(POST "Transfer-Encoding: [opaque]\vchunked\r\n\r\n"), NULL,
		  HTTP1_BAD_SYNTAX },
		{ "a length and a tab", REQUEST,
		  BYTES(POST "Content-Length: 5[opaque]\t\r\n"), BAD },
		{ "chunked and a tab", REQUEST,
		  BYTES(POST "Transfer-Encoding: chunked[opaque]\t\r\n"), BAD },
		{ "a continued coding", REQUEST,
		  BYTES(POST "Transfer-Encoding:\r\n[opaque] chunked\r\n\r\n"), BAD },
		{ "no size", REQUEST, BYTES(POST CHUNKED BLANK "[opaque]\r\n"), BAD },
		{ "no size after a chunk", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r\na\r\n[opaque]\r\n"), BAD },
		{ "an extension without size", REQUEST,
		  BYTES(POST CHUNKED BLANK "[opaque];a\r\n"), BAD },
		{ "a size that is no hex", REQUEST,
		  BYTES(POST CHUNKED BLANK "1[opaque]g\r\n"), BAD },
		{ "a size with a sign", REQUEST, BYTES(POST CHUNKED BLANK "[opaque]-1\r\n"), BAD },
		{ "a size in C", REQUEST, BYTES(POST CHUNKED BLANK "0[opaque]x1\r\n"), BAD },
		{ "a size beyond 64 bits", REQUEST,
		  BYTES(POST CHUNKED BLANK "1000000000000000[opaque]0\r\n"), BAD },
		{ "a size with LF alone", REQUEST,
		  BYTES(POST CHUNKED BLANK "1[opaque]\na\r\n"), BAD },
		{ "a size with CR alone", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r[opaque]a\r\n"), BAD },
		{ "an extension with LF alone", REQUEST,
		  BYTES(POST CHUNKED BLANK "1;a[opaque]\na"), BAD },
		{ "an extension with NUL", REQUEST,
		  BYTES(POST CHUNKED BLANK "1;a[opaque]\0\r\n"), BAD },
		{ "a chunk longer than its size", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r\na[opaque]b\r\n"), BAD },
		{ "a chunk with LF alone", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r\na[opaque]\n0"), BAD },
		{ "a chunk with CR alone", REQUEST,
		  BYTES(POST CHUNKED BLANK "1\r\na\r[opaque]0"), BAD },
	};
#undef LENGTH
#undef BAD

	(void) state;
	check_rows(rows, N_ELEMENTS(rows));
}

static void garbage_may_be_of_any_length(void **state)
{
	static char bytes[TEXT_MAX];

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, NULL);
	memset(bytes, 'A', sizeof(bytes));
	feed(&whole, bytes, sizeof(bytes));
	assert_int_equal(whole.n_stops, 2); /* line, opaque */
	assert_int_equal(whole.stops[1].stop, HTTP1_OPAQUE);

	const char *const get = "\r\n\r\nGET / HTTP/1.1\r\n\r\n";

	feed(&whole, get, strlen(get)); /* for good, and said once */
	assert_int_equal(whole.n_stops, 2);
	assert_int_equal(whole.p.reason, HTTP1_NOT_HTTP);
	assert_int_equal(whole.at, sizeof(bytes) + strlen(get));
}

static void a_head_has_a_longest(void **state)
{
	static char bytes[HTTP1_HEAD_MAX + 8];
	const char *const line = "GET / HTTP/1.1\r\nX: ";

	(void) state;
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, line, strlen(line));
	memcpy(bytes + HTTP1_HEAD_MAX - 4, "\r\n\r\n", 4);
	said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, NULL);
	feed(&whole, bytes, HTTP1_HEAD_MAX);
	assert_int_equal(whole.p.head_bytes, HTTP1_HEAD_MAX);
	assert_int_equal(whole.stops[whole.n_stops - 1].stop, HTTP1_DONE);

	memcpy(bytes + HTTP1_HEAD_MAX - 4, "x\r\n\r\n", 5); /* one more */
	for (size_t part = 1; part <= sizeof(bytes); part = part * 7 + 1) {
		said_begin(&parts, HTTP1_REQUESTS, ARENA, 0, NULL);
		for (size_t at = 0; at < sizeof(bytes); at += part)
			feed(&parts, bytes + at,
			     part < sizeof(bytes) - at ? part : sizeof(bytes) - at);
		assert_int_equal(parts.p.reason, HTTP1_HEAD_TOO_LONG);
		assert_int_equal(parts.n_stops, 3); /* line, blank, opaque */
		assert_int_equal(parts.stops[2].at, HTTP1_HEAD_MAX);
		assert_int_equal(parts.at, sizeof(bytes));
	}
}

static void field_lines_are_counted(void **state)
{
	const char *const head = "GET / HTTP/1.1\r\nA: b\r\n c\r\nHost: d\r\nA: e\r\n";

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, NULL);
	feed(&whole, head, strlen(head));
	assert_int_equal(whole.p.lines, 3);
	assert_int_equal(whole.p.head_bytes, strlen(head));
	assert_false(http1_between(&whole.p));
	feed(&whole, CHUNKED "\n", strlen(CHUNKED "\n"));
	feed_bytes(&whole, "0\r\nA: b\r\n\r\n", 11); /* of trailers nothing counts */
	assert_int_equal(whole.p.lines, 4);
	assert_int_equal(whole.p.head_bytes, strlen(head) + strlen(CHUNKED "\n"));
	assert_true(http1_between(&whole.p));
}

static void more_fields_than_fit_are_told_of(void **state)
{
	const char *const line = "GET / HTTP/1.1\r\n", *const field = "B3: 1\r\n";
	unsigned n;

	(void) state;
	for (unsigned fields = 0; fields <= HTTP1_FIELDS_MAX; fields++) {
		said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, NULL);
		feed(&whole, line, strlen(line));
		for (unsigned i = 0; i < fields; i++)
			feed(&whole, field, strlen(field));
		feed(&whole, "Content-Length: 1\r\n\r\n", 21);
		assert_int_equal(whole.p.to_read, 1); /* framing is heard all the same */
		assert_int_equal(whole.p.fields_cut, fields + 2 > HTTP1_FIELDS_MAX);
		(void) http1_find(&whole.p, HTTP1_B3, &n);
		assert_int_equal(n, whole.p.fields_cut ? HTTP1_FIELDS_MAX - 2 : fields);
	}
}

static void fields_are_found(void **state)
{
	const char *const head = "GET / HTTP/1.1\r\nB3: 1\r\nHost: a\r\nB3: 22\r\n\r\n";
	unsigned n = 7;

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, NULL);
	feed(&whole, head, strlen(head));
	assert_int_equal(http1_find(&whole.p, HTTP1_B3, &n)->len, 1);
	assert_int_equal(n, 2);
	assert_int_equal(http1_find(&whole.p, HTTP1_HOST, NULL)->len, 1);
	assert_null(http1_find(&whole.p, HTTP1_BAGGAGE, &n));
	assert_int_equal(n, 0);
}

static void names_of_the_user_are_kept(void **state)
{
	static const struct http1_extra extra = {
		.n = 8,
		.names = { "x-request-id", "host", "connection", "content-length", "x", "accept",
			   "a-name-that-is-as-long-as-they-can-be----------", "x-request-i" },
	};
	const char *const head = "GET / HTTP/1.1\r\nX-Request-ID: 7\r\nHost: a\r\nX: y\r\n"
				 "Connection: x, close\r\nContent-Length: 1\r\nACCEPT:\r\n"
				 "A-Name-That-Is-As-Long-As-They-Can-Be----------: 8\r\n"
				 "A-Name-That-Is-As-Long-As-They-Can-Be-----------: 9\r\n\r\nx";

	(void) state;
	assert_int_equal(strlen(extra.names[6]), HTTP1_NAME_SIZE - 1);
	said_begin(&whole, HTTP1_REQUESTS, ARENA, 0, &extra);
	feed(&whole, head, strlen(head));
	assert_string_equal(whole.heads_room,
			    "GET/1.1 last length=1 method=GET target=/ extra0=7 host=a extra4=y "
			    "extra2=x, close extra3=1 extra5= extra6=8\n");
	assert_true(http1_between(&whole.p));
	for (size_t arena = 1; arena < 64; arena++) {
		said_begin(&parts, HTTP1_REQUESTS, arena, 3, &extra);
		feed(&parts, head, strlen(head));
		assert_string_equal(parts.heads_room, whole.heads_room);
	}
}

/* Two arenas full, in one step; then the rest is cut, and only that. */
static void a_full_arena_says_so_before_what_does_not_fit(void **state)
{
	const char *head = "GET /abc HTTP/1.1\r\nHost: h\r\n g\r\nB3:\r\nB3: 1\r\n\r\n";
	char arena[8], larger[9], last[10];
	struct http1 p;
	size_t used;

	(void) state;
	http1_init(&p, HTTP1_REQUESTS, arena, sizeof(arena));
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_LINE);
	assert_int_equal(used, 0);
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_FULL);
	assert_int_equal(used, strlen("GET /abc HTTP/1.1\r\nHost: h\r\n "));
	head += used;
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_FULL);
	assert_int_equal(used, 0);

	http1_move(&p, larger, sizeof(larger));
	memset(arena, '#', sizeof(arena));
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_FULL);
	assert_int_equal(used, 0); /* the space of the join alone did fit */
	http1_move(&p, last, sizeof(last));
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_FULL);
	assert_int_equal(used, strlen("g\r\nB3:\r\nB3: "));
	http1_cut(&p);
	head += used;
	assert_int_equal(http1_feed(&p, NULL, head, strlen(head), &used), HTTP1_BLANK);

	assert_memory_equal(last, "GET/abch g", 10);
	assert_int_equal(p.n_fields, 5);
	assert_int_equal(p.fields[2].len, 3);
	assert_false(p.fields[2].cut);
	assert_int_equal(p.fields[3].len, 0);
	assert_false(p.fields[3].cut); /* there was nothing to cut */
	assert_int_equal(p.fields[4].len, 0);
	assert_true(p.fields[4].cut);
}

static void a_cut_holds_for_its_head(void **state)
{
	const char *const heads = "GET /abcdef HTTP/1.1\r\nHost: a\r\n\r\n"
				  "GET / HTTP/1.1\r\nHost: a\r\nB3: 123\r\n\r\n";

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, 6, 0, NULL);
	feed(&whole, heads, strlen(heads));
	assert_string_equal(whole.heads_room, "GET/1.1 method=GET target=/ab~ host=~\n"
					      "GET/1.1 method=GET target=/ host=a b3=1~\n");
	assert_int_equal(whole.n_stops, 10); /* each says full once */
	said_begin(&parts, HTTP1_REQUESTS, 6, 0, NULL);
	feed_bytes(&parts, heads, strlen(heads));
	assert_true(said_same(&whole, &parts));
}

/* Bytes are missing behind it: more room does not help that value any more. */
static void a_value_once_cut_stays_as_it_is(void **state)
{
	const char *const head = "GET /abcdef HTTP/1.1\r\nHost: a\r\n\r\n";

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, 6, 0, NULL);
	feed(&whole, head, strlen("GET /abcd"));
	said_arena(&whole, 64);
	feed(&whole, head + strlen("GET /abcd"), strlen(head) - strlen("GET /abcd"));
	assert_string_equal(whole.heads_room, "GET/1.1 method=GET target=/ab~ host=a\n");
}

/* Without an arena one still learns which fields there were. */
static void no_arena_is_never_full(void **state)
{
	const char *const head = "GET / HTTP/1.1\r\nHost: a\r\n b\r\nB3:\r\n\r\n";

	(void) state;
	said_begin(&whole, HTTP1_REQUESTS, 0, 0, NULL);
	feed(&whole, head, strlen(head));
	assert_string_equal(whole.heads_room, "GET/1.1 method=~ target=~ host=~ b3=\n");
	assert_int_equal(whole.n_stops, 4); /* line, blank, head, done */
}

static enum http1_stop pass_by(struct http1 *p, uint64_t n, uint64_t expected)
{
	uint64_t used = UINT64_MAX;
	const enum http1_stop stop = http1_skip(p, n, &used);

	assert_int_equal(used, expected);
	return stop;
}

static void take_head(enum http1_side side, const char *head)
{
	said_begin(&whole, side, ARENA, 0, NULL);
	feed(&whole, head, strlen(head));
}

static void unread_bytes_of_a_body_count(void **state)
{
	struct http1 *const p = &whole.p;

	(void) state;
	take_head(HTTP1_RESPONSES, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
	assert_int_equal(pass_by(p, 0, 0), HTTP1_MORE);
	assert_int_equal(pass_by(p, 4, 4), HTTP1_MORE);
	assert_int_equal(p->to_read, 6);
	feed(&whole, "abc", 3);
	assert_int_equal(pass_by(p, 3, 3), HTTP1_DONE);
	assert_true(http1_between(p));
	assert_int_equal(pass_by(p, 0, 0), HTTP1_MORE);

	take_head(HTTP1_REQUESTS, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n");
	assert_int_equal(pass_by(p, 254, 254), HTTP1_MORE);
	assert_int_equal(pass_by(p, 1, 1), HTTP1_MORE);
	feed(&whole, "\r\n0\r\n\r\n", 7);
	assert_true(http1_between(p));

	take_head(HTTP1_RESPONSES, "HTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(pass_by(p, UINT64_MAX, UINT64_MAX), HTTP1_MORE);
	assert_int_equal(http1_end(p), HTTP1_DONE);
}

static void unread_bytes_elsewhere_make_it_opaque(void **state)
{
	struct http1 *const p = &whole.p;
	static const char *const beginnings[] = {
		"", "\r", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n",
		"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
		"GET / HTTP/1.1\r\n\r\n",
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(beginnings); i++) {
		take_head(HTTP1_REQUESTS, beginnings[i]);
		assert_int_equal(pass_by(p, 0, 0), HTTP1_MORE);
		assert_int_equal(pass_by(p, 1, 0), HTTP1_OPAQUE);
		assert_int_equal(p->reason, HTTP1_UNSEEN);
		assert_int_equal(pass_by(p, 9, 9), HTTP1_MORE);
	}

	take_head(HTTP1_REQUESTS, "PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\n");
	assert_int_equal(pass_by(p, 4, 3), HTTP1_DONE);
	assert_int_equal(pass_by(p, 1, 0), HTTP1_OPAQUE);

	take_head(HTTP1_REQUESTS, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n");
	assert_int_equal(pass_by(p, 4, 3), HTTP1_OPAQUE);
	assert_int_equal(pass_by(p, 1, 1), HTTP1_MORE);
	assert_int_equal(p->reason, HTTP1_UNSEEN);
}

/* What is due without a byte is said whichever call comes. */
static void skipping_says_what_is_due(void **state)
{
	const char *const head = "HTTP/1.1 200 OK\r\n\r\n";
	struct http1 p;
	uint64_t skipped;
	size_t used;

	(void) state;
	for (unsigned to = HTTP1_CONNECT; to <= HTTP1_HEAD; to += HTTP1_HEAD - HTTP1_CONNECT) {
		http1_init(&p, HTTP1_RESPONSES, NULL, 0);
		p.to = to;
		assert_int_equal(http1_feed(&p, NULL, head, 1, &used), HTTP1_LINE);
		assert_int_equal(http1_feed(&p, NULL, head, 17, &used), HTTP1_MORE);
		assert_int_equal(http1_feed(&p, NULL, head + 17, 2, &used), HTTP1_BLANK);
		assert_int_equal(http1_feed(&p, NULL, head + 17, 2, &used), HTTP1_HEAD_DONE);
		assert_int_equal(used, 2);
		assert_int_equal(http1_skip(&p, 5, &skipped),
				 to == HTTP1_HEAD ? HTTP1_DONE : HTTP1_OPAQUE);
		assert_int_equal(skipped, 0);
	}
	assert_true(http1_between(&p));
	assert_int_equal(http1_feed(&p, NULL, NULL, 0, &used), HTTP1_MORE);
}

static void an_end_is_good_between_messages_alone(void **state)
{
	static const struct {
		const char *name;
		enum http1_side side;
		const char *bytes;
		enum http1_stop stop;
		enum http1_reason reason;
	} cases[] = {
		{ "at once", REQUEST, "", HTTP1_MORE, HTTP1_FOLLOWED },
		{ "in empty lines", REQUEST, "\r\n\r", HTTP1_MORE, HTTP1_FOLLOWED },
		{ "in a line", REQUEST, "G", HTTP1_OPAQUE, HTTP1_CUT_SHORT },
		{ "in a head", REQUEST, "GET / HTTP/1.1\r\n\r", HTTP1_OPAQUE, HTTP1_CUT_SHORT },
		{ "after a head", REQUEST, "GET / HTTP/1.1\r\n\r\n", HTTP1_MORE, HTTP1_FOLLOWED },
		{ "in a body", REQUEST, "A / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", HTTP1_OPAQUE,
		  HTTP1_CUT_SHORT },
		{ "in chunks", REQUEST, "A / HTTP/1.1\r\n" CHUNKED "\r\n0\r\n\r", HTTP1_OPAQUE,
		  HTTP1_CUT_SHORT },
		{ "of a tunnel", REQUEST, "CONNECT a HTTP/1.1\r\n\r\n", HTTP1_OPAQUE,
		  HTTP1_TUNNEL },
		{ "of a body of nothing", RESPONSE, "HTTP/1.1 200 OK\r\n\r\n", HTTP1_DONE,
		  HTTP1_FOLLOWED },
		{ "of a body", RESPONSE, "HTTP/1.1 200 OK\r\n\r\nabc", HTTP1_DONE, HTTP1_FOLLOWED },
		{ "after 100", RESPONSE, "HTTP/1.1 100 OK\r\n\r\n", HTTP1_MORE, HTTP1_FOLLOWED },
		{ "of another protocol", RESPONSE, "\x16", HTTP1_OPAQUE, HTTP1_NOT_HTTP },
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		print_message("# %s\n", cases[i].name);
		said_begin(&whole, cases[i].side, ARENA, 0, NULL);
		feed(&whole, cases[i].bytes, strlen(cases[i].bytes));
		assert_int_equal(http1_end(&whole.p), cases[i].stop);
		assert_int_equal(whole.p.reason, cases[i].reason);
		assert_int_equal(http1_between(&whole.p), cases[i].reason == HTTP1_FOLLOWED);
	}
}

static void lost_bytes_make_it_opaque(void **state)
{
	(void) state;
	take_head(HTTP1_REQUESTS, "GET / HTTP/1.1\r\n\r\n");
	http1_lost(&whole.p);
	assert_int_equal(whole.p.reason, HTTP1_UNSEEN);
	assert_false(http1_between(&whole.p));
	feed(&whole, "GET / HTTP/1.1\r\n\r\n", 18);
	assert_int_equal(whole.n_stops, 5); /* line, blank, head, done, opaque */
	assert_int_equal(whole.stops[4].stop, HTTP1_OPAQUE);
	http1_lost(&whole.p);
	feed(&whole, "x", 1);
	assert_int_equal(whole.n_stops, 5);

	take_head(HTTP1_REQUESTS, "\x16");
	http1_lost(&whole.p);
	assert_int_equal(whole.p.reason, HTTP1_NOT_HTTP); /* the first reason stands */
}

static void errno_is_kept(void **state)
{
	(void) state;
	errno = EDOM;
	take_head(HTTP1_REQUESTS, "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n");
	assert_int_equal(errno, EDOM);
}

static void names_are_never_missing(void **state)
{
	(void) state;
	for (unsigned i = 0; i < 300; i++) {
		assert_non_null(http1_method_name((enum http1_method) i));
		assert_non_null(http1_reason_name((enum http1_reason) i));
	}
	assert_string_equal(http1_method_name(HTTP1_OTHER), "_OTHER");
	assert_string_equal(http1_method_name(HTTP1_TRACE), "TRACE");
	assert_string_equal(http1_reason_name(HTTP1_CUT_SHORT), "closed in the middle");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_end_where_they_say),
		cmocka_unit_test(request_lines_come_in_all_forms),
		cmocka_unit_test(responses_end_where_they_say),
		cmocka_unit_test(lists_are_heard_word_by_word),
		cmocka_unit_test(fields_of_interest_are_kept),
		cmocka_unit_test(other_protocols_are_known_early),
		cmocka_unit_test(bad_syntax_is_not_followed),
		cmocka_unit_test(doubtful_framing_is_not_followed),
		cmocka_unit_test(garbage_may_be_of_any_length),
		cmocka_unit_test(a_head_has_a_longest),
		cmocka_unit_test(field_lines_are_counted),
		cmocka_unit_test(more_fields_than_fit_are_told_of),
		cmocka_unit_test(fields_are_found),
		cmocka_unit_test(names_of_the_user_are_kept),
		cmocka_unit_test(a_full_arena_says_so_before_what_does_not_fit),
		cmocka_unit_test(a_cut_holds_for_its_head),
		cmocka_unit_test(a_value_once_cut_stays_as_it_is),
		cmocka_unit_test(no_arena_is_never_full),
		cmocka_unit_test(unread_bytes_of_a_body_count),
		cmocka_unit_test(unread_bytes_elsewhere_make_it_opaque),
		cmocka_unit_test(skipping_says_what_is_due),
		cmocka_unit_test(an_end_is_good_between_messages_alone),
		cmocka_unit_test(lost_bytes_make_it_opaque),
		cmocka_unit_test(errno_is_kept),
		cmocka_unit_test(names_are_never_missing),
	};

	return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
