/* SPDX-License-Identifier: Apache-2.0 */
/* A two-level table from descriptor to word, grown by mmap and never shrunk. */
#include "shim/fds.h"

#include <errno.h>
#include <sys/mman.h>

_Atomic(_Atomic fds_word *) fds_pages[FDS_PAGES];

static _Atomic fds_word *page_make(unsigned page)
{
	const int saved = errno;
	_Atomic fds_word *none = NULL;
	_Atomic fds_word *words = mmap(NULL, FDS_PAGE * sizeof(fds_word), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = saved;
	if (words == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong_explicit(&fds_pages[page], &none, words,
						    memory_order_acq_rel, memory_order_acquire))
		return words;
	(void) munmap(words, FDS_PAGE * sizeof(fds_word));
	return none; /* another thread's page */
}

bool fds_swap(int fd, fds_word seen, fds_word next)
{
	const unsigned page = (unsigned) fd >> FDS_PAGE_BITS;

	if (page >= FDS_PAGES)
		return false;

	_Atomic fds_word *words = atomic_load_explicit(&fds_pages[page], memory_order_acquire);

	if (words == NULL)
		words = next != 0 ? page_make(page) : NULL;
	if (words == NULL)
		return false;
	/* Release: pairs with fds_get(). */
	return atomic_compare_exchange_strong_explicit(&words[(unsigned) fd & (FDS_PAGE - 1)],
						       &seen, next, memory_order_acq_rel,
						       memory_order_relaxed);
}

int fds_next(unsigned fd, unsigned last)
{
	while (fd <= last && fd >> FDS_PAGE_BITS < FDS_PAGES) {
		const _Atomic fds_word *words = atomic_load_explicit(
			&fds_pages[fd >> FDS_PAGE_BITS], memory_order_acquire);

		if (words == NULL) {
			fd = ((fd >> FDS_PAGE_BITS) + 1) << FDS_PAGE_BITS;
			continue;
		}
		if (atomic_load_explicit(&words[fd & (FDS_PAGE - 1)], memory_order_relaxed) != 0)
			return (int) fd;
		fd++;
	}
	return -1;
}
