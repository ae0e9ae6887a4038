/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall(3): libuv closes its sockets with it, jemalloc calls it from its own start. All
 * six arguments go to the kernel as they came, whatever the number; for the few calls that
 * concern us the table is kept right.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/close.h"
#include "shim/dup.h"
#include "shim/follow.h"
#include "shim/life.h"
#include "shim/raw.h"
#include "shim/real.h"
#include "shim/sandbox.h"
#include "shim/socket.h"
#include "shim/wait.h"

/* The rest of our fields goes before whatever comes this way. */
static bool tail_is_due(fds_word word)
{
	return word != 0 && traffic_tail(word) && life_acts();
}

/*
 * Calls that ask a breaker first, or have more to look at than their answer, go through
 * their hook. Of an untracked descriptor only what may hand others out does: libc's read is
 * a point of cancellation, syscall is not, and an allocator calls it with its lock held.
 */
static bool forwarded(long n, const long a[6], fds_word word, long *ret)
{
	switch (n) {
	case SYS_connect:
		*ret = connect((int) a[0], (const struct sockaddr *) a[1], (socklen_t) a[2]);
		return true;
	case SYS_sendto:
		if ((a[3] & MSG_FASTOPEN) == 0 && !tail_is_due(word))
			return false;
		*ret = sendto((int) a[0], (const void *) a[1], (size_t) a[2], (int) a[3],
			      (const struct sockaddr *) a[4], (socklen_t) a[5]);
		return true;
	case SYS_sendmsg:
		if ((a[2] & MSG_FASTOPEN) == 0 && !tail_is_due(word))
			return false;
		*ret = sendmsg((int) a[0], (const struct msghdr *) a[1], (int) a[2]);
		return true;
	case SYS_sendmmsg:
		if ((a[3] & MSG_FASTOPEN) == 0 && !tail_is_due(word))
			return false;
		*ret = sendmmsg((int) a[0], (struct mmsghdr *) a[1], (unsigned) a[2], (int) a[3]);
		return true;
	case SYS_recvmsg:
		*ret = recvmsg((int) a[0], (struct msghdr *) a[1], (int) a[2]);
		return true;
	case SYS_recvmmsg:
		*ret = recvmmsg((int) a[0], (struct mmsghdr *) a[1], (unsigned) a[2], (int) a[3],
				(struct timespec *) a[4]);
		return true;
	case SYS_readv:
		if (word == 0)
			return false;
		*ret = readv((int) a[0], (const struct iovec *) a[1], (int) a[2]);
		return true;
	case SYS_execve:
		*ret = execve((const char *) a[0], (char *const *) a[1], (char *const *) a[2]);
		return true;
	case SYS_execveat:
		*ret = execveat((int) a[0], (const char *) a[1], (char *const *) a[2],
				(char *const *) a[3], (int) a[4]);
		return true;
	case SYS_write:
		if (!tail_is_due(word))
			return false;
		*ret = write((int) a[0], (const void *) a[1], (size_t) a[2]);
		return true;
	case SYS_writev:
		if (!tail_is_due(word))
			return false;
		*ret = writev((int) a[0], (const struct iovec *) a[1], (int) a[2]);
		return true;
	case SYS_sendfile:
		if (!tail_is_due(word) || traffic_flush((int) a[0], word, 0))
			return false;
		*ret = -1;
		return true;
	case SYS_shutdown:
		*ret = shutdown((int) a[0], (int) a[1]);
		return true;
	case SYS_getsockopt:
		*ret = getsockopt((int) a[0], (int) a[1], (int) a[2], (void *) a[3],
				  (socklen_t *) a[4]);
		return true;
	}
	return false;
}

/* The direction of an I/O call; 0 for any other. */
static enum stream_lane lane_of(long n)
{
	switch (n) {
	case SYS_read:
	case SYS_recvfrom:
		return STREAM_IN;
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
		return STREAM_OUT;
	}
	return (enum stream_lane) 0;
}

/*
 * What a client sends this way is not looked at before it goes, so nothing is added to it any
 * more. Of what is read, and of answers, the bytes are those of the call's buffer.
 */
static uint32_t io_begins(long n, fds_word word)
{
	const enum stream_lane lane = word != 0 ? lane_of(n) : (enum stream_lane) 0;

	if (lane == STREAM_OUT && !(n == SYS_write && stream_inbound(word)))
		traffic_lost(word, STREAM_OUT);
	return lane != 0 ? follow_mark(word, lane) : 0;
}

/* What the answer of an I/O call on a tracked descriptor says. */
static void io_ended(long n, const long a[6], fds_word word, long rc, uint32_t mark)
{
	const struct iovec v = { (void *) a[1], (size_t) a[2] };
	const bool bytes = n != SYS_recvfrom || (a[3] & (MSG_TRUNC | MSG_OOB | MSG_PEEK)) == 0;

	switch (lane_of(n)) {
	case STREAM_IN:
		if (n == SYS_recvfrom && (a[3] & MSG_ERRQUEUE) != 0)
			break;
		if (!bytes)
			traffic_lost(word, STREAM_IN);
		follow_received((int) a[0], word, &v, bytes ? 1 : 0, rc, v.iov_len, mark);
		break;
	case STREAM_OUT:
		follow_sent((int) a[0], word, &v, n == SYS_write ? 1 : 0, rc, mark);
		break;
	}
}

static void before(long n, const long a[6])
{
	switch (n) {
	case SYS_epoll_pwait:
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
		wait_on_epoll();
		break;
#ifdef SYS_poll
	case SYS_poll:
#endif
	case SYS_ppoll:
		wait_on_poll((struct pollfd *) a[0], (nfds_t) a[1]);
		break;
#ifdef SYS_select
	case SYS_select:
#endif
	case SYS_pselect6:
		wait_on_select((int) a[0], (const fd_set *) a[1]);
		break;
	case SYS_close:
		close_leaving((int) a[0]);
		break;
	case SYS_close_range:
		close_range_leaving((unsigned) a[0], (unsigned) a[1], (int) a[2]);
		break;
	case SYS_dup3:
		dup_landing((int) a[0], (int) a[1], (int) a[2]);
		break;
#ifdef SYS_dup2
	case SYS_dup2:
		dup_landing((int) a[0], (int) a[1], 0);
		break;
#endif
	}
}

static void after(long n, const long a[6], long rc)
{
	switch (n) {
	case SYS_accept:
	case SYS_accept4:
		fd_accepted((int) a[0], (int) rc);
		break;
	case SYS_socket:
		fd_handed_out((int) rc);
		break;
	case SYS_dup:
	case SYS_dup3:
#ifdef SYS_dup2
	case SYS_dup2:
#endif
		dup_made((int) a[0], (int) rc);
		break;
	case SYS_fcntl:
		if (a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC)
			dup_made((int) a[0], (int) rc);
		break;
	case SYS_seccomp:
		sandbox_seccomp((unsigned long) a[0], rc);
		break;
	case SYS_prctl:
		sandbox_prctl((unsigned long) a[0], rc);
		break;
	case SYS_socketpair:
		if (rc == 0) {
			fd_handed_out(((const int *) a[3])[0]);
			fd_handed_out(((const int *) a[3])[1]);
		}
		break;
	}
}

EXPORT long syscall(long n, ...)
{
	__builtin_va_list args;
	long a[6], rc;

	__builtin_va_start(args, n);
	for (int i = 0; i < 6; i++)
		a[i] = __builtin_va_arg(args, long);
	__builtin_va_end(args);

	const fds_word word = fds_get((int) a[0]);

	if (armed && forwarded(n, a, word, &rc))
		return rc;
	before(n, a);

	const uint32_t mark = io_begins(n, word);

	rc = raw_result(raw_syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]));
	after(n, a, rc);
	if (word != 0)
		io_ended(n, a, word, rc, mark);
	return rc;
}
