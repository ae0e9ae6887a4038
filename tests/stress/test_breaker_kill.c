/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share a breaker are killed while they admit, settle and probe: at random
 * moments, and after each single instruction. Nothing may wedge.
 *
 * STRESS_ROUNDS sets how many rounds of random kills there are (10000).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/breaker.h"
#include "core/clock.h"

#define START        (100000 * NS_PER_S)
#define TIMEOUT      (30 * NS_PER_S)
#define LEASE        (20 * NS_PER_S)
#define MAX_REQUESTS 3
#define FAILURES     3
#define CHILDREN     4
#define ROUNDS       10000
#define LIMIT_S      300 /* the last resort, should a loop never end */
#define LOG_MAX      2048

/* What the processes share. */
static struct shared {
	struct breaker breaker;
	_Atomic uint64_t now;
	/*
	 * Half-open admissions are noted after, exclusions before the fact, so that a kill in
	 * between can only make too few of the one and too many of the other.
	 */
	_Atomic uint32_t n_probes, n_freed;
	_Atomic uint64_t probes[LOG_MAX], freed[LOG_MAX];
} *shared;

static struct policy policy;

static int setup(void **state)
{
	(void) state;
	(void) alarm(LIMIT_S);
	policy = (struct policy) {
		.interval_ns = 60 * NS_PER_S,
		.timeout_ns = TIMEOUT,
		.probe_timeout_ns = LEASE,
		.max_requests = MAX_REQUESTS,
		.consecutive_failures = FAILURES,
	};
	if (shared == NULL)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -1;
	memset(shared, 0, sizeof(*shared));
	shared->now = START;
	breaker_init(&shared->breaker, START);
	return 0;
}

static uint64_t random_word(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static enum breaker_verdict admit(struct breaker_ticket *ticket)
{
	return breaker_admit(&shared->breaker, &policy, shared->now, NULL, ticket);
}

static bool settle(struct breaker_ticket *ticket, enum breaker_outcome outcome)
{
	return breaker_settle(&shared->breaker, &policy, ticket, outcome, shared->now, NULL);
}

static enum breaker_verdict call(enum breaker_outcome outcome)
{
	struct breaker_ticket ticket;
	const enum breaker_verdict verdict = admit(&ticket);

	if (verdict == BREAKER_ADMITTED)
		(void) settle(&ticket, outcome);
	return verdict;
}

static enum breaker_state state_now(void)
{
	return breaker_state(&shared->breaker, &policy, shared->now, NULL);
}

/*
 * Once a second calls as often as the quota lets through at most, always with success. True
 * when the breaker is closed within a timeout and a lease.
 */
static bool closes_again(void)
{
	const uint64_t end = shared->now + TIMEOUT + LEASE + 2 * NS_PER_S;

	for (; shared->now < end; shared->now += NS_PER_S) {
		if (state_now() == BREAKER_CLOSED)
			return true;
		for (unsigned i = 0; i < MAX_REQUESTS; i++)
			(void) call(BREAKER_SUCCESS);
	}
	return state_now() == BREAKER_CLOSED;
}

/* In a fresh interval, whatever the killed ones left behind. */
static bool trips_as_ever(void)
{
	shared->now += policy.interval_ns + 1;
	for (unsigned i = 0; i < FAILURES - 1; i++)
		(void) call(BREAKER_FAILURE);
	if (state_now() != BREAKER_CLOSED)
		return false;
	(void) call(BREAKER_FAILURE);
	return state_now() == BREAKER_OPEN;
}

/* --- at random moments --- */

static bool of_half_open(uint64_t generation)
{
	return (generation & 3) == BREAKER_HALF_OPEN; /* a test may look */
}

static void note(_Atomic uint64_t *log, _Atomic uint32_t *n, uint64_t generation)
{
	const uint32_t at = atomic_fetch_add(n, 1);

	while (at >= LOG_MAX)
		pause(); /* enough for one round; the kill will come */
	log[at] = generation;
}

static void child_settle(struct breaker_ticket *ticket, uint64_t dice)
{
	static const enum breaker_outcome outcomes[8] = {
		BREAKER_FAILURE, BREAKER_FAILURE, BREAKER_EXCLUDED,
	}; /* else BREAKER_SUCCESS */
	const enum breaker_outcome outcome = outcomes[dice & 7];

	if (outcome == BREAKER_EXCLUDED && of_half_open(ticket->generation))
		note(shared->freed, &shared->n_freed, ticket->generation);
	(void) settle(ticket, outcome);
}

/* Has the kernel send us SIGKILL within a tenth of a millisecond, wherever we are then. */
static void child_doom(uint64_t dice)
{
	struct sigevent kill_us = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	const struct itimerspec when = { .it_value.tv_nsec = 1 + (long) (dice % 100000) };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &kill_us, &timer) != 0 ||
	    timer_settime(timer, 0, &when, NULL) != 0)
		_exit(1);
}

_Noreturn static void child(uint64_t seed)
{
	struct breaker_ticket pending[2] = { 0 };

	child_doom(random_word(&seed));
	for (;;) {
		const uint64_t dice = random_word(&seed);
		struct breaker_ticket *ticket = &pending[dice >> 8 & 1];

		if (dice % 8 == 0)
			shared->now += (dice >> 16) % (TIMEOUT / 2);
		if (ticket->generation != 0)
			child_settle(ticket, dice >> 4);
		if (admit(ticket) == BREAKER_ADMITTED && of_half_open(ticket->generation))
			note(shared->probes, &shared->n_probes, ticket->generation);
	}
}

/* A child of ours that dies with us. */
static pid_t fork_child(void)
{
	const pid_t parent = getpid();
	const pid_t pid = fork();

	if (pid == 0) {
		(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static unsigned in_log(const _Atomic uint64_t *log, uint32_t n, uint64_t generation)
{
	unsigned many = 0;

	for (uint32_t i = 0; i < n && i < LOG_MAX; i++)
		many += log[i] == generation;
	return many;
}

static bool quotas_were_kept(void)
{
	for (uint32_t i = 0; i < shared->n_probes && i < LOG_MAX; i++) {
		const uint64_t generation = shared->probes[i];

		if (generation != 0 &&
		    in_log(shared->probes, shared->n_probes, generation) >
			    MAX_REQUESTS + in_log(shared->freed, shared->n_freed, generation))
			return false;
	}
	return true;
}

/* Forks children who die at random moments; returns when all are dead. */
static void kill_round(uint64_t *seed)
{
	pid_t children[CHILDREN];

	memset(shared->probes, 0, sizeof(shared->probes));
	memset(shared->freed, 0, sizeof(shared->freed));
	shared->n_probes = shared->n_freed = 0;
	for (unsigned i = 0; i < CHILDREN; i++) {
		const uint64_t child_seed = random_word(seed);

		children[i] = fork_child();
		assert_true(children[i] >= 0);
		if (children[i] == 0)
			child(child_seed);
	}
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status;

		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
}

static void killed_at_random_nobody_wedges(void **state)
{
	const char *set = getenv("STRESS_ROUNDS");
	const unsigned rounds = set != NULL ? (unsigned) strtoul(set, NULL, 10) : ROUNDS;
	uint64_t seed = 42, left_in[BREAKER_STATES] = { 0 }, probes = 0;

	(void) state;
	for (unsigned round = 0; round < rounds; round++) {
		kill_round(&seed);
		left_in[breaker_peek(&shared->breaker, NULL, NULL)]++;
		probes += shared->n_probes;
		assert_true(quotas_were_kept());
		assert_true(closes_again());
		assert_true(round % 2 == 0 || trips_as_ever());
	}
	print_message("# %u rounds, %llu probes; killed while closed %llu, half-open %llu, "
		      "open %llu\n",
		      rounds, (unsigned long long) probes,
		      (unsigned long long) left_in[BREAKER_CLOSED],
		      (unsigned long long) left_in[BREAKER_HALF_OPEN],
		      (unsigned long long) left_in[BREAKER_OPEN]);
	print_message("# %llu leases ended\n",
		      (unsigned long long) breaker_totals(&shared->breaker).probes_lost);
}

/* --- after each instruction --- */

/* More than any of the acts below takes; single steps never end an LL/SC loop. */
#define STEPS_MAX 5000

static void act_success(void)
{
	(void) call(BREAKER_SUCCESS);
}

static void act_failure(void)
{
	(void) call(BREAKER_FAILURE);
}

static void act_excluded(void)
{
	(void) call(BREAKER_EXCLUDED);
}

static void stage_closed(void)
{
}

static void stage_one_failure_short(void)
{
	for (unsigned i = 0; i < FAILURES - 1; i++)
		(void) call(BREAKER_FAILURE);
}

static void stage_open_and_due(void)
{
	for (unsigned i = 0; i < FAILURES; i++)
		(void) call(BREAKER_FAILURE);
	shared->now += TIMEOUT + 1;
}

static void stage_one_probe_short(void)
{
	stage_open_and_due();
	for (unsigned i = 0; i < MAX_REQUESTS - 1; i++)
		(void) call(BREAKER_SUCCESS);
}

static void stage_probes_lost(void)
{
	struct breaker_ticket ticket;

	stage_open_and_due();
	for (unsigned i = 0; i < MAX_REQUESTS; i++)
		(void) admit(&ticket);
	shared->now += LEASE + 1;
}

static void stage_interval_over(void)
{
	(void) call(BREAKER_FAILURE);
	shared->now += policy.interval_ns + 1;
}

static const struct {
	const char *name;
	void (*stage)(void);
	void (*act)(void);
} stories[] = {
	{ "a success in closed", stage_closed, act_success },
	{ "a failure in closed", stage_closed, act_failure },
	{ "the failure that trips", stage_one_failure_short, act_failure },
	{ "the success that ends a run", stage_one_failure_short, act_success },
	{ "the first call of an interval", stage_interval_over, act_failure },
	{ "the first probe", stage_open_and_due, act_success },
	{ "a probe that fails", stage_open_and_due, act_failure },
	{ "a probe that is excluded", stage_open_and_due, act_excluded },
	{ "the probe that closes", stage_one_probe_short, act_success },
	{ "the call that finds the probes lost", stage_probes_lost, act_success },
};

/* A child that stops before and after @act, traced. */
static pid_t fork_actor(void (*act)(void))
{
	const pid_t pid = fork_child();

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(77);
		(void) raise(SIGSTOP);
		act();
		(void) raise(SIGSTOP);
		_exit(0);
	}
	return pid;
}

/* Lets @pid run one instruction. 1: done, 0: it has come to the end, -1: cannot. */
static int step(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 ||
	    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	return WSTOPSIG(status) == SIGTRAP ? 1 : 0;
}

/* A half-open breaker lets through what its quota has left, whoever died in it. */
static bool quota_holds(void)
{
	struct breaker_ticket ticket;
	unsigned admitted = 0;

	if (state_now() != BREAKER_HALF_OPEN)
		return true;
	while (admitted <= MAX_REQUESTS && admit(&ticket) == BREAKER_ADMITTED)
		admitted++;
	return admitted <= MAX_REQUESTS;
}

/*
 * What a kill leaves behind is what stands in the memory, so that one run suffices: at each
 * step the others go on with the memory as it is, and then it is put back.
 */
static int step_through(pid_t pid, unsigned *ret_steps)
{
	static struct shared kept;
	unsigned steps = 0;
	int more, status;

	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	do {
		memcpy(&kept, shared, sizeof(kept));
		assert_true(quota_holds());
		assert_true(closes_again());
		assert_true(trips_as_ever());
		memcpy(shared, &kept, sizeof(kept));
		more = step(pid);
	} while (more > 0 && steps++ < STEPS_MAX);
	*ret_steps = steps;
	return more;
}

static void killed_after_any_instruction_nobody_wedges(void **state)
{
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		unsigned steps = 0;

		assert_int_equal(setup(state), 0);
		stories[i].stage();

		const pid_t pid = fork_actor(stories[i].act);

		assert_true(pid > 0);
		const int rest = step_through(pid, &steps);

		(void) kill(pid, SIGKILL);
		(void) waitpid(pid, NULL, 0);
		if (rest != 0) {
			print_message("# cannot step through '%s' here\n", stories[i].name);
			skip();
		}
		print_message("# %s: %u instructions\n", stories[i].name, steps);
		assert_in_range(steps, 100, STEPS_MAX); /* it did run */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(killed_at_random_nobody_wedges, setup),
		cmocka_unit_test_setup(killed_after_any_instruction_nobody_wedges, setup),
	};

	return cmocka_run_group_tests_name("breaker kill", tests, NULL, NULL);
}
