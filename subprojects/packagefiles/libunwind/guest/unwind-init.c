/* SPDX-License-Identifier: Apache-2.0 */
/* libunwind's Linit.c, and a way to empty its list of pages found readable. */
#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include "Ginit.c"

void unwind_guest_forget_readable(void);

void unwind_guest_forget_readable(void)
{
	for (int i = 0; i < NLGA; i++)
		atomic_store_explicit(&last_good_addr[i], 0, memory_order_relaxed);
}
