/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services whose files lie in shared memory, as private copies. Nothing here is trusted:
 * files are opened for reading only, checked for their owner, copied with pread(2), and every
 * length and index is looked at again in the copy.
 */
#ifndef TOOLS_SHELF_H
#define TOOLS_SHELF_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/event.h"
#include "core/ring.h"
#include "core/segment.h"
#include "core/state.h"

#define SHELF_SERVICES_MAX 4096 /* files looked at; a directory may hold any number */
#define SHELF_USER_SIZE    64

struct shelf_service {
	char path[PATH_MAX];           /* of the state file */
	char name[sizeof(((struct segment_header *) NULL)->service) + 1];
	char stem[NAME_MAX + 1];       /* "SERVICE-HASH" */
	char user[SHELF_USER_SIZE];    /* name, or number, of the directory's owner */
	uid_t uid;
	struct segment_header header;  /* strings NUL-terminated */
	bool timed;                    /* its instants are of this boot and time namespace */
	struct state *state;           /* taken; NULL after shelf_list() */
	struct event *events;          /* taken; oldest first */
	size_t n_events;
	uint64_t events_lost;
};

struct shelf_skipped {
	char path[PATH_MAX];
	char reason[SEGMENT_REASON_SIZE];
};

struct shelf {
	struct shelf_service *services; /* taken; by name, then user, then path */
	size_t n_services;
	struct shelf_skipped *skipped;  /* taken */
	size_t n_skipped;
	char looked_in[PATH_MAX];       /* for people */
};

/* Which services to keep; a NULL filter keeps all. */
struct shelf_filter {
	char *const *names; /* borrowed: a service's name, its stem or its path */
	size_t n;
};

/*
 * shelf_read - copy what can be seen
 * @dir: the directory to look in; NULL for AGENTSHIM_DIR, else for root every
 *       /dev/shm/agentshim-UID, for others their own
 * @max_events: the newest so many of each service; 0: rings are not read
 */
void shelf_read(struct shelf *ret, const char *dir, const struct shelf_filter *filter,
		size_t max_events);

/* shelf_list - as shelf_read(), but who is there and no more */
void shelf_list(struct shelf *ret, const char *dir, const struct shelf_filter *filter);
void shelf_drop(struct shelf *s);

/* shelf_has_all - is each name somebody's? Complains of those that are not. */
bool shelf_has_all(const struct shelf *s, const struct shelf_filter *filter);

/* shelf_complain - of each file that was skipped */
void shelf_complain(const struct shelf *s);

/* shelf_matches - does @name name this service? */
bool shelf_matches(const struct shelf_service *s, const char *name);

/* shelf_boot_id - of this machine, as headers have it; all zeros when it cannot be read */
void shelf_boot_id(uint8_t ret[16]);

/* A file of rings that is read as it grows. */
struct shelf_tap {
	int fd;           /* -1: closed */
	uint32_t records;
	dev_t dev;
	ino_t ino;
	struct ring_cursor cursor;
	uint64_t lost;    /* records that were gone before we came */
};

/*
 * shelf_tap_open - open a service's events (SEGMENT_RING) or spans (SEGMENT_SPANS), checked
 * @from_now:   leave out what is there already
 * @ret_reason: set when there is nothing to read
 * Returns 0 or -EINVAL.
 */
int shelf_tap_open(const struct shelf_service *s, enum segment_kind kind, bool from_now,
		   struct shelf_tap *ret, const char **ret_reason);

/* shelf_tap_read - see ring_follow() */
size_t shelf_tap_read(struct shelf_tap *tap, struct event *events, size_t max);

/* shelf_tap_replaced - has the file's name gone to another file? */
bool shelf_tap_replaced(const struct shelf_tap *tap, const struct shelf_service *s,
			enum segment_kind kind);

void shelf_tap_close(struct shelf_tap *tap);

/*
 * shelf_map - map a service's files for writing, checked anew
 * @ret_events: its file is NULL when there is none to write to
 * Returns 0, or -errno with @ret_reason (SEGMENT_REASON_SIZE) set.
 */
int shelf_map(const struct shelf_service *s, struct segment_header **ret_header,
	      struct state **ret_state, struct rings *ret_events, char *ret_reason);

#endif
