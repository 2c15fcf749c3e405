/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Slots of one size in chunks that come from the kernel and go back to it. On the shard's thread.
 *
 * Invariants
 *  1. No chunk below `current` has room; with no current, none has. So the lowest slots fill first.
 *  2. Every chunk with room is in `room`; a full one may still be, and is taken out when found.
 *  3. A chunk is mapped only when all mapped ones are full, at the lowest absent number. Together
 *     with slot_count this keeps every index below slots_max.
 *  4. At most one mapped chunk is empty, and it is `kept`. (`kept` may be in use again: that is
 *     noticed when the next chunk becomes empty, not at each acquire.) */

#include "core/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

_Static_assert(sizeof(struct pool_chunk) <= POOL_CHUNK_HEAD, "slots follow the head");
_Static_assert(sizeof(struct pool_free) == 16, "the smallest slot holds a free slot's words");

#define POOL_NONE UINT32_MAX

static void set_add(struct pool_set *set, uint32_t n)
{
    set->words[n / 64] |= 1ULL << (n % 64);
    set->tops[n / 4096] |= 1ULL << (n / 64 % 64);
}

static void set_remove(struct pool_set *set, uint32_t n)
{
    set->words[n / 64] &= ~(1ULL << (n % 64));
    if (set->words[n / 64] == 0)
        set->tops[n / 4096] &= ~(1ULL << (n / 64 % 64));
}

/* The lowest member below `end`, or POOL_NONE. One top word stands for 4096 chunks. */
static uint32_t set_lowest(const struct pool_set *set, uint32_t end)
{
    for (uint32_t top = 0; top * 4096 < end; top++) {
        if (set->tops[top] == 0)
            continue;
        uint32_t word = top * 64 + (uint32_t)__builtin_ctzll(set->tops[top]);
        return word * 64 + (uint32_t)__builtin_ctzll(set->words[word]);
    }
    return POOL_NONE;
}

static uint8_t *pool_slot(const struct pool *p, const struct pool_chunk *c, uint32_t i)
{
    return (uint8_t *)c + POOL_CHUNK_HEAD + (size_t)i * p->slot_bytes;
}

static bool chunk_has_room(const struct pool_chunk *c)
{
    return c->free != NULL || c->fresh < c->slot_count;
}

void pool_init(struct pool *p, const char *name, uint32_t slot_bytes, uint32_t slots_max,
               uint32_t chunk_bytes)
{
    *p = (struct pool){.name = name, .slots_max = slots_max};
    p->chunk_bytes = chunk_bytes == 0 ? POOL_CHUNK_BYTES_DEFAULT : chunk_bytes;
    CHECK((p->chunk_bytes & (p->chunk_bytes - 1)) == 0);
    CHECK(p->chunk_bytes >= 4096);
    CHECK(p->chunk_bytes <= POOL_CHUNK_BYTES_MAX);
    CHECK(slot_bytes > 0);
    CHECK(slot_bytes <= p->chunk_bytes - POOL_CHUNK_HEAD);
    p->slot_bytes = (slot_bytes + 15) & ~15u;
    p->per_chunk = (p->chunk_bytes - POOL_CHUNK_HEAD) / p->slot_bytes;
    /* offset * slot_magic >> 44 is offset / slot_bytes for all offsets of a chunk: the rounding
     * adds less than offset * slot_bytes / 2^44 <= 2^22 * 2^22 / 2^44 of a slot. */
    p->slot_magic = ((1ULL << POOL_MAGIC_SHIFT) + p->slot_bytes - 1) / p->slot_bytes;
}

/* Extends *array from old_bytes to new_bytes, the new part zero. */
static bool array_extend(void *array, size_t old_bytes, size_t new_bytes)
{
    if (new_bytes == old_bytes)
        return true;
    void *bigger = realloc(*(void **)array, new_bytes);
    if (bigger == NULL)
        return false;
    memset((uint8_t *)bigger + old_bytes, 0, new_bytes - old_bytes);
    *(void **)array = bigger;
    return true;
}

static bool set_extend(struct pool_set *set, uint32_t old_cap, uint32_t new_cap)
{
    return array_extend(&set->words, (old_cap + 63) / 64 * 8UL, (new_cap + 63) / 64 * 8UL) &&
           array_extend(&set->tops, (old_cap + 4095) / 4096 * 8UL, (new_cap + 4095) / 4096 * 8UL);
}

/* Makes the tables longer. What was extended before a failure stays so; chunk_cap tells the truth
 * about all of them. */
static bool pool_extend_tables(struct pool *p)
{
    uint32_t old_cap = p->chunk_cap;
    uint32_t new_cap = old_cap == 0 ? 1 : old_cap * 2;
    size_t states_each = p->per_chunk * sizeof(*p->states);
    if (!array_extend(&p->chunks, old_cap * sizeof(*p->chunks), new_cap * sizeof(*p->chunks)) ||
        !array_extend(&p->states, old_cap * states_each, new_cap * states_each) ||
        !set_extend(&p->room, old_cap, new_cap) || !set_extend(&p->absent, old_cap, new_cap))
        return false;
    p->chunk_cap = new_cap;
    return true;
}

/* Maps memory aligned to its size. Neighbours of earlier chunks are often aligned already. */
static void *map_aligned(size_t bytes)
{
    const int prot = PROT_READ | PROT_WRITE;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint8_t *m = mmap(NULL, bytes, prot, flags, -1, 0);
    if (m == MAP_FAILED)
        return NULL;
    if (((uintptr_t)m & (bytes - 1)) == 0)
        return m;
    munmap(m, bytes);
    m = mmap(NULL, bytes * 2, prot, flags, -1, 0);
    if (m == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)m & (bytes - 1));
    if (before > 0)
        munmap(m, before);
    munmap(m + before + bytes, bytes - before);
    return m + before;
}

/* Maps the chunk with the lowest absent number. NULL at the bound or without memory. */
static struct pool_chunk *pool_map_chunk(struct pool *p)
{
    uint32_t number = set_lowest(&p->absent, p->chunk_count);
    if (number == POOL_NONE)
        number = p->chunk_count;
    uint64_t first_index = (uint64_t)number * p->per_chunk;
    uint64_t index_end = p->slots_max == 0 ? UINT32_MAX : p->slots_max;
    if (first_index >= index_end || (number == p->chunk_cap && !pool_extend_tables(p)))
        return NULL;
    struct pool_chunk *c = map_aligned(p->chunk_bytes);
    if (c == NULL)
        return NULL;
    CHECK(p->chunks != NULL);
    c->pool = p;
    c->number = number;
    c->first_index = (uint32_t)first_index;
    c->slot_count = (uint32_t)min_u64(p->per_chunk, index_end - first_index);
    POOL_POISON(pool_slot(p, c, 0), p->chunk_bytes - POOL_CHUNK_HEAD);
    p->chunks[number] = c;
    if (number == p->chunk_count)
        p->chunk_count++;
    else
        set_remove(&p->absent, number);
    set_add(&p->room, number);
    p->mapped_chunks++;
    return c;
}

static void pool_unmap_chunk(struct pool *p, struct pool_chunk *c)
{
    set_remove(&p->room, c->number);
    set_add(&p->absent, c->number);
    p->chunks[c->number] = NULL;
    p->mapped_chunks--;
    if (p->current == c)
        p->current = NULL;
    if (p->kept == c)
        p->kept = NULL;
    POOL_UNPOISON(c, p->chunk_bytes);
    munmap(c, p->chunk_bytes);
}

void pool_deinit(struct pool *p)
{
    CHECK(p->used == 0);
    for (uint32_t i = 0; i < p->chunk_count; i++) {
        if (p->chunks[i] != NULL)
            pool_unmap_chunk(p, p->chunks[i]);
    }
    free(p->chunks);
    free(p->states);
    free(p->room.words);
    free(p->room.tops);
    free(p->absent.words);
    free(p->absent.tops);
    pool_init(p, p->name, p->slot_bytes, p->slots_max, p->chunk_bytes);
}

/* The lowest chunk with room, mapped if need be. Each one found to be full leaves the set, which
 * pays for the step. */
static struct pool_chunk *pool_lowest_with_room(struct pool *p)
{
    uint32_t number;
    while ((number = set_lowest(&p->room, p->chunk_count)) != POOL_NONE) {
        if (chunk_has_room(p->chunks[number]))
            return p->chunks[number];
        set_remove(&p->room, number);
    }
    return pool_map_chunk(p);
}

/* Returns the new current chunk, with a slot on its free list; NULL (counted) when there is none.
 */
struct pool_chunk *pool_make_room(struct pool *p)
{
    struct pool_chunk *c = p->current;
    if (c == NULL || !chunk_has_room(c)) {
        c = pool_lowest_with_room(p);
        p->current = c;
        if (c == NULL) {
            p->failures++;
            return NULL;
        }
    }
    if (c->free == NULL) {
        struct pool_free *f = (struct pool_free *)pool_slot(p, c, c->fresh);
        POOL_UNPOISON(f, sizeof(*f));
        *f = (struct pool_free){.next = NULL, .index = c->first_index + c->fresh};
        c->free = f;
        c->fresh++;
    }
    return c;
}

/* After a release into a chunk that is not the current one, or that became empty: lets acquire
 * find it, and gives an empty chunk back when there is another. The lower one stays. */
void pool_settle(struct pool *p, struct pool_chunk *c)
{
    set_add(&p->room, c->number);
    if (p->current == NULL || c->number < p->current->number)
        p->current = c;
    if (c->used > 0 || c == p->kept)
        return;
    struct pool_chunk *other = p->kept;
    if (other == NULL || other->used > 0) {
        p->kept = c;
    } else if (other->number < c->number) {
        pool_unmap_chunk(p, c);
    } else {
        pool_unmap_chunk(p, other);
        p->kept = c;
    }
}

void pool_trim(struct pool *p)
{
    if (p->kept != NULL && p->kept->used == 0)
        pool_unmap_chunk(p, p->kept);
}

uint32_t pool_handle(const struct pool *p, const void *slot)
{
    uint32_t index = pool_index_of(p, pool_chunk_of(p, slot), slot);
    CHECK(index < 1u << POOL_INDEX_BITS);
    CHECK(p->states[index] & POOL_IN_USE);
    return (uint32_t)(p->states[index] & POOL_GENERATION_MASK) << POOL_INDEX_BITS | index;
}

void *pool_find(const struct pool *p, uint32_t handle)
{
    uint32_t index = handle & ((1u << POOL_INDEX_BITS) - 1);
    if (index >= (uint64_t)p->chunk_count * p->per_chunk)
        return NULL;
    if (p->states[index] != (handle >> POOL_INDEX_BITS | POOL_IN_USE))
        return NULL;
    return pool_slot(p, p->chunks[index / p->per_chunk], index % p->per_chunk);
}

void *pool_next(const struct pool *p, uint32_t *index)
{
    uint32_t i = *index % p->per_chunk;
    for (uint32_t number = *index / p->per_chunk; number < p->chunk_count; number++, i = 0) {
        const struct pool_chunk *c = p->chunks[number];
        if (c == NULL || c->used == 0)
            continue;
        for (; i < c->fresh; i++) {
            if (p->states[c->first_index + i] & POOL_IN_USE) {
                *index = c->first_index + i + 1;
                return pool_slot(p, c, i);
            }
        }
    }
    return NULL;
}

size_t pool_mapped_bytes(const struct pool *p)
{
    return (size_t)p->mapped_chunks * p->chunk_bytes;
}
