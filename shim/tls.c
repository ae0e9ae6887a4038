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

#define WAYS 8    /* of one set */
#define SETS 2048 /* sixteen thousand sessions at once; further ones go unfollowed */

#define ANNOUNCED ((fds_word) 0)       /* the session is known, its connection is not yet */
#define NOBODY    ((fds_word) 1 << 32) /* two connections that live began with the same number */

/*
 * A number and whose it is. The sequence is odd while it is being written, and changes with it:
 * two threads that find the same place free must not make one's connection the other's.
 */
struct entry {
	_Atomic uint32_t sequence; /* 0: never used */
	_Atomic uint32_t age;      /* by the clock of entries */
	_Atomic uint64_t key[2];   /* half of the number, and the side in its lowest bit */
	_Atomic uint64_t word;
};

static struct entry table[SETS][WAYS];
static _Atomic uint32_t entries;

struct key {
	uint64_t half[2];
};

/*
 * The last half: the first may tell the time. What a process is asked is told from what it asks.
 * False: there is no number yet.
 */
static bool key_of(const unsigned char random[TLS_RANDOM], bool inbound, struct key *ret)
{
	memcpy(ret->half, random + TLS_RANDOM - sizeof(ret->half), sizeof(ret->half));
	if ((ret->half[0] | ret->half[1]) == 0)
		return false;
	ret->half[0] = (ret->half[0] & ~UINT64_C(1)) | inbound;
	return true;
}

static struct entry *set_of(const struct key *k)
{
	return table[(k->half[0] >> 1 ^ k->half[1]) % SETS];
}

/* What is in @e, unless it was written just now. */
static bool look(struct entry *e, struct key *ret_key, fds_word *ret_word, uint32_t *ret_sequence)
{
	/* Acquire, each: as recall() of library.c. */
	const uint32_t sequence = atomic_load_explicit(&e->sequence, memory_order_acquire);

	ret_key->half[0] = atomic_load_explicit(&e->key[0], memory_order_acquire);
	ret_key->half[1] = atomic_load_explicit(&e->key[1], memory_order_acquire);
	*ret_word = atomic_load_explicit(&e->word, memory_order_acquire);
	*ret_sequence = sequence;
	return sequence != 0 && sequence % 2 == 0 &&
	       atomic_load_explicit(&e->sequence, memory_order_relaxed) == sequence;
}

static struct entry *find(const struct key *k, fds_word *ret_word, uint32_t *ret_sequence)
{
	struct entry *set = set_of(k);
	struct key seen;

	for (unsigned i = 0; i < WAYS; i++)
		if (look(&set[i], &seen, ret_word, ret_sequence) &&
		    seen.half[0] == k->half[0] && seen.half[1] == k->half[1])
			return &set[i];
	return NULL;
}

static bool lives(fds_word word)
{
	return word != ANNOUNCED && word != NOBODY && stream_alive(word);
}

/* False: another thread writes there, or has written. */
static bool put(struct entry *e, uint32_t sequence, const struct key *k, fds_word word)
{
	if (sequence % 2 != 0 ||
	    !atomic_compare_exchange_strong_explicit(&e->sequence, &sequence, sequence + 1,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	atomic_store_explicit(&e->key[0], k->half[0], memory_order_release);
	atomic_store_explicit(&e->key[1], k->half[1], memory_order_release);
	atomic_store_explicit(&e->word, word, memory_order_release);
	/* Relaxed: of the order of ages nothing but the choice of a victim depends. */
	atomic_store_explicit(&e->age,
			      atomic_fetch_add_explicit(&entries, 1, memory_order_relaxed),
			      memory_order_relaxed);
	/* Release: pairs with look(). A fork in the middle leaves the child one entry less. */
	atomic_store_explicit(&e->sequence, sequence + 2, memory_order_release);
	return true;
}

/* One that is free, else the oldest whose stream has ended or that waits for one; or NULL. */
static struct entry *room(const struct key *k, uint32_t *ret_sequence)
{
	struct entry *set = set_of(k), *best = NULL;
	uint32_t best_age = 0;

	for (unsigned i = 0; i < WAYS; i++) {
		const uint32_t age = atomic_load_explicit(&set[i].age, memory_order_relaxed);
		struct key seen;
		fds_word word;
		uint32_t sequence;
		const bool good = look(&set[i], &seen, &word, &sequence);

		if (sequence == 0) {
			*ret_sequence = 0;
			return &set[i];
		}
		if (!good || lives(word) || (best != NULL && (int32_t) (age - best_age) >= 0))
			continue;
		best = &set[i];
		best_age = age;
		*ret_sequence = sequence;
	}
	return best;
}

static bool add(const struct key *k, fds_word word)
{
	uint32_t sequence;
	struct entry *e = room(k, &sequence);

	return e != NULL && put(e, sequence, k, word);
}

/*
 * The hello with this number was seen on @word. Whoever reads the wire may send another's again:
 * then it is nobody's, as it would be a guess whose session is meant.
 */
static bool note(const struct key *k, fds_word word)
{
	fds_word old;
	uint32_t sequence;
	struct entry *e = find(k, &old, &sequence);

	if (e == NULL)
		return add(k, word);
	if (old == word)
		return true;
	if (old != NOBODY && !lives(old))
		return put(e, sequence, k, word);
	(void) put(e, sequence, k, NOBODY);
	return false;
}

fds_word tls_link(const unsigned char random[TLS_RANDOM], bool inbound)
{
	struct key k;
	fds_word word;
	uint32_t sequence;

	if (!key_of(random, inbound, &k) || find(&k, &word, &sequence) == NULL || !lives(word) ||
	    stream_http(word) == STREAM_NOT_HTTP)
		return 0;
	traffic_claimed(word);
	return word;
}

void tls_announce(const unsigned char random[TLS_RANDOM])
{
	struct key k;
	fds_word word;
	uint32_t sequence;

	if (key_of(random, false, &k) && find(&k, &word, &sequence) == NULL)
		(void) add(&k, ANNOUNCED);
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
	struct key k;
	fds_word known;
	uint32_t sequence;

	if (!key_of(random, inbound, &k))
		return false;
	/* What is received may be somebody's later; what is sent was somebody's before. */
	if (!inbound && !guard_tls() &&
	    (find(&k, &known, &sequence) == NULL || known != ANNOUNCED))
		return false;
	if (!note(&k, word))
		return false;
	stream_http_ends(-1, word, STREAM_TLS);
	if (!inbound || guard_tls())
		traffic_claimed(word);
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

typedef void moved(int fd, fds_word word, const struct iovec *iov, size_t n_iov, size_t n,
		   uint32_t mark);

static void hand_on(moved *to, fds_word word, const void *buf, size_t n, uint32_t mark)
{
	const struct iovec v = { (void *) buf, n };
	const int error = errno;

	if (enter()) {
		to(stream_fd(word), word, &v, 1, n, mark);
		leave(error);
	}
}

void tls_read(fds_word word, const void *buf, size_t n, uint32_t mark)
{
	hand_on(traffic_read, word, buf, n, mark);
}

void tls_wrote(fds_word word, const void *buf, size_t n, uint32_t mark)
{
	hand_on(traffic_wrote, word, buf, n, mark);
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

void tls_lost(fds_word word, bool out)
{
	const int error = errno;

	if (enter()) {
		traffic_lost(word, out ? STREAM_OUT : STREAM_IN);
		leave(error);
	}
}

void tls_skipped(fds_word word, size_t n, uint32_t mark)
{
	const int error = errno;

	if (enter()) {
		traffic_skipped(stream_fd(word), word, n, mark);
		leave(error);
	}
}

void tls_parts(fds_word word)
{
	const int error = errno;

	if (enter()) {
		traffic_leaves(stream_fd(word), word);
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
