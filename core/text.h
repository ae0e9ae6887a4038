/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing text into a buffer without stdio, locale or allocation: hooks may do it, signal
 * handlers too. A text that does not fit is cut and says so in `cut`.
 */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *at;     /* borrowed */
	size_t size;  /* of the buffer, > 0 */
	size_t used;  /* without the NUL that always follows */
	bool cut;
};

struct text text_in(char *buf, size_t size); /* empty; the NUL is written */
void text_add(struct text *t, const char *s);
void text_add_n(struct text *t, const char *s, size_t n);
void text_add_u64(struct text *t, uint64_t value);
void text_add_i64(struct text *t, int64_t value);
/* @value in lower-case hex, @digits of them with leading zeros; 0 digits: as many as needed. */
void text_add_hex(struct text *t, uint64_t value, unsigned digits);
/* Nanoseconds as decimal milliseconds with up to three places, no trailing zeros: "12.5". */
void text_add_ms(struct text *t, uint64_t ns);
/* CLOCK_REALTIME nanoseconds as RFC 3339 in UTC with microseconds: "2026-11-23T12:00:00.123456Z". */
void text_add_time(struct text *t, uint64_t wall_ns);
/*
 * A JSON string with its quotes: quote, backslash and control characters (C0, DEL and C1, which
 * terminals obey) escaped, invalid UTF-8 as U+FFFD, one for each byte that is wrong. Grows to
 * TEXT_JSON_GROWTH bytes a byte at worst.
 */
void text_add_json(struct text *t, const char *s);
/* The same of @n bytes, NULs among them escaped. */
void text_add_json_n(struct text *t, const char *s, size_t n);
#define TEXT_JSON_GROWTH 6
/* `,"key":`; no comma at the beginning and right after '{', '[' or another comma. */
void text_add_key(struct text *t, const char *key);
/*
 * What people see in a terminal: control characters and what is not UTF-8 become '?', byte for
 * byte, so that a name from shared memory cannot move the cursor. @s needs no NUL within @n.
 * What is cut off leaves whole characters.
 */
void text_add_shown(struct text *t, const char *s, size_t n);
/* Take back what was added since @used, an earlier t->used; `cut` stays as it is. */
void text_cut_back(struct text *t, size_t used);

#endif
