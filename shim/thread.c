/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread begins with what its creator works on. The trampoline that sees to it is left
 * before the program's own routine begins: one place of a pool, a few words of stack.
 *
 * Whether the thread is believed is current.c's to say: it may be a worker that a pool keeps.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "shim/current.h"
#include "shim/life.h"
#include "shim/pool.h"
#include "shim/real.h"

#define CHUNK_BITS 6
#define CHUNKS     64 /* 4096 threads that were created and have not begun */

struct birth {
	_Atomic uint32_t next_free; /* the pool's */
	uint32_t number;
	void *(*routine)(void *);
	void *arg;
	struct current_heritage heritage;
};

static _Atomic(char *) chunks[CHUNKS];
static struct pool births = POOL(chunks, struct birth, CHUNK_BITS);

/* The new thread's first step; cancellation has no point to strike at. */
static void *begin(void *place)
{
	const struct birth *b = place;
	void *(*const routine)(void *) = b->routine;
	void *const arg = b->arg;

	current_inherit(&b->heritage);
	pool_give(&births, b->number);
	return routine(arg);
}

static struct birth *prepare(void *(*routine)(void *), void *arg)
{
	struct current_heritage heritage;
	struct birth *b;
	uint32_t number;

	if (!armed || !settings->trace || !life_acts() || !current_leaves(&heritage) ||
	    !pool_take(&births, &number))
		return NULL;
	b = pool_at(&births, number);
	b->number = number;
	b->routine = routine;
	b->arg = arg;
	b->heritage = heritage;
	return b;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*routine)(void *), void *arg)
{
	struct birth *const b = prepare(routine, arg);
	int rc;

	if (b == NULL)
		return real.pthread_create(thread, attributes, routine, arg);

	const uint32_t number = b->number;

	rc = real.pthread_create(thread, attributes, begin, b);
	if (rc != 0)
		pool_give(&births, number);
	return rc;
}
