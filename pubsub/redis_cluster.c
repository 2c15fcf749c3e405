/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a cluster. On the shard's thread. */

#include "pubsub/redis_cluster.h"

#include <string.h>

/* Nodes of the URL and masters that have slots. */
static void list_nodes(struct redis_cluster *c)
{
    uint32_t count = c->seed_count;

    for (uint32_t i = 0; i < c->slots.node_count; i++) {
        if (c->slots.slot_counts[i] > 0)
            c->endpoints[count++] = c->slots.nodes[i];
    }
    redis_scout_set_endpoints(&c->scout, c->endpoints, count);
}

static bool on_answer(struct redis_scout *s, const struct redis_reply *r)
{
    struct redis_cluster *c = s->owner;
    int changed = redis_slots_read(&c->slots, r, redis_scout_asked(s));

    if (changed < 0)
        return false;
    if (changed)
        list_nodes(c);
    s->interval_ns =
        c->slots.covered == REDIS_SLOT_COUNT ? REDIS_CLUSTER_INTERVAL_NS : REDIS_CLUSTER_HURRY_NS;
    c->events->on_slots(c, changed);
    return c->slots.covered > 0;
}

static void on_useless(struct redis_scout *s, const char *text)
{
    struct redis_cluster *c = s->owner;

    if (c->events->on_useless != NULL)
        c->events->on_useless(c, redis_scout_asked(s), text);
}

static const struct redis_scout_events scout_events = {.on_answer = on_answer,
                                                       .on_useless = on_useless};

void redis_cluster_init(struct redis_cluster *c, struct io *io,
                        const struct redis_link_config *config, const struct redis_endpoint *seeds,
                        uint32_t seed_count, const struct redis_cluster_events *events, void *owner)
{
    struct redis_link_config link = *config;

    CHECK(seed_count <= REDIS_URL_ENDPOINTS_MAX);
    c->events = events;
    c->owner = owner;
    c->seed_count = seed_count;
    c->arg = (struct redis_arg){.head = "SLOTS", .head_len = 5};
    memcpy(c->endpoints, seeds, seed_count * sizeof(*seeds));
    redis_slots_init(&c->slots);
    link.db = 0;
    link.wants_master = false;
    redis_scout_init(&c->scout, io, &link, c->endpoints, seed_count, "CLUSTER", &c->arg, 1,
                     REDIS_CLUSTER_INTERVAL_NS, &scout_events, c);
}

bool redis_cluster_moved(struct redis_cluster *c, const char *text, size_t len,
                         const struct redis_endpoint *asked)
{
    redis_scout_hurry(&c->scout);
    if (redis_slots_moved(&c->slots, text, len, asked) < 0)
        return false;
    list_nodes(c);
    c->events->on_slots(c, true);
    return true;
}
