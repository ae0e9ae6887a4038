/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libc's answers come through as they were (traps T34, T36, T37): errno exact on failure and
 * left alone on success, fcntl's arguments of every kind, syscall(2) with any number.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define UNTOUCHED 77
#define NO_FD     9999

ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

/* ---- T34 ---- */

#define FAILS(call, error)                       \
	do {                                     \
		errno = UNTOUCHED;               \
		assert_int_equal((call), -1);    \
		assert_int_equal(errno, (error)); \
	} while (0)

static void bad_descriptors_are_told(void **state)
{
	struct peer p = peer_listening();
	const struct sockaddr *addr = (const struct sockaddr *) &p.addr;
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct mmsghdr many = { .msg_hdr = msg };
	int value, pair[2];

	(void) state;
	FAILS(connect(NO_FD, addr, sizeof(p.addr)), EBADF);
	FAILS(read(NO_FD, &byte, 1), EBADF);
	FAILS(__read_chk(NO_FD, &byte, 1, 1), EBADF);
	FAILS(readv(NO_FD, &iov, 1), EBADF);
	FAILS(recv(NO_FD, &byte, 1, 0), EBADF);
	FAILS(__recv_chk(NO_FD, &byte, 1, 1, 0), EBADF);
	FAILS(recvfrom(NO_FD, &byte, 1, 0, NULL, NULL), EBADF);
	FAILS(__recvfrom_chk(NO_FD, &byte, 1, 1, 0, NULL, NULL), EBADF);
	FAILS(recvmsg(NO_FD, &msg, 0), EBADF);
	FAILS(recvmmsg(NO_FD, &many, 1, 0, NULL), EBADF);
	FAILS(write(NO_FD, &byte, 1), EBADF);
	FAILS(writev(NO_FD, &iov, 1), EBADF);
	FAILS(send(NO_FD, &byte, 1, 0), EBADF);
	FAILS(sendto(NO_FD, &byte, 1, 0, NULL, 0), EBADF);
	FAILS(sendto(NO_FD, &byte, 1, MSG_FASTOPEN, addr, sizeof(p.addr)), EBADF);
	FAILS(sendmsg(NO_FD, &msg, 0), EBADF);
	FAILS(sendmmsg(NO_FD, &many, 1, 0), EBADF);
	FAILS(sendfile(NO_FD, STDIN_FILENO, NULL, 1), EBADF);
	FAILS(close(NO_FD), EBADF);
	FAILS(close_range(2, 1, 0), EINVAL);
	FAILS(dup(NO_FD), EBADF);
	FAILS(dup2(NO_FD, 5), EBADF);
	FAILS(dup3(NO_FD, 5, 0), EBADF);
	FAILS(fcntl(NO_FD, F_GETFD), EBADF);
	FAILS(fcntl64(NO_FD, F_GETFD), EBADF);
	FAILS(fcntl(STDIN_FILENO, F_DUPFD, -1), EINVAL);
	FAILS(shutdown(NO_FD, SHUT_RDWR), EBADF);
	FAILS(getsockopt(NO_FD, SOL_SOCKET, SO_ERROR, &value, &len), EBADF);
	FAILS(socket(9999, SOCK_STREAM, 0), EAFNOSUPPORT);
	FAILS(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
	FAILS(accept(NO_FD, (struct sockaddr *) &from, &len), EBADF);
	FAILS(accept4(STDIN_FILENO, NULL, NULL, 0), ENOTSOCK);
	FAILS(syscall(SYS_close, NO_FD), EBADF);
	assert_null(breaker_of(p.key));
}

/* Errors on a followed connection that are no verdict come through, and the call goes on. */
static void a_followed_socket_answers_as_ever(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	const struct iovec many[2000] = { 0 };
	char byte;

	(void) state;
	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	FAILS(read(c, &byte, 1), EAGAIN);
	FAILS(recv(c, &byte, 1, 0), EAGAIN);
	FAILS(recv(c, &byte, 1, MSG_OOB), EINVAL);
	FAILS(recv(c, &byte, 1, MSG_ERRQUEUE), EAGAIN);
	FAILS(readv(c, many, 2000), EINVAL);
	FAILS(writev(c, many, 2000), EINVAL);
	FAILS(getsockopt(c, SOL_SOCKET, SO_ERROR, NULL, NULL), EFAULT);
	FAILS(getsockopt(c, SOL_SOCKET, 9999, NULL, NULL), EFAULT);
	FAILS(shutdown(c, 9), EINVAL);
	errno = UNTOUCHED;
	assert_int_equal(read(c, &byte, 0), 0);
	assert_int_equal(write(c, &byte, 0), 0);
	assert_int_equal(errno, UNTOUCHED);
	/* None of that was about the peer. */
	assert_int_equal(totals_of(p.key).failures, 0);
	assert_int_equal(totals_of(p.key).successes, 0);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

/* wget looks before it reads (T32): one answer, seen twice. */
static void a_peek_is_the_first_byte_once(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char byte = 0;

	(void) state;
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, MSG_PEEK), 1);
	assert_totals(p.key, 1, 0, 0);
	byte = 0;
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_int_equal(byte, 'y');
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

/* The first call of a process maps files, and must not be noticed either. */
static int first_call_keeps_errno(void *arg)
{
	const struct peer *p = arg;
	const int c = socket(AF_INET, SOCK_STREAM, 0);

	errno = UNTOUCHED;
	CHECK(tcp_connect(c, p) == 0);
	CHECK(errno == UNTOUCHED);
	errno = UNTOUCHED;
	CHECK(close(c) == 0);
	CHECK(errno == UNTOUCHED);
	return 0;
}

static void the_first_call_keeps_errno(void **state)
{
	struct peer p = peer_listening();

	(void) state;
	assert_int_equal(child_status(first_call_keeps_errno, &p), 0);
}

static void resolvers_answer_as_ever(void **state)
{
	const struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST };
	struct addrinfo *found = NULL;
	struct hostent entry, *result = &entry;
	char buf[1024], tiny[1];
	int error = 0;

	(void) state;
	assert_int_equal(getaddrinfo("no number", NULL, &numeric, &found), EAI_NONAME);
	assert_int_equal(getaddrinfo(NULL, NULL, NULL, &found), EAI_NONAME);
	errno = UNTOUCHED;
	assert_int_equal(getaddrinfo("127.0.0.1", "80", &numeric, &found), 0);
	assert_int_equal(errno, UNTOUCHED);
	freeaddrinfo(found);
	assert_int_equal(getaddrinfo(NULL, "80", NULL, &found), 0);
	freeaddrinfo(found);
	assert_int_equal(gethostbyname_r("localhost", &entry, tiny, sizeof(tiny), &result, &error),
			 ERANGE);
	assert_null(result);
	assert_int_equal(gethostbyname_r("", &entry, buf, sizeof(buf), &result, &error), 0);
	assert_null(result);
	assert_int_not_equal(error, 0);
}

/* ---- T36 ---- */

static void fcntl_keeps_kinds_of_arguments(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p);
	struct f_owner_ex owner = { F_OWNER_PID, getpid() }, seen = { 0, 0 };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1L << 40 };
	int pipes[2];

	(void) state;
	/* None. */
	assert_int_equal(fcntl(c, F_GETFD), FD_CLOEXEC);
	/* int */
	assert_int_equal(fcntl(c, F_SETFD, 0), 0);
	assert_int_equal(fcntl(c, F_GETFD), 0);
	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(c, F_GETFL), O_RDWR | O_NONBLOCK);
	/* A negative int, and an answer that looks like an error. */
	assert_int_equal(fcntl(c, F_SETOWN, -getpgrp()), 0);
	errno = UNTOUCHED;
	assert_int_equal(fcntl(c, F_GETOWN), -getpgrp());
	assert_int_equal(errno, UNTOUCHED);
	/* Pointers. */
	assert_int_equal(fcntl(c, F_SETOWN_EX, &owner), 0);
	assert_int_equal(fcntl(c, F_GETOWN_EX, &seen), 0);
	assert_int_equal(seen.pid, owner.pid);

	const int file = memfd_create("locks", MFD_ALLOW_SEALING);

	assert_int_equal(fcntl(file, F_OFD_SETLK, &lock), 0);
	assert_int_equal(fcntl64(file, F_GETLK, &lock), 0);
	assert_int_equal(lock.l_start, 1L << 40);
	assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(fcntl(file, F_GET_SEALS), F_SEAL_GROW);
	assert_int_equal(pipe(pipes), 0);
	assert_true(fcntl(pipes[0], F_SETPIPE_SZ, 4096) >= 4096);
	assert_true(fcntl(pipes[0], F_GETPIPE_SZ) >= 4096);
	(void) close(pipes[0]);
	(void) close(pipes[1]);
	(void) close(file);
	assert_int_equal(close(c), 0);
}

/* ---- T37 ---- */

/* Nothing stands in the way of numbers that do not concern us; six arguments arrive. */
static void syscall_forwards_everything(void **state)
{
	const long page = sysconf(_SC_PAGESIZE);
	unsigned futex = 1;
	char random[8] = { 0 };
	cpu_set_t cpus;
	sigset_t mask, before;

	(void) state;
	assert_int_equal(syscall(SYS_getpid), getpid());
	assert_int_equal(syscall(SYS_gettid), gettid());
	assert_true(syscall(SYS_getrandom, random, sizeof(random), 0) == sizeof(random));
	assert_int_equal(syscall(SYS_futex, &futex, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	FAILS(syscall(SYS_futex, &futex, FUTEX_WAIT, 2, NULL, NULL, 0), EAGAIN);
	FAILS(syscall(99999), ENOSYS);
	FAILS(syscall(-1L), ENOSYS);
	assert_true(syscall(SYS_sched_getaffinity, 0, sizeof(cpus), &cpus) > 0);
	(void) sigemptyset(&mask);
	assert_int_equal(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, 8), 0);

	const int file = (int) syscall(SYS_memfd_create, "pages", 0);

	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, 2 * page), 0);
	assert_int_equal(pwrite(file, "second", 6, page), 6);

#ifdef SYS_mmap
	/* All six arguments; the last one is the page. The answer is a pointer. */
	const char *map = (const char *) syscall(SYS_mmap, NULL, page, PROT_READ, MAP_PRIVATE,
						 file, page);

	assert_true(map != MAP_FAILED);
	assert_memory_equal(map, "second", 6);
	assert_int_equal(syscall(SYS_munmap, map, page), 0);
#endif
	errno = UNTOUCHED;
	assert_int_equal(syscall(SYS_close, file), 0);
	assert_int_equal(errno, UNTOUCHED);
}

/* A number beyond ours must reach the kernel with what stands above an int. */
static void syscall_cuts_no_argument(void **state)
{
	const size_t size = (size_t) 5 << 30;
	void *map = (void *) syscall(SYS_mmap, NULL, size, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void) state;
	assert_true(map != MAP_FAILED);
	assert_int_equal(syscall(SYS_munmap, map, size), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_descriptors_are_told),
		cmocka_unit_test(a_followed_socket_answers_as_ever),
		cmocka_unit_test(a_peek_is_the_first_byte_once),
		cmocka_unit_test(the_first_call_keeps_errno),
		cmocka_unit_test(resolvers_answer_as_ever),
		cmocka_unit_test(fcntl_keeps_kinds_of_arguments),
		cmocka_unit_test(syscall_forwards_everything),
		cmocka_unit_test(syscall_cuts_no_argument),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
