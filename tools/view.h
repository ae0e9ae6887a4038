/* SPDX-License-Identifier: Apache-2.0 */
/* What the copies say, worked out once for the table and for JSON. */
#ifndef TOOLS_VIEW_H
#define TOOLS_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/shelf.h"

/* One breaker. */
struct view {
	char peer[STATE_PEER_SIZE]; /* without control characters */
	enum breaker_state state;
	enum breaker_reason reason;
	uint64_t since;             /* CLOCK_MONOTONIC */
	uint64_t used_at;
	struct breaker_counts counts;
	struct breaker_totals totals;
	uint8_t error_kind;         /* enum event_error */
	uint32_t error_code;
	uint32_t changes[BREAKER_STATES][BREAKER_STATES];
	bool set;                   /* are the next two known? */
	struct policy policy;       /* of the process that met the peer last */
	enum config_source sources[CONFIG_KEYS];
	const struct event *opened; /* the change that opened it; NULL when open no more, or
				     * when its record has been overwritten */
};

/*
 * view_breakers - the breakers of a service: open ones first, then by peer
 * @views: STATE_SLOTS places
 */
size_t view_breakers(const struct shelf_service *s, struct view *views);

/* view_retry - how long an open breaker still refuses, 0 when its time is over */
bool view_retry(const struct view *v, uint64_t now, uint64_t *ret_ns);

/* What `agentshim off|observe` said; false when it said nothing, or took it back. */
bool view_control(const struct shelf_service *s, enum policy_mode *ret_mode);

/*
 * view_mode - the mode in force: the tool's order, else what the latest event of a process
 * tells. False when neither is known.
 */
bool view_mode(const struct shelf_service *s, enum policy_mode *ret_mode);

#define VIEW_PROBLEMS_MAX 32
#define VIEW_PROBLEM_SIZE 256

/* view_problems - each once, oldest first. @problems: VIEW_PROBLEMS_MAX places */
size_t view_problems(const struct shelf_service *s, char (*problems)[VIEW_PROBLEM_SIZE]);

/* view_error - "ECONNREFUSED", "503", "" when there was none; @buf: 32 bytes */
const char *view_error(uint8_t kind, uint32_t code, char *buf);

/* Columns that @s takes on a terminal: characters of UTF-8, each counted as one. */
size_t view_columns(const char *s);

/* The byte of @s at which column @n begins. */
size_t view_bytes(const char *s, size_t n);

/* A text from shared memory, @size bytes at most, without what steers a terminal. */
const char *view_shown(const char *s, size_t size, char *buf, size_t buf_size);

#define VIEW_SHORT_SIZE 16

/* At most five characters: "950ms", "27.1s", "12m", "3h", "400d". @buf: VIEW_SHORT_SIZE */
const char *view_short_time(uint64_t ns, char *buf);

/* Local time after strftime(3). */
void view_clock(uint64_t wall_ns, char *buf, size_t size, const char *format);

/* An event in some words: "db:5432 closed > open, consecutive_failures, ECONNREFUSED" */
const char *view_event(const struct event *e, char *buf, size_t size);

/* How a span ended: "200", "503", "timeout", "200 connection_closed"; "" when nobody knows */
#define VIEW_RESULT_SIZE 40
const char *view_result(const struct event *e, char *buf);

/* What it did, "GET /users". @size: EVENT_TEXT_SIZE + 8 holds all */
const char *view_operation(const struct event *e, char *buf, size_t size);

/* A span in a line: "server GET /users 503 45.2ms trace 550e8400e29b41d4a716446655440000" */
#define VIEW_SPAN_SIZE 320
const char *view_span(const struct event *e, char *buf, size_t size);

/* Standard output is a terminal that shows colours, and its owner wants them. */
bool view_in_colour(void);

struct status_options {
	bool json, stacks, watch, colour;
	unsigned lines;   /* of the terminal; 0: as many as there are */
	bool timeless;    /* leave out what changes by itself */
	bool alone;       /* services were asked for by name: show more of each */
};

void status_print_json(FILE *f, const struct shelf *shelf, const struct status_options *o,
		       uint64_t now);
void status_print_text(FILE *f, const struct shelf *shelf, const struct status_options *o,
		       uint64_t now);

#endif
