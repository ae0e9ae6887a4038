/* SPDX-License-Identifier: Apache-2.0 */
/* `curl_host URL ROUNDS PLUGIN...` loads plugins as a program does that knows none of them. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int bad = 0;

	if (argc < 4)
		return 2;
	for (int round = 0; round < atoi(argv[2]); round++) {
		for (int i = 3; i < argc; i++) {
			void *plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
			int (*call)(const char *, int);

			if (plugin == NULL) {
				(void) fprintf(stderr, "%s\n", dlerror());
				return 2;
			}
			*(void **) &call = dlsym(plugin, "plugin_call");
			bad += call(argv[1], 0) + call(argv[1], 1);
			if (round % 2 == 1)
				(void) dlclose(plugin);
		}
	}
	return bad;
}
