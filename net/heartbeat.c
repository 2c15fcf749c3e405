/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The sweep that pings silent connections. On the shard's thread. */

#include "net/heartbeat.h"

#include "net/conn.h"

/* The whole table is walked in 1/16 of the interval, in parts of 1/8 of the table: a ping is late
 * by 1/16 of the interval at most, the jitter adds as much. */
#define PASSES_PER_INTERVAL 16
#define PARTS_PER_PASS 8

static bool is_due(const struct conn *c, uint32_t now, uint64_t interval_ns)
{
    uint32_t last = c->pong_misses > 0 ? c->ping_at : c->heard;
    uint64_t silent_ns = (uint64_t)(now - last) << CONN_TICK_SHIFT;

    return silent_ns >= interval_ns + interval_ns / PASSES_PER_INTERVAL * c->jitter / 256;
}

static void visit(struct conn *c, uint32_t now, uint64_t interval_ns)
{
    if (c->state == CONN_OPEN && !(c->flags & CONN_F_PING_OUT) && c->holds == 0 &&
        is_due(c, now, interval_ns))
        conn_ping(c);
}

uint64_t heartbeat_sweep(struct net *n, uint64_t now_ns)
{
    uint64_t interval_ns = n->config->ping_interval_ns;
    uint32_t visits = n->conns.used / PARTS_PER_PASS + 1;

    if (interval_ns == 0 || n->conns.used == 0)
        return IO_FOREVER;
    if (now_ns < n->sweep_next_ns)
        return n->sweep_next_ns;
    n->sweep_next_ns = now_ns + interval_ns / (PASSES_PER_INTERVAL * PARTS_PER_PASS) + 1;
    for (uint32_t i = 0; i < visits; i++) {
        struct conn *c = pool_next(&n->conns, &n->sweep_cursor);

        if (c == NULL) {
            n->sweep_cursor = 0;
            break;
        }
        visit(c, CONN_TICKS(now_ns), interval_ns);
    }
    return n->sweep_next_ns;
}
