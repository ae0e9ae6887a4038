/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that this one starts go on in its trace: TRACEPARENT, and TRACESTATE where there is
 * one, are of what the calling thread works on. A TRACEPARENT that the program chose stays.
 *
 * All of it lies on the stack, as vfork children and handlers come here, and none of ours or
 * of the host's is written to. What libc starts by itself, system(3) and popen(3), it starts
 * past any hook.
 */
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"
#include "core/propagate.h"
#include "core/text.h"
#include "shim/current.h"
#include "shim/life.h"
#include "shim/real.h"

#define VARIABLES_MAX 2048 /* 16 KiB of stack; whoever has more keeps them as they are */

#define PARENT "TRACEPARENT="
#define STATE  "TRACESTATE="

/* What a program is started with, and by which of libc's functions. */
struct start {
	enum way { BY_EXECVE, BY_EXECV, BY_EXECVPE, BY_EXECVP, BY_FEXECVE, BY_EXECVEAT, BY_SPAWN,
		   BY_SPAWNP } way;
	const char *file; /* NULL with BY_FEXECVE */
	char *const *argv;
	int fd, flags;
	pid_t *pid;
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attributes;
};

/* Variables of ours; "" for none. */
struct carried {
	char parent[sizeof(PARENT) - 1 + CONTEXT_TRACEPARENT_SIZE];
	char state[sizeof(STATE) - 1 + CURRENT_STATE_MAX + 1];
	char was[sizeof(CURRENT_WAS) + 128];
};

#define CARRIED_MAX 3

/* @envp NULL: the way itself takes the process's, or there is to be none. */
static int go(const struct start *s, char *const envp[])
{
	switch (s->way) {
	case BY_EXECVE:
		return real.execve(s->file, s->argv, envp);
	case BY_EXECV:
		return real.execv(s->file, s->argv);
	case BY_EXECVPE:
		return real.execvpe(s->file, s->argv, envp);
	case BY_EXECVP:
		return real.execvp(s->file, s->argv);
	case BY_FEXECVE:
		return real.fexecve(s->fd, s->argv, envp);
	case BY_EXECVEAT:
		return real.execveat(s->fd, s->file, s->argv, envp, s->flags);
	case BY_SPAWN:
		return real.posix_spawn(s->pid, s->file, s->actions, s->attributes, s->argv, envp);
	case BY_SPAWNP:
		return real.posix_spawnp(s->pid, s->file, s->actions, s->attributes, s->argv, envp);
	}
	return -1;
}

static bool is_variable(const char *entry, const char *name)
{
	return strncmp(entry, name, strlen(name)) == 0;
}

/* Is nothing lost when our variables take the place of those in @envp? How many are there? */
static bool ours_to_set(char *const envp[], size_t *ret_n)
{
	const char *const started_with = current_started_with();
	size_t n = 0;

	for (; envp != NULL && envp[n] != NULL; n++) {
		if (n == VARIABLES_MAX)
			return false;
		if (is_variable(envp[n], PARENT) &&
		    (*started_with == '\0' ||
		     strcmp(envp[n] + strlen(PARENT), started_with) != 0))
			return false;
	}
	*ret_n = n;
	return true;
}

static void carry(const struct start *s, const struct context *own, const char *state,
		  struct carried *ret)
{
	struct text t = text_in(ret->state, sizeof(ret->state));
	struct text was = text_in(ret->was, sizeof(ret->was));

	memcpy(ret->parent, PARENT, strlen(PARENT));
	propagate_traceparent(own, ret->parent + strlen(PARENT));
	if (*state != '\0') {
		text_add(&t, STATE);
		text_add(&t, state);
	}
	if (s->file == NULL || *current_started_with() == '\0' || !current_is_helper(s->file))
		return;
	text_add(&was, CURRENT_WAS "=");
	text_add(&was, current_started_with());
}

static void lay_out(char **to, char *const envp[], size_t n, struct carried *c)
{
	char *const ours[CARRIED_MAX] = { c->parent, c->state, c->was };

	for (size_t i = 0; i < n; i++)
		if (!is_variable(envp[i], PARENT) && !is_variable(envp[i], STATE))
			*to++ = envp[i];
	for (size_t i = 0; i < CARRIED_MAX; i++)
		if (*ours[i] != '\0')
			*to++ = ours[i];
	*to = NULL;
}

/* That way of starting a program which takes an environment. */
static struct start taking_one(const struct start *s)
{
	struct start other = *s;

	if (s->way == BY_EXECV)
		other.way = BY_EXECVE;
	if (s->way == BY_EXECVP)
		other.way = BY_EXECVPE;
	return other;
}

static bool too_big(const struct start *s, int rc)
{
	return s->way == BY_SPAWN || s->way == BY_SPAWNP ? rc == E2BIG : errno == E2BIG;
}

/* In a frame of its own, so that only those who need the room have it. */
static int __attribute__((noinline)) go_with(const struct start *s, char *const envp[],
					     const struct context *own, const char *state)
{
	const struct start other = taking_one(s);
	struct carried c;
	size_t n;
	int rc;

	if (!ours_to_set(envp, &n))
		return go(s, envp);
	carry(s, own, state, &c);

	char **const with = __builtin_alloca((n + CARRIED_MAX + 1) * sizeof(*with));

	lay_out(with, envp, n, &c);
	rc = go(&other, with);
	/* It may have fitted without our few bytes. */
	return too_big(&other, rc) ? go(s, envp) : rc;
}

static int start(const struct start *s, char *const envp[])
{
	char state[CURRENT_STATE_MAX + 1];
	struct context own;

	if (!armed || !settings->trace || !life_acts() || !current_for_children(&own, state))
		return go(s, envp);
	return go_with(s, envp, &own, state);
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	const struct start s = { BY_EXECVE, .file = path, .argv = argv };

	return start(&s, envp);
}

EXPORT int execv(const char *path, char *const argv[])
{
	const struct start s = { BY_EXECV, .file = path, .argv = argv };

	return start(&s, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	const struct start s = { BY_EXECVPE, .file = file, .argv = argv };

	return start(&s, envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	const struct start s = { BY_EXECVP, .file = file, .argv = argv };

	return start(&s, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	const struct start s = { BY_FEXECVE, .fd = fd, .argv = argv };

	return start(&s, envp);
}

EXPORT int execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	const struct start s = {
		BY_EXECVEAT, .fd = fd, .file = path, .argv = argv, .flags = flags
	};

	return start(&s, envp);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	const struct start s = { BY_SPAWN,	.file = path,	     .argv = argv,
				 .pid = pid,	.actions = actions, .attributes = attributes };

	return start(&s, envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attributes, char *const argv[],
			char *const envp[])
{
	const struct start s = { BY_SPAWNP,	.file = file,	     .argv = argv,
				 .pid = pid,	.actions = actions, .attributes = attributes };

	return start(&s, envp);
}

/* ---- arguments one by one ---- */

/* How many there are from the second on; the NULL at the end is taken as well. */
static size_t count_of(va_list args)
{
	size_t n = 0;

	while (va_arg(args, const char *) != NULL)
		n++;
	return n;
}

/* @with_environment: one follows the NULL (execle); else the process's is meant. */
static int start_list(enum way way, const char *file, const char *first, va_list args,
		      bool with_environment)
{
	va_list again;
	size_t n = 0;

	va_copy(again, args);
	n = first != NULL ? 1 + count_of(again) : 0;
	va_end(again);

	/* As many as libc itself would take room for. */
	char **const argv = __builtin_alloca((n + 1) * sizeof(*argv));
	const struct start s = { way, .file = file, .argv = argv };

	argv[0] = (char *) first;
	for (size_t i = 1; i <= n; i++)
		argv[i] = va_arg(args, char *);
	return start(&s, with_environment ? va_arg(args, char *const *) : environ);
}

EXPORT int execl(const char *path, const char *arg, ...)
{
	va_list args;

	va_start(args, arg);
	const int rc = start_list(BY_EXECV, path, arg, args, false);

	va_end(args);
	return rc;
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	va_list args;

	va_start(args, arg);
	const int rc = start_list(BY_EXECVP, file, arg, args, false);

	va_end(args);
	return rc;
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	va_list args;

	va_start(args, arg);
	const int rc = start_list(BY_EXECVE, path, arg, args, true);

	va_end(args);
	return rc;
}
