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

static void write_key(struct peer *p, bool bracketed)
{
	struct text key = text_in(p->key, sizeof(p->key));

	text_add(&key, bracketed ? "[" : "");
	text_add(&key, p->host);
	text_add(&key, bracketed ? "]:" : ":");
	text_add_u64(&key, p->who.port);
}

/* A host name's letters; an address of the odd forms that libcurl reads (127.1, 0x7f.1) is none. */
static bool like_a_name(const char *host)
{
	bool letter = false;

	if (host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._")] != '\0')
		return false;
	for (; *host != '\0'; host++)
		letter = letter || (*host >= 'a' && *host <= 'z');
	return letter && strncmp(host, "0x", 2) != 0;
}

bool peer_named(const char *host, uint16_t port, struct peer *ret, bool *ret_address)
{
	struct in6_addr address = { 0 };
	size_t n = strnlen(host, sizeof(ret->host));

	if (n > 0 && n < sizeof(ret->host) && host[n - 1] == '.')
		n--;
	if (n == 0 || n >= sizeof(ret->host))
		return false;
	for (size_t i = 0; i < n; i++)
		ret->host[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char) (host[i] - 'A' + 'a')
								: host[i];
	ret->host[n] = '\0';
	ret->named = !address_parse(ret->host, &address);
	if (ret->named && !like_a_name(ret->host))
		return false;
	if (ret->named) {
		*ret_address = names != NULL && names_address(names, ret->host, &address);
	} else {
		struct text canonical = text_in(ret->host, sizeof(ret->host));

		address_add(&canonical, &address);
		*ret_address = true;
	}
	ret->followed = false;
	ret->who = (struct config_peer) { ret->host, address, port };
	write_key(ret, !ret->named && !IN6_IS_ADDR_V4MAPPED(&address));
	return true;
}

static void name(const struct sockaddr *addr, const struct names_latest *latest, uint64_t now,
		 struct peer *ret)
{
	const struct in6_addr address = peer_address(addr);
	const bool v4 = IN6_IS_ADDR_V4MAPPED(&address);
	ret->followed = false;

	ret->named = names != NULL && names_find(names, &address, latest, now, ret->host,
						 &ret->followed);
	if (!ret->named) {
		struct text host = text_in(ret->host, sizeof(ret->host));

		address_add(&host, &address);
	}
	ret->who = (struct config_peer) { ret->host, address, port_of(addr) };
	write_key(ret, !ret->named && !v4);
}

void peer_of(const struct sockaddr *addr, uint64_t now, struct peer *ret)
{
	name(addr, &guard.latest, now, ret);
}

void peer_known_as(const struct sockaddr *addr, uint64_t now, struct peer *ret)
{
	static const struct names_latest nothing;

	name(addr, &nothing, now, ret);
}

uint32_t peer_hash(const char *key)
{
	return (uint32_t) state_peer_hash(key);
}
