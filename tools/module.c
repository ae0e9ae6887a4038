/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ELF files that nobody has vouched for. */
#include "tools/module.h"

#include <elf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 256             /* program headers looked at; real files have a dozen */
#define SECTIONS_MAX 4096
#define SYMBOLS_MAX  (UINT64_C(1) << 22) /* a browser has two million */
#define CHUNK        1024            /* symbols read at once */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
	return offset <= INT64_MAX && pread(fd, to, size, (off_t) offset) == (ssize_t) size;
}

const char *module_machine_name(uint16_t machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86_64";
	case EM_AARCH64:
		return "aarch64";
	case EM_386:
		return "i386";
	case EM_ARM:
		return "arm";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	default: /* a number from a file, not an enum of ours */
		return NULL;
	}
}

static void read_interpreter(int fd, const Elf64_Ehdr *ehdr, struct module_facts *ret)
{
	for (unsigned i = 0; i < ehdr->e_phnum && i < SEGMENTS_MAX; i++) {
		Elf64_Phdr phdr;

		if (!read_at(fd, &phdr, sizeof(phdr), ehdr->e_phoff + (uint64_t) i * sizeof(phdr)))
			return;
		if (phdr.p_type != PT_INTERP)
			continue;

		const size_t n = phdr.p_filesz < sizeof(ret->interpreter) - 1
					 ? (size_t) phdr.p_filesz
					 : sizeof(ret->interpreter) - 1;

		ret->interpreted = read_at(fd, ret->interpreter, n, phdr.p_offset);
		ret->interpreter[n] = '\0';
		return;
	}
}

bool module_examine(int fd, struct module_facts *ret)
{
	unsigned char bytes[sizeof(Elf64_Ehdr)] = { 0 };
	/* A file of 32 bits has a shorter header, but the same beginning. */
	const ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
	Elf64_Ehdr ehdr;

	if (n < (ssize_t) sizeof(Elf32_Ehdr) || memcmp(bytes, ELFMAG, SELFMAG) != 0)
		return false;
	memcpy(&ehdr, bytes, sizeof(ehdr));
	*ret = (struct module_facts) {
		.class = bytes[EI_CLASS],
		.data = bytes[EI_DATA],
		.machine = ehdr.e_machine,
		.type = ehdr.e_type,
	};
	if (ret->data != OUR_DATA)
		ret->machine = __builtin_bswap16(ehdr.e_machine);
	else if (ret->class == ELFCLASS64 && ehdr.e_phentsize == sizeof(Elf64_Phdr))
		read_interpreter(fd, &ehdr, ret);
	return true;
}

/* The best symbol so far. */
struct search {
	uint64_t address;
	bool found;
	bool sized;       /* a symbol that says where it ends beats one that does not */
	Elf64_Sym symbol;
	Elf64_Shdr names;
};

static void weigh(struct search *q, const Elf64_Sym *sym, const Elf64_Shdr *names)
{
	const unsigned type = ELF64_ST_TYPE(sym->st_info);
	const bool covers = sym->st_size > 0 && q->address - sym->st_value < sym->st_size;

	if ((type != STT_FUNC && type != STT_GNU_IFUNC) || sym->st_shndx == SHN_UNDEF ||
	    sym->st_value > q->address || (sym->st_size > 0 && !covers))
		return;
	if (q->found && (q->sized > covers ||
			 (q->sized == covers && sym->st_value <= q->symbol.st_value)))
		return;
	q->found = true;
	q->sized = covers;
	q->symbol = *sym;
	q->names = *names;
}

static void search_table(int fd, const Elf64_Shdr *table, const Elf64_Shdr *names,
			 struct search *q)
{
	const uint64_t total = table->sh_size / sizeof(Elf64_Sym);
	Elf64_Sym chunk[CHUNK];

	for (uint64_t at = 0; at < total && at < SYMBOLS_MAX; at += CHUNK) {
		const size_t n = total - at < CHUNK ? (size_t) (total - at) : CHUNK;

		if (!read_at(fd, chunk, n * sizeof(*chunk),
			     table->sh_offset + at * sizeof(*chunk)))
			return;
		for (size_t i = 0; i < n; i++)
			weigh(q, &chunk[i], names);
	}
}

static bool read_section(int fd, const Elf64_Ehdr *ehdr, uint64_t index, Elf64_Shdr *ret)
{
	return index < ehdr->e_shnum && index < SECTIONS_MAX &&
	       read_at(fd, ret, sizeof(*ret), ehdr->e_shoff + index * sizeof(*ret));
}

/* A name of printable characters, whole: anything else is not worth showing. */
static bool read_name(int fd, const struct search *q, char *ret_name, size_t size)
{
	const uint64_t at = q->symbol.st_name;

	if (at >= q->names.sh_size)
		return false;

	const uint64_t left = q->names.sh_size - at;
	const size_t n = left < size ? (size_t) left : size;
	const ssize_t got = q->names.sh_offset <= INT64_MAX - at
				    ? pread(fd, ret_name, n, (off_t) (q->names.sh_offset + at))
				    : -1;

	if (got <= 0)
		return false;
	ret_name[got < (ssize_t) size ? got : (ssize_t) size - 1] = '\0';
	for (const char *c = ret_name; *c != '\0'; c++) {
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	}
	return ret_name[0] != '\0';
}

bool module_symbol(int fd, uint64_t address, char *ret_name, size_t size, uint64_t *ret_start)
{
	struct search q = { .address = address };
	Elf64_Ehdr ehdr;

	if (!read_at(fd, &ehdr, sizeof(ehdr), 0) || memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0 ||
	    ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != OUR_DATA ||
	    ehdr.e_shentsize != sizeof(Elf64_Shdr))
		return false;
	for (uint64_t i = 0; i < ehdr.e_shnum; i++) {
		Elf64_Shdr table, names;

		if (!read_section(fd, &ehdr, i, &table))
			break;
		if ((table.sh_type == SHT_SYMTAB || table.sh_type == SHT_DYNSYM) &&
		    read_section(fd, &ehdr, table.sh_link, &names))
			search_table(fd, &table, &names, &q);
	}
	if (!q.found || !read_name(fd, &q, ret_name, size))
		return false;
	*ret_start = q.symbol.st_value;
	return true;
}
