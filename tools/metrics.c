/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `agentshim metrics`: what services count, in Prometheus' text format 0.0.4. A family's samples
 * stand together, whoever they are of, so each family goes through all services.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/metrics.h"
#include "core/text.h"
#include "tools/shelf.h"
#include "tools/tool.h"
#include "tools/view.h"

/* A service's name, or its stem and its user, escaped. */
#define LABEL_SIZE (2 * (NAME_MAX + SHELF_USER_SIZE) + 2)

struct source {
	char label[LABEL_SIZE];   /* tells it from all others */
	struct view *views;       /* taken; no two of one peer */
	size_t n_views;
	struct metrics_sums sums;
};

struct family {
	const char *name, *type, *help;
	void (*print)(const struct family *f, const struct source *s);
	int which; /* a counter, where it is a single one */
};

/* As label values: an underscore, as in all of Prometheus. */
static const char *const states[BREAKER_STATES] = {
	[BREAKER_CLOSED] = "closed",
	[BREAKER_HALF_OPEN] = "half_open",
	[BREAKER_OPEN] = "open",
};

/* ---- samples ---- */

/* NAME SUFFIX {service="...", MORE} VALUE; @more is labels, or "" */
static void __attribute__((format(printf, 4, 5)))
put(const struct family *f, const char *suffix, const struct source *s, const char *more, ...)
{
	va_list args;

	(void) printf("%s%s{service=\"%s\"", f->name, suffix, s->label);
	va_start(args, more);
	(void) vprintf(more, args);
	va_end(args);
}

static void put_value(uint64_t value)
{
	(void) printf("} %llu\n", (unsigned long long) value);
}

/* Seconds, exact: a float of the reader's may round, we do not. */
static const char *seconds(uint64_t ns, char buf[32])
{
	int n = snprintf(buf, 32, "%llu.%09u", (unsigned long long) (ns / NS_PER_S),
			 (unsigned) (ns % NS_PER_S));

	while (buf[n - 1] == '0')
		buf[--n] = '\0';
	if (buf[n - 1] == '.')
		buf[n - 1] = '\0';
	return buf;
}

static void print_states(const struct family *f, const struct source *s)
{
	for (size_t i = 0; i < s->n_views; i++) {
		for (int state = 0; state < BREAKER_STATES; state++) {
			put(f, "", s, ",peer=\"%s\",state=\"%s\"", s->views[i].peer, states[state]);
			put_value((int) s->views[i].state == state);
		}
	}
}

/* Those that a sound breaker makes are always there, so that rates begin at 0. */
static bool usual(int from, int to)
{
	return (from == BREAKER_CLOSED && to == BREAKER_OPEN) ||
	       (from == BREAKER_OPEN && to == BREAKER_HALF_OPEN) || from == BREAKER_HALF_OPEN;
}

static void print_transitions(const struct family *f, const struct source *s)
{
	for (size_t i = 0; i < s->n_views; i++) {
		for (int k = 0; k < BREAKER_STATES * BREAKER_STATES; k++) {
			const int from = k / BREAKER_STATES, to = k % BREAKER_STATES;

			if (!usual(from, to) && s->views[i].changes[from][to] == 0)
				continue;
			put(f, "", s, ",peer=\"%s\",from=\"%s\",to=\"%s\"", s->views[i].peer,
			    states[from], states[to]);
			put_value(s->views[i].changes[from][to]);
		}
	}
}

static void print_calls(const struct family *f, const struct source *s)
{
	for (size_t i = 0; i < s->n_views; i++) {
		const struct breaker_totals *const t = &s->views[i].totals;
		const struct {
			const char *outcome;
			uint64_t n;
		} rows[] = {
			{ "success", t->successes },
			{ "failure", t->failures },
			{ "excluded", t->exclusions },
		};

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			put(f, "", s, ",peer=\"%s\",outcome=\"%s\"", s->views[i].peer,
			    rows[k].outcome);
			put_value(rows[k].n);
		}
	}
}

static void print_requests(const struct family *f, const struct source *s)
{
	for (size_t i = 0; i < s->n_views; i++) {
		const struct breaker_totals *const t = &s->views[i].totals;
		const struct {
			const char *state;
			uint64_t n;
		} rows[] = {
			/* Counted one after the other: a copy may have the probe alone. */
			{ "closed", t->admitted > t->probes ? t->admitted - t->probes : 0 },
			{ "half_open", t->probes },
			{ "refused", t->refused },
		};

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			put(f, "", s, ",peer=\"%s\",state=\"%s\"", s->views[i].peer, rows[k].state);
			put_value(rows[k].n);
		}
	}
}

static void print_durations(const struct family *f, const struct source *s)
{
	static const char *const kinds[METRICS_HISTOGRAMS] = {
		[METRICS_SERVER_DURATION] = "server",
		[METRICS_CLIENT_DURATION] = "client",
	};
	char text[32];

	for (int h = 0; h < METRICS_HISTOGRAMS; h++) {
		uint64_t n = 0;

		for (int i = 0; i < METRICS_BOUNDS; i++) {
			n += s->sums.histograms[h].buckets[i];
			put(f, "_bucket", s, ",kind=\"%s\",le=\"%s\"", kinds[h],
			    seconds(metrics_bounds_ns[i], text));
			put_value(n);
		}
		put(f, "_bucket", s, ",kind=\"%s\",le=\"+Inf\"", kinds[h]);
		put_value(s->sums.histograms[h].count);
		put(f, "_sum", s, ",kind=\"%s\"", kinds[h]);
		(void) printf("} %s\n", seconds(s->sums.histograms[h].sum_ns, text));
		put(f, "_count", s, ",kind=\"%s\"", kinds[h]);
		put_value(s->sums.histograms[h].count);
	}
}

static void print_counter(const struct family *f, const struct source *s)
{
	put(f, "", s, "%s", "");
	put_value(s->sums.counters[f->which]);
}

static void print_spans(const struct family *f, const struct source *s)
{
	static const struct {
		const char *kind;
		enum metrics_counter which;
	} rows[] = {
		{ "server", METRICS_SPANS_SERVER },
		{ "client", METRICS_SPANS_CLIENT },
		{ "internal", METRICS_SPANS_INTERNAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		put(f, "", s, ",kind=\"%s\"", rows[i].kind);
		put_value(s->sums.counters[rows[i].which]);
	}
}

static void print_coverage(const struct family *f, const struct source *s)
{
	for (int c = METRICS_INJECTED; c < METRICS_COUNTERS; c++) {
		put(f, "", s, ",what=\"%s\"", metrics_counter_name((enum metrics_counter) c));
		put_value(s->sums.counters[c]);
	}
}

static const struct family families[] = {
	{ "agentshim_breaker_state", "gauge", "1 for the state that the breaker is in.",
	  print_states, 0 },
	{ "agentshim_breaker_transitions_total", "counter", "Changes of a breaker's state.",
	  print_transitions, 0 },
	{ "agentshim_breaker_calls_total", "counter",
	  "Calls that ended, by what they said about the peer.", print_calls, 0 },
	{ "agentshim_breaker_requests_total", "counter",
	  "Calls that asked, by the state that admitted them, or refused.", print_requests, 0 },
	{ "agentshim_span_duration_seconds", "histogram",
	  "How long requests took that were served or made.", print_durations, 0 },
	{ "agentshim_traces_started_total", "counter", "Traces that began here.", print_counter,
	  METRICS_TRACES_STARTED },
	{ "agentshim_traces_completed_total", "counter",
	  "Completed spans that began a trace, or went on with another service's.", print_counter,
	  METRICS_ROOTS_COMPLETED },
	{ "agentshim_traces_errors_total", "counter", "Of these, those with an error.",
	  print_counter, METRICS_ROOTS_ERROR },
	{ "agentshim_spans_total", "counter", "Completed spans.", print_spans, 0 },
	{ "agentshim_spans_errors_total", "counter", "Completed spans with an error.",
	  print_counter, METRICS_SPANS_ERROR },
	{ "agentshim_spans_dropped_total", "counter", "Spans for which there was no place.",
	  print_counter, METRICS_SPANS_DROPPED },
	{ "agentshim_coverage_total", "counter",
	  "Requests by what became of our headers; connections by whether they were followed.",
	  print_coverage, 0 },
};

/* ---- services ---- */

static void add_escaped(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\' || *s == '"')
			text_add(t, "\\");
		text_add_n(t, *s == '\n' ? "?" : s, 1); /* tamed long ago; it costs nothing */
	}
}

/* Two series with the same labels are an error to Prometheus. */
static void name_source(const struct shelf *shelf, size_t index, struct source *ret)
{
	const struct shelf_service *const s = &shelf->services[index];
	struct text t = text_in(ret->label, sizeof(ret->label));
	size_t names = 0, stems = 0;

	for (size_t i = 0; i < shelf->n_services; i++) {
		names += strcmp(shelf->services[i].name, s->name) == 0 ||
			 strcmp(shelf->services[i].stem, s->name) == 0;
		stems += strcmp(shelf->services[i].stem, s->stem) == 0;
	}
	add_escaped(&t, names == 1 ? s->name : s->stem);
	if (names > 1 && stems > 1) {
		text_add(&t, "@");
		add_escaped(&t, s->user);
	}
}

static void open_source(const struct shelf *shelf, size_t index, struct source *ret)
{
	const struct shelf_service *const s = &shelf->services[index];
	struct view *const all = take(STATE_SLOTS, sizeof(*all));
	const size_t n = view_breakers(s, all);

	name_source(shelf, index, ret);
	for (size_t i = 0; i < n; i++) {
		bool twice = false;
		char peer[sizeof(all[i].peer)];
		struct text t = text_in(peer, sizeof(peer));

		add_escaped(&t, all[i].peer);
		memcpy(all[i].peer, peer, sizeof(peer));
		for (size_t k = 0; k < ret->n_views; k++)
			twice |= strcmp(all[k].peer, peer) == 0;
		if (!twice && !t.cut)
			all[ret->n_views++] = all[i];
	}
	ret->views = all;
	metrics_sum(&s->state->metrics, &ret->sums);
}

static void print(const struct source *sources, size_t n)
{
	for (size_t k = 0; n > 0 && k < sizeof(families) / sizeof(families[0]); k++) {
		const struct family *const f = &families[k];

		(void) printf("# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
		for (size_t i = 0; i < n; i++)
			f->print(f, &sources[i]);
	}
}

int metrics_main(int argc, char **argv)
{
	struct shelf_filter filter = { .names = argv, .n = 0 };
	bool options = true;
	struct shelf shelf;

	for (int i = 1; i < argc; i++) {
		if (!options || argv[i][0] != '-')
			argv[filter.n++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else
			return usage("metrics", "unknown option %s", argv[i]);
	}
	shelf_read(&shelf, NULL, &filter, 0);

	const int rc = shelf_has_all(&shelf, &filter) ? TOOL_OK : TOOL_FAILED;
	struct source *const sources = take(shelf.n_services + 1, sizeof(*sources));

	for (size_t i = 0; i < shelf.n_services; i++)
		open_source(&shelf, i, &sources[i]);
	print(sources, shelf.n_services);
	for (size_t i = 0; i < shelf.n_services; i++)
		free(sources[i].views);
	free(sources);
	shelf_complain(&shelf);
	shelf_drop(&shelf);
	return rc;
}
