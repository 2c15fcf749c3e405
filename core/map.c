/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Open addressing with linear probing; removal shifts the rest of the cluster back, so there are no
 * tombstones and a table never ages. On the shard's thread.
 *
 * The place of an object comes from the upper half of its hash, which the slot keeps: a rehash
 * calls no key function, and keys chosen by the lower half (a shard holds the channels whose hash
 * modulo shards is its own) still spread over the whole table. */

#include "core/map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#define MAP_SLOTS_MIN 8

uint64_t map_hash(uint64_t seed, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, seed);
}

static uint32_t map_stored_hash(const struct map *m, const void *key, size_t len)
{
    return (uint32_t)(map_hash(m->seed, key, len) >> 32);
}

void map_init(struct map *m, map_key_fn key_of, uint64_t seed)
{
    *m = (struct map){.key_of = key_of, .seed = seed};
}

void map_deinit(struct map *m)
{
    free(m->slots);
    map_init(m, m->key_of, m->seed);
}

static bool map_key_equals(const struct map *m, const void *object, const void *key, size_t len)
{
    struct bytes k = m->key_of(object);
    return k.len == len && (len == 0 || memcmp(k.ptr, key, len) == 0);
}

/* The slot that holds the key, or NULL. Ends at the cluster's end: a table is never full. */
static struct map_slot *map_slot_of(const struct map *m, const void *key, size_t len)
{
    if (m->slots == NULL)
        return NULL;
    uint32_t hash = map_stored_hash(m, key, len);
    for (uint32_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        struct map_slot *s = &m->slots[i];
        if (s->object == NULL)
            return NULL;
        if (s->hash == hash && map_key_equals(m, s->object, key, len))
            return s;
    }
}

void *map_find(const struct map *m, const void *key, size_t len)
{
    struct map_slot *s = map_slot_of(m, key, len);
    return s == NULL ? NULL : s->object;
}

static void map_put(struct map_slot *slots, uint32_t mask, struct map_slot s)
{
    uint32_t i = s.hash & mask;
    while (slots[i].object != NULL)
        i = (i + 1) & mask;
    slots[i] = s;
}

static int map_resize(struct map *m, uint32_t slot_count)
{
    struct map_slot *slots = calloc(slot_count, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; m->slots != NULL && i <= m->mask; i++) {
        if (m->slots[i].object != NULL)
            map_put(slots, slot_count - 1, m->slots[i]);
    }
    free(m->slots);
    m->slots = slots;
    m->mask = slot_count - 1;
    return 0;
}

/* Keeps a quarter of the slots free for one object more. */
static int map_reserve(struct map *m)
{
    if (m->slots == NULL)
        return map_resize(m, MAP_SLOTS_MIN);
    uint64_t slot_count = (uint64_t)m->mask + 1;
    if (m->count + 1 <= slot_count - slot_count / 4)
        return 0;
    return slot_count > UINT32_MAX / 2 ? -ENOMEM : map_resize(m, (uint32_t)slot_count * 2);
}

int map_insert(struct map *m, void *object)
{
    CHECK(object != NULL);
    int err = map_reserve(m);
    if (err != 0)
        return err;
    struct bytes key = m->key_of(object);
    DCHECK(map_slot_of(m, key.ptr, key.len) == NULL);
    uint32_t hash = map_stored_hash(m, key.ptr, key.len);
    map_put(m->slots, m->mask, (struct map_slot){.object = object, .hash = hash});
    m->count++;
    return 0;
}

/* Frees a slot and moves back what has been pushed over it, so that no probe meets a gap before its
 * goal: s may fill the gap unless its own place lies (in the cluster's order) behind the gap. */
static void map_close_gap(struct map *m, uint32_t gap)
{
    for (uint32_t i = (gap + 1) & m->mask; m->slots[i].object != NULL; i = (i + 1) & m->mask) {
        uint32_t pushed = (i - m->slots[i].hash) & m->mask;
        if (pushed < ((i - gap) & m->mask))
            continue;
        m->slots[gap] = m->slots[i];
        gap = i;
    }
    m->slots[gap] = (struct map_slot){0};
}

/* Halves a table that is less than an eighth full. Without memory for that it stays as it is. */
static void map_shrink(struct map *m)
{
    if (m->count == 0)
        map_deinit(m);
    else if (m->mask + 1 > MAP_SLOTS_MIN && m->count < (m->mask + 1) / 8)
        (void)map_resize(m, (m->mask + 1) / 2);
}

void *map_remove(struct map *m, const void *key, size_t len)
{
    struct map_slot *s = map_slot_of(m, key, len);
    if (s == NULL)
        return NULL;
    void *object = s->object;
    map_close_gap(m, (uint32_t)(s - m->slots));
    m->count--;
    map_shrink(m);
    return object;
}

void *map_next(const struct map *m, uint32_t *cursor)
{
    if (m->slots == NULL)
        return NULL;
    while (*cursor <= m->mask) {
        void *object = m->slots[(*cursor)++].object;
        if (object != NULL)
            return object;
    }
    return NULL;
}

size_t map_memory_bytes(const struct map *m)
{
    return m->slots == NULL ? 0 : ((size_t)m->mask + 1) * sizeof(*m->slots);
}
