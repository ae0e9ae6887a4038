/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program reads is the peer's, whatever it reads with, and the spans that come of it
 * are as many as there were requests: served, and asked; answered in all the ways there are,
 * early, late, never.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/preload/cases.h"
#include "tests/preload/host.h"
#include "tests/preload/streams.h"

#define CASES     2500
#define UNTOUCHED 77
#define ANSWERS   STREAMS_HEADS

ssize_t __read(int fd, void *buf, size_t len);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
		       struct sockaddr *addr, socklen_t *addr_len);

static struct cases cases;
static struct peer server, front;
static int log_fd;

/* ---- spans ---- */

struct span {
	bool server;
	int status;      /* 0: none */
	char error[32];  /* "" for none */
};

static struct span spans[512];
static unsigned n_spans;

static void value_of(const char *line, const char *key, char *ret, size_t size)
{
	const char *at = strstr(line, key);

	ret[0] = '\0';
	if (at == NULL)
		return;
	at += strlen(key);
	(void) snprintf(ret, size, "%.*s", (int) strcspn(at, "\",}"), at);
}

/* The spans since the last look, in the order in which they ended. */
static void read_spans(void)
{
	static char text[1 << 20];
	char word[32];
	const long n = past_hooks(SYS_read, log_fd, (long) text, sizeof(text) - 1, 0, 0, 0);

	n_spans = 0;
	text[n > 0 ? n : 0] = '\0';
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		struct span *s = &spans[n_spans];

		if (strstr(line, "span completed") == NULL)
			continue;
		s->server = strstr(line, "\"kind\":\"server\"") != NULL;
		value_of(line, "status_code\":", word, sizeof(word));
		s->status = atoi(word);
		value_of(line, "\"error.type\":\"", s->error, sizeof(s->error));
		n_spans++;
	}
}

/* ---- reading ---- */

struct link {
	struct random random;
	int fd, peer;
	const char *bytes;   /* that the peer sent */
	size_t there, seen;  /* sent by it, read by us */
	bool blind;          /* bytes were thrown away unseen */
	const char *wrong;
	unsigned which;
};

static char buffer[1 << 17];

static ssize_t by_recvmmsg(struct link *l, size_t n)
{
	struct iovec v[3];
	struct mmsghdr msgs[3] = { 0 };
	ssize_t total = 0;

	for (int i = 0; i < 3; i++) {
		v[i] = (struct iovec) { buffer + total, n / 3 + 1 };
		total += (ssize_t) v[i].iov_len;
		msgs[i].msg_hdr = (struct msghdr) { .msg_iov = &v[i], .msg_iovlen = 1 };
	}

	const int rc = recvmmsg(l->fd, msgs, 3, MSG_WAITFORONE, NULL);

	total = 0;
	for (int i = 0; i < rc; i++) {
		(void) memmove(buffer + total, v[i].iov_base, msgs[i].msg_len);
		total += msgs[i].msg_len;
	}
	return rc < 0 ? -1 : total;
}

static ssize_t by_vector(struct link *l, size_t n, bool message)
{
	struct iovec v[6];
	char control[64];
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = 6, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	size_t at = 0;
	ssize_t rc;

	for (int i = 0; i < 6; i++) {
		const size_t len = i == 5 ? n - at : random_below(&l->random, n - at + 1);

		v[i] = (struct iovec) { buffer + at, len };
		at += len;
	}
	if (!message)
		return readv(l->fd, v, 6);
	rc = recvmsg(l->fd, &msg, 0);
	if (rc >= 0 && (msg.msg_controllen != 0 || msg.msg_flags != 0))
		l->wrong = "a message has what was not sent";
	return rc;
}

static ssize_t read_by(struct link *l, size_t n)
{
	const size_t at_hand = l->there - l->seen;

	switch (l->which) {
	case 0:
		return read(l->fd, buffer, n);
	case 1:
		return by_vector(l, n, false);
	case 2:
		return recv(l->fd, buffer, n, 0);
	case 3:
		return recvfrom(l->fd, buffer, n, 0, NULL, NULL);
	case 4:
		return by_vector(l, n, true);
	case 5:
		return by_recvmmsg(l, n);
	case 6:
		return __read(l->fd, buffer, n);
	case 7:
		return __read_chk(l->fd, buffer, n, sizeof(buffer));
	case 8:
		return __recv_chk(l->fd, buffer, n, sizeof(buffer), 0);
	case 9:
		return __recvfrom_chk(l->fd, buffer, n, sizeof(buffer), 0, NULL, NULL);
	case 10:
		return recv(l->fd, buffer, n < at_hand ? n : at_hand, MSG_WAITALL);
	case 11:
		return syscall(SYS_read, l->fd, buffer, n);
	case 12:
		return syscall(SYS_recvfrom, l->fd, buffer, n, 0, NULL, NULL);
	default:
		return recv(l->fd, buffer, n, MSG_PEEK);
	}
}

/* Reads once; there is something. */
static void read_some(struct link *l)
{
	const size_t at_hand = l->there - l->seen;
	size_t n = random_below(&l->random, 3) == 0 ? sizeof(buffer) / 2
						    : random_within(&l->random, 1, 200);
	ssize_t rc;

	l->which = (unsigned) random_below(&l->random, 15);
	errno = UNTOUCHED;
	if (random_below(&l->random, 4000) == 0) {
		n = n < at_hand ? n : at_hand;
		rc = recv(l->fd, NULL, n, MSG_TRUNC);
		l->blind = true;
		l->seen += rc > 0 ? (size_t) rc : 0;
		return;
	}
	rc = read_by(l, n);
	if (rc <= 0 || (size_t) rc > at_hand)
		l->wrong = "a count that cannot be";
	else if (errno != UNTOUCHED)
		l->wrong = "errno changed by a success";
	else if (memcmp(buffer, l->bytes + l->seen, (size_t) rc) != 0)
		l->wrong = "bytes are not the peer's";
	else if (l->which < 13)
		l->seen += (size_t) rc;
}

/* The peer sends up to byte @to, and the program reads, now and then between. */
static void peer_sends(struct link *l, size_t to)
{
	while (l->there < to && l->wrong == NULL) {
		const size_t most = to - l->there;
		const size_t n = random_below(&l->random, 3) == 0 ? most
								  : random_within(&l->random, 1, most);

		assert_int_equal(past_hooks(SYS_sendto, l->peer, (long) (l->bytes + l->there), (long) n,
					    MSG_NOSIGNAL, 0, 0), (long) n);
		l->there += n;
		while (l->there > l->seen && l->wrong == NULL && random_below(&l->random, 8) != 0)
			read_some(l);
	}
	while (l->there > l->seen && l->wrong == NULL)
		read_some(l);
}

/* ---- answers ---- */

struct answers {
	struct stream text;
	size_t ends[ANSWERS];
	int status[ANSWERS];
	bool until_close;
};

static void answer(struct answers *a, struct random *r, unsigned i, bool to_head, bool last)
{
	static const char *const interim[] = { "HTTP/1.1 100 Continue\r\n\r\n",
					       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" };
	struct stream *s = &a->text;
	size_t n;

	for (n = random_below(r, 6) == 0 ? random_within(r, 1, 2) : 0; n > 0; n--)
		stream_add(s, "%s", interim[random_below(r, 2)]);
	n = random_below(r, 300);
	a->status[i] = 200;
	switch (random_below(r, last ? 7 : 6)) {
	case 0:
		a->status[i] = 204;
		stream_add(s, "HTTP/1.1 204 No Content\r\n\r\n");
		break;
	case 1:
		a->status[i] = 304;
		stream_add(s, "HTTP/1.1 304\r\nContent-Length: 900\r\n\r\n");
		break;
	case 2:
		a->status[i] = 404;
		stream_add(s, "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n");
		break;
	case 3:
	case 4:
		stream_add(s, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
		if (!to_head)
			stream_add(s, "%*s", (int) n, "");
		break;
	case 5:
		stream_add(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		if (!to_head)
			stream_add(s, "5;x\r\nHTTP/\r\n0\r\nT: x\r\n\r\n");
		break;
	case 6:
		stream_add(s, "HTTP/1.0 200 OK\r\n\r\n");
		if (!to_head)
			stream_add(s, "until the end HTTP/1.1 500 No\r\n\r\n");
		a->until_close = !to_head;
		break;
	}
	a->ends[i] = s->len;
}

static void make_answers(struct answers *a, struct random *r, const struct stream *s)
{
	stream_clear(&a->text);
	a->until_close = false;
	for (unsigned i = 0; i < s->n_heads; i++)
		answer(a, r, i, s->heads[i].to_head, i + 1 == s->n_heads);
}

static void send_cut(struct link *l, const char *bytes, size_t n)
{
	while (n > 0) {
		const size_t len = random_below(&l->random, 2) == 0 ? n : random_within(&l->random, 1, n);
		struct iovec v[2] = { { (void *) bytes, len / 2 }, { (void *) (bytes + len / 2), len - len / 2 } };
		struct msghdr msg = { .msg_iov = v, .msg_iovlen = 2 };
		struct mmsghdr one = { .msg_hdr = msg };
		ssize_t rc;

		switch (random_below(&l->random, 6)) {
		case 0:
			rc = write(l->fd, bytes, len);
			break;
		case 1:
			rc = writev(l->fd, v, 2);
			break;
		case 2:
			rc = send(l->fd, bytes, len, 0);
			break;
		case 3:
			rc = sendto(l->fd, bytes, len, MSG_NOSIGNAL, NULL, 0);
			break;
		case 4:
			rc = sendmsg(l->fd, &msg, 0);
			break;
		default:
			rc = sendmmsg(l->fd, &one, 1, 0) == 1 ? (ssize_t) one.msg_len : -1;
			break;
		}
		if (rc != (ssize_t) len)
			l->wrong = "a blocking call did not send all";
		bytes += len;
		n -= len;
	}
}

/* What has come to the peer. */
static char wire[1 << 21];
static size_t got;

static void peer_reads(int fd)
{
	long n;

	while ((n = past_hooks(SYS_recvfrom, fd, (long) (wire + got), (long) (sizeof(wire) - got),
			       MSG_DONTWAIT, 0, 0)) > 0)
		got += (size_t) n;
}

/* Of what we sent as a client: on a kept connection, too, one block a head. */
static void check_wire(struct link *l, const struct stream *s, bool whole)
{
	struct pollfd ready = { .fd = l->peer, .events = POLLIN };
	size_t at;

	if (l->wrong != NULL)
		return;
	do { /* the end of it may be under way */
		peer_reads(l->peer);
		l->wrong = stream_check(s, wire, got, whole, l->blind, NULL, &at);
	} while (l->wrong != NULL && poll(&ready, 1, 200) == 1);
}

/* ---- what became of it ---- */

static const char *judged(const struct link *l, const struct answers *a, bool is_server, unsigned n,
			  unsigned answered, const char *other_error)
{
	if (l->wrong != NULL)
		return l->wrong;
	read_spans();
	if (l->blind)
		return NULL;
	if (n_spans != n)
		return "the spans are not as many as the requests";
	for (unsigned i = 0; i < n; i++) {
		if (spans[i].server != is_server)
			return "a span of the wrong kind";
		if (i < answered ? spans[i].status != a->status[i]
				 : strcmp(spans[i].error, other_error) != 0)
			return "a span has the wrong end";
		if (i < answered && is_server && spans[i].error[0] != '\0')
			return "a span has an error, the request has not";
	}
	return NULL;
}

static bool told(const struct link *l, const char *what, long number, const char *wrong)
{
	if (wrong == NULL)
		return true;
	print_message("# seed %ju:%ld, %s: %s (call %u at %zu); %u spans\n",
		      (uintmax_t) cases.seed, number, what, wrong, l->which, l->seen, n_spans);
	for (unsigned i = 0; i < n_spans && i < 12; i++)
		print_message("#   %s %d %s\n", spans[i].server ? "server" : "client", spans[i].status,
			      spans[i].error);
	return false;
}

static unsigned requests_for(struct random *r)
{
	return random_below(r, 40) == 0 ? 100 : (unsigned) random_within(r, 1, 6);
}

/* Else small pieces wait for acknowledgements, and those for 40 ms. */
static void at_once(const struct link *l)
{
	const int on = 1;

	(void) setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void) setsockopt(l->peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void accepted(struct link *l)
{
	l->peer = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	assert_int_equal(past_hooks(SYS_connect, l->peer, (long) &front.addr, sizeof(front.addr), 0, 0,
				    0), 0);
	l->fd = accept(front.listener, NULL, NULL);
	assert_true(l->fd >= 0);
	at_once(l);
}

static bool served(long number, struct stream *s, struct answers *a)
{
	struct link l = { .random = cases_random(&cases, number) };
	const unsigned n = requests_for(&l.random);
	const bool together = n > 10 || random_below(&l.random, 2) == 0;
	const bool early = !together && random_below(&l.random, 3) == 0;
	const unsigned goes = random_below(&l.random, 6) == 0 ? (unsigned) random_below(&l.random, n) : n;
	size_t from = 0;

	got = 0;
	stream_make(s, &l.random, n, STREAM_SOUND | (n > 10 ? STREAM_SHORT : 0));
	make_answers(a, &l.random, s);
	l.bytes = s->bytes;
	accepted(&l);
	if (together)
		peer_sends(&l, s->len);
	for (unsigned i = 0; i < goes && l.wrong == NULL; i++) {
		const struct head *h = &s->heads[i];
		/* The answer may go before the body has come. */
		const size_t enough = early ? h->blank + (s->bytes[h->blank] == '\r' ? 2 : 1) : h->end;

		if (!together)
			peer_sends(&l, enough);
		send_cut(&l, a->text.bytes + from, a->ends[i] - from);
		from = a->ends[i];
		if (!together)
			peer_sends(&l, h->end);
		peer_reads(l.peer);
	}
	if (goes < n && !together)
		peer_sends(&l, s->heads[goes].end);

	const unsigned begun = goes < n ? (together ? n : goes + 1) : n;

	/* Gone in the middle: abandoned. */
	(void) raw_close(l.peer);
	(void) close(l.fd);
	return told(&l, "served", number, judged(&l, a, true, begun, goes, "abandoned"));
}

static bool asked(long number, struct stream *s, struct answers *a)
{
	struct link l = { .random = cases_random(&cases, number) };
	const unsigned n = requests_for(&l.random);
	const bool together = n > 10 || random_below(&l.random, 2) == 0;
	const bool early = !together && random_below(&l.random, 3) == 0;
	const unsigned goes = random_below(&l.random, 6) == 0 ? (unsigned) random_below(&l.random, n) : n;
	size_t from = 0;
	unsigned begun = 0;
	char byte;

	got = 0;

	stream_make(s, &l.random, n, STREAM_SOUND | (n > 10 ? STREAM_SHORT : 0));
	make_answers(a, &l.random, s);
	l.bytes = a->text.bytes;
	l.fd = tcp_connected(&server);
	l.peer = peer_accept(&server);
	at_once(&l);
	if (together) {
		send_cut(&l, s->bytes, s->len);
		begun = n;
	}
	for (unsigned i = 0; i < goes && l.wrong == NULL; i++) {
		const struct head *h = &s->heads[i];
		const size_t head = h->blank + (s->bytes[h->blank] == '\r' ? 2 : 1);

		if (!together) {
			send_cut(&l, s->bytes + from, (early ? head : h->end) - from);
			from = early ? head : h->end;
			begun = i + 1;
		}
		peer_reads(l.peer);
		peer_sends(&l, a->ends[i]);
		if (!together) {
			send_cut(&l, s->bytes + from, h->end - from);
			from = h->end;
		}
	}
	if (goes < n && !together) {
		send_cut(&l, s->bytes + from, s->heads[goes].end - from);
		begun = goes + 1;
	}
	/* Gone in the middle: the connection ended early. */
	check_wire(&l, s, begun == n);
	(void) raw_close(l.peer);
	if (recv(l.fd, &byte, 1, 0) != 0)
		l.wrong = "no end of file";
	(void) close(l.fd);
	return told(&l, "asked", number, judged(&l, a, false, begun, goes, "connection_closed"));
}

static void run_cases(bool (*one)(long number, struct stream *s, struct answers *a))
{
	struct stream s = { 0 };
	struct answers a = { 0 };
	unsigned bad = 0;

	read_spans();
	for (long i = cases.first; i < cases.end && bad < 5; i++)
		bad += !one(i, &s, &a);
	stream_free(&s);
	stream_free(&a.text);
	assert_int_equal(bad, 0);
}

static void requests_that_are_served(void **state)
{
	(void) state;
	run_cases(served);
}

static void requests_that_are_asked(void **state)
{
	(void) state;
	run_cases(asked);
}

static int before;

static void descriptors_stay(void **state)
{
	(void) state;
	assert_int_equal(count_descriptors(), before);
}

int main(int argc, char **argv)
{
	static const char *const settings[] = {
		"AGENTSHIM_MODE=observe",
		"AGENTSHIM_LOG_LEVEL=info",
		"OTEL_PROPAGATORS=tracecontext,baggage,b3",
		NULL,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_are_served),
		cmocka_unit_test(requests_that_are_asked),
		cmocka_unit_test(descriptors_stay),
	};
	char log[] = "/tmp/agentshim-reads-XXXXXX";

	if (getenv("AGENTSHIM_DIR") == NULL) {
		(void) close(mkstemp(log));
		(void) setenv("AGENTSHIM_LOG", log, 1);
	}
	host_start(argc, argv, settings);
	log_fd = open(getenv("AGENTSHIM_LOG"), O_RDONLY | O_CLOEXEC);
	assert_true(log_fd >= 0);
	server = peer_listening();
	front = peer_listening();
	(void) fcntl(front.listener, F_SETFL, 0);
	before = count_descriptors();
	cases = cases_choose(CASES);

	const int failed = cmocka_run_group_tests(tests, NULL, NULL);

	(void) unlink(getenv("AGENTSHIM_LOG"));
	return failed;
}
