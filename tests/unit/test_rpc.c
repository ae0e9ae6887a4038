/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's statuses: names, what stands for one that was not sent, lists of the user's, deadlines. */
#include "core/rpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <string.h>

#include "core/clock.h"

static void names_are_those_of_grpc_and_of_none_else(void **state)
{
	(void) state;
	assert_string_equal(rpc_status_name(0), "OK");
	assert_string_equal(rpc_status_name(4), "DEADLINE_EXCEEDED");
	assert_string_equal(rpc_status_name(14), "UNAVAILABLE");
	assert_string_equal(rpc_status_name(16), "UNAUTHENTICATED");
	assert_null(rpc_status_name(17));
	assert_null(rpc_status_name(-1u));
}

static void grpc_is_known_by_its_content_type(void **state)
{
	static const struct {
		const char *type;
		bool rpc;
	} rows[] = {
		{ "application/grpc", true },
		{ "application/grpc+proto", true },
		{ "application/grpc;charset=utf-8", true },
		{ "Application/GRPC", true },
		{ "application/grpc-web", false },
		{ "application/grp", false },
		{ "text/html", false },
		{ "", false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("# %s\n", rows[i].type);
		assert_int_equal(rpc_spoken(rows[i].type, strlen(rows[i].type)), rows[i].rpc);
	}
}

static void a_status_that_was_not_sent_is_made_of_what_was(void **state)
{
	static const struct {
		unsigned http;
		enum rpc_status rpc;
	} heads[] = {
		{ 200, RPC_UNKNOWN },           { 400, RPC_INTERNAL },
		{ 401, RPC_UNAUTHENTICATED },   { 403, RPC_PERMISSION_DENIED },
		{ 404, RPC_UNIMPLEMENTED },     { 429, RPC_UNAVAILABLE },
		{ 500, RPC_UNKNOWN },           { 502, RPC_UNAVAILABLE },
		{ 503, RPC_UNAVAILABLE },       { 504, RPC_UNAVAILABLE },
		{ 0, RPC_UNKNOWN },
	};
	static const struct {
		uint32_t code;
		enum rpc_status rpc;
	} resets[] = {
		{ 0, RPC_INTERNAL },     { 2, RPC_INTERNAL },            { 7, RPC_UNAVAILABLE },
		{ 8, RPC_CANCELLED },    { 11, RPC_RESOURCE_EXHAUSTED }, { 12, RPC_PERMISSION_DENIED },
		{ 13, RPC_UNKNOWN },     { UINT32_MAX, RPC_UNKNOWN },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		assert_int_equal(rpc_of_http(heads[i].http), heads[i].rpc);
	for (size_t i = 0; i < sizeof(resets) / sizeof(resets[0]); i++)
		assert_int_equal(rpc_of_reset(resets[i].code), resets[i].rpc);
}

static void a_deadline_has_a_unit(void **state)
{
	static const struct {
		const char *value;
		uint64_t ns;
	} rows[] = {
		{ "200m", 200 * NS_PER_MS }, { "1S", NS_PER_S },        { "2M", 120 * NS_PER_S },
		{ "1H", 3600 * NS_PER_S },   { "5u", 5 * NS_PER_US },   { "7n", 7 },
		{ "99999999H", UINT64_MAX },
		{ "999999999H", 0 },         { "m", 0 },                { "", 0 },
		{ "1s", 0 },                 { "-1S", 0 },              { "1.5S", 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("# %s\n", rows[i].value);
		assert_int_equal(rpc_timeout(rows[i].value, strlen(rows[i].value)), rows[i].ns);
	}
}

static void add(struct rpc_list *list, const char *entry, bool good)
{
	assert_int_equal(rpc_list_add(list, piece_of(entry)), good);
}

static void a_list_names_statuses_or_takes_away(void **state)
{
	struct rpc_list list = { 0 };

	(void) state;
	assert_true(rpc_set_has(rpc_set_product(), RPC_UNAVAILABLE));
	assert_false(rpc_set_has(rpc_set_product(), RPC_NOT_FOUND));
	assert_false(rpc_set_has(rpc_set_product(), 17));
	add(&list, "!unavailable", true);
	assert_int_equal(rpc_list_set(&list, rpc_set_product()),
			 rpc_set_product() & ~(1u << RPC_UNAVAILABLE));
	add(&list, "ABORTED", true);
	add(&list, "14", true);
	add(&list, "17", false);
	add(&list, "OKAY", false);
	add(&list, "", false);
	assert_int_equal(rpc_list_set(&list, rpc_set_product()), 1u << RPC_ABORTED);
}

static void servers_are_to_blame_for_their_own(void **state)
{
	(void) state;
	assert_true(rpc_server_fails(RPC_INTERNAL));
	assert_true(rpc_server_fails(RPC_UNIMPLEMENTED));
	assert_false(rpc_server_fails(RPC_NOT_FOUND));
	assert_false(rpc_server_fails(RPC_RESOURCE_EXHAUSTED));
	assert_false(rpc_server_fails(RPC_OK));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_those_of_grpc_and_of_none_else),
		cmocka_unit_test(grpc_is_known_by_its_content_type),
		cmocka_unit_test(a_status_that_was_not_sent_is_made_of_what_was),
		cmocka_unit_test(a_deadline_has_a_unit),
		cmocka_unit_test(a_list_names_statuses_or_takes_away),
		cmocka_unit_test(servers_are_to_blame_for_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
