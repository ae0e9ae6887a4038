/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim run -- COMMAND`: the command with the shim preloaded, or a reason why not. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"
#include "core/text.h"
#include "tools/preload.h"
#include "tools/program.h"
#include "tools/tool.h"

/* ld.so takes these for the end of a name, and there is no way to quote them. */
static bool can_be_preloaded(const char *shim)
{
	if (strpbrk(shim, ": \t\n") == NULL)
		return true;
	complain("%s: LD_PRELOAD cannot hold a path with a colon or a blank; move it", shim);
	return false;
}

static bool listed(const char *list, const char *shim)
{
	const size_t n = strlen(shim);

	for (const char *at = list; (at = strstr(at, shim)) != NULL; at += n) {
		if ((at == list || strchr(": ", at[-1]) != NULL) &&
		    (at[n] == '\0' || strchr(": ", at[n]) != NULL))
			return true;
	}
	return false;
}

/* Ours goes last: whoever was there first keeps its place in front of libc. */
static void preload(const char *shim)
{
	const char *const before = getenv("LD_PRELOAD");
	const size_t size = strlen(shim) + (before != NULL ? strlen(before) : 0) + 2;
	char *const list = take(1, size);

	if (before != NULL && listed(before, shim))
		(void) snprintf(list, size, "%s", before);
	else if (before != NULL && *before != '\0')
		(void) snprintf(list, size, "%s:%s", before, shim);
	else
		(void) snprintf(list, size, "%s", shim);
	if (setenv("LD_PRELOAD", list, 1) < 0) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	free(list);
}

static const char *get(void *arg, const char *name)
{
	(void) arg;
	return secure_getenv(name);
}

/* The shim keeps silent in its host; here somebody asked, so say what it will not understand. */
static void say_problems(void)
{
	struct config *const config = take(1, sizeof(*config));

	config_from_environment(get, NULL, config);
	for (unsigned i = 0; i < config->n_problems && i < CONFIG_PROBLEMS_MAX; i++) {
		char buf[CONFIG_PROBLEM_SIZE];
		struct text t = text_in(buf, sizeof(buf));

		text_add_shown(&t, config->problems[i], CONFIG_PROBLEM_SIZE);
		complain("%s", buf);
	}
	if (config->n_problems > CONFIG_PROBLEMS_MAX)
		complain("%u more settings are not understood",
			 (unsigned) config->n_problems - CONFIG_PROBLEMS_MAX);
	if (config->disabled)
		complain("AGENTSHIM_DISABLE is set: the shim will do nothing");
	free(config);
}

int run_main(int argc, char **argv)
{
	char path[PATH_MAX], shim[PATH_MAX];
	char *const reason = take(1, PROGRAM_REASON_SIZE);
	int at = 1;

	if (at < argc && strcmp(argv[at], "--") == 0)
		at++;
	else if (at < argc && argv[at][0] == '-')
		return usage("run", "unknown option %s", argv[at]);
	if (at == argc)
		return usage("run", "which command?");

	char **const command = argv + at;
	const int found = program_find(command[0], path);

	if (found != 0) {
		complain("%s: %s", command[0],
			 found == TOOL_NOT_FOUND ? "no such command" : "not executable");
		return found;
	}
	if (!preload_find(shim)) {
		complain(PRELOAD_NAME
			 " is neither beside this program's build nor in its library directory");
		return TOOL_USAGE;
	}
	if (!can_be_preloaded(shim))
		return TOOL_USAGE;
	if (!program_reached(path, shim, reason)) {
		complain("%s", reason);
		return TOOL_USAGE;
	}
	say_problems();
	preload(shim);
	(void) execvp(path, command); /* with a slash in it: this file and no other */
	complain("%s: %s", path, strerror(errno));
	return errno == ENOENT ? TOOL_NOT_FOUND : TOOL_NOT_EXECUTABLE;
}
