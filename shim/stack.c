/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks by the private libunwind; none where it is not built in. */
#include "shim/stack.h"

#ifdef AGENTSHIM_STACKS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unwind-guest.h>

#include "core/raw.h"

/* The shim's own frames between a hook and us: three at most today, so arbitrary but safe. */
#define OWN_FRAMES 16
/* Distinct modules in one text; a frame of a further one ends it. */
#define MODULES    24

/* Weak for the loader that lacks it: unwind_guest_able() says so before it is called. */
extern __typeof__(_dl_find_object) _dl_find_object __attribute__((weak));

/*
 * Held by the one who unwinds, and with it all that libunwind keeps, and the two below: they
 * are large for a signal stack. Never waited for; inherited as held by a child forked meanwhile.
 */
static atomic_flag unwinding = ATOMIC_FLAG_INIT;
static unw_context_t context;
static unw_cursor_t cursor;

static bool is_own(const struct dl_find_object *own, uintptr_t pc)
{
	return pc >= (uintptr_t)own->dlfo_map_start && pc < (uintptr_t)own->dlfo_map_end;
}

static size_t walk(uintptr_t *pcs, size_t max, const struct dl_find_object *own)
{
	size_t n = 0;

	for (size_t steps = 0; n < max && steps < max + OWN_FRAMES; steps++) {
		if (unw_step(&cursor) <= 0)
			break;

		const uintptr_t pc = unwind_guest_pc(&cursor);

		if (!pc)
			break;
		if (n > 0 || !is_own(own, pc))
			pcs[n++] = pc;
	}
	return n;
}

size_t stack_capture(uintptr_t *pcs, size_t max)
{
	const int err = errno;
	struct dl_find_object own;
	size_t n = 0;

	if (!unwind_guest_able() || _dl_find_object((void *)stack_capture, &own))
		return 0;
	/* Acquire, release: what libunwind keeps passes from one unwinder to the next. */
	if (atomic_flag_test_and_set_explicit(&unwinding, memory_order_acquire))
		return 0;
	if (!unw_getcontext(&context) && !unwind_guest_open(&cursor, &context))
		n = walk(pcs, max, &own);
	atomic_flag_clear_explicit(&unwinding, memory_order_release);
	errno = err;
	return n;
}

/* A text that grows in the caller's buffer; what does not fit is counted, not written. */
struct sink {
	char *buf;
	size_t size, used;
};

static void put(struct sink *out, char c)
{
	if (out->used < out->size)
		out->buf[out->used] = c;
	out->used++;
}

static void put_number(struct sink *out, uintptr_t value, unsigned base)
{
	char digits[20];
	size_t n = 0;

	do
		digits[n++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (n)
		put(out, digits[--n]);
}

static void put_name(struct sink *out, const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		const unsigned char c = name[i];

		if (c >= ' ' && c != 0x7f && c != '%' && c != ';' && c != '|') {
			put(out, c);
			continue;
		}
		put(out, '%');
		put(out, "0123456789ABCDEF"[c >> 4]);
		put(out, "0123456789ABCDEF"[c & 15]);
	}
}

/* The program itself has no name in its link map. */
static void put_module(struct sink *out, size_t index, const struct link_map *map)
{
	char path[PATH_MAX / 4]; /* arbitrary: a signal stack is small, a program's path short */
	const char *name = map->l_name;
	size_t length = strlen(name);

	if (!length) {
		const long got = raw_syscall(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe",
					     (long)path, sizeof(path), 0, 0);

		name = got > 0 ? path : "?";
		length = got > 0 ? (size_t)got : 1;
	}
	if (index)
		put(out, ';');
	put_number(out, index, 10);
	put(out, '=');
	put_name(out, name, length);
}

struct modules {
	const struct link_map *map[MODULES];
	size_t n;
};

static const struct link_map *module_of(uintptr_t pc)
{
	struct dl_find_object object;

	return _dl_find_object((void *)pc, &object) ? NULL : object.dlfo_link_map;
}

/* The module's place in the table, MODULES when it has none. */
static size_t module_index(const struct modules *modules, const struct link_map *map)
{
	for (size_t i = 0; i < modules->n; i++)
		if (modules->map[i] == map)
			return i;
	return MODULES;
}

static void put_frame(struct sink *out, const struct modules *modules, uintptr_t pc)
{
	const struct link_map *const map = module_of(pc);

	if (map)
		put_number(out, module_index(modules, map), 10);
	else
		put(out, '?');
	put(out, '+');
	put_number(out, map ? pc - map->l_addr : pc, 16);
}

/* How many frames fit, and the modules of just these. */
static size_t measure(const uintptr_t *pcs, size_t n, size_t size, struct modules *modules)
{
	struct sink table = { .size = 0 }, frames = { .size = 0 };
	size_t fitting;

	for (fitting = 0; fitting < n; fitting++) {
		const struct link_map *const map = module_of(pcs[fitting]);
		const bool fresh = map && module_index(modules, map) == MODULES;

		if (fresh && modules->n == MODULES)
			break;
		if (fresh) {
			put_module(&table, modules->n, map);
			modules->map[modules->n++] = map;
		}
		if (fitting)
			put(&frames, ',');
		put_frame(&frames, modules, pcs[fitting]);
		if (table.used + 1 + frames.used < size)
			continue;
		if (fresh)
			modules->n--;
		break;
	}
	return fitting;
}

size_t stack_text(const uintptr_t *pcs, size_t n, char *buf, size_t size)
{
	struct modules modules = { .n = 0 };
	struct sink out = { .buf = buf, .size = size };

	if (size)
		*buf = '\0';
	if (!n || !unwind_guest_able())
		return 0;

	const size_t fitting = measure(pcs, n, size, &modules);

	if (!fitting)
		return 0;
	for (size_t i = 0; i < modules.n; i++)
		put_module(&out, i, modules.map[i]);
	put(&out, '|');
	for (size_t i = 0; i < fitting; i++) {
		if (i)
			put(&out, ',');
		put_frame(&out, &modules, pcs[i]);
	}
	if (out.used >= size) /* the program's file was renamed to a longer name just now */
		return *buf = '\0';
	buf[out.used] = '\0';
	return out.used;
}

#else

size_t stack_capture(uintptr_t *pcs, size_t max)
{
	(void)pcs;
	(void)max;
	return 0;
}

size_t stack_text(const uintptr_t *pcs, size_t n, char *buf, size_t size)
{
	(void)pcs;
	(void)n;
	if (size)
		*buf = '\0';
	return 0;
}

#endif
