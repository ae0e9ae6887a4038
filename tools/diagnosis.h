/* SPDX-License-Identifier: Apache-2.0 */
/* What a preload reaches in one program, and why: findings, and a verdict for each way. */
#ifndef TOOLS_DIAGNOSIS_H
#define TOOLS_DIAGNOSIS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tools/parts.h"

#define FINDINGS_MAX 128 /* lines; what is beyond says nothing new */
#define REASON_SIZE  512

enum verdict { VERDICT_YES, VERDICT_PARTLY, VERDICT_NO, VERDICT_NONE };

/* The columns of docs/coverage.md, as far as they can be told from outside. */
enum way { WAY_CONNECT, WAY_HTTP1, WAY_HTTP2, WAY_TLS, WAY_CONTEXT, WAYS };

struct finding {
	const char *what; /* static */
	char *finding, *means;
};

struct diagnosis {
	pid_t pid;           /* 0: of a file */
	char path[PATH_MAX]; /* of the binary that runs */
	const char *shim;    /* NULL: not beside this program */
	struct hooks hooks;
	size_t n_findings;
	struct finding findings[FINDINGS_MAX];
	struct parts parts;

	bool go, io_uring, filtered; /* filtered: under a seccomp filter */
	char blocked[REASON_SIZE];   /* why nothing works; empty: it does */

	enum verdict verdicts[WAYS];
	char reasons[WAYS][REASON_SIZE];
};

/*
 * diagnosis_of_program - looks at what @command would start
 * diagnosis_of_process - looks at a running one
 *
 * False, after a complaint, when nothing can be told: no such thing, no permission, no program.
 * @d: zeroed but for shim and hooks; diagnosis_drop() takes what was made, in either case.
 */
bool diagnosis_of_program(const char *command, struct diagnosis *d);
bool diagnosis_of_process(pid_t pid, struct diagnosis *d);
void diagnosis_drop(struct diagnosis *d);

/* One line; @finding and @means by format, what is from outside still as it came. */
void diagnosis_add(struct diagnosis *d, const char *what, const char *means, const char *format,
		   ...) __attribute__((format(printf, 4, 5)));

/* The first reason stays: the others would be as true without it. */
void diagnosis_block(struct diagnosis *d, const char *reason);

/*
 * diagnosis_of_binary - findings about the file itself; those that a preload cannot get around
 * block. @b: of @d->path. False when it is no program.
 */
bool diagnosis_of_binary(struct diagnosis *d, const struct binary *b);

/* Each entry of a list as LD_PRELOAD and ld.so.preload have it, but ours; @list is cut up. */
void diagnosis_of_preloads(struct diagnosis *d, char *list);

/* What the parts, all known now, come to. */
void diagnosis_conclude(struct diagnosis *d);

const char *verdict_name(enum verdict verdict);

#endif
