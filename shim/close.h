/* SPDX-License-Identifier: Apache-2.0 */
/* Letting descriptors go, for every call that does. */
#ifndef SHIM_CLOSE_H
#define SHIM_CLOSE_H

/*
 * close_leaving - @fd is about to be closed or replaced
 * Context: any thread, signal handlers too; one load when it is not tracked; nothing in a
 * vfork child, whose parent still has the connection; errno kept.
 */
void close_leaving(int fd);

/* close_range_leaving - the same for @first to @last; @flags of close_range(2) */
void close_range_leaving(unsigned first, unsigned last, int flags);

#endif
