/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The contract of core/io.h for connections: receiving, ends, sending, closing. The other half
 * (listeners, connecting, waiting) is test_io_contract_accept.c. */

#include "tests/io_fixture.h"

/* --- receiving -------------------------------------------------------------------------------- */

IO_TEST(one_byte_arrives)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    peer_write(peer, "x", 1);
    UNTIL(t, s->got_len > 0);
    side_got(s, "x", 1);
    cr_assert_eq(t->io->stats.recvs, 1);
    cr_assert_eq(t->io->stats.recv_bytes, 1);
    close(peer);
}

IO_TEST(a_mebibyte_in_one_piece_arrives_in_order)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 1 << 20, .piece_max = 1 << 20, .seed = 7};

    streamer_start(&w, streamer_write);
    UNTIL(t, s->got_len == w.total);
    streamer_finish(&w);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    cr_assert_eq(t->io->stats.recv_bytes, w.total);
    close(peer);
}

IO_TEST(pieces_of_random_size_arrive_in_order)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 3 << 20, .piece_max = 9000, .seed = 11};

    streamer_start(&w, streamer_write);
    UNTIL(t, s->got_len == w.total);
    streamer_finish(&w);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    close(peer);
}

static unsigned pad_sum; /* keeps the reads of the padding */

static void read_around_and_overwrite(struct side *s, struct bytes in)
{
    (void)s;
    for (size_t i = 1; i <= IO_RECV_PAD; i++)
        pad_sum += in.ptr[-(ptrdiff_t)i] + in.ptr[in.len + i - 1];
    memset(in.ptr, 0x5a, in.len);
}

IO_TEST(lent_bytes_can_be_read_around_and_written)
{
    int a, b;
    struct side *first = fixture_pair(t, &a);
    struct side *second = fixture_pair(t, &b);
    struct streamer w[2] = {{.fd = a, .total = 1 << 20, .piece_max = 70000, .seed = 3},
                            {.fd = b, .total = 1 << 20, .piece_max = 700, .seed = 4}};

    first->recv_hook = read_around_and_overwrite;
    second->recv_hook = read_around_and_overwrite;
    streamer_start(&w[0], streamer_write);
    streamer_start(&w[1], streamer_write);
    UNTIL(t, first->got_len == w[0].total && second->got_len == w[1].total);
    streamer_finish(&w[0]);
    streamer_finish(&w[1]);
    /* What one callee wrote into its slice is in nobody else's. */
    cr_assert(is_pattern(first->got, first->got_len, 0));
    cr_assert(is_pattern(second->got, second->got_len, 0));
    close(a);
    close(b);
}

IO_TEST(a_paused_connection_receives_nothing_until_it_is_resumed)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "early", 5);
    turn_for_ms(t, 30);
    cr_assert_eq(s->got_len, 0);
    io_recv(t->io, &s->conn, true);
    UNTIL(t, s->got_len > 0);
    side_got(s, "early", 5);
    close(peer);
}

/* Nothing but the resume can end the wait: the bytes' own notice is long gone. */
IO_TEST(resuming_finds_what_came_meanwhile_without_another_event)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "abc", 3);
    turn_for_ms(t, 20);
    io_recv(t->io, &s->conn, true);
    while (s->got_len == 0)
        turn(t, IO_FOREVER);
    side_got(s, "abc", 3);
    close(peer);
}

static void pause_at_once(struct side *s, struct bytes in)
{
    (void)in;
    io_recv(s->io, &s->conn, false);
}

IO_TEST(a_pause_within_the_callback_takes_effect_and_loses_nothing)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 1 << 20, .piece_max = 50000, .seed = 5};
    int pauses = 0;

    s->recv_hook = pause_at_once;
    streamer_start(&w, streamer_write);
    while (s->got_len < w.total) {
        size_t before = s->got_len;
        UNTIL(t, s->got_len > before);
        turn(t, 0); /* what the backend held already may still come */
        before = s->got_len;
        turn_for_ms(t, 2);
        cr_assert_eq(s->got_len, before);
        io_recv(t->io, &s->conn, true);
        cr_assert_lt(++pauses, 4000);
    }
    streamer_finish(&w);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    close(peer);
}

IO_TEST(pausing_and_resuming_twice_is_the_same_as_once)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, true);
    io_recv(t->io, &s->conn, false);
    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "one", 3);
    turn_for_ms(t, 10);
    cr_assert_eq(s->got_len, 0);
    io_recv(t->io, &s->conn, true);
    io_recv(t->io, &s->conn, true);
    UNTIL(t, s->got_len == 3);
    peer_write(peer, "two", 3);
    UNTIL(t, s->got_len == 6);
    side_got(s, "onetwo", 6);
    close(peer);
}

IO_TEST(random_pauses_lose_and_repeat_nothing)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 4 << 20, .piece_max = 30000, .seed = 17};
    unsigned seed = 23;
    uint64_t give_up_ns = wall_ns() + FIXTURE_PATIENCE_NS;

    streamer_start(&w, streamer_write);
    while (s->got_len < w.total) {
        cr_assert_lt(wall_ns(), give_up_ns);
        for (int flips = rand_r(&seed) % 4; flips > 0; flips--)
            io_recv(t->io, &s->conn, rand_r(&seed) % 2);
        turn(t, rand_r(&seed) % 2 ? 0 : wall_ns() + NS_PER_MS);
    }
    streamer_finish(&w);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    close(peer);
}

/* More than a turn's bytes are there at once. The fixture holds every turn to its bound. */
static void receive_in_turns(struct fixture *t, bool paused)
{
    int room = 4 << 20, peer;
    if (setsockopt(t->listener.fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) != 0)
        setsockopt(t->listener.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    struct side *s = fixture_pair(t, &peer);
    uint8_t *data = pattern_new(2 << 20);

    turn_for_ms(t, 2);
    if (paused) {
        io_recv(t->io, &s->conn, false);
        turn(t, 0);
    }
    ssize_t sent = send(peer, data, 2 << 20, MSG_DONTWAIT);
    cr_assert_gt(sent, 0);
    usleep(10000);
    if (paused) {
        turn_for_ms(t, 2);
        io_recv(t->io, &s->conn, true);
    }
    while (s->got_len < (size_t)sent)
        turn(t, IO_FOREVER); /* no newcomer is needed to go on */
    cr_assert_eq(s->got_len, (size_t)sent);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    free(data);
    close(peer);
}

IO_TEST(what_one_turn_does_not_hand_over_comes_in_the_next)
{
    receive_in_turns(t, false);
}

IO_TEST(what_one_turn_does_not_hand_over_comes_in_the_next_after_a_pause_too)
{
    receive_in_turns(t, true);
}

/* The fixture holds every connection to a turn's bytes; here both ask for more than that. */
IO_TEST(a_flooding_peer_does_not_keep_others_waiting)
{
    int loud, quiet;
    struct side *flood = fixture_pair(t, &loud);
    struct side *s = fixture_pair(t, &quiet);
    struct streamer w = {.fd = loud, .total = 64 << 20, .piece_max = 1 << 20, .seed = 9};

    streamer_start(&w, streamer_write);
    UNTIL(t, flood->got_len > 1 << 20);
    for (int round = 1; round <= 20; round++) {
        peer_write(quiet, "?", 1);
        for (int turns = 0; s->got_len < (size_t)round; turns++) {
            cr_assert_lt(turns, 3, "a quiet peer was not served");
            turn(t, wall_ns() + 100 * NS_PER_MS);
        }
    }
    cr_assert_lt(flood->got_len, w.total, "the flood has ended too early for this test");
    UNTIL(t, flood->got_len == w.total);
    streamer_finish(&w);
    close(loud);
    close(quiet);
}

/* A read stops short of an urgent byte, which TCP takes out of the stream, though there is more
 * behind it. All of it is one segment, so nothing else is going to tell of the rest. */
static void write_with_urgent_byte(int peer)
{
    int on = 1, off = 0;

    cr_assert_eq(setsockopt(peer, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)), 0);
    peer_write(peer, "before", 6);
    cr_assert_eq(send(peer, "!", 1, MSG_OOB), 1);
    peer_write(peer, "behind", 6);
    cr_assert_eq(setsockopt(peer, IPPROTO_TCP, TCP_CORK, &off, sizeof(off)), 0);
}

IO_TEST(what_stands_behind_an_urgent_byte_is_received_without_another_event)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    write_with_urgent_byte(peer);
    UNTIL(t, s->got_len == 12);
    side_got(s, "beforebehind", 12);
    uint64_t polls = t->io->stats.polls;
    turn_for_ms(t, 50);
    cr_assert_lt(t->io->stats.polls - polls, 20, "the shard spins");
    peer_write(peer, "more", 4);
    UNTIL(t, s->got_len == 16);
    close(peer);
    UNTIL(t, s->eofs > 0);
}

IO_TEST(what_stands_behind_an_urgent_byte_is_received_after_a_pause_too)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    write_with_urgent_byte(peer);
    turn_for_ms(t, 20);
    io_recv(t->io, &s->conn, true);
    UNTIL(t, s->got_len == 12);
    side_got(s, "beforebehind", 12);
    close(peer);
}

IO_TEST(an_urgent_byte_alone_is_no_news)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    cr_assert_eq(send(peer, "!", 1, MSG_OOB), 1);
    uint64_t polls = t->io->stats.polls;
    turn_for_ms(t, 50);
    cr_assert_lt(t->io->stats.polls - polls, 20, "the shard spins");
    cr_assert_eq(s->got_len, 0);
    cr_assert_eq(s->eofs, 0);
    peer_write(peer, "more", 4);
    UNTIL(t, s->got_len == 4);
    close(peer);
}

/* --- ends ------------------------------------------------------------------------------------- */

IO_TEST(end_of_file_is_told_once_after_all_bytes)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 600000, .piece_max = 40000, .seed = 2};

    streamer_start(&w, streamer_write);
    pthread_join(w.thread, NULL);
    close(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->eof_err, 0);
    cr_assert_eq(s->got_len, w.total);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    turn_for_ms(t, 10);
}

IO_TEST(bytes_and_end_that_come_together_are_both_told)
{
    for (int i = 0; i < 20; i++) {
        int peer;
        struct side *s = fixture_pair(t, &peer);
        peer_write(peer, "bye", 3);
        close(peer);
        UNTIL(t, s->eofs > 0);
        side_got(s, "bye", 3);
        side_close(s, false);
    }
}

IO_TEST(after_the_peers_end_sending_still_works)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    shutdown(peer, SHUT_WR);
    UNTIL(t, s->eofs > 0);
    cr_assert_geq(side_send(s, "late answer", 11), 0);
    UNTIL(t, !s->send_pending);
    peer_expect(peer, "late answer", 11);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    peer_expect_eof(peer);
    close(peer);
}

IO_TEST(an_end_behind_unread_bytes_is_told_after_them_when_resumed)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_write(peer, "last", 4);
    close(peer);
    turn_for_ms(t, 20);
    cr_assert_eq(s->got_len, 0);
    cr_assert_eq(s->eofs, 0);
    io_recv(t->io, &s->conn, true);
    UNTIL(t, s->eofs > 0);
    side_got(s, "last", 4);
    cr_assert_eq(s->eof_err, 0);
}

static void pause_then_resume(struct side *s, struct bytes in)
{
    (void)in;
    io_recv(s->io, &s->conn, false);
    io_recv(s->io, &s->conn, true);
}

IO_TEST(pausing_and_resuming_within_the_callback_changes_nothing)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    struct streamer w = {.fd = peer, .total = 1 << 20, .piece_max = 300000, .seed = 6};

    s->recv_hook = pause_then_resume;
    streamer_start(&w, streamer_write);
    pthread_join(w.thread, NULL);
    close(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->got_len, w.total);
    cr_assert(is_pattern(s->got, s->got_len, 0));
}

IO_TEST(a_reset_is_told_once_as_an_error)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    peer_reset(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->eof_err, -ECONNRESET);
    turn_for_ms(t, 10);
}

IO_TEST(a_reset_is_told_while_receiving_is_paused)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    io_recv(t->io, &s->conn, false);
    turn(t, 0);
    peer_reset(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->eof_err, -ECONNRESET);
}

/* --- sending ---------------------------------------------------------------------------------- */

IO_TEST(a_small_send_arrives)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    char text[] = "hello";

    cr_assert_geq(side_send(s, text, 5), 0);
    UNTIL(t, !s->send_pending);
    memset(text, '!', 5); /* the memory is ours again */
    peer_expect(peer, "hello", 5);
    cr_assert_eq(s->sent_err, 0);
    cr_assert_eq(t->io->stats.sends, 1);
    cr_assert_eq(t->io->stats.send_bytes, 5);
    close(peer);
}

IO_TEST(a_large_send_to_a_slow_reader_arrives_whole_and_is_told_once)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 16 << 10);
    struct streamer r = {
        .fd = peer, .total = 1 << 20, .piece_max = 64 << 10, .seed = 3, .pause_us = 500};
    uint8_t *data = pattern_new(r.total);

    cr_assert_eq(side_send(s, data, r.total), IO_PENDING);
    turn_for_ms(t, 10);
    cr_assert(s->send_pending, "a mebibyte does not fit into these buffers");
    streamer_start(&r, streamer_read);
    UNTIL(t, s->sents > 0);
    cr_assert_eq(s->sent_err, 0);
    memset(data, 0xee, r.total);
    turn_for_ms(t, 5);
    cr_assert_eq(s->sents, 1);
    streamer_finish(&r);
    cr_assert_eq(t->io->stats.send_bytes, r.total);
    cr_assert_eq(t->io->stats.sends_pending, 1);
    free(data);
    close(peer);
}

/* Cuts data into `count` spans of random size, some of them empty. */
static void cut(struct iovec *iov, int count, uint8_t *data, size_t len, unsigned seed)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        size_t most = 2 * len / (size_t)count;
        size_t piece = rand_r(&seed) % 8 == 0 ? 0 : (size_t)rand_r(&seed) % most;
        piece = i == count - 1 ? len - at : min_size(piece, len - at);
        iov[i] = (struct iovec){.iov_base = data + at, .iov_len = piece};
        at += piece;
    }
}

static void send_spans_of(struct fixture *t, size_t len, int rcvbuf_bytes, unsigned pause_us)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, rcvbuf_bytes);
    struct streamer r = {
        .fd = peer, .total = len, .piece_max = 32 << 10, .seed = 1, .pause_us = pause_us};
    uint8_t *data = pattern_new(len);
    struct iovec iov[IO_IOV_MAX];

    cut(iov, IO_IOV_MAX, data, len, (unsigned)len);
    cr_assert_geq(side_sendv(s, iov, IO_IOV_MAX, len), 0);
    memset(iov, 0xee, sizeof(iov)); /* the array was only borrowed */
    streamer_start(&r, streamer_read);
    UNTIL(t, !s->send_pending);
    cr_assert_eq(s->sent_err, 0);
    streamer_finish(&r);
    free(data);
    close(peer);
}

IO_TEST(as_many_spans_as_allowed_arrive_in_order)
{
    send_spans_of(t, 3000, 0, 0);
}

IO_TEST(as_many_spans_as_allowed_arrive_in_order_through_a_slow_reader)
{
    send_spans_of(t, 700000, 8 << 10, 300);
}

IO_TEST(every_number_of_spans_arrives_in_order)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    uint8_t *data = pattern_new(500);
    struct iovec iov[IO_IOV_MAX];

    for (int count = 1; count <= IO_IOV_MAX; count++) {
        cut(iov, count, data, 500, (unsigned)count);
        cr_assert_geq(side_sendv(s, iov, count, 500), 0);
        UNTIL(t, !s->send_pending);
        peer_expect(peer, data, 500);
    }
    free(data);
    close(peer);
}

#define CHAIN_LINKS 60
#define CHAIN_BYTES 20000

static uint8_t *chain_data;

/* Sends on until the kernel takes no more; on_sent() calls it again. */
static void chain_on(struct side *s)
{
    int r = IO_SENT;
    while (r == IO_SENT && s->number < CHAIN_LINKS) {
        r = side_send(s, chain_data + (size_t)s->number * CHAIN_BYTES, CHAIN_BYTES);
        cr_assert_geq(r, 0);
        s->number++;
    }
}

IO_TEST(sends_that_follow_each_other_from_on_sent_stay_in_order)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    struct streamer r = {.fd = peer,
                         .total = CHAIN_LINKS * CHAIN_BYTES,
                         .piece_max = 60000,
                         .seed = 3,
                         .pause_us = 200};

    chain_data = pattern_new(r.total);
    s->sent_hook = chain_on;
    streamer_start(&r, streamer_read);
    chain_on(s);
    UNTIL(t, s->number == CHAIN_LINKS && !s->send_pending);
    streamer_finish(&r);
    free(chain_data);
    close(peer);
}

/* Stops receiving while its echo is under way, as a connection under backpressure does. */
static void echo(struct side *s, struct bytes in)
{
    (void)in;
    if (s->send_pending || s->number == (int)s->got_len)
        return;
    io_recv(s->io, &s->conn, true);
    size_t len = s->got_len - (size_t)s->number;
    int r = side_send(s, s->got + s->number, len);
    cr_assert_geq(r, 0);
    s->number += (int)len;
    if (r == IO_PENDING)
        io_recv(s->io, &s->conn, false);
}

static void echo_on(struct side *s)
{
    io_recv(s->io, &s->conn, true);
    echo(s, (struct bytes){0});
}

/* Both directions at once, through small buffers. */
IO_TEST(an_echo_of_random_pieces_comes_back_exact)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 16 << 10);
    struct streamer w = {.fd = peer, .total = 2 << 20, .piece_max = 25000, .seed = 31};
    struct streamer r = {.fd = peer, .total = 2 << 20, .piece_max = 40000, .seed = 32};

    /* The buffer must not move under a send. */
    s->got_room = w.total;
    s->got = malloc(s->got_room);
    s->recv_hook = echo;
    s->sent_hook = echo_on;
    streamer_start(&w, streamer_write);
    streamer_start(&r, streamer_read);
    UNTIL(t, s->number == (int)w.total && !s->send_pending);
    streamer_finish(&w);
    streamer_finish(&r);
    close(peer);
}

IO_TEST(sending_to_a_peer_that_has_reset_fails_and_raises_no_signal)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    int failures = 0;

    peer_reset(peer);
    for (int i = 0; i < 3 && failures == 0; i++) {
        failures += side_send(s, "x", 1) < 0;
        UNTIL(t, !s->send_pending);
        failures += s->sent_err < 0;
    }
    cr_assert_gt(failures, 0);
}

IO_TEST(a_pending_send_is_told_to_have_failed_once_when_the_peer_resets)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);

    cr_assert_eq(side_send(s, data, 4 << 20), IO_PENDING);
    turn_for_ms(t, 10);
    peer_reset(peer);
    UNTIL(t, s->sents > 0 && s->eofs > 0);
    cr_assert_lt(s->sent_err, 0);
    turn_for_ms(t, 10);
    cr_assert_eq(s->sents, 1);
    free(data);
}

IO_TEST(a_paused_connection_can_send_and_learns_of_a_failure)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);

    io_recv(t->io, &s->conn, false);
    cr_assert_eq(side_send(s, data, 4 << 20), IO_PENDING);
    turn_for_ms(t, 10);
    peer_expect(peer, data, 100000);
    turn_for_ms(t, 10);
    peer_reset(peer);
    UNTIL(t, s->sents > 0);
    cr_assert_lt(s->sent_err, 0);
    free(data);
}

IO_TEST(shutdown_ends_our_direction_only)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    cr_assert_geq(side_send(s, "done", 4), 0);
    UNTIL(t, !s->send_pending);
    io_shutdown(t->io, &s->conn);
    turn(t, 0);
    peer_expect(peer, "done", 4);
    peer_expect_eof(peer);
    peer_write(peer, "still here", 10);
    UNTIL(t, s->got_len == 10);
    cr_assert_eq(s->eofs, 0);
    close(peer);
    UNTIL(t, s->eofs > 0);
    cr_assert_eq(s->eof_err, 0);
}
