/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Counter mode and GHASH, eight blocks at a time, so that neither waits for the other's results.
 *
 * GHASH's field has its bits in the reverse order of the processor's. Blocks are loaded with their
 * bytes reversed; a carry-less product of two such is short of one shift, which the powers of the
 * hash key bring with them: they are kept times x. A product of 256 bits is reduced from its low
 * end, twice 64 bits by one multiplication with the polynomial's upper bits (SP 800-38D 6.3;
 * Gueron and Kounavis, "Intel Carry-Less Multiplication Instruction and its Usage for Computing
 * the GCM Mode"). */

#include "net/tls_gcm.h"

#include <string.h>

#ifdef __x86_64__

#include <immintrin.h>

#define TARGET __attribute__((target("avx,aes,pclmul")))
#define INLINE TARGET static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL /* does so by itself */
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { BLOCK = 16, BATCH = TLS_GCM_BLOCKS, FEW = 2 };

bool tls_gcm_is_available(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("avx");
}

INLINE __m128i get(const void *p)
{
    return _mm_loadu_si128(p);
}

INLINE void put(void *p, __m128i x)
{
    _mm_storeu_si128(p, x);
}

/* The bytes in reverse order. */
INLINE __m128i reversed(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

/* The field -------------------------------------------------------------------------------------
 */

/* Sums of products, not yet reduced: low + middle * x^64 + high * x^128. */
struct sum {
    __m128i low;
    __m128i middle;
    __m128i high;
};

INLINE void add_product(struct sum *s, __m128i a, __m128i b)
{
    s->low = _mm_xor_si128(s->low, _mm_clmulepi64_si128(a, b, 0x00));
    s->middle = _mm_xor_si128(s->middle, _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01),
                                                       _mm_clmulepi64_si128(a, b, 0x10)));
    s->high = _mm_xor_si128(s->high, _mm_clmulepi64_si128(a, b, 0x11));
}

INLINE __m128i reduce(const struct sum *s)
{
    __m128i polynomial = _mm_set_epi64x(0, (long long)0xC200000000000000);
    __m128i middle = _mm_xor_si128(_mm_xor_si128(s->middle, _mm_shuffle_epi32(s->low, 0x4E)),
                                   _mm_clmulepi64_si128(s->low, polynomial, 0x00));
    return _mm_xor_si128(_mm_xor_si128(s->high, _mm_shuffle_epi32(middle, 0x4E)),
                         _mm_clmulepi64_si128(middle, polynomial, 0x00));
}

/* One factor is a power of the hash key, times x. */
INLINE __m128i product(__m128i a, __m128i b)
{
    struct sum s = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    add_product(&s, a, b);
    return reduce(&s);
}

INLINE __m128i times_x(__m128i h)
{
    /* All ones where the bit that is shifted out of the whole, or out of the lower half, is one. */
    __m128i carries = _mm_srai_epi32(_mm_shuffle_epi32(h, 0xD3), 31);
    __m128i polynomial = _mm_set_epi32((int)0xC2000000, 1, 0, 1);
    return _mm_xor_si128(_mm_add_epi64(h, h), _mm_and_si128(carries, polynomial));
}

INLINE void need_powers(struct tls_gcm *g, uint32_t count)
{
    for (uint32_t n = g->power_count; n < count; n++) { /* the power n + 1 */
        uint32_t half = (n + 1) / 2;
        put(g->powers[n], product(get(g->powers[half - 1]), get(g->powers[n - half])));
    }
    if (g->power_count < count)
        g->power_count = count;
}

/* AES -------------------------------------------------------------------------------------------
 */

INLINE __m128i encrypted(const struct tls_gcm *g, uint32_t rounds, __m128i x)
{
    x = _mm_xor_si128(x, get(g->round_keys[0]));
    UNROLL
    for (uint32_t r = 1; r < rounds; r++)
        x = _mm_aesenc_si128(x, get(g->round_keys[r]));
    return _mm_aesenclast_si128(x, get(g->round_keys[rounds]));
}

/* The next round key (FIPS 197 5.2): `word` is the substituted, rotated one in all four places. */
INLINE __m128i next_round_key(__m128i k, __m128i word)
{
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
    return _mm_xor_si128(k, word);
}

/* The instruction takes its round constant as an immediate. */
#define ROUND_WORD(k, constant) _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, constant), 0xFF)
#define HALF_ROUND_WORD(k) _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, 0), 0xAA)

INLINE void expand_128(uint8_t (*round)[BLOCK], const uint8_t *key)
{
    __m128i k = get(key);
    put(round++, k);
#define ROUND(constant)                                                                            \
    k = next_round_key(k, ROUND_WORD(k, constant));                                                \
    put(round++, k)
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

INLINE void expand_256(uint8_t (*round)[BLOCK], const uint8_t *key)
{
    __m128i a = get(key), b = get(key + BLOCK);
    put(round++, a);
    put(round++, b);
#define ROUND(constant)                                                                            \
    a = next_round_key(a, ROUND_WORD(b, constant));                                                \
    put(round++, a)
#define HALF_ROUND()                                                                               \
    b = next_round_key(b, HALF_ROUND_WORD(a));                                                     \
    put(round++, b)
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

/* The key stream of the next `lanes` blocks, a constant, of which `count` are used. The counter is
 * the last word of its block (6.2), which with its bytes reversed is the first. */
INLINE void key_stream(struct tls_gcm *g, uint32_t rounds, uint32_t count, uint32_t lanes,
                       __m128i x[BATCH])
{
    __m128i counter = get(g->counter), key = get(g->round_keys[0]);
    put(g->counter, _mm_add_epi32(counter, _mm_set_epi32(0, 0, 0, (int)count)));
    UNROLL
    for (uint32_t i = 0; i < lanes; i++) {
        x[i] = _mm_xor_si128(reversed(counter), key);
        counter = _mm_add_epi32(counter, _mm_set_epi32(0, 0, 0, 1));
    }
    for (uint32_t r = 1; r < rounds; r++) {
        key = get(g->round_keys[r]);
        UNROLL
        for (uint32_t i = 0; i < lanes; i++)
            x[i] = _mm_aesenc_si128(x[i], key);
    }
    key = get(g->round_keys[rounds]);
    UNROLL
    for (uint32_t i = 0; i < lanes; i++)
        x[i] = _mm_aesenclast_si128(x[i], key);
}

/* Messages --------------------------------------------------------------------------------------
 */

TARGET void tls_gcm_load(struct tls_gcm *g, const uint8_t *key, size_t key_bytes)
{
    __m128i zero = _mm_setzero_si128(), h;
    CHECK(key_bytes == 16 || key_bytes == 32);
    if (key_bytes == 16) {
        expand_128(g->round_keys, key);
        g->rounds = 10;
        h = encrypted(g, 10, zero);
    } else {
        expand_256(g->round_keys, key);
        g->rounds = 14;
        h = encrypted(g, 14, zero);
    }
    put(g->powers[0], times_x(reversed(h)));
    for (int n = 1; n < BATCH; n++) /* those of the former key */
        put(g->powers[n], zero);
    g->power_count = 1;
}

/* Hashes one block. */
INLINE void hash_block(struct tls_gcm *g, __m128i block)
{
    __m128i hash = _mm_xor_si128(get(g->hash), reversed(block));
    put(g->hash, product(hash, get(g->powers[0])));
}

/* The first `len` bytes of 16, zeros behind. */
INLINE __m128i first_bytes(__m128i x, size_t len)
{
    static const uint8_t ones_then_zeros[2 * BLOCK] = {
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    };
    return _mm_and_si128(x, get(ones_then_zeros + BLOCK - len));
}

/* Up to a block, with zeros behind. Nothing else is read. */
INLINE __m128i padded(const uint8_t *p, size_t len)
{
    uint8_t block[BLOCK] = {0};
    memcpy(block, p, len);
    return get(block);
}

/* The first counter block: nonce, then 1. Read in the pieces in which it was written, for which
 * the processor need not wait. */
INLINE __m128i first_block(const uint8_t *nonce)
{
    uint32_t salt;
    uint64_t rest;
    memcpy(&salt, nonce, sizeof salt);
    memcpy(&rest, nonce + sizeof salt, sizeof rest);
    return _mm_set_epi64x((long long)(rest >> 32 | UINT64_C(1) << 56),
                          (long long)(rest << 32 | salt));
}

TARGET void tls_gcm_start(struct tls_gcm *g, const uint8_t *nonce, const uint8_t *aad,
                          size_t aad_len)
{
    __m128i block = first_block(nonce);
    put(g->mask, g->rounds == 10 ? encrypted(g, 10, block) : encrypted(g, 14, block));
    put(g->counter, _mm_add_epi32(reversed(block), _mm_set_epi32(0, 0, 0, 1)));
    put(g->hash, _mm_setzero_si128());
    g->aad_bytes = aad_len;
    g->bytes = 0;
    for (; aad_len > BLOCK; aad += BLOCK, aad_len -= BLOCK)
        hash_block(g, get(aad));
    if (aad_len > 0)
        hash_block(g, padded(aad, aad_len));
}

/* Eight blocks. */
INLINE void crypt_batch(struct tls_gcm *g, uint32_t rounds, bool sealing, uint8_t *p)
{
    __m128i x[BATCH], hash = get(g->hash);
    struct sum s = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    key_stream(g, rounds, BATCH, BATCH, x);
    UNROLL
    for (int i = 0; i < BATCH; i++) {
        __m128i in = get(p + BLOCK * i), out = _mm_xor_si128(in, x[i]);
        __m128i hashed = reversed(sealing ? out : in);
        put(p + BLOCK * i, out);
        if (i == 0)
            hashed = _mm_xor_si128(hashed, hash);
        add_product(&s, hashed, get(g->powers[BATCH - 1 - i]));
    }
    put(g->hash, reduce(&s));
}

/* A block of which only `len` bytes are there. Of a longer text the last 16 bytes are read at once:
 * bytes that were written just now are slow to come as parts of a block. */
INLINE __m128i cut_block(const uint8_t *p, size_t len, bool has_more_before)
{
    static const uint8_t from[2 * BLOCK] = {
        0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,
        11,   12,   13,   14,   15,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    };
    return has_more_before ? _mm_shuffle_epi8(get(p + len - BLOCK), get(from + BLOCK - len))
                           : padded(p, len);
}

/* The last blocks, `lanes` at the most, of which the last may be cut. */
INLINE void crypt_rest(struct tls_gcm *g, uint32_t rounds, bool sealing, uint32_t lanes, uint8_t *p,
                       size_t len)
{
    __m128i x[BATCH], hash = get(g->hash);
    struct sum s = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    uint32_t whole = (uint32_t)(len / BLOCK), cut = (uint32_t)(len % BLOCK);
    uint32_t count = whole + (cut > 0);
    __m128i last = cut > 0 ? cut_block(p + BLOCK * whole, cut, whole > 0) : _mm_setzero_si128();
    need_powers(g, count);
    key_stream(g, rounds, count, lanes, x);
    UNROLL
    for (uint32_t i = 0; i < lanes; i++) {
        if (i >= count)
            break;
        __m128i in = i < whole ? get(p + BLOCK * i) : last, out = _mm_xor_si128(in, x[i]);
        if (i < whole) {
            put(p + BLOCK * i, out);
        } else {
            out = first_bytes(out, cut);
            uint8_t bytes[BLOCK];
            put(bytes, out);
            memcpy(p + BLOCK * i, bytes, cut);
        }
        __m128i hashed = reversed(sealing ? out : in);
        if (i == 0)
            hashed = _mm_xor_si128(hashed, hash);
        add_product(&s, hashed, get(g->powers[count - 1 - i]));
    }
    put(g->hash, reduce(&s));
}

INLINE void crypt(struct tls_gcm *g, uint32_t rounds, bool sealing, uint8_t *p, size_t len)
{
    g->bytes += len;
    if (len >= BATCH * BLOCK)
        need_powers(g, BATCH);
    for (; len >= BATCH * BLOCK; p += BATCH * BLOCK, len -= BATCH * BLOCK)
        crypt_batch(g, rounds, sealing, p);
    if (len > FEW * BLOCK)
        crypt_rest(g, rounds, sealing, BATCH, p, len);
    else if (len > 0)
        crypt_rest(g, rounds, sealing, FEW, p, len);
}

TARGET void tls_gcm_encrypt(struct tls_gcm *g, uint8_t *p, size_t len)
{
    if (g->rounds == 10)
        crypt(g, 10, true, p, len);
    else
        crypt(g, 14, true, p, len);
}

TARGET void tls_gcm_decrypt(struct tls_gcm *g, uint8_t *p, size_t len)
{
    if (g->rounds == 10)
        crypt(g, 10, false, p, len);
    else
        crypt(g, 14, false, p, len);
}

TARGET void tls_gcm_tag(struct tls_gcm *g, uint8_t *tag)
{
    uint64_t aad_bits = g->aad_bytes * 8, bits = g->bytes * 8;
    __m128i lengths = _mm_set_epi64x((long long)aad_bits, (long long)bits);
    hash_block(g, reversed(lengths));
    put(tag, _mm_xor_si128(reversed(get(g->hash)), get(g->mask)));
}

#else

bool tls_gcm_is_available(void)
{
    return false;
}

void tls_gcm_load(struct tls_gcm *g, const uint8_t *key, size_t key_bytes)
{
    (void)g, (void)key, (void)key_bytes;
    CHECK(false);
}

void tls_gcm_start(struct tls_gcm *g, const uint8_t *nonce, const uint8_t *aad, size_t aad_len)
{
    (void)g, (void)nonce, (void)aad, (void)aad_len;
    CHECK(false);
}

void tls_gcm_encrypt(struct tls_gcm *g, uint8_t *p, size_t len)
{
    (void)g, (void)p, (void)len;
    CHECK(false);
}

void tls_gcm_decrypt(struct tls_gcm *g, uint8_t *p, size_t len)
{
    (void)g, (void)p, (void)len;
    CHECK(false);
}

void tls_gcm_tag(struct tls_gcm *g, uint8_t *tag)
{
    (void)g, (void)tag;
    CHECK(false);
}

#endif
