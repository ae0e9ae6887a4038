/* SPDX-License-Identifier: Apache-2.0 */
/* What a program consists of: by its NEEDED entries, or by what is mapped. */
#include "tools/parts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/needed.h"
#include "tools/tool.h"

#define LOOK_CHUNK (1 << 20)
#define LOOK_MAX   (256u << 20) /* bytes of one file looked through; node has 100 MB */
#define DEPTH_MAX  32           /* of libraries that libraries ask for */

/* Texts that only a copy of the library itself holds: its sources' names, kept for error queues. */
static const struct {
	enum tls kind;
	const char *text;
	bool digit; /* follows; else it is another crate, such as rustls-webpki */
} texts[] = {
	{ TLS_OPENSSL, "ssl/statem/statem_clnt.c", false },
	{ TLS_BORINGSSL, "ssl/handshake_client.cc", false },
	{ TLS_RUSTLS, "/rustls-", true },
};

#define N_TEXTS  (sizeof(texts) / sizeof(texts[0]))
#define TEXT_MAX 32 /* of them, and what follows */

static const struct {
	const char *prefix; /* then "." or "-", as wheels rename: libssl-83d7c3d1.so.1.1 */
	enum tls kind;
} libraries[] = {
	{ "libssl", TLS_OPENSSL },      { "libgnutls", TLS_GNUTLS }, { "libcurl", TLS_CURL },
	{ "libcurl-gnutls", TLS_CURL }, { "libssl3", TLS_NSS },      { "libnss3", TLS_NSS },
	{ "libmbedtls", TLS_OTHER },    { "libwolfssl", TLS_OTHER }, { "libs2n", TLS_OTHER },
};

const char *parts_tls_name(enum tls kind)
{
	static const char *const names[TLS_KINDS] = {
		[TLS_NONE] = "none",     [TLS_OPENSSL] = "OpenSSL",
		[TLS_GNUTLS] = "GnuTLS", [TLS_CURL] = "libcurl",
		[TLS_NSS] = "NSS",       [TLS_OTHER] = "another TLS library",
		[TLS_RUSTLS] = "rustls", [TLS_BORINGSSL] = "BoringSSL",
	};

	return names[kind];
}

static const char *last_of(const char *path)
{
	const char *const slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static enum tls library_of(const char *name)
{
	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
		const size_t n = strlen(libraries[i].prefix);

		if (strncmp(name, libraries[i].prefix, n) == 0 &&
		    (name[n] == '.' || name[n] == '-') && strstr(name, ".so") != NULL)
			return libraries[i].kind;
	}
	return TLS_NONE;
}

/* ---- what one file holds ---- */

static void look_in_chunk(struct part *p, const char *bytes, size_t n)
{
	for (size_t i = 0; i < N_TEXTS; i++) {
		const size_t length = strlen(texts[i].text);
		const char *at = bytes;

		while (!p->inside[texts[i].kind] && (at = memmem(at, n - (size_t) (at - bytes),
								 texts[i].text, length)) != NULL) {
			at += length;
			p->inside[texts[i].kind] =
				!texts[i].digit ||
				(at < bytes + n && isdigit((unsigned char) *at) != 0);
		}
	}
}

static void look_through(struct part *p, int fd)
{
	char *const bytes = take(1, LOOK_CHUNK);
	ssize_t n;

	for (off_t at = 0; at < LOOK_MAX; at += LOOK_CHUNK - TEXT_MAX) {
		n = pread(fd, bytes, LOOK_CHUNK, at);
		if (n <= 0)
			break;
		look_in_chunk(p, bytes, (size_t) n);
	}
	free(bytes);
}

struct names_seen {
	bool ssl, ssl_exported, boring, shim, connects;
};

static void see_name(void *arg, const char *name, bool defined, bool exported)
{
	struct names_seen *const seen = arg;

	if (!defined)
		return;
	if (strcmp(name, "SSL_read") == 0 || strcmp(name, "SSL_write") == 0) {
		seen->ssl = true;
		seen->ssl_exported |= exported;
	}
	seen->boring |= strncmp(name, "BORINGSSL_", 10) == 0;
	seen->shim |= exported && strcmp(name, "agentshim_version") == 0;
	seen->connects |= exported && strcmp(name, "connect") == 0;
}

/* @program: its own calls of what it defines go past every preload */
static void examine(struct part *p, int fd, const struct binary *b, bool program)
{
	struct names_seen seen = { .ssl = false };

	p->library = program ? TLS_NONE : library_of(p->name);
	p->go = b->go;
	binary_symbols(fd, b, see_name, &seen);
	p->shim = seen.shim && !program;
	p->connects = seen.connects && !program && strncmp(p->name, "libc.so.", 8) != 0 &&
		      strncmp(p->name, "libpthread", 10) != 0;
	if (p->shim || p->library != TLS_NONE || strncmp(p->name, "libc.so.", 8) == 0)
		return;
	look_through(p, fd);
	p->inside[TLS_BORINGSSL] |= seen.boring;
	p->inside[TLS_OPENSSL] |= seen.ssl;
	if (p->inside[TLS_BORINGSSL])
		p->inside[TLS_OPENSSL] = false; /* it has OpenSSL's names, too */
	else if (!program && seen.ssl_exported) {
		/* A libssl under another name: who calls it does so by name. */
		p->library = TLS_OPENSSL;
		p->inside[TLS_OPENSSL] = false;
	}
}

static struct part *add(struct parts *parts, const char *path, const char *by)
{
	if (parts->n == PARTS_MAX) {
		parts->whole = false;
		return NULL;
	}

	struct part *const p = &parts->all[parts->n++];

	*p = (struct part) { .path = strdup(path), .by = by };
	if (p->path == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	p->name = last_of(p->path);
	return p;
}

static int open_part(const char *path)
{
	return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* ---- linked ---- */

static bool has(const struct parts *parts, const char *name)
{
	for (size_t i = 1; i < parts->n; i++) {
		if (strcmp(parts->all[i].name, name) == 0)
			return true;
	}
	return false;
}

static void add_needed(struct parts *parts, const struct needed_by *by, const char *name_of_by,
		       unsigned depth);

static void add_library(struct parts *parts, const char *name, const struct needed_by *by,
			const char *name_of_by, unsigned depth)
{
	char path[PATH_MAX];
	const bool found = needed_find(name, by, path);
	struct part *const p = add(parts, found ? path : name, name_of_by);
	struct binary *const b = take(1, sizeof(*b));
	const int fd = p != NULL && found ? open_part(path) : -1;

	if (fd >= 0 && binary_read(fd, b)) {
		const struct needed_by self = { .path = p->path, .binary = b, .by = by };

		p->found = true;
		examine(p, fd, b, false);
		add_needed(parts, &self, p->name, depth + 1);
	} else if (p != NULL) {
		p->library = library_of(p->name);
	}
	if (fd >= 0)
		(void) close(fd);
	free(b);
}

static void add_needed(struct parts *parts, const struct needed_by *by, const char *name_of_by,
		       unsigned depth)
{
	if (depth > DEPTH_MAX) {
		parts->whole = false;
		return;
	}
	for (unsigned i = 0; i < by->binary->n_needed; i++) {
		const char *const name = by->binary->needed[i];

		if (!has(parts, last_of(name)))
			add_library(parts, name, by, name_of_by, depth);
	}
}

void parts_of_file(const char *path, int fd, const struct binary *b, struct parts *ret)
{
	const struct needed_by self = { .path = path, .binary = b };

	ret->n = 0;
	ret->whole = true;

	struct part *const p = add(ret, path, NULL);

	p->found = true;
	examine(p, fd, b, true);
	add_needed(ret, &self, NULL, 0);
}

/* ---- mapped ---- */

static bool mapped_already(const struct parts *parts, const char *path)
{
	for (size_t i = 0; i < parts->n; i++) {
		if (strcmp(parts->all[i].path, path) == 0)
			return true;
	}
	return false;
}

/* Through the process's own root: it may be a container's. */
static void add_mapped(struct parts *parts, pid_t pid, const char *path)
{
	char at[PATH_MAX + 32];
	struct part *const p = add(parts, path, NULL);

	if (p == NULL)
		return;
	(void) snprintf(at, sizeof(at), "/proc/%d/root%s", (int) pid, path);

	struct binary *const b = take(1, sizeof(*b));
	const int fd = open_part(at);

	p->found = fd >= 0 && binary_read(fd, b);
	if (p->found) {
		examine(p, fd, b, false);
	} else {
		/* An update may have replaced it; its name is still something. */
		p->library = library_of(p->name);
		p->shim = strncmp(p->name, "libagentshim.so", 15) == 0;
		parts->whole &= strncmp(path, "/memfd:", 7) == 0;
	}
	if (fd >= 0)
		(void) close(fd);
	free(b);
}

/* "7f00-7f10 r-xp 00000000 fe:00 1234   /usr/lib/libc.so.6": the path, if it may be executed. */
static char *executable_of(char *line)
{
	char *at = strchr(line, ' ');

	if (at == NULL || strlen(at) < 5 || at[3] != 'x')
		return NULL;
	at = strchr(at, '/');
	if (at != NULL)
		at[strcspn(at, "\n")] = '\0';
	return at;
}

bool parts_of_process(pid_t pid, const char *path, int fd, struct parts *ret)
{
	char name[64], *line = NULL;
	struct binary *const b = take(1, sizeof(*b));
	size_t size = 0;

	ret->n = 0;
	ret->whole = true;

	struct part *const p = add(ret, path, NULL);

	if (binary_read(fd, b)) {
		p->found = true;
		examine(p, fd, b, true);
	}
	free(b);
	(void) snprintf(name, sizeof(name), "/proc/%d/maps", (int) pid);

	FILE *const maps = fopen(name, "re");

	if (maps == NULL)
		return false;
	errno = 0;
	while (getline(&line, &size, maps) > 0) {
		const char *const mapped = executable_of(line);

		if (mapped != NULL && !mapped_already(ret, mapped))
			add_mapped(ret, pid, mapped);
	}

	const int err = errno;

	free(line);
	(void) fclose(maps);
	errno = err;
	return ret->n > 1 || err == 0;
}

void parts_drop(struct parts *parts)
{
	for (size_t i = 0; i < parts->n; i++)
		free(parts->all[i].path);
	parts->n = 0;
}

bool parts_examine(const char *path, struct part *ret)
{
	struct binary *const b = take(1, sizeof(*b));
	const int fd = open_part(path);

	*ret = (struct part) { .name = last_of(path) };
	ret->found = fd >= 0 && binary_read(fd, b) && b->ours;
	if (ret->found)
		examine(ret, fd, b, false);
	if (fd >= 0)
		(void) close(fd);
	free(b);
	return ret->found;
}

/* ---- the shim ---- */

static void see_hook(void *arg, const char *name, bool defined, bool exported)
{
	struct hooks *const hooks = arg;

	if (!defined || !exported)
		return;
	hooks->openssl |= strcmp(name, "SSL_write") == 0;
	hooks->gnutls |= strcmp(name, "gnutls_record_send") == 0;
	hooks->curl |= strcmp(name, "curl_easy_perform") == 0;
	hooks->dlopen |= strcmp(name, "dlopen") == 0;
}

struct hooks parts_hooks(const char *shim)
{
	struct hooks hooks = { .openssl = false };
	struct binary *const b = take(1, sizeof(*b));
	const int fd = shim != NULL ? open_part(shim) : -1;

	if (fd >= 0 && binary_read(fd, b))
		binary_symbols(fd, b, see_hook, &hooks);
	else
		hooks = (struct hooks) { true, true, true, true };
	if (fd >= 0)
		(void) close(fd);
	free(b);
	return hooks;
}
