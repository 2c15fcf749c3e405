/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Rings and mesh under real threads, meant for ThreadSanitizer and for plain speed alike.
 *
 *   hammer    one ring, a producer and a consumer at full speed, random batches
 *   duel      one item at a time against a consumer that goes to sleep after each, at shifting
 *             distances; both spin, so that the narrow moments of the handshake are met often
 *   saturate  every shard posts to every other through tiny rings, so that backlogs carry the flow
 *   stopped   the same, but one shard stands still for a third of the time and is slow afterwards
 *   bursts    each token is a burst of many times the ring's size; who got a whole burst sends the
 *             next. Between the steps all sleep, so that one lost wake, for items or for room,
 * stops everything for good, and the watch sees it.
 *
 * Each consumer checks for each producer that the items come in order, none missing, none twice;
 * every 16th brings a heap block written by the producer and freed by the consumer. */

#include <sched.h>
#include <string.h>

#include "core/mesh.h"
#include "tests/stress/stress.h"

enum mode { SATURATE, STOPPED, BURSTS };

struct plan {
    const char *name;
    enum mode mode;
    uint32_t ring_slots;
};

#define KIND_PLAIN 1
#define KIND_BURST_END 2
#define ITEM_BYTES 100
#define BACKLOG_BYTES_MAX 50000
#define STAND_STILL_MS_MAX 2000

struct node;

struct shard {
    alignas(CORE_CACHE_LINE) struct node *node;
    struct mesh_port *port;
    struct stress_bell bell;
    pthread_t thread;
    uint32_t number;
    uint64_t random;
    uint32_t bursts_due;
    uint64_t sent[STRESS_SHARDS_MAX];
    uint64_t got[STRESS_SHARDS_MAX];
    alignas(CORE_CACHE_LINE) _Atomic uint64_t sent_total; /* written by the shard, read by main */
    _Atomic uint64_t got_total;
    _Atomic bool stands_still; /* written by main */
};

struct node {
    struct shard shards[STRESS_SHARDS_MAX];
    uint32_t shard_count;
    const struct plan *plan;
    _Atomic bool stop;   /* produce no more */
    _Atomic bool finish; /* everything has arrived */
};

/* What every 16th item carries. */
struct parcel {
    uint64_t b;
    uint32_t from;
    uint32_t to;
};

static struct parcel *parcel_new(uint32_t from, uint32_t to, uint64_t b)
{
    struct parcel *p = malloc(sizeof(*p));
    STRESS_REQUIRE(p != NULL);
    *p = (struct parcel){.b = b, .from = from, .to = to};
    return p;
}

static void parcel_open(struct parcel *p, uint32_t from, uint32_t to, uint64_t b)
{
    STRESS_REQUIRE(p->b == b);
    STRESS_REQUIRE(p->from == from);
    STRESS_REQUIRE(p->to == to);
    free(p);
}

/* The hammer ------------------------------------------------------------------------------------*/

struct hammer {
    struct ring *ring;
    uint32_t slots;
    _Atomic bool stop;
    _Atomic uint64_t published; /* final count, valid when done */
    _Atomic bool done;
};

static void *hammer_produce(void *arg)
{
    struct hammer *h = arg;
    uint64_t random = 3;
    uint64_t b = 0;
    while (!atomic_load(&h->stop)) {
        uint32_t batch = 1 + stress_random(&random, h->slots + 1);
        for (uint32_t i = 0; i < batch; i++) {
            struct ring_item item = {.kind = KIND_PLAIN, .a = 7, .b = b, .c = ~b};
            if (b % 16 == 0)
                item.ptr = parcel_new(0, 1, b);
            if (!ring_stage(h->ring, &item)) {
                free(item.ptr);
                break;
            }
            b++;
        }
        ring_publish(h->ring);
        if (!ring_has_room(h->ring))
            sched_yield();
    }
    atomic_store(&h->published, b);
    atomic_store(&h->done, true);
    return NULL;
}

static void hammer_consume(struct hammer *h, uint64_t end_ms)
{
    uint64_t random = 4;
    uint64_t b = 0;
    struct stress_watch watch = {0};
    for (;;) {
        const struct ring_item *items;
        bool done = atomic_load(&h->done);
        uint32_t n = ring_peek(h->ring, 1 + stress_random(&random, h->slots), &items);
        for (uint32_t i = 0; i < n; i++, b++) {
            STRESS_REQUIRE(items[i].b == b);
            STRESS_REQUIRE(items[i].c == ~b);
            STRESS_REQUIRE((items[i].ptr != NULL) == (b % 16 == 0));
            if (items[i].ptr != NULL)
                parcel_open(items[i].ptr, 0, 1, b);
        }
        ring_consume(h->ring, n);
        if (n > 0)
            continue;
        if (done && b == atomic_load(&h->published))
            break;
        STRESS_REQUIRE(!done || ring_count(h->ring) > 0);
        stress_watch(&watch, b, "hammer");
        if (stress_now_ms() >= end_ms)
            atomic_store(&h->stop, true);
        sched_yield();
    }
}

static void run_hammer(uint32_t slots, uint32_t ms)
{
    struct hammer h = {.ring = ring_new(slots), .slots = slots};
    pthread_t producer;
    STRESS_REQUIRE(h.ring != NULL);
    STRESS_REQUIRE(pthread_create(&producer, NULL, hammer_produce, &h) == 0);
    hammer_consume(&h, stress_now_ms() + ms);
    pthread_join(producer, NULL);
    printf("hammer    %5u slots: %llu items\n", slots, (unsigned long long)h.published);
    STRESS_REQUIRE(h.published > 0);
    ring_free(h.ring);
}

/* The duel --------------------------------------------------------------------------------------*/

struct duel {
    struct mesh_port *consumer;
    alignas(CORE_CACHE_LINE) _Atomic bool rung;
    alignas(CORE_CACHE_LINE) _Atomic uint64_t got;
    alignas(CORE_CACHE_LINE) _Atomic bool stop;
};

static void duel_on_wake(void *ctx, uint32_t from, uint32_t to)
{
    struct duel *d = ctx;
    STRESS_REQUIRE(from == 0);
    STRESS_REQUIRE(to == 1);
    atomic_store(&d->rung, true);
}

static void duel_on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct duel *d = ctx;
    STRESS_REQUIRE(from == 0);
    STRESS_REQUIRE(item->b == atomic_load(&d->got));
    atomic_store(&d->got, item->b + 1);
}

/* Spins, and gives the processor away now and then, should the other need it. */
static void spin(uint32_t *spins)
{
    if (++*spins % 512 == 0)
        sched_yield();
}

/* Up to about as long as an item takes from one thread to the other. */
static void linger(uint64_t *random)
{
    for (uint32_t n = stress_random(random, 1000); n > 0; n--)
        atomic_signal_fence(memory_order_seq_cst);
}

static void *duel_consume(void *arg)
{
    struct duel *d = arg;
    uint32_t spins = 0;
    uint64_t random = 10;
    while (!atomic_load_explicit(&d->stop, memory_order_relaxed)) {
        mesh_drain(d->consumer, duel_on_item, d);
        linger(&random);
        if (!mesh_may_sleep(d->consumer))
            continue;
        while (!atomic_load_explicit(&d->rung, memory_order_relaxed) &&
               !atomic_load_explicit(&d->stop, memory_order_relaxed))
            spin(&spins);
        atomic_store_explicit(&d->rung, false, memory_order_relaxed);
        mesh_awake(d->consumer);
    }
    return NULL;
}

static uint64_t duel_produce(struct duel *d, struct mesh_port *producer, uint64_t end_ms)
{
    uint64_t b = 0;
    uint64_t random = 9;
    uint32_t spins = 0;
    struct stress_watch watch = {0};
    while (b % 256 != 0 || stress_now_ms() < end_ms) {
        struct ring_item item = {.kind = KIND_PLAIN, .b = b};
        mesh_post(producer, 1, &item, 0);
        mesh_flush(producer);
        b++;
        while (atomic_load(&d->got) < b) {
            spin(&spins);
            if (spins % 65536 == 0)
                stress_watch(&watch, b, "duel");
        }
        linger(&random);
    }
    return b;
}

static void run_duel(uint32_t ms)
{
    struct duel d = {0};
    struct mesh *mesh;
    pthread_t consumer;
    struct mesh_config cfg = {.shards = 2, .ring_slots = 4, .wake = duel_on_wake, .ctx = &d};
    STRESS_REQUIRE(mesh_new(&cfg, &mesh) == 0);
    d.consumer = mesh_port(mesh, 1);
    STRESS_REQUIRE(pthread_create(&consumer, NULL, duel_consume, &d) == 0);
    uint64_t sent = duel_produce(&d, mesh_port(mesh, 0), stress_now_ms() + ms);
    atomic_store(&d.stop, true);
    pthread_join(consumer, NULL);
    STRESS_REQUIRE(atomic_load(&d.got) == sent);
    printf("duel      %5u slots: %llu items, %llu wakes\n", 4, (unsigned long long)sent,
           (unsigned long long)mesh_stats(mesh_port(mesh, 0))->wakes);
    mesh_free(mesh, NULL, NULL);
}

/* Shards ----------------------------------------------------------------------------------------*/

static void on_wake(void *ctx, uint32_t from, uint32_t to)
{
    struct node *node = ctx;
    STRESS_REQUIRE(from != to);
    stress_bell_ring(&node->shards[to].bell);
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct shard *s = ctx;
    uint64_t b = s->got[from]++;
    STRESS_REQUIRE(item->a == from);
    STRESS_REQUIRE(item->b == b);
    STRESS_REQUIRE(item->c == ~b);
    STRESS_REQUIRE((item->ptr != NULL) == (b % 16 == 0));
    if (item->ptr != NULL)
        parcel_open(item->ptr, from, s->number, b);
    if (item->kind == KIND_BURST_END)
        s->bursts_due++;
}

static void shard_post(struct shard *s, uint32_t to, uint32_t kind)
{
    uint64_t b = s->sent[to]++;
    struct ring_item item = {.kind = kind, .a = s->number, .b = b, .c = ~b};
    if (b % 16 == 0)
        item.ptr = parcel_new(s->number, to, b);
    mesh_post(s->port, to, &item, ITEM_BYTES);
}

static void shard_count(_Atomic uint64_t *total, uint64_t n)
{
    atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + n,
                          memory_order_release);
}

static uint32_t shard_any_other(struct shard *s)
{
    uint32_t count = s->node->shard_count;
    return (s->number + 1 + stress_random(&s->random, count - 1)) % count;
}

/* Posts a burst to one shard, with the mark on its last item. */
static void shard_send_burst(struct shard *s)
{
    uint32_t to = shard_any_other(s);
    uint32_t count = 1 + stress_random(&s->random, s->node->plan->ring_slots * 20);
    for (uint32_t i = 1; i < count; i++)
        shard_post(s, to, KIND_PLAIN);
    shard_post(s, to, KIND_BURST_END);
    shard_count(&s->sent_total, count);
}

/* Posts to everyone whose backlog is not too long. Returns whether anyone's was not. */
static bool shard_saturate(struct shard *s)
{
    bool any = false;
    for (uint32_t to = 0; to < s->node->shard_count; to++) {
        if (to == s->number || mesh_backlog_bytes(s->port, to) > BACKLOG_BYTES_MAX)
            continue;
        uint32_t count = 1 + stress_random(&s->random, 40);
        for (uint32_t i = 0; i < count; i++)
            shard_post(s, to, KIND_PLAIN);
        shard_count(&s->sent_total, count);
        any = true;
    }
    return any;
}

/* Returns whether the shard has reason to go on without an event. */
static bool shard_produce(struct shard *s)
{
    if (s->node->plan->mode != BURSTS)
        return !atomic_load(&s->node->stop) && shard_saturate(s);
    for (; s->bursts_due > 0 && !atomic_load(&s->node->stop); s->bursts_due--)
        shard_send_burst(s);
    return false;
}

static void *shard_run(void *arg)
{
    struct shard *s = arg;
    while (!atomic_load(&s->node->finish)) {
        while (atomic_load(&s->stands_still))
            stress_pause_ms(1);
        uint32_t n = mesh_drain(s->port, on_item, s);
        if (n > 0)
            shard_count(&s->got_total, n);
        bool busy = shard_produce(s);
        mesh_flush(s->port);
        STRESS_REQUIRE(!mesh_is_short(s->port));
        if (s->node->plan->mode == STOPPED && s->number == 0)
            stress_pause_ms(1);
        if (!busy && mesh_may_sleep(s->port)) {
            stress_bell_wait(&s->bell);
            mesh_awake(s->port);
        }
    }
    return NULL;
}

/* The node --------------------------------------------------------------------------------------*/

static uint64_t node_got(struct node *n, uint32_t first)
{
    uint64_t sum = 0;
    for (uint32_t i = first; i < n->shard_count; i++)
        sum += atomic_load(&n->shards[i].got_total);
    return sum;
}

static uint64_t node_sent(struct node *n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->shard_count; i++)
        sum += atomic_load(&n->shards[i].sent_total);
    return sum;
}

static void node_start(struct node *n, struct mesh *mesh)
{
    for (uint32_t i = 0; i < n->shard_count; i++) {
        struct shard *s = &n->shards[i];
        s->node = n;
        s->port = mesh_port(mesh, i);
        s->number = i;
        s->random = i + 1;
        s->bursts_due = i < (n->shard_count + 1) / 2; /* fewer tokens than shards */
        s->stands_still = n->plan->mode == STOPPED && i == 0;
        stress_bell_init(&s->bell);
    }
    for (uint32_t i = 0; i < n->shard_count; i++) {
        struct shard *s = &n->shards[i];
        STRESS_REQUIRE(pthread_create(&s->thread, NULL, shard_run, s) == 0);
    }
}

static void node_watch_until(struct node *n, uint64_t end_ms)
{
    struct stress_watch watch = {0};
    while (stress_now_ms() < end_ms) {
        stress_pause_ms(5);
        stress_watch(&watch, node_got(n, 0), n->plan->name);
    }
}

/* Everything sent must arrive without any help from here. */
static void node_settle(struct node *n)
{
    struct stress_watch watch = {0};
    atomic_store(&n->stop, true);
    while (node_got(n, 0) != node_sent(n)) {
        stress_pause_ms(1);
        stress_watch(&watch, node_got(n, 0), n->plan->name);
    }
    atomic_store(&n->finish, true);
    for (uint32_t i = 0; i < n->shard_count; i++)
        stress_bell_ring(&n->shards[i].bell);
    for (uint32_t i = 0; i < n->shard_count; i++)
        pthread_join(n->shards[i].thread, NULL);
}

/* Fetches what a shard has sent that had not seen the stop yet when all else had arrived. */
static void node_sweep(struct node *n)
{
    uint32_t moved = 1;
    while (moved > 0) {
        moved = 0;
        for (uint32_t i = 0; i < n->shard_count; i++) {
            mesh_flush(n->shards[i].port);
            moved += mesh_drain(n->shards[i].port, on_item, &n->shards[i]);
        }
    }
    for (uint32_t i = 0; i < n->shard_count; i++)
        stress_bell_deinit(&n->shards[i].bell);
}

static void on_leftover(void *ctx, const struct ring_item *item)
{
    (void)ctx;
    (void)item;
    STRESS_REQUIRE(!"an item is left in the mesh");
}

static void node_verify(struct node *n)
{
    uint64_t backlogged = 0;
    uint64_t wakes = 0;
    for (uint32_t i = 0; i < n->shard_count; i++) {
        const struct mesh_stats *st = mesh_stats(n->shards[i].port);
        backlogged += st->backlogged;
        wakes += st->wakes;
        STRESS_REQUIRE(st->backlog_items == 0);
        STRESS_REQUIRE(st->backlog_bytes == 0);
        for (uint32_t k = 0; k < n->shard_count; k++)
            STRESS_REQUIRE(n->shards[i].sent[k] == n->shards[k].got[i]);
    }
    STRESS_REQUIRE(backlogged > 0);
    STRESS_REQUIRE(wakes > 0);
    printf("%-9s %5u slots: %llu items, %llu through backlogs, %llu wakes\n", n->plan->name,
           n->plan->ring_slots, (unsigned long long)node_sent(n), (unsigned long long)backlogged,
           (unsigned long long)wakes);
}

/* While one shard stands still, the others go on. */
static void node_let_one_stand(struct node *n, uint32_t ms)
{
    uint64_t start_ms = stress_now_ms();
    node_watch_until(n, start_ms + ms / 2);
    uint64_t got = node_got(n, 1);
    node_watch_until(n, start_ms + ms);
    /* Of two shards, the other one has nobody else to talk to. */
    STRESS_REQUIRE(n->shard_count == 2 || node_got(n, 1) > got);
    STRESS_REQUIRE(atomic_load(&n->shards[0].got_total) == 0);
    atomic_store(&n->shards[0].stands_still, false);
}

static void run_plan(const struct plan *plan, uint32_t shard_count, uint32_t ms)
{
    static struct node node;
    struct mesh *mesh;
    memset(&node, 0, sizeof(node));
    node.plan = plan;
    node.shard_count = shard_count;
    struct mesh_config cfg = {
        .shards = shard_count, .ring_slots = plan->ring_slots, .wake = on_wake, .ctx = &node};
    STRESS_REQUIRE(mesh_new(&cfg, &mesh) == 0);
    node_start(&node, mesh);
    uint64_t end_ms = stress_now_ms() + ms;
    if (plan->mode == STOPPED)
        node_let_one_stand(&node, min_u32(ms / 3, STAND_STILL_MS_MAX));
    node_watch_until(&node, end_ms);
    node_settle(&node);
    node_sweep(&node);
    node_verify(&node);
    mesh_free(mesh, on_leftover, NULL);
}

int main(int argc, char **argv)
{
    static const uint32_t hammer_slots[] = {1, 8, 1024};
    static const struct plan plans[] = {
        {"saturate", SATURATE, 2}, {"saturate", SATURATE, 64}, {"stopped", STOPPED, 8},
        {"bursts", BURSTS, 1},     {"bursts", BURSTS, 4},
    };
    struct stress_args args = stress_parse(argc, argv, 4);
    uint32_t each_ms = args.total_ms / (ARRAY_LEN(hammer_slots) + 1 + ARRAY_LEN(plans));
    for (uint32_t i = 0; i < ARRAY_LEN(hammer_slots); i++)
        run_hammer(hammer_slots[i], each_ms);
    run_duel(each_ms);
    for (uint32_t i = 0; i < ARRAY_LEN(plans); i++)
        run_plan(&plans[i], args.shards, each_ms);
    return 0;
}
