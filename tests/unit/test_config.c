/* SPDX-License-Identifier: Apache-2.0 */
/* What the user says, what is understood of it, and what is said about the rest. */
#include "core/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/address.h"
#include "core/clock.h"
#include "tests/unit/edge.h"

/* Static, as in the shim: a host's stack may be small. */
static struct config config;

/* The environment of a test: name, value, name, value, …, NULL. */
static const char *lookup(void *arg, const char *name)
{
	for (const char *const *pair = arg; *pair; pair += 2) {
		if (strcmp(pair[0], name) == 0)
			return edge_text(pair[1]);
	}
	return NULL;
}

static void read_pairs(const char *const *pairs)
{
	memset(&config, 0xa5, sizeof(config)); /* "overwritten whole" */
	errno = 77;
	config_from_environment(lookup, (void *) pairs, &config);
	assert_int_equal(errno, 77);
}

#define READ(...) read_pairs((const char *const[]) { __VA_ARGS__ __VA_OPT__(,) NULL })

/* "name 10.0.0.1 443" or "10.0.0.1 443" as connect(2) would give it. */
static struct config_peer peer_of(const char *text)
{
	static char words[3][300];
	const int n = sscanf(text, "%299s %299s %299s", words[0], words[1], words[2]);
	struct config_peer peer = { .host = words[0] };

	assert_true(n == 2 || n == 3);
	assert_true(address_parse(words[n - 2], &peer.address));
	peer.port = (uint16_t) atoi(words[n - 1]);
	return peer;
}

static struct policy policy_for(const char *text, enum config_source *ret_sources)
{
	const struct config_peer peer = peer_of(text);

	return config_policy(&config, &peer, ret_sources);
}

static bool wanted(const char *text)
{
	const struct config_peer peer = peer_of(text);

	return config_wants(&config, &peer);
}

static void assert_key(const struct policy *p, enum config_key key, const char *expected)
{
	char text[64];

	const size_t length = config_key_text(p, key, text, sizeof(text));

	assert_int_equal(length, strlen(text));
	assert_string_equal(text, expected);
}

static void without_settings_the_product_defaults_stand(void **state)
{
	static const char *const defaults[CONFIG_KEYS] = {
		[CONFIG_KEY_MODE] = "enforce",
		[CONFIG_KEY_MAX_REQUESTS] = "3",
		[CONFIG_KEY_INTERVAL] = "1m",
		[CONFIG_KEY_TIMEOUT] = "30s",
		[CONFIG_KEY_CONSECUTIVE_FAILURES] = "5",
		[CONFIG_KEY_PATIENCE] = "1s",
		[CONFIG_KEY_PROBE_TIMEOUT] = "30s",
		[CONFIG_KEY_ERRNO] = "ECONNREFUSED",
	};
	enum config_source sources[CONFIG_KEYS];

	(void) state;
	READ();
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.set, 0);
	assert_false(config.disabled);
	assert_int_equal(config.log_level, CONFIG_LOG_WARN);
	assert_string_equal(config.log, "");
	assert_string_equal(config.dir, "");
	assert_string_equal(config.service, "");
	assert_string_equal(config.otel_service, "");
	assert_true(config.trace && config.rewrite);
	assert_int_equal(config.propagators.n, 3);
	assert_true(config.sampler.parent_based && config.sampler.threshold == 0);
	assert_int_equal(config.forward.n, 0);

	const struct policy p = policy_for("10.0.0.1 80", sources);
	for (int key = 0; key < CONFIG_KEYS; key++) {
		assert_key(&config.policy, key, defaults[key]);
		assert_key(&p, key, defaults[key]);
		assert_int_equal(sources[key], CONFIG_BUILT_IN);
	}
	assert_true(wanted("10.0.0.1 80"));
}

/* Each good value is read by the environment and by a rule, and shown as it was meant. */
static const struct {
	enum config_key key;
	const char *value, *shown;
} good[] = {
	{ CONFIG_KEY_MODE, "enforce", "enforce" },
	{ CONFIG_KEY_MODE, "observe", "observe" },
	{ CONFIG_KEY_MODE, "off", "off" },
	{ CONFIG_KEY_MODE, "forced_open", "forced_open" },
	{ CONFIG_KEY_MODE, "forced_closed", "forced_closed" },
	{ CONFIG_KEY_MAX_REQUESTS, "1", "1" },
	{ CONFIG_KEY_MAX_REQUESTS, "1023", "1023" },
	{ CONFIG_KEY_MAX_REQUESTS, "007", "7" },
	{ CONFIG_KEY_INTERVAL, "0", "0" },
	{ CONFIG_KEY_INTERVAL, "1ms", "1ms" },
	{ CONFIG_KEY_INTERVAL, "24h", "24h" },
	{ CONFIG_KEY_TIMEOUT, "1ms", "1ms" },
	{ CONFIG_KEY_TIMEOUT, "1.5s", "1.5s" },
	{ CONFIG_KEY_TIMEOUT, "86400s", "24h" },
	{ CONFIG_KEY_CONSECUTIVE_FAILURES, "0", "0" },
	{ CONFIG_KEY_CONSECUTIVE_FAILURES, "1000000", "1000000" },
	{ CONFIG_KEY_PATIENCE, "1ms", "1ms" },
	{ CONFIG_KEY_PATIENCE, "1h", "1h" },
	{ CONFIG_KEY_PROBE_TIMEOUT, "1ms", "1ms" },
	{ CONFIG_KEY_PROBE_TIMEOUT, "24h", "24h" },
	{ CONFIG_KEY_ERRNO, "ECONNREFUSED", "ECONNREFUSED" },
	{ CONFIG_KEY_ERRNO, "ETIMEDOUT", "ETIMEDOUT" },
	{ CONFIG_KEY_ERRNO, "EHOSTUNREACH", "EHOSTUNREACH" },
	{ CONFIG_KEY_ERRNO, "ENETUNREACH", "ENETUNREACH" },
	{ CONFIG_KEY_ERRNO, "ECONNRESET", "ECONNRESET" },
};

static const struct {
	enum config_key key;
	const char *value;
} bad[] = {
	{ CONFIG_KEY_MODE, "on" },
	{ CONFIG_KEY_MODE, "ENFORCE" },
	{ CONFIG_KEY_MODE, "forced-open" },
	{ CONFIG_KEY_MODE, "unknown" },
	{ CONFIG_KEY_MAX_REQUESTS, "0" },
	{ CONFIG_KEY_MAX_REQUESTS, "1024" },
	{ CONFIG_KEY_MAX_REQUESTS, "-1" },
	{ CONFIG_KEY_MAX_REQUESTS, "3.0" },
	{ CONFIG_KEY_MAX_REQUESTS, "18446744073709551617" },
	{ CONFIG_KEY_INTERVAL, "1us" },
	{ CONFIG_KEY_INTERVAL, "999us" },
	{ CONFIG_KEY_INTERVAL, "86400.001s" },
	{ CONFIG_KEY_INTERVAL, "60" },
	{ CONFIG_KEY_TIMEOUT, "0" },
	{ CONFIG_KEY_TIMEOUT, "30" },
	{ CONFIG_KEY_TIMEOUT, "parsecs" },
	{ CONFIG_KEY_TIMEOUT, "25h" },
	{ CONFIG_KEY_CONSECUTIVE_FAILURES, "1000001" },
	{ CONFIG_KEY_CONSECUTIVE_FAILURES, "five" },
	{ CONFIG_KEY_PATIENCE, "0" },
	{ CONFIG_KEY_PATIENCE, "61m" },
	{ CONFIG_KEY_PROBE_TIMEOUT, "0" },
	{ CONFIG_KEY_PROBE_TIMEOUT, "1ns" },
	{ CONFIG_KEY_ERRNO, "econnrefused" },
	{ CONFIG_KEY_ERRNO, "EINPROGRESS" },
	{ CONFIG_KEY_ERRNO, "111" },
	{ CONFIG_KEY_ERRNO, "ECONNREFUSEDECONNREFUSEDECONNREFUSEDECONNREFUSEDECONNREFUSEDECONNREFUSED" },
};

static const char *variable_of(enum config_key key)
{
	static char name[64];
	size_t n = (size_t) snprintf(name, sizeof(name), "AGENTSHIM_%s", config_key_name(key));

	for (size_t i = 0; i < n; i++)
		name[i] = name[i] >= 'a' && name[i] <= 'z' ? (char) (name[i] - 32) : name[i];
	return name;
}

static void every_key_is_read_from_the_environment(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		enum config_source sources[CONFIG_KEYS];

		print_message("# %s=%s\n", variable_of(good[i].key), good[i].value);
		READ(variable_of(good[i].key), good[i].value);
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(config.set, 1u << good[i].key);
		assert_key(&config.policy, good[i].key, good[i].shown);

		const struct policy p = policy_for("db 10.0.0.1 5432", sources);
		assert_key(&p, good[i].key, good[i].shown);
		for (int key = 0; key < CONFIG_KEYS; key++)
			assert_int_equal(sources[key], key == (int) good[i].key
					 ? CONFIG_ENVIRONMENT : CONFIG_BUILT_IN);
	}
}

static void every_key_is_read_from_a_rule(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		enum config_source sources[CONFIG_KEYS];
		char rule[200];

		(void) snprintf(rule, sizeof(rule), "db:5432 %s=%s",
				config_key_name(good[i].key), good[i].value);
		print_message("# %s\n", rule);
		READ("AGENTSHIM_RULES", rule);
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(config.n_rules, 1);

		struct policy p = policy_for("db 10.0.0.1 5432", sources);
		assert_key(&p, good[i].key, good[i].shown);
		assert_int_equal(sources[good[i].key], CONFIG_RULE);
		p = policy_for("db 10.0.0.1 5433", sources);
		assert_int_equal(sources[good[i].key], CONFIG_BUILT_IN);
	}
}

static void a_bad_value_leaves_the_default_and_one_line(void **state)
{
	(void) state;
	READ();
	const struct policy defaults = config.policy;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char rule[200];

		print_message("# %s=%s\n", variable_of(bad[i].key), bad[i].value);
		READ(variable_of(bad[i].key), bad[i].value);
		print_message("# %s\n", config.problems[0]);
		assert_int_equal(config.n_problems, 1);
		assert_int_equal(config.set, 0);
		assert_memory_equal(&config.policy, &defaults, sizeof(defaults));
		assert_non_null(strstr(config.problems[0], "stands"));

		(void) snprintf(rule, sizeof(rule), "db %s=%s",
				config_key_name(bad[i].key), bad[i].value);
		READ("AGENTSHIM_RULES", rule);
		assert_int_equal(config.n_problems, 1);
		assert_int_equal(config.n_rules, 0);
		assert_non_null(strstr(config.problems[0], "rule left out"));
	}
}

static void a_problem_says_what_was_found_expected_and_stands(void **state)
{
	static const struct {
		const char *variable, *value, *problem;
	} rows[] = {
		{ "AGENTSHIM_TIMEOUT", "30 parsecs",
		  "AGENTSHIM_TIMEOUT: found \"30 parsecs\", expected a duration from 1ms to 24h, "
		  "such as 1m30s; 30s stands" },
		{ "AGENTSHIM_MODE", "on",
		  "AGENTSHIM_MODE: found \"on\", expected enforce, observe, off, forced_open or "
		  "forced_closed; enforce stands" },
		{ "AGENTSHIM_PROBE_TIMEOUT", "0",
		  "AGENTSHIM_PROBE_TIMEOUT: found \"0\", expected a duration from 1ms to 24h, "
		  "such as 1m30s; timeout's value stands" },
		{ "AGENTSHIM_DISABLE", "maybe",
		  "AGENTSHIM_DISABLE: found \"maybe\", expected 1 or 0; agentshim stays on" },
		{ "AGENTSHIM_LOG", "log.txt",
		  "AGENTSHIM_LOG: found \"log.txt\", expected stderr, stdout or an absolute path; "
		  "no log" },
		{ "AGENTSHIM_LOG_LEVEL", "debug",
		  "AGENTSHIM_LOG_LEVEL: found \"debug\", expected warn or info; warn stands" },
		{ "AGENTSHIM_SPAN_RECORDS", "15",
		  "AGENTSHIM_SPAN_RECORDS: found \"15\", expected a number from 16 to 65536; "
		  "1000 stands" },
		{ "AGENTSHIM_DIR", "state",
		  "AGENTSHIM_DIR: found \"state\", expected an absolute path below 256 bytes; "
		  "/dev/shm/agentshim-UID stands" },
		{ "AGENTSHIM_PEERS", "*, db:0",
		  "AGENTSHIM_PEERS: pattern 2: found \"db:0\", expected host, host:port or "
		  "address/bits; pattern left out" },
		{ "AGENTSHIM_EGRESS", "private,db:0",
		  "AGENTSHIM_EGRESS: pattern 2: found \"db:0\", expected private, host, host:port or "
		  "address/bits; pattern left out" },
		{ "AGENTSHIM_FORWARD_HEADERS", "x-tenant,Cookie",
		  "AGENTSHIM_FORWARD_HEADERS: name 2: found \"Cookie\", expected a header that may be "
		  "passed on, as x-request-id; name left out" },
		{ "AGENTSHIM_FORWARD_HEADERS", "a,b,c,d,e,f,g,h,i,j",
		  "AGENTSHIM_FORWARD_HEADERS: name 9: found \"i\", expected at most 8 names; from this "
		  "on each; name left out" },
		{ "AGENTSHIM_FAILURE_STATUS", "5xx,600",
		  "AGENTSHIM_FAILURE_STATUS: status 2: found \"600\", expected none, 503, 5xx or "
		  "500-599; status left out" },
		{ "AGENTSHIM_REWRITE", "maybe",
		  "AGENTSHIM_REWRITE: found \"maybe\", expected on or off; on stands" },
		{ "AGENTSHIM_TRACE", "info",
		  "AGENTSHIM_TRACE: found \"info\", expected on or off; on stands" },
		{ "OTEL_SDK_DISABLED", "1",
		  "OTEL_SDK_DISABLED: found \"1\", expected true or false; false stands" },
		{ "OTEL_PROPAGATORS", "xray,b3,ottrace",
		  "OTEL_PROPAGATORS: found \"xray\", \"ottrace\", expected tracecontext, baggage, b3, "
		  "b3multi, jaeger, xtraceid or none alone; left out" },
		{ "OTEL_PROPAGATORS", "1234567890123456789012345678901,xray",
		  "OTEL_PROPAGATORS: found \"123456789012345678901234567890...\", ..., expected "
		  "tracecontext, baggage, b3, b3multi, jaeger, xtraceid or none alone; left out" },
		{ "OTEL_TRACES_SAMPLER", "1234567890123456789012345678901",
		  "OTEL_TRACES_SAMPLER: found \"123456789012345678901234567890...\", expected "
		  "[parentbased_]always_on, always_off or traceidratio; the default stands" },
		{ "AGENTSHIM_RULES", "db mode=off; pay timeout=5 parsecs",
		  "AGENTSHIM_RULES: rule 2: timeout: found \"5\", expected a duration from 1ms to "
		  "24h, such as 1m30s; rule left out" },
		{ "AGENTSHIM_RULES", "db time=5s",
		  "AGENTSHIM_RULES: rule 1: found \"time=5s\", expected key=value, such as "
		  "timeout=5s; rule left out" },
		{ "AGENTSHIM_RULES", "db",
		  "AGENTSHIM_RULES: rule 1: found \"db\", expected key=value after the pattern; "
		  "rule left out" },
		{ "AGENTSHIM_TIMEOUT", "a\tb\nc\x1b[31m\"\xc3\xa9\xff",
		  "AGENTSHIM_TIMEOUT: found \"a?b?c?[31m\"\xc3\xa9?\", expected a duration from 1ms to "
		  "24h, such as 1m30s; 30s stands" },
		{ "AGENTSHIM_TIMEOUT", "12345678901234567890123456789012 and then some",
		  "AGENTSHIM_TIMEOUT: found \"123456789012345678901234567890...\", expected a "
		  "duration from 1ms to 24h, such as 1m30s; 30s stands" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		READ(rows[i].variable, rows[i].value);
		assert_int_equal(config.n_problems, 1);
		assert_string_equal(config.problems[0], rows[i].problem);
	}
}

static void the_longest_problem_of_every_key_ends_with_what_stands(void **state)
{
	static char rules[8192];
	size_t n = 0;

	(void) state;
	for (int key = 0; key < CONFIG_KEYS; key++) {
		n = 0;
		for (int i = 0; i < 63; i++)
			n += (size_t) sprintf(rules + n, "h%d mode=off;", i);
		n += (size_t) sprintf(rules + n, "h %s=", config_key_name(key));
		memset(rules + n, 'x', 100);
		rules[n + 100] = '\0';
		READ("AGENTSHIM_RULES", rules);
		assert_int_equal(config.n_problems, 1);
		print_message("# %s\n", config.problems[0]);
		assert_non_null(strstr(config.problems[0], "; rule left out"));
	}
}

static void more_problems_than_fit_are_counted(void **state)
{
	char peers[200] = "";

	(void) state;
	for (int i = 0; i < 20; i++)
		strcat(peers, "a:b,");
	READ("AGENTSHIM_PEERS", peers, "AGENTSHIM_TIMEOUT", "never");
	assert_int_equal(config.n_problems, 21);
	assert_non_null(strstr(config.problems[0], "AGENTSHIM_TIMEOUT"));
	assert_non_null(strstr(config.problems[7], "pattern 7"));
}

static void settings_of_the_process_are_read(void **state)
{
	(void) state;
	READ("AGENTSHIM_DISABLE", "1", "AGENTSHIM_LOG", "stderr", "AGENTSHIM_LOG_LEVEL", "info",
	     "AGENTSHIM_DIR", "/run/shims", "AGENTSHIM_SERVICE", "payments api",
	     "OTEL_SERVICE_NAME", "pay", "AGENTSHIM_SPAN_RECORDS", "65536");
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.span_records, 65536);
	assert_true(config.disabled);
	assert_string_equal(config.log, "stderr");
	assert_int_equal(config.log_level, CONFIG_LOG_INFO);
	assert_string_equal(config.dir, "/run/shims");
	assert_string_equal(config.service, "payments api");
	assert_string_equal(config.otel_service, "pay");
}

static void empty_and_blank_values_count_as_unset(void **state)
{
	static const char *const names[] = {
		"MODE", "MAX_REQUESTS", "INTERVAL", "TIMEOUT", "CONSECUTIVE_FAILURES", "PATIENCE",
		"PROBE_TIMEOUT", "ERRNO", "PEERS", "RULES", "SERVICE", "DIR", "LOG", "LOG_LEVEL",
		"DISABLE", "FAILURE_STATUS", "TRACE", "REWRITE", "FORWARD_HEADERS", "EGRESS",
		"SPAN_RECORDS",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char variable[64];

		(void) snprintf(variable, sizeof(variable), "AGENTSHIM_%s", names[i]);
		READ(variable, "");
		assert_int_equal(config.n_problems, 0);
		READ(variable, " \t");
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(config.set, 0);
	}
}

static void empty_variables_of_opentelemetry_count_as_unset(void **state)
{
	static const char *const blank[] = { "", " \t" };

	(void) state;
	for (size_t i = 0; i < 2; i++) {
		READ("OTEL_PROPAGATORS", blank[i], "OTEL_TRACES_SAMPLER", blank[i],
		     "OTEL_TRACES_SAMPLER_ARG", blank[i], "OTEL_SDK_DISABLED", blank[i],
		     "OTEL_SERVICE_NAME", blank[i]);
		assert_int_equal(config.n_problems, 0);
		assert_true(config.trace);
		assert_int_equal(config.propagators.n, 3);
		assert_true(config.sampler.parent_based && config.sampler.threshold == 0);
	}
}

static void the_switch_has_four_words_either_way(void **state)
{
	static const char *const yes[] = { "1", "true", "yes", "on", "TRUE", " On " };
	static const char *const no[] = { "0", "false", "no", "off", "No" };

	(void) state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		READ("AGENTSHIM_DISABLE", yes[i], "AGENTSHIM_TRACE", yes[i], "AGENTSHIM_REWRITE",
		     yes[i]);
		assert_true(config.disabled && config.trace && config.rewrite);
		assert_int_equal(config.n_problems, 0);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		READ("AGENTSHIM_DISABLE", no[i], "AGENTSHIM_TRACE", no[i], "AGENTSHIM_REWRITE",
		     no[i]);
		assert_false(config.disabled || config.trace || config.rewrite);
		assert_int_equal(config.n_problems, 0);
	}
}

static void opentelemetry_is_switched_off_by_true_alone(void **state)
{
	static const struct {
		const char *value;
		bool trace;
		unsigned problems;
	} rows[] = {
		{ "true", false, 0 }, { "TRUE", false, 0 }, { " True ", false, 0 },
		{ "false", true, 0 }, { "False", true, 0 }, { "1", true, 1 },
		{ "yes", true, 1 },   { "on", true, 1 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("# %s\n", rows[i].value);
		READ("OTEL_SDK_DISABLED", rows[i].value);
		assert_int_equal(config.trace, rows[i].trace);
		assert_int_equal(config.n_problems, rows[i].problems);
		assert_false(config.disabled);
	}
	READ("OTEL_SDK_DISABLED", "true", "AGENTSHIM_TRACE", "on");
	assert_false(config.trace);
	READ("OTEL_SDK_DISABLED", "false", "AGENTSHIM_TRACE", "off");
	assert_false(config.trace);
}

static void formats_and_sampler_are_opentelemetry_s(void **state)
{
	(void) state;
	READ("OTEL_PROPAGATORS", "b3, tracecontext ", "OTEL_TRACES_SAMPLER",
	     "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.25");
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.propagators.n, 2);
	assert_int_equal(config.propagators.list[0], PROPAGATE_B3);
	assert_int_equal(config.propagators.list[1], PROPAGATE_TRACECONTEXT);
	assert_true(config.sampler.parent_based);
	assert_true(config.sampler.threshold == SAMPLER_NEVER / 4 * 3);

	READ("OTEL_PROPAGATORS", "none", "OTEL_TRACES_SAMPLER", "always_off");
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.propagators.n, 0);
	assert_true(config.sampler.threshold == SAMPLER_NEVER);

	READ("OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "half");
	assert_int_equal(config.n_problems, 1);
	assert_string_equal(config.problems[0], "OTEL_TRACES_SAMPLER_ARG: found \"half\", expected "
			    "a number from 0 to 1; 1 stands");
	assert_true(config.sampler.threshold == 0 && !config.sampler.parent_based);
}

static const struct {
	const char *value;
	const char *failures, *others;
	unsigned problems;
} status_rows[] = {
	{ NULL, "500 501 502 503 504 599", "100 200 404 429 499 600 99 0 1000", 0 },
	{ "5xx", "500 599", "200 499 600", 0 },
	{ "5XX", "500 599", "200 499", 0 },
	{ "502,503,504", "502 503 504", "500 501 505 599", 0 },
	{ "5xx,!501", "500 502", "501", 0 },
	{ "!501,5xx", "500 502", "501", 0 },
	{ "!501", "500 502 599", "501 404", 0 },
	{ "! 501 , 404", "404", "500 501", 0 },
	{ "500-503", "500 503", "504 499", 0 },
	{ "500 - 503, 4xx", "500 503 400 429 499", "504 399", 0 },
	{ "100-599", "100 429 599", "99 600", 0 },
	{ "1xx", "100 199", "200", 0 },
	{ "none", "", "500 503 100 599", 0 },
	{ "4xx,!500-599", "404", "500 503", 0 },
	/* a bad entry is left out; nothing but these leaves the default */
	{ "503,600", "503", "500", 1 },
	{ "600", "500 599", "404", 1 },
	{ "6xx,0xx", "500", "404", 2 },
	{ "5x,5xxx,50x,xx", "500", "404", 4 },
	{ "99,1000,0500", "500", "404", 3 },
	{ "503-500", "500 599", "404", 1 },
	{ "500-,-500,500-5xx,500-600", "500 599", "404", 4 },
	{ "-5,!,!!501,none,503", "503", "500", 4 },
};

static void assert_statuses(const char *list, bool failure)
{
	int length;
	unsigned status;

	for (; sscanf(list, "%u%n", &status, &length) == 1; list += length)
		assert_int_equal(config_failure_status(&config, status), failure);
}

static void statuses_of_grpc_are_failures_by_name_and_number(void **state)
{
	(void) state;
	READ();
	assert_int_equal(config.failure_grpc, rpc_set_product());
	READ("AGENTSHIM_FAILURE_GRPC", "unavailable, 13");
	assert_int_equal(config.failure_grpc, 1u << RPC_UNAVAILABLE | 1u << RPC_INTERNAL);
	READ("AGENTSHIM_FAILURE_GRPC", "!DATA_LOSS");
	assert_int_equal(config.failure_grpc, rpc_set_product() & ~(1u << RPC_DATA_LOSS));
	READ("AGENTSHIM_FAILURE_GRPC", "none");
	assert_int_equal(config.failure_grpc, 0);
	READ("AGENTSHIM_FAILURE_GRPC", "UNAVAILABLE,DEAD");
	assert_int_equal(config.failure_grpc, 1u << RPC_UNAVAILABLE);
	assert_int_equal(config.n_problems, 1);
	assert_non_null(strstr(config.problems[0], "DEAD"));
}

static void statuses_are_failures_by_list_class_and_range(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(status_rows) / sizeof(status_rows[0]); i++) {
		print_message("# %s\n", status_rows[i].value ? status_rows[i].value : "unset");
		if (status_rows[i].value)
			READ("AGENTSHIM_FAILURE_STATUS", status_rows[i].value);
		else
			READ();
		assert_int_equal(config.n_problems, status_rows[i].problems);
		assert_statuses(status_rows[i].failures, true);
		assert_statuses(status_rows[i].others, false);
	}
}

/* Forwarded names, as they are kept; then those that are refused. */
static const struct {
	const char *value, *kept;
	unsigned problems;
} header_rows[] = {
	{ "x-request-id", "x-request-id", 0 },
	{ "X-Request-ID, X-Tenant", "x-request-id x-tenant", 0 },
	{ ",x-a,,x-b,", "x-a x-b", 0 },
	{ "x-a,X-A,x-b", "x-a x-b", 0 },
	{ "a,b,c,d,e,f,g,h", "a b c d e f g h", 0 },
	{ "a,b,c,d,e,f,g,h,i", "a b c d e f g h", 1 },
	{ "!#$%&'*+-.^_`|~09", "!#$%&'*+-.^_`|~09", 0 },
	{ "x23456789012345678901234567890123456789012345-7",
	  "x23456789012345678901234567890123456789012345-7", 0 },
	{ "x23456789012345678901234567890123456789012345-78,y", "y", 1 },
	{ "x a,x:,x\x7f,\xc3\xb6,(x),y", "y", 5 },
	{ "x-b3,x-trace-id2,hosts,tea,contents,x-cookie,b3x,authorization2",
	  "x-b3 x-trace-id2 hosts tea contents x-cookie b3x authorization2", 0 },
};

static const char *const refused_headers[] = {
	"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "X-B3-Sampled", "uber-trace-id",
	"x-trace-id", "Connection", "keep-alive", "proxy-connection", "proxy-authorization", "TE",
	"trailer", "upgrade", "expect", "Host", "http2-settings", "transfer-encoding",
	"content-length", "content-type", "content-encoding", "authorization", "cookie", "Set-Cookie",
	"www-authenticate", "proxy-authenticate",
};

static const char *forwarded(void)
{
	static char names[HTTP1_EXTRA_MAX * HTTP1_NAME_SIZE];
	struct text t = text_in(names, sizeof(names));

	assert_true(config.forward.n <= HTTP1_EXTRA_MAX);
	for (size_t i = 0; i < config.forward.n; i++) {
		text_add(&t, i > 0 ? " " : "");
		text_add(&t, config.forward.names[i]);
	}
	return names;
}

static void headers_to_forward_are_names_of_the_user_s_own(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(header_rows) / sizeof(header_rows[0]); i++) {
		print_message("# %s\n", header_rows[i].kept);
		READ("AGENTSHIM_FORWARD_HEADERS", header_rows[i].value);
		assert_int_equal(config.n_problems, header_rows[i].problems);
		assert_string_equal(forwarded(), header_rows[i].kept);
	}
	for (size_t i = 0; i < sizeof(refused_headers) / sizeof(refused_headers[0]); i++) {
		char list[100];

		print_message("# %s\n", refused_headers[i]);
		(void) snprintf(list, sizeof(list), "a,%s,b", refused_headers[i]);
		READ("AGENTSHIM_FORWARD_HEADERS", list);
		assert_int_equal(config.n_problems, 1);
		assert_string_equal(forwarded(), "a b");
	}
}

static void contexts_go_to_whom_the_list_lets_have_them(void **state)
{
	static const struct {
		const char *value, *peer;
		bool allowed;
		unsigned problems;
	} rows[] = {
		{ "", "example.com 93.184.216.34 443", true, 0 },
		{ "private", "example.com 93.184.216.34 443", false, 0 },
		{ "private, *.example.com", "api.example.com 93.184.216.34 443", true, 0 },
		{ "private", "db 10.0.0.1 5432", true, 0 },
		{ "!private", "db 10.0.0.1 5432", false, 0 },
		{ "*,!db:5432", "db 10.0.0.1 5432", false, 0 },
		{ "db:0,private", "example.com 93.184.216.34 443", false, 1 },
		{ "db:0", "db 10.0.0.1 5432", false, 1 },
		{ "db:0,!x", "db 10.0.0.1 5432", true, 1 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct config_peer peer = peer_of(rows[i].peer);

		print_message("# \"%s\" for %s\n", rows[i].value, rows[i].peer);
		READ("AGENTSHIM_PEERS", "pay,!x", "AGENTSHIM_EGRESS", rows[i].value);
		assert_int_equal(config_egress_allows(&config, &peer), rows[i].allowed);
		assert_int_equal(config.n_problems, rows[i].problems);
		assert_int_equal(config.n_peers, 2);
	}
}

static void settings_by_address_are_known_as_such(void **state)
{
	static const struct {
		const char *name, *value;
		bool by_address, open;
	} rows[] = {
		{ "AGENTSHIM_PEERS", "*", false, true },
		{ "AGENTSHIM_PEERS", "*,!db:5432,!*.example.com", false, true },
		{ "AGENTSHIM_PEERS", "*,!10.0.0.0/8", true, true },
		{ "AGENTSHIM_PEERS", "10.*", true, true },
		{ "AGENTSHIM_PEERS", "::1", true, true },
		{ "AGENTSHIM_RULES", "payments:443 timeout=5s", false, true },
		{ "AGENTSHIM_RULES", "192.0.2.1 timeout=5s", true, true },
		{ "AGENTSHIM_EGRESS", "*.example.com", false, false },
		{ "AGENTSHIM_EGRESS", "private", true, false },
		{ "AGENTSHIM_EGRESS", "!fd00::/8", true, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("# %s=%s\n", rows[i].name, rows[i].value);
		READ(rows[i].name, rows[i].value);
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(config_by_address(&config), rows[i].by_address);
		assert_int_equal(config_egress_open(&config), rows[i].open);
	}
}

static void paths_have_a_limit_and_names_are_cut(void **state)
{
	char fits[CONFIG_PATH_SIZE], over[CONFIG_PATH_SIZE + 1];

	(void) state;
	memset(fits, '/', sizeof(fits) - 1);
	fits[sizeof(fits) - 1] = '\0';
	memset(over, '/', sizeof(over) - 1);
	over[sizeof(over) - 1] = '\0';

	READ("AGENTSHIM_DIR", fits, "AGENTSHIM_LOG", fits);
	assert_int_equal(config.n_problems, 0);
	assert_string_equal(config.dir, fits);
	assert_string_equal(config.log, fits);
	READ("AGENTSHIM_DIR", over, "AGENTSHIM_LOG", over, "AGENTSHIM_SERVICE", over);
	assert_int_equal(config.n_problems, 2);
	assert_string_equal(config.dir, "");
	assert_string_equal(config.log, "");
	assert_string_equal(config.service, fits);
}

static void the_probe_waits_as_long_as_the_timeout_unless_told(void **state)
{
	(void) state;
	READ("AGENTSHIM_TIMEOUT", "7s", "AGENTSHIM_RULES", "a timeout=5s; b probe_timeout=2s");
	assert_true(config.policy.probe_timeout_ns == 7 * NS_PER_S);
	assert_true(policy_for("a 10.0.0.1 1", NULL).probe_timeout_ns == 5 * NS_PER_S);
	assert_true(policy_for("b 10.0.0.1 1", NULL).probe_timeout_ns == 2 * NS_PER_S);
	assert_true(policy_for("c 10.0.0.1 1", NULL).probe_timeout_ns == 7 * NS_PER_S);

	READ("AGENTSHIM_PROBE_TIMEOUT", "9s", "AGENTSHIM_RULES", "a timeout=5s");
	assert_true(policy_for("a 10.0.0.1 1", NULL).probe_timeout_ns == 9 * NS_PER_S);
}

static void the_first_rule_that_gives_a_key_wins_then_the_environment(void **state)
{
	enum config_source sources[CONFIG_KEYS];

	(void) state;
	READ("AGENTSHIM_TIMEOUT", "9s", "AGENTSHIM_PATIENCE", "3s", "AGENTSHIM_RULES",
	     "pay:443 timeout=1s; pay timeout=2s max_requests=7; *:443 max_requests=8 mode=observe");
	assert_int_equal(config.n_problems, 0);

	const struct policy p = policy_for("pay 10.0.0.1 443", sources);
	assert_true(p.timeout_ns == 1 * NS_PER_S);
	assert_int_equal(p.max_requests, 7);
	assert_int_equal(p.mode, POLICY_OBSERVE);
	assert_true(p.patience_ns == 3 * NS_PER_S);
	assert_int_equal(p.consecutive_failures, 5);
	assert_int_equal(sources[CONFIG_KEY_TIMEOUT], CONFIG_RULE);
	assert_int_equal(sources[CONFIG_KEY_MAX_REQUESTS], CONFIG_RULE);
	assert_int_equal(sources[CONFIG_KEY_PATIENCE], CONFIG_ENVIRONMENT);
	assert_int_equal(sources[CONFIG_KEY_CONSECUTIVE_FAILURES], CONFIG_BUILT_IN);
	assert_true(policy_for("other 10.0.0.2 80", NULL).timeout_ns == 9 * NS_PER_S);
}

static void blanks_around_separators_and_signs_are_welcome(void **state)
{
	(void) state;
	READ("AGENTSHIM_RULES",
	     " ;; pay:443   timeout = 5s\tmax_requests =2 ;\n *.local mode= off ; ",
	     "AGENTSHIM_PEERS", " , *.local ,\t! db:5432,, pay ", "AGENTSHIM_TIMEOUT", " 8s\n");
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.n_rules, 2);
	assert_int_equal(config.n_peers, 3);
	assert_true(policy_for("pay 10.0.0.1 443", NULL).timeout_ns == 5 * NS_PER_S);
	assert_int_equal(policy_for("pay 10.0.0.1 443", NULL).max_requests, 2);
	assert_int_equal(policy_for("a.local 10.0.0.1 1", NULL).mode, POLICY_OFF);
	assert_true(policy_for("x 10.0.0.1 1", NULL).timeout_ns == 8 * NS_PER_S);
	assert_true(wanted("pay 10.0.0.1 443"));
	assert_false(wanted("db 10.0.0.1 5432"));
}

static void a_bad_rule_is_left_out_alone(void **state)
{
	static const char *const rules[] = {
		"db", "db timeout", "db timeout=", "db =5s", "db timeout=5s timeout=6s", "!db mode=off",
		"db mode=off extra", "db:99999 mode=off", "[::1 mode=off", "10.0.0.0/33 mode=off",
		"timeout=5s", "db timeout=5s,mode=off", "db TIMEOUT=5s", "db timeout==5s", "=",
		"db failure_ratio=0.5",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		char all[200];

		(void) snprintf(all, sizeof(all), "a timeout=5s; %s; b timeout=6s", rules[i]);
		READ("AGENTSHIM_RULES", all);
		print_message("# %s\n", config.problems[0]);
		assert_int_equal(config.n_problems, 1);
		assert_non_null(strstr(config.problems[0], "AGENTSHIM_RULES: rule 2: "));
		assert_int_equal(config.n_rules, 2);
		assert_true(policy_for("a 10.0.0.1 1", NULL).timeout_ns == 5 * NS_PER_S);
		assert_true(policy_for("b 10.0.0.1 1", NULL).timeout_ns == 6 * NS_PER_S);
		assert_true(policy_for("db 10.0.0.1 1", NULL).timeout_ns == 30 * NS_PER_S);
	}
}

static const struct {
	const char *pattern, *peer;
	bool match;
} pattern_rows[] = {
	{ "*", "db 10.0.0.1 5432", true },
	{ "*", "::1 1", true },
	{ "*:*", "db 10.0.0.1 5432", true },
	{ "db", "db 10.0.0.1 5432", true },
	{ "DB", "db 10.0.0.1 5432", true },
	{ "db.", "db 10.0.0.1 5432", true },
	{ "db", "db2 10.0.0.1 5432", false },
	{ "db2", "db 10.0.0.1 5432", false },
	{ "db?", "db2 10.0.0.1 5432", true },
	{ "db?", "db 10.0.0.1 5432", false },
	{ "db:5432", "db 10.0.0.1 5432", true },
	{ "db:5432", "db 10.0.0.1 5433", false },
	{ "*:5432", "10.0.0.1 5432", true },
	{ "*:5432", "::1 5433", false },
	{ "*.local", "a.local 10.0.0.1 80", true },
	{ "*.local", "a.b.local 10.0.0.1 80", true },
	{ "*.local", "local 10.0.0.1 80", false },
	{ "*.local", "a.local.net 10.0.0.1 80", false },
	{ "a*b*c", "aXbYbZc 10.0.0.1 80", true },
	{ "a*b*c", "aXcYb 10.0.0.1 80", false },
	{ "**", "x 10.0.0.1 80", true },
	{ "my_svc-1.ns", "my_svc-1.ns 10.0.0.1 80", true },
	{ "b\xc3\xbc\x63her.example", "b\xc3\xbc\x63her.example 10.0.0.1 80", true },
	/* a name's address */
	{ "10.0.0.1", "db 10.0.0.1 5432", true },
	{ "10.0.0.1:5432", "db 10.0.0.1 5432", true },
	{ "10.0.0.*", "db 10.0.0.1 5432", true },
	{ "10.0.0.1?", "db 10.0.0.1 5432", false },
	{ "10.0.0.0/8", "db 10.0.0.1 5432", true },
	/* addresses */
	{ "10.0.0.1", "10.0.0.1 80", true },
	{ "10.0.0.1", "10.0.0.11 80", false },
	{ "::ffff:10.0.0.1", "10.0.0.1 80", true },
	{ "::1", "::1 80", true },
	{ "0:0:0:0:0:0:0:1", "::1 80", true },
	{ "[::1]", "::1 80", true },
	{ "[::1]:80", "::1 80", true },
	{ "[::1]:80", "::1 81", false },
	{ "[10.0.0.1]:80", "10.0.0.1 80", true },
	{ "fd00::1", "fd00::2 80", false },
	/* networks */
	{ "10.0.0.0/8", "10.255.0.1 80", true },
	{ "10.1.2.3/8", "10.255.0.1 80", true },
	{ "10.0.0.0/8", "11.0.0.1 80", false },
	{ "10.0.0.0/8:443", "10.0.0.1 443", true },
	{ "10.0.0.0/8:443", "10.0.0.1 444", false },
	{ "10.0.0.1/32", "10.0.0.1 80", true },
	{ "10.0.0.1/32", "10.0.0.2 80", false },
	{ "0.0.0.0/0", "10.0.0.1 80", true },
	{ "0.0.0.0/0", "::1 80", false },
	{ "::/0", "::1 80", true },
	{ "fd00::/8", "fd12::1 80", true },
	{ "fd00::/8", "fe80::1 80", false },
	{ "[fd00::]/8", "fd12::1 80", true },
	{ "[fd00::]/8:80", "fd12::1 80", true },
	{ "[fd00::]/8:81", "fd12::1 80", false },
};

static void patterns_match_names_addresses_and_networks(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(pattern_rows) / sizeof(pattern_rows[0]); i++) {
		char rule[200], negated[200];

		print_message("# %s on %s\n", pattern_rows[i].pattern, pattern_rows[i].peer);
		(void) snprintf(rule, sizeof(rule), "%s mode=off", pattern_rows[i].pattern);
		(void) snprintf(negated, sizeof(negated), "!%s", pattern_rows[i].pattern);
		READ("AGENTSHIM_PEERS", pattern_rows[i].pattern, "AGENTSHIM_RULES", rule);
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(wanted(pattern_rows[i].peer), pattern_rows[i].match);
		assert_int_equal(policy_for(pattern_rows[i].peer, NULL).mode == POLICY_OFF,
				 pattern_rows[i].match);
		READ("AGENTSHIM_PEERS", negated);
		assert_int_equal(config.n_problems, 0);
		assert_int_equal(wanted(pattern_rows[i].peer), !pattern_rows[i].match);
	}
}

static void a_bad_pattern_is_left_out_alone(void **state)
{
	static const char *const patterns[] = {
		"!", "!!db", ":", ":80", "db:", "db:0", "db:65536", "db:http", "db:80:81", "db/8", "/8",
		"10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "fd00::/129", "[", "[]",
		"[]:80", "[db]:80", "[::1", "[::1]80", "[::1]:", "[::1]:0", "[*]:80", "10.0.0.256",
		"1.2.3", "443", ".", "..", "db host", "db=1", "db;x", "http://db", "db@x", "fe80::1%lo",
		"fe80::*:1:*", "a\x01z", "\x7f",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		char all[200];

		(void) snprintf(all, sizeof(all), "a,%s,!b", patterns[i]);
		READ("AGENTSHIM_PEERS", all);
		print_message("# %s\n", config.problems[0]);
		assert_int_equal(config.n_problems, 1);
		assert_non_null(strstr(config.problems[0], "AGENTSHIM_PEERS: pattern 2: "));
		assert_int_equal(config.n_peers, 2);
		assert_true(wanted("a 10.0.0.1 1"));
		assert_false(wanted("b 10.0.0.1 1"));
	}
}

static void an_exclusion_beats_every_inclusion(void **state)
{
	(void) state;
	READ("AGENTSHIM_PEERS", "*,!db:5432,!10.0.0.0/8");
	assert_true(wanted("pay 192.0.2.1 443"));
	assert_false(wanted("db 192.0.2.1 5432"));
	assert_true(wanted("db 192.0.2.1 5433"));
	assert_false(wanted("pay 10.0.0.1 443"));
	READ("AGENTSHIM_PEERS", "!db,*");
	assert_false(wanted("db 192.0.2.1 5432"));
	assert_true(wanted("pay 192.0.2.1 443"));
	READ("AGENTSHIM_PEERS", "!db");
	assert_true(wanted("pay 192.0.2.1 443"));
	READ("AGENTSHIM_PEERS", "pay");
	assert_false(wanted("db 192.0.2.1 5432"));
}

static void lists_end_at_their_limits(void **state)
{
	static char peers[16384], rules[16384];
	size_t n = 0, m = 0;

	(void) state;
	for (int i = 0; i < 64; i++) {
		n += (size_t) sprintf(peers + n, "h%d,", i);
		m += (size_t) sprintf(rules + m, "h%d timeout=%ds;", i, i + 1);
	}
	READ("AGENTSHIM_PEERS", peers, "AGENTSHIM_RULES", rules);
	assert_int_equal(config.n_problems, 0);
	assert_int_equal(config.n_peers, CONFIG_PATTERNS_MAX);
	assert_int_equal(config.n_rules, CONFIG_RULES_MAX);
	assert_true(policy_for("h63 10.0.0.1 1", NULL).timeout_ns == 64 * NS_PER_S);

	(void) sprintf(peers + n, "h64,h65,h66");
	(void) sprintf(rules + m, "h64 mode=off;h65 mode=off");
	READ("AGENTSHIM_PEERS", peers, "AGENTSHIM_RULES", rules);
	assert_int_equal(config.n_problems, 2);
	print_message("# %s\n# %s\n", config.problems[0], config.problems[1]);
	assert_non_null(strstr(config.problems[0], "pattern 65: found \"h64\""));
	assert_non_null(strstr(config.problems[1], "rule 65: found \"h64 mode=off\""));
	assert_true(wanted("h63 10.0.0.1 1"));
	assert_false(wanted("h64 10.0.0.1 1"));
}

static void room_for_host_names_is_bounded(void **state)
{
	static char peers[65536];
	size_t n = 0;

	(void) state;
	for (int i = 0; i < 64; i++) {
		memset(peers + n, 'a' + i % 26, 255);
		n += 255;
		peers[n++] = ',';
	}
	READ("AGENTSHIM_PEERS", peers);
	assert_int_equal(config.n_peers, PATTERN_TEXT_SIZE / 256);
	assert_int_equal(config.n_problems, 64 - PATTERN_TEXT_SIZE / 256);
	assert_true(config.text.used <= PATTERN_TEXT_SIZE);

	memset(peers, 'a', 256);
	peers[256] = '\0';
	READ("AGENTSHIM_PEERS", peers);
	assert_int_equal(config.n_peers, 0);
	assert_int_equal(config.n_problems, 1);
}

static void a_rule_left_out_gives_its_room_back(void **state)
{
	static char rules[20000];
	size_t n = 0;

	(void) state;
	for (int i = 0; i < 50; i++) {
		memset(rules + n, 'a', 250);
		n += 250;
		n += (size_t) sprintf(rules + n, " timeout=never;");
	}
	(void) sprintf(rules + n, "last timeout=2s");
	READ("AGENTSHIM_RULES", rules);
	assert_int_equal(config.n_problems, 50);
	assert_true(policy_for("last 10.0.0.1 1", NULL).timeout_ns == 2 * NS_PER_S);
}

static void values_as_long_as_the_kernel_allows_are_walked_once(void **state)
{
	static char value[128 * 1024];
	static const char *const names[] = {
		"AGENTSHIM_TIMEOUT", "AGENTSHIM_PEERS", "AGENTSHIM_RULES", "AGENTSHIM_LOG",
		"AGENTSHIM_SERVICE", "AGENTSHIM_DISABLE", "AGENTSHIM_FAILURE_STATUS",
		"AGENTSHIM_FORWARD_HEADERS", "AGENTSHIM_EGRESS", "OTEL_PROPAGATORS",
		"OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED",
	};

	(void) state;
	for (const char *fill = "a,; =*[:!/9."; *fill; fill++) {
		memset(value, *fill, sizeof(value) - 1);
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			READ(names[i], value);
	}
}

static void one_config_is_small_enough_to_keep_several(void **state)
{
	(void) state;
	print_message("# struct config is %zu bytes\n", sizeof(struct config));
	assert_true(sizeof(struct config) <= 32768);
}

static void texts_of_keys_are_cut_to_the_buffer(void **state)
{
	(void) state;
	READ();
	for (int key = 0; key < CONFIG_KEYS; key++) {
		for (size_t size = 1; size < 20; size++) {
			char text[20];

			memset(text, 'x', sizeof(text));
			assert_true(config_key_text(&config.policy, key, text, size) < size);
			assert_non_null(memchr(text, '\0', size));
			assert_int_equal(text[size], 'x');
		}
	}
	assert_string_equal(config_key_name(CONFIG_KEYS), "unknown");
}

/* Is @word on a line of @text that begins with @start? */
static bool line_has(const char *text, const char *start, const char *word)
{
	const char *line = strstr(text, start), *at = line ? strstr(line, word) : NULL;

	return at && at < line + strcspn(line, "\n");
}

static void the_documentation_names_every_key_default_and_errno(void **state)
{
	static const char *const others[] = {
		"AGENTSHIM_DISABLE", "AGENTSHIM_PEERS", "AGENTSHIM_RULES", "AGENTSHIM_SERVICE",
		"AGENTSHIM_DIR", "AGENTSHIM_LOG", "AGENTSHIM_LOG_LEVEL", "AGENTSHIM_FAILURE_STATUS",
		"AGENTSHIM_TRACE", "AGENTSHIM_REWRITE", "AGENTSHIM_FORWARD_HEADERS",
		"AGENTSHIM_EGRESS", "OTEL_SDK_DISABLED", "OTEL_PROPAGATORS", "OTEL_TRACES_SAMPLER",
		"OTEL_TRACES_SAMPLER_ARG", "AGENTSHIM_SPAN_RECORDS",
	};
	static char text[32768], path[4096];
	const char *root = getenv("SOURCE_ROOT"); /* meson sets it */

	(void) state;
	if (!root) {
		print_message("# skip: SOURCE_ROOT is unset\n");
		skip();
	}
	(void) snprintf(path, sizeof(path), "%s/docs/configuration.md", root);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	const size_t n = fread(text, 1, sizeof(text) - 1, f);
	assert_in_range(n, 1, sizeof(text) - 2);
	(void) fclose(f);

	READ();
	for (int key = 0; key < CONFIG_KEYS; key++) {
		char start[80], value[64], word[80];

		(void) snprintf(start, sizeof(start), "\n| `%s` | ", variable_of(key));
		(void) config_key_text(&config.policy, key, value, sizeof(value));
		(void) snprintf(word, sizeof(word), key == CONFIG_KEY_PROBE_TIMEOUT
				? "the peer's timeout" : "`%s`", value);
		print_message("# %s %s\n", start + 1, word);
		assert_non_null(strstr(text, start));
		assert_true(line_has(strstr(text, start) + 1, start + 1, word));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		char start[80];

		(void) snprintf(start, sizeof(start), "\n| `%s` | ", others[i]);
		assert_non_null(strstr(text, start));
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (good[i].key == CONFIG_KEY_ERRNO)
			assert_non_null(strstr(text, good[i].value));
	}

	for (size_t i = 0; i < sizeof(refused_headers) / sizeof(refused_headers[0]); i++) {
		char name[40];

		(void) snprintf(name, sizeof(name), "`%.2s", refused_headers[i]);
		assert_non_null(strcasestr(text, name)); /* itself, or a family such as `proxy-*` */
	}

	/* The examples read without a complaint, the mistakes with those that are printed. */
	READ("AGENTSHIM_EGRESS", "private,*.example.com,!10.9.0.0/16", "AGENTSHIM_FAILURE_STATUS",
	     "5xx,!501", "AGENTSHIM_FORWARD_HEADERS", "x-request-id,x-tenant", "OTEL_PROPAGATORS",
	     "b3,tracecontext", "OTEL_TRACES_SAMPLER", "parentbased_traceidratio",
	     "OTEL_TRACES_SAMPLER_ARG", "0.1");
	assert_int_equal(config.n_problems, 0);
	READ("AGENTSHIM_RULES", "payments:443 timeout=5s consecutive_failures=3; *.local mode=off; "
	     "*:443 patience=3s", "AGENTSHIM_PEERS", "*,!db:5432,!10.0.0.0/8,db-?:5432,10.0.*");
	assert_int_equal(config.n_problems, 0);
	READ("AGENTSHIM_TIMEOUT", "30 parsecs", "AGENTSHIM_PEERS", "*,db:0", "AGENTSHIM_RULES",
	     "db mode=off; pay timeout=5");
	assert_int_equal(config.n_problems, 3);
	for (int i = 0; i < 3; i++) {
		print_message("# %s\n", config.problems[i]);
		assert_non_null(strstr(text, config.problems[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_settings_the_product_defaults_stand),
		cmocka_unit_test(every_key_is_read_from_the_environment),
		cmocka_unit_test(every_key_is_read_from_a_rule),
		cmocka_unit_test(a_bad_value_leaves_the_default_and_one_line),
		cmocka_unit_test(a_problem_says_what_was_found_expected_and_stands),
		cmocka_unit_test(the_longest_problem_of_every_key_ends_with_what_stands),
		cmocka_unit_test(more_problems_than_fit_are_counted),
		cmocka_unit_test(settings_of_the_process_are_read),
		cmocka_unit_test(empty_and_blank_values_count_as_unset),
		cmocka_unit_test(empty_variables_of_opentelemetry_count_as_unset),
		cmocka_unit_test(the_switch_has_four_words_either_way),
		cmocka_unit_test(opentelemetry_is_switched_off_by_true_alone),
		cmocka_unit_test(formats_and_sampler_are_opentelemetry_s),
		cmocka_unit_test(statuses_are_failures_by_list_class_and_range),
		cmocka_unit_test(statuses_of_grpc_are_failures_by_name_and_number),
		cmocka_unit_test(headers_to_forward_are_names_of_the_user_s_own),
		cmocka_unit_test(contexts_go_to_whom_the_list_lets_have_them),
		cmocka_unit_test(settings_by_address_are_known_as_such),
		cmocka_unit_test(paths_have_a_limit_and_names_are_cut),
		cmocka_unit_test(the_probe_waits_as_long_as_the_timeout_unless_told),
		cmocka_unit_test(the_first_rule_that_gives_a_key_wins_then_the_environment),
		cmocka_unit_test(blanks_around_separators_and_signs_are_welcome),
		cmocka_unit_test(a_bad_rule_is_left_out_alone),
		cmocka_unit_test(patterns_match_names_addresses_and_networks),
		cmocka_unit_test(a_bad_pattern_is_left_out_alone),
		cmocka_unit_test(an_exclusion_beats_every_inclusion),
		cmocka_unit_test(lists_end_at_their_limits),
		cmocka_unit_test(room_for_host_names_is_bounded),
		cmocka_unit_test(a_rule_left_out_gives_its_room_back),
		cmocka_unit_test(values_as_long_as_the_kernel_allows_are_walked_once),
		cmocka_unit_test(one_config_is_small_enough_to_keep_several),
		cmocka_unit_test(texts_of_keys_are_cut_to_the_buffer),
		cmocka_unit_test(the_documentation_names_every_key_default_and_errno),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
