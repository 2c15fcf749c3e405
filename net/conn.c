/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The life of a connection: accept, input, holds. On the shard's thread. */

#include "net/conn.h"

#include <string.h>
#include <sys/socket.h>

#include "core/plant.h"
#include "net/conn_rx.h"
#include "net/conn_shake.h"

/* Refused connections must have their answer within a second. */
#define REFUSAL_DEADLINE_NS NS_PER_SEC

static void on_recv(struct io_conn *io, struct bytes in);
static void on_eof(struct io_conn *io, int err);

static const struct io_events conn_events = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_sent = conn_on_sent,
    .on_closed = conn_on_closed,
};

/* Begin ------------------------------------------------------------------------------------------
 */

static bool needs_proxy_header(const struct net *n, const struct io_addr *peer)
{
    for (uint32_t i = 0; i < n->proxy_net_count; i++) {
        if (proxy_net_has(&n->proxy_nets[i], peer))
            return true;
    }
    return false;
}

static uint8_t state_after_proxy(const struct conn *c)
{
    return c->flags & CONN_F_TLS ? CONN_TLS : CONN_HEAD;
}

struct conn *conn_new(struct net *n, enum net_listener_kind kind, const struct io_addr *peer)
{
    struct conn *c = pool_acquire(&n->conns);

    if (c == NULL)
        return NULL;
    memset(c, 0, sizeof(*c));
    c->io.events = &conn_events;
    c->net = n;
    c->peer = *peer;
    c->jitter = (uint8_t)io_random(n->io);
    c->heard = CONN_TICKS(n->io->now_ns);
    c->flags = kind == NET_LISTENER_ADMIN ? CONN_F_ADMIN
               : kind == NET_LISTENER_TLS ? CONN_F_TLS
                                          : 0;
    c->state = kind != NET_LISTENER_ADMIN && needs_proxy_header(n, peer) ? CONN_PROXY
                                                                         : state_after_proxy(c);
    stats_inc(&n->stats[NET_STAT_CONNECTIONS]);
    return c;
}

static void refuse(struct conn *c, enum conn_end why)
{
    struct net *n = c->net;

    if (c->refuse != CONN_END_NONE)
        return;
    c->refuse = (uint8_t)why;
    c->flags |= CONN_F_REFUSAL;
    n->refusals++;
    if (c->flags & CONN_F_COUNTED) {
        c->flags &= (uint16_t)~CONN_F_COUNTED;
        atomic_fetch_sub_explicit(&n->shared->connections, 1, memory_order_relaxed);
    }
    conn_set_deadline(c, REFUSAL_DEADLINE_NS);
    if (n->refusals > NET_REFUSALS_MAX)
        conn_http_timeout(c);
}

uint64_t conn_connect_cost(const struct net *n)
{
    uint32_t per_second = n->config->connect_rate.per_second;

    return per_second == 0 ? 0 : NS_PER_SEC / per_second;
}

/* One bucket for the node: compare-and-swap on GCRA's one word, no lock. */
static bool connect_rate_passes(struct net *n)
{
    const struct option_rate *rate = &n->config->connect_rate;
    uint64_t cost_ns = conn_connect_cost(n);
    uint64_t old, tat;

    if (cost_ns == 0)
        return true;
    old = atomic_load_explicit(&n->shared->connect_tat, memory_order_relaxed);
    do {
        tat = old;
        if (!gcra_pass(&tat, n->io->now_ns, cost_ns, cost_ns * rate->burst))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&n->shared->connect_tat, &old, tat,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* Else one address that floods would leave nothing of the node's rate to all others. */
void conn_give_back_cost(struct net *n, uint64_t cost_ns)
{
    uint64_t old;

    if (cost_ns == 0 || cost_ns != conn_connect_cost(n)) /* another rate has begun anew */
        return;
    old = atomic_load_explicit(&n->shared->connect_tat, memory_order_relaxed);
    do {
        if (old < cost_ns)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&n->shared->connect_tat, &old, old - cost_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
}

static bool node_has_room(struct net *n)
{
    uint32_t before = atomic_fetch_add_explicit(&n->shared->connections, 1, memory_order_relaxed);

    if (before < n->shared->max_connections)
        return true;
    atomic_fetch_sub_explicit(&n->shared->connections, 1, memory_order_relaxed);
    return false;
}

/* Whether the node takes any connection now; whose it is may not be known yet (CONN_PROXY). */
static void check_node_limits(struct conn *c)
{
    struct net *n = c->net;

    if (!node_has_room(n)) {
        refuse(c, CONN_END_NODE_FULL);
        return;
    }
    c->flags |= CONN_F_COUNTED;
    if (!connect_rate_passes(n))
        refuse(c, CONN_END_CONNECT_RATE);
    else if (n->draining)
        refuse(c, CONN_END_DRAIN);
}

/* The peer's address is known: may it come in? */
static void check_address_limits(struct conn *c)
{
    struct net *n = c->net;

    if (c->refuse != CONN_END_NONE)
        return;
    if (admission_is_on(n) && (c->peer.family == AF_INET || c->peer.family == AF_INET6)) {
        /* No io_recv(): within on_accept the socket is not attached yet, and what comes is kept. */
        c->holds |= CONN_HOLD_ADMISSION;
        stats_inc(&n->stats[NET_STAT_HELD]);
        admission_ask(n, c);
    }
}

void conn_begin(struct conn *c)
{
    conn_set_deadline(c, c->net->config->handshake_timeout_ns);
    if (c->flags & CONN_F_ADMIN)
        return;
    check_node_limits(c);
    if (c->state != CONN_PROXY)
        check_address_limits(c);
}

void conn_admitted(struct conn *c, enum admission_verdict v)
{
    static const uint8_t refusals[] = {
        [ADMISSION_OK] = CONN_END_NONE,
        [ADMISSION_ADDRESS_FULL] = CONN_END_ADDRESS_FULL,
        [ADMISSION_ADDRESS_RATE] = CONN_END_ADDRESS_RATE,
        [ADMISSION_NO_MEMORY] = CONN_END_NO_MEMORY,
    };

    if (v == ADMISSION_OK)
        c->flags |= CONN_F_ADMITTED;
    else if (c->state < CONN_ENDING)
        refuse(c, refusals[v]);
    conn_unhold(c, CONN_HOLD_ADMISSION);
}

/* A PROXY header stands before everything else; its bytes are collected in rx->head when cut. */
static void proxy_input(struct conn *c, struct bytes *in)
{
    struct conn_rx *rx = conn_rx_get(c);
    size_t before, used;
    enum proxy_result r;

    if (rx == NULL)
        return;
    before = rx->head_len;
    used = min_size(in->len, PROXY_HEADER_MAX - before);
    if (!conn_rx_append(c, &rx->head, &rx->head_len, in->ptr, used, PROXY_HEADER_MAX))
        return;
    r = proxy_header_parse(message_payload(rx->head), rx->head_len, &used, &c->peer);
    if (r == PROXY_INVALID || (r == PROXY_MORE && rx->head_len == PROXY_HEADER_MAX)) {
        conn_end(c, CONN_END_PROXY_HEADER);
        return;
    }
    if (r == PROXY_MORE) {
        in->len = 0;
        return;
    }
    in->ptr += used - before;
    in->len -= used - before;
    conn_rx_drop(c, &rx->head);
    rx->head_len = 0;
    conn_rx_trim(c);
    c->state = state_after_proxy(c);
    check_address_limits(c);
}

/* Input ------------------------------------------------------------------------------------------
 */

void conn_feed(struct conn *c, struct bytes *in)
{
    while (in->len > 0 && c->holds == 0) {
        switch (c->state) {
        case CONN_OPEN:
        case CONN_CLOSING:
            conn_ws_input(c, in);
            break;
        case CONN_HEAD:
            conn_http_input(c, in);
            break;
        case CONN_TLS:
            conn_shake_input(c, in);
            break;
        case CONN_PROXY:
            proxy_input(c, in);
            break;
        default:
            in->len = 0;
        }
    }
}

/* Input that can't be used now is kept; it ends the connection when there is no memory for it. */
static void keep_rest(struct conn *c, const struct bytes *in)
{
    struct conn_rx *rx = conn_rx_get(c);

    io_recv(c->net->io, &c->io, false); /* one that waits for admission receives until here */
    if (rx == NULL)
        return;
    conn_rx_append(c, &rx->rest, &rx->rest_len, in->ptr, in->len, in->len);
}

/* Only where --byte-rate is on. */
static bool byte_rate_passes(struct conn *c, size_t len)
{
    const struct option_rate *rate = &c->net->config->byte_rate;

    return gcra_pass(&c->byte_tat, c->net->io->now_ns, len * NS_PER_SEC / rate->per_second,
                     rate->burst * NS_PER_SEC / rate->per_second);
}

/* Any byte is a sign of life: unanswered pings are forgiven. */
static void forgive_pings(struct conn *c)
{
    c->flags &= (uint16_t) ~(CONN_F_PING_OUT | CONN_F_PING_MISSED);
    c->pong_misses = 0;
    conn_rearm(c);
}

static inline void received(struct conn *c, size_t len)
{
    struct net *n = c->net;

    c->heard = CONN_TICKS(n->io->now_ns);
    stats_add(&n->stats[NET_STAT_RECV_BYTES], len);
    if (unlikely(c->flags & (CONN_F_PING_OUT | CONN_F_PING_MISSED)))
        forgive_pings(c);
    if (unlikely(n->byte_rate) && !byte_rate_passes(c, len))
        conn_end(c, CONN_END_BYTE_RATE);
}

static inline void input(struct conn *c, struct bytes in)
{
    if (unlikely(c->rx != NULL && (c->rx->rest != NULL || c->rx->parked != NULL))) {
        keep_rest(c, &in); /* behind what waits already */
        return;
    }
    if (likely(c->state == CONN_OPEN && c->holds == 0))
        conn_ws_input(c, &in);
    if (unlikely(in.len > 0))
        conn_feed(c, &in);
    if (unlikely(in.len > 0))
        keep_rest(c, &in);
}

static void on_recv(struct io_conn *io, struct bytes in)
{
    struct conn *c = conn_of(io);

    received(c, in.len);
    input(c, in);
}

void conn_received(struct conn *c, size_t len)
{
    received(c, len);
}

void conn_input(struct conn *c, struct bytes in)
{
    input(c, in);
}

/* The peer has ended its side, and all that it sent is served. */
static void end_of_input(struct conn *c)
{
    bool answering = c->state == CONN_HEAD && !sendq_is_empty(&c->sendq);

    conn_end(c, answering ? CONN_END_HTTP_DONE : CONN_END_PEER_EOF);
}

void conn_input_over(struct conn *c, int err)
{
    c->flags |= CONN_F_EOF;
    switch (c->state) {
    case CONN_FLUSHING:
        if (err != 0)
            conn_close_now(c, false);
        return;
    case CONN_CLOSING:
    case CONN_LINGER:
        conn_close_now(c, false);
        return;
    default:
        if (err != 0)
            conn_end(c, CONN_END_PEER_RESET);
        else if (c->holds == 0 && !(c->flags & CONN_F_RESUME) &&
                 !(c->state == CONN_TLS && conn_shake_has_input(c)))
            end_of_input(c);
        /* else what came before the end is served first: conn_resume(), conn_shake_turn() */
    }
}

static void on_eof(struct io_conn *io, int err)
{
    conn_input_over(conn_of(io), err);
}

/* Holds ------------------------------------------------------------------------------------------
 */

void conn_hold(struct conn *c, enum conn_hold why)
{
    if (c->holds == 0 && c->state < CONN_GONE) {
        io_recv(c->net->io, &c->io, false);
        net_stat(c->net, NET_STAT_HOLDS);
        stats_inc(&c->net->stats[NET_STAT_HELD]);
    }
    c->holds |= (uint8_t)why;
}

void conn_unhold(struct conn *c, enum conn_hold why)
{
    if ((c->holds & why) == 0)
        return;
    c->holds &= (uint8_t)~why;
    if ((why & CONN_HOLD_APP) && !sendq_is_empty(&c->sendq))
        conn_mark_dirty(c);
    if (c->holds != 0)
        return;
    stats_sub(&c->net->stats[NET_STAT_HELD], 1);
    if (c->state == CONN_GONE || (c->flags & CONN_F_RESUME))
        return;
    c->flags |= CONN_F_RESUME;
    c->next_resume = c->net->resume;
    c->net->resume = c;
}

/* Serves what was kept, then lets the socket speak again. */
void conn_resume(struct conn *c)
{
    struct conn_rx *rx;

    if (c->holds != 0 || c->state == CONN_GONE)
        return;
    if (c->rx != NULL && c->rx->parked != NULL && !conn_ws_offer_parked(c))
        return;
    rx = c->rx; /* offering may have given it back */
    if (rx != NULL && rx->rest != NULL) {
        struct bytes in = {message_payload(rx->rest) + rx->rest_off, rx->rest_len - rx->rest_off};

        conn_feed(c, &in);
        rx->rest_off = rx->rest_len - (uint32_t)in.len;
        if (in.len > 0 && c->state < CONN_ENDING)
            return;
        conn_rx_drop(c, &rx->rest);
        rx->rest_off = rx->rest_len = 0;
        conn_rx_trim(c);
    }
    if (c->holds != 0)
        return;
    if ((c->flags & CONN_F_EOF) && c->state < CONN_ENDING)
        end_of_input(c);
    else if (!PLANTED(PLANT_FORGET_REARM))
        io_recv(c->net->io, &c->io, true);
}
