/* SPDX-License-Identifier: Apache-2.0 */
/* Who may receive our trace contexts: a list of peers, and all that is not the open internet. */
#ifndef CORE_EGRESS_H
#define CORE_EGRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/pattern.h"

#define EGRESS_PATTERNS_MAX 64

/* Zero-filled: everybody. */
struct egress {
	bool private_listed; /* "private" */
	bool private_barred; /* "!private" */
	bool nobody;         /* set by who could read nothing of a list: better none than all */
	uint16_t n;
	struct config_pattern patterns[EGRESS_PATTERNS_MAX];
};

/*
 * egress_add - one entry: a pattern or the word "private", perhaps with a '!'
 * Returns false when it is none of these, or there is no room; @e and @text untouched. The caller
 * looks at e->n first, to say so.
 */
bool egress_add(struct egress *e, struct piece entry, struct pattern_text *text);

/*
 * egress_allows - as with pattern lists: a '!' beats all, and alone lets in all others
 * Context: any thread, signal handlers too; pure.
 */
bool egress_allows(const struct egress *e, const struct pattern_text *text,
		   const struct config_peer *peer);

/*
 * egress_private - is this an address that means something only near us? Loopback, link-local,
 * RFC 1918, RFC 6598 (100.64/10), unique local IPv6, and the unspecified one, which connects to
 * this host.
 */
bool egress_private(const struct in6_addr *address);

#endif
