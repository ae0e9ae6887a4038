/* SPDX-License-Identifier: Apache-2.0 */
/* The shared table of peers: found, claimed, raced for, given on, filled with noise. */
#include "core/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

#define NOW    (1000 * NS_PER_S)
#define RACERS 4

static struct state *table;

static bool gone(uint32_t pid)
{
	return kill((pid_t) pid, 0) < 0 && errno == ESRCH;
}

static bool nobody_is_gone(uint32_t pid)
{
	(void) pid;
	return false;
}

static struct state_writer self(void)
{
	return (struct state_writer) { (uint32_t) getpid(), 4026531836, gone };
}

static int make(void **state)
{
	(void) state;
	table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	return table == MAP_FAILED ? -1 : 0;
}

static int drop(void **state)
{
	(void) state;
	return munmap(table, sizeof(*table));
}

static void empty(void)
{
	memset(table, 0, sizeof(*table));
}

static bool find(const char *peer, uint64_t now, struct state_found *ret)
{
	const struct state_writer writer = self();

	return state_find(table, peer, &writer, now, ret);
}

static const char *numbered(unsigned n)
{
	static char peer[32];

	(void) snprintf(peer, sizeof(peer), "peer-%u:80", n);
	return peer;
}

/* How many slots say that they are @peer's; NULL: anybody's. */
static unsigned slots_of(const char *peer)
{
	char text[STATE_PEER_SIZE];
	struct state_ref ref;
	unsigned n = 0;

	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		if (state_read(table, i, text, &ref) && (peer == NULL || strcmp(text, peer) == 0))
			n++;
	return n;
}

static bool same_ref(struct state_ref a, struct state_ref b)
{
	return a.index == b.index && a.incarnation == b.incarnation;
}

static void the_first_search_creates_and_the_next_finds(void **state)
{
	struct state_found first, again;
	char peer[STATE_PEER_SIZE];
	struct state_ref ref;

	(void) state;
	errno = 1234;
	assert_true(find("payments:443", NOW, &first));
	assert_true(first.created);
	assert_string_equal(first.evicted, "");
	assert_int_equal(first.ref.incarnation % 2, 0);
	assert_int_not_equal(first.ref.incarnation, 0);
	for (int i = 0; i < 3; i++) {
		assert_true(find("payments:443", NOW + (unsigned) i, &again));
		assert_false(again.created);
		assert_string_equal(again.evicted, "");
		assert_true(same_ref(again.ref, first.ref));
	}
	assert_int_equal(errno, 1234);
	assert_ptr_equal(state_slot(table, first.ref), &table->slots[first.ref.index]);
	assert_true(state_read(table, first.ref.index, peer, &ref));
	assert_string_equal(peer, "payments:443");
	assert_true(same_ref(ref, first.ref));
	assert_int_equal(slots_of(NULL), 1);
	assert_int_equal(breaker_peek(&table->slots[first.ref.index].breaker, NULL, NULL),
			 BREAKER_CLOSED);
}

static void peers_of_any_length_are_told_apart(void **state)
{
	char peer[STATE_PEER_SIZE], read[STATE_PEER_SIZE];
	struct state_ref refs[STATE_PEER_SIZE];
	struct state_found found;
	struct state_ref ref;

	(void) state;
	for (size_t n = 0; n < STATE_PEER_SIZE; n++) {
		memset(peer, 'a', n);
		peer[n] = '\0';
		assert_true(find(peer, NOW, &found));
		assert_true(found.created);
		refs[n] = found.ref;
		assert_true(state_read(table, found.ref.index, read, &ref));
		assert_string_equal(read, peer);
	}
	for (size_t n = 0; n < STATE_PEER_SIZE; n++) {
		memset(peer, 'a', n);
		peer[n] = '\0';
		assert_true(find(peer, NOW, &found));
		assert_false(found.created);
		assert_true(same_ref(found.ref, refs[n]));
	}
	assert_int_equal(slots_of(NULL), STATE_PEER_SIZE);
}

static void a_full_table_says_so_and_counts(void **state)
{
	struct state_found found;

	(void) state;
	for (unsigned i = 0; i < STATE_SLOTS; i++) {
		assert_true(find(numbered(i), NOW, &found));
		assert_true(found.created);
		assert_string_equal(found.evicted, "");
	}
	assert_int_equal(slots_of(NULL), STATE_SLOTS);
	assert_int_equal(atomic_load(&table->full), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(find("one more:80", NOW + STATE_IDLE_NS, &found));
		assert_int_equal(atomic_load(&table->full), i + 1);
	}
	for (unsigned i = 0; i < STATE_SLOTS; i++) {
		assert_true(find(numbered(i), NOW, &found));
		assert_false(found.created);
	}
}

static void an_idle_slot_goes_to_a_new_peer_which_names_the_old(void **state)
{
	struct state_found found[STATE_SLOTS], next;
	const uint64_t later = NOW + STATE_IDLE_NS + 1;
	const struct policy policy = policy_product();
	unsigned loser = STATE_SLOTS;

	(void) state;
	for (unsigned i = 0; i < STATE_SLOTS; i++)
		assert_true(find(numbered(i), NOW, &found[i]));

	/* All but two are in use; those two have been tripped, and that has been told. */
	for (unsigned i = 0; i < STATE_SLOTS; i++)
		if (i != 100 && i != 400)
			state_touch(state_slot(table, found[i].ref), later);
	for (unsigned i = 0; i < policy.consecutive_failures; i++)
		for (unsigned k = 100; k <= 400; k += 300) {
			struct state_slot *slot = state_slot(table, found[k].ref);
			struct breaker *b = &slot->breaker;
			struct breaker_ticket ticket;

			atomic_store(&slot->last_error, 1);
			atomic_store(&slot->told, 1);
			atomic_store(&slot->told_at, NOW);
			atomic_store(&slot->traced, NOW);
			assert_int_equal(breaker_admit(b, &policy, NOW, NULL, &ticket),
					 BREAKER_ADMITTED);
			(void) breaker_settle(b, &policy, &ticket, BREAKER_FAILURE, NOW, NULL);
		}

	assert_true(find("new:80", later, &next));
	assert_true(next.created);
	for (unsigned i = 100; i <= 400; i += 300)
		if (strcmp(next.evicted, numbered(i)) == 0)
			loser = i;
	assert_int_not_equal(loser, STATE_SLOTS);
	assert_int_equal(next.ref.index, found[loser].ref.index);

	/* Nobody reaches the new peer's breaker with the old ref, and it begins afresh. */
	assert_null(state_slot(table, found[loser].ref));
	assert_int_equal(breaker_peek(&state_slot(table, next.ref)->breaker, NULL, NULL),
			 BREAKER_CLOSED);
	const struct state_slot *slot = state_slot(table, next.ref);

	/* What was told of the old peer says nothing of the new one. */
	assert_int_equal(atomic_load(&slot->last_error), 0);
	assert_int_equal(atomic_load(&slot->told), 0);
	assert_int_equal(atomic_load(&slot->told_at), 0);
	assert_int_equal(atomic_load(&slot->traced), 0);
	assert_int_equal(slots_of(numbered(loser)), 0);
	assert_int_equal(slots_of("new:80"), 1);

	/* The other idle peer is still itself when it comes back. */
	assert_true(find(numbered(500 - loser), later, &next));
	assert_false(next.created);
	assert_int_equal(breaker_peek(&state_slot(table, next.ref)->breaker, NULL, NULL),
			 BREAKER_OPEN);
	state_touch(state_slot(table, next.ref), later);
	assert_false(find("another:80", later, &next));
}

static void touching_writes_at_most_once_a_second(void **state)
{
	struct state_found found;
	struct state_slot *slot;

	(void) state;
	assert_true(find("a:1", NOW, &found));
	slot = state_slot(table, found.ref);
	state_touch(slot, NOW + NS_PER_S);
	assert_true(atomic_load(&slot->used_at) == NOW);
	state_touch(slot, NOW + NS_PER_S + 1);
	assert_true(atomic_load(&slot->used_at) == NOW + NS_PER_S + 1);
	state_touch(slot, NOW); /* another thread's clock lags behind */
	assert_true(atomic_load(&slot->used_at) == NOW + NS_PER_S + 1);
}

static void refs_from_elsewhere_give_no_slot(void **state)
{
	struct state_found found;
	struct state_ref ref;

	(void) state;
	assert_true(find("a:1", NOW, &found));
	ref = found.ref;
	ref.incarnation += 2;
	assert_null(state_slot(table, ref));
	ref = found.ref;
	ref.incarnation -= 2;
	assert_null(state_slot(table, ref));
	ref = found.ref;
	ref.index = (ref.index + 1) % STATE_SLOTS;
	assert_null(state_slot(table, ref));
	/* An index is masked, not believed. */
	ref = found.ref;
	ref.index += STATE_SLOTS;
	assert_ptr_equal(state_slot(table, ref), &table->slots[found.ref.index]);
}

static void incarnations_wrap_without_a_gap(void **state)
{
	struct state_found found;
	uint64_t now = NOW;

	(void) state;
	assert_true(find("a:1", now, &found));
	atomic_store(&table->slots[found.ref.index].stamp, UINT64_C(0xfffffe));
	for (int i = 0; i < 4; i++) {
		struct state_slot *slot = &table->slots[found.ref.index];
		const struct state_ref old = {
			found.ref.index, (uint32_t) atomic_load(&slot->stamp) };

		/* The same place each time: the peer before has been idle for long. */
		now += STATE_IDLE_NS + 1;
		atomic_store(&slot->hash, state_peer_hash("a:1") + 1);
		assert_true(find("a:1", now, &found));
		assert_true(found.created);
		assert_int_equal(found.ref.index, old.index);
		assert_int_equal(found.ref.incarnation % 2, 0);
		assert_true(found.ref.incarnation != 0 && found.ref.incarnation <= 0xffffff);
		assert_null(state_slot(table, old));
	}
}

/* ---- writers that stopped in the middle ---- */

#define PID_SHIFT 24
#define NS_SHIFT  46

/* Leaves the slot as a writer @pid of namespace @pidns does that gets no further. */
static void abandon(struct state_ref ref, uint32_t pid, uint64_t pidns)
{
	const uint64_t ns = (pidns ^ pidns >> 18) & 0x3ffff;

	atomic_store(&table->slots[ref.index].stamp,
		     ns << NS_SHIFT | (uint64_t) pid << PID_SHIFT | (ref.incarnation + 1));
}

static uint32_t dead_pid(void)
{
	const pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return (uint32_t) pid;
}

static void a_dead_writers_slot_is_finished_by_the_next(void **state)
{
	struct state_found first, second;
	char peer[STATE_PEER_SIZE];
	struct state_ref ref;

	(void) state;
	assert_true(find("a:1", NOW, &first));
	abandon(first.ref, dead_pid(), self().pidns);
	assert_null(state_slot(table, first.ref));
	assert_false(state_read(table, first.ref.index, peer, &ref));
	assert_true(find("a:1", NOW, &second));
	assert_true(second.created);
	assert_string_equal(second.evicted, ""); /* half a name is no name */
	assert_int_equal(second.ref.index, first.ref.index);
	assert_true(second.ref.incarnation > first.ref.incarnation + 1);
	assert_int_equal(slots_of(NULL), 1);
}

static void a_living_writer_is_not_stolen_from(void **state)
{
	struct state_found first, found;

	(void) state;
	assert_true(find("a:1", NOW, &first));
	abandon(first.ref, (uint32_t) getppid(), self().pidns);

	const uint64_t stamp = atomic_load(&table->slots[first.ref.index].stamp);

	/* It may be writing this very peer: without a breaker this once. */
	assert_false(find("a:1", NOW + 2 * STATE_IDLE_NS, &found));
	assert_true(atomic_load(&table->slots[first.ref.index].stamp) == stamp);
	assert_int_equal(slots_of("a:1"), 0);
}

static void a_writer_of_another_pid_namespace_is_not_judged(void **state)
{
	struct state_found first, found;

	(void) state;
	assert_true(find("a:1", NOW, &first));
	/* To us this number is free; there it is somebody. */
	abandon(first.ref, dead_pid(), self().pidns + 1);
	assert_false(find("a:1", NOW, &found));

	const struct state_writer there = { 1, self().pidns + 1, gone };

	assert_true(state_find(table, "a:1", &there, NOW, &found));
	assert_true(found.created);
	assert_int_equal(found.ref.index, first.ref.index);
}

static void a_writer_of_another_pid_namespace_has_a_minute(void **state)
{
	const uint64_t t0 = NOW + 5 * STATE_IDLE_NS; /* when it is first met counts */
	struct state_found first, found;

	(void) state;
	assert_true(find("a:1", NOW, &first));
	abandon(first.ref, dead_pid(), self().pidns + 1);
	assert_false(find("a:1", t0, &found));
	assert_false(find("a:1", t0 + STATE_WRITER_NS, &found));
	assert_false(find("a:1", t0 - NS_PER_S, &found)); /* a clock that lags behind */

	/* It is alive after all, and writes the slot again: that is another minute. */
	first.ref.incarnation += 2;
	abandon(first.ref, dead_pid(), self().pidns + 1);
	assert_false(find("a:1", t0 + STATE_WRITER_NS + 1, &found));
	assert_false(find("a:1", t0 + 2 * STATE_WRITER_NS + 1, &found));
	assert_true(find("a:1", t0 + 2 * STATE_WRITER_NS + 2, &found));
	assert_true(found.created);
	assert_int_equal(found.ref.index, first.ref.index);
	assert_int_equal(slots_of(NULL), 1);
}

/* ---- races ---- */

struct track {
	_Atomic unsigned ready, done, round;
	struct state_found found[RACERS];
	bool ok[RACERS];
};

static void wait_for(_Atomic unsigned *n, unsigned value)
{
	while (atomic_load(n) < value)
		(void) sched_yield();
}

/*
 * All racers look for one peer of each round at once. Their clocks differ by @skew, so that
 * what is idle to one may be in use to another.
 */
static void run_race(unsigned rounds, uint64_t skew, unsigned peers)
{
	struct track *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[RACERS];

	assert_true(t != MAP_FAILED);
	for (unsigned r = 0; r < RACERS; r++) {
		pids[r] = fork();
		if (pids[r] != 0)
			continue;
		(void) alarm(60);
		for (unsigned i = 1; i <= rounds; i++) {
			const uint64_t now = NOW + i * (STATE_IDLE_NS / peers) + r * skew;

			wait_for(&t->round, i);
			t->ok[r] = find(numbered(i), now, &t->found[r]);
			atomic_fetch_add(&t->done, 1);
		}
		_exit(0);
	}
	for (unsigned i = 1; i <= rounds; i++) {
		unsigned created = 0;

		atomic_store(&t->round, i);
		wait_for(&t->done, i * RACERS);
		for (unsigned r = 0; r < RACERS; r++) {
			/* A racer that met a stopped writer goes unguarded, never astray. */
			if (!t->ok[r])
				continue;
			created += t->found[r].created;
			if (state_slot(table, t->found[r].ref) != NULL)
				assert_int_equal(slots_of(numbered(i)), 1);
		}
		assert_true(created >= 1);
		assert_int_equal(slots_of(numbered(i)), 1);
	}
	for (unsigned r = 0; r < RACERS; r++) {
		int status;

		assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
		assert_int_equal(status, 0);
	}
	(void) munmap(t, sizeof(*t));
}

static void racers_for_one_peer_end_in_one_slot(void **state)
{
	(void) state;
	run_race(STATE_SLOTS - 2, 0, 10 * STATE_SLOTS);
}

static void racers_who_disagree_on_idleness_end_in_one_slot(void **state)
{
	(void) state;
	/* Some 200 peers are in use at a time, each new one takes the place of an old one. */
	run_race(2000, 20 * NS_PER_S, 200);
}

/* ---- noise ---- */

static uint64_t random64(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static bool even_pids_are_gone(uint32_t pid)
{
	return pid % 2 == 0;
}

/* Every call answers, and what is found is found again. */
static void search_noise(uint64_t *seed)
{
	struct state_writer writer = self();
	struct state_found found, again;
	char peer[STATE_PEER_SIZE];

	writer.gone = random64(seed) % 2 ? even_pids_are_gone : nobody_is_gone;
	for (unsigned i = 0; i < 20; i++) {
		const uint64_t now = random64(seed) >> random64(seed) % 64;

		if (!state_find(table, numbered(i), &writer, now, &found))
			continue;
		assert_true(found.ref.index < STATE_SLOTS);
		assert_non_null(memchr(found.evicted, '\0', STATE_PEER_SIZE));
		assert_non_null(state_slot(table, found.ref));
		state_touch(state_slot(table, found.ref), now);
		if (!found.created)
			continue;
		assert_true(state_find(table, numbered(i), &writer, now, &again));
		assert_true(same_ref(found.ref, again.ref));
		assert_true(state_read(table, found.ref.index, peer, &found.ref));
		assert_string_equal(peer, numbered(i));
	}
	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		if (state_read(table, i + 7 * STATE_SLOTS, peer, &found.ref))
			for (const char *c = peer; *c != '\0'; c++)
				assert_in_range((unsigned char) *c, 0x20, 0x7e);
}

static void noise_in_the_whole_table_harms_nobody(void **state)
{
	(void) state;
	(void) alarm(100); /* bounded, whatever it reads */
	for (uint64_t n = 1; n <= 60; n++) {
		uint64_t seed = n * UINT64_C(0x9e3779b97f4a7c15);
		const uint64_t few = n % 3; /* 0: all odd, 1: all even, 2: as it comes */

		for (size_t i = 0; i < sizeof(*table) / 8; i++)
			((uint64_t *) table)[i] = random64(&seed);
		for (uint32_t i = 0; few != 2 && i < STATE_SLOTS; i++) {
			_Atomic uint64_t *stamp = &table->slots[i].stamp;

			/* Those of our own namespace can be judged, others can only be waited for. */
			atomic_store(stamp, (atomic_load(stamp) & ~UINT64_C(1)) | !few);
		}
		search_noise(&seed);
	}
	(void) alarm(0);
	empty();
}

static void control_characters_are_not_shown(void **state)
{
	struct state_found found;
	char peer[STATE_PEER_SIZE];

	(void) state;
	assert_true(find("a\033[31m\n\177\xff:1", NOW, &found));
	assert_true(state_read(table, found.ref.index, peer, &found.ref));
	assert_string_equal(peer, "a?[31m???:1");
}

static void settings_are_shown_as_they_were_noted(void **state)
{
	struct policy p = policy_product(), seen;
	enum config_source sources[CONFIG_KEYS], seen_sources[CONFIG_KEYS];
	struct state_found found;

	(void) state;
	assert_true(find("payments:443", NOW, &found));

	struct state_slot *slot = state_slot(table, found.ref);

	assert_false(state_settings(slot, &seen, seen_sources));
	p.probe_timeout_ns = 4 * NS_PER_S;
	p.max_requests = POLICY_MAX_REQUESTS_MAX;
	p.consecutive_failures = 1000000;
	p.refusal_errno = EHOSTUNREACH;
	p.mode = POLICY_FORCED_CLOSED;
	for (int key = 0; key < CONFIG_KEYS; key++)
		sources[key] = (enum config_source) (key % (CONFIG_RULE + 1));
	state_put_settings(slot, &p, sources);
	assert_true(state_settings(slot, &seen, seen_sources));
	assert_memory_equal(sources, seen_sources, sizeof(sources));
	for (int key = 0; key < CONFIG_KEYS; key++) {
		char put[64], got[64];

		(void) config_key_text(&p, (enum config_key) key, put, sizeof(put));
		(void) config_key_text(&seen, (enum config_key) key, got, sizeof(got));
		assert_string_equal(put, got);
	}
	/* A source or a mode that there is none of: noise. */
	atomic_store(&slot->settings[5], UINT64_MAX);
	assert_false(state_settings(slot, &seen, seen_sources));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
		TEST(settings_are_shown_as_they_were_noted),
		TEST(the_first_search_creates_and_the_next_finds),
		TEST(peers_of_any_length_are_told_apart),
		TEST(a_full_table_says_so_and_counts),
		TEST(an_idle_slot_goes_to_a_new_peer_which_names_the_old),
		TEST(touching_writes_at_most_once_a_second),
		TEST(refs_from_elsewhere_give_no_slot),
		TEST(incarnations_wrap_without_a_gap),
		TEST(a_dead_writers_slot_is_finished_by_the_next),
		TEST(a_living_writer_is_not_stolen_from),
		TEST(a_writer_of_another_pid_namespace_is_not_judged),
		TEST(a_writer_of_another_pid_namespace_has_a_minute),
		TEST(racers_for_one_peer_end_in_one_slot),
		TEST(racers_who_disagree_on_idleness_end_in_one_slot),
		TEST(noise_in_the_whole_table_harms_nobody),
		TEST(control_characters_are_not_shown),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
