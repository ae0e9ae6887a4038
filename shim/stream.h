/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the program's, followed from connect(2) or accept(2) on. Of one that it
 * made, a breaker waits to hear how the call ended:
 *
 *   first byte from the peer ................................ success
 *   error of connect, SO_ERROR, read or write ............... failure
 *   end of file before any byte ............................. failure
 *     (success when the program had shut its side down first, and asked nothing over HTTP)
 *   given up while connecting or waiting, >= patience ....... failure (timeout)
 *   given up sooner, or a sibling succeeded meanwhile ....... excluded
 *   closed after sending, no answer asked for; or unused .... success
 *   nothing sent for patience, then ended by either side .... excluded (an idle one)
 *   a write a second after the first, the first acknowledged  success
 *
 * Where HTTP/1 is spoken (traffic.h) the answer's status decides instead of its first byte,
 * and each further request on the connection is a call of its own.
 *
 * Streams live in a pool that is never unmapped. A stream's one word guards it:
 * `generation:32 | descriptors:16 | phase:8 | flags:8`; whoever ends the call sets a flag in
 * the same step, and only then are its plain fields read. Two more flags are lanes: who holds
 * one is alone with the bytes of that direction, and the stream stays until he lets go.
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

/*
 * stream_accept - follow a connection that the program accepted; there is no call to judge
 * Context: as stream_open().
 */
bool stream_accept(int fd);

/* Was it accepted? Context: any thread; false for a stream that has ended. */
bool stream_inbound(fds_word word);

enum stream_lane { STREAM_OUT = 0x02, STREAM_IN = 0x04 };

/*
 * stream_lane_take - be alone with one direction, until stream_lane_give()
 * Returns false when another thread, or the code that a signal handler interrupted, is.
 * May be held across a real call; a thread that never returns from that costs one stream.
 * Context: any thread, signal handlers too; lock-free.
 */
bool stream_lane_take(fds_word word, enum stream_lane lane);
void stream_lane_give(fds_word word, enum stream_lane lane);

/* The place of the stream in its pool; traffic lives in a place of the same number. */
static inline uint32_t stream_number(fds_word word)
{
	return (uint32_t) word - 1;
}

/* Whether the bytes are looked at; kept beside the word for the hooks' first look. */
enum stream_http {
	STREAM_NOT_HTTP, /* nor will it be */
	STREAM_HTTP,     /* as far as is known */
	STREAM_WAS_HTTP, /* opaque by now, but requests may have to be ended */
	STREAM_TLS,      /* ciphertext, of a session whose plaintext we are handed (tls.h) */
};

enum stream_http stream_http(fds_word word);

/*
 * stream_http_ends - the holder of a lane has seen enough
 * STREAM_NOT_HTTP takes the word out of the table when nothing else needs it.
 */
void stream_http_ends(int fd, fds_word word, enum stream_http to);

/* Is @fd still the socket that the stream was opened for (SO_COOKIE)? Context: errno clobbered. */
bool stream_same_socket(int fd, fds_word word);

/* Is it the stream that it was? Context: as stream_inbound(). */
bool stream_lasts(fds_word word);

/*
 * stream_unseen - bytes that the kernel has on the connection, sent by whoever, past our hooks
 * stream_saw_all - are there none? Asked where there may be: @first, before the first head
 *   (libc's stdio, and libraries that bind past us, write unseen), and where a forked process
 *   has the connection as well. Else true.
 * Context: one getsockopt(2), if any; errno clobbered.
 */
uint64_t stream_unseen(int fd, fds_word word);
bool stream_saw_all(int fd, fds_word word, bool first);

/* stream_alive - has it not ended? Context: any thread. */
bool stream_alive(fds_word word);

/* stream_fd - a descriptor of it; it may be another file's by now */
int stream_fd(fds_word word);

/* Whose stream it is: the pid that opened it. */
uint32_t stream_pid(fds_word word);

/* In a forked child that alone has the connection (accepted, nothing read so far). */
void stream_adopt(fds_word word);

/*
 * stream_answered - an HTTP answer's head has come, by its status
 * stream_settle - the call is over, as @outcome and the errno @error say
 * stream_settle_by - and as @settle has it, which is called with @how at most once
 * stream_renew - a further request is about to be sent; @a is taken over as by stream_open()
 *   @parting: the one before it said that no other would follow (Connection: close)
 *   Returns false, nothing taken, when the call before it has no outcome yet.
 * stream_admission - of the call, maybe ended; NULL for an accepted one
 * stream_judge_bytes - bytes came that are no HTTP: a success, as without a look at them
 * Context: the holder of a lane; errno clobbered.
 */
void stream_answered(fds_word word, unsigned status);
void stream_settle(fds_word word, enum breaker_outcome outcome, int error);
void stream_settle_by(fds_word word,
		      void (*settle)(struct admission *a, const void *how, uint64_t now),
		      const void *how);
bool stream_renew(fds_word word, const struct admission *a, bool parting, uint64_t now);
const struct admission *stream_admission(fds_word word);
void stream_judge_bytes(int fd, fds_word word);

/* stream_open_ended - has its call no outcome yet? Context: any thread. */
bool stream_open_ended(fds_word word);

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

/* Does an errno say nothing of the connection yet, but to try again? */
bool stream_neutral(int error);

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

/* At exit: settle what has waited long enough, and end requests in the middle. */
void stream_settle_all(void);

#endif
