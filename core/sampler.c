/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each sampler is a threshold for the randomness of a trace id, W3C level 2's right-most 56
 * bits: always_on is the lowest, always_off is out of reach. A ratio becomes a threshold in
 * integers, as OpenTelemetry's probability sampling has it: T = (1 - ratio) * 2^56, R >= T.
 */
#include "core/sampler.h"

#include "core/piece.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define PARENT_BASED "parentbased_"
#define DIGITS_MAX   18 /* significant ones of a ratio; 2^56 has 17 */
#define SCALE_MAX    37 /* 10^37 fits in 128 bits; a smaller ratio is none */
#define EXPONENT_MAX 999

__extension__ typedef unsigned __int128 wide;

static const struct {
	const char *name;
	uint64_t threshold;
	bool ratio; /* the threshold is the argument's */
} kinds[] = {
	{ "always_on", 0, false },
	{ "always_off", SAMPLER_NEVER, false },
	{ "traceidratio", 0, true },
};

/* Takes @text, which is in lower case, off the front of @p; false: something else is there. */
static bool take(struct piece *p, const char *text)
{
	const char *at = p->at;

	for (; *text; text++, at++) {
		if (at == p->end || piece_lower(*at) != *text)
			return false;
	}
	p->at = at;
	return true;
}

static bool tell(struct text *problem, const char *variable, struct piece found,
		 const char *expected)
{
	if (!problem)
		return false;
	text_add(problem, variable);
	text_add(problem, ": found \"");
	piece_add_shown(problem, found);
	text_add(problem, "\", expected ");
	text_add(problem, expected);
	return false;
}

/* ---- ratios ---- */

/* mantissa / 10^scale */
struct decimal {
	uint64_t mantissa;
	int scale;
};

static bool is_digit(struct piece p)
{
	return p.at < p.end && *p.at >= '0' && *p.at <= '9';
}

/*
 * Takes digits off the front of @p, of which those before the point have a @place of 0. What
 * has no room in the mantissa is too small to matter behind the point, and too large before it.
 */
static bool take_digits(struct piece *p, int place, struct decimal *d)
{
	const char *const begin = p->at;

	for (; is_digit(*p); p->at++) {
		uint64_t limit = 1;

		for (int i = 1; i < DIGITS_MAX; i++)
			limit *= 10;
		if (d->mantissa < limit) {
			d->mantissa = d->mantissa * 10 + (uint64_t) (*p->at - '0');
			d->scale += place;
		} else if (place == 0) {
			d->scale--;
		}
	}
	return p->at > begin;
}

static bool take_exponent(struct piece *p, struct decimal *d)
{
	struct piece rest = *p;

	if (!take(&rest, "e"))
		return true;
	const bool negative = take(&rest, "-");
	if (!negative)
		(void) take(&rest, "+");
	if (!is_digit(rest))
		return false;

	int exponent = 0;
	for (; is_digit(rest); rest.at++)
		exponent = exponent > EXPONENT_MAX ? exponent : exponent * 10 + (*rest.at - '0');
	d->scale += negative ? exponent : -exponent;
	*p = rest;
	return true;
}

/* A number from 0 to 1 as its part of 2^56, rounded; false: it is not one. */
static bool part_of(const struct decimal *d, uint64_t *ret)
{
	wide unit = 1;

	if (d->mantissa == 0 || d->scale > SCALE_MAX) {
		*ret = 0;
		return true;
	}
	if (d->scale < 0)
		return false;
	for (int i = 0; i < d->scale; i++)
		unit *= 10;
	if (d->mantissa > unit)
		return false;
	*ret = (uint64_t) ((((wide) d->mantissa << 56) + unit / 2) / unit);
	return true;
}

static bool read_ratio(struct piece p, uint64_t *ret_threshold)
{
	struct decimal d = { .mantissa = 0 };
	bool some = take_digits(&p, 0, &d);
	uint64_t kept;

	if (take(&p, "."))
		some |= take_digits(&p, 1, &d);
	if (!some || !take_exponent(&p, &d) || p.at != p.end || !part_of(&d, &kept))
		return false;
	*ret_threshold = SAMPLER_NEVER - kept;
	return true;
}

/* ---- samplers ---- */

struct sampler sampler_default(void)
{
	return (struct sampler) { .parent_based = true, .threshold = 0 };
}

bool sampler_from(const char *name, const char *arg, struct sampler *ret, struct text *problem)
{
	const struct piece all = piece_of(name), ratio = piece_of(arg);
	struct piece rest = all;
	struct sampler s = { .parent_based = take(&rest, PARENT_BASED) };

	*ret = sampler_default();
	if (all.at == all.end)
		return true;
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		struct piece kind = rest;

		if (!take(&kind, kinds[i].name) || kind.at != kind.end)
			continue;
		s.threshold = kinds[i].threshold;
		const bool good = !kinds[i].ratio || ratio.at == ratio.end
				  || read_ratio(ratio, &s.threshold);
		*ret = s;
		return good || tell(problem, "OTEL_TRACES_SAMPLER_ARG", ratio,
				    "a number from 0 to 1; 1 stands");
	}
	return tell(problem, "OTEL_TRACES_SAMPLER", all,
		    "[parentbased_]always_on, always_off or traceidratio; the default stands");
}

bool sampler_sample(const struct sampler *s, const struct propagate_found *parent,
		    const uint8_t trace_id[16])
{
	uint64_t randomness = 0;

	if (parent && parent->context.flags & CONTEXT_DEBUG)
		return true;
	if (parent && s->parent_based && parent->decision != PROPAGATE_DEFER)
		return parent->decision == PROPAGATE_ACCEPT;
	for (size_t i = 9; i < 16; i++)
		randomness = randomness << 8 | trace_id[i];
	return randomness >= s->threshold;
}
