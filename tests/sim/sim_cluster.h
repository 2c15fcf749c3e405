/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_CLUSTER_H
#define TESTS_SIM_SIM_CLUSTER_H

/* Simulated Redis servers as a cluster: who has which slots, who knows it, and who takes over.
 *
 * A node serves the slots of its master, a replica does so too, as Redis 7.0 does for sharded
 * channels. What it is given it passes on to the others of its master: each of them hears that in
 * order, at its next turn; what a node has passed on and nobody has heard is gone when it is
 * stopped. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base.h"

struct sim_redis;
struct sim_bus_item;

#define SIM_CLUSTER_NODES_MAX 8
#define SIM_CLUSTER_SLOTS 16384

struct sim_cluster {
    struct sim_redis *nodes[SIM_CLUSTER_NODES_MAX];
    uint32_t count;
    uint8_t owner[SIM_CLUSTER_SLOTS]; /* index of nodes[]; SIM_CLUSTER_NODES_MAX: nobody */
    uint8_t told[SIM_CLUSTER_SLOTS];  /* what CLUSTER SLOTS says; see sim_cluster_tell() */
    uint8_t kept[SIM_CLUSTER_NODES_MAX][SIM_CLUSTER_SLOTS]; /* what who is cut off says */
    bool is_cut[SIM_CLUSTER_NODES_MAX];
    uint32_t master_of[SIM_CLUSTER_NODES_MAX]; /* of a replica; of a master itself */
    struct sim_bus_item *first, *last;         /* passed on, and not heard yet */
};

/* Slots are shared out evenly, in order, to nodes that are initialised; all are masters. */
void sim_cluster_init(struct sim_cluster *c, struct sim_redis *nodes, uint32_t count);

/* One more node, initialised: a replica of that master. */
void sim_cluster_add_replica(struct sim_cluster *c, struct sim_redis *r, uint32_t master);

static inline bool sim_cluster_is_master(const struct sim_cluster *c, uint32_t node)
{
    return c->master_of[node] == node;
}

/* The replica becomes the master in place of its own, which lives or not and is its replica from
 * now on; other replicas follow. Who has subscribed at the old one is told sunsubscribe. */
void sim_cluster_promote(struct sim_cluster *c, uint32_t replica);

/* The slot goes to another node, or to nobody: who had subscribed to a channel of it is told
 * sunsubscribe, and who asks the old one MOVED. CLUSTER SLOTS does not know before
 * sim_cluster_tell(). In sim_redis.c, whose connections these are. */
void sim_cluster_move(struct sim_cluster *c, uint32_t slot, uint32_t to);

void sim_cluster_tell(struct sim_cluster *c);

/* The node hears nothing of the others any more, or again: its CLUSTER SLOTS stays as it is. */
void sim_cluster_cut(struct sim_cluster *c, uint32_t node, bool on);

/* The slot of a channel, computed bit by bit. */
uint32_t sim_cluster_slot(const char *channel, size_t len);

/* For sim_redis: what the node knows of the slots; whether it serves one; what it is given to pass
 * on; what it hears, and whether that was anything; it is stopped. */
const uint8_t *sim_cluster_map(const struct sim_cluster *c, const struct sim_redis *r);
bool sim_cluster_serves(const struct sim_cluster *c, const struct sim_redis *r, uint32_t slot);
void sim_cluster_pass_on(struct sim_cluster *c, const struct sim_redis *from, struct bytes channel,
                         struct bytes payload);
bool sim_cluster_hear(struct sim_cluster *c, struct sim_redis *r);
void sim_cluster_forget(struct sim_cluster *c, const struct sim_redis *r);

#endif
