/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that never come back the way they went (trap T41): threads cancelled inside libc,
 * handlers that leave by siglongjmp, handlers that call us from anywhere. Nothing wedges, and
 * the next call is counted.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STORM_CALLS 400

/* The calling thread's next failure is counted: its guard is not stuck. */
static int counts_a_failure(const struct peer *p)
{
	const uint64_t before = totals_of(p->key).failures;
	const int c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(tcp_connect(c, p) == -1 && errno == ECONNREFUSED);
	CHECK(totals_of(p->key).failures == before + 1);
	CHECK(close(c) == 0);
	return 0;
}

/* Waits until @tid sleeps in the system call @nr. */
static void wait_in_call(int tid, long nr)
{
	char path[64];
	long seen = -1;

	(void) snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	while (seen != nr) {
		FILE *f = fopen(path, "re");

		if (f == NULL) /* hidden from us: give the thread its chance */
			return (void) poll(NULL, 0, 50);
		if (fscanf(f, "%ld", &seen) != 1)
			seen = -1;
		(void) fclose(f);
	}
}

/* ---- cancelled ---- */

struct work {
	const struct peer *peer;
	int fd;
	_Atomic int tid;
};

static void *blocks_in_recv(void *arg)
{
	struct work *w = arg;
	char byte;

	w->tid = gettid();
	(void) recv(w->fd, &byte, 1, 0);
	return arg;
}

static void *blocks_in_connect(void *arg)
{
	struct work *w = arg;

	w->tid = gettid();
	(void) tcp_connect(w->fd, w->peer);
	return arg;
}

static void *blocks_in_send(void *arg)
{
	struct work *w = arg;
	static char much[1 << 16];

	w->tid = gettid();
	for (;;)
		(void) send(w->fd, much, sizeof(much), 0);
	return arg;
}

static void cancelled_inside(struct work *w, void *(*f)(void *), long nr)
{
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, f, w), 0);
	while (w->tid == 0)
		(void) sched_yield();
	wait_in_call(w->tid, nr);
	assert_int_equal(pthread_cancel(thread), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
}

static void a_reader_is_cancelled(void **state)
{
	struct peer p = peer_listening();
	struct work w = { &p, tcp_connected(&p), 0 };
	const int s = peer_accept(&p);
	char byte;

	(void) state;
	cancelled_inside(&w, blocks_in_recv, SYS_recvfrom);
	assert_totals(p.key, 0, 0, 0);
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(w.fd, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(w.fd), 0);
	assert_int_equal(close(s), 0);
}

static void a_writer_is_cancelled(void **state)
{
	struct peer p = peer_listening();
	struct work w = { &p, tcp_connected(&p), 0 };
	const int s = peer_accept(&p);

	(void) state;
	cancelled_inside(&w, blocks_in_send, SYS_sendto);
	assert_int_equal(send(s, "y", 1, 0), 1);
	wait_for(w.fd, POLLIN);
	assert_int_equal(close(w.fd), 0);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(s), 0);
}

static void a_connect_is_cancelled(void **state)
{
	struct peer p = peer_hanging(false), q = peer_hanging(true);
	struct work w = { &p, tcp_socket(), 0 }, v = { &q, tcp_socket(), 0 };

	(void) state;
	cancelled_inside(&w, blocks_in_connect, SYS_connect);
	assert_int_equal(close(w.fd), 0);
	assert_totals(p.key, 0, 0, 1);
	cancelled_inside(&v, blocks_in_connect, SYS_connect);
	patience_passes();
	assert_int_equal(close(v.fd), 0);
	assert_totals(q.key, 0, 1, 0);
}

/* A cancelled close may have closed nothing; it was the end of the call all the same. */
static void *closes_cancelled(void *arg)
{
	struct work *w = arg;

	(void) pthread_cancel(pthread_self());
	(void) close(w->fd);
	return arg;
}

static void a_close_is_cancelled(void **state)
{
	struct peer p = peer_listening();
	struct work w = { &p, tcp_connected(&p), 0 };
	const int s = peer_accept(&p);
	pthread_t thread;
	void *result;

	(void) state;
	assert_int_equal(send(s, "y", 1, 0), 1);
	wait_for(w.fd, POLLIN);
	assert_int_equal(pthread_create(&thread, NULL, closes_cancelled, &w), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_totals(p.key, 1, 0, 0);
	(void) close(w.fd);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(s), 0);
}

/* syscall(2) is no point of cancellation; an allocator in its lock counts on that (T11). */
static void *uses_syscall_cancelled(void *arg)
{
	struct work *w = arg;
	int pipes[2];
	char byte;
	long sum = 0;

	(void) pthread_cancel(pthread_self());
	sum += syscall(SYS_pipe2, pipes, O_CLOEXEC);
	sum += syscall(SYS_write, pipes[1], "x", 1);
	sum += syscall(SYS_read, pipes[0], &byte, 1);
	sum += syscall(SYS_close, pipes[0]);
	sum += syscall(SYS_close, pipes[1]);
	sum += syscall(SYS_write, w->fd, "x", 1);
	sum += syscall(SYS_sendto, w->fd, "x", 1, 0, NULL, 0);
	sum += syscall(SYS_recvfrom, w->fd, &byte, 1, MSG_PEEK, NULL, NULL);
	sum += syscall(SYS_read, w->fd, &byte, 1);
	w->tid = (int) sum;
	pthread_testcancel();
	return arg;
}

static void syscall_is_no_point_of_cancellation(void **state)
{
	struct peer p = peer_listening();
	struct work w = { &p, tcp_connected(&p), 0 };
	const int s = peer_accept(&p);
	pthread_t thread;
	void *result;

	(void) state;
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(pthread_create(&thread, NULL, uses_syscall_cancelled, &w), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_int_equal(w.tid, 6);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(w.fd), 0);
	assert_int_equal(close(s), 0);
}

/* ---- jumped out of ---- */

static sigjmp_buf out;

static void leap(int signal)
{
	(void) signal;
	siglongjmp(out, 1);
}

struct poker {
	pthread_t thread;
	int tid;
	long nr;
};

static void *pokes(void *arg)
{
	const struct poker *p = arg;

	wait_in_call(p->tid, p->nr);
	(void) pthread_kill(p->thread, SIGUSR1);
	return NULL;
}

/* Runs @f until it sleeps in @nr, then leaves it from a signal handler. */
static void jump_out_of(void (*f)(const struct work *), const struct work *w, long nr)
{
	struct poker poker = { pthread_self(), gettid(), nr };
	const struct sigaction action = { .sa_handler = leap };
	static pthread_t thread; /* a local one is lost with the leap */

	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	if (sigsetjmp(out, 1) == 0) {
		assert_int_equal(pthread_create(&thread, NULL, pokes, &poker), 0);
		f(w);
		fail();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void connect_blocks(const struct work *w)
{
	(void) tcp_connect(w->fd, w->peer);
}

static void recv_blocks(const struct work *w)
{
	char byte;

	(void) recv(w->fd, &byte, 1, 0);
}

static void a_handler_jumps_out_of_connect(void **state)
{
	struct peer p = peer_hanging(false), sick = peer_refusing();
	const struct work w = { &p, tcp_socket(), 0 };

	(void) state;
	jump_out_of(connect_blocks, &w, SYS_connect);
	assert_totals(p.key, 0, 0, 0);
	assert_int_equal(close(w.fd), 0);
	assert_totals(p.key, 0, 0, 1);
	assert_int_equal(counts_a_failure(&sick), 0);
}

static void a_handler_jumps_out_of_recv(void **state)
{
	struct peer p = peer_listening(), sick = peer_refusing();
	const struct work w = { &p, tcp_connected(&p), 0 };
	const int s = peer_accept(&p);
	char byte;

	(void) state;
	jump_out_of(recv_blocks, &w, SYS_recvfrom);
	assert_int_equal(counts_a_failure(&sick), 0);
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(w.fd, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(w.fd), 0);
	assert_int_equal(close(s), 0);
}

/* ---- interrupted ---- */

static void nothing(int signal)
{
	(void) signal;
}

static void an_interrupted_connect_goes_on(void **state)
{
	struct peer p = peer_hanging(false);
	struct poker poker = { pthread_self(), gettid(), SYS_connect };
	const struct sigaction action = { .sa_handler = nothing };
	const int c = tcp_socket();
	pthread_t thread;

	(void) state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, pokes, &poker), 0);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_totals(p.key, 0, 0, 0);
	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EALREADY);
	assert_int_equal(requests_of(p.key), 1);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 1);
}

/* ---- a storm ---- */

static struct peer storm_sick, storm_well;
static int storm_pipe[2];
static atomic_ulong storm_hits, storm_faults;

/* Whatever is safe in a handler, and of ours. */
static void storm(int signal)
{
	const int saved = errno;
	const unsigned long n = atomic_fetch_add(&storm_hits, 1);
	const struct peer *p = n % 2 != 0 ? &storm_sick : &storm_well;
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int value;
	socklen_t len = sizeof(value);
	char byte;

	(void) signal;
	(void) connect(fd, (const struct sockaddr *) &p->addr, sizeof(p->addr));
	(void) getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len);
	(void) send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void) recv(fd, &byte, 1, MSG_DONTWAIT);

	const int copy = n % 3 != 0 ? dup(fd) : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (write(storm_pipe[1], "x", 1) != 1 || read(storm_pipe[0], &byte, 1) != 1)
		atomic_fetch_add(&storm_faults, 1);
	if (close(fd) != 0 || syscall(SYS_close, copy) != 0)
		atomic_fetch_add(&storm_faults, 1);
	errno = saved;
}

static timer_t storm_begin(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	const struct sigaction action = { .sa_handler = storm, .sa_flags = SA_RESTART };
	const struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };
	timer_t timer;

	assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
	return timer;
}

static void storm_drain(void)
{
	int s;

	while ((s = peer_accept(&storm_well)) >= 0)
		(void) close(s);
}

static void handlers_call_us_from_anywhere(void **state)
{
	struct peer p = peer_listening();
	char byte;

	(void) state;
	storm_sick = peer_refusing();
	storm_well = peer_listening();
	assert_int_equal(pipe2(storm_pipe, O_CLOEXEC), 0);

	const timer_t timer = storm_begin();

	for (int i = 0; i < STORM_CALLS || storm_hits < 50; i++) {
		const int c = tcp_connected(&p), s = peer_accept(&p);

		assert_int_equal(send(s, "y", 1, 0), 1);
		errno = 77;
		assert_int_equal(recv(c, &byte, 1, 0), 1);
		assert_int_equal(errno, 77);
		assert_int_equal(close(c), 0);
		assert_int_equal(close(s), 0);
		/* A call of ours is followed however often handlers come between. */
		assert_totals(p.key, (uint64_t) i + 1, 0, 0);
		storm_drain();
	}
	assert_int_equal(timer_delete(timer), 0);
	print_message("# %lu handlers\n", storm_hits);
	assert_int_equal(storm_faults, 0);
	assert_true(totals_of(storm_sick.key).failures >= TRIP_AT);

	struct peer sick = peer_refusing();

	assert_int_equal(counts_a_failure(&sick), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_is_cancelled),
		cmocka_unit_test(a_writer_is_cancelled),
		cmocka_unit_test(a_connect_is_cancelled),
		cmocka_unit_test(a_close_is_cancelled),
		cmocka_unit_test(syscall_is_no_point_of_cancellation),
		cmocka_unit_test(a_handler_jumps_out_of_connect),
		cmocka_unit_test(a_handler_jumps_out_of_recv),
		cmocka_unit_test(an_interrupted_connect_goes_on),
		cmocka_unit_test(handlers_call_us_from_anywhere),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
