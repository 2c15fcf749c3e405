/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SUBS_H
#define PUBSUB_REDIS_SUBS_H

/* The rooms that a home has subscribed to at Redis. One shard.
 *
 *   NEEDED     --subscribe sent-->    ASKED      waits in the server's queue for a batch
 *   ASKED      --Redis' answer-->     CONFIRMED  messages come
 *   CONFIRMED  --unsubscribe sent-->  LEAVING    nobody has been here for --redis-linger
 *   LEAVING    --Redis' answer-->     freed; or NEEDED again, when somebody has come meanwhile
 *   any        --link down-->         NEEDED, or freed when nobody is there
 *
 * Answers are counted: `answers_due` of a room is how many of its commands are under way, and only
 * the last one's answer moves it. Rooms for which somebody waits go ahead of a resubscription. */

#include "pubsub/due_queue.h"
#include "pubsub/redis_link.h"
#include "pubsub/redis_seen.h"

struct engine_redis;
struct redis_server;

enum redis_sub_state { REDIS_SUB_NEEDED, REDIS_SUB_ASKED, REDIS_SUB_CONFIRMED, REDIS_SUB_LEAVING };

struct redis_sub {
    struct message *channel; /* payload: prefix and name */
    struct message *first;   /* publishes that wait until it is confirmed, oldest first */
    struct message *last;
    struct redis_server *server; /* that carries it */
    struct redis_seen seen;
    uint64_t since_ns;    /* when the last member left; while `opening`: when the first came */
    uint32_t home_handle; /* the home's channel; 0: nobody is there */
    uint32_t epoch;       /* of our own numbers here */
    uint32_t seq;         /* of our own last message */
    uint32_t batch;       /* of its last SUBSCRIBE */
    uint16_t answers_due;
    uint8_t state; /* enum redis_sub_state */
    bool opening;  /* the home waits to be told */
};

/* Queues of one server. */
struct redis_batches {
    struct due_queue urgent; /* handles of rooms in NEEDED for which somebody waits */
    struct due_queue needed; /* all others */
    uint32_t under_way;      /* SUBSCRIBE commands without an answer */
    uint32_t last;           /* number of the last one */
    bool rescan;             /* a queue had no memory, or a batch was refused: look at all rooms */
};

/* Channels of one command, and commands under way. */
#define REDIS_BATCH_MAX 512
#define REDIS_BATCHES_MAX 4

/* The room of that channel of Redis; NULL: none. */
struct redis_sub *redis_sub_find(struct engine_redis *e, const char *channel, uint32_t len);

/* The room with that name, made when needed. NULL without memory. */
struct redis_sub *redis_sub_get(struct engine_redis *e, const void *name, uint32_t len);

/* Somebody waits for it: it is subscribed to as soon as may be. While the link is down nothing is
 * queued: redis_subs_up() sees who waits. */
void redis_sub_hurry(struct engine_redis *e, struct redis_sub *sub);

/* Nobody is there any more: it lingers, then is unsubscribed. */
void redis_sub_unuse(struct engine_redis *e, struct redis_sub *sub);

/* The subscribing link has come up: all rooms of the server are needed. */
void redis_subs_up(struct engine_redis *e, struct redis_server *s);
/* It is down: nothing is subscribed, who is not used goes. */
void redis_subs_down(struct engine_redis *e, struct redis_server *s);

/* Redis' answers: a push for one channel; the end of a command, with an error or without. */
void redis_subs_push(struct engine_redis *e, struct redis_server *s, const struct redis_push *push);
void redis_subs_batch_over(struct engine_redis *e, struct redis_server *s, uint32_t batch,
                           bool refused);

/* Sends what is due. At the end of a turn. */
void redis_subs_flush(struct engine_redis *e, struct redis_server *s);

/* Gives up rooms that have lingered. Returns when the next is due, UINT64_MAX: none. */
uint64_t redis_subs_turn(struct engine_redis *e, uint64_t now_ns);

/* Once a second: rooms that were left over when a queue had no memory or a batch was refused. */
void redis_subs_look_again(struct engine_redis *e, struct redis_server *s);

/* Forgets a room; nothing of it waits. */
void redis_sub_free(struct engine_redis *e, struct redis_sub *sub);

#endif
