/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is understood of the fields that come with a request, and what goes out with the next.
 * Rows are taken from the specifications: W3C Trace Context levels 1 and 2 and its test harness
 * at STRICT_LEVEL 2, W3C Baggage, openzipkin/b3-propagation, Jaeger's client libraries, and
 * OpenTelemetry's propagators. Every value ends at an unreadable page.
 */
#include "core/propagate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/edge.h"

#define LINES_MAX  8     /* of tracestate, and of baggage */
#define INPUT_SIZE 65536 /* of a row's fields, written out */

#define T    "0af7651916cd43dd8448eb211c80319c"
#define SHORT "8448eb211c80319c"
#define S    "b7ad6b7169203331"
#define UUID "0af76519-16cd-43dd-8448-eb211c80319c"
#define PARENT "traceparent: 00-" T "-" S "-01\n"
#define CAME T "-" S " sampled accept span"
#define W3C  "tracecontext,baggage,xtraceid"
#define ALL  "tracecontext,baggage,b3,b3multi,jaeger,xtraceid"

/* @n times the character @c; see expand() */
#define TIMES(c, n) "\001" c #n "\002"

/* ---- rows as text ---- */

static char input[INPUT_SIZE];
static struct propagate_value tracestate[LINES_MAX], baggage[LINES_MAX];
static struct propagate_in in;

static void expand(const char *text)
{
	size_t used = 0;

	while (*text) {
		char c;
		int n, length;

		if (sscanf(text, "\001%c%d\002%n", &c, &n, &length) != 2) {
			c = *text;
			n = length = 1;
		}
		assert_true(used + (size_t) n < sizeof(input));
		memset(input + used, c, (size_t) n);
		used += (size_t) n;
		text += length;
	}
	input[used] = '\0';
}

static void keep_first(struct propagate_value *field, struct propagate_value v)
{
	if (!field->at)
		*field = v;
}

static void take_line(const char *name, struct propagate_value v)
{
	if (strcmp(name, "traceparent") == 0) {
		in.n_traceparent++;
		keep_first(&in.traceparent, v);
	} else if (strcmp(name, "tracestate") == 0) {
		assert_true(in.n_tracestate < LINES_MAX);
		tracestate[in.n_tracestate++] = v;
	} else if (strcmp(name, "baggage") == 0) {
		assert_true(in.n_baggage < LINES_MAX);
		baggage[in.n_baggage++] = v;
	} else if (strcmp(name, "b3") == 0) {
		keep_first(&in.b3, v);
	} else if (strcmp(name, "x-b3-traceid") == 0) {
		keep_first(&in.b3_traceid, v);
	} else if (strcmp(name, "x-b3-spanid") == 0) {
		keep_first(&in.b3_spanid, v);
	} else if (strcmp(name, "x-b3-sampled") == 0) {
		keep_first(&in.b3_sampled, v);
	} else if (strcmp(name, "x-b3-flags") == 0) {
		keep_first(&in.b3_flags, v);
	} else if (strcmp(name, "uber-trace-id") == 0) {
		in.n_uber_trace_id++;
		keep_first(&in.uber_trace_id, v);
	} else if (strcmp(name, "x-trace-id") == 0) {
		keep_first(&in.x_trace_id, v);
	} else {
		fail_msg("no such field: %s", name);
	}
}

/* "name: value" lines; one blank after the colon is the row's form, not the value's. */
static void read_lines(const char *text)
{
	unsigned slot = 0;

	expand(text);
	in = (struct propagate_in) { .tracestate = tracestate, .baggage = baggage };
	for (char *line = input, *next; *line; line = next) {
		char *colon = strstr(line, ": ");
		const size_t length = strcspn(line, "\n");

		next = line + length + (line[length] == '\n');
		assert_true(colon && colon < line + length + 2);
		*colon = '\0';
		const size_t n = length - (size_t) (colon + 2 - line);
		take_line(line, (struct propagate_value) { edge_slot(slot++, colon + 2, n), n });
	}
}

static void add_bytes(struct text *t, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text_add_hex(t, bytes[i], 2);
}

static void add_context(struct text *t, const struct context *c)
{
	static const struct {
		unsigned flag;
		const char *word;
	} flags[] = {
		{ CONTEXT_SAMPLED, " sampled" }, { CONTEXT_RANDOM, " random" },
		{ CONTEXT_DEBUG, " debug" },	 { CONTEXT_UUID, " uuid" },
		{ CONTEXT_SHORT, " short" },	 { CONTEXT_DEFERRED, " deferred" },
	};
	unsigned known = 0;

	if (context_some(c)) {
		add_bytes(t, c->trace_id, sizeof(c->trace_id));
		text_add(t, "-");
		add_bytes(t, c->span_id, sizeof(c->span_id));
	} else {
		text_add(t, "none");
	}
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		known |= flags[i].flag;
		text_add(t, c->flags & flags[i].flag ? flags[i].word : "");
	}
	assert_int_equal(c->flags & ~known, 0);
}

/* "TRACE-SPAN sampled accept span state[foo=1] baggage[a=b] foreign" */
static const char *shown(const struct propagate_found *f)
{
	static char line[INPUT_SIZE];
	static const char *const decisions[] = { " defer", " accept", " deny" };
	struct text t = text_in(line, sizeof(line));

	add_context(&t, &f->context);
	text_add(&t, decisions[f->decision]);
	text_add(&t, f->remote_span ? " span" : "");
	if (f->tracestate) {
		text_add(&t, " state[");
		assert_true(propagate_tracestate(in.tracestate, in.n_tracestate, &t));
		text_add(&t, "]");
	}
	if (f->baggage) {
		text_add(&t, " baggage[");
		assert_true(propagate_baggage(in.baggage, in.n_baggage, &t));
		text_add(&t, "]");
	}
	text_add(&t, f->foreign ? " foreign" : "");
	assert_false(t.cut);
	return line;
}

static struct propagators formats(const char *list)
{
	struct propagators p;

	assert_true(propagators_from(list, &p, NULL));
	return p;
}

static struct propagate_found extract(const char *list, const char *lines)
{
	const struct propagators p = formats(list);
	struct propagate_found f;

	read_lines(lines);
	memset(&f, 0xa5, sizeof(f));
	errno = 77;
	propagate_extract(&p, &in, &f);
	assert_int_equal(errno, 77);
	return f;
}

struct row {
	const char *name, *lines, *expected;
};

static void try_rows(const char *list, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct propagate_found f = extract(list, rows[i].lines);
		static char expected[INPUT_SIZE];

		print_message("# %s\n", rows[i].name);
		expand(rows[i].expected);
		strcpy(expected, input);
		read_lines(rows[i].lines);
		assert_string_equal(shown(&f), expected);
	}
}

#define TRY(list, rows) try_rows(list, rows, sizeof(rows) / sizeof((rows)[0]))

/* ---- W3C Trace Context: traceparent ---- */

#define LINE(value) "traceparent: " value "\n"

static const struct row traceparents[] = {
	{ "nothing came", "", "none defer" },
	{ "an empty value", LINE(""), "none defer" },
	{ "sampled", LINE("00-" T "-" S "-01"), CAME },
	{ "not sampled", LINE("00-" T "-" S "-00"), T "-" S " deny span" },
	{ "random", LINE("00-" T "-" S "-02"), T "-" S " random deny span" },
	{ "sampled and random", LINE("00-" T "-" S "-03"), T "-" S " sampled random accept span" },
	{ "an unknown flag beside sampled", LINE("00-" T "-" S "-09"), CAME },
	{ "an unknown flag alone", LINE("00-" T "-" S "-08"), T "-" S " deny span" },
	{ "all flags", LINE("00-" T "-" S "-ff"), T "-" S " sampled random accept span" },
	{ "blanks around it", LINE(" \t 00-" T "-" S "-01 \t "), CAME },
	{ "a blank inside", LINE("00-" T "- " S "-01"), "none defer" },
	{ "twice the same", LINE("00-" T "-" S "-01") LINE("00-" T "-" S "-01"), "none defer" },
	{ "twice, unlike", LINE("00-" T "-" S "-01") LINE("00-" T "-1234567890123456-01"),
	  "none defer" },
	{ "twice, the second bad", LINE("00-" T "-" S "-01") LINE(""), "none defer" },
	{ "twice with a comma", LINE("00-" T "-" S "-01,00-" T "-" S "-01"), "none defer" },
	{ "version 00 with a dot behind", LINE("00-" T "-" S "-01."), "none defer" },
	{ "version 00 with a dash behind", LINE("00-" T "-" S "-01-"), "none defer" },
	{ "version 00 with more", LINE("00-" T "-" S "-01-what-the-future-will-be-like"),
	  "none defer" },
	{ "version 01", LINE("01-" T "-" S "-01"), CAME },
	{ "version cc", LINE("cc-" T "-" S "-01"), CAME },
	{ "version cc with more", LINE("cc-" T "-" S "-01-what-the-future-will-be-like"), CAME },
	{ "version cc with a dash behind", LINE("cc-" T "-" S "-01-"), CAME },
	{ "version cc with a dot and more", LINE("cc-" T "-" S "-01.what-the-future-will-be-like"),
	  "none defer" },
	{ "version cc with a third digit of flags", LINE("cc-" T "-" S "-011"), "none defer" },
	{ "version cc with unknown flags", LINE("cc-" T "-" S "-fd-x"), CAME },
	{ "version cc cut short", LINE("cc-" T "-" S "-0"), "none defer" },
	{ "version fe", LINE("fe-" T "-" S "-01"), CAME },
	{ "version ff", LINE("ff-" T "-" S "-01"), "none defer" },
	{ "version FF", LINE("FF-" T "-" S "-01"), "none defer" },
	{ "version CC", LINE("CC-" T "-" S "-01"), "none defer" },
	{ "version .0", LINE(".0-" T "-" S "-01"), "none defer" },
	{ "version 0.", LINE("0.-" T "-" S "-01"), "none defer" },
	{ "version 000", LINE("000-" T "-" S "-01"), "none defer" },
	{ "version 0000", LINE("0000-" T "-" S "-01"), "none defer" },
	{ "version 0", LINE("0-" T "-" S "-01"), "none defer" },
	{ "no version", LINE("-" T "-" S "-01"), "none defer" },
	{ "trace id of zeros", LINE("00-" TIMES("0", 32) "-" S "-01"), "none defer" },
	{ "trace id in capitals", LINE("00-0AF7651916CD43DD8448EB211C80319C-" S "-01"),
	  "none defer" },
	{ "trace id begins with a dot", LINE("00-.2345678901234567890123456789012-" S "-01"),
	  "none defer" },
	{ "trace id ends with a dot", LINE("00-1234567890123456789012345678901.-" S "-01"),
	  "none defer" },
	{ "trace id of 33", LINE("00-123456789012345678901234567890123-" S "-01"), "none defer" },
	{ "trace id of 31", LINE("00-1234567890123456789012345678901-" S "-01"), "none defer" },
	{ "trace id with its first bit only", LINE("00-8" TIMES("0", 31) "-" S "-01"),
	  "8" TIMES("0", 31) "-" S " sampled accept span" },
	{ "trace id with its last bit only", LINE("00-" TIMES("0", 31) "1-" S "-01"),
	  TIMES("0", 31) "1-" S " sampled accept span" },
	{ "parent id of zeros", LINE("00-" T "-0000000000000000-01"), "none defer" },
	{ "parent id in capitals", LINE("00-" T "-B7AD6B7169203331-01"), "none defer" },
	{ "parent id begins with a dot", LINE("00-" T "-.234567890123456-01"), "none defer" },
	{ "parent id ends with a dot", LINE("00-" T "-123456789012345.-01"), "none defer" },
	{ "parent id of 17", LINE("00-" T "-12345678901234567-01"), "none defer" },
	{ "parent id of 15", LINE("00-" T "-123456789012345-01"), "none defer" },
	{ "parent id with its last bit only", LINE("00-" T "-0000000000000001-01"),
	  T "-0000000000000001 sampled accept span" },
	{ "flags .0", LINE("00-" T "-" S "-.0"), "none defer" },
	{ "flags 0.", LINE("00-" T "-" S "-0."), "none defer" },
	{ "flags in capitals", LINE("00-" T "-" S "-0A"), "none defer" },
	{ "flags 001", LINE("00-" T "-" S "-001"), "none defer" },
	{ "flags 1", LINE("00-" T "-" S "-1"), "none defer" },
	{ "no flags", LINE("00-" T "-" S "-"), "none defer" },
	{ "no dash before the flags", LINE("00-" T "-" S "_01"), "none defer" },
	{ "no dash before the trace id", LINE("00+" T "-" S "-01"), "none defer" },
	{ "no dash before the parent id", LINE("00-" T "+" S "-01"), "none defer" },
	{ "bytes above ASCII", LINE("00-" T "-\xb7\xad\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"
				    "\x80\x80\x80-01"), "none defer" },
	{ "a value of 20000 bytes", LINE("cc-" T "-" S "-01-" TIMES("x", 20000)), CAME },
};

static void traceparents_are_read_by_the_letter(void **state)
{
	(void) state;
	TRY(W3C, traceparents);
}

static void one_value_is_read_alone_or_leaves_its_context_untouched(void **state)
{
	struct context c;

	(void) state;
	memset(&c, 0xa5, sizeof(c));
	const struct context before = c;
	for (size_t length = 0; length < 55; length++) {
		const char *at = edge_slot(0, "00-" T "-" S "-01", length);
		const struct propagate_value value = { at, length };

		assert_false(propagate_parse_traceparent(value, &c));
		assert_memory_equal(&c, &before, sizeof(c));
	}
	assert_false(propagate_parse_traceparent((struct propagate_value) { NULL, 0 }, &c));
	assert_memory_equal(&c, &before, sizeof(c));
}

/* ---- W3C Trace Context: tracestate ---- */

#define STATE(value) "tracestate: " value "\n"
#define PRINTABLE \
	" !\"#$%&'()*+-./0123456789:;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`" \
	"abcdefghijklmnopqrstuvwxyz{|}~"
#define KEYS  "abcdefghijklmnopqrstuvwxyz0123456789_-*/@"
#define TEN(d) \
	"a" d "0=1,a" d "1=1,a" d "2=1,a" d "3=1,a" d "4=1," \
	"a" d "5=1,a" d "6=1,a" d "7=1,a" d "8=1,a" d "9=1"
#define THIRTY TEN("0") "," TEN("1") "," TEN("2")

static const struct row tracestates[] = {
	{ "state without a parent", STATE("foo=1"), "none defer" },
	{ "state with a bad parent", LINE("00-" T "-" S "-1") STATE("foo=1"), "none defer" },
	{ "state with two parents", PARENT PARENT STATE("foo=1"), "none defer" },
	{ "one member", PARENT STATE("foo=1"), CAME " state[foo=1]" },
	{ "two members", PARENT STATE("foo=1,bar=2"), CAME " state[foo=1,bar=2]" },
	{ "empty", PARENT STATE(""), CAME },
	{ "blanks alone", PARENT STATE(" \t "), CAME },
	{ "commas alone", PARENT STATE(",, ,\t,"), CAME },
	{ "two lines", PARENT STATE("foo=1") STATE("bar=2"), CAME " state[foo=1,bar=2]" },
	{ "two lines, the first empty", PARENT STATE("") STATE("foo=1"), CAME " state[foo=1]" },
	{ "three lines, the last with two", PARENT STATE("foo=1,") STATE(" ") STATE(",a=1, b=2"),
	  CAME " state[foo=1,a=1,b=2]" },
	{ "empty members", PARENT STATE(",foo=1,,,bar=2,"), CAME " state[foo=1,bar=2]" },
	{ "blanks around members", PARENT STATE("foo=1 \t , \t bar=2, \t baz=3"),
	  CAME " state[foo=1,bar=2,baz=3]" },
	{ "blanks before all", PARENT STATE("\t foo=1 \t"), CAME " state[foo=1]" },
	{ "a value keeps the blanks before it", PARENT STATE("foo=  1 ,bar=2"),
	  CAME " state[foo=  1,bar=2]" },
	{ "a value with a blank inside", PARENT STATE("foo=1 2"), CAME " state[foo=1 2]" },
	{ "a value of blanks alone", PARENT STATE("foo=  ,bar=2"), CAME },
	{ "a value with a tab inside", PARENT STATE("foo=1\t2"), CAME },
	{ "the same key twice", PARENT STATE("foo=1,foo=2"), CAME " state[foo=1,foo=2]" },
	{ "every character of a key", PARENT STATE(KEYS "=1"), CAME " state[" KEYS "=1]" },
	{ "every character of a value", PARENT STATE("a=" PRINTABLE),
	  CAME " state[a=" PRINTABLE "]" },
	{ "a tenant", PARENT STATE("0t-en_a*n/t@fw=1"), CAME " state[0t-en_a*n/t@fw=1]" },
	{ "a key that ends with an at", PARENT STATE("foo@=1,bar=2"), CAME " state[foo@=1,bar=2]" },
	{ "a key with two ats", PARENT STATE("foo@@bar=1"), CAME " state[foo@@bar=1]" },
	{ "a key that begins with a digit", PARENT STATE("1a=1"), CAME " state[1a=1]" },
	{ "a key that begins with an at", PARENT STATE("@foo=1,bar=2"), CAME },
	{ "a key that begins with an underscore", PARENT STATE("_foo=1"), CAME },
	{ "a key that begins with a dash", PARENT STATE("-foo=1"), CAME },
	{ "a key with a blank behind", PARENT STATE("foo =1"), CAME },
	{ "a key in capitals", PARENT STATE("FOO=1"), CAME },
	{ "a key with a dot", PARENT STATE("foo.bar=1"), CAME },
	{ "a key of umlauts", PARENT STATE("f\xc3\xb6=1"), CAME },
	{ "no key", PARENT STATE("=1,bar=2"), CAME },
	{ "no value", PARENT STATE("foo=,bar=3"), CAME },
	{ "no equals sign", PARENT STATE("foo,bar=3"), CAME },
	{ "two equals signs", PARENT STATE("foo=bar=baz"), CAME },
	{ "two equals signs together", PARENT STATE("foo==1"), CAME },
	{ "a value of umlauts", PARENT STATE("foo=\xc3\xb6"), CAME },
	{ "a value with DEL", PARENT STATE("foo=1\x7f"), CAME },
	{ "a value with a carriage return", PARENT STATE("foo=1\rx"), CAME },
	{ "the last member is bad", PARENT STATE("foo=1,bar=2,baz"), CAME },
	{ "the second line is bad", PARENT STATE("foo=1") STATE("b r=2"), CAME },
	{ "a key of 256", PARENT STATE(TIMES("z", 256) "=1"),
	  CAME " state[" TIMES("z", 256) "=1]" },
	{ "a key of 257", PARENT STATE("foo=1," TIMES("z", 257) "=1"), CAME },
	{ "a tenant of 241 and a system of 14",
	  PARENT STATE(TIMES("t", 241) "@" TIMES("v", 14) "=1"),
	  CAME " state[" TIMES("t", 241) "@" TIMES("v", 14) "=1]" },
	{ "a tenant of 242", PARENT STATE(TIMES("t", 242) "@v=1"),
	  CAME " state[" TIMES("t", 242) "@v=1]" },
	{ "a value of 256", PARENT STATE("a=" TIMES("v", 256)),
	  CAME " state[a=" TIMES("v", 256) "]" },
	{ "a value of 257", PARENT STATE("a=" TIMES("v", 257) ",b=1"), CAME },
	{ "32 members", PARENT STATE(THIRTY ",y=1,z=1"), CAME " state[" THIRTY ",y=1,z=1]" },
	{ "33 members", PARENT STATE(THIRTY ",x=1,y=1,z=1"), CAME },
	{ "33 members in two lines", PARENT STATE(THIRTY) STATE("x=1,y=1,z=1"), CAME },
	{ "32 members and empty ones", PARENT STATE(",,," THIRTY ",,y=1,z=1,"),
	  CAME " state[" THIRTY ",y=1,z=1]" },
	{ "OpenTelemetry's own", PARENT STATE("ot=th:8;rv:0123456789abcd"),
	  CAME " state[ot=th:8;rv:0123456789abcd]" },
	{ "20000 commas", PARENT STATE("a=1" TIMES(",", 20000) "b=1"), CAME " state[a=1,b=1]" },
	{ "state with b3 alone", "b3: " T "-" S "-1\n" STATE("foo=1"), "none defer" },
};

static void of_a_tracestate_all_survives_or_nothing(void **state)
{
	(void) state;
	TRY(W3C, tracestates);
}

/* 32 members of the longest kind are 16447 bytes. */
static void a_tracestate_has_a_limit_of_its_own(void **state)
{
	static char value[20000], room[20000];
	struct propagate_value line = { value, 0 };

	(void) state;
	for (int i = 0; i < 32; i++) {
		value[line.len++] = ',';
		memset(value + line.len, 'k', 513);
		value[line.len + 256] = '=';
		line.len += 513;
	}
	struct text t = text_in(room, sizeof(room));
	assert_false(propagate_tracestate(&line, 1, &t));
	assert_int_equal(t.used, 0);
	line.len -= 514;
	assert_true(propagate_tracestate(&line, 1, &t));
	assert_int_equal(t.used, line.len - 1);
}

static void what_does_not_fit_is_not_begun(void **state)
{
	static const char list[] = "foo=1, bar=2,";
	const struct propagate_value lines[] = { { list, 13 }, { list, 13 } };
	char room[64];

	(void) state;
	for (size_t size = 3; size <= 30; size++) {
		struct text t = text_in(room, size);

		text_add(&t, "[]");
		assert_int_equal(propagate_tracestate(lines, 2, &t), size >= 26);
		assert_string_equal(room, size >= 26 ? "[]foo=1,bar=2,foo=1,bar=2" : "[]");
		assert_false(t.cut);

		t = text_in(room, size);
		text_add(&t, "[]");
		assert_int_equal(propagate_baggage(lines, 2, &t), size >= 30);
		assert_string_equal(room, size >= 30 ? "[]foo=1, bar=2,,foo=1, bar=2," : "[]");
		assert_false(t.cut);
	}
}

/* ---- W3C Baggage ---- */

#define BAG(value) "baggage: " value "\n"

static const struct row baggages[] = {
	{ "one", BAG("userId=alice"), "none defer baggage[userId=alice]" },
	{ "beside a context", PARENT BAG("a=1"), CAME " baggage[a=1]" },
	{ "beside a bad context", LINE("00") BAG("a=1"), "none defer baggage[a=1]" },
	{ "as it came", BAG("a = 1 ;prop , b=%20"), "none defer baggage[a = 1 ;prop , b=%20]" },
	{ "blanks around it", BAG(" \ta=1\t "), "none defer baggage[a=1]" },
	{ "two lines", BAG("a=1") BAG("b=2"), "none defer baggage[a=1,b=2]" },
	{ "three lines, one blank", BAG("a=1") BAG(" ") BAG("b=2"), "none defer baggage[a=1,b=2]" },
	{ "empty", BAG(""), "none defer" },
	{ "bytes above ASCII", BAG("a=\xc3\xb6"), "none defer baggage[a=\xc3\xb6]" },
	{ "a carriage return", BAG("a=1\rX: y"), "none defer" },
	{ "DEL", BAG("a=1\x7f"), "none defer" },
	{ "8192 bytes", BAG(TIMES("a", 8192)), "none defer baggage[" TIMES("a", 8192) "]" },
	{ "8193 bytes", BAG(TIMES("a", 8193)), "none defer" },
	{ "8192 bytes in two lines", BAG(TIMES("a", 4096)) BAG(TIMES("b", 4095)),
	  "none defer baggage[" TIMES("a", 4096) "," TIMES("b", 4095) "]" },
	{ "8193 bytes in two lines", BAG(TIMES("a", 4096)) BAG(TIMES("b", 4096)), "none defer" },
};

static void baggage_is_passed_on_as_it_came(void **state)
{
	(void) state;
	TRY(W3C, baggages);
}

/* ---- b3 ---- */

#define B3(value)      "b3: " value "\n"
#define B3_IDS         "x-b3-traceid: " T "\nx-b3-spanid: " S "\n"
#define B3_OTHER_IDS   "x-b3-traceid: 1234567890123456\nx-b3-spanid: 6543210987654321\n"
#define B3_OTHER       "00000000000000001234567890123456-6543210987654321"
#define PADDED         "0000000000000000" SHORT "-" S

static const struct row b3s[] = {
	{ "accepted", B3(T "-" S "-1"), CAME },
	{ "denied", B3(T "-" S "-0"), T "-" S " deny span" },
	{ "debug", B3(T "-" S "-d"), T "-" S " sampled debug accept span" },
	{ "left to us", B3(T "-" S), T "-" S " deferred defer span" },
	{ "with a parent", B3(T "-" S "-1-05e3ac9a4f6e3b90"), CAME },
	{ "denied with a parent", B3(T "-" S "-0-05e3ac9a4f6e3b90"), T "-" S " deny span" },
	{ "64 bits", B3(SHORT "-" S "-1"), PADDED " sampled short accept span" },
	{ "64 bits left to us", B3(SHORT "-" S), PADDED " short deferred defer span" },
	{ "64 bits with a parent", B3(SHORT "-" S "-d-05e3ac9a4f6e3b90"),
	  PADDED " sampled debug short accept span" },
	{ "128 bits, half of them zero", B3("0000000000000000" SHORT "-" S "-1"),
	  PADDED " sampled accept span" },
	{ "blanks around it", B3("  " T "-" S "-1\t"), CAME },
	{ "denied without ids", B3("0"), "none deny" },
	{ "accepted without ids", B3("1"), "none sampled accept" },
	{ "debug without ids", B3("d"), "none sampled debug accept" },
	{ "a dash", B3("-"), "none defer" },
	{ "empty", B3(""), "none defer" },
	{ "another letter", B3("x"), "none defer" },
	{ "true", B3("true"), "none defer" },
	{ "a trace id alone", B3(T), "none defer" },
	{ "a trace id and a dash", B3(T "-"), "none defer" },
	{ "ids and a dash", B3(T "-" S "-"), "none defer" },
	{ "an unknown state", B3(T "-" S "-2"), "none defer" },
	{ "a state of two", B3(T "-" S "-11"), "none defer" },
	{ "a state in capitals", B3(T "-" S "-D"), "none defer" },
	{ "a dash for a parent", B3(T "-" S "-1-"), "none defer" },
	{ "a parent cut short", B3(T "-" S "-1-05e3ac9a4f6e3b9"), "none defer" },
	{ "a parent too long", B3(T "-" S "-1-05e3ac9a4f6e3b901"), "none defer" },
	{ "a parent that is not hex", B3(T "-" S "-1-05e3ac9a4f6e3b9g"), "none defer" },
	{ "a parent without a state", B3(T "-" S "-05e3ac9a4f6e3b90"), "none defer" },
	{ "ids in capitals", B3("0AF7651916CD43DD8448EB211C80319C-" S "-1"), "none defer" },
	{ "a trace id of zeros", B3(TIMES("0", 32) "-" S "-1"), "none defer" },
	{ "a span id of zeros", B3(T "-0000000000000000-1"), "none defer" },
	{ "a trace id of 31", B3("0af7651916cd43dd8448eb211c80319-" S "-1"), "none defer" },
	{ "a trace id of 24", B3("16cd43dd8448eb211c80319c-" S "-1"), "none defer" },
	{ "a span id of 15", B3(T "-b7ad6b716920333-1"), "none defer" },
	{ "a span id of 17", B3(T "-b7ad6b71692033311-1"), "none defer" },
	{ "a second b3 line is not read", B3(T "-" S "-1") B3("0"), CAME },

	{ "multi: accepted", B3_IDS "x-b3-sampled: 1\n", CAME },
	{ "multi: denied", B3_IDS "x-b3-sampled: 0\n", T "-" S " deny span" },
	{ "multi: true", B3_IDS "x-b3-sampled: true\n", CAME },
	{ "multi: False", B3_IDS "x-b3-sampled: False\n", T "-" S " deny span" },
	{ "multi: debug", B3_IDS "x-b3-flags: 1\n", T "-" S " sampled debug accept span" },
	{ "multi: debug and denied", B3_IDS "x-b3-sampled: 0\nx-b3-flags: 1\n",
	  T "-" S " sampled debug accept span" },
	{ "multi: no debug", B3_IDS "x-b3-sampled: 1\nx-b3-flags: 0\n", CAME },
	{ "multi: no debug alone", B3_IDS "x-b3-flags: 0\n", T "-" S " deferred defer span" },
	{ "multi: left to us", B3_IDS, T "-" S " deferred defer span" },
	{ "multi: an empty state", B3_IDS "x-b3-sampled: \n", T "-" S " deferred defer span" },
	{ "multi: an unknown state", B3_IDS "x-b3-sampled: d\n", "none defer" },
	{ "multi: 64 bits", B3_OTHER_IDS "x-b3-sampled: 1\n",
	  B3_OTHER " sampled short accept span" },
	{ "multi: denied without ids", "x-b3-sampled: 0\n", "none deny" },
	{ "multi: accepted without ids", "x-b3-sampled: 1\n", "none sampled accept" },
	{ "multi: debug without ids", "x-b3-flags: 1\n", "none sampled debug accept" },
	{ "multi: no span id", "x-b3-traceid: " T "\nx-b3-sampled: 0\n", "none defer" },
	{ "multi: no trace id", "x-b3-spanid: " S "\nx-b3-sampled: 1\n", "none defer" },
	{ "multi: a trace id of zeros", "x-b3-traceid: 0000000000000000\nx-b3-spanid: " S "\n",
	  "none defer" },
	{ "multi: the first value counts", "x-b3-sampled: 0\nx-b3-sampled: 1\n" B3_IDS,
	  T "-" S " deny span" },
	{ "multi: blanks around them", "x-b3-traceid:  " T "\t\nx-b3-spanid:  " S " \n"
	  "x-b3-sampled:  1 \n", CAME },

	{ "single before multi", B3(T "-" S "-1") B3_OTHER_IDS "x-b3-sampled: 0\n", CAME },
	{ "a single denial before multi", B3("0") B3_OTHER_IDS "x-b3-sampled: 1\n", "none deny" },
	{ "multi when single is bad", B3("-") B3_OTHER_IDS, B3_OTHER " short deferred defer span" },
	{ "multi when single is bad late", B3(T "-" S "-x") B3_OTHER_IDS "x-b3-sampled: 0\n",
	  B3_OTHER " short deny span" },
};

static void b3_is_read_single_or_multi(void **state)
{
	(void) state;
	TRY("b3", b3s);
	TRY("b3multi", b3s);
	TRY("b3multi,b3,tracecontext", b3s);
}

/* ---- jaeger ---- */

#define UBER(value) "uber-trace-id: " value "\n"

static const struct row jaegers[] = {
	{ "sampled", UBER(T ":" S ":0:1"), CAME },
	{ "not sampled", UBER(T ":" S ":0:0"), T "-" S " deny span" },
	{ "debug", UBER(T ":" S ":0:3"), T "-" S " sampled debug accept span" },
	{ "debug without sampled", UBER(T ":" S ":0:2"), T "-" S " deny span" },
	{ "firehose", UBER(T ":" S ":0:9"), CAME },
	{ "flags of two digits", UBER(T ":" S ":0:01"), CAME },
	{ "flags of three digits", UBER(T ":" S ":0:001"), "none defer" },
	{ "no flags", UBER(T ":" S ":0:"), "none defer" },
	{ "flags that are not hex", UBER(T ":" S ":0:x"), "none defer" },
	{ "a parent", UBER(T ":" S ":05e3ac9a4f6e3b90:1"), CAME },
	{ "no parent", UBER(T ":" S "::1"), CAME },
	{ "a parent that is not hex", UBER(T ":" S ":parent:1"), "none defer" },
	{ "64 bits", UBER(SHORT ":" S ":0:1"), PADDED " sampled short accept span" },
	{ "ids without leading zeros", UBER("1:2:0:1"),
	  "00000000000000000000000000000001-0000000000000002 sampled short accept span" },
	{ "a trace id of 17 digits", UBER("10000000000000001:2:0:0"),
	  "00000000000000010000000000000001-0000000000000002 deny span" },
	{ "colons as %3A", UBER(T "%3A" S "%3A0%3A1"), CAME },
	{ "colons as %3a and as they are", UBER(T "%3a" S ":0%3A3"),
	  T "-" S " sampled debug accept span" },
	{ "%3B", UBER(T "%3B" S ":0:1"), "none defer" },
	{ "it ends in %3", UBER(T ":" S ":0%3"), "none defer" },
	{ "it ends in %", UBER(T ":" S ":0:1%"), "none defer" },
	{ "a trace id of 33", UBER("1" T ":" S ":0:1"), "none defer" },
	{ "a span id of 17", UBER(T ":1" S ":0:1"), "none defer" },
	{ "a trace id of zero", UBER("0:" S ":0:1"), "none defer" },
	{ "a span id of zero", UBER(T ":0:0:1"), "none defer" },
	{ "no trace id", UBER(":" S ":0:1"), "none defer" },
	{ "three fields", UBER(T ":" S ":0"), "none defer" },
	{ "five fields", UBER(T ":" S ":0:1:1"), "none defer" },
	{ "empty", UBER(""), "none defer" },
	{ "colons alone", UBER(":::"), "none defer" },
	{ "blanks around it", UBER("\t" T ":" S ":0:1  "), CAME },
	{ "twice", UBER(T ":" S ":0:1") UBER(T ":" S ":0:1"), "none defer" },
};

static void jaeger_is_read_with_short_ids(void **state)
{
	(void) state;
	TRY("jaeger", jaegers);
}

/* ---- x-trace-id ---- */

#define X(value)  "x-trace-id: " value "\n"
#define OURS      T "-0000000000000000 "

static const struct row x_trace_ids[] = {
	{ "32 digits", X(T), OURS "deferred defer" },
	{ "32 digits in capitals", X("0AF7651916CD43DD8448EB211C80319C"), OURS "deferred defer" },
	{ "a UUID", X(UUID), OURS "uuid deferred defer" },
	{ "a UUID in capitals", X("0AF76519-16CD-43DD-8448-EB211C80319C"),
	  OURS "uuid deferred defer" },
	{ "blanks around it", X(" " UUID "\t"), OURS "uuid deferred defer" },
	{ "zeros", X(TIMES("0", 32)), "none defer foreign" },
	{ "a UUID of zeros", X("00000000-0000-0000-0000-000000000000"), "none defer foreign" },
	{ "a UUID in braces", X("{" UUID "}"), "none defer foreign" },
	{ "a UUID with a dash elsewhere", X("0af765191-6cd-43dd-8448-eb211c80319c"),
	  "none defer foreign" },
	{ "36 digits", X("0000" T), "none defer foreign" },
	{ "31 digits", X("af7651916cd43dd8448eb211c80319c"), "none defer foreign" },
	{ "a word", X("order-4711"), "none defer foreign" },
	{ "128 bytes", X(TIMES("x", 128)), "none defer foreign" },
	{ "129 bytes", X(TIMES("x", 129)), "none defer" },
	{ "a blank inside", X("order 4711"), "none defer" },
	{ "a control character", X("order\r4711"), "none defer" },
	{ "bytes above ASCII", X("\xc3\xb6"), "none defer" },
	{ "empty", X(""), "none defer" },
	{ "a standard context goes before", PARENT X("11111111111111111111111111111111"), CAME },
	{ "the same as a standard context's", PARENT X(T), CAME },
	{ "the same as a UUID", PARENT X(UUID), T "-" S " sampled uuid accept span" },
	{ "another UUID", PARENT X("1af76519-16cd-43dd-8448-eb211c80319c"), CAME },
	{ "foreign beside a standard context", PARENT X("order-4711"), CAME " foreign" },
	{ "instead of a bad context", LINE("00-" T "-" S "-1") X(UUID),
	  OURS "uuid deferred defer" },
	{ "instead of two contexts", PARENT PARENT X(T), OURS "deferred defer" },
	{ "no tracestate with it", X(T) STATE("foo=1"), OURS "deferred defer" },
	{ "baggage with it", X(T) BAG("a=1"), OURS "deferred defer baggage[a=1]" },
	{ "the first line counts", X("a") X(T), "none defer foreign" },
};

static void x_trace_id_stands_in_for_a_standard_context(void **state)
{
	(void) state;
	TRY(W3C, x_trace_ids);
	TRY("xtraceid,baggage,tracecontext", x_trace_ids);
}

/* ---- several formats ---- */

static const struct {
	const char *name, *list, *lines, *expected;
} mixtures[] = {
	{ "the list's first wins", "jaeger,tracecontext",
	  PARENT UBER("1234567890123456:6543210987654321:0:0"), B3_OTHER " short deny span" },
	{ "the list's first wins, too", "tracecontext,jaeger",
	  PARENT UBER("1234567890123456:6543210987654321:0:0"), CAME },
	{ "the first valid one", "tracecontext,jaeger,b3",
	  LINE("00") UBER("x") B3(T "-" S "-1"), CAME },
	{ "b3 when traceparent came twice", "tracecontext,b3",
	  PARENT PARENT B3(T "-" S "-1"), CAME },
	{ "no state from another's traceparent", "b3,tracecontext",
	  PARENT STATE("foo=1") B3(T "-" S "-1"), CAME },
	{ "ids go before a decision alone", "b3,tracecontext", PARENT B3("0"), CAME },
	{ "a decision goes with x-trace-id", "b3,xtraceid", B3("0") X(T), OURS "deny" },
	{ "debug goes with x-trace-id", "b3,xtraceid", B3("d") X(UUID),
	  OURS "sampled debug uuid accept" },
	{ "the first decision stands", "b3,jaeger", B3("0") UBER(""), "none deny" },
	{ "not in the list: traceparent", "b3", PARENT, "none defer" },
	{ "not in the list: tracestate", "b3,baggage", B3(T "-" S "-1") STATE("a=1"), CAME },
	{ "not in the list: baggage", "tracecontext", PARENT BAG("a=1"), CAME },
	{ "not in the list: b3", W3C, B3(T "-" S "-1") B3_IDS, "none defer" },
	{ "not in the list: jaeger", W3C, UBER(T ":" S ":0:1"), "none defer" },
	{ "not in the list: x-trace-id", "tracecontext,baggage", X(T), "none defer" },
	{ "not in the list: a foreign x-trace-id", "tracecontext", PARENT X("a"), CAME },
	{ "an empty list", "none", PARENT BAG("a=1") B3("0") X(T), "none defer" },
};

static void the_first_valid_context_in_the_order_of_the_list_wins(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(mixtures) / sizeof(mixtures[0]); i++) {
		const struct row row = {
			.name = mixtures[i].name,
			.lines = mixtures[i].lines,
			.expected = mixtures[i].expected,
		};

		try_rows(mixtures[i].list, &row, 1);
	}
}

/* ---- what goes out ---- */

static char sent[INPUT_SIZE];
static struct text sent_text;

static void take_field(void *arg, const char *name, const char *value, size_t len)
{
	assert_ptr_equal(arg, &sent_text);
	text_add(&sent_text, name);
	text_add(&sent_text, ": ");
	text_add_n(&sent_text, value, len);
	text_add(&sent_text, "\n");
}

static const char *inject(const char *list, const struct propagate_out *out)
{
	const struct propagators p = formats(list);

	sent_text = text_in(sent, sizeof(sent));
	errno = 77;
	propagate_inject(&p, out, take_field, &sent_text);
	assert_int_equal(errno, 77);
	assert_false(sent_text.cut);
	return sent;
}

static struct propagate_value value_of(unsigned slot, const char *text)
{
	const size_t n = text ? strlen(text) : 0;

	return (struct propagate_value) { text ? edge_slot(slot, text, n) : NULL, n };
}

static const struct {
	const char *name, *list;
	const char *context; /* a traceparent; NULL: none */
	unsigned flags;      /* beside traceparent's */
	const char *tracestate, *baggage, *foreign;
	const char *expected;
} injections[] = {
	{ "nothing", ALL, NULL, 0, NULL, NULL, NULL, "" },
	{ "sampled", "tracecontext", "00-" T "-" S "-01", 0, NULL, NULL, NULL, PARENT },
	{ "not sampled", "tracecontext", "00-" T "-" S "-00", 0, NULL, NULL, NULL,
	  LINE("00-" T "-" S "-00") },
	{ "random", "tracecontext", "00-" T "-" S "-03", 0, NULL, NULL, NULL,
	  LINE("00-" T "-" S "-03") },
	{ "a later version's becomes ours", "tracecontext", "cc-" T "-" S "-fd-more", 0,
	  NULL, NULL, NULL, PARENT },
	{ "our own flags stay ours", "tracecontext", "00-" T "-" S "-00",
	  CONTEXT_UUID | CONTEXT_SHORT | CONTEXT_DEFERRED, NULL, NULL, NULL,
	  LINE("00-" T "-" S "-00") },
	{ "debug is sampled", "tracecontext", "00-" T "-" S "-00", CONTEXT_DEBUG,
	  NULL, NULL, NULL, PARENT },
	{ "with a state", "tracecontext", "00-" T "-" S "-01", 0, "foo=1,bar=2", NULL, NULL,
	  PARENT STATE("foo=1,bar=2") },
	{ "no state without a parent", "tracecontext", NULL, 0, "foo=1", NULL, NULL, "" },
	{ "no state without its format", "b3", "00-" T "-" S "-01", 0, "foo=1", NULL, NULL,
	  B3(T "-" S "-1") },
	{ "baggage", "tracecontext,baggage", "00-" T "-" S "-01", 0, NULL, "a=1", NULL,
	  PARENT BAG("a=1") },
	{ "baggage without ids", "tracecontext,baggage", NULL, 0, NULL, "a=1", NULL, BAG("a=1") },
	{ "baggage not in the list", "tracecontext", "00-" T "-" S "-01", 0, NULL, "a=1", NULL,
	  PARENT },
	{ "b3", "b3", "00-" T "-" S "-01", 0, NULL, NULL, NULL, B3(T "-" S "-1") },
	{ "b3 denied", "b3", "00-" T "-" S "-00", 0, NULL, NULL, NULL, B3(T "-" S "-0") },
	{ "b3 debug", "b3", "00-" T "-" S "-01", CONTEXT_DEBUG, NULL, NULL, NULL,
	  B3(T "-" S "-d") },
	{ "b3 undecided is denied", "b3", "00-" T "-" S "-00", CONTEXT_DEFERRED, NULL, NULL, NULL,
	  B3(T "-" S "-0") },
	{ "b3 of 64 bits in full", "b3", "00-0000000000000000" SHORT "-" S "-01", CONTEXT_SHORT,
	  NULL, NULL, NULL, B3(PADDED "-1") },
	{ "b3multi", "b3multi", "00-" T "-" S "-01", 0, NULL, NULL, NULL,
	  B3_IDS "x-b3-sampled: 1\n" },
	{ "b3multi denied", "b3multi", "00-" T "-" S "-00", 0, NULL, NULL, NULL,
	  B3_IDS "x-b3-sampled: 0\n" },
	{ "b3multi debug", "b3multi", "00-" T "-" S "-01", CONTEXT_DEBUG, NULL, NULL, NULL,
	  B3_IDS "x-b3-flags: 1\n" },
	{ "jaeger", "jaeger", "00-" T "-" S "-01", 0, NULL, NULL, NULL, UBER(T ":" S ":0:1") },
	{ "jaeger denied", "jaeger", "00-" T "-" S "-02", 0, NULL, NULL, NULL,
	  UBER(T ":" S ":0:0") },
	{ "jaeger debug", "jaeger", "00-" T "-" S "-01", CONTEXT_DEBUG, NULL, NULL, NULL,
	  UBER(T ":" S ":0:3") },
	{ "jaeger of 64 bits in full", "jaeger", "00-0000000000000000" SHORT "-" S "-01",
	  CONTEXT_SHORT, NULL, NULL, NULL, UBER("0000000000000000" SHORT ":" S ":0:1") },
	{ "x-trace-id", "xtraceid", "00-" T "-" S "-01", 0, NULL, NULL, NULL, X(T) },
	{ "x-trace-id as a UUID", "xtraceid", "00-" T "-" S "-01", CONTEXT_UUID, NULL, NULL, NULL,
	  X(UUID) },
	{ "a foreign x-trace-id", W3C, "00-" T "-" S "-01", CONTEXT_UUID, NULL, NULL, "order-4711",
	  PARENT X("order-4711") },
	{ "a foreign x-trace-id without ids", W3C, NULL, 0, NULL, NULL, "order-4711",
	  X("order-4711") },
	{ "the order is the list's", "xtraceid,jaeger,b3multi,b3,baggage,tracecontext",
	  "00-" T "-" S "-01", 0, "foo=1", "a=1", NULL,
	  X(T) UBER(T ":" S ":0:1") B3_IDS "x-b3-sampled: 1\n" B3(T "-" S "-1") BAG("a=1") PARENT
	  STATE("foo=1") },
	{ "none", "none", "00-" T "-" S "-01", 0, "foo=1", "a=1", "order-4711", "" },
};

static void fields_go_out_in_the_order_of_the_list(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(injections) / sizeof(injections[0]); i++) {
		struct propagate_out out = {
			.tracestate = value_of(0, injections[i].tracestate),
			.baggage = value_of(1, injections[i].baggage),
			.foreign = value_of(2, injections[i].foreign),
		};

		print_message("# %s\n", injections[i].name);
		if (injections[i].context)
			assert_true(propagate_parse_traceparent(value_of(3, injections[i].context),
								&out.context));
		out.context.flags |= (uint16_t) injections[i].flags;
		assert_string_equal(inject(injections[i].list, &out), injections[i].expected);
	}
}

/* x-trace-id brings a trace, but no span: until there is one, it is all that can be told. */
static void a_trace_without_a_span_leaves_as_x_trace_id_alone(void **state)
{
	struct propagate_found f = extract(ALL, X(UUID));
	const struct propagate_out out = { .context = f.context };

	(void) state;
	assert_string_equal(inject(ALL, &out), X(UUID));
}

static void every_format_reads_back_what_it_wrote(void **state)
{
	static const char *const contexts[] = {
		"00-" T "-" S "-00", "00-" T "-" S "-01",
		"00-00000000000000000000000000000001-0000000000000001-01",
		"00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-00",
	};
	static const char *const lists[] = { "tracecontext", "b3", "b3multi", "jaeger", ALL };

	(void) state;
	for (size_t i = 0; i < sizeof(contexts) / sizeof(contexts[0]); i++) {
		for (size_t j = 0; j < sizeof(lists) / sizeof(lists[0]); j++) {
			struct propagate_out out = { .baggage = { NULL, 0 } };

			assert_true(propagate_parse_traceparent(value_of(0, contexts[i]),
								&out.context));
			for (int debug = 0; debug < 2 && j > 0 && j < 4; debug++) {
				if (debug)
					out.context.flags |= CONTEXT_SAMPLED | CONTEXT_DEBUG;
				const struct propagate_found f =
					extract(lists[j], inject(lists[j], &out));

				assert_memory_equal(&f.context, &out.context, sizeof(f.context));
				assert_true(f.remote_span);
				assert_int_equal(f.decision, out.context.flags & CONTEXT_SAMPLED
							     ? PROPAGATE_ACCEPT : PROPAGATE_DENY);
			}
		}
	}
}

static void the_lines_of_all_formats_fit_the_room_for_them(void **state)
{
	struct propagate_out out = { .baggage = { NULL, 0 } };

	(void) state;
	assert_true(propagate_parse_traceparent(value_of(0, "00-" T "-" S "-03"), &out.context));
	out.context.flags |= CONTEXT_UUID;

	size_t size = 0;
	for (const char *at = inject(ALL, &out); *at; at++)
		size += *at == '\n' ? 2 : 1; /* in HTTP/1 a line ends with CRLF */
	print_message("# %zu bytes\n", size);
	assert_true(size <= PROPAGATE_LINES_SIZE);
}

static void a_traceparent_is_written_with_its_nul(void **state)
{
	char room[CONTEXT_TRACEPARENT_SIZE + 1];
	struct context c;

	(void) state;
	memset(room, 'x', sizeof(room));
	assert_true(propagate_parse_traceparent(value_of(0, "cc-" T "-" S "-ff"), &c));
	propagate_traceparent(&c, room);
	assert_string_equal(room, "00-" T "-" S "-03");
	assert_int_equal(room[CONTEXT_TRACEPARENT_SIZE], 'x');
}

/* ---- OTEL_PROPAGATORS ---- */

static const struct {
	const char *name, *value, *list, *problem;
} lists[] = {
	{ "the default, spelt out", "tracecontext,baggage,xtraceid", W3C, "" },
	{ "one", "b3", "b3", "" },
	{ "all", ALL, ALL, "" },
	{ "blanks and empty names", " b3 ,,\tjaeger , ", "b3,jaeger", "" },
	{ "repeats", "b3,tracecontext,b3,b3", "b3,tracecontext", "" },
	{ "any case", "TraceContext,B3Multi", "tracecontext,b3multi", "" },
	{ "none", "none", "", "" },
	{ "None with blanks", " None ", "", "" },
	{ "none is no name beside others", "b3,none", "b3", "found \"none\"" },
	{ "empty", "", W3C, "" },
	{ "commas alone", " , ", W3C, "" },
	{ "unknown", "xray", "", "found \"xray\"" },
	{ "unknown among others", "xray,b3,ottrace", "b3", "found \"xray\", \"ottrace\"" },
	{ "the beginning of a name", "b", "", "found \"b\"" },
	{ "a name and more", "b3multix", "", "found \"b3multix\"" },
	{ "a long one is cut", "1234567890123456789012345678901", "",
	  "found \"123456789012345678901234567890...\"" },
	{ "a control character", "b\x1b[3", "", "found \"b?[3\"" },
};

static const char *names_of(const struct propagators *p)
{
	static const char *const names[PROPAGATORS] = {
		[PROPAGATE_TRACECONTEXT] = "tracecontext", [PROPAGATE_BAGGAGE] = "baggage",
		[PROPAGATE_XTRACEID] = "xtraceid",	   [PROPAGATE_B3] = "b3",
		[PROPAGATE_B3MULTI] = "b3multi",	   [PROPAGATE_JAEGER] = "jaeger",
	};
	static char room[128];
	struct text t = text_in(room, sizeof(room));

	assert_true(p->n <= PROPAGATORS);
	for (size_t i = 0; i < p->n; i++) {
		text_add(&t, i > 0 ? "," : "");
		text_add(&t, names[p->list[i]]);
	}
	return room;
}

static void the_list_of_formats_is_what_the_variable_names(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct propagators p;
		char room[128];
		struct text problem = text_in(room, sizeof(room));

		print_message("# %s\n", lists[i].name);
		memset(&p, 0xa5, sizeof(p));
		assert_int_equal(propagators_from(edge_text(lists[i].value), &p, &problem),
				 lists[i].problem[0] == '\0');
		assert_string_equal(names_of(&p), lists[i].list);
		assert_string_equal(room, lists[i].problem);
		assert_int_equal(propagators_from(lists[i].value, &p, NULL),
				 lists[i].problem[0] == '\0');
	}
	const struct propagators p = propagators_default();
	assert_string_equal(names_of(&p), W3C);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(traceparents_are_read_by_the_letter),
		cmocka_unit_test(one_value_is_read_alone_or_leaves_its_context_untouched),
		cmocka_unit_test(of_a_tracestate_all_survives_or_nothing),
		cmocka_unit_test(a_tracestate_has_a_limit_of_its_own),
		cmocka_unit_test(what_does_not_fit_is_not_begun),
		cmocka_unit_test(baggage_is_passed_on_as_it_came),
		cmocka_unit_test(b3_is_read_single_or_multi),
		cmocka_unit_test(jaeger_is_read_with_short_ids),
		cmocka_unit_test(x_trace_id_stands_in_for_a_standard_context),
		cmocka_unit_test(the_first_valid_context_in_the_order_of_the_list_wins),
		cmocka_unit_test(fields_go_out_in_the_order_of_the_list),
		cmocka_unit_test(a_trace_without_a_span_leaves_as_x_trace_id_alone),
		cmocka_unit_test(every_format_reads_back_what_it_wrote),
		cmocka_unit_test(the_lines_of_all_formats_fit_the_room_for_them),
		cmocka_unit_test(a_traceparent_is_written_with_its_nul),
		cmocka_unit_test(the_list_of_formats_is_what_the_variable_names),
	};

	return cmocka_run_group_tests_name("propagate", tests, NULL, NULL);
}
