/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes are sacred, over HTTP/2: random frames, cut at random into calls of all kinds, over a
 * kernel (hosts/stingy.c) that takes as much of each as it likes. The wire has the program's
 * frames and one set of fields in each request's block, and the program is told about its own
 * bytes alone. Then what programs do in the middle of a block.
 */
#include "tests/preload/host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/http2.h"
#include "core/metrics.h"
#include "tests/preload/cases.h"
#include "tests/preload/h2_talk.h"
#include "tests/preload/hosts/stingy.h"
#include "tests/preload/streams.h"
#include "tests/preload/traced.h"

#define CASES     6000
#define UNTOUCHED 77 /* errno before a call */
#define DRAIN_AT  16384
#define WIRE_SIZE (2 * TALK_SIZE)
#define PIECES    200

static struct stingy *stingy;
static struct cases cases;
static struct peer server;
static struct talk talk;
static char wire[WIRE_SIZE], elsewhere[TALK_SIZE];

/* ---- one connection ---- */

struct link {
	struct random random;
	int fd, peer;
	size_t sent;   /* of the talk, as far as we were told */
	size_t taken;  /* by the kernel, ours among them */
	size_t got;    /* on the wire */
	size_t drained_at;
	bool over;     /* the connection broke down */
	bool notices;  /* the socket gives notices of MSG_ZEROCOPY */
	bool opaque;   /* and one was asked for: nothing is added any more */
	const char *wrong;
	char what[200];
};

static void drain(struct link *l)
{
	long n;

	while ((n = past_hooks(SYS_recvfrom, l->peer, (long) (wire + l->got),
			       (long) (WIRE_SIZE - l->got), MSG_DONTWAIT, 0, 0)) > 0)
		l->got += (size_t) n;
	l->drained_at = l->sent;
}

static void drain_all(struct link *l)
{
	struct pollfd ready = { .fd = l->peer, .events = POLLIN };

	for (drain(l); l->got < l->taken && poll(&ready, 1, 5000) == 1;)
		drain(l);
}

static void link_open(struct link *l)
{
	l->fd = tcp_connected(&server);
	l->peer = peer_accept(&server);
	assert_true(l->peer >= 0);
}

static void link_close(struct link *l)
{
	stingy->fd = -1;
	(void) close(l->fd);
	(void) raw_close(l->peer);
}

/* ---- random calls ---- */

static struct iovec vector[PIECES];

static size_t cut(struct random *r, const char *bytes, size_t n, size_t most)
{
	size_t pieces = 0, at = 0;

	for (; pieces < most; pieces++) {
		size_t len = random_below(r, 8) == 0 ? 0 : random_within(r, 1, 2 * (n / most + 1));

		if (len > n - at || pieces + 1 == most)
			len = n - at;
		vector[pieces] = (struct iovec) { (void *) (bytes + at), len };
		at += len;
	}
	return pieces;
}

static size_t pieces_for(struct random *r)
{
	return random_below(r, 8) == 0 ? random_within(r, 25, PIECES) : random_within(r, 1, 6);
}

static int flags_for(struct random *r)
{
	static const int all[] = { MSG_NOSIGNAL, MSG_DONTWAIT, MSG_MORE };
	int flags = random_below(r, 16) == 0 ? MSG_ZEROCOPY : 0;

	for (int i = 0; i < 3; i++)
		if (random_below(r, 4) == 0)
			flags |= all[i];
	return flags;
}

static ssize_t call(struct link *l, const char *bytes, size_t n, int *ret_flags)
{
	struct random *r = &l->random;
	const unsigned which = (unsigned) random_below(r, 7);
	const int flags = which >= 3 && which < 6 ? flags_for(r) : 0;
	struct msghdr msg = { .msg_iov = vector };

	l->taken += stingy->taken;
	stingy->calls = stingy->zerocopies = 0;
	stingy->taken = 0;
	stingy->error = 0;
	stingy->refused = stingy->more = false;
	stingy->flags = flags;
	(void) snprintf(l->what, sizeof(l->what), "call %u of %zu bytes from %zu, flags %#x", which, n,
			l->sent, (unsigned) flags);
	*ret_flags = flags;
	errno = UNTOUCHED;
	switch (which) {
	case 0:
	case 6:
		return write(l->fd, bytes, n);
	case 1:
	case 2:
		return writev(l->fd, vector, (int) cut(r, bytes, n, pieces_for(r)));
	case 3:
		return send(l->fd, bytes, n, flags);
	case 4:
		return sendto(l->fd, bytes, n, flags, NULL, 0);
	default:
		msg.msg_iovlen = cut(r, bytes, n, pieces_for(r));
		return sendmsg(l->fd, &msg, flags);
	}
}

/* What the call said, beside what the kernel had said to us. */
static const char *judged(const struct link *l, size_t n, ssize_t rc, int error, int flags)
{
	if (stingy->wrong != NULL)
		return stingy->wrong;
	if (rc == 0 || rc > (ssize_t) n)
		return "a count that cannot be";
	if (rc > 0 && error != UNTOUCHED)
		return "errno changed by a success";
	if (rc == (ssize_t) n && stingy->refused)
		return "all was sent, and the kernel had not taken all";
	if (rc == (ssize_t) n && stingy->more && (flags & MSG_MORE) == 0)
		return "the last bytes are held back";
	if (rc < 0 && error == ENOBUFS && l->notices && (flags & MSG_ZEROCOPY) != 0)
		return NULL; /* it is to do without */
	if (rc < (ssize_t) n && !stingy->refused)
		return "the kernel would have taken more"; /* and will not wake anybody */
	if (rc < 0 && error != (stingy->error != 0 ? stingy->error : EAGAIN))
		return "errno is not the kernel's";
	if (l->notices && stingy->zerocopies > (rc > 0 ? 1 : 0))
		return "more notices of zero-copy will come than the program awaits";
	if (l->notices && rc > 0 && (flags & MSG_ZEROCOPY) != 0 && stingy->zerocopies == 0)
		return "a notice of zero-copy will not come";
	return NULL;
}

/* Hands @n bytes over, as a program does that wants them to go; often from another place. */
static void send_all(struct link *l, size_t n)
{
	while (n > 0 && !l->over && l->wrong == NULL) {
		const bool moves = random_below(&l->random, 2) == 0;
		int flags;

		talk_cut(&talk, l->sent + n);

		const ssize_t rc = call(l, (moves ? elsewhere : talk.bytes) + l->sent, n, &flags);
		const int error = errno;

		l->wrong = judged(l, n, rc, error, flags);
		l->opaque = l->opaque || (l->notices && (flags & MSG_ZEROCOPY) != 0);
		if (rc > 0) {
			l->sent += (size_t) rc;
			n -= (size_t) rc;
		} else if (rc < 0 && error != EAGAIN && error != EINTR && error != ENOBUFS) {
			l->over = true;
		}
		/* The rest goes in larger or smaller calls than it first came in. */
		if (n > 0 && random_below(&l->random, 3) == 0)
			n = random_within(&l->random, 1, random_below(&l->random, 2) == 0
								 ? n
								 : talk.len - l->sent);
		if (l->sent - l->drained_at > DRAIN_AT || (stingy->error == EAGAIN && stingy->refused))
			drain(l);
	}
}

static size_t next_cut(struct link *l, unsigned manner)
{
	struct random *r = &l->random;
	const size_t left = talk.len - l->sent;
	const struct talk_frame *f = &talk.frames[random_below(r, talk.n_frames)];
	size_t n = left;

	switch (manner) {
	case 0:
		break;
	case 1:
		n = random_within(r, 1, 3);
		break;
	case 2:
		n = random_within(r, 1, left);
		break;
	case 3: /* around the beginning of a frame, or its end */
		n = (random_below(r, 2) == 0 ? f->at + random_below(r, 14) : f->end - random_below(r, 3));
		n = n > l->sent && n - l->sent <= left ? n - l->sent : random_within(r, 1, left);
		break;
	default:
		n = random_within(r, 1, 200);
		break;
	}
	/* Fewer than four bytes are not known for HTTP/2's. */
	if (l->sent == 0 && n < 4)
		n = 4;
	return n < left ? n : left;
}

static void temper(struct random *r)
{
	static const struct {
		unsigned all, none, one;
	} tempers[] = {
		{ 100, 0, 0 },
		{ 60, 20, 20 },
		{ 20, 40, 30 },
		{ 5, 30, 90 },
	};
	const unsigned i = (unsigned) random_below(r, talk.len < 3000 ? 4 : 3);

	stingy->random = random_next(r);
	stingy->all = tempers[i].all;
	stingy->none = tempers[i].none;
	stingy->one = tempers[i].one;
	stingy->fatal = random_below(r, 12) == 0 ? 20 : 0;
	stingy->counts = stingy->broken = false;
	stingy->pauses = false;
	stingy->wrong = NULL;
	stingy->error = 0;
	stingy->taken = 0;
	stingy->strict = true;
}

static void tell(const struct link *l, long number, const char *wrong, size_t at)
{
	print_message("# seed %ju:%ld: %s (%s), byte %zu of the wire's %zu\n",
		      (uintmax_t) cases.seed, number, wrong, l->what, at, l->got);
}

static unsigned added_in_all;

static bool random_case(long number)
{
	struct link l = { .random = cases_random(&cases, number) };
	unsigned manner = (unsigned) random_below(&l.random, 5), added = 0;
	const char *wrong;
	const int one = 1;
	size_t at = 0;

	talk_begin(&talk, (uint32_t) random_next(&l.random));
	talk_some(&talk, (unsigned) random_within(&l.random, 1, 8));
	memcpy(elsewhere, talk.bytes, talk.len);
	if (talk.len > 3000 && manner == 1)
		manner = 4;
	link_open(&l);
	if (random_below(&l.random, 2) == 0)
		(void) fcntl(l.fd, F_SETFL, O_NONBLOCK);
	l.notices = random_below(&l.random, 6) == 0 &&
		    setsockopt(l.fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) == 0;
	temper(&l.random);
	stingy->fd = l.fd;
	while (l.sent < talk.len && !l.over && l.wrong == NULL)
		send_all(&l, next_cut(&l, manner));
	l.taken += stingy->taken;
	drain_all(&l);
	at = l.got;
	wrong = l.wrong != NULL ? l.wrong
				: talk_check(&talk, wire, l.got, !l.over, l.opaque, &added, &at);
	added_in_all += added;
	link_close(&l);
	talk_end(&talk);
	if (wrong != NULL)
		tell(&l, number, wrong, at);
	return wrong == NULL;
}

static void every_wire_has_the_programs_frames(void **state)
{
	unsigned bad = 0;

	(void) state;
	for (long i = cases.first; i < cases.end && bad < 5; i++)
		bad += !random_case(i);
	assert_int_equal(bad, 0);
	assert_true(added_in_all > (cases.end - cases.first) / 2);
}

/* ---- in the middle of a block ---- */

/* Preface and SETTINGS, and requests by the test. The kernel takes @budget bytes. */
static void begin(struct link *l, size_t budget)
{
	*l = (struct link) { .random = { 1 } };
	talk_begin(&talk, 1);
	link_open(l);
	stingy->random = 1;
	stingy->strict = stingy->broken = false;
	stingy->pauses = false;
	stingy->fatal = 0;
	stingy->counts = true;
	stingy->budget = budget;
	stingy->taken = 0;
	stingy->wrong = NULL;
	stingy->fd = l->fd;
	(void) fcntl(l->fd, F_SETFL, O_NONBLOCK);
}

static void check_wire(struct link *l, bool maybe, unsigned wanted)
{
	unsigned added = 0;
	size_t at;
	const char *wrong;

	l->taken = stingy->taken;
	drain_all(l);
	wrong = talk_check(&talk, wire, l->got, true, maybe, &added, &at);
	if (wrong != NULL)
		fail_msg("%s, byte %zu of %zu", wrong, at, l->got);
	assert_int_equal(added, wanted);
}

static void end(struct link *l)
{
	link_close(l);
	talk_end(&talk);
}

/* Returns how many of the program's bytes went before the kernel took no more. */
static size_t send_some(struct link *l)
{
	size_t before = l->sent;

	while (l->sent < talk.len) {
		const ssize_t n = write(l->fd, talk.bytes + l->sent, talk.len - l->sent);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			break;
		}
		l->sent += (size_t) n;
	}
	return l->sent - before;
}

/* Where the kernel stops, with HEADERS in one frame, too long for it, or padded. */
static void a_block_may_be_cut_at_each_byte(void **state)
{
	static char big[16384];
	const char *const fields[] = { "x-big", big };

	(void) state;
	for (unsigned kind = 0; kind < 3; kind++) {
		for (size_t stop = 0;; stop += kind == 1 && stop > 60 && stop < 14000 ? 977 : 1) {
			struct link l;

			begin(&l, stop);
			memset(big, '!', kind == 1 ? 16384 / 13 * 8 : 10);
			big[kind == 1 ? 16384 / 13 * 8 : 10] = '\0';
			(void) talk_request_with(&talk, true, fields, kind == 1);
			if (kind == 1)
				talk.frames[2].block = TALK_MANY;
			(void) talk_request(&talk, false);
			talk_frame(&talk, DATA, END_STREAM, 3, "body", 4);

			const bool stopped = send_some(&l) < talk.len;

			/* One more byte at a time, then all. */
			for (unsigned i = 0; i < 3; i++) {
				stingy->budget = 1;
				(void) send_some(&l);
			}
			stingy->budget = TALK_SIZE;
			(void) send_some(&l);
			assert_int_equal(l.sent, talk.len);
			check_wire(&l, false, 2);
			end(&l);
			if (!stopped)
				break;
		}
	}
}

/* Stops in the middle of the first request's block, so that it has to come again. */
static void stop_in_a_block(struct link *l, size_t more)
{
	begin(l, TALK_HELLO + more);
	(void) talk_request(&talk, true);
	(void) send_some(l);
	assert_true(l->sent < talk.len);
}

/* Of a block that was looked at and did not go at all: the connection goes on without us. */
static void other_bytes_may_come_instead(void **state)
{
	struct link l;

	(void) state;
	stop_in_a_block(&l, 0);
	assert_int_equal(l.sent, TALK_HELLO);
	talk.len = TALK_HELLO;
	talk.n_frames = 2;
	talk_frame(&talk, PING, 0, 0, "12345678", 8);
	(void) talk_request(&talk, true);
	stingy->budget = TALK_SIZE;
	(void) send_some(&l);
	assert_int_equal(l.sent, talk.len);
	check_wire(&l, true, 0);
	end(&l);
}

/* No more of it goes than the program has come with again. */
static void a_program_may_give_up_in_the_middle(void **state)
{
	struct link l;

	(void) state;
	stop_in_a_block(&l, 12);

	const size_t sent = l.sent;

	stingy->budget = TALK_SIZE;
	assert_int_equal(write(l.fd, talk.bytes + sent, 2), 2);
	l.taken = stingy->taken;
	drain_all(&l);
	assert_int_equal(l.got, sent + 2);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	assert_int_equal(past_hooks(SYS_recvfrom, l.peer, (long) wire, 100, 0, 0, 0), 0);
	end(&l);
}

static void what_is_not_there_changes_nothing(void **state)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec *gone = (struct iovec *) (void *) (page + 4096);
	struct link l;

	(void) state;
	assert_int_equal(mprotect(gone, 4096, PROT_NONE), 0);
	for (size_t stop = 0; stop < 100; stop += 9) {
		const struct iovec half[2] = { { page + 4094, 2 }, { gone, 50 } };
		ssize_t n;

		stop_in_a_block(&l, stop);
		stingy->fd = -1; /* it would look at them */
		assert_int_equal(write(l.fd, gone, 10), -1);
		assert_int_equal(errno, EFAULT);
		assert_int_equal(past_hooks(SYS_writev, l.fd, (long) gone, 2, 0, 0, 0), -EFAULT);
		assert_int_equal(writev(l.fd, gone, 2), -1);
		/* Half of it is: that goes, at most. */
		memcpy(page + 4094, talk.bytes + l.sent, talk.len - l.sent < 2 ? 1 : 2);
		n = writev(l.fd, half, talk.len - l.sent < 2 ? 0 : 2);
		assert_true(n <= 2);
		l.sent += n > 0 ? (size_t) n : 0;
		(void) talk_request(&talk, true);
		(void) send_some(&l);
		stingy->taken = talk.len + 2 * (69 + 56);
		check_wire(&l, false, 2);
		end(&l);
	}
	(void) munmap(page, 8192);
}

static int goes_on(void *arg)
{
	struct link *l = arg;

	CHECK(write(l->fd, talk.bytes + l->sent, talk.len - l->sent) ==
	      (ssize_t) (talk.len - l->sent));
	return 0;
}

/* Whoever of the two goes on, the block gets what its head says. */
static void a_child_goes_on_where_its_parent_stopped(void **state)
{
	(void) state;
	for (size_t stop = 0; stop < 110; stop += 6) {
		struct link l;

		stop_in_a_block(&l, stop);
		l.got = l.taken = 0;
		stingy->budget = TALK_SIZE;
		assert_int_equal(child_status(goes_on, &l), 0);
		l.taken = stingy->taken + 1; /* the child's are not counted: wait for all */
		for (unsigned i = 0; i < 3; i++) {
			struct pollfd ready = { .fd = l.peer, .events = POLLIN };

			(void) poll(&ready, 1, i == 0 ? 5000 : 1);
			drain(&l);
		}
		l.taken = l.got;
		stingy->taken = l.got;
		check_wire(&l, false, 1);
		end(&l);
	}
}

/* The parent waits for its child, which writes nothing, and goes on. */
static int does_nothing(void *arg)
{
	struct link *l = arg;

	return close(l->fd);
}

static void a_parent_goes_on_after_a_fork(void **state)
{
	struct link l;

	(void) state;
	stop_in_a_block(&l, 60);
	assert_int_equal(child_status(does_nothing, &l), 0);
	stingy->budget = TALK_SIZE;
	(void) send_some(&l);
	check_wire(&l, false, 1);
	end(&l);
}

static void syscall_goes_on_too(void **state)
{
	(void) state;
	for (size_t stop = 0; stop < 110; stop += 6) {
		struct link l;
		struct iovec v;

		stop_in_a_block(&l, stop);
		stingy->budget = TALK_SIZE;
		v = (struct iovec) { talk.bytes + l.sent, talk.len - l.sent };
		assert_int_equal(stop % 12 == 0 ? syscall(SYS_write, l.fd, v.iov_base, v.iov_len)
						: syscall(SYS_writev, l.fd, &v, 1),
				 v.iov_len);
		check_wire(&l, false, 1);
		end(&l);
	}
}

static int file_of(const char *bytes, size_t n)
{
	const int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(past_hooks(SYS_write, fd, (long) bytes, (long) n, 0, 0, 0), n);
	return fd;
}

/* The head of DATA by write, its payload by sendfile, what comes after by write again. */
static void a_body_may_be_a_file(void **state)
{
	static const char body[] = "a body that is a file";
	const size_t n = sizeof(body) - 1;
	const int file = file_of(body, n);
	struct link l;
	off_t at = 0;
	size_t head;

	(void) state;
	begin(&l, TALK_SIZE);
	stingy->fd = -1; /* sendfile goes past it */
	(void) talk_request(&talk, false);
	head = talk.len + 9;
	talk_frame(&talk, DATA, END_STREAM, 1, body, n);
	(void) talk_request(&talk, true);
	assert_int_equal(write(l.fd, talk.bytes, head), head);
	assert_int_equal(sendfile(l.fd, file, &at, n), n);
	l.sent = head + n;
	(void) send_some(&l);
	assert_int_equal(l.sent, talk.len);
	stingy->taken = talk.len + 2 * (69 + 56);
	check_wire(&l, false, 2);
	(void) raw_close(file);
	end(&l);
}

/* ---- several at once ---- */

struct writer {
	struct link *l;
	_Atomic int tid;
};

static void *writes_all(void *arg)
{
	struct writer *w = arg;

	w->tid = gettid();
	(void) write(w->l->fd, talk.bytes + w->l->sent, talk.len - w->l->sent);
	return arg;
}

/* Blocked before a byte of the block went; then another thread comes with the same bytes. */
static void a_writer_may_be_cancelled(void **state)
{
	struct link l;
	struct writer w = { .l = &l };
	pthread_t thread;
	void *result;

	(void) state;
	begin(&l, TALK_SIZE);
	(void) fcntl(l.fd, F_SETFL, 0);
	(void) send_some(&l);
	(void) talk_request(&talk, true);
	stingy->budget = 0;
	stingy->waits = false;
	stingy->pauses = true;
	assert_int_equal(pthread_create(&thread, NULL, writes_all, &w), 0);
	while (!stingy->waits)
		(void) poll(NULL, 0, 1);
	assert_int_equal(pthread_cancel(thread), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	stingy->pauses = false;
	stingy->budget = TALK_SIZE;
	(void) send_some(&l);
	assert_int_equal(l.sent, talk.len);
	(void) talk_request(&talk, true);
	(void) send_some(&l);
	check_wire(&l, true, 0);
	end(&l);
}

#define EACH 400

static void *pings(void *arg)
{
	static const char ping[] = "\0\0\x8\6\0\0\0\0\0ABCDEFGH";
	const struct link *l = arg;

	for (int i = 0; i < EACH; i++)
		if (write(l->fd, ping, 17) != 17)
			return NULL;
	return arg;
}

/* Whole frames, each by a call of its own: they come through whole, whatever we did see. */
static void two_threads_may_write_at_once(void **state)
{
	struct link l;
	pthread_t thread;
	void *result;
	unsigned n_pings = 0, n_requests = 0;
	size_t at = TALK_HELLO;

	(void) state;
	begin(&l, TALK_SIZE);
	stingy->fd = -1;
	(void) fcntl(l.fd, F_SETFL, 0);
	assert_int_equal(write(l.fd, talk.bytes, TALK_HELLO), TALK_HELLO);
	assert_int_equal(pthread_create(&thread, NULL, pings, &l), 0);
	for (unsigned i = 0; i < 90; i++) {
		const size_t from = talk.len;

		(void) talk_request(&talk, true);
		assert_int_equal(write(l.fd, talk.bytes + from, talk.len - from), talk.len - from);
	}
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_non_null(result);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	for (long n; (n = past_hooks(SYS_recvfrom, l.peer, (long) (wire + l.got), 65536, 0, 0, 0)) > 0;)
		l.got += (size_t) n;
	while (at + 9 <= l.got) {
		const uint8_t *head = (const uint8_t *) wire + at;

		n_pings += head[3] == PING;
		n_requests += head[3] == HEADERS;
		assert_true(head[3] == PING || head[3] == HEADERS);
		at += 9u + ((size_t) head[1] << 8 | head[2]);
	}
	assert_int_equal(at, l.got);
	assert_int_equal(n_pings, EACH);
	assert_int_equal(n_requests, 90);
	end(&l);
}

static struct link *handled;
static _Atomic int handler_said;

static void writes_a_ping(int signal)
{
	(void) signal;
	handler_said = write(handled->fd, "\0\0\x8\6\0\0\0\0\0ABCDEFGH", 17) == 17 ? 1 : errno;
	stingy->pauses = false;
}

/* A handler writes while its thread waits for room in the middle of a block: it is not hung up. */
static void a_handler_may_write_in_between(void **state)
{
	struct sigaction act = { .sa_handler = writes_a_ping };
	struct link l;
	struct writer w = { .l = &l };
	pthread_t thread;

	(void) state;
	assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0);
	stop_in_a_block(&l, 30);
	(void) fcntl(l.fd, F_SETFL, 0);
	handled = &l;
	handler_said = 0;
	stingy->budget = 0;
	stingy->waits = false;
	stingy->pauses = true;
	assert_int_equal(pthread_create(&thread, NULL, writes_all, &w), 0);
	while (!stingy->waits)
		(void) poll(NULL, 0, 1);
	stingy->budget = 17;
	assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(handler_said, 1);
	end(&l);
}

/* ---- the preface, and servers ---- */

static void the_preface_may_come_in_two(void **state)
{
	(void) state;
	for (size_t at = 1; at < TALK_HELLO; at++) {
		struct link l;

		begin(&l, TALK_SIZE);
		(void) talk_request(&talk, true);
		assert_int_equal(write(l.fd, talk.bytes, at), at);
		l.sent = at;
		(void) send_some(&l);
		/* Of fewer than four bytes nobody knows; then nothing is added, that is all. */
		check_wire(&l, at < 4, at < 4 ? 0 : 1);
		end(&l);
	}
}

static int served_pair(int *ret_client)
{
	struct peer p = peer_listening();
	int fd;

	*ret_client = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	assert_int_equal(past_hooks(SYS_connect, *ret_client, (long) &p.addr, sizeof(p.addr), 0, 0, 0),
			 0);
	fd = accept(p.listener, NULL, NULL);
	assert_true(fd >= 0);
	(void) raw_close(p.listener);
	return fd;
}

static unsigned server_spans(void)
{
	return (unsigned) host_counted(METRICS_SPANS_SERVER);
}

/* A server reads by calls of any size, has greeted before or not, and answers; spans are told. */
static void a_server_may_read_as_it_likes(void **state)
{
	static const char settings[] = "\0\0\0\4\0\0\0\0\0";
	char answers[64 * 10];

	(void) state;
	for (unsigned i = 0; i < 300; i++) {
		struct random r = { i };
		const size_t most = i < 70 ? i + 1 : random_within(&r, 1, 5000);
		const unsigned before = server_spans();
		unsigned n_answers = 0;
		int client;
		const int fd = served_pair(&client);
		const bool greets = i % 2 == 0;

		talk_begin(&talk, i);
		talk_some(&talk, 10);
		if (greets)
			assert_int_equal(write(fd, settings, 9), 9);
		for (size_t sent = 0, got = 0; got < talk.len;) {
			static char buf[5000];
			const size_t n = random_within(&r, 1, most);
			const size_t part = talk.len - sent < 30000 ? talk.len - sent : 30000;

			sent += (size_t) past_hooks(SYS_sendto, client, (long) (talk.bytes + sent),
						    (long) part, MSG_DONTWAIT, 0, 0) *
				(part > 0);

			const ssize_t rc = recv(fd, buf, n < talk.len - got ? n : talk.len - got, 0);

			assert_true(rc > 0);
			assert_memory_equal(buf, talk.bytes + got, rc);
			got += (size_t) rc;
		}
		if (!greets)
			assert_int_equal(write(fd, settings, 9), 9);
		for (unsigned k = 0; k < 10; k++) {
			http2_frame_head(answers + k * 10, 1, HEADERS, END_HEADERS | END_STREAM, 2 * k + 1);
			answers[k * 10 + 9] = '\x88';
			n_answers += 10;
		}
		for (unsigned at = 0; at < n_answers;) {
			const size_t part = random_within(&r, 1, n_answers - at);

			assert_int_equal(write(fd, answers + at, part), part);
			at += (unsigned) part;
		}
		assert_int_equal(close(fd), 0);
		(void) raw_close(client);
		talk_end(&talk);
		assert_int_equal(server_spans() - before, 10);
	}
}

/* Each stream has one span, however it ends; none is left. */
static void each_stream_has_one_span(void **state)
{
	static const char settings[] = "\0\0\0\4\0\0\0\0\0";

	(void) state;
	for (unsigned i = 0; i < 100; i++) {
		struct random r = { i };
		const uint64_t before = host_counted(METRICS_SPANS_CLIENT);
		char answer[16], got[64];
		struct link l;

		begin(&l, TALK_SIZE);
		stingy->fd = -1;
		talk_some(&talk, 20);
		(void) fcntl(l.fd, F_SETFL, 0);
		assert_int_equal(past_hooks(SYS_write, l.peer, (long) settings, 9, 0, 0, 0), 9);
		while (l.sent < talk.len) {
			const size_t n = random_within(&r, 4, talk.len - l.sent < 4 ? 4 : talk.len - l.sent);
			const size_t left = talk.len - l.sent;

			assert_int_equal(write(l.fd, talk.bytes + l.sent, n < left ? n : left),
					 n < left ? n : left);
			l.sent += n < left ? n : left;
			drain(&l);
		}
		for (unsigned k = 0; k < 20; k++) {
			const uint32_t id = 2 * k + 1;

			if (k % 4 == 0) {
				http2_frame_head(answer, 4, RST_STREAM, 0, id);
				memcpy(answer + 9, "\0\0\0\2", 4);
			} else {
				http2_frame_head(answer, 1, HEADERS,
						 END_HEADERS | (k % 4 < 3 ? END_STREAM : 0), id);
				answer[9] = '\x88';
			}
			assert_true(past_hooks(SYS_write, l.peer, (long) answer, k % 4 == 0 ? 13 : 10,
					       0, 0, 0) > 0);
			assert_true(recv(l.fd, got, sizeof(got), 0) > 0);
		}
		end(&l);
		assert_int_equal(host_counted(METRICS_SPANS_CLIENT) - before, 20);
	}
}

int main(int argc, char **argv)
{
	static const char *const settings[] = {
		"AGENTSHIM_MODE=observe",
		"OTEL_PROPAGATORS=tracecontext,baggage,b3",
		NULL,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_may_be_cut_at_each_byte),
		cmocka_unit_test(every_wire_has_the_programs_frames),
		cmocka_unit_test(other_bytes_may_come_instead),
		cmocka_unit_test(a_program_may_give_up_in_the_middle),
		cmocka_unit_test(what_is_not_there_changes_nothing),
		cmocka_unit_test(a_child_goes_on_where_its_parent_stopped),
		cmocka_unit_test(a_parent_goes_on_after_a_fork),
		cmocka_unit_test(syscall_goes_on_too),
		cmocka_unit_test(a_body_may_be_a_file),
		cmocka_unit_test(a_writer_may_be_cancelled),
		cmocka_unit_test(two_threads_may_write_at_once),
		cmocka_unit_test(a_handler_may_write_in_between),
		cmocka_unit_test(the_preface_may_come_in_two),
		cmocka_unit_test(a_server_may_read_as_it_likes),
		cmocka_unit_test(each_stream_has_one_span),
	};

	stingy_below();
	host_start(argc, argv, settings);
	stingy = stingy_find();
	server = peer_listening();
	cases = cases_choose(CASES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
