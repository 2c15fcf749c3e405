/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_H
#define NET_CONN_H

/* A connection: from accept through the HTTP head to the WebSocket and its end. One shard.
 *
 *   state      what input means           leaves by
 *   PROXY      PROXY protocol header      a complete one -> TLS or HEAD
 *   TLS        a TLS handshake            its end -> HEAD, and records from here on
 *   HEAD       HTTP request heads         101 -> OPEN; a refusal or `close` -> ENDING
 *   OPEN       WebSocket frames           conn_end() -> ENDING
 *   ENDING     ignored                    the turn's flush: app.on_close, close frame -> below
 *   CLOSING    only the peer's close      its arrival -> FLUSHING; --close-timeout -> GONE
 *   FLUSHING   ignored                    queue sent -> LINGER (FIN) or GONE
 *   LINGER     ignored, read away         end of file or time-out -> GONE
 *   GONE       none comes                 io's on_closed frees it
 *
 * What arrives while a connection is held (conn_hold) waits in its rx state; an idle connection has
 * none.
 *
 * The way of bytes in: io -> on_recv(), of TLS connections conn_tls_input() -> conn_input() ->
 * conn_feed() -> conn_http.c / conn_ws.c. The way out: conn_queue() -> sendq -> conn_flush(), of
 * TLS connections conn_tls_flush() -> io_send(). */

#include "net/net.h"
#include "net/sendq.h"

struct conn_shake;
struct conn_tls;

enum conn_state {
    CONN_PROXY,
    CONN_TLS,
    CONN_HEAD,
    CONN_OPEN,
    CONN_ENDING,
    CONN_CLOSING,
    CONN_FLUSHING,
    CONN_LINGER,
    CONN_GONE,
};

/* Why a connection ends. X(id, label, code, how, text). The close code of each is fixed here only.
 * how: CUT at once; LAST close frame, flush, FIN, read away; WAIT the same, but the peer's close
 * frame is awaited; REPLY the peer has sent its own: answer and close; SLOW as LAST, but
 * what waits in the queue is dropped first; DEAD nobody is there to wait for. */
#define CONN_ENDS(X)                                                                               \
    X(NONE, "none", 0, CUT, "")                                                                    \
    X(PEER_EOF, "peer_eof", 0, CUT, "peer closed the connection")                                  \
    X(PEER_RESET, "peer_reset", 0, CUT, "peer reset the connection")                               \
    X(PEER_CLOSE, "peer_close", 0, REPLY, "peer sent a close frame")                               \
    X(SEND_ERROR, "send_error", 0, CUT, "sending failed")                                          \
    X(HTTP_DONE, "http_done", 0, LAST, "HTTP exchange over")                                       \
    X(HTTP_REFUSED, "http_refused", 0, LAST, "request refused")                                    \
    X(PROTOCOL, "protocol_error", 1002, LAST, "protocol error")                                    \
    X(BAD_UTF8, "bad_utf8", 1007, LAST, "text is not UTF-8")                                       \
    X(BAD_DEFLATE, "bad_deflate", 1007, LAST, "compressed data is not DEFLATE")                    \
    X(TOO_BIG, "message_too_big", 1009, LAST, "message too big")                                   \
    X(FRAGMENTS, "too_many_fragments", 1008, LAST, "too many fragments")                           \
    X(SLOW_CONSUMER, "slow_consumer", 1013, SLOW, "slow consumer: send queue full")                \
    X(QUEUE_MEMORY, "queue_memory", 1013, SLOW, "node's send queues are full")                     \
    X(ASSEMBLY_MEMORY, "assembly_memory", 1013, LAST, "node's receive memory is full")             \
    X(NO_MEMORY, "no_memory", 1011, LAST, "out of memory")                                         \
    X(HANDSHAKE_TIMEOUT, "handshake_timeout", 0, LAST, "handshake timed out")                      \
    X(MESSAGE_TIMEOUT, "message_timeout", 1008, LAST, "message not completed in time")             \
    X(NO_PONG, "no_pong", 1008, DEAD, "no pong")                                                   \
    X(MESSAGE_RATE, "message_rate", 1008, LAST, "message rate limit")                              \
    X(BYTE_RATE, "byte_rate", 1008, LAST, "byte rate limit")                                       \
    X(NODE_FULL, "node_full", 1013, LAST, "node is full, try again later")                         \
    X(CONNECT_RATE, "connect_rate", 1013, LAST, "too many new connections, try again later")       \
    X(ADDRESS_FULL, "address_full", 1013, LAST, "too many connections from this address")          \
    X(ADDRESS_RATE, "address_rate", 1013, LAST, "too many new connections from this address")      \
    X(TLS_HANDSHAKE, "tls_handshake", 0, LAST, "TLS handshake failed")                             \
    X(TLS_RECORD, "tls_record", 0, LAST, "TLS record refused")                                     \
    X(TLS_WORN, "tls_key_worn", 1012, WAIT, "TLS key used up, please reconnect")                   \
    X(TLS_ON_PLAIN, "tls_on_plain_port", 0, CUT, "TLS on the port without")                        \
    X(PROXY_HEADER, "proxy_header", 0, CUT, "PROXY protocol header missing or malformed")          \
    X(UNAVAILABLE, "unavailable", 1013, LAST, "not available now, try again later")                \
    X(DRAIN, "drain", 1012, WAIT, "server is restarting, please reconnect")                        \
    X(APP, "app", 1000, WAIT, "closed by the server")                                              \
    X(INTERNAL, "internal_error", 1011, LAST, "internal error")

enum conn_end {
#define X(id, label, code, how, text) CONN_END_##id,
    CONN_ENDS(X)
#undef X
        CONN_END_COUNT
};

enum conn_hold {
    CONN_HOLD_ADMISSION = 1,
    CONN_HOLD_APP = 2, /* the app waits for an answer of another shard; nothing is sent either: the
                          101 says that the session is in force */
    CONN_HOLD_CREDIT = 4,   /* no credit at the home of the next publish */
    CONN_HOLD_OUTPUT = 8,   /* HTTP pipeline: the answers must leave first */
    CONN_HOLD_TLS = 32,     /* more than its handshake can use by now */
    CONN_HOLD_INFLATE = 16, /* a compressed message is in line before the inflater */
    CONN_HOLD_QUEUE = 64,   /* its queue is overfull: what more it asks for waits for the flush */
};

enum {
    CONN_F_WS = 1,             /* 101 was queued: frames from here on */
    CONN_F_SESSION = 2,        /* the app has a session: on_close is due */
    CONN_F_DIRTY = 4,          /* on net->dirty */
    CONN_F_RESUME = 8,         /* on net->resume */
    CONN_F_PING_OUT = 16,      /* a ping is unanswered, its time is running */
    CONN_F_ADMITTED = 32,      /* counted at its address's home */
    CONN_F_COUNTED = 64,       /* counted in net_shared.connections */
    CONN_F_REFUSAL = 128,      /* to be refused, not yet answered: counted in net->refusals */
    CONN_F_ADMIN = 256,        /* came by the admin listener */
    CONN_F_DEFLATE = 512,      /* permessage-deflate negotiated */
    CONN_F_EOF = 1024,         /* nothing more will be received */
    CONN_F_PING_MISSED = 2048, /* pong_misses is not 0 */
    CONN_F_BROKEN = 4096,      /* a send has failed: nothing can be sent any more */
    CONN_F_BEGUN = 8192,       /* a frame or message is begun and its time is running */
    CONN_F_TLS = 16384,        /* came by a TLS listener */
    CONN_F_TLS_OPEN = 32768,   /* has keys: conn.tls, else conn.shake */
};

/* Sends of one connection in one flush; what is left goes on in the next turn. */
#define FLUSH_ROUNDS_MAX 4

/* Time that fits: units of 2^20 ns (1.05 ms) since the io's epoch; wraps after 52 days, compared as
 * a signed difference. */
#define CONN_TICK_SHIFT 20
#define CONN_TICKS(ns) ((uint32_t)((ns) >> CONN_TICK_SHIFT))

/* What only a busy connection needs: an incomplete head, frame or message, or held input. */
struct conn_rx {
    struct message *head;        /* bytes of an incomplete HTTP or PROXY head; head_len of them */
    struct message *assembly;    /* payload of the begun message; assembly_len of it */
    struct message *rest;        /* input that came while held; rest[rest_off..rest_len) */
    struct message *parked;      /* a whole message that the app did not take yet */
    struct message *record;      /* a TLS record that is cut; record_len bytes of it */
    struct message *deflated;    /* a whole compressed message that is not inflated yet */
    struct conn *next_inflating; /* while there is one: the line of net/inflate.h */
    uint32_t head_len;
    uint32_t assembly_len;
    uint32_t rest_off;
    uint32_t rest_len;
    uint32_t record_len;
    uint32_t hello_len; /* the ClientHello in head is not whole before head_len is this */
    struct http_scan scan;
    struct utf8_state utf8;
    uint8_t control_len;
    uint8_t control_opcode;
    bool in_message;      /* a fragmented or cut message is begun */
    bool compressed;      /* it is compressed */
    uint8_t control[125]; /* payload of a control frame that was cut */
    uint64_t charged;     /* bytes counted in net->assembly_bytes */
};

struct conn {
    struct io_conn io; /* hot: every callback begins here */
    struct net *net;
    struct conn_rx *rx; /* NULL when idle */
    struct ws_decoder decoder;
    struct sendq sendq;
    struct conn *next_dirty;
    struct conn *next_ending;
    struct conn *next_resume;
    void *session; /* the app's */
    union {
        struct conn_shake *shake; /* net/conn_shake.h; NULL: no whole ClientHello yet */
        struct conn_tls *tls;     /* net/conn_tls.h; with CONN_F_TLS_OPEN */
    };
    uint16_t flags;           /* CONN_F_... */
    uint8_t state;            /* enum conn_state */
    uint8_t holds;            /* enum conn_hold bits */
    uint32_t heard;           /* CONN_TICKS of the last received byte */
    uint32_t deadline;        /* CONN_TICKS: handshake, message or closing, as the state says */
    uint32_t ping_at;         /* CONN_TICKS of the last ping sent */
    struct wheel_timer timer; /* armed only while one of the deadlines runs */
    uint64_t message_tat;     /* --message-rate and --byte-rate: GCRA */
    uint64_t byte_tat;
    struct io_addr peer;
    uint16_t peer_code; /* close code that the peer sent */
    uint8_t end;        /* enum conn_end, from ENDING on */
    uint8_t refuse;     /* enum conn_end that the handshake shall end with; 0: none */
    uint8_t pong_misses;
    uint8_t window_bits; /* of permessage-deflate towards the client */
    uint8_t app_bits;    /* the app's */
    uint8_t jitter;      /* of the heartbeat: 0..255 of interval/16 */
};

static inline struct conn *conn_of(struct io_conn *io)
{
    return container_of(io, struct conn, io);
}

static inline bool conn_is_open(const struct conn *c)
{
    return c->state == CONN_OPEN;
}

static inline uint32_t conn_handle(const struct conn *c)
{
    return pool_handle(&c->net->conns, c);
}

static inline void conn_mark_dirty(struct conn *c)
{
    if (c->flags & CONN_F_DIRTY)
        return;
    c->flags |= CONN_F_DIRTY;
    c->next_dirty = c->net->dirty;
    c->net->dirty = c;
}

/* Slow path of conn_queue(): ends the connection, there is no memory or there are too many. */
void conn_queue_failed(struct conn *c, enum conn_end why);
/* Slow path of conn_queue(): no room for len bytes. While a send is under way that is the end: slow
 * consumer, and false. Else nobody has been waited for, and the queue may be overfull until this
 * turn's flush. */
bool conn_queue_overfull(struct conn *c, uint32_t len);

static inline bool conn_queue_has_room(const struct conn *c, uint32_t len)
{
    return c->sendq.bytes + (uint64_t)len <= c->net->max_queue_bytes || c->sendq.bytes == 0;
}

/* Queues run[off..off+len) for sending; the queue takes a use of its own. False when the connection
 * is not open, or is ended by this: slow consumer. */
__attribute__((always_inline)) static inline bool conn_queue(struct conn *c, struct run *run,
                                                             uint32_t off, uint32_t len)
{
    struct net *n = c->net;

    if (unlikely(c->state != CONN_OPEN))
        return false;
    if (unlikely(!conn_queue_has_room(c, len)) && !conn_queue_overfull(c, len))
        return false;
    if (unlikely(!sendq_push(&c->sendq, &n->chunks, run, off, len))) {
        conn_queue_failed(c, CONN_END_NO_MEMORY);
        return false;
    }
    n->queue_bytes += len;
    conn_mark_dirty(c);
    return true;
}

/* Too many messages wait, however short. */
static inline bool conn_queue_is_crowded(const struct conn *c)
{
    return c->sendq.refs > c->net->max_queue_refs;
}

/* Queues bytes of our own (answers, control frames) past the bound. False without memory. */
bool conn_queue_bytes(struct conn *c, const void *bytes, uint32_t len);

/* Marks the connection as ending; the turn's flush does the rest. The first reason stays. */
void conn_end(struct conn *c, enum conn_end why);

/* Whether a flush is a usual one; else it goes by conn_flush_rare(). */
static inline bool conn_flush_is_usual(const struct conn *c)
{
    return likely(c->sendq.gathered == 0 && c->state < CONN_LINGER &&
                  !(c->holds & (CONN_HOLD_APP | CONN_HOLD_QUEUE)));
}

/* A flush that finds a send under way looks at what waits behind it; one of an overfull queue lets
 * all leave that io takes. */
void conn_flush_rare(struct conn *c);

/* Stops and resumes the reading of frames, for one reason each; idempotent. */
void conn_hold(struct conn *c, enum conn_hold why);
void conn_unhold(struct conn *c, enum conn_hold why);

/* For net.c, the listeners and the phases of the connection
 * ---------------------------------------- */

/* Accept: makes the connection of a socket of such a listener and checks the limits. NULL without
 * memory.
 */
struct conn *conn_new(struct net *n, enum net_listener_kind kind, const struct io_addr *peer);
/* Frees a connection that no io has attached. */
void conn_discard(struct conn *c);
/* An adopted connection's first step, and an accepted one's. */
void conn_begin(struct conn *c);
void conn_admitted(struct conn *c, enum admission_verdict v);
/* What a connection takes of --connect-rate, in ns; 0: no rate. */
uint64_t conn_connect_cost(const struct net *n);
/* Gives that back for one that its address's limits refuse. */
void conn_give_back_cost(struct net *n, uint64_t cost_ns);

/* Bytes have come: signs of life, rates. */
void conn_received(struct conn *c, size_t len);
/* Plaintext that has come. What can't be used now is kept. */
void conn_input(struct conn *c, struct bytes in);
/* Nothing more comes, by an end of file (0), close_notify (0), or an error. */
void conn_input_over(struct conn *c, int err);
/* Input that is ready to be understood; steps *in behind what was used. */
void conn_feed(struct conn *c, struct bytes *in);
void conn_resume(struct conn *c);
void conn_finish(struct conn *c);
/* One gathered send of what waits, as it is. Returns as io_send(); *bytes is what it takes. */
int conn_send_some(struct conn *c, size_t *bytes);
void conn_flush(struct conn *c);       /* as it is */
void conn_tls_flush(struct conn *c);   /* sealed, here or by the kernel; with CONN_F_TLS_OPEN */
void conn_flushed(struct conn *c);     /* everything that was queued has left */
void conn_send_failed(struct conn *c); /* nothing can be sent any more */
void conn_on_sent(struct io_conn *io, int err);
void conn_on_closed(struct io_conn *io);
/* Whether the peer may still be sending: to close now could reset what it has not read yet. */
bool conn_must_linger(const struct conn *c);
void conn_close_now(struct conn *c, bool reset);

/* conn_time.c */
void conn_timer_fired(struct conn *c, uint64_t now_ns);
void conn_set_deadline(struct conn *c, uint64_t from_now_ns); /* 0: none */
void conn_clear_deadline(struct conn *c);
void conn_rearm(struct conn *c);
void conn_ping(struct conn *c);

/* conn_http.c */
void conn_http_input(struct conn *c, struct bytes *in);
void conn_http_timeout(struct conn *c);
void conn_http_plain_on_tls(struct conn *c);
/* What ends a connection before its upgrade and would have a close code after it, a bound of memory
 * or a rate, is told by a 503 or 429; a drain only to those who have begun a request. Nothing is
 * queued yet. */
void conn_http_last_words(struct conn *c);

/* conn_ws.c */
void conn_ws_input(struct conn *c, struct bytes *in);
bool conn_ws_offer_parked(struct conn *c);
/* A message is inflated; `m` as in net_app.on_message(), what is not taken of it is freed. */
void conn_ws_inflated(struct conn *c, struct net_message *m, bool is_checked);

/* Close code and text of an end; its label. */
uint16_t conn_end_code(enum conn_end why);
const char *conn_end_text(enum conn_end why);

#endif
