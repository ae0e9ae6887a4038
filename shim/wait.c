/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for events: libc's, untouched. Where a thread waits on connections that were
 * accepted, or for new ones, what it worked on is over (current.h).
 */
#include "shim/wait.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "shim/current.h"
#include "shim/fds.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/readable.h"
#include "shim/real.h"
#include "shim/stream.h"

/* More than this is an event loop's set, whatever is in it. */
#define LOOKS_MAX 1024

static bool watches(void)
{
	return armed && settings->trace;
}

/* Can a look at a set, which costs by its size, tell anything that is not known? */
static bool would_learn(void)
{
	return watches() && life_acts() && inbound_any() && current_would_learn();
}

static bool accepted(int fd)
{
	const fds_word word = fds_get(fd);

	return word != 0 && stream_inbound(word);
}

/* What a set of descriptors tells of the thread that waits on it. */
struct set {
	unsigned accepted;
	bool listens;
};

static void look_at(struct set *s, int fd)
{
	s->accepted += accepted(fd);
	s->listens = s->listens || inbound_is_listener(fd);
}

/* Waiting for one's own client only is no event loop, but the next byte may begin a request. */
static void tick_for(const struct set *s)
{
	if (s->accepted > 1 || (s->accepted > 0 && s->listens))
		current_event_loop();
	if (s->listens || s->accepted > 0)
		current_tick(s->listens || s->accepted > 1);
}

void wait_on_poll(struct pollfd *fds, nfds_t n)
{
	struct set s = { 0 };

	if (!would_learn())
		return;
	if (n > LOOKS_MAX) {
		current_tick(true);
		return;
	}
	if (!readable(fds, n * sizeof(*fds)))
		return;
	for (nfds_t i = 0; i < n; i++)
		look_at(&s, fds[i].fd);
	tick_for(&s);
}

void wait_on_select(int n, const fd_set *in)
{
	struct set s = { 0 };

	if (n > FD_SETSIZE)
		n = FD_SETSIZE;
	/* The kernel reads whole words of a set, however few of its bits are meant. */
	if (in == NULL || n <= 0 || !would_learn() || !readable(in, ((size_t) n + 63) / 64 * 8))
		return;
	for (int fd = 0; fd < n; fd++)
		if (FD_ISSET(fd, in))
			look_at(&s, fd);
	tick_for(&s);
}

void wait_on_epoll(void)
{
	if (watches())
		current_tick(true);
}

EXPORT int epoll_wait(int ep, struct epoll_event *events, int n, int timeout)
{
	wait_on_epoll();
	return real.epoll_wait(ep, events, n, timeout);
}

EXPORT int epoll_pwait(int ep, struct epoll_event *events, int n, int timeout, const sigset_t *mask)
{
	wait_on_epoll();
	return real.epoll_pwait(ep, events, n, timeout, mask);
}

EXPORT int epoll_pwait2(int ep, struct epoll_event *events, int n, const struct timespec *timeout,
			const sigset_t *mask)
{
	wait_on_epoll();
	return real.epoll_pwait2(ep, events, n, timeout, mask);
}

EXPORT int epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	if (op != EPOLL_CTL_DEL && watches() && accepted(fd))
		current_event_loop();
	return real.epoll_ctl(ep, op, fd, event);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	wait_on_poll(fds, n);
	return real.poll(fds, n, timeout);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	wait_on_poll(fds, n);
	return real.ppoll(fds, n, timeout, mask);
}

/* What programs built with _FORTIFY_SOURCE call. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
		size_t size);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (n <= size / sizeof(*fds)) /* else libc ends the program */
		wait_on_poll(fds, n);
	return real.poll_chk(fds, n, timeout, size);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask, size_t size)
{
	if (n <= size / sizeof(*fds))
		wait_on_poll(fds, n);
	return real.ppoll_chk(fds, n, timeout, mask, size);
}

EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	wait_on_select(n, in);
	return real.select(n, in, out, except, timeout);
}

EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
		   const sigset_t *mask)
{
	wait_on_select(n, in);
	return real.pselect(n, in, out, except, timeout, mask);
}

EXPORT int listen(int fd, int backlog)
{
	const int rc = real.listen(fd, backlog);

	if (rc == 0 && armed && life_own_memory())
		inbound_listens(fd);
	return rc;
}
