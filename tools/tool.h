/* SPDX-License-Identifier: Apache-2.0 */
/* The program `agentshim`: what its verbs share. */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What agentshim(1) promises to scripts. `run` otherwise ends as the command does. */
enum tool_exit {
	TOOL_OK = 0,
	TOOL_FAILED = 1,          /* no such service, several of that name, a file was refused */
	TOOL_USAGE = 2,           /* command line, or a program that the preload cannot reach */
	TOOL_NOT_EXECUTABLE = 126,
	TOOL_NOT_FOUND = 127,
};

struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the verb; returns enum tool_exit */
	const char *summary;
	const char *help;
};

int status_main(int argc, char **argv);
int run_main(int argc, char **argv);
int span_main(int argc, char **argv);
int mode_main(int argc, char **argv);
int tail_main(int argc, char **argv);
int trace_main(int argc, char **argv);
int metrics_main(int argc, char **argv);
int doctor_main(int argc, char **argv); /* 0 to 3 of its own, see its help */

/* One line on standard error, after "agentshim: "; a newline is added. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As complain(), with a hint where to read more. Returns TOOL_USAGE. */
int usage(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Ends the program with a complaint when memory is out: a tool that reads a few files has
 * nothing to save. Never NULL.
 */
void *take(size_t n, size_t size);

#endif
