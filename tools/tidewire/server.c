/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Puts the layers of each shard together. One thread. */

#include "tools/tidewire/server.h"

#include <errno.h>
#include <stdlib.h>

static void wake(void *ctx, uint32_t from, uint32_t to)
{
    struct server *s = ctx;

    io_wake(s->shards[to].shard.io, s->shards[from].shard.io);
}

/* The engine, when there is one to be. */
static int init_redis(struct server *s, struct server_shard *ss)
{
    int err;

    if (s->redis.url_count == 0)
        return 0;
    ss->redis = malloc(sizeof(*ss->redis));
    if (ss->redis == NULL)
        return -ENOMEM;
    err = engine_redis_init(ss->redis, &ss->shard, &ss->routes.pubsub.home, &s->redis);
    if (err != 0) {
        free(ss->redis);
        ss->redis = NULL;
    }
    return err;
}

static void deinit_redis(struct server_shard *ss)
{
    if (ss->redis == NULL)
        return;
    engine_redis_deinit(ss->redis);
    free(ss->redis);
}

static int init_shard(struct server *s, uint32_t idx, struct io *io)
{
    struct server_shard *ss = &s->shards[idx];
    int err;

    ss->server = s;
    shard_init(&ss->shard, &s->node, idx, io);
    s->shard_list[idx] = &ss->shard;
    ss->routes.shared = &s->routes_shared;
    err = net_init(&ss->net, &ss->shard, &s->config->net, &s->net_shared, &routes_app,
                   &ss->routes.pubsub);
    if (err != 0)
        goto no_net;
    err = pubsub_init(&ss->routes.pubsub, &ss->shard, &ss->net, &s->config->pubsub);
    if (err != 0)
        goto no_pubsub;
    err = init_redis(s, ss);
    if (err != 0)
        goto no_redis;
    return 0;
no_redis:
    pubsub_deinit(&ss->routes.pubsub);
no_pubsub:
    net_deinit(&ss->net);
no_net:
    shard_deinit(&ss->shard);
    return err;
}

int server_init(struct server *s, const struct config *config, struct io **ios, uint32_t count,
                uint64_t seed, uint32_t max_connections, struct tls_shared *tls,
                struct tls_client *redis_tls)
{
    struct mesh_config mesh = {
        .shards = count, .ring_slots = config->core.mesh_slots, .wake = wake, .ctx = s};
    int err;

    *s = (struct server){
        .config = config,
        .node = {.shard_count = count, .seed = seed, .turn_budget_ns = config->core.turn_budget_ns},
        .net_shared = {.max_connections = max_connections, .tls = tls}};
    s->node.stats = &s->stats;
    s->node.shards = s->shard_list;
    s->routes_shared = (struct routes_shared){.stats = &s->stats, .node = &s->node};
    s->routes_shared.page =
        config->page == CONFIG_PAGE_ON ||
        (config->page == CONFIG_PAGE_AUTO && config_exposed_address(config) == NULL);
    s->shards = calloc(count, sizeof(*s->shards));
    err = s->shards == NULL ? -ENOMEM : mesh_new(&mesh, &s->node.mesh);
    if (err == 0 && config->pubsub.redis.urls.count > 0)
        err = redis_shared_init(&s->redis, &config->pubsub.redis, redis_tls, io_random(ios[0]),
                                count, (uint32_t)config->net.max_message_bytes);
    if (config->pubsub.redis.urls.count > 0)
        s->routes_shared.redis = &s->redis;
    if (err == 0) {
        while (s->ready < count && err == 0) {
            err = init_shard(s, s->ready, ios[s->ready]);
            s->ready++; /* its io is taken in any case */
        }
        if (err == 0)
            return 0;
        s->ready--;
        for (uint32_t i = s->ready + 1; i < count; i++)
            io_free(ios[i]);
    } else {
        for (uint32_t i = 0; i < count; i++)
            io_free(ios[i]);
    }
    server_deinit(s);
    return err;
}

static void settle_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct shard *s = ctx;
    struct shard_module *m = &s->modules[item->kind >> SHARD_KIND_SHIFT];

    m->on_item(m->ctx, from, item);
}

/* What one pass posts, the next one finds: two in a row without an item mean that none is left. */
void server_settle(struct server *s)
{
    for (int quiet_passes = 0; quiet_passes < 2; quiet_passes++) {
        for (uint32_t i = 0; i < s->ready; i++) {
            struct shard *shard = &s->shards[i].shard;
            struct shard_module *pubsub = &shard->modules[SHARD_MODULE_PUBSUB];

            if (mesh_drain(shard->mesh, settle_item, shard) > 0)
                quiet_passes = -1;
            pubsub->on_flush(pubsub->ctx);
            mesh_flush(shard->mesh);
        }
    }
}

void server_deinit(struct server *s)
{
    for (uint32_t i = 0; i < s->ready; i++)
        pubsub_deinit(&s->shards[i].routes.pubsub);
    for (uint32_t i = 0; i < s->ready; i++)
        deinit_redis(&s->shards[i]);
    for (uint32_t i = 0; i < s->ready; i++)
        net_deinit(&s->shards[i].net);
    for (uint32_t i = 0; i < s->ready; i++)
        shard_deinit(&s->shards[i].shard);
    if (s->node.mesh != NULL)
        mesh_free(s->node.mesh, NULL, NULL);
    redis_shared_deinit(&s->redis);
    free(s->shards);
    s->shards = NULL;
}

void server_wake(struct server *s)
{
    for (uint32_t i = 0; i < s->ready; i++)
        io_wake(s->shards[i].shard.io, NULL);
}

void server_set_phase(struct server *s, enum node_phase phase)
{
    atomic_store_explicit(&s->node.phase, phase, memory_order_release);
    server_wake(s);
}
