/* SPDX-License-Identifier: Apache-2.0 */
/* Where a connection begins, and where the program learns how that went. */
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "shim/connect.h"
#include "shim/curl.h"
#include "shim/follow.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/readable.h"
#include "shim/real.h"
#include "shim/shared.h"
#include "shim/stream.h"
#include "shim/traffic.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* Long enough to have a family and a port, no longer than the kernel takes, all of it there. */
static bool legible(const struct sockaddr *addr, socklen_t len)
{
	return len >= 8 && len <= (socklen_t) sizeof(struct sockaddr_storage) && readable(addr, len);
}

/* Does connecting @fd to @addr reach for another program over TCP? */
static bool guarded(int fd, const struct sockaddr *addr, socklen_t len)
{
	int protocol = 0;
	socklen_t size = sizeof(protocol);

	switch (addr->sa_family) {
	case AF_INET:
		if (len < (socklen_t) sizeof(struct sockaddr_in))
			return false;
		break;
	case AF_INET6:
		/* The kernel's shortest form has no scope. */
		if (len < (socklen_t) offsetof(struct sockaddr_in6, sin6_scope_id))
			return false;
		break;
	default:
		return false;
	}
	return real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/* hiredis asks a connected socket again: the answer is EISCONN, and that is no call. */
static bool connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return getpeername(fd, (struct sockaddr *) &peer, &len) == 0;
}

enum gate connect_gate(int fd, const struct sockaddr *addr, socklen_t len, int *ret_errno)
{
	const fds_word word = fds_get(fd);
	const uint64_t now = clock_now();
	enum gate gate = GATE_PASS;
	struct admission admission = { 0 };

	if (!legible(addr, len))
		return GATE_PASS;
	if (addr->sa_family == AF_UNSPEC) {
		if (word != 0)
			stream_leave(fd, word); /* disconnects: the call is given up */
		return GATE_PASS;
	}
	if (!guarded(fd, addr, len))
		return GATE_PASS;
	if (word != 0 && stream_pending(fd, word))
		return GATE_FOLLOW; /* asks how the first connect fares */
	if (connected(fd) || curl_speaks_for(addr, now))
		return GATE_PASS;

	switch (shared_admit(addr, now, &admission, ret_errno)) {
	case SHARED_UNGUARDED:
		break;
	case SHARED_REFUSED:
		gate = GATE_REFUSE;
		break;
	case SHARED_UNJUDGED:
	case SHARED_ADMITTED:
		if (stream_open(fd, &admission, now))
			gate = GATE_FOLLOW;
		else if (admission.judged)
			shared_settle(&admission, BREAKER_EXCLUDED, 0, now);
		break;
	}
	return gate;
}

/*
 * Refuses while the peer's breaker is open; otherwise libc decides. Connected or under way,
 * the ticket stays with the descriptor: SO_ERROR, the first byte, an error or close settle it.
 * Context: as connect(2), any thread; no malloc, no stdio, nothing held across the real call.
 */
static int connect_by(int (*next)(int, const struct sockaddr *, socklen_t), int fd,
		      const struct sockaddr *addr, socklen_t len)
{
	const int before = errno;
	int refusal = 0;

	if (!armed || !life_own_memory() || !guard_enter())
		return next(fd, addr, len);

	const enum gate gate = connect_gate(fd, addr, len, &refusal);
	/* Now: when libc returns, another thread may have closed the number and used it again. */
	const fds_word word = gate == GATE_FOLLOW ? fds_get(fd) : 0;

	guard_leave();
	if (gate == GATE_REFUSE) {
		errno = refusal;
		return -1;
	}
	errno = before;

	const int rc = next(fd, addr, len);

	if (word != 0 && guard_enter()) {
		const int error = errno;

		stream_connected(fd, word, rc, error);
		guard_leave();
		errno = error;
	}
	return rc;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect_by(real.connect, fd, addr, len);
}

int __connect(int fd, const struct sockaddr *addr, socklen_t len);

EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect_by(real.__connect, fd, addr, len);
}

/* Reading SO_ERROR clears it, so we look at what the program reads and never read ourselves. */
EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	const int rc = real.getsockopt(fd, level, name, value, len);
	const fds_word word = fds_get(fd);

	if (word != 0 && level == SOL_SOCKET && name == SO_ERROR && rc == 0 &&
	    *len >= (socklen_t) sizeof(int) && follow_acts(word) && guard_enter()) {
		const int saved = errno;

		stream_so_error(fd, word, *(const int *) value);
		traffic_turn(word);
		guard_leave();
		errno = saved;
	}
	return rc;
}
