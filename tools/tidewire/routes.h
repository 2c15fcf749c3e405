/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_ROUTES_H
#define TOOLS_TIDEWIRE_ROUTES_H

/* Which request leads where: the admin listener's resources, rooms, the page. On the shards'
 * threads. */

#include "pubsub/engine_redis.h"
#include "pubsub/pubsub.h"

/* What every shard's routes share; constant while shards run. */
struct routes_shared {
    const struct stats_registry *stats;
    const struct node *node;
    const struct redis_shared *redis; /* NULL: without --redis */
    bool page;                        /* serve tools/web at / */
    uint16_t redirect_port;           /* --redirect-http: the TLS port; 0: off */
};

/* One shard's. The ctx of routes_app is its pubsub: messages go there without a stop here. */
struct routes {
    const struct routes_shared *shared;
    struct pubsub pubsub;
};

extern const struct net_app routes_app;

#endif
