/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As a program: loads the library argv[1] and has it load the one named argv[2], which is found
 * by that library's RUNPATH alone. As that library (OUTER), and as what it loads (INNER).
 */
#include <dlfcn.h>
#include <stdio.h>

#if defined(INNER)
const char *inner_says(void)
{
	return "found";
}
#elif defined(OUTER)
const char *outer_opens(const char *name)
{
	void *inner = dlopen(name, RTLD_NOW);
	const char *(*says)(void) =
		inner ? (const char *(*) (void) ) dlsym(inner, "inner_says") : NULL;

	return says ? says() : dlerror();
}
#else
int main(int argc, char **argv)
{
	void *outer = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
	const char *(*opens)(const char *) =
		outer ? (const char *(*) (const char *) ) dlsym(outer, "outer_opens") : NULL;

	(void) puts(opens ? opens(argv[2]) : dlerror());
	return 0;
}
#endif
