/* SPDX-License-Identifier: Apache-2.0 */
/* A free list without a lock over chunks that stay. */
#include "shim/pool.h"

#include <errno.h>
#include <sys/mman.h>

static _Atomic uint32_t *next_of(const struct pool *p, uint32_t number)
{
	return pool_at(p, number);
}

bool pool_ready(struct pool *p, uint32_t number)
{
	const uint32_t chunk = number >> p->bits;
	const size_t bytes = (size_t) p->size << p->bits;
	char *none = NULL;

	if (chunk >= p->n_chunks)
		return false;
	if (atomic_load_explicit(&p->chunks[chunk], memory_order_acquire) != NULL)
		return true;

	const int saved = errno;
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = saved;
	if (map == MAP_FAILED)
		return false;
	/* Release: zero-filled before anybody finds it. */
	if (!atomic_compare_exchange_strong_explicit(&p->chunks[chunk], &none, map,
						     memory_order_acq_rel, memory_order_relaxed))
		(void) munmap(map, bytes);
	return true;
}

bool pool_take(struct pool *p, uint32_t *ret_number)
{
	uint64_t head = atomic_load_explicit(&p->free_head, memory_order_acquire);

	while ((uint32_t) head != 0) {
		const uint32_t number = (uint32_t) head - 1;
		/* May be stale when another thread took it; the tag makes us see that. */
		const uint32_t next =
			atomic_load_explicit(next_of(p, number), memory_order_relaxed);
		const uint64_t tag = (head >> 32) + 1;

		if (atomic_compare_exchange_weak_explicit(&p->free_head, &head, tag << 32 | next,
							  memory_order_acq_rel,
							  memory_order_acquire)) {
			*ret_number = number;
			return true;
		}
	}

	const uint32_t fresh = atomic_load_explicit(&p->handed_out, memory_order_relaxed);

	if (fresh >> p->bits >= p->n_chunks || !pool_ready(p, fresh))
		return false;
	*ret_number = atomic_fetch_add_explicit(&p->handed_out, 1, memory_order_acq_rel);
	return pool_ready(p, *ret_number);
}

void pool_give(struct pool *p, uint32_t number)
{
	uint64_t head = atomic_load_explicit(&p->free_head, memory_order_relaxed);

	do {
		atomic_store_explicit(next_of(p, number), (uint32_t) head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&p->free_head, &head,
							((head >> 32) + 1) << 32 | (number + 1),
							memory_order_acq_rel,
							memory_order_relaxed));
}

uint32_t pool_used(const struct pool *p)
{
	const uint32_t n = atomic_load_explicit(&p->handed_out, memory_order_acquire);
	const uint32_t most = p->n_chunks << p->bits;

	return n < most ? n : most;
}
