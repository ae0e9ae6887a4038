/* SPDX-License-Identifier: Apache-2.0 */
/* The gate before a connection, for connect(2) and for the sends that connect. */
#ifndef SHIM_CONNECT_H
#define SHIM_CONNECT_H

#include <sys/socket.h>

enum gate {
	GATE_PASS,   /* none of our business */
	GATE_FOLLOW, /* a stream follows it: report the result */
	GATE_REFUSE, /* answer *ret_errno; touch nothing */
};

/*
 * connect_gate - may @fd be connected to @addr now?
 * Context: any thread under the guard, in its own memory; errno clobbered.
 */
enum gate connect_gate(int fd, const struct sockaddr *addr, socklen_t len, int *ret_errno);

#endif
