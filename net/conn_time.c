/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The one timer of a connection: its deadline, and the pong it waits for. On the shard's thread. */

#include "net/conn.h"

static uint64_t ticks_to_ns(const struct conn *c, uint32_t tick)
{
    uint64_t now_ns = c->net->io->now_ns;
    int64_t diff = (int32_t)(tick - CONN_TICKS(now_ns));

    return now_ns + (uint64_t)(diff * (1 << CONN_TICK_SHIFT));
}

void conn_rearm(struct conn *c)
{
    uint64_t at_ns = IO_FOREVER;

    if (c->deadline != 0)
        at_ns = ticks_to_ns(c, c->deadline);
    if (c->flags & CONN_F_PING_OUT)
        at_ns = min_u64(at_ns, ticks_to_ns(c, c->ping_at) + c->net->config->pong_timeout_ns);
    if (at_ns == IO_FOREVER)
        wheel_disarm(&c->net->wheel, &c->timer);
    else
        wheel_arm(&c->net->wheel, &c->timer, at_ns);
}

void conn_set_deadline(struct conn *c, uint64_t from_now_ns)
{
    c->deadline = from_now_ns == 0 ? 0 : CONN_TICKS(c->net->io->now_ns + from_now_ns);
    c->deadline += from_now_ns != 0 && c->deadline == 0; /* 0 means none */
    conn_rearm(c);
}

void conn_clear_deadline(struct conn *c)
{
    c->deadline = 0;
    conn_rearm(c);
}

void conn_ping(struct conn *c)
{
    struct net *n = c->net;

    if (!sendq_push(&c->sendq, &n->chunks, n->ping, 0, n->ping->len))
        return; /* no memory: the next sweep tries again */
    n->queue_bytes += n->ping->len;
    conn_mark_dirty(c);
    c->flags |= CONN_F_PING_OUT;
    c->ping_at = CONN_TICKS(n->io->now_ns);
    net_stat(n, NET_STAT_PINGS_OUT);
    conn_rearm(c);
}

static void pong_missed(struct conn *c)
{
    c->flags &= (uint16_t)~CONN_F_PING_OUT;
    c->flags |= CONN_F_PING_MISSED;
    net_stat(c->net, NET_STAT_PONG_MISSES);
    if (++c->pong_misses >= c->net->config->pong_misses)
        conn_end(c, CONN_END_NO_PONG);
}

/* A shard that lags may not have read the pong yet, and of one that is held it reads nothing: it
 * waits once more instead of judging. */
static void check_pong(struct conn *c, uint32_t now)
{
    if (c->net->shard->lag_ns > SHARD_LAG_NS || c->holds != 0)
        c->ping_at = now;
    else
        pong_missed(c);
}

static void deadline_passed(struct conn *c)
{
    switch (c->state) {
    case CONN_PROXY:
    case CONN_TLS:
    case CONN_HEAD:
        conn_http_timeout(c);
        return;
    case CONN_OPEN:
        if (c->holds != 0) /* we are who waits */
            conn_set_deadline(c, c->net->config->message_timeout_ns);
        else
            conn_end(c, CONN_END_MESSAGE_TIMEOUT);
        return;
    case CONN_ENDING:
    case CONN_GONE:
        return;
    default:
        conn_close_now(c, c->state == CONN_FLUSHING);
    }
}

void conn_timer_fired(struct conn *c, uint64_t now_ns)
{
    uint32_t now = CONN_TICKS(now_ns);

    if (c->deadline != 0 && (int32_t)(now - c->deadline) >= 0) {
        c->deadline = 0;
        deadline_passed(c);
    }
    if ((c->flags & CONN_F_PING_OUT) && c->state == CONN_OPEN &&
        ticks_to_ns(c, c->ping_at) + c->net->config->pong_timeout_ns <= now_ns)
        check_pong(c, now);
    if (c->state != CONN_GONE)
        conn_rearm(c);
}
