/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The end of a connection: its reason, last words, close frame, and the way to freed memory. On the
 * shard's thread. */

#include <string.h>

#include "core/log.h"
#include "core/plant.h"
#include "net/conn.h"
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

uint16_t conn_end_code(enum conn_end why)
{
    return end_rows[why].code;
}

const char *conn_end_text(enum conn_end why)
{
    return end_rows[why].text;
}

bool conn_must_linger(const struct conn *c)
{
    uint8_t how = end_rows[c->end].how;
    bool last = how == LAST || how == SLOW || !(c->flags & CONN_F_WS);

    return last && !(c->flags & CONN_F_EOF);
}

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

/* Its place among the refused is for the next one: it has its answer, or is cut. */
static void end_refusal(struct conn *c)
{
    if (!(c->flags & CONN_F_REFUSAL))
        return;
    c->flags &= (uint16_t)~CONN_F_REFUSAL;
    c->net->refusals--;
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
    end_refusal(c);
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
    end_refusal(c);
    stats_sub(&n->stats[NET_STAT_CONNECTIONS], 1);
    pool_release(&n->conns, c);
}

void conn_on_closed(struct io_conn *io)
{
    struct conn *c = conn_of(io);

    CHECK(c->state == CONN_GONE);
    conn_discard(c);
}
