/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_WORLD_H
#define TESTS_SIM_SIM_WORLD_H

/* One simulated world: a whole node on the virtual network, its users, and what is wrong with it.
 * Everything is drawn from one seed. One thread. */

#include "net/tls_context.h"
#include "tests/sim/sim_fiber.h"
#include "tools/tidewire/server.h"

struct user;

#define WORLD_SHARDS_MAX 64
#define WORLD_USERS_MAX 96
#define WORLD_ROOMS_MAX 5

struct world {
    uint64_t seed;
    bool verbose;
    struct sim_net *net;
    struct sim_fibers *fibers;
    struct sim_faults faults; /* of the stormy parts */
    struct config config;
    struct server server;
    uint32_t shard_count;
    uint32_t listen_count;  /* shards that listen, the first ones; 0: all */
    struct io_addr address; /* where the node listens */
    struct io_addr tls_address;
    struct tls_shared tls; /* sim_shake.c stands in for what it names */

    struct user *users[WORLD_USERS_MAX]; /* in the order of coming; freed with the world */
    uint32_t user_count;
    uint32_t room_count;
    uint64_t room_bytes[WORLD_ROOMS_MAX]; /* of frames published so far, as queues count them */

    char proxy[16]; /* --proxy-from */
    char *proxies[1];

    bool storm;    /* users act on their own, faults are on */
    bool draining; /* the node has been told to drain */
    bool lossy;    /* limits are on that may end anyone's connection */
    bool crowded;  /* not everyone who comes is let in */
    bool has_tls;  /* a TLS port as well */
    bool hurried;  /* a handshake may lose its slot */
    uint64_t time; /* counts doings of users: an order of what happened */
    uint64_t steps;
    uint64_t hash;    /* of everything that users saw */
    uint8_t *scratch; /* room for the longest message */
    char failure[512];
};

/* Draws configuration and faults, and starts the node. False: no memory (world_failure says so). */
bool world_init(struct world *w, uint64_t seed, bool verbose);

/* The same with the configuration given: w->config is set, no faults, no users, connections per
 * shard at most conns_max. For scenarios. */
bool world_start(struct world *w, uint64_t seed, uint32_t shards, uint32_t conns_max);

/* The flags' defaults. */
void world_config_defaults(struct config *c);

/* Keeps the first one. */
__attribute__((format(printf, 2, 3))) void world_fail(struct world *w, const char *text, ...);
/* The first violation, of the network or of ours; NULL: none. */
const char *world_failure(const struct world *w);

static inline uint64_t world_below(struct world *w, uint64_t bound)
{
    return sim_net_below(w->net, bound);
}

/* One in n. */
static inline bool world_one_in(struct world *w, uint64_t n)
{
    return world_below(w, n) == 0;
}

static inline uint64_t world_now(const struct world *w)
{
    return sim_net_now(w->net);
}

void world_note(struct world *w, const void *bytes, size_t len);

/* Turns shards and users until done(w), asked when nothing else is to do (NULL: never), or until
 * the clock stands at until_ns. Returns whether done(w) was true; false on a failure. */
bool world_run(struct world *w, uint64_t until_ns, bool (*done)(struct world *w));

/* Faults off, or those of the storm on. */
void world_calm(struct world *w, bool calm);

/* Drains the node and waits for the shards to end; then the users. */
void world_drain(struct world *w);

/* Looks for what is left, and frees all. */
void world_end(struct world *w);

/* The node when nothing is under way: no credit outstanding, nothing queued. */
void world_check_rest(struct world *w);

/* Sum of a counter over the shards. */
uint64_t world_net_stat(struct world *w, enum net_stat i);

#endif
