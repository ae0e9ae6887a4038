/* SPDX-License-Identifier: Apache-2.0 */
/* shim/stack: known chains of calls, through libraries, handlers, threads, forks and damage. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/stack.h"

#define FRAMES 64

/* Where the three functions below were called from, and what was captured beneath them. */
struct seen {
	uintptr_t callers[3];
	uintptr_t pcs[FRAMES];
	size_t n;
};

static _Thread_local struct seen seen;

#define STAYS_A_FRAME() __asm__ volatile("" ::: "memory")
#define CALLER()        ((uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)))

static __attribute__((noinline)) void inner(void)
{
	seen.callers[0] = CALLER();
	seen.n = stack_capture(seen.pcs, FRAMES);
	STAYS_A_FRAME();
}

static __attribute__((noinline)) void middle(void)
{
	seen.callers[1] = CALLER();
	inner();
	STAYS_A_FRAME();
}

static __attribute__((noinline)) void outer(void)
{
	seen.callers[2] = CALLER();
	middle();
	STAYS_A_FRAME();
}

static bool has_frame(uintptr_t caller)
{
	for (size_t i = 0; i < seen.n; i++)
		if (seen.pcs[i] == caller - 1)
			return true;
	return false;
}

static bool chain_is_whole(void)
{
	return seen.n > 4 && seen.pcs[1] == seen.callers[0] - 1 &&
	       seen.pcs[2] == seen.callers[1] - 1 && seen.pcs[3] == seen.callers[2] - 1;
}

/* qemu-user has no forks of threads and few signals a second: see cross-aarch64. */
static bool emulated(void)
{
	if (getenv("TEST_EMULATED"))
		print_message("# left out under qemu-user\n");
	return getenv("TEST_EMULATED");
}

static long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int count_descriptors(void)
{
	int n = 0;
	DIR *const dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* First, so that libunwind's beginnings are in it. */
static void takes_no_descriptor_and_keeps_errno(void **state)
{
	const int before = count_descriptors();

	(void)state;
	errno = E2BIG;
	const long start = now_ns();

	outer();
	assert_int_equal(errno, E2BIG);
	print_message("# cold: %ld us, %zu frames\n", (now_ns() - start) / 1000, seen.n);
	assert_true(seen.n > 4);
	assert_int_equal(count_descriptors(), before);

	const long again = now_ns();

	for (int i = 0; i < 200; i++)
		outer();
	print_message("# warm: %.1f us\n", (now_ns() - again) / 200e3);
}

static void names_the_callers_innermost_first(void **state)
{
	(void)state;
	outer();
	assert_true(chain_is_whole());
}

static void leaves_deeper_frames_out(void **state)
{
	uintptr_t pcs[2] = { 0, 0xdead };

	(void)state;
	assert_int_equal(stack_capture(pcs, 1), 1);
	assert_int_equal(pcs[1], 0xdead);
	assert_int_equal(stack_capture(pcs, 0), 0);
}

static void text_names_modules_and_offsets(void **state)
{
	char text[4096], exe[1024], expected[1200];
	Dl_info inner_info;

	(void)state;
	outer();
	const size_t used = stack_text(seen.pcs, seen.n, text, sizeof(text));
	const ssize_t length = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(length > 0);
	exe[length] = '\0';
	print_message("# %s\n", text);
	assert_int_equal(used, strlen(text));
	snprintf(expected, sizeof(expected), "0=%s;1=/", exe);
	assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
	assert_non_null(strstr(text, "libcmocka.so"));

	assert_int_not_equal(dladdr((void *)(uintptr_t)outer, &inner_info), 0);
	snprintf(expected, sizeof(expected), ",0+%jx,",
		 (uintmax_t)(seen.callers[0] - 1 - (uintptr_t)inner_info.dli_fbase));
	assert_non_null(strstr(text, expected));
}

static void text_is_cut_after_a_frame(void **state)
{
	char full[4096];

	(void)state;
	outer();
	const size_t used = stack_text(seen.pcs, seen.n, full, sizeof(full));
	const char *const frames = strchr(full, '|') + 1;
	size_t shortest = 0;

	for (size_t size = 0; size <= used + 1; size++) {
		char *const text = malloc(size + 1);

		text[size] = 'x';
		const size_t got = stack_text(seen.pcs, seen.n, text, size);

		assert_int_equal(text[size], 'x');
		assert_true(size ? got < size : got == 0);
		if (got) {
			const char *const cut = strchr(text, '|') + 1;
			const size_t n = strlen(cut);

			shortest = shortest ? shortest : got;
			assert_int_equal(text[got], '\0');
			assert_int_equal(strncmp(frames, cut, n), 0);
			assert_true(frames[n] == ',' || frames[n] == '\0');
		}
		free(text);
	}
	assert_true(shortest > 0 && shortest < used);
}

static void goes_through_a_loaded_library(void **state)
{
	char text[4096];

	(void)state;
	void *const library = dlopen(getenv("STACK_CALLEE"), RTLD_NOW);

	assert_non_null(library);
	void (*const pass)(void (*)(void)) =
		(void (*)(void (*)(void)))(uintptr_t)dlsym(library, "callee_pass");

	pass(outer);
	assert_true(chain_is_whole());
	stack_text(seen.pcs, seen.n, text, sizeof(text));
	assert_non_null(strstr(text, "stack-callee"));
	dlclose(library);

	outer(); /* what was learned about the library is not used for what comes in its place */
	assert_true(chain_is_whole());
	stack_text(seen.pcs, seen.n, text, sizeof(text));
	assert_null(strstr(text, "stack-callee"));
}

static void on_signal(int signal)
{
	(void)signal;
	outer();
}

static uintptr_t interrupted;

static __attribute__((noinline)) void interrupt_me(void)
{
	interrupted = CALLER();
	raise(SIGUSR1);
	STAYS_A_FRAME();
}

static void works_in_a_handler_and_past_it(void **state)
{
	const struct sigaction action = { .sa_handler = on_signal };

	(void)state;
	sigaction(SIGUSR1, &action, NULL);
	interrupt_me();
	assert_true(chain_is_whole());
	assert_true(has_frame(interrupted));
}

static void on_signal_unseen(int signal)
{
	const struct seen kept = seen;

	(void)signal;
	outer();
	seen = kept;
}

/* A handler may come in the middle of an unwind: it gets no frames, the other all. */
static void handler_inside_an_unwind_gets_nothing(void **state)
{
	const struct sigaction action = { .sa_handler = on_signal_unseen };
	const struct itimerspec often = { .it_interval.tv_nsec = 20000, .it_value.tv_nsec = 20000 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;

	(void)state;
	if (emulated())
		return;
	sigaction(SIGUSR1, &action, NULL);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	timer_settime(timer, 0, &often, NULL);
	for (int i = 0; i < 2000; i++) {
		uintptr_t pcs[FRAMES];

		assert_true(stack_capture(pcs, FRAMES) != 1);
	}
	timer_delete(timer);
	outer();
	assert_true(chain_is_whole());
}

static atomic_bool stop;

static void *unwind_until_stopped(void *unused)
{
	long whole = 0, none = 0;

	(void)unused;
	while (!atomic_load(&stop) || !whole) {
		outer();
		if (seen.n && !chain_is_whole())
			return &stop; /* anything but NULL: torn */
		*(seen.n ? &whole : &none) += 1;
	}
	return NULL;
}

static void two_threads_never_mix(void **state)
{
	pthread_t thread;
	void *torn;

	(void)state;
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, unwind_until_stopped, NULL), 0);
	for (int i = 0; i < 3000; i++) {
		outer();
		assert_true(seen.n == 0 || chain_is_whole());
	}
	atomic_store(&stop, true);
	pthread_join(thread, &torn);
	assert_null(torn);
}

static void child_of_a_fork_during_an_unwind_lives(void **state)
{
	pthread_t thread;
	int whole = 0;

	(void)state;
	if (emulated())
		return;
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, unwind_until_stopped, NULL), 0);
	for (int i = 0; i < 100; i++) {
		int status;
		const pid_t child = fork();

		assert_true(child >= 0);
		if (!child) {
			alarm(20); /* a last resort */
			outer();
			_exit(!seen.n ? 0 : chain_is_whole() ? 1 : 2);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		whole += WEXITSTATUS(status);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	print_message("# %d of 100 children could unwind\n", whole);
}

/* Machine code that a JIT might have written: it calls its argument and returns. */
static void run_generated(const void *code, size_t size)
{
	unsigned char *const page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	memcpy(page, code, size);
	__builtin___clear_cache((char *)page, (char *)page + size);
	assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_EXEC), 0);
	((void (*)(void (*)(void)))(uintptr_t)page)(outer);
	munmap(page, 4096);
}

static void code_without_a_module_is_a_question_mark(void **state)
{
#ifdef __x86_64__
	/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
#else
	/* stp x29,x30,[sp,#-16]!; mov x29,sp; blr x0; ldp x29,x30,[sp],#16; ret */
	static const unsigned code[] = { 0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd,
					 0xd65f03c0 };
#endif
	char text[4096];

	(void)state;
	run_generated(code, sizeof(code));
	stack_text(seen.pcs, seen.n, text, sizeof(text));
	assert_non_null(strstr(text, ",?+"));
}

/* The frame pointer leads nowhere: the unwinder must ask before it reads. */
static void damaged_frame_pointer_ends_the_stack(void **state)
{
#ifdef __x86_64__
	/* push %rbp; mov $0x7ffff008,%rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = { 0x55, 0x48, 0xc7, 0xc5, 0x08, 0xf0, 0xff,
					      0x7f, 0xff, 0xd7, 0x5d, 0xc3 };
#else
	/* stp x29,x30,[sp,#-16]!; mov x29,#0x1008; blr x0; ldp x29,x30,[sp],#16; ret */
	static const unsigned code[] = { 0xa9bf7bfd, 0xd282011d, 0xd63f0000, 0xa8c17bfd,
					 0xd65f03c0 };
#endif

	(void)state;
	run_generated(code, sizeof(code));
	assert_true(seen.n >= 4);
	assert_true(seen.n < FRAMES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_no_descriptor_and_keeps_errno),
		cmocka_unit_test(names_the_callers_innermost_first),
		cmocka_unit_test(leaves_deeper_frames_out),
		cmocka_unit_test(text_names_modules_and_offsets),
		cmocka_unit_test(text_is_cut_after_a_frame),
		cmocka_unit_test(goes_through_a_loaded_library),
		cmocka_unit_test(works_in_a_handler_and_past_it),
		cmocka_unit_test(handler_inside_an_unwind_gets_nothing),
		cmocka_unit_test(two_threads_never_mix),
		cmocka_unit_test(child_of_a_fork_during_an_unwind_lives),
		cmocka_unit_test(code_without_a_module_is_a_question_mark),
		cmocka_unit_test(damaged_frame_pointer_ends_the_stack),
	};

	return cmocka_run_group_tests_name("stack", tests, NULL, NULL);
}
