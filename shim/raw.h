/* SPDX-License-Identifier: Apache-2.0 */
/* System calls with libc's manners: for the time before its functions have been looked up. */
#ifndef SHIM_RAW_H
#define SHIM_RAW_H

#include <errno.h>
#include <sys/syscall.h>

#include "core/raw.h"

/* The kernel's answer as libc gives it: -1 and errno. */
static inline long raw_result(long rc)
{
	if ((unsigned long) rc > -4096UL) {
		errno = (int) -rc;
		return -1;
	}
	return rc;
}

#define RAW(n, a, b, c, d, e, f)                                                                   \
	raw_result(raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), (long) (e),    \
			       (long) (f)))

#endif
