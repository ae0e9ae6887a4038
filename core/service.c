/* SPDX-License-Identifier: Apache-2.0 */
/* Names a service after its executable. */
#include "core/service.h"

#include <stdbool.h>
#include <string.h>

#include "core/text.h"

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
	for (const unsigned char *b = bytes; n > 0; b++, n--)
		hash = (hash ^ *b) * UINT64_C(0x100000001b3);
	return hash;
}

void service_identify(const struct service_facts *facts, struct service *ret)
{
	const bool chosen = facts->chosen != NULL && facts->chosen[0] != '\0';
	const char *slash = strrchr(facts->exe, '/');
	const char *name = chosen ? facts->chosen : slash != NULL ? slash + 1 : facts->exe;
	struct text shown = text_in(ret->name, sizeof(ret->name));
	struct text file = text_in(ret->file, sizeof(ret->file));
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	if (!chosen)
		hash = mix(hash, facts->exe, strlen(facts->exe));
	hash = mix(hash, &facts->netns, sizeof(facts->netns));
	hash = mix(hash, &facts->timens, sizeof(facts->timens));
	for (; *name != '\0'; name++)
		text_add_n(&shown, *name == '/' ? "_" : name, 1);
	text_add(&file, ret->name);
	text_add(&file, "-");
	text_add_hex(&file, hash >> 20, 11);
}
