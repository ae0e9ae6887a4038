/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc says of a running program: is the shim in it, and may it act? */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "tools/diagnosis.h"
#include "tools/preload.h"
#include "tools/tool.h"

#define ENVIRON_MAX (2 << 20) /* bytes; the kernel's usual limit for arguments and environment */
#define PLACE_SIZE  64        /* "/proc/PID/ns/mnt" */

static const char *place(pid_t pid, const char *name, char buf[PLACE_SIZE])
{
	(void) snprintf(buf, PLACE_SIZE, "/proc/%d/%s", (int) pid, name);
	return buf;
}

/* A file of /proc, whole or as much as fits, with a NUL behind it; NULL: errno says why. */
static char *slurp(pid_t pid, const char *name, size_t *ret_n)
{
	char at[PLACE_SIZE];
	const int fd = open(place(pid, name, at), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char *bytes;
	ssize_t n;

	if (fd < 0)
		return NULL;
	bytes = take(1, ENVIRON_MAX + 1);
	*ret_n = 0;
	while ((n = read(fd, bytes + *ret_n, ENVIRON_MAX - *ret_n)) > 0)
		*ret_n += (size_t) n;

	const int err = errno;

	(void) close(fd);
	if (n == 0)
		return bytes;
	free(bytes);
	errno = err;
	return NULL;
}

/* ---- its environment ---- */

struct environment {
	char *bytes; /* NULL: not to be read */
	size_t n;
};

static const char *value_of(void *arg, const char *name)
{
	const struct environment *const env = arg;
	const size_t length = strlen(name);

	for (size_t at = 0; at < env->n; at += strlen(env->bytes + at) + 1) {
		if (strncmp(env->bytes + at, name, length) == 0 && env->bytes[at + length] == '=')
			return env->bytes + at + length + 1;
	}
	return NULL;
}

static void of_preloads(struct diagnosis *d, struct environment *env)
{
	const char *const set = env->bytes != NULL ? value_of(env, "LD_PRELOAD") : NULL;
	char *list = set != NULL ? strdup(set) : NULL;
	size_t n;

	if (list != NULL)
		diagnosis_of_preloads(d, list);
	free(list);
	list = slurp(d->pid, "root/etc/ld.so.preload", &n);
	if (list != NULL)
		diagnosis_of_preloads(d, list);
	free(list);
}

/* ---- is the shim in it, and does it act? ---- */

static bool secure_mode(pid_t pid)
{
	size_t n;
	char *const bytes = slurp(pid, "auxv", &n);
	bool secure = false;

	for (size_t at = 0; bytes != NULL && at + 16 <= n; at += 16) {
		uint64_t pair[2];

		memcpy(pair, bytes + at, sizeof(pair));
		secure |= pair[0] == AT_SECURE && pair[1] != 0;
	}
	free(bytes);
	return secure;
}

static size_t copies_of_shim(const struct diagnosis *d, const char **ret_path)
{
	size_t n = 0;

	for (size_t i = 0; i < d->parts.n; i++) {
		if (d->parts.all[i].shim && n++ == 0)
			*ret_path = d->parts.all[i].path;
	}
	return n;
}

static void of_absence(struct diagnosis *d, struct environment *env)
{
	const char *const set = env->bytes != NULL ? value_of(env, "LD_PRELOAD") : NULL;

	if (set != NULL && strstr(set, PRELOAD_NAME) != NULL)
		diagnosis_add(d, "shim", "is it there, readable, and for this machine?",
			      "not loaded, though LD_PRELOAD names it: %s", set);
	else
		diagnosis_add(d, "shim", "start it again by `agentshim run`", "not loaded");
	diagnosis_block(d, "the shim is not loaded into it");
}

static void of_shim(struct diagnosis *d, struct environment *env)
{
	const char *path = NULL;
	const size_t copies = copies_of_shim(d, &path);
	const bool secure = secure_mode(d->pid);
	struct config *const config = take(1, sizeof(*config));

	if (secure) {
		diagnosis_add(d, "privileges", "the loader drops preloads, the shim does nothing",
			      "in secure mode (AT_SECURE)");
		diagnosis_block(d, "it runs in secure mode (AT_SECURE): the shim does nothing");
	}
	if (env->bytes != NULL)
		config_from_environment(value_of, env, config);
	if (copies == 0)
		of_absence(d, env);
	else if (config->disabled)
		diagnosis_add(d, "shim", "it does nothing: AGENTSHIM_DISABLE is set", "loaded, %s",
			      path);
	else
		diagnosis_add(d, "shim", secure ? "it does nothing" : "it acts", "loaded, %s",
			      path);
	if (copies > 1)
		diagnosis_add(d, "shim", "the first acts, the others do nothing",
			      "%zu copies of it", copies);
	if (copies > 0 && config->disabled)
		diagnosis_block(d, "AGENTSHIM_DISABLE is set: the shim does nothing");
	free(config);
}

/* ---- where it runs ---- */

static void of_namespaces(struct diagnosis *d)
{
	static const struct {
		const char *name, *what, *means;
	} kinds[] = {
		{ "ns/mnt", "mounts",
		  "it sees other files: its libagentshim.so and AGENTSHIM_DIR are its own" },
		{ "ns/net", "network", "its addresses and its service's breakers are its own" },
		{ "ns/user", "user", "its user ids mean something else there" },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char own[PLACE_SIZE], its[PLACE_SIZE];
		struct stat a, b;

		(void) snprintf(own, sizeof(own), "/proc/self/%s", kinds[i].name);
		if (stat(own, &a) == 0 && stat(place(d->pid, kinds[i].name, its), &b) == 0 &&
		    a.st_ino != b.st_ino)
			diagnosis_add(d, "namespace", kinds[i].means, "another one: %s",
				      kinds[i].what);
	}
}

static void of_seccomp(struct diagnosis *d)
{
	size_t n;
	char *const status = slurp(d->pid, "status", &n);
	const char *const line = status != NULL ? strstr(status, "\nSeccomp:\t") : NULL;
	const char mode = line != NULL ? line[10] : '0';

	if (mode == '2') {
		d->filtered = true;
		diagnosis_add(
			d, "seccomp",
			"set by itself, the shim stands back; set before, it may refuse what we "
			"call (docs/coverage.md), which cannot be seen from outside",
			"under a filter");
	} else if (mode == '1') {
		diagnosis_add(d, "seccomp", "it may only read and write", "strict");
		diagnosis_block(d, "seccomp's strict mode: it can call nobody");
	}
	free(status);
}

/* ---- the process ---- */

static bool denied(pid_t pid, const char *what)
{
	if (errno == EACCES || errno == EPERM)
		complain("process %d: no permission to read its %s: ask as root, or as its user",
			 (int) pid, what);
	else
		complain("process %d: its %s: %s", (int) pid, what, strerror(errno));
	return false;
}

static int open_executable(struct diagnosis *d)
{
	char at[PLACE_SIZE];
	const ssize_t n = readlink(place(d->pid, "exe", at), d->path, sizeof(d->path) - 1);

	if (n < 0 && errno == ENOENT && access(place(d->pid, "status", at), F_OK) == 0) {
		complain("process %d: a thread of the kernel, or it has ended", (int) d->pid);
		return -1;
	}
	if (n < 0 && (errno == ENOENT || errno == ESRCH)) {
		complain("no process %d", (int) d->pid);
		return -1;
	}
	if (n < 0) {
		(void) denied(d->pid, "executable");
		return -1;
	}
	d->path[n] = '\0';

	const int fd = open(place(d->pid, "exe", at), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		(void) denied(d->pid, "executable");
	return fd;
}

static bool look(struct diagnosis *d, int fd)
{
	struct environment env = { .n = 0 };
	struct binary *const b = take(1, sizeof(*b));
	const bool program = binary_read(fd, b) && diagnosis_of_binary(d, b);

	free(b);
	if (!program)
		return false;
	if (!parts_of_process(d->pid, d->path, fd, &d->parts))
		return denied(d->pid, "maps");
	env.bytes = slurp(d->pid, "environ", &env.n);
	if (env.bytes == NULL)
		diagnosis_add(d, "settings", "its environment cannot be read", "unknown");
	of_shim(d, &env);
	of_preloads(d, &env);
	of_seccomp(d);
	of_namespaces(d);
	free(env.bytes);
	diagnosis_conclude(d);
	return true;
}

bool diagnosis_of_process(pid_t pid, struct diagnosis *d)
{
	d->pid = pid;

	const int fd = open_executable(d);

	if (fd < 0)
		return false;

	const bool told = look(d, fd);

	(void) close(fd);
	return told;
}
