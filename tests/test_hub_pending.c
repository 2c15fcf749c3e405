/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* pubsub/hub_pending.h in a whole server: what --write-delay holds back, how long, and what ends
 * the waiting. */

#include "pubsub/hub_pending.h"

#include "tests/server_fixture.h"

#define DELAY_NS (20 * NS_PER_MS)
/* Turns in which nothing is left to do; a turn takes a microsecond of virtual time. */
#define SOME_TURNS 20

static void rig_delayed(struct rig *r)
{
    static char *argv[] = {"tidewire", "--write-delay",  "20ms", "--compress",
                           "on",       "--compress-min", "0",    "--drain-time",
                           "0"};

    rig_init(r, ARRAY_LEN(argv), argv);
}

static struct hub *hub_of(struct rig *r)
{
    return &r->server.shards[0].routes.pubsub.hub;
}

static uint64_t count_of(struct rig *r, enum pubsub_stat i)
{
    return stats_get(&r->server.shards[0].routes.pubsub.stats[i]);
}

/* A message of one byte, in a turn of its own. */
static void say(struct rig *r, struct client *c, uint8_t what)
{
    const uint8_t frame[] = {0x82, 0x81, 0, 0, 0, 0, what};

    client_send(r, c, frame, sizeof(frame));
    turns(r, 5);
}

/* What has come for c since the last look, one character a message; up to a close frame. */
static const char *heard_before_close(struct client *c, uint16_t *code)
{
    static char text[256];
    size_t n = 0;

    client_recv(c);
    *code = 0;
    for (; c->in_len - c->seen >= 3 && n + 1 < sizeof(text); c->seen += 3) {
        const uint8_t *p = c->in + c->seen;

        if (p[0] == 0x88) {
            *code = (uint16_t)(p[2] << 8 | p[3]);
            break;
        }
        cr_assert_eq(p[0], 0x82);
        cr_assert_eq(p[1], 1);
        text[n++] = (char)p[2];
    }
    text[n] = '\0';
    return text;
}

static const char *heard(struct client *c)
{
    uint16_t code;
    const char *text = heard_before_close(c, &code);

    cr_assert_eq(code, 0);
    return text;
}

/* Asks for a room, without permessage-deflate. */
static struct client ask(struct rig *r, const char *path)
{
    struct client c = client_connect(r, &r->address);
    char text[256];

    snprintf(text, sizeof(text),
             "GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
             path);
    client_send_text(r, &c, text);
    turns(r, 50);
    return c;
}

/* A client without permessage-deflate, so that its frames are as heard() reads them. */
static struct client plain_client(struct rig *r, const char *path)
{
    struct client c = ask(r, path);

    client_recv(&c);
    cr_assert(c.in_len > 12 && memcmp(c.in, "HTTP/1.1 101", 12) == 0);
    c.seen = c.in_len;
    return c;
}

static void end(struct rig *r, struct client *c, int count)
{
    for (int i = 0; i < count; i++)
        client_free(&c[i]);
    rig_deinit(r);
}

Test(hub_pending, what_comes_first_does_not_wait)
{
    struct rig r;
    struct client c[2];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    c[1] = plain_client(&r, "/rooms/a");
    for (uint8_t i = 0; i < 3; i++) {
        say(&r, &c[0], (uint8_t)('a' + i));
        cr_assert_eq(strlen(heard(&c[1])), 1);
        pass(&r, DELAY_NS);
    }
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAYED), 0);
    end(&r, c, 2);
}

Test(hub_pending, what_follows_leaves_together_when_the_window_ends)
{
    struct rig r;
    struct client c[3];

    rig_delayed(&r);
    for (int i = 0; i < 3; i++)
        c[i] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    uint64_t runs = count_of(&r, PUBSUB_STAT_RUNS), sends = stat_of(&r, NET_STAT_SENDS);
    for (uint8_t i = 1; i < 6; i++)
        say(&r, &c[i % 3], (uint8_t)('a' + i));
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(heard(&c[i]), "a");
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAYED), 5);
    pass(&r, DELAY_NS - NS_PER_MS);
    cr_assert_str_eq(heard(&c[1]), "");
    cr_assert_eq(r.server.shards[0].shard.next_turn_ns, hub_of(&r)->window_end_ns);
    pass(&r, NS_PER_MS);
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(heard(&c[i]), "bcdef");
    cr_assert_eq(count_of(&r, PUBSUB_STAT_RUNS) - runs, 1);
    cr_assert_eq(stat_of(&r, NET_STAT_SENDS) - sends, 3);
    cr_assert_eq(hub_of(&r)->delayed_cost, 0);
    cr_assert_eq(hub_of(&r)->pending_count, 0);
    end(&r, c, 3);
}

/* Once a window, and never later than that: a room that always talks. */
Test(hub_pending, a_busy_room_is_sent_once_a_window)
{
    enum { WINDOWS = 10, EACH = 10 };
    struct rig r;
    struct client c[2];
    uint64_t sends;

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a?echo=0");
    c[1] = plain_client(&r, "/rooms/a");
    sends = stat_of(&r, NET_STAT_SENDS);
    for (int i = 0; i < WINDOWS * EACH; i++) {
        say(&r, &c[0], '.');
        pass(&r, DELAY_NS / EACH);
    }
    pass(&r, DELAY_NS);
    sends = stat_of(&r, NET_STAT_SENDS) - sends;
    cr_assert_geq(sends, WINDOWS - 1);
    cr_assert_leq(sends, WINDOWS + 2, "%llu sends", (unsigned long long)sends);
    cr_assert_eq(strlen(heard(&c[1])), WINDOWS * EACH);
    cr_assert_str_eq(heard(&c[0]), "");
    end(&r, c, 2);
}

Test(hub_pending, another_room_that_is_quiet_does_not_wait)
{
    struct rig r;
    struct client c[2];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/busy");
    c[1] = plain_client(&r, "/rooms/quiet");
    say(&r, &c[0], 'a');
    say(&r, &c[0], 'b');
    say(&r, &c[1], '1');
    cr_assert_str_eq(heard(&c[0]), "a");
    cr_assert_str_eq(heard(&c[1]), "1");
    say(&r, &c[1], '2');
    cr_assert_str_eq(heard(&c[1]), "");
    pass(&r, DELAY_NS);
    cr_assert_str_eq(heard(&c[0]), "b");
    cr_assert_str_eq(heard(&c[1]), "2");
    end(&r, c, 2);
}

Test(hub_pending, who_joins_gets_nothing_from_before)
{
    struct rig r;
    struct client c[2];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    say(&r, &c[0], 'b');
    c[1] = plain_client(&r, "/rooms/a");
    cr_assert_str_eq(heard(&c[0]), "ab"); /* the joining has let it go */
    say(&r, &c[0], 'c');
    pass(&r, DELAY_NS);
    cr_assert_str_eq(heard(&c[0]), "c");
    cr_assert_str_eq(heard(&c[1]), "c");
    end(&r, c, 2);
}

Test(hub_pending, what_waits_for_a_room_that_empties_is_dropped)
{
    struct rig r;
    struct client c[2];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    c[1] = plain_client(&r, "/rooms/b");
    for (uint8_t i = 0; i < 3; i++) {
        say(&r, &c[0], 'a');
        say(&r, &c[1], (uint8_t)('1' + i));
    }
    cr_assert_str_eq(heard(&c[1]), "1");
    sim_client_close(c[0].sim);
    turns(&r, SOME_TURNS);
    cr_assert_eq(count_of(&r, PUBSUB_STAT_STALE), 2);
    cr_assert_eq(count_of(&r, PUBSUB_STAT_CHANNELS), 1);
    cr_assert_str_eq(heard(&c[1]), "23"); /* all leaves then */
    end(&r, c, 2);
}

Test(hub_pending, a_publisher_that_leaves_is_heard_to_the_end)
{
    struct rig r;
    struct client c[2];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    c[1] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    say(&r, &c[0], 'b');
    sim_client_close(c[0].sim);
    pass(&r, DELAY_NS);
    cr_assert_str_eq(heard(&c[1]), "ab");
    end(&r, c, 2);
}

/* In messages, and in bytes: a run leaves at once, the rest of it waits. */
Test(hub_pending, a_full_run_does_not_wait)
{
    enum { MESSAGES = 400, EACH = 100, EACH_COST = 2 + EACH + 128 };
    static uint8_t frames[MESSAGES * (6 + EACH)];
    struct rig r;
    struct client c[1];
    size_t len = 0;

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    cr_assert_str_eq(heard(&c[0]), "a");
    for (int i = 0; i < MESSAGES; i++, len += 6 + EACH) {
        frames[len] = 0x82;
        frames[len + 1] = 0x80 | EACH;
    }
    client_send(&r, &c[0], frames, len);
    turns(&r, SOME_TURNS);
    client_recv(&c[0]);
    size_t early = (c[0].in_len - c[0].seen) / (2 + EACH);
    cr_assert_eq(early, (65536 + EACH_COST - 1) / EACH_COST);
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAY_FULL), 1);
    pass(&r, DELAY_NS);
    client_recv(&c[0]);
    cr_assert_eq((c[0].in_len - c[0].seen) / (2 + EACH), MESSAGES);
    cr_assert_eq(hub_of(&r)->delayed_cost, 0);
    end(&r, c, 1);
}

/* Or members with a small queue would be found slow. */
Test(hub_pending, no_more_waits_than_a_quarter_of_a_queue)
{
    static char *argv[] = {"tidewire", "--write-delay", "20ms", "--max-message",
                           "1KiB",     "--max-queue",   "4KiB"};
    struct rig r;
    struct client c[1];
    uint64_t most = 0;

    rig_init(&r, ARRAY_LEN(argv), argv);
    c[0] = plain_client(&r, "/rooms/a");
    for (int i = 0; i < 100; i++) {
        say(&r, &c[0], 'x');
        most = max_u64(most, hub_of(&r)->delayed_cost);
    }
    cr_assert_leq(most, 1024);
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAY_FULL), 99 / 8); /* of 131 bytes each */
    cr_assert_eq(strlen(heard(&c[0])), 1 + 99 / 8 * 8);
    end(&r, c, 1);
}

/* Ten rooms, none of which has a full run. */
Test(hub_pending, all_rooms_together_are_bounded)
{
    enum { ROOMS = 10, EACH = 450 };
    static uint8_t frames[EACH * 7];
    struct rig r;
    struct client c[ROOMS];
    uint32_t most = 0;

    rig_delayed(&r);
    for (int i = 0; i < EACH; i++)
        memcpy(frames + (size_t)i * 7, (const uint8_t[]){0x82, 0x81, 0, 0, 0, 0, 'x'}, 7);
    for (int i = 0; i < ROOMS; i++) {
        char path[32];

        snprintf(path, sizeof(path), "/rooms/%d", i);
        c[i] = plain_client(&r, path);
        say(&r, &c[i], 'x');
    }
    for (int i = 0; i < ROOMS; i++) {
        client_send(&r, &c[i], frames, sizeof(frames));
        turns(&r, 5);
        most = most > hub_of(&r)->pending_count ? most : hub_of(&r)->pending_count;
    }
    cr_assert_geq(most, 4000);
    cr_assert_lt(most, 4096);
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAY_FULL), 1);
    pass(&r, DELAY_NS);
    for (int i = 0; i < ROOMS; i++) {
        client_recv(&c[i]);
        cr_assert_eq((c[i].in_len - c[i].seen) / 3, EACH + 1);
    }
    end(&r, c, ROOMS);
}

Test(hub_pending, a_drain_lets_all_go_before_the_close_frame)
{
    struct rig r;
    struct client c[2];
    uint16_t code;

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a?echo=0");
    c[1] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    say(&r, &c[0], 'b');
    cr_assert_str_eq(heard(&c[1]), "a");
    server_set_phase(&r.server, NODE_DRAINING);
    turns(&r, SOME_TURNS);
    cr_assert_str_eq(heard_before_close(&c[1], &code), "b");
    cr_assert_eq(code, 1012);
    end(&r, c, 2);
}

Test(hub_pending, a_node_that_stops_at_once_leaves_nothing)
{
    struct rig r;
    struct client c[1];

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    say(&r, &c[0], 'a');
    say(&r, &c[0], 'b');
    cr_assert_neq(hub_of(&r)->delayed_cost, 0);
    end(&r, c, 1); /* asserts it */
}

/* The twins wait with their messages. */
Test(hub_pending, compressed_and_plain_members_get_the_same)
{
    enum { EACH = 100, MESSAGES = 3, FIN_BINARY = 0x82, RSV1 = 0x40 /* RFC 7692 6 */ };
    uint8_t frame[6 + EACH] = {FIN_BINARY, 0x80 | EACH};
    struct rig r;
    struct client c[2];
    size_t each;

    rig_delayed(&r);
    c[0] = plain_client(&r, "/rooms/a");
    c[1] = client_open(&r, "/rooms/a");
    for (int i = 0; i < MESSAGES; i++) {
        client_send(&r, &c[0], frame, sizeof(frame));
        turns(&r, 5);
    }
    client_recv(&c[1]);
    each = c[1].in_len - c[1].seen;
    cr_assert_lt(each, EACH);
    pass(&r, DELAY_NS);
    client_recv(&c[0]);
    cr_assert_eq(c[0].in_len - c[0].seen, MESSAGES * (2 + EACH));
    client_recv(&c[1]);
    cr_assert_eq(c[1].in_len - c[1].seen, MESSAGES * each);
    for (size_t i = 0; i < MESSAGES; i++)
        cr_assert_eq(c[1].in[c[1].seen + i * each], FIN_BINARY | RSV1);
    end(&r, c, 2);
}

/* An engine that leaves the opening of channels to the test. */
static enum engine_open open_later(struct engine *e, struct home_channel *ch)
{
    (void)e;
    ch->engine = 1;
    return ENGINE_OPENING;
}

static bool refuses_nobody(struct engine *e, uint32_t home, const void *name, uint32_t len)
{
    (void)e;
    (void)home;
    (void)name;
    (void)len;
    return false;
}

static uint64_t much_room(const struct engine *e)
{
    (void)e;
    return UINT64_MAX;
}

static const struct engine_calls later_calls = {
    .name = "later", .open = open_later, .refuses = refuses_nobody, .room = much_room};

/* What another node has published, by the engine. */
static void come(struct rig *r, struct home_channel *ch, uint8_t what)
{
    struct pubsub *p = &r->server.shards[0].routes.pubsub;
    struct message *m = message_new(&p->shard->messages, 1);

    *(uint8_t *)message_payload(m) = what;
    m->payload_len = 1;
    m->opcode = 2;
    net_message_frame(m, false);
    home_deliver(&p->home, ch, m);
    turns(r, 5);
}

/* Messages come for one who waits in a room, the second of them is held back; then the room is
 * refused, before or after that one has left. */
static void refuse_what_waits(bool leaves)
{
    static struct engine later = {&later_calls};
    struct rig r;
    struct client c[1];
    struct home *home;
    struct home_channel *ch;
    uint32_t i = 0;

    rig_delayed(&r);
    home = &r.server.shards[0].routes.pubsub.home;
    home->engine = &later;
    c[0] = ask(&r, "/rooms/a");
    ch = pool_next(&home->pool, &i);
    cr_assert_not_null(ch);
    come(&r, ch, 'a');
    come(&r, ch, 'b');
    cr_assert_eq(count_of(&r, PUBSUB_STAT_DELAYED), 1);
    if (leaves)
        sim_client_close(c[0].sim);
    turns(&r, SOME_TURNS);
    home_open_failed(home, pool_handle(&home->pool, ch), ENGINE_AWAY);
    turns(&r, SOME_TURNS);
    cr_assert_eq(hub_of(&r)->pool.used, 0);
    cr_assert_null(hub_of(&r)->delayed);
    cr_assert_eq(hub_of(&r)->delayed_cost, 0);
    cr_assert_eq(hub_of(&r)->pending_count, 0);
    home->engine = NULL;
    end(&r, c, 1);
}

Test(hub_pending, a_room_that_is_refused_is_on_no_list)
{
    refuse_what_waits(false);
}

Test(hub_pending, a_room_that_is_refused_when_all_have_left_is_on_no_list)
{
    refuse_what_waits(true);
}
