/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the kernel answers EFAULT we must not die of it: what the program points at is asked
 * for before it is read ahead of the kernel. Not in a process under a filter (sandbox.h).
 */
#ifndef SHIM_READABLE_H
#define SHIM_READABLE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/raw.h"

#define READABLE_PAGE 4096u /* memory comes and goes by pages of this size at least */

/* From @at to the end of its page. */
static inline size_t readable_rest(const void *at)
{
	return READABLE_PAGE - ((uintptr_t) at & (READABLE_PAGE - 1));
}

/*
 * readable - may the @len bytes at @at be read?
 * rt_sigprocmask(2) reads eight bytes before it finds its first argument absurd: a tenth of
 * a microsecond for each page.
 * Context: any thread, signal handlers too; errno kept.
 */
static inline bool readable(const void *at, size_t len)
{
	uintptr_t from = (uintptr_t) at & ~(uintptr_t) 7;

	if (len > UINTPTR_MAX - (uintptr_t) at)
		return false;
	while (from < (uintptr_t) at + len) {
		/* NULL would mean none to rt_sigprocmask(2). */
		if (from == 0 ||
		    raw_syscall(SYS_rt_sigprocmask, -1, (long) from, 0, 8, 0, 0) == -EFAULT)
			return false;
		from = (from | (READABLE_PAGE - 1)) + 1;
	}
	return true;
}

#endif
