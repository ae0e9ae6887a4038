/* SPDX-License-Identifier: Apache-2.0 */
/* Noticing that the program has put itself under a seccomp filter. */
#include "shim/sandbox.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "shim/life.h"
#include "shim/real.h"
#include "shim/report.h"

_Atomic bool sandboxed;

static void enter(void)
{
	if (!armed || atomic_exchange_explicit(&sandboxed, true, memory_order_relaxed))
		return;
	report_quietly(EVENT_STATE_PRIVATE,
		       "under a seccomp filter of its own this process goes unguarded");
}

void sandbox_seccomp(unsigned long operation, long rc)
{
	/* libseccomp asks what there is by calls that are meant to fail. */
	if (rc >= 0 && (operation == SECCOMP_SET_MODE_STRICT ||
			operation == SECCOMP_SET_MODE_FILTER))
		enter();
}

void sandbox_prctl(unsigned long option, long rc)
{
	if (rc >= 0 && option == PR_SET_SECCOMP)
		enter();
}

EXPORT int prctl(int option, ...)
{
	__builtin_va_list args;
	unsigned long a[4];

	__builtin_va_start(args, option);
	for (int i = 0; i < 4; i++)
		a[i] = __builtin_va_arg(args, unsigned long);
	__builtin_va_end(args);

	const int rc = real.prctl(option, a[0], a[1], a[2], a[3]);

	sandbox_prctl((unsigned long) option, rc);
	return rc;
}
