/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwinding one's own thread from within somebody else's process: no descriptor, no
 * loader lock, no malloc, no thread key, no C++ exceptions, no symbol names.
 */
#ifndef UNWIND_GUEST_H
#define UNWIND_GUEST_H

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <stdbool.h>
#include <stdint.h>

#ifdef __x86_64__
/* Its assembler says nothing of visibility: said here, the copy stays private. */
extern int unw_getcontext(unw_context_t *context) __attribute__((visibility("hidden")));
#endif

/*
 * unwind_guest_able - can this process be unwound at all?
 *
 * False where the C library has no _dl_find_object (before glibc 2.35).
 * Context: any thread, signal handlers too; no lock.
 */
bool unwind_guest_able(void);

/*
 * unwind_guest_open - set a cursor on the frame that called unw_getcontext()
 * @cursor: then stepped by unw_step(), which checks each address before it reads there
 * @context: borrowed until the last step
 *
 * Returns 0 or a negative libunwind error.
 * Context: any thread, signal handlers too; one caller in the process at a time (libunwind's
 * pools and tables carry no lock here), from open to the last step; errno is changed.
 */
int unwind_guest_open(unw_cursor_t *cursor, unw_context_t *context);

/*
 * unwind_guest_pc - an address inside the instruction that the cursor's frame is executing
 *
 * A caller stands at its return address, which may be the next line's or the next
 * function's: one byte less is the call's. A frame that a signal interrupted is exact.
 * Returns 0 at the end of the stack. Context: as unwind_guest_open().
 */
uintptr_t unwind_guest_pc(const unw_cursor_t *cursor);

#endif
