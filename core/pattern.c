/* SPDX-License-Identifier: Apache-2.0 */
/* Reads patterns for peers and matches them: globs over names, addresses, networks, ports. */
#include "core/pattern.h"

#include <string.h>

#include "core/address.h"

#define HOST_SIZE 256 /* a host name is at most 253 bytes */

static bool host_byte(char c)
{
	const char l = piece_lower(c);

	/* Bytes above ASCII: programs hand international names to the resolver as they are. */
	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || (c & 0x80)
	       || (c != '\0' && strchr("._-*?", c));
}

/* "10.0.0.256" and "443" would be names that no resolver ever answers for. */
static bool like_a_number(struct piece host)
{
	for (; host.at < host.end; host.at++) {
		if (*host.at != '.' && (*host.at < '0' || *host.at > '9'))
			return false;
	}
	return true;
}

/* Keeps @host, folded to lower case, as a glob of @p. */
static bool keep_glob(struct piece host, struct pattern_text *text, struct config_pattern *p)
{
	if (host.at < host.end && host.end[-1] == '.')
		host.end--;
	if (like_a_number(host) || piece_length(host) >= HOST_SIZE
	    || piece_length(host) >= sizeof(text->at) - text->used)
		return false;
	for (size_t i = 0; i < piece_length(host); i++) {
		if (!host_byte(host.at[i]))
			return false;
	}

	p->glob = text->used;
	for (size_t i = 0; i < piece_length(host); i++)
		text->at[text->used++] = piece_lower(host.at[i]);
	text->at[text->used++] = '\0';
	return true;
}

static bool read_address(struct piece host, struct config_pattern *p)
{
	char text[ADDRESS_TEXT_SIZE + 8]; /* room for "::ffff:" before the longest IPv4 */

	if (!piece_copied(host, text, sizeof(text)) || !address_parse(text, &p->address))
		return false;
	p->network = true;
	p->prefix = 128;
	return true;
}

static bool read_prefix(struct piece bits, bool dotted, struct config_pattern *p)
{
	const unsigned before = dotted ? ADDRESS_V4_PREFIX : 0;
	uint64_t n;

	if (!piece_number(bits, 0, 128 - before, &n))
		return false;
	p->prefix = (uint8_t) (before + n);
	return true;
}

static bool read_port(struct piece text, struct config_pattern *p)
{
	uint64_t n = 0;

	if (!piece_is(text, "*") && !piece_number(text, 1, 65535, &n))
		return false;
	p->port = (uint16_t) n;
	return true;
}

/*
 * Cuts "HOST[/BITS][:PORT]" where HOST may stand in brackets. A colon belongs to a bare IPv6
 * address when there are several before any slash. @bits and @port start one byte late and
 * are empty (NULL) when absent.
 */
static bool cut_pattern(struct piece text, struct piece *host, struct piece *bits,
			struct piece *port)
{
	struct piece tail = text;

	*bits = *port = (struct piece) { NULL, NULL };
	if (text.at < text.end && *text.at == '[') {
		const char *closing = piece_find(text, ']');

		if (!closing)
			return false;
		*host = (struct piece) { text.at + 1, closing };
		tail.at = closing + 1;
	} else {
		const char *slash = piece_find(text, '/');
		const struct piece before = { text.at, slash ? slash : text.end };
		const char *colon = piece_find(before, ':');
		const bool v6 = colon && piece_find((struct piece) { colon + 1, before.end }, ':');

		host->at = text.at;
		host->end = tail.at = colon && !v6 ? colon : before.end;
	}

	if (tail.at < tail.end && *tail.at == '/') {
		const char *colon = piece_find(tail, ':');

		*bits = (struct piece) { tail.at + 1, colon ? colon : tail.end };
		tail.at = bits->end;
	}
	if (tail.at < tail.end && *tail.at == ':') {
		*port = (struct piece) { tail.at + 1, tail.end };
		tail.at = tail.end;
	}
	return tail.at == tail.end;
}

bool pattern_read(struct piece piece, struct pattern_text *text, struct config_pattern *ret)
{
	struct config_pattern p = { .negated = false };
	struct piece host, bits, port;

	if (piece.at < piece.end && *piece.at == '!') {
		p.negated = true;
		piece.at++;
		piece = piece_trimmed(piece);
	}
	if (!cut_pattern(piece, &host, &bits, &port))
		return false;
	if (port.at && !read_port(port, &p))
		return false;
	if (read_address(host, &p)) {
		if (bits.at && !read_prefix(bits, !piece_find(host, ':'), &p))
			return false;
	} else if (bits.at || *piece.at == '[' || !keep_glob(host, text, &p)) {
		return false;
	}
	*ret = p;
	return true;
}

/* Does @text match @glob, where '*' stands for any bytes and '?' for one? */
static bool glob_matches(const char *glob, const char *text)
{
	const char *star = NULL, *resume = NULL;

	while (*text != '\0') {
		if (*glob == '*') {
			star = ++glob;
			resume = text;
		} else if (*glob == '?' || *glob == *text) {
			glob++;
			text++;
		} else if (star) {
			/* Let the latest star take one byte more; earlier ones need not. */
			glob = star;
			text = ++resume;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return *glob == '\0';
}

bool pattern_matches(const struct config_pattern *p, const struct pattern_text *text,
		     const struct config_peer *peer, const char *address)
{
	if (p->port != 0 && p->port != peer->port)
		return false;
	if (p->network)
		return address_in(&peer->address, &p->address, p->prefix);

	const char *glob = &text->at[p->glob];
	return glob_matches(glob, peer->host) || glob_matches(glob, address);
}

struct pattern_answer pattern_list_ask(const struct config_pattern *list, size_t n,
				       const struct pattern_text *text,
				       const struct config_peer *peer)
{
	struct pattern_answer a = { .closed = false };
	char address[ADDRESS_TEXT_SIZE];

	if (n > 0)
		address_text(&peer->address, address);
	for (size_t i = 0; i < n; i++) {
		const bool match = pattern_matches(&list[i], text, peer, address);

		if (list[i].negated) {
			a.barred |= match;
		} else {
			a.listed |= match;
			a.closed = true;
		}
	}
	return a;
}

bool pattern_by_address(const struct config_pattern *p, const struct pattern_text *text)
{
	const char *glob = text->at + p->glob;

	if (p->network)
		return true;
	if (strcmp(glob, "*") == 0 || strpbrk(glob, "*?") == NULL)
		return false; /* any name does; a whole address would be a network */
	return glob[strspn(glob, "0123456789abcdef.:*?")] == '\0';
}
