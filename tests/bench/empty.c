/* SPDX-License-Identifier: Apache-2.0 */
/* An object that does nothing: what preloading anything at all costs. */
