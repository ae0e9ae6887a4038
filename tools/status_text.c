/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim status`: tables of 80 columns for people. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "tools/stacks.h"
#include "tools/tool.h"
#include "tools/view.h"

#define WIDTH      80
#define PEER_WIDTH 23
#define STACKS_MAX 3  /* of each service: a stack is long, and the latest tells most */

struct page {
	FILE *f;
	const struct status_options *o;
	unsigned used, hidden;
	uint64_t now;
};

static bool is_full(struct page *p)
{
	/* The last line of the terminal is left to say how many are hidden. */
	if (p->o->lines == 0 || p->used + 1 < p->o->lines)
		return false;
	p->hidden++;
	return true;
}

/* One line, cut to the width. Everything from outside has been through text_add_shown(). */
static void __attribute__((format(printf, 2, 3))) put(struct page *p, const char *format, ...)
{
	char buf[PATH_MAX + 256];
	va_list args;

	if (is_full(p))
		return;
	va_start(args, format);
	(void) vsnprintf(buf, sizeof(buf), format, args);
	va_end(args);
	if (view_columns(buf) > WIDTH)
		(void) strcpy(buf + view_bytes(buf, WIDTH - 2), "..");
	(void) fprintf(p->f, "%s\n", buf);
	p->used++;
}

/* At most five characters: "99999", "100k", "9999M". */
static const char *short_count(uint64_t n, char *buf)
{
	static const char units[] = " kMGTPE";
	unsigned unit = 0;

	if (n >= 100000) {
		while (n >= 10000) {
			n /= 1000;
			unit++;
		}
	}
	if (unit == 0)
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%llu", (unsigned long long) n);
	else
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%llu%c", (unsigned long long) n, units[unit]);
	return buf;
}

static const char *colour_of(const struct page *p, enum breaker_state state)
{
	if (!p->o->colour)
		return "";
	switch (state) {
	case BREAKER_OPEN:
		return "\x1b[31m";
	case BREAKER_HALF_OPEN:
		return "\x1b[33m";
	case BREAKER_CLOSED:
		return "\x1b[32m";
	}
	return "";
}

/*
 * Failures in a row: while open, those that opened it, since the open generation has none of
 * its own.
 */
static uint64_t in_a_row(const struct view *v)
{
	return v->opened != NULL ? v->opened->counts[5] : v->counts.consecutive_failures;
}

static void put_row(struct page *p, const struct shelf_service *s, const struct view *v)
{
	char ok[VIEW_SHORT_SIZE], fail[VIEW_SHORT_SIZE], excl[VIEW_SHORT_SIZE], row[VIEW_SHORT_SIZE];
	char refused[VIEW_SHORT_SIZE], since[VIEW_SHORT_SIZE] = "-", retry[VIEW_SHORT_SIZE] = "-";
	const bool timed = s->timed && !p->o->timeless;
	const bool narrow = view_columns(v->peer) <= PEER_WIDTH;
	uint64_t ns;

	if (!narrow)
		put(p, "  %s", v->peer);
	if (is_full(p))
		return;
	if (timed)
		(void) view_short_time(clock_since(v->since, p->now), since);
	if (timed && view_retry(v, p->now, &ns))
		(void) view_short_time(ns, retry);
	(void) fprintf(p->f, "  %-*s %s%-9s%s %5s %5s %5s %5s %7s %5s %5s\n", PEER_WIDTH,
		       narrow ? v->peer : "", colour_of(p, v->state),
		       breaker_state_name(v->state), p->o->colour ? "\x1b[0m" : "",
		       short_count(v->totals.successes, ok), short_count(v->totals.failures, fail),
		       short_count(v->totals.exclusions, excl), short_count(in_a_row(v), row),
		       short_count(v->totals.refused, refused), since, retry);
	p->used++;
}

/* How it came to be in its state, when it did not begin in it. */
static void put_why(struct page *p, const struct view *v)
{
	char error[32];

	if (v->reason == BREAKER_REASON_NONE)
		return;
	(void) view_error(v->error_kind, v->error_code, error);
	put(p, "    %s%s%s%s", breaker_reason_name(v->reason),
	    *error != '\0' ? ", last error " : "",
	    error, v->totals.probes_lost > 0 ? ", probes were lost" : "");
}

/* The settings that somebody chose, as many on a line as fit. */
static void put_settings(struct page *p, const struct view *v)
{
	char line[WIDTH - 3], one[WIDTH - 3];
	struct text t = text_in(line, sizeof(line));

	for (int key = 0; v->set && key < CONFIG_KEYS; key++) {
		char value[40];
		struct text o = text_in(one, sizeof(one));

		if (v->sources[key] == CONFIG_BUILT_IN)
			continue;
		(void) config_key_text(&v->policy, (enum config_key) key, value, sizeof(value));
		text_add(&o, config_key_name((enum config_key) key));
		text_add(&o, " ");
		text_add(&o, value);
		text_add(&o, " (");
		text_add(&o, config_source_name(v->sources[key]));
		text_add(&o, ")");
		if (t.used > 0 && t.used + 2 + o.used >= sizeof(line)) {
			put(p, "    %s", line);
			t = text_in(line, sizeof(line));
		}
		text_add(&t, t.used > 0 ? ", " : "");
		text_add(&t, one);
	}
	if (t.used > 0)
		put(p, "    %s", line);
}

static void put_breakers(struct page *p, const struct shelf_service *s)
{
	struct view *const views = take(STATE_SLOTS, sizeof(*views));
	const size_t n = view_breakers(s, views);

	if (n > 0)
		put(p, "  %-*s %-9s %5s %5s %5s %5s %7s %5s %5s", PEER_WIDTH, "PEER", "STATE",
		    "OK", "FAIL", "EXCL", "ROW", "REFUSED", "FOR", "RETRY");
	else
		put(p, "  no breaker yet");
	for (size_t i = 0; i < n; i++) {
		put_row(p, s, &views[i]);
		put_why(p, &views[i]);
		put_settings(p, &views[i]);
	}
	free(views);
}

/* How much of @s stands on a line: broken at a blank, if one comes late enough. */
static size_t line_of(const char *s, size_t width)
{
	const size_t fits = view_bytes(s, width);
	size_t n = fits;

	if (s[fits] == '\0')
		return fits;
	while (n > fits / 2 && s[n] != ' ')
		n--;
	return n > fits / 2 ? n : fits;
}

static void put_problems(struct page *p, const struct shelf_service *s)
{
	char(*const problems)[VIEW_PROBLEM_SIZE] = take(VIEW_PROBLEMS_MAX, sizeof(*problems));
	const size_t n = view_problems(s, problems);

	for (size_t i = 0; i < n; i++) {
		/* Whole, however long: the end of a problem names the cure. */
		const char *rest = problems[i];
		const char *lead = "  ! ";

		do {
			const size_t length = line_of(rest, WIDTH - 4);

			put(p, "%s%.*s", lead, (int) length, rest);
			rest += length;
			rest += *rest == ' ';
			lead = "    ";
		} while (*rest != '\0');
	}
	free(problems);
}

/* Problems have lines of their own, and stacks theirs. */
static bool in_list(const struct event *e)
{
	return e->kind != EVENT_STACK && e->kind != EVENT_CONFIG_ERROR &&
	       e->kind != EVENT_STATE_PRIVATE;
}

static void put_events(struct page *p, const struct shelf_service *s)
{
	const size_t wanted = p->o->alone ? 10 : 3;
	size_t from = s->n_events, n = 0;

	while (from > 0 && n < wanted)
		n += in_list(&s->events[--from]);
	for (size_t i = from; i < s->n_events; i++) {
		char when[32], what[EVENT_TEXT_SIZE + 128];

		if (!in_list(&s->events[i]))
			continue;
		view_clock(s->events[i].wall_ns, when, sizeof(when), "%m-%d %H:%M:%S");
		put(p, "  %s %s", when, view_event(&s->events[i], what, sizeof(what)));
	}
	if (s->events_lost > 0 && p->o->alone)
		put(p, "  %llu older events are gone", (unsigned long long) s->events_lost);
}

static void put_frame(struct page *p, const struct stack_frame *frame)
{
	const char *const slash = strrchr(frame->module, '/');
	const char *const module = slash != NULL ? slash + 1 : frame->module;

	if (frame->symbol[0] != '\0')
		put(p, "      %s+0x%llx (%s)", frame->symbol, (unsigned long long) frame->delta,
		    module);
	else
		put(p, "      0x%llx (%s)", (unsigned long long) frame->offset, module);
}

static void put_stacks(struct page *p, const struct shelf_service *s)
{
	struct stack *const stack = take(1, sizeof(*stack));
	size_t at = 0;

	for (int i = 0; i < STACKS_MAX && stack_next(s, &at, stack); i++) {
		char when[32], what[EVENT_TEXT_SIZE + 128] = "an event that is gone";

		view_clock(stack->wall_ns, when, sizeof(when), "%m-%d %H:%M:%S");
		if (stack->event != NULL)
			(void) view_event(stack->event, what, sizeof(what));
		put(p, "    stack of pid %u, %s: %s", stack->pid, when, what);
		for (size_t k = 0; k < stack->n_frames; k++)
			put_frame(p, &stack->frames[k]);
		if (!stack->whole)
			put(p, "      (the rest has been overwritten)");
	}
	free(stack);
}

static void put_service(struct page *p, const struct shelf_service *s)
{
	char created[64], creator[SEGMENT_CREATOR_SIZE + 1];
	enum policy_mode mode;
	const bool ordered = view_control(s, &mode);
	const bool known = view_mode(s, &mode);

	view_clock(s->header.created_wall_ns, created, sizeof(created), "%Y-%m-%d %H:%M");
	put(p, "%s  %s%s, user %s, since %s, %s", s->name,
	    known ? policy_mode_name(mode) : "no call guarded yet",
	    ordered ? " (by agentshim)" : "", s->user, created,
	    view_shown(s->header.creator, sizeof(s->header.creator), creator, sizeof(creator)));
	put_breakers(p, s);
	put_problems(p, s);
	put_events(p, s);
	if (p->o->stacks)
		put_stacks(p, s);
}

void status_print_text(FILE *f, const struct shelf *shelf, const struct status_options *o,
		       uint64_t now)
{
	struct page p = { .f = f, .o = o, .now = now };

	if (shelf->n_services == 0)
		put(&p, "No service in %s. Start one with: agentshim run -- COMMAND",
		    shelf->looked_in);
	for (size_t i = 0; i < shelf->n_services; i++) {
		if (i > 0)
			put(&p, "%s", "");
		put_service(&p, &shelf->services[i]);
	}
	if (p.hidden > 0)
		(void) fprintf(f, "(%u more lines: name a SERVICE, or use a taller window)\n",
			       p.hidden);
}
