/* SPDX-License-Identifier: Apache-2.0 */
/* Reads lists such as "5xx,!501" into bitmaps. */
#include "core/statuses.h"

#include <stddef.h>

static void add_range(struct statuses *s, uint64_t first, uint64_t last)
{
	for (uint64_t i = first - STATUSES_FIRST; i <= last - STATUSES_FIRST; i++)
		s->bits[i / 8] |= (uint8_t) (1 << i % 8);
}

static bool read_status(struct piece p, uint64_t *ret)
{
	return piece_length(p) == 3 && piece_number(p, STATUSES_FIRST, STATUSES_LAST, ret);
}

/* "502", "5xx", "500-599" */
static bool read_range(struct piece p, uint64_t *ret_first, uint64_t *ret_last)
{
	const char *dash = piece_find(p, '-');

	if (dash)
		return read_status(piece_trimmed((struct piece) { p.at, dash }), ret_first)
		       && read_status(piece_trimmed((struct piece) { dash + 1, p.end }), ret_last)
		       && *ret_first <= *ret_last;
	if (piece_length(p) == 3
	    && piece_is_in_any_case((struct piece) { p.at + 1, p.end }, "xx")
	    && piece_number((struct piece) { p.at, p.at + 1 }, 1, 5, ret_first)) {
		*ret_first *= 100;
		*ret_last = *ret_first + 99;
		return true;
	}
	if (!read_status(p, ret_first))
		return false;
	*ret_last = *ret_first;
	return true;
}

bool statuses_add(struct statuses_list *list, struct piece entry)
{
	const bool negated = entry.at < entry.end && *entry.at == '!';
	uint64_t first, last;

	if (negated)
		entry.at++;
	if (!read_range(piece_trimmed(entry), &first, &last))
		return false;
	add_range(negated ? &list->barred : &list->listed, first, last);
	list->some |= !negated;
	return true;
}

struct statuses statuses_of(const struct statuses_list *list, const struct statuses *otherwise)
{
	struct statuses s = list->some ? list->listed : *otherwise;

	for (size_t i = 0; i < sizeof(s.bits); i++)
		s.bits[i] &= (uint8_t) ~list->barred.bits[i];
	return s;
}

struct statuses statuses_product(void)
{
	struct statuses s = { .bits = { 0 } };

	add_range(&s, 500, 599);
	return s;
}

bool statuses_have(const struct statuses *s, unsigned status)
{
	const unsigned i = status - STATUSES_FIRST;

	if (status < STATUSES_FIRST || status > STATUSES_LAST)
		return false;
	return s->bits[i / 8] >> i % 8 & 1;
}
