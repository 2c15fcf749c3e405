/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_TLS_H
#define NET_CONN_TLS_H

/* TLS of a connection whose handshake is complete: records are opened where io lent them, before
 * conn_input(); what waits in the send queue is sealed into one buffer of the shard's message pool,
 * which lives until io has sent it. On the shard's thread.
 *
 * Sending: the queue keeps its references, as when it is sent plainly, until the sealed bytes have
 * left, so that bounds and drops work alike. A large reference may leave in parts; what is cut so
 * stays, as a record of half a frame must be followed by the other half. */

#include "net/conn.h"
#include "net/conn_ktls.h"
#include "net/conn_shake.h"

/* State of an idle TLS connection, from a pool by size class. */
struct conn_tls {
    struct message *sealed; /* what is under way of ours (records, or a key), or NULL */
    uint32_t cut;           /* of the last gathered reference: what is in `sealed`; 0: all of it */
    uint32_t sent;          /* plaintext since the start, up to where records become large */
    uint16_t raw;           /* references at the queue's front that are records already */
    uint8_t pool;           /* index in net_tls.states */
    bool is_cut : 1;        /* the queue's front has left in part */
    bool is_closed : 1;     /* close_notify has come */
    bool is_ended : 1;      /* ours, or an alert, has left */
    bool is_lost : 1;       /* input is missing: what follows can't be opened */
    uint8_t ktls;           /* enum conn_ktls */
    struct tls_record record;
};

#define CONN_TLS_POOLS 3

/* What a shard has for TLS; made where there are TLS ports. */
struct net_tls {
    struct net_shake shake;
    struct tls_work work;
    struct pool states[CONN_TLS_POOLS]; /* struct conn_tls, by the size of its keys */
    uint64_t sealed_bytes;              /* of buffers under way */
};

/* Makes n->tls. 0 or -errno. Main. */
MUST_USE int conn_tls_init(struct net *n);
void conn_tls_deinit(struct net *n);
void conn_tls_quiet(struct net *n);
void conn_tls_publish(struct net *n);

/* A state with a record of that size, to be made c's by conn_tls_open(). NULL without memory. */
struct conn_tls *conn_tls_acquire(struct net *n, size_t record_bytes);
void conn_tls_release(struct net *n, struct conn_tls *t);

/* The handshake of c is over and its last flight queued: from here on records. */
void conn_tls_open(struct conn *c, struct conn_tls *t);

/* Records that have come; all of *in is used. */
void conn_tls_input(struct conn *c, struct bytes in);

/* Beyond all that io returns: nothing was sent, for a reason of ours. */
enum { CONN_TLS_NO_BUFFER = -5000, CONN_TLS_NOT_SEALED };

/* For conn_ktls.c: m is under way until conn_tls_sealed_left(), which frees it. */
void conn_tls_keep_sealed(struct conn *c, struct message *m);
void conn_tls_sealed_left(struct conn *c);

/* Before the end: whether the peer can still be told of it, by close_notify or an alert. */
bool conn_tls_has_last_word(const struct conn *c);

/* Before the queue is dropped: keeps the rest of what has left in part. */
void conn_tls_keep_cut(struct conn *c);

/* c is forgotten by io: everything goes. */
void conn_tls_free(struct conn *c);

#endif
