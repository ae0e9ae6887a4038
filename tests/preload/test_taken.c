/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number taken from under a thread: closed and used again by another one while a connect
 * on it still waits in the kernel. What that connect comes to is not the new peer's doing.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct waiter {
	struct peer peer;
	int fd, rc, error;
	_Atomic int tid;
};

static void *connects(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->tid, (int) past_hooks(SYS_gettid, 0, 0, 0, 0, 0, 0));
	w->rc = tcp_connect(w->fd, &w->peer);
	w->error = errno;
	return NULL;
}

static bool inside(int tid, long nr)
{
	char path[64], text[32];

	(void) snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);

	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = read(fd, text, sizeof(text) - 1);

	(void) raw_close(fd);
	text[n > 0 ? n : 0] = '\0';

	long at;

	return sscanf(text, "%ld", &at) == 1 && at == nr;
}

static void a_connect_fails_after_its_number_was_taken(void **state)
{
	struct waiter w = { .peer = peer_hanging(false), .fd = tcp_socket() };
	struct peer well = peer_listening();
	pthread_t thread;
	char byte;

	(void) state;
	assert_int_equal(pthread_create(&thread, NULL, connects, &w), 0);
	while (atomic_load(&w.tid) == 0 || !inside(atomic_load(&w.tid), SYS_connect))
		(void) sched_yield();
	assert_int_equal(close(w.fd), 0);

	const int c = tcp_connected(&well);

	assert_int_equal(c, w.fd);
	/* The SYN that the kernel sends again is answered by RST. */
	(void) raw_close(w.peer.listener);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.rc, -1);
	assert_int_equal(w.error, ECONNREFUSED);
	assert_totals(well.key, 0, 0, 0);
	assert_totals(w.peer.key, 0, 0, 1);

	/* The new call goes on being followed. */
	const int s = peer_accept(&well);

	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(well.key, 1, 0, 0);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connect_fails_after_its_number_was_taken),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
