/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes are sacred, by the kernel's own account: small buffers and a slow reader, writers of
 * all manners, threads, forks, jumps, and descriptors that change hands behind our back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/preload/host.h"
#include "tests/preload/hosts/stingy.h"
#include "tests/preload/streams.h"

#define WIRE_SIZE (4 << 20)
#define HEAD      "GET /a HTTP/1.1\r\nHost: a\r\n"
#define BLANK     (sizeof(HEAD) - 1)
#define BLOCK     (70 + 57) /* traceparent and b3, a line each */

static struct stingy *stingy;
static struct peer server, narrow;
static char wire[WIRE_SIZE];
static uint64_t seed = 1;

static int connected(const struct peer *p, int *ret_peer)
{
	const int fd = tcp_connected(p);

	*ret_peer = peer_accept(p);
	assert_true(*ret_peer >= 0);
	return fd;
}

static long raw_recv(int fd, void *buf, size_t len, int flags)
{
	return past_hooks(SYS_recvfrom, fd, (long) buf, (long) len, flags, 0, 0);
}

/* What is there by now, and what comes at once: Nagle and pacing may keep the end back. */
static size_t drained(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	size_t got = 0;
	long n;

	do {
		while ((n = raw_recv(fd, wire + got, WIRE_SIZE - got, MSG_DONTWAIT)) > 0)
			got += (size_t) n;
	} while (n < 0 && poll(&ready, 1, 60) == 1);
	return got;
}

static void assert_wire(const struct stream *s, size_t n, bool whole, bool maybe)
{
	size_t at;
	const bool bare = getenv("AGENTSHIM_DISABLE") != NULL; /* for comparison */
	const char *wrong = stream_check(s, wire, n, whole, maybe || bare, NULL, &at);

	if (wrong == NULL)
		return;
	print_message("# %s, byte %zu of %zu: …%.*s\n", wrong, at, n, (int) (n - at < 60 ? n - at : 60),
		      wire + at);
	fail();
}

/* ---- small buffers, a slow reader ---- */

struct reader {
	int fd;
	size_t got;
	uint64_t seed;
};

static void *read_slowly(void *arg)
{
	struct reader *r = arg;
	struct random random = { r->seed };
	long n;

	do {
		const size_t len = random_within(&random, 1, random_below(&random, 3) == 0 ? 40 : 9000);

		for (size_t i = random_below(&random, 4); i > 0; i--)
			sched_yield();
		n = raw_recv(r->fd, wire + r->got, len < WIRE_SIZE - r->got ? len : WIRE_SIZE - r->got, 0);
		r->got += n > 0 ? (size_t) n : 0;
	} while (n > 0);
	return NULL;
}

enum manner { LEVEL, EDGE, BY_POLL, BLOCKING, TIMED, MANNERS };

static const char *const manners[] = { "epoll", "epoll, edge-triggered", "poll", "blocking",
				       "blocking with SO_SNDTIMEO" };

static bool await(enum manner manner, int fd, int epfd)
{
	struct epoll_event e;
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	switch (manner) {
	case LEVEL:
	case EDGE:
		return epoll_wait(epfd, &e, 1, 10000) == 1;
	case BY_POLL:
		return poll(&p, 1, 10000) == 1;
	default:
		return true;
	}
}

static ssize_t send_some(int fd, struct random *r, const char *bytes, size_t n)
{
	struct iovec v[4];
	const size_t a = random_below(r, n + 1), b = random_below(r, n - a + 1);
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = 3 };

	v[0] = (struct iovec) { (void *) bytes, a };
	v[1] = (struct iovec) { (void *) (bytes + a), b };
	v[2] = (struct iovec) { (void *) (bytes + a + b), n - a - b };
	switch (random_below(r, 4)) {
	case 0:
		return write(fd, bytes, n);
	case 1:
		return writev(fd, v, 3);
	case 2:
		return send(fd, bytes, n, MSG_NOSIGNAL);
	default:
		return sendmsg(fd, &msg, 0);
	}
}

static uint64_t slow_stream(enum manner manner, uint64_t number)
{
	const struct timeval soon = { .tv_usec = 2000 };
	struct random random = { number };
	struct stream s = { 0 };
	struct reader reader = { .seed = number };
	int size = 1, epfd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLOUT | (manner == EDGE ? EPOLLET : 0) };
	pthread_t thread;
	size_t sent = 0;

	stream_make(&s, &random, 6, STREAM_BIG | STREAM_SOUND);

	const int fd = connected(&narrow, &reader.fd);

	(void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (manner < BLOCKING)
		(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	if (manner == TIMED)
		(void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
	(void) epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
	assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);

	const uint64_t begun = clock_now();

	while (sent < s.len) {
		const size_t most = s.len - sent;
		const size_t n = random_below(&random, 3) == 0 ? most : random_within(&random, 1, most);
		const ssize_t rc = send_some(fd, &random, s.bytes + sent, n);

		assert_true(rc != 0 && rc <= (ssize_t) n);
		if (rc > 0)
			sent += (size_t) rc;
		if (rc == (ssize_t) n)
			continue;
		assert_true(rc > 0 || errno == EAGAIN);
		/* As nginx does: what went in part is not tried again until there is news. */
		if (!await(manner, fd, epfd)) {
			print_message("# %s, stream %ju: nobody woke us, %zu of %zu\n", manners[manner],
				      (uintmax_t) number, sent, s.len);
			fail();
		}
	}

	const uint64_t took = clock_now() - begun;

	(void) close(fd);
	(void) pthread_join(thread, NULL);
	(void) raw_close(reader.fd);
	(void) raw_close(epfd);
	assert_wire(&s, reader.got, true, false);
	stream_free(&s);
	return took;
}

static void small_buffers_hold_up_nobody(void **state)
{
	(void) state;
	for (enum manner m = LEVEL; m < MANNERS; m++) {
		uint64_t worst = 0;

		for (uint64_t i = 0; i < 8; i++) {
			const uint64_t took = slow_stream(m, seed * 100 + i);

			worst = took > worst ? took : worst;
		}
		print_message("# %s: at most %ju ms\n", manners[m], (uintmax_t) (worst / NS_PER_MS));
	}
}

/* ---- threads ---- */

struct pair {
	int fd, number;
	pthread_barrier_t *together;
};

#define TURNS 400

static void *send_requests(void *arg)
{
	const struct pair *p = arg;
	char text[128];

	(void) pthread_barrier_wait(p->together);
	for (int i = 0; i < TURNS; i++) {
		const int n = snprintf(text, sizeof(text), "GET /%d/%d HTTP/1.1\r\nHost: t\r\n\r\n",
				       p->number, i);

		for (int at = 0; at < n;) {
			const ssize_t rc = send(p->fd, text + at, (size_t) (n - at), MSG_NOSIGNAL);

			if (rc > 0)
				at += (int) rc;
			else if (rc == 0 || (errno != EAGAIN && errno != EINTR))
				return (void *) 1;
		}
	}
	return NULL;
}

/* One of the requests, maybe with a block; returns its length, 0 when it is none. */
static size_t request_at(const char *at, size_t n, int next[2])
{
	char text[128];
	struct stream s = { 0 };
	size_t len = 0, where;

	for (int who = 0; who < 2 && len == 0; who++) {
		(void) snprintf(text, sizeof(text), "GET /%d/%d HTTP/1.1\r\nHost: t\r\n\r\n", who,
				next[who]);
		stream_clear(&s);
		stream_head(&s, BLOCK_MAYBE, text);
		for (size_t extra = 0; extra <= BLOCK && len == 0; extra += BLOCK) {
			const size_t all = s.len + extra;

			if (all <= n && stream_check(&s, at, all, true, false, NULL, &where) == NULL) {
				len = all;
				next[who]++;
			}
		}
	}
	stream_free(&s);
	return len;
}

static void two_writers(bool waits)
{
	pthread_barrier_t together;
	pthread_t threads[2];
	struct pair pairs[2];
	int peer, next[2] = { 0, 0 };
	void *result;
	const int fd = connected(&server, &peer);
	size_t got, at = 0, len;

	if (!waits)
		(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	(void) pthread_barrier_init(&together, NULL, 2);
	for (int i = 0; i < 2; i++) {
		pairs[i] = (struct pair) { fd, i, &together };
		assert_int_equal(pthread_create(&threads[i], NULL, send_requests, &pairs[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		(void) pthread_join(threads[i], &result);
		assert_null(result);
	}
	got = drained(peer);
	while (at < got && (len = request_at(wire + at, got - at, next)) > 0)
		at += len;
	if (at < got)
		print_message("# at %zu of %zu: %.100s\n", at, got, wire + at);
	assert_int_equal(at, got);
	assert_int_equal(next[0] + next[1], 2 * TURNS);
	(void) close(fd);
	(void) raw_close(peer);
}

static void two_threads_on_one_stream(void **state)
{
	(void) state;
	for (int i = 0; i < 10; i++) {
		two_writers(true);
		two_writers(false);
	}
}

/* A writer waits with our fields cut; another thread's bytes do not come between them. */
struct writer {
	int fd;
	const char *bytes;
	size_t len;
	ssize_t rc;
	int error;
	_Atomic bool done;
};

static void *write_once(void *arg)
{
	struct writer *w = arg;

	w->rc = send(w->fd, w->bytes, w->len, MSG_NOSIGNAL);
	w->error = errno;
	atomic_store(&w->done, true);
	return NULL;
}

static struct stream one_head(void)
{
	struct stream s = { 0 };

	stream_head(&s, BLOCK_WHOLE, HEAD "\r\n");
	return s;
}

/* The kernel takes @n bytes of what goes over @fd. */
static void allow(int fd, size_t n)
{
	stingy->counts = true;
	stingy->budget = n;
	stingy->strict = stingy->broken = false;
	stingy->pauses = false;
	stingy->fatal = 0;
	stingy->fd = fd;
}

static void allow_all(void)
{
	stingy->fd = -1;
	stingy->pauses = false;
}

/* Sends the head, of which the kernel takes all but the end of our block and what follows. */
static void leave_tail(int fd)
{
	allow(fd, BLANK + 50);
	assert_int_equal(send(fd, HEAD "\r\n", BLANK + 2, MSG_DONTWAIT), BLANK);
}

static void the_tail_goes_before_another_threads_bytes(void **state)
{
	struct stream s = one_head();
	struct writer other = { .bytes = "\r\n", .len = 2 };
	pthread_t thread;
	int peer;

	(void) state;
	other.fd = connected(&server, &peer);
	leave_tail(other.fd);
	/* Not while it cannot go … */
	assert_int_equal(send(other.fd, "\r\n", 2, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	allow_all();
	assert_int_equal(pthread_create(&thread, NULL, write_once, &other), 0);
	(void) pthread_join(thread, NULL);
	assert_int_equal(other.rc, 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(other.fd);
	(void) raw_close(peer);
	stream_free(&s);
}

static void nothing(int sig)
{
	(void) sig;
}

/* While one thread is in a call another's bytes go by: what they were is not guessed at. */
static void what_went_by_is_not_guessed_at(void **state)
{
	static const char post[] = "POST / HTTP/1.1\r\nContent-Length: 22\r\n\r\n";
	static const char body[] = "GET / HTTP/1.1\r\nH: h\r\n\r\n";
	const struct sigaction action = { .sa_handler = nothing };
	struct stream s = { 0 };
	struct writer waits = { .bytes = HEAD "\r\n", .len = BLANK + 2 };
	pthread_t thread;
	int peer;

	(void) state;
	(void) sigaction(SIGUSR1, &action, NULL);
	waits.fd = connected(&server, &peer);
	allow(waits.fd, 0);
	stingy->waits = false;
	stingy->pauses = true;
	assert_int_equal(pthread_create(&thread, NULL, write_once, &waits), 0);
	while (!stingy->waits)
		sched_yield();
	stingy->fd = -1;
	assert_int_equal(write(waits.fd, post, sizeof(post) - 1), sizeof(post) - 1);
	stingy->pauses = false;
	while (!atomic_load(&waits.done)) {
		(void) pthread_kill(thread, SIGUSR1);
		sched_yield();
	}
	(void) pthread_join(thread, NULL);
	assert_int_equal(waits.rc, -1);
	assert_int_equal(waits.error, EAGAIN);
	assert_int_equal(write(waits.fd, body, sizeof(body) - 1), sizeof(body) - 1);
	stream_add(&s, "%s%s", post, body);
	assert_wire(&s, drained(peer), true, false);
	(void) close(waits.fd);
	(void) raw_close(peer);
	stream_free(&s);
}

/* ---- zero-copy ---- */

static unsigned notices(int fd)
{
	unsigned n = 0;

	for (;;) {
		char control[128];
		struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };

		if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			return n;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
			struct sock_extended_err e;

			(void) memcpy(&e, CMSG_DATA(c), sizeof(e));
			if (e.ee_origin == SO_EE_ORIGIN_ZEROCOPY)
				n += e.ee_data - e.ee_info + 1;
		}
	}
}

static void every_zero_copy_call_has_one_notice(void **state)
{
	struct random random = { seed };
	int on = 1;

	(void) state;
	for (int i = 0; i < 60; i++) {
		struct stream s = { 0 };
		struct random r = { random_next(&random) };
		unsigned calls = 0, seen = 0;
		size_t sent = 0, got = 0;
		int peer;
		const int fd = connected(&server, &peer);

		stream_make(&s, &r, 6, STREAM_SOUND | (i % 3 == 0 ? STREAM_BIG : 0));
		need(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) == 0,
		     "capability missing: SO_ZEROCOPY");
		(void) fcntl(fd, F_SETFL, O_NONBLOCK);
		if (i % 2 == 1)
			(void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &on, sizeof(on));
		while (sent < s.len || got < sent) {
			const size_t n = sent < s.len ? random_within(&r, 1, s.len - sent) : 0;
			const ssize_t rc = n > 0 ? send(fd, s.bytes + sent, n, MSG_ZEROCOPY) : -1;
			long m;

			calls += rc > 0;
			sent += rc > 0 ? (size_t) rc : 0;
			m = raw_recv(peer, wire + got, random_within(&r, 1, 20000), MSG_DONTWAIT);
			got += m > 0 ? (size_t) m : 0;
			seen += notices(fd);
			if (sent == s.len && m <= 0)
				break;
		}
		for (int tries = 0; seen < calls && tries < 200; tries++) {
			struct pollfd p = { .fd = fd };

			(void) poll(&p, 1, 10); /* POLLERR when there is one */
			for (long m; (m = raw_recv(peer, wire + got, WIRE_SIZE - got, MSG_DONTWAIT)) > 0;)
				got += (size_t) m;
			seen += notices(fd);
		}
		assert_int_equal(seen, calls);
		(void) close(fd);
		for (long m; (m = raw_recv(peer, wire + got, WIRE_SIZE - got, 0)) > 0;)
			got += (size_t) m;
		assert_wire(&s, got, true, false);
		(void) raw_close(peer);
		stream_free(&s);
	}
}

/* ---- what comes after a head that the kernel cut in our fields ---- */

static int file_of(const char *text)
{
	const int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, text, strlen(text), 0), (ssize_t) strlen(text));
	return fd;
}

static void a_file_waits_for_the_tail(void **state)
{
	struct stream s = one_head();
	const int file = file_of("\r\n");
	off_t at = 0;
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	leave_tail(fd);
	assert_int_equal(sendfile(fd, file, &at, 2), -1);
	assert_int_equal(errno, EAGAIN);
	allow_all();
	assert_int_equal(sendfile(fd, file, &at, 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) close(file);
	(void) raw_close(peer);
	stream_free(&s);
}

static void a_file_after_a_head_is_its_body(void **state)
{
	struct stream s = { 0 };
	const int file = file_of("GET /decoy HTTP/1.1\r\n\r\n");
	off_t at = 0;
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	stream_head(&s, BLOCK_WHOLE, "PUT / HTTP/1.1\r\nContent-Length: 23\r\n\r\n");
	stream_add(&s, "GET /decoy HTTP/1.1\r\n\r\n");
	assert_int_equal(send(fd, s.bytes, s.len - 23, MSG_MORE), (ssize_t) s.len - 23);
	assert_int_equal(sendfile(fd, file, &at, 23), 23);

	const size_t first = s.len;

	stream_head(&s, BLOCK_WHOLE, HEAD "\r\n");
	assert_int_equal(write(fd, s.bytes + first, s.len - first), (ssize_t) (s.len - first));
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) close(file);
	(void) raw_close(peer);
	stream_free(&s);
}

static void syscall_waits_for_the_tail(void **state)
{
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	leave_tail(fd);
	allow_all();
	assert_int_equal(syscall(SYS_write, fd, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

/* The answers cannot be followed any more; the rest of our fields is due all the same. */
static void a_tail_outlives_our_interest(void **state)
{
	static const char answer[] = "this is no HTTP\r\n";
	struct stream s = one_head();
	char buf[64];
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	leave_tail(fd);
	assert_int_equal(past_hooks(SYS_write, peer, (long) answer, sizeof(answer), 0, 0, 0),
			 sizeof(answer));
	assert_int_equal(read(fd, buf, sizeof(buf)), sizeof(answer));
	allow_all();
	assert_int_equal(write(fd, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

static void nothing_is_left_half_at_the_end(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++) {
		struct stream s = one_head();
		int peer;
		const int fd = connected(&server, &peer);

		s.len = s.heads[0].end = s.heads[0].blank;
		leave_tail(fd);
		allow_all();
		if (i == 0)
			(void) close(fd);
		else
			assert_int_equal(shutdown(fd, SHUT_WR), 0);
		assert_int_equal(drained(peer), BLANK + BLOCK);
		if (i == 1)
			(void) close(fd);
		(void) raw_close(peer);
		stream_free(&s);
	}
}

static void a_copy_of_the_descriptor_goes_on(void **state)
{
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer), copy = dup(fd);

	(void) state;
	leave_tail(fd);
	allow_all();
	(void) close(fd);
	assert_int_equal(write(copy, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(copy);
	(void) raw_close(peer);
	stream_free(&s);
}

/* ---- fork in the middle ---- */

static int finish_head(void *arg)
{
	CHECK(write(*(int *) arg, "\r\n", 2) == 2);
	return 0;
}

static void whoever_goes_on_sends_the_tail(void **state)
{
	(void) state;
	for (int who = 0; who < 2; who++) {
		struct stream s = one_head();
		int peer, fd = connected(&server, &peer);

		leave_tail(fd);
		allow_all();
		if (who == 0)
			assert_int_equal(child_status(finish_head, &fd), 0);
		else
			assert_int_equal(write(fd, "\r\n", 2), 2);
		/* The other one adds what it likes. */
		stream_add(&s, "GET / HTTP/1.1\r\n");
		if (who == 0) {
			assert_int_equal(write(fd, "GET / HTTP/1.1\r\n", 16), 16);
		} else {
			const pid_t pid = fork();

			if (pid == 0)
				_exit(write(fd, "GET / HTTP/1.1\r\n", 16) != 16);
			assert_int_equal(wait_status(pid), 0);
		}
		assert_wire(&s, drained(peer), true, false);
		(void) close(fd);
		(void) raw_close(peer);
		stream_free(&s);
	}
}

static void two_processes_send_one_tail(void **state)
{
	struct stream s = one_head();
	int go[2], peer, status;
	const int fd = connected(&server, &peer);
	char byte;

	(void) state;
	leave_tail(fd);
	assert_int_equal(pipe(go), 0);

	const pid_t pid = fork();

	if (pid == 0) { /* it has a tail of its own now */
		allow_all();
		(void) !read(go[0], &byte, 1);
		_exit(write(fd, "GET / HTTP/1.1\r\n", 16) != 16);
	}
	allow_all();
	assert_int_equal(write(fd, "\r\n", 2), 2);
	assert_int_equal(write(go[1], "", 1), 1);
	status = wait_status(pid);
	assert_int_equal(status, 0);
	stream_add(&s, "GET / HTTP/1.1\r\n");
	assert_wire(&s, drained(peer), true, false);
	(void) close(go[0]);
	(void) close(go[1]);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

/* ---- closed behind our back ---- */

/* A connection under @fd's number that no hook saw. */
static int stranger_under(int fd, int *ret_peer)
{
	const int other = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	assert_int_equal(past_hooks(SYS_connect, other, (long) &server.addr, sizeof(server.addr), 0, 0,
				    0), 0);
	*ret_peer = peer_accept(&server);
	assert_int_equal(past_hooks(SYS_dup3, other, fd, 0, 0, 0, 0), fd);
	(void) raw_close(other);
	return fd;
}

static void a_stranger_gets_its_own_bytes(const char *begun, size_t allowed, const char *rest)
{
	int peer, other;
	const int fd = connected(&server, &peer);
	const size_t len = strlen(rest);

	if (allowed > 0)
		allow(fd, allowed);
	(void) send(fd, begun, strlen(begun), MSG_DONTWAIT);
	allow_all();
	(void) stranger_under(fd, &other);
	assert_int_equal(write(fd, rest, len), (ssize_t) len);
	assert_int_equal(drained(other), len);
	assert_memory_equal(wire, rest, len);
	assert_int_equal(write(fd, rest, len), (ssize_t) len);
	assert_int_equal(drained(other), len);
	(void) close(fd);
	(void) raw_close(peer);
	(void) raw_close(other);
}

static void strangers_get_their_own_bytes(void **state)
{
	(void) state;
	a_stranger_gets_its_own_bytes(HEAD "\r\n", BLANK + 50, "\r\n");          /* a tail */
	a_stranger_gets_its_own_bytes(HEAD "\r\n", BLANK + 50, "GET / HTTP/1.1\r\n\r\n");
	a_stranger_gets_its_own_bytes("GET / HT", 0, "TP/1.1\r\n\r\n");          /* in a head */
	a_stranger_gets_its_own_bytes(HEAD "\r\n", 0, HEAD "\r\n" HEAD "\r\n");  /* between two */
}

static void a_file_under_the_number_gets_its_own_bytes(void **state)
{
	int peer;
	const int fd = connected(&server, &peer), file = memfd_create("file", MFD_CLOEXEC);
	char buf[64];

	(void) state;
	leave_tail(fd);
	allow_all();
	assert_int_equal(past_hooks(SYS_dup3, file, fd, 0, 0, 0, 0), fd);
	assert_int_equal(write(fd, "\r\nabc", 5), 5);
	assert_int_equal(write(fd, HEAD "\r\n", BLANK + 2), BLANK + 2);
	assert_int_equal(pread(file, buf, sizeof(buf), 0), 5 + BLANK + 2);
	assert_memory_equal(buf, "\r\nabc" HEAD "\r\n", 5 + BLANK + 2);
	(void) close(fd);
	(void) raw_close(file);
	(void) raw_close(peer);
}

/* ---- calls that do not return ---- */

static sigjmp_buf out;

static void jump(int sig)
{
	(void) sig;
	siglongjmp(out, 1);
}

static void on_timer(void (*handler)(int))
{
	const struct itimerval soon = { .it_value.tv_usec = 20000 };
	struct sigaction action = { .sa_handler = handler };

	(void) sigaction(SIGVTALRM, &action, NULL);
	(void) sigaction(SIGALRM, &action, NULL);
	(void) setitimer(ITIMER_REAL, &soon, NULL);
}

/* How long a later call may take that has nothing to wait for. */
static ssize_t in_time(int fd, const char *bytes, size_t len)
{
	struct writer w = { .fd = fd, .bytes = bytes, .len = len };
	struct timespec late;
	pthread_t thread;

	(void) clock_gettime(CLOCK_REALTIME, &late);
	late.tv_sec += 5;
	assert_int_equal(pthread_create(&thread, NULL, write_once, &w), 0);
	assert_int_equal(pthread_timedjoin_np(thread, NULL, &late), 0);
	return w.rc;
}

static void a_jump_out_of_a_waiting_tail(void **state)
{
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	leave_tail(fd);
	allow(fd, 30); /* of the tail; then the call waits */
	stingy->pauses = true;
	on_timer(jump);
	if (sigsetjmp(out, 1) == 0) {
		(void) write(fd, "\r\n", 2);
		fail();
	}
	allow_all();
	/* Nothing of what the program sent went, and the kernel knows how much of ours did. */
	assert_int_equal(in_time(fd, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

static void fill(int fd)
{
	static char much[1 << 16];

	(void) memset(much, 'x', sizeof(much));
	while (past_hooks(SYS_sendto, fd, (long) much, sizeof(much), MSG_DONTWAIT, 0, 0) > 0)
		;
}

/* The peer reads all that there is, and what the program sends then comes as it is. */
static void goes_on(int fd, int peer, const char *text)
{
	struct reader reader = { .fd = peer, .seed = 1 };
	const size_t len = strlen(text);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
	assert_int_equal(in_time(fd, text, len), (ssize_t) len);
	assert_int_equal(in_time(fd, text, len), (ssize_t) len);
	(void) close(fd);
	(void) pthread_join(thread, NULL);
	assert_true(reader.got > 2 * len);
	assert_memory_equal(wire + reader.got - len, text, len);
	assert_memory_equal(wire + reader.got - 2 * len, text, len);
	(void) raw_close(peer);
}

static void a_jump_out_of_a_waiting_send(void **state)
{
	static char body[1 << 20];
	int peer;
	const int fd = connected(&narrow, &peer);

	(void) state;
	assert_int_equal(send(fd, "PUT / HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n", 43, 0), 43);
	on_timer(jump);
	if (sigsetjmp(out, 1) == 0) {
		while (write(fd, body, sizeof(body)) > 0)
			;
		fail();
	}
	/* What comes after it goes as it is. */
	goes_on(fd, peer, "GET / HTTP/1.1\r\n\r\n");
}

static void *write_for_ever(void *arg)
{
	struct writer *w = arg;

	for (;;)
		(void) send(w->fd, w->bytes, w->len, 0);
	return NULL;
}

static void cancelled(int fd, const char *bytes, size_t len)
{
	struct writer w = { .fd = fd, .bytes = bytes, .len = len };
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, write_for_ever, &w), 0);
	for (int i = 0; i < 200; i++)
		sched_yield();
	(void) poll(NULL, 0, 5); /* it is in the call by then, or will be cancelled at its start */
	(void) pthread_cancel(thread);
	(void) pthread_join(thread, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
}

static void a_thread_cancelled_in_a_send(void **state)
{
	struct stream s = one_head();
	int peer;
	int fd = connected(&server, &peer);

	(void) state;
	leave_tail(fd);
	allow(fd, 30);
	stingy->pauses = true;
	cancelled(fd, "\r\n", 2);
	allow_all();
	assert_int_equal(in_time(fd, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);

	fd = connected(&narrow, &peer);
	fill(fd);
	cancelled(fd, HEAD "\r\n", BLANK + 2);
	goes_on(fd, peer, "x");
}

/* ---- arguments that are no good ---- */

/* Nothing is sent, and nothing is lost of what comes. */
static void calls_of_nothing_are_nothing(void **state)
{
	const struct msghdr msg = { 0 };
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	assert_int_equal(sendmsg(fd, &msg, 0), 0);
	assert_int_equal(writev(fd, NULL, 0), 0);
	assert_int_equal(send(fd, "", 0, 0), 0);
	assert_int_equal(send(fd, s.bytes, 10, 0), 10);
	assert_int_equal(sendmsg(fd, &msg, 0), 0);
	assert_int_equal(send(fd, s.bytes + 10, s.len - 10, 0), (ssize_t) s.len - 10);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

/* Of a connection that is there Fast Open makes nothing else. */
static void fast_open_on_a_connection_is_the_kernels(void **state)
{
	struct stream s = one_head();
	int peer, peer2;
	const int fd = connected(&server, &peer);
	int bare = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	(void) state;
	assert_int_equal(past_hooks(SYS_connect, bare, (long) &server.addr, sizeof(server.addr), 0, 0, 0),
			 0);
	peer2 = peer_accept(&server);

	const long told = past_hooks(SYS_sendto, bare, (long) s.bytes, (long) s.len,
				     MSG_FASTOPEN | MSG_NOSIGNAL, (long) &server.addr,
				     sizeof(server.addr));
	const ssize_t rc = sendto(fd, s.bytes, s.len, MSG_FASTOPEN | MSG_NOSIGNAL,
				  (const struct sockaddr *) &server.addr, sizeof(server.addr));

	assert_int_equal(rc < 0 ? -errno : rc, told);
	(void) raw_close(bare);
	(void) raw_close(peer2);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

static void bad_addresses_are_the_kernels(void **state)
{
	const struct iovec v = { (void *) -1, 5 };
	const struct msghdr msg = { .msg_iov = (struct iovec *) -1, .msg_iovlen = 1 };
	const struct msghdr to = { .msg_iov = (struct iovec *) &v, .msg_iovlen = 1 };
	void *nowhere = NULL;
	size_t too_many = SIZE_MAX / 2 + 2;
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	assert_int_equal(write(fd, *(void *volatile *) &nowhere, 5), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(send(fd, (void *) -1, 5, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(writev(fd, (struct iovec *) -1, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(writev(fd, &v, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(sendmsg(fd, &to, 0), -1);
	assert_int_equal(errno, EFAULT);
	stingy->fd = -1;
	assert_int_equal(write(fd, s.bytes, *(volatile size_t *) &too_many), -1);
	assert_int_equal(sendmsg(fd, &msg, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(sendmsg(fd, (struct msghdr *) -1, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(sendmmsg(fd, (struct mmsghdr *) -1, 1, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(drained(peer), 0);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

/* ---- handlers and vfork children ---- */

static int busy;

static void send_from_handler(int sig)
{
	const int error = errno;

	(void) sig;
	(void) !write(busy, "GET /h HTTP/1.1\r\n\r\n", 19);
	errno = error;
}

/* The handler sends whole requests between others'; wherever it strikes, they stay whole. */
static void a_handler_sends_in_the_middle_of_us(void **state)
{
	const struct itimerval often = { .it_interval.tv_usec = 300, .it_value.tv_usec = 300 };
	const struct itimerval never = { 0 };
	struct sigaction action = { .sa_handler = send_from_handler, .sa_flags = SA_RESTART };
	size_t got, at = 0;
	int peer;

	(void) state;
	busy = connected(&server, &peer);
	(void) sigaction(SIGPROF, &action, NULL);
	(void) setitimer(ITIMER_PROF, &often, NULL);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(write(busy, HEAD "\r\n", BLANK + 2), BLANK + 2);
	(void) setitimer(ITIMER_PROF, &never, NULL);
	got = drained(peer);
	while (at < got) {
		struct stream s = { 0 };
		const bool theirs = strncmp(wire + at, "GET /h", 6) == 0;
		size_t where, len = theirs ? 19 : BLANK + 2;

		stream_head(&s, BLOCK_MAYBE, theirs ? "GET /h HTTP/1.1\r\n\r\n" : HEAD "\r\n");
		if (at + len > got || stream_check(&s, wire + at, len, true, false, NULL, &where) != NULL)
			len += BLOCK;
		assert_true(at + len <= got);
		assert_null(stream_check(&s, wire + at, len, true, false, NULL, &where));
		at += len;
		stream_free(&s);
	}
	(void) close(busy);
	(void) raw_close(peer);
}

static void a_vfork_child_in_the_middle(void **state)
{
	struct stream s = one_head();
	int peer;
	const int fd = connected(&server, &peer);

	(void) state;
	leave_tail(fd);
	allow_all();

	const pid_t pid = vfork();

	if (pid == 0) {
		(void) close(fd); /* its copy; ours goes on */
		_exit(0);
	}
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(write(fd, "\r\n", 2), 2);
	assert_wire(&s, drained(peer), true, false);
	(void) close(fd);
	(void) raw_close(peer);
	stream_free(&s);
}

static int before;

static void descriptors_stay(void **state)
{
	(void) state;
	assert_int_equal(count_descriptors(), before);
}

int main(int argc, char **argv)
{
	static const char *const settings[] = {
		"AGENTSHIM_MODE=observe",
		"OTEL_PROPAGATORS=tracecontext,baggage,b3",
		NULL,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_buffers_hold_up_nobody),
		cmocka_unit_test(two_threads_on_one_stream),
		cmocka_unit_test(the_tail_goes_before_another_threads_bytes),
		cmocka_unit_test(what_went_by_is_not_guessed_at),
		cmocka_unit_test(every_zero_copy_call_has_one_notice),
		cmocka_unit_test(a_file_waits_for_the_tail),
		cmocka_unit_test(a_file_after_a_head_is_its_body),
		cmocka_unit_test(syscall_waits_for_the_tail),
		cmocka_unit_test(a_tail_outlives_our_interest),
		cmocka_unit_test(nothing_is_left_half_at_the_end),
		cmocka_unit_test(a_copy_of_the_descriptor_goes_on),
		cmocka_unit_test(whoever_goes_on_sends_the_tail),
		cmocka_unit_test(two_processes_send_one_tail),
		cmocka_unit_test(strangers_get_their_own_bytes),
		cmocka_unit_test(a_file_under_the_number_gets_its_own_bytes),
		cmocka_unit_test(a_jump_out_of_a_waiting_tail),
		cmocka_unit_test(a_jump_out_of_a_waiting_send),
		cmocka_unit_test(a_thread_cancelled_in_a_send),
		cmocka_unit_test(calls_of_nothing_are_nothing),
		cmocka_unit_test(fast_open_on_a_connection_is_the_kernels),
		cmocka_unit_test(bad_addresses_are_the_kernels),
		cmocka_unit_test(a_handler_sends_in_the_middle_of_us),
		cmocka_unit_test(a_vfork_child_in_the_middle),
		cmocka_unit_test(descriptors_stay),
	};
	/* Not the least: a receiver that drops what it has no memory for costs seconds. */
	const int size = 1 << 14;

	stingy_below();
	host_start(argc, argv, settings);
	stingy = stingy_find();
	if (getenv("AGENTSHIM_TEST_SEED") != NULL)
		seed = strtoull(getenv("AGENTSHIM_TEST_SEED"), NULL, 10);
	server = peer_listening();
	narrow = peer_listening();
	(void) setsockopt(narrow.listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	before = count_descriptors();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
