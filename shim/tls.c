/* SPDX-License-Identifier: Apache-2.0 */
/* Which session is which connection's, and handing plaintext to traffic.c. */
#include "shim/tls.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "shim/guard.h"
#include "shim/life.h"
#include "shim/shared.h"
#include "shim/stream.h"
#include "shim/traffic_place.h"

#define PLACES    16384 /* sessions at once; of further ones the oldest are forgotten */
#define PROBES    8
#define ANNOUNCED 1 /* as a word: the session is known, its connection is not yet */

/* A key and whose it is. Written word 0, key, word; read word, key, word. */
struct place {
	_Atomic uint64_t key; /* 0: never used */
	_Atomic uint64_t word;
};

static struct place places[PLACES];

/* Random as the number is, some of its bits are as good as all. */
static uint64_t key_of(const unsigned char random[TLS_RANDOM], bool inbound)
{
	uint64_t a, b;

	memcpy(&a, random + 8, sizeof(a));
	memcpy(&b, random + 24, sizeof(b));
	/* What a process is asked is told from what it asks: its peers may choose a number that
	 * they have seen. */
	a ^= b * UINT64_C(0x9e3779b97f4a7c15);
	return a << 1 | inbound;
}

static struct place *place_at(uint64_t key, unsigned i)
{
	return &places[((key >> 1) + i) % PLACES];
}

static bool in_use(const struct place *p)
{
	const uint64_t word = atomic_load_explicit(&p->word, memory_order_acquire);

	return word == ANNOUNCED || (word != 0 && stream_lasts(word));
}

static struct place *find(uint64_t key)
{
	for (unsigned i = 0; i < PROBES; i++) {
		struct place *p = place_at(key, i);

		/* Acquire: pairs with note(). */
		if (atomic_load_explicit(&p->key, memory_order_acquire) == key)
			return p;
	}
	return NULL;
}

/* Its place, or that of one that is over, or of any. */
static void note(uint64_t key, uint64_t word)
{
	struct place *p = find(key);

	/* One number of two connections: the first has it. */
	if (p != NULL && in_use(p) &&
	    atomic_load_explicit(&p->word, memory_order_relaxed) != ANNOUNCED)
		return;
	for (unsigned i = 0; p == NULL && i < PROBES; i++) {
		if (!in_use(place_at(key, i)))
			p = place_at(key, i);
	}
	if (p == NULL)
		p = place_at(key, (unsigned) (key % PROBES));
	atomic_store_explicit(&p->word, 0, memory_order_relaxed);
	/* Release, both: whoever finds the key finds no older word with it. */
	atomic_store_explicit(&p->key, key, memory_order_release);
	atomic_store_explicit(&p->word, word, memory_order_release);
}

fds_word tls_link(const unsigned char random[TLS_RANDOM], bool inbound)
{
	const uint64_t key = key_of(random, inbound);
	const struct place *p = find(key);
	uint64_t word;

	if (p == NULL)
		return 0;
	word = atomic_load_explicit(&p->word, memory_order_acquire);
	if (atomic_load_explicit(&p->key, memory_order_relaxed) != key || word == ANNOUNCED ||
	    word == 0 || !stream_lasts(word))
		return 0;
	return word;
}

void tls_announce(const unsigned char random[TLS_RANDOM])
{
	static const unsigned char none[TLS_RANDOM];

	if (memcmp(random, none, sizeof(none)) != 0)
		note(key_of(random, false), ANNOUNCED);
}

bool tls_may_be_hello(const char *bytes, size_t n)
{
	/* Handshake, version 3.x, length, ClientHello, length. */
	if (n > 0 && bytes[0] != 0x16)
		return false;
	if (n > 1 && bytes[1] != 3)
		return false;
	return n <= 5 || bytes[5] == 1;
}

bool tls_hello(fds_word word, const char *bytes, bool inbound)
{
	const unsigned char *random = (const unsigned char *) bytes + TLS_HELLO - TLS_RANDOM;
	const uint64_t key = key_of(random, inbound);
	const struct place *p = find(key);

	/* What is received may be somebody's later; what is sent was somebody's before. */
	if (!inbound && !guard_tls() &&
	    (p == NULL || atomic_load_explicit(&p->word, memory_order_acquire) != ANNOUNCED))
		return false;
	note(key, word);
	stream_http_ends(-1, word, STREAM_TLS);
	return true;
}

/* ---- handing on ---- */

static bool enter(void)
{
	if (!life_acts() || !guard_enter())
		return false;
	guard.plaintext = true;
	return true;
}

static void leave(int error)
{
	guard.plaintext = false;
	guard_leave();
	errno = error;
}

uint32_t tls_mark(fds_word word, bool out)
{
	uint32_t mark = 0;

	if (enter()) {
		mark = traffic_mark(word, out ? STREAM_OUT : STREAM_IN);
		leave(errno);
	}
	return mark;
}

void tls_read(fds_word word, const void *buf, size_t n, uint32_t mark)
{
	const struct iovec v = { (void *) buf, n };
	const int error = errno;

	if (enter()) {
		traffic_read(stream_fd(word), word, &v, 1, n, mark);
		leave(error);
	}
}

void tls_wrote(fds_word word, const void *buf, size_t n, uint32_t mark)
{
	const struct iovec v = { (void *) buf, n };
	const int error = errno;

	if (enter()) {
		traffic_wrote(stream_fd(word), word, &v, 1, n, mark);
		leave(error);
	}
}

void tls_read_end(fds_word word, int error)
{
	const int before = errno;

	if (enter()) {
		traffic_read_end(stream_fd(word), word, error);
		if (error != 0 && !stream_inbound(word))
			stream_settle(word, BREAKER_FAILURE, error);
		leave(before);
	}
}

void tls_lost(fds_word word)
{
	const int error = errno;

	if (enter()) {
		traffic_lost(word, STREAM_OUT);
		leave(error);
	}
}

void tls_shook_hands(fds_word word, int error)
{
	const int before = errno;

	if (enter()) {
		traffic_secure(word, error);
		if (error != 0 && !stream_inbound(word))
			stream_settle(word, BREAKER_FAILURE, error);
		leave(before);
	}
}
