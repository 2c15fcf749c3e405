/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Heartbeats, drain, limits over shards, idle shards: to the millisecond and to the one. In the
 * simulation's one thread. */

#include "tests/sim/sim_scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"
#include "tests/sim/sim_user.h"

#define EXPECT(w, condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition))                                                                          \
            world_fail(w, __VA_ARGS__);                                                            \
    } while (0)

/* Deadlines are kept in ticks of 1 ms and fire with the timer wheel's of 10 ms. */
#define TIMER_SLACK_NS (25 * NS_PER_MS)

static struct world *scenario_begin(void)
{
    struct world *w = calloc(1, sizeof(*w));

    CHECK(w != NULL);
    world_config_defaults(&w->config);
    w->room_count = 1;
    return w;
}

static void scenario_start(struct world *w, uint32_t shards, uint32_t conns_max)
{
    if (!world_start(w, 42, shards, conns_max))
        world_fail(w, "the world could not be made");
}

/* A member of the room; its handshake is done. */
static struct user *member(struct world *w, const char *ip)
{
    struct user *u = user_new(w, 0, true, false, ip);

    CHECK(u != NULL);
    user_upgrade(u);
    world_run(w, world_now(w) + NS_PER_MS, NULL);
    return u;
}

static void pass(struct world *w, uint64_t ns)
{
    world_run(w, world_now(w) + ns, NULL);
}

static void scenario_end(struct world *w, char *failure, size_t cap)
{
    if (world_failure(w) == NULL)
        world_drain(w);
    world_end(w);
    snprintf(failure, cap, "%s", w->failure);
    free(w);
}

static unsigned long long end_count(struct world *w, enum conn_end why)
{
    return world_net_stat(w, (enum net_stat)(NET_STAT_ENDS + why));
}

/* Heartbeats ----------------------------------------------------------------------------------- */

static struct world *heartbeats_begin(void)
{
    struct world *w = scenario_begin();

    w->config.net.ping_interval_ns = 30 * NS_PER_SEC;
    w->config.net.pong_timeout_ns = 5 * NS_PER_SEC;
    w->config.net.pong_misses = 3;
    scenario_start(w, 2, 1000);
    return w;
}

static bool first_is_done(struct world *w)
{
    return w->users[0]->state == USER_DONE;
}

static void dead_peer(char *failure, size_t cap)
{
    struct world *w = heartbeats_begin();
    struct user *u = member(w, "10.0.0.1");
    uint64_t after_ns;

    u->mute = true;
    EXPECT(w, world_run(w, world_now(w) + 120 * NS_PER_SEC, first_is_done),
           "a dead peer is still there after two minutes");
    after_ns = u->ended_ns - u->pinged_ns;
    EXPECT(w, u->pings_seen == 3, "%u pings instead of 3", u->pings_seen);
    EXPECT(w,
           after_ns + NS_PER_MS * 2 >= 5 * NS_PER_SEC &&
               after_ns <= 5 * NS_PER_SEC + TIMER_SLACK_NS,
           "closed %.3f s after the third ping", (double)after_ns / 1e9);
    EXPECT(w, end_count(w, CONN_END_NO_PONG) == 1, "counted %llu times",
           end_count(w, CONN_END_NO_PONG));
    EXPECT(w, world_net_stat(w, NET_STAT_PONG_MISSES) == 3, "other than 3 misses were counted");
    EXPECT(w, world_net_stat(w, NET_STAT_CLOSE_1008) == 1, "no close frame with 1008");
    scenario_end(w, failure, cap);
}

static void third_pong_lives(char *failure, size_t cap)
{
    struct world *w = heartbeats_begin();
    struct user *u = member(w, "10.0.0.1");

    u->pong_every = 3;
    pass(w, 1200 * NS_PER_SEC);
    EXPECT(w, user_is_alive(u), "one that answers each third ping was closed");
    EXPECT(w, u->pings_seen >= 30, "only %u pings in 20 minutes", u->pings_seen);
    EXPECT(w, world_net_stat(w, NET_STAT_PONG_MISSES) >= u->pings_seen / 3 * 2 - 2,
           "too few misses were counted");
    EXPECT(w, end_count(w, CONN_END_NO_PONG) == 0, "counted as dead");
    scenario_end(w, failure, cap);
}

static void no_ping_to_the_heard(char *failure, size_t cap)
{
    struct world *w = heartbeats_begin();
    struct user *busy = member(w, "10.0.0.1");
    struct user *idle = user_new(w, USER_ECHO, true, false, "10.0.0.2");

    user_upgrade(idle);
    for (int i = 0; i < 30; i++) {
        user_publish(busy, 20, true);
        pass(w, 20 * NS_PER_SEC);
    }
    EXPECT(w, busy->pings_seen == 0, "%u pings to one who spoke every 20 s", busy->pings_seen);
    EXPECT(w, busy->got_count == 30, "%u of 30 messages came", busy->got_count);
    EXPECT(w, idle->pings_seen >= 15 && idle->pings_seen <= 20, "%u pings in ten idle minutes",
           idle->pings_seen);
    scenario_end(w, failure, cap);
}

static bool first_is_pinged(struct world *w)
{
    return w->users[0]->pings_seen > 0;
}

/* The clock leaps while a pong is under way: the shard was late, not the peer. */
static void lag_judges_nobody(char *failure, size_t cap)
{
    struct world *w = scenario_begin();
    struct user *u;

    w->config.net.ping_interval_ns = 30 * NS_PER_SEC;
    w->config.net.pong_timeout_ns = 5 * NS_PER_SEC;
    w->config.net.pong_misses = 1;
    scenario_start(w, 1, 1000);
    u = member(w, "10.0.0.1");
    u->mute = true;
    EXPECT(w, world_run(w, world_now(w) + 40 * NS_PER_SEC, first_is_pinged), "no ping in 40 s");
    sim_net_advance(w->net, world_now(w) + 20 * NS_PER_SEC);
    pass(w, NS_PER_SEC);
    EXPECT(w, user_is_alive(u), "closed by a shard that was 20 s late");
    EXPECT(w, world_run(w, world_now(w) + 6 * NS_PER_SEC, first_is_done),
           "not closed when the shard had waited once more");
    scenario_end(w, failure, cap);
}

/* Drain ---------------------------------------------------------------------------------------- */

#define DRAIN_USERS 60

static void drain_is_even(char *failure, size_t cap)
{
    struct world *w = scenario_begin();
    uint64_t begin_ns;

    w->config.net.drain_time_ns = 6 * NS_PER_SEC;
    scenario_start(w, 4, 1000);
    for (int i = 0; i < DRAIN_USERS; i++)
        member(w, "10.0.0.1");
    begin_ns = world_now(w);
    world_drain(w);
    for (uint64_t second = 1; second <= 6; second++) {
        uint32_t closed = 0, due = (uint32_t)(DRAIN_USERS * second / 6);

        for (uint32_t i = 0; i < w->user_count; i++)
            closed += w->users[i]->ended_ns <=
                      begin_ns + second * NS_PER_SEC + (second == 6 ? TIMER_SLACK_NS : 0);
        EXPECT(w, closed + 5 >= due && closed <= due + 1 && (second < 6 || closed == due),
               "%u of %u were closed after %llu s", closed, due, (unsigned long long)second);
    }
    for (uint32_t i = 0; i < w->user_count; i++)
        EXPECT(w, w->users[i]->close_code == 1012, "closed with %u", w->users[i]->close_code);
    EXPECT(w, end_count(w, CONN_END_DRAIN) == DRAIN_USERS, "%llu were counted as drained",
           end_count(w, CONN_END_DRAIN));
    world_end(w);
    snprintf(failure, cap, "%s", w->failure);
    free(w);
}

/* Many shards ---------------------------------------------------------------------------------- */

static uint64_t shard_stat(struct world *w, enum shard_stat i)
{
    uint64_t sum = 0;

    for (uint32_t k = 0; k < w->server.ready; k++)
        sum += stats_get(&w->server.shards[k].shard.stats[i]);
    return sum;
}

/* Memory of this process that nobody shares, in bytes. */
static uint64_t private_bytes(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    uint64_t kib = 0, n;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "Private_Dirty: %lu", &n) == 1 ||
            sscanf(line, "Private_Clean: %lu", &n) == 1)
            kib += n;
    }
    if (f != NULL)
        fclose(f);
    return kib << 10;
}

/* Everything counts, the simulated ios and their stacks too. */
static void idle_shards(char *failure, size_t cap)
{
    struct world *w = scenario_begin();
    uint64_t before = private_bytes();
    uint64_t grown, turns;

    scenario_start(w, 64, 1000);
    pass(w, NS_PER_SEC);
    EXPECT(w, before > 0, "the memory of this process can not be read");
    grown = private_bytes() - before;
    turns = shard_stat(w, SHARD_STAT_TURNS);
    pass(w, 3600 * NS_PER_SEC);
    turns = shard_stat(w, SHARD_STAT_TURNS) - turns;
    EXPECT(w, turns == 0, "%llu turns in an idle hour", (unsigned long long)turns);
#ifndef TW_SANITIZED
    printf("    64 idle shards: %.2f MiB of private memory\n", (double)grown / (1 << 20));
    EXPECT(w, grown <= 8u << 20, "%.2f MiB of private memory", (double)grown / (1 << 20));
#endif
    (void)grown;
    member(w, "10.0.0.1"); /* they still wake */
    EXPECT(w, user_is_alive(w->users[0]), "a shard that slept an hour does not answer");
    scenario_end(w, failure, cap);
}

/* Limits --------------------------------------------------------------------------------------- */

#define CROWD 64
#define CROWD_LIMIT 10

static uint32_t alive_count(const struct world *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->user_count; i++)
        n += user_is_alive(w->users[i]);
    return n;
}

static void per_address_is_exact(char *failure, size_t cap)
{
    struct world *w = scenario_begin();
    uint32_t refused = 0;

    w->crowded = true;
    w->config.net.max_connections_per_ip = CROWD_LIMIT;
    scenario_start(w, 4, 1000);
    for (int i = 0; i < CROWD; i++)
        user_upgrade(user_new(w, 0, true, false, "10.0.0.7"));
    user_upgrade(user_new(w, 0, true, false, "10.0.0.8"));
    pass(w, 7 * NS_PER_SEC);
    for (uint32_t i = 0; i < CROWD; i++)
        refused += w->users[i]->close_code == 1013;
    EXPECT(w, alive_count(w) == CROWD_LIMIT + 1, "%u of one address and one of another are in",
           alive_count(w));
    EXPECT(w, refused == CROWD - CROWD_LIMIT, "%u were told 1013", refused);
    EXPECT(w, end_count(w, CONN_END_ADDRESS_FULL) == CROWD - CROWD_LIMIT, "%llu were counted",
           end_count(w, CONN_END_ADDRESS_FULL));
    for (uint32_t i = 0; i < w->user_count; i++) {
        if (user_is_alive(w->users[i]))
            user_leave(w->users[i], i % 2 == 0);
    }
    pass(w, NS_PER_SEC);
    EXPECT(w, user_is_alive(member(w, "10.0.0.7")), "who left still counts");
    scenario_end(w, failure, cap);
}

/* One of two shards listens. It takes its share and what it may refuse, hands the next ones over,
 * and turns the rest away at once. */
static void full_shard_hands_over(char *failure, size_t cap)
{
    const uint32_t room = 8, own = room + NET_REFUSALS_MAX / 2;
    struct world *w = scenario_begin();
    struct user *u;

    w->crowded = true;
    w->listen_count = 1;
    scenario_start(w, 2, NET_REFUSALS_MAX + room);
    for (uint32_t i = 0; i < own + room; i++) {
        u = member(w, "10.0.0.1");
        EXPECT(w, user_is_alive(u), "user %u was not let in", i);
    }
    EXPECT(w, world_net_stat(w, NET_STAT_ADOPTED) == room, "%llu were handed over",
           (unsigned long long)world_net_stat(w, NET_STAT_ADOPTED));
    u = member(w, "10.0.0.1");
    EXPECT(w, u->http_status == 503, "no room anywhere, and the answer is %u", u->http_status);
    user_publish(w->users[0], 100, true);
    user_publish(w->users[own], 100, true);
    pass(w, NS_PER_SEC);
    for (uint32_t i = 0; i < own + room; i++)
        EXPECT(w, w->users[i]->got_count == 2, "user %u got %u of 2 messages", i,
               w->users[i]->got_count);
    scenario_end(w, failure, cap);
}

const struct scenario scenarios[] = {
    {"a dead peer is closed 5 s after its third unanswered ping, and counted", dead_peer},
    {"one that answers each third ping lives", third_pong_lives},
    {"no ping goes to one heard from within the interval", no_ping_to_the_heard},
    {"a shard that lags judges nobody dead", lag_judges_nobody},
    {"a drain closes everyone evenly over its time", drain_is_even},
    {"64 idle shards take little memory and no turns", idle_shards},
    {"64 parallel connects at a limit of 10 leave 10", per_address_is_exact},
    {"a full shard hands sockets to the one with room", full_shard_hands_over},
    {NULL, NULL},
};
