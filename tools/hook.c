/* SPDX-License-Identifier: Apache-2.0 */
/* Running a command per state change, without ever running many. */
#include "tools/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "tools/tool.h"

#define PAUSE_NS    (1 * NS_PER_S) /* between two runs for one breaker */
#define WAITING_MAX 1024           /* breakers; more than that are not remembered */
#define LINE_SIZE   (EVENT_JSON_SIZE + 64)

struct waiting {
	struct event e;                   /* the latest change */
	char service[EVENT_SERVICE_MAX];
	uint64_t summed;                  /* changes since the last run; 0: none */
	uint64_t ran_at;                  /* 0: never */
	uint64_t turn;                    /* whose change came first goes first */
};

struct hook {
	const char *command;
	pid_t pid;                        /* of the one that runs; 0: none */
	uint64_t turns;
	size_t n;
	struct waiting waiting[WAITING_MAX];
};

struct hook *hook_new(const char *command)
{
	struct hook *const h = take(1, sizeof(*h));

	h->command = command;
	return h;
}

void hook_drop(struct hook *h)
{
	free(h);
}

/* The breaker's place; that of another which has nothing to tell when all are taken. */
static struct waiting *place_of(struct hook *h, const struct event *e, const char *service)
{
	struct waiting *idle = NULL;

	for (size_t i = 0; i < h->n; i++) {
		struct waiting *const w = &h->waiting[i];

		if (strncmp(w->service, service, sizeof(w->service) - 1) == 0 &&
		    strncmp(w->e.text, e->text, sizeof(e->text)) == 0)
			return w;
		if (w->summed == 0 && (idle == NULL || w->ran_at < idle->ran_at))
			idle = w;
	}
	if (h->n < WAITING_MAX)
		idle = &h->waiting[h->n++];
	if (idle != NULL)
		*idle = (struct waiting) { .summed = 0 };
	return idle;
}

void hook_add(struct hook *h, const struct event *e, const char *service)
{
	struct waiting *const w = place_of(h, e, service);

	if (w == NULL)
		return;
	w->e = *e;
	(void) snprintf(w->service, sizeof(w->service), "%s", service);
	if (w->summed++ == 0)
		w->turn = h->turns++;
}

static size_t write_line(const struct waiting *w, char line[LINE_SIZE])
{
	struct text t = text_in(line, LINE_SIZE);

	event_json(&w->e, w->service, &t);
	text_cut_back(&t, t.used > 0 ? t.used - 1 : 0); /* the closing brace */
	text_add_key(&t, "summed");
	text_add_u64(&t, w->summed);
	text_add(&t, "}\n");
	return t.used;
}

/* In the child: standard input is @fd, signals are as a shell expects them. */
static void become(const char *command, int fd)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };

	(void) sigaction(SIGPIPE, &usual, NULL);
	(void) sigaction(SIGINT, &usual, NULL);
	(void) sigaction(SIGTERM, &usual, NULL);
	if (dup2(fd, STDIN_FILENO) == STDIN_FILENO)
		(void) execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(127);
}

static void start(struct hook *h, struct waiting *w, uint64_t now)
{
	char line[LINE_SIZE];
	const size_t length = write_line(w, line);
	pid_t child = -1;
	int ends[2];

	w->summed = 0;
	w->ran_at = now;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		complain("--on-change: %s", strerror(errno));
		return;
	}
	/* Below PIPE_BUF, so that it is in the pipe at once whether or not anybody reads. */
	if (write(ends[1], line, length) == (ssize_t) length)
		child = fork();
	if (child == 0)
		become(h->command, ends[0]);
	if (child < 0)
		complain("--on-change: %s", strerror(errno));
	else
		h->pid = child;
	(void) close(ends[0]);
	(void) close(ends[1]);
}

static void reap(struct hook *h)
{
	if (h->pid > 0 && waitpid(h->pid, NULL, WNOHANG) != 0)
		h->pid = 0;
}

bool hook_run(struct hook *h, uint64_t now)
{
	struct waiting *next = NULL;
	bool any = false;

	reap(h);
	for (size_t i = 0; i < h->n; i++) {
		struct waiting *const w = &h->waiting[i];

		any |= w->summed > 0;
		if (w->summed > 0 && (w->ran_at == 0 || clock_since(w->ran_at, now) >= PAUSE_NS) &&
		    (next == NULL || w->turn < next->turn))
			next = w;
	}
	if (h->pid == 0 && next != NULL)
		start(h, next, now);
	return any || h->pid > 0;
}
