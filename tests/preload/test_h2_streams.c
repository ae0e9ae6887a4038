/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of the streams of an HTTP/2 connection: each is a call that the breaker judges,
 * by gRPC's status, by HTTP's, or by how it broke off; an open breaker refuses the connection
 * to whoever asks on it. And the served side: what the thread works on while it answers.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/http2.h"
#include "core/metrics.h"
#include "tests/preload/traced.h"

enum { DATA, HEADERS, RST = 3, SETTINGS, PING = 6, GOAWAY };
enum { END_STREAM = 1, END_HEADERS = 4 };

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* ---- frames ---- */

struct bytes {
	size_t n;
	char at[32768];
};

static void add(struct bytes *b, const void *bytes, size_t n)
{
	assert_true(n <= sizeof(b->at) - b->n);
	memcpy(b->at + b->n, bytes, n);
	b->n += n;
}

static void add_frame(struct bytes *b, uint8_t type, uint8_t flags, uint32_t stream,
		      const void *payload, size_t n)
{
	char head[HTTP2_FRAME_HEAD];

	http2_frame_head(head, (uint32_t) n, type, flags, stream);
	add(b, head, sizeof(head));
	add(b, payload, n);
}

static void add_field(struct bytes *b, const char *name, const char *value)
{
	const char lengths[2] = { (char) strlen(name), (char) strlen(value) };

	add(b, "\0", 1);
	add(b, lengths, 1);
	add(b, name, strlen(name));
	add(b, lengths + 1, 1);
	add(b, value, strlen(value));
}

/* ---- a connection of the program's, and its peer ---- */

struct conn {
	struct peer p;
	int c, s;
	uint32_t asked; /* streams */
};

static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
static const char greeting[] = "\0\0\0\4\0\0\0\0\0";

static void says(struct conn *k, const void *bytes, size_t n)
{
	assert_int_equal(past_hooks(SYS_sendto, k->s, (long) bytes, (long) n, MSG_NOSIGNAL, 0, 0), n);
}

/* All that has come to the program. */
static ssize_t hears(struct conn *k)
{
	char got[4096];

	wait_for(k->c, POLLIN);
	return recv(k->c, got, sizeof(got), 0);
}

/* Everything that came to the peer. Returns how often our field was in it. */
static unsigned came(struct conn *k, size_t *ret_n)
{
	static char got[1 << 20];
	unsigned times = 0;
	long n;

	*ret_n = 0;
	while ((n = past_hooks(SYS_recvfrom, k->s, (long) (got + *ret_n), (long) (sizeof(got) - *ret_n),
			       MSG_DONTWAIT, 0, 0)) > 0)
		*ret_n += (size_t) n;
	for (const char *at = got; (at = memmem(at, (size_t) (got + *ret_n - at), "traceparent", 11));
	     at++)
		times++;
	return times;
}

static void open_conn(struct conn *k)
{
	const int one = 1;
	size_t n;

	k->c = tcp_connected(&k->p);
	assert_int_equal(setsockopt(k->c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	k->s = peer_accept(&k->p);
	assert_true(k->s >= 0);
	k->asked = 0;
	assert_int_equal(write(k->c, hello, sizeof(hello) - 1), sizeof(hello) - 1);
	(void) came(k, &n);
	says(k, greeting, sizeof(greeting) - 1);
	assert_int_equal(hears(k), sizeof(greeting) - 1);
}

static void close_conn(struct conn *k)
{
	(void) close(k->c);
	(void) raw_close(k->s);
}

/* The bytes of a request; "" for no deadline, NULL for no gRPC. */
static void request(struct bytes *b, uint32_t stream, const char *timeout)
{
	struct bytes block = { 0 };

	add(&block, "\x83\x86", 2);
	add_field(&block, ":path", timeout != NULL ? "/pkg.Service/Method" : "/plain");
	add_field(&block, ":authority", "them");
	if (timeout != NULL)
		add_field(&block, "content-type", "application/grpc");
	if (timeout != NULL && *timeout != '\0')
		add_field(&block, "grpc-timeout", timeout);
	b->n = 0;
	add_frame(b, HEADERS, END_HEADERS | END_STREAM, stream, block.at, block.n);
}

/* Returns write's answer; the stream is the next. */
static ssize_t asks(struct conn *k, const char *timeout)
{
	struct bytes b;

	request(&b, 2 * k->asked++ + 1, timeout);
	return write(k->c, b.at, b.n);
}

static uint32_t newest(const struct conn *k)
{
	return 2 * k->asked - 1;
}

static void goes_well(struct conn *k, const char *timeout)
{
	assert_true(asks(k, timeout) > 0);
}

/* The peer's answer to a stream: HTTP's status, and gRPC's where it is not NULL. */
static void answers(struct conn *k, uint32_t stream, const char *status, const char *rpc, bool alone)
{
	struct bytes block = { 0 }, b = { 0 };

	add_field(&block, ":status", status);
	if (rpc != NULL && alone)
		add_field(&block, "grpc-status", rpc);
	add_frame(&b, HEADERS, END_HEADERS | (rpc == NULL || alone ? END_STREAM : 0), stream,
		  block.at, block.n);
	if (rpc != NULL && !alone) {
		add_frame(&b, DATA, 0, stream, "\0\0\0\0\0", 5);
		block.n = 0;
		add_field(&block, "grpc-status", rpc);
		add_frame(&b, HEADERS, END_HEADERS | END_STREAM, stream, block.at, block.n);
	}
	says(k, b.at, b.n);
	assert_int_equal(hears(k), b.n);
}

static void resets(struct conn *k, bool program, uint32_t stream, uint8_t code)
{
	const char payload[4] = { 0, 0, 0, (char) code };
	struct bytes b = { 0 };

	add_frame(&b, RST, 0, stream, payload, 4);
	if (program) {
		assert_int_equal(write(k->c, b.at, b.n), b.n);
	} else {
		says(k, b.at, b.n);
		assert_int_equal(hears(k), b.n);
	}
}

/* ---- outcomes ---- */

enum how { ANSWERED, ALONE, PEER_RESETS, WE_RESET, GOES_AWAY, ENDS, BREAKS, WE_CLOSE };

static const struct outcome {
	const char *name;
	const char *timeout; /* NULL: no gRPC */
	enum how how;
	const char *status, *rpc;
	uint8_t code;
	bool impatient;
	char comes_to; /* 'S'uccess, 'F'ailure, 'E'xcluded */
} outcomes[] = {
	{ "200", NULL, ANSWERED, "200", NULL, 0, false, 'S' },
	{ "404", NULL, ANSWERED, "404", NULL, 0, false, 'S' },
	{ "503", NULL, ANSWERED, "503", NULL, 0, false, 'F' },
	{ "OK", "", ANSWERED, "200", "0", 0, false, 'S' },
	{ "NOT_FOUND", "", ANSWERED, "200", "5", 0, false, 'S' },
	{ "UNAVAILABLE", "", ANSWERED, "200", "14", 0, false, 'F' },
	{ "CANCELLED", "", ANSWERED, "200", "1", 0, false, 'E' },
	{ "ABORTED, which is the user's failure", "", ANSWERED, "200", "10", 0, false, 'F' },
	{ "INTERNAL, which is none of the user's", "", ANSWERED, "200", "13", 0, false, 'S' },
	{ "Trailers-Only, OK", "", ALONE, "200", "0", 0, false, 'S' },
	{ "Trailers-Only, UNAVAILABLE", "", ALONE, "200", "14", 0, false, 'F' },
	{ "no status with 200: UNKNOWN", "", ALONE, "200", NULL, 0, false, 'F' },
	{ "no status with 404: UNIMPLEMENTED", "", ALONE, "404", NULL, 0, false, 'S' },
	{ "no status with 502: UNAVAILABLE", "", ALONE, "502", NULL, 0, false, 'F' },
	{ "a status that is none", "", ALONE, "200", "soon", 0, false, 'F' },
	{ "REFUSED_STREAM", NULL, PEER_RESETS, NULL, NULL, 7, false, 'F' },
	{ "CANCEL by the peer", NULL, PEER_RESETS, NULL, NULL, 8, false, 'E' },
	{ "REFUSED_STREAM of gRPC", "", PEER_RESETS, NULL, NULL, 7, false, 'F' },
	{ "CANCEL of gRPC by the peer", "", PEER_RESETS, NULL, NULL, 8, false, 'E' },
	{ "ENHANCE_YOUR_CALM of gRPC", "", PEER_RESETS, NULL, NULL, 11, false, 'F' },
	{ "INADEQUATE_SECURITY of gRPC", "", PEER_RESETS, NULL, NULL, 12, false, 'S' },
	{ "let go of at once", NULL, WE_RESET, NULL, NULL, 8, false, 'E' },
	{ "let go of after a while", NULL, WE_RESET, NULL, NULL, 8, true, 'F' },
	{ "the deadline is over", "1m", WE_RESET, NULL, NULL, 8, false, 'F' },
	{ "the deadline is far", "9H", WE_RESET, NULL, NULL, 8, false, 'E' },
	{ "not looked at", NULL, GOES_AWAY, NULL, NULL, 0, false, 'E' },
	{ "the end in the middle", NULL, ENDS, NULL, NULL, 0, false, 'F' },
	{ "the end in the middle, of gRPC", "", ENDS, NULL, NULL, 0, false, 'F' },
	{ "broken in the middle", NULL, BREAKS, NULL, NULL, 0, false, 'F' },
	{ "closed at once", NULL, WE_CLOSE, NULL, NULL, 0, false, 'E' },
	{ "closed after a while", NULL, WE_CLOSE, NULL, NULL, 0, true, 'F' },
};

static void comes_about(struct conn *k, const struct outcome *o)
{
	static const char nothing_seen[] = "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0";
	struct bytes last = { 0 };
	char byte;

	switch (o->how) {
	case ANSWERED:
	case ALONE:
		answers(k, newest(k), o->status, o->rpc, o->how == ALONE);
		break;
	case PEER_RESETS:
	case WE_RESET:
		patience_passes(); /* a deadline of a millisecond is over by now, too */
		resets(k, o->how == WE_RESET, newest(k), o->code);
		break;
	case GOES_AWAY:
		add(&last, nothing_seen, sizeof(nothing_seen) - 1);
		last.at[12] = (char) (newest(k) - 1);
		says(k, last.at, last.n);
		assert_int_equal(hears(k), last.n);
		break;
	case ENDS:
		(void) raw_close(k->s);
		assert_int_equal(hears(k), 0);
		break;
	case BREAKS:
		peer_reset(k->s);
		wait_for(k->c, POLLIN);
		assert_int_equal(recv(k->c, &byte, 1, 0), -1);
		break;
	case WE_CLOSE:
		patience_passes();
		break;
	}
}

/* As the first stream, which has the ticket of the connect, and as a further one. */
static void each_stream_comes_to_its_outcome(void **state)
{
	(void) state;
	for (unsigned i = 0; i < 2 * N_ELEMENTS(outcomes); i++) {
		const struct outcome *o = &outcomes[i / 2];
		const uint64_t further = i % 2, spans = host_counted(METRICS_SPANS_CLIENT);
		struct conn k = { .p = o->impatient ? peer_silent() : peer_listening() };
		size_t n;

		print_message("# %s%s\n", o->name, further ? ", further on" : "");
		open_conn(&k);
		if (further) {
			goes_well(&k, NULL);
			answers(&k, newest(&k), "200", NULL, false);
			patience_passes(); /* a success of before is no sibling's */
		}
		goes_well(&k, o->timeout);
		assert_int_equal(came(&k, &n), 1 + further);
		comes_about(&k, o);
		(void) close(k.c);
		if (o->how != ENDS && o->how != BREAKS)
			(void) raw_close(k.s);
		assert_totals(k.p.key, further + (o->comes_to == 'S'), o->comes_to == 'F',
			      o->comes_to == 'E');
		assert_int_equal(host_counted(METRICS_SPANS_CLIENT) - spans, 1 + further);
		peer_drop(&k.p);
	}
}

static void an_idle_connection_may_be_closed(void **state)
{
	(void) state;
	for (unsigned i = 0; i < 3; i++) {
		struct conn k = { .p = peer_silent() };
		size_t n;

		open_conn(&k);
		if (i < 2) {
			goes_well(&k, "");
			answers(&k, 1, "200", "0", false);
		}
		(void) came(&k, &n);
		patience_passes();
		if (i == 0) {
			(void) raw_close(k.s);
			assert_int_equal(hears(&k), 0);
		}
		(void) close(k.c);
		if (i > 0)
			(void) raw_close(k.s);
		assert_int_equal(totals_of(k.p.key).failures, 0);
		peer_drop(&k.p);
	}
}

static void more_streams_than_are_followed(void **state)
{
	const uint64_t spans = host_counted(METRICS_SPANS_CLIENT);
	const uint64_t unfollowed = host_counted(METRICS_STREAMS_UNFOLLOWED);
	struct conn k = { .p = peer_listening() };
	size_t n;

	(void) state;
	open_conn(&k);
	for (unsigned i = 0; i < 200; i++)
		goes_well(&k, NULL);
	assert_int_equal(came(&k, &n), HTTP2_STREAMS);
	assert_int_equal(host_counted(METRICS_STREAMS_UNFOLLOWED) - unfollowed, 200 - HTTP2_STREAMS);
	for (unsigned i = 0; i < 200; i++)
		answers(&k, 2 * i + 1, "200", NULL, false);
	/* Their places are free again. */
	goes_well(&k, NULL);
	assert_int_equal(came(&k, &n), 1);
	answers(&k, newest(&k), "200", NULL, false);
	close_conn(&k);
	assert_totals(k.p.key, HTTP2_STREAMS + 1, 0, 0);
	assert_int_equal(host_counted(METRICS_SPANS_CLIENT) - spans, HTTP2_STREAMS + 1);
}

/* ---- refused ---- */

static volatile sig_atomic_t pipes;

static void on_pipe(int signal)
{
	(void) signal;
	pipes++;
}

static void two_failures(struct conn *k)
{
	for (int i = 0; i < TRIP_AT; i++) {
		goes_well(k, NULL);
		answers(k, newest(k), "503", NULL, false);
	}
	assert_int_equal(state_of(k->p.key), BREAKER_OPEN);
}

static void an_open_breaker_ends_the_connection(void **state)
{
	static const char ping[] = "\0\0\x8\6\0\0\0\0\0ABCDEFGH";
	struct conn k = { .p = peer_listening() };
	char byte;
	size_t n;

	(void) state;
	pipes = 0;
	(void) signal(SIGPIPE, on_pipe);
	open_conn(&k);
	goes_well(&k, NULL);
	answers(&k, 1, "200", NULL, false);
	goes_well(&k, NULL); /* in flight */
	goes_well(&k, "");
	two_failures(&k);
	(void) came(&k, &n);
	assert_int_equal(asks(&k, NULL), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(came(&k, &n), 0);
	assert_int_equal(n, 0); /* nothing of it */
	/* Its reader hears that it is over; whatever else is written is refused as well. */
	assert_int_equal(recv(k.c, &byte, 1, 0), 0);
	assert_int_equal(write(k.c, ping, 17), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(came(&k, &n), 0);
	assert_int_equal(n, 0);
	close_conn(&k);
	/* Those in flight are of a generation that is over, the refused one is nothing at all. */
	assert_totals(k.p.key, 1, 2, 0);
	assert_int_equal(pipes, 0);
	(void) signal(SIGPIPE, SIG_IGN);
}

static void frames_before_a_refused_one_go(void **state)
{
	static const char ping[] = "\0\0\x8\6\0\0\0\0\0ABCDEFGH";
	struct conn k = { .p = peer_listening() };
	struct bytes b;
	char both[512];
	size_t n;

	(void) state;
	open_conn(&k);
	two_failures(&k);
	(void) came(&k, &n);
	request(&b, 2 * k.asked + 1, NULL);
	memcpy(both, ping, 17);
	memcpy(both + 17, b.at, b.n);
	assert_int_equal(write(k.c, both, 17 + b.n), 17);
	assert_int_equal(write(k.c, both + 17, b.n), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(came(&k, &n), 0);
	assert_int_equal(n, 17);
	close_conn(&k);
}

static void a_probe_lets_its_connections_streams_pass(void **state)
{
	struct conn kept = { .p = peer_listening() }, k = { 0 };

	(void) state;
	open_conn(&kept);
	goes_well(&kept, NULL);
	answers(&kept, 1, "200", NULL, false);
	k.p = kept.p;
	open_conn(&k);
	two_failures(&k);
	close_conn(&k);
	peer_rest(k.p.key);
	open_conn(&k); /* the connect takes the only probe */
	assert_int_equal(state_of(k.p.key), BREAKER_HALF_OPEN);
	assert_int_equal(requests_of(k.p.key), 1);
	for (unsigned i = 0; i < 4; i++)
		goes_well(&k, NULL);
	assert_int_equal(requests_of(k.p.key), 1); /* uncounted */
	/* Another one has no probe. */
	assert_int_equal(asks(&kept, NULL), -1);
	assert_int_equal(errno, ECONNREFUSED);
	/* What passed says nothing; the probe closes it. */
	answers(&k, 5, "503", NULL, false);
	assert_int_equal(state_of(k.p.key), BREAKER_HALF_OPEN);
	answers(&k, 1, "200", NULL, false);
	assert_int_equal(state_of(k.p.key), BREAKER_CLOSED);
	goes_well(&k, NULL);
	answers(&k, newest(&k), "200", NULL, false);
	close_conn(&k);
	close_conn(&kept);
}

static void a_kept_connections_stream_may_be_the_probe(void **state)
{
	struct conn kept = { .p = peer_listening() }, k = { 0 };

	(void) state;
	open_conn(&kept);
	goes_well(&kept, NULL);
	answers(&kept, 1, "200", NULL, false);
	k.p = kept.p;
	open_conn(&k);
	two_failures(&k);
	close_conn(&k);
	peer_rest(k.p.key);
	goes_well(&kept, ""); /* takes it */
	assert_int_equal(state_of(k.p.key), BREAKER_HALF_OPEN);
	goes_well(&kept, ""); /* passes */
	assert_int_equal(requests_of(k.p.key), 1);
	answers(&kept, 3, "200", "14", true);
	assert_int_equal(state_of(k.p.key), BREAKER_OPEN);
	/* And the connection that carried it is refused now. */
	assert_int_equal(asks(&kept, NULL), -1);
	close_conn(&kept);
}

/* ---- served ---- */

static void a_served_stream_is_the_parent_of_calls(void **state)
{
	static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	struct peer p = peer_listening();
	struct bytes block = { 0 }, b = { 0 };
	char head[CARRIED_SIZE], field[256], trace[33], got[512];
	int client = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	const uint64_t spans = host_counted(METRICS_SPANS_SERVER);
	struct event span;
	int fd;

	(void) state;
	assert_int_equal(past_hooks(SYS_connect, client, (long) &p.addr, sizeof(p.addr), 0, 0, 0), 0);
	fd = accept(p.listener, NULL, NULL);
	add(&block, "\x82\x86\x84", 3);
	add_field(&block, "traceparent", parent);
	add(&b, hello, sizeof(hello) - 1);
	add_frame(&b, HEADERS, END_HEADERS | END_STREAM, 1, block.at, block.n);
	assert_int_equal(past_hooks(SYS_write, client, (long) b.at, (long) b.n, 0, 0, 0), b.n);
	assert_int_equal(read(fd, got, sizeof(got)), b.n);
	carried_by_call(head);
	field_of(head, "traceparent", field);
	trace_of(field, trace);
	assert_string_equal(trace, "0af7651916cd43dd8448eb211c80319c");
	b.n = 0;
	add(&b, greeting, 9);
	add_frame(&b, HEADERS, END_HEADERS | END_STREAM, 1, "\x88", 1);
	assert_int_equal(write(fd, b.at, b.n), b.n);
	assert_int_equal(host_counted(METRICS_SPANS_SERVER) - spans, 1);
	/* It is over: a call is nobody's. */
	carried_by_call(head);
	field_of(head, "traceparent", field);
	trace_of(field, trace);
	assert_string_not_equal(trace, "0af7651916cd43dd8448eb211c80319c");
	assert_true(span_told("GET /", &span) || span_told("GET", &span));
	(void) close(fd);
	(void) raw_close(client);
}

int main(int argc, char **argv)
{
	/* INTERNAL taken out and ABORTED added: the list is the user's. */
	static const char *const extra[] = {
		"AGENTSHIM_FAILURE_GRPC=UNKNOWN,DEADLINE_EXCEEDED,RESOURCE_EXHAUSTED,UNAVAILABLE,"
		"aborted,!13",
		NULL,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_stream_comes_to_its_outcome),
		cmocka_unit_test(an_idle_connection_may_be_closed),
		cmocka_unit_test(more_streams_than_are_followed),
		cmocka_unit_test(an_open_breaker_ends_the_connection),
		cmocka_unit_test(frames_before_a_refused_one_go),
		cmocka_unit_test(a_probe_lets_its_connections_streams_pass),
		cmocka_unit_test(a_kept_connections_stream_may_be_the_probe),
		cmocka_unit_test(a_served_stream_is_the_parent_of_calls),
	};

	host_start(argc, argv, extra);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
