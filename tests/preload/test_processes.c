/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children of every kind (traps T5, T13, T15, T38): a vfork child runs in our memory and may
 * change nothing there, a forked one settles nothing of its parent's, forks meet threads in the
 * middle of connect, and a program that was started anew finds the same breakers.
 */
#include "tests/preload/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FORKS 100

pid_t _Fork(void);

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

static void call_answered(const struct call *call)
{
	char byte;

	assert_totals(call->peer.key, 0, 0, 0);
	assert_int_equal(send(call->s, "y", 1, 0), 1);
	assert_int_equal(recv(call->c, &byte, 1, 0), 1);
	assert_totals(call->peer.key, 1, 0, 0);
	assert_int_equal(close(call->s), 0);
	assert_int_equal(close(call->c), 0);
}

/* ---- T5 ---- */

#define IN_VFORK_CHILD(action)                                     \
	do {                                                       \
		const struct call call = call_begun();             \
		const pid_t pid = vfork();                         \
                                                                   \
		if (pid == 0) {                                    \
			action;                                    \
			_exit(0);                                  \
		}                                                  \
		assert_int_equal(wait_status(pid), 0);             \
		call_answered(&call);                              \
	} while (0)

static void a_vfork_child_closes_nothing_of_ours(void **state)
{
	(void) state;
	IN_VFORK_CHILD((void) close(call.c));
	IN_VFORK_CHILD((void) dup2(STDIN_FILENO, call.c));
	IN_VFORK_CHILD((void) dup3(STDIN_FILENO, call.c, 0));
	IN_VFORK_CHILD((void) close_range(3, ~0U, 0));
	IN_VFORK_CHILD(closefrom(3));
	IN_VFORK_CHILD((void) syscall(SYS_close, call.c));
	IN_VFORK_CHILD((void) syscall(SYS_close_range, 3, ~0U, 0));
	IN_VFORK_CHILD((void) dup2(call.c, 900));
	IN_VFORK_CHILD((void) fcntl(call.c, F_DUPFD, 900));
}

static void a_vfork_child_judges_nothing_of_ours(void **state)
{
	char byte;

	(void) state;
	IN_VFORK_CHILD((void) recv(call.c, &byte, 1, MSG_DONTWAIT));
	IN_VFORK_CHILD((void) send(call.c, "x", 1, 0));
	IN_VFORK_CHILD({
		(void) close(call.c);
		(void) !socket(AF_INET, SOCK_STREAM, 0); /* gets the number */
	});
	IN_VFORK_CHILD((void) tcp_connect(call.c, &call.peer));
}

static void posix_spawn_leaves_calls_alone(void **state)
{
	const struct call call = call_begun();
	char *const argv[] = { (char *) "true", NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;

	(void) state;
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, call.c, 0), 0);
	assert_int_equal(posix_spawn_file_actions_addclosefrom_np(&actions, 3), 0);
	assert_int_equal(posix_spawn(&pid, "/bin/true", &actions, NULL, argv, environ), 0);
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
	call_answered(&call);
}

/* ---- T38 ---- */

static int closes_it(void *arg)
{
	const struct call *call = arg;

	CHECK(close(call->c) == 0);
	return 0;
}

static int gets_the_answer(void *arg)
{
	const struct call *call = arg;
	char byte;

	CHECK(recv(call->c, &byte, 1, 0) == 1);
	CHECK(close(call->c) == 0);
	return 0;
}

static int ends_by_exit(void *arg)
{
	(void) arg;
	exit(0); /* runs our destructor */
}

static void a_forked_child_settles_nothing_of_its_parents(void **state)
{
	struct call call = call_begun();

	(void) state;
	assert_int_equal(child_status(closes_it, &call), 0);
	assert_totals(call.peer.key, 0, 0, 0);
	assert_int_equal(child_status(ends_by_exit, &call), 0);
	assert_totals(call.peer.key, 0, 0, 0);
	assert_int_equal(send(call.s, "y", 1, 0), 1);
	assert_int_equal(child_status(gets_the_answer, &call), 0);
	assert_totals(call.peer.key, 0, 0, 0);
	/* The answer came, whoever read it. */
	assert_int_equal(close(call.c), 0);
	assert_totals(call.peer.key, 1, 0, 0);
	assert_int_equal(close(call.s), 0);
}

/* ---- forks that run no handlers ---- */

static int fails_once(void *arg)
{
	const struct peer *p = arg;
	const int c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(tcp_connect(c, p) == -1 && errno == ECONNREFUSED);
	CHECK(close(c) == 0);
	return 0;
}

static void children_share_the_breaker(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(child_status(fails_once, &p), 0);
	assert_totals(p.key, 0, 1, 0);

	/* _Fork and raw clone run no atfork handlers. */
	pid_t pid = _Fork();

	if (pid == 0)
		_exit(fails_once(&p) != 0);
	assert_int_equal(wait_status(pid), 0);
	assert_totals(p.key, 0, 2, 0);
	assert_int_equal(state_of(p.key), BREAKER_OPEN);

	pid = (pid_t) past_hooks(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
	if (pid == 0)
		_exit(fails_once(&p) != 0);
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(totals_of(p.key).refused, 1);
}

static void an_unannounced_child_settles_nothing_of_its_parents(void **state)
{
	const struct call call = call_begun();
	const pid_t pid = _Fork();

	(void) state;
	if (pid == 0)
		_exit(close(call.c) != 0);
	assert_int_equal(wait_status(pid), 0);
	call_answered(&call);
}

/* ---- T15 ---- */

static struct peer busy_peer, hanging_peer;
static atomic_bool stop;
static atomic_int started;

static void *calls_without_end(void *arg)
{
	atomic_fetch_add(&started, 1);
	while (!stop) {
		const int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct addrinfo *found = NULL;

		(void) tcp_connect(c, &busy_peer);
		if (getaddrinfo("localhost", NULL, NULL, &found) == 0)
			freeaddrinfo(found);
		(void) close(c);
	}
	return arg;
}

static void *hangs_in_connect(void *arg)
{
	const int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	atomic_fetch_add(&started, 1);
	(void) tcp_connect(c, &hanging_peer);
	return arg;
}

/* No look-up here: libc's own locks in there do not care for forks (__check_pf). */
static int calls_in_a_child(void *arg)
{
	struct peer *p = arg;
	const int c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(tcp_connect(c, p) == 0);
	CHECK(close(c) == 0);
	return 0;
}

static void forks_meet_threads_inside_our_hooks(void **state)
{
	pthread_t threads[4];
	struct peer p = peer_listening();

	(void) state;
	busy_peer = peer_refusing();
	hanging_peer = peer_hanging(false);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < 2 ? calls_without_end : hangs_in_connect, NULL),
				 0);
	while (started < 4)
		(void) sched_yield();
	for (int i = 0; i < FORKS; i++) {
		assert_int_equal(child_status(calls_in_a_child, &p), 0);
		(void) raw_close(peer_accept(&p));
	}
	stop = true;
	for (int i = 0; i < 4; i++) {
		if (i >= 2)
			(void) pthread_cancel(threads[i]);
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	assert_int_equal(totals_of(p.key).successes + totals_of(p.key).exclusions, FORKS);
	assert_int_equal(totals_of(p.key).failures, 0);
}

static void *fails_in_a_thread(void *arg)
{
	return fails_once(arg) == 0 ? arg : NULL;
}

static int starts_a_thread(void *arg)
{
	pthread_t thread;
	void *done = NULL;

	CHECK(pthread_create(&thread, NULL, fails_in_a_thread, arg) == 0);
	CHECK(pthread_join(thread, &done) == 0 && done == arg);
	return 0;
}

static void a_thread_of_a_child_is_guarded_too(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(child_status(starts_a_thread, &p), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* ---- T18 ---- */

static int exits_while_waiting(void *arg)
{
	const struct peer *p = arg;
	const int c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(tcp_connect(c, p) == 0);
	CHECK(send(c, "x", 1, 0) == 1);
	patience_passes();
	exit(0);
}

/* A script that gives up by ending: the outcome is settled, and nobody waited for. */
static void what_waits_at_exit_is_settled(void **state)
{
	struct peer p = peer_silent(), q = peer_listening();

	(void) state;
	assert_int_equal(child_status(exits_while_waiting, &p), 0);
	assert_totals(p.key, 0, 1, 0);
	/* Sooner than patience lasts it says nothing of the peer. */
	assert_int_equal(child_status(exits_while_waiting, &q), 0);
	assert_int_equal(totals_of(q.key).failures, 0);
}

/* ---- programs started anew ---- */

static int program(const char *verb, const struct peer *p, int fd)
{
	char host[INET_ADDRSTRLEN], port[8], number[8];
	const char *argv[] = { "test_processes", verb, host, port, number, NULL };

	(void) inet_ntop(AF_INET, &p->addr.sin_addr, host, sizeof(host));
	(void) snprintf(port, sizeof(port), "%d", ntohs(p->addr.sin_port));
	(void) snprintf(number, sizeof(number), "%d", fd);

	const pid_t pid = fork();

	if (pid == 0) {
		(void) execv("/proc/self/exe", (char **) argv);
		_exit(127);
	}
	return wait_status(pid);
}

static void a_program_started_anew_finds_the_breaker(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	for (int i = 0; i < TRIP_AT; i++)
		assert_int_equal(program("--connect", &p, -1), ECONNREFUSED);
	assert_totals(p.key, 0, TRIP_AT, 0);
	assert_int_equal(program("--connect", &p, -1), ECONNREFUSED);
	assert_totals(p.key, 0, TRIP_AT, 0);
	assert_int_equal(totals_of(p.key).refused, 1);
}

/* nginx wipes its environment and writes over its arguments. */
static void settings_outlive_the_environment(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	for (int i = 0; i < TRIP_AT + 1; i++)
		assert_int_equal(program("--wiped", &p, -1), ECONNREFUSED);
	assert_totals(p.key, 0, TRIP_AT, 0);
	assert_int_equal(totals_of(p.key).refused, 1);
}

static void an_inherited_connection_is_its_makers(void **state)
{
	const struct call call = call_begun();

	(void) state;
	assert_int_equal(fcntl(call.c, F_SETFD, 0), 0);
	assert_int_equal(send(call.s, "y", 1, 0), 1);
	assert_int_equal(program("--read", &call.peer, call.c), 0);
	assert_totals(call.peer.key, 0, 0, 0);
	assert_int_equal(close(call.c), 0);
	assert_totals(call.peer.key, 1, 0, 0);
	assert_int_equal(close(call.s), 0);
}

static void wipe(char **argv)
{
	for (char **e = environ; *e != NULL; e++)
		memset(*e, 'x', strlen(*e));
	for (char **a = argv; *a != NULL; a++)
		memset(*a, 'x', strlen(*a));
	(void) clearenv();
}

/* The other side of program(). */
static int run_as_program(char **argv)
{
	struct peer p = { .addr = { .sin_family = AF_INET } };
	const int c = socket(AF_INET, SOCK_STREAM, 0), fd = atoi(argv[4]);
	const bool wiped = strcmp(argv[1], "--wiped") == 0;
	char byte;

	(void) inet_pton(AF_INET, argv[2], &p.addr.sin_addr);
	p.addr.sin_port = htons((uint16_t) atoi(argv[3]));
	if (strcmp(argv[1], "--read") == 0)
		return read(fd, &byte, 1) == 1 && close(fd) == 0 ? 0 : 1;
	if (wiped)
		wipe(argv);
	return tcp_connect(c, &p) == 0 ? 0 : errno;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vfork_child_closes_nothing_of_ours),
		cmocka_unit_test(a_vfork_child_judges_nothing_of_ours),
		cmocka_unit_test(posix_spawn_leaves_calls_alone),
		cmocka_unit_test(a_forked_child_settles_nothing_of_its_parents),
		cmocka_unit_test(children_share_the_breaker),
		cmocka_unit_test(an_unannounced_child_settles_nothing_of_its_parents),
		cmocka_unit_test(forks_meet_threads_inside_our_hooks),
		cmocka_unit_test(a_thread_of_a_child_is_guarded_too),
		cmocka_unit_test(what_waits_at_exit_is_settled),
		cmocka_unit_test(a_program_started_anew_finds_the_breaker),
		cmocka_unit_test(settings_outlive_the_environment),
		cmocka_unit_test(an_inherited_connection_is_its_makers),
	};

	if (argc == 5)
		return run_as_program(argv);
	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
