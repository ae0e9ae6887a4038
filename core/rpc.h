/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of gRPC is seen in HTTP/2: its statuses and what stands for one that was not sent, after
 * gRPC's own PROTOCOL-HTTP2.md and http-grpc-status-mapping.md.
 */
#ifndef CORE_RPC_H
#define CORE_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/piece.h"

enum rpc_status {
	RPC_OK,
	RPC_CANCELLED,
	RPC_UNKNOWN,
	RPC_INVALID_ARGUMENT,
	RPC_DEADLINE_EXCEEDED,
	RPC_NOT_FOUND,
	RPC_ALREADY_EXISTS,
	RPC_PERMISSION_DENIED,
	RPC_RESOURCE_EXHAUSTED,
	RPC_FAILED_PRECONDITION,
	RPC_ABORTED,
	RPC_OUT_OF_RANGE,
	RPC_UNIMPLEMENTED,
	RPC_INTERNAL,
	RPC_UNAVAILABLE,
	RPC_DATA_LOSS,
	RPC_UNAUTHENTICATED,
	RPC_STATUSES
};

/* rpc_status_name - "DEADLINE_EXCEEDED"; NULL for a number that is none */
const char *rpc_status_name(unsigned status);

/* rpc_spoken - is a message of this content-type gRPC's? "application/grpc", "…+proto", "…;x" */
bool rpc_spoken(const char *content_type, size_t n);

/*
 * rpc_of_http - the status of an answer that has no grpc-status, by its :status
 * rpc_of_reset - and of a stream that was reset, by the code of RST_STREAM
 */
enum rpc_status rpc_of_http(unsigned status);
enum rpc_status rpc_of_reset(uint32_t code);

/* rpc_timeout - grpc-timeout, "200m": in nanoseconds; 0 for none, or none that may be */
uint64_t rpc_timeout(const char *value, size_t n);

/* Is it an error of the server's own? OpenTelemetry, of a server's span. */
bool rpc_server_fails(unsigned status);

/* A set of statuses, a bit each. */
typedef uint32_t rpc_set;

/* UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS */
rpc_set rpc_set_product(void);

static inline bool rpc_set_has(rpc_set s, unsigned status)
{
	return status < RPC_STATUSES && (s >> status & 1) != 0;
}

/* A list of the user's as it is read. Zero-filled at first. */
struct rpc_list {
	rpc_set listed, barred;
	bool some; /* one without '!' was read */
};

/*
 * rpc_list_add - one entry: "UNAVAILABLE", "unavailable" or "14", perhaps with a '!'
 * Returns false when it is none of these; @list untouched.
 */
bool rpc_list_add(struct rpc_list *list, struct piece entry);

/* rpc_list_set - what it says: '!' beats all, and alone takes away from @otherwise */
rpc_set rpc_list_set(const struct rpc_list *list, rpc_set otherwise);

#endif
