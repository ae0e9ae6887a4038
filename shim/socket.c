/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that hand descriptors out. libc closes some behind our back (opendir, the resolver),
 * so a number that comes back to the program begins with a clean word.
 */
#include "shim/socket.h"

#include <errno.h>
#include <sys/socket.h>

#include "shim/current.h"
#include "shim/fds.h"
#include "shim/guard.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/real.h"
#include "shim/stream.h"

void fd_handed_out(int fd)
{
	const fds_word word = fds_get(fd);

	inbound_ends(fd);
	if (word == 0 || !life_own_memory() || !guard_enter())
		return;

	const int saved = errno;

	stream_forget(fd, word);
	guard_leave();
	errno = saved;
}

void fd_accepted(int listener, int fd)
{
	fd_handed_out(fd);
	if (fd < 0 || !armed || !life_own_memory())
		return;
	inbound_listens(listener); /* it may have been handed down by exec */
	inbound_begins(fd);
	if (settings->trace && guard_enter()) {
		current_set((struct request_token) { 0 }); /* whatever it did before */
		(void) stream_accept(fd);
		guard_leave();
	}
}

EXPORT int socket(int domain, int type, int protocol)
{
	const int fd = real.socket(domain, type, protocol);

	fd_handed_out(fd);
	return fd;
}

EXPORT int socketpair(int domain, int type, int protocol, int pair[2])
{
	const int rc = real.socketpair(domain, type, protocol, pair);

	if (rc == 0) {
		fd_handed_out(pair[0]);
		fd_handed_out(pair[1]);
	}
	return rc;
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	const int rc = real.accept(fd, addr, len);

	fd_accepted(fd, rc);
	return rc;
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	const int rc = real.accept4(fd, addr, len, flags);

	fd_accepted(fd, rc);
	return rc;
}
