/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ld.so says nothing when it leaves a preload out, so `agentshim run` looks before: programs
 * that have no ld.so, another one, or one that runs in secure mode are refused with a reason.
 */
#include "tools/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/text.h"
#include "tools/module.h"
#include "tools/tool.h"

static bool __attribute__((format(printf, 2, 3))) refuse(char *ret_reason, const char *format, ...)
{
	char raw[PROGRAM_REASON_SIZE];
	struct text t = text_in(ret_reason, PROGRAM_REASON_SIZE);
	va_list args;

	va_start(args, format);
	(void) vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	text_add_shown(&t, raw, sizeof(raw)); /* an interpreter's name comes out of a file */
	return false;
}

static bool runnable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int program_find(const char *command, char ret_path[PATH_MAX])
{
	const char *search = getenv("PATH");
	int rc = TOOL_NOT_FOUND;

	if (strchr(command, '/') != NULL) {
		if (snprintf(ret_path, PATH_MAX, "%s", command) >= PATH_MAX ||
		    access(command, F_OK) < 0)
			return TOOL_NOT_FOUND;
		return runnable(command) ? 0 : TOOL_NOT_EXECUTABLE;
	}
	if (search == NULL)
		search = "/bin:/usr/bin"; /* as execvp(3) */
	for (;;) {
		const size_t n = strcspn(search, ":");

		if (*command != '\0' &&
		    snprintf(ret_path, PATH_MAX, "%.*s%s%s", (int) n, search, n > 0 ? "/" : "./",
			     command) < PATH_MAX && access(ret_path, F_OK) == 0) {
			if (runnable(ret_path))
				return 0;
			rc = TOOL_NOT_EXECUTABLE;
		}
		if (search[n] == '\0')
			return rc;
		search += n + 1;
	}
}

/* ---- secure mode ---- */

/* Where setuid bits and capabilities mean nothing, the loader's secure mode stays away too. */
static bool privileges_ignored(int fd)
{
	struct statvfs fs;

	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
	       (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0);
}

bool program_has_capabilities(int fd)
{
	char caps[64];

	return fgetxattr(fd, "security.capability", caps, sizeof(caps)) >= 0;
}

bool program_unprivileged(const char *path, int fd, const struct stat *st, char *ret_reason)
{
	if (privileges_ignored(fd))
		return true;
	if ((st->st_mode & S_ISUID) != 0 && st->st_uid != getuid())
		return refuse(ret_reason, "%s is setuid: the loader drops preloads there", path);
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getgid())
		return refuse(ret_reason, "%s is setgid: the loader drops preloads there", path);
	/* Root gains nothing by a file's capabilities, so nothing is secure mode to him. */
	if (getuid() != 0 && program_has_capabilities(fd))
		return refuse(ret_reason,
			      "%s has file capabilities: the loader drops preloads there", path);
	return true;
}

/* ---- binaries ---- */

static bool loader_fits(const char *path, const struct module_facts *elf, const char *shim,
			char *ret_reason)
{
	const int fd = open(shim, O_RDONLY | O_CLOEXEC);
	const char *const name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	const char *const machine = module_machine_name(elf->machine);
	struct module_facts own;
	const bool known = fd >= 0 && module_examine(fd, &own);

	if (fd >= 0)
		(void) close(fd);
	if (!known)
		return refuse(ret_reason, "%s: cannot be read", shim);
	if (elf->class != own.class || elf->data != own.data || elf->machine != own.machine)
		return refuse(ret_reason, "%s is built for another machine (%s) than agentshim (%s)",
			      path, machine != NULL ? machine : "unknown",
			      module_machine_name(own.machine));
	if (!elf->interpreted) {
		/* The loader itself, run as a program, has none either. */
		if (strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "ld.so", 5) == 0)
			return true;
		return refuse(ret_reason, "%s is linked statically: no loader reads LD_PRELOAD",
			      path);
	}
	if (strstr(elf->interpreter, "ld-musl") != NULL)
		return refuse(ret_reason, "%s is built for musl (%s): agentshim needs glibc", path,
			      elf->interpreter);
	if (strstr(elf->interpreter, "/linker") != NULL)
		return refuse(ret_reason, "%s is built for Android (%s): agentshim needs glibc",
			      path, elf->interpreter);
	return true;
}

/* ---- scripts ---- */

/* The next word of @at; false at the end of the line. @at moves behind it. */
static bool next_word(char **at, char **ret_word)
{
	*at += strspn(*at, " \t");
	*ret_word = *at;
	*at += strcspn(*at, " \t");
	if (**at != '\0')
		*(*at)++ = '\0';
	return **ret_word != '\0';
}

/* `#!/usr/bin/env -S NAME=VALUE python3 -u`: what env runs is the program. */
static const char *run_by_env(char *at)
{
	char *word;

	while (next_word(&at, &word)) {
		if (word[0] != '-' && strchr(word, '=') == NULL)
			return word;
	}
	return NULL;
}

bool program_script(int fd, struct program_script *ret)
{
	const ssize_t n = pread(fd, ret->line, sizeof(ret->line) - 1, 0);
	char *at = ret->line + 2, *interpreter;

	if (n <= 2 || ret->line[0] != '#' || ret->line[1] != '!')
		return false;
	ret->line[n] = '\0';
	ret->line[strcspn(ret->line, "\n")] = '\0';
	ret->interpreter = next_word(&at, &interpreter) ? interpreter : NULL;
	ret->command = NULL;
	if (ret->interpreter == NULL)
		return true;

	const char *const name = strrchr(interpreter, '/');

	if (strcmp(name != NULL ? name + 1 : interpreter, "env") == 0)
		ret->command = run_by_env(at);
	return true;
}

static bool reached(const char *path, const char *shim, unsigned depth, char *ret_reason);

static bool script_reached(const struct program_script *s, const char *shim, unsigned depth,
			   char *ret_reason)
{
	char path[PATH_MAX];

	if (s->interpreter == NULL)
		return true; /* execve(2) will say what is wrong */
	if (!reached(s->interpreter, shim, depth, ret_reason))
		return false;
	return s->command == NULL || program_find(s->command, path) != 0 ||
	       reached(path, shim, depth, ret_reason);
}

static bool reached(const char *path, const char *shim, unsigned depth, char *ret_reason)
{
	struct program_script script;
	struct module_facts elf;
	struct stat st;
	const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	bool ok = true;

	if (fd < 0)
		/* Unreadable, it may still run; its mode bits can be seen all the same. */
		return stat(path, &st) < 0 || program_unprivileged(path, -1, &st, ret_reason);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		ok = true; /* execve(2) will say what is wrong */
	else if (module_examine(fd, &elf))
		ok = program_unprivileged(path, fd, &st, ret_reason) &&
		     loader_fits(path, &elf, shim, ret_reason);
	else if (program_script(fd, &script))
		ok = depth < PROGRAM_SCRIPTS_MAX
			     ? script_reached(&script, shim, depth + 1, ret_reason)
			     : refuse(ret_reason, "%s: scripts within scripts", path);
	else if (depth < PROGRAM_SCRIPTS_MAX)
		ok = reached("/bin/sh", shim, depth + 1, ret_reason); /* as execvp(3) */
	(void) close(fd);
	return ok;
}

bool program_reached(const char *path, const char *shim, char *ret_reason)
{
	return reached(path, shim, 0, ret_reason);
}
