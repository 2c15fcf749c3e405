/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_HKDF_H
#define NET_TLS_HKDF_H

/* The key derivation of TLS 1.3 (RFC 5869, RFC 8446 7.1), by nettle. A handshake derives some
 * twenty secrets, each by four blocks of SHA-256: with the processor's instructions, which nettle
 * uses and Debian's wolfSSL does not, that is 2 us instead of 30. Pure, any thread. */

#include "core/base.h"

/* Of a suite: RFC 8446 B.4. */
enum tls_hash {
    TLS_HASH_SHA256,
    TLS_HASH_SHA384,
};

#define TLS_HASH_BYTES_MAX 48
/* Of a label with its "tls13 " in front, and of a context: one byte counts them. */
#define TLS_HKDF_LABEL_MAX 249
#define TLS_HKDF_CONTEXT_MAX 255

/* 32 or 48. */
size_t tls_hash_bytes(enum tls_hash hash);

/* HKDF-Extract: tls_hash_bytes() to prk, which may be any of the others. */
void tls_hkdf_extract(enum tls_hash hash, struct bytes salt, struct bytes ikm, uint8_t *prk);

/* HKDF-Expand-Label of a secret of tls_hash_bytes(): out_len bytes, no more than tls_hash_bytes().
 * `label` goes without its "tls13 ". */
void tls_hkdf_expand_label(enum tls_hash hash, const uint8_t *secret, struct bytes label,
                           struct bytes context, uint8_t *out, size_t out_len);

#endif
