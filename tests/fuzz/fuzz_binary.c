/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that call themselves ELF. Whatever they hold, each string ends, none is longer than its
 * place, names are given out once for each entry of a table, and a second look sees the same.
 */
#include "tools/binary.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

struct seen {
	uint64_t names, bytes;
};

static void count(void *arg, const char *name, bool defined, bool exported)
{
	struct seen *const seen = arg;

	(void) defined;
	(void) exported;
	seen->names++;
	seen->bytes += strlen(name);
}

/* What no path or table may be outside of. */
static void check(const struct binary *b)
{
	FUZZ_CHECK(memchr(b->facts.interpreter, '\0', sizeof(b->facts.interpreter)) != NULL);
	FUZZ_CHECK(memchr(b->soname, '\0', sizeof(b->soname)) != NULL);
	FUZZ_CHECK(memchr(b->rpath, '\0', sizeof(b->rpath)) != NULL);
	FUZZ_CHECK(memchr(b->runpath, '\0', sizeof(b->runpath)) != NULL);
	FUZZ_CHECK(b->n_needed <= BINARY_NEEDED_MAX);
	for (unsigned i = 0; i < b->n_needed; i++)
		FUZZ_CHECK(memchr(b->needed[i], '\0', sizeof(b->needed[i])) != NULL);
	FUZZ_CHECK(b->dynamic || b->n_needed == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct binary first, again;
	static int fd = -1;
	struct seen one = { 0 }, two = { 0 };

	if (fd < 0)
		fd = memfd_create("binary", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
	FUZZ_CHECK(pwrite(fd, data, size, 0) == (ssize_t) size);
	if (!binary_read(fd, &first))
		return 0;
	check(&first);
	FUZZ_CHECK(binary_read(fd, &again) && memcmp(&first, &again, sizeof(first)) == 0);
	binary_symbols(fd, &first, count, &one);
	binary_symbols(fd, &first, count, &two);
	FUZZ_CHECK(one.names == two.names && one.bytes == two.bytes);
	return 0;
}
