/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is no TCP call to another program (trap T25) passes untouched, with the kernel's own
 * answers; and every way to write one TCP peer meets the same breaker.
 */
#include "tests/preload/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define NO_FD 9999

/* The same call by the hook and by the kernel alone, on sockets of their own. */
static void same_answer(int hooked, int bare, const void *addr, socklen_t len)
{
	errno = 77;

	const int rc = connect(hooked, addr, len);
	const int error = errno;
	const long expected = past_hooks(SYS_connect, bare, (long) addr, len, 0, 0, 0);

	assert_int_equal(rc, expected < 0 ? -1 : 0);
	assert_int_equal(error, expected < 0 ? -expected : 77);
}

static void datagrams_have_no_breaker(void **state)
{
	struct peer p = peer_listening();
	const int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);

	(void) state;
	for (int i = 0; i < 4; i++) {
		same_answer(a, b, &p.addr, sizeof(p.addr));
		(void) send(a, "x", 1, 0); /* nobody there: ECONNREFUSED by ICMP */
		(void) send(b, "x", 1, 0);
	}
	assert_null(breaker_of(p.key));
	(void) close(a);
	(void) close(b);
}

static void unix_sockets_have_no_breaker(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int l = socket(AF_UNIX, SOCK_STREAM, 0);
	const int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0);

	(void) state;
	(void) snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", host_dir());
	same_answer(a, b, &addr, sizeof(addr)); /* ENOENT */
	assert_int_equal(bind(l, (struct sockaddr *) &addr, sizeof(addr)), 0);
	assert_int_equal(listen(l, 8), 0);
	/* The shortest form: no NUL counted. */
	same_answer(a, b, &addr,
		    (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(addr.sun_path)));
	assert_int_equal(send(a, "x", 1, 0), 1);
	(void) close(a);
	(void) close(b);
	(void) close(l);
}

static void odd_arguments_are_the_kernels(void **state)
{
	struct peer p = peer_listening();
	const struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT,
					  .sin6_port = p.addr.sin_port };
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct {
		const char *name;
		const void *addr;
		socklen_t len;
	} rows[] = {
		{ "an address that is not there", (const void *) 16, sizeof(p.addr) },
		{ "an address that ends too soon", page + 4096 - 12, sizeof(p.addr) },
		{ "no address", NULL, 0 },
		{ "no address, but a length", NULL, sizeof(p.addr) },
		{ "no length", &p.addr, 0 },
		{ "a byte", &p.addr, 1 },
		{ "the family alone", &p.addr, sizeof(sa_family_t) },
		{ "one byte short", &p.addr, sizeof(p.addr) - 1 },
		{ "an absurd length", &p.addr, 4096 },
		{ "a negative length", &p.addr, (socklen_t) -1 },
		{ "IPv6 on an IPv4 socket", &six, sizeof(six) },
		{ "IPv6 cut short", &six, 20 },
	};

	(void) state;
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(mprotect(page + 4096, 4096, PROT_NONE), 0);
	memcpy(page + 4096 - 12, &p.addr, 12);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const int a = tcp_socket(), b = tcp_socket();

		print_message("# %s\n", rows[i].name);
		same_answer(a, b, rows[i].addr, rows[i].len);
		assert_int_equal(close(a), 0);
		assert_int_equal(close(b), 0);
	}
	assert_totals(p.key, 0, 0, 0);
}

static void odd_descriptors_are_the_kernels(void **state)
{
	struct peer p = peer_listening();
	const int file = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int fds[] = { -1, NO_FD, 1 << 21, file };

	(void) state;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		same_answer(fds[i], fds[i], &p.addr, sizeof(p.addr));
	assert_int_equal(close(file), 0);
	assert_null(breaker_of(p.key));
}

/* A listener that connects: EISCONN, and no fault of the peer's. */
static void connecting_a_listener_harms_nobody(void **state)
{
	struct peer p = peer_listening(), q = peer_listening();

	(void) state;
	assert_int_equal(tcp_connect(p.listener, &q), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(totals_of(q.key).failures, 0);
}

static void unspec_on_a_fresh_socket_is_nothing(void **state)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	const int a = tcp_socket(), b = tcp_socket();

	(void) state;
	same_answer(a, b, &none, sizeof(none));
	assert_int_equal(close(a), 0);
	assert_int_equal(close(b), 0);
}

/* AF_UNSPEC takes a socket back; the next connect on it is a new call. */
static void unspec_gives_a_call_up(void **state)
{
	struct peer p = peer_hanging(false), q = peer_listening();
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	const int c = tcp_socket();
	char byte;

	(void) state;
	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(tcp_connect(c, &p), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(connect(c, &none, sizeof(none)), 0);
	assert_totals(p.key, 0, 0, 1);
	assert_int_equal(fcntl(c, F_SETFL, 0), 0);
	assert_int_equal(tcp_connect(c, &q), 0);
	assert_int_equal(send(peer_accept(&q), "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(p.key, 0, 0, 1);
	assert_totals(q.key, 1, 0, 0);
	assert_int_equal(close(c), 0);
}

static int six_socket(void)
{
	const int fd = socket(AF_INET6, SOCK_STREAM, 0);

	need(fd >= 0, "no IPv6");
	return fd;
}

/* Java connects to IPv4 through IPv6 sockets: one peer, one breaker. */
static void mapped_addresses_are_ipv4(void **state)
{
	struct peer p = peer_listening();
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = p.addr.sin_port };
	const int c = six_socket();
	char byte;

	(void) state;
	mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&mapped.sin6_addr.s6_addr[12], &p.addr.sin_addr, 4);
	assert_int_equal(connect(c, (struct sockaddr *) &mapped, sizeof(mapped)), 0);
	assert_int_equal(send(peer_accept(&p), "y", 1, 0), 1);
	assert_int_equal(recv(c, &byte, 1, 0), 1);
	assert_totals(p.key, 1, 0, 0);
	assert_int_equal(close(c), 0);

	peer_trip(&p);

	const int refused = six_socket();

	assert_int_equal(connect(refused, (struct sockaddr *) &mapped, sizeof(mapped)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(totals_of(p.key).refused, 1);
	assert_int_equal(close(refused), 0);
}

static void ipv6_has_breakers_too(void **state)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t len = sizeof(addr);
	const int l = six_socket();
	char key[64];

	(void) state;
	/* Bound and not listening: refuses, and nobody else gets the port. */
	if (bind(l, (struct sockaddr *) &addr, len) < 0)
		need(false, "no IPv6");
	assert_int_equal(getsockname(l, (struct sockaddr *) &addr, &len), 0);
	(void) snprintf(key, sizeof(key), "[::1]:%u", ntohs(addr.sin6_port));
	for (int i = 0; i <= TRIP_AT; i++) {
		const int c = six_socket();

		/* The shortest form that the kernel takes, without a scope. */
		assert_int_equal(connect(c, (struct sockaddr *) &addr, 24), -1);
		assert_int_equal(errno, ECONNREFUSED);
		assert_int_equal(close(c), 0);
	}
	assert_int_equal(totals_of(key).failures, TRIP_AT);
	assert_int_equal(totals_of(key).refused, 1);
	assert_int_equal(close(l), 0);
}

/* 0.0.0.0 means this host; it is keyed as the program named it. */
static void any_address_is_a_peer(void **state)
{
	struct peer p = peer_local(false);
	struct sockaddr_in any = p.addr;
	char key[32];

	(void) state;
	any.sin_addr.s_addr = htonl(INADDR_ANY);
	(void) snprintf(key, sizeof(key), "0.0.0.0:%u", ntohs(any.sin_port));
	for (int i = 0; i <= TRIP_AT; i++) {
		const int c = tcp_socket();

		assert_int_equal(connect(c, (struct sockaddr *) &any, sizeof(any)), -1);
		assert_int_equal(errno, ECONNREFUSED);
		assert_int_equal(close(c), 0);
	}
	assert_int_equal(totals_of(key).failures, TRIP_AT);
	assert_int_equal(totals_of(key).refused, 1);
}

/* Faults of our own host are not the peer's. */
static void local_faults_are_nobodys(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_socket();
	struct sockaddr_in taken = p.addr;

	(void) state;
	/* From an address that no interface has: the bind of connect fails here. */
	assert_int_equal(bind(c, (struct sockaddr *) &taken, sizeof(taken)), -1);
	assert_int_equal(errno, EADDRINUSE);

	struct peer broadcast = p;

	broadcast.addr.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	assert_int_equal(tcp_connect(c, &broadcast), -1);

	char key[40];

	(void) snprintf(key, sizeof(key), "255.255.255.255:%u", ntohs(p.addr.sin_port));
	assert_int_equal(totals_of(key).failures, 0);
	assert_int_equal(close(c), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datagrams_have_no_breaker),
		cmocka_unit_test(unix_sockets_have_no_breaker),
		cmocka_unit_test(odd_arguments_are_the_kernels),
		cmocka_unit_test(odd_descriptors_are_the_kernels),
		cmocka_unit_test(connecting_a_listener_harms_nobody),
		cmocka_unit_test(unspec_on_a_fresh_socket_is_nothing),
		cmocka_unit_test(unspec_gives_a_call_up),
		cmocka_unit_test(mapped_addresses_are_ipv4),
		cmocka_unit_test(ipv6_has_breakers_too),
		cmocka_unit_test(any_address_is_a_peer),
		cmocka_unit_test(local_faults_are_nobodys),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
