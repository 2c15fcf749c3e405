/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_ENGINE_REDIS_H
#define PUBSUB_ENGINE_REDIS_H

/* The engine `redis`: rooms across nodes by Redis' PUBLISH and SUBSCRIBE, in a cluster by SPUBLISH
 * and SSUBSCRIBE. A module of the shard, with one pair of links to each server: one publishes, one
 * subscribes. On the shard's thread.
 *
 *      home --publish--> PUBLISH --> Redis --push--> every node that has the room, this one too
 *                                      `--answer--> the publisher's credit
 *
 * The modules: redis_server (a pair of links and its health), redis_masters (the pairs of a
 * cluster), redis_subs (subscriptions),
 * redis_publish (what is under way), redis_envelope (the header), redis_seen (gaps and repeats);
 * this one puts them together. */

#include <stdatomic.h>

#include "core/map.h"
#include "core/shard.h"
#include "pubsub/engine.h"
#include "pubsub/redis_config.h"
#include "pubsub/redis_hash.h"
#include "pubsub/redis_server.h"
#include "pubsub/redis_stats.h"

struct home;

#define REDIS_SERVERS_MAX 16

/* What the shards of a node share. */
struct redis_shared {
    const struct redis_config *config;
    struct redis_url *urls; /* of config->urls; owned */
    uint32_t url_count;
    struct redis_hash hash; /* which of them carries a channel */
    uint64_t node;          /* our name in messages: random, new for every process */
    /* Of all shards: what must be up, a pair for each server and the map of each cluster; and how
     * many of those are. */
    _Atomic uint32_t pairs;
    _Atomic uint32_t up;
    /* By shard: bit i when no server of urls[i] can be reached from there. Only with --engine-down
     * refuse. */
    _Atomic uint32_t *away;
    uint32_t message_max; /* --max-message: longer ones are none of a node's */
    struct redis_resolver *resolver;
    struct tls_client *tls; /* of rediss://; the caller's; NULL: no URL asks for it */
};

struct engine_redis {
    struct engine engine; /* first: the home's view */
    struct shard *shard;
    struct home *home;
    struct redis_shared *shared;
    const struct redis_config *config;
    struct redis_server *servers;                     /* list */
    struct redis_server *by_url[REDIS_SERVERS_MAX];   /* of a cluster: its `nowhere` */
    struct redis_masters *masters[REDIS_SERVERS_MAX]; /* by URL; NULL: it is no cluster's */
    struct map subs;                                  /* of struct redis_sub, by channel */
    struct pool pool;                                 /* of struct redis_sub */
    struct due_queue unused;                          /* rooms that linger */
    struct due_queue opening; /* rooms whose home waits to be told, until when */
    uint64_t waiting_bytes;   /* of publishes that wait for a subscription */
    uint64_t sent_bytes;      /* of commands to publishing links without an answer */
    uint32_t under_way;       /* publishes that a link has taken and Redis has not answered */
    uint32_t epoch;           /* of the room made last */
    bool stopping;
    uint64_t gone[REDIS_STAT_COUNT]; /* counters of links that are no more */
    stats_value stats[REDIS_STAT_COUNT];
};

/* Reads the URLs and draws nothing: node is given. tls is not NULL when one is rediss://, and
 * outlives r. 0, -ENOMEM, or -EINVAL (config_read() checks them before). Main. */
MUST_USE int redis_shared_init(struct redis_shared *r, const struct redis_config *config,
                               struct tls_client *tls, uint64_t node, uint32_t shards,
                               uint32_t message_max);
void redis_shared_deinit(struct redis_shared *r);

/* The server that a channel of Redis belongs to, by consistent hashing: the same on all nodes that
 * are given the same URLs. Any thread. */
uint32_t redis_shared_server(const struct redis_shared *r, const void *channel, size_t len);

/* Whether every shard reaches every server. Any thread. */
static inline bool redis_shared_is_up(const struct redis_shared *r)
{
    return atomic_load_explicit(&r->up, memory_order_relaxed) ==
           atomic_load_explicit(&r->pairs, memory_order_relaxed);
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

/* For redis_server: it is up or away now. Looks at all rooms of it that are waited for. */
void engine_redis_look_at_openings(struct engine_redis *e, const struct redis_server *s);

/* For redis_subs: Redis has confirmed the room; it has gone to another server. */
void engine_redis_confirmed(struct engine_redis *e, struct redis_sub *sub);
void engine_redis_moved(struct engine_redis *e, struct redis_sub *sub);

/* For redis_masters: a server more, from the heap; one less, whose links are idle: it is freed. */
void engine_redis_add(struct engine_redis *e, struct redis_server *s);
void engine_redis_remove(struct engine_redis *e, struct redis_server *s);

#endif
