/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_RING_H
#define CORE_RING_H

/* Single producer, single consumer ring of small items, stored inline; never blocks, never grows.
 * The producer stages items and publishes a batch with one store. The .c argues each memory order.
 */

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/base.h"

/* What shards say to each other. The kinds belong to the layers (see core/mesh.h); the other words
 * mean what the kind says. */
struct ring_item {
    uint32_t kind;
    uint32_t a;
    uint64_t b;
    uint64_t c;
    void *ptr;
};

struct ring {
    alignas(CORE_CACHE_LINE) _Atomic uint32_t head; /* next slot to fill; stored by the producer */
    uint32_t staged;    /* producer's: head <= staged, not yet published */
    uint32_t tail_seen; /* producer's copy of tail: may lag, never leads */
    alignas(CORE_CACHE_LINE) _Atomic uint32_t tail; /* next slot to drain; stored by the consumer */
    uint32_t head_seen;                     /* consumer's copy of head: may lag, never leads */
    alignas(CORE_CACHE_LINE) uint32_t mask; /* slots - 1; constant, as all below */
    struct ring_item slots[];               /* slots[i & mask] holds an item, tail <= i < head */
};

/* A ring of `slots` items (power of two), or NULL without memory. Any thread. */
struct ring *ring_new(uint32_t slots);
void ring_free(struct ring *r);

/* Producer only. Copies the item into the next slot, unpublished. False when the ring is full. */
bool ring_stage(struct ring *r, const struct ring_item *item);

/* Producer only. Looks anew whether the next ring_stage() would succeed. */
bool ring_has_room(struct ring *r);

/* Producer only. Publishes what is staged. Returns whether there was anything. */
bool ring_publish(struct ring *r);

/* Consumer only. Looks anew how many items are published. */
uint32_t ring_count(struct ring *r);

/* Consumer only. The oldest published items, in place, at most `max` and never around the end of
 * the array; *items is valid until ring_consume(). Returns how many. */
uint32_t ring_peek(struct ring *r, uint32_t max, const struct ring_item **items);

/* Consumer only. Gives the slots of `count` peeked items back. */
void ring_consume(struct ring *r, uint32_t count);

#endif
