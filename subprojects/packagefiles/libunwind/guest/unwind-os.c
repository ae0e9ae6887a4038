/* SPDX-License-Identifier: Apache-2.0 */
/* libunwind's Los-linux.c for x86_64, whose one abort() follows a sigreturn. */
#undef abort
#define abort() __builtin_unreachable()

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include "Gos-linux.c"
