/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of fixed size in a directory of the user's own, mapped by every process of a
 * service. Made whole by whoever is first; whatever is doubtful is refused with a reason, and
 * the caller goes on in private memory.
 */
#ifndef CORE_SEGMENT_H
#define CORE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SEGMENT_REASON_SIZE 160
#define SEGMENT_BODY_OFFSET 4096 /* the header has the first page to itself */
#define SEGMENT_CREATOR_SIZE 256

/* At offset 0 of every file. Written before the file has its name; then only @control moves. */
struct segment_header {
	char magic[8];           /* "agntshim" */
	uint32_t layout;         /* of the body; also in the file's name */
	uint32_t kind;           /* enum segment_kind */
	uint64_t size;           /* of the whole file */
	uint8_t boot_id[16];     /* /proc/sys/kernel/random/boot_id; zeros when unreadable */
	uint64_t timens;         /* inode of the creator's time namespace; 0 unknown */
	uint64_t created_wall_ns;
	uint32_t creator_pid;
	/* What `agentshim off|on|observe` last said: 0 nothing, else 1 + enum policy_mode. */
	_Atomic uint32_t control;
	char service[72];        /* as people see it */
	char creator[SEGMENT_CREATOR_SIZE]; /* the executable, for people; NUL-terminated */
};

enum segment_kind { SEGMENT_STATE = 1, SEGMENT_RING = 2, SEGMENT_SPANS = 3 };

struct segment_spec {
	int dirfd;               /* of the checked directory; borrowed */
	const char *name;        /* "SERVICE-HASH.v2.state" */
	enum segment_kind kind;
	uint32_t layout;
	size_t body_size;        /* of a file that we make */
	size_t body_min, body_max; /* of one that is there; 0: as body_size */
	const char *service, *creator; /* for the header */
	uint8_t boot_id[16];
	uint64_t timens;
	uint64_t now_wall_ns;
	/* Lays out a new body (zero-filled memory of body_size bytes). */
	void (*init)(void *body, void *arg);
	void *arg;
	int (*close_fd)(int fd); /* close(2), past any hook */
};

struct segment {
	struct segment_header *header;
	void *body;
	size_t size;             /* of the whole mapping */
	dev_t dev;
	ino_t ino;               /* of the file; 0: private memory */
	bool shared;
};

/*
 * segment_dir - open the directory, making it (0700) when it is missing
 * @path: absolute
 * @uid:  who must own it: the effective user
 * @ret_reason: SEGMENT_REASON_SIZE bytes, set on failure: what, where, what was expected
 * Returns a descriptor (O_CLOEXEC; the caller closes it), or -errno.
 * Context: no allocation, no stdio; may block on the file system.
 */
int segment_dir(const char *path, uid_t uid, int (*close_fd)(int fd), char *ret_reason);

/*
 * segment_open - map the service's file, making or replacing it as needed
 *
 * A file of another boot is replaced (nobody living maps it). Anything else that is not as
 * expected (owner, type, size, magic, layout, time namespace) is left alone.
 * Where the size may differ, only its bounds are looked at: the caller looks at the body.
 * Space is reserved before it is mapped: a sparse file on a full tmpfs is SIGBUS.
 * @ret_reason: as segment_dir()
 * Returns 0, or -errno with @ret untouched. No descriptor stays open.
 * Context: any thread; no allocation, no stdio; errno clobbered.
 */
int segment_open(const struct segment_spec *spec, struct segment *ret, char *ret_reason);

/* segment_private - the same body in memory that only our forked children share; NULL body
 * when even that failed. */
int segment_private(const struct segment_spec *spec, struct segment *ret);

/* segment_drop - unmap a segment that nobody has seen yet */
void segment_drop(struct segment *s);

/*
 * segment_gone - has the file that @s maps been deleted or replaced under its name?
 * False when that cannot be told (no permission to look).
 * Context: one fstatat(2); errno kept.
 */
bool segment_gone(const struct segment *s, int dirfd, const char *name);

#endif
