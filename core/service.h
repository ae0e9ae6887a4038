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

#define SERVICE_NAME_SIZE 65            /* percent-encoded name, at most 64 bytes, NUL */
#define SERVICE_FILE_SIZE (SERVICE_NAME_SIZE + 1 + 12)
#define SERVICE_PATH_SIZE 512

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
	char file[SERVICE_FILE_SIZE];   /* name-HASH; the stem of the service's files */
};

/*
 * service_identify - name the service
 *
 * The hash (11 or fewer lower-case base-32/hex digits of 48+ bits) covers executable, script
 * and network and time namespace; with @chosen set only the namespaces and the name.
 * Interpreters: python*, php*, perl*, ruby*, node*, nodejs, java, bash, sh, dash; php-fpm,
 * php-cgi and anything with no script argument are themselves the service. Options before
 * the script are skipped, with those that take an argument (python -W x, -X x, -c → the
 * interpreter itself; java -cp x Main → Main, -jar x.jar → x.jar; perl -I x; node -r x).
 * Names: base name of script without its suffix kept ("app.py" stays "app.py").
 * Context: once per process; no allocation, no stdio; pure.
 */
void service_identify(const struct service_facts *facts, struct service *ret);

#endif
