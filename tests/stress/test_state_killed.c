/* SPDX-License-Identifier: Apache-2.0 */
/* Writers of the shared table that are killed, or stopped, at random points of their work. */
#include "core/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

#define KILLS   10000
#define VICTIMS 2
#define STOPS   25   /* stopped in the middle of a slot, that is; most stops hit elsewhere */
#define TRIES   20000
#define PEERS   8    /* that must be findable after all */
#define OTHERS  256  /* that come and go, and take the place of those */
#define LIFE_NS 200000 /* a victim lives up to this long: some hundred searches */

/* In memory that the victims share with us. */
static struct shared {
	struct state table;
	_Atomic uint64_t steps[VICTIMS]; /* searches done */
} *shared;

/* All of them want the same place, so that each search meets the work of the others. */
static char peers[PEERS + OTHERS][32];

static uint64_t pidns = 4026531836; /* of whoever asks */

static bool gone(uint32_t pid)
{
	return kill((pid_t) pid, 0) < 0 && errno == ESRCH;
}

static struct state_writer self(void)
{
	return (struct state_writer) { (uint32_t) getpid(), pidns, gone };
}

static bool find(const char *peer, uint64_t now, struct state_found *ret)
{
	const struct state_writer writer = self();

	return state_find(&shared->table, peer, &writer, now, ret);
}

static int make(void **state)
{
	unsigned found = 0;

	(void) state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		return -1;
	for (unsigned n = 0; found < PEERS + OTHERS; n++) {
		(void) snprintf(peers[found], sizeof(peers[found]), "peer-%u:80", n);
		/* Near the end, so that searches go round it. */
		if (state_peer_hash(peers[found]) % STATE_SLOTS == STATE_SLOTS - 3)
			found++;
	}
	return 0;
}

static int drop(void **state)
{
	(void) state;
	return munmap(shared, sizeof(*shared));
}

/*
 * Searches for ever. Time makes leaps, so that most of what is found is idle and nearly each
 * search rewrites a slot; the victims' clocks differ, so that they also give slots back.
 */
static void work(unsigned victim, uint64_t now)
{
	struct state_found found;

	for (uint64_t i = victim;; i++) {
		now += STATE_IDLE_NS / (1 + i % 3) + 1;
		(void) find(peers[i % (PEERS + OTHERS)], now, &found);
		atomic_fetch_add_explicit(&shared->steps[victim], 1, memory_order_relaxed);
	}
}

/* The kernel kills us then, wherever we are. */
static void die_in(long ns)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	const struct itimerspec once = { .it_value = { .tv_nsec = 1 + ns } };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
	    timer_settime(timer, 0, &once, NULL) < 0)
		_exit(1);
}

/* @life_ns: 0 for a victim that lives until it is killed. */
static pid_t begin(unsigned victim, uint64_t now, long life_ns)
{
	const pid_t pid = fork();

	if (pid == 0) {
		(void) alarm(100); /* should we be killed */
		if (life_ns != 0)
			die_in(life_ns);
		work(victim, now);
	}
	assert_true(pid > 0);
	return pid;
}

/* Waits until the victim is @steps further: where that finds it is the machine's choice. */
static void wait_for_steps(unsigned victim, uint64_t steps)
{
	const uint64_t goal = atomic_load(&shared->steps[victim]) + steps;

	while (atomic_load_explicit(&shared->steps[victim], memory_order_relaxed) < goal)
		(void) sched_yield();
}

static unsigned odd_slots(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < STATE_SLOTS; i++)
		n += atomic_load(&shared->table.slots[i].stamp) & 1;
	return n;
}

static unsigned slots_of(const char *peer)
{
	char text[STATE_PEER_SIZE];
	struct state_ref ref;
	unsigned n = 0;

	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		n += state_read(&shared->table, i, text, &ref) && strcmp(text, peer) == 0;
	return n;
}

/* Every peer can be found, found again, and is there as itself. */
static void assert_findable(uint64_t now)
{
	struct state_found found, again;
	char text[STATE_PEER_SIZE];
	struct state_ref ref;

	for (unsigned i = 0; i < PEERS; i++) {
		assert_true(find(peers[i], now, &found));
		assert_true(find(peers[i], now, &again));
		assert_false(again.created);
		assert_int_equal(again.ref.index, found.ref.index);
		assert_int_equal(again.ref.incarnation, found.ref.incarnation);
		assert_true(state_read(&shared->table, found.ref.index, text, &ref));
		assert_string_equal(text, peers[i]);

		const struct state_slot *slot = state_slot(&shared->table, found.ref);

		assert_non_null(slot);
		assert_int_equal(breaker_peek(&slot->breaker, NULL, NULL), BREAKER_CLOSED);
	}
}

/* Peers that come later take over what dead writers left. */
static void assert_odd_slots_end(uint64_t now)
{
	struct state_found found;

	/* At most one a victim: some of these peers may have a place already. */
	for (unsigned i = PEERS; odd_slots() != 0; i++) {
		assert_true(i < PEERS + OTHERS);
		assert_true(find(peers[i], now, &found));
	}
}

static void killed_writers_leave_nothing_that_stays(void **state)
{
	unsigned left = 0, doubled = 0;
	uint64_t now = NS_PER_S;

	(void) state;
	srand(1);
	for (unsigned kills = 0; kills < KILLS; kills += VICTIMS) {
		pid_t pids[VICTIMS];

		for (unsigned v = 0; v < VICTIMS; v++)
			pids[v] = begin(v, now + v * STATE_IDLE_NS / 2, 1 + rand() % LIFE_NS);
		for (unsigned v = 0; v < VICTIMS; v++) {
			int status;

			assert_int_equal(waitpid(pids[v], &status, 0), pids[v]);
			assert_true(WIFSIGNALED(status));
		}
		left += odd_slots();
		for (unsigned i = 0; i < PEERS; i++)
			doubled += slots_of(peers[i]) > 1;
		now += 10000 * STATE_IDLE_NS; /* later than any victim's clock */
		assert_findable(now);
		assert_odd_slots_end(now);
	}
	print_message("# %u kills left %u slots half written and %u peers with two\n", KILLS,
		      left, doubled);
	assert_int_not_equal(left, 0); /* else nothing was tested */
}

/* The slot that process @pid is writing, or NULL. */
static struct state_slot *written_by(pid_t pid)
{
	for (unsigned i = 0; i < STATE_SLOTS; i++) {
		const uint64_t stamp = atomic_load(&shared->table.slots[i].stamp);

		if ((stamp & 1) != 0 && (stamp >> 24 & 0x3fffff) == (uint64_t) pid)
			return &shared->table.slots[i];
	}
	return NULL;
}

/* Frees all places but @keep, so that the writer goes on writing and does not only find. */
static void make_room(const struct state_slot *keep)
{
	for (unsigned i = 0; i < STATE_SLOTS; i++)
		if (&shared->table.slots[i] != keep &&
		    (atomic_load(&shared->table.slots[i].stamp) & 1) == 0)
			atomic_store(&shared->table.slots[i].hash, 0);
}

static void a_stopped_writer_keeps_its_slot(void **state)
{
	const pid_t pid = begin(0, NS_PER_S, 0);
	unsigned stops = 0;
	int status;

	(void) state;
	for (unsigned i = 0; i < TRIES && stops < STOPS; i++) {
		struct state_slot *slot;
		struct state_found found;

		wait_for_steps(0, 1 + (unsigned) rand() % 3);
		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(WIFSTOPPED(status));
		slot = written_by(pid);
		if (slot != NULL) {
			const uint64_t stamp = atomic_load(&slot->stamp);

			/* However late it is, and whoever is looked for. */
			for (unsigned p = 0; p < PEERS + OTHERS; p++)
				(void) find(peers[p], UINT64_MAX / 2, &found);
			assert_true(atomic_load(&slot->stamp) == stamp);
			stops++;
		}
		make_room(NULL);
		assert_int_equal(kill(pid, SIGCONT), 0);
	}
	wait_for_steps(0, 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	make_room(NULL);
	print_message("# stopped %u times in the middle of a slot\n", stops);
	assert_int_equal(stops, STOPS);
	assert_findable(UINT64_MAX / 2);
	assert_odd_slots_end(UINT64_MAX - 1);
}

/* Each slot's hash is that of the peer it names. */
static void assert_no_mixture(void)
{
	char text[STATE_PEER_SIZE];
	struct state_ref ref;

	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		if (state_read(&shared->table, i, text, &ref))
			assert_true(atomic_load(&shared->table.slots[i].hash) ==
				    state_peer_hash(text));
	for (unsigned i = 0; i < PEERS + OTHERS; i++)
		assert_in_range(slots_of(peers[i]), 0, 1);
}

/*
 * In another pid namespace nobody can tell whether it lives: its slot is taken after a minute.
 * When it does come back it writes over what is no longer its own, and has to make that good.
 */
static void a_writer_that_comes_back_too_late_undoes_its_work(void **state)
{
	const uint64_t ours = pidns;
	uint64_t now = UINT64_MAX / 2, taken = 0;
	struct state_slot *from = NULL;
	unsigned stolen = 0;
	int status;

	(void) state;
	pidns = ours + 1;

	const pid_t pid = begin(0, NS_PER_S, 0);

	pidns = ours;
	for (unsigned i = 0; i < TRIES && stolen < STOPS; i++) {
		struct state_found found;
		struct state_slot *slot;

		wait_for_steps(0, 1 + (from == NULL ? (unsigned) rand() % 3 : 0));
		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		/* It went on after its slot had been taken: who took it has it no more. */
		if (from != NULL)
			assert_true((atomic_load(&from->stamp) & 0xffffff) > taken);
		from = NULL;
		slot = written_by(pid);
		if (slot != NULL) {
			const uint64_t stamp = atomic_load(&slot->stamp);

			/* The first look begins the minute, the second finds it over. */
			for (unsigned p = 0; p < PEERS + OTHERS; p++)
				(void) find(peers[p], now, &found);
			assert_true(atomic_load(&slot->stamp) == stamp);
			now += STATE_IDLE_NS + 1;
			for (unsigned p = 0; p < PEERS + OTHERS; p++)
				(void) find(peers[p], now, &found);
			/* Nobody may have needed it: there are idle slots before it. */
			taken = atomic_load(&slot->stamp) & 0xffffff;
			if (atomic_load(&slot->stamp) != stamp) {
				stolen++;
				from = slot;
			}
			now += STATE_IDLE_NS + 1;
		}
		make_room(from);
		assert_int_equal(kill(pid, SIGCONT), 0);
	}
	/* What it was stopped at last has come to its end by then. */
	wait_for_steps(0, 2);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	print_message("# took a stopped writer's slot %u times\n", stolen);
	assert_int_equal(stolen, STOPS);
	assert_no_mixture();
	pidns = ours + 1; /* who may judge what the dead one left */
	assert_odd_slots_end(UINT64_MAX - 1);
	assert_findable(UINT64_MAX - 1);
	pidns = ours;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(killed_writers_leave_nothing_that_stays, make, drop),
		cmocka_unit_test_setup_teardown(a_stopped_writer_keeps_its_slot, make, drop),
		cmocka_unit_test_setup_teardown(
			a_writer_that_comes_back_too_late_undoes_its_work, make, drop),
	};

	(void) alarm(150);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
