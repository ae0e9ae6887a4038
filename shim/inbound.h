/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that the program accepted, as far as a verdict needs them: a proxy whose client
 * goes away gives up its own call, and that is no fault of the peer it called.
 */
#ifndef SHIM_INBOUND_H
#define SHIM_INBOUND_H

#include <stdbool.h>

/*
 * inbound_begins - @fd was accepted; inbound_ends - the number is something else's by now
 * @fd: below 0, or beyond what is tracked, nothing is done
 * Context: any thread, signal handlers too; lock-free; errno kept.
 */
void inbound_begins(int fd);
void inbound_ends(int fd);

/* inbound_ends_here - inbound_ends() by who has just asked life_own_memory() */
void inbound_ends_here(int fd);

/*
 * inbound_listens - @fd waits for connections; inbound_is_listener - does it?
 * Context: as inbound_begins(); the question is two loads.
 */
void inbound_listens(int fd);
bool inbound_is_listener(int fd);

/* inbound_any - has this process ever accepted a connection, or waited for one? One load. */
bool inbound_any(void);

/*
 * inbound_hung_up - has the other side of an accepted, still open connection gone?
 * Looks at a limited number of them, so false may also mean: not seen.
 * Context: any thread, signal handlers too; some ppoll(2), which wait for nothing; errno kept.
 */
bool inbound_hung_up(void);

#endif
