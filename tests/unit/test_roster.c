/* SPDX-License-Identifier: Apache-2.0 */
/* The peers of a process: found, added by many at once, full, and tied to shared slots. */
#include "core/roster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/address.h"
#include "core/clock.h"

#define NOW     (1000 * NS_PER_S)
#define THREADS 4
#define PEERS   (ROSTER_ENTRIES / THREADS)

static struct roster *roster;
static struct state *table;
static struct config config;

static const char *lookup(void *arg, const char *name)
{
	for (const char *const *pair = arg; *pair != NULL; pair += 2)
		if (strcmp(pair[0], name) == 0)
			return pair[1];
	return NULL;
}

static int make(void **state)
{
	static const char *const pairs[] = {
		"AGENTSHIM_TIMEOUT", "20s",
		"AGENTSHIM_PEERS", "*,!db:5432",
		"AGENTSHIM_RULES", "pay:443 timeout=5s consecutive_failures=3; *.local mode=off",
		NULL,
	};

	(void) state;
	config_from_environment(lookup, (void *) pairs, &config);
	roster = mmap(NULL, sizeof(*roster), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	return config.n_problems != 0 || roster == MAP_FAILED || table == MAP_FAILED ? -1 : 0;
}

static int drop(void **state)
{
	(void) state;
	return munmap(roster, sizeof(*roster)) | munmap(table, sizeof(*table));
}

static bool gone(uint32_t pid)
{
	(void) pid;
	return false;
}

static struct state_writer self(void)
{
	return (struct state_writer) { (uint32_t) getpid(), 1, gone };
}

static struct roster_entry *add(const char *host, uint16_t port)
{
	struct config_peer who = { .host = host, .port = port };
	char peer[STATE_PEER_SIZE];

	(void) address_parse("192.0.2.1", &who.address);
	(void) snprintf(peer, sizeof(peer), "%s:%u", host, (unsigned) port);
	return roster_add(roster, peer, &config, &who);
}

static struct state_slot *slot_of(struct roster_entry *e, uint64_t now, struct state_ref *ret_ref,
				  struct state_found *ret_found)
{
	const struct state_writer writer = self();

	return roster_slot(e, table, &writer, now, ret_ref, ret_found);
}

static void an_added_peer_is_found(void **state)
{
	(void) state;
	assert_null(roster_find(roster, "a:1"));

	struct roster_entry *e = add("a", 1);

	assert_non_null(e);
	assert_string_equal(e->peer, "a:1");
	assert_ptr_equal(roster_find(roster, "a:1"), e);
	assert_ptr_equal(add("a", 1), e);
	assert_null(roster_find(roster, "a:2"));
	assert_null(roster_find(roster, ""));
	assert_ptr_not_equal(add("a", 2), e);
	assert_ptr_equal(roster_find(roster, "a:1"), e);
}

static void names_of_full_length_are_told_apart(void **state)
{
	const struct config_peer who = { .host = "a", .port = 1 };
	char peer[2][STATE_PEER_SIZE];

	(void) state;
	for (int i = 0; i < 2; i++) {
		memset(peer[i], 'a', STATE_PEER_SIZE - 1);
		peer[i][STATE_PEER_SIZE - 2] = (char) ('x' + i);
		peer[i][STATE_PEER_SIZE - 1] = '\0';
		assert_non_null(roster_add(roster, peer[i], &config, &who));
	}
	for (int i = 0; i < 2; i++)
		assert_string_equal(roster_find(roster, peer[i])->peer, peer[i]);
	assert_ptr_not_equal(roster_find(roster, peer[0]), roster_find(roster, peer[1]));
}

static void settings_come_from_the_first_rule_that_fits(void **state)
{
	(void) state;
	assert_true(add("pay", 443)->wanted);
	assert_true(add("pay", 443)->policy.timeout_ns == 5 * NS_PER_S);
	assert_int_equal(add("pay", 443)->policy.consecutive_failures, 3);

	assert_true(add("pay", 80)->wanted);
	assert_true(add("pay", 80)->policy.timeout_ns == 20 * NS_PER_S);
	assert_int_equal(add("pay", 80)->policy.consecutive_failures, 5);

	assert_int_equal(add("printer.local", 631)->policy.mode, POLICY_OFF);
	assert_false(add("db", 5432)->wanted);
	assert_true(add("db", 5433)->wanted);
}

static void a_full_roster_says_so_and_still_finds(void **state)
{
	(void) state;
	for (unsigned i = 1; i <= ROSTER_ENTRIES; i++)
		assert_non_null(add("a", (uint16_t) i));
	for (int i = 0; i < 3; i++)
		assert_null(add("b", 1));
	assert_null(roster_find(roster, "b:1"));
	for (unsigned i = 1; i <= ROSTER_ENTRIES; i++)
		assert_int_equal(strtol(add("a", (uint16_t) i)->peer + 2, NULL, 10), i);
}

/* ---- many threads ---- */

static pthread_barrier_t start;

struct lane {
	unsigned first;
	struct roster_entry *found[PEERS];
};

static void *add_all(void *arg)
{
	struct lane *lane = arg;

	(void) pthread_barrier_wait(&start);
	for (unsigned i = 0; i < PEERS; i++)
		lane->found[i] = add("a", (uint16_t) (lane->first + i));
	return NULL;
}

static void add_together(struct lane lanes[THREADS])
{
	pthread_t threads[THREADS];

	assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
	for (int t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&threads[t], NULL, add_all, &lanes[t]), 0);
	for (int t = 0; t < THREADS; t++)
		assert_int_equal(pthread_join(threads[t], NULL), 0);
	(void) pthread_barrier_destroy(&start);
}

static void threads_that_add_one_peer_get_one_entry(void **state)
{
	static struct lane lanes[THREADS];

	(void) state;
	for (int round = 0; round < 20; round++) {
		memset(roster, 0, sizeof(*roster));
		for (int t = 0; t < THREADS; t++)
			lanes[t].first = 1; /* the same for all: at worst each fills an entry */
		add_together(lanes);
		for (unsigned i = 0; i < PEERS; i++) {
			assert_non_null(lanes[0].found[i]);
			for (int t = 1; t < THREADS; t++)
				assert_ptr_equal(lanes[t].found[i], lanes[0].found[i]);
		}
	}
}

static void threads_that_add_different_peers_lose_none(void **state)
{
	static struct lane lanes[THREADS];

	(void) state;
	for (int round = 0; round < 20; round++) {
		memset(roster, 0, sizeof(*roster));
		for (unsigned t = 0; t < THREADS; t++)
			lanes[t].first = 1 + t * PEERS;
		add_together(lanes);
		for (unsigned t = 0; t < THREADS; t++)
			for (unsigned i = 0; i < PEERS; i++) {
				assert_non_null(lanes[t].found[i]);
				assert_int_equal(
					strtol(lanes[t].found[i]->peer + 2, NULL, 10),
					1 + t * PEERS + i);
				assert_ptr_equal(add("a", (uint16_t) (1 + t * PEERS + i)),
						 lanes[t].found[i]);
			}
		assert_null(add("one more", 1));
	}
}

/* ---- shared slots ---- */

static void an_entry_keeps_its_slot_until_another_peer_has_it(void **state)
{
	struct roster_entry *e = add("a", 1);
	struct state_found found;
	struct state_ref ref, again;

	(void) state;

	struct state_slot *slot = slot_of(e, NOW, &ref, &found);

	assert_non_null(slot);
	assert_true(found.created);
	assert_ptr_equal(slot_of(e, NOW, &again, &found), slot);
	assert_false(found.created);
	assert_int_equal(again.incarnation, ref.incarnation);

	/* Another process gave the slot to somebody else, and then again. */
	atomic_fetch_add(&slot->stamp, 4);
	atomic_store(&slot->hash, 7);
	assert_non_null(slot_of(e, NOW, &again, &found));
	assert_true(found.created);
	assert_true(again.index != ref.index || again.incarnation != ref.incarnation);
}

static void without_a_slot_it_asks_again_only_after_a_while(void **state)
{
	struct roster_entry *e = add("a", 1);
	const struct state_writer writer = self();
	struct state_found found;
	struct state_ref ref;
	char peer[32];

	(void) state;
	for (unsigned i = 0; i < STATE_SLOTS; i++) {
		(void) snprintf(peer, sizeof(peer), "b:%u", i);
		assert_true(state_find(table, peer, &writer, NOW, &found));
	}
	for (int i = 0; i < 5; i++)
		assert_null(slot_of(e, NOW, &ref, &found));
	assert_false(found.created);
	assert_int_equal(atomic_load(&table->full), 1); /* one search for five calls */

	/* Room was made; the next search finds it. */
	assert_non_null(slot_of(e, NOW + STATE_IDLE_NS + NS_PER_S, &ref, &found));
	assert_true(found.created);
	assert_int_equal(strncmp(found.evicted, "b:", 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
		TEST(an_added_peer_is_found),
		TEST(names_of_full_length_are_told_apart),
		TEST(settings_come_from_the_first_rule_that_fits),
		TEST(a_full_roster_says_so_and_still_finds),
		TEST(threads_that_add_one_peer_get_one_entry),
		TEST(threads_that_add_different_peers_lose_none),
		TEST(an_entry_keeps_its_slot_until_another_peer_has_it),
		TEST(without_a_slot_it_asks_again_only_after_a_while),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
