/* SPDX-License-Identifier: Apache-2.0 */
/* Events leave the process here: into shared memory, and as lines of JSON. */
#include "shim/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/span.h"
#include "core/text.h"
#include "shim/life.h"
#include "shim/raw.h"
#include "shim/real.h"
#include "shim/stack.h"

#define STACK_FRAMES 24
#define STACK_SIZE   (5 * (EVENT_TEXT_SIZE - 1) + 1)
#define LINE_SIZE    1536 /* < PIPE_BUF: a line is written in one piece or not at all */

_Static_assert(LINE_SIZE <= PIPE_BUF, "lines of several processes must not mix");

static _Atomic(const struct report_files *) files;

/* What the log's descriptor was at load. */
static struct {
	int fd; /* -1: the log is a path, or there is none */
	dev_t dev;
	ino_t ino;
} console = { .fd = -1 };

void report_load(void)
{
	struct stat st;
	int fd = -1;

	if (strcmp(settings->log, "stderr") == 0)
		fd = STDERR_FILENO;
	else if (strcmp(settings->log, "stdout") == 0)
		fd = STDOUT_FILENO;
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	console.dev = st.st_dev;
	console.ino = st.st_ino;
	console.fd = fd;
}

void report_to(const struct report_files *to)
{
	/* Release: who finds them finds what they say. Pairs with files_now(). */
	atomic_store_explicit(&files, to, memory_order_release);
}

static const struct report_files *files_now(void)
{
	return atomic_load_explicit(&files, memory_order_acquire);
}

/*
 * One number serves both files: claimed in the first of them that is written to, it is nobody
 * else's in either.
 */
static unsigned own_ring(const struct report_files *f, ring_gone *is_gone)
{
	const uint32_t claimed = atomic_load_explicit(&life->ring, memory_order_relaxed);

	if (claimed != 0)
		return claimed - 1;

	const struct ring_owner owner = {
		.pid = life_pid(),
		.start = atomic_load_explicit(&life->start, memory_order_relaxed),
		.pidns = life_pidns(),
	};
	const struct rings *const where = f->events.file != NULL ? &f->events : &f->spans;
	const unsigned got = ring_claim(where, &owner, is_gone);

	atomic_store_explicit(&life->ring, got + 1, memory_order_relaxed);
	return got;
}

/* Writing past RLIMIT_FSIZE would be SIGXFSZ to the host. */
static bool may_grow(int fd, size_t len)
{
	struct rlimit limit;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	return !S_ISREG(st.st_mode) ||
	       (getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
		(limit.rlim_cur == RLIM_INFINITY || (rlim_t) st.st_size + len <= limit.rlim_cur));
}

/* Writes @line if that neither blocks nor raises SIGPIPE in the host. */
static void put(int fd, const char *line, size_t len)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	sigset_t pipe_only, before, waiting;

	if (real.poll(&ready, 1, 0) != 1 || (ready.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 ||
	    (ready.revents & POLLOUT) == 0 || !may_grow(fd, len))
		return;

	/* The reader may go between poll and write: hold our own SIGPIPE back and swallow it. */
	(void) sigemptyset(&pipe_only);
	(void) sigaddset(&pipe_only, SIGPIPE);
	(void) pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
	(void) sigemptyset(&waiting);
	(void) sigpending(&waiting);

	const bool theirs = sigismember(&waiting, SIGPIPE) == 1;

	if (real.write(fd, line, len) < 0 && errno == EPIPE && !theirs) {
		const struct timespec now = { 0, 0 };

		(void) sigtimedwait(&pipe_only, NULL, &now);
	}
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static bool console_unchanged(void)
{
	struct stat st;

	return fstat(console.fd, &st) == 0 && st.st_dev == console.dev &&
	       st.st_ino == console.ino;
}

static void stamp(struct event *e)
{
	const struct report_files *const f = files_now();

	e->wall_ns = clock_wall();
	e->mono_ns = clock_now();
	e->pid = life_pid();
	e->tid = (uint32_t) raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
	e->id = f != NULL ? atomic_fetch_add_explicit(f->ids, 1, memory_order_relaxed) + 1 : 0;
}

static void keep(const struct event *e)
{
	const struct report_files *const f = files_now();

	if (f != NULL && f->events.file != NULL)
		(void) ring_write(&f->events, own_ring(f, life_gone), e);
}

/* That the log cannot be had is told where `agentshim status` looks, once. */
static void log_missing(int error)
{
	static _Atomic bool told;
	struct event e = { .kind = EVENT_CONFIG_ERROR };
	struct text t = text_in(e.text, sizeof(e.text));
	const char *name = event_errno_name(error);

	if (atomic_exchange_explicit(&told, true, memory_order_relaxed))
		return;
	text_add(&t, "AGENTSHIM_LOG: found a path that cannot be opened");
	if (name != NULL) {
		text_add(&t, " (");
		text_add(&t, name);
		text_add(&t, ")");
	}
	text_add(&t, ", expected one that can; nothing is logged: ");
	text_add_shown(&t, settings->log, strlen(settings->log));
	stamp(&e);
	keep(&e);
}

static void log_out(const char *line, size_t len)
{
	if (console.fd >= 0) {
		if (console_unchanged())
			put(console.fd, line, len);
		return;
	}
	if (settings->log[0] != '/')
		return;
	/* Opened for each line: a guest keeps no descriptor. Lines are rare by design. */
	const int fd = open(settings->log,
			    O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
			    0640);

	if (fd < 0) {
		log_missing(errno);
		return;
	}
	put(fd, line, len);
	(void) real.close(fd);
}

/* Cancelled in open(2) or poll(2), the thread would leave a call half ended. */
static void log_line(const char *line, size_t len)
{
	int before, was;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	log_out(line, len);
	(void) pthread_setcancelstate(before, &was);
}

static const char *service_name(void)
{
	const struct report_files *const f = files_now();

	return f != NULL ? f->service : "";
}

static bool logged(const struct event *e)
{
	if (settings->log[0] == '\0' || e->kind == EVENT_STACK)
		return false;
	return settings->log_level == CONFIG_LOG_INFO ||
	       (e->kind != EVENT_BREAKER_CREATED && e->kind != EVENT_BREAKER_RETIRED);
}

static void log_event(const struct event *e)
{
	char line[LINE_SIZE];
	struct text t = text_in(line, sizeof(line) - 1);
	event_json(e, service_name(), &t);
	if (t.cut)
		return; /* half an object helps nobody */
	line[t.used] = '\n';
	log_line(line, t.used + 1);
}

static void record(const struct event *e)
{
	keep(e);
	if (logged(e))
		log_event(e);
}

/* The caller's stack, in as many records as its text takes; they carry the event's id. */
static void record_stack(const struct event *of)
{
	uintptr_t pcs[STACK_FRAMES];
	char text[STACK_SIZE];
	const size_t frames = stack_capture(pcs, STACK_FRAMES);
	const size_t len = stack_text(pcs, frames, text, sizeof(text));
	const size_t step = EVENT_TEXT_SIZE - 1;
	const size_t parts = (len + step - 1) / step;
	struct event e = *of;

	e.kind = EVENT_STACK;
	e.parts = (uint8_t) parts;
	for (size_t i = 0; i < parts; i++) {
		const size_t left = len - i * step;

		e.part = (uint8_t) i;
		memset(e.text, 0, sizeof(e.text));
		memcpy(e.text, text + i * step, left < step ? left : step);
		record(&e);
	}
}

void report_event(struct event *e, bool stack)
{
	stamp(e);
	record(e);
	if (stack)
		record_stack(e);
}

void report_text(enum event_kind kind, const char *text)
{
	/* A created breaker is often all that tells the mode of a process: `status` reads it. */
	struct event e = { .kind = kind, .mode = (uint8_t) settings->policy.mode };
	struct text t = text_in(e.text, sizeof(e.text));

	text_add(&t, text);
	report_event(&e, false);
}

static bool never_gone(uint32_t pid)
{
	(void) pid;
	return false;
}

void report_quietly(enum event_kind kind, const char *text)
{
	const struct report_files *const f = files_now();
	struct event e = { .kind = kind };
	struct text t = text_in(e.text, sizeof(e.text));

	if (f == NULL || f->events.file == NULL)
		return;
	text_add(&t, text);
	e.wall_ns = clock_wall();
	e.mono_ns = clock_now();
	e.pid = life_pid();
	(void) ring_write(&f->events, own_ring(f, never_gone), &e);
}

/* ---- spans ---- */

static bool keep_span(const struct report_files *f, const struct event *e,
		      const struct event *more, size_t n_more)
{
	if (f->spans.file == NULL)
		return false;

	const unsigned ring = own_ring(f, life_gone);
	bool kept = ring_write(&f->spans, ring, e);

	for (size_t i = 0; i < n_more; i++)
		kept &= ring_write(&f->spans, ring, &more[i]);
	return kept;
}

static void log_span(const struct event *e, const struct event *more, size_t n_more)
{
	char line[LINE_SIZE];
	struct text t = text_in(line, sizeof(line) - 1);

	span_json(e, more, n_more, service_name(), &t);
	if (t.cut && n_more > 0) {
		log_span(e, NULL, 0);
		return;
	}
	if (t.cut)
		return;
	line[t.used] = '\n';
	log_line(line, t.used + 1);
}

void report_span_more(const struct event *e, const struct event *more, size_t n_more)
{
	const struct report_files *const f = files_now();

	if (f != NULL && !keep_span(f, e, more, n_more))
		metrics_add(f->metrics, e->tid, METRICS_SPANS_DROPPED, 1);
	if (settings->log[0] != '\0' && settings->log_level == CONFIG_LOG_INFO)
		log_span(e, more, n_more);
}

void report_span(const struct event *e)
{
	report_span_more(e, NULL, 0);
}
