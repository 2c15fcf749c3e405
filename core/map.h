/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_MAP_H
#define CORE_MAP_H

/* Hash map from byte strings to pointers, over seeded XXH3 (libxxhash). One shard.
 *
 * Open addressing; keys are not copied: the stored object owns its key, and map_key_fn finds it.
 * Growing and shrinking is incremental or amortised; an insert that finds no memory fails and
 * leaves the map as it was. The empty map owns no memory. */

#include "core/base.h"

/* The key of a stored object. */
typedef struct bytes (*map_key_fn)(const void *object);

struct map_slot {
    void *object;  /* NULL: free */
    uint32_t hash; /* upper half of the key's hash: spares most comparisons */
};

struct map {
    struct map_slot *slots;
    uint32_t mask; /* slots - 1; meaningless while slots is NULL */
    uint32_t count;
    map_key_fn key_of;
    uint64_t seed; /* random per process */
};

/* Seeded XXH3 of a byte string: also the choice of a channel's home. */
uint64_t map_hash(uint64_t seed, const void *key, size_t len);

void map_init(struct map *m, map_key_fn key_of, uint64_t seed);

/* Frees the table, not the objects. */
void map_deinit(struct map *m);

/* Returns the object or NULL. */
void *map_find(const struct map *m, const void *key, size_t len);

/* Stores the object under its key, which is not there yet. 0 or -ENOMEM. */
MUST_USE int map_insert(struct map *m, void *object);

/* Removes the object with that key and returns it, or NULL. */
void *map_remove(struct map *m, const void *key, size_t len);

/* Walks all objects: *cursor starts at 0; NULL at the end. No insert or remove meanwhile. */
void *map_next(const struct map *m, uint32_t *cursor);

size_t map_memory_bytes(const struct map *m);

#endif
