/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim span NAME -- COMMAND`: a step of a script as a span of its trace. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/home.h"
#include "core/propagate.h"
#include "core/ring.h"
#include "core/sampler.h"
#include "core/service.h"
#include "core/span.h"
#include "core/state.h"
#include "core/text.h"
#include "tools/program.h"
#include "tools/shelf.h"
#include "tools/tool.h"

/* What others send us is meant for the command: `run` would be it. */
static const int passed_on[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM,
				 SIGCONT, SIGWINCH };

#define N_PASSED_ON (sizeof(passed_on) / sizeof(passed_on[0]))

static volatile pid_t child; /* set while these signals are blocked */

/* ---- the span ---- */

static const char *get(void *arg, const char *name)
{
	(void) arg;
	return secure_getenv(name);
}

static void draw(void *to, size_t n)
{
	if (getrandom(to, n, 0) != (ssize_t) n) {
		complain("no random numbers: %s", strerror(errno));
		exit(TOOL_FAILED);
	}
}

static struct propagate_value variable(const char *name)
{
	const char *const value = getenv(name);

	return (struct propagate_value) { value, value != NULL ? strlen(value) : 0 };
}

/* A place below what TRACEPARENT names, or a trace of its own. True: there is a parent. */
static bool take_place(const struct config *c, struct context *ret, struct context *ret_parent)
{
	struct propagate_found found = { .remote_span = false };
	const bool parent = propagate_parse_traceparent(variable("TRACEPARENT"), ret_parent);

	if (parent) {
		found.context = *ret = *ret_parent;
		found.remote_span = true;
		found.decision = (ret->flags & CONTEXT_SAMPLED) != 0 ? PROPAGATE_ACCEPT
								     : PROPAGATE_DENY;
	} else {
		*ret = (struct context) { .flags = CONTEXT_RANDOM };
		draw(ret->trace_id, sizeof(ret->trace_id));
	}
	draw(ret->span_id, sizeof(ret->span_id));
	ret->flags &= (uint16_t) ~CONTEXT_SAMPLED;
	if (sampler_sample(&c->sampler, &found, ret->trace_id))
		ret->flags |= CONTEXT_SAMPLED;
	return parent;
}

/* A tracestate belongs to the traceparent beside it. */
static void set_variables(const struct context *own, bool parent)
{
	char value[CONTEXT_TRACEPARENT_SIZE];

	propagate_traceparent(own, value);
	if (setenv("TRACEPARENT", value, 1) < 0) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	if (!parent)
		(void) unsetenv("TRACESTATE");
}

/* ---- the command ---- */

/* The terminal sends its signals to all of its foreground, the command included. */
static void pass_on(int number, siginfo_t *info, void *context)
{
	const int saved = errno;

	(void) context;
	if (child > 0 && info->si_code <= 0)
		(void) kill(child, number);
	errno = saved;
}

/* What is ignored stays so, as nohup(1) wants it. */
static void listen_for_others(void (*handler)(int, siginfo_t *, void *))
{
	for (size_t i = 0; i < N_PASSED_ON; i++) {
		struct sigaction act = { .sa_flags = SA_SIGINFO | SA_RESTART };
		struct sigaction before;

		act.sa_sigaction = handler;
		if (handler == NULL)
			act = (struct sigaction) { .sa_handler = SIG_DFL };
		(void) sigemptyset(&act.sa_mask);
		(void) sigaction(passed_on[i], NULL, &before);
		if (before.sa_handler != SIG_IGN)
			(void) sigaction(passed_on[i], &act, NULL);
	}
}

static int __attribute__((noreturn)) become(const char *path, char **command)
{
	(void) execvp(path, command); /* with a slash in it: this file and no other */
	complain("%s: %s", path, strerror(errno));
	exit(errno == ENOENT ? TOOL_NOT_FOUND : TOOL_NOT_EXECUTABLE);
}

static void __attribute__((noreturn)) be_child(const char *path, char **command,
					       const sigset_t *mask, pid_t parent)
{
	listen_for_others(NULL);
	/* Whoever kills us outright means the command. */
	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(TOOL_FAILED);
	(void) sigprocmask(SIG_SETMASK, mask, NULL);
	become(path, command);
}

/* The command's status as waitpid(2) gives it. */
static int run_command(const char *path, char **command, pid_t *ret_pid)
{
	const pid_t self = getpid();
	sigset_t all, before;
	int status = 0;

	(void) sigfillset(&all);
	(void) sigprocmask(SIG_BLOCK, &all, &before);
	listen_for_others(pass_on);
	child = fork();
	if (child == 0)
		be_child(path, command, &before, self);
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
	if (child < 0) {
		complain("cannot start %s: %s", path, strerror(errno));
		exit(TOOL_FAILED);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	*ret_pid = child;
	child = 0; /* its number may be another's from now on */
	return status;
}

/* ---- the record ---- */

static uint64_t inode(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void name_service(const struct config *c, const char *exe, struct service *ret)
{
	const char *const argv[] = { "agentshim" };
	const struct service_facts facts = {
		.chosen = c->service,
		.otel = c->otel_service,
		.exe = exe,
		.argc = 1,
		.argv = argv,
		.netns = inode("/proc/self/ns/net"),
		.timens = inode("/proc/self/ns/time"),
	};

	service_identify(&facts, ret);
}

static bool open_file(const struct home *h, enum segment_kind kind, int dirfd, struct segment *ret,
		      char *ret_reason)
{
	char name[SERVICE_FILE_SIZE + 16];
	struct text t = text_in(name, sizeof(name));

	home_file(h->service, kind, &t);

	const struct segment_spec spec = home_spec(h, kind, dirfd, name, clock_wall());

	return segment_open(&spec, ret, ret_reason) == 0;
}

static void count(struct metrics *m, const struct event *e)
{
	const bool root = (e->span.bits & SPAN_HAS_PARENT) == 0;
	const bool error = e->span.result == SPAN_ERROR;

	metrics_add(m, e->pid, METRICS_SPANS_INTERNAL, 1);
	metrics_add(m, e->pid, METRICS_ROOTS_COMPLETED, 1); /* its parent is another process's */
	metrics_add(m, e->pid, METRICS_TRACES_STARTED, root);
	metrics_add(m, e->pid, METRICS_SPANS_ERROR, error);
	metrics_add(m, e->pid, METRICS_ROOTS_ERROR, error);
}

static bool write_span(const struct home *h, int dirfd, const struct event *e,
		       const struct event *more, char *ret_reason)
{
	struct segment state, spans;
	struct rings rings;

	if (!open_file(h, SEGMENT_STATE, dirfd, &state, ret_reason) ||
	    !open_file(h, SEGMENT_SPANS, dirfd, &spans, ret_reason))
		return false;
	count(&((struct state *) state.body)->metrics, e);
	if (!ring_open(spans.body, spans.size - SEGMENT_BODY_OFFSET, &rings)) {
		(void) snprintf(ret_reason, SEGMENT_REASON_SIZE,
				"its file of spans is of another version of agentshim");
		return false;
	}
	/* Ring 0 is everybody's; a ring of our own would outlive us by far. */
	(void) ring_write(&rings, 0, e);
	(void) ring_write(&rings, 0, more);
	return true;
}

/* Without it the command has run all the same. */
static void record(const struct config *c, const struct event *e, const struct event *more)
{
	char exe[SERVICE_PATH_SIZE], dir[CONFIG_PATH_SIZE], reason[SEGMENT_REASON_SIZE] = "";
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	struct text t = text_in(dir, sizeof(dir));
	struct service service;
	struct home home = {
		.service = &service,
		.creator = exe,
		.timens = inode("/proc/self/ns/time"),
		.span_records = c->span_records,
		.close_fd = close,
	};

	exe[n > 0 ? n : 0] = '\0';
	name_service(c, exe, &service);
	home_dir(c->dir, geteuid(), &t);
	shelf_boot_id(home.boot_id);

	const int dirfd = segment_dir(dir, geteuid(), close, reason);

	if (dirfd < 0 || !write_span(&home, dirfd, e, more, reason))
		complain("the span is not recorded: %s", reason);
	if (dirfd >= 0)
		(void) close(dirfd);
}

static void add_tags(struct event *more, const char *command, int status)
{
	char value[32];

	if (WIFEXITED(status)) {
		(void) snprintf(value, sizeof(value), "%d", WEXITSTATUS(status));
		(void) span_more_add(more, "process.exit.code", value, strlen(value));
	} else {
		const char *const name = sigabbrev_np(WTERMSIG(status));

		(void) snprintf(value, sizeof(value), "SIG%s", name != NULL ? name : "?");
		(void) span_more_add(more, "process.exit.signal", value, strlen(value));
	}
	(void) span_more_add(more, "process.command", command, strlen(command));
}

/* Our status is the command's; ended by a signal, we end so too, but dump no second core. */
static int pass_status(int status)
{
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	(void) prctl(PR_SET_DUMPABLE, 0);
	(void) signal(WTERMSIG(status), SIG_DFL);
	(void) sigemptyset(&set);
	(void) sigaddset(&set, WTERMSIG(status));
	(void) sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void) raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static int run_in_span(const struct config *c, const char *name, const char *path, char **command)
{
	struct context own, parent;
	const bool has_parent = take_place(c, &own, &parent);
	struct event e, more;
	pid_t pid;

	set_variables(&own, has_parent);
	span_begin(&e, SPAN_INTERNAL, &own, has_parent ? parent.span_id : NULL, clock_wall(),
		   clock_now());

	const int status = run_command(path, command, &pid);
	const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	span_texts(&e, name, strlen(name), NULL, 0, NULL, 0);
	span_end(&e, 0, well ? SPAN_NO_ERROR : SPAN_OTHER, clock_now());
	e.pid = e.tid = (uint32_t) pid;
	e.span.bits |= SPAN_MORE_FOLLOWS;
	if (has_parent)
		e.span.bits |= SPAN_PARENT_REMOTE;
	span_more_begin(&more, &e);
	add_tags(&more, command[0], status);
	if ((own.flags & CONTEXT_SAMPLED) != 0)
		record(c, &e, &more);
	return pass_status(status);
}

int span_main(int argc, char **argv)
{
	struct config *const config = take(1, sizeof(*config));
	char path[PATH_MAX];
	int at = 2;

	if (argc < 2)
		return usage("span", "which name?");
	if (argv[1][0] == '-')
		return usage("span", "unknown option %s", argv[1]);
	if (at < argc && strcmp(argv[at], "--") == 0)
		at++;
	if (at == argc)
		return usage("span", "which command?");

	const int found = program_find(argv[at], path);

	if (found != 0) {
		complain("%s: %s", argv[at],
			 found == TOOL_NOT_FOUND ? "no such command" : "not executable");
		return found;
	}
	config_from_environment(get, NULL, config);
	if (!config->trace || config->disabled)
		become(path, argv + at);

	const int rc = run_in_span(config, argv[1], path, argv + at);

	free(config);
	return rc;
}
