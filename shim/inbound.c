/* SPDX-License-Identifier: Apache-2.0 */
/* One bit for each accepted descriptor. Bits that a missed close left behind heal when seen. */
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

#define WORDS (FDS_PAGES * FDS_PAGE / 64)

/* 64 are polled at once; more than 1024 would be felt by a server that lives on time-outs. */
#define LOOKS_MAX 16

/* Between a client's end and what a program does about it: a turn of its event loop. */
#define LATELY_MS 1000

static _Atomic uint64_t words[WORDS];
static _Atomic uint32_t top; /* words from here on were never touched */

void inbound_begins(int fd)
{
	const unsigned at = (unsigned) fd / 64;
	uint32_t seen = atomic_load_explicit(&top, memory_order_relaxed);

	if (at >= WORDS)
		return;
	/* Relaxed, all of it: a bit seen late spares or costs one exclusion. */
	atomic_fetch_or_explicit(&words[at], UINT64_C(1) << (unsigned) fd % 64,
				 memory_order_relaxed);
	while (seen <= at &&
	       !atomic_compare_exchange_weak_explicit(&top, &seen, at + 1, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void inbound_ends(int fd)
{
	const unsigned at = (unsigned) fd / 64;
	const uint64_t bit = UINT64_C(1) << (unsigned) fd % 64;

	if (at < WORDS && (atomic_load_explicit(&words[at], memory_order_relaxed) & bit) != 0 &&
	    life_own_memory())
		atomic_fetch_and_explicit(&words[at], ~bit, memory_order_relaxed);
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
		if ((fds[i].revents & POLLNVAL) != 0 || fds_get(fds[i].fd) != 0)
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
