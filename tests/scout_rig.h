/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SCOUT_RIG_H
#define TESTS_SCOUT_RIG_H

/* Simulated servers of which a scout asks one (redis_scout), on the simulated io: the set-up of
 * Sentinels and of a cluster's nodes. */

#include <criterion/criterion.h>

#include "pubsub/redis_scout.h"
#include "tests/sim/sim_redis.h"

#define SCOUT_SERVERS 3

struct scout_rig {
    struct sim_net *net;
    struct io *io;
    struct sim_redis servers[SCOUT_SERVERS];
    struct redis_endpoint endpoints[SCOUT_SERVERS];
    struct redis_scout *scout; /* of the test; set before the first turn */
    uint16_t first_port;       /* of the servers, the others follow */
};

static const struct redis_link_config scout_rig_config = {.connect_timeout_ns = NS_PER_SEC,
                                                          .backoff_min_ns = 100 * NS_PER_MS,
                                                          .backoff_max_ns = NS_PER_SEC,
                                                          .queue_bytes_max = 10000,
                                                          .reply_bytes_max = 100000};

static inline void scout_rig_init(struct scout_rig *r, uint64_t seed, uint16_t first_port)
{
    struct io_config cfg = {.conns_max = 10};

    *r = (struct scout_rig){.net = sim_net_new(seed, NULL), .first_port = first_port};
    for (uint32_t i = 0; i < SCOUT_SERVERS; i++) {
        uint16_t port = (uint16_t)(first_port + i);

        cr_assert(sim_redis_init(&r->servers[i], r->net, "127.0.0.1", port));
        r->endpoints[i] = (struct redis_endpoint){.host = "127.0.0.1", .port = port};
    }
    cr_assert_eq(io_sim_new(r->net, &cfg, &r->io), 0);
    cr_assert_eq(io_start(r->io), 0);
}

static inline void scout_rig_start(struct scout_rig *r, struct redis_scout *scout)
{
    r->scout = scout;
    redis_scout_start(scout);
}

static inline void scout_rig_step(struct scout_rig *r, uint64_t until_ns)
{
    uint64_t next_ns = redis_scout_turn(r->scout, sim_net_now(r->net));
    bool busy = false;

    redis_scout_flush(r->scout);
    for (uint32_t i = 0; i < SCOUT_SERVERS; i++)
        busy |= sim_redis_turn(&r->servers[i]);
    if (!busy && sim_io_would_wait(r->io, next_ns))
        sim_net_idle(r->net, min_u64(until_ns, next_ns));
    cr_assert_geq(io_poll(r->io, 0), 0);
}

#define scout_rig_until(r, condition)                                                              \
    do {                                                                                           \
        uint64_t end_ns_ = sim_net_now((r)->net) + 120 * NS_PER_SEC;                               \
        while (!(condition)) {                                                                     \
            cr_assert_lt(sim_net_now((r)->net), end_ns_, "not in time: %s", #condition);           \
            scout_rig_step(r, end_ns_);                                                            \
        }                                                                                          \
    } while (0)

static inline void scout_rig_for(struct scout_rig *r, uint64_t ns)
{
    uint64_t end_ns = sim_net_now(r->net) + ns;

    while (sim_net_now(r->net) < end_ns)
        scout_rig_step(r, end_ns);
}

/* The server that is asked, or connected to. */
static inline uint32_t scout_rig_asked(const struct scout_rig *r)
{
    return (uint32_t)redis_scout_asked(r->scout)->port - r->first_port;
}

static inline void scout_rig_deinit(struct scout_rig *r)
{
    redis_scout_stop(r->scout);
    scout_rig_until(r, redis_scout_is_idle(r->scout));
    redis_scout_deinit(r->scout);
    for (uint32_t i = 0; i < SCOUT_SERVERS; i++)
        sim_redis_deinit(&r->servers[i]);
    io_free(r->io);
    cr_assert_null(sim_net_violation(r->net), "%s", sim_net_violation(r->net));
    sim_net_free(r->net);
}

#endif
