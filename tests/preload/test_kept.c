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
		cmocka_unit_test(half_a_message_is_the_last),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
