/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks out of the ring: their parts joined, their addresses turned into functions. */
#ifndef TOOLS_STACKS_H
#define TOOLS_STACKS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/shelf.h"

#define STACK_FRAMES_MAX 64
#define STACK_SYMBOL_SIZE 256

struct stack_frame {
	char module[PATH_MAX];          /* without control characters */
	uint64_t offset;                /* virtual address in the module's file, inside the call */
	char symbol[STACK_SYMBOL_SIZE]; /* "" when none is known */
	uint64_t delta;                 /* @offset less the symbol's start */
};

struct stack {
	const struct event *event;      /* what it belongs to; NULL when that has been overwritten */
	uint64_t id;
	uint32_t pid;
	uint64_t wall_ns;
	bool whole;                     /* no part was lost */
	size_t n_frames;
	struct stack_frame frames[STACK_FRAMES_MAX];
};

/*
 * stack_next - the next stack among the service's events, newest first
 * @at: 0 at first; where to go on
 * Modules are opened as the service's user. Returns false when there are no more.
 */
bool stack_next(const struct shelf_service *s, size_t *at, struct stack *ret);

#endif
