/* SPDX-License-Identifier: Apache-2.0 */
/* Starting /bin/sh by each of libc's ways, and what it printed. */
#ifndef TESTS_PRELOAD_STARTED_H
#define TESTS_PRELOAD_STARTED_H

#define STARTED_SIZE 4096

struct way {
	const char *name; /* libc's, or "SYS_execve" */
	/* Becomes argv[0] or returns -1; of spawns NULL. */
	int (*become)(char *const argv[], char *const envp[]);
	/* Returns the child's pid or -1. */
	int (*spawn)(char *const argv[], char *const envp[]);
};

extern const struct way ways[];
extern const unsigned n_ways;
const struct way *way_of(const char *name);

/*
 * started_by - what `sh -c SCRIPT` prints
 * @envp: a way that takes none has it as environ; an exec happens in a forked child
 */
void started_by(const struct way *way, char *const envp[], const char *script,
		char ret[STARTED_SIZE]);

#endif
