/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places of one size that are never unmapped, named by number: whoever holds a stale number
 * finds another owner's place, never a hole, and tells by a generation that the place keeps.
 * Memory comes by mmap, a chunk at a time, as places are first used.
 */
#ifndef SHIM_POOL_H
#define SHIM_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool {
	_Atomic(char *) *chunks; /* n_chunks of them, zero-filled */
	uint32_t n_chunks;
	uint32_t bits;           /* a chunk has 2^bits places */
	uint32_t size;           /* of a place; its first word is the pool's while it is free */
	_Atomic uint32_t handed_out; /* places that were ever in use */
	_Atomic uint64_t free_head;  /* `tag:32 | 1 + number:32`; the tag defeats ABA */
};

#define POOL(table, of, chunk_bits)                                                                  \
	{                                                                                          \
		.chunks = (table), .n_chunks = sizeof(table) / sizeof((table)[0]),                 \
		.bits = (chunk_bits), .size = sizeof(of)                                        \
	}

/*
 * pool_take - a free place; zero-filled when it is new, else as its last owner left it but for
 * its first 32 bits
 * Returns false when there is no memory or no number left.
 * Context of all: any thread, signal handlers too; lock-free; errno kept.
 */
bool pool_take(struct pool *p, uint32_t *ret_number);

/* pool_give - back; others may still look at it. */
void pool_give(struct pool *p, uint32_t number);

/* pool_ready - have the place's memory mapped, for numbers that another pool hands out */
bool pool_ready(struct pool *p, uint32_t number);

/* pool_at - the place; its memory is mapped: the number was handed out */
static inline void *pool_at(const struct pool *p, uint32_t number)
{
	/* Acquire: the chunk was mapped before it was published. */
	return atomic_load_explicit(&p->chunks[number >> p->bits], memory_order_acquire) +
	       (size_t) (number & ((1u << p->bits) - 1)) * p->size;
}

/* pool_used - numbers below this were handed out at some time */
uint32_t pool_used(const struct pool *p);

#endif
