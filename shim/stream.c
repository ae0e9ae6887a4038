/* SPDX-License-Identifier: Apache-2.0 */
/* Connections whose outcome is still open, and how each of them ends. */
#include "shim/stream.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/pool.h"
#include "shim/real.h"
#include "shim/traffic.h"

enum phase { FREE, CONNECTING, CONNECTED, SETTLED };

/* A flag beside the lanes: somebody is ending the call. */
enum { ENDING = 0x01 };

/* States of TCP in TCP_INFO; netinet/tcp.h, which names them, clashes with linux/tcp.h. */
enum { TCP_IS_ESTABLISHED = 1, TCP_IS_SYN_SENT = 2, TCP_IS_CLOSE = 7, TCP_IS_CLOSE_WAIT = 8,
       TCP_IS_LAST_ACK = 9, TCP_IS_CLOSING = 11, TCP_IS_TIME_WAIT = 6 };

/* A protocol that only writes is taken for one when this lies between two writes. */
#define WRITE_ONLY_NS (1 * NS_PER_S)

/* An answer that came this fast came from our own kernel, not from the network. */
#define AT_ONCE_NS (100 * NS_PER_MS)

#define CHUNK_BITS 8
#define CHUNKS     4096 /* a million connections with an open outcome; further ones go uncounted */

struct stream {
	_Atomic uint32_t next_free; /* the pool's */
	_Atomic uint32_t pid;  /* of the process that opened it */
	_Atomic uint64_t word;
	_Atomic uint8_t http;  /* enum stream_http */
	/* Written before the word leaves FREE, read by whoever holds ENDING or a lane. */
	bool inbound;
	bool judged;           /* @admission holds a ticket, or did */
	bool renewed;          /* its present call is not its first */
	bool parting;          /* and the one before it said that it was the last */
	uint32_t forks;        /* life_forks() when its present call began */
	uint32_t born_forks;   /* life_forks() when it was opened */
	_Atomic int fd;        /* a descriptor of it, for the look at exit */
	uint64_t cookie;       /* of the socket; 0: unknown */
	uint64_t opened_at;
	uint64_t sent_before;  /* bytes of the calls before the present one */
	struct admission admission;
	/* Written by any I/O on it. */
	_Atomic uint64_t first_sent_at, last_sent_at;
	_Atomic uint64_t bytes_sent, bytes_read; /* as far as we saw them */
	_Atomic bool read_wanted; /* the program asked for bytes and got none */
	_Atomic bool write_shut;
} __attribute__((aligned(64)));

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct stream, CHUNK_BITS);

/* A descriptor's word: `generation:32 | 1 + index:32`. */
static fds_word fds_word_of(uint32_t generation, uint32_t index)
{
	return (uint64_t) generation << 32 | (index + 1);
}

static uint64_t word_of(uint32_t generation, unsigned refs, enum phase phase, unsigned flags)
{
	return (uint64_t) generation << 32 | (uint64_t) refs << 16 | (uint64_t) phase << 8 | flags;
}

static uint32_t generation_of(uint64_t word)
{
	return (uint32_t) (word >> 32);
}

static unsigned refs_of(uint64_t word)
{
	return (unsigned) (word >> 16 & 0xffff);
}

static enum phase phase_of(uint64_t word)
{
	return (enum phase) (word >> 8 & 0xff);
}

static unsigned flags_of(uint64_t word)
{
	return (unsigned) word & 0xff;
}

static struct stream *at(uint32_t index)
{
	return pool_at(&pool, index);
}

/* The stream that a descriptor's word names; its generation may have ended. */
static struct stream *stream_of(fds_word word)
{
	return at((uint32_t) word - 1);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return real.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static bool watched(const struct stream *s)
{
	return atomic_load_explicit(&s->http, memory_order_relaxed) != STREAM_NOT_HTTP;
}

/* Lays a stream out and puts its number into the descriptor's word. */
static bool open_in(int fd, const struct admission *a, bool inbound, uint64_t now)
{
	uint32_t index;

	if (!pool_take(&pool, &index))
		return false;

	struct stream *s = at(index);
	const uint32_t generation =
		generation_of(atomic_load_explicit(&s->word, memory_order_relaxed)) + 1;
	const fds_word word = fds_word_of(generation, index);
	const bool judged = a != NULL && a->judged;

	atomic_store_explicit(&s->pid, life_pid(), memory_order_relaxed);
	s->forks = s->born_forks = life_forks();
	s->cookie = cookie_of(fd);
	s->opened_at = now;
	s->inbound = inbound;
	s->judged = judged;
	s->renewed = s->parting = false;
	s->sent_before = 0;
	if (a != NULL)
		s->admission = *a;
	atomic_store_explicit(&s->fd, fd, memory_order_relaxed);
	atomic_store_explicit(&s->first_sent_at, 0, memory_order_relaxed);
	atomic_store_explicit(&s->last_sent_at, 0, memory_order_relaxed);
	atomic_store_explicit(&s->bytes_sent, 0, memory_order_relaxed);
	atomic_store_explicit(&s->bytes_read, 0, memory_order_relaxed);
	atomic_store_explicit(&s->read_wanted, false, memory_order_relaxed);
	atomic_store_explicit(&s->write_shut, false, memory_order_relaxed);
	atomic_store_explicit(&s->http, traffic_begins(word, inbound) ? STREAM_HTTP : STREAM_NOT_HTTP,
			      memory_order_relaxed);
	/* Release: the fields above are there before anybody can find the stream. */
	atomic_store_explicit(&s->word,
			      word_of(generation, 1, judged ? CONNECTING : SETTLED, 0),
			      memory_order_release);
	if (fds_swap(fd, 0, word))
		return true;
	if (watched(s))
		traffic_ends(word); /* a call is no longer under way for its owner */
	atomic_store_explicit(&s->word, word_of(generation, 0, FREE, 0), memory_order_release);
	pool_give(&pool, index);
	return false;
}

bool stream_open(int fd, const struct admission *a, uint64_t now)
{
	const int saved = errno;
	const fds_word old = fds_get(fd);

	/* A connection that failed may be tried again on the same socket. */
	if (old != 0)
		stream_leave(fd, old);

	const bool opened = open_in(fd, a, false, now);

	errno = saved;
	return opened;
}

bool stream_accept(int fd)
{
	const int saved = errno;
	int protocol = 0;
	socklen_t size = sizeof(protocol);
	const bool tcp = real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
			 protocol == IPPROTO_TCP;
	const bool opened = tcp && open_in(fd, NULL, true, 0);

	errno = saved;
	return opened;
}

static bool open_ended(uint64_t seen)
{
	return (flags_of(seen) & ENDING) == 0 &&
	       (phase_of(seen) == CONNECTING || phase_of(seen) == CONNECTED);
}

/* In a forked child the call is still its parent's to settle. */
static bool ours(const struct stream *s)
{
	return atomic_load_explicit(&s->pid, memory_order_relaxed) == life_pid();
}

/*
 * Moves the word from @seen to @next. When nobody holds the stream any more it is given back;
 * both lanes are ours meanwhile, as its requests end then.
 */
static bool move(struct stream *s, fds_word word, uint64_t seen, uint64_t next)
{
	const bool over = refs_of(next) == 0 && flags_of(next) == 0;
	const bool unended = over && open_ended(next);

	if (over)
		next = word_of(generation_of(next), 0, SETTLED, STREAM_OUT | STREAM_IN);
	if (!atomic_compare_exchange_strong_explicit(&s->word, &seen, next, memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	if (over) {
		/* Renewed while another thread closed the last descriptor. */
		if (unended && ours(s))
			shared_settle(&s->admission, BREAKER_EXCLUDED, 0, clock_now());
		if (atomic_load_explicit(&s->http, memory_order_relaxed) != STREAM_NOT_HTTP)
			traffic_ends(word);
		/* Release: whoever opens it anew sees what we left. */
		atomic_store_explicit(&s->word, word_of(generation_of(next), 0, FREE, 0),
				      memory_order_release);
		pool_give(&pool, stream_number(word));
	}
	return true;
}

/* Sets and clears flags; false when the generation has ended or one of @unless is set. */
static bool flag(struct stream *s, fds_word word, unsigned set, unsigned clear, unsigned unless)
{
	for (;;) {
		const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

		if (generation_of(seen) != generation_of(word) || phase_of(seen) == FREE ||
		    (flags_of(seen) & unless) != 0)
			return false;
		if (move(s, word, seen, (seen | set) & ~(uint64_t) clear))
			return true;
	}
}

/*
 * As flag(), but that there is nothing to give back: a stream whose lane is taken is held by it.
 * Acquire: pairs with the release of the lane's last holder, whose machine we go on with.
 */
bool stream_lane_take(fds_word word, enum stream_lane lane)
{
	struct stream *s = stream_of(word);
	uint64_t seen = atomic_load_explicit(&s->word, memory_order_relaxed);

	/* Lock-free: retries only when another thread moved on. */
	do {
		if (generation_of(seen) != generation_of(word) || phase_of(seen) == FREE ||
		    (flags_of(seen) & lane) != 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&s->word, &seen, seen | lane,
							memory_order_acquire,
							memory_order_relaxed));
	return true;
}

void stream_lane_give(fds_word word, enum stream_lane lane)
{
	struct stream *s = stream_of(word);
	uint64_t seen = atomic_load_explicit(&s->word, memory_order_relaxed);

	/*
	 * Release: what we did under the lane comes before it is free; pairs with the acquire of
	 * who takes it next, and of move() when the last descriptor goes. Lock-free, as above.
	 */
	while (generation_of(seen) == generation_of(word) && refs_of(seen) > 0) {
		if (atomic_compare_exchange_weak_explicit(&s->word, &seen,
							  seen & ~(uint64_t) lane,
							  memory_order_release,
							  memory_order_relaxed))
			return;
	}
	(void) flag(s, word, 0, lane, 0); /* no descriptor is left: we may be its last holder */
}

/*
 * Claims the right to end the call: nobody else can, and the stream stays until
 * call_ended().
 */
static bool call_end(struct stream *s, fds_word word)
{
	for (;;) {
		const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

		if (generation_of(seen) != generation_of(word) || !open_ended(seen))
			return false;
		if (move(s, word, seen,
			 word_of(generation_of(seen), refs_of(seen), SETTLED,
				 flags_of(seen) | ENDING)))
			return true;
	}
}

static void call_ended(struct stream *s, fds_word word)
{
	(void) flag(s, word, 0, ENDING, 0);
}

/*
 * A call whose descriptors went while we did not look: libraries that bind past us (PHP loads
 * its extensions so) may connect through a hook and close without one. The handshake is all
 * that was seen of the peer, and a success if it came to an end.
 */
static enum breaker_outcome unseen(uint64_t word)
{
	return phase_of(word) == CONNECTED ? BREAKER_SUCCESS : BREAKER_EXCLUDED;
}

/* Drops one descriptor of the stream. */
static void release(struct stream *s, fds_word word)
{
	for (;;) {
		const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

		if (generation_of(seen) != generation_of(word) || refs_of(seen) == 0)
			return;
		if (refs_of(seen) == 1 && open_ended(seen)) {
			if (!call_end(s, word))
				continue;
			if (ours(s))
				shared_settle(&s->admission, unseen(seen), 0, clock_now());
			call_ended(s, word);
			continue;
		}
		if (move(s, word, seen,
			 word_of(generation_of(seen), refs_of(seen) - 1, phase_of(seen),
				 flags_of(seen))))
			return;
	}
}

static bool last_descriptor(const struct stream *s, fds_word word)
{
	const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

	return generation_of(seen) == generation_of(word) && refs_of(seen) == 1;
}

/* A number may have been closed and reused without us; then we know nothing of this socket. */
static bool same_socket(const struct stream *s, int fd)
{
	return s->cookie == 0 || cookie_of(fd) == s->cookie;
}

/* Is HTTP spoken, so that a head and nothing less is the answer? */
static bool awaits_head(const struct stream *s)
{
	const uint8_t http = atomic_load_explicit(&s->http, memory_order_relaxed);

	return http == STREAM_HTTP || http == STREAM_TLS;
}

static void detach(int fd, fds_word word)
{
	if (fds_swap(fd, word, 0))
		release(stream_of(word), word);
}

/* Has nothing yet shown that the peer was there? Asked before the call is ended. */
static bool unreached(const struct stream *s)
{
	return phase_of(atomic_load_explicit(&s->word, memory_order_relaxed)) == CONNECTING &&
	       atomic_load_explicit(&s->first_sent_at, memory_order_relaxed) == 0;
}

/* A failure to connect is the call's only when no other address will be tried. */
static enum breaker_outcome final(const struct stream *s, enum breaker_outcome outcome,
				  bool connecting)
{
	return outcome == BREAKER_FAILURE && connecting && shared_tries_next(&s->admission)
		       ? BREAKER_EXCLUDED
		       : outcome;
}

/*
 * Nothing was asked of the peer, so nothing is due but a greeting, and that at once: it may
 * close a connection that a pool made and left idle.
 */
static bool idle(const struct stream *s, uint64_t now)
{
	const uint64_t patience = s->admission.policy.patience_ns;

	return patience != 0 && clock_since(s->opened_at, now) >= patience &&
	       atomic_load_explicit(&s->first_sent_at, memory_order_relaxed) == 0;
}

/* Ended by the peer, as opposed to never reached. */
static bool hung_up(int error)
{
	return error == 0 || error == ECONNRESET || error == EPIPE;
}

static bool info_of(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return real.getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len) == 0;
}

/*
 * A server may close a kept connection before the next request, or while that is on its way:
 * it never had it, and the client makes another connection. What the peer's kernel
 * acknowledged, it had. One that was told to close need not read any more.
 */
static bool stale(const struct stream *s, int fd, int error)
{
	const uint64_t sent = atomic_load_explicit(&s->bytes_sent, memory_order_relaxed);
	struct tcp_info info;

	if (!s->renewed || !hung_up(error))
		return false;
	/* The kernel counts the SYN as a byte of the acknowledged. */
	return s->parting || sent == s->sent_before ||
	       (info_of(fd, &info) && info.tcpi_bytes_acked < sent + 1);
}

/* A server of HTTP/2 has spoken, nothing was asked: an idle connection, and the peer lives. */
static bool greeted(const struct stream *s, fds_word word)
{
	return awaits_head(s) && traffic_greeted(word);
}

/* Ends the call by what I/O on @fd has shown; one that is no HTTP is followed no longer. */
static void settle_by_io(int fd, fds_word word, enum breaker_outcome outcome, int error)
{
	struct stream *s = stream_of(word);
	const bool connecting = unreached(s);

	if (call_end(s, word)) {
		if (ours(s)) {
			const uint64_t now = clock_now();

			if (outcome == BREAKER_FAILURE && hung_up(error) && idle(s, now))
				outcome = BREAKER_EXCLUDED;
			if (outcome == BREAKER_FAILURE && hung_up(error) && greeted(s, word))
				outcome = BREAKER_EXCLUDED;
			outcome = same_socket(s, fd) && !stale(s, fd, error)
					  ? final(s, outcome, connecting)
					  : BREAKER_EXCLUDED;
			shared_settle(&s->admission, outcome, error, now);
		}
		call_ended(s, word);
	}
	if (!watched(s))
		detach(fd, word);
}

bool stream_pending(int fd, fds_word word)
{
	const struct stream *s = stream_of(word);
	const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

	return generation_of(seen) == generation_of(word) && open_ended(seen) &&
	       same_socket(s, fd);
}

/*
 * What the network and the peer answer with. Anything else is of this process or this host:
 * a full table, a filter, the file that sendfile(2) reads; and says nothing about the peer.
 */
static bool of_the_peer(int error)
{
	switch (error) {
	case ECONNABORTED:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETRESET:
	case ENETUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EPIPE:
	case EPROTO:
	case ETIMEDOUT:
		return true;
	}
	return false;
}

static enum breaker_outcome outcome_of(int error)
{
	return of_the_peer(error) ? BREAKER_FAILURE : BREAKER_EXCLUDED;
}

/* Not yet a verdict: the call goes on, or is to be made again. */
bool stream_neutral(int error)
{
	switch (error) {
	case EAGAIN:
	case EALREADY:
	case EINPROGRESS:
	case EINTR:
	case ENOTCONN:
		return true;
	}
	return false;
}

static void set_phase(struct stream *s, fds_word word, enum phase phase)
{
	uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

	while (generation_of(seen) == generation_of(word) && phase_of(seen) == CONNECTING &&
	       !atomic_compare_exchange_weak_explicit(
		       &s->word, &seen,
		       word_of(generation_of(seen), refs_of(seen), phase, flags_of(seen)),
		       memory_order_acq_rel, memory_order_acquire))
		;
}

void stream_connected(int fd, fds_word word, int rc, int error)
{
	if (rc == 0 || error == EISCONN) {
		set_phase(stream_of(word), word, CONNECTED);
		return;
	}
	if (stream_neutral(error))
		return;
	/*
	 * Without a route the kernel answers at once: a host without IPv6 fails the first
	 * try of every name so. Later the same errors come from the network.
	 */
	const bool no_route = (error == ENETUNREACH || error == EHOSTUNREACH) &&
			      clock_since(stream_of(word)->opened_at, clock_now()) < AT_ONCE_NS;

	settle_by_io(fd, word, no_route ? BREAKER_EXCLUDED : outcome_of(error), error);
}

/* nginx reads SO_ERROR before each request on a connection that it kept. */
static bool is_connecting(const struct stream *s, fds_word word)
{
	const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

	return generation_of(seen) == generation_of(word) && phase_of(seen) == CONNECTING;
}

/* No error may mean "not yet": only the kernel's state tells that the handshake is over. */
static bool established(int fd)
{
	struct tcp_info info;

	return info_of(fd, &info) && info.tcpi_state == TCP_IS_ESTABLISHED;
}

void stream_so_error(int fd, fds_word word, int error)
{
	struct stream *s = stream_of(word);

	if (error != 0 && !stream_neutral(error))
		settle_by_io(fd, word, outcome_of(error), error);
	else if (error == 0 && is_connecting(s, word) && same_socket(s, fd) && established(fd))
		set_phase(s, word, CONNECTED);
}

/* The kernel counts the SYN as a byte of the acknowledged. */
static bool acknowledged(int fd)
{
	struct tcp_info info;

	return info_of(fd, &info) && info.tcpi_bytes_acked > 1;
}

void stream_sent(int fd, fds_word word, ssize_t rc, int error)
{
	struct stream *s = stream_of(word);

	if (rc < 0) {
		const bool own = error == EPIPE &&
				 atomic_load_explicit(&s->write_shut, memory_order_relaxed);

		if (!stream_neutral(error))
			settle_by_io(fd, word, own ? BREAKER_EXCLUDED : outcome_of(error), error);
		return;
	}

	if (s->inbound) /* nothing is judged by it */
		return;
	atomic_fetch_add_explicit(&s->bytes_sent, (uint64_t) rc, memory_order_relaxed);
	if (!open_ended(atomic_load_explicit(&s->word, memory_order_relaxed)))
		return;

	const uint64_t now = clock_now();
	const uint64_t first = atomic_load_explicit(&s->first_sent_at, memory_order_relaxed);

	atomic_store_explicit(&s->last_sent_at, now, memory_order_relaxed);
	if (first == 0)
		atomic_store_explicit(&s->first_sent_at, now, memory_order_relaxed);
	else if (!watched(s) && clock_since(first, now) >= WRITE_ONLY_NS && acknowledged(fd))
		settle_by_io(fd, word, BREAKER_SUCCESS, 0);
}

void stream_received(int fd, fds_word word, ssize_t rc, int error, size_t wanted)
{
	struct stream *s = stream_of(word);

	if (rc > 0) {
		if (!s->inbound)
			atomic_fetch_add_explicit(&s->bytes_read, (uint64_t) rc,
						  memory_order_relaxed);
		if (!awaits_head(s)) /* else that will tell */
			settle_by_io(fd, word, BREAKER_SUCCESS, 0);
		return;
	}
	if (rc == 0) {
		if (wanted == 0)
			return;
		const bool shut = atomic_load_explicit(&s->write_shut, memory_order_relaxed);
		const bool asked = awaits_head(s) && traffic_waits(word);

		settle_by_io(fd, word, shut && !asked ? BREAKER_SUCCESS : BREAKER_FAILURE, 0);
		return;
	}
	if (error == EAGAIN)
		atomic_store_explicit(&s->read_wanted, true, memory_order_relaxed);
	if (!stream_neutral(error))
		settle_by_io(fd, word, outcome_of(error), error);
}

/* The peer has closed its side. */
static bool half_closed(unsigned state)
{
	return state == TCP_IS_CLOSE_WAIT || state == TCP_IS_LAST_ACK ||
	       state == TCP_IS_CLOSING || state == TCP_IS_TIME_WAIT;
}

struct verdict {
	enum breaker_outcome outcome;
	int error;
};

/*
 * Waiting in vain: a failure if it was long enough, nobody else fared better, and it was not
 * the program's own client that lost patience.
 */
static struct verdict vain(const struct stream *s, uint64_t since, uint64_t now)
{
	const bool long_enough = clock_since(since, now) >= s->admission.policy.patience_ns;

	if (!long_enough || s->forks != life_forks() ||
	    shared_succeeded_since(&s->admission, s->opened_at) || inbound_hung_up())
		return (struct verdict) { BREAKER_EXCLUDED, 0 };
	return (struct verdict) { BREAKER_FAILURE, ETIMEDOUT };
}

/* What an open connection comes to when the program lets go of it now. */
static struct verdict judge(const struct stream *s, int fd, fds_word word, uint64_t now)
{
	const uint64_t sent_at = atomic_load_explicit(&s->last_sent_at, memory_order_relaxed);
	const bool wanted = atomic_load_explicit(&s->read_wanted, memory_order_relaxed);
	const bool shut = atomic_load_explicit(&s->write_shut, memory_order_relaxed);
	struct tcp_info info;

	if (!same_socket(s, fd) || !info_of(fd, &info))
		return (struct verdict) { BREAKER_EXCLUDED, 0 };
	if (greeted(s, word))
		return (struct verdict) { BREAKER_SUCCESS, 0 };

	/*
	 * Of a further request on the connection, or where no head came of what was read, only
	 * what nobody has read yet can be the answer.
	 */
	const uint64_t before = s->renewed || awaits_head(s)
					? atomic_load_explicit(&s->bytes_read, memory_order_relaxed)
					: 0;

	/*
	 * A FIN takes up a byte of what was received. When both sides have sent theirs the
	 * kernel keeps a lesser socket for TIME_WAIT and calls this one closed; so does it when
	 * bytes that came too late for the peer were answered with a reset.
	 */
	const bool parted = info.tcpi_state == TCP_IS_CLOSE &&
			    info.tcpi_bytes_received == before + 1;
	const bool ended = half_closed(info.tcpi_state) || parted;

	if (info.tcpi_bytes_received > before + (ended ? 1 : 0))
		return (struct verdict) { BREAKER_SUCCESS, 0 };
	if (s->renewed && ended && stale(s, fd, 0))
		return (struct verdict) { BREAKER_EXCLUDED, 0 };
	if (info.tcpi_state == TCP_IS_SYN_SENT)
		return vain(s, s->opened_at, now);
	/* Refused or reset, learnt by other means than ours; a SYN acknowledged tells which. */
	const bool closed = info.tcpi_state == TCP_IS_CLOSE && !parted;

	if (((closed && info.tcpi_bytes_acked > 0) || (ended && !shut)) && idle(s, now))
		return (struct verdict) { BREAKER_EXCLUDED, 0 };
	if (closed)
		return (struct verdict) { BREAKER_FAILURE, ECONNRESET };
	if (ended && !shut)
		return (struct verdict) { BREAKER_FAILURE, 0 };
	if (sent_at != 0) {
		const bool waited = clock_since(sent_at, now) >= s->admission.policy.patience_ns;
		const bool due = wanted || /* it may have waited by poll(2) */
				 (awaits_head(s) && traffic_waits(word));

		if (waited && (due || !shut))
			return vain(s, sent_at, now);
		return (struct verdict) { due ? BREAKER_EXCLUDED : BREAKER_SUCCESS, 0 };
	}
	if (wanted)
		return vain(s, s->opened_at, now);
	/* Unused, as a look whether the peer is there; or after a greeting awaited by poll(2). */
	return (struct verdict) { idle(s, now) ? BREAKER_EXCLUDED : BREAKER_SUCCESS, 0 };
}

/* Ends the call as judge() finds. */
static void give_up(struct stream *s, int fd, fds_word word)
{
	const bool connecting = unreached(s);

	if (!call_end(s, word))
		return;
	if (ours(s)) {
		const uint64_t now = clock_now();
		const struct verdict v = judge(s, fd, word, now);

		shared_settle(&s->admission, final(s, v.outcome, connecting), v.error, now);
	}
	call_ended(s, word);
}

void stream_shutdown(int fd, fds_word word, int how)
{
	struct stream *s = stream_of(word);

	if (how == SHUT_WR)
		atomic_store_explicit(&s->write_shut, true, memory_order_relaxed);
	else
		give_up(s, fd, word); /* it will not hear an answer any more */
}

void stream_leave(int fd, fds_word word)
{
	struct stream *s = stream_of(word);

	if (last_descriptor(s, word))
		give_up(s, fd, word);
	detach(fd, word);
}

void stream_forget(int fd, fds_word word)
{
	detach(fd, word); /* what was its last descriptor ends it by what was seen, see unseen() */
}

void stream_share(int from, int to)
{
	const fds_word old = fds_get(to);
	const fds_word word = fds_get(from);

	if (old != 0)
		stream_forget(to, old);
	if (word == 0)
		return;

	struct stream *s = stream_of(word);

	for (;;) {
		const uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

		if (generation_of(seen) != generation_of(word) || refs_of(seen) == 0 ||
		    refs_of(seen) == 0xffff)
			return;
		if (move(s, word, seen,
			 word_of(generation_of(seen), refs_of(seen) + 1, phase_of(seen),
				 flags_of(seen))))
			break;
	}
	if (!fds_swap(to, 0, word))
		release(s, word);
}

void stream_settle_all(void)
{
	const uint32_t n = pool_used(&pool);

	for (uint32_t i = 0; i < n; i++) {
		if (!pool_ready(&pool, i))
			continue;

		struct stream *s = at(i);
		const fds_word word = fds_word_of(
			generation_of(atomic_load_explicit(&s->word, memory_order_acquire)), i);
		const int fd = atomic_load_explicit(&s->fd, memory_order_relaxed);

		if (phase_of(atomic_load_explicit(&s->word, memory_order_acquire)) == FREE ||
		    fds_get(fd) != word)
			continue;
		give_up(s, fd, word);
		if (ours(s) && watched(s) && stream_lane_take(word, STREAM_OUT)) {
			if (stream_lane_take(word, STREAM_IN)) {
				traffic_ends(word);
				stream_lane_give(word, STREAM_IN);
			}
			stream_lane_give(word, STREAM_OUT);
		}
	}
}

/* ---- what traffic.c asks ---- */

bool stream_inbound(fds_word word)
{
	const struct stream *s = stream_of(word);

	return generation_of(atomic_load_explicit(&s->word, memory_order_acquire)) ==
		       generation_of(word) &&
	       s->inbound;
}

enum stream_http stream_http(fds_word word)
{
	return (enum stream_http) atomic_load_explicit(&stream_of(word)->http,
						       memory_order_relaxed);
}

void stream_http_ends(int fd, fds_word word, enum stream_http to)
{
	struct stream *s = stream_of(word);

	/* Relaxed: whoever still sees the old value finds the directions opaque. */
	atomic_store_explicit(&s->http, to, memory_order_relaxed);
	if (to == STREAM_NOT_HTTP &&
	    phase_of(atomic_load_explicit(&s->word, memory_order_acquire)) == SETTLED)
		detach(fd, word);
}

bool stream_same_socket(int fd, fds_word word)
{
	const struct stream *s = stream_of(word);

	return s->cookie != 0 && cookie_of(fd) == s->cookie;
}

bool stream_lasts(fds_word word)
{
	return generation_of(atomic_load_explicit(&stream_of(word)->word, memory_order_acquire)) ==
	       generation_of(word);
}

uint64_t stream_unseen(int fd, fds_word word)
{
	const struct stream *s = stream_of(word);
	const uint64_t seen = atomic_load_explicit(&s->bytes_sent, memory_order_relaxed);
	struct tcp_info info;

	if (!info_of(fd, &info))
		return 0;

	const uint64_t sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans +
			      info.tcpi_notsent_bytes;

	return sent > seen ? sent - seen : 0;
}

bool stream_saw_all(int fd, fds_word word, bool first)
{
	const struct stream *s = stream_of(word);

	if (!first && ours(s) && s->born_forks == life_forks())
		return true;
	return stream_unseen(fd, word) == 0;
}

bool stream_alive(fds_word word)
{
	const uint64_t seen = atomic_load_explicit(&stream_of(word)->word, memory_order_acquire);

	return generation_of(seen) == generation_of(word) && phase_of(seen) != FREE;
}

int stream_fd(fds_word word)
{
	return atomic_load_explicit(&stream_of(word)->fd, memory_order_relaxed);
}

uint32_t stream_pid(fds_word word)
{
	return atomic_load_explicit(&stream_of(word)->pid, memory_order_relaxed);
}

void stream_adopt(fds_word word)
{
	atomic_store_explicit(&stream_of(word)->pid, life_pid(), memory_order_relaxed);
}

void stream_judge_bytes(int fd, fds_word word)
{
	settle_by_io(fd, word, BREAKER_SUCCESS, 0);
}

void stream_settle_by(fds_word word,
		      void (*settle)(struct admission *a, const void *how, uint64_t now),
		      const void *how)
{
	struct stream *s = stream_of(word);

	if (!call_end(s, word))
		return;
	if (ours(s))
		settle(&s->admission, how, clock_now());
	call_ended(s, word);
}

static void by_status(struct admission *a, const void *how, uint64_t now)
{
	shared_settle_answer(a, *(const unsigned *) how, now);
}

void stream_answered(fds_word word, unsigned status)
{
	stream_settle_by(word, by_status, &status);
}

static void by_verdict(struct admission *a, const void *how, uint64_t now)
{
	const struct verdict *v = how;

	shared_settle(a, v->outcome, v->error, now);
}

void stream_settle(fds_word word, enum breaker_outcome outcome, int error)
{
	const struct verdict v = { outcome, error };

	stream_settle_by(word, by_verdict, &v);
}

bool stream_open_ended(fds_word word)
{
	const uint64_t seen = atomic_load_explicit(&stream_of(word)->word, memory_order_acquire);

	return generation_of(seen) == generation_of(word) && open_ended(seen);
}

bool stream_renew(fds_word word, const struct admission *a, bool parting, uint64_t now)
{
	struct stream *s = stream_of(word);
	uint64_t seen = atomic_load_explicit(&s->word, memory_order_acquire);

	if (phase_of(seen) != SETTLED || !flag(s, word, ENDING, 0, ENDING))
		return false;
	s->admission = *a;
	s->judged = true;
	s->renewed = true;
	s->parting = parting;
	s->sent_before = atomic_load_explicit(&s->bytes_sent, memory_order_relaxed);
	s->opened_at = now;
	s->forks = life_forks();
	atomic_store_explicit(&s->first_sent_at, now, memory_order_relaxed);
	atomic_store_explicit(&s->last_sent_at, now, memory_order_relaxed);
	atomic_store_explicit(&s->read_wanted, false, memory_order_relaxed);
	/* Release: the fields above go with the phase. Fails when a descriptor comes or goes. */
	do {
		seen = atomic_load_explicit(&s->word, memory_order_acquire);
	} while (!move(s, word, seen,
		       word_of(generation_of(seen), refs_of(seen), CONNECTED,
			       flags_of(seen) & ~ENDING)));
	return true;
}

const struct admission *stream_admission(fds_word word)
{
	const struct stream *s = stream_of(word);

	return s->inbound ? NULL : &s->admission;
}
