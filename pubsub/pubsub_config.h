/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_PUBSUB_CONFIG_H
#define PUBSUB_PUBSUB_CONFIG_H

/* Settings of channels and dialects, filled from the flags of the same names. */

#include <stdbool.h>
#include <stdint.h>

#include "pubsub/redis_config.h"

struct pubsub_config {
    bool echo;                   /* --echo off: serve /echo */
    uint64_t mesh_window_bytes;  /* --mesh-window 4MiB of unanswered publishes per shard and home */
    uint64_t write_delay_ns;     /* --write-delay 0: how long messages wait for others */
    struct redis_config redis;   /* what stands behind the homes */
    uint64_t mesh_backlog_bytes; /* --mesh-backlog 16MiB: above it a home withholds credit */
};

#endif
