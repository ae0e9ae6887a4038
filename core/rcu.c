/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of core/rcu.h that need not be inline: grace periods, fork, Debian's liburcu. */
#include "core/rcu.h"

#include <errno.h>

#ifndef AGENTSHIM_PRIVATE_URCU
#include <pthread.h>
#include <sys/syscall.h>
#include <urcu/urcu-bp.h>

#include "core/raw.h"
#endif

#ifdef RCU_TSAN
char rcu_grace;
#define RCU_TSAN_WAITED() __tsan_acquire(&rcu_grace)
#else
#define RCU_TSAN_WAITED() ((void)0)
#endif

#ifdef AGENTSHIM_PRIVATE_URCU

bool rcu_wait_blocking(void)
{
	const int err = errno;
	const bool waited = urcu_guest_wait();

	if (waited)
		RCU_TSAN_WAITED();
	errno = err;
	return waited;
}

void rcu_before_fork(void)
{
	urcu_guest_before_fork();
}

void rcu_after_fork_parent(void)
{
	urcu_guest_after_fork_parent();
}

void rcu_after_fork_child(void)
{
	urcu_guest_after_fork_child();
}

#else

/* The process whose registry this is; another one was forked behind atfork's back. */
static long home;

static long pid_now(void)
{
	return raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static void __attribute__((constructor)) remember_home(void)
{
	home = pid_now();
}

bool rcu_enter(void)
{
	urcu_bp_read_lock();
	return true;
}

void rcu_leave(void)
{
	RCU_TSAN_LEAVE();
	urcu_bp_read_unlock();
}

bool rcu_wait_blocking(void)
{
	const int err = errno;

	if (home != pid_now() || urcu_bp_read_ongoing())
		return false;
	urcu_bp_synchronize_rcu();
	RCU_TSAN_WAITED();
	errno = err;
	return true;
}

/* Set between before_fork and its afters in the thread that forks, and only there. */
static _Thread_local bool fork_locked;

void rcu_before_fork(void)
{
	fork_locked = home == pid_now();
	if (fork_locked)
		urcu_bp_before_fork();
}

void rcu_after_fork_parent(void)
{
	if (fork_locked)
		urcu_bp_after_fork_parent();
	fork_locked = false;
}

void rcu_after_fork_child(void)
{
	if (!fork_locked)
		return;
	urcu_bp_after_fork_child();
	fork_locked = false;
	home = pid_now();
}

#endif
