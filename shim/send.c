/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program sends. All of these ask libc first and look at the answer afterwards, but
 * for those that connect on the way (TCP Fast Open): they pass the same gate as connect(2).
 */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/connect.h"
#include "shim/follow.h"
#include "shim/readable.h"
#include "shim/real.h"

/* A client that speaks HTTP: its bytes are looked at before they go. */
static bool client(fds_word word)
{
	return (stream_http(word) == STREAM_HTTP || traffic_tail(word)) && !stream_inbound(word) &&
	       life_acts();
}

/* What went by, or goes in the SYN, cannot be followed. */
static void lost(fds_word word)
{
	if (word != 0)
		traffic_lost(word, STREAM_OUT);
}

/* The program's own call, for traffic_send() to make as it came. */
struct plain {
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*send)(int, const void *, size_t, int);
	int fd, flags, n;
	const void *buf;
	size_t len;
	const struct sockaddr *addr;
	socklen_t addr_len;
	const struct msghdr *msg;
};

static ssize_t plain_write(void *arg)
{
	const struct plain *p = arg;

	return p->write(p->fd, p->buf, p->len);
}

static FOLLOWED ssize_t write_followed(ssize_t (*next)(int, const void *, size_t), int fd,
				       const void *buf, size_t len, fds_word word)
{
	const struct iovec v = { (void *) buf, len };
	struct plain p = { .write = next, .fd = fd, .buf = buf, .len = len };
	const struct traffic_call call = { 0 };

	if (client(word))
		return traffic_send(fd, word, &v, 1, &call, plain_write, &p);

	const uint32_t mark = follow_mark(word, STREAM_OUT);
	const ssize_t rc = next(fd, buf, len);

	follow_sent(fd, word, &v, 1, rc, mark);
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

static ssize_t plain_writev(void *arg)
{
	const struct plain *p = arg;

	return real.writev(p->fd, p->buf, p->n);
}

static FOLLOWED ssize_t writev_followed(int fd, const struct iovec *iov, int n, fds_word word)
{
	struct plain p = { .fd = fd, .buf = iov, .n = n };
	const struct traffic_call call = { .vector = true };

	if (n > 0 && n <= IOV_MAX && client(word))
		return traffic_send(fd, word, iov, (size_t) n, &call, plain_writev, &p);

	const uint32_t mark = follow_mark(word, STREAM_OUT);
	const ssize_t rc = real.writev(fd, iov, n);

	follow_sent(fd, word, iov, n > 0 ? (size_t) n : 0, rc, mark);
	return rc;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0, 1))
		return real.writev(fd, iov, n);
	return writev_followed(fd, iov, n, word);
}

static ssize_t plain_send(void *arg)
{
	const struct plain *p = arg;

	return p->send(p->fd, p->buf, p->len, p->flags);
}

static FOLLOWED ssize_t send_followed(ssize_t (*next)(int, const void *, size_t, int), int fd,
				      const void *buf, size_t len, int flags, fds_word word)
{
	const struct iovec v = { (void *) buf, len };
	struct plain p = { .send = next, .fd = fd, .buf = buf, .len = len, .flags = flags };
	const struct traffic_call call = { .flags = flags };

	if ((flags & MSG_OOB) != 0)
		lost(word);
	else if (client(word))
		return traffic_send(fd, word, &v, 1, &call, plain_send, &p);

	const uint32_t mark = follow_mark(word, STREAM_OUT);
	const ssize_t rc = next(fd, buf, len, flags);

	follow_sent(fd, word, &v, 1, rc, mark);
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

static ssize_t plain_sendto(void *arg)
{
	const struct plain *p = arg;

	return real.sendto(p->fd, p->buf, p->len, p->flags, p->addr, p->addr_len);
}

static FOLLOWED ssize_t sendto_followed(int fd, const void *buf, size_t len, int flags,
					const struct sockaddr *addr, socklen_t addr_len,
					fds_word word)
{
	const struct iovec v = { (void *) buf, len };
	struct plain p = { .fd = fd, .buf = buf, .len = len, .flags = flags, .addr = addr,
			   .addr_len = addr_len };
	const struct traffic_call call = { .flags = flags };
	fds_word follow = 0;

	if ((flags & MSG_FASTOPEN) != 0 && fast_open_refused(fd, addr, addr_len, &follow))
		return -1;
	if (follow != 0 || (flags & MSG_OOB) != 0)
		lost(follow != 0 ? follow : word);
	else if (word != 0 && client(word))
		return traffic_send(fd, word, &v, 1, &call, plain_sendto, &p);

	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_OUT) : 0;
	const ssize_t rc = real.sendto(fd, buf, len, flags, addr, addr_len);

	if (follow != 0)
		fast_open_done(fd, follow, rc);
	else if (word != 0)
		follow_sent(fd, word, &v, 1, rc, mark);
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

static ssize_t plain_sendmsg(void *arg)
{
	const struct plain *p = arg;

	return real.sendmsg(p->fd, p->msg, p->flags);
}

static FOLLOWED ssize_t sendmsg_followed(int fd, const struct msghdr *msg, int flags, fds_word word)
{
	struct plain p = { .fd = fd, .msg = msg, .flags = flags };
	const struct traffic_call call = { .flags = flags, .msg = msg, .vector = true };
	fds_word follow = 0;

	if ((flags & MSG_FASTOPEN) != 0 && life_acts() && readable(msg, sizeof(*msg)) &&
	    fast_open_refused(fd, msg->msg_name, msg->msg_namelen, &follow))
		return -1;
	if (follow != 0 || (flags & MSG_OOB) != 0)
		lost(follow != 0 ? follow : word);
	else if (word != 0 && client(word) && readable(msg, sizeof(*msg)) &&
		 msg->msg_iovlen <= IOV_MAX)
		return traffic_send(fd, word, msg->msg_iov, msg->msg_iovlen, &call, plain_sendmsg,
				    &p);

	const uint32_t mark = word != 0 ? follow_mark(word, STREAM_OUT) : 0;
	const ssize_t rc = real.sendmsg(fd, msg, flags);

	if (follow != 0)
		fast_open_done(fd, follow, rc);
	else if (word != 0)
		follow_sent(fd, word, rc > 0 ? msg->msg_iov : NULL, rc > 0 ? msg->msg_iovlen : 0,
			    rc, mark);
	return rc;
}

/* Connections that another process may write to from now on. */
static FOLLOWED void note_passed(const struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
	     c = CMSG_NXTHDR((struct msghdr *) msg, c)) {
		const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			__builtin_memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds_get(fd) != 0)
				life_lent();
		}
	}
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word == 0 && (flags & MSG_FASTOPEN) == 0, 1)) {
		const ssize_t rc = real.sendmsg(fd, msg, flags);

		if (rc >= 0 && msg->msg_controllen > 0)
			note_passed(msg);
		return rc;
	}
	return sendmsg_followed(fd, msg, flags, word);
}

static size_t length_of(const struct msghdr *msg)
{
	size_t total = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		total += msg->msg_iov[i].iov_len;
	return total;
}

/*
 * On a stream each message is a call of its own. As in the kernel, the first that fails or
 * goes in part ends them, and no more than IOV_MAX are looked at.
 */
static FOLLOWED int sendmmsg_followed(int fd, struct mmsghdr *msgs, unsigned n, int flags,
				      fds_word word)
{
	const int before = errno;

	if (n > IOV_MAX)
		n = IOV_MAX;
	for (unsigned i = 0; i < n; i++) {
		ssize_t rc = -1;

		if (readable(&msgs[i], sizeof(msgs[i])))
			rc = sendmsg_followed(fd, &msgs[i].msg_hdr, flags, word);
		else
			errno = EFAULT;
		if (rc < 0 && i > 0)
			errno = before;
		if (rc < 0)
			return i > 0 ? (int) i : -1;
		msgs[i].msg_len = (unsigned) rc;
		if ((size_t) rc < length_of(&msgs[i].msg_hdr))
			return (int) i + 1;
	}
	return (int) n;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	const fds_word word = fds_get(fd);
	fds_word follow = 0;

	if (__builtin_expect(word == 0 && (flags & MSG_FASTOPEN) == 0, 1))
		return real.sendmmsg(fd, msgs, n, flags);
	if ((flags & MSG_FASTOPEN) != 0 && n > 0 && life_acts() && readable(msgs, sizeof(*msgs))) {
		if (fast_open_refused(fd, msgs->msg_hdr.msg_name, msgs->msg_hdr.msg_namelen,
				      &follow))
			return -1;
		lost(follow != 0 ? follow : word);
	} else if (word != 0 && life_acts() &&
		   (stream_http(word) == STREAM_HTTP || traffic_tail(word))) {
		return sendmmsg_followed(fd, msgs, n, flags, word);
	}

	const int rc = real.sendmmsg(fd, msgs, n, flags);

	if (follow != 0)
		fast_open_done(fd, follow, rc);
	else if (word != 0)
		follow_sent(fd, word, NULL, 0, rc, 0);
	return rc;
}

static FOLLOWED ssize_t sendfile_followed(int out, int in, off_t *offset, size_t len, fds_word word)
{
	/* The rest of our fields goes before the file. */
	if (client(word) && !traffic_flush(out, word, 0))
		return -1;

	const uint32_t mark = follow_mark(word, STREAM_OUT);
	const ssize_t rc = real.sendfile(out, in, offset, len);
	const int error = errno;

	if (follow_may(word, STREAM_OUT)) {
		stream_sent(out, word, rc, error);
		if (rc > 0)
			traffic_skipped(out, word, (size_t) rc, mark);
		guard_leave();
	}
	errno = error;
	return rc;
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
	const fds_word word = fds_get(out);

	if (__builtin_expect(word == 0, 1))
		return real.sendfile(out, in, offset, len);
	return sendfile_followed(out, in, offset, len, word);
}

/* Where off_t has 64 bits the two are one; nginx asks for this name. */
extern __typeof__(sendfile) sendfile64 __attribute__((alias("sendfile"), visibility("default")));
