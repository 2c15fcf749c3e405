/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_LINK_H
#define PUBSUB_REDIS_LINK_H

/* One connection of a shard to one Redis server, kept up for ever, on the shard's own io. One
 * shard.
 *
 * A link has a role. A `command` link pipelines commands and hands over their replies in order. A
 * `subscriber` link sends (S)SUBSCRIBE and (S)UNSUBSCRIBE in batches and hands over what the server
 * pushes (RESP2: a connection that subscribes can do nothing else but PING).
 *
 *      IDLE --start--> WAITING --backoff over--> RESOLVING --> CONNECTING --> HANDSHAKE --> UP
 *                         ^                                                                 |
 *                         `--------- on_down: refused, timeout, end, error, reopen ---------'
 *      any state --stop--> IDLE, as soon as redis_link_is_idle()
 *
 * With config.tls there is the state TLS between CONNECTING and HANDSHAKE (pubsub/redis_tls.h):
 * until that is through nothing else is sent.
 *
 * The handshake (AUTH, SELECT, CLIENT SETNAME, PING; with wants_master ROLE before it) goes out in
 * one send, and on_up() comes when all of it is answered. It has config.connect_timeout_ns from the
 * first step on. Waiting times are drawn from [0, backoff), which starts at backoff_min_ns, doubles
 * with every failed attempt up to backoff_max_ns, and starts anew when a link has been up that
 * long. The first attempt after redis_link_start() or redis_link_reopen() is made at once.
 *
 * A link that is connected but silent is none of its business: who sends canaries through it calls
 * redis_link_reopen().
 *
 * Memory: what is not sent yet lies in blocks of the link; payloads of messages over
 * REDIS_OUT_COPY_MAX are referenced, not copied. The bytes of all commands that are not answered
 * yet are bounded by config.queue_bytes_max, over which redis_link_command() says -ENOBUFS.
 *
 * The owner calls redis_link_turn() once a turn, redis_link_flush() at its end. Callbacks come only
 * from within io_poll(), redis_link_turn(), and redis_link_flush(), _reopen(), _retry() and _stop()
 * (on_lost, on_down), and may call every function below but redis_link_deinit(). */

#include "core/io.h"
#include "core/message.h"
#include "pubsub/redis_error.h"
#include "pubsub/redis_out.h"
#include "pubsub/redis_reply.h"
#include "pubsub/redis_url.h"

struct redis_link;
struct redis_lookup;
struct redis_resolver;
struct redis_tls;
struct tls_client;

enum redis_role { REDIS_ROLE_COMMAND, REDIS_ROLE_SUBSCRIBER };

enum redis_link_state {
    REDIS_LINK_IDLE,       /* not started, or stopped */
    REDIS_LINK_WAITING,    /* for the next attempt */
    REDIS_LINK_RESOLVING,  /* the host's name */
    REDIS_LINK_CONNECTING, /* the socket */
    REDIS_LINK_TLS,        /* its handshake */
    REDIS_LINK_HANDSHAKE,
    REDIS_LINK_UP,
    REDIS_LINK_CLOSING, /* the io has not given the connection back yet; then WAITING or IDLE */
};

/* Why an attempt or a connection ended. X(id, label) */
#define REDIS_DOWNS(X)                                                                             \
    X(RESOLVE, "resolve")       /* the name is not known, or nobody could be asked */              \
    X(CONNECT, "connect")       /* refused, unreachable, no descriptor */                          \
    X(TIMEOUT, "timeout")       /* not up within connect_timeout_ns */                             \
    X(TLS, "tls")               /* no TLS, a certificate refused, a wrong record */                \
    X(REFUSED, "refused")       /* an error reply in the handshake: l->down_error */               \
    X(NOT_MASTER, "not_master") /* wants_master, and ROLE says something else */                   \
    X(CLOSED, "closed")         /* the server ended the connection */                              \
    X(RESET, "reset")           /* reset, or another error of the socket */                        \
    X(PROTOCOL, "protocol")     /* not RESP2, or a reply that nobody asked for */                  \
    X(TOO_LARGE, "too_large")   /* a reply over reply_bytes_max */                                 \
    X(MEMORY, "memory")         /* none was to be had */                                           \
    X(REOPENED, "reopened")     /* redis_link_reopen(), redis_link_retry() */                      \
    X(STOPPED, "stopped")       /* redis_link_stop() */

enum redis_down {
#define X(id, label) REDIS_DOWN_##id,
    REDIS_DOWNS(X)
#undef X
        REDIS_DOWN_COUNT
};

/* What a subscriber link is told by itself: the first word of a push. */
enum redis_push_kind {
    REDIS_PUSH_MESSAGE,     /* message, smessage: channel and payload */
    REDIS_PUSH_SUBSCRIBE,   /* channel is now subscribed */
    REDIS_PUSH_UNSUBSCRIBE, /* no longer; also unasked for sharded channels (their slot moved) */
    REDIS_PUSH_SSUBSCRIBE,  /* the same two for sharded channels */
    REDIS_PUSH_SUNSUBSCRIBE,
};

struct redis_push {
    uint8_t kind; /* enum redis_push_kind */
    bool sharded; /* of a MESSAGE: it was an smessage */
    const char *channel;
    const char *payload; /* MESSAGE */
    uint32_t channel_len;
    uint32_t payload_len;
    int64_t count; /* the others: channels that the connection is still subscribed to */
};

/* Calls upward. All but on_release may be NULL where the role or the owner has no use for them. */
struct redis_link_events {
    /* Ready for commands; nothing is subscribed. */
    void (*on_up)(struct redis_link *l);
    /* An attempt has failed (was_up false) or the connection is over; all commands that were
     * unanswered have been told to on_lost(). `text` (borrowed) names the details for the log,
     * without credentials. The link tries again by itself, except for STOPPED. */
    void (*on_down)(struct redis_link *l, enum redis_down why, const char *text, bool was_up);
    /* The answer to the oldest unanswered command, an error reply included; borrowed. Of a
     * redis_link_subscribe(): the push that was the last of its answers, or the error. */
    void (*on_reply)(struct redis_link *l, uint64_t tag, const struct redis_reply *r);
    /* The connection ended before the answer. was_sent false: surely not carried out (not a byte
     * was given to the kernel); true: nobody knows. */
    void (*on_lost)(struct redis_link *l, uint64_t tag, bool was_sent);
    /* Subscriber: borrowed. */
    void (*on_push)(struct redis_link *l, const struct redis_push *push);
    /* Gives the reference back that redis_link_command() took with an argument. */
    void (*on_release)(struct redis_link *l, struct message *m);
};

struct redis_link_config {
    enum redis_role role;
    struct redis_endpoint endpoint;
    const char *user;     /* "" or NULL: AUTH with the password alone. These three outlive the */
    const char *password; /* link; "" or NULL: no AUTH */
    const char *name;     /* CLIENT SETNAME, no spaces; NULL: none */
    uint32_t db;          /* SELECT, when not 0 */
    bool wants_master;    /* ROLE must not say slave; that it may not be asked is no failure */
    uint64_t connect_timeout_ns;
    uint64_t backoff_min_ns; /* > 0 */
    uint64_t backoff_max_ns;
    uint32_t queue_bytes_max;        /* of commands that are not answered */
    uint32_t reply_bytes_max;        /* of one reply */
    struct redis_resolver *resolver; /* shared; NULL: endpoints are addresses or paths only */
    struct tls_client *tls;          /* shared; the endpoint's host proves its name. NULL: plain */
};

/* Counters of one link since redis_link_init(); the owner copies them where they are read. */
struct redis_link_stats {
    uint64_t connects; /* attempts that became UP */
    uint64_t downs[REDIS_DOWN_COUNT];
    uint64_t errors[REDIS_ERROR_COUNT]; /* error replies, the handshake's included */
    uint64_t commands;                  /* taken by redis_link_command() and _subscribe() */
    uint64_t replies;                   /* on_reply() calls */
    uint64_t lost;                      /* on_lost() calls */
    uint64_t refused;                   /* commands not taken: queue full, or no memory */
    uint64_t pushes;
    uint64_t sent_bytes; /* of the socket: with TLS as they are sealed */
    uint64_t received_bytes;
    uint64_t tls_handshakes; /* that came to an end */
};

struct redis_pending;

struct redis_link {
    const struct redis_link_events *events; /* set by redis_link_init() */
    void *owner;                            /* the owner's own */
    struct io *io;
    struct redis_link_config config;
    struct redis_link_stats stats;
    uint8_t state;             /* enum redis_link_state */
    uint8_t down_error;        /* enum redis_error of the last REFUSED */
    struct io_addr address;    /* of the last attempt */
    uint64_t up_since_ns;      /* UP: since when */
    uint64_t unanswered_bytes; /* of commands taken and not answered */
    uint32_t unanswered;       /* such commands */
    /* The rest is the link's own. */
    bool stopping;
    bool at_once;            /* the next attempt doesn't wait */
    bool sending;            /* an io_send() is under way */
    uint32_t attempts;       /* failed in a row */
    uint32_t lookups;        /* made so far: which of several addresses is next */
    uint64_t deadline_ns;    /* WAITING: the next attempt; up to UP, and CLOSING: the time-out */
    uint64_t heard_bytes;    /* received before the connection began */
    uint64_t handed_bytes;   /* of commands given to the kernel since the connection began */
    uint64_t answered_bytes; /* of commands that are answered */
    struct io_conn conn;
    struct redis_reader *reader;
    struct redis_out out;
    struct redis_pending *pending; /* ring of a power of two */
    uint32_t pending_head, pending_tail, pending_cap;
    struct redis_lookup *lookup; /* RESOLVING */
    struct redis_tls *tls;       /* from TLS on; NULL: plain */
};

/* Prepares l; nothing is connected. *config is copied, what it points to is not. io and events
 * outlive l. */
void redis_link_init(struct redis_link *l, struct io *io, const struct redis_link_config *config,
                     const struct redis_link_events *events, void *owner);

/* Frees what is left. The link is IDLE, or WAITING (started, and nothing is under way). */
void redis_link_deinit(struct redis_link *l);

/* Begins to connect, at the next redis_link_turn(). Idempotent; undoes a stop. */
void redis_link_start(struct redis_link *l);

/* Ends the connection and the trying. on_lost() and on_down() come before the return where there
 * was something to lose; the connection is gone when redis_link_is_idle(). */
void redis_link_stop(struct redis_link *l);

static inline bool redis_link_is_idle(const struct redis_link *l)
{
    return l->state == REDIS_LINK_IDLE;
}

static inline bool redis_link_is_up(const struct redis_link *l)
{
    return l->state == REDIS_LINK_UP;
}

/* Ends the connection, if there is one, and connects anew at once: a canary has not come back. Text
 * is constant and goes to on_down(). While WAITING it makes the attempt come at once. */
void redis_link_reopen(struct redis_link *l, const char *text);

/* Ends the connection, if there is one, as if it had failed: the next attempt waits its time. */
void redis_link_retry(struct redis_link *l, const char *text);

/* From the next attempt on the link connects there. One that is under way goes on to where it was
 * begun, though its name is asked of TLS by this: who sets another endpoint then reopens the link
 * (redis_link_reopen(), _retry()), unless it is ending. */
void redis_link_set_endpoint(struct redis_link *l, const struct redis_endpoint *e);

/* Attempts and time-outs. Once a turn; returns when it wants the next at the latest, IO_FOREVER:
 * not at all. */
uint64_t redis_link_turn(struct redis_link *l, uint64_t now_ns);

/* Hands what was queued to the io. At the end of a turn. */
void redis_link_flush(struct redis_link *l);

/* Queues a command for the end of the turn. Returns 0 (then exactly one on_reply() or on_lost()
 * with that tag follows); -ENOTCONN: not UP; -ENOBUFS: queue_bytes_max would be passed; -ENOMEM.
 * After an error nothing has been taken. */
MUST_USE int redis_link_command(struct redis_link *l, const char *name,
                                const struct redis_arg *args, uint32_t count, uint64_t tag);

/* Subscriber only: subscribes to or unsubscribes from count channels (1 to REDIS_LINK_BATCH_MAX)
 * with one command; kind is not REDIS_PUSH_MESSAGE. Every channel is answered by a push, and
 * on_reply() comes with the last of them or with the error that answers the whole command; of a
 * SUNSUBSCRIBE with the PONG to a PING of the link's own, as pushes may also come unasked. Returns
 * as redis_link_command(). */
#define REDIS_LINK_BATCH_MAX 0xffffffu
MUST_USE int redis_link_subscribe(struct redis_link *l, enum redis_push_kind kind,
                                  const struct redis_arg *channels, uint32_t count, uint64_t tag);

/* Constant texts. */
const char *redis_down_label(enum redis_down why);
const char *redis_link_state_label(enum redis_link_state state);

#endif
