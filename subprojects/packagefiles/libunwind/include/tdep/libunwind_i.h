/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for libunwind's choice of architecture. aarch64's local dwarf_get() reads
 * wherever a damaged frame points; here it asks first, as x86_64's does.
 */
#ifdef __aarch64__

#define dwarf_get dwarf_get_unchecked
#include "tdep-aarch64/libunwind_i.h"
#undef dwarf_get

static inline int dwarf_get(struct dwarf_cursor *c, dwarf_loc_t loc, unw_word_t *val)
{
	if (DWARF_IS_NULL_LOC(loc))
		return -UNW_EBADREG;
	return c->as->acc.access_mem(c->as, DWARF_GET_LOC(loc), val, 0, c->as_arg);
}

#else
#include "tdep-x86_64/libunwind_i.h"
#endif
