/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses to text and back, and networks. */
#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/edge.h"

static struct in6_addr address(const char *text)
{
	struct in6_addr a;

	assert_true(address_parse(edge_text(text), &a));
	return a;
}

static const struct {
	const char *written, *shown;
} rows[] = {
	{ "127.0.0.1", "127.0.0.1" },
	{ "0.0.0.0", "0.0.0.0" },
	{ "255.255.255.255", "255.255.255.255" },
	{ "::ffff:10.1.2.3", "10.1.2.3" },
	{ "::", "::" },
	{ "::1", "::1" },
	{ "1::", "1::" },
	{ "0:0:0:0:0:0:0:1", "::1" },
	{ "FD00::ABCD", "fd00::abcd" },
	{ "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1" },
	{ "2001:0:0:1:0:0:0:1", "2001:0:0:1::1" },
	{ "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1" },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
};

static void shows_the_one_short_form(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[ADDRESS_TEXT_SIZE];
		const struct in6_addr a = address(rows[i].written);

		address_text(&a, text);
		assert_string_equal(text, rows[i].shown);
	}
}

static void agrees_with_inet_ntop(void **state)
{
	uint64_t x = 88172645463325252;

	(void) state;
	for (int i = 0; i < 20000; i++) {
		struct in6_addr a;
		char ours[ADDRESS_TEXT_SIZE], libcs[INET6_ADDRSTRLEN];

		for (int byte = 0; byte < 16; byte++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* Mostly zeros, and pairs that make whole zero groups. */
			a.s6_addr[byte] = x & 0x300 ? 0 : (uint8_t) x;
		}
		a.s6_addr[0] = 0xfd; /* libc shows ::/96 as dotted, which RFC 5952 lets be */
		address_text(&a, ours);
		assert_non_null(inet_ntop(AF_INET6, &a, libcs, sizeof(libcs)));
		assert_string_equal(ours, libcs);
	}
}

static void declines_what_is_no_address(void **state)
{
	static const char *const bad[] = {
		"", "*", "host", "10", "10.0.0", "10.0.0.256", "10.0.0.1 ", "010.0.0.1", ":", ":::",
		"[::1]", "fe80::1%eth0", "1:2:3:4:5:6:7:8:9", "10.0.0.1:80", "::g",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct in6_addr a, untouched;

		memset(&a, 0x5a, sizeof(a));
		untouched = a;
		errno = 77;
		print_message("# \"%s\"\n", bad[i]);
		assert_false(address_parse(edge_text(bad[i]), &a));
		assert_memory_equal(&a, &untouched, sizeof(a));
		assert_int_equal(errno, 77);
	}
}

static void compares_as_many_bits_as_asked(void **state)
{
	static const struct {
		const char *address, *network;
		unsigned prefix;
		bool in;
	} nets[] = {
		{ "10.1.2.3", "10.0.0.0", 96 + 8, true },
		{ "11.1.2.3", "10.0.0.0", 96 + 8, false },
		{ "11.1.2.3", "10.0.0.0", 96 + 7, true },
		{ "10.1.2.3", "10.1.2.3", 128, true },
		{ "10.1.2.3", "10.1.2.2", 128, false },
		{ "10.1.2.3", "10.1.2.2", 127, true },
		{ "fd00::1", "10.0.0.0", 96, false },
		{ "fd00::1", "::", 0, true },
		{ "fd01::1", "fd00::", 8, true },
		{ "fd80::1", "fd00::", 9, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++) {
		const struct in6_addr a = address(nets[i].address);
		const struct in6_addr n = address(nets[i].network);

		print_message("# %s in %s/%u\n", nets[i].address, nets[i].network, nets[i].prefix);
		assert_int_equal(address_in(&a, &n, nets[i].prefix), nets[i].in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_the_one_short_form),
		cmocka_unit_test(agrees_with_inet_ntop),
		cmocka_unit_test(declines_what_is_no_address),
		cmocka_unit_test(compares_as_many_bits_as_asked),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
