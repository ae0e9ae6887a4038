// SPDX-License-Identifier: Apache-2.0
// Exceptions and thread cancellation through frames that have called us.
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

static int ended;

struct socket_of_ours {
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	~socket_of_ours()
	{
		ended++;
		close(fd);
	}
};

static void call(unsigned short port)
{
	socket_of_ours s;
	sockaddr_in addr{};

	addr.sin_family = AF_INET;
	addr.sin_port = htons(port);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(s.fd, reinterpret_cast<sockaddr *>(&addr), sizeof addr) < 0)
		throw std::runtime_error("no connection");
}

static void *cancelled(void *)
{
	socket_of_ours s;
	int pair[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
		for (;;)
			if (read(pair[0], &byte, 1) < 0)
				break;
	return nullptr;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	void *result;

	for (int i = 0; argc > 1 && i < 5; i++) {
		try {
			call(static_cast<unsigned short>(atoi(argv[1])));
		} catch (const std::exception &e) {
			puts(e.what());
		}
	}
	pthread_create(&thread, nullptr, cancelled, nullptr);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	printf("%s, %d ended\n", result == PTHREAD_CANCELED ? "cancelled" : "not", ended);
	return 0;
}
