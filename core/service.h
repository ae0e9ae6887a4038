/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which service is this process part of? Its name for people, and the name of its files.
 * DESIGN: AGENTSHIM_SERVICE, else OTEL_SERVICE_NAME, else the executable, or for an
 * interpreter the script, `-m` module or jar.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#define SERVICE_NAME_SIZE   65 /* percent-encoded name, at most 64 bytes, and a NUL */
#define SERVICE_HASH_DIGITS 12 /* 48 bits */
#define SERVICE_FILE_SIZE   (SERVICE_NAME_SIZE + 1 + SERVICE_HASH_DIGITS)
#define SERVICE_PATH_SIZE   512 /* longer script paths are hashed as written */

/* What is known of the process, gathered by the caller. Strings are borrowed. */
struct service_facts {
	const char *chosen;  /* AGENTSHIM_SERVICE; NULL or "" when unset */
	const char *otel;    /* OTEL_SERVICE_NAME; NULL or "" when unset */
	const char *exe;     /* target of /proc/self/exe; " (deleted)" is understood */
	const char *cwd;     /* for a relative script path; may be NULL */
	int argc;            /* as main() gets them, before anybody overwrites them */
	const char *const *argv;
	uint64_t netns;      /* inode of the network namespace; 0 when unknown */
	uint64_t timens;     /* inode of the time namespace; 0 when unknown */
};

struct service {
	char name[SERVICE_NAME_SIZE];   /* what people see, percent-encoded */
	char file[SERVICE_FILE_SIZE];   /* "name-0123456789ab": the stem of its files */
};

/*
 * service_identify - name the service
 *
 * An interpreter's service is the program that it runs: `python3 app.py` is app.py, `python3 -m
 * http.server` http.server, `java -cp x com.x.Main` com.x.Main. Options before it are skipped,
 * with those that take an argument (the tables in service.c). Code on the command line or on
 * standard input has no name: then the interpreter itself is the service, as is any other
 * executable, php-fpm and php-cgi too.
 *
 * A file's name is its base name, suffix kept. Bytes other than [A-Za-z0-9._-] are percent-
 * encoded, so is a leading dot; the name is cut to 64 bytes, never within an escape.
 *
 * The hash is twelve lower-case hex digits. It covers network and time namespace and, with
 * @chosen set, the whole chosen name; else executable and script (absolute, "." and ".."
 * resolved as text).
 * Context: once per process; no allocation, no stdio; pure.
 */
void service_identify(const struct service_facts *facts, struct service *ret);

#endif
