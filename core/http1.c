/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 by states, a step for each, so that a message may be cut at any byte. A step takes
 * what it can of the bytes at hand; where they may come in any number (names, values, bodies)
 * it takes a run of them at once. It returns what there is to say, or ON when the next state
 * may go on with the rest.
 *
 * Mostly a line is in hand as a whole and as it should be. request_line(), status_line() and
 * field_lines() then take it at once and leave all as the steps would; of any other they take
 * nothing, and the steps have it.
 *
 * The arena is only added to within a message: not even white space after a value is taken
 * back, for a copy of the struct may count on it.
 */
#include "core/http1.h"

#include <endian.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define METHOD_MAX 20 /* above every registered one (UPDATEREDIRECTREF: 17) */

/*
 *   BEFORE (empty lines: BEFORE_LF)
 *     |  says LINE
 *   LINE_SAID ----> METHOD -> TARGET -> VERSION -> LINE_END ---.    of requests
 *     |                                                        |
 *     `-----------> VERSION -> STATUS -> REASON ---------------|    of responses
 *                                                              v
 *         .------------------------------------------------> LINE_LF
 *         |                                                    |
 *         |                   ':'                              v    says BLANK
 *       VALUE <- VALUE_BEFORE <--- NAME <------------------- FIELD ------------> BLANK
 *                     ^                                        |                   |
 *                     `------------- SP, HT -------------------'                BLANK_LF
 *                                                                                  |
 *     .----------------------------------------------------------------------------'
 *     |  says HEAD_DONE; of trailers, to OVER
 *     |--> LENGTH -----------------------------------------------.
 *     |--> UNTIL_CLOSE ----------------------------- http1_end() |
 *     |--> CHUNK_SIZE -> CHUNK_EXTENSION -> CHUNK_SIZE_LF        |
 *     |        ^                         size > 0 |  `- 0 -> FIELD, of trailers
 *     |        `----- CHUNK_LF <- CHUNK_CR <--- CHUNK            |
 *     |                                                          v  says DONE
 *     |--------------------------------------------------------> OVER ----------> BEFORE
 *     |                      says OPAQUE
 *     `--> OPAQUE_UNSAID ------------------> OPAQUE, to which every wrong byte leads too
 */
enum state {
	BEFORE,        /* between messages; before a request empty lines are skipped */
	BEFORE_LF,     /* the CR of such a line was taken */
	LINE_SAID,
	METHOD,        /* the first of a head's */
	TARGET,
	VERSION,
	STATUS,
	REASON,
	LINE_END,      /* of a request line, right after the version */
	LINE_LF,       /* the CR of a line was taken */
	FIELD,         /* the first byte of a line */
	NAME,
	VALUE_BEFORE,  /* white space before a value */
	VALUE,
	BLANK,
	BLANK_LF,      /* the CR of the blank line was taken; the last of a head's */
	LENGTH,
	UNTIL_CLOSE,
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK,
	CHUNK_CR,
	CHUNK_LF,
	OVER,          /* DONE is to be said */
	OPAQUE_UNSAID,
	OPAQUE,
	STATES
};

/* What a value says to us, whether it is kept or not. */
enum role {
	NO_FIELD,      /* no field line yet: nothing that a line could continue */
	PLAIN,
	CONTENT_LENGTH,
	TRANSFER_ENCODING,
	CONNECTION,
	EXPECT,
	UPGRADE,
};

/* @flags: what the fields of the present head said. */
enum {
	HAS_LENGTH = 0x01,
	HAS_CODING = 0x02,     /* Transfer-Encoding */
	CHUNKED = 0x04,        /* the last coding so far */
	CLOSE = 0x08,
	KEEP_ALIVE = 0x10,
	CONNECTION_UPGRADE = 0x20,
	UPGRADE_NAMED = 0x40,
};

/* @sub within a value that is listened to. */
enum {
	NOTHING_YET, /* of the number, of this element of the list */
	WITHIN,
	SPACE_AFTER,
};

enum { ON = HTTP1_OPAQUE + 1 }; /* beside enum http1_stop: there is nothing to say yet */

struct cursor {
	const char *at, *end;
	const struct http1_extra *extra;
};

_Static_assert(sizeof(struct http1) == 264, "as its comment says; a connection has two");
_Static_assert(HTTP1_FIELD_IDS <= UINT8_MAX, "ids are bytes");

/* ---- characters ---- */

/* What a token may hold (RFC 9110, 5.6.2), in lower case; 0 for all else. */
static const char token[256] = {
	['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'',
	['*'] = '*', ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_',
	['`'] = '`', ['|'] = '|', ['~'] = '~',
	['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
	['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9',
	['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f',
	['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l',
	['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
	['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
	['Y'] = 'y', ['Z'] = 'z',
	['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f',
	['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l',
	['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',
	['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
	['y'] = 'y', ['z'] = 'z',
};

static char token_of(char c)
{
	return token[(unsigned char) c];
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

#define ONES (UINT64_MAX / 0xff) /* 1 in each byte */

/* The next eight bytes, the first one lowest. */
static inline uint64_t word_at(const char *at)
{
	uint64_t w;

	memcpy(&w, at, sizeof(w));
	return le64toh(w);
}

/*
 * Past sixteen bytes and sixteen again, as long as all are @least or more, and not DEL; true:
 * @at is at one that is not. Where there is no SSE2, past() goes by eight from the beginning.
 */
#ifdef __SSE2__
static inline bool past_sixteens(const char **at, const char *end, unsigned char least)
{
	const __m128i del = _mm_set1_epi8(0x7f), low = _mm_set1_epi8((char) least);

	for (; end - *at >= 16; *at += 16) {
		const __m128i v = _mm_loadu_si128((const __m128i *) *at);
		const __m128i enough = _mm_cmpeq_epi8(_mm_max_epu8(v, low), v);
		const __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), enough);
		const unsigned bad = (unsigned) _mm_movemask_epi8(good) ^ 0xffff;

		if (bad != 0) {
			*at += __builtin_ctz(bad);
			return true;
		}
	}
	return false;
}
#else
static inline bool past_sixteens(const char **at, const char *end, unsigned char least)
{
	(void) at;
	(void) end;
	(void) least;
	return false;
}
#endif

/*
 * Past every byte that is @least (at most 0x80) or more, and not DEL. Eight at once: when all
 * are from @least to '~' nothing is borrowed or carried, and no high bit is set. Else of
 * (w - least) & ~w the high bit of a byte is set in the lowest byte that is less; what is set
 * above that one may be a borrow's doing. (del - 1) & ~del likewise for 0.
 */
static inline const char *past(const char *at, const char *end, unsigned char least)
{
	const uint64_t high = ONES * 0x80;

	if (past_sixteens(&at, end, least))
		return at;
	for (; (size_t) (end - at) >= sizeof(uint64_t); at += sizeof(uint64_t)) {
		const uint64_t w = word_at(at), less = w - ONES * least;

		if (((less | (w + ONES) | w) & high) == 0)
			continue;

		const uint64_t del = w ^ ONES * 0x7f;
		const uint64_t found = ((less & ~w) | ((del - ONES) & ~del)) & high;

		if (found)
			return at + __builtin_ctzll(found) / 8;
	}
	while (at < end && (unsigned char) *at >= least && *at != 0x7f)
		at++;
	return at;
}

/* Past what a value or a reason may hold: no control character but HT. */
static inline const char *past_text(const char *at, const char *end)
{
	for (at = past(at, end, ' '); at < end && *at == '\t'; at = past(at + 1, end, ' '))
		;
	return at;
}

/* ---- names ---- */

struct known {
	char name[18];
	uint8_t role, field; /* field: HTTP1_FIELD_IDS when the value is not kept */
};

/* By the length of the name. */
static const struct known known[][6] = {
	[2] = { { "b3", PLAIN, HTTP1_B3 } },
	[4] = { { "host", PLAIN, HTTP1_HOST } },
	[6] = { { "expect", EXPECT, HTTP1_FIELD_IDS } },
	[7] = { { "baggage", PLAIN, HTTP1_BAGGAGE },
		{ "upgrade", UPGRADE, HTTP1_FIELD_IDS } },
	[10] = { { "connection", CONNECTION, HTTP1_FIELD_IDS },
		 { "user-agent", PLAIN, HTTP1_USER_AGENT },
		 { "tracestate", PLAIN, HTTP1_TRACESTATE },
		 { "x-trace-id", PLAIN, HTTP1_X_TRACE_ID },
		 { "x-b3-flags", PLAIN, HTTP1_B3_FLAGS } },
	[11] = { { "traceparent", PLAIN, HTTP1_TRACEPARENT },
		 { "x-b3-spanid", PLAIN, HTTP1_B3_SPANID } },
	[12] = { { "content-type", PLAIN, HTTP1_CONTENT_TYPE },
		 { "x-b3-traceid", PLAIN, HTTP1_B3_TRACEID },
		 { "x-b3-sampled", PLAIN, HTTP1_B3_SAMPLED } },
	[13] = { { "uber-trace-id", PLAIN, HTTP1_UBER_TRACE_ID } },
	[14] = { { "content-length", CONTENT_LENGTH, HTTP1_FIELD_IDS } },
	[15] = { { "x-forwarded-for", PLAIN, HTTP1_X_FORWARDED_FOR } },
	[17] = { { "transfer-encoding", TRANSFER_ENCODING, HTTP1_FIELD_IDS },
		 { "x-b3-parentspanid", PLAIN, HTTP1_B3_PARENTSPANID } },
};

static const char method_names[][8] = {
	[HTTP1_OTHER] = "_OTHER",
	[HTTP1_CONNECT] = "CONNECT",
	[HTTP1_DELETE] = "DELETE",
	[HTTP1_GET] = "GET",
	[HTTP1_HEAD] = "HEAD",
	[HTTP1_OPTIONS] = "OPTIONS",
	[HTTP1_PATCH] = "PATCH",
	[HTTP1_POST] = "POST",
	[HTTP1_PUT] = "PUT",
	[HTTP1_TRACE] = "TRACE",
};

#define METHODS (sizeof(method_names) / sizeof(method_names[0]))

static const char *const reason_names[HTTP1_REASONS] = {
	[HTTP1_FOLLOWED] = "followed",
	[HTTP1_NOT_HTTP] = "not HTTP/1",
	[HTTP1_H2_PREFACE] = "HTTP/2",
	[HTTP1_BAD_SYNTAX] = "bad syntax",
	[HTTP1_BAD_FRAMING] = "bad framing",
	[HTTP1_HEAD_TOO_LONG] = "head too long",
	[HTTP1_UPGRADED] = "upgraded",
	[HTTP1_TUNNEL] = "tunnel",
	[HTTP1_UNSEEN] = "bytes not seen",
	[HTTP1_CUT_SHORT] = "closed in the middle",
};

const char *http1_method_name(enum http1_method method)
{
	return method_names[(unsigned) method < METHODS ? method : HTTP1_OTHER];
}

const char *http1_reason_name(enum http1_reason reason)
{
	return (unsigned) reason < HTTP1_REASONS ? reason_names[reason] : "unknown";
}

/* Of @name eight bytes can be read, whatever @n. */
static enum http1_method method_of(const char *name, size_t n)
{
	if (n >= sizeof(uint64_t))
		return HTTP1_OTHER;

	const uint64_t word = word_at(name) & ((UINT64_C(1) << 8 * n) - 1);

	for (size_t i = HTTP1_OTHER + 1; i < METHODS; i++) {
		if (word_at(method_names[i]) == word)
			return (enum http1_method) i;
	}
	return HTTP1_OTHER;
}

enum http1_method http1_method_named(const char *name, size_t n)
{
	char word[sizeof(uint64_t)] = "";

	memcpy(word, name, n < sizeof(word) ? n : sizeof(word));
	return method_of(word, n);
}

/* Is the element of a list that was read last @word, of @n bytes? */
static inline bool name_is(const struct http1 *p, const char *word, size_t n)
{
	return p->name_used == n && memcmp(p->name, word, n) == 0;
}

/* A token's letters in lower case; no byte of another token becomes one of a known name's. */
static inline uint64_t lower_at(const char *at)
{
	return word_at(at) | ONES * 0x20;
}

/*
 * The known field that is called @name, a token of @n bytes in any case; NULL: none is. Eight
 * bytes can be read of it, whatever @n.
 */
static const struct known *known_of(const char *name, size_t n)
{
	if (n >= sizeof(known) / sizeof(known[0]))
		return NULL;

	const uint64_t all = n < 8 ? (UINT64_C(1) << 8 * n) - 1 : UINT64_MAX;
	const uint64_t word = lower_at(name) & all;

	for (const struct known *k = known[n]; k->role != NO_FIELD; k++) {
		if (word_at(k->name) != word)
			continue;
		if (n <= 8)
			return k;
		/* The words overlap. */
		if (word_at(k->name + n - 8) == lower_at(name + n - 8) &&
		    (n <= 16 || word_at(k->name + 8) == lower_at(name + 8)))
			return k;
	}
	return NULL;
}

static bool is_extra(const char *name, size_t n, const char *extra)
{
	if (n >= HTTP1_NAME_SIZE)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (token_of(name[i]) != extra[i] || extra[i] == '\0')
			return false;
	}
	return extra[n] == '\0';
}

/* As which of @extra a field called @name is kept; HTTP1_FIELD_IDS: as none. */
static inline uint8_t extra_of(const char *name, size_t n, const struct http1_extra *extra)
{
	for (unsigned i = 0; extra && i < extra->n; i++) {
		if (is_extra(name, n, extra->names[i]))
			return (uint8_t) (HTTP1_EXTRA + i);
	}
	return HTTP1_FIELD_IDS;
}

/*
 * Under what a field is kept, and what it says to us: as ours, else as the user's. @name as
 * known_of() has it.
 */
static inline uint8_t look_up(const char *name, size_t n, const struct http1_extra *extra,
			      uint8_t *ret_role)
{
	const struct known *k = known_of(name, n);

	*ret_role = k ? k->role : PLAIN;
	return k && k->field != HTTP1_FIELD_IDS ? k->field : extra_of(name, n, extra);
}

enum http1_field http1_field_named(const char *name, size_t n, const struct http1_extra *extra)
{
	char word[sizeof(uint64_t)] = "";

	if (n == 0)
		return HTTP1_FIELD_IDS;
	memcpy(word, name, n < sizeof(word) ? n : sizeof(word));

	const struct known *k = known_of(n < sizeof(word) ? word : name, n);

	if (!k || k->field == HTTP1_FIELD_IDS)
		return (enum http1_field) extra_of(name, n, extra);
	/* Of HTTP/2 it may be no token. */
	return memcmp(k->name, name, n) == 0 ? (enum http1_field) k->field : HTTP1_FIELD_IDS;
}

/* The first bytes of something; a name_used of HTTP1_NAME_SIZE: it is longer than we care. */
static void remember(struct http1 *p, const char *s, size_t n)
{
	const size_t room = sizeof(p->name) - p->name_used;

	n = n < room ? n : room;
	if (n > 0)
		memcpy(p->name + p->name_used, s, n);
	p->name_used = (uint8_t) (p->name_used + n);
}

static void remember_byte(struct http1 *p, char c)
{
	if (p->name_used < sizeof(p->name))
		p->name[p->name_used++] = c;
}

/* ---- giving up ---- */

static int refuse(struct http1 *p, enum http1_reason reason)
{
	p->reason = reason;
	p->state = OPAQUE;
	return HTTP1_OPAQUE;
}

/* Of a first line: only one that was HTTP's makes the connection HTTP's. */
static enum http1_reason bad_line(const struct http1 *p)
{
	return p->is_http ? HTTP1_BAD_SYNTAX : HTTP1_NOT_HTTP;
}

/* To be said with the next call. */
static void become_opaque(struct http1 *p, enum http1_reason reason)
{
	p->reason = reason;
	p->state = OPAQUE_UNSAID;
}

/* ---- the arena ---- */

static void slice_open(struct http1 *p, uint8_t id)
{
	p->open = p->n_fields < HTTP1_FIELDS_MAX;
	p->folded = false;
	if (p->open)
		p->fields[p->n_fields++] = (struct http1_slice) { .id = id, .at = p->used };
	else
		p->fields_cut = true;
}

/* Returns false when there is no room for it, and the caller may be asked for some. */
static bool slice_join(struct http1 *p, struct http1_slice *slice)
{
	/* White space that stood before the line's end is in the arena and will do. */
	if (slice->len > 0 && p->used == slice->at + slice->len) {
		if (p->used == p->size)
			return false;
		p->arena[p->used++] = ' ';
	}
	p->folded = false;
	return true;
}

/* As memcpy(), for the few bytes that fields have; the last two words overlap. */
static inline void copy(char *to, const char *from, size_t n)
{
	size_t i = 0;

	for (; i + sizeof(uint64_t) < n; i += sizeof(uint64_t))
		memcpy(to + i, from + i, sizeof(uint64_t));
	if (n >= sizeof(uint64_t)) {
		memcpy(to + n - sizeof(uint64_t), from + n - sizeof(uint64_t), sizeof(uint64_t));
		return;
	}
	for (; i < n; i++)
		to[i] = from[i];
}

/* How many of @s's bytes are dealt with; fewer than @n: the arena is full. */
static size_t slice_add(struct http1 *p, const char *s, size_t n)
{
	struct http1_slice *const slice = &p->fields[p->n_fields - 1];

	if (!p->open || slice->cut || n == 0)
		return n;

	const bool joined = !p->folded || slice_join(p, slice);
	const size_t room = joined ? (size_t) (p->size - p->used) : 0;
	const size_t fits = n < room ? n : room;
	size_t kept = fits;

	copy(p->arena + p->used, s, fits);
	while (kept > 0 && blank(s[kept - 1]))
		kept--;
	if (kept > 0)
		slice->len = (uint16_t) (p->used + kept - slice->at);
	p->used = (uint16_t) (p->used + fits);
	if (fits == n || !(p->cutting || p->size == 0))
		return fits;
	slice->cut = true;
	return n;
}

/* All of a value at once, as slice_open() and slice_add() would, when slice_fits(). */
static inline void slice_keep(struct http1 *p, uint8_t id, const char *s, size_t n)
{
	const uint16_t at = p->used;
	size_t kept = n;

	slice_open(p, id);
	if (!p->open || n == 0)
		return;

	struct http1_slice *const slice = &p->fields[p->n_fields - 1];

	slice->cut = p->size == 0;
	if (slice->cut)
		return;
	copy(p->arena + at, s, n);
	while (kept > 0 && blank(s[kept - 1]))
		kept--;
	slice->len = (uint16_t) kept;
	p->used = (uint16_t) (at + n);
}

/* Will slice_add() deal with all of @n bytes of a new slice? */
static bool slice_fits(const struct http1 *p, size_t n)
{
	return n <= (size_t) (p->size - p->used) || p->size == 0;
}

void http1_move(struct http1 *p, char *arena, size_t size)
{
	if (p->used > 0)
		memcpy(arena, p->arena, p->used);
	p->arena = arena;
	p->size = (uint16_t) (size < UINT16_MAX ? size : UINT16_MAX);
}

void http1_cut(struct http1 *p)
{
	p->cutting = true;
}

/* ---- values that say something to us ---- */

static bool hear_length(struct http1 *p, char c)
{
	const uint64_t digit = (uint64_t) (c - '0');

	if (c == ' ') {
		p->sub = SPACE_AFTER;
		return true;
	}
	if (c < '0' || c > '9' || p->sub == SPACE_AFTER || p->to_read > (UINT64_MAX - digit) / 10)
		return false;
	p->to_read = p->to_read * 10 + digit;
	p->sub = WITHIN;
	return true;
}

/* Of constant length, so that it is a comparison of words. */
#define NAME_IS(p, word) name_is((p), (word), sizeof(word) - 1)

static void hear_option(struct http1 *p)
{
	if (NAME_IS(p, "close"))
		p->flags |= CLOSE;
	else if (NAME_IS(p, "keep-alive"))
		p->flags |= KEEP_ALIVE;
	else if (NAME_IS(p, "upgrade"))
		p->flags |= CONNECTION_UPGRADE;
}

/* An element of a list is over. Returns false when framing does not allow it. */
static bool hear_element(struct http1 *p)
{
	const bool empty = p->sub == NOTHING_YET;

	p->sub = NOTHING_YET;
	if (empty)
		return p->role != TRANSFER_ENCODING;
	if (p->role == TRANSFER_ENCODING) {
		if (p->flags & CHUNKED) /* it must be the last */
			return false;
		p->flags |= NAME_IS(p, "chunked") ? CHUNKED : 0;
	} else if (p->role == CONNECTION) {
		hear_option(p);
	} else if (p->role == EXPECT) {
		p->expects |= NAME_IS(p, "100-continue");
	} else {
		p->flags |= UPGRADE_NAMED;
	}
	p->name_used = 0;
	return true;
}

#undef NAME_IS

/*
 * Of Transfer-Encoding we understand names alone: in a parameter's string a comma is none. HT
 * behind a name or a length is white space to some readers and part of it to others.
 */
static bool hear_list(struct http1 *p, char c)
{
	const char lower = token_of(c);

	if (c == ',')
		return hear_element(p);
	if (c == ' ' || (c == '\t' && p->role != TRANSFER_ENCODING)) {
		p->sub = p->sub == WITHIN ? SPACE_AFTER : p->sub;
		return true;
	}
	if (p->role == TRANSFER_ENCODING && (lower == 0 || p->sub == SPACE_AFTER))
		return false;
	if (p->sub == SPACE_AFTER)
		remember_byte(p, ' ');
	remember_byte(p, lower ? lower : c);
	p->sub = WITHIN;
	return true;
}

/* What hear_list() would do with the token that @s, of @n bytes, begins with; its length. */
static size_t hear_token(struct http1 *p, const char *s, size_t n)
{
	const size_t room = sizeof(p->name) - p->name_used, most = n < room ? n : room;
	char *const to = p->name + p->name_used;
	size_t length = 0;

	for (char c; length < most && (c = token_of(s[length])) != 0; length++)
		to[length] = c;
	p->name_used = (uint8_t) (p->name_used + length);
	p->sub = length > 0 ? WITHIN : p->sub;
	return length;
}

/* How many of @s's bytes are well; fewer than @n: the next one is not. */
static size_t hear(struct http1 *p, const char *s, size_t n)
{
	if (p->role < CONTENT_LENGTH)
		return n;
	for (size_t i = 0; i < n; i++) {
		if (p->role > CONTENT_LENGTH && p->sub != SPACE_AFTER)
			i += hear_token(p, s + i, n - i);
		if (i == n)
			break;
		if (p->role == CONTENT_LENGTH ? !hear_length(p, s[i]) : !hear_list(p, s[i]))
			return i;
	}
	return n;
}

/* The line after a value begins, and does not continue it. */
static bool hear_end(struct http1 *p)
{
	if (p->role < CONTENT_LENGTH)
		return true;
	if (p->role == CONTENT_LENGTH)
		return p->sub != NOTHING_YET;
	return hear_element(p);
}

/* One byte that must come, for the state after it. */
static int take(struct http1 *p, struct cursor *in, char wanted, uint8_t next,
		enum http1_reason otherwise)
{
	if (in->at == in->end)
		return HTTP1_MORE;
	if (*in->at != wanted)
		return refuse(p, otherwise);
	in->at++;
	p->state = next;
	return ON;
}

/* ---- between messages ---- */

static int step_before(struct http1 *p, struct cursor *in)
{
	if (in->at == in->end)
		return HTTP1_MORE;
	if (p->side == HTTP1_REQUESTS && (*in->at == '\r' || *in->at == '\n')) {
		p->state = *in->at++ == '\r' ? BEFORE_LF : BEFORE;
		return ON;
	}
	if (p->side == HTTP1_REQUESTS ? token_of(*in->at) == 0 : *in->at != 'H')
		return refuse(p, bad_line(p));
	p->state = LINE_SAID;
	return HTTP1_LINE;
}

static int step_before_lf(struct http1 *p, struct cursor *in)
{
	return take(p, in, '\n', BEFORE, bad_line(p));
}

/* http1_feed() goes on from here when there is a byte. */
static int step_line_said(struct http1 *p, struct cursor *in)
{
	(void) p;
	(void) in;
	return HTTP1_MORE;
}

static void head_begin(struct http1 *p)
{
	p->method = HTTP1_OTHER;
	p->status = 0;
	p->until_close = p->last = p->upgrade = p->expects = false;
	p->n_fields = 0;
	p->fields_cut = p->open = p->folded = p->cutting = p->in_trailers = false;
	p->head_bytes = p->lines = 0;
	p->used = 0;
	p->to_read = 0;
	p->sub = p->flags = p->name_used = 0;
	p->role = NO_FIELD;
	p->state = VERSION;
	if (p->side == HTTP1_REQUESTS) {
		slice_open(p, HTTP1_METHOD);
		p->state = METHOD;
	}
}

/* ---- the first line ---- */

/* Keeps the next @n bytes; the name holds the beginning of the line as written. */
static int take_word(struct http1 *p, struct cursor *in, size_t n)
{
	const size_t taken = slice_add(p, in->at, n);

	remember(p, in->at, taken);
	in->at += taken;
	return taken < n ? HTTP1_FULL : in->at == in->end ? HTTP1_MORE : ON;
}

/* What every version begins with, and the digits that we know. */
static bool version_at(const char *at, uint8_t *ret_minor)
{
	const uint64_t digit = word_at(at) ^ word_at("HTTP/1.0");

	*ret_minor = (uint8_t) (digit >> 56);
	return digit == 0 || digit == UINT64_C(1) << 56;
}

/* A request's first line at once, when nothing of it was taken yet. */
static bool request_line(struct http1 *p, struct cursor *in)
{
	const char *const at = in->at, *const end = in->end;
	const size_t shortest = sizeof("GET / HTTP/1.1\r\n") - 1;
	uint8_t minor;
	size_t n = 0;

	if ((size_t) (end - at) < shortest)
		return false;
	while (n < shortest && token_of(at[n]))
		n++;

	const char *const target = at + n + 1;

	if (n == shortest || at[n] != ' ')
		return false;

	const char *const stop = past(target, end, ' ' + 1);

	if ((size_t) (end - stop) < sizeof(" HTTP/1.1\r\n") - 1 || stop == target || *stop != ' ' ||
	    !version_at(stop + 1, &minor) || stop[9] != '\r' || stop[10] != '\n' ||
	    !slice_fits(p, (size_t) (stop - at)))
		return false;
	(void) slice_add(p, at, n);
	slice_keep(p, HTTP1_TARGET, target, (size_t) (stop - target));
	p->method = method_of(at, n);
	p->minor = minor;
	p->is_http = true;
	p->state = FIELD;
	in->at = stop + 11;
	return true;
}

static int step_method(struct http1 *p, struct cursor *in)
{
	if (p->name_used == 0 && request_line(p, in))
		return ON;

	const size_t room = METHOD_MAX - p->name_used, n = (size_t) (in->end - in->at);
	size_t length = 0;

	while (length < n && length < room && token_of(in->at[length]))
		length++;

	const int rc = take_word(p, in, length);

	if (rc != ON)
		return rc;
	if (*in->at != ' ')
		return refuse(p, bad_line(p));
	p->method = method_of(p->name, p->name_used);
	in->at++;
	remember_byte(p, ' ');
	slice_open(p, HTTP1_TARGET);
	p->sub = 0;
	p->state = TARGET;
	return ON;
}

static int step_target(struct http1 *p, struct cursor *in)
{
	const char *const begin = in->at;
	const int rc = take_word(p, in, (size_t) (past(begin, in->end, ' ' + 1) - begin));

	p->sub |= in->at > begin; /* there is one */
	if (rc != ON)
		return rc;
	if (*in->at != ' ' || p->sub == 0)
		return refuse(p, bad_line(p));
	in->at++;
	remember_byte(p, ' ');
	p->sub = 0;
	p->state = VERSION;
	return ON;
}

static bool is_h2_preface(const struct http1 *p, char c)
{
	static const char line[] = "PRI * ";

	return p->side == HTTP1_REQUESTS && p->sub == sizeof("HTTP/") - 1 && c == '2' &&
	       p->name_used == sizeof(line) - 1 && memcmp(p->name, line, sizeof(line) - 1) == 0;
}

static unsigned digit_of(char c)
{
	return (unsigned) (unsigned char) c - '0';
}

/* An answer's first line at once, when nothing of it was taken yet. */
static bool status_line(struct http1 *p, struct cursor *in)
{
	const char *const at = in->at, *const end = in->end;
	uint8_t minor;

	if ((size_t) (end - at) < sizeof("HTTP/1.1 200\r\n") - 1 || !version_at(at, &minor) ||
	    at[8] != ' ')
		return false;

	const unsigned hundreds = digit_of(at[9]), tens = digit_of(at[10]), ones = digit_of(at[11]);
	const char *const stop = past_text(at + 12, end);

	if (hundreds - 1 > 8 || tens > 9 || ones > 9 || (at[12] != ' ' && stop > at + 12) ||
	    end - stop < 2 || stop[0] != '\r' || stop[1] != '\n')
		return false;
	p->status = (uint16_t) (hundreds * 100 + tens * 10 + ones);
	p->minor = minor;
	p->is_http = true;
	p->state = FIELD;
	in->at = stop + 2;
	return true;
}

static int step_version(struct http1 *p, struct cursor *in)
{
	static const char start[] = "HTTP/1.";

	if (p->side == HTTP1_RESPONSES && p->sub == 0 && status_line(p, in))
		return ON;
	for (; in->at < in->end && p->sub < sizeof(start) - 1; p->sub++, in->at++) {
		if (is_h2_preface(p, *in->at))
			return refuse(p, HTTP1_H2_PREFACE);
		if (*in->at != start[p->sub])
			return refuse(p, bad_line(p));
	}
	if (in->at == in->end)
		return HTTP1_MORE;
	if (*in->at != '0' && *in->at != '1')
		return refuse(p, bad_line(p));
	p->minor = *in->at++ == '1';
	p->is_http = true;
	p->sub = 0;
	p->state = p->side == HTTP1_REQUESTS ? LINE_END : STATUS;
	return ON;
}

/* @sub: how many of the space and the three digits were taken. */
static int step_status(struct http1 *p, struct cursor *in)
{
	for (; in->at < in->end && p->sub < 4; p->sub++, in->at++) {
		const char c = *in->at, least = p->sub == 1 ? '1' : '0';

		if (p->sub == 0 ? c != ' ' : c < least || c > '9')
			return refuse(p, HTTP1_BAD_SYNTAX);
		if (p->sub > 0)
			p->status = (uint16_t) (p->status * 10 + (c - '0'));
	}
	if (in->at == in->end)
		return HTTP1_MORE;
	/* The space is due even without a reason, but not all send it. */
	if (*in->at != ' ' && *in->at != '\r' && *in->at != '\n')
		return refuse(p, HTTP1_BAD_SYNTAX);
	p->state = REASON;
	return ON;
}

static int step_line_lf(struct http1 *p, struct cursor *in)
{
	return take(p, in, '\n', FIELD, HTTP1_BAD_SYNTAX);
}

static int step_line_end(struct http1 *p, struct cursor *in)
{
	if (in->at == in->end)
		return HTTP1_MORE;
	p->state = LINE_LF;
	in->at += *in->at == '\r';
	return step_line_lf(p, in); /* LF alone will do */
}

static int step_reason(struct http1 *p, struct cursor *in)
{
	in->at = past_text(in->at, in->end);
	return step_line_end(p, in);
}

/* ---- field lines ---- */

static int fold(struct http1 *p)
{
	if (p->role == NO_FIELD)
		return refuse(p, HTTP1_BAD_SYNTAX);
	/* Some readers take the line as a value's, some drop it, some take it for a name. */
	if (p->role == CONTENT_LENGTH || p->role == TRANSFER_ENCODING)
		return refuse(p, HTTP1_BAD_FRAMING);
	(void) hear(p, " ", 1);
	p->folded = true;
	p->state = VALUE_BEFORE;
	return ON;
}

/* The blank line comes: what the fields said together. */
static int head_end(struct http1 *p)
{
	const bool coded = (p->flags & HAS_CODING) != 0;

	if (p->side == HTTP1_REQUESTS && coded && !(p->flags & CHUNKED))
		return refuse(p, HTTP1_BAD_FRAMING);
	p->last = (p->flags & CLOSE) || (p->minor == 0 && !(p->flags & KEEP_ALIVE));
	p->upgrade = p->side == HTTP1_REQUESTS && p->minor > 0 &&
		     (p->flags & CONNECTION_UPGRADE) && (p->flags & UPGRADE_NAMED);
	p->state = BLANK;
	return HTTP1_BLANK;
}

/* What frames the message is said once, and in one way. */
static bool may_frame(const struct http1 *p, uint8_t role)
{
	if (role == CONTENT_LENGTH)
		return (p->flags & (HAS_LENGTH | HAS_CODING)) == 0;
	/* HTTP/1.0 has no coding: who sent it may be a proxy that did not look (9112, 6.1). */
	return (p->flags & HAS_LENGTH) == 0 && p->minor != 0;
}

/* A name is over: what its value is kept as, and what it says to us. */
static int field_begin(struct http1 *p, uint8_t field, uint8_t role)
{
	p->role = role;
	p->open = false;
	p->name_used = 0;
	p->sub = NOTHING_YET;
	if (field != HTTP1_FIELD_IDS)
		slice_open(p, field);
	if (role != CONTENT_LENGTH && role != TRANSFER_ENCODING)
		return ON;
	if (!may_frame(p, role))
		return refuse(p, HTTP1_BAD_FRAMING);
	p->flags |= role == CONTENT_LENGTH ? HAS_LENGTH : HAS_CODING;
	return ON;
}

/* The length of the name that @at begins with; @most, at least 8: no colon ends it before. */
static inline size_t name_length(const char *at, size_t most)
{
	size_t n = 0;

	for (; n + sizeof(uint64_t) <= most; n += sizeof(uint64_t)) {
		const uint64_t colon = word_at(at + n) ^ ONES * ':';
		const uint64_t found = (colon - ONES) & ~colon & ONES * 0x80;

		if (found)
			return n + (size_t) __builtin_ctzll(found) / 8;
	}
	while (n < most && at[n] != ':')
		n++;
	return n;
}

/* Is every byte of @w a letter or '-'? None of them is a control character. */
static inline bool letters(uint64_t w)
{
	const uint64_t lower = w | ONES * 0x20, dash = lower ^ ONES * '-';
	/* In the high bits, when @w has none: 'a' or more, '{' or more, not '-'. */
	const uint64_t a = lower + ONES * (0x80 - 'a'), z = lower + ONES * (0x7f - 'z');
	const uint64_t other = dash + ONES * 0x7f;

	return (((a & ~z) | ~other) & ~w & ONES * 0x80) == ONES * 0x80;
}

/* Of @at eight bytes can be read, whatever @n, and none is a control character. */
static inline bool is_token(const char *at, size_t n)
{
	size_t i = 0;

	if (n < 8) {
		const unsigned unused = 8 * (8 - (unsigned) n);

		if (n > 0 && letters(word_at(at) << unused | ONES * 'a' >> (64 - unused)))
			return true;
	} else {
		for (; i + 8 <= n && letters(word_at(at + i)); i += 8)
			;
	}
	while (i < n && token_of(at[i]))
		i++;
	return i == n && n > 0;
}

/*
 * The length of the name that @at begins with, as name_length() has it; @ret_letters: it is one
 * or more letters and '-', as most names are. None of its bytes is a control character.
 */
#ifdef __SSE2__
static inline size_t name_at(const char *at, const char *end, bool *ret_letters)
{
	*ret_letters = false;
	if (end - at < 16)
		return name_length(at, (size_t) (end - at));

	const __m128i v = _mm_loadu_si128((const __m128i *) at), last = _mm_set1_epi8('z' - 'a');
	const __m128i lower = _mm_or_si128(v, _mm_set1_epi8(0x20));
	const __m128i letter = _mm_sub_epi8(lower, _mm_set1_epi8('a'));
	const __m128i good = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, last), letter),
					  _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
	const int colons = _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(':')));

	if (colons == 0)
		return name_length(at, (size_t) (end - at));

	const unsigned n = (unsigned) __builtin_ctz((unsigned) colons);

	*ret_letters = n > 0 && (~(unsigned) _mm_movemask_epi8(good) & ((1u << n) - 1)) == 0;
	return n;
}
#else
static inline size_t name_at(const char *at, const char *end, bool *ret_letters)
{
	*ret_letters = false;
	return name_length(at, (size_t) (end - at));
}
#endif

/* A length of so few digits that there is no overflow, and nothing else. */
static bool plain_length(const char *at, size_t n, uint64_t *ret)
{
	uint64_t length = 0;

	if (n == 0 || n > 18)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (digit_of(at[i]) > 9)
			return false;
		length = length * 10 + digit_of(at[i]);
	}
	*ret = length;
	return true;
}

/*
 * Has what a value says been heard? Then at once all of it, the end of its last element too.
 * False, and nothing was: the steps must say what is wrong, or whether anything is. Of the value
 * three bytes more can be read.
 */
static bool hear_all(struct http1 *p, uint8_t role, const char *value, size_t n)
{
	static const char keep_alive[] = "keep-alive", close[8] = "close", chunked[8] = "chunked";

	switch ((enum role) role) {
	case NO_FIELD:
	case PLAIN:
		return true;
	case CONTENT_LENGTH:
		if (!may_frame(p, role) || !plain_length(value, n, &p->to_read))
			return false;
		p->flags |= HAS_LENGTH;
		return true;
	case TRANSFER_ENCODING:
		if (!may_frame(p, role) || (p->flags & CHUNKED) || n != 7 ||
		    (lower_at(value) & UINT64_MAX >> 8) != word_at(chunked))
			return false;
		p->flags |= HAS_CODING | CHUNKED;
		return true;
	case CONNECTION:
		if (n == 10 && lower_at(value) == word_at(keep_alive) &&
		    lower_at(value + 2) == word_at(keep_alive + 2)) {
			p->flags |= KEEP_ALIVE;
			return true;
		}
		if (n == 5 && (lower_at(value) & UINT64_MAX >> 24) == word_at(close)) {
			p->flags |= CLOSE;
			return true;
		}
		break;
	case EXPECT:
	case UPGRADE:
		break;
	}
	p->role = role;
	p->sub = NOTHING_YET;
	p->name_used = 0;
	(void) hear(p, value, n);
	(void) hear_element(p);
	p->role = PLAIN;
	return true;
}

/*
 * The lines of a head from @at on, where a name begins, as far as they are whole and as they
 * should be, and no line goes on with their value. Returns where the first other line begins.
 */
static const char *field_lines(struct http1 *p, const char *at, const char *end,
			       const struct http1_extra *extra)
{
	while ((size_t) (end - at) >= sizeof(uint64_t)) {
		const char *const stop = past_text(at, end);

		if (end - stop < 3 || stop[0] != '\r' || stop[1] != '\n' || blank(stop[2]))
			break;

		bool is_letters;
		const size_t n = name_at(at, end, &is_letters);
		const char *value = at + n + 1;
		uint8_t role;

		if (value > stop)
			break;
		value += *value == ' '; /* as mostly, and no more */
		while (blank(*value))
			value++;

		const size_t length = (size_t) (stop - value);
		const uint8_t field = look_up(at, n, extra, &role);
		const bool kept = field != HTTP1_FIELD_IDS;

		/* A known name is a token. */
		if ((role == PLAIN && !kept && !is_letters && !is_token(at, n)) ||
		    (kept && !slice_fits(p, length)) || !hear_all(p, role, value, length))
			break;
		if (kept)
			slice_keep(p, field, value, length);
		p->lines++;
		at = stop + 2;
	}
	return at;
}

static int step_field(struct http1 *p, struct cursor *in)
{
	if (in->at == in->end)
		return HTTP1_MORE;
	if (blank(*in->at))
		return fold(p);
	if (!hear_end(p))
		return refuse(p, HTTP1_BAD_FRAMING);
	p->role = PLAIN;
	if (!p->in_trailers && token_of(*in->at))
		in->at = field_lines(p, in->at, in->end, in->extra);
	if (*in->at == '\r' || *in->at == '\n') {
		p->state = BLANK;
		return p->in_trailers ? ON : head_end(p);
	}
	p->lines += !p->in_trailers;
	p->name_used = 0;
	p->state = NAME;
	return ON;
}

static int step_name(struct http1 *p, struct cursor *in)
{
	const char *const at = in->at; /* a local: bytes stored into a name may alias all else */
	char *const to = p->name + p->name_used;
	const size_t n = (size_t) (in->end - in->at), room = sizeof(p->name) - p->name_used;
	const size_t most = n < room ? n : room;
	size_t length = 0;

	for (char c; length < most && (c = token_of(at[length])) != 0; length++)
		to[length] = c;
	p->name_used = (uint8_t) (p->name_used + length);
	if (length == room) { /* too long for any of ours */
		while (length < n && token_of(at[length]))
			length++;
	}
	in->at += length;
	if (length == n)
		return HTTP1_MORE;
	/* White space before a colon hides a field from some. */
	if (*in->at != ':' || p->name_used == 0)
		return refuse(p, HTTP1_BAD_SYNTAX);

	uint8_t role = PLAIN;
	const uint8_t field = p->in_trailers ? HTTP1_FIELD_IDS
					     : look_up(p->name, p->name_used, in->extra, &role);
	const int rc = field_begin(p, field, role);

	p->state = rc == ON ? VALUE_BEFORE : p->state;
	in->at += rc == ON;
	return rc;
}

static int step_value_before(struct http1 *p, struct cursor *in)
{
	while (in->at < in->end && blank(*in->at))
		in->at++;
	if (in->at == in->end)
		return HTTP1_MORE;
	p->state = VALUE;
	return ON;
}

static int step_value(struct http1 *p, struct cursor *in)
{
	const char *const stop = past_text(in->at, in->end);
	const size_t n = (size_t) (stop - in->at), taken = p->open ? slice_add(p, in->at, n) : n;
	const size_t heard = hear(p, in->at, taken);

	in->at += heard;
	if (heard < taken)
		return refuse(p, HTTP1_BAD_FRAMING);
	return taken < n ? HTTP1_FULL : step_line_end(p, in);
}

/* ---- the end of a head, and bodies ---- */

/* Is there none, whatever the fields say (RFC 9112, 6.3)? */
static bool bodiless(const struct http1 *p)
{
	return p->side == HTTP1_RESPONSES &&
	       (p->status < 200 || p->status == 204 || p->status == 304 || p->to == HTTP1_HEAD);
}

static bool tunnels(const struct http1 *p)
{
	return p->side == HTTP1_REQUESTS
		       ? p->method == HTTP1_CONNECT
		       : p->to == HTTP1_CONNECT && p->status >= 200 && p->status < 300;
}

static void body_begin(struct http1 *p)
{
	p->sub = 0;
	if (p->status == 101) {
		become_opaque(p, HTTP1_UPGRADED);
	} else if (tunnels(p)) {
		become_opaque(p, HTTP1_TUNNEL);
	} else if (bodiless(p)) {
		p->state = OVER;
	} else if (p->flags & CHUNKED) {
		p->state = CHUNK_SIZE;
	} else if (p->side == HTTP1_RESPONSES && !(p->flags & HAS_LENGTH)) {
		p->until_close = true;
		p->state = UNTIL_CLOSE;
	} else {
		p->state = p->to_read > 0 ? LENGTH : OVER;
	}
	if (p->state != LENGTH)
		p->to_read = 0;
}

static int blank_taken(struct http1 *p)
{
	p->state = OVER;
	if (p->in_trailers)
		return ON;
	body_begin(p);
	return HTTP1_HEAD_DONE;
}

static int step_blank_lf(struct http1 *p, struct cursor *in)
{
	const int rc = take(p, in, '\n', OVER, HTTP1_BAD_SYNTAX);

	return rc == ON ? blank_taken(p) : rc;
}

static int step_blank(struct http1 *p, struct cursor *in)
{
	if (in->at == in->end)
		return HTTP1_MORE;
	if (*in->at++ == '\n')
		return blank_taken(p);
	p->state = BLANK_LF;
	return step_blank_lf(p, in);
}

/* How many of @n bytes are the body's, or the chunk's; its last one changes the state. */
static uint64_t body_take(struct http1 *p, uint64_t n)
{
	if (p->state == UNTIL_CLOSE)
		return n;

	const uint64_t taken = n < p->to_read ? n : p->to_read;

	p->to_read -= taken;
	if (p->to_read == 0)
		p->state = p->state == LENGTH ? OVER : CHUNK_CR;
	return taken;
}

static int step_body(struct http1 *p, struct cursor *in)
{
	const uint8_t state = p->state;

	in->at += body_take(p, (uint64_t) (in->end - in->at));
	return p->state == state ? HTTP1_MORE : ON;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* @sub: there was a digit. */
static int step_chunk_size(struct http1 *p, struct cursor *in)
{
	for (; in->at < in->end; in->at++) {
		const int digit = hex_digit(*in->at);

		if (digit < 0)
			break;
		if (p->to_read > UINT64_MAX >> 4)
			return refuse(p, HTTP1_BAD_FRAMING);
		p->to_read = p->to_read << 4 | (uint64_t) digit;
		p->sub = 1;
	}
	if (in->at == in->end)
		return HTTP1_MORE;
	if (p->sub == 0 || (*in->at != '\r' && *in->at != ';' && *in->at != ' '))
		return refuse(p, HTTP1_BAD_FRAMING);
	p->sub = 0;
	p->state = CHUNK_EXTENSION;
	return ON;
}

static int step_chunk_extension(struct http1 *p, struct cursor *in)
{
	in->at = past_text(in->at, in->end);
	return take(p, in, '\r', CHUNK_SIZE_LF, HTTP1_BAD_FRAMING);
}

static int step_chunk_size_lf(struct http1 *p, struct cursor *in)
{
	const bool last = p->to_read == 0;

	p->in_trailers = last;
	p->role = NO_FIELD;
	return take(p, in, '\n', last ? FIELD : CHUNK, HTTP1_BAD_FRAMING);
}

static int step_chunk_cr(struct http1 *p, struct cursor *in)
{
	return take(p, in, '\r', CHUNK_LF, HTTP1_BAD_FRAMING);
}

static int step_chunk_lf(struct http1 *p, struct cursor *in)
{
	return take(p, in, '\n', CHUNK_SIZE, HTTP1_BAD_FRAMING);
}

static int step_over(struct http1 *p, struct cursor *in)
{
	(void) in;
	p->state = BEFORE;
	return HTTP1_DONE;
}

static int step_opaque_unsaid(struct http1 *p, struct cursor *in)
{
	(void) in;
	return refuse(p, p->reason);
}

static int step_opaque(struct http1 *p, struct cursor *in)
{
	(void) p;
	in->at = in->end;
	return HTTP1_MORE;
}

static int (*const steps[STATES])(struct http1 *p, struct cursor *in) = {
	[BEFORE] = step_before,
	[BEFORE_LF] = step_before_lf,
	[LINE_SAID] = step_line_said,
	[METHOD] = step_method,
	[TARGET] = step_target,
	[VERSION] = step_version,
	[STATUS] = step_status,
	[REASON] = step_reason,
	[LINE_END] = step_line_end,
	[LINE_LF] = step_line_lf,
	[FIELD] = step_field,
	[NAME] = step_name,
	[VALUE_BEFORE] = step_value_before,
	[VALUE] = step_value,
	[BLANK] = step_blank,
	[BLANK_LF] = step_blank_lf,
	[LENGTH] = step_body,
	[UNTIL_CLOSE] = step_body,
	[CHUNK_SIZE] = step_chunk_size,
	[CHUNK_EXTENSION] = step_chunk_extension,
	[CHUNK_SIZE_LF] = step_chunk_size_lf,
	[CHUNK] = step_body,
	[CHUNK_CR] = step_chunk_cr,
	[CHUNK_LF] = step_chunk_lf,
	[OVER] = step_over,
	[OPAQUE_UNSAID] = step_opaque_unsaid,
	[OPAQUE] = step_opaque,
};

/* ---- the calls ---- */

void http1_init(struct http1 *p, enum http1_side side, char *arena, size_t size)
{
	*p = (struct http1) {
		.side = side,
		.arena = arena,
		.size = (uint16_t) (size < UINT16_MAX ? size : UINT16_MAX),
		.state = BEFORE,
	};
}

static bool in_head(const struct http1 *p)
{
	return p->state >= METHOD && p->state <= BLANK_LF && !p->in_trailers;
}

/* A call sees one head at most: there is something to say before the next. */
enum http1_stop http1_feed(struct http1 *p, const struct http1_extra *extra, const char *bytes,
			   size_t n, size_t *ret_used)
{
	/* What each message ends with, and each call, for which no byte is looked at. */
	if (p->state == OVER || (p->state == BEFORE && n == 0)) {
		const bool over = p->state == OVER;

		p->state = BEFORE;
		*ret_used = 0;
		return over ? HTTP1_DONE : HTTP1_MORE;
	}
	if (p->state == LINE_SAID && n > 0)
		head_begin(p);

	const bool head = in_head(p);
	const size_t room = head ? HTTP1_HEAD_MAX - p->head_bytes : n;
	const size_t seen = n < room ? n : room;
	struct cursor in = { .at = bytes, .end = seen > 0 ? bytes + seen : bytes, .extra = extra };
	int stop;

	do
		stop = steps[p->state](p, &in);
	while (stop == ON);

	*ret_used = (size_t) (in.at - bytes);
	if (head)
		p->head_bytes += (uint32_t) *ret_used;
	if (stop == HTTP1_MORE && *ret_used < n)
		return (enum http1_stop) refuse(p, HTTP1_HEAD_TOO_LONG);
	return (enum http1_stop) stop;
}

enum http1_stop http1_skip(struct http1 *p, uint64_t n, uint64_t *ret_used)
{
	struct cursor nothing = { .at = NULL };
	const bool body = p->state == LENGTH || p->state == UNTIL_CLOSE || p->state == CHUNK;
	const uint64_t taken = body ? body_take(p, n) : p->state == OPAQUE ? n : 0;

	*ret_used = taken;
	if (p->state == OVER || p->state == OPAQUE_UNSAID)
		return (enum http1_stop) steps[p->state](p, &nothing);
	if (taken < n)
		return (enum http1_stop) refuse(p, HTTP1_UNSEEN);
	return HTTP1_MORE;
}

void http1_lost(struct http1 *p)
{
	if (p->reason == HTTP1_FOLLOWED)
		become_opaque(p, HTTP1_UNSEEN);
}

uint64_t http1_unread(const struct http1 *p)
{
	if (p->state == LENGTH || p->state == CHUNK)
		return p->to_read;
	return p->state == UNTIL_CLOSE || p->state == OPAQUE ? UINT64_MAX : 0;
}

bool http1_between(const struct http1 *p)
{
	return p->state <= LINE_SAID;
}

enum http1_stop http1_end(struct http1 *p)
{
	if (http1_between(p))
		return HTTP1_MORE;
	if (p->state == UNTIL_CLOSE || p->state == OVER) {
		p->state = BEFORE;
		return HTTP1_DONE;
	}
	if (p->reason == HTTP1_FOLLOWED)
		p->reason = HTTP1_CUT_SHORT;
	return (enum http1_stop) refuse(p, p->reason);
}

const struct http1_slice *http1_find(const struct http1 *p, enum http1_field id, unsigned *ret_n)
{
	const struct http1_slice *first = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < p->n_fields; i++) {
		if (p->fields[i].id != id)
			continue;
		first = first ? first : &p->fields[i];
		n++;
	}
	if (ret_n)
		*ret_n = n;
	return first;
}
