/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of C and C++ that names a span of its own: says where in a trace it is within, and
 * whether it is anywhere behind it. With LIBRARY or MAIN it is half of one.
 */
#ifndef MAIN
#include <agentshim.h>
#include <stdio.h>
#endif

int asks(void);

#ifndef MAIN
int asks(void)
{
	void (*volatile end)(void) = agentshim_span_end; /* kept, it has a name of its own */
	char out[AGENTSHIM_TRACEPARENT_SIZE];
	int there;

	agentshim_span_begin("linked");
	agentshim_span_tag("language", "c");
	there = agentshim_traceparent(out);
	(void) printf("%d %s ", there, out);
	end();
	(void) printf("%d\n", agentshim_traceparent(out));
	return 0;
}
#endif

#ifndef LIBRARY
int main(void)
{
	return asks();
}
#endif
