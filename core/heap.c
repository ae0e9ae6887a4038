/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First fit over a list of free pieces, last freed first; boundary tags, so that neighbours
 * join at once. Places are offsets from the heap's beginning.
 */
#include "core/heap.h"

#include <assert.h>
#include <string.h>

#define USED 1u /* in @size: sizes are multiples of 8 */

/* Before each piece's bytes. */
struct tag {
	uint32_t size;   /* of the piece with its tag, and USED */
	uint32_t before; /* size of the piece in front of it; 0: it is the first */
};

/* In the bytes of a free one. */
struct links {
	uint32_t next, prev; /* 0: none */
};

_Static_assert(sizeof(struct tag) == HEAP_PIECE, "as the header says");
_Static_assert(sizeof(struct links) <= HEAP_PIECE, "the smallest piece holds the links");

#define START ((uint32_t) sizeof(struct heap))

static struct tag *tag_at(const struct heap *h, uint32_t at)
{
	return (struct tag *) ((char *) (uintptr_t) h + at);
}

static struct links *links_at(const struct heap *h, uint32_t at)
{
	return (struct links *) (tag_at(h, at) + 1);
}

struct heap *heap_init(void *memory, size_t size)
{
	struct heap *h = memory;

	assert(size >= sizeof(*h) && size <= HEAP_SIZE_MAX);
	*h = (struct heap) { .size = (uint32_t) size & ~7u, .end = START, .most = START };
	return h;
}

static void list_add(struct heap *h, uint32_t at)
{
	*links_at(h, at) = (struct links) { .next = h->first };
	if (h->first != 0)
		links_at(h, h->first)->prev = at;
	h->first = at;
}

static void list_remove(struct heap *h, uint32_t at)
{
	const struct links l = *links_at(h, at);

	if (l.prev != 0)
		links_at(h, l.prev)->next = l.next;
	else
		h->first = l.next;
	if (l.next != 0)
		links_at(h, l.next)->prev = l.prev;
}

/* The piece behind one of @size at @at has that in front of it; or the end has. */
static void tell_behind(struct heap *h, uint32_t at, uint32_t size)
{
	if (at + size == h->end)
		h->last = size;
	else
		tag_at(h, at + size)->before = size;
}

/* Takes @size bytes of a free piece; what is left over stays one. */
static void split(struct heap *h, uint32_t at, uint32_t size)
{
	struct tag *t = tag_at(h, at);
	const uint32_t rest = t->size - size;

	list_remove(h, at);
	if (rest >= 2 * HEAP_PIECE) {
		t->size = size;
		*tag_at(h, at + size) = (struct tag) { .size = rest, .before = size };
		tell_behind(h, at + size, rest);
		list_add(h, at + size);
	}
	t->size |= USED;
}

static void *extend(struct heap *h, uint32_t size)
{
	const uint32_t at = h->end;

	if (h->size < at || h->size - at < size)
		return NULL;
	*tag_at(h, at) = (struct tag) { .size = size | USED, .before = h->last };
	h->end = at + size;
	h->last = size;
	h->most = h->end > h->most ? h->end : h->most;
	return tag_at(h, at) + 1;
}

void *heap_take(struct heap *h, size_t n)
{
	if (n > h->size)
		return NULL;

	const uint32_t bytes = ((uint32_t) n + 7) & ~7u;
	const uint32_t size = HEAP_PIECE + (bytes > 0 ? bytes : HEAP_PIECE);

	for (uint32_t at = h->first; at != 0; at = links_at(h, at)->next) {
		if (tag_at(h, at)->size < size)
			continue;
		split(h, at, size);
		return tag_at(h, at) + 1;
	}
	return extend(h, size);
}

void heap_give(struct heap *h, void *bytes)
{
	if (!bytes)
		return;

	uint32_t at = (uint32_t) ((char *) bytes - (char *) h) - HEAP_PIECE;
	uint32_t size = tag_at(h, at)->size & ~USED;
	const uint32_t before = tag_at(h, at)->before, behind = at + size;

	if (before != 0 && !(tag_at(h, at - before)->size & USED)) {
		at -= before;
		size += before;
		list_remove(h, at);
	}
	if (behind != h->end && !(tag_at(h, behind)->size & USED)) {
		size += tag_at(h, behind)->size;
		list_remove(h, behind);
	}
	if (at + size == h->end) {
		h->end = at;
		h->last = tag_at(h, at)->before;
		return;
	}
	tag_at(h, at)->size = size;
	tell_behind(h, at, size);
	list_add(h, at);
}

bool heap_sound(const struct heap *h)
{
	uint32_t before = 0, n_free = 0, n_listed = 0;
	bool was_free = false;

	for (uint32_t at = START; at != h->end;) {
		const struct tag *t = tag_at(h, at);
		const uint32_t size = t->size & ~USED;
		const bool is_free = !(t->size & USED);

		if (t->before != before || size < 2 * HEAP_PIECE || size > h->end - at ||
		    (is_free && was_free))
			return false;
		n_free += is_free;
		was_free = is_free;
		before = size;
		at += size;
	}
	for (uint32_t at = h->first, prev = 0; at != 0 && n_listed <= n_free; n_listed++) {
		if (links_at(h, at)->prev != prev || (tag_at(h, at)->size & USED))
			return false;
		prev = at;
		at = links_at(h, at)->next;
	}
	return !was_free && h->last == before && n_listed == n_free && h->end <= h->most &&
	       h->most <= h->size;
}
