/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of one block of memory: they do not overlap, and all of it comes back. */
#include "core/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <string.h>

#define PIECES 64

static struct heap *heap_of(size_t size)
{
	return heap_init(malloc(size), size); /* of its exact size, for sanitizers */
}

static void a_piece_is_aligned_and_counted(void **state)
{
	struct heap *h = heap_of(sizeof(struct heap) + 64);
	char *a = heap_take(h, 1), *b = heap_take(h, 8);

	(void) state;
	assert_non_null(a);
	assert_int_equal((uintptr_t) a % 8, 0);
	assert_int_equal(b - a, 8 + HEAP_PIECE);
	assert_true(heap_sound(h));
	free(h);
}

static void nothing_is_given_beyond_the_end(void **state)
{
	struct heap *h = heap_of(sizeof(struct heap) + 4 + 64);

	(void) state;
	assert_null(heap_take(h, 64));
	assert_null(heap_take(h, SIZE_MAX));
	assert_null(heap_take(h, UINT32_MAX));
	assert_null(heap_take(h, UINT32_MAX - HEAP_PIECE));

	char *all = heap_take(h, 56);

	assert_non_null(all);
	memset(all, 1, 56);
	assert_null(heap_take(h, 0));
	heap_give(h, all);
	assert_ptr_equal(heap_take(h, 56), all);
	assert_true(heap_sound(h));
	free(h);
}

static void an_empty_one_gives_nothing(void **state)
{
	struct heap *h = heap_of(sizeof(struct heap));

	(void) state;
	assert_null(heap_take(h, 0));
	heap_give(h, NULL);
	assert_true(heap_sound(h));
	free(h);
}

/* In each order that three of them can be given back. */
static void neighbours_join(void **state)
{
	static const uint8_t orders[][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct heap *h = heap_of(sizeof(struct heap) + 4 * (24 + HEAP_PIECE));
		char *pieces[3];

		for (size_t j = 0; j < 3; j++)
			pieces[j] = heap_take(h, 24);
		char *guard = heap_take(h, 24);
		for (size_t j = 0; j < 3; j++) {
			heap_give(h, pieces[orders[i][j]]);
			assert_true(heap_sound(h));
		}
		assert_ptr_equal(heap_take(h, 3 * 24 + 2 * HEAP_PIECE), pieces[0]);
		assert_null(heap_take(h, 0));
		heap_give(h, guard);
		heap_give(h, pieces[0]);
		assert_int_equal(h->first, 0); /* all of it is behind the end again */
		assert_int_equal(h->last, 0);
		free(h);
	}
}

static uint32_t draw(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % below;
}

static void check_filled(const char *piece, size_t n, int with)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal((unsigned char) piece[i], with);
}

/* What is written to a piece stays there until it is given back. */
static void pieces_keep_apart(void **state)
{
	struct heap *h = heap_of(16384);
	char *pieces[PIECES] = { NULL };
	size_t sizes[PIECES] = { 0 };
	uint32_t seed = 1, refused = 0;

	(void) state;
	for (int i = 0; i < 100000; i++) {
		const uint32_t which = draw(&seed, PIECES);

		if (pieces[which]) {
			check_filled(pieces[which], sizes[which], (int) which);
			heap_give(h, pieces[which]);
			pieces[which] = NULL;
		} else {
			sizes[which] = draw(&seed, draw(&seed, 8) == 0 ? 2048 : 128);
			pieces[which] = heap_take(h, sizes[which]);
			refused += !pieces[which];
			if (pieces[which])
				memset(pieces[which], (int) which, sizes[which]);
		}
		if (i % 64 == 0)
			assert_true(heap_sound(h));
	}
	assert_in_range(refused, 1, 50000);
	for (size_t i = 0; i < PIECES; i++)
		heap_give(h, pieces[i]);
	assert_true(heap_sound(h));
	assert_int_equal(h->first, 0);
	assert_int_equal(h->last, 0);
	free(h);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_piece_is_aligned_and_counted),
		cmocka_unit_test(nothing_is_given_beyond_the_end),
		cmocka_unit_test(an_empty_one_gives_nothing),
		cmocka_unit_test(neighbours_join),
		cmocka_unit_test(pieces_keep_apart),
	};

	return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
