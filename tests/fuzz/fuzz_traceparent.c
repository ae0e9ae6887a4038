/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W3C Trace Context: the input's first line is a traceparent, the others are tracestate and
 * baggage by turns. Whatever they hold, what goes out is in bounds and reads again as the same.
 */
#include "core/propagate.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/lines.h"

#define SENT_SIZE 32768

static struct propagate_in sent;
static struct propagate_value sent_tracestate, sent_baggage;

static char room[SENT_SIZE]; /* of what is in @sent */
static size_t used;

static struct propagate_value copied(const char *value, size_t len)
{
	char *at = room + used;

	FUZZ_CHECK(len <= sizeof(room) - used);
	memcpy(at, value, len);
	used += len;
	return (struct propagate_value) { at, len };
}

static void take_field(void *arg, const char *name, const char *value, size_t len)
{
	(void) arg;
	FUZZ_CHECK(len > 0);
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK((value[i] >= ' ' && value[i] <= '~') || strcmp(name, "baggage") == 0);
	if (strcmp(name, "traceparent") == 0) {
		sent.n_traceparent++;
		sent.traceparent = copied(value, len);
	} else if (strcmp(name, "tracestate") == 0) {
		sent.n_tracestate++;
		sent_tracestate = copied(value, len);
	} else if (strcmp(name, "baggage") == 0) {
		sent.n_baggage++;
		sent_baggage = copied(value, len);
	} else {
		FUZZ_CHECK(strcmp(name, "x-trace-id") == 0);
	}
}

static bool same(struct propagate_value v, const struct text *t)
{
	return v.len == t->used && memcmp(v.at, t->at, v.len) == 0;
}

/* Sends on what was found, and reads it again. */
static void send_on(const struct propagators *p, const struct propagate_in *in,
		    const struct propagate_found *f)
{
	static char state_room[PROPAGATE_TRACESTATE_MAX + 1], bag_room[PROPAGATE_BAGGAGE_MAX + 1];
	struct text state = text_in(state_room, sizeof(state_room));
	struct text bag = text_in(bag_room, sizeof(bag_room));
	struct propagate_found again;

	if (f->tracestate)
		FUZZ_CHECK(propagate_tracestate(in->tracestate, in->n_tracestate, &state));
	FUZZ_CHECK(propagate_baggage(in->baggage, in->n_baggage, &bag) == f->baggage);
	FUZZ_CHECK(f->baggage == (bag.used > 0) && !state.cut && !bag.cut);

	const struct propagate_out out = {
		.context = f->context,
		.tracestate = { state.at, state.used },
		.baggage = { bag.at, bag.used },
	};
	sent = (struct propagate_in) { .tracestate = &sent_tracestate, .baggage = &sent_baggage };
	used = 0;
	propagate_inject(p, &out, take_field, NULL);
	FUZZ_CHECK(sent.n_traceparent == context_some(&f->context));
	FUZZ_CHECK(sent.n_tracestate == f->tracestate && sent.n_baggage == f->baggage);
	FUZZ_CHECK(!f->tracestate || same(sent_tracestate, &state));

	propagate_extract(p, &sent, &again);
	FUZZ_CHECK(memcmp(&again.context, &f->context, sizeof(again.context)) == 0);
	FUZZ_CHECK(again.decision == f->decision && again.remote_span == f->remote_span);
	FUZZ_CHECK(again.tracestate == f->tracestate && again.baggage == f->baggage);
	state = text_in(state_room, sizeof(state_room));
	if (f->tracestate)
		FUZZ_CHECK(propagate_tracestate(&sent_tracestate, 1, &state)
			   && same(sent_tracestate, &state));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct propagators p = propagators_default();
	struct propagate_value tracestate[LINES_MAX], baggage[LINES_MAX];
	struct propagate_in in = { .tracestate = tracestate, .baggage = baggage };
	struct propagate_found f;
	struct lines lines;

	lines_of(data, size, &lines);
	in.n_traceparent = lines.n > 0;
	in.traceparent = lines.line[0];
	for (unsigned i = 1; i < lines.n; i++) {
		if (i % 2)
			tracestate[in.n_tracestate++] = lines.line[i];
		else
			baggage[in.n_baggage++] = lines.line[i];
	}

	memset(&f, 0xa5, sizeof(f));
	propagate_extract(&p, &in, &f);
	FUZZ_CHECK(context_some(&f.context) == f.remote_span && !f.foreign);
	FUZZ_CHECK((f.context.flags & ~(CONTEXT_SAMPLED | CONTEXT_RANDOM)) == 0);
	FUZZ_CHECK(f.remote_span || !f.tracestate);
	send_on(&p, &in, &f);
	lines_free(&lines);
	return 0;
}
