/* SPDX-License-Identifier: Apache-2.0 */
/* A library whose own connect, close, read and write call libc's by their other names, as
 * libraries do that were written before preloads re-exported those too. */
#include <sys/socket.h>
#include <unistd.h>

int __connect(int, const struct sockaddr *, socklen_t);
int __close(int);
ssize_t __read(int, void *, size_t);
ssize_t __write(int, const void *, size_t);
ssize_t __send(int, const void *, size_t, int);
int __dup2(int, int);

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return __connect(fd, addr, len);
}

int close(int fd)
{
	return __close(fd);
}

ssize_t read(int fd, void *buf, size_t len)
{
	return __read(fd, buf, len);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	return __write(fd, buf, len);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	return __send(fd, buf, len, flags);
}

int dup2(int fd, int to)
{
	return __dup2(fd, to);
}
