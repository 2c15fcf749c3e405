/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What is particular to the io_uring implementation; the contract that all share has a suite of its
 * own. One shard on the test's thread, clients are ordinary sockets on the loopback. Tests are
 * skipped where the kernel forbids io_uring. */

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
    uint8_t first; /* byte received; all others must be the same if rig->uniform */
    bool mixed;
    bool beyond; /* a slice lay outside of the pool */
    int eofs;
    int eof_err;
    int sents;
    int sent_err;
    int connects;
    int connect_err;
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
    bool echo;
    struct io_ticket tickets[64];
    uint32_t ticket_count;
};

static void on_recv(struct io_conn *c, struct bytes in)
{
    struct peer *p = container_of(c, struct peer, c);
    const struct uring_buffers *b = &p->rig->u->buffers;
    uint64_t poll = p->rig->io->stats.polls;
    if (p->recv_bytes == 0)
        p->first = in.ptr[0];
    for (size_t i = 0; i < in.len; i++)
        p->mixed |= in.ptr[i] != p->first;
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

static void on_eof(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->eofs++;
    p->eof_err = err;
}

static void on_sent(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->sents++;
    p->sent_err = err;
}

static void on_connect(struct io_conn *c, int err)
{
    struct peer *p = container_of(c, struct peer, c);
    p->connects++;
    p->connect_err = err;
}

static void on_closed(struct io_conn *c)
{
    container_of(c, struct peer, c)->closes++;
}

static const struct io_events EVENTS = {on_recv, on_eof, on_sent, on_connect, on_closed};

static struct peer *peer_new(struct rig *r)
{
    cr_assert_lt(r->peer_count, PEERS_MAX);
    struct peer *p = &r->peers[r->peer_count++];
    memset(p, 0, sizeof(*p));
    p->rig = r;
    p->c.events = &EVENTS;
    return p;
}

static struct io_conn *on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct rig *r = container_of(l, struct rig, listener);
    cr_assert_eq(peer->family, AF_INET);
    return r->refuse ? NULL : &peer_new(r)->c;
}

static void on_ticket(struct io_listener *l, struct io_ticket t, const struct io_addr *peer)
{
    struct rig *r = container_of(l, struct rig, listener);
    cr_assert_neq(peer->port, 0);
    cr_assert_lt(r->ticket_count, ARRAY_LEN(r->tickets));
    r->tickets[r->ticket_count++] = t;
}

static const struct io_listener_events LISTENER_EVENTS = {on_accept, on_ticket};

static int listening_socket(struct sockaddr_in *addr)
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
static struct rig *rig_new(uint32_t conns_max, const struct uring_quirks *q)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct io_config cfg = {.conns_max = conns_max};
    const char *why = NULL;
    int err = uring_new(&cfg, q, &r->io, &why);
    if (err == -ENOSYS || err == -EPERM || err == -EACCES)
        cr_skip_test("%s", why);
    cr_assert_eq(err, 0, "%s: %d", why, err);
    r->u = uring_of(r->io);
    cr_assert_eq(io_start(r->io), 0);
    r->listener.events = &LISTENER_EVENTS;
    cr_assert_eq(io_listen(r->io, &r->listener, listening_socket(&r->addr)), 0);
    return r;
}

static void turn(struct rig *r)
{
    int n = io_poll(r->io, r->io->now_ns + 20 * NS_PER_MS);
    cr_assert_geq(n, 0, "poll: %d", n);
}

static uint64_t now_ns(void)
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

static void rig_free(struct rig *r)
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

static int client(struct rig *r)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&r->addr, sizeof(r->addr)), 0);
    struct timeval tv = {.tv_sec = 3};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    return fd;
}

/* Connects one client; its server side is the newest peer. */
static struct peer *pair_new(struct rig *r, int *fd)
{
    uint32_t before = r->peer_count;
    *fd = client(r);
    TURN_UNTIL(r, r->peer_count > before);
    return &r->peers[before];
}

static void write_all(int fd, uint8_t byte, size_t len)
{
    uint8_t *data = malloc(len);
    memset(data, byte, len);
    cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
    free(data);
}

Test(io_uring, slices_of_several_connections_share_a_buffer_and_stay_apart)
{
    struct rig *r = rig_new(16, NULL);
    int fds[8];
    for (int i = 0; i < 8; i++)
        pair_new(r, &fds[i]);
    uint64_t expected = 0;
    for (int round = 1; round <= 200; round++) {
        for (int i = 0; i < 8; i++)
            write_all(fds[i], (uint8_t)('a' + i), (size_t)(round * 7 + i));
        expected += (uint64_t)round * 7 * 8 + 28;
        TURN_UNTIL(r, r->io->stats.recv_bytes == expected);
    }
    uint8_t seen = 0;
    for (int i = 0; i < 8; i++) {
        cr_expect_not(r->peers[i].mixed);
        seen |= (uint8_t)(1 << (r->peers[i].first - 'a'));
        close(fds[i]);
    }
    cr_expect_eq(seen, 0xff);
    rig_free(r);
}

static void starve(const struct uring_quirks *q)
{
    enum { CLIENTS = 60, BYTES = 96 << 10 };
    struct rig *r = rig_new(CLIENTS, q);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        pair_new(r, &fds[i]);
    for (int i = 0; i < CLIENTS; i++)
        write_all(fds[i], (uint8_t)i, BYTES);
    TURN_UNTIL(r, r->io->stats.recv_bytes == (uint64_t)CLIENTS * BYTES);
    cr_expect_gt(r->io->stats.recv_starved, 0);
    for (int i = 0; i < CLIENTS; i++) {
        cr_expect_eq(r->peers[i].recv_bytes, BYTES);
        cr_expect_not(r->peers[i].mixed);
        write_all(fds[i], r->peers[i].first, 10);
    }
    TURN_UNTIL(r, r->io->stats.recv_bytes == (uint64_t)CLIENTS * (BYTES + 10));
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    for (int i = 0; i < CLIENTS; i++)
        TURN_UNTIL(r, r->peers[i].eofs == 1);
    rig_free(r);
}

Test(io_uring, a_connection_that_starved_of_buffers_goes_on_receiving)
{
    starve(NULL);
}

Test(io_uring, whole_buffers_serve_where_the_kernel_has_no_incremental_ones)
{
    starve(&(struct uring_quirks){.no_incremental = true});
}

/* Two peers stream without end while a third asks now and then: it must not wait for long. */
Test(io_uring, greedy_peers_get_no_more_than_a_turns_bytes_and_a_quiet_one_is_served)
{
    struct rig *r = rig_new(16, NULL);
    int fds[3];
    for (int i = 0; i < 3; i++)
        pair_new(r, &fds[i]);
    uint8_t *flood = calloc(1, 1 << 20);
    for (uint64_t round = 1; round <= 50; round++) {
        for (int i = 0; i < 2; i++)
            while (send(fds[i], flood, 1 << 20, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        write_all(fds[2], 'q', 1);
        for (int turns = 0; r->peers[2].recv_bytes < round; turns++) {
            cr_assert_lt(turns, 4);
            turn(r);
        }
    }
    for (int i = 0; i < 2; i++) {
        cr_expect_gt(r->peers[i].recv_bytes, 1 << 20);
        cr_expect_leq(r->peers[i].most_in_poll, IO_RECV_TURN_BYTES);
        close(fds[i]);
    }
    free(flood);
    close(fds[2]);
    rig_free(r);
}

Test(io_uring, connections_that_wait_for_buffers_can_be_closed_and_paused)
{
    enum { CLIENTS = 60, BYTES = 64 << 10 };
    struct rig *r = rig_new(CLIENTS, NULL);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        pair_new(r, &fds[i]);
    for (int i = 0; i < CLIENTS; i++)
        write_all(fds[i], (uint8_t)i, BYTES);
    TURN_UNTIL(r, r->io->stats.recv_starved > 20);
    uint32_t starving = 0;
    for (int i = 0; i < CLIENTS; i++) {
        starving += (r->peers[i].c.flags & URING_F_STARVED) != 0;
        if (i % 3 == 0)
            io_close(r->io, &r->peers[i].c, false);
        if (i % 3 == 1)
            io_recv(r->io, &r->peers[i].c, false);
    }
    cr_expect_gt(starving, 10);
    TURN_UNTIL(r, r->io->conn_count == CLIENTS - CLIENTS / 3);
    for (int i = 1; i < CLIENTS; i += 3)
        io_recv(r->io, &r->peers[i].c, true);
    for (int i = 0; i < CLIENTS; i++)
        if (i % 3 != 0)
            TURN_UNTIL(r, r->peers[i].recv_bytes == BYTES);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    rig_free(r);
}

/* Slots go round while data, ends and resets of their former connections are under way: whatever a
 * connection receives must be its own. */
Test(io_uring, slots_are_reused_thousands_of_times_without_a_late_completion)
{
    enum { CYCLES = 4000, BATCH = 8 };
    struct rig *r = rig_new(64, NULL);
    struct linger reset = {.l_onoff = 1};
    uint64_t closes = 0;
    uint64_t received = 0;
    for (uint32_t cycle = 0; cycle < CYCLES; cycle += BATCH) {
        int fds[BATCH];
        r->peer_count = 0;
        r->close_on_recv = cycle / BATCH % 2;
        for (int i = 0; i < BATCH; i++) {
            fds[i] = client(r);
            write_all(fds[i], (uint8_t)(cycle + (uint32_t)i), 100);
        }
        TURN_UNTIL(r, r->peer_count == BATCH);
        for (int i = 0; i < BATCH; i++) {
            if (i % 4 == 1)
                io_close(r->io, &r->peers[i].c, i % 2);
            if (i % 4 == 2)
                setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            (void)!send(fds[i], &(uint8_t){(uint8_t)(cycle + (uint32_t)i)}, 1, MSG_NOSIGNAL);
            close(fds[i]);
            if (i % 4 == 3)
                turn(r);
        }
        for (int i = 0; i < BATCH; i++)
            io_close(r->io, &r->peers[i].c, false);
        TURN_UNTIL(r, r->io->conn_count == 0);
        uint32_t seen = 0;
        for (int i = 0; i < BATCH; i++) {
            closes += (uint64_t)r->peers[i].closes;
            received += r->peers[i].recv_bytes;
            cr_assert_not(r->peers[i].mixed);
            if (r->peers[i].recv_bytes > 0)
                seen |= 1u << (uint8_t)(r->peers[i].first - (uint8_t)cycle);
        }
        cr_assert_eq(seen >> BATCH, 0, "bytes of an earlier connection");
    }
    cr_expect_eq(closes, CYCLES);
    cr_expect_gt(received, 0);
    cr_expect_leq(r->u->slots_fresh, 64 + URING_SLOT_RESERVE);
    r->peer_count = 0;
    rig_free(r);
}

static void overfill(const struct uring_quirks *q)
{
    struct rig *r = rig_new(4, q);
    int fds[7];
    for (int i = 0; i < 7; i++)
        fds[i] = client(r);
    TURN_UNTIL(r, r->peer_count + r->ticket_count == 7);
    cr_expect_eq(r->peer_count, 4);
    cr_expect_eq(r->ticket_count, 3);

    struct peer *waiting = peer_new(r);
    cr_expect_eq(io_adopt(r->io, &waiting->c, r->tickets[0]), -ENFILE);
    io_close(r->io, &r->peers[0].c, false);
    TURN_UNTIL(r, r->peers[0].closes == 1);
    cr_assert_eq(io_adopt(r->io, &waiting->c, r->tickets[0]), 0);
    for (int i = 0; i < 7; i++)
        (void)!send(fds[i], "hello", 5, MSG_NOSIGNAL);
    TURN_UNTIL(r, waiting->recv_bytes == 5);

    char text[8];
    io_discard(r->io, r->tickets[1], "503", 3);
    io_discard(r->io, r->tickets[2], NULL, 0);
    int refused = 0;
    for (int i = 0; i < 7; i++)
        refused += recv(fds[i], text, sizeof(text), MSG_DONTWAIT) == 3;
    cr_expect_eq(refused, 1);
    for (int i = 0; i < 7; i++)
        close(fds[i]);
    rig_free(r);
}

Test(io_uring, a_full_table_gives_tickets)
{
    overfill(NULL);
}

/* Places that were promised to accepts are taken by connections adopted meanwhile. */
static void crowd_out(const struct uring_quirks *q, uint32_t expected_tickets)
{
    struct rig *r = rig_new(4, q);
    turn(r);
    for (int i = 0; i < 4; i++) {
        int pair[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        cr_assert_eq(io_adopt(r->io, &peer_new(r)->c, (struct io_ticket){pair[0]}), 0);
        close(pair[1]);
    }
    int a = client(r);
    int b = client(r);
    TURN_UNTIL(r, r->io->stats.accepts == 2);
    cr_expect_eq(r->ticket_count, expected_tickets);
    for (uint32_t i = 0; i < r->ticket_count; i++) {
        write_all(i == 0 ? a : b, 'x', 1);
        io_discard(r->io, r->tickets[i], NULL, 0);
    }
    close(a);
    close(b);
    rig_free(r);
}

Test(io_uring, a_connection_that_no_longer_fits_becomes_a_ticket)
{
    crowd_out(NULL, 2);
}

Test(io_uring, a_connection_that_cannot_become_a_ticket_is_handed_over_all_the_same)
{
    crowd_out(&(struct uring_quirks){.no_install = true}, 0);
}

Test(io_uring, the_mode_of_accepting_can_change_at_any_time)
{
    struct rig *r = rig_new(16, NULL);
    int fds[4];
    turn(r);
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_OFF);
    turn(r);
    fds[0] = client(r);
    for (int i = 0; i < 3; i++)
        turn(r);
    cr_expect_eq(r->io->stats.accepts, 0);
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_TICKETS);
    TURN_UNTIL(r, r->ticket_count == 1);
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_CONNS);
    fds[1] = client(r);
    TURN_UNTIL(r, r->peer_count == 1);
    /* Back to and fro within one turn, with a connection on its way. */
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_TICKETS);
    fds[2] = client(r);
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_CONNS);
    TURN_UNTIL(r, r->io->stats.accepts == 3);
    fds[3] = client(r);
    TURN_UNTIL(r, r->io->stats.accepts == 4);
    for (uint32_t i = 0; i < r->ticket_count; i++)
        io_discard(r->io, r->tickets[i], NULL, 0);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    rig_free(r);
}

/* Some of them are accepted already, some are not: nobody may be forgotten. */
Test(io_uring, unlisten_hands_over_the_whole_backlog)
{
    struct rig *r = rig_new(100, NULL);
    int fds[80];
    turn(r);
    for (int i = 0; i < 80; i++)
        fds[i] = client(r);
    io_unlisten(r->io, &r->listener);
    cr_expect_eq(r->peer_count, 80);
    for (int i = 0; i < 80; i++)
        write_all(fds[i], (uint8_t)i, 3);
    TURN_UNTIL(r, r->io->stats.recv_bytes == 240);
    int again = socket(AF_INET, SOCK_STREAM, 0);
    cr_expect_eq(bind(again, (struct sockaddr *)&r->addr, sizeof(r->addr)), -1);
    close(again);
    for (int i = 0; i < 80; i++)
        close(fds[i]);
    rig_free(r);
}

Test(io_uring, a_listener_rests_while_descriptors_have_run_out)
{
    struct rig *r = rig_new(4, NULL);
    io_accept_mode(r->io, &r->listener, IO_ACCEPT_TICKETS);
    int fd = client(r);
    int spare = dup(fd);
    struct rlimit old, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)spare;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    close(spare);
    /* Every number below the limit is in use now. */
    int fill[256];
    int filled = 0;
    while (filled < 256 && (fill[filled] = dup(fd)) >= 0)
        filled++;
    uint64_t start_ns = now_ns();
    uint64_t polls = r->io->stats.polls;
    while (now_ns() < start_ns + 100 * NS_PER_MS)
        turn(r);
    cr_expect_eq(r->ticket_count, 0);
    cr_expect_gt(r->io->stats.accept_errors, 0);
    cr_expect_lt(r->io->stats.polls - polls, 200, "it spins");
    while (filled > 0)
        close(fill[--filled]);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    TURN_UNTIL(r, r->ticket_count == 1);
    io_discard(r->io, r->tickets[0], NULL, 0);
    close(fd);
    rig_free(r);
}

Test(io_uring, a_table_larger_than_the_descriptor_limit_is_cut_to_it)
{
    struct rlimit limit = {300, 300};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rig *r = rig_new(1000000, NULL);
    cr_expect_eq(r->io->conns_max, 300 - URING_SLOT_RESERVE);
    rig_free(r);
    limit.rlim_cur = URING_SLOT_RESERVE;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct io *io;
    const char *why = NULL;
    cr_expect_eq(io_uring_new(&(struct io_config){.conns_max = 10}, &io, &why), -EMFILE);
    cr_expect_str_eq(why, "io_uring: RLIMIT_NOFILE is too low");
}

Test(io_uring, impossible_receive_buffers_are_refused_with_a_reason)
{
    struct io *io;
    const char *why = NULL;
    rig_free(rig_new(1, NULL)); /* or skipped */
    cr_expect_eq(io_uring_new(&(struct io_config){.conns_max = 1, .recv_buffers = 3}, &io, &why),
                 -EINVAL);
    cr_expect_not_null(strstr(why, "power of two"));
    cr_expect_eq(io_uring_new(&(struct io_config){.conns_max = 1, .recv_buffers = 512}, &io, &why),
                 -EINVAL);
    cr_expect_eq(
        io_uring_new(&(struct io_config){.conns_max = 1, .recv_buffer_bytes = 10}, &io, &why),
        -EINVAL);
}

/* Queues of a handful of entries, and everything has to go through them. */
static void squeeze(const struct uring_quirks *q, int spans)
{
    enum { CLIENTS = 100 };
    static uint8_t message[1000];
    struct rig *r = rig_new(CLIENTS, q);
    int fds[CLIENTS];
    struct iovec iov[10];
    for (int i = 0; i < spans; i++)
        iov[i] = (struct iovec){message + i * 100, 100};
    for (size_t i = 0; i < sizeof(message); i++)
        message[i] = (uint8_t)(i * 31 >> 3);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = client(r);
    TURN_UNTIL(r, r->peer_count == CLIENTS);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            write_all(fds[i], (uint8_t)i, 50);
            cr_assert_eq(io_send(r->io, &r->peers[i].c, iov, spans, (size_t)spans * 100),
                         IO_PENDING);
        }
        for (int i = 0; i < CLIENTS; i++)
            TURN_UNTIL(r, r->peers[i].sents == round + 1);
    }
    TURN_UNTIL(r, r->io->stats.recv_bytes == CLIENTS * 250);
    for (int i = 0; i < CLIENTS; i++) {
        uint8_t got[1000];
        cr_expect_eq(r->peers[i].sent_err, 0);
        cr_expect_not(r->peers[i].mixed);
        for (int round = 0; round < 5; round++) {
            ssize_t want = spans * 100;
            cr_assert_eq(recv(fds[i], got, (size_t)want, MSG_WAITALL), want);
            cr_assert_arr_eq(got, message, (size_t)want);
        }
        close(fds[i]);
    }
    if (q != NULL && q->cq_entries != 0)
        cr_expect_gt(r->io->stats.cq_overflows, 0);
    rig_free(r);
}

Test(io_uring, a_full_submission_queue_is_emptied_in_between)
{
    squeeze(&(struct uring_quirks){.sq_entries = 8}, 1);
}

Test(io_uring, gathered_sends_outlive_a_submit_in_between)
{
    squeeze(&(struct uring_quirks){.sq_entries = 8}, 10);
}

Test(io_uring, an_overflow_of_the_completion_queue_loses_nothing)
{
    squeeze(&(struct uring_quirks){.sq_entries = 8, .cq_entries = 16}, 3);
}

Test(io_uring, a_broadcast_to_a_thousand_is_one_system_call)
{
    enum { CLIENTS = 1000 };
    struct rig *r = rig_new(CLIENTS, NULL);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = client(r);
    TURN_UNTIL(r, r->peer_count == CLIENTS);
    for (int i = 0; i < 3; i++)
        turn(r);
    struct iovec iov = {"to everybody", 12};
    for (int i = 0; i < CLIENTS; i++)
        cr_assert_eq(io_send(r->io, &r->peers[i].c, &iov, 1, 12), IO_PENDING);
    uint64_t before = r->io->stats.syscalls;
    cr_expect_eq(io_poll(r->io, 0), CLIENTS);
    cr_expect_leq(r->io->stats.syscalls - before, 2);
    for (int i = 0; i < CLIENTS; i++) {
        char text[16];
        cr_assert_eq(recv(fds[i], text, sizeof(text), MSG_DONTWAIT), 12);
        close(fds[i]);
    }
    rig_free(r);
}

/* Closing ---------------------------------------------------------------------------------------
 */

Test(io_uring, closing_with_reset_sends_rst_and_without_it_fin)
{
    for (int reset = 0; reset < 2; reset++) {
        struct rig *r = rig_new(4, NULL);
        int fd;
        struct peer *p = pair_new(r, &fd);
        io_close(r->io, &p->c, reset);
        TURN_UNTIL(r, p->closes == 1);
        char byte;
        ssize_t n = recv(fd, &byte, 1, 0);
        cr_expect_eq(n, reset ? -1 : 0);
        cr_expect(!reset || errno == ECONNRESET);
        close(fd);
        rig_free(r);
    }
}

Test(io_uring, a_unix_socket_can_be_closed_with_reset_too)
{
    struct rig *r = rig_new(4, NULL);
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct peer *p = peer_new(r);
    cr_assert_eq(io_adopt(r->io, &p->c, (struct io_ticket){pair[0]}), 0);
    io_close(r->io, &p->c, true);
    TURN_UNTIL(r, p->closes == 1);
    char byte;
    cr_expect_leq(recv(pair[1], &byte, 1, 0), 0);
    close(pair[1]);
    rig_free(r);
}

Test(io_uring, a_stalled_send_ends_with_the_connection)
{
    struct rig *r = rig_new(4, NULL);
    size_t len = 32 << 20;
    struct iovec iov = {calloc(1, len), len};
    int fd;
    struct peer *p = pair_new(r, &fd);
    cr_assert_eq(io_send(r->io, &p->c, &iov, 1, len), IO_PENDING);
    for (int i = 0; i < 3; i++)
        turn(r);
    cr_expect_eq(p->sents, 0);
    io_close(r->io, &p->c, false);
    TURN_UNTIL(r, p->closes == 1);
    cr_expect_eq(p->sents, 0);
    close(fd);

    p = pair_new(r, &fd);
    cr_assert_eq(io_send(r->io, &p->c, &iov, 1, len), IO_PENDING);
    turn(r);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(fd);
    TURN_UNTIL(r, p->sents == 1 && p->eofs == 1);
    cr_expect_lt(p->sent_err, 0);
    free(iov.iov_base);
    rig_free(r);
}

Test(io_uring, a_reset_is_told_while_receiving_is_paused)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = pair_new(r, &fd);
    for (int i = 0; i < 3; i++) { /* the watch outlives pauses */
        io_recv(r->io, &p->c, false);
        turn(r);
        write_all(fd, 'x', 1);
        turn(r);
        cr_expect_eq(p->recv_bytes, (uint64_t)i);
        io_recv(r->io, &p->c, true);
        TURN_UNTIL(r, p->recv_bytes == (uint64_t)i + 1);
    }
    io_recv(r->io, &p->c, false);
    turn(r);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(fd);
    TURN_UNTIL(r, p->eofs == 1);
    cr_expect_eq(p->eof_err, -ECONNRESET);
    io_recv(r->io, &p->c, true);
    turn(r);
    cr_expect_eq(p->eofs, 1);
    rig_free(r);
}

Test(io_uring, the_port_is_free_as_soon_as_the_io_is)
{
    struct rig *r = rig_new(4, NULL);
    struct sockaddr_in addr = r->addr;
    turn(r);
    io_unlisten(r->io, &r->listener);
    rig_free(r);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    cr_expect_eq(listen(fd, 1), 0);
    close(fd);
}

/* Connecting ------------------------------------------------------------------------------------
 */

static void connect_about(const struct uring_quirks *q)
{
    struct rig *r = rig_new(8, q);
    struct io_addr to, from, nowhere;
    io_addr_from_sockaddr(&to, (struct sockaddr *)&r->addr, sizeof(r->addr));
    from = to;
    from.port = 0;
    from.ip[15] = 77; /* 127.0.0.77 */
    nowhere = to;
    nowhere.ip[12] = 192;
    nowhere.port = 0;

    struct peer *plain = peer_new(r);
    cr_assert_eq(io_connect(r->io, &plain->c, &to, NULL), 0);
    TURN_UNTIL(r, plain->connects == 1 && r->peer_count == 2);
    cr_expect_eq(plain->connect_err, 0);
    struct iovec iov = {"ping", 4};
    cr_assert_eq(io_send(r->io, &plain->c, &iov, 1, 4), IO_PENDING);
    cr_assert_eq(io_send(r->io, &r->peers[1].c, &iov, 1, 4), IO_PENDING);
    TURN_UNTIL(r, plain->recv_bytes == 4 && r->peers[1].recv_bytes == 4);

    struct peer *bound = peer_new(r);
    cr_assert_eq(io_connect(r->io, &bound->c, &to, &from), 0);
    TURN_UNTIL(r, bound->connects == 1 && r->peer_count == 4);
    cr_expect_eq(bound->connect_err, 0);

    struct peer *foreign = peer_new(r);
    int err = io_connect(r->io, &foreign->c, &to, &nowhere);
    if (err == 0) {
        TURN_UNTIL(r, foreign->connects == 1);
        err = foreign->connect_err;
        io_close(r->io, &foreign->c, false);
        TURN_UNTIL(r, foreign->closes == 1);
    } else {
        r->peer_count--;
    }
    cr_expect_eq(err, -EADDRNOTAVAIL);

    io_unlisten(r->io, &r->listener);
    struct peer *refused = peer_new(r);
    cr_assert_eq(io_connect(r->io, &refused->c, &to, NULL), 0);
    TURN_UNTIL(r, refused->connects == 1);
    cr_expect_eq(refused->connect_err, -ECONNREFUSED);
    rig_free(r);
}

Test(io_uring, connecting_with_and_without_an_address_of_its_own)
{
    connect_about(NULL);
}

Test(io_uring, connecting_without_a_request_for_bind)
{
    connect_about(&(struct uring_quirks){.no_bind = true});
}

Test(io_uring, receiving_can_be_paused_before_the_connection_stands)
{
    struct rig *r = rig_new(8, NULL);
    struct io_addr to;
    io_addr_from_sockaddr(&to, (struct sockaddr *)&r->addr, sizeof(r->addr));
    struct peer *p = peer_new(r);
    cr_assert_eq(io_connect(r->io, &p->c, &to, NULL), 0);
    io_recv(r->io, &p->c, false);
    TURN_UNTIL(r, p->connects == 1 && r->peer_count == 2);
    struct iovec iov = {"ping", 4};
    cr_assert_eq(io_send(r->io, &r->peers[1].c, &iov, 1, 4), IO_PENDING);
    TURN_UNTIL(r, r->peers[1].sents == 1);
    turn(r);
    cr_expect_eq(p->recv_bytes, 0);
    io_recv(r->io, &p->c, true);
    TURN_UNTIL(r, p->recv_bytes == 4);
    rig_free(r);
}

Test(io_uring, a_connect_can_be_closed_before_its_outcome)
{
    struct rig *r = rig_new(8, NULL);
    struct io_addr to;
    io_addr_from_sockaddr(&to, (struct sockaddr *)&r->addr, sizeof(r->addr));
    for (int turns = 0; turns < 2; turns++) {
        struct peer *p = peer_new(r);
        cr_assert_eq(io_connect(r->io, &p->c, &to, NULL), 0);
        for (int i = 0; i < turns; i++)
            cr_assert_geq(io_poll(r->io, 0), 0);
        io_close(r->io, &p->c, false);
        TURN_UNTIL(r, p->closes == 1);
        cr_expect_leq(p->connects, turns);
    }
    rig_free(r);
}

/* Waking ----------------------------------------------------------------------------------------
 */

/* Two shards that pass a number to and fro, each sleeping until the other's wake. */
struct ponger {
    struct io *io;
    struct ponger *other;
    atomic_uint number; /* the other's to write */
    bool quiet_other;   /* passes no `from` */
    pthread_t thread;
};

#define PONGS 2000

static void *pong(void *arg)
{
    struct ponger *p = arg;
    cr_assert_eq(io_start(p->io), 0);
    for (uint32_t next = 1; next <= PONGS; next++) {
        atomic_store_explicit(&p->other->number, next, memory_order_release);
        io_wake(p->other->io, p->quiet_other ? NULL : p->io);
        while (atomic_load_explicit(&p->number, memory_order_acquire) < next)
            if (io_poll(p->io, IO_FOREVER) < 0)
                return "poll";
    }
    /* The last bell leaves with a submit. */
    return io_poll(p->io, 0) < 0 ? "poll" : NULL;
}

static void pong_about(const struct uring_quirks *q, bool quiet)
{
    struct ponger p[2] = {0};
    rig_free(rig_new(1, q)); /* or skipped */
    for (int i = 0; i < 2; i++) {
        const char *why;
        cr_assert_eq(uring_new(&(struct io_config){.conns_max = 1}, q, &p[i].io, &why), 0);
        p[i].other = &p[1 - i];
        p[i].quiet_other = quiet;
    }
    uint64_t start_ns = now_ns();
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&p[i].thread, NULL, pong, &p[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *failed;
        cr_assert_eq(pthread_join(p[i].thread, &failed), 0);
        cr_expect_null(failed);
        cr_expect_gt(p[i].io->stats.wakes_received, PONGS / 100);
    }
    cr_expect_lt(now_ns() - start_ns, 4 * NS_PER_SEC);
    for (int i = 0; i < 2; i++)
        io_free(p[i].io);
}

Test(io_uring, shards_wake_each_other_from_ring_to_ring)
{
    pong_about(NULL, false);
}

Test(io_uring, threads_without_a_ring_wake_a_shard)
{
    pong_about(NULL, true);
}

Test(io_uring, shards_wake_each_other_where_rings_cannot)
{
    pong_about(&(struct uring_quirks){.no_msg_ring = true}, false);
}

Test(io_uring, a_wake_before_the_start_is_not_lost)
{
    struct rig *r = rig_new(1, NULL);
    struct io *late;
    const char *why;
    cr_assert_eq(io_uring_new(&(struct io_config){.conns_max = 1}, &late, &why), 0);
    io_wake(late, r->io);
    turn(r);
    cr_assert_eq(io_start(late), 0);
    cr_assert_geq(io_poll(late, IO_FOREVER), 0);
    cr_expect_eq(late->stats.wakes_received, 1);
    io_free(late);
    rig_free(r);
}

Test(io_uring, a_shard_that_wakes_itself_does_not_sleep)
{
    struct rig *r = rig_new(1, NULL);
    turn(r);
    io_wake(r->io, r->io);
    cr_expect_geq(io_poll(r->io, IO_FOREVER), 0);
    rig_free(r);
}

Test(io_uring, wakes_of_one_turn_to_one_shard_are_one_bell)
{
    struct rig *a = rig_new(1, NULL);
    struct rig *b = rig_new(1, NULL);
    for (int i = 0; i < 100; i++)
        io_wake(b->io, a->io);
    turn(a);
    for (int i = 0; i < 3; i++)
        turn(b);
    cr_expect_eq(b->io->stats.wakes_received, 1);
    for (int i = 0; i < 100; i++)
        io_wake(b->io, NULL);
    for (int i = 0; i < 3; i++)
        turn(b);
    cr_expect_eq(b->io->stats.wakes_received, 2);
    rig_free(a);
    rig_free(b);
}

Test(io_uring, a_wait_ends_at_its_deadline)
{
    struct rig *r = rig_new(1, NULL);
    turn(r);
    uint64_t start_ns = r->io->now_ns;
    cr_expect_eq(io_poll(r->io, start_ns + 30 * NS_PER_MS), 0);
    cr_expect_geq(r->io->now_ns, start_ns + 30 * NS_PER_MS);
    cr_expect_lt(r->io->now_ns, start_ns + 200 * NS_PER_MS);
    start_ns = r->io->now_ns;
    cr_expect_eq(io_poll(r->io, 0), 0);
    cr_expect_lt(r->io->now_ns, start_ns + 20 * NS_PER_MS);
    rig_free(r);
}
