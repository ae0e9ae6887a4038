/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlopen(3) without RTLD_DEEPBIND, for programs that load with it what calls the functions that
 * we stand in front of: such objects bind past every preload. PHP loads its extensions so, curl's
 * among them.
 *
 * libc finds the caller's RUNPATH, $ORIGIN and namespace by the return address, so the hook is a
 * jump: nothing of ours is on the stack when libc looks.
 */
#include "shim/dlopen.h"

#include <dlfcn.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/config.h"
#include "shim/library.h"
#include "shim/life.h"

static bool strips;

/* Is @name among the globs of a list with commas? */
static bool listed(const char *list, const char *name)
{
	char glob[CONFIG_PATH_SIZE];

	while (*list != '\0') {
		const size_t n = strcspn(list, ", ");

		if (n > 0 && n < sizeof(glob)) {
			memcpy(glob, list, n);
			glob[n] = '\0';
			if (fnmatch(glob, name, 0) == 0)
				return true;
		}
		list += n + strspn(list + n, ", ");
	}
	return false;
}

void dlopen_load(const char *exe)
{
	const char *slash = strrchr(exe, '/');

	strips = listed(settings->deepbind, slash != NULL ? slash + 1 : exe);
}

#if defined(__x86_64__) || defined(__aarch64__)

struct dlopen_call {
	library_function *next;
	long flags;
};

/* A libc that has none: as when no file is found. */
static void *no_dlopen(const char *file, int flags)
{
	(void) file;
	(void) flags;
	return NULL;
}

/* Where to jump to, and with which flags. Before our constructor, too. */
__attribute__((visibility("hidden"), used)) struct dlopen_call dlopen_call(int flags);

struct dlopen_call dlopen_call(int flags)
{
	static _Atomic(library_function *) next;
	library_function *f = atomic_load_explicit(&next, memory_order_relaxed);

	/* dlsym(3) may allocate, and an allocator may be the one that calls. */
	if (f == NULL) {
		f = library_behind_us("dlopen");
		if (f == NULL)
			f = (library_function *) no_dlopen;
		atomic_store_explicit(&next, f, memory_order_relaxed);
	}
	if (armed && strips)
		flags &= ~RTLD_DEEPBIND;
	return (struct dlopen_call) { f, flags };
}

#ifdef __x86_64__
__asm__(".text\n"
	".p2align 4\n"
	".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	movl %esi, %edi\n"
	"	call dlopen_call\n"
	"	movl %edx, %esi\n"
	"	popq %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	jmp *%rax\n"
	"	.cfi_endproc\n"
	".size dlopen, . - dlopen\n");
#else
__asm__(".text\n"
	".p2align 4\n"
	".globl dlopen\n"
	".type dlopen, %function\n"
	"dlopen:\n"
	"	.cfi_startproc\n"
	"	hint #34\n"
	"	stp x29, x30, [sp, #-32]!\n"
	"	.cfi_adjust_cfa_offset 32\n"
	"	str x0, [sp, #16]\n"
	"	mov w0, w1\n"
	"	bl dlopen_call\n"
	"	mov x16, x0\n"
	"	ldr x0, [sp, #16]\n"
	"	ldp x29, x30, [sp], #32\n"
	"	.cfi_adjust_cfa_offset -32\n"
	"	br x16\n"
	"	.cfi_endproc\n"
	".size dlopen, . - dlopen\n");
#endif

#endif
