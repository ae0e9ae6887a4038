/* SPDX-License-Identifier: Apache-2.0 */
/* A library that is initialised before us and calls what we hook, as jemalloc and OpenSSL do. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(truth)                                              \
	do {                                                     \
		if (!(truth))                                    \
			fprintf(stderr, "early: %s\n", #truth); \
	} while (0)

static char *const argv[] = { (char *) "true", NULL };
static char *const none[] = { NULL }; /* else the child would have us, too */

/* Does a forked child become `true` by this way? */
static int becomes_true(int way)
{
	const pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		environ = (char **) none;
		switch (way) {
		case 0:
			(void) execve("/bin/true", argv, none);
			break;
		case 1:
			(void) execv("/bin/true", argv);
			break;
		case 2:
			(void) execvp("true", argv);
			break;
		case 3:
			(void) execvpe("true", argv, none);
			break;
		case 4:
			(void) execl("/bin/true", "true", NULL);
			break;
		case 5:
			(void) execlp("true", "true", NULL);
			break;
		case 6:
			(void) execle("/bin/true", "true", NULL, none);
			break;
		case 7:
			(void) fexecve(open("/bin/true", O_RDONLY), argv, none);
			break;
		case 8:
			(void) execveat(AT_FDCWD, "/bin/true", argv, none, 0);
			break;
		}
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static int spawns_true(int (*spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
				    const posix_spawnattr_t *, char *const[], char *const[]),
		       const char *file)
{
	int status = -1;
	pid_t pid;

	return spawn(&pid, file, NULL, NULL, argv, none) == 0 && waitpid(pid, &status, 0) == pid &&
	       status == 0;
}

static void *returns(void *arg)
{
	return arg;
}

static void start_others(void)
{
	pthread_t thread;
	void *back = NULL;

	for (int way = 0; way < 9; way++)
		if (!becomes_true(way))
			fprintf(stderr, "early: way %d\n", way);
	MUST(execve("/nowhere", argv, none) == -1 && errno == ENOENT);
	MUST(spawns_true(posix_spawn, "/bin/true"));
	MUST(spawns_true(posix_spawnp, "true"));
	MUST(pthread_create(&thread, NULL, returns, argv[0]) == 0);
	MUST(pthread_join(thread, &back) == 0 && back == argv[0]);
}

__attribute__((constructor)) static void early(void)
{
	const struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_port = 0,
					    .sin_addr.s_addr = 0x0100007f };
	struct iovec iov = { (char[1]) { 'x' }, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int pair[2], value;
	socklen_t len = sizeof(value);
	char byte;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	MUST(write(pair[0], "abcd", 4) == 4);
	MUST(read(pair[1], &byte, 1) == 1 && byte == 'a');
	MUST(recv(pair[1], &byte, 1, 0) == 1 && byte == 'b');
	MUST(recvfrom(pair[1], &byte, 1, 0, NULL, NULL) == 1 && byte == 'c');
	MUST(recvmsg(pair[1], &msg, 0) == 1);
	MUST(send(pair[0], "x", 1, 0) == 1 && sendmsg(pair[0], &msg, 0) == 1);
	MUST(writev(pair[0], &iov, 1) == 1 && readv(pair[1], &iov, 1) == 1);
	MUST(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &len) == 0 && value == 0);
	MUST(fcntl(pair[0], F_GETFD) == 0);
	MUST(dup2(pair[0], 77) == 77 && dup2(77, 77) == 77 && close(77) == 0);
	MUST(dup2(99, 99) == -1 && errno == EBADF);
	MUST(shutdown(pair[0], SHUT_WR) == 0);
	MUST(close(pair[0]) == 0 && close(pair[0]) == -1 && errno == EBADF);
	MUST(syscall(SYS_close, pair[1]) == 0);
	MUST(syscall(SYS_getpid) == getpid());

	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	MUST(connect(fd, (const struct sockaddr *) &nobody, sizeof(nobody)) == -1 &&
	     errno == ECONNREFUSED);
	MUST(close(fd) == 0);
	start_others();
}
