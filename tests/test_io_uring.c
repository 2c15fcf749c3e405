/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What is particular to receiving, accepting and the queues on io_uring; the contract that all
 * implementations share has a suite of its own. */

#include "tests/uring_rig.h"

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

/* Buffers far too small for what comes, pauses at random: every stream must stay whole. */
static void stream_through(uint32_t buffers, uint32_t buffer_bytes, const struct uring_quirks *q)
{
    enum { CLIENTS = 12, BYTES = 200000 };
    static uint8_t counting[BYTES + 256];
    struct rig *r = rig_new_with(&(struct io_config){.conns_max = CLIENTS,
                                                     .recv_buffers = buffers,
                                                     .recv_buffer_bytes = buffer_bytes},
                                 q);
    int fds[CLIENTS];
    size_t sent[CLIENTS] = {0};
    unsigned seed = 5;
    r->counting = true;
    for (size_t i = 0; i < sizeof(counting); i++)
        counting[i] = (uint8_t)i;
    for (int i = 0; i < CLIENTS; i++)
        pair_new(r, &fds[i]);
    uint64_t start_ns = now_ns();
    while (r->io->stats.recv_bytes < (uint64_t)CLIENTS * BYTES) {
        cr_assert_lt(now_ns() - start_ns, 2 * WAIT_NS);
        int i = (int)(rand_r(&seed) % CLIENTS);
        size_t len = min_size((size_t)rand_r(&seed) % 20000, BYTES - sent[i]);
        ssize_t n = send(fds[i], counting + i + sent[i], len, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent[i] += n > 0 ? (size_t)n : 0;
        io_recv(r->io, &r->peers[rand_r(&seed) % CLIENTS].c, rand_r(&seed) % 4 != 0);
        cr_assert_geq(io_poll(r->io, 0), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        cr_expect_not(r->peers[i].mixed);
        cr_expect_eq(r->peers[i].recv_bytes, BYTES);
        close(fds[i]);
    }
    rig_free(r);
}

Test(io_uring, streams_stay_whole_through_two_buffers_of_a_kilobyte)
{
    stream_through(2, 1024, NULL);
}

Test(io_uring, streams_stay_whole_through_buffers_of_odd_size)
{
    stream_through(4, 5003, NULL);
}

Test(io_uring, streams_stay_whole_through_few_whole_buffers)
{
    stream_through(4, 2048, &(struct uring_quirks){.no_incremental = true});
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

/* While some have more to say than there is room for, those that have said a word, and had to wait
 * for a slice with it, cost nothing any more. */
Test(io_uring, idle_connections_do_not_ask_for_buffers_while_others_starve)
{
    enum { GREEDY = 4, IDLE = 40, TURNS = 400 };
    struct rig *r = rig_new(GREEDY + IDLE, NULL);
    int fds[GREEDY + IDLE];
    for (int i = 0; i < GREEDY + IDLE; i++)
        pair_new(r, &fds[i]);
    uint8_t *flood = calloc(1, 1 << 20);
    uint64_t syscalls = r->io->stats.syscalls;
    for (int t = 0; t < TURNS; t++) {
        for (int i = GREEDY; t == TURNS / 4 && i < GREEDY + IDLE; i++)
            write_all(fds[i], 'i', 1);
        for (int i = 0; i < GREEDY; i++)
            while (send(fds[i], flood, 1 << 20, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        turn(r);
    }
    cr_expect_gt(r->io->stats.recv_starved, 0);
    cr_expect_leq(r->io->stats.recv_starved, GREEDY * TURNS + IDLE);
    cr_expect_leq(r->io->stats.syscalls - syscalls, 2 * TURNS);
    cr_expect_gt(r->u->starved_count, 0);
    for (int i = GREEDY; i < GREEDY + IDLE; i++) {
        cr_expect_eq(r->peers[i].recv_bytes, 1);
        cr_expect_eq(r->peers[i].c.flags & URING_F_STARVED, 0);
    }
    for (int i = 0; i < GREEDY + IDLE; i++)
        close(fds[i]);
    free(flood);
    rig_free(r);
}

/* Slice by slice all get what is theirs, and a turn brings no more than it may. */
Test(io_uring, the_memory_of_the_buffers_is_shared_among_those_who_starve)
{
    enum { CLIENTS = 8, BYTES = 512 << 10 };
    struct rig *r = rig_new(CLIENTS, NULL);
    int fds[CLIENTS];
    uint64_t bytes_then;
    for (int i = 0; i < CLIENTS; i++) {
        pair_new(r, &fds[i]);
        write_all(fds[i], (uint8_t)i, BYTES);
    }
    TURN_UNTIL(r, r->u->starved_count > CLIENTS / 2);
    bytes_then = r->io->stats.recv_bytes;
    while (r->io->stats.recv_bytes < (uint64_t)CLIENTS * BYTES) {
        turn(r);
        cr_assert_leq(r->io->stats.recv_bytes - bytes_then, IO_RECV_TURN_BYTES);
        cr_assert_leq(r->u->slice_bytes, IO_RECV_TURN_BYTES);
        bytes_then = r->io->stats.recv_bytes;
    }
    for (int i = 0; i < CLIENTS; i++) {
        cr_expect_not(r->peers[i].mixed);
        cr_expect_not(r->peers[i].beyond);
        cr_expect_eq(r->peers[i].recv_bytes, BYTES);
        close(fds[i]);
    }
    cr_expect_eq(r->u->slices_under_way, 0);
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
    cr_expect_leq(r->u->slots.touched, 2 * BATCH + URING_ACCEPTS);
    r->peer_count = 0;
    rig_free(r);
}

/* Accepted into a slot, or, since the table was full before, with a descriptor. */
Test(io_uring, a_refused_connection_comes_as_a_ticket_however_it_was_accepted)
{
    struct rig *r = rig_new(4, NULL);
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = client(r);
    TURN_UNTIL(r, r->peer_count == 4);
    turn(r);
    io_close(r->io, &r->peers[0].c, false);
    TURN_UNTIL(r, r->peers[0].closes == 1);
    r->refuse = true;
    for (uint32_t i = 0; i < 40; i++) {
        char text[8];
        int fd = client(r);
        TURN_UNTIL(r, r->ticket_count == 1);
        io_discard(r->io, r->tickets[--r->ticket_count], "sorry", 5);
        cr_assert_eq(recv(fd, text, sizeof(text), 0), 5);
        cr_assert_eq(recv(fd, text, sizeof(text), 0), 0);
        close(fd);
        cr_assert_eq(r->io->stats.accept_refused, i + 1);
        cr_assert_eq(r->io->stats.accepts, 4 + i + 1);
    }
    r->refuse = false;
    close(client(r));
    TURN_UNTIL(r, r->peer_count == 5);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    rig_free(r);
}

Test(io_uring, a_refused_connection_is_closed_where_no_descriptor_can_be_made)
{
    struct rig *r = rig_new(4, &(struct uring_quirks){.no_install = true});
    r->refuse = true;
    int fd = client(r);
    char byte;
    TURN_UNTIL(r, r->io->stats.accept_refused == 1);
    turn(r);
    cr_expect_eq(recv(fd, &byte, 1, 0), 0);
    cr_expect_eq(r->ticket_count, 0);
    close(fd);
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
