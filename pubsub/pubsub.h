/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_PUBSUB_H
#define PUBSUB_PUBSUB_H

/* The channels of one shard: its hub (own subscribers), its home (channels that it owns) and the
 * dialect of rooms; a module of the shard. */

#include "net/conn.h"
#include "pubsub/home.h"
#include "pubsub/hub.h"
#include "pubsub/pubsub_config.h"
#include "pubsub/pubsub_stats.h"

/* What shards say to each other about channels. */
enum pubsub_item {
    /* hub -> home. a: hub's handle of the channel; ptr: message with the name; b: HOME_INTEREST_...
     */
    PUBSUB_ITEM_JOIN = SHARD_KIND(SHARD_MODULE_PUBSUB, 1),
    /* home -> hub. a: hub's handle; b: home's handle, 0: refused; c: enum home_join */
    PUBSUB_ITEM_JOINED,
    /* hub -> home. a: home's handle; b: HOME_INTEREST_... */
    PUBSUB_ITEM_INTEREST,
    /* hub -> home. a: home's handle */
    PUBSUB_ITEM_LEAVE,
    /* hub -> home. a: home's handle; ptr: message, its counter goes along */
    PUBSUB_ITEM_PUBLISH,
    /* home -> hub. a: hub's handle; ptr: message; c: its compressed twin or 0 */
    PUBSUB_ITEM_DELIVER,
    /* home -> hub. b: bytes of publishes that are dealt with */
    PUBSUB_ITEM_CREDIT,
};

struct pubsub {
    struct shard *shard;
    struct net *net;
    const struct pubsub_config *config;
    struct hub hub;
    struct home home;
    struct pool members;     /* of struct hub_member */
    uint64_t drain_until_ns; /* draining: how long the engine's answers are waited for */
    uint64_t drain_lost;     /* PUBSUB_STAT_CREDIT_LOST when that began */
    stats_value stats[PUBSUB_STAT_COUNT];
};

/* Prepares p as a module of s. 0 or -ENOMEM. Main. */
MUST_USE int pubsub_init(struct pubsub *p, struct shard *s, struct net *n,
                         const struct pubsub_config *config);
void pubsub_deinit(struct pubsub *p);

static inline void pubsub_stat(struct pubsub *p, enum pubsub_stat i)
{
    stats_inc(&p->stats[i]);
}

#endif
