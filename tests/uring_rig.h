/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_URING_RIG_H
#define TESTS_URING_RIG_H

/* What the io_uring implementation's own tests share: one shard on the test's thread that listens,
 * clients are ordinary sockets on the loopback. Tests are skipped where the kernel forbids
 * io_uring.
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core/uring.h"

#define PEERS_MAX 1200
#define WAIT_NS (3 * NS_PER_SEC)

struct rig;

/* A connection as its owner sees it, with what happened to it. */
struct peer {
    struct io_conn c;
    struct rig *rig;
    uint64_t recv_bytes;
    uint64_t poll_bytes; /* in the poll numbered poll_seen */
    uint64_t poll_seen;
    uint64_t most_in_poll;
    uint8_t first; /* byte received; all others are the same, or count on from it */
    bool mixed;    /* they were not */
    bool beyond;   /* a slice lay outside of the pool */
    int eofs;
    int eof_err;
    int sents;
    int sent_err;
    int connects;
    int connect_err;
    int tls_keys;
    int tls_key_err;
    int closes;
};

struct rig {
    struct io *io;
    struct uring *u;
    struct io_listener listener;
    struct sockaddr_in addr;
    struct peer peers[PEERS_MAX];
    uint32_t peer_count; /* of peers[], ever used */
    bool refuse;
    bool close_on_recv;
    bool counting; /* clients send bytes that count up */
    struct io_ticket tickets[64];
    uint32_t ticket_count;
};

static inline void on_recv(struct io_conn *c, struct bytes in)
{
    struct peer *p = container_of(c, struct peer, c);
    const struct uring_buffers *b = &p->rig->u->buffers;
    uint64_t poll = p->rig->io->stats.polls;
    if (p->recv_bytes == 0)
        p->first = in.ptr[0];
    for (size_t i = 0; i < in.len; i++)
        p->mixed |= in.ptr[i] != (uint8_t)(p->first + (p->rig->counting ? p->recv_bytes + i : 0));
    p->beyond |= in.ptr < b->base || in.ptr + in.len > b->base + b->count * b->buffer_bytes;
    if (p->poll_seen != poll)
        p->poll_bytes = 0;
    p->poll_seen = poll;
    p->poll_bytes += in.len;
    if (p->most_in_poll < p->poll_bytes)
        p->most_in_poll = p->poll_bytes;
    p->recv_bytes += in.len;
    if (p->rig->close_on_recv)
        io_close(p->rig->io, c, false);
}

static inline void on_eof(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->eofs++;
    p->eof_err = err;
}

static inline void on_sent(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->sents++;
    p->sent_err = err;
}

static inline void on_connect(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->connects++;
    p->connect_err = err;
}

static inline void on_tls_key(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->tls_keys++;
    p->tls_key_err = err;
}

static inline void on_closed(struct io_conn *c)
{
    container_of(c, struct peer, c)->closes++;
}

static const struct io_events EVENTS = {.on_recv = on_recv,
                                        .on_eof = on_eof,
                                        .on_sent = on_sent,
                                        .on_connect = on_connect,
                                        .on_closed = on_closed,
                                        .on_tls_key = on_tls_key};

static inline struct peer *peer_new(struct rig *r)
{
    cr_assert_lt(r->peer_count, PEERS_MAX);
    struct peer *p = &r->peers[r->peer_count++];
    memset(p, 0, sizeof(*p));
    p->rig = r;
    p->c.events = &EVENTS;
    return p;
}

static inline struct io_conn *on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct rig *r = container_of(l, struct rig, listener);
    cr_assert_eq(peer->family, AF_INET);
    return r->refuse ? NULL : &peer_new(r)->c;
}

static inline void on_ticket(struct io_listener *l, struct io_ticket t, const struct io_addr *peer)
{
    struct rig *r = container_of(l, struct rig, listener);
    cr_assert_neq(peer->port, 0);
    cr_assert_lt(r->ticket_count, ARRAY_LEN(r->tickets));
    r->tickets[r->ticket_count++] = t;
}

static const struct io_listener_events LISTENER_EVENTS = {on_accept, on_ticket};

static inline int listening_socket(struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(addr, 0, sizeof(*addr));
    addr->sin_family = AF_INET;
    addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), 0);
    cr_assert_eq(listen(fd, 2048), 0);
    socklen_t len = sizeof(*addr);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

/* An io that listens. Exits the test as skipped when the machine has no io_uring. */
static inline struct rig *rig_new_with(const struct io_config *cfg, const struct uring_quirks *q)
{
    struct rig *r = calloc(1, sizeof(*r));
    const char *why = NULL;
    int err = uring_new(cfg, q, &r->io, &why);
    if (err == -ENOSYS || err == -EPERM || err == -EACCES)
        cr_skip_test("%s", why);
    cr_assert_eq(err, 0, "%s: %d", why, err);
    r->u = uring_of(r->io);
    cr_assert_eq(io_start(r->io), 0);
    r->listener.events = &LISTENER_EVENTS;
    cr_assert_eq(io_listen(r->io, &r->listener, listening_socket(&r->addr)), 0);
    return r;
}

static inline struct rig *rig_new(uint32_t conns_max, const struct uring_quirks *q)
{
    return rig_new_with(&(struct io_config){.conns_max = conns_max}, q);
}

static inline void turn(struct rig *r)
{
    int n = io_poll(r->io, r->io->now_ns + 20 * NS_PER_MS);
    cr_assert_geq(n, 0, "poll: %d", n);
}

static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Runs turns until the condition holds; the test fails when it does not in good time. */
#define TURN_UNTIL(r, condition)                                                                   \
    do {                                                                                           \
        uint64_t until_ns = now_ns() + WAIT_NS;                                                    \
        while (!(condition)) {                                                                     \
            cr_assert_lt(now_ns(), until_ns, "never: " #condition);                                \
            turn(r);                                                                               \
        }                                                                                          \
    } while (0)

static inline void rig_free(struct rig *r)
{
    if (r->listener.fd >= 0)
        io_unlisten(r->io, &r->listener);
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].closes == 0)
            io_close(r->io, &r->peers[i].c, true);
    TURN_UNTIL(r, r->io->conn_count == 0);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        cr_assert_eq(r->peers[i].closes, 1);
        cr_assert_not(r->peers[i].beyond);
    }
    io_free(r->io);
    free(r);
}

static inline int client(struct rig *r)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&r->addr, sizeof(r->addr)), 0);
    struct timeval tv = {.tv_sec = 3};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    return fd;
}

/* Connects one client; its server side is the newest peer. */
static inline struct peer *pair_new(struct rig *r, int *fd)
{
    uint32_t before = r->peer_count;
    *fd = client(r);
    TURN_UNTIL(r, r->peer_count > before);
    return &r->peers[before];
}

static inline void write_all(int fd, uint8_t byte, size_t len)
{
    uint8_t *data = malloc(len);
    memset(data, byte, len);
    cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
    free(data);
}

#endif
