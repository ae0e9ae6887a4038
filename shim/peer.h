/* SPDX-License-Identifier: Apache-2.0 */
/* A socket address as a peer: "host:port", named as the program named it where that is known. */
#ifndef SHIM_PEER_H
#define SHIM_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/config.h"
#include "core/names.h"
#include "core/state.h"

struct peer {
	char key[STATE_PEER_SIZE];  /* "payments:443", "10.0.0.1:80", "[::1]:80" */
	char host[NAMES_NAME_SIZE]; /* without port and brackets */
	struct config_peer who;     /* points into @host */
	bool followed;              /* by another address of the same name (names.h) */
	bool named;                 /* else called by its address */
};

/* peer_load - get memory for names; without it peers are called by their addresses. */
void peer_load(void);

/* peer_hash - of a key: for those who remember many */
uint32_t peer_hash(const char *key);

/* peer_learn - @host resolved to @addresses, says getaddrinfo(3) or one of its elders. */
void peer_learn(const char *host, const struct in6_addr *addresses, size_t n);

/*
 * peer_of - name the peer at @addr (AF_INET or AF_INET6; IPv4-mapped is unwrapped)
 * Context: any thread under the guard, signal handlers too; no lock; no allocation.
 */
void peer_of(const struct sockaddr *addr, uint64_t now, struct peer *ret);

/* peer_known_as - the same by what the whole process looked up, not by this thread's latest */
void peer_known_as(const struct sockaddr *addr, uint64_t now, struct peer *ret);

/*
 * peer_named - the peer that a program names by itself, without a look-up of ours
 * @host: a name or an address, no brackets; folded as a looked up one
 * Returns false when it is neither. What its address is may not be known: then all zero, and
 * *ret_address is false.
 * Context: as peer_of().
 */
bool peer_named(const char *host, uint16_t port, struct peer *ret, bool *ret_address);

/* peer_address - the address in IPv6 form; v4-mapped for IPv4 */
struct in6_addr peer_address(const struct sockaddr *addr);

#endif
