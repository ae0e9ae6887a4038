/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The breakers of one service and what else its processes count: a fixed table of slots in shared memory, found by peer.
 *
 * A slot is named by index and incarnation. The incarnation is odd while the slot is being
 * rewritten; the word that holds it also names the writer, so that anybody may finish the
 * work of a dead one. Slots are never freed, only given to another peer once they are idle.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/breaker.h"
#include "core/config.h"
#include "core/metrics.h"

/*
 * Of all three files of a service. Their names carry it, so that an old and a new version run
 * side by side: STATE_FILE("state") is ".v2.state".
 */
#define STATE_LAYOUT     2
#define STATE_FILE(kind) ".v" STATE_QUOTE(STATE_LAYOUT) "." kind
#define STATE_QUOTE(x)   STATE_QUOTE_(x)
#define STATE_QUOTE_(x)  #x

#define STATE_SLOTS     512
#define STATE_PEER_SIZE 264 /* "host:port": 253 + 1 + 5, brackets of IPv6, NUL; in words */
#define STATE_IDLE_NS   (600 * UINT64_C(1000000000)) /* unused this long, a slot may go */

/*
 * A writer whose pid means nothing to us is taken for dead after this long over one slot:
 * else a container that ended there would keep the slot odd for ever. It takes microseconds.
 */
#define STATE_WRITER_NS (60 * UINT64_C(1000000000))

struct state_slot {
	/* `pidns hash:18 | pid:22 | incarnation:24`; pid is the writer's while odd, else 0 */
	_Atomic uint64_t stamp;
	_Atomic uint64_t hash;    /* of the peer; 0: never used */
	_Atomic uint64_t used_at; /* last admission asked, to the second or so */
	_Atomic uint64_t last_error; /* `kind:8 | code:32` of the latest failure, for events */
	_Atomic uint64_t peer[STATE_PEER_SIZE / 8]; /* the bytes of the text, NUL-padded */
	/* Refusals are told of in sums, over all processes. */
	_Atomic uint64_t told;    /* refusals told of so far */
	_Atomic uint64_t told_at; /* when that was */
	_Atomic uint64_t traced;  /* generation whose first refusal has given its stack */
	_Atomic uint64_t settings[6]; /* see state_put_settings() */
	/* The odd stamp that a process of another pid namespace saw here, and when first. */
	_Atomic uint64_t odd_stamp, odd_since;
	struct breaker breaker;
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct state_slot) <= 1024, "a slot, breaker included, costs 1 KiB");

struct state {
	_Atomic uint64_t full;    /* peers that found no slot */
	_Atomic uint64_t events;  /* next event id */
	uint64_t pad[6];
	struct state_slot slots[STATE_SLOTS];
	struct metrics metrics;
};

struct state_ref {
	uint32_t index;
	uint32_t incarnation; /* even */
};

struct state_writer {
	uint32_t pid;
	uint64_t pidns;
	bool (*gone)(uint32_t pid); /* surely dead? kill(pid, 0) == ESRCH */
};

/* Result of state_find(): was the slot made for this call, and whose place did it take? */
struct state_found {
	struct state_ref ref;
	bool created;
	char evicted[STATE_PEER_SIZE]; /* "" when the place was free */
};

/* state_peer_hash - of "host:port"; never 0 */
uint64_t state_peer_hash(const char *peer);

/*
 * state_find - the slot of @peer, claimed now if there is none
 * @peer: "host:port", shorter than STATE_PEER_SIZE
 * Returns false when there is no place, or when another process is just now writing the slot
 * we want: the caller goes on without a breaker this once.
 * Context: any thread or process, signal handlers too; bounded; no allocation; errno kept.
 */
bool state_find(struct state *s, const char *peer, const struct state_writer *writer,
		uint64_t now, struct state_found *ret);

/*
 * state_slot - the slot of @ref, or NULL when another peer has it by now
 * The answer may be out of date at once: generations keep late results harmless (breaker.h).
 */
struct state_slot *state_slot(struct state *s, struct state_ref ref);

/*
 * state_put_settings - note what a process guards the peer by; for people to look at
 * Processes of one service may be set differently: the one that met the peer last is shown.
 * Context: as state_find().
 */
void state_put_settings(struct state_slot *slot, const struct policy *p,
			const enum config_source sources[CONFIG_KEYS]);

/*
 * state_settings - what was noted; of the policy only what the keys of config.h name
 * Returns false when nothing was, or when it is noise.
 */
bool state_settings(const struct state_slot *slot, struct policy *ret,
		    enum config_source ret_sources[CONFIG_KEYS]);

/* state_touch - say that the slot is in use; writes at most once a second. */
void state_touch(struct state_slot *slot, uint64_t now);

/*
 * state_read - copy slot @index of a (copied) table for showing
 * @ret_peer: STATE_PEER_SIZE bytes, control characters replaced by '?'
 * Returns false when it is free or being written.
 */
bool state_read(const struct state *s, uint32_t index, char *ret_peer,
		struct state_ref *ret_ref);

#endif
