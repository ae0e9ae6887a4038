/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that end in every way we know of, over and over, with the shim loaded. What is
 * kept of one must be there for the next: after the first rounds the process grows no more.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/raw.h"

#define WARM_UP   2000
#define GROWTH_KB 256 /* of a process that would hold megabytes more if each left 100 bytes */

static struct sockaddr_in here;
static int listener;

/* ---- one connection, both ends ours ---- */

static int c, s;

static void put(int fd, const char *text)
{
	const size_t len = strlen(text);

	assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

static void get(int fd)
{
	static char sink[65536];
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	/* Past the hooks, for it must be no tick. */
	(void) raw_syscall(SYS_ppoll, (long) &ready, 1, 0, 0, 8, 0);
	(void) recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
}

static void meet(void)
{
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c, (struct sockaddr *) &here, sizeof(here)), 0);
	s = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(s >= 0);
}

static void reset(int fd)
{
	const struct linger at_once = { 1, 0 };

	(void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	(void) close(fd);
}

/* No TIME_WAIT: there are more rounds than ports. */
static void part(void)
{
	reset(c);
	(void) close(s);
}

static const char ask[] = "GET /soak?q=1 HTTP/1.1\r\nHost: a\r\n\r\n";
static const char post[] = "POST /soak HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char traced[] =
	"GET /soak HTTP/1.1\r\nHost: a\r\nx-trace-id: foreign\r\n"
	"traceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\n\r\n";

/* ---- the ways to end ---- */

static void kept(void)
{
	meet();
	for (int i = 0; i < 3; i++) {
		put(c, i == 1 ? post : ask);
		get(s);
		put(s, ok);
		get(c);
	}
	part();
}

static void reset_by_the_client(void)
{
	meet();
	put(c, ask);
	get(s);
	part();
}

static void reset_by_the_server(void)
{
	meet();
	put(c, ask);
	get(s);
	put(s, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf");
	get(c);
	reset(s);
	get(c);
	(void) close(c);
}

static void half_a_head(void)
{
	meet();
	put(c, "GET / HTTP/1.1\r\nHo");
	get(s);
	part();
}

static void another_protocol(void)
{
	meet();
	put(c, "\x16\x03\x01 hello");
	get(s);
	put(s, "\x16\x03\x01 hello");
	get(c);
	part();
}

static void nothing_at_all(void)
{
	meet();
	part();
}

static void pipelined_and_left(void)
{
	meet();
	put(c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
	       "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
	get(s);
	put(s, ok);
	get(c);
	part();
}

static void too_many_in_flight(void)
{
	meet();
	for (int i = 0; i < 140; i++)
		put(c, ask);
	get(s);
	part();
}

static void upgraded(void)
{
	meet();
	put(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
	get(s);
	put(s, "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
	get(c);
	put(c, "\x01\x02");
	get(s);
	part();
}

static void strange_framing(void)
{
	meet();
	put(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
	       "Transfer-Encoding: chunked\r\n\r\n");
	get(s);
	put(s, ok);
	get(c);
	part();
}

static void strange_answer(void)
{
	meet();
	put(c, ask);
	get(s);
	put(s, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
	get(c);
	put(c, ask);
	get(s);
	part();
}

static void until_close(void)
{
	meet();
	put(c, ask);
	get(s);
	put(s, "HTTP/1.0 200 OK\r\n\r\nbytes");
	(void) shutdown(s, SHUT_WR);
	get(c);
	get(c);
	part();
}

static void duplicated(void)
{
	meet();

	const int d = dup(c), e = dup(s);

	put(d, ask);
	(void) close(c);
	get(e);
	(void) close(s);
	put(e, ok);
	get(d);
	c = d;
	s = e;
	part();
}

static void closed_unseen(void)
{
	const struct linger at_once = { 1, 0 };

	meet();
	put(c, ask);
	get(s);
	(void) setsockopt(c, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	(void) raw_syscall(SYS_close, c, 0, 0, 0, 0, 0);
	(void) raw_syscall(SYS_close, s, 0, 0, 0, 0, 0);
	kept();
}

/* Beyond what a place holds, so that blobs are taken: of the head, of values, of our fields. */
static void large_contexts(void)
{
	static char head[8192];
	const int n = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\nbaggage: k=");

	memset(head + n, 'v', 4000);
	(void) snprintf(head + n + 4000, sizeof(head) - (size_t) n - 4000,
			"\r\ntraceparent: 00-11111111111111111111111111111111-3333333333333333-01"
			"\r\n\r\n");
	meet();
	put(c, head);
	get(s);

	const int outer_c = c, outer_s = s;

	kept(); /* called for it */
	c = outer_c;
	s = outer_s;
	put(s, ok);
	get(c);
	part();
}

static void called_for_it(void)
{
	meet();
	put(c, traced);
	get(s);

	const int outer_c = c, outer_s = s;

	reset_by_the_client();
	c = outer_c;
	s = outer_s;
	part();
}

static void refused(void)
{
	struct sockaddr_in nobody = here;
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	nobody.sin_port = htons(1);
	(void) connect(fd, (struct sockaddr *) &nobody, sizeof(nobody));
	(void) close(fd);
}

static void beyond_the_table(void)
{
	const int to = 1 << 20;

	meet();
	if (fcntl(c, F_DUPFD_CLOEXEC, to) >= 0)
		(void) close(to);
	put(c, ask);
	part();
}

static void (*const ways[])(void) = {
	kept,		   reset_by_the_client, reset_by_the_server, half_a_head,
	another_protocol,  nothing_at_all,	pipelined_and_left,  upgraded,
	strange_framing,   strange_answer,	until_close,	     duplicated,
	closed_unseen,	   large_contexts,	called_for_it,	     refused,
	too_many_in_flight, beyond_the_table,
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* ---- */

static long resident_kb(void)
{
	char line[256];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmRSS:", 6) == 0)
			kb = strtol(line + 6, NULL, 10);
	(void) fclose(f);
	return kb;
}

static void connections_leave_nothing(void **state)
{
	const char *rounds = getenv("SOAK_ROUNDS");
	const long n = rounds != NULL ? atol(rounds) : 20000;
	socklen_t len = sizeof(here);
	long before = 0;

	(void) state;
	here = (struct sockaddr_in) { .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *) &here, len), 0);
	assert_int_equal(listen(listener, 64), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *) &here, &len), 0);
	for (long i = 0; i < WARM_UP + n; i++) {
		if (i == WARM_UP)
			before = resident_kb();
		ways[i % (long) WAYS]();
	}

	const long after = resident_kb();

	print_message("# %ld connections: %ld KiB resident, then %ld\n", n, before, after);
	assert_true(after - before < GROWTH_KB);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(connections_leave_nothing) };

	(void) signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
