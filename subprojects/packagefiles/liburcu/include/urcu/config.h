/* SPDX-License-Identifier: Apache-2.0 */
/* What liburcu's configure would find on Linux, x86_64 and aarch64. */
#define CONFIG_RCU_SMP 1
#define CONFIG_RCU_TLS 1
#define CONFIG_RCU_HAVE_CLOCK_GETTIME 1
#define CONFIG_RCU_HAVE_MULTIFLAVOR 1
