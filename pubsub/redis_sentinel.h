/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SENTINEL_H
#define PUBSUB_REDIS_SENTINEL_H

/* Where the master is, by Redis Sentinel (https://redis.io/docs/reference/sentinel-clients/). One
 * shard.
 *
 * One Sentinel is asked SENTINEL MASTER once a second, and at once when a link to the master is in
 * trouble; an answer of an older epoch than one that was seen is passed over, so that a Sentinel
 * that lags behind cannot lead back to a master that was deposed (only when no other answer has
 * come for REDIS_SENTINEL_TRUST_NS: the Sentinels may have been set up anew). Who connects checks
 * with ROLE as well (redis_link_config.wants_master). A subscription to +switch-master would tell a
 * second earlier, on a second connection to keep alive and to watch; a failover takes longer than
 * the question. */

#include "pubsub/redis_scout.h"

#define REDIS_SENTINEL_INTERVAL_NS NS_PER_SEC
#define REDIS_SENTINEL_TRUST_NS (30 * NS_PER_SEC)

struct redis_sentinel;

struct redis_sentinel_events {
    /* The master is known, or another one than before; borrowed. */
    void (*on_master)(struct redis_sentinel *s, const struct redis_endpoint *master);
    /* A Sentinel is of no use, for the log: it can't be reached, or doesn't know the master. */
    void (*on_useless)(struct redis_sentinel *s, const struct redis_endpoint *sentinel,
                       const char *text);
};

struct redis_sentinel {
    struct redis_scout scout;
    const struct redis_sentinel_events *events;
    void *owner;
    struct redis_endpoint master; /* while is_known */
    uint64_t epoch;               /* of the configuration that told it */
    bool is_known;
    struct redis_arg args[2];
};

/* Prepares s; endpoints and master_name outlive it. Of *config, endpoint, role, db and wants_master
 * are not used; user and password are the Sentinels' own. */
void redis_sentinel_init(struct redis_sentinel *s, struct io *io,
                         const struct redis_link_config *config,
                         const struct redis_endpoint *endpoints, uint32_t endpoint_count,
                         const char *master_name, const struct redis_sentinel_events *events,
                         void *owner);

/* The rest as of the scout: start, stop, is_idle, deinit, turn, flush. A link to the master that is
 * in trouble calls redis_scout_doubt(&s->scout) every time. */

#endif
