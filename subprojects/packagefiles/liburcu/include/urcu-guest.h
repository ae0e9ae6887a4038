/* SPDX-License-Identifier: Apache-2.0 */
/* liburcu-bp for a library that lives in somebody else's process: nothing here can end it. */
#ifndef URCU_GUEST_H
#define URCU_GUEST_H

#include <stdbool.h>
#include <stddef.h>

/*
 * urcu_guest_join - register the calling thread as a reader
 *
 * Returns false when it cannot be: registry busy, no memory, or a process whose fork
 * nobody announced (raw clone, _Fork), where another thread may hold the lock for good.
 * Context: any thread, signal handlers too; a trylock only, signals blocked meanwhile; errno kept.
 */
bool urcu_guest_join(void);

/*
 * urcu_guest_wait - wait until all readers that were inside have left
 *
 * Returns false when no grace period can be vouched for: an unannounced fork, a caller
 * inside a read section, or a membarrier that a seccomp filter took away.
 * Context: outside any read section and lock, not from handlers; may block; errno kept.
 */
bool urcu_guest_wait(void);

/*
 * The three of pthread_atfork. Before waits for the locks for a tenth of a second at most;
 * without them the child's thread may go on reading, but joins and waits are refused there.
 * Context: the forking thread; signals stay blocked between before and after; errno kept.
 */
void urcu_guest_before_fork(void);
void urcu_guest_after_fork_parent(void);
void urcu_guest_after_fork_child(void);

/* How many readers are registered, dead threads not yet noticed included. For tests. */
size_t urcu_guest_readers(void);

#endif
