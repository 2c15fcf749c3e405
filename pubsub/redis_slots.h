/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SLOTS_H
#define PUBSUB_REDIS_SLOTS_H

/* Which master of a Redis Cluster carries a channel
 * (https://redis.io/docs/reference/cluster-spec/): a map from the 16,384 hash slots to masters,
 * read from CLUSTER SLOTS and mended by MOVED. One shard.
 *
 * A master keeps its index as long as the map exists, whether it has slots or not, so that what the
 * owner keeps for it (links) stays where it is; a place is used again when it has none. */

#include "pubsub/redis_reply.h"
#include "pubsub/redis_url.h"

#define REDIS_SLOT_COUNT 16384
#define REDIS_SLOT_NONE 0xff      /* no master: nobody has said so yet, or the cluster has a hole */
#define REDIS_SLOTS_NODES_MAX 128 /* masters, those without slots included */

struct redis_slots {
    uint8_t owner[REDIS_SLOT_COUNT]; /* index of nodes[], or REDIS_SLOT_NONE */
    struct redis_endpoint nodes[REDIS_SLOTS_NODES_MAX];
    uint16_t slot_counts[REDIS_SLOTS_NODES_MAX]; /* of each node; 0: it is none any more */
    uint32_t node_count;                         /* indexes in use, those with 0 slots included */
    uint32_t covered;                            /* slots that have an owner */
};

void redis_slots_init(struct redis_slots *s);

/* The slot of a channel: CRC16 (XMODEM) of the name, or of what stands between its first { and the
 * next }, if that is not empty. Any thread. */
uint32_t redis_slot_of(const void *channel, size_t len);

/* A number whose digits have a slot of that node as a channel's hash tag, the smallest one;
 * REDIS_SLOT_COUNT * 8 when the node has no slot. */
uint32_t redis_slots_tag(const struct redis_slots *s, uint32_t node);

/* Takes the answer to CLUSTER SLOTS from `asked`, whose address stands for one that is not told.
 * Returns 1 when the map is another one by that, 0 when it is as it was; -EINVAL: it is no such
 * answer; -ENOSPC: more than REDIS_SLOTS_NODES_MAX masters; -ENOMEM. After an error the map is as
 * it was. */
MUST_USE int redis_slots_read(struct redis_slots *s, const struct redis_reply *r,
                              const struct redis_endpoint *asked);

/* Takes an error "MOVED slot host:port" (or ASK, which changes nothing) from `asked`. Returns the
 * slot, -EINVAL or -ENOSPC. */
MUST_USE int redis_slots_moved(struct redis_slots *s, const char *text, size_t len,
                               const struct redis_endpoint *asked);

#endif
