/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included before each file of libunwind: makes it a guest. What it would call in libc is
 * declared first, then taken away, so that no name is left which the shim exports itself.
 */
#ifndef __ASSEMBLER__

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int unwind_guest_find(int (*found)(struct dl_phdr_info *, size_t, void *), void *ip);
int unwind_guest_readable(const void *address, size_t size);

/* The loader's list is walked under its lock; _dl_find_object needs none. */
#define dl_iterate_phdr(callback, data) unwind_guest_find(callback, data)

/* Reached by a malformed .eh_frame_hdr alone, in a function whose callers take an error. */
#define abort()                         return -1

/* Only ever asked for files, names and images that a guest does not open. */
#define close(fd)                       0
#define fstat(fd, stat)                 (-1)
#define getpid()                        0
#define open(path, flags)               (-1)
#define write(fd, buffer, size)         (errno = 0, 1)

/* One caller at a time, by contract (unwind-guest.h). */
#define pthread_mutex_init(lock, attr)  0
#define pthread_mutex_lock(lock)        0
#define pthread_mutex_unlock(lock)      0

/* The pipe into which libunwind writes to find out what is readable: no pipe, the kernel is asked. */
#define mincore(address, size, vector)  ((void)(vector), unwind_guest_readable(address, size))
#define msync(address, size, flags)     unwind_guest_readable(address, size)
#define pipe2(ends, flags)              0
#define read(fd, buffer, size)          (errno = 0, (void)(buffer), 1)
#define syscall(nr, fd, address, size)  (errno = 0, 1)

#endif
