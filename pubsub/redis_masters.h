/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_MASTERS_H
#define PUBSUB_REDIS_MASTERS_H

/* The masters of a Redis Cluster as one shard uses them: a pair of links (redis_server) for each
 * master that has slots, and a place for rooms whose slot has none. On the shard's thread.
 *
 *      a master gets its first slot   a pair is made; messages for it wait until it is up
 *      it has lost its last one       its pair leaves: when no room is there any more, at the
 *                                     latest after REDIS_MASTERS_LEAVE_NS
 *      a slot has another master      its rooms go there (redis_subs)
 *
 * A master that loses a slot ends the subscriptions of its channels unasked. So does one that has
 * become a replica; as that it would take messages on, in an order of its own. So a room that was
 * ended unasked goes nowhere until the map names another master. The map is asked for until it
 * does; if it does not within REDIS_MASTERS_TRUST_NS the pair is reopened, and the server says what
 * it is. */

#include "pubsub/redis_cluster.h"
#include "pubsub/redis_server.h"

#define REDIS_MASTERS_LEAVE_NS NS_PER_SEC
#define REDIS_MASTERS_TRUST_NS NS_PER_SEC
#define REDIS_MASTERS_HOP_NS (100 * NS_PER_MS)

struct redis_masters {
    struct engine_redis *engine;
    struct redis_cluster map;
    struct redis_link_config links;                 /* of the pairs, but for the endpoint */
    struct redis_server nowhere;                    /* never up: rooms without a master */
    struct redis_server *at[REDIS_SLOTS_NODES_MAX]; /* by index of map.slots.nodes; or NULL */
    bool is_covered;                                /* every slot has a master */
    bool has_changed;                               /* the map: rooms are looked at once a turn */
    bool lets_go;     /* rooms that redis_masters_hold() has held are being looked at */
    uint64_t hold_ns; /* until then; UINT64_MAX: none is held */
};

/* Begins to ask for the map. Of *links, role, endpoint and queue_bytes_max are not used. NULL
 * without memory. */
struct redis_masters *redis_masters_new(struct engine_redis *e, const struct redis_url *url,
                                        const struct redis_link_config *links);
/* After the pairs, which are the engine's servers. */
void redis_masters_free(struct redis_masters *m);
void redis_masters_stop(struct redis_masters *m);

/* Once a turn, before the servers' own, and at its end; returns when it wants the next. */
uint64_t redis_masters_turn(struct redis_masters *m, uint64_t now_ns);
void redis_masters_flush(struct redis_masters *m);

/* Where rooms with that slot belong now. */
struct redis_server *redis_masters_pick(struct redis_masters *m, uint32_t slot);

/* Slots that have no master, as far as is known. */
static inline uint32_t redis_masters_uncovered(const struct redis_masters *m)
{
    return REDIS_SLOT_COUNT - m->map.slots.covered;
}

/* A room of these masters has moved too often: whether it must wait until rooms are looked at
 * again, which is within REDIS_MASTERS_HOP_NS. */
bool redis_masters_hold(struct redis_masters *m);

/* An error of that server: if it is a MOVED the map is mended. Returns whether it was. */
bool redis_masters_moved(struct redis_server *s, const struct redis_reply *r);

/* What follows does nothing for a server that is in no cluster.
 *
 * Something does not fit the map: it is asked for at once. */
void redis_masters_doubt(struct redis_server *s);
/* It has ended a subscription in that slot unasked. */
void redis_masters_ended(struct redis_server *s, uint32_t slot);
/* A link of it has ended, or an attempt come to nothing. Who says that it is no master, or can't be
 * reached for long, is not what the map says: another node is asked for that. */
void redis_masters_down(struct redis_server *s, enum redis_down why, bool was_up);
/* Both links are up: it is a master. */
void redis_masters_affirm(struct redis_server *s);

#endif
