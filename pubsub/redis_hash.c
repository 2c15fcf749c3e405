/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Rendezvous hashing over servers. Any thread. */

#include "pubsub/redis_hash.h"

#include <errno.h>
#include <string.h>

#include "core/map.h"

/* The same on all nodes and in all versions. */
#define SEED 0x7469646577697265u

int redis_hash_add(struct redis_hash *h, const char *identity)
{
    uint64_t id = map_hash(SEED, identity, strlen(identity));

    CHECK(h->count < REDIS_HASH_MAX);
    for (uint32_t i = 0; i < h->count; i++) {
        if (h->ids[i] == id)
            return -EEXIST;
    }
    h->ids[h->count++] = id;
    return 0;
}

/* Every bit of x decides about every bit of the result (the finalizer of splitmix64). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint32_t redis_hash_pick(const struct redis_hash *h, const void *channel, size_t len)
{
    uint64_t name = h->count > 1 ? map_hash(SEED, channel, len) : 0, best = 0;
    uint32_t picked = 0;

    for (uint32_t i = 0; i < h->count; i++) {
        uint64_t weight = mix(name ^ h->ids[i]);
        if (weight > best) {
            best = weight;
            picked = i;
        }
    }
    return picked;
}
