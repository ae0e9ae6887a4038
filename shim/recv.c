/* SPDX-License-Identifier: Apache-2.0 */
/* What the program receives: the first byte from a peer is the success of its connect. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/follow.h"
#include "shim/real.h"
#include "shim/socket.h"

static FOLLOWED ssize_t read_followed(ssize_t (*next)(int, void *, size_t), int fd, void *buf,
				      size_t len, fds_word word)
{
	const struct iovec v = { buf, len };
	const uint32_t mark = follow_mark(word, STREAM_IN);
	const ssize_t rc = next(fd, buf, len);

	follow_received(fd, word, &v, 1, rc, len, mark);
	return rc;
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.read(fd, buf, len);
	return read_followed(real.read, fd, buf, len, word);
}

ssize_t __read(int fd, void *buf, size_t len);

EXPORT ssize_t __read(int fd, void *buf, size_t len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.__read(fd, buf, len);
	return read_followed(real.__read, fd, buf, len, word);
}

static size_t room(const struct iovec *iov, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += iov[i].iov_len;
	return total;
}

static FOLLOWED ssize_t readv_followed(int fd, const struct iovec *iov, int n, fds_word word)
{
	const uint32_t mark = follow_mark(word, STREAM_IN);
	const ssize_t rc = real.readv(fd, iov, n);

	/* Of a call that failed the vector may be what was wrong with it. */
	if (rc < 0)
		follow_received(fd, word, NULL, 0, rc, 1, mark);
	else
		follow_received(fd, word, iov, (size_t) n, rc, room(iov, (size_t) n), mark);
	return rc;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.readv(fd, iov, n);
	return readv_followed(fd, iov, n, word);
}

/* The error queue (timestamps, zero-copy notices) says nothing of the peer's bytes. */
static bool of_the_peer(int flags, ssize_t rc)
{
	const int look = MSG_PEEK | MSG_DONTWAIT;

	if ((flags & MSG_ERRQUEUE) != 0)
		return false;
	/* A pool looks whether the peer is still there; it awaits no answer. */
	return !(rc < 0 && errno == EAGAIN && (flags & look) == look);
}

/* As follow_received(), for calls with flags. */
static void received(int fd, fds_word word, const struct iovec *iov, size_t n_iov, ssize_t rc,
		     size_t wanted, int flags, uint32_t mark)
{
	if (!of_the_peer(flags, rc))
		return;
	/* Bytes that were only looked at come again. */
	if (rc > 0 && (flags & MSG_PEEK) != 0 &&
	    (stream_http(word) == STREAM_HTTP || stream_http(word) == STREAM_TLS)) {
		follow_peeked(fd, word);
		return;
	}
	/* Thrown away by the kernel, or out of order: we have not seen what went by. */
	if (rc > 0 && (flags & (MSG_TRUNC | MSG_OOB)) != 0) {
		traffic_lost(word, STREAM_IN);
		n_iov = 0;
	}
	follow_received(fd, word, iov, n_iov, rc, wanted, mark);
}

static FOLLOWED ssize_t recv_followed(ssize_t (*next)(int, void *, size_t, int), int fd, void *buf,
				      size_t len, int flags, fds_word word)
{
	const struct iovec v = { buf, len };
	const uint32_t mark = follow_mark(word, STREAM_IN);
	const ssize_t rc = next(fd, buf, len, flags);

	received(fd, word, &v, 1, rc, len, flags, mark);
	return rc;
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.recv(fd, buf, len, flags);
	return recv_followed(real.recv, fd, buf, len, flags, word);
}

static FOLLOWED ssize_t recvfrom_followed(int fd, void *buf, size_t len, int flags,
					  struct sockaddr *addr, socklen_t *addr_len,
					  fds_word word)
{
	const struct iovec v = { buf, len };
	const uint32_t mark = follow_mark(word, STREAM_IN);
	const ssize_t rc = real.recvfrom(fd, buf, len, flags, addr, addr_len);

	received(fd, word, &v, 1, rc, len, flags, mark);
	return rc;
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
			socklen_t *addr_len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.recvfrom(fd, buf, len, flags, addr, addr_len);
	return recvfrom_followed(fd, buf, len, flags, addr, addr_len, word);
}

/* Descriptors that came in a message are new: whatever we knew under their numbers is old. */
static void reset_passed(const struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
	     c = CMSG_NXTHDR((struct msghdr *) msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;

		const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			__builtin_memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			fd_handed_out(fd);
		}
	}
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	const fds_word word = fds_get(fd);
	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_IN) : 0;
	const ssize_t rc = real.recvmsg(fd, msg, flags);

	if (rc >= 0 && msg->msg_controllen > 0)
		reset_passed(msg);
	if (word != 0 && rc < 0)
		received(fd, word, NULL, 0, rc, 1, flags, mark);
	else if (word != 0)
		received(fd, word, msg->msg_iov, msg->msg_iovlen, rc,
			 room(msg->msg_iov, msg->msg_iovlen), flags, mark);
	return rc;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	const fds_word word = fds_get(fd);
	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_IN) : 0;
	const int rc = real.recvmmsg(fd, msgs, n, flags, timeout);

	for (int i = 0; i < rc; i++)
		if (msgs[i].msg_hdr.msg_controllen > 0)
			reset_passed(&msgs[i].msg_hdr);
	if (word != 0 && rc < 0)
		received(fd, word, NULL, 0, rc, 1, flags, mark);
	for (int i = 0; word != 0 && i < rc; i++)
		received(fd, word, msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen,
			 (ssize_t) msgs[i].msg_len,
			 room(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen), flags, mark);
	return rc;
}

/* What programs built with _FORTIFY_SOURCE call; <sys/socket.h> declares these only for them. */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
		       struct sockaddr *addr, socklen_t *addr_len);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	const fds_word word = fds_get(fd);
	const struct iovec v = { buf, len };
	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_IN) : 0;
	const ssize_t rc = real.read_chk(fd, buf, len, size);

	if (word != 0)
		follow_received(fd, word, &v, 1, rc, len, mark);
	return rc;
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	const fds_word word = fds_get(fd);
	const struct iovec v = { buf, len };
	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_IN) : 0;
	const ssize_t rc = real.recv_chk(fd, buf, len, size, flags);

	if (word != 0)
		received(fd, word, &v, 1, rc, len, flags, mark);
	return rc;
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
			      struct sockaddr *addr, socklen_t *addr_len)
{
	const fds_word word = fds_get(fd);
	const struct iovec v = { buf, len };
	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_IN) : 0;
	const ssize_t rc = real.recvfrom_chk(fd, buf, len, size, flags, addr, addr_len);

	if (word != 0)
		received(fd, word, &v, 1, rc, len, flags, mark);
	return rc;
}
