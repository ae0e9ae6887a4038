/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP addresses in one form: sixteen bytes, an IPv4 address mapped (::ffff:a.b.c.d), as text
 * without inet_ntop(3), which uses stdio.
 */
#ifndef CORE_ADDRESS_H
#define CORE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/text.h"

#define ADDRESS_TEXT_SIZE 40 /* eight groups of four, seven colons, NUL */
#define ADDRESS_V4_PREFIX 96 /* bits before the IPv4 address in a mapped one */

/*
 * address_parse - read "10.0.0.1" or "2001:db8::1"; no brackets, no zone
 * Returns false on anything else, with @ret untouched.
 * Context: any thread; no allocation; errno kept.
 */
bool address_parse(const char *text, struct in6_addr *ret);

/*
 * address_add - "10.0.0.1" for a mapped address, else the form of RFC 5952
 * Context: any thread, signal handlers too; no allocation, no stdio.
 */
void address_add(struct text *t, const struct in6_addr *address);

/* address_text - the same, alone. @ret_text: ADDRESS_TEXT_SIZE bytes. */
void address_text(const struct in6_addr *address, char *ret_text);

/* address_in - do the first @prefix bits (0..128) of both agree? */
bool address_in(const struct in6_addr *address, const struct in6_addr *network,
		unsigned prefix);

#endif
