/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a list of peers lets have our contexts, and which addresses are private. */
#include "core/egress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/address.h"
#include "tests/unit/edge.h"

static struct egress egress;
static struct pattern_text text;

/* Returns how many entries could not be read. */
static unsigned read_list(const char *list)
{
	const char *at = edge_text(list);
	struct piece rest = { at, at + strlen(at) };
	unsigned bad = 0;

	memset(&egress, 0, sizeof(egress));
	memset(&text, 0, sizeof(text));
	while (rest.at < rest.end)
		bad += !egress_add(&egress, piece_take_entry(&rest, ','), &text);
	return bad;
}

/* "name 10.0.0.1 443" or "10.0.0.1 443" */
static bool allowed(const char *peer_text)
{
	static char words[3][100];
	const int n = sscanf(peer_text, "%99s %99s %99s", words[0], words[1], words[2]);
	struct config_peer peer = { .host = words[0] };

	assert_true(n == 2 || n == 3);
	assert_true(address_parse(words[n - 2], &peer.address));
	peer.port = (uint16_t) atoi(words[n - 1]);
	return egress_allows(&egress, &text, &peer);
}

static const struct {
	const char *address;
	bool is_private;
} addresses[] = {
	{ "9.255.255.255", false },   { "10.0.0.0", true },	  { "10.255.255.255", true },
	{ "11.0.0.0", false },	      { "172.15.255.255", false }, { "172.16.0.0", true },
	{ "172.31.255.255", true },   { "172.32.0.0", false },	  { "192.167.255.255", false },
	{ "192.168.0.0", true },      { "192.168.255.255", true }, { "192.169.0.0", false },
	{ "100.63.255.255", false },  { "100.64.0.0", true },	  { "100.127.255.255", true },
	{ "100.128.0.0", false },     { "126.255.255.255", false }, { "127.0.0.1", true },
	{ "127.255.255.255", true },  { "128.0.0.0", false },	  { "169.253.255.255", false },
	{ "169.254.169.254", true },  { "169.255.0.0", false },	  { "0.0.0.0", true },
	{ "0.0.0.1", false },	      { "8.8.8.8", false },	  { "::", true },
	{ "::1", true },	      { "::2", false },		  { "fbff::1", false },
	{ "fc00::1", true },	      { "fdff::1", true },	  { "fe00::1", false },
	{ "fe7f::1", false },	      { "fe80::1", true },	  { "febf::1", true },
	{ "fec0::1", false },	      { "2001:db8::1", false },	  { "::ffff:10.1.1.1", true },
	{ "::ffff:8.8.8.8", false },  { "::10.0.0.1", false },
};

static void private_is_what_means_something_near_us_alone(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		struct in6_addr address;

		print_message("# %s\n", addresses[i].address);
		assert_true(address_parse(addresses[i].address, &address));
		assert_int_equal(egress_private(&address), addresses[i].is_private);
	}
}

static const struct {
	const char *list, *peer;
	bool allowed;
} rows[] = {
	{ "", "example.com 93.184.216.34 443", true },
	{ "", "10.0.0.1 80", true },
	{ "*", "example.com 93.184.216.34 443", true },
	{ "private", "10.0.0.1 80", true },
	{ "private", "db 10.0.0.1 5432", true },
	{ "private", "fd00::1 80", true },
	{ "private", "example.com 93.184.216.34 443", false },
	{ "Private", "example.com 93.184.216.34 443", false },
	{ "!private", "10.0.0.1 80", false },
	{ "! private", "10.0.0.1 80", false },
	{ "!private", "example.com 93.184.216.34 443", true },
	{ "private,*.example.com", "api.example.com 93.184.216.34 443", true },
	{ "private,*.example.com", "10.0.0.1 80", true },
	{ "private,*.example.com", "example.org 93.184.216.34 443", false },
	{ "private,!10.0.0.0/8", "10.0.0.1 80", false },
	{ "private,!10.0.0.0/8", "192.168.0.1 80", true },
	{ "!10.0.0.0/8,private", "10.0.0.1 80", false },
	{ "*,!private", "10.0.0.1 80", false },
	{ "*,!private", "example.com 93.184.216.34 443", true },
	{ "private,!private", "10.0.0.1 80", false },
	{ "private,!private", "93.184.216.34 80", false },
	{ "!api.example.com", "api.example.com 93.184.216.34 443", false },
	{ "!api.example.com", "www.example.com 93.184.216.34 443", true },
	{ "db:5432", "db 10.0.0.1 5432", true },
	{ "db:5432", "db 10.0.0.1 5433", false },
	/* a host of that name, and what only looks like the word */
	{ "privat?", "private 93.184.216.34 80", true },
	{ "private", "private 93.184.216.34 80", false },
	{ "private.local", "private.local 93.184.216.34 80", true },
	{ "private.local", "10.0.0.1 80", false },
};

static void a_list_says_who_receives(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("# \"%s\" for %s\n", rows[i].list, rows[i].peer);
		assert_int_equal(read_list(rows[i].list), 0);
		assert_int_equal(allowed(rows[i].peer), rows[i].allowed);
	}
}

static void what_is_no_entry_is_left_out_alone(void **state)
{
	static const char *const bad[] = {
		"!", "!!private", "private/8", "db:0", "10.0.0.0/33", "[private]", "pri vate",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char list[100];

		print_message("# %s\n", bad[i]);
		(void) snprintf(list, sizeof(list), "a,%s,!b", bad[i]);
		assert_int_equal(read_list(list), 1);
		assert_int_equal(egress.n, 2);
		assert_false(egress.private_listed || egress.private_barred);
		assert_true(allowed("a 10.0.0.1 80"));
		assert_false(allowed("b 10.0.0.1 80"));
	}
}

static void nobody_receives_by_a_list_that_could_not_be_read(void **state)
{
	(void) state;
	assert_int_equal(read_list("db:0"), 1);
	egress.nobody = true;
	assert_false(allowed("db 10.0.0.1 0"));
	assert_false(allowed("10.0.0.1 80"));
}

static void a_list_ends_at_its_limit(void **state)
{
	static char list[1024];
	size_t n = 0;

	(void) state;
	for (int i = 0; i < EGRESS_PATTERNS_MAX; i++)
		n += (size_t) sprintf(list + n, "h%d,", i);
	assert_int_equal(read_list(list), 0);
	(void) sprintf(list + n, "one-more,private");
	assert_int_equal(read_list(list), 1);
	assert_int_equal(egress.n, EGRESS_PATTERNS_MAX);
	assert_true(egress.private_listed); /* takes no room */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_is_what_means_something_near_us_alone),
		cmocka_unit_test(a_list_says_who_receives),
		cmocka_unit_test(what_is_no_entry_is_left_out_alone),
		cmocka_unit_test(nobody_receives_by_a_list_that_could_not_be_read),
		cmocka_unit_test(a_list_ends_at_its_limit),
	};

	return cmocka_run_group_tests_name("egress", tests, NULL, NULL);
}
