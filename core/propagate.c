/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts as text. One row of `formats` is one name of OTEL_PROPAGATORS; reading and writing
 * of a format stand together. Values are walked in place, whatever they hold and however long
 * they are; nothing is read behind their length.
 *
 * What is taken in is strict where a specification is (a traceparent in capitals is none), and
 * what goes out is always the form that every reader accepts: ids in full, in lower case.
 */
#include "core/propagate.h"

#include <endian.h>
#include <string.h>

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define TRACE_DIGITS 32
#define SPAN_DIGITS  16
#define UUID_LENGTH  36 /* 8-4-4-4-12 */
#define VALUE_SIZE   64 /* of what we write of ids, and a NUL: 55 bytes at most */
#define FOUND_MAX    30 /* bytes shown of an unknown name */

#define TRACEPARENT_LENGTH    (CONTEXT_TRACEPARENT_SIZE - 1)
#define TRACESTATE_MEMBERS    32  /* W3C Trace Context 3.3.1.1 */
#define TRACESTATE_KEY_MAX    256 /* ... 3.3.1.3.1 */
#define TRACESTATE_VALUE_MAX  256 /* ... 3.3.1.3.2 */

/* Where injected fields go to. */
struct sink {
	void (*field)(void *arg, const char *name, const char *value, size_t len);
	void *arg;
};

/* ---- values ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct propagate_value trimmed(struct propagate_value v)
{
	while (v.len > 0 && blank(v.at[0])) {
		v.at++;
		v.len--;
	}
	while (v.len > 0 && blank(v.at[v.len - 1]))
		v.len--;
	return v;
}

/* @len bytes of @v from @from on; the caller knows that they are there. */
static struct propagate_value part(struct propagate_value v, size_t from, size_t len)
{
	return (struct propagate_value) { v.at + from, len };
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* @word is in lower case. */
static bool is_in_any_case(struct propagate_value v, const char *word)
{
	if (v.len != strlen(word))
		return false;
	for (size_t i = 0; i < v.len; i++) {
		if (lower(v.at[i]) != word[i])
			return false;
	}
	return true;
}

/* Takes what precedes the next @separator off the front of @v, without blanks around it. */
static struct propagate_value take_entry(struct propagate_value *v, char separator)
{
	const char *at = v->len > 0 ? memchr(v->at, separator, v->len) : NULL;
	const struct propagate_value entry = { v->at, at ? (size_t) (at - v->at) : v->len };

	if (v->len > 0) /* NULL may be all there is of an empty value */
		v->at += at ? entry.len + 1 : entry.len;
	v->len -= at ? entry.len + 1 : entry.len;
	return trimmed(entry);
}

/* ---- ids ---- */

/* The value of a lower-case hex digit and 1, 0 of anything else. */
static const uint8_t digits_and_1[256] = {
	['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8,
	['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15,
	['f'] = 16,
};

/* 16 or more when it is none. */
static unsigned digit(char c)
{
	return digits_and_1[(unsigned char) c] - 1u;
}

#define ONES (UINT64_MAX / 0xff) /* 1 in each byte */

/*
 * The four bytes that eight digits are. Of the sum of a byte below 0x80 and 0x80 - c the high
 * bit tells whether it is c or more. Returns high bits, of the bytes that are no digits.
 */
static uint64_t read_eight_digits(const char *at, uint8_t *ret)
{
	uint64_t w;

	memcpy(&w, at, sizeof(w));
	w = le64toh(w); /* the first one lowest */

	const uint64_t ascii = w & ONES * 0x7f, high = ONES * 0x80;
	const uint64_t number = (ascii + ONES * (0x80 - '0')) & ~(ascii + ONES * (0x7f - '9'));
	const uint64_t letter =
		(ascii + ONES * (0x80 - 'a')) & ~(ascii + ONES * (0x7f - 'f')) & high;
	uint64_t v = (w & ONES * 0x0f) + (letter >> 7) * 9;

	v = (v << 4 | v >> 8) & UINT64_C(0x00ff00ff00ff00ff);
	v = (v | v >> 8) & UINT64_C(0x0000ffff0000ffff);

	const uint32_t four = htole32((uint32_t) (v | v >> 16));

	memcpy(ret, &four, sizeof(four));
	return (~(number | letter) | w) & high;
}

/* The eight digits of four bytes. */
static void write_eight_digits(const uint8_t *bytes, char *ret)
{
	uint32_t four;

	memcpy(&four, bytes, sizeof(four));

	uint64_t v = le32toh(four);

	v = (v | v << 16) & UINT64_C(0x0000ffff0000ffff);
	v = (v | v << 8) & UINT64_C(0x00ff00ff00ff00ff);
	v = (v >> 4 | v << 8) & ONES * 0x0f; /* the upper half of a byte is written first */

	const uint64_t letter = (v + ONES * 6) >> 4 & ONES;
	const uint64_t digits = htole64(v + ONES * '0' + letter * ('a' - '9' - 1));

	memcpy(ret, &digits, sizeof(digits));
}

/* Twice @bytes digits, without a branch on any of them. */
static bool read_all_hex(const char *at, uint8_t *ret, unsigned bytes)
{
	unsigned seen = 0, i = 0;
	uint64_t wrong = 0;

	for (; i + 4 <= bytes; i += 4)
		wrong |= read_eight_digits(at + 2 * i, ret + i);
	for (; i < bytes; i++) {
		const unsigned high = digit(at[2 * i]), low = digit(at[2 * i + 1]);

		seen |= high | low;
		ret[i] = (uint8_t) (high << 4 | low);
	}
	return seen <= 15 && wrong == 0;
}

/* Reads one to twice @bytes lower-case digits, right-aligned; false when it is not these alone. */
static bool read_hex(struct propagate_value v, uint8_t *ret, unsigned bytes)
{
	const size_t before = (size_t) 2 * bytes - v.len;

	if (v.len == 0 || v.len > 2 * bytes)
		return false;
	if (before == 0)
		return read_all_hex(v.at, ret, bytes);
	memset(ret, 0, bytes);
	for (size_t i = 0; i < v.len; i++) {
		const unsigned value = digit(v.at[i]);

		if (value > 15)
			return false;
		ret[(before + i) / 2] |= (uint8_t) (value << ((before + i) % 2 ? 0 : 4));
	}
	return true;
}

static bool span_some(const struct context *c)
{
	uint64_t id;

	memcpy(&id, c->span_id, sizeof(id));
	return id != 0;
}

/* Both ids of a context; false when they are not hex or nothing but zeros. */
static bool read_ids(struct propagate_value trace, struct propagate_value span,
		     struct context *ret)
{
	return read_hex(trace, ret->trace_id, sizeof(ret->trace_id))
	       && read_hex(span, ret->span_id, sizeof(ret->span_id))
	       && context_some(ret) && span_some(ret);
}

/* The digits of an id of at most 16 bytes, at once: every call that goes out has some hundred. */
static void add_id(struct text *t, const uint8_t *id, unsigned bytes)
{
	static const char digits[] = "0123456789abcdef";
	char hex[TRACE_DIGITS];
	unsigned i = 0;

	for (; i + 4 <= bytes; i += 4)
		write_eight_digits(id + i, hex + 2 * i);
	for (; i < bytes; i++) {
		hex[2 * i] = digits[id[i] >> 4];
		hex[2 * i + 1] = digits[id[i] & 15];
	}
	text_add_n(t, hex, (size_t) 2 * bytes);
}

/* "TRACE@separatorSPAN", in full */
static void add_ids(struct text *t, const struct context *c, const char *separator)
{
	add_id(t, c->trace_id, sizeof(c->trace_id));
	text_add(t, separator);
	add_id(t, c->span_id, sizeof(c->span_id));
}

static bool sampled(const struct context *c)
{
	return c->flags & (CONTEXT_SAMPLED | CONTEXT_DEBUG); /* debug implies it */
}

static bool complete(const struct context *c)
{
	return context_some(c) && span_some(c);
}

static void send_text(const struct sink *to, const char *name, const struct text *t)
{
	to->field(to->arg, name, t->at, t->used);
}

/* ---- tracestate and baggage ---- */

static bool letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/*
 * "key=value" by level 2, which lets a key hold any number of '@' but begin with none. No comma
 * and no blank at the end is left in @member.
 */
static bool good_member(struct propagate_value member)
{
	const char *equals = memchr(member.at, '=', member.len);
	const size_t key = equals ? (size_t) (equals - member.at) : 0;
	const size_t value = equals ? member.len - key - 1 : 0;

	if (key == 0 || key > TRACESTATE_KEY_MAX || !letter_or_digit(member.at[0])
	    || value == 0 || value > TRACESTATE_VALUE_MAX)
		return false;
	for (size_t i = 1; i < key; i++) {
		const char c = member.at[i];

		if (!letter_or_digit(c) && c != '_' && c != '-' && c != '*' && c != '/' && c != '@')
			return false;
	}
	for (size_t i = key + 1; i < member.len; i++) {
		if (member.at[i] < ' ' || member.at[i] > '~' || member.at[i] == '=')
			return false;
	}
	return true;
}

/* Walks the members of several lines as if they were one; empty ones are passed over. */
struct members {
	const struct propagate_value *lines;
	unsigned n;
	struct propagate_value rest; /* of the line before @lines */
};

static bool next_member(struct members *m, struct propagate_value *ret)
{
	do {
		while (m->rest.len == 0) {
			if (m->n == 0)
				return false;
			m->rest = *m->lines++;
			m->n--;
		}
		*ret = take_entry(&m->rest, ',');
	} while (ret->len == 0);
	return true;
}

/* The length of what propagate_tracestate() would write; 0: nothing. */
static size_t tracestate_length(const struct propagate_value *lines, unsigned n)
{
	struct members members = { .lines = lines, .n = n };
	struct propagate_value member;
	size_t length = 0;

	for (unsigned i = 0; next_member(&members, &member); i++) {
		length += (i > 0) + member.len;
		if (i == TRACESTATE_MEMBERS || !good_member(member)
		    || length > PROPAGATE_TRACESTATE_MAX)
			return 0;
	}
	return length;
}

static bool fits(const struct text *t, size_t length)
{
	return length < t->size - t->used;
}

static void add_member(struct text *t, size_t begin, struct propagate_value member)
{
	if (t->used > begin)
		text_add(t, ",");
	text_add_n(t, member.at, member.len);
}

bool propagate_tracestate(const struct propagate_value *lines, unsigned n, struct text *out)
{
	const size_t length = tracestate_length(lines, n), begin = out->used;
	struct members members = { .lines = lines, .n = n };
	struct propagate_value member;

	if (length == 0 || !fits(out, length))
		return false;
	while (next_member(&members, &member))
		add_member(out, begin, member);
	return true;
}

/* Whatever else it means, it stays one field's value: no control characters. */
static bool good_baggage(struct propagate_value line)
{
	for (size_t i = 0; i < line.len; i++) {
		const unsigned char c = (unsigned char) line.at[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* The length of what propagate_baggage() would write; 0: nothing. */
static size_t baggage_length(const struct propagate_value *lines, unsigned n)
{
	size_t length = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct propagate_value line = trimmed(lines[i]);

		if (line.len == 0)
			continue;
		length += (length > 0) + line.len;
		if (length > PROPAGATE_BAGGAGE_MAX || !good_baggage(line))
			return 0;
	}
	return length;
}

bool propagate_baggage(const struct propagate_value *lines, unsigned n, struct text *out)
{
	const size_t length = baggage_length(lines, n), begin = out->used;

	if (length == 0 || !fits(out, length))
		return false;
	for (unsigned i = 0; i < n; i++) {
		const struct propagate_value line = trimmed(lines[i]);

		if (line.len > 0)
			add_member(out, begin, line);
	}
	return true;
}

static void write_baggage(const struct propagate_out *out, const struct sink *to)
{
	if (out->baggage.len > 0)
		to->field(to->arg, "baggage", out->baggage.at, out->baggage.len);
}

/* ---- traceparent ---- */

bool propagate_parse_traceparent(struct propagate_value value, struct context *ret)
{
	const struct propagate_value v = trimmed(value);
	struct context c = { .flags = 0 };
	uint8_t version, flags;

	if (v.len < TRACEPARENT_LENGTH || v.at[2] != '-' || v.at[35] != '-' || v.at[52] != '-')
		return false;
	if (!read_hex(part(v, 0, 2), &version, 1) || version == 0xff
	    || !read_ids(part(v, 3, TRACE_DIGITS), part(v, 36, SPAN_DIGITS), &c)
	    || !read_hex(part(v, 53, 2), &flags, 1))
		return false;
	/* Versions to come may say more, after another dash; of them we read what we know. */
	if (v.len > TRACEPARENT_LENGTH && (version == 0 || v.at[TRACEPARENT_LENGTH] != '-'))
		return false;
	c.flags = flags & (CONTEXT_SAMPLED | CONTEXT_RANDOM);
	*ret = c;
	return true;
}

void propagate_traceparent(const struct context *c, char ret[CONTEXT_TRACEPARENT_SIZE])
{
	struct text t = text_in(ret, CONTEXT_TRACEPARENT_SIZE);

	text_add(&t, "00-");
	add_ids(&t, c, "-");
	text_add(&t, "-");
	text_add_hex(&t, (c->flags & CONTEXT_RANDOM) | (sampled(c) ? CONTEXT_SAMPLED : 0u), 2);
}

/* More than one line, even of one value, starts the trace anew. */
static bool read_tracecontext(const struct propagate_in *in, struct propagate_found *ret)
{
	if (in->n_traceparent != 1 || !propagate_parse_traceparent(in->traceparent, &ret->context))
		return false;
	ret->remote_span = true;
	ret->decision = ret->context.flags & CONTEXT_SAMPLED ? PROPAGATE_ACCEPT : PROPAGATE_DENY;
	ret->tracestate = tracestate_length(in->tracestate, in->n_tracestate) > 0;
	return true;
}

static void write_tracecontext(const struct propagate_out *out, const struct sink *to)
{
	char value[CONTEXT_TRACEPARENT_SIZE];

	if (!complete(&out->context))
		return;
	propagate_traceparent(&out->context, value);
	to->field(to->arg, "traceparent", value, sizeof(value) - 1);
	if (out->tracestate.len > 0)
		to->field(to->arg, "tracestate", out->tracestate.at, out->tracestate.len);
}

/* ---- b3 ---- */

/* The caller sampled ('1'), did not ('0'), or wants all to be seen ('d'). */
static bool decide(struct propagate_found *f, char state)
{
	f->decision = state == '0' ? PROPAGATE_DENY : PROPAGATE_ACCEPT;
	if (state != '0')
		f->context.flags |= CONTEXT_SAMPLED;
	if (state == 'd')
		f->context.flags |= CONTEXT_DEBUG;
	return state == '0' || state == '1' || state == 'd';
}

/* A trace id of 16 or 32 digits and a span id of 16. */
static bool read_b3_ids(struct propagate_value trace, struct propagate_value span,
			struct propagate_found *f)
{
	if ((trace.len != TRACE_DIGITS && trace.len != TRACE_DIGITS / 2)
	    || span.len != SPAN_DIGITS || !read_ids(trace, span, &f->context))
		return false;
	if (trace.len != TRACE_DIGITS)
		f->context.flags |= CONTEXT_SHORT;
	f->remote_span = true;
	return true;
}

/* TRACE-SPAN[-STATE[-PARENT]], or a state alone */
static bool read_b3_single(struct propagate_value value, struct propagate_found *ret)
{
	const struct propagate_value v = trimmed(value);
	const size_t trace = v.len > TRACE_DIGITS && v.at[TRACE_DIGITS] == '-' ? TRACE_DIGITS
									       : TRACE_DIGITS / 2;
	const size_t ids = trace + 1 + SPAN_DIGITS;
	uint8_t parent[SPAN_DIGITS / 2];

	if (v.len == 1)
		return decide(ret, v.at[0]);
	if (v.len < ids || v.at[trace] != '-'
	    || !read_b3_ids(part(v, 0, trace), part(v, trace + 1, SPAN_DIGITS), ret))
		return false;
	if (v.len == ids) {
		ret->context.flags |= CONTEXT_DEFERRED;
		return true;
	}
	if (v.len < ids + 2 || v.at[ids] != '-' || !decide(ret, v.at[ids + 1]))
		return false;
	if (v.len == ids + 2)
		return true;
	return v.len == ids + 3 + SPAN_DIGITS && v.at[ids + 2] == '-'
	       && read_hex(part(v, ids + 3, SPAN_DIGITS), parent, sizeof(parent));
}

/* X-B3-Sampled may say true and false: older tracers did. */
static bool read_b3_state(const struct propagate_in *in, struct propagate_found *ret)
{
	const struct propagate_value state = trimmed(in->b3_sampled);
	const struct propagate_value flags = trimmed(in->b3_flags);

	if (flags.len == 1 && flags.at[0] == '1')
		return decide(ret, 'd');
	if (is_in_any_case(state, "true"))
		return decide(ret, '1');
	if (is_in_any_case(state, "false"))
		return decide(ret, '0');
	return state.len == 1 && state.at[0] != 'd' && decide(ret, state.at[0]);
}

static bool read_b3_multi(const struct propagate_in *in, struct propagate_found *ret)
{
	const struct propagate_value trace = trimmed(in->b3_traceid);
	const struct propagate_value span = trimmed(in->b3_spanid);
	const bool ids = trace.len > 0 || span.len > 0;
	const bool deferred = trimmed(in->b3_sampled).len == 0
			      && !is_in_any_case(trimmed(in->b3_flags), "1");

	if (ids && !read_b3_ids(trace, span, ret))
		return false;
	if (!deferred)
		return read_b3_state(in, ret);
	ret->context.flags |= CONTEXT_DEFERRED;
	return ids;
}

static bool read_b3(const struct propagate_in *in, struct propagate_found *ret)
{
	if (read_b3_single(in->b3, ret))
		return true;
	*ret = (struct propagate_found) { .decision = PROPAGATE_DEFER };
	return read_b3_multi(in, ret);
}

static const char *b3_state(const struct context *c)
{
	return c->flags & CONTEXT_DEBUG ? "d" : sampled(c) ? "1" : "0";
}

static void write_b3(const struct propagate_out *out, const struct sink *to)
{
	char value[VALUE_SIZE];
	struct text t = text_in(value, sizeof(value));

	if (!complete(&out->context))
		return;
	add_ids(&t, &out->context, "-");
	text_add(&t, "-");
	text_add(&t, b3_state(&out->context));
	send_text(to, "b3", &t);
}

static void send_id(const struct sink *to, const char *name, const uint8_t *id, size_t bytes)
{
	char value[VALUE_SIZE];
	struct text t = text_in(value, sizeof(value));

	add_id(&t, id, bytes);
	send_text(to, name, &t);
}

static void write_b3multi(const struct propagate_out *out, const struct sink *to)
{
	const struct context *c = &out->context;

	if (!complete(c))
		return;
	send_id(to, "x-b3-traceid", c->trace_id, sizeof(c->trace_id));
	send_id(to, "x-b3-spanid", c->span_id, sizeof(c->span_id));
	if (c->flags & CONTEXT_DEBUG) /* says that it is sampled, too */
		to->field(to->arg, "x-b3-flags", "1", 1);
	else
		to->field(to->arg, "x-b3-sampled", b3_state(c), 1);
}

/* ---- jaeger ---- */

/*
 * Takes what precedes a colon off the front of @v; some clients send it as "%3A". Returns
 * false, and takes all, when there is none.
 */
static bool take_field(struct propagate_value *v, struct propagate_value *ret)
{
	for (size_t i = 0; i < v->len; i++) {
		const size_t colon = v->at[i] == ':' ? 1 : 3;

		if (colon == 3 && (v->len - i < 3 || !is_in_any_case(part(*v, i, 3), "%3a")))
			continue;
		*ret = part(*v, 0, i);
		*v = part(*v, i + colon, v->len - i - colon);
		return true;
	}
	*ret = *v;
	return false;
}

/* TRACE:SPAN:PARENT:FLAGS, ids without leading zeros; the parent is history */
static bool read_jaeger(const struct propagate_in *in, struct propagate_found *ret)
{
	struct propagate_value rest = trimmed(in->uber_trace_id), trace, span, parent;
	uint8_t flags, grandparent[SPAN_DIGITS / 2];

	if (in->n_uber_trace_id > 1 || !take_field(&rest, &trace) || !take_field(&rest, &span)
	    || !take_field(&rest, &parent))
		return false;
	if (!read_ids(trace, span, &ret->context) || !read_hex(rest, &flags, 1)
	    || (parent.len > 0 && !read_hex(parent, grandparent, sizeof(grandparent))))
		return false;
	if (trace.len <= TRACE_DIGITS / 2)
		ret->context.flags |= CONTEXT_SHORT;
	ret->remote_span = true;
	return decide(ret, !(flags & 1) ? '0' : flags & 2 ? 'd' : '1');
}

static void write_jaeger(const struct propagate_out *out, const struct sink *to)
{
	const struct context *c = &out->context;
	char value[VALUE_SIZE];
	struct text t = text_in(value, sizeof(value));

	if (!complete(c))
		return;
	add_ids(&t, c, ":");
	text_add(&t, c->flags & CONTEXT_DEBUG ? ":0:3" : sampled(c) ? ":0:1" : ":0:0");
	send_text(to, "uber-trace-id", &t);
}

/* ---- x-trace-id ---- */

static bool uuid_dash(size_t at)
{
	return at == 8 || at == 13 || at == 18 || at == 23;
}

/* 32 digits of either case, or the same with the dashes of a UUID. */
static bool read_trace_id(struct propagate_value v, struct context *ret)
{
	struct context c = { .flags = v.len == UUID_LENGTH ? CONTEXT_UUID : 0 };
	char digits[TRACE_DIGITS];
	size_t n = 0;

	if (v.len != UUID_LENGTH && v.len != TRACE_DIGITS)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		if (v.len == TRACE_DIGITS || !uuid_dash(i))
			digits[n++] = lower(v.at[i]);
		else if (v.at[i] != '-')
			return false;
	}
	if (!read_hex((struct propagate_value) { digits, n }, c.trace_id, sizeof(c.trace_id))
	    || !context_some(&c))
		return false;
	*ret = c;
	return true;
}

static bool good_foreign(struct propagate_value v)
{
	for (size_t i = 0; i < v.len; i++) {
		if (v.at[i] <= ' ' || v.at[i] > '~')
			return false;
	}
	return v.len > 0 && v.len <= PROPAGATE_FOREIGN_MAX;
}

/*
 * What x-trace-id adds to what the standard formats said: an id when they brought none; the form
 * of theirs, when it is the same; and what is no id of ours, whatever they said, so that it gets
 * past the second service as well.
 */
static void join_x_trace_id(struct propagate_value value, struct propagate_found *f)
{
	const struct propagate_value v = trimmed(value);
	struct context c;

	if (!read_trace_id(v, &c)) {
		f->foreign = good_foreign(v);
	} else if (!context_some(&f->context)) {
		c.flags |= f->context.flags;
		if (f->decision == PROPAGATE_DEFER)
			c.flags |= CONTEXT_DEFERRED;
		f->context = c;
	} else if (memcmp(c.trace_id, f->context.trace_id, sizeof(c.trace_id)) == 0) {
		f->context.flags |= c.flags;
	}
}

static void write_x_trace_id(const struct propagate_out *out, const struct sink *to)
{
	const struct context *c = &out->context;
	char value[VALUE_SIZE];
	struct text t = text_in(value, sizeof(value));

	if (out->foreign.len > 0) {
		to->field(to->arg, "x-trace-id", out->foreign.at, out->foreign.len);
		return;
	}
	if (!context_some(c))
		return;
	if ((c->flags & CONTEXT_UUID) == 0) {
		add_id(&t, c->trace_id, sizeof(c->trace_id));
	} else {
		for (size_t i = 0; i < sizeof(c->trace_id); i++) {
			if (uuid_dash(t.used))
				text_add(&t, "-");
			add_id(&t, &c->trace_id[i], 1);
		}
	}
	send_text(to, "x-trace-id", &t);
}

/* ---- the list of formats ---- */

static const struct format {
	const char *name; /* in OTEL_PROPAGATORS */
	/* A context, or a decision alone; false: neither, and @ret may hold anything. */
	bool (*read)(const struct propagate_in *in, struct propagate_found *ret);
	void (*write)(const struct propagate_out *out, const struct sink *to);
} formats[PROPAGATORS] = {
	[PROPAGATE_TRACECONTEXT] = { "tracecontext", read_tracecontext, write_tracecontext },
	[PROPAGATE_BAGGAGE] = { "baggage", NULL, write_baggage },
	[PROPAGATE_XTRACEID] = { "xtraceid", NULL, write_x_trace_id },
	[PROPAGATE_B3] = { "b3", read_b3, write_b3 },
	[PROPAGATE_B3MULTI] = { "b3multi", read_b3, write_b3multi },
	[PROPAGATE_JAEGER] = { "jaeger", read_jaeger, write_jaeger },
};

struct propagators propagators_default(void)
{
	return (struct propagators) {
		.n = 3,
		.list = { PROPAGATE_TRACECONTEXT, PROPAGATE_BAGGAGE, PROPAGATE_XTRACEID },
	};
}

static bool has(const struct propagators *p, enum propagator kind)
{
	return memchr(p->list, kind, p->n) != NULL;
}

/* Adds the format of that name, once; false when there is none. */
static bool add_format(struct propagators *p, struct propagate_value name)
{
	for (enum propagator kind = 0; kind < PROPAGATORS; kind++) {
		if (!is_in_any_case(name, formats[kind].name))
			continue;
		if (!has(p, kind))
			p->list[p->n++] = (uint8_t) kind;
		return true;
	}
	return false;
}

/* found "xray", "ottrace" */
static void tell_unknown(struct text *problem, bool first, struct propagate_value name)
{
	if (!problem)
		return;
	text_add(problem, first ? "found \"" : ", \"");
	text_add_shown(problem, name.at, name.len > FOUND_MAX ? FOUND_MAX : name.len);
	text_add(problem, name.len > FOUND_MAX ? "...\"" : "\"");
}

bool propagators_from(const char *value, struct propagators *ret, struct text *problem)
{
	struct propagate_value rest = trimmed((struct propagate_value) { value, strlen(value) });
	struct propagators p = { .n = 0 };
	unsigned names = 0, unknown = 0;

	if (is_in_any_case(rest, "none")) {
		*ret = p;
		return true;
	}
	while (rest.len > 0) {
		const struct propagate_value name = take_entry(&rest, ',');

		if (name.len == 0)
			continue;
		names++;
		if (!add_format(&p, name))
			tell_unknown(problem, unknown++ == 0, name);
	}
	*ret = names > 0 ? p : propagators_default();
	return unknown == 0;
}

/* The first that brings ids decides; before that, what was said without ids stands. */
static void read_formats(const struct propagators *p, const struct propagate_in *in,
			 struct propagate_found *ret)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct format *format = &formats[p->list[i]];
		struct propagate_found f = { .decision = PROPAGATE_DEFER };

		if (!format->read || !format->read(in, &f))
			continue;
		if (context_some(&f.context) || ret->decision == PROPAGATE_DEFER)
			*ret = f;
		if (context_some(&f.context))
			return;
	}
}

void propagate_extract(const struct propagators *p, const struct propagate_in *in,
		       struct propagate_found *ret)
{
	struct propagate_found f = { .decision = PROPAGATE_DEFER };

	read_formats(p, in, &f);
	if (has(p, PROPAGATE_XTRACEID))
		join_x_trace_id(in->x_trace_id, &f);
	f.baggage = has(p, PROPAGATE_BAGGAGE) && baggage_length(in->baggage, in->n_baggage) > 0;
	*ret = f;
}

void propagate_inject(const struct propagators *p, const struct propagate_out *out,
		      void (*field)(void *arg, const char *name, const char *value, size_t len),
		      void *arg)
{
	const struct sink to = { field, arg };

	for (size_t i = 0; i < p->n; i++)
		formats[p->list[i]].write(out, &to);
}
