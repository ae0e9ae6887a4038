/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every exported name, and what it does in four stories: a call to a peer that is well is
 * admitted and counted as a success; to a sick one as a failure; two of those and the
 * next call is refused; when the peer has rested and is well again the breaker closes. A
 * name without a row fails the first test.
 */
#include "tests/preload/host.h"
#include "tests/preload/started.h"
#include "tests/preload/traced.h"

#include <dlfcn.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define HIGH          900 /* above every descriptor of ours, for closefrom and dup2 */
#define UNTOUCHED     77  /* an errno that a call which succeeds must leave alone */

/* libc exports these without declaring them to us. */
int __connect(int, const struct sockaddr *, socklen_t);
int __close(int);
int __dup2(int, int);
int __fcntl(int, int, ...);
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
ssize_t __read(int, void *, size_t);
ssize_t __write(int, const void *, size_t);
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

enum health {
	WELL,
	SICK,       /* the first way in which this kind of call fails */
	SICK_AGAIN, /* the second */
	SICK_THIRD,
};

struct hook;

/* How names of one kind are told as stories. */
struct kind {
	int n_sick; /* ways to fail */
	struct peer (*peer)(enum health health);
	/* One whole connection in which the name does its part; asserts what it returned.
	 */
	void (*call)(const struct hook *h, struct peer *p, enum health health);
	void (*refused)(const struct hook *h, struct peer *p);
	/* Instead of the stories above, by number. */
	void (*own[4])(const struct hook *h);
};

struct hook {
	const char *name; /* as exported */
	const char *as;   /* a use of it that has a row of its own */
	const struct kind *kind;
	int (*reach)(int fd, const struct sockaddr *addr, socklen_t len);
	ssize_t (*get)(int fd, char *byte);
	ssize_t (*put)(int fd);
	int (*end)(int fd);
	int (*copy)(int fd);
	int (*ask)(int fd, int *ret, socklen_t *len);
	int (*prepare)(void);
	int (*hand)(int prepared);
	bool (*look_up)(const char *host);
	int (*await)(int fd, int timeout_ms); /* until @fd can be read */
};

static struct peer listening(enum health health)
{
	(void)health;
	return peer_listening();
}

/* ---- what connects ---- */

static struct peer sick_is_refusing(enum health health)
{
	return health == WELL ? peer_listening() : peer_refusing();
}

static void answered(int c, const struct peer *p)
{
	const int s = peer_accept(p);
	char byte;

	assert_true(s >= 0);
	assert_int_equal(send(s, "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_int_equal(close(s), 0);
}

static void connects(const struct hook *h, struct peer *p, enum health health)
{
	const int c = tcp_socket();
	const int flags = fcntl(c, F_GETFL);

	errno = UNTOUCHED;

	const int rc = h->reach(c, (const struct sockaddr *)&p->addr, sizeof(p->addr));
	const int error = errno;

	if (rc < 0 && error == EOPNOTSUPP)
		need(false, "capability missing: TCP Fast Open (net.ipv4.tcp_fastopen)");
	if (health == WELL) {
		assert_true(rc >= 0);
		assert_int_equal(error, UNTOUCHED);
		assert_totals(p->key, totals_of(p->key).successes,
			      totals_of(p->key).failures, 0);
		answered(c, p);
	} else {
		assert_int_equal(rc, -1);
		assert_int_equal(error, ECONNREFUSED);
	}
	assert_int_equal(fcntl(c, F_GETFL), flags);
	assert_int_equal(close(c), 0);
}

/* Well by now, the peer would answer a SYN: a refusal is ours, and none is sent. */
static void would_answer(struct peer *p)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	assert_int_equal(getsockopt(p->listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len), 0);
	if (!listens)
		peer_heal(p);
}

static void refused_by(int (*reach)(int, const struct sockaddr *, socklen_t),
		       struct peer *p)
{
	struct sockaddr_in other;
	socklen_t len = sizeof(other);
	const int c = tcp_socket();
	const uint64_t before = totals_of(p->key).refused;

	would_answer(p);
	errno = UNTOUCHED;
	assert_int_equal(reach(c, (const struct sockaddr *)&p->addr, sizeof(p->addr)),
			 -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(totals_of(p->key).refused, before + 1);
	/* The socket is as it was: not connected, not under way, no error of it waiting.
	 */
	assert_int_equal(getpeername(c, (struct sockaddr *)&other, &len), -1);
	assert_int_equal(errno, ENOTCONN);

	int error = -1;

	len = sizeof(error);
	assert_int_equal(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	assert_int_equal(error, 0);
	assert_int_equal(peer_accept(p), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(close(c), 0);
}

static void refused_itself(const struct hook *h, struct peer *p)
{
	refused_by(h->reach, p);
}

static void refused_connect(const struct hook *h, struct peer *p)
{
	(void)h;
	refused_by(connect, p);
}

static const struct kind connecting = {
	.n_sick = 1,
	.peer = sick_is_refusing,
	.call = connects,
	.refused = refused_itself,
};

static int by_syscall_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)syscall(SYS_connect, fd, addr, len);
}

static int by_sendto(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)sendto(fd, "x", 1, MSG_FASTOPEN, addr, len);
}

static int by_syscall_sendto(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)syscall(SYS_sendto, fd, "x", 1, MSG_FASTOPEN, addr, len);
}

static struct msghdr one_byte(struct iovec *iov, char *byte)
{
	*iov = (struct iovec){byte, 1};
	return (struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
}

static int by_sendmsg(int fd, const struct sockaddr *addr, socklen_t len)
{
	char byte = 'x';
	struct iovec iov;
	struct msghdr msg = one_byte(&iov, &byte);

	msg.msg_name = (void *)addr;
	msg.msg_namelen = len;
	return (int)sendmsg(fd, &msg, MSG_FASTOPEN);
}

static int by_sendmmsg(int fd, const struct sockaddr *addr, socklen_t len)
{
	char byte = 'x';
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, &byte)};

	msg.msg_hdr.msg_name = (void *)addr;
	msg.msg_hdr.msg_namelen = len;
	return sendmmsg(fd, &msg, 1, MSG_FASTOPEN);
}

/* ---- what receives ---- */

static void receives(const struct hook *h, struct peer *p, enum health health)
{
	const int c = tcp_connected(p), s = peer_accept(p);
	char byte = 0;

	assert_true(s >= 0);
	if (health == WELL)
		assert_int_equal(send(s, "y", 1, 0), 1);
	else if (health == SICK)
		peer_reset(s);
	else
		assert_int_equal(close(s), 0);
	wait_for(c, POLLIN);

	errno = UNTOUCHED;

	const ssize_t rc = h->get(c, &byte);
	const int error = errno;

	assert_int_equal(rc, health == WELL ? 1 : health == SICK ? -1 : 0);
	assert_int_equal(error, health == SICK ? ECONNRESET : UNTOUCHED);
	assert_int_equal(byte, health == WELL ? 'y' : 0);
	/* Told by this very call, not by the close that follows. */
	assert_true(totals_of(p->key).successes + totals_of(p->key).failures > 0);
	if (health == WELL)
		assert_int_equal(close(s), 0);
	assert_int_equal(close(c), 0);
}

static const struct kind receiving = {
	.n_sick = 2,
	.peer = listening,
	.call = receives,
	.refused = refused_connect,
};

static ssize_t get_recv(int fd, char *byte)
{
	return recv(fd, byte, 1, 0);
}

static ssize_t get_read(int fd, char *byte)
{
	return read(fd, byte, 1);
}

static ssize_t get___read(int fd, char *byte)
{
	return __read(fd, byte, 1);
}

static ssize_t get_readv(int fd, char *byte)
{
	const struct iovec iov = {byte, 1};

	return readv(fd, &iov, 1);
}

static ssize_t get_recvfrom(int fd, char *byte)
{
	return recvfrom(fd, byte, 1, 0, NULL, NULL);
}

static ssize_t get_recvmsg(int fd, char *byte)
{
	struct iovec iov;
	struct msghdr msg = one_byte(&iov, byte);

	return recvmsg(fd, &msg, 0);
}

static ssize_t get_recvmmsg(int fd, char *byte)
{
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, byte)};
	const int rc = recvmmsg(fd, &msg, 1, 0, NULL);

	return rc > 0 ? (ssize_t)msg.msg_len : rc;
}

static ssize_t get_read_chk(int fd, char *byte)
{
	return __read_chk(fd, byte, 1, 1);
}

static ssize_t get_recv_chk(int fd, char *byte)
{
	return __recv_chk(fd, byte, 1, 1, 0);
}

static ssize_t get_recvfrom_chk(int fd, char *byte)
{
	return __recvfrom_chk(fd, byte, 1, 1, 0, NULL, NULL);
}

static ssize_t get_syscall_read(int fd, char *byte)
{
	return syscall(SYS_read, fd, byte, 1);
}

static ssize_t get_syscall_recvfrom(int fd, char *byte)
{
	return syscall(SYS_recvfrom, fd, byte, 1, 0, NULL, NULL);
}

static ssize_t get_syscall_recvmsg(int fd, char *byte)
{
	struct iovec iov;
	struct msghdr msg = one_byte(&iov, byte);

	return syscall(SYS_recvmsg, fd, &msg, 0);
}

static ssize_t get_syscall_readv(int fd, char *byte)
{
	const struct iovec iov = {byte, 1};

	return syscall(SYS_readv, fd, &iov, 1);
}

static ssize_t get_syscall_recvmmsg(int fd, char *byte)
{
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, byte)};
	const long rc = syscall(SYS_recvmmsg, fd, &msg, 1, 0, NULL);

	return rc > 0 ? (ssize_t)msg.msg_len : rc;
}

/* ---- what sends ---- */

static struct peer third_is_silent(enum health health)
{
	return health == SICK_THIRD ? peer_silent() : peer_listening();
}

static void sends(const struct hook *h, struct peer *p, enum health health)
{
	const struct breaker_totals before = totals_of(p->key);
	const int c = tcp_connected(p), s = peer_accept(p);
	char byte;

	assert_true(s >= 0);
	if (health == SICK_AGAIN)
		assert_int_equal(shutdown(s, SHUT_WR), 0);
	if (health == SICK_AGAIN)
		wait_for(c, POLLIN);
	if (health == SICK || health == SICK_AGAIN) {
		peer_reset(s);
		wait_for(c, POLLHUP);
	}
	errno = UNTOUCHED;

	const ssize_t rc = h->put(c);
	const int error = errno;

	if (health == WELL || health == SICK_THIRD) {
		assert_int_equal(rc, 1);
		assert_int_equal(error, UNTOUCHED);
		assert_int_equal(recv(s, &byte, 1, 0), 1);
		assert_int_equal(byte, 'x');
		/* Sent is not answered. */
		assert_totals(p->key, before.successes, before.failures, 0);
	} else {
		assert_int_equal(rc, -1);
		assert_int_equal(error, health == SICK ? ECONNRESET : EPIPE);
		assert_totals(p->key, before.successes, before.failures + 1, 0);
	}
	/* A request went out, or this were an unused connection; no answer came. */
	if (health == SICK_THIRD)
		patience_passes();
	assert_int_equal(close(c), 0);
	if (health == WELL || health == SICK_THIRD)
		assert_int_equal(close(s), 0);
}

static const struct kind sending = {
	.n_sick = 3,
	.peer = third_is_silent,
	.call = sends,
	.refused = refused_connect,
};

static ssize_t put_write(int fd)
{
	return write(fd, "x", 1);
}

static ssize_t put___write(int fd)
{
	return __write(fd, "x", 1);
}

static ssize_t put_writev(int fd)
{
	const struct iovec iov = {(void *)"x", 1};

	return writev(fd, &iov, 1);
}

static ssize_t put_send(int fd)
{
	return send(fd, "x", 1, 0);
}

static ssize_t put___send(int fd)
{
	/* Looked up: on aarch64 libc keeps it for old programs, none can be linked to it. */
	ssize_t (*const old)(int, const void *, size_t, int) =
		(ssize_t(*)(int, const void *, size_t, int)) dlsym(RTLD_DEFAULT, "__send");

	return old(fd, "x", 1, 0);
}

static ssize_t put_sendto(int fd)
{
	return sendto(fd, "x", 1, 0, NULL, 0);
}

static ssize_t put_sendmsg(int fd)
{
	char byte = 'x';
	struct iovec iov;
	const struct msghdr msg = one_byte(&iov, &byte);

	return sendmsg(fd, &msg, 0);
}

static ssize_t put_sendmmsg(int fd)
{
	char byte = 'x';
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, &byte)};

	return sendmmsg(fd, &msg, 1, 0);
}

static int file_of_one_byte(void)
{
	const int fd = memfd_create("x", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	return fd;
}

static ssize_t put_file_by(ssize_t (*by)(int, int, off_t *, size_t), int fd)
{
	const int file = file_of_one_byte();

	errno = UNTOUCHED;

	const ssize_t rc = by(fd, file, NULL, 1);
	const int error = errno;

	(void)raw_close(file);
	errno = error;
	return rc;
}

static ssize_t by_syscall_sendfile(int out, int in, off_t *offset, size_t len)
{
	return syscall(SYS_sendfile, out, in, offset, len);
}

static ssize_t put_sendfile(int fd)
{
	return put_file_by(sendfile, fd);
}

static ssize_t put_sendfile64(int fd)
{
	return put_file_by(sendfile64, fd);
}

static ssize_t put_syscall_write(int fd)
{
	return syscall(SYS_write, fd, "x", 1);
}

static ssize_t put_syscall_sendto(int fd)
{
	return syscall(SYS_sendto, fd, "x", 1, 0, NULL, 0);
}

static ssize_t put_syscall_sendmsg(int fd)
{
	char byte = 'x';
	struct iovec iov;
	const struct msghdr msg = one_byte(&iov, &byte);

	return syscall(SYS_sendmsg, fd, &msg, 0);
}

static ssize_t put_syscall_writev(int fd)
{
	const struct iovec iov = {(void *)"x", 1};

	return syscall(SYS_writev, fd, &iov, 1);
}

static ssize_t put_syscall_sendmmsg(int fd)
{
	char byte = 'x';
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, &byte)};

	return syscall(SYS_sendmmsg, fd, &msg, 1, 0);
}

static ssize_t put_syscall_sendfile(int fd)
{
	return put_file_by(by_syscall_sendfile, fd);
}

/* ---- what ends a connection ---- */

static struct peer second_is_silent(enum health health)
{
	return health == SICK_AGAIN ? peer_silent() : peer_listening();
}

static void ends(const struct hook *h, struct peer *p, enum health health)
{
	const struct breaker_totals before = totals_of(p->key);
	const int low = tcp_socket();
	/* Past the hooks, and high up: closefrom would take our own descriptors along. */
	const int c = (int)past_hooks(SYS_fcntl, low, F_DUPFD, HIGH, 0, 0, 0);

	assert_true(c >= HIGH);
	assert_int_equal(raw_close(low), 0);
	assert_int_equal(tcp_connect(c, p), 0);

	const int s = peer_accept(p);

	assert_true(s >= 0);
	switch (health) {
	case WELL: /* an answer is there that the program never reads */
		assert_int_equal(send(s, "y", 1, 0), 1);
		wait_for(c, POLLIN);
		break;
	case SICK: /* the peer hung up without a word */
		assert_int_equal(close(s), 0);
		wait_for(c, POLLIN);
		break;
	default: /* a request is given up */
		assert_int_equal(send(c, "x", 1, 0), 1);
		patience_passes();
		break;
	}
	errno = UNTOUCHED;
	assert_int_equal(h->end(c), 0);
	assert_int_equal(errno, UNTOUCHED);
	assert_totals(p->key, before.successes + (health == WELL),
		      before.failures + (health != WELL), 0);
	(void)close(c);
	if (health != SICK)
		assert_int_equal(close(s), 0);
}

static const struct kind ending = {
	.n_sick = 2,
	.peer = second_is_silent,
	.call = ends,
	.refused = refused_connect,
};

static int end_close_range(int fd)
{
	return close_range((unsigned)fd, ~0U, 0);
}

static int end_closefrom(int fd)
{
	closefrom(fd);
	return 0;
}

static int end_fclose(int fd)
{
	FILE *f = fdopen(fd, "r");

	errno = UNTOUCHED;
	return f != NULL ? fclose(f) : -1;
}

static int end_freopen_by(FILE *(*by)(const char *, const char *, FILE *), int fd)
{
	FILE *f = fdopen(fd, "r");

	if (f == NULL || by("/dev/null", "r", f) == NULL)
		return -1;

	const int rc = fclose(f);

	errno = UNTOUCHED; /* stdio of itself tries isatty() */
	return rc;
}

static int end_freopen(int fd)
{
	return end_freopen_by(freopen, fd);
}

static int end_freopen64(int fd)
{
	return end_freopen_by(freopen64, fd);
}

static int end_dup2(int fd)
{
	return dup2(STDIN_FILENO, fd) == fd ? 0 : -1;
}

static int end___dup2(int fd)
{
	return __dup2(STDIN_FILENO, fd) == fd ? 0 : -1;
}

static int end_dup3(int fd)
{
	return dup3(STDIN_FILENO, fd, O_CLOEXEC) == fd ? 0 : -1;
}

static int end_shutdown(int fd)
{
	return shutdown(fd, SHUT_RDWR);
}

static int end_syscall_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static int end_syscall_close_range(int fd)
{
	return (int)syscall(SYS_close_range, fd, fd, 0);
}

static int end_syscall_dup3(int fd)
{
	return syscall(SYS_dup3, STDIN_FILENO, fd, 0) == fd ? 0 : -1;
}

#ifdef SYS_dup2
static int end_syscall_dup2(int fd)
{
	return syscall(SYS_dup2, STDIN_FILENO, fd) == fd ? 0 : -1;
}
#endif

static int end_syscall_shutdown(int fd)
{
	return (int)syscall(SYS_shutdown, fd, SHUT_RDWR);
}

/* ---- what makes a second descriptor ---- */

static void copies(const struct hook *h, struct peer *p, enum health health)
{
	const struct breaker_totals before = totals_of(p->key);
	const int c = tcp_connected(p), s = peer_accept(p);
	char byte;

	errno = UNTOUCHED;

	const int copy = h->copy(c);

	assert_true(copy >= 0 && copy != c);
	assert_int_equal(errno, UNTOUCHED);
	if (health == WELL)
		assert_int_equal(send(s, "y", 1, 0), 1);
	else if (health == SICK)
		peer_reset(s);
	else
		assert_int_equal(close(s), 0);
	wait_for(c, POLLIN);
	/* The connection lives on in the copy: closing the first decides nothing. */
	assert_int_equal(close(c), 0);
	assert_totals(p->key, before.successes, before.failures, 0);
	assert_int_equal(recv(copy, &byte, 1, 0), health == WELL   ? 1
						  : health == SICK ? -1
								   : 0);
	assert_totals(p->key, before.successes + (health == WELL),
		      before.failures + (health != WELL), 0);
	assert_int_equal(close(copy), 0);
	if (health == WELL)
		assert_int_equal(close(s), 0);
}

static const struct kind copying = {
	.n_sick = 2,
	.peer = listening,
	.call = copies,
	.refused = refused_connect,
};

static int copy_dup2(int fd)
{
	return dup2(fd, HIGH);
}

static int copy___dup2(int fd)
{
	return __dup2(fd, HIGH);
}

static int copy_dup3(int fd)
{
	return dup3(fd, HIGH, O_CLOEXEC);
}

static int copy_fcntl(int fd)
{
	return fcntl(fd, F_DUPFD, HIGH);
}

static int copy_fcntl_cloexec(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
}

static int copy_fcntl64(int fd)
{
	return fcntl64(fd, F_DUPFD_CLOEXEC, HIGH);
}

static int copy___fcntl(int fd)
{
	return __fcntl(fd, F_DUPFD, HIGH);
}

static int copy_syscall_dup(int fd)
{
	return (int)syscall(SYS_dup, fd);
}

static int copy_syscall_dup3(int fd)
{
	return (int)syscall(SYS_dup3, fd, HIGH, 0);
}

static int copy_syscall_fcntl(int fd)
{
	return (int)syscall(SYS_fcntl, fd, F_DUPFD, HIGH);
}

/* ---- SO_ERROR ---- */

static void asks(const struct hook *h, struct peer *p, enum health health)
{
	const int c = tcp_socket();
	socklen_t len = sizeof(int);
	int error = -1;

	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	if (tcp_connect(c, p) < 0) {
		assert_int_equal(errno, EINPROGRESS);
		wait_for(c, POLLOUT);
	}
	errno = UNTOUCHED;
	assert_int_equal(h->ask(c, &error, &len), 0);
	assert_int_equal(errno, UNTOUCHED);
	assert_int_equal(error, health == WELL ? 0 : ECONNREFUSED);
	if (health == WELL)
		answered(c, p);
	/* Reading it cleared it, as ever. */
	assert_int_equal(h->ask(c, &error, &len), 0);
	assert_int_equal(error, 0);
	assert_int_equal(close(c), 0);
}

static const struct kind asking = {
	.n_sick = 1,
	.peer = sick_is_refusing,
	.call = asks,
	.refused = refused_connect,
};

static int ask_getsockopt(int fd, int *ret, socklen_t *len)
{
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, ret, len);
}

static int ask_syscall(int fd, int *ret, socklen_t *len)
{
	return (int)syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, ret, len);
}

/* ---- what hands descriptors out ---- */

/*
 * A connection whose close we did not see; then its number comes back. What we knew ends
 * there and then: the peer had been reached, whatever happens on the new descriptor.
 */
static int handed_after_missed_close(const struct hook *h, const struct peer *p)
{
	const int prepared = h->prepare != NULL ? h->prepare() : -1;
	const int c = tcp_connected(p);
	const struct breaker_totals before = totals_of(p->key);

	assert_int_equal(raw_close(c), 0);
	errno = UNTOUCHED;

	const int fd = h->hand(prepared);

	assert_int_equal(fd, c);
	assert_int_equal(errno, UNTOUCHED);
	assert_totals(p->key, before.successes + 1, before.failures, before.exclusions);
	return fd;
}

static void close_all_from(int fd)
{
	closefrom(fd);
}

static void handed_anew(const struct hook *h)
{
	struct peer p = peer_listening();
	char byte;
	const int fd = handed_after_missed_close(h, &p);

	(void)recv(fd, &byte, 1, MSG_DONTWAIT);
	close_all_from(p.listener + 1);
	assert_totals(p.key, 1, 0, 0);
	peer_drop(&p);
}

static void fails_for_nobody(const struct hook *h)
{
	struct peer p = peer_listening();

	for (int i = 0; i < TRIP_AT; i++) {
		const int fd = handed_after_missed_close(h, &p);
		char byte;

		(void)shutdown(fd, SHUT_RDWR);
		(void)recv(fd, &byte, 1,
			   MSG_DONTWAIT); /* end of file on somebody else's socket */
		close_all_from(p.listener + 1);
	}
	assert_totals(p.key, 2, 0, 0);
	assert_int_equal(state_of(p.key), BREAKER_CLOSED);
	peer_drop(&p);
}

static void handed_while_open(const struct hook *h)
{
	struct peer p = peer_listening();

	peer_trip(&p);

	const int prepared = h->prepare != NULL ? h->prepare() : -1;

	assert_true(h->hand(prepared) >= 0);
	close_all_from(p.listener + 1);
	refused_by(connect, &p);
	peer_drop(&p);
}

/* A probe that was closed behind our back had reached its peer. */
static void ends_a_probe(const struct hook *h)
{
	struct peer p = peer_listening();

	peer_trip(&p);
	peer_rest(p.key);
	(void)handed_after_missed_close(h, &p);
	close_all_from(p.listener + 1);
	assert_int_equal(state_of(p.key), BREAKER_CLOSED);
	peer_drop(&p);
}

static const struct kind handing = {
	.own = {handed_anew, fails_for_nobody, handed_while_open, ends_a_probe},
};

static int hand_socket(int prepared)
{
	(void)prepared;
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int hand_syscall_socket(int prepared)
{
	(void)prepared;
	return (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static int hand_socketpair(int prepared)
{
	int pair[2];

	(void)prepared;
	return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? pair[0] : -1;
}

static int hand_syscall_socketpair(int prepared)
{
	int pair[2];

	(void)prepared;
	return syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? pair[0] : -1;
}

/* A listener that somebody waits for, unseen by the hooks. */
static int prepare_listener(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	const int l = tcp_socket(), c = tcp_socket();

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(l, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(past_hooks(SYS_connect, c, (long)&addr, len, 0, 0, 0), 0);
	return l;
}

static int hand_accept(int prepared)
{
	return accept(prepared, NULL, NULL);
}

static int hand_accept4(int prepared)
{
	return accept4(prepared, NULL, NULL, SOCK_CLOEXEC);
}

static int hand_syscall_accept(int prepared)
{
#ifdef SYS_accept
	return (int)syscall(SYS_accept, prepared, NULL, NULL);
#else
	return hand_accept(prepared);
#endif
}

static int hand_syscall_accept4(int prepared)
{
	return (int)syscall(SYS_accept4, prepared, NULL, NULL, 0);
}

/* A descriptor on its way in a message. */
static int prepare_message(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte = 'x';
	struct iovec iov;
	struct msghdr msg = one_byte(&iov, &byte);
	int pair[2];
	const int passed = STDIN_FILENO;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	msg.msg_control = control.bytes;
	msg.msg_controllen = sizeof(control.bytes);

	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &passed, sizeof(passed));
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	return pair[1];
}

static int passed_in(const struct msghdr *msg)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd;

	assert_non_null(c);
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

union rights {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static int hand_recvmsg(int prepared)
{
	union rights control;
	char byte;
	struct iovec iov;
	struct msghdr msg = one_byte(&iov, &byte);

	msg.msg_control = control.bytes;
	msg.msg_controllen = sizeof(control.bytes);
	assert_int_equal(recvmsg(prepared, &msg, 0), 1);
	return passed_in(&msg);
}

static int hand_recvmmsg(int prepared)
{
	union rights control;
	char byte;
	struct iovec iov;
	struct mmsghdr msg = {.msg_hdr = one_byte(&iov, &byte)};

	msg.msg_hdr.msg_control = control.bytes;
	msg.msg_hdr.msg_controllen = sizeof(control.bytes);
	assert_int_equal(recvmmsg(prepared, &msg, 1, 0, NULL), 1);
	return passed_in(&msg.msg_hdr);
}

static int prepare_dup(void)
{
	return STDIN_FILENO;
}

static int hand_dup(int prepared)
{
	return dup(prepared);
}

static int hand_fcntl(int prepared)
{
	return fcntl(prepared, F_DUPFD_CLOEXEC, 0);
}

/* ---- what looks names up ---- */

/* In a child: what one process has looked up stays with it. */
static int named(const struct hook *h, struct peer *p, enum health health)
{
	const int c = tcp_socket();
	char byte;

	errno = UNTOUCHED;
	CHECK(h->look_up("localhost"));

	const int rc = tcp_connect(c, p);

	CHECK(rc == (health == WELL ? 0 : -1));
	if (health == WELL) {
		const int s = peer_accept(p);

		CHECK(send(s, "y", 1, 0) == 1);
		CHECK(recv(c, &byte, 1, 0) == 1);
		CHECK(close(s) == 0);
	}
	CHECK(close(c) == 0);
	return 0;
}

/* The breaker's key of a peer that was looked up. */
static const char *key_by_name(const struct peer *p)
{
	static char key[32];

	(void)snprintf(key, sizeof(key), "localhost:%u", ntohs(p->addr.sin_port));
	return key;
}

struct naming {
	const struct hook *hook;
	int story;
	struct peer peer; /* bound before the fork: its port is nobody else's afterwards */
};

static int naming_story(void *arg)
{
	const struct naming *n = arg;
	struct peer p = n->peer;
	const char *key = key_by_name(&p);

	if (n->story == 0) {
		CHECK(named(n->hook, &p, WELL) == 0);
		CHECK(totals_of(key).successes == 1);
		CHECK(breaker_of(p.key) == NULL);
		return 0;
	}
	CHECK(named(n->hook, &p, SICK) == 0);
	CHECK(totals_of(key).failures == 1);
	CHECK(breaker_of(p.key) == NULL);
	if (n->story == 1)
		return 0;
	CHECK(named(n->hook, &p, SICK) == 0);
	CHECK(state_of(key) == BREAKER_OPEN);
	peer_heal(&p);
	if (n->story == 2) {
		CHECK(named(n->hook, &p, SICK) == 0);
		CHECK(totals_of(key).refused == 1);
		CHECK(peer_accept(&p) == -1 && errno == EAGAIN);
		return 0;
	}
	peer_rest(key);
	CHECK(named(n->hook, &p, WELL) == 0);
	CHECK(state_of(key) == BREAKER_CLOSED);
	return 0;
}

static void told_in_a_child(const struct hook *h, int story)
{
	struct naming n = {h, story, peer_local(story == 0)};

	assert_int_equal(child_status(naming_story, &n), 0);
}

static void named_admitted(const struct hook *h)
{
	told_in_a_child(h, 0);
}

static void named_failure(const struct hook *h)
{
	told_in_a_child(h, 1);
}

static void named_refused(const struct hook *h)
{
	told_in_a_child(h, 2);
}

static void named_recovers(const struct hook *h)
{
	told_in_a_child(h, 3);
}

static const struct kind naming = {
	.own = {named_admitted, named_failure, named_refused, named_recovers},
};

static bool look_up_getaddrinfo(const char *host)
{
	struct addrinfo *found;

	if (getaddrinfo(host, NULL, NULL, &found) != 0)
		return false;
	freeaddrinfo(found);
	return true;
}

static bool look_up_gethostbyname(const char *host)
{
	return gethostbyname(host) != NULL;
}

static bool look_up_gethostbyname2(const char *host)
{
	return gethostbyname2(host, AF_INET) != NULL;
}

static bool look_up_gethostbyname_r(const char *host)
{
	struct hostent entry, *found = NULL;
	char buf[1024];
	int error;

	return gethostbyname_r(host, &entry, buf, sizeof(buf), &found, &error) == 0 &&
	       found;
}

static bool look_up_gethostbyname2_r(const char *host)
{
	struct hostent entry, *found = NULL;
	char buf[1024];
	int error;

	return gethostbyname2_r(host, AF_INET, &entry, buf, sizeof(buf), &found,
				&error) == 0 &&
	       found;
}

/* ---- what is no function ---- */

static void tells_its_version(const struct hook *h)
{
	const char *version = dlsym(RTLD_DEFAULT, h->name);

	assert_non_null(version);
	assert_string_equal(version, AGENTSHIM_VERSION);
}

/* Answers as without us; what a filter set by it does to us is told in test_sandbox.c. */
static void forwards_its_arguments(const struct hook *h)
{
	char name[16] = "";

	(void)h;
	assert_int_equal(prctl(PR_SET_NAME, "a thread", 0, 0, 0), 0);
	assert_int_equal(prctl(PR_GET_NAME, name, 0, 0, 0), 0);
	assert_string_equal(name, "a thread");
	errno = 0;
	assert_int_equal(prctl(-1, 0, 0, 0, 0), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(prctl(PR_SET_SECCOMP, 2, NULL, 0, 0), -1);
	assert_int_equal(errno, EFAULT);

	/* A filter that was refused changes nothing for us. */
	struct peer p = peer_listening();
	const int c = tcp_connected(&p);

	assert_int_equal(requests_of(p.key), 1);
	assert_int_equal(close(c), 0);
}

static const struct kind controlling = {.own = {forwards_its_arguments}};

/* ---- waiting: libc's, whoever is waited for ---- */

static int await_poll(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms);
}

static int await_poll_chk(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return __poll_chk(&p, 1, timeout_ms, sizeof(p));
}

static struct timespec time_of(int timeout_ms)
{
	return (struct timespec){timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
}

static int await_ppoll(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	const struct timespec t = time_of(timeout_ms);

	return ppoll(&p, 1, &t, NULL);
}

static int await_ppoll_chk(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	const struct timespec t = time_of(timeout_ms);

	return __ppoll_chk(&p, 1, &t, NULL, sizeof(p));
}

static int await_select(int fd, int timeout_ms)
{
	struct timeval t = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return select(fd + 1, &in, NULL, NULL, &t);
}

static int await_pselect(int fd, int timeout_ms)
{
	const struct timespec t = time_of(timeout_ms);
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return pselect(fd + 1, &in, NULL, NULL, &t, NULL);
}

static int epoll_on(int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	const int ep = epoll_create1(EPOLL_CLOEXEC);

	assert_true(ep >= 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), 0);
	return ep;
}

/* What epoll says of @fd, and no more than that in the events' memory. */
static int epoll_said(int ep, int n, const struct epoll_event *e, int fd)
{
	if (n == 1) {
		assert_int_equal(e->events, EPOLLIN);
		assert_int_equal(e->data.fd, fd);
	}
	assert_int_equal(close(ep), 0);
	return n;
}

static int await_epoll_wait(int fd, int timeout_ms)
{
	struct epoll_event e;
	const int ep = epoll_on(fd);

	return epoll_said(ep, epoll_wait(ep, &e, 1, timeout_ms), &e, fd);
}

static int await_epoll_pwait(int fd, int timeout_ms)
{
	struct epoll_event e;
	const int ep = epoll_on(fd);

	return epoll_said(ep, epoll_pwait(ep, &e, 1, timeout_ms, NULL), &e, fd);
}

static int await_epoll_pwait2(int fd, int timeout_ms)
{
	struct epoll_event e;
	const struct timespec t = time_of(timeout_ms);
	const int ep = epoll_on(fd);

	return epoll_said(ep, epoll_pwait2(ep, &e, 1, &t, NULL), &e, fd);
}

static int await_syscall_epoll_pwait(int fd, int timeout_ms)
{
	struct epoll_event e;
	const int ep = epoll_on(fd);

	return epoll_said(ep,
			  (int)syscall(SYS_epoll_pwait, ep, &e, 1, timeout_ms, NULL, 8),
			  &e, fd);
}

static void waits_and_says_what_is_ready(const struct hook *h)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	errno = UNTOUCHED;
	assert_int_equal(h->await(ends[0], 1), 0);
	assert_int_equal(errno, UNTOUCHED);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(h->await(ends[0], 10000), 1);
	assert_int_equal(errno, UNTOUCHED);
	assert_int_equal(close(ends[0]), 0);
	assert_int_equal(close(ends[1]), 0);
}

/* A connection that was accepted, too: looking at it changes nothing. */
static void waits_for_its_own_client(const struct hook *h)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p);
	const int served = accept(p.listener, NULL, NULL);

	assert_true(served >= 0);
	assert_int_equal(h->await(served, 1), 0);
	assert_int_equal(write(c, "x", 1), 1);
	assert_int_equal(h->await(served, 10000), 1);
	assert_int_equal(h->await(p.listener, 1), 0);
	assert_int_equal(close(served), 0);
	assert_int_equal(close(c), 0);
}

static const struct kind waiting = {
	.own = {waits_and_says_what_is_ready, waits_for_its_own_client}};

static void listens_for_connections(const struct hook *h)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)h;
	assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof(any)), 0);
	errno = UNTOUCHED;
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(errno, UNTOUCHED);
	assert_int_equal(close(fd), 0);
	assert_int_equal(listen(fd, 5), -1);
	assert_int_equal(errno, EBADF);
}

static const struct kind listening_kind = {.own = {listens_for_connections}};

static const struct kind telling = {.own = {tells_its_version}};

/* Each does its part in a span; test_own.c has the stories. */
static void opens_a_span(const struct hook *h)
{
	const struct own own = own_names();
	char out[56], value[256];
	struct event e;

	assert_int_equal(own.traceparent(out), 0);
	errno = UNTOUCHED;
	own.begin(h->name);
	assert_int_equal(own.traceparent(out), 1);
	own.tag("by", h->name);
	own.end();
	assert_int_equal(errno, UNTOUCHED);
	assert_int_equal(own.traceparent(out), 0);
	assert_true(span_told(h->name, &e));
	tag_told(&e, "by", value);
	assert_string_equal(value, h->name);
}

static const struct kind spanning = {.own = {opens_a_span}};

/* Starts a program that prints what it was started in; test_exec.c has the stories. */
static void carries_context(const struct hook *h)
{
	char here[56], there[STARTED_SIZE];

	own_names().begin(h->name);
	assert_int_equal(own_names().traceparent(here), 1);
	started_by(way_of(h->as != NULL ? h->as : h->name), environ, "printf %s \"$TRACEPARENT\"", there);
	own_names().end();
	assert_string_equal(there, here);
}

static const struct kind starting = {.own = {carries_context}};

static void *asks_where_it_is(void *out)
{
	(void)own_names().traceparent(out);
	return out;
}

/* Creates a thread that works on what its creator does; test_threads.c has the stories. */
static void hands_down(const struct hook *h)
{
	char here[56], there[56];
	pthread_t thread;
	void *back;

	own_names().begin(h->name);
	assert_int_equal(own_names().traceparent(here), 1);
	assert_int_equal(pthread_create(&thread, NULL, asks_where_it_is, there), 0);
	assert_int_equal(pthread_join(thread, &back), 0);
	assert_ptr_equal(back, there);
	own_names().end();
	assert_string_equal(there, here);
}

static const struct kind creating = {.own = {hands_down}};
/* A program without libcurl that asks for its functions by name: the answer is a plain no. */
static void fails_without_libcurl(const struct hook *h)
{
	CURL *(*const init)(void) = (CURL * (*)(void)) dlsym(RTLD_DEFAULT, "curl_easy_init");
	CURLMsg *(*const read_info)(CURLM *, int *) =
		(CURLMsg * (*)(CURLM *, int *)) dlsym(RTLD_DEFAULT, "curl_multi_info_read");
	CURLcode (*const perform)(CURL *) =
		(CURLcode(*)(CURL *)) dlsym(RTLD_DEFAULT, "curl_easy_perform");
	int left = 0;

	(void)h;
	assert_null(dlsym(RTLD_DEFAULT, "curl_version"));
	assert_null(init());
	assert_null(read_info(NULL, &left));
	assert_int_equal(perform(NULL), CURLE_FAILED_INIT);
}

/* Their stories are test_curl's. */
static const struct kind transferring = {.own = {fails_without_libcurl}};

/* The same of TLS: each call fails as it does of a session that is broken. */
static void fails_without_a_tls_library(const struct hook *h)
{
	int (*const call)(void *, void *, int, size_t *) =
		(int (*)(void *, void *, int, size_t *))dlsym(RTLD_DEFAULT, h->name);
	char byte = 0;
	size_t n = 0;

	assert_non_null(call);
	assert_null(dlsym(RTLD_DEFAULT, "OPENSSL_init_ssl"));
	assert_null(dlsym(RTLD_DEFAULT, "gnutls_init"));
	assert_true(call(NULL, &byte, 1, &n) <= 0);
	assert_int_equal(n, 0);
}

/* Their stories are those of the programs' suite and of test_tls. */
static const struct kind sealing = {.own = {fails_without_a_tls_library}};

/* Found by its caller's RUNPATH or not is test_hosts'; errors are libc's own. */
static void opens_as_libc_does(const struct hook *h)
{
	void *self = dlopen(NULL, RTLD_NOW);
	const char *error;

	(void)h;
	assert_non_null(self);
	assert_ptr_equal(dlsym(self, "dlopen"), dlsym(RTLD_DEFAULT, "dlopen"));
	assert_null(dlopen("libnobody-has-this.so", RTLD_NOW));
	error = dlerror();
	assert_non_null(error);
	assert_non_null(strstr(error, "libnobody-has-this.so"));
	assert_null(dlerror());
}

static const struct kind opening = {.own = {opens_as_libc_does}};

/* ---- the table ---- */

static const struct hook hooks[] = {
	{"connect", NULL, &connecting, .reach = connect},
	{"__connect", NULL, &connecting, .reach = __connect},
	{"syscall", "SYS_connect", &connecting, .reach = by_syscall_connect},
	{"syscall", "SYS_sendto, fast open", &connecting, .reach = by_syscall_sendto},
	{"sendto", "fast open", &connecting, .reach = by_sendto},
	{"sendmsg", "fast open", &connecting, .reach = by_sendmsg},
	{"sendmmsg", "fast open", &connecting, .reach = by_sendmmsg},

	{"recv", NULL, &receiving, .get = get_recv},
	{"read", NULL, &receiving, .get = get_read},
	{"__read", NULL, &receiving, .get = get___read},
	{"readv", NULL, &receiving, .get = get_readv},
	{"recvfrom", NULL, &receiving, .get = get_recvfrom},
	{"recvmsg", NULL, &receiving, .get = get_recvmsg},
	{"recvmmsg", NULL, &receiving, .get = get_recvmmsg},
	{"__read_chk", NULL, &receiving, .get = get_read_chk},
	{"__recv_chk", NULL, &receiving, .get = get_recv_chk},
	{"__recvfrom_chk", NULL, &receiving, .get = get_recvfrom_chk},
	{"syscall", "SYS_read", &receiving, .get = get_syscall_read},
	{"syscall", "SYS_recvfrom", &receiving, .get = get_syscall_recvfrom},
	{"syscall", "SYS_recvmsg", &receiving, .get = get_syscall_recvmsg},
	{"syscall", "SYS_readv", &receiving, .get = get_syscall_readv},
	{"syscall", "SYS_recvmmsg", &receiving, .get = get_syscall_recvmmsg},

	{"write", NULL, &sending, .put = put_write},
	{"__write", NULL, &sending, .put = put___write},
	{"writev", NULL, &sending, .put = put_writev},
	{"send", NULL, &sending, .put = put_send},
	{"__send", NULL, &sending, .put = put___send},
	{"sendto", NULL, &sending, .put = put_sendto},
	{"sendmsg", NULL, &sending, .put = put_sendmsg},
	{"sendmmsg", NULL, &sending, .put = put_sendmmsg},
	{"sendfile", NULL, &sending, .put = put_sendfile},
	{"sendfile64", NULL, &sending, .put = put_sendfile64},
	{"syscall", "SYS_write", &sending, .put = put_syscall_write},
	{"syscall", "SYS_sendto", &sending, .put = put_syscall_sendto},
	{"syscall", "SYS_sendmsg", &sending, .put = put_syscall_sendmsg},
	{"syscall", "SYS_writev", &sending, .put = put_syscall_writev},
	{"syscall", "SYS_sendmmsg", &sending, .put = put_syscall_sendmmsg},
	{"syscall", "SYS_sendfile", &sending, .put = put_syscall_sendfile},

	{"close", NULL, &ending, .end = close},
	{"__close", NULL, &ending, .end = __close},
	{"close_range", NULL, &ending, .end = end_close_range},
	{"closefrom", NULL, &ending, .end = end_closefrom},
	{"fclose", NULL, &ending, .end = end_fclose},
	{"freopen", NULL, &ending, .end = end_freopen},
	{"freopen64", NULL, &ending, .end = end_freopen64},
	{"shutdown", NULL, &ending, .end = end_shutdown},
	{"dup2", "onto a connection", &ending, .end = end_dup2},
	{"__dup2", "onto a connection", &ending, .end = end___dup2},
	{"dup3", "onto a connection", &ending, .end = end_dup3},
	{"syscall", "SYS_close", &ending, .end = end_syscall_close},
	{"syscall", "SYS_close_range", &ending, .end = end_syscall_close_range},
	{"syscall", "SYS_dup3, onto a connection", &ending, .end = end_syscall_dup3},
#ifdef SYS_dup2
	{"syscall", "SYS_dup2, onto a connection", &ending, .end = end_syscall_dup2},
#endif
	{"syscall", "SYS_shutdown", &ending, .end = end_syscall_shutdown},

	{"dup", NULL, &copying, .copy = dup},
	{"dup2", NULL, &copying, .copy = copy_dup2},
	{"__dup2", NULL, &copying, .copy = copy___dup2},
	{"dup3", NULL, &copying, .copy = copy_dup3},
	{"fcntl", "F_DUPFD", &copying, .copy = copy_fcntl},
	{"fcntl", "F_DUPFD_CLOEXEC", &copying, .copy = copy_fcntl_cloexec},
	{"fcntl64", NULL, &copying, .copy = copy_fcntl64},
	{"__fcntl", NULL, &copying, .copy = copy___fcntl},
	{"syscall", "SYS_dup", &copying, .copy = copy_syscall_dup},
	{"syscall", "SYS_dup3", &copying, .copy = copy_syscall_dup3},
	{"syscall", "SYS_fcntl", &copying, .copy = copy_syscall_fcntl},

	{"getsockopt", "SO_ERROR", &asking, .ask = ask_getsockopt},
	{"syscall", "SYS_getsockopt", &asking, .ask = ask_syscall},

	{"socket", NULL, &handing, .hand = hand_socket},
	{"socketpair", NULL, &handing, .hand = hand_socketpair},
	{"accept", NULL, &handing, .prepare = prepare_listener, .hand = hand_accept},
	{"accept4", NULL, &handing, .prepare = prepare_listener, .hand = hand_accept4},
	{"recvmsg", "SCM_RIGHTS", &handing, .prepare = prepare_message,
	 .hand = hand_recvmsg},
	{"recvmmsg", "SCM_RIGHTS", &handing, .prepare = prepare_message,
	 .hand = hand_recvmmsg},
	{"dup", "of an untracked file", &handing, .prepare = prepare_dup,
	 .hand = hand_dup},
	{"fcntl", "of an untracked file", &handing, .prepare = prepare_dup,
	 .hand = hand_fcntl},
	{"syscall", "SYS_socket", &handing, .hand = hand_syscall_socket},
	{"syscall", "SYS_socketpair", &handing, .hand = hand_syscall_socketpair},
	{"syscall", "SYS_accept", &handing, .prepare = prepare_listener,
	 .hand = hand_syscall_accept},
	{"syscall", "SYS_accept4", &handing, .prepare = prepare_listener,
	 .hand = hand_syscall_accept4},

	{"getaddrinfo", NULL, &naming, .look_up = look_up_getaddrinfo},
	{"gethostbyname", NULL, &naming, .look_up = look_up_gethostbyname},
	{"gethostbyname2", NULL, &naming, .look_up = look_up_gethostbyname2},
	{"gethostbyname_r", NULL, &naming, .look_up = look_up_gethostbyname_r},
	{"gethostbyname2_r", NULL, &naming, .look_up = look_up_gethostbyname2_r},

	{"poll", NULL, &waiting, .await = await_poll},
	{"__poll_chk", NULL, &waiting, .await = await_poll_chk},
	{"ppoll", NULL, &waiting, .await = await_ppoll},
	{"__ppoll_chk", NULL, &waiting, .await = await_ppoll_chk},
	{"select", NULL, &waiting, .await = await_select},
	{"pselect", NULL, &waiting, .await = await_pselect},
	{"epoll_ctl", NULL, &waiting, .await = await_epoll_wait},
	{"epoll_wait", NULL, &waiting, .await = await_epoll_wait},
	{"epoll_pwait", NULL, &waiting, .await = await_epoll_pwait},
	{"epoll_pwait2", NULL, &waiting, .await = await_epoll_pwait2},
	{"syscall", "SYS_epoll_pwait", &waiting, .await = await_syscall_epoll_pwait},
	{"listen", .kind = &listening_kind},

	{"prctl", .kind = &controlling},
	{"execl", .kind = &starting},
	{"execle", .kind = &starting},
	{"execlp", .kind = &starting},
	{"execv", .kind = &starting},
	{"execve", .kind = &starting},
	{"execveat", .kind = &starting},
	{"execvp", .kind = &starting},
	{"execvpe", .kind = &starting},
	{"fexecve", .kind = &starting},
	{"posix_spawn", .kind = &starting},
	{"posix_spawnp", .kind = &starting},
	{"syscall", "SYS_execve", .kind = &starting},
	{"syscall", "SYS_execveat", .kind = &starting},
	{"pthread_create", .kind = &creating},
	{"dlopen", .kind = &opening},
	{"agentshim_version", .kind = &telling},
	{"agentshim_traceparent", .kind = &spanning},
	{"agentshim_span_begin", .kind = &spanning},
	{"agentshim_span_tag", .kind = &spanning},
	{"agentshim_span_end", .kind = &spanning},

	{"curl_easy_cleanup", .as = "without libcurl", .kind = &transferring},
	{"curl_easy_duphandle", .as = "without libcurl", .kind = &transferring},
	{"curl_easy_init", .as = "without libcurl", .kind = &transferring},
	{"curl_easy_perform", .as = "without libcurl", .kind = &transferring},
	{"curl_easy_reset", .as = "without libcurl", .kind = &transferring},
	{"curl_easy_setopt", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_add_handle", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_cleanup", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_info_read", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_perform", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_remove_handle", .as = "without libcurl", .kind = &transferring},
	{"curl_multi_socket_action", .as = "without libcurl", .kind = &transferring},

	{"SSL_accept", .as = "without libssl", .kind = &sealing},
	{"SSL_connect", .as = "without libssl", .kind = &sealing},
	{"SSL_do_handshake", .as = "without libssl", .kind = &sealing},
	{"SSL_peek", .as = "without libssl", .kind = &sealing},
	{"SSL_peek_ex", .as = "without libssl", .kind = &sealing},
	{"SSL_read", .as = "without libssl", .kind = &sealing},
	{"SSL_read_early_data", .as = "without libssl", .kind = &sealing},
	{"SSL_read_ex", .as = "without libssl", .kind = &sealing},
	{"SSL_sendfile", .as = "without libssl", .kind = &sealing},
	{"SSL_shutdown", .as = "without libssl", .kind = &sealing},
	{"SSL_write", .as = "without libssl", .kind = &sealing},
	{"SSL_write_early_data", .as = "without libssl", .kind = &sealing},
	{"SSL_write_ex", .as = "without libssl", .kind = &sealing},
	{"gnutls_bye", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_handshake", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_recv", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_recv_packet", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_recv_seq", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_send", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_send2", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_send_early_data", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_send_file", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_send_range", .as = "without libgnutls", .kind = &sealing},
	{"gnutls_record_uncork", .as = "without libgnutls", .kind = &sealing},
};

/* ---- the stories ---- */

static void admitted(const struct hook *h)
{
	struct peer p = h->kind->peer(WELL);

	h->kind->call(h, &p, WELL);
	assert_totals(p.key, 1, 0, 0);
	peer_drop(&p);
}

static void failure_counted(const struct hook *h)
{
	for (int i = 0; i < h->kind->n_sick; i++) {
		const enum health health = (enum health)(SICK + i);
		struct peer p = h->kind->peer(health);

		h->kind->call(h, &p, health);
		assert_totals(p.key, 0, 1, 0);
		peer_drop(&p);
	}
}

static void tripped(const struct hook *h, struct peer *p)
{
	*p = h->kind->peer(SICK);
	for (int i = 0; i < TRIP_AT; i++)
		h->kind->call(h, p, SICK);
	assert_int_equal(state_of(p->key), BREAKER_OPEN);
}

static void refused(const struct hook *h)
{
	struct peer p;

	tripped(h, &p);
	h->kind->refused(h, &p);
	assert_totals(p.key, 0, TRIP_AT, 0);
	peer_drop(&p);
}

static void recovers(const struct hook *h)
{
	struct peer p;

	tripped(h, &p);
	peer_rest(p.key);
	peer_heal(&p);
	h->kind->call(h, &p, WELL);
	assert_int_equal(state_of(p.key), BREAKER_CLOSED);
	assert_totals(p.key, 1, TRIP_AT, 0);
	peer_drop(&p);
}

static const struct {
	const char *name;
	void (*tell)(const struct hook *h);
} stories[] = {
	{"admitted", admitted},
	{"failure counted", failure_counted},
	{"refused", refused},
	{"recovers", recovers},
};

struct case_of {
	const struct hook *hook;
	void (*tell)(const struct hook *h);
};

static void tell(void **state)
{
	const struct case_of *c = *state;

	c->tell(c->hook);
}

static const char
	*exports; /* the checked-in list, which test_object compares with nm's */

static void every_exported_name_has_a_row(void **state)
{
	FILE *f = fopen(exports, "re");
	char name[64];
	int names = 0;

	(void)state;
	assert_non_null(f);
	while (fscanf(f, "%63s", name) == 1) {
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
			found = found || strcmp(hooks[i].name, name) == 0;
		if (!found)
			print_message("# %s is exported and has no row here\n", name);
		assert_true(found);
		names++;
	}
	assert_true(names > 0);
	(void)fclose(f);
}

/* A name that libc or another library defines in front of us would be tested in vain. */
static void every_row_is_ours(void **state)
{
	Dl_info shim, found;

	(void)state;
	assert_true(dladdr(dlsym(RTLD_DEFAULT, "agentshim_version"), &shim) != 0);
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		assert_true(dladdr(dlsym(RTLD_DEFAULT, hooks[i].name), &found) != 0);
		if (found.dli_fbase != shim.dli_fbase)
			print_message("# %s comes from %s\n", hooks[i].name,
				      found.dli_fname);
		assert_ptr_equal(found.dli_fbase, shim.dli_fbase);
	}
}

int main(int argc, char **argv)
{
	static struct case_of cases[ARRAY_SIZE(hooks) * ARRAY_SIZE(stories)];
	static char names[ARRAY_SIZE(cases)][64];
	static struct CMUnitTest tests[2 + ARRAY_SIZE(cases)] = {
		cmocka_unit_test(every_exported_name_has_a_row),
		cmocka_unit_test(every_row_is_ours),
	};
	size_t n = 0;

	host_start(argc, argv, NULL);
	exports = argc > 1 ? argv[1] : "tests/preload/exports.txt";
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		const struct hook *h = &hooks[i];
		const bool own = h->kind->own[0] != NULL;

		for (size_t j = 0; j < ARRAY_SIZE(stories); j++) {
			if (own && h->kind->own[j] == NULL)
				continue;
			cases[n] = (struct case_of){h, own ? h->kind->own[j]
							   : stories[j].tell};
			(void)snprintf(names[n], sizeof(names[n]), "%s%s%s%s: %s",
				       h->name, h->as != NULL ? " (" : "",
				       h->as != NULL ? h->as : "",
				       h->as != NULL ? ")" : "", stories[j].name);
			tests[2 + n] = (struct CMUnitTest){names[n], tell, NULL, NULL,
							   &cases[n]};
			n++;
		}
	}
	return _cmocka_run_group_tests("hooks", tests, 2 + n, NULL, NULL);
}
