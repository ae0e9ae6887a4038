/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelled threads (trap T41): what we open and write on our own account is no place to be
 * cancelled at, so no lock of ours is taken along and no call is left half ended.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static void *connect_cancelled(void *arg)
{
	(void) pthread_cancel(pthread_self());
	(void) tcp_connect(tcp_socket(), arg);
	return arg;
}

/* The first connect of a process maps files, which open(2) and read(2) do. */
static void cancelled_at_the_first_connect(void **state)
{
	struct peer p = peer_refusing();
	const int before = count_descriptors();
	pthread_t thread;
	void *end;

	(void) state;
	assert_null(breaker_of(p.key));
	assert_int_equal(pthread_create(&thread, NULL, connect_cancelled, &p), 0);
	assert_int_equal(pthread_join(thread, &end), 0);
	assert_ptr_equal(end, PTHREAD_CANCELED);
	/* Its socket alone. */
	assert_int_equal(count_descriptors(), before + 1);

	for (int i = 0; i < TRIP_AT; i++) {
		const int c = tcp_socket();

		assert_int_equal(tcp_connect(c, &p), -1);
		assert_int_equal(close(c), 0);
	}
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
}

struct asking {
	int fd, error, rc;
};

/* getsockopt(2) is no place to be cancelled at, also when the log is opened for it. */
static void *ask_cancelled(void *arg)
{
	struct asking *a = arg;
	socklen_t len = sizeof(a->error);

	(void) pthread_cancel(pthread_self());
	a->rc = getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &a->error, &len);
	return a;
}

static void cancelled_while_a_trip_is_logged(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	for (int i = 0; i < TRIP_AT; i++) {
		struct asking a = { .fd = tcp_socket(), .rc = -1 };
		pthread_t thread;
		void *end;

		assert_int_equal(fcntl(a.fd, F_SETFL, O_NONBLOCK), 0);
		(void) tcp_connect(a.fd, &p);
		wait_for(a.fd, POLLOUT);
		assert_int_equal(pthread_create(&thread, NULL, ask_cancelled, &a), 0);
		assert_int_equal(pthread_join(thread, &end), 0);
		assert_ptr_equal(end, &a);
		assert_int_equal(a.rc, 0);
		assert_int_equal(a.error, ECONNREFUSED);
		assert_int_equal(close(a.fd), 0);
	}
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
	assert_totals(p.key, 0, TRIP_AT, 0);
}

int main(int argc, char **argv)
{
	static const char *const extra[] = { "AGENTSHIM_LOG=/dev/null", NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancelled_at_the_first_connect),
		cmocka_unit_test(cancelled_while_a_trip_is_logged),
	};

	host_start(argc, argv, extra);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
