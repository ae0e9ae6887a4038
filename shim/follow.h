/* SPDX-License-Identifier: Apache-2.0 */
/* The beat that the I/O hooks share: libc first, and only a tracked descriptor costs more. */
#ifndef SHIM_FOLLOW_H
#define SHIM_FOLLOW_H

#include <errno.h>
#include <stdbool.h>

#include "shim/fds.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/stream.h"

/* Kept out of line, so that the common way through a hook saves no registers. */
#define FOLLOWED __attribute__((noinline, cold))

/*
 * follow_sent, follow_received - a call on a tracked descriptor returned @rc
 * @word: fds_get(@fd) as it was before the call; not 0
 * Context: any thread, signal handlers too; nothing in a vfork child; errno kept.
 */
static inline void follow_sent(int fd, fds_word word, ssize_t rc)
{
	const int error = errno;

	if (life_own_memory() && guard_enter()) {
		stream_sent(fd, word, rc, error);
		guard_leave();
	}
	errno = error;
}

static inline void follow_received(int fd, fds_word word, ssize_t rc, size_t wanted)
{
	const int error = errno;

	if (life_own_memory() && guard_enter()) {
		stream_received(fd, word, rc, error, wanted);
		guard_leave();
	}
	errno = error;
}

#endif
