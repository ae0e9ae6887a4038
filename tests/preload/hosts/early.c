/* SPDX-License-Identifier: Apache-2.0 */
/* A library that is initialised before us and calls what we hook, as jemalloc and OpenSSL do. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MUST(truth)                                              \
	do {                                                     \
		if (!(truth))                                    \
			fprintf(stderr, "early: %s\n", #truth); \
	} while (0)

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
}
