/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Records of connections: input opened in place, output sealed into one buffer, unless the kernel
 * seals (conn_ktls.c). On the shard's thread. */

#include "net/conn_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/plant.h"
#include "net/conn_rx.h"

/* Plaintext that is sealed for one send: three full records, which with what is around them fill a
 * buffer of the pool's 64 KiB class to three quarters. */
#define SEAL_BYTES_MAX (3u * TLS_RECORD_PLAIN_MAX)
/* A client can use no part of a record before it has the whole: while the congestion window is
 * small, a record is what fits into a segment. */
#define SMALL_RECORD 1350
#define SMALL_UNTIL (64u << 10)
/* For a record that is cut; it doubles with what comes. */
#define CUT_AT_ONCE 1024

_Static_assert(offsetof(struct conn_tls, record) == 24, "what a state has before its record");

static const uint16_t pool_bytes_of[CONN_TLS_POOLS] = {144, 176, 240};

static void on_recv(struct io_conn *io, struct bytes in);
static void on_eof(struct io_conn *io, int err);
static void on_sent(struct io_conn *io, int err);

static const struct io_events tls_events = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_tls_key = conn_ktls_on_key,
    .on_closed = conn_on_closed,
};

/* A shard's part
 * ------------------------------------------------------------------------------------ */

int conn_tls_init(struct net *n)
{
    struct net_tls *tls = calloc(1, sizeof(*tls));
    int err;

    if (tls == NULL)
        return -ENOMEM;
    for (int i = 0; i < CONN_TLS_POOLS; i++)
        pool_init(&tls->states[i], "tls_states", pool_bytes_of[i], 0, 0);
    n->tls = tls;
    err = conn_shake_init(n, &tls->shake);
    if (err != 0)
        conn_tls_deinit(n);
    return err;
}

void conn_tls_deinit(struct net *n)
{
    if (n->tls == NULL)
        return;
    conn_shake_deinit(&n->tls->shake);
    for (int i = 0; i < CONN_TLS_POOLS; i++)
        pool_deinit(&n->tls->states[i]);
    tls_work_wipe(&n->tls->work);
    free(n->tls);
    n->tls = NULL;
}

void conn_tls_quiet(struct net *n)
{
    for (int i = 0; i < CONN_TLS_POOLS; i++)
        pool_trim(&n->tls->states[i]);
    conn_shake_quiet(&n->tls->shake);
}

void conn_tls_publish(struct net *n)
{
    struct net_tls *tls = n->tls;
    uint64_t mapped = 0, failed = 0, used = 0;

    for (int i = 0; i < CONN_TLS_POOLS; i++) {
        mapped += pool_mapped_bytes(&tls->states[i]);
        failed += tls->states[i].failures;
        used += tls->states[i].used;
    }
    stats_set(&n->stats[NET_STAT_TLS_CONNECTIONS], used);
    stats_set(&n->stats[NET_STAT_TLS_POOL_BYTES], mapped);
    stats_set(&n->stats[NET_STAT_TLS_POOL_FAILED], failed);
    stats_set(&n->stats[NET_STAT_SHAKE_POOL_BYTES], pool_mapped_bytes(&tls->shake.shakes));
    stats_set(&n->stats[NET_STAT_SHAKE_POOL_FAILED], tls->shake.shakes.failures);
    stats_set(&n->stats[NET_STAT_TLS_RUNNING], tls->shake.running.count);
    stats_set(&n->stats[NET_STAT_TLS_WAITING], tls->shake.line.count);
    stats_set(&n->stats[NET_STAT_TLS_SEALED_BYTES], tls->sealed_bytes);
}

/* States
 * -------------------------------------------------------------------------------------------- */

struct conn_tls *conn_tls_acquire(struct net *n, size_t record_bytes)
{
    size_t bytes = offsetof(struct conn_tls, record) + record_bytes;
    uint8_t i = 0;
    struct conn_tls *t;

    CHECK(bytes <= pool_bytes_of[CONN_TLS_POOLS - 1]);
    while (pool_bytes_of[i] < bytes)
        i++;
    t = pool_acquire(&n->tls->states[i]);
    if (t == NULL)
        return NULL;
    memset(t, 0, offsetof(struct conn_tls, record));
    t->pool = i;
    return t;
}

void conn_tls_release(struct net *n, struct conn_tls *t)
{
    pool_release(&n->tls->states[t->pool], t);
}

void conn_tls_open(struct conn *c, struct conn_tls *t)
{
    c->tls = t;
    c->flags |= CONN_F_TLS_OPEN;
    c->io.events = &tls_events;
    c->state = CONN_HEAD;
    t->raw = c->sendq.refs; /* what is left of our flights */
    if (unlikely(c->net->shared->ktls_suites != 0))
        conn_ktls_open(c);
}

/* A key does not stay in the pool of messages. */
void conn_tls_sealed_left(struct conn *c)
{
    struct conn_tls *t = c->tls;
    struct net *n = c->net;

    if (t->sealed == NULL)
        return;
    n->tls->sealed_bytes -= message_capacity(t->sealed);
    n->queue_bytes -= message_capacity(t->sealed);
    if (unlikely(t->ktls != CONN_KTLS_OFF))
        explicit_bzero(message_payload(t->sealed), message_capacity(t->sealed));
    message_free(&n->shard->messages, t->sealed);
    t->sealed = NULL;
}

void conn_tls_free(struct conn *c)
{
    conn_tls_sealed_left(c);
    if (unlikely(c->tls->ktls != CONN_KTLS_OFF))
        conn_ktls_close(c);
    tls_record_wipe(&c->tls->record, &c->net->tls->work);
    conn_tls_release(c->net, c->tls);
    c->tls = NULL;
    c->flags &= (uint16_t)~CONN_F_TLS_OPEN;
}

/* Input
 * ------------------------------------------------------------------------------------------ */

static void log_failure(const struct conn *c, enum tls_reason why)
{
    char peer[IO_ADDR_TEXT_MAX];

    io_addr_format(&c->peer, peer);
    log_debug("TLS connection failed", "peer", peer, "reason", tls_reason_text(why), NULL);
}

static void record_failed(struct conn *c)
{
    enum tls_reason why = tls_record_reason(&c->tls->record);

    if (c->state == CONN_ENDING) /* it has been told */
        return;
    net_stat(c->net, (enum net_stat)(NET_STAT_TLS_REASONS + why));
    if (unlikely(log_level_now == LOG_DEBUG))
        log_failure(c, why);
    if (c->state == CONN_CLOSING) { /* the close frame that is awaited won't come */
        c->net->queue_bytes -= sendq_drop(&c->sendq, c->net->shard, &c->net->chunks, false);
        c->state = CONN_FLUSHING;
        conn_mark_dirty(c);
        return;
    }
    conn_end(c, CONN_END_TLS_RECORD);
}

/* The peer has said by close_notify that nothing more comes. */
static void peer_closed(struct conn *c)
{
    if (c->tls->is_closed)
        return;
    c->tls->is_closed = true;
    conn_input_over(c, 0);
}

/* A record that is cut waits until it is whole; `need` is its length as far as it is known. */
static void keep_cut(struct conn *c, const struct bytes *in, size_t need)
{
    struct conn_rx *rx = conn_rx_get(c);

    if (PLANTED(PLANT_TLS_SKIP_HEAD) && in->len < TLS_RECORD_HEAD_BYTES)
        return;
    c->tls->is_lost = rx == NULL || !conn_rx_append(c, &rx->record, &rx->record_len, in->ptr,
                                                    in->len, min_size(need, CUT_AT_ONCE));
}

/* --message-timeout bounds a begun record as it does a begun frame, whichever comes first. */
static void watch_cut(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    if (c->rx != NULL && c->rx->record != NULL) {
        if (c->flags & CONN_F_BEGUN)
            return;
        c->flags |= CONN_F_BEGUN;
        conn_set_deadline(c, c->net->config->message_timeout_ns);
    } else if ((c->flags & CONN_F_BEGUN) && ws_decoder_is_idle(&c->decoder)) {
        c->flags &= (uint16_t)~CONN_F_BEGUN;
        conn_clear_deadline(c);
    }
}

/* Opens what is whole of *in. Returns the bytes that its next record needs altogether, when it is
 * cut; 0 when all is used. */
static size_t open_records(struct conn *c, struct bytes *in)
{
    struct net *n = c->net;
    struct conn_tls *t = c->tls;
    struct tls_piece piece;
    enum tls_record_status st;

    while ((st = tls_record_open(&t->record, &n->tls->work, in, &piece)) == TLS_RECORD_DATA) {
        net_stat(n, NET_STAT_TLS_RECORDS_IN);
        stats_add(&n->stats[NET_STAT_TLS_PLAIN_IN], piece.data.len);
        conn_input(c, piece.data);
    }
    if (likely(st == TLS_RECORD_NEED_MORE))
        return in->len == 0 ? 0 : piece.record_bytes;
    in->len = 0;
    if (st == TLS_RECORD_CLOSED)
        peer_closed(c);
    else
        record_failed(c);
    return 0;
}

/* The kept record is whole, or refused by its head alone. */
static void open_kept(struct conn *c)
{
    struct conn_rx *rx = c->rx;
    struct message *m = conn_rx_take(c, &rx->record, rx->record_len);
    struct bytes in = {message_payload(m), rx->record_len};

    rx->record_len = 0;
    conn_rx_trim(c);
    (void)open_records(c, &in);
    message_free(&c->net->shard->messages, m);
}

/* What the kept record needs, as far as is known: RFC 8446 5.1. */
static size_t kept_needs(const struct conn_rx *rx)
{
    const uint8_t *head = message_payload(rx->record);

    if (rx->record_len < TLS_RECORD_HEAD_BYTES)
        return TLS_RECORD_HEAD_BYTES;
    return TLS_RECORD_HEAD_BYTES + ((size_t)head[3] << 8 | head[4]);
}

/* Whether the kept head is one that no body makes good. */
static bool is_head_refused(struct conn *c)
{
    struct bytes head = {message_payload(c->rx->record), TLS_RECORD_HEAD_BYTES};
    struct tls_piece piece;

    return tls_record_open(&c->tls->record, &c->net->tls->work, &head, &piece) !=
           TLS_RECORD_NEED_MORE;
}

/* The begun record goes on with *in, which is stepped behind what it needs. */
static void continue_cut(struct conn *c, struct bytes *in)
{
    struct conn_rx *rx = c->rx;

    for (;;) {
        size_t need = kept_needs(rx);
        size_t take;

        if (rx->record_len >= need ||
            (rx->record_len == TLS_RECORD_HEAD_BYTES && is_head_refused(c))) {
            open_kept(c);
            return;
        }
        take = min_size(in->len, need - rx->record_len);
        if (take == 0)
            return;
        if (!conn_rx_append(c, &rx->record, &rx->record_len, in->ptr, take, need)) {
            c->tls->is_lost = true;
            in->len = 0;
            return;
        }
        in->ptr += take;
        in->len -= take;
    }
}

void conn_tls_input(struct conn *c, struct bytes in)
{
    bool was_cut = c->rx != NULL && c->rx->record != NULL;
    size_t need = 0;

    if (unlikely(c->state >= CONN_FLUSHING || c->tls->is_lost))
        return; /* read away */
    if (unlikely(was_cut))
        continue_cut(c, &in);
    if (in.len > 0 && c->state < CONN_FLUSHING) /* what was cut may have failed */
        need = open_records(c, &in);
    if (unlikely(need > 0) && c->state < CONN_FLUSHING)
        keep_cut(c, &in, need);
    if (unlikely(was_cut || need > 0))
        watch_cut(c);
}

static void on_recv(struct io_conn *io, struct bytes in)
{
    struct conn *c = conn_of(io);

    conn_received(c, in.len);
    conn_tls_input(c, in);
}

/* RFC 8446 6.1: without close_notify it is a truncation. A WebSocket has its close frame. */
static void on_eof(struct io_conn *io, int err)
{
    struct conn *c = conn_of(io);

    if (!c->tls->is_closed && c->state < CONN_ENDING)
        net_stat(c->net, NET_STAT_TLS_TRUNCATED);
    conn_input_over(c, err);
}

/* Output
 * ----------------------------------------------------------------------------------------- */

/* A buffer for len bytes of plaintext. */
static struct message *new_buffer(struct conn *c, size_t len, size_t plain_max)
{
    size_t records = (len + plain_max - 1) / plain_max + 1;

    return message_new(&c->net->shard->messages,
                       (uint32_t)(len + records * TLS_RECORD_EXTRA_MAX + TLS_RECORD_ROOM));
}

void conn_tls_keep_sealed(struct conn *c, struct message *m)
{
    c->tls->sealed = m;
    c->net->tls->sealed_bytes += message_capacity(m);
    c->net->queue_bytes += message_capacity(m);
}

/* Hands m to io. Returns as io_send(); m is freed unless it is under way. */
static int send_buffer(struct conn *c, struct message *m, size_t len)
{
    struct net *n = c->net;
    struct iovec iov = {message_payload(m), len};
    int r = io_send(n->io, &c->io, &iov, 1, len);

    net_stat(n, NET_STAT_SENDS);
    if (r == IO_PENDING)
        conn_tls_keep_sealed(c, m);
    else
        message_free(&n->shard->messages, m);
    if (r >= 0)
        stats_add(&n->stats[NET_STAT_SENT_BYTES], len);
    return r;
}

/* Seals src into out; returns the bytes, 0 when the key gives no more. */
static size_t seal(struct conn *c, struct tls_source *src, size_t plain_max, uint8_t *out,
                   size_t room)
{
    struct net *n = c->net;
    size_t len = 0, r;
    uint64_t records = 0;

    while (src->count > 0) {
        r = tls_record_seal(&c->tls->record, &n->tls->work, src, plain_max, out + len, room - len);
        if (r == 0)
            return 0;
        len += r;
        records++;
    }
    stats_add(&n->stats[NET_STAT_TLS_RECORDS_OUT], records);
    return len;
}

/* One send of what waits, sealed. Returns as io_send(), CONN_TLS_NO_BUFFER or CONN_TLS_NOT_SEALED.
 */
static int send_sealed(struct conn *c)
{
    struct conn_tls *t = c->tls;
    struct iovec iov[IO_IOV_MAX];
    size_t plain_max = min_size(t->sent < SMALL_UNTIL ? SMALL_RECORD : TLS_RECORD_PLAIN_MAX,
                                t->record.fragment_max);
    size_t bytes, len;
    struct message *m;
    struct tls_source src = {iov, 0, 0};

    src.count =
        sendq_gather_upto(&c->sendq, iov, IO_IOV_MAX,
                          min_size(SEAL_BYTES_MAX, c->net->send_batch_bytes), &bytes, &t->cut);
    m = new_buffer(c, bytes, plain_max);
    if (m == NULL)
        return CONN_TLS_NO_BUFFER;
    len = seal(c, &src, plain_max, message_payload(m), message_capacity(m));
    if (unlikely(len == 0)) {
        message_free(&c->net->shard->messages, m);
        return CONN_TLS_NOT_SEALED;
    }
    if (t->sent < SMALL_UNTIL)
        t->sent += (uint32_t)bytes;
    stats_add(&c->net->stats[NET_STAT_TLS_PLAIN_OUT], bytes);
    return send_buffer(c, m, len);
}

/* Our handshake's flights leave as they are. */
static int send_raw(struct conn *c)
{
    struct net *n = c->net;
    struct iovec iov[IO_IOV_MAX];
    size_t bytes;
    int count, r;

    count = sendq_gather_upto(&c->sendq, iov, c->tls->raw, SIZE_MAX, &bytes, &c->tls->cut);
    r = io_send(n->io, &c->io, iov, count, bytes);
    net_stat(n, NET_STAT_SENDS);
    if (r >= 0)
        stats_add(&n->stats[NET_STAT_SENT_BYTES], bytes);
    return r;
}

/* What was gathered has left. */
static void gathered_left(struct conn *c)
{
    struct conn_tls *t = c->tls;
    struct net *n = c->net;

    if (c->sendq.gathered == 0)
        return; /* it was a record of our own */
    if (t->raw > 0)
        t->raw -= c->sendq.gathered;
    if (PLANTED(PLANT_TLS_CUT_AS_WHOLE))
        t->cut = 0;
    t->is_cut = t->cut != 0;
    n->queue_bytes -= sendq_sent_upto(&c->sendq, n->shard, &n->chunks, t->cut);
    t->cut = 0;
}

/* Nothing waits any more. At the end that is when close_notify, or our alert, goes. Returns as
 * io_send(), or CONN_TLS_NO_BUFFER. */
static int send_end(struct conn *c)
{
    struct message *m;
    size_t len;

    if (c->state != CONN_FLUSHING || c->tls->is_ended)
        return IO_SENT;
    if (unlikely(conn_ktls_is_on(c->tls->ktls)))
        return conn_ktls_send_end(c);
    c->tls->is_ended = true;
    m = new_buffer(c, 0, 1);
    if (m == NULL)
        return CONN_TLS_NO_BUFFER;
    len = tls_record_seal_end(&c->tls->record, &c->net->tls->work, message_payload(m));
    if (len > 0)
        return send_buffer(c, m, len);
    message_free(&c->net->shard->messages, m);
    return IO_SENT;
}

/* The next send. Returns as send_sealed(). */
static int send_next(struct conn *c)
{
    if (unlikely(c->tls->raw > 0))
        return send_raw(c);
    if (unlikely(c->tls->ktls != CONN_KTLS_OFF))
        return conn_ktls_send(c);
    return send_sealed(c);
}

static void send_failed(struct conn *c, int err)
{
    c->sendq.gathered = 0; /* nothing is under way */
    if (err == CONN_TLS_NO_BUFFER) {
        conn_end(c, CONN_END_NO_MEMORY);
        if (c->state <= CONN_ENDING)
            return;
    } else if (err == CONN_TLS_NOT_SEALED && c->state < CONN_ENDING) {
        record_failed(c);
        return;
    }
    conn_send_failed(c);
}

/* A failed connection seals nothing more but its alert, which waits for nothing. */
static void drop_unsealable(struct conn *c)
{
    struct conn_tls *t = c->tls;

    if (likely(c->state != CONN_FLUSHING || t->raw > 0 || tls_record_is_writable(&t->record)))
        return;
    if (conn_ktls_is_on(t->ktls) && tls_record_reason(&t->record) == TLS_REASON_NONE)
        return;
    c->net->queue_bytes -= sendq_drop(&c->sendq, c->net->shard, &c->net->chunks, true);
    t->is_cut = false;
}

void conn_tls_flush(struct conn *c)
{
    struct net *n = c->net;
    struct conn_tls *t = c->tls;
    int r;

    if (!conn_flush_is_usual(c) || t->sealed != NULL) {
        conn_flush_rare(c);
        return;
    }
    for (int round = 0; drop_unsealable(c), !sendq_is_empty(&c->sendq); round++) {
        if (round >= FLUSH_ROUNDS_MAX && c->sendq.bytes <= n->max_queue_bytes) {
            conn_mark_dirty(c);
            n->flush_again = true;
            return;
        }
        r = send_next(c);
        if (r == IO_PENDING)
            return;
        if (unlikely(r < 0)) {
            send_failed(c, r);
            return;
        }
        gathered_left(c);
    }
    if (likely(c->state != CONN_FLUSHING && c->holds == 0)) {
        if (unlikely(tls_record_is_worn(&t->record)))
            conn_end(c, CONN_END_TLS_WORN);
        return;
    }
    r = send_end(c);
    if (r < 0)
        send_failed(c, r);
    else if (r == IO_SENT)
        conn_flushed(c);
}

static void on_sent(struct io_conn *io, int err)
{
    struct conn *c = conn_of(io);

    conn_tls_sealed_left(c);
    if (unlikely(err != 0)) {
        send_failed(c, err);
        return;
    }
    gathered_left(c);
    if (!sendq_is_empty(&c->sendq) || unlikely(c->state == CONN_FLUSHING || c->holds != 0))
        conn_mark_dirty(c);
}

/* End
 * -------------------------------------------------------------------------------------------- */

bool conn_tls_has_last_word(const struct conn *c)
{
    /* Behind a flight that is dropped it could be read by nobody. */
    return !(c->flags & CONN_F_BROKEN) && c->end != CONN_END_PEER_RESET &&
           c->tls->raw <= c->sendq.gathered;
}

void conn_tls_keep_cut(struct conn *c)
{
    if (c->tls->is_cut && c->sendq.gathered == 0)
        c->sendq.gathered = 1;
}
