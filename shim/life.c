/* SPDX-License-Identifier: Apache-2.0 */
/* Loading, forking, ending. */
#include "shim/life.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/rcu.h"
#include "shim/curl.h"
#include "shim/current.h"
#include "shim/dlopen.h"
#include "shim/guard.h"
#include "shim/own.h"
#include "shim/peer.h"
#include "shim/raw.h"
#include "shim/real.h"
#include "shim/report.h"
#include "shim/sandbox.h"
#include "shim/shared.h"
#include "shim/stream.h"

#define ARGUMENTS_MAX  64 /* a script's name stands among the first of them */
#define ARGUMENTS_SIZE 4096
#define WALL_STANDS_NS NS_PER_MS

static struct life first_life; /* until there is a page, and where there is none */
struct life *life = &first_life;

static struct config config;
const struct config *settings = &config;
bool armed;

__thread struct guard guard __attribute__((tls_model("initial-exec")));

static _Atomic uint32_t forks;
static uint64_t pidns;
static char argument_text[ARGUMENTS_SIZE];
static const char *arguments[ARGUMENTS_MAX];
static int n_arguments;

/* Told by the name whether another copy of us came first; also the one way to ask a version. */
EXPORT extern const char agentshim_version[];
const char agentshim_version[] = AGENTSHIM_VERSION;

uint32_t life_pid(void)
{
	uint32_t pid = atomic_load_explicit(&life->pid, memory_order_relaxed);

	if (pid == 0) {
		pid = (uint32_t) raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
		atomic_store_explicit(&life->start, clock_now(), memory_order_relaxed);
		atomic_store_explicit(&life->pid, pid, memory_order_relaxed);
	}
	return pid;
}

uint32_t life_tid(void)
{
	const uint32_t pid = life_pid();

	/* A forked child's first thread has its parent's memory, this included. */
	if (guard.tid_of != pid) {
		guard.tid = (uint32_t) raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
		guard.tid_of = pid;
	}
	return guard.tid;
}

uint64_t life_wall(uint64_t now)
{
	/* Also after a step back, as into another time namespace: the difference goes round. */
	if (now - guard.wall_at >= WALL_STANDS_NS) {
		guard.wall_at = now;
		guard.wall_ahead = clock_wall() - now;
	}
	return now + guard.wall_ahead;
}

bool life_acts(void)
{
	return armed && !atomic_load_explicit(&sandboxed, memory_order_relaxed);
}

bool life_own_memory(void)
{
	if (atomic_load_explicit(&sandboxed, memory_order_relaxed))
		return false;
	return life_pid() == (uint32_t) raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

bool life_gone(uint32_t pid)
{
	return raw_syscall(SYS_kill, (long) pid, 0, 0, 0, 0, 0) == -ESRCH;
}

uint32_t life_forks(void)
{
	return atomic_load_explicit(&forks, memory_order_relaxed);
}

uint64_t life_pidns(void)
{
	return pidns;
}

int life_argc(void)
{
	return n_arguments;
}

const char *const *life_argv(void)
{
	return arguments;
}

void life_lent(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void before_fork(void)
{
	life_lent();
	rcu_before_fork();
}

static void after_fork_parent(void)
{
	rcu_after_fork_parent();
}

static void after_fork_child(void)
{
	rcu_after_fork_child();
	/* Where the kernel does not wipe the page, this does; _Fork then goes unnoticed. */
	memset(life, 0, sizeof(*life));
	guard.unanswered = 0; /* its parent answers what it has read */
}

/* Copied: nginx writes over environment and arguments alike. */
static void keep_arguments(int argc, char **argv)
{
	size_t used = 0;

	for (int i = 0; i < argc && i < ARGUMENTS_MAX; i++) {
		const size_t size = strlen(argv[i]) + 1;

		if (size > sizeof(argument_text) - used)
			break;
		memcpy(argument_text + used, argv[i], size);
		arguments[n_arguments++] = argument_text + used;
		used += size;
	}
}

static void get_page(void)
{
	void *page = mmap(NULL, (size_t) sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	(void) madvise(page, (size_t) sysconf(_SC_PAGESIZE), MADV_WIPEONFORK);
	life = page;
}

/* A second copy finds the first one's name before its own: in C, too, so where it lies tells. */
static bool first_copy(void)
{
	const void *seen = dlsym(RTLD_DEFAULT, "agentshim_version");

	return seen == NULL || real_is_ours(seen);
}

static const char *setting(void *arg, const char *name)
{
	(void) arg;
	return secure_getenv(name);
}

static uint64_t namespace_of_pids(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

/* glibc hands constructors what main() gets. */
__attribute__((constructor)) static void load(int argc, char **argv, char **envp)
{
	const int saved = errno;

	(void) envp;
	if (!real_fill() || getauxval(AT_SECURE) != 0 || !first_copy())
		goto out;
	config_from_environment(setting, NULL, &config);
	if (config.disabled)
		goto out;
	keep_arguments(argc, argv);
	get_page();
	pidns = namespace_of_pids();
	peer_load();
	shared_load();
	report_load();
	current_load(shared_executable(), setting);
	dlopen_load(shared_executable());
	if (pthread_atfork(before_fork, after_fork_parent, after_fork_child) != 0)
		goto out;
	armed = true;
out:
	errno = saved;
}

__attribute__((destructor)) static void unload(void)
{
	const int saved = errno;

	if (armed && life_own_memory() && guard_enter()) {
		own_end_all();
		curl_settle_all();
		stream_settle_all();
		guard_leave();
	}
	/* Other destructors still close descriptors; we have said our last word. */
	armed = false;
	errno = saved;
}
