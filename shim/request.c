/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of requests in progress, and where their ids come from. */
#include "shim/request.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/metrics.h"
#include "shim/blob.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/pool.h"
#include "shim/raw.h"
#include "shim/report.h"
#include "shim/shared.h"

#define CHUNK_BITS      5
#define CHUNKS          2048 /* 65,536 requests at once; further ones go untraced */
#define STAGE_MASK      UINT32_C(3)
#define SEARCH_MAX      4096 /* places looked at for a parent: some 10 us */
#define TAGS_MAX        1024 /* bytes of an own span's tags, names included */
#define TAG_KEY_MAX     68   /* a record cuts a key to 64, at a whole character */
#define TAG_VALUE_MAX   EVENT_TEXT_SIZE /* and a value to what is left of it */
#define MORE_MAX        8    /* records of tags; 2 KiB of the host's stack */

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct request, CHUNK_BITS);

/* Copied by fork, as what threads remember of it is. Relaxed: a number that is compared. */
static _Atomic uint32_t begun;
static _Atomic bool served;

static struct request *at(uint32_t place)
{
	return pool_at(&pool, place - 1);
}

/* ---- ids ---- */

static uint64_t mix(uint64_t x) /* splitmix64's finaliser */
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* The seed lies on the page that fork wipes, so that no child repeats its parent's ids. */
static uint64_t seed(void)
{
	uint64_t seen = atomic_load_explicit(&life->seed, memory_order_relaxed);
	uint64_t fresh = 0;

	if (seen != 0)
		return seen;
	if (raw_syscall(SYS_getrandom, (long) &fresh, sizeof(fresh), GRND_NONBLOCK, 0, 0, 0) !=
	    (long) sizeof(fresh))
		fresh = mix(clock_wall()) ^ mix(clock_now() + life_pid());
	fresh |= 1; /* 0 means none yet */
	return atomic_compare_exchange_strong_explicit(&life->seed, &seen, fresh,
						       memory_order_relaxed, memory_order_relaxed)
		       ? fresh
		       : seen;
}

/* The first of @n numbers that nobody else is given. */
static uint64_t draw(uint64_t n)
{
	return atomic_fetch_add_explicit(&life->drawn, n, memory_order_relaxed) + 1;
}

static uint64_t nth(uint64_t base, uint64_t n)
{
	return mix(base + n * UINT64_C(0x9e3779b97f4a7c15));
}

uint64_t request_random(void)
{
	const uint64_t base = seed();

	return nth(base, draw(1));
}

/* Never 0, which an id must not be. */
static void put_id(uint8_t *to, uint64_t base, uint64_t n)
{
	uint64_t bits = nth(base, n);

	while (bits == 0)
		bits = request_random();
	memcpy(to, &bits, sizeof(bits));
}

void request_ids(struct context *ret, const struct context *parent)
{
	const uint64_t base = seed();
	const uint64_t first = draw(3);

	if (parent != NULL && context_some(parent)) {
		*ret = *parent;
	} else {
		*ret = (struct context) { .flags = CONTEXT_RANDOM };
		put_id(ret->trace_id, base, first);
		put_id(ret->trace_id + 8, base, first + 1);
	}
	put_id(ret->span_id, base, first + 2);
}

/* ---- places ---- */

struct request_token request_begin(struct request **ret)
{
	uint32_t number;

	if (!pool_take(&pool, &number))
		return (struct request_token) { 0 };

	struct request *r = pool_at(&pool, number);
	const uint32_t generation =
		(atomic_load_explicit(&r->generation, memory_order_relaxed) + 1) | 1;

	r->pid = life_pid();
	atomic_store_explicit(&r->state, REQUEST_READING, memory_order_relaxed); /* not idle */
	r->reader = NULL;
	r->by_loop = r->blocking = false;
	r->recorded = false;
	r->context = (struct context) { 0 };
	r->came_with = (struct context) { 0 };
	r->owner = r->carrier = r->below = (struct request_token) { 0 };
	atomic_store_explicit(&r->beginner, NULL, memory_order_relaxed);
	r->method = HTTP1_OTHER;
	memset(r->lens, 0, sizeof(r->lens));
	r->raw_used = 0;
	r->blob = 0;
	/* Release: a token leads to a request that was laid out. */
	atomic_store_explicit(&r->generation, generation, memory_order_release);
	*ret = r;
	return (struct request_token) { number + 1, generation };
}

struct request_token request_token_of(uint32_t place)
{
	if (place == 0)
		return (struct request_token) { 0 };
	return (struct request_token) {
		place, atomic_load_explicit(&at(place)->generation, memory_order_acquire)
	};
}

struct request *request_at(struct request_token t)
{
	if (t.place == 0)
		return NULL;

	struct request *r = at(t.place);

	return atomic_load_explicit(&r->generation, memory_order_acquire) == t.generation ? r
											  : NULL;
}

/* Voids the token first: nobody copies from a place that is being given back unawares. */
static bool close_place(struct request *r, uint32_t generation)
{
	if (!atomic_compare_exchange_strong_explicit(&r->generation, &generation, generation + 1,
						     memory_order_acq_rel, memory_order_relaxed))
		return false;
	/*
	 * Release fence: whoever copies a byte that the next owner writes sees the token void
	 * behind. The exchange alone lets later stores pass it (aarch64 does). Pairs with the
	 * fence of request_still().
	 */
	atomic_thread_fence(memory_order_release);
	return true;
}

static void give_back(struct request_token t, struct request *r)
{
	blob_give(&r->blob);
	pool_give(&pool, t.place - 1);
}

void request_serves(struct request *r)
{
	r->reader = &guard;
	r->by_loop = guard.loops;
	guard.unanswered++;
	if (!request_has_served())
		atomic_store_explicit(&served, true, memory_order_relaxed);
	(void) atomic_fetch_add_explicit(&life->served_requests, 1, memory_order_relaxed);
	(void) atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed);
}

void request_owned(struct request *r)
{
	r->outer = !guard.loops;
	r->top = request_at(r->owner) == NULL;
	r->below = guard.own;
	if (r->top) {
		(void) atomic_fetch_add_explicit(&life->tops, 1, memory_order_relaxed);
		(void) atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed);
	}
	(void) atomic_fetch_add_explicit(&life->own_spans, 1, memory_order_relaxed);
	/* Release: request_abandon() of another thread looks at spans that are laid out. */
	atomic_store_explicit(&r->beginner, &guard, memory_order_release);
}

uint32_t request_own_count(void)
{
	return atomic_load_explicit(&life->own_spans, memory_order_relaxed);
}

bool request_is_own(const struct request *r)
{
	return atomic_load_explicit(&r->beginner, memory_order_acquire) != NULL;
}

/* A served request, or an own span, leaves the counts that it stood in. */
static void leave_counts(struct request *r)
{
	if (request_is_own(r) && r->pid == life_pid()) {
		(void) atomic_fetch_sub_explicit(&life->own_spans, 1, memory_order_relaxed);
		if (r->top)
			(void) atomic_fetch_sub_explicit(&life->tops, 1, memory_order_relaxed);
	}
	if (r->reader == NULL || r->pid != life_pid())
		return;
	if (r->reader == &guard && guard.unanswered > 0)
		guard.unanswered--;
	request_stage_set(r, REQUEST_ANSWERING);
	(void) atomic_fetch_sub_explicit(&life->served_requests, 1, memory_order_relaxed);
}

static void count(const struct request *r, uint64_t ns)
{
	struct metrics *m = shared_metrics();
	const struct event *e = &r->span;
	const unsigned stripe = life_pid();
	const bool root = (e->span.bits & SPAN_HAS_PARENT) == 0 ||
			  (e->span.bits & SPAN_PARENT_REMOTE) != 0;
	static const enum metrics_counter by_kind[] = {
		[SPAN_INTERNAL] = METRICS_SPANS_INTERNAL,
		[SPAN_SERVER] = METRICS_SPANS_SERVER,
		[SPAN_CLIENT] = METRICS_SPANS_CLIENT,
	};

	if (m == NULL)
		return;
	metrics_add(m, stripe, by_kind[e->span.kind], 1);
	if (e->span.kind == SPAN_SERVER)
		metrics_observe(m, stripe, METRICS_SERVER_DURATION, ns);
	else if (e->span.kind == SPAN_CLIENT)
		metrics_observe(m, stripe, METRICS_CLIENT_DURATION, ns);
	if (root)
		metrics_add(m, stripe, METRICS_ROOTS_COMPLETED, 1);
	if (e->span.result != SPAN_ERROR)
		return;
	metrics_add(m, stripe, METRICS_SPANS_ERROR, 1);
	if (root)
		metrics_add(m, stripe, METRICS_ROOTS_ERROR, 1);
}

/* The next pair of tags at *@at; false when there are no more. */
static bool next_tag(struct propagate_value tags, size_t *at, const char **ret_key,
		     const char **ret_value)
{
	if (*at >= tags.len)
		return false;
	*ret_key = tags.at + *at;
	*ret_value = *ret_key + strlen(*ret_key) + 1;
	*at += (size_t) (*ret_value - *ret_key) + strlen(*ret_value) + 1;
	return true;
}

/* In a frame of its own: those without tags need not have the room. */
static void __attribute__((noinline)) tell_tagged(struct request *r)
{
	const struct propagate_value tags = request_value(r, REQUEST_TAGS);
	struct event more[MORE_MAX];
	const char *key, *value;
	size_t n = 0, at = 0;

	r->span.span.bits |= SPAN_MORE_FOLLOWS;
	span_more_begin(&more[0], &r->span);
	while (next_tag(tags, &at, &key, &value)) {
		if (span_more_add(&more[n], key, value, strlen(value)))
			continue;
		if (++n == MORE_MAX)
			break;
		span_more_begin(&more[n], &r->span);
		(void) span_more_add(&more[n], key, value, strlen(value));
	}
	report_span_more(&r->span, more, n < MORE_MAX ? n + 1 : MORE_MAX);
}

/* With what there was no place for in the record. */
static void tell(struct request *r)
{
	const struct propagate_value query = request_value(r, REQUEST_QUERY);
	const struct propagate_value foreign = request_value(r, REQUEST_FOREIGN);
	struct event more;

	r->span.pid = r->pid;
	if (request_is_own(r)) { /* its thread is the one that began it */
		if (request_value(r, REQUEST_TAGS).len > 0)
			tell_tagged(r);
		else
			report_span(&r->span);
		return;
	}
	r->span.tid = life_tid();
	if (query.len == 0 && foreign.len == 0) {
		report_span(&r->span);
		return;
	}
	r->span.span.bits |= SPAN_MORE_FOLLOWS;
	span_more_begin(&more, &r->span);
	if (foreign.len > 0)
		(void) span_more_add(&more, "x-trace-id", foreign.at, foreign.len);
	if (query.len > 0)
		(void) span_more_add(&more, "url.query", query.at, query.len);
	report_span_more(&r->span, &more, 1);
}

/* Voids the token; the place is the caller's alone until it gives it back. NULL: void before. */
static struct request *take_out(struct request_token t)
{
	struct request *r = request_at(t);

	if (r == NULL || !close_place(r, t.generation))
		return NULL;
	leave_counts(r);
	request_call(r->owner, -1);
	return r;
}

void request_end(struct request_token t, uint16_t status, enum span_error error, uint64_t now)
{
	struct request *r = take_out(t);

	if (r == NULL)
		return;
	if (r->pid == life_pid()) { /* else its parent's to tell */
		span_end(&r->span, status, error, now);
		count(r, r->span.span.duration_ns);
		if (r->recorded)
			tell(r);
	}
	give_back(t, r);
}

void request_drop(struct request_token t)
{
	struct request *r = take_out(t);

	if (r != NULL)
		give_back(t, r);
}

/* The request in the pool's @number-th place; NULL when it is free. */
static const struct request *in_progress(uint32_t number, struct request_token *ret_token)
{
	if (!pool_ready(&pool, number))
		return NULL;

	const struct request *r = pool_at(&pool, number);
	const uint32_t generation = atomic_load_explicit(&r->generation, memory_order_acquire);

	*ret_token = (struct request_token) { number + 1, generation };
	return (generation & 1) != 0 ? r : NULL;
}

void request_abandon(bool (*left)(const struct request *r))
{
	const uint32_t n = pool_used(&pool);

	for (uint32_t i = 0; i < n; i++) {
		struct request_token t;
		const struct request *r = in_progress(i, &t);

		if (r != NULL && request_is_own(r) && r->pid == life_pid() && left(r))
			request_end(t, 0, SPAN_ABANDONED, clock_now());
	}
}

/* ---- whom it is made for ---- */

struct request_token request_carrier(struct request_token of)
{
	const struct request *r = request_at(of);
	const struct request_token carrier = r == NULL	? (struct request_token) { 0 }
					     : request_is_own(r) ? r->carrier
							: of;

	return r != NULL && request_still(r, of) ? carrier : (struct request_token) { 0 };
}

void request_for(struct request *r, struct request_token owner)
{
	r->owner = owner;
	r->carrier = request_carrier(owner);
	request_call(owner, +1);
}

struct request_token request_owner(const struct request *r)
{
	return request_at(r->owner) != NULL ? r->owner : r->carrier;
}

/* ---- values ---- */

static char *raw_of(struct request *r)
{
	return r->blob != 0 ? blob_at(r->blob) : r->raw;
}

static bool make_room(struct request *r, size_t len)
{
	uint32_t blob = 0;

	if (r->raw_used + len <= (r->blob != 0 ? BLOB_SIZE : REQUEST_RAW_SIZE))
		return true;
	if (r->blob != 0 || len > (size_t) (BLOB_SIZE - r->raw_used) || blob_get(&blob) == NULL)
		return false;
	memcpy(blob_get(&blob), r->raw, r->raw_used);
	r->blob = blob;
	return true;
}

/* Values lie one behind the other, so each is noted before those of higher numbers. */
static bool in_order(const struct request *r, enum request_value which)
{
	for (unsigned i = which; i < REQUEST_VALUES; i++)
		if (r->lens[i] != 0)
			return false;
	return true;
}

bool request_keep(struct request *r, enum request_value which, const char *at_bytes, size_t len)
{
	if (len == 0 || len > UINT16_MAX || !in_order(r, which) || !make_room(r, len))
		return false;
	memcpy(raw_of(r) + r->raw_used, at_bytes, len);
	r->raw_used = (uint16_t) (r->raw_used + len);
	r->lens[which] = (uint16_t) len;
	return true;
}

bool request_keep_joined(struct request *r, enum request_value which,
			 bool (*join)(const struct propagate_value *lines, unsigned n,
				      struct text *out),
			 const struct propagate_value *lines, unsigned n)
{
	size_t most = 1; /* a NUL, which is not kept */

	for (unsigned i = 0; i < n; i++)
		most += lines[i].len + 1;
	if (!in_order(r, which) || !make_room(r, most))
		return false;

	const size_t size = r->blob != 0 ? BLOB_SIZE : REQUEST_RAW_SIZE;
	struct text t = text_in(raw_of(r) + r->raw_used, size - r->raw_used);

	if (!join(lines, n, &t))
		return false;
	r->raw_used = (uint16_t) (r->raw_used + t.used);
	r->lens[which] = (uint16_t) t.used;
	return true;
}

/* Tags are the last of the values, so that they may grow and shrink. */
static void drop_tag(struct request *r, const char *key)
{
	const struct propagate_value tags = request_value(r, REQUEST_TAGS);
	const char *found, *value;
	size_t at = 0, before = 0;

	for (; next_tag(tags, &at, &found, &value); before = at) {
		if (strcmp(found, key) != 0)
			continue;
		memmove((char *) tags.at + before, tags.at + at, tags.len - at);
		r->lens[REQUEST_TAGS] = (uint16_t) (tags.len - (at - before));
		r->raw_used = (uint16_t) (r->raw_used - (at - before));
		return;
	}
}

bool request_tag(struct request *r, const char *key, const char *value)
{
	const size_t n_key = strnlen(key, TAG_KEY_MAX), n_value = strnlen(value, TAG_VALUE_MAX);
	const size_t need = n_key + n_value + 2;
	char kept[TAG_KEY_MAX + 1];
	char *to;

	memcpy(kept, key, n_key);
	kept[n_key] = '\0';
	drop_tag(r, kept);
	if (n_key == 0 || r->lens[REQUEST_TAGS] + need > TAGS_MAX || !make_room(r, need))
		return false;
	to = raw_of(r) + r->raw_used;
	memcpy(to, kept, n_key + 1);
	memcpy(to + n_key + 1, value, n_value);
	to[need - 1] = '\0';
	r->raw_used = (uint16_t) (r->raw_used + need);
	r->lens[REQUEST_TAGS] = (uint16_t) (r->lens[REQUEST_TAGS] + need);
	return true;
}

struct propagate_value request_value(const struct request *r, enum request_value which)
{
	/* Once: it may end, and its place be another's, while we look; see request_still(). */
	const uint32_t blob = __atomic_load_n(&r->blob, __ATOMIC_RELAXED);
	const size_t len = __atomic_load_n(&r->lens[which], __ATOMIC_RELAXED);
	const size_t size = blob != 0 ? BLOB_SIZE : REQUEST_RAW_SIZE;
	size_t offset = 0;

	for (unsigned i = 0; i < (unsigned) which; i++)
		offset += r->lens[i];
	if (len == 0 || offset + len > size)
		return (struct propagate_value) { 0 };
	return (struct propagate_value) { (blob != 0 ? blob_at(blob) : r->raw) + offset, len };
}

/* ---- who is it for ---- */

static bool same_caller(const struct context *a, const struct context *b)
{
	return memcmp(a->trace_id, b->trace_id, sizeof(a->trace_id)) == 0 &&
	       memcmp(a->span_id, b->span_id, sizeof(a->span_id)) == 0;
}

struct request_token request_by_parent(const struct context *came_with, struct request_token likely)
{
	const struct request *first = request_at(likely);
	struct request_token found = { 0 };
	uint32_t n = pool_used(&pool);

	if (first != NULL && same_caller(&first->came_with, came_with))
		return likely;

	if (n > SEARCH_MAX)
		n = SEARCH_MAX;
	for (uint32_t i = 0; i < n; i++) {
		struct request_token t;
		const struct request *r = in_progress(i, &t);

		if (r == NULL || !context_some(&r->came_with) ||
		    !same_caller(&r->came_with, came_with))
			continue;
		if (found.place != 0) /* tried again while the first try lasts: one or the other */
			return (struct request_token) { 0 };
		found = t;
	}
	return found;
}

static bool stands_idle(uint32_t state)
{
	return state == REQUEST_IDLE; /* and no call */
}

/* Moves the state of a served request, and the count of idle ones with it. */
static void move(struct request *r, uint32_t (*next)(uint32_t state, int arg), int arg)
{
	uint32_t seen = atomic_load_explicit(&r->state, memory_order_relaxed);
	uint32_t to;

	/* Relaxed: a number that is compared, it orders nothing. */
	do {
		to = next(seen, arg);
		if (to == seen)
			return;
	} while (!atomic_compare_exchange_weak_explicit(&r->state, &seen, to,
							memory_order_relaxed,
							memory_order_relaxed));
	if (stands_idle(to) && !stands_idle(seen))
		atomic_fetch_add_explicit(&life->idle_requests, 1, memory_order_relaxed);
	else if (stands_idle(seen) && !stands_idle(to))
		atomic_fetch_sub_explicit(&life->idle_requests, 1, memory_order_relaxed);
}

static uint32_t with_stage(uint32_t state, int stage)
{
	return (state & ~STAGE_MASK) | (uint32_t) stage;
}

static uint32_t with_call(uint32_t state, int difference)
{
	return state + (uint32_t) difference * (STAGE_MASK + 1);
}

void request_stage_set(struct request *r, enum request_stage stage)
{
	move(r, with_stage, (int) stage);
}

void request_call(struct request_token of, int difference)
{
	struct request *r = request_at(of);

	if (r != NULL && r->pid == life_pid()) /* a child counts nothing of its parent's */
		move(r, with_call, difference);
}

enum request_stage request_stage(const struct request *r)
{
	return (enum request_stage) (atomic_load_explicit(&r->state, memory_order_relaxed) &
				     STAGE_MASK);
}

bool request_is_idle(const struct request *r)
{
	return stands_idle(atomic_load_explicit(&r->state, memory_order_relaxed));
}

uint32_t request_idle_count(void)
{
	return atomic_load_explicit(&life->idle_requests, memory_order_relaxed);
}

uint32_t request_served_count(void)
{
	return atomic_load_explicit(&life->served_requests, memory_order_relaxed);
}

uint32_t request_work_count(void)
{
	return request_served_count() + atomic_load_explicit(&life->tops, memory_order_relaxed);
}

uint32_t request_begun(void)
{
	return atomic_load_explicit(&begun, memory_order_relaxed);
}

bool request_has_served(void)
{
	return atomic_load_explicit(&served, memory_order_relaxed);
}
