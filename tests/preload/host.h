/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every preload test stands on: the program under test starts itself again under the
 * shim with a directory of its own, meets peers that are well or sick in one thread, and
 * reads its breakers from the mapped state file.
 *
 * Peers have an address of 127/8 each, so that no breaker is met twice. Settings: two
 * failures in a row trip, one probe. Nothing of it hangs on the machine's speed: patience
 * is an hour, or a millisecond with silent peers, and the open time is over when
 * peer_rest() says so.
 */
#ifndef TESTS_PRELOAD_HOST_H
#define TESTS_PRELOAD_HOST_H

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/breaker.h"
#include "core/metrics.h"

#define TRIP_AT 2 /* AGENTSHIM_CONSECUTIVE_FAILURES of these tests */

/*
 * host_start - be a host: the first call of main()
 *
 * Outside of the shim: runs this program once more under $SHIM (the built object) with a
 * fresh AGENTSHIM_DIR, removes that and exits as the program did. Inside: returns.
 * @extra: "NAME=VALUE" settings of the test's own, NULL at the end; may be NULL
 */
void host_start(int argc, char **argv, const char *const *extra);

/* The directory of this host's files. */
const char *host_dir(void);

struct peer {
	struct sockaddr_in addr;
	int listener; /* bound; listening unless the peer refuses */
	char key[32]; /* its breaker's */
};

/* A peer of its own address: peer_refusing() answers SYNs with RST until peer_heal(). */
struct peer peer_listening(void);
struct peer peer_refusing(void);
/* As peer_listening(); patience with it lasts a millisecond, and this waits for longer.
 */
struct peer peer_silent(void);
void patience_passes(void);
void peer_heal(struct peer *p);
/* Its breaker's place goes to the next peer. */
void peer_drop(struct peer *p);

/* A peer on 127.0.0.1 whose port nobody else gets before this program ends. */
struct peer peer_local(bool listening);

/* A peer whose queue is full: connections to it stay under way. @impatient: as peer_silent(). */
struct peer peer_hanging(bool impatient);

/* The peer's side of the next connection; nobody there: -1. */
int peer_accept(const struct peer *p);
/* Ends the peer's side with RST. */
void peer_reset(int fd);

/* An unconnected TCP socket, and one connected through connect(2), which must work. */
int tcp_socket(void);
int tcp_connected(const struct peer *p);
int tcp_connect(int fd, const struct peer *p);
/* Waits for poll(2) to report @events on @fd. */
void wait_for(int fd, short events);

/* The breaker of "host:port"; NULL when there is none. */
struct breaker *breaker_of(const char *key);
enum breaker_state state_of(const char *key);
/* Over all generations; zeros when there is no breaker. */
struct breaker_totals totals_of(const char *key);
/* What a coverage counter of the service says; 0 when there is no file yet. */
uint64_t host_counted(enum metrics_counter which);
/* Calls asked for in the breaker's present generation. */
uint64_t requests_of(const char *key);
/* The open time of the peer's breaker is over. */
void peer_rest(const char *key);

#define assert_totals(key, good, bad, neither)                                           \
	host_assert_totals((key), (good), (bad), (neither), __FILE__, __LINE__)
void host_assert_totals(const char *key, uint64_t successes, uint64_t failures,
			uint64_t exclusions, const char *file, int line);

/* Opens the peer's breaker by two connects that fail: it must refuse just now. */
void peer_trip(const struct peer *p);

/*
 * child_status - fork, run @f in the child, wait
 * Returns what @f did: 0, or the line of the CHECK that failed; 1000 + N when signal N
 * ended it.
 */
int child_status(int (*f)(void *), void *arg);
int wait_status(int pid);

#define CHECK(truth)                                                                     \
	do {                                                                             \
		if (!(truth))                                                            \
			return __LINE__;                                                 \
	} while (0)

/* Open descriptors and threads of this process. */
int count_descriptors(void);
int count_threads(void);

/* The kernel's own calls, past any hook. */
long past_hooks(long nr, long a, long b, long c, long d, long e, long f);
int raw_close(int fd);

/* Passed on a machine that has what the test needs, else skipped with the reason. */
#define need(truth, reason)                                                              \
	do {                                                                             \
		if (!(truth)) {                                                          \
			print_message("# skip: %s\n", (reason));                         \
			skip();                                                          \
		}                                                                        \
	} while (0)

#endif
