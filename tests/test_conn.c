/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The life of connections in a whole server on the simulated io, where time is the test's. */

#include "net/conn.h"

#include "tests/server_fixture.h"

static const uint8_t ping_frame[] = {0x89, 0x00};
static const uint8_t pong_frame[] = {0x8a, 0x80, 0, 0, 0, 0};

/* Whether the server has pinged since it was last asked. */
static bool was_pinged(struct client *c)
{
    bool is_ping;

    client_recv(c);
    is_ping = c->in_len - c->seen == 2 && memcmp(c->in + c->seen, ping_frame, 2) == 0;
    c->seen = c->in_len;
    return is_ping;
}

static uint64_t ended_by(struct rig *r, enum conn_end why)
{
    return stat_of(r, NET_STAT_ENDS + why);
}

static void rig_with_pings(struct rig *r)
{
    static char *argv[] = {"tidewire",       "--echo", "--ping-interval", "30s",
                           "--pong-timeout", "5s",     "--pong-misses",   "3"};

    rig_init(r, ARRAY_LEN(argv), argv);
}

static void wait_for_ping(struct rig *r, struct client *c)
{
    for (int i = 0; i < 400; i++) {
        if (was_pinged(c))
            return;
        pass(r, 100 * NS_PER_MS);
    }
    cr_assert_fail("no ping came");
}

Test(conn, one_that_answers_every_ping_too_late_lives)
{
    struct rig r;
    struct client c;

    rig_with_pings(&r);
    c = client_open(&r, "/echo");
    for (int i = 0; i < 8; i++) {
        wait_for_ping(&r, &c);
        pass(&r, 7 * NS_PER_SEC);
        client_send(&r, &c, pong_frame, sizeof(pong_frame));
    }
    cr_assert_not(client_was_ended(&c));
    cr_assert_eq(stat_of(&r, NET_STAT_PONG_MISSES), 8);
    client_free(&c);
    rig_deinit(&r);
}

Test(conn, one_that_missed_a_pong_but_was_heard_from_since_is_not_pinged)
{
    struct rig r;
    struct client c;

    rig_with_pings(&r);
    c = client_open(&r, "/echo");
    wait_for_ping(&r, &c);
    pass(&r, 6 * NS_PER_SEC);
    for (int i = 0; i < 10; i++) {
        client_send(&r, &c, pong_frame, sizeof(pong_frame));
        pass(&r, 10 * NS_PER_SEC);
        cr_assert_not(was_pinged(&c));
    }
    client_free(&c);
    rig_deinit(&r);
}

Test(conn, a_silent_one_is_closed_after_its_last_chance)
{
    struct rig r;
    struct client c;

    rig_with_pings(&r);
    c = client_open(&r, "/echo");
    for (int i = 0; i < 3; i++)
        wait_for_ping(&r, &c);
    pass(&r, 4900 * NS_PER_MS);
    cr_assert_not(client_was_ended(&c));
    pass(&r, 200 * NS_PER_MS);
    cr_assert(client_was_ended(&c));
    cr_assert_eq(ended_by(&r, CONN_END_NO_PONG), 1);
    client_free(&c);
    rig_deinit(&r);
}

/* Its pong waits in the socket, where we leave it. */
Test(conn, one_that_is_held_behind_its_ping_is_not_judged)
{
    struct rig r;
    struct client c;
    struct conn *held;
    uint32_t i = 0;

    rig_with_pings(&r);
    c = client_open(&r, "/echo");
    held = pool_next(&net_of(&r)->conns, &i);
    wait_for_ping(&r, &c);
    conn_hold(held, CONN_HOLD_CREDIT);
    client_send(&r, &c, pong_frame, sizeof(pong_frame));
    pass(&r, 200 * NS_PER_SEC);
    cr_assert_eq(stat_of(&r, NET_STAT_PONG_MISSES), 0);
    conn_unhold(held, CONN_HOLD_CREDIT);
    pass(&r, 4 * NS_PER_SEC);
    cr_assert_not(client_was_ended(&c));
    cr_assert_eq(stat_of(&r, NET_STAT_PONG_MISSES), 0);
    client_free(&c);
    rig_deinit(&r);
}

#define SPREAD_CLIENTS 40

/* All at once would make each interval a burst. The sweep visits everybody within 1/16 of the
 * interval; the jitter adds up to as much. */
Test(conn, those_who_fell_silent_together_are_not_pinged_together)
{
    static char *argv[] = {"tidewire", "--echo", "--ping-interval", "32s", "--pong-timeout", "60s"};
    struct client c[SPREAD_CLIENTS];
    uint64_t start_ns, first_ns = 0, last_ns = 0;
    int pinged = 0;
    struct rig r;

    rig_init(&r, ARRAY_LEN(argv), argv);
    for (int i = 0; i < SPREAD_CLIENTS; i++)
        c[i] = client_open(&r, "/echo");
    for (int i = 0; i < SPREAD_CLIENTS; i++)
        client_send(&r, &c[i], pong_frame, sizeof(pong_frame));
    turns(&r, 3);
    start_ns = sim_net_now(r.net);
    while (pinged < SPREAD_CLIENTS && last_ns < 40 * NS_PER_SEC) {
        pass(&r, 20 * NS_PER_MS);
        last_ns = sim_net_now(r.net) - start_ns;
        for (int i = 0; i < SPREAD_CLIENTS; i++)
            pinged += was_pinged(&c[i]);
        if (pinged > 0 && first_ns == 0)
            first_ns = last_ns;
    }
    cr_assert_eq(pinged, SPREAD_CLIENTS);
    cr_assert_geq(first_ns, 32 * NS_PER_SEC - 2 * NS_PER_MS);
    cr_assert_gt(last_ns, 34500 * NS_PER_MS, "no later than the sweep alone makes them");
    cr_assert_leq(last_ns, 36500 * NS_PER_MS);
    cr_assert_eq(stat_of(&r, NET_STAT_PINGS_OUT), SPREAD_CLIENTS);
    for (int i = 0; i < SPREAD_CLIENTS; i++)
        client_free(&c[i]);
    rig_deinit(&r);
}

Test(conn, a_refusal_of_head_has_no_body)
{
    static char *argv[] = {"tidewire"};
    struct rig r;
    struct client c;

    rig_init(&r, 1, argv);
    c = client_connect(&r, &r.address);
    client_send_text(&r, &c, "HEAD /rooms/a HTTP/1.1\r\nHost: a\r\n\r\n");
    turns(&r, 20);
    client_recv(&c);
    cr_assert_eq(memcmp(c.in, "HTTP/1.1 426", 12), 0);
    cr_assert_eq(memcmp(c.in + c.in_len - 4, "\r\n\r\n", 4), 0);
    client_free(&c);
    rig_deinit(&r);
}

Test(conn, the_admin_address_answers_during_a_drain)
{
    static char *argv[] = {"tidewire"};
    struct rig r;
    struct client c;

    rig_init(&r, 1, argv);
    c = client_connect(&r, &r.admin_address);
    server_set_phase(&r.server, NODE_DRAINING);
    turns(&r, 10);
    client_send_text(&r, &c, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    turns(&r, 50);
    client_recv(&c);
    cr_assert_eq(memcmp(c.in, "HTTP/1.1 200", 12), 0);
    client_free(&c);
    rig_deinit(&r);
}

/* Its end of file came while it was held. Nobody is left who could answer the close frame. */
Test(conn, a_drain_does_not_wait_for_one_that_has_ended_its_side)
{
    static char *argv[] = {"tidewire", "--echo", "--drain-time", "0", "--close-timeout", "5s"};
    uint32_t cursor = 0;
    struct conn *held;
    struct rig r;
    struct client c;

    rig_init(&r, ARRAY_LEN(argv), argv);
    c = client_open(&r, "/echo");
    held = pool_next(&net_of(&r)->conns, &cursor);
    conn_hold(held, CONN_HOLD_CREDIT);
    held->io.events->on_eof(&held->io, 0); /* a backend may tell it in spite of the pause */
    pass(&r, 100 * NS_PER_MS);
    cr_assert_eq(net_of(&r)->conns.used, 1);
    server_set_phase(&r.server, NODE_DRAINING);
    pass(&r, 100 * NS_PER_MS);
    cr_assert_eq(net_of(&r)->conns.used, 0);
    client_free(&c);
    rig_deinit(&r);
}

/* Messages for the room are pending when the sessions end. */
Test(conn, a_stop_amid_traffic_is_clean)
{
    static const uint8_t frame[] = {0x82, 0x81, 0, 0, 0, 0, 'x'};
    static char *argv[] = {"tidewire"};
    struct rig r;
    struct client c[3];

    rig_init(&r, 1, argv);
    for (int i = 0; i < 3; i++)
        c[i] = client_open(&r, "/rooms/a");
    for (int i = 0; i < 3; i++)
        client_send(&r, &c[i], frame, sizeof(frame));
    server_set_phase(&r.server, NODE_STOPPING);
    turns(&r, 20);
    cr_assert_eq(net_of(&r)->conns.used, 0);
    for (int i = 0; i < 3; i++)
        client_free(&c[i]);
    rig_deinit(&r);
}

/* Sends that echoes of 16 KiB together take, each of them 1 KiB. */
static uint64_t sends_of_echoes(char *batch)
{
    enum { MESSAGES = 16, EACH = 1020, HEAD = 4, FRAME = HEAD + 4 + EACH };
    static uint8_t frames[MESSAGES * FRAME];
    char *argv[] = {"tidewire", "--echo", "--send-batch", batch};
    struct rig r;
    struct client c;
    uint64_t sends;

    rig_init(&r, ARRAY_LEN(argv), argv);
    c = client_open(&r, "/echo");
    for (size_t i = 0; i < MESSAGES; i++) {
        const uint8_t head[] = {0x82, 0x80 | 126, EACH >> 8, EACH & 0xff};

        memcpy(frames + i * FRAME, head, sizeof(head));
    }
    sends = stat_of(&r, NET_STAT_SENDS);
    client_send(&r, &c, frames, sizeof(frames));
    turns(&r, 20);
    client_recv(&c);
    cr_assert_eq(c.in_len - c.seen, MESSAGES * (HEAD + EACH));
    sends = stat_of(&r, NET_STAT_SENDS) - sends;
    client_free(&c);
    rig_deinit(&r);
    return sends;
}

Test(conn, a_send_takes_no_more_than_its_batch)
{
    cr_assert_leq(sends_of_echoes("64KiB"), 2);
    cr_assert_eq(sends_of_echoes("4KiB"), 4);
}
