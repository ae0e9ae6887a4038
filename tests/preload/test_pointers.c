/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pointers and lengths that the kernel refuses: it goes on refusing them, and nobody dies of
 * our look at what is to be sent or waited for. Each call on a followed connection is also
 * made on a socket that no hook has seen, past every hook.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wnonnull"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

#define PAGE 4096
#define UNTOUCHED 77

static const char head[] = "GET /pointers HTTP/1.1\r\nHost: a\r\n\r\n";

static struct peer peer;
static int hooked, bare, hooked_peer, bare_peer;
static char *there, *gone; /* a page, and one behind it that is not */

static int connect_both(void **state)
{
	(void) state;
	peer = peer_listening();
	hooked = tcp_connected(&peer);
	hooked_peer = peer_accept(&peer);
	bare = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);
	assert_int_equal(past_hooks(SYS_connect, bare, (long) &peer.addr, sizeof(peer.addr), 0, 0, 0),
			 0);
	bare_peer = peer_accept(&peer);
	there = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(there != MAP_FAILED);
	gone = there + PAGE;
	assert_int_equal(mprotect(gone, PAGE, PROT_NONE), 0);
	return 0;
}

static int close_both(void **state)
{
	(void) state;
	(void) close(hooked);
	(void) raw_close(bare);
	(void) close(hooked_peer);
	(void) close(bare_peer);
	return munmap(there, 2 * PAGE);
}

#define SAME(call, nr, b, c, d)                                                          \
	do {                                                                             \
		errno = UNTOUCHED;                                                       \
		const long rc_ = (call);                                                 \
		const int error_ = errno;                                                \
		const long expected_ = past_hooks((nr), bare, (long) (b), (long) (c),    \
						  (long) (d), 0, 0);                     \
		assert_int_equal(rc_, expected_ < 0 ? -1 : expected_);                   \
		assert_int_equal(error_, expected_ < 0 ? -expected_ : UNTOUCHED);        \
	} while (0)

static void what_is_sent_may_not_be_there(void **state)
{
	(void) state;
	SAME(write(hooked, NULL, 100), SYS_write, NULL, 100, 0);
	SAME(write(hooked, gone, 100), SYS_write, gone, 100, 0);
	SAME(send(hooked, gone, 100, 0), SYS_sendto, gone, 100, 0);
}

static const size_t negative = (size_t) -1;

/* -1 from a read that failed, handed on. */
static void a_length_may_be_negative(void **state)
{
	(void) state;
	memcpy(there, head, sizeof(head) - 1);
	SAME(write(hooked, there, negative), SYS_write, there, -1, 0);
	SAME(write(hooked, there, (size_t) 1 << 63), SYS_write, there, (size_t) 1 << 63, 0);

	const struct iovec v[2] = { { there, sizeof(head) - 1 }, { there, (size_t) -1 } };

	SAME(writev(hooked, v, 2), SYS_writev, v, 2, 0);
	/* Nothing of it went. */
	assert_int_equal(recv(hooked_peer, there, PAGE, MSG_DONTWAIT), -1);
}

static void vectors_may_not_be_there(void **state)
{
	struct iovec *cut = (struct iovec *) (void *) (gone - sizeof(*cut));
	struct msghdr msg = { .msg_iov = (struct iovec *) (void *) gone, .msg_iovlen = 2 };

	(void) state;
	*cut = (struct iovec) { there, 1 };
	SAME(writev(hooked, (struct iovec *) (void *) gone, 2), SYS_writev, gone, 2, 0);
	SAME(writev(hooked, cut, 2), SYS_writev, cut, 2, 0);
	SAME(sendmsg(hooked, (struct msghdr *) (void *) gone, 0), SYS_sendmsg, gone, 0, 0);
	SAME(sendmsg(hooked, &msg, 0), SYS_sendmsg, &msg, 0, 0);
	msg.msg_iovlen = 0;
	SAME(sendmsg(hooked, &msg, 0), SYS_sendmsg, &msg, 0, 0);
	msg.msg_iovlen = (size_t) -1;
	SAME(sendmsg(hooked, &msg, 0), SYS_sendmsg, &msg, 0, 0);
	SAME(sendmmsg(hooked, (struct mmsghdr *) (void *) gone, 2, 0), SYS_sendmmsg, gone, 2, 0);
	SAME(sendmsg(hooked, (struct msghdr *) (void *) gone, MSG_FASTOPEN), SYS_sendmsg, gone,
	     MSG_FASTOPEN, 0);
	SAME(sendmmsg(hooked, (struct mmsghdr *) (void *) gone, 2, MSG_FASTOPEN), SYS_sendmmsg,
	     gone, 2, MSG_FASTOPEN);
}

/* A head whose end is missing: the kernel takes what is there, if anything. */
static void half_of_it_may_be_there(void **state)
{
	char *at = gone - 20;

	(void) state;
	memcpy(at, head, 20);
	SAME(write(hooked, at, 100), SYS_write, at, 100, 0);
}

/* Of a body nothing is looked at, there or not. */
static void the_next_request_goes_on_after_a_refusal(void **state)
{
	char got[PAGE];

	(void) state;
	memcpy(there, head, sizeof(head) - 1);
	assert_int_equal(write(hooked, there, sizeof(head) - 1), sizeof(head) - 1);
	assert_true(recv(hooked_peer, got, sizeof(got), 0) >= (ssize_t) sizeof(head) - 1);
	SAME(write(hooked, gone, 100), SYS_write, gone, 100, 0);
	assert_int_equal(write(hooked, there, sizeof(head) - 1), sizeof(head) - 1);
	assert_true(recv(hooked_peer, got, sizeof(got), 0) >= (ssize_t) sizeof(head) - 1);
}

static void sets_may_not_be_there(void **state)
{
	const struct timeval now = { 0, 0 };
	struct timeval t = now;

	(void) state;
	assert_int_equal(listen(peer.listener, 64), 0); /* there is something to look for */
	errno = 0;
	assert_int_equal(poll((struct pollfd *) (void *) gone, 1, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(poll((struct pollfd *) (void *) (gone - 8), 2, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(select(64, (fd_set *) (void *) gone, NULL, NULL, &t), -1);
	assert_int_equal(errno, EFAULT);
	/* No longer than it says: eight bytes of a set are enough for 64 descriptors. */
	memset(gone - 8, 0, 8);
	t = now;
	assert_int_equal(select(64, (fd_set *) (void *) (gone - 8), NULL, NULL, &t), 0);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, connect_both, close_both)
	const struct CMUnitTest tests[] = {
		TEST(what_is_sent_may_not_be_there),
		TEST(a_length_may_be_negative),
		TEST(vectors_may_not_be_there),
		TEST(half_of_it_may_be_there),
		TEST(the_next_request_goes_on_after_a_refusal),
		TEST(sets_may_not_be_there),
	};
#undef TEST

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
