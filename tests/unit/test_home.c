/* SPDX-License-Identifier: Apache-2.0 */
/* What a service's files are called, and that each is told from the others. */
#include "core/home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/ring.h"
#include "core/state.h"

static const struct service service = { .name = "shop", .file = "shop-0123456789ab" };

static int closes(int fd)
{
	return fd;
}

static void a_directory_is_the_users_unless_chosen(void **state)
{
	char buf[64];
	struct text t = text_in(buf, sizeof(buf));

	(void) state;
	home_dir("", 1000, &t);
	assert_string_equal(buf, "/dev/shm/agentshim-1000");
	t = text_in(buf, sizeof(buf));
	home_dir("/run/shim", 1000, &t);
	assert_string_equal(buf, "/run/shim");
}

static void each_kind_has_a_name_and_a_size(void **state)
{
	static const struct {
		enum segment_kind kind;
		const char *file;
		size_t size, least, most;
	} cases[] = {
		{ SEGMENT_STATE, "shop-0123456789ab.v2.state", sizeof(struct state), 0, 0 },
		{ SEGMENT_RING, "shop-0123456789ab.v2.ring", 0, 0, 0 },
		{ SEGMENT_SPANS, "shop-0123456789ab.v2.spans", 0, 1, 1 },
	};
	const struct home home = {
		.service = &service,
		.creator = "/usr/bin/shop",
		.boot_id = { 1, 2, 3 },
		.timens = 7,
		.span_records = 77,
		.close_fd = closes,
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buf[128];
		struct text t = text_in(buf, sizeof(buf));

		home_file(&service, cases[i].kind, &t);
		assert_string_equal(buf, cases[i].file);

		const struct segment_spec spec = home_spec(&home, cases[i].kind, 5, buf, 99);
		const size_t rings = ring_file_size(cases[i].kind == SEGMENT_SPANS ? 77
										    : RING_EVENTS);

		assert_int_equal(spec.dirfd, 5);
		assert_string_equal(spec.name, buf);
		assert_int_equal(spec.kind, cases[i].kind);
		assert_int_equal(spec.layout, STATE_LAYOUT);
		assert_int_equal(spec.body_size, cases[i].size != 0 ? cases[i].size : rings);
		assert_int_equal(spec.body_min,
				 cases[i].least ? ring_file_size(RING_RECORDS_MIN) : 0);
		assert_int_equal(spec.body_max,
				 cases[i].most ? ring_file_size(RING_RECORDS_MAX) : 0);
		assert_string_equal(spec.service, "shop");
		assert_string_equal(spec.creator, "/usr/bin/shop");
		assert_memory_equal(spec.boot_id, home.boot_id, sizeof(spec.boot_id));
		assert_int_equal(spec.timens, 7);
		assert_int_equal(spec.now_wall_ns, 99);
		assert_ptr_equal(spec.close_fd, closes);
		assert_non_null(spec.init);
	}
}

static void a_boot_id_is_read_whole_or_not_at_all(void **state)
{
	static const char text[] = "00112233-4455-6677-8899-aabbccddeeff\n";
	static const uint8_t id[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	static const uint8_t none[16];
	uint8_t got[16];

	(void) state;
	home_boot_id(text, sizeof(text) - 1, got);
	assert_memory_equal(got, id, sizeof(id));
	for (size_t n = 0; n < HOME_BOOT_ID_SIZE; n++) {
		home_boot_id(text, n, got);
		assert_memory_equal(got, none, sizeof(none));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_directory_is_the_users_unless_chosen),
		cmocka_unit_test(each_kind_has_a_name_and_a_size),
		cmocka_unit_test(a_boot_id_is_read_whole_or_not_at_all),
	};

	return cmocka_run_group_tests_name("home", tests, NULL, NULL);
}
