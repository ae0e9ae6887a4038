/* SPDX-License-Identifier: Apache-2.0 */
/* shim/request.c by itself: what is read of a request that ends meanwhile stays in its place. */
#include "shim/request.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <string.h>

#include "shim/blob.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/report.h"
#include "shim/shared.h"

/* ---- the rest of the shim, as far as request.c asks for it ---- */

static struct life own_life;
struct life *life = &own_life;
__thread struct guard guard __attribute__((tls_model("initial-exec")));

uint32_t life_pid(void)
{
	return 4242;
}

uint32_t life_tid(void)
{
	return 4243;
}

struct metrics *shared_metrics(void)
{
	return NULL;
}

void report_span(const struct event *e)
{
	(void) e;
}

void report_span_more(const struct event *e, const struct event *more, size_t n)
{
	(void) e;
	(void) more;
	(void) n;
}

/* ---- values ---- */

#define LONG 8000

static char text[LONG];

static void assert_within(const struct request *r, enum request_value which)
{
	const struct propagate_value v = request_value(r, which);

	assert_true(v.len == 0 ||
		    (v.at >= r->raw && v.at + v.len <= r->raw + sizeof(r->raw)));
}

/* A call reads its owner's values, and finds out behind that the owner had ended. */
static void values_of_an_ended_request_are_in_its_place(void **state)
{
	struct request *r;
	const struct request_token t = request_begin(&r);

	(void) state;
	assert_true(request_keep(r, REQUEST_TRACESTATE, text, LONG));
	assert_true(request_keep(r, REQUEST_BAGGAGE, text, LONG));
	assert_int_equal(request_value(r, REQUEST_BAGGAGE).len, LONG);
	request_drop(t);
	assert_null(request_at(t));
	assert_within(r, REQUEST_TRACESTATE);
	assert_within(r, REQUEST_BAGGAGE);
}

/* Nor does the look take a blob for it. */
static void a_late_look_takes_nothing(void **state)
{
	struct request *r;
	const struct request_token t = request_begin(&r);
	uint32_t first = 0, second = 0;

	(void) state;
	assert_true(request_keep(r, REQUEST_BAGGAGE, text, LONG));

	const uint32_t had = r->blob;

	request_drop(t);
	(void) request_value(r, REQUEST_BAGGAGE);
	assert_int_equal(r->blob, 0);
	assert_non_null(blob_get(&first));
	assert_int_equal(first, had);
	assert_non_null(blob_get(&second));
	blob_give(&first);
	blob_give(&second);
}

/* ---- whose is it ---- */

static const struct request_token none;

static struct request_token served(const struct context *came_with)
{
	struct request *r;
	const struct request_token t = request_begin(&r);

	r->came_with = *came_with;
	return t;
}

static void the_caller_tells_requests_apart(void **state)
{
	const struct context a = { .trace_id = { 1 }, .span_id = { 1 } };
	const struct context b = { .trace_id = { 1 }, .span_id = { 2 } };
	const struct request_token first = served(&a), second = served(&b);

	(void) state;
	assert_int_equal(request_by_parent(&a, none).place, first.place);
	assert_int_equal(request_by_parent(&b, none).place, second.place);
	request_drop(first);
	assert_int_equal(request_by_parent(&a, none).place, 0);
	request_drop(second);
}

/* A client that tries again in one span, before the first try has ended: which one is it? */
static void two_of_one_caller_are_not_told_apart(void **state)
{
	const struct context a = { .trace_id = { 1 }, .span_id = { 1 } };
	const struct request_token first = served(&a), second = served(&a);

	(void) state;
	assert_int_equal(request_by_parent(&a, none).place, 0);
	/* But the thread's own request is the one that it forwards. */
	assert_int_equal(request_by_parent(&a, second).place, second.place);
	assert_int_equal(request_by_parent(&a, first).place, first.place);
	request_drop(first);
	assert_int_equal(request_by_parent(&a, none).place, second.place);
	request_drop(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_an_ended_request_are_in_its_place),
		cmocka_unit_test(a_late_look_takes_nothing),
		cmocka_unit_test(the_caller_tells_requests_apart),
		cmocka_unit_test(two_of_one_caller_are_not_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
