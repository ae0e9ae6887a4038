/* SPDX-License-Identifier: Apache-2.0 */
/* Which code called: the stack of the calling thread, as module and offset. */
#ifndef SHIM_STACK_H
#define SHIM_STACK_H

#include <stddef.h>
#include <stdint.h>

/*
 * stack_capture - the frames below the calling hook, innermost first
 * @pcs: one address per frame, inside the instruction that called (or was interrupted)
 * @max: room in pcs; deeper frames are left out
 *
 * The shim's own frames on top are skipped. One thread unwinds at a time and nobody waits:
 * the others get 0 frames, and so does for ever a child that was forked meanwhile, and a
 * process whose C library lacks _dl_find_object (before glibc 2.35) or whose shim was built
 * without libunwind. Tens of microseconds: for events, not for calls.
 *
 * Returns the number of frames written.
 * Context: any thread, signal handlers too; a trylock, no allocation but mmap, some 2 KiB of
 * stack; errno kept.
 */
size_t stack_capture(uintptr_t *pcs, size_t max);

/*
 * stack_text - frames as "0=/lib/libc.so.6;1=/usr/bin/app|1+1a2b,0+3f00"
 * @pcs:  what stack_capture() gave this thread; the hook has not returned since
 * @buf:  NUL-terminated, unless @size is 0
 * @size: of @buf; what does not fit is cut after a frame, the table then names fewer modules
 *
 * A table of modules, then a frame each: module and the address as the module's file counts
 * it (what addr2line and readelf take). Code in no module, as a JIT writes it, is "?+" and
 * the address. In a name, '%', ';', '|' and control bytes stand as %3B.
 *
 * Returns the length without the NUL, 0 when not one frame fits.
 * Context: as stack_capture(), without its lock.
 */
size_t stack_text(const uintptr_t *pcs, size_t n, char *buf, size_t size);

#endif
