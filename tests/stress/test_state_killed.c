/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers of the shared table that are killed at random moments, or stopped and killed at
 * chosen words of a slot.
 *
 * To stop a writer at a word, the table is laid so that a page ends within its slot, and the
 * writer may not write to both pages at once: whenever it crosses from one to the other, the
 * fault's handler is our chance.
 */
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

#define KILLS   10000
#define VICTIMS 2
#define PEERS   8    /* that must be findable after all */
#define OTHERS  256  /* that come and go, and take the place of those */
#define LIFE_NS 200000 /* a victim lives up to this long: some hundred searches */

/* In memory that the victims share with us; a page of it is spare, to move the table by. */
static struct state *table;
static unsigned char *memory;
static size_t page, memory_size;

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

	return state_find(table, peer, &writer, now, ret);
}

static int make(void **state)
{
	unsigned found = 0;

	(void) state;
	page = (size_t) sysconf(_SC_PAGESIZE);
	memory_size = (sizeof(*table) + 2 * page - 1) / page * page;
	memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	table = (struct state *) memory;
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
	return munmap(memory, memory_size);
}

/*
 * Searches for ever. Time makes leaps, so that most of what is found is idle and nearly each
 * search rewrites a slot; the victims' clocks differ, so that they also give slots back.
 */
_Noreturn static void work(unsigned victim, uint64_t now)
{
	struct state_found found;

	for (uint64_t i = victim;; i++) {
		now += STATE_IDLE_NS / (1 + i % 3) + 1;
		(void) find(peers[i % (PEERS + OTHERS)], now, &found);
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

/* A child of ours that dies with us, stopped or not. */
static pid_t fork_victim(void)
{
	const pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	assert_true(pid >= 0);
	return pid;
}

static unsigned odd_slots(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < STATE_SLOTS; i++)
		n += atomic_load(&table->slots[i].stamp) & 1;
	return n;
}

static unsigned slots_of(const char *peer)
{
	char text[STATE_PEER_SIZE];
	struct state_ref ref;
	unsigned n = 0;

	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		n += state_read(table, i, text, &ref) && strcmp(text, peer) == 0;
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
		assert_true(state_read(table, found.ref.index, text, &ref));
		assert_string_equal(text, peers[i]);

		const struct state_slot *slot = state_slot(table, found.ref);

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

		for (unsigned v = 0; v < VICTIMS; v++) {
			const long life_ns = 1 + rand() % LIFE_NS;

			pids[v] = fork_victim();
			if (pids[v] == 0) {
				die_in(life_ns);
				work(v, now + v * STATE_IDLE_NS / 2);
			}
		}
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
	/* However few: a_dead_writers_slot_is_taken_at_once() does not depend on the moment. */
}

/* --- stopped at a chosen word --- */

#define AHEAD 4 /* slots in use before the one that is written */

/* Who stands where when the writer comes; each of them by its index in `peers`. */
enum {
	OLD = AHEAD,  /* idle: its slot is rewritten */
	BEHIND,       /* in use, after that slot */
	WRITER,       /* whom the writer looks for */
	NEW,          /* who is looked for while the writer is stopped */
	STAGED,
};

/* The page's end within the slot, and the crossing of it that stops the writer. */
static unsigned char *edge;
static unsigned crossings, stop_at;

/* The word of the slot that the latest crossing was to write; in memory shared with us. */
static _Atomic uint64_t *crossing_word;

static struct state_slot *written; /* the slot that the edge is in */

static bool yields_in_vain;

/* Instead of libc's. No time makes a stopped writer go on, and a loaded machine takes much. */
int sched_yield(void)
{
	return yields_in_vain ? 0 : (int) syscall(SYS_sched_yield);
}

static void allow(bool lower, bool upper)
{
	if (mprotect(edge - page, page, PROT_READ | (lower ? PROT_WRITE : 0)) < 0 ||
	    mprotect(edge, page, PROT_READ | (upper ? PROT_WRITE : 0)) < 0)
		_exit(1);
}

/* The writer crosses the edge: what it was about to write, it will write when we return. */
static void on_crossing(int signo, siginfo_t *info, void *context)
{
	unsigned char *const at = info->si_addr;

	(void) context;
	if (at < edge - page || at >= edge + page) {
		(void) signal(signo, SIG_DFL); /* a crash like any other */
		return;
	}
	*crossing_word = (uint64_t) (at - (unsigned char *) written) / sizeof(uint64_t);
	if (++crossings == stop_at) {
		allow(true, true);
		(void) raise(SIGSTOP);
	} else {
		allow(at < edge, at >= edge);
	}
}

/*
 * Lays an empty table so that a page ends @offset bytes into the slot that will be written,
 * and puts peers into it: the first one's place is in the third slot from the end.
 */
static void stage(size_t offset, uint64_t now)
{
	const unsigned index = AHEAD - 3;
	const size_t end = offsetof(struct state, slots[index]) + offset;
	struct state_found found;

	memset(memory, 0, memory_size);
	table = (struct state *) (memory + (page - end % page) % page);
	written = &table->slots[index];
	edge = (unsigned char *) written + offset;
	for (unsigned i = 0; i <= BEHIND; i++) {
		assert_true(find(peers[i], now, &found));
		if (i != OLD)
			state_touch(state_slot(table, found.ref), now + STATE_IDLE_NS + 1);
	}
	assert_int_equal(slots_of(peers[OLD]), 1);
	assert_int_equal(state_peer_hash(peers[OLD]), atomic_load(&written->hash));
}

/* A process that looks for WRITER once, and exits with 0 when there was a place. */
static pid_t begin_writer(uint64_t ns, uint64_t now)
{
	const struct sigaction crossing = {
		.sa_sigaction = on_crossing,
		.sa_flags = SA_SIGINFO,
	};
	const pid_t pid = fork_victim();
	struct state_found found;

	if (pid != 0)
		return pid;
	pidns = ns;
	if (sigaction(SIGSEGV, &crossing, NULL) < 0)
		_exit(1);
	allow(true, false);
	_exit(find(peers[WRITER], now, &found) ? 0 : 1);
}

/* Did it stop, rather than come to its end? */
static bool stopped(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status)) {
		assert_int_equal(WSTOPSIG(status), SIGSTOP);
		return true;
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

/* Lets the writer go on from where it was stopped, to its end. */
static void resume(pid_t pid)
{
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_false(stopped(pid));
}

static uint64_t incarnation_written(void)
{
	return atomic_load(&written->stamp) & 0xffffff;
}

/* Each slot's hash is that of the peer it names, and no peer has two. */
static void assert_no_mixture(void)
{
	char text[STATE_PEER_SIZE];
	struct state_ref ref;

	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		if (state_read(table, i, text, &ref))
			assert_true(atomic_load(&table->slots[i].hash) == state_peer_hash(text));
	for (unsigned i = 0; i < STAGED; i++)
		assert_in_range(slots_of(peers[i]), 0, 1);
}

/* When the writers begin; all peers but OLD are in use then, and for ten minutes. */
#define BEGIN (2 * STATE_IDLE_NS)

/*
 * Runs a writer of the pid namespace @ns to each point where it can be stopped, a fresh one
 * each time, and has @story told about it there.
 */
static void at_each_point(uint64_t ns, void (*story)(pid_t writer))
{
	const size_t line = _Alignof(struct state_slot);
	unsigned points = 0;

	crossing_word = mmap(NULL, sizeof(*crossing_word), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(crossing_word != MAP_FAILED);
	yields_in_vain = true;
	for (size_t offset = line; offset < sizeof(struct state_slot); offset += line) {
		for (stop_at = 1;; stop_at++) {
			stage(offset, BEGIN - STATE_IDLE_NS - 1);

			const pid_t pid = begin_writer(ns, BEGIN);

			if (!stopped(pid))
				break;
			const uint64_t stamp = atomic_load(&written->stamp);

			assert_int_equal(stamp & 1, 1); /* it is in the middle of the slot */
			assert_int_equal(stamp >> 24 & 0x3fffff, pid);
			assert_int_equal(odd_slots(), 1);
			story(pid);
			assert_int_equal(odd_slots(), 0);
			assert_no_mixture();
			assert_findable(BEGIN + 2 * STATE_WRITER_NS);
			points++;
		}
		/* Somewhere behind the edge at least, and last before the stamp that publishes. */
		assert_true(stop_at > 2);
		assert_int_equal(*crossing_word, 0);
	}
	yields_in_vain = false;
	print_message("# stopped at %u points\n", points);
	assert_int_equal(munmap(crossing_word, sizeof(*crossing_word)), 0);
}

/*
 * The writer may be about to put any peer there: none gets a place behind its slot, and those
 * who have one are found.
 */
static void assert_nobody_passes(uint64_t now)
{
	struct state_found found;

	assert_false(find(peers[NEW], now, &found));
	assert_false(find(peers[WRITER], now, &found));
	assert_true(find(peers[BEHIND], now, &found));
	assert_false(found.created);
}

static void tell_of_a_patient_table(pid_t writer)
{
	const uint64_t stamp = atomic_load(&written->stamp), late = UINT64_C(1) << 61;

	/* However late it is, and though no other place is free before that one. */
	for (uint32_t i = 0; i < STATE_SLOTS; i++)
		if (&table->slots[i] != written)
			state_touch(&table->slots[i], late);
	assert_nobody_passes(late);
	assert_nobody_passes(late + STATE_WRITER_NS + 1);
	assert_true(atomic_load(&written->stamp) == stamp);
	resume(writer);
	assert_int_equal(incarnation_written(), (stamp & 0xffffff) + 1);
	assert_int_equal(slots_of(peers[WRITER]), 1);
}

static void a_stopped_writer_keeps_its_slot(void **state)
{
	(void) state;
	at_each_point(pidns, tell_of_a_patient_table);
}

/* The staged slot is free for the first new peer that comes at @now. */
static struct state_ref take(const char *peer, uint64_t now)
{
	struct state_found found;

	assert_true(find(peer, now, &found));
	assert_true(found.created);
	assert_ptr_equal(&table->slots[found.ref.index], written);
	return found.ref;
}

static void tell_of_an_heir(pid_t writer)
{
	int status;

	assert_int_equal(kill(writer, SIGKILL), 0);
	assert_int_equal(waitpid(writer, &status, 0), writer);
	assert_true(WIFSIGNALED(status));

	const struct state_ref ref = take(peers[NEW], BEGIN);
	const struct state_slot *slot = state_slot(table, ref);

	assert_non_null(slot);
	assert_int_equal(breaker_peek(&slot->breaker, NULL, NULL), BREAKER_CLOSED);
	assert_int_equal(slots_of(peers[NEW]), 1);
	assert_int_equal(slots_of(peers[WRITER]), 0);
}

static void a_dead_writers_slot_is_taken_at_once(void **state)
{
	(void) state;
	at_each_point(pidns, tell_of_an_heir);
}

static void tell_of_a_latecomer(pid_t writer)
{
	const uint64_t stamp = atomic_load(&written->stamp);

	/* The first look begins the minute, the last one finds it over. */
	assert_nobody_passes(BEGIN);
	assert_nobody_passes(BEGIN + STATE_WRITER_NS);
	assert_true(atomic_load(&written->stamp) == stamp);

	const struct state_ref taken = take(peers[NEW], BEGIN + STATE_WRITER_NS + 1);

	/* It goes on after its slot was taken: who took it has it no more. */
	resume(writer);
	assert_true(incarnation_written() > taken.incarnation);
	assert_null(state_slot(table, taken));
	assert_int_equal(slots_of(peers[NEW]), 0);
	/* That slot was the first free one again. */
	assert_int_equal(slots_of(peers[WRITER]), 1);
}

/*
 * In another pid namespace nobody can tell whether it lives: its slot is taken after a minute.
 * When it does come back it writes over what is no longer its own, and has to make that good.
 */
static void a_writer_that_comes_back_too_late_undoes_its_work(void **state)
{
	(void) state;
	at_each_point(pidns + 1, tell_of_a_latecomer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(killed_writers_leave_nothing_that_stays, make, drop),
		cmocka_unit_test_setup_teardown(a_stopped_writer_keeps_its_slot, make, drop),
		cmocka_unit_test_setup_teardown(a_dead_writers_slot_is_taken_at_once, make, drop),
		cmocka_unit_test_setup_teardown(
			a_writer_that_comes_back_too_late_undoes_its_work, make, drop),
	};

	(void) alarm(150);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
