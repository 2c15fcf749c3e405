/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_SERVER_H
#define TOOLS_TIDEWIRE_SERVER_H

/* All shards of a node, wired together over given ios: what `serve` runs on threads and the
 * simulation turn by turn. Built and taken down by one thread. */

#include <pthread.h>

#include "pubsub/engine_redis.h"
#include "tools/tidewire/config.h"
#include "tools/tidewire/routes.h"

struct server_shard {
    struct shard shard;
    struct net net;
    struct routes routes;
    pthread_t thread;           /* serve's */
    struct engine_redis *redis; /* NULL: without --redis */
    struct server *server;
    int err; /* why shard_run() ended; read after the join */
};

struct server {
    const struct config *config;
    struct node node;
    struct net_shared net_shared;
    struct routes_shared routes_shared;
    struct redis_shared redis;
    struct stats_registry stats;
    struct server_shard *shards;
    struct shard *shard_list[MESH_SHARDS_MAX];
    uint32_t ready; /* shards that are initialised */
};

/* Builds the node over ios[0..count), one per shard, and takes them all, also on failure.
 * max_connections is the node's, never 0; tls is borrowed, NULL: no TLS ports; so is
 * redis_tls, NULL: no --redis by TLS. 0 or -errno. */
MUST_USE int server_init(struct server *s, const struct config *config, struct io **ios,
                         uint32_t count, uint64_t seed, uint32_t max_connections,
                         struct tls_shared *tls, struct tls_client *redis_tls);

/* Once no shard turns any more: delivers what is still between them, so that every message finds
 * its way home. */
void server_settle(struct server *s);

void server_deinit(struct server *s);

/* Wakes all shards. Any thread. */
void server_wake(struct server *s);

/* Sets the phase and wakes all shards. Any thread. */
void server_set_phase(struct server *s, enum node_phase phase);

#endif
