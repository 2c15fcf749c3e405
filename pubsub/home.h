/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_HOME_H
#define PUBSUB_HOME_H

/* The channels that one shard owns: it alone orders and numbers their messages and knows which
 * shards have subscribers. On the shard's thread; hubs of other shards speak to it through the
 * mesh.
 *
 * Flow control: what a shard publishes here counts against its credit (--mesh-window) until this
 * home has dealt with it. While the backlog towards any shard is over --mesh-backlog, credit is
 * withheld, and publishers of this shard itself wait as well. */

#include "core/map.h"
#include "core/message.h"
#include "core/pool.h"
#include "core/ring.h"
#include "pubsub/engine.h"

struct pubsub;

/* What a shard wants of a channel besides its messages. */
enum {
    HOME_INTEREST_COMPRESSED = 1, /* it has members that negotiated permessage-deflate */
    HOME_INTEREST_WAITS = 2,      /* it is to be told when the engine has opened the channel */
};

/* A shard that has subscribers. */
struct home_interest {
    uint32_t hub_handle; /* that shard's handle of the channel */
    uint16_t shard;
    uint16_t wants; /* HOME_INTEREST_... */
};

#define HOME_INTERESTS_INLINE 2

struct home_channel {
    struct message *name; /* payload: the name; a reference of ours */
    uint64_t seq;         /* of the last message */
    struct message *more; /* memory of `interests` when there are many */
    struct home_interest *interests;
    struct home_interest few[HOME_INTERESTS_INLINE];
    uint32_t count;
    uint32_t cap;
    uint32_t wants_compressed; /* interests with HOME_INTEREST_COMPRESSED */
    uint32_t engine;           /* the engine's name of the channel */
};

struct home {
    struct pubsub *pubsub;
    struct engine *engine; /* NULL: messages are ordered here (the engine `memory`) */
    struct map channels;   /* of struct home_channel, by name */
    struct pool pool;
    uint64_t *credit_due; /* by shard: bytes to give back at the next flush */
    bool withheld;        /* a backlog is over its bound, or the engine is full */
};

MUST_USE int home_init(struct home *h, struct pubsub *p);
void home_deinit(struct home *h);

/* The home shard of a name. Any thread. */
uint32_t home_of(const struct pubsub *p, const void *name, size_t len);

enum home_join {
    HOME_JOINED,
    HOME_JOIN_WAITS, /* hub_joined() follows */
    HOME_JOIN_AWAY,  /* refused: the engine can't be reached */
    HOME_JOIN_NO_MEMORY,
};

/* Whether who comes to a channel that is open is refused, as its engine is away. Of any home, on
 * any shard. */
static inline bool home_refuses(const struct home *h, uint32_t home, struct message *name)
{
    struct engine *e = h->engine;

    return unlikely(e != NULL) &&
           e->calls->refuses(e, home, message_payload(name), name->payload_len);
}

/* Shard `from` has its first subscriber. Takes a reference to the name's message. *handle becomes
 * the home's handle of the channel, or 0 when it is refused. */
enum home_join home_join(struct home *h, uint32_t from, uint32_t hub_handle, struct message *name,
                         uint32_t wants, uint32_t *handle);

void home_want(struct home *h, uint32_t from, uint32_t handle, uint32_t wants);

/* Shard `from` has no subscriber any more. */
void home_leave(struct home *h, uint32_t from, uint32_t handle);

/* A message for the channel, from a hub: delivered, or handed to the engine. Takes m, whose counter
 * is ours. */
void home_publish(struct home *h, uint32_t from, uint32_t handle, struct message *m);

/* Numbers the message and passes it on to every interested shard. Takes m, whose counter is ours.
 */
void home_deliver(struct home *h, struct home_channel *ch, struct message *m);

/* The engine's other calls. The channel that open() has not opened at once is open, or refused
 * (ENGINE_AWAY, ENGINE_NO_MEMORY), which ends it. */
void home_opened(struct home *h, uint32_t handle);
void home_open_failed(struct home *h, uint32_t handle, enum engine_open why);
/* A publish of shard `from` is dealt with: its cost is credit again. */
void home_taken(struct home *h, uint32_t from, uint64_t cost);

/* Gives credit back, or withholds it. End of turn. */
void home_flush(struct home *h);

/* What a publish costs in credit. */
static inline uint64_t home_cost(const struct message *m)
{
    return sizeof(struct message) + m->payload_len;
}

#endif
