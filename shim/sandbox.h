/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that give up system calls. Under a seccomp filter any call of ours that the program
 * itself does not make may kill it, so from then on every hook forwards and does nothing else.
 * A filter that was there before us (a container's, a unit's) is the user's to allow for.
 */
#ifndef SHIM_SANDBOX_H
#define SHIM_SANDBOX_H

#include <stdatomic.h>
#include <stdbool.h>

/* Never goes back to false. Forked children have it too. */
extern _Atomic bool sandboxed;

/*
 * sandbox_seccomp, sandbox_prctl - seccomp(2) or prctl(2) with these arguments returned @rc
 * Context: any thread, signal handlers too; no system call, for it may be the forbidden one.
 */
void sandbox_seccomp(unsigned long operation, long rc);
void sandbox_prctl(unsigned long option, long rc);

#endif
