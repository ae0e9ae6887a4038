/* SPDX-License-Identifier: Apache-2.0 */
/* The shared rings: order, loss, owners, many producers, killed writers and noise. */
#include "core/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX (RINGS * RING_RECORDS)

static struct ring_file *file;
static struct rings rings;
static size_t size;
static struct event *events;
static uint64_t lost;

static int make(void **state)
{
	(void) state;
	/* Shared, as in life, for the tests that fork; it begins as zeros. */
	size = ring_file_size(RING_RECORDS);
	file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (file == MAP_FAILED)
		return -1;
	ring_init(file, RING_RECORDS);
	if (!ring_open(file, size, &rings))
		return -1;
	events = calloc(MAX, sizeof(*events));
	return events == NULL ? -1 : 0;
}

static int drop(void **state)
{
	(void) state;
	free(events);
	return munmap(file, size);
}

static size_t read_all(void)
{
	return ring_read(file, size, events, MAX, &lost);
}

/* A record that tells by itself whether it is whole. */
static struct event numbered(uint64_t n)
{
	struct event e = { .kind = EVENT_CALL_REJECTED, .mono_ns = n, .id = n, .n = ~n };

	memset(e.text, 'a' + (char) (n % 26), sizeof(e.text) - 1);
	return e;
}

static void assert_whole(const struct event *e)
{
	const struct event expected = numbered(e->id);

	assert_memory_equal(e, &expected, sizeof(expected));
}

static void records_come_back_in_the_order_of_time(void **state)
{
	(void) state;
	assert_true(ring_valid(file, size));
	assert_int_equal(read_all(), 0);
	assert_int_equal(lost, 0);
	for (uint64_t n = 500; n > 0; n--) {
		const struct event e = numbered(n);

		assert_true(ring_write(&rings, (unsigned) n, &e)); /* ring numbers are masked */
	}
	assert_int_equal(read_all(), 500);
	assert_int_equal(lost, 0);
	for (size_t i = 0; i < 500; i++) {
		assert_int_equal(events[i].id, i + 1);
		assert_whole(&events[i]);
	}
}

static void the_newest_are_given_when_few_are_asked(void **state)
{
	(void) state;
	for (uint64_t n = 1; n <= 300; n++) {
		const struct event e = numbered(n * 7919 % 307);

		assert_true(ring_write(&rings, (unsigned) n, &e));
	}
	assert_int_equal(ring_read(file, size, events, 0, &lost), 0);
	assert_int_equal(ring_read(file, size, events, 20, &lost), 20);
	assert_int_equal(lost, 0);

	struct event *const all = calloc(MAX, sizeof(*all));

	assert_non_null(all);
	assert_int_equal(ring_read(file, size, all, MAX, &lost), 300);
	assert_memory_equal(events, all + 280, 20 * sizeof(*all));
	free(all);
}

static void the_oldest_is_overwritten_and_counted(void **state)
{
	(void) state;
	for (uint64_t n = 1; n <= RING_RECORDS + 250; n++) {
		const struct event e = numbered(n);

		assert_true(ring_write(&rings, 3, &e));
	}
	assert_int_equal(read_all(), RING_RECORDS);
	assert_int_equal(lost, 250);
	assert_int_equal(events[0].id, 251);
	assert_int_equal(events[RING_RECORDS - 1].id, RING_RECORDS + 250);
}

static bool living[1000];
static bool gone(uint32_t pid)
{
	errno = ESRCH;
	return pid >= 1000 || !living[pid];
}

static void sixteen_own_a_ring_and_the_next_share_the_first(void **state)
{
	bool taken[RINGS] = { false };

	(void) state;
	memset(living, true, sizeof(living));
	errno = EXDEV;
	for (uint32_t pid = 1; pid <= RINGS; pid++) {
		const struct ring_owner owner = { .pid = pid, .start = pid * 10, .pidns = 7 };
		const unsigned ring = ring_claim(&rings, &owner, gone);

		assert_in_range(ring, 0, RINGS - 1);
		assert_false(taken[ring]);
		taken[ring] = true;
		assert_int_equal(ring_claim(&rings, &owner, gone), ring);
	}
	const struct ring_owner late = { .pid = 100, .start = 1, .pidns = 7 };

	assert_int_equal(ring_claim(&rings, &late, gone), 0);

	/* Owner of ring 5 dies, and the latecomer has a ring of its own. */
	living[6] = false;
	assert_int_equal(ring_claim(&rings, &late, gone), 5);
	assert_int_equal(ring_claim(&rings, &late, gone), 5);
	assert_int_equal(errno, EXDEV);
}

static void another_namespace_is_never_taken_for_gone(void **state)
{
	(void) state;
	memset(living, false, sizeof(living));
	for (uint32_t pid = 1; pid <= RINGS; pid++) {
		const struct ring_owner owner = { .pid = 50, .start = pid, .pidns = 1000 + pid };

		assert_int_equal(ring_claim(&rings, &owner, gone), pid - 1);
	}
	const struct ring_owner stranger = { .pid = 50, .start = 9, .pidns = 7 };

	assert_int_equal(ring_claim(&rings, &stranger, gone), 0);
	assert_int_equal(ring_claim(&rings, &stranger, gone), 0);
}

static void a_pid_that_came_again_gets_the_ring_of_its_forerunner(void **state)
{
	const struct ring_owner old = { .pid = 42, .start = 1, .pidns = 7 };
	const struct ring_owner new = { .pid = 42, .start = 2, .pidns = 7 };

	(void) state;
	memset(living, true, sizeof(living));
	assert_int_equal(ring_claim(&rings, &old, gone), 0);
	assert_int_equal(ring_claim(&rings, &new, gone), 0);
	assert_int_equal(ring_claim(&rings, &old, gone), 0);
}

#define THREADS 8
#define EACH    20000

static _Atomic uint64_t written;
static pthread_barrier_t start;

static void *produce(void *arg)
{
	const uint64_t base = (uint64_t) (uintptr_t) arg * EACH;

	pthread_barrier_wait(&start);
	for (uint64_t n = 1; n <= EACH; n++) {
		const struct event e = numbered(base + n);

		if (ring_write(&rings, 0, &e))
			atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
	}
	return NULL;
}

static void *watch(void *arg)
{
	(void) arg;
	pthread_barrier_wait(&start);
	do {
		const size_t n = read_all();

		for (size_t i = 0; i < n; i++)
			assert_whole(&events[i]);
	} while (atomic_load_explicit(&written, memory_order_relaxed) == 0);
	return NULL;
}

static void producers_in_one_ring_lose_nothing_uncounted(void **state)
{
	pthread_t threads[THREADS + 1];

	(void) state;
	atomic_store(&written, 0);
	pthread_barrier_init(&start, NULL, THREADS + 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, produce, (void *) i), 0);
	assert_int_equal(pthread_create(&threads[THREADS], NULL, watch, NULL), 0);
	for (int i = 0; i <= THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);

	const size_t n = read_all();
	uint64_t next[THREADS] = { 0 };

	/* What stands and what is lost is what was written: no record twice, none invented. */
	assert_int_equal(n + lost, THREADS * EACH);
	assert_true(atomic_load(&written) <= THREADS * EACH);
	for (size_t i = 0; i < n; i++) {
		assert_whole(&events[i]);

		uint64_t *const expected = &next[(events[i].id - 1) / EACH];

		assert_true(events[i].id > *expected);
		*expected = events[i].id;
	}
	/* Only a writer overtaken by a whole round may have spoilt a place. */
	assert_true(n + (THREADS * EACH - atomic_load(&written)) + THREADS >= RING_RECORDS);
}

static void *produce_few(void *arg)
{
	const uint64_t base = (uint64_t) (uintptr_t) arg * (RING_RECORDS / THREADS);

	pthread_barrier_wait(&start);
	for (uint64_t n = 1; n <= RING_RECORDS / THREADS; n++) {
		const struct event e = numbered(base + n);

		assert_true(ring_write(&rings, 0, &e));
	}
	return NULL;
}

static void producers_that_fit_lose_nothing(void **state)
{
	pthread_t threads[THREADS];

	(void) state;
	pthread_barrier_init(&start, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, produce_few, (void *) i), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);

	assert_int_equal(read_all(), RING_RECORDS / THREADS * THREADS);
	assert_int_equal(lost, 0);
	for (size_t i = 0; i < RING_RECORDS / THREADS * THREADS; i++)
		assert_int_equal(events[i].id, i + 1);
}

/* Has a child write until it is killed, having told over a pipe that it is under way. */
static void kill_a_writer(unsigned round)
{
	int under_way[2];
	char byte;

	assert_int_equal(pipe(under_way), 0);

	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		for (uint64_t n = 1;; n++) {
			const struct event e = numbered(n);

			(void) ring_write(&rings, 0, &e);
			if (n == 1 + round % 100 && write(under_way[1], "", 1) != 1)
				_exit(1);
		}
	}
	assert_int_equal(read(under_way[0], &byte, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	(void) close(under_way[0]);
	(void) close(under_way[1]);
}

static void a_killed_writer_costs_one_record(void **state)
{
	unsigned torn = 0;

	(void) state;
	for (unsigned round = 0; round < 2000; round++) {
		for (uint64_t n = 1; n <= RING_RECORDS; n++) {
			const struct event e = numbered(n);

			assert_true(ring_write(&rings, 0, &e)); /* nothing of the last is stuck */
		}
		if (round % 16 == 0) /* a look costs more than all else of a round */
			assert_int_equal(read_all(), RING_RECORDS);
		kill_a_writer(round);

		const size_t n = read_all();

		assert_in_range(n, RING_RECORDS - 1, RING_RECORDS);
		torn += n == RING_RECORDS - 1;
		for (size_t i = 0; i < n; i++)
			assert_whole(&events[i]);
	}
	print_message("# %u of 2000 died inside a record\n", torn);
}

static void fill(unsigned char *bytes, size_t n, unsigned seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < n; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(bytes + i, &x, n - i < sizeof(x) ? n - i : sizeof(x));
	}
}

static void noise_in_a_record_is_never_shown(void **state)
{
	const size_t first = size - RINGS * (64 + RING_RECORDS * 256) + 64;

	(void) state;
	for (uint64_t n = 1; n <= RING_RECORDS; n++) {
		const struct event e = numbered(n);

		assert_true(ring_write(&rings, 0, &e));
	}
	for (unsigned seed = 0; seed < 10000; seed++) {
		/* Bytes of noise at any place in one record: its stamp, its words, both. */
		unsigned char *const record = (unsigned char *) file + first + seed % 1000 * 256;
		const size_t from = seed * 31 % 256, n = 1 + seed % (256 - from);
		unsigned char old[256];

		memcpy(old, record, sizeof(old));
		fill(record + from, n, seed);

		const bool changed = memcmp(old, record, sizeof(old)) != 0;
		struct event last[2];

		/* Two records are asked for: sorting a thousand is not what is tested. */
		assert_int_equal(ring_read(file, size, last, 2, &lost), 2);
		assert_int_equal(lost, changed);
		memcpy(record, old, sizeof(old));
	}
	assert_int_equal(read_all(), RING_RECORDS);
}

/* A file of noise with the right head, then one that is used all the same. */
static void a_file_of_noise_does_no_harm(void **state)
{
	const size_t head = size - RINGS * (64 + RING_RECORDS * 256);
	unsigned char *const bytes = (unsigned char *) file;

	(void) state;
	for (unsigned seed = 0; seed < 100; seed++) {
		fill(bytes + head, size - head, seed);
		for (size_t i = 0, n = read_all(); i < n; i++)
			assert_int_equal(events[i].text[EVENT_TEXT_SIZE - 1], '\0');
		for (uint64_t n = 1; n <= RING_RECORDS; n++) {
			const struct event e = numbered(n);

			assert_true(ring_write(&rings, seed, &e));
		}
		assert_int_equal(read_all(), RING_RECORDS);
	}
	for (unsigned seed = 0; seed < 100; seed++) {
		fill(bytes, size, seed);
		assert_false(ring_valid(bytes, size));
		assert_int_equal(read_all(), 0);
	}
}

#define FEW      20
#define RECORDS_AT 16 /* in the head */

/* Rings of another size, in memory that ends where they end. */
static struct ring_file *few(void)
{
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);
	const size_t room = (ring_file_size(FEW) + page - 1) / page * page;
	char *const map = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + room, page, PROT_NONE), 0);

	struct ring_file *const f = (struct ring_file *) (map + room - ring_file_size(FEW));

	ring_init(f, FEW);
	return f;
}

static void a_file_says_how_many_records_it_has(void **state)
{
	struct ring_file *const f = few();
	struct rings r;

	(void) state;
	assert_true(ring_open(f, ring_file_size(FEW), &r));
	assert_int_equal(r.records, FEW);
	for (uint64_t n = 1; n <= FEW + 3; n++) {
		const struct event e = numbered(n);

		assert_true(ring_write(&r, RINGS - 1, &e));
	}
	assert_int_equal(ring_read(f, ring_file_size(FEW), events, MAX, &lost), FEW);
	assert_int_equal(lost, 3);
	for (size_t i = 0; i < FEW; i++)
		assert_int_equal(events[i].id, i + 4);
	for (uint32_t bad = 0; bad < 200000; bad += 7) {
		memcpy((char *) f + RECORDS_AT, &bad, sizeof(bad));
		assert_false(ring_valid(f, ring_file_size(FEW)));
	}
}

/* Who has opened the file looks at its own number, whatever the file says by now. */
static void a_number_that_changes_moves_no_writer(void **state)
{
	struct ring_file *const f = few();
	struct rings r;

	(void) state;
	assert_true(ring_open(f, ring_file_size(FEW), &r));
	memset(f, 0xff, 64);
	for (uint64_t n = 1; n <= 10 * FEW; n++) {
		const struct event e = numbered(n);

		assert_true(ring_write(&r, (unsigned) n, &e)); /* or it dies at the edge */
	}
}

/* ---- following ---- */

/* As pread(2) would, while others write; word by word, so that TSan sees what is meant. */
static bool copy_out(void *arg, void *to, size_t n, size_t offset)
{
	assert_true(offset + n <= size);
	for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
		const uint64_t word = __atomic_load_n((uint64_t *) ((char *) arg + offset + i),
						      __ATOMIC_RELAXED);

		memcpy((char *) to + i, &word, sizeof(word));
	}
	return true;
}

static void put(unsigned ring, uint64_t n)
{
	const struct event e = numbered(n);

	assert_true(ring_write(&rings, ring, &e));
}

static size_t follow(struct ring_cursor *c, size_t max)
{
	return ring_follow(copy_out, file, RING_RECORDS, c, events, max, &lost);
}

static void a_follower_gets_each_record_once(void **state)
{
	struct ring_cursor c = { .ring = 0 }, late;
	uint64_t n = 0;

	(void) state;
	lost = 0;
	assert_int_equal(ring_follow_begin(copy_out, file, size), RING_RECORDS);
	assert_int_equal(ring_follow_begin(copy_out, file, size - 1), 0);
	assert_int_equal(follow(&c, MAX), 0);
	for (unsigned round = 0; round < 300; round++) {
		bool seen[64] = { false };
		const uint64_t before = n;

		for (unsigned k = 0; k < round % 64; k++, n++)
			put(round % 7 * k, n);
		for (size_t left = round % 64, got; left > 0; left -= got) {
			got = follow(&c, 10);
			assert_in_range(got, 1, 10);
			for (size_t i = 0; i < got; i++) {
				assert_whole(&events[i]);
				assert_in_range(events[i].id, before, n - 1);
				assert_false(seen[events[i].id - before]);
				seen[events[i].id - before] = true;
			}
		}
	}
	assert_int_equal(follow(&c, MAX), 0);
	assert_int_equal(lost, 0);

	/* Who comes late and wants what is new gets nothing of the old. */
	assert_true(ring_follow_end(copy_out, file, RING_RECORDS, &late));
	assert_int_equal(follow(&late, MAX), 0);
	put(3, n);
	assert_int_equal(follow(&late, MAX), 1);
	assert_int_equal(events[0].id, n);
}

static void a_slow_follower_is_told_what_it_missed(void **state)
{
	struct ring_cursor c = { .ring = 0 };

	(void) state;
	lost = 0;
	put(2, 1);
	assert_int_equal(follow(&c, MAX), 1);
	for (uint64_t n = 2; n <= RING_RECORDS + 50; n++)
		put(2, n);
	assert_int_equal(follow(&c, MAX), RING_RECORDS);
	assert_int_equal(lost, 49);
	assert_int_equal(events[0].id, 51);

	/* From the beginning there is only what is there. */
	c = (struct ring_cursor) { .ring = 0 };
	lost = 0;
	assert_int_equal(follow(&c, MAX), RING_RECORDS);
	assert_int_equal(lost, 0);
}

static void an_unfinished_record_is_waited_for_once(void **state)
{
	const size_t first = size - RINGS * (64 + RING_RECORDS * 256) + 64;
	unsigned char *const second = (unsigned char *) file + first + 2 * 256;
	struct ring_cursor c = { .ring = 0 };
	uint64_t stamp, unfinished;

	(void) state;
	lost = 0;
	for (uint64_t n = 1; n <= 4; n++)
		put(0, n);
	put(1, 5);
	memcpy(&stamp, second, sizeof(stamp));
	unfinished = stamp & ~((UINT64_C(1) << 25) - 1);
	memcpy(second, &unfinished, sizeof(stamp));
	assert_int_equal(follow(&c, MAX), 2); /* the one before it, and the other ring's */
	assert_int_equal(events[0].id, 1);
	assert_int_equal(events[1].id, 5);
	/* Finished meanwhile: */
	memcpy(second, &stamp, sizeof(stamp));

	struct ring_cursor again = c;

	assert_int_equal(follow(&again, MAX), 3);
	assert_int_equal(lost, 0);
	/* Or its writer was killed: */
	memcpy(second, &unfinished, sizeof(stamp));
	assert_int_equal(follow(&c, MAX), 2);
	assert_int_equal(events[0].id, 3);
	assert_int_equal(lost, 1);
}

static void following_noise_ends(void **state)
{
	const size_t head = size - RINGS * (64 + RING_RECORDS * 256);
	struct ring_cursor c = { .ring = 0 };

	(void) state;
	for (unsigned seed = 0; seed < 60; seed++) {
		fill((unsigned char *) file + head, size - head, seed);
		if (seed % 3 == 0)
			fill((unsigned char *) &c, sizeof(c) - sizeof(c.ring), seed);
		for (int round = 0; round < 3; round++) {
			const size_t n = follow(&c, MAX);

			for (size_t i = 0; i < n; i++)
				assert_int_equal(events[i].text[EVENT_TEXT_SIZE - 1], '\0');
		}
	}
}

static void *produce_followed(void *arg)
{
	const uint64_t base = (uint64_t) (uintptr_t) arg * EACH;

	pthread_barrier_wait(&start);
	for (uint64_t n = 1; n <= EACH; n++) {
		const struct event e = numbered(base + n);

		/* False when stopped for a whole round: that record is lost, as is one unread. */
		(void) ring_write(&rings, (unsigned) (uintptr_t) arg / 2, &e);
	}
	atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
	return NULL;
}

static void following_while_others_write_invents_nothing(void **state)
{
	pthread_t threads[THREADS];
	struct ring_cursor c = { .ring = 0 };
	uint64_t next[THREADS] = { 0 }, total = 0;
	bool over = false;

	(void) state;
	lost = 0;
	assert_int_equal(follow(&c, MAX), 0); /* from here on it counts what it misses */
	atomic_store(&written, 0);
	pthread_barrier_init(&start, NULL, THREADS + 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, produce_followed, (void *) i), 0);
	pthread_barrier_wait(&start);
	for (int last = 0; last < 2; last += over) {
		over = atomic_load_explicit(&written, memory_order_relaxed) == THREADS;

		size_t n;

		do {
			n = follow(&c, 500);
			total += n;
			for (size_t i = 0; i < n; i++) {
				uint64_t *const expected = &next[(events[i].id - 1) / EACH];

				assert_whole(&events[i]);
				assert_true(events[i].id > *expected);
				*expected = events[i].id;
			}
		} while (n == 500);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);
	assert_int_equal(total + lost, THREADS * EACH);
}

static void a_short_copy_is_no_ring(void **state)
{
	(void) state;
	for (size_t less = 0; less < size; less += 4001) {
		assert_false(ring_valid(file, less));
		assert_int_equal(ring_read(file, less, events, MAX, &lost), 0);
	}
	assert_false(ring_valid(file, size + 1));
}

/* A writer that slept through a whole round: its late words spoil nothing silently. */
static void a_late_writer_is_told_and_its_traces_are_skipped(void **state)
{
	const size_t first = size - RINGS * (64 + RING_RECORDS * 256) + 64;
	unsigned char *const record = (unsigned char *) file + first + 256; /* position 1 */
	unsigned char slept[256];

	(void) state;
	for (uint64_t n = 1; n <= RING_RECORDS + 1; n++) {
		const struct event e = numbered(n);

		assert_true(ring_write(&rings, 0, &e));
		if (n == 1)
			memcpy(slept, record, sizeof(slept));
	}
	/* Words of record 1 over those of record 1001, whose stamp stands. */
	memcpy(record + 128, slept + 128, 64);
	assert_int_equal(read_all(), RING_RECORDS - 1);
	assert_int_equal(lost, 2);
	for (size_t i = 0; i < RING_RECORDS - 1; i++)
		assert_whole(&events[i]);
}

int main(void)
{
#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		RING_TEST(records_come_back_in_the_order_of_time),
		RING_TEST(the_newest_are_given_when_few_are_asked),
		RING_TEST(the_oldest_is_overwritten_and_counted),
		RING_TEST(sixteen_own_a_ring_and_the_next_share_the_first),
		RING_TEST(another_namespace_is_never_taken_for_gone),
		RING_TEST(a_pid_that_came_again_gets_the_ring_of_its_forerunner),
		RING_TEST(producers_in_one_ring_lose_nothing_uncounted),
		RING_TEST(producers_that_fit_lose_nothing),
		RING_TEST(a_killed_writer_costs_one_record),
		RING_TEST(noise_in_a_record_is_never_shown),
		RING_TEST(a_file_of_noise_does_no_harm),
		RING_TEST(a_short_copy_is_no_ring),
		RING_TEST(a_late_writer_is_told_and_its_traces_are_skipped),
		RING_TEST(a_file_says_how_many_records_it_has),
		RING_TEST(a_number_that_changes_moves_no_writer),
		RING_TEST(a_follower_gets_each_record_once),
		RING_TEST(a_slow_follower_is_told_what_it_missed),
		RING_TEST(an_unfinished_record_is_waited_for_once),
		RING_TEST(following_noise_ends),
		RING_TEST(following_while_others_write_invents_nothing),
	};
#undef RING_TEST

	alarm(120); /* a stuck child or thread fails the test rather than the whole run */
	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
