/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that bear no libc name, for code that lives beneath our own hooks. */
#ifndef CORE_RAW_H
#define CORE_RAW_H

#if defined(__x86_64__)
/*
 * raw_syscall - enter the kernel without libc
 *
 * libc's syscall(), poll(), read() … may be our own hooks by the time a private library
 * calls them; these instructions never are.
 *
 * Returns what the kernel returned: a result, or -errno.
 * Context: any thread, signal handlers too, before the constructor too; errno kept.
 */
static inline long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "agentshim runs on x86_64 and aarch64"
#endif

#endif
