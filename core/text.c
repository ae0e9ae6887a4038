/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, instants and JSON strings as bytes in a buffer, by arithmetic alone. */
#include "core/text.h"

#include <string.h>

#include "core/clock.h"

#define U64_DIGITS 20 /* of 2^64 - 1 */

struct text text_in(char *buf, size_t size)
{
	buf[0] = '\0';
	return (struct text) { .at = buf, .size = size };
}

void text_add_n(struct text *t, const char *s, size_t n)
{
	const size_t room = t->size - t->used - 1;

	if (n > room) {
		n = room;
		t->cut = true;
	}
	memcpy(t->at + t->used, s, n);
	t->used += n;
	t->at[t->used] = '\0';
}

void text_add(struct text *t, const char *s)
{
	text_add_n(t, s, strlen(s));
}

void text_cut_back(struct text *t, size_t used)
{
	t->used = used;
	t->at[used] = '\0';
}

/* At least @places digits. */
static void add_decimal(struct text *t, uint64_t value, unsigned places)
{
	char digits[U64_DIGITS];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char) ('0' + value % 10);
		value /= 10;
	} while (at > 0 && (value > 0 || sizeof(digits) - at < places));
	text_add_n(t, digits + at, sizeof(digits) - at);
}

void text_add_u64(struct text *t, uint64_t value)
{
	add_decimal(t, value, 1);
}

void text_add_i64(struct text *t, int64_t value)
{
	if (value < 0)
		text_add_n(t, "-", 1);
	/* Negated as unsigned: INT64_MIN has no positive twin. */
	add_decimal(t, value < 0 ? -(uint64_t) value : (uint64_t) value, 1);
}

void text_add_hex(struct text *t, uint64_t value, unsigned digits)
{
	char hex[16];
	size_t at = sizeof(hex);

	do {
		hex[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (at > 0 && (value > 0 || sizeof(hex) - at < digits));
	text_add_n(t, hex + at, sizeof(hex) - at);
}

void text_add_ms(struct text *t, uint64_t ns)
{
	uint64_t rest = ns % NS_PER_MS / NS_PER_US;
	unsigned places = 3;

	add_decimal(t, ns / NS_PER_MS, 1);
	if (rest == 0)
		return;
	while (rest % 10 == 0) {
		rest /= 10;
		places--;
	}
	text_add_n(t, ".", 1);
	add_decimal(t, rest, places);
}

void text_add_time(struct text *t, uint64_t wall_ns)
{
	const uint64_t seconds = wall_ns / NS_PER_S;
	const uint64_t of_day = seconds % 86400;
	/*
	 * Days since 0000-03-01, so that the leap day ends a year; an era is 400 years. After
	 * Howard Hinnant, "chrono-compatible low-level date algorithms".
	 */
	const uint64_t days = seconds / 86400 + 719468;
	const uint64_t era = days / 146097, of_era = days % 146097;
	const uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	const uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	const uint64_t m = (5 * of_year + 2) / 153; /* 0 is March */
	const uint64_t month = m < 10 ? m + 3 : m - 9;

	add_decimal(t, era * 400 + year + (month <= 2), 4);
	text_add_n(t, "-", 1);
	add_decimal(t, month, 2);
	text_add_n(t, "-", 1);
	add_decimal(t, of_year - (153 * m + 2) / 5 + 1, 2);
	text_add_n(t, "T", 1);
	add_decimal(t, of_day / 3600, 2);
	text_add_n(t, ":", 1);
	add_decimal(t, of_day / 60 % 60, 2);
	text_add_n(t, ":", 1);
	add_decimal(t, of_day % 60, 2);
	text_add_n(t, ".", 1);
	add_decimal(t, wall_ns % NS_PER_S / NS_PER_US, 6);
	text_add_n(t, "Z", 1);
}

/*
 * The length of the UTF-8 sequence at @s (RFC 3629: shortest form, no surrogates, at most
 * U+10FFFF), never past @n; 0 when there is none. @ret_code is its code point.
 */
static size_t utf8_length(const unsigned char *s, size_t n, uint32_t *ret_code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const size_t length = s[0] < 0x80 ? 1
			      : s[0] >> 5 == 6 ? 2
			      : s[0] >> 4 == 14 ? 3
			      : s[0] >> 3 == 30 ? 4
						: 0;

	if (length == 0 || length > n)
		return 0;

	uint32_t code = length == 1 ? s[0] : s[0] & (0x7fu >> length);

	for (size_t i = 1; i < length; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	*ret_code = code;
	return length;
}

static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

static void add_json_character(struct text *t, const char *s, size_t length, uint32_t code)
{
	if (code == '"' || code == '\\')
		text_add_n(t, "\\", 1);
	if (is_control(code)) {
		text_add_n(t, "\\u", 2);
		text_add_hex(t, code, 4);
	} else {
		text_add_n(t, s, length);
	}
}

void text_add_json_n(struct text *t, const char *s, size_t n)
{
	text_add_n(t, "\"", 1);
	while (n > 0) {
		uint32_t code;
		size_t length = utf8_length((const unsigned char *) s, n, &code);

		if (length == 0) {
			text_add_n(t, "\xef\xbf\xbd", 3); /* U+FFFD */
			length = 1;
		} else {
			add_json_character(t, s, length, code);
		}
		s += length;
		n -= length;
	}
	text_add_n(t, "\"", 1);
}

void text_add_json(struct text *t, const char *s)
{
	text_add_json_n(t, s, strlen(s));
}

void text_add_key(struct text *t, const char *key)
{
	const char last = t->used > 0 ? t->at[t->used - 1] : '{';

	if (last != '{' && last != '[' && last != ',')
		text_add_n(t, ",", 1);
	text_add_json(t, key);
	text_add_n(t, ":", 1);
}

void text_add_shown(struct text *t, const char *s, size_t n)
{
	n = strnlen(s, n);
	while (n > 0) {
		uint32_t code;
		size_t length = utf8_length((const unsigned char *) s, n, &code);

		/* What would be cut in two is no character any more. */
		if (length == 0 || is_control(code) || length > t->size - t->used - 1) {
			length = length == 0 ? 1 : length;
			for (size_t i = 0; i < length; i++)
				text_add_n(t, "?", 1);
		} else {
			text_add_n(t, s, length);
		}
		s += length;
		n -= length;
	}
}
