/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings from anywhere: the input is an environment, NAME=VALUE a line. Whatever it holds,
 * the config is whole, in range, fit to show, and answers for any peer.
 */
#include "core/config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "core/clock.h"
#include "tests/fuzz/fuzz.h"

#define VARIABLES_MAX 32

struct input {
	const char *at;
	size_t size;
	char *copies[VARIABLES_MAX]; /* exact, so that a sanitizer sees a byte too far */
	size_t n_copies;
};

static const char *lookup(void *arg, const char *name)
{
	struct input *in = arg;
	const char *at = in->at, *const end = at + in->size;
	const size_t n = strlen(name);

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t) (end - at));
		const char *const stop = newline ? newline : end;

		if ((size_t) (stop - at) > n && memcmp(at, name, n) == 0 && at[n] == '='
		    && in->n_copies < VARIABLES_MAX) {
			char *copy = strndup(at + n + 1, (size_t) (stop - at) - n - 1);

			in->copies[in->n_copies++] = copy;
			return copy;
		}
		at = stop + 1;
	}
	return NULL;
}

static void check_policy(const struct policy *p)
{
	char text[64];
	uint64_t ns;

	FUZZ_CHECK(p->max_requests >= 1 && p->max_requests <= POLICY_MAX_REQUESTS_MAX);
	FUZZ_CHECK(p->consecutive_failures <= 1000000);
	FUZZ_CHECK(p->timeout_ns >= NS_PER_MS && p->timeout_ns <= 86400 * NS_PER_S);
	FUZZ_CHECK(p->probe_timeout_ns >= NS_PER_MS && p->probe_timeout_ns <= 86400 * NS_PER_S);
	FUZZ_CHECK(p->patience_ns >= NS_PER_MS && p->patience_ns <= 3600 * NS_PER_S);
	FUZZ_CHECK(p->interval_ns == 0 || p->interval_ns >= NS_PER_MS);
	FUZZ_CHECK(p->interval_ns <= 86400 * NS_PER_S);
	FUZZ_CHECK(strcmp(policy_mode_name(p->mode), "unknown") != 0);

	(void) config_key_text(p, CONFIG_KEY_TIMEOUT, text, sizeof(text));
	FUZZ_CHECK(duration_parse(text, &ns) && ns == p->timeout_ns);
	FUZZ_CHECK(config_key_text(p, CONFIG_KEY_ERRNO, text, sizeof(text)) > 0 && text[0] == 'E');
}

static void check_problems(const struct config *c)
{
	for (size_t i = 0; i < c->n_problems && i < CONFIG_PROBLEMS_MAX; i++) {
		const char *end = memchr(c->problems[i], '\0', CONFIG_PROBLEM_SIZE);

		FUZZ_CHECK(end && end > c->problems[i]);
		for (const char *at = c->problems[i]; at < end; at++)
			FUZZ_CHECK((unsigned char) *at >= ' ' && *at != '\x7f');
	}
}

static void check_tracing(const struct config *c)
{
	FUZZ_CHECK(c->propagators.n <= PROPAGATORS);
	for (size_t i = 0; i < c->propagators.n; i++)
		FUZZ_CHECK(c->propagators.list[i] < PROPAGATORS);
	FUZZ_CHECK(c->sampler.threshold <= SAMPLER_NEVER);
	FUZZ_CHECK(c->egress.n <= EGRESS_PATTERNS_MAX);
	FUZZ_CHECK(c->forward.n <= HTTP1_EXTRA_MAX);
	for (size_t i = 0; i < c->forward.n; i++) {
		const char *name = c->forward.names[i];
		const size_t n = strnlen(name, HTTP1_NAME_SIZE);

		FUZZ_CHECK(n > 0 && n < HTTP1_NAME_SIZE && strpbrk(name, " :\r\n,") == NULL);
		FUZZ_CHECK(strcmp(name, "cookie") != 0 && strcmp(name, "host") != 0);
	}
	FUZZ_CHECK(!config_failure_status(c, 99) && !config_failure_status(c, 600));
}

static void ask_about(const struct config *c, const char *host, const char *address,
		      uint16_t port)
{
	struct config_peer peer = { .host = host, .port = port };
	enum config_source sources[CONFIG_KEYS];

	FUZZ_CHECK(address_parse(address, &peer.address));
	(void) config_wants(c, &peer);
	(void) config_egress_allows(c, &peer);
	const struct policy p = config_policy(c, &peer, sources);
	check_policy(&p);
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		FUZZ_CHECK(sources[i] <= CONFIG_RULE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	struct input in = { .at = (const char *) data, .size = size };

	memset(&config, 0xa5, sizeof(config));
	config_from_environment(lookup, &in, &config);
	while (in.n_copies > 0)
		free(in.copies[--in.n_copies]); /* "copied": nothing may point there now */

	FUZZ_CHECK(config.n_peers <= CONFIG_PATTERNS_MAX);
	FUZZ_CHECK(config.n_rules <= CONFIG_RULES_MAX);
	FUZZ_CHECK(config.text.used <= sizeof(config.text.at));
	FUZZ_CHECK(memchr(config.log, '\0', sizeof(config.log)));
	FUZZ_CHECK(memchr(config.dir, '\0', sizeof(config.dir)));
	FUZZ_CHECK(memchr(config.service, '\0', sizeof(config.service)));
	FUZZ_CHECK(memchr(config.otel_service, '\0', sizeof(config.otel_service)));
	check_problems(&config);
	check_policy(&config.policy);
	check_tracing(&config);
	ask_about(&config, "payments.example", "10.0.0.1", 443);
	ask_about(&config, "10.0.0.1", "10.0.0.1", 5432);
	ask_about(&config, "fd00::1", "fd00::1", 80);
	return 0;
}
