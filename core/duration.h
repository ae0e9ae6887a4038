/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of time as people write them: "30s", "1m30s", "500ms". */
#ifndef CORE_DURATION_H
#define CORE_DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/text.h"

/* Instants are kept in 62 bits (breaker.c), so no span may be longer. */
#define DURATION_MAX_NS  ((UINT64_C(1) << 62) - 1)
#define DURATION_SIZE    32 /* holds every duration_text(), NUL included */

/*
 * duration_parse - "30s", "1m30s", "1.5s", "500ms", "250us", "10ns", "2h"
 * @text: numbers each with a unit, larger units first, no sign, no blanks; "0" may stand alone
 *
 * Returns false, leaving @ret_ns untouched, on anything else, on more than DURATION_MAX_NS,
 * and on a fraction that is not a whole number of nanoseconds: nothing is rounded.
 */
bool duration_parse(const char *text, uint64_t *ret_ns);

/*
 * duration_text - the form a person would write, exact
 *
 * Hours, minutes and seconds from a second up ("1m30s", "1.5s"), the largest unit that fits
 * below it ("500ms", "1.5us"), "0" for nothing. duration_parse() reads it back.
 * Returns the length written; NUL-terminated, cut to @size.
 */
size_t duration_text(uint64_t ns, char *buf, size_t size);

/* duration_add - the same, at the end of a text. */
void duration_add(struct text *t, uint64_t ns);

#endif
