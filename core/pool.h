/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_POOL_H
#define CORE_POOL_H

/* Fixed-size slots, in chunks that are mapped when first needed and given back when empty. One
 * shard.
 *
 * Chunks are aligned to their size, so a slot finds its chunk by masking. Slots are taken from the
 * lowest-numbered chunk with room, so that a shrinking population leaves whole chunks empty; one
 * empty chunk is kept against flutter. A slot is `slot_bytes` rounded up to 16, its contents
 * undefined at acquire. Nothing is mapped before the first acquire. */

#include "core/base.h"

struct pool_chunk;

struct pool {
    struct pool_chunk **chunks; /* chunks[i]: slots i*per_chunk ..; NULL where given back */
    uint32_t chunk_count;       /* length of chunks[] in use */
    uint32_t chunk_cap;
    uint32_t chunk_bytes; /* power of two */
    uint32_t slot_bytes;
    uint32_t per_chunk;
    uint32_t first_free;   /* no chunk below this one has a free slot */
    uint32_t used;         /* slots acquired now */
    uint32_t used_max;     /* high-water mark */
    uint32_t slots_max;    /* acquire fails above; 0: no bound of its own */
    uint32_t empty_chunks; /* mapped chunks with no slot in use, 0 or 1 */
    uint32_t mapped_chunks;
    uint64_t failures; /* acquires that failed: bound reached or no memory */
    const char *name;  /* constant text, for metrics */
};

/* Prepares p; maps nothing. chunk_bytes 0 takes 64 KiB. */
void pool_init(struct pool *p, const char *name, uint32_t slot_bytes, uint32_t slots_max,
               uint32_t chunk_bytes);

/* Unmaps everything. CHECKs that no slot is in use. */
void pool_deinit(struct pool *p);

/* Returns a slot, or NULL when the bound is reached or no memory is to be had (counted). */
MUST_USE void *pool_acquire(struct pool *p);

void pool_release(struct pool *p, void *slot);

/* 32-bit names for slots across time: index in the low 20 bits, generation (1..4095, changes with
 * every acquire of that slot, also across a chunk's unmapping) above. 0 names nothing. */
#define POOL_INDEX_BITS 20
uint32_t pool_handle(const struct pool *p, const void *slot);

/* The slot that a handle named, or NULL when it has been released since. Any value may be asked. */
void *pool_find(const struct pool *p, uint32_t handle);

/* The slot in use with the lowest index >= *index, which is advanced behind it; NULL at the end. */
void *pool_next(const struct pool *p, uint32_t *index);

/* Bytes mapped now. */
size_t pool_mapped_bytes(const struct pool *p);

#endif
