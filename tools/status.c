/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim status`: reads the command line, and in --watch looks again each second. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/ring.h"
#include "tools/shelf.h"
#include "tools/tool.h"
#include "tools/view.h"

#define EVENTS_MAX  ((size_t) RINGS * RING_EVENTS)
#define REFRESH_MS  1000
#define LINES_LEAST 5 /* a terminal that says it is smaller is not believed */

static void print(FILE *f, const struct shelf *shelf, const struct status_options *o)
{
	if (o->json)
		status_print_json(f, shelf, o, clock_now());
	else
		status_print_text(f, shelf, o, clock_now());
}

static int once(const struct shelf_filter *filter, const struct status_options *o)
{
	struct shelf shelf;

	shelf_read(&shelf, NULL, filter, EVENTS_MAX);

	const int rc = shelf_has_all(&shelf, filter) ? TOOL_OK : TOOL_FAILED;

	if (rc == TOOL_OK || shelf.n_services > 0 || o->json)
		print(stdout, &shelf, o);
	/* JSON says it by itself. */
	if (!o->json)
		shelf_complain(&shelf);
	shelf_drop(&shelf);
	return rc;
}

/* The page as a string; the caller frees it. */
static char *page_of(const struct shelf *shelf, const struct status_options *o)
{
	char *page = NULL;
	size_t size;
	FILE *const f = open_memstream(&page, &size);

	if (f == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	print(f, shelf, o);
	if (fclose(f) != 0 || page == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	return page;
}

/* Each line over the old one, so that nothing flickers; then the rest of the screen is cleared. */
static void repaint(const char *page)
{
	(void) fputs("\x1b[H", stdout);
	for (const char *c = page; *c != '\0'; c++) {
		if (*c == '\n')
			(void) fputs("\x1b[K", stdout);
		(void) fputc(*c, stdout);
	}
	(void) fputs("\x1b[J", stdout);
}

static unsigned terminal_lines(void)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_row < LINES_LEAST)
		return 24;
	return w.ws_row;
}

/* A second's pause; false when whoever read us has gone. */
static bool wait_a_second(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO };

	return poll(&out, 1, REFRESH_MS) <= 0 || (out.revents & (POLLERR | POLLNVAL)) == 0;
}

static void show(const struct shelf *shelf, struct status_options *o, bool terminal, char **before)
{
	o->timeless = !terminal;
	o->lines = terminal && !o->json ? terminal_lines() : 0;

	char *const page = page_of(shelf, o);
	const bool changed = *before == NULL || strcmp(page, *before) != 0;

	free(*before);
	*before = page;
	if (terminal && !o->json) {
		repaint(page);
	} else if (changed) {
		/* Compared without what time alone changes, printed with it. */
		o->timeless = false;
		print(stdout, shelf, o);
		if (!o->json)
			(void) fputc('\n', stdout);
	}
	(void) fflush(stdout);
}

static int watch(const struct shelf_filter *filter, struct status_options *o)
{
	const bool terminal = isatty(STDOUT_FILENO) == 1;
	char *before = NULL;

	if (terminal && !o->json)
		(void) fputs("\x1b[2J", stdout);
	do {
		struct shelf shelf;

		shelf_read(&shelf, NULL, filter, EVENTS_MAX);
		show(&shelf, o, terminal, &before);
		shelf_drop(&shelf);
	} while (wait_a_second());
	free(before);
	return TOOL_OK;
}

int status_main(int argc, char **argv)
{
	struct status_options o = { .colour = view_in_colour() };
	struct shelf_filter filter = { .names = argv, .n = 0 };
	bool options = true;

	/* Names are gathered at the front of argv. */
	for (int i = 1; i < argc; i++) {
		if (!options || argv[i][0] != '-')
			argv[filter.n++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
			o.json = true;
		else if (strcmp(argv[i], "--stacks") == 0)
			o.stacks = true;
		else if (strcmp(argv[i], "--watch") == 0)
			o.watch = true;
		else
			return usage("status", "unknown option %s", argv[i]);
	}
	o.alone = filter.n > 0;
	return o.watch ? watch(&filter, &o) : once(&filter, &o);
}
