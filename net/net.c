/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The transport module of a shard: listeners, turns, heartbeats, drain, bounds of the node. On the
 * shard's thread, except net_init() and net_deinit(). */

#include "net/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "net/conn.h"
#include "net/conn_rx.h"
#include "net/conn_tls.h"
#include "net/heartbeat.h"
#include "net/inflate.h"
#include "net/net_settings.h"
#include "net/ws_encoder.h"

/* Width of a timer slot. Deadlines are late by one at most. */
#define WHEEL_TICK_NS (10 * NS_PER_MS)

enum net_item {
    NET_ITEM_SOCKET =
        SHARD_KIND(SHARD_MODULE_NET, 1), /* a: ticket; b, c: address; ptr: port, family, kind */
    /* 16 and up: net/admission.c */
};

static const char answer_503[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Retry-After: 5\r\n"
                                 "Content-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";

const struct stats_desc net_stat_descs[NET_STAT_COUNT] = {
#define X(id, name, labels, help, kind) [NET_STAT_##id] = {"tidewire_" name, labels, help, kind, 0},
    NET_STATS(X)
#undef X
#define X(id, label)                                                                               \
    [NET_STAT_TLS_FAILURES + TLS_FAILURE_##                                                        \
        id] = {"tidewire_tls_handshake_failures_total", "reason=\"" label "\"",                    \
               "Handshakes that failed, by reason.", STATS_COUNTER, 0},
        TLS_FAILURES(X)
#undef X
#define X(id, alert, label, text)                                                                  \
    [NET_STAT_TLS_REASONS + TLS_REASON_##                                                          \
        id] = {"tidewire_tls_record_failures_total", "reason=\"" label "\"",                       \
               "Connections ended by a record, by reason.", STATS_COUNTER, 0},
            TLS_RECORD_REASONS(X)
#undef X
#define X(id, label)                                                                               \
    [NET_STAT_KTLS_FALLBACKS + CONN_KTLS_FALLBACK_##                                               \
        id] = {"tidewire_tls_kernel_fallbacks_total", "reason=\"" label "\"",                      \
               "TLS connections sealed here although --ktls auto was given, by reason.",           \
               STATS_COUNTER, 0},
                CONN_KTLS_FALLBACKS(X)
#undef X
#define X(id, label, code, how, text)                                                              \
    [NET_STAT_ENDS + CONN_END_##id] = {"tidewire_connections_closed_total",                        \
                                       "reason=\"" label "\"", "Connections ended, by reason.",    \
                                       STATS_COUNTER, 0},
                    CONN_ENDS(X)
#undef X
};

_Static_assert(TLS_FAILURE_COUNT == NET_STAT_TLS_REASONS - NET_STAT_TLS_FAILURES,
               "a counter for every failure");
_Static_assert(TLS_REASON_COUNT == NET_STAT_KTLS_FALLBACKS - NET_STAT_TLS_REASONS,
               "a counter for every reason");
_Static_assert(CONN_KTLS_FALLBACK_COUNT == NET_STAT_ENDS - NET_STAT_KTLS_FALLBACKS,
               "a counter for every reason");
_Static_assert(CONN_END_COUNT == NET_STAT_COUNT - NET_STAT_ENDS, "a counter for every reason");

/* Listeners --------------------------------------------------------------------------------------
 */

static void update_accept_mode(struct net *n)
{
    bool tickets = n->conns.used >= n->shard_max + NET_REFUSALS_MAX / 2;

    if (likely(tickets == n->tickets))
        return;
    n->tickets = tickets;
    for (uint32_t i = 0; i < n->listener_count; i++) {
        /* The admin address is served by the rest of the table: a full node must be observable. */
        if (n->listeners[i].io.io != NULL && n->listeners[i].kind != NET_LISTENER_ADMIN)
            io_accept_mode(n->io, &n->listeners[i].io,
                           tickets ? IO_ACCEPT_TICKETS : IO_ACCEPT_CONNS);
    }
}

static struct io_conn *on_accept(struct io_listener *io, const struct io_addr *peer)
{
    struct net_listener *l = container_of(io, struct net_listener, io);
    struct net *n = l->net;
    struct conn *c = conn_new(n, (enum net_listener_kind)l->kind, peer);

    if (c == NULL)
        return NULL; /* it comes back as a ticket */
    net_stat(n, NET_STAT_ACCEPTED);
    conn_begin(c);
    return &c->io;
}

/* The shard with most room below its maximum, or our own index when none has any. */
static uint32_t shard_with_room(struct net *n)
{
    uint32_t best = n->shard->idx;
    uint64_t best_room = 0;

    for (uint32_t i = 0; i < n->shard->node->shard_count; i++) {
        struct net *other = n->shared->nets[i];
        uint64_t used = stats_get(&other->stats[NET_STAT_CONNECTIONS]);
        uint64_t room = used < other->shard_max ? other->shard_max - used : 0;

        if (i != n->shard->idx && room > best_room) {
            best_room = room;
            best = i;
        }
    }
    return best;
}

/* A TLS client could not read an answer: it sees the end. */
static void turn_away(struct net *n, enum net_listener_kind kind, struct io_ticket t)
{
    net_stat(n, NET_STAT_TURNED_AWAY);
    if (kind == NET_LISTENER_TLS)
        io_discard(n->io, t, NULL, 0);
    else
        io_discard(n->io, t, answer_503, sizeof(answer_503) - 1);
}

/* Whether a ticket comes because this shard is full. Else on_accept() had no memory, and neither
 * has another shard: memory is the process's. */
static bool is_full(const struct net *n)
{
    return n->tickets || n->io->conn_count >= n->io->conns_max;
}

static void on_ticket(struct io_listener *io, struct io_ticket t, const struct io_addr *peer)
{
    struct net_listener *l = container_of(io, struct net_listener, io);
    struct net *n = l->net;
    bool may_go = l->kind != NET_LISTENER_ADMIN && is_full(n);
    uint32_t to = may_go ? shard_with_room(n) : n->shard->idx;
    struct ring_item item = {.kind = NET_ITEM_SOCKET, .a = (uint32_t)t.fd};

    net_stat(n, NET_STAT_ACCEPTED);
    if (to == n->shard->idx) {
        turn_away(n, (enum net_listener_kind)l->kind, t);
        return;
    }
    memcpy(&item.b, peer->ip, 8);
    memcpy(&item.c, peer->ip + 8, 8);
    item.ptr =
        (void *)((uintptr_t)peer->port | (uintptr_t)peer->family << 16 | (uintptr_t)l->kind << 24);
    shard_post(n->shard, to, &item, 0);
    net_stat(n, NET_STAT_HANDED_OVER);
}

static void adopt_socket(struct net *n, const struct ring_item *item)
{
    struct io_ticket t = {(int32_t)item->a};
    enum net_listener_kind kind = (enum net_listener_kind)((uintptr_t)item->ptr >> 24);
    struct io_addr peer = {.port = (uint16_t)(uintptr_t)item->ptr,
                           .family = (uint8_t)((uintptr_t)item->ptr >> 16)};
    struct conn *c;

    memcpy(peer.ip, &item->b, 8);
    memcpy(peer.ip + 8, &item->c, 8);
    c = n->shard->phase == NODE_STOPPING ? NULL : conn_new(n, kind, &peer);
    if (c == NULL || io_adopt(n->io, &c->io, t) != 0) {
        if (c != NULL)
            conn_discard(c);
        turn_away(n, kind, t);
        return;
    }
    net_stat(n, NET_STAT_ADOPTED);
    conn_begin(c);
}

static const struct io_listener_events listener_events = {
    .on_accept = on_accept,
    .on_ticket = on_ticket,
};

int net_listen(struct net *n, int fd, enum net_listener_kind kind)
{
    struct net_listener *l = &n->listeners[n->listener_count];
    int err;

    CHECK(n->listener_count < NET_LISTENERS_MAX);
    *l = (struct net_listener){.io = {.events = &listener_events}, .net = n, .kind = (uint8_t)kind};
    err = io_listen(n->io, &l->io, fd);
    if (err == 0)
        n->listener_count++;
    return err;
}

static void stop_listening(struct net *n, bool admin_too)
{
    for (uint32_t i = 0; i < n->listener_count; i++) {
        if ((admin_too || n->listeners[i].kind != NET_LISTENER_ADMIN) &&
            n->listeners[i].io.io != NULL) {
            io_unlisten(n->io, &n->listeners[i].io);
            n->listeners[i].io.io = NULL;
        }
    }
}

/* Bounds of the node -----------------------------------------------------------------------------
 */

bool net_over_bound(struct net *n, enum net_stat gauge, uint64_t own, uint64_t bound)
{
    uint32_t shards = n->shard->node->shard_count;
    uint64_t sum = own;

    if (likely(bound == 0 || own <= bound / shards))
        return false;
    for (uint32_t i = 0; i < shards; i++) {
        if (i != n->shard->idx)
            sum += stats_get(&n->shared->nets[i]->stats[gauge]);
    }
    return sum > bound;
}

static uint64_t assembly_of(const struct conn *c)
{
    return c->rx == NULL ? 0 : c->rx->charged;
}

static uint64_t queue_of(const struct conn *c)
{
    return c->sendq.bytes + (uint64_t)c->sendq.refs * SENDQ_REF_COST;
}

/* Counted by chunks, so to the next multiple of 15 for each queue. */
static uint64_t queues_cost(const struct net *n)
{
    return n->queue_bytes + (uint64_t)n->chunks.used * SENDQ_CHUNK_REFS * SENDQ_REF_COST;
}

static uint64_t assemblies_cost(const struct net *n)
{
    return n->assembly_bytes;
}

static struct conn *end_largest(struct net *n, uint64_t (*size_of)(const struct conn *),
                                enum conn_end why)
{
    struct conn *largest = NULL;
    struct conn *c;
    uint32_t i = 0;

    while ((c = pool_next(&n->conns, &i)) != NULL) {
        if (c->state < CONN_ENDING && (largest == NULL || size_of(c) > size_of(largest)))
            largest = c;
    }
    if (largest == NULL || size_of(largest) == 0)
        return NULL;
    conn_end(largest, why);
    return largest;
}

struct conn *net_end_largest_assembly(struct net *n)
{
    return end_largest(n, assembly_of, CONN_END_ASSEMBLY_MEMORY);
}

/* Turns ------------------------------------------------------------------------------------------
 */

static void fire_timer(void *ctx, struct wheel_timer *t)
{
    struct net *n = ctx;

    conn_timer_fired(container_of(t, struct conn, timer), n->io->now_ns);
}

static void resume_all(struct net *n)
{
    struct conn *c = n->resume;

    n->resume = NULL;
    while (c != NULL) {
        struct conn *next = c->next_resume;

        c->flags &= (uint16_t)~CONN_F_RESUME;
        conn_resume(c);
        c = next;
    }
}

/* A begun request is answered; an idle connection is only closed, nobody waits there. */
static void drain_http(struct conn *c)
{
    bool is_begun = c->state == CONN_HEAD && c->rx != NULL && c->rx->head_len > 0;

    if (is_begun && c->refuse == CONN_END_NONE)
        c->refuse = CONN_END_DRAIN;
    if (c->refuse != CONN_END_NONE)
        conn_http_timeout(c);
    else
        conn_end(c, CONN_END_DRAIN);
}

/* While draining, as many are asked to go as the share of --drain-time that has passed; a whole
 * pass in the order of the pool. */
#define DRAIN_STEP_NS (20 * NS_PER_MS)

static uint64_t drain_some(struct net *n, uint64_t now_ns)
{
    uint64_t passed = now_ns - n->drain_started_ns;
    uint64_t due = n->config->drain_time_ns <= passed
                       ? UINT32_MAX
                       : n->drain_total * passed / n->config->drain_time_ns;

    while (n->drain_closed < due) {
        struct conn *c = pool_next(&n->conns, &n->drain_cursor);

        if (c == NULL)
            break;
        n->drain_closed++;
        if (c->flags & CONN_F_ADMIN) /* served to the end: readiness is asked for there */
            continue;
        if (c->state == CONN_OPEN)
            conn_end(c, CONN_END_DRAIN);
        else if (c->state < CONN_OPEN && sendq_is_empty(&c->sendq))
            drain_http(c);
    }
    if (due == UINT32_MAX)
        n->drain_cursor = 0; /* whoever slipped in behind the cursor: look again */
    return n->conns.used == 0 ? IO_FOREVER : now_ns + DRAIN_STEP_NS;
}

static uint64_t on_turn(void *ctx, uint64_t now_ns)
{
    struct net *n = ctx;
    uint64_t next_ns = IO_FOREVER;

    net_settings_look(n);
    wheel_advance(&n->wheel, now_ns, fire_timer, n);
    next_ns = min_u64(next_ns, heartbeat_sweep(n, now_ns));
    if (unlikely(n->inflating != NULL))
        inflate_turn(n);
    if (n->resume != NULL)
        resume_all(n);
    if (n->tls != NULL)
        next_ns = min_u64(next_ns, conn_shake_turn(n, now_ns));
    if (unlikely(n->draining))
        next_ns = min_u64(next_ns, drain_some(n, now_ns));
    next_ns = min_u64(next_ns, admission_sweep(n, now_ns));
    update_accept_mode(n);
    next_ns = min_u64(next_ns, wheel_next_ns(&n->wheel));
    return n->resume != NULL || n->inflating != NULL ? now_ns : next_ns;
}

static void on_quiet(void *ctx)
{
    struct net *n = ctx;

    pool_trim(&n->conns);
    pool_trim(&n->rxs);
    pool_trim(&n->chunks);
    pool_trim(&n->admission.entries);
    if (n->tls != NULL)
        conn_tls_quiet(n);
}

/* The other shards look at these when they are over their share. */
static inline void tell_bounds(struct net *n)
{
    stats_set(&n->stats[NET_STAT_QUEUE_BYTES], n->queue_bytes);
    stats_set(&n->stats[NET_STAT_QUEUE_COST], queues_cost(n));
    stats_set(&n->stats[NET_STAT_ASSEMBLY_BYTES], n->assembly_bytes);
}

static void on_publish(void *ctx)
{
    struct net *n = ctx;
    const struct {
        const struct pool *pool;
        enum net_stat bytes, failed;
    } rows[] = {
        {&n->conns, NET_STAT_CONN_POOL_BYTES, NET_STAT_CONN_POOL_FAILED},
        {&n->rxs, NET_STAT_RX_POOL_BYTES, NET_STAT_RX_POOL_FAILED},
        {&n->chunks, NET_STAT_CHUNK_POOL_BYTES, NET_STAT_CHUNK_POOL_FAILED},
        {&n->admission.entries, NET_STAT_ADDRESS_POOL_BYTES, NET_STAT_ADDRESS_POOL_FAILED},
    };

    tell_bounds(n);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        stats_set(&n->stats[rows[i].bytes], pool_mapped_bytes(rows[i].pool));
        stats_set(&n->stats[rows[i].failed], rows[i].pool->failures);
    }
    stats_set(&n->stats[NET_STAT_ADDRESSES], n->admission.addresses.count);
    stats_set(&n->stats[NET_STAT_DEFLATE_BYTES],
              n->deflate == NULL ? 0 : deflate_memory_bytes(n->deflate));
    stats_set(&n->stats[NET_STAT_REFUSING], n->refusals);
    if (n->tls != NULL)
        conn_tls_publish(n);
}

static void finish_ending(struct net *n)
{
    while (n->ending != NULL) {
        struct conn *c = n->ending;

        n->ending = c->next_ending;
        conn_finish(c);
    }
}

static void flush_dirty(struct net *n)
{
    struct conn *c = n->dirty;

    n->dirty = NULL;
    while (c != NULL) {
        struct conn *next = c->next_dirty;

        __builtin_prefetch(next);
        c->flags &= (uint16_t)~CONN_F_DIRTY;
        if (unlikely(c->flags & CONN_F_TLS_OPEN))
            conn_tls_flush(c);
        else
            conn_flush(c);
        c = next;
    }
}

/* One turn may take much for many: as many go as it takes, but each is a walk over the table. */
#define BOUND_ENDED_MAX 4

/* The node is over one of its bounds, perhaps by what other shards have taken meanwhile: a shard
 * that is over its share gives. `own` is this shard's part, which ending connections lowers. */
static void keep_bound(struct net *n, enum net_stat gauge, uint64_t (*own)(const struct net *),
                       uint64_t bound, uint64_t (*size_of)(const struct conn *), enum conn_end why)
{
    for (int i = 0; net_over_bound(n, gauge, own(n), bound); i++) {
        if (i == BOUND_ENDED_MAX) {
            n->shard->next_turn_ns = 0;
            return;
        }
        if (end_largest(n, size_of, why) == NULL)
            return;
        finish_ending(n);
    }
}

static void keep_bounds(struct net *n)
{
    keep_bound(n, NET_STAT_QUEUE_COST, queues_cost, n->config->queue_memory_bytes, queue_of,
               CONN_END_QUEUE_MEMORY);
    keep_bound(n, NET_STAT_ASSEMBLY_BYTES, assemblies_cost, n->config->assembly_memory_bytes,
               assembly_of, CONN_END_ASSEMBLY_MEMORY);
}

static void on_flush(void *ctx)
{
    struct net *n = ctx;

    n->flush_again = false;
    finish_ending(n);
    flush_dirty(n);
    if (unlikely(n->ending != NULL))
        finish_ending(n);
    keep_bounds(n);
    tell_bounds(n);
    n->work_left = n->turn_work;
    if (unlikely(n->flush_again || n->resume != NULL || n->dirty != NULL || conn_shake_is_due(n)))
        n->shard->next_turn_ns = 0;
}

static void begin_drain(struct net *n)
{
    n->draining = true;
    n->drain_started_ns = n->io->now_ns;
    stop_listening(n, false);
    n->drain_total = n->conns.used;
}

/* Nobody is waited for any more. */
static void close_everything(struct net *n)
{
    struct conn *c;
    uint32_t i = 0;

    stop_listening(n, true);
    while ((c = pool_next(&n->conns, &i)) != NULL) {
        conn_end(c, CONN_END_DRAIN);
        if (c->state > CONN_ENDING)
            conn_close_now(c, false);
    }
    finish_ending(n);
    for (i = 0; (c = pool_next(&n->conns, &i)) != NULL;)
        conn_close_now(c, false);
}

static void on_phase(void *ctx, enum node_phase phase)
{
    if (phase == NODE_DRAINING)
        begin_drain(ctx);
    else if (phase == NODE_STOPPING)
        close_everything(ctx);
}

static bool is_done(void *ctx)
{
    struct net *n = ctx;
    struct conn *c;
    uint32_t i = 0;

    while ((c = pool_next(&n->conns, &i)) != NULL) {
        if (!(c->flags & CONN_F_ADMIN))
            return false;
    }
    return true;
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct net *n = ctx;

    if (item->kind == NET_ITEM_SOCKET)
        adopt_socket(n, item);
    else
        admission_on_item(n, from, item);
}

/* Begin and end ----------------------------------------------------------------------------------
 */

static int make_ping(struct net *n)
{
    struct message *m = message_new(&n->shard->messages, 2);

    if (m == NULL)
        return -ENOMEM;
    m->head_len = 0;
    m->payload_len = ws_encode_control(message_payload(m), WS_OP_PING, NULL, 0);
    n->ping = run_new(&n->shard->messages, m);
    return n->ping == NULL ? -ENOMEM : 0;
}

int net_init(struct net *n, struct shard *s, const struct net_config *config,
             struct net_shared *shared, const struct net_app *app, void *app_ctx)
{
    struct shard_module module = {.ctx = n,
                                  .on_item = on_item,
                                  .on_turn = on_turn,
                                  .on_flush = on_flush,
                                  .on_quiet = on_quiet,
                                  .on_publish = on_publish,
                                  .on_phase = on_phase,
                                  .is_done = is_done};
    int err;

    *n = (struct net){.shard = s, .io = s->io, .app = app, .app_ctx = app_ctx, .shared = shared};
    pool_init(&n->conns, "connections", sizeof(struct conn), NET_CONNS_MAX, 0);
    pool_init(&n->rxs, "receive_state", sizeof(struct conn_rx), 0, 0);
    pool_init(&n->chunks, "queue_chunks", sizeof(struct sendq_chunk), 0, 0);
    wheel_init(&n->wheel, WHEEL_TICK_NS, s->io->now_ns);
    n->on_message = app->on_message;
    n->turn_work = s->node->turn_budget_ns == 0
                       ? UINT64_MAX
                       : max_u64(s->node->turn_budget_ns / NS_PER_US * WORK_BYTES_PER_US, 1);
    n->work_left = n->turn_work;
    admission_init(n);
    n->shard_max = min_u32(s->io->conns_max, NET_CONNS_MAX);
    n->shard_max = n->shard_max > NET_REFUSALS_MAX ? n->shard_max - NET_REFUSALS_MAX : 1;
    shared->nets[s->idx] = n;
    atomic_store_explicit(&shared->config, config, memory_order_release);
    err = net_settings_take(n, config);
    if (err == 0)
        err = make_ping(n);
    if (err == 0 && shared->tls != NULL)
        err = conn_tls_init(n);
    if (err != 0) {
        net_deinit(n);
        return err;
    }
    if (s->node->stats != NULL)
        stats_register(s->node->stats, net_stat_descs, NET_STAT_COUNT, s->idx, n->stats);
    shard_set_module(s, SHARD_MODULE_NET, &module);
    return 0;
}

void net_leave(struct net *n)
{
    if (n->tls != NULL)
        conn_shake_leave(&n->tls->shake);
}

void net_deinit(struct net *n)
{
    struct conn *c;
    uint32_t i = 0;

    while ((c = pool_next(&n->conns, &i)) != NULL)
        conn_discard(c);
    conn_tls_deinit(n);
    if (n->ping != NULL)
        shard_run_unref(n->shard, n->ping);
    if (n->deflate != NULL)
        deflate_free(n->deflate);
    admission_deinit(n);
    pool_deinit(&n->chunks);
    pool_deinit(&n->rxs);
    pool_deinit(&n->conns);
    free(n->proxy_nets);
}
