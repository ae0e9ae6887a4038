/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what ELF files are linked to; nobody has vouched for them. */
#include "tools/binary.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 256 /* as tools/module.c has them */
#define SECTIONS_MAX 4096
#define DYNAMIC_MAX  4096                /* entries of a dynamic section; real ones have 40 */
#define NAMES_MAX    (UINT64_C(1) << 26) /* bytes of names; a browser's have 40 MiB */
#define SYMBOLS_MAX  (UINT64_C(1) << 22)
#define CHUNK        512         /* symbols or segments' bytes read at once */
#define GO_WINDOW    (64 * 1024) /* Go itself looks for its mark this far */

static const char go_mark[] = "\xff Go buildinf:"; /* aligned to 16, at the head of the data */

struct file {
	int fd;
	uint64_t size;
	bool whole;
	uint64_t n_segments, n_sections;
	Elf64_Ehdr head;
	Elf64_Phdr segments[SEGMENTS_MAX];
};

static bool read_at(struct file *f, void *to, uint64_t size, uint64_t offset)
{
	if (offset > f->size || size > f->size - offset ||
	    pread(f->fd, to, (size_t) size, (off_t) offset) != (ssize_t) size) {
		f->whole = false;
		return false;
	}
	return true;
}

static bool read_section(struct file *f, uint64_t index, Elf64_Shdr *ret)
{
	const uint64_t at = index * sizeof(*ret);

	return index < f->n_sections && f->head.e_shoff <= UINT64_MAX - at &&
	       read_at(f, ret, sizeof(*ret), f->head.e_shoff + at);
}

static bool open_file(struct file *f, int fd)
{
	struct stat st;

	*f = (struct file) { .fd = fd, .whole = true };
	if (fstat(fd, &st) < 0 || st.st_size < 0)
		return false;
	f->size = (uint64_t) st.st_size;
	if (!read_at(f, &f->head, sizeof(f->head), 0))
		return true;
	if (f->head.e_phentsize == sizeof(Elf64_Phdr))
		f->n_segments = f->head.e_phnum < SEGMENTS_MAX ? f->head.e_phnum : SEGMENTS_MAX;
	if (f->head.e_shentsize == sizeof(Elf64_Shdr))
		f->n_sections = f->head.e_shnum < SECTIONS_MAX ? f->head.e_shnum : SECTIONS_MAX;
	if (!read_at(f, f->segments, f->n_segments * sizeof(*f->segments), f->head.e_phoff))
		f->n_segments = 0;
	return true;
}

/* Where in the file a virtual address lies. */
static bool offset_of(const struct file *f, uint64_t address, uint64_t *ret)
{
	for (uint64_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *const s = &f->segments[i];

		if (s->p_type == PT_LOAD && address >= s->p_vaddr &&
		    address - s->p_vaddr < s->p_filesz &&
		    s->p_offset <= UINT64_MAX - (address - s->p_vaddr)) {
			*ret = s->p_offset + (address - s->p_vaddr);
			return true;
		}
	}
	return false;
}

/* A string of a table that begins at @offset and has @size bytes; false when it does not end. */
static bool read_string(struct file *f, uint64_t offset, uint64_t size, uint64_t at, char *ret,
			size_t ret_size)
{
	if (at >= size || offset > f->size || at >= f->size - offset)
		return false;

	const uint64_t left = size - at < f->size - offset - at ? size - at : f->size - offset - at;
	const size_t n = left < ret_size ? (size_t) left : ret_size;
	char bytes[BINARY_PATH_SIZE];

	if (n > sizeof(bytes) || !read_at(f, bytes, n, offset + at) ||
	    memchr(bytes, '\0', n) == NULL)
		return false;
	memcpy(ret, bytes, strlen(bytes) + 1);
	return true;
}

/* ---- the dynamic section ---- */

struct dynamic {
	uint64_t strings, strings_size, symbols; /* addresses; 0: not said */
	uint64_t n;
	Elf64_Dyn entries[DYNAMIC_MAX];
};

static bool read_dynamic(struct file *f, struct dynamic *d)
{
	const Elf64_Phdr *at = NULL;

	for (uint64_t i = 0; i < f->n_segments; i++) {
		if (f->segments[i].p_type == PT_DYNAMIC)
			at = &f->segments[i];
	}
	if (at == NULL)
		return false;
	d->n = at->p_filesz / sizeof(*d->entries);
	if (d->n > DYNAMIC_MAX)
		d->n = DYNAMIC_MAX;
	if (!read_at(f, d->entries, d->n * sizeof(*d->entries), at->p_offset))
		d->n = 0;
	for (uint64_t i = 0; i < d->n && d->entries[i].d_tag != DT_NULL; i++) {
		const Elf64_Dyn *const e = &d->entries[i];

		if (e->d_tag == DT_STRTAB)
			d->strings = e->d_un.d_ptr;
		else if (e->d_tag == DT_STRSZ)
			d->strings_size = e->d_un.d_val;
		else if (e->d_tag == DT_SYMTAB)
			d->symbols = e->d_un.d_ptr;
	}
	return true;
}

static void take_dynamic(struct file *f, const struct dynamic *d, struct binary *ret)
{
	uint64_t strings;

	if (!offset_of(f, d->strings, &strings))
		return;
	for (uint64_t i = 0; i < d->n && d->entries[i].d_tag != DT_NULL; i++) {
		const uint64_t value = d->entries[i].d_un.d_val;

		switch (d->entries[i].d_tag) {
		case DT_NEEDED:
			if (ret->n_needed < BINARY_NEEDED_MAX &&
			    read_string(f, strings, d->strings_size, value,
					ret->needed[ret->n_needed], BINARY_NAME_SIZE))
				ret->n_needed++;
			break;
		case DT_SONAME:
			(void) read_string(f, strings, d->strings_size, value, ret->soname,
					   sizeof(ret->soname));
			break;
		case DT_RPATH:
			(void) read_string(f, strings, d->strings_size, value, ret->rpath,
					   sizeof(ret->rpath));
			break;
		case DT_RUNPATH:
			(void) read_string(f, strings, d->strings_size, value, ret->runpath,
					   sizeof(ret->runpath));
			break;
		case DT_FLAGS_1:
			ret->pie |= (value & DF_1_PIE) != 0;
			break;
		default: /* a number from a file */
			break;
		}
	}
}

/* ---- Go ---- */

/* strip(1) takes the sections, `-buildid=` the note; Go's own mark stays for its `version -m`. */
static bool go_segment(struct file *f, const Elf64_Phdr *s)
{
	char bytes[4096 + sizeof(go_mark)];

	if (s->p_type == PT_NOTE && s->p_filesz >= 16)
		return read_at(f, bytes, 16, s->p_offset) && memcmp(bytes + 12, "Go\0", 4) == 0;
	if (s->p_type != PT_LOAD || (s->p_flags & PF_W) == 0)
		return false;
	for (uint64_t at = 0; at < GO_WINDOW && at < s->p_filesz; at += 4096) {
		const uint64_t left = s->p_filesz - at;
		const uint64_t n = left < sizeof(bytes) ? left : sizeof(bytes);

		if (s->p_offset > UINT64_MAX - at || !read_at(f, bytes, n, s->p_offset + at))
			return false;
		if (memmem(bytes, (size_t) n, go_mark, sizeof(go_mark) - 1) != NULL)
			return true;
	}
	return false;
}

static bool is_go(struct file *f)
{
	char name[32];
	Elf64_Shdr names, s;

	for (uint64_t i = 0; i < f->n_segments; i++) {
		if (go_segment(f, &f->segments[i]))
			return true;
	}
	if (!read_section(f, f->head.e_shstrndx, &names))
		return false;
	for (uint64_t i = 0; i < f->n_sections && read_section(f, i, &s); i++) {
		if (read_string(f, names.sh_offset, names.sh_size, s.sh_name, name, sizeof(name)) &&
		    (strcmp(name, ".go.buildinfo") == 0 || strcmp(name, ".gopclntab") == 0))
			return true;
	}
	return false;
}

bool binary_read(int fd, struct binary *ret)
{
	struct module_facts facts;
	struct file f;

	if (!module_examine(fd, &facts))
		return false;
	*ret = (struct binary) { .facts = facts };
	ret->ours = facts.class == ELFCLASS64 && facts.data == ELFDATA2LSB;
	if (!ret->ours || !open_file(&f, fd))
		return true;

	struct dynamic *const d = calloc(1, sizeof(*d));

	if (d != NULL && read_dynamic(&f, d)) {
		ret->dynamic = true;
		take_dynamic(&f, d, ret);
	}
	free(d);
	ret->go = is_go(&f);
	ret->whole = f.whole;
	return true;
}

/* ---- symbols ---- */

struct table {
	uint64_t offset, n; /* of the symbols */
	uint64_t names, names_size;
	bool exported;
};

struct asked {
	void (*each)(void *arg, const char *name, bool defined, bool exported);
	void *arg;
};

static void walk_names(struct file *f, const struct table *t, const char *names,
		       const struct asked *asked)
{
	Elf64_Sym chunk[CHUNK];

	for (uint64_t at = 0; at < t->n && at < SYMBOLS_MAX; at += CHUNK) {
		const uint64_t n = t->n - at < CHUNK ? t->n - at : CHUNK;

		if (t->offset > UINT64_MAX - at * sizeof(*chunk) ||
		    !read_at(f, chunk, n * sizeof(*chunk), t->offset + at * sizeof(*chunk)))
			return;
		for (uint64_t i = 0; i < n; i++) {
			/* The last byte of @names is a NUL. */
			if (chunk[i].st_name > 0 && chunk[i].st_name < t->names_size)
				asked->each(asked->arg, names + chunk[i].st_name,
					    chunk[i].st_shndx != SHN_UNDEF, t->exported);
		}
	}
}

static void walk(struct file *f, const struct table *t, const struct asked *asked)
{
	if (t->names_size == 0 || t->names_size > NAMES_MAX || t->names_size > f->size)
		return;

	char *const names = malloc((size_t) t->names_size + 1);

	if (names != NULL && read_at(f, names, t->names_size, t->names)) {
		names[t->names_size] = '\0';
		walk_names(f, t, names, asked);
	}
	free(names);
}

static bool table_of_section(struct file *f, const Elf64_Shdr *s, struct table *ret)
{
	Elf64_Shdr names;

	if ((s->sh_type != SHT_SYMTAB && s->sh_type != SHT_DYNSYM) ||
	    !read_section(f, s->sh_link, &names))
		return false;
	*ret = (struct table) {
		.offset = s->sh_offset,
		.n = s->sh_size / sizeof(Elf64_Sym),
		.names = names.sh_offset,
		.names_size = names.sh_size,
		.exported = s->sh_type == SHT_DYNSYM,
	};
	return true;
}

/* Without sections nothing says how many there are; every linker has the names follow them. */
static bool table_of_dynamic(struct file *f, struct table *ret)
{
	struct dynamic *const d = calloc(1, sizeof(*d));
	bool found = false;

	if (d != NULL && read_dynamic(f, d) && d->symbols < d->strings) {
		*ret = (struct table) {
			.n = (d->strings - d->symbols) / sizeof(Elf64_Sym),
			.names_size = d->strings_size,
			.exported = true,
		};
		found = offset_of(f, d->symbols, &ret->offset) &&
			offset_of(f, d->strings, &ret->names);
	}
	free(d);
	return found;
}

void binary_symbols(int fd, const struct binary *b,
		    void (*each)(void *arg, const char *name, bool defined, bool exported),
		    void *arg)
{
	const struct asked asked = { .each = each, .arg = arg };
	bool exported = false;
	struct table t;
	struct file f;
	Elf64_Shdr s;

	if (!b->ours || !open_file(&f, fd))
		return;
	for (uint64_t i = 0; i < f.n_sections && read_section(&f, i, &s); i++) {
		if (!table_of_section(&f, &s, &t))
			continue;
		walk(&f, &t, &asked);
		exported |= t.exported;
	}
	if (!exported && table_of_dynamic(&f, &t))
		walk(&f, &t, &asked);
}
