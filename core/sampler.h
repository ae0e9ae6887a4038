/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a trace is kept: OpenTelemetry's samplers, by the caller's decision and the trace id. */
#ifndef CORE_SAMPLER_H
#define CORE_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/propagate.h"
#include "core/text.h"

#define SAMPLER_NEVER (UINT64_C(1) << 56) /* a threshold that no trace id reaches */

struct sampler {
	bool parent_based;  /* a caller that decided has decided for us */
	uint64_t threshold; /* traces whose right-most 56 bits are at least this are kept */
};

/*
 * sampler_default - parentbased_always_on
 * sampler_from - by the values of OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG
 * @name: always_on, always_off, traceidratio, or one of these after parentbased_; in any case;
 *        NULL or blank: the default
 * @arg: of traceidratio, from 0 to 1, such as 0.25 or 1e-3; NULL or blank: 1. The other
 *       samplers do not look at it.
 * @problem: appended to; may be NULL: OTEL_TRACES_SAMPLER_ARG: found "2", expected ...
 *
 * Returns false when there was a problem; @ret is set all the same: an unknown name is the
 * default, a bad number is 1.
 */
struct sampler sampler_default(void);
bool sampler_from(const char *name, const char *arg, struct sampler *ret, struct text *problem);

/*
 * sampler_sample - is this trace kept?
 * @parent: what came with the request; NULL: nothing
 * @trace_id: of the trace, the parent's or a new one
 *
 * b3's and Jaeger's debug is kept by every sampler. All processes that share a threshold keep
 * the same traces, and one with a lower threshold keeps these and more.
 * Context: any thread, signal handlers too; pure.
 */
bool sampler_sample(const struct sampler *s, const struct propagate_found *parent,
		    const uint8_t trace_id[16]);

#endif
