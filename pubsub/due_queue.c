/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Handles that wait, first in, first out. One shard. */

#include "pubsub/due_queue.h"

#include <stdlib.h>

#define CAP_MIN 64

void due_queue_deinit(struct due_queue *q)
{
    free(q->items);
    *q = (struct due_queue){0};
}

static bool grow(struct due_queue *q)
{
    uint32_t cap = q->cap == 0 ? CAP_MIN : q->cap * 2;
    struct due *items = malloc(cap * sizeof(*items));
    uint32_t n = 0;

    if (items == NULL)
        return false;
    while (q->head != q->tail)
        items[n++] = q->items[q->head++ & (q->cap - 1)];
    free(q->items);
    *q = (struct due_queue){.items = items, .tail = n, .cap = cap};
    return true;
}

bool due_queue_push(struct due_queue *q, uint32_t handle, uint64_t at_ns)
{
    if (q->tail - q->head == q->cap && !grow(q))
        return false;
    q->items[q->tail++ & (q->cap - 1)] = (struct due){handle, at_ns};
    return true;
}

void due_queue_trim(struct due_queue *q)
{
    if (due_queue_is_empty(q))
        due_queue_deinit(q);
}
