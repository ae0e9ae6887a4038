/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of all kinds, and the one thing that may have happened to them on the wire. */
#include "tests/preload/streams.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DECOY "GET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\n"

uint64_t random_next(struct random *r)
{
	uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

uint64_t random_below(struct random *r, uint64_t n)
{
	return random_next(r) % n;
}

size_t random_within(struct random *r, size_t least, size_t most)
{
	return least + (size_t) random_below(r, most - least + 1);
}

/* ---- making ---- */

static void room_for(struct stream *s, size_t n)
{
	while (s->len + n > s->size) {
		s->size = s->size > 0 ? s->size * 2 : 4096;
		s->bytes = realloc(s->bytes, s->size);
		if (s->bytes == NULL)
			abort();
	}
}

void stream_clear(struct stream *s)
{
	s->len = 0;
	s->n_heads = 0;
	s->opaque = false;
}

void stream_free(struct stream *s)
{
	free(s->bytes);
	*s = (struct stream) { 0 };
}

void stream_add(struct stream *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);

	const int n = vsnprintf(NULL, 0, format, args);

	va_end(args);
	room_for(s, (size_t) n + 1);
	va_start(args, format);
	(void) vsnprintf(s->bytes + s->len, (size_t) n + 1, format, args);
	va_end(args);
	s->len += (size_t) n;
}

static void add_filler(struct stream *s, struct random *r, size_t n)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789 :;,./-_";

	room_for(s, n);
	for (size_t i = 0; i < n; i++)
		s->bytes[s->len + i] = letters[random_below(r, sizeof(letters) - 1)];
	s->len += n;
}

/* Bytes that look like requests, and some that look like nothing. */
static void add_body(struct stream *s, struct random *r, size_t n)
{
	const size_t end = s->len + n;

	room_for(s, n + sizeof(DECOY));
	while (s->len < end) {
		if (random_below(r, 2) == 0) {
			stream_add(s, "%s", DECOY);
		} else {
			for (size_t i = random_within(r, 1, 40); i > 0; i--) {
				room_for(s, 1);
				s->bytes[s->len++] = (char) random_next(r);
			}
		}
	}
	s->len = end;
}

static void head_begins(struct stream *s, enum block block, bool to_head)
{
	s->heads[s->n_heads] = (struct head) { .at = s->len, .block = block, .to_head = to_head };
}

/* The fields are there: the blank line. */
static void head_ends(struct stream *s, const char *blank)
{
	s->heads[s->n_heads].blank = s->len;
	stream_add(s, "%s", blank);
	s->heads[s->n_heads].end = s->len;
}

static void message_ends(struct stream *s)
{
	s->heads[s->n_heads++].end = s->len;
}

void stream_head(struct stream *s, enum block block, const char *text)
{
	const size_t n = strlen(text);

	head_begins(s, block, false);
	stream_add(s, "%.*s", (int) (n - 2), text);
	head_ends(s, "\r\n");
	message_ends(s);
}

static const char *method(struct random *r)
{
	static const char *const names[] = { "GET", "HEAD", "DELETE", "OPTIONS", "PURGE", "get" };

	return names[random_below(r, 6)];
}

static void add_fields(struct stream *s, struct random *r)
{
	for (size_t n = random_below(r, 6); n > 0; n--) {
		stream_add(s, "X-%c%u:", (int) ('A' + random_below(r, 26)),
			   (unsigned) random_below(r, 100));
		stream_add(s, "%s", random_below(r, 4) == 0 ? "" : " ");
		add_filler(s, r, random_below(r, 30));
		stream_add(s, "%s", random_below(r, 16) == 0 ? "\r\n  folded\r\n" : "\r\n");
	}
}

static void line(struct stream *s, struct random *r, enum block block, const char *form)
{
	const char *name = method(r);

	head_begins(s, block, strcmp(name, "HEAD") == 0);
	stream_add(s, "%s ", name);
	stream_add(s, "%s", form);
	stream_add(s, " HTTP/1.1\r\nHost: example.org\r\n");
	add_fields(s, r);
}

static void with_length(struct stream *s, struct random *r)
{
	const size_t n = random_below(r, 10) == 0 ? 0 : random_below(r, 300);

	head_begins(s, BLOCK_WHOLE, false);
	stream_add(s, "POST /items?a=b HTTP/1.1\r\ncontent-LENGTH: %zu\r\n", n);
	add_fields(s, r);
	head_ends(s, "\r\n");
	add_body(s, r, n);
}

static void chunked(struct stream *s, struct random *r)
{
	head_begins(s, BLOCK_WHOLE, false);
	stream_add(s, "PUT /c HTTP/1.1\r\n");
	add_fields(s, r);
	stream_add(s, "Transfer-Encoding: chunked\r\n");
	head_ends(s, "\r\n");
	for (size_t n = random_below(r, 4); n > 0; n--) {
		const size_t len = random_within(r, 1, 80);

		stream_add(s, random_below(r, 2) == 0 ? "%zx\r\n" : "%zX;name=\"GET / HTTP/1.1\"\r\n", len);
		add_body(s, r, len);
		stream_add(s, "\r\n");
	}
	stream_add(s, "0\r\n%s\r\n", random_below(r, 2) == 0 ? "" : "Trailer: yes\r\nTraceparent: no\r\n");
}

static void big(struct stream *s, struct random *r)
{
	line(s, r, BLOCK_TRACEPARENT, "/big");
	for (size_t left = random_within(r, 8000, random_below(r, 4) == 0 ? 60000 : 12000); left > 0;) {
		const size_t n = left < 900 ? left : 900;

		stream_add(s, "X-Big: ");
		add_filler(s, r, n);
		stream_add(s, "\r\n");
		left -= n;
	}
	head_ends(s, "\r\n");
}

static void many_lines(struct stream *s, struct random *r)
{
	const unsigned n = (unsigned) random_within(r, 90, 103);

	head_begins(s, n >= 99 ? BLOCK_NONE : n > 95 ? BLOCK_TRACEPARENT : BLOCK_WHOLE, false);
	stream_add(s, "GET /lines HTTP/1.1\r\n");
	for (unsigned i = 0; i < n; i++)
		stream_add(s, "a:%u\r\n", i);
	head_ends(s, "\r\n");
}

static void bare(struct stream *s)
{
	head_begins(s, BLOCK_WHOLE, false);
	stream_add(s, "GET /bare HTTP/1.0\nHost: bare\nConnection: keep-alive\n");
	head_ends(s, "\n");
}

static void sound(struct stream *s, struct random *r, unsigned kinds)
{
	static const char *const empty_lines[] = { "\r\n", "\n", "\r\n\r\n" };

	if (random_below(r, 12) == 0)
		stream_add(s, "%s", empty_lines[random_below(r, 3)]);
	if ((kinds & STREAM_BIG) != 0 && random_below(r, 2) == 0) {
		big(s, r);
		message_ends(s);
		return;
	}
	switch (random_below(r, (kinds & STREAM_SHORT) != 0 ? 8 : 10)) {
	case 0:
		with_length(s, r);
		break;
	case 1:
		chunked(s, r);
		break;
	case 2:
		line(s, r, BLOCK_B3, "/own");
		stream_add(s, "TraceParent:  00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 \r\n");
		add_fields(s, r);
		head_ends(s, "\r\n");
		break;
	case 3:
		line(s, r, BLOCK_WHOLE, "/own");
		stream_add(s, "baggage: mine=1\r\n");
		head_ends(s, "\r\n");
		break;
	case 4:
		line(s, r, BLOCK_WHOLE, "http://example.org:8080/absolute?q=1");
		head_ends(s, "\r\n");
		break;
	case 5:
		bare(s);
		break;
	case 6:
	case 7:
		line(s, r, BLOCK_WHOLE, random_below(r, 2) == 0 ? "*" : "/plain");
		head_ends(s, "\r\n");
		break;
	case 8:
		many_lines(s, r);
		break;
	case 9:
		if (random_below(r, 8) == 0)
			big(s, r);
		else {
			line(s, r, BLOCK_WHOLE, "/last");
			head_ends(s, "\r\n");
		}
		break;
	}
	message_ends(s);
}

/* From here on nothing may be added. */
static void unsound(struct stream *s, struct random *r)
{
	s->opaque = true;
	switch (random_below(r, 7)) {
	case 0:
		stream_add(s, "EHLO me\r\nMAIL FROM:<a@b>\r\n");
		break;
	case 1:
		stream_add(s, "%c%c%c", 0x16, 3, 1);
		add_body(s, r, 60);
		break;
	case 2:
		stream_add(s, "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n");
		break;
	case 3:
		stream_add(s, "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n");
		break;
	case 4:
		stream_add(s, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
		break;
	case 5:
		stream_add(s, "GET / HTTP/1.1\r\nHost : space\r\n\r\n");
		break;
	case 6:
		head_begins(s, BLOCK_MAYBE, false);
		stream_add(s, "GET /cr HTTP/1.1\r\nHost: x\r\n");
		head_ends(s, "\rX");
		message_ends(s);
		break;
	}
	stream_add(s, "%s", DECOY);
	add_body(s, r, random_below(r, 200));
}

void stream_make(struct stream *s, struct random *r, unsigned n, unsigned kinds)
{
	stream_clear(s);
	while (n-- > 0)
		sound(s, r, kinds);
	if ((kinds & STREAM_SOUND) == 0 && random_below(r, 4) == 0)
		unsound(s, r);
}

/* ---- checking ---- */

struct block_seen {
	unsigned traceparents, b3s;
};

static size_t line_length(const char *wire, size_t n)
{
	const char *end = memchr(wire, '\n', n);

	return end != NULL ? (size_t) (end - wire) + 1 : n;
}

static bool named(const char *wire, size_t n, const char *name)
{
	const size_t len = strlen(name);

	return n >= len && memcmp(wire, name, len) == 0;
}

/* Length of the lines at @wire that we may have added. */
static size_t block_length(const char *wire, size_t n, struct block_seen *seen, char *span)
{
	size_t at = 0;

	*seen = (struct block_seen) { 0 };
	while (at < n) {
		const size_t len = line_length(wire + at, n - at);

		if (named(wire + at, n - at, "traceparent: 00-") && len == 70)
			seen->traceparents++;
		else if (named(wire + at, n - at, "b3: ") && len == 57)
			seen->b3s++;
		else
			break;
		if (wire[at + len - 2] != '\r')
			break;
		if (span != NULL && wire[at] == 'b') {
			memcpy(span, wire + at + 37, 16);
			span[16] = '\0';
		}
		at += len;
	}
	return at;
}

static bool right(enum block block, const struct block_seen *seen)
{
	switch (block) {
	case BLOCK_NONE:
		return seen->traceparents == 0 && seen->b3s == 0;
	case BLOCK_WHOLE:
		return seen->traceparents == 1 && seen->b3s == 1;
	case BLOCK_TRACEPARENT:
		return seen->traceparents == 1 && seen->b3s == 0;
	case BLOCK_B3:
		return seen->traceparents == 0 && seen->b3s == 1;
	case BLOCK_MAYBE:
		return seen->traceparents == seen->b3s && seen->b3s <= 1;
	}
	return false;
}

static const char *same(const struct stream *s, size_t *at, size_t to, const char *wire, size_t n,
			size_t *w)
{
	for (; *at < to; ++*at, ++*w) {
		if (*w == n)
			return "";
		if (s->bytes[*at] != wire[*w])
			return "a byte is not the program's";
	}
	return NULL;
}

static const char *walk(const struct stream *s, const char *wire, size_t n, bool whole, bool maybe,
			char *span, size_t *w)
{
	const char *wrong;
	size_t at = 0;

	for (unsigned i = 0; i < s->n_heads; i++) {
		const struct head *h = &s->heads[i];
		struct block_seen seen;

		wrong = same(s, &at, h->blank, wire, n, w);
		if (wrong != NULL)
			return wrong;
		if (*w == n)
			return whole ? "it ends before a blank line" : NULL;

		const size_t len = block_length(wire + *w, n - *w, &seen, span);

		*w += len;
		if (!whole && *w >= n - (n < 80 ? n : 80))
			return NULL; /* it may end within a block, and we look no closer */
		if (!right(h->block, &seen) && !(maybe && len == 0))
			return "the block is not as it should be";
	}
	wrong = same(s, &at, s->len, wire, n, w);
	if (wrong != NULL)
		return wrong;
	return *w == n ? NULL : "there are bytes after the end";
}

const char *stream_check(const struct stream *s, const char *wire, size_t n, bool whole,
			 bool maybe, char *span, size_t *ret_at)
{
	const char *wrong;

	*ret_at = 0;
	wrong = walk(s, wire, n, whole, maybe, span, ret_at);
	if (wrong != NULL && *wrong == '\0')
		return whole ? "it ends too soon" : NULL;
	return wrong;
}

/* ---- what stands below the shim ---- */

/* The library lies beside this program. */
void stingy_below(void)
{
	const char *shim = getenv("SHIM");
	char self[PATH_MAX], both[2 * PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (getenv("AGENTSHIM_DIR") != NULL || shim == NULL || n <= 0)
		return;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	(void) snprintf(both, sizeof(both), "%s:%s/libstingy.so", shim, self);
	(void) setenv("SHIM", both, 1);
}

struct stingy *stingy_find(void)
{
	struct stingy *stingy = dlsym(RTLD_DEFAULT, "stingy");

	if (stingy == NULL) {
		puts("Bail out! libstingy.so is not there");
		exit(1);
	}
	return stingy;
}
