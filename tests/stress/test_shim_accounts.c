/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that connect, send, receive, duplicate, move, shut down and close at random, with
 * the shim loaded. When all descriptors are closed, each admitted call must have ended exactly
 * once: requests == successes + failures + exclusions, and no result came late.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/segment.h"
#include "core/state.h"

#define THREADS 8
#define ROUNDS  10000
#define HELD    6 /* descriptors that a thread juggles with */

static struct sockaddr_in healthy, refusing;

/* A byte of no protocol that we know, or requests over HTTP, whole or not. */
static const char *const said[] = {
	"x", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHos", "t: a\r\n\r\n",
};

/*
 * Answers a few times what it is asked; hangs up on every fourth connection without a word. In a process
 * of its own, where nobody closes or moves its descriptors.
 */
static void serve(int listener)
{
	for (unsigned n = 0;; n++) {
		const int fd = accept(listener, NULL, NULL);
		static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
		char got[512];

		if (fd < 0)
			_exit(1);
		if (n % 4 != 0) {
			const struct timeval soon = { .tv_usec = 2000 };

			(void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
			for (unsigned i = 0; i < n % 4 && recv(fd, got, sizeof(got), 0) > 0; i++)
				(void) send(fd, ok, *got == 'x' ? 1 : sizeof(ok) - 1, MSG_NOSIGNAL);
		}
		(void) close(fd);
	}
}

static int bound(struct sockaddr_in *ret, int backlog)
{
	socklen_t len = sizeof(*ret);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret = (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) ret, sizeof(*ret)), 0);
	if (backlog > 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) ret, &len), 0);
	return fd;
}

static void open_one(int *held, unsigned *seed)
{
	const bool refused = rand_r(seed) % 4 == 0;
	const int flags = rand_r(seed) % 2 ? SOCK_NONBLOCK : 0;
	const struct sockaddr_in *to = refused ? &refusing : &healthy;

	*held = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (*held >= 0)
		(void) connect(*held, (const struct sockaddr *) to, sizeof(*to));
}

static void fork_briefly(void)
{
	const pid_t child = fork();

	if (child == 0)
		_exit(0);
	if (child > 0)
		(void) waitpid(child, NULL, 0);
}

/* One random act upon one or two of the thread's descriptors. */
static void act(int held[HELD], unsigned *seed)
{
	int *const a = &held[rand_r(seed) % HELD], *const b = &held[rand_r(seed) % HELD];
	int value;
	socklen_t len = sizeof(value);
	const char *const text = said[rand_r(seed) % (sizeof(said) / sizeof(said[0]))];
	char bytes[64];

	if (*a < 0) {
		open_one(a, seed);
		return;
	}
	switch (rand_r(seed) % 12) {
	case 0:
	case 1:
		(void) send(*a, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 2:
	case 3:
		(void) recv(*a, bytes, sizeof(bytes), MSG_DONTWAIT);
		break;
	case 4:
		(void) getsockopt(*a, SOL_SOCKET, SO_ERROR, &value, &len);
		break;
	case 5:
		(void) shutdown(*a, rand_r(seed) % 3);
		break;
	case 6:
		if (*b < 0)
			*b = rand_r(seed) % 2 ? dup(*a) : fcntl(*a, F_DUPFD_CLOEXEC, 3);
		break;
	case 7:
		if (*b >= 0)
			(void) dup2(*a, *b);
		break;
	case 8:
		(void) close_range((unsigned) *a, (unsigned) *a, 0);
		*a = -1;
		break;
	case 9:
		if (rand_r(seed) % 50 == 0)
			fork_briefly();
		break;
	default:
		(void) close(*a);
		*a = -1;
	}
}

static void close_all(int held[HELD])
{
	for (int i = 0; i < HELD; i++)
		if (held[i] >= 0)
			(void) close(held[i]);
}

static void *juggle(void *arg)
{
	unsigned seed = (unsigned) (uintptr_t) arg;
	int held[HELD];

	for (int i = 0; i < HELD; i++)
		held[i] = -1;
	for (int i = 0; i < ROUNDS; i++)
		act(held, &seed);
	close_all(held);
	return NULL;
}

/*
 * The same upon descriptors that all threads have in their hands: numbers are closed under
 * others' calls and come back as other connections. No program should, some do.
 */
static int common[HELD];

static void *quarrel(void *arg)
{
	unsigned seed = (unsigned) (uintptr_t) arg;

	for (int i = 0; i < ROUNDS; i++) {
		int held[HELD];

		for (int k = 0; k < HELD; k++)
			held[k] = __atomic_load_n(&common[k], __ATOMIC_RELAXED);
		act(held, &seed);
		for (int k = 0; k < HELD; k++)
			__atomic_store_n(&common[k], held[k], __ATOMIC_RELAXED);
	}
	return NULL;
}

/* The state of the one service in AGENTSHIM_DIR, as the shim in this process keeps it. */
static const struct state *read_state(void)
{
	static char buf[SEGMENT_BODY_OFFSET + sizeof(struct state)] __attribute__((aligned(64)));
	char path[512];

	(void) snprintf(path, sizeof(path), "cat %s/*.v*.state", getenv("AGENTSHIM_DIR"));

	FILE *f = popen(path, "r");

	assert_non_null(f);
	assert_int_equal(fread(buf, 1, sizeof(buf), f), sizeof(buf));
	(void) pclose(f);
	return (const struct state *) (buf + SEGMENT_BODY_OFFSET);
}

static void run(void *(*how)(void *))
{
	pthread_t threads[THREADS];
	/* A full backlog drops the SYN, and the next comes a second later. */
	const int listener = bound(&healthy, 4096), closed = bound(&refusing, 0);
	const unsigned last = (unsigned) (listener > closed ? listener : closed);
	const pid_t server = fork();

	assert_true(server >= 0);
	if (server == 0)
		serve(listener);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, how, (void *) (i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_int_equal(close_range(last + 1, ~0U, 0), 0);
	(void) close(closed);
	(void) close(listener);
}

/* Every breaker's books balance; @peers of them have been written since the start. */
static void check_accounts(int peers)
{
	const struct state *s = read_state();
	uint64_t requests = 0;
	int breakers = 0;

	for (uint32_t i = 0; i < STATE_SLOTS; i++) {
		char peer[STATE_PEER_SIZE];
		struct breaker_counts c;
		struct state_ref ref;

		if (!state_read(s, i, peer, &ref))
			continue;
		assert_int_equal(breaker_peek(&s->slots[i].breaker, NULL, &c), BREAKER_CLOSED);
		print_message("# %s: %lu requests, %lu successes, %lu failures, %lu excluded\n",
			      peer, c.requests, c.successes, c.failures, c.exclusions);
		assert_int_equal(c.requests, c.successes + c.failures + c.exclusions);
		assert_int_equal(breaker_totals(&s->slots[i].breaker).stale, 0);
		requests += c.requests;
		breakers++;
	}
	assert_int_equal(breakers, peers);
	assert_true(requests > THREADS * 100);
}

static void every_admitted_call_ends_exactly_once(void **unused)
{
	(void) unused;
	run(juggle);
	check_accounts(2);
}

static void so_it_does_when_threads_close_each_others_descriptors(void **unused)
{
	(void) unused;
	for (int i = 0; i < HELD; i++)
		common[i] = -1;
	run(quarrel);
	check_accounts(4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_admitted_call_ends_exactly_once),
		cmocka_unit_test(so_it_does_when_threads_close_each_others_descriptors),
	};
	char dir[] = "/tmp/agentshim-accounts-XXXXXX";

	/* A second run of this program is the test: the shim reads its settings at load. */
	if (getenv("AGENTSHIM_DIR") == NULL) {
		if (mkdtemp(dir) == NULL || setenv("AGENTSHIM_DIR", dir, 1) != 0 ||
		    setenv("AGENTSHIM_INTERVAL", "0", 1) != 0 ||
		    setenv("AGENTSHIM_CONSECUTIVE_FAILURES", "0", 1) != 0)
			return 1;
		(void) execl("/proc/self/exe", "test_shim_accounts", (char *) NULL);
		return 1;
	}

	const int failed = cmocka_run_group_tests(tests, NULL, NULL);
	char command[512];

	(void) snprintf(command, sizeof(command), "rm -r %s", getenv("AGENTSHIM_DIR"));
	return system(command) == 0 && failed == 0 ? 0 : 1;
}
