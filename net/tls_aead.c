/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One row of functions for each AEAD: AES-GCM by net/tls_gcm.h where the processor can do it, the
 * others over nettle's contexts, which are plain structs. Neither keeps a state of its own, so any
 * thread may work, each in its own context. */

#include "net/tls_aead.h"

#include <assert.h>
#include <string.h>

#include <nettle/chacha-poly1305.h>
#include <nettle/gcm.h>

#include "net/tls_gcm.h"

struct aead_row {
    size_t key_bytes;
    void (*load)(struct tls_aead_ctx *c, const uint8_t *key);
    void (*start)(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad, size_t aad_len);
    void (*crypt)(struct tls_aead_ctx *c, uint8_t *p, size_t len);
    void (*tag)(struct tls_aead_ctx *c, uint8_t *tag);
};

#define SPACE_BYTES sizeof(((struct tls_aead_ctx *)0)->space)

/* AES-GCM, by the processor's instructions -------------------------------------------------------
 */

static_assert(sizeof(struct tls_gcm) <= SPACE_BYTES, "the context holds it");

static void load_gcm_128(struct tls_aead_ctx *c, const uint8_t *key)
{
    tls_gcm_load((struct tls_gcm *)c->space, key, 16);
}

static void load_gcm_256(struct tls_aead_ctx *c, const uint8_t *key)
{
    tls_gcm_load((struct tls_gcm *)c->space, key, 32);
}

static void start_gcm(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                      size_t aad_len)
{
    tls_gcm_start((struct tls_gcm *)c->space, nonce, aad, aad_len);
}

static void crypt_gcm(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    if (c->sealing)
        tls_gcm_encrypt((struct tls_gcm *)c->space, p, len);
    else
        tls_gcm_decrypt((struct tls_gcm *)c->space, p, len);
}

static void tag_gcm(struct tls_aead_ctx *c, uint8_t *tag)
{
    tls_gcm_tag((struct tls_gcm *)c->space, tag);
}

/* AES-GCM by nettle ------------------------------------------------------------------------------
 */

static_assert(sizeof(struct gcm_aes128_ctx) <= SPACE_BYTES, "the context holds nettle's");
static_assert(sizeof(struct gcm_aes256_ctx) <= SPACE_BYTES, "the context holds nettle's");

static void load_aes_128(struct tls_aead_ctx *c, const uint8_t *key)
{
    gcm_aes128_set_key((struct gcm_aes128_ctx *)c->space, key);
}

static void start_aes_128(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                          size_t aad_len)
{
    struct gcm_aes128_ctx *gcm = (struct gcm_aes128_ctx *)c->space;
    gcm_aes128_set_iv(gcm, TLS_AEAD_NONCE_BYTES, nonce);
    gcm_aes128_update(gcm, aad_len, aad);
}

static void crypt_aes_128(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    struct gcm_aes128_ctx *gcm = (struct gcm_aes128_ctx *)c->space;
    if (c->sealing)
        gcm_aes128_encrypt(gcm, len, p, p);
    else
        gcm_aes128_decrypt(gcm, len, p, p);
}

static void tag_aes_128(struct tls_aead_ctx *c, uint8_t *tag)
{
    gcm_aes128_digest((struct gcm_aes128_ctx *)c->space, TLS_AEAD_TAG_BYTES, tag);
}

static void load_aes_256(struct tls_aead_ctx *c, const uint8_t *key)
{
    gcm_aes256_set_key((struct gcm_aes256_ctx *)c->space, key);
}

static void start_aes_256(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                          size_t aad_len)
{
    struct gcm_aes256_ctx *gcm = (struct gcm_aes256_ctx *)c->space;
    gcm_aes256_set_iv(gcm, TLS_AEAD_NONCE_BYTES, nonce);
    gcm_aes256_update(gcm, aad_len, aad);
}

static void crypt_aes_256(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    struct gcm_aes256_ctx *gcm = (struct gcm_aes256_ctx *)c->space;
    if (c->sealing)
        gcm_aes256_encrypt(gcm, len, p, p);
    else
        gcm_aes256_decrypt(gcm, len, p, p);
}

static void tag_aes_256(struct tls_aead_ctx *c, uint8_t *tag)
{
    gcm_aes256_digest((struct gcm_aes256_ctx *)c->space, TLS_AEAD_TAG_BYTES, tag);
}

/* ChaCha20-Poly1305 ---------------------------------------------------------------------------- */

static_assert(sizeof(struct chacha_poly1305_ctx) <= SPACE_BYTES, "the context holds nettle's");

static void load_chacha(struct tls_aead_ctx *c, const uint8_t *key)
{
    chacha_poly1305_set_key((struct chacha_poly1305_ctx *)c->space, key);
}

static void start_chacha(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                         size_t aad_len)
{
    struct chacha_poly1305_ctx *chacha = (struct chacha_poly1305_ctx *)c->space;
    chacha_poly1305_set_nonce(chacha, nonce);
    chacha_poly1305_update(chacha, aad_len, aad);
}

static void crypt_chacha(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    struct chacha_poly1305_ctx *chacha = (struct chacha_poly1305_ctx *)c->space;
    if (c->sealing)
        chacha_poly1305_encrypt(chacha, len, p, p);
    else
        chacha_poly1305_decrypt(chacha, len, p, p);
}

static void tag_chacha(struct tls_aead_ctx *c, uint8_t *tag)
{
    chacha_poly1305_digest((struct chacha_poly1305_ctx *)c->space, TLS_AEAD_TAG_BYTES, tag);
}

/* The table ------------------------------------------------------------------------------------ */

static const struct aead_row rows[TLS_AEAD_COUNT] = {
    [TLS_AEAD_AES_128_GCM] = {16, load_aes_128, start_aes_128, crypt_aes_128, tag_aes_128},
    [TLS_AEAD_AES_256_GCM] = {32, load_aes_256, start_aes_256, crypt_aes_256, tag_aes_256},
    [TLS_AEAD_CHACHA20_POLY1305] = {32, load_chacha, start_chacha, crypt_chacha, tag_chacha},
};

static const struct aead_row gcm_rows[] = {
    [TLS_AEAD_AES_128_GCM] = {16, load_gcm_128, start_gcm, crypt_gcm, tag_gcm},
    [TLS_AEAD_AES_256_GCM] = {32, load_gcm_256, start_gcm, crypt_gcm, tag_gcm},
};

static const struct aead_row *row_of(enum tls_aead aead)
{
    return aead != TLS_AEAD_CHACHA20_POLY1305 && tls_gcm_is_available() ? &gcm_rows[aead]
                                                                        : &rows[aead];
}

/* The row of the loaded key. */
static const struct aead_row *row_of_key(const struct tls_aead_ctx *c)
{
    DCHECK(c->loaded != 0);
    return row_of((enum tls_aead)(c->loaded - 1));
}

/* Without a branch or an access that depends on the bytes; len is a multiple of 8. The empty asm
 * keeps compilers from seeing that a difference, once found, stays. */
static bool is_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint64_t difference = 0;
    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        uint64_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        difference |= x ^ y;
        __asm__("" : "+r"(difference));
    }
    return difference == 0;
}

size_t tls_aead_key_bytes(enum tls_aead aead)
{
    return rows[aead].key_bytes;
}

bool tls_aead_has(const struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key)
{
    return c->loaded == aead + 1 && is_equal(c->key, key, rows[aead].key_bytes);
}

void tls_aead_load(struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key)
{
    if (tls_aead_has(c, aead, key))
        return;
    if (c->loaded != 0 && c->loaded != aead + 1) /* the other's expanded key may be the longer */
        tls_aead_wipe(c);
    memcpy(c->key, key, rows[aead].key_bytes);
    c->loaded = (uint8_t)(aead + 1);
    row_of(aead)->load(c, key);
}

void tls_aead_start(struct tls_aead_ctx *c, bool sealing, const uint8_t nonce[TLS_AEAD_NONCE_BYTES],
                    const uint8_t *aad, size_t aad_len)
{
    c->sealing = sealing;
    row_of_key(c)->start(c, nonce, aad, aad_len);
}

void tls_aead_crypt(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    row_of_key(c)->crypt(c, p, len);
}

void tls_aead_tag(struct tls_aead_ctx *c, uint8_t tag[TLS_AEAD_TAG_BYTES])
{
    row_of_key(c)->tag(c, tag);
}

bool tls_aead_is_same(const uint8_t a[TLS_AEAD_TAG_BYTES], const uint8_t b[TLS_AEAD_TAG_BYTES])
{
    return is_equal(a, b, TLS_AEAD_TAG_BYTES);
}

void tls_aead_wipe(struct tls_aead_ctx *c)
{
    explicit_bzero(c, sizeof *c);
}
