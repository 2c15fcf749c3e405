/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_DUE_QUEUE_H
#define PUBSUB_DUE_QUEUE_H

/* First in, first out: pool handles and when each is due, with one and the same delay for all, so
 * that the first is always due first. A handle whose slot has been released meanwhile is the
 * caller's to notice. One shard. */

#include <stdbool.h>

#include "core/base.h"

struct due {
    uint32_t handle;
    uint64_t at_ns;
};

/* Zeroed: empty. */
struct due_queue {
    struct due *items; /* items[i & (cap - 1)] for head <= i < tail */
    uint32_t head;
    uint32_t tail;
    uint32_t cap; /* a power of two */
};

void due_queue_deinit(struct due_queue *q);

/* False without memory. */
MUST_USE bool due_queue_push(struct due_queue *q, uint32_t handle, uint64_t at_ns);

static inline bool due_queue_is_empty(const struct due_queue *q)
{
    return q->head == q->tail;
}

/* The first one's time; UINT64_MAX when it is empty. */
static inline uint64_t due_queue_next_ns(const struct due_queue *q)
{
    return due_queue_is_empty(q) ? UINT64_MAX : q->items[q->head & (q->cap - 1)].at_ns;
}

/* Takes the first one, which is there. */
static inline uint32_t due_queue_pop(struct due_queue *q)
{
    return q->items[q->head++ & (q->cap - 1)].handle;
}

/* The i-th one, from 0 to due_queue_count() - 1, left where it is. */
static inline uint32_t due_queue_at(const struct due_queue *q, uint32_t i)
{
    return q->items[(q->head + i) & (q->cap - 1)].handle;
}

static inline uint32_t due_queue_count(const struct due_queue *q)
{
    return q->tail - q->head;
}

/* Gives back what a burst has grown. In quiet moments. */
void due_queue_trim(struct due_queue *q);

#endif
