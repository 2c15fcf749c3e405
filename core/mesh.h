/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_MESH_H
#define CORE_MESH_H

/* The lock-free rings by which shards talk: one ring for each ordered pair, made when first used.
 *
 *  - mesh_post() never fails, never waits and keeps the order of each pair: what finds no room in
 *    the ring goes to a backlog on the producer's side, and while that is not empty everything
 *    follows through it, first in, first out.
 *  - Posted items become visible at mesh_flush(), once per turn: one store per touched ring, one
 *    bit in the consumer's bitmap of non-empty rings, one doorbell per sleeping consumer.
 *  - A consumer that has drained a ring whose producer has a backlog wakes that producer, so a
 *    backlog needs no polling.
 *  - When the system has no memory for a backlog, a reserve of MESH_RESERVE_ITEMS posts serves;
 *    each flush tries to refill it. Meanwhile mesh_is_short() tells the shard to stop producing
 *    (pause receiving) and to wait only some milliseconds before the next flush: for a ring that
 *    could not be made nobody rings. Posting beyond the reserve ends the process.
 *  - Sleeping: mesh_may_sleep() announces it, then looks once more; whoever posts afterwards rings.
 */

#include "core/ring.h"

#define MESH_SHARDS_MAX 256
#define MESH_RESERVE_ITEMS 6400

struct mesh;      /* shared by all shards of the node */
struct mesh_port; /* one shard's end; belongs to that shard's thread */

struct mesh_config {
    uint32_t shards;     /* 1..MESH_SHARDS_MAX */
    uint32_t ring_slots; /* per ring, power of two; 0: 1024 */
    /* Ends the wait of shard `to`; called on shard `from`'s thread within
     * mesh_flush()/mesh_drain(). */
    void (*wake)(void *ctx, uint32_t from, uint32_t to);
    void *ctx;
};

/* Counters of one port, written by its shard; any thread may read them relaxed (see mesh_stats()).
 */
struct mesh_stats {
    uint64_t posted;
    uint64_t drained;
    uint64_t backlogged;      /* posts that went through a backlog */
    uint64_t backlog_items;   /* now */
    uint64_t backlog_bytes;   /* now: sum of the `bytes` given at post */
    uint64_t wakes;           /* doorbells rung */
    uint64_t rings;           /* rings made, of those this port produces into */
    uint64_t short_of_memory; /* times the reserve could not be refilled */
};

/* Makes the mesh and all ports; rings come later. 0 or -ENOMEM. Main, before the shards start. */
MUST_USE int mesh_new(const struct mesh_config *cfg, struct mesh **mesh);

/* All shards have stopped. What is still in rings and backlogs is handed to `drop` (may be NULL).
 */
void mesh_free(struct mesh *mesh, void (*drop)(void *ctx, const struct ring_item *item), void *ctx);

struct mesh_port *mesh_port(struct mesh *mesh, uint32_t shard);

/* Posts an item to another shard (to != own). `bytes` is what the item keeps alive, for the bound
 * on backlogs. */
void mesh_post(struct mesh_port *p, uint32_t to, const struct ring_item *item, uint32_t bytes);

/* Moves backlogs into rings as far as there is room, publishes, rings bells. */
void mesh_flush(struct mesh_port *p);

typedef void (*mesh_item_fn)(void *ctx, uint32_t from, const struct ring_item *item);

/* Hands over everything that was published when the call began, ring by ring; order within a ring
 * is kept. The callback may post. Returns how many items. */
uint32_t mesh_drain(struct mesh_port *p, mesh_item_fn fn, void *ctx);

/* Announces that the shard is about to wait, after a flush. True: it may; mesh_awake() when it is
 * back. False: something has come or can leave, it must not wait (and need not call mesh_awake()).
 * The bell must stick: one that rings between the return and the wait ends the wait. */
bool mesh_may_sleep(struct mesh_port *p);
void mesh_awake(struct mesh_port *p);

/* Bytes (see mesh_post) waiting in the backlog towards `to`. */
uint64_t mesh_backlog_bytes(const struct mesh_port *p, uint32_t to);

bool mesh_is_short(const struct mesh_port *p);

/* For other threads: load each field with __atomic_load_n(.., __ATOMIC_RELAXED). */
const struct mesh_stats *mesh_stats(const struct mesh_port *p);

#endif
