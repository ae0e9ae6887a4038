/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the dynamic loader will find a library, by its own rules and without it: `ld.so --list`
 * would map files that nobody vouched for into a process of ours, and knows this root alone.
 */
#ifndef TOOLS_NEEDED_H
#define TOOLS_NEEDED_H

#include <limits.h>
#include <stdbool.h>

#include "tools/binary.h"

/* One that asks for libraries, and who asked for it; the program itself stands at the end. */
struct needed_by {
	const char *path; /* where it lies; $ORIGIN is its directory */
	const struct binary *binary;
	const struct needed_by *by; /* NULL for the program */
};

/*
 * needed_find - the file that satisfies the DT_NEEDED entry @name of @by
 * DT_RPATH of the chain unless @by has a DT_RUNPATH, LD_LIBRARY_PATH of our environment,
 * DT_RUNPATH, /etc/ld.so.cache, the usual directories. Files of another machine are passed over.
 */
bool needed_find(const char *name, const struct needed_by *by, char ret_path[PATH_MAX]);

#endif
