/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_STATS_H
#define PUBSUB_REDIS_STATS_H

/* Counters of the engine `redis`: one row here is one line of /metrics. */

#include "core/stats.h"
#include "pubsub/redis_error.h"
#include "pubsub/redis_link.h"

/* X(id, name, labels, help, kind) */
#define REDIS_STATS(X)                                                                             \
    X(PAIRS, "redis_pairs", NULL,                                                                  \
      "Pairs of connections to Redis: one for each shard and server, to publish and to "           \
      "subscribe; and one more for each shard and cluster while slots have no master.",            \
      STATS_GAUGE)                                                                                 \
    X(PAIRS_UP, "redis_pairs_up", NULL, "Of them those through which canaries go and come back.",  \
      STATS_GAUGE)                                                                                 \
    X(SUBSCRIPTIONS, "redis_subscriptions", NULL,                                                  \
      "Rooms subscribed at Redis, those on the way and those that linger included.", STATS_GAUGE)  \
    X(CONFIRMED, "redis_subscriptions_confirmed", NULL, "Of them those that Redis has confirmed.", \
      STATS_GAUGE)                                                                                 \
    X(QUEUE_BYTES, "redis_queue_bytes", NULL,                                                      \
      "Publishes that Redis has not answered, or that wait to be sent.", STATS_GAUGE)              \
    X(CANARY_NS, "redis_canary_seconds", NULL,                                                     \
      "The way of the last canary out to Redis and back, summed over the pairs.", STATS_GAUGE)     \
    X(PUBLISHED, "redis_published_total", NULL, "Messages given to a connection to Redis.",        \
      STATS_COUNTER)                                                                               \
    X(TAKEN, "redis_taken_total", NULL, "Messages that Redis has taken.", STATS_COUNTER)           \
    X(RECEIVED, "redis_received_total", NULL, "Messages of rooms received from Redis.",            \
      STATS_COUNTER)                                                                               \
    X(OWN_COPIES, "redis_own_copies_total", NULL,                                                  \
      "Of them the node's own, skipped because they were delivered before (order local).",         \
      STATS_COUNTER)                                                                               \
    X(STALE, "redis_stale_total", NULL, "Of them for rooms without members here.", STATS_COUNTER)  \
    X(REPEATED, "redis_repeated_total", NULL,                                                      \
      "Of them seen before, or older than one that was: skipped.", STATS_COUNTER)                  \
    X(FOREIGN, "redis_foreign_total", "reason=\"no_header\"",                                      \
      "Messages in channels of rooms that are none of a node, skipped.", STATS_COUNTER)            \
    X(FOREIGN_VERSION, "redis_foreign_total", "reason=\"version\"", "", STATS_COUNTER)             \
    X(FOREIGN_BROKEN, "redis_foreign_total", "reason=\"broken\"", "", STATS_COUNTER)               \
    X(FOREIGN_TOO_BIG, "redis_foreign_total", "reason=\"too_big\"", "", STATS_COUNTER)             \
    X(LOCAL_ONLY, "redis_local_only_total", NULL,                                                  \
      "Messages that went to this node's members alone, because Redis was away.", STATS_COUNTER)   \
    X(UNKNOWN, "redis_unknown_total", NULL,                                                        \
      "Messages that were sent when the connection ended without an answer: delivered if they "    \
      "come back.",                                                                                \
      STATS_COUNTER)                                                                               \
    X(REFUSED, "redis_refused_total", NULL,                                                        \
      "Messages dropped because Redis was away and --engine-down is refuse.", STATS_COUNTER)       \
    X(JOINS_REFUSED, "redis_joins_refused_total", NULL,                                            \
      "Times a room was closed to who came because Redis was away and --engine-down is refuse.",   \
      STATS_COUNTER)                                                                               \
    X(JOINED_ALONE, "redis_joined_alone_total", NULL,                                              \
      "Rooms entered without Redis' confirmation, which did not come in time.", STATS_COUNTER)     \
    X(DROPPED, "redis_dropped_total", NULL, "Messages dropped because --redis-queue was full.",    \
      STATS_COUNTER)                                                                               \
    X(GAPS, "redis_gaps_total", NULL, "Gaps seen in the numbers of a node's messages.",            \
      STATS_COUNTER)                                                                               \
    X(LOST, "redis_lost_total", NULL,                                                              \
      "Messages missing in those gaps: published somewhere and never come here.", STATS_COUNTER)   \
    X(LOST_MEMORY, "redis_lost_for_memory_total", NULL,                                            \
      "Messages from Redis that there was no memory for.", STATS_COUNTER)                          \
    X(CANARIES_SENT, "redis_canaries_sent_total", NULL, "Canaries sent.", STATS_COUNTER)           \
    X(CANARIES_RETURNED, "redis_canaries_returned_total", NULL, "Canaries that came back.",        \
      STATS_COUNTER)                                                                               \
    X(SILENT_PUBLISHERS, "redis_silent_total", "link=\"publish\"",                                 \
      "Connections reopened because they were silent.", STATS_COUNTER)                             \
    X(SILENT_SUBSCRIBERS, "redis_silent_total", "link=\"subscribe\"", "", STATS_COUNTER)           \
    X(MASTERS, "redis_masters_total", NULL,                                                        \
      "Masters that Sentinels have named: the first ones, and one more for each failover.",        \
      STATS_COUNTER)                                                                               \
    X(SENTINELS_USELESS, "redis_sentinel_failures_total", NULL,                                    \
      "Sentinels that did not answer, or did not know the master.", STATS_COUNTER)                 \
    X(CLUSTER_MAPS, "redis_cluster_maps_total", NULL,                                              \
      "Maps of a cluster's slots: the first ones, and one more for each change that was noticed.", \
      STATS_COUNTER)                                                                               \
    X(CLUSTER_MASTERS, "redis_cluster_masters_total", NULL,                                        \
      "Masters of a cluster that a pair of connections was made for.", STATS_COUNTER)              \
    X(CLUSTER_FAILURES, "redis_cluster_failures_total", NULL,                                      \
      "Nodes of a cluster that did not tell the map of its slots, or one that masters deny.",      \
      STATS_COUNTER)                                                                               \
    X(CLUSTER_DOUBTS, "redis_cluster_doubts_total", NULL,                                          \
      "Nodes of a cluster left for the next one, as a master of their map was away, or none.",     \
      STATS_COUNTER)                                                                               \
    X(CLUSTER_UNCOVERED, "redis_cluster_slots_uncovered", NULL,                                    \
      "Slots of a cluster without a master, summed over the shards.", STATS_GAUGE)                 \
    X(ROOMS_ENDED, "redis_rooms_ended_total", NULL,                                                \
      "Rooms whose subscription a master has ended because their slot is another's.",              \
      STATS_COUNTER)                                                                               \
    X(ROOMS_MOVED, "redis_rooms_moved_total", NULL,                                                \
      "Rooms that went to another server of their cluster.", STATS_COUNTER)                        \
    X(SENT_BACK, "redis_sent_back_total", NULL,                                                    \
      "Messages that a master has not taken because their slot is another's, kept to be sent "     \
      "there.",                                                                                    \
      STATS_COUNTER)                                                                               \
    X(SENT_BYTES, "redis_sent_bytes_total", NULL, "Bytes sent to Redis.", STATS_COUNTER)           \
    X(RECEIVED_BYTES, "redis_received_bytes_total", NULL, "Bytes received from Redis.",            \
      STATS_COUNTER)                                                                               \
    X(CONNECTS, "redis_connects_total", NULL, "Connections to Redis made.", STATS_COUNTER)         \
    X(TLS_HANDSHAKES, "redis_tls_handshakes_total", NULL,                                          \
      "TLS handshakes with Redis that came to an end.", STATS_COUNTER)

enum redis_stat {
#define X(id, name, labels, help, kind) REDIS_STAT_##id,
    REDIS_STATS(X)
#undef X
    /* One row per enum redis_down, then one per enum redis_error. */
    REDIS_STAT_DOWNS,
    REDIS_STAT_ERRORS = REDIS_STAT_DOWNS + REDIS_DOWN_COUNT,
    REDIS_STAT_COUNT = REDIS_STAT_ERRORS + REDIS_ERROR_COUNT,
};

extern const struct stats_desc redis_stat_descs[REDIS_STAT_COUNT];

#endif
