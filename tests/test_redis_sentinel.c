/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Where the master is, by three simulated Sentinels that may be down, silent, or lag behind. */

#include "pubsub/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/sim/sim_redis.h"

#define SENTINELS 3

struct rig {
    struct sim_net *net;
    struct io *io;
    struct sim_redis servers[SENTINELS];
    struct sim_sentinel says[SENTINELS];
    struct redis_endpoint endpoints[SENTINELS];
    struct redis_sentinel sentinel;
    uint32_t masters, useless;
    struct redis_endpoint master; /* as last told */
    char text[128];
};

static void told_master(struct redis_sentinel *s, const struct redis_endpoint *master)
{
    struct rig *r = s->owner;

    r->masters++;
    r->master = *master;
}

static void told_useless(struct redis_sentinel *s, const struct redis_endpoint *sentinel,
                         const char *text)
{
    struct rig *r = s->owner;

    cr_assert_str_eq(sentinel->host, "127.0.0.1");
    r->useless++;
    snprintf(r->text, sizeof(r->text), "%s", text);
}

static const struct redis_sentinel_events events = {.on_master = told_master,
                                                    .on_useless = told_useless};

static struct rig *rig_new(uint64_t seed)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct io_config cfg = {.conns_max = 10};
    const struct redis_link_config config = {.connect_timeout_ns = NS_PER_SEC,
                                             .backoff_min_ns = 100 * NS_PER_MS,
                                             .backoff_max_ns = NS_PER_SEC,
                                             .queue_bytes_max = 10000,
                                             .reply_bytes_max = 10000};

    cr_assert_not_null(r);
    r->net = sim_net_new(seed, NULL);
    for (uint32_t i = 0; i < SENTINELS; i++) {
        uint16_t port = (uint16_t)(26379 + i);
        r->says[i] = (struct sim_sentinel){"mymaster", "10.0.0.1", 6379, 1};
        cr_assert(sim_redis_init(&r->servers[i], r->net, "127.0.0.1", port));
        r->servers[i].sentinel = &r->says[i];
        r->endpoints[i] = (struct redis_endpoint){.host = "127.0.0.1", .port = port};
    }
    cr_assert_eq(io_sim_new(r->net, &cfg, &r->io), 0);
    cr_assert_eq(io_start(r->io), 0);
    redis_sentinel_init(&r->sentinel, r->io, &config, r->endpoints, SENTINELS, "mymaster", &events,
                        r);
    redis_scout_start(&r->sentinel.scout);
    return r;
}

static void rig_step(struct rig *r, uint64_t until_ns)
{
    uint64_t next_ns = redis_scout_turn(&r->sentinel.scout, sim_net_now(r->net));
    bool busy = false;

    redis_scout_flush(&r->sentinel.scout);
    for (uint32_t i = 0; i < SENTINELS; i++)
        busy |= sim_redis_turn(&r->servers[i]);
    if (!busy && sim_io_would_wait(r->io, next_ns))
        sim_net_idle(r->net, min_u64(until_ns, next_ns));
    cr_assert_geq(io_poll(r->io, 0), 0);
}

#define rig_until(r, condition)                                                                    \
    do {                                                                                           \
        uint64_t end_ns_ = sim_net_now((r)->net) + 120 * NS_PER_SEC;                               \
        while (!(condition)) {                                                                     \
            cr_assert_lt(sim_net_now((r)->net), end_ns_, "not in time: %s", #condition);           \
            rig_step(r, end_ns_);                                                                  \
        }                                                                                          \
    } while (0)

static void rig_for(struct rig *r, uint64_t ns)
{
    uint64_t end_ns = sim_net_now(r->net) + ns;

    while (sim_net_now(r->net) < end_ns)
        rig_step(r, end_ns);
}

static void rig_free(struct rig *r)
{
    redis_scout_stop(&r->sentinel.scout);
    rig_until(r, redis_scout_is_idle(&r->sentinel.scout));
    redis_scout_deinit(&r->sentinel.scout);
    for (uint32_t i = 0; i < SENTINELS; i++)
        sim_redis_deinit(&r->servers[i]);
    io_free(r->io);
    cr_assert_null(sim_net_violation(r->net), "%s", sim_net_violation(r->net));
    sim_net_free(r->net);
    free(r);
}

/* All Sentinels agree on another master. */
static void fail_over(struct rig *r, const char *host, uint64_t epoch)
{
    for (uint32_t i = 0; i < SENTINELS; i++) {
        r->says[i].host = host;
        r->says[i].epoch = epoch;
    }
}

static uint32_t asked_index(struct rig *r)
{
    return redis_scout_asked(&r->sentinel.scout)->port - 26379u;
}

Test(redis_sentinel, tells_the_master_once)
{
    struct rig *r = rig_new(1);

    rig_until(r, r->masters == 1);
    cr_assert_str_eq(r->master.host, "10.0.0.1");
    cr_assert_eq(r->master.port, 6379);
    rig_for(r, 10 * NS_PER_SEC);
    cr_assert_eq(r->masters, 1);
    cr_assert_eq(r->useless, 0);
    rig_free(r);
}

Test(redis_sentinel, asks_once_a_second_and_sees_a_failover)
{
    struct rig *r = rig_new(1);

    rig_until(r, r->masters == 1);
    uint64_t commands = r->sentinel.scout.link.stats.commands;
    rig_for(r, 10 * NS_PER_SEC);
    commands = r->sentinel.scout.link.stats.commands - commands;
    cr_assert(commands >= 9 && commands <= 11, "%lu", commands);
    fail_over(r, "10.0.0.2", 2);
    uint64_t from_ns = sim_net_now(r->net);
    rig_until(r, r->masters == 2);
    cr_assert_str_eq(r->master.host, "10.0.0.2");
    cr_assert_leq(sim_net_now(r->net) - from_ns, NS_PER_SEC);
    rig_free(r);
}

Test(redis_sentinel, a_hurry_asks_at_once_but_not_without_end)
{
    struct rig *r = rig_new(1);

    rig_until(r, r->masters == 1);
    rig_for(r, NS_PER_SEC / 2);
    uint64_t from_ns = sim_net_now(r->net), before = r->sentinel.scout.link.stats.commands;
    fail_over(r, "10.0.0.2", 2);
    redis_scout_hurry(&r->sentinel.scout);
    rig_until(r, r->masters == 2);
    cr_assert_eq(sim_net_now(r->net), from_ns);
    while (sim_net_now(r->net) < from_ns + NS_PER_SEC) {
        redis_scout_hurry(&r->sentinel.scout);
        rig_step(r, from_ns + NS_PER_SEC);
    }
    cr_assert_leq(r->sentinel.scout.link.stats.commands - before, 12);
    rig_free(r);
}

Test(redis_sentinel, goes_on_to_the_next_when_one_is_down_or_silent)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct rig *r = rig_new(seed);
        rig_until(r, r->masters == 1);
        uint32_t first = asked_index(r);
        sim_redis_stop(&r->servers[first]);
        fail_over(r, "10.0.0.2", 2);
        rig_until(r, r->masters == 2);
        uint32_t second = asked_index(r);
        cr_assert_neq(second, first);
        sim_redis_silence(&r->servers[second], true);
        fail_over(r, "10.0.0.3", 3);
        uint64_t from_ns = sim_net_now(r->net);
        rig_until(r, r->masters == 3);
        cr_assert_neq(asked_index(r), second);
        cr_assert_lt(sim_net_now(r->net) - from_ns, 10 * NS_PER_SEC);
        sim_redis_silence(&r->servers[second], false);
        rig_free(r);
    }
}

Test(redis_sentinel, one_that_lags_behind_leads_nobody_back)
{
    struct rig *r = rig_new(1);

    fail_over(r, "10.0.0.2", 2);
    rig_until(r, r->masters == 1);
    uint32_t asked = asked_index(r), next = (asked + 1) % SENTINELS;
    r->says[next] = (struct sim_sentinel){"mymaster", "10.0.0.1", 6379, 1};
    sim_redis_stop(&r->servers[asked]);
    rig_until(r, redis_link_is_up(&r->sentinel.scout.link) && asked_index(r) != asked &&
                     asked_index(r) != next);
    rig_for(r, 3 * NS_PER_SEC);
    cr_assert_eq(r->masters, 1);
    cr_assert_geq(r->useless, 2);
    rig_free(r);
}

Test(redis_sentinel, sentinels_that_were_set_up_anew_are_believed_after_a_while)
{
    struct rig *r = rig_new(1);

    fail_over(r, "10.0.0.2", 7);
    rig_until(r, r->masters == 1);
    fail_over(r, "10.0.0.1", 1);
    uint64_t from_ns = sim_net_now(r->net);
    rig_until(r, r->masters == 2);
    cr_assert_geq(sim_net_now(r->net) - from_ns, REDIS_SENTINEL_TRUST_NS - 2 * NS_PER_SEC);
    cr_assert_str_eq(r->master.host, "10.0.0.1");
    rig_free(r);
}

Test(redis_sentinel, a_master_that_no_sentinel_knows_is_asked_for_with_pauses)
{
    struct rig *r = rig_new(1);

    for (uint32_t i = 0; i < SENTINELS; i++)
        r->says[i].name = "other";
    rig_for(r, 20 * NS_PER_SEC);
    cr_assert_eq(r->masters, 0);
    cr_assert_str_eq(r->text, "its answer is of no use: ERR No such master with that name");
    cr_assert_lt(r->sentinel.scout.link.stats.commands, 60);
    cr_assert_gt(r->sentinel.scout.link.stats.commands, 10);
    for (uint32_t i = 0; i < SENTINELS; i++)
        r->says[i].name = "mymaster";
    rig_until(r, r->masters == 1);
    rig_free(r);
}

Test(redis_sentinel, who_doubts_asks_another)
{
    struct rig *r = rig_new(1);

    rig_until(r, r->masters == 1);
    uint32_t first = asked_index(r);
    rig_for(r, NS_PER_SEC / 2);
    redis_scout_doubt(&r->sentinel.scout);
    rig_until(r, redis_link_is_up(&r->sentinel.scout.link));
    cr_assert_neq(asked_index(r), first);
    rig_free(r);
}
