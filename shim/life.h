/* SPDX-License-Identifier: Apache-2.0 */
/* This process: whether we act in it at all, who it is, and what fork did to it. */
#ifndef SHIM_LIFE_H
#define SHIM_LIFE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/config.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * Lives on a page of its own that the kernel wipes in every forked child, also in those whose
 * fork ran no handlers (_Fork, raw clone): zeros mean "not this process yet".
 */
struct life {
	_Atomic uint32_t pid;
	_Atomic uint32_t ring;   /* 1 + the ring claimed; 0 none */
	_Atomic uint32_t building; /* shared.c's lock: somebody maps files just now */
	_Atomic uint32_t served_requests, idle_requests, own_spans, tops; /* request.h */
	_Atomic uint64_t seed, drawn; /* of random ids (request.c); seed 0: none yet */
	_Atomic uint64_t start;  /* stands in for the start time: one number per process */
};

/* Never NULL; inert processes have one too. */
extern struct life *life;

/* Immutable after the constructor. */
extern const struct config *settings;

/* false: every hook forwards (AGENTSHIM_DISABLE, AT_SECURE, a second copy of us, …). */
extern bool armed;

/* The thread's id; asks the kernel once per thread and process. */
uint32_t life_tid(void);

/* The pid, from the wiped page; asks the kernel once per process. */
uint32_t life_pid(void);

/*
 * life_own_memory - may we act: is the caller the process whose memory this is?
 * False in a vfork child, which runs in its parent's memory: it must change nothing of ours;
 * and for good in a process under a seccomp filter of its own (sandbox.h).
 * Context: one getpid(2), past any hook; any thread, signal handlers too; errno kept.
 */
bool life_own_memory(void);

/*
 * life_acts - may we act on what a connection carries? As life_own_memory(), but true in a
 * vfork child: what it sends and reads on its parent's connections happens to them.
 * Context: one load.
 */
bool life_acts(void);

/*
 * life_gone - is there surely no process of that pid in our namespace?
 * Context: one kill(2) of no signal; any thread, signal handlers too; errno kept.
 */
bool life_gone(uint32_t pid);

/*
 * life_wall - CLOCK_REALTIME at @now, a CLOCK_MONOTONIC that the caller has just read
 * The distance of the two is looked at again after a millisecond of this thread's: what begins
 * sooner than that after somebody set the clock has begun before, as far as it tells.
 * Context: as clock_wall(), under the guard.
 */
uint64_t life_wall(uint64_t now);

/* How often this process has forked, for connections that a child may be using as well. */
uint32_t life_forks(void);

/* life_lent - a descriptor that is followed was given to another process: the same */
void life_lent(void);

/* Inode of the pid namespace; 0 when unknown. */
uint64_t life_pidns(void);

/* The arguments of main() as they were before anybody rewrote them. */
int life_argc(void);
const char *const *life_argv(void);

#endif
