/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that calls by libcurl (T42): its lists come back as they were, our fields go out
 * once, an outcome is counted once, and a breaker that is open says so in libcurl's own words.
 * The server is a thread of this program that no hook sees.
 */
#include "tests/preload/host.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONNECTIONS 16
#define HEADS       64
#define HEAD_SIZE   4096

static const char theirs[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/* ---- the server ---- */

/* Answers GET /STATUS, GET /drop (nothing, and closes), GET /wait (nothing) and GET /to/HOST:PORT. */
struct server {
	struct peer peer;
	int wake[2];
	pthread_t thread;
	_Atomic int accepted, n_heads;
	char heads[HEADS][HEAD_SIZE];
};

static int answer(int fd, const char *head)
{
	char text[512];
	const int status = atoi(head + strlen("GET /"));
	int n = 0;

	if (strncmp(head, "GET /drop", 9) == 0)
		return -1;
	if (strncmp(head, "GET /wait", 9) == 0)
		return 0;
	if (strncmp(head, "GET /to/", 8) == 0)
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 302 Found\r\nLocation: http://%.*s/200\r\n"
			     "Content-Length: 0\r\n\r\n",
			     (int) strcspn(head + 8, " "), head + 8);
	else
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 %d Whatever\r\nContent-Length: 3\r\n\r\nok\n", status);
	(void) past_hooks(SYS_sendto, fd, (long) text, n, MSG_NOSIGNAL, 0, 0);
	return 0;
}

/* Returns -1 when the connection is to be closed. */
static int serve(struct server *s, int fd, char *head, size_t *len)
{
	const long n = past_hooks(SYS_read, fd, (long) head + (long) *len,
				  (long) (HEAD_SIZE - 1 - *len), 0, 0, 0);

	if (n <= 0)
		return -1;
	*len += (size_t) n;
	head[*len] = '\0';
	if (strstr(head, "\r\n\r\n") == NULL)
		return 0;

	const int number = atomic_load(&s->n_heads);

	(void) strcpy(s->heads[number % HEADS], head);
	atomic_store(&s->n_heads, number + 1);
	*len = 0;
	return answer(fd, head);
}

static void *serves(void *arg)
{
	struct server *s = arg;
	static __thread char heads[CONNECTIONS][HEAD_SIZE];
	size_t lens[CONNECTIONS] = { 0 };
	struct pollfd fds[2 + CONNECTIONS] = {
		{ .fd = s->wake[0], .events = POLLIN },
		{ .fd = s->peer.listener, .events = POLLIN },
	};

	for (int i = 0; i < CONNECTIONS; i++)
		fds[2 + i].fd = -1;
	for (;;) {
		(void) past_hooks(SYS_ppoll, (long) fds, 2 + CONNECTIONS, 0, 0, 0, 0);
		if (fds[0].revents != 0)
			break;
		for (int i = 0; i < CONNECTIONS && fds[1].revents != 0; i++) {
			if (fds[2 + i].fd >= 0)
				continue;
			fds[2 + i] = (struct pollfd) {
				.fd = (int) past_hooks(SYS_accept4, fds[1].fd, 0, 0, SOCK_CLOEXEC,
						       0, 0),
				.events = POLLIN,
			};
			lens[i] = 0;
			if (fds[2 + i].fd >= 0)
				atomic_fetch_add(&s->accepted, 1);
			break;
		}
		for (int i = 0; i < CONNECTIONS; i++) {
			if (fds[2 + i].fd < 0 || fds[2 + i].revents == 0)
				continue;
			if (serve(s, fds[2 + i].fd, heads[i], &lens[i]) < 0) {
				(void) raw_close(fds[2 + i].fd);
				fds[2 + i].fd = -1;
			}
		}
	}
	for (int i = 0; i < CONNECTIONS; i++)
		if (fds[2 + i].fd >= 0)
			(void) raw_close(fds[2 + i].fd);
	return NULL;
}

static struct server *started(struct peer peer)
{
	struct server *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->peer = peer;
	assert_int_equal(pipe2(s->wake, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serves, s), 0);
	return s;
}

static void stopped(struct server *s)
{
	assert_int_equal(write(s->wake[1], "x", 1), 1);
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	(void) close(s->wake[0]);
	(void) close(s->wake[1]);
	free(s);
}

static int heads(const struct server *s)
{
	return atomic_load(&s->n_heads);
}

/* How many lines of the latest head begin with @name; *@ret_value: of the first. */
static int lines(const struct server *s, const char *name, const char **ret_value)
{
	const char *line = s->heads[(heads(s) - 1) % HEADS];
	int n = 0;

	while ((line = strstr(line, "\r\n")) != NULL) {
		line += 2;
		if (strncasecmp(line, name, strlen(name)) != 0 || line[strlen(name)] != ':')
			continue;
		if (n++ == 0 && ret_value != NULL)
			*ret_value = line + strlen(name) + 2;
	}
	return n;
}

/* ---- the client ---- */

static size_t swallow(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static void go_to(CURL *c, const struct server *s, const char *path)
{
	char url[128];

	(void) snprintf(url, sizeof(url), "http://%s/%s", s->peer.key, path);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, url), CURLE_OK);
}

static CURL *client(const struct server *s, const char *path, char *errors)
{
	CURL *c = curl_easy_init();

	assert_non_null(c);
	go_to(c, s, path);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, swallow), CURLE_OK);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_ERRORBUFFER, errors), CURLE_OK);
	return c;
}

static long status_of(CURL *c)
{
	long status = -1;

	assert_int_equal(curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status), CURLE_OK);
	return status;
}

static void assert_refused(CURLcode code, const char *errors, const struct server *s)
{
	char text[128];

	(void) snprintf(text, sizeof(text), "agentshim: circuit breaker for %s is open", s->peer.key);
	assert_int_equal(code, CURLE_COULDNT_CONNECT);
	assert_string_equal(errors, text);
}

/* ---- lists ---- */

static void the_list_comes_back_and_our_field_goes_out_once(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);
	struct curl_slist *list = curl_slist_append(NULL, "X-One: 1");
	char id[56] = "";

	(void) state;
	list = curl_slist_append(list, "X-Two: 2");

	struct curl_slist *second = list->next;

	assert_int_equal(curl_easy_setopt(c, CURLOPT_HTTPHEADER, list), CURLE_OK);
	for (int i = 0; i < 3; i++) {
		const char *value = "";

		assert_int_equal(curl_easy_perform(c), CURLE_OK);
		assert_int_equal(lines(s, "traceparent", &value), 1);
		assert_int_equal(lines(s, "X-One", NULL), 1);
		assert_int_equal(lines(s, "X-Two", NULL), 1);
		assert_int_not_equal(strncmp(value, id, 55), 0); /* each call has its own */
		(void) memcpy(id, value, 55);
		assert_string_equal(list->data, "X-One: 1");
		assert_ptr_equal(list->next, second);
		assert_null(second->next);
	}
	/* Nobody remembers a list that was freed. */
	assert_int_equal(curl_easy_setopt(c, CURLOPT_HTTPHEADER, NULL), CURLE_OK);
	curl_slist_free_all(list);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	assert_int_equal(lines(s, "X-One", NULL), 0);
	curl_easy_cleanup(c);
	stopped(s);
}

static void the_programs_own_traceparent_is_adopted(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);
	char line[80];
	const char *value = "";

	(void) state;
	(void) snprintf(line, sizeof(line), "TraceParent: %s", theirs);

	struct curl_slist *list = curl_slist_append(NULL, line);

	assert_int_equal(curl_easy_setopt(c, CURLOPT_HTTPHEADER, list), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(s, "traceparent", &value), 1);
	assert_int_equal(strncmp(value, theirs, 55), 0);
	curl_easy_cleanup(c);
	curl_slist_free_all(list);
	stopped(s);
}

/* "Accept:" takes libcurl's own out, "traceparent:" takes out nothing that is there. */
static void lines_without_a_value_mean_what_they_did(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);
	struct curl_slist *list = curl_slist_append(NULL, "Accept:");

	(void) state;
	list = curl_slist_append(list, "traceparent:");
	list = curl_slist_append(list, "X-Empty;");
	assert_int_equal(curl_easy_setopt(c, CURLOPT_HTTPHEADER, list), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(s, "Accept", NULL), 0);
	assert_int_equal(lines(s, "X-Empty", NULL), 1);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	curl_easy_cleanup(c);
	curl_slist_free_all(list);
	stopped(s);
}

static void reset_forgets_the_list(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);
	struct curl_slist *list = curl_slist_append(NULL, "X-One: 1");

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_HTTPHEADER, list), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	curl_easy_reset(c);
	curl_slist_free_all(list);
	go_to(c, s, "200");
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, swallow), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(s, "X-One", NULL), 0);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	curl_easy_cleanup(c);
	stopped(s);
}

static size_t copies(char *data, size_t size, size_t n, void *arg)
{
	CURL **of_and_to = arg;

	(void) data;
	if (of_and_to[1] == NULL)
		of_and_to[1] = curl_easy_duphandle(of_and_to[0]);
	return size * n;
}

/* Made in the middle of a transfer, when the handle has our list, a copy has the program's. */
static void a_copy_has_the_programs_list(void **state)
{
	struct server *s = started(peer_listening());
	CURL *both[2] = { client(s, "200", NULL), NULL };
	struct curl_slist *list = curl_slist_append(NULL, "X-One: 1");

	(void) state;
	assert_int_equal(curl_easy_setopt(both[0], CURLOPT_HTTPHEADER, list), CURLE_OK);
	assert_int_equal(curl_easy_setopt(both[0], CURLOPT_WRITEFUNCTION, copies), CURLE_OK);
	assert_int_equal(curl_easy_setopt(both[0], CURLOPT_WRITEDATA, both), CURLE_OK);
	assert_int_equal(curl_easy_perform(both[0]), CURLE_OK);
	assert_non_null(both[1]);
	curl_easy_cleanup(both[0]);
	both[0] = both[1];
	assert_int_equal(curl_easy_perform(both[1]), CURLE_OK);
	assert_int_equal(lines(s, "X-One", NULL), 1);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	curl_easy_cleanup(both[1]);
	curl_slist_free_all(list);
	stopped(s);
}

/* ---- outcomes ---- */

static void each_call_counts_once_on_a_kept_connection(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);

	(void) state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(atomic_load(&s->accepted), 1);
	assert_int_equal(heads(s), 5);
	assert_totals(s->peer.key, 5, 0, 0);
	assert_int_equal(requests_of(s->peer.key), 5);
	go_to(c, s, "404");
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_totals(s->peer.key, 6, 0, 0);
	go_to(c, s, "429");
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_totals(s->peer.key, 6, 0, 1);
	curl_easy_cleanup(c);
	stopped(s);
}

static void bad_answers_open_the_breaker_and_libcurl_says_so(void **state)
{
	struct server *s = started(peer_listening());
	char errors[CURL_ERROR_SIZE] = "";
	CURL *c = client(s, "500", errors);

	(void) state;
	for (int i = 0; i < TRIP_AT; i++) {
		assert_int_equal(curl_easy_perform(c), CURLE_OK);
		assert_int_equal(status_of(c), 500);
	}
	assert_totals(s->peer.key, 0, TRIP_AT, 0);
	/* The connection is kept, and TLS would hide what goes over it: refused all the same. */
	assert_refused(curl_easy_perform(c), errors, s);
	assert_int_equal(status_of(c), 0);
	assert_int_equal(heads(s), TRIP_AT);
	assert_int_equal(totals_of(s->peer.key).refused, 1);

	CURL *other = client(s, "200", errors);

	assert_refused(curl_easy_perform(other), errors, s);
	curl_easy_cleanup(other);
	/* Nothing of the refusal stays on the handle. */
	peer_rest(s->peer.key);
	go_to(c, s, "200");
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(status_of(c), 200);
	assert_int_equal(state_of(s->peer.key), BREAKER_CLOSED);
	curl_easy_cleanup(c);
	stopped(s);
}

static void broken_connections_are_failures(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "drop", NULL);

	(void) state;
	assert_int_equal(curl_easy_perform(c), CURLE_GOT_NOTHING);
	assert_totals(s->peer.key, 0, 1, 0);
	curl_easy_cleanup(c);
	stopped(s);

	struct peer p = peer_refusing();
	char url[64];

	c = curl_easy_init();
	(void) snprintf(url, sizeof(url), "http://%s/", p.key);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, url), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_COULDNT_CONNECT);
	assert_totals(p.key, 0, 1, 0);
	curl_easy_cleanup(c);
}

static void silence_is_a_failure_when_it_lasted(void **state)
{
	struct server *patient = started(peer_listening()), *not = started(peer_silent());
	CURL *c = client(patient, "wait", NULL);

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 50L), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OPERATION_TIMEDOUT);
	assert_totals(patient->peer.key, 0, 0, 1);
	go_to(c, not, "wait");
	assert_int_equal(curl_easy_perform(c), CURLE_OPERATION_TIMEDOUT);
	assert_totals(not->peer.key, 0, 1, 0);
	curl_easy_cleanup(c);
	stopped(patient);
	stopped(not);
}

static size_t aborts(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n + 1;
}

static void whoever_answered_is_well_whatever_the_program_does(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, aborts), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_WRITE_ERROR);
	assert_totals(s->peer.key, 1, 0, 0);
	curl_easy_cleanup(c);
	stopped(s);
}

/* The first host answered; the second is its sockets' business, with one traceparent. */
static void redirected_elsewhere(void **state)
{
	struct server *a = started(peer_listening()), *b = started(peer_listening());
	char path[64], errors[CURL_ERROR_SIZE] = "";

	(void) state;
	(void) snprintf(path, sizeof(path), "to/%s", b->peer.key);

	CURL *c = client(a, path, errors);

	assert_int_equal(curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(a, "traceparent", NULL), 1);
	assert_int_equal(lines(b, "traceparent", NULL), 1);
	assert_totals(a->peer.key, 1, 0, 0);
	assert_totals(b->peer.key, 1, 0, 0);
	/* Kept, and then asked by its own name: one call, one count. */
	go_to(c, b, "200");
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(lines(b, "traceparent", NULL), 1);
	assert_totals(b->peer.key, 2, 0, 0);
	assert_int_equal(atomic_load(&b->accepted), 1);
	curl_easy_cleanup(c);
	stopped(a);
	stopped(b);
}

/* Each names the same peer, and libcurl thinks so too. */
static void urls_of_every_form_name_the_peer(void **state)
{
	static const char *const forms[] = {
		"http://%s/200",
		"HTTP://%s/200?a=b#c",
		"%s/200",
		"http://user:secret@%s/200",
		"http://%s/200/../200?@:/",
	};
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);
	char url[128];

	(void) state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		print_message("# %s\n", forms[i]);
		(void) snprintf(url, sizeof(url), forms[i], s->peer.key);
		assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, url), CURLE_OK);
		assert_int_equal(curl_easy_perform(c), CURLE_OK);
		assert_int_equal(lines(s, "traceparent", NULL), 1);
		assert_totals(s->peer.key, i + 1, 0, 0);
	}
	/* A port by option goes before the URL's. */
	assert_int_equal(curl_easy_setopt(c, CURLOPT_PORT, (long) ntohs(s->peer.addr.sin_port)),
			 CURLE_OK);
	(void) snprintf(url, sizeof(url), "http://%.*s:1/200", (int) strcspn(s->peer.key, ":"),
			s->peer.key);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, url), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_totals(s->peer.key, sizeof(forms) / sizeof(forms[0]) + 1, 0, 0);
	curl_easy_cleanup(c);
	stopped(s);
}

/* What stands in for the program's options while a call is refused leaves no trace. */
static int opened;

static curl_socket_t opens(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void) arg;
	(void) purpose;
	opened++;
	return socket(address->family, address->socktype, address->protocol);
}

static void options_that_a_refusal_needs_come_back(void **state)
{
	struct server *s = started(peer_listening());
	char errors[CURL_ERROR_SIZE] = "";
	CURL *c = client(s, "500", errors);

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, opens), CURLE_OK);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L), CURLE_OK);
	for (int i = 0; i < TRIP_AT; i++)
		assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(opened, TRIP_AT);
	assert_refused(curl_easy_perform(c), errors, s);
	assert_int_equal(opened, TRIP_AT);
	peer_rest(s->peer.key);
	go_to(c, s, "200");
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(opened, TRIP_AT + 1);
	assert_int_equal(atomic_load(&s->accepted), TRIP_AT + 1);
	curl_easy_cleanup(c);
	stopped(s);
}

static void other_schemes_are_left_alone(void **state)
{
	CURL *c = curl_easy_init();

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, "file:///dev/null"), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, "nonsense://x"), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_UNSUPPORTED_PROTOCOL);
	curl_easy_cleanup(c);
}

/* ---- sockets beside it ---- */

static void the_threads_own_calls_count_again_afterwards(void **state)
{
	struct server *s = started(peer_listening());
	CURL *c = client(s, "200", NULL);

	(void) state;
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_totals(s->peer.key, 1, 0, 0);
	assert_int_equal(close(tcp_connected(&s->peer)), 0);
	assert_totals(s->peer.key, 2, 0, 0);
	curl_easy_cleanup(c);
	stopped(s);
}

struct nested {
	const struct server *to;
	CURLcode code;
};

static size_t calls_another(char *data, size_t size, size_t n, void *arg)
{
	struct nested *nested = arg;
	CURL *c = client(nested->to, "200", NULL);

	(void) data;
	nested->code = curl_easy_perform(c);
	curl_easy_cleanup(c);
	return size * n;
}

static void a_callback_makes_a_call_of_its_own(void **state)
{
	struct server *a = started(peer_listening()), *b = started(peer_listening());
	struct nested nested = { b, CURLE_FAILED_INIT };
	CURL *c = client(a, "200", NULL);

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, calls_another), CURLE_OK);
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEDATA, &nested), CURLE_OK);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	assert_int_equal(nested.code, CURLE_OK);
	assert_int_equal(lines(a, "traceparent", NULL), 1);
	assert_int_equal(lines(b, "traceparent", NULL), 1);
	assert_totals(a->peer.key, 1, 0, 0);
	assert_totals(b->peer.key, 1, 0, 0);
	curl_easy_cleanup(c);
	stopped(a);
	stopped(b);
}

#define CROWD 8

static void *calls_and_calls(void *arg)
{
	for (int i = 0; i < 25; i++) {
		CURL *c = client(arg, "200", NULL), *copy;

		if (curl_easy_perform(c) != CURLE_OK)
			return NULL;
		copy = curl_easy_duphandle(c);
		curl_easy_cleanup(c);
		if (curl_easy_perform(copy) != CURLE_OK)
			return NULL;
		curl_easy_cleanup(copy);
	}
	return arg;
}

static void threads_make_handles_by_the_dozen(void **state)
{
	struct server *s = started(peer_listening());
	pthread_t threads[CROWD];
	void *well;

	(void) state;
	for (int i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, calls_and_calls, s), 0);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(pthread_join(threads[i], &well), 0);
		assert_non_null(well);
	}
	assert_totals(s->peer.key, CROWD * 50, 0, 0);
	stopped(s);
}

static sigjmp_buf out_of_it;

static size_t jumps(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) size;
	(void) n;
	(void) arg;
	siglongjmp(out_of_it, 1);
}

/*
 * Not allowed, and done: the handle is lost to libcurl. The thread's calls to that one peer are
 * lost to us, until it calls by libcurl again.
 */
static void a_callback_that_never_returns(void **state)
{
	struct server *s = started(peer_listening()), *other = started(peer_listening());
	CURL *c = client(s, "200", NULL);

	(void) state;
	assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, jumps), CURLE_OK);
	if (sigsetjmp(out_of_it, 1) == 0)
		(void) curl_easy_perform(c);
	assert_int_equal(close(tcp_connected(&other->peer)), 0);
	assert_totals(other->peer.key, 1, 0, 0);
	c = client(other, "200", NULL);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	curl_easy_cleanup(c);
	assert_int_equal(close(tcp_connected(&s->peer)), 0);
	assert_totals(s->peer.key, 1, 0, 0);
	stopped(s);
	stopped(other);
}

/* ---- many at once ---- */

static void drive(CURLM *m)
{
	int running = 1;

	while (running > 0) {
		assert_int_equal(curl_multi_perform(m, &running), CURLM_OK);
		if (running > 0)
			assert_int_equal(curl_multi_poll(m, NULL, 0, 10000, NULL), CURLM_OK);
	}
}

static CURLcode result_of(CURLM *m, CURL **ret)
{
	int left;
	CURLMsg *msg = curl_multi_info_read(m, &left);

	assert_non_null(msg);
	assert_int_equal(msg->msg, CURLMSG_DONE);
	*ret = msg->easy_handle;
	return msg->data.result;
}

static void transfers_of_a_multi_handle_count_once_each(void **state)
{
	struct server *s = started(peer_listening());
	struct curl_slist *list = curl_slist_append(NULL, "X-One: 1");
	CURLM *m = curl_multi_init();
	CURL *done;
	int left;

	(void) state;
	for (int round = 0; round < 2; round++) {
		CURL *pair[2];

		for (int i = 0; i < 2; i++) {
			pair[i] = client(s, "200", NULL);
			assert_int_equal(curl_easy_setopt(pair[i], CURLOPT_HTTPHEADER, list), CURLE_OK);
			assert_int_equal(curl_multi_add_handle(m, pair[i]), CURLM_OK);
			assert_int_equal(curl_multi_add_handle(m, pair[i]), CURLM_ADDED_ALREADY);
		}
		drive(m);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(result_of(m, &done), CURLE_OK);
			assert_int_equal(curl_multi_remove_handle(m, done), CURLM_OK);
			curl_easy_cleanup(done);
		}
		assert_null(curl_multi_info_read(m, &left));
		assert_int_equal(lines(s, "traceparent", NULL), 1);
		assert_int_equal(lines(s, "X-One", NULL), 1);
	}
	assert_int_equal(heads(s), 4);
	assert_totals(s->peer.key, 4, 0, 0);
	assert_string_equal(list->data, "X-One: 1");
	assert_null(list->next);
	curl_slist_free_all(list);
	assert_int_equal(curl_multi_cleanup(m), CURLM_OK);
	stopped(s);
}

static void a_multi_handle_reports_a_refusal(void **state)
{
	struct server *s = started(peer_listening());
	char errors[CURL_ERROR_SIZE] = "";
	CURL *c = client(s, "503", errors), *done;
	CURLM *m = curl_multi_init();

	(void) state;
	for (int i = 0; i < TRIP_AT; i++) {
		assert_int_equal(curl_multi_add_handle(m, c), CURLM_OK);
		drive(m);
		assert_int_equal(result_of(m, &done), CURLE_OK);
		assert_int_equal(curl_multi_remove_handle(m, c), CURLM_OK);
	}
	assert_int_equal(curl_multi_add_handle(m, c), CURLM_OK);
	drive(m);
	assert_refused(result_of(m, &done), errors, s);
	assert_ptr_equal(done, c);
	assert_int_equal(heads(s), TRIP_AT);
	assert_int_equal(curl_multi_remove_handle(m, c), CURLM_OK);
	peer_rest(s->peer.key);
	go_to(c, s, "200");
	assert_int_equal(curl_multi_add_handle(m, c), CURLM_OK);
	drive(m);
	assert_int_equal(result_of(m, &done), CURLE_OK);
	assert_int_equal(state_of(s->peer.key), BREAKER_CLOSED);
	assert_int_equal(curl_multi_remove_handle(m, c), CURLM_OK);
	curl_easy_cleanup(c);
	assert_int_equal(curl_multi_cleanup(m), CURLM_OK);
	stopped(s);
}

/* Programs that look at the number of running transfers alone, and those that lose interest. */
static void transfers_taken_back(void **state)
{
	struct server *s = started(peer_listening());
	CURL *done = client(s, "200", NULL), *waiting = client(s, "wait", NULL);
	CURLM *m = curl_multi_init();
	int running;

	(void) state;
	assert_int_equal(curl_multi_add_handle(m, done), CURLM_OK);
	drive(m);
	assert_int_equal(curl_multi_remove_handle(m, done), CURLM_OK);
	assert_totals(s->peer.key, 1, 0, 0);

	assert_int_equal(curl_multi_add_handle(m, waiting), CURLM_OK);
	while (heads(s) < 2) {
		assert_int_equal(curl_multi_perform(m, &running), CURLM_OK);
		assert_int_equal(curl_multi_poll(m, NULL, 0, 10, NULL), CURLM_OK);
	}
	assert_int_equal(curl_multi_remove_handle(m, waiting), CURLM_OK);
	assert_totals(s->peer.key, 1, 0, 1);

	/* Left in the multi handle when that goes, it is a handle like any other. */
	assert_int_equal(curl_multi_add_handle(m, done), CURLM_OK);
	assert_int_equal(curl_multi_cleanup(m), CURLM_OK);
	assert_totals(s->peer.key, 1, 0, 2);
	assert_int_equal(curl_easy_perform(done), CURLE_OK);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	assert_totals(s->peer.key, 2, 0, 2);
	curl_easy_cleanup(done);
	curl_easy_cleanup(waiting);
	stopped(s);
}

static int on_socket(CURL *c, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	struct pollfd *p = arg;

	(void) c;
	(void) of_socket;
	p->fd = what == CURL_POLL_REMOVE ? -1 : fd;
	p->events = (short) ((what & CURL_POLL_IN ? POLLIN : 0) | (what & CURL_POLL_OUT ? POLLOUT : 0));
	return 0;
}

static int on_timer(CURLM *m, long ms, void *arg)
{
	(void) m;
	*(long *) arg = ms;
	return 0;
}

static void an_event_loop_drives_it(void **state)
{
	struct server *s = started(peer_listening());
	struct pollfd p = { .fd = -1 };
	CURL *c = client(s, "200", NULL), *done;
	CURLM *m = curl_multi_init();
	long timer = -1;
	int running = 1;

	(void) state;
	assert_int_equal(curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket), CURLM_OK);
	assert_int_equal(curl_multi_setopt(m, CURLMOPT_SOCKETDATA, &p), CURLM_OK);
	assert_int_equal(curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timer), CURLM_OK);
	assert_int_equal(curl_multi_setopt(m, CURLMOPT_TIMERDATA, &timer), CURLM_OK);
	assert_int_equal(curl_multi_add_handle(m, c), CURLM_OK);
	while (running > 0) {
		const int n = poll(&p, 1, timer >= 0 && timer < 1000 ? (int) timer : 1000);

		assert_int_equal(curl_multi_socket_action(
			m, n > 0 ? p.fd : CURL_SOCKET_TIMEOUT,
			n > 0 ? (p.revents & POLLIN ? CURL_CSELECT_IN : 0) |
					(p.revents & POLLOUT ? CURL_CSELECT_OUT : 0)
			      : 0,
			&running), CURLM_OK);
	}
	assert_int_equal(result_of(m, &done), CURLE_OK);
	assert_int_equal(lines(s, "traceparent", NULL), 1);
	assert_totals(s->peer.key, 1, 0, 0);
	assert_int_equal(curl_multi_remove_handle(m, c), CURLM_OK);
	curl_easy_cleanup(c);
	assert_int_equal(curl_multi_cleanup(m), CURLM_OK);
	stopped(s);
}

int main(int argc, char **argv)
{
	static const char *const extra[] = { "http_proxy=", "all_proxy=", "ALL_PROXY=", NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_list_comes_back_and_our_field_goes_out_once),
		cmocka_unit_test(the_programs_own_traceparent_is_adopted),
		cmocka_unit_test(lines_without_a_value_mean_what_they_did),
		cmocka_unit_test(reset_forgets_the_list),
		cmocka_unit_test(a_copy_has_the_programs_list),
		cmocka_unit_test(each_call_counts_once_on_a_kept_connection),
		cmocka_unit_test(bad_answers_open_the_breaker_and_libcurl_says_so),
		cmocka_unit_test(broken_connections_are_failures),
		cmocka_unit_test(silence_is_a_failure_when_it_lasted),
		cmocka_unit_test(whoever_answered_is_well_whatever_the_program_does),
		cmocka_unit_test(redirected_elsewhere),
		cmocka_unit_test(urls_of_every_form_name_the_peer),
		cmocka_unit_test(options_that_a_refusal_needs_come_back),
		cmocka_unit_test(other_schemes_are_left_alone),
		cmocka_unit_test(the_threads_own_calls_count_again_afterwards),
		cmocka_unit_test(a_callback_makes_a_call_of_its_own),
		cmocka_unit_test(threads_make_handles_by_the_dozen),
		cmocka_unit_test(a_callback_that_never_returns),
		cmocka_unit_test(transfers_of_a_multi_handle_count_once_each),
		cmocka_unit_test(a_multi_handle_reports_a_refusal),
		cmocka_unit_test(transfers_taken_back),
		cmocka_unit_test(an_event_loop_drives_it),
	};

	host_start(argc, argv, extra);
	(void) alarm(60);
	return _cmocka_run_group_tests("curl", tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
}
