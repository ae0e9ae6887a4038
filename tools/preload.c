/* SPDX-License-Identifier: Apache-2.0 */
/* Where the shim lies, seen from this program. */
#include "tools/preload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The directory that this very program lies in. */
static bool own_dir(char ret_dir[PATH_MAX])
{
	const ssize_t n = readlink("/proc/self/exe", ret_dir, PATH_MAX - 1);

	if (n <= 0)
		return false;
	ret_dir[n] = '\0';

	char *const slash = strrchr(ret_dir, '/');

	if (slash == NULL)
		return false;
	*slash = '\0';
	return true;
}

bool preload_find(char ret_path[PATH_MAX])
{
	static const char *const beside[] = {
		"../shim/" PRELOAD_NAME,
		AGENTSHIM_LIBDIR_FROM_BINDIR "/" PRELOAD_NAME,
	};
	char dir[PATH_MAX], candidate[2 * PATH_MAX];

	for (size_t i = 0; own_dir(dir) && i < sizeof(beside) / sizeof(beside[0]); i++) {
		(void) snprintf(candidate, sizeof(candidate), "%s/%s", dir, beside[i]);
		if (access(candidate, R_OK) == 0 && realpath(candidate, ret_path) != NULL)
			return true;
	}
	return false;
}
