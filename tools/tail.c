/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `agentshim tail`: events and spans as they happen. Files are looked at ten times a second;
 * nobody is woken by a writer, and no writer by us.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/duration.h"
#include "core/span.h"
#include "tools/hook.h"
#include "tools/shelf.h"
#include "tools/tool.h"
#include "tools/view.h"

#define POLL_MS   100
#define SCAN_NS   (500 * NS_PER_MS) /* how often to look for new files */
#define READ_MAX  1024              /* records of one file at a time */
#define BATCH_MAX 65536             /* records sorted together; the rest waits a moment */
#define NEAR      64                /* records between a span and its attributes, at most */
#define TAPS      2

static const enum segment_kind tap_kinds[TAPS] = { SEGMENT_RING, SEGMENT_SPANS };

struct tail_options {
	struct shelf_filter filter;
	bool json;
	const char *on_change; /* NULL: none */
	uint64_t count;        /* lines; UINT64_MAX: no end */
	uint64_t for_ns;       /* UINT64_MAX: no end */
};

struct followed {
	struct shelf_service service; /* without copies */
	struct shelf_tap taps[TAPS];
	bool seen;                    /* in the latest scan */
};

struct seen {
	struct event e;
	size_t service;               /* index of its struct followed */
};

struct tail {
	const struct tail_options *o;
	struct followed *followed;    /* taken */
	size_t n_followed;
	struct seen *batch;           /* taken; BATCH_MAX places */
	size_t n_batch;
	struct hook *hook;            /* taken; NULL: none */
	uint64_t printed;
	bool first;                   /* scan: what is there already is not news */
	bool over;                    /* whoever read us has gone */
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void) signal;
	stopped = 1;
}

/* No SA_RESTART: a write that blocks, or the pause, ends at once. */
static void catch_signals(void)
{
	const struct sigaction stopping = { .sa_handler = stop };
	const struct sigaction ignoring = { .sa_handler = SIG_IGN };

	(void) sigaction(SIGINT, &stopping, NULL);
	(void) sigaction(SIGTERM, &stopping, NULL);
	(void) sigaction(SIGPIPE, &ignoring, NULL);
}

/* ---- the files ---- */

static void open_tap(struct followed *f, int i, bool from_now)
{
	const char *reason; /* maybe there is none yet: asked again at the next scan */

	(void) shelf_tap_open(&f->service, tap_kinds[i], from_now, &f->taps[i], &reason);
}

static void refresh(struct followed *f)
{
	f->seen = true;
	for (int i = 0; i < TAPS; i++) {
		if (f->taps[i].fd >= 0 &&
		    shelf_tap_replaced(&f->taps[i], &f->service, tap_kinds[i]))
			shelf_tap_close(&f->taps[i]);
		if (f->taps[i].fd < 0)
			open_tap(f, i, false);
	}
}

static void add(struct tail *t, const struct shelf_service *s)
{
	struct followed *const grown = take(t->n_followed + 1, sizeof(*grown));

	if (t->n_followed > 0)
		memcpy(grown, t->followed, t->n_followed * sizeof(*grown));
	free(t->followed);
	t->followed = grown;

	struct followed *const f = &t->followed[t->n_followed++];

	f->service = *s;
	f->seen = true;
	for (int i = 0; i < TAPS; i++)
		open_tap(f, i, t->first);
}

static struct followed *find(struct tail *t, const char *path)
{
	for (size_t i = 0; i < t->n_followed; i++) {
		if (strcmp(t->followed[i].service.path, path) == 0)
			return &t->followed[i];
	}
	return NULL;
}

/* Files that were deleted have been read to their end by now. */
static void forget_gone(struct tail *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n_followed; i++) {
		if (t->followed[i].seen) {
			t->followed[kept++] = t->followed[i];
			continue;
		}
		for (int k = 0; k < TAPS; k++)
			shelf_tap_close(&t->followed[i].taps[k]);
	}
	t->n_followed = kept;
}

static void scan(struct tail *t)
{
	struct shelf shelf;

	for (size_t i = 0; i < t->n_followed; i++)
		t->followed[i].seen = false;
	shelf_list(&shelf, NULL, &t->o->filter);
	for (size_t i = 0; i < shelf.n_services; i++) {
		struct followed *const f = find(t, shelf.services[i].path);

		if (f != NULL)
			refresh(f);
		else
			add(t, &shelf.services[i]);
	}
	forget_gone(t);
	if (t->first) {
		shelf_complain(&shelf);
		if (t->n_followed == 0)
			complain("nothing to follow in %s yet; waiting", shelf.looked_in);
	}
	t->first = false;
	shelf_drop(&shelf);
}

/* ---- lines ---- */

/* Past stdio: a reader that has gone is an end, not an error to complain of. */
static void put_line(struct tail *t, const char *line, size_t length)
{
	while (length > 0 && !t->over && !stopped) {
		const ssize_t n = write(STDOUT_FILENO, line, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EPIPE) {
			complain("cannot write to standard output");
			exit(TOOL_FAILED);
		}
		if (n < 0) {
			t->over = true;
			return;
		}
		line += n;
		length -= (size_t) n;
	}
	t->printed++;
}

/* Records with further attributes stand right behind their span, see date_more(). */
static size_t more_of(const struct tail *t, size_t at, struct event *more, size_t max)
{
	size_t n = 0;

	for (size_t i = at + 1; i < t->n_batch && i <= at + NEAR && n < max; i++) {
		if (t->batch[i].service == t->batch[at].service &&
		    span_more_of(&t->batch[i].e, &t->batch[at].e))
			more[n++] = t->batch[i].e;
	}
	return n;
}

#define MORE_MAX  16 /* records of one span: 2 KiB of attributes */
#define LINE_SIZE (EVENT_JSON_SIZE + MORE_MAX * TEXT_JSON_GROWTH * EVENT_TEXT_SIZE)

static void put_json(struct tail *t, size_t at)
{
	const struct event *const e = &t->batch[at].e;
	const char *const service = t->followed[t->batch[at].service].service.name;
	static char line[LINE_SIZE];
	struct text out = text_in(line, sizeof(line) - 1);

	if (e->kind == EVENT_SPAN) {
		static struct event more[MORE_MAX];
		const size_t n = (e->span.bits & SPAN_MORE_FOLLOWS) != 0
					 ? more_of(t, at, more, MORE_MAX)
					 : 0;

		span_json(e, more, n, service, &out);
	} else {
		event_json(e, service, &out);
	}
	line[out.used] = '\n';
	put_line(t, line, out.used + 1);
}

static void put_text(struct tail *t, size_t at)
{
	const struct event *const e = &t->batch[at].e;
	char when[32], what[VIEW_SPAN_SIZE], line[VIEW_SPAN_SIZE + 256];

	view_clock(e->wall_ns, when, sizeof(when), "%H:%M:%S");

	const int n = snprintf(line, sizeof(line), "%s.%03u %s  %s\n", when,
			       (unsigned) (e->wall_ns % NS_PER_S / NS_PER_MS),
			       t->followed[t->batch[at].service].service.name,
			       e->kind == EVENT_SPAN ? view_span(e, what, sizeof(what))
						     : view_event(e, what, sizeof(what)));

	put_line(t, line, (size_t) n < sizeof(line) ? (size_t) n : sizeof(line) - 1);
}

/* Did the span that these attributes belong to stand before them? Then its line has them. */
static bool told_already(const struct tail *t, size_t at)
{
	for (size_t i = at; i > 0 && i + NEAR > at; i--) {
		const struct seen *const s = &t->batch[i - 1];

		if (s->e.kind == EVENT_SPAN && s->service == t->batch[at].service &&
		    (s->e.span.bits & SPAN_MORE_FOLLOWS) != 0 &&
		    span_more_of(&t->batch[at].e, &s->e))
			return true;
	}
	return false;
}

static void tell(struct tail *t, size_t at)
{
	const struct event *const e = &t->batch[at].e;

	if (t->hook != NULL && e->kind == EVENT_STATE_CHANGE)
		hook_add(t->hook, e, t->followed[t->batch[at].service].service.name);
	if (e->kind == EVENT_STACK || e->kind == EVENT_NONE)
		return; /* `status --stacks` puts them together */
	if (e->kind == EVENT_SPAN_MORE && (!t->o->json || told_already(t, at)))
		return;
	if (t->o->json)
		put_json(t, at);
	else
		put_text(t, at);
}

/* ---- one look ---- */

/* When it happened; a span when it was over. */
static uint64_t instant(const struct event *e)
{
	return e->kind == EVENT_SPAN ? e->mono_ns + e->span.duration_ns : e->mono_ns;
}

static int by_instant(const void *a, const void *b)
{
	const struct seen *const x = a, *const y = b;
	const uint64_t i = instant(&x->e), k = instant(&y->e);

	if (i != k)
		return i < k ? -1 : 1;
	return x->e.id < y->e.id ? -1 : x->e.id > y->e.id;
}

/* Attributes go where their span goes: right behind it, however long it took. */
static void date_more(struct tail *t, size_t from)
{
	for (size_t i = from + 1; i < t->n_batch; i++) {
		struct event *const e = &t->batch[i].e;
		const struct event *const before = &t->batch[i - 1].e;

		if (e->kind != EVENT_SPAN_MORE)
			continue;
		if (span_more_of(e, before))
			e->mono_ns = instant(before) + 1;
		else if (before->kind == EVENT_SPAN_MORE &&
			 memcmp(&e->span, &before->span, sizeof(e->span)) == 0)
			e->mono_ns = before->mono_ns;
	}
}

static void gather(struct tail *t, size_t service, struct shelf_tap *tap)
{
	struct event *const events = take(READ_MAX, sizeof(*events));
	const size_t from = t->n_batch;
	size_t n = READ_MAX;

	while (n == READ_MAX && t->n_batch + READ_MAX <= BATCH_MAX) {
		n = shelf_tap_read(tap, events, READ_MAX);
		for (size_t i = 0; i < n; i++)
			t->batch[t->n_batch++] = (struct seen) { events[i], service };
	}
	date_more(t, from);
	free(events);
}

static void look(struct tail *t)
{
	t->n_batch = 0;
	for (size_t i = 0; i < t->n_followed; i++) {
		for (int k = 0; k < TAPS; k++) {
			if (t->followed[i].taps[k].fd >= 0)
				gather(t, i, &t->followed[i].taps[k]);
		}
	}
	qsort(t->batch, t->n_batch, sizeof(*t->batch), by_instant);
	for (size_t i = 0; i < t->n_batch; i++) {
		if (t->over || stopped || t->printed >= t->o->count)
			break;
		tell(t, i);
	}
}

static void pause_a_little(struct tail *t)
{
	struct pollfd out = { .fd = STDOUT_FILENO };

	if (poll(&out, 1, POLL_MS) > 0 && (out.revents & (POLLERR | POLLNVAL)) != 0)
		t->over = true;
}

static void follow(struct tail *t)
{
	const uint64_t began = clock_now();
	uint64_t scanned = 0;

	while (!t->over && !stopped && t->printed < t->o->count) {
		const uint64_t now = clock_now();

		if (scanned == 0 || clock_since(scanned, now) >= SCAN_NS) {
			scan(t);
			scanned = now;
		}
		look(t);
		if (t->hook != NULL)
			hook_run(t->hook, clock_now());
		if (clock_since(began, clock_now()) >= t->o->for_ns)
			break;
		if (!t->over && !stopped && t->printed < t->o->count)
			pause_a_little(t);
	}
	/* What came before the end is still told to the command, unless we are to stop. */
	while (t->hook != NULL && !stopped && hook_run(t->hook, clock_now()))
		(void) poll(NULL, 0, POLL_MS);
}

static bool parse_count(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && *ret > 0;
}

/* Returns TOOL_OK, or what usage() did. Names are gathered at the front of argv. */
static int read_options(int argc, char **argv, struct tail_options *o)
{
	bool options = true;

	for (int i = 1; i < argc; i++) {
		const char *const value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!options || argv[i][0] != '-') {
			argv[o->filter.n++] = argv[i];
		} else if (strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (strcmp(argv[i], "--json") == 0) {
			o->json = true;
		} else if (strcmp(argv[i], "--on-change") == 0 && value != NULL) {
			o->on_change = argv[++i];
		} else if (strcmp(argv[i], "--count") == 0 && value != NULL) {
			if (!parse_count(argv[++i], &o->count))
				return usage("tail", "--count: found %s, expected a number",
					     value);
		} else if (strcmp(argv[i], "--for") == 0 && value != NULL) {
			if (!duration_parse(argv[++i], &o->for_ns))
				return usage("tail", "--for: found %s, expected a duration "
					     "such as 10s", value);
		} else {
			return usage("tail", "unknown option %s, or one without its value",
				     argv[i]);
		}
	}
	return TOOL_OK;
}

int tail_main(int argc, char **argv)
{
	struct tail_options o = {
		.filter = { .names = argv },
		.count = UINT64_MAX,
		.for_ns = UINT64_MAX,
	};
	struct tail t = { .o = &o, .first = true };
	const int rc = read_options(argc, argv, &o);

	if (rc != TOOL_OK)
		return rc;
	t.batch = take(BATCH_MAX, sizeof(*t.batch));
	if (o.on_change != NULL)
		t.hook = hook_new(o.on_change);
	catch_signals();
	follow(&t);
	hook_drop(t.hook);
	for (size_t i = 0; i < t.n_followed; i++)
		for (int k = 0; k < TAPS; k++)
			shelf_tap_close(&t.followed[i].taps[k]);
	free(t.followed);
	free(t.batch);
	return TOOL_OK;
}
