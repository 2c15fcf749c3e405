/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The link to a Redis server, on the simulated io against a simulated server. */

#include "tests/redis_fixture.h"

/* Connecting ----------------------------------------------------------------------------------- */

Test(redis_link, comes_up_and_names_itself)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    cr_assert_eq(r->ups, 1);
    cr_assert_eq(r->link.stats.connects, 1);
    cr_assert_eq(sim_redis_named(&r->redis, "tidewire"), 1);
    cr_assert_eq(r->redis.stats.commands, 2, "CLIENT and PING");
    link_rig_free(r);
}

Test(redis_link, authenticates_with_user_password_and_database)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    r->redis.user = "alice";
    r->redis.password = "secret";
    r->config.user = "alice";
    r->config.password = "secret";
    r->config.db = 3;
    r->config.wants_master = true;
    link_rig_link(r);
    link_rig_until(r, r->ups == 1);
    cr_assert_eq(r->redis.stats.commands, 5, "AUTH, SELECT, CLIENT, ROLE, PING");
    cr_assert_eq(r->redis.stats.errors, 0);
    link_rig_free(r);
}

Test(redis_link, tells_why_it_is_refused_and_comes_up_when_it_is_not_any_more)
{
    static const struct {
        const char *password;
        enum redis_error error;
        const char *text;
    } rows[] = {{"wrong", REDIS_ERROR_WRONGPASS,
                 "AUTH: WRONGPASS invalid username-password pair or user is disabled."},
                {NULL, REDIS_ERROR_NOAUTH, "PING: NOAUTH Authentication required."}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct link_rig *r = link_rig_new(i, NULL, REDIS_ROLE_COMMAND);
        r->redis.password = "right";
        r->config.password = rows[i].password;
        link_rig_link(r);
        link_rig_until(r, r->downs == 3);
        cr_assert_eq(r->why, REDIS_DOWN_REFUSED);
        cr_assert_eq(r->link.down_error, rows[i].error);
        cr_assert_str_eq(r->text, rows[i].text);
        cr_assert_eq(r->was_up, false);
        cr_assert_geq(r->link.stats.errors[rows[i].error], 3);
        cr_assert_eq(r->link.stats.downs[REDIS_DOWN_REFUSED], 3);
        r->redis.password = rows[i].password;
        link_rig_until(r, r->ups == 1);
        link_rig_free(r);
    }
}

Test(redis_link, does_not_tell_a_password_that_the_server_repeats)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    r->redis.auth_error = "ERR unknown command 'AUTH', with args beginning with: 'secret' ";
    r->config.password = "secret";
    link_rig_link(r);
    link_rig_until(r, r->downs == 1);
    cr_assert_eq(r->why, REDIS_DOWN_REFUSED);
    cr_assert_str_eq(r->text, "AUTH: err");
    link_rig_free(r);
}

Test(redis_link, waits_until_the_server_has_loaded)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    r->redis.loading = true;
    link_rig_link(r);
    link_rig_until(r, r->downs == 2);
    cr_assert_eq(r->link.down_error, REDIS_ERROR_LOADING);
    r->redis.loading = false;
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

Test(redis_link, takes_no_replica_for_a_master)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    r->redis.is_replica = true;
    r->config.wants_master = true;
    link_rig_link(r);
    link_rig_until(r, r->downs == 1);
    cr_assert_eq(r->why, REDIS_DOWN_NOT_MASTER);
    r->redis.is_replica = false;
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

Test(redis_link, connects_to_a_replica_when_that_is_all_the_same)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    r->redis.is_replica = true;
    link_rig_link(r);
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

Test(redis_link, gives_a_silent_server_up_in_time)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);
    uint64_t begun_ns = sim_net_now(r->net);

    sim_redis_silence(&r->redis, true);
    link_rig_link(r);
    link_rig_until(r, r->downs == 1);
    cr_assert_eq(r->why, REDIS_DOWN_TIMEOUT);
    cr_assert_str_eq(r->text, "handshake");
    cr_assert_eq(sim_net_now(r->net) - begun_ns, r->config.connect_timeout_ns);
    sim_redis_silence(&r->redis, false);
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

Test(redis_link, an_unresolvable_endpoint_fails_and_is_tried_again)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);
    struct redis_endpoint good = r->config.endpoint;

    strcpy(r->config.endpoint.host, "redis.example");
    link_rig_link(r);
    link_rig_until(r, r->downs == 2);
    cr_assert_eq(r->why, REDIS_DOWN_RESOLVE);
    redis_link_set_endpoint(&r->link, &good);
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

/* Waiting times -------------------------------------------------------------------------------- */

Test(redis_link, waits_longer_each_time_up_to_the_bound_and_never_gives_up)
{
    struct link_rig *r = link_rig_new(7, NULL, REDIS_ROLE_COMMAND);
    uint64_t bound_ns = r->config.backoff_min_ns, late_ns = 0, late_count = 0;

    sim_redis_stop(&r->redis);
    link_rig_link(r);
    for (uint32_t i = 1; i <= 200; i++) {
        uint64_t from_ns = sim_net_now(r->net), waited_ns;
        link_rig_until(r, r->downs == i);
        waited_ns = sim_net_now(r->net) - from_ns;
        cr_assert_eq(r->why, REDIS_DOWN_CONNECT);
        if (i == 1)
            cr_assert_eq(waited_ns, 0, "the first attempt is made at once");
        else
            cr_assert_leq(waited_ns, bound_ns, "%u", i);
        if (i > 1)
            bound_ns = min_u64(bound_ns * 2, r->config.backoff_max_ns);
        if (i > 20) {
            late_ns += waited_ns;
            late_count++;
        }
    }
    /* Full jitter: half of the bound on average. */
    cr_assert_gt(late_ns / late_count, r->config.backoff_max_ns * 4 / 10);
    cr_assert_lt(late_ns / late_count, r->config.backoff_max_ns * 6 / 10);
    cr_assert(sim_redis_start(&r->redis));
    link_rig_until(r, r->ups == 1);
    link_rig_free(r);
}

Test(redis_link, who_was_up_for_long_waits_the_shortest)
{
    struct link_rig *r = link_rig_new(3, NULL, REDIS_ROLE_COMMAND);

    sim_redis_stop(&r->redis);
    link_rig_link(r);
    link_rig_until(r, r->downs == 12);
    cr_assert(sim_redis_start(&r->redis));
    link_rig_until(r, r->ups == 1);
    link_rig_for(r, r->config.backoff_max_ns);
    for (uint32_t i = 2; i < 30; i++) {
        uint64_t from_ns = sim_net_now(r->net);
        sim_redis_kill_clients(&r->redis);
        link_rig_until(r, r->ups == i);
        cr_assert_leq(sim_net_now(r->net) - from_ns, r->config.backoff_min_ns);
        link_rig_for(r, r->config.backoff_max_ns);
    }
    link_rig_free(r);
}

/* Who comes up for moments only, to be thrown out again, must not knock every 100 ms. */
Test(redis_link, who_was_up_for_moments_waits_longer_each_time)
{
    struct link_rig *r = link_rig_up(5, REDIS_ROLE_COMMAND);
    uint64_t from_ns = sim_net_now(r->net);

    for (uint32_t i = 2; i < 22; i++) {
        sim_redis_kill_clients(&r->redis);
        link_rig_until(r, r->ups == i);
    }
    cr_assert_gt(sim_net_now(r->net) - from_ns, 3 * r->config.backoff_max_ns);
    link_rig_free(r);
}

/* Commands ------------------------------------------------------------------------------------- */

Test(redis_link, answers_come_in_the_order_of_the_commands)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    for (uint64_t tag = 0; tag < 1000; tag++)
        cr_assert_eq(publish(r, "room", "hello", tag), 0);
    cr_assert_eq(r->link.unanswered, 1000);
    cr_assert_eq(r->link.unanswered_bytes,
                 1000 * strlen("*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$5\r\nhello\r\n"));
    link_rig_until(r, r->replies_count == 1000);
    for (uint64_t tag = 0; tag < 1000; tag++) {
        cr_assert_eq(r->replies[tag].tag, tag);
        cr_assert_eq(r->replies[tag].type, REDIS_TYPE_INTEGER);
    }
    cr_assert_eq(r->link.unanswered, 0);
    cr_assert_eq(r->link.unanswered_bytes, 0);
    cr_assert_eq(r->redis.stats.published, 1000);
    cr_assert_eq(r->link.stats.commands, 1000);
    cr_assert_eq(r->link.stats.replies, 1000);
    link_rig_free(r);
}

Test(redis_link, commands_leave_together_at_the_end_of_the_turn)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);
    uint64_t sends = r->io->stats.sends;

    for (uint64_t tag = 0; tag < 100; tag++)
        cr_assert_eq(publish(r, "room", "hello", tag), 0);
    cr_assert_eq(r->io->stats.sends, sends);
    redis_link_flush(&r->link);
    cr_assert_eq(r->io->stats.sends, sends + 1);
    link_rig_until(r, r->replies_count == 100);
    link_rig_free(r);
}

Test(redis_link, error_replies_are_answers_like_others_and_counted_by_kind)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    r->redis.allowed = "tw:";
    cr_assert_eq(publish(r, "tw:room", "a", 1), 0);
    cr_assert_eq(publish(r, "other", "b", 2), 0);
    cr_assert_eq(publish(r, "tw:room", "c", 3), 0);
    link_rig_until(r, r->replies_count == 3);
    cr_assert_eq(r->replies[0].type, REDIS_TYPE_INTEGER);
    cr_assert_eq(r->replies[1].type, REDIS_TYPE_ERROR);
    cr_assert_eq(redis_error_of(r->replies[1].text, strlen(r->replies[1].text)),
                 REDIS_ERROR_NOPERM);
    cr_assert_eq(r->replies[2].type, REDIS_TYPE_INTEGER);
    cr_assert_eq(r->link.stats.errors[REDIS_ERROR_NOPERM], 1);
    r->redis.faults.error = 1000000;
    cr_assert_eq(publish(r, "tw:room", "d", 4), 0);
    link_rig_until(r, r->replies_count == 4);
    cr_assert_eq(r->link.stats.errors[REDIS_ERROR_OOM], 1);
    cr_assert(redis_link_is_up(&r->link));
    link_rig_free(r);
}

Test(redis_link, what_would_pass_the_bound_of_the_queue_is_not_taken)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);
    uint32_t taken = 0;

    r->config.queue_bytes_max = 100000;
    link_rig_link(r);
    link_rig_until(r, r->ups == 1);
    sim_redis_silence(&r->redis, true);
    while (publish(r, "room", "hello", taken) == 0)
        taken++;
    cr_assert_eq(publish(r, "room", "hello", 0), -ENOBUFS);
    cr_assert_leq(r->link.unanswered_bytes, r->config.queue_bytes_max);
    cr_assert_gt(r->link.unanswered_bytes, r->config.queue_bytes_max - 100);
    cr_assert_eq(r->link.stats.refused, 2);
    sim_redis_silence(&r->redis, false);
    link_rig_until(r, r->link.unanswered < taken);
    cr_assert_eq(publish(r, "room", "hello", taken), 0);
    link_rig_until(r, r->link.unanswered == 0);
    link_rig_free(r);
}

Test(redis_link, takes_commands_only_while_it_is_up)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    link_rig_link(r);
    cr_assert_eq(publish(r, "room", "hello", 1), -ENOTCONN);
    link_rig_until(r, r->ups == 1);
    redis_link_reopen(&r->link, "test");
    cr_assert_eq(publish(r, "room", "hello", 1), -ENOTCONN);
    link_rig_until(r, r->ups == 2);
    cr_assert_eq(publish(r, "room", "hello", 1), 0);
    link_rig_free(r);
}

static void check_body(void *ctx, const char *channel, size_t channel_len, const char *payload,
                       size_t payload_len)
{
    uint32_t *seen = ctx;
    uint32_t len = (uint32_t)payload_len - 8;

    cr_assert_eq(channel_len, 7);
    cr_assert_eq(memcmp(channel, "tw:room", 7), 0);
    cr_assert_eq(memcmp(payload, "headtail", 8), 0);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq((uint8_t)payload[8 + i], (uint8_t)(len + i * 7), "%u of %u", i, len);
    (*seen)++;
}

/* Payloads below and above what is copied, in every order, over a network that takes parts. */
Test(redis_link, large_payloads_are_referenced_until_they_are_sent_and_arrive_unchanged)
{
    static const uint32_t lens[] = {0, 1, 1023, 1024, 1025, 4000, 16000, 17000, 70000, 200000};

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_faults faults;
        uint32_t seen = 0, sent = 0, copied = 0;
        sim_faults_draw(&faults, seed, false);
        faults.buffer_min_bytes = 8192; /* a megabyte through a smaller one takes minutes */
        faults.buffer_max_bytes = 65536;
        struct link_rig *r = link_rig_new(seed, &faults, REDIS_ROLE_COMMAND);
        r->redis.on_publish = check_body;
        r->redis.ctx = &seen;
        r->config.connect_timeout_ns = 30 * NS_PER_SEC;
        link_rig_link(r);
        link_rig_until(r, r->ups == 1);
        for (uint32_t i = 0; i < 12; i++) {
            uint32_t len = lens[sim_net_below(r->net, ARRAY_LEN(lens))];
            struct message *m = message_of(r, len);
            struct redis_arg args[] = {
                {.head = "tw:", .head_len = 3, .tail = "room", .tail_len = 4},
                {.head = "head", .head_len = 4, .tail = "tail", .tail_len = 4, .body = m}};
            int err = redis_link_command(&r->link, "PUBLISH", args, 2, sent);
            if (err == 0) {
                sent++;
                copied += len <= REDIS_OUT_COPY_MAX;
                if (sim_net_below(r->net, 3) == 0)
                    link_rig_step(r, IO_FOREVER);
            } else {
                cr_assert_eq(err, -ENOBUFS);
                message_free(&r->messages, m);
            }
            cr_assert_geq(r->released, copied, "what is copied is given back at once");
        }
        link_rig_until(r, seen == sent && r->replies_count == sent && r->released == sent);
        link_rig_free(r);
    }
}

/* Subscribing ---------------------------------------------------------------------------------- */

static int subscribe(struct link_rig *r, enum redis_push_kind kind, uint32_t from, uint32_t to,
                     uint64_t tag)
{
    struct redis_arg args[100];
    char names[100][16];

    for (uint32_t i = from; i < to; i++) {
        snprintf(names[i - from], sizeof(names[0]), "room%u", i);
        args[i - from] = arg_of(names[i - from]);
    }
    return redis_link_subscribe(&r->link, kind, args, to - from, tag);
}

Test(redis_link, a_batch_is_answered_when_its_last_channel_is)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_SUBSCRIBER);

    cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 10, 7), 0);
    cr_assert_eq(subscribe(r, REDIS_PUSH_SSUBSCRIBE, 10, 12, 8), 0);
    cr_assert_eq(subscribe(r, REDIS_PUSH_UNSUBSCRIBE, 3, 4, 9), 0);
    link_rig_until(r, r->replies_count == 3);
    cr_assert_eq(r->pushes_count, 13);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(r->replies[i].tag, 7 + i);
        cr_assert_eq(r->replies[i].type, REDIS_TYPE_ARRAY);
    }
    cr_assert_eq(r->pushes[0].kind, REDIS_PUSH_SUBSCRIBE);
    cr_assert_str_eq(r->pushes[9].channel, "room9");
    cr_assert_eq(r->pushes[10].kind, REDIS_PUSH_SSUBSCRIBE);
    cr_assert_eq(r->pushes[12].kind, REDIS_PUSH_UNSUBSCRIBE);
    cr_assert_eq(sim_redis_subscribers(&r->redis, "room2"), 1);
    cr_assert_eq(sim_redis_subscribers(&r->redis, "room3"), 0);
    cr_assert_eq(sim_redis_subscribers(&r->redis, "room11"), 1);
    link_rig_free(r);
}

Test(redis_link, an_error_answers_the_whole_batch)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_SUBSCRIBER);

    r->redis.allowed = "room1";
    cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 10, 1), 0);
    cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 10, 20, 2), 0);
    link_rig_until(r, r->replies_count == 2);
    cr_assert_eq(r->replies[0].type, REDIS_TYPE_ERROR);
    cr_assert_eq(r->replies[1].type, REDIS_TYPE_ARRAY);
    cr_assert_eq(r->pushes_count, 10);
    cr_assert_eq(r->link.stats.errors[REDIS_ERROR_NOPERM], 1);
    link_rig_free(r);
}

/* Pushes for its channels come unasked as well: they are not its answer. */
Test(redis_link, a_sunsubscribe_of_a_slot_that_has_gone_has_one_answer)
{
    static const char *const rooms[] = {"{a}1", "{a}2", "{b}1"};
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_SUBSCRIBER);
    struct redis_arg args[] = {arg_of(rooms[0]), arg_of(rooms[1]), arg_of(rooms[2])};
    struct sim_cluster *cluster = calloc(1, sizeof(*cluster));

    cr_assert_not_null(cluster);
    sim_cluster_init(cluster, &r->redis, 1);
    cr_assert_eq(redis_link_subscribe(&r->link, REDIS_PUSH_SSUBSCRIBE, args, 2, 1), 0);
    link_rig_until(r, r->replies_count == 1);
    cr_assert_eq(r->pushes_count, 2);

    sim_cluster_move(cluster, sim_cluster_slot(rooms[0], 4), SIM_CLUSTER_NODES_MAX);
    cr_assert_eq(redis_link_subscribe(&r->link, REDIS_PUSH_SUNSUBSCRIBE, args, 2, 2), 0);
    cr_assert_eq(redis_link_subscribe(&r->link, REDIS_PUSH_SSUBSCRIBE, &args[2], 1, 3), 0);
    cr_assert_eq(redis_link_subscribe(&r->link, REDIS_PUSH_SUNSUBSCRIBE, &args[2], 1, 4), 0);
    cr_assert_eq(redis_link_subscribe(&r->link, REDIS_PUSH_SSUBSCRIBE, &args[2], 1, 5), 0);
    link_rig_until(r, r->replies_count == 5);
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(r->replies[i].tag, i + 1);
    cr_assert_eq(r->replies[1].type, REDIS_TYPE_ERROR);
    cr_assert_eq(r->replies[2].type, REDIS_TYPE_ARRAY);
    cr_assert_neq(r->replies[3].type, REDIS_TYPE_ERROR);
    cr_assert_eq(r->replies[4].type, REDIS_TYPE_ARRAY);
    cr_assert_eq(r->pushes_count, 2 + 2 + 3, "two came unasked");
    cr_assert_eq(r->pushes[2].kind, REDIS_PUSH_SUNSUBSCRIBE);
    cr_assert_eq(r->pushes[3].kind, REDIS_PUSH_SUNSUBSCRIBE);
    cr_assert_eq(r->link.unanswered, 0);
    cr_assert_eq(r->link.unanswered_bytes, 0);
    cr_assert_eq(r->downs, 0);
    link_rig_free(r);
    free(cluster);
}

Test(redis_link, a_subscriber_may_ping)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_SUBSCRIBER);
    struct redis_arg arg = arg_of("x");

    cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 1, 1), 0);
    cr_assert_eq(redis_link_command(&r->link, "PING", &arg, 1, 2), 0);
    link_rig_until(r, r->replies_count == 2);
    cr_assert_eq(r->replies[1].tag, 2);
    cr_assert_eq(r->pushes_count, 1);
    link_rig_free(r);
}

/* A second link publishes. */
struct pair {
    struct link_rig *subscriber;
    struct redis_link publisher;
};

static const struct redis_link_events silent_events = {.on_release = told_release};

static void pair_init(struct pair *p, struct link_rig *r)
{
    struct redis_link_config config = r->config;

    p->subscriber = r;
    config.role = REDIS_ROLE_COMMAND;
    redis_link_init(&p->publisher, r->io, &config, &silent_events, r);
    redis_link_start(&p->publisher);
}

static void pair_turn(struct pair *p)
{
    redis_link_turn(&p->publisher, p->subscriber->io->now_ns);
    redis_link_flush(&p->publisher);
    link_rig_step(p->subscriber, sim_net_now(p->subscriber->net) + NS_PER_MS);
}

static void pair_free(struct pair *p)
{
    redis_link_stop(&p->publisher);
    while (!redis_link_is_idle(&p->publisher))
        pair_turn(p);
    redis_link_deinit(&p->publisher);
    link_rig_free(p->subscriber);
}

Test(redis_link, messages_come_in_order_whole_and_with_their_channel)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_faults faults;
        struct pair p;
        sim_faults_draw(&faults, seed, false);
        struct link_rig *r = link_rig_new(seed, &faults, REDIS_ROLE_SUBSCRIBER);
        r->config.connect_timeout_ns = 30 * NS_PER_SEC;
        link_rig_link(r);
        pair_init(&p, r);
        while (r->ups == 0 || !redis_link_is_up(&p.publisher))
            pair_turn(&p);
        cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 2, 1), 0);
        cr_assert_eq(subscribe(r, REDIS_PUSH_SSUBSCRIBE, 2, 3, 2), 0);
        while (r->replies_count < 2)
            pair_turn(&p);
        for (uint32_t i = 0; i < 30; i++) {
            char name[16], head[16];
            struct message *m = message_of(r, i * 97);
            snprintf(name, sizeof(name), "room%u", i % 3);
            snprintf(head, sizeof(head), "%04u", i);
            struct redis_arg args[] = {arg_of(name), arg_of(head)};
            args[1].body = m;
            cr_assert_eq(
                redis_link_command(&p.publisher, i % 3 == 2 ? "SPUBLISH" : "PUBLISH", args, 2, i),
                0);
        }
        while (r->pushes_count < 33)
            pair_turn(&p);
        for (uint32_t i = 0; i < 30; i++) {
            const struct told_push *t = &r->pushes[3 + i];
            char expected[16];
            snprintf(expected, sizeof(expected), "room%u", i % 3);
            cr_assert_eq(t->kind, REDIS_PUSH_MESSAGE);
            cr_assert_eq(t->sharded, i % 3 == 2);
            cr_assert_str_eq(t->channel, expected);
            cr_assert_eq(t->payload_len, 4 + i * 97);
            cr_assert_eq(
                atoi((char[]){t->payload[0], t->payload[1], t->payload[2], t->payload[3], '\0'}),
                (int)i);
        }
        pair_free(&p);
    }
}

/* Ends ----------------------------------------------------------------------------------------- */

Test(redis_link, what_was_unanswered_is_told_as_lost_in_order_before_the_end)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    sim_redis_silence(&r->redis, true);
    for (uint64_t tag = 0; tag < 3; tag++)
        cr_assert_eq(publish(r, "room", "sent", tag), 0);
    redis_link_flush(&r->link);
    for (uint64_t tag = 3; tag < 5; tag++)
        cr_assert_eq(publish(r, "room", "unsent", tag), 0);
    redis_link_reopen(&r->link, "the canary has not come back");
    cr_assert_eq(r->replies_count, 5);
    for (uint64_t tag = 0; tag < 5; tag++) {
        cr_assert_eq(r->replies[tag].tag, tag);
        cr_assert(r->replies[tag].lost);
        cr_assert_eq(r->replies[tag].was_sent, tag < 3, "%lu", tag);
    }
    cr_assert_eq(r->downs, 1);
    cr_assert_eq(r->why, REDIS_DOWN_REOPENED);
    cr_assert(r->was_up);
    cr_assert_str_eq(r->text, "the canary has not come back");
    cr_assert_eq(r->link.stats.lost, 5);
    sim_redis_silence(&r->redis, false);
    link_rig_until(r, r->ups == 2);
    link_rig_free(r);
}

Test(redis_link, reopening_connects_at_once)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);
    uint64_t from_ns = sim_net_now(r->net);

    redis_link_reopen(&r->link, "test");
    link_rig_until(r, r->ups == 2);
    cr_assert_eq(sim_net_now(r->net), from_ns);
    link_rig_free(r);
}

Test(redis_link, reopening_ends_the_waiting)
{
    struct link_rig *r = link_rig_new(11, NULL, REDIS_ROLE_COMMAND);

    sim_redis_stop(&r->redis);
    link_rig_link(r);
    link_rig_until(r, r->downs == 15);
    cr_assert(sim_redis_start(&r->redis));
    uint64_t from_ns = sim_net_now(r->net);
    while (r->link.state != REDIS_LINK_WAITING)
        link_rig_step(r, from_ns);
    redis_link_reopen(&r->link, "test");
    link_rig_until(r, r->ups == 1);
    cr_assert_eq(sim_net_now(r->net), from_ns);
    link_rig_free(r);
}

Test(redis_link, reopening_spares_one_waiting_only)
{
    struct link_rig *r = link_rig_new(11, NULL, REDIS_ROLE_COMMAND);

    sim_redis_stop(&r->redis);
    link_rig_link(r);
    link_rig_until(r, r->downs == 15 && r->link.state == REDIS_LINK_WAITING);
    for (uint32_t downs = 16; downs < 26; downs++) {
        redis_link_reopen(&r->link, "test");
        link_rig_until(r, r->downs == downs && r->link.state == REDIS_LINK_WAITING);
        cr_assert_gt(r->link.deadline_ns, sim_net_now(r->net), "%u", downs);
    }
    link_rig_free(r);
}

Test(redis_link, the_ends_that_the_server_makes_are_told_apart)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    sim_redis_kill_clients(&r->redis);
    link_rig_until(r, r->downs == 1);
    cr_assert_eq(r->why, REDIS_DOWN_RESET);
    cr_assert(r->was_up);
    link_rig_until(r, r->ups == 2);
    sim_redis_stop(&r->redis);
    link_rig_until(r, r->link.stats.downs[REDIS_DOWN_CONNECT] == 1);
    cr_assert_eq(r->was_up, false);
    cr_assert(sim_redis_start(&r->redis));
    link_rig_until(r, r->ups == 3);
    link_rig_free(r);
}

static void reopen_within(struct link_rig *r)
{
    redis_link_reopen(&r->link, "within a callback");
}

static void stop_within(struct link_rig *r)
{
    redis_link_stop(&r->link);
}

Test(redis_link, may_be_ended_from_within_its_callbacks)
{
    void (*const ends[])(struct link_rig *) = {reopen_within, stop_within};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct link_rig *r = link_rig_up(1, REDIS_ROLE_SUBSCRIBER);
        r->in_push = ends[i];
        cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 10, 1), 0);
        link_rig_until(r, r->downs == 1);
        cr_assert_eq(r->pushes_count, 1, "nothing is told behind the end");
        cr_assert_eq(r->replies_count, 1);
        cr_assert(r->replies[0].lost);
        if (i == 1)
            redis_link_start(&r->link);
        link_rig_until(r, r->ups == 2);
        r->in_reply = ends[i];
        cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 0, 10, 2), 0);
        cr_assert_eq(subscribe(r, REDIS_PUSH_SUBSCRIBE, 10, 20, 3), 0);
        link_rig_until(r, r->downs == 2);
        cr_assert_eq(r->replies_count, 3);
        cr_assert(r->replies[2].lost);
        cr_assert_eq(r->replies[2].tag, 3);
        link_rig_free(r);
    }
}

Test(redis_link, stopping_is_final_and_starting_undoes_it)
{
    struct link_rig *r = link_rig_up(1, REDIS_ROLE_COMMAND);

    redis_link_stop(&r->link);
    cr_assert_eq(r->why, REDIS_DOWN_STOPPED);
    link_rig_until(r, redis_link_is_idle(&r->link));
    redis_link_reopen(&r->link, "idle links stay idle");
    cr_assert_eq(redis_link_turn(&r->link, r->io->now_ns), IO_FOREVER);
    cr_assert(redis_link_is_idle(&r->link));
    redis_link_start(&r->link);
    link_rig_until(r, r->ups == 2);
    link_rig_free(r);
}

Test(redis_link, one_that_was_only_started_may_be_thrown_away)
{
    struct link_rig *r = link_rig_new(1, NULL, REDIS_ROLE_COMMAND);

    link_rig_link(r);
    redis_link_deinit(&r->link);
    link_rig_link(r);
    link_rig_free(r);
}

/* Answers that are no RESP2 -------------------------------------------------------------------- */

/* A listener of our own that answers whatever it is told to. */
struct liar {
    struct io *io;
    struct io_listener listener;
    struct io_conn conn;
    const char *answer;
    bool is_open;
};

static void liar_recv(struct io_conn *c, struct bytes in)
{
    struct liar *l = container_of(c, struct liar, conn);
    struct iovec iov = {(void *)l->answer, strlen(l->answer)};

    (void)in;
    if (l->answer[0] != '\0')
        (void)!io_send(l->io, c, &iov, 1, iov.iov_len);
    l->answer = "";
}

static void liar_eof(struct io_conn *c, int err)
{
    (void)err;
    io_close(container_of(c, struct liar, conn)->io, c, false);
}

static void liar_sent(struct io_conn *c, int err)
{
    (void)c;
    (void)err;
}

static void liar_closed(struct io_conn *c)
{
    container_of(c, struct liar, conn)->is_open = false;
}

static const struct io_events liar_events = {
    .on_recv = liar_recv, .on_eof = liar_eof, .on_sent = liar_sent, .on_closed = liar_closed};

static struct io_conn *liar_accept(struct io_listener *listener, const struct io_addr *peer)
{
    struct liar *l = container_of(listener, struct liar, listener);

    (void)peer;
    if (l->is_open)
        return NULL;
    l->is_open = true;
    l->conn.events = &liar_events;
    return &l->conn;
}

static const struct io_listener_events liar_listener_events = {.on_accept = liar_accept};

Test(redis_link, answers_that_make_no_sense_end_the_connection)
{
    static const struct {
        const char *answer;
        enum redis_down why;
    } rows[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", REDIS_DOWN_PROTOCOL},
        {"+OK\r\n+PONG\r\n+OK\r\n", REDIS_DOWN_PROTOCOL},
        {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", REDIS_DOWN_PROTOCOL},
        {"*2000000000\r\n", REDIS_DOWN_TOO_LARGE},
        {"-ERR max number of clients reached\r\n", REDIS_DOWN_TIMEOUT},
        {"+OK\r\n-ERR max number of clients reached\r\n", REDIS_DOWN_REFUSED}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct link_rig *r = link_rig_new(i, NULL, REDIS_ROLE_COMMAND);
        struct liar l = {.answer = rows[i].answer};
        struct io_config cfg = {.conns_max = 10};
        sim_redis_stop(&r->redis);
        cr_assert_eq(io_sim_new(r->net, &cfg, &l.io), 0);
        cr_assert_eq(io_start(l.io), 0);
        l.listener.events = &liar_listener_events;
        cr_assert_eq(io_listen(l.io, &l.listener, sim_net_listen(r->net, &r->redis.address, 16)),
                     0);
        link_rig_link(r);
        while (r->downs == 0) {
            cr_assert_geq(io_poll(l.io, 0), 0);
            link_rig_step(r, sim_net_now(r->net) + NS_PER_MS);
        }
        cr_assert_eq(r->why, rows[i].why, "%zu: %s, %s", i, redis_down_label(r->why), r->text);
        io_unlisten(l.io, &l.listener);
        redis_link_stop(&r->link);
        while (l.is_open) {
            cr_assert_geq(io_poll(l.io, 0), 0);
            link_rig_step(r, sim_net_now(r->net) + NS_PER_MS);
        }
        io_free(l.io);
        link_rig_free(r);
    }
}

/* Storms --------------------------------------------------------------------------------------- */

/* Everything is answered or lost exactly once, in order, whatever the network and the server do. */
Test(redis_link, every_command_is_answered_or_lost_exactly_once)
{
    for (uint64_t seed = 0; seed < 150; seed++) {
        struct sim_faults faults;
        uint64_t tag = 0;
        sim_faults_draw(&faults, seed, true);
        faults.accept_error = faults.adopt_error = 0;
        struct link_rig *r = link_rig_new(seed, &faults, REDIS_ROLE_COMMAND);
        r->redis.faults = (struct sim_redis_faults){.error = 50000, .cut = 2000, .reset = 2000};
        link_rig_link(r);
        for (uint32_t i = 0; i < 1500 && tag < TOLD_MAX / 2; i++) {
            uint64_t dice = sim_net_below(r->net, 1000);
            if (dice < 400 && publish(r, "room", "hello", tag) == 0)
                tag++;
            else if (dice == 500)
                redis_link_reopen(&r->link, "storm");
            else if (dice == 501)
                sim_redis_kill_clients(&r->redis);
            else if (dice == 502)
                sim_redis_silence(&r->redis, !r->redis.is_silent);
            else if (dice == 503 && r->redis.is_listening)
                sim_redis_stop(&r->redis);
            if (!r->redis.is_listening && dice > 900)
                cr_assert(sim_redis_start(&r->redis));
            link_rig_step(r, sim_net_now(r->net) + 50 * NS_PER_MS);
        }
        sim_redis_silence(&r->redis, false);
        if (!r->redis.is_listening)
            cr_assert(sim_redis_start(&r->redis));
        sim_net_set_faults(r->net, NULL);
        r->redis.faults = (struct sim_redis_faults){0};
        link_rig_until(r, redis_link_is_up(&r->link) && r->link.unanswered == 0);
        cr_assert_eq(r->replies_count, tag);
        for (uint64_t i = 0; i < tag; i++)
            cr_assert_eq(r->replies[i].tag, i);
        cr_assert_eq(r->link.stats.replies + r->link.stats.lost, tag);
        link_rig_free(r);
    }
}
