/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A context tells strangers which requests belong together, so a user may want it kept among
 * services. Lists are pattern.c's; "private" is told by the address alone, not by the name.
 */
#include "core/egress.h"

#include "core/address.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define V4(a, b, c, d) { { { [10] = 0xff, 0xff, a, b, c, d } } }
#define V6(a, b, last) { { { a, b, [15] = last } } }

static const struct {
	struct in6_addr network;
	unsigned prefix;
} private_networks[] = {
	{ V4(10, 0, 0, 0), ADDRESS_V4_PREFIX + 8 },
	{ V4(172, 16, 0, 0), ADDRESS_V4_PREFIX + 12 },
	{ V4(192, 168, 0, 0), ADDRESS_V4_PREFIX + 16 },
	{ V4(100, 64, 0, 0), ADDRESS_V4_PREFIX + 10 },  /* carriers', and what clouds do with it */
	{ V4(127, 0, 0, 0), ADDRESS_V4_PREFIX + 8 },
	{ V4(169, 254, 0, 0), ADDRESS_V4_PREFIX + 16 },
	{ V4(0, 0, 0, 0), ADDRESS_V4_PREFIX + 32 },
	{ V6(0, 0, 1), 128 },
	{ V6(0, 0, 0), 128 },
	{ V6(0xfe, 0x80, 0), 10 },
	{ V6(0xfc, 0, 0), 7 },
};

#undef V4
#undef V6

bool egress_private(const struct in6_addr *address)
{
	for (size_t i = 0; i < N_ELEMENTS(private_networks); i++) {
		if (address_in(address, &private_networks[i].network, private_networks[i].prefix))
			return true;
	}
	return false;
}

/* "private" and "! private", as patterns have it. */
static bool is_private(struct piece entry, bool *ret_negated)
{
	*ret_negated = entry.at < entry.end && *entry.at == '!';
	if (*ret_negated)
		entry.at++;
	return piece_is_in_any_case(piece_trimmed(entry), "private");
}

bool egress_add(struct egress *e, struct piece entry, struct pattern_text *text)
{
	bool negated;

	if (is_private(entry, &negated)) {
		if (negated)
			e->private_barred = true;
		else
			e->private_listed = true;
		return true;
	}
	if (e->n == EGRESS_PATTERNS_MAX || !pattern_read(entry, text, &e->patterns[e->n]))
		return false;
	e->n++;
	return true;
}

bool egress_allows(const struct egress *e, const struct pattern_text *text,
		   const struct config_peer *peer)
{
	struct pattern_answer a = pattern_list_ask(e->patterns, e->n, text, peer);
	const bool near = (e->private_listed || e->private_barred)
			  && egress_private(&peer->address);

	a.barred |= e->private_barred && near;
	a.listed |= e->private_listed && near;
	a.closed |= e->private_listed || e->nobody;
	return pattern_allows(a);
}
