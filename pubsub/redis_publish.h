/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_PUBLISH_H
#define PUBSUB_REDIS_PUBLISH_H

/* A home's publishes on their way to Redis, and what comes back. One shard.
 *
 * What becomes of a publish, each counted, and home_taken() is told once:
 *
 *      Redis has answered                       taken: delivered when it comes back
 *      the pair is not up, an error reply, or   local only: delivered here at once; or refused
 *      the link ended before a byte was sent
 *      the link ended after that                unknown: delivered if it comes back
 *      a master has sent it back (MOVED)        waits in the room, which moves; in order local
 *                                               local only
 *      --redis-queue is full                    dropped; in order local delivered here at once
 *
 * Every one has taken a number of the room, so what does not come to a node is a gap there. A
 * message of our own that comes after a later one of ours is skipped as repeated: the order of one
 * sender's messages holds, come what may. */

#include "pubsub/engine_redis.h"

/* Tags of commands: what their answer is for. The low bits of a LOCAL tag are the publisher's
 * shard, then the cost. */
enum redis_tag {
    REDIS_TAG_PUBLISH = 1,
    REDIS_TAG_LOCAL,
    REDIS_TAG_SUBSCRIBE, /* the rest: how many rooms */
    REDIS_TAG_UNSUBSCRIBE,
    REDIS_TAG_CANARY, /* the rest of these two: which of the server's canaries */
    REDIS_TAG_PROBE,
};
#define REDIS_TAG(kind, rest) ((uint64_t)(kind) << 60 | (rest))
#define REDIS_TAG_KIND(tag) ((enum redis_tag)((tag) >> 60))
#define REDIS_TAG_REST(tag) ((tag) & ((1ULL << 60) - 1))

/* Publishes m into the room. Takes m. */
void redis_publish(struct engine_redis *e, struct redis_sub *sub, struct message *m);

/* Redis' answer to the oldest one, or its loss. */
void redis_publish_answered(struct redis_server *s, uint64_t tag, const struct redis_reply *r);
void redis_publish_lost(struct redis_server *s, uint64_t tag, bool was_sent);

/* The room is confirmed, its pair up: what waited leaves. */
void redis_publish_waiting(struct engine_redis *e, struct redis_sub *sub);
/* The pair is down: what waited goes on without it. */
void redis_publish_give_up(struct engine_redis *e, struct redis_sub *sub);

/* What Redis has pushed for a room; borrowed. */
void redis_publish_received(struct engine_redis *e, struct redis_sub *sub, struct bytes in);

/* Bytes under way or waiting, at all servers. */
static inline uint64_t redis_publish_bytes(const struct engine_redis *e)
{
    return e->waiting_bytes + e->sent_bytes;
}

/* The publishing link has taken a command, or it is over: keeps the sum. */
static inline void redis_publish_count(struct redis_server *s)
{
    s->engine->sent_bytes += s->publish.unanswered_bytes - s->counted_bytes;
    s->counted_bytes = s->publish.unanswered_bytes;
}

#endif
