/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_IO_FIXTURE_H
#define TESTS_IO_FIXTURE_H

/* What the contract tests of io share: one body per behaviour, run on every implementation.
 *
 * IO_TEST(name) { ... } gets a fixture with a started io, a listener on loopback and plain blocking
 * sockets as peers. Whatever a test is about, the fixture checks the rules of core/io.h in every
 * callback (only inside io_poll(), never nested, none after io_close() but on_closed(), an end told
 * once, no more than a turn's bytes) and at its end that nothing is left open. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/io.h"
#include "core/io_socket.h"

#define FIXTURE_CONNS_MAX 512
#define FIXTURE_PATIENCE_NS (5 * NS_PER_SEC)

struct fixture;
typedef int (*io_new_fn)(const struct io_config *cfg, struct io **io, const char **why);

/* A connection on the io under test. */
struct side {
    struct io_conn conn;
    struct fixture *t;
    struct io *io;
    uint8_t *got; /* all that was received */
    size_t got_len;
    size_t got_room;
    size_t turn_bytes; /* of them in this turn */
    int eofs;
    int eof_err;
    int sents;
    int sent_err;
    int connects;
    int connect_err;
    int tls_keys;
    int tls_key_err;
    int closeds;
    bool send_pending;
    bool closing;
    /* What a test wants to do inside of a callback; after the bookkeeping. */
    void (*recv_hook)(struct side *s, struct bytes in);
    void (*eof_hook)(struct side *s);
    void (*sent_hook)(struct side *s);
    void (*connect_hook)(struct side *s);
    void (*closed_hook)(struct side *s);
    struct side *other; /* for hooks */
    int number;         /* for hooks */
};

struct fixture {
    io_new_fn make;
    struct io *io;
    struct io_listener listener;
    bool listening;
    struct io_addr addr; /* of the listener */
    struct side *sides[2 * FIXTURE_CONNS_MAX];
    int side_count;
    bool polling; /* inside io_poll(), or io_unlisten(), which may accept */
    bool in_callback;
    int callbacks; /* in this turn */
    bool refuse;   /* on_accept returns NULL */
    int accepts;
    struct io_addr peer; /* of the last accept or ticket */
    struct io_ticket tickets[FIXTURE_CONNS_MAX];
    int ticket_count;
    const char *last_words; /* tickets are discarded with them at once; NULL: kept */
    void (*accept_hook)(struct fixture *t, struct side *s);
    struct side *hook_side;
};

static inline uint64_t wall_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* --- callbacks -------------------------------------------------------------------------------- */

static inline void callback_enter(struct fixture *t)
{
    cr_assert(t->polling, "a callback outside of io_poll()");
    cr_assert_not(t->in_callback, "a callback within a callback");
    t->in_callback = true;
    t->callbacks++;
}

static inline struct side *side_enter(struct io_conn *c)
{
    struct side *s = container_of(c, struct side, conn);
    callback_enter(s->t);
    cr_assert_eq(s->closeds, 0, "a callback after on_closed");
    return s;
}

static inline struct side *side_enter_open(struct io_conn *c)
{
    struct side *s = side_enter(c);
    cr_assert_not(s->closing, "a callback after io_close() that is not on_closed");
    return s;
}

static inline void side_keep(struct side *s, struct bytes in)
{
    if (s->got_len + in.len > s->got_room) {
        s->got_room = 2 * (s->got_len + in.len);
        s->got = realloc(s->got, s->got_room);
        cr_assert_not_null(s->got);
    }
    memcpy(s->got + s->got_len, in.ptr, in.len);
    s->got_len += in.len;
}

static inline void side_on_recv(struct io_conn *c, struct bytes in)
{
    struct side *s = side_enter_open(c);
    cr_assert_gt(in.len, 0);
    cr_assert_eq(s->eofs, 0, "bytes after the end");
    s->turn_bytes += in.len;
    cr_assert_leq(s->turn_bytes, IO_RECV_TURN_BYTES);
    side_keep(s, in);
    if (s->recv_hook != NULL)
        s->recv_hook(s, in);
    s->t->in_callback = false;
}

static inline void side_on_eof(struct io_conn *c, int err)
{
    struct side *s = side_enter_open(c);
    cr_assert_leq(err, 0);
    cr_assert_eq(s->eofs++, 0, "the end was told twice");
    s->eof_err = err;
    if (s->eof_hook != NULL)
        s->eof_hook(s);
    s->t->in_callback = false;
}

static inline void side_on_sent(struct io_conn *c, int err)
{
    struct side *s = side_enter_open(c);
    cr_assert(s->send_pending, "on_sent, but no send is pending");
    cr_assert_leq(err, 0);
    s->send_pending = false;
    s->sents++;
    s->sent_err = err;
    if (s->sent_hook != NULL)
        s->sent_hook(s);
    s->t->in_callback = false;
}

static inline void side_on_tls_key(struct io_conn *c, int err)
{
    struct side *s = side_enter_open(c);
    cr_assert_leq(err, 0);
    s->tls_keys++;
    s->tls_key_err = err;
    s->t->in_callback = false;
}

static inline void side_on_connect(struct io_conn *c, int err)
{
    struct side *s = side_enter_open(c);
    cr_assert_leq(err, 0);
    cr_assert_eq(s->connects++, 0, "the connect was told twice");
    s->connect_err = err;
    if (s->connect_hook != NULL)
        s->connect_hook(s);
    s->t->in_callback = false;
}

static inline void side_on_closed(struct io_conn *c)
{
    struct side *s = side_enter(c);
    cr_assert(s->closing, "on_closed without io_close()");
    s->closeds++;
    s->send_pending = false;
    memset(&s->conn, 0xee, sizeof(s->conn)); /* it is ours again: nobody else may look */
    ASAN_POISON_MEMORY_REGION(&s->conn, sizeof(s->conn));
    if (s->closed_hook != NULL)
        s->closed_hook(s);
    s->t->in_callback = false;
}

static const struct io_events side_events = {
    .on_recv = side_on_recv,
    .on_eof = side_on_eof,
    .on_sent = side_on_sent,
    .on_connect = side_on_connect,
    .on_closed = side_on_closed,
    .on_tls_key = side_on_tls_key,
};

static inline struct side *side_new(struct fixture *t, struct io *io)
{
    struct side *s = calloc(1, sizeof(*s));
    cr_assert_not_null(s);
    cr_assert_lt(t->side_count, (int)ARRAY_LEN(t->sides));
    s->t = t;
    s->io = io;
    s->conn.events = &side_events;
    t->sides[t->side_count++] = s;
    return s;
}

static inline struct io_conn *fixture_on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct fixture *t = container_of(l, struct fixture, listener);
    struct side *s = NULL;

    callback_enter(t);
    t->accepts++;
    t->peer = *peer;
    if (!t->refuse)
        s = side_new(t, t->io);
    t->in_callback = false; /* io_unlisten() inside of the hook accepts the rest */
    if (t->accept_hook != NULL)
        t->accept_hook(t, s);
    return s != NULL ? &s->conn : NULL;
}

static inline void fixture_on_ticket(struct io_listener *l, struct io_ticket ticket,
                                     const struct io_addr *peer)
{
    struct fixture *t = container_of(l, struct fixture, listener);
    callback_enter(t);
    t->peer = *peer;
    cr_assert_lt(t->ticket_count, (int)ARRAY_LEN(t->tickets));
    if (t->last_words != NULL)
        io_discard(t->io, ticket, t->last_words, strlen(t->last_words));
    else
        t->tickets[t->ticket_count++] = ticket;
    t->in_callback = false;
}

static const struct io_listener_events fixture_listener_events = {
    .on_accept = fixture_on_accept,
    .on_ticket = fixture_on_ticket,
};

/* --- turns ------------------------------------------------------------------------------------ */

static inline int turn_of(struct fixture *t, struct io *io, uint64_t deadline_ns)
{
    for (int i = 0; i < t->side_count; i++)
        t->sides[i]->turn_bytes = 0;
    t->callbacks = 0;
    t->polling = true;
    int n = io_poll(io, deadline_ns);
    t->polling = false;
    cr_assert_eq(n, t->callbacks, "io_poll returned %d for %d callbacks", n, t->callbacks);
    return n;
}

static inline int turn(struct fixture *t, uint64_t deadline_ns)
{
    return turn_of(t, t->io, deadline_ns);
}

/* Turns until cond holds; fails when it does not in time. */
#define UNTIL_ON(t, on_io, cond)                                                                   \
    do {                                                                                           \
        uint64_t give_up_ns = wall_ns() + FIXTURE_PATIENCE_NS;                                     \
        while (!(cond)) {                                                                          \
            cr_assert_lt(wall_ns(), give_up_ns, "waited in vain for %s", #cond);                   \
            turn_of(t, on_io, wall_ns() + 20 * NS_PER_MS);                                         \
        }                                                                                          \
    } while (0)
#define UNTIL(t, cond) UNTIL_ON(t, (t)->io, cond)

/* Turns for a while, to see that nothing happens. */
static inline void turn_for_ms(struct fixture *t, uint64_t ms)
{
    uint64_t end_ns = wall_ns() + ms * NS_PER_MS;
    while (wall_ns() < end_ns)
        turn(t, end_ns);
}

/* --- what a test does with its side ----------------------------------------------------------- */

static inline void side_close(struct side *s, bool reset)
{
    s->closing = true;
    io_close(s->io, &s->conn, reset);
}

static inline int side_sendv(struct side *s, const struct iovec *iov, int count, size_t bytes)
{
    int r = io_send(s->io, &s->conn, iov, count, bytes);
    cr_assert(r == IO_SENT || r == IO_PENDING || r < 0);
    s->send_pending = r == IO_PENDING;
    return r;
}

static inline int side_send(struct side *s, const void *bytes, size_t len)
{
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
    int r = side_sendv(s, &iov, 1, len);
    memset(&iov, 0xee, sizeof(iov)); /* the array was only borrowed */
    return r;
}

static inline void side_got(const struct side *s, const void *bytes, size_t len)
{
    cr_assert_eq(s->got_len, len, "%zu bytes received, %zu expected", s->got_len, len);
    cr_assert_arr_eq(s->got, bytes, len);
}

/* --- peers ------------------------------------------------------------------------------------ */

/* A stream whose every offset has a known byte. */
static inline uint8_t pattern_at(size_t offset)
{
    return (uint8_t)((offset * 2654435761u) >> 11);
}

static inline uint8_t *pattern_new(size_t len)
{
    uint8_t *p = malloc(len);
    cr_assert_not_null(p);
    for (size_t i = 0; i < len; i++)
        p[i] = pattern_at(i);
    return p;
}

static inline bool is_pattern(const uint8_t *p, size_t len, size_t offset)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != pattern_at(offset + i))
            return false;
    }
    return true;
}

/* A blocking socket that loses patience like the rest; rcvbuf_bytes 0: the kernel's choice. */
static inline int peer_socket(int family, int rcvbuf_bytes)
{
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (rcvbuf_bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes));
    return fd;
}

static inline int peer_connect_with(const struct io_addr *to, int rcvbuf_bytes)
{
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(to, &ss);
    int fd = peer_socket(to->family, rcvbuf_bytes);
    int one = 1;
    cr_assert_eq(connect(fd, (struct sockaddr *)&ss, len), 0, "connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static inline int peer_connect(struct fixture *t)
{
    return peer_connect_with(&t->addr, 0);
}

static inline void peer_write(int fd, const void *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);
        cr_assert_gt(n, 0, "peer's send: %s", strerror(errno));
        done += (size_t)n;
    }
}

static inline void peer_expect(int fd, const void *bytes, size_t len)
{
    uint8_t *buf = malloc(len);
    cr_assert_not_null(buf);
    for (size_t done = 0; done < len;) {
        ssize_t n = recv(fd, buf + done, len - done, 0);
        cr_assert_gt(n, 0, "peer's recv after %zu bytes: %s", done, strerror(errno));
        done += (size_t)n;
    }
    cr_assert_arr_eq(buf, bytes, len);
    free(buf);
}

static inline void peer_expect_eof(int fd)
{
    char byte;
    cr_assert_eq(recv(fd, &byte, 1, 0), 0, "the peer sees no end of file");
}

/* Its close becomes a reset. */
static inline void peer_reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
}

/* A peer that streams the pattern in its own thread, in pieces of random size. */
struct streamer {
    pthread_t thread;
    int fd;
    size_t total;
    size_t done;
    size_t piece_max;
    unsigned seed;
    unsigned pause_us; /* between two pieces */
    bool bad;          /* what was read was not the pattern */
};

static inline void *streamer_write(void *arg)
{
    struct streamer *w = arg;
    uint8_t *piece = malloc(w->piece_max);

    while (piece != NULL && w->done < w->total) {
        size_t len = min_size(1 + (size_t)rand_r(&w->seed) % w->piece_max, w->total - w->done);
        for (size_t i = 0; i < len; i++)
            piece[i] = pattern_at(w->done + i);
        ssize_t n = send(w->fd, piece, len, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        w->done += (size_t)n;
        if (w->pause_us > 0)
            usleep(w->pause_us);
    }
    free(piece);
    return NULL;
}

static inline void *streamer_read(void *arg)
{
    struct streamer *r = arg;
    uint8_t *piece = malloc(r->piece_max);

    while (piece != NULL && r->done < r->total) {
        size_t len = 1 + (size_t)rand_r(&r->seed) % r->piece_max;
        ssize_t n = recv(r->fd, piece, min_size(len, r->total - r->done), 0);
        if (n <= 0)
            break;
        if (!is_pattern(piece, (size_t)n, r->done))
            r->bad = true;
        r->done += (size_t)n;
        if (r->pause_us > 0)
            usleep(r->pause_us);
    }
    free(piece);
    return NULL;
}

static inline void streamer_start(struct streamer *x, void *(*run)(void *))
{
    cr_assert_eq(pthread_create(&x->thread, NULL, run, x), 0);
}

/* Joins; the whole stream has gone through, unharmed. */
static inline void streamer_finish(struct streamer *x)
{
    pthread_join(x->thread, NULL);
    cr_assert_eq(x->done, x->total, "%zu of %zu bytes went through", x->done, x->total);
    cr_assert_not(x->bad);
}

/* --- the fixture ------------------------------------------------------------------------------ */

static inline struct io *fixture_io(struct fixture *t, uint32_t conns_max)
{
    struct io_config cfg = {.conns_max = conns_max};
    const char *why = "";
    struct io *io = NULL;
    int err = t->make(&cfg, &io, &why);

    if (err == -ENOSYS || err == -EPERM)
        cr_skip_test("this kernel does not offer it: %s", why);
    cr_assert_eq(err, 0, "%s: %s", why, strerror(-err));
    cr_assert_eq(io_start(io), 0);
    return io;
}

static inline void fixture_listen_on(struct fixture *t, const char *ip, const char *path)
{
    struct io_socket_options opt = {.backlog = 1024, .sndbuf_bytes = 64 << 10};
    int fd;

    if (path != NULL)
        t->addr = (struct io_addr){.family = AF_UNIX};
    else
        cr_assert_eq(io_addr_parse(&t->addr, ip, 0), 0);
    int err = io_socket_listen(&t->addr, path, &opt, &fd);
    if (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT)
        cr_skip_test("%s is not available here", ip);
    cr_assert_eq(err, 0, "%s", strerror(-err));
    t->listener.events = &fixture_listener_events;
    cr_assert_eq(io_listen(t->io, &t->listener, fd), 0);
    t->listening = true;
}

static inline void fixture_unlisten(struct fixture *t)
{
    t->listening = false;
    t->polling = true;
    io_unlisten(t->io, &t->listener);
    t->polling = false;
}

static inline struct fixture *fixture_new(io_new_fn make, uint32_t conns_max)
{
    struct fixture *t = calloc(1, sizeof(*t));
    cr_assert_not_null(t);
    alarm(20);
    t->make = make;
    t->io = fixture_io(t, conns_max);
    fixture_listen_on(t, "127.0.0.1", NULL);
    return t;
}

/* Connects a peer; returns the side that the io has of it. */
static inline struct side *fixture_pair_with(struct fixture *t, int *peer, int rcvbuf_bytes)
{
    int before = t->side_count;
    *peer = peer_connect_with(&t->addr, rcvbuf_bytes);
    UNTIL(t, t->side_count == before + 1);
    return t->sides[before];
}

static inline struct side *fixture_pair(struct fixture *t, int *peer)
{
    return fixture_pair_with(t, peer, 0);
}

/* Closes the sides of io and waits for the last word of each. */
static inline void fixture_close_sides(struct fixture *t, struct io *io)
{
    for (int i = 0; i < t->side_count; i++) {
        struct side *s = t->sides[i];
        if (s->io == io && !s->closing)
            side_close(s, false);
    }
    UNTIL_ON(t, io, io->conn_count == 0);
    for (int i = 0; i < t->side_count; i++) {
        if (t->sides[i]->io == io)
            cr_assert_eq(t->sides[i]->closeds, 1);
    }
}

static inline void fixture_free(struct fixture *t)
{
    if (t->listening)
        fixture_unlisten(t);
    fixture_close_sides(t, t->io);
    io_free(t->io);
    for (int i = 0; i < t->side_count; i++) {
        ASAN_UNPOISON_MEMORY_REGION(t->sides[i], sizeof(*t->sides[i]));
        free(t->sides[i]->got);
        free(t->sides[i]);
    }
    ASAN_UNPOISON_MEMORY_REGION(t, sizeof(*t));
    free(t);
}

static inline int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    cr_assert_not_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* A test closes its peers itself; everything else is the fixture's and the io's. */
static inline void fixture_run(io_new_fn make, uint32_t conns_max, void (*body)(struct fixture *))
{
    int before = open_fds();
    struct fixture *t = fixture_new(make, conns_max);
    body(t);
    fixture_free(t);
    cr_assert_eq(open_fds(), before, "descriptors are left open");
}

#ifdef TW_TEST_ONLY_EPOLL
#define IO_TEST_URING(name, conns_max)
#else
#define IO_TEST_URING(name, conns_max)                                                             \
    Test(uring, name, .timeout = 20)                                                               \
    {                                                                                              \
        fixture_run(io_uring_new, conns_max, name);                                                \
    }
#endif

/* A behaviour of every implementation; `t` is the fixture. */
#define IO_TEST_CONNS(name, conns_max)                                                             \
    static void name(struct fixture *t);                                                           \
    Test(epoll, name, .timeout = 20)                                                               \
    {                                                                                              \
        fixture_run(io_epoll_new, conns_max, name);                                                \
    }                                                                                              \
    IO_TEST_URING(name, conns_max)                                                                 \
    static void name(struct fixture *t)
#define IO_TEST(name) IO_TEST_CONNS(name, FIXTURE_CONNS_MAX)

#endif
