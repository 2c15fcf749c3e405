/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The loop of one shard, and the way home of messages. On the shard's thread, except init and
 * deinit. */

#include "core/shard.h"

enum shard_item {
    SHARD_ITEM_RELEASE = SHARD_KIND(SHARD_MODULE_CORE, 1), /* ptr: message; to its home */
    SHARD_ITEM_FREE = SHARD_KIND(SHARD_MODULE_CORE, 2),    /* ptr: message; to its origin */
};

const struct stats_desc shard_stat_descs[SHARD_STAT_COUNT] = {
#define X(id, name, labels, help, kind)                                                            \
    [SHARD_STAT_##id] = {"tidewire_" name, labels, help, kind, 0},
    SHARD_STATS(X)
#undef X
};

static void core_on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct shard *s = ctx;
    struct message *m = item->ptr;

    (void)from;
    switch (item->kind) {
    case SHARD_ITEM_RELEASE:
        shard_message_release(s, m);
        return;
    case SHARD_ITEM_FREE:
        message_free(&s->messages, m);
        return;
    default:
        CHECK(!"unknown core item");
    }
}

void shard_init(struct shard *s, struct node *node, uint32_t idx, struct io *io)
{
    *s = (struct shard){.node = node, .io = io, .idx = idx, .next_turn_ns = IO_FOREVER};
    s->mesh = mesh_port(node->mesh, idx);
    message_pool_init(&s->messages, (uint16_t)idx);
    s->modules[SHARD_MODULE_CORE] = (struct shard_module){.ctx = s, .on_item = core_on_item};
    if (node->stats != NULL)
        stats_register(node->stats, shard_stat_descs, SHARD_STAT_COUNT, idx, s->stats);
}

void shard_deinit(struct shard *s)
{
    message_pool_deinit(&s->messages);
    io_free(s->io);
}

void shard_set_module(struct shard *s, enum shard_module_id id, const struct shard_module *m)
{
    CHECK(id < SHARD_MODULES_MAX);
    s->modules[id] = *m;
}

static void dispatch_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct shard *s = ctx;
    struct shard_module *m = &s->modules[item->kind >> SHARD_KIND_SHIFT];

    m->on_item(m->ctx, from, item);
}

/* Between turns, when nothing is pending in any module: a phase may end sessions at once. */
static void tell_phase(struct shard *s)
{
    uint32_t phase = atomic_load_explicit(&s->node->phase, memory_order_acquire);

    if (likely(phase <= s->phase))
        return;
    s->phase = phase;
    s->next_turn_ns = 0;
    for (uint32_t i = 0; i < SHARD_MODULES_MAX; i++) {
        if (s->modules[i].on_phase != NULL)
            s->modules[i].on_phase(s->modules[i].ctx, phase);
    }
}

static void run_modules(struct shard *s)
{
    uint64_t now_ns = s->io->now_ns;
    uint64_t next_ns = IO_FOREVER;

    for (uint32_t i = 0; i < SHARD_MODULES_MAX; i++) {
        if (s->modules[i].on_turn != NULL)
            next_ns = min_u64(next_ns, s->modules[i].on_turn(s->modules[i].ctx, now_ns));
    }
    s->next_turn_ns = next_ns; /* before the flush, which may ask for an earlier one */
    for (uint32_t i = SHARD_MODULES_MAX; i-- > 0;) {
        if (s->modules[i].on_flush != NULL)
            s->modules[i].on_flush(s->modules[i].ctx);
    }
}

/* While the mesh has no memory for its backlog, look again soon instead of waiting for a bell. */
#define SHORT_OF_MEMORY_WAIT_NS (5 * NS_PER_MS)

static int poll_io(struct shard *s, bool wait)
{
    uint64_t deadline_ns = wait ? s->next_turn_ns : 0;
    int n;

    if (unlikely(s->awaiting > 0 && s->io->now_ns < s->spin_until_ns))
        return io_poll(s->io, 0);
    if (unlikely(mesh_is_short(s->mesh)))
        deadline_ns = min_u64(deadline_ns, s->io->now_ns + SHORT_OF_MEMORY_WAIT_NS);
    if (deadline_ns <= s->io->now_ns || !mesh_may_sleep(s->mesh))
        return io_poll(s->io, 0);
    n = io_poll(s->io, deadline_ns);
    mesh_awake(s->mesh);
    return n;
}

/* The counters that io, mesh and pools keep for themselves become readable for other threads. */
static void publish_stats(struct shard *s)
{
    const struct io_stats *io = &s->io->stats;
    const struct mesh_stats *mesh = mesh_stats(s->mesh);
    const struct {
        uint32_t stat;
        uint64_t value;
    } rows[] = {
        {SHARD_STAT_IO_POLLS, io->polls},
        {SHARD_STAT_IO_SYSCALLS, io->syscalls},
        {SHARD_STAT_IO_ACCEPTS, io->accepts},
        {SHARD_STAT_IO_ACCEPT_REFUSED, io->accept_refused},
        {SHARD_STAT_IO_ACCEPT_ERRORS, io->accept_errors},
        {SHARD_STAT_IO_RECVS, io->recvs},
        {SHARD_STAT_IO_RECV_STARVED, io->recv_starved},
        {SHARD_STAT_IO_SENDS, io->sends},
        {SHARD_STAT_IO_SENDS_PENDING, io->sends_pending},
        {SHARD_STAT_IO_WAKES_SENT, io->wakes_sent},
        {SHARD_STAT_IO_WAKES_RECEIVED, io->wakes_received},
        {SHARD_STAT_IO_CQ_OVERFLOWS, io->cq_overflows},
        {SHARD_STAT_MESH_POSTED, mesh->posted},
        {SHARD_STAT_MESH_DRAINED, mesh->drained},
        {SHARD_STAT_MESH_BACKLOGGED, mesh->backlogged},
        {SHARD_STAT_MESH_BACKLOG_ITEMS, mesh->backlog_items},
        {SHARD_STAT_MESH_BACKLOG_BYTES, mesh->backlog_bytes},
        {SHARD_STAT_MESH_RINGS, mesh->rings},
        {SHARD_STAT_MESH_SHORT, mesh->short_of_memory},
        {SHARD_STAT_MESSAGE_BYTES, message_pool_mapped_bytes(&s->messages)},
        {SHARD_STAT_MESSAGE_LARGE, s->messages.large_allocs},
        {SHARD_STAT_MESSAGE_ALLOC_FAILED, s->messages.failures},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        stats_set(&s->stats[rows[i].stat], rows[i].value);
}

/* Counters become readable at most this often: it costs hundreds of instructions. */
#define PUBLISH_NS (10 * NS_PER_MS)

/* After a turn in which something happened the counters are told, soon if not now. */
static void publish(struct shard *s, bool changed)
{
    uint64_t now_ns = s->io->now_ns;

    s->unpublished |= changed;
    if (!s->unpublished)
        return;
    if (now_ns < s->publish_next_ns) {
        s->next_turn_ns = min_u64(s->next_turn_ns, s->publish_next_ns);
        return;
    }
    s->unpublished = false;
    s->publish_next_ns = now_ns + PUBLISH_NS;
    publish_stats(s);
    for (uint32_t i = 0; i < SHARD_MODULES_MAX; i++) {
        if (s->modules[i].on_publish != NULL)
            s->modules[i].on_publish(s->modules[i].ctx);
    }
}

/* Messages that are kept for the next ones go back to the pools when the shard has been quiet this
 * long. */
#define QUIET_NS NS_PER_SEC

static void trim_when_quiet(struct shard *s, bool active)
{
    uint64_t now_ns = s->io->now_ns;

    if (likely(active))
        s->quiet_at_ns = now_ns + QUIET_NS;
    else if (s->quiet_at_ns == 0)
        return;
    if (now_ns < s->quiet_at_ns) {
        s->next_turn_ns = min_u64(s->next_turn_ns, s->quiet_at_ns);
        return;
    }
    s->quiet_at_ns = 0;
    message_pool_trim(&s->messages);
    io_trim(s->io);
    for (uint32_t i = 0; i < SHARD_MODULES_MAX; i++) {
        if (s->modules[i].on_quiet != NULL)
            s->modules[i].on_quiet(s->modules[i].ctx);
    }
    s->unpublished = true;
}

/* What a shard has asked of another is often answered before a sleep would have been worth its two
 * wake-ups: it looks on for a while. */
static void spin_for_answers(struct shard *s)
{
    if (s->awaiting > s->awaiting_seen)
        s->spin_until_ns = s->io->now_ns + s->node->mesh_spin_ns;
    s->awaiting_seen = s->awaiting;
}

static void note_lag(struct shard *s, uint64_t wanted_ns)
{
    uint64_t now_ns = s->io->now_ns;

    s->lag_ns = now_ns > wanted_ns ? now_ns - wanted_ns : 0;
    if (unlikely(s->lag_ns > SHARD_LAG_NS))
        stats_inc(&s->stats[SHARD_STAT_LATE_TURNS]);
}

int shard_turn(struct shard *s, bool wait)
{
    uint64_t wanted_ns = max_u64(s->next_turn_ns, s->io->now_ns);
    int n = poll_io(s, wait);

    if (unlikely(n < 0))
        return n;
    note_lag(s, wanted_ns);
    n += (int)mesh_drain(s->mesh, dispatch_item, s);
    run_modules(s);
    bool had_backlog = mesh_stats(s->mesh)->backlog_items > 0;
    mesh_flush(s->mesh);
    spin_for_answers(s);
    trim_when_quiet(s, n > 0);
    stats_inc(&s->stats[SHARD_STAT_TURNS]);
    publish(s, n > 0 || had_backlog);
    tell_phase(s);
    return 0;
}

bool shard_is_done(const struct shard *s)
{
    if (s->phase == NODE_STOPPING)
        return true;
    if (s->phase != NODE_DRAINING)
        return false;
    for (uint32_t i = 0; i < SHARD_MODULES_MAX; i++) {
        if (s->modules[i].is_done != NULL && !s->modules[i].is_done(s->modules[i].ctx))
            return false;
    }
    return true;
}

/* How often a shard that is done looks whether all are. */
#define DONE_LOOK_NS (5 * NS_PER_MS)

/* Everything that hangs on the io goes before it: listeners, connections, on this thread. Turns may
 * be as short as what other shards send makes them, so time is what bounds the wait: it is well
 * over that of any module for last words that the kernel has not taken. But time may jump by any
 * amount within one turn, and a close takes a few of them: past the end it goes on until so many
 * turns in a row have ended no connection. */
#define STOP_NS NS_PER_SEC
#define STOP_TURNS 16

static int stop(struct shard *s)
{
    uint64_t end_ns = s->io->now_ns + STOP_NS;
    struct shard_module *m;
    int err = 0;

    for (m = s->modules; m < s->modules + SHARD_MODULES_MAX; m++) {
        if (m->on_phase != NULL)
            m->on_phase(m->ctx, NODE_STOPPING);
    }
    s->phase = NODE_STOPPING;
    for (int in_vain = 0; err == 0 && s->io->conn_count > 0 && in_vain < STOP_TURNS;) {
        uint32_t before = s->io->conn_count;

        s->next_turn_ns = s->io->now_ns + NS_PER_MS;
        err = shard_turn(s, true);
        in_vain = s->io->now_ns < end_ns || s->io->conn_count < before ? 0 : in_vain + 1;
    }
    return err;
}

int shard_run(struct shard *s)
{
    _Atomic uint32_t *done = &s->node->done;
    bool told = false;
    int err = 0;

    while (err == 0) {
        err = shard_turn(s, true);
        if (!told && shard_is_done(s)) {
            told = true;
            atomic_fetch_add_explicit(done, 1, memory_order_acq_rel);
        }
        if (!told)
            continue;
        if (atomic_load_explicit(done, memory_order_acquire) >= s->node->shard_count)
            return stop(s);
        s->next_turn_ns = min_u64(s->next_turn_ns, s->io->now_ns + DONE_LOOK_NS);
    }
    if (!told) /* this one serves nobody any more: the others need not wait for it */
        atomic_fetch_add_explicit(done, 1, memory_order_acq_rel);
    return err;
}

/* To the home, which counts; or, when nothing is left to count, to the origin. */
void shard_message_release_far(struct shard *s, struct message *m)
{
    bool is_home = m->home == s->idx;
    struct ring_item item = {.kind = is_home ? SHARD_ITEM_FREE : SHARD_ITEM_RELEASE, .ptr = m};

    if (!is_home)
        stats_inc(&s->stats[SHARD_STAT_RELEASED_REMOTE]);
    shard_post(s, is_home ? m->origin : m->home, &item, 0);
}
