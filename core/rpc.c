/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of gRPC's statuses. */
#include "core/rpc.h"

#include <string.h>
#include <strings.h>

#include "core/clock.h"

static const char *const names[RPC_STATUSES] = {
	[RPC_OK] = "OK",
	[RPC_CANCELLED] = "CANCELLED",
	[RPC_UNKNOWN] = "UNKNOWN",
	[RPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[RPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[RPC_NOT_FOUND] = "NOT_FOUND",
	[RPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[RPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[RPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[RPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[RPC_ABORTED] = "ABORTED",
	[RPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[RPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[RPC_INTERNAL] = "INTERNAL",
	[RPC_UNAVAILABLE] = "UNAVAILABLE",
	[RPC_DATA_LOSS] = "DATA_LOSS",
	[RPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *rpc_status_name(unsigned status)
{
	return status < RPC_STATUSES ? names[status] : NULL;
}

bool rpc_spoken(const char *content_type, size_t n)
{
	static const char type[] = "application/grpc";
	const size_t len = sizeof(type) - 1;

	if (n < len || strncasecmp(content_type, type, len) != 0)
		return false;
	return n == len || strchr("+; \t", content_type[len]) != NULL;
}

enum rpc_status rpc_of_http(unsigned status)
{
	switch (status) {
	case 400:
		return RPC_INTERNAL;
	case 401:
		return RPC_UNAUTHENTICATED;
	case 403:
		return RPC_PERMISSION_DENIED;
	case 404:
		return RPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return RPC_UNAVAILABLE;
	}
	return RPC_UNKNOWN;
}

enum rpc_status rpc_of_reset(uint32_t code)
{
	/* By the codes of RFC 9113, 7. */
	static const uint8_t by_code[] = {
		RPC_INTERNAL,           /* NO_ERROR */
		RPC_INTERNAL,           /* PROTOCOL_ERROR */
		RPC_INTERNAL,           /* INTERNAL_ERROR */
		RPC_INTERNAL,           /* FLOW_CONTROL_ERROR */
		RPC_INTERNAL,           /* SETTINGS_TIMEOUT */
		RPC_UNKNOWN,            /* STREAM_CLOSED */
		RPC_INTERNAL,           /* FRAME_SIZE_ERROR */
		RPC_UNAVAILABLE,        /* REFUSED_STREAM */
		RPC_CANCELLED,          /* CANCEL */
		RPC_INTERNAL,           /* COMPRESSION_ERROR */
		RPC_INTERNAL,           /* CONNECT_ERROR */
		RPC_RESOURCE_EXHAUSTED, /* ENHANCE_YOUR_CALM */
		RPC_PERMISSION_DENIED,  /* INADEQUATE_SECURITY */
	};

	return code < sizeof(by_code) ? (enum rpc_status) by_code[code] : RPC_UNKNOWN;
}

uint64_t rpc_timeout(const char *value, size_t n)
{
	static const struct {
		char unit;
		uint64_t ns;
	} units[] = {
		{ 'H', 3600 * NS_PER_S }, { 'M', 60 * NS_PER_S }, { 'S', NS_PER_S },
		{ 'm', NS_PER_MS },       { 'u', 1000 },          { 'n', 1 },
	};
	uint64_t number = 0;

	if (n < 2 || n > 9) /* eight digits at most */
		return 0;
	for (size_t i = 0; i + 1 < n; i++) {
		if (value[i] < '0' || value[i] > '9')
			return 0;
		number = number * 10 + (uint64_t) (value[i] - '0');
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (value[n - 1] == units[i].unit)
			return number <= UINT64_MAX / units[i].ns ? number * units[i].ns
								   : UINT64_MAX;
	}
	return 0;
}

static rpc_set bit(unsigned status)
{
	return UINT32_C(1) << status;
}

bool rpc_server_fails(unsigned status)
{
	return rpc_set_has(bit(RPC_UNKNOWN) | bit(RPC_DEADLINE_EXCEEDED) | bit(RPC_UNIMPLEMENTED) |
				   bit(RPC_INTERNAL) | bit(RPC_UNAVAILABLE) | bit(RPC_DATA_LOSS),
			   status);
}

rpc_set rpc_set_product(void)
{
	return bit(RPC_UNKNOWN) | bit(RPC_DEADLINE_EXCEEDED) | bit(RPC_RESOURCE_EXHAUSTED) |
	       bit(RPC_INTERNAL) | bit(RPC_UNAVAILABLE) | bit(RPC_DATA_LOSS);
}

static bool read_status(struct piece p, unsigned *ret)
{
	uint64_t number;

	if (piece_number(p, 0, RPC_STATUSES - 1, &number)) {
		*ret = (unsigned) number;
		return true;
	}
	for (unsigned i = 0; i < RPC_STATUSES; i++) {
		if (piece_length(p) == strlen(names[i]) &&
		    strncasecmp(p.at, names[i], piece_length(p)) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

bool rpc_list_add(struct rpc_list *list, struct piece entry)
{
	const bool negated = entry.at < entry.end && *entry.at == '!';
	unsigned status;

	if (negated)
		entry.at++;
	if (!read_status(piece_trimmed(entry), &status))
		return false;
	if (negated)
		list->barred |= bit(status);
	else
		list->listed |= bit(status);
	list->some |= !negated;
	return true;
}

rpc_set rpc_list_set(const struct rpc_list *list, rpc_set otherwise)
{
	return (list->some ? list->listed : otherwise) & ~list->barred;
}
