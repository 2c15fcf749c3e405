/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A cluster of three masters and the nodes before it: one thing that goes wrong in each case. In
 * the simulation's one thread. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_masters.h"
#include "tests/sim/sim_nodes.h"
#include "tests/sim/sim_scenarios.h"

#define MASTERS 3
#define PATIENCE_NS (20 * NS_PER_SEC)

#define EXPECT(c, condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition))                                                                          \
            nodes_fail(c, __VA_ARGS__);                                                            \
    } while (0)

static bool is_ready(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++) {
        if (!redis_shared_is_up(&c->nodes[n].server.redis))
            return false;
    }
    for (uint32_t i = 0; i < c->peer_count; i++) {
        if (!c->peers[i]->is_open)
            return false;
    }
    return true;
}

static struct nodes *begin(void)
{
    struct nodes *c = calloc(1, sizeof(*c));

    CHECK(c != NULL);
    nodes_prepare(c, 7, 2, 1, 2 * MASTERS); /* the others are spare */
    c->is_cluster = true;
    c->master_count = MASTERS;
    c->spare_count = MASTERS;
    if (!nodes_start(c))
        nodes_fail(c, "the nodes could not be made");
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, is_ready), "the nodes are not ready");
    return c;
}

static void end(struct nodes *c, char *failure, size_t cap)
{
    nodes_end(c);
    snprintf(failure, cap, "%s", c->failure);
    free(c);
}

/* A peer on each node asks for a room that this master has; they are the first two. */
static void ask_for_room(struct nodes *c, uint32_t master, char *channel, size_t cap)
{
    uint32_t room = 0;

    for (;; room++) {
        int len = snprintf(channel, cap, "%sr%u", c->prefix, room);

        if (c->cluster.owner[sim_cluster_slot(channel, (size_t)len)] == master)
            break;
    }
    peer_new(c, 0, room, true);
    peer_new(c, 1, room, true);
}

static void open_room(struct nodes *c, uint32_t master, char *channel, size_t cap)
{
    ask_for_room(c, master, channel, cap);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, is_ready), "the peers were not let in");
}

static bool all_came(struct nodes *c)
{
    uint32_t sent = 0;

    for (uint32_t i = 0; i < c->peer_count; i++)
        sent += c->peers[i]->sent;
    for (uint32_t i = 0; i < c->peer_count; i++) {
        if (c->peers[i]->got_count != sent)
            return false;
    }
    return true;
}

static bool sender_has_both(struct nodes *c)
{
    return c->peers[0]->got_count == 3;
}

/* Both nodes have subscribed to the room again. */
static bool is_quiet(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++) {
        if (nodes_stat(c, n, REDIS_STAT_CONFIRMED) != 1)
            return false;
    }
    return true;
}

static bool last_came(struct nodes *c)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct peer *p = c->peers[i];

        if (p->got_count == 0 || p->got[p->got_count - 1] != 3)
            return false;
    }
    return true;
}

/* Numbers of the first peer's messages. */
static bool in_order(const struct peer *p)
{
    for (uint32_t i = 1; i < p->got_count; i++) {
        if (p->got[i] <= p->got[i - 1])
            return false;
    }
    return true;
}

/* The first is sent back, as its slot has moved; the second, sent on the same way, is refused for
 * another reason. It waits behind the first: both come, in the order sent. Who moves later than
 * they do may miss them, and counts that. */
static void refused_behind_sent_back(char *failure, size_t cap)
{
    struct nodes *c = begin();
    char channel[40];

    open_room(c, 0, channel, sizeof(channel));
    peer_publish(c->peers[0], 40); /* what is lost is counted from the first on that was seen */
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, all_came), "the first came not to all");
    sim_redis_silence(&c->redis[0], true);
    peer_publish(c->peers[0], 40);
    peer_publish(c->peers[0], 40);
    nodes_run(c, nodes_now(c) + 10 * NS_PER_MS, NULL);
    EXPECT(c, nodes_stat(c, 0, REDIS_STAT_PUBLISHED) == 3, "the messages are not under way");
    c->redis[0].after_moved = "NOPERM no";
    sim_cluster_move(&c->cluster, sim_cluster_slot(channel, strlen(channel)), 1);
    sim_cluster_tell(&c->cluster);
    sim_redis_silence(&c->redis[0], false);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, sender_has_both), "%u of 3 came",
           c->peers[0]->got_count);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, is_quiet), "a node has not found the room");
    peer_publish(c->peers[0], 40);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, last_came), "the last came not to all");
    EXPECT(c, nodes_failure(c) != NULL || in_order(c->peers[0]), "they came out of turn");
    EXPECT(c, nodes_failure(c) != NULL || in_order(c->peers[1]), "they came out of turn");
    for (uint32_t i = 0; i < 2; i++)
        EXPECT(c, c->peers[i]->got_count + nodes_stat(c, i, REDIS_STAT_LOST) == 4,
               "node %u has %u of 4, and %llu counted as lost", i, c->peers[i]->got_count,
               (unsigned long long)nodes_stat(c, i, REDIS_STAT_LOST));
    EXPECT(c, c->peers[0]->got_count == 4, "one was lost where it came from");
    EXPECT(c, c->redis[0].after_moved == NULL, "nothing was refused");
    EXPECT(c, nodes_stat(c, 0, REDIS_STAT_SENT_BACK) == 2, "%llu were sent back",
           (unsigned long long)nodes_stat(c, 0, REDIS_STAT_SENT_BACK));
    end(c, failure, cap);
}

/* Which of the masters the node's scout asks. */
static uint32_t asked_by(struct nodes *c, uint32_t node)
{
    const struct redis_masters *m = c->nodes[node].server.shards[0].redis->masters[0];
    const char *host = redis_scout_asked(&m->map.scout)->host;

    return (uint32_t)strtoul(strrchr(host, '.') + 1, NULL, 10) - 1;
}

static bool both_are_up(struct nodes *c)
{
    return is_ready(c) && nodes_stat(c, 0, REDIS_STAT_PAIRS_UP) == 2;
}

/* A master was failed over and is a replica now. The node that is asked for the map is cut off from
 * the others, and goes on to name it. */
static void replica_named_by_a_node_that_is_cut_off(char *failure, size_t cap)
{
    struct nodes *c = begin();
    uint32_t stale = asked_by(c, 0), old = (stale + 1) % MASTERS, new = (stale + 2) % MASTERS;
    char channel[40];

    open_room(c, old, channel, sizeof(channel));
    sim_cluster_cut(&c->cluster, stale, true);
    sim_redis_stop(&c->redis[old]);
    c->redis[old].is_replica = true;
    for (uint32_t slot = 0; slot < SIM_CLUSTER_SLOTS; slot++) {
        if (c->cluster.owner[slot] == old)
            sim_cluster_move(&c->cluster, slot, new);
    }
    sim_cluster_tell(&c->cluster);
    EXPECT(c, sim_redis_start(&c->redis[old]), "no memory");
    nodes_run(c, nodes_now(c) + 3 * NS_PER_SEC, NULL);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, both_are_up), "a pair stays at a replica");
    EXPECT(c, nodes_stat(c, 0, REDIS_STAT_CLUSTER_DOUBTS) > 0, "no other node was asked");
    EXPECT(c, sim_redis_subscribers(&c->redis[new], channel) == 2, "%u nodes have found the master",
           sim_redis_subscribers(&c->redis[new], channel));
    peer_publish(c->peers[0], 40);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, all_came), "%u and %u of 1 came",
           c->peers[0]->got_count, c->peers[1]->got_count);
    sim_cluster_cut(&c->cluster, stale, false);
    end(c, failure, cap);
}

/* Slots move to another master, and the node that is asked goes on to name the old one: rooms go
 * where they belong, once. */
static void rooms_do_not_go_back_and_forth(char *failure, size_t cap)
{
    struct nodes *c = begin();
    uint32_t stale = asked_by(c, 0), old = (stale + 1) % MASTERS, new = (stale + 2) % MASTERS;
    char channel[40];

    open_room(c, old, channel, sizeof(channel));
    sim_cluster_cut(&c->cluster, stale, true);
    sim_cluster_move(&c->cluster, sim_cluster_slot(channel, strlen(channel)), new);
    sim_cluster_tell(&c->cluster);
    for (uint32_t i = 0; i < 100; i++) {
        peer_publish(c->peers[i % 2], 40);
        nodes_run(c, nodes_now(c) + 50 * NS_PER_MS, NULL);
    }
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, is_ready), "a node is not ready");
    for (uint32_t i = 0; i < 2; i++)
        EXPECT(c, nodes_stat(c, i, REDIS_STAT_ROOMS_MOVED) == 1, "node %u: rooms moved %llu times",
               i, (unsigned long long)nodes_stat(c, i, REDIS_STAT_ROOMS_MOVED));
    sim_cluster_cut(&c->cluster, stale, false);
    end(c, failure, cap);
}

/* Which of the nodes' subscriptions to the channel are at that server. */
static uint32_t subscribers(struct nodes *c, uint32_t server, const char *channel)
{
    return sim_redis_subscribers(&c->redis[server], channel);
}

/* A failover by hand, when the nodes have no rooms: only canaries can tell. The old master would
 * take rooms on as a replica. */
static void take_no_new_rooms(bool publishers_end, char *failure, size_t cap)
{
    struct nodes *c = begin();
    char channel[40] = "";

    for (uint32_t i = 0; i < MASTERS; i++)
        sim_cluster_add_replica(&c->cluster, &c->redis[MASTERS + i], i);
    sim_cluster_promote(&c->cluster, MASTERS);
    nodes_run(c, nodes_now(c) + 10 * NS_PER_MS, NULL);
    if (publishers_end) {
        sim_redis_kill_publishers(&c->redis[0]);
        nodes_run(c, nodes_now(c) + 10 * NS_PER_MS, NULL);
    }
    ask_for_room(c, MASTERS, channel, sizeof(channel));
    nodes_run(c, nodes_now(c) + 500 * NS_PER_MS, NULL);
    EXPECT(c, subscribers(c, 0, channel) == 0, "a replica was asked for a room");
    sim_cluster_tell(&c->cluster);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, is_ready), "a pair stays at a replica");
    peer_publish(c->peers[0], 40);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, all_came), "%u and %u of 1 came",
           c->peers[0]->got_count, c->peers[1]->got_count);
    EXPECT(c, subscribers(c, MASTERS, channel) == 2 && subscribers(c, 0, channel) == 0,
           "the room is not at the new master alone");
    end(c, failure, cap);
}

static void replica_takes_no_new_rooms(char *failure, size_t cap)
{
    take_no_new_rooms(false, failure, cap);
}

/* The connection that publishes ends; the one that would ask for rooms stays. */
static void replica_takes_none_when_publishers_end(char *failure, size_t cap)
{
    take_no_new_rooms(true, failure, cap);
}

/* Nobody hears of it before the map is asked for. */
static void new_master_is_found_within_a_second(char *failure, size_t cap)
{
    struct nodes *c = begin();
    char channel[40] = "";
    uint64_t begin_ns;

    sim_cluster_add_replica(&c->cluster, &c->redis[MASTERS], 0);
    open_room(c, 0, channel, sizeof(channel));
    sim_redis_stop(&c->redis[0]);
    nodes_run(c, nodes_now(c) + 30 * NS_PER_SEC, NULL);
    sim_cluster_promote(&c->cluster, MASTERS);
    sim_cluster_tell(&c->cluster);
    begin_ns = nodes_now(c);
    EXPECT(c, nodes_run(c, begin_ns + PATIENCE_NS, is_ready), "the new master is not found");
    EXPECT(c, nodes_now(c) - begin_ns < NS_PER_SEC * 3 / 2, "found after %llu ms",
           (unsigned long long)((nodes_now(c) - begin_ns) / NS_PER_MS));
    end(c, failure, cap);
}

static bool sender_has_all(struct nodes *c)
{
    return c->peers[0]->got_count == c->peers[0]->sent;
}

/* Each of two masters says that a slot is the other's, for a while: whoever believes them goes from
 * one to the other ten times a second and not more, what is said meanwhile goes on within the node,
 * and other rooms go on as ever. */
static void masters_that_send_a_room_to_each_other(char *failure, size_t cap)
{
    struct nodes *c = begin();
    char channel[40];
    uint64_t moved;

    open_room(c, 0, channel, sizeof(channel));
    peer_publish(c->peers[0], 40);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, all_came), "the first came not to all");
    c->redis[1].denied_slot = sim_cluster_slot(channel, strlen(channel));
    c->redis[1].denies_for = &c->redis[0];
    sim_cluster_move(&c->cluster, c->redis[1].denied_slot, 1);
    sim_cluster_tell(&c->cluster);
    for (uint32_t i = 0; i < 2; i++) {
        peer_publish(c->peers[0], 40);
        nodes_run(c, nodes_now(c) + 5 * NS_PER_SEC / 2, NULL);
        EXPECT(c, sender_has_all(c), "%u of %u came to who said them", c->peers[0]->got_count,
               c->peers[0]->sent);
    }
    for (uint32_t i = 0; i < 2; i++) {
        moved = nodes_stat(c, i, REDIS_STAT_ROOMS_MOVED);
        EXPECT(c, moved >= 10 && moved <= 60, "node %u: rooms moved %llu times in 5 s", i,
               (unsigned long long)moved);
    }
    EXPECT(c, nodes_stat(c, 0, REDIS_STAT_LOCAL_ONLY) == 2, "%llu went on within the node",
           (unsigned long long)nodes_stat(c, 0, REDIS_STAT_LOCAL_ONLY));
    EXPECT(c, nodes_stat(c, 0, REDIS_STAT_PAIRS_UP) == MASTERS, "a pair is down");
    c->redis[1].denies_for = NULL;
    EXPECT(c, nodes_run(c, nodes_now(c) + 3 * NS_PER_SEC, is_quiet), "a node has not found it");
    peer_publish(c->peers[0], 40);
    EXPECT(c, nodes_run(c, nodes_now(c) + PATIENCE_NS, last_came), "the last came not to all");
    EXPECT(c, nodes_failure(c) != NULL || in_order(c->peers[1]), "they came out of turn");
    EXPECT(c, nodes_stat(c, 1, REDIS_STAT_LOST) == 2, "%llu were counted as lost",
           (unsigned long long)nodes_stat(c, 1, REDIS_STAT_LOST));
    end(c, failure, cap);
}

const struct scenario nodes_scenarios[] = {
    {"a replica that was a master takes no new rooms", replica_takes_no_new_rooms},
    {"nor when the connections that publish to it have ended",
     replica_takes_none_when_publishers_end},
    {"a new master is found within a second and a half", new_master_is_found_within_a_second},
    {"a message refused behind one that was sent back waits with it", refused_behind_sent_back},
    {"a replica that a node without contact names as master is left",
     replica_named_by_a_node_that_is_cut_off},
    {"a map without contact to the others moves no room back", rooms_do_not_go_back_and_forth},
    {"masters that send a room to each other are followed with a brake",
     masters_that_send_a_room_to_each_other},
    {NULL, NULL},
};
