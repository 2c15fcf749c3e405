/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SEEN_H
#define PUBSUB_REDIS_SEEN_H

/* Which messages of each node a room has seen: gaps and repeats are noticed. Pure, one shard. */

#include <stdbool.h>

#include "core/message.h"

#define REDIS_SEEN_INLINE 2
/* Nodes that are remembered for a room; beyond them the oldest entry but the first is given up:
 * that one is our own node's. */
#define REDIS_SEEN_MAX 128

struct redis_seen_node {
    uint64_t node;
    uint32_t epoch;
    uint32_t seq; /* of the last message */
};

/* Zeroed: none. */
struct redis_seen {
    struct message *more; /* memory of the entries when there are many */
    struct redis_seen_node few[REDIS_SEEN_INLINE];
    uint32_t whole_to; /* of the first node: gaps are counted behind this number */
    uint16_t count;
    uint16_t cap;     /* of `more` */
    uint16_t replace; /* the next one to be given up */
};

/* Notes a message; `epoch` and `seq` as in struct redis_envelope. Returns false when it, or a later
 * one of that node, was seen before. *missed is how many between it and the last one never came: 0
 * for a node that was not known. */
bool redis_seen_note(struct redis_seen *s, struct message_pool *pool, uint64_t node, uint32_t epoch,
                     uint32_t seq, uint32_t *missed);

/* The room was not subscribed for a while, with nobody there: what passed meanwhile is nobody's
 * loss. All nodes are forgotten but the first, our own: of its messages up to `seq`, the last that
 * was published, some may still come. */
void redis_seen_resume(struct redis_seen *s, uint32_t seq);

/* Gives the memory back. */
void redis_seen_clear(struct redis_seen *s, struct message_pool *pool);

#endif
