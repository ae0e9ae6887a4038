/* SPDX-License-Identifier: Apache-2.0 */
/* nghttp2's inflater on a heap within the caller's memory. */
#include "core/hpack.h"

#include <nghttp2/nghttp2.h>

#include "core/heap.h"

static void *take(size_t n, void *heap)
{
	return heap_take(heap, n);
}

static void give(void *at, void *heap)
{
	heap_give(heap, at);
}

/* The inflater asks for neither. */
static void *no_calloc(size_t n, size_t size, void *heap)
{
	(void) n;
	(void) size;
	(void) heap;
	return NULL;
}

static void *no_realloc(void *at, size_t size, void *heap)
{
	(void) at;
	(void) size;
	(void) heap;
	return NULL;
}

static nghttp2_hd_inflater *inflater_new(struct heap *heap)
{
	nghttp2_hd_inflater *inflater;
	nghttp2_mem *mem = heap_take(heap, sizeof(*mem)); /* nghttp2 keeps the address */

	if (!mem)
		return NULL;
	*mem = (nghttp2_mem){
		.mem_user_data = heap,
		.malloc = take,
		.free = give,
		.calloc = no_calloc,
		.realloc = no_realloc,
	};
	return nghttp2_hd_inflate_new2(&inflater, mem) == 0 ? inflater : NULL;
}

void hpack_init(struct hpack *h, void *memory, size_t size)
{
	*h = (struct hpack) { 0 };
	if (size < HPACK_SIZE_MIN)
		return;
	h->heap = heap_init(memory, size < HEAP_SIZE_MAX ? size : HEAP_SIZE_MAX);
	h->inflater = inflater_new(h->heap);
}

static enum hpack_said inflate(struct hpack *h, const char *bytes, size_t n, bool last,
			       struct hpack_field *ret, size_t *ret_used)
{
	nghttp2_nv nv;
	int flags;

	if (!h->inflater)
		return HPACK_NO_ROOM;

	const ssize_t used =
		nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, (const uint8_t *) bytes, n, last);

	if (used < 0)
		return used == NGHTTP2_ERR_NOMEM ? HPACK_NO_ROOM : HPACK_BAD;
	*ret_used = (size_t) used;
	if (!(flags & NGHTTP2_HD_INFLATE_EMIT))
		return HPACK_MORE;
	*ret = (struct hpack_field) {
		.name = (const char *) nv.name,
		.name_len = nv.namelen,
		.value = (const char *) nv.value,
		.value_len = nv.valuelen,
	};
	return HPACK_FIELD;
}

enum hpack_said hpack_feed(struct hpack *h, const char *bytes, size_t n, struct hpack_field *ret,
			   size_t *ret_used)
{
	*ret_used = 0;
	if (n == 0)
		return HPACK_MORE;
	return inflate(h, bytes, n, false, ret, ret_used);
}

enum hpack_said hpack_end(struct hpack *h)
{
	struct hpack_field none;
	size_t used;
	const enum hpack_said said = inflate(h, "", 0, true, &none, &used);

	if (said == HPACK_MORE)
		(void) nghttp2_hd_inflate_end_headers(h->inflater);
	return said;
}

void hpack_limit(struct hpack *h, uint32_t size)
{
	if (h->inflater)
		(void) nghttp2_hd_inflate_change_table_size(h->inflater, size);
}

size_t hpack_touched(const struct hpack *h)
{
	return h->heap ? h->heap->most : 0;
}
