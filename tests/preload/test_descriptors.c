/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and the files behind them (traps T27, T28, T29): closes that no hook saw, ranges of
 * them, and files moved onto a live connection as Java does to close one.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* Open, with its outcome undecided. */
struct call {
	struct peer peer;
	int c, s;
};

static struct call call_begun(void)
{
	struct call call = { .peer = peer_listening() };

	call.c = tcp_connected(&call.peer);
	call.s = peer_accept(&call.peer);
	assert_true(call.s >= 0);
	return call;
}

/* The call is still followed on @fd: an answer is its success. */
static void call_answered(const struct call *call, int fd)
{
	char byte;

	assert_totals(call->peer.key, 0, 0, 0);
	assert_int_equal(send(call->s, "y", 1, 0), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_totals(call->peer.key, 1, 0, 0);
	assert_int_equal(close(call->s), 0);
}

/* ---- T27 ---- */

/* open(2) is no hook of ours, so the number's next owner may be a file we do not know of. */
static void a_file_under_the_number_answers_for_nobody(void **state)
{
	const struct call call = call_begun();
	char bytes[4];

	(void) state;
	assert_int_equal(raw_close(call.c), 0);

	const int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

	assert_int_equal(fd, call.c);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
	assert_totals(call.peer.key, 0, 0, 1);
	assert_int_equal(close(fd), 0);
	assert_totals(call.peer.key, 0, 0, 1);
	assert_int_equal(close(call.s), 0);
}

static void closing_a_file_under_the_number_decides_nothing(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(close(call.s), 0); /* to a closed socket this were a failure */
	assert_int_equal(raw_close(call.c), 0);

	const int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

	assert_int_equal(fd, call.c);
	assert_int_equal(close(fd), 0);
	assert_totals(call.peer.key, 0, 0, 1);
}

/* The number goes to a connection that no hook made: its bytes are its own peer's. */
static void a_stranger_under_the_number_answers_for_nobody(void **state)
{
	const struct call call = call_begun();
	struct peer other = peer_listening();
	char byte;

	(void) state;
	assert_int_equal(raw_close(call.c), 0);

	const int fd = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	assert_int_equal(fd, call.c);
	assert_int_equal(past_hooks(SYS_connect, fd, (long) &other.addr, sizeof(other.addr), 0, 0, 0),
			 0);
	assert_int_equal(send(peer_accept(&other), "y", 1, 0), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_totals(call.peer.key, 0, 0, 1);
	assert_null(breaker_of(other.key));
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(call.s), 0);
}

/* Unseen socket, seen connect: the new call is followed, the old one forgotten. */
static void a_connect_on_the_number_begins_anew(void **state)
{
	const struct call call = call_begun();
	struct peer other = peer_listening();
	char byte;

	(void) state;
	assert_int_equal(raw_close(call.c), 0);

	const int fd = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	assert_int_equal(fd, call.c);
	assert_int_equal(tcp_connect(fd, &other), 0);
	assert_int_equal(send(peer_accept(&other), "y", 1, 0), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_totals(other.key, 1, 0, 0);
	assert_int_equal(totals_of(call.peer.key).successes, 0);
	assert_int_equal(totals_of(call.peer.key).failures, 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(call.s), 0);
}

/* ---- T28 ---- */

static void cloexec_closes_nothing_yet(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(fcntl(call.c, F_SETFD, 0), 0);
	assert_int_equal(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
	assert_int_equal(fcntl(call.c, F_GETFD), FD_CLOEXEC);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

static void what_the_kernel_rejects_closes_nothing(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(close_range(3, ~0U, 1 << 20), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(close_range((unsigned) call.c + 1, (unsigned) call.c, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(syscall(SYS_close_range, 3, ~0U, 1 << 20), -1);
	assert_int_equal(errno, EINVAL);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

static void *close_copies(void *arg)
{
	(void) arg;
	return close_range(3, ~0U, CLOSE_RANGE_UNSHARE) == 0 ? arg : NULL;
}

/* The thread closes its own copy of the table; ours stays open. */
static void unshared_closes_are_not_ours(void **state)
{
	struct call call = call_begun();
	pthread_t thread;
	void *done = NULL;

	(void) state;
	assert_int_equal(pthread_create(&thread, NULL, close_copies, &call), 0);
	assert_int_equal(pthread_join(thread, &done), 0);
	assert_ptr_equal(done, &call);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

/* To the end of all numbers, in a table of thousands: not a loop of 2^32 steps. */
static void a_range_without_end_ends_soon(void **state)
{
	const struct call call = call_begun();
	struct timeval begin, end;

	(void) state;
	(void) gettimeofday(&begin, NULL);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(close_range((unsigned) call.s + 1, ~0U, 0), 0);
		assert_int_equal(close_range(1U << 31, ~0U, 0), 0);
		closefrom(call.s + 1);
	}
	(void) gettimeofday(&end, NULL);
	assert_true(end.tv_sec - begin.tv_sec < 10);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

static void a_range_ends_every_call_in_it(void **state)
{
	struct call calls[5];

	(void) state;
	for (int i = 0; i < 5; i++) {
		calls[i] = call_begun();
		assert_int_equal(send(calls[i].s, "y", 1, 0), 1);
		wait_for(calls[i].c, POLLIN);
	}
	assert_int_equal(close_range((unsigned) calls[1].c, (unsigned) calls[3].c, 0), 0);
	for (int i = 0; i < 5; i++)
		assert_totals(calls[i].peer.key, i >= 1 && i <= 3, 0, 0);
}

/* ---- T29 ---- */

static void moving_onto_itself_closes_nothing(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(dup2(call.c, call.c), call.c);
	assert_int_equal(dup3(call.c, call.c, 0), -1);
	assert_int_equal(errno, EINVAL);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

static void a_move_that_fails_closes_nothing(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(dup2(9999, call.c), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(dup2(-1, call.c), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(dup3(STDIN_FILENO, call.c, 1 << 20), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(dup2(call.c, -1), -1);
	assert_int_equal(errno, EBADF);
	call_answered(&call, call.c);
	assert_int_equal(close(call.c), 0);
}

static void a_connection_moved_onto_another_keeps_its_peer(void **state)
{
	const struct call a = call_begun(), b = call_begun();

	(void) state;
	assert_int_equal(send(b.s, "y", 1, 0), 1);
	wait_for(b.c, POLLIN);
	assert_int_equal(dup2(a.c, b.c), b.c);
	assert_totals(b.peer.key, 1, 0, 0);
	assert_int_equal(close(a.c), 0);
	call_answered(&a, b.c);
	assert_totals(b.peer.key, 1, 0, 0);
	assert_int_equal(close(b.c), 0);
}

struct reader {
	_Atomic int tid; /* 0 until it runs */
	int fd;
	ssize_t rc;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	char byte;

	r->tid = gettid();
	r->rc = recv(r->fd, &byte, 1, 0);
	return NULL;
}

/* Waits until the reader sleeps in the kernel. It says itself who it is: /proc may still list
 * a thread that has been joined. */
static void wait_asleep(struct reader *r)
{
	char path[64], state = 0;
	int tid;

	while ((tid = r->tid) == 0)
		(void) sched_yield();
	(void) snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	while (state != 'S') {
		FILE *f = fopen(path, "re");

		if (f != NULL && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		if (f != NULL)
			(void) fclose(f);
	}
}

/*
 * Java closes a socket that another thread reads from: a marker is moved onto its number,
 * the reader is woken, the number closed.
 */
static void java_closes_under_a_reader(void **state)
{
	struct call call = call_begun();
	struct reader reader = { .fd = call.c, .rc = -2 };
	int marker[2];
	pthread_t thread;

	(void) state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, marker), 0);
	assert_int_equal(shutdown(marker[0], SHUT_RDWR), 0);
	assert_int_equal(send(call.c, "x", 1, 0), 1);
	assert_int_equal(pthread_create(&thread, NULL, read_one, &reader), 0);
	wait_asleep(&reader);
	assert_int_equal(dup2(marker[0], call.c), call.c);
	/* The reader still holds the connection: an answer wakes it. */
	assert_int_equal(send(call.s, "y", 1, 0), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.rc, 1);
	/* Sooner than patience lasts, the move was no verdict on the peer. */
	assert_int_equal(totals_of(call.peer.key).failures, 0);
	assert_int_equal(close(call.c), 0);
	assert_int_equal(totals_of(call.peer.key).failures, 0);
	assert_int_equal(requests_of(call.peer.key), 1);
	assert_int_equal(close(call.s), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_under_the_number_answers_for_nobody),
		cmocka_unit_test(closing_a_file_under_the_number_decides_nothing),
		cmocka_unit_test(a_stranger_under_the_number_answers_for_nobody),
		cmocka_unit_test(a_connect_on_the_number_begins_anew),
		cmocka_unit_test(cloexec_closes_nothing_yet),
		cmocka_unit_test(what_the_kernel_rejects_closes_nothing),
		cmocka_unit_test(unshared_closes_are_not_ours),
		cmocka_unit_test(a_range_without_end_ends_soon),
		cmocka_unit_test(a_range_ends_every_call_in_it),
		cmocka_unit_test(moving_onto_itself_closes_nothing),
		cmocka_unit_test(a_move_that_fails_closes_nothing),
		cmocka_unit_test(a_connection_moved_onto_another_keeps_its_peer),
		cmocka_unit_test(java_closes_under_a_reader),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
