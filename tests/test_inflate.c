/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The line before a shard's inflater, in a whole server of one shard on the simulated io. */

#include "net/inflate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_sim.h"
#include "tools/tidewire/server.h"

#define BIG_BYTES (1u << 20)
#define IN_BYTES_MAX (2u << 20)

struct client {
    struct sim_client *sim;
    uint8_t *in;
    size_t in_len;
    size_t seen; /* bytes of `in` that earlier answers took */
};

struct rig {
    struct sim_net *net;
    struct config config;
    struct options *options;
    struct server server;
    struct deflate *deflate; /* the clients' */
    struct io_addr address;
};

static void rig_init(struct rig *r)
{
    static char *argv[] = {
        "tidewire",    "--echo", "--compress",    "on",    "--max-message",   "1MiB",
        "--max-queue", "4MiB",   "--turn-budget", "100us", "--ping-interval", "0",
        NULL};
    struct io_config cfg = {.conns_max = 200};
    char *envp[] = {NULL};
    struct io *io;
    int fd;

    cr_assert_eq(simd_init(NULL), 0);
    *r = (struct rig){.net = sim_net_new(3, NULL), .deflate = deflate_new()};
    cr_assert_eq(config_read(&r->config, (int)ARRAY_LEN(argv) - 1, argv, envp, stderr, &r->options),
                 0);
    cr_assert_eq(io_sim_new(r->net, &cfg, &io), 0);
    cr_assert_eq(server_init(&r->server, &r->config, &io, 1, 5, 100), 0);
    cr_assert_eq(io_start(io), 0);
    cr_assert_eq(io_addr_parse(&r->address, "127.0.0.1", 80), 0);
    fd = sim_net_listen(r->net, &r->address, 16);
    cr_assert_eq(net_listen(&r->server.shards[0].net, fd, NET_LISTENER_PUBLIC), 0);
}

static struct net *net_of(struct rig *r)
{
    return &r->server.shards[0].net;
}

static void turn(struct rig *r)
{
    cr_assert_eq(shard_turn(&r->server.shards[0].shard, false), 0);
    (void)sim_net_idle(r->net, sim_net_now(r->net) + NS_PER_US);
}

static void turn_until_quiet(struct rig *r)
{
    for (int i = 0; i < 200 || net_of(r)->inflating != NULL; i++)
        turn(r);
}

static void rig_deinit(struct rig *r)
{
    server_set_phase(&r->server, NODE_STOPPING);
    for (int i = 0; i < 100; i++)
        turn(r);
    cr_assert_eq(net_of(r)->conns.used, 0);
    cr_assert_eq(net_of(r)->rxs.used, 0);
    cr_assert_eq(net_of(r)->assembly_bytes, 0);
    server_settle(&r->server);
    server_deinit(&r->server);
    cr_assert_null(sim_net_violation(r->net));
    sim_net_free(r->net);
    options_free(r->options);
    deflate_free(r->deflate);
}

static void client_send(struct rig *r, struct client *c, const uint8_t *p, size_t len)
{
    while (len > 0) {
        size_t n = sim_client_send(c->sim, p, len);

        p += n;
        len -= n;
        if (len > 0)
            turn(r);
    }
}

static void client_recv(struct client *c)
{
    size_t n;

    while ((n = sim_client_recv(c->sim, c->in + c->in_len, IN_BYTES_MAX - c->in_len)) > 0)
        c->in_len += n;
}

static struct client client_open(struct rig *r)
{
    static const char head[] = "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                               "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    struct io_addr from;
    struct client c = {.in = malloc(IN_BYTES_MAX)};

    cr_assert_eq(io_addr_parse(&from, "127.0.0.1", 1000), 0);
    c.sim = sim_client_connect(r->net, &r->address, &from);
    client_send(r, &c, (const uint8_t *)head, sizeof(head) - 1);
    for (int i = 0; i < 50; i++)
        turn(r);
    client_recv(&c);
    cr_assert_eq(memcmp(c.in, "HTTP/1.1 101", 12), 0);
    c.seen = c.in_len;
    return c;
}

static void client_free(struct client *c)
{
    sim_client_free(c->sim);
    free(c->in);
}

/* A compressed message of `len` times `fill`, masked with zeros. */
static void send_compressed(struct rig *r, struct client *c, uint8_t fill, size_t len)
{
    uint8_t *plain = malloc(len);
    uint8_t *frame = calloc(1, deflate_bound(len) + 14);
    size_t packed;

    memset(plain, fill, len);
    cr_assert_eq(deflate_compress(r->deflate, 15, plain, len, frame + 8, &packed), 0);
    cr_assert(packed >= 126 && packed < 65536, "%zu", packed);
    frame[0] = 0xc2; /* FIN, RSV1, binary */
    frame[1] = 0x80 | 126;
    frame[2] = (uint8_t)(packed >> 8);
    frame[3] = (uint8_t)packed;
    client_send(r, c, frame, packed + 8);
    free(plain);
    free(frame);
}

static void send_small(struct rig *r, struct client *c, uint8_t what)
{
    const uint8_t frame[] = {0x82, 0x81, 0, 0, 0, 0, what};

    client_send(r, c, frame, sizeof(frame));
}

/* Whether the next answer of c is an uncompressed message of `len` times `fill`. */
static bool got(struct client *c, uint8_t fill, size_t len)
{
    uint8_t *p = c->in + c->seen;
    size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;

    client_recv(c);
    if (c->in_len < c->seen + head + len)
        return false;
    cr_assert_eq(p[0], 0x82);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(p[head + i], fill);
    c->seen += head + len;
    return true;
}

/* The same, in time. */
static bool gets(struct rig *r, struct client *c, uint8_t fill, size_t len)
{
    for (int i = 0; i < 2000; i++) {
        if (got(c, fill, len))
            return true;
        turn(r);
    }
    return false;
}

static bool was_ended(struct client *c)
{
    client_recv(c);
    return sim_client_state(c->sim) != SIM_CLIENT_OPEN;
}

Test(inflate, a_large_message_takes_many_turns_and_others_are_served_meanwhile)
{
    struct rig r;
    struct client big, small;
    int turns = 0;

    rig_init(&r);
    big = client_open(&r);
    small = client_open(&r);
    send_compressed(&r, &big, 'b', BIG_BYTES);
    for (int i = 0; i < 5; i++)
        turn(&r);
    cr_assert_eq(net_of(&r)->inflating->holds, CONN_HOLD_INFLATE);
    send_small(&r, &small, 's');
    while (!got(&small, 's', 1)) {
        turn(&r);
        cr_assert_lt(++turns, 10);
    }
    cr_assert_not_null(net_of(&r)->inflating, "the large one is not through yet");
    turn_until_quiet(&r);
    cr_assert(gets(&r, &big, 'b', BIG_BYTES));
    client_free(&big);
    client_free(&small);
    rig_deinit(&r);
}

Test(inflate, a_turn_inflates_no_more_than_its_budget)
{
    struct rig r;
    struct client c;
    uint64_t turns = 0;

    rig_init(&r);
    cr_assert_eq(net_of(&r)->turn_work, 100 * WORK_BYTES_PER_US);
    c = client_open(&r);
    send_compressed(&r, &c, 'x', BIG_BYTES);
    for (int i = 0; i < 5; i++)
        turn(&r);
    while (net_of(&r)->inflating != NULL) {
        turn(&r);
        turns++;
    }
    cr_assert_geq(turns + 5, BIG_BYTES / net_of(&r)->turn_work);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &c, 'x', BIG_BYTES));
    client_free(&c);
    rig_deinit(&r);
}

Test(inflate, messages_of_one_connection_keep_their_order)
{
    struct rig r;
    struct client c;

    rig_init(&r);
    c = client_open(&r);
    send_compressed(&r, &c, '1', 200000);
    send_small(&r, &c, '2');
    send_compressed(&r, &c, '3', 200000);
    send_small(&r, &c, '4');
    turn_until_quiet(&r);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &c, '1', 200000));
    cr_assert(gets(&r, &c, '2', 1));
    cr_assert(gets(&r, &c, '3', 200000));
    cr_assert(gets(&r, &c, '4', 1));
    client_free(&c);
    rig_deinit(&r);
}

/* First come, first served; and whoever goes leaves the line, wherever it stands. */
Test(inflate, who_leaves_the_line_lets_the_others_go_on)
{
    for (uint32_t leaver = 0; leaver < 3; leaver++) {
        struct rig r;
        struct client c[3];

        rig_init(&r);
        for (uint32_t i = 0; i < 3; i++)
            c[i] = client_open(&r);
        for (uint32_t i = 0; i < 3; i++)
            send_compressed(&r, &c[i], (uint8_t)('a' + i), 400000);
        for (uint32_t i = 0; i < 5; i++)
            turn(&r);
        sim_client_reset(c[leaver].sim);
        turn_until_quiet(&r);
        for (uint32_t i = 0; i < 3; i++)
            cr_assert_eq(gets(&r, &c[i], (uint8_t)('a' + i), 400000), i != leaver);
        for (uint32_t i = 0; i < 3; i++)
            client_free(&c[i]);
        rig_deinit(&r);
    }
}

Test(inflate, a_bomb_in_line_ends_its_connection_alone)
{
    struct rig r;
    struct client bomb, other;

    rig_init(&r);
    bomb = client_open(&r);
    other = client_open(&r);
    send_compressed(&r, &bomb, 'b', BIG_BYTES + 1);
    send_compressed(&r, &other, 'o', 300000);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &other, 'o', 300000));
    cr_assert(was_ended(&bomb));
    cr_assert_eq(memcmp(bomb.in + bomb.seen, "\x88", 1), 0);
    cr_assert_eq(memcmp(bomb.in + bomb.seen + 2, "\x03\xf1", 2), 0, "1009");
    client_free(&bomb);
    client_free(&other);
    rig_deinit(&r);
}

Test(inflate, a_stop_empties_the_line)
{
    struct rig r;
    struct client c[2];

    rig_init(&r);
    for (uint32_t i = 0; i < 2; i++) {
        c[i] = client_open(&r);
        send_compressed(&r, &c[i], 'z', BIG_BYTES);
    }
    for (uint32_t i = 0; i < 3; i++)
        turn(&r);
    cr_assert_not_null(net_of(&r)->inflating);
    client_free(&c[0]);
    client_free(&c[1]);
    rig_deinit(&r);
}
