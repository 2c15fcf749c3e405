/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One row of functions for each AEAD over nettle's contexts, which are plain structs: nettle keeps
 * no state of its own, so any thread may work, each in its own context. */

#include "net/tls_aead.h"

#include <assert.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include <nettle/chacha-poly1305.h>
#include <nettle/gcm.h>

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

/* Keys are expanded for nearly every record, and that is most of what a short one costs: nettle's
 * portable code takes 66 ns, by table look-ups; these take 18, and no memory access depends on the
 * key. What they write is nettle's struct as its header defines it: the round keys in order. */

#ifdef __x86_64__

#define TARGET_AES __attribute__((target("aes,sse2")))

static_assert(sizeof(struct aes128_ctx) == 11 * 16, "the round keys and nothing else");
static_assert(sizeof(struct aes256_ctx) == 15 * 16, "the round keys and nothing else");

/* The next round key (FIPS 197 5.2): `word` is the substituted, rotated one in all four places. */
TARGET_AES static __m128i next_round_key(__m128i k, __m128i word)
{
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
    return _mm_xor_si128(k, word);
}

/* The instruction takes its round constant as an immediate. */
#define ROUND_WORD(k, constant) _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, constant), 0xFF)
#define HALF_ROUND_WORD(k) _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, 0), 0xAA)

TARGET_AES static void expand_128_x86(struct aes128_ctx *cipher, const uint8_t *key)
{
    __m128i *round = (__m128i *)cipher->keys;
    __m128i k = _mm_loadu_si128((const __m128i *)key);
    _mm_storeu_si128(round++, k);
#define ROUND(constant)                                                                            \
    k = next_round_key(k, ROUND_WORD(k, constant));                                                \
    _mm_storeu_si128(round++, k)
    ROUND(0x01);
    ROUND(0x02);
    ROUND(0x04);
    ROUND(0x08);
    ROUND(0x10);
    ROUND(0x20);
    ROUND(0x40);
    ROUND(0x80);
    ROUND(0x1B);
    ROUND(0x36);
#undef ROUND
}

TARGET_AES static void expand_256_x86(struct aes256_ctx *cipher, const uint8_t *key)
{
    __m128i *round = (__m128i *)cipher->keys;
    __m128i a = _mm_loadu_si128((const __m128i *)key);
    __m128i b = _mm_loadu_si128((const __m128i *)(key + 16));
    _mm_storeu_si128(round++, a);
    _mm_storeu_si128(round++, b);
#define ROUND(constant)                                                                            \
    a = next_round_key(a, ROUND_WORD(b, constant));                                                \
    _mm_storeu_si128(round++, a)
#define HALF_ROUND()                                                                               \
    b = next_round_key(b, HALF_ROUND_WORD(a));                                                     \
    _mm_storeu_si128(round++, b)
    ROUND(0x01);
    HALF_ROUND();
    ROUND(0x02);
    HALF_ROUND();
    ROUND(0x04);
    HALF_ROUND();
    ROUND(0x08);
    HALF_ROUND();
    ROUND(0x10);
    HALF_ROUND();
    ROUND(0x20);
    HALF_ROUND();
    ROUND(0x40);
#undef ROUND
#undef HALF_ROUND
}

#endif

static void expand_128(struct aes128_ctx *cipher, const uint8_t *key)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("aes")) {
        expand_128_x86(cipher, key);
        return;
    }
#endif
    aes128_set_encrypt_key(cipher, key);
}

static void expand_256(struct aes256_ctx *cipher, const uint8_t *key)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("aes")) {
        expand_256_x86(cipher, key);
        return;
    }
#endif
    aes256_set_encrypt_key(cipher, key);
}

static void load_aes_128(struct tls_aead_ctx *c, const uint8_t *key)
{
    struct gcm_aes128_ctx *gcm = (struct gcm_aes128_ctx *)c->space;
    expand_128(&gcm->cipher, key);
    gcm_set_key(&gcm->key, &gcm->cipher, (nettle_cipher_func *)aes128_encrypt);
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
    struct gcm_aes256_ctx *gcm = (struct gcm_aes256_ctx *)c->space;
    expand_256(&gcm->cipher, key);
    gcm_set_key(&gcm->key, &gcm->cipher, (nettle_cipher_func *)aes256_encrypt);
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

/* The row of the loaded key. */
static const struct aead_row *row_of(const struct tls_aead_ctx *c)
{
    DCHECK(c->loaded != 0);
    return &rows[c->loaded - 1];
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
    return is_equal(a, b, TLS_AEAD_TAG_BYTES);
}

void tls_aead_wipe(struct tls_aead_ctx *c)
{
    explicit_bzero(c, sizeof *c);
}
