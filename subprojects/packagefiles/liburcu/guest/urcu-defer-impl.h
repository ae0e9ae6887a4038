/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for liburcu's file of this name: defer_rcu starts a thread in the host, so a guest has none. */
