/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops behind tests/bench/hooks: `hook-loops WHAT…` prints one line a result, `KEY MEDIAN
 * LOW HIGH` or `KEY VALUE`. Preloaded, it measures each exported name against libc's own
 * function in the same process, round by round in turn.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/measure.h"

/* A few ns of some hundred: many short pairs, most of which nothing disturbs. */
#define IO_PAIRS      801
#define IO_CALLS      1000
#define IO_RANK_LOW   372 /* 400 -+ 2 standard deviations of a binomial of 801 */
#define IO_RANK_HIGH  428

#define CONNECT_CALLS 500
#define REFUSED_CALLS 20000
#define SPAWNS        15 /* a round; the fastest counts, for it met no other process */

_Static_assert(MEASURE_ROUNDS == 21, "ranks below");
#define RANK_LOW  5
#define RANK_HIGH 15

static void die(const char *what)
{
	fprintf(stderr, "hook-loops: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* libc's functions, or what the program would call: the first of that name. */
struct calls {
	ssize_t (*write)(int fd, const void *buf, size_t len);
	ssize_t (*read)(int fd, void *buf, size_t len);
	ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
	int (*socket)(int domain, int type, int protocol);
	int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
	int (*close)(int fd);
};

static struct calls libc_calls, program_calls;

static void fill(struct calls *c, void *from)
{
	*(void **) &c->write = dlsym(from, "write");
	*(void **) &c->read = dlsym(from, "read");
	*(void **) &c->send = dlsym(from, "send");
	*(void **) &c->socket = dlsym(from, "socket");
	*(void **) &c->connect = dlsym(from, "connect");
	*(void **) &c->accept = dlsym(from, "accept");
	*(void **) &c->close = dlsym(from, "close");
}

static void fill_both(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	if (libc == NULL)
		die("libc.so.6");
	fill(&libc_calls, libc);
	fill(&program_calls, RTLD_DEFAULT);
}

/* ---- sockets ---- */

static struct sockaddr_in listening;

static int listener(void)
{
	socklen_t len = sizeof(listening);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listening = (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	if (fd < 0 || bind(fd, (struct sockaddr *) &listening, len) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *) &listening, &len) < 0)
		die("listener");
	return fd;
}

static int connect_to(const struct calls *c, const struct sockaddr_in *addr)
{
	const int fd = c->socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || c->connect(fd, (const struct sockaddr *) addr, sizeof(*addr)) < 0)
		die("connect");
	return fd;
}

/* ---- I/O on descriptors that are none of the shim's ---- */

struct io {
	const struct calls *calls;
	int fd;
};

static void write_loop(void *arg, uint64_t n, const struct calls *c)
{
	const struct io *io = arg;

	for (uint64_t i = 0; i < n; i++)
		(void) c->write(io->fd, "x", 1);
}

static void read_loop(void *arg, uint64_t n, const struct calls *c)
{
	const struct io *io = arg;
	char byte;

	for (uint64_t i = 0; i < n; i++)
		(void) c->read(io->fd, &byte, 1);
}

static void send_loop(void *arg, uint64_t n, const struct calls *c)
{
	const struct io *io = arg;

	for (uint64_t i = 0; i < n; i++)
		(void) c->send(io->fd, "x", 1, MSG_NOSIGNAL);
}

#define BOTH(name)                                                                               \
	static void name##_bare(void *arg, uint64_t n)                                           \
	{                                                                                        \
		name(arg, n, &libc_calls);                                                       \
	}                                                                                        \
	static void name##_shim(void *arg, uint64_t n)                                           \
	{                                                                                        \
		name(arg, n, &program_calls);                                                    \
	}

BOTH(write_loop)
BOTH(read_loop)
BOTH(send_loop)

/* ---- connect ---- */

static void connect_loop(void *arg, uint64_t n, const struct calls *c)
{
	const int server = *(const int *) arg;
	/* Ends with a reset: no port waits for two minutes. */
	const struct linger at_once = { 1, 0 };

	for (uint64_t i = 0; i < n; i++) {
		const int fd = connect_to(c, &listening);
		const int peer = c->accept(server, NULL, NULL);

		(void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		(void) c->close(fd);
		(void) c->close(peer);
	}
}

static void refused_loop(void *arg, uint64_t n, const struct calls *c)
{
	const int fd = *(const int *) arg;

	for (uint64_t i = 0; i < n; i++)
		if (c->connect(fd, (const struct sockaddr *) &listening, sizeof(listening)) == 0)
			die("a refused connect");
}

BOTH(connect_loop)
BOTH(refused_loop)
#undef BOTH

static void nothing(void *arg, uint64_t n)
{
	(void) arg;
	for (uint64_t i = 0; i < n; i++)
		__asm__ volatile("" : : : "memory");
}

static void print(const char *key, const struct measure *m)
{
	printf("%s %.2f %.2f %.2f\n", key, m->median, m->low, m->high);
	(void) fflush(stdout);
}

static void compare(const char *key, measure_fn *bare, measure_fn *with, void *arg, uint64_t calls)
{
	const struct measure base = measure_run(nothing, bare, &arg, 1, calls);
	const struct measure added = measure_run(bare, with, &arg, 1, calls);
	char name[64];

	(void) snprintf(name, sizeof(name), "%s.bare", key);
	print(name, &base);
	(void) snprintf(name, sizeof(name), "%s.added", key);
	print(name, &added);
}

static double cpu_ns(measure_fn *run, void *arg)
{
	struct timespec from, to;

	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	run(arg, IO_CALLS);
	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return ((double) (to.tv_sec - from.tv_sec) * 1e9 +
		(double) (to.tv_nsec - from.tv_nsec)) / IO_CALLS;
}

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

static void compare_io(const char *key, measure_fn *bare, measure_fn *with, struct io *io)
{
	static double base[IO_PAIRS], added[IO_PAIRS];

	for (int i = 0; i < IO_PAIRS; i++) {
		/* Neither is always the first of a pair. */
		const double first = cpu_ns(i % 2 ? with : bare, io);
		const double second = cpu_ns(i % 2 ? bare : with, io);

		base[i] = i % 2 ? second : first;
		added[i] = i % 2 ? first - second : second - first;
	}
	qsort(base, IO_PAIRS, sizeof(base[0]), by_size);
	qsort(added, IO_PAIRS, sizeof(added[0]), by_size);
	printf("%s.bare %.2f\n", key, base[IO_PAIRS / 2]);
	printf("%s.added %.2f %.2f %.2f\n", key, added[IO_PAIRS / 2], added[IO_RANK_LOW],
	       added[IO_RANK_HIGH]);
}

static int run_io(void)
{
	/* One tracked connection is open, so that the table of descriptors has a page. */
	const int server = listener();
	const int tracked = connect_to(&program_calls, &listening);
	struct io null = { .fd = open("/dev/null", O_RDWR | O_CLOEXEC) };
	struct io datagram = { .fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) };

	compare_io("write", write_loop_bare, write_loop_shim, &null);
	compare_io("read", read_loop_bare, read_loop_shim, &null);
	compare_io("send", send_loop_bare, send_loop_shim, &datagram);
	(void) close(tracked);
	(void) close(server);
	return 0;
}

static int run_connect(void)
{
	int server = listener();

	compare("connect", connect_loop_bare, connect_loop_shim, &server, CONNECT_CALLS);
	(void) close(server);
	return 0;
}

/* First what the kernel takes to refuse, then what an open breaker takes. */
static int run_refused(void)
{
	const int server = listener();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	void *arg = &fd;

	(void) close(server);

	const struct measure kernel =
		measure_run(nothing, refused_loop_bare, &arg, 1, REFUSED_CALLS / 10);

	refused_loop_shim(&fd, 10); /* opens it */

	const struct measure ours =
		measure_run(nothing, refused_loop_shim, &arg, 1, REFUSED_CALLS);

	print("refused.kernel", &kernel);
	print("refused.ours", &ours);
	return 0;
}

/* ---- for callgrind: the same call N times, as the program would ---- */

/* Not static, and in one piece: callgrind finds them by name. clang makes no clones. */
#if __has_attribute(noclone)
#define WHOLE __attribute__((noinline, noclone))
#else
#define WHOLE __attribute__((noinline))
#endif

void counted_write(int fd, long n);
void counted_read(int fd, long n);
void counted_send(int fd, long n);

WHOLE void counted_write(int fd, long n)
{
	for (long i = 0; i < n; i++)
		(void) write(fd, "x", 1);
}

WHOLE void counted_read(int fd, long n)
{
	char byte;

	for (long i = 0; i < n; i++)
		(void) read(fd, &byte, 1);
}

WHOLE void counted_send(int fd, long n)
{
	for (long i = 0; i < n; i++)
		(void) send(fd, "x", 1, MSG_NOSIGNAL);
}

static int run_counted(const char *what, long n)
{
	const int server = listener();
	const int tracked = connect_to(&program_calls, &listening);
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Once before counting: lazy binding takes thousands of instructions. */
	for (int i = 0; i < 2; i++) {
		const long calls = i == 0 ? 1 : n;

		if (strcmp(what, "write") == 0)
			counted_write(null, calls);
		else if (strcmp(what, "read") == 0)
			counted_read(null, calls);
		else
			counted_send(datagram, calls);
	}
	(void) close(tracked);
	(void) close(server);
	return 0;
}

/* ---- memory ---- */

static void print_memory(const char *when)
{
	static const char *const fields[] = { "Rss:", "Private_Clean:", "Private_Dirty:",
					      "Shared_Clean:", "Shared_Dirty:" };
	static char text[4096];
	const int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (n < 0)
		die("/proc/self/smaps_rollup");
	text[n] = '\0';
	(void) close(fd);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const char *at = strstr(text, fields[i]);

		printf("memory.%s.%.*s %ld\n", when, (int) strlen(fields[i]) - 1, fields[i],
		       at != NULL ? strtol(at + strlen(fields[i]), NULL, 10) : 0);
	}
}

static int run_memory(void)
{
	const int server = listener();

	setvbuf(stdout, NULL, _IOFBF, 4096);
	print_memory("before");

	const int fd = connect_to(&program_calls, &listening);
	const int peer = accept(server, NULL, NULL);
	char byte = 'x';

	if (send(peer, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
		die("one byte");
	(void) close(fd);
	(void) close(peer);
	print_memory("after");
	return 0;
}

/* ---- start-up ---- */

static double now_ms(void)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec * 1e3 + (double) ts.tv_nsec / 1e6;
}

static double spawn_ms(char *const argv[], char *const envp[])
{
	const double before = now_ms();
	int status;
	pid_t pid;

	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, envp) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		die(argv[0]);
	return now_ms() - before;
}

static void print_ranks(const char *key, double values[MEASURE_ROUNDS])
{
	qsort(values, MEASURE_ROUNDS, sizeof(values[0]), by_size);
	printf("%s %.4f %.4f %.4f\n", key, values[MEASURE_ROUNDS / 2], values[RANK_LOW],
	       values[RANK_HIGH]);
}

/* The preload of each kind: none, an object that does nothing, and ours. */
static int run_start(const char *program, char *const preloads[2], char *dir)
{
	char *const argv[] = { (char *) program, NULL };
	double bare[MEASURE_ROUNDS], empty[MEASURE_ROUNDS], ours[MEASURE_ROUNDS];

	for (int round = 0; round < MEASURE_ROUNDS; round++) {
		double best[3] = { 1e9, 1e9, 1e9 };

		for (int i = 0; i < SPAWNS * 3; i++) {
			char *const envp[] = { dir, i % 3 > 0 ? preloads[i % 3 - 1] : NULL, NULL };
			const double ms = spawn_ms(argv, envp);

			if (ms < best[i % 3])
				best[i % 3] = ms;
		}
		bare[round] = best[0];
		empty[round] = best[1] - best[0];
		ours[round] = best[2] - best[0];
	}
	print_ranks("start.bare", bare);
	print_ranks("start.empty", empty);
	print_ranks("start.ours", ours);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	fill_both();
	if (strcmp(what, "io") == 0)
		return run_io();
	if (strcmp(what, "connect") == 0)
		return run_connect();
	if (strcmp(what, "refused") == 0)
		return run_refused();
	if (strcmp(what, "memory") == 0)
		return run_memory();
	if (strcmp(what, "counted") == 0 && argc == 4)
		return run_counted(argv[2], strtol(argv[3], NULL, 10));
	if (strcmp(what, "start") == 0 && argc == 6)
		return run_start(argv[2], argv + 3, argv[5]);
	fprintf(stderr, "usage: hook-loops io|connect|refused|memory\n"
			"       hook-loops counted write|read|send CALLS\n"
			"       hook-loops start PROGRAM LD_PRELOAD=… LD_PRELOAD=… AGENTSHIM_DIR=…\n");
	return 2;
}
