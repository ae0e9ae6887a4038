/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread begins with what its creator works on, and is believed while the process works on
 * nothing else: a worker that is kept has never a parent that is gone, or another's.
 */
#include "tests/preload/traced.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#include "agentshim.h"

#define TRACE	"0af7651916cd43dd8448eb211c80319c"
#define CALLER	"00-" TRACE "-b7ad6b7169203331-01"
#define MANY	5000 /* more than the shim has places for threads that have not begun */

static const char from_caller[] = "traceparent: " CALLER "\r\nbaggage: who=me\r\n";

static void here(char ret[56])
{
	assert_int_equal(agentshim_traceparent(ret), 1);
}

static void *asks(void *out)
{
	(void) agentshim_traceparent(out);
	return out;
}

/* Where a thread finds itself that is created now. */
static void there(char ret[56])
{
	pthread_t thread;
	void *back;

	assert_int_equal(pthread_create(&thread, NULL, asks, ret), 0);
	assert_int_equal(pthread_join(thread, &back), 0);
	assert_ptr_equal(back, ret);
}

static void *calls(void *head)
{
	carried_by_call(head);
	return NULL;
}

static void a_threads_calls_are_the_requests(void **state)
{
	struct served s = served_begin(from_caller);
	char out[56], in[56], head[CARRIED_SIZE], value[256];
	pthread_t thread;
	struct event e;
	char a[17], b[17];

	(void) state;
	here(out);
	there(in);
	assert_string_equal(in, out);
	assert_int_equal(pthread_create(&thread, NULL, calls, head), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	field_of(head, "traceparent", value);
	assert_memory_equal(value + 3, TRACE, 32);
	field_of(head, "baggage", value);
	assert_string_equal(value, "who=me");
	assert_true(span_told("GET /called", &e));
	parent_id_of(&e, a);
	span_of(out, b);
	assert_string_equal(a, b);
	served_answer(&s);
}

static void *begins_inside(void *outer)
{
	agentshim_span_begin("in the thread");
	there(outer); /* a thread of the thread's */
	agentshim_span_end();
	return NULL;
}

static void spans_nest_across_threads(void **state)
{
	char out[56], in[56], a[17], b[17];
	pthread_t thread;
	struct event e;

	(void) state;
	agentshim_span_begin("of the creator");
	here(out);
	assert_int_equal(pthread_create(&thread, NULL, begins_inside, in), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	agentshim_span_end();
	assert_true(span_told("in the thread", &e));
	parent_id_of(&e, a);
	span_of(out, b);
	assert_string_equal(a, b);
	span_id_of(&e, a);
	span_of(in, b);
	assert_string_equal(a, b);
}

static void a_thread_of_nothing_begins_with_nothing(void **state)
{
	struct served s = served_begin(from_caller);
	char in[56] = "x";

	(void) state;
	served_answer(&s);
	there(in);
	assert_string_equal(in, "");
}

/* ---- a worker that is kept ---- */

struct worker {
	pthread_t thread;
	sem_t asked, answered;
	bool done;
	char in[56];
	struct served own;
	bool serves;
};

static void *works(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		(void) sem_wait(&w->asked);
		if (w->done)
			return NULL;
		if (w->serves)
			w->own = served_begin(from_caller);
		(void) agentshim_traceparent(w->in);
		if (w->serves)
			served_answer(&w->own);
		(void) sem_post(&w->answered);
	}
}

static void hire_for(struct worker *w, void *(*job)(void *))
{
	memset(w, 0, sizeof(*w));
	assert_int_equal(sem_init(&w->asked, 0, 0), 0);
	assert_int_equal(sem_init(&w->answered, 0, 0), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, job, w), 0);
}

static void hire(struct worker *w)
{
	hire_for(w, works);
}

static const char *ask(struct worker *w)
{
	(void) sem_post(&w->asked);
	(void) sem_wait(&w->answered);
	return w->in;
}

static void dismiss(struct worker *w)
{
	w->done = true;
	(void) sem_post(&w->asked);
	assert_int_equal(pthread_join(w->thread, NULL), 0);
}

static void a_worker_that_is_kept_has_no_stale_parent(void **state)
{
	struct served s = served_begin(from_caller);
	struct worker w;
	char out[56];

	(void) state;
	here(out);
	hire(&w);
	assert_string_equal(ask(&w), out);
	served_answer(&s);
	assert_string_equal(ask(&w), "");
	s = served_begin(from_caller);
	assert_string_equal(ask(&w), "");
	served_answer(&s);
	assert_string_equal(ask(&w), "");
	/* A request that it reads itself is its own. */
	w.serves = true;
	assert_memory_equal(ask(&w) + 3, TRACE, 32);
	dismiss(&w);
}

/* Serves a request from one asking to the next. */
static void *serves_for_a_while(void *arg)
{
	struct worker *w = arg;

	(void) sem_wait(&w->asked);
	w->own = served_begin("");
	(void) sem_post(&w->answered);
	(void) sem_wait(&w->asked);
	served_answer(&w->own);
	(void) sem_post(&w->answered);
	return NULL;
}

static void once_another_request_has_begun_the_worker_is_nobodys(void **state)
{
	struct served a = served_begin(from_caller);
	struct worker w, server;
	char out[56];

	(void) state;
	here(out);
	hire(&w);
	hire_for(&server, serves_for_a_while);
	assert_string_equal(ask(&w), out);
	(void) ask(&server);
	/* Both may hand it a job now. */
	assert_string_equal(ask(&w), "");
	(void) ask(&server);
	/* The second's job may still be with it. */
	assert_string_equal(ask(&w), "");
	served_answer(&a);
	assert_string_equal(ask(&w), "");
	assert_int_equal(pthread_join(server.thread, NULL), 0);
	dismiss(&w);
}

static void among_several_requests_nothing_is_inherited(void **state)
{
	struct served a = served_begin(from_caller), b = served_begin(from_caller);
	char in[56] = "x";

	(void) state;
	there(in);
	assert_string_equal(in, "");
	served_answer(&b);
	served_answer(&a);
}

/* ---- what a thread must not notice ---- */

static void a_creation_that_fails_costs_nothing(void **state)
{
	struct served s = served_begin(from_caller);
	char out[56], in[56];
	pthread_attr_t attr;
	pthread_t thread;

	(void) state;
	here(out);
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, (size_t) 1 << 60), 0);
	for (int i = 0; i < MANY; i++)
		assert_int_not_equal(pthread_create(&thread, &attr, asks, in), 0);
	assert_int_equal(pthread_attr_destroy(&attr), 0);
	there(in);
	assert_string_equal(in, out);
	served_answer(&s);
}

static void *returns_at_once(void *arg)
{
	return arg;
}

static void cancelled_threads_take_no_place_along(void **state)
{
	struct served s = served_begin(from_caller);
	char out[56], in[56];
	pthread_t thread;
	void *back;

	(void) state;
	here(out);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(pthread_create(&thread, NULL, returns_at_once, out), 0);
		(void) pthread_cancel(thread);
		assert_int_equal(pthread_join(thread, &back), 0);
		assert_true(back == out || back == PTHREAD_CANCELED);
	}
	there(in);
	assert_string_equal(in, out);
	served_answer(&s);
}

static void the_smallest_stack_is_enough(void **state)
{
	struct served s = served_begin(from_caller);
	pthread_attr_t attr;
	pthread_t thread;
	char out[56], in[56];

	(void) state;
	here(out);
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, (size_t) PTHREAD_STACK_MIN), 0);
	assert_int_equal(pthread_create(&thread, &attr, asks, in), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_attr_destroy(&attr), 0);
	assert_string_equal(in, out);
	served_answer(&s);
}

static void *exits(void *arg)
{
	pthread_exit(arg);
}

static void a_thread_may_end_as_it_likes(void **state)
{
	struct served s = served_begin(from_caller);
	pthread_t thread;
	void *back = NULL;

	(void) state;
	errno = 77;
	assert_int_equal(pthread_create(&thread, NULL, exits, &s), 0);
	assert_int_equal(errno, 77);
	assert_int_equal(pthread_join(thread, &back), 0);
	assert_ptr_equal(back, &s);
	served_answer(&s);
}

static int asks_in_a_child(void *expected)
{
	char in[56];

	CHECK(agentshim_traceparent(in) == 1);
	CHECK(strcmp(in, expected) == 0);
	return 0;
}

static void *forks(void *expected)
{
	assert_int_equal(child_status(asks_in_a_child, expected), 0);
	return NULL;
}

static void a_child_of_the_thread_has_it_too(void **state)
{
	struct served s = served_begin(from_caller);
	pthread_t thread;
	char out[56];

	(void) state;
	here(out);
	assert_int_equal(pthread_create(&thread, NULL, forks, out), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	served_answer(&s);
}

static int asks_c11(void *out)
{
	return agentshim_traceparent(out);
}

/* libc creates it by itself: a limit, written down here so that it is noticed when it goes. */
static void threads_of_c11_begin_with_nothing(void **state)
{
	struct served s = served_begin(from_caller);
	char in[56] = "x";
	thrd_t thread;
	int rc = -1;

	(void) state;
	assert_int_equal(thrd_create(&thread, asks_c11, in), thrd_success);
	assert_int_equal(thrd_join(thread, &rc), thrd_success);
	assert_int_equal(rc, 0);
	assert_string_equal(in, "");
	served_answer(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_threads_calls_are_the_requests),
		cmocka_unit_test(spans_nest_across_threads),
		cmocka_unit_test(a_thread_of_nothing_begins_with_nothing),
		cmocka_unit_test(a_worker_that_is_kept_has_no_stale_parent),
		cmocka_unit_test(a_creation_that_fails_costs_nothing),
		cmocka_unit_test(cancelled_threads_take_no_place_along),
		cmocka_unit_test(the_smallest_stack_is_enough),
		cmocka_unit_test(a_thread_may_end_as_it_likes),
		cmocka_unit_test(a_child_of_the_thread_has_it_too),
		cmocka_unit_test(threads_of_c11_begin_with_nothing),
		cmocka_unit_test(once_another_request_has_begun_the_worker_is_nobodys),
		/* Last: from here on no thread of this process is believed (current.h). */
		cmocka_unit_test(among_several_requests_nothing_is_inherited),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
