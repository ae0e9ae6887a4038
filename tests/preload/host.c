/* SPDX-License-Identifier: Apache-2.0 */
/* Starting under the shim, peers in one thread, and a look at the state file. */
#include "tests/preload/host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/raw.h"
#include "core/segment.h"
#include "core/state.h"

#define LAST_RESORT_S 120

static char dir[64];

static int drop(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static void set_up(const char *const *extra)
{
	static const char *const common[] = {
		"AGENTSHIM_SERVICE=preload-test",
		"AGENTSHIM_CONSECUTIVE_FAILURES=2",
		"AGENTSHIM_MAX_REQUESTS=1",
		"AGENTSHIM_TIMEOUT=10s",
		"AGENTSHIM_INTERVAL=0",
		"AGENTSHIM_PATIENCE=1h",
		"AGENTSHIM_RULES=127.64.0.0/10 patience=1ms",
		NULL,
	};

	for (int i = 0; common[i] != NULL; i++)
		(void)putenv((char *)common[i]);
	for (int i = 0; extra != NULL && extra[i] != NULL; i++)
		(void)putenv((char *)extra[i]);
	(void)setenv("AGENTSHIM_DIR", dir, 1);
	(void)setenv("LD_PRELOAD", getenv("SHIM"), 1);
	(void)setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 1);
}

void host_start(int argc, char **argv, const char *const *extra)
{
	const char *given = getenv("AGENTSHIM_DIR");
	int status;

	(void)argc;
	(void)alarm(LAST_RESORT_S);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (given != NULL) {
		(void)snprintf(dir, sizeof(dir), "%s", given);
		return;
	}
	(void)strcpy(dir, "/tmp/agentshim-preload-XXXXXX");
	if (getenv("SHIM") == NULL || mkdtemp(dir) == NULL) {
		puts("Bail out! SHIM must name the built object, and /tmp be writable");
		exit(1);
	}

	const pid_t pid = fork();

	if (pid == 0) {
		set_up(extra);
		(void)execv("/proc/self/exe", argv);
		_exit(127);
	}
	(void)waitpid(pid, &status, 0);
	(void)nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

const char *host_dir(void)
{
	return dir;
}

/* ---- peers ---- */

static struct peer peer_at(uint32_t address, bool listening)
{
	struct peer p = {.addr = {.sin_family = AF_INET}};
	socklen_t len = sizeof(p.addr);
	char host[INET_ADDRSTRLEN];

	p.addr.sin_addr.s_addr = htonl(address);
	p.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(p.listener >= 0);
	assert_int_equal(bind(p.listener, (struct sockaddr *)&p.addr, len), 0);
	if (listening)
		assert_int_equal(listen(p.listener, 64), 0);
	assert_int_equal(getsockname(p.listener, (struct sockaddr *)&p.addr, &len), 0);
	(void)inet_ntop(AF_INET, &p.addr.sin_addr, host, sizeof(host));
	(void)snprintf(p.key, sizeof(p.key), "%s:%u", host, ntohs(p.addr.sin_port));
	return p;
}

static uint32_t next_address(uint32_t net)
{
	static uint32_t n;

	return net + 0x100 + ++n;
}

struct peer peer_listening(void)
{
	return peer_at(next_address(0x7f010000), true);
}

struct peer peer_refusing(void)
{
	return peer_at(next_address(0x7f010000), false);
}

struct peer peer_silent(void)
{
	return peer_at(next_address(0x7f400000), true);
}

struct peer peer_local(bool listening)
{
	struct peer p = peer_at(INADDR_LOOPBACK, listening);

	/* Not given back: a port used again would meet the breaker of its former owner.
	 */
	return p;
}

/* Loopback shakes hands within connect(2), so a connection that is not there at once hangs. */
struct peer peer_hanging(bool impatient)
{
	struct peer p = peer_at(next_address(impatient ? 0x7f400000 : 0x7f010000), false);

	assert_int_equal(listen(p.listener, 0), 0);
	for (;;) {
		const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		struct pollfd ready = { .fd = fd, .events = POLLOUT };

		assert_true(fd >= 0);
		(void) past_hooks(SYS_connect, fd, (long) &p.addr, sizeof(p.addr), 0, 0, 0);
		if (poll(&ready, 1, 0) == 0)
			return p; /* the fillers stay open with this program */
	}
}

void peer_heal(struct peer *p)
{
	assert_int_equal(listen(p->listener, 64), 0);
}

int peer_accept(const struct peer *p)
{
	/* Past the hooks: a peer is another program than the one under the shim. */
	const long fd = past_hooks(SYS_accept4, p->listener, 0, 0, SOCK_CLOEXEC, 0, 0);

	if (fd >= 0)
		return (int) fd;
	errno = (int) -fd;
	return -1;
}

void peer_reset(int fd)
{
	const struct linger at_once = {1, 0};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)),
			 0);
	assert_int_equal(close(fd), 0);
}

int tcp_socket(void)
{
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

int tcp_connect(int fd, const struct peer *p)
{
	return connect(fd, (const struct sockaddr *)&p->addr, sizeof(p->addr));
}

int tcp_connected(const struct peer *p)
{
	const int fd = tcp_socket();

	assert_int_equal(tcp_connect(fd, p), 0);
	return fd;
}

void wait_for(int fd, short events)
{
	struct pollfd ready = {.fd = fd, .events = events};

	assert_int_equal(poll(&ready, 1, -1), 1);
}

void patience_passes(void)
{
	const struct itimerspec twice = {.it_value.tv_nsec = 2 * NS_PER_MS};
	const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t times;

	assert_int_equal(timerfd_settime(timer, 0, &twice, NULL), 0);
	assert_int_equal(read(timer, &times, sizeof(times)), sizeof(times));
	(void)raw_close(timer);
}

/* ---- breakers ---- */

/* The only *.state file there; mapped once. */
static struct state *table(void)
{
	static struct state *state;
	char path[512];
	DIR *d = state == NULL ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d != NULL && state == NULL && (e = readdir(d)) != NULL) {
		const size_t len = strlen(e->d_name);

		if (len < 6 || strcmp(e->d_name + len - 6, ".state") != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);

		const int fd = open(path, O_RDWR | O_CLOEXEC);
		char *map = mmap(NULL, SEGMENT_BODY_OFFSET + sizeof(struct state),
				 PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		assert_true(map != MAP_FAILED);
		(void)raw_close(fd);
		state = (struct state *)(map + SEGMENT_BODY_OFFSET);
	}
	if (d != NULL)
		(void)closedir(d);
	return state;
}

static struct state_slot *slot_of(const char *key)
{
	struct state *state = table();
	char peer[STATE_PEER_SIZE];
	struct state_ref ref;

	for (uint32_t i = 0; state != NULL && i < STATE_SLOTS; i++)
		if (state_read(state, i, peer, &ref) && strcmp(peer, key) == 0)
			return &state->slots[i];
	return NULL;
}

struct breaker *breaker_of(const char *key)
{
	struct state_slot *slot = slot_of(key);

	return slot != NULL ? &slot->breaker : NULL;
}

void peer_drop(struct peer *p)
{
	struct state_slot *slot = slot_of(p->key);

	if (slot != NULL)
		atomic_store(&slot->hash, 0);
	(void)close(p->listener);
	p->listener = -1;
}

enum breaker_state state_of(const char *key)
{
	const struct breaker *b = breaker_of(key);

	return b != NULL ? breaker_peek(b, NULL, NULL) : BREAKER_CLOSED;
}

struct breaker_totals totals_of(const char *key)
{
	const struct breaker *b = breaker_of(key);

	return b != NULL ? breaker_totals(b) : (struct breaker_totals){0};
}

uint64_t host_counted(enum metrics_counter which)
{
	const struct state *state = table();
	static struct metrics_sums sums;

	if (state == NULL)
		return 0;
	metrics_sum(&state->metrics, &sums);
	return sums.counters[which];
}

uint64_t requests_of(const char *key)
{
	const struct breaker *b = breaker_of(key);
	struct breaker_counts counts = {0};

	if (b != NULL)
		(void)breaker_peek(b, NULL, &counts);
	return counts.requests;
}

void peer_rest(const char *key)
{
	struct breaker *b = breaker_of(key);

	assert_non_null(b);

	const uint64_t word = atomic_load(&b->word);

	assert_int_equal(breaker_peek(b, NULL, NULL), BREAKER_OPEN);
	/* breaker.h: `anchor_ns:62 | state:2`; the timeout is 10 s. */
	atomic_store(&b->word, word - ((11 * NS_PER_S) << 2));
}

void host_assert_totals(const char *key, uint64_t successes, uint64_t failures,
			uint64_t exclusions, const char *file, int line)
{
	const struct breaker_totals t = totals_of(key);

	if (t.successes == successes && t.failures == failures &&
	    t.exclusions == exclusions)
		return;
	print_message("# %s:%d: %s counted %ju successes, %ju failures, %ju exclusions; "
		      "expected %ju, %ju, %ju\n",
		      file, line, key, (uintmax_t)t.successes, (uintmax_t)t.failures,
		      (uintmax_t)t.exclusions, (uintmax_t)successes, (uintmax_t)failures,
		      (uintmax_t)exclusions);
	_fail(file, line);
}

/* By RST after accept, which any listening peer can do. */
void peer_trip(const struct peer *p)
{
	for (int i = 0; i < TRIP_AT; i++) {
		const int c = tcp_connected(p);
		char byte;

		peer_reset(peer_accept(p));
		wait_for(c, POLLIN);
		assert_int_equal(recv(c, &byte, 1, 0), -1);
		assert_int_equal(errno, ECONNRESET);
		assert_int_equal(close(c), 0);
	}
	assert_int_equal(state_of(p->key), BREAKER_OPEN);
}

/* ---- processes ---- */

int wait_status(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int child_status(int (*f)(void *), void *arg)
{
	int pipes[2], line = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -1;

	const pid_t pid = fork();

	if (pid == 0) {
		(void)alarm(LAST_RESORT_S);
		line = f(arg);
		(void)!write(pipes[1], &line,
			     sizeof(line)); /* a status has 8 bits only */
		_exit(line != 0);
	}
	(void)raw_close(pipes[1]);

	/* One that ended by other means than returning from @f has its exit status alone. */
	const bool said = read(pipes[0], &line, sizeof(line)) == (ssize_t)sizeof(line);

	(void)raw_close(pipes[0]);

	const int status = wait_status(pid);

	return status > 1000 || !said ? status : line;
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		(void)closedir(d);
	return n - 2; /* . and .. */
}

int count_descriptors(void)
{
	return entries("/proc/self/fd") - 1; /* the directory's own */
}

int count_threads(void)
{
	return entries("/proc/self/task");
}

long past_hooks(long nr, long a, long b, long c, long d, long e, long f)
{
	return raw_syscall(nr, a, b, c, d, e, f);
}

int raw_close(int fd)
{
	return (int)past_hooks(SYS_close, fd, 0, 0, 0, 0, 0);
}
