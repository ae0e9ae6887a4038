/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads with the smallest stack that there is (trap T39): serving, calling, a breaker that
 * trips on the way with its stack recorded, lines in the log. How deep it went is printed.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAINT 0xa5

static const char in[] = "GET /in?a=b HTTP/1.1\r\nHost: a\r\n"
			 "traceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\n"
			 "tracestate: a=1,b=2\r\nbaggage: c=d\r\nx-trace-id: foreign\r\n\r\n";
static const char out[] = "GET /out HTTP/1.1\r\nHost: b\r\n\r\n";
static const char bad[] = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";

static struct {
	struct peer called;
	int own, served, calls[TRIP_AT + 1];
	int wrong; /* line */
} story;

#define MUST(truth)                               \
	do {                                      \
		if (!(truth)) {                   \
			story.wrong = __LINE__;   \
			return NULL;              \
		}                                 \
	} while (0)

/* No buffers, no stdio: this thread has no room for them. */
static void *serve_and_call(void *arg)
{
	static char got[1024];

	(void) arg;
	story.served = accept(story.own, NULL, NULL);
	MUST(story.served >= 0);
	MUST(read(story.served, got, sizeof(got)) > 0);
	for (int i = 0; i <= TRIP_AT; i++) {
		story.calls[i] = socket(AF_INET, SOCK_STREAM, 0);
		const int rc = connect(story.calls[i], (struct sockaddr *) &story.called.addr,
				       sizeof(story.called.addr));

		MUST(i < TRIP_AT ? rc == 0 : rc < 0 && errno == ECONNREFUSED);
		if (rc < 0)
			break;
		const int s = (int) past_hooks(SYS_accept4, story.called.listener, 0, 0, 0, 0, 0);

		MUST(write(story.calls[i], out, sizeof(out) - 1) > 0);
		MUST(past_hooks(SYS_sendto, s, (long) bad, sizeof(bad) - 1, 0, 0, 0) > 0);
		MUST(read(story.calls[i], got, sizeof(got)) > 0);
		/* A further one, on the kept connection. */
		MUST(i > 0 || write(story.calls[i], out, sizeof(out) - 1) > 0);
		MUST(close(story.calls[i]) == 0);
		(void) raw_close(s);
	}
	MUST(write(story.served, bad, sizeof(bad) - 1) > 0);
	MUST(close(story.served) == 0);
	return NULL;
}

static void the_smallest_stack_is_enough(void **state)
{
	const size_t size = (size_t) PTHREAD_STACK_MIN;
	const struct peer own = peer_listening();
	unsigned char *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;
	size_t free_bytes = 0;

	(void) state;
	assert_true(stack != MAP_FAILED);
	assert_int_equal(mprotect(stack, 4096, PROT_NONE), 0);
	memset(stack + 4096, PAINT, size);
	story.called = peer_local(true);
	story.own = own.listener;

	const int c = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	assert_int_equal(past_hooks(SYS_connect, c, (long) &own.addr, sizeof(own.addr), 0, 0, 0), 0);
	assert_int_equal(past_hooks(SYS_sendto, c, (long) in, sizeof(in) - 1, 0, 0, 0),
			 sizeof(in) - 1);
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, stack + 4096, size), 0);
	assert_int_equal(pthread_create(&thread, &attr, serve_and_call, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(story.wrong, 0);
	while (stack[4096 + free_bytes] == PAINT)
		free_bytes++;
	print_message("# of %zu bytes %zu were never used\n", size, free_bytes);
	assert_int_equal(state_of(story.called.key), BREAKER_OPEN);
	assert_true(free_bytes > 1024);
	(void) raw_close(c);
}

int main(int argc, char **argv)
{
	static const char *const extra[] = { "AGENTSHIM_LOG=/dev/null", "AGENTSHIM_LOG_LEVEL=info",
					     NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_smallest_stack_is_enough),
	};

	host_start(argc, argv, extra);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
