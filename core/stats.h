/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_STATS_H
#define CORE_STATS_H

/* Counters and gauges per shard, read by others without locks, and their Prometheus text.
 *
 * A module declares a constant table of descriptors and an enum of indices; each shard holds one
 * array of values per table. Only the shard's thread writes a value (a relaxed load and store, no
 * locked instruction); any thread may read it, relaxed. */

#include <stdatomic.h>

#include "core/base.h"

enum stats_kind { STATS_COUNTER, STATS_GAUGE };

struct stats_desc {
    const char *name;   /* full metric name, "tidewire_connections_total" */
    const char *labels; /* constant labels without braces, "code=\"1009\"", or NULL */
    const char *help;   /* one line; rows of one name stand together, the first one's help counts */
    uint8_t kind;       /* enum stats_kind */
    double scale;       /* value * scale is printed; 0 means 1 (nanoseconds: 1e-9) */
};

typedef _Atomic uint64_t stats_value;

static inline void stats_add(stats_value *v, uint64_t n)
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void stats_inc(stats_value *v)
{
    stats_add(v, 1);
}

static inline void stats_sub(stats_value *v, uint64_t n)
{
    stats_add(v, (uint64_t)0 - n);
}

static inline void stats_set(stats_value *v, uint64_t n)
{
    atomic_store_explicit(v, n, memory_order_relaxed);
}

static inline uint64_t stats_get(const stats_value *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

/* All tables of a node. Filled by main before the shards start, constant afterwards. */
#define STATS_BLOCKS_MAX 32
#define STATS_SHARDS_MAX 256

struct stats_block {
    const struct stats_desc *descs;
    uint32_t count;
    uint32_t shard_count;
    const stats_value *values[STATS_SHARDS_MAX]; /* values[s][i] */
};

struct stats_registry {
    struct stats_block blocks[STATS_BLOCKS_MAX];
    uint32_t block_count;
};

/* Adds shard s's values for a table (the same table for every shard). CHECKs the bounds. */
void stats_register(struct stats_registry *r, const struct stats_desc *descs, uint32_t count,
                    uint32_t shard, const stats_value *values);

/* Sum over the shards of the i-th value of a table. */
uint64_t stats_sum(const struct stats_registry *r, const struct stats_desc *descs, uint32_t i);

/* Writes the Prometheus text exposition format (0.0.4): HELP and TYPE once per name, one line per
 * row, summed over shards. Returns the length that all of it has; writes at most cap bytes, always
 * zero-terminated when cap > 0. */
size_t stats_render(const struct stats_registry *r, char *text, size_t cap);

#endif
