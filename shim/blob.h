/* SPDX-License-Identifier: Apache-2.0 */
/* Large places for the few heads and contexts that need one, by number; 0 is none. */
#ifndef SHIM_BLOB_H
#define SHIM_BLOB_H

#include <stdint.h>

#define BLOB_SIZE 16384 /* a baggage of 8 KiB and a tracestate of its longest, together */

/*
 * blob_get - the bytes of *@blob, taken now when it is 0; NULL when there are none left
 * blob_at - those of @blob, not 0; maybe another owner's by now, never a hole
 * blob_give - back, when there is one; *@blob is 0 afterwards
 * Context: any thread, signal handlers too; lock-free; may mmap; errno kept.
 */
char *blob_get(uint32_t *blob);
char *blob_at(uint32_t blob);
void blob_give(uint32_t *blob);

#endif
