/* SPDX-License-Identifier: Apache-2.0 */
/* The table of libc's functions: bare system calls first, then what dlsym finds behind us. */
#include "shim/real.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "shim/raw.h"

static int raw_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int) RAW(SYS_connect, fd, addr, len, 0, 0, 0);
}

static int raw_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int) RAW(SYS_getsockopt, fd, level, name, value, len, 0);
}

static int raw_shutdown(int fd, int how)
{
	return (int) RAW(SYS_shutdown, fd, how, 0, 0, 0, 0);
}

static int raw_socket(int domain, int type, int protocol)
{
	return (int) RAW(SYS_socket, domain, type, protocol, 0, 0, 0);
}

static int raw_socketpair(int domain, int type, int protocol, int pair[2])
{
	return (int) RAW(SYS_socketpair, domain, type, protocol, pair, 0, 0);
}

static int raw_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return (int) RAW(SYS_accept4, fd, addr, len, flags, 0, 0);
}

static int raw_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return raw_accept4(fd, addr, len, 0);
}

static ssize_t raw_sendto(int fd, const void *buf, size_t len, int flags,
			  const struct sockaddr *addr, socklen_t addr_len)
{
	return RAW(SYS_sendto, fd, buf, len, flags, addr, addr_len);
}

static ssize_t raw_send(int fd, const void *buf, size_t len, int flags)
{
	return raw_sendto(fd, buf, len, flags, NULL, 0);
}

static ssize_t raw_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return RAW(SYS_sendmsg, fd, msg, flags, 0, 0, 0);
}

static int raw_sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	return (int) RAW(SYS_sendmmsg, fd, msgs, n, flags, 0, 0);
}

static ssize_t raw_write(int fd, const void *buf, size_t len)
{
	return RAW(SYS_write, fd, buf, len, 0, 0, 0);
}

static ssize_t raw_writev(int fd, const struct iovec *iov, int n)
{
	return RAW(SYS_writev, fd, iov, n, 0, 0, 0);
}

static ssize_t raw_sendfile(int out, int in, off_t *offset, size_t len)
{
	return RAW(SYS_sendfile, out, in, offset, len, 0, 0);
}

static ssize_t raw_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
			    socklen_t *addr_len)
{
	return RAW(SYS_recvfrom, fd, buf, len, flags, addr, addr_len);
}

static ssize_t raw_recv(int fd, void *buf, size_t len, int flags)
{
	return raw_recvfrom(fd, buf, len, flags, NULL, NULL);
}

static ssize_t raw_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return RAW(SYS_recvmsg, fd, msg, flags, 0, 0, 0);
}

static int raw_recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
			struct timespec *timeout)
{
	return (int) RAW(SYS_recvmmsg, fd, msgs, n, flags, timeout, 0);
}

static ssize_t raw_read(int fd, void *buf, size_t len)
{
	return RAW(SYS_read, fd, buf, len, 0, 0, 0);
}

static ssize_t raw_readv(int fd, const struct iovec *iov, int n)
{
	return RAW(SYS_readv, fd, iov, n, 0, 0, 0);
}

/* The checked forms die on overflow in libc; here, before it is ready, they only read less. */
static size_t at_most(size_t len, size_t size)
{
	return len < size ? len : size;
}

static ssize_t raw_recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	return raw_recv(fd, buf, at_most(len, size), flags);
}

static ssize_t raw_recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
				struct sockaddr *addr, socklen_t *addr_len)
{
	return raw_recvfrom(fd, buf, at_most(len, size), flags, addr, addr_len);
}

static ssize_t raw_read_chk(int fd, void *buf, size_t len, size_t size)
{
	return raw_read(fd, buf, at_most(len, size));
}

#define KERNEL_SIGSET_SIZE 8 /* bytes of the kernel's sigset_t */

static int raw_epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return (int) RAW(SYS_epoll_ctl, ep, op, fd, event, 0, 0);
}

static int raw_epoll_pwait(int ep, struct epoll_event *events, int n, int timeout,
			   const sigset_t *mask)
{
	return (int) RAW(SYS_epoll_pwait, ep, events, n, timeout, mask, KERNEL_SIGSET_SIZE);
}

static int raw_epoll_wait(int ep, struct epoll_event *events, int n, int timeout)
{
	return raw_epoll_pwait(ep, events, n, timeout, NULL);
}

static int raw_epoll_pwait2(int ep, struct epoll_event *events, int n,
			    const struct timespec *timeout, const sigset_t *mask)
{
	return (int) RAW(SYS_epoll_pwait2, ep, events, n, timeout, mask, KERNEL_SIGSET_SIZE);
}

static int raw_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *mask)
{
	/* The kernel writes what is left of the time; libc's does not. */
	struct timespec left = timeout != NULL ? *timeout : (struct timespec) { 0 };

	return (int) RAW(SYS_ppoll, fds, n, timeout != NULL ? &left : NULL, mask,
			 KERNEL_SIGSET_SIZE, 0);
}

static int raw_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	const struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };

	return raw_ppoll(fds, n, timeout >= 0 ? &t : NULL, NULL);
}

static int raw_poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	(void) size;
	return raw_poll(fds, n, timeout);
}

static int raw_ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			 const sigset_t *mask, size_t size)
{
	(void) size;
	return raw_ppoll(fds, n, timeout, mask);
}

static int raw_pselect(int n, fd_set *in, fd_set *out, fd_set *except,
		       const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec left = timeout != NULL ? *timeout : (struct timespec) { 0 };
	const struct {
		const sigset_t *mask;
		size_t size;
	} six = { mask, KERNEL_SIGSET_SIZE };

	return (int) RAW(SYS_pselect6, n, in, out, except, timeout != NULL ? &left : NULL, &six);
}

static int raw_select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	struct timespec left;

	if (timeout == NULL)
		return raw_pselect(n, in, out, except, NULL, NULL);
	left = (struct timespec) { timeout->tv_sec, timeout->tv_usec * 1000 };

	const int rc = (int) RAW(SYS_pselect6, n, in, out, except, &left, 0);

	*timeout = (struct timeval) { left.tv_sec, left.tv_nsec / 1000 };
	return rc;
}

static int raw_listen(int fd, int backlog)
{
	return (int) RAW(SYS_listen, fd, backlog, 0, 0, 0, 0);
}

static int raw_close(int fd)
{
	return (int) RAW(SYS_close, fd, 0, 0, 0, 0, 0);
}

static int raw_close_range(unsigned first, unsigned last, int flags)
{
	return (int) RAW(SYS_close_range, first, last, flags, 0, 0, 0);
}

static void raw_closefrom(int first)
{
	(void) raw_close_range(first > 0 ? (unsigned) first : 0, UINT_MAX, 0);
}

static int raw_dup(int fd)
{
	return (int) RAW(SYS_dup, fd, 0, 0, 0, 0, 0);
}

static int raw_dup3(int fd, int to, int flags)
{
	return (int) RAW(SYS_dup3, fd, to, flags, 0, 0, 0);
}

static int raw_dup2(int fd, int to)
{
	/* dup3 refuses equal descriptors, dup2 only asks whether there is one. */
	if (fd == to)
		return RAW(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) < 0 ? -1 : to;
	return raw_dup3(fd, to, 0);
}

static int raw_fcntl(int fd, int command, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, command);
	const long arg = __builtin_va_arg(args, long);
	__builtin_va_end(args);
	return (int) RAW(SYS_fcntl, fd, command, arg, 0, 0, 0);
}

static int raw_prctl(int option, ...)
{
	__builtin_va_list args;
	long a[4];

	__builtin_va_start(args, option);
	for (int i = 0; i < 4; i++)
		a[i] = __builtin_va_arg(args, long);
	__builtin_va_end(args);
	return (int) RAW(SYS_prctl, option, a[0], a[1], a[2], a[3], 0);
}

/*
 * These have no system call to stand in for them. No allocator calls them while it starts,
 * so looking them up is safe even before the constructor.
 */
static int late_fclose(FILE *f)
{
	int (*const found)(FILE *) = (int (*)(FILE *)) dlsym(RTLD_NEXT, "fclose");

	return found != NULL ? found(f) : EOF;
}

static FILE *late_freopen(const char *path, const char *mode, FILE *f)
{
	FILE *(*const found)(const char *, const char *, FILE *) =
		(FILE *(*)(const char *, const char *, FILE *)) dlsym(RTLD_NEXT, "freopen");

	return found != NULL ? found(path, mode, f) : NULL;
}

static int late_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
			    struct addrinfo **result)
{
	int (*const found)(const char *, const char *, const struct addrinfo *,
			   struct addrinfo **) =
		(int (*)(const char *, const char *, const struct addrinfo *,
			 struct addrinfo **)) dlsym(RTLD_NEXT, "getaddrinfo");

	return found != NULL ? found(host, service, hints, result) : EAI_FAIL;
}

static struct hostent *late_gethostbyname(const char *host)
{
	struct hostent *(*const found)(const char *) =
		(struct hostent *(*)(const char *)) dlsym(RTLD_NEXT, "gethostbyname");

	return found != NULL ? found(host) : NULL;
}

static struct hostent *late_gethostbyname2(const char *host, int family)
{
	struct hostent *(*const found)(const char *, int) =
		(struct hostent *(*)(const char *, int)) dlsym(RTLD_NEXT, "gethostbyname2");

	return found != NULL ? found(host, family) : NULL;
}

static int late_gethostbyname_r(const char *host, struct hostent *entry, char *buf, size_t size,
				struct hostent **result, int *error)
{
	int (*const found)(const char *, struct hostent *, char *, size_t, struct hostent **,
			   int *) =
		(int (*)(const char *, struct hostent *, char *, size_t, struct hostent **,
			 int *)) dlsym(RTLD_NEXT, "gethostbyname_r");

	return found != NULL ? found(host, entry, buf, size, result, error) : ENOSYS;
}

static int late_gethostbyname2_r(const char *host, int family, struct hostent *entry, char *buf,
				 size_t size, struct hostent **result, int *error)
{
	int (*const found)(const char *, int, struct hostent *, char *, size_t, struct hostent **,
			   int *) =
		(int (*)(const char *, int, struct hostent *, char *, size_t, struct hostent **,
			 int *)) dlsym(RTLD_NEXT, "gethostbyname2_r");

	return found != NULL ? found(host, family, entry, buf, size, result, error) : ENOSYS;
}

static int raw_execve(const char *path, char *const argv[], char *const envp[])
{
	return (int) RAW(SYS_execve, path, argv, envp, 0, 0, 0);
}

static int raw_execv(const char *path, char *const argv[])
{
	return raw_execve(path, argv, environ);
}

static int raw_execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	return (int) RAW(SYS_execveat, fd, path, argv, envp, flags, 0);
}

static int raw_fexecve(int fd, char *const argv[], char *const envp[])
{
	return raw_execveat(fd, "", argv, envp, AT_EMPTY_PATH);
}

static int late_execvpe(const char *file, char *const argv[], char *const envp[])
{
	int (*const found)(const char *, char *const[], char *const[]) =
		(int (*)(const char *, char *const[], char *const[])) dlsym(RTLD_NEXT, "execvpe");

	return found != NULL ? found(file, argv, envp) : -1;
}

static int late_execvp(const char *file, char *const argv[])
{
	return late_execvpe(file, argv, environ);
}

typedef int spawner(pid_t *, const char *, const posix_spawn_file_actions_t *,
		    const posix_spawnattr_t *, char *const[], char *const[]);

static int late_posix_spawn(pid_t *pid, const char *path,
			    const posix_spawn_file_actions_t *actions,
			    const posix_spawnattr_t *attributes, char *const argv[],
			    char *const envp[])
{
	spawner *const found = (spawner *) dlsym(RTLD_NEXT, "posix_spawn");

	return found != NULL ? found(pid, path, actions, attributes, argv, envp) : ENOSYS;
}

static int late_posix_spawnp(pid_t *pid, const char *file,
			     const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attributes, char *const argv[],
			     char *const envp[])
{
	spawner *const found = (spawner *) dlsym(RTLD_NEXT, "posix_spawnp");

	return found != NULL ? found(pid, file, actions, attributes, argv, envp) : ENOSYS;
}

static int late_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			       void *(*start)(void *), void *arg)
{
	int (*const found)(pthread_t *, const pthread_attr_t *, void *(*) (void *), void *) =
		(int (*)(pthread_t *, const pthread_attr_t *, void *(*) (void *),
			 void *)) dlsym(RTLD_NEXT, "pthread_create");

	return found != NULL ? found(thread, attributes, start, arg) : EAGAIN;
}

struct real real = {
	.connect = raw_connect,
	.__connect = raw_connect,
	.getsockopt = raw_getsockopt,
	.shutdown = raw_shutdown,
	.socket = raw_socket,
	.socketpair = raw_socketpair,
	.accept = raw_accept,
	.accept4 = raw_accept4,
	.send = raw_send,
	.__send = raw_send,
	.sendto = raw_sendto,
	.sendmsg = raw_sendmsg,
	.sendmmsg = raw_sendmmsg,
	.write = raw_write,
	.__write = raw_write,
	.writev = raw_writev,
	.sendfile = raw_sendfile,
	.recv = raw_recv,
	.recvfrom = raw_recvfrom,
	.recvmsg = raw_recvmsg,
	.recvmmsg = raw_recvmmsg,
	.read = raw_read,
	.__read = raw_read,
	.readv = raw_readv,
	.recv_chk = raw_recv_chk,
	.recvfrom_chk = raw_recvfrom_chk,
	.read_chk = raw_read_chk,
	.epoll_ctl = raw_epoll_ctl,
	.epoll_wait = raw_epoll_wait,
	.epoll_pwait = raw_epoll_pwait,
	.epoll_pwait2 = raw_epoll_pwait2,
	.poll = raw_poll,
	.ppoll = raw_ppoll,
	.poll_chk = raw_poll_chk,
	.ppoll_chk = raw_ppoll_chk,
	.select = raw_select,
	.pselect = raw_pselect,
	.listen = raw_listen,
	.close = raw_close,
	.__close = raw_close,
	.close_range = raw_close_range,
	.closefrom = raw_closefrom,
	.dup = raw_dup,
	.dup2 = raw_dup2,
	.__dup2 = raw_dup2,
	.dup3 = raw_dup3,
	.fcntl = raw_fcntl,
	.__fcntl = raw_fcntl,
	.prctl = raw_prctl,
	.fclose = late_fclose,
	.freopen = late_freopen,
	.execve = raw_execve,
	.execv = raw_execv,
	.execvp = late_execvp,
	.execvpe = late_execvpe,
	.fexecve = raw_fexecve,
	.execveat = raw_execveat,
	.posix_spawn = late_posix_spawn,
	.posix_spawnp = late_posix_spawnp,
	.pthread_create = late_pthread_create,
	.getaddrinfo = late_getaddrinfo,
	.gethostbyname = late_gethostbyname,
	.gethostbyname2 = late_gethostbyname2,
	.gethostbyname_r = late_gethostbyname_r,
	.gethostbyname2_r = late_gethostbyname2_r,
};

/* Tells whether an address lies in this object: the start and end of it, from the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

bool real_is_ours(const void *address)
{
	return (const char *) address >= __ehdr_start && (const char *) address < _end;
}

bool real_fill(void)
{
	struct real found;
	const struct {
		void *to;
		const char *name;
	} rows[] = {
#define ROW(field, name) { &found.field, name }
		ROW(connect, "connect"),
		ROW(__connect, "__connect"),
		ROW(getsockopt, "getsockopt"),
		ROW(shutdown, "shutdown"),
		ROW(socket, "socket"),
		ROW(socketpair, "socketpair"),
		ROW(accept, "accept"),
		ROW(accept4, "accept4"),
		ROW(send, "send"),
		ROW(__send, "__send"),
		ROW(sendto, "sendto"),
		ROW(sendmsg, "sendmsg"),
		ROW(sendmmsg, "sendmmsg"),
		ROW(write, "write"),
		ROW(__write, "__write"),
		ROW(writev, "writev"),
		ROW(sendfile, "sendfile"),
		ROW(recv, "recv"),
		ROW(recvfrom, "recvfrom"),
		ROW(recvmsg, "recvmsg"),
		ROW(recvmmsg, "recvmmsg"),
		ROW(read, "read"),
		ROW(__read, "__read"),
		ROW(readv, "readv"),
		ROW(recv_chk, "__recv_chk"),
		ROW(recvfrom_chk, "__recvfrom_chk"),
		ROW(read_chk, "__read_chk"),
		ROW(epoll_ctl, "epoll_ctl"),
		ROW(epoll_wait, "epoll_wait"),
		ROW(epoll_pwait, "epoll_pwait"),
		ROW(epoll_pwait2, "epoll_pwait2"),
		ROW(poll, "poll"),
		ROW(ppoll, "ppoll"),
		ROW(poll_chk, "__poll_chk"),
		ROW(ppoll_chk, "__ppoll_chk"),
		ROW(select, "select"),
		ROW(pselect, "pselect"),
		ROW(listen, "listen"),
		ROW(close, "close"),
		ROW(__close, "__close"),
		ROW(close_range, "close_range"),
		ROW(closefrom, "closefrom"),
		ROW(dup, "dup"),
		ROW(dup2, "dup2"),
		ROW(__dup2, "__dup2"),
		ROW(dup3, "dup3"),
		ROW(fcntl, "fcntl"),
		ROW(prctl, "prctl"),
		ROW(__fcntl, "__fcntl"),
		ROW(fclose, "fclose"),
		ROW(freopen, "freopen"),
		ROW(execve, "execve"),
		ROW(execv, "execv"),
		ROW(execvp, "execvp"),
		ROW(execvpe, "execvpe"),
		ROW(fexecve, "fexecve"),
		ROW(execveat, "execveat"),
		ROW(posix_spawn, "posix_spawn"),
		ROW(posix_spawnp, "posix_spawnp"),
		ROW(pthread_create, "pthread_create"),
		ROW(getaddrinfo, "getaddrinfo"),
		ROW(gethostbyname, "gethostbyname"),
		ROW(gethostbyname2, "gethostbyname2"),
		ROW(gethostbyname_r, "gethostbyname_r"),
		ROW(gethostbyname2_r, "gethostbyname2_r"),
#undef ROW
	};

	_Static_assert(sizeof(rows) / sizeof(rows[0]) == sizeof(struct real) / sizeof(void *),
		       "every function of the table has a row");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		void *address = dlsym(RTLD_NEXT, rows[i].name);

		/* A library that re-exports our name would send us round in circles. */
		if (address == NULL || real_is_ours(address))
			return false;
		memcpy(rows[i].to, &address, sizeof(address));
	}
	real = found;
	return true;
}
