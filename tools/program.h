/* SPDX-License-Identifier: Apache-2.0 */
/* Will the dynamic loader take our preload into this program? */
#ifndef TOOLS_PROGRAM_H
#define TOOLS_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define PROGRAM_REASON_SIZE (PATH_MAX + 256)

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

#endif
