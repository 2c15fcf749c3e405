/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a simulated cluster of three: nodes that are down, that lie, that say MOVED. */

#include "pubsub/redis_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/sim/sim_redis.h"

#define NODES 3

struct rig {
    struct sim_net *net;
    struct io *io;
    struct sim_redis servers[NODES];
    struct sim_cluster sim;
    struct redis_endpoint endpoints[NODES];
    struct redis_cluster cluster;
    uint32_t told, changes, useless;
};

static void told_slots(struct redis_cluster *c, bool has_changed)
{
    struct rig *r = c->owner;

    r->told++;
    r->changes += has_changed;
}

static void told_useless(struct redis_cluster *c, const struct redis_endpoint *node,
                         const char *text)
{
    cr_assert_str_eq(node->host, "127.0.0.1");
    cr_assert_gt(strlen(text), 0);
    ((struct rig *)c->owner)->useless++;
}

static const struct redis_cluster_events events = {.on_slots = told_slots,
                                                   .on_useless = told_useless};

/* Only the first `seeds` of them stand in the URL. */
static struct rig *rig_new(uint64_t seed, uint32_t seeds)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct io_config cfg = {.conns_max = 10};
    const struct redis_link_config config = {.connect_timeout_ns = NS_PER_SEC,
                                             .backoff_min_ns = 100 * NS_PER_MS,
                                             .backoff_max_ns = NS_PER_SEC,
                                             .queue_bytes_max = 10000,
                                             .reply_bytes_max = 100000};

    cr_assert_not_null(r);
    r->net = sim_net_new(seed, NULL);
    for (uint32_t i = 0; i < NODES; i++) {
        uint16_t port = (uint16_t)(7000 + i);

        cr_assert(sim_redis_init(&r->servers[i], r->net, "127.0.0.1", port));
        r->endpoints[i] = (struct redis_endpoint){.host = "127.0.0.1", .port = port};
    }
    sim_cluster_init(&r->sim, r->servers, NODES);
    cr_assert_eq(io_sim_new(r->net, &cfg, &r->io), 0);
    cr_assert_eq(io_start(r->io), 0);
    redis_cluster_init(&r->cluster, r->io, &config, r->endpoints, seeds, &events, r);
    redis_scout_start(&r->cluster.scout);
    return r;
}

static void rig_step(struct rig *r, uint64_t until_ns)
{
    uint64_t next_ns = redis_scout_turn(&r->cluster.scout, sim_net_now(r->net));
    bool busy = false;

    redis_scout_flush(&r->cluster.scout);
    for (uint32_t i = 0; i < NODES; i++)
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
    redis_scout_stop(&r->cluster.scout);
    rig_until(r, redis_scout_is_idle(&r->cluster.scout));
    redis_scout_deinit(&r->cluster.scout);
    for (uint32_t i = 0; i < NODES; i++)
        sim_redis_deinit(&r->servers[i]);
    io_free(r->io);
    cr_assert_null(sim_net_violation(r->net), "%s", sim_net_violation(r->net));
    sim_net_free(r->net);
    free(r);
}

/* The port of the slot's master, as the map has it. */
static uint16_t port_of(struct rig *r, uint32_t slot)
{
    return r->cluster.slots.nodes[r->cluster.slots.owner[slot]].port;
}

static uint32_t asked_index(struct rig *r)
{
    return redis_scout_asked(&r->cluster.scout)->port - 7000u;
}

Test(redis_cluster, the_map_is_read_and_asked_for_every_ten_seconds)
{
    struct rig *r = rig_new(1, NODES);

    rig_until(r, r->told == 1);
    cr_assert_eq(r->cluster.slots.covered, REDIS_SLOT_COUNT);
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++)
        cr_assert_eq(port_of(r, slot), 7000 + r->sim.owner[slot]);
    rig_for(r, 35 * NS_PER_SEC);
    cr_assert(r->told >= 4 && r->told <= 5, "%u", r->told);
    cr_assert_eq(r->changes, 1);
    rig_free(r);
}

Test(redis_cluster, a_map_with_holes_is_asked_for_every_second)
{
    struct rig *r = rig_new(1, NODES);

    sim_cluster_move(&r->sim, 5, SIM_CLUSTER_NODES_MAX);
    sim_cluster_tell(&r->sim);
    rig_until(r, r->told == 1);
    cr_assert_eq(r->cluster.slots.covered, REDIS_SLOT_COUNT - 1);
    cr_assert_eq(r->cluster.slots.owner[5], REDIS_SLOT_NONE);
    sim_cluster_move(&r->sim, 5, 2);
    sim_cluster_tell(&r->sim);
    uint64_t from_ns = sim_net_now(r->net);
    rig_until(r, r->changes == 2);
    cr_assert_leq(sim_net_now(r->net) - from_ns, NS_PER_SEC + 100 * NS_PER_MS);
    cr_assert_eq(port_of(r, 5), 7002);
    rig_free(r);
}

Test(redis_cluster, a_moved_mends_the_map_and_asks_for_the_whole)
{
    static const char text[] = "MOVED 5 127.0.0.1:7001";
    struct rig *r = rig_new(1, NODES);

    rig_until(r, r->told == 1);
    rig_for(r, NS_PER_SEC);
    sim_cluster_move(&r->sim, 5, 1);
    sim_cluster_move(&r->sim, 6, 1);
    sim_cluster_tell(&r->sim);
    cr_assert(redis_cluster_moved(&r->cluster, text, strlen(text), &r->endpoints[0]));
    cr_assert_eq(r->changes, 2);
    cr_assert_eq(port_of(r, 5), 7001);
    cr_assert_eq(port_of(r, 6), 7000);
    uint64_t from_ns = sim_net_now(r->net);
    rig_until(r, r->changes == 3);
    cr_assert_eq(port_of(r, 6), 7001);
    cr_assert_leq(sim_net_now(r->net) - from_ns, REDIS_SCOUT_PAUSE_NS);
    cr_assert_not(redis_cluster_moved(&r->cluster, "MOVED x", 7, &r->endpoints[0]));
    rig_free(r);
}

Test(redis_cluster, nodes_that_were_learned_are_asked_too)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct rig *r = rig_new(seed, 1);

        rig_until(r, r->told == 1);
        cr_assert_eq(asked_index(r), 0);
        sim_redis_stop(&r->servers[0]);
        rig_until(r, r->told == 2);
        cr_assert_neq(asked_index(r), 0);
        cr_assert_geq(r->useless, 1);
        rig_free(r);
    }
}

Test(redis_cluster, a_server_of_no_cluster_is_of_no_use)
{
    struct rig *r = rig_new(1, 1);

    r->servers[0].cluster = NULL;
    rig_until(r, r->useless >= 3);
    cr_assert_eq(r->told, 0);
    cr_assert_eq(r->cluster.slots.covered, 0);
    rig_free(r);
}
