/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-copy-update for the roster and the settings: readers never wait, never take a lock.
 * One face over two libraries: our private copy of liburcu-bp, which cannot harm the host
 * (docs/private-libs.md), or Debian's shared one.
 */
#ifndef CORE_RCU_H
#define CORE_RCU_H

#include <stdbool.h>
#include <stddef.h>

#ifdef AGENTSHIM_PRIVATE_URCU
#include <urcu-guest.h>
#include <urcu/static/urcu-bp.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#ifdef RCU_TSAN
/* ThreadSanitizer cannot see a grace period: every leave is ordered before the wait's end. */
#include <sanitizer/tsan_interface.h>

extern char rcu_grace;
#define RCU_TSAN_LEAVE() __tsan_release(&rcu_grace)
#else
#define RCU_TSAN_LEAVE() ((void)0)
#endif

/*
 * rcu_enter - begin a read section; sections nest
 *
 * Returns false when this thread could not be registered (its first time only: registry
 * busy, no memory, a fork that nobody announced). Then nothing was begun, rcu_leave() must
 * not be called, and a hook forwards.
 * Context: any thread, signal handlers too; no lock but a trylock at a thread's first time;
 * errno kept. Nothing between enter and leave may block or allocate.
 *
 * rcu_leave - end it
 * Context: the thread that entered; signal handlers too; no lock; errno kept.
 */
#ifdef AGENTSHIM_PRIVATE_URCU

/*
 * liburcu's _urcu_bp_read_lock() without its way into registration, which we have done by
 * then. The counter is reached as the reader's first word: the arena aligns readers to
 * less than their type promises.
 */
_Static_assert(offsetof(struct urcu_bp_reader, ctr) == 0, "the counter comes first");

static inline bool rcu_enter(void)
{
	if (__builtin_expect(!urcu_bp_reader, 0) && !urcu_guest_join())
		return false;

	unsigned long *const ctr = (void *)urcu_bp_reader;
	const unsigned long seen = __atomic_load_n(ctr, __ATOMIC_RELAXED);

	if (__builtin_expect(seen & URCU_BP_GP_CTR_NEST_MASK, 0)) {
		__atomic_store_n(ctr, seen + URCU_BP_GP_COUNT, __ATOMIC_RELAXED);
		return true;
	}
	__atomic_store_n(ctr, __atomic_load_n(&urcu_bp_gp.ctr, __ATOMIC_RELAXED),
			 __ATOMIC_RELAXED);
	urcu_bp_smp_mb_slave(); /* the count before what the section reads */
	return true;
}

static inline void rcu_leave(void)
{
	unsigned long *const ctr = (void *)urcu_bp_reader;

	RCU_TSAN_LEAVE();
	urcu_bp_smp_mb_slave(); /* what the section read before the count */
	__atomic_store_n(ctr, __atomic_load_n(ctr, __ATOMIC_RELAXED) - URCU_BP_GP_COUNT,
			 __ATOMIC_RELAXED);
	/* Keeps what follows, a mutex say, from moving in before the count. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#else

bool rcu_enter(void);
void rcu_leave(void);

#endif

/*
 * rcu_read - the published pointer, and all that was written before it was published
 * Acquire, which is more than a dependent load needs and free on x86; pairs with the
 * release in rcu_publish(). Context: inside a read section, or the one writer.
 *
 * rcu_publish - show a finished object to readers
 * Context: one writer at a time; any thread; the former object lives on until
 * rcu_wait_blocking() has returned true.
 */
#define rcu_read(pointer)           __atomic_load_n(&(pointer), __ATOMIC_ACQUIRE)
#define rcu_publish(pointer, value) __atomic_store_n(&(pointer), (value), __ATOMIC_RELEASE)

/*
 * rcu_wait_blocking - wait until every section that was open has been left
 *
 * Returns false when that cannot be vouched for (a child whose fork skipped atfork, a
 * caller inside a section, a kernel that took membarrier away): nothing may be freed.
 * Context: a thread that reloads; outside any section and lock; not from handlers, nor
 * from close, read or write; may block, signals blocked meanwhile; errno kept.
 */
__attribute__((warn_unused_result)) bool rcu_wait_blocking(void);

/*
 * rcu_before_fork, rcu_after_fork_parent, rcu_after_fork_child - for pthread_atfork
 * Before waits for readers' and writers' locks, the private copy for 0.1 s at most; when it
 * gave up, the child's thread goes on reading, but nobody joins or waits there.
 * Context: the forking thread, first and last of our handlers; signals are blocked from
 * before to after; errno kept.
 */
void rcu_before_fork(void);
void rcu_after_fork_parent(void);
void rcu_after_fork_child(void);

#endif
