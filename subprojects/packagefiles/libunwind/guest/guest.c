/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in for libunwind's ways into the host, and the calls that are not upstream's. */
#define UNW_LOCAL_ONLY
#include "libunwind_i.h"

#include <dlfcn.h>

#include "core/raw.h"
#include "unwind-guest.h"

/*
 * Weak, so that neither a version nor the loader's own name enters DT_NEEDED; the loader
 * has it from glibc 2.35 on.
 */
extern __typeof__(_dl_find_object) _dl_find_object __attribute__((weak));

bool unwind_guest_able(void)
{
	return _dl_find_object;
}

/*
 * dl_iterate_phdr for the one object that holds the address, without the loader's lock.
 * libunwind's callback reads segments, .eh_frame_hdr and .dynamic from what it is given;
 * these three are made up from what glibc knows. An object without .eh_frame_hdr is not
 * shown: libunwind would open its file.
 */
int unwind_guest_find(int (*found)(struct dl_phdr_info *, size_t, void *), void *data)
{
	void *const ip = *(void **)data; /* the first field of struct dwarf_callback_data */
	struct dl_find_object object;

	if (_dl_find_object(ip, &object) || !object.dlfo_eh_frame || !object.dlfo_link_map)
		return 0;

	const struct link_map *const map = object.dlfo_link_map;
	const ElfW(Addr) base = map->l_addr;
	const size_t size = (char *)object.dlfo_map_end - (char *)object.dlfo_map_start;
	const ElfW(Phdr) headers[] = {
		{ .p_type = PT_LOAD,
		  .p_vaddr = (ElfW(Addr))object.dlfo_map_start - base,
		  .p_filesz = size,
		  .p_memsz = size },
		{ .p_type = PT_GNU_EH_FRAME,
		  .p_vaddr = (ElfW(Addr))object.dlfo_eh_frame - base },
		{ .p_type = PT_DYNAMIC, .p_vaddr = (ElfW(Addr))map->l_ld - base },
	};
	struct dl_phdr_info info = {
		.dlpi_addr = base,
		.dlpi_name = map->l_name,
		.dlpi_phdr = headers,
		.dlpi_phnum = map->l_ld ? 3 : 2,
	};

	return found(&info, sizeof(info), data);
}

/*
 * The kernel copies the mask before it looks at how, which is none: EFAULT tells that the
 * address cannot be read, EINVAL that it can. No descriptor, nothing changed.
 */
static bool page_readable(uintptr_t address)
{
	const long no_such_how = -1;

	return raw_syscall(SYS_rt_sigprocmask, no_such_how, (long)address, 0, 8, 0, 0) !=
	       -EFAULT;
}

/* Stands for mincore and msync: 0 when each page of the range can be read, else -1. */
int unwind_guest_readable(const void *address, size_t size)
{
	const uintptr_t page = 4096; /* libunwind's, and no kernel has smaller ones */

	errno = 0;
	for (uintptr_t at = (uintptr_t)address; at < (uintptr_t)address + size; at += page)
		if (!page_readable(at))
			return -1;
	return 0;
}

/* By unwind-init.c, which holds the list of addresses found readable. */
void unwind_guest_forget_readable(void);

int unwind_guest_open(unw_cursor_t *cursor, unw_context_t *context)
{
	const int ret = unw_init_local(cursor, context);

	if (ret < 0)
		return ret;
	/* Objects come and go: what was learned about an address last time may be wrong. */
	unw_local_addr_space->caching_policy = UNW_CACHE_NONE;
	unwind_guest_forget_readable();
#ifdef __aarch64__
	((struct cursor *)cursor)->validate = 1; /* x86_64's unw_step() sees to it itself */
#endif
	return 0;
}

uintptr_t unwind_guest_pc(const unw_cursor_t *cursor)
{
	const struct dwarf_cursor *const c = &((const struct cursor *)cursor)->dwarf;

	return c->ip ? c->ip - (c->use_prev_instr ? 1 : 0) : 0;
}

/* References of code that a local unwind never reaches. */
int _Uelf64_get_proc_name(unw_addr_space_t as, pid_t pid, unw_word_t ip, char *name,
			  size_t size, unw_word_t *offset);
Elf64_Shdr *_Uelf64_find_section(struct elf_image *image, const char *name);

int _Uelf64_get_proc_name(unw_addr_space_t as, pid_t pid, unw_word_t ip, char *name,
			  size_t size, unw_word_t *offset)
{
	return -UNW_ENOINFO;
}

Elf64_Shdr *_Uelf64_find_section(struct elf_image *image, const char *name)
{
	return NULL;
}

void tdep_get_exe_image_path(char *path)
{
	*path = '\0';
}
