/* SPDX-License-Identifier: Apache-2.0 */
/* Which name an address is keyed by. Includes the source, to put its lock into any state. */
#include "core/names.c"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/edge.h"

#define NOW (1000 * NS_PER_S)

static bool followed; /* of the main thread's latest names_find() */

static struct names *names;
static const struct names_latest none;

static int setup(void **state)
{
	(void) state;
	names = calloc(1, names_size());
	return names ? 0 : -1;
}

static int teardown(void **state)
{
	(void) state;
	free(names);
	return 0;
}

static struct in6_addr address(const char *text)
{
	struct in6_addr a;

	assert_true(address_parse(text, &a));
	return a;
}

static struct in6_addr numbered(unsigned i)
{
	struct in6_addr a = address("10.0.0.0");

	a.s6_addr[13] = (uint8_t) (i >> 16);
	a.s6_addr[14] = (uint8_t) (i >> 8);
	a.s6_addr[15] = (uint8_t) i;
	return a;
}

static void learn(const char *host, const char *text, uint64_t now)
{
	const struct in6_addr a = address(text);
	struct names_latest latest = none;

	names_learn(names, edge_text(host), &a, 1, now, &latest);
}

/* What another thread would call the address. */
static const char *found(const char *text, uint64_t now)
{
	static char host[NAMES_NAME_SIZE];
	const struct in6_addr a = address(text);

	return names_find(names, &a, &none, now, host, &followed) ? host : NULL;
}

static void nothing_is_known_at_first(void **state)
{
	(void) state;
	assert_null(found("10.0.0.1", NOW));
	assert_null(found("::", NOW));
}

static void an_address_is_known_by_the_name_looked_up(void **state)
{
	const struct in6_addr two[] = { address("10.0.0.1"), address("fd00::1") };
	struct names_latest latest = none;
	char host[NAMES_NAME_SIZE];

	(void) state;
	errno = 77;
	names_learn(names, "Payments.Example.", two, 2, NOW, &latest);
	assert_int_equal(errno, 77);
	assert_string_equal(found("10.0.0.1", NOW), "payments.example");
	assert_string_equal(found("fd00::1", NOW), "payments.example");
	assert_null(found("10.0.0.2", NOW));
	assert_true(names_find(names, &two[1], &latest, NOW, host, &followed));
	assert_string_equal(host, "payments.example");
}

static void a_name_tells_an_address_of_its_own(void **state)
{
	struct in6_addr told;

	(void) state;
	learn("payments", "10.0.0.1", NOW);
	learn("other", "10.0.0.2", NOW);
	assert_true(names_address(names, "Payments.", &told));
	assert_memory_equal(&told, &(struct in6_addr[]) { address("10.0.0.1") }[0], sizeof(told));
	assert_false(names_address(names, "nobody", &told));
	assert_false(names_address(names, "10.0.0.1", &told));
}

static void only_the_last_address_of_a_lookup_is_followed_by_none(void **state)
{
	const struct in6_addr three[] = { address("fd00::1"), address("10.0.0.1"),
					  address("10.0.0.2") };
	struct names_latest latest = none;

	(void) state;
	names_learn(names, "payments", three, 3, NOW, &latest);
	for (int i = 0; i < 3; i++) {
		char host[NAMES_NAME_SIZE];

		/* The thread that looked it up knows, and so does every other. */
		assert_true(names_find(names, &three[i], &latest, NOW, host, &followed));
		assert_int_equal(followed, i < 2);
		assert_true(names_find(names, &three[i], &none, NOW, host, &followed));
		assert_int_equal(followed, i < 2);
	}
	names_learn(names, "payments", three, 1, NOW, &latest);
	assert_non_null(found("fd00::1", NOW));
	assert_false(followed);
}

static void a_name_stays_while_nobody_else_claims_the_address(void **state)
{
	(void) state;
	learn("upstream", "10.0.0.1", NOW);
	assert_string_equal(found("10.0.0.1", NOW + 1000 * NAMES_LIVE_NS), "upstream");
}

static void two_live_names_make_an_address_ambiguous_for_good(void **state)
{
	(void) state;
	learn("a", "10.0.0.1", NOW);
	learn("b", "10.0.0.1", NOW + NAMES_LIVE_NS - 1);
	assert_null(found("10.0.0.1", NOW + NAMES_LIVE_NS));
	learn("a", "10.0.0.1", NOW + 3 * NAMES_LIVE_NS);
	assert_null(found("10.0.0.1", NOW + 3 * NAMES_LIVE_NS));
	learn("a", "10.0.0.1", NOW + 9 * NAMES_LIVE_NS);
	assert_null(found("10.0.0.1", NOW + 9 * NAMES_LIVE_NS));
}

static void a_name_that_left_its_address_gives_it_up(void **state)
{
	(void) state;
	learn("a", "10.0.0.1", NOW);
	learn("b", "10.0.0.1", NOW + NAMES_LIVE_NS);
	assert_string_equal(found("10.0.0.1", NOW + NAMES_LIVE_NS), "b");
}

static void lookups_and_connects_keep_a_name_live(void **state)
{
	(void) state;
	learn("a", "10.0.0.1", NOW);
	learn("a", "10.0.0.1", NOW + NAMES_LIVE_NS / 2);
	learn("b", "10.0.0.1", NOW + NAMES_LIVE_NS);
	assert_null(found("10.0.0.1", NOW + NAMES_LIVE_NS));

	learn("a", "10.0.0.2", NOW);
	assert_string_equal(found("10.0.0.2", NOW + NAMES_LIVE_NS / 2), "a");
	learn("b", "10.0.0.2", NOW + NAMES_LIVE_NS);
	assert_null(found("10.0.0.2", NOW + NAMES_LIVE_NS));
}

static void a_clock_that_lags_makes_no_name_old(void **state)
{
	(void) state;
	learn("a", "10.0.0.1", NOW + 5 * NAMES_LIVE_NS);
	learn("b", "10.0.0.1", NOW);
	assert_null(found("10.0.0.1", NOW));
}

static void the_threads_latest_lookup_decides_first(void **state)
{
	const struct in6_addr shared = address("10.0.0.1"), other = address("10.0.0.2");
	struct names_latest mine = none, theirs = none;
	char host[NAMES_NAME_SIZE];

	(void) state;
	names_learn(names, "a", &shared, 1, NOW, &mine);
	names_learn(names, "b", &shared, 1, NOW, &theirs);
	assert_null(found("10.0.0.1", NOW));
	assert_true(names_find(names, &shared, &mine, NOW, host, &followed));
	assert_string_equal(host, "a");
	assert_true(names_find(names, &shared, &theirs, NOW, host, &followed));
	assert_string_equal(host, "b");

	names_learn(names, "c", &other, 1, NOW, &mine);
	assert_false(names_find(names, &shared, &mine, NOW, host, &followed));
	assert_true(names_find(names, &other, &mine, NOW, host, &followed));
	assert_string_equal(host, "c");
}

static void what_is_no_name_changes_nothing(void **state)
{
	static const char *const hosts[] = {
		"", ".", "10.0.0.1", "10.0.0.1.", "::1", "fd00::1", "FD00::1",
	};
	const struct in6_addr a = address("10.0.0.1");
	struct names_latest latest = none, before;
	char over[300];

	(void) state;
	names_learn(names, "kept", &a, 1, NOW, &latest);
	before = latest;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		print_message("# \"%s\"\n", hosts[i]);
		names_learn(names, edge_text(hosts[i]), &a, 1, NOW, &latest);
	}
	memset(over, 'x', sizeof(over) - 1);
	over[sizeof(over) - 1] = '\0';
	names_learn(names, edge_text(over), &a, 1, NOW, &latest);
	over[NAMES_NAME_SIZE] = '\0';
	names_learn(names, edge_text(over), &a, 1, NOW, &latest);
	assert_memory_equal(&latest, &before, sizeof(latest));
	assert_string_equal(found("10.0.0.1", NOW), "kept");
}

static void the_longest_name_fits_with_its_final_dot(void **state)
{
	char host[NAMES_NAME_SIZE + 1];

	(void) state;
	memset(host, 'x', NAMES_NAME_SIZE - 1);
	host[NAMES_NAME_SIZE - 1] = '.';
	host[NAMES_NAME_SIZE] = '\0';
	learn(host, "10.0.0.1", NOW);
	host[NAMES_NAME_SIZE - 1] = '\0';
	assert_string_equal(found("10.0.0.1", NOW), host);
}

static void names_beyond_the_limit_make_their_addresses_ambiguous(void **state)
{
	const struct in6_addr known = numbered(0), fresh = numbered(NAMES_MAX + 1);
	struct names_latest latest = none;
	char host[NAMES_NAME_SIZE];

	(void) state;
	for (unsigned i = 0; i < NAMES_MAX; i++) {
		const struct in6_addr a = numbered(i % 64);

		(void) snprintf(host, sizeof(host), "host-%u", i);
		names_learn(names, host, &a, i < 64, NOW, &latest);
		assert_int_not_equal(latest.name, 0);
	}
	assert_string_equal(found("10.0.0.0", NOW), "host-0");
	names_learn(names, "one-more", &fresh, 1, NOW, &latest);
	assert_int_equal(latest.name, 0);
	assert_false(names_find(names, &fresh, &latest, NOW, host, &followed));
	names_learn(names, "one-more", &known, 1, NOW, &latest);
	assert_false(names_find(names, &known, &latest, NOW, host, &followed));
	assert_string_equal(found("10.0.0.1", NOW), "host-1");

	names_learn(names, "host-511", &fresh, 1, NOW, &latest);
	assert_true(names_find(names, &fresh, &latest, NOW, host, &followed));
	assert_string_equal(host, "host-511");
}

static void of_many_addresses_the_recent_stay(void **state)
{
	unsigned kept = 0;

	(void) state;
	for (unsigned i = 0; i < 20 * NAMES_ADDRESSES; i++) {
		const struct in6_addr a = numbered(i);
		struct names_latest latest = none;
		char host[NAMES_NAME_SIZE];

		names_learn(names, "cdn", &a, 1, NOW + i, &latest);
		assert_true(names_find(names, &a, &none, NOW + i, host, &followed));
		assert_string_equal(host, "cdn");
	}
	for (unsigned i = 0; i < 20 * NAMES_ADDRESSES; i++) {
		const struct in6_addr a = numbered(i);
		char host[NAMES_NAME_SIZE];

		kept += names_find(names, &a, &none, NOW, host, &followed);
	}
	print_message("# %u addresses kept\n", kept);
	assert_int_equal(kept, NAMES_ADDRESSES);
}

static void a_lookup_of_many_addresses_is_bounded(void **state)
{
	static struct in6_addr many[1000];
	struct names_latest latest = none;
	char host[NAMES_NAME_SIZE];
	unsigned kept = 0;

	(void) state;
	for (unsigned i = 0; i < 1000; i++)
		many[i] = numbered(i);
	names_learn(names, "round-robin", many, 1000, NOW, &latest);
	for (unsigned i = 0; i < 1000; i++)
		kept += names_find(names, &many[i], &none, NOW, host, &followed);
	assert_in_range(kept, NAMES_LEARN_MAX / 2, NAMES_LEARN_MAX);
	names_learn(names, "nothing", many, 0, NOW, &latest);
	assert_string_equal(found("10.0.0.1", NOW), "round-robin");
}

static void a_busy_table_forgets_the_lookup(void **state)
{
	const struct in6_addr a = address("10.0.0.1"), b = address("10.0.0.2");
	struct names_latest latest = none;
	char host[NAMES_NAME_SIZE];

	(void) state;
	names_learn(names, "known", &a, 1, NOW, &latest);
	atomic_store(&names->lock, NOW);
	names_learn(names, "new", &b, 1, NOW + 1, &latest);
	assert_int_equal(latest.name, 0);
	assert_null(found("10.0.0.2", NOW));

	/* A name that is known needs no lock to be the thread's latest. */
	names_learn(names, "known", &b, 1, NOW + 1, &latest);
	assert_true(names_find(names, &b, &latest, NOW, host, &followed));
	assert_string_equal(host, "known");
	assert_null(found("10.0.0.2", NOW));
}

static void a_lock_that_a_fork_left_behind_is_taken_over(void **state)
{
	(void) state;
	atomic_store(&names->lock, NOW);
	learn("new", "10.0.0.1", NOW + STALE_NS - 1);
	assert_null(found("10.0.0.1", NOW));
	learn("new", "10.0.0.1", NOW + STALE_NS);
	assert_string_equal(found("10.0.0.1", NOW), "new");
	assert_int_equal(atomic_load(&names->lock), 0);

	/* The sleeper does not open what is no longer its own. */
	atomic_store(&names->lock, NOW + 5);
	unlock(names, NOW);
	assert_int_equal(atomic_load(&names->lock), NOW + 5);
}

static void places_that_a_fork_left_half_written_are_stepped_over(void **state)
{
	const struct in6_addr a = address("10.0.0.1");
	uint64_t words[2];
	uint32_t place;

	(void) state;
	words_of(&a, words);
	(void) name_find(names, "new", &place);
	atomic_store(&names->names[place - 1].place, PLACE_CLAIMED);
	atomic_store(&set_of(names, words)[0].sequence, 1);
	learn("new", "10.0.0.1", NOW);
	assert_string_equal(found("10.0.0.1", NOW), "new");

	for (int i = 0; i < WAYS; i++)
		atomic_store(&set_of(names, words)[i].sequence, 1);
	learn("new", "10.0.0.1", NOW);
	assert_null(found("10.0.0.1", NOW));
}

static void garbage_in_the_latest_lookup_stays_inside_the_table(void **state)
{
	struct names_latest latest;
	const struct in6_addr a = address("10.0.0.1");
	char host[NAMES_NAME_SIZE];
	uint64_t words[2];

	(void) state;
	words_of(&a, words);
	memset(&latest, 0xff, sizeof(latest));
	latest.addresses[0] = short_hash(words);
	assert_false(names_find(names, &a, &latest, NOW, host, &followed));
}

/* ---- threads ---- */

#define HAMMER_NAMES     200
#define HAMMER_ADDRESSES 2000 /* twice what fits, so that entries change hands all the time */
#define HAMMER_ROUNDS    30000

static pthread_barrier_t start;
static _Atomic unsigned wrong, right;

static void *learner(void *arg)
{
	struct names_latest latest = none;
	uint64_t x = (uint64_t) (uintptr_t) arg * UINT64_C(0x9e3779b97f4a7c15) + 1;

	pthread_barrier_wait(&start);
	for (int i = 0; i < HAMMER_ROUNDS; i++) {
		char host[32];

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		const unsigned which = (unsigned) (x % HAMMER_ADDRESSES);
		const struct in6_addr a = numbered(which);

		(void) snprintf(host, sizeof(host), "host-%u", which % HAMMER_NAMES);
		names_learn(names, host, &a, 1, NOW + (uint64_t) i, &latest);
	}
	return NULL;
}

static void *finder(void *arg)
{
	uint64_t x = (uint64_t) (uintptr_t) arg * UINT64_C(0x9e3779b97f4a7c15) + 1;

	pthread_barrier_wait(&start);
	for (int i = 0; i < HAMMER_ROUNDS; i++) {
		char host[NAMES_NAME_SIZE], expected[32];
		bool behind;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		const unsigned which = (unsigned) (x % HAMMER_ADDRESSES);
		const struct in6_addr a = numbered(which);

		if (!names_find(names, &a, &none, NOW + 2 * NS_PER_S + (uint64_t) i, host, &behind))
			continue;
		(void) snprintf(expected, sizeof(expected), "host-%u", which % HAMMER_NAMES);
		if (strcmp(host, expected) == 0)
			right++;
		else
			wrong++;
	}
	return NULL;
}

static void threads_find_the_right_name_or_none(void **state)
{
	pthread_t threads[8];

	(void) state;
	assert_int_equal(pthread_barrier_init(&start, NULL, 8), 0);
	for (uintptr_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i % 2 ? finder : learner,
						(void *) (i + 1)), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	print_message("# %u found, all right\n", atomic_load(&right));
	assert_int_equal(atomic_load(&wrong), 0);
	assert_true(atomic_load(&right) > 0);
	(void) pthread_barrier_destroy(&start);
}

#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_TABLE(nothing_is_known_at_first),
		WITH_TABLE(an_address_is_known_by_the_name_looked_up),
		WITH_TABLE(a_name_tells_an_address_of_its_own),
		WITH_TABLE(only_the_last_address_of_a_lookup_is_followed_by_none),
		WITH_TABLE(a_name_stays_while_nobody_else_claims_the_address),
		WITH_TABLE(two_live_names_make_an_address_ambiguous_for_good),
		WITH_TABLE(a_name_that_left_its_address_gives_it_up),
		WITH_TABLE(lookups_and_connects_keep_a_name_live),
		WITH_TABLE(a_clock_that_lags_makes_no_name_old),
		WITH_TABLE(the_threads_latest_lookup_decides_first),
		WITH_TABLE(what_is_no_name_changes_nothing),
		WITH_TABLE(the_longest_name_fits_with_its_final_dot),
		WITH_TABLE(names_beyond_the_limit_make_their_addresses_ambiguous),
		WITH_TABLE(of_many_addresses_the_recent_stay),
		WITH_TABLE(a_lookup_of_many_addresses_is_bounded),
		WITH_TABLE(a_busy_table_forgets_the_lookup),
		WITH_TABLE(a_lock_that_a_fork_left_behind_is_taken_over),
		WITH_TABLE(places_that_a_fork_left_half_written_are_stepped_over),
		WITH_TABLE(garbage_in_the_latest_lookup_stays_inside_the_table),
		WITH_TABLE(threads_find_the_right_name_or_none),
	};

	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
