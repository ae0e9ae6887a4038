/* SPDX-License-Identifier: Apache-2.0 */
/* What test_bytes.c and the library below the shim, stingy.c, say to each other. */
#ifndef TESTS_PRELOAD_STINGY_H
#define TESTS_PRELOAD_STINGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What is sent on @fd is taken in part, or not at all, as @random says. Members of the first
 * group are the test's to set, those of the second tell what happened since it cleared them.
 */
struct stingy {
	int fd;            /* the only descriptor meant; -1: none */
	uint64_t random;   /* state of the generator */
	unsigned all;      /* per 100: everything is taken, */
	unsigned none;     /* nothing is: EAGAIN or EINTR; else a part, */
	unsigned one;      /* per 100 of those: a single byte */
	unsigned fatal;    /* per 1000: the connection breaks down, for good */
	int flags;         /* the program's own in this call */
	bool strict;       /* other flags are wrong */
	bool counts;       /* @budget is so many bytes more; then nothing is taken, */
	size_t budget;
	_Atomic bool pauses; /* or the call waits until a signal finds this false */

	_Atomic bool waits; /* one does */
	unsigned calls;
	bool refused;      /* the last one: not everything was taken */
	int error;         /* of the last one that failed; 0 none */
	size_t taken;      /* bytes, ours among them */
	bool more;         /* the last one came with MSG_MORE */
	bool broken;       /* it broke down */
	unsigned zerocopies; /* calls with MSG_ZEROCOPY that took bytes */
	const char *wrong; /* what is not to happen, happened */
};

#endif
