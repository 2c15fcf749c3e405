/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_SHARD_H
#define CORE_SHARD_H

/* A shard: one thread that owns its io, its mesh port, its messages and the modules on top.
 *
 * A turn (shard_turn) is always the same:
 *
 *     io_poll        wait; callbacks receive, decode, publish
 *     mesh_drain     what other shards posted
 *     on_turn        timers and deferred work of each module, lower layers first
 *     on_flush       what the turn produced leaves, upper layers first: runs, then sends
 *     mesh_flush     posts become visible, sleeping shards are woken
 *     on_phase       when main has set a new one
 *
 * Layers above core are modules: they register callbacks and get the mesh items of their kinds. The
 * program drives turns by shard_run() on a thread, the simulation by shard_turn(). */

#include <stdatomic.h>

#include "core/core_config.h"
#include "core/io.h"
#include "core/mesh.h"
#include "core/message.h"
#include "core/stats.h"

/* Kinds of mesh items: the module in the upper bits, its own number below. */
#define SHARD_MODULES_MAX 4
#define SHARD_KIND_SHIFT 8
enum shard_module_id {
    SHARD_MODULE_CORE,
    SHARD_MODULE_NET,
    SHARD_MODULE_PUBSUB,
    SHARD_MODULE_ENGINE
};
#define SHARD_KIND(module, n) (((uint32_t)(module) << SHARD_KIND_SHIFT) | (uint32_t)(n))

/* Where the node stands; only ever advances. */
enum node_phase {
    NODE_RUNNING,
    NODE_DRAINING, /* no new connections; everyone is closed at the set pace */
    NODE_STOPPING, /* leave now */
};

struct shard;

/* What a layer gives its shard. Any callback may be NULL. All run on the shard's thread. */
struct shard_module {
    void *ctx;
    void (*on_item)(void *ctx, uint32_t from, const struct ring_item *item);
    /* Deferred work; returns when it wants the next turn at the latest (IO_FOREVER: not at all). */
    uint64_t (*on_turn)(void *ctx, uint64_t now_ns);
    void (*on_flush)(void *ctx);   /* may lower shard.next_turn_ns */
    void (*on_quiet)(void *ctx);   /* for a while nothing has happened: memory that is kept goes */
    void (*on_publish)(void *ctx); /* copies gauges into the module's stats values */
    void (*on_phase)(void *ctx, enum node_phase phase); /* between turns */
    /* While draining: whether nothing is left to wait for. */
    bool (*is_done)(void *ctx);
};

/* What all shards share: constant after start, but for the atomics. */
struct node {
    uint32_t shard_count;
    uint64_t seed;           /* of hash tables and homes; random per process */
    uint64_t mesh_spin_ns;   /* --mesh-spin, where every shard has a core; else 0 */
    uint64_t turn_budget_ns; /* --turn-budget: arithmetic of one turn; 0: no bound */
    struct mesh *mesh;
    struct shard **shards;
    struct stats_registry *stats;
    _Atomic uint32_t phase; /* enum node_phase; written by main */
    _Atomic uint32_t done;  /* shards that are done */
};

/* A turn that begins this much later than it was asked for is late: the shard lags, and judges
 * nobody dead for its own slowness. */
#define SHARD_LAG_NS (200 * NS_PER_MS)

/* X(id, name, labels, help, kind) */
#define SHARD_STATS(X)                                                                             \
    X(TURNS, "turns_total", NULL, "Turns of the shard loops.", STATS_COUNTER)                      \
    X(LATE_TURNS, "late_turns_total", NULL, "Turns that began over 200 ms late.", STATS_COUNTER)   \
    X(RELEASED_REMOTE, "messages_released_remote_total", NULL,                                     \
      "References to messages given back through the mesh.", STATS_COUNTER)                        \
    X(MESSAGE_BYTES, "message_pool_bytes", NULL, "Memory mapped for messages and runs.",           \
      STATS_GAUGE)                                                                                 \
    X(MESSAGE_LARGE, "messages_large_total", NULL,                                                 \
      "Heap allocations for messages over the largest pool class.", STATS_COUNTER)                 \
    X(MESSAGE_ALLOC_FAILED, "message_alloc_failures_total", NULL,                                  \
      "Messages and runs refused for want of memory.", STATS_COUNTER)                              \
    X(IO_POLLS, "io_polls_total", NULL, "Turns of the io backend.", STATS_COUNTER)                 \
    X(IO_SYSCALLS, "io_syscalls_total", NULL, "System calls made for io.", STATS_COUNTER)          \
    X(IO_ACCEPTS, "io_accepts_total", NULL, "Sockets accepted.", STATS_COUNTER)                    \
    X(IO_ACCEPT_REFUSED, "io_accept_refused_total", NULL,                                          \
      "Connections refused at accept for want of memory.", STATS_COUNTER)                          \
    X(IO_ACCEPT_ERRORS, "io_accept_errors_total", NULL,                                            \
      "Accepts that failed for want of descriptors or memory.", STATS_COUNTER)                     \
    X(IO_RECVS, "io_receives_total", NULL, "Receive completions with data.", STATS_COUNTER)        \
    X(IO_RECV_STARVED, "io_receive_starved_total", NULL,                                           \
      "Receives stopped for want of buffers (io_uring).", STATS_COUNTER)                           \
    X(IO_SENDS, "io_sends_total", NULL, "Sends given to the kernel.", STATS_COUNTER)               \
    X(IO_SENDS_PENDING, "io_sends_pending_total", NULL, "Of them not finished at once.",           \
      STATS_COUNTER)                                                                               \
    X(IO_WAKES_SENT, "io_wakes_sent_total", NULL, "Doorbells rung.", STATS_COUNTER)                \
    X(IO_WAKES_RECEIVED, "io_wakes_received_total", NULL, "Doorbells heard.", STATS_COUNTER)       \
    X(IO_CQ_OVERFLOWS, "io_cq_overflows_total", NULL,                                              \
      "Completion queue overflows (io_uring; nothing is lost).", STATS_COUNTER)                    \
    X(MESH_POSTED, "mesh_posted_total", NULL, "Items posted to other shards.", STATS_COUNTER)      \
    X(MESH_DRAINED, "mesh_drained_total", NULL, "Items taken from other shards.", STATS_COUNTER)   \
    X(MESH_BACKLOGGED, "mesh_backlogged_total", NULL,                                              \
      "Items that went through a backlog because a ring was full.", STATS_COUNTER)                 \
    X(MESH_BACKLOG_ITEMS, "mesh_backlog_items", NULL, "Items in backlogs now.", STATS_GAUGE)       \
    X(MESH_BACKLOG_BYTES, "mesh_backlog_bytes", NULL, "Bytes that backlogs keep alive.",           \
      STATS_GAUGE)                                                                                 \
    X(MESH_RINGS, "mesh_rings", NULL, "Rings made.", STATS_GAUGE)                                  \
    X(MESH_SHORT, "mesh_short_of_memory_total", NULL,                                              \
      "Times the reserve for backlogs could not be refilled.", STATS_COUNTER)

enum shard_stat {
#define X(id, name, labels, help, kind) SHARD_STAT_##id,
    SHARD_STATS(X)
#undef X
        SHARD_STAT_COUNT
};
extern const struct stats_desc shard_stat_descs[SHARD_STAT_COUNT];

struct shard {
    struct node *node;
    struct io *io;
    struct mesh_port *mesh;
    struct message_pool messages;
    struct shard_module modules[SHARD_MODULES_MAX];
    uint32_t idx;
    uint32_t phase;           /* enum node_phase as last told to the modules */
    uint64_t next_turn_ns;    /* earliest deadline of the modules */
    uint64_t awaiting;        /* bytes sent to other shards that these have not answered yet */
    uint64_t awaiting_seen;   /* the same at the end of the last turn */
    uint64_t spin_until_ns;   /* until then it looks for answers awake */
    uint64_t publish_next_ns; /* the stats values are not written before */
    uint64_t quiet_at_ns;     /* when nothing happens until then, memory is given back; 0: it was */
    bool unpublished;         /* something has happened since they were */
    uint64_t lag_ns;          /* how much later than asked for this turn began */
    stats_value stats[SHARD_STAT_COUNT];
};

/* Takes io (freed by shard_deinit). Any thread; bound by the first turn's io_start(). */
void shard_init(struct shard *s, struct node *node, uint32_t idx, struct io *io);
void shard_deinit(struct shard *s);

void shard_set_module(struct shard *s, enum shard_module_id id, const struct shard_module *m);

/* One turn. With wait false it does not block. Returns 0 or -errno when the io is broken. */
MUST_USE int shard_turn(struct shard *s, bool wait);

/* Whether this shard has nothing left to do: NODE_STOPPING, or NODE_DRAINING and every module is
 * done. */
bool shard_is_done(const struct shard *s);

/* Turns until every shard of the node is done: until then others may still need this one. */
MUST_USE int shard_run(struct shard *s);

/* Gives back one reference that this shard holds: directly, or through the mesh to the message's
 * home, whose last release sends the memory home to its origin. */
void shard_message_release_far(struct shard *s, struct message *m);
static inline void shard_message_release(struct shard *s, struct message *m)
{
    if (unlikely(m->home != s->idx)) {
        shard_message_release_far(s, m);
        return;
    }
    DCHECK(m->refs > 0);
    if (--m->refs > 0)
        return;
    if (likely(m->origin == s->idx))
        message_free(&s->messages, m);
    else
        shard_message_release_far(s, m);
}

/* Adds references before the message is posted to further shards. Home only. */
static inline void shard_message_ref(struct shard *s, struct message *m, uint32_t n)
{
    DCHECK(m->home == s->idx);
    (void)s;
    m->refs += n;
}

/* Drops one use of a run; the last one ends it and releases its message. */
static inline void shard_run_unref(struct shard *s, struct run *r)
{
    DCHECK(r->uses > 0);
    if (--r->uses > 0)
        return;
    struct message *m = r->message;
    if (likely(r == &m->run && m->refs == 1 && m->home == s->idx && m->origin == s->idx)) {
        r->message = NULL;
        message_free_own(&s->messages, m);
        return;
    }
    shard_message_release(s, run_end(&s->messages, r));
}

/* Posts to another shard. */
static inline void shard_post(struct shard *s, uint32_t to, const struct ring_item *item,
                              uint32_t bytes)
{
    mesh_post(s->mesh, to, item, bytes);
}

#endif
