/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user asked for: settings read once from named values, and the policy that they
 * give a peer. One table of keys serves the environment (AGENTSHIM_TIMEOUT=30s), a rule
 * ("payments:443 timeout=5s") and, with the configuration file, "timeout = 30s".
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/duration.h"
#include "core/egress.h"
#include "core/http1.h"
#include "core/pattern.h"
#include "core/policy.h"
#include "core/propagate.h"
#include "core/sampler.h"
#include "core/rpc.h"
#include "core/statuses.h"

#define CONFIG_PATTERNS_MAX 64
#define CONFIG_RULES_MAX    64
#define CONFIG_PROBLEMS_MAX 8
#define CONFIG_PROBLEM_SIZE 152  /* EVENT_TEXT_SIZE: a problem fits an event whole */
#define CONFIG_PATH_SIZE    256

/* Where a value in force came from; for `agentshim status`. */
enum config_source {
	CONFIG_BUILT_IN,
	CONFIG_ENVIRONMENT,
	CONFIG_RULE,
};

enum config_log_level {
	CONFIG_LOG_WARN, /* state changes, and refusals summed per second */
	CONFIG_LOG_INFO, /* also spans */
};

/* Key of each policy field, also its bit in config_rule.set and config.set. */
enum config_key {
	CONFIG_KEY_MODE,
	CONFIG_KEY_MAX_REQUESTS,
	CONFIG_KEY_INTERVAL,
	CONFIG_KEY_TIMEOUT,
	CONFIG_KEY_CONSECUTIVE_FAILURES,
	CONFIG_KEY_PATIENCE,
	CONFIG_KEY_PROBE_TIMEOUT,
	CONFIG_KEY_ERRNO,
	CONFIG_KEYS
};

struct config_rule {
	struct config_pattern pattern;
	uint32_t set;          /* bits of enum config_key that this rule gives */
	struct policy policy;  /* only the fields in @set mean anything */
};

/*
 * Everything a process runs by. Immutable once it is published. No pointer, so that it can
 * be copied; strings live in @text. Some 20 KiB: static or mapped memory, never a stack.
 */
struct config {
	struct policy policy;  /* built in, overlaid by the environment; complete */
	uint32_t set;          /* keys that the environment gave */
	bool disabled;         /* AGENTSHIM_DISABLE=1 (also "true", "yes", "on") */
	enum config_log_level log_level;
	uint32_t span_records; /* of each ring in a file of spans that we make */
	char log[CONFIG_PATH_SIZE];     /* "": no log; "stderr", "stdout" or a path */
	char dir[CONFIG_PATH_SIZE];     /* "": /dev/shm/agentshim-UID */
	char service[CONFIG_PATH_SIZE]; /* AGENTSHIM_SERVICE, "" when unset */
	char otel_service[CONFIG_PATH_SIZE]; /* OTEL_SERVICE_NAME, "" when unset */

	uint16_t n_peers, n_rules, n_problems;
	struct config_pattern peers[CONFIG_PATTERNS_MAX];
	struct config_rule rules[CONFIG_RULES_MAX];

	/*
	 * Bad values, ready to show: "AGENTSHIM_TIMEOUT: found \"30 parsecs\", expected a
	 * duration from 1ms to 24h, such as 1m30s; 30s stands". No control characters. More
	 * than fit are counted in n_problems only.
	 */
	char problems[CONFIG_PROBLEMS_MAX][CONFIG_PROBLEM_SIZE];

	bool trace;            /* AGENTSHIM_TRACE, OTEL_SDK_DISABLED: spans and injection */
	bool rewrite;          /* AGENTSHIM_REWRITE: the parent-id of a traceparent passed on */
	struct propagators propagators; /* OTEL_PROPAGATORS */
	struct sampler sampler;         /* OTEL_TRACES_SAMPLER and its _ARG */
	struct egress egress;           /* AGENTSHIM_EGRESS; ask config_egress_allows() */
	struct http1_extra forward;     /* AGENTSHIM_FORWARD_HEADERS */
	struct statuses failure_status; /* AGENTSHIM_FAILURE_STATUS */
	rpc_set failure_grpc;           /* AGENTSHIM_FAILURE_GRPC */
	char deepbind[CONFIG_PATH_SIZE]; /* AGENTSHIM_DEEPBIND: globs of programs; "none" */

	struct pattern_text text; /* host globs of PEERS, RULES and EGRESS */
};

/*
 * config_from_environment - read every AGENTSHIM_* setting, and OpenTelemetry's that we have
 * @get: secure_getenv(3), or a test's stand-in; the strings it returns are copied
 * @arg: handed to @get
 * @ret: overwritten whole; valid whatever the environment holds
 *
 * A value that cannot be read leaves its default in force and one line in problems; an empty
 * one counts as unset. Of a list a bad entry is left out alone.
 * Unknown AGENTSHIM_ names are not looked for here (only names in the table are asked).
 * Context: once at load; no allocation, no stdio.
 */
void config_from_environment(const char *(*get)(void *arg, const char *name), void *arg,
			     struct config *ret);

/* config_wants - is this peer to be guarded at all (AGENTSHIM_PEERS)? Unset means all;
 * a peer that a '!' pattern matches never is; when only '!' patterns stand, all others are.
 * Context: any thread, signal handlers too; no lock; errno kept. */
bool config_wants(const struct config *c, const struct config_peer *peer);

/* config_egress_allows - may this peer receive our context (AGENTSHIM_EGRESS)? Everybody may,
 * unless told. Context: as config_wants(). */
bool config_egress_allows(const struct config *c, const struct config_peer *peer);

/* config_by_address - does any setting depend on a peer's address, beside its name? Then nothing
 * can be said of a name alone. Context: as config_wants(). */
bool config_by_address(const struct config *c);

/* config_egress_open - may everybody receive our context? Context: as config_wants(). */
bool config_egress_open(const struct config *c);

/* config_failure_status - is a response with this status a failure of its peer
 * (AGENTSHIM_FAILURE_STATUS)? Of 429 only what the list says: it has a rule of its own.
 * Context: as config_wants(). */
bool config_failure_status(const struct config *c, unsigned status);

/*
 * config_policy - the settings in force for a peer: rules in order (the first that gives a
 * key wins), then the environment, then built in. Complete.
 * @ret_sources: CONFIG_KEYS entries, where each came from; may be NULL
 * Context: as config_wants().
 */
struct policy config_policy(const struct config *c, const struct config_peer *peer,
			    enum config_source ret_sources[CONFIG_KEYS]);

/* "built in", "environment", "rule"; never NULL */
const char *config_source_name(enum config_source source);

/*
 * config_key_name - the key as rules write it ("timeout"); the environment's is AGENTSHIM_
 * and capitals
 */
const char *config_key_name(enum config_key key);

/*
 * config_key_text - a policy's value of @key as a user would write it ("30s", "enforce",
 * "ECONNREFUSED"). NUL-terminated, cut to @size. Returns the length written.
 */
size_t config_key_text(const struct policy *p, enum config_key key, char *buf, size_t size);

#endif
