/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The life of a connection: accept, input, holds, sending, end. On the shard's thread. */

#include "net/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/log.h"
#include "core/plant.h"
#include "net/conn_rx.h"
#include "net/conn_tls.h"
#include "net/inflate.h"
#include "net/ws_encoder.h"

/* How an end goes on after the close frame; see the table in conn.h. */
enum conn_how { CUT, LAST, WAIT, REPLY, SLOW, DEAD };

static const struct conn_end_row {
    uint16_t code;
    uint8_t how;
    const char *label;
    const char *text;
} end_rows[CONN_END_COUNT] = {
#define X(id, label, code, how, text) [CONN_END_##id] = {code, how, label, text},
    CONN_ENDS(X)
#undef X
};

/* Refused connections must have their answer within a second. */
#define REFUSAL_DEADLINE_NS NS_PER_SEC
static void on_recv(struct io_conn *io, struct bytes in);
static void on_eof(struct io_conn *io, int err);
static void on_sent(struct io_conn *io, int err);

static const struct io_events conn_events = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_closed = conn_on_closed,
};

uint16_t conn_end_code(enum conn_end why)
{
    return end_rows[why].code;
}

const char *conn_end_text(enum conn_end why)
{
    return end_rows[why].text;
}

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

/* One bucket for the node: compare-and-swap on GCRA's one word, no lock. */
static bool connect_rate_passes(struct net *n)
{
    const struct option_rate *rate = &n->config->connect_rate;
    uint64_t old, tat, cost_ns;

    if (rate->per_second == 0)
        return true;
    cost_ns = NS_PER_SEC / rate->per_second;
    old = atomic_load_explicit(&n->shared->connect_tat, memory_order_relaxed);
    do {
        tat = old;
        if (!gcra_pass(&tat, n->io->now_ns, cost_ns, cost_ns * rate->burst))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&n->shared->connect_tat, &old, tat,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
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

/* Output -----------------------------------------------------------------------------------------
 */

void conn_queue_failed(struct conn *c, enum conn_end why)
{
    conn_end(c, c->sendq.refs >= SENDQ_REFS_MAX ? CONN_END_SLOW_CONSUMER : why);
}

bool conn_queue_bytes(struct conn *c, const void *bytes, uint32_t len)
{
    struct net *n = c->net;
    struct message *m = message_new(&n->shard->messages, len);
    struct run *r;
    bool ok;

    if (m == NULL)
        return false;
    memcpy(message_payload(m), bytes, len);
    m->payload_len = len;
    m->head_len = 0;
    r = run_new(&n->shard->messages, m);
    if (r == NULL) {
        shard_message_release(n->shard, m);
        return false;
    }
    ok = sendq_push(&c->sendq, &n->chunks, r, 0, len);
    if (ok) {
        n->queue_bytes += len;
        conn_mark_dirty(c);
    }
    shard_run_unref(n->shard, r);
    return ok;
}

/* Whether the peer may still be sending: to close now could reset what it has not read yet. */
static bool must_linger(const struct conn *c)
{
    bool last = end_rows[c->end].how == LAST || !(c->flags & CONN_F_WS);

    return last && !(c->flags & CONN_F_EOF);
}

void conn_flushed(struct conn *c)
{
    if (c->state == CONN_FLUSHING) {
        if (!must_linger(c)) {
            conn_close_now(c, false);
            return;
        }
        io_shutdown(c->net->io, &c->io);
        c->state = CONN_LINGER;
        io_recv(c->net->io, &c->io, true);
    } else if (c->holds & CONN_HOLD_OUTPUT) {
        conn_unhold(c, CONN_HOLD_OUTPUT);
    }
}

void conn_send_failed(struct conn *c)
{
    c->net->queue_bytes -= sendq_drop(&c->sendq, c->net->shard, &c->net->chunks, true);
    c->flags |= CONN_F_BROKEN;
    if (c->state > CONN_ENDING)
        conn_close_now(c, false);
    else
        conn_end(c, CONN_END_SEND_ERROR);
}

/* Planted only: the front's run goes before its bytes are sent; the ping's stands in its place. */
static inline void unref_early(struct conn *c)
{
    struct sendq_ref *front = &c->sendq.first;

    shard_run_unref(c->net->shard, front->run);
    front->run = c->net->ping;
    run_ref(front->run);
}

/* The usual case: one reference waits, and leaves at once. */
static inline bool flush_single(struct conn *c)
{
    struct net *n = c->net;
    struct sendq_ref *ref = &c->sendq.first;
    struct iovec iov = {(void *)(ref->run->bytes + ref->off), ref->len};
    int r;

    c->sendq.gathered = 1;
    r = io_send(n->io, &c->io, &iov, 1, ref->len);
    net_stat(n, NET_STAT_SENDS);
    if (r == IO_PENDING) {
        if (PLANTED(PLANT_EARLY_UNREF))
            unref_early(c);
        return true;
    }
    if (unlikely(r < 0)) {
        conn_send_failed(c);
        return true;
    }
    stats_add(&n->stats[NET_STAT_SENT_BYTES], ref->len);
    n->queue_bytes -= ref->len;
    sendq_sent_single(&c->sendq, n->shard);
    return false;
}

static void flush_many(struct conn *c);

/* One gathered send at a time; what io takes at once may be followed by more. */
void conn_flush(struct conn *c)
{
    if (unlikely(c->sendq.gathered > 0 || c->state >= CONN_LINGER || (c->holds & CONN_HOLD_APP)))
        return;
    if (likely(c->sendq.refs == 1)) {
        if (flush_single(c))
            return;
        if (unlikely(c->state == CONN_FLUSHING || c->holds != 0))
            conn_flushed(c);
    } else {
        flush_many(c);
    }
}

static void flush_many(struct conn *c)
{
    struct net *n = c->net;
    struct iovec iov[IO_IOV_MAX];

    for (int round = 0; !sendq_is_empty(&c->sendq); round++) {
        size_t bytes;
        int count, r;

        if (round == FLUSH_ROUNDS_MAX) {
            conn_mark_dirty(c);
            n->flush_again = true;
            return;
        }
        count = sendq_gather(&c->sendq, iov, &bytes);
        r = io_send(n->io, &c->io, iov, count, bytes);
        net_stat(n, NET_STAT_SENDS);
        if (r == IO_PENDING) {
            if (PLANTED(PLANT_EARLY_UNREF))
                unref_early(c);
            return;
        }
        if (unlikely(r < 0)) {
            conn_send_failed(c);
            return;
        }
        stats_add(&n->stats[NET_STAT_SENT_BYTES], bytes);
        n->queue_bytes -= sendq_sent(&c->sendq, n->shard, &n->chunks);
    }
    if (unlikely(c->state == CONN_FLUSHING || c->holds != 0))
        conn_flushed(c);
}

static void on_sent(struct io_conn *io, int err)
{
    struct conn *c = conn_of(io);
    struct net *n = c->net;
    uint32_t bytes;

    if (unlikely(err != 0)) {
        conn_send_failed(c);
        return;
    }
    bytes = sendq_sent(&c->sendq, n->shard, &n->chunks);
    n->queue_bytes -= bytes;
    stats_add(&n->stats[NET_STAT_SENT_BYTES], bytes);
    if (!sendq_is_empty(&c->sendq))
        conn_mark_dirty(c);
    else if (unlikely(c->state == CONN_FLUSHING || c->holds != 0))
        conn_flushed(c);
}

/* End --------------------------------------------------------------------------------------------
 */

void conn_end(struct conn *c, enum conn_end why)
{
    if (c->state >= CONN_ENDING)
        return;
    c->state = CONN_ENDING;
    c->end = (uint8_t)why;
    c->next_ending = c->net->ending;
    c->net->ending = c;
}

static void count_close(struct net *n, uint16_t code)
{
    static const struct {
        uint16_t code;
        uint16_t stat;
    } rows[] = {
        {1000, NET_STAT_CLOSE_1000}, {1001, NET_STAT_CLOSE_1001}, {1002, NET_STAT_CLOSE_1002},
        {1007, NET_STAT_CLOSE_1007}, {1008, NET_STAT_CLOSE_1008}, {1009, NET_STAT_CLOSE_1009},
        {1011, NET_STAT_CLOSE_1011}, {1012, NET_STAT_CLOSE_1012}, {1013, NET_STAT_CLOSE_1013},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].code == code) {
            net_stat(n, rows[i].stat);
            return;
        }
    }
    net_stat(n, NET_STAT_CLOSE_OTHER);
}

/* RFC 6455 5.5.1: a received close is answered with its own code. */
static void queue_close_frame(struct conn *c)
{
    const struct conn_end_row *row = &end_rows[c->end];
    uint16_t code = row->how == REPLY ? c->peer_code : row->code;
    uint8_t frame[WS_CONTROL_FRAME_MAX];
    uint32_t len;

    if (code == 0 && row->how != REPLY)
        return;
    len = ws_encode_close(frame, code, row->how == REPLY ? "" : row->text);
    count_close(c->net, code);
    conn_queue_bytes(c, frame, len); /* without memory the FIN must do */
}

static void log_end(const struct conn *c)
{
    char peer[IO_ADDR_TEXT_MAX];

    io_addr_format(&c->peer, peer);
    log_debug("connection ended", "peer", peer, "reason", end_rows[c->end].label, "websocket",
              c->flags & CONN_F_WS ? "true" : "false", NULL);
}

static void end_session(struct conn *c)
{
    struct net *n = c->net;

    if (unlikely(log_level_now == LOG_DEBUG))
        log_end(c);
    if (c->flags & CONN_F_SESSION) {
        c->flags &= (uint16_t)~CONN_F_SESSION;
        n->app->on_close(n->app_ctx, c);
    }
    if (c->flags & CONN_F_WS)
        stats_sub(&n->stats[NET_STAT_WEBSOCKETS], 1);
    net_stat(n, (enum net_stat)(NET_STAT_ENDS + c->end));
}

/* Holds end with the session; kept input is needed only where the peer's close is awaited. */
static void end_input(struct conn *c, bool awaits_close)
{
    struct conn_rx *rx = c->rx;

    if (!(c->flags & CONN_F_TLS_OPEN))
        conn_shake_cancel(c);
    if (rx != NULL) {
        conn_rx_drop(c, &rx->head);
        conn_rx_drop(c, &rx->assembly);
        conn_rx_drop(c, &rx->parked);
        inflate_cancel(c);
        if (!awaits_close) {
            conn_rx_drop(c, &rx->rest);
            conn_rx_drop(c, &rx->record);
        }
        conn_rx_trim(c);
    }
    c->flags &= (uint16_t) ~(CONN_F_BEGUN | CONN_F_PING_OUT);
    if (c->holds != 0)
        conn_unhold(c, (enum conn_hold)c->holds);
}

/* Whether the handshake's answer still waits: frames of ours begin with FIN. */
static bool answer_waits(const struct conn *c)
{
    const struct sendq_ref *front = &c->sendq.first;

    if ((c->flags & CONN_F_TLS_OPEN) && c->tls->raw > 0) /* behind a flight of TLS */
        return true;
    if ((c->flags & CONN_F_TLS_OPEN) && c->tls->is_cut) /* the rest of a large reference */
        return false;
    return !sendq_is_empty(&c->sendq) && (front->run->bytes[front->off] & 0x80) == 0;
}

/* What waits in the queue goes, but for what is under way and what has left in part. */
static void drop_waiting(struct conn *c)
{
    struct net *n = c->net;
    bool idle = c->sendq.gathered == 0;

    if (c->flags & CONN_F_TLS_OPEN)
        conn_tls_keep_cut(c);
    n->queue_bytes -= sendq_drop(&c->sendq, n->shard, &n->chunks, false);
    if (idle)
        c->sendq.gathered = 0;
}

/* A TLS connection that is cut has a last record all the same: RFC 8446 6.1. */
static bool says_goodbye(struct conn *c)
{
    struct net *n = c->net;

    if (!(c->flags & CONN_F_TLS_OPEN) || !conn_tls_has_last_word(c) ||
        PLANTED(PLANT_TLS_NO_GOODBYE))
        return false;
    n->queue_bytes -= sendq_drop(&c->sendq, n->shard, &n->chunks, false);
    c->flags |= CONN_F_EOF; /* and what the peer still sends is not waited for */
    return true;
}

static void flush_now(struct conn *c)
{
    if (c->flags & CONN_F_TLS_OPEN)
        conn_tls_flush(c);
    else
        conn_flush(c);
}

void conn_finish(struct conn *c)
{
    struct net *n = c->net;
    uint8_t how = c->flags & CONN_F_BROKEN ? CUT : end_rows[c->end].how;
    bool awaits_close = how == WAIT && (c->flags & (CONN_F_WS | CONN_F_EOF)) == CONN_F_WS;

    if (!(c->flags & CONN_F_WS) && how != CUT && sendq_is_empty(&c->sendq))
        conn_http_last_words(c);
    if (!(c->flags & CONN_F_WS) && sendq_is_empty(&c->sendq))
        how = CUT; /* there is no answer that could get lost */
    end_session(c);
    if (how == SLOW && !answer_waits(c)) /* without its answer a close frame means nothing */
        drop_waiting(c);
    if (how != CUT && (c->flags & CONN_F_WS))
        queue_close_frame(c);
    c->state = awaits_close ? CONN_CLOSING : CONN_FLUSHING;
    end_input(c, awaits_close);
    if (how == CUT && !says_goodbye(c)) {
        conn_close_now(c, false);
        return;
    }
    conn_set_deadline(c, n->config->close_timeout_ns);
    flush_now(c);
    if (how == DEAD && c->state != CONN_GONE)
        conn_close_now(c, true);
}

void conn_close_now(struct conn *c, bool reset)
{
    struct net *n = c->net;

    if (c->state == CONN_GONE)
        return;
    c->state = CONN_GONE;
    wheel_disarm(&n->wheel, &c->timer);
    n->queue_bytes -= sendq_drop(&c->sendq, n->shard, &n->chunks, false);
    io_close(n->io, &c->io, reset);
}

/* A list is touched here only when a connection goes between two flushes: rare. */
static void unlink_lists(struct conn *c)
{
    struct net *n = c->net;

    if (c->flags & CONN_F_DIRTY) {
        struct conn **link = &n->dirty;

        while (*link != c)
            link = &(*link)->next_dirty;
        *link = c->next_dirty;
    }
    if (c->flags & CONN_F_RESUME) {
        struct conn **link = &n->resume;

        while (*link != c)
            link = &(*link)->next_resume;
        *link = c->next_resume;
    }
}

void conn_discard(struct conn *c)
{
    struct net *n = c->net;

    unlink_lists(c);
    if (c->flags & CONN_F_TLS_OPEN)
        conn_tls_free(c);
    else
        conn_shake_cancel(c);
    wheel_disarm(&n->wheel, &c->timer);
    n->queue_bytes -= sendq_drop(&c->sendq, n->shard, &n->chunks, true);
    if (c->holds != 0)
        stats_sub(&n->stats[NET_STAT_HELD], 1);
    conn_rx_free(c);
    if (c->flags & CONN_F_ADMITTED)
        admission_leave(n, &c->peer);
    if (c->flags & CONN_F_COUNTED)
        atomic_fetch_sub_explicit(&n->shared->connections, 1, memory_order_relaxed);
    if (c->flags & CONN_F_REFUSAL)
        n->refusals--;
    stats_sub(&n->stats[NET_STAT_CONNECTIONS], 1);
    pool_release(&n->conns, c);
}

void conn_on_closed(struct io_conn *io)
{
    struct conn *c = conn_of(io);

    CHECK(c->state == CONN_GONE);
    conn_discard(c);
}
