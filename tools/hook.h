/* SPDX-License-Identifier: Apache-2.0 */
/* The command of `agentshim tail --on-change`: run for state changes, one at a time. */
#ifndef TOOLS_HOOK_H
#define TOOLS_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/event.h"

struct hook;

/* hook_new - @command: for `sh -c`; borrowed. Never NULL. */
struct hook *hook_new(const char *command);
void hook_drop(struct hook *h); /* NULL too; a command that runs goes on */

/* hook_add - a change to tell of; changes of one breaker that wait are summed up */
void hook_add(struct hook *h, const struct event *e, const char *service);

/*
 * hook_run - begin the next command if it is time
 * None begins while another runs, nor less than a second after the last of the same breaker.
 * Its standard input is one line of JSON: the latest change, as event_json() writes it, with
 * "summed": how many changes it stands for.
 * Returns false when nothing waits and nothing runs.
 */
bool hook_run(struct hook *h, uint64_t now);

#endif
