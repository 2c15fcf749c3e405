/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_CLIENT_H
#define TOOLS_LOAD_CLIENT_H

/* One WebSocket connection of the generator: connects, upgrades, sends stamped messages as fast as
 * its role allows, hands over what comes. Everything on its worker's thread.
 *
 *   NEW --client_open--> CONNECTING [--> SHAKE] --> HEAD --101--> OPEN --client_leave--> LEAVING
 *   any but NEW --client_end, or the peer--> ENDED --on_closed--> NEW
 *
 * A role's callbacks run within io_poll(). Sending is by allowance: client_allow() says how many
 * messages may have left by now; they are made when they leave, all that wait in one send.
 *
 * Masking (RFC 6455 5.3): the key is drawn once for a run, and all frames use it, so that the tail
 * of a payload is masked once for all messages. That is unpredictable enough for what masking is
 * for, bytes that somebody else chose and a cache in between could misread: here nobody else
 * chooses any. */

#include "core/io.h"
#include "net/ws_decoder.h"
#include "tools/load/stamp.h"
#include "tools/load/verify.h"

/* Longer tails of payloads are sent from where they are; copying a short one is cheaper than a
 * span more. */
#define CLIENT_TAIL_COPY_MAX 1024

struct client;
struct client_tls;
struct worker;
struct group;

enum client_state {
    CLIENT_NEW,
    CLIENT_CONNECTING,
    CLIENT_SHAKE, /* the handshake of TLS is under way */
    CLIENT_HEAD,  /* the request has been sent */
    CLIENT_OPEN,
    CLIENT_LEAVING, /* a close frame of ours is out or waits */
    CLIENT_ENDED,
};

/* Why a connection is over. */
enum client_why {
    CLIENT_WHY_SELF,     /* the role wanted it */
    CLIENT_WHY_CONNECT,  /* number: -errno */
    CLIENT_WHY_TLS,      /* the handshake failed; text says why; number: 1: by the certificate */
    CLIENT_WHY_TIMEOUT,  /* not open in time */
    CLIENT_WHY_STATUS,   /* number: the HTTP status */
    CLIENT_WHY_UPGRADE,  /* the answer is no good upgrade; text says why */
    CLIENT_WHY_PROTOCOL, /* the server broke RFC 6455 or 7692; text says how */
    CLIENT_WHY_CLOSED,   /* number: code of the server's close frame, 0: none; text: its reason */
    CLIENT_WHY_LOST,     /* end of file or reset without one; number: 0 or -errno */
    CLIENT_WHYS,
};

struct client_end {
    enum client_why why;
    int number;
    const char *text; /* borrowed */
};

/* What a kind of connection does. */
struct role {
    /* Makes the request in out (HANDSHAKE_REQUEST_MAX) and returns its length. NULL: a good one. */
    uint32_t (*request)(struct client *c, char *out);
    /* The upgrade is done. */
    void (*on_open)(struct client *c);
    /* A whole data message, inflated; borrows payload. */
    void (*on_message)(struct client *c, struct bytes payload, uint8_t opcode);
    /* What one receive brought has been handed over: the moment to send again. May be NULL. */
    void (*on_batch)(struct client *c);
    /* A pong has come. May be NULL. */
    void (*on_pong)(struct client *c);
    /* The connection is over; told once. May be NULL: then it is a failure of the run unless
     * CLIENT_WHY_SELF. */
    void (*on_end)(struct client *c, const struct client_end *end);
    /* The struct may be opened again. May be NULL. */
    void (*on_closed)(struct client *c);
};

/* Clients in the order in which they were added. */
struct client_list {
    struct client *first;
    struct client *last;
    uint32_t count;
};

struct client {
    struct io_conn io;
    struct worker *worker;
    const struct group *group;
    uint64_t seq;     /* messages sent: number of the next */
    uint64_t allowed; /* seq may grow up to here */
    uint8_t *out;     /* memory of the send under way, or NULL */
    struct client_rx *rx;
    struct client_control *control; /* a control frame that waits for the send under way */
    struct client_tls *tls;         /* NULL: plain, or not connected */
    struct ws_decoder decoder;
    struct verify_stream stream;   /* of what this client gets from itself */
    uint64_t *times;               /* small stamps: of message s at s & times_mask; or NULL */
    struct verify_stream *streams; /* of what it gets from publishers; NULL in other roles */
    uint64_t order;                /* hash over the messages of publishers, in order */
    struct client *list_next;      /* in one of the worker's lists, oldest first */
    struct client *list_prev;
    uint64_t opened_ns;    /* when opening began, or was due */
    uint64_t kept_from_ns; /* an opener's: when it was open */
    uint32_t id;           /* in the run: the sender of its messages */
    uint32_t number;       /* in its group */
    uint32_t room;         /* number % rooms of the group */
    uint32_t copies;       /* so many receivers get each of its messages */
    uint32_t pace_idx;     /* open loop: event k of the worker is of client k % count */
    uint32_t greetings;    /* still to come */
    uint32_t misdeed;      /* a misbehaving client's: number of what it does next */
    uint8_t state;         /* enum client_state */
    bool sending;
    bool shaking;    /* counted in the worker's */
    bool compressed; /* negotiated */
    bool held;       /* an opener's: in its list of those that are kept */
    bool was_open;   /* an opener's: this attempt was upgraded */
};

/* Begins to connect; state NEW. What fails at once is told by role->on_end, too. */
void client_open(struct client *c);

/* Messages 0 .. allowed - 1 may leave; what may does, at once if no send is under way. */
void client_allow(struct client *c, uint64_t allowed);

/* Sends a ping without payload. */
void client_ping(struct client *c);

/* Sends a close frame (1000); the end follows by the server. */
void client_leave(struct client *c);

/* Ends it now, told by role->on_end as CLIENT_WHY_SELF; with `reset` by RST. Idempotent. */
void client_cut(struct client *c, bool reset);

/* Whether it is between client_open() and its end. */
static inline bool client_is_alive(const struct client *c)
{
    return c->state != CLIENT_NEW && c->state != CLIENT_ENDED;
}

/* A client is in one list at most; while it is being opened that is the worker's. */
void client_list_add(struct client_list *l, struct client *c);
void client_list_remove(struct client_list *l, struct client *c);

/* The request of a good client, into HANDSHAKE_REQUEST_MAX bytes. Returns its length. */
uint32_t client_request(const struct client *c, char *out);

/* Sends bytes as they are; len at most HANDSHAKE_REQUEST_MAX. Not while a send is under way: then
 * nothing happens and the answer is false. */
bool client_send_raw(struct client *c, const void *bytes, size_t len);

/* Opening took too long. */
void client_expire(struct client *c);

/* One line about an end, "closed with 1013 (too slow)", into cap bytes. */
void client_end_text(const struct client_end *end, char *text, size_t cap);

/* Between client.c, client_tx.c and client_tls.c ------------------------------------------------
 */

/* The peer's doing, or a failure: nothing more can be sent. Idempotent. */
void client_fail(struct client *c, enum client_why why, int number, const char *text);

/* Connected, with TLS: the handshake is done. Sends the request, behind `flight`. */
void client_ask(struct client *c, struct bytes flight);

/* What has come, decrypted. Returns whether frames could be in it. */
bool client_input(struct client *c, struct bytes in);

/* As they are, without TLS; no send is under way. */
void client_tx_flight(struct client *c, struct bytes flight);
/* The same, and a request of len bytes behind it; without TLS there is no flight. */
void client_tx_request(struct client *c, struct bytes flight, const char *request, size_t len);
/* A control frame, at once or when the send under way is over. */
void client_tx_control(struct client *c, uint8_t opcode, const uint8_t *payload, uint32_t len);
/* The send that was under way is over: what waits may leave. */
void client_tx_sent(struct client *c);
/* io has forgotten c: all memory of sends goes. */
void client_tx_free(struct client *c);

#endif
