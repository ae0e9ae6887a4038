/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forms before W3C's: the input's lines are b3, x-b3-traceid, x-b3-spanid, x-b3-sampled,
 * x-b3-flags, uber-trace-id and x-trace-id. A context that was understood reads the same again
 * in every form in which it goes out.
 */
#include "core/propagate.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/lines.h"

#define VALUE_MAX 160

static struct propagate_in sent;
static char room[PROPAGATORS + 3][VALUE_MAX];

static void take_field(void *arg, const char *name, const char *value, size_t len)
{
	static const struct {
		const char *name;
		struct propagate_value *value;
	} fields[] = {
		{ "traceparent", &sent.traceparent },	{ "b3", &sent.b3 },
		{ "x-b3-traceid", &sent.b3_traceid },	{ "x-b3-spanid", &sent.b3_spanid },
		{ "x-b3-sampled", &sent.b3_sampled },	{ "x-b3-flags", &sent.b3_flags },
		{ "uber-trace-id", &sent.uber_trace_id }, { "x-trace-id", &sent.x_trace_id },
	};
	bool known = false;

	(void) arg;
	FUZZ_CHECK(len > 0 && len <= VALUE_MAX);
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK(value[i] > ' ' && value[i] <= '~');
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(name, fields[i].name) != 0)
			continue;
		FUZZ_CHECK(fields[i].value->len == 0);
		memcpy(room[i], value, len);
		*fields[i].value = (struct propagate_value) { room[i], len };
		known = true;
	}
	FUZZ_CHECK(known);
	sent.n_traceparent = sent.traceparent.len > 0;
}

/* Sends @f as @kind and reads it again. */
static struct propagate_found through(uint8_t kind, const struct propagate_found *f,
				      struct propagate_value foreign)
{
	const struct propagators p = { .n = 1, .list = { kind } };
	const struct propagate_out out = { .context = f->context, .foreign = foreign };
	struct propagate_found again;

	memset(&sent, 0, sizeof(sent));
	propagate_inject(&p, &out, take_field, NULL);
	propagate_extract(&p, &sent, &again);
	return again;
}

static void check_span(const struct propagate_found *f)
{
	static const uint8_t kinds[] = {
		PROPAGATE_TRACECONTEXT, PROPAGATE_B3, PROPAGATE_B3MULTI, PROPAGATE_JAEGER,
	};
	const struct propagate_value none = { NULL, 0 };

	for (size_t i = 0; i < sizeof(kinds); i++) {
		const struct propagate_found again = through(kinds[i], f, none);
		const unsigned kept = CONTEXT_SAMPLED | (i > 0 ? CONTEXT_DEBUG : 0);

		FUZZ_CHECK(memcmp(again.context.trace_id, f->context.trace_id, 16) == 0);
		FUZZ_CHECK(memcmp(again.context.span_id, f->context.span_id, 8) == 0);
		FUZZ_CHECK(again.context.flags == (f->context.flags & kept));
		FUZZ_CHECK(again.remote_span && again.decision == (f->context.flags & CONTEXT_SAMPLED
					     ? PROPAGATE_ACCEPT : PROPAGATE_DENY));
	}
}

static void check_x_trace_id(const struct propagate_found *f, struct propagate_value value)
{
	const struct propagate_value none = { NULL, 0 };
	const struct propagate_found again = through(PROPAGATE_XTRACEID, f,
						     f->foreign ? value : none);

	FUZZ_CHECK(again.foreign == f->foreign && !again.remote_span);
	if (f->foreign) {
		FUZZ_CHECK(!context_some(&again.context));
	} else {
		FUZZ_CHECK(memcmp(again.context.trace_id, f->context.trace_id, 16) == 0);
		FUZZ_CHECK(((again.context.flags ^ f->context.flags) & CONTEXT_UUID) == 0);
	}
}

static void check(const struct propagators *p, const struct propagate_in *in)
{
	struct propagate_value x = in->x_trace_id;
	struct propagate_found f;

	memset(&f, 0xa5, sizeof(f));
	propagate_extract(p, in, &f);
	FUZZ_CHECK(!f.tracestate && !f.baggage && f.decision <= PROPAGATE_DENY);
	FUZZ_CHECK(f.remote_span <= context_some(&f.context));
	if (f.decision == PROPAGATE_ACCEPT)
		FUZZ_CHECK(f.context.flags & CONTEXT_SAMPLED);
	else
		FUZZ_CHECK(!(f.context.flags & (CONTEXT_SAMPLED | CONTEXT_DEBUG)));
	FUZZ_CHECK(!(f.context.flags & CONTEXT_DEFERRED)
		   == !(context_some(&f.context) && f.decision == PROPAGATE_DEFER));

	while (f.foreign && (x.at[0] == ' ' || x.at[0] == '\t'))
		x = (struct propagate_value) { x.at + 1, x.len - 1 };
	while (f.foreign && (x.at[x.len - 1] == ' ' || x.at[x.len - 1] == '\t'))
		x.len--;
	if (f.remote_span)
		check_span(&f);
	check_x_trace_id(&f, x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct propagators lists[] = {
		{ 2, { PROPAGATE_B3, PROPAGATE_XTRACEID } },
		{ 3, { PROPAGATE_JAEGER, PROPAGATE_B3MULTI, PROPAGATE_XTRACEID } },
		{ 1, { PROPAGATE_XTRACEID } },
	};
	struct lines lines;

	lines_of(data, size, &lines);
	const struct propagate_in in = {
		.b3 = lines.line[0],
		.b3_traceid = lines.line[1],
		.b3_spanid = lines.line[2],
		.b3_sampled = lines.line[3],
		.b3_flags = lines.line[4],
		.uber_trace_id = lines.line[5],
		.x_trace_id = lines.line[6],
	};
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		check(&lists[i], &in);
	lines_free(&lines);
	return 0;
}
