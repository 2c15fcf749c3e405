/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SERVER_FIXTURE_H
#define TESTS_SERVER_FIXTURE_H

/* A whole server on the simulated io, turned by the test, and raw clients, which shard 0 takes. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_sim.h"
#include "tools/tidewire/server.h"

#define CLIENT_BYTES_MAX (2u << 20)
#define RIG_SHARDS_MAX 4

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
    uint32_t shards;
    struct io_addr address;       /* of the public listener */
    struct io_addr admin_address; /* of the admin listener */
};

static inline struct net *net_of(struct rig *r)
{
    return &r->server.shards[0].net;
}

static inline uint64_t stat_of(struct rig *r, uint32_t stat)
{
    return stats_get(&net_of(r)->stats[stat]);
}

static inline void rig_listen(struct rig *r, struct io_addr *a, uint16_t port,
                              enum net_listener_kind kind)
{
    cr_assert_eq(io_addr_parse(a, "127.0.0.1", port), 0);
    cr_assert_eq(net_listen(net_of(r), sim_net_listen(r->net, a, 16), kind), 0);
}

/* argv as of the command line, its first word the program's. */
static inline void rig_init_shards(struct rig *r, uint32_t shards, int argc, char **argv)
{
    struct io_config cfg = {.conns_max = 200};
    char *envp[] = {NULL};
    struct io *ios[RIG_SHARDS_MAX];

    cr_assert_eq(simd_init(NULL), 0);
    cr_assert_leq(shards, RIG_SHARDS_MAX);
    *r = (struct rig){.net = sim_net_new(3, NULL), .shards = shards};
    cr_assert_eq(config_read(&r->config, argc, argv, envp, stderr, &r->options), 0);
    for (uint32_t i = 0; i < shards; i++)
        cr_assert_eq(io_sim_new(r->net, &cfg, &ios[i]), 0);
    cr_assert_eq(server_init(&r->server, &r->config, ios, shards, 5, 100, NULL, NULL), 0);
    for (uint32_t i = 0; i < shards; i++)
        cr_assert_eq(io_start(ios[i]), 0);
    rig_listen(r, &r->address, 80, NET_LISTENER_PUBLIC);
    rig_listen(r, &r->admin_address, 81, NET_LISTENER_ADMIN);
}

static inline void rig_init(struct rig *r, int argc, char **argv)
{
    rig_init_shards(r, 1, argc, argv);
}

static inline void turn(struct rig *r)
{
    for (uint32_t i = 0; i < r->shards; i++)
        cr_assert_eq(shard_turn(&r->server.shards[i].shard, false), 0);
    (void)sim_net_idle(r->net, sim_net_now(r->net) + NS_PER_US);
}

static inline void turns(struct rig *r, int count)
{
    for (int i = 0; i < count; i++)
        turn(r);
}

/* Lets time pass, turning each time that the shard or the network wants it. One shard only. */
static inline void pass(struct rig *r, uint64_t ns)
{
    uint64_t end_ns = sim_net_now(r->net) + ns;

    while (sim_net_now(r->net) < end_ns) {
        cr_assert_eq(shard_turn(&r->server.shards[0].shard, false), 0);
        (void)sim_net_idle(r->net, min_u64(end_ns, r->server.shards[0].shard.next_turn_ns));
    }
    turns(r, 3);
}

/* Stops; CHECKs and asserts that nothing is left of anything. */
static inline void rig_deinit(struct rig *r)
{
    server_set_phase(&r->server, NODE_STOPPING);
    turns(r, 100);
    cr_assert_eq(net_of(r)->conns.used, 0);
    cr_assert_eq(net_of(r)->rxs.used, 0);
    cr_assert_eq(net_of(r)->assembly_bytes, 0);
    cr_assert_eq(net_of(r)->queue_bytes, 0);
    cr_assert_eq(stat_of(r, NET_STAT_CONNECTIONS), 0);
    cr_assert_eq(stat_of(r, NET_STAT_WEBSOCKETS), 0);
    cr_assert_eq(stat_of(r, NET_STAT_HELD), 0);
    server_settle(&r->server);
    server_deinit(&r->server);
    cr_assert_null(sim_net_violation(r->net));
    sim_net_free(r->net);
    options_free(r->options);
}

static inline void client_send(struct rig *r, struct client *c, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    while (len > 0) {
        size_t n = sim_client_send(c->sim, p, len);

        p += n;
        len -= n;
        if (len > 0)
            turn(r);
    }
}

static inline void client_send_text(struct rig *r, struct client *c, const char *text)
{
    client_send(r, c, text, strlen(text));
}

static inline void client_recv(struct client *c)
{
    size_t n;

    while ((n = sim_client_recv(c->sim, c->in + c->in_len, CLIENT_BYTES_MAX - c->in_len)) > 0)
        c->in_len += n;
}

static inline struct client client_connect(struct rig *r, const struct io_addr *to)
{
    struct client c = {.in = malloc(CLIENT_BYTES_MAX)};
    struct io_addr from;

    cr_assert_not_null(c.in);
    cr_assert_eq(io_addr_parse(&from, "127.0.0.1", 1000), 0);
    c.sim = sim_client_connect(r->net, to, &from);
    turns(r, 3);
    return c;
}

/* A WebSocket at `path`; what the handshake's answer said counts as seen. */
static inline struct client client_open(struct rig *r, const char *path)
{
    struct client c = client_connect(r, &r->address);

    client_send_text(r, &c, "GET ");
    client_send_text(r, &c, path);
    client_send_text(r, &c,
                     " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                     "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    turns(r, 50);
    client_recv(&c);
    cr_assert(c.in_len > 12 && memcmp(c.in, "HTTP/1.1 101", 12) == 0);
    c.seen = c.in_len;
    return c;
}

static inline bool client_was_ended(struct client *c)
{
    client_recv(c);
    return sim_client_state(c->sim) != SIM_CLIENT_OPEN;
}

static inline void client_free(struct client *c)
{
    sim_client_free(c->sim);
    free(c->in);
}

#endif
