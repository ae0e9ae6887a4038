/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes are sacred: random requests, cut at random into calls of all kinds, over a kernel
 * (hosts/stingy.c) that takes as much of each as it likes. Whatever happens, the wire has the
 * program's bytes and one block of fields before each blank line, and the program is told
 * about its own bytes alone.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/preload/cases.h"
#include "tests/preload/host.h"
#include "tests/preload/hosts/stingy.h"
#include "tests/preload/streams.h"

#define CASES      20000
#define UNTOUCHED  77    /* errno before a call */
#define DRAIN_AT   16384
#define WIRE_SIZE  (1 << 20)

ssize_t __write(int fd, const void *buf, size_t len);

/* Looked up: on aarch64 libc keeps it for old programs, none can be linked to it. */
static ssize_t (*old_send)(int, const void *, size_t, int);

static struct stingy *stingy;
static struct cases cases;
static struct peer server, front;
static struct stream stream;
static char wire[WIRE_SIZE];

/* ---- one connection ---- */

struct link {
	struct random random;
	int fd, peer;         /* ours, under the hooks; the receiver's, past them */
	const struct stream *s;
	size_t sent;          /* of the stream, as far as we were told */
	size_t taken;         /* by the kernel, ours among them */
	size_t got;           /* on the wire */
	size_t drained_at;
	bool over;            /* the connection broke down */
	const char *wrong;
	char what[200];       /* of the last call */
	size_t call_from, call_to; /* what the last call was about */
	bool single;          /* and it was one call */
};

static long raw_recv(int fd, void *buf, size_t len)
{
	return past_hooks(SYS_recvfrom, fd, (long) buf, (long) len, MSG_DONTWAIT, 0, 0);
}

static void drain(struct link *l)
{
	long n;

	while ((n = raw_recv(l->peer, wire + l->got, WIRE_SIZE - l->got)) > 0)
		l->got += (size_t) n;
	l->drained_at = l->sent;
}

/* All that the kernel took; Nagle and pacing may have kept the end of it back. */
static void drain_all(struct link *l)
{
	struct pollfd ready = { .fd = l->peer, .events = POLLIN };

	for (drain(l); l->got < l->taken && poll(&ready, 1, 5000) == 1;)
		drain(l);
}

/* ---- the program's calls ---- */

static struct iovec vector[IOV_MAX];

/* Cuts @n bytes into at most @most pieces, some of them empty. */
static size_t cut(struct random *r, const char *bytes, size_t n, size_t most)
{
	const size_t typical = n / most + 1;
	size_t pieces = 0, at = 0;

	for (; pieces < most; pieces++) {
		size_t len = random_below(r, 8) == 0 ? 0 : random_within(r, 1, 2 * typical);

		if (len > n - at || pieces + 1 == most)
			len = n - at;
		vector[pieces] = (struct iovec) { (void *) (bytes + at), len };
		at += len;
	}
	return pieces;
}

static size_t pieces_for(struct random *r)
{
	switch (random_below(r, 12)) {
	case 0:
		return IOV_MAX;
	case 1:
		return random_within(r, 58, 70);
	case 2:
		return random_within(r, 100, IOV_MAX);
	default:
		return random_within(r, 1, 6);
	}
}

static int flags_for(struct random *r)
{
	static const int all[] = { MSG_NOSIGNAL, MSG_DONTWAIT, MSG_MORE, MSG_ZEROCOPY };
	int flags = 0;

	for (int i = 0; i < 4; i++)
		if (random_below(r, 4) == 0)
			flags |= all[i];
	return flags;
}

static ssize_t by_sendmmsg(struct link *l, const char *bytes, size_t n, int flags)
{
	struct mmsghdr msgs[4] = { 0 };
	const unsigned most = (unsigned) random_within(&l->random, 1, 4);
	const size_t pieces = cut(&l->random, bytes, n, random_within(&l->random, most, 20));
	size_t at = 0;
	ssize_t total = 0;

	for (unsigned i = 0; i < most; i++) {
		const size_t count = i + 1 == most ? pieces - at : pieces / most;

		msgs[i].msg_hdr = (struct msghdr) { .msg_iov = vector + at, .msg_iovlen = count };
		at += count;
	}
	l->single = most == 1;
	stingy->flags = flags;

	const int rc = sendmmsg(l->fd, msgs, most, flags);

	if (rc < 0)
		return -1;
	for (int i = 0; i < rc; i++) {
		size_t len = 0;

		for (size_t k = 0; k < msgs[i].msg_hdr.msg_iovlen; k++)
			len += msgs[i].msg_hdr.msg_iov[k].iov_len;
		total += msgs[i].msg_len;
		if (msgs[i].msg_len < len && i + 1 < rc)
			l->wrong = "sendmmsg went on after a message that was sent in part";
	}
	return total;
}

static ssize_t call(struct link *l, const char *bytes, size_t n)
{
	struct random *r = &l->random;
	const unsigned which = (unsigned) random_below(r, 8);
	const int flags = which >= 3 ? flags_for(r) : 0;
	struct msghdr msg = { .msg_iov = vector };

	l->taken += stingy->taken;
	l->single = true;
	l->call_from = l->sent;
	l->call_to = l->sent + n;
	stingy->calls = stingy->zerocopies = 0;
	stingy->taken = 0;
	stingy->error = 0;
	stingy->refused = false;
	stingy->flags = flags;
	(void) snprintf(l->what, sizeof(l->what), "call %u of %zu bytes from %zu, flags %#x", which, n,
			l->sent, (unsigned) flags);
	errno = UNTOUCHED;
	switch (which) {
	case 0:
		return write(l->fd, bytes, n);
	case 1:
		return writev(l->fd, vector, (int) cut(r, bytes, n, pieces_for(r)));
	case 2:
		return __write(l->fd, bytes, n);
	case 3:
		return send(l->fd, bytes, n, flags);
	case 4:
		return sendto(l->fd, bytes, n, flags, NULL, 0);
	case 5:
		return old_send(l->fd, bytes, n, flags);
	case 6:
		msg.msg_iovlen = cut(r, bytes, n, pieces_for(r));
		return sendmsg(l->fd, &msg, flags);
	default:
		return by_sendmmsg(l, bytes, n, flags);
	}
}

/* What the call said, beside what the kernel had said to us. */
static const char *judged(const struct link *l, size_t n, ssize_t rc, int error)
{
	if (stingy->wrong != NULL)
		return stingy->wrong;
	if ((rc == 0 && l->single) || rc > (ssize_t) n)
		return "a count that cannot be";
	if (rc > 0 && error != UNTOUCHED)
		return "errno changed by a success";
	if (rc == (ssize_t) n && stingy->refused)
		return "all was sent, and the kernel had not taken all";
	if (rc == (ssize_t) n && stingy->more && (stingy->flags & MSG_MORE) == 0)
		return "the last bytes are held back";
	if (rc < (ssize_t) n && !stingy->refused && l->single)
		return "the kernel would have taken more"; /* and will not wake anybody */
	if (rc < 0 && error != (stingy->error != 0 ? stingy->error : EAGAIN))
		return "errno is not the kernel's";
	if (rc < 0 && error == EAGAIN && !stingy->refused)
		return "EAGAIN, but the kernel had not refused";
	if (l->single && stingy->zerocopies > (rc > 0 ? 1 : 0))
		return "more notices of zero-copy will come than the program awaits";
	if (l->single && rc > 0 && (stingy->flags & MSG_ZEROCOPY) != 0 && stingy->zerocopies == 0)
		return "a notice of zero-copy will not come";
	return NULL;
}

/* Hands @n bytes over, as a program does that wants them to go. */
static void send_all(struct link *l, size_t n)
{
	while (n > 0 && !l->over && l->wrong == NULL) {
		const ssize_t rc = call(l, l->s->bytes + l->sent, n);
		const int error = errno;
		const char *wrong = judged(l, n, rc, error);

		if (wrong != NULL)
			l->wrong = wrong;
		if (rc > 0) {
			l->sent += (size_t) rc;
			n -= (size_t) rc;
			/* Often the rest goes together with what comes next. */
			if (n > 0 && random_below(&l->random, 4) == 0)
				n = random_within(&l->random, n, l->s->len - l->sent);
		} else if (rc < 0 && error != EAGAIN && error != EINTR) {
			l->over = true;
		}
		if (l->sent - l->drained_at > DRAIN_AT || (stingy->error == EAGAIN && stingy->refused))
			drain(l);
	}
}

/* How many bytes the program has at hand for its next call. */
static size_t next_cut(struct link *l, unsigned manner)
{
	struct random *r = &l->random;
	const size_t left = l->s->len - l->sent;
	const struct head *h = &l->s->heads[random_below(r, l->s->n_heads > 0 ? l->s->n_heads : 1)];
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
	case 3: /* around a blank line, or the end of a head's message */
		n = (random_below(r, 2) == 0 ? h->blank : h->end) + random_below(r, 6) - 3;
		n = n > l->sent && n - l->sent <= left ? n - l->sent : random_within(r, 1, left);
		break;
	default:
		n = random_within(r, 1, 200);
		break;
	}
	return n < left ? n : left;
}

static int connected(int *ret_peer)
{
	const int fd = tcp_connected(&server);

	*ret_peer = peer_accept(&server);
	assert_true(*ret_peer >= 0);
	return fd;
}

static void temper(struct random *r, size_t len)
{
	static const struct {
		unsigned all, none, one;
	} tempers[] = {
		{ 100, 0, 0 },
		{ 60, 20, 20 },
		{ 20, 40, 30 },
		{ 5, 30, 90 },
	};
	const unsigned i = (unsigned) random_below(r, len < 3000 ? 4 : 3);

	stingy->random = random_next(r);
	stingy->all = tempers[i].all;
	stingy->none = tempers[i].none;
	stingy->one = tempers[i].one;
	stingy->fatal = random_below(r, 12) == 0 ? 20 : 0;
	stingy->broken = false;
	stingy->wrong = NULL;
	stingy->error = 0;
	stingy->taken = 0;
}

static const char *run_link(struct link *l, unsigned manner, bool maybe, char *span, size_t *ret_at)
{
	const char *wrong;

	while (l->sent < l->s->len && !l->over && l->wrong == NULL)
		send_all(l, next_cut(l, manner));
	l->taken += stingy->taken;
	drain_all(l);
	*ret_at = l->got;
	if (l->wrong != NULL)
		return l->wrong;
	wrong = stream_check(l->s, wire, l->got, !l->over, maybe, span, ret_at);
	return wrong;
}

static void tell(const struct link *l, long number, const char *wrong, size_t at)
{
	const size_t from = at > 60 ? at - 60 : 0;

	print_message("# seed %ju:%ld: %s (%s), byte %zu of the wire:\n",
		      (uintmax_t) cases.seed, number, wrong, l->what, at);
	printf("# …");
	for (size_t i = from; i < l->got && i < at + 60; i++) {
		if (i == at)
			printf(" >>> ");
		if (wire[i] < ' ' || wire[i] == 0x7f)
			printf("\\x%02x", (unsigned char) wire[i]);
		else
			putchar(wire[i]);
	}
	printf("\n");
}

static bool plain_case(long number)
{
	struct link l = { .random = cases_random(&cases, number), .s = &stream };
	unsigned manner = (unsigned) random_below(&l.random, 5);
	const char *wrong;
	size_t at;

	stream_make(&stream, &l.random, (unsigned) random_within(&l.random, 1, 6),
		    random_below(&l.random, 30) == 0 ? STREAM_BIG : 0);
	if (stream.len > 3000 && manner == 1)
		manner = 4;
	l.fd = connected(&l.peer);
	if (random_below(&l.random, 2) == 0)
		(void) fcntl(l.fd, F_SETFL, O_NONBLOCK);
	temper(&l.random, stream.len);
	stingy->strict = true;
	stingy->fd = l.fd;
	wrong = run_link(&l, manner, false, NULL, &at);
	stingy->fd = -1;
	(void) close(l.fd);
	(void) raw_close(l.peer);
	if (wrong != NULL)
		tell(&l, number, wrong, at);
	return wrong == NULL;
}

static void every_wire_has_the_programs_bytes(void **state)
{
	unsigned bad = 0;

	(void) state;
	for (long i = cases.first; i < cases.end && bad < 5; i++)
		bad += !plain_case(i);
	assert_int_equal(bad, 0);
}

/* ---- a proxy forwards the traceparent that it was asked with ---- */

#define CAME "aaaaaaaaaaaaaaaa"

static int asked(const struct stream *s, int *ret_client)
{
	char buf[4096];
	size_t got = 0;

	*ret_client = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	assert_int_equal(past_hooks(SYS_connect, *ret_client, (long) &front.addr, sizeof(front.addr),
				    0, 0, 0), 0);

	const int fd = accept(front.listener, NULL, NULL);

	assert_true(fd >= 0);
	assert_int_equal(past_hooks(SYS_write, *ret_client, (long) s->bytes, (long) s->len, 0, 0, 0),
			 (long) s->len);
	while (got < s->len) {
		const ssize_t n = read(fd, buf, sizeof(buf));

		assert_true(n > 0);
		got += (size_t) n;
	}
	return fd;
}

/* Returns where in the stream the digits are. */
static size_t make_forwarded(struct stream *s, struct random *r, size_t *ret_line)
{
	char value[64];
	size_t at;

	(void) snprintf(value, sizeof(value), "00-%016jx%016jx-" CAME "-01",
			(uintmax_t) random_next(r) | 1, (uintmax_t) random_next(r));
	stream_clear(s);
	s->heads[0] = (struct head) { .block = BLOCK_B3 };
	stream_add(s, "GET /f%s HTTP/1.1\r\n", random_below(r, 4) == 0 ? value : "");
	if (random_below(r, 2) == 0)
		stream_add(s, "X-Original-Traceparent: %s\r\n", value);
	if (random_below(r, 3) == 0)
		stream_add(s, "X-Parent: %s\r\n", value);
	if (random_below(r, 3) == 0)
		stream_add(s, "X-Said: traceparent: %s\r\n", value);
	*ret_line = s->len;
	stream_add(s, random_below(r, 2) == 0 ? "traceparent: " : "Traceparent:");
	at = s->len + 36;
	stream_add(s, "%s\r\n", value);
	if (random_below(r, 2) == 0)
		stream_add(s, "X-After: %s\r\n", value);
	s->heads[0].blank = s->len;
	stream_add(s, "\r\n");
	s->n_heads = 1;
	return at;
}

/* Our digits in the program's: returns what is wrong; then puts the program's back. */
static const char *check_digits(const struct link *l, size_t at, const char *span, bool must)
{
	const bool old = memcmp(wire + at, CAME, 16) == 0;

	if (l->got < at + 16)
		return NULL;
	if (l->over && l->got < l->s->len)
		return NULL;
	if (!old && memcmp(wire + at, span, 16) != 0)
		return "the digits are neither the program's nor ours";
	if (old && must)
		return "the digits are not replaced";
	memcpy(wire + at, CAME, 16);
	return NULL;
}

static bool forwarded_case(long number)
{
	struct link l = { .random = cases_random(&cases, number), .s = &stream };
	size_t line, digits = make_forwarded(&stream, &l.random, &line), at = 0;
	const unsigned manner = (unsigned) random_below(&l.random, 5);
	struct stream copy = stream;
	bool whole_value = false;
	const char *wrong = NULL;
	char span[17] = "";
	int client;
	const int in = asked(&stream, &client);

	/* The program's buffer is not written to: it would be the end of us. */
	const size_t size = 8192;
	char *kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(kept, stream.bytes, stream.len);
	(void) mprotect(kept, size, PROT_READ);
	copy.bytes = kept;
	l.s = &copy;
	l.fd = connected(&l.peer);
	temper(&l.random, stream.len);
	stingy->fd = l.fd;
	while (l.sent < copy.len && !l.over && l.wrong == NULL) {
		const size_t n = next_cut(&l, manner), before = l.sent;
		const ssize_t rc = call(&l, kept + l.sent, n);
		const int error = errno;

		l.wrong = judged(&l, n, rc, error);
		/* When its line first went, value and blank line were at hand. */
		if (rc > 0 && before < line && before + (size_t) rc > line)
			whole_value = l.single && l.call_to > copy.heads[0].blank;
		if (rc > 0)
			l.sent += (size_t) rc;
		else if (error != EAGAIN && error != EINTR)
			l.over = true;
	}
	stingy->fd = -1;
	l.taken += stingy->taken;
	drain_all(&l);
	wrong = l.wrong;
	if (wrong == NULL && !l.over) {
		/* The block tells our id. */
		(void) stream_check(&copy, wire, l.got, true, false, NULL, &at);
		const char *b3 = memmem(wire, l.got, "\r\nb3: ", 6);

		if (b3 != NULL)
			memcpy(span, b3 + 6 + 33, 16);
		wrong = check_digits(&l, digits, span, whole_value);
		at = digits;
		if (wrong == NULL)
			wrong = stream_check(&copy, wire, l.got, true, false, NULL, &at);
	}
	(void) close(l.fd);
	(void) raw_close(l.peer);
	(void) close(in);
	(void) raw_close(client);
	(void) munmap(kept, size);
	if (wrong != NULL)
		tell(&l, number, wrong, at);
	return wrong == NULL;
}

static void a_forwarded_parent_is_replaced_digit_by_digit(void **state)
{
	const long end = cases.first + (cases.end - cases.first + 1) / 2;
	unsigned bad = 0;

	(void) state;
	for (long i = cases.first; i < end && bad < 5; i++)
		bad += !forwarded_case(i);
	assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
	static const char *const settings[] = {
		"AGENTSHIM_MODE=observe",
		"OTEL_PROPAGATORS=tracecontext,baggage,b3",
		NULL,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_wire_has_the_programs_bytes),
		cmocka_unit_test(a_forwarded_parent_is_replaced_digit_by_digit),
	};

	stingy_below();
	old_send = (ssize_t(*)(int, const void *, size_t, int)) dlsym(RTLD_DEFAULT, "__send");
	host_start(argc, argv, settings);
	stingy = stingy_find();
	server = peer_listening();
	front = peer_listening();
	cases = cases_choose(CASES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
