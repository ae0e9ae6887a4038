/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header blocks as a client or a server might send them, out of a seed, by nghttp2's deflater:
 * fields that come back, so that its table is used, and fields that do not.
 */
#ifndef TESTS_UNIT_H2_MADE_H
#define TESTS_UNIT_H2_MADE_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MADE_FIELDS_MAX 40
#define MADE_TEXT_MAX   131072
#define MADE_BLOCK_MAX  65536

enum made_kind { MADE_REQUEST, MADE_RESPONSE, MADE_INFORMATIONAL, MADE_TRAILERS };

struct made {
	uint64_t random;
	nghttp2_hd_deflater *deflater;
	nghttp2_mem mem;
	size_t n_fields;
	nghttp2_nv fields[MADE_FIELDS_MAX];
	size_t used;
	char text[MADE_TEXT_MAX];
};

static inline uint32_t made_draw(struct made *m, uint32_t below)
{
	m->random = m->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t) (m->random >> 33) % below;
}

/* libc's, for the private copy brings none. */
static inline void *made_malloc(size_t n, void *data)
{
	(void) data;
	return malloc(n);
}

static inline void made_free(void *at, void *data)
{
	(void) data;
	free(at);
}

static inline void *made_calloc(size_t n, size_t size, void *data)
{
	(void) data;
	return calloc(n, size);
}

static inline void *made_realloc(void *at, size_t size, void *data)
{
	(void) data;
	return realloc(at, size);
}

static inline void made_begin(struct made *m, uint32_t seed, size_t table)
{
	*m = (struct made) {
		.random = seed,
		.mem = { NULL, made_malloc, made_free, made_calloc, made_realloc },
	};
	if (nghttp2_hd_deflate_new2(&m->deflater, table, &m->mem) != 0)
		abort();
}

static inline void made_end(struct made *m)
{
	nghttp2_hd_deflate_del(m->deflater);
}

static inline char *made_text(struct made *m, size_t n)
{
	char *at = m->text + m->used;

	if (n + 1 > sizeof(m->text) - m->used)
		abort();
	m->used += n + 1;
	at[n] = '\0';
	return at;
}

/* @value is copied. */
static inline void made_add(struct made *m, const char *name, const char *value)
{
	nghttp2_nv *f = &m->fields[m->n_fields++];
	const size_t name_len = strlen(name), value_len = strlen(value);

	*f = (nghttp2_nv){
		.name = memcpy(made_text(m, name_len), name, name_len),
		.value = memcpy(made_text(m, value_len), value, value_len),
		.namelen = name_len,
		.valuelen = value_len,
		.flags = made_draw(m, 8) == 0 ? NGHTTP2_NV_FLAG_NO_INDEX : 0,
	};
}

/* Letters that Huffman code makes shorter, or longer. */
static inline const char *made_word(struct made *m, size_t n)
{
	const bool plain = made_draw(m, 3) != 0;
	char *at = made_text(m, n);

	for (size_t i = 0; i < n; i++)
		at[i] = (char) (plain ? 'a' + made_draw(m, 26) : '!' + made_draw(m, 94));
	return at;
}

static inline void made_pseudo(struct made *m, enum made_kind kind)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "PROPFIND" };
	static const char *const statuses[] = { "200", "204", "404", "503", "599" };
	static const char *const early[] = { "100", "103" };

	if (kind == MADE_REQUEST) {
		made_add(m, ":method", methods[made_draw(m, 4)]);
		made_add(m, ":scheme", made_draw(m, 2) ? "http" : "https");
		made_add(m, ":path", made_draw(m, 2) ? "/pkg.Service/Method" : made_word(m, 20));
		made_add(m, ":authority", made_draw(m, 4) ? "payments:443" : "other.example");
	} else if (kind != MADE_TRAILERS) {
		made_add(m, ":status",
			 kind == MADE_INFORMATIONAL ? early[made_draw(m, 2)]
						    : statuses[made_draw(m, 5)]);
	}
}

static inline void made_one(struct made *m)
{
	static const char *const names[] = {
		"accept",       "user-agent", "x-request-id",  "te",
		"content-type", "cookie",     "authorization", "date"
	};
	const char *value; /* made first: arguments have no order */
	char name[24];

	switch (made_draw(m, 4)) {
	case 0:
		made_add(m, names[made_draw(m, 8)], "the same");
		break;
	case 1:
		value = made_word(m, made_draw(m, 60));
		made_add(m, names[made_draw(m, 8)], value);
		break;
	case 2:
		(void) snprintf(name, sizeof(name), "x-%u", made_draw(m, 30));
		made_add(m, name, made_draw(m, 2) ? "1" : made_word(m, 4));
		break;
	default:
		made_add(m, "x-long",
			 made_word(m, made_draw(m, made_draw(m, 8) == 0 ? 1500 : 150)));
	}
}

static inline void made_fields(struct made *m, enum made_kind kind)
{
	m->n_fields = m->used = 0;
	made_pseudo(m, kind);
	for (uint32_t n = made_draw(m, 12); n > 0; n--)
		made_one(m);
}

/* The fields as a block; returns its length. */
static inline size_t made_block(struct made *m, char block[MADE_BLOCK_MAX])
{
	const ssize_t n = nghttp2_hd_deflate_hd(m->deflater, (uint8_t *) block, MADE_BLOCK_MAX,
						m->fields, m->n_fields);

	if (n < 0)
		abort();
	return (size_t) n;
}

#endif
