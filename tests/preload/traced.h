/* SPDX-License-Identifier: Apache-2.0 */
/* For stories of traces: a request that this thread serves, what a call carries, the spans told. */
#ifndef TESTS_PRELOAD_TRACED_H
#define TESTS_PRELOAD_TRACED_H

#include "tests/preload/host.h"

#include <stddef.h>

#include "core/event.h"
#include "core/span.h"

#define CARRIED_SIZE 2048

/* A request of a client that is another program: read by the calling thread, not answered. */
struct served {
	int client, server;
};

/* @fields: "traceparent: …\r\n" and the like; "" for none */
struct served served_begin(const char *fields);
void served_answer(struct served *s);

/* The head of a call that this thread makes now and has answered. */
void carried_by_call(char ret_head[CARRIED_SIZE]);

/* The value of a field in a head; "" when it is not there. */
void field_of(const char *head, const char *name, char ret[256]);

/* A traceparent's ids, as text. */
void trace_of(const char *traceparent, char ret[33]);
void span_of(const char *traceparent, char ret[17]);

/* Spans recorded so far, oldest first, with their EVENT_SPAN_MORE records. */
size_t spans_told(struct event *ret, size_t max);
/* The newest span of that operation; false: there is none. */
bool span_told(const char *operation, struct event *ret);
/* The value of one of its tags; "" when it has no such tag. */
void tag_told(const struct event *span, const char *key, char ret[256]);
/* Ids as text. */
void span_id_of(const struct event *span, char ret[17]);
void parent_id_of(const struct event *span, char ret[17]); /* "" for none */
void trace_id_of(const struct event *span, char ret[33]);

/* The exported names, looked up: the header's own are inline. */
struct own {
	int (*traceparent)(char *);
	void (*begin)(const char *);
	void (*tag)(const char *, const char *);
	void (*end)(void);
};
struct own own_names(void);

#endif
