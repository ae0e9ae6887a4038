/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service of service.py in C on libcurl, a thread and a handle for each connection: a POST
 * of a JSON list of {url, arguments} makes these calls. Tells its port on standard output.
 */
#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX (256 * 1024)

/* The end of the JSON value that begins at @at: brackets are counted outside of strings. */
static const char *end_of(const char *at)
{
	bool quoted = false;
	int depth = 0;

	for (; *at; at++) {
		if (quoted) {
			if (*at == '\\' && at[1])
				at++;
			else if (*at == '"')
				quoted = false;
		} else if (*at == '"') {
			quoted = true;
		} else if (*at == '[' || *at == '{') {
			depth++;
		} else if (*at == ']' || *at == '}') {
			if (--depth < 0)
				return at;
		} else if (*at == ',' && depth == 0) {
			return at;
		}
	}
	return at;
}

static const char *skip(const char *at)
{
	return at + strspn(at, " \t\r\n:");
}

/* The member "name" (with its quotes) of the object at @at, or "[]". */
static const char *member(const char *at, const char *name, size_t *ret_len)
{
	for (at = skip(at + 1); *at == '"'; at = skip(at + (*at == ','))) {
		const char *value = strchr(at + 1, '"');
		const char *stop = end_of(at);

		if (value == NULL)
			break;
		value = skip(value + 1);
		if (strncmp(at, name, strlen(name)) == 0) {
			*ret_len = (size_t) (stop - value);
			return value;
		}
		at = stop;
	}
	*ret_len = 2;
	return "[]";
}

static size_t ignore(char *at, size_t size, size_t n, void *arg)
{
	(void) at;
	(void) arg;
	return size * n;
}

static bool call(CURL *curl, const char *action)
{
	struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
	size_t url_len, body_len;
	const char *url = member(action, "\"url\"", &url_len);
	const char *body = member(action, "\"arguments\"", &body_len);
	char *copy = strndup(url + 1, url_len >= 2 ? url_len - 2 : 0);
	bool fine;

	curl_easy_setopt(curl, CURLOPT_URL, copy);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long) body_len);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	fine = curl_easy_perform(curl) == CURLE_OK;
	curl_slist_free_all(fields);
	free(copy);
	return fine;
}

static bool call_all(CURL *curl, const char *json)
{
	bool fine = true;

	for (json = skip(skip(json) + 1); *json == '{'; json = skip(json + (*json == ','))) {
		fine = call(curl, json) && fine;
		json = end_of(json);
	}
	return fine;
}

/* Reads one request; gives its body, or NULL at the end. */
static char *read_request(int fd, char *buf, size_t *used)
{
	char *blank = NULL, *length = NULL;

	for (;;) {
		buf[*used] = '\0';
		blank = strstr(buf, "\r\n\r\n");
		length = blank ? strcasestr(buf, "\r\ncontent-length:") : NULL;

		const size_t body = length ? strtoul(length + 17, NULL, 10) : 0;

		if (blank && *used >= (size_t) (blank + 4 - buf) + body)
			return blank + 4;
		const ssize_t n = read(fd, buf + *used, REQUEST_MAX - 1 - *used);

		if (n <= 0)
			return NULL;
		*used += (size_t) n;
	}
}

static void *serve(void *arg)
{
	const int fd = (int) (long) arg;
	char *buf = malloc(REQUEST_MAX), *body;
	CURL *curl = curl_easy_init();
	size_t used = 0;

	while ((body = read_request(fd, buf, &used)) != NULL) {
		const char *reply =
			call_all(curl, body)
				? "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]\n"
				: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\n[]\n";

		if (write(fd, reply, strlen(reply)) < 0)
			break;
		used = 0; /* no client of ours pipelines */
	}
	curl_easy_cleanup(curl);
	free(buf);
	(void) close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons((unsigned short) (argc > 1 ? atoi(argv[1]) : 0)),
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	socklen_t len = sizeof(at);
	const int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	curl_global_init(CURL_GLOBAL_DEFAULT);
	(void) setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *) &at, len) || listen(listener, 128) ||
	    getsockname(listener, (struct sockaddr *) &at, &len))
		return 1;
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		const int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0)
			return 1;
		(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (pthread_create(&thread, NULL, serve, (void *) (long) fd))
			return 1;
		(void) pthread_detach(thread);
	}
}
