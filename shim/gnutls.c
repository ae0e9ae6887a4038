/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GnuTLS' functions that move plaintext and shake hands; prototypes and error codes as its
 * manual has them (gnutls_record_send(3), gnutls_record_recv(3), gnutls_handshake(3),
 * gnutls_session_get_random(3)): its headers are not needed to build.
 *
 * A record is written at a time, so programs hear of parts; a write that has to wait is
 * repeated with the same bytes, or with none.
 */
#include <errno.h>

#include "shim/guard.h"
#include "shim/library.h"
#include "shim/life.h"
#include "shim/tls.h"

#include <string.h>

typedef struct gnutls_session_int *gnutls_session_t;

/* gnutls_datum_t */
struct datum {
	unsigned char *data;
	unsigned int size;
};

enum function {
	RECORD_SEND,
	RECORD_RECV,
	HANDSHAKE,
	SESSION_GET_RANDOM,
	ERROR_IS_FATAL,
	RECORD_SEND2,
	RECORD_SEND_RANGE,
	RECORD_SEND_FILE,
	RECORD_SEND_EARLY_DATA,
	RECORD_RECV_SEQ,
	RECORD_RECV_PACKET,
	RECORD_UNCORK,
	BYE,
	FUNCTIONS
};

static const char *const names[] = {
	[RECORD_SEND] = "gnutls_record_send",
	[RECORD_RECV] = "gnutls_record_recv",
	[HANDSHAKE] = "gnutls_handshake",
	[SESSION_GET_RANDOM] = "gnutls_session_get_random",
	[ERROR_IS_FATAL] = "gnutls_error_is_fatal",
	[RECORD_SEND2] = "gnutls_record_send2",
	[RECORD_SEND_RANGE] = "gnutls_record_send_range",
	[RECORD_SEND_FILE] = "gnutls_record_send_file",
	[RECORD_SEND_EARLY_DATA] = "gnutls_record_send_early_data",
	[RECORD_RECV_SEQ] = "gnutls_record_recv_seq",
	[RECORD_RECV_PACKET] = "gnutls_record_recv_packet",
	[RECORD_UNCORK] = "gnutls_record_uncork",
	[BYE] = "gnutls_bye",
};

_Static_assert(FUNCTIONS <= LIBRARY_FUNCTIONS, "a library has places for all of them");

static struct library_kind gnutls = { .names = names, .n = FUNCTIONS };

enum { E_PUSH_ERROR = -53, E_INTERNAL = -59 };

ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t n);
ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t n);
int gnutls_handshake(gnutls_session_t session);
struct range; /* gnutls_range_st */
struct packet; /* gnutls_packet_t points to one */
ssize_t gnutls_record_send2(gnutls_session_t session, const void *data, size_t n, size_t pad,
			    unsigned flags);
ssize_t gnutls_record_send_range(gnutls_session_t session, const void *data, size_t n,
				 const struct range *range);
ssize_t gnutls_record_send_file(gnutls_session_t session, int fd, off_t *offset, size_t n);
ssize_t gnutls_record_send_early_data(gnutls_session_t session, const void *data, size_t n);
ssize_t gnutls_record_recv_seq(gnutls_session_t session, void *data, size_t n, unsigned char *seq);
ssize_t gnutls_record_recv_packet(gnutls_session_t session, struct packet **packet);
int gnutls_record_uncork(gnutls_session_t session, unsigned flags);
int gnutls_bye(gnutls_session_t session, int how);

typedef void get_random(gnutls_session_t session, struct datum *client, struct datum *server);
typedef int is_fatal(int error);

struct caller {
	const struct library *library; /* NULL: there is none, the call fails */
	bool ours;                     /* else it goes on untouched */
	bool inbound;
	fds_word word;                 /* 0: not known, or not yet */
};

/* Which side it is on nothing tells us: a number that both sides in here have is of neither. */
static void link_session(struct caller *c, gnutls_session_t session, bool announces)
{
	library_function *f = c->library->functions[SESSION_GET_RANDOM];
	struct datum client = { NULL, 0 };

	c->word = 0;
	if (f == NULL || !guard_enter())
		return;
	((get_random *) f)(session, &client, NULL);
	if (client.data != NULL && client.size == TLS_RANDOM) {
		const fds_word out = tls_link(client.data, false);
		const fds_word in = tls_link(client.data, true);

		c->inbound = out == 0;
		c->word = out == 0 || in == 0 ? out | in : 0;
		/* With a transport of its own the hello is the program's to send. */
		if (announces && out == 0 && in == 0)
			tls_announce(client.data);
	}
	guard_leave();
}

static struct caller caller_of(const void *address, gnutls_session_t session, enum function which)
{
	struct caller c = { 0 };

	/* gnutls_record_send() jumps to gnutls_record_send2(), through its import table. */
	c.library = library_called(&gnutls, which, address, &c.ours);
	if (c.ours)
		link_session(&c, session, false);
	return c;
}

#define CALLER(session, which) caller_of(__builtin_return_address(0), (session), (which))

static bool fatal(const struct caller *c, ssize_t rc)
{
	library_function *f = c->library->functions[ERROR_IS_FATAL];

	return rc < 0 && f != NULL && ((is_fatal *) f)((int) rc) != 0;
}

EXPORT int gnutls_handshake(gnutls_session_t session)
{
	struct caller c = CALLER(session, HANDSHAKE);
	int rc, saved;

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, HANDSHAKE, gnutls_handshake)(session);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));

	rc = REAL(c.library, HANDSHAKE, gnutls_handshake)(session);
	guard_tls_leave(outer);
	saved = errno;
	link_session(&c, session, rc < 0);
	if (c.word != 0 && (rc == 0 || fatal(&c, rc)))
		tls_shook_hands(c.word, rc == 0 ? 0 : EPROTO);
	errno = saved;
	return rc;
}

static void was_read(const struct caller *c, const void *data, size_t n, ssize_t rc, uint32_t mark)
{
	const int saved = errno;

	if (c->word != 0 && rc > 0)
		tls_read(c->word, data, (size_t) rc, mark);
	else if (c->word != 0 && rc == 0 && n > 0)
		tls_read_end(c->word, 0);
	else if (c->word != 0 && fatal(c, rc))
		tls_read_end(c->word, EPROTO);
	errno = saved;
}

EXPORT ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t n)
{
	struct caller c = CALLER(session, RECORD_RECV);

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, RECORD_RECV, gnutls_record_recv)(session, data, n);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc = REAL(c.library, RECORD_RECV, gnutls_record_recv)(session, data, n);

	guard_tls_leave(outer);
	was_read(&c, data, n, rc, mark);
	return rc;
}

EXPORT ssize_t gnutls_record_recv_seq(gnutls_session_t session, void *data, size_t n,
				      unsigned char *seq)
{
	struct caller c = CALLER(session, RECORD_RECV_SEQ);

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, RECORD_RECV_SEQ, gnutls_record_recv_seq)(session, data, n,
										seq);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc =
		REAL(c.library, RECORD_RECV_SEQ, gnutls_record_recv_seq)(session, data, n, seq);

	guard_tls_leave(outer);
	was_read(&c, data, n, rc, mark);
	return rc;
}

/* The bytes stay in the library, and go to the program by calls that we do not see. */
EXPORT ssize_t gnutls_record_recv_packet(gnutls_session_t session, struct packet **packet)
{
	struct caller c = CALLER(session, RECORD_RECV_PACKET);

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, RECORD_RECV_PACKET, gnutls_record_recv_packet)(session,
										      packet);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc =
		REAL(c.library, RECORD_RECV_PACKET, gnutls_record_recv_packet)(session, packet);

	guard_tls_leave(outer);
	if (c.word != 0 && rc > 0)
		tls_lost(c.word, false);
	else
		was_read(&c, NULL, 1, rc, 0);
	return rc;
}

EXPORT int gnutls_bye(gnutls_session_t session, int how)
{
	struct caller c = CALLER(session, BYE);

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, BYE, gnutls_bye)(session, how);
	if (c.word != 0)
		tls_parts(c.word);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, BYE, gnutls_bye)(session, how);

	guard_tls_leave(outer);
	return rc;
}

struct write {
	const struct library *library;
	gnutls_session_t session;
	size_t pad;      /* of gnutls_record_send2() */
	unsigned flags;
};

static ssize_t write_some(void *arg, const void *buf, size_t n)
{
	const struct write *w = arg;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc =
		REAL(w->library, RECORD_SEND, gnutls_record_send)(w->session, buf, n);

	guard_tls_leave(outer);
	return rc;
}

static ssize_t write_some2(void *arg, const void *buf, size_t n)
{
	const struct write *w = arg;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc = REAL(w->library, RECORD_SEND2, gnutls_record_send2)(
		w->session, buf, n, w->pad, w->flags);

	guard_tls_leave(outer);
	return rc;
}

static ssize_t write_as(struct caller *c, struct write *w, const void *data, size_t n,
			ssize_t (*some)(void *arg, const void *buf, size_t n))
{
	const struct tls_writer writer = { some, w, true, E_PUSH_ERROR };
	ssize_t rc;

	if (!c->ours)
		return some(w, data, n);
	if (c->word != 0 && tls_sends(c->word))
		return n > 0 ? tls_send(c->word, data, n, &writer)
			     : tls_send_again(c->word, &writer);

	const uint32_t mark = c->word != 0 ? tls_mark(c->word, true) : 0;

	rc = some(w, data, n);
	if (c->word != 0 && rc > 0 && data != NULL)
		tls_wrote(c->word, data, (size_t) rc, mark);
	else if (c->word != 0 && rc > 0) /* the rest of a record whose bytes we do not have */
		tls_lost(c->word, true);
	return rc;
}

EXPORT ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t n)
{
	struct caller c = CALLER(session, RECORD_SEND);
	struct write w = { c.library, session, 0, 0 };

	return c.library != NULL ? write_as(&c, &w, data, n, write_some) : E_INTERNAL;
}

EXPORT ssize_t gnutls_record_send2(gnutls_session_t session, const void *data, size_t n, size_t pad,
				   unsigned flags)
{
	struct caller c = CALLER(session, RECORD_SEND2);
	struct write w = { c.library, session, pad, flags };

	return c.library != NULL ? write_as(&c, &w, data, n, write_some2) : E_INTERNAL;
}

/* Its length is to be hidden: nothing is added to it, or behind it. */
EXPORT ssize_t gnutls_record_send_range(gnutls_session_t session, const void *data, size_t n,
					const struct range *range)
{
	struct caller c = CALLER(session, RECORD_SEND_RANGE);

	if (c.library == NULL)
		return E_INTERNAL;
	if (c.ours && c.word != 0)
		tls_lost(c.word, true);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc = REAL(c.library, RECORD_SEND_RANGE, gnutls_record_send_range)(
		session, data, n, range);

	guard_tls_leave(outer);
	return rc;
}

EXPORT ssize_t gnutls_record_send_file(gnutls_session_t session, int fd, off_t *offset, size_t n)
{
	struct caller c = CALLER(session, RECORD_SEND_FILE);

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, RECORD_SEND_FILE, gnutls_record_send_file)(session, fd,
										  offset, n);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, true) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc = REAL(c.library, RECORD_SEND_FILE, gnutls_record_send_file)(session, fd,
										      offset, n);

	guard_tls_leave(outer);
	if (c.word != 0 && rc > 0)
		tls_skipped(c.word, (size_t) rc, mark);
	return rc;
}

/* It may have to be sent again when the peer does not take it: it is not followed. */
EXPORT ssize_t gnutls_record_send_early_data(gnutls_session_t session, const void *data, size_t n)
{
	struct caller c = CALLER(session, RECORD_SEND_EARLY_DATA);
	ssize_t rc;

	if (c.library == NULL)
		return E_INTERNAL;
	rc = REAL(c.library, RECORD_SEND_EARLY_DATA, gnutls_record_send_early_data)(session, data,
										    n);
	if (!c.ours)
		return rc;
	link_session(&c, session, false);
	if (c.word != 0)
		tls_lost(c.word, true);
	return rc;
}

/* What was corked we have looked at when it was handed over. */
EXPORT int gnutls_record_uncork(gnutls_session_t session, unsigned flags)
{
	struct caller c = CALLER(session, RECORD_UNCORK);

	if (c.library == NULL)
		return E_INTERNAL;

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc =
		REAL(c.library, RECORD_UNCORK, gnutls_record_uncork)(session, flags);

	guard_tls_leave(outer);
	return rc;
}
