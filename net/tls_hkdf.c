/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* HKDF over nettle's HMAC. What it leaves on the stack are secrets: all of it is wiped. */

#include "net/tls_hkdf.h"

#include <string.h>

#include <nettle/hmac.h>

union hmac {
    struct hmac_sha256_ctx sha256;
    struct hmac_sha384_ctx sha384;
};

size_t tls_hash_bytes(enum tls_hash hash)
{
    return hash == TLS_HASH_SHA384 ? SHA384_DIGEST_SIZE : SHA256_DIGEST_SIZE;
}

/* out_len bytes of HMAC(key, data). */
static void hmac(enum tls_hash hash, struct bytes key, struct bytes data, uint8_t *out,
                 size_t out_len)
{
    union hmac c;

    if (hash == TLS_HASH_SHA384) {
        hmac_sha384_set_key(&c.sha384, key.len, key.ptr);
        hmac_sha384_update(&c.sha384, data.len, data.ptr);
        hmac_sha384_digest(&c.sha384, out_len, out);
    } else {
        hmac_sha256_set_key(&c.sha256, key.len, key.ptr);
        hmac_sha256_update(&c.sha256, data.len, data.ptr);
        hmac_sha256_digest(&c.sha256, out_len, out);
    }
    explicit_bzero(&c, sizeof(c));
}

void tls_hkdf_extract(enum tls_hash hash, struct bytes salt, struct bytes ikm, uint8_t *prk)
{
    hmac(hash, salt, ikm, prk, tls_hash_bytes(hash));
}

/* RFC 8446 7.1: HkdfLabel. What follows is RFC 5869 2.3 with one block of output: behind the info
 * stands its number, 1. */
void tls_hkdf_expand_label(enum tls_hash hash, const uint8_t *secret, struct bytes label,
                           struct bytes context, uint8_t *out, size_t out_len)
{
    static const char prefix[] = "tls13 ";
    uint8_t info[2 + 1 + 255 + 1 + 255 + 1];
    uint8_t *p = info;

    CHECK(out_len <= tls_hash_bytes(hash) && label.len <= TLS_HKDF_LABEL_MAX &&
          context.len <= TLS_HKDF_CONTEXT_MAX);
    *p++ = (uint8_t)(out_len >> 8);
    *p++ = (uint8_t)out_len;
    *p++ = (uint8_t)(sizeof(prefix) - 1 + label.len);
    p = mempcpy(p, prefix, sizeof(prefix) - 1);
    p = mempcpy(p, label.ptr, label.len);
    *p++ = (uint8_t)context.len;
    if (context.len > 0)
        p = mempcpy(p, context.ptr, context.len);
    *p++ = 1;
    hmac(hash, (struct bytes){(uint8_t *)secret, tls_hash_bytes(hash)},
         (struct bytes){info, (size_t)(p - info)}, out, out_len);
}
