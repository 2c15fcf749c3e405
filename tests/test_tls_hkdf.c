/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Key derivation: the vectors of RFC 5869 and RFC 8448, and wolfSSL as a second opinion. */

#include "net/tls_hkdf.h"

#include <criterion/criterion.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/types.h>

static const struct {
    enum tls_hash hash;
    int library;
} hashes[] = {{TLS_HASH_SHA256, WC_SHA256}, {TLS_HASH_SHA384, WC_SHA384}};

static struct bytes text(const char *s)
{
    return (struct bytes){(uint8_t *)s, strlen(s)};
}

Test(tls_hkdf, extract_gives_what_rfc_5869_says)
{
    static const uint8_t prk[] = {0x07, 0x77, 0x09, 0x36, 0x2c, 0x2e, 0x32, 0xdf, 0x0d, 0xdc, 0x3f,
                                  0x0d, 0xc4, 0x7b, 0xba, 0x63, 0x90, 0xb6, 0xc7, 0x3b, 0xb5, 0x0f,
                                  0x9c, 0x31, 0x22, 0xec, 0x84, 0x4a, 0xd7, 0xc2, 0xb3, 0xe5};
    uint8_t salt[13], ikm[22], out[32];

    for (uint8_t i = 0; i < sizeof(salt); i++)
        salt[i] = i;
    memset(ikm, 0x0b, sizeof(ikm));
    tls_hkdf_extract(TLS_HASH_SHA256, (struct bytes){salt, sizeof(salt)},
                     (struct bytes){ikm, sizeof(ikm)}, out);
    cr_assert_arr_eq(out, prk, sizeof(prk));
}

/* RFC 8448 3: early secret and what is derived from it; key and IV of the server's handshake. */
Test(tls_hkdf, secrets_and_keys_are_those_of_rfc_8448)
{
    static const uint8_t early[] = {0x33, 0xad, 0x0a, 0x1c, 0x60, 0x7e, 0xc0, 0x3b,
                                    0x09, 0xe6, 0xcd, 0x98, 0x93, 0x68, 0x0c, 0xe2,
                                    0x10, 0xad, 0xf3, 0x00, 0xaa, 0x1f, 0x26, 0x60,
                                    0xe1, 0xb2, 0x2e, 0x10, 0xf1, 0x70, 0xf9, 0x2a};
    static const uint8_t hash_of_nothing[] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,
                                              0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                                              0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c,
                                              0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
    static const uint8_t derived[] = {0x6f, 0x26, 0x15, 0xa1, 0x08, 0xc7, 0x02, 0xc5,
                                      0x67, 0x8f, 0x54, 0xfc, 0x9d, 0xba, 0xb6, 0x97,
                                      0x16, 0xc0, 0x76, 0x18, 0x9c, 0x48, 0x25, 0x0c,
                                      0xeb, 0xea, 0xc3, 0x57, 0x6c, 0x36, 0x11, 0xba};
    static const uint8_t server[] = {0xb6, 0x7b, 0x7d, 0x69, 0x0c, 0xc1, 0x6c, 0x4e,
                                     0x75, 0xe5, 0x42, 0x13, 0xcb, 0x2d, 0x37, 0xb4,
                                     0xe9, 0xc9, 0x12, 0xbc, 0xde, 0xd9, 0x10, 0x5d,
                                     0x42, 0xbe, 0xfd, 0x59, 0xd3, 0x91, 0xad, 0x38};
    static const uint8_t key[] = {0x3f, 0xce, 0x51, 0x60, 0x09, 0xc2, 0x17, 0x27,
                                  0xd0, 0xf2, 0xe4, 0xe8, 0x6e, 0xe4, 0x03, 0xbc};
    static const uint8_t iv[] = {0x5d, 0x31, 0x3e, 0xb2, 0x67, 0x12,
                                 0x76, 0xee, 0x13, 0x00, 0x0b, 0x30};
    static uint8_t zeros[32];
    struct bytes none = {NULL, 0};
    uint8_t out[32];

    tls_hkdf_extract(TLS_HASH_SHA256, none, (struct bytes){zeros, sizeof(zeros)}, out);
    cr_assert_arr_eq(out, early, sizeof(early));
    tls_hkdf_expand_label(TLS_HASH_SHA256, early, text("derived"),
                          (struct bytes){(uint8_t *)hash_of_nothing, 32}, out, 32);
    cr_assert_arr_eq(out, derived, sizeof(derived));
    tls_hkdf_expand_label(TLS_HASH_SHA256, server, text("key"), none, out, sizeof(key));
    cr_assert_arr_eq(out, key, sizeof(key));
    tls_hkdf_expand_label(TLS_HASH_SHA256, server, text("iv"), none, out, sizeof(iv));
    cr_assert_arr_eq(out, iv, sizeof(iv));
}

static void compare(size_t which, size_t label_len, size_t context_len, size_t out_len)
{
    uint8_t secret[TLS_HASH_BYTES_MAX], label[256], context[256];
    uint8_t ours[TLS_HASH_BYTES_MAX], theirs[TLS_HASH_BYTES_MAX];
    size_t len = tls_hash_bytes(hashes[which].hash);

    memset(secret, (int)(label_len + context_len), sizeof(secret));
    memset(label, (int)context_len + 1, sizeof(label));
    memset(context, (int)label_len, sizeof(context));
    tls_hkdf_expand_label(hashes[which].hash, secret, (struct bytes){label, label_len},
                          (struct bytes){context, context_len}, ours, out_len);
    cr_assert_eq(wc_Tls13_HKDF_Expand_Label(theirs, (word32)out_len, secret, (word32)len,
                                            (const byte *)"tls13 ", 6, label, (word32)label_len,
                                            context, (word32)context_len, hashes[which].library),
                 0);
    cr_assert_arr_eq(ours, theirs, out_len);
}

Test(tls_hkdf, every_length_gives_what_wolfssl_gives)
{
    for (size_t which = 0; which < ARRAY_LEN(hashes); which++) {
        size_t len = tls_hash_bytes(hashes[which].hash);

        for (size_t n = 1; n <= len; n++)
            compare(which, 12, len, n);
        for (size_t n = 1; n <= 18; n++) /* the longest label that the RFC names has 12 */
            compare(which, n, 0, len);
        for (size_t n = 0; n <= 48; n++)
            compare(which, 3, n, len);
    }
}

/* The master secret is extracted over the handshake secret's own memory. */
Test(tls_hkdf, extract_may_write_over_what_it_reads)
{
    for (size_t which = 0; which < ARRAY_LEN(hashes); which++) {
        size_t len = tls_hash_bytes(hashes[which].hash);
        uint8_t salt[TLS_HASH_BYTES_MAX], ikm[TLS_HASH_BYTES_MAX], good[TLS_HASH_BYTES_MAX];

        memset(salt, 1, sizeof(salt));
        memset(ikm, 2, sizeof(ikm));
        cr_assert_eq(
            wc_Tls13_HKDF_Extract(good, salt, (int)len, ikm, (int)len, hashes[which].library), 0);
        tls_hkdf_extract(hashes[which].hash, (struct bytes){salt, len}, (struct bytes){ikm, len},
                         ikm);
        cr_assert_arr_eq(ikm, good, len);
        memset(ikm, 2, sizeof(ikm));
        tls_hkdf_extract(hashes[which].hash, (struct bytes){salt, len}, (struct bytes){ikm, len},
                         salt);
        cr_assert_arr_eq(salt, good, len);
    }
}
