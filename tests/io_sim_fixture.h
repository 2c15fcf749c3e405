/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_IO_SIM_FIXTURE_H
#define TESTS_IO_SIM_FIXTURE_H

/* For the tests of the simulated io: a shard whose connections check the rules of core/io.h in
 * every callback, keep what they are told, and echo if wanted; a client; and both as a pair. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_sim.h"

#define SIDES_MAX 64
#define HELD_MAX (256u << 10)

struct shard;

/* A connection of a shard that keeps what it is told, and echoes if wanted. */
struct side {
    struct io_conn conn;
    struct shard *shard;
    uint8_t *held; /* received and, when echoing, not yet sent */
    size_t held_len;
    uint64_t received;
    uint64_t poll_bytes; /* in this poll */
    uint32_t recvs;
    uint32_t eofs;
    uint32_t sents;
    uint32_t connects;
    uint32_t closeds;
    int eof_err;
    int sent_err;
    int connect_err;
    size_t sending;
    bool is_open;
    bool pause_in_recv;
};

struct shard {
    struct io *io;
    struct io_listener listener;
    struct sim_net *net;
    struct side sides[SIDES_MAX];
    uint32_t sides_count;
    struct io_ticket tickets[SIDES_MAX];
    uint32_t tickets_count;
    bool in_poll;
    bool refuse;
    bool echo;
    bool close_on_eof;
    uint8_t *last_view;
    uint64_t trace; /* of everything that was told */
};

static inline struct side *side_of(struct io_conn *c)
{
    struct side *x = container_of(c, struct side, conn);

    cr_assert(x->shard->in_poll, "callbacks run only inside io_poll()");
    cr_assert_eq(x->closeds, 0, "nothing follows on_closed()");
    return x;
}

static inline void trace(struct shard *s, uint64_t what)
{
    s->trace = (s->trace ^ what ^ s->io->now_ns) * 0x9e3779b97f4a7c15u;
}

static inline void close_side(struct side *x, bool reset)
{
    x->is_open = false;
    io_close(x->shard->io, &x->conn, reset);
}

static inline void echo(struct side *x)
{
    struct iovec iov = {x->held, x->held_len};

    if (!x->shard->echo || !x->is_open || x->sending != 0 || x->held_len == 0)
        return;
    int status = io_send(x->shard->io, &x->conn, &iov, 1, iov.iov_len);
    if (status == IO_SENT)
        x->held_len = 0;
    else if (status == IO_PENDING)
        x->sending = iov.iov_len;
    else
        close_side(x, false);
}

static inline void on_recv(struct io_conn *c, struct bytes in)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open && x->eofs == 0 && in.len > 0);
    trace(x->shard, in.len);
    x->recvs++;
    x->received += in.len;
    x->poll_bytes += in.len;
    cr_assert(x->poll_bytes <= IO_RECV_TURN_BYTES);
    cr_assert(x->held_len + in.len <= HELD_MAX);
    memcpy(x->held + x->held_len, in.ptr, in.len);
    x->held_len += in.len;
    x->shard->last_view = in.ptr;
    if (x->pause_in_recv)
        io_recv(x->shard->io, c, false);
    echo(x);
}

static inline void on_eof(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open);
    trace(x->shard, 1000000 + (uint64_t)-err);
    x->eofs++;
    x->eof_err = err;
    cr_assert_eq(x->eofs, 1);
    if (x->shard->close_on_eof)
        close_side(x, false);
}

static inline void on_sent(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open);
    trace(x->shard, 2000000 + (uint64_t)-err);
    x->sents++;
    x->sent_err = err;
    memmove(x->held, x->held + x->sending, x->held_len - x->sending);
    x->held_len -= x->sending;
    x->sending = 0;
    if (err != 0 && x->shard->close_on_eof)
        close_side(x, false);
    else if (err == 0)
        echo(x);
}

static inline void on_connect(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    x->connects++;
    x->connect_err = err;
}

static inline void on_closed(struct io_conn *c)
{
    struct side *x = side_of(c);

    cr_assert(!x->is_open, "on_closed() comes only after io_close()");
    trace(x->shard, 3000000);
    x->closeds++;
}

static const struct io_events events = {.on_recv = on_recv,
                                        .on_eof = on_eof,
                                        .on_sent = on_sent,
                                        .on_connect = on_connect,
                                        .on_closed = on_closed};

static inline struct side *side_new(struct shard *s)
{
    cr_assert(s->sides_count < SIDES_MAX);
    struct side *x = &s->sides[s->sides_count++];
    x->conn.events = &events;
    x->shard = s;
    x->is_open = true;
    x->held = malloc(HELD_MAX);
    return x;
}

static inline struct io_conn *on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct shard *s = container_of(l, struct shard, listener);

    cr_assert_eq(peer->family, AF_INET);
    return s->refuse ? NULL : &side_new(s)->conn;
}

static inline void on_ticket(struct io_listener *l, struct io_ticket t, const struct io_addr *peer)
{
    struct shard *s = container_of(l, struct shard, listener);

    cr_assert_eq(peer->family, AF_INET);
    s->tickets[s->tickets_count++] = t;
}

static const struct io_listener_events listener_events = {on_accept, on_ticket};

static inline struct io_addr address(uint16_t port)
{
    struct io_addr a;

    cr_assert_eq(io_addr_parse(&a, "127.0.0.1", port), 0);
    return a;
}

static inline struct shard *shard_new(struct sim_net *net, uint32_t conns_max)
{
    const struct io_config cfg = {.conns_max = conns_max};
    struct shard *s = calloc(1, sizeof(*s));
    struct io_addr a = address(80);

    s->net = net;
    s->close_on_eof = true;
    s->listener.events = &listener_events;
    cr_assert_eq(io_sim_new(net, &cfg, &s->io), 0);
    cr_assert_eq(io_start(s->io), 0);
    cr_assert_eq(io_listen(s->io, &s->listener, sim_net_listen(net, &a, 16)), 0);
    return s;
}

static inline void shard_poll(struct shard *s)
{
    for (uint32_t i = 0; i < s->sides_count; i++)
        s->sides[i].poll_bytes = 0;
    s->in_poll = true;
    cr_assert(io_poll(s->io, 0) >= 0);
    s->in_poll = false;
}

/* Runs until nothing happens by itself. */
static inline void settle(struct shard *s)
{
    for (int i = 0; i < 100000; i++) {
        shard_poll(s);
        if (sim_net_idle(s->net, IO_FOREVER) == SIM_DEAD)
            return;
    }
    cr_assert_fail("it never settles");
}

static inline void shard_free(struct shard *s)
{
    s->in_poll = true; /* what waits in the backlog is told within io_unlisten() */
    if (s->listener.io != NULL)
        io_unlisten(s->io, &s->listener);
    s->in_poll = false;
    for (uint32_t i = 0; i < s->sides_count; i++) {
        if (s->sides[i].is_open)
            close_side(&s->sides[i], false);
    }
    settle(s);
    for (uint32_t i = 0; i < s->sides_count; i++) {
        cr_assert_eq(s->sides[i].closeds, 1);
        free(s->sides[i].held);
    }
    cr_assert_eq(s->io->conn_count, 0);
    io_free(s->io);
    free(s);
}

static inline struct sim_client *client_new(struct sim_net *net)
{
    struct io_addr to = address(80), from = address(4242);

    return sim_client_connect(net, &to, &from);
}

/* A shard, a client, and the side that serves it, without faults. */
struct pair {
    struct sim_net *net;
    struct shard *s;
    struct sim_client *c;
    struct side *x;
};

static inline struct pair pair_new(const struct sim_faults *faults)
{
    struct pair p = {.net = sim_net_new(7, faults)};

    p.s = shard_new(p.net, SIDES_MAX);
    p.c = client_new(p.net);
    settle(p.s);
    cr_assert_eq(p.s->sides_count, 1);
    p.x = &p.s->sides[0];
    return p;
}

static inline void pair_close(struct pair *p)
{
    sim_client_free(p->c);
    shard_free(p->s);
    cr_assert_eq(sim_net_open_count(p->net), 0);
    struct sim_stats stats = sim_net_stats(p->net);
    cr_assert_eq(stats.sent_bytes, stats.received_bytes + stats.dropped_bytes);
}

static inline void pair_free(struct pair *p)
{
    pair_close(p);
    cr_assert_null(sim_net_violation(p->net), "%s", sim_net_violation(p->net));
    sim_net_free(p->net);
}

/* For those that break a rule. */
static inline void pair_free_violated(struct pair *p)
{
    pair_close(p);
    cr_assert_not_null(sim_net_violation(p->net));
    sim_net_free(p->net);
}

#endif
