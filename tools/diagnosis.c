/* SPDX-License-Identifier: Apache-2.0 */
/* Findings about files, and what they come to. */
#include "tools/diagnosis.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/preload.h"
#include "tools/program.h"
#include "tools/tool.h"

#define TEXT_SIZE (PATH_MAX + 256)

static char *copy_of(const char *s)
{
	char *const copy = strdup(s);

	if (copy == NULL) {
		complain("out of memory");
		exit(TOOL_FAILED);
	}
	return copy;
}

void diagnosis_add(struct diagnosis *d, const char *what, const char *means, const char *format,
		   ...)
{
	char finding[TEXT_SIZE];
	va_list args;

	if (d->n_findings == FINDINGS_MAX)
		return;
	va_start(args, format);
	(void) vsnprintf(finding, sizeof(finding), format, args);
	va_end(args);
	d->findings[d->n_findings++] = (struct finding) {
		.what = what,
		.finding = copy_of(finding),
		.means = copy_of(means),
	};
}

void diagnosis_block(struct diagnosis *d, const char *reason)
{
	if (*d->blocked == '\0')
		(void) snprintf(d->blocked, sizeof(d->blocked), "%s", reason);
}

void diagnosis_drop(struct diagnosis *d)
{
	for (size_t i = 0; i < d->n_findings; i++) {
		free(d->findings[i].finding);
		free(d->findings[i].means);
	}
	d->n_findings = 0;
	parts_drop(&d->parts);
}

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = {
		[VERDICT_YES] = "yes",
		[VERDICT_PARTLY] = "partly",
		[VERDICT_NO] = "no",
		[VERDICT_NONE] = "none",
	};

	return names[verdict];
}

/* ---- runtimes ---- */

enum opens { OPENS_NOTHING, OPENS_OPENSSL, OPENS_ITSELF };

/* What is known of a language's runtime by its name, as no file of it tells. */
static const struct runtime {
	const char *name;
	const char *program; /* its name, versions and suffixes aside */
	const char *part;    /* what it maps, in whatever program; NULL: nothing that tells */
	enum opens opens;    /* how its TLS comes */
	const char *tls;
	bool loop; /* one thread's event loop serves all requests */
	const char *context;
} runtimes[] = {
	{ "node", "node", "libnode.so", OPENS_NOTHING, NULL, true,
	  "node serves all requests in one event loop: calls begin traces of their own" },
	{ "node", "nodejs", NULL, OPENS_NOTHING, NULL, true,
	  "node serves all requests in one event loop: calls begin traces of their own" },
	{ "java", "java", "libjvm.so", OPENS_ITSELF, "JSSE encrypts in Java, no library is called",
	  false, "where a thread serves a request; executors begin traces of their own" },
	{ "python", "python", "libpython", OPENS_OPENSSL,
	  "its ssl module calls libssl, which it opens when it runs; a wheel may bring its own",
	  false, "where a thread or process serves a request; asyncio begins traces of its own" },
	{ "php", "php", "libphp", OPENS_NOTHING, NULL, false,
	  "where a process serves a request (FPM); php -S begins traces of its own" },
	{ "nginx", "nginx", NULL, OPENS_NOTHING, NULL, false,
	  "a call of a worker is ascribed to a request where no other can be meant" },
	{ "ruby", "ruby", "libruby", OPENS_OPENSSL,
	  "its openssl module calls libssl, which it opens when it runs", false,
	  "where a thread serves a request; a reactor (Puma) begins traces of its own" },
	{ "perl", "perl", "libperl.so", OPENS_OPENSSL,
	  "Net::SSLeay calls libssl, which it opens when it runs", false, NULL },
	{ ".NET", "dotnet", "libcoreclr.so", OPENS_ITSELF,
	  ".NET takes libssl's functions by dlsym, past every preload", true,
	  ".NET's pool answers in other threads: calls begin traces of their own" },
	{ "Erlang", "beam.smp", NULL, OPENS_ITSELF, "Erlang speaks TLS by itself", true,
	  "Erlang's schedulers share requests: calls begin traces of their own" },
};

#define N_RUNTIMES (sizeof(runtimes) / sizeof(runtimes[0]))

/* "python3.11", "php-fpm8.2", "nodejs": the name, and nothing that makes it another one. */
static bool named(const char *file, const char *program)
{
	const size_t n = strlen(program);

	if (strncmp(file, program, n) != 0)
		return false;
	file += n;
	if (strncmp(file, "-fpm", 4) == 0 || strncmp(file, "-cgi", 4) == 0)
		file += 4;
	return file[strspn(file, "0123456789.")] == '\0' || strcmp(file, "-debug") == 0;
}

static bool has_part(const struct diagnosis *d, const char *prefix)
{
	for (size_t i = 1; i < d->parts.n; i++) {
		if (strncmp(d->parts.all[i].name, prefix, strlen(prefix)) == 0)
			return true;
	}
	return false;
}

static const struct runtime *runtime_of(const struct diagnosis *d)
{
	const char *const slash = strrchr(d->path, '/');
	const char *const file = slash != NULL ? slash + 1 : d->path;

	for (size_t i = 0; i < N_RUNTIMES; i++) {
		if (named(file, runtimes[i].program) ||
		    (runtimes[i].part != NULL && has_part(d, runtimes[i].part)))
			return &runtimes[i];
	}
	return NULL;
}

/* ---- the binary ---- */

/* The tool is built with the shim: what fits the one fits the other. */
static bool own_facts(struct module_facts *ret)
{
	const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const bool known = fd >= 0 && module_examine(fd, ret);

	if (fd >= 0)
		(void) close(fd);
	return known;
}

static void of_libc(struct diagnosis *d, const struct binary *b)
{
	const char *const interpreter = b->facts.interpreter;
	const char *const slash = strrchr(d->path, '/');
	const char *const name = slash != NULL ? slash + 1 : d->path;

	if (!b->facts.interpreted) {
		if (strncmp(name, "ld-linux", 8) == 0) {
			diagnosis_add(d, "libc", "what it is given to start counts",
				      "the loader itself");
			return;
		}
		diagnosis_block(d, "it is linked statically: no loader reads LD_PRELOAD");
		return;
	}
	if (strstr(interpreter, "ld-musl") != NULL) {
		diagnosis_add(d, "libc", "the shim needs glibc: it cannot be loaded", "musl (%s)",
			      interpreter);
		diagnosis_block(d, "it is built for musl, and the shim for glibc");
	} else if (strstr(interpreter, "/linker") != NULL) {
		diagnosis_add(d, "libc", "the shim needs glibc: it cannot be loaded",
			      "Android's (%s)", interpreter);
		diagnosis_block(d, "it is built for Android, and the shim for glibc");
	} else {
		diagnosis_add(d, "libc", "its network calls can be seen", "glibc (%s)",
			      interpreter);
	}
}

static void of_machine(struct diagnosis *d, const struct binary *b)
{
	const char *const machine = module_machine_name(b->facts.machine);
	char reason[REASON_SIZE];
	struct module_facts own;

	if (!own_facts(&own) || (own.class == b->facts.class && own.data == b->facts.data &&
				 own.machine == b->facts.machine))
		return;
	(void) snprintf(reason, sizeof(reason),
			"it is built for another machine (%s%s) than agentshim (%s)",
			machine != NULL ? machine : "unknown",
			b->facts.class == ELFCLASS32 ? ", 32 bits" : "",
			module_machine_name(own.machine));
	diagnosis_add(d, "machine", "the loader leaves a preload of another machine out",
		      "%s, %s bits%s", machine != NULL ? machine : "unknown",
		      b->facts.class == ELFCLASS32 ? "32" : "64",
		      b->facts.data != own.data ? ", another byte order" : "");
	diagnosis_block(d, reason);
}

bool diagnosis_of_binary(struct diagnosis *d, const struct binary *b)
{
	const bool dynamic = b->facts.interpreted;
	const char *const kind = b->facts.type == ET_DYN ? "PIE" : "at a fixed address";

	if (b->ours && b->facts.type != ET_EXEC && b->facts.type != ET_DYN) {
		complain("%s is an ELF file, but no program", d->path);
		return false;
	}
	of_machine(d, b);
	if (!b->ours)
		return true;
	diagnosis_add(d, "type",
		      dynamic ? "the loader can take a preload in"
			      : "there is no loader to read LD_PRELOAD",
		      "%s, %s", dynamic ? "dynamic" : "static", kind);
	of_libc(d, b);
	if (!b->whole)
		diagnosis_add(d, "file", "what it says cannot be relied on",
			      "damaged or cut short");
	d->go = b->go;
	if (b->go) {
		diagnosis_add(d, "Go", "it enters the kernel by itself: nothing is seen",
			      "built by Go%s", dynamic ? ", with cgo or a loader" : "");
		diagnosis_block(d, "it is a Go program: it enters the kernel past libc");
	}
	return true;
}

/* ---- of a file ---- */

static void of_privileges(struct diagnosis *d, int fd, const struct stat *st)
{
	char *const reason = take(1, PROGRAM_REASON_SIZE);
	const bool setuid = (st->st_mode & S_ISUID) != 0;
	const bool setgid = (st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
	const bool plain = program_unprivileged(d->path, fd, st, reason);
	const bool caps = program_has_capabilities(fd);

	if (setuid || setgid || caps)
		diagnosis_add(d, "privileges",
			      plain ? "nothing for you; for other users the loader drops preloads"
				    : "the loader drops preloads (AT_SECURE)",
			      "%s%s%s", setuid ? "setuid" : "",
			      setgid ? setuid ? ", setgid" : "setgid" : "",
			      caps ? setuid || setgid ? ", file capabilities" : "file capabilities"
				   : "");
	if (!plain)
		diagnosis_block(d,
				"it starts with privileges: the loader drops preloads (AT_SECURE)");
	free(reason);
}

/* Along `#!` lines to the binary that will run; its path in @d->path. -1 after a complaint. */
static int open_binary(struct diagnosis *d, struct binary *b)
{
	for (unsigned depth = 0; depth <= PROGRAM_SCRIPTS_MAX; depth++) {
		const int fd = open(d->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		struct program_script script;
		const char *next = "/bin/sh"; /* as execvp(3) */
		char path[PATH_MAX];

		if (fd < 0) {
			complain("%s: %s: ask as its owner or as root", d->path, strerror(errno));
			return -1;
		}
		if (binary_read(fd, b))
			return fd;
		if (program_script(fd, &script))
			next = script.command != NULL ? script.command : script.interpreter;
		(void) close(fd);
		if (next == NULL || program_find(next, path) != 0) {
			complain("%s: its interpreter%s%s is not to be found", d->path,
				 next != NULL ? " " : "", next != NULL ? next : "");
			return -1;
		}
		diagnosis_add(d, "script", "that is what runs; ask for what it starts by itself", "%s, started by %s",
			      d->path, path);
		memcpy(d->path, path, sizeof(path));
	}
	complain("%s: scripts within scripts", d->path);
	return -1;
}

/* Every program's, whatever the environment says. */
static void of_preload_file(struct diagnosis *d)
{
	const int fd = open("/etc/ld.so.preload", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char list[TEXT_SIZE];
	const ssize_t n = fd >= 0 ? pread(fd, list, sizeof(list) - 1, 0) : -1;

	if (fd >= 0)
		(void) close(fd);
	list[n > 0 ? n : 0] = '\0';
	diagnosis_of_preloads(d, list);
}

static void of_environment(struct diagnosis *d)
{
	const char *const disable = getenv("AGENTSHIM_DISABLE");
	const char *const preload = getenv("LD_PRELOAD");
	char *const list = copy_of(preload != NULL ? preload : "");

	diagnosis_of_preloads(d, list);
	free(list);
	of_preload_file(d);
	if (disable != NULL && *disable != '\0' && strcmp(disable, "0") != 0)
		diagnosis_add(d, "settings", "started from here, the shim does nothing",
			      "AGENTSHIM_DISABLE=%s", disable);
}

bool diagnosis_of_program(const char *command, struct diagnosis *d)
{
	const int found = program_find(command, d->path);
	struct binary *b;
	struct stat st;
	int fd;

	if (found != 0) {
		complain("%s: %s", command,
			 found == TOOL_NOT_FOUND ? "no such command" : "not executable");
		return false;
	}
	b = take(1, sizeof(*b));
	fd = open_binary(d, b);
	if (fd < 0 || fstat(fd, &st) < 0 || !diagnosis_of_binary(d, b)) {
		if (fd >= 0)
			(void) close(fd);
		free(b);
		return false;
	}
	of_privileges(d, fd, &st);

	char real[PATH_MAX];

	/* $ORIGIN and the names of runtimes mean the file, not a link to it. */
	if (realpath(d->path, real) != NULL)
		memcpy(d->path, real, sizeof(real));
	parts_of_file(d->path, fd, b, &d->parts);
	(void) close(fd);
	free(b);
	of_environment(d);
	diagnosis_conclude(d);
	return true;
}

/* As it was named, looked at where the process would find it. */
static void of_preload(struct diagnosis *d, const char *name)
{
	char path[PATH_MAX];
	struct part p;

	if (strstr(name, PRELOAD_NAME) != NULL)
		return;
	if (d->pid == 0)
		(void) snprintf(path, sizeof(path), "%s", name);
	else
		(void) snprintf(path, sizeof(path), "/proc/%d/%s%s%s", (int) d->pid,
				*name == '/' ? "root" : "cwd", *name == '/' ? "" : "/", name);
	if (!parts_examine(path, &p))
		diagnosis_add(d, "preload", "whether it hooks the same calls is not known", "%s",
			      name);
	else if (!p.shim)
		diagnosis_add(
			d, "preload",
			p.connects ? "hooks connect, too: the first in LD_PRELOAD is called first"
				   : "does not hook connect",
			"%s", name);
}

void diagnosis_of_preloads(struct diagnosis *d, char *list)
{
	static const char between[] = ": \t\n";
	char *rest;

	for (char *at = strtok_r(list, between, &rest); at != NULL;
	     at = strtok_r(NULL, between, &rest))
		of_preload(d, at);
}

/* ---- what it comes to ---- */

static void __attribute__((format(printf, 4, 5)))
judge(struct diagnosis *d, enum way way, enum verdict verdict, const char *format, ...)
{
	va_list args;

	d->verdicts[way] = verdict;
	va_start(args, format);
	(void) vsnprintf(d->reasons[way], REASON_SIZE, format, args);
	va_end(args);
}

static bool reached(const struct diagnosis *d, enum tls kind)
{
	return (kind == TLS_OPENSSL && d->hooks.openssl) ||
	       (kind == TLS_GNUTLS && d->hooks.gnutls) || (kind == TLS_CURL && d->hooks.curl);
}

struct sum {
	bool known[2][TLS_KINDS]; /* out of reach, reached */
	bool go, missing;
};

static void sum_part(struct diagnosis *d, const struct part *p, struct sum *s)
{
	if (p->shim)
		return;
	if (p->library != TLS_NONE) {
		const bool can = reached(d, p->library);

		s->known[can][p->library] = true;
		diagnosis_add(d, "TLS",
			      can ? "its calls are seen in the clear"
				  : "this shim does not hook it: TLS bodies stay closed",
			      "%s (%s%s%s)", parts_tls_name(p->library), p->name,
			      p->by != NULL ? ", through " : "", p->by != NULL ? p->by : "");
	}
	for (int kind = 0; kind < TLS_KINDS; kind++) {
		if (!p->inside[kind])
			continue;
		s->known[0][kind] = true;
		diagnosis_add(d, "TLS", "its calls go past every preload: TLS bodies stay closed",
			      "%s, built into %s", parts_tls_name((enum tls) kind), p->name);
	}
	if (p->go && p != &d->parts.all[0]) {
		s->go = true;
		diagnosis_add(d, "Go", "what it calls by itself is not seen", "library %s",
			      p->name);
	}
	if (!p->found && d->pid == 0 && p != &d->parts.all[0]) {
		s->missing = true;
		diagnosis_add(d, "library", "the program will not start like this",
			      "%s is not found", p->name);
	}
	d->io_uring |= strncmp(p->name, "liburing.so", 11) == 0;
}

/* "OpenSSL, libcurl" */
static const char *listed(const bool known[TLS_KINDS], char *buf, size_t size)
{
	size_t used = 0;

	*buf = '\0';
	for (int kind = 0; kind < TLS_KINDS && used < size; kind++) {
		if (known[kind])
			used += (size_t) snprintf(buf + used, size - used, "%s%s",
						  used > 0 ? ", " : "",
						  parts_tls_name((enum tls) kind));
	}
	return buf;
}

static void judge_tls(struct diagnosis *d, const struct runtime *r, const struct sum *s)
{
	char can[128], cannot[128];
	const bool yes = *listed(s->known[1], can, sizeof(can)) != '\0';
	const bool no = *listed(s->known[0], cannot, sizeof(cannot)) != '\0';

	if (r != NULL && r->opens == OPENS_ITSELF)
		judge(d, WAY_TLS, yes ? VERDICT_PARTLY : VERDICT_NO, "%s", r->tls);
	else if (yes && no)
		judge(d, WAY_TLS, VERDICT_PARTLY, "%s: reached; %s: not", can, cannot);
	else if (no)
		judge(d, WAY_TLS, VERDICT_NO, "%s: out of reach; judged by the first byte", cannot);
	else if (yes)
		judge(d, WAY_TLS, VERDICT_YES, "%s: reached", can);
	else if (r != NULL && r->opens == OPENS_OPENSSL && d->pid == 0)
		judge(d, WAY_TLS, d->hooks.openssl ? VERDICT_YES : VERDICT_NO, "%s", r->tls);
	else
		judge(d, WAY_TLS, VERDICT_NONE, "no TLS library is %s",
		      d->pid != 0 ? "loaded so far"
				  : "linked; one may still be opened when it runs");
}

static void judge_clear(struct diagnosis *d, const struct sum *s, bool past)
{
	const char *const gap = past    ? "but not in php's extensions, which go past (DEEPBIND)"
				: s->go ? "but not what Go does in it"
				: d->io_uring ? "but not what goes by io_uring"
				: d->filtered ? "if its seccomp filter was there before it started"
					      : NULL;
	const enum verdict verdict = gap != NULL ? VERDICT_PARTLY : VERDICT_YES;
	static const char *const seen[] = {
		[WAY_CONNECT] = "each connection is admitted, refused and judged",
		[WAY_HTTP1] = "in the clear: followed, judged by its answers",
		[WAY_HTTP2] = "in the clear: followed, judged by its answers",
	};

	for (int way = WAY_CONNECT; way <= WAY_HTTP2; way++)
		judge(d, (enum way) way, verdict, "%s%s%s", seen[way], gap != NULL ? ", " : "",
		      gap != NULL ? gap : "");
}

static void judge_context(struct diagnosis *d, const struct runtime *r)
{
	const bool asyncio = has_part(d, "_asyncio.");

	if (asyncio || (r != NULL && r->loop))
		judge(d, WAY_CONTEXT, VERDICT_PARTLY, "%s",
		      asyncio ? "asyncio is in use: calls begin traces of their own" : r->context);
	else
		judge(d, WAY_CONTEXT, d->verdicts[WAY_HTTP1], "%s",
		      r != NULL && r->context != NULL
			      ? r->context
			      : "where a thread or process serves one request at a time");
}

void diagnosis_conclude(struct diagnosis *d)
{
	const struct runtime *const r = runtime_of(d);
	const bool php = r != NULL && strcmp(r->name, "php") == 0;
	struct sum sum = { .go = false };

	if (r != NULL)
		diagnosis_add(d, "runtime", r->tls != NULL ? r->tls : r->context, "%s", r->name);
	if (php)
		diagnosis_add(d, "DEEPBIND",
			      d->hooks.dlopen ? "the shim takes the flag away: they are seen"
					      : "what an extension calls (curl) goes past the shim",
			      "php opens its extensions with RTLD_DEEPBIND");
	for (size_t i = 0; i < d->parts.n; i++)
		sum_part(d, &d->parts.all[i], &sum);
	if (!d->parts.whole)
		diagnosis_add(d, "libraries", "what they bring is not known",
			      "some could not be read");
	if (d->pid == 0 && *d->blocked == '\0')
		diagnosis_add(d, "dlopen", "not visible in a file: run it and ask by its PID",
			      "what it opens when it runs");
	if (*d->blocked != '\0') {
		for (int way = 0; way < WAYS; way++)
			judge(d, (enum way) way, VERDICT_NO, "%s", d->blocked);
		return;
	}
	judge_clear(d, &sum, php && !d->hooks.dlopen);
	judge_tls(d, r, &sum);
	judge_context(d, r);
}
