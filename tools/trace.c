/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim trace`: one trace out of the rings of all services, as a tree over time. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/span.h"
#include "tools/shelf.h"
#include "tools/tool.h"
#include "tools/view.h"

#define READ_MAX   1024  /* records of one file at a time */
#define SPANS_MAX  65536 /* of one trace, with their attributes */
#define WIDTH_MIN  60
#define WIDTH_MAX  400
#define INDENT_MAX 12    /* a deeper tree goes on at this one */
#define MORE_MAX   16
#define LINE_SIZE  (EVENT_JSON_SIZE + MORE_MAX * TEXT_JSON_GROWTH * EVENT_TEXT_SIZE)

#define NOBODY SIZE_MAX /* index of no span */

struct node {
	struct event e;
	const struct shelf_service *service;
	size_t parent, child, next; /* indexes; of the first child, of the next sibling */
};

struct trace {
	uint8_t id[16];
	bool chosen;            /* is @id set? Else the latest there is is looked for */
	uint64_t latest;        /* when that one ended */
	struct node *nodes;     /* taken; by beginning */
	size_t n, room;
	struct event *more;     /* taken; records with further attributes */
	size_t n_more, more_room;
	bool cut;               /* there are more than SPANS_MAX */
};

/* ---- gathering ---- */

static void *grow(void *old, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return old;
	*room = *room == 0 ? 64 : 2 * *room;

	void *const grown = realloc(old, *room * size);

	if (grown == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	return grown;
}

/* CLOCK_REALTIME: services may be in time namespaces of their own. */
static uint64_t end_of(const struct event *e)
{
	return e->wall_ns + e->span.duration_ns;
}

static bool some_id(const struct event *e)
{
	static const uint8_t none[16];

	return memcmp(e->span.trace_id, none, sizeof(none)) != 0;
}

static void keep(struct trace *t, const struct shelf_service *s, const struct event *e)
{
	if (e->kind != EVENT_SPAN && e->kind != EVENT_SPAN_MORE)
		return;
	if (!t->chosen) {
		if (e->kind == EVENT_SPAN && some_id(e) && end_of(e) >= t->latest) {
			t->latest = end_of(e);
			memcpy(t->id, e->span.trace_id, sizeof(t->id));
		}
		return;
	}
	if (memcmp(e->span.trace_id, t->id, sizeof(t->id)) != 0)
		return;
	if (t->n + t->n_more >= SPANS_MAX) {
		t->cut = true;
	} else if (e->kind == EVENT_SPAN_MORE) {
		t->more = grow(t->more, t->n_more, &t->more_room, sizeof(*t->more));
		t->more[t->n_more++] = *e;
	} else {
		t->nodes = grow(t->nodes, t->n, &t->room, sizeof(*t->nodes));
		t->nodes[t->n++] = (struct node) { .e = *e, .service = s };
	}
}

/* All that is there: two rounds, as ring_follow() has it. */
static void read_service(struct trace *t, const struct shelf_service *s, bool complaining)
{
	struct event *const events = take(READ_MAX, sizeof(*events));
	struct shelf_tap tap;
	const char *reason;

	if (shelf_tap_open(s, SEGMENT_SPANS, false, &tap, &reason) < 0) {
		if (complaining)
			complain("%s: no spans: %s", s->path, reason);
		free(events);
		return;
	}
	for (int round = 0; round < 2; round++) {
		size_t n;

		do {
			n = shelf_tap_read(&tap, events, READ_MAX);
			for (size_t i = 0; i < n; i++)
				keep(t, s, &events[i]);
		} while (n == READ_MAX);
	}
	shelf_tap_close(&tap);
	free(events);
}

static void gather(struct trace *t, const struct shelf *shelf)
{
	const bool looking = !t->chosen;

	for (size_t i = 0; i < shelf->n_services; i++)
		read_service(t, &shelf->services[i], true);
	if (!looking || t->latest == 0)
		return;
	t->chosen = true;
	for (size_t i = 0; i < shelf->n_services; i++)
		read_service(t, &shelf->services[i], false);
}

/* ---- the tree ---- */

static int by_beginning(const void *a, const void *b)
{
	const struct node *const x = a, *const y = b;

	if (x->e.wall_ns != y->e.wall_ns)
		return x->e.wall_ns < y->e.wall_ns ? -1 : 1;
	if (x->e.span.duration_ns != y->e.span.duration_ns) /* what contains the other first */
		return x->e.span.duration_ns > y->e.span.duration_ns ? -1 : 1;
	return memcmp(x->e.span.span_id, y->e.span.span_id, sizeof(x->e.span.span_id));
}

static const struct node *sorted_nodes; /* for by_id() alone */

static int by_id(const void *a, const void *b)
{
	const size_t x = *(const size_t *) a, y = *(const size_t *) b;
	const int ids = memcmp(sorted_nodes[x].e.span.span_id, sorted_nodes[y].e.span.span_id,
			       sizeof(sorted_nodes[x].e.span.span_id));

	return ids != 0 ? ids : (x > y) - (x < y);
}

static size_t find(const struct trace *t, const size_t *ids, const uint8_t id[8])
{
	size_t low = 0, high = t->n;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (memcmp(t->nodes[ids[middle]].e.span.span_id, id, 8) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->n && memcmp(t->nodes[ids[low]].e.span.span_id, id, 8) == 0 ? ids[low]
										  : NOBODY;
}

/* Would @child under @parent be its own ancestor? Only noise makes it so. */
static bool circular(const struct trace *t, size_t child, size_t parent)
{
	for (; parent != NOBODY; parent = t->nodes[parent].parent) {
		if (parent == child)
			return true;
	}
	return false;
}

static void link_nodes(struct trace *t)
{
	size_t *const ids = take(t->n + 1, sizeof(*ids));

	if (t->n > 1)
		qsort(t->nodes, t->n, sizeof(*t->nodes), by_beginning);
	for (size_t i = 0; i < t->n; i++) {
		t->nodes[i].parent = t->nodes[i].child = t->nodes[i].next = NOBODY;
		ids[i] = i;
	}
	sorted_nodes = t->nodes;
	qsort(ids, t->n, sizeof(*ids), by_id);
	for (size_t i = t->n; i-- > 0;) { /* backwards, so that the first child ends in front */
		struct node *const n = &t->nodes[i];
		const size_t parent = (n->e.span.bits & SPAN_HAS_PARENT) != 0
					      ? find(t, ids, n->e.span.parent_id)
					      : NOBODY;

		if (parent == NOBODY || circular(t, i, parent))
			continue;
		n->parent = parent;
		n->next = t->nodes[parent].child;
		t->nodes[parent].child = i;
	}
	free(ids);
}

/* ---- for people ---- */

struct page {
	const struct trace *t;
	unsigned width, label, bar;
	uint64_t begin, length; /* of the trace */
	bool colour;
};

static unsigned terminal_width(void)
{
	const char *const columns = secure_getenv("COLUMNS");
	struct winsize w = { .ws_col = 0 };
	unsigned long n = columns != NULL ? strtoul(columns, NULL, 10) : 0;

	if (n == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0)
		n = w.ws_col;
	if (n == 0)
		n = 80;
	return n < WIDTH_MIN ? WIDTH_MIN : n > WIDTH_MAX ? WIDTH_MAX : (unsigned) n;
}

/* "12.5ms" below ten seconds, "27.1s" and the like above. */
static const char *time_text(uint64_t ns, char buf[VIEW_SHORT_SIZE])
{
	if (ns >= 10 * NS_PER_S)
		return view_short_time(ns, buf);

	struct text t = text_in(buf, VIEW_SHORT_SIZE);

	/* Three digits that mean something are enough. */
	text_add_ms(&t, ns < 10 * NS_PER_MS    ? ns - ns % (10 * NS_PER_US)
			: ns < 100 * NS_PER_MS ? ns - ns % (100 * NS_PER_US)
					       : ns - ns % NS_PER_MS);
	text_add(&t, "ms");
	return buf;
}

/* "  backend server GET /users 503"; the operation gives way when it is too long. */
static void put_label(const struct page *p, const struct node *n, unsigned depth)
{
	const unsigned indent = 2 * (depth < INDENT_MAX ? depth : INDENT_MAX);
	char operation[EVENT_TEXT_SIZE + 8], result[VIEW_RESULT_SIZE], head[160], label[512];
	const char *const error = n->e.span.result == SPAN_ERROR ? "!" : "";

	(void) snprintf(head, sizeof(head), "%*s%s %s ", (int) indent, "", n->service->name,
			span_kind_name(n->e.span.kind));
	(void) view_result(&n->e, result);
	(void) view_operation(&n->e, operation, sizeof(operation));

	const size_t rest = view_columns(head) + strlen(error) + strlen(result) + 1;
	const size_t room = rest < p->label ? p->label - rest : 0;

	if (view_columns(operation) > room)
		(void) strcpy(operation + view_bytes(operation, room > 2 ? room - 2 : 0),
			      room > 2 ? ".." : "");
	(void) snprintf(label, sizeof(label), "%s%s %s%s", head, operation, error, result);
	label[view_bytes(label, p->label)] = '\0';
	(void) printf("%s%s%s%*s", p->colour && *error != '\0' ? "\x1b[31m" : "", label,
		      p->colour && *error != '\0' ? "\x1b[0m" : "",
		      (int) (p->label - view_columns(label)), "");
}

/* Which column of the bar an instant falls into. */
static unsigned column(const struct page *p, uint64_t instant)
{
	const uint64_t offset = clock_since(p->begin, instant);
	const double part = p->length > 0 ? (double) offset / (double) p->length : 0;

	return part >= 1 ? p->bar : (unsigned) (part * p->bar);
}

static void put_bar(const struct page *p, const struct event *e)
{
	unsigned from = column(p, e->wall_ns), to = column(p, end_of(e));

	if (from >= p->bar)
		from = p->bar - 1;
	if (to <= from) /* however short, it can be seen */
		to = from + 1;
	(void) printf("|%*s", (int) from, "");
	for (unsigned i = from; i < to; i++)
		(void) putchar('=');
	(void) printf("%*s|\n", (int) (p->bar - to), "");
}

static void put_node(const struct page *p, size_t index, unsigned depth)
{
	const struct node *const n = &p->t->nodes[index];
	char offset[VIEW_SHORT_SIZE], duration[VIEW_SHORT_SIZE];

	put_label(p, n, depth);
	(void) printf(" %8s %8s ", time_text(clock_since(p->begin, n->e.wall_ns), offset),
		      time_text(n->e.span.duration_ns, duration));
	put_bar(p, &n->e);
}

/* A span and all below it. Without recursion: how deep it goes is up to what was recorded. */
static void put_tree(const struct page *p, size_t root)
{
	const struct node *const nodes = p->t->nodes;
	size_t at = root;
	unsigned depth = 0;

	for (;;) {
		put_node(p, at, depth);
		if (nodes[at].child != NOBODY) {
			at = nodes[at].child;
			depth++;
			continue;
		}
		while (at != root && nodes[at].next == NOBODY) {
			at = nodes[at].parent;
			depth--;
		}
		if (at == root)
			return;
		at = nodes[at].next;
	}
}

static void put_head(const struct page *p)
{
	char id[40], when[32], length[VIEW_SHORT_SIZE];
	struct text t = text_in(id, sizeof(id));

	span_trace_id(&p->t->nodes[0].e, &t);
	view_clock(p->begin, when, sizeof(when), "%Y-%m-%d %H:%M:%S");
	(void) printf("trace %s\n%s, %zu span%s, %s%s\n", id, when, p->t->n,
		      p->t->n == 1 ? "" : "s", time_text(p->length, length),
		      p->t->cut ? ", the rest left out" : "");
	(void) printf("%-*s %8s %8s\n", (int) p->label, "SPAN", "AT", "TIME");
}

/* A parent in another host, or whose record has been overwritten. */
static bool orphan(const struct node *n)
{
	return n->parent == NOBODY && (n->e.span.bits & SPAN_HAS_PARENT) != 0;
}

static void put_orphan_note(const struct node *n)
{
	(void) fputs("  below ", stdout);
	for (int i = 0; i < 8; i++)
		(void) printf("%02x", n->e.span.parent_id[i]);
	(void) printf(", which %s:\n", (n->e.span.bits & SPAN_PARENT_REMOTE) != 0
					       ? "is not on this host, or is gone"
					       : "is gone, or has not ended yet");
}

static void print_text(const struct trace *t)
{
	const unsigned width = terminal_width();
	struct page p = {
		.t = t,
		.width = width,
		.bar = width / 5,
		.begin = t->nodes[0].e.wall_ns,
		.colour = isatty(STDOUT_FILENO) == 1,
	};

	p.label = width - p.bar - 2 - 2 * 9 - 1;
	for (size_t i = 0; i < t->n; i++) {
		const uint64_t length = clock_since(p.begin, end_of(&t->nodes[i].e));

		p.length = length > p.length ? length : p.length;
	}
	put_head(&p);
	for (size_t i = 0; i < t->n; i++) {
		if (t->nodes[i].parent == NOBODY && !orphan(&t->nodes[i]))
			put_tree(&p, i);
	}
	for (size_t i = 0; i < t->n; i++) {
		if (orphan(&t->nodes[i])) {
			put_orphan_note(&t->nodes[i]);
			put_tree(&p, i);
		}
	}
}

/* ---- for programs ---- */

static void put_span(const struct trace *t, const struct node *n)
{
	static char line[LINE_SIZE];
	static struct event more[MORE_MAX];
	struct text out = text_in(line, sizeof(line));
	size_t n_more = 0;

	for (size_t i = 0; i < t->n_more && n_more < MORE_MAX; i++) {
		if (span_more_of(&t->more[i], &n->e))
			more[n_more++] = t->more[i];
	}
	span_json(&n->e, more, n_more, n->service->name, &out);
	(void) fputs(line, stdout);
}

static void print_json(const struct trace *t)
{
	char id[40];
	struct text text = text_in(id, sizeof(id));

	span_trace_id(&t->nodes[0].e, &text);
	(void) printf("{\"trace_id\":\"%s\",\"whole\":%s,\"spans\":[", id,
		      t->cut ? "false" : "true");
	for (size_t i = 0; i < t->n; i++) {
		(void) fputs(i > 0 ? "," : "", stdout);
		put_span(t, &t->nodes[i]);
	}
	(void) puts("]}");
}

/* ---- the command line ---- */

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *const at = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;

	return at != NULL ? (int) (at - digits) : -1;
}

/* 32 digits, those of a UUID, or the 16 of an old trace id, which are its last ones. */
static bool parse_id(const char *text, uint8_t ret[16])
{
	static const size_t dashes[] = { 8, 13, 18, 23 };
	const size_t length = strlen(text);
	char digits[33] = "0000000000000000";
	size_t n = length == 16 ? 16 : 0;

	if (length != 16 && length != 32 && length != 36)
		return false;
	for (size_t i = 0; i < length; i++) {
		bool dash = false;

		for (size_t k = 0; length == 36 && k < 4; k++)
			dash |= i == dashes[k];
		if (dash && text[i] == '-')
			continue;
		if (dash || hex_digit(text[i]) < 0)
			return false;
		digits[n++] = text[i];
	}
	for (size_t i = 0; i < 16; i++)
		ret[i] = (uint8_t) (hex_digit(digits[2 * i]) << 4 | hex_digit(digits[2 * i + 1]));
	return true;
}

static int show(struct trace *t, const char *id, bool json)
{
	struct shelf shelf;
	int rc = TOOL_OK;

	shelf_list(&shelf, NULL, NULL);
	gather(t, &shelf);
	link_nodes(t);
	if (t->n == 0 && id != NULL)
		complain("no span of trace %s in %s", id, shelf.looked_in);
	else if (t->n == 0)
		complain("no span in %s", shelf.looked_in);
	if (t->n == 0)
		rc = TOOL_FAILED;
	else if (json)
		print_json(t);
	else
		print_text(t);
	shelf_complain(&shelf);
	shelf_drop(&shelf);
	return rc;
}

int trace_main(int argc, char **argv)
{
	struct trace t = { .chosen = false };
	const char *id = NULL;
	bool json = false, last = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--last") == 0)
			last = true;
		else if (argv[i][0] == '-')
			return usage("trace", "unknown option %s", argv[i]);
		else if (id != NULL)
			return usage("trace", "one trace at a time");
		else
			id = argv[i];
	}
	if ((id == NULL) != last)
		return usage("trace", "which trace? Its id, or --last");
	if (id != NULL && !parse_id(id, t.id))
		return usage("trace", "found %s, expected 32 hexadecimal digits or a UUID", id);
	t.chosen = id != NULL;

	const int rc = show(&t, id, json);

	free(t.nodes);
	free(t.more);
	return rc;
}
