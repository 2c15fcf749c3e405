/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The simulated io keeps the rules of core/io.h for bytes and their ends, and notices who breaks
 * them. */

#include "tests/io_sim_fixture.h"

/* Receiving --------------------------------------------------------------------------------------
 */

Test(io_sim, without_faults_bytes_arrive_whole_and_at_once)
{
    struct pair p = pair_new(NULL);
    uint64_t start_ns = sim_net_now(p.net);

    cr_assert_eq(sim_client_send(p.c, "hello", 5), 5);
    shard_poll(p.s);
    cr_assert_eq(p.x->recvs, 1);
    cr_assert_eq(p.x->received, 5);
    cr_assert_eq(memcmp(p.x->held, "hello", 5), 0);
    cr_assert_eq(sim_net_now(p.net), start_ns);
    pair_free(&p);
}

Test(io_sim, split_bytes_arrive_in_several_pieces)
{
    const struct sim_faults faults = {.split = 1000000};
    struct pair p = pair_new(&faults);
    uint8_t bytes[1000] = {0};

    cr_assert_eq(sim_client_send(p.c, bytes, sizeof(bytes)), sizeof(bytes));
    settle(p.s);
    cr_assert_eq(p.x->received, sizeof(bytes));
    cr_assert(p.x->recvs > 1);
    pair_free(&p);
}

Test(io_sim, a_stall_moves_only_the_clock)
{
    const struct sim_faults faults = {.stall = 1000000, .stall_max_ns = NS_PER_SEC};
    struct pair p = pair_new(&faults);
    uint64_t start_ns = sim_net_now(p.net);

    cr_assert_eq(sim_client_send(p.c, "late", 4), 4);
    shard_poll(p.s);
    cr_assert_eq(p.x->received, 0);
    settle(p.s);
    cr_assert_eq(p.x->received, 4);
    cr_assert(sim_net_now(p.net) > start_ns);
    pair_free(&p);
}

Test(io_sim, the_time_on_the_wall_goes_with_the_virtual_clock)
{
    const struct sim_faults faults = {.stall = 1000000, .stall_max_ns = NS_PER_SEC};
    struct pair p = pair_new(&faults);

    cr_assert_eq(io_wall_ns(p.s->io), SIM_WALL_START_NS + sim_net_now(p.net));
    cr_assert_eq(sim_client_send(p.c, "late", 4), 4);
    settle(p.s);
    cr_assert_eq(io_wall_ns(p.s->io), SIM_WALL_START_NS + sim_net_now(p.net));
    pair_free(&p);
}

Test(io_sim, one_connection_gets_no_more_than_its_share_of_a_poll)
{
    const struct sim_faults faults = {.buffer_min_bytes = 1u << 20, .buffer_max_bytes = 1u << 20};
    struct pair p = pair_new(&faults);
    uint8_t *bytes = calloc(1, 1u << 20);

    cr_assert_eq(sim_client_send(p.c, bytes, HELD_MAX + 1), HELD_MAX + 1);
    shard_poll(p.s); /* on_recv() checks the bound */
    cr_assert_eq(p.x->received, IO_RECV_TURN_BYTES);
    p.x->held_len = 0;
    settle(p.s);
    cr_assert_eq(p.x->received, HELD_MAX + 1);
    free(bytes);
    pair_free(&p);
}

Test(io_sim, a_paused_connection_receives_nothing_until_it_is_resumed)
{
    struct pair p = pair_new(NULL);

    io_recv(p.s->io, &p.x->conn, false);
    io_recv(p.s->io, &p.x->conn, false);
    cr_assert_eq(sim_client_send(p.c, "abc", 3), 3);
    settle(p.s);
    cr_assert_eq(p.x->received, 0);
    io_recv(p.s->io, &p.x->conn, true);
    settle(p.s);
    cr_assert_eq(p.x->received, 3);
    pair_free(&p);
}

Test(io_sim, a_pause_may_be_overrun_by_what_had_arrived_in_the_same_poll)
{
    const struct sim_faults faults = {.split = 1000000, .overrun = 1000000};
    struct pair p = pair_new(&faults);
    uint8_t bytes[4000] = {0};
    bool overrun = false;

    p.x->pause_in_recv = true;
    cr_assert_eq(sim_client_send(p.c, bytes, sizeof(bytes)), sizeof(bytes));
    while (p.x->received < sizeof(bytes)) {
        uint32_t recvs = p.x->recvs;
        shard_poll(p.s);
        overrun = overrun || p.x->recvs > recvs + 1;
        recvs = p.x->recvs;
        shard_poll(p.s);
        cr_assert_eq(p.x->recvs, recvs, "a later poll brings nothing");
        io_recv(p.s->io, &p.x->conn, true);
    }
    cr_assert(overrun);
    pair_free(&p);
}

Test(io_sim, a_lent_slice_is_overwritten_when_the_callback_has_returned)
{
    struct pair p = pair_new(NULL);

    cr_assert_eq(sim_client_send(p.c, "0123456789", 10), 10);
    shard_poll(p.s);
#if !defined(__SANITIZE_ADDRESS__) && !defined(TW_SANITIZED)
    cr_assert_neq(memcmp(p.s->last_view, "0123456789", 10), 0);
#endif
    cr_assert_eq(memcmp(p.x->held, "0123456789", 10), 0);
    pair_free(&p);
}

static void on_recv_writing_beyond(struct io_conn *c, struct bytes in)
{
    (void)c;
    in.ptr[in.len] ^= 1;
}

Test(io_sim, writing_beyond_a_slice_is_noticed)
{
    static const struct io_events careless = {.on_recv = on_recv_writing_beyond,
                                              .on_eof = on_eof,
                                              .on_sent = on_sent,
                                              .on_connect = on_connect,
                                              .on_closed = on_closed};
    struct pair p = pair_new(NULL);

    p.x->conn.events = &careless;
    cr_assert_eq(sim_client_send(p.c, "x", 1), 1);
    shard_poll(p.s);
    cr_assert_not_null(sim_net_violation(p.net));
    pair_free_violated(&p);
}

/* Ends -------------------------------------------------------------------------------------------
 */

Test(io_sim, the_end_is_told_once_behind_the_last_byte_and_does_not_close)
{
    struct pair p = pair_new(NULL);

    p.s->close_on_eof = false;
    cr_assert_eq(sim_client_send(p.c, "bye", 3), 3);
    sim_client_shutdown(p.c);
    settle(p.s);
    cr_assert_eq(p.x->received, 3);
    cr_assert_eq(p.x->eofs, 1);
    cr_assert_eq(p.x->eof_err, 0);
    cr_assert_eq(p.x->closeds, 0);
    struct iovec iov = {(void *)"still here", 10};
    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, 10), IO_SENT);
    char text[16];
    cr_assert_eq(sim_client_recv(p.c, text, sizeof(text)), 10);
    pair_free(&p);
}

Test(io_sim, a_reset_is_told_as_such_even_to_a_paused_connection)
{
    struct pair p = pair_new(NULL);

    p.s->close_on_eof = false;
    io_recv(p.s->io, &p.x->conn, false);
    sim_client_reset(p.c);
    settle(p.s);
    cr_assert_eq(p.x->eofs, 1);
    cr_assert_eq(p.x->eof_err, -ECONNRESET);
    struct iovec iov = {(void *)"x", 1};
    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, 1), -EPIPE);
    pair_free(&p);
}

Test(io_sim, after_closing_only_on_closed_comes_and_only_once)
{
    const struct sim_faults faults = {.delay = 1000000, .delay_max_ns = NS_PER_MS};
    struct pair p = pair_new(&faults);

    cr_assert_eq(sim_client_send(p.c, "unheard", 7), 7);
    close_side(p.x, false);
    io_close(p.s->io, &p.x->conn, false);
    cr_assert_eq(p.x->closeds, 0, "not within io_close()");
    settle(p.s);
    cr_assert_eq(p.x->closeds, 1);
    cr_assert_eq(p.x->received, 0);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_RESET, "something unread was left");
    pair_free(&p);
}

Test(io_sim, what_was_sent_before_an_orderly_close_arrives)
{
    const struct sim_faults faults = {.split = 500000, .delay = 900000, .delay_max_ns = NS_PER_MS};
    struct pair p = pair_new(&faults);
    struct iovec iov = {(void *)"goodbye", 7};
    char text[8] = {0};
    size_t len = 0;

    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, 7), IO_SENT);
    close_side(p.x, false);
    while (sim_client_state(p.c) == SIM_CLIENT_OPEN) {
        shard_poll(p.s);
        len += sim_client_recv(p.c, text + len, sizeof(text) - len);
        sim_net_idle(p.net, IO_FOREVER);
    }
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_EOF);
    cr_assert_str_eq(text, "goodbye");
    pair_free(&p);
}

Test(io_sim, a_reset_on_close_reaches_the_client)
{
    struct pair p = pair_new(NULL);

    close_side(p.x, true);
    settle(p.s);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_RESET);
    pair_free(&p);
}

Test(io_sim, shutdown_ends_one_direction_only)
{
    struct pair p = pair_new(NULL);

    io_shutdown(p.s->io, &p.x->conn);
    settle(p.s);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_EOF);
    cr_assert_eq(sim_client_send(p.c, "more", 4), 4);
    settle(p.s);
    cr_assert_eq(p.x->received, 4);
    pair_free(&p);
}

/* Sending ----------------------------------------------------------------------------------------
 */

static const struct sim_faults small_buffers = {.buffer_min_bytes = 100, .buffer_max_bytes = 100};

Test(io_sim, a_send_to_one_who_does_not_read_is_pending_until_he_does)
{
    struct pair p = pair_new(&small_buffers);
    uint8_t bytes[250], got[250];
    struct iovec iov[2] = {{bytes, 120}, {bytes + 120, 130}};
    size_t len = 0;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    cr_assert_eq(io_send(p.s->io, &p.x->conn, iov, 2, sizeof(bytes)), IO_PENDING);
    memset(iov, 0xff, sizeof(iov)); /* the array was borrowed for the call only */
    settle(p.s);
    cr_assert_eq(p.x->sents, 0);
    for (int i = 0; i < 3; i++) {
        len += sim_client_recv(p.c, got + len, sizeof(got) - len);
        settle(p.s);
    }
    len += sim_client_recv(p.c, got + len, sizeof(got) - len);
    cr_assert_eq(len, sizeof(got));
    cr_assert_eq(memcmp(bytes, got, sizeof(got)), 0);
    cr_assert_eq(p.x->sents, 1);
    cr_assert_eq(p.x->sent_err, 0);
    pair_free(&p);
}

Test(io_sim, a_pending_send_fails_once_when_the_peer_resets)
{
    struct pair p = pair_new(&small_buffers);
    uint8_t bytes[250] = {0};
    struct iovec iov = {bytes, sizeof(bytes)};

    p.s->close_on_eof = false;
    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, sizeof(bytes)), IO_PENDING);
    sim_client_reset(p.c);
    settle(p.s);
    cr_assert_eq(p.x->sents, 1);
    cr_assert(p.x->sent_err == -EPIPE || p.x->sent_err == -ECONNRESET);
    cr_assert_eq(p.x->eofs, 1);
    pair_free(&p);
}

Test(io_sim, a_second_send_while_one_is_under_way_is_noticed)
{
    struct pair p = pair_new(&small_buffers);
    uint8_t bytes[250] = {0};
    struct iovec iov = {bytes, sizeof(bytes)};

    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, sizeof(bytes)), IO_PENDING);
    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, sizeof(bytes)), -EINVAL);
    cr_assert_not_null(sim_net_violation(p.net));
    pair_free_violated(&p);
}

Test(io_sim, payload_that_changes_under_way_is_noticed)
{
    struct pair p = pair_new(&small_buffers);
    uint8_t bytes[250] = {0};
    struct iovec iov = {bytes, sizeof(bytes)};

    cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, sizeof(bytes)), IO_PENDING);
    bytes[249] = 1;
    close_side(p.x, true);
    cr_assert_null(sim_net_violation(p.net));
    settle(p.s);
    cr_assert_not_null(sim_net_violation(p.net));
    pair_free_violated(&p);
}

Test(io_sim, a_send_after_shutdown_or_close_is_noticed)
{
    for (int closes = 0; closes < 2; closes++) {
        struct pair p = pair_new(NULL);
        struct iovec iov = {(void *)"x", 1};
        if (closes)
            close_side(p.x, false);
        else
            io_shutdown(p.s->io, &p.x->conn);
        cr_assert_eq(io_send(p.s->io, &p.x->conn, &iov, 1, 1), -EINVAL);
        cr_assert_not_null(sim_net_violation(p.net));
        pair_free_violated(&p);
    }
}
