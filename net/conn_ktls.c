/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Connections whose sending is sealed by the kernel. On the shard's thread. */

#include "net/conn_ktls.h"

#include <errno.h>
#include <string.h>

#include "net/conn_tls.h"
#include "net/tls_ktls.h"

/* Begin and end
 * ----------------------------------------------------------------------------------- */

static enum conn_ktls_fallback fallback_of(int err)
{
    switch (err) {
    case -ENOENT:
        return CONN_KTLS_FALLBACK_NO_MODULE;
    case -EOPNOTSUPP:
    case -ENOPROTOOPT:
    case -EINVAL:
        return CONN_KTLS_FALLBACK_UNSUPPORTED;
    case -ENOMEM:
    case -ENOBUFS:
        return CONN_KTLS_FALLBACK_NO_MEMORY;
    case -ENOTCONN:
    case -EEXIST:
    case -EBUSY:
        return CONN_KTLS_FALLBACK_SOCKET;
    default:
        return CONN_KTLS_FALLBACK_OTHER;
    }
}

static void fall_back(struct conn *c, enum conn_ktls_fallback why)
{
    c->tls->ktls = CONN_KTLS_OFF;
    net_stat(c->net, (enum net_stat)(NET_STAT_KTLS_FALLBACKS + why));
}

void conn_ktls_open(struct conn *c)
{
    const struct tls_record *r = &c->tls->record;

    c->tls->ktls = CONN_KTLS_WANTED;
    if (!tls_ktls_fits(r, c->net->shared->ktls_suites))
        fall_back(c, r->fragment_max == TLS_RECORD_PLAIN_MAX ? CONN_KTLS_FALLBACK_SUITE
                                                             : CONN_KTLS_FALLBACK_SHORT_RECORDS);
}

void conn_ktls_close(struct conn *c)
{
    if (conn_ktls_is_on(c->tls->ktls))
        stats_sub(&c->net->stats[NET_STAT_KTLS_CONNECTIONS], 1);
}

/* The first key's outcome. */
static void started(struct conn *c, int err)
{
    struct conn_tls *t = c->tls;

    if (err != 0) {
        fall_back(c, fallback_of(err));
        return;
    }
    tls_ktls_lend(&t->record);
    t->ktls = CONN_KTLS_ON;
    net_stat(c->net, NET_STAT_KTLS_STARTED);
    stats_add(&c->net->stats[NET_STAT_KTLS_CONNECTIONS], 1);
}

/* A next key's outcome. */
static void rekeyed(struct conn *c, int err)
{
    if (err == 0)
        c->tls->ktls = CONN_KTLS_ON;
    net_stat(c->net, err == 0 ? NET_STAT_KTLS_REKEYED : NET_STAT_KTLS_REKEY_FAILED);
}

/* Keys
 * -------------------------------------------------------------------------------------------- */

static struct message *new_message(struct conn *c, size_t len)
{
    return message_new(&c->net->shard->messages, (uint32_t)len);
}

/* m goes, unless it is under way. Returns r. */
static int free_unless_pending(struct conn *c, struct message *m, int r)
{
    conn_tls_keep_sealed(c, m);
    if (r != IO_PENDING)
        conn_tls_sealed_left(c);
    return r;
}

/* Gives the kernel the record layer's key. Returns as io_tls_key(), or CONN_TLS_NO_BUFFER. */
static int give_key(struct conn *c, bool again)
{
    union tls_ktls_info info;
    struct message *m = new_message(c, sizeof(info));
    size_t len;

    if (m == NULL)
        return CONN_TLS_NO_BUFFER;
    len = tls_ktls_info(&c->tls->record, &info);
    memcpy(message_payload(m), &info, len);
    explicit_bzero(&info, sizeof(info));
    return free_unless_pending(c, m,
                               io_tls_key(c->net->io, &c->io, message_payload(m), len, again));
}

/* All that we have sealed has left. Who ends before any data has our own goodbye. */
static int start(struct conn *c)
{
    int r;

    if (c->state >= CONN_ENDING) {
        c->tls->ktls = CONN_KTLS_OFF;
        return IO_SENT;
    }
    r = give_key(c, false);
    if (r == IO_PENDING) {
        c->tls->ktls = CONN_KTLS_STARTING;
        return IO_PENDING;
    }
    started(c, r == IO_SENT ? 0 : r == CONN_TLS_NO_BUFFER ? -ENOMEM : r);
    return IO_SENT;
}

/* Without memory the kernel has not been asked. */
static int rekey(struct conn *c)
{
    int r = give_key(c, true);

    if (r == IO_PENDING)
        c->tls->ktls = CONN_KTLS_REKEYING;
    else if (r != CONN_TLS_NO_BUFFER)
        rekeyed(c, r == IO_SENT ? 0 : r);
    return r;
}

void conn_ktls_on_key(struct io_conn *io, int err)
{
    struct conn *c = conn_of(io);

    conn_tls_sealed_left(c);
    if (c->tls->ktls == CONN_KTLS_STARTING) {
        started(c, err);
    } else {
        rekeyed(c, err);
        if (err != 0) {
            conn_send_failed(c);
            return;
        }
    }
    if (!sendq_is_empty(&c->sendq) || c->state == CONN_FLUSHING || c->holds != 0)
        conn_mark_dirty(c);
}

/* Sending
 * ----------------------------------------------------------------------------------------- */

/* m, of len bytes, as a record that is no data. Returns as io_tls_send(). */
static int send_record(struct conn *c, enum io_tls_type type, struct message *m, size_t len)
{
    struct net *n = c->net;
    int r = io_tls_send(n->io, &c->io, type, (struct bytes){message_payload(m), len});

    net_stat(n, NET_STAT_SENDS);
    if (r >= 0)
        stats_add(&n->stats[NET_STAT_SENT_BYTES], len);
    return free_unless_pending(c, m, r);
}

/* Without memory nothing has changed. */
static int send_update(struct conn *c)
{
    struct conn_tls *t = c->tls;
    struct message *m = new_message(c, TLS_KTLS_UPDATE_BYTES);

    if (m == NULL)
        return CONN_TLS_NO_BUFFER;
    tls_ktls_update(&t->record, &c->net->tls->work, message_payload(m));
    t->ktls = CONN_KTLS_UPDATED;
    return send_record(c, IO_TLS_HANDSHAKE, m, TLS_KTLS_UPDATE_BYTES);
}

static int send_data(struct conn *c)
{
    struct net *n = c->net;
    size_t bytes;
    int r = conn_send_some(c, &bytes);

    if (r < 0)
        return r;
    if (r == IO_PENDING)
        stats_add(&n->stats[NET_STAT_SENT_BYTES], bytes);
    stats_add(&n->stats[NET_STAT_KTLS_BYTES], bytes);
    tls_ktls_count(&c->tls->record, bytes);
    return r;
}

int conn_ktls_send(struct conn *c)
{
    struct conn_tls *t = c->tls;

    if (t->ktls == CONN_KTLS_WANTED)
        return start(c);
    if (t->ktls == CONN_KTLS_UPDATED)
        return rekey(c);
    if (!tls_ktls_may_send(&t->record))
        return CONN_TLS_NOT_SEALED;
    if (unlikely(tls_ktls_is_update_due(&t->record)))
        return send_update(c);
    return send_data(c);
}

int conn_ktls_send_end(struct conn *c)
{
    struct conn_tls *t = c->tls;
    int r = t->ktls == CONN_KTLS_UPDATED ? rekey(c) : IO_SENT;
    struct message *m;

    if (r != IO_SENT)
        return r;
    t->is_ended = true;
    m = new_message(c, TLS_KTLS_ALERT_BYTES);
    if (m == NULL)
        return CONN_TLS_NO_BUFFER;
    if (tls_ktls_end(&t->record, message_payload(m)) > 0)
        return send_record(c, IO_TLS_ALERT, m, TLS_KTLS_ALERT_BYTES);
    message_free(&c->net->shard->messages, m);
    return IO_SENT;
}
