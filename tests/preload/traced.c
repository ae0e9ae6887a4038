/* SPDX-License-Identifier: Apache-2.0 */
/* One request in, one call out, and a look at the file of spans. */
#include "tests/preload/traced.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/ring.h"
#include "core/segment.h"
#include "core/text.h"

#define EVENTS_MAX 4096

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static void put(int fd, const char *bytes, size_t len)
{
	assert_int_equal(past_hooks(SYS_write, fd, (long) bytes, (long) len, 0, 0, 0), len);
}

struct served served_begin(const char *fields)
{
	struct peer p = peer_listening();
	char head[CARRIED_SIZE], seen[CARRIED_SIZE];
	struct served s;

	s.client = (int) past_hooks(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
	assert_true(s.client >= 0);
	assert_int_equal(past_hooks(SYS_connect, s.client, (long) &p.addr, sizeof(p.addr), 0, 0, 0),
			 0);
	s.server = accept(p.listener, NULL, NULL);
	assert_true(s.server >= 0);

	const int n = snprintf(head, sizeof(head), "GET /served HTTP/1.1\r\nHost: us\r\n%s\r\n",
			       fields);

	put(s.client, head, (size_t) n);
	assert_int_equal(read(s.server, seen, sizeof(seen)), n);
	(void) raw_close(p.listener);
	return s;
}

void served_answer(struct served *s)
{
	assert_int_equal(write(s->server, answer, sizeof(answer) - 1), sizeof(answer) - 1);
	assert_int_equal(close(s->server), 0);
	(void) raw_close(s->client);
}

void carried_by_call(char ret_head[CARRIED_SIZE])
{
	static const char request[] = "GET /called HTTP/1.1\r\nHost: them\r\n\r\n";
	struct peer p = peer_listening();
	const int c = tcp_connected(&p), s = peer_accept(&p);
	char got[256];
	long n;

	assert_true(s >= 0);
	assert_int_equal(write(c, request, sizeof(request) - 1), sizeof(request) - 1);
	n = past_hooks(SYS_read, s, (long) ret_head, CARRIED_SIZE - 1, 0, 0, 0);
	assert_true(n > 0);
	ret_head[n] = '\0';
	put(s, answer, sizeof(answer) - 1);
	assert_int_equal(read(c, got, sizeof(got)), sizeof(answer) - 1);
	assert_int_equal(close(c), 0);
	(void) raw_close(s);
	peer_drop(&p);
}

void field_of(const char *head, const char *name, char ret[256])
{
	const size_t n = strlen(name);

	ret[0] = '\0';
	for (const char *line = head; line != NULL; line = strstr(line, "\r\n")) {
		line += line == head ? 0 : 2;
		if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
			(void) snprintf(ret, 256, "%.*s", (int) strcspn(line + n + 2, "\r"),
					line + n + 2);
			return;
		}
	}
}

void trace_of(const char *traceparent, char ret[33])
{
	assert_int_equal(strlen(traceparent), 55);
	(void) snprintf(ret, 33, "%.32s", traceparent + 3);
}

void span_of(const char *traceparent, char ret[17])
{
	assert_int_equal(strlen(traceparent), 55);
	(void) snprintf(ret, 17, "%.16s", traceparent + 36);
}

/* ---- spans ---- */

static void *file_of_spans(size_t *ret_size)
{
	DIR *d = opendir(host_dir());
	const struct dirent *e;
	char path[512], *bytes = NULL;
	struct stat st;

	*ret_size = 0;
	while (d != NULL && bytes == NULL && (e = readdir(d)) != NULL) {
		const size_t len = strlen(e->d_name);

		if (len < 6 || strcmp(e->d_name + len - 6, ".spans") != 0)
			continue;
		(void) snprintf(path, sizeof(path), "%s/%s", host_dir(), e->d_name);

		const int fd = (int) past_hooks(SYS_openat, AT_FDCWD, (long) path,
						O_RDONLY | O_CLOEXEC, 0, 0, 0);

		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		*ret_size = (size_t) st.st_size - SEGMENT_BODY_OFFSET;
		bytes = malloc(*ret_size);
		assert_int_equal(pread(fd, bytes, *ret_size, SEGMENT_BODY_OFFSET), *ret_size);
		(void) raw_close(fd);
	}
	if (d != NULL)
		(void) closedir(d);
	return bytes;
}

size_t spans_told(struct event *ret, size_t max)
{
	size_t size, n = 0;
	uint64_t lost;
	void *bytes = file_of_spans(&size);

	if (bytes != NULL)
		n = ring_read(bytes, size, ret, max, &lost);
	free(bytes);
	return n;
}

bool span_told(const char *operation, struct event *ret)
{
	static struct event all[EVENTS_MAX];
	const size_t n = spans_told(all, EVENTS_MAX);
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		char text[EVENT_TEXT_SIZE + 8];
		struct text t = text_in(text, sizeof(text));

		if (all[i].kind != EVENT_SPAN)
			continue;
		span_operation(&all[i], &t);
		if (strcmp(text, operation) != 0)
			continue;
		*ret = all[i];
		found = true;
	}
	return found;
}

void tag_told(const struct event *span, const char *key, char ret[256])
{
	static struct event all[EVENTS_MAX];
	const size_t n = spans_told(all, EVENTS_MAX);

	ret[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		const char *k, *v;
		size_t at = 0;

		while (span_more_of(&all[i], span) && span_more_next(&all[i], &at, &k, &v))
			if (strcmp(k, key) == 0)
				(void) snprintf(ret, 256, "%s", v);
	}
}

static void hex(const uint8_t *bytes, size_t n, char *ret)
{
	for (size_t i = 0; i < n; i++)
		(void) snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

void span_id_of(const struct event *span, char ret[17])
{
	hex(span->span.span_id, 8, ret);
}

void parent_id_of(const struct event *span, char ret[17])
{
	ret[0] = '\0';
	if ((span->span.bits & SPAN_HAS_PARENT) != 0)
		hex(span->span.parent_id, 8, ret);
}

void trace_id_of(const struct event *span, char ret[33])
{
	hex(span->span.trace_id, 16, ret);
}

/* ---- names ---- */

struct own own_names(void)
{
	struct own o;
	const struct {
		void *to;
		const char *name;
	} rows[] = {
		{ &o.traceparent, "agentshim_traceparent" },
		{ &o.begin, "agentshim_span_begin" },
		{ &o.tag, "agentshim_span_tag" },
		{ &o.end, "agentshim_span_end" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		void *found = dlsym(RTLD_DEFAULT, rows[i].name);

		assert_non_null(found);
		memcpy(rows[i].to, &found, sizeof(found));
	}
	return o;
}
