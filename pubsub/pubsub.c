/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The module of channels: mesh items to hub and home, the flush. On the shard's thread. */

#include "pubsub/pubsub.h"

#include <errno.h>

#include "core/log.h"
#include "pubsub/dialect_rooms.h"
#include "pubsub/hub_credit.h"
#include "pubsub/hub_pending.h"

const struct stats_desc pubsub_stat_descs[PUBSUB_STAT_COUNT] = {
#define X(id, name, labels, help, kind)                                                            \
    [PUBSUB_STAT_##id] = {"tidewire_" name, labels, help, kind, 0},
    PUBSUB_STATS(X)
#undef X
};

static void joined_remotely(struct pubsub *p, uint32_t from, const struct ring_item *item)
{
    struct ring_item answer = {.kind = PUBSUB_ITEM_JOINED, .a = item->a};
    uint32_t handle;

    answer.c = home_join(&p->home, from, item->a, item->ptr, (uint32_t)item->b, &handle);
    answer.b = handle;
    if (answer.c != HOME_JOIN_WAITS)
        shard_post(p->shard, from, &answer, 0);
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct pubsub *p = ctx;

    switch (item->kind) {
    case PUBSUB_ITEM_JOIN:
        joined_remotely(p, from, item);
        return;
    case PUBSUB_ITEM_JOINED:
        hub_joined(&p->hub, item->a, (uint32_t)item->b, (uint32_t)item->c);
        return;
    case PUBSUB_ITEM_INTEREST:
        home_want(&p->home, from, item->a, (uint32_t)item->b);
        return;
    case PUBSUB_ITEM_LEAVE:
        home_leave(&p->home, from, item->a);
        return;
    case PUBSUB_ITEM_PUBLISH:
        home_publish(&p->home, from, item->a, item->ptr);
        return;
    case PUBSUB_ITEM_DELIVER:
        hub_deliver(&p->hub, item->a, item->ptr, (struct message *)(uintptr_t)item->c);
        return;
    case PUBSUB_ITEM_CREDIT:
        hub_credit(&p->hub, from, item->b);
        return;
    default:
        CHECK(!"unknown pubsub item");
    }
}

static void on_flush(void *ctx)
{
    struct pubsub *p = ctx;

    if (p->hub.dirty != NULL || p->hub.delayed != NULL)
        hub_flush(&p->hub);
    home_flush(&p->home);
    if (unlikely(p->hub.waits_for_memory))
        hub_look_for_memory(&p->hub);
}

static void on_publish(void *ctx)
{
    struct pubsub *p = ctx;
    const struct {
        const struct pool *pool;
        enum pubsub_stat bytes, failed;
    } rows[] = {
        {&p->members, PUBSUB_STAT_MEMBER_POOL_BYTES, PUBSUB_STAT_MEMBER_POOL_FAILED},
        {&p->hub.pool, PUBSUB_STAT_HUB_POOL_BYTES, PUBSUB_STAT_HUB_POOL_FAILED},
        {&p->home.pool, PUBSUB_STAT_HOME_POOL_BYTES, PUBSUB_STAT_HOME_POOL_FAILED},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        stats_set(&p->stats[rows[i].bytes], pool_mapped_bytes(rows[i].pool));
        stats_set(&p->stats[rows[i].failed], rows[i].pool->failures);
    }
    stats_set(&p->stats[PUBSUB_STAT_DELAYED_BYTES], p->hub.delayed_cost);
}

static void on_quiet(void *ctx)
{
    struct pubsub *p = ctx;

    pool_trim(&p->members);
    pool_trim(&p->hub.pool);
    pool_trim(&p->home.pool);
}

/* Who was closed while a message of theirs waited: the drain takes no more from them. */
static void note_dropped(struct pubsub *p)
{
    uint64_t dropped = stats_get(&p->stats[PUBSUB_STAT_CREDIT_LOST]) - p->drain_lost;
    struct log_num n;

    if (dropped > 0)
        log_warn("stopping: messages were dropped that waited when their clients were closed",
                 "messages", log_u64(&n, dropped), NULL);
    p->drain_lost += dropped;
}

/* Clients may publish until the last of them is closed, and that is still to be answered. Whoever
 * is told to go shall have what was said before. */
static void on_phase(void *ctx, enum node_phase phase)
{
    struct pubsub *p = ctx;

    hub_end_delay(&p->hub);
    if (phase == NODE_DRAINING) {
        p->drain_lost = stats_get(&p->stats[PUBSUB_STAT_CREDIT_LOST]);
        p->drain_until_ns =
            p->shard->io->now_ns + p->net->config->drain_time_ns + p->config->redis.timeout_ns;
    }
    if (phase == NODE_STOPPING)
        note_dropped(p);
}

/* A home's own work is done within turns; an engine's takes its time. */
static bool is_done(void *ctx)
{
    struct pubsub *p = ctx;
    const struct engine *e = p->home.engine;
    struct shard *s = p->shard;

    if (e == NULL || s->io->now_ns >= p->drain_until_ns)
        return true;
    if (hub_is_answered(&p->hub) && e->calls->is_done(e))
        return true;
    s->next_turn_ns = min_u64(s->next_turn_ns, p->drain_until_ns);
    return false;
}

int pubsub_init(struct pubsub *p, struct shard *s, struct net *n,
                const struct pubsub_config *config)
{
    struct shard_module module = {.ctx = p,
                                  .on_item = on_item,
                                  .on_flush = on_flush,
                                  .on_quiet = on_quiet,
                                  .on_publish = on_publish,
                                  .on_phase = on_phase,
                                  .is_done = is_done};
    int err;

    *p = (struct pubsub){.shard = s, .net = n, .config = config};
    pool_init(&p->members, "members", sizeof(struct hub_member), 0, 0);
    err = hub_init(&p->hub, p);
    if (err != 0)
        goto no_hub;
    err = home_init(&p->home, p);
    if (err != 0)
        goto no_home;
    if (s->node->stats != NULL)
        stats_register(s->node->stats, pubsub_stat_descs, PUBSUB_STAT_COUNT, s->idx, p->stats);
    shard_set_module(s, SHARD_MODULE_PUBSUB, &module);
    return 0;
no_home:
    home_deinit(&p->home);
no_hub:
    hub_deinit(&p->hub);
    pool_deinit(&p->members);
    return err;
}

void pubsub_deinit(struct pubsub *p)
{
    struct hub_member *m;
    uint32_t i = 0;

    while ((m = pool_next(&p->members, &i)) != NULL)
        pool_release(&p->members, m);
    hub_deinit(&p->hub);
    home_deinit(&p->home);
    pool_deinit(&p->members);
}
