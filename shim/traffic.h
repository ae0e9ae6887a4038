/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1 on a followed connection, one state machine a direction (core/http1.h), and the
 * requests in flight on it. Its memory lies in a pool beside stream.c's, in a place of the
 * same number; who holds a lane of the stream is alone with the direction's machine.
 *
 *   accepted:  requests are read, answers written: spans of a server
 *   connected: requests are written, answers read: spans of a client, outcomes of breakers,
 *              and the one place where bytes are added, before the blank line of a head
 *
 * What is read is looked at when libc has returned, what is answered too: nothing is held
 * across the call, and two calls that overlap in one direction make it opaque. What a client
 * writes is looked at before it goes out, and its lane is held until the kernel has said how
 * much of it it took.
 */
#ifndef SHIM_TRAFFIC_H
#define SHIM_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shim/fds.h"
#include "shim/stream.h"

/*
 * traffic_begins - a connection is about to be followed; false: without a look at its bytes
 * traffic_ends - it is over, or the process is: requests in the middle are ended
 * Context: stream.c, under the guard; of traffic_ends(): both lanes are the caller's.
 */
bool traffic_begins(fds_word word, bool inbound);
void traffic_ends(fds_word word);

/*
 * traffic_closes - the program lets go of @fd, which may have duplicates
 * traffic_leaves - it shuts its sending side: an answer that lasts until then has ended
 * What is left of our fields goes before. Context: under the guard; errno clobbered.
 */
void traffic_closes(int fd, fds_word word);
void traffic_leaves(int fd, fds_word word);

/* traffic_waits - is a request on its way that has no whole answer yet? Context: any thread. */
bool traffic_waits(fds_word word);

/*
 * traffic_greeted - has an HTTP/2 peer spoken, or one of TLS shaken hands, and nothing been asked
 * yet? Context: any thread.
 */
bool traffic_greeted(fds_word word);

/* traffic_secure - the handshake of TLS is over: well, or not (an errno) */
void traffic_secure(fds_word word, int error);

/* traffic_claimed - a session is known to be the connection's. Context: any thread. */
void traffic_claimed(fds_word word);

/* traffic_turn - the program asks how the connect fared: it turns to whom that is for. */
void traffic_turn(fds_word word);

/*
 * traffic_mark - a call in @lane is about to be made; the answer is handed to what looks at
 * its bytes afterwards, and shows whether another call overlapped
 * Context of this and the next: any thread, signal handlers too.
 */
uint32_t traffic_mark(fds_word word, enum stream_lane lane);

/*
 * traffic_read, traffic_wrote - libc returned; @n > 0 bytes of @iov were moved
 * traffic_skipped - @n bytes were, that we could not see (sendfile)
 * traffic_peeked - bytes were looked at, and stay to be read
 * traffic_lost - something in @lane cannot be followed
 * traffic_read_end - the peer has ended its side (0), or the connection failed (an errno)
 * Context: under the guard; errno clobbered.
 */
void traffic_read(int fd, fds_word word, const struct iovec *iov, size_t n_iov, size_t n,
		  uint32_t mark);
void traffic_wrote(int fd, fds_word word, const struct iovec *iov, size_t n_iov, size_t n,
		   uint32_t mark);
void traffic_skipped(int fd, fds_word word, size_t n, uint32_t mark);
void traffic_peeked(int fd, fds_word word);
void traffic_lost(fds_word word, enum stream_lane lane);
void traffic_read_end(int fd, fds_word word, int error);

/* How a client's bytes are handed to libc when ours go with them. */
struct traffic_call {
	int flags;                   /* of send(2); MSG_NOSIGNAL only if the program said so */
	bool vector;                 /* the vector is the program's own: it may lie anywhere */
	const struct msghdr *msg;    /* of sendmsg(2), for address and control; NULL */
};

/*
 * traffic_send - send a client's bytes, with ours where they belong
 * @plain: the program's own call, made as it stands while there is nothing to add
 *
 * Returns what the program's call is to return, in the program's bytes, and errno with it.
 * A call refused by the breaker sends nothing.
 * Context: a thread without the guard; may block as the program's call would.
 */
ssize_t traffic_send(int fd, fds_word word, const struct iovec *iov, size_t n_iov,
		     const struct traffic_call *call, ssize_t (*plain)(void *arg), void *arg);

/* traffic_tail - is a part of our fields still to be sent? Context: any thread. */
bool traffic_tail(fds_word word);

/* The tail of an injected field block must go before @fd's next bytes that we cannot join. */
bool traffic_flush(int fd, fds_word word, int flags);

#endif
