/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be done when a call of libc's that we make never returns to us: the thread is
 * cancelled there, or a signal handler leaves by longjmp. libc keeps a list of such things
 * for each thread; its older half, which <pthread.h> no longer shows, is looked through by
 * both, and needs no unwinder.
 */
#ifndef SHIM_CLEANUP_H
#define SHIM_CLEANUP_H

#include <pthread.h>

extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *),
				  void *arg);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

/* In pairs, in one function; the braces are the buffer's. No return between them. */
#define cleanup_begin(routine, arg)                                                               \
	{                                                                                         \
		struct _pthread_cleanup_buffer cleanup_buffer;                                     \
		_pthread_cleanup_push(&cleanup_buffer, (routine), (arg))
#define cleanup_end()                                                                             \
		_pthread_cleanup_pop(&cleanup_buffer, 0);                                         \
	}

#endif
