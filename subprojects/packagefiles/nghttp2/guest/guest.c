/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nghttp2's HPACK takes from the rest of nghttp2, without the rest: lib/nghttp2_mem.c's
 * calls by pointer, but for its malloc, and one function of lib/nghttp2_helper.c's.
 */
#include <string.h>

#include "nghttp2_helper.h"
#include "nghttp2_mem.h"

static void *no_malloc(size_t size, void *user_data)
{
	(void) size;
	(void) user_data;
	return NULL;
}

static void no_free(void *at, void *user_data)
{
	(void) at;
	(void) user_data;
}

static void *no_calloc(size_t n, size_t size, void *user_data)
{
	(void) n;
	(void) size;
	(void) user_data;
	return NULL;
}

static void *no_realloc(void *at, size_t size, void *user_data)
{
	(void) at;
	(void) size;
	(void) user_data;
	return NULL;
}

/* Callers bring their own memory; whoever forgets gets none. */
nghttp2_mem *nghttp2_mem_default(void)
{
	static nghttp2_mem none = { NULL, no_malloc, no_free, no_calloc, no_realloc };

	return &none;
}

void *nghttp2_mem_malloc(nghttp2_mem *mem, size_t size)
{
	return mem->malloc(size, mem->mem_user_data);
}

void nghttp2_mem_free(nghttp2_mem *mem, void *at)
{
	mem->free(at, mem->mem_user_data);
}

void nghttp2_mem_free2(nghttp2_free free_func, void *at, void *user_data)
{
	free_func(at, user_data);
}

void *nghttp2_mem_calloc(nghttp2_mem *mem, size_t n, size_t size)
{
	return mem->calloc(n, size, mem->mem_user_data);
}

void *nghttp2_mem_realloc(nghttp2_mem *mem, void *at, size_t size)
{
	return mem->realloc(at, size, mem->mem_user_data);
}

uint8_t *nghttp2_cpymem(uint8_t *to, const void *from, size_t n)
{
	if (n > 0)
		memcpy(to, from, n);
	return to + n;
}
