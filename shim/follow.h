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
#include "shim/traffic.h"

/* Kept out of line, so that the common way through a hook saves no registers. */
#define FOLLOWED __attribute__((noinline, cold))

/*
 * follow_mark - a call on a tracked descriptor is about to be made
 * follow_sent, follow_received - it returned @rc
 * @word: fds_get(@fd) as it was before the call; not 0
 * @iov:  where the bytes are that it moved, if any; @mark: follow_mark()'s answer
 * Context: any thread, signal handlers too; nothing in a vfork child, but for what HTTP is
 * spoken on; errno kept.
 */
static inline uint32_t follow_mark(fds_word word, enum stream_lane lane)
{
	return traffic_mark(word, lane);
}

static inline bool follow_acts(fds_word word)
{
	return stream_http(word) == STREAM_HTTP ? life_acts() : life_own_memory();
}

static inline bool follow_may(fds_word word, enum stream_lane lane)
{
	if (!follow_acts(word))
		return false;
	if (guard_enter())
		return true;
	traffic_lost(word, lane); /* a handler in the middle of us: its bytes go unseen */
	return false;
}

static inline void follow_sent(int fd, fds_word word, const struct iovec *iov, size_t n_iov,
			       ssize_t rc, uint32_t mark)
{
	const int error = errno;

	if (follow_may(word, STREAM_OUT)) {
		stream_sent(fd, word, rc, error);
		if (rc > 0)
			traffic_wrote(fd, word, iov, n_iov, (size_t) rc, mark);
		guard_leave();
	}
	errno = error;
}

static inline void follow_received(int fd, fds_word word, const struct iovec *iov, size_t n_iov,
				   ssize_t rc, size_t wanted, uint32_t mark)
{
	const int error = errno;

	if (follow_may(word, STREAM_IN)) {
		stream_received(fd, word, rc, error, wanted);
		if (rc > 0)
			traffic_read(fd, word, iov, n_iov, (size_t) rc, mark);
		else if (wanted > 0 && (rc == 0 || !stream_neutral(error)))
			traffic_read_end(fd, word, rc == 0 ? 0 : error);
		guard_leave();
	}
	errno = error;
}

/* Bytes are there and stay there: the peer lives, unless its answer's status is to tell. */
static inline void follow_peeked(int fd, fds_word word)
{
	const int error = errno;

	if (follow_may(word, STREAM_IN)) {
		traffic_peeked(fd, word);
		guard_leave();
	}
	errno = error;
}

#endif
