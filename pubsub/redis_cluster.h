/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_CLUSTER_H
#define PUBSUB_REDIS_CLUSTER_H

/* The map of a Redis Cluster, kept up to date. One shard.
 *
 * One node is asked CLUSTER SLOTS every ten seconds, and at once when something does not fit the
 * map: a MOVED, a sunsubscribe that nobody asked for, a master that can't be reached; every second
 * while slots have no master, or the owner lacks one. Nodes that were learned are asked like those
 * of the URL.
 *
 * A node that is cut off from the others keeps an old map, and knows nothing of that. So what a
 * server says of itself counts for more: by a MOVED, a sunsubscribe or its ROLE it denies that it
 * is the master of a slot, or any master. For a while no map is believed that gives it the slot
 * back, unless who has it now denies it as well, and later; the next node is asked instead. */

#include "pubsub/redis_scout.h"
#include "pubsub/redis_slots.h"

#define REDIS_CLUSTER_INTERVAL_NS (10 * NS_PER_SEC)
#define REDIS_CLUSTER_HURRY_NS NS_PER_SEC         /* while a master is lacking */
#define REDIS_CLUSTER_DENIAL_NS (10 * NS_PER_SEC) /* as long a denial counts */
#define REDIS_CLUSTER_DENIALS 32                  /* that are kept, the last ones */
#define REDIS_CLUSTER_EVERY_SLOT REDIS_SLOT_COUNT

struct redis_cluster;

struct redis_cluster_events {
    /* c->slots is known, or mended; whether it is another map than before. */
    void (*on_slots)(struct redis_cluster *c, bool has_changed);
    /* A node is of no use for the question, for the log. NULL: nobody cares. */
    void (*on_useless)(struct redis_cluster *c, const struct redis_endpoint *node,
                       const char *text);
    /* It has told its map, but that names a server that is of no use: another node is asked, for
     * the log. NULL: nobody cares. */
    void (*on_doubted)(struct redis_cluster *c, const struct redis_endpoint *node);
};

/* A server is not the master of a slot, or of none. */
struct redis_denial {
    struct redis_endpoint by;
    uint32_t slot;       /* or REDIS_CLUSTER_EVERY_SLOT */
    bool is_unreachable; /* with EVERY_SLOT: nor is it asked for the map, while others are there */
    uint64_t at_ns;      /* 0: a free place */
};

struct redis_cluster {
    struct redis_scout scout;
    struct redis_slots slots;
    const struct redis_cluster_events *events;
    void *owner;
    struct redis_arg arg;
    bool lacks_master; /* see redis_cluster_lacks() */
    struct redis_denial denials[REDIS_CLUSTER_DENIALS];
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

/* That server is not the master of the slot, as it says; or of none, as it can't be reached: the
 * map is asked for. And the reverse: it is a master now, whatever it was before. */
void redis_cluster_denied(struct redis_cluster *c, const struct redis_endpoint *by, uint32_t slot);
void redis_cluster_unreachable(struct redis_cluster *c, const struct redis_endpoint *by);
void redis_cluster_affirmed(struct redis_cluster *c, const struct redis_endpoint *by);

/* A master of the map is not to be had, or all are: how soon the map is asked for again. */
void redis_cluster_lacks(struct redis_cluster *c, bool lacks_master);

/* The rest as of the scout: start, stop, is_idle, deinit, turn, flush, hurry, doubt. */

#endif
