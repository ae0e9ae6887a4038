/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that allows itself only the system calls that it makes, and traps on all others:
 * none of ours may come on top, whether we had mapped our files before or not. Each story
 * runs in a child, since a filter is for good.
 */
#include "tests/preload/host.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What this program does when it is on its own. */
static const unsigned allowed[] = {
	SYS_socket, SYS_connect, SYS_sendto, SYS_recvfrom, SYS_close,
	SYS_accept, SYS_exit_group, SYS_rt_sigreturn, SYS_seccomp, SYS_prctl,
};

#define N_ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

static void trapped(int signal, siginfo_t *info, void *context)
{
	(void) signal;
	(void) context;
	/* Not allowed to print any more: the number is the status. */
	_exit(100 + info->si_syscall % 100);
}

static void make_filter(struct sock_filter *code)
{
	*code++ = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < N_ALLOWED; i++)
		*code++ = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i],
							(unsigned char) (N_ALLOWED - i), 0);
	*code++ = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	*code = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
}

static int by_prctl(const struct sock_fprog *program)
{
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0);
}

static int by_seccomp(const struct sock_fprog *program)
{
	return (int) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program);
}

struct story {
	struct peer well, sick;
	bool met; /* a connection was made before the filter came */
	int (*set)(const struct sock_fprog *program);
};

static int talk(const struct peer *p)
{
	const int c = socket(AF_INET, SOCK_STREAM, 0);
	char byte = 'x';

	CHECK(connect(c, (const struct sockaddr *) &p->addr, sizeof(p->addr)) == 0);

	const int s = accept(p->listener, NULL, NULL);

	CHECK(s >= 0);
	CHECK(send(s, &byte, 1, 0) == 1);
	CHECK(recv(c, &byte, 1, 0) == 1);
	CHECK(close(c) == 0);
	CHECK(close(s) == 0);
	return 0;
}

static int lives_under_its_filter(const struct story *story)
{
	const struct sigaction on_trap = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
	struct sock_filter code[N_ALLOWED + 3];
	const struct sock_fprog program = { N_ALLOWED + 3, code };

	CHECK(!story->met || talk(&story->well) == 0);
	make_filter(code);
	CHECK(sigaction(SIGSYS, &on_trap, NULL) == 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(story->set(&program) == 0);
	CHECK(talk(&story->well) == 0);
	/* Nobody decides any more, so nobody refuses: each try gets the kernel's answer. */
	for (int i = 0; i < 2 * TRIP_AT; i++) {
		const int c = socket(AF_INET, SOCK_STREAM, 0);

		CHECK(connect(c, (const struct sockaddr *) &story->sick.addr,
			      sizeof(story->sick.addr)) == -1);
		CHECK(errno == ECONNREFUSED);
		CHECK(close(c) == 0);
	}
	return 0;
}

/* exit(3) would flush streams, which is not allowed; a trap ends with the call's number. */
static int status_of(const struct story *story)
{
	const pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(lives_under_its_filter(story) == 0 ? 0 : 99);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void tell(bool met, int (*set)(const struct sock_fprog *program))
{
	struct story story = { peer_listening(), peer_refusing(), met, set };

	assert_int_equal(status_of(&story), 0);
	/* What was decided before stands, nothing was counted after. */
	assert_int_equal(requests_of(story.well.key), met ? 1 : 0);
	assert_int_equal(requests_of(story.sick.key), 0);
}

static void a_filter_by_prctl_is_respected(void **state)
{
	(void) state;
	tell(true, by_prctl);
	tell(false, by_prctl);
}

static void a_filter_by_seccomp_is_respected(void **state)
{
	(void) state;
	tell(true, by_seccomp);
	tell(false, by_seccomp);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_by_prctl_is_respected),
		cmocka_unit_test(a_filter_by_seccomp_is_respected),
	};

	host_start(argc, argv, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
