/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generated streams of messages, as we see them cut anyhow and as libhttp-parser (Node.js's
 * for years) sees them byte by byte: where they begin, heads and bodies end, methods, statuses,
 * and whether the connection stays. Where we follow, both agree; what it refuses we do not
 * follow; and we give up on nothing but what the generator knows to be doubtful.
 */
#include "core/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <http_parser.h>
#include <string.h>

#include "core/text.h"

#define STREAMS    20000
#define STREAM_MAX 8192
#define LOG_MAX    4096
#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define PICK(g, array)    ((array)[draw((g), N_ELEMENTS(array))])

/* What one of the parsers saw, a line for each thing. */
struct log {
	struct text text;
	bool damaged, failed, tunnel;
	enum http_errno error;
	char room[LOG_MAX];
};

struct stream {
	uint64_t random;
	bool response;
	enum http1_method to;
	bool doubtful;    /* we may give up on it, whatever the other does */
	bool over;        /* nothing can follow */
	bool damaged;
	struct text text;
	char room[STREAM_MAX];
};

static uint32_t draw(struct stream *g, size_t below)
{
	g->random = g->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) ((g->random >> 33) % below);
}

static bool once_in(struct stream *g, unsigned n)
{
	return draw(g, n) == 0;
}

/* ---- the generator ---- */

static void add_line_end(struct stream *g)
{
	text_add(&g->text, once_in(g, 16) ? "\n" : "\r\n");
}

static void add_plain_field(struct stream *g)
{
	static const char *const fields[] = {
		"Host: a.example", "User-Agent: curl/7.88.1", "Accept:*/*", "X-Empty:", "X: \t ",
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"X-Folded: a\r\n b\r\n\tc", "X-Folded:\r\n b", "X-Colons: a: b: c",
		"x-utf-8: \xc3\xa4",
		"Content-Lengthy: 7", "Content-Lengt: 7", "Transfer-Encodin: chunked",
		"Connections: close", "Expect: 100-continue", "!#$%&'*+-.^_`|~9: token",
		"Content-Type: text/plain; charset=\"utf-8\"", "Cookie: a=b;  c=d \t",
		"X-Long: 0123456789012345678901234567890123456789012345678901234567890123456789",
	};

	text_add(&g->text, PICK(g, fields));
	add_line_end(g);
}

/* Fields on which we give up; the other may or may not. */
static void add_doubtful_field(struct stream *g)
{
	static const char *const fields[] = {
		"Content-Length: 0\r\nContent-Length: 0", "Content-Length: 1, 1",
		"Content-Length: ",
		"Content-Length: +1", "Content-Length: 0x1", "Content-Length: 1 2",
		"Content-Length:1\r\n ",
		"Content-Length: 99999999999999999999", "Content-Length: -1",
		"Content-Length:\r\n 1",
		"Content-Length: 1\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nContent-Length: 0",
		"Transfer-Encoding: chunked, chunked",
		"Transfer-Encoding: chunked,", "Transfer-Encoding: chunked;q=1",
		"Transfer-Encoding: ",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding:\r\n chunked",
		"Transfer-Encoding: chunked, gzip", "Transfer-Encoding: \"chunked\"",
		"Host : a", "Host",
		": x", "Ho st: a", "X: a\rb", "X: \x01", "X: a\x7f", "H\xc3\xb6st: a",
	};

	text_add(&g->text, PICK(g, fields));
	add_line_end(g);
	g->doubtful = true;
}

static void add_connection(struct stream *g, bool minor)
{
	static const char *const lists[] = {
		"close", "Close", "te, close", "close , te", "x , y ,close", "closed",
		"not-close", "clos",
	};

	if (once_in(g, 4)) {
		text_add(&g->text, "Connection: ");
		text_add(&g->text, PICK(g, lists));
		add_line_end(g);
	} else if (once_in(g, 4)) {
		text_add(&g->text, "CONNECTION:keep-alive");
		add_line_end(g);
	}
	if (!g->response && minor && once_in(g, 16)) {
		text_add(&g->text, "Upgrade: h2c\r\nConnection: upgrade");
		add_line_end(g);
	}
}

static void add_filling(struct stream *g, size_t n)
{
	static const char letters[] = "abc \r\n\r\n0123GET / HTTP/1.1\r\n\r\n";

	for (size_t i = 0; i < n; i++)
		text_add_n(&g->text, &letters[draw(g, sizeof(letters) - 1)], 1);
}

static void add_chunks(struct stream *g)
{
	static const char *const extensions[] = {
		"", "", "", "", ";a", ";a=b", " ;a=\"b c\"", "  ",
	};
	static const char *const bad[] = {
		"\r\n", "g\r\n", "1\na\r\n", ";\r\n", "-1\r\n", "1;\nab", "fffffffffffffffff\r\n",
		"1\r\nab\r\n", "1\r\na\n", "0\r\nX\r\n\r\n", "0\r\n X: y\r\n\r\n",
	};

	for (unsigned n = draw(g, 4); n > 0; n--) {
		const size_t size = 1 + draw(g, 40);

		if (once_in(g, 64)) {
			text_add(&g->text, PICK(g, bad));
			g->doubtful = g->over = true;
			return;
		}
		text_add_hex(&g->text, size, once_in(g, 4) ? 4 : 0);
		text_add(&g->text, PICK(g, extensions));
		text_add(&g->text, "\r\n");
		add_filling(g, size);
		text_add(&g->text, "\r\n");
	}
	text_add(&g->text, once_in(g, 8) ? "000" : "0");
	text_add(&g->text, PICK(g, extensions));
	text_add(&g->text, "\r\n");
	while (once_in(g, 4))
		add_plain_field(g);
	add_line_end(g);
}

static void add_head_and_body(struct stream *g, bool minor, bool bodiless)
{
	static const char *const codings[] = {
		"chunked", "Chunked", "gzip,chunked", "gzip , chunked",
	};
	const uint32_t how = draw(g, 4);
	const size_t length = once_in(g, 4) ? 0 : draw(g, 300);

	for (unsigned n = draw(g, 6); n > 0; n--)
		add_plain_field(g);
	add_connection(g, minor);
	if (once_in(g, 24))
		add_doubtful_field(g);
	if (how == 1) {
		text_add(&g->text, once_in(g, 2) ? "Content-Length: " : "content-length:\t0");
		text_add_u64(&g->text, length);
		text_add(&g->text, once_in(g, 4) ? " " : "");
		add_line_end(g);
	} else if (how == 2) {
		text_add(&g->text, "Transfer-Encoding: ");
		text_add(&g->text, PICK(g, codings));
		add_line_end(g);
		g->doubtful |= !minor;
	}
	if (once_in(g, 2))
		add_plain_field(g);
	add_line_end(g);
	if (bodiless)
		return;
	if (how == 2)
		add_chunks(g);
	else if (how == 1 || g->response)
		add_filling(g, how == 1 ? length : draw(g, 300));
	g->over |= g->response && how != 1 && how != 2;
}

static void add_request(struct stream *g)
{
	static const char *const methods[] = {
		"GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE",
		"PROPFIND", "REPORT", "M-SEARCH", "UNSUBSCRIBE", "LINK", "PURGE",
	};
	static const char *const targets[] = {
		"/", "/a/b?c=d&e", "http://a.example:80/b?c", "*", "/%20#f", "/\xc3\xa4",
	};
	static const char *const bad[] = {
		"GET / HTTP/2.0", "GET / http/1.1", "GET  / HTTP/1.1", "GET /", "GE(T / HTTP/1.1",
		"GET / HTTP/1.1 ", "GET / HTTP/1.12", "GET /\x7f HTTP/1.1", "\x16\x03",
		" GET / HTTP/1.1",
	};
	const bool minor = !once_in(g, 8), connect = once_in(g, 32);

	while (once_in(g, 8))
		text_add(&g->text, "\r\n");
	if (once_in(g, 64)) {
		text_add(&g->text, PICK(g, bad));
		g->doubtful = true;
	} else {
		text_add(&g->text, connect ? "CONNECT" : PICK(g, methods));
		text_add(&g->text, " ");
		text_add(&g->text, connect ? "a.example:443" : PICK(g, targets));
		text_add(&g->text, minor ? " HTTP/1.1" : " HTTP/1.0");
	}
	add_line_end(g);
	add_head_and_body(g, minor, connect);
	g->over |= connect;
}

static void add_response(struct stream *g)
{
	static const unsigned statuses[] = {
		200, 200, 200, 200, 201, 204, 205, 304, 304, 400, 404, 500, 999, 100, 100, 103, 101,
	};
	static const char *const reasons[] = {
		" OK", " ", "", " Not \t Found", " gr\xc3\xbc\xc3\x9f",
	};
	static const char *const bad[] = {
		"HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1  200 OK", "HTTP/2 200",
		"ICY 200 OK",
		"HTTP/1.1", "HTTP/1.1200 OK", "\r\nHTTP/1.1 200 OK", "HTTP/1.1 abc", "+OK",
	};
	const bool minor = !once_in(g, 8);
	const unsigned status = PICK(g, statuses);

	if (once_in(g, 64)) {
		text_add(&g->text, PICK(g, bad));
		g->doubtful = g->over = true;
	} else {
		text_add(&g->text, minor ? "HTTP/1.1 " : "HTTP/1.0 ");
		text_add_u64(&g->text, status);
		text_add(&g->text, PICK(g, reasons));
	}
	add_line_end(g);
	if (status == 101)
		text_add(&g->text, "Upgrade: x\r\nConnection: upgrade\r\n");

	const bool tunnel = g->to == HTTP1_CONNECT && status / 100 == 2;

	add_head_and_body(g, minor, tunnel || g->to == HTTP1_HEAD || status / 100 == 1 ||
					    status == 204 || status == 304);
	g->over |= tunnel || status == 101;
}

static void generate(struct stream *g, uint64_t seed)
{
	static const enum http1_method tos[] = { HTTP1_GET, HTTP1_GET, HTTP1_HEAD, HTTP1_CONNECT };

	g->random = seed;
	(void) draw(g, 1);
	g->response = once_in(g, 2);
	g->to = PICK(g, tos);
	g->doubtful = g->over = g->damaged = false;
	g->text = text_in(g->room, sizeof(g->room));
	for (unsigned n = 1 + draw(g, 5); n > 0 && !g->over; n--) {
		if (g->response)
			add_response(g);
		else
			add_request(g);
	}
	if (once_in(g, 4)) /* it ends anywhere */
		text_cut_back(&g->text, draw(g, g->text.used + 1));
	assert_false(g->text.cut);
}

static void damage(struct stream *g)
{
	static const char bytes[] = "\0\r\n\t ,:;0159aAfz\x7f-chunked";

	for (unsigned n = 1 + draw(g, 3); n > 0 && g->text.used > 0; n--)
		g->room[draw(g, g->text.used)] = bytes[draw(g, sizeof(bytes) - 1)];
	g->damaged = true;
}

/* ---- what was seen ---- */

static void log_begin(struct log *l, const struct stream *g)
{
	l->text = text_in(l->room, sizeof(l->room));
	l->damaged = g->damaged;
	l->failed = l->tunnel = false;
	l->error = HPE_OK;
}

static void log_line(struct log *l, const char *what, size_t at)
{
	text_add(&l->text, what);
	text_add_u64(&l->text, at);
	text_add(&l->text, "\n");
}

static void log_head(struct log *l, size_t at, const char *method, unsigned status, bool minor)
{
	text_add(&l->text, method);
	text_add(&l->text, " ");
	text_add_u64(&l->text, status);
	log_line(l, minor ? " HTTP/1.1 head ends at " : " HTTP/1.0 head ends at ", at);
}

static void log_done(struct log *l, size_t at, bool stays)
{
	log_line(l, l->damaged ? "done at " : stays ? "stays, done at " : "closes, done at ", at);
}

static void log_tunnel(struct log *l, size_t at)
{
	log_line(l, "tunnel at ", at);
	l->tunnel = true;
}

/* ---- theirs ---- */

struct theirs {
	http_parser parser;
	struct log *log;
	enum http1_method to;
	size_t at; /* of the present byte */
};

static int on_begin(http_parser *parser)
{
	struct theirs *const t = parser->data;

	log_line(t->log, "begins at ", t->at);
	return 0;
}

/* 1: no body; 2: no HTTP from here on. */
static int on_head(http_parser *parser)
{
	struct theirs *const t = parser->data;
	const bool request = parser->type == HTTP_REQUEST;

	log_head(t->log, t->at + 1, request ? http_method_str(parser->method) : "",
		 request ? 0 : parser->status_code, parser->http_minor);
	/* 101 is an upgrade to it only when the fields say so too. */
	if (!request && (parser->status_code == 101 ||
			 (t->to == HTTP1_CONNECT && parser->status_code / 100 == 2)))
		return 2;
	return !request && (t->to == HTTP1_HEAD || parser->status_code / 100 == 1 ||
			     parser->status_code == 204 || parser->status_code == 304);
}

static int on_done(http_parser *parser)
{
	struct theirs *const t = parser->data;
	const bool request = parser->type == HTTP_REQUEST;

	/* It calls every request that asks for an upgrade one that had it. */
	if (parser->upgrade && (!request || parser->method == HTTP_CONNECT))
		log_tunnel(t->log, t->at + 1);
	else
		log_done(t->log, t->at + 1, http_should_keep_alive(parser));
	return 0;
}

static void see_theirs(const struct stream *g, struct log *l)
{
	static const http_parser_settings settings = {
		.on_message_begin = on_begin,
		.on_headers_complete = on_head,
		.on_message_complete = on_done,
	};
	struct theirs t = { .log = l, .to = g->to };

	log_begin(l, g);
	http_parser_init(&t.parser, g->response ? HTTP_RESPONSE : HTTP_REQUEST);
	t.parser.data = &t;
	for (t.at = 0; t.at < g->text.used && !l->tunnel && !l->failed; t.at++) {
		(void) http_parser_execute(&t.parser, &settings, g->room + t.at, 1);
		l->error = HTTP_PARSER_ERRNO(&t.parser);
		l->failed = l->error != HPE_OK;
	}
	if (l->tunnel || l->failed)
		return;
	t.at--;
	(void) http_parser_execute(&t.parser, &settings, g->room, 0);
}

/* ---- ours ---- */

static void see_stop(const struct http1 *p, enum http1_stop stop, size_t at, const char *arena,
		     struct log *l)
{
	if (stop == HTTP1_LINE)
		log_line(l, "begins at ", at);
	if (stop == HTTP1_HEAD_DONE) {
		const struct http1_slice *const f = http1_find(p, HTTP1_METHOD, NULL);
		char method[32];
		struct text t = text_in(method, sizeof(method));

		text_add_n(&t, arena + (f ? f->at : 0), f ? f->len : 0);
		log_head(l, at, method, p->status, p->minor);
	}
	if (stop == HTTP1_DONE)
		log_done(l, at, !p->last && !p->until_close);
	if (stop == HTTP1_OPAQUE && (p->reason == HTTP1_TUNNEL || p->reason == HTTP1_UPGRADED))
		log_tunnel(l, at);
	else if (stop == HTTP1_OPAQUE)
		l->failed = true;
}

static void see_ours(struct stream *g, struct log *l)
{
	static char arena[4096];
	const char *const bytes = g->room;
	const unsigned longest = 1u << draw(g, 12);
	struct http1 p;

	log_begin(l, g);
	http1_init(&p, g->response ? HTTP1_RESPONSES : HTTP1_REQUESTS, arena, sizeof(arena));
	p.to = g->to;
	for (size_t at = 0; at < g->text.used;) {
		const size_t rest = g->text.used - at, most = 1 + draw(g, longest);
		const size_t end = at + (most < rest ? most : rest);
		enum http1_stop stop;

		do {
			size_t used;

			stop = http1_feed(&p, NULL, bytes + at, end - at, &used);
			at += used;
			see_stop(&p, stop, at, arena, l);
		} while (stop != HTTP1_MORE);
	}
	if (http1_end(&p) == HTTP1_DONE)
		see_stop(&p, HTTP1_DONE, g->text.used, arena, l);
}

/* ---- the tests ---- */

static void fail_on(const struct stream *g, const struct log *ours, const struct log *theirs,
		    const char *why)
{
	static char shown[STREAM_MAX * TEXT_JSON_GROWTH + 3];
	struct text t = text_in(shown, sizeof(shown));

	text_add_json_n(&t, g->room, g->text.used);
	print_message("# to %s:\n", http1_method_name(g->to));
	for (size_t at = 0; at < t.used; at += 80)
		print_message("# %.80s\n", shown + at);
	print_message("# ours:\n%s# theirs:\n%s# %s\n", ours->room, theirs->room,
		      http_errno_name(theirs->error));
	fail_msg("%s", why);
}

static bool begins(const struct text *whole, const struct text *start)
{
	return start->used <= whole->used && memcmp(whole->at, start->at, start->used) == 0;
}

static void both_agree_on_what_we_follow(void **state)
{
	static struct stream g;
	static struct log ours, theirs;
	unsigned followed = 0, given_up = 0, stricter = 0;

	(void) state;
	for (uint64_t seed = 0; seed < STREAMS; seed++) {
		generate(&g, seed);
		see_theirs(&g, &theirs);
		see_ours(&g, &ours);
		if (theirs.failed && !ours.failed)
			fail_on(&g, &ours, &theirs, "followed what the other refuses");
		if (ours.failed && !theirs.failed && !g.doubtful)
			fail_on(&g, &ours, &theirs, "gave up on what is not doubtful");
		if (!begins(&theirs.text, &ours.text) ||
		    (!ours.failed && ours.text.used != theirs.text.used))
			fail_on(&g, &ours, &theirs, "seen otherwise");
		followed += !ours.failed;
		given_up += ours.failed;
		stricter += ours.failed && !theirs.failed;
	}
	print_message("# %u followed, %u given up on, %u of them by us alone\n", followed, given_up,
		      stricter);
	assert_true(followed > STREAMS / 2 && given_up > STREAMS / 20);
}

/*
 * Bytes anywhere are replaced. Where both go on they see the same; we go on alone where the
 * other knows no such method or target. What Connection then says we read by the book, and
 * the other in its own way.
 */
static void both_agree_on_damaged_streams(void **state)
{
	static struct stream g;
	static struct log ours, theirs;
	unsigned followed = 0;

	(void) state;
	for (uint64_t seed = 0; seed < STREAMS; seed++) {
		generate(&g, seed);
		damage(&g);
		see_theirs(&g, &theirs);
		see_ours(&g, &ours);
		if (theirs.error == HPE_INVALID_METHOD || theirs.error == HPE_INVALID_URL)
			continue;
		if (theirs.failed && !ours.failed)
			fail_on(&g, &ours, &theirs, "followed what the other refuses");
		if (!begins(&theirs.text, &ours.text) ||
		    (!ours.failed && ours.text.used != theirs.text.used))
			fail_on(&g, &ours, &theirs, "seen otherwise");
		followed += !ours.failed;
	}
	print_message("# %u followed\n", followed);
	assert_true(followed > STREAMS / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_agree_on_what_we_follow),
		cmocka_unit_test(both_agree_on_damaged_streams),
	};

	return cmocka_run_group_tests_name("http1_differential", tests, NULL, NULL);
}
