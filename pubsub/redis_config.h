/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_CONFIG_H
#define PUBSUB_REDIS_CONFIG_H

/* Settings of the engine `redis`, filled from the flags of the same names. */

#include "core/options.h"

enum redis_order {
    REDIS_ORDER_GLOBAL, /* delivered when it has come back from Redis: one order on all nodes */
    REDIS_ORDER_LOCAL,  /* delivered at once to this node's members */
};

/* What happens to rooms while their Redis can't be reached. */
enum redis_away {
    REDIS_AWAY_LOCAL,  /* they go on within the node */
    REDIS_AWAY_REFUSE, /* nobody new is let in, and publishes are dropped */
};

struct redis_config {
    struct option_list urls; /* --redis URL, repeatable; none: the engine memory */
    char *ca;                /* --redis-ca FILE: authorities of rediss:// servers, PEM */
    char *cert;              /* --redis-cert off: a FILE, what they are shown */
    char *key;               /* --redis-key off: its key */
    char *prefix;            /* --redis-prefix tidewire: */
    int order;               /* --redis-order: enum redis_order */
    int away;                /* --engine-down: enum redis_away */
    uint64_t queue_bytes;    /* --redis-queue 16MiB of publishes without an answer, per home */
    uint64_t linger_ns;      /* --redis-linger 5s: a room without members stays subscribed */
    uint64_t timeout_ns;     /* --redis-timeout 1s: to connect, and for a join to wait */
};

/* The default of `ca`: the system's authorities. */
#define REDIS_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

#endif
