/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections under way (traps T21, T22, T23, T24): their outcome is learnt from what the
 * program asks for itself, asking again is no second call, and the socket stays as it was.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int non_blocking(void)
{
	const int fd = tcp_socket();

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* A connect that the kernel has found out to be refused, with nobody having asked yet. */
static int refused_unasked(const struct peer *p)
{
	const int c = non_blocking();

	assert_int_equal(tcp_connect(c, p), -1);
	assert_int_equal(errno, EINPROGRESS);
	wait_for(c, POLLOUT);
	assert_totals(p->key, 0, 0, 0);
	return c;
}

static void first_write_tells(void **state)
{
	struct peer p = peer_refusing();
	const int c = refused_unasked(&p);

	(void) state;
	/* The error is still there: we did not read SO_ERROR. */
	assert_int_equal(send(c, "x", 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_totals(p.key, 0, 1, 0);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

static void first_read_tells(void **state)
{
	struct peer p = peer_refusing();
	const int c = refused_unasked(&p);
	char byte;

	(void) state;
	assert_int_equal(read(c, &byte, 1), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_totals(p.key, 0, 1, 0);
	assert_int_equal(close(c), 0);
}

static void second_connect_tells(void **state)
{
	struct peer p = peer_refusing();
	const int c = refused_unasked(&p);

	(void) state;
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_totals(p.key, 0, 1, 0);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

static void close_asks_the_kernel(void **state)
{
	struct peer p = peer_refusing();
	const int c = refused_unasked(&p);

	(void) state;
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

static void other_options_tell_nothing(void **state)
{
	struct peer p = peer_refusing();
	const int c = refused_unasked(&p);
	int value;
	socklen_t len = sizeof(value);

	(void) state;
	assert_int_equal(getsockopt(c, SOL_SOCKET, SO_TYPE, &value, &len), 0);
	assert_int_equal(value, SOCK_STREAM);
	assert_totals(p.key, 0, 0, 0);
	/* Two bytes of it: libc's answer, and no verdict from half a number. */
	len = 2;
	value = 0;
	assert_int_equal(getsockopt(c, SOL_SOCKET, SO_ERROR, &value, &len), 0);
	assert_int_equal(len, 2);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* hiredis connects again to see whether it is connected. */
static void eisconn_is_no_second_call(void **state)
{
	struct peer p = peer_listening();
	const int c = non_blocking();
	char byte;

	(void) state;
	(void) tcp_connect(c, &p);
	wait_for(c, POLLOUT);
	/* Linux says 0 once after a connect that was under way, EISCONN from then on. */
	(void) tcp_connect(c, &p);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(requests_of(p.key), 1);
	assert_totals(p.key, 0, 0, 0);

	const int s = peer_accept(&p);

	assert_int_equal(send(s, "y", 1, 0), 1);
	wait_for(c, POLLIN);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 1, 0, 0);
}

static void ealready_is_no_second_call(void **state)
{
	struct peer p = peer_hanging(false);
	const int c = non_blocking();

	(void) state;
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EINPROGRESS);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(tcp_connect(c, &p), -1);
		assert_int_equal(errno, EALREADY);
	}
	assert_int_equal(requests_of(p.key), 1);
	assert_totals(p.key, 0, 0, 0);
	/* Given up sooner than patience lasts: says nothing of the peer. */
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 1);
}

static void giving_up_after_patience_is_a_failure(void **state)
{
	struct peer p = peer_hanging(true);
	const int c = non_blocking();

	(void) state;
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EINPROGRESS);
	patience_passes();
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* An open breaker concerns new calls, not sockets that are connected or under way. */
static void an_open_breaker_leaves_asking_alone(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char byte;

	(void) state;
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);

	/* Its outcome is still open when the breaker opens. */
	const int pending = tcp_connected(&p), other = peer_accept(&p);

	peer_trip(&p);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(tcp_connect(pending, &p), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(pending), 0);
	assert_int_equal(close(s), 0);
	assert_int_equal(close(other), 0);
}

/* After a failure the same socket may be used again, and that is a call of its own. */
static void a_retry_on_the_same_socket_is_a_call(void **state)
{
	struct peer p = peer_refusing();
	const int c = tcp_socket();
	char byte;

	(void) state;
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, ECONNREFUSED);
	peer_heal(&p);
	assert_int_equal(tcp_connect(c, &p), 0);
	assert_int_equal(send(peer_accept(&p), "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 1, 0);
	assert_int_equal(close(c), 0);
}

/* What a program can see of its socket, but for its being connected. */
struct look {
	int fl, fd, nodelay, keepalive;
	struct linger linger;
	struct timeval rcv, snd;
};

static struct look look_at(int fd)
{
	struct look l;
	socklen_t len = sizeof(int);

	memset(&l, 0, sizeof(l));
	l.fl = fcntl(fd, F_GETFL);
	l.fd = fcntl(fd, F_GETFD);
	(void) getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &l.nodelay, &len);
	(void) getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &l.keepalive, &len);
	len = sizeof(l.linger);
	(void) getsockopt(fd, SOL_SOCKET, SO_LINGER, &l.linger, &len);
	len = sizeof(l.rcv);
	(void) getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &l.rcv, &len);
	(void) getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &l.snd, &len);
	return l;
}

static void no_flag_of_the_socket_changes(void **state)
{
	struct peer well = peer_listening(), sick = peer_refusing(), open = peer_listening();
	const struct peer *const peers[] = { &well, &sick, &open };

	(void) state;
	peer_trip(&open);
	for (int i = 0; i < 6; i++) {
		const int c = tcp_socket();

		assert_int_equal(fcntl(c, F_SETFL, i % 2 != 0 ? O_NONBLOCK : 0), 0);

		const struct look before = look_at(c);

		(void) tcp_connect(c, peers[i / 2]);
		(void) send(c, "x", 1, MSG_DONTWAIT);

		const struct look after = look_at(c);

		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(close(c), 0);
	}
}

/* With TCP_FASTOPEN_CONNECT the error may come with the first write; once, either way. */
static void fast_open_connect_fails_once(void **state)
{
	struct peer p = peer_refusing();
	const int c = tcp_socket(), on = 1;

	(void) state;
	if (setsockopt(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)) < 0)
		need(false, "capability missing: TCP_FASTOPEN_CONNECT");
	if (tcp_connect(c, &p) == 0)
		assert_int_equal(send(c, "x", 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* A message that asks for Fast Open on a socket that is connected already is data. */
static void fast_open_on_a_connection_is_data(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	const ssize_t rc = sendto(c, "x", 1, MSG_FASTOPEN, (struct sockaddr *) &p.addr,
				  sizeof(p.addr));
	char byte;

	(void) state;
	if (rc < 0) /* EISCONN where the kernel insists */
		assert_int_equal(errno, EISCONN);
	assert_int_equal(requests_of(p.key), 1);
	assert_totals(p.key, 0, 0, 0);
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_write_tells),
		cmocka_unit_test(first_read_tells),
		cmocka_unit_test(second_connect_tells),
		cmocka_unit_test(close_asks_the_kernel),
		cmocka_unit_test(other_options_tell_nothing),
		cmocka_unit_test(eisconn_is_no_second_call),
		cmocka_unit_test(ealready_is_no_second_call),
		cmocka_unit_test(giving_up_after_patience_is_a_failure),
		cmocka_unit_test(an_open_breaker_leaves_asking_alone),
		cmocka_unit_test(a_retry_on_the_same_socket_is_a_call),
		cmocka_unit_test(no_flag_of_the_socket_changes),
		cmocka_unit_test(fast_open_connect_fails_once),
		cmocka_unit_test(fast_open_on_a_connection_is_data),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
