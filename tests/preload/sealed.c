/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over memory and the kernel's own calls: nothing of it passes a hook. */
#include "tests/preload/sealed.h"

#include <openssl/ec.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/preload/streams.h"

SSL_CTX *sealed_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	assert_non_null(ctx);
	assert_non_null(key);
	(void) ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	(void) X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	(void) X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	(void) X509_set_pubkey(cert, key);
	(void) X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
					  (const unsigned char *) "localhost", -1, -1, 0);
	(void) X509_set_issuer_name(cert, name);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

int sealed_requests(const char *bytes, size_t n)
{
	int found = 0;
	size_t at = 0;

	for (;;) {
		const char *end = memmem(bytes + at, n - at, "\r\n\r\n", 4);
		size_t body = 0;

		if (end == NULL)
			return found;
		for (const char *c = bytes + at; c < end; c++)
			if (strncasecmp(c, "\r\nContent-Length:", 17) == 0)
				body = strtoul(c + 17, NULL, 10);
		at = (size_t) (end + 4 - bytes) + body;
		if (at > n)
			return found;
		found++;
	}
}

struct wire {
	struct sealed *s;
	int fd;
	SSL *ssl;
	BIO *in, *out;
	struct random random;
};

static void flush(const struct wire *w)
{
	char buf[16384];
	int n;

	while ((n = BIO_read(w->out, buf, sizeof(buf))) > 0)
		(void) past_hooks(SYS_sendto, w->fd, (long) buf, n, MSG_NOSIGNAL, 0, 0);
}

static bool fill(struct wire *w)
{
	char buf[16384];
	size_t len = sizeof(buf);

	if (w->s->slow) {
		len = random_within(&w->random, 1, random_below(&w->random, 3) == 0 ? 40 : 9000);
		for (size_t i = random_below(&w->random, 4); i > 0; i--)
			sched_yield();
	}

	const long n = past_hooks(SYS_recvfrom, w->fd, (long) buf, (long) len, 0, 0, 0);

	return n > 0 && BIO_write(w->in, buf, (int) n) == n;
}

static bool shake(struct wire *w)
{
	int rc;

	while ((rc = SSL_do_handshake(w->ssl)) <= 0) {
		const int error = SSL_get_error(w->ssl, rc);

		flush(w);
		if (error != SSL_ERROR_WANT_READ || !fill(w))
			return false;
	}
	flush(w);
	return true;
}

static void converse(struct wire *w)
{
	struct sealed *s = w->s;
	int answered = 0;

	atomic_store(&s->n_got, 0);
	if (!shake(w) || s->shuts)
		return;
	for (;;) {
		const size_t got = atomic_load(&s->n_got);
		const int n = SSL_read(w->ssl, s->got + got, (int) (SEALED_SIZE - got));

		if (n <= 0) {
			if (SSL_get_error(w->ssl, n) != SSL_ERROR_WANT_READ || !fill(w))
				return;
			continue;
		}
		atomic_store(&s->n_got, got + (size_t) n);
		if (s->drops)
			return;
		while (s->reply != NULL &&
		       answered < sealed_requests(s->got, got + (size_t) n)) {
			(void) SSL_write(w->ssl, s->reply, (int) strlen(s->reply));
			flush(w);
			answered++;
		}
	}
}

static void serve(struct sealed *s)
{
	struct pollfd comes = { .fd = s->peer.listener, .events = POLLIN };

	(void) past_hooks(SYS_ppoll, (long) &comes, 1, 0, 0, 0, 0);

	struct wire w = { .s = s, .fd = peer_accept(&s->peer), .ssl = SSL_new(s->ctx),
			  .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()),
			  .random = { s->seed } };

	SSL_set_bio(w.ssl, w.in, w.out);
	SSL_set_accept_state(w.ssl);
	converse(&w);
	SSL_free(w.ssl);
	(void) raw_close(w.fd);
	atomic_fetch_add(&s->served, 1);
}

struct turns {
	struct sealed *s;
	int n;
};

static void *serves(void *arg)
{
	struct turns t = *(struct turns *) arg;

	free(arg);
	for (int i = 0; i < t.n; i++)
		serve(t.s);
	return NULL;
}

void sealed_begin(struct sealed *s, int n)
{
	struct turns *t = malloc(sizeof(*t));

	*t = (struct turns) { s, n };
	if (s->ctx == NULL)
		s->ctx = sealed_context();
	if (s->peer.listener == 0)
		s->peer = peer_listening();
	if (s->got == NULL)
		s->got = malloc(SEALED_SIZE);
	assert_non_null(s->got);
	atomic_store(&s->served, 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serves, t), 0);
}

void sealed_wait(struct sealed *s)
{
	(void) pthread_join(s->thread, NULL);
}

void sealed_drop(struct sealed *s)
{
	SSL_CTX_free(s->ctx);
	free(s->got);
	peer_drop(&s->peer);
}
