/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking the text of a setting: pairs of pointers into the caller's string, so nothing is
 * copied but what is kept, and no length of input costs memory. No locale.
 */
#ifndef CORE_PIECE_H
#define CORE_PIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/text.h"

#define PIECE_SHOWN_MAX 30 /* bytes shown of a bad value; the longest problem just fits */

struct piece {
	const char *at, *end;
};

/* All of @text without the blanks (space, tab, CR, LF) around it. NULL is an empty piece. */
struct piece piece_of(const char *text);
struct piece piece_trimmed(struct piece p);
size_t piece_length(struct piece p);
bool piece_is(struct piece p, const char *text);
/* @text in lower case */
bool piece_is_in_any_case(struct piece p, const char *text);
const char *piece_find(struct piece p, char c); /* NULL: it is not there */

/* Takes what precedes the next @separator off the front of @p, without blanks around it. */
struct piece piece_take_entry(struct piece *p, char separator);
/* Takes what precedes a blank or @stop off the front of @p, and the blanks behind it. */
struct piece piece_take(struct piece *p, char stop);

/* Returns false when it does not fit; NUL-terminated otherwise. */
bool piece_copied(struct piece p, char *buf, size_t size);
/* Decimal digits alone, from @min to @max; @ret untouched otherwise. @max < UINT64_MAX / 20 */
bool piece_number(struct piece p, uint64_t min, uint64_t max, uint64_t *ret);
/* As people see it, cut to PIECE_SHOWN_MAX bytes with "..." behind. */
void piece_add_shown(struct text *t, struct piece p);

char piece_lower(char c);
char piece_upper(char c);

#endif
