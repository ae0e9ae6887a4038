/* SPDX-License-Identifier: Apache-2.0 */
/* Name look-ups: libc answers; we remember which name led to which address. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "shim/guard.h"
#include "shim/life.h"
#include "shim/peer.h"
#include "shim/real.h"

#define ADDRESSES_MAX 32 /* of one answer; further ones are known by their numbers */

static void learn(const char *host, const struct in6_addr *addresses, size_t n)
{
	const int saved = errno;

	if (n > 0 && armed && life_own_memory() && guard_enter()) {
		peer_learn(host, addresses, n);
		guard_leave();
	}
	errno = saved;
}

EXPORT int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **result)
{
	struct in6_addr addresses[ADDRESSES_MAX];
	const int rc = real.getaddrinfo(host, port, hints, result);
	size_t n = 0;

	if (rc != 0 || host == NULL)
		return rc;
	for (const struct addrinfo *a = *result; a != NULL && n < ADDRESSES_MAX; a = a->ai_next) {
		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		addresses[n] = peer_address(a->ai_addr);
		/* Without a socket type each address comes once for each. */
		if (n == 0 || memcmp(&addresses[n], &addresses[n - 1], sizeof(addresses[n])) != 0)
			n++;
	}
	learn(host, addresses, n);
	return rc;
}

static void learn_entry(const char *host, const struct hostent *entry)
{
	struct in6_addr addresses[ADDRESSES_MAX];
	size_t n = 0;

	if (host == NULL || entry == NULL)
		return;
	for (char **a = entry->h_addr_list; a != NULL && *a != NULL && n < ADDRESSES_MAX; a++) {
		struct sockaddr_storage address = { .ss_family = (sa_family_t) entry->h_addrtype };

		if (entry->h_addrtype == AF_INET)
			memcpy(&((struct sockaddr_in *) &address)->sin_addr, *a, 4);
		else if (entry->h_addrtype == AF_INET6)
			memcpy(&((struct sockaddr_in6 *) &address)->sin6_addr, *a, 16);
		else
			return;
		addresses[n++] = peer_address((const struct sockaddr *) &address);
	}
	learn(host, addresses, n);
}

EXPORT struct hostent *gethostbyname(const char *host)
{
	struct hostent *entry = real.gethostbyname(host);

	learn_entry(host, entry);
	return entry;
}

EXPORT struct hostent *gethostbyname2(const char *host, int family)
{
	struct hostent *entry = real.gethostbyname2(host, family);

	learn_entry(host, entry);
	return entry;
}

EXPORT int gethostbyname_r(const char *host, struct hostent *entry, char *buf, size_t size,
			   struct hostent **result, int *error)
{
	const int rc = real.gethostbyname_r(host, entry, buf, size, result, error);

	if (rc == 0)
		learn_entry(host, *result);
	return rc;
}

EXPORT int gethostbyname2_r(const char *host, int family, struct hostent *entry, char *buf,
			    size_t size, struct hostent **result, int *error)
{
	const int rc = real.gethostbyname2_r(host, family, entry, buf, size, result, error);

	if (rc == 0)
		learn_entry(host, *result);
	return rc;
}
