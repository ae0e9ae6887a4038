/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of large places. */
#include "shim/blob.h"

#include "shim/pool.h"

#define CHUNK_BITS 2
#define CHUNKS     256 /* a thousand at once, 16 MiB */

struct blob {
	char bytes[BLOB_SIZE];
};

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct blob, CHUNK_BITS);

char *blob_get(uint32_t *blob)
{
	uint32_t number;

	if (*blob == 0 && pool_take(&pool, &number))
		*blob = number + 1;
	return *blob != 0 ? blob_at(*blob) : NULL;
}

char *blob_at(uint32_t blob)
{
	return ((struct blob *) pool_at(&pool, blob - 1))->bytes;
}

void blob_give(uint32_t *blob)
{
	if (*blob != 0)
		pool_give(&pool, *blob - 1);
	*blob = 0;
}
