/* SPDX-License-Identifier: Apache-2.0 */
/* The dynamic loader's way to a library, after ld.so(8). */
#include "tools/needed.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE     EM_X86_64
#define TRIPLET     "x86_64-linux-gnu"
#define CACHE_FLAGS 0x0303 /* libc6, x86-64 */
#elif defined(__aarch64__)
#define MACHINE     EM_AARCH64
#define TRIPLET     "aarch64-linux-gnu"
#define CACHE_FLAGS 0x0a03 /* libc6, AArch64 */
#endif

#define CACHE       "/etc/ld.so.cache"
#define CACHE_MAGIC "glibc-ld.so.cache1.1"
#define CACHE_MAX   (16 << 20) /* bytes; a full desktop's has 0.2 MiB */

static bool fits(const char *path)
{
	const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct module_facts facts;
	bool ok;

	if (fd < 0)
		return false;
	ok = module_examine(fd, &facts) && facts.class == ELFCLASS64 && facts.machine == MACHINE;
	(void) close(fd);
	return ok;
}

static bool in_directory(const char *dir, size_t n, const char *name, char ret_path[PATH_MAX])
{
	return snprintf(ret_path, PATH_MAX, "%.*s/%s", (int) n, n > 0 ? dir : ".", name) <
		       PATH_MAX &&
	       fits(ret_path);
}

/* ---- search paths ---- */

/* @at stands on a '$'; what it is replaced by, and its length in @ret_n. NULL: nothing we know. */
static const char *token(const char *at, size_t *ret_n)
{
	static const char *const names[] = { "ORIGIN", "LIB" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const size_t n = strlen(names[i]);

		if (strncmp(at + 1, names[i], n) == 0)
			*ret_n = n + 1;
		else if (at[1] == '{' && strncmp(at + 2, names[i], n) == 0 && at[n + 2] == '}')
			*ret_n = n + 3;
		else
			continue;
		return names[i];
	}
	return NULL;
}

/* One directory of a search path with $ORIGIN and $LIB put in; false when that cannot be done. */
static bool expand(const char *dir, size_t n, const char *path, char ret[PATH_MAX])
{
	const char *const slash = strrchr(path, '/');
	size_t used = 0;

	for (size_t i = 0; i < n;) {
		size_t length = 1, taken = 1;
		const char *piece = dir + i;

		if (*piece == '$') {
			const char *const name = token(piece, &taken);

			if (name == NULL)
				return false;
			piece = *name == 'L' ? "lib/" TRIPLET : slash != NULL ? path : ".";
			length = *name == 'L'    ? strlen(piece)
				 : slash != NULL ? (size_t) (slash - path)
						 : 1;
		}
		if (length >= PATH_MAX - used)
			return false;
		memcpy(ret + used, piece, length);
		used += length;
		i += taken;
	}
	ret[used] = '\0';
	return true;
}

static bool in_search_path(const char *list, const char *origin, const char *name,
			   char ret_path[PATH_MAX])
{
	char dir[PATH_MAX];

	while (*list != '\0') {
		const size_t n = strcspn(list, ":;");

		if (expand(list, n, origin, dir) && in_directory(dir, strlen(dir), name, ret_path))
			return true;
		list += n + (list[n] != '\0');
	}
	return false;
}

/* ---- ld.so.cache ---- */

struct cache_head {
	char magic[20];
	uint32_t n_libraries, strings_size;
	uint8_t flags, unused[3];
	uint32_t extension, spare[3];
};

struct cache_entry {
	uint32_t flags, key, value, osversion;
	uint64_t hwcap;
};

static size_t read_cache(char **ret)
{
	const int fd = open(CACHE, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = -1;

	*ret = NULL;
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= CACHE_MAX) {
		*ret = malloc((size_t) st.st_size + 1);
		if (*ret != NULL)
			n = pread(fd, *ret, (size_t) st.st_size, 0);
	}
	if (fd >= 0)
		(void) close(fd);
	if (n <= 0)
		return 0;
	(*ret)[n] = '\0';
	return (size_t) n;
}

static bool in_cache(const char *name, char ret_path[PATH_MAX])
{
	struct cache_entry e;
	struct cache_head h;
	char *bytes;
	const size_t size = read_cache(&bytes);
	bool found = false;

	if (size >= sizeof(h))
		memcpy(&h, bytes, sizeof(h));
	if (size < sizeof(h) || memcmp(h.magic, CACHE_MAGIC, sizeof(h.magic)) != 0)
		h.n_libraries = 0;
	for (uint32_t i = 0; i < h.n_libraries && !found; i++) {
		const size_t at = sizeof(h) + (size_t) i * sizeof(e);

		if (at > size - sizeof(e))
			break;
		memcpy(&e, bytes + at, sizeof(e));
		/* Strings end within: the byte after the last is a NUL of ours. */
		found = e.flags == CACHE_FLAGS && e.key < size && e.value < size &&
			strcmp(bytes + e.key, name) == 0 && fits(bytes + e.value) &&
			snprintf(ret_path, PATH_MAX, "%s", bytes + e.value) < PATH_MAX;
	}
	free(bytes);
	return found;
}

bool needed_find(const char *name, const struct needed_by *by, char ret_path[PATH_MAX])
{
	static const char usual[] =
		"/lib/" TRIPLET ":/usr/lib/" TRIPLET ":/lib64:/usr/lib64:/lib:/usr/lib";
	const char *const set = getenv("LD_LIBRARY_PATH");

	if (strchr(name, '/') != NULL)
		return snprintf(ret_path, PATH_MAX, "%s", name) < PATH_MAX && fits(ret_path);
	for (const struct needed_by *b = by; b != NULL && *by->binary->runpath == '\0'; b = b->by) {
		if (*b->binary->runpath == '\0' &&
		    in_search_path(b->binary->rpath, b->path, name, ret_path))
			return true;
	}
	return (set != NULL && in_search_path(set, by->path, name, ret_path)) ||
	       in_search_path(by->binary->runpath, by->path, name, ret_path) ||
	       in_cache(name, ret_path) || in_search_path(usual, by->path, name, ret_path);
}
