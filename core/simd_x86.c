/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The kernels for x86-64, each compiled for its instruction set by a function attribute, so that
 * one build runs everywhere. Any thread. Order: SSE4, AVX2, AVX-512; what is named _16, _32 and _64
 * works on vectors of so many bytes, and a wider set uses the narrower code for short spans.
 *
 * How tails stay inside the span: a span of at least one vector ends with a vector that is loaded
 * from its last bytes, overlapping the one before; doing a byte twice is harmless, and unmasking
 * loads the last vector before it stores the first. Shorter spans use the overlapping words of
 * simd_parts.h, or on AVX-512 masks. */

#include "core/simd_parts.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET_SSE4 __attribute__((target("sse4.1")))
#define TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,bmi,bmi2")))
#define INLINE static inline __attribute__((always_inline))

/* What the searching kernels look for; always a constant, so each gets its own code. */
enum find { FIND_NON_ASCII, FIND_STRING_END };

/* SSE4 ----------------------------------------------------------------------------------------- */

INLINE TARGET_SSE4 __m128i load_16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

INLINE TARGET_SSE4 __m128i load_below_16(const uint8_t *p, size_t len)
{
    uint64_t word[2];
    simd_load_below_16(p, len, word);
    return _mm_set_epi64x((long long)word[1], (long long)word[0]);
}

/* 17 to 32 bytes. */
INLINE TARGET_SSE4 void unmask_to_32(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    __m128i head_key = _mm_set1_epi32((int)key);
    __m128i tail_key = _mm_set1_epi32((int)simd_rotate_key(key, len));
    __m128i head = _mm_xor_si128(load_16(src), head_key);
    __m128i tail = _mm_xor_si128(load_16(src + len - 16), tail_key);
    _mm_storeu_si128((__m128i *)dst, head);
    _mm_storeu_si128((__m128i *)(dst + len - 16), tail);
}

static TARGET_SSE4 void unmask_sse4(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    if (len <= 16) {
        simd_unmask_to_16(dst, src, len, key);
        return;
    }
    if (len <= 32) {
        unmask_to_32(dst, src, len, key);
        return;
    }
    __m128i keys = _mm_set1_epi32((int)key);
    __m128i end_keys = _mm_set1_epi32((int)simd_rotate_key(key, len));
    __m128i end_a = _mm_xor_si128(load_16(src + len - 32), end_keys);
    __m128i end_b = _mm_xor_si128(load_16(src + len - 16), end_keys);
    for (size_t i = 0; i + 32 < len; i += 32) {
        __m128i a = _mm_xor_si128(load_16(src + i), keys);
        __m128i b = _mm_xor_si128(load_16(src + i + 16), keys);
        _mm_storeu_si128((__m128i *)(dst + i), a);
        _mm_storeu_si128((__m128i *)(dst + i + 16), b);
    }
    _mm_storeu_si128((__m128i *)(dst + len - 32), end_a);
    _mm_storeu_si128((__m128i *)(dst + len - 16), end_b);
}

/* Bit i is set where byte i matches. For the end of a string: flipping bit 1 brings '"' (0x22) next
 * to the control characters, below or equal to 0x20, and nothing else with it. */
INLINE TARGET_SSE4 uint32_t match_16(__m128i v, enum find what)
{
    if (what == FIND_NON_ASCII)
        return (uint32_t)_mm_movemask_epi8(v);
    __m128i flipped = _mm_xor_si128(v, _mm_set1_epi8(0x02));
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(flipped, _mm_set1_epi8(0x20)), flipped);
    __m128i backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(low, backslash));
}

INLINE TARGET_SSE4 size_t find_16(const uint8_t *p, size_t len, enum find what)
{
    if (len < 16) /* the bit behind the last byte ends the search */
        return (size_t)__builtin_ctz(match_16(load_below_16(p, len), what) | 1U << len);
    for (size_t i = 0; i + 16 <= len; i += 16) {
        uint32_t hits = match_16(load_16(p + i), what);
        if (hits != 0)
            return i + (size_t)__builtin_ctz(hits);
    }
    uint32_t hits = match_16(load_16(p + len - 16), what);
    return len - 16 + (size_t)__builtin_ctz(hits | 1U << 16);
}

static TARGET_SSE4 size_t ascii_prefix_sse4(const uint8_t *p, size_t len)
{
    return find_16(p, len, FIND_NON_ASCII);
}

static TARGET_SSE4 size_t json_string_scan_sse4(const uint8_t *p, size_t len)
{
    return find_16(p, len, FIND_STRING_END);
}

/* Non-zero where a byte and the three before it are wrong; core/simd.c explains the method. */
INLINE TARGET_SSE4 __m128i utf8_errors_16(__m128i cur, __m128i before)
{
    const __m128i nibble = _mm_set1_epi8(0x0f);
    __m128i back1 = _mm_alignr_epi8(cur, before, 15);
    __m128i back2 = _mm_alignr_epi8(cur, before, 14);
    __m128i back3 = _mm_alignr_epi8(cur, before, 13);
    __m128i a = _mm_shuffle_epi8(load_16(simd_utf8_tables.lead_high),
                                 _mm_and_si128(_mm_srli_epi16(back1, 4), nibble));
    __m128i b = _mm_shuffle_epi8(load_16(simd_utf8_tables.lead_low), _mm_and_si128(back1, nibble));
    __m128i c = _mm_shuffle_epi8(load_16(simd_utf8_tables.next_high),
                                 _mm_and_si128(_mm_srli_epi16(cur, 4), nibble));
    /* The top bit stays where back2 >= 0xE0 or back3 >= 0xF0: third and fourth bytes. */
    __m128i later = _mm_or_si128(_mm_subs_epu8(back2, _mm_set1_epi8(0xe0 - 0x80)),
                                 _mm_subs_epu8(back3, _mm_set1_epi8(0xf0 - 0x80)));
    __m128i want = _mm_and_si128(later, _mm_set1_epi8((char)SIMD_UTF8_SECOND_OF_TWO));
    return _mm_xor_si128(_mm_and_si128(_mm_and_si128(a, b), c), want);
}

/* Zeros behind the last bytes show a cut sequence as too short, so a tail is always checked, even
 * an empty one. Nothing can be wrong where this and the block before are ASCII. */
INLINE TARGET_SSE4 bool utf8_valid_16(const uint8_t *p, size_t len)
{
    __m128i errors = _mm_setzero_si128(), before = errors;
    size_t i = 0;

    for (; i + 16 <= len; i += 16) {
        __m128i cur = load_16(p + i);
        if (_mm_movemask_epi8(_mm_or_si128(cur, before)) != 0)
            errors = _mm_or_si128(errors, utf8_errors_16(cur, before));
        before = cur;
    }
    __m128i tail =
        len < 16 ? load_below_16(p, len)
                 : _mm_shuffle_epi8(load_16(p + len - 16), load_16(simd_slide + 16 - (len - i)));
    if (_mm_movemask_epi8(_mm_or_si128(tail, before)) != 0)
        errors = _mm_or_si128(errors, utf8_errors_16(tail, before));
    return _mm_testz_si128(errors, errors);
}

static TARGET_SSE4 bool utf8_valid_sse4(const uint8_t *p, size_t len)
{
    return utf8_valid_16(p, len);
}

const struct simd_kernels simd_sse4 = {
    .name = "sse4",
    .unmask = unmask_sse4,
    .utf8_valid = utf8_valid_sse4,
    .ascii_prefix = ascii_prefix_sse4,
    .json_string_scan = json_string_scan_sse4,
};

/* AVX2 ----------------------------------------------------------------------------------------- */

INLINE TARGET_AVX2 __m256i load_32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE TARGET_AVX2 void store_32(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* 33 to 128 bytes. All loads come before the first store, and the overlapping end is stored first:
 * who reads the span next in vectors from its front gets each from one store, without a stall. */
INLINE TARGET_AVX2 void unmask_to_128(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    __m256i keys = _mm256_set1_epi32((int)key);
    __m256i end_keys = _mm256_set1_epi32((int)simd_rotate_key(key, len));
    __m256i a = _mm256_xor_si256(load_32(src), keys);
    __m256i end = _mm256_xor_si256(load_32(src + len - 32), end_keys);
    if (len > 96) {
        __m256i b = _mm256_xor_si256(load_32(src + 32), keys);
        __m256i c = _mm256_xor_si256(load_32(src + 64), keys);
        store_32(dst + len - 32, end);
        store_32(dst + 64, c);
        store_32(dst + 32, b);
    } else if (len > 64) {
        __m256i b = _mm256_xor_si256(load_32(src + 32), keys);
        store_32(dst + len - 32, end);
        store_32(dst + 32, b);
    } else {
        store_32(dst + len - 32, end);
    }
    store_32(dst, a);
}

/* Over 128 bytes. The loop stops before the last 128, which were loaded first. */
static TARGET_AVX2 void unmask_long_32(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    __m256i keys = _mm256_set1_epi32((int)key);
    __m256i end_keys = _mm256_set1_epi32((int)simd_rotate_key(key, len));
    const uint8_t *tail = src + len - 128;
    uint8_t *dst_tail = dst + len - 128;
    __m256i end_a = _mm256_xor_si256(load_32(tail), end_keys);
    __m256i end_b = _mm256_xor_si256(load_32(tail + 32), end_keys);
    __m256i end_c = _mm256_xor_si256(load_32(tail + 64), end_keys);
    __m256i end_d = _mm256_xor_si256(load_32(tail + 96), end_keys);

    for (; src < tail; src += 128, dst += 128) {
        __m256i a = _mm256_xor_si256(load_32(src), keys);
        __m256i b = _mm256_xor_si256(load_32(src + 32), keys);
        __m256i c = _mm256_xor_si256(load_32(src + 64), keys);
        __m256i d = _mm256_xor_si256(load_32(src + 96), keys);
        store_32(dst, a);
        store_32(dst + 32, b);
        store_32(dst + 64, c);
        store_32(dst + 96, d);
    }
    store_32(dst_tail, end_a);
    store_32(dst_tail + 32, end_b);
    store_32(dst_tail + 64, end_c);
    store_32(dst_tail + 96, end_d);
}

static TARGET_AVX2 void unmask_avx2(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    if (len <= 16)
        simd_unmask_to_16(dst, src, len, key);
    else if (len <= 32)
        unmask_to_32(dst, src, len, key);
    else if (len <= 128)
        unmask_to_128(dst, src, len, key);
    else
        unmask_long_32(dst, src, len, key);
}

INLINE TARGET_AVX2 uint32_t match_32(__m256i v, enum find what)
{
    if (what == FIND_NON_ASCII)
        return (uint32_t)_mm256_movemask_epi8(v);
    __m256i flipped = _mm256_xor_si256(v, _mm256_set1_epi8(0x02));
    __m256i low = _mm256_cmpeq_epi8(_mm256_min_epu8(flipped, _mm256_set1_epi8(0x20)), flipped);
    __m256i backslash = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'));
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(low, backslash));
}

INLINE TARGET_AVX2 size_t find_32(const uint8_t *p, size_t len, enum find what)
{
    if (len < 32)
        return find_16(p, len, what);
    uint32_t hits_first = match_32(load_32(p), what); /* the ends of most strings */
    if (hits_first != 0)
        return (size_t)__builtin_ctz(hits_first);
    size_t i = 32;
    for (; i + 64 <= len; i += 64) {
        uint64_t first = match_32(load_32(p + i), what);
        uint64_t second = match_32(load_32(p + i + 32), what);
        uint64_t hits = first | second << 32;
        if (hits != 0)
            return i + (size_t)__builtin_ctzll(hits);
    }
    if (i + 32 <= len) {
        uint32_t hits = match_32(load_32(p + i), what);
        if (hits != 0)
            return i + (size_t)__builtin_ctz(hits);
    }
    uint64_t hits = match_32(load_32(p + len - 32), what);
    return len - 32 + (size_t)__builtin_ctzll(hits | 1ULL << 32);
}

static TARGET_AVX2 size_t ascii_prefix_avx2(const uint8_t *p, size_t len)
{
    return find_32(p, len, FIND_NON_ASCII);
}

static TARGET_AVX2 size_t json_string_scan_avx2(const uint8_t *p, size_t len)
{
    return find_32(p, len, FIND_STRING_END);
}

INLINE TARGET_AVX2 __m256i table_32(const uint8_t table[16])
{
    return _mm256_broadcastsi128_si256(load_16(table));
}

/* As utf8_errors_16(); the caller brings the bytes one, two and three places back. */
INLINE TARGET_AVX2 __m256i utf8_errors_32(__m256i cur, __m256i back1, __m256i back2, __m256i back3)
{
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i a = _mm256_shuffle_epi8(table_32(simd_utf8_tables.lead_high),
                                    _mm256_and_si256(_mm256_srli_epi16(back1, 4), nibble));
    __m256i b =
        _mm256_shuffle_epi8(table_32(simd_utf8_tables.lead_low), _mm256_and_si256(back1, nibble));
    __m256i c = _mm256_shuffle_epi8(table_32(simd_utf8_tables.next_high),
                                    _mm256_and_si256(_mm256_srli_epi16(cur, 4), nibble));
    __m256i later = _mm256_or_si256(_mm256_subs_epu8(back2, _mm256_set1_epi8(0xe0 - 0x80)),
                                    _mm256_subs_epu8(back3, _mm256_set1_epi8(0xf0 - 0x80)));
    __m256i want = _mm256_and_si256(later, _mm256_set1_epi8((char)SIMD_UTF8_SECOND_OF_TWO));
    return _mm256_xor_si256(_mm256_and_si256(_mm256_and_si256(a, b), c), want);
}

/* The first vector of a span: zeros stand before it. */
INLINE TARGET_AVX2 __m256i utf8_errors_first_32(const uint8_t *p)
{
    __m256i cur = load_32(p);
    __m256i before = _mm256_permute2x128_si256(cur, cur, 0x08); /* zeros, low half */
    return utf8_errors_32(cur, _mm256_alignr_epi8(cur, before, 15),
                          _mm256_alignr_epi8(cur, before, 14), _mm256_alignr_epi8(cur, before, 13));
}

/* Any other: at least three bytes of the span stand before it. Loading them anew costs less than
 * shifting across the halves of a vector, and makes the blocks independent of each other. */
INLINE TARGET_AVX2 __m256i utf8_errors_at_32(const uint8_t *p)
{
    return utf8_errors_32(load_32(p), load_32(p - 1), load_32(p - 2), load_32(p - 3));
}

INLINE TARGET_AVX2 bool utf8_valid_32(const uint8_t *p, size_t len)
{
    size_t ascii = find_32(p, len, FIND_NON_ASCII);
    if (ascii == len)
        return true;

    const uint8_t *end = p + len;
    p += ascii;
    if (end - p < 35) /* 32 and the three before them */
        return utf8_valid_16(p, (size_t)(end - p));
    __m256i errors = utf8_errors_first_32(p);
    for (p += 32; end - p >= 64; p += 64) {
        __m256i all =
            _mm256_or_si256(_mm256_or_si256(load_32(p), load_32(p + 32)), load_32(p - 32));
        if (_mm256_movemask_epi8(all) == 0)
            continue;
        errors = _mm256_or_si256(errors, utf8_errors_at_32(p));
        errors = _mm256_or_si256(errors, utf8_errors_at_32(p + 32));
    }
    if (end - p >= 32)
        errors = _mm256_or_si256(errors, utf8_errors_at_32(p));
    errors = _mm256_or_si256(errors, utf8_errors_at_32(end - 32));
    return _mm256_testz_si256(errors, errors) && !simd_utf8_is_cut(end);
}

static TARGET_AVX2 bool utf8_valid_avx2(const uint8_t *p, size_t len)
{
    return utf8_valid_32(p, len);
}

const struct simd_kernels simd_avx2 = {
    .name = "avx2",
    .unmask = unmask_avx2,
    .utf8_valid = utf8_valid_avx2,
    .ascii_prefix = ascii_prefix_avx2,
    .json_string_scan = json_string_scan_avx2,
};

/* AVX-512 -------------------------------------------------------------------------------------- */

INLINE TARGET_AVX512 __m512i load_64(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE TARGET_AVX512 void store_64(uint8_t *p, __m512i v)
{
    _mm512_storeu_si512(p, v);
}

/* Bits 0 to len - 1, len <= 64. */
INLINE TARGET_AVX512 __mmask64 first_bits(size_t len)
{
    return _bzhi_u64(~0ULL, (uint32_t)len);
}

/* Over 128 bytes, like unmask_long_32(). */
static TARGET_AVX512 void unmask_long_64(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    __m512i keys = _mm512_set1_epi32((int)key);
    __m512i end_keys = _mm512_set1_epi32((int)simd_rotate_key(key, len));
    const uint8_t *tail = src + len - 128;
    uint8_t *dst_tail = dst + len - 128;
    __m512i end_a = _mm512_xor_si512(load_64(tail), end_keys);
    __m512i end_b = _mm512_xor_si512(load_64(tail + 64), end_keys);

    for (; src < tail; src += 128, dst += 128) {
        __m512i a = _mm512_xor_si512(load_64(src), keys);
        __m512i b = _mm512_xor_si512(load_64(src + 64), keys);
        store_64(dst, a);
        store_64(dst + 64, b);
    }
    store_64(dst_tail, end_a);
    store_64(dst_tail + 64, end_b);
}

static TARGET_AVX512 void unmask_avx512(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    if (len <= 16)
        simd_unmask_to_16(dst, src, len, key);
    else if (len <= 32)
        unmask_to_32(dst, src, len, key);
    else if (len <= 128)
        unmask_to_128(dst, src, len, key);
    else
        unmask_long_64(dst, src, len, key);
}

INLINE TARGET_AVX512 uint64_t match_64(__m512i v, enum find what)
{
    if (what == FIND_NON_ASCII)
        return _mm512_movepi8_mask(v);
    __m512i flipped = _mm512_xor_si512(v, _mm512_set1_epi8(0x02));
    return _mm512_cmple_epu8_mask(flipped, _mm512_set1_epi8(0x20)) |
           _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\\'));
}

INLINE TARGET_AVX512 size_t find_64(const uint8_t *p, size_t len, enum find what)
{
    size_t i = 0;
    for (; i + 64 <= len; i += 64) {
        uint64_t hits = match_64(load_64(p + i), what);
        if (hits != 0)
            return i + (size_t)__builtin_ctzll(hits);
    }
    if (i == len)
        return len;
    __mmask64 bits = first_bits(len - i);
    uint64_t hits = match_64(_mm512_maskz_loadu_epi8(bits, p + i), what);
    return i + (size_t)__builtin_ctzll(hits | ~bits);
}

static TARGET_AVX512 size_t ascii_prefix_avx512(const uint8_t *p, size_t len)
{
    return find_64(p, len, FIND_NON_ASCII);
}

static TARGET_AVX512 size_t json_string_scan_avx512(const uint8_t *p, size_t len)
{
    return find_64(p, len, FIND_STRING_END);
}

INLINE TARGET_AVX512 __m512i table_64(const uint8_t table[16])
{
    return _mm512_broadcast_i32x4(load_16(table));
}

/* As utf8_errors_16(). */
INLINE TARGET_AVX512 __m512i utf8_errors_64(__m512i cur, __m512i before)
{
    const __m512i nibble = _mm512_set1_epi8(0x0f);
    __m512i moved = _mm512_alignr_epi64(cur, before, 6); /* each lane's left neighbour */
    __m512i back1 = _mm512_alignr_epi8(cur, moved, 15);
    __m512i back2 = _mm512_alignr_epi8(cur, moved, 14);
    __m512i back3 = _mm512_alignr_epi8(cur, moved, 13);
    __m512i a = _mm512_shuffle_epi8(table_64(simd_utf8_tables.lead_high),
                                    _mm512_and_si512(_mm512_srli_epi16(back1, 4), nibble));
    __m512i b =
        _mm512_shuffle_epi8(table_64(simd_utf8_tables.lead_low), _mm512_and_si512(back1, nibble));
    __m512i c = _mm512_shuffle_epi8(table_64(simd_utf8_tables.next_high),
                                    _mm512_and_si512(_mm512_srli_epi16(cur, 4), nibble));
    __m512i later = _mm512_or_si512(_mm512_subs_epu8(back2, _mm512_set1_epi8(0xe0 - 0x80)),
                                    _mm512_subs_epu8(back3, _mm512_set1_epi8(0xf0 - 0x80)));
    __m512i want = _mm512_and_si512(later, _mm512_set1_epi8((char)SIMD_UTF8_SECOND_OF_TWO));
    return _mm512_xor_si512(_mm512_and_si512(_mm512_and_si512(a, b), c), want);
}

/* As utf8_valid_16(), the tail loaded by mask. A masked load that meets recent stores, as after
 * unmasking, waits until they are in the cache: short spans go the way of AVX2. */
static TARGET_AVX512 bool utf8_valid_avx512(const uint8_t *p, size_t len)
{
    if (len <= 128)
        return utf8_valid_32(p, len);

    __m512i errors = _mm512_setzero_si512(), before = errors;

    for (; len >= 64; p += 64, len -= 64) {
        __m512i cur = load_64(p);
        if (_mm512_movepi8_mask(_mm512_or_si512(cur, before)) != 0)
            errors = _mm512_or_si512(errors, utf8_errors_64(cur, before));
        before = cur;
    }
    __m512i tail = _mm512_maskz_loadu_epi8(first_bits(len), p);
    if (_mm512_movepi8_mask(_mm512_or_si512(tail, before)) != 0)
        errors = _mm512_or_si512(errors, utf8_errors_64(tail, before));
    return _mm512_test_epi8_mask(errors, errors) == 0;
}

const struct simd_kernels simd_avx512 = {
    .name = "avx512",
    .unmask = unmask_avx512,
    .utf8_valid = utf8_valid_avx512,
    .ascii_prefix = ascii_prefix_avx512,
    .json_string_scan = json_string_scan_avx512,
};

/* Choice --------------------------------------------------------------------------------------- */

/* VBMI is not needed: it marks the generations (Ice Lake, Zen 4 and later) on which 64-byte vectors
 * don't lower the clock of the whole core. */
uint32_t simd_x86_available(const struct simd_kernels *list[3])
{
    uint32_t count = 0;

    __builtin_cpu_init();
    if (!__builtin_cpu_supports("ssse3") || !__builtin_cpu_supports("sse4.1"))
        return count;
    list[count++] = &simd_sse4;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2"))
        return count;
    list[count++] = &simd_avx2;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512vbmi"))
        return count;
    list[count++] = &simd_avx512;
    return count;
}

#endif
