/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_ADMISSION_H
#define NET_ADMISSION_H

/* Limits per client address, exact over all shards and without locks: every address has a home
 * shard (seeded hash of the address) that alone counts it. A shard asks the home through the mesh
 * before it answers a connection; the connection is held meanwhile.
 *
 * IPv6 addresses count by their /64. Unix sockets have no address and are not limited. */

#include "core/io.h"
#include "core/map.h"
#include "core/pool.h"
#include "core/ring.h"

struct net;
struct conn;

enum admission_verdict {
    ADMISSION_OK,
    ADMISSION_ADDRESS_FULL, /* --max-connections-per-ip */
    ADMISSION_ADDRESS_RATE, /* --connect-rate-per-ip */
    ADMISSION_NO_MEMORY,
};

/* The home's side. */
struct admission {
    struct map addresses; /* of struct admission_entry */
    struct pool entries;
    struct admission_entry *idle_head; /* without connections: forgotten when rested */
    struct admission_entry *idle_tail;
};

/* Whether any limit per address is on. */
bool admission_is_on(const struct net *n);

void admission_init(struct net *n);
void admission_deinit(struct net *n);

/* Asks for c's peer address; answers by calling conn_admitted(), at once when this shard is the
 * home, else in a later turn. */
void admission_ask(struct net *n, struct conn *c);

/* An admitted connection has gone. */
void admission_leave(struct net *n, const struct io_addr *peer);

/* Mesh items of this module. */
void admission_on_item(struct net *n, uint32_t from, const struct ring_item *item);

/* Forgets rested addresses; a bounded number per call. Each turn. Returns when it wants the next
 * one. */
uint64_t admission_sweep(struct net *n, uint64_t now_ns);

/* Forgets what addresses have used of a rate that is another one now. */
void admission_forget_rates(struct net *n);

/* GCRA, the token bucket without a clock tick: whether one event of `cost` may pass at now_ns. *tat
 * is the state; interval_ns per unit, tolerance_ns = burst * interval. */
static inline bool gcra_pass(uint64_t *tat, uint64_t now_ns, uint64_t cost_ns,
                             uint64_t tolerance_ns)
{
    uint64_t t = *tat > now_ns ? *tat : now_ns;

    if (t + cost_ns > now_ns + tolerance_ns)
        return false;
    *tat = t + cost_ns;
    return true;
}

#endif
