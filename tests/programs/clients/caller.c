/* SPDX-License-Identifier: Apache-2.0 */
/* Connects to 127.0.0.1:PORT from a function whose name a stack should show. */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int charge_the_customer(unsigned short port);

__attribute__((noinline)) int charge_the_customer(unsigned short port)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	const int rc = connect(fd, (const struct sockaddr *) &to, sizeof(to));

	(void) close(fd);
	return rc;
}

int main(int argc, char **argv)
{
	return argc == 2 && charge_the_customer((unsigned short) atoi(argv[1])) == 0 ? 0 : 1;
}
