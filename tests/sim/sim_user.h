/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_USER_H
#define TESTS_SIM_SIM_USER_H

/* A virtual client that speaks WebSocket, well or badly, and looks at everything that it gets.
 * Written from the RFCs, not from the server's own code. */

#include "tests/sim/sim_world.h"

struct sim_tls;

#define USER_ECHO UINT32_MAX /* room of those who talk to /echo */

enum user_state {
    USER_CONNECTING, /* the handshake's answer has not come */
    USER_OPEN,
    USER_ENDING, /* has said that it ends, or was told so */
    USER_DONE,
};

/* How a user ends by its own will. */
enum user_fate {
    FATE_STAY,
    FATE_CLOSE,   /* close frame */
    FATE_FIN,     /* ends its sending side */
    FATE_ABORT,   /* closes the socket */
    FATE_RESET,   /* resets it */
    FATE_VIOLATE, /* breaks a rule */
    FATE_COUNT,
};

struct user_sent {
    uint32_t len;
    bool text;
    uint64_t out_end; /* offset in the stream of bytes behind the message */
};

/* Bytes that wait; [pos..len) of them. */
struct user_buffer {
    uint8_t *bytes;
    size_t pos;
    size_t len;
    size_t cap;
};

struct user {
    struct world *w;
    struct sim_client *client;
    struct sim_tls *tls; /* sim_tls.h; NULL: came by the plain port */
    uint32_t uid;
    uint32_t room; /* or USER_ECHO */
    uint8_t state; /* enum user_state */
    uint8_t fate;  /* enum user_fate */
    bool wants_echo;
    bool offers_deflate;
    bool deflate;       /* negotiated */
    bool intact;        /* neither has its connection been hurt nor has it ended anything */
    bool clean;         /* its end is known to have come behind all that it sent */
    bool mute;          /* answers no pings */
    uint8_t pong_every; /* answers each so many-th only; 0: all */
    bool is_http;       /* never upgrades */
    bool like_tls;      /* begins as TLS does, on a plain port: cut off with what it sent unread */
    bool is_eager;      /* speaks before the handshake is answered */
    bool fin_sent;
    bool fate_done;
    bool close_sent;
    bool close_seen;
    uint16_t close_code;    /* that came, 0: none */
    uint16_t expected_code; /* of the answer to our violation or close; 0: none */
    uint32_t http_expected; /* answers before the upgrade's */
    uint32_t http_seen;
    uint16_t http_status; /* last one */
    uint32_t todo;        /* messages still to publish by itself */
    uint32_t burst;       /* of them at once */
    uint32_t len_max;
    uint64_t cut_at;   /* ends when so many bytes are sent: anywhere; 0: no */
    uint64_t act_ns;   /* next publishing */
    uint64_t read_ns;  /* does not read before */
    uint64_t write_ns; /* does not write before */
    uint32_t read_max; /* bytes at once; 0: all */
    uint64_t read_pause_ns;
    uint64_t connect_ns;
    uint64_t spoke_ns;    /* last bytes sent */
    uint64_t pinged_ns;   /* last ping that came */
    uint64_t ended_ns;    /* a close frame came, or the end without one */
    uint64_t first_time;  /* w->time of its first message */
    uint64_t joined_time; /* w->time at which it was known to be a member; 0: not yet */
    uint64_t out_sent;    /* bytes given to the network */
    struct user_buffer out;
    struct user_buffer in;
    struct user_sent *sent; /* by sequence number */
    uint32_t sent_count;
    uint32_t sent_cap;
    uint32_t echo_next; /* next of our own that must come back from /echo */
    uint32_t pings_sent;
    uint32_t pongs_seen;
    uint32_t pings_seen;
    int32_t expect[WORLD_USERS_MAX]; /* next sequence number of each sender; -1: none seen */
    uint32_t *got;                   /* uid << 20 | sequence number, in order */
    uint32_t got_count;
    uint32_t got_cap;
};

/* Connects; nothing is queued yet. NULL when there are enough users. */
struct user *user_new(struct world *w, uint32_t room, bool wants_echo, bool offers_deflate,
                      const char *ip);
/* The same, to the TLS port. */
struct user *user_new_tls(struct world *w, uint32_t room, bool wants_echo, bool offers_deflate,
                          const char *ip);
void user_free(struct user *u);

/* Queues a plain request, or the upgrade. */
void user_request(struct user *u, const char *text);
void user_upgrade(struct user *u);

/* Reads, writes, acts: what is due. Returns whether anything happened. */
bool user_visit(struct user *u);

/* When something is due that waits for the clock alone. */
uint64_t user_next_ns(const struct user *u);

/* Queues a whole message of `len` bytes, in frames as the seed has it. */
void user_publish(struct user *u, uint32_t len, bool text);
void user_ping(struct user *u);
void user_close(struct user *u, uint16_t code);
/* Closes its socket, or resets it. */
void user_leave(struct user *u, bool reset);
/* Sends FIN; behind what is queued if `whole`. */
void user_fin(struct user *u);

/* Appends raw bytes to what is to be sent. */
void user_queue(struct user *u, const void *bytes, size_t len);
/* A frame with mask; first: FIN, RSV and opcode. */
void user_queue_frame(struct user *u, uint8_t first, const uint8_t *payload, size_t len);

bool user_has_output(const struct user *u);

/* Forgets what is not on the network yet. */
void user_drop_output(struct user *u);

void user_buffer_add(struct user_buffer *b, const void *bytes, size_t len);

static inline bool user_is_echo(const struct user *u)
{
    return u->room == USER_ECHO;
}

static inline bool user_is_alive(const struct user *u)
{
    return u->state == USER_OPEN && u->intact && !u->is_http;
}

/* sim_ws.c: what has come. */
void user_parse(struct user *u);

/* sim_script.c: what a user does in the storm. */
void script_draw(struct user *u);
void script_act(struct user *u);
/* Breaks a rule of the protocol; behind it nothing more is said. */
void script_violate(struct user *u);

#endif
