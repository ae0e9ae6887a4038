/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that a service's processes count together, in its state file: what `agentshim
 * metrics` prints beside the breakers. Counters only go up; a reader copies them.
 */
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#define METRICS_STRIPES 8  /* writers of different stripes do not share a cache line */
#define METRICS_BOUNDS  14 /* OpenTelemetry's for durations of HTTP requests */

/* Stored in shared memory: append only, up to METRICS_COUNTERS_MAX. */
enum metrics_counter {
	METRICS_TRACES_STARTED,    /* roots begun here */
	METRICS_SPANS_SERVER,      /* completed */
	METRICS_SPANS_CLIENT,
	METRICS_SPANS_INTERNAL,
	METRICS_SPANS_ERROR,       /* of those, with an error */
	METRICS_SPANS_DROPPED,     /* no memory for one, or its record was lost */
	METRICS_ROOTS_COMPLETED,   /* spans without a parent, or with a remote one, completed */
	METRICS_ROOTS_ERROR,       /* of those, with an error */
	METRICS_INJECTED,          /* heads that got our fields */
	METRICS_ADOPTED,           /* heads whose own traceparent was kept */
	METRICS_WITHHELD,          /* heads that the egress rule kept bare */
	METRICS_NO_ROOM,           /* heads that had no room for our fields */
	/* Connections that were not, or no longer, followed, by reason. */
	METRICS_HTTP_CONNECTIONS,  /* followed as HTTP/1 */
	METRICS_OPAQUE_NOT_HTTP,
	METRICS_OPAQUE_H2,         /* HTTP/2's frames */
	METRICS_OPAQUE_SYNTAX,
	METRICS_OPAQUE_FRAMING,
	METRICS_OPAQUE_TOO_LONG,
	METRICS_OPAQUE_UPGRADED,
	METRICS_OPAQUE_TUNNEL,
	METRICS_OPAQUE_UNSEEN,     /* bytes went past us */
	METRICS_OPAQUE_RACE,       /* two threads in one direction at once */
	METRICS_OPAQUE_FORKED,     /* another process has the connection as well */
	METRICS_OPAQUE_PIPELINE,   /* more requests in flight than are followed */
	METRICS_OPAQUE_MEMORY,     /* no memory for one more connection */
	METRICS_LIBRARY_LOST,      /* calls whose library was not found among those loaded */
	METRICS_HTTP2_CONNECTIONS, /* followed as HTTP/2 */
	METRICS_OPAQUE_H2_TOO_LONG, /* a frame, or a header block */
	METRICS_OPAQUE_H2_BLOCK,   /* header compression */
	METRICS_OPAQUE_H2_MEMORY,  /* a header table larger than we follow */
	METRICS_OPAQUE_H2_SETTINGS,
	METRICS_STREAMS_UNFOLLOWED, /* more at once on a connection than are followed */
	METRICS_TLS_CONNECTIONS,   /* followed inside TLS, whatever is spoken there */
	METRICS_COUNTERS,
	METRICS_COUNTERS_MAX = 64
};

enum metrics_histogram { METRICS_SERVER_DURATION, METRICS_CLIENT_DURATION, METRICS_HISTOGRAMS };

struct metrics_stripe {
	_Atomic uint64_t counters[METRICS_COUNTERS_MAX];
	struct {
		_Atomic uint64_t buckets[METRICS_BOUNDS + 1]; /* each alone, not cumulative */
		_Atomic uint64_t sum_ns;
	} histograms[METRICS_HISTOGRAMS];
} __attribute__((aligned(64)));

struct metrics {
	struct metrics_stripe stripes[METRICS_STRIPES];
};

/* @stripe: any number, masked; a writer's own, such as its thread's id. Relaxed: for people. */
void metrics_add(struct metrics *m, unsigned stripe, enum metrics_counter which, uint64_t n);
void metrics_observe(struct metrics *m, unsigned stripe, enum metrics_histogram which,
		     uint64_t ns);

struct metrics_sums {
	uint64_t counters[METRICS_COUNTERS_MAX];
	struct {
		uint64_t buckets[METRICS_BOUNDS + 1], count, sum_ns;
	} histograms[METRICS_HISTOGRAMS];
};

/* metrics_sum - over the stripes of a (copied) struct */
void metrics_sum(const struct metrics *m, struct metrics_sums *ret);

/* Upper bounds in nanoseconds: 5 ms .. 10 s. */
extern const uint64_t metrics_bounds_ns[METRICS_BOUNDS];

/* "injected"; for people and as a label's value */
const char *metrics_counter_name(enum metrics_counter which);

#endif
