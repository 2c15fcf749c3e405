/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* From a connection's queue to io: what is queued, gathered sends, what has left. On the shard's
 * thread. */

#include <string.h>

#include "core/plant.h"
#include "net/conn.h"

/* What an overfull queue may have beyond --max-queue: more than a turn brings. So a transport that
 * sends less in each turn than comes in it does not let a queue grow for ever. */
#define OVERFULL_BYTES_MAX (16u << 20)

void conn_queue_failed(struct conn *c, enum conn_end why)
{
    conn_end(c, c->sendq.refs >= SENDQ_REFS_MAX ? CONN_END_SLOW_CONSUMER : why);
}

/* The connection's own input goes on behind the flush, so that its answers are over the bound by no
 * more than one. */
bool conn_queue_overfull(struct conn *c, uint32_t len)
{
    if (c->sendq.gathered > 0 || (c->holds & CONN_HOLD_APP) ||
        c->sendq.bytes + (uint64_t)len > c->net->max_queue_bytes + OVERFULL_BYTES_MAX) {
        conn_end(c, CONN_END_SLOW_CONSUMER);
        return false;
    }
    conn_hold(c, CONN_HOLD_QUEUE);
    return true;
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

void conn_flushed(struct conn *c)
{
    if (c->state == CONN_FLUSHING) {
        if (!conn_must_linger(c)) {
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

/* Whether more waits behind the send than a full queue and an answer. */
static bool is_left_overfull(const struct conn *c)
{
    uint64_t most = 2 * c->net->max_queue_bytes;

    return c->sendq.bytes > most && sendq_waiting_bytes(&c->sendq) > most;
}

/* As much as io takes leaves. Of what is left the next turn's flush is the judge: by then the send
 * is over where somebody reads. */
static void flush_overfull(struct conn *c)
{
    conn_unhold(c, CONN_HOLD_QUEUE);
    if (c->flags & CONN_F_TLS_OPEN)
        conn_tls_flush(c);
    else
        conn_flush(c);
    if (c->state == CONN_OPEN && is_left_overfull(c))
        conn_mark_dirty(c);
}

void conn_flush_rare(struct conn *c)
{
    if (c->holds & CONN_HOLD_QUEUE)
        flush_overfull(c);
    else if (c->state == CONN_OPEN && (conn_queue_is_crowded(c) || is_left_overfull(c)))
        conn_end(c, CONN_END_SLOW_CONSUMER);
}

/* One gathered send at a time; what io takes at once may be followed by more. */
void conn_flush(struct conn *c)
{
    if (!conn_flush_is_usual(c)) {
        conn_flush_rare(c);
        return;
    }
    if (likely(c->sendq.refs == 1)) {
        if (flush_single(c))
            return;
        if (unlikely(c->state == CONN_FLUSHING || c->holds != 0))
            conn_flushed(c);
    } else {
        flush_many(c);
    }
}

int conn_send_some(struct conn *c, size_t *bytes)
{
    struct net *n = c->net;
    struct iovec iov[IO_IOV_MAX];
    bool overfull = unlikely(c->sendq.bytes > n->max_queue_bytes);
    size_t most = overfull ? c->sendq.bytes : n->send_batch_bytes;
    int count = sendq_gather(&c->sendq, iov, most, bytes);
    int r = io_send(n->io, &c->io, iov, count, *bytes);

    net_stat(n, NET_STAT_SENDS);
    if (r == IO_PENDING && PLANTED(PLANT_EARLY_UNREF))
        unref_early(c);
    if (likely(r == IO_SENT)) {
        stats_add(&n->stats[NET_STAT_SENT_BYTES], *bytes);
        n->queue_bytes -= sendq_sent(&c->sendq, n->shard, &n->chunks);
    }
    return r;
}

static void flush_many(struct conn *c)
{
    for (int round = 0; !sendq_is_empty(&c->sendq); round++) {
        size_t bytes;
        int r;

        if (round >= FLUSH_ROUNDS_MAX && c->sendq.bytes <= c->net->max_queue_bytes) {
            conn_mark_dirty(c);
            c->net->flush_again = true;
            return;
        }
        r = conn_send_some(c, &bytes);
        if (r == IO_PENDING)
            return;
        if (unlikely(r < 0)) {
            conn_send_failed(c);
            return;
        }
    }
    if (unlikely(c->state == CONN_FLUSHING || c->holds != 0))
        conn_flushed(c);
}

void conn_on_sent(struct io_conn *io, int err)
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
