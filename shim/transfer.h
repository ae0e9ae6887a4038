/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What we know of a program's libcurl handle: the options that concern us, as the program set
 * them, and its transfer while one is under way: the call's span, its fields, its admission.
 *
 * The fields go out through CURLOPT_HTTPHEADER, in nodes of our own that end in the program's
 * list, so that libcurl reads both and the program's nodes stay as they are:
 *
 *   the handle ──▶ traceparent ──▶ tracestate ──▶ the program's first ──▶ …
 *                  └─ ours, in the transfer ─┘
 *
 * libcurl neither copies nor frees such a list. When the transfer is over the handle has the
 * program's list again.
 *
 * Places are found by handle and never unmapped. One thread at a time uses a handle (libcurl
 * asks for that), so all but the links to a place is plain memory.
 */
#ifndef SHIM_TRANSFER_H
#define SHIM_TRANSFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>

#include "core/names.h"
#include "core/state.h"
#include "shim/library.h"
#include "shim/request.h"
#include "shim/shared.h"

#define TRANSFER_NODES 32  /* of fields; ten formats' and eight forwarded ones are 18 */
#define TRANSFER_TEXT  704 /* of fields that we add; longer ones are laid out in a blob */
#define TRANSFER_PATH  160 /* a span shows less */

enum transfer_scheme { SCHEME_NOT_SAID, SCHEME_HTTP, SCHEME_HTTPS, SCHEME_OTHER };
enum transfer_proxy { PROXY_AS_IN_ENVIRONMENT, PROXY_NONE, PROXY_SOCKS, PROXY_HTTP };

struct transfer_url {
	enum transfer_scheme scheme;
	uint16_t port;                 /* 0: the scheme's */
	char host[NAMES_NAME_SIZE];    /* as written, no brackets; "": not to be made out */
	char path[TRANSFER_PATH];      /* without a query; cut */
};

/* As the program set them last. Zero-filled is a new handle. */
struct transfer_options {
	struct curl_slist *headers, *connect_to; /* the program's memory */
	curl_opensocket_callback open_socket;
	char *errors;                  /* CURL_ERROR_SIZE bytes of the program's, or NULL */
	long fresh, port;
	bool follows, connect_only, unix_socket, url_by_handle, resolves;
	enum transfer_proxy proxy;
	enum transfer_scheme default_scheme;
	struct transfer_url url;
};

struct transfer {
	_Atomic uint32_t next_free;    /* the pool's */
	_Atomic uint32_t flying;       /* 1 from transfer_begin() until somebody ends it */
	void *_Atomic handle;
	const struct library *home;    /* whose handle it is */
	struct transfer_options options;

	/* While it is under way: */
	const void *multi;             /* the multi handle that it was added to, or NULL */
	uint32_t pid;
	bool spoken;                   /* counted among those that curl_speaks_for() answers for */
	bool named;                    /* @spoken by a name, not by an address */
	bool loose;                    /* and nobody sees how libcurl resolves that */
	bool refused;                  /* it is to open no socket */
	bool tls;
	uint16_t port;
	uint64_t began;
	curl_off_t before[2];          /* two times of the handle's last transfer */
	struct request_token call, owner;
	struct admission admission;
	struct curl_slist *list;       /* of ours, that the handle has now; NULL: the program's */
	char key[STATE_PEER_SIZE];     /* of the breaker */
	struct curl_slist nodes[TRANSFER_NODES];
	uint32_t blob;
	char text[TRANSFER_TEXT];
};

/*
 * transfer_of - the place of a handle, or NULL
 * transfer_make - made when there is none; NULL: no memory or too many, it goes without us
 * transfer_forget - the handle is about to be freed; not under way any more
 * Context of these: any thread; lock-free; no allocation, may mmap; errno kept.
 */
struct transfer *transfer_of(const void *handle);
struct transfer *transfer_make(void *handle, const struct library *home);
void transfer_forget(struct transfer *t);

/* transfer_option - the program has set an option that concerns us; false: it does not */
bool transfer_option(struct transfer_options *o, CURLoption option, void *value);
bool transfer_wants(CURLoption option);

/*
 * transfer_begin - a transfer is about to start
 * Decides whether we speak for it, asks the breaker, begins the span, lays out @list.
 * Returns false when it is left alone, or to its sockets.
 * Context: a thread without the guard; may map files; no allocation; errno clobbered.
 */
bool transfer_begin(struct transfer *t, const void *multi);

/* transfer_relist - the program has set another list of headers meanwhile */
void transfer_relist(struct transfer *t);

/* What libcurl says of a transfer that is over. Texts may be NULL, and live as long as asked. */
struct transfer_facts {
	CURLcode code;
	bool given_up;                 /* @code says nothing: the program took it back */
	bool whole;                    /* given up, but nothing was missing */
	long status, version, redirects, os_errno;
	const char *method, *url;
};

/*
 * transfer_end - settle, and end the span; nothing when it was not under way
 * @f: NULL: nothing is known of it
 * Context: as transfer_begin().
 */
void transfer_end(struct transfer *t, const struct transfer_facts *f);

/* transfer_each - every place in use; for what happens once in a while */
void transfer_each(void (*f)(struct transfer *t, void *arg), void *arg);

#endif
