/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy between an impatient client and a slow peer: when the client goes, the proxy gives
 * its own call up, and the peer has done nothing wrong.
 */
#include "tests/preload/host.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A client of ours, made past any hook, and our side of its connection. */
static int client(const struct peer *front, int *ret_inbound)
{
	const int fd = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);

	assert_int_equal(past_hooks(SYS_connect, fd, (long) &front->addr, sizeof(front->addr), 0,
				    0, 0), 0);
	*ret_inbound = accept4(front->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(*ret_inbound >= 0);
	return fd;
}

/* Asked for as long as patience lasts, without an answer. */
static int asked(const struct peer *back, int *ret_server)
{
	const int c = tcp_connected(back);

	*ret_server = peer_accept(back);
	assert_true(*ret_server >= 0);
	assert_int_equal(send(c, "x", 1, 0), 1);
	patience_passes();
	return c;
}

static void the_client_loses_patience(void **state)
{
	struct peer front = peer_listening(), back = peer_silent();
	int inbound, server;
	const int browser = client(&front, &inbound);
	const int c = asked(&back, &server);

	(void) state;
	(void) raw_close(browser);
	wait_for(inbound, POLLRDHUP);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(inbound), 0);
	(void) raw_close(server);
	assert_totals(back.key, 0, 0, 1);
}

static void the_proxy_loses_patience(void **state)
{
	struct peer front = peer_listening(), back = peer_silent();
	int inbound, server;
	const int browser = client(&front, &inbound);
	const int c = asked(&back, &server);

	(void) state;
	assert_int_equal(close(c), 0);
	assert_totals(back.key, 0, 1, 0);
	assert_int_equal(close(inbound), 0);
	(void) raw_close(browser);
	(void) raw_close(server);
}

/* A number is forgotten with its connection: a pipe whose writer left is no client. */
static void other_files_are_no_clients(void **state)
{
	struct peer front = peer_listening(), back = peer_silent();
	int inbound, server, pipes[2];
	const int browser = client(&front, &inbound);

	(void) state;
	assert_int_equal(close(inbound), 0);
	(void) raw_close(browser);
	assert_int_equal(pipe(pipes), 0);
	assert_true(dup2(pipes[0], inbound) == inbound);
	(void) raw_close(pipes[1]);

	const int c = asked(&back, &server);

	assert_int_equal(close(c), 0);
	assert_totals(back.key, 0, 1, 0);
	(void) raw_close(server);
	(void) raw_close(inbound);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_client_loses_patience),
		cmocka_unit_test(the_proxy_loses_patience),
		cmocka_unit_test(other_files_are_no_clients),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
