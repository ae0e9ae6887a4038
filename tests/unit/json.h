/* SPDX-License-Identifier: Apache-2.0 */
/* Is a text one JSON value after RFC 8259, in UTF-8 and free of control characters? */
#ifndef TESTS_UNIT_JSON_H
#define TESTS_UNIT_JSON_H

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static const char *json_value(const char *s); /* past the value, NULL when there is none */

static const char *json_utf8(const unsigned char *s)
{
	const int more = *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;

	if (*s < 0xc2 || *s > 0xf4)
		return NULL;
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f) ||
	    (*s == 0xc2 && s[1] < 0xa0)) /* too long a form, surrogate, too big, C1 */
		return NULL;
	for (int i = 1; i <= more; i++) {
		if (s[i] >> 6 != 2)
			return NULL;
	}
	return (const char *) s + 1 + more;
}

static const char *json_string(const char *s)
{
	if (*s++ != '"')
		return NULL;
	while (s != NULL && *s != '"') {
		const unsigned char c = (unsigned char) *s;

		if (c < 0x20 || c == 0x7f)
			return NULL;
		if (c >= 0x80) {
			s = json_utf8((const unsigned char *) s);
		} else if (c != '\\') {
			s++;
		} else if (s[1] == 'u') {
			for (int i = 2; i < 6; i++) {
				if (!isxdigit((unsigned char) s[i]))
					return NULL;
			}
			s += 6;
		} else {
			s = s[1] != '\0' && strchr("\"\\/bfnrt", s[1]) ? s + 2 : NULL;
		}
	}
	return s == NULL ? NULL : s + 1;
}

static const char *json_number(const char *s)
{
	s += *s == '-';
	if (!isdigit((unsigned char) *s) || (*s == '0' && isdigit((unsigned char) s[1])))
		return NULL;
	while (isdigit((unsigned char) *s))
		s++;
	if (*s != '.')
		return s;
	if (!isdigit((unsigned char) *++s))
		return NULL;
	while (isdigit((unsigned char) *s))
		s++;
	return s;
}

static const char *json_members(const char *s, char end)
{
	if (*s == end)
		return s + 1;
	for (;;) {
		if (end == '}') {
			s = json_string(s);
			if (s == NULL || *s++ != ':')
				return NULL;
		}
		s = json_value(s);
		if (s == NULL)
			return NULL;
		if (*s == end)
			return s + 1;
		if (*s++ != ',')
			return NULL;
	}
}

static const char *json_value(const char *s)
{
	static const char *const words[] = { "true", "false", "null" };

	if (*s == '{' || *s == '[')
		return json_members(s + 1, *s == '{' ? '}' : ']');
	if (*s == '"')
		return json_string(s);
	for (int i = 0; i < 3; i++) {
		if (strncmp(s, words[i], strlen(words[i])) == 0)
			return s + strlen(words[i]);
	}
	return json_number(s);
}

/* Stricter than the RFC: nobody of us writes blanks. */
static bool json_valid(const char *s)
{
	const char *const end = json_value(s);

	return end != NULL && *end == '\0';
}

#endif
