/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops behind tests/bench/http: `http-loops pieces` measures what following a request is
 * made of, in core alone; `http-loops called` and `http-loops served`, preloaded, what a request
 * costs a program in all. One line a result: `KEY MEDIAN LOW HIGH` in nanoseconds.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/http1.h"
#include "core/metrics.h"
#include "core/propagate.h"
#include "core/ring.h"
#include "core/span.h"
#include "core/text.h"
#include "tests/bench/measure.h"

#define PIECE_CALLS 20000
#define PAIRS       401
#define REQUESTS    200 /* of one half of a pair: some 3 ms */
#define RANK_LOW    179 /* 200 -+ 2 standard deviations of a binomial of 401 */
#define RANK_HIGH   221
#define RECORDS     1000

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

/* As curl asks, behind a service that traces, and as nginx answers. */
static const char traced[] = "GET /orders/42 HTTP/1.1\r\n"
			     "Host: orders.internal:8080\r\n"
			     "User-Agent: curl/7.88.1\r\n"
			     "Accept: */*\r\n"
			     "traceparent: " PARENT "\r\n"
			     "\r\n";
static const char untraced[] = "GET /orders/42 HTTP/1.1\r\n"
			       "Host: orders.internal:8080\r\n"
			       "User-Agent: curl/7.88.1\r\n"
			       "Accept: */*\r\n"
			       "\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\n"
			     "Server: nginx/1.22.1\r\n"
			     "Date: Wed, 25 Nov 2026 12:00:00 GMT\r\n"
			     "Content-Type: text/plain\r\n"
			     "Content-Length: 17\r\n"
			     "Connection: keep-alive\r\n"
			     "\r\n"
			     "hello from nginx\n";

static void die(const char *what)
{
	fprintf(stderr, "http-loops: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Makes the compiler believe that what @p points to matters. */
static inline void keep(const void *p)
{
	__asm__ volatile("" : : "r"(p) : "memory");
}

static void nothing(void *arg, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		keep(arg);
}

/* ---- pieces ---- */

static char arena[512];
static struct rings rings;
static struct metrics metrics;

static void feed(struct http1 *p, const char *bytes, size_t n)
{
	enum http1_stop stop;

	do {
		size_t used;

		stop = http1_feed(p, NULL, bytes, n, &used);
		bytes += used;
		n -= used;
	} while (stop != HTTP1_MORE);
	keep(p);
}

static void request_loop(void *arg, uint64_t n)
{
	struct http1 p;

	(void) arg;
	http1_init(&p, HTTP1_REQUESTS, arena, sizeof(arena));
	for (uint64_t i = 0; i < n; i++)
		feed(&p, traced, sizeof(traced) - 1);
}

static void answer_loop(void *arg, uint64_t n)
{
	struct http1 p;

	(void) arg;
	http1_init(&p, HTTP1_RESPONSES, NULL, 0);
	p.to = HTTP1_GET;
	for (uint64_t i = 0; i < n; i++)
		feed(&p, answer, sizeof(answer) - 1);
}

static void extract_loop(void *arg, uint64_t n)
{
	const struct propagators list = propagators_default();
	const struct propagate_in in = {
		.n_traceparent = 1,
		.traceparent = { PARENT, sizeof(PARENT) - 1 },
	};
	struct propagate_found found;

	(void) arg;
	for (uint64_t i = 0; i < n; i++) {
		propagate_extract(&list, &in, &found);
		keep(&found);
	}
}

static void add_field(void *arg, const char *name, const char *value, size_t len)
{
	struct text *t = arg;

	text_add(t, name);
	text_add(t, ": ");
	text_add_n(t, value, len);
	text_add(t, "\r\n");
}

static void inject_loop(void *arg, uint64_t n)
{
	const struct propagators list = propagators_default();
	struct propagate_out out = { .context.flags = CONTEXT_SAMPLED };
	char buf[256];

	(void) arg;
	for (uint64_t i = 0; i < n; i++) {
		struct text t = text_in(buf, sizeof(buf));

		out.context.trace_id[i % 16] = out.context.span_id[i % 8] = (uint8_t) (i | 1);
		propagate_inject(&list, &out, add_field, &t);
		keep(buf);
	}
}

/* From its first store to its record in the ring, counted as request.c counts it. */
static void span_loop(void *arg, uint64_t n)
{
	const struct context own = { .trace_id = { 1 }, .span_id = { 2 }, .flags = 1 };
	const struct context parent = { .span_id = { 3 } };
	struct event e;

	(void) arg;
	for (uint64_t i = 0; i < n; i++) {
		span_begin(&e, SPAN_SERVER, &own, parent.span_id, i, i);
		span_texts(&e, "GET", 3, "/orders/42", 10, "orders.internal", 15);
		keep(&e);
		span_end(&e, 200, SPAN_NO_ERROR, i + 1000);
		metrics_add(&metrics, 0, METRICS_SPANS_SERVER, 1);
		metrics_observe(&metrics, 0, METRICS_SERVER_DURATION, e.span.duration_ns);
		metrics_add(&metrics, 0, METRICS_ROOTS_COMPLETED, 1);
		(void) ring_write(&rings, 0, &e);
	}
}

static void clocks_loop(void *arg, uint64_t n)
{
	uint64_t sum = 0;

	(void) arg;
	for (uint64_t i = 0; i < n; i++) {
		sum += clock_now();
		keep(&sum);
	}
}

static const struct piece {
	const char *key;
	measure_fn *loop;
} pieces[] = {
	{ "request", request_loop }, { "answer", answer_loop }, { "extract", extract_loop },
	{ "inject", inject_loop },   { "span", span_loop },	{ "clock", clocks_loop },
};

static int run_pieces(void)
{
	const size_t size = ring_file_size(RECORDS);
	void *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *arg = arena;

	if (file == MAP_FAILED)
		die("mmap");
	ring_init(file, RECORDS);
	if (!ring_open(file, size, &rings))
		die("ring_open");
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		const struct measure m =
			measure_run(nothing, pieces[i].loop, &arg, 1, PIECE_CALLS);

		printf("piece.%s %.1f %.1f %.1f\n", pieces[i].key, m.median, m.low, m.high);
		(void) fflush(stdout);
	}
	return 0;
}

/* ---- whole requests, on connections that are kept ---- */

/* libc's functions, or what the program would call: the first of that name. */
struct calls {
	ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
	ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
	int (*socket)(int domain, int type, int protocol);
	int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
};

static struct calls libc_calls, program_calls;

static void fill(struct calls *c, void *from)
{
	*(void **) &c->send = dlsym(from, "send");
	*(void **) &c->recv = dlsym(from, "recv");
	*(void **) &c->socket = dlsym(from, "socket");
	*(void **) &c->connect = dlsym(from, "connect");
	*(void **) &c->accept = dlsym(from, "accept");
}

struct end {
	const struct calls *calls;
	int fd;
};

/* A client and a server in one thread; each end is watched or not. */
struct pair {
	struct end client, server;
	const char *request;
	size_t len;
};

static struct pair connect_pair(const struct calls *client, const struct calls *server,
				const char *request, size_t len)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(addr);
	const int listener = libc_calls.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int fd = client->socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;

	if (bind(listener, (struct sockaddr *) &addr, size) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *) &addr, &size) < 0 ||
	    client->connect(fd, (struct sockaddr *) &addr, size) < 0)
		die("a connection");

	const int peer = server->accept(listener, NULL, NULL);

	if (peer < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		die("accept");
	(void) close(listener);
	return (struct pair) { { client, fd }, { server, peer }, request, len };
}

static void say(const struct end *e, const char *bytes, size_t n)
{
	if (e->calls->send(e->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t) n)
		die("send");
}

static void hear(const struct end *e)
{
	char buf[2048];

	if (e->calls->recv(e->fd, buf, sizeof(buf), 0) <= 0)
		die("recv");
}

static void request_once(const struct pair *p)
{
	say(&p->client, p->request, p->len);
	hear(&p->server);
	say(&p->server, answer, sizeof(answer) - 1);
	hear(&p->client);
}

/* Thread CPU time of one request, ns. */
static double cost(const struct pair *p)
{
	struct timespec from, to;

	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (int i = 0; i < REQUESTS; i++)
		request_once(p);
	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return ((double) (to.tv_sec - from.tv_sec) * 1e9 +
		(double) (to.tv_nsec - from.tv_nsec)) / REQUESTS;
}

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

static void compare(const char *key, const struct pair *bare, const struct pair *with)
{
	static double base[PAIRS], added[PAIRS];

	(void) cost(bare);
	(void) cost(with);
	for (int i = 0; i < PAIRS; i++) {
		/* Neither is always the first of a pair. */
		const double first = cost(i % 2 ? with : bare);
		const double second = cost(i % 2 ? bare : with);

		base[i] = i % 2 ? second : first;
		added[i] = i % 2 ? first - second : second - first;
	}
	qsort(base, PAIRS, sizeof(base[0]), by_size);
	qsort(added, PAIRS, sizeof(added[0]), by_size);
	printf("%s.bare %.0f\n", key, base[PAIRS / 2]);
	printf("%s.added %.0f %.0f %.0f\n", key, added[PAIRS / 2], added[RANK_LOW],
	       added[RANK_HIGH]);
	(void) fflush(stdout);
}

static void fill_both(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	if (libc == NULL)
		die("libc.so.6");
	fill(&libc_calls, libc);
	fill(&program_calls, RTLD_DEFAULT);
}

/* The client is watched: its requests get our fields. */
static int run_called(void)
{
	const size_t len = sizeof(untraced) - 1;
	const struct pair bare = connect_pair(&libc_calls, &libc_calls, untraced, len);
	const struct pair with = connect_pair(&program_calls, &libc_calls, untraced, len);

	compare("called", &bare, &with);
	return 0;
}

/* The server is: its requests come with a context. */
static int run_served(void)
{
	const size_t len = sizeof(traced) - 1;
	const struct pair bare = connect_pair(&libc_calls, &libc_calls, traced, len);
	const struct pair with = connect_pair(&libc_calls, &program_calls, traced, len);

	compare("served", &bare, &with);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	fill_both();
	if (strcmp(what, "pieces") == 0)
		return run_pieces();
	if (strcmp(what, "called") == 0)
		return run_called();
	if (strcmp(what, "served") == 0)
		return run_served();
	fprintf(stderr, "usage: http-loops pieces|called|served\n");
	return 2;
}
