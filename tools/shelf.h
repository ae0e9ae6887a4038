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
	struct state *state;           /* taken */
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
void shelf_drop(struct shelf *s);

/* shelf_matches - does @name name this service? */
bool shelf_matches(const struct shelf_service *s, const char *name);

/*
 * shelf_map - map a service's files for writing, checked anew
 * @ret_events: its file is NULL when there is none to write to
 * Returns 0, or -errno with @ret_reason (SEGMENT_REASON_SIZE) set.
 */
int shelf_map(const struct shelf_service *s, struct segment_header **ret_header,
	      struct state **ret_state, struct rings *ret_events, char *ret_reason);

#endif
