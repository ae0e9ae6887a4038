/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lays a service's files as the shim would, for tests of the tool. One order a line on
 * standard input; texts are in hexadecimal, so that they may hold anything.
 *
 *   service DIR STEM NAME       makes or opens the files of DIR/STEM
 *   breaker PEER STEPS          STEPS: s success, f failure, x exclusion, r any verdict
 *   event KIND ID PART PARTS TEXT MODE
 *   open PEER SECONDS           the change that opened PEER, as an event
 *   change PEER FROM TO         another change of PEER, as an event
 *   span KIND TRACE SPAN PARENT BITS STATUS ERROR BEGIN_NS DURATION_NS METHOD PATH HOST
 *                               a completed span; ids are bare hexadecimal, "-" is no text
 *   more KEY VALUE              a record with a further attribute of the last span
 *   count NUMBER N              adds to a counter of core/metrics.h
 *   observe NUMBER NS           a duration in one of its histograms
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/event.h"
#include "core/ring.h"
#include "core/segment.h"
#include "core/span.h"
#include "core/state.h"
#include "core/text.h"

#define LINE_SIZE 4096

static struct state *state;
static struct rings events, spans;

static int fail(const char *what)
{
	(void) fprintf(stderr, "lay-files: %s\n", what);
	return 1;
}

static void init(void *body, void *arg)
{
	if (arg != NULL)
		ring_init(body, *(const uint32_t *) arg);
}

static void read_boot_id(uint8_t id[16])
{
	FILE *const f = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned byte;

	for (int i = 0; f != NULL && i < 16; i++) {
		int c = fgetc(f);

		if (c != '-')
			(void) ungetc(c, f);
		if (fscanf(f, "%2x", &byte) != 1)
			break;
		id[i] = (uint8_t) byte;
	}
	if (f != NULL)
		(void) fclose(f);
}

static const struct {
	enum segment_kind kind;
	const char *ends;
	uint32_t records;
	struct rings *rings; /* NULL: of the state */
} kinds[] = {
	{ SEGMENT_STATE, STATE_FILE("state"), 0, NULL },
	{ SEGMENT_RING, STATE_FILE("ring"), RING_EVENTS, &events },
	{ SEGMENT_SPANS, STATE_FILE("spans"), RING_RECORDS, &spans },
};

static int open_service(const char *dir, const char *stem, const char *name)
{
	char reason[SEGMENT_REASON_SIZE] = "", file[LINE_SIZE];
	struct stat ns = { 0 };
	struct segment made;
	struct segment_spec spec = {
		.dirfd = segment_dir(dir, geteuid(), close, reason),
		.name = file,
		.layout = STATE_LAYOUT,
		.service = name,
		.creator = "/usr/bin/lay-files",
		.now_wall_ns = clock_wall(),
		.init = init,
		.close_fd = close,
	};

	(void) stat("/proc/self/ns/time", &ns);
	spec.timens = ns.st_ino;
	read_boot_id(spec.boot_id);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		(void) snprintf(file, sizeof(file), "%s%s", stem, kinds[i].ends);
		spec.kind = kinds[i].kind;
		spec.body_size = kinds[i].rings != NULL ? ring_file_size(kinds[i].records)
							: sizeof(struct state);
		spec.arg = kinds[i].rings != NULL ? (void *) &kinds[i].records : NULL;
		if (spec.dirfd < 0 || segment_open(&spec, &made, reason) < 0)
			return fail(reason);
		if (kinds[i].rings == NULL)
			state = made.body;
		else if (!ring_open(made.body, spec.body_size, kinds[i].rings))
			return fail(file);
	}
	(void) close(spec.dirfd);
	return 0;
}

static const char *unhex(const char *hex, char *buf, size_t size)
{
	size_t n = 0;
	unsigned byte;

	for (; n + 1 < size && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		buf[n] = (char) byte;
	buf[n] = '\0';
	return buf;
}

static bool gone(uint32_t pid)
{
	(void) pid;
	return false;
}

static void add_event(struct event e, const char *text)
{
	e.wall_ns = clock_wall();
	e.mono_ns = clock_now();
	e.pid = e.tid = 4242;

	struct text t = text_in(e.text, sizeof(e.text));

	text_add(&t, text);
	(void) ring_write(&events, 1, &e);
}

static int step_breaker(const char *peer, const char *steps)
{
	const struct state_writer writer = { 1, 1, gone };
	struct policy policy = policy_product();
	struct state_found found;

	policy_complete(&policy);
	if (!state_find(state, peer, &writer, clock_now(), &found))
		return fail("no slot");

	struct state_slot *const slot = state_slot(state, found.ref);

	for (; *steps != '\0' && *steps != '-'; steps++) {
		struct breaker_ticket ticket = { 0 };
		const enum breaker_verdict verdict =
			breaker_admit(&slot->breaker, &policy, clock_now(), NULL, &ticket);

		if (*steps != 'r' && verdict != BREAKER_ADMITTED)
			return fail("refused");
		if (*steps == 'f')
			atomic_store(&slot->last_error,
				     (uint64_t) EVENT_ERROR_LOCAL_ORIGIN << 32 | ECONNREFUSED);
		(void) breaker_settle(&slot->breaker, &policy, &ticket,
				      *steps == 's'   ? BREAKER_SUCCESS
				      : *steps == 'f' ? BREAKER_FAILURE
						      : BREAKER_EXCLUDED, clock_now(), NULL);
	}
	return 0;
}

static int add_opening(const char *peer, unsigned seconds)
{
	const struct state_writer writer = { 1, 1, gone };
	struct state_found found;
	struct event e = {
		.kind = EVENT_STATE_CHANGE,
		.to = BREAKER_OPEN,
		.reason = BREAKER_REASON_CONSECUTIVE_FAILURES,
		.open_ns = seconds * NS_PER_S,
		.counts = { 5, 0, 5, 0, 0, 5 },
		.id = 77,
	};

	if (!state_find(state, peer, &writer, clock_now(), &found))
		return fail("no slot");
	(void) breaker_peek(&state_slot(state, found.ref)->breaker, &e.generation, NULL);
	add_event(e, peer);
	return 0;
}

static void add_change(const char *peer, unsigned from, unsigned to)
{
	const struct event e = {
		.kind = EVENT_STATE_CHANGE,
		.from = (uint8_t) from,
		.to = (uint8_t) to,
		.reason = BREAKER_REASON_TIMEOUT_ELAPSED,
	};

	add_event(e, peer);
}

static const char *text_of(const char *hex, char *buf, size_t size)
{
	return strcmp(hex, "-") == 0 ? unhex("", buf, size) : unhex(hex, buf, size);
}

static struct event last; /* span */

static int add_span(const char *line)
{
	char trace[64], own[64], parent[64], raw[3][1024], texts[3][1024], ids[2][32];
	unsigned kind, bits, status, error;
	unsigned long long begin_ns, duration_ns;
	struct context c = { .flags = CONTEXT_SAMPLED };

	if (sscanf(line, "span %u %63s %63s %63s %u %u %u %llu %llu %1023s %1023s %1023s", &kind,
		   trace, own, parent, &bits, &status, &error, &begin_ns, &duration_ns, raw[0],
		   raw[1], raw[2]) != 12)
		return fail(line);
	memcpy(c.trace_id, unhex(trace, ids[0], 17), 16);
	memcpy(c.span_id, unhex(own, ids[0], 9), 8);
	span_begin(&last, (enum span_kind) kind, &c,
		   strcmp(parent, "-") == 0 ? NULL : (const uint8_t *) unhex(parent, ids[1], 9),
		   begin_ns, begin_ns / 2);
	for (int i = 0; i < 3; i++)
		(void) text_of(raw[i], texts[i], sizeof(texts[i]));
	span_texts(&last, texts[0], strlen(texts[0]), texts[1], strlen(texts[1]), texts[2],
		   strlen(texts[2]));
	last.pid = last.tid = 4242;
	last.span.bits |= (uint8_t) bits;
	last.span.protocol = SPAN_HTTP_1_1;
	span_end(&last, (uint16_t) status, (enum span_error) error, begin_ns / 2 + duration_ns);
	(void) ring_write(&spans, 2, &last);
	return 0;
}

static void add_more(const char *key, const char *value)
{
	struct event more;

	span_more_begin(&more, &last);
	(void) span_more_add(&more, key, value, strlen(value));
	(void) ring_write(&spans, 2, &more);
}

int main(void)
{
	char line[LINE_SIZE], a[1024], b[1024], c[1024], text[1024], value[1024];
	unsigned kind, id, part, parts, mode, seconds;
	unsigned long long n;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		int rc = 0;

		if (sscanf(line, "service %1023s %1023s %1023s", a, b, c) == 3)
			rc = open_service(a, b, unhex(c, text, sizeof(text)));
		else if (sscanf(line, "breaker %1023s %1023s", a, b) == 2)
			rc = step_breaker(unhex(a, text, STATE_PEER_SIZE), b);
		else if (sscanf(line, "open %1023s %u", a, &seconds) == 2)
			rc = add_opening(unhex(a, text, STATE_PEER_SIZE), seconds);
		else if (sscanf(line, "event %u %u %u %u %1023s %u", &kind, &id, &part, &parts, a,
				&mode) == 6)
			add_event((struct event) { .kind = kind, .id = id, .part = (uint8_t) part,
						   .parts = (uint8_t) parts, .mode = (uint8_t) mode },
				  strcmp(a, "-") == 0 ? "" : unhex(a, text, sizeof(text)));
		else if (sscanf(line, "change %1023s %u %u", a, &part, &parts) == 3)
			add_change(unhex(a, text, sizeof(text)), part, parts);
		else if (strncmp(line, "span ", 5) == 0)
			rc = add_span(line);
		else if (sscanf(line, "more %1023s %1023s", a, b) == 2)
			add_more(unhex(a, text, sizeof(text)), text_of(b, value, sizeof(value)));
		else if (sscanf(line, "count %u %llu", &kind, &n) == 2)
			metrics_add(&state->metrics, kind, (enum metrics_counter) kind, n);
		else if (sscanf(line, "observe %u %llu", &kind, &n) == 2)
			metrics_observe(&state->metrics, 1, (enum metrics_histogram) kind, n);
		else
			return fail(line);
		if (rc != 0)
			return rc;
	}
	return 0;
}
