/* SPDX-License-Identifier: Apache-2.0 */
/* Names the service that a process is part of, from its executable and command line. */
#include "core/service.h"

#include <stdbool.h>
#include <string.h>

#include "core/text.h"

#define DELETED " (deleted)" /* what the kernel adds when the file was replaced */

/* What an option before the script means. */
enum meaning {
	FLAG,
	REST,     /* whatever follows in the word belongs to it */
	ARGUMENT, /* its argument is the rest of the word or, when that is empty, the next word */
	NEXT,     /* its argument is the next word; further letters may follow in this one */
	SCRIPT,   /* its argument is the program, a file */
	MODULE,   /* its argument is the program, a name */
	SELF,     /* the program has no name */
	END,      /* the next word is the program */
};

struct option {
	const char *word; /* "-W" also within a cluster; "--long" also before '=' */
	enum meaning meaning;
};

static const struct option python_options[] = {
	{ "-", SELF },
	{ "--", END },
	{ "-c", SELF },
	{ "-m", MODULE },
	{ "-W", ARGUMENT },
	{ "-X", ARGUMENT },
	{ "-Q", ARGUMENT },
	{ "--check-hash-based-pycs", ARGUMENT },
	{ NULL, FLAG },
};

static const struct option php_options[] = {
	{ "-", SELF },
	{ "--", SELF }, /* what follows are arguments to a script on standard input */
	{ "-f", SCRIPT },
	{ "-F", SCRIPT },
	{ "--file", SCRIPT },
	{ "--process-file", SCRIPT },
	{ "-r", SELF },
	{ "-B", SELF },
	{ "-R", SELF },
	{ "-E", SELF },
	{ "--run", SELF },
	{ "--process-begin", SELF },
	{ "--process-code", SELF },
	{ "--process-end", SELF },
	{ "--rf", SELF },
	{ "--rc", SELF },
	{ "--re", SELF },
	{ "--rz", SELF },
	{ "--ri", SELF },
	{ "-c", ARGUMENT },
	{ "-d", ARGUMENT },
	{ "-S", ARGUMENT },
	{ "-t", ARGUMENT },
	{ "-z", ARGUMENT },
	{ "--php-ini", ARGUMENT },
	{ "--define", ARGUMENT },
	{ "--server", ARGUMENT },
	{ "--docroot", ARGUMENT },
	{ "--zend-extension", ARGUMENT },
	{ NULL, FLAG },
};

static const struct option perl_options[] = {
	{ "-", SELF },
	{ "--", END },
	{ "-e", SELF },
	{ "-E", SELF },
	{ "-V", SELF },
	{ "-I", ARGUMENT },
	{ "-M", REST },
	{ "-m", REST },
	{ "-x", REST },
	{ "-i", REST },
	{ "-F", REST },
	{ "-C", REST },
	{ "-D", REST },
	{ "-:", REST }, /* -d:NYTProf */
	{ NULL, FLAG },
};

static const struct option ruby_options[] = {
	{ "-", SELF },
	{ "--", END },
	{ "-e", SELF },
	{ "-I", ARGUMENT },
	{ "-r", ARGUMENT },
	{ "-C", ARGUMENT },
	{ "-X", ARGUMENT },
	{ "-E", ARGUMENT },
	{ "-F", REST },
	{ "-i", REST },
	{ "-K", REST },
	{ "-T", REST },
	{ "-W", REST },
	{ "-x", REST },
	{ "--encoding", ARGUMENT },
	{ "--external-encoding", ARGUMENT },
	{ "--internal-encoding", ARGUMENT },
	{ "--enable", ARGUMENT },
	{ "--disable", ARGUMENT },
	{ NULL, FLAG },
};

static const struct option node_options[] = {
	{ "-", SELF },
	{ "--", END },
	{ "-e", SELF },
	{ "-p", SELF },
	{ "--eval", SELF },
	{ "--print", SELF },
	{ "-r", ARGUMENT },
	{ "-C", ARGUMENT },
	{ "--require", ARGUMENT },
	{ "--import", ARGUMENT },
	{ "--loader", ARGUMENT },
	{ "--experimental-loader", ARGUMENT },
	{ "--conditions", ARGUMENT },
	{ "--cpu-prof-dir", ARGUMENT },
	{ "--cpu-prof-name", ARGUMENT },
	{ "--diagnostic-dir", ARGUMENT },
	{ "--disable-warning", ARGUMENT },
	{ "--dns-result-order", ARGUMENT },
	{ "--env-file", ARGUMENT },
	{ "--experimental-default-type", ARGUMENT },
	{ "--heapsnapshot-signal", ARGUMENT },
	{ "--icu-data-dir", ARGUMENT },
	{ "--input-type", ARGUMENT },
	{ "--inspect-port", ARGUMENT },
	{ "--max-http-header-size", ARGUMENT },
	{ "--openssl-config", ARGUMENT },
	{ "--redirect-warnings", ARGUMENT },
	{ "--report-dir", ARGUMENT },
	{ "--report-directory", ARGUMENT },
	{ "--report-filename", ARGUMENT },
	{ "--report-signal", ARGUMENT },
	{ "--secure-heap", ARGUMENT },
	{ "--secure-heap-min", ARGUMENT },
	{ "--title", ARGUMENT },
	{ "--tls-cipher-list", ARGUMENT },
	{ "--tls-keylog", ARGUMENT },
	{ "--trace-event-categories", ARGUMENT },
	{ "--trace-event-file-pattern", ARGUMENT },
	{ "--unhandled-rejections", ARGUMENT },
	{ "--use-largepages", ARGUMENT },
	{ "--v8-pool-size", ARGUMENT },
	{ "--watch-path", ARGUMENT },
	{ NULL, FLAG },
};

static const struct option java_options[] = {
	{ "-jar", SCRIPT },
	{ "-m", MODULE },
	{ "--module", MODULE },
	{ "-d", SELF },
	{ "--describe-module", SELF },
	{ "-cp", ARGUMENT },
	{ "-classpath", ARGUMENT },
	{ "--class-path", ARGUMENT },
	{ "-p", ARGUMENT },
	{ "--module-path", ARGUMENT },
	{ "--upgrade-module-path", ARGUMENT },
	{ "--add-modules", ARGUMENT },
	{ "--limit-modules", ARGUMENT },
	{ "--add-exports", ARGUMENT },
	{ "--add-opens", ARGUMENT },
	{ "--add-reads", ARGUMENT },
	{ "--patch-module", ARGUMENT },
	{ "--enable-native-access", ARGUMENT },
	{ "--source", ARGUMENT },
	{ NULL, FLAG },
};

static const struct option shell_options[] = {
	{ "-", END },
	{ "--", END },
	{ "-c", SELF },
	{ "-s", SELF },
	{ "-o", NEXT },
	{ "-O", NEXT },
	{ "--rcfile", ARGUMENT },
	{ "--init-file", ARGUMENT },
	{ NULL, FLAG },
};

/* Executables are matched by base name with a version behind it: python3.11, php8.2. */
static const struct interpreter {
	const char *name;
	const struct option *options;
	bool java; /* options are whole words, a class is a name, @file holds more options */
	bool plus; /* "+o errexit" is an option, too */
} interpreters[] = {
	{ "python", python_options, false, false },
	{ "pypy", python_options, false, false },
	{ "php", php_options, false, false },
	{ "perl", perl_options, false, false },
	{ "ruby", ruby_options, false, false },
	{ "node", node_options, false, false },
	{ "nodejs", node_options, false, false },
	{ "java", java_options, true, false },
	{ "bash", shell_options, false, true },
	{ "dash", shell_options, false, true },
	{ "sh", shell_options, false, true },
};

#define N_INTERPRETERS (sizeof(interpreters) / sizeof(interpreters[0]))

/* What an interpreter runs; text NULL: itself. */
struct program {
	const char *text;
	bool file;
};

static const struct program self = { NULL, false };

/* ---- the command line ---- */

static bool version(const char *s)
{
	return s[strspn(s, "0123456789.")] == '\0';
}

static const struct interpreter *interpreter_named(const char *base)
{
	for (size_t i = 0; i < N_INTERPRETERS; i++) {
		const size_t n = strlen(interpreters[i].name);

		if (strncmp(base, interpreters[i].name, n) == 0 && version(base + n))
			return &interpreters[i];
	}
	return NULL;
}

static enum meaning meaning_of(const struct option *options, const char *word, size_t n)
{
	for (; options->word; options++) {
		if (strlen(options->word) == n && memcmp(options->word, word, n) == 0)
			return options->meaning;
	}
	return FLAG;
}

/*
 * Reads one word of options. @ret_rest: what follows the letter or the '=' that the meaning
 * belongs to, "" when nothing does. @ret_skip: words after this one that belong to it.
 */
static enum meaning read_word(const struct interpreter *in, const char *word,
			      const char **ret_rest, int *ret_skip)
{
	const size_t n = strcspn(word, "=");

	*ret_rest = word[n] == '=' ? word + n + 1 : "";
	*ret_skip = 0;
	if (in->java || strncmp(word, "--", 2) == 0 || strcmp(word, "-") == 0)
		return meaning_of(in->options, word, n);

	for (const char *at = word + 1; *at; at++) {
		const char letter[] = { '-', *at };
		const enum meaning meaning = meaning_of(in->options, letter, sizeof(letter));

		*ret_rest = at + 1;
		if (meaning == NEXT)
			*ret_skip += 1;
		else if (meaning == REST)
			return FLAG;
		else if (meaning != FLAG)
			return meaning;
	}
	return FLAG;
}

static struct program named(const char *word, bool file)
{
	return word && *word ? (struct program) { word, file } : self;
}

/* The first word that is no option; java takes a class, or a source file since Java 11. */
static struct program operand(const struct interpreter *in, const char *word)
{
	const size_t n = word ? strlen(word) : 0;
	const bool source = n > 5 && strcmp(word + n - 5, ".java") == 0;

	return named(word, !in->java || source);
}

static struct program program_of(const struct interpreter *in, int argc,
				 const char *const *argv)
{
	for (int i = 1; i < argc && argv[i]; i++) {
		const char *const word = argv[i], *const next = i + 1 < argc ? argv[i + 1] : NULL;
		const char *rest;
		int skip;

		if (in->java && *word == '@')
			continue;
		if (*word != '-' && !(in->plus && *word == '+'))
			return operand(in, word);

		switch (read_word(in, word, &rest, &skip)) {
		case ARGUMENT:
			i += *rest == '\0';
			break;
		case SCRIPT:
			return named(*rest ? rest : next, true);
		case MODULE:
			return named(*rest ? rest : next, false);
		case END:
			return operand(in, next);
		case SELF:
			return self;
		case FLAG:
		case REST:
		case NEXT:
			i += skip;
			break;
		}
	}
	return self;
}

/* ---- paths ---- */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Appends the parts of @path to @t, "." and ".." resolved as text. */
static void add_parts(struct text *t, const char *path)
{
	while (*path) {
		const size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			text_cut_back(t, (size_t) (base_of(t->at) - t->at) - (t->used > 0));
		} else if (n > 0 && !(n == 1 && *path == '.')) {
			text_add(t, "/");
			text_add_n(t, path, n);
		}
		path += n + (path[n] == '/');
	}
}

/* Returns false when it does not fit. */
static bool resolve(const char *cwd, const char *path, char *buf, size_t size)
{
	struct text t = text_in(buf, size);

	if (*path != '/')
		add_parts(&t, cwd);
	add_parts(&t, path);
	return !t.cut;
}

/* ---- name and hash ---- */

static bool plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
	       || c == '.' || c == '_' || c == '-';
}

static void encode(const char *text, char *ret_name)
{
	static const char hex[] = "0123456789ABCDEF";
	struct text t = text_in(ret_name, SERVICE_NAME_SIZE);

	for (const char *at = text; *at; at++) {
		const unsigned char c = (unsigned char) *at;
		const char escaped[] = { '%', hex[c >> 4], hex[c & 15] };
		const bool keep = plain(*at) && !(*at == '.' && at == text);
		const size_t n = keep ? 1 : sizeof(escaped);

		if (t.used + n >= SERVICE_NAME_SIZE)
			break;
		text_add_n(&t, keep ? at : escaped, n);
	}
	if (t.used == 0)
		text_add(&t, "unknown");
}

/* FNV-1a, 64 bits. Each string ends with its NUL, so that "ab", "c" is not "a", "bc". */
static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
	for (const unsigned char *at = bytes; n-- > 0; at++)
		h = (h ^ *at) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t hash_text(uint64_t h, const char *text)
{
	return hash_bytes(h, text, strlen(text) + 1);
}

static uint64_t hash_namespaces(const struct service_facts *facts)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	h = hash_bytes(h, &facts->netns, sizeof(facts->netns));
	return hash_bytes(h, &facts->timens, sizeof(facts->timens));
}

static void name_files(uint64_t h, struct service *ret)
{
	struct text t = text_in(ret->file, sizeof(ret->file));

	/* FNV's low bits know little of the first bytes, its high bits little of the last. */
	h ^= h >> 32;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	text_add(&t, ret->name);
	text_add(&t, "-");
	text_add_hex(&t, h >> (64 - 4 * SERVICE_HASH_DIGITS), SERVICE_HASH_DIGITS);
}

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

/* @exe: without DELETED */
static void identify_found(const struct service_facts *facts, const char *exe,
			   struct service *ret)
{
	const struct interpreter *in = interpreter_named(base_of(exe));
	const struct program program =
		in && facts->argv ? program_of(in, facts->argc, facts->argv) : self;
	uint64_t h = hash_text(hash_text(hash_namespaces(facts), "found"), exe);
	const char *name = base_of(exe);
	char path[SERVICE_PATH_SIZE];

	if (program.text && program.file) {
		const char *cwd = or_empty(facts->cwd);
		const bool fits = resolve(cwd, program.text, path, sizeof(path));

		h = fits ? hash_text(h, path) : hash_text(hash_text(h, cwd), program.text);
		if (*base_of(fits ? path : program.text)) /* `node .` in an unknown place */
			name = base_of(fits ? path : program.text);
	} else if (program.text) {
		h = hash_text(h, program.text);
		name = program.text;
	}
	if (facts->otel && *facts->otel)
		name = facts->otel;

	encode(name, ret->name);
	name_files(h, ret);
}

void service_identify(const struct service_facts *facts, struct service *ret)
{
	char exe[SERVICE_PATH_SIZE];
	const char *path = or_empty(facts->exe);
	size_t n;

	if (facts->chosen && *facts->chosen) {
		encode(facts->chosen, ret->name);
		name_files(hash_text(hash_text(hash_namespaces(facts), "chosen"),
				     facts->chosen), ret);
		return;
	}

	if (!*path && facts->argv && facts->argc > 0)
		path = or_empty(facts->argv[0]);
	n = strlen(path);
	if (n > strlen(DELETED) && strcmp(path + n - strlen(DELETED), DELETED) == 0)
		n -= strlen(DELETED);

	/* Of a path too long for us its end says more than its beginning. */
	if (n >= sizeof(exe)) {
		path += n - sizeof(exe) + 1;
		n = sizeof(exe) - 1;
	}
	memcpy(exe, path, n);
	exe[n] = '\0';
	identify_found(facts, exe, ret);
}
