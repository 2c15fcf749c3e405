/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_NET_H
#define TESTS_SIM_SIM_NET_H

/* The virtual network from the inside: what io_sim.c (the shards' end) and sim_net.c (wires, clock,
 * clients) share. Drivers use io_sim.h. One thread. */

#include "tests/sim/io_sim.h"

/* Numbers of listening sockets begin here; below are ends of connections. */
#define SIM_LISTENER_BASE 0x40000000

/* One direction of a connection, both kernels' buffers together, seen from its reader.
 * taken <= arrived <= written <= taken + cap; byte i lies at ring[i % cap]. */
struct sim_pipe {
    uint8_t *ring;
    uint32_t cap;
    bool fin;            /* nothing is written any more */
    bool reset;          /* a reset is under way or has come */
    uint64_t written;    /* bytes that the sender gave away */
    uint64_t arrived;    /* of them readable */
    uint64_t taken;      /* of them read */
    uint64_t arrival_ns; /* when the next piece (or the bare end) arrives */
    uint64_t reset_ns;   /* when the reset arrives */
};

enum sim_owner {
    SIM_FREE,    /* nobody holds this end; bytes that arrive are answered with a reset */
    SIM_BACKLOG, /* waits to be accepted */
    SIM_TICKET,
    SIM_IO,
    SIM_CLIENT,
};

/* A send that is under way. */
struct sim_send {
    struct iovec iov[IO_IOV_MAX]; /* a copy of the array, not of the bytes */
    int iov_count;
    int iov_idx; /* next byte to take: iov[iov_idx] + iov_pos */
    size_t iov_pos;
    uint64_t checksum; /* of all bytes when the send began */
    uint64_t seen;     /* of the bytes as they were taken */
    uint64_t next_ns;  /* when the next part, or the completion, is due */
    bool active;
};

struct sim_end {
    struct sim_link *link;
    uint8_t side;  /* 0: who connected, 1: who accepted */
    uint8_t owner; /* enum sim_owner */
    bool recv_on;
    bool eof_told;
    bool closing;    /* io_close() was called; on_closed() is due at ready_ns */
    bool connecting; /* on_connect() is due at ready_ns */
    bool reset_on_close;
    bool was_shutdown;     /* FIN sent */
    bool send_failed;      /* io_send() has returned an error */
    int connect_err;       /* outcome to tell */
    uint64_t ready_ns;     /* in the backlog: accepted not before */
    uint64_t overrun_end;  /* a paused end may still hand over bytes below this offset, */
    uint64_t overrun_poll; /* in this poll of its io */
    struct sim_pipe rx;
    struct sim_send send;
    struct sim_io *io;    /* SIM_IO */
    struct io_conn *conn; /* SIM_IO */
    struct sim_end *next; /* list of its backlog */
};

struct sim_link {
    struct sim_end end[2];
    struct sim_net *net;
    uint32_t idx;
    struct io_addr from; /* of end[0] */
    struct io_addr to;
};

struct sim_listener {
    struct sim_net *net;
    struct io_addr addr;
    uint32_t backlog_max;
    uint32_t backlog_len;
    struct sim_end *first; /* oldest in the backlog */
    struct sim_end *last;
    struct sim_io *io; /* NULL: not attached */
    struct io_listener *owner;
    uint64_t retry_ns; /* an accept has failed; not before this */
    bool is_open;
};

/* Slices are lent from the middle of this. */
#define SIM_SLICE_BYTES (64u << 10)
#define SIM_LEND_BYTES (SIM_SLICE_BYTES + 4 * IO_RECV_PAD)

struct sim_io {
    struct io io; /* first */
    struct sim_net *net;
    uint32_t ends_count; /* attached ends, in `order` */
    uint32_t ends_cap;
    int32_t *ends;    /* their numbers, in the order of attaching with holes filled by the last */
    int32_t *order;   /* scratch of poll: a shuffled copy */
    uint64_t wake_ns; /* IO_FOREVER: no wake is under way */
    bool in_poll;
    bool in_callback;
    bool is_retired; /* see sim_net_retire() */
    uint8_t lend[SIM_LEND_BYTES];
};

struct sim_client {
    struct sim_net *net;
    struct sim_end *end; /* NULL: refused or closed */
    uint8_t end_state;   /* enum sim_client_state once end is NULL */
    struct sim_client *next;
    struct sim_client *prev;
};

struct sim_net {
    uint64_t now_ns;
    uint64_t random; /* state of splitmix64 */
    struct sim_faults faults;
    struct sim_stats stats;
    struct sim_link **links; /* by index; NULL: free */
    uint32_t links_cap;
    uint32_t links_free_from; /* no free index below */
    struct sim_listener *listeners[256];
    uint32_t listeners_count;
    struct sim_io *ios[256];
    uint32_t ios_count;
    struct sim_client *clients;
    void (*wait)(void *ctx, struct io *io, uint64_t deadline_ns);
    void *wait_ctx;
    char violation[192]; /* empty: none */
};

/* Keeps the text if it is the first. */
__attribute__((format(printf, 2, 3))) void sim_violation(struct sim_net *net, const char *text,
                                                         ...);

bool sim_chance(struct sim_net *net, uint32_t rate);

/* Now, or later as the faults have it. */
uint64_t sim_due_ns(struct sim_net *net);

/* How much of 1..len goes at once, as the faults have it; len > 0. */
size_t sim_part(struct sim_net *net, size_t len);

/* Fills with bytes that depend on the seed; one draw for all of them. */
void sim_noise(struct sim_net *net, uint8_t *bytes, size_t len);

int32_t sim_end_number(const struct sim_end *e);
/* NULL when the number names no end. */
struct sim_end *sim_end_find(struct sim_net *net, int32_t number);
static inline struct sim_end *sim_peer(struct sim_end *e)
{
    return &e->link->end[!e->side];
}

/* Connects: *end is side 0, owned by `owner`; the other side waits in a backlog. 0, -ECONNREFUSED,
 * -ENOMEM. */
int sim_link_new(struct sim_net *net, const struct io_addr *to, const struct io_addr *from,
                 enum sim_owner owner, struct sim_end **end);

struct sim_listener *sim_listener_find(struct sim_net *net, int32_t number);
/* Takes the oldest out of the backlog; NULL: none is ready. */
struct sim_end *sim_listener_take(struct sim_listener *l, bool even_if_late);
void sim_listener_close(struct sim_listener *l);
bool sim_listener_is_ready(const struct sim_listener *l);

/* Lets what is due arrive at e. */
void sim_settle(struct sim_end *e);
size_t sim_readable(const struct sim_end *e);
/* Everything was read and the end has arrived. */
bool sim_is_eof(const struct sim_end *e);
/* A reset has arrived. */
bool sim_is_reset(const struct sim_end *e);
void sim_take(struct sim_end *e, void *bytes, size_t len);

/* Towards the peer of e. sim_room: how many bytes may be put. */
size_t sim_room(struct sim_end *e);
void sim_put(struct sim_end *e, const void *bytes, size_t len);
void sim_put_fin(struct sim_end *e);

/* Gives e up: an orderly end, or a reset when asked for or when something unread is left. */
void sim_release(struct sim_end *e, bool reset);

/* When something happens at e by itself, as io_sim.c sees it for ends of an io. */
uint64_t sim_arrival_ns(const struct sim_end *e);
uint64_t sim_io_next_ns(struct sim_io *s);

#endif
