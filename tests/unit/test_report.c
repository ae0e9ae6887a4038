/* SPDX-License-Identifier: Apache-2.0 */
/* shim/report.c by itself: spans reach their own ring, what is lost is counted, lines when asked. */
#include "shim/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/span.h"
#include "shim/life.h"
#include "shim/real.h"
#include "shim/stack.h"
#include "tests/unit/json.h"

/* ---- the rest of the shim, as far as report.c asks for it ---- */

static struct life own_life;
static struct config config;
struct life *life = &own_life;
const struct config *settings = &config;
struct real real = { .poll = poll, .write = write, .close = close };

uint32_t life_pid(void)
{
	return 4242;
}

uint64_t life_pidns(void)
{
	return 7;
}

bool life_gone(uint32_t pid)
{
	(void) pid;
	return false;
}

size_t stack_capture(uintptr_t *pcs, size_t max)
{
	(void) pcs;
	(void) max;
	return 0;
}

size_t stack_text(const uintptr_t *pcs, size_t n, char *buf, size_t size)
{
	(void) pcs;
	(void) n;
	(void) buf;
	(void) size;
	return 0;
}

/* ---- fixtures ---- */

static struct metrics metrics;
static _Atomic uint64_t ids;
static struct report_files files; /* borrowed for good, as in life */
static struct event events[RINGS * RING_EVENTS];
static char log_path[] = "/tmp/agentshim-report.XXXXXX";

static struct rings made(uint32_t records)
{
	struct ring_file *const f = calloc(1, ring_file_size(records));
	struct rings r;

	assert_non_null(f);
	ring_init(f, records);
	assert_true(ring_open(f, ring_file_size(records), &r));
	return r;
}

static int setup(void **state)
{
	(void) state;
	memset(&own_life, 0, sizeof(own_life));
	memset(&config, 0, sizeof(config));
	memset(&metrics, 0, sizeof(metrics));
	files = (struct report_files) {
		.events = made(RING_EVENTS),
		.spans = made(RING_RECORDS_MIN),
		.ids = &ids,
		.metrics = &metrics,
		.service = "backend",
	};
	report_to(&files);
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	free(files.events.file);
	free(files.spans.file);
	return 0;
}

static size_t read_ring(const struct rings *r)
{
	uint64_t lost;

	return ring_read(r->file, ring_file_size(r->records), events,
			 sizeof(events) / sizeof(events[0]), &lost);
}

static uint64_t dropped(void)
{
	struct metrics_sums sums;

	metrics_sum(&metrics, &sums);
	return sums.counters[METRICS_SPANS_DROPPED];
}

static struct event ended(uint64_t number)
{
	struct context c = { .flags = CONTEXT_SAMPLED };
	struct event e;

	memset(c.trace_id, 0x11, sizeof(c.trace_id));
	memcpy(c.span_id, &number, sizeof(c.span_id));
	span_begin(&e, SPAN_SERVER, &c, NULL, 1, number);
	span_texts(&e, "GET", 3, "/", 1, "h", 1);
	e.tid = 5;
	span_end(&e, 200, SPAN_NO_ERROR, number + 1000000);
	return e;
}

static size_t log_lines(char *buf, size_t size)
{
	const int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = read(fd, buf, size - 1);
	size_t lines = 0;

	assert_true(fd >= 0 && n >= 0);
	buf[n] = '\0';
	(void) close(fd);
	for (char *c = buf; *c != '\0'; c++)
		lines += *c == '\n';
	return lines;
}

/* ---- stories ---- */

static void a_flood_of_spans_pushes_no_event_out(void **state)
{
	(void) state;
	report_text(EVENT_CONFIG_ERROR, "something");
	for (uint64_t n = 1; n <= 5000; n++) {
		const struct event e = ended(n);

		report_span(&e);
	}
	assert_int_equal(read_ring(&files.events), 1);
	assert_string_equal(events[0].text, "something");
	assert_int_equal(read_ring(&files.spans), RING_RECORDS_MIN);
	assert_int_equal(events[RING_RECORDS_MIN - 1].mono_ns, 5000);
	assert_int_equal(dropped(), 0); /* overwritten is not dropped */
}

/* The ring that is claimed for events is this process's for spans as well. */
static void one_claim_serves_both_files(void **state)
{
	const struct ring_owner other = { .pid = 1, .start = 1, .pidns = 7 };
	const struct event e = ended(1);

	(void) state;
	assert_int_equal(ring_claim(&files.events, &other, life_gone), 0);
	report_text(EVENT_CONFIG_ERROR, "x");
	report_span(&e);
	assert_int_equal(own_life.ring, 1 + 1);
	assert_int_equal(read_ring(&files.spans), 1);
}

static void without_a_place_a_span_is_counted_as_dropped(void **state)
{
	const struct event e = ended(1);

	(void) state;
	free(files.spans.file);
	files.spans.file = NULL;
	report_span(&e);
	report_span(&e);
	assert_int_equal(dropped(), 2);
	assert_int_equal(read_ring(&files.events), 0);
	report_to(NULL); /* before anything is mapped */
	report_span(&e);
	assert_int_equal(dropped(), 2);
}

static void a_span_is_a_line_at_level_info(void **state)
{
	struct event e = ended(1), more;
	char buf[8192];

	(void) state;
	strcpy(config.log, log_path);
	report_span(&e);
	assert_int_equal(log_lines(buf, sizeof(buf)), 0);
	config.log_level = CONFIG_LOG_INFO;
	span_more_begin(&more, &e);
	assert_true(span_more_add(&more, "user.id", "42", 2));
	report_span_more(&e, &more, 1);
	assert_int_equal(log_lines(buf, sizeof(buf)), 1);
	*strchr(buf, '\n') = '\0';
	assert_true(json_valid(buf));
	assert_non_null(strstr(buf, "\"msg\":\"span completed\""));
	assert_non_null(strstr(buf, "\"service\":\"backend\""));
	assert_non_null(strstr(buf, "\"user.id\":\"42\"}"));
	assert_int_equal(read_ring(&files.spans), 3);
}

static void attributes_that_are_too_long_cost_not_the_line(void **state)
{
	struct event e = ended(1), more[20];
	char value[140], buf[8192];

	(void) state;
	strcpy(config.log, log_path);
	config.log_level = CONFIG_LOG_INFO;
	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 20; i++) {
		span_more_begin(&more[i], &e);
		assert_true(span_more_add(&more[i], "long", value, sizeof(value)));
	}
	report_span_more(&e, more, 20);
	assert_int_equal(log_lines(buf, sizeof(buf)), 2); /* that of the story before, and ours */
	assert_null(strstr(buf, "\"long\""));
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		STORY(a_flood_of_spans_pushes_no_event_out),
		STORY(one_claim_serves_both_files),
		STORY(without_a_place_a_span_is_counted_as_dropped),
		STORY(a_span_is_a_line_at_level_info),
		STORY(attributes_that_are_too_long_cost_not_the_line),
	};
#undef STORY
	const int fd = mkstemp(log_path);

	if (fd < 0)
		return 1;
	(void) close(fd);

	const int rc = cmocka_run_group_tests_name("report", tests, NULL, NULL);

	(void) unlink(log_path);
	return rc;
}
