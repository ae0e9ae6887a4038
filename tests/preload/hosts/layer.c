/* SPDX-License-Identifier: Apache-2.0 */
/* Another preloaded library that re-exports our names and passes each call on. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int calls;

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*next)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t)) dlsym(RTLD_NEXT, "connect");

	calls++;
	return next(fd, addr, len);
}

int socket(int domain, int type, int protocol)
{
	int (*next)(int, int, int) = (int (*)(int, int, int)) dlsym(RTLD_NEXT, "socket");

	calls++;
	return next(domain, type, protocol);
}

int close(int fd)
{
	int (*next)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "close");

	calls++;
	return next(fd);
}

__attribute__((destructor)) static void tell(void)
{
	fprintf(stderr, "layer saw %d calls\n", calls);
}
