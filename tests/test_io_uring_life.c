/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What is particular to closing, connecting and waking on io_uring. */

#include "tests/uring_rig.h"

/* Closing ---------------------------------------------------------------------------------------
 */

Test(io_uring_life, closing_with_reset_sends_rst_and_without_it_fin)
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

Test(io_uring_life, a_unix_socket_can_be_closed_with_reset_too)
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

Test(io_uring_life, a_stalled_send_ends_with_the_connection)
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

Test(io_uring_life, a_reset_is_told_while_receiving_is_paused)
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

Test(io_uring_life, the_port_is_free_as_soon_as_the_io_is)
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

Test(io_uring_life, connecting_with_and_without_an_address_of_its_own)
{
    connect_about(NULL);
}

Test(io_uring_life, connecting_without_a_request_for_bind)
{
    connect_about(&(struct uring_quirks){.no_bind = true});
}

Test(io_uring_life, receiving_can_be_paused_before_the_connection_stands)
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

Test(io_uring_life, a_connect_can_be_closed_before_its_outcome)
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

Test(io_uring_life, shards_wake_each_other_from_ring_to_ring)
{
    pong_about(NULL, false);
}

Test(io_uring_life, threads_without_a_ring_wake_a_shard)
{
    pong_about(NULL, true);
}

Test(io_uring_life, shards_wake_each_other_where_rings_cannot)
{
    pong_about(&(struct uring_quirks){.no_msg_ring = true}, false);
}

Test(io_uring_life, a_wake_before_the_start_is_not_lost)
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

Test(io_uring_life, a_shard_that_wakes_itself_does_not_sleep)
{
    struct rig *r = rig_new(1, NULL);
    turn(r);
    io_wake(r->io, r->io);
    cr_expect_geq(io_poll(r->io, IO_FOREVER), 0);
    rig_free(r);
}

Test(io_uring_life, wakes_of_one_turn_to_one_shard_are_one_bell)
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

Test(io_uring_life, a_wait_ends_at_its_deadline)
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
