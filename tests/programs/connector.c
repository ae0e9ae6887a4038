/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shortest client there is, and what starts it many times.
 *
 *   connector PORT          connects to 127.0.0.1, reads to the end, exits 0 when it got a byte
 *   connector COUNT SHIM    runs itself COUNT times with SHIM as LD_PRELOAD against a server of
 *                           its own; prints the median of the first and the last hundred runs,
 *                           in microseconds, and how many of all failed
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE 100

extern char **environ;

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int call(uint16_t port)
{
	const struct sockaddr_in peer = loopback(port);
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	char buf[16];

	if (connect(fd, (const struct sockaddr *)&peer, sizeof(peer)))
		return 1;
	const ssize_t n = read(fd, buf, sizeof(buf));

	close(fd);
	return n > 0 ? 0 : 1;
}

static void *serve(void *arg)
{
	const int listener = *(const int *)arg;

	for (;;) {
		const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return NULL;
		(void)!write(fd, "hello\n", 6);
		close(fd);
	}
}

static double run_us(const char *self, char *port, char *const *env, int *failed)
{
	char *argv[] = { (char *)self, port, NULL };
	struct timespec a, b;
	int status = -1;
	pid_t pid;

	clock_gettime(CLOCK_MONOTONIC, &a);
	if (posix_spawn(&pid, self, NULL, NULL, argv, env) == 0)
		waitpid(pid, &status, 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	*failed += status != 0;
	return (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *sample)
{
	double sorted[SAMPLE];

	memcpy(sorted, sample, sizeof(sorted));
	qsort(sorted, SAMPLE, sizeof(*sorted), by_value);
	return sorted[SAMPLE / 2];
}

static int repeat(const char *self, int count, const char *shim)
{
	struct sockaddr_in here = loopback(0);
	socklen_t len = sizeof(here);
	const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	double *took = calloc((size_t)count, sizeof(*took));
	char port[16];
	int failed = 0;
	pthread_t server;

	if (!took || bind(listener, (struct sockaddr *)&here, len) || listen(listener, 128) ||
	    getsockname(listener, (struct sockaddr *)&here, &len) ||
	    pthread_create(&server, NULL, serve, (void *)&listener))
		return 1;
	snprintf(port, sizeof(port), "%u", ntohs(here.sin_port));
	setenv("LD_PRELOAD", shim, 1);
	for (int i = 0; i < count; i++)
		took[i] = run_us(self, port, environ, &failed);
	printf("%.0f %.0f %d\n", median(took), median(took + count - SAMPLE), failed);
	fflush(stdout);
	_exit(0); /* the server thread is still in accept */
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return call((uint16_t)atoi(argv[1]));
	if (argc == 3 && atoi(argv[1]) >= SAMPLE)
		return repeat(argv[0], atoi(argv[1]), argv[2]);
	fprintf(stderr, "usage: connector PORT | COUNT SHIM\n");
	return 2;
}
