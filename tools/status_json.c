/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim status --json`: one object on one line. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "tools/stacks.h"
#include "tools/tool.h"
#include "tools/view.h"

/* The longest string of ours, a path, with every byte escaped, and its key. */
#define PIECE_SIZE (TEXT_JSON_GROWTH * PATH_MAX + 128)

static void put_string(FILE *f, const char *lead, const char *value)
{
	char buf[PIECE_SIZE];
	struct text t = text_in(buf, sizeof(buf));

	text_add_json(&t, value);
	(void) fprintf(f, "%s%s", lead, buf);
}

static void put_u64(FILE *f, const char *lead, uint64_t value)
{
	char buf[32];
	struct text t = text_in(buf, sizeof(buf));

	text_add_u64(&t, value);
	(void) fprintf(f, "%s%s", lead, buf);
}

static void put_ms(FILE *f, const char *lead, uint64_t ns)
{
	char buf[32];
	struct text t = text_in(buf, sizeof(buf));

	text_add_ms(&t, ns);
	(void) fprintf(f, "%s%s", lead, buf);
}

static void put_changes(FILE *f, const struct view *v)
{
	const char *comma = "";

	(void) fputs(",\"changes\":{", f);
	for (int from = 0; from < BREAKER_STATES; from++) {
		for (int to = 0; to < BREAKER_STATES; to++) {
			if (v->changes[from][to] == 0)
				continue;
			(void) fprintf(f, "%s\"%s>%s\":%u", comma,
				       breaker_state_name((enum breaker_state) from),
				       breaker_state_name((enum breaker_state) to),
				       v->changes[from][to]);
			comma = ",";
		}
	}
	(void) fputs("}", f);
}

static void put_times(FILE *f, const struct view *v, uint64_t now)
{
	uint64_t retry;

	if (v->state == BREAKER_OPEN)
		put_ms(f, ",\"open_for_ms\":", clock_since(v->since, now));
	if (view_retry(v, now, &retry))
		put_ms(f, ",\"retry_in_ms\":", retry);
	put_ms(f, ",\"state_for_ms\":", clock_since(v->since, now));
	put_ms(f, ",\"last_used_ms\":", clock_since(v->used_at, now));
}

static void put_settings(FILE *f, const struct view *v)
{
	(void) fputs(",\"settings\":{", f);
	for (int key = 0; key < CONFIG_KEYS; key++) {
		char value[64];

		(void) config_key_text(&v->policy, (enum config_key) key, value, sizeof(value));
		(void) fprintf(f, "%s\"%s\":{", key > 0 ? "," : "",
			       config_key_name((enum config_key) key));
		put_string(f, "\"value\":", value);
		put_string(f, ",\"from\":", config_source_name(v->sources[key]));
		(void) fputs("}", f);
	}
	(void) fputs("}", f);
}

static void put_breaker(FILE *f, const struct view *v, bool timed, uint64_t now)
{
	char error[32];

	put_string(f, "{\"peer\":", v->peer);
	put_string(f, ",\"state\":", breaker_state_name(v->state));
	put_string(f, ",\"reason\":", breaker_reason_name(v->reason));
	put_u64(f, ",\"generation\":", v->since);
	if (timed)
		put_times(f, v, now);
	if (*view_error(v->error_kind, v->error_code, error) != '\0')
		put_string(f, ",\"last_error\":", error);
	put_u64(f, ",\"counts\":{\"requests\":", v->counts.requests);
	put_u64(f, ",\"successes\":", v->counts.successes);
	put_u64(f, ",\"failures\":", v->counts.failures);
	put_u64(f, ",\"exclusions\":", v->counts.exclusions);
	put_u64(f, ",\"consecutive_successes\":", v->counts.consecutive_successes);
	put_u64(f, ",\"consecutive_failures\":", v->counts.consecutive_failures);
	put_u64(f, "},\"totals\":{\"successes\":", v->totals.successes);
	put_u64(f, ",\"failures\":", v->totals.failures);
	put_u64(f, ",\"exclusions\":", v->totals.exclusions);
	put_u64(f, ",\"refused\":", v->totals.refused);
	put_u64(f, ",\"stale\":", v->totals.stale);
	put_u64(f, ",\"probes_lost\":", v->totals.probes_lost);
	(void) fputs("}", f);
	put_changes(f, v);
	if (v->set)
		put_settings(f, v);
	(void) fputs("}", f);
}

static void put_breakers(FILE *f, const struct shelf_service *s, const struct status_options *o,
			 uint64_t now)
{
	struct view *const views = take(STATE_SLOTS, sizeof(*views));
	const size_t n = view_breakers(s, views);

	(void) fputs(",\"breakers\":[", f);
	for (size_t i = 0; i < n; i++) {
		(void) fputs(i > 0 ? "," : "", f);
		put_breaker(f, &views[i], s->timed && !o->timeless, now);
	}
	(void) fputs("]", f);
	free(views);
}

static void put_problems(FILE *f, const struct shelf_service *s)
{
	char(*const problems)[VIEW_PROBLEM_SIZE] = take(VIEW_PROBLEMS_MAX, sizeof(*problems));
	const size_t n = view_problems(s, problems);

	(void) fputs(",\"problems\":[", f);
	for (size_t i = 0; i < n; i++)
		put_string(f, i > 0 ? "," : "", problems[i]);
	(void) fputs("]", f);
	free(problems);
}

/* Parts of stacks are not shown as events: --stacks puts them together. */
static void put_events(FILE *f, const struct shelf_service *s)
{
	const char *comma = "";

	(void) fputs(",\"events\":[", f);
	for (size_t i = 0; i < s->n_events; i++) {
		char buf[EVENT_JSON_SIZE];
		struct text t = text_in(buf, sizeof(buf));

		if (s->events[i].kind == EVENT_STACK)
			continue;
		event_json(&s->events[i], s->name, &t);
		(void) fprintf(f, "%s%s", comma, buf);
		comma = ",";
	}
	put_u64(f, "],\"events_lost\":", s->events_lost);
}

static void put_frame(FILE *f, const struct stack_frame *frame)
{
	put_string(f, "{\"module\":", frame->module);
	(void) fprintf(f, ",\"offset\":\"0x%llx\"", (unsigned long long) frame->offset);
	if (frame->symbol[0] != '\0') {
		put_string(f, ",\"symbol\":", frame->symbol);
		put_u64(f, ",\"delta\":", frame->delta);
	}
	(void) fputs("}", f);
}

static void put_stacks(FILE *f, const struct shelf_service *s)
{
	struct stack *const stack = take(1, sizeof(*stack));
	const char *comma = "";
	size_t at = 0;

	(void) fputs(",\"stacks\":[", f);
	while (stack_next(s, &at, stack)) {
		(void) fputs(comma, f);
		put_u64(f, "{\"of\":", stack->id);
		put_u64(f, ",\"pid\":", stack->pid);
		if (stack->event != NULL) {
			put_string(f, ",\"event\":",
				   event_kind_name((enum event_kind) stack->event->kind));
			put_string(f, ",\"breaker\":", stack->event->text);
		}
		(void) fprintf(f, ",\"whole\":%s,\"frames\":[", stack->whole ? "true" : "false");
		for (size_t i = 0; i < stack->n_frames; i++) {
			(void) fputs(i > 0 ? "," : "", f);
			put_frame(f, &stack->frames[i]);
		}
		(void) fputs("]}", f);
		comma = ",";
	}
	(void) fputs("]", f);
	free(stack);
}

static void put_mode(FILE *f, const struct shelf_service *s)
{
	enum policy_mode mode;

	if (view_mode(s, &mode))
		put_string(f, ",\"mode\":", policy_mode_name(mode));
	else
		(void) fputs(",\"mode\":null", f);
	if (view_control(s, &mode))
		put_string(f, ",\"control\":", policy_mode_name(mode));
	else
		(void) fputs(",\"control\":null", f);
}

static void put_service(FILE *f, const struct shelf_service *s, const struct status_options *o,
			uint64_t now)
{
	char created[64];
	struct text t = text_in(created, sizeof(created));

	text_add_time(&t, s->header.created_wall_ns);
	put_string(f, "{\"service\":", s->name);
	put_string(f, ",\"file\":", s->path);
	put_string(f, ",\"user\":", s->user);
	put_mode(f, s);
	put_string(f, ",\"created\":", created);
	put_string(f, ",\"creator\":", s->header.creator);
	put_breakers(f, s, o, now);
	put_problems(f, s);
	put_events(f, s);
	if (o->stacks)
		put_stacks(f, s);
	(void) fputs("}", f);
}

void status_print_json(FILE *f, const struct shelf *shelf, const struct status_options *o,
		       uint64_t now)
{
	(void) fputs("{\"services\":[", f);
	for (size_t i = 0; i < shelf->n_services; i++) {
		(void) fputs(i > 0 ? "," : "", f);
		put_service(f, &shelf->services[i], o, now);
	}
	(void) fputs("],\"skipped\":[", f);
	for (size_t i = 0; i < shelf->n_skipped; i++) {
		put_string(f, i > 0 ? ",{\"file\":" : "{\"file\":", shelf->skipped[i].path);
		put_string(f, ",\"reason\":", shelf->skipped[i].reason);
		(void) fputs("}", f);
	}
	(void) fputs("]}\n", f);
}
