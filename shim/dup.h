/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping the table right when descriptors are duplicated. */
#ifndef SHIM_DUP_H
#define SHIM_DUP_H

/*
 * dup_made - @to is now another descriptor for the file of @from; below 0: it failed
 * dup_landing - @to is about to become that, and what it was is closed; @flags as for dup3(2)
 * Context: any thread, signal handlers too; nothing in a vfork child; errno kept.
 */
void dup_made(int from, int to);
void dup_landing(int from, int to, int flags);

#endif
