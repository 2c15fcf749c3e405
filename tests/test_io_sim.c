/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The simulated io keeps the rules of core/io.h, is deterministic, and notices who breaks them. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_sim.h"

#define SIDES_MAX 64
#define HELD_MAX (256u << 10)

struct shard;

/* A connection of a shard that keeps what it is told, and echoes if wanted. */
struct side {
    struct io_conn conn;
    struct shard *shard;
    uint8_t *held; /* received and, when echoing, not yet sent */
    size_t held_len;
    uint64_t received;
    uint64_t poll_bytes; /* in this poll */
    uint32_t recvs;
    uint32_t eofs;
    uint32_t sents;
    uint32_t connects;
    uint32_t closeds;
    int eof_err;
    int sent_err;
    int connect_err;
    size_t sending;
    bool is_open;
    bool pause_in_recv;
};

struct shard {
    struct io *io;
    struct io_listener listener;
    struct sim_net *net;
    struct side sides[SIDES_MAX];
    uint32_t sides_count;
    struct io_ticket tickets[SIDES_MAX];
    uint32_t tickets_count;
    bool in_poll;
    bool refuse;
    bool echo;
    bool close_on_eof;
    uint8_t *last_view;
    uint64_t trace; /* of everything that was told */
};

static struct side *side_of(struct io_conn *c)
{
    struct side *x = container_of(c, struct side, conn);

    cr_assert(x->shard->in_poll, "callbacks run only inside io_poll()");
    cr_assert_eq(x->closeds, 0, "nothing follows on_closed()");
    return x;
}

static void trace(struct shard *s, uint64_t what)
{
    s->trace = (s->trace ^ what ^ s->io->now_ns) * 0x9e3779b97f4a7c15u;
}

static void close_side(struct side *x, bool reset)
{
    x->is_open = false;
    io_close(x->shard->io, &x->conn, reset);
}

static void echo(struct side *x)
{
    struct iovec iov = {x->held, x->held_len};

    if (!x->shard->echo || !x->is_open || x->sending != 0 || x->held_len == 0)
        return;
    int status = io_send(x->shard->io, &x->conn, &iov, 1, iov.iov_len);
    if (status == IO_SENT)
        x->held_len = 0;
    else if (status == IO_PENDING)
        x->sending = iov.iov_len;
    else
        close_side(x, false);
}

static void on_recv(struct io_conn *c, struct bytes in)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open && x->eofs == 0 && in.len > 0);
    trace(x->shard, in.len);
    x->recvs++;
    x->received += in.len;
    x->poll_bytes += in.len;
    cr_assert(x->poll_bytes <= IO_RECV_TURN_BYTES);
    cr_assert(x->held_len + in.len <= HELD_MAX);
    memcpy(x->held + x->held_len, in.ptr, in.len);
    x->held_len += in.len;
    x->shard->last_view = in.ptr;
    if (x->pause_in_recv)
        io_recv(x->shard->io, c, false);
    echo(x);
}

static void on_eof(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open);
    trace(x->shard, 1000000 + (uint64_t)-err);
    x->eofs++;
    x->eof_err = err;
    cr_assert_eq(x->eofs, 1);
    if (x->shard->close_on_eof)
        close_side(x, false);
}

static void on_sent(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    cr_assert(x->is_open);
    trace(x->shard, 2000000 + (uint64_t)-err);
    x->sents++;
    x->sent_err = err;
    memmove(x->held, x->held + x->sending, x->held_len - x->sending);
    x->held_len -= x->sending;
    x->sending = 0;
    if (err != 0 && x->shard->close_on_eof)
        close_side(x, false);
    else if (err == 0)
        echo(x);
}

static void on_connect(struct io_conn *c, int err)
{
    struct side *x = side_of(c);

    x->connects++;
    x->connect_err = err;
}

static void on_closed(struct io_conn *c)
{
    struct side *x = side_of(c);

    cr_assert(!x->is_open, "on_closed() comes only after io_close()");
    trace(x->shard, 3000000);
    x->closeds++;
}

static const struct io_events events = {on_recv, on_eof, on_sent, on_connect, on_closed};

static struct side *side_new(struct shard *s)
{
    cr_assert(s->sides_count < SIDES_MAX);
    struct side *x = &s->sides[s->sides_count++];
    x->conn.events = &events;
    x->shard = s;
    x->is_open = true;
    x->held = malloc(HELD_MAX);
    return x;
}

static struct io_conn *on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct shard *s = container_of(l, struct shard, listener);

    cr_assert_eq(peer->family, AF_INET);
    return s->refuse ? NULL : &side_new(s)->conn;
}

static void on_ticket(struct io_listener *l, struct io_ticket t, const struct io_addr *peer)
{
    struct shard *s = container_of(l, struct shard, listener);

    cr_assert_eq(peer->family, AF_INET);
    s->tickets[s->tickets_count++] = t;
}

static const struct io_listener_events listener_events = {on_accept, on_ticket};

static struct io_addr address(uint16_t port)
{
    struct io_addr a;

    cr_assert_eq(io_addr_parse(&a, "127.0.0.1", port), 0);
    return a;
}

static struct shard *shard_new(struct sim_net *net, uint32_t conns_max)
{
    const struct io_config cfg = {.conns_max = conns_max};
    struct shard *s = calloc(1, sizeof(*s));
    struct io_addr a = address(80);

    s->net = net;
    s->close_on_eof = true;
    s->listener.events = &listener_events;
    cr_assert_eq(io_sim_new(net, &cfg, &s->io), 0);
    cr_assert_eq(io_start(s->io), 0);
    cr_assert_eq(io_listen(s->io, &s->listener, sim_net_listen(net, &a, 16)), 0);
    return s;
}

static void shard_poll(struct shard *s)
{
    for (uint32_t i = 0; i < s->sides_count; i++)
        s->sides[i].poll_bytes = 0;
    s->in_poll = true;
    cr_assert(io_poll(s->io, 0) >= 0);
    s->in_poll = false;
}

/* Runs until nothing happens by itself. */
static void settle(struct shard *s)
{
    for (int i = 0; i < 100000; i++) {
        shard_poll(s);
        if (sim_net_idle(s->net, IO_FOREVER) == SIM_DEAD)
            return;
    }
    cr_assert_fail("it never settles");
}

static void shard_free(struct shard *s)
{
    s->in_poll = true; /* what waits in the backlog is told within io_unlisten() */
    if (s->listener.io != NULL)
        io_unlisten(s->io, &s->listener);
    s->in_poll = false;
    for (uint32_t i = 0; i < s->sides_count; i++) {
        if (s->sides[i].is_open)
            close_side(&s->sides[i], false);
    }
    settle(s);
    for (uint32_t i = 0; i < s->sides_count; i++) {
        cr_assert_eq(s->sides[i].closeds, 1);
        free(s->sides[i].held);
    }
    cr_assert_eq(s->io->conn_count, 0);
    io_free(s->io);
    free(s);
}

static struct sim_client *client_new(struct sim_net *net)
{
    struct io_addr to = address(80), from = address(4242);

    return sim_client_connect(net, &to, &from);
}

/* A shard, a client, and the side that serves it, without faults. */
struct pair {
    struct sim_net *net;
    struct shard *s;
    struct sim_client *c;
    struct side *x;
};

static struct pair pair_new(const struct sim_faults *faults)
{
    struct pair p = {.net = sim_net_new(7, faults)};

    p.s = shard_new(p.net, SIDES_MAX);
    p.c = client_new(p.net);
    settle(p.s);
    cr_assert_eq(p.s->sides_count, 1);
    p.x = &p.s->sides[0];
    return p;
}

static void pair_close(struct pair *p)
{
    sim_client_free(p->c);
    shard_free(p->s);
    cr_assert_eq(sim_net_open_count(p->net), 0);
    struct sim_stats stats = sim_net_stats(p->net);
    cr_assert_eq(stats.sent_bytes, stats.received_bytes + stats.dropped_bytes);
}

static void pair_free(struct pair *p)
{
    pair_close(p);
    cr_assert_null(sim_net_violation(p->net), "%s", sim_net_violation(p->net));
    sim_net_free(p->net);
}

/* For those that break a rule. */
static void pair_free_violated(struct pair *p)
{
    pair_close(p);
    cr_assert_not_null(sim_net_violation(p->net));
    sim_net_free(p->net);
}

/* Echo under faults ------------------------------------------------------------------------------
 */

#define ECHO_CLIENTS 4
#define ECHO_BYTES 6000

struct echo_client {
    struct sim_client *c;
    size_t sent;
    size_t received;
};

static uint8_t pattern(uint32_t client, size_t at)
{
    return (uint8_t)(client * 31 + at * 7 + (at >> 8));
}

/* Returns whether the client is done: everything came back, or it was reset. */
static bool client_turn(struct sim_net *net, struct echo_client *e, uint32_t client)
{
    uint8_t bytes[512];

    size_t len = min_size(1 + sim_net_below(net, sizeof(bytes)), ECHO_BYTES - e->sent);
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(client, e->sent + i);
    e->sent += sim_client_send(e->c, bytes, len);
    while ((len = sim_client_recv(e->c, bytes, sizeof(bytes))) > 0) {
        for (size_t i = 0; i < len; i++)
            cr_assert_eq(bytes[i], pattern(client, e->received + i));
        e->received += len;
    }
    return e->received == ECHO_BYTES || sim_client_state(e->c) != SIM_CLIENT_OPEN;
}

/* Returns the trace of the run. */
static uint64_t echo_run(uint64_t seed, bool harsh)
{
    struct echo_client clients[ECHO_CLIENTS] = {0};
    struct sim_faults faults;
    uint32_t done = 0;

    sim_faults_draw(&faults, seed, harsh);
    struct sim_net *net = sim_net_new(seed, &faults);
    struct shard *s = shard_new(net, SIDES_MAX);
    s->echo = true;
    for (int i = 0; i < ECHO_CLIENTS; i++)
        clients[i].c = client_new(net);
    for (int turn = 0; done < ECHO_CLIENTS; turn++) {
        cr_assert(turn < 1000000, "seed %llu stalls", (unsigned long long)seed);
        shard_poll(s);
        done = 0;
        for (uint32_t i = 0; i < ECHO_CLIENTS; i++)
            done += client_turn(net, &clients[i], i);
        if (done < ECHO_CLIENTS)
            cr_assert_neq(sim_net_idle(net, IO_FOREVER), SIM_DEAD, "seed %llu is stuck",
                          (unsigned long long)seed);
    }
    for (int i = 0; i < ECHO_CLIENTS; i++) {
        cr_assert(harsh || clients[i].received == ECHO_BYTES);
        sim_client_free(clients[i].c);
    }
    uint64_t sum = s->trace;
    shard_free(s);
    cr_assert_null(sim_net_violation(net), "%s", sim_net_violation(net));
    cr_assert_eq(sim_net_open_count(net), 0);
    struct sim_stats stats = sim_net_stats(net);
    cr_assert_eq(stats.sent_bytes, stats.received_bytes + stats.dropped_bytes);
    sim_net_free(net);
    return sum;
}

Test(io_sim, everything_arrives_once_and_in_order_whatever_the_faults)
{
    for (uint64_t seed = 0; seed < 150; seed++)
        echo_run(seed, false);
}

Test(io_sim, resets_and_failures_leak_nothing)
{
    for (uint64_t seed = 0; seed < 150; seed++)
        echo_run(seed, true);
}

Test(io_sim, a_seed_gives_the_same_run_and_another_another)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        cr_assert_eq(echo_run(seed, true), echo_run(seed, true));
        cr_assert_neq(echo_run(seed, true), echo_run(seed + 1000, true));
    }
}

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
    static const struct io_events careless = {on_recv_writing_beyond, on_eof, on_sent, on_connect,
                                              on_closed};
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

/* Accepting and connecting -----------------------------------------------------------------------
 */

Test(io_sim, connections_wait_in_the_backlog_while_accepting_is_off)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, NULL, NULL};

    io_accept_mode(s->io, &s->listener, IO_ACCEPT_OFF);
    p.c = client_new(net);
    settle(s);
    cr_assert_eq(s->sides_count, 0);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_OPEN);
    io_accept_mode(s->io, &s->listener, IO_ACCEPT_CONNS);
    settle(s);
    cr_assert_eq(s->sides_count, 1);
    pair_free(&p);
}

Test(io_sim, what_waits_in_the_backlog_is_told_within_unlisten)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, client_new(net), NULL};

    io_unlisten(s->io, &s->listener);
    cr_assert_eq(s->sides_count, 1);
    struct sim_client *late = client_new(net);
    cr_assert_eq(sim_client_state(late), SIM_CLIENT_REFUSED);
    pair_free(&p);
}

Test(io_sim, a_refused_connection_is_closed_and_counted)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, client_new(net), NULL};

    s->refuse = true;
    settle(s);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_EOF);
    cr_assert_eq(s->io->stats.accept_refused, 1);
    pair_free(&p);
}

Test(io_sim, a_full_table_gives_tickets_which_another_shard_adopts)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, 1);
    struct shard *other = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, NULL, NULL};

    other->in_poll = true;
    io_unlisten(other->io, &other->listener);
    struct sim_client *first = client_new(net);
    settle(s);
    p.c = client_new(net);
    shard_poll(s);
    cr_assert_eq(s->sides_count, 1);
    cr_assert_eq(s->tickets_count, 1);
    struct side *x = side_new(other);
    cr_assert_eq(io_adopt(s->io, &x->conn, s->tickets[0]), -ENFILE);
    cr_assert_eq(io_adopt(other->io, &x->conn, s->tickets[0]), 0);
    cr_assert_eq(sim_client_send(p.c, "moved", 5), 5);
    shard_poll(other);
    cr_assert_eq(x->received, 5);
    sim_client_free(first);
    settle(s);
    shard_free(other);
    pair_free(&p);
}

Test(io_sim, a_discarded_ticket_sends_its_last_words)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, client_new(net), NULL};
    char text[8] = {0};

    io_accept_mode(s->io, &s->listener, IO_ACCEPT_TICKETS);
    shard_poll(s);
    cr_assert_eq(s->tickets_count, 1);
    cr_assert_eq(sim_net_open_count(net), 2, "a ticket that is kept is seen as open");
    io_discard(s->io, s->tickets[0], "full", 4);
    cr_assert_eq(sim_client_recv(p.c, text, sizeof(text)), 4);
    cr_assert_str_eq(text, "full");
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_EOF);
    pair_free(&p);
}

Test(io_sim, accepting_goes_on_after_it_has_failed)
{
    const struct sim_faults faults = {.accept_error = 700000};
    struct pair p = pair_new(&faults);

    cr_assert(p.s->io->stats.accept_errors > 0);
    pair_free(&p);
}

Test(io_sim, an_io_connects_to_a_listener_and_both_sides_talk)
{
    struct sim_net *net = sim_net_new(3, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, client_new(net), NULL};
    struct io_addr to = address(80);

    settle(s);
    struct side *x = side_new(s);
    cr_assert_eq(io_connect(s->io, &x->conn, &to, NULL), 0);
    settle(s);
    cr_assert_eq(x->connects, 1);
    cr_assert_eq(x->connect_err, 0);
    struct iovec iov = {(void *)"hi", 2};
    cr_assert_eq(io_send(s->io, &x->conn, &iov, 1, 2), IO_SENT);
    settle(s);
    cr_assert_eq(s->sides[2].received, 2);
    pair_free(&p);
}

Test(io_sim, connecting_where_nobody_listens_is_refused_in_a_callback)
{
    struct pair p = pair_new(NULL);
    struct side *x = side_new(p.s);
    struct io_addr to = address(81);

    cr_assert_eq(io_connect(p.s->io, &x->conn, &to, NULL), 0);
    settle(p.s);
    cr_assert_eq(x->connects, 1);
    cr_assert_eq(x->connect_err, -ECONNREFUSED);
    cr_assert_eq(x->eofs, 0);
    pair_free(&p);
}

/* Clock and wakes --------------------------------------------------------------------------------
 */

Test(io_sim, an_idle_io_waits_until_it_is_woken_or_its_deadline_has_come)
{
    struct pair p = pair_new(NULL);
    uint64_t now_ns = sim_net_now(p.net);

    cr_assert(sim_io_would_wait(p.s->io, IO_FOREVER));
    cr_assert_not(sim_io_would_wait(p.s->io, now_ns));
    io_wake(p.s->io, NULL);
    io_wake(p.s->io, p.s->io);
    cr_assert_not(sim_io_would_wait(p.s->io, IO_FOREVER));
    shard_poll(p.s);
    cr_assert(sim_io_would_wait(p.s->io, IO_FOREVER));
    cr_assert_eq(p.s->io->stats.wakes_received, 1);
    cr_assert_eq(p.s->io->stats.wakes_sent, 1);
    pair_free(&p);
}

Test(io_sim, the_clock_goes_to_the_deadline_only_when_nothing_else_happens)
{
    struct pair p = pair_new(NULL);
    uint64_t now_ns = sim_net_now(p.net);

    cr_assert_eq(sim_net_idle(p.net, IO_FOREVER), SIM_DEAD);
    cr_assert_eq(sim_client_send(p.c, "x", 1), 1);
    cr_assert_eq(sim_net_idle(p.net, now_ns + 50), SIM_BUSY);
    shard_poll(p.s);
    cr_assert_eq(sim_net_idle(p.net, now_ns + 50), SIM_ADVANCED);
    cr_assert_eq(sim_net_now(p.net), now_ns + 50);
    shard_poll(p.s);
    cr_assert_eq(p.s->io->now_ns, now_ns + 50);
    pair_free(&p);
}

static void wait_hook(void *ctx, struct io *io, uint64_t deadline_ns)
{
    struct pair *p = ctx;

    cr_assert_eq(io, p->s->io);
    sim_net_advance(p->net, deadline_ns);
}

Test(io_sim, a_hook_may_let_others_run_while_an_io_waits)
{
    struct pair p = pair_new(NULL);
    uint64_t deadline_ns = sim_net_now(p.net) + NS_PER_SEC;

    sim_net_on_wait(p.net, wait_hook, &p);
    cr_assert_eq(io_poll(p.s->io, deadline_ns), 0);
    cr_assert_eq(p.s->io->now_ns, deadline_ns);
    sim_net_on_wait(p.net, NULL, NULL);
    pair_free(&p);
}

static void on_recv_polling(struct io_conn *c, struct bytes in)
{
    struct side *x = container_of(c, struct side, conn);

    (void)in;
    cr_assert_eq(io_poll(x->shard->io, 0), -EINVAL);
}

Test(io_sim, polling_within_a_callback_is_noticed)
{
    static const struct io_events nested = {on_recv_polling, on_eof, on_sent, on_connect,
                                            on_closed};
    struct pair p = pair_new(NULL);

    p.x->conn.events = &nested;
    cr_assert_eq(sim_client_send(p.c, "x", 1), 1);
    shard_poll(p.s);
    cr_assert_not_null(sim_net_violation(p.net));
    pair_free_violated(&p);
}

Test(io_sim, freeing_an_io_with_connections_is_noticed)
{
    struct pair p = pair_new(NULL);

    io_free(p.s->io);
    cr_assert_not_null(sim_net_violation(p.net));
    free(p.x->held);
    free(p.s);
    sim_net_free(p.net);
}
