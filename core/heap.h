/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of any size out of one block of memory that the caller gives: a small malloc with a
 * limit, for libraries that want one. Pieces that are let go join their neighbours; what was
 * never used lies at the end and is touched last.
 */
#ifndef CORE_HEAP_H
#define CORE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_SIZE_MAX (1u << 30)
#define HEAP_PIECE    8 /* what each piece takes beside its bytes; sizes are rounded up to it too */

/* Lies at the beginning of its memory. */
struct heap {
	_Alignas(8) uint32_t size; /* of the memory */
	uint32_t end;              /* the first byte that no piece has had, or has any more */
	uint32_t last;             /* size of the piece that ends there */
	uint32_t first;            /* of the list of free pieces; 0: none */
	uint32_t most;             /* the highest @end so far */
};

/*
 * heap_init - an empty heap in @memory
 * @memory: aligned to 8 bytes; borrowed for as long as the heap is used
 * @size:   of it; at least sizeof(struct heap), at most HEAP_SIZE_MAX
 *
 * Context of all here: one caller at a time; no lock; errno kept.
 */
struct heap *heap_init(void *memory, size_t size);

/* heap_take - @n bytes, aligned to 8; NULL when there is no room */
void *heap_take(struct heap *h, size_t n);

/* heap_give - back; @at may be NULL */
void heap_give(struct heap *h, void *at);

/* heap_sound - for tests: do the pieces fit together? */
bool heap_sound(const struct heap *h);

#endif
