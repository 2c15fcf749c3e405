/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_SIMD_H
#define CORE_SIMD_H

/* Kernels with run-time dispatch: scalar, SSE4, AVX2, AVX-512, NEON where built for it. Pure, any
 * thread. The scalar twin is the oracle of the tests. Not one byte beyond either end of a span is
 * read: tails are handled exactly, so any memory may be passed. */

#include <stdbool.h>

#include "core/base.h"

struct simd_kernels {
    const char *name; /* "scalar", "sse4", "avx2", "avx512", "neon" */
    /* dst[i] = src[i] ^ key byte (i mod 4), key bytes in memory order of `key`. dst == src or no
     * overlap. (RFC 6455 5.3) */
    void (*unmask)(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key);
    /* Whether the whole span is well-formed UTF-8 (RFC 3629). */
    bool (*utf8_valid)(const uint8_t *p, size_t len);
    /* Length of the prefix that is plain ASCII. */
    size_t (*ascii_prefix)(const uint8_t *p, size_t len);
    /* Index of the first byte that ends or interrupts a JSON string: '"', '\\', or below 0x20
     * (RFC 8259 7); len when there is none. */
    size_t (*json_string_scan)(const uint8_t *p, size_t len);
};

/* The best kernels that this CPU runs; constant after simd_init(), scalar before. */
extern const struct simd_kernels *simd;

/* Chooses once, at start, before other threads. `want` NULL: the best; else that name, 0 or
 * -ENOTSUP (unknown or not on this CPU). Environment is not read. */
MUST_USE int simd_init(const char *want);

/* All kernels that this CPU runs, scalar first; returns how many. For tests and `version`. */
uint32_t simd_available(const struct simd_kernels *list[8]);

/* The key for the bytes behind the first `n` of a payload. */
static inline uint32_t simd_rotate_key(uint32_t key, size_t n)
{
    uint32_t bits = (uint32_t)n * 8 & 31;
    return (key >> bits) | (key << (-bits & 31)); /* little-endian: one rotate instruction */
}

/* UTF-8 as bytes arrive: fails as soon as the bytes so far can't become well-formed. */
struct utf8_state {
    uint8_t need;  /* continuation bytes still due */
    uint8_t lower; /* bounds of the next continuation byte */
    uint8_t upper;
};

static inline void utf8_reset(struct utf8_state *u)
{
    u->need = 0;
    u->lower = 0;
    u->upper = 0;
}

/* False: not UTF-8, whatever follows; the state stays failed until utf8_reset(). */
MUST_USE bool utf8_feed(struct utf8_state *u, const uint8_t *p, size_t len);

/* Whether the text may end here. */
static inline bool utf8_is_complete(const struct utf8_state *u)
{
    return u->need == 0;
}

#endif
