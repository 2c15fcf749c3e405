/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_ENGINE_REDIS_H
#define PUBSUB_ENGINE_REDIS_H

/* The engine `redis`: rooms across nodes by Redis' PUBLISH and SUBSCRIBE. A module of the shard,
 * with one pair of links to each server: one publishes, one subscribes. On the shard's thread.
 *
 *      home --publish--> PUBLISH --> Redis --push--> every node that has the room, this one too
 *                                      `--answer--> the publisher's credit
 *
 * A pair is up when both links are and a canary has come back. While it is not, nothing is
 * published: --engine-down says what happens to messages and to those who come.
 *
 * The modules: redis_envelope (the header), redis_seen (gaps and repeats), redis_canary (health),
 * redis_subs (subscriptions), redis_publish (what is under way); this one puts them together. */

#include <stdatomic.h>

#include "core/map.h"
#include "core/shard.h"
#include "pubsub/engine.h"
#include "pubsub/redis_canary.h"
#include "pubsub/redis_config.h"
#include "pubsub/redis_hash.h"
#include "pubsub/redis_master.h"
#include "pubsub/redis_stats.h"
#include "pubsub/redis_subs.h"

struct home;

#define REDIS_SERVERS_MAX 16

/* What the shards of a node share. */
struct redis_shared {
    const struct redis_config *config;
    struct redis_url *urls; /* of config->urls; owned */
    uint32_t url_count;
    struct redis_hash hash; /* which of them carries a channel */
    uint64_t node;          /* our name in messages: random, new for every process */
    uint32_t pairs;         /* of all shards; constant while they run */
    _Atomic uint32_t up;    /* of them */
    uint32_t message_max;   /* --max-message: longer ones are none of a node's */
    struct redis_resolver *resolver;
};

/* One server as one shard sees it. */
struct redis_server {
    struct engine_redis *engine;
    struct redis_link publish;
    struct redis_link subscribe;
    struct redis_sentinel *sentinel; /* tells where the links go; NULL: the URL does */
    struct redis_canary canary;
    struct redis_batches batches;
    struct message *first; /* publishes that Redis has not answered, oldest first */
    struct message *last;
    struct message *canary_channel; /* payload: its name */
    uint64_t down_since_ns;
    bool is_away; /* an attempt to connect has failed since it was up */
    char text[REDIS_URL_TEXT_MAX];
};

struct engine_redis {
    struct engine engine; /* first: the home's view */
    struct shard *shard;
    struct home *home;
    struct redis_shared *shared;
    const struct redis_config *config;
    struct redis_server *servers;
    uint32_t server_count;
    struct map subs;          /* of struct redis_sub, by channel */
    struct pool pool;         /* of struct redis_sub */
    struct due_queue unused;  /* rooms that linger */
    struct due_queue opening; /* rooms whose home waits to be told, until when */
    uint64_t waiting_bytes;   /* of publishes that wait for a subscription */
    uint32_t under_way;       /* publishes that a link has taken and Redis has not answered */
    uint32_t epoch;           /* of the room made last */
    bool stopping;
    stats_value stats[REDIS_STAT_COUNT];
};

/* Reads the URLs and draws nothing: node is given. 0, -ENOMEM, or -EINVAL (config_read() checks
 * them before). Main. */
MUST_USE int redis_shared_init(struct redis_shared *r, const struct redis_config *config,
                               uint64_t node, uint32_t shards, uint32_t message_max);
void redis_shared_deinit(struct redis_shared *r);

/* The server that a channel of Redis belongs to, by consistent hashing: the same on all nodes that
 * are given the same URLs. Any thread. */
uint32_t redis_shared_server(const struct redis_shared *r, const void *channel, size_t len);

/* Whether every shard reaches every server. Any thread. */
static inline bool redis_shared_is_up(const struct redis_shared *r)
{
    return atomic_load_explicit(&r->up, memory_order_relaxed) == r->pairs;
}

/* Makes the engine of a shard, and it a module; the home uses it from now on. 0 or -ENOMEM. Main.
 */
MUST_USE int engine_redis_init(struct engine_redis *e, struct shard *s, struct home *h,
                               struct redis_shared *shared);
/* After the home's own end, before the shard's messages go. */
void engine_redis_deinit(struct engine_redis *e);

static inline void redis_stat(struct engine_redis *e, enum redis_stat i)
{
    stats_inc(&e->stats[i]);
}

static inline bool redis_server_is_up(const struct redis_server *s)
{
    return s->canary.is_up;
}

/* For redis_master: nobody says where the server is. */
void engine_redis_unreachable(struct redis_server *s);

/* For redis_subs: Redis has confirmed the room. */
void engine_redis_confirmed(struct engine_redis *e, struct redis_sub *sub);

#endif
