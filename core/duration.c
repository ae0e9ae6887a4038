/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes spans of time by hand: strtod(3) knows locales, and printf(3) is stdio. */
#include "core/duration.h"

#include <string.h>

#include "core/clock.h"

static const struct unit {
	char name[4];
	uint64_t ns;
} units[] = {
	{ "h", 3600 * NS_PER_S },
	{ "m", 60 * NS_PER_S },
	{ "s", NS_PER_S },
	{ "ms", NS_PER_MS },
	{ "us", NS_PER_US },
	{ "ns", 1 },
};

#define N_UNITS     (sizeof(units) / sizeof(units[0]))
#define SECOND_UNIT 2 /* index of "s": units from here on are powers of ten apart */

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *at)
{
	while (digit(*at))
		at++;
	return at;
}

static const struct unit *read_unit(const char **at)
{
	size_t n = 0;

	while ((*at)[n] >= 'a' && (*at)[n] <= 'z')
		n++;
	for (size_t i = 0; i < N_UNITS; i++) {
		if (strlen(units[i].name) == n && memcmp(units[i].name, *at, n) == 0) {
			*at += n;
			return &units[i];
		}
	}
	return NULL;
}

static bool whole_ns(const char *at, const char *end, uint64_t unit_ns, uint64_t *ret_ns)
{
	const uint64_t most = DURATION_MAX_NS / unit_ns;
	uint64_t n = 0;

	for (; at < end; at++) {
		const uint64_t place = (uint64_t) (*at - '0');

		/* Asked first: ten times a number of 62 bits would wrap around. */
		if (n > most / 10 || n * 10 + place > most)
			return false;
		n = n * 10 + place;
	}
	*ret_ns = n * unit_ns;
	return true;
}

/*
 * Nanoseconds in the decimal places [first, end) of a unit. From the last place to the first,
 * each step divides what the places so far are worth by ten; the whole is a whole number of
 * nanoseconds exactly when every step divides evenly.
 */
static bool fraction_ns(const char *first, const char *end, uint64_t unit_ns, uint64_t *ret_ns)
{
	uint64_t ns = 0;

	for (const char *at = end; at-- > first; ns /= 10) {
		ns += (uint64_t) (*at - '0') * unit_ns;
		if (ns % 10 != 0)
			return false;
	}
	*ret_ns = ns;
	return true;
}

/* One number with its unit at *at; leaves *at behind it. NULL when there is none. */
static const struct unit *read_part(const char **at, uint64_t *ret_ns)
{
	const char *const whole = *at;
	const char *const whole_end = skip_digits(whole);
	const char *places = whole_end, *places_end = whole_end;
	uint64_t ns, fraction;

	if (whole_end == whole)
		return NULL;
	if (*whole_end == '.') {
		places = whole_end + 1;
		places_end = skip_digits(places);
		if (places_end == places)
			return NULL;
	}

	*at = places_end;
	const struct unit *unit = read_unit(at);
	if (!unit || !whole_ns(whole, whole_end, unit->ns, &ns)
	    || !fraction_ns(places, places_end, unit->ns, &fraction))
		return NULL;
	*ret_ns = ns + fraction;
	return unit;
}

bool duration_parse(const char *text, uint64_t *ret_ns)
{
	const struct unit *last = NULL;
	uint64_t total = 0, ns;

	if (strcmp(text, "0") == 0) {
		*ret_ns = 0;
		return true;
	}
	do {
		const struct unit *unit = read_part(&text, &ns);

		/* "30s1m" and "1s1s" are slips of the pen. */
		if (!unit || (last && unit <= last))
			return false;
		last = unit;
		total += ns; /* two numbers below 2^63: no overflow before the check */
		if (total > DURATION_MAX_NS)
			return false;
	} while (*text != '\0');

	*ret_ns = total;
	return true;
}

static void add_decimal(struct text *t, uint64_t ns, const struct unit *unit)
{
	uint64_t rest = ns % unit->ns;

	text_add_u64(t, ns / unit->ns);
	if (rest > 0)
		text_add(t, ".");
	for (uint64_t place = unit->ns / 10; rest > 0; place /= 10) {
		text_add_u64(t, rest / place);
		rest %= place;
	}
	text_add(t, unit->name);
}

void duration_add(struct text *t, uint64_t ns)
{
	if (ns == 0)
		text_add(t, "0");
	for (size_t i = 0; i < N_UNITS && ns > 0; i++) {
		if (ns < units[i].ns)
			continue;
		if (i >= SECOND_UNIT) {
			add_decimal(t, ns, &units[i]);
			return;
		}
		text_add_u64(t, ns / units[i].ns);
		text_add(t, units[i].name);
		ns %= units[i].ns;
	}
}

size_t duration_text(uint64_t ns, char *buf, size_t size)
{
	struct text t = text_in(buf, size);

	duration_add(&t, ns);
	return t.used;
}
