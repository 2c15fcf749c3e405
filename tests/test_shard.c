/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The loop of a shard on the simulated io: order within a turn, deadlines, phases, the way home of
 * messages. One thread. */

#include "core/shard.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <string.h>

#include "tests/sim/io_sim.h"

#define SHARDS 2

/* What a module was called for, in order, one letter each. */
struct probe {
    struct shard *shard;
    char log[64];
    uint64_t turn_wants_ns;  /* on_turn() returns this */
    uint64_t flush_wants_ns; /* on_flush() lowers next_turn_ns to this; 0: leaves it */
    bool done;
};

struct rig {
    struct sim_net *net;
    struct stats_registry stats;
    struct node node;
    struct shard shards[SHARDS];
    struct shard *list[SHARDS];
    struct probe probes[SHARDS];
};

static void note(struct probe *p, char what)
{
    size_t len = strlen(p->log);

    cr_assert(len + 1 < sizeof(p->log));
    p->log[len] = what;
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    (void)from;
    (void)item;
    note(ctx, 'i');
}

static uint64_t on_turn(void *ctx, uint64_t now_ns)
{
    struct probe *p = ctx;

    (void)now_ns;
    note(p, 't');
    return p->turn_wants_ns;
}

static void on_flush(void *ctx)
{
    struct probe *p = ctx;

    note(p, 'f');
    if (p->flush_wants_ns != 0)
        p->shard->next_turn_ns = min_u64(p->shard->next_turn_ns, p->flush_wants_ns);
}

static void on_phase(void *ctx, enum node_phase phase)
{
    note(ctx, phase == NODE_DRAINING ? 'd' : 's');
}

static bool is_done(void *ctx)
{
    return ((struct probe *)ctx)->done;
}

static void wake(void *ctx, uint32_t from, uint32_t to)
{
    struct rig *r = ctx;

    io_wake(r->shards[to].io, r->shards[from].io);
}

static struct rig *rig_new(void)
{
    static struct rig r;
    struct mesh_config mesh = {.shards = SHARDS, .wake = wake, .ctx = &r};

    r.net = sim_net_new(7, NULL);
    r.node = (struct node){.shard_count = SHARDS, .shards = r.list, .stats = &r.stats};
    cr_assert_eq(mesh_new(&mesh, &r.node.mesh), 0);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct io_config cfg = {.conns_max = 4, .shard_idx = i};
        struct shard_module module = {.ctx = &r.probes[i],
                                      .on_item = on_item,
                                      .on_turn = on_turn,
                                      .on_flush = on_flush,
                                      .on_phase = on_phase,
                                      .is_done = is_done};
        struct io *io;

        cr_assert_eq(io_sim_new(r.net, &cfg, &io), 0);
        cr_assert_eq(io_start(io), 0);
        shard_init(&r.shards[i], &r.node, i, io);
        r.list[i] = &r.shards[i];
        r.probes[i].shard = &r.shards[i];
        r.probes[i].turn_wants_ns = IO_FOREVER;
        shard_set_module(&r.shards[i], SHARD_MODULE_PUBSUB, &module);
    }
    return &r;
}

static void rig_free(struct rig *r)
{
    for (uint32_t i = 0; i < SHARDS; i++)
        shard_deinit(&r->shards[i]);
    mesh_free(r->node.mesh, NULL, NULL);
    cr_assert_null(sim_net_violation(r->net));
    sim_net_free(r->net);
}

static void set_phase(struct rig *r, enum node_phase phase)
{
    atomic_store_explicit(&r->node.phase, phase, memory_order_release);
}

Test(shard, deferred_work_runs_before_the_flush)
{
    struct rig *r = rig_new();

    cr_assert_eq(shard_turn(&r->shards[0], false), 0);
    cr_assert_str_eq(r->probes[0].log, "tf");
    rig_free(r);
}

static void ignore(void *ctx, uint32_t from, const struct ring_item *item)
{
    (void)ctx;
    (void)from;
    (void)item;
}

/* A turn in which nothing has happened but that. */
Test(shard, a_backlog_that_has_left_is_told)
{
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];
    const stats_value *items = &s->stats[SHARD_STAT_MESH_BACKLOG_ITEMS];
    struct ring_item item = {.kind = SHARD_KIND(SHARD_MODULE_PUBSUB, 1)};

    for (int i = 0; i < 1030; i++) /* a ring takes 1024 */
        shard_post(s, 1, &item, 8);
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_eq(stats_get(items), 6);
    cr_assert_eq(mesh_drain(r->shards[1].mesh, ignore, NULL), 1024);
    (void)sim_net_idle(r->net, sim_net_now(r->net) + NS_PER_SEC);
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_eq(mesh_stats(s->mesh)->backlog_items, 0);
    cr_assert_eq(stats_get(items), 0);
    cr_assert_eq(mesh_drain(r->shards[1].mesh, ignore, NULL), 6);
    rig_free(r);
}

Test(shard, items_of_others_are_handed_over_before_deferred_work)
{
    struct rig *r = rig_new();
    struct ring_item item = {.kind = SHARD_KIND(SHARD_MODULE_PUBSUB, 1)};

    shard_post(&r->shards[1], 0, &item, 0);
    cr_assert_eq(shard_turn(&r->shards[0], false), 0);
    cr_assert_eq(shard_turn(&r->shards[1], false), 0);
    cr_assert_eq(shard_turn(&r->shards[0], false), 0);
    cr_assert_str_eq(r->probes[0].log, "tfitf");
    rig_free(r);
}

Test(shard, a_flush_may_ask_for_an_earlier_turn)
{
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];
    uint64_t soon_ns = s->io->now_ns + NS_PER_MS;

    r->probes[0].turn_wants_ns = s->io->now_ns + NS_PER_SEC;
    r->probes[0].flush_wants_ns = soon_ns;
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_eq(s->next_turn_ns, soon_ns);
    r->probes[0].flush_wants_ns = 0;
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_gt(s->next_turn_ns, soon_ns, "what an earlier flush asked for is over");
    rig_free(r);
}

/* A phase may end sessions, which must find nothing pending. */
Test(shard, a_phase_is_told_after_the_flush_and_the_next_turn_is_due_at_once)
{
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];

    set_phase(r, NODE_DRAINING);
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_str_eq(r->probes[0].log, "tfd");
    cr_assert_eq(s->next_turn_ns, 0);
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_str_eq(r->probes[0].log, "tfdtf", "once");
    rig_free(r);
}

Test(shard, it_is_done_when_every_module_is_or_when_the_node_stops)
{
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];

    r->probes[0].done = true;
    cr_assert_not(shard_is_done(s), "not before the drain");
    set_phase(r, NODE_DRAINING);
    r->probes[0].done = false;
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert_not(shard_is_done(s));
    r->probes[0].done = true;
    cr_assert(shard_is_done(s));
    r->probes[0].done = false;
    set_phase(r, NODE_STOPPING);
    cr_assert_eq(shard_turn(s, false), 0);
    cr_assert(shard_is_done(s));
    rig_free(r);
}

/* An io with connections that take a few polls to close, as io_uring's do, one after the other. */
struct slow_io {
    struct io io;
    uint64_t late_ns; /* the first poll of a close ends this late */
    int polls_each;   /* for each of the connections */
    int polls_left;   /* of the one that is closing; 0: none is */
};

static int slow_poll(struct io *io, uint64_t deadline_ns)
{
    struct slow_io *slow = container_of(io, struct slow_io, io);

    (void)deadline_ns;
    if (slow->polls_left == 0)
        return 0;
    io->now_ns += slow->late_ns;
    slow->late_ns = 0;
    if (--slow->polls_left > 0)
        return 0;
    slow->polls_left = --io->conn_count > 0 ? slow->polls_each : 0;
    return 1;
}

static void slow_close(void *ctx, enum node_phase phase)
{
    struct slow_io *slow = ctx;

    (void)phase;
    slow->polls_left = slow->polls_each;
}

/* The process may have been stopped for longer than the shard would wait. Returns how many are
 * left.
 */
static uint32_t run_to_the_end(uint32_t conns, int polls_each)
{
    static const struct io_backend backend = {.name = "slow", .poll = slow_poll};
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];
    struct io *own = s->io;
    struct slow_io slow = {.io = {.backend = &backend, .conn_count = conns},
                           .late_ns = 2 * NS_PER_SEC,
                           .polls_each = polls_each};
    struct shard_module closer = {.ctx = &slow, .on_phase = slow_close};

    shard_set_module(s, SHARD_MODULE_PUBSUB, &closer);
    s->io = &slow.io;
    set_phase(r, NODE_STOPPING);
    atomic_store(&r->node.done, 1); /* the other shard is */
    cr_assert_eq(shard_run(s), 0);
    s->io = own;
    rig_free(r);
    return slow.io.conn_count;
}

Test(shard, connections_that_are_closing_when_time_has_jumped_go_before_the_shard)
{
    cr_assert_eq(run_to_the_end(1, 3), 0);
}

Test(shard, many_of_them_take_as_many_turns_as_they_need)
{
    cr_assert_eq(run_to_the_end(100, 3), 0);
}

Test(shard, one_that_never_goes_holds_the_shard_up_no_longer)
{
    cr_assert_eq(run_to_the_end(1, INT_MAX), 1);
}

static void turn_all(struct rig *r, int times)
{
    for (int k = 0; k < times; k++) {
        for (uint32_t i = 0; i < SHARDS; i++) {
            memset(r->probes[i].log, 0, sizeof(r->probes[i].log));
            cr_assert_eq(shard_turn(&r->shards[i], false), 0);
        }
    }
}

Test(shard, the_last_reference_sends_the_memory_home_wherever_it_is_dropped)
{
    struct rig *r = rig_new();

    for (uint32_t origin = 0; origin < SHARDS; origin++) {
        for (uint32_t home = 0; home < SHARDS; home++) {
            for (uint32_t last = 0; last < SHARDS; last++) {
                struct message_pool *mp = &r->shards[origin].messages;
                struct message *m = message_new(mp, MESSAGE_POOLED_MAX);

                cr_assert_eq(mp->large_now, 1);
                m->home = (uint16_t)home;
                shard_message_ref(&r->shards[home], m, 1);
                shard_message_release(&r->shards[1 - last], m);
                turn_all(r, 3);
                cr_assert_eq(mp->large_now, 1, "one shard still holds it");
                shard_message_release(&r->shards[last], m);
                turn_all(r, 3);
                cr_assert_eq(mp->large_now, 0);
            }
        }
    }
    rig_free(r);
}

Test(shard, a_run_holds_its_message_until_its_last_use)
{
    struct rig *r = rig_new();
    struct shard *s = &r->shards[0];
    struct message *m = message_new(&s->messages, MESSAGE_POOLED_MAX);
    struct run *run = run_new(&s->messages, m);

    run_ref(run);
    shard_run_unref(s, run);
    cr_assert_eq(s->messages.large_now, 1);
    shard_run_unref(s, run);
    cr_assert_eq(s->messages.large_now, 0);
    rig_free(r);
}
