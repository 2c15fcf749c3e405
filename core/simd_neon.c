/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The kernels for AArch64, where NEON is part of the base. Any thread. Same shapes as in
 * simd_x86.c: a span of at least one vector ends with a vector loaded from its last bytes.
 *
 * State: compiled for AArch64 without warnings, and its logic tested on x86-64 against a model of
 * the intrinsics; it has not run on such a CPU yet. tests/test_simd.c takes it in there by itself.
 */

#include "core/simd_parts.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

enum find { FIND_NON_ASCII, FIND_STRING_END };

INLINE uint8x16_t load_below_16(const uint8_t *p, size_t len)
{
    uint64_t word[2];
    simd_load_below_16(p, len, word);
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(word[0]), vcreate_u64(word[1])));
}

INLINE uint8x16_t key_vector(uint32_t key)
{
    return vreinterpretq_u8_u32(vdupq_n_u32(key));
}

static void unmask_neon(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    if (len <= 16) {
        simd_unmask_to_16(dst, src, len, key);
        return;
    }
    uint8x16_t keys = key_vector(key);
    uint8x16_t end_keys = key_vector(simd_rotate_key(key, len));
    uint8x16_t end_b = veorq_u8(vld1q_u8(src + len - 16), end_keys);
    if (len <= 32) {
        uint8x16_t a = veorq_u8(vld1q_u8(src), keys);
        vst1q_u8(dst, a);
        vst1q_u8(dst + len - 16, end_b);
        return;
    }
    uint8x16_t end_a = veorq_u8(vld1q_u8(src + len - 32), end_keys);
    for (size_t i = 0; i + 32 < len; i += 32) {
        uint8x16_t a = veorq_u8(vld1q_u8(src + i), keys);
        uint8x16_t b = veorq_u8(vld1q_u8(src + i + 16), keys);
        vst1q_u8(dst + i, a);
        vst1q_u8(dst + i + 16, b);
    }
    vst1q_u8(dst + len - 32, end_a);
    vst1q_u8(dst + len - 16, end_b);
}

/* 0xff where a byte matches, else 0. */
INLINE uint8x16_t match_16(uint8x16_t v, enum find what)
{
    if (what == FIND_NON_ASCII)
        return vcgeq_u8(v, vdupq_n_u8(0x80));
    /* Flipping bit 1 brings '"' (0x22) next to the control characters, and nothing else. */
    uint8x16_t low = vcleq_u8(veorq_u8(v, vdupq_n_u8(0x02)), vdupq_n_u8(0x20));
    return vorrq_u8(low, vceqq_u8(v, vdupq_n_u8('\\')));
}

/* Four bits for each byte: NEON has no movemask, but a narrowing shift packs a comparison so. */
INLINE uint64_t nibbles_of(uint8x16_t match)
{
    uint8x8_t packed = vshrn_n_u16(vreinterpretq_u16_u8(match), 4);
    return vget_lane_u64(vreinterpret_u64_u8(packed), 0);
}

INLINE size_t find_16(const uint8_t *p, size_t len, enum find what)
{
    if (len < 16) { /* the bit behind the last byte ends the search */
        uint64_t hits = nibbles_of(match_16(load_below_16(p, len), what));
        return (size_t)__builtin_ctzll(hits | 1ULL << (4 * len)) / 4;
    }
    for (size_t i = 0; i + 16 <= len; i += 16) {
        uint64_t hits = nibbles_of(match_16(vld1q_u8(p + i), what));
        if (hits != 0)
            return i + (size_t)__builtin_ctzll(hits) / 4;
    }
    uint64_t hits = nibbles_of(match_16(vld1q_u8(p + len - 16), what));
    return hits == 0 ? len : len - 16 + (size_t)__builtin_ctzll(hits) / 4;
}

static size_t ascii_prefix_neon(const uint8_t *p, size_t len)
{
    return find_16(p, len, FIND_NON_ASCII);
}

static size_t json_string_scan_neon(const uint8_t *p, size_t len)
{
    return find_16(p, len, FIND_STRING_END);
}

/* Non-zero where a byte and the three before it are wrong; core/simd.c explains the method. */
INLINE uint8x16_t utf8_errors_16(uint8x16_t cur, uint8x16_t before)
{
    uint8x16_t back1 = vextq_u8(before, cur, 15);
    uint8x16_t back2 = vextq_u8(before, cur, 14);
    uint8x16_t back3 = vextq_u8(before, cur, 13);
    uint8x16_t a = vqtbl1q_u8(vld1q_u8(simd_utf8_tables.lead_high), vshrq_n_u8(back1, 4));
    uint8x16_t b =
        vqtbl1q_u8(vld1q_u8(simd_utf8_tables.lead_low), vandq_u8(back1, vdupq_n_u8(0x0f)));
    uint8x16_t c = vqtbl1q_u8(vld1q_u8(simd_utf8_tables.next_high), vshrq_n_u8(cur, 4));
    /* All bits where these are third and fourth bytes; one of them is left. */
    uint8x16_t later =
        vorrq_u8(vcgeq_u8(back2, vdupq_n_u8(0xe0)), vcgeq_u8(back3, vdupq_n_u8(0xf0)));
    uint8x16_t want = vandq_u8(later, vdupq_n_u8(SIMD_UTF8_SECOND_OF_TWO));
    return veorq_u8(vandq_u8(vandq_u8(a, b), c), want);
}

INLINE bool is_ascii(uint8x16_t v)
{
    return vmaxvq_u8(v) < 0x80;
}

/* Zeros behind the last bytes show a cut sequence as too short, so a tail is always checked, even
 * an empty one. Nothing can be wrong where this and the block before are ASCII. */
static bool utf8_valid_neon(const uint8_t *p, size_t len)
{
    uint8x16_t errors = vdupq_n_u8(0), before = errors;
    size_t i = 0;

    for (; i + 16 <= len; i += 16) {
        uint8x16_t cur = vld1q_u8(p + i);
        if (!is_ascii(vorrq_u8(cur, before)))
            errors = vorrq_u8(errors, utf8_errors_16(cur, before));
        before = cur;
    }
    uint8x16_t tail =
        len < 16 ? load_below_16(p, len)
                 : vqtbl1q_u8(vld1q_u8(p + len - 16), vld1q_u8(simd_slide + 16 - (len - i)));
    if (!is_ascii(vorrq_u8(tail, before)))
        errors = vorrq_u8(errors, utf8_errors_16(tail, before));
    return vmaxvq_u8(errors) == 0;
}

const struct simd_kernels simd_neon = {
    .name = "neon",
    .unmask = unmask_neon,
    .utf8_valid = utf8_valid_neon,
    .ascii_prefix = ascii_prefix_neon,
    .json_string_scan = json_string_scan_neon,
};

#endif
