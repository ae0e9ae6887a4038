/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 by states, a step for each, so that a frame may be cut at any byte. A step takes what
 * it can of the bytes at hand and returns what there is to say, or ON when the next state may
 * go on with the rest. What is to be said at one place is noted first (@due) and said stop by
 * stop, in the order of enum http2_stop.
 *
 * The two directions meet in the streams, one atomic word each, and in what each side says that
 * it takes: limits that the other direction reads, and SETTINGS whose ACK it sees.
 */
#include "core/http2.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

/*
 *   PREFACE (requests)
 *     |
 *   FRAME <--------------------------------------- SAY --- what is due after a frame
 *     |                                             ^
 *     |- SAY, of a request that begins              |
 *     |                                             |
 *     |--> PAD --> PREFIX --> FRAGMENT --> PADDING -|      header blocks
 *     |                          `- SAY -'          |      BLOCK_END
 *     |--> SETTING ---------------------------------|
 *     |--> CODE ----> SKIP -------------------------|      RST_STREAM, GOAWAY
 *     `-------------> SKIP -------------------------'      DATA and all else
 *
 *   every wrong byte leads to OPAQUE; of a block that is held, by way of the frame's end and
 *   the CONTINUATION that is due there
 */
enum state {
	PREFACE,
	FRAME,  /* between frames, or in the head of one */
	PAD,    /* the length of the padding */
	PREFIX, /* of a header block's frame: priority, or the stream that is promised */
	FRAGMENT,
	PADDING,
	SETTING,
	CODE,
	SKIP,
	SAY,
	OPAQUE_UNSAID,
	OPAQUE,
	STATES
};

enum type {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
	TYPES /* further ones are skipped */
};

enum {
	ACK = 0x01,        /* of SETTINGS, PING */
	END_STREAM = 0x01, /* of DATA, HEADERS */
	END_HEADERS = 0x04,
	PADDED = 0x08,
	HAS_PRIORITY = 0x20,
};

enum setting {
	HEADER_TABLE_SIZE = 1,
	MAX_FRAME_SIZE = 5,
	MAX_HEADER_LIST_SIZE = 6,
};

#define FRAME_SIZE_MIN 16384 /* of MAX_FRAME_SIZE, and unless said otherwise */
#define FRAME_SIZE_MAX 16777215
#define FLAGS_AT       4 /* in the head of a frame */
#define UNSET          UINT32_MAX

/* Flags of a stream. It is free when it is closed and neither direction is at it. */
enum {
	REQUEST_ENDED = 0x01,
	RESPONSE_ENDED = 0x02,
	CLOSED = 0x04,
	AT_REQUESTS = 0x08, /* the direction has said something of it, or is about to */
	AT_RESPONSES = 0x10,
};

enum { ON = HTTP2_OPAQUE + 1 }; /* beside enum http2_stop: there is nothing to say yet */

struct cursor {
	const char *begin, *at, *end;
	size_t before; /* in hand, in front of @begin */
	size_t after;  /* in hand, behind @end */
	const struct http1_extra *extra;
};

_Static_assert(sizeof(struct http2) <= 2048, "as its comment says");
_Static_assert(HTTP2_FIELD_IDS <= UINT8_MAX, "ids are bytes");
_Static_assert(HTTP2_STREAMS < HTTP2_NO_SLOT, "slots are bytes");
_Static_assert((HTTP2_STREAMS & (HTTP2_STREAMS - 1)) == 0, "ids are masked");
_Static_assert(HTTP2_VALUES_MAX <= UINT16_MAX, "slices are of 16 bits");

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static enum http1_side side_of(const struct http2 *h, const struct http2_flow *f)
{
	return f == &h->flows[HTTP1_REQUESTS] ? HTTP1_REQUESTS : HTTP1_RESPONSES;
}

static struct http2_flow *other(struct http2 *h, const struct http2_flow *f)
{
	return &h->flows[!side_of(h, f)];
}

static uint32_t number(const char *bytes, unsigned n)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < n; i++)
		value = value << 8 | (uint8_t) bytes[i];
	return value;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t left_in(const struct cursor *in)
{
	return (size_t) (in->end - in->at);
}

/* In hand, of the bytes taken so far. */
static size_t in_hand(const struct cursor *in)
{
	return in->before + (size_t) (in->at - in->begin);
}

/* Relaxed: a reason says nothing of other memory. */
static enum http2_reason reason_of(const struct http2_flow *f)
{
	return (enum http2_reason) atomic_load_explicit(&f->reason, memory_order_relaxed);
}

static void set_reason(struct http2_flow *f, enum http2_reason reason)
{
	atomic_store_explicit(&f->reason, (uint8_t) reason, memory_order_relaxed);
}

static int refuse(struct http2_flow *f, enum http2_reason reason)
{
	set_reason(f, reason);
	f->state = OPAQUE;
	f->due = 0;
	return HTTP2_OPAQUE;
}

static void become_opaque(struct http2_flow *f, enum http2_reason reason)
{
	if (reason_of(f) != HTTP2_FOLLOWED)
		return;
	set_reason(f, reason);
	f->state = OPAQUE_UNSAID;
}

/* ---- streams ---- */

static uint64_t own_flag(const struct http2 *h, const struct http2_flow *f)
{
	return side_of(h, f) == HTTP1_REQUESTS ? AT_REQUESTS : AT_RESPONSES;
}

static uint64_t ended_flag(const struct http2 *h, const struct http2_flow *f)
{
	return side_of(h, f) == HTTP1_REQUESTS ? REQUEST_ENDED : RESPONSE_ENDED;
}

static uint32_t id_of(uint64_t word)
{
	return (uint32_t) (word >> 32);
}

/* Ids are odd and mostly come one after the other: the first look is the last one. */
static unsigned home_of(uint32_t id)
{
	return id >> 1 & (HTTP2_STREAMS - 1);
}

/* Requests alone open streams, so a free slot stays free until this direction takes it. */
static unsigned stream_open(struct http2 *h, uint32_t id)
{
	for (unsigned i = 0; i < HTTP2_STREAMS; i++) {
		const unsigned slot = (home_of(id) + i) & (HTTP2_STREAMS - 1);

		/* Acquire: whoever set it free was done with its slot. Pairs with stream_leave(). */
		if (atomic_load_explicit(&h->streams[slot], memory_order_acquire) != 0)
			continue;
		/* Release: pairs with stream_join(); what our caller then knows of the slot is his. */
		atomic_store_explicit(&h->streams[slot], (uint64_t) id << 32 | AT_REQUESTS,
				      memory_order_release);
		return slot;
	}
	return HTTP2_NO_SLOT;
}

/* Adds @flags to a stream that is not closed. */
static bool stream_join(struct http2 *h, unsigned slot, uint32_t id, uint64_t flags)
{
	uint64_t word = atomic_load_explicit(&h->streams[slot], memory_order_relaxed);

	/* Retries only when the other direction moved on, twice at most for one stream. */
	do {
		if (id_of(word) != id || (word & CLOSED))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&h->streams[slot], &word, word | flags,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

/* This direction has something to say of stream @id: its slot is kept until stream_leave(). */
static void stream_enter(struct http2 *h, struct http2_flow *f, uint32_t id)
{
	assert(f->pinned == HTTP2_NO_SLOT);
	f->stream = id;
	f->slot = HTTP2_NO_SLOT;
	f->closed = false;
	for (unsigned i = 0; i < HTTP2_STREAMS; i++) {
		const unsigned slot = (home_of(id) + i) & (HTTP2_STREAMS - 1);
		const uint64_t word = atomic_load_explicit(&h->streams[slot], memory_order_relaxed);

		if (id_of(word) != id || (word & CLOSED))
			continue;
		if (stream_join(h, slot, id, own_flag(h, f)))
			f->slot = f->pinned = (uint8_t) slot;
		return;
	}
}

static void stream_leave(struct http2 *h, struct http2_flow *f)
{
	if (f->pinned == HTTP2_NO_SLOT)
		return;

	_Atomic uint64_t *const stream = &h->streams[f->pinned];
	uint64_t word = atomic_load_explicit(stream, memory_order_relaxed), next;

	/* Release: we are done with the slot. Retries as in stream_join(). */
	do {
		next = word & ~own_flag(h, f);
		if ((next & CLOSED) && !(next & (AT_REQUESTS | AT_RESPONSES)))
			next = 0;
	} while (!atomic_compare_exchange_weak_explicit(stream, &word, next, memory_order_acq_rel,
							memory_order_relaxed));
	f->pinned = HTTP2_NO_SLOT;
}

/* Adds what this side did to it; returns false when it was closed before. */
static bool stream_ends(struct http2 *h, struct http2_flow *f, uint64_t flags)
{
	const uint64_t both = REQUEST_ENDED | RESPONSE_ENDED;
	uint64_t word = atomic_load_explicit(&h->streams[f->slot], memory_order_relaxed), next;

	/* Acquire and release: who closes it knows what the other side knew when it ended. */
	do {
		if (word & CLOSED)
			return false;
		next = word | flags;
		if ((next & both) == both)
			next |= CLOSED;
	} while (!atomic_compare_exchange_weak_explicit(
		&h->streams[f->slot], &word, next, memory_order_acq_rel, memory_order_relaxed));
	f->closed = (next & CLOSED) != 0;
	return true;
}

uint32_t http2_stream(const struct http2 *h, unsigned slot)
{
	const uint64_t word = atomic_load_explicit(&h->streams[slot], memory_order_acquire);

	return word & CLOSED ? 0 : id_of(word);
}

/* ---- what is to be said ---- */

static void due(struct http2_flow *f, enum http2_stop stop)
{
	f->due |= (uint16_t) (1u << stop);
}

static int say_then(struct http2_flow *f, uint8_t next)
{
	f->state = f->due ? SAY : next;
	f->next = next;
	return ON;
}

/* Returns false when the stream was closed meanwhile, or is not followed: not a word of it. */
static bool still_to_say(struct http2 *h, struct http2_flow *f, enum http2_stop stop)
{
	if (stop == HTTP2_GOAWAY || (stop == HTTP2_HEAD && f->slot == HTTP2_NO_SLOT))
		return true;
	if (stop == HTTP2_BLOCK_END && f->place.held)
		return true;
	if (f->slot == HTTP2_NO_SLOT)
		return false;
	if (stop == HTTP2_RESET)
		return stream_ends(h, f, CLOSED);
	if (stop == HTTP2_END_STREAM)
		return stream_ends(h, f, ended_flag(h, f));
	/* Relaxed: a hint; the slot is ours to read until stream_leave() in any case. */
	return !(atomic_load_explicit(&h->streams[f->slot], memory_order_relaxed) & CLOSED);
}

static int step_say(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	while (f->due) {
		const enum http2_stop stop = (enum http2_stop) __builtin_ctz(f->due);

		f->due &= (uint16_t) (f->due - 1);
		if (!still_to_say(h, f, stop))
			continue;
		if (stop == HTTP2_BLOCK_END)
			f->place.in_hand = in_hand(in);
		return stop;
	}
	f->state = f->next;
	if (f->broken != HTTP2_FOLLOWED)
		return refuse(f, (enum http2_reason) f->broken);
	if (f->next == FRAME && !f->open)
		stream_leave(h, f);
	return ON;
}

/* ---- fields ---- */

static void keep(struct http2_flow *f, unsigned id, const struct hpack_field *field)
{
	const size_t room = (size_t) (f->values_size - f->values_used);
	const size_t n = least(field->value_len, room);

	if (f->n_fields == HTTP2_FIELDS_MAX) {
		f->fields_cut = true;
		return;
	}
	f->fields[f->n_fields++] = (struct http1_slice) {
		.id = (uint8_t) id,
		.cut = n < field->value_len,
		.at = f->values_used,
		.len = (uint16_t) n,
	};
	if (n > 0)
		memcpy(f->values + f->values_used, field->value, n);
	f->values_used = (uint16_t) (f->values_used + n);
}

/* Decimal digits alone, up to @most of them; -1: it is none. */
static int decimal(const struct hpack_field *field, size_t most)
{
	int value = 0;

	if (field->value_len == 0 || field->value_len > most)
		return -1;
	for (size_t i = 0; i < field->value_len; i++) {
		if (field->value[i] < '0' || field->value[i] > '9')
			return -1;
		value = value * 10 + (field->value[i] - '0');
	}
	return value;
}

static bool is(const struct hpack_field *field, const char *name)
{
	return field->name_len == strlen(name) && memcmp(field->name, name, field->name_len) == 0;
}

static void status_taken(struct http2_flow *f, const struct hpack_field *field)
{
	const int status = decimal(field, 3);

	f->odd |= status < 100 || f->status != 0;
	f->status = status < 100 ? 0 : (uint16_t) status;
}

static void pseudo_taken(struct http2_flow *f, const struct hpack_field *field)
{
	if (is(field, ":method")) {
		f->odd |= http2_find(f, HTTP1_METHOD, NULL) != NULL; /* a second one */
		f->method = http1_method_named(field->value, field->value_len);
		f->tunnel |= f->method == HTTP1_CONNECT;
		keep(f, HTTP1_METHOD, field);
	} else if (is(field, ":path")) {
		keep(f, HTTP1_TARGET, field);
	} else if (is(field, ":authority")) {
		keep(f, HTTP1_HOST, field);
	} else if (is(field, ":scheme")) {
		keep(f, HTTP2_SCHEME, field);
	} else if (is(field, ":status")) {
		status_taken(f, field);
	} else if (is(field, ":protocol")) {
		keep(f, HTTP2_PROTOCOL, field);
	} else {
		f->odd = true;
	}
}

static void plain_taken(struct http2_flow *f, const struct http1_extra *extra,
			const struct hpack_field *field)
{
	const enum http1_field id = http1_field_named(field->name, field->name_len, extra);

	if (id != HTTP1_FIELD_IDS) {
		keep(f, id, field);
	} else if (is(field, "grpc-status")) {
		f->grpc_status = (int16_t) decimal(field, 3);
		keep(f, HTTP2_GRPC_STATUS, field);
	} else if (is(field, "grpc-message")) {
		keep(f, HTTP2_GRPC_MESSAGE, field);
	} else if (is(field, "grpc-timeout")) {
		keep(f, HTTP2_GRPC_TIMEOUT, field);
	}
}

/* Returns false when the block is too long. */
static bool field_taken(struct http2_flow *f, const struct http1_extra *extra,
			const struct hpack_field *field)
{
	const size_t size = field->name_len + field->value_len + HPACK_ENTRY;

	if (size > HTTP2_LIST_MAX - f->list_size)
		return false;
	f->list_size += (uint32_t) size;
	f->lines++;
	if (field->name_len == 0) {
		f->odd = true;
	} else if (field->name[0] == ':') {
		f->odd |= f->plain; /* they come first */
		pseudo_taken(f, field);
	} else {
		f->plain = true;
		plain_taken(f, extra, field);
	}
	return true;
}

const struct http1_slice *http2_find(const struct http2_flow *f, unsigned id, unsigned *ret_n)
{
	const struct http1_slice *first = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_fields; i++) {
		if (f->fields[i].id != id)
			continue;
		first = first ? first : &f->fields[i];
		n++;
	}
	if (ret_n)
		*ret_n = n;
	return first;
}

/* ---- header blocks ---- */

/* May our fields go into the block that is being read, for all we know so far? */
static bool may_add(struct http2 *h, const struct http2_flow *f)
{
	return f->fresh && h->role == HTTP2_CLIENT && f->slot != HTTP2_NO_SLOT && !f->odd &&
	       reason_of(f) == HTTP2_FOLLOWED && reason_of(other(h, f)) == HTTP2_FOLLOWED;
}

static void block_begin(struct http2 *h, struct http2_flow *f, uint32_t id)
{
	f->open = true;
	f->end_stream = f->type == HEADERS && (f->flags & END_STREAM);
	f->pushed = f->type == PUSH_PROMISE || id % 2 == 0;
	f->fresh = side_of(h, f) == HTTP1_REQUESTS && id > f->newest;
	f->tunnel = f->fields_cut = f->plain = f->odd = false;
	f->n_fields = 0;
	f->values_used = f->frames = f->status = 0;
	f->grpc_status = -1;
	f->method = HTTP1_OTHER;
	f->list_size = f->lines = 0;
	f->stream = id;
	f->slot = HTTP2_NO_SLOT;
	f->closed = false;
	if (f->pushed)
		return;
	if (!f->fresh) {
		stream_enter(h, f, id);
		return;
	}
	f->newest = id;
	f->slot = f->pinned = (uint8_t) stream_open(h, id);
	due(f, HTTP2_HEAD);
}

/* Bytes in front of a fragment, beside the padding's length. */
static uint8_t prefix_of(const struct http2_flow *f)
{
	if (f->type == PUSH_PROMISE)
		return 4;
	return f->type == HEADERS && (f->flags & HAS_PRIORITY) ? 5 : 0;
}

/* A frame of a block begins, its head was taken. */
static int fragment_begin(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	const bool last = (f->flags & END_HEADERS) != 0;
	const size_t ahead = left_in(in) + in->after;

	if (++f->frames > HTTP2_BLOCK_FRAMES)
		return refuse(f, HTTP2_BLOCK_TOO_LONG);
	f->padding = 0;
	f->prefix = prefix_of(f);
	f->place = (struct http2_place) {
		.stream = f->stream,
		.length = f->left,
		.type = f->type,
		.flags = f->flags,
		.whole = ahead >= f->left,
		.back = HTTP2_FRAME_HEAD,
	};
	if (last && !f->place.whole && in_hand(in) >= HTTP2_FRAME_HEAD - FLAGS_AT && may_add(h, f))
		due(f, HTTP2_HOLD);
	return say_then(f, f->type != CONTINUATION && (f->flags & PADDED) ? PAD : PREFIX);
}

/*
 * The block is none, or there is too much of it. When the peer has been told that a CONTINUATION
 * follows, that has to come first.
 */
static int block_breaks(struct http2_flow *f, enum http2_reason reason)
{
	if (!f->place.held)
		return refuse(f, reason);
	f->broken = (uint8_t) reason;
	f->state = PADDING; /* which takes all that is left of the frame */
	return ON;
}

static int step_pad(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	(void) h;
	if (f->left == 0)
		return block_breaks(f, HTTP2_BAD_FRAME);
	if (in->at == in->end)
		return HTTP2_MORE;
	f->padding = (uint8_t) *in->at++;
	f->left--;
	f->place.padding = f->padding;
	f->state = PREFIX;
	return ON;
}

/* @prefix: how many bytes of it are still to come. */
static int step_prefix(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	(void) h;
	if (f->left < (uint32_t) f->prefix + f->padding)
		return block_breaks(f, HTTP2_BAD_FRAME);

	const size_t n = least(left_in(in), f->prefix);

	in->at += n;
	f->left -= (uint32_t) n;
	f->prefix = (uint8_t) (f->prefix - n);
	if (f->prefix > 0)
		return HTTP2_MORE;
	f->state = FRAGMENT;
	return ON;
}

static enum http2_reason reason_of_block(enum hpack_said said)
{
	return said == HPACK_NO_ROOM ? HTTP2_NO_MEMORY : HTTP2_BAD_BLOCK;
}

static void place_ends(struct http2 *h, struct http2_flow *f)
{
	const struct http2_flow *peer = other(h, f);

	f->odd |= f->fresh && http2_find(f, HTTP1_METHOD, NULL) == NULL;
	f->place.may_add = f->broken == HTTP2_FOLLOWED && may_add(h, f);
	f->place.back += f->place.length - f->left;
	f->place.list_size = f->list_size;
	/* Relaxed, all: the newest that came is as good as any, and what came before a program's
	 * bytes has been seen by the time that these are. */
	f->place.frame_limit = atomic_load_explicit(&peer->frame_limit, memory_order_relaxed);
	f->place.list_limit = atomic_load_explicit(&peer->list_limit, memory_order_relaxed);
}

/* The last byte of a fragment was taken. */
static int fragment_ends(struct http2 *h, struct http2_flow *f)
{
	if (!(f->flags & END_HEADERS)) {
		f->state = PADDING;
		return ON;
	}

	const enum hpack_said said = hpack_end(&f->hpack);

	if (said != HPACK_MORE)
		return block_breaks(f, reason_of_block(said));
	if (f->place.held) {
		f->state = PADDING;
		return ON;
	}
	place_ends(h, f);
	if (f->place.may_add)
		due(f, HTTP2_BLOCK_END);
	return say_then(f, PADDING);
}

static int step_fragment(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	while (f->left > f->padding) {
		const size_t n = least(left_in(in), f->left - f->padding);
		struct hpack_field field;
		size_t used;

		if (n == 0)
			return HTTP2_MORE;

		const enum hpack_said said = hpack_feed(&f->hpack, in->at, n, &field, &used);

		in->at += used;
		f->left -= (uint32_t) used;
		if (said > HPACK_FIELD)
			return block_breaks(f, reason_of_block(said));
		if (said == HPACK_FIELD && !field_taken(f, in->extra, &field))
			return block_breaks(f, HTTP2_BLOCK_TOO_LONG);
	}
	return fragment_ends(h, f);
}

static enum http2_kind kind_of(const struct http2 *h, const struct http2_flow *f)
{
	if (side_of(h, f) == HTTP1_REQUESTS)
		return f->fresh ? HTTP2_REQUEST : HTTP2_TRAILERS;
	if (f->status == 0)
		return HTTP2_TRAILERS;
	return f->status < 200 ? HTTP2_INFORMATIONAL : HTTP2_RESPONSE;
}

/* The frame is over, and the block with it. */
static void block_ends(struct http2 *h, struct http2_flow *f)
{
	f->open = false;
	if (f->place.held) {
		place_ends(h, f);
		due(f, HTTP2_BLOCK_END);
	}
	if (f->pushed || f->broken != HTTP2_FOLLOWED)
		return;
	f->kind = (uint8_t) kind_of(h, f);
	due(f, HTTP2_HEADERS);
	if (f->end_stream)
		due(f, HTTP2_END_STREAM);
}

static int step_padding(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	const size_t n = least(left_in(in), f->left);

	in->at += n;
	f->left -= (uint32_t) n;
	if (f->left > 0)
		return HTTP2_MORE;
	if (f->flags & END_HEADERS)
		block_ends(h, f);
	return say_then(f, FRAME);
}

/* ---- settings ---- */

/* Returns false when there is no such value. */
static bool setting_taken(struct http2_flow *f, uint32_t id, uint32_t value)
{
	switch (id) {
	case HEADER_TABLE_SIZE:
		f->settings.table = value;
		if (value < f->settings.table_least)
			f->settings.table_least = value;
		return true;
	case MAX_FRAME_SIZE:
		if (value < FRAME_SIZE_MIN || value > FRAME_SIZE_MAX)
			return false;
		/* Relaxed: see place_ends(). A smaller one holds for what we add at once, for the
		 * program when it has acknowledged it: we do not count on that. */
		atomic_store_explicit(&f->frame_limit, value, memory_order_relaxed);
		if (value > atomic_load_explicit(&f->frame_most, memory_order_relaxed))
			atomic_store_explicit(&f->frame_most, value, memory_order_relaxed);
		return true;
	case MAX_HEADER_LIST_SIZE:
		atomic_store_explicit(&f->list_limit, value, memory_order_relaxed);
		return true;
	default:
		return true;
	}
}

/* Returns false when too many wait for their ACK. */
static bool settings_asked(struct http2_flow *f)
{
	const uint32_t asked = atomic_load_explicit(&f->asked, memory_order_relaxed);

	/* Acquire: the other direction is done with the place that is written to next. */
	if (asked - atomic_load_explicit(&f->answered, memory_order_acquire) == HTTP2_UNANSWERED)
		return false;
	f->unanswered[asked % HTTP2_UNANSWERED] = f->settings;
	/* Release: pairs with settings_answered(). */
	atomic_store_explicit(&f->asked, asked + 1, memory_order_release);
	return true;
}

/* An ACK in @f: from here on its header blocks keep to what the other side asked for. */
static bool settings_answered(struct http2_flow *f, struct http2_flow *asker)
{
	const uint32_t answered = atomic_load_explicit(&asker->answered, memory_order_relaxed);

	if (atomic_load_explicit(&asker->asked, memory_order_acquire) == answered)
		return false;

	const struct http2_unanswered s = asker->unanswered[answered % HTTP2_UNANSWERED];

	atomic_store_explicit(&asker->answered, answered + 1, memory_order_release);
	if (s.table_least < s.table)
		hpack_limit(&f->hpack, s.table_least);
	if (s.table != UNSET)
		hpack_limit(&f->hpack, s.table);
	return true;
}

static int settings_begin(struct http2 *h, struct http2_flow *f)
{
	f->sub = 0;
	f->settings = (struct http2_unanswered) { UNSET, UNSET };
	if (!(f->flags & ACK)) {
		f->state = SETTING;
		return ON;
	}
	if (f->left != 0)
		return refuse(f, HTTP2_BAD_FRAME);
	if (!settings_answered(f, other(h, f)))
		return refuse(f, HTTP2_BAD_SETTINGS);
	f->state = FRAME;
	return ON;
}

/* Takes up to @n bytes into @buf; true when they are there. */
static bool gather(struct http2_flow *f, struct cursor *in, uint8_t n)
{
	const size_t taken = least(left_in(in), (size_t) (n - f->sub));

	if (taken > 0)
		memcpy(f->buf + f->sub, in->at, taken);
	in->at += taken;
	f->sub = (uint8_t) (f->sub + taken);
	if (f->sub < n)
		return false;
	f->sub = 0;
	return true;
}

static int step_setting(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	(void) h;
	while (f->left > 0) {
		if (!gather(f, in, 6))
			return HTTP2_MORE;
		f->left -= 6;
		if (!setting_taken(f, number(f->buf, 2), number(f->buf + 2, 4)))
			return refuse(f, HTTP2_BAD_SETTINGS);
	}
	if (!settings_asked(f))
		return refuse(f, HTTP2_BAD_SETTINGS);
	f->state = FRAME;
	return ON;
}

/* ---- the other frames ---- */

static int step_code(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	const uint8_t n = f->type == GOAWAY ? 8 : 4;

	(void) h;
	if (!gather(f, in, n))
		return HTTP2_MORE;
	f->left -= n;
	f->state = SKIP;
	if (f->type == GOAWAY)
		f->last_stream = number(f->buf, 4) & INT32_MAX;
	f->code = number(f->buf + n - 4, 4);
	return ON;
}

static void frame_ends(struct http2 *h, struct http2_flow *f, uint32_t id)
{
	if (f->type == GOAWAY) {
		due(f, HTTP2_GOAWAY);
		return;
	}
	if (f->type != RST_STREAM && !(f->type == DATA && (f->flags & END_STREAM)))
		return;
	stream_enter(h, f, id);
	due(f, f->type == DATA ? HTTP2_END_STREAM : HTTP2_RESET);
}

static int step_skip(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	const size_t n = least(left_in(in), f->left);

	in->at += n;
	f->left -= (uint32_t) n;
	if (f->left > 0)
		return HTTP2_MORE;
	frame_ends(h, f, f->stream);
	return say_then(f, FRAME);
}

/* ---- the head of a frame ---- */

/* Lengths, the stream and the state that the payload begins with. */
static const struct rule {
	uint32_t shortest, longest;
	enum { ANY, NONE, SOME } stream;
	enum state state;
} rules[TYPES] = {
	[DATA] = { 0, FRAME_SIZE_MAX, SOME, SKIP },
	[HEADERS] = { 0, FRAME_SIZE_MAX, SOME, FRAGMENT },
	[PRIORITY] = { 0, FRAME_SIZE_MAX, SOME, SKIP }, /* a wrong length is its stream's error */
	[RST_STREAM] = { 4, 4, SOME, CODE },
	[SETTINGS] = { 0, FRAME_SIZE_MAX, NONE, SETTING },
	[PUSH_PROMISE] = { 4, FRAME_SIZE_MAX, SOME, FRAGMENT },
	[PING] = { 8, 8, NONE, SKIP },
	[GOAWAY] = { 8, FRAME_SIZE_MAX, NONE, CODE },
	[WINDOW_UPDATE] = { 4, 4, ANY, SKIP },
	[CONTINUATION] = { 0, FRAME_SIZE_MAX, SOME, FRAGMENT },
};

static bool frame_may_be(const struct http2 *h, const struct http2_flow *f, uint32_t id)
{
	const bool requests = side_of(h, f) == HTTP1_REQUESTS;

	/* A block is one piece; nothing comes between its frames. */
	if (f->open ? f->type != CONTINUATION || id != f->stream : f->type == CONTINUATION)
		return false;
	if (f->type >= TYPES)
		return true;

	const struct rule *r = &rules[f->type];

	if (f->left < r->shortest || f->left > r->longest || (r->stream == NONE && id != 0) ||
	    (r->stream == SOME && id == 0))
		return false;
	if (f->type == SETTINGS)
		return f->left % 6 == 0;
	if (f->type == HEADERS)
		return !requests || id % 2 == 1;
	return f->type != PUSH_PROMISE || !requests;
}

/* Longer than the receiver has ever allowed: what it allows now is its program's to know. */
static bool frame_too_long(struct http2 *h, const struct http2_flow *f)
{
	/* Relaxed: see place_ends(). */
	return f->left > atomic_load_explicit(&other(h, f)->frame_most, memory_order_relaxed);
}

static int frame_begin(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	const uint32_t id = number(f->buf + 5, 4) & INT32_MAX;
	const bool goes_on = f->open;

	f->left = number(f->buf, 3);
	f->type = (uint8_t) f->buf[3];
	f->flags = (uint8_t) f->buf[FLAGS_AT];
	if (!f->begun && (f->type != SETTINGS || (f->flags & ACK) || id != 0))
		return refuse(f, HTTP2_NOT_HTTP2);
	f->begun = true;
	if (frame_too_long(h, f))
		return refuse(f, HTTP2_FRAME_TOO_LONG);
	if (!frame_may_be(h, f, id))
		return refuse(f, HTTP2_BAD_FRAME);
	if (f->type == SETTINGS)
		return settings_begin(h, f);
	f->state = f->type < TYPES ? rules[f->type].state : SKIP;
	if (f->state != FRAGMENT) {
		f->stream = id;
		return ON;
	}
	if (!goes_on)
		block_begin(h, f, id);
	return fragment_begin(h, f, in);
}

/* The connection is one or the other. */
static bool never_was(struct http2 *h, const struct http2_flow *f, const struct cursor *in)
{
	return f->sub == 0 && !f->open && in->at < in->end &&
	       reason_of(other(h, f)) == HTTP2_NOT_HTTP2;
}

/* Relaxed: what the other direction knew is of no use to this one. */
static bool parts(const struct http2_flow *f, const struct cursor *in)
{
	return f->sub == 0 && !f->open && in->at < in->end &&
	       atomic_load_explicit(&f->parted, memory_order_relaxed);
}

static int step_frame(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	if (never_was(h, f, in))
		return refuse(f, HTTP2_NOT_HTTP2);
	if (parts(f, in))
		return refuse(f, HTTP2_UNSEEN);
	return gather(f, in, HTTP2_FRAME_HEAD) ? frame_begin(h, f, in) : HTTP2_MORE;
}

static int step_preface(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	if (never_was(h, f, in))
		return refuse(f, HTTP2_NOT_HTTP2);
	for (; in->at < in->end && f->sub < sizeof(preface) - 1; f->sub++, in->at++) {
		if (*in->at != preface[f->sub])
			return refuse(f, HTTP2_NOT_HTTP2);
	}
	if (f->sub < sizeof(preface) - 1)
		return HTTP2_MORE;
	f->sub = 0;
	f->state = FRAME;
	return ON;
}

static int step_opaque_unsaid(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	(void) h;
	(void) in;
	return refuse(f, reason_of(f));
}

static int step_opaque(struct http2 *h, struct http2_flow *f, struct cursor *in)
{
	stream_leave(h, f);
	in->at = in->end;
	return HTTP2_MORE;
}

static int (*const steps[STATES])(struct http2 *h, struct http2_flow *f, struct cursor *in) = {
	[PREFACE] = step_preface,
	[FRAME] = step_frame,
	[PAD] = step_pad,
	[PREFIX] = step_prefix,
	[FRAGMENT] = step_fragment,
	[PADDING] = step_padding,
	[SETTING] = step_setting,
	[CODE] = step_code,
	[SKIP] = step_skip,
	[SAY] = step_say,
	[OPAQUE_UNSAID] = step_opaque_unsaid,
	[OPAQUE] = step_opaque,
};

/* ---- the calls ---- */

static const char *const reason_names[HTTP2_REASONS] = {
	[HTTP2_FOLLOWED] = "followed",
	[HTTP2_NOT_HTTP2] = "not HTTP/2",
	[HTTP2_BAD_FRAME] = "bad frame",
	[HTTP2_FRAME_TOO_LONG] = "frame too long",
	[HTTP2_BAD_BLOCK] = "bad header block",
	[HTTP2_BLOCK_TOO_LONG] = "header block too long",
	[HTTP2_NO_MEMORY] = "header table full",
	[HTTP2_BAD_SETTINGS] = "bad settings",
	[HTTP2_UNSEEN] = "bytes not seen",
};

const char *http2_reason_name(enum http2_reason reason)
{
	return (unsigned) reason < HTTP2_REASONS ? reason_names[reason] : "unknown";
}

void http2_init(struct http2 *h, enum http2_role role, void *memory, size_t size)
{
	const size_t half = size / 2 & ~(size_t) 7;
	const size_t values = least(half / 4 & ~(size_t) 7, HTTP2_VALUES_MAX);

	memset(h, 0, sizeof(*h));
	h->role = role;
	for (int side = 0; side < 2; side++) {
		struct http2_flow *f = &h->flows[side];
		char *const own = (char *) memory + (size_t) side * half;

		f->state = side == HTTP1_REQUESTS ? PREFACE : FRAME;
		f->slot = f->pinned = HTTP2_NO_SLOT;
		f->grpc_status = -1;
		f->values = own;
		f->values_size = (uint16_t) values;
		hpack_init(&f->hpack, own + values, half - values);
		atomic_init(&f->frame_limit, FRAME_SIZE_MIN);
		atomic_init(&f->frame_most, FRAME_SIZE_MIN);
		atomic_init(&f->list_limit, UNSET);
	}
}

/* The head of a SETTINGS frame that is no ACK, byte by byte. */
static bool settings_head(const char *bytes, size_t n)
{
	static const char rest[] = { SETTINGS, 0, 0, 0, 0, 0 };

	if (n >= 3 && (number(bytes, 3) % 6 != 0 || number(bytes, 3) > FRAME_SIZE_MIN))
		return false;
	return bytes[0] == 0 &&
	       (n <= 3 || memcmp(bytes + 3, rest, least(n - 3, sizeof(rest))) == 0);
}

int http2_begins(enum http1_side side, const char *bytes, size_t n)
{
	const bool requests = side == HTTP1_REQUESTS;
	const size_t wanted = requests ? sizeof(preface) - 1 : HTTP2_FRAME_HEAD;

	if (n == 0)
		return 0;
	if (requests ? memcmp(bytes, preface, least(n, wanted)) != 0 : !settings_head(bytes, n))
		return -1;
	return n >= wanted;
}

struct http2_walk http2_walk(const struct http2 *h, enum http1_side side)
{
	const struct http2_flow *f = &h->flows[side];
	struct http2_walk at = { 0 };

	switch ((enum state) f->state) {
	case PREFACE:
		at.left = sizeof(preface) - 1 - f->sub;
		break;
	case SETTING:
	case CODE:
		at.left = f->left - f->sub;
		break;
	case SKIP:
		at.left = f->left;
		break;
	case OPAQUE_UNSAID:
	case OPAQUE:
		at.left = UINT64_MAX;
		break;
	case FRAME:
	case SAY:
		at.block = !http2_between(h, side);
		break;
	case PAD:
	case PREFIX:
	case FRAGMENT:
	case PADDING:
	case STATES:
		at.block = true;
		break;
	}
	return at;
}

bool http2_heads(const struct http2 *h, enum http1_side side)
{
	const struct http2_flow *f = &h->flows[side];

	return f->state == FRAME || (f->state == SAY && f->next == FRAME);
}

uint64_t http2_frame_left(const struct http2 *h, enum http1_side side)
{
	const struct http2_flow *f = &h->flows[side];

	if (f->state == PREFACE)
		return sizeof(preface) - 1 - f->sub;
	if (http2_heads(h, side))
		return (uint64_t) HTTP2_FRAME_HEAD - f->sub;
	if (f->state == SETTING || f->state == CODE)
		return f->left - f->sub;
	return f->state == OPAQUE || f->state == OPAQUE_UNSAID ? UINT64_MAX : f->left;
}

static bool of_a_block(uint8_t type)
{
	return type == HEADERS || type == PUSH_PROMISE || type == CONTINUATION;
}

size_t http2_plain(struct http2_walk *at, const char *bytes, size_t n)
{
	size_t walked = 0;

	while (!at->block) {
		const size_t part = at->left < n - walked ? (size_t) at->left : n - walked;

		walked += part;
		at->left -= part;
		if (at->left > 0 || walked == n)
			break;
		at->block = n - walked < HTTP2_FRAME_HEAD ||
			    of_a_block((uint8_t) bytes[walked + 3]);
		if (!at->block)
			at->left = HTTP2_FRAME_HEAD + (uint64_t) number(bytes + walked, 3);
	}
	return walked;
}

bool http2_between(const struct http2 *h, enum http1_side side)
{
	const struct http2_flow *f = &h->flows[side];

	if (f->state == PREFACE || f->state == FRAME)
		return f->sub == 0 && !f->open;
	return f->state == SAY && f->next == FRAME && !f->open;
}

enum http2_stop http2_feed(struct http2 *h, enum http1_side side, const struct http1_extra *extra,
			   const struct http2_input *input, size_t *ret_used)
{
	struct http2_flow *f = &h->flows[side];
	struct cursor in = {
		.begin = input->bytes,
		.at = input->bytes,
		.end = input->n > 0 ? input->bytes + input->n : input->bytes,
		.before = input->before,
		.after = input->after,
		.extra = extra,
	};
	int stop;

	do
		stop = steps[f->state](h, f, &in);
	while (stop == ON);
	*ret_used = (size_t) (in.at - input->bytes);
	return (enum http2_stop) stop;
}

enum http2_stop http2_skip(struct http2 *h, enum http1_side side, uint64_t n, uint64_t *ret_used)
{
	struct http2_flow *f = &h->flows[side];
	struct cursor nothing = { .at = NULL };
	int stop;

	*ret_used = 0;
	if (f->state == OPAQUE)
		*ret_used = n;
	if (f->state == SKIP && f->type == DATA) {
		*ret_used = n < f->left ? n : f->left;
		f->left -= (uint32_t) *ret_used;
	}
	do
		stop = steps[f->state](h, f, &nothing);
	while (stop == ON);
	if (stop != HTTP2_MORE || *ret_used == n)
		return (enum http2_stop) stop;
	return (enum http2_stop) refuse(f, HTTP2_UNSEEN);
}

void http2_lost(struct http2 *h, enum http1_side side)
{
	become_opaque(&h->flows[side], HTTP2_UNSEEN);
}

void http2_part(struct http2 *h, enum http1_side side)
{
	atomic_store_explicit(&h->flows[side].parted, true, memory_order_relaxed);
}

bool http2_owes(const struct http2 *h)
{
	const struct http2_flow *f = &h->flows[HTTP1_REQUESTS];

	return f->place.held && f->open && f->state < OPAQUE_UNSAID;
}

void http2_hold(struct http2 *h, struct http2_edit *ret)
{
	struct http2_flow *f = &h->flows[HTTP1_REQUESTS];

	f->place.held = true;
	f->buf[0] = (char) (f->place.flags & ~END_HEADERS);
	*ret = (struct http2_edit) {
		.at = FLAGS_AT - HTTP2_FRAME_HEAD,
		.replaced = 1,
		.bytes = f->buf,
		.n = 1,
	};
}
