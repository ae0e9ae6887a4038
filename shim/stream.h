/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the program's, from connect(2) until its breaker knows how the call ended:
 *
 *   first byte from the peer ................................ success
 *   error of connect, SO_ERROR, read or write ............... failure
 *   end of file before any byte ............................. failure
 *     (success when the program had shut its side down first)
 *   given up while connecting or waiting, >= patience ....... failure (timeout)
 *   given up sooner, or a sibling succeeded meanwhile ....... excluded
 *   closed after sending, no answer asked for; or unused .... success
 *   nothing sent for patience, then ended by either side .... excluded (an idle one)
 *   a write a second after the first, the first acknowledged  success
 *
 * Streams live in a pool that is never unmapped. A stream's one word guards it:
 * `generation:32 | descriptors:16 | phase:8 | busy:8`; whoever ends the call makes it busy in
 * the same step, and only then are its plain fields read.
 */
#ifndef SHIM_STREAM_H
#define SHIM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shim/fds.h"
#include "shim/shared.h"

/*
 * stream_open - follow the connection about to be made on @fd
 * @a: taken over: settled by the stream from here on
 *
 * The descriptor's word is set. False: no memory or no place for it; the caller settles @a.
 * Context: any thread under the guard; may mmap; errno kept.
 */
bool stream_open(int fd, const struct admission *a, uint64_t now);

/* Is the outcome of a connect on this very socket still open? Context: errno clobbered. */
bool stream_pending(int fd, fds_word word);

/* connect(2) returned, the first time or again. */
void stream_connected(int fd, fds_word word, int rc, int error);

/* The program read SO_ERROR. */
void stream_so_error(int fd, fds_word word, int error);

/*
 * A call of the send family returned. @rc < 0: @error is its errno.
 * A call of the receive family returned; @wanted: bytes it had room for, 0 tells nothing.
 * Context of all: any thread under the guard, signal handlers too; no lock; errno clobbered.
 */
void stream_sent(int fd, fds_word word, ssize_t rc, int error);
void stream_received(int fd, fds_word word, ssize_t rc, int error, size_t wanted);

/* shutdown(2) is about to be called. */
void stream_shutdown(int fd, fds_word word, int how);

/*
 * stream_leave - @fd is about to be closed or made another file
 * Takes the word out of the table; the last descriptor decides the outcome. The socket must
 * still be open: what the kernel knows of it is asked.
 */
void stream_leave(int fd, fds_word word);

/*
 * The number was handed out anew: somebody closed @fd behind our back. A call that had
 * connected by then was a success as far as anybody saw, any other is excluded.
 */
void stream_forget(int fd, fds_word word);

/* @to is a new descriptor for the file of @from. */
void stream_share(int from, int to);

/* At exit: settle what has waited long enough. */
void stream_settle_all(void);

#endif
