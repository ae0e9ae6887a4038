/* SPDX-License-Identifier: Apache-2.0 */
/* What following a request and its answer over HTTP/2 costs by itself. */
#include "core/http2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/measure.h"

#define CALLS 100000

/* As gRPC's C core sends them: the first of a connection, and those after it. */
#define GRPC_FIRST                                                                                 \
	"\x83\x86\x40\x05:path\x13/helloworld.Greet/a"                                             \
	"\x41\x0dlocalhost:443"                                                                    \
	"\x40\x0c"                                                                                 \
	"content-type\x10"                                                                         \
	"application/grpc"                                                                         \
	"\x40\x02te\x08trailers"                                                                   \
	"\x40\x0auser-agent\x20grpc-python/1.51.1 grpc-c/29.0.0"                                   \
	"\x40\x14grpc-accept-encoding\x16"                                                         \
	"identity, deflate,gzip"
#define GRPC_NEXT   "\x83\x86\xc3\xc2\xc1\xc0\xbf\xbe"
#define TRACE_ID    "0af7651916cd43dd8448eb211c80319c"
#define TRACEPARENT "00-" TRACE_ID "-b7ad6b7169203331-01"

struct call {
	struct http2 h;
	char *memory;
	uint32_t stream;
	char request[512], answer[128], plain[512], data[16393];
	size_t n_request, n_answer, n_plain;
	bool adds;
};

static size_t frame(char *to, uint8_t type, uint8_t flags, const char *payload, size_t n)
{
	http2_frame_head(to, (uint32_t) n, type, flags, 1);
	memcpy(to + HTTP2_FRAME_HEAD, payload, n);
	return HTTP2_FRAME_HEAD + n;
}

static void set_stream(char *head, uint32_t stream)
{
	for (unsigned i = 0; i < 4; i++)
		head[5 + i] = (char) (stream >> (24 - 8 * i));
}

static void feed(struct call *c, enum http1_side side, const char *bytes, size_t n)
{
	struct http2_input in = { .bytes = bytes, .n = n };
	enum http2_stop stop;

	do {
		size_t used;

		stop = http2_feed(&c->h, side, NULL, &in, &used);
		http2_on(&in, used);
		if (stop == HTTP2_OPAQUE)
			abort();
		if (stop == HTTP2_BLOCK_END && c->adds) {
			char room[256];
			struct http2_literals l = http2_literals_in(room, sizeof(room));
			struct http2_edits e;

			(void) http2_literal(&l, "traceparent", TRACEPARENT, 55);
			(void) http2_literal(&l, "x-trace-id", TRACE_ID, 32);
			if (!http2_edits(&c->h.flows[HTTP1_REQUESTS].place, &l, &e))
				abort();
			__asm__ volatile("" : : "r"(&e) : "memory");
		}
	} while (stop != HTTP2_MORE);
}

static void bare_loop(void *arg, uint64_t calls)
{
	for (uint64_t i = 0; i < calls; i++)
		__asm__ volatile("" : : "r"(arg) : "memory");
}

static void exchange(struct call *c, char *request, size_t n)
{
	set_stream(request, c->stream);
	set_stream(c->answer, c->stream);
	feed(c, HTTP1_REQUESTS, request, n);
	feed(c, HTTP1_RESPONSES, c->answer, c->n_answer);
	c->stream += 2;
}

static void grpc_loop(void *arg, uint64_t calls)
{
	struct call *c = arg;

	for (uint64_t i = 0; i < calls; i++)
		exchange(c, c->request, c->n_request);
}

static void plain_loop(void *arg, uint64_t calls)
{
	struct call *c = arg;

	for (uint64_t i = 0; i < calls; i++)
		exchange(c, c->plain, c->n_plain);
}

static void data_loop(void *arg, uint64_t calls)
{
	struct call *c = arg;

	for (uint64_t i = 0; i < calls; i++)
		feed(c, HTTP1_REQUESTS, c->data, sizeof(c->data));
}

static void begin(struct call *c)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	char first[512];

	http2_init(&c->h, HTTP2_CLIENT, c->memory, HTTP2_MEMORY);
	c->stream = 1;
	feed(c, HTTP1_REQUESTS, hello, sizeof(hello) - 1);
	feed(c, HTTP1_RESPONSES, hello + 24, HTTP2_FRAME_HEAD);
	c->n_answer = frame(c->answer, 1, 5, "\x88", 1);
	exchange(c, first, frame(first, 1, 5, GRPC_FIRST, sizeof(GRPC_FIRST) - 1));
}

static const struct row {
	const char *what;
	measure_fn *loop;
	bool adds;
	double bar;
} rows[] = {
	{ "gRPC request and answer, by the table", grpc_loop, false, 1000 },
	{ "  with traceparent and x-trace-id added", grpc_loop, true, 1000 },
	{ "request and answer, all literals", plain_loop, false, 1000 },
	{ "16 KiB of DATA", data_loop, false, 100 },
};

int main(void)
{
	static struct call c;
	void *const args[1] = { &c };

	c.memory = malloc(HTTP2_MEMORY);
	c.n_request = frame(c.request, 1, 5, GRPC_NEXT, sizeof(GRPC_NEXT) - 1);
	memcpy(c.plain, c.request, sizeof(c.plain));

	/* The same, leaving no trace in the table. */
	char block[] = GRPC_FIRST;

	for (size_t i = 0; i + 1 < sizeof(block); i++)
		block[i] = block[i] == '\x40' ? 0 : block[i] == '\x41' ? 1 : block[i];
	c.n_plain = frame(c.plain, 1, 5, block, sizeof(block) - 1);
	(void) frame(c.data, 0, 0, c.data, 0);
	http2_frame_head(c.data, 16384, 0, 0, 1);

	printf("%u rounds of %d calls, alternating; thread CPU time; %u CPUs\n", MEASURE_ROUNDS,
	       CALLS, measure_cpus());
	measure_head();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(&c);
		c.adds = rows[i].adds;

		const struct measure m = measure_run(bare_loop, rows[i].loop, args, 1, CALLS);

		measure_print(rows[i].what, &m, rows[i].bar);
	}
	printf("a connection takes %zu bytes and what it is given; %zu of a direction's were touched\n",
	       sizeof(struct http2), hpack_touched(&c.h.flows[HTTP1_REQUESTS].hpack));
	free(c.memory);
	return 0;
}
