/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_SIMD_PARTS_H
#define CORE_SIMD_PARTS_H

/* What core/simd.c shares with core/simd_x86.c and core/simd_neon.c; nobody else includes it. Pure,
 * any thread. */

#include <string.h>

#include "core/simd.h"

extern const struct simd_kernels simd_scalar;
#if defined(__x86_64__)
/* Each may be called only where the CPU has it: ask simd_x86_available(). */
extern const struct simd_kernels simd_sse4;
extern const struct simd_kernels simd_avx2;
extern const struct simd_kernels simd_avx512;

/* Those that this CPU and system run, slowest first; returns how many. */
uint32_t simd_x86_available(const struct simd_kernels *list[3]);
#elif defined(__aarch64__)
extern const struct simd_kernels simd_neon;
#endif

/* Lookup tables of the vectorised UTF-8 check; core/simd.c explains them. */
struct simd_utf8_tables {
    uint8_t lead_high[16]; /* by the high nibble of a byte */
    uint8_t lead_low[16];  /* by its low nibble */
    uint8_t next_high[16]; /* by the high nibble of the byte behind it */
};
extern const struct simd_utf8_tables simd_utf8_tables;
#define SIMD_UTF8_SECOND_OF_TWO 0x80 /* the flag that must be set on third and fourth bytes */

/* Loaded at [16 - n], n <= 16, it is the byte shuffle that moves the last n bytes of a vector to
 * its front and fills up with zeros. */
extern const uint8_t simd_slide[32];

static inline uint32_t simd_load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t simd_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void simd_store32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static inline void simd_store64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* 0 to 7 bytes in the low end of a word, zeros above. Overlapping loads instead of a loop: bytes
 * that are loaded twice meet at the same place. */
static inline uint64_t simd_load_below_8(const uint8_t *p, size_t len)
{
    if (len >= 4)
        return simd_load32(p) | (uint64_t)simd_load32(p + len - 4) << (8 * (len - 4));
    if (len == 0)
        return 0;
    size_t mid = len / 2, last = len - 1;
    return p[0] | (uint64_t)p[mid] << (8 * mid) | (uint64_t)p[last] << (8 * last);
}

/* 0 to 15 bytes in two words, zeros behind them. */
static inline void simd_load_below_16(const uint8_t *p, size_t len, uint64_t word[2])
{
    if (len < 8) {
        word[0] = simd_load_below_8(p, len);
        word[1] = 0;
        return;
    }
    word[0] = simd_load64(p);
    word[1] = simd_load64(p + len - 8) >> (8 * (15 - len)) >> 8; /* in two steps: never by 64 */
}

/* 0 to 16 bytes. All loads come before the first store, so the overlap is harmless in place. */
static inline void simd_unmask_to_16(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    uint32_t end_key = simd_rotate_key(key, len);

    if (len >= 8) {
        uint64_t head = simd_load64(src) ^ (key | (uint64_t)key << 32);
        uint64_t tail = simd_load64(src + len - 8) ^ (end_key | (uint64_t)end_key << 32);
        simd_store64(dst, head);
        simd_store64(dst + len - 8, tail);
    } else if (len >= 4) {
        uint32_t head = simd_load32(src) ^ key;
        uint32_t tail = simd_load32(src + len - 4) ^ end_key;
        simd_store32(dst, head);
        simd_store32(dst + len - 4, tail);
    } else if (len > 0) {
        size_t mid = len / 2, last = len - 1;
        uint8_t a = (uint8_t)(src[0] ^ key);
        uint8_t b = (uint8_t)(src[mid] ^ key >> (8 * mid));
        uint8_t c = (uint8_t)(src[last] ^ key >> (8 * last));
        dst[0] = a;
        dst[mid] = b;
        dst[last] = c;
    }
}

/* Whether a sequence is still open before `end`, which has at least four bytes before it: the last
 * three are compared with 0xF0, 0xE0 and 0xC0 at once. */
static inline bool simd_utf8_is_cut(const uint8_t *end)
{
    uint32_t last = simd_load32(end - 4);
    return (((last & 0x7f7f7f7f) + 0x40201000) & last & 0x80808000) != 0;
}

#endif
