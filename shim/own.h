/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spans that the program opens by itself, through the names of shim/api/agentshim.h. They nest
 * within their thread, which alone ends them.
 */
#ifndef SHIM_OWN_H
#define SHIM_OWN_H

/*
 * own_end_all - the process ends: what is still open has been abandoned
 * Context: under the guard; errno clobbered.
 */
void own_end_all(void);

#endif
