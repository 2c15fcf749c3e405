/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_HISTOGRAM_H
#define TOOLS_LOAD_HISTOGRAM_H

/* A log-linear histogram of times: each power of two is cut into 128 buckets of equal width, so a
 * value is told with an error below 0.8 %, values under 256 exactly. Fixed memory (44 KiB), no
 * allocation, one thread at a time; histograms of several threads are added up afterwards. */

#include "core/base.h"

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_SUBS (1u << HISTOGRAM_SUB_BITS)
/* Values from here on are counted in the last bucket: 2^50 ns are 13 days. */
#define HISTOGRAM_VALUE_BITS 50
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUBS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max; /* exact */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* The bucket of a value. */
static inline uint32_t histogram_bucket(uint64_t value)
{
    if (value < 2 * HISTOGRAM_SUBS)
        return (uint32_t)value;
    if (unlikely(value >> HISTOGRAM_VALUE_BITS != 0))
        return HISTOGRAM_BUCKETS - 1;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift);
}

/* The largest value that falls into a bucket. */
uint64_t histogram_bucket_top(uint32_t bucket);

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->buckets[histogram_bucket(value)]++;
    h->count++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
}

/* Adds what `from` has counted to h. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/* The smallest value that at least `per_million` of a million counted ones do not exceed: the top
 * of its bucket, but no more than the largest. 0 when nothing was counted. */
uint64_t histogram_quantile(const struct histogram *h, uint32_t per_million);

/* 0 when nothing was counted. */
uint64_t histogram_mean(const struct histogram *h);

#endif
