/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* pubsub/redis_subs.h in a whole server with a simulated Redis, whose ACL does not allow it all. */

#include "pubsub/redis_subs.h"

#include "pubsub/redis_publish.h"
#include "tests/server_fixture.h"
#include "tests/sim/sim_redis.h"

#define CLIENTS_MAX 8
/* Longer than any time between two attempts to connect. */
#define LONG_NS (12 * NS_PER_SEC)

struct world {
    struct rig rig;
    struct sim_redis redis;
    struct client clients[CLIENTS_MAX];
    int count;
};

static struct engine_redis *engine_of(struct world *w)
{
    return w->rig.server.shards[0].redis;
}

static uint64_t count_of(struct world *w, enum redis_stat i)
{
    return stats_get(&engine_of(w)->stats[i]);
}

static void run(struct world *w, uint64_t ns)
{
    struct shard *s = &w->rig.server.shards[0].shard;
    uint64_t end_ns = sim_net_now(w->rig.net) + ns;

    while (sim_net_now(w->rig.net) < end_ns) {
        uint64_t next_ns;

        cr_assert_eq(shard_turn(s, false), 0);
        next_ns = sim_redis_turn(&w->redis) ? 0 : s->next_turn_ns;
        (void)sim_net_idle(w->rig.net,
                           min_u64(end_ns, max_u64(next_ns, sim_net_now(w->rig.net) + NS_PER_US)));
    }
}

static void begin(struct world *w, const char *linger)
{
    char *argv[] = {
        "tidewire",     "--redis", "redis://127.0.0.1:6379", "--redis-linger", (char *)linger,
        "--drain-time", "0"};

    memset(w, 0, sizeof(*w));
    rig_init(&w->rig, ARRAY_LEN(argv), argv);
    cr_assert(sim_redis_init(&w->redis, w->rig.net, "127.0.0.1", 6379));
    w->redis.banned = "tidewire:x";
    run(w, NS_PER_SEC);
    cr_assert(redis_server_is_up(engine_of(w)->servers));
}

static void finish(struct world *w)
{
    for (int i = 0; i < w->count; i++)
        client_free(&w->clients[i]);
    sim_redis_deinit(&w->redis);
    rig_deinit(&w->rig);
}

/* Asks for a room; the 101 is not waited for. */
static struct client *ask(struct world *w, const char *room)
{
    struct client *c = &w->clients[w->count++];
    char text[256];

    snprintf(text, sizeof(text),
             "GET /rooms/%s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
             room);
    *c = client_connect(&w->rig, &w->rig.address);
    client_send_text(&w->rig, c, text);
    return c;
}

static bool is_in(struct client *c)
{
    client_recv(c);
    return c->in_len > 12 && memcmp(c->in, "HTTP/1.1 101", 12) == 0;
}

static void restart_redis(struct world *w)
{
    sim_redis_stop(&w->redis);
    run(w, 50 * NS_PER_MS);
    cr_assert(sim_redis_start(&w->redis));
    run(w, LONG_NS);
    cr_assert(redis_server_is_up(engine_of(w)->servers));
}

Test(redis_subs, rooms_are_let_in_beside_one_that_is_not_allowed)
{
    struct world w;

    begin(&w, "60s");
    for (int i = 0; i < 3; i++)
        ask(&w, (const char *[]){"a", "x", "b"}[i]);
    run(&w, 100 * NS_PER_MS);
    cr_assert(is_in(&w.clients[0]));
    cr_assert(is_in(&w.clients[2]));
    cr_assert_not(is_in(&w.clients[1]));
    run(&w, NS_PER_SEC); /* --redis-timeout */
    cr_assert(is_in(&w.clients[1]));
    cr_assert_eq(count_of(&w, REDIS_STAT_JOINED_ALONE), 1);
    finish(&w);
}

Test(redis_subs, a_room_that_is_not_allowed_shuts_no_others_out_after_a_restart)
{
    struct world w;

    begin(&w, "60s");
    ask(&w, "x");
    run(&w, 2 * NS_PER_SEC);
    w.redis.banned = NULL;
    ask(&w, "a");
    ask(&w, "b");
    run(&w, 2 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_CONFIRMED), 3);
    w.redis.banned = "tidewire:x";
    restart_redis(&w);
    cr_assert_eq(count_of(&w, REDIS_STAT_CONFIRMED), 2);
    cr_assert_eq(sim_redis_subscribers(&w.redis, "tidewire:a"), 1);
    cr_assert_eq(sim_redis_subscribers(&w.redis, "tidewire:b"), 1);
    w.redis.banned = NULL;
    run(&w, 2 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_CONFIRMED), 3);
    finish(&w);
}

Test(redis_subs, messages_do_not_ask_again_for_a_room_that_is_not_allowed)
{
    enum { MESSAGES = 50 };
    static const uint8_t frame[] = {0x82, 0x81, 0, 0, 0, 0, 'm'};
    struct world w;
    struct client *c;
    uint64_t errors;

    begin(&w, "60s");
    c = ask(&w, "x");
    run(&w, 2 * NS_PER_SEC);
    cr_assert(is_in(c));
    c->seen = c->in_len;
    errors = w.redis.stats.errors;
    for (int i = 0; i < MESSAGES; i++) {
        client_send(&w.rig, c, frame, sizeof(frame));
        run(&w, 10 * NS_PER_MS);
    }
    client_recv(c);
    cr_assert_eq(c->in_len - c->seen, 3 * MESSAGES, "they come all the same");
    cr_assert_leq(w.redis.stats.errors - errors, 1);
    cr_assert_eq(count_of(&w, REDIS_STAT_LOCAL_ONLY), MESSAGES);
    finish(&w);
}

/* Rooms with somebody in them, as far as the engine is concerned. */
static void use_many(struct world *w, uint32_t count)
{
    char name[16];

    for (uint32_t i = 0; i < count; i++) {
        struct redis_sub *sub;

        snprintf(name, sizeof(name), "x%u", i);
        sub = redis_sub_get(engine_of(w), name, (uint32_t)strlen(name));
        cr_assert_not_null(sub);
        sub->home_handle = UINT32_MAX;
        redis_sub_use(engine_of(w), sub);
    }
}

Test(redis_subs, many_rooms_that_are_not_allowed_take_turns)
{
    enum { ROOMS = 3 * REDIS_ALONE_MAX + 100, SECONDS = 8 };
    struct world w;
    uint64_t errors;

    begin(&w, "60s");
    use_many(&w, ROOMS);
    run(&w, 5 * NS_PER_SEC);
    errors = w.redis.stats.errors;
    run(&w, SECONDS * NS_PER_SEC);
    errors = w.redis.stats.errors - errors;
    cr_assert_leq(errors, (SECONDS + 1) * REDIS_ALONE_MAX);
    cr_assert_geq(errors, 2 * ROOMS, "each of them had two turns");
    w.redis.banned = "tidewire:x1";
    run(&w, 8 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_CONFIRMED), 889); /* those that do not begin with 1 */
    w.redis.banned = NULL;
    run(&w, 8 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_CONFIRMED), ROOMS);
    finish(&w);
}

Test(redis_subs, who_lingers_is_noted_once_while_a_room_is_refused)
{
    struct world w;

    begin(&w, "60s");
    ask(&w, "x");
    sim_client_close(ask(&w, "a")->sim);
    run(&w, 30 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_SUBSCRIPTIONS), 2);
    cr_assert_leq(due_queue_count(&engine_of(&w)->unused), 2);
    run(&w, 32 * NS_PER_SEC);
    cr_assert_eq(count_of(&w, REDIS_STAT_SUBSCRIPTIONS), 1);
    finish(&w);
}

/* That ends the connection, and all rooms are subscribed again. */
Test(redis_subs, an_unsubscribe_that_is_refused_is_not_answered_by_a_storm)
{
    enum { SECONDS = 30 };
    struct world w;
    uint64_t connects;

    begin(&w, "100ms");
    w.redis.keeps = true;
    connects = count_of(&w, REDIS_STAT_CONNECTS);
    for (int i = 0; i < SECONDS * 5; i++) {
        w.count = 0;
        sim_client_close(ask(&w, "a")->sim);
        run(&w, 200 * NS_PER_MS);
        client_free(&w.clients[0]);
    }
    w.count = 0;
    connects = count_of(&w, REDIS_STAT_CONNECTS) - connects;
    cr_assert_geq(connects, 3);
    cr_assert_leq(connects, 20, "%llu connections", (unsigned long long)connects);
    finish(&w);
}

Test(redis_subs, what_comes_for_a_room_that_has_gone_was_received)
{
    const struct redis_arg args[] = {{.head = "tidewire:f", .head_len = 10},
                                     {.head = "late", .head_len = 4}};
    struct world w;
    struct redis_sub *sub;

    begin(&w, "60s");
    sub = redis_sub_get(engine_of(&w), "f", 1);
    sub->home_handle = UINT32_MAX;
    redis_sub_use(engine_of(&w), sub);
    run(&w, 100 * NS_PER_MS);
    cr_assert_eq(sub->state, REDIS_SUB_CONFIRMED);
    redis_sub_free(engine_of(&w), sub);
    cr_assert_eq(redis_link_command(&engine_of(&w)->servers->publish, "PUBLISH", args, 2,
                                    REDIS_TAG(REDIS_TAG_CANARY, UINT32_MAX)),
                 0);
    run(&w, 100 * NS_PER_MS);
    cr_assert_eq(count_of(&w, REDIS_STAT_STALE), 1);
    cr_assert_eq(count_of(&w, REDIS_STAT_RECEIVED), 1);
    finish(&w);
}
