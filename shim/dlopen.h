/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that a program loads so that they bind past us (trap T3). */
#ifndef SHIM_DLOPEN_H
#define SHIM_DLOPEN_H

/* dlopen_load - does AGENTSHIM_DEEPBIND name this program? Context: at load. */
void dlopen_load(const char *exe);

#endif
