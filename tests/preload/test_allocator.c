/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An allocator that itself calls what we hook, as jemalloc, tcmalloc and libhugetlbfs do
 * (trap T11): a hook that allocated would come back to itself with the allocator's lock held.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agentshim.h"

/* glibc's, under the names that it keeps for such as us. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static __thread unsigned allocations, inside, nested;

/* What allocators do on the way, each through its hook. */
static void visit(void)
{
	const int saved = errno;
	char byte;

	allocations++;
	if (inside++ != 0)
		nested++;
	(void) syscall(SYS_getpid);
	(void) !read(-1, &byte, 1);
	(void) !write(-1, &byte, 1);
	(void) fcntl(-1, F_GETFD);
	(void) syscall(SYS_close, -1);
	(void) close(-1);
	inside--;
	errno = saved;
}

void *malloc(size_t size)
{
	visit();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	visit();
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	visit();
	return __libc_realloc(old, size);
}

static void a_call(const struct peer *p)
{
	const int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error, s;
	socklen_t len = sizeof(error);
	char byte;

	if (tcp_connect(c, p) == 0) {
		s = peer_accept(p);
		(void) getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len);
		(void) send(c, "x", 1, 0);
		(void) send(s, "y", 1, 0);
		(void) recv(c, &byte, 1, 0);
		(void) close(s);
	}

	const int copy = dup(c);

	(void) dup2(c, copy);
	(void) close(copy);
	(void) shutdown(c, SHUT_RDWR);
	(void) close(c);
}

/* With fields that need more room than there is at first, answers of all kinds, many buffers. */
static void an_exchange(const struct peer *p)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: h\r\n", long_field[] = "X-Trace-Id: ";
	static const char answers[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
	static char much[20000];
	struct iovec many[300];
	struct mmsghdr msg = { .msg_hdr = { .msg_iov = many, .msg_iovlen = 4 } };
	const int c = tcp_connected(p), s = peer_accept(p);
	char buf[100];

	(void) memset(much, 'a', sizeof(much));
	for (size_t i = 0; i < 300; i++)
		many[i] = (struct iovec) { (char *) head, 0 };
	many[0].iov_len = sizeof(head) - 1;
	many[1] = (struct iovec) { (char *) long_field, sizeof(long_field) - 1 };
	many[2] = (struct iovec) { much, sizeof(much) };
	many[299] = (struct iovec) { (char *) "\r\n\r\n", 4 };
	assert_true(writev(c, many, 300) > 20000);
	many[3] = many[299];
	assert_int_equal(sendmmsg(c, &msg, 1, 0), 1);
	assert_int_equal(send(s, answers, sizeof(answers) - 1, 0), sizeof(answers) - 1);
	assert_true(recv(c, buf, sizeof(buf), 0) > 0);
	(void) close(s);
	(void) recv(c, buf, sizeof(buf), 0);
	(void) close(c);
}

/* The first call maps files, the trip writes an event with its stack, refusals follow. */
static void no_hook_allocates(void **state)
{
	struct peer well = peer_listening(), sick = peer_refusing(), asked = peer_listening();

	(void) state;

	const unsigned before = allocations;

	for (int i = 0; i < 3; i++)
		a_call(&well);
	an_exchange(&asked);
	for (int i = 0; i < TRIP_AT + 3; i++)
		a_call(&sick);

	const unsigned after = allocations;

	assert_int_equal(after, before);
	assert_int_equal(nested, 0);
	assert_totals(well.key, 3, 0, 0);
	assert_int_equal(state_of(sick.key), BREAKER_OPEN);
	assert_int_equal(totals_of(sick.key).refused, 3);
}

/* libc allocates here, and visits us; what we add, we add without. */
static void looking_names_up_adds_nothing(void **state)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
	struct addrinfo *found;

	(void) state;
	assert_int_equal(getaddrinfo("127.0.0.1", "1", &hints, &found), 0);
	freeaddrinfo(found);

	const unsigned before = allocations;

	assert_int_equal(getaddrinfo("127.0.0.1", "1", &hints, &found), 0);

	const unsigned once = allocations - before;

	freeaddrinfo(found);
	assert_true(once > 0); /* or nothing was counted */
	assert_int_equal(nested, 0);
}

static void spans_and_starts_add_nothing(void **state)
{
	char *const nothing[] = { (char *) "x", NULL };
	char out[56], key[16];
	pid_t pid;

	(void) state;

	const unsigned before = allocations;

	agentshim_span_begin("outer");
	agentshim_span_begin("inner");
	for (char i = 'a'; i <= 'z'; i++) { /* more than lies within the span's place */
		memset(key, i, sizeof(key) - 1);
		key[sizeof(key) - 1] = '\0';
		agentshim_span_tag(key, "a value of some length");
	}
	assert_int_equal(agentshim_traceparent(out), 1);
	assert_int_equal(execve("/nowhere", nothing, environ), -1);
	assert_int_equal(execl("/nowhere", "x", NULL), -1);
	pid = vfork();
	if (pid == 0) {
		(void) execl("/bin/true", "true", NULL);
		_exit(1);
	}
	agentshim_span_end();
	agentshim_span_end();

	const unsigned after = allocations;

	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(after, before);
	assert_int_equal(nested, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_hook_allocates),
		cmocka_unit_test(looking_names_up_adds_nothing),
		cmocka_unit_test(spans_and_starts_add_nothing),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
