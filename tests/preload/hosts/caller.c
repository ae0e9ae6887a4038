/* SPDX-License-Identifier: Apache-2.0 */
/* A program that calls: `caller PORT N` prints the errno of N connects to 127.0.0.1:PORT. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };

	if (argc != 3)
		return 2;
	addr.sin_port = htons((unsigned short) atoi(argv[1]));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = atoi(argv[2]); i > 0; i--) {
		const int fd = socket(AF_INET, SOCK_STREAM, 0);
		const int rc = connect(fd, (struct sockaddr *) &addr, sizeof(addr));

		printf("%d\n", rc == 0 ? 0 : errno);
		if (close(fd) != 0)
			return 3;
	}
	return 0;
}
