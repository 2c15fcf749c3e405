/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Sequence numbers of the nodes that publish into a room. Pure, one shard. */

#include "pubsub/redis_seen.h"

#include <string.h>

static struct redis_seen_node *entries(struct redis_seen *s)
{
    return s->more != NULL ? (struct redis_seen_node *)message_payload(s->more) : s->few;
}

static bool make_room(struct redis_seen *s, struct message_pool *pool)
{
    uint32_t cap = s->more != NULL ? s->cap : REDIS_SEEN_INLINE;
    struct message *mem;

    if (s->count < cap)
        return true;
    if (cap >= REDIS_SEEN_MAX)
        return false;
    cap = min_u32(cap * 4, REDIS_SEEN_MAX);
    mem = message_new(pool, cap * (uint32_t)sizeof(struct redis_seen_node));
    if (mem == NULL)
        return false;
    memcpy(message_payload(mem), entries(s), s->count * sizeof(struct redis_seen_node));
    if (s->more != NULL)
        message_free(pool, s->more);
    s->more = mem;
    s->cap = (uint16_t)cap;
    return true;
}

static void add(struct redis_seen *s, struct message_pool *pool, struct redis_seen_node n)
{
    if (make_room(s, pool)) {
        entries(s)[s->count++] = n;
        return;
    }
    if (s->replace == 0 || s->replace >= s->count)
        s->replace = 1; /* the first one is our own node */
    entries(s)[s->replace++] = n;
}

/* A difference with its sign, as numbers wrap. */
static int32_t ahead(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b);
}

/* How many are missing before the message. */
static uint32_t gap(struct redis_seen *s, const struct redis_seen_node *n, uint32_t seq)
{
    uint32_t from = n->seq;

    if (n == entries(s)) {
        from = s->whole_to;
        if (ahead(seq, from) <= 0)
            return 0;
        s->whole_to = seq;
    }
    return seq - from - 1;
}

bool redis_seen_note(struct redis_seen *s, struct message_pool *pool, uint64_t node, uint32_t epoch,
                     uint32_t seq, uint32_t *missed)
{
    struct redis_seen_node *n = entries(s);
    struct redis_seen_node *end = n + s->count;

    *missed = 0;
    while (n < end && n->node != node)
        n++;
    if (n == end) {
        if (s->count == 0)
            s->whole_to = seq;
        add(s, pool, (struct redis_seen_node){node, epoch, seq});
        return true;
    }
    if (epoch != n->epoch) {
        if (ahead(epoch, n->epoch) < 0)
            return false;
        n->epoch = epoch;
        n->seq = 0;
        if (n == entries(s))
            s->whole_to = 0;
    } else if (ahead(seq, n->seq) <= 0) {
        return false;
    }
    *missed = gap(s, n, seq);
    n->seq = seq;
    return true;
}

void redis_seen_resume(struct redis_seen *s, uint32_t seq)
{
    s->count = (uint16_t)min_u32(s->count, 1);
    s->replace = 0;
    s->whole_to = seq;
}

void redis_seen_clear(struct redis_seen *s, struct message_pool *pool)
{
    if (s->more != NULL)
        message_free(pool, s->more);
    *s = (struct redis_seen){0};
}
