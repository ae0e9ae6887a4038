/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a service's files lie, what they are called and what each holds: the same to the shim,
 * which makes them at a first call, and to whoever else has something to record.
 */
#ifndef CORE_HOME_H
#define CORE_HOME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/segment.h"
#include "core/service.h"
#include "core/text.h"

#define HOME_BOOT_ID_SIZE 36 /* of /proc/sys/kernel/random/boot_id, without its newline */

/* What is the same in all files of a service. Strings are borrowed. */
struct home {
	const struct service *service;
	const char *creator;   /* the executable, for people */
	uint8_t boot_id[16];
	uint64_t timens;       /* inode of the time namespace; 0 when unknown */
	uint32_t span_records; /* of each ring in a file of spans that we make; outlives the spec */
	int (*close_fd)(int fd);
};

/* home_dir - @chosen, an absolute path, or when that is "" /dev/shm/agentshim-UID */
void home_dir(const char *chosen, uid_t uid, struct text *out);

/* home_file - the name of one of the service's files */
void home_file(const struct service *s, enum segment_kind kind, struct text *out);

/* home_boot_id - of the text in /proc, all zeros where it is none */
void home_boot_id(const char *text, size_t len, uint8_t ret[16]);

/*
 * home_spec - all that segment_open() wants to know of a file
 * @h:    borrowed for as long as the spec is
 * @file: by home_file()
 */
struct segment_spec home_spec(const struct home *h, enum segment_kind kind, int dirfd,
			      const char *file, uint64_t now_wall_ns);

#endif
