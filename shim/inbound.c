/* SPDX-License-Identifier: Apache-2.0 */
/* Which descriptors were accepted, and which listen; bits left by a missed close heal when seen. */
#include "shim/inbound.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/raw.h"
#include "shim/fds.h"
#include "shim/life.h"
#include "shim/real.h"
#include "shim/stream.h"

#define WORDS (FDS_PAGES * FDS_PAGE / 64)

/* 64 are polled at once; more than 1024 would be felt by a server that lives on time-outs. */
#define LOOKS_MAX 16

/* Between a client's end and what a program does about it: a turn of its event loop. */
#define LATELY_MS 1000

/* Bits by descriptor. Relaxed, all of it: a bit seen late spares or costs one exclusion. */
static _Atomic uint64_t words[WORDS]; /* accepted */
static _Atomic uint64_t listeners[WORDS];
static _Atomic uint32_t top; /* words from here on were never touched */
static _Atomic bool any; /* a listener was seen; whoever accepts has one */

static bool is_set(const _Atomic uint64_t *bits, int fd)
{
	const unsigned at = (unsigned) fd / 64;

	return at < WORDS && (atomic_load_explicit(&bits[at], memory_order_relaxed) >>
				      (unsigned) fd % 64 & 1) != 0;
}

static void set(_Atomic uint64_t *bits, int fd)
{
	const unsigned at = (unsigned) fd / 64;

	if (at < WORDS)
		atomic_fetch_or_explicit(&bits[at], UINT64_C(1) << (unsigned) fd % 64,
					 memory_order_relaxed);
}

static void clear(_Atomic uint64_t *bits, int fd)
{
	atomic_fetch_and_explicit(&bits[(unsigned) fd / 64], ~(UINT64_C(1) << (unsigned) fd % 64),
				  memory_order_relaxed);
}

void inbound_begins(int fd)
{
	const unsigned at = (unsigned) fd / 64;
	uint32_t seen = atomic_load_explicit(&top, memory_order_relaxed);

	if (at >= WORDS)
		return;
	set(words, fd);
	while (seen <= at &&
	       !atomic_compare_exchange_weak_explicit(&top, &seen, at + 1, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void inbound_ends(int fd)
{
	if ((is_set(words, fd) || is_set(listeners, fd)) && life_own_memory())
		inbound_ends_here(fd);
}

void inbound_ends_here(int fd)
{
	if (is_set(words, fd))
		clear(words, fd);
	if (is_set(listeners, fd))
		clear(listeners, fd);
}

void inbound_listens(int fd)
{
	if (!is_set(listeners, fd))
		set(listeners, fd);
	if (!inbound_any())
		atomic_store_explicit(&any, true, memory_order_relaxed);
}

bool inbound_any(void)
{
	return atomic_load_explicit(&any, memory_order_relaxed);
}

bool inbound_is_listener(int fd)
{
	return is_set(listeners, fd);
}

/*
 * Long ago it is no reason to give a call up today: some programs never close what their
 * clients have left. The FIN came with the last acknowledgement.
 */
static bool lately(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return real.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	       info.tcpi_last_ack_recv < LATELY_MS || info.tcpi_state == TCP_CLOSE;
}

/* Looks at the up to 64 descriptors of one word. */
static bool hung_up_in(uint32_t at, uint64_t bits)
{
	struct pollfd fds[64];
	struct timespec at_once = { 0, 0 };
	unsigned n = 0;

	for (; bits != 0; bits &= bits - 1)
		fds[n++] = (struct pollfd) {
			.fd = (int) (at * 64 + (unsigned) __builtin_ctzll(bits)),
			.events = POLLRDHUP,
		};
	if (raw_syscall(SYS_ppoll, (long) fds, n, (long) &at_once, 0, 0, 0) <= 0)
		return false;
	for (unsigned i = 0; i < n; i++) {
		const fds_word word = fds_get(fds[i].fd);

		if ((fds[i].revents & POLLNVAL) != 0 || (word != 0 && !stream_inbound(word)))
			inbound_ends(fds[i].fd);
		else if ((fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
			 lately(fds[i].fd))
			return true;
	}
	return false;
}

static bool look(void)
{
	const uint32_t n = atomic_load_explicit(&top, memory_order_relaxed);

	for (uint32_t at = 0, looks = 0; at < n && looks < LOOKS_MAX; at++) {
		const uint64_t bits = atomic_load_explicit(&words[at], memory_order_relaxed);

		if (bits == 0)
			continue;
		if (hung_up_in(at, bits))
			return true;
		looks++;
	}
	return false;
}

bool inbound_hung_up(void)
{
	const int saved = errno;
	const bool found = look();

	errno = saved;
	return found;
}
