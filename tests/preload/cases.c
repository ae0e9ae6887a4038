/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/preload/cases.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tests/preload/host.h"

struct cases cases_choose(long n)
{
	const char *given = getenv("AGENTSHIM_TEST_SEED"), *number = getenv("AGENTSHIM_TEST_CASES");
	const char *colon = given != NULL ? strchr(given, ':') : NULL;
	struct cases c = { .end = number != NULL ? atol(number) : n };

	if (given != NULL) {
		c.seed = strtoull(given, NULL, 10);
	} else {
		(void) getrandom(&c.seed, sizeof(c.seed), 0);
		c.seed %= 1000000000;
	}
	if (colon != NULL) {
		c.first = atol(colon + 1);
		c.end = c.first + 1;
	}
	print_message("# AGENTSHIM_TEST_SEED=%ju\n", (uintmax_t) c.seed);
	return c;
}

struct random cases_random(const struct cases *c, long number)
{
	struct random r = { c->seed * UINT64_C(0x2545f4914f6cdd1d) + (uint64_t) number };

	(void) random_next(&r);
	return r;
}
