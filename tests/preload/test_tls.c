/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP inside TLS, by OpenSSL and by GnuTLS: our fields go in, the program's bytes stay as they
 * were however often its calls are to be repeated, and breakers and spans are as in the clear.
 */
#include "tests/preload/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/metrics.h"
#include "tests/preload/cases.h"
#include "tests/preload/streams.h"
#include "tests/preload/traced.h"

#define REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static const char ask[] = "GET /sealed HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* ---- a client, by either library ---- */

enum library { OPENSSL, OPENSSL_EX, OPENSSL_MEMORY, GNUTLS, LIBRARIES };

static const char *const libraries[] = { "OpenSSL", "OpenSSL, _ex", "OpenSSL, in memory",
					 "GnuTLS" };

struct client {
	enum library by;
	int fd;
	SSL *ssl;
	BIO *in, *out;
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
};

static void move_out(const struct client *c)
{
	char buf[16384];
	int n;

	while (c->by == OPENSSL_MEMORY && (n = BIO_read(c->out, buf, sizeof(buf))) > 0)
		for (int at = 0; at < n;) {
			const ssize_t rc = send(c->fd, buf + at, (size_t) (n - at), MSG_NOSIGNAL);

			if (rc < 0 && errno == EAGAIN)
				wait_for(c->fd, POLLOUT);
			else if (rc < 0)
				return;
			else
				at += (int) rc;
		}
}

static bool move_in(const struct client *c)
{
	char buf[16384];
	const ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	return n > 0 && BIO_write(c->in, buf, (int) n) == n;
}

/* As SSL_write() and gnutls_record_send(): -1 with EAGAIN is to be repeated. */
static ssize_t client_write(struct client *c, const void *bytes, size_t n)
{
	size_t went = 0;
	ssize_t rc;

	if (c->by == GNUTLS) {
		rc = gnutls_record_send(c->session, bytes, n);
		if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
			errno = EAGAIN;
		return rc < 0 ? -1 : rc;
	}
	if (c->by == OPENSSL_EX)
		rc = SSL_write_ex(c->ssl, bytes, n, &went) == 1 ? (ssize_t) went : -1;
	else
		rc = SSL_write(c->ssl, bytes, (int) n);
	if (rc <= 0 && SSL_get_error(c->ssl, c->by == OPENSSL_EX ? 0 : (int) rc) ==
			       SSL_ERROR_WANT_WRITE)
		errno = EAGAIN;
	move_out(c);
	return rc;
}

static ssize_t client_read(struct client *c, void *buf, size_t n)
{
	ssize_t rc;
	size_t came;

	if (c->by == GNUTLS) {
		/* The server's tickets come first, and are no data. */
		do {
			rc = gnutls_record_recv(c->session, buf, n);
		} while (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED);
		return rc;
	}
	do {
		if (c->by == OPENSSL_EX)
			rc = SSL_read_ex(c->ssl, buf, n, &came) == 1 ? (ssize_t) came : -1;
		else
			rc = SSL_read(c->ssl, buf, (int) n);
	} while (rc <= 0 && c->by == OPENSSL_MEMORY &&
		 SSL_get_error(c->ssl, (int) rc) == SSL_ERROR_WANT_READ && move_in(c));
	return rc;
}

static int client_shake(struct client *c)
{
	int rc;

	if (c->by == GNUTLS) {
		do {
			rc = gnutls_handshake(c->session);
		} while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
		return rc == 0 ? 1 : -1;
	}
	if (c->by != OPENSSL_MEMORY)
		return SSL_connect(c->ssl);
	do {
		rc = SSL_do_handshake(c->ssl);
		move_out(c);
	} while (rc <= 0 && SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ && move_in(c));
	return rc;
}

static struct client client_over(enum library by, int fd, SSL_CTX *ctx)
{
	struct client c = { .by = by, .fd = fd };

	if (by == GNUTLS) {
		assert_int_equal(gnutls_init(&c.session, GNUTLS_CLIENT), 0);
		assert_int_equal(gnutls_certificate_allocate_credentials(&c.credentials), 0);
		assert_int_equal(gnutls_set_default_priority(c.session), 0);
		(void) gnutls_credentials_set(c.session, GNUTLS_CRD_CERTIFICATE, c.credentials);
		gnutls_transport_set_int(c.session, fd);
		return c;
	}
	c.ssl = SSL_new(ctx);
	assert_non_null(c.ssl);
	SSL_set_connect_state(c.ssl);
	if (by != OPENSSL_MEMORY) {
		assert_int_equal(SSL_set_fd(c.ssl, fd), 1);
		return c;
	}
	c.in = BIO_new(BIO_s_mem());
	c.out = BIO_new(BIO_s_mem());
	SSL_set_bio(c.ssl, c.in, c.out);
	return c;
}

static struct client client_to(enum library by, const struct sealed *s)
{
	struct client c = client_over(by, tcp_connected(&s->peer), s->ctx);

	assert_int_equal(client_shake(&c), 1);
	return c;
}

static void client_close(struct client *c)
{
	if (c->by == GNUTLS) {
		gnutls_deinit(c->session);
		gnutls_certificate_free_credentials(c->credentials);
	} else {
		(void) SSL_shutdown(c->ssl);
		move_out(c);
		SSL_free(c->ssl);
	}
	assert_int_equal(close(c->fd), 0);
}

/* Its peer reads to the end: what is not read at a close has the kernel reset the connection. */
static void client_finish(struct client *c)
{
	char rest[4096];

	(void) fcntl(c->fd, F_SETFL, 0);
	if (c->by != GNUTLS)
		(void) SSL_shutdown(c->ssl);
	move_out(c);
	assert_int_equal(shutdown(c->fd, SHUT_WR), 0);
	while (recv(c->fd, rest, sizeof(rest), 0) > 0)
		;
	client_close(c);
}

static void exchange(struct client *c)
{
	char got[256];

	assert_int_equal(client_write(c, ask, sizeof(ask) - 1), sizeof(ask) - 1);
	assert_int_equal(client_read(c, got, sizeof(got)), strlen(REPLY));
}

static void each_library(void (*tell)(enum library by))
{
	for (enum library by = OPENSSL; by < LIBRARIES; by++) {
		print_message("# %s\n", libraries[by]);
		tell(by);
	}
}

/* ---- what goes out ---- */

static void adds(enum library by)
{
	struct sealed s = { .reply = REPLY };
	char traceparent[256], span[17], told[17];
	struct event e;

	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	exchange(&c);
	exchange(&c);
	client_close(&c);
	sealed_wait(&s);
	s.got[s.n_got] = '\0';
	assert_int_equal(sealed_requests(s.got, s.n_got), 2);
	field_of(s.got, "traceparent", traceparent);
	assert_int_equal(strlen(traceparent), 55);
	field_of(strstr(s.got, "\r\n\r\n") + 4, "traceparent", traceparent);
	assert_true(span_told("GET /sealed", &e));
	span_of(traceparent, span);
	span_id_of(&e, told);
	assert_string_equal(span, told);
	assert_int_equal(e.span.bits & SPAN_TLS_INSIDE, SPAN_TLS_INSIDE);
	assert_int_equal(e.span.port, 443);
	assert_int_equal(e.span.status, 200);
	assert_totals(s.peer.key, 2, 0, 0);
	sealed_drop(&s);
}

static void fields_go_inside(void **state)
{
	(void) state;
	each_library(adds);
}

/* Nothing is a thing that a program may write, and then the session shakes hands. */
static void nothing_is_written(void **state)
{
	struct sealed s = { .reply = REPLY };
	size_t n = 1;

	(void) state;
	for (int i = 0; i < 2; i++) {
		sealed_begin(&s, 1);

		struct client c = client_over(OPENSSL, tcp_connected(&s.peer), s.ctx);

		if (i == 0)
			assert_int_equal(SSL_write(c.ssl, "", 0), 0);
		assert_int_equal(SSL_write_ex(c.ssl, "", 0, &n), 1);
		assert_int_equal(n, 0);
		exchange(&c);
		client_close(&c);
		sealed_wait(&s);
		s.got[s.n_got] = '\0';
		assert_non_null(strstr(s.got, "traceparent: "));
	}
	sealed_drop(&s);
}

/* A session that is told whose side it is on, and asked at once. */
static void the_first_call_shakes_hands(void **state)
{
	(void) state;
	for (enum library by = OPENSSL; by <= OPENSSL_EX; by++) {
		struct sealed s = { .reply = REPLY };

		sealed_begin(&s, 1);

		struct client c = client_over(by, tcp_connected(&s.peer), s.ctx);

		exchange(&c);
		client_close(&c);
		sealed_wait(&s);
		s.got[s.n_got] = '\0';
		assert_non_null(strstr(s.got, "traceparent: "));
		assert_totals(s.peer.key, 1, 0, 0);
		sealed_drop(&s);
	}
}

/* ---- calls that are to be repeated ---- */

enum { PARTIAL = 1, MOVING = 2, WAITS = 4, FRAGMENTS = 8, MANNERS = 16 };

static void random_calls(enum library by, unsigned manner, struct random *r)
{
	struct sealed s = { .slow = true, .seed = random_next(r) };
	struct stream stream = { 0 };
	size_t sent = 0, n = 0, at;
	int size = 1;
	char *copy = NULL;

	stream_make(&stream, r, 5, STREAM_BIG | STREAM_SOUND);
	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	(void) setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if ((manner & WAITS) == 0)
		(void) fcntl(c.fd, F_SETFL, O_NONBLOCK);
	if (by != GNUTLS) {
		SSL_set_mode(c.ssl, ((manner & PARTIAL) != 0 ? SSL_MODE_ENABLE_PARTIAL_WRITE : 0) |
					    ((manner & MOVING) != 0
						     ? SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
						     : 0));
		if ((manner & FRAGMENTS) != 0)
			(void) SSL_set_max_send_fragment(c.ssl, 512);
	}
	while (sent < stream.len) {
		const size_t most = stream.len - sent;

		/* A call that is to be repeated is, from another place if that may be. */
		if (n == 0)
			n = random_below(r, 3) == 0 ? most : random_within(r, 1, most);
		if (copy == NULL || (manner & MOVING) != 0) {
			char *next = malloc(n);

			memcpy(next, stream.bytes + sent, n);
			free(copy);
			copy = next;
		}

		const ssize_t rc = client_write(&c, copy, n);

		if (rc <= 0) {
			assert_int_equal(errno, EAGAIN);
			wait_for(c.fd, POLLOUT);
			continue;
		}
		assert_true((size_t) rc <= n);
		assert_true((size_t) rc == n || by == GNUTLS || (manner & PARTIAL) != 0);
		sent += (size_t) rc;
		n = 0;
		free(copy);
		copy = NULL;
	}
	client_finish(&c);
	sealed_wait(&s);

	const char *wrong = stream_check(&stream, s.got, s.n_got, true, false, NULL, &at);

	if (wrong != NULL)
		print_message("# %s, manner %u: %s, byte %zu of %zu: ...%.60s\n", libraries[by],
			      manner, wrong, at, (size_t) s.n_got, s.got + at);
	assert_null(wrong);
	stream_free(&stream);
	sealed_drop(&s);
}

static void bytes_stay_as_they_were(void **state)
{
	const struct cases cases = cases_choose(4);

	(void) state;
	for (long i = cases.first; i < cases.end; i++) {
		struct random r = cases_random(&cases, i);

		for (enum library by = OPENSSL; by < LIBRARIES; by++)
			for (unsigned manner = 0; manner < (by == GNUTLS ? 8u : MANNERS);
			     manner += by == GNUTLS ? WAITS : 1)
				random_calls(by, manner, &r);
	}
}

/* ---- what breakers hear ---- */

static void refused(enum library by)
{
	struct sealed s = { .reply = REPLY };
	char rest[64];

	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	exchange(&c);
	/* It has asked for more than there is: what it wanted last is to read. */
	(void) fcntl(c.fd, F_SETFL, O_NONBLOCK);
	if (by == OPENSSL || by == OPENSSL_EX)
		assert_int_equal(SSL_get_error(c.ssl, SSL_read(c.ssl, rest, sizeof(rest))),
				 SSL_ERROR_WANT_READ);
	peer_trip(&s.peer);
	errno = 0;
	if (by == GNUTLS) {
		assert_int_equal(gnutls_record_send(c.session, ask, sizeof(ask) - 1),
				 GNUTLS_E_PUSH_ERROR);
	} else if (by == OPENSSL_EX) {
		size_t n;

		assert_int_equal(SSL_write_ex(c.ssl, ask, sizeof(ask) - 1, &n), 0);
		assert_int_equal(errno, ECONNREFUSED);
		assert_int_equal(SSL_get_error(c.ssl, 0), SSL_ERROR_SYSCALL);
	} else {
		assert_int_equal(SSL_write(c.ssl, ask, sizeof(ask) - 1), -1);
		assert_int_equal(errno, ECONNREFUSED);
		assert_int_equal(SSL_get_error(c.ssl, -1), SSL_ERROR_SYSCALL);
	}
	/* Nothing of it went, and the session is whole. */
	peer_rest(s.peer.key);
	(void) fcntl(c.fd, F_SETFL, 0);
	exchange(&c);
	client_close(&c);
	sealed_wait(&s);
	assert_int_equal(sealed_requests(s.got, s.n_got), 2);
	sealed_drop(&s);
}

static void a_kept_session_is_refused(void **state)
{
	(void) state;
	each_library(refused);
}

static void disbelieves(enum library by)
{
	struct sealed s = { .reply = REPLY };

	sealed_begin(&s, 1);

	struct client c = client_over(by, tcp_connected(&s.peer), s.ctx);

	if (by == GNUTLS)
		gnutls_session_set_verify_cert(c.session, "elsewhere", 0);
	else
		SSL_set_verify(c.ssl, SSL_VERIFY_PEER, NULL);
	assert_true(client_shake(&c) <= 0);
	client_close(&c);
	assert_totals(s.peer.key, 0, 1, 0);
	sealed_wait(&s);
	sealed_drop(&s);
}

static void a_failed_handshake_is_a_failure(void **state)
{
	(void) state;
	each_library(disbelieves);
}

static void asks_nothing(enum library by)
{
	struct sealed s = { .reply = REPLY };

	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	client_close(&c);
	assert_totals(s.peer.key, 1, 0, 0);
	sealed_wait(&s);
	sealed_drop(&s);
}

static void a_session_is_a_success(void **state)
{
	(void) state;
	each_library(asks_nothing);
}

static void is_dropped(enum library by)
{
	struct sealed s = { .drops = true };
	char got[64];

	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	assert_int_equal(client_write(&c, ask, sizeof(ask) - 1), sizeof(ask) - 1);
	assert_true(client_read(&c, got, sizeof(got)) <= 0);
	client_close(&c);
	assert_totals(s.peer.key, 0, 1, 0);
	sealed_wait(&s);
	sealed_drop(&s);
}

static void an_end_instead_of_an_answer_is_a_failure(void **state)
{
	(void) state;
	each_library(is_dropped);
}

/* Redis, say. The server's tickets are no answer to it. */
static void another_protocol(enum library by)
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n\r\n\r\n";
	struct sealed s = { .reply = "+PONG\r\n" };
	char got[64];

	sealed_begin(&s, 1);

	struct client c = client_to(by, &s);

	assert_int_equal(client_write(&c, ping, sizeof(ping) - 1), sizeof(ping) - 1);
	assert_totals(s.peer.key, 0, 0, 0);
	assert_int_equal(client_read(&c, got, sizeof(got)), 7);
	assert_totals(s.peer.key, 1, 0, 0);
	client_close(&c);
	sealed_wait(&s);
	assert_memory_equal(s.got, ping, sizeof(ping) - 1);
	sealed_drop(&s);
}

static void any_bytes_inside_are_an_answer(void **state)
{
	(void) state;
	each_library(another_protocol);
}

/* ---- serving ---- */

/* A client that no hook sees: it talks to @fd by the kernel's own calls. */
struct asker {
	struct sealed *s;
	char got[256];
};

static const char traced_ask[] =
	"GET /served/inside HTTP/1.1\r\nHost: us\r\n"
	"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

static void *asks(void *arg)
{
	struct asker *a = arg;
	const int fd = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	SSL *ssl = SSL_new(a->s->ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char buf[16384];
	int rc = 0, n;
	bool asked = false;

	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	(void) past_hooks(SYS_connect, fd, (long) &a->s->peer.addr, sizeof(a->s->peer.addr), 0, 0, 0);
	while (rc <= 0) {
		if (!asked && SSL_do_handshake(ssl) == 1)
			asked = SSL_write(ssl, traced_ask, sizeof(traced_ask) - 1) > 0;
		while ((n = BIO_read(out, buf, sizeof(buf))) > 0)
			(void) past_hooks(SYS_sendto, fd, (long) buf, n, MSG_NOSIGNAL, 0, 0);
		rc = asked ? SSL_read(ssl, a->got, sizeof(a->got) - 1) : 0;
		if (rc > 0)
			break;

		const long came = past_hooks(SYS_recvfrom, fd, (long) buf, sizeof(buf), 0, 0, 0);

		if (came <= 0)
			break;
		(void) BIO_write(in, buf, (int) came);
	}
	SSL_free(ssl);
	(void) raw_close(fd);
	return NULL;
}

static int serve_one(void *arg)
{
	struct client *c = arg;
	char got[512], id[33];
	struct event e;

	SSL_set_accept_state(c->ssl);
	if (c->by == OPENSSL_MEMORY) {
		int rc;

		while ((rc = SSL_do_handshake(c->ssl)) <= 0) {
			move_out(c);
			CHECK(SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ && move_in(c));
		}
		move_out(c);
	} else {
		CHECK(SSL_accept(c->ssl) == 1);
	}
	CHECK(client_read(c, got, sizeof(got)) == sizeof(traced_ask) - 1);
	CHECK(memcmp(got, traced_ask, sizeof(traced_ask) - 1) == 0);
	CHECK(client_write(c, REPLY, strlen(REPLY)) == (ssize_t) strlen(REPLY));
	CHECK(span_told("GET /served/inside", &e));
	trace_id_of(&e, id);
	CHECK(strcmp(id, "0af7651916cd43dd8448eb211c80319c") == 0);
	CHECK((e.span.bits & SPAN_TLS_INSIDE) != 0 && e.span.kind == SPAN_SERVER);
	CHECK(e.span.status == 200);
	return 0;
}

/* An answer without a length lasts until the session does, though the socket stays open. */
static int serve_to_the_end(void *arg)
{
	static const char reply[] = "HTTP/1.1 201 Made\r\nConnection: close\r\n\r\nok";
	struct client *c = arg;
	char got[512];
	struct event e;

	SSL_set_accept_state(c->ssl);
	CHECK(SSL_accept(c->ssl) == 1);
	CHECK(client_read(c, got, sizeof(got)) == sizeof(traced_ask) - 1);
	CHECK(client_write(c, reply, sizeof(reply) - 1) == sizeof(reply) - 1);
	CHECK(!span_told("GET /served/inside", &e) || e.span.status != 201);
	CHECK(SSL_shutdown(c->ssl) >= 0);
	CHECK(span_told("GET /served/inside", &e));
	CHECK(e.span.status == 201 && e.span.error == SPAN_NO_ERROR);
	return 0;
}

static void serves_by(enum library by, bool forks, int (*serve)(void *), const char *reply)
{
	struct sealed s = { .ctx = sealed_context(), .peer = peer_listening() };
	struct asker a = { .s = &s };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, asks, &a), 0);
	wait_for(s.peer.listener, POLLIN);

	const int fd = accept(s.peer.listener, NULL, NULL);

	assert_true(fd >= 0);

	struct client c = client_over(by, fd, s.ctx);

	if (forks)
		assert_int_equal(child_status(serve, &c), 0);
	else
		assert_int_equal(serve(&c), 0);
	SSL_free(c.ssl);
	assert_int_equal(close(fd), 0);
	(void) pthread_join(thread, NULL);
	assert_memory_equal(a.got, reply, strlen(reply));
	SSL_CTX_free(s.ctx);
	peer_drop(&s.peer);
}

static void requests_are_served_inside(void **state)
{
	(void) state;
	serves_by(OPENSSL, false, serve_one, REPLY);
	serves_by(OPENSSL_EX, false, serve_one, REPLY);
	serves_by(OPENSSL_MEMORY, false, serve_one, REPLY);
}

static void an_answer_lasts_as_long_as_its_session(void **state)
{
	(void) state;
	serves_by(OPENSSL, true, serve_to_the_end, "HTTP/1.1 201 Made");
}

static void a_child_serves(void **state)
{
	(void) state;
	serves_by(OPENSSL, true, serve_one, REPLY);
}

/* ---- what is sent before the handshake is over ---- */

/*
 * A head in early data goes by unfollowed; what comes after it may look like a head and be none,
 * and nothing may be added to it.
 */
static void early_data_is_let_be(void **state)
{
	static const char post[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 41\r\n\r\n";
	struct sealed s = { .ctx = sealed_context(), .reply = REPLY };
	char got[64];
	size_t n;

	(void) state;
	(void) SSL_CTX_set_max_early_data(s.ctx, 16384);
	(void) SSL_CTX_set_recv_max_early_data(s.ctx, 16384);
	sealed_begin(&s, 2);

	struct client c = client_to(OPENSSL, &s);

	exchange(&c); /* and reads the tickets */

	SSL_SESSION *session = SSL_get1_session(c.ssl);

	client_close(&c);
	c = client_over(OPENSSL, tcp_connected(&s.peer), s.ctx);
	assert_int_equal(SSL_set_session(c.ssl, session), 1);
	assert_int_equal(SSL_write_early_data(c.ssl, post, sizeof(post) - 1, &n), 1);
	assert_int_equal(client_shake(&c), 1);
	assert_int_equal(client_write(&c, ask, sizeof(ask) - 1), sizeof(ask) - 1);
	(void) client_read(&c, got, sizeof(got));
	client_close(&c);
	sealed_wait(&s);
	s.got[s.n_got] = '\0';
	assert_null(strstr(s.got, "traceparent"));
	SSL_SESSION_free(session);
	sealed_drop(&s);
}

/* ---- somebody else's hello ---- */

/* Whoever reads the wire may send it again: then whose session is meant would be a guess. */
static void a_copied_hello_is_nobodys(void **state)
{
	struct sealed s = { .ctx = sealed_context(), .peer = peer_listening() };
	struct sealed own = { .ctx = sealed_context() };
	SSL *asker = SSL_new(own.ctx), *ssl[2];
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char hello[4096], buf[4096];
	int there[2], here[2], len, n;
	struct event e;

	(void) state;
	SSL_set_bio(asker, in, out);
	SSL_set_connect_state(asker);
	assert_true(SSL_do_handshake(asker) < 0);
	len = BIO_read(out, hello, sizeof(hello));
	assert_true(len > 43);
	for (int i = 0; i < 2; i++) {
		there[i] = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0,
					    0);
		(void) past_hooks(SYS_connect, there[i], (long) &s.peer.addr, sizeof(s.peer.addr), 0,
				  0, 0);
		wait_for(s.peer.listener, POLLIN);
		here[i] = accept(s.peer.listener, NULL, NULL);
		assert_true(here[i] >= 0);
		(void) fcntl(here[i], F_SETFL, O_NONBLOCK);
		ssl[i] = SSL_new(s.ctx);
		(void) SSL_set_fd(ssl[i], here[i]);
		(void) past_hooks(SYS_sendto, there[i], (long) hello, len, 0, 0, 0);
		wait_for(here[i], POLLIN);
		assert_int_equal(SSL_get_error(ssl[i], SSL_accept(ssl[i])), SSL_ERROR_WANT_READ);
	}
	/* The first goes on as it would have without the other, but for its span. */
	wait_for(there[0], POLLIN);
	n = (int) past_hooks(SYS_recvfrom, there[0], (long) buf, sizeof(buf), 0, 0, 0);
	assert_true(BIO_write(in, buf, n) == n && SSL_do_handshake(asker) == 1);
	assert_true(SSL_write(asker, "GET /copied HTTP/1.1\r\nHost: a\r\n\r\n", 35) == 35);
	n = BIO_read(out, buf, sizeof(buf));
	(void) past_hooks(SYS_sendto, there[0], (long) buf, n, 0, 0, 0);
	(void) fcntl(here[0], F_SETFL, 0);
	assert_int_equal(SSL_accept(ssl[0]), 1);
	assert_int_equal(SSL_read(ssl[0], buf, sizeof(buf)), 35);
	assert_int_equal(SSL_write(ssl[0], REPLY, (int) strlen(REPLY)), strlen(REPLY));
	assert_false(span_told("GET /copied", &e));
	for (int i = 0; i < 2; i++) {
		SSL_free(ssl[i]);
		assert_int_equal(close(here[i]), 0);
		(void) raw_close(there[i]);
	}
	SSL_free(asker);
	SSL_CTX_free(own.ctx);
	SSL_CTX_free(s.ctx);
	peer_drop(&s.peer);
}

/* ---- one reads, one writes ---- */

#define TURNS 200

static void *reads_replies(void *arg)
{
	struct client *c = arg;
	char buf[4096];
	size_t got = 0;
	ssize_t n = 1;

	while (n > 0 && got < TURNS * strlen(REPLY)) {
		n = client_read(c, buf, sizeof(buf));
		got += n > 0 ? (size_t) n : 0;
	}
	return (void *) got;
}

static void two_threads(void **state)
{
	struct sealed s = { .reply = REPLY };
	pthread_t thread;
	void *got;
	int fields = 0;

	(void) state;
	sealed_begin(&s, 1);

	struct client c = client_to(GNUTLS, &s);

	assert_int_equal(pthread_create(&thread, NULL, reads_replies, &c), 0);
	for (int i = 0; i < TURNS; i++) {
		assert_int_equal(client_write(&c, ask, sizeof(ask) - 1), sizeof(ask) - 1);
		while (sealed_requests(s.got, s.n_got) < i - 16)
			(void) poll(NULL, 0, 1);
	}
	(void) pthread_join(thread, &got);
	assert_int_equal((size_t) got, TURNS * strlen(REPLY));
	client_close(&c);
	sealed_wait(&s);
	s.got[s.n_got] = '\0';
	for (const char *at = s.got; (at = strstr(at, "traceparent: ")) != NULL; at++)
		fields++;
	assert_int_equal(sealed_requests(s.got, s.n_got), TURNS);
	assert_int_equal(fields, TURNS);
	sealed_drop(&s);
}

int main(int argc, char **argv)
{
	static const char *const extra[] = { "OTEL_PROPAGATORS=tracecontext,baggage,b3", NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_go_inside),
		cmocka_unit_test(nothing_is_written),
		cmocka_unit_test(the_first_call_shakes_hands),
		cmocka_unit_test(bytes_stay_as_they_were),
		cmocka_unit_test(a_kept_session_is_refused),
		cmocka_unit_test(a_failed_handshake_is_a_failure),
		cmocka_unit_test(a_session_is_a_success),
		cmocka_unit_test(an_end_instead_of_an_answer_is_a_failure),
		cmocka_unit_test(any_bytes_inside_are_an_answer),
		cmocka_unit_test(requests_are_served_inside),
		cmocka_unit_test(an_answer_lasts_as_long_as_its_session),
		cmocka_unit_test(a_child_serves),
		cmocka_unit_test(early_data_is_let_be),
		cmocka_unit_test(a_copied_hello_is_nobodys),
		cmocka_unit_test(two_threads),
	};

	host_start(argc, argv, extra);
	return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
