/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One row of functions for each AEAD over the contexts of nettle and wolfCrypt. Neither library
 * keeps state of its own for these calls, so any thread may work, each in its own context. */

#include "net/tls_aead.h"

#include <assert.h>
#include <string.h>

#include <nettle/gcm.h>
#include <nettle/memops.h>
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/chacha20_poly1305.h>

struct aead_row {
    size_t key_bytes;
    void (*load)(struct tls_aead_ctx *c, const uint8_t *key);
    void (*start)(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad, size_t aad_len);
    void (*crypt)(struct tls_aead_ctx *c, uint8_t *p, size_t len);
    void (*tag)(struct tls_aead_ctx *c, uint8_t *tag);
};

#define SPACE_BYTES sizeof(((struct tls_aead_ctx *)0)->space)

/* AES-GCM -------------------------------------------------------------------------------------- */

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

/* wolfCrypt's calls fail only for arguments and orders of calls that do not occur here. */

static_assert(sizeof(ChaChaPoly_Aead) <= SPACE_BYTES, "the context holds wolfCrypt's");

/* wolfCrypt takes the key with each nonce. */
static void load_chacha(struct tls_aead_ctx *c, const uint8_t *key)
{
    (void)c;
    (void)key;
}

static void start_chacha(struct tls_aead_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                         size_t aad_len)
{
    ChaChaPoly_Aead *chacha = (ChaChaPoly_Aead *)c->space;
    CHECK(wc_ChaCha20Poly1305_Init(chacha, c->key, nonce, c->sealing) == 0);
    CHECK(wc_ChaCha20Poly1305_UpdateAad(chacha, aad, (word32)aad_len) == 0);
}

static void crypt_chacha(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    CHECK(wc_ChaCha20Poly1305_UpdateData((ChaChaPoly_Aead *)c->space, p, p, (word32)len) == 0);
}

static void tag_chacha(struct tls_aead_ctx *c, uint8_t *tag)
{
    CHECK(wc_ChaCha20Poly1305_Final((ChaChaPoly_Aead *)c->space, tag) == 0);
}

/* The table ------------------------------------------------------------------------------------ */

static const struct aead_row rows[TLS_AEAD_COUNT] = {
    [TLS_AEAD_AES_128_GCM] = {16, load_aes_128, start_aes_128, crypt_aes_128, tag_aes_128},
    [TLS_AEAD_AES_256_GCM] = {32, load_aes_256, start_aes_256, crypt_aes_256, tag_aes_256},
    [TLS_AEAD_CHACHA20_POLY1305] = {32, load_chacha, start_chacha, crypt_chacha, tag_chacha},
};

/* The row of the loaded key. */
static const struct aead_row *row_of(const struct tls_aead_ctx *c)
{
    DCHECK(c->loaded != 0);
    return &rows[c->loaded - 1];
}

size_t tls_aead_key_bytes(enum tls_aead aead)
{
    return rows[aead].key_bytes;
}

bool tls_aead_has(const struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key)
{
    return c->loaded == aead + 1 && memeql_sec(c->key, key, rows[aead].key_bytes) != 0;
}

void tls_aead_load(struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key)
{
    if (tls_aead_has(c, aead, key))
        return;
    memcpy(c->key, key, rows[aead].key_bytes);
    c->loaded = (uint8_t)(aead + 1);
    rows[aead].load(c, key);
}

void tls_aead_start(struct tls_aead_ctx *c, bool sealing, const uint8_t nonce[TLS_AEAD_NONCE_BYTES],
                    const uint8_t *aad, size_t aad_len)
{
    c->sealing = sealing;
    row_of(c)->start(c, nonce, aad, aad_len);
}

void tls_aead_crypt(struct tls_aead_ctx *c, uint8_t *p, size_t len)
{
    row_of(c)->crypt(c, p, len);
}

void tls_aead_tag(struct tls_aead_ctx *c, uint8_t tag[TLS_AEAD_TAG_BYTES])
{
    row_of(c)->tag(c, tag);
}

bool tls_aead_is_same(const uint8_t a[TLS_AEAD_TAG_BYTES], const uint8_t b[TLS_AEAD_TAG_BYTES])
{
    return memeql_sec(a, b, TLS_AEAD_TAG_BYTES) != 0;
}

void tls_aead_wipe(struct tls_aead_ctx *c)
{
    explicit_bzero(c, sizeof *c);
}
