/* SPDX-License-Identifier: Apache-2.0 */
/* The files that make up a program, and what of each matters to a preload. */
#ifndef TOOLS_PARTS_H
#define TOOLS_PARTS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tools/binary.h"

#define PARTS_MAX 1024 /* a desktop program maps 300 */

/* What encrypts. As a part's own trade, or built into something else. */
enum tls {
	TLS_NONE,
	TLS_OPENSSL,
	TLS_GNUTLS,
	TLS_CURL, /* its transfers, whatever it encrypts with */
	TLS_NSS,
	TLS_OTHER,     /* mbed TLS, wolfSSL, s2n */
	TLS_BORINGSSL, /* those below are only ever built in */
	TLS_RUSTLS,
	TLS_KINDS,
};

struct part {
	char *path;       /* as the loader or the kernel names it */
	const char *name; /* its last component */
	const char *by;   /* name of the part that asked for it; NULL: the program, or unknown */
	enum tls library; /* what it is there for; by its name */
	bool inside[TLS_KINDS]; /* what it has built in */
	bool found, go, shim;
	bool connects; /* defines connect, and is not libc: a preload like us */
};

struct parts {
	size_t n;
	bool whole;                 /* false: there were more, or one could not be read */
	struct part all[PARTS_MAX]; /* the program first */
};

/* What a shim hooks, by what it exports; all of it when there is none to ask. */
struct hooks {
	bool openssl, gnutls, curl, dlopen;
};

/*
 * parts_of_file - the program at @path, open at @fd, and the libraries that it is linked to
 * parts_of_process - what the process has mapped to execute; @fd is its executable
 *
 * parts_drop() takes what either made. False when maps cannot be read; errno says why.
 */
void parts_of_file(const char *path, int fd, const struct binary *b, struct parts *ret);
bool parts_of_process(pid_t pid, const char *path, int fd, struct parts *ret);
void parts_drop(struct parts *parts);

/* parts_examine - one file by itself, such as another preload; false when it is no ELF of ours */
bool parts_examine(const char *path, struct part *ret);

struct hooks parts_hooks(const char *shim);

/* parts_tls_name - "OpenSSL" */
const char *parts_tls_name(enum tls kind);

#endif
