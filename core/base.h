/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_BASE_H
#define CORE_BASE_H

/* What every module uses: assertions, spans, branch hints. No state, any thread. */

#include <stddef.h>
#include <stdint.h>

#define CORE_CACHE_LINE 64

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MUST_USE __attribute__((warn_unused_result))

/* The struct that holds `member` at `ptr`. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A span of bytes; says nothing about ownership, the function that takes it does. */
struct bytes {
    uint8_t *ptr;
    size_t len;
};

/* CHECK stays in release builds: lifetimes, bounds, state changes. One condition each; never for
 * input. DCHECK is for hot loops and deep validation, and goes with NDEBUG. */
_Noreturn void check_failed(const char *expr, const char *file, int line);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (unlikely(!(x)))                                                                        \
            check_failed(#x, __FILE__, __LINE__);                                                  \
    } while (0)

#ifdef NDEBUG
#define DCHECK(x) ((void)0)
#else
#define DCHECK(x) CHECK(x)
#endif

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#define NS_PER_SEC 1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

#endif
