/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses: text to bytes, bytes to text, and whether one lies in a network. */
#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define GROUPS 8

bool address_parse(const char *text, struct in6_addr *ret)
{
	const int saved = errno;
	struct in6_addr address = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	const bool ok = inet_pton(AF_INET, text, &address.s6_addr[12]) == 1
			|| inet_pton(AF_INET6, text, &address) == 1;

	if (ok)
		*ret = address;
	errno = saved;
	return ok;
}

static unsigned group_at(const struct in6_addr *address, unsigned i)
{
	return (unsigned) address->s6_addr[2 * i] << 8 | address->s6_addr[2 * i + 1];
}

/* The run of zero groups that "::" stands for: the longest, the first of equals, two or more. */
static unsigned longest_zeros(const struct in6_addr *address, unsigned *ret_length)
{
	unsigned first = GROUPS, length = 1;

	for (unsigned i = 0; i < GROUPS; i++) {
		unsigned n = 0;

		while (i + n < GROUPS && group_at(address, i + n) == 0)
			n++;
		if (n > length) {
			first = i;
			length = n;
		}
		i += n;
	}
	*ret_length = length;
	return first;
}

static void add_v4(struct text *t, const uint8_t *bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		if (i > 0)
			text_add(t, ".");
		text_add_u64(t, bytes[i]);
	}
}

void address_add(struct text *t, const struct in6_addr *address)
{
	unsigned length;

	if (IN6_IS_ADDR_V4MAPPED(address)) {
		add_v4(t, &address->s6_addr[12]);
		return;
	}

	const unsigned zeros = longest_zeros(address, &length);
	for (unsigned i = 0; i < GROUPS; i++) {
		if (i == zeros) {
			text_add(t, "::");
			i += length - 1;
			continue;
		}
		if (i > 0 && i != zeros + length)
			text_add(t, ":");
		text_add_hex(t, group_at(address, i), 0);
	}
}

void address_text(const struct in6_addr *address, char *ret_text)
{
	struct text t = text_in(ret_text, ADDRESS_TEXT_SIZE);

	address_add(&t, address);
}

bool address_in(const struct in6_addr *address, const struct in6_addr *network,
		unsigned prefix)
{
	const unsigned whole = prefix / 8, rest = prefix % 8;

	if (memcmp(address, network, whole) != 0)
		return false;
	return rest == 0
	       || (address->s6_addr[whole] ^ network->s6_addr[whole]) >> (8 - rest) == 0;
}
