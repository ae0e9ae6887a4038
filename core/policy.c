/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults of a breaker's settings, and the names of its modes. */
#include "core/policy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/clock.h"

static const char *const mode_names[] = {
	[POLICY_ENFORCE] = "enforce",
	[POLICY_OBSERVE] = "observe",
	[POLICY_OFF] = "off",
	[POLICY_FORCED_OPEN] = "forced_open",
	[POLICY_FORCED_CLOSED] = "forced_closed",
};

#define N_MODES (sizeof(mode_names) / sizeof(mode_names[0]))

struct policy policy_product(void)
{
	return (struct policy) {
		.interval_ns = 60 * NS_PER_S,
		.timeout_ns = 30 * NS_PER_S,
		.patience_ns = 1 * NS_PER_S,
		.max_requests = 3,
		.consecutive_failures = 5,
		.refusal_errno = ECONNREFUSED,
		.mode = POLICY_ENFORCE,
	};
}

struct policy policy_gobreaker(void)
{
	return (struct policy) {
		.timeout_ns = 60 * NS_PER_S,
		.patience_ns = 1 * NS_PER_S,
		.max_requests = 1,
		.consecutive_failures = 6,
		.refusal_errno = ECONNREFUSED,
		.mode = POLICY_ENFORCE,
	};
}

void policy_complete(struct policy *p)
{
	if (p->max_requests == 0)
		p->max_requests = 1;
	if (p->max_requests > POLICY_MAX_REQUESTS_MAX)
		p->max_requests = POLICY_MAX_REQUESTS_MAX;
	if (p->timeout_ns == 0)
		p->timeout_ns = 60 * NS_PER_S;
	if (p->probe_timeout_ns == 0)
		p->probe_timeout_ns = p->timeout_ns;
}

const char *policy_mode_name(enum policy_mode mode)
{
	return (size_t) mode < N_MODES ? mode_names[mode] : "unknown";
}

bool policy_mode_from(const char *name, enum policy_mode *ret_mode)
{
	for (size_t i = 0; i < N_MODES; i++) {
		if (strcmp(name, mode_names[i]) == 0) {
			*ret_mode = (enum policy_mode) i;
			return true;
		}
	}
	return false;
}
