/* SPDX-License-Identifier: Apache-2.0 */
/* A place in a trace: what travels from one service to the next, in any of its forms. */
#ifndef CORE_CONTEXT_H
#define CORE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTEXT_TRACEPARENT_SIZE 56 /* version 00's 55 characters and a NUL */

/* Flags of a context. The low eight bits are traceparent's trace-flags. */
enum {
	CONTEXT_SAMPLED = 0x01,
	CONTEXT_RANDOM = 0x02,      /* W3C level 2: the right-most seven bytes are random */
	CONTEXT_DEBUG = 0x100,      /* b3's d, Jaeger's debug */
	CONTEXT_UUID = 0x200,       /* x-trace-id came in the form of a UUID, and leaves so */
	CONTEXT_SHORT = 0x400,      /* b3 or Jaeger with a trace id of 64 bits */
	CONTEXT_DEFERRED = 0x800,   /* ids came without a decision: ours to make */
};

struct context {
	uint8_t trace_id[16]; /* all zero: no context */
	uint8_t span_id[8];
	uint16_t flags;
};

static inline bool context_some(const struct context *c)
{
	uint64_t half[2];

	__builtin_memcpy(half, c->trace_id, sizeof(half));
	return (half[0] | half[1]) != 0;
}

#endif
