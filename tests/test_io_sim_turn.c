/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The simulated io is deterministic and loses nothing whatever the faults; listeners, the clock,
 * wakes and fibers. */

#include "tests/io_sim_fixture.h"
#include "tests/sim/sim_fiber.h"

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

Test(io_sim_turn, everything_arrives_once_and_in_order_whatever_the_faults)
{
    for (uint64_t seed = 0; seed < 150; seed++)
        echo_run(seed, false);
}

Test(io_sim_turn, resets_and_failures_leak_nothing)
{
    for (uint64_t seed = 0; seed < 150; seed++)
        echo_run(seed, true);
}

Test(io_sim_turn, a_seed_gives_the_same_run_and_another_another)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        cr_assert_eq(echo_run(seed, true), echo_run(seed, true));
        cr_assert_neq(echo_run(seed, true), echo_run(seed + 1000, true));
    }
}

/* Accepting and connecting -----------------------------------------------------------------------
 */

Test(io_sim_turn, connections_wait_in_the_backlog_while_accepting_is_off)
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

Test(io_sim_turn, what_waits_in_the_backlog_is_told_within_unlisten)
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

Test(io_sim_turn, a_refused_connection_is_counted_and_can_be_told)
{
    struct sim_net *net = sim_net_new(1, NULL);
    struct shard *s = shard_new(net, SIDES_MAX);
    struct pair p = {net, s, client_new(net), NULL};

    s->refuse = true;
    settle(s);
    cr_assert_eq(s->tickets_count, 1);
    cr_assert_eq(s->io->conn_count, 0);
    cr_assert_eq(s->io->stats.accept_refused, 1);
    io_discard(s->io, s->tickets[0], "sorry", 5);
    settle(s);
    char text[8];
    cr_assert_eq(sim_client_recv(p.c, text, sizeof(text)), 5);
    cr_assert_eq(memcmp(text, "sorry", 5), 0);
    cr_assert_eq(sim_client_state(p.c), SIM_CLIENT_EOF);
    pair_free(&p);
}

Test(io_sim_turn, a_full_table_gives_tickets_which_another_shard_adopts)
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

Test(io_sim_turn, a_discarded_ticket_sends_its_last_words)
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

Test(io_sim_turn, accepting_goes_on_after_it_has_failed)
{
    const struct sim_faults faults = {.accept_error = 700000};
    struct pair p = pair_new(&faults);

    cr_assert(p.s->io->stats.accept_errors > 0);
    pair_free(&p);
}

Test(io_sim_turn, an_io_connects_to_a_listener_and_both_sides_talk)
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

Test(io_sim_turn, connecting_where_nobody_listens_is_refused_in_a_callback)
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

Test(io_sim_turn, an_idle_io_waits_until_it_is_woken_or_its_deadline_has_come)
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

Test(io_sim_turn, the_clock_goes_to_the_deadline_only_when_nothing_else_happens)
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

Test(io_sim_turn, a_hook_may_let_others_run_while_an_io_waits)
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

Test(io_sim_turn, polling_within_a_callback_is_noticed)
{
    static const struct io_events nested = {.on_recv = on_recv_polling,
                                            .on_eof = on_eof,
                                            .on_sent = on_sent,
                                            .on_connect = on_connect,
                                            .on_closed = on_closed};
    struct pair p = pair_new(NULL);

    p.x->conn.events = &nested;
    cr_assert_eq(sim_client_send(p.c, "x", 1), 1);
    shard_poll(p.s);
    cr_assert_not_null(sim_net_violation(p.net));
    pair_free_violated(&p);
}

Test(io_sim_turn, freeing_an_io_with_connections_is_noticed)
{
    struct pair p = pair_new(NULL);

    io_free(p.s->io);
    cr_assert_not_null(sim_net_violation(p.net));
    free(p.x->held);
    free(p.s);
    sim_net_free(p.net);
}

/* Fibers -----------------------------------------------------------------------------------------
 */

struct runner {
    struct pair *p;
    uint32_t polls;
    uint64_t deadline_ns;
    bool stop;
};

static void run_loop(void *arg)
{
    struct runner *r = arg;

    while (!r->stop) {
        r->p->s->in_poll = true;
        cr_assert(io_poll(r->p->s->io, r->deadline_ns) >= 0);
        r->p->s->in_poll = false;
        r->polls++;
    }
}

Test(io_sim_turn, a_fiber_sleeps_in_its_poll_until_bytes_a_wake_or_its_deadline_come)
{
    struct pair p = pair_new(NULL);
    struct runner r = {&p, 0, sim_net_now(p.net) + NS_PER_SEC, false};
    struct sim_fibers *f = sim_fibers_new(p.net);

    cr_assert_eq(sim_fibers_add(f, p.s->io, run_loop, &r), 0);
    cr_assert(sim_fibers_step(f), "it runs to its first poll");
    cr_assert_not(sim_fibers_step(f));
    cr_assert_eq(r.polls, 0);
    cr_assert_eq(sim_client_send(p.c, "hi", 2), 2);
    cr_assert(sim_fibers_step(f));
    cr_assert_eq(r.polls, 1);
    cr_assert_eq(p.x->received, 2);
    cr_assert_not(sim_fibers_step(f));
    io_wake(p.s->io, NULL);
    cr_assert(sim_fibers_step(f));
    cr_assert_not(sim_fibers_step(f));
    cr_assert_eq(sim_fibers_deadline_ns(f), r.deadline_ns);
    cr_assert_eq(sim_net_idle(p.net, sim_fibers_deadline_ns(f)), SIM_ADVANCED);
    r.stop = true;
    cr_assert(sim_fibers_step(f));
    cr_assert_eq(r.polls, 3);
    cr_assert_eq(sim_fibers_running(f), 0);
    cr_assert_not(sim_fibers_step(f));
    io_wake(p.s->io, NULL);
    cr_assert_eq(sim_net_idle(p.net, IO_FOREVER), SIM_DEAD, "what has ended holds up nobody");
    sim_fibers_free(f);
    pair_free(&p);
}

Test(io_sim_turn, fibers_take_turns_and_wake_each_other)
{
    struct pair a = pair_new(NULL);
    struct pair b = {a.net, shard_new(a.net, SIDES_MAX), NULL, NULL};
    struct runner ra = {&a, 0, IO_FOREVER, false}, rb = {&b, 0, IO_FOREVER, false};
    struct sim_fibers *f = sim_fibers_new(a.net);

    cr_assert_eq(sim_fibers_add(f, a.s->io, run_loop, &ra), 0);
    cr_assert_eq(sim_fibers_add(f, b.s->io, run_loop, &rb), 0);
    for (int i = 0; i < 100; i++) {
        io_wake(a.s->io, b.s->io);
        if (i % 2 == 0)
            io_wake(b.s->io, a.s->io);
        while (sim_fibers_step(f)) {
        }
    }
    cr_assert_eq(ra.polls, 100);
    cr_assert_eq(rb.polls, 50);
    ra.stop = rb.stop = true;
    io_wake(a.s->io, NULL);
    io_wake(b.s->io, NULL);
    while (sim_fibers_step(f)) {
    }
    cr_assert_eq(sim_fibers_running(f), 0);
    sim_fibers_free(f);
    shard_free(b.s);
    pair_free(&a);
}
