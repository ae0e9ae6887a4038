/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spans that a program opens by itself: they nest within their thread, calls made inside are
 * their children, and whatever ends first, nobody is left with a parent that is gone.
 */
#include "tests/preload/traced.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agentshim.h"

#define UNTOUCHED 77
#define CALLER    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define TRACE     "0af7651916cd43dd8448eb211c80319c"

static const char from_caller[] = "traceparent: " CALLER "\r\n"
				  "tracestate: a=1\r\nbaggage: who=me\r\n";

static void now_in(char ret[56])
{
	assert_int_equal(agentshim_traceparent(ret), 1);
	assert_int_equal(strlen(ret), 55);
}

static void assert_nowhere(void)
{
	char out[56] = "x";

	assert_int_equal(agentshim_traceparent(out), 0);
	assert_string_equal(out, "");
}

/* The span of @operation is told and is a child of the one that @traceparent names. */
static struct event assert_child(const char *operation, const char *traceparent)
{
	struct event e;
	char a[33], b[33];

	assert_true(span_told(operation, &e));
	trace_of(traceparent, a);
	trace_id_of(&e, b);
	assert_string_equal(a, b);
	span_of(traceparent, a);
	parent_id_of(&e, b);
	assert_string_equal(a, b);
	return e;
}

static void a_thread_without_work_has_no_traceparent(void **state)
{
	(void) state;
	assert_nowhere();
	agentshim_span_end(); /* there is none */
	agentshim_span_tag("a", "b");
	assert_nowhere();
}

static void a_served_request_is_the_place_of_its_thread(void **state)
{
	struct served s = served_begin(from_caller);
	char out[56], trace[33], id[17];
	struct event e;

	(void) state;
	now_in(out);
	trace_of(out, trace);
	assert_string_equal(trace, TRACE);
	served_answer(&s);
	assert_nowhere();
	assert_true(span_told("GET /served", &e));
	span_id_of(&e, id);
	assert_memory_equal(out + 36, id, 16);
}

static void spans_nest_and_calls_are_children_of_the_innermost(void **state)
{
	char root[56], outer[56], inner[56], head[CARRIED_SIZE], carried[256], a[33], b[33];
	struct served s = served_begin(from_caller);
	struct event e;

	(void) state;
	now_in(root);
	agentshim_span_begin("outer");
	now_in(outer);
	agentshim_span_begin("inner");
	now_in(inner);
	carried_by_call(head);
	now_in(carried);
	assert_string_equal(carried, inner);
	agentshim_span_end();
	now_in(carried);
	assert_string_equal(carried, outer);
	agentshim_span_end();
	now_in(carried);
	assert_string_equal(carried, root);
	served_answer(&s);
	assert_nowhere();

	assert_child("outer", root);
	e = assert_child("inner", outer);
	assert_int_equal(e.span.kind, SPAN_INTERNAL);
	assert_int_equal(e.span.result, SPAN_UNSET);
	assert_int_equal(e.pid, getpid());
	assert_int_equal(e.tid, gettid());
	e = assert_child("GET /called", inner);
	field_of(head, "traceparent", carried);
	trace_of(carried, a);
	assert_string_equal(a, TRACE);
	span_of(carried, a);
	span_id_of(&e, b);
	assert_string_equal(a, b);
	/* What came with the request goes on with calls made inside of the spans. */
	field_of(head, "tracestate", carried);
	assert_string_equal(carried, "a=1");
	field_of(head, "baggage", carried);
	assert_string_equal(carried, "who=me");
}

static void without_a_request_a_span_is_a_root(void **state)
{
	char out[56], parent[17], head[CARRIED_SIZE];
	struct event e;

	(void) state;
	agentshim_span_begin("lonely");
	now_in(out);
	carried_by_call(head);
	agentshim_span_end();
	assert_nowhere();
	assert_true(span_told("lonely", &e));
	parent_id_of(&e, parent);
	assert_string_equal(parent, "");
	assert_child("GET /called", out);
}

static void a_request_that_ends_meanwhile_leaves_no_stale_parent(void **state)
{
	char root[56], inner[56], out[56], head[CARRIED_SIZE], carried[256], trace[33];
	struct served s = served_begin(from_caller);

	(void) state;
	now_in(root);
	agentshim_span_begin("after hours");
	now_in(inner);
	served_answer(&s);
	/* The span itself is still open, and where its calls belong. */
	now_in(out);
	assert_string_equal(out, inner);
	carried_by_call(head);
	agentshim_span_end();
	assert_nowhere();
	assert_child("after hours", root);
	assert_child("GET /called", inner);
	carried_by_call(head);
	field_of(head, "traceparent", carried);
	trace_of(carried, trace);
	assert_string_not_equal(trace, TRACE);
}

static void a_new_request_takes_the_thread_over(void **state)
{
	char first[56], second[56], out[56];
	struct served s = served_begin("");
	struct served t;

	(void) state;
	agentshim_span_begin("forgotten");
	now_in(first);
	served_answer(&s);
	t = served_begin(from_caller);
	now_in(second);
	assert_memory_equal(second + 3, TRACE, 32);
	agentshim_span_end(); /* of the forgotten one: the request stays */
	now_in(out);
	assert_string_equal(out, second);
	served_answer(&t);
	assert_nowhere();
}

static void an_answer_read_after_the_span_leads_back_to_the_request(void **state)
{
	static const char request[] = "GET /late HTTP/1.1\r\nHost: them\r\n\r\n";
	static const char part[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
	struct served s = served_begin(from_caller);
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), peer = peer_accept(&p);
	char root[56], out[56], got[256];

	(void) state;
	now_in(root);
	agentshim_span_begin("asks");
	assert_int_equal(write(c, request, sizeof(request) - 1), sizeof(request) - 1);
	(void) past_hooks(SYS_write, peer, (long) part, sizeof(part) - 1, 0, 0, 0);
	assert_int_equal(read(c, got, sizeof(got)), sizeof(part) - 1);
	agentshim_span_end();
	(void) past_hooks(SYS_write, peer, (long) "x", 1, 0, 0, 0);
	assert_int_equal(read(c, got, sizeof(got)), 1);
	now_in(out);
	assert_string_equal(out, root);
	assert_int_equal(close(c), 0);
	(void) raw_close(peer);
	served_answer(&s);
	assert_nowhere();
}

static void tags_are_told_with_the_span(void **state)
{
	char value[256], full[400], key[16];
	struct event e;

	(void) state;
	memset(full, 'v', sizeof(full) - 1);
	full[sizeof(full) - 1] = '\0';
	agentshim_span_begin("tagged");
	agentshim_span_tag("user.id", "7");
	agentshim_span_tag("color", "red");
	agentshim_span_tag("user.id", "42");
	agentshim_span_tag("empty", "");
	agentshim_span_tag("null", NULL);
	agentshim_span_tag("", "no key");
	agentshim_span_tag(NULL, "no key");
	agentshim_span_tag("long", full);
	agentshim_span_begin("inside");
	agentshim_span_tag("color", "blue");
	agentshim_span_end();
	agentshim_span_end();
	assert_true(span_told("tagged", &e));
	tag_told(&e, "user.id", value);
	assert_string_equal(value, "42");
	tag_told(&e, "color", value);
	assert_string_equal(value, "red");
	tag_told(&e, "long", value);
	assert_true(strlen(value) > 100 && strspn(value, "v") == strlen(value));
	assert_true(span_told("inside", &e));
	tag_told(&e, "color", value);
	assert_string_equal(value, "blue");

	/* What there is no room for is left out; the rest, and the span, are told. */
	agentshim_span_begin("flooded");
	for (int i = 0; i < 1000; i++) {
		(void) snprintf(key, sizeof(key), "key.%d", i);
		agentshim_span_tag(key, "some value of a tag");
	}
	agentshim_span_end();
	assert_true(span_told("flooded", &e));
	tag_told(&e, "key.20", value);
	assert_string_equal(value, "some value of a tag");
	tag_told(&e, "key.999", value);
	assert_string_equal(value, "");
}

static void names_of_any_length_are_told(void **state)
{
	char name[4096], told[EVENT_TEXT_SIZE + 8] = "";
	struct event e;

	(void) state;
	agentshim_span_begin(NULL);
	agentshim_span_end();
	assert_true(span_told("", &e));
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	agentshim_span_begin(name);
	agentshim_span_end();
	memset(told, 'n', EVENT_TEXT_SIZE - SPAN_TEXTS);
	assert_true(span_told(told, &e));
}

static void errno_stays(void **state)
{
	char out[56];

	(void) state;
	errno = UNTOUCHED;
	agentshim_span_begin("errno");
	agentshim_span_tag("a", "b");
	(void) agentshim_traceparent(out);
	agentshim_span_end();
	agentshim_span_end();
	assert_int_equal(errno, UNTOUCHED);
}

static void *ends(void *arg)
{
	char out[56];

	agentshim_span_end();
	agentshim_span_tag("from", "elsewhere");
	*(bool *) arg = agentshim_traceparent(out) == 0;
	return NULL;
}

static void another_thread_ends_nothing(void **state)
{
	char before[56], after[56], value[256];
	bool nowhere = false;
	pthread_t thread;
	struct event e;

	(void) state;
	agentshim_span_begin("mine");
	now_in(before);
	assert_int_equal(pthread_create(&thread, NULL, ends, &nowhere), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	now_in(after);
	assert_string_equal(before, after);
	assert_false(span_told("mine", &e));
	agentshim_span_end();
	assert_true(span_told("mine", &e));
	tag_told(&e, "from", value);
	assert_string_equal(value, "");
}

static void *leaves_open(void *arg)
{
	(void) arg;
	for (int i = 0; i < 5000; i++)
		agentshim_span_begin("left by a thread");
	agentshim_span_end();
	return NULL;
}

static void threads_that_leave_spans_open_take_no_room_for_ever(void **state)
{
	pthread_t thread;
	struct event e;
	char out[56];

	(void) state;
	assert_int_equal(pthread_create(&thread, NULL, leaves_open, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (count_threads() > 1) /* joined, it is not quite gone yet */
		(void) sched_yield();
	/* Others find all places taken, until one looks. */
	for (bool placed = false; !placed;) {
		agentshim_span_begin("has room");
		placed = agentshim_traceparent(out) == 1;
		agentshim_span_end();
	}
	assert_true(span_told("has room", &e));
	assert_true(span_told("left by a thread", &e));
	assert_int_equal(e.span.error, SPAN_ABANDONED);
}

static int exits_inside(void *arg)
{
	(void) arg;
	agentshim_span_begin("open at exit");
	agentshim_span_begin("and in it");
	exit(0);
}

static void what_is_open_at_exit_is_abandoned(void **state)
{
	char a[17], b[17];
	struct event outer, inner;

	(void) state;
	(void) child_status(exits_inside, NULL);
	assert_true(span_told("open at exit", &outer));
	assert_int_equal(outer.span.error, SPAN_ABANDONED);
	assert_int_equal(outer.span.result, SPAN_ERROR);
	assert_true(span_told("and in it", &inner));
	assert_int_equal(inner.span.error, SPAN_ABANDONED);
	span_id_of(&outer, a);
	parent_id_of(&inner, b);
	assert_string_equal(a, b);
}

static int ends_its_parents(void *arg)
{
	char out[56];

	(void) arg;
	agentshim_span_begin("of the child");
	CHECK(agentshim_traceparent(out) == 1);
	agentshim_span_end();
	agentshim_span_end(); /* its copy of the parent's */
	CHECK(agentshim_traceparent(out) == 0);
	exit(0);
}

static void a_forked_child_goes_on_in_it_and_tells_nothing_of_it(void **state)
{
	char parent[56], after[56];
	struct event e;

	(void) state;
	agentshim_span_begin("of the parent");
	now_in(parent);
	(void) child_status(ends_its_parents, NULL);
	now_in(after);
	assert_string_equal(parent, after);
	assert_false(span_told("of the parent", &e));
	assert_child("of the child", parent);
	agentshim_span_end();
	assert_true(span_told("of the parent", &e));
	assert_int_equal(e.span.error, SPAN_NO_ERROR);
}

static void a_vfork_child_changes_nothing(void **state)
{
	char before[56], after[56];

	(void) state;
	agentshim_span_begin("kept");
	now_in(before);

	const pid_t pid = vfork();

	if (pid == 0) {
		agentshim_span_begin("of a vfork child");
		agentshim_span_end();
		agentshim_span_end();
		_exit(0);
	}
	assert_int_equal(wait_status(pid), 0);
	now_in(after);
	assert_string_equal(before, after);
	agentshim_span_end();
	assert_nowhere();
}

static void on_signal(int number)
{
	(void) number;
	agentshim_span_begin("in a handler");
	agentshim_span_tag("a", "b");
	agentshim_span_end();
}

static void handlers_may_have_spans(void **state)
{
	char before[56], after[56];
	struct event e;

	(void) state;
	(void) signal(SIGUSR1, on_signal);
	agentshim_span_begin("interrupted");
	now_in(before);
	(void) raise(SIGUSR1);
	now_in(after);
	assert_string_equal(before, after);
	agentshim_span_end();
	assert_child("in a handler", before);
	assert_true(span_told("interrupted", &e));
}

static int in_an_unsampled_request(void *arg)
{
	struct served s = served_begin(
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n");
	char out[56];

	(void) arg;
	agentshim_span_begin("unsampled");
	agentshim_span_tag("a", "b");
	CHECK(agentshim_traceparent(out) == 1);
	CHECK(strcmp(out + 52, "-00") == 0);
	agentshim_span_end();
	served_answer(&s);
	return 0;
}

static int ticks_inside(void *arg)
{
	const bool serves = *(const bool *) arg;
	const int ep = epoll_create1(EPOLL_CLOEXEC);
	struct served s = { -1, -1 };
	struct epoll_event event;
	char before[56], after[56];

	agentshim_span_begin("around a loop");
	if (serves) {
		s = served_begin("");
		served_answer(&s);
		agentshim_span_begin("of a server");
	}
	CHECK(agentshim_traceparent(before) == 1);
	CHECK(epoll_wait(ep, &event, 1, 0) == 0);
	CHECK(agentshim_traceparent(after) == !serves);
	CHECK(serves || strcmp(before, after) == 0);
	/* Begun after a tick, it is the thread's until the next one. */
	agentshim_span_begin("in a loop");
	CHECK(agentshim_traceparent(after) == 1);
	CHECK(epoll_wait(ep, &event, 1, 0) == 0);
	CHECK(agentshim_traceparent(after) == 0);
	agentshim_span_end();
	return 0;
}

static void a_tick_of_an_event_loop_ends_all_but_what_is_around_it(void **state)
{
	bool serves = false;

	(void) state;
	assert_int_equal(child_status(ticks_inside, &serves), 0);
	serves = true;
	assert_int_equal(child_status(ticks_inside, &serves), 0);
}

static void unsampled_spans_have_a_place_and_are_not_told(void **state)
{
	struct event e;

	(void) state;
	assert_int_equal(child_status(in_an_unsampled_request, NULL), 0);
	assert_false(span_told("unsampled", &e));
}

/* Runs in a program of its own: settings and environment are those of its start. */
static int tells(void)
{
	char out[56] = "", head[CARRIED_SIZE], value[256];

	agentshim_span_begin("started with a parent");
	printf("%d %s\n", agentshim_traceparent(out), out);
	agentshim_span_end();
	carried_by_call(head);
	field_of(head, "traceparent", value);
	printf("%s ", value);
	field_of(head, "tracestate", value);
	printf("%s\n", value);
	return 0;
}

/* The two lines of what it says. */
static void started_anew(char ret[128], char ret_call[256], const char *environment)
{
	char command[512];
	FILE *f;

	(void) snprintf(command, sizeof(command), "env %s /proc/%d/exe tells", environment,
			(int) getpid());
	f = popen(command, "r");
	assert_non_null(f);
	assert_non_null(fgets(ret, 128, f));
	assert_non_null(fgets(ret_call, 256, f));
	assert_int_equal(pclose(f), 0);
}

static void the_environment_is_a_parent_of_who_serves_nobody(void **state)
{
	char out[128], call[256], a[17], b[17];
	struct event e;

	(void) state;
	started_anew(out, call, "TRACEPARENT=" CALLER " TRACESTATE=a=1");
	assert_memory_equal(out, "1 00-" TRACE, 5 + 32);
	assert_memory_equal(out + 2 + 52, "-01", 3);
	e = assert_child("started with a parent", CALLER);
	assert_true((e.span.bits & SPAN_PARENT_REMOTE) != 0);
	e = assert_child("GET /called", CALLER);
	span_id_of(&e, a);
	(void) snprintf(b, sizeof(b), "%.16s", call + 36);
	assert_string_equal(a, b);
	assert_string_equal(call + 55, " a=1\n");
}

static void a_bad_environment_is_none(void **state)
{
	static const char *const bad[] = {
		"TRACEPARENT= TRACESTATE=a=1",
		"TRACEPARENT=garbage TRACESTATE=a=1",
		"TRACEPARENT=00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"TRACESTATE=a=1",
	};
	char out[128], call[256];
	struct event e;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		started_anew(out, call, bad[i]);
		assert_memory_equal(out, "1 00-", 5);
		assert_true(span_told("started with a parent", &e));
		assert_true((e.span.bits & SPAN_HAS_PARENT) == 0);
		assert_string_equal(call + 55, " \n");
	}
	/* Its state may be bad alone. */
	started_anew(out, call, "TRACEPARENT=" CALLER " TRACESTATE=,=,");
	assert_memory_equal(out, "1 00-" TRACE, 5 + 32);
	assert_string_equal(call + 55, " \n");
}

static void the_sampler_has_its_say_about_the_environment(void **state)
{
	static const char unsampled[] = "TRACEPARENT=00-" TRACE "-b7ad6b7169203331-00";
	char out[128], call[256], environment[256];

	(void) state;
	started_anew(out, call, unsampled);
	assert_memory_equal(out + 55, "00\n", 3);
	(void) snprintf(environment, sizeof(environment), "OTEL_TRACES_SAMPLER=always_on %s",
			unsampled);
	started_anew(out, call, environment);
	assert_memory_equal(out + 55, "01\n", 3);
	assert_memory_equal(call + 52, "-01", 3);
	started_anew(out, call, "OTEL_TRACES_SAMPLER=always_off TRACEPARENT=" CALLER);
	assert_memory_equal(out + 55, "00\n", 3);
	assert_memory_equal(call + 52, "-00", 3);
}

static void off_means_off(void **state)
{
	static const char *const settings[] = {
		("AGENTSHIM_TRACE=off TRACEPARENT=" CALLER),
		"AGENTSHIM_DISABLE=1",
		"-u LD_PRELOAD",
	};
	char out[128], call[256];

	(void) state;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		started_anew(out, call, settings[i]);
		assert_string_equal(out, "0 \n");
		assert_string_equal(call, " \n");
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		/* First, as this program serves nobody yet. */
		cmocka_unit_test(a_tick_of_an_event_loop_ends_all_but_what_is_around_it),
		cmocka_unit_test(a_thread_without_work_has_no_traceparent),
		cmocka_unit_test(without_a_request_a_span_is_a_root),
		cmocka_unit_test(a_served_request_is_the_place_of_its_thread),
		cmocka_unit_test(spans_nest_and_calls_are_children_of_the_innermost),
		cmocka_unit_test(a_request_that_ends_meanwhile_leaves_no_stale_parent),
		cmocka_unit_test(a_new_request_takes_the_thread_over),
		cmocka_unit_test(an_answer_read_after_the_span_leads_back_to_the_request),
		cmocka_unit_test(tags_are_told_with_the_span),
		cmocka_unit_test(names_of_any_length_are_told),
		cmocka_unit_test(errno_stays),
		cmocka_unit_test(another_thread_ends_nothing),
		cmocka_unit_test(what_is_open_at_exit_is_abandoned),
		cmocka_unit_test(a_forked_child_goes_on_in_it_and_tells_nothing_of_it),
		cmocka_unit_test(a_vfork_child_changes_nothing),
		cmocka_unit_test(handlers_may_have_spans),
		cmocka_unit_test(unsampled_spans_have_a_place_and_are_not_told),
		cmocka_unit_test(the_environment_is_a_parent_of_who_serves_nobody),
		cmocka_unit_test(a_bad_environment_is_none),
		cmocka_unit_test(the_sampler_has_its_say_about_the_environment),
		cmocka_unit_test(off_means_off),
		cmocka_unit_test(threads_that_leave_spans_open_take_no_room_for_ever),
	};

	if (argc > 1 && strcmp(argv[1], "tells") == 0)
		return tells();
	host_start(argc, argv, NULL);
	return cmocka_run_group_tests_name("own", tests, NULL, NULL);
}
