/* SPDX-License-Identifier: Apache-2.0 */
/* Counters and histograms that processes share, striped so that writers seldom meet. */
#include "core/metrics.h"

#include <stddef.h>
#include <string.h>

#include "core/clock.h"

_Static_assert((METRICS_STRIPES & (METRICS_STRIPES - 1)) == 0, "stripes are masked");
_Static_assert(METRICS_COUNTERS <= (int) METRICS_COUNTERS_MAX, "counters fit their place");

const uint64_t metrics_bounds_ns[METRICS_BOUNDS] = {
	5 * NS_PER_MS,   10 * NS_PER_MS,  25 * NS_PER_MS,   50 * NS_PER_MS,  75 * NS_PER_MS,
	100 * NS_PER_MS, 250 * NS_PER_MS, 500 * NS_PER_MS,  750 * NS_PER_MS, 1000 * NS_PER_MS,
	2500 * NS_PER_MS, 5000 * NS_PER_MS, 7500 * NS_PER_MS, 10000 * NS_PER_MS,
};

static const char *const names[METRICS_COUNTERS] = {
	[METRICS_TRACES_STARTED] = "traces_started",
	[METRICS_SPANS_SERVER] = "spans_server",
	[METRICS_SPANS_CLIENT] = "spans_client",
	[METRICS_SPANS_INTERNAL] = "spans_internal",
	[METRICS_SPANS_ERROR] = "spans_error",
	[METRICS_SPANS_DROPPED] = "spans_dropped",
	[METRICS_ROOTS_COMPLETED] = "roots_completed",
	[METRICS_ROOTS_ERROR] = "roots_error",
	[METRICS_INJECTED] = "injected",
	[METRICS_ADOPTED] = "adopted",
	[METRICS_WITHHELD] = "withheld",
	[METRICS_NO_ROOM] = "no_room",
	[METRICS_HTTP_CONNECTIONS] = "http_connections",
	[METRICS_OPAQUE_NOT_HTTP] = "opaque_not_http",
	[METRICS_OPAQUE_H2] = "opaque_h2",
	[METRICS_OPAQUE_SYNTAX] = "opaque_syntax",
	[METRICS_OPAQUE_FRAMING] = "opaque_framing",
	[METRICS_OPAQUE_TOO_LONG] = "opaque_too_long",
	[METRICS_OPAQUE_UPGRADED] = "opaque_upgraded",
	[METRICS_OPAQUE_TUNNEL] = "opaque_tunnel",
	[METRICS_OPAQUE_UNSEEN] = "opaque_unseen",
	[METRICS_OPAQUE_RACE] = "opaque_race",
	[METRICS_OPAQUE_FORKED] = "opaque_forked",
	[METRICS_OPAQUE_PIPELINE] = "opaque_pipeline",
	[METRICS_OPAQUE_MEMORY] = "opaque_memory",
	[METRICS_LIBRARY_LOST] = "library_lost",
	[METRICS_HTTP2_CONNECTIONS] = "http2_connections",
	[METRICS_OPAQUE_H2_TOO_LONG] = "opaque_h2_too_long",
	[METRICS_OPAQUE_H2_BLOCK] = "opaque_h2_block",
	[METRICS_OPAQUE_H2_MEMORY] = "opaque_h2_memory",
	[METRICS_OPAQUE_H2_SETTINGS] = "opaque_h2_settings",
	[METRICS_STREAMS_UNFOLLOWED] = "streams_unfollowed",
	[METRICS_TLS_CONNECTIONS] = "tls_connections",
};

/* Masked: what follows @m is not ours to count in. */
static struct metrics_stripe *stripe_of(struct metrics *m, unsigned stripe)
{
	return &m->stripes[stripe & (METRICS_STRIPES - 1)];
}

void metrics_add(struct metrics *m, unsigned stripe, enum metrics_counter which, uint64_t n)
{
	atomic_fetch_add_explicit(&stripe_of(m, stripe)->counters[which], n,
				  memory_order_relaxed);
}

void metrics_observe(struct metrics *m, unsigned stripe, enum metrics_histogram which,
		     uint64_t ns)
{
	struct metrics_stripe *const s = stripe_of(m, stripe);
	unsigned bucket = 0;

	/* A bound belongs to the bucket below it, as Prometheus and OpenTelemetry have it. */
	while (bucket < METRICS_BOUNDS && ns > metrics_bounds_ns[bucket])
		bucket++;
	atomic_fetch_add_explicit(&s->histograms[which].buckets[bucket], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&s->histograms[which].sum_ns, ns, memory_order_relaxed);
}

static void sum_histogram(const struct metrics_stripe *s, int which, struct metrics_sums *sums)
{
	for (int bucket = 0; bucket <= METRICS_BOUNDS; bucket++) {
		const uint64_t n = atomic_load_explicit(&s->histograms[which].buckets[bucket],
							memory_order_relaxed);

		sums->histograms[which].buckets[bucket] += n;
		sums->histograms[which].count += n;
	}
	sums->histograms[which].sum_ns +=
		atomic_load_explicit(&s->histograms[which].sum_ns, memory_order_relaxed);
}

void metrics_sum(const struct metrics *m, struct metrics_sums *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (int i = 0; i < METRICS_STRIPES; i++) {
		const struct metrics_stripe *const s = &m->stripes[i];

		for (int c = 0; c < METRICS_COUNTERS_MAX; c++)
			ret->counters[c] +=
				atomic_load_explicit(&s->counters[c], memory_order_relaxed);
		for (int h = 0; h < METRICS_HISTOGRAMS; h++)
			sum_histogram(s, h, ret);
	}
}

const char *metrics_counter_name(enum metrics_counter which)
{
	return (unsigned) which < METRICS_COUNTERS ? names[which] : "unknown";
}
