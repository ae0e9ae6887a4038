/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client writes inside TLS. A record is sealed once, so a write that waits has to be
 * repeated with the same bytes, ours among them; and unless it may be told of parts, a program
 * hears of its call when all of it went.
 *
 *   the program's call   |......done......|...covers...|........fed........|... to be cut ...|
 *   what is written                       | with ours  |   as they stand   |
 */
#include "shim/tls.h"

#include <errno.h>
#include <string.h>

#include "shim/blob.h"
#include "shim/cleanup.h"
#include "shim/cursor.h"
#include "shim/guard.h"
#include "shim/life.h"
#include "shim/stream.h"
#include "shim/traffic_place.h"

struct sending {
	struct traffic *t;
	fds_word word;
	const struct tls_writer *writer;
	const char *buf; /* of the program's call */
	size_t n;
	bool begun;      /* something of this call was cut */
};

static bool enter(void)
{
	if (!guard_enter())
		return false;
	guard.plaintext = true;
	return true;
}

static void leave(void)
{
	guard.plaintext = false;
	guard_leave();
}

static void note(struct traffic *t)
{
	/* Relaxed: asked by whoever calls next, which is the program's to order. */
	atomic_store_explicit(&t->holds, t->held.len > 0 || t->held.fed > 0 || t->held.done > 0,
			      memory_order_relaxed);
}

/* What the program hears when a write did not go. */
static ssize_t stopped(struct sending *s, ssize_t rc)
{
	const size_t done = s->t->held.done;

	if (!s->writer->parts || done == 0)
		return rc;
	s->t->held.done = 0;
	return (ssize_t) done;
}

/* The bytes that are ours and theirs. False: *ret is what the program hears. */
static bool write_merged(struct sending *s, ssize_t *ret)
{
	struct traffic *t = s->t;

	while (t->held.out < t->held.len) {
		const ssize_t n = s->writer->write(s->writer->arg,
						   blob_at(t->held.blob) + t->held.out,
						   t->held.len - t->held.out);

		if (n <= 0) {
			*ret = stopped(s, n);
			return false;
		}
		t->held.out += (uint32_t) n;
	}
	t->held.done += t->held.covers;
	t->held.fed -= t->held.covers;
	t->held.len = t->held.out = t->held.covers = 0;
	blob_give(&t->held.blob);
	return true;
}

/* Bytes of the program's as they stand. */
static bool write_raw(struct sending *s, ssize_t *ret)
{
	struct traffic *t = s->t;
	const size_t most = s->n - t->held.done;
	size_t len = t->held.raw > 0 ? t->held.raw : t->held.fed;

	len = len < most ? len : most;

	const ssize_t n = s->writer->write(s->writer->arg, s->buf + t->held.done, len);

	t->held.raw = n > 0 ? 0 : len;
	if (n <= 0) {
		*ret = stopped(s, n);
		return false;
	}
	t->held.done += (size_t) n;
	t->held.fed -= (size_t) n;
	if ((size_t) n == len || !s->writer->parts)
		return true;
	*ret = stopped(s, n);
	return false;
}

/* Looks at what comes next of the call. False: refused. */
static bool cut(struct sending *s, ssize_t *ret)
{
	struct traffic *t = s->t;
	const struct iovec v = { (void *) (s->buf + t->held.done), s->n - t->held.done };
	const struct cursor at = { .iov = &v, .n_iov = 1 };
	struct traffic_cut c = { .len = v.iov_len };
	bool good = true;

	if (!enter())
		return true;
	if (traffic_followed(s->word) && blob_get(&t->held.blob) != NULL) {
		const int fd = stream_fd(s->word);
		char *room = blob_at(t->held.blob);

		good = traffic_speaks_h2(t, &at)
			       ? h2_cut(t, fd, s->word, &at, room, &c)
			       : traffic_cut(t, fd, s->word, &at, !s->begun, room, &c);
	}
	s->begun = true;
	t->held.fed = c.len;
	t->held.covers = (uint32_t) c.covers;
	t->held.len = (uint32_t) c.merged;
	if (c.merged == 0)
		blob_give(&t->held.blob);
	leave();
	if (good)
		return true;
	t->held.fed = t->held.covers = t->held.len = 0;
	*ret = stopped(s, s->writer->refusal);
	errno = c.error;
	return false;
}

static ssize_t send_all(struct sending *s)
{
	struct traffic *t = s->t;
	ssize_t rc = 0;

	while (t->held.done < s->n) {
		/* What the program has not heard of it may send from elsewhere, or not at all. */
		if (s->writer->parts && t->held.done > 0 && t->held.len == 0)
			return stopped(s, 0);
		if (t->held.len > 0) {
			if (!write_merged(s, &rc))
				return rc;
		} else if (t->held.fed > 0) {
			if (!write_raw(s, &rc))
				return rc;
		} else if (!cut(s, &rc)) {
			return rc;
		} else if (t->held.fed == 0) {
			t->held.fed = s->n - t->held.done; /* we may not look: as it stands */
		}
	}
	t->held.done = 0;
	return (ssize_t) s->n;
}

/* For pthread_cleanup: whether the record went nobody knows. */
static void never_returned(void *arg)
{
	struct sending *s = arg;

	s->t->held.fed = s->t->held.done = s->t->held.raw = 0;
	s->t->held.len = s->t->held.out = s->t->held.covers = 0;
	blob_give(&s->t->held.blob);
	note(s->t);
	traffic_lost(s->word, STREAM_OUT);
	traffic_leave(s->word, STREAM_OUT);
	guard.plaintext = false;
	guard_leave();
}

bool tls_sends(fds_word word)
{
	const struct traffic *t = traffic_place(word);

	return !stream_inbound(word) && life_acts() &&
	       (stream_http(word) == STREAM_TLS ||
		atomic_load_explicit(&t->holds, memory_order_relaxed));
}

/* What was held has to go on, whatever became of the connection's HTTP. */
static struct traffic *take(fds_word word)
{
	struct traffic *t;

	if (!enter())
		return NULL;
	t = traffic_enter(word, STREAM_OUT);
	if (t == NULL && stream_lane_take(word, STREAM_OUT))
		t = traffic_place(word);
	leave();
	return t;
}

/* The program repeats its call in either way. */
static ssize_t repeat(struct sending *s)
{
	struct traffic *t = s->t;
	ssize_t rc = 0;

	if (t->held.len > 0) {
		if (!write_merged(s, &rc))
			return rc;
	} else {
		rc = s->writer->write(s->writer->arg, NULL, 0);
		if (rc <= 0)
			return stopped(s, rc);
		t->held.raw = 0;
		t->held.done += (size_t) rc;
		t->held.fed -= (size_t) rc < t->held.fed ? (size_t) rc : t->held.fed;
	}
	return stopped(s, 0);
}

static ssize_t with_lane(struct sending *s, ssize_t (*act)(struct sending *s))
{
	const int before = errno;
	ssize_t rc;

	s->t = take(s->word);
	errno = before;
	if (s->t == NULL)
		return s->writer->write(s->writer->arg, s->buf, s->n);
	cleanup_begin(never_returned, s);
	rc = act(s);
	cleanup_end();

	const int error = errno;

	note(s->t);
	traffic_leave(s->word, STREAM_OUT);
	errno = error;
	return rc;
}

ssize_t tls_send_again(fds_word word, const struct tls_writer *writer)
{
	struct sending s = { .word = word, .writer = writer };

	return with_lane(&s, repeat);
}

ssize_t tls_send(fds_word word, const void *buf, size_t n, const struct tls_writer *writer)
{
	struct sending s = { .word = word, .writer = writer, .buf = buf, .n = n };

	return with_lane(&s, send_all);
}
