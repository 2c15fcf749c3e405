/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_REDIS_H
#define TESTS_SIM_SIM_REDIS_H

/* A Redis server on the virtual network, as far as the node uses one, with what may go wrong there.
 *
 * It has an io of its own and does its work in sim_redis_turn(), which the driver calls between the
 * doings of the shards; what the network does to bytes (splits, delays, resets) comes on top. It
 * understands AUTH, PING, SELECT, CLIENT, ROLE, SENTINEL MASTER, CLUSTER SLOTS, PUBLISH, SUBSCRIBE,
 * UNSUBSCRIBE and their sharded twins, answers as Redis 7.0 does in RESP2, and reads commands with
 * a parser of its own. */

#include "tests/sim/io_sim.h"
#include "tests/sim/sim_cluster.h"

struct sim_redis_conn;

/* What a Sentinel says of the master of that name. */
struct sim_sentinel {
    const char *name;
    const char *host;
    uint16_t port;
    uint64_t epoch; /* config-epoch */
};

/* Rates in parts per million of the occasions. */
struct sim_redis_faults {
    uint32_t error;     /* a (S)PUBLISH or (S)SUBSCRIBE is answered by error_text */
    uint32_t drop;      /* a message does not go to one of its subscribers */
    uint32_t duplicate; /* ... goes to it twice */
    uint32_t cut;       /* an answer is cut anywhere, and the connection reset behind it */
    uint32_t reset;     /* a command is answered by a reset */
};

/* What happened so far. */
struct sim_redis_stats {
    uint64_t accepted;   /* connections */
    uint64_t commands;   /* that were read, whatever the answer */
    uint64_t published;  /* (S)PUBLISH that were carried out */
    uint64_t deliveries; /* messages put on their way to subscribers */
    uint64_t dropped;    /* by the fault */
    uint64_t duplicated;
    uint64_t errors; /* error replies */
};

struct sim_redis {
    struct sim_net *net;
    struct io *io;
    struct io_addr address;
    struct io_listener listener;
    struct sim_redis_conn *conns; /* list */
    struct sim_redis_stats stats;
    /* The driver may change these at any time. */
    struct sim_redis_faults faults;
    const char *error_text;  /* of faults.error, without '-'; NULL: an OOM error */
    const char *after_moved; /* the second MOVED is replaced by this; NULL: none is */
    const char *user;        /* NULL: the default one */
    const char *password;    /* NULL: no AUTH is needed */
    const char *auth_error;  /* AUTH is answered by this, without '-'; NULL: as Redis does */
    const char *allowed;     /* prefix of channels that may be used, others are NOPERM; NULL: all */
    const char *banned;      /* prefix of channels that may not be used, are NOPERM; NULL: none */
    bool keeps;              /* UNSUBSCRIBE is NOPERM */
    const struct sim_sentinel *sentinel; /* it is a Sentinel, and says this; NULL: it is none */
    struct sim_cluster *cluster;         /* it is a node of it; NULL: of none */
    const struct sim_redis *denies_for;  /* it sends those who ask for denied_slot there; NULL */
    uint32_t denied_slot;                /* of denies_for */
    bool loading;                        /* answers -LOADING */
    bool is_replica;                     /* as ROLE says */
    bool is_mute;                        /* publishes are answered, but go to no subscriber */
    /* Told of every publish that is carried out, in their one order; NULL: nobody. */
    void (*on_publish)(void *ctx, const char *channel, size_t channel_len, const char *payload,
                       size_t payload_len);
    void *ctx;
    bool is_listening;
    bool is_silent;
    bool has_moved; /* for after_moved */
};

/* Listens at host (an address) and port. False: no memory. */
bool sim_redis_init(struct sim_redis *r, struct sim_net *net, const char *host, uint16_t port);

/* The io goes with it; connections that are left are closed first. */
void sim_redis_deinit(struct sim_redis *r);

/* Does what is ready, at most one io_poll(). Returns whether anything was. */
bool sim_redis_turn(struct sim_redis *r);

/* kill -9: the port is closed, all connections are reset, subscriptions are gone. And back. */
void sim_redis_stop(struct sim_redis *r);
bool sim_redis_start(struct sim_redis *r);

/* SIGSTOP and SIGCONT: connections are made and stand, but nothing is read or answered. */
void sim_redis_silence(struct sim_redis *r, bool on);

/* For sim_cluster: a sharded message that another node of the cluster has passed on. */
void sim_redis_spread(struct sim_redis *r, struct bytes channel, struct bytes payload);

/* CLIENT KILL: resets all connections. */
void sim_redis_kill_clients(struct sim_redis *r);
/* Only those that have never subscribed to anything. */
void sim_redis_kill_publishers(struct sim_redis *r);

/* Connections that have subscribed to the channel, sharded or not. */
uint32_t sim_redis_subscribers(struct sim_redis *r, const char *channel);

/* Connections now, and those that call themselves so (CLIENT SETNAME). */
uint32_t sim_redis_conn_count(struct sim_redis *r);
uint32_t sim_redis_named(struct sim_redis *r, const char *name);

#endif
