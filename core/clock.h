/* SPDX-License-Identifier: Apache-2.0 */
/* Units of time, and the one clock that callers of core read before they call it. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/*
 * clock_now - CLOCK_MONOTONIC in nanoseconds, never 0
 *
 * Monotonic, because every process of a host reads the same value of it and nobody
 * can set it. Nothing in core/ calls this: core is handed `now`.
 * Context: any thread, signal handlers too; no lock; errno kept.
 */
static inline uint64_t clock_now(void)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec + 1;
}

/* clock_wall - CLOCK_REALTIME in nanoseconds since 1970, for people to read. */
static inline uint64_t clock_wall(void)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t) ts.tv_sec * NS_PER_S + (uint64_t) ts.tv_nsec;
}

/* clock_since - nanoseconds from @then to @now; 0 when @now lags behind another thread's. */
static inline uint64_t clock_since(uint64_t then, uint64_t now)
{
	return now > then ? now - then : 0;
}

#endif
