/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl's functions that begin, drive and end transfers.
 *
 * A refused transfer runs through libcurl all the same, with an address that needs no lookup
 * and a function to open sockets that opens none: it fails at once as one whose peer refuses,
 * CURLE_COULDNT_CONNECT, by curl_easy_perform() as by curl_multi_info_read(), and whatever the
 * program asks of the handle then is of this transfer. Only the text in its error buffer is ours.
 *
 * libcurl calls some of these itself, through its own import table (trap T42): such calls are
 * told by where they come from, and go on untouched.
 */
#include "shim/curl.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* We define these, and take each argument once. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#include "core/text.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/library.h"
#include "shim/life.h"
#include "shim/traffic_place.h"
#include "shim/transfer.h"

enum function {
	EASY_PERFORM,
	EASY_INIT,
	EASY_SETOPT,
	EASY_GETINFO,
	EASY_CLEANUP,
	EASY_RESET,
	EASY_DUPHANDLE,
	MULTI_ADD_HANDLE,
	MULTI_REMOVE_HANDLE,
	MULTI_PERFORM,
	MULTI_SOCKET_ACTION,
	MULTI_INFO_READ,
	MULTI_CLEANUP,
	FUNCTIONS
};

static const char *const names[] = {
	[EASY_PERFORM] = "curl_easy_perform",
	[EASY_INIT] = "curl_easy_init",
	[EASY_SETOPT] = "curl_easy_setopt",
	[EASY_GETINFO] = "curl_easy_getinfo",
	[EASY_CLEANUP] = "curl_easy_cleanup",
	[EASY_RESET] = "curl_easy_reset",
	[EASY_DUPHANDLE] = "curl_easy_duphandle",
	[MULTI_ADD_HANDLE] = "curl_multi_add_handle",
	[MULTI_REMOVE_HANDLE] = "curl_multi_remove_handle",
	[MULTI_PERFORM] = "curl_multi_perform",
	[MULTI_SOCKET_ACTION] = "curl_multi_socket_action",
	[MULTI_INFO_READ] = "curl_multi_info_read",
	[MULTI_CLEANUP] = "curl_multi_cleanup",
};

_Static_assert(FUNCTIONS <= LIBRARY_FUNCTIONS, "a library has places for all of them");

static struct library_kind libcurl = { .names = names, .n = FUNCTIONS };

/* Who called, what is meant, and of which handle. */
struct caller {
	const struct library *library; /* NULL: there is none, the call fails */
	struct transfer *transfer;     /* NULL: the call goes on untouched */
};

static struct caller caller_of(const void *address, void *handle, enum function which)
{
	struct transfer *t = transfer_of(handle);
	const struct library *l = t != NULL ? t->home : library_of(&libcurl, address);

	if (l == NULL || l->functions[which] == NULL) {
		traffic_count(METRICS_LIBRARY_LOST);
		return (struct caller) { NULL, NULL };
	}
	if (!armed || library_calls_itself(l, address))
		t = NULL;
	return (struct caller) { l, t };
}

#define CALLER(handle, which) caller_of(__builtin_return_address(0), (handle), (which))

/* ---- options of ours on a handle ---- */

/* Opens nothing: libcurl then says that it could not connect. */
static curl_socket_t no_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void) arg;
	(void) purpose;
	(void) address;
	return CURL_SOCKET_BAD;
}

/* Instead of whatever the URL names: no lookup, and a port that nobody has. */
static struct curl_slist nowhere = { (char *) "::127.0.0.1:1", NULL };

static void dress(const struct transfer *t)
{
	__typeof__(curl_easy_setopt) *set = REAL(t->home, EASY_SETOPT, curl_easy_setopt);
	CURL *easy = atomic_load_explicit(&t->handle, memory_order_relaxed);

	if (set == NULL)
		return;
	if (t->list != NULL)
		(void) set(easy, CURLOPT_HTTPHEADER, t->list);
	if (t->refused) {
		(void) set(easy, CURLOPT_CONNECT_TO, &nowhere);
		(void) set(easy, CURLOPT_OPENSOCKETFUNCTION, no_socket);
		(void) set(easy, CURLOPT_FRESH_CONNECT, 1L);
	}
}

/* @easy: t's own handle, or a copy of it, gets what the program had set. */
static void undress(const struct transfer *t, CURL *easy)
{
	__typeof__(curl_easy_setopt) *set = REAL(t->home, EASY_SETOPT, curl_easy_setopt);

	if (set == NULL)
		return;
	if (t->list != NULL)
		(void) set(easy, CURLOPT_HTTPHEADER, t->options.headers);
	if (t->refused) {
		(void) set(easy, CURLOPT_CONNECT_TO, t->options.connect_to);
		(void) set(easy, CURLOPT_OPENSOCKETFUNCTION, t->options.open_socket);
		(void) set(easy, CURLOPT_FRESH_CONNECT, t->options.fresh);
	}
}

static bool flying(const struct transfer *t)
{
	return atomic_load_explicit(&t->flying, memory_order_relaxed) != 0;
}

/* Numbers that a transfer changes when it begins; what is asked before then is of the last one. */
static void look(const struct transfer *t, curl_off_t ret[2])
{
	__typeof__(curl_easy_getinfo) *get = REAL(t->home, EASY_GETINFO, curl_easy_getinfo);
	CURL *easy = atomic_load_explicit(&t->handle, memory_order_relaxed);

	ret[0] = ret[1] = 0;
	if (get == NULL)
		return;
	(void) get(easy, CURLINFO_TOTAL_TIME_T, &ret[0]);
	(void) get(easy, CURLINFO_STARTTRANSFER_TIME_T, &ret[1]);
}

static void say_refused(const struct transfer *t)
{
	struct text text;

	if (t->options.errors == NULL)
		return;
	text = text_in(t->options.errors, CURL_ERROR_SIZE);
	text_add(&text, "agentshim: circuit breaker for ");
	text_add(&text, t->key);
	text_add(&text, " is open");
}

static void ask(const struct transfer *t, struct transfer_facts *f)
{
	__typeof__(curl_easy_getinfo) *get = REAL(t->home, EASY_GETINFO, curl_easy_getinfo);
	CURL *easy = atomic_load_explicit(&t->handle, memory_order_relaxed);
	curl_off_t length = -1, got = 0;

	if (get == NULL)
		return;
	(void) get(easy, CURLINFO_RESPONSE_CODE, &f->status);
	(void) get(easy, CURLINFO_HTTP_VERSION, &f->version);
	(void) get(easy, CURLINFO_REDIRECT_COUNT, &f->redirects);
	(void) get(easy, CURLINFO_OS_ERRNO, &f->os_errno);
	(void) get(easy, CURLINFO_EFFECTIVE_METHOD, &f->method);
	(void) get(easy, CURLINFO_EFFECTIVE_URL, &f->url);
	(void) get(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	(void) get(easy, CURLINFO_SIZE_DOWNLOAD_T, &got);
	f->whole = f->status >= 200 && length <= got;
}

/* @given_up: the program took the transfer back, before it has read how that ended. */
static void finish(struct transfer *t, CURLcode code, bool given_up)
{
	const int saved = errno;
	struct transfer_facts facts = { .code = code, .given_up = given_up };

	if (!flying(t))
		return;
	ask(t, &facts);
	if (given_up) {
		curl_off_t now[2];

		look(t, now);
		if (now[0] == t->before[0] && now[1] == t->before[1])
			facts.status = facts.redirects = 0; /* it never began */
	}
	facts.whole = facts.whole && facts.status != 0;
	if (t->refused && code == CURLE_COULDNT_CONNECT)
		say_refused(t);
	transfer_end(t, &facts);
	undress(t, atomic_load_explicit(&t->handle, memory_order_relaxed));
	t->list = NULL;
	t->refused = false;
	errno = saved;
}

static bool begin(struct transfer *t, const void *multi)
{
	const int saved = errno;
	bool begun;

	/* One that was left in the middle, by siglongjmp or by fork: the handle has its list still. */
	finish(t, CURLE_OK, true);
	begun = transfer_begin(t, multi);
	if (begun && multi != NULL)
		look(t, t->before);
	if (begun)
		dress(t);
	errno = saved;
	return begun;
}

/* ---- handles ---- */

EXPORT CURL *curl_easy_init(void)
{
	const struct caller c = CALLER(NULL, EASY_INIT);
	CURL *easy = c.library != NULL ? REAL(c.library, EASY_INIT, curl_easy_init)() : NULL;

	if (easy == NULL || !armed ||
	    library_calls_itself(c.library, __builtin_return_address(0)))
		return easy;

	/* One of this address was freed behind our back. */
	struct transfer *old = transfer_of(easy);

	if (old != NULL) {
		transfer_end(old, NULL);
		transfer_forget(old);
	}
	(void) transfer_make(easy, c.library);
	return easy;
}

EXPORT CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	struct caller c = CALLER(easy, EASY_SETOPT);
	va_list args;

	if (c.library == NULL)
		return CURLE_FAILED_INIT;
	/* Long, pointer or curl_off_t: each fills one register on the machines we run on. */
	va_start(args, option);

	void *value = va_arg(args, void *);
	const CURLcode code =
		REAL(c.library, EASY_SETOPT, curl_easy_setopt)(easy, option, value);

	va_end(args);
	if (code != CURLE_OK)
		return code;
	if (c.transfer == NULL && transfer_of(easy) == NULL && armed && transfer_wants(option) &&
	    !library_calls_itself(c.library, __builtin_return_address(0)))
		c.transfer = transfer_make(easy, c.library);
	if (c.transfer == NULL || !transfer_option(&c.transfer->options, option, value))
		return code;
	if (option == CURLOPT_HTTPHEADER && flying(c.transfer) && c.transfer->list != NULL) {
		transfer_relist(c.transfer);
		dress(c.transfer);
	}
	return code;
}

EXPORT void curl_easy_reset(CURL *easy)
{
	const struct caller c = CALLER(easy, EASY_RESET);

	if (c.library == NULL)
		return;
	REAL(c.library, EASY_RESET, curl_easy_reset)(easy);
	if (c.transfer != NULL)
		c.transfer->options = (struct transfer_options) { 0 };
}

EXPORT CURL *curl_easy_duphandle(CURL *easy)
{
	const struct caller c = CALLER(easy, EASY_DUPHANDLE);
	CURL *copy = c.library != NULL
			     ? REAL(c.library, EASY_DUPHANDLE, curl_easy_duphandle)(easy)
			     : NULL;

	/* Also of copies that libcurl makes, for what an HTTP/2 server pushes. */
	const struct transfer *of = armed ? transfer_of(easy) : NULL;

	if (copy == NULL || of == NULL)
		return copy;

	struct transfer *t = transfer_of(copy);

	if (t != NULL) {
		transfer_end(t, NULL);
		transfer_forget(t);
	}
	t = transfer_make(copy, c.library);
	if (t != NULL)
		t->options = of->options;
	if (flying(of))
		undress(of, copy);
	return copy;
}

EXPORT void curl_easy_cleanup(CURL *easy)
{
	const struct caller c = CALLER(easy, EASY_CLEANUP);

	if (c.library == NULL)
		return;
	if (c.transfer != NULL) {
		finish(c.transfer, CURLE_OK, true);
		transfer_forget(c.transfer);
	}
	REAL(c.library, EASY_CLEANUP, curl_easy_cleanup)(easy);
}

/* ---- transfers, one by one ---- */

EXPORT CURLcode curl_easy_perform(CURL *easy)
{
	const struct caller c = CALLER(easy, EASY_PERFORM);

	if (c.library == NULL)
		return CURLE_FAILED_INIT;
	/* Added to a multi handle, or performed already by whoever called us back: libcurl refuses. */
	if (c.transfer == NULL ||
	    (flying(c.transfer) && (c.transfer->multi != NULL || guard_aside())) ||
	    !begin(c.transfer, NULL))
		return REAL(c.library, EASY_PERFORM, curl_easy_perform)(easy);

	const void *outer = guard_aside_enter(__builtin_frame_address(0));
	const CURLcode code = REAL(c.library, EASY_PERFORM, curl_easy_perform)(easy);

	guard_aside_leave(outer);
	finish(c.transfer, code, false);
	return code;
}

/* ---- transfers, many at once ---- */

EXPORT CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	const struct caller c = CALLER(easy, MULTI_ADD_HANDLE);
	bool begun;

	if (c.library == NULL)
		return CURLM_INTERNAL_ERROR;
	begun = c.transfer != NULL && !(flying(c.transfer) && c.transfer->multi != NULL) &&
		begin(c.transfer, multi);

	const CURLMcode code =
		REAL(c.library, MULTI_ADD_HANDLE, curl_multi_add_handle)(multi, easy);

	if (begun && code != CURLM_OK)
		finish(c.transfer, CURLE_FAILED_INIT, false);
	return code;
}

EXPORT CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy)
{
	const struct caller c = CALLER(easy, MULTI_REMOVE_HANDLE);

	if (c.library == NULL)
		return CURLM_INTERNAL_ERROR;

	const CURLMcode code =
		REAL(c.library, MULTI_REMOVE_HANDLE, curl_multi_remove_handle)(multi, easy);

	if (code == CURLM_OK && c.transfer != NULL && c.transfer->multi == multi)
		finish(c.transfer, CURLE_OK, true);
	return code;
}

EXPORT CURLMcode curl_multi_perform(CURLM *multi, int *running)
{
	const struct caller c = CALLER(NULL, MULTI_PERFORM);

	if (c.library == NULL)
		return CURLM_INTERNAL_ERROR;

	const void *outer = guard_aside_enter(__builtin_frame_address(0));
	const CURLMcode code =
		REAL(c.library, MULTI_PERFORM, curl_multi_perform)(multi, running);

	guard_aside_leave(outer);
	return code;
}

EXPORT CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t s, int events, int *running)
{
	const struct caller c = CALLER(NULL, MULTI_SOCKET_ACTION);

	if (c.library == NULL)
		return CURLM_INTERNAL_ERROR;

	const void *outer = guard_aside_enter(__builtin_frame_address(0));
	const CURLMcode code = REAL(c.library, MULTI_SOCKET_ACTION, curl_multi_socket_action)(
		multi, s, events, running);

	guard_aside_leave(outer);
	return code;
}

EXPORT CURLMsg *curl_multi_info_read(CURLM *multi, int *left)
{
	const struct caller c = CALLER(NULL, MULTI_INFO_READ);

	if (c.library == NULL)
		return NULL;

	CURLMsg *msg = REAL(c.library, MULTI_INFO_READ, curl_multi_info_read)(multi, left);

	if (msg == NULL || msg->msg != CURLMSG_DONE || !armed ||
	    library_calls_itself(c.library, __builtin_return_address(0)))
		return msg;

	struct transfer *t = transfer_of(msg->easy_handle);

	if (t == NULL || t->multi != multi || !flying(t))
		return msg;
	/* Whoever reads how a call ended turns to what it was made for. */
	if (settings->trace)
		current_set(t->owner);
	finish(t, msg->data.result, false);
	return msg;
}

static void abandon(struct transfer *t, void *multi)
{
	if (t->multi == multi)
		finish(t, CURLE_OK, true);
}

EXPORT CURLMcode curl_multi_cleanup(CURLM *multi)
{
	const struct caller c = CALLER(NULL, MULTI_CLEANUP);

	if (c.library == NULL)
		return CURLM_INTERNAL_ERROR;

	const CURLMcode code = REAL(c.library, MULTI_CLEANUP, curl_multi_cleanup)(multi);

	/* Handles that it was made of live on, and may be used by themselves. */
	if (armed && multi != NULL && !library_calls_itself(c.library, __builtin_return_address(0)))
		transfer_each(abandon, multi);
	return code;
}
