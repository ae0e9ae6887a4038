/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a connection. What we know of it is settled and taken out of the table first,
 * then libc closes, with nothing of ours held: close may linger, or be cancelled.
 */
#include "shim/close.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/fds.h"
#include "shim/guard.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/real.h"
#include "shim/stream.h"
#include "shim/traffic.h"

static void leave(int fd, fds_word word)
{
	const int saved = errno;

	if (!life_own_memory())
		return;
	inbound_ends_here(fd);
	if (guard_enter()) {
		traffic_closes(fd, word);
		stream_leave(fd, word);
		guard_leave();
	}
	errno = saved;
}

void close_leaving(int fd)
{
	const fds_word word = fds_get(fd);

	if (__builtin_expect(word != 0, 0))
		leave(fd, word);
	else
		inbound_ends(fd);
}

EXPORT int close(int fd)
{
	close_leaving(fd);
	return real.close(fd);
}

int __close(int fd);

EXPORT int __close(int fd)
{
	close_leaving(fd);
	return real.__close(fd);
}

void close_range_leaving(unsigned first, unsigned last, int flags)
{
	/*
	 * Marked close-on-exec, they stay; in a table unshared first, ours is not meant; and
	 * flags of the future, which may be refused, close nothing that we know of.
	 */
	if (flags != 0)
		return;
	for (int fd = fds_next(first, last); fd >= 0; fd = fds_next((unsigned) fd + 1, last))
		close_leaving(fd);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	close_range_leaving(first, last, flags);
	return real.close_range(first, last, flags);
}

EXPORT void closefrom(int first)
{
	close_range_leaving(first > 0 ? (unsigned) first : 0, UINT_MAX, 0);
	real.closefrom(first);
}

/* libc closes the descriptor of a stream itself, past any hook. */
EXPORT int fclose(FILE *f)
{
	const int saved = errno;
	const int fd = f != NULL ? fileno(f) : -1;

	errno = saved;
	if (fd >= 0)
		close_leaving(fd);
	return real.fclose(f);
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	const int saved = errno;
	const int fd = f != NULL ? fileno(f) : -1;

	errno = saved;
	if (fd >= 0)
		close_leaving(fd);
	return real.freopen(path, mode, f);
}

extern __typeof__(freopen) freopen64 __attribute__((alias("freopen"), visibility("default")));

EXPORT int shutdown(int fd, int how)
{
	const fds_word word = fds_get(fd);

	if (word != 0 && life_own_memory() && guard_enter()) {
		const int saved = errno;

		if (how != SHUT_RD)
			traffic_leaves(fd, word);
		stream_shutdown(fd, word, how);
		guard_leave();
		errno = saved;
	}
	return real.shutdown(fd, how);
}
