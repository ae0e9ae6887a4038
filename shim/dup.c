/* SPDX-License-Identifier: Apache-2.0 */
/* More descriptors for one connection; and dup2, which also closes what it lands on. */
#include "shim/dup.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "shim/close.h"
#include "shim/fds.h"
#include "shim/guard.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/real.h"
#include "shim/stream.h"

void dup_made(int from, int to)
{
	if (to >= 0 && from != to)
		inbound_ends(to);
	if (to < 0 || (fds_get(from) == 0 && fds_get(to) == 0) || from == to)
		return;
	if (!life_own_memory() || !guard_enter())
		return;

	const int saved = errno;

	stream_share(from, to);
	guard_leave();
	errno = saved;
}

void dup_landing(int from, int to, int flags)
{
	const int saved = errno;

	/* With nothing to copy, onto itself or with flags it refuses, the kernel closes nothing. */
	if (fds_get(to) != 0 && from != to && (flags & ~O_CLOEXEC) == 0 &&
	    real.fcntl(from, F_GETFD) >= 0)
		close_leaving(to);
	errno = saved;
}

EXPORT int dup(int fd)
{
	const int to = real.dup(fd);

	dup_made(fd, to);
	return to;
}

/* Java closes a socket by moving another file onto its number. */
EXPORT int dup2(int fd, int to)
{
	dup_landing(fd, to, 0);

	const int rc = real.dup2(fd, to);

	dup_made(fd, rc);
	return rc;
}

int __dup2(int fd, int to);

EXPORT int __dup2(int fd, int to)
{
	dup_landing(fd, to, 0);

	const int rc = real.__dup2(fd, to);

	dup_made(fd, rc);
	return rc;
}

EXPORT int dup3(int fd, int to, int flags)
{
	dup_landing(fd, to, flags);

	const int rc = real.dup3(fd, to, flags);

	dup_made(fd, rc);
	return rc;
}

static int fcntl_by(int (*next)(int, int, ...), int fd, int command, void *arg)
{
	const int rc = next(fd, command, arg);

	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		dup_made(fd, rc);
	return rc;
}

/* The third argument may be an int, a long, a pointer or missing: it is passed on as it came. */
EXPORT int fcntl(int fd, int command, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, command);
	void *arg = __builtin_va_arg(args, void *);
	__builtin_va_end(args);
	return fcntl_by(real.fcntl, fd, command, arg);
}

extern __typeof__(fcntl) fcntl64 __attribute__((alias("fcntl"), visibility("default")));

int __fcntl(int fd, int command, ...);

EXPORT int __fcntl(int fd, int command, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, command);
	void *arg = __builtin_va_arg(args, void *);
	__builtin_va_end(args);
	return fcntl_by(real.__fcntl, fd, command, arg);
}
