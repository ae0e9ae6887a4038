/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns for peers, alone and in lists with exclusions. */
#ifndef CORE_PATTERN_H
#define CORE_PATTERN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/piece.h"

#define PATTERN_TEXT_SIZE 8192 /* host globs, each with its NUL */

/* A peer as connect(2) sees it. */
struct config_peer {
	const char *host;       /* lower case; a name, or the address in text, no brackets */
	struct in6_addr address; /* v4-mapped for IPv4 */
	uint16_t port;          /* host byte order */
};

/*
 * A peer pattern: "*", "host", "host:port", "*.local", "*:5432", "10.0.0.0/8", "[fd00::]/8",
 * "[::1]:80", "fd00::1", "10.0.0.0/8:443". A glob (`*` and `?`) matches the name under which
 * the peer is known and, when the peer is known by name, its address too; an address or a
 * network matches the address, however it was written.
 */
struct config_pattern {
	bool negated;          /* written with a leading '!' */
	bool network;          /* an address is a network of 128 bits */
	uint8_t prefix;        /* of a network: bits, of the IPv6 (or v4-mapped) form */
	struct in6_addr address;
	uint16_t port;         /* 0: any */
	uint16_t glob;         /* offset of the NUL-terminated host glob in a pattern_text */
};

/* Where the globs of many patterns live. Zero-filled at first. */
struct pattern_text {
	uint16_t used;
	char at[PATTERN_TEXT_SIZE];
};

/*
 * pattern_read - one pattern, perhaps with a '!'
 * @text: its glob is added there; what was added stays when the pattern is thrown away
 * Returns false when it is none, or has no room; @ret and @text untouched.
 */
bool pattern_read(struct piece piece, struct pattern_text *text, struct config_pattern *ret);

/*
 * pattern_matches - does it match, '!' or not?
 * @address: the peer's, as text
 * Context: any thread, signal handlers too; pure.
 */
bool pattern_matches(const struct config_pattern *p, const struct pattern_text *text,
		     const struct config_peer *peer, const char *address);

/*
 * pattern_by_address - may it match a peer that is known by name for the address it has?
 * Context: as pattern_matches().
 */
bool pattern_by_address(const struct config_pattern *p, const struct pattern_text *text);

/* What a list says of a peer. */
struct pattern_answer {
	bool barred; /* a '!' pattern matches */
	bool listed; /* one without matches */
	bool closed; /* there is one without: the list names those that it lets in */
};

/* pattern_list_ask - Context: as pattern_matches(). */
struct pattern_answer pattern_list_ask(const struct config_pattern *list, size_t n,
				       const struct pattern_text *text,
				       const struct config_peer *peer);

/* A '!' beats all, wherever it stands; of a list with '!' alone all others are allowed. */
static inline bool pattern_allows(struct pattern_answer a)
{
	return !a.barred && (a.listed || !a.closed);
}

#endif
