/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ELF file is linked to and which names it defines: enough to tell what a preload can
 * reach in it. Like tools/module.h it reads with pread(2), so a file that is cut short meanwhile
 * is a short read, and trusts no offset, size or string: the file may be anything.
 */
#ifndef TOOLS_BINARY_H
#define TOOLS_BINARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/module.h"

#define BINARY_NEEDED_MAX 128  /* libraries named by one file; browsers have 60 */
#define BINARY_NAME_SIZE  256  /* NAME_MAX and a NUL; a longer name is no file's */
#define BINARY_PATH_SIZE  4096 /* of a search path, cut beyond */

struct binary {
	struct module_facts facts;
	bool ours;    /* 64 bits, our byte order: the rest was looked at */
	bool whole;   /* no header or table pointed outside of the file */
	bool dynamic; /* has a dynamic section */
	bool pie;
	bool go; /* built by the Go toolchain, as a program or a library */
	char soname[BINARY_NAME_SIZE];
	char rpath[BINARY_PATH_SIZE];
	char runpath[BINARY_PATH_SIZE];
	unsigned n_needed;
	char needed[BINARY_NEEDED_MAX][BINARY_NAME_SIZE];
};

/* binary_read - false when the file is no ELF, and @ret is untouched then */
bool binary_read(int fd, struct binary *ret);

/*
 * binary_symbols - calls @each for every name in .dynsym and, where not stripped, .symtab
 * @b: from binary_read() of the same file
 * @each: @name is valid during the call, of any bytes; @defined: in this file, not asked of others;
 *        @exported: in .dynsym, where the loader sees it
 */
void binary_symbols(int fd, const struct binary *b,
		    void (*each)(void *arg, const char *name, bool defined, bool exported),
		    void *arg);

#endif
