/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that a program starts go on in the trace of the thread that starts them, by
 * TRACEPARENT and TRACESTATE; what the program chose itself, and all else, stays as it is.
 */
#include "tests/preload/started.h"
#include "tests/preload/traced.h"

#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agentshim.h"

#define CALLER "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define START  "00-11111111111111111111111111111111-2222222222222222-01"
#define CHOSEN "00-33333333333333333333333333333333-4444444444444444-00"
#define SHOW   "printf '%s %s' \"${TRACEPARENT-unset}\" \"${TRACESTATE-unset}\""

static const char from_caller[] = "traceparent: " CALLER "\r\ntracestate: a=1,b=2\r\n";

static char path[512]; /* "PATH=…" */

static void here(char ret[56])
{
	assert_int_equal(agentshim_traceparent(ret), 1);
}

static void assert_started(char *const envp[], const char *expected)
{
	char there[STARTED_SIZE];

	for (unsigned i = 0; i < n_ways; i++) {
		started_by(&ways[i], envp, SHOW, there);
		if (strcmp(there, expected) != 0)
			print_message("# %s\n", ways[i].name);
		assert_string_equal(there, expected);
	}
}

static void children_of_a_request_have_its_context(void **state)
{
	struct served s = served_begin(from_caller);
	char *const envp[] = { path, NULL };
	char expected[256], out[56];

	(void) state;
	here(out);
	(void) snprintf(expected, sizeof(expected), "%s a=1,b=2", out);
	assert_started(envp, expected);
	agentshim_span_begin("within");
	here(out);
	(void) snprintf(expected, sizeof(expected), "%s a=1,b=2", out);
	assert_started(envp, expected);
	agentshim_span_end();
	served_answer(&s);
}

static void children_of_no_request_have_what_they_were_given(void **state)
{
	char *const with[] = { path, (char *) "TRACEPARENT=" START, (char *) "TRACESTATE=s=1",
			       NULL };
	char *const without[] = { path, NULL };

	(void) state;
	assert_started(with, START " s=1");
	assert_started(without, "unset unset");
}

static void what_this_process_was_started_with_is_replaced(void **state)
{
	struct served s = served_begin("traceparent: " CALLER "\r\n");
	char *const envp[] = { (char *) "TRACESTATE=s=1", path, (char *) "TRACEPARENT=" START,
			       NULL };
	char expected[256], out[56];

	(void) state;
	here(out);
	/* The tracestate went with the other trace. */
	(void) snprintf(expected, sizeof(expected), "%s unset", out);
	assert_started(envp, expected);
	served_answer(&s);
}

static void what_the_program_chose_stays(void **state)
{
	struct served s = served_begin(from_caller);
	char *const chosen[] = { path, (char *) "TRACEPARENT=" CHOSEN, (char *) "TRACESTATE=c=1",
				 NULL };
	char *const empty[] = { path, (char *) "TRACEPARENT=", NULL };
	char *const both[] = { path, (char *) "TRACEPARENT=" START,
			       (char *) "TRACEPARENT=" CHOSEN, NULL };
	char there[STARTED_SIZE];

	(void) state;
	assert_started(chosen, CHOSEN " c=1");
	assert_started(empty, " unset");
	started_by(way_of("execve"), both, "printf %s \"$TRACEPARENT\"", there);
	assert_true(strcmp(there, START) == 0 || strcmp(there, CHOSEN) == 0);
	served_answer(&s);
}

static void all_else_arrives_as_it_was(void **state)
{
	struct served s = served_begin(from_caller);
	char *const envp[] = { path, (char *) "A=1", (char *) "TRACEPARENTS=x", (char *) "novalue",
			       (char *) "=odd", (char *) "B=", NULL };
	char there[STARTED_SIZE];

	(void) state;
	started_by(way_of("execve"), envp, "cat /proc/self/environ | tr '\\0' '|'", there);
	/* A shell hands on what it can name, in an order of its own. */
	assert_non_null(strstr(there, path));
	assert_non_null(strstr(there, "A=1|"));
	assert_non_null(strstr(there, "TRACEPARENTS=x|"));
	assert_non_null(strstr(there, "B=|"));
	served_answer(&s);
}

static void the_hosts_own_environment_is_not_written_to(void **state)
{
	struct served s = served_begin(from_caller);
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);
	char there[STARTED_SIZE], out[56];
	char **envp = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *text = (char *) (envp + 8);

	(void) state;
	here(out);
	envp[0] = path;
	envp[1] = strcpy(text, "TRACEPARENT=" START);
	assert_int_equal(mprotect(envp, page, PROT_READ), 0);
	for (unsigned i = 0; i < n_ways; i++) {
		started_by(&ways[i], envp, "printf %s \"$TRACEPARENT\"", there);
		assert_string_equal(there, out);
	}
	(void) munmap(envp, page);
	served_answer(&s);
}

static void a_vfork_child_changes_nothing(void **state)
{
	struct served s = served_begin(from_caller);
	char *const argv[] = { (char *) "sh", (char *) "-c",
			       (char *) "test \"$TRACEPARENT\" = \"$1\"", (char *) "sh", NULL, NULL };
	char *const envp[] = { path, NULL };
	char before[56], after[56];
	char *with[6];

	(void) state;
	here(before);
	memcpy(with, argv, sizeof(with));
	with[4] = before;

	const pid_t pid = vfork();

	if (pid == 0) {
		(void) execve("/nowhere/at/all", with, envp);
		(void) execve("/bin/sh", with, envp);
		_exit(127);
	}
	assert_int_equal(wait_status(pid), 0);
	here(after);
	assert_string_equal(before, after);
	served_answer(&s);
}

static void a_failure_is_libcs_own(void **state)
{
	struct served s = served_begin(from_caller);
	char *const argv[] = { (char *) "x", NULL };
	char *const envp[] = { path, NULL };
	pid_t pid = -7;

	(void) state;
	errno = 0;
	assert_int_equal(execve("/nowhere/at/all", argv, envp), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(execvp("no-such-program-at-all", argv), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(execl("/etc", "x", NULL), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(posix_spawn(&pid, "/nowhere/at/all", NULL, NULL, argv, envp), ENOENT);
	assert_int_equal(fexecve(-1, argv, envp), -1);
	served_answer(&s);
}

static void too_many_variables_stay_as_they_are(void **state)
{
	struct served s = served_begin(from_caller);
	static char *envp[2100];
	char there[STARTED_SIZE], out[56];

	(void) state;
	here(out);
	envp[0] = path;
	for (size_t i = 1; i < 2099; i++)
		envp[i] = (char *) "X=1";
	started_by(way_of("execve"), envp, SHOW, there);
	assert_string_equal(there, "unset unset");
	envp[2048] = NULL;
	started_by(way_of("execve"), envp, "printf %s \"$TRACEPARENT\"", there);
	assert_string_equal(there, out);
	served_answer(&s);
}

/* Does `true` start with arguments of so many bytes, in a child with little room for them? */
static bool starts_with(size_t bytes)
{
	static char argument[1 << 20];
	char *argv[64] = { (char *) "true" };
	char *const envp[] = { path, NULL };
	const struct rlimit little = { 1 << 20, 1 << 20 };
	size_t n = 1;

	memset(argument, 'x', sizeof(argument));
	for (; bytes > 0; n++) {
		const size_t len = bytes < 100000 ? bytes : 100000;

		argv[n] = argument + sizeof(argument) - 1 - len;
		bytes -= len;
	}
	argument[sizeof(argument) - 1] = '\0';

	const pid_t pid = fork();

	if (pid == 0) {
		(void) setrlimit(RLIMIT_STACK, &little);
		(void) execve("/bin/true", argv, envp);
		_exit(errno == E2BIG ? 1 : 2);
	}

	const int status = wait_status(pid);

	assert_true(status == 0 || status == 1);
	return status == 0;
}

static void what_just_fits_without_us_still_starts(void **state)
{
	size_t fits = 0, fails = 1 << 20;
	struct served s;

	(void) state;
	while (fails - fits > 1) {
		const size_t middle = (fits + fails) / 2;

		*(starts_with(middle) ? &fits : &fails) = middle;
	}
	s = served_begin(from_caller);
	assert_true(starts_with(fits));
	served_answer(&s);
}

static void *starts_one(void *arg)
{
	char *const envp[] = { path, NULL };

	started_by(way_of("posix_spawn"), envp, SHOW, arg);
	return NULL;
}

/* As Java has them: 128 KiB and less, much of it used. */
static void a_small_stack_is_enough(void **state)
{
	struct served s = served_begin(from_caller);
	char there[STARTED_SIZE];
	pthread_attr_t attr;
	pthread_t thread;

	(void) state;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, 64 * 1024), 0);
	assert_int_equal(pthread_create(&thread, &attr, starts_one, there), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_attr_destroy(&attr), 0);
	served_answer(&s);
}

/* A copy of this program by the helper's name: it starts others in its starter's name. */
static int helps(char **argv)
{
	char *const with[] = { path, (char *) "TRACEPARENT=" START, NULL };
	char *const chosen[] = { path, (char *) "TRACEPARENT=" CHOSEN, NULL };
	char there[STARTED_SIZE];

	(void) argv;
	started_by(way_of("execve"), with, SHOW, there);
	puts(there);
	started_by(way_of("execve"), chosen, SHOW, there);
	puts(there);
	return 0;
}

static void a_helper_starts_programs_for_who_started_it(void **state)
{
	struct served s = served_begin(from_caller);
	char helper[256], script[1024], there[STARTED_SIZE], expected[512], out[56];

	(void) state;
	here(out);
	(void) snprintf(helper, sizeof(helper), "%s/jspawnhelper", host_dir());
	(void) snprintf(script, sizeof(script), "cp /proc/%d/exe %s", (int) getpid(), helper);
	assert_int_equal(system(script), 0);
	{
		char *const argv[] = { helper, (char *) "helps", NULL };
		int pipes[2];
		const pid_t pid = pipe(pipes) == 0 ? fork() : -1;
		ssize_t n;

		if (pid == 0) {
			(void) dup2(pipes[1], STDOUT_FILENO);
			(void) execve(helper, argv, environ);
			_exit(127);
		}
		assert_int_equal(wait_status(pid), 0);
		n = read(pipes[0], there, sizeof(there) - 1);
		assert_true(n > 0);
		there[n] = '\0';
		(void) raw_close(pipes[0]);
		(void) raw_close(pipes[1]);
	}
	(void) snprintf(expected, sizeof(expected), "%s a=1,b=2\n%s unset\n", out, CHOSEN);
	assert_string_equal(there, expected);
	(void) unlink(helper);
	served_answer(&s);
}

/* 0 when a call without an owner stands in the trace that the process was started in. */
static int calls_in_its_start(void *arg)
{
	char head[CARRIED_SIZE], value[256];

	(void) arg;
	carried_by_call(head);
	field_of(head, "traceparent", value);
	CHECK(memcmp(value + 3, &START[3], 32) == 0);
	field_of(head, "tracestate", value);
	CHECK(strcmp(value, "s=1") == 0);
	return 0;
}

/* Or all that a server does between its requests were one endless trace. */
static void a_server_is_no_child_of_its_environment(void **state)
{
	struct served s;

	(void) state;
	assert_int_equal(calls_in_its_start(NULL), 0);
	s = served_begin("");
	served_answer(&s);
	assert_int_not_equal(calls_in_its_start(NULL), 0);
	assert_int_not_equal(child_status(calls_in_its_start, NULL), 0);
}

int main(int argc, char **argv)
{
	static const char *const extra[] = { "TRACEPARENT=" START, "TRACESTATE=s=1", NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_server_is_no_child_of_its_environment),
		cmocka_unit_test(children_of_no_request_have_what_they_were_given),
		cmocka_unit_test(children_of_a_request_have_its_context),
		cmocka_unit_test(what_this_process_was_started_with_is_replaced),
		cmocka_unit_test(what_the_program_chose_stays),
		cmocka_unit_test(all_else_arrives_as_it_was),
		cmocka_unit_test(the_hosts_own_environment_is_not_written_to),
		cmocka_unit_test(a_vfork_child_changes_nothing),
		cmocka_unit_test(a_failure_is_libcs_own),
		cmocka_unit_test(too_many_variables_stay_as_they_are),
		cmocka_unit_test(what_just_fits_without_us_still_starts),
		cmocka_unit_test(a_small_stack_is_enough),
		cmocka_unit_test(a_helper_starts_programs_for_who_started_it),
	};

	(void) snprintf(path, sizeof(path), "PATH=%s", getenv("PATH"));
	if (argc > 1 && strcmp(argv[1], "helps") == 0)
		return helps(argv);
	host_start(argc, argv, extra);
	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
