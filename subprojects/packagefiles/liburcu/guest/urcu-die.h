/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for liburcu's urcu-die.h, which writes to stderr and aborts. All its users
 * return void: a guest leaves the function, remembers, and guest.c reports false.
 */
#ifndef _URCU_DIE_H
#define _URCU_DIE_H

#define urcu_die(cause)                                                                  \
	do {                                                                             \
		guest_died = true;                                                       \
		return;                                                                  \
	} while (0)

#endif
