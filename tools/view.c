/* SPDX-License-Identifier: Apache-2.0 */
/* Reading breakers, modes and problems out of copies. */
#include "tools/view.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/span.h"
#include "core/text.h"

/* Is @text, an event's, the peer @shown? A long peer is cut in the event. */
static bool same_peer(const char *text, const char *shown)
{
	const size_t n = strnlen(text, EVENT_TEXT_SIZE);

	for (size_t i = 0; i < n; i++) {
		const bool tame = text[i] >= ' ' && text[i] < 0x7f;

		if (shown[i] == '\0' || shown[i] != (tame ? text[i] : '?'))
			return false;
	}
	return shown[n] == '\0' || n + 8 >= EVENT_TEXT_SIZE - 1;
}

static const struct event *find_opening(const struct shelf_service *s, const struct view *v)
{
	for (size_t i = s->n_events; i > 0; i--) {
		const struct event *const e = &s->events[i - 1];

		if (e->kind == EVENT_STATE_CHANGE && e->to == BREAKER_OPEN &&
		    e->generation == v->since && same_peer(e->text, v->peer))
			return e;
	}
	return NULL;
}

/*
 * The copy was not taken in one instant: a peer whose bytes do not give the slot's hash was
 * just then being replaced by another.
 */
static bool torn(const struct state_slot *slot)
{
	char peer[STATE_PEER_SIZE];

	for (size_t i = 0; i < STATE_PEER_SIZE / 8; i++) {
		const uint64_t word = atomic_load_explicit(&slot->peer[i], memory_order_relaxed);

		memcpy(peer + 8 * i, &word, 8);
	}
	peer[STATE_PEER_SIZE - 1] = '\0';
	return state_peer_hash(peer) != atomic_load_explicit(&slot->hash, memory_order_relaxed);
}

static void look(const struct shelf_service *s, const struct state_slot *slot, struct view *v)
{
	const struct breaker *const b = &slot->breaker;
	const uint64_t error = atomic_load_explicit(&slot->last_error, memory_order_relaxed);

	v->state = breaker_peek(b, &v->since, &v->counts);
	v->totals = breaker_totals(b);
	v->reason = breaker_last_reason(b);
	v->used_at = atomic_load_explicit(&slot->used_at, memory_order_relaxed);
	v->error_kind = (uint8_t) (error >> 32);
	v->error_code = (uint32_t) error;
	for (int from = 0; from < BREAKER_STATES; from++)
		for (int to = 0; to < BREAKER_STATES; to++)
			v->changes[from][to] = breaker_changes(b, (enum breaker_state) from,
							       (enum breaker_state) to);
	v->set = state_settings(slot, &v->policy, v->sources);
	v->opened = v->state == BREAKER_OPEN ? find_opening(s, v) : NULL;
}

static int by_urgency(const void *a, const void *b)
{
	const struct view *const x = a, *const y = b;

	return x->state != y->state ? (int) y->state - (int) x->state : strcmp(x->peer, y->peer);
}

size_t view_breakers(const struct shelf_service *s, struct view *views)
{
	size_t n = 0;

	for (uint32_t i = 0; i < STATE_SLOTS; i++) {
		struct state_ref ref;

		if (!state_read(s->state, i, views[n].peer, &ref) || torn(&s->state->slots[i]))
			continue;
		look(s, &s->state->slots[i], &views[n]);
		n++;
	}
	qsort(views, n, sizeof(*views), by_urgency);
	return n;
}

bool view_retry(const struct view *v, uint64_t now, uint64_t *ret_ns)
{
	if (v->state != BREAKER_OPEN || (v->opened == NULL && !v->set))
		return false;

	const uint64_t open_ns = v->opened != NULL ? v->opened->open_ns : v->policy.timeout_ns;
	const uint64_t gone = clock_since(v->since, now);

	*ret_ns = gone < open_ns ? open_ns - gone : 0;
	return true;
}

bool view_control(const struct shelf_service *s, enum policy_mode *ret_mode)
{
	const uint32_t control = atomic_load_explicit(&s->header.control, memory_order_relaxed);

	if (control == 0 || control > 1 + POLICY_FORCED_CLOSED)
		return false;
	*ret_mode = (enum policy_mode) (control - 1);
	return true;
}

bool view_mode(const struct shelf_service *s, enum policy_mode *ret_mode)
{
	bool controlled = false, known = false;

	if (view_control(s, ret_mode))
		return true;
	for (size_t i = 0; i < s->n_events; i++) {
		const struct event *const e = &s->events[i];

		if (e->kind == EVENT_MODE_CHANGED) {
			controlled = e->text[0] != '\0';
		} else if (!controlled && e->mode <= POLICY_FORCED_CLOSED &&
			   (e->kind == EVENT_STATE_CHANGE || e->kind == EVENT_CALL_REJECTED ||
			    e->kind == EVENT_BREAKER_CREATED)) {
			*ret_mode = (enum policy_mode) e->mode;
			known = true;
		}
	}
	return known;
}

static size_t add_problem(char (*problems)[VIEW_PROBLEM_SIZE], size_t n, const char *text,
			  size_t length)
{
	char shown[VIEW_PROBLEM_SIZE];
	struct text t = text_in(shown, sizeof(shown));

	text_add_shown(&t, text, length);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(problems[i], shown) == 0)
			return n;
	}
	if (n == VIEW_PROBLEMS_MAX)
		return n;
	memcpy(problems[n], shown, sizeof(shown));
	return n + 1;
}

size_t view_problems(const struct shelf_service *s, char (*problems)[VIEW_PROBLEM_SIZE])
{
	const uint64_t full = atomic_load_explicit(&s->state->full, memory_order_relaxed);
	size_t n = 0;

	if (!s->timed)
		n = add_problem(problems, n, "of an earlier boot or another time namespace: "
					     "its instants mean nothing here", SIZE_MAX);
	if (full > 0) {
		char buf[VIEW_PROBLEM_SIZE];
		struct text t = text_in(buf, sizeof(buf));

		text_add_u64(&t, full);
		text_add(&t, " calls went unguarded: no place for another peer");
		n = add_problem(problems, n, buf, sizeof(buf));
	}
	for (size_t i = 0; i < s->n_events; i++) {
		const struct event *const e = &s->events[i];

		if (e->kind == EVENT_CONFIG_ERROR || e->kind == EVENT_STATE_PRIVATE)
			n = add_problem(problems, n, e->text, sizeof(e->text));
	}
	return n;
}

const char *view_error(uint8_t kind, uint32_t code, char *buf)
{
	struct text t = text_in(buf, 32);
	const char *const name =
		kind == EVENT_ERROR_LOCAL_ORIGIN ? event_errno_name((int) code) : NULL;

	if (name != NULL)
		text_add(&t, name);
	else if (kind != EVENT_ERROR_NONE)
		text_add_u64(&t, code);
	return buf;
}

/* ---- for people ---- */

/* Characters, not bytes: what continues a UTF-8 sequence takes no column. */
size_t view_columns(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char) *s & 0xc0) != 0x80;
	return n;
}

/* The byte at which column @n begins. */
size_t view_bytes(const char *s, size_t n)
{
	size_t at = 0;

	for (; s[at] != '\0'; at++) {
		if (((unsigned char) s[at] & 0xc0) != 0x80 && n-- == 0)
			break;
	}
	return at;
}

const char *view_shown(const char *s, size_t size, char *buf, size_t buf_size)
{
	struct text t = text_in(buf, buf_size);

	text_add_shown(&t, s, size);
	return buf;
}

/* At most five characters: "950ms", "27.1s", "12m", "3h", "400d". */
const char *view_short_time(uint64_t ns, char *buf)
{
	const uint64_t s = ns / NS_PER_S;

	if (ns < NS_PER_S)
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%ums", (unsigned) (ns / NS_PER_MS));
	else if (s < 100)
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%u.%us", (unsigned) s,
				(unsigned) (ns / (NS_PER_S / 10) % 10));
	else if (s < 100 * 60)
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%um", (unsigned) (s / 60));
	else if (s < 100 * 3600)
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%uh", (unsigned) (s / 3600));
	else
		(void) snprintf(buf, VIEW_SHORT_SIZE, "%ud", (unsigned) (s / 86400 % 10000));
	return buf;
}

void view_clock(uint64_t wall_ns, char *buf, size_t size, const char *format)
{
	const time_t t = (time_t) (wall_ns / NS_PER_S);
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL || strftime(buf, size, format, &tm) == 0)
		(void) snprintf(buf, size, "?");
}

const char *view_event(const struct event *e, char *buf, size_t size)
{
	char error[32], text[EVENT_TEXT_SIZE + 1];

	(void) view_shown(e->text, sizeof(e->text), text, sizeof(text));
	switch (e->kind) {
	case EVENT_STATE_CHANGE:
		(void) view_error(e->error_kind, e->error_code, error);
		(void) snprintf(buf, size, "%s %s > %s, %s%s%s", text,
				breaker_state_name((enum breaker_state) e->from),
				breaker_state_name((enum breaker_state) e->to),
				breaker_reason_name((enum breaker_reason) e->reason),
				*error != '\0' ? ", " : "", error);
		break;
	case EVENT_CALL_REJECTED:
		(void) snprintf(buf, size, "%s refused %llu%s", text, (unsigned long long) e->n,
				e->mode == POLICY_OBSERVE ? " (only observed)" : "");
		break;
	case EVENT_MODE_CHANGED:
		(void) snprintf(buf, size, "mode set to %s", *text != '\0' ? text : "its own");
		break;
	default: /* the rest say what they are and their text */
		(void) snprintf(buf, size, "%s %s", text,
				event_kind_name((enum event_kind) e->kind));
		break;
	}
	return buf;
}

const char *view_result(const struct event *e, char *buf)
{
	const char *const error = span_error_name(e->span.error);
	struct text t = text_in(buf, VIEW_RESULT_SIZE);

	if (e->span.status != 0)
		text_add_u64(&t, e->span.status);
	if (error != NULL) {
		text_add(&t, t.used > 0 ? " " : "");
		text_add(&t, error);
	}
	return buf;
}

const char *view_operation(const struct event *e, char *buf, size_t size)
{
	char raw[EVENT_TEXT_SIZE + 8];
	struct text t = text_in(raw, sizeof(raw));

	span_operation(e, &t);
	return view_shown(raw, sizeof(raw), buf, size);
}

const char *view_span(const struct event *e, char *buf, size_t size)
{
	char operation[EVENT_TEXT_SIZE + 8], result[VIEW_RESULT_SIZE];
	struct text t = text_in(buf, size);

	text_add(&t, span_kind_name(e->span.kind));
	text_add(&t, " ");
	text_add(&t, view_operation(e, operation, sizeof(operation)));
	text_add(&t, " ");
	text_add(&t, view_result(e, result));
	text_add(&t, *result != '\0' ? " " : "");
	text_add_ms(&t, e->span.duration_ns);
	text_add(&t, "ms trace ");
	span_trace_id(e, &t);
	return buf;
}

bool view_in_colour(void)
{
	const char *const no = secure_getenv("NO_COLOR");
	const char *const term = secure_getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && (no == NULL || *no == '\0') &&
	       term != NULL && strcmp(term, "dumb") != 0;
}
