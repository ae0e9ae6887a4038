/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program sends. All of these ask libc first and look at the answer afterwards, but
 * for those that connect on the way (TCP Fast Open): they pass the same gate as connect(2).
 */
#include <netinet/in.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/connect.h"
#include "shim/follow.h"
#include "shim/real.h"

static FOLLOWED ssize_t write_followed(ssize_t (*next)(int, const void *, size_t), int fd,
				       const void *buf, size_t len, fds_word word)
{
	const ssize_t rc = next(fd, buf, len);

	follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.write(fd, buf, len);
	return write_followed(real.write, fd, buf, len, word);
}

ssize_t __write(int fd, const void *buf, size_t len);

EXPORT ssize_t __write(int fd, const void *buf, size_t len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.__write(fd, buf, len);
	return write_followed(real.__write, fd, buf, len, word);
}

static FOLLOWED ssize_t writev_followed(int fd, const struct iovec *iov, int n, fds_word word)
{
	const ssize_t rc = real.writev(fd, iov, n);

	follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.writev(fd, iov, n);
	return writev_followed(fd, iov, n, word);
}

static FOLLOWED ssize_t send_followed(ssize_t (*next)(int, const void *, size_t, int), int fd,
				      const void *buf, size_t len, int flags, fds_word word)
{
	const ssize_t rc = next(fd, buf, len, flags);

	follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.send(fd, buf, len, flags);
	return send_followed(real.send, fd, buf, len, flags, word);
}

ssize_t __send(int fd, const void *buf, size_t len, int flags);

EXPORT ssize_t __send(int fd, const void *buf, size_t len, int flags)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.__send(fd, buf, len, flags);
	return send_followed(real.__send, fd, buf, len, flags, word);
}

/*
 * Fast Open connects and sends in one call. EINPROGRESS: the SYN is out without data, the
 * connection is under way; anything else that fails is the outcome of the connect.
 */
static bool fast_open_refused(int fd, const struct sockaddr *addr, socklen_t len,
			      fds_word *ret_follow)
{
	const int before = errno;
	int refusal = 0;

	*ret_follow = 0;
	if (!armed || !life_own_memory() || !guard_enter())
		return false;

	const enum gate gate = connect_gate(fd, addr, len, &refusal);

	/* As in connect(): the word of this call, whoever has the number when it is over. */
	*ret_follow = gate == GATE_FOLLOW ? fds_get(fd) : 0;
	guard_leave();
	errno = gate == GATE_REFUSE ? refusal : before;
	return gate == GATE_REFUSE;
}

static void fast_open_done(int fd, fds_word word, ssize_t rc)
{
	const int error = errno;

	if (guard_enter()) {
		if (rc < 0)
			stream_connected(fd, word, -1, error);
		else
			stream_sent(fd, word, rc, error);
		guard_leave();
	}
	errno = error;
}

static FOLLOWED ssize_t sendto_followed(int fd, const void *buf, size_t len, int flags,
					const struct sockaddr *addr, socklen_t addr_len,
					fds_word word)
{
	fds_word follow = 0;

	if ((flags & MSG_FASTOPEN) != 0 && fast_open_refused(fd, addr, addr_len, &follow))
		return -1;

	const ssize_t rc = real.sendto(fd, buf, len, flags, addr, addr_len);

	if (follow != 0)
		fast_open_done(fd, follow, rc);
	else if (word != 0)
		follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr,
		      socklen_t addr_len)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0 && (flags & MSG_FASTOPEN) == 0, 1))
		return real.sendto(fd, buf, len, flags, addr, addr_len);
	return sendto_followed(fd, buf, len, flags, addr, addr_len, word);
}

static FOLLOWED ssize_t sendmsg_followed(int fd, const struct msghdr *msg, int flags, fds_word word)
{
	fds_word follow = 0;

	if ((flags & MSG_FASTOPEN) != 0 && msg != NULL &&
	    fast_open_refused(fd, msg->msg_name, msg->msg_namelen, &follow))
		return -1;

	const ssize_t rc = real.sendmsg(fd, msg, flags);

	if (follow != 0)
		fast_open_done(fd, follow, rc);
	else if (word != 0)
		follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0 && (flags & MSG_FASTOPEN) == 0, 1))
		return real.sendmsg(fd, msg, flags);
	return sendmsg_followed(fd, msg, flags, word);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	const fds_word word = fds_get(fd);
	fds_word follow;

	if (__builtin_expect(word == 0 && (flags & MSG_FASTOPEN) == 0, 1))
		return real.sendmmsg(fd, msgs, n, flags);
	if ((flags & MSG_FASTOPEN) != 0 && msgs != NULL && n > 0) {
		if (fast_open_refused(fd, msgs->msg_hdr.msg_name, msgs->msg_hdr.msg_namelen,
				      &follow))
			return -1;

		const int rc = real.sendmmsg(fd, msgs, n, flags);

		if (follow != 0)
			fast_open_done(fd, follow, rc);
		return rc;
	}

	const int rc = real.sendmmsg(fd, msgs, n, flags);

	if (word != 0)
		follow_sent(fd, word, rc);
	return rc;
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
	const fds_word word = fds_get(out);

	if (__builtin_expect(word == 0, 1))
		return real.sendfile(out, in, offset, len);

	const ssize_t rc = real.sendfile(out, in, offset, len);

	follow_sent(out, word, rc);
	return rc;
}

/* Where off_t has 64 bits the two are one; nginx asks for this name. */
extern __typeof__(sendfile) sendfile64 __attribute__((alias("sendfile"), visibility("default")));
