/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of HTTP statuses, as a list of the user's names them. */
#ifndef CORE_STATUSES_H
#define CORE_STATUSES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/piece.h"

#define STATUSES_FIRST 100
#define STATUSES_LAST  599

/* A bit each from STATUSES_FIRST on. Zero-filled: none. */
struct statuses {
	uint8_t bits[(STATUSES_LAST - STATUSES_FIRST) / 8 + 1];
};

/* A list as it is read. Zero-filled at first. */
struct statuses_list {
	struct statuses listed, barred;
	bool some; /* one without '!' was read */
};

/*
 * statuses_add - one entry: "502", "5xx" or "500-599", perhaps with a '!'
 * Returns false when it is none of these; @list untouched.
 */
bool statuses_add(struct statuses_list *list, struct piece entry);

/*
 * statuses_of - what the list says: '!' beats all, wherever it stands, and alone takes away
 * from @otherwise
 */
struct statuses statuses_of(const struct statuses_list *list, const struct statuses *otherwise);

/* statuses_product - 5xx */
struct statuses statuses_product(void);

/* statuses_have - Context: any thread, signal handlers too; pure. */
bool statuses_have(const struct statuses *s, unsigned status);

#endif
