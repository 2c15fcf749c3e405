/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Rings for every ordered pair of shards, backlogs behind them, and the bells. Each function on the
 * thread of the port's shard, except mesh_new() and mesh_free().
 *
 * Four things pass between threads besides the rings' contents:
 *
 *  ready[]   in the consumer's port: bit f is set by producer f when it has published, and taken by
 *            the consumer when it drains. Set with release behind the store of the ring's head (and
 *            of the ring's pointer, once), taken with acquire, so whoever takes a bit sees the head
 *            and the pointer that it stands for. A head may be seen before its bit; then the bit
 *            leads to an empty ring once, which is harmless.
 *  blocked[] in the consumer's port: bit f is set by producer f when a flush leaves it with a
 *            backlog, and cleared by producer f when one leaves it without. The consumer only
 *            looks: if it took the bit, it might take it for room that the producer has filled
 *            already, and nobody would wake the producer for the next. Relaxed, as below.
 *  sleeping  set by the shard before it waits, cleared by itself afterwards or by the one that
 *            rings: so one bell rings for each sleep, whoever else comes. Relaxed, as below.
 *  ring      in the producer's out[]: stored once with release; loaded with acquire.
 *
 * No wake is lost: two handshakes, each a store and a load on either side with a sequentially
 * consistent fence between them. Of two such fences one comes first in their total order, and a
 * load behind the later one sees what was stored before the earlier one.
 *
 *  1. "There are items": mesh_flush() of the producer against mesh_may_sleep() of the consumer.
 *       producer:  set ready[]   | fence | load sleeping
 *       consumer:  set sleeping  | fence | load ready[]
 *     Either the producer sees the sleeper and rings, or the consumer sees the bit and stays up.
 *  2. "There is room": mesh_drain() of the consumer against mesh_may_sleep() of the producer.
 *       consumer:  store tail                  | fence | load blocked[], sleeping
 *       producer:  set blocked[], set sleeping | fence | load tail
 *     Either the consumer sees both flags (blocked[] stays set during the sleep) and rings, or
 *     the producer sees the room and stays up.
 *
 * A bell must stick: a wake that comes between mesh_may_sleep() and the wait ends the wait. */

#include "core/mesh.h"

#include <errno.h>
#include <stdlib.h>

#include <sys/mman.h>

#include "core/plant.h"

#define MESH_SLOTS_DEFAULT 1024
#define MESH_WORDS (MESH_SHARDS_MAX / 64)
#define MESH_PAGE 4096
#define MESH_CHUNK_ENTRIES 101
#define MESH_RESERVE_CHUNKS 64

struct mesh_entry {
    struct ring_item item;
    uint32_t bytes; /* as given at post */
};

/* Part of a backlog; entries[begin .. end) wait. */
struct mesh_chunk {
    struct mesh_chunk *next;
    uint32_t begin;
    uint32_t end;
    bool built_in; /* from the mesh's own mapping: never freed alone */
    struct mesh_entry entries[MESH_CHUNK_ENTRIES];
};

/* A producer's view of one consumer. */
struct mesh_out {
    _Atomic(struct ring *) ring; /* NULL until first used */
    struct mesh_chunk *first;    /* the backlog; NULL when there is none */
    struct mesh_chunk *last;
    uint64_t bytes;  /* in the backlog */
    bool is_blocked; /* this producer's bit in the consumer's blocked[] */
};

struct mesh_port {
    alignas(CORE_CACHE_LINE) _Atomic uint64_t ready[MESH_WORDS]; /* written by all */
    _Atomic uint32_t sleeping;
    alignas(CORE_CACHE_LINE) _Atomic uint64_t blocked[MESH_WORDS]; /* written by all, rarely */
    alignas(CORE_CACHE_LINE) struct mesh *mesh;                    /* the shard's own from here */
    struct mesh_out *out;                                          /* out[to] */
    struct ring **in;             /* in[from]: copy of that producer's pointer */
    uint64_t touched[MESH_WORDS]; /* consumers with staged items or a backlog */
    struct mesh_chunk *reserve;
    struct mesh_chunk *built_in; /* MESH_RESERVE_CHUNKS, untouched from built_in_used on */
    uint32_t built_in_used;
    uint32_t reserve_count; /* chunks in `reserve`, and untouched ones */
    uint32_t shard;
    bool is_short;
    alignas(CORE_CACHE_LINE) struct mesh_stats stats; /* written by the shard, read by any */
};

struct mesh {
    struct mesh_config config;
    uint32_t words; /* of the bitmaps in use */
    size_t mapped_bytes;
    size_t port_stride;
    uint8_t *ports;
};

_Static_assert(sizeof(struct mesh_chunk) <= MESH_PAGE, "a chunk is a page");
_Static_assert(MESH_RESERVE_CHUNKS *MESH_CHUNK_ENTRIES >= MESH_RESERVE_ITEMS, "as promised");
_Static_assert(offsetof(struct mesh_port, blocked) - offsetof(struct mesh_port, ready) >= 64,
               "the bell's line is not the line of the rare flags");
_Static_assert(offsetof(struct mesh_port, mesh) - offsetof(struct mesh_port, blocked) >= 64,
               "what others write shares no line with the shard's own fields");
_Static_assert(offsetof(struct mesh_port, stats) - offsetof(struct mesh_port, mesh) >= 64,
               "who reads the counters does not disturb the shard's own fields");

/* ThreadSanitizer does not model fences and gcc says so. Only wake-ups depend on them, no plain
 * data: that is passed by release and acquire, which it does check. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif

static void mesh_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/* Counters have one writer; others may read at any time. */
static void count_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void count_sub(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter - n, __ATOMIC_RELAXED);
}

struct mesh_port *mesh_port(struct mesh *mesh, uint32_t shard)
{
    CHECK(shard < mesh->config.shards);
    return (struct mesh_port *)(mesh->ports + shard * mesh->port_stride);
}

/* Rings the bell of `to` if it sleeps; the first to clear the flag does it for all. Behind a fence,
 * see the handshakes. */
static void mesh_ring_bell(struct mesh_port *p, uint32_t to)
{
    struct mesh_port *sleeper = mesh_port(p->mesh, to);
    if (!atomic_load_explicit(&sleeper->sleeping, memory_order_relaxed))
        return;
    if (!atomic_exchange_explicit(&sleeper->sleeping, 0, memory_order_relaxed))
        return;
    if (PLANTED(PLANT_FORGET_WAKE))
        return;
    count_add(&p->stats.wakes, 1);
    p->mesh->config.wake(p->mesh->config.ctx, p->shard, to);
}

static void mesh_ring_bells(struct mesh_port *p, uint32_t word, uint64_t bits)
{
    for (; bits != 0; bits &= bits - 1)
        mesh_ring_bell(p, word * 64 + (uint32_t)__builtin_ctzll(bits));
}

/* Backlogs --------------------------------------------------------------------------------------*/

/* Memory from the system while there is any: the reserve is for when there is none. */
static struct mesh_chunk *chunk_take(struct mesh_port *p)
{
    struct mesh_chunk *c = malloc(sizeof(*c));
    bool built_in = false;
    if (c == NULL) {
        p->is_short = true;
        CHECK(p->reserve_count > 0);
        p->reserve_count--;
        c = p->reserve;
        built_in = c == NULL || c->built_in;
        if (c != NULL)
            p->reserve = c->next;
        else
            c = (struct mesh_chunk *)((uint8_t *)p->built_in + p->built_in_used++ * MESH_PAGE);
    }
    c->next = NULL;
    c->begin = 0;
    c->end = 0;
    c->built_in = built_in;
    return c;
}

static void chunk_keep(struct mesh_port *p, struct mesh_chunk *c)
{
    c->next = p->reserve;
    p->reserve = c;
    p->reserve_count++;
}

static void chunk_give(struct mesh_port *p, struct mesh_chunk *c)
{
    if (c->built_in || p->reserve_count < MESH_RESERVE_CHUNKS)
        chunk_keep(p, c);
    else
        free(c);
}

static void backlog_append(struct mesh_port *p, struct mesh_out *out, const struct ring_item *item,
                           uint32_t bytes)
{
    if (out->first == NULL || out->last->end == MESH_CHUNK_ENTRIES) {
        struct mesh_chunk *c = chunk_take(p);
        if (out->first == NULL)
            out->first = c;
        else
            out->last->next = c;
        out->last = c;
    }
    out->last->entries[out->last->end++] = (struct mesh_entry){.item = *item, .bytes = bytes};
    out->bytes += bytes;
    count_add(&p->stats.backlogged, 1);
    count_add(&p->stats.backlog_items, 1);
    count_add(&p->stats.backlog_bytes, bytes);
}

static const struct mesh_entry *backlog_oldest(const struct mesh_out *out)
{
    return out->first == NULL ? NULL : &out->first->entries[out->first->begin];
}

static void backlog_pop(struct mesh_port *p, struct mesh_out *out)
{
    struct mesh_chunk *c = out->first;
    uint32_t bytes = c->entries[c->begin++].bytes;
    out->bytes -= bytes;
    count_sub(&p->stats.backlog_items, 1);
    count_sub(&p->stats.backlog_bytes, bytes);
    if (c->begin == c->end) {
        out->first = c->next;
        chunk_give(p, c);
    }
}

/* Producing -------------------------------------------------------------------------------------*/

/* The ring to `to`, made if need be; NULL without memory. The consumer learns of it by ready[]. */
static struct ring *mesh_out_ring(struct mesh_port *p, struct mesh_out *out)
{
    struct ring *r = atomic_load_explicit(&out->ring, memory_order_relaxed);
    if (likely(r != NULL))
        return r;
    r = ring_new(p->mesh->config.ring_slots);
    if (r == NULL) {
        p->is_short = true;
        return NULL;
    }
    atomic_store_explicit(&out->ring, r, memory_order_release); /* loaded by mesh_in_ring() */
    count_add(&p->stats.rings, 1);
    return r;
}

void mesh_post(struct mesh_port *p, uint32_t to, const struct ring_item *item, uint32_t bytes)
{
    CHECK(to < p->mesh->config.shards);
    DCHECK(to != p->shard);
    struct mesh_out *out = &p->out[to];
    count_add(&p->stats.posted, 1);
    p->touched[to / 64] |= 1ULL << (to % 64);
    if (likely(out->first == NULL)) {
        struct ring *r = mesh_out_ring(p, out);
        if (likely(r != NULL) && likely(ring_stage(r, item)))
            return;
    }
    backlog_append(p, out, item, bytes);
}

/* Moves the backlog into the ring as far as there is room. */
static void mesh_unload(struct mesh_port *p, struct mesh_out *out, struct ring *r)
{
    bool lose = PLANTED(PLANT_LOSE_BACKLOG_ITEM);
    const struct mesh_entry *e;
    while ((e = backlog_oldest(out)) != NULL) {
        if (!lose && !ring_stage(r, &e->item))
            return;
        lose = false;
        backlog_pop(p, out);
    }
}

/* Publishes to one consumer. Returns whether there was anything. */
static bool mesh_flush_to(struct mesh_port *p, uint32_t to)
{
    struct mesh_out *out = &p->out[to];
    struct mesh_port *consumer = mesh_port(p->mesh, to);
    uint64_t own_bit = 1ULL << (p->shard % 64);
    struct ring *r = mesh_out_ring(p, out);
    if (r != NULL)
        mesh_unload(p, out, r);
    if (out->first != NULL)
        p->touched[to / 64] |= 1ULL << (to % 64);
    if (unlikely(out->is_blocked != (out->first != NULL))) {
        out->is_blocked = out->first != NULL;
        atomic_fetch_xor_explicit(&consumer->blocked[p->shard / 64], own_bit, memory_order_relaxed);
    }
    if (r == NULL || !ring_publish(r))
        return false;
    atomic_fetch_or_explicit(&consumer->ready[p->shard / 64], own_bit, memory_order_release);
    return true;
}

/* Brings the reserve back to its size, and tells whether that and all else has found memory. */
static void mesh_refill(struct mesh_port *p)
{
    while (p->reserve_count < MESH_RESERVE_CHUNKS) {
        struct mesh_chunk *c = malloc(sizeof(*c));
        if (c == NULL) {
            p->is_short = true;
            break;
        }
        c->built_in = false;
        chunk_keep(p, c);
    }
    if (unlikely(p->is_short))
        count_add(&p->stats.short_of_memory, 1);
}

void mesh_flush(struct mesh_port *p)
{
    uint64_t published[MESH_WORDS] = {0};
    uint64_t any = 0;
    if (p->mesh->config.shards == 1)
        return;
    p->is_short = false;
    for (uint32_t w = 0; w < p->mesh->words; w++) {
        uint64_t touched = p->touched[w];
        p->touched[w] = 0;
        for (; touched != 0; touched &= touched - 1) {
            if (mesh_flush_to(p, w * 64 + (uint32_t)__builtin_ctzll(touched)))
                published[w] |= touched & -touched;
        }
        any |= published[w];
    }
    mesh_refill(p);
    if (any == 0)
        return;
    mesh_fence(); /* handshake 1: between the sets of ready[] and the loads of sleeping */
    for (uint32_t w = 0; w < p->mesh->words; w++)
        mesh_ring_bells(p, w, published[w]);
}

/* Consuming -------------------------------------------------------------------------------------*/

/* A ring whose items wait; how many did when the drain began. */
struct mesh_due {
    uint32_t from;
    uint32_t count;
};

static struct ring *mesh_in_ring(struct mesh_port *p, uint32_t from)
{
    if (unlikely(p->in[from] == NULL)) {
        struct mesh_out *out = &mesh_port(p->mesh, from)->out[p->shard];
        p->in[from] = atomic_load_explicit(&out->ring, memory_order_acquire); /* mesh_out_ring() */
    }
    return p->in[from];
}

/* Takes the bits of one word of ready[] and lists their rings at due[]. */
static uint32_t mesh_collect(struct mesh_port *p, uint32_t word, struct mesh_due *due)
{
    uint32_t n = 0;
    if (atomic_load_explicit(&p->ready[word], memory_order_relaxed) == 0)
        return 0;
    /* Acquire: pairs with the fetch_or of mesh_flush_to(). */
    uint64_t bits = atomic_exchange_explicit(&p->ready[word], 0, memory_order_acquire);
    for (; bits != 0; bits &= bits - 1) {
        uint32_t from = word * 64 + (uint32_t)__builtin_ctzll(bits);
        due[n] = (struct mesh_due){.from = from, .count = ring_count(mesh_in_ring(p, from))};
        n += due[n].count > 0;
    }
    return n;
}

static void mesh_drain_ring(struct mesh_port *p, struct mesh_due due, mesh_item_fn fn, void *ctx)
{
    /* due[] is filled as far as mesh_collect() says, which the analyzer loses track of. */
    struct ring *r = p->in[due.from]; /* NOLINT(clang-analyzer-core.uninitialized.ArraySubscript) */
    while (due.count > 0) {
        const struct ring_item *items;
        uint32_t n = ring_peek(r, due.count, &items);
        for (uint32_t i = 0; i < n; i++)
            fn(ctx, due.from, &items[i]);
        ring_consume(r, n);
        due.count -= n;
    }
}

/* Wakes those producers that have a backlog behind one of the drained rings. Behind the fence. */
static void mesh_tell_room(struct mesh_port *p, const uint64_t *drained)
{
    for (uint32_t w = 0; w < p->mesh->words; w++) {
        uint64_t blocked = atomic_load_explicit(&p->blocked[w], memory_order_relaxed);
        mesh_ring_bells(p, w, blocked & drained[w]);
    }
}

uint32_t mesh_drain(struct mesh_port *p, mesh_item_fn fn, void *ctx)
{
    struct mesh_due due[MESH_SHARDS_MAX];
    uint64_t drained[MESH_WORDS] = {0};
    uint32_t rings = 0;
    uint32_t items = 0;
    for (uint32_t w = 0; w < p->mesh->words; w++)
        rings += mesh_collect(p, w, &due[rings]);
    if (rings == 0)
        return 0;
    for (uint32_t i = 0; i < rings; i++) {
        mesh_drain_ring(p, due[i], fn, ctx);
        items += due[i].count;
        drained[due[i].from / 64] |= 1ULL << (due[i].from % 64);
    }
    count_add(&p->stats.drained, items);
    mesh_fence(); /* handshake 2: between the stores of tail and the loads of blocked, sleeping */
    mesh_tell_room(p, drained);
    return items;
}

/* Sleeping --------------------------------------------------------------------------------------*/

static bool mesh_has_items(const struct mesh_port *p)
{
    uint64_t any = 0;
    for (uint32_t w = 0; w < p->mesh->words; w++)
        any |= atomic_load_explicit(&p->ready[w], memory_order_relaxed);
    return any != 0;
}

/* Whether a flush could move or publish anything. */
static bool mesh_has_output(struct mesh_port *p)
{
    for (uint32_t w = 0; w < p->mesh->words; w++) {
        for (uint64_t bits = p->touched[w]; bits != 0; bits &= bits - 1) {
            struct mesh_out *out = &p->out[w * 64 + (uint32_t)__builtin_ctzll(bits)];
            struct ring *r = atomic_load_explicit(&out->ring, memory_order_relaxed);
            if (out->first == NULL || (r != NULL && ring_has_room(r)))
                return true;
        }
    }
    return false;
}

bool mesh_may_sleep(struct mesh_port *p)
{
    if (p->mesh->config.shards == 1)
        return true;
    atomic_store_explicit(&p->sleeping, 1, memory_order_relaxed);
    mesh_fence(); /* both handshakes: between the set of sleeping and the loads of ready[], tail */
    if (!mesh_has_items(p) && !mesh_has_output(p))
        return true;
    mesh_awake(p);
    return false;
}

void mesh_awake(struct mesh_port *p)
{
    if (p->mesh->config.shards > 1)
        atomic_store_explicit(&p->sleeping, 0, memory_order_relaxed);
}

/* State -----------------------------------------------------------------------------------------*/

uint64_t mesh_backlog_bytes(const struct mesh_port *p, uint32_t to)
{
    CHECK(to < p->mesh->config.shards);
    return p->out[to].bytes;
}

bool mesh_is_short(const struct mesh_port *p)
{
    return p->is_short;
}

const struct mesh_stats *mesh_stats(const struct mesh_port *p)
{
    return &p->stats;
}

/* Making and freeing ----------------------------------------------------------------------------*/

static size_t round_up(size_t bytes, size_t step)
{
    return (bytes + step - 1) / step * step;
}

static void mesh_port_init(struct mesh *mesh, uint32_t shard, uint8_t *reserve)
{
    struct mesh_port *p = mesh_port(mesh, shard);
    p->mesh = mesh;
    p->shard = shard;
    p->out = (struct mesh_out *)(p + 1);
    p->in = (struct ring **)(p->out + mesh->config.shards);
    p->built_in = (struct mesh_chunk *)reserve;
    p->reserve_count = MESH_RESERVE_CHUNKS;
}

/* One mapping holds it all: the mesh, the ports with their tables (each on pages of its own), and
 * the chunks of the reserves, whose pages are taken only when memory is short. */
int mesh_new(const struct mesh_config *cfg, struct mesh **mesh)
{
    uint32_t n = cfg->shards;
    CHECK(n >= 1);
    CHECK(n <= MESH_SHARDS_MAX);
    size_t table_bytes = n * (sizeof(struct mesh_out) + sizeof(struct ring *));
    size_t stride = round_up(sizeof(struct mesh_port) + table_bytes, MESH_PAGE);
    size_t reserve_bytes = n == 1 ? 0 : (size_t)MESH_RESERVE_CHUNKS * MESH_PAGE;
    size_t bytes = MESH_PAGE + n * (stride + reserve_bytes);
    uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -ENOMEM;
    struct mesh *m = (struct mesh *)base;
    m->config = *cfg;
    if (m->config.ring_slots == 0)
        m->config.ring_slots = MESH_SLOTS_DEFAULT;
    m->words = (n + 63) / 64;
    m->mapped_bytes = bytes;
    m->port_stride = stride;
    m->ports = base + MESH_PAGE;
    for (uint32_t i = 0; i < n; i++)
        mesh_port_init(m, i, m->ports + n * stride + i * reserve_bytes);
    *mesh = m;
    return 0;
}

typedef void (*mesh_drop_fn)(void *ctx, const struct ring_item *item);

static void mesh_drop_out(struct mesh_port *p, struct mesh_out *out, mesh_drop_fn drop, void *ctx)
{
    struct ring *r = atomic_load_explicit(&out->ring, memory_order_relaxed);
    const struct ring_item *items;
    const struct mesh_entry *e;
    if (r != NULL) {
        ring_publish(r);
        for (uint32_t n; (n = ring_peek(r, UINT32_MAX, &items)) > 0; ring_consume(r, n)) {
            for (uint32_t i = 0; i < n && drop != NULL; i++)
                drop(ctx, &items[i]);
        }
        ring_free(r);
    }
    for (; (e = backlog_oldest(out)) != NULL; backlog_pop(p, out)) {
        if (drop != NULL)
            drop(ctx, &e->item);
    }
}

void mesh_free(struct mesh *mesh, void (*drop)(void *ctx, const struct ring_item *item), void *ctx)
{
    for (uint32_t i = 0; i < mesh->config.shards; i++) {
        struct mesh_port *p = mesh_port(mesh, i);
        for (uint32_t to = 0; to < mesh->config.shards; to++)
            mesh_drop_out(p, &p->out[to], drop, ctx);
        while (p->reserve != NULL) {
            struct mesh_chunk *c = p->reserve;
            p->reserve = c->next;
            if (!c->built_in)
                free(c);
        }
    }
    munmap(mesh, mesh->mapped_bytes);
}
