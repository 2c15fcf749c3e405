/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Where the master is, by three simulated Sentinels that may be down, silent, or lag behind. */

#include "pubsub/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/scout_rig.h"

#define SENTINELS SCOUT_SERVERS

struct rig {
    struct scout_rig at;
    struct sim_sentinel says[SENTINELS];
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

    cr_assert_not_null(r);
    scout_rig_init(&r->at, seed, 26379);
    for (uint32_t i = 0; i < SENTINELS; i++) {
        r->says[i] = (struct sim_sentinel){"mymaster", "10.0.0.1", 6379, 1};
        r->at.servers[i].sentinel = &r->says[i];
    }
    redis_sentinel_init(&r->sentinel, r->at.io, &scout_rig_config, r->at.endpoints, SENTINELS,
                        "mymaster", &events, r);
    scout_rig_start(&r->at, &r->sentinel.scout);
    return r;
}

static void rig_free(struct rig *r)
{
    scout_rig_deinit(&r->at);
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

Test(redis_sentinel, tells_the_master_once)
{
    struct rig *r = rig_new(1);

    scout_rig_until(&r->at, r->masters == 1);
    cr_assert_str_eq(r->master.host, "10.0.0.1");
    cr_assert_eq(r->master.port, 6379);
    scout_rig_for(&r->at, 10 * NS_PER_SEC);
    cr_assert_eq(r->masters, 1);
    cr_assert_eq(r->useless, 0);
    rig_free(r);
}

Test(redis_sentinel, asks_once_a_second_and_sees_a_failover)
{
    struct rig *r = rig_new(1);

    scout_rig_until(&r->at, r->masters == 1);
    uint64_t commands = r->sentinel.scout.link.stats.commands;
    scout_rig_for(&r->at, 10 * NS_PER_SEC);
    commands = r->sentinel.scout.link.stats.commands - commands;
    cr_assert(commands >= 9 && commands <= 11, "%lu", commands);
    fail_over(r, "10.0.0.2", 2);
    uint64_t from_ns = sim_net_now(r->at.net);
    scout_rig_until(&r->at, r->masters == 2);
    cr_assert_str_eq(r->master.host, "10.0.0.2");
    cr_assert_leq(sim_net_now(r->at.net) - from_ns, NS_PER_SEC);
    rig_free(r);
}

Test(redis_sentinel, a_hurry_asks_at_once_but_not_without_end)
{
    struct rig *r = rig_new(1);

    scout_rig_until(&r->at, r->masters == 1);
    scout_rig_for(&r->at, NS_PER_SEC / 2);
    uint64_t from_ns = sim_net_now(r->at.net), before = r->sentinel.scout.link.stats.commands;
    fail_over(r, "10.0.0.2", 2);
    redis_scout_hurry(&r->sentinel.scout);
    scout_rig_until(&r->at, r->masters == 2);
    cr_assert_eq(sim_net_now(r->at.net), from_ns);
    while (sim_net_now(r->at.net) < from_ns + NS_PER_SEC) {
        redis_scout_hurry(&r->sentinel.scout);
        scout_rig_step(&r->at, from_ns + NS_PER_SEC);
    }
    cr_assert_leq(r->sentinel.scout.link.stats.commands - before, 12);
    rig_free(r);
}

Test(redis_sentinel, goes_on_to_the_next_when_one_is_down_or_silent)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct rig *r = rig_new(seed);
        scout_rig_until(&r->at, r->masters == 1);
        uint32_t first = scout_rig_asked(&r->at);
        sim_redis_stop(&r->at.servers[first]);
        fail_over(r, "10.0.0.2", 2);
        scout_rig_until(&r->at, r->masters == 2);
        uint32_t second = scout_rig_asked(&r->at);
        cr_assert_neq(second, first);
        sim_redis_silence(&r->at.servers[second], true);
        fail_over(r, "10.0.0.3", 3);
        uint64_t from_ns = sim_net_now(r->at.net);
        scout_rig_until(&r->at, r->masters == 3);
        cr_assert_neq(scout_rig_asked(&r->at), second);
        cr_assert_lt(sim_net_now(r->at.net) - from_ns, 10 * NS_PER_SEC);
        sim_redis_silence(&r->at.servers[second], false);
        rig_free(r);
    }
}

Test(redis_sentinel, one_that_lags_behind_leads_nobody_back)
{
    struct rig *r = rig_new(1);

    fail_over(r, "10.0.0.2", 2);
    scout_rig_until(&r->at, r->masters == 1);
    uint32_t asked = scout_rig_asked(&r->at), next = (asked + 1) % SENTINELS;
    r->says[next] = (struct sim_sentinel){"mymaster", "10.0.0.1", 6379, 1};
    sim_redis_stop(&r->at.servers[asked]);
    scout_rig_until(&r->at, redis_link_is_up(&r->sentinel.scout.link) &&
                                scout_rig_asked(&r->at) != asked &&
                                scout_rig_asked(&r->at) != next);
    scout_rig_for(&r->at, 3 * NS_PER_SEC);
    cr_assert_eq(r->masters, 1);
    cr_assert_geq(r->useless, 2);
    rig_free(r);
}

Test(redis_sentinel, sentinels_that_were_set_up_anew_are_believed_after_a_while)
{
    struct rig *r = rig_new(1);

    fail_over(r, "10.0.0.2", 7);
    scout_rig_until(&r->at, r->masters == 1);
    fail_over(r, "10.0.0.1", 1);
    uint64_t from_ns = sim_net_now(r->at.net);
    scout_rig_until(&r->at, r->masters == 2);
    cr_assert_geq(sim_net_now(r->at.net) - from_ns, REDIS_SENTINEL_TRUST_NS - 2 * NS_PER_SEC);
    cr_assert_str_eq(r->master.host, "10.0.0.1");
    rig_free(r);
}

Test(redis_sentinel, a_master_that_no_sentinel_knows_is_asked_for_with_pauses)
{
    struct rig *r = rig_new(1);

    for (uint32_t i = 0; i < SENTINELS; i++)
        r->says[i].name = "other";
    scout_rig_for(&r->at, 20 * NS_PER_SEC);
    cr_assert_eq(r->masters, 0);
    cr_assert_str_eq(r->text, "its answer is of no use: ERR No such master with that name");
    cr_assert_lt(r->sentinel.scout.link.stats.commands, 60);
    cr_assert_gt(r->sentinel.scout.link.stats.commands, 10);
    for (uint32_t i = 0; i < SENTINELS; i++)
        r->says[i].name = "mymaster";
    scout_rig_until(&r->at, r->masters == 1);
    rig_free(r);
}

Test(redis_sentinel, who_doubts_asks_another)
{
    struct rig *r = rig_new(1);

    scout_rig_until(&r->at, r->masters == 1);
    uint32_t first = scout_rig_asked(&r->at);
    scout_rig_for(&r->at, NS_PER_SEC / 2);
    redis_scout_doubt(&r->sentinel.scout);
    scout_rig_until(&r->at, redis_link_is_up(&r->sentinel.scout.link));
    cr_assert_neq(scout_rig_asked(&r->at), first);
    rig_free(r);
}
