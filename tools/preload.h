/* SPDX-License-Identifier: Apache-2.0 */
/* Where the shim lies, seen from this program. */
#ifndef TOOLS_PRELOAD_H
#define TOOLS_PRELOAD_H

#include <limits.h>
#include <stdbool.h>

#define PRELOAD_NAME "libagentshim.so"

/*
 * preload_find - the shim that belongs to this program
 * In the build tree it lies in the directory next door; installed, in libdir, found from where
 * this program is, so that an installation may be moved. False when it is in neither place.
 */
bool preload_find(char ret_path[PATH_MAX]);

#endif
