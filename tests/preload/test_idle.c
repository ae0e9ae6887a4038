/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers in good health that a hasty verdict would call sick: connections that pools keep and
 * nobody uses, looks whether a peer is still there, and faults of the program's own.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

/* Made, and left idle for longer than patience lasts. */
static int idle(const struct peer *p, int *ret_server)
{
	const int c = tcp_connected(p);

	*ret_server = peer_accept(p);
	assert_true(*ret_server >= 0);
	patience_passes();
	return c;
}

static void the_peer_closes_an_idle_one(void **state)
{
	struct peer p = peer_silent();
	char byte;
	int s, c = idle(&p, &s);

	(void) state;
	assert_int_equal(close(s), 0);
	assert_int_equal(recv(c, &byte, 1, 0), 0);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 1);

	c = idle(&p, &s);
	assert_int_equal(close(s), 0);
	wait_for(c, POLLIN);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 2);
}

static void the_peer_resets_an_idle_one(void **state)
{
	struct peer p = peer_silent();
	char byte;
	int s, c = idle(&p, &s);

	(void) state;
	peer_reset(s);
	assert_int_equal(recv(c, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 1);

	c = idle(&p, &s);
	peer_reset(s);
	wait_for(c, POLLIN);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 0, 2);
}

/* Closed at once, or after a question, it is a failure as ever. */
static void the_peer_closes_one_in_use(void **state)
{
	struct peer p = peer_listening(), q = peer_silent();
	char byte;
	int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	assert_int_equal(close(s), 0);
	assert_int_equal(recv(c, &byte, 1, 0), 0);
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);

	c = idle(&q, &s);
	assert_int_equal(send(c, "x", 1, 0), 1);
	assert_int_equal(recv(s, &byte, 1, 0), 1);
	assert_int_equal(close(s), 0);
	assert_int_equal(recv(c, &byte, 1, 0), 0);
	assert_int_equal(close(c), 0);
	assert_totals(q.key, 0, 1, 0);
}

static void a_refusal_noticed_late_is_one(void **state)
{
	struct peer p = peer_silent();
	const int c = tcp_socket();

	(void) state;
	(void) close(p.listener);
	assert_int_equal(fcntl(c, F_SETFL, O_NONBLOCK), 0);
	(void) tcp_connect(c, &p);
	wait_for(c, POLLOUT);
	patience_passes();
	assert_int_equal(close(c), 0);
	assert_totals(p.key, 0, 1, 0);
}

/* Who waits for a greeting by poll(2) and gives up has not found the peer well either. */
static void an_idle_one_is_no_success(void **state)
{
	struct peer p = peer_silent();
	int s;
	const int c = idle(&p, &s);

	(void) state;
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
	assert_totals(p.key, 0, 0, 1);
}

static void a_look_awaits_no_answer(void **state)
{
	struct peer p = peer_silent();
	char byte;
	int s;
	const int c = idle(&p, &s);

	(void) state;
	assert_int_equal(recv(c, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	patience_passes();
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
	assert_totals(p.key, 0, 0, 1);
}

static void writing_after_shutdown_is_ones_own_fault(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);

	(void) state;
	assert_int_equal(shutdown(c, SHUT_WR), 0);
	assert_int_equal(send(c, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_totals(p.key, 0, 0, 1);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
}

/* sendfile(2) fails for its file's reasons, too: this place in it is none. */
static void a_bad_file_is_not_the_peers_fault(void **state)
{
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	off_t beyond = (off_t) 1 << 62;

	(void) state;
	assert_int_equal(sendfile(c, file, &beyond, 1), -1);
	assert_int_equal(errno, EOVERFLOW);
	assert_totals(p.key, 0, 0, 1);
	assert_int_equal(close(c), 0);
	assert_int_equal(close(s), 0);
	assert_int_equal(close(file), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_peer_closes_an_idle_one),
		cmocka_unit_test(the_peer_resets_an_idle_one),
		cmocka_unit_test(the_peer_closes_one_in_use),
		cmocka_unit_test(a_refusal_noticed_late_is_one),
		cmocka_unit_test(an_idle_one_is_no_success),
		cmocka_unit_test(a_look_awaits_no_answer),
		cmocka_unit_test(writing_after_shutdown_is_ones_own_fault),
		cmocka_unit_test(a_bad_file_is_not_the_peers_fault),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
