/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header blocks: the RFC's own, what nghttp2's deflater makes, and those that cannot be; cut
 * anywhere, at the edge of a page, in memory of a known size.
 */
#include "core/hpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "core/text.h"
#include "tests/unit/edge.h"
#include "tests/unit/h2_made.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MEMORY            49152 /* what core/http2 gives a direction, about */
#define SHOWN_MAX         (256 * 1024)

/* One direction, and what was read of it: a line a field, an empty one after each block. */
struct reader {
	struct hpack p;
	char *memory;
	enum hpack_said said;
	struct text text;
	char room[SHOWN_MAX];
};

static struct reader whole, parts;

static void begin(struct reader *r, size_t memory)
{
	free(r->memory);
	r->memory = malloc(memory > 0 ? memory : 1); /* of its exact size, for sanitizers */
	hpack_init(&r->p, r->memory, memory);
	r->said = HPACK_MORE;
	r->text = text_in(r->room, sizeof(r->room));
}

static void feed(struct reader *r, const char *bytes, size_t n)
{
	const char *at = edge_bytes(bytes, n);

	do {
		struct hpack_field f;
		size_t used;

		r->said = hpack_feed(&r->p, at, n, &f, &used);
		if (r->said > HPACK_FIELD)
			return;
		at += used;
		n -= used;
		if (r->said == HPACK_FIELD) {
			text_add_n(&r->text, f.name, f.name_len);
			text_add(&r->text, ": ");
			text_add_n(&r->text, f.value, f.value_len);
			text_add(&r->text, "\n");
		}
	} while (r->said != HPACK_MORE);
	assert_int_equal(n, 0);
}

static void end(struct reader *r)
{
	if (r->said == HPACK_MORE)
		r->said = hpack_end(&r->p);
	text_add(&r->text, "\n");
}

static size_t unhex(const char *hex, char *ret)
{
	size_t n = 0;

	for (unsigned byte; *hex != '\0'; hex += 2, n++) {
		hex += strspn(hex, " ");
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		ret[n] = (char) byte;
	}
	return n;
}

struct blocks {
	const char *name;
	const char *hex[4];
	const char *fields;
	uint32_t limit; /* 0: none is set */
	enum hpack_said said;
};

/* The bytes of blocks, one after the other. */
#define HEX(...) .hex = { __VA_ARGS__ }

static void read_cut(struct reader *r, const struct blocks *row, size_t cut, size_t every)
{
	begin(r, MEMORY);
	if (row->limit > 0)
		hpack_limit(&r->p, row->limit);
	for (size_t i = 0; i < N_ELEMENTS(row->hex) && row->hex[i]; i++) {
		char bytes[512];
		const size_t n = unhex(row->hex[i], bytes);

		for (size_t at = 0, step; at < n && r->said == HPACK_MORE; at += step) {
			step = every > 0 ? every : at == 0 && cut > 0 ? cut : n - at;
			step = step < n - at ? step : n - at;
			feed(r, bytes + at, step);
		}
		end(r);
	}
}

static void check(const struct blocks *row)
{
	print_message("# %s\n", row->name);
	read_cut(&whole, row, 0, 0);
	assert_int_equal(whole.said, row->said);
	if (row->fields)
		assert_string_equal(whole.room, row->fields);
	for (size_t cut = 0; cut < 128; cut++) {
		read_cut(&parts, row, cut, cut == 0);
		assert_int_equal(parts.said, row->said);
		assert_string_equal(parts.room, whole.room);
	}
}

#define REQUESTS                                                                                   \
	":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n\n"                   \
	":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"                     \
	"cache-control: no-cache\n\n"                                                              \
	":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"          \
	"custom-key: custom-value\n\n"

#define RESPONSES                                                                                  \
	":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"              \
	"location: https://www.example.com\n\n"                                                    \
	":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"              \
	"location: https://www.example.com\n\n"                                                    \
	":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n"              \
	"location: https://www.example.com\ncontent-encoding: gzip\n"                              \
	"set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n\n"

static void reads_the_rfcs_examples(void **state)
{
	static const struct blocks rows[] = {
		{ "C.2.1", HEX("400a637573746f6d2d6b65790d637573746f6d2d686561646572"),
		  "custom-key: custom-header\n\n" },
		{ "C.2.2", HEX("040c2f73616d706c652f70617468"), ":path: /sample/path\n\n" },
		{ "C.2.3", HEX("100870617373776f726406736563726574"), "password: secret\n\n" },
		{ "C.2.4", HEX("82"), ":method: GET\n\n" },
		{ "C.3",
		  HEX("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
		      "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"),
		  REQUESTS },
		{ "C.4",
		  HEX("828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
		      "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
		  REQUESTS },
		{ "C.5, of a table of 256",
		  HEX("3fe101"
		      "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a"
		      "323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
		      "4803333037c1c0bf",
		      "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69"
		      "707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d6178"
		      "2d6167653d333630303b2076657273696f6e3d31"),
		  RESPONSES, 256 },
		{ "C.6, of a table of 256",
		  HEX("3fe101"
		      "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29"
		      "ad171863c78f0b97c8e9ae82ae43d3",
		      "4883640effc1c0bf",
		      "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7"
		      "f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d50"
		      "07"),
		  RESPONSES, 256 },
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++)
		check(&rows[i]);
}

static void follows_the_size_of_the_table(void **state)
{
	static const struct blocks rows[] = {
		{ "an entry goes when the table shrinks", HEX("40016101 62", "20be"), NULL, 0,
		  HPACK_BAD },
		{ "and stays when it does not", HEX("4001610162", "3fe11fbe"), "a: b\n\na: b\n\n" },
		{ "an entry as large as the table", HEX("3f034001610162be"), "a: b\na: b\n\n" },
		{ "a larger one empties it", HEX("3f0340016101624001610262 62be"), NULL, 0,
		  HPACK_BAD },
		{ "more than SETTINGS allow", HEX("3fe21f82"), NULL, 0, HPACK_BAD },
		{ "more, where SETTINGS allow it", HEX("3fe17f82"), ":method: GET\n\n", 16384 },
		{ "SETTINGS made it less, and the block says so", HEX("3f4182"), ":method: GET\n\n",
		  100 },
		{ "says less yet", HEX("2082"), ":method: GET\n\n", 100 },
		{ "says nothing", HEX("82"), NULL, 100, HPACK_BAD },
		{ "says more", HEX("3f4682"), NULL, 100, HPACK_BAD },
		{ "in the middle of a block", HEX("8220"), NULL, 0, HPACK_BAD },
		{ "twice at its beginning", HEX("203fe11f82"), ":method: GET\n\n" },
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++)
		check(&rows[i]);
}

static void refuses_what_is_no_block(void **state)
{
	static const struct blocks rows[] = {
		{ "index 0", HEX("80"), NULL, 0, HPACK_BAD },
		{ "an index that is not there", HEX("be"), NULL, 0, HPACK_BAD },
		{ "a name that is not there", HEX("7f0062"), NULL, 0, HPACK_BAD },
		{ "a number without end", HEX("ffffffffffffffffffffff"), NULL, 0, HPACK_BAD },
		{ "a string longer than 64 KiB", HEX("00017f7f82ff0361"), NULL, 0, HPACK_BAD },
		{ "Huffman code with EOS in it", HEX("000161 84ffffffff"), NULL, 0, HPACK_BAD },
		{ "Huffman code padded with zeros", HEX("00016181 10"), NULL, 0, HPACK_BAD },
		{ "cut within a string", HEX("00016102 62"), NULL, 0, HPACK_BAD },
		{ "cut within a number", HEX("7f"), NULL, 0, HPACK_BAD },
		{ "empty", HEX(""), "\n" },
		{ "empty strings", HEX("000000"), ": \n\n" },
	};

	(void) state;
	for (size_t i = 0; i < N_ELEMENTS(rows); i++)
		check(&rows[i]);
}

/* Entries of no name and no value take the most beside what they count. */
static void a_full_table_has_room(void **state)
{
	char block[512];
	size_t n = 0;

	(void) state;
	for (size_t i = 0; i < HPACK_TABLE / HPACK_ENTRY + 40; i++, n += 3)
		memcpy(block + n, "\x40\x00\x00", 3);
	begin(&whole, MEMORY);
	for (int i = 0; i < 10; i++) {
		feed(&whole, block, n);
		end(&whole);
		assert_int_equal(whole.said, HPACK_MORE);
	}
	print_message("# %zu bytes\n", hpack_touched(&whole.p));
	assert_in_range(hpack_touched(&whole.p), 16384, 26 * 1024 + 1024);
}

/* As large as the comment in hpack.h says, in plain text. */
static void long_values_have_room(void **state)
{
	static char block[16384 + 8];
	const size_t length = 16384;

	a_full_table_has_room(state);
	memcpy(block, "\x00\x01\x61\x7f\x81\x7f\x00", 7); /* 127 + 16257 */
	memset(block + 6, 'x', length);
	for (int i = 0; i < 10; i++) {
		feed(&whole, block, 6 + length);
		end(&whole);
		assert_int_equal(whole.said, HPACK_MORE);
	}
}

static void says_when_there_is_no_room(void **state)
{
	static char block[8192 + 6];
	size_t memory = 0, refused = 0;

	(void) state;
	memcpy(block, "\x40\x01\x61\x7f\x81\x3f", 6);
	memset(block + 6, 'x', 8192);
	for (; memory < 32768; memory += 256) {
		begin(&whole, memory);
		feed(&whole, block, 6 + 8192);
		if (whole.said == HPACK_MORE)
			end(&whole);
		if (whole.said == HPACK_MORE)
			break;
		assert_int_equal(whole.said, HPACK_NO_ROOM);
		refused++;
		feed(&whole, "\x82", 1); /* for good */
		assert_int_not_equal(whole.said, HPACK_MORE);
	}
	assert_int_equal(whole.said, HPACK_MORE);
	assert_in_range(refused, 8, 48);
}

/* What the deflater was given comes out, however it is cut and however its table changes. */
static void reads_what_a_deflater_writes(void **state)
{
	static char block[MADE_BLOCK_MAX];
	static char wanted_room[SHOWN_MAX];
	struct made m;

	(void) state;
	for (uint32_t seed = 0; seed < 20; seed++) {
		made_begin(&m, seed, seed % 3 == 0 ? 4096 : 65536);
		begin(&whole, MEMORY);
		for (int i = 0; i < 100; i++) {
			struct text wanted = text_in(wanted_room, sizeof(wanted_room));
			const uint32_t limit = made_draw(&m, 16) == 0 ? made_draw(&m, 4097) : 4097;

			if (limit < 4097) {
				hpack_limit(&whole.p, limit);
				nghttp2_hd_deflate_change_table_size(m.deflater, limit);
			}
			made_fields(&m, MADE_REQUEST);

			const size_t n = made_block(&m, block);

			for (size_t j = 0; j < m.n_fields; j++) {
				text_add_n(&wanted, (char *) m.fields[j].name, m.fields[j].namelen);
				text_add(&wanted, ": ");
				text_add_n(&wanted, (char *) m.fields[j].value,
					   m.fields[j].valuelen);
				text_add(&wanted, "\n");
			}
			text_add(&wanted, "\n");
			whole.text = text_in(whole.room, sizeof(whole.room));
			for (size_t at = 0, step; at < n; at += step) {
				step = 1 + made_draw(&m, 200);
				step = step < n - at ? step : n - at;
				feed(&whole, block + at, step);
				assert_int_equal(whole.said, HPACK_MORE);
			}
			end(&whole);
			assert_int_equal(whole.said, HPACK_MORE);
			assert_false(wanted.cut);
			assert_string_equal(whole.room, wanted_room);
		}
		made_end(&m);
	}
	print_message("# at most %zu bytes\n", hpack_touched(&whole.p));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_rfcs_examples),
		cmocka_unit_test(follows_the_size_of_the_table),
		cmocka_unit_test(refuses_what_is_no_block),
		cmocka_unit_test(a_full_table_has_room),
		cmocka_unit_test(long_values_have_room),
		cmocka_unit_test(says_when_there_is_no_room),
		cmocka_unit_test(reads_what_a_deflater_writes),
	};
	const int failed = cmocka_run_group_tests_name("hpack", tests, NULL, NULL);

	free(whole.memory);
	free(parts.memory);
	return failed;
}
