/* SPDX-License-Identifier: Apache-2.0 */
/* From socket address to "host:port". */
#include "shim/peer.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/mman.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/text.h"
#include "shim/guard.h"

static struct names *names; /* written once at load */

void peer_load(void)
{
	void *map = mmap(NULL, names_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (map != MAP_FAILED)
		names = map;
}

void peer_learn(const char *host, const struct in6_addr *addresses, size_t n)
{
	if (names != NULL)
		names_learn(names, host, addresses, n, clock_now(), &guard.latest);
}

struct in6_addr peer_address(const struct sockaddr *addr)
{
	struct in6_addr ret = { 0 };

	if (addr->sa_family == AF_INET6) {
		memcpy(&ret, &((const struct sockaddr_in6 *) addr)->sin6_addr, sizeof(ret));
		return ret;
	}
	ret.s6_addr[10] = 0xff;
	ret.s6_addr[11] = 0xff;
	memcpy(&ret.s6_addr[12], &((const struct sockaddr_in *) addr)->sin_addr, 4);
	return ret;
}

static uint16_t port_of(const struct sockaddr *addr)
{
	return ntohs(addr->sa_family == AF_INET6
			     ? ((const struct sockaddr_in6 *) addr)->sin6_port
			     : ((const struct sockaddr_in *) addr)->sin_port);
}

void peer_of(const struct sockaddr *addr, uint64_t now, struct peer *ret)
{
	const struct in6_addr address = peer_address(addr);
	const bool v4 = IN6_IS_ADDR_V4MAPPED(&address);
	ret->followed = false;

	const bool named = names != NULL && names_find(names, &address, &guard.latest, now,
						       ret->host, &ret->followed);

	if (!named) {
		struct text host = text_in(ret->host, sizeof(ret->host));

		address_add(&host, &address);
	}
	ret->who = (struct config_peer) { ret->host, address, port_of(addr) };

	struct text key = text_in(ret->key, sizeof(ret->key));
	const bool bracketed = !named && !v4;

	text_add(&key, bracketed ? "[" : "");
	text_add(&key, ret->host);
	text_add(&key, bracketed ? "]:" : ":");
	text_add_u64(&key, ret->who.port);
}
