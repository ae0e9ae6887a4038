/* SPDX-License-Identifier: Apache-2.0 */
/* `agentshim doctor PROGRAM|PID`: what the shim reaches in one program, and why not more. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "tools/diagnosis.h"
#include "tools/preload.h"
#include "tools/tool.h"
#include "tools/view.h"

#define WIDTH      80
#define INDENT     12 /* of what goes on in the next line */
#define LINE_SIZE  (2 * PATH_MAX)
#define PIECE_SIZE (TEXT_JSON_GROWTH * (PATH_MAX + 512) + 8)

/* Its own, as 1 and 2 are answers here. */
enum doctor_exit {
	DOCTOR_ALL = 0,
	DOCTOR_PARTLY = 1,
	DOCTOR_NOTHING = 2,
	DOCTOR_CANNOT_TELL = 3,
};

static const struct {
	const char *shown, *key;
} ways[WAYS] = {
	[WAY_CONNECT] = { "connect", "connect" }, [WAY_HTTP1] = { "HTTP/1", "http1" },
	[WAY_HTTP2] = { "HTTP/2 gRPC", "http2" }, [WAY_TLS] = { "TLS bodies", "tls" },
	[WAY_CONTEXT] = { "context", "context" },
};

static int status_of(const struct diagnosis *d)
{
	bool some = false, gaps = false;

	for (int way = 0; way < WAYS; way++) {
		some |= d->verdicts[way] == VERDICT_YES || d->verdicts[way] == VERDICT_PARTLY;
		gaps |= d->verdicts[way] == VERDICT_NO || d->verdicts[way] == VERDICT_PARTLY;
	}
	return !gaps ? DOCTOR_ALL : some ? DOCTOR_PARTLY : DOCTOR_NOTHING;
}

/* ---- for people ---- */

/* @text after what stands at column @at already, over as many lines as it takes. */
static void put_wrapped(const char *text, size_t at, size_t indent)
{
	char line[LINE_SIZE];
	struct text t = text_in(line, sizeof(line));
	const char *rest = line;

	/* Once more: what was cut in the middle of a character is none. */
	text_add_shown(&t, text, strlen(text));
	for (;;) {
		const size_t fits = view_bytes(rest, WIDTH - at);
		size_t n = fits;

		if (rest[n] != '\0') {
			while (n > 0 && rest[n] != ' ')
				n--;
			/* A long word goes to a line of its own, and is broken there. */
			if (n == 0 && at == indent)
				n = fits;
		}
		(void) printf("%.*s\n", (int) n, rest);
		rest += n;
		rest += strspn(rest, " ");
		if (*rest == '\0')
			return;
		(void) printf("%*s", (int) indent, "");
		at = indent;
	}
}

static void put_finding(const struct finding *f)
{
	char line[LINE_SIZE];

	(void) snprintf(line, sizeof(line), "%s  -> %s", f->finding, f->means);
	put_wrapped(line, (size_t) printf("%s: ", f->what), INDENT);
}

static void put_verdict(const struct diagnosis *d, enum way way, bool colour)
{
	static const char *const colours[] = {
		[VERDICT_YES] = "\x1b[32m",
		[VERDICT_PARTLY] = "\x1b[33m",
		[VERDICT_NO] = "\x1b[31m",
		[VERDICT_NONE] = "",
	};
	const enum verdict v = d->verdicts[way];
	const int label = printf("%-*s", INDENT, ways[way].shown);
	const bool painted = colour && *colours[v] != '\0';

	(void) printf("%s%-7s%s", painted ? colours[v] : "", verdict_name(v),
		      painted ? "\x1b[0m" : "");
	put_wrapped(d->reasons[way], (size_t) label + 7, INDENT + 7);
}

static void print_text(const struct diagnosis *d)
{
	if (d->pid != 0)
		(void) printf("process: %d\n", (int) d->pid);
	put_wrapped(d->path, (size_t) printf("program: "), INDENT);
	for (size_t i = 0; i < d->n_findings; i++)
		put_finding(&d->findings[i]);
	(void) putchar('\n');
	for (int way = 0; way < WAYS; way++)
		put_verdict(d, (enum way) way, view_in_colour());
}

/* ---- for programs ---- */

static void put_string(const char *lead, const char *value)
{
	char *const buf = take(1, PIECE_SIZE);
	struct text t = text_in(buf, PIECE_SIZE);

	text_add_json(&t, value);
	(void) printf("%s%s", lead, buf);
	free(buf);
}

static void print_json(const struct diagnosis *d, const char *asked)
{
	put_string("{\"asked\":", asked);
	put_string(",\"path\":", d->path);
	if (d->pid != 0)
		(void) printf(",\"pid\":%d", (int) d->pid);
	if (d->shim != NULL)
		put_string(",\"shim\":", d->shim);
	(void) fputs(",\"findings\":[", stdout);
	for (size_t i = 0; i < d->n_findings; i++) {
		put_string(i > 0 ? ",{\"what\":" : "{\"what\":", d->findings[i].what);
		put_string(",\"finding\":", d->findings[i].finding);
		put_string(",\"means\":", d->findings[i].means);
		(void) fputs("}", stdout);
	}
	(void) fputs("],\"verdicts\":{", stdout);
	for (int way = 0; way < WAYS; way++) {
		(void) printf("%s\"%s\":{", way > 0 ? "," : "", ways[way].key);
		put_string("\"verdict\":", verdict_name(d->verdicts[way]));
		put_string(",\"reason\":", d->reasons[way]);
		(void) fputs("}", stdout);
	}
	(void) printf("},\"status\":%d}\n", status_of(d));
}

/* ---- the verb ---- */

/* A PID is digits alone; a program of such a name is asked for by its path. */
static bool read_pid(const char *s, pid_t *ret)
{
	char *end;

	if (*s == '\0' || s[strspn(s, "0123456789")] != '\0')
		return false;
	errno = 0;

	const long n = strtol(s, &end, 10);

	*ret = errno == 0 && n > 0 && n <= INT_MAX ? (pid_t) n : -1;
	return true;
}

static int examine(const char *asked, bool json)
{
	struct diagnosis *const d = take(1, sizeof(*d));
	char shim[PATH_MAX];
	int rc = DOCTOR_CANNOT_TELL;
	pid_t pid;
	bool told;

	if (preload_find(shim))
		d->shim = shim;
	d->hooks = parts_hooks(d->shim);
	if (d->shim == NULL)
		diagnosis_add(d, "shim", "is it installed? what follows is of this version's",
			      "%s is neither in the build nor in the library directory",
			      PRELOAD_NAME);
	if (!read_pid(asked, &pid)) {
		told = diagnosis_of_program(asked, d);
	} else if (pid > 0) {
		told = diagnosis_of_process(pid, d);
	} else {
		complain("no process %s", asked);
		told = false;
	}
	if (told) {
		if (json)
			print_json(d, asked);
		else
			print_text(d);
		rc = status_of(d);
	}
	diagnosis_drop(d);
	free(d);
	/* Nobody is to take what could not be written for an answer. */
	return fflush(stdout) == 0 && ferror(stdout) == 0 ? rc : DOCTOR_CANNOT_TELL;
}

int doctor_main(int argc, char **argv)
{
	const char *asked = NULL;
	bool options = true, json = false;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (options && argv[i][0] == '-') {
			(void) usage("doctor", "unknown option %s", argv[i]);
			return DOCTOR_CANNOT_TELL;
		} else if (asked != NULL) {
			(void) usage("doctor", "one at a time, not also %s", argv[i]);
			return DOCTOR_CANNOT_TELL;
		} else {
			asked = argv[i];
		}
	}
	if (asked != NULL)
		return examine(asked, json);
	(void) usage("doctor", "which program or process?");
	return DOCTOR_CANNOT_TELL;
}
