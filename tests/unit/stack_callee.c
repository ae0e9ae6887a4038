/* SPDX-License-Identifier: Apache-2.0 */
/* A library that test_stack loads with dlopen and calls through. */
void callee_pass(void (*call)(void));

void callee_pass(void (*call)(void))
{
	call();
	__asm__ volatile("" ::: "memory"); /* no tail call: this frame is looked for */
}
