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
 * undefined at acquire. Nothing is mapped before the first acquire.
 *
 * The two fast paths stand here because every message takes them; of the fields, only the counters
 * and the name are for others to read. */

#include "core/base.h"

/* Free slots are poisoned under AddressSanitizer, which would otherwise see one live mapping. */
#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISONS 1
#endif
#endif
#ifdef POOL_POISONS
#include <sanitizer/asan_interface.h>
#define POOL_POISON(p, len) ASAN_POISON_MEMORY_REGION(p, len)
#define POOL_UNPOISON(p, len) ASAN_UNPOISON_MEMORY_REGION(p, len)
#else
#define POOL_POISON(p, len) ((void)0)
#define POOL_UNPOISON(p, len) ((void)0)
#endif

#define POOL_CHUNK_BYTES_DEFAULT (64u << 10)
#define POOL_CHUNK_BYTES_MAX (4u << 20)

struct pool;

/* What a free slot holds. */
struct pool_free {
    struct pool_free *next;
    uint32_t index; /* the slot's own, in the whole pool: spares the acquire a division */
};

/* Head of a chunk; the slots follow at POOL_CHUNK_HEAD. */
struct pool_chunk {
    struct pool_free *free; /* slots that were handed out before and came back */
    uint32_t used;          /* slots in use */
    uint32_t fresh;         /* slots from this one on have never been touched */
    uint32_t slot_count;    /* per_chunk, or the rest that slots_max leaves for the last chunk */
    uint32_t number;        /* chunks[number] is this chunk */
    uint32_t first_index;   /* number * per_chunk */
    const struct pool *pool;
};
#define POOL_CHUNK_HEAD 64

/* A set of chunk numbers that finds its lowest member in a few steps. */
struct pool_set {
    uint64_t *words; /* bit n % 64 of words[n / 64]: n is a member */
    uint64_t *tops;  /* bit w % 64 of tops[w / 64]: words[w] is not 0 */
};

struct pool {
    struct pool_chunk *current; /* acquire looks here first: none below has room; may be NULL */
    uint16_t *states;           /* per slot: POOL_IN_USE and generation; outlives the chunk */
    uint64_t slot_magic;        /* 2^44 / slot_bytes, rounded up: divides by multiplying */
    uint32_t chunk_bytes;       /* power of two */
    uint32_t slot_bytes;
    uint32_t used;              /* slots acquired now */
    uint32_t used_max;          /* high-water mark */
    struct pool_chunk *kept;    /* the last chunk that became empty and was kept, or NULL */
    struct pool_chunk **chunks; /* chunks[i]: slots i*per_chunk ..; NULL where given back */
    uint32_t chunk_count;       /* length of chunks[] in use */
    uint32_t chunk_cap;
    uint32_t per_chunk;
    uint32_t slots_max;     /* acquire fails above; 0: no bound of its own */
    struct pool_set room;   /* mapped chunks that may have room; all that have it are in */
    struct pool_set absent; /* numbers below chunk_count whose chunk was given back */
    uint32_t mapped_chunks;
    uint64_t failures; /* acquires that failed: bound reached or no memory */
    const char *name;  /* constant text, for metrics */
};

#define POOL_IN_USE 0x8000u
#define POOL_GENERATION_MASK 0x0fffu
#define POOL_MAGIC_SHIFT 44

/* Prepares p; maps nothing. chunk_bytes is a power of two, at most POOL_CHUNK_BYTES_MAX; 0 takes
 * 64 KiB. At least one slot must fit. */
void pool_init(struct pool *p, const char *name, uint32_t slot_bytes, uint32_t slots_max,
               uint32_t chunk_bytes);

/* Unmaps everything. CHECKs that no slot is in use. */
void pool_deinit(struct pool *p);

/* Gives the empty chunk back that is kept against flutter. In quiet moments. */
void pool_trim(struct pool *p);

/* The rare parts of acquire and release. */
struct pool_chunk *pool_make_room(struct pool *p);
void pool_settle(struct pool *p, struct pool_chunk *c);

/* The generation after this one: 1..4095, round and round. */
static inline uint16_t pool_next_generation(uint16_t g)
{
    return (uint16_t)(g == POOL_GENERATION_MASK ? 1 : g + 1);
}

/* Returns a slot, or NULL when the bound is reached or no memory is to be had (counted). */
MUST_USE static inline void *pool_acquire(struct pool *p)
{
    struct pool_chunk *c = p->current;
    if (unlikely(c == NULL || c->free == NULL)) {
        c = pool_make_room(p);
        if (c == NULL)
            return NULL;
    }
    struct pool_free *slot = c->free;
    uint16_t *state = &p->states[slot->index];
    *state = (uint16_t)(pool_next_generation(*state) | POOL_IN_USE);
    c->free = slot->next;
    c->used++;
    if (++p->used > p->used_max)
        p->used_max = p->used;
    POOL_UNPOISON(slot, p->slot_bytes);
    return slot;
}

static inline struct pool_chunk *pool_chunk_of(const struct pool *p, const void *slot)
{
    return (struct pool_chunk *)((uintptr_t)slot & ~((uintptr_t)p->chunk_bytes - 1));
}

static inline uint32_t pool_index_of(const struct pool *p, const struct pool_chunk *c,
                                     const void *slot)
{
    uint64_t offset = (uint64_t)((uintptr_t)slot - (uintptr_t)c) - POOL_CHUNK_HEAD;
    return c->first_index + (uint32_t)(offset * p->slot_magic >> POOL_MAGIC_SHIFT);
}

/* Takes a slot that pool_acquire() of the same pool returned. CHECKs that it is in use. */
static inline void pool_release(struct pool *p, void *slot)
{
    struct pool_chunk *c = pool_chunk_of(p, slot);
    DCHECK(c->pool == p);
    struct pool_free *f = (struct pool_free *)slot;
    uint32_t index = pool_index_of(p, c, slot);
    CHECK(p->states[index] & POOL_IN_USE);
    p->states[index] &= POOL_GENERATION_MASK;
    f->next = c->free;
    f->index = index;
    POOL_POISON(f + 1, p->slot_bytes - sizeof(*f));
    c->free = f;
    p->used--;
    c->used--;
    if (c != p->current || (c->used == 0 && c != p->kept))
        pool_settle(p, c);
}

/* 32-bit names for slots across time: index in the low 20 bits, generation (1..4095, changes with
 * every acquire of that slot, also across a chunk's unmapping) above. 0 names nothing. Only for
 * pools with slots_max of 1 .. 2^20. */
#define POOL_INDEX_BITS 20
uint32_t pool_handle(const struct pool *p, const void *slot);

/* The slot that a handle named, or NULL when it has been released since. Any value may be asked. */
void *pool_find(const struct pool *p, uint32_t handle);

/* The slot in use with the lowest index >= *index, which is advanced behind it; NULL at the end. */
void *pool_next(const struct pool *p, uint32_t *index);

/* Bytes mapped now. */
size_t pool_mapped_bytes(const struct pool *p);

#endif
