/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A log-linear histogram of times. Pure, whichever thread owns it.
 *
 * Bucket numbers: values below 256 are their own bucket. Above, `shift` is how far the value must
 * be moved right to lie in 128 .. 255, and the number is shift * 128 + what is then left: so the
 * buckets of one power of two follow those of the one below without a gap. */

#include "tools/load/histogram.h"

#define MILLION 1000000u

uint64_t histogram_bucket_top(uint32_t bucket)
{
    if (bucket < 2 * HISTOGRAM_SUBS)
        return bucket;
    uint32_t shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t first = (uint64_t)(bucket - (shift << HISTOGRAM_SUB_BITS)) << shift;
    return first + (1ULL << shift) - 1;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += from->buckets[i];
    h->count += from->count;
    h->sum += from->sum;
    h->max = max_u64(h->max, from->max);
}

uint64_t histogram_quantile(const struct histogram *h, uint32_t per_million)
{
    /* The rank, counted from 1, rounded up: the median of two is the first. */
    unsigned __int128 scaled = (unsigned __int128)h->count * per_million;
    uint64_t rank = (uint64_t)((scaled + MILLION - 1) / MILLION);
    uint64_t seen = 0;

    if (h->count == 0)
        return 0;
    rank = max_u64(rank, 1);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return i == HISTOGRAM_BUCKETS - 1 ? h->max : min_u64(histogram_bucket_top(i), h->max);
    }
    return h->max;
}

uint64_t histogram_mean(const struct histogram *h)
{
    return h->count == 0 ? 0 : h->sum / h->count;
}
