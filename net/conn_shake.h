/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_SHAKE_H
#define NET_CONN_SHAKE_H

/* TLS handshakes of a shard's connections: who may have one now, and their steps. A handshake costs
 * 60 KB while it lasts (many at once some 25 each) and some 0.3 ms of arithmetic, so both are
 * bounded:
 *
 *     bytes --> ClientHello complete --> in line --> slot --> steps --> records (conn_tls.h)
 *
 *  - At most --tls-handshakes-max have a slot; the others wait in order, within the
 *    --handshake-timeout that runs since the accept. A client without a whole ClientHello has none.
 *  - One address holds at most a quarter of the slots; who waits behind such a one passes it.
 *  - A handshake that has not got on for SHAKE_IDLE_NS loses its slot to somebody in line
 *    who waits for just that: for any slot where all are taken, or for one of an address whose
 *    quarter is used up. The longest idle goes first. Once that somebody has waited for
 *    SHAKE_PATIENCE_NS, SHAKE_HASTE_NS is enough: so that many stallers are through before others
 *    have waited long. After SHAKE_SLOT_NS it counts as idle whatever it does.
 *  - Steps are done in the turn, after io, up to --turn-budget; the rest in the next.
 *
 * On the shard's thread. */

#include "net/net.h"
#include "net/tls_handshake.h"

#define SHAKE_IDLE_NS NS_PER_SEC
#define SHAKE_PATIENCE_NS (500 * NS_PER_MS)
#define SHAKE_SLOT_NS (3 * NS_PER_SEC)
#define SHAKE_HASTE_NS (300 * NS_PER_MS)
/* Within this somebody who joins the line is compared with those who have slots. */
#define SHAKE_LOOK_NS (10 * NS_PER_MS)

/* A connection with a whole ClientHello and no keys yet. */
struct conn_shake {
    struct conn *conn;
    struct tls_handshake *engine; /* NULL: waits in line */
    struct conn_shake *prev;      /* in line, or among the running: the longest idle first */
    struct conn_shake *next;
    struct conn_shake *next_ready; /* has input to go on with */
    uint64_t since_ns;             /* waits, or has not got on */
    uint64_t until_ns;             /* has a slot that nobody may contest, at the most */
    bool is_ready;
};

struct shake_list {
    struct conn_shake *first;
    struct conn_shake *last;
    uint32_t count;
};

struct net_shake {
    struct tls_shared *shared;
    struct tls_context *context; /* own reference of the current one */
    uint32_t generation;         /* of it */
    uint32_t slots;              /* --tls-handshakes-max */
    struct tls_workshop workshop;
    struct pool shakes;
    struct shake_list line;
    struct shake_list running;
    struct conn_shake *ready;
    struct conn_shake **ready_end;
    uint64_t free_ns; /* when a slot may have to be freed */
    bool look;        /* a slot is free, or somebody has joined: the line must be looked at */
    bool used;        /* since the last quiet moment */
    uint8_t scratch[TLS_HELLO_RECORD_MAX];
};

MUST_USE int conn_shake_init(struct net *n, struct net_shake *s);
void conn_shake_deinit(struct net_shake *s);
/* On the shard's thread, at its end. */
void conn_shake_leave(struct net_shake *s);
void conn_shake_quiet(struct net_shake *s);

/* Input before the keys are there; all of *in is used, unless c turns out to be none of TLS. */
void conn_shake_input(struct conn *c, struct bytes *in);

/* Goes on with what has come; in each turn. Returns when it wants the next one. */
uint64_t conn_shake_turn(struct net *n, uint64_t now_ns);

/* Whether a turn is wanted at once, after what has ended since the last one. */
bool conn_shake_is_due(const struct net *n);

/* Whether its handshake has input that the turn will go on with. */
bool conn_shake_has_input(const struct conn *c);

/* c ends, for its own reasons: its handshake with it. */
void conn_shake_cancel(struct conn *c);

#endif
