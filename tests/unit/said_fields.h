/* SPDX-License-Identifier: Apache-2.0 */
/* What http1_said.h and http2_said.h call the fields of a head. */
#ifndef TESTS_UNIT_SAID_FIELDS_H
#define TESTS_UNIT_SAID_FIELDS_H

#include "core/http2.h"

static const char *const said_fields[HTTP2_FIELD_IDS] = {
	[HTTP1_METHOD] = "method",
	[HTTP1_TARGET] = "target",
	[HTTP1_HOST] = "host",
	[HTTP1_TRACEPARENT] = "traceparent",
	[HTTP1_TRACESTATE] = "tracestate",
	[HTTP1_BAGGAGE] = "baggage",
	[HTTP1_B3] = "b3",
	[HTTP1_B3_TRACEID] = "x-b3-traceid",
	[HTTP1_B3_SPANID] = "x-b3-spanid",
	[HTTP1_B3_PARENTSPANID] = "x-b3-parentspanid",
	[HTTP1_B3_SAMPLED] = "x-b3-sampled",
	[HTTP1_B3_FLAGS] = "x-b3-flags",
	[HTTP1_UBER_TRACE_ID] = "uber-trace-id",
	[HTTP1_X_TRACE_ID] = "x-trace-id",
	[HTTP1_USER_AGENT] = "user-agent",
	[HTTP1_X_FORWARDED_FOR] = "x-forwarded-for",
	[HTTP1_CONTENT_TYPE] = "content-type",
	[HTTP1_EXTRA] = "extra0",
	[HTTP1_EXTRA + 1] = "extra1",
	[HTTP1_EXTRA + 2] = "extra2",
	[HTTP1_EXTRA + 3] = "extra3",
	[HTTP1_EXTRA + 4] = "extra4",
	[HTTP1_EXTRA + 5] = "extra5",
	[HTTP1_EXTRA + 6] = "extra6",
	[HTTP1_EXTRA + 7] = "extra7",
	[HTTP2_SCHEME] = "scheme",
	[HTTP2_PROTOCOL] = "protocol",
	[HTTP2_GRPC_STATUS] = "grpc-status",
	[HTTP2_GRPC_MESSAGE] = "grpc-message",
	[HTTP2_GRPC_TIMEOUT] = "grpc-timeout",
};

#endif
