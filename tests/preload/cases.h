/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which random cases a program runs. AGENTSHIM_TEST_SEED=SEED repeats a run, SEED:CASE one
 * case of it; AGENTSHIM_TEST_CASES asks for another number of cases.
 */
#ifndef TESTS_PRELOAD_CASES_H
#define TESTS_PRELOAD_CASES_H

#include <stdint.h>

#include "tests/preload/streams.h"

struct cases {
	uint64_t seed;
	long first, end; /* the last one is before @end */
};

/* cases_choose - as the environment says, else @n of a new seed; prints the seed */
struct cases cases_choose(long n);

/* cases_random - the numbers of one case */
struct random cases_random(const struct cases *c, long number);

#endif
