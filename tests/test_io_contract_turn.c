/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The contract of core/io.h for connecting, for waiting (deadlines, wake-ups) and for what an io
 * owns: its clock and its randomness. */

#include "tests/io_fixture.h"

#include <netdb.h>
#include <stdatomic.h>

/* --- connecting ------------------------------------------------------------------------------- */

/* A plain listening socket of a peer; backlog as listen(2) says. */
static int peer_listen(struct io_addr *a, int backlog)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int fd = peer_socket(AF_INET, 0);

    cr_assert_eq(io_addr_parse(a, "127.0.0.1", 0), 0);
    len = io_addr_to_sockaddr(a, &ss);
    cr_assert_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
    cr_assert_eq(listen(fd, backlog), 0);
    len = sizeof(ss);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    io_addr_from_sockaddr(a, (struct sockaddr *)&ss, len);
    return fd;
}

static void close_self(struct side *s)
{
    side_close(s, false);
}

IO_TEST(a_connect_succeeds_and_both_directions_work)
{
    struct io_addr a;
    int server = peer_listen(&a, 8);
    struct side *s = side_new(t, t->io);

    cr_assert_eq(io_connect(t->io, &s->conn, &a, NULL), 0);
    cr_assert_eq(t->io->conn_count, 1);
    UNTIL(t, s->connects > 0);
    cr_assert_eq(s->connect_err, 0);
    int peer = accept(server, NULL, NULL);
    cr_assert_geq(peer, 0);
    cr_assert_geq(side_send(s, "ping", 4), 0);
    UNTIL(t, !s->send_pending);
    peer_expect(peer, "ping", 4);
    peer_write(peer, "pong", 4);
    UNTIL(t, s->got_len == 4);
    side_got(s, "pong", 4);
    close(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->eof_err, 0);
    close(server);
}

static void greet(struct side *s)
{
    cr_assert_eq(s->got_len, 0, "bytes before on_connect");
    cr_assert_geq(side_send(s, "hi", 2), 0);
}

/* Sends as soon as it can. */
static void *serve_banner(void *arg)
{
    int server = *(int *)arg;
    int peer = accept(server, NULL, NULL);
    char words[2];

    if (peer >= 0 && send(peer, "banner", 6, MSG_NOSIGNAL) == 6)
        recv(peer, words, sizeof(words), MSG_WAITALL);
    close(peer);
    return NULL;
}

IO_TEST(bytes_come_after_on_connect)
{
    struct io_addr a;
    int server = peer_listen(&a, 8);

    for (int i = 0; i < 20; i++) {
        struct side *s = side_new(t, t->io);
        pthread_t thread;
        s->connect_hook = greet;
        cr_assert_eq(pthread_create(&thread, NULL, serve_banner, &server), 0);
        cr_assert_eq(io_connect(t->io, &s->conn, &a, NULL), 0);
        if (i % 2) {
            turn(t, 0);
            usleep(1000); /* so that both may be told in one turn */
        }
        UNTIL(t, s->eofs > 0);
        cr_assert_eq(s->connects, 1);
        side_got(s, "banner", 6);
        pthread_join(thread, NULL);
    }
    close(server);
}

IO_TEST(a_refused_connect_is_told_once)
{
    struct io_addr a;
    int server = peer_listen(&a, 8);
    struct side *s = side_new(t, t->io);

    close(server);
    cr_assert_eq(io_connect(t->io, &s->conn, &a, NULL), 0);
    cr_assert_eq(s->connects, 0);
    UNTIL(t, s->connects > 0);
    cr_assert_eq(s->connect_err, -ECONNREFUSED);
    turn_for_ms(t, 10);
    cr_assert_eq(s->eofs, 0);
}

IO_TEST(on_connect_may_close_whatever_the_outcome)
{
    struct io_addr open, shut;
    int server = peer_listen(&open, 8);
    close(peer_listen(&shut, 8));
    struct side *good = side_new(t, t->io);
    struct side *bad = side_new(t, t->io);

    good->connect_hook = close_self;
    bad->connect_hook = close_self;
    cr_assert_eq(io_connect(t->io, &good->conn, &open, NULL), 0);
    cr_assert_eq(io_connect(t->io, &bad->conn, &shut, NULL), 0);
    UNTIL(t, good->closeds > 0 && bad->closeds > 0);
    close(server);
}

/* The connection may be told in one turn with the bytes behind it. */
IO_TEST(nothing_comes_behind_a_close_in_on_connect)
{
    struct io_addr a;
    int server = peer_listen(&a, 8);

    for (int i = 0; i < 10; i++) {
        struct side *s = side_new(t, t->io);
        pthread_t thread;
        s->connect_hook = close_self;
        cr_assert_eq(pthread_create(&thread, NULL, serve_banner, &server), 0);
        cr_assert_eq(io_connect(t->io, &s->conn, &a, NULL), 0);
        usleep(2000);
        UNTIL(t, s->closeds > 0);
        cr_assert_eq(s->got_len, 0);
        pthread_join(thread, NULL);
    }
    close(server);
}

/* The system's own time, also between two turns, whatever now_ns says. */
IO_TEST(the_time_on_the_wall_is_the_systems)
{
    for (int i = 0; i < 3; i++) {
        struct timespec before, after;
        clock_gettime(CLOCK_REALTIME, &before);
        uint64_t wall_ns = io_wall_ns(t->io);
        clock_gettime(CLOCK_REALTIME, &after);
        cr_assert_geq(wall_ns, (uint64_t)before.tv_sec * NS_PER_SEC + (uint64_t)before.tv_nsec);
        cr_assert_leq(wall_ns, (uint64_t)after.tv_sec * NS_PER_SEC + (uint64_t)after.tv_nsec);
        usleep(1000);
    }
}

IO_TEST(a_connect_can_leave_from_a_given_address)
{
    struct io_addr a, from, seen;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int server = peer_listen(&a, 8);
    struct side *s = side_new(t, t->io);

    cr_assert_eq(io_addr_parse(&from, "127.0.0.9", 0), 0);
    cr_assert_eq(io_connect(t->io, &s->conn, &a, &from), 0);
    UNTIL(t, s->connects > 0);
    cr_assert_eq(s->connect_err, 0);
    int peer = accept(server, (struct sockaddr *)&ss, &len);
    cr_assert_geq(peer, 0);
    io_addr_from_sockaddr(&seen, (struct sockaddr *)&ss, len);
    cr_assert_arr_eq(seen.ip, from.ip, sizeof(from.ip));
    close(peer);
    close(server);
}

IO_TEST(a_connect_from_an_address_that_is_not_ours_fails)
{
    struct io_addr a, from;
    int server = peer_listen(&a, 8);
    struct side *s = side_new(t, t->io);

    cr_assert_eq(io_addr_parse(&from, "192.0.2.1", 0), 0);
    int err = io_connect(t->io, &s->conn, &a, &from);
    if (err == 0) { /* attached, so the outcome comes by callback */
        UNTIL(t, s->connects > 0);
        err = s->connect_err;
    } else {
        cr_assert_eq(t->io->conn_count, 0, "nothing is attached after an error");
        s->closing = true;
        s->closeds = 1;
    }
    cr_assert_eq(err, -EADDRNOTAVAIL);
    close(server);
}

/* A full backlog drops the handshake, so the connect hangs. */
static void close_a_hanging_connect(struct fixture *t, uint32_t turns)
{
    struct io_addr a;
    int server = peer_listen(&a, 0);
    int filler = peer_connect_with(&a, 0);
    struct side *s = side_new(t, t->io);

    cr_assert_eq(io_connect(t->io, &s->conn, &a, NULL), 0);
    for (uint32_t i = 0; i < turns; i++)
        turn(t, 0);
    cr_assert_eq(s->connects, 0);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    close(filler);
    close(server);
}

IO_TEST(a_connect_under_way_can_be_closed)
{
    close_a_hanging_connect(t, 10);
}

/* With io_uring connecting is several requests, and a cancel may come between two of them. */
IO_TEST(a_connect_can_be_closed_before_it_is_under_way)
{
    close_a_hanging_connect(t, 0);
    close_a_hanging_connect(t, 1);
}

IO_TEST_CONNS(a_connect_beyond_the_tables_size_fails, 2)
{
    struct io_addr a;
    int server = peer_listen(&a, 8);
    struct side *s[3];

    for (int i = 0; i < 3; i++)
        s[i] = side_new(t, t->io);
    cr_assert_eq(io_connect(t->io, &s[0]->conn, &a, NULL), 0);
    cr_assert_eq(io_connect(t->io, &s[1]->conn, &a, NULL), 0);
    cr_assert_lt(io_connect(t->io, &s[2]->conn, &a, NULL), 0);
    s[2]->closing = true; /* never attached */
    s[2]->closeds = 1;
    cr_assert_eq(t->io->conn_count, 2);
    close(server);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void wait_until_deadline(struct fixture *t, uint64_t ms)
{
    turn(t, 0);
    uint64_t start_ns = t->io->now_ns;
    uint64_t deadline_ns = start_ns + ms * NS_PER_MS;
    while (t->io->now_ns < deadline_ns)
        cr_assert_eq(turn(t, deadline_ns), 0);
    cr_assert_lt(t->io->now_ns - deadline_ns, 200 * NS_PER_MS, "far too late");
    cr_assert_lt(t->io->stats.polls, 10, "the wait is no wait");
}

IO_TEST(a_short_deadline_ends_the_wait)
{
    wait_until_deadline(t, 3);
}

IO_TEST(a_longer_deadline_ends_the_wait)
{
    wait_until_deadline(t, 70);
}

/* The deadline is absolute: time spent outside of io_poll() is not waited for again. */
IO_TEST(a_deadline_counts_from_the_clock_and_not_from_the_call)
{
    turn(t, 0);
    uint64_t deadline_ns = t->io->now_ns + 250 * NS_PER_MS;
    usleep(200000);
    uint64_t due_ns = max_u64(deadline_ns, wall_ns()); /* the machine may have overslept */
    while (t->io->now_ns < deadline_ns)
        turn(t, deadline_ns);
    cr_assert_lt(t->io->now_ns - due_ns, 150 * NS_PER_MS);
}

IO_TEST(a_deadline_of_zero_or_past_does_not_wait)
{
    turn(t, 0);
    uint64_t past_ns = t->io->now_ns - 1;
    uint64_t start_ns = wall_ns();
    for (int i = 0; i < 200; i++)
        turn(t, i % 2 ? 0 : past_ns);
    cr_assert_lt(wall_ns() - start_ns, NS_PER_SEC);
}

IO_TEST(the_clock_is_monotonic_time_and_stands_still_between_turns)
{
    for (int i = 0; i < 20; i++) {
        uint64_t before_ns = wall_ns();
        turn(t, 0);
        uint64_t now_ns = t->io->now_ns;
        cr_assert(before_ns <= now_ns && now_ns <= wall_ns());
        usleep(100);
        cr_assert_eq(t->io->now_ns, now_ns);
    }
}

IO_TEST(an_arrival_ends_a_wait_without_deadline)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    turn_for_ms(t, 5);
    peer_write(peer, "x", 1);
    while (s->got_len == 0)
        turn(t, IO_FOREVER);
    cr_assert_eq(t->io->stats.recvs, 1);
    close(peer);
}

/* --- waking ----------------------------------------------------------------------------------- */

struct waker {
    pthread_t thread;
    struct io *io;
    unsigned delay_us;
    _Atomic int asked; /* rounds that the shard wants */
    _Atomic int given; /* rounds that the waker has answered */
    int rounds;
};

static void *wake_later(void *arg)
{
    struct waker *w = arg;
    usleep(w->delay_us);
    atomic_store(&w->given, 1);
    io_wake(w->io, NULL);
    return NULL;
}

IO_TEST(another_thread_can_end_a_wait)
{
    struct waker w = {.io = t->io, .delay_us = 20000};

    cr_assert_eq(pthread_create(&w.thread, NULL, wake_later, &w), 0);
    while (atomic_load(&w.given) == 0)
        turn(t, IO_FOREVER);
    pthread_join(w.thread, NULL);
    turn(t, 0);
    cr_assert_geq(t->io->stats.wakes_received, 1);
}

IO_TEST(a_wake_before_the_wait_is_not_lost)
{
    for (int i = 0; i < 50; i++) {
        io_wake(t->io, NULL);
        turn(t, IO_FOREVER); /* the test's alarm rings if it was */
    }
}

IO_TEST(many_wakes_merge_and_never_block)
{
    for (int i = 0; i < 50000; i++)
        io_wake(t->io, NULL);
    turn(t, IO_FOREVER);
    turn_for_ms(t, 5);
    uint64_t polls = t->io->stats.polls;
    turn_for_ms(t, 20);
    cr_assert_lt(t->io->stats.polls - polls, 10, "old wakes keep coming");
    io_wake(t->io, NULL);
    turn(t, IO_FOREVER);
}

IO_TEST(an_io_can_wake_another)
{
    struct io *second = fixture_io(t, 8);

    for (uint64_t i = 1; i <= 20; i++) {
        io_wake(t->io, second);
        turn_of(t, second, 0); /* the doorbell leaves with its next submit, if not before */
        turn(t, IO_FOREVER);
        cr_assert_eq(second->stats.wakes_sent, i);
        cr_assert_eq(t->io->stats.wakes_received, i);
    }
    io_free(second);
}

static void *wake_each_round(void *arg)
{
    struct waker *w = arg;
    for (int round = 1; round <= w->rounds; round++) {
        while (atomic_load_explicit(&w->asked, memory_order_acquire) < round)
            sched_yield();
        atomic_store_explicit(&w->given, round, memory_order_release);
        io_wake(w->io, NULL);
    }
    return NULL;
}

/* What was stored before a wake is seen after the wait that it ended; and every wake ends one. */
IO_TEST(a_wake_is_never_lost_between_two_waits)
{
    struct waker w = {.io = t->io, .rounds = 3000};

    cr_assert_eq(pthread_create(&w.thread, NULL, wake_each_round, &w), 0);
    for (int round = 1; round <= w.rounds; round++) {
        atomic_store_explicit(&w.asked, round, memory_order_release);
        while (atomic_load_explicit(&w.given, memory_order_acquire) < round)
            turn(t, IO_FOREVER);
    }
    pthread_join(w.thread, NULL);
}

/* --- what an io owns -------------------------------------------------------------------------- */

IO_TEST(two_ios_draw_different_numbers)
{
    struct io *second = fixture_io(t, 8);
    cr_assert_neq(io_random(t->io), io_random(second));
    io_free(second);
}

IO_TEST(an_io_that_was_never_polled_can_be_freed)
{
    for (int i = 0; i < 5; i++)
        io_free(fixture_io(t, 8));
}
