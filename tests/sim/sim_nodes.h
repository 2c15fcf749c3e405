/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_NODES_H
#define TESTS_SIM_SIM_NODES_H

/* Several nodes on one virtual network with simulated Redis servers between them, and clients that
 * note everything they get. Everything is drawn from one seed. One thread. */

#include "tests/sim/sim_fiber.h"
#include "tests/sim/sim_redis.h"
#include "tests/sim/sim_seed.h"
#include "tools/tidewire/server.h"

#define NODES_MAX 3
#define NODES_SHARDS_MAX 3
#define NODES_REDIS_MAX 6
#define PEERS_MAX 24
#define NODES_ROOMS_MAX 4
#define PEER_TEXT_MAX 4096

struct nodes;

/* A client: a member of one room at one node. */
struct peer {
    struct nodes *c;
    struct sim_client *client;
    uint32_t uid;
    uint32_t node;
    uint32_t room;
    bool wants_echo;
    bool is_open;
    bool is_done;        /* its connection has ended */
    uint16_t close_code; /* that came */
    uint32_t todo;       /* messages still to publish */
    uint64_t act_ns;
    uint32_t sent; /* messages published; they are numbered from 0 on */
    uint32_t *got; /* uid << 20 | number, in order */
    uint32_t got_count;
    uint32_t got_cap;
    uint8_t *out;
    size_t out_pos, out_len, out_cap;
    uint8_t *in;
    size_t in_len, in_cap;
};

struct node_one {
    struct server server;
    struct config config;
    struct io_addr address;
};

struct nodes {
    uint64_t seed;
    struct sim_net *net;
    struct sim_fibers *fibers;
    struct sim_faults faults;
    struct sim_redis redis[NODES_REDIS_MAX];
    uint32_t redis_count;
    bool is_cluster; /* the Redis are its masters; set between nodes_prepare() and nodes_start() */
    uint32_t master_count; /* then: the first ones; the others are their replicas in turn */
    uint32_t spare_count;  /* ... but for so many of them, which the caller adds */
    struct sim_cluster cluster;
    struct node_one nodes[NODES_MAX];
    uint32_t node_count;
    uint32_t shard_count;
    uint32_t room_count;
    struct peer *peers[PEERS_MAX];
    uint32_t peer_count;
    char url_texts[NODES_REDIS_MAX][80];
    char *urls[NODES_REDIS_MAX];
    char prefix[8];
    bool storm;
    uint64_t fault_ns;    /* the next thing that happens to a Redis */
    bool leaves_speaking; /* nodes are stopped with publishes under way to a Redis that is slow */
    uint64_t given_up[NODES_MAX]; /* then: messages that nobody else got, before that */
    uint64_t messages;
    uint64_t steps;
    uint64_t hash;
    char failure[512];
};

/* Draws nothing: the caller has set what it wants of c->nodes[].config after nodes_prepare(). */
void nodes_prepare(struct nodes *c, uint64_t seed, uint32_t node_count, uint32_t shards,
                   uint32_t redis_count);
bool nodes_start(struct nodes *c);

__attribute__((format(printf, 2, 3))) void nodes_fail(struct nodes *c, const char *text, ...);
const char *nodes_failure(const struct nodes *c);

/* Until done(c), or the clock stands at until_ns. Whether done(c) was true. */
bool nodes_run(struct nodes *c, uint64_t until_ns, bool (*done)(struct nodes *c));

/* Drains all nodes, looks for what is left, frees all. */
void nodes_end(struct nodes *c);

/* A counter of the engine, summed over the node's shards. */
uint64_t nodes_stat(struct nodes *c, uint32_t node, uint32_t i);
/* Publishes that Redis has not answered, by all reasons. */
uint64_t nodes_given_up(struct nodes *c, uint32_t node);

static inline uint64_t nodes_now(const struct nodes *c)
{
    return sim_net_now(c->net);
}

/* Connects and asks for the room. */
struct peer *peer_new(struct nodes *c, uint32_t node, uint32_t room, bool wants_echo);
void peer_free(struct peer *p);
void peer_publish(struct peer *p, uint32_t len);
/* Reads, writes, acts. Whether anything happened. */
bool peer_visit(struct peer *p);

/* sim_nodes_seed.c: one seed, and the cases on the virtual clock. */
void nodes_seed_run(uint64_t seed, bool verbose, struct seed_result *r);

#endif
