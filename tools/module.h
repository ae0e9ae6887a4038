/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of ELF as the tool needs: what a program is, and which function an address lies in.
 * Reads with pread(2) and trusts no offset: the file may be anything.
 */
#ifndef TOOLS_MODULE_H
#define TOOLS_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODULE_INTERPRETER_SIZE 256

struct module_facts {
	unsigned char class;   /* ELFCLASS64 */
	unsigned char data;    /* ELFDATA2LSB */
	uint16_t machine, type;
	bool interpreted;      /* has a PT_INTERP: dynamically linked */
	char interpreter[MODULE_INTERPRETER_SIZE];
};

/* module_examine - false when the file is no ELF; interpreted only for our own class and order */
bool module_examine(int fd, struct module_facts *ret);

/*
 * module_symbol - the function that holds virtual address @address
 * @ret_name: @size bytes
 * False when no symbol of .symtab or .dynsym covers it.
 */
bool module_symbol(int fd, uint64_t address, char *ret_name, size_t size, uint64_t *ret_start);

/* module_machine_name - "x86_64"; NULL when we have no name for it */
const char *module_machine_name(uint16_t machine);

#endif
