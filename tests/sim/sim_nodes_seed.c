/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A storm over several nodes and their Redis, and the accounts afterwards: what is delivered on two
 * nodes is delivered in one order, each sender's in its own, nothing twice; and what a node has not
 * delivered it has counted as lost, to the one. In the simulation's one thread. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_publish.h"
#include "tests/sim/sim_nodes.h"

#define STORM_NS (12 * NS_PER_SEC)
#define SETTLE_NS (30 * NS_PER_SEC)

static uint32_t below(struct nodes *c, uint32_t bound)
{
    return (uint32_t)sim_net_below(c->net, bound);
}

/* The storm
 * -------------------------------------------------------------------------------------- */

static void draw(struct nodes *c, uint64_t seed)
{
    struct sim_net *dice = sim_net_new(seed, NULL);
    uint32_t nodes = 2 + (uint32_t)sim_net_below(dice, 2);
    uint32_t shards = 1 + (uint32_t)sim_net_below(dice, NODES_SHARDS_MAX);
    uint32_t redis = 1 + (sim_net_below(dice, 4) == 0);
    bool is_local = sim_net_below(dice, 5) == 0;
    bool refuses = sim_net_below(dice, 5) == 0;
    bool is_cluster = sim_net_below(dice, 3) == 0;
    uint32_t masters = redis;

    if (is_cluster) {
        masters = 2 + (uint32_t)sim_net_below(dice, 2);
        redis = masters * (1 + (uint32_t)sim_net_below(dice, 2));
    }
    sim_net_free(dice);
    nodes_prepare(c, seed, nodes, shards, redis);
    c->is_cluster = is_cluster;
    c->master_count = masters;
    c->room_count = 1 + below(c, NODES_ROOMS_MAX);
    for (uint32_t i = 0; i < nodes; i++) {
        struct redis_config *r = &c->nodes[i].config.pubsub.redis;

        r->order = is_local ? REDIS_ORDER_LOCAL : REDIS_ORDER_GLOBAL;
        r->away = refuses ? REDIS_AWAY_REFUSE : REDIS_AWAY_LOCAL;
        r->linger_ns = below(c, 3) * 100 * NS_PER_MS;
        r->queue_bytes = below(c, 3) == 0 ? 20000 : 16 << 20;
        c->nodes[i].config.core.mesh_slots = below(c, 2) == 0 ? 4 : 1024;
        c->nodes[i].config.pubsub.mesh_window_bytes = below(c, 2) == 0 ? 3000 : 4 << 20;
        c->nodes[i].config.pubsub.write_delay_ns = below(c, 3) == 0 ? 5 * NS_PER_MS : 0;
    }
    sim_faults_draw(&c->faults, seed, false);
    c->faults.buffer_min_bytes += 400;
    c->faults.buffer_max_bytes += 2000;
}

static uint32_t any_master(struct nodes *c)
{
    return c->cluster.master_of[below(c, c->redis_count)];
}

/* Every slot has a master again, and all are told. */
static void calm_cluster(struct nodes *c)
{
    for (uint32_t slot = 0; slot < SIM_CLUSTER_SLOTS; slot++) {
        if (c->cluster.owner[slot] >= c->redis_count)
            sim_cluster_move(&c->cluster, slot, any_master(c));
    }
    for (uint32_t i = 0; i < c->redis_count; i++)
        sim_cluster_cut(&c->cluster, i, false);
    sim_cluster_tell(&c->cluster);
}

static void calm_redis(struct nodes *c)
{
    if (c->is_cluster)
        calm_cluster(c);
    for (uint32_t i = 0; i < c->redis_count; i++) {
        struct sim_redis *r = &c->redis[i];

        r->faults = (struct sim_redis_faults){0};
        r->is_mute = false;
        sim_redis_silence(r, false);
        if (!r->is_listening && !sim_redis_start(r))
            nodes_fail(c, "no memory");
    }
}

static uint32_t slot_of_room(struct nodes *c, uint32_t room)
{
    char name[40];
    int len = snprintf(name, sizeof(name), "%sr%u", c->prefix, room);

    return sim_cluster_slot(name, (size_t)len);
}

/* A replica takes over, from a master that ends or from one that goes on as its replica. */
static void fail_over(struct nodes *c, uint32_t replica)
{
    uint32_t old = c->cluster.master_of[replica];

    if (sim_cluster_is_master(&c->cluster, replica) || !c->redis[replica].is_listening ||
        c->cluster.is_cut[replica] || c->cluster.is_cut[old])
        return;
    if (below(c, 2) == 0)
        sim_redis_stop(&c->redis[old]);
    sim_cluster_promote(&c->cluster, replica);
}

/* A slot moves, some move, a master hands over all it has and may end, slots have no master, a node
 * hears nothing of the others for a while, or a replica takes over. CLUSTER SLOTS may lag behind.
 */
static void befall_cluster(struct nodes *c)
{
    uint32_t from = any_master(c), to = any_master(c);
    uint32_t kind = below(c, 6);

    for (uint32_t slot = 0; kind == 0 && slot < SIM_CLUSTER_SLOTS; slot++) {
        if (c->cluster.owner[slot] == from)
            sim_cluster_move(&c->cluster, slot, to);
    }
    for (uint32_t room = 0; kind == 1 && room < c->room_count; room++)
        sim_cluster_move(&c->cluster, slot_of_room(c, room), to);
    if (kind == 2)
        sim_cluster_move(&c->cluster, slot_of_room(c, below(c, c->room_count)),
                         SIM_CLUSTER_NODES_MAX);
    if (kind == 3)
        sim_cluster_move(&c->cluster, slot_of_room(c, below(c, c->room_count)), to);
    if (kind == 4)
        sim_cluster_cut(&c->cluster, below(c, c->redis_count), below(c, 3) != 0);
    if (kind == 5)
        fail_over(c, below(c, c->redis_count));
    if (kind == 0 && from != to && below(c, 2) == 0)
        sim_redis_stop(&c->redis[from]);
    if (below(c, 3) != 0)
        sim_cluster_tell(&c->cluster);
}

/* Something happens to a Redis, or what happened is over. */
static void befall(struct nodes *c)
{
    struct sim_redis *r = &c->redis[below(c, c->redis_count)];

    c->fault_ns = nodes_now(c) + below(c, 1500) * NS_PER_MS;
    if (c->is_cluster && below(c, 2) == 0) {
        befall_cluster(c);
        return;
    }
    switch (below(c, 9)) {
    case 0:
        sim_redis_stop(r);
        return;
    case 1:
        sim_redis_silence(r, true);
        return;
    case 2:
        sim_redis_kill_clients(r);
        return;
    case 3:
        r->faults.error = 200000;
        return;
    case 4:
        r->faults.drop = 100000;
        return;
    case 5:
        r->faults.duplicate = 100000;
        return;
    case 6:
        r->faults.cut = r->faults.reset = 20000;
        return;
    case 7:
        r->is_mute = true;
        return;
    default:
        calm_redis(c);
    }
}

static void storm(struct nodes *c)
{
    uint64_t until_ns = nodes_now(c) + STORM_NS;

    sim_net_set_faults(c->net, &c->faults);
    c->storm = true;
    for (uint32_t i = 0; i < c->peer_count; i++)
        c->peers[i]->todo = 20 + below(c, 100);
    c->fault_ns = nodes_now(c) + below(c, 1000) * NS_PER_MS;
    while (nodes_now(c) < until_ns && nodes_failure(c) == NULL) {
        nodes_run(c, until_ns, NULL);
        if (nodes_now(c) >= c->fault_ns)
            befall(c);
    }
    c->fault_ns = UINT64_MAX;
    c->storm = false;
    sim_net_set_faults(c->net, NULL);
    calm_redis(c);
}

/* Calm
 * --------------------------------------------------------------------------------------- */

static bool everyone_is_in(struct nodes *c)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        if (!c->peers[i]->is_open)
            return false;
    }
    return true;
}

/* All links carry messages, all rooms are subscribed, nothing is under way. */
static bool is_settled(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++) {
        struct server *s = &c->nodes[n].server;

        if (!redis_shared_is_up(&s->redis))
            return false;
        for (uint32_t i = 0; i < s->ready; i++) {
            struct engine_redis *e = s->shards[i].redis;

            if (redis_publish_bytes(e) != 0 ||
                e->pool.used != stats_get(&e->stats[REDIS_STAT_CONFIRMED]))
                return false;
        }
    }
    for (uint32_t i = 0; i < c->peer_count; i++) {
        if (c->peers[i]->out_pos < c->peers[i]->out_len)
            return false;
    }
    return true;
}

static bool has(const struct peer *p, uint32_t uid, uint32_t number)
{
    for (uint32_t i = p->got_count; i-- > 0;) {
        if (p->got[i] == (uid << 20 | number))
            return true;
    }
    return false;
}

static bool is_due(const struct peer *to, const struct peer *from)
{
    return to->room == from->room && (to != from || to->wants_echo);
}

/* Everyone has the last message of everyone. */
static bool last_ones_came(struct nodes *c)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        for (uint32_t k = 0; k < c->peer_count; k++) {
            const struct peer *to = c->peers[i], *from = c->peers[k];

            if (is_due(to, from) && !has(to, from->uid, from->sent - 1))
                return false;
        }
    }
    return true;
}

/* One message of everyone: who has it is in touch with all, and sees what it has missed. */
static void mark(struct nodes *c)
{
    if (!nodes_run(c, nodes_now(c) + SETTLE_NS, is_settled))
        nodes_fail(c, "it does not settle");
    for (uint32_t i = 0; i < c->peer_count; i++)
        peer_publish(c->peers[i], 40);
    if (!nodes_run(c, nodes_now(c) + SETTLE_NS, last_ones_came))
        nodes_fail(c, "a message in the calm does not come to all");
}

/* The accounts
 * -------------------------------------------------------------------------------- */

static void check_own(struct nodes *c, const struct peer *p)
{
    uint32_t next[PEERS_MAX] = {0};

    if (p->is_done)
        nodes_fail(c, "peer %u was closed with %u", p->uid, p->close_code);
    for (uint32_t i = 0; i < p->got_count; i++) {
        uint32_t uid = p->got[i] >> 20, number = p->got[i] & 0xfffff;

        if (number < next[uid])
            nodes_fail(c, "peer %u got message %u of %u twice, or behind a later one", p->uid,
                       number, uid);
        if (uid == p->uid && !p->wants_echo)
            nodes_fail(c, "peer %u got its own message %u", p->uid, number);
        next[uid] = number + 1;
    }
}

/* What both got, both got in one order. */
static void check_order(struct nodes *c, const struct peer *a, const struct peer *b)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < a->got_count; i++) {
        uint32_t k = at;

        while (k < b->got_count && b->got[k] != a->got[i])
            k++;
        if (k < b->got_count)
            at = k;
        else if (has(b, a->got[i] >> 20, a->got[i] & 0xfffff))
            nodes_fail(c, "peers %u and %u see message %u of %u in different places", a->uid,
                       b->uid, a->got[i] & 0xfffff, a->got[i] >> 20);
    }
}

static bool came_to_node(struct nodes *c, uint32_t node, const struct peer *from, uint32_t number)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        const struct peer *to = c->peers[i];

        if (to->node == node && is_due(to, from) && has(to, from->uid, number))
            return true;
    }
    return false;
}

/* Every room has two peers or more on each node, so that of each message is seen whether it came.
 */
static void check_accounts(struct nodes *c, uint32_t node)
{
    uint64_t missing = 0, lost = nodes_stat(c, node, REDIS_STAT_LOST);

    for (uint32_t i = 0; i < c->peer_count; i++) {
        for (uint32_t number = 0; number < c->peers[i]->sent; number++)
            missing += !came_to_node(c, node, c->peers[i], number);
    }
    if (missing != lost)
        nodes_fail(c, "node %u lacks %llu messages and has counted %llu", node,
                   (unsigned long long)missing, (unsigned long long)lost);
}

static void check(struct nodes *c)
{
    for (uint32_t i = 0; i < c->peer_count && nodes_failure(c) == NULL; i++) {
        check_own(c, c->peers[i]);
        for (uint32_t k = 0; k < i; k++) {
            const struct peer *a = c->peers[i], *b = c->peers[k];

            if (a->room == b->room &&
                (a->node == b->node || c->nodes[0].config.pubsub.redis.order == REDIS_ORDER_GLOBAL))
                check_order(c, a, b);
        }
    }
    for (uint32_t n = 0; n < c->node_count && nodes_failure(c) == NULL; n++)
        check_accounts(c, n);
}

static void come(struct nodes *c)
{
    for (uint32_t room = 0; room < c->room_count; room++) {
        for (uint32_t n = 0; n < c->node_count; n++) {
            peer_new(c, n, room, true);
            if (c->peer_count < PEERS_MAX / 2)
                peer_new(c, n, room, below(c, 2) == 0);
        }
    }
    if (!nodes_run(c, nodes_now(c) + SETTLE_NS, everyone_is_in))
        nodes_fail(c, "not everyone was let in");
}

/* Rooms that still wait for Redis when the nodes are stopped: clients go sooner than those. */
static void leave_waiting(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++)
        c->nodes[n].config.net.close_timeout_ns = 200 * NS_PER_MS;
    for (uint32_t i = 0; i < c->redis_count; i++)
        sim_redis_silence(&c->redis[i], true);
    for (uint32_t i = 0; i < 4 && c->peer_count < PEERS_MAX; i++)
        peer_new(c, i % c->node_count, c->room_count + i, true);
    nodes_run(c, nodes_now(c) + below(c, 100) * NS_PER_MS, NULL);
}

/* Messages that are under way to a Redis that stands still when the nodes are stopped, and goes on
 * soon: it gets all of them. */
static void leave_speaking(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++)
        c->nodes[n].config.net.close_timeout_ns = 100 * NS_PER_MS;
    for (uint32_t i = 0; i < c->redis_count; i++)
        sim_redis_silence(&c->redis[i], true);
    for (uint32_t i = 0; i < c->peer_count; i++) {
        for (uint32_t n = below(c, 10); n > 0; n--)
            peer_publish(c->peers[i], 40);
    }
    nodes_run(c, nodes_now(c) + below(c, 200) * (NS_PER_MS / 100), NULL);
    c->leaves_speaking = true;
    for (uint32_t n = 0; n < c->node_count; n++)
        c->given_up[n] = nodes_given_up(c, n);
}

static void say(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++) {
        printf("  node %u:", n);
        for (uint32_t i = 0; i < REDIS_STAT_COUNT; i++) {
            const struct stats_desc *d = &redis_stat_descs[i];

            if (nodes_stat(c, n, i) != 0)
                printf(" %s%s%s%s=%llu", d->name + strlen("tidewire_redis_"),
                       d->labels != NULL ? "{" : "", d->labels != NULL ? d->labels : "",
                       d->labels != NULL ? "}" : "", (unsigned long long)nodes_stat(c, n, i));
        }
        printf("\n");
    }
}

void nodes_seed_run(uint64_t seed, bool verbose, struct seed_result *r)
{
    struct nodes *c = calloc(1, sizeof(*c));
    uint64_t begin_ns;

    *r = (struct seed_result){0};
    CHECK(c != NULL);
    draw(c, seed);
    begin_ns = nodes_now(c);
    if (!nodes_start(c)) {
        nodes_fail(c, "the nodes could not be made");
    } else {
        come(c);
        mark(c);
        for (uint32_t i = 0; i < 2 && nodes_failure(c) == NULL; i++) {
            storm(c);
            mark(c);
        }
        check(c);
        if (verbose)
            say(c);
        if (below(c, 2) == 0)
            leave_waiting(c);
        else
            leave_speaking(c);
        r->virtual_ns = nodes_now(c) - begin_ns;
    }
    r->hash = c->hash;
    r->steps = c->steps;
    r->users = c->peer_count;
    r->messages = (uint32_t)c->messages;
    nodes_end(c);
    r->ok = nodes_failure(c) == NULL;
    if (!r->ok)
        snprintf(r->failure, sizeof(r->failure), "%s", c->failure);
    free(c);
}
