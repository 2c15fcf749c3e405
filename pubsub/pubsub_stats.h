/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_PUBSUB_STATS_H
#define PUBSUB_PUBSUB_STATS_H

/* Counters of channels: one row here is one line of /metrics. */

#include "core/stats.h"

/* X(id, name, labels, help, kind) */
#define PUBSUB_STATS(X)                                                                            \
    X(CHANNELS, "hub_channels", NULL, "Channels with subscribers, counted on each shard.",         \
      STATS_GAUGE)                                                                                 \
    X(HOME_CHANNELS, "channels", NULL, "Channels that exist, counted at their homes.",             \
      STATS_GAUGE)                                                                                 \
    X(MEMBERS, "members", NULL, "Members of rooms now.", STATS_GAUGE)                              \
    X(JOINS, "joins_total", NULL, "Rooms joined by connections.", STATS_COUNTER)                   \
    X(PUBLISHED, "published_total", NULL, "Messages published, counted where they came in.",       \
      STATS_COUNTER)                                                                               \
    X(PUBLISHED_REMOTE, "published_remote_total", NULL,                                            \
      "Of them sent to a home on another shard.", STATS_COUNTER)                                   \
    X(ORDERED, "ordered_total", NULL, "Messages given their place by a home.", STATS_COUNTER)      \
    X(DELIVERIES, "deliveries_total", NULL, "Messages put into send queues.", STATS_COUNTER)       \
    X(RUNS, "runs_total", NULL, "Runs fanned out.", STATS_COUNTER)                                 \
    X(RUN_COPIES, "run_copies_total", NULL,                                                        \
      "Frames copied because several left together; once per shard, never per member.",            \
      STATS_COUNTER)                                                                               \
    X(DELAYED, "write_delayed_total", NULL,                                                        \
      "Messages that waited beyond their turn, for --write-delay; counted on each shard.",         \
      STATS_COUNTER)                                                                               \
    X(DELAY_FULL, "write_delay_full_total", NULL,                                                  \
      "Times that so much waited for --write-delay that it left early.", STATS_COUNTER)            \
    X(DELAYED_BYTES, "write_delay_bytes", NULL,                                                    \
      "What waits for --write-delay; 128 bytes beyond its frame for each message.", STATS_GAUGE)   \
    X(STALE, "stale_deliveries_total", NULL,                                                       \
      "Messages that arrived after the last member had left.", STATS_COUNTER)                      \
    X(LOST, "lost_deliveries_total", NULL,                                                         \
      "Messages that a shard could not fan out for want of memory; its members were closed.",      \
      STATS_COUNTER)                                                                               \
    X(CREDIT_WAITS, "credit_waits_total", NULL,                                                    \
      "Publishers paused because their home had no credit left.", STATS_COUNTER)                   \
    X(CREDIT_LOST, "credit_lost_total", NULL,                                                      \
      "Messages dropped as their publishers' connections ended while they waited for credit.",     \
      STATS_COUNTER)                                                                               \
    X(CREDIT_WITHHELD, "credit_withheld_total", NULL,                                              \
      "Turns in which a home withheld credit because of its backlog.", STATS_COUNTER)              \
    X(MEMBER_POOL_BYTES, "channel_pool_bytes", "pool=\"members\"",                                 \
      "Memory mapped by the pools of channels.", STATS_GAUGE)                                      \
    X(HUB_POOL_BYTES, "channel_pool_bytes", "pool=\"hub_channels\"", "", STATS_GAUGE)              \
    X(HOME_POOL_BYTES, "channel_pool_bytes", "pool=\"home_channels\"", "", STATS_GAUGE)            \
    X(MEMBER_POOL_FAILED, "channel_pool_failures_total", "pool=\"members\"",                       \
      "Slots refused: bound reached or no memory.", STATS_COUNTER)                                 \
    X(HUB_POOL_FAILED, "channel_pool_failures_total", "pool=\"hub_channels\"", "", STATS_COUNTER)  \
    X(HOME_POOL_FAILED, "channel_pool_failures_total", "pool=\"home_channels\"", "", STATS_COUNTER)

enum pubsub_stat {
#define X(id, name, labels, help, kind) PUBSUB_STAT_##id,
    PUBSUB_STATS(X)
#undef X
        PUBSUB_STAT_COUNT
};

extern const struct stats_desc pubsub_stat_descs[PUBSUB_STAT_COUNT];

#endif
