/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libunwind's configure would find on Linux, x86_64 and aarch64, with everything
 * optional off: no .debug_frame, no minidebuginfo, no signal masks of its own (the one
 * who unwinds holds a trylock), no cache per thread.
 */
#define CONSERVATIVE_CHECKS         1
#define HAVE_BYTESWAP_H             1
#define HAVE_DL_ITERATE_PHDR        1
#define HAVE_ELF_H                  1
#define HAVE_ENDIAN_H               1
#define HAVE_LINK_H                 1
#define HAVE_MINCORE                1
#define HAVE_PIPE2                  1
#define HAVE_SYS_SYSCALL_H          1
#define HAVE__BUILTIN_UNREACHABLE   1
#define HAVE__BUILTIN___CLEAR_CACHE 1
#define PACKAGE_BUGREPORT           ""
#define PACKAGE_STRING              "libunwind 1.6.2"
#define SIZEOF_OFF_T                8
