/* SPDX-License-Identifier: Apache-2.0 */
/* For stories of TLS: a server that no hook sees, and its certificate, made anew each time. */
#ifndef TESTS_PRELOAD_SEALED_H
#define TESTS_PRELOAD_SEALED_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/preload/host.h"

#define SEALED_SIZE (8 << 20)

/* It serves one connection after the other, in a thread of its own. */
struct sealed {
	struct peer peer;
	SSL_CTX *ctx;
	pthread_t thread;
	bool slow;            /* it reads a little at a time */
	bool drops;           /* it shakes hands, and closes when it was asked */
	bool shuts;           /* it shakes hands, and closes */
	const char *reply;    /* to each request; NULL: none, it only listens */
	char *got;            /* plaintext of the latest connection */
	_Atomic size_t n_got;
	_Atomic int served;   /* connections that have ended */
	uint64_t seed;
};

/* A context with a certificate for "localhost" that nobody signed. */
SSL_CTX *sealed_context(void);

/*
 * sealed_begin - serve @n connections as the members say
 * sealed_wait - until they are over; sealed_drop - and let go of it
 */
void sealed_begin(struct sealed *s, int n);
void sealed_wait(struct sealed *s);
void sealed_drop(struct sealed *s);

/* How many requests are whole in the bytes. */
int sealed_requests(const char *bytes, size_t n);

#endif
