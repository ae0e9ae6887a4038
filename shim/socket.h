/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that a call handed to the program is new, whatever was known of its number. */
#ifndef SHIM_SOCKET_H
#define SHIM_SOCKET_H

/*
 * fd_handed_out - forget what stood under the number of a new descriptor
 * @fd: below 0 nothing is done
 * Context: any thread, signal handlers too; one load when nothing is known; errno kept.
 */
void fd_handed_out(int fd);

/* fd_accepted - the same, for one that came out of accept(2) */
void fd_accepted(int listener, int fd);

#endif
