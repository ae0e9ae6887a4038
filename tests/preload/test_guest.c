/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest leaves no trace in its host: threads, descriptors, signals and standard streams are
 * as they would be without us, and what a host takes away from itself it takes from us unharmed.
 */
#include "tests/preload/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534

/* Two failures: a breaker opens, which is what a log would speak of. */
static int trips(const struct peer *p)
{
	for (int i = 0; i < TRIP_AT + 1; i++) {
		const int c = socket(AF_INET, SOCK_STREAM, 0);

		CHECK(tcp_connect(c, p) == -1 && errno == ECONNREFUSED);
		CHECK(close(c) == 0);
	}
	return 0;
}

static void threads_and_descriptors_stay(void **state)
{
	struct peer p = peer_refusing(), q = peer_listening();
	const int descriptors = count_descriptors();

	(void) state;
	assert_int_equal(count_threads(), 1);
	assert_int_equal(trips(&p), 0);
	for (int i = 0; i < 100; i++) {
		const int c = tcp_connected(&q), s = peer_accept(&q);

		assert_int_equal(close(c), 0);
		assert_int_equal(close(s), 0);
	}
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
	assert_int_equal(count_threads(), 1);
	assert_int_equal(count_descriptors(), descriptors);
}

static void signals_stay(void **state)
{
	struct peer p = peer_refusing();
	static struct sigaction before[NSIG], after[NSIG];
	sigset_t mask_before, mask_after;

	(void) state;
	for (int i = 1; i < NSIG; i++)
		(void) sigaction(i, NULL, &before[i]);
	(void) sigprocmask(SIG_SETMASK, NULL, &mask_before);
	assert_int_equal(trips(&p), 0);
	for (int i = 1; i < NSIG; i++)
		(void) sigaction(i, NULL, &after[i]);
	(void) sigprocmask(SIG_SETMASK, NULL, &mask_after);
	for (int i = 1; i < NSIG; i++) {
		assert_ptr_equal(before[i].sa_handler, after[i].sa_handler);
		assert_int_equal(before[i].sa_flags, after[i].sa_flags);
		assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
	}
}

/* ---- programs of their own settings: this one, started anew ---- */

static int run(const char *verb, const struct peer *p, const char *log)
{
	char host[INET_ADDRSTRLEN], port[8];
	const char *argv[] = { "test_guest", verb, host, port, "-", NULL };

	(void) inet_ntop(AF_INET, &p->addr.sin_addr, host, sizeof(host));
	(void) snprintf(port, sizeof(port), "%d", ntohs(p->addr.sin_port));

	const pid_t pid = fork();

	if (pid == 0) {
		if (log != NULL)
			(void) setenv("AGENTSHIM_LOG", log, 1);
		else
			(void) unsetenv("AGENTSHIM_LOG");
		if (strcmp(verb, "disabled") == 0)
			(void) setenv("AGENTSHIM_DISABLE", "1", 1);
		(void) execv("/proc/self/exe", (char **) argv);
		_exit(127);
	}
	return wait_status(pid);
}

/* AGENTSHIM_DISABLE=1: nothing is counted, nothing refused, no file made. */
static void disabled_is_inert(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(run("disabled", &p, NULL), 0);
	assert_null(breaker_of(p.key));
}

static int run_disabled(const struct peer *p)
{
	return trips(p);
}

/* A daemon closes its standard streams, and its next sockets get their numbers. */
static void a_socket_in_the_place_of_stderr_gets_no_log(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(run("daemon", &p, "stderr"), 0);
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
}

static int run_daemon(const struct peer *p)
{
	int pair[2];
	char byte;

	(void) close(STDIN_FILENO);
	(void) close(STDERR_FILENO);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	CHECK(pair[0] == STDIN_FILENO && pair[1] == STDERR_FILENO);
	CHECK(trips(p) == 0);
	CHECK(read(pair[0], &byte, 1) == -1 && errno == EAGAIN);
	return 0;
}

/* Closed before the program even started. */
static void a_program_without_stderr_runs(void **state)
{
	struct peer p = peer_refusing();
	const int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);

	(void) state;
	(void) close(STDERR_FILENO);
	assert_int_equal(run("closed", &p, "stderr"), 0);
	assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
	(void) close(kept);
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
}

/* The reader of the log has gone: no SIGPIPE, whatever its disposition. */
static void a_log_pipe_without_a_reader_kills_nobody(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(run("pipe", &p, "stderr"), 0);
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
}

/* Before main(): stderr must be the broken pipe when we are loaded. So: exec once more. */
static int run_pipe(const struct peer *p, char **argv)
{
	int pipes[2];
	sigset_t pending;

	if (strcmp(argv[4], "broken") == 0) {
		CHECK(trips(p) == 0);
		CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0);
		return 0;
	}
	CHECK(pipe(pipes) == 0 && dup2(pipes[1], STDERR_FILENO) >= 0);
	(void) close(pipes[0]);
	(void) close(pipes[1]);
	(void) signal(SIGPIPE, SIG_DFL);
	argv[4] = (char *) "broken";
	(void) execv("/proc/self/exe", argv);
	return __LINE__;
}

/* A pipe that nobody reads fills up; lines are lost, the host does not wait. */
static void a_full_log_pipe_stops_nobody(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(run("full", &p, "stderr"), 0);
	assert_int_equal(state_of(p.key), BREAKER_OPEN);
}

static int run_full(const struct peer *p, char **argv)
{
	static char much[4096];
	int pipes[2];

	if (strcmp(argv[4], "full") == 0)
		return trips(p);
	CHECK(pipe(pipes) == 0 && dup2(pipes[1], STDERR_FILENO) >= 0);
	CHECK(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK) == 0);
	while (write(STDERR_FILENO, much, sizeof(much)) > 0)
		;
	CHECK(fcntl(STDERR_FILENO, F_SETFL, 0) == 0);
	argv[4] = (char *) "full";
	(void) execv("/proc/self/exe", argv);
	return __LINE__;
}

/* Past RLIMIT_FSIZE a write is SIGXFSZ, which ends a process (sshd sets it to 0: T17). */
static void a_file_size_limit_kills_nobody(void **state)
{
	struct peer p = peer_refusing();
	char log[256];
	struct stat st;

	(void) state;
	(void) snprintf(log, sizeof(log), "%s/log", host_dir());
	assert_int_equal(run("fsize", &p, log), 0);
	if (stat(log, &st) == 0)
		assert_int_equal(st.st_size, 0);
}

static int run_fsize(const struct peer *p)
{
	const struct rlimit none = { 0, 0 };

	(void) signal(SIGXFSZ, SIG_DFL);
	CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
	return trips(p);
}

/* The same, and the very first process: the state file cannot be made either. */
static void a_file_size_limit_costs_sharing_alone(void **state)
{
	struct peer p = peer_refusing();
	char dir[256];

	(void) state;
	(void) snprintf(dir, sizeof(dir), "%s/elsewhere", host_dir());
	assert_int_equal(setenv("AGENTSHIM_DIR", dir, 1), 0);

	const int status = run("fsize", &p, NULL);

	assert_int_equal(setenv("AGENTSHIM_DIR", host_dir(), 1), 0);
	assert_int_equal(status, 0);
}

static void a_log_is_written_where_it_was_asked_for(void **state)
{
	struct peer p = peer_refusing();
	char path[256], line[4096] = "";
	bool told = false;

	(void) state;
	(void) snprintf(path, sizeof(path), "%s/events", host_dir());
	assert_int_equal(run("trips", &p, path), 0);

	FILE *f = fopen(path, "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		told = told || (strstr(line, p.key) != NULL && strstr(line, "open") != NULL);
	assert_true(told);
	(void) fclose(f);
}

/* ---- what a host takes away from itself ---- */

static int in_a_prison(void *arg)
{
	const struct peer *p = arg;

	CHECK(trips(p) == 0); /* the mapping is there */
	CHECK(chroot(host_dir()) == 0 && chdir("/") == 0);
	CHECK(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);

	const int c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(tcp_connect(c, p) == -1 && errno == ECONNREFUSED);
	CHECK(close(c) == 0);
	return 0;
}

static void a_mapping_outlives_chroot_and_privileges(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	need(geteuid() == 0, "capability missing: root, to give it up");
	assert_int_equal(child_status(in_a_prison, &p), 0);
	/* Also the last refusal was counted where all see it. */
	assert_int_equal(totals_of(p.key).refused, 2);
	assert_totals(p.key, 0, TRIP_AT, 0);
}

/* No descriptor is left: libc's calls go on as they do, so do ours. */
static int without_descriptors(void *arg)
{
	const struct peer *p = arg;
	const int c = socket(AF_INET, SOCK_STREAM, 0);
	struct rlimit limit;

	CHECK(c >= 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = (rlim_t) c + 1;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EMFILE);
	CHECK(tcp_connect(c, p) == -1 && errno == ECONNREFUSED);
	CHECK(close(c) == 0);
	return 0;
}

static void out_of_descriptors_calls_still_go_out(void **state)
{
	struct peer p = peer_refusing();

	(void) state;
	assert_int_equal(child_status(without_descriptors, &p), 0);
}

static int as_program(char **argv)
{
	struct peer p = { .addr = { .sin_family = AF_INET } };
	const char *verb = argv[1];

	(void) inet_pton(AF_INET, argv[2], &p.addr.sin_addr);
	p.addr.sin_port = htons((uint16_t) atoi(argv[3]));
	if (strcmp(verb, "disabled") == 0)
		return run_disabled(&p);
	if (strcmp(verb, "daemon") == 0)
		return run_daemon(&p);
	if (strcmp(verb, "pipe") == 0)
		return run_pipe(&p, argv);
	if (strcmp(verb, "full") == 0)
		return run_full(&p, argv);
	if (strcmp(verb, "fsize") == 0)
		return run_fsize(&p);
	return trips(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_and_descriptors_stay),
		cmocka_unit_test(signals_stay),
		cmocka_unit_test(disabled_is_inert),
		cmocka_unit_test(a_socket_in_the_place_of_stderr_gets_no_log),
		cmocka_unit_test(a_program_without_stderr_runs),
		cmocka_unit_test(a_log_pipe_without_a_reader_kills_nobody),
		cmocka_unit_test(a_full_log_pipe_stops_nobody),
		cmocka_unit_test(a_file_size_limit_kills_nobody),
		cmocka_unit_test(a_file_size_limit_costs_sharing_alone),
		cmocka_unit_test(a_log_is_written_where_it_was_asked_for),
		cmocka_unit_test(a_mapping_outlives_chroot_and_privileges),
		cmocka_unit_test(out_of_descriptors_calls_still_go_out),
	};

	if (argc == 5)
		return as_program(argv);
	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
