/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header blocks of one direction of an HTTP/2 connection (RFC 7541), read by nghttp2's
 * inflater in memory that the caller gives; and literals to add to a block.
 *
 * Of that memory the dynamic table takes what it holds: 88 bytes for each entry, and for a name
 * or value of its own 49 and its length, of one in Huffman code twice the length of that. A table
 * of 4096 bytes is 26 KiB when its entries are empty and 12 KiB in ordinary traffic; code made
 * for it can reach 31. The literal that is being read takes the same for a while: in 48 KiB,
 * beside the first of these, values of 16 KiB in plain text have room.
 */
#ifndef CORE_HPACK_H
#define CORE_HPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap;

#define HPACK_ENTRY    32   /* what a field counts beside its name and value (RFC 9113, 6.5.2) */
#define HPACK_TABLE    4096 /* size of the table unless SETTINGS say otherwise */
#define HPACK_SIZE_MIN 2048 /* memory for an inflater, its table still empty */

enum hpack_said {
	HPACK_MORE,    /* every byte was taken */
	HPACK_FIELD,   /* here is one */
	HPACK_BAD,     /* no header block, or not one of this table: no way on */
	HPACK_NO_ROOM, /* the memory does not suffice: no way on */
};

/* Borrowed until the next call. */
struct hpack_field {
	const char *name, *value;
	size_t name_len, value_len;
};

struct hpack {
	struct heap *heap;
	void *inflater; /* NULL: none, every answer is HPACK_NO_ROOM */
};

/*
 * hpack_init - at the beginning of a connection
 * @memory: aligned to 8 bytes; borrowed until the direction is done with
 * @size:   of it; with less than HPACK_SIZE_MIN nothing can be read
 *
 * There is nothing to free: the memory is all there is.
 * Context of all here: one caller at a time; no lock; calls nothing that allocates; errno kept.
 */
void hpack_init(struct hpack *h, void *memory, size_t size);

/*
 * hpack_feed - the next bytes of a block, up to the end of its next field
 * @ret:      set with HPACK_FIELD
 * @ret_used: how many were taken; the caller calls again with the rest until HPACK_MORE
 */
enum hpack_said hpack_feed(struct hpack *h, const char *bytes, size_t n, struct hpack_field *ret,
			   size_t *ret_used);

/* hpack_end - the block is over: HPACK_MORE when it may be */
enum hpack_said hpack_end(struct hpack *h);

/*
 * hpack_limit - between two blocks: SETTINGS_HEADER_TABLE_SIZE is @size from here on
 * Where that is less than before, the next block has to begin with it, or is HPACK_BAD.
 */
void hpack_limit(struct hpack *h, uint32_t size);

/* Of the memory, the most that was ever in use. */
size_t hpack_touched(const struct hpack *h);

#endif
