/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a breaker from standard input, one step a line, so that its behaviour can be written
 * down by hand or compared with another implementation. Time is a number that `advance` moves.
 */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/breaker.h"
#include "core/clock.h"

#define WORDS_MAX   16   /* `new` with every key has ten words */
#define THREADS_MAX 1024 /* more tells nothing new */
#define CALLS_MAX   UINT64_C(1000000000)

/* Arbitrary, but safe: far from 0 and from 2^62. */
#define CLOCK_START (1000000 * NS_PER_S)

static const char usage[] =
	"usage: breaker-replay < SCENARIO\n"
	"\n"
	"One step a line; `#` at the start of a word begins a comment.\n"
	"\n"
	"steps that answer nothing:\n"
	"  new [KEY=VALUE]...          a fresh breaker; the clock starts anywhere\n"
	"  advance DURATION            30s, 1ms, 1ns, 1m30s, 1.5s, 500us\n"
	"  end NAME OUTCOME            OUTCOME is success, failure or exclude\n"
	"  parallel THREADS EACH KIND  KIND is success, failure or alternate (a success\n"
	"                              first); each thread makes EACH calls\n"
	"\n"
	"steps that answer one line:\n"
	"  success|failure|exclude [N] N calls one after another, 1 when unset: `ok`, or the\n"
	"                              first refusal, `open` or `too_many`\n"
	"  begin NAME                  `admitted`, `open` or `too_many`\n"
	"  state                       after transitions that are due:\n"
	"                              closed|open|half-open REQ SUCC FAIL EXCL CSUCC CFAIL\n"
	"  counts                      the same as it stands, refreshing nothing\n"
	"  events                      transitions since last asked, `closed>open`, or `-`\n"
	"  parallel_begin THREADS      one call each, never ended:\n"
	"                              `admitted A too_many T open O`\n"
	"\n"
	"keys of new (unset: what sony/gobreaker does with zero Settings):\n"
	"  max_requests=N          half-open quota; 0 means 1                           (1)\n"
	"  interval=DURATION       closed counts are cleared after it; 0 means never    (0)\n"
	"  timeout=DURATION        how long open lasts; 0 means 60s                   (60s)\n"
	"                          a probe unanswered for as long is taken as lost\n"
	"  consecutive_failures=N  trips at the Nth failure in a row; 0 means never     (6)\n"
	"  failure_ratio=R         trips at failures/requests >= R\n"
	"  min_requests=N          ... once there were N requests                       (0)\n"
	"  total_failures=N        trips at the Nth failure since counts were cleared\n"
	"  trip=always|never       trips at any failure, or has no rule\n"
	"  bucket_period=DURATION  a rolling window: every answer is `unsupported`\n"
	"\n"
	"As a ReadyToTrip function would, failure_ratio, total_failures and trip replace the\n"
	"default rule, consecutive_failures=6, unless that key is given too; then any of them\n"
	"trips.\n"
	"\n"
	"A line that makes no sense is reported with its number; the exit status is then 2.\n";

struct call {
	struct call *next;
	char *name;
	struct breaker_ticket ticket;
};

struct replay {
	struct breaker breaker;
	struct policy policy;
	bool unsupported;
	uint64_t now;
	struct call *calls; /* begun and not ended */

	pthread_mutex_t lock; /* guards what follows; nests in nothing */
	struct breaker_change *changes;
	size_t n_changes;
	enum breaker_state told; /* state after the last transition that `events` printed */
};

static unsigned line_number;

__attribute__((format(printf, 1, 2), noreturn)) static void bad(const char *format, ...)
{
	va_list args;

	(void) fflush(stdout);
	fprintf(stderr, "breaker-replay: line %u: ", line_number);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static void *must(void *memory)
{
	if (memory == NULL) {
		fputs("breaker-replay: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

/* --- values --- */

static uint64_t number(const char *what, const char *text, uint64_t max)
{
	char *end;

	errno = 0;
	const unsigned long long value = strtoull(text, &end, 10);

	if (!isdigit((unsigned char) text[0]) || *end != '\0')
		bad("found '%s', expected a number for %s", text, what);
	if (errno == ERANGE || value > max)
		bad("found '%s', expected at most %llu for %s", text,
		    (unsigned long long) max, what);
	return value;
}

static double ratio(const char *what, const char *text)
{
	char *end;
	const double value = strtod(text, &end);

	if (!isdigit((unsigned char) text[0]) || *end != '\0' || !(value > 0 && value <= 1))
		bad("found '%s', expected a ratio above 0 and up to 1 for %s", text, what);
	return value;
}

static const struct {
	const char *name;
	uint64_t ns;
} units[] = {
	{ "ns", 1 },
	{ "us", NS_PER_US },
	{ "\xc2\xb5s", NS_PER_US }, /* micro sign, as Go prints it */
	{ "\xce\xbcs", NS_PER_US }, /* Greek mu */
	{ "ms", NS_PER_MS },
	{ "s", NS_PER_S },
	{ "m", 60 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
};

static uint64_t unit_of(const char **text)
{
	const size_t length = strcspn(*text, "0123456789.");

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strlen(units[i].name) == length &&
		    strncmp(*text, units[i].name, length) == 0) {
			*text += length;
			return units[i].ns;
		}
	}
	return 0;
}

/* Digits and a fraction of @unit-less text, scaled by the unit that follows; 0 length: no. */
static bool duration_part(const char **text, uint64_t *total)
{
	uint64_t whole = 0;
	const char *digit = *text;

	for (; isdigit((unsigned char) *digit); digit++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t) (*digit - '0'), &whole))
			return false;

	const char *fraction = digit;

	if (*digit == '.')
		for (digit++; isdigit((unsigned char) *digit); digit++)
			;
	if (digit == *text || (*fraction == '.' && digit == *text + 1))
		return false;

	const char *const fraction_end = digit;
	const uint64_t unit = unit_of(&digit);
	uint64_t scale = unit, ns;

	if (unit == 0 || __builtin_mul_overflow(whole, unit, &ns))
		return false;
	if (fraction != fraction_end)
		for (fraction++; fraction < fraction_end; fraction++) {
			scale /= 10;
			ns += scale * (uint64_t) (*fraction - '0');
		}
	*text = digit;
	return !__builtin_add_overflow(*total, ns, total);
}

/* As Go's time.ParseDuration, which writes most of the scenarios that we are given. */
static uint64_t duration(const char *what, const char *text, bool negative_is_0)
{
	const char *rest = text;
	const bool negative = negative_is_0 && *rest == '-';
	uint64_t total = 0;

	if (negative)
		rest++;
	if (strcmp(rest, "0") == 0)
		return 0;
	do {
		if (!duration_part(&rest, &total) || total > UINT64_MAX >> 3)
			bad("found '%s', expected a duration such as 30s or 1500ms for %s",
			    text, what);
	} while (*rest != '\0');
	return negative ? 0 : total;
}

static enum breaker_outcome outcome_of(const char *text)
{
	if (strcmp(text, "success") == 0)
		return BREAKER_SUCCESS;
	if (strcmp(text, "failure") == 0)
		return BREAKER_FAILURE;
	if (strcmp(text, "exclude") == 0)
		return BREAKER_EXCLUDED;
	bad("found '%s', expected success, failure or exclude", text);
}

/* --- the breaker --- */

static void keep_change(void *arg, const struct breaker_change *change)
{
	struct replay *r = arg;

	pthread_mutex_lock(&r->lock);
	r->changes = must(realloc(r->changes, (r->n_changes + 1) * sizeof(*change)));
	r->changes[r->n_changes++] = *change;
	pthread_mutex_unlock(&r->lock);
}

static struct breaker_watch watch_of(struct replay *r)
{
	return (struct breaker_watch) { .on_change = keep_change, .arg = r };
}

static enum breaker_verdict admit(struct replay *r, struct breaker_ticket *ticket)
{
	const struct breaker_watch watch = watch_of(r);

	return breaker_admit(&r->breaker, &r->policy, r->now, &watch, ticket);
}

static void settle(struct replay *r, struct breaker_ticket *ticket,
		   enum breaker_outcome outcome)
{
	const struct breaker_watch watch = watch_of(r);

	(void) breaker_settle(&r->breaker, &r->policy, ticket, outcome, r->now, &watch);
}

static const char *const verdicts[] = {
	[BREAKER_ADMITTED] = "admitted",
	[BREAKER_REFUSED_OPEN] = "open",
	[BREAKER_REFUSED_TOO_MANY] = "too_many",
};

static struct call **call_find(struct replay *r, const char *name)
{
	struct call **at = &r->calls;

	while (*at != NULL && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static void call_drop(struct call **at)
{
	struct call *call = *at;

	*at = call->next;
	free(call->name);
	free(call);
}

/* --- steps --- */

struct new_keys {
	bool rule, consecutive;
};

static void set_key(struct replay *r, struct new_keys *given, const char *key,
		    const char *value)
{
	struct policy *p = &r->policy;

	if (strcmp(key, "max_requests") == 0) {
		p->max_requests = (uint32_t) number(key, value, POLICY_MAX_REQUESTS_MAX);
	} else if (strcmp(key, "interval") == 0) {
		p->interval_ns = duration(key, value, true);
	} else if (strcmp(key, "timeout") == 0) {
		p->timeout_ns = duration(key, value, true);
	} else if (strcmp(key, "bucket_period") == 0) {
		r->unsupported = duration(key, value, true) > 0;
	} else if (strcmp(key, "min_requests") == 0) {
		p->min_requests = (uint32_t) number(key, value, UINT32_MAX);
	} else if (strcmp(key, "consecutive_failures") == 0) {
		p->consecutive_failures = (uint32_t) number(key, value, UINT32_MAX);
		given->consecutive = true;
	} else if (strcmp(key, "failure_ratio") == 0) {
		p->failure_ratio = ratio(key, value);
		given->rule = true;
	} else if (strcmp(key, "total_failures") == 0) {
		p->total_failures = (uint32_t) number(key, value, UINT32_MAX);
		given->rule = true;
	} else if (strcmp(key, "trip") == 0) {
		given->rule = true;
		if (strcmp(value, "always") == 0)
			p->total_failures = 1;
		else if (strcmp(value, "never") != 0)
			bad("found '%s', expected always or never for trip", value);
	} else {
		bad("found '%s', expected max_requests, interval, timeout, "
		    "consecutive_failures, failure_ratio, min_requests, bucket_period, "
		    "total_failures or trip",
		    key);
	}
}

static void step_new(struct replay *r, char **words, int n)
{
	struct new_keys given = { 0 };

	while (r->calls != NULL)
		call_drop(&r->calls);
	r->policy = policy_gobreaker();
	r->unsupported = false;
	r->n_changes = 0;
	r->told = BREAKER_CLOSED;
	for (int i = 1; i < n; i++) {
		char *equals = strchr(words[i], '=');

		if (equals == NULL)
			bad("found '%s', expected KEY=VALUE", words[i]);
		*equals = '\0';
		set_key(r, &given, words[i], equals + 1);
	}
	if (given.rule && !given.consecutive)
		r->policy.consecutive_failures = 0;
	policy_complete(&r->policy);
	memset(&r->breaker, 0, sizeof(r->breaker));
	r->now = CLOCK_START;
	breaker_init(&r->breaker, r->now);
}

static void step_advance(struct replay *r, char **words, int n)
{
	(void) n;
	r->now += duration("advance", words[1], false);
	if (r->now > UINT64_MAX >> 2)
		bad("found '%s', which moves the clock past 146 years", words[1]);
}

static void step_calls(struct replay *r, char **words, int n)
{
	const enum breaker_outcome outcome = outcome_of(words[0]);
	const uint64_t calls = n > 1 ? number(words[0], words[1], CALLS_MAX) : 1;

	for (uint64_t i = 0; i < calls; i++) {
		struct breaker_ticket ticket;
		const enum breaker_verdict verdict = admit(r, &ticket);

		if (verdict != BREAKER_ADMITTED) {
			puts(verdicts[verdict]);
			return;
		}
		settle(r, &ticket, outcome);
	}
	puts("ok");
}

static void step_begin(struct replay *r, char **words, int n)
{
	struct breaker_ticket ticket;

	(void) n;
	if (*call_find(r, words[1]) != NULL)
		bad("found '%s', expected a name that is not under way", words[1]);

	const enum breaker_verdict verdict = admit(r, &ticket);

	puts(verdicts[verdict]);
	if (verdict != BREAKER_ADMITTED)
		return;

	struct call *call = must(malloc(sizeof(*call)));

	*call = (struct call) {
		.next = r->calls,
		.name = must(strdup(words[1])),
		.ticket = ticket,
	};
	r->calls = call;
}

static void step_end(struct replay *r, char **words, int n)
{
	const enum breaker_outcome outcome = outcome_of(words[2]);
	struct call **at = call_find(r, words[1]);

	(void) n;
	if (r->unsupported)
		return; /* its begin was not carried out either */
	if (*at == NULL)
		bad("found '%s', expected the name of a call that was admitted and has not "
		    "ended", words[1]);
	settle(r, &(*at)->ticket, outcome);
	call_drop(at);
}

static void print_counts(const struct replay *r)
{
	struct breaker_counts c;
	const enum breaker_state state = breaker_peek(&r->breaker, NULL, &c);

	printf("%s %llu %llu %llu %llu %llu %llu\n", breaker_state_name(state),
	       (unsigned long long) c.requests, (unsigned long long) c.successes,
	       (unsigned long long) c.failures, (unsigned long long) c.exclusions,
	       (unsigned long long) c.consecutive_successes,
	       (unsigned long long) c.consecutive_failures);
}

static void step_counts(struct replay *r, char **words, int n)
{
	(void) words;
	(void) n;
	print_counts(r);
}

static void step_state(struct replay *r, char **words, int n)
{
	const struct breaker_watch watch = watch_of(r);

	(void) breaker_state(&r->breaker, &r->policy, r->now, &watch);
	step_counts(r, words, n);
}

/*
 * Threads deliver their transitions in any order, so each is printed after the one that led
 * to it; one that nothing led to would come first, and be seen.
 */
static size_t next_change(const struct replay *r)
{
	for (size_t i = 0; i < r->n_changes; i++)
		if (r->changes[i].from == r->told)
			return i;
	return 0;
}

static void step_events(struct replay *r, char **words, int n)
{
	(void) words;
	(void) n;
	if (r->n_changes == 0) {
		puts("-");
		return;
	}
	while (r->n_changes > 0) {
		const size_t i = next_change(r);
		const struct breaker_change change = r->changes[i];

		memmove(&r->changes[i], &r->changes[i + 1],
			(--r->n_changes - i) * sizeof(change));
		r->told = change.to;
		printf("%s>%s%s", breaker_state_name(change.from),
		       breaker_state_name(change.to), r->n_changes > 0 ? " " : "\n");
	}
}

enum kind { ALL_SUCCESS, ALL_FAILURE, ALTERNATE, BEGIN_ONLY };

struct crowd {
	struct replay *replay;
	pthread_barrier_t start;
	enum kind kind;
	uint64_t each;
	_Atomic uint64_t seen[3]; /* by verdict */
};

static void *crowd_thread(void *arg)
{
	struct crowd *crowd = arg;

	(void) pthread_barrier_wait(&crowd->start);
	for (uint64_t i = 0; i < crowd->each; i++) {
		const bool fails = crowd->kind == ALL_FAILURE ||
				   (crowd->kind == ALTERNATE && i % 2 == 1);
		struct breaker_ticket ticket;
		const enum breaker_verdict verdict = admit(crowd->replay, &ticket);

		crowd->seen[verdict]++;
		if (verdict == BREAKER_ADMITTED && crowd->kind != BEGIN_ONLY)
			settle(crowd->replay, &ticket,
			       fails ? BREAKER_FAILURE : BREAKER_SUCCESS);
	}
	return NULL;
}

static void crowd_run(struct crowd *crowd, unsigned threads)
{
	pthread_t *all = must(calloc(threads, sizeof(*all)));

	(void) pthread_barrier_init(&crowd->start, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		const int err = pthread_create(&all[i], NULL, crowd_thread, crowd);

		if (err != 0) {
			/* The others wait at the barrier for ever; exiting ends them. */
			fprintf(stderr, "breaker-replay: thread %u: %s\n", i, strerror(err));
			exit(1);
		}
	}
	for (unsigned i = 0; i < threads; i++)
		(void) pthread_join(all[i], NULL);
	(void) pthread_barrier_destroy(&crowd->start);
	free(all);
}

static unsigned threads_of(const char *text)
{
	const unsigned threads = (unsigned) number("THREADS", text, THREADS_MAX);

	if (threads == 0)
		bad("found '0', expected at least one thread");
	return threads;
}

static void step_parallel(struct replay *r, char **words, int n)
{
	struct crowd crowd = {
		.replay = r,
		.each = number("EACH", words[2], CALLS_MAX),
	};
	const unsigned threads = threads_of(words[1]);

	(void) n;
	if (strcmp(words[3], "success") == 0)
		crowd.kind = ALL_SUCCESS;
	else if (strcmp(words[3], "failure") == 0)
		crowd.kind = ALL_FAILURE;
	else if (strcmp(words[3], "alternate") == 0)
		crowd.kind = ALTERNATE;
	else
		bad("found '%s', expected success, failure or alternate", words[3]);
	if (!r->unsupported)
		crowd_run(&crowd, threads);
}

static void step_parallel_begin(struct replay *r, char **words, int n)
{
	struct crowd crowd = { .replay = r, .each = 1, .kind = BEGIN_ONLY };

	(void) n;
	crowd_run(&crowd, threads_of(words[1]));
	printf("admitted %llu too_many %llu open %llu\n",
	       (unsigned long long) crowd.seen[BREAKER_ADMITTED],
	       (unsigned long long) crowd.seen[BREAKER_REFUSED_TOO_MANY],
	       (unsigned long long) crowd.seen[BREAKER_REFUSED_OPEN]);
}

static const struct step {
	const char *name;
	const char *form;
	int min, max; /* words, the name included */
	bool answers;
	void (*run)(struct replay *r, char **words, int n);
} steps[] = {
	{ "new", "new [KEY=VALUE]...", 1, WORDS_MAX, false, step_new },
	{ "advance", "advance DURATION", 2, 2, false, step_advance },
	{ "success", "success [N]", 1, 2, true, step_calls },
	{ "failure", "failure [N]", 1, 2, true, step_calls },
	{ "exclude", "exclude [N]", 1, 2, true, step_calls },
	{ "begin", "begin NAME", 2, 2, true, step_begin },
	{ "end", "end NAME success|failure|exclude", 3, 3, false, step_end },
	{ "counts", "counts", 1, 1, true, step_counts },
	{ "state", "state", 1, 1, true, step_state },
	{ "events", "events", 1, 1, true, step_events },
	{ "parallel", "parallel THREADS EACH success|failure|alternate", 4, 4, false,
	  step_parallel },
	{ "parallel_begin", "parallel_begin THREADS", 2, 2, true, step_parallel_begin },
};

static const struct step *step_find(const char *name)
{
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (strcmp(steps[i].name, name) == 0)
			return &steps[i];
	bad("found '%s', expected new, advance, success, failure, exclude, begin, end, counts, "
	    "state, events, parallel or parallel_begin",
	    name);
}

/* Cuts @line at blanks; stops at a word that begins with `#`. */
static int split(char *line, char **words)
{
	static const char blanks[] = " \t\r\n\v\f";
	char *rest = line;
	char *word;
	int n = 0;

	while ((word = strtok_r(rest, blanks, &rest)) != NULL && *word != '#') {
		if (n == WORDS_MAX)
			bad("found '%s', expected at most %d words", word, WORDS_MAX);
		words[n++] = word;
	}
	return n;
}

static void replay_line(struct replay *r, char *line)
{
	char *words[WORDS_MAX];
	const int n = split(line, words);

	if (n == 0)
		return;

	const struct step *step = step_find(words[0]);

	if (n < step->min || n > step->max)
		bad("found %d word%s, expected '%s'", n, n == 1 ? "" : "s", step->form);
	if (step->answers && r->unsupported)
		puts("unsupported");
	else
		step->run(r, words, n);
	(void) fflush(stdout); /* whoever drives us may wait for the answer */
}

int main(int argc, char **argv)
{
	struct replay r = { .lock = PTHREAD_MUTEX_INITIALIZER };
	char *line = NULL;
	size_t size = 0;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc != 1) {
		fputs(usage, stderr);
		return 2;
	}

	/* A scenario that begins without `new` has a breaker of defaults. */
	step_new(&r, NULL, 1);
	while (getline(&line, &size, stdin) >= 0) {
		line_number++;
		replay_line(&r, line);
	}
	free(line);
	while (r.calls != NULL)
		call_drop(&r.calls);
	free(r.changes);
	return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}
