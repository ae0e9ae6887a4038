/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of epoll_wait, poll, select and their kin; and of listen, which tells the sets apart. */
#ifndef SHIM_WAIT_H
#define SHIM_WAIT_H

#include <poll.h>
#include <sys/select.h>

/*
 * wait_on_... - a thread is about to wait on these; for hooks and for syscall(2)
 * @fds, @in: as the program gave them; only read (glibc declares poll a writer of its first)
 * Context: any thread, signal handlers too; a look at a set that is worth one asks the kernel
 * whether it is there, see readable.h; errno kept.
 */
void wait_on_epoll(void);
void wait_on_poll(struct pollfd *fds, nfds_t n);
void wait_on_select(int n, const fd_set *in);

#endif
