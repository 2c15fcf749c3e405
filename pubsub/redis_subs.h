/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SUBS_H
#define PUBSUB_REDIS_SUBS_H

/* The rooms that a home has subscribed to at Redis. One shard.
 *
 *   NEEDED     --subscribe sent-->      ASKED      waits in the server's queue for a batch
 *   ASKED      --Redis' answer-->       CONFIRMED  messages come
 *   CONFIRMED  --unsubscribe sent-->    LEAVING    nobody has been here for --redis-linger, or the
 *                                                  room belongs to another server now
 *   LEAVING    --Redis' answer-->       freed; or NEEDED again, when somebody is there
 *   CONFIRMED  --ended by a master-->   ENDED      waits until the map of the cluster says where to
 *   any        --link down-->           NEEDED, or freed when nobody is there
 *
 * A room has at most one command under way. Rooms for which somebody waits go ahead of a
 * resubscription.
 *
 * In a cluster rooms move from server to server with their slots. A room leaves its server first:
 * it goes to the next only when it is unsubscribed and every publish of it is answered. So what a
 * node gets of a room is what one master has sent, then what the next one has: nodes see one order
 * though they move at different times. Masters that send a room to each other are not followed
 * without a brake: from its third move on that is not confirmed the room makes one every
 * REDIS_MASTERS_HOP_NS, and from REDIS_HOPS_AWAITED on what waits goes on without Redis. */

#include "pubsub/due_queue.h"
#include "pubsub/redis_link.h"
#include "pubsub/redis_seen.h"

struct engine_redis;
struct redis_masters;
struct redis_server;

enum redis_sub_state {
    REDIS_SUB_NEEDED,
    REDIS_SUB_ASKED,
    REDIS_SUB_CONFIRMED,
    REDIS_SUB_LEAVING,
    REDIS_SUB_ENDED,
};

struct redis_sub {
    struct message *channel;     /* payload: prefix and name */
    struct message *first;       /* publishes that wait until it is confirmed, oldest first */
    struct message *last;        /* of them */
    struct message *returned;    /* the last of them that a master has sent back; NULL: none */
    struct redis_server *server; /* that carries it */
    struct redis_seen seen;
    uint64_t since_ns;    /* when the last member left; while `opening`: when the first came */
    uint32_t home_handle; /* the home's channel; 0: nobody is there */
    uint32_t epoch;       /* of our own numbers here */
    uint32_t seq;         /* of our own last message */
    uint32_t under_way;   /* publishes without an answer, but for order local */
    uint16_t slot;        /* in a cluster */
    uint8_t state;        /* enum redis_sub_state */
    uint8_t hops;         /* from server to server since it was last confirmed; counted up to 255 */
    bool is_awaiting;     /* the answer to its command: not yet subscribed, or unsubscribed */
    bool opening;         /* the home waits to be told */
    bool asks_alone;      /* by a command of its own: one with others was refused for one of them */
    bool is_refused;      /* it is not allowed: it was alone in the last command that was refused */
};

/* Queues of one server: handles of rooms. */
struct redis_batches {
    struct due_queue urgent;  /* in NEEDED, and somebody waits */
    struct due_queue needed;  /* all others of them */
    struct due_queue leaving; /* to be unsubscribed */
    struct due_queue asked;   /* in SUBSCRIBE commands without an answer, in their order */
    bool rescan;              /* a queue had no memory, or a batch was refused: look at all rooms */
    bool lost_unused;         /* one that lingers had no place in the engine's queue */
    bool allows_more;         /* one that was refused is confirmed: others may be allowed as well */
    uint32_t alone_from;      /* the look begins there with rooms that ask alone */
    uint32_t alone_next;      /* and the next one there; 0: at the first */
    uint32_t alone_count;     /* of them in the last look, REDIS_ALONE_MAX at most */
};

#define REDIS_HOPS_FREE 2
#define REDIS_HOPS_AWAITED 12 /* after about a second */

/* Channels of one command, and of those under way. */
#define REDIS_BATCH_MAX 512
#define REDIS_ASKED_MAX 2048
/* Rooms that are not allowed and asked for again, each by its own command, in a second. */
#define REDIS_ALONE_MAX 512

/* The room of that channel of Redis; NULL: none. */
struct redis_sub *redis_sub_find(struct engine_redis *e, const char *channel, uint32_t len);

/* The room with that name, made when needed. NULL without memory. */
struct redis_sub *redis_sub_get(struct engine_redis *e, const void *name, uint32_t len);

/* Somebody waits for it: it is subscribed to as soon as may be. While the link is down nothing is
 * queued: redis_subs_up() sees who waits. */
void redis_sub_hurry(struct engine_redis *e, struct redis_sub *sub);

/* What is published there need not wait for Redis: it has said that the room is not allowed, and is
 * not being asked now. */
static inline bool redis_sub_is_hopeless(const struct redis_sub *sub)
{
    return sub->is_refused && sub->state == REDIS_SUB_NEEDED && sub->first == NULL;
}

/* Somebody is there again, or for the first time. */
void redis_sub_use(struct engine_redis *e, struct redis_sub *sub);

/* Nobody is there any more: it lingers, then is unsubscribed. */
void redis_sub_unuse(struct engine_redis *e, struct redis_sub *sub);

/* The subscribing link has come up: all rooms of the server are needed. */
void redis_subs_up(struct engine_redis *e, struct redis_server *s);
/* It is down: nothing is subscribed, who is not used goes. */
void redis_subs_down(struct engine_redis *e, struct redis_server *s);

/* Redis' answers: a push for one channel; the end of a SUBSCRIBE for `count` rooms, by an error or
 * not (NULL). What waits in rooms that are refused goes on without Redis, unless they belong to
 * another server now. A NOPERM for several rooms does not say which: they are asked for one by one,
 * at once. */
void redis_subs_push(struct engine_redis *e, struct redis_server *s, const struct redis_push *push);
void redis_subs_answered(struct engine_redis *e, struct redis_server *s, uint32_t count,
                         const struct redis_reply *error);

/* The server has come up: publishes that wait in confirmed rooms leave. It is not awaited any more:
 * all that wait go on without it. */
void redis_subs_go_on(struct engine_redis *e, struct redis_server *s);
void redis_subs_give_up(struct engine_redis *e, struct redis_server *s);

/* The map of the cluster is another one: its rooms move. Nothing of this room is under way any
 * more, maybe: it moves if it is to. */
void redis_subs_settle(struct engine_redis *e, struct redis_masters *m);
void redis_sub_settle(struct engine_redis *e, struct redis_sub *sub);

/* Sends what is due. At the end of a turn. */
void redis_subs_flush(struct engine_redis *e, struct redis_server *s);

/* Lets rooms go that have lingered. Returns when the next is due, UINT64_MAX: none. */
uint64_t redis_subs_turn(struct engine_redis *e, uint64_t now_ns);

/* Once a second: rooms that were left over when a queue had no memory or a batch was refused. Those
 * that are not allowed take turns. */
void redis_subs_look_again(struct engine_redis *e, struct redis_server *s);

/* Forgets a room; nothing of it waits. */
void redis_sub_free(struct engine_redis *e, struct redis_sub *sub);

#endif
