/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfers of libcurl are spoken for by the hooks of libcurl's own functions: there headers
 * can be added under TLS, and outcomes are read in the clear. What goes over the sockets of
 * such a transfer is neither asked, counted, traced nor given headers again.
 *
 * That holds for calls to the peer of a transfer under way, made by a thread that is inside
 * libcurl. Anything else that libcurl connects to (a proxy, where it was redirected to) is
 * the socket hooks' business as ever, and so are the sockets of a program's own callbacks,
 * but for those to the very peer.
 */
#ifndef SHIM_CURL_H
#define SHIM_CURL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shim/shared.h"

/*
 * curl_speaks_for - is a connect to @addr part of a transfer that is spoken for?
 * curl_speaks_again - is a further request on the connection that @a was taken for?
 * Context: any thread under the guard; no lock; errno kept. Outside of libcurl a compare.
 */
bool curl_speaks_for(const struct sockaddr *addr, uint64_t now);
bool curl_speaks_again(const struct admission *a);

/* curl_settle_all - at exit: end what is under way. Context: under the guard. */
void curl_settle_all(void);

#endif
