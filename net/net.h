/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_NET_H
#define NET_NET_H

/* The transport layer of one shard: its listeners, connections, queues, limits and counters; a
 * module of the shard (core/shard.h). The layer above hands down struct net_app and never sees a
 * socket. */

#include "core/shard.h"
#include "core/simd.h"
#include "core/wheel.h"
#include "net/admission.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/http_date.h"
#include "net/net_config.h"
#include "net/net_stats.h"
#include "net/upgrade.h"
#include "net/ws_decoder.h"
#include "net/ws_encoder.h"

struct conn;
struct net;
struct net_tls;
struct tls_shared;

/* A data message as it came in. Borrowed: valid until the callback returns. */
struct net_message {
    struct bytes payload;
    struct message *owned; /* non-NULL: payload lies in this message, which net_message_take() hands
                              over without a copy */
    size_t rest;           /* bytes of input behind it, as far as they have come */
    uint32_t key;          /* payload is masked with it still; 0: plain. See net_message_unmask() */
    uint8_t opcode;        /* WS_OP_TEXT or WS_OP_BINARY */
};

/* Where a request leads. Zeroed before net_app.on_request(). */
struct net_route {
    bool websocket;            /* upgrade here; otherwise answer with `status` */
    int status;                /* of the answer: 200, 404, 405, 426, ... */
    const char *content_type;  /* of the body; NULL: text/plain */
    const char *extra_headers; /* whole lines with CRLF, or NULL */
    const void *body;          /* borrowed until on_request()'s caller has copied it */
    size_t body_len;
    void *body_free; /* released with free() when the request is answered, or NULL */
    const char *const *subprotocols;
    uint32_t subprotocol_count;
    uint32_t kind; /* the app's own, for on_open */
};

/* Calls upward. All on the shard's thread, within a turn. */
struct net_app {
    /* A complete request. Fills *route; keeps nothing of req. */
    void (*on_request)(void *ctx, struct conn *c, const struct http_request *req,
                       struct net_route *route);
    /* The upgrade is accepted and its answer queued: the app makes its session (conn.session).
     * Returns 0, or why the connection must be closed at once (enum conn_end of net/conn.h). */
    int (*on_open)(void *ctx, struct conn *c, const struct http_request *req, uint32_t kind);
    /* A whole message, UTF-8 checked, inflated. Returns whether it was taken; false: the app has
     * called conn_hold(), and the message will be offered again after conn_unhold(). */
    bool (*on_message)(void *ctx, struct conn *c, struct net_message *m);
    /* The session is over; once for every on_open() that returned 0. Nothing may be queued any
     * more. */
    void (*on_close)(void *ctx, struct conn *c);
};

enum net_listener_kind { NET_LISTENER_PUBLIC, NET_LISTENER_ADMIN, NET_LISTENER_TLS };

struct net_listener {
    struct io_listener io;
    struct net *net;
    uint8_t kind; /* enum net_listener_kind */
};

#define NET_LISTENERS_MAX 16
/* The most connections of a shard: what the pool's handles can name. */
#define NET_CONNS_MAX (1u << POOL_INDEX_BITS)
/* Connections beyond the shard's own maximum that are taken only to be told why they are refused.
 */
#define NET_REFUSALS_MAX 64

/* What the shards' transport layers share. */
struct net_shared {
    struct net *nets[MESH_SHARDS_MAX];
    _Atomic uint32_t connections; /* of the node, admitted ones */
    _Atomic uint64_t connect_tat; /* --connect-rate: GCRA's theoretical arrival time, ns */
    uint32_t max_connections;     /* resolved: never 0 */
    _Atomic(const struct net_config *) config; /* that shards shall work by: net_settings.h */
    struct tls_shared *tls;                    /* certificates; NULL: no TLS listeners */
    uint32_t ktls_suites; /* that the kernel is to seal (net/tls_ktls.h); 0: none. Main, at start */
};

struct net {
    struct shard *shard;
    struct io *io;
    const struct net_config *config;                /* changes between turns only: net_settings.h */
    _Atomic(const struct net_config *) config_told; /* the same, for main */
    const struct net_app *app;
    void *app_ctx;
    struct net_shared *shared;
    struct pool conns;
    struct pool rxs;
    struct pool chunks;
    struct wheel wheel;
    struct ws_limits ws_limits[2]; /* [1]: with permessage-deflate */
    struct http_limits http_limits;
    struct http_date date;
    struct conn *dirty;      /* have something to send */
    struct conn *ending;     /* marked by conn_end(), dealt with at flush */
    struct conn *resume;     /* holds are over */
    struct run *ping;        /* the one ping frame that all connections share */
    struct deflate *deflate; /* made at the first use */
    struct conn *inflating;  /* first of those whose message waits for it, see net/inflate.h */
    struct conn *inflating_last;
    bool inflate_begun; /* it is at the first one's message */
    struct inflate_copy {
        struct message *to; /* NULL: nothing is being copied */
        struct bytes from;  /* the rest, in the inflater's buffer */
        struct utf8_state utf8;
    } inflate_copy;      /* the first one's message, inflated, on its way out */
    uint64_t turn_work;  /* --turn-budget as bytes of work, see net/inflate.h */
    uint64_t work_left;  /* of it in this turn */
    struct net_tls *tls; /* net/conn_tls.h; NULL: no TLS listeners */
    struct conn_answers {
        uint8_t *at; /* where the next one goes, up to end; NULL: nowhere yet */
        uint8_t *end;
        struct sendq_ref *ref; /* that they are in: the last of the connection's queue while that */
        uint16_t refs;         /* has so many */
    } answers; /* to the connection whose input is dealt with, see net/conn_reply.h */
    struct admission admission;
    struct net_listener listeners[NET_LISTENERS_MAX];
    uint32_t listener_count;
    bool (*on_message)(void *ctx, struct conn *c, struct net_message *m); /* app's, at hand */
    bool message_rate;                                                    /* --message-rate is on */
    bool byte_rate;                                                       /* --byte-rate is on */
    uint64_t max_queue_bytes;                                             /* --max-queue, at hand */
    uint32_t max_queue_refs; /* the messages that may wait by it */
    size_t send_batch_bytes; /* --send-batch, at hand */
    uint32_t shard_max;      /* connections that this shard takes, refusals left out */
    uint32_t refusals;       /* connections attached only to be refused */
    uint64_t queue_bytes;    /* sum of the send queues */
    uint64_t assembly_bytes; /* sum of what incomplete messages and held input hold */
    uint64_t sweep_next_ns;  /* when the next part of the heartbeat sweep is due */
    uint64_t drain_started_ns;
    uint32_t sweep_cursor;
    uint32_t drain_cursor;
    uint32_t drain_total;
    uint32_t drain_closed;
    bool flush_again; /* something is left for the next turn: it must not wait */
    bool tickets;     /* listeners hand out tickets: the shard is full */
    bool draining;
    struct proxy_net *proxy_nets;
    uint32_t proxy_net_count;
    stats_value stats[NET_STAT_COUNT];
};

/* Prepares n as a module of s. The config, app and shared outlive it. 0 or -errno. Main. */
MUST_USE int net_init(struct net *n, struct shard *s, const struct net_config *config,
                      struct net_shared *shared, const struct net_app *app, void *app_ctx);

/* The shard's thread turns no more: what libraries keep for a thread goes. On that thread. */
void net_leave(struct net *n);

/* Frees everything; connections that are left are forgotten (their io is gone). */
void net_deinit(struct net *n);

/* Takes a listening socket. 0 or -errno. Shard's thread or main before the first turn. */
MUST_USE int net_listen(struct net *n, int fd, enum net_listener_kind kind);

/* Makes in->payload readable in place. */
static inline void net_message_unmask(struct net_message *in)
{
    if (in->key != 0)
        simd->unmask(in->payload.ptr, in->payload.ptr, in->payload.len, in->key);
    in->key = 0;
}

/* A message of the app's own for what came in: the assembled one, or a copy (counted), unmasked on
 * the way: one pass over the bytes. NULL without memory. payload_len and opcode are set. */
MUST_USE static inline struct message *net_message_take(struct net *n, struct net_message *in)
{
    struct message *m = in->owned;

    if (likely(m == NULL)) {
        m = message_new(&n->shard->messages, (uint32_t)in->payload.len);
        if (unlikely(m == NULL))
            return NULL;
        simd->unmask(message_payload(m), in->payload.ptr, in->payload.len, in->key);
        stats_inc(&n->stats[NET_STAT_PAYLOAD_COPIES]);
    } else {
        in->owned = NULL;
        m->payload_len = (uint32_t)in->payload.len;
    }
    m->opcode = in->opcode;
    return m;
}

/* Writes the frame header into m's room. */
static inline void net_message_frame(struct message *m, bool rsv1)
{
    uint8_t *end = message_payload(m);

    if (likely(m->payload_len < 126 && !rsv1)) {
        end[-2] = 0x80 | m->opcode; /* FIN; RFC 6455 5.2 */
        end[-1] = (uint8_t)m->payload_len;
        m->head_len = 2;
        return;
    }
    m->head_len =
        (uint8_t)ws_encode_head_before(end, (enum ws_opcode)m->opcode, rsv1, m->payload_len);
}

/* Whether the node is over one of its bounds: `own` bytes of this shard, and those that the others
 * tell in their gauge. Looks at the others only when the shard is over its own share. */
bool net_over_bound(struct net *n, enum net_stat gauge, uint64_t own, uint64_t bound);

/* Ends the connection that holds most of incomplete input on this shard; returns it, or NULL when
 * none holds any. */
struct conn *net_end_largest_assembly(struct net *n);

static inline void net_stat(struct net *n, enum net_stat i)
{
    stats_inc(&n->stats[i]);
}

#endif
