/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* pubsub/hub_credit.h in a whole server of two shards: publishers on shard 0 in a room whose home
 * is shard 1, and a window that takes few messages. */

#include "pubsub/hub_credit.h"

#include "tests/server_fixture.h"

#define CLIENTS 6

static struct pubsub *pubsub_of(struct rig *r)
{
    return &r->server.shards[0].routes.pubsub;
}

static uint64_t waits_of(struct rig *r)
{
    return stats_get(&pubsub_of(r)->stats[PUBSUB_STAT_CREDIT_WAITS]);
}

static uint64_t published_by(struct rig *r)
{
    return stats_get(&pubsub_of(r)->stats[PUBSUB_STAT_PUBLISHED]);
}

/* A room of that home, its path into `path`. */
static void room_at(struct rig *r, uint32_t home, char *path, size_t size)
{
    char name[16];

    for (int i = 0;; i++) {
        int len = snprintf(name, sizeof(name), "r%d", i);

        if (home_of(pubsub_of(r), name, (size_t)len) == home)
            break;
    }
    snprintf(path, size, "/rooms/%s", name);
}

/* A window of one byte: one message is under way at a time. */
static void rig_narrow(struct rig *r, struct client *c, uint32_t home)
{
    static char *argv[] = {"tidewire", "--max-queue", "16MiB"};
    char path[32];

    rig_init_shards(r, 2, ARRAY_LEN(argv), argv);
    for (uint32_t i = 0; i < 2; i++) /* less than one may ask for */
        r->server.shards[i].routes.pubsub.hub.window_bytes = 1;
    room_at(r, home, path, sizeof(path));
    for (int i = 0; i < CLIENTS; i++)
        c[i] = client_open(r, path);
}

/* `count` messages of two bytes, who and which, in one piece. */
static void say(struct rig *r, struct client *c, uint8_t who, uint8_t first, uint8_t count)
{
    uint8_t frames[8 * 256];
    size_t len = 0;

    for (uint8_t i = 0; i < count; i++) {
        const uint8_t frame[] = {0x82, 0x82, 0, 0, 0, 0, who, (uint8_t)(first + i)};

        memcpy(frames + len, frame, sizeof(frame));
        len += sizeof(frame);
    }
    client_send(r, c, frames, len);
}

/* The next message that c received, if there is one. */
static bool heard(struct client *c, uint8_t *who, uint8_t *which)
{
    client_recv(c);
    if (c->in_len - c->seen < 4)
        return false;
    cr_assert_eq(c->in[c->seen], 0x82);
    cr_assert_eq(c->in[c->seen + 1], 2);
    *who = c->in[c->seen + 2];
    *which = c->in[c->seen + 3];
    c->seen += 4;
    return true;
}

static void end(struct rig *r, struct client *c)
{
    for (int i = 0; i < CLIENTS; i++)
        sim_client_close(c[i].sim);
    turns(r, 50);
    cr_assert_eq(pubsub_of(r)->hub.credit_used[1], 0);
    cr_assert_null(pubsub_of(r)->hub.waiting[1]);
    for (int i = 0; i < CLIENTS; i++)
        client_free(&c[i]);
    rig_deinit(r);
}

Test(hub_credit, publishers_take_turns_and_none_is_woken_in_vain)
{
    enum { EACH = 20 };
    uint8_t said[CLIENTS] = {0};
    struct rig r;
    struct client c[CLIENTS];
    uint8_t who, which;
    int total = 0;

    rig_narrow(&r, c, 1);
    for (uint8_t i = 0; i < CLIENTS; i++)
        say(&r, &c[i], i, 0, EACH);
    for (int i = 0; i < 2000; i++) {
        turn(&r);
        cr_assert_leq(pubsub_of(&r)->hub.credit_used[1], sizeof(struct message) + 2);
    }
    cr_assert_eq(published_by(&r), CLIENTS * EACH);
    cr_assert_leq(waits_of(&r), CLIENTS * EACH);
    while (heard(&c[0], &who, &which)) {
        cr_assert_lt(who, CLIENTS);
        cr_assert_eq(which, said[who]++);
        total++;
        for (int i = 0; i < CLIENTS && total > 3 * CLIENTS; i++) /* all are in line by then */
            cr_assert_leq(abs(said[who] - said[i]), 2, "%u ran ahead of %d", who, i);
    }
    cr_assert_eq(total, CLIENTS * EACH);
    end(&r, c);
}

/* One floods; what another says once in a while passes no more than a few of its messages. */
Test(hub_credit, who_has_little_to_say_is_not_starved)
{
    struct rig r;
    struct client c[CLIENTS];
    uint8_t who, which;
    uint32_t modest = 0, before = 0, most_before = 0;

    rig_narrow(&r, c, 1);
    for (uint8_t round = 0; round < 20; round++) {
        for (uint8_t i = 1; i < CLIENTS; i++)
            say(&r, &c[i], i, round, 100);
        turns(&r, 20);
        uint64_t at = published_by(&r);
        say(&r, &c[0], 0, round, 1);
        while (modest <= round) {
            turn(&r);
            while (heard(&c[0], &who, &which))
                modest += who == 0;
            cr_assert_lt(published_by(&r) - at, 100, "it is still waiting");
        }
        before = (uint32_t)(published_by(&r) - at);
        most_before = before > most_before ? before : most_before;
    }
    cr_assert_leq(most_before, 4 * CLIENTS);
    end(&r, c);
}

/* Whoever was let go, or is in line, and leaves instead, leaves no gap. */
Test(hub_credit, the_line_goes_on_when_some_of_it_leave)
{
    enum { EACH = 10 };

    for (int leaver = 0; leaver < CLIENTS; leaver++) {
        for (int after = 0; after < 6; after++) {
            struct rig r;
            struct client c[CLIENTS];
            uint8_t who, which;
            int listener = (leaver + 1) % CLIENTS;
            int total = 0;

            rig_narrow(&r, c, 1);
            for (uint8_t i = 0; i < CLIENTS; i++)
                say(&r, &c[i], i, 0, EACH);
            turns(&r, 3 + after);
            sim_client_reset(c[leaver].sim);
            turns(&r, 1000);
            while (heard(&c[listener], &who, &which))
                total += who != leaver;
            cr_assert_eq(total, (CLIENTS - 1) * EACH);
            cr_assert_eq(pubsub_of(&r)->hub.credit_used[1], 0);
            end(&r, c);
        }
    }
}

/* The home is this shard, and its backlog to the other one is over the bound for a while. */
Test(hub_credit, those_who_wait_for_their_own_home_go_on_in_order)
{
    enum { EACH = 20 };
    uint8_t said[CLIENTS] = {0};
    struct rig r;
    struct client c[CLIENTS];
    uint8_t who, which;
    int total = 0;

    rig_narrow(&r, c, 0);
    pubsub_of(&r)->home.withheld = true; /* until the next flush */
    for (uint8_t i = 0; i < CLIENTS; i++)
        say(&r, &c[i], i, 0, EACH);
    for (int i = 0; i < 5; i++) {
        pubsub_of(&r)->home.withheld = true;
        turn(&r);
    }
    turns(&r, 200);
    cr_assert_gt(waits_of(&r), 0);
    cr_assert_eq(published_by(&r), CLIENTS * EACH);
    while (heard(&c[0], &who, &which)) {
        cr_assert_eq(which, said[who]++);
        total++;
    }
    cr_assert_eq(total, CLIENTS * EACH);
    cr_assert_null(pubsub_of(&r)->hub.waiting[0]);
    end(&r, c);
}
