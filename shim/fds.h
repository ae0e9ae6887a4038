/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What we know of each descriptor: one word, 0 for "nothing". Pages come by mmap when a
 * descriptor of theirs is first tracked and stay; a descriptor that no page covers costs a
 * load and a jump.
 *
 * The table may be out of date: libc closes some descriptors without us. So each call that
 * hands a descriptor out resets its word, and streams check the socket before they judge.
 */
#ifndef SHIM_FDS_H
#define SHIM_FDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FDS_PAGE_BITS 10
#define FDS_PAGE      (1u << FDS_PAGE_BITS)
#define FDS_PAGES     1024 /* descriptors from 2^20 (Linux' default nr_open) on are not tracked */

typedef uint64_t fds_word; /* see stream.h; 0: not tracked */

extern _Atomic(_Atomic fds_word *) fds_pages[FDS_PAGES];

/*
 * fds_get - the word of @fd, any int
 * Context: any thread, signal handlers too; two loads; errno kept.
 */
static inline fds_word fds_get(int fd)
{
	const unsigned page = (unsigned) fd >> FDS_PAGE_BITS;

	if (__builtin_expect(page >= FDS_PAGES, 0))
		return 0;

	/* Acquire: the page was zero-filled before it was published. */
	_Atomic fds_word *words = atomic_load_explicit(&fds_pages[page], memory_order_acquire);

	if (words == NULL)
		return 0;
	/* Acquire: the stream was opened before its word was set. Pairs with fds_swap(). */
	return atomic_load_explicit(&words[(unsigned) fd & (FDS_PAGE - 1)], memory_order_acquire);
}

/*
 * fds_swap - put @next in place of @seen
 * Returns false when the word was another, or no page could be had.
 * Context: as fds_get(); may mmap.
 */
bool fds_swap(int fd, fds_word seen, fds_word next);

/*
 * fds_next - the first tracked descriptor from @fd to @last, or -1
 * Work is bounded by the pages that exist, however large @last is.
 */
int fds_next(unsigned fd, unsigned last);

#endif
