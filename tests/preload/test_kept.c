/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that are kept for more than one request: whose calls are refused or judged, and
 * what becomes of one that was closed behind our back, or is another process's as well.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static const char ask[] = "GET /kept HTTP/1.1\r\nHost: a\r\n\r\n";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/* What the peer gets of @text sent on @c; NUL at its end. */
static const char *peer_gets(int c, int s, const char *text)
{
	static char got[4096];
	ssize_t n;

	assert_int_equal(write(c, text, strlen(text)), strlen(text));
	n = recv(s, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = '\0';
	return got;
}

static void answer(int c, int s, const char *text)
{
	char got[4096];

	assert_int_equal(send(s, text, strlen(text), 0), strlen(text));
	wait_for(c, POLLIN);
	assert_int_equal(recv(c, got, sizeof(got), 0), strlen(text));
}

static void exchange(int c, int s)
{
	assert_non_null(strstr(peer_gets(c, s, ask), "traceparent: "));
	answer(c, s, ok);
}

/* ---- closed behind our back ---- */

/* A file under a kept connection's number is no peer of an open breaker's. */
static void a_file_is_not_refused(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char path[128];

	(void) state;
	exchange(c, s);
	peer_trip(&p);
	assert_int_equal(write(c, ask, sizeof(ask) - 1), -1);
	assert_int_equal(errno, ECONNREFUSED);
	(void) raw_close(c);
	(void) snprintf(path, sizeof(path), "%s/note", host_dir());

	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(fd, c);
	assert_int_equal(write(fd, ask, sizeof(ask) - 1), sizeof(ask) - 1);
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(s), 0);
}

/* ---- bytes that went past us ---- */

static const char post[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 32\r\n\r\n";

/* A body may look like a request: of one whose head we have not seen nothing is known. */
static void nothing_is_added_behind_unseen_bytes(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char got[256];

	(void) state;
	/* As stdio does, or a library that binds past us. */
	assert_int_equal(past_hooks(SYS_sendto, c, (long) post, sizeof(post) - 1, 0, 0, 0),
			 sizeof(post) - 1);
	assert_int_equal(recv(s, got, sizeof(got), 0), sizeof(post) - 1);
	assert_string_equal(peer_gets(c, s, ask), ask);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

static int send_a_head(void *arg)
{
	return write(*(const int *) arg, post, sizeof(post) - 1) == sizeof(post) - 1 ? 0 : __LINE__;
}

static void nothing_is_added_behind_a_childs_bytes(void **state)
{
	struct peer p = peer_listening();
	int c = tcp_connected(&p), s = peer_accept(&p);
	char got[256];

	(void) state;
	exchange(c, s);
	assert_int_equal(child_status(send_a_head, &c), 0);
	/* Read by nobody yet, or acknowledged: the kernel counts both. */
	assert_int_equal(write(c, ask, sizeof(ask) - 1), sizeof(ask) - 1);

	const size_t both = sizeof(post) - 1 + sizeof(ask) - 1;

	assert_int_equal(recv(s, got, both, MSG_WAITALL), both);
	assert_memory_equal(got + sizeof(post) - 1, ask, sizeof(ask) - 1);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

/* Handed to a process that is no child. */
static void nothing_is_added_behind_a_borrowers_bytes(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { 0 };
	struct iovec v = { (char *) "x", 1 };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	char got[256];
	int pair[2];

	(void) state;
	exchange(c, s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&control.header), &c, sizeof(c));
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	assert_int_equal(past_hooks(SYS_sendto, c, (long) post, sizeof(post) - 1, 0, 0, 0),
			 sizeof(post) - 1);
	assert_int_equal(recv(s, got, sizeof(got), 0), sizeof(post) - 1);
	assert_string_equal(peer_gets(c, s, ask), ask);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
	assert_int_equal(close(pair[0]), 0);
	assert_int_equal(close(pair[1]), 0);
}

/* ---- how calls end ---- */

/* The peer went away while nothing was asked of it: it never had the next request. */
static void a_reset_while_idle_is_no_failure(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	exchange(c, s);
	peer_reset(s);
	wait_for(c, POLLIN);
	assert_int_equal(send(c, ask, sizeof(ask) - 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 1, 0, 1);
}

/* The same, told by a read before; the write has EPIPE then. */
static void a_write_after_the_end_is_no_failure(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char byte;

	(void) state;
	exchange(c, s);
	peer_reset(s);
	wait_for(c, POLLIN);
	assert_int_equal(recv(c, &byte, 1, 0), -1);
	assert_int_equal(send(c, ask, sizeof(ask) - 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 1, 0, 1);
}

/*
 * A peer that was told of the last request closes, and may not say so. One that comes all the
 * same is not its to answer; any other that the peer has taken is.
 */
static void a_close_that_was_asked_for_is_no_failure(void **state)
{
	static const struct {
		const char *name, *before;
		uint64_t failures;
	} rows[] = {
		{ "close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0 },
		{ "HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", 0 },
		{ "keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", 1 },
		{ "neither", ask, 1 },
	};

	(void) state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p = peer_listening();
		const int c = tcp_connected(&p), s = peer_accept(&p);
		const uint64_t failures = rows[i / 2].failures;
		char byte;

		print_message("# %s, %s\n", rows[i / 2].name, i % 2 == 0 ? "read" : "closed");
		(void) peer_gets(c, s, rows[i / 2].before);
		answer(c, s, ok);
		(void) peer_gets(c, s, ask); /* all of it: the end of the peer's side says so, too */
		assert_int_equal(close(s), 0);
		wait_for(c, POLLIN);
		if (i % 2 == 0)
			assert_int_equal(recv(c, &byte, 1, 0), 0);
		assert_int_equal(close(c), 0);
		assert_totals(p.key, 1, failures, 1 - failures);
		peer_drop(&p);
	}
}

/* Sent into a connection that the peer had closed; given up by whoever was told by poll(2). */
static void a_request_behind_the_end_is_no_success(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	exchange(c, s);
	assert_int_equal(close(s), 0);
	assert_int_equal(write(c, ask, sizeof(ask) - 1), sizeof(ask) - 1);
	wait_for(c, POLLHUP);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 1, 0, 1);
}

/* Given up after a promise, or half a head: that is no answer. */
static void a_promise_is_no_answer(void **state)
{
	static const char *const promises[] = { "HTTP/1.1 100 Continue\r\n\r\n",
						"HTTP/1.1 200 OK\r\nX-Slow: " };

	(void) state;
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++) {
		struct peer p = peer_silent();
		const int c = tcp_connected(&p), s = peer_accept(&p);

		(void) peer_gets(c, s, ask);
		answer(c, s, promises[i]);
		patience_passes();
		assert_int_equal(close(c), 0);
		assert_totals(p.key, 0, 1, 0);
		assert_int_equal(close(s), 0);
	}
}

/* What was answered to a request that cannot be followed is an answer all the same. */
static void an_answer_to_the_unfollowed_is_one(void **state)
{
	static const char strange[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
				      "Transfer-Encoding: chunked\r\n\r\n";
	struct peer p = peer_silent();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	exchange(c, s);
	(void) peer_gets(c, s, strange);
	answer(c, s, ok);
	patience_passes();
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 2, 0, 0);
	assert_int_equal(close(s), 0);
}

/* Nor is it less of one when the program has it thrown away. */
static void an_answer_thrown_away_is_one(void **state)
{
	struct peer p = peer_silent();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	exchange(c, s);
	(void) peer_gets(c, s, ask);
	assert_int_equal(send(s, ok, sizeof(ok) - 1, 0), sizeof(ok) - 1);
	wait_for(c, POLLIN);
	assert_int_equal(recv(c, NULL, sizeof(ok) - 1, MSG_TRUNC), sizeof(ok) - 1);
	patience_passes();
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 2, 0, 0);
	assert_int_equal(close(s), 0);
}

/* Having nothing more to say is no reason to get no answer. */
static void half_closed_without_an_answer_is_a_failure(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char byte;

	(void) state;
	(void) peer_gets(c, s, ask);
	assert_int_equal(shutdown(c, SHUT_WR), 0);
	assert_int_equal(close(s), 0);
	wait_for(c, POLLIN);
	assert_int_equal(recv(c, &byte, 1, 0), 0);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* A client that waits by poll(2) and has less patience than we: that says nothing. */
static void a_request_given_up_soon_is_excluded(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	(void) peer_gets(c, s, ask);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 1);
	assert_int_equal(close(s), 0);
}

static void heads_decide_and_not_what_follows(void **state)
{
	static const struct {
		const char *name, *ask, *answer;
		uint64_t good, bad;
	} rows[] = {
		{ "HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
		  "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n", 0, 1 },
		{ "1xx before", ask,
		  "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 0, 1 },
		{ "101", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		  "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 1, 0 },
		{ "CONNECT", "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n",
		  "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", 0, 1 },
		{ "until close", ask, "HTTP/1.0 200 OK\r\n\r\nbytes", 1, 0 },
		{ "an early answer",
		  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n",
		  "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", 1, 0 },
		{ "a stream given up", ask,
		  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n", 1, 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p = peer_silent();
		const int c = tcp_connected(&p), s = peer_accept(&p);

		print_message("# %s\n", rows[i].name);
		(void) peer_gets(c, s, rows[i].ask);
		answer(c, s, rows[i].answer);
		patience_passes();
		assert_int_equal(close(c), 0);
		assert_totals(p.key, rows[i].good, rows[i].bad, 0);
		assert_int_equal(close(s), 0);
	}
}

/* ---- many messages in a call ---- */

/*
 * Behind a message that went in part nothing may go, though the peer makes room meanwhile:
 * a handler of the alarm that ends the first message's wait reads all there is.
 */
static int reader;

static void on_alarm(int number)
{
	static char sink[1 << 16];

	(void) number;
	while (past_hooks(SYS_recvfrom, reader, (long) sink, sizeof(sink), MSG_DONTWAIT, 0, 0) > 0)
		;
}

static void half_a_message_is_the_last(void **state)
{
	static char body[8 << 20];
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	struct iovec v[2] = { { body, sizeof(body) }, { body, 1 } };
	struct mmsghdr msgs[2] = { { .msg_hdr = { .msg_iov = &v[0], .msg_iovlen = 1 } },
				   { .msg_hdr = { .msg_iov = &v[1], .msg_iovlen = 1 } } };
	const struct sigaction act = { .sa_handler = on_alarm };
	const struct itimerval soon = { .it_value = { .tv_usec = 100000 } };

	(void) state;
	exchange(c, s);
	reader = s;
	(void) sigaction(SIGALRM, &act, NULL);
	(void) setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(sendmmsg(c, msgs, 2, 0), 1);
	(void) signal(SIGALRM, SIG_DFL);
	(void) alarm(60); /* the timer was the last resort's */
	assert_true(msgs[0].msg_len < sizeof(body));
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_not_refused),
		cmocka_unit_test(nothing_is_added_behind_unseen_bytes),
		cmocka_unit_test(nothing_is_added_behind_a_childs_bytes),
		cmocka_unit_test(nothing_is_added_behind_a_borrowers_bytes),
		cmocka_unit_test(a_reset_while_idle_is_no_failure),
		cmocka_unit_test(a_write_after_the_end_is_no_failure),
		cmocka_unit_test(a_close_that_was_asked_for_is_no_failure),
		cmocka_unit_test(a_request_behind_the_end_is_no_success),
		cmocka_unit_test(a_promise_is_no_answer),
		cmocka_unit_test(an_answer_to_the_unfollowed_is_one),
		cmocka_unit_test(an_answer_thrown_away_is_one),
		cmocka_unit_test(half_closed_without_an_answer_is_a_failure),
		cmocka_unit_test(a_request_given_up_soon_is_excluded),
		cmocka_unit_test(heads_decide_and_not_what_follows),
		cmocka_unit_test(half_a_message_is_the_last),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
