/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The contract of core/io.h for listeners and tickets: every connection that reached the backlog is
 * told exactly once, and can change hands before it is attached. */

#include "tests/io_fixture.h"

#include <sys/resource.h>

/* --- accepting -------------------------------------------------------------------------------- */

IO_TEST(an_accepted_connection_comes_with_its_peers_address)
{
    struct sockaddr_storage ss;
    struct io_addr own;
    socklen_t len = sizeof(ss);
    int peer;

    fixture_pair(t, &peer);
    cr_assert_eq(getsockname(peer, (struct sockaddr *)&ss, &len), 0);
    io_addr_from_sockaddr(&own, (struct sockaddr *)&ss, len);
    cr_assert_arr_eq(&t->peer, &own, sizeof(own));
    cr_assert_eq(t->peer.family, AF_INET);
    cr_assert_eq(t->io->stats.accepts, 1);
    close(peer);
}

IO_TEST(a_burst_of_connections_is_accepted_and_every_one_works)
{
    enum { PEERS = 300 };
    static int peers[PEERS];
    int echoed = 0;

    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect(t);
    UNTIL(t, t->side_count == PEERS);
    cr_assert_eq(t->io->conn_count, PEERS);
    for (int i = 0; i < PEERS; i++)
        peer_write(peers[i], &(int){i}, sizeof(int));
    UNTIL(t, t->io->stats.recv_bytes == PEERS * sizeof(int));
    for (int i = 0; i < PEERS; i++) {
        int id;
        cr_assert_eq(t->sides[i]->got_len, sizeof(id));
        memcpy(&id, t->sides[i]->got, sizeof(id));
        cr_assert(id >= 0 && id < PEERS);
        cr_assert_geq(side_send(t->sides[i], t->sides[i]->got, sizeof(id)), 0);
    }
    for (int i = 0; i < PEERS; i++)
        UNTIL(t, !t->sides[i]->send_pending);
    for (int i = 0; i < PEERS; i++, echoed++) {
        peer_expect(peers[i], &(int){i}, sizeof(int));
        close(peers[i]);
    }
    cr_assert_eq(echoed, PEERS);
}

IO_TEST(a_refused_connection_is_counted_and_can_be_told)
{
    t->refuse = true;
    int peer = peer_connect(t);
    UNTIL(t, t->ticket_count == 1);
    cr_assert_eq(t->accepts, 1);
    cr_assert_eq(t->io->stats.accepts, 1);
    cr_assert_eq(t->io->stats.accept_refused, 1);
    cr_assert_eq(t->io->conn_count, 0);
    io_discard(t->io, t->tickets[0], "sorry", 5);
    peer_expect(peer, "sorry", 5);
    peer_expect_eof(peer);
    close(peer);

    t->refuse = false;
    struct side *s = fixture_pair(t, &peer);
    peer_write(peer, "ok", 2);
    UNTIL(t, s->got_len == 2);
    close(peer);
}

IO_TEST(with_accepting_off_connections_wait_until_it_is_on_again)
{
    int peers[3];

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_OFF);
    turn_for_ms(t, 10);
    for (int i = 0; i < 3; i++)
        peers[i] = peer_connect(t);
    turn_for_ms(t, 30);
    cr_assert_eq(t->accepts, 0);
    io_accept_mode(t->io, &t->listener, IO_ACCEPT_CONNS);
    while (t->accepts < 3)
        turn(t, IO_FOREVER); /* no newcomer is needed to notice them */
    for (int i = 0; i < 3; i++)
        close(peers[i]);
}

static void switch_off(struct fixture *t, struct side *s)
{
    (void)s;
    io_accept_mode(t->io, &t->listener, IO_ACCEPT_OFF);
}

IO_TEST(accepting_can_be_switched_off_within_the_callback)
{
    enum { PEERS = 40 };
    int peers[PEERS];

    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect(t);
    t->accept_hook = switch_off;
    turn_for_ms(t, 30);
    cr_assert_geq(t->accepts, 1);
    int accepts = t->accepts; /* some were under way, perhaps */
    turn_for_ms(t, 10);
    cr_assert_eq(t->accepts, accepts);
    t->accept_hook = NULL;
    io_accept_mode(t->io, &t->listener, IO_ACCEPT_CONNS);
    UNTIL(t, t->accepts == PEERS);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
}

IO_TEST_CONNS(connections_over_the_tables_size_come_as_tickets, 4)
{
    int peers[6];

    for (int i = 0; i < 6; i++) {
        peers[i] = peer_connect(t);
        UNTIL(t, t->side_count + t->ticket_count == i + 1);
    }
    cr_assert_eq(t->side_count, 4);
    cr_assert_eq(t->ticket_count, 2);

    /* Full: the ticket stays with its holder. Room: it can come in. */
    struct side *late = side_new(t, t->io);
    cr_assert_lt(io_adopt(t->io, &late->conn, t->tickets[0]), 0);
    side_close(t->sides[0], false);
    UNTIL(t, t->sides[0]->closeds > 0);
    cr_assert_eq(io_adopt(t->io, &late->conn, t->tickets[0]), 0);
    peer_write(peers[4], "made it", 7);
    UNTIL(t, late->got_len == 7);
    io_discard(t->io, t->tickets[1], NULL, 0);
    for (int i = 0; i < 6; i++)
        close(peers[i]);
}

IO_TEST(a_unix_socket_is_a_listener_like_any_other)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/tidewire-io-XXXXXX";
    int peer = peer_socket(AF_UNIX, 0);

    fixture_unlisten(t);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(un.sun_path, sizeof(un.sun_path), "%s/socket", dir);
    fixture_listen_on(t, NULL, un.sun_path);
    cr_assert_eq(connect(peer, (struct sockaddr *)&un, sizeof(un)), 0);
    UNTIL(t, t->side_count == 1);
    cr_assert_eq(t->peer.family, AF_UNIX);

    struct side *s = t->sides[0];
    struct streamer w = {.fd = peer, .total = 1 << 20, .piece_max = 50000, .seed = 3};
    struct streamer r = {.fd = peer, .total = 1 << 20, .piece_max = 50000, .seed = 4};
    uint8_t *data = pattern_new(r.total);
    streamer_start(&w, streamer_write);
    cr_assert_geq(side_send(s, data, r.total), 0);
    streamer_start(&r, streamer_read);
    UNTIL(t, s->got_len == w.total && !s->send_pending);
    streamer_finish(&w);
    streamer_finish(&r);
    cr_assert(is_pattern(s->got, s->got_len, 0));
    close(peer);
    UNTIL(t, s->eofs > 0);
    free(data);
    unlink(un.sun_path);
    rmdir(dir);
}

IO_TEST(an_ipv6_listener_tells_ipv6_addresses)
{
    int peer;

    fixture_unlisten(t);
    fixture_listen_on(t, "::1", NULL);
    struct side *s = fixture_pair(t, &peer);
    cr_assert_eq(t->peer.family, AF_INET6);
    cr_assert_eq(t->peer.ip[15], 1);
    peer_write(peer, "six", 3);
    UNTIL(t, s->got_len == 3);
    close(peer);
}

IO_TEST(an_ipv4_peer_of_an_ipv6_listener_is_told_as_ipv4)
{
    struct io_addr v4;
    int peer;

    fixture_unlisten(t);
    fixture_listen_on(t, "::", NULL);
    cr_assert_eq(io_addr_parse(&v4, "127.0.0.1", t->addr.port), 0);
    t->addr = v4;
    fixture_pair(t, &peer);
    cr_assert_eq(t->peer.family, AF_INET);
    cr_assert_eq(t->peer.ip[12], 127);
    close(peer);
}

/* Lowers the limit of descriptors so that none is left. */
static struct rlimit exhaust_descriptors(void)
{
    struct rlimit before, none;
    int fd = dup(0);

    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

/* Nobody waits without an answer, nobody else suffers, and the shard does not spin. */
IO_TEST(out_of_descriptors_newcomers_are_served_or_answered)
{
    enum { PEERS = 20 };
    int old, peers[PEERS], served = 0;
    struct side *s = fixture_pair(t, &old);

    t->last_words = "sorry";
    io_accept_mode(t->io, &t->listener, IO_ACCEPT_OFF);
    turn_for_ms(t, 10);
    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect(t);
    struct rlimit before = exhaust_descriptors();
    io_accept_mode(t->io, &t->listener, IO_ACCEPT_CONNS);
    turn_for_ms(t, 50);
    peer_write(old, "still", 5);
    UNTIL(t, s->got_len == 5);
    uint64_t polls = t->io->stats.polls;
    turn_for_ms(t, 50);
    cr_assert_lt(t->io->stats.polls - polls, 20, "the shard spins");
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < PEERS; i++) {
        char text[8];
        ssize_t n = recv(peers[i], text, sizeof(text), MSG_DONTWAIT);
        cr_assert(n == 5 || (n < 0 && errno == EAGAIN), "closed without an answer");
        cr_assert(n < 0 || recv(peers[i], text, sizeof(text), 0) == 0);
        served += n < 0;
        close(peers[i]);
    }
    cr_assert_eq(served, t->side_count - 1, "a newcomer is neither served nor answered");
    cr_assert_eq(t->io->stats.accept_errors, (uint64_t)(PEERS - served));

    int after;
    struct side *next = fixture_pair(t, &after);
    peer_write(after, "well again", 10);
    UNTIL(t, next->got_len == 10);
    close(after);
    close(old);
}

/* --- tickets ---------------------------------------------------------------------------------- */

/* Connects a peer that speaks first; returns its ticket. */
static struct io_ticket take_ticket(struct fixture *t, int *peer, const char *first_words)
{
    int before = t->ticket_count;

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_TICKETS);
    turn(t, 0);
    *peer = peer_connect(t);
    peer_write(*peer, first_words, strlen(first_words));
    UNTIL(t, t->ticket_count == before + 1);
    return t->tickets[before];
}

IO_TEST(an_adopted_ticket_receives_what_was_sent_before)
{
    int peer;
    struct io_ticket ticket = take_ticket(t, &peer, "early");
    struct side *s = side_new(t, t->io);

    turn_for_ms(t, 5);
    cr_assert_eq(t->io->conn_count, 0);
    cr_assert_eq(io_adopt(t->io, &s->conn, ticket), 0);
    cr_assert_eq(t->io->conn_count, 1);
    UNTIL(t, s->got_len == 5);
    side_got(s, "early", 5);
    close(peer);
}

IO_TEST(a_ticket_can_be_adopted_by_another_io)
{
    int peer;
    struct io *second = fixture_io(t, 8);
    struct io_ticket ticket = take_ticket(t, &peer, "hello ");
    struct side *s = side_new(t, second);

    cr_assert_eq(io_adopt(second, &s->conn, ticket), 0);
    UNTIL_ON(t, second, s->got_len == 6);
    cr_assert_geq(side_send(s, "from the second", 15), 0);
    UNTIL_ON(t, second, !s->send_pending);
    peer_expect(peer, "from the second", 15);
    close(peer);
    UNTIL_ON(t, second, s->eofs > 0);
    fixture_close_sides(t, second);
    io_free(second);
}

IO_TEST(a_ticket_adopted_at_its_peers_end_tells_it)
{
    int peer;
    struct io_ticket ticket = take_ticket(t, &peer, "and gone");
    struct side *s = side_new(t, t->io);

    close(peer);
    turn_for_ms(t, 5);
    cr_assert_eq(io_adopt(t->io, &s->conn, ticket), 0);
    UNTIL(t, s->eofs > 0);
    side_got(s, "and gone", 8);
}

static int peer_error(int fd)
{
    int err = -1;
    socklen_t len = sizeof(err);
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len), 0);
    return err;
}

IO_TEST(a_discarded_ticket_says_its_last_words_and_ends_in_order)
{
    int peer;
    struct io_ticket ticket = take_ticket(t, &peer, "GET / HTTP/1.1\r\n\r\n");

    turn_for_ms(t, 5);
    io_discard(t->io, ticket, "HTTP/1.1 503\r\n\r\n", 16);
    turn_for_ms(t, 5);
    peer_expect(peer, "HTTP/1.1 503\r\n\r\n", 16);
    peer_expect_eof(peer);
    cr_assert_eq(peer_error(peer), 0, "a reset behind the last words may overtake them");
    close(peer);
}

IO_TEST(a_ticket_discarded_without_words_just_ends)
{
    int peer;
    struct io_ticket ticket = take_ticket(t, &peer, "");

    io_discard(t->io, ticket, NULL, 0);
    turn_for_ms(t, 5);
    peer_expect_eof(peer);
    close(peer);
}

IO_TEST(a_ticket_discarded_without_words_ends_in_order_whatever_its_peer_has_said)
{
    int peer;
    struct io_ticket ticket = take_ticket(t, &peer, "a ClientHello");

    turn_for_ms(t, 5);
    io_discard(t->io, ticket, NULL, 0);
    turn_for_ms(t, 5);
    peer_expect_eof(peer);
    cr_assert_eq(peer_error(peer), 0);
    close(peer);
}

IO_TEST(modes_can_alternate_between_connections_and_tickets)
{
    int ticket_peer, peer;
    struct io_ticket ticket = take_ticket(t, &ticket_peer, "a");

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_CONNS);
    turn_for_ms(t, 5);
    struct side *s = fixture_pair(t, &peer);
    peer_write(peer, "b", 1);
    UNTIL(t, s->got_len == 1);
    cr_assert_eq(t->ticket_count, 1);
    io_discard(t->io, ticket, NULL, 0);
    close(ticket_peer);
    close(peer);
}

/* --- unlistening ------------------------------------------------------------------------------ */

IO_TEST(unlisten_tells_the_whole_backlog_first)
{
    enum { PEERS = 150 };
    static int peers[PEERS];

    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect(t);
    fixture_unlisten(t);
    cr_assert_eq(t->accepts, PEERS);
    int accepts = t->accepts;
    for (int i = 0; i < PEERS; i++)
        peer_write(peers[i], "x", 1);
    UNTIL(t, t->io->stats.recv_bytes == PEERS);
    cr_assert_eq(t->accepts, accepts, "a callback of a listener that is no more");
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
}

IO_TEST(unlisten_tells_the_backlog_as_tickets_in_that_mode)
{
    int peers[5];

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_TICKETS);
    turn(t, 0);
    for (int i = 0; i < 5; i++)
        peers[i] = peer_connect(t);
    fixture_unlisten(t);
    cr_assert_eq(t->ticket_count, 5);
    for (int i = 0; i < 5; i++) {
        io_discard(t->io, t->tickets[i], NULL, 0);
        close(peers[i]);
    }
}

IO_TEST(after_unlisten_the_port_refuses)
{
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(&t->addr, &ss);

    fixture_unlisten(t);
    turn_for_ms(t, 5);
    int fd = peer_socket(AF_INET, 0);
    cr_assert_lt(connect(fd, (struct sockaddr *)&ss, len), 0);
    cr_assert_eq(errno, ECONNREFUSED);
    close(fd);
}

static void unlisten_now(struct fixture *t, struct side *s)
{
    (void)s;
    t->accept_hook = NULL;
    t->listening = false;
    io_unlisten(t->io, &t->listener);
    memset(&t->listener, 0xee, sizeof(t->listener)); /* it is ours again: nobody else may look */
    ASAN_POISON_MEMORY_REGION(&t->listener, sizeof(t->listener));
}

IO_TEST(unlisten_within_on_accept_loses_nobody)
{
    enum { PEERS = 30 };
    int peers[PEERS];

    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect(t);
    t->accept_hook = unlisten_now;
    UNTIL(t, t->accepts == PEERS);
    for (int i = 0; i < PEERS; i++)
        peer_write(peers[i], "x", 1);
    UNTIL(t, t->io->stats.recv_bytes == PEERS);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
}

static void unlisten_on_recv(struct side *s, struct bytes in)
{
    (void)in;
    s->t->in_callback = false; /* the backlog is told within this very call */
    if (s->t->listening)
        unlisten_now(s->t, s);
}

/* The listener's own event may be in the same turn, behind the one that ends it. */
IO_TEST(unlisten_within_another_callback_loses_nobody)
{
    int first, second;
    struct side *s = fixture_pair(t, &first);

    s->recv_hook = unlisten_on_recv;
    peer_write(first, "stop", 4);
    second = peer_connect(t);
    UNTIL(t, s->got_len == 4 && t->accepts == 2);
    turn_for_ms(t, 5);
    peer_write(second, "hi", 2);
    UNTIL(t, t->sides[1]->got_len == 2);
    close(first);
    close(second);
}

IO_TEST(a_listener_that_was_unlistened_can_listen_again)
{
    int peer;

    fixture_unlisten(t);
    fixture_listen_on(t, "127.0.0.1", NULL);
    struct side *s = fixture_pair(t, &peer);
    peer_write(peer, "again", 5);
    UNTIL(t, s->got_len == 5);
    close(peer);
}

/* As shards do that take from one Unix socket: each has a duplicate, and goes in its own time. */
IO_TEST(a_listener_is_its_owners_again_while_others_listen_on_its_socket)
{
    uint8_t noise[sizeof(t->listener)];
    int others = dup(t->listener.fd);

    cr_assert_geq(others, 0);
    fixture_unlisten(t);
    memset(noise, 0xee, sizeof(noise));
    memcpy(&t->listener, noise, sizeof(noise));
    int peer = peer_connect(t);
    turn_for_ms(t, 20);
    cr_assert_arr_eq(&t->listener, noise, sizeof(noise));
    cr_assert_eq(t->accepts, 0);
    close(others);
    close(peer);
}
