/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim off|on|observe SERVICE`: tells running processes what to do with their breakers. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/ring.h"
#include "core/text.h"
#include "tools/shelf.h"
#include "tools/tool.h"

static const struct order {
	const char *verb;
	uint32_t control; /* as segment_header.control */
	const char *said; /* of the service, in the past */
} orders[] = {
	{ "off", 1 + POLICY_OFF, "off: its calls pass unguarded" },
	{ "on", 0, "on: it goes by its own settings again" },
	{ "observe", 1 + POLICY_OBSERVE, "observing: its breakers decide but refuse nothing" },
};

static const struct order *order_of(const char *verb)
{
	size_t i = 0;

	while (strcmp(orders[i].verb, verb) != 0)
		i++; /* agentshim.c calls with one of them */
	return &orders[i];
}

/* Whoever reads the events later must find out why refusals ended. */
static void record(struct state *state, const struct rings *events, const struct order *order)
{
	struct event e = {
		.kind = EVENT_MODE_CHANGED,
		.mode = (uint8_t) (order->control != 0 ? order->control - 1 : POLICY_ENFORCE),
		.wall_ns = clock_wall(),
		.mono_ns = clock_now(),
		.pid = (uint32_t) getpid(),
		.tid = (uint32_t) getpid(),
		/* Relaxed: a number that nobody else has. */
		.id = atomic_fetch_add_explicit(&state->events, 1, memory_order_relaxed) + 1,
	};
	struct text t = text_in(e.text, sizeof(e.text));

	if (order->control != 0)
		text_add(&t, policy_mode_name((enum policy_mode) e.mode));
	/* Ring 0 is everybody's; a ring of our own would outlive us by far. */
	if (events->file != NULL)
		(void) ring_write(events, 0, &e);
}

static int obey(const struct shelf_service *s, const struct order *order)
{
	char reason[SEGMENT_REASON_SIZE];
	struct segment_header *header;
	struct state *state;
	struct rings events;

	if (shelf_map(s, &header, &state, &events, reason) < 0) {
		complain("%s: %s", s->path, reason);
		return TOOL_FAILED;
	}
	/* Relaxed: the word stands for itself; processes read it at each call. */
	const uint32_t before = atomic_exchange_explicit(&header->control, order->control,
							 memory_order_relaxed);

	if (before == order->control) {
		(void) printf("%s was already %s\n", s->name, order->said);
		return TOOL_OK;
	}
	record(state, &events, order);
	(void) printf("%s is %s\n", s->name, order->said);
	return TOOL_OK;
}

static int list(const struct shelf *shelf, const char *name, size_t found)
{
	if (found > 1)
		complain("%zu services are called %s; give one of these instead:", found, name);
	else if (shelf->n_services > 0)
		complain("no service is called %s in %s; there are:", name, shelf->looked_in);
	else
		complain("no service is called %s: there is none in %s", name, shelf->looked_in);
	for (size_t i = 0; i < shelf->n_services; i++) {
		const struct shelf_service *const s = &shelf->services[i];

		if (found <= 1 || shelf_matches(s, name))
			(void) fprintf(stderr, "  %s  (%s, user %s, made by %s)\n", s->stem,
				       s->name, s->user, s->header.creator);
	}
	return TOOL_FAILED;
}

int mode_main(int argc, char **argv)
{
	const struct order *const order = order_of(argv[0]);
	const char *name = NULL, *dir = NULL;
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0)
			options = false;
		else if (options && strcmp(argv[i], "--dir") == 0 && i + 1 < argc)
			dir = argv[++i];
		else if (options && strncmp(argv[i], "--dir=", 6) == 0)
			dir = argv[i] + 6;
		else if (options && argv[i][0] == '-')
			return usage(argv[0], "unknown option %s, or one without its value",
				     argv[i]);
		else if (name != NULL)
			return usage(argv[0], "one service at a time");
		else
			name = argv[i];
	}
	if (name == NULL)
		return usage(argv[0], "which service?");

	struct shelf shelf;
	const struct shelf_service *chosen = NULL;
	size_t found = 0;

	shelf_read(&shelf, dir, NULL, 0);
	for (size_t i = 0; i < shelf.n_services; i++) {
		if (shelf_matches(&shelf.services[i], name)) {
			chosen = &shelf.services[i];
			found++;
		}
	}

	const int rc = found == 1 ? obey(chosen, order) : list(&shelf, name, found);

	shelf_drop(&shelf);
	return rc;
}
