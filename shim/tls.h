/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP inside TLS: the plaintext that a program hands to OpenSSL or GnuTLS, and gets from them,
 * is looked at as what of others goes over the socket. A session belongs to the stream of its
 * socket, so breakers, spans and refusals are those of the connection; of the ciphertext only
 * the number of bytes and its errors count.
 *
 * Session and socket are brought together by the client's random number: the ClientHello, first
 * of all bytes on a connection, carries it in the clear, and both libraries tell it of a session.
 * That holds for descriptors, memory BIOs and BIOs of a library's own alike, and no pointer to a
 * session that was freed can be taken for another's. A connection whose ClientHello was sent by
 * nobody that we hear (JSSE, node, Go) stays what it is: not HTTP, judged by its first bytes.
 */
#ifndef SHIM_TLS_H
#define SHIM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shim/fds.h"

#define TLS_RANDOM 32 /* bytes (RFC 8446, 4.1.2) */
#define TLS_HELLO  43 /* of the first record, until its end */

struct traffic;

/* tls_may_be_hello - are the first @n bytes of a connection those of a ClientHello's record? */
bool tls_may_be_hello(const char *bytes, size_t n);

/*
 * tls_hello - a ClientHello goes by on a followed connection
 * @bytes: TLS_HELLO of them; @inbound: it was received
 * Returns true when the connection is to be looked at inside TLS: then it is STREAM_TLS.
 */
bool tls_hello(fds_word word, const char *bytes, bool inbound);

/*
 * tls_link - the stream of a session, 0 for none
 * tls_announce - a ClientHello with this number is about to be sent by whoever has the session
 * Context of all here: any thread under the guard; lock-free; no allocation; errno kept.
 */
fds_word tls_link(const unsigned char random[TLS_RANDOM], bool inbound);
void tls_announce(const unsigned char random[TLS_RANDOM]);

/*
 * tls_read, tls_wrote - the library moved @n bytes of plaintext; what a client writes goes by
 *                       tls_send()
 * tls_read_end - the peer has ended its side (0), or the session failed (an errno)
 * tls_lost - something was written (@out), or read, that cannot be followed
 * tls_skipped - @n bytes of plaintext were written, from a file
 * tls_parts - the program ends its side of the session
 * tls_shook_hands - the handshake is over: well, or not (an errno)
 * Context: any thread without the guard; errno kept.
 */
uint32_t tls_mark(fds_word word, bool out);
void tls_read(fds_word word, const void *buf, size_t n, uint32_t mark);
void tls_wrote(fds_word word, const void *buf, size_t n, uint32_t mark);
void tls_read_end(fds_word word, int error);
void tls_lost(fds_word word, bool out);
void tls_skipped(fds_word word, size_t n, uint32_t mark);
void tls_parts(fds_word word);
void tls_shook_hands(fds_word word, int error);

/* How a library writes. */
struct tls_writer {
	/* Bytes written, > 0; else what the library's function says. */
	ssize_t (*write)(void *arg, const void *buf, size_t n);
	void *arg;
	bool parts;      /* it may write a part, and the program hears of that */
	ssize_t refusal; /* what the program hears when its request is refused, with errno */
};

/* tls_sends - is there anything for tls_send() to do? Else the call goes as it stands. */
bool tls_sends(fds_word word);

/*
 * tls_send - write a client's bytes, with ours where they belong
 * A write that the library wants to be repeated is repeated by us just as it was, when the
 * program repeats its own. Returns what the program is to hear, in its own bytes.
 * Context: a thread without the guard; may block as the library's call would.
 */
ssize_t tls_send(fds_word word, const void *buf, size_t n, const struct tls_writer *writer);

/* tls_send_again - a write that waited is repeated by a call without bytes (GnuTLS) */
ssize_t tls_send_again(fds_word word, const struct tls_writer *writer);

#endif
