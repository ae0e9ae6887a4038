/* SPDX-License-Identifier: Apache-2.0 */
/* Field names that may be passed on, and those that may not. */
#include "core/forward.h"

#include <string.h>

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* A name that ends with '-' stands for all that begin so. */
static const char *const refused[] = {
	/* ours */
	"b3",
	"baggage",
	"traceparent",
	"tracestate",
	"uber-trace-id",
	"x-b3-",
	"x-trace-id",
	/* of one connection, RFC 9110 7.6.1, or of the way to one server */
	"connection",
	"expect",
	"host",
	"http2-settings",
	"keep-alive",
	"proxy-",
	"te",
	"trailer",
	"upgrade",
	/* of one message's body */
	"content-",
	"transfer-encoding",
	/* credentials */
	"authorization",
	"cookie",
	"cookie2",
	"set-cookie",
	"set-cookie2",
	"www-authenticate",
};

/* A token, RFC 9110 5.6.2. */
static bool token_byte(char c)
{
	const char l = piece_lower(c);

	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9')
	       || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_refused(const char *name)
{
	for (size_t i = 0; i < N_ELEMENTS(refused); i++) {
		const size_t n = strlen(refused[i]);

		if (refused[i][n - 1] == '-' ? strncmp(name, refused[i], n) == 0
					     : strcmp(name, refused[i]) == 0)
			return true;
	}
	return false;
}

static bool has(const struct http1_extra *extra, const char *name)
{
	for (size_t i = 0; i < extra->n; i++) {
		if (strcmp(extra->names[i], name) == 0)
			return true;
	}
	return false;
}

bool forward_add(struct http1_extra *extra, struct piece name)
{
	char kept[HTTP1_NAME_SIZE];

	if (name.at == name.end || !piece_copied(name, kept, sizeof(kept)))
		return false;
	for (size_t i = 0; i < piece_length(name); i++) {
		if (!token_byte(name.at[i]))
			return false;
		kept[i] = piece_lower(kept[i]);
	}
	if (is_refused(kept))
		return false;
	if (has(extra, kept))
		return true;
	if (extra->n == HTTP1_EXTRA_MAX)
		return false;
	memcpy(extra->names[extra->n++], kept, sizeof(kept));
	return true;
}
