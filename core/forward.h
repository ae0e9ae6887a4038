/* SPDX-License-Identifier: Apache-2.0 */
/* Which fields the user wants passed on from a request to those that it causes. */
#ifndef CORE_FORWARD_H
#define CORE_FORWARD_H

#include <stdbool.h>

#include "core/http1.h"
#include "core/piece.h"

/*
 * forward_add - one field name, kept in lower case, once
 * Returns false when it is no name, has more than HTTP1_NAME_SIZE - 1 bytes, may not be passed
 * on, or finds no room; @extra untouched. The caller looks at extra->n first, to say so.
 *
 * Refused are fields that we write ourselves, that belong to one connection or one message,
 * and credentials, which the next service may have no right to see.
 */
bool forward_add(struct http1_extra *extra, struct piece name);

#endif
