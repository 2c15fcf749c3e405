/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The ring between one producer's thread and one consumer's.
 *
 * Memory orders. Two words are shared: `head`, stored by the producer, and `tail`, stored by the
 * consumer. Both only grow (modulo 2^32; the ring is far smaller, so differences are exact).
 *
 *  - head: ring_publish() stores it with release, ring_count() and ring_peek() load it with
 *    acquire. The items written before the store are whole for who has seen it.
 *  - tail: ring_consume() stores it with release, ring_stage() and ring_has_room() load it with
 *    acquire. What the consumer read of the slots happened before the store, so who has seen it may
 *    overwrite them.
 *  - Each side reads its own word relaxed: it stored it itself.
 *
 * Nothing here needs a total order; who goes to sleep over an empty or a full ring has to add a
 * fence of its own (see mesh.c). The copies tail_seen and head_seen spare most loads of the other
 * side's cache line; a copy that lags only makes the ring look fuller or emptier than it is. */

#include "core/ring.h"

#include <sys/mman.h>

#include "core/plant.h"

_Static_assert(offsetof(struct ring, tail) - offsetof(struct ring, head) >= CORE_CACHE_LINE,
               "producer's and consumer's words never share a cache line");
_Static_assert(offsetof(struct ring, mask) - offsetof(struct ring, tail) >= CORE_CACHE_LINE,
               "the consumer's words share no line with what the producer reads for each item");
_Static_assert(sizeof(struct ring_item) == 32, "two items to a cache line");

static size_t ring_bytes(uint32_t slots)
{
    return sizeof(struct ring) + (size_t)slots * sizeof(struct ring_item);
}

/* Mapped, not from the heap: aligned, zero, and no page is taken before its slots are used. */
struct ring *ring_new(uint32_t slots)
{
    CHECK(slots > 0);
    CHECK((slots & (slots - 1)) == 0);
    CHECK(slots <= 1u << 24);
    struct ring *r =
        mmap(NULL, ring_bytes(slots), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED)
        return NULL;
    r->mask = slots - 1;
    return r;
}

void ring_free(struct ring *r)
{
    munmap(r, ring_bytes(r->mask + 1));
}

bool ring_has_room(struct ring *r)
{
    r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire); /* ring_consume() */
    return r->staged - r->tail_seen <= r->mask;
}

bool ring_stage(struct ring *r, const struct ring_item *item)
{
    if (unlikely(r->staged - r->tail_seen > r->mask) && !ring_has_room(r))
        return false;
    r->slots[r->staged & r->mask] = *item;
    r->staged++;
    return true;
}

static void ring_swap_first_staged(struct ring *r, uint32_t head)
{
    struct ring_item first = r->slots[head & r->mask];
    r->slots[head & r->mask] = r->slots[(head + 1) & r->mask];
    r->slots[(head + 1) & r->mask] = first;
}

bool ring_publish(struct ring *r)
{
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == r->staged)
        return false;
    if (PLANTED(PLANT_REORDER_RING) && r->staged - head > 1)
        ring_swap_first_staged(r, head);
    atomic_store_explicit(&r->head, r->staged, memory_order_release);
    return true;
}

uint32_t ring_count(struct ring *r)
{
    r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire); /* ring_publish() */
    return r->head_seen - atomic_load_explicit(&r->tail, memory_order_relaxed);
}

uint32_t ring_peek(struct ring *r, uint32_t max, const struct ring_item **items)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint32_t count = r->head_seen - tail;
    if (count < max)
        count = ring_count(r);
    uint32_t first = tail & r->mask;
    *items = &r->slots[first];
    return min_u32(min_u32(count, max), r->mask + 1 - first);
}

void ring_consume(struct ring *r, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    DCHECK(count <= r->head_seen - tail);
    atomic_store_explicit(&r->tail, tail + count, memory_order_release);
}
