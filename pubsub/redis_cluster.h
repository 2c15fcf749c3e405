/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_CLUSTER_H
#define PUBSUB_REDIS_CLUSTER_H

/* The map of a Redis Cluster, kept up to date. One shard.
 *
 * One node is asked CLUSTER SLOTS every ten seconds, and at once when something does not fit the
 * map: a MOVED, a sunsubscribe that nobody asked for, a master that can't be reached; every second
 * while slots have no master. Nodes that were learned are asked like those of the URL. */

#include "pubsub/redis_scout.h"
#include "pubsub/redis_slots.h"

#define REDIS_CLUSTER_INTERVAL_NS (10 * NS_PER_SEC)
#define REDIS_CLUSTER_HURRY_NS NS_PER_SEC /* while slots have no master */

struct redis_cluster;

struct redis_cluster_events {
    /* c->slots is known, or mended; whether it is another map than before. */
    void (*on_slots)(struct redis_cluster *c, bool has_changed);
    /* A node is of no use for the question, for the log. NULL: nobody cares. */
    void (*on_useless)(struct redis_cluster *c, const struct redis_endpoint *node,
                       const char *text);
};

struct redis_cluster {
    struct redis_scout scout;
    struct redis_slots slots;
    const struct redis_cluster_events *events;
    void *owner;
    struct redis_arg arg;
    uint32_t seed_count; /* endpoints of the URL, in front; then those of slots */
    struct redis_endpoint endpoints[REDIS_URL_ENDPOINTS_MAX + REDIS_SLOTS_NODES_MAX];
};

/* Prepares c. Of *config, endpoint, role, db and wants_master are not used. At most
 * REDIS_URL_ENDPOINTS_MAX seeds, copied. */
void redis_cluster_init(struct redis_cluster *c, struct io *io,
                        const struct redis_link_config *config, const struct redis_endpoint *seeds,
                        uint32_t seed_count, const struct redis_cluster_events *events,
                        void *owner);

/* A command to `asked` was answered by MOVED: the map is mended, on_slots() called, and the whole
 * map asked for. Returns whether it was a MOVED that makes sense. */
bool redis_cluster_moved(struct redis_cluster *c, const char *text, size_t len,
                         const struct redis_endpoint *asked);

/* The rest as of the scout: start, stop, is_idle, deinit, turn, flush, hurry. */

#endif
