/* SPDX-License-Identifier: Apache-2.0 */
/* Will the dynamic loader take our preload into this program? */
#ifndef TOOLS_PROGRAM_H
#define TOOLS_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define PROGRAM_REASON_SIZE (PATH_MAX + 256)
#define PROGRAM_SCRIPTS_MAX 5   /* of scripts run by scripts; the kernel stops there too */
#define PROGRAM_LINE_SIZE   256 /* of a `#!` line; the kernel's BINPRM_BUF_SIZE */

/*
 * program_find - the file that execvp(3) would run
 * Returns 0, or the exit status of env(1): 126 found but not executable, 127 not found.
 */
int program_find(const char *command, char ret_path[PATH_MAX]);

/*
 * program_reached - does a preload of our kind work in it?
 * @path:  from program_find()
 * @shim:  path of the preload object
 * @ret_reason: PROGRAM_REASON_SIZE bytes, why not
 *
 * Scripts are followed along their `#!` lines. What cannot be read is taken to work: it may.
 */
bool program_reached(const char *path, const char *shim, char *ret_reason);

/*
 * program_unprivileged - can the caller start it without the loader's secure mode?
 * @fd: the open file, or -1 when it cannot be opened
 * @ret_reason: PROGRAM_REASON_SIZE bytes, why not
 */
bool program_unprivileged(const char *path, int fd, const struct stat *st, char *ret_reason);

bool program_has_capabilities(int fd); /* the file; whoever starts it */

struct program_script {
	char line[PROGRAM_LINE_SIZE + 1]; /* holds both words */
	const char *interpreter;          /* NULL: the line names none */
	const char *command;              /* what env(1) will look for; NULL: it is not env */
};

/* program_script - false when the file does not begin with `#!` */
bool program_script(int fd, struct program_script *ret);

#endif
