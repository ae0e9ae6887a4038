/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose child a call is: by the traceparent that the peer gets. A wrong parent is worse than
 * none, so each story here is one where the thread's latest request is not what it works on.
 * Clients of this process are made past the hooks; only what it reads and calls is followed.
 */
#include "tests/preload/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ID_SIZE 33

/* Stories are told in children, where cmocka's assertions would go on with its other tests. */
#define must(truth)                                                                      \
	do {                                                                             \
		if (!(truth)) {                                                          \
			(void) printf("# line %d: %s\n", __LINE__, #truth);              \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

/* ---- clients and their requests ---- */

static struct peer own, called; /* this process' listener; whom it calls */

struct client {
	int fd;             /* the client's side */
	int served;         /* ours */
	char id[ID_SIZE];   /* of its trace */
};

static void begin_request(struct client *c)
{
	static unsigned n;
	char head[256];

	(void) snprintf(c->id, sizeof(c->id), "%032x", ++n);
	const int len = snprintf(head, sizeof(head),
				 "GET /in HTTP/1.1\r\nHost: a\r\n"
				 "traceparent: 00-%s-00000000000000%02x-01\r\n\r\n", c->id, n);

	must(past_hooks(SYS_sendto, c->fd, (long) head, len, MSG_NOSIGNAL, 0, 0) == len);
}

static void read_request(const struct client *c)
{
	char got[512];

	struct pollfd ready = { .fd = c->served, .events = POLLIN };

	/* A wait that no hook sees. */
	must(past_hooks(SYS_ppoll, (long) &ready, 1, 0, 0, 8, 0) == 1);
	must(read(c->served, got, sizeof(got)) > 0);
}

static struct client client(void)
{
	struct client c = { .fd = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0) };

	must(past_hooks(SYS_connect, c.fd, (long) &own.addr, sizeof(own.addr), 0, 0, 0) ==
			 0);
	c.served = accept(own.listener, NULL, NULL);
	must(c.served >= 0);
	begin_request(&c);
	return c;
}

static void answer(const struct client *c)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

	must(write(c->served, ok, sizeof(ok) - 1) == sizeof(ok) - 1);
}

static void end(const struct client *c)
{
	must(close(c->served) == 0);
	(void) raw_close(c->fd);
}

/* ---- the call ---- */

static char called_with[ID_SIZE];

/* Calls the peer; whose trace was it? */
static const char *call(void)
{
	static const char ask[] = "GET /out HTTP/1.1\r\nHost: b\r\n\r\n";
	const int c = tcp_connected(&called), s = peer_accept(&called);
	char got[1024];

	must(write(c, ask, sizeof(ask) - 1) == sizeof(ask) - 1);

	const ssize_t n = recv(s, got, sizeof(got) - 1, 0);

	must(n > 0);
	got[n] = '\0';

	const char *at = strstr(got, "traceparent: 00-");

	must(at != NULL);
	(void) snprintf(called_with, sizeof(called_with), "%.32s", at + 16);
	(void) raw_close(s);
	must(close(c) == 0);
	return called_with;
}

#define assert_child_of(c)  must(strcmp(call(), (c)->id) == 0)
#define assert_child_of_nobody()                                                         \
	do {                                                                             \
		/* Ids of this test begin with zeros, drawn ones never do. */            \
		must(strncmp(call(), "0000000000000000", 16) != 0);                      \
	} while (0)

/* Each story in a process of its own: what one has shown of the program stays. */
#define STORY(name)                                                                      \
	static void name##_told(void);                                                   \
	static int name##_in_child(void *arg)                                            \
	{                                                                                \
		(void) arg;                                                              \
		own = peer_local(true);                                                  \
		must(fcntl(own.listener, F_SETFL, 0) == 0);                    \
		called = peer_local(true);                                               \
		name##_told();                                                           \
		return 0;                                                                \
	}                                                                                \
	static void name(void **state)                                                   \
	{                                                                                \
		(void) state;                                                            \
		assert_int_equal(child_status(name##_in_child, NULL), 0);                \
	}                                                                                \
	static void name##_told(void)

STORY(the_request_that_was_read_is_the_parent)
{
	const struct client a = client();

	read_request(&a);
	assert_child_of(&a);
	answer(&a);
	assert_child_of_nobody();
	end(&a);
}

/* No wait of its own is seen (io_uring, SIGIO, a library with its own system calls). */
STORY(of_two_requests_neither_is)
{
	const struct client a = client(), b = client();

	read_request(&a);
	read_request(&b);
	assert_child_of_nobody();
	answer(&b);
	assert_child_of_nobody();
	end(&a);
	end(&b);
}

/* The end of the answer is not seen any more, so the request must not go on for ever. */
STORY(a_request_with_a_strange_answer_is_over)
{
	static const char strange[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
				      "Transfer-Encoding: chunked\r\n\r\n";
	struct client a = client();

	read_request(&a);
	must(write(a.served, strange, sizeof(strange) - 1) == sizeof(strange) - 1);
	begin_request(&a);
	read_request(&a);
	assert_child_of_nobody();
	end(&a);
}

/* Nor is it what was read before a connection that is followed no longer. */
STORY(a_turn_to_what_is_not_followed_is_a_turn)
{
	static const char strange[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
				      "Transfer-Encoding: chunked\r\n\r\n";
	struct client a = client(), b = client();

	read_request(&a);
	must(write(a.served, strange, sizeof(strange) - 1) == sizeof(strange) - 1);
	read_request(&b);
	begin_request(&a);
	read_request(&a);
	assert_child_of_nobody();
	end(&a);
	end(&b);
}

/* Left to others, maybe; what comes now is another matter. */
STORY(who_accepts_has_turned)
{
	const struct client a = client();

	read_request(&a);

	const struct client b = client();

	assert_child_of_nobody();
	end(&a);
	end(&b);
}

/* It pushes something to a client of old, on behalf of another or not: who knows. */
STORY(who_answers_another_has_turned)
{
	static const char part[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
	const struct client a = client(), b = client();

	read_request(&a);
	must(write(a.served, part, sizeof(part) - 1) == sizeof(part) - 1);
	read_request(&b);
	must(write(a.served, "1\r\nx\r\n", 6) == 6);
	assert_child_of_nobody();
	end(&a);
	end(&b);
}

/* By its number, as libuv and allocators call: a wait for all the same. */
STORY(a_wait_by_number_is_a_tick)
{
	const struct client a = client();
	struct pollfd fds[2] = { { .fd = own.listener, .events = POLLIN },
				 { .fd = a.served, .events = POLLIN } };
	const struct timespec now = { 0 };

	read_request(&a);
	must(syscall(SYS_ppoll, fds, 2, &now, NULL, 8) == 0);
	assert_child_of_nobody();
	end(&a);
}

/* A dump of requests, read from a file under a number whose close was not seen. */
STORY(a_file_asks_nothing)
{
	const struct client a = client();
	char path[128], head[512];

	read_request(&a);
	answer(&a);
	(void) raw_close(a.served);
	(void) snprintf(path, sizeof(path), "%s/dump", host_dir());
	(void) snprintf(head, sizeof(head), "GET /in HTTP/1.1\r\nHost: a\r\n"
		       "traceparent: 00-%s-0000000000000001-01\r\n\r\n", a.id);

	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	must(fd == a.served);
	must(past_hooks(SYS_pwrite64, fd, (long) head, (long) strlen(head), 0, 0, 0) > 0);
	must(read(fd, head, sizeof(head)) > 0);
	assert_child_of_nobody();
	must(close(fd) == 0);
	(void) raw_close(a.fd);
}

/* ---- pools of threads ---- */

struct work {
	void (*step)(const struct client *c);
	const struct client *client;
	pthread_barrier_t *barrier;
};

static void *worker(void *arg)
{
	const struct work *w = arg;

	(void) pthread_barrier_wait(w->barrier);
	w->step(w->client);
	return NULL;
}

static void by_a_thread(void (*step)(const struct client *c), const struct client *c)
{
	pthread_barrier_t barrier;
	pthread_t thread;
	struct work w = { step, c, &barrier };

	must(pthread_barrier_init(&barrier, NULL, 2) == 0);
	must(pthread_create(&thread, NULL, worker, &w) == 0);
	(void) pthread_barrier_wait(&barrier);
	must(pthread_join(thread, NULL) == 0);
	(void) pthread_barrier_destroy(&barrier);
}

static void watch(const struct client *c)
{
	struct epoll_event e = { .events = EPOLLIN };
	const int ep = epoll_create1(EPOLL_CLOEXEC);

	must(epoll_ctl(ep, EPOLL_CTL_ADD, c->served, &e) == 0);
	must(epoll_wait(ep, &e, 1, -1) == 1);
	(void) raw_close(ep);
}

static void read_and_call_for_another(const struct client *c)
{
	read_request(c);
	assert_child_of_nobody(); /* of .NET's pool, of tokio's: a step of any request's */
}

/* One thread waits for all, others read what is there and go on to whatever is ready. */
STORY(a_pool_that_reads_without_blocking_is_not_believed)
{
	const struct client a = client();

	must(fcntl(a.served, F_SETFL, O_NONBLOCK) == 0);
	watch(&a);
	by_a_thread(read_and_call_for_another, &a);
	end(&a);
}

static void read_and_call(const struct client *c)
{
	read_request(c);
	assert_child_of(c);
}

/* gunicorn's threads: what became ready is handed to a thread that reads and answers it. */
STORY(a_pool_that_blocks_is_believed)
{
	const struct client a = client();

	watch(&a);
	by_a_thread(read_and_call, &a);
	end(&a);
}

/* Read by one that never waits, answered by another: requests change threads here. */
STORY(a_program_that_hands_on_is_not_believed)
{
	const struct client a = client();

	read_request(&a);
	by_a_thread(answer, &a);

	const struct client b = client();

	read_request(&b);
	assert_child_of_nobody();
	end(&a);
	end(&b);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_request_that_was_read_is_the_parent),
		cmocka_unit_test(of_two_requests_neither_is),
		cmocka_unit_test(a_request_with_a_strange_answer_is_over),
		cmocka_unit_test(a_turn_to_what_is_not_followed_is_a_turn),
		cmocka_unit_test(who_accepts_has_turned),
		cmocka_unit_test(who_answers_another_has_turned),
		cmocka_unit_test(a_wait_by_number_is_a_tick),
		cmocka_unit_test(a_file_asks_nothing),
		cmocka_unit_test(a_pool_that_reads_without_blocking_is_not_believed),
		cmocka_unit_test(a_pool_that_blocks_is_believed),
		cmocka_unit_test(a_program_that_hands_on_is_not_believed),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
