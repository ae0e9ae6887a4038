/* SPDX-License-Identifier: Apache-2.0 */
/* Words, lists and numbers in the text of a setting. */
#include "core/piece.h"

#include <string.h>

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct piece piece_of(const char *text)
{
	const char *at = text ? text : "";

	return piece_trimmed((struct piece) { at, at + strlen(at) });
}

struct piece piece_trimmed(struct piece p)
{
	while (p.at < p.end && blank(*p.at))
		p.at++;
	while (p.at < p.end && blank(p.end[-1]))
		p.end--;
	return p;
}

size_t piece_length(struct piece p)
{
	return (size_t) (p.end - p.at);
}

bool piece_is(struct piece p, const char *text)
{
	return piece_length(p) == strlen(text) && memcmp(p.at, text, piece_length(p)) == 0;
}

bool piece_is_in_any_case(struct piece p, const char *text)
{
	if (piece_length(p) != strlen(text))
		return false;
	for (; p.at < p.end; p.at++, text++) {
		if (piece_lower(*p.at) != *text)
			return false;
	}
	return true;
}

const char *piece_find(struct piece p, char c)
{
	return p.at < p.end ? memchr(p.at, c, piece_length(p)) : NULL;
}

struct piece piece_take_entry(struct piece *p, char separator)
{
	const char *at = piece_find(*p, separator);
	const struct piece entry = { p->at, at ? at : p->end };

	p->at = at ? at + 1 : p->end;
	return piece_trimmed(entry);
}

struct piece piece_take(struct piece *p, char stop)
{
	struct piece first = { p->at, p->at };

	while (first.end < p->end && !blank(*first.end) && *first.end != stop)
		first.end++;
	p->at = first.end;
	*p = piece_trimmed(*p);
	return first;
}

bool piece_copied(struct piece p, char *buf, size_t size)
{
	if (piece_length(p) >= size)
		return false;
	memcpy(buf, p.at, piece_length(p));
	buf[piece_length(p)] = '\0';
	return true;
}

bool piece_number(struct piece p, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (p.at == p.end)
		return false;
	for (; p.at < p.end; p.at++) {
		if (*p.at < '0' || *p.at > '9')
			return false;
		n = n * 10 + (uint64_t) (*p.at - '0');
		if (n > max) /* so n stays far from overflow */
			return false;
	}
	if (n < min)
		return false;
	*ret = n;
	return true;
}

void piece_add_shown(struct text *t, struct piece p)
{
	const size_t n = piece_length(p) > PIECE_SHOWN_MAX ? PIECE_SHOWN_MAX : piece_length(p);

	text_add_shown(t, p.at, n);
	if (n < piece_length(p))
		text_add(t, "...");
}

char piece_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

char piece_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char) (c - 'a' + 'A') : c;
}
