/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a simulated cluster of three: nodes that are down, that lie, that say MOVED. */

#include "pubsub/redis_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/scout_rig.h"

#define NODES SCOUT_SERVERS

struct rig {
    struct scout_rig at;
    struct sim_cluster sim;
    struct redis_cluster cluster;
    uint32_t told, changes, useless, doubted;
    char text[256]; /* of the last that was useless */
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
    struct rig *r = c->owner;

    cr_assert_str_eq(node->host, "127.0.0.1");
    cr_assert_gt(strlen(text), 0);
    r->useless++;
    snprintf(r->text, sizeof(r->text), "%s", text);
}

static void told_doubted(struct redis_cluster *c, const struct redis_endpoint *node)
{
    struct rig *r = c->owner;

    cr_assert_eq(node->port, redis_scout_asked(&c->scout)->port);
    r->doubted++;
}

static const struct redis_cluster_events events = {
    .on_slots = told_slots, .on_useless = told_useless, .on_doubted = told_doubted};

/* Only the first `seeds` of them stand in the URL. */
static struct rig *rig_new(uint64_t seed, uint32_t seeds)
{
    struct rig *r = calloc(1, sizeof(*r));

    cr_assert_not_null(r);
    scout_rig_init(&r->at, seed, 7000);
    sim_cluster_init(&r->sim, r->at.servers, NODES);
    redis_cluster_init(&r->cluster, r->at.io, &scout_rig_config, r->at.endpoints, seeds, &events,
                       r);
    scout_rig_start(&r->at, &r->cluster.scout);
    return r;
}

static void rig_free(struct rig *r)
{
    scout_rig_deinit(&r->at);
    free(r);
}

/* The port of the slot's master, as the map has it. */
static uint16_t port_of(struct rig *r, uint32_t slot)
{
    return r->cluster.slots.nodes[r->cluster.slots.owner[slot]].port;
}

Test(redis_cluster, the_map_is_read_and_asked_for_every_ten_seconds)
{
    struct rig *r = rig_new(1, NODES);

    scout_rig_until(&r->at, r->told == 1);
    cr_assert_eq(r->cluster.slots.covered, REDIS_SLOT_COUNT);
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++)
        cr_assert_eq(port_of(r, slot), 7000 + r->sim.owner[slot]);
    scout_rig_for(&r->at, 35 * NS_PER_SEC);
    cr_assert(r->told >= 4 && r->told <= 5, "%u", r->told);
    cr_assert_eq(r->changes, 1);
    rig_free(r);
}

Test(redis_cluster, a_map_with_holes_is_asked_for_every_second)
{
    struct rig *r = rig_new(1, NODES);

    sim_cluster_move(&r->sim, 5, SIM_CLUSTER_NODES_MAX);
    sim_cluster_tell(&r->sim);
    scout_rig_until(&r->at, r->told == 1);
    cr_assert_eq(r->cluster.slots.covered, REDIS_SLOT_COUNT - 1);
    cr_assert_eq(r->cluster.slots.owner[5], REDIS_SLOT_NONE);
    sim_cluster_move(&r->sim, 5, 2);
    sim_cluster_tell(&r->sim);
    uint64_t from_ns = sim_net_now(r->at.net);
    scout_rig_until(&r->at, r->changes == 2);
    cr_assert_leq(sim_net_now(r->at.net) - from_ns, NS_PER_SEC + 100 * NS_PER_MS);
    cr_assert_eq(port_of(r, 5), 7002);
    rig_free(r);
}

Test(redis_cluster, a_moved_mends_the_map_and_asks_for_the_whole)
{
    static const char text[] = "MOVED 5 127.0.0.1:7001";
    struct rig *r = rig_new(1, NODES);

    scout_rig_until(&r->at, r->told == 1);
    scout_rig_for(&r->at, NS_PER_SEC);
    sim_cluster_move(&r->sim, 5, 1);
    sim_cluster_move(&r->sim, 6, 1);
    sim_cluster_tell(&r->sim);
    cr_assert(redis_cluster_moved(&r->cluster, text, strlen(text), &r->at.endpoints[0]));
    cr_assert_eq(r->changes, 2);
    cr_assert_eq(port_of(r, 5), 7001);
    cr_assert_eq(port_of(r, 6), 7000);
    uint64_t from_ns = sim_net_now(r->at.net);
    scout_rig_until(&r->at, r->changes == 3);
    cr_assert_eq(port_of(r, 6), 7001);
    cr_assert_leq(sim_net_now(r->at.net) - from_ns, REDIS_SCOUT_PAUSE_NS);
    cr_assert_not(redis_cluster_moved(&r->cluster, "MOVED x", 7, &r->at.endpoints[0]));
    cr_assert_not(
        redis_cluster_moved(&r->cluster, "ASK 5 127.0.0.1:7002", 20, &r->at.endpoints[1]));
    cr_assert_eq(r->changes, 3);
    cr_assert_eq(port_of(r, 5), 7001);
    rig_free(r);
}

Test(redis_cluster, nodes_that_were_learned_are_asked_too)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct rig *r = rig_new(seed, 1);

        scout_rig_until(&r->at, r->told == 1);
        cr_assert_eq(scout_rig_asked(&r->at), 0);
        sim_redis_stop(&r->at.servers[0]);
        scout_rig_until(&r->at, r->told == 2);
        cr_assert_neq(scout_rig_asked(&r->at), 0);
        cr_assert_geq(r->useless, 1);
        rig_free(r);
    }
}

Test(redis_cluster, a_server_of_no_cluster_is_of_no_use)
{
    struct rig *r = rig_new(1, 1);

    r->at.servers[0].cluster = NULL;
    scout_rig_until(&r->at, r->useless >= 3);
    cr_assert_eq(r->told, 0);
    cr_assert_eq(r->cluster.slots.covered, 0);
    rig_free(r);
}

/* A node that is cut off from the others keeps the map of then, while its clients reach it. */
Test(redis_cluster, a_map_that_a_moved_contradicts_is_not_believed)
{
    static const char text[] = "MOVED 5 127.0.0.1:7001";

    for (uint64_t seed = 0; seed < 20; seed++) {
        struct rig *r = rig_new(seed, NODES);
        uint32_t stale;

        scout_rig_until(&r->at, r->told == 1);
        stale = scout_rig_asked(&r->at);
        sim_cluster_cut(&r->sim, stale, true);
        sim_cluster_move(&r->sim, 5, 1);
        sim_cluster_tell(&r->sim);
        scout_rig_for(&r->at, NS_PER_SEC);
        cr_assert(redis_cluster_moved(&r->cluster, text, strlen(text), &r->at.endpoints[0]));
        scout_rig_for(&r->at, 30 * NS_PER_SEC);
        cr_assert_eq(port_of(r, 5), 7001);
        cr_assert_eq(r->changes, 2, "the map and the MOVED; %u", r->changes);
        cr_assert_neq(scout_rig_asked(&r->at), stale);
        cr_assert_eq(r->useless, 1);
        cr_assert_not_null(strstr(r->text, "a master denies"), "%s", r->text);
        rig_free(r);
    }
}

/* Within the time that a denial counts the slot goes away and comes back. */
Test(redis_cluster, a_slot_that_comes_back_is_believed_when_its_master_says_so)
{
    static const char away[] = "MOVED 5 127.0.0.1:7001", back[] = "MOVED 5 127.0.0.1:7000";
    struct rig *r = rig_new(1, NODES);

    scout_rig_until(&r->at, r->told == 1);
    scout_rig_for(&r->at, NS_PER_SEC);
    cr_assert(redis_cluster_moved(&r->cluster, away, strlen(away), &r->at.endpoints[0]));
    scout_rig_for(&r->at, NS_PER_SEC / 100);
    cr_assert(redis_cluster_moved(&r->cluster, back, strlen(back), &r->at.endpoints[1]));
    scout_rig_for(&r->at, 5 * NS_PER_SEC);
    cr_assert_eq(port_of(r, 5), 7000);
    cr_assert_leq(r->useless, NODES);
    cr_assert_eq(r->changes, 3);
    rig_free(r);
}

/* All maps contradict it: then it is out of date itself. */
Test(redis_cluster, a_denial_counts_for_ten_seconds)
{
    static const char text[] = "MOVED 5 127.0.0.1:7001";
    struct rig *r = rig_new(1, NODES);

    scout_rig_until(&r->at, r->told == 1);
    scout_rig_for(&r->at, NS_PER_SEC);
    uint64_t from_ns = sim_net_now(r->at.net);
    cr_assert(redis_cluster_moved(&r->cluster, text, strlen(text), &r->at.endpoints[0]));
    scout_rig_until(&r->at, r->changes == 3);
    cr_assert_eq(port_of(r, 5), 7000);
    cr_assert_geq(sim_net_now(r->at.net) - from_ns, REDIS_CLUSTER_DENIAL_NS);
    cr_assert_leq(sim_net_now(r->at.net) - from_ns, REDIS_CLUSTER_DENIAL_NS + 2 * NS_PER_SEC);
    cr_assert_geq(r->useless, 3, "all were asked");
    rig_free(r);
}

/* Its ROLE says so, or it can't be reached. */
Test(redis_cluster, who_is_no_master_is_given_no_slots_back)
{
    struct rig *r = rig_new(1, NODES);
    uint32_t stale, dead;

    scout_rig_until(&r->at, r->told == 1);
    stale = scout_rig_asked(&r->at);
    dead = (stale + 1) % NODES;
    sim_cluster_cut(&r->sim, stale, true);
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++) {
        if (r->sim.owner[slot] == dead)
            sim_cluster_move(&r->sim, slot, (dead + 1) % NODES);
    }
    sim_cluster_tell(&r->sim);
    scout_rig_for(&r->at, NS_PER_SEC);
    redis_cluster_denied(&r->cluster, &r->at.endpoints[dead], REDIS_CLUSTER_EVERY_SLOT);
    redis_scout_doubt(&r->cluster.scout);
    scout_rig_until(&r->at, r->changes == 2);
    while (scout_rig_asked(&r->at) != stale) { /* until it is its turn again */
        scout_rig_for(&r->at, NS_PER_SEC / 4);
        redis_scout_doubt(&r->cluster.scout);
    }
    scout_rig_for(&r->at, NS_PER_SEC);
    cr_assert_eq(r->changes, 2, "its map has no place for the dead one");
    cr_assert_not_null(strstr(r->text, "a master denies"), "%s", r->text);
    redis_cluster_affirmed(&r->cluster, &r->at.endpoints[dead]);
    while (scout_rig_asked(&r->at) != stale) {
        scout_rig_for(&r->at, NS_PER_SEC / 4);
        redis_scout_doubt(&r->cluster.scout);
    }
    scout_rig_until(&r->at, r->changes == 3);
    rig_free(r);
}

/* As often as an attempt at it fails the map is doubted, and it is in the list twice. */
Test(redis_cluster, who_can_not_be_reached_is_not_asked_for_the_map)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct rig *r = rig_new(seed, NODES);
        uint32_t dead;

        scout_rig_until(&r->at, r->told == 1);
        dead = (scout_rig_asked(&r->at) + 1) % NODES;
        sim_redis_silence(&r->at.servers[dead], true);
        for (uint32_t i = 0; i < 30; i++) {
            redis_cluster_unreachable(&r->cluster, &r->at.endpoints[dead]);
            redis_scout_doubt(&r->cluster.scout);
            scout_rig_for(&r->at, NS_PER_SEC / 2);
            cr_assert_neq(scout_rig_asked(&r->at), dead);
        }
        cr_assert_eq(r->useless, 0, "those that tell the map are no failure");
        cr_assert_gt(r->doubted, 5);
        cr_assert_gt(r->told, 15, "%u", r->told);
        rig_free(r);
    }
}

Test(redis_cluster, who_alone_can_be_reached_is_asked_on_and_on)
{
    struct rig *r = rig_new(1, NODES);
    uint32_t asked;

    scout_rig_until(&r->at, r->told == 1);
    asked = scout_rig_asked(&r->at);
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t k = 1; k < NODES; k++)
            redis_cluster_unreachable(&r->cluster, &r->at.endpoints[(asked + k) % NODES]);
        redis_scout_doubt(&r->cluster.scout);
        scout_rig_for(&r->at, NS_PER_SEC / 2);
    }
    cr_assert_eq(r->cluster.scout.link.stats.connects, 1);
    cr_assert_eq(scout_rig_asked(&r->at), asked);
    cr_assert_geq(r->told, 10);
    cr_assert_eq(r->doubted, 0);
    redis_cluster_affirmed(&r->cluster, &r->at.endpoints[(asked + 1) % NODES]);
    redis_scout_doubt(&r->cluster.scout);
    scout_rig_until(&r->at, r->cluster.scout.link.stats.connects == 2);
    cr_assert_eq(scout_rig_asked(&r->at), (asked + 1) % NODES);
    rig_free(r);
}

/* A replica is in touch with the others, as far as is known. */
Test(redis_cluster, who_is_no_master_is_asked_for_the_map)
{
    struct rig *r = rig_new(1, NODES);
    uint32_t next;

    scout_rig_until(&r->at, r->told == 1);
    next = (scout_rig_asked(&r->at) + 1) % NODES;
    redis_cluster_denied(&r->cluster, &r->at.endpoints[next], REDIS_CLUSTER_EVERY_SLOT);
    scout_rig_for(&r->at, NS_PER_SEC);
    redis_scout_doubt(&r->cluster.scout);
    scout_rig_for(&r->at, NS_PER_SEC);
    cr_assert_eq(scout_rig_asked(&r->at), next);
    rig_free(r);
}

Test(redis_cluster, denials_of_single_slots_do_not_push_out_those_of_all)
{
    struct rig *r = rig_new(1, NODES);
    uint32_t dead;

    scout_rig_until(&r->at, r->told == 1);
    dead = (scout_rig_asked(&r->at) + 1) % NODES;
    redis_cluster_unreachable(&r->cluster, &r->at.endpoints[dead]);
    for (uint32_t slot = 0; slot < 2 * REDIS_CLUSTER_DENIALS; slot++) {
        scout_rig_for(&r->at, NS_PER_MS);
        redis_cluster_denied(&r->cluster, &r->at.endpoints[(dead + 1) % NODES], slot);
    }
    scout_rig_for(&r->at, NS_PER_SEC);
    redis_scout_doubt(&r->cluster.scout);
    scout_rig_for(&r->at, NS_PER_SEC);
    cr_assert_eq(r->doubted, 1);
    cr_assert_neq(scout_rig_asked(&r->at), dead);
    rig_free(r);
}
