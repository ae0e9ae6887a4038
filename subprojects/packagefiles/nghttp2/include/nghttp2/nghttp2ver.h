/* SPDX-License-Identifier: Apache-2.0 */
/* What nghttp2's configure would write. */
#ifndef NGHTTP2VER_H
#define NGHTTP2VER_H

#define NGHTTP2_VERSION     "1.52.0"
#define NGHTTP2_VERSION_NUM 0x013400

#endif
