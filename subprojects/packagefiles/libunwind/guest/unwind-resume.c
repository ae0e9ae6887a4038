/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for Lresume.c: a guest looks at frames and never returns into one. */
#define UNW_LOCAL_ONLY
#include "unwind_i.h"

#ifdef __aarch64__
#define local_resume aarch64_local_resume
#else
#define local_resume x86_64_local_resume
#endif

HIDDEN int local_resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
	return -UNW_EINVAL;
}
