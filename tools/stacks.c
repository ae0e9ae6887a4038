/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a stack is a table of modules and a list of frames, outermost last:
 * "0=/usr/lib/libcurl.so.4;1=/usr/bin/curl|0+3f00,?+7f00c0de,1+1a2b", cut anywhere into parts.
 * '%', ';', '|' and control bytes of a name stand as %3B; '?' is code of no module.
 */
#include "tools/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "tools/module.h"

#define PARTS_MAX 32

/* Joins the parts of stack @id; false when the first is gone. */
static bool join(const struct shelf_service *s, uint64_t id, uint32_t pid,
		 char text[PARTS_MAX * EVENT_TEXT_SIZE], bool *ret_whole)
{
	const struct event *parts[PARTS_MAX] = { NULL };
	struct text t = text_in(text, PARTS_MAX * EVENT_TEXT_SIZE);
	unsigned expected = 0, n = 0;

	for (size_t i = 0; i < s->n_events; i++) {
		const struct event *const e = &s->events[i];

		if (e->kind == EVENT_STACK && e->id == id && e->pid == pid && e->part < PARTS_MAX) {
			parts[e->part] = e;
			expected = e->parts;
		}
	}
	for (; n < PARTS_MAX && parts[n] != NULL; n++)
		text_add_n(&t, parts[n]->text, strnlen(parts[n]->text, EVENT_TEXT_SIZE));
	*ret_whole = n == expected;
	return n > 0;
}

/* One byte of a name, %XX undone; @at moves behind it. */
static char next_byte(const char **at, const char *stop)
{
	char hex[3] = "", *end;

	if (**at == '%' && stop - *at >= 3) {
		memcpy(hex, *at + 1, 2);

		const unsigned long byte = strtoul(hex, &end, 16);

		if (*end == '\0') {
			*at += 3;
			return (char) byte;
		}
	}
	return *(*at)++;
}

static void decode(const char *at, const char *stop, struct stack_frame *ret)
{
	char raw[sizeof(ret->module)];
	struct text shown = text_in(ret->module, sizeof(ret->module));
	size_t n = 0;

	while (at < stop && n < sizeof(raw))
		raw[n++] = next_byte(&at, stop);
	text_add_shown(&shown, raw, n);
}

/* Finds "INDEX=" in the table of modules; its path ends at ';' or the table's end. */
static void module_of(const char *table, const char *end, unsigned long index,
		      struct stack_frame *ret)
{
	while (table < end) {
		const char *const next = memchr(table, ';', (size_t) (end - table));
		const char *const stop = next != NULL ? next : end;
		char *equals;

		if (strtoul(table, &equals, 10) == index && equals < stop && *equals == '=') {
			decode(equals + 1, stop, ret);
			return;
		}
		table = stop + 1;
	}
	(void) strcpy(ret->module, "?");
}

static size_t parse(const char *text, struct stack_frame *frames)
{
	const char *const bar = strchr(text, '|');
	const char *at = bar != NULL ? bar + 1 : "";
	size_t n = 0;

	while (*at != '\0' && n < STACK_FRAMES_MAX) {
		struct stack_frame *const f = &frames[n];
		const bool nowhere = *at == '?';
		char *end = (char *) at + 1;
		const unsigned long index = nowhere ? ULONG_MAX : strtoul(at, &end, 10);

		if (end == at || *end != '+')
			break;
		at = end + 1;
		f->offset = strtoull(at, &end, 16);
		if (end == at)
			break;
		f->symbol[0] = '\0';
		f->delta = 0;
		module_of(text, bar, index, f);
		n++;
		if (*end != ',')
			break;
		at = end + 1;
	}
	return n;
}

/*
 * A module as its own user may read it: the path comes out of memory that the user writes,
 * and root must not be led to what the user cannot see, nor be held up by a FIFO.
 */
static int open_module(const char *path, uid_t uid)
{
	struct stat st;

	if (path[0] != '/')
		return -1;
	(void) setfsuid(uid);

	const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	(void) setfsuid(geteuid());
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		(void) close(fd);
		return -1;
	}
	return fd;
}

static void symbolise(struct stack_frame *f, uid_t uid)
{
	const int fd = open_module(f->module, uid);
	uint64_t start;

	if (fd < 0)
		return;
	if (module_symbol(fd, f->offset, f->symbol, sizeof(f->symbol), &start))
		f->delta = f->offset - start;
	else
		f->symbol[0] = '\0';
	(void) close(fd);
}

static const struct event *owner_of(const struct shelf_service *s, const struct event *part)
{
	for (size_t i = 0; i < s->n_events; i++) {
		const struct event *const e = &s->events[i];

		if (e->kind != EVENT_STACK && e->id == part->id && e->pid == part->pid)
			return e;
	}
	return NULL;
}

bool stack_next(const struct shelf_service *s, size_t *at, struct stack *ret)
{
	for (; *at < s->n_events; (*at)++) {
		const struct event *const e = &s->events[s->n_events - 1 - *at];
		char text[PARTS_MAX * EVENT_TEXT_SIZE];

		/* The first part stands for all. */
		if (e->kind != EVENT_STACK || e->part != 0 ||
		    !join(s, e->id, e->pid, text, &ret->whole))
			continue;
		ret->event = owner_of(s, e);
		ret->id = e->id;
		ret->pid = e->pid;
		ret->wall_ns = e->wall_ns;
		ret->n_frames = parse(text, ret->frames);
		for (size_t i = 0; i < ret->n_frames; i++)
			symbolise(&ret->frames[i], s->uid);
		(*at)++;
		return true;
	}
	return false;
}
