/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's functions that move plaintext and shake hands. The prototypes are those of
 * SSL_read(3), SSL_write(3), SSL_do_handshake(3), SSL_get_error(3), SSL_get_client_random(3) and
 * SSL_CTX_set_mode(3), as of OpenSSL 1.1.0 and since: its headers are not needed to build.
 *
 * libssl's own calls of these are told by where they come from, and go on untouched.
 */
#include <errno.h>

#include "shim/guard.h"
#include "shim/library.h"
#include "shim/life.h"
#include "shim/tls.h"

typedef struct ssl_st SSL;

enum function {
	READ,
	READ_EX,
	WRITE,
	WRITE_EX,
	CONNECT,
	ACCEPT,
	DO_HANDSHAKE,
	GET_ERROR,
	GET_CLIENT_RANDOM,
	IS_SERVER,
	CTRL,
	IN_INIT,
	PEEK,
	PEEK_EX,
	SENDFILE,
	READ_EARLY_DATA,
	WRITE_EARLY_DATA,
	SHUTDOWN,
	FUNCTIONS
};

static const char *const names[] = {
	[READ] = "SSL_read",
	[READ_EX] = "SSL_read_ex",
	[WRITE] = "SSL_write",
	[WRITE_EX] = "SSL_write_ex",
	[CONNECT] = "SSL_connect",
	[ACCEPT] = "SSL_accept",
	[DO_HANDSHAKE] = "SSL_do_handshake",
	[GET_ERROR] = "SSL_get_error",
	[GET_CLIENT_RANDOM] = "SSL_get_client_random",
	[IS_SERVER] = "SSL_is_server",
	[CTRL] = "SSL_ctrl",
	[IN_INIT] = "SSL_in_init",
	[PEEK] = "SSL_peek",
	[PEEK_EX] = "SSL_peek_ex",
	[SENDFILE] = "SSL_sendfile",
	[READ_EARLY_DATA] = "SSL_read_early_data",
	[WRITE_EARLY_DATA] = "SSL_write_early_data",
	[SHUTDOWN] = "SSL_shutdown",
};

_Static_assert(FUNCTIONS <= LIBRARY_FUNCTIONS, "a library has places for all of them");

static struct library_kind openssl = { .names = names, .n = FUNCTIONS };

/* Of <openssl/ssl.h>. */
enum { ERROR_SSL = 1, ERROR_SYSCALL = 5, ERROR_ZERO_RETURN = 6 };
enum { CTRL_MODE = 33, MODE_PARTIAL_WRITE = 1 };

int SSL_read(SSL *ssl, void *buf, int num);
int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *n);
int SSL_write(SSL *ssl, const void *buf, int num);
int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *n);
int SSL_connect(SSL *ssl);
int SSL_accept(SSL *ssl);
int SSL_do_handshake(SSL *ssl);
int SSL_peek(SSL *ssl, void *buf, int num);
int SSL_peek_ex(SSL *ssl, void *buf, size_t num, size_t *n);
ssize_t SSL_sendfile(SSL *ssl, int fd, off_t offset, size_t size, int flags);
int SSL_read_early_data(SSL *ssl, void *buf, size_t num, size_t *n);
int SSL_write_early_data(SSL *ssl, const void *buf, size_t num, size_t *n);
int SSL_shutdown(SSL *ssl);

typedef int get_error(const SSL *ssl, int rc);
typedef size_t get_client_random(const SSL *ssl, unsigned char *out, size_t size);
typedef int is_server(const SSL *ssl);
typedef int in_init(const SSL *ssl);
typedef long ctrl(SSL *ssl, int cmd, long larg, void *parg);

/* Who called, and of which session. */
struct caller {
	const struct library *library; /* NULL: there is none, the call fails */
	bool ours;                     /* else it goes on untouched */
	bool inbound;
	unsigned char random[TLS_RANDOM];
	fds_word word;                 /* 0: not known, or not yet */
};

/* Asked before the call and after it: a handshake may be in it. */
static void link_session(struct caller *c, const SSL *ssl)
{
	library_function *random = c->library->functions[GET_CLIENT_RANDOM];
	library_function *server = c->library->functions[IS_SERVER];

	c->word = 0;
	if (random == NULL || server == NULL || !guard_enter())
		return;
	c->inbound = ((is_server *) server)(ssl) != 0;
	if (((get_client_random *) random)(ssl, c->random, TLS_RANDOM) == TLS_RANDOM)
		c->word = tls_link(c->random, c->inbound);
	guard_leave();
}

static struct caller caller_of(const void *address, const SSL *ssl, enum function which)
{
	struct caller c = { 0 };

	c.library = library_called(&openssl, which, address, &c.ours);
	if (c.ours)
		link_session(&c, ssl);
	return c;
}

#define CALLER(ssl, which) caller_of(__builtin_return_address(0), (ssl), (which))

static int error_of(const struct caller *c, const SSL *ssl, int rc)
{
	library_function *f = c->library->functions[GET_ERROR];

	return f != NULL ? ((get_error *) f)(ssl, rc) : 0;
}

/* ---- shaking hands ---- */

/*
 * With memory BIOs the ClientHello is the program's to send: whoever sends it is on the
 * connection of this session.
 */
static void hands_shaken(struct caller *c, const SSL *ssl, int rc)
{
	const int saved = errno;
	const bool known = c->word != 0;

	link_session(c, ssl);
	if (!known && c->word == 0 && !c->inbound && guard_enter()) {
		tls_announce(c->random);
		guard_leave();
	}
	if (c->word != 0 && rc == 1)
		tls_shook_hands(c->word, 0);
	else if (c->word != 0 && error_of(c, ssl, rc) == ERROR_SSL)
		tls_shook_hands(c->word, EPROTO);
	errno = saved;
}

static int handshake(struct caller *c, SSL *ssl, enum function which)
{
	int rc;

	if (c->library == NULL)
		return -1;
	if (!c->ours)
		return REAL(c->library, which, SSL_connect)(ssl);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));

	rc = REAL(c->library, which, SSL_connect)(ssl);
	guard_tls_leave(outer);
	hands_shaken(c, ssl, rc);
	return rc;
}

EXPORT int SSL_connect(SSL *ssl)
{
	struct caller c = CALLER(ssl, CONNECT);

	return handshake(&c, ssl, CONNECT);
}

EXPORT int SSL_accept(SSL *ssl)
{
	struct caller c = CALLER(ssl, ACCEPT);

	return handshake(&c, ssl, ACCEPT);
}

EXPORT int SSL_do_handshake(SSL *ssl)
{
	struct caller c = CALLER(ssl, DO_HANDSHAKE);

	return handshake(&c, ssl, DO_HANDSHAKE);
}

/* ---- reading ---- */

/* @n: bytes that came; @rc: what the call returned */
static void was_read(struct caller *c, SSL *ssl, const void *buf, size_t n, int rc, uint32_t mark)
{
	const int saved = errno;
	const bool known = c->word != 0;

	if (!known)
		link_session(c, ssl);
	if (c->word == 0) {
		errno = saved;
		return;
	}
	if (n > 0) {
		tls_read(c->word, buf, n, known ? mark : tls_mark(c->word, false));
		errno = saved;
		return;
	}

	const int error = error_of(c, ssl, rc);

	if (error == ERROR_ZERO_RETURN)
		tls_read_end(c->word, 0);
	else if (error == ERROR_SSL)
		tls_read_end(c->word, EPROTO);
	else if (error == ERROR_SYSCALL)
		tls_read_end(c->word, saved);
	errno = saved;
}

EXPORT int SSL_read(SSL *ssl, void *buf, int num)
{
	struct caller c = CALLER(ssl, READ);

	if (c.library == NULL)
		return -1;
	if (!c.ours)
		return REAL(c.library, READ, SSL_read)(ssl, buf, num);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, READ, SSL_read)(ssl, buf, num);

	guard_tls_leave(outer);
	was_read(&c, ssl, buf, rc > 0 ? (size_t) rc : 0, rc, mark);
	return rc;
}

EXPORT int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *n)
{
	struct caller c = CALLER(ssl, READ_EX);

	if (c.library == NULL)
		return 0;
	if (!c.ours)
		return REAL(c.library, READ_EX, SSL_read_ex)(ssl, buf, num, n);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, READ_EX, SSL_read_ex)(ssl, buf, num, n);

	guard_tls_leave(outer);
	was_read(&c, ssl, buf, rc == 1 ? *n : 0, rc, mark);
	return rc;
}

/* Bytes that are only looked at come again; but a handshake may have come to its end. */
EXPORT int SSL_peek(SSL *ssl, void *buf, int num)
{
	struct caller c = CALLER(ssl, PEEK);

	if (c.library == NULL)
		return -1;
	if (!c.ours)
		return REAL(c.library, PEEK, SSL_peek)(ssl, buf, num);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, PEEK, SSL_peek)(ssl, buf, num);

	guard_tls_leave(outer);
	if (rc <= 0)
		was_read(&c, ssl, NULL, 0, rc, 0);
	return rc;
}

EXPORT int SSL_peek_ex(SSL *ssl, void *buf, size_t num, size_t *n)
{
	struct caller c = CALLER(ssl, PEEK_EX);

	if (c.library == NULL)
		return 0;
	if (!c.ours)
		return REAL(c.library, PEEK_EX, SSL_peek_ex)(ssl, buf, num, n);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, PEEK_EX, SSL_peek_ex)(ssl, buf, num, n);

	guard_tls_leave(outer);
	if (rc <= 0)
		was_read(&c, ssl, NULL, 0, rc, 0);
	return rc;
}

/* What a client sent along with its hello; 0 is an error, else there may be bytes. */
EXPORT int SSL_read_early_data(SSL *ssl, void *buf, size_t num, size_t *n)
{
	struct caller c = CALLER(ssl, READ_EARLY_DATA);

	if (c.library == NULL)
		return 0;
	if (!c.ours)
		return REAL(c.library, READ_EARLY_DATA, SSL_read_early_data)(ssl, buf, num, n);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, false) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, READ_EARLY_DATA, SSL_read_early_data)(ssl, buf, num, n);

	guard_tls_leave(outer);
	if (rc == 0 || *n > 0)
		was_read(&c, ssl, buf, rc != 0 ? *n : 0, rc, mark);
	return rc;
}

/* ---- writing ---- */

/* The library's own call; of SSL_write_ex() @rc is what it returned, for the program. */
struct write {
	const struct library *library;
	SSL *ssl;
	int rc;
};

static ssize_t write_some(void *arg, const void *buf, size_t n)
{
	struct write *w = arg;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));

	w->rc = REAL(w->library, WRITE, SSL_write)(w->ssl, buf, (int) n);
	guard_tls_leave(outer);
	return w->rc;
}

static ssize_t write_some_ex(void *arg, const void *buf, size_t n)
{
	struct write *w = arg;
	size_t written = 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));

	w->rc = REAL(w->library, WRITE_EX, SSL_write_ex)(w->ssl, buf, n, &written);
	guard_tls_leave(outer);
	return w->rc == 1 ? (ssize_t) written : 0;
}

static bool in_parts(const struct caller *c, SSL *ssl)
{
	library_function *f = c->library->functions[CTRL];

	return f != NULL && (((ctrl *) f)(ssl, CTRL_MODE, 0, NULL) & MODE_PARTIAL_WRITE) != 0;
}

/*
 * What SSL_get_error() says of a call depends on what the session wanted last, and to read is what
 * a kept one mostly did. A call that writes nothing has it want nothing: then it says
 * SSL_ERROR_SYSCALL of the refusal, and errno is asked.
 */
static void want_nothing(struct write *w)
{
	const int saved = errno;

	if (w->library->functions[WRITE_EX] != NULL)
		(void) write_some_ex(w, "", 0);
	errno = saved;
}

/* Else a request would be on its way before we know on what connection. 1: they are shaken. */
static int shake_first(struct caller *c, SSL *ssl)
{
	library_function *f = c->library->functions[IN_INIT];

	if (c->word != 0 || c->inbound || f == NULL || ((in_init *) f)(ssl) == 0)
		return 1;
	return handshake(c, ssl, DO_HANDSHAKE);
}

enum { REFUSED = -4096 }; /* no answer of libssl's */

/* Bytes of the program's that went, > 0, or what the write said. */
static ssize_t write_all(struct caller *c, SSL *ssl, const void *buf, size_t n,
			 ssize_t (*some)(void *arg, const void *buf, size_t n))
{
	struct write w = { c->library, ssl, 0 };
	const struct tls_writer writer = { some, &w, in_parts(c, ssl), REFUSED };
	const int shaken = shake_first(c, ssl);
	const bool known = c->word != 0;
	const uint32_t mark = known ? tls_mark(c->word, true) : 0;
	ssize_t rc;

	if (shaken <= 0)
		return shaken;
	if (known && tls_sends(c->word)) {
		rc = tls_send(c->word, buf, n, &writer);
		if (rc == REFUSED)
			want_nothing(&w);
		return rc == REFUSED ? -1 : rc;
	}
	rc = some(&w, buf, n);
	if (rc <= 0)
		return rc;
	if (!known) {
		const int saved = errno;

		link_session(c, ssl);
		if (c->word != 0) /* the handshake was in it: what went is not known */
			tls_lost(c->word, true);
		errno = saved;
	} else if (c->inbound) {
		tls_wrote(c->word, buf, (size_t) rc, mark);
	}
	return rc;
}

/* s_client shakes hands so: 0 is what SSL_write() returns when they are. */
static void wrote_nothing(struct caller *c, SSL *ssl)
{
	library_function *f = c->library->functions[IN_INIT];
	const bool shaken = f != NULL && ((in_init *) f)(ssl) == 0;

	hands_shaken(c, ssl, shaken ? 1 : -1);
}

EXPORT int SSL_write(SSL *ssl, const void *buf, int num)
{
	struct caller c = CALLER(ssl, WRITE);

	if (c.library == NULL)
		return -1;
	if (!c.ours)
		return REAL(c.library, WRITE, SSL_write)(ssl, buf, num);
	if (num <= 0) {
		struct write w = { c.library, ssl, 0 };

		(void) write_some(&w, buf, (size_t) num);
		wrote_nothing(&c, ssl);
		return w.rc;
	}
	return (int) write_all(&c, ssl, buf, (size_t) num, write_some);
}

EXPORT int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *n)
{
	struct caller c = CALLER(ssl, WRITE_EX);
	ssize_t rc;

	if (c.library == NULL)
		return 0;
	if (!c.ours)
		return REAL(c.library, WRITE_EX, SSL_write_ex)(ssl, buf, num, n);
	if (num == 0) {
		struct write w = { c.library, ssl, 0 };

		*n = (size_t) write_some_ex(&w, buf, 0);
		wrote_nothing(&c, ssl);
		return w.rc;
	}
	rc = write_all(&c, ssl, buf, num, write_some_ex);
	if (rc <= 0)
		return 0;
	*n = (size_t) rc;
	return 1;
}

EXPORT ssize_t SSL_sendfile(SSL *ssl, int fd, off_t offset, size_t size, int flags)
{
	struct caller c = CALLER(ssl, SENDFILE);

	if (c.library == NULL)
		return -1;
	if (!c.ours)
		return REAL(c.library, SENDFILE, SSL_sendfile)(ssl, fd, offset, size, flags);

	const uint32_t mark = c.word != 0 ? tls_mark(c.word, true) : 0;
	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const ssize_t rc =
		REAL(c.library, SENDFILE, SSL_sendfile)(ssl, fd, offset, size, flags);

	guard_tls_leave(outer);
	if (c.word != 0 && rc > 0)
		tls_skipped(c.word, (size_t) rc, mark);
	return rc;
}

/* It may have to be sent again when the peer does not take it: it is not followed. */
EXPORT int SSL_write_early_data(SSL *ssl, const void *buf, size_t num, size_t *n)
{
	struct caller c = CALLER(ssl, WRITE_EARLY_DATA);

	if (c.library == NULL)
		return 0;
	if (!c.ours)
		return REAL(c.library, WRITE_EARLY_DATA, SSL_write_early_data)(ssl, buf, num, n);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, WRITE_EARLY_DATA, SSL_write_early_data)(ssl, buf, num, n);

	guard_tls_leave(outer);
	hands_shaken(&c, ssl, rc == 1 ? 0 : -1);
	if (c.word != 0)
		tls_lost(c.word, true);
	return rc;
}

/* An answer that lasts until its sender closes has ended. */
EXPORT int SSL_shutdown(SSL *ssl)
{
	struct caller c = CALLER(ssl, SHUTDOWN);

	if (c.library == NULL)
		return -1;
	if (!c.ours)
		return REAL(c.library, SHUTDOWN, SSL_shutdown)(ssl);
	if (c.word != 0)
		tls_parts(c.word);

	const void *outer = guard_tls_enter(__builtin_frame_address(0));
	const int rc = REAL(c.library, SHUTDOWN, SSL_shutdown)(ssl);

	guard_tls_leave(outer);
	return rc;
}
