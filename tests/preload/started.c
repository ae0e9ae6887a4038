/* SPDX-License-Identifier: Apache-2.0 */
/* A row for each function that starts a program. */
#include "tests/preload/started.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/preload/host.h"

#define SHELL "/bin/sh"

static int by_execve(char *const argv[], char *const envp[])
{
	return execve(SHELL, argv, envp);
}

static int by_execv(char *const argv[], char *const envp[])
{
	environ = (char **) envp;
	return execv(SHELL, argv);
}

static int by_execvp(char *const argv[], char *const envp[])
{
	environ = (char **) envp;
	return execvp("sh", argv);
}

static int by_execvpe(char *const argv[], char *const envp[])
{
	return execvpe("sh", argv, envp);
}

static int by_execl(char *const argv[], char *const envp[])
{
	environ = (char **) envp;
	return execl(SHELL, argv[0], argv[1], argv[2], NULL);
}

static int by_execlp(char *const argv[], char *const envp[])
{
	environ = (char **) envp;
	return execlp("sh", argv[0], argv[1], argv[2], NULL);
}

static int by_execle(char *const argv[], char *const envp[])
{
	return execle(SHELL, argv[0], argv[1], argv[2], NULL, envp);
}

static int by_fexecve(char *const argv[], char *const envp[])
{
	return fexecve(open(SHELL, O_RDONLY | O_CLOEXEC), argv, envp);
}

static int by_execveat(char *const argv[], char *const envp[])
{
	return execveat(AT_FDCWD, SHELL, argv, envp, 0);
}

static int by_syscall_execve(char *const argv[], char *const envp[])
{
	return (int) syscall(SYS_execve, SHELL, argv, envp);
}

static int by_syscall_execveat(char *const argv[], char *const envp[])
{
	return (int) syscall(SYS_execveat, AT_FDCWD, SHELL, argv, envp, 0);
}

static int by_posix_spawn(char *const argv[], char *const envp[])
{
	pid_t pid;

	return posix_spawn(&pid, SHELL, NULL, NULL, argv, envp) == 0 ? pid : -1;
}

static int by_posix_spawnp(char *const argv[], char *const envp[])
{
	pid_t pid;

	return posix_spawnp(&pid, "sh", NULL, NULL, argv, envp) == 0 ? pid : -1;
}

const struct way ways[] = {
	{ "execve", by_execve, NULL },
	{ "execv", by_execv, NULL },
	{ "execvp", by_execvp, NULL },
	{ "execvpe", by_execvpe, NULL },
	{ "execl", by_execl, NULL },
	{ "execlp", by_execlp, NULL },
	{ "execle", by_execle, NULL },
	{ "fexecve", by_fexecve, NULL },
	{ "execveat", by_execveat, NULL },
	{ "SYS_execve", by_syscall_execve, NULL },
	{ "SYS_execveat", by_syscall_execveat, NULL },
	{ "posix_spawn", NULL, by_posix_spawn },
	{ "posix_spawnp", NULL, by_posix_spawnp },
};

const unsigned n_ways = sizeof(ways) / sizeof(ways[0]);

const struct way *way_of(const char *name)
{
	for (unsigned i = 0; i < n_ways; i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	fail_msg("no way is called %s", name);
	return NULL;
}

void started_by(const struct way *way, char *const envp[], const char *script,
		char ret[STARTED_SIZE])
{
	char *const argv[] = { (char *) "sh", (char *) "-c", (char *) script, NULL };
	const int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100);
	size_t used = 0;
	int pipes[2];
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(dup2(pipes[1], STDOUT_FILENO), STDOUT_FILENO);
	pid = way->spawn != NULL ? way->spawn(argv, envp) : fork();
	if (pid == 0) {
		(void) way->become(argv, envp);
		_exit(127);
	}
	(void) dup2(out, STDOUT_FILENO);
	(void) raw_close(out);
	(void) raw_close(pipes[1]);
	assert_true(pid > 0);
	while (used + 1 < STARTED_SIZE &&
	       (n = read(pipes[0], ret + used, STARTED_SIZE - 1 - used)) > 0)
		used += (size_t) n;
	ret[used] = '\0';
	(void) raw_close(pipes[0]);
	assert_int_equal(wait_status(pid), 0);
}
