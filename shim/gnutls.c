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
#include "shim/traffic_place.h"

#include <string.h>

typedef struct gnutls_session_int *gnutls_session_t;

/* gnutls_datum_t */
struct datum {
	unsigned char *data;
	unsigned int size;
};

enum function { RECORD_SEND, RECORD_RECV, HANDSHAKE, SESSION_GET_RANDOM, ERROR_IS_FATAL, FUNCTIONS };

static const char *const names[] = {
	[RECORD_SEND] = "gnutls_record_send",
	[RECORD_RECV] = "gnutls_record_recv",
	[HANDSHAKE] = "gnutls_handshake",
	[SESSION_GET_RANDOM] = "gnutls_session_get_random",
	[ERROR_IS_FATAL] = "gnutls_error_is_fatal",
};

_Static_assert(FUNCTIONS <= LIBRARY_FUNCTIONS, "a library has places for all of them");

static struct library_kind gnutls = { .names = names, .n = FUNCTIONS };

enum { E_PUSH_ERROR = -53, E_INTERNAL = -59 };

ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t n);
ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t n);
int gnutls_handshake(gnutls_session_t session);

typedef void get_random(gnutls_session_t session, struct datum *client, struct datum *server);
typedef int is_fatal(int error);

#define REAL(l, which, hook) ((__typeof__(hook) *) (l)->functions[which])

struct caller {
	const struct library *library; /* NULL: there is none, the call fails */
	bool ours;                     /* else it goes on untouched */
	bool inbound;
	fds_word word;                 /* 0: not known, or not yet */
};

/* Which side it is on nothing tells us; a number is mostly of one. */
static void link_session(struct caller *c, gnutls_session_t session)
{
	library_function *f = c->library->functions[SESSION_GET_RANDOM];
	struct datum client = { NULL, 0 };

	c->word = 0;
	if (f == NULL || !guard_enter())
		return;
	((get_random *) f)(session, &client, NULL);
	if (client.data != NULL && client.size == TLS_RANDOM) {
		c->word = tls_link(client.data, false);
		c->inbound = c->word == 0;
		if (c->inbound)
			c->word = tls_link(client.data, true);
	}
	guard_leave();
}

static struct caller caller_of(const void *address, gnutls_session_t session, enum function which)
{
	struct caller c = { .library = library_of(&gnutls, address) };

	if (c.library == NULL || c.library->functions[which] == NULL) {
		traffic_count(METRICS_LIBRARY_LOST);
		c.library = NULL;
		return c;
	}
	c.ours = armed && !library_calls_itself(c.library, address);
	if (c.ours)
		link_session(&c, session);
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
	link_session(&c, session);
	if (c.word != 0 && (rc == 0 || fatal(&c, rc)))
		tls_shook_hands(c.word, rc == 0 ? 0 : EPROTO);
	errno = saved;
	return rc;
}

EXPORT ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t n)
{
	struct caller c = CALLER(session, RECORD_RECV);
	int saved;

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return REAL(c.library, RECORD_RECV, gnutls_record_recv)(session, data, n);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc = REAL(c.library, RECORD_RECV, gnutls_record_recv)(session, data, n);

	guard_tls_leave(outer);
	saved = errno;
	if (c.word != 0 && rc > 0)
		tls_read(c.word, data, (size_t) rc, mark);
	else if (c.word != 0 && rc == 0 && n > 0)
		tls_read_end(c.word, 0);
	else if (c.word != 0 && fatal(&c, rc))
		tls_read_end(c.word, EPROTO);
	errno = saved;
	return rc;
}

struct write {
	const struct library *library;
	gnutls_session_t session;
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

EXPORT ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t n)
{
	struct caller c = CALLER(session, RECORD_SEND);
	struct write w = { c.library, session };
	const struct tls_writer writer = { write_some, &w, true, E_PUSH_ERROR };
	ssize_t rc;

	if (c.library == NULL)
		return E_INTERNAL;
	if (!c.ours)
		return write_some(&w, data, n);
	if (c.word != 0 && tls_sends(c.word))
		return n > 0 ? tls_send(c.word, data, n, &writer)
			     : tls_send_again(c.word, &writer);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, true) : 0;

	rc = write_some(&w, data, n);
	if (c.word != 0 && rc > 0 && data != NULL)
		tls_wrote(c.word, data, (size_t) rc, mark);
	else if (c.word != 0 && rc > 0) /* the rest of a record whose bytes we do not have */
		tls_lost(c.word);
	return rc;
}
