/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of libcurl, what is decided for their transfers, and how those ended. */
#include "shim/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/text.h"
#include "shim/blob.h"
#include "shim/call.h"
#include "shim/curl.h"
#include "shim/current.h"
#include "shim/guard.h"
#include "shim/inbound.h"
#include "shim/life.h"
#include "shim/peer.h"
#include "shim/pool.h"
#include "shim/traffic_place.h"

#define CHUNK_BITS  3
#define CHUNKS      1024  /* 8,192 handles at once; further ones are left alone */
#define BUCKETS     16384 /* power of two, twice as many */
#define WINDOW      64    /* buckets from a handle's own on that may hold it */
#define GONE        UINT32_MAX
#define SPOKEN      1024  /* counters by peer, and by port; power of two */
#define LIST_MAX    1000  /* nodes of a program's list that are looked at */
#define PARENT_AT   36    /* in a traceparent: "00-", 32 digits, "-" */
#define AT_ONCE_NS  (100 * NS_PER_MS) /* as in stream.c: our own kernel's answer */

/* ---- places ---- */

static _Atomic(char *) chunks[CHUNKS];
static struct pool pool = POOL(chunks, struct transfer, CHUNK_BITS);

/* 1 + number; 0 was never used, GONE is not any more, and a search goes on behind it. */
static _Atomic uint32_t buckets[BUCKETS];

/*
 * How many transfers under way are spoken for, by hash of their peer; of those by name by port,
 * too, and of those whose name libcurl resolves unseen. Two peers that share a counter cost a call's outcome at worst.
 */
static _Atomic uint32_t spoken_peers[SPOKEN], spoken_ports[SPOKEN], loose_ports[SPOKEN];

static struct transfer *at(uint32_t number)
{
	return pool_at(&pool, number);
}

static uint32_t bucket_of(const void *handle)
{
	return (uint32_t) ((uintptr_t) handle / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 40);
}

struct transfer *transfer_of(const void *handle)
{
	const uint32_t start = bucket_of(handle);

	if (handle == NULL)
		return NULL;
	for (uint32_t i = 0; i < WINDOW; i++) {
		/* Acquire: pairs with transfer_make(). */
		const uint32_t number = atomic_load_explicit(&buckets[(start + i) % BUCKETS],
							     memory_order_acquire);

		if (number == 0)
			return NULL;
		if (number != GONE && atomic_load_explicit(&at(number - 1)->handle,
							   memory_order_relaxed) == handle)
			return at(number - 1);
	}
	return NULL;
}

static bool enter(const void *handle, uint32_t number)
{
	const uint32_t start = bucket_of(handle);

	for (uint32_t i = 0; i < WINDOW; i++) {
		_Atomic uint32_t *bucket = &buckets[(start + i) % BUCKETS];
		uint32_t seen = atomic_load_explicit(bucket, memory_order_relaxed);

		/* Release: the place is laid out before it is found. */
		while (seen == 0 || seen == GONE)
			if (atomic_compare_exchange_weak_explicit(bucket, &seen, number + 1,
								  memory_order_release,
								  memory_order_relaxed))
				return true;
	}
	return false;
}

struct transfer *transfer_make(void *handle, const struct library *home)
{
	struct transfer *t = transfer_of(handle);
	uint32_t number;

	if (t != NULL || handle == NULL || !pool_take(&pool, &number))
		return t;
	t = at(number);
	atomic_store_explicit(&t->flying, 0, memory_order_relaxed);
	atomic_store_explicit(&t->handle, handle, memory_order_relaxed);
	t->home = home;
	t->options = (struct transfer_options) { 0 };
	t->list = NULL;
	t->blob = 0;
	if (enter(handle, number))
		return t;
	atomic_store_explicit(&t->handle, NULL, memory_order_relaxed);
	pool_give(&pool, number);
	return NULL;
}

void transfer_forget(struct transfer *t)
{
	const uint32_t start =
		bucket_of(atomic_load_explicit(&t->handle, memory_order_relaxed));

	for (uint32_t i = 0; i < WINDOW; i++) {
		_Atomic uint32_t *bucket = &buckets[(start + i) % BUCKETS];
		const uint32_t number = atomic_load_explicit(bucket, memory_order_relaxed);

		if (number == 0 || number == GONE || at(number - 1) != t)
			continue;
		atomic_store_explicit(&t->handle, NULL, memory_order_relaxed);
		atomic_store_explicit(bucket, GONE, memory_order_relaxed);
		pool_give(&pool, number - 1);
		return;
	}
}

void transfer_each(void (*f)(struct transfer *t, void *arg), void *arg)
{
	const uint32_t n = pool_used(&pool);

	for (uint32_t i = 0; i < n; i++)
		if (pool_ready(&pool, i) &&
		    atomic_load_explicit(&at(i)->handle, memory_order_relaxed) != NULL)
			f(at(i), arg);
}

/* ---- options ---- */

static enum transfer_scheme scheme_of(const char *name, size_t len)
{
	if (len == 4 && strncasecmp(name, "http", len) == 0)
		return SCHEME_HTTP;
	if (len == 5 && strncasecmp(name, "https", len) == 0)
		return SCHEME_HTTPS;
	return SCHEME_OTHER;
}

static void read_url(const char *text, struct transfer_url *ret)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789+-.";
	const size_t scheme = strspn(text, letters);

	*ret = (struct transfer_url) { 0 };
	if (scheme > 0 && strncmp(text + scheme, "://", 3) == 0) {
		ret->scheme = scheme_of(text, scheme);
		text += scheme + 3;
	}

	const size_t authority = strcspn(text, "/?#");
	const char *end = text + authority;
	const char *login = memchr(text, '@', authority);
	const char *host = login != NULL ? login + 1 : text;
	const bool bracketed = host < end && *host == '[';
	const size_t len = bracketed ? strcspn(++host, "]/?#") : strcspn(host, ":@/?#");
	const char *rest = host + len + (bracketed && host[len] == ']');
	unsigned long port = 0;

	if (rest < end && *rest == ':') {
		for (rest++; rest < end && *rest >= '0' && *rest <= '9' && port <= UINT16_MAX; rest++)
			port = port * 10 + (unsigned long) (*rest - '0');
	}
	/* Anything that we would read otherwise than libcurl does: let it be. */
	if (rest != end || len == 0 || len >= sizeof(ret->host) || port > UINT16_MAX)
		return;
	memcpy(ret->host, host, len);
	ret->port = (uint16_t) port;

	const size_t path = strcspn(end, "?#");

	memcpy(ret->path, end, path < sizeof(ret->path) ? path : sizeof(ret->path) - 1);
}

static enum transfer_proxy proxy_of(const char *text)
{
	if (text == NULL)
		return PROXY_AS_IN_ENVIRONMENT;
	if (*text == '\0')
		return PROXY_NONE;
	return strncasecmp(text, "socks", 5) == 0 ? PROXY_SOCKS : PROXY_HTTP;
}

static bool some_text(const void *value)
{
	return value != NULL && *(const char *) value != '\0';
}

bool transfer_option(struct transfer_options *o, CURLoption option, void *value)
{
	const long number = (long) (intptr_t) value;

	/* Not all versions of the header have all of them as enumerators of this very type. */
	switch ((int) option) {
	case CURLOPT_URL:
		o->url = (struct transfer_url) { 0 };
		if (value != NULL)
			read_url(value, &o->url);
		return true;
	case CURLOPT_CURLU:
		o->url_by_handle = value != NULL;
		return true;
	case CURLOPT_HTTPHEADER:
		o->headers = value;
		return true;
	case CURLOPT_ERRORBUFFER:
		o->errors = value;
		return true;
	case CURLOPT_RESOLVE:
		o->resolves = value != NULL;
		return true;
	case CURLOPT_CONNECT_TO:
		o->connect_to = value;
		return true;
	case CURLOPT_OPENSOCKETFUNCTION:
		memcpy(&o->open_socket, &value, sizeof(value));
		return true;
	case CURLOPT_FRESH_CONNECT:
		o->fresh = number;
		return true;
	case CURLOPT_PORT:
		o->port = number;
		return true;
	case CURLOPT_FOLLOWLOCATION:
		o->follows = number != 0;
		return true;
	case CURLOPT_CONNECT_ONLY:
		o->connect_only = number != 0;
		return true;
	case CURLOPT_UNIX_SOCKET_PATH:
	case CURLOPT_ABSTRACT_UNIX_SOCKET:
		o->unix_socket = some_text(value);
		return true;
	case CURLOPT_PROXY:
		o->proxy = proxy_of(value);
		return true;
	case CURLOPT_PRE_PROXY:
		if (some_text(value))
			o->proxy = PROXY_SOCKS;
		return true;
	case CURLOPT_DEFAULT_PROTOCOL:
		o->default_scheme = value != NULL ? scheme_of(value, strlen(value))
						  : SCHEME_NOT_SAID;
		return true;
	}
	return false;
}

bool transfer_wants(CURLoption option)
{
	static struct transfer_options nobody;
	struct transfer_options scratch = nobody;

	return transfer_option(&scratch, option, NULL);
}

/* ---- whom we speak for ---- */

/* Who says what in a transfer. */
enum voice {
	SOCKETS,    /* the sockets see all there is to see, or it is no HTTP */
	WE_TRACE,   /* the sockets ask the breakers; headers and spans are ours */
	WE_SPEAK,
};

/* "ftp.example.com" without a scheme is not HTTP to libcurl. */
static bool guessed_otherwise(const char *host)
{
	static const char *const prefixes[] = { "ftp.", "dict.", "ldap.", "imap.", "smtp.", "pop3." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncasecmp(host, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static enum transfer_scheme scheme_in_force(const struct transfer_options *o)
{
	if (o->url.scheme != SCHEME_NOT_SAID)
		return o->url.scheme;
	if (o->default_scheme != SCHEME_NOT_SAID)
		return o->default_scheme;
	return guessed_otherwise(o->url.host) ? SCHEME_OTHER : SCHEME_HTTP;
}

/* libcurl reads these in the same place. Whether NO_PROXY names the host is not looked at. */
static bool proxied_by_environment(bool tls)
{
	static const char *const for_http[] = { "http_proxy", "all_proxy", "ALL_PROXY" };
	static const char *const for_https[] = { "https_proxy", "HTTPS_PROXY", "all_proxy",
						 "ALL_PROXY" };
	const char *const *names = tls ? for_https : for_http;

	for (size_t i = 0; i < (tls ? 4u : 3u); i++)
		if (some_text(getenv(names[i])))
			return true;
	return false;
}

static enum voice voice_of(const struct transfer_options *o)
{
	const enum transfer_scheme scheme = scheme_in_force(o);
	const bool tls = scheme == SCHEME_HTTPS;

	if ((scheme != SCHEME_HTTP && !tls) || o->url.host[0] == '\0' || o->url_by_handle ||
	    o->unix_socket || o->connect_only)
		return SOCKETS;
	if (o->proxy == PROXY_SOCKS)
		return WE_TRACE;
	/* To somebody else than the URL names: his breaker is asked at the connect. */
	if (o->proxy == PROXY_HTTP || o->connect_to != NULL ||
	    (o->proxy == PROXY_AS_IN_ENVIRONMENT && proxied_by_environment(tls)))
		return tls ? WE_TRACE : SOCKETS;
	return WE_SPEAK;
}

static void speak(struct transfer *t, int difference)
{
	(void) atomic_fetch_add_explicit(&spoken_peers[t->admission.peer % SPOKEN],
					 (uint32_t) difference, memory_order_relaxed);
	if (t->named)
		(void) atomic_fetch_add_explicit(&spoken_ports[t->port % SPOKEN],
						 (uint32_t) difference, memory_order_relaxed);
	if (t->loose)
		(void) atomic_fetch_add_explicit(&loose_ports[t->port % SPOKEN],
						 (uint32_t) difference, memory_order_relaxed);
}

static bool counted(_Atomic uint32_t *counters, uint32_t hash)
{
	return atomic_load_explicit(&counters[hash % SPOKEN], memory_order_relaxed) > 0;
}

bool curl_speaks_for(const struct sockaddr *addr, uint64_t now)
{
	struct peer peer;

	if (!guard_aside())
		return false;
	peer_of(addr, now, &peer);
	if (counted(spoken_peers, peer_hash(peer.key)) || counted(loose_ports, peer.who.port))
		return true;
	/*
	 * libcurl looks names up in other threads, or without getaddrinfo: this thread's latest
	 * lookup may be of long ago. An address without a name, or with several, may be anybody's.
	 */
	peer_known_as(addr, now, &peer);
	return counted(peer.named ? spoken_peers : spoken_ports,
		       peer.named ? peer_hash(peer.key) : peer.who.port);
}

bool curl_speaks_again(const struct admission *a)
{
	return a != NULL && guard_aside() && counted(spoken_peers, a->peer);
}

/* ---- the list ---- */

static struct propagate_value trimmed(const char *from, const char *end)
{
	while (from < end && (*from == ' ' || *from == '\t'))
		from++;
	while (from < end && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return (struct propagate_value) { from, (size_t) (end - from) };
}

/* What the program sends itself. "Name:" takes a header of libcurl's out; "Name;" is empty. */
static void read_list(const struct curl_slist *list, struct call_wrote *wrote)
{
	for (unsigned n = 0; list != NULL && n < LIST_MAX; list = list->next, n++) {
		const char *text = list->data != NULL ? list->data : "";
		const size_t name = strcspn(text, ":;");
		const char *value = text + name + (text[name] != '\0');
		const struct propagate_value v = trimmed(value, value + strlen(value));

		if (name > 0 && (v.len > 0 || text[name] == ';'))
			call_wrote_add(wrote, text, name, v);
	}
}

struct laying {
	struct transfer *t;
	struct text text;
	unsigned n;
};

static void add_node(struct laying *l, char *data)
{
	if (l->n == TRANSFER_NODES - 1) /* one for what is rewritten */
		return;
	l->t->nodes[l->n] = (struct curl_slist) { data, NULL };
	if (l->n > 0)
		l->t->nodes[l->n - 1].next = &l->t->nodes[l->n];
	l->n++;
}

static void add_field(void *arg, const char *name, const char *value, size_t len)
{
	struct laying *l = arg;
	char *data = l->text.at + l->text.used;

	text_add(&l->text, name);
	text_add(&l->text, ": ");
	text_add_n(&l->text, value, len);
	text_add_n(&l->text, "", 1);
	if (!l->text.cut)
		add_node(l, data);
}

/*
 * The program passes on the traceparent of a request that it serves: with our id in it. The
 * nodes before it are stood in for, as none of the program's is touched.
 */
static struct curl_slist *rewrite(struct laying *l, struct curl_slist *list, const struct request *r)
{
	static const char digits[] = "0123456789abcdef";

	for (; list != NULL && l->n < TRANSFER_NODES - 1; list = list->next) {
		const size_t name = strcspn(list->data, ":;");
		char *data = l->text.at + l->text.used;

		if (name != strlen("traceparent") || strncasecmp(list->data, "traceparent", name) != 0) {
			add_node(l, list->data);
			continue;
		}
		text_add_n(&l->text, list->data, strlen(list->data) + 1);
		if (l->text.cut)
			return list;

		char *id = data + name + 1;

		id += strspn(id, " \t");
		for (size_t i = 0; i < 2 * sizeof(r->context.span_id); i++)
			id[PARENT_AT + i] =
				digits[r->context.span_id[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
		add_node(l, data);
		return list->next;
	}
	return list;
}

/* Returns false when the text had no room. */
static bool lay_out(struct transfer *t, struct request *r, const struct call_wrote *wrote,
		    bool rewrites, char *buf, size_t size)
{
	struct laying l = { .t = t };
	struct curl_slist *rest = t->options.headers;

	/* A second time when its owner ended meanwhile; as a root it has none to lose. */
	for (int tries = 0; tries < 2; tries++) {
		l.text = text_in(buf, size);
		l.n = 0;
		if (call_fields(r, wrote, add_field, &l))
			break;
	}
	if (rewrites)
		rest = rewrite(&l, rest, r);
	if (l.n > 0)
		t->nodes[l.n - 1].next = rest;
	t->list = l.n > 0 ? &t->nodes[0] : NULL;
	return !l.text.cut;
}

static void make_list(struct transfer *t, struct request *r, const struct call_wrote *wrote,
		      bool rewrites)
{
	char *larger;

	/* With redirections nobody knows yet who will have it. */
	if (t->admission.private_peer || (t->options.follows && !config_egress_open(settings))) {
		traffic_count(METRICS_WITHHELD);
		return;
	}
	if (!lay_out(t, r, wrote, rewrites, t->text, sizeof(t->text))) {
		larger = blob_get(&t->blob);
		if (larger == NULL || !lay_out(t, r, wrote, rewrites, larger, BLOB_SIZE)) {
			t->list = NULL;
			traffic_count(METRICS_NO_ROOM);
		}
	}
}

void transfer_relist(struct transfer *t)
{
	const struct call_wrote none = { 0 };
	struct call_wrote wrote = none;
	struct request *r;

	if (t->list == NULL || !guard_enter())
		return;
	t->list = NULL;
	r = request_at(t->call);
	if (r != NULL) {
		read_list(t->options.headers, &wrote);
		make_list(t, r, &wrote, false);
	}
	guard_leave();
}

/* ---- beginning ---- */

static void trace(struct transfer *t)
{
	struct call_wrote wrote = { 0 };
	struct request *r;

	t->owner = current_owner();
	t->call = call_begin(t->owner, clock_wall(), t->began);
	r = request_at(t->call);
	if (r == NULL)
		return;
	read_list(t->options.headers, &wrote);

	const bool rewrites = call_take_ids(r, &wrote);

	if (wrote.n_traceparent > 0)
		traffic_count(METRICS_ADOPTED);
	make_list(t, r, &wrote, rewrites && wrote.traceparent.len > PARENT_AT + 16);
	if (t->list != NULL)
		traffic_count(METRICS_INJECTED);
}

/* libcurl has its addresses built in, for names that end so as well. */
static bool is_localhost(const char *host)
{
	const size_t n = strlen(host), own = strlen("localhost");

	return n >= own && strcasecmp(host + n - own, "localhost") == 0 &&
	       (n == own || host[n - own - 1] == '.');
}

/* Under the guard. */
static bool begin(struct transfer *t, const void *multi)
{
	const struct transfer_options *o = &t->options;
	const enum voice voice = voice_of(o);
	struct in6_addr address;

	if (voice == SOCKETS)
		return false;
	t->tls = scheme_in_force(o) == SCHEME_HTTPS;
	t->port = o->port > 0		? (uint16_t) o->port
		  : o->url.port != 0	? o->url.port
		  : t->tls		? 443
					: 80;
	t->began = clock_now();
	t->named = !address_parse(o->url.host, &address);
	t->loose = t->named && (o->resolves || is_localhost(o->url.host));

	const enum shared_verdict verdict = shared_admit_name(
		o->url.host, t->port, voice == WE_SPEAK, t->began, &t->admission, t->key);

	if (verdict == SHARED_UNGUARDED)
		return false;
	t->multi = multi;
	t->pid = life_pid();
	t->refused = verdict == SHARED_REFUSED;
	t->spoken = voice == WE_SPEAK;
	t->list = NULL;
	t->call = t->owner = (struct request_token) { 0 };
	if (t->spoken)
		speak(t, +1);
	if (settings->trace)
		trace(t);
	/* Release: whoever claims the end, at exit, finds it laid out. */
	atomic_store_explicit(&t->flying, 1, memory_order_release);
	return true;
}

bool transfer_begin(struct transfer *t, const void *multi)
{
	bool begun = false;

	if (armed && life_own_memory() && guard_enter()) {
		begun = begin(t, multi);
		guard_leave();
	}
	return begun;
}

/* ---- ending ---- */

/* Failures of this host or this process, which say nothing of the peer. */
static bool local(int error, uint64_t elapsed)
{
	switch (error) {
	case EACCES:
	case EADDRINUSE:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case EPERM:
		return true;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return elapsed < AT_ONCE_NS; /* no route: the network takes longer to say so */
	}
	return false;
}

/* Waiting in vain, as stream.c judges it. */
static enum breaker_outcome vain(const struct transfer *t, uint64_t now)
{
	return clock_since(t->began, now) >= t->admission.policy.patience_ns &&
			       !shared_succeeded_since(&t->admission, t->began) &&
			       !inbound_hung_up()
		       ? BREAKER_FAILURE
		       : BREAKER_EXCLUDED;
}

/* The connection, or what was said on it, broke: whatever the status was. */
static bool broke(CURLcode code)
{
	switch ((int) code) {
	case CURLE_COULDNT_CONNECT:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_PARTIAL_FILE:
	case CURLE_QUIC_CONNECT_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_HTTP3:
		return true;
	}
	return false;
}

/* The first peer answered, by sending us elsewhere: what happened there is another's. */
static bool went_elsewhere(const struct transfer *t, const struct transfer_facts *f)
{
	struct transfer_url url;

	if (f->redirects <= 0 || f->url == NULL)
		return false;
	read_url(f->url, &url);

	const bool tls = url.scheme == SCHEME_HTTPS;

	return strcasecmp(url.host, t->options.url.host) != 0 ||
	       (url.port != 0 ? url.port : tls ? 443 : 80) != t->port;
}

static int errno_of(const struct transfer_facts *f)
{
	switch ((int) f->code) {
	case CURLE_COULDNT_CONNECT:
		return (int) f->os_errno;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return ECONNRESET;
	}
	return 0;
}

/* What a transfer without an answer comes to. */
static enum breaker_outcome unanswered(const struct transfer *t, const struct transfer_facts *f,
				       uint64_t now)
{
	if (f->given_up || f->code == CURLE_OPERATION_TIMEDOUT)
		return vain(t, now);
	if (f->code == CURLE_COULDNT_CONNECT &&
	    local((int) f->os_errno, clock_since(t->began, now)))
		return BREAKER_EXCLUDED;
	if (broke(f->code) || f->code == CURLE_SEND_ERROR)
		return BREAKER_FAILURE;
	return f->code == CURLE_OK ? BREAKER_SUCCESS : BREAKER_EXCLUDED;
}

static void settle(struct transfer *t, const struct transfer_facts *f, uint64_t now)
{
	struct admission *a = &t->admission;

	if (went_elsewhere(t, f))
		shared_settle(a, BREAKER_SUCCESS, 0, now);
	else if (f->status >= 200 && (f->given_up || !broke(f->code)))
		shared_settle_answer(a, (unsigned) f->status, now);
	else
		shared_settle(a, unanswered(t, f, now), f->given_up ? ETIMEDOUT : errno_of(f), now);
}

static enum span_error error_of(const struct transfer *t, const struct transfer_facts *f)
{
	if (t->refused)
		return SPAN_REFUSED_BY_BREAKER;
	if (f->given_up)
		return f->whole ? SPAN_NO_ERROR : SPAN_ABANDONED;
	switch ((int) f->code) {
	case CURLE_OK:
	case CURLE_HTTP_RETURNED_ERROR:
		return SPAN_NO_ERROR;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return SPAN_CONNECT_FAILED;
	case CURLE_OPERATION_TIMEDOUT:
		return SPAN_TIMEOUT;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return SPAN_RESET;
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
		return SPAN_EARLY_END;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return SPAN_TLS;
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_WRITE_ERROR:
		return SPAN_ABANDONED;
	}
	return SPAN_OTHER;
}

static enum span_protocol protocol_of(long version)
{
	switch (version) {
	case CURL_HTTP_VERSION_1_0:
		return SPAN_HTTP_1_0;
	case CURL_HTTP_VERSION_1_1:
		return SPAN_HTTP_1_1;
	case CURL_HTTP_VERSION_2_0:
		return SPAN_HTTP_2;
	}
	return SPAN_NO_PROTOCOL;
}

static struct propagate_value value_of(const char *text)
{
	return (struct propagate_value) { text, strlen(text) };
}

static void end_call(struct transfer *t, const struct transfer_facts *f, uint64_t now)
{
	struct request *r = request_at(t->call);
	const struct transfer_url *url = &t->options.url;
	const bool bracketed = strchr(url->host, ':') != NULL;
	char buf[sizeof(url->host) + 3];
	struct text host = text_in(buf, sizeof(buf));

	if (r == NULL)
		return;
	text_add(&host, bracketed ? "[" : "");
	text_add(&host, url->host);
	text_add(&host, bracketed ? "]" : "");
	call_describe(r, value_of(f->method != NULL ? f->method : "GET"),
		      value_of(url->path[0] != '\0' ? url->path : "/"), value_of(buf), t->port,
		      protocol_of(f->version));
	if (t->tls)
		r->span.span.bits |= SPAN_TLS_INSIDE;
	request_end(t->call, t->refused ? 0 : (uint16_t) f->status, error_of(t, f), now);
}

/* Under the guard, by whoever has claimed the end. */
static void end(struct transfer *t, const struct transfer_facts *f)
{
	const uint64_t now = clock_now();

	if (t->spoken)
		speak(t, -1);
	if (t->pid == life_pid()) { /* else its parent's to tell */
		if (t->spoken && t->admission.judged)
			settle(t, f, now);
		end_call(t, f, now);
	} else {
		request_drop(t->call);
	}
	blob_give(&t->blob);
}

void transfer_end(struct transfer *t, const struct transfer_facts *f)
{
	static const struct transfer_facts nothing = { .given_up = true };

	if (atomic_load_explicit(&t->flying, memory_order_relaxed) == 0 || !life_own_memory() ||
	    !guard_enter())
		return;
	/* Acquire: pairs with begin(). */
	if (atomic_exchange_explicit(&t->flying, 0, memory_order_acquire) != 0)
		end(t, f != NULL ? f : &nothing);
	guard_leave();
}

static void end_at_exit(struct transfer *t, void *arg)
{
	static const struct transfer_facts nothing = { .given_up = true };

	(void) arg;
	if (atomic_exchange_explicit(&t->flying, 0, memory_order_acquire) != 0)
		end(t, &nothing);
}

void curl_settle_all(void)
{
	transfer_each(end_at_exit, NULL);
}
