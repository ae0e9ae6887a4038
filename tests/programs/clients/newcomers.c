/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairs of threads whose first call is made at the same moment: PORT CROWD ROUNDS. Each thread
 * asks 127.0.0.1:PORT once and ends, but for a crowd of CROWD threads before them, who stay.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in to = { .sin_family = AF_INET };
static atomic_int waiting;
static sem_t there;

static void *call(void *arg)
{
	static const char request[] = "GET /new HTTP/1.1\r\nHost: peer\r\n\r\n";
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	char reply[4096];

	atomic_fetch_sub(&waiting, 1);
	while (atomic_load(&waiting) > 0) /* no lock wakes both as closely */
		;
	const bool fine = connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0 &&
			  write(fd, request, strlen(request)) > 0 &&
			  read(fd, reply, sizeof(reply)) > 0;

	(void) close(fd);
	return fine ? arg : &to;
}

static void *stay(void *arg)
{
	void *wrong = call(arg);

	(void) sem_post(&there);
	pause();
	return wrong;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	if (argc != 4 || sem_init(&there, 0, 0) != 0)
		return 2;
	to.sin_port = htons((unsigned short) atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (pthread_create(&threads[0], NULL, stay, NULL))
			return 1;
		(void) sem_wait(&there);
	}
	for (int round = atoi(argv[3]); round > 0; round--) {
		atomic_store(&waiting, 2);
		for (int i = 0; i < 2; i++)
			if (pthread_create(&threads[i], NULL, call, NULL))
				return 1;
		for (int i = 0; i < 2; i++) {
			void *wrong;

			(void) pthread_join(threads[i], &wrong);
			if (wrong)
				return 1;
		}
	}
	return 0;
}
