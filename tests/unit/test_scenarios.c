/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays every scenario of a directory through breaker-replay and compares its answers with
 * those written beside the steps: `begin a  # => admitted`. A scenario with a line
 * `# error: TEXT` must be turned down with status 2 and a message that contains TEXT. One
 * test per file.
 *
 * usage: test_scenarios REPLAY DIRECTORY
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define ANSWER "# => "
#define ERROR  "# error: "

static const char *replay;

/* The last resort: a replay that hangs must fail the test rather than hold the suite. */
#define LIMIT_S 60

struct run {
	FILE *out, *err;
	int status;
};

static FILE *must(FILE *file, const char *what)
{
	if (file == NULL) {
		printf("Bail out! %s: %s\n", what, strerror(errno));
		exit(1);
	}
	return file;
}

static struct run run_replay(const char *path)
{
	struct run run = { .out = must(tmpfile(), "tmpfile"), .err = must(tmpfile(), "tmpfile") };
	char *const argv[] = { (char *) replay, NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fileno(run.out), 1);
	posix_spawn_file_actions_adddup2(&actions, fileno(run.err), 2);
	const int err = posix_spawn(&pid, replay, &actions, NULL, argv, environ);

	posix_spawn_file_actions_destroy(&actions);
	if (err != 0) {
		printf("Bail out! %s: %s\n", replay, strerror(err));
		exit(1);
	}
	while (waitpid(pid, &run.status, 0) < 0 && errno == EINTR)
		;
	rewind(run.out);
	rewind(run.err);
	return run;
}

static void chomp(char *line)
{
	line[strcspn(line, "\r\n")] = '\0';
}

/* The next line of @file without its end; "" and false when there is none. */
static bool next_line(FILE *file, char *line, size_t size)
{
	if (fgets(line, (int) size, file) == NULL) {
		line[0] = '\0';
		return false;
	}
	chomp(line);
	return true;
}

static bool expect_answers(FILE *scenario, FILE *out)
{
	char line[1024], got[1024];
	unsigned number = 0;
	bool same = true;

	while (next_line(scenario, line, sizeof(line))) {
		const char *want = strstr(line, ANSWER);

		number++;
		if (want == NULL)
			continue;
		want += strlen(ANSWER);
		(void) next_line(out, got, sizeof(got));
		if (strcmp(want, got) != 0) {
			printf("# line %u: expected '%s', got '%s'\n", number, want, got);
			same = false;
		}
	}
	if (next_line(out, got, sizeof(got))) {
		printf("# an answer that no line expects: '%s'\n", got);
		same = false;
	}
	return same;
}

/* What `# error: ` asks for, or false when the scenario is a good one. */
static bool wanted_error(FILE *scenario, char *ret_error, size_t size)
{
	char line[1024];
	bool found = false;

	while (!found && next_line(scenario, line, sizeof(line))) {
		const char *error = strstr(line, ERROR);

		if (error != NULL) {
			snprintf(ret_error, size, "%s", error + strlen(ERROR));
			found = true;
		}
	}
	rewind(scenario);
	return found;
}

static bool expect_end(const struct run *run, const char *error)
{
	const int want = error != NULL ? 2 : 0;
	char message[1024] = "";
	const size_t length = fread(message, 1, sizeof(message) - 1, run->err);
	const char *text = error != NULL ? error : "";

	message[length] = '\0';
	chomp(message);
	if (WIFEXITED(run->status) && WEXITSTATUS(run->status) == want &&
	    strstr(message, text) != NULL && (error != NULL || message[0] == '\0'))
		return true;
	printf("# expected status %d and '%s', got wait status %#x and '%s'\n", want, text,
	       (unsigned) run->status, message);
	return false;
}

static bool test_scenario(const char *path)
{
	FILE *scenario = must(fopen(path, "re"), path);
	char error[1024];
	const bool bad = wanted_error(scenario, error, sizeof(error));
	const struct run run = run_replay(path);
	const bool same = expect_answers(scenario, run.out);
	const bool ended = expect_end(&run, bad ? error : NULL);

	(void) fclose(scenario);
	(void) fclose(run.out);
	(void) fclose(run.err);
	return same && ended;
}

static int is_scenario(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot != NULL && strcmp(dot, ".scenario") == 0;
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	int failed = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: test_scenarios REPLAY DIRECTORY\n");
		return 2;
	}
	replay = argv[1];
	(void) alarm(LIMIT_S);

	const int n = scandir(argv[2], &entries, is_scenario, alphasort);

	if (n <= 0) {
		printf("Bail out! no scenarios in %s\n", argv[2]);
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", argv[2], entries[i]->d_name);
		const bool passed = test_scenario(path);

		*strrchr(entries[i]->d_name, '.') = '\0';
		printf("%s %d - %s\n", passed ? "ok" : "not ok", i + 1, entries[i]->d_name);
		failed += !passed;
		free(entries[i]);
	}
	free(entries);
	return failed > 0;
}
