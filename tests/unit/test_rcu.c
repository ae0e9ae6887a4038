/* SPDX-License-Identifier: Apache-2.0 */
/* core/rcu: readers that come, go, fork and fail; grace periods; what a guest must not take. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rcu.h"

/* A sanitizer keeps pages and a thread key of its own. */
#if defined(RCU_TSAN) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static atomic_int keys_taken;

#ifndef SANITIZED
/* Stands before libc's: our library is linked into this program, so its calls come here. */
int pthread_key_create(pthread_key_t *key, void (*destructor)(void *));
int __pthread_key_create(pthread_key_t *key, void (*destructor)(void *));

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
	atomic_fetch_add(&keys_taken, 1);
	return __pthread_key_create(key, destructor);
}
#endif

/* qemu-user has no forks of threads, raw clones or address space limits: see cross-aarch64. */
__attribute__((unused)) static bool emulated(void)
{
	if (getenv("TEST_EMULATED"))
		print_message("# left out under qemu-user\n");
	return getenv("TEST_EMULATED");
}

static void *visit(void *unused)
{
	(void)unused;
	if (!rcu_enter())
		return NULL;
	rcu_leave();
	return &keys_taken; /* anything but NULL */
}

/* In a thread of its own, which has never been a reader. */
__attribute__((unused)) /* where TSan forbids forks */
static bool newcomer_enters(void)
{
	pthread_t thread;
	void *entered = NULL;

	if (pthread_create(&thread, NULL, visit, NULL))
		abort();
	pthread_join(thread, &entered);
	return entered;
}

static void sections_nest_and_keep_errno(void **state)
{
	(void)state;
	errno = E2BIG;
	assert_true(rcu_enter());
	assert_true(rcu_enter());
	rcu_leave();
	rcu_leave();
	assert_true(rcu_wait_blocking());
	assert_int_equal(errno, E2BIG);
}

static void wait_inside_a_section_is_refused(void **state)
{
	(void)state;
	assert_true(rcu_enter());
	assert_false(rcu_wait_blocking());
	rcu_leave();
	assert_true(rcu_wait_blocking());
}

struct box {
	int value; /* 1 while published, 0 once nobody reads it; plain: the wait orders it */
};

static struct box *shelf;
static atomic_bool done;
static atomic_int torn, looks;

static void *look(void *unused)
{
	(void)unused;
	while (!atomic_load(&done)) {
		if (!rcu_enter())
			continue;
		const struct box *box = rcu_read(shelf);

		if (box->value != 1)
			atomic_fetch_add(&torn, 1);
		rcu_leave();
		atomic_fetch_add(&looks, 1);
	}
	return NULL;
}

static void readers_never_see_what_was_freed(void **state)
{
	static struct box boxes[2] = { { 1 } };
	pthread_t threads[2];

	(void)state;
	rcu_publish(shelf, &boxes[0]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look, NULL), 0);
	for (int i = 1; i <= 400 || atomic_load(&looks) < 1000; i++) {
		struct box *const next = &boxes[i % 2], *const prev = &boxes[!(i % 2)];

		next->value = 1;
		rcu_publish(shelf, next);
		assert_true(rcu_wait_blocking());
		prev->value = 0;
	}
	atomic_store(&done, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&torn), 0);
}

#ifdef AGENTSHIM_PRIVATE_URCU

static void *churn(void *unused)
{
	if (!visit(unused))
		abort();
	return NULL;
}

static long resident_pages(void)
{
	long pages = -1;
	FILE *statm = fopen("/proc/self/statm", "re");

	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%*d %ld", &pages), 1);
	fclose(statm);
	return pages;
}

/* No key's destructor tells of a thread's end, and yet nothing piles up. */
static void churn_of_5000_threads_leaves_few_readers(void **state)
{
	pthread_t thread;
	size_t most = 0;
	long pages_at_500 = 0;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
		pthread_join(thread, NULL);
		if (urcu_guest_readers() > most)
			most = urcu_guest_readers();
		if (i == 500)
			pages_at_500 = resident_pages();
	}
	print_message("# at most %zu readers, %ld pages more\n", most,
		      resident_pages() - pages_at_500);
	assert_true(most <= 128);
#ifndef SANITIZED
	assert_true(emulated() || resident_pages() - pages_at_500 < 64);
#endif
}

static void busy_registry_is_no_entry(void **state)
{
	(void)state;
	rcu_before_fork(); /* holds what join tries */
	const bool entered = newcomer_enters();

	rcu_after_fork_parent();
	assert_false(entered);
	assert_true(newcomer_enters());
}

static void *die_inside(void *unused)
{
	(void)unused;
	if (!rcu_enter())
		abort();
	pthread_exit(NULL); /* as a handler's siglongjmp or a cancellation would */
}

static void thread_that_died_inside_is_not_waited_for(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, die_inside, NULL), 0);
	pthread_join(thread, NULL);
	assert_true(rcu_wait_blocking());
}

#ifndef SANITIZED
static void takes_no_key(void **state)
{
	(void)state;
	assert_int_equal(atomic_load(&keys_taken), 0);
}
#endif

#endif

#ifndef RCU_TSAN

/* Runs story in a child, so that it may use up, break or block what it likes. */
static int in_child(int (*story)(void))
{
	int status;
	const pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		alarm(20); /* a last resort: SIGALRM kills */
		_exit(story());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		print_message("# child died of signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void *stay_inside(void *pipes)
{
	int *const fds = pipes;
	char byte;

	if (!rcu_enter())
		abort();
	if (write(fds[1], "", 1) != 1 || read(fds[2], &byte, 1) != 1)
		abort();
	rcu_leave();
	return NULL;
}

static int wait_and_read(void)
{
	if (!rcu_wait_blocking())
		return 1;
	return newcomer_enters() && rcu_enter() ? 0 : 2;
}

/* T43: the child has no thread to end the parent's section. */
static void child_waits_although_a_parents_thread_was_inside(void **state)
{
	int pipes[4];
	pthread_t thread;
	char byte;

	(void)state;
	if (emulated())
		return;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	int ends[3] = { pipes[0], pipes[1], pipes[2] };

	assert_int_equal(pthread_create(&thread, NULL, stay_inside, ends), 0);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	assert_int_equal(in_child(wait_and_read), 0);
	assert_int_equal(write(pipes[3], "", 1), 1);
	pthread_join(thread, NULL);
	assert_true(rcu_wait_blocking());
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
}

static int fork_again(void)
{
	return in_child(wait_and_read);
}

static void grandchild_waits_too(void **state)
{
	(void)state;
	if (emulated())
		return;
	assert_int_equal(in_child(fork_again), 0);
}

static void child_forked_behind_atfork_does_not_wait(void **state)
{
	int status;

	(void)state;
	if (emulated())
		return;
	const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	assert_true(child >= 0);
	if (!child)
		_exit(rcu_wait_blocking() ? 1 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(rcu_wait_blocking());
}

#ifdef AGENTSHIM_PRIVATE_URCU

static int newcomer_without_memory(void)
{
	const struct rlimit none = { .rlim_cur = 1, .rlim_max = RLIM_INFINITY };
	struct rlimit before;

	getrlimit(RLIMIT_AS, &before);
	if (setrlimit(RLIMIT_AS, &none))
		return 1;
	errno = E2BIG;
	if (rcu_enter())
		return 2;
	if (errno != E2BIG)
		return 3;
	setrlimit(RLIMIT_AS, &before);
	return rcu_enter() ? 0 : 4;
}

static void no_memory_is_no_entry(void **state)
{
	(void)state;
	if (emulated())
		return;
	assert_int_equal(in_child(newcomer_without_memory), 0);
}

static void *raw_child_joins(void *refused)
{
	int status;
	const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!child)
		_exit(rcu_enter() ? 1 : 0);
	*(bool *)refused = waitpid(child, &status, 0) == child && status == 0;
	return NULL;
}

static void child_forked_behind_atfork_does_not_join(void **state)
{
	pthread_t thread;
	bool refused = false;

	(void)state;
	if (emulated())
		return;
	/* From a thread that is no reader yet: a reader is inherited and may go on. */
	assert_int_equal(pthread_create(&thread, NULL, raw_child_joins, &refused), 0);
	pthread_join(thread, NULL);
	assert_true(refused);
}

/* The forker's own section keeps a waiting writer waiting: fork must not wait for it. */
static void *wait_forever(void *unused)
{
	(void)unused;
	if (!rcu_wait_blocking())
		abort();
	return NULL;
}

static int refuses(void)
{
	return rcu_wait_blocking() || newcomer_enters() ? 1 : 0;
}

static void fork_inside_a_section_gives_up_on_the_child(void **state)
{
	pthread_t writer;

	(void)state;
	if (emulated())
		return;
	assert_true(rcu_enter());
	assert_int_equal(pthread_create(&writer, NULL, wait_forever, NULL), 0);
	/* The phase turns once the writer holds its lock and sees no older reader. */
	while (!(urcu_bp_gp.ctr & URCU_BP_GP_CTR_PHASE) ==
	       !(*(unsigned long *)(void *)urcu_bp_reader & URCU_BP_GP_CTR_PHASE))
		sched_yield();
	assert_int_equal(in_child(refuses), 0);
	rcu_leave();
	pthread_join(writer, NULL);
	assert_true(rcu_wait_blocking());
}

#endif

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#if defined(AGENTSHIM_PRIVATE_URCU) && !defined(RCU_TSAN)
		cmocka_unit_test(no_memory_is_no_entry), /* first: nobody has joined */
#endif
		cmocka_unit_test(sections_nest_and_keep_errno),
		cmocka_unit_test(wait_inside_a_section_is_refused),
		cmocka_unit_test(readers_never_see_what_was_freed),
#ifdef AGENTSHIM_PRIVATE_URCU
		cmocka_unit_test(churn_of_5000_threads_leaves_few_readers),
		cmocka_unit_test(busy_registry_is_no_entry),
		cmocka_unit_test(thread_that_died_inside_is_not_waited_for),
#endif
#ifndef RCU_TSAN /* which ends children of a process with threads */
		cmocka_unit_test(child_waits_although_a_parents_thread_was_inside),
		cmocka_unit_test(grandchild_waits_too),
		cmocka_unit_test(child_forked_behind_atfork_does_not_wait),
#ifdef AGENTSHIM_PRIVATE_URCU
		cmocka_unit_test(child_forked_behind_atfork_does_not_join),
		cmocka_unit_test(fork_inside_a_section_gives_up_on_the_child),
#endif
#endif
#if defined(AGENTSHIM_PRIVATE_URCU) && !defined(SANITIZED)
		cmocka_unit_test(takes_no_key),
#endif
	};

	pthread_atfork(rcu_before_fork, rcu_after_fork_parent, rcu_after_fork_child);
	return cmocka_run_group_tests_name("rcu", tests, NULL, NULL);
}
