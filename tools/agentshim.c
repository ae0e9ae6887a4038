/* SPDX-License-Identifier: Apache-2.0 */
/* The program `agentshim`: finds the verb and hands over. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "tools/tool.h"

#define LINE_SIZE 8192 /* of a complaint: two paths and some words */

static const char mode_help[] =
	"usage: agentshim off|on|observe SERVICE [--dir DIRECTORY]\n"
	"\n"
	"Acts on the running processes of a service, from their next call on:\n"
	"  off      their calls pass, breakers neither decide nor count\n"
	"  observe  breakers decide and report, but refuse nothing\n"
	"  on       takes either back: the service goes by its own settings again\n"
	"\n"
	"SERVICE is a name as `agentshim status` shows it; where several services have it,\n"
	"the stem of the state file or its path (`agentshim status --json` has it).\n"
	"Exit status: 0 done, 1 no such service, several, or refused, 2 usage.\n";

static const struct verb verbs[] = {
	{ "status", status_main, "show the breakers of services and what became of them",
	  "usage: agentshim status [--json] [--stacks] [--watch] [SERVICE...]\n"
	  "\n"
	  "  --json    one object for programs, see agentshim(1)\n"
	  "  --stacks  also the stacks kept when a breaker opened and when it first refused\n"
	  "  --watch   look again each second; without a terminal, print on each change\n"
	  "\n"
	  "Looks in AGENTSHIM_DIR, else in /dev/shm/agentshim-UID; root sees every user's.\n"
	  "Columns: results since the breaker was made; failures in a ROW; calls REFUSED; how\n"
	  "long it has been in its state (FOR) and how long an open one still refuses (RETRY).\n"
	  "Exit status: 0 shown, 1 a named SERVICE was not found, 2 usage.\n" },
	{ "tail", tail_main, "show events and spans as they happen",
	  "usage: agentshim tail [--json] [--count N] [--for DURATION] [--on-change COMMAND]\n"
	  "                      [SERVICE...]\n"
	  "\n"
	  "  --json       a line of JSON each, as AGENTSHIM_LOG has them\n"
	  "  --count N    end after N lines\n"
	  "  --for DURATION\n"
	  "               end after that long, such as 10s or 1m30s\n"
	  "  --on-change COMMAND\n"
	  "               run `sh -c COMMAND` when a breaker changes its state, with the change\n"
	  "               as a line of JSON on its standard input; one at a time, at most once\n"
	  "               a second for each breaker, \"summed\" says how many changes it is for\n"
	  "\n"
	  "Follows services that appear later, too. Ends well when interrupted, and when its\n"
	  "reader goes away.\n"
	  "Exit status: 0 ended, 1 it could not write, 2 usage.\n" },
	{ "trace", trace_main, "show one trace, over all services, as a tree over time",
	  "usage: agentshim trace [--json] ID|--last\n"
	  "\n"
	  "  ID      32 hexadecimal digits, or a UUID; of an old short id its 16\n"
	  "  --last  the trace of the span that ended last\n"
	  "  --json  one object: trace_id, whole, spans as `tail --json` has them\n"
	  "\n"
	  "AT is when a span began, counted from the first one; ! marks one with an error. The\n"
	  "page is as wide as COLUMNS says, else as the terminal, else 80.\n"
	  "Exit status: 0 shown, 1 no span of it is there, 2 usage.\n" },
	{ "metrics", metrics_main, "print what services count, for Prometheus",
	  "usage: agentshim metrics [SERVICE...]\n"
	  "\n"
	  "Prints breakers, spans and coverage in Prometheus' text format. Where two services\n"
	  "have one name, the label `service` is the stem of their files.\n"
	  "Exit status: 0 printed, 1 a named SERVICE was not found, 2 usage.\n" },
	{ "doctor", doctor_main, "say what the shim reaches in a program, and why not more",
	  "usage: agentshim doctor [--json] PROGRAM|PID\n"
	  "\n"
	  "  --json  one object for programs, see agentshim(1)\n"
	  "\n"
	  "PROGRAM is looked for as a shell does; nothing of it is run. A program whose name is\n"
	  "all digits is asked for by its path. Of a running process it also says whether the\n"
	  "shim is loaded and acts; asking about other users' takes root.\n"
	  "Verdicts: yes, partly, no; none where there is nothing to reach.\n"
	  "Exit status: 0 all of it is reached, 1 part of it, 2 nothing, 3 cannot tell: no such\n"
	  "program or process, no permission, usage.\n" },
	{ "run", run_main, "run a command under the shim",
	  "usage: agentshim run [--] COMMAND [ARGUMENT...]\n"
	  "\n"
	  "Sets LD_PRELOAD (after what is in it already) and becomes COMMAND. Refuses programs\n"
	  "that a preload cannot reach: static, setuid, setgid, with file capabilities, for\n"
	  "another machine, for musl. Settings that are not understood are named first.\n"
	  "Exit status: COMMAND's; 2 refused, 126 not executable, 127 not found.\n" },
	{ "span", span_main, "run a command within a span of its own",
	  "usage: agentshim span NAME [--] COMMAND [ARGUMENT...]\n"
	  "\n"
	  "Starts COMMAND with TRACEPARENT of a new span, which is a child of the one that\n"
	  "TRACEPARENT names already, waits for it, and records the span: an exit status other\n"
	  "than 0, or a signal, is its error. Signals that it is sent go to COMMAND.\n"
	  "With AGENTSHIM_TRACE=off it just becomes COMMAND.\n"
	  "Exit status: COMMAND's, or its signal; 2 usage, 126 not executable, 127 not found.\n" },
	{ "off", mode_main, "let a running service's calls pass unguarded", mode_help },
	{ "on", mode_main, "take back off or observe", mode_help },
	{ "observe", mode_main, "let breakers decide and report, but refuse nothing", mode_help },
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

void complain(const char *format, ...)
{
	char raw[LINE_SIZE], line[LINE_SIZE];
	struct text t = text_in(line, sizeof(line));
	va_list args;

	va_start(args, format);
	(void) vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	/* Names in it may come from memory or files that others write. */
	text_add_shown(&t, raw, sizeof(raw));
	(void) fflush(stdout);
	(void) fprintf(stderr, "agentshim: %s\n", line);
}

int usage(const char *verb, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;

	va_start(args, format);
	(void) vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	complain("%s (see agentshim %s%s--help)", line, verb, *verb != '\0' ? " " : "");
	return TOOL_USAGE;
}

void *take(size_t n, size_t size)
{
	void *const memory = calloc(n, size);

	if (memory == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	return memory;
}

static void print_help(void)
{
	(void) puts("usage: agentshim VERB [...]\n"
		    "\n"
		    "Circuit breakers for unmodified programs.\n");
	for (size_t i = 0; i < N_VERBS; i++)
		(void) printf("  %-8s %s\n", verbs[i].name, verbs[i].summary);
	(void) puts("\n"
		    "  --version and --help; agentshim VERB --help says more.");
}

/* Options of the command that `run` starts are not ours. */
static bool asks_help(int argc, char **argv)
{
	for (int i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	}
	return false;
}

/* What could not be written was not shown: a full disk must not look like success. */
static int finish(int rc)
{
	const bool failed = ferror(stdout) != 0;

	if (fflush(stdout) == 0 && !failed)
		return rc;
	complain("cannot write to standard output");
	return rc != TOOL_OK ? rc : TOOL_FAILED;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage("", "which verb?");
	if (strcmp(argv[1], "--version") == 0) {
		(void) puts("agentshim " AGENTSHIM_VERSION);
		return finish(TOOL_OK);
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help();
		return finish(TOOL_OK);
	}
	for (size_t i = 0; i < N_VERBS; i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		if (asks_help(argc - 1, argv + 1)) {
			(void) fputs(verbs[i].help, stdout);
			return finish(TOOL_OK);
		}
		return finish(verbs[i].run(argc - 1, argv + 1));
	}
	return usage("", "unknown %s %s", argv[1][0] == '-' ? "option" : "verb", argv[1]);
}
