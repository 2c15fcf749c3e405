/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The contract of core/io.h for closing: from any callback or none, whatever is under way, and with
 * the memory and the descriptor used again at once. */

#include "tests/io_fixture.h"

static void close_self_on_recv(struct side *s, struct bytes in)
{
    (void)in;
    side_close(s, false);
}

static void close_self(struct side *s)
{
    side_close(s, false);
}

IO_TEST(closing_sends_an_end_of_file)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    peer_expect_eof(peer);
    close(peer);
}

IO_TEST(closing_with_reset_sends_a_reset)
{
    int peer;
    char byte;
    struct side *s = fixture_pair(t, &peer);

    side_close(s, true);
    UNTIL(t, s->closeds > 0);
    cr_assert_lt(recv(peer, &byte, 1, 0), 0);
    cr_assert_eq(errno, ECONNRESET);
    close(peer);
}

/* The deadline is far off, so only the close itself can end the wait. */
IO_TEST(a_close_outside_of_poll_ends_in_the_next_ones)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    side_close(s, false);
    cr_assert_eq(s->closeds, 0, "callbacks come in io_poll()");
    for (int turns = 0; s->closeds == 0; turns++) {
        cr_assert_lt(turns, 10);
        turn(t, IO_FOREVER);
    }
    cr_assert_eq(t->io->conn_count, 0);
    close(peer);
}

IO_TEST(closing_twice_is_the_same_as_once)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    side_close(s, false);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    turn_for_ms(t, 10);
    cr_assert_eq(s->closeds, 1);
    close(peer);
}

IO_TEST(a_connection_may_close_itself_while_receiving)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 2 << 20, .piece_max = 100000, .seed = 1};

    s->recv_hook = close_self_on_recv;
    streamer_start(&w, streamer_write);
    UNTIL(t, s->closeds > 0);
    pthread_join(w.thread, NULL);
    close(peer);
}

/* The end has been announced already when the callback for the bytes closes. */
IO_TEST(a_connection_that_closes_at_its_last_bytes_hears_of_no_end)
{
    for (int i = 0; i < 5; i++) {
        int peer;
        struct side *s = fixture_pair(t, &peer);

        s->recv_hook = close_self_on_recv;
        io_recv(t->io, &s->conn, false);
        turn(t, 0);
        peer_write(peer, "last", 4);
        close(peer);
        turn_for_ms(t, 2);
        io_recv(t->io, &s->conn, true);
        UNTIL(t, s->closeds > 0);
        side_got(s, "last", 4);
    }
}

/* In the very turn in which there is room for all the rest of its send. */
IO_TEST(a_connection_with_a_send_pending_may_close_itself_while_receiving)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(1 << 20);
    size_t len = 0;

    while (!s->send_pending) {
        cr_assert_lt(len, 1 << 20);
        cr_assert_geq(side_send(s, data + len, 30000), 0);
        len += 30000;
        turn_for_ms(t, 2);
    }
    s->recv_hook = close_self_on_recv;
    peer_expect(peer, data, len - 30000);
    peer_write(peer, "enough", 6);
    usleep(2000);
    UNTIL(t, s->closeds > 0);
    free(data);
    close(peer);
}

IO_TEST(a_connection_may_close_itself_at_its_end)
{
    int orderly, abrupt;
    struct side *first = fixture_pair(t, &orderly);
    struct side *second = fixture_pair(t, &abrupt);

    first->eof_hook = close_self;
    second->eof_hook = close_self;
    peer_write(orderly, "bye", 3);
    close(orderly);
    peer_reset(abrupt);
    UNTIL(t, first->closeds > 0 && second->closeds > 0);
    side_got(first, "bye", 3);
}

IO_TEST(a_connection_may_close_itself_when_its_send_is_over)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    struct streamer r = {.fd = peer, .total = 1 << 20, .piece_max = 100000, .seed = 1};
    uint8_t *data = pattern_new(r.total);

    s->sent_hook = close_self;
    cr_assert_eq(side_send(s, data, r.total), IO_PENDING);
    streamer_start(&r, streamer_read);
    UNTIL(t, s->closeds > 0);
    streamer_finish(&r);
    peer_expect_eof(peer);
    free(data);
    close(peer);
}

static void close_other(struct side *s, struct bytes in)
{
    (void)in;
    if (s->other != NULL && !s->other->closing)
        side_close(s->other, false);
}

/* Both have something to tell in the same turn; whoever comes first silences the other. */
IO_TEST(a_connection_closed_by_another_ones_callback_is_silent)
{
    for (int i = 0; i < 20; i++) {
        int a, b;
        struct side *first = fixture_pair(t, &a);
        struct side *second = fixture_pair(t, &b);
        first->other = second;
        second->other = first;
        first->recv_hook = close_other;
        second->recv_hook = close_other;
        peer_write(a, "a", 1);
        peer_write(b, "b", 1);
        usleep(1000);
        UNTIL(t, first->closeds + second->closeds == 1);
        cr_assert_eq(first->got_len + second->got_len, 1);
        cr_assert_eq(first->closing, second->got_len == 1);
        side_close(first->closing ? second : first, false);
        close(a);
        close(b);
    }
}

static void close_all(struct side *s, struct bytes in)
{
    (void)in;
    for (int i = 0; i < s->t->side_count; i++) {
        if (!s->t->sides[i]->closing)
            side_close(s->t->sides[i], i % 2);
    }
}

IO_TEST(one_callback_may_close_everybody)
{
    enum { PEERS = 100 };
    int peers[PEERS];

    for (int i = 0; i < PEERS; i++) {
        struct side *s = fixture_pair(t, &peers[i]);
        s->recv_hook = close_all;
    }
    for (int i = 0; i < PEERS; i++)
        peer_write(peers[i], "now", 3);
    usleep(2000);
    UNTIL(t, t->io->conn_count == 0);
    size_t total = 0;
    for (int i = 0; i < PEERS; i++) {
        total += t->sides[i]->got_len;
        cr_assert_eq(t->sides[i]->closeds, 1);
        close(peers[i]);
    }
    cr_assert_eq(total, 3);
}

/* The memory stays the kernel's until on_closed, and on_sent never comes (the fixture checks). */
static void close_with_send_pending(struct fixture *t, bool reset)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);
    uint8_t buf[4096];
    size_t done = 0;
    ssize_t n;

    cr_assert_eq(side_send(s, data, 4 << 20), IO_PENDING);
    turn_for_ms(t, 10);
    side_close(s, reset);
    UNTIL(t, s->closeds > 0);
    memset(data, 0xee, 4 << 20);
    cr_assert_eq(s->sents, 0);
    while ((n = recv(peer, buf, sizeof(buf), 0)) > 0) {
        cr_assert(is_pattern(buf, (size_t)n, done));
        done += (size_t)n;
    }
    if (reset)
        cr_assert_lt(n, 0);
    cr_assert_lt(done, 4 << 20);
    free(data);
    close(peer);
}

IO_TEST(closing_ends_a_pending_send)
{
    close_with_send_pending(t, false);
}

IO_TEST(closing_with_reset_ends_a_pending_send)
{
    close_with_send_pending(t, true);
}

IO_TEST(a_closing_connection_takes_no_more_words_even_over_a_pending_send)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);

    cr_assert_eq(side_send(s, data, 4 << 20), IO_PENDING);
    side_close(s, false);
    cr_assert_eq(io_send(t->io, &s->conn, &(struct iovec){"more", 4}, 1, 4), -ENOTCONN);
    int key = io_tls_key(t->io, &s->conn, "", 0, false);
    cr_assert(key == -ENOTCONN || key == -EOPNOTSUPP);
    io_shutdown(t->io, &s->conn);
    UNTIL(t, s->closeds > 0);
    cr_assert_eq(s->sents, 0);
    free(data);
    close(peer);
}

IO_TEST(a_paused_connection_with_unread_bytes_can_be_closed)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "never read", 10);
    turn_for_ms(t, 5);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    cr_assert_eq(s->got_len, 0);
    close(peer);
}

/* Resumed, so the backend has work noted for it, and then closed before that work is done. */
IO_TEST(a_connection_closed_right_after_its_resume_is_silent)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "never read", 10);
    turn_for_ms(t, 5);
    io_recv(t->io, &s->conn, true);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    cr_assert_eq(s->got_len, 0);
    close(peer);
}

static void resume_and_close_other(struct side *s, struct bytes in)
{
    (void)in;
    io_recv(s->io, &s->other->conn, true);
    side_close(s->other, false);
}

IO_TEST(a_connection_resumed_and_closed_by_another_ones_callback_is_silent)
{
    int a, b;
    struct side *first = fixture_pair(t, &a);
    struct side *second = fixture_pair(t, &b);

    io_recv(t->io, &second->conn, false);
    turn(t, 0);
    peer_write(b, "never read", 10);
    turn_for_ms(t, 5);
    first->other = second;
    first->recv_hook = resume_and_close_other;
    peer_write(a, "go", 2);
    UNTIL(t, second->closeds > 0);
    turn_for_ms(t, 5);
    cr_assert_eq(second->got_len, 0);
    close(a);
    close(b);
}

IO_TEST(a_connection_may_be_closed_in_the_turn_that_accepted_it)
{
    int peer = peer_connect(t);

    peer_write(peer, "hi", 2);
    UNTIL(t, t->side_count == 1);
    side_close(t->sides[0], false);
    UNTIL(t, t->sides[0]->closeds > 0);
    close(peer);
}

static void close_other_at_closed(struct side *s)
{
    if (s->other != NULL)
        side_close(s->other, false);
}

IO_TEST(on_closed_may_close_another_connection)
{
    int a, b;
    struct side *first = fixture_pair(t, &a);
    struct side *second = fixture_pair(t, &b);

    first->other = second;
    first->closed_hook = close_other_at_closed;
    side_close(first, false);
    for (int turns = 0; second->closeds == 0; turns++) {
        cr_assert_lt(turns, 20);
        turn(t, IO_FOREVER);
    }
    close(a);
    close(b);
}

/* In on_closed the memory is the owner's: a waiting ticket moves in at once. */
static void adopt_at_closed(struct side *s)
{
    struct fixture *t = s->t;

    if (t->ticket_count == 0)
        return;
    ASAN_UNPOISON_MEMORY_REGION(&s->conn, sizeof(s->conn));
    s->conn.events = &side_events;
    cr_assert_eq(io_adopt(s->io, &s->conn, t->tickets[--t->ticket_count]), 0);
    s->closing = false;
    s->closeds = 0;
    s->eofs = 0;
}

IO_TEST(on_closed_may_use_the_memory_for_the_next_connection)
{
    int first, waiting[8];
    struct side *s = fixture_pair(t, &first);

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_TICKETS);
    turn(t, 0);
    for (int i = 0; i < 8; i++) {
        waiting[i] = peer_connect(t);
        peer_write(waiting[i], &(char){(char)('0' + i)}, 1);
    }
    UNTIL(t, t->ticket_count == 8);
    s->closed_hook = adopt_at_closed;
    for (int i = 7; i >= 0; i--) {
        s->got_len = 0;
        side_close(s, false);
        UNTIL(t, s->got_len > 0);
        side_got(s, &(char){(char)('0' + i)}, 1);
    }
    close(first);
    for (int i = 0; i < 8; i++)
        close(waiting[i]);
}

/* The place in the table is free again, too: whoever comes next may have changed its mind already.
 */
static void connect_and_close_at_closed(struct side *s)
{
    if (s->number == 0)
        return;
    ASAN_UNPOISON_MEMORY_REGION(&s->conn, sizeof(s->conn));
    s->conn.events = &side_events;
    s->closeds = 0;
    cr_assert_eq(io_connect(s->io, &s->conn, &s->t->addr, NULL), 0);
    io_close(s->io, &s->conn, --s->number % 2);
}

IO_TEST_CONNS(on_closed_may_connect_and_close_in_a_full_table, 4)
{
    enum { CONNS = 4, ROUNDS = 5 };
    int peers[CONNS];

    for (int i = 0; i < CONNS; i++) {
        struct side *s = fixture_pair(t, &peers[i]);
        s->closed_hook = connect_and_close_at_closed;
        s->number = ROUNDS;
    }
    fixture_unlisten(t);
    for (int i = 0; i < CONNS; i++)
        side_close(t->sides[i], false);
    UNTIL(t, t->io->conn_count == 0);
    for (int i = 0; i < CONNS; i++) {
        cr_assert_eq(t->sides[i]->number, 0);
        close(peers[i]);
    }
}

/* The answer is kept where it lives until on_sent(): behind what was received. */
static void answer_and_close(struct side *s, struct bytes in)
{
    cr_assert_eq(in.len, 1);
    side_keep(s, (struct bytes){&(uint8_t){(uint8_t)~in.ptr[0]}, 1});
    cr_assert_geq(side_send(s, s->got, 2), 0);
    if (!s->send_pending)
        side_close(s, false);
}

static void hook_answer_and_close(struct fixture *t, struct side *s)
{
    (void)t;
    s->recv_hook = answer_and_close;
    s->sent_hook = close_self;
}

/* Descriptors and slots go round while events of the former users may still be under way. */
IO_TEST(quickly_reused_descriptors_are_never_confused)
{
    enum { ROUNDS = 40, AT_ONCE = 10 };

    t->accept_hook = hook_answer_and_close;
    for (int round = 0; round < ROUNDS; round++) {
        int peers[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {
            uint8_t id = (uint8_t)(round * AT_ONCE + i);
            peers[i] = peer_connect(t);
            peer_write(peers[i], &id, 1);
        }
        UNTIL(t, t->side_count == (round + 1) * AT_ONCE && t->io->conn_count == 0);
        for (int i = 0; i < AT_ONCE; i++) {
            uint8_t id = (uint8_t)(round * AT_ONCE + i);
            uint8_t answer[2] = {id, (uint8_t)~id};
            peer_expect(peers[i], answer, 2);
            peer_expect_eof(peers[i]);
            close(peers[i]);
        }
    }
}

/* Some send, some end, some reset, some are closed by us, all at once and in any order. */
IO_TEST(a_crowd_that_comes_and_goes_at_random_ends_cleanly)
{
    enum { PEERS = 64, STEPS = 600 };
    int peers[PEERS];
    struct side *sides[PEERS];
    unsigned seed = 41;

    for (int i = 0; i < PEERS; i++)
        sides[i] = fixture_pair(t, &peers[i]);
    for (int step = 0; step < STEPS; step++) {
        int i = (int)(rand_r(&seed) % PEERS);
        int what = rand_r(&seed) % 10;
        if (peers[i] >= 0 && what < 5) {
            send(peers[i], "some bytes", 10, MSG_NOSIGNAL);
        } else if (peers[i] >= 0 && what == 5) {
            close(peers[i]);
            peers[i] = -1;
        } else if (peers[i] >= 0 && what == 6) {
            peer_reset(peers[i]);
            peers[i] = -1;
        } else if (!sides[i]->closing && what == 7) {
            side_close(sides[i], step % 2);
        } else if (!sides[i]->closing) {
            io_recv(t->io, &sides[i]->conn, what == 8);
        }
        turn(t, 0);
    }
    for (int i = 0; i < PEERS; i++) {
        if (peers[i] >= 0)
            close(peers[i]);
    }
}
