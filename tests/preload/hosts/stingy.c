/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel that takes what it likes: the library that the shim finds below itself. */
#include "tests/preload/hosts/stingy.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/raw.h"

__attribute__((visibility("default"))) struct stingy stingy = { .fd = -1 };

static ssize_t answer(long rc)
{
	if (rc >= 0)
		return rc;
	errno = (int) -rc;
	return -1;
}

static uint64_t below(uint64_t n)
{
	uint64_t x = stingy.random += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (x ^ x >> 31) % n;
}

static ssize_t refuse(int error)
{
	stingy.refused = true;
	stingy.error = error;
	errno = error;
	return -1;
}

/* Only MSG_MORE may be added, and MSG_NOSIGNAL once the program is told of bytes sent. */
static void look_at(int flags)
{
	const int added = flags & ~stingy.flags, lost = stingy.flags & ~flags;

	if ((added & ~(MSG_MORE | MSG_NOSIGNAL)) != 0 ||
	    ((added & MSG_NOSIGNAL) != 0 && stingy.taken == 0))
		stingy.wrong = "a flag that the program did not give";
	if ((lost & ~MSG_ZEROCOPY) != 0)
		stingy.wrong = "a flag of the program's is lost";
}

static size_t part_of(size_t n)
{
	if (stingy.counts) {
		n = n < stingy.budget ? n : stingy.budget;
		stingy.budget -= n;
		return n;
	}

	const uint64_t dice = below(100);

	if (n <= 1 || dice < stingy.all)
		return n;
	return below(100) < stingy.one ? 1 : 1 + below(n - 1);
}

/* libc's: a point of cancellation. */
static ssize_t (*next_sendmsg)(int, const struct msghdr *, int);

__attribute__((constructor)) static void find_next(void)
{
	next_sendmsg = (ssize_t (*)(int, const struct msghdr *, int)) dlsym(RTLD_NEXT, "sendmsg");
}

static ssize_t take(int fd, const struct iovec *iov, size_t n_iov, int flags)
{
	static struct iovec part[IOV_MAX];
	struct msghdr some = { .msg_iov = part };
	size_t total = 0, left;

	if (fd != stingy.fd)
		return answer(raw_syscall(SYS_writev, fd, (long) iov, (long) n_iov, 0, 0, 0));
	stingy.calls++;
	stingy.refused = false;
	stingy.more = (flags & MSG_MORE) != 0;
	if (stingy.strict)
		look_at(flags);
	for (size_t i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	if (total == 0)
		return 0;
	if (stingy.counts && stingy.budget == 0) {
		stingy.waits = stingy.pauses;
		while (stingy.pauses)
			pause();
		return refuse(EAGAIN);
	}
	if (stingy.broken)
		return refuse(EPIPE);
	if (below(1000) < stingy.fatal) {
		stingy.broken = true;
		return refuse(below(2) == 0 ? ECONNRESET : EPIPE);
	}
	if (!stingy.counts && below(100) < stingy.none)
		return refuse(below(4) == 0 ? EINTR : EAGAIN);
	left = part_of(total);
	for (size_t i = 0; i < n_iov && left > 0; i++) {
		part[some.msg_iovlen] = iov[i];
		if (iov[i].iov_len > left)
			part[some.msg_iovlen].iov_len = left;
		left -= part[some.msg_iovlen++].iov_len;
	}

	const ssize_t n = answer(raw_syscall(SYS_sendmsg, fd, (long) &some,
					     MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0, 0));

	if (n < 0)
		return refuse(errno);
	stingy.taken += (size_t) n;
	stingy.zerocopies += (flags & MSG_ZEROCOPY) != 0;
	stingy.refused = (size_t) n < total;
	return n;
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return take(fd, iov, (size_t) n, 0);
}

EXPORTED ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return fd == stingy.fd ? take(fd, msg->msg_iov, msg->msg_iovlen, flags)
			       : next_sendmsg(fd, msg, flags);
}

EXPORTED ssize_t write(int fd, const void *buf, size_t len)
{
	const struct iovec v = { (void *) buf, len };

	return fd == stingy.fd ? take(fd, &v, 1, 0)
			       : answer(raw_syscall(SYS_write, fd, (long) buf, (long) len, 0, 0, 0));
}

EXPORTED ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr,
		       socklen_t addr_len)
{
	struct iovec v = { (void *) buf, len };
	const struct msghdr msg = {
		.msg_name = (void *) addr, .msg_namelen = addr_len, .msg_iov = &v, .msg_iovlen = 1,
	};

	return fd == stingy.fd ? take(fd, &v, 1, flags) : next_sendmsg(fd, &msg, flags);
}

EXPORTED ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	return sendto(fd, buf, len, flags, NULL, 0);
}

ssize_t __write(int fd, const void *buf, size_t len);
ssize_t __send(int fd, const void *buf, size_t len, int flags);

EXPORTED ssize_t __write(int fd, const void *buf, size_t len)
{
	return write(fd, buf, len);
}

EXPORTED ssize_t __send(int fd, const void *buf, size_t len, int flags)
{
	return sendto(fd, buf, len, flags, NULL, 0);
}
