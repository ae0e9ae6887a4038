/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the loader's list of objects and their symbol tables. What an object's tables say is
 * believed only where it lies within the object's own segments.
 */
#include "shim/library.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "shim/life.h"
#include "shim/pool.h"
#include "shim/real.h"
#include "shim/traffic_place.h"

#define CHUNK_BITS 4
#define CHUNKS     64      /* 1024 libraries: one that is loaded again mostly lies where it lay */
#define CHAIN_MAX  1000000 /* symbols looked at in one bucket, whatever its end marks say */
#define HIDDEN     0x8000  /* in a version: not the default one of its name */

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct library, CHUNK_BITS);

static const struct library *at(uint32_t number)
{
	return pool_at(&pool, number);
}

/* ---- one object ---- */

/* What is wanted of its tables; pointers are within the object, or NULL. */
struct object {
	uintptr_t base, begin, end;
	const ElfW(Phdr) *segments;
	unsigned n_segments;
	const ElfW(Dyn) *dynamic;
	size_t n_dynamic;
	const ElfW(Sym) *symbols;
	const ElfW(Versym) *versions;
	const char *strings;
	size_t strings_size;
	const uint32_t *gnu_hash, *old_hash;
	uintptr_t soname;        /* in @strings */
};

static bool holds(const struct object *o, uintptr_t address, size_t len, unsigned flags)
{
	for (unsigned i = 0; i < o->n_segments; i++) {
		const ElfW(Phdr) *s = &o->segments[i];
		const uintptr_t begin = o->base + s->p_vaddr;

		if (s->p_type == PT_LOAD && (s->p_flags & flags) == flags && address >= begin &&
		    address - begin <= s->p_memsz && len <= s->p_memsz - (address - begin))
			return true;
	}
	return false;
}

static bool readable(const struct object *o, const void *address, size_t len)
{
	return holds(o, (uintptr_t) address, len, PF_R);
}

/* The loader makes addresses of these values where it may write; else they are offsets still. */
static const void *table(const struct object *o, uintptr_t value, size_t least)
{
	if (holds(o, value, least, PF_R))
		return (const void *) value;
	if (holds(o, o->base + value, least, PF_R))
		return (const void *) (o->base + value);
	return NULL;
}

static void read_dynamic(struct object *o)
{
	for (size_t i = 0; i < o->n_dynamic && o->dynamic[i].d_tag != DT_NULL; i++) {
		const uintptr_t value = o->dynamic[i].d_un.d_ptr;

		switch (o->dynamic[i].d_tag) {
		case DT_STRTAB:
			o->strings = table(o, value, 1);
			break;
		case DT_STRSZ:
			o->strings_size = value;
			break;
		case DT_SYMTAB:
			o->symbols = table(o, value, sizeof(ElfW(Sym)));
			break;
		case DT_VERSYM:
			o->versions = table(o, value, sizeof(ElfW(Versym)));
			break;
		case DT_GNU_HASH:
			o->gnu_hash = table(o, value, 4 * sizeof(uint32_t));
			break;
		case DT_HASH:
			o->old_hash = table(o, value, 2 * sizeof(uint32_t));
			break;
		case DT_SONAME:
			o->soname = value;
			break;
		}
	}
	if (o->strings == NULL || !readable(o, o->strings, o->strings_size))
		o->strings_size = 0;
}

static void look_at(const struct dl_phdr_info *info, struct object *ret)
{
	struct object o = {
		.base = info->dlpi_addr,
		.begin = UINTPTR_MAX,
		.segments = info->dlpi_phdr,
		.n_segments = info->dlpi_phnum,
	};

	for (unsigned i = 0; i < o.n_segments; i++) {
		const ElfW(Phdr) *s = &o.segments[i];
		const uintptr_t begin = o.base + s->p_vaddr;

		if (s->p_type == PT_LOAD && begin < o.begin)
			o.begin = begin;
		if (s->p_type == PT_LOAD && begin + s->p_memsz > o.end)
			o.end = begin + s->p_memsz;
		if (s->p_type == PT_DYNAMIC && holds(&o, begin, s->p_memsz, PF_R)) {
			o.dynamic = (const ElfW(Dyn) *) begin;
			o.n_dynamic = s->p_memsz / sizeof(ElfW(Dyn));
		}
	}
	*ret = o;
}

/* A NUL-terminated text among the object's strings, or NULL. */
static const char *string(const struct object *o, uintptr_t offset)
{
	if (offset >= o->strings_size ||
	    memchr(o->strings + offset, '\0', o->strings_size - offset) == NULL)
		return NULL;
	return o->strings + offset;
}

/* ---- a name in its tables ---- */

/*
 * The address of symbol @index, if it has that name and type, for everybody, in its default
 * version; else 0.
 */
static uintptr_t defined(const struct object *o, uint32_t index, const char *name, unsigned type)
{
	const ElfW(Sym) *s = &o->symbols[index];

	if (!readable(o, s, sizeof(*s)) || s->st_shndx == SHN_UNDEF ||
	    ELF64_ST_TYPE(s->st_info) != type || ELF64_ST_BIND(s->st_info) == STB_LOCAL)
		return 0;
	if (o->versions != NULL &&
	    (!readable(o, &o->versions[index], sizeof(*o->versions)) ||
	     (o->versions[index] & HIDDEN) != 0))
		return 0;

	const char *text = string(o, s->st_name);
	const uintptr_t address = o->base + s->st_value;

	if (text == NULL || strcmp(text, name) != 0 ||
	    !holds(o, address, 1, type == STT_FUNC ? PF_X : PF_R))
		return 0;
	return address;
}

/* Header: buckets, first symbol, words of the filter, its shift; filter; buckets; chains. */
static uintptr_t by_gnu_hash(const struct object *o, const char *name, unsigned type)
{
	const uint32_t n_buckets = o->gnu_hash[0], first = o->gnu_hash[1], words = o->gnu_hash[2];
	const uint32_t *buckets = o->gnu_hash + 4 + (size_t) words * (sizeof(ElfW(Addr)) / 4);
	const uint32_t *chains = buckets + n_buckets;
	uint32_t hash = 5381;

	for (const char *c = name; *c != '\0'; c++)
		hash = hash * 33 + (unsigned char) *c;
	if (n_buckets == 0 || !readable(o, buckets, (size_t) n_buckets * 4))
		return 0;
	/* An empty bucket is 0, below the first symbol (trap T9). */
	for (uint32_t i = buckets[hash % n_buckets], n = 0; i >= first && n < CHAIN_MAX; i++, n++) {
		const uint32_t *link = &chains[i - first];

		if (!readable(o, link, sizeof(*link)))
			return 0;

		const uintptr_t found = (*link | 1) == (hash | 1) ? defined(o, i, name, type) : 0;

		if (found != 0 || (*link & 1) != 0)
			return found;
	}
	return 0;
}

static uintptr_t by_old_hash(const struct object *o, const char *name, unsigned type)
{
	const uint32_t n_buckets = o->old_hash[0], n_chains = o->old_hash[1];
	const uint32_t *buckets = o->old_hash + 2, *chains = buckets + n_buckets;
	uint32_t hash = 0;

	for (const char *c = name; *c != '\0'; c++) {
		hash = (hash << 4) + (unsigned char) *c;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	if (n_buckets == 0 || !readable(o, buckets, ((size_t) n_buckets + n_chains) * 4))
		return 0;
	for (uint32_t i = buckets[hash % n_buckets], n = 0; i != 0 && i < n_chains && n < CHAIN_MAX;
	     i = chains[i], n++) {
		const uintptr_t found = defined(o, i, name, type);

		if (found != 0)
			return found;
	}
	return 0;
}

static uintptr_t find(const struct object *o, const char *name, unsigned type)
{
	if (o->symbols == NULL)
		return 0;
	if (o->gnu_hash != NULL)
		return by_gnu_hash(o, name, type);
	return o->old_hash != NULL ? by_old_hash(o, name, type) : 0;
}

static library_function *function(const struct object *o, const char *name)
{
	const uintptr_t address = find(o, name, STT_FUNC);
	library_function *f = NULL;

	memcpy(&f, &address, sizeof(f));
	return f;
}

/* ---- the loader's list ---- */

/* How well a library suits a caller. */
enum fit { NO_FIT, LOADED, NEEDED, OWN };

struct search {
	const struct library_kind *kind;
	uintptr_t caller;
	struct object calling;   /* the object that called */
	uint64_t generation;
	enum fit fit;            /* of @found */
	struct library found;
};

static uint64_t generation_of(const struct dl_phdr_info *info)
{
	return info->dlpi_adds << 32 ^ info->dlpi_subs;
}

static int read_generation(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void) size;
	*(uint64_t *) arg = generation_of(info);
	return 1;
}

static int find_caller(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	struct object o;

	(void) size;
	s->generation = generation_of(info);
	look_at(info, &o);
	if (!holds(&o, s->caller, 1, PF_X))
		return 0;
	read_dynamic(&o);
	s->calling = o;
	return 1;
}

static bool needs(const struct object *o, const char *soname)
{
	for (size_t i = 0; i < o->n_dynamic && o->dynamic[i].d_tag != DT_NULL; i++) {
		const char *needed = o->dynamic[i].d_tag == DT_NEEDED
					     ? string(o, o->dynamic[i].d_un.d_val)
					     : NULL;

		if (needed != NULL && strcmp(needed, soname) == 0)
			return true;
	}
	return false;
}

static enum fit fit_of(const struct search *s, const struct object *o)
{
	const char *soname = o->soname != 0 ? string(o, o->soname) : NULL;

	if (s->caller >= o->begin && s->caller < o->end)
		return OWN;
	return soname != NULL && needs(&s->calling, soname) ? NEEDED : LOADED;
}

/* Runs while the loader's list is locked: what it reads of an object stays loaded meanwhile. */
static int find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	struct object o;

	(void) size;
	look_at(info, &o);
	if (real_is_ours((const void *) o.begin))
		return 0;
	read_dynamic(&o);
	/* A second copy of us would send the call back. */
	if (function(&o, s->kind->names[0]) == NULL || find(&o, "agentshim_version", STT_OBJECT) != 0)
		return 0;

	const enum fit fit = fit_of(s, &o);

	if (fit <= s->fit)
		return 0; /* the first of them stands */
	s->fit = fit;
	s->found = (struct library) { .begin = o.begin, .end = o.end };
	for (unsigned i = 0; i < s->kind->n; i++)
		s->found.functions[i] = function(&o, s->kind->names[i]);
	return 0;
}

struct behind {
	const char *name;
	bool passed; /* this object was met */
	library_function *found;
};

static int look_behind(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct behind *b = arg;
	struct object o;

	(void) size;
	look_at(info, &o);
	if (real_is_ours((const void *) o.begin)) {
		b->passed = true;
		return 0;
	}
	if (!b->passed)
		return 0;
	read_dynamic(&o);
	b->found = function(&o, b->name);
	return b->found != NULL;
}

library_function *library_behind_us(const char *name)
{
	const int saved = errno;
	struct behind b = { .name = name };

	(void) dl_iterate_phdr(look_behind, &b);
	errno = saved;
	return b.found;
}

/* ---- what is remembered ---- */

static bool same(const struct library *a, const struct library *b)
{
	return a->begin == b->begin && a->end == b->end &&
	       memcmp(a->functions, b->functions, sizeof(a->functions)) == 0;
}

/* 1 + the number of the place with this library in it; 0: no memory. */
static uint32_t keep(const struct library *found)
{
	uint32_t number;

	for (uint32_t i = 0; i < pool_used(&pool); i++)
		if (pool_ready(&pool, i) && same(at(i), found))
			return i + 1;
	if (!pool_take(&pool, &number))
		return 0;

	struct library *l = pool_at(&pool, number);

	/* Two threads may keep the same one twice; whoever sees a place half-filled takes another. */
	memcpy(l->functions, found->functions, sizeof(l->functions));
	l->end = found->end;
	l->begin = found->begin;
	return number + 1;
}

static uint32_t recall(struct library_kind *kind, uintptr_t caller, uint64_t generation)
{
	for (unsigned i = 0; i < LIBRARY_CALLERS; i++) {
		struct library_caller *c = &kind->callers[i];
		/* Acquire, each: pairs with the release of remember(), so that the second look
		 * at the sequence differs when any of them is newer than the first. */
		const uint32_t sequence = atomic_load_explicit(&c->sequence, memory_order_acquire);
		const uintptr_t begin = atomic_load_explicit(&c->begin, memory_order_acquire);
		const uintptr_t end = atomic_load_explicit(&c->end, memory_order_acquire);
		const uint64_t of = atomic_load_explicit(&c->generation, memory_order_acquire);
		const uint32_t library = atomic_load_explicit(&c->library, memory_order_acquire);

		if (caller >= begin && caller < end && of == generation && library != 0 &&
		    sequence % 2 == 0 &&
		    atomic_load_explicit(&c->sequence, memory_order_relaxed) == sequence)
			return library;
	}
	return 0;
}

static void remember(struct library_kind *kind, const struct search *s, uint32_t library)
{
	const uint32_t i = atomic_fetch_add_explicit(&kind->next, 1, memory_order_relaxed);
	struct library_caller *c = &kind->callers[i % LIBRARY_CALLERS];
	uint32_t sequence = atomic_load_explicit(&c->sequence, memory_order_relaxed);

	/* A fork in the middle of this leaves the child one place less. */
	if (sequence % 2 != 0 ||
	    !atomic_compare_exchange_strong_explicit(&c->sequence, &sequence, sequence + 1,
						     memory_order_acquire, memory_order_relaxed))
		return;
	atomic_store_explicit(&c->begin, s->calling.begin, memory_order_release);
	atomic_store_explicit(&c->end, s->calling.end, memory_order_release);
	atomic_store_explicit(&c->generation, s->generation, memory_order_release);
	atomic_store_explicit(&c->library, library, memory_order_release);
	atomic_store_explicit(&c->sequence, sequence + 2, memory_order_release);
}

const struct library *library_of(struct library_kind *kind, const void *caller)
{
	const int saved = errno;
	struct search s = { .kind = kind, .caller = (uintptr_t) caller };
	uint64_t generation = 0;

	(void) dl_iterate_phdr(read_generation, &generation);

	uint32_t library = recall(kind, s.caller, generation);

	if (library == 0) {
		(void) dl_iterate_phdr(find_caller, &s);
		(void) dl_iterate_phdr(find_library, &s);
		if (s.fit != NO_FIT)
			library = keep(&s.found);
		if (library != 0)
			remember(kind, &s, library);
	}
	errno = saved;
	return library != 0 ? at(library - 1) : NULL;
}

const struct library *library_called(struct library_kind *kind, unsigned which, const void *caller,
				     bool *ret_ours)
{
	const struct library *l = library_of(kind, caller);

	*ret_ours = false;
	if (l == NULL || l->functions[which] == NULL) {
		traffic_count(METRICS_LIBRARY_LOST);
		return NULL;
	}
	/* From our own address: a function that jumps to another as its last act. */
	*ret_ours = armed && !library_calls_itself(l, caller) && !real_is_ours(caller);
	return l;
}
