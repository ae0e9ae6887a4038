/* SPDX-License-Identifier: Apache-2.0 */
/*
 * liburcu-bp as a guest. Upstream's file is included unchanged below; the macros before it
 * take away what a guest must not do, the functions after it do it in a guest's way:
 *
 *   abort(), urcu_die()        leave the function; the callers below report false
 *   pthread keys               none: dead threads are found by tgkill when readers double
 *   pthread_self() as reader   the kernel's thread id, so that tgkill can be asked
 *   constructor, destructor    start() below; the arena stays for hooks that run late
 *   syscall(), poll()          the kernel directly: those names are our own hooks
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <urcu-flavor.h>

#include "core/raw.h"
#include "urcu-guest.h"

static _Thread_local bool guest_died; /* set by urcu_die(); see urcu-die.h here */

static void nap_ms(int ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000L };

	raw_syscall(SYS_ppoll, 0, 0, (long)&t, 0, 0, 0);
}

#define abort()                 return
#define constructor             unused
#define destructor              unused
#define poll(fds, n, ms)        nap_ms(ms)
#define pthread_key_create(k, f) ((void)(k), (void)(f), 0)
#define pthread_key_delete(k)   0
#define pthread_self()          ((pthread_t)raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0))
#define pthread_setspecific(k, v) 0
#define syscall(nr, a, b)       ((int)raw_syscall(nr, a, b, 0, 0, 0, 0))
#undef DEFINE_RCU_FLAVOR
#define DEFINE_RCU_FLAVOR(x)    struct rcu_flavor_struct /* call_rcu's, which we lack */

#include "upstream-urcu-bp.h"

#undef abort
#undef constructor
#undef destructor
#undef poll
#undef pthread_key_create
#undef pthread_key_delete
#undef pthread_setspecific
#undef syscall

/* A reader that finds the registry busy looks this often, then goes without. */
#define JOIN_TRIES   1000
/* A fork waits this many milliseconds longer: read sections last microseconds. */
#define FORK_WAIT_MS 100
/* Fewer readers than this are never looked through: 64 are four pages of arena. */
#define REAP_FLOOR   64

/* Under rcu_registry_lock, but home, which is read to find out whether the lock counts. */
static struct {
	pid_t home; /* the process that keeps the registry; 0 before start() */
	size_t readers;
	size_t reap_at;
} guest = { .reap_at = REAP_FLOOR };

/* Set between before_fork and its afters in the thread that forks, and only there. */
static _Thread_local bool fork_locked;

static pid_t pid_now(void)
{
	return (pid_t)raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static bool is_foreign(void)
{
	const pid_t home = CMM_LOAD_SHARED(guest.home);

	return home && home != pid_now();
}

/* All of them, libc's own too: a cancelled thread must not take the lock along. */
static void block_signals(unsigned long *old)
{
	const unsigned long all = ~0UL;

	raw_syscall(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)old, sizeof(all), 0, 0);
}

static void restore_signals(const unsigned long *old)
{
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)old, 0, sizeof(*old), 0, 0);
}

static bool try_for_a_while(pthread_mutex_t *lock, int naps)
{
	for (int i = 0; i < JOIN_TRIES + naps; i++) {
		if (!pthread_mutex_trylock(lock))
			return true;
		if (i < JOIN_TRIES)
			raw_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		else
			nap_ms(1);
	}
	return false;
}

/* Called with signals off and rcu_registry_lock held. */
static void start(void)
{
	if (guest.home)
		return;
	urcu_bp_sys_membarrier_init();
	CMM_STORE_SHARED(guest.home, pid_now());
}

/*
 * At load, because registering for membarrier costs milliseconds once there are threads.
 * A kernel or filter that says no leaves full fences in the readers.
 */
static void __attribute__((constructor)) start_at_load(void)
{
	unsigned long old;

	block_signals(&old);
	if (!pthread_mutex_trylock(&rcu_registry_lock)) {
		start();
		pthread_mutex_unlock(&rcu_registry_lock);
	}
	restore_signals(&old);
}

static void forget(struct registry_chunk *chunk, struct urcu_bp_reader *reader)
{
	cleanup_thread(chunk, reader);
	guest.readers--;
}

/*
 * A reader is dead when the kernel knows no such thread in our process, or when its
 * number is ours although the reader is not: the number was given out again.
 */
static bool is_dead(const struct urcu_bp_reader *reader, pid_t self)
{
	if (reader == urcu_bp_reader)
		return false;
	return (pid_t)reader->tid == self ||
	       raw_syscall(SYS_tgkill, guest.home, (long)reader->tid, 0, 0, 0, 0) == -ESRCH;
}

/* Called with signals off and rcu_registry_lock held. */
static void reap(void)
{
	const pid_t self = (pid_t)pthread_self();
	struct registry_chunk *chunk;

	cds_list_for_each_entry(chunk, &registry_arena.chunk_list, node) {
		struct urcu_bp_reader *const first = (void *)&chunk->data[0];
		const size_t n = chunk->data_len / sizeof(*first);

		for (size_t i = 0; i < n; i++)
			if (first[i].alloc && is_dead(&first[i], self))
				forget(chunk, &first[i]);
	}
	guest.reap_at = guest.readers * 2 > REAP_FLOOR ? guest.readers * 2 : REAP_FLOOR;
}

static bool join_masked(void)
{
	/* A handler may have joined between the caller's look and the mask. */
	if (urcu_bp_reader)
		return true;
	if (is_foreign() || !try_for_a_while(&rcu_registry_lock, 0))
		return false;
	start();
	if (guest.readers >= guest.reap_at)
		reap();
	add_thread();
	if (urcu_bp_reader)
		guest.readers++;
	pthread_mutex_unlock(&rcu_registry_lock);
	return urcu_bp_reader;
}

bool urcu_guest_join(void)
{
	const int err = errno; /* the arena's mmap may set it */
	unsigned long old;

	block_signals(&old);
	const bool joined = join_masked();
	restore_signals(&old);
	errno = err;
	return joined;
}

/* A thread that died inside a section would be waited for until the host ends. */
static void reap_before_waiting(void)
{
	unsigned long old;

	block_signals(&old);
	pthread_mutex_lock(&rcu_registry_lock);
	reap();
	pthread_mutex_unlock(&rcu_registry_lock);
	restore_signals(&old);
}

bool urcu_guest_wait(void)
{
	if (is_foreign())
		return false;
	if (urcu_bp_reader && (urcu_bp_reader->ctr & URCU_BP_GP_CTR_NEST_MASK))
		return false;
	reap_before_waiting();
	guest_died = false;
	urcu_bp_synchronize_rcu();
	return !guest_died;
}

void urcu_guest_before_fork(void)
{
	unsigned long old;

	fork_locked = false;
	if (is_foreign())
		return;
	block_signals(&old);
	if (!try_for_a_while(&rcu_gp_lock, FORK_WAIT_MS)) {
		restore_signals(&old);
		return;
	}
	if (!try_for_a_while(&rcu_registry_lock, FORK_WAIT_MS)) {
		pthread_mutex_unlock(&rcu_gp_lock);
		restore_signals(&old);
		return;
	}
	memcpy(&saved_fork_signal_mask, &old, sizeof(old));
	fork_locked = true;
}

static void unlock_after_fork(void)
{
	unsigned long old;

	memcpy(&old, &saved_fork_signal_mask, sizeof(old));
	fork_locked = false;
	pthread_mutex_unlock(&rcu_registry_lock);
	pthread_mutex_unlock(&rcu_gp_lock);
	restore_signals(&old);
}

void urcu_guest_after_fork_parent(void)
{
	if (fork_locked)
		unlock_after_fork();
}

/* The child's one thread is this one: by its reader, as its number is another now. */
static void keep_own_reader(void)
{
	struct registry_chunk *chunk;

	cds_list_for_each_entry(chunk, &registry_arena.chunk_list, node) {
		struct urcu_bp_reader *const first = (void *)&chunk->data[0];
		const size_t n = chunk->data_len / sizeof(*first);

		for (size_t i = 0; i < n; i++)
			if (first[i].alloc && &first[i] != urcu_bp_reader)
				forget(chunk, &first[i]);
	}
	if (urcu_bp_reader)
		urcu_bp_reader->tid = pthread_self();
}

void urcu_guest_after_fork_child(void)
{
	if (!fork_locked)
		return;
	keep_own_reader();
	CMM_STORE_SHARED(guest.home, pid_now());
	unlock_after_fork();
}

size_t urcu_guest_readers(void)
{
	return CMM_LOAD_SHARED(guest.readers);
}
