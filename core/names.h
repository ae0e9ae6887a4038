/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names under which this process looked addresses up, so that a breaker is called
 * "payments:443" and not "10.3.2.1:443". Bounded, private to the process, inherited by fork.
 */
#ifndef CORE_NAMES_H
#define CORE_NAMES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_MAX          512 /* distinct host names remembered; later ones are not */
#define NAMES_ADDRESSES    1024 /* addresses remembered; the oldest in a set gives way */
#define NAMES_NAME_SIZE    254 /* RFC 1035 2.3.4: 253 octets in text, and a NUL */
#define NAMES_LOOKUP_MAX   8   /* addresses of the latest lookup kept per thread */
#define NAMES_LEARN_MAX    64 /* addresses of one lookup that the table is told of */

/*
 * A name neither looked up nor connected to for this long gives its address up to the next
 * name; before, the address has two names and is ambiguous. Nothing expires by itself: a proxy
 * resolves its upstreams once and connects to them for weeks.
 */
#define NAMES_LIVE_NS      (600 * UINT64_C(1000000000))

/* A thread's latest lookup; zero-filled at first. The caller keeps it in thread-local memory. */
struct names_latest {
	uint32_t name;                        /* 1 + index of the name; 0: none */
	uint32_t addresses[NAMES_LOOKUP_MAX]; /* hashes; 0: none */
};

/* Opaque; zero-filled memory of names_size() bytes, 8-byte aligned, is empty and ready. */
struct names;

size_t names_size(void);

/*
 * names_learn - remember that @host resolved to @addresses
 * @host: as the program wrote it; folded to lower case, a final dot dropped. A literal
 *        address, an empty or an over-long name is ignored.
 * @now:    not 0
 * @latest: replaced by this lookup; holds no name when the table had no room for it
 *
 * A new name that finds NAMES_MAX others is not remembered, and makes its addresses ambiguous:
 * somebody else's name would be wrong for them.
 * Context: any thread; takes no lock that can block (a busy table forgets this lookup);
 * no allocation; errno kept. Not from signal handlers, as getaddrinfo(3) itself is not.
 */
void names_learn(struct names *n, const char *host, const struct in6_addr *addresses,
		 size_t n_addresses, uint64_t now, struct names_latest *latest);

/*
 * names_find - the name to key @address by, or false: key it by the address itself
 * @ret_host: NAMES_NAME_SIZE bytes
 *
 * The thread's latest lookup decides first; then the table, unless the address has had
 * several live names at once, which makes it ambiguous for good. Being found keeps a name live.
 * @ret_followed: another address stood behind this one in the lookup, so a program that
 * fails here is likely to try that next
 * Context: any thread, signal handlers too; lock-free (sequence-checked copies); errno kept.
 */
bool names_find(struct names *n, const struct in6_addr *address,
		const struct names_latest *latest, uint64_t now, char *ret_host,
		bool *ret_followed);

/*
 * names_address - an address that @host was resolved to, or false when none is known
 * @host: as names_learn() takes it
 * Context: as names_find(); looks through the whole table.
 */
bool names_address(struct names *n, const char *host, struct in6_addr *ret);

#endif
