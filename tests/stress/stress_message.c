/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Messages on their way through real threads: made on their origin, passed with their counter to a
 * home, given to some shards, held there in runs for a while, given back, and freed where they were
 * made. Everyone who sees a message checks all of its bytes; in the end every pool must be empty.
 * Meant for ThreadSanitizer, which sees whoever writes what another may still read. */

#include <string.h>

#include "core/mesh.h"
#include "core/message.h"
#include "tests/stress/stress.h"

enum kind {
    KIND_PUBLISH = 1, /* origin to home: the message and its counter */
    KIND_DELIVER,     /* home to a shard: one reference */
    KIND_RELEASE,     /* shard to home: one reference back */
    KIND_RETURN,      /* home to origin: nobody holds it any more */
};

#define RING_SLOTS 16
#define UNRETURNED_MAX 300
#define HELD_MAX 64
_Static_assert(HELD_MAX < UNRETURNED_MAX, "or all shards could wait for each other");

struct node;

struct shard {
    alignas(CORE_CACHE_LINE) struct node *node;
    struct mesh_port *port;
    struct message_pool pool;
    struct stress_bell bell;
    pthread_t thread;
    uint32_t number;
    uint64_t random;
    uint32_t unreturned;        /* own messages on their way */
    struct run *held[HELD_MAX]; /* runs in use, oldest overwritten first */
    uint32_t held_next;
    alignas(CORE_CACHE_LINE) _Atomic uint64_t made_total; /* written by the shard, read by main */
    _Atomic uint64_t freed_total;
    _Atomic bool has_stopped; /* publishes no more */
};

struct node {
    struct shard shards[STRESS_SHARDS_MAX];
    uint32_t shard_count;
    _Atomic bool stop;
    _Atomic bool finish;
};

static void count_up(_Atomic uint64_t *total)
{
    atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + 1,
                          memory_order_release);
}

static void post(struct shard *s, uint32_t to, uint32_t kind, struct message *m)
{
    struct ring_item item = {.kind = kind, .ptr = m};
    mesh_post(s->port, to, &item, m->payload_len);
}

/* Contents
 * ---------------------------------------------------------------------------------------*/

/* Mostly short, sometimes long, now and then larger than any class. */
static uint32_t random_len(struct shard *s)
{
    switch (stress_random(&s->random, 32)) {
    case 0:
        return stress_random(&s->random, 100000);
    case 1:
    case 2:
        return stress_random(&s->random, 5000);
    default:
        return stress_random(&s->random, 300);
    }
}

static void fill(struct shard *s, struct message *m)
{
    memset(message_payload(m), (int)(m->payload_len * 7 + s->number), m->payload_len);
    memset(message_payload(m) - 4, 'H', 4);
    m->head_len = 4;
    m->seq = ~(uint64_t)m->payload_len;
}

static void check_bytes(const struct run *r)
{
    const struct message *m = r->message;
    uint8_t expected = (uint8_t)(m->payload_len * 7 + m->origin);
    uint32_t wrong = 0;
    STRESS_REQUIRE(m->seq == ~(uint64_t)m->payload_len);
    STRESS_REQUIRE(r->len == m->payload_len + 4);
    STRESS_REQUIRE(memcmp(r->bytes, "HHHH", 4) == 0);
    for (uint32_t i = 4; i < r->len; i++)
        wrong += r->bytes[i] != expected;
    STRESS_REQUIRE(wrong == 0);
}

/* Ending: the last use, the last shard, the origin
 * ------------------------------------------------*/

static void free_own(struct shard *s, struct message *m)
{
    STRESS_REQUIRE(m->origin == s->number);
    STRESS_REQUIRE(m->refs == 0);
    message_free(&s->pool, m);
    s->unreturned--;
    count_up(&s->freed_total);
}

static void unref_at_home(struct shard *s, struct message *m)
{
    STRESS_REQUIRE(m->home == s->number);
    STRESS_REQUIRE(m->refs > 0);
    if (--m->refs > 0)
        return;
    if (m->origin == s->number)
        free_own(s, m);
    else
        post(s, m->origin, KIND_RETURN, m);
}

static void release(struct shard *s, struct message *m)
{
    if (m->home == s->number)
        unref_at_home(s, m);
    else
        post(s, m->home, KIND_RELEASE, m);
}

static void end_use(struct shard *s, struct run *r)
{
    check_bytes(r);
    STRESS_REQUIRE(r->uses > 0);
    if (--r->uses == 0)
        release(s, run_end(&s->pool, r));
}

/* Passing on
 * --------------------------------------------------------------------------------------*/

/* Puts the run into one or two places of held[], in place of older ones. */
static void hold(struct shard *s, struct message *m)
{
    struct run *r = run_new(&s->pool, m);
    STRESS_REQUIRE(r != NULL);
    check_bytes(r);
    uint32_t uses = 1 + stress_random(&s->random, 2);
    for (uint32_t i = 0; i < uses; i++) {
        struct run **place = &s->held[s->held_next++ % HELD_MAX];
        if (i > 0)
            run_ref(r);
        if (*place != NULL)
            end_use(s, *place);
        *place = r;
    }
}

static void fan_out(struct shard *s, struct message *m)
{
    uint32_t count = s->node->shard_count;
    uint32_t interested = stress_random(&s->random, 1u << count);
    bool own = interested >> s->number & 1;
    m->refs = (uint32_t)__builtin_popcount(interested) + 1; /* one until all are posted */
    for (uint32_t to = 0; to < count; to++) {
        if (to != s->number && (interested >> to & 1))
            post(s, to, KIND_DELIVER, m);
    }
    if (own)
        hold(s, m);
    unref_at_home(s, m);
}

static void publish(struct shard *s)
{
    struct message *m = message_new(&s->pool, random_len(s));
    STRESS_REQUIRE(m != NULL);
    STRESS_REQUIRE(m->refs == 1);
    fill(s, m);
    s->unreturned++;
    count_up(&s->made_total);
    m->home = (uint16_t)stress_random(&s->random, s->node->shard_count);
    if (m->home == s->number)
        fan_out(s, m);
    else
        post(s, m->home, KIND_PUBLISH, m);
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *item)
{
    struct shard *s = ctx;
    struct message *m = item->ptr;
    switch (item->kind) {
    case KIND_PUBLISH:
        STRESS_REQUIRE(m->origin == from);
        fan_out(s, m);
        break;
    case KIND_DELIVER:
        STRESS_REQUIRE(m->home == from);
        hold(s, m);
        break;
    case KIND_RELEASE:
        unref_at_home(s, m);
        break;
    default:
        STRESS_REQUIRE(item->kind == KIND_RETURN);
        free_own(s, m);
    }
}

/* Shards
 * ------------------------------------------------------------------------------------------*/

static void let_go(struct shard *s)
{
    for (uint32_t i = 0; i < HELD_MAX; i++) {
        struct run *r = s->held[i];
        s->held[i] = NULL;
        if (r != NULL)
            end_use(s, r);
    }
}

static void *shard_run(void *arg)
{
    struct shard *s = arg;
    while (!atomic_load(&s->node->finish)) {
        bool stop = atomic_load(&s->node->stop);
        mesh_drain(s->port, on_item, s);
        if (stop)
            let_go(s);
        for (uint32_t i = 0; i < 20 && !stop && s->unreturned < UNRETURNED_MAX; i++)
            publish(s);
        atomic_store(&s->has_stopped, stop);
        mesh_flush(s->port);
        if ((stop || s->unreturned == UNRETURNED_MAX) && mesh_may_sleep(s->port)) {
            stress_bell_wait(&s->bell);
            mesh_awake(s->port);
        }
    }
    return NULL;
}

static void on_wake(void *ctx, uint32_t from, uint32_t to)
{
    struct node *n = ctx;
    STRESS_REQUIRE(from != to);
    stress_bell_ring(&n->shards[to].bell);
}

static void node_start(struct node *n, struct mesh *mesh)
{
    for (uint32_t i = 0; i < n->shard_count; i++) {
        struct shard *s = &n->shards[i];
        s->node = n;
        s->port = mesh_port(mesh, i);
        s->number = i;
        s->random = i + 100;
        message_pool_init(&s->pool, (uint16_t)i);
        stress_bell_init(&s->bell);
    }
    for (uint32_t i = 0; i < n->shard_count; i++) {
        struct shard *s = &n->shards[i];
        STRESS_REQUIRE(pthread_create(&s->thread, NULL, shard_run, s) == 0);
    }
}

static uint64_t node_sum(struct node *n, bool freed)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->shard_count; i++)
        sum += atomic_load(freed ? &n->shards[i].freed_total : &n->shards[i].made_total);
    return sum;
}

static void ring_all(struct node *n)
{
    for (uint32_t i = 0; i < n->shard_count; i++)
        stress_bell_ring(&n->shards[i].bell);
}

static bool node_has_stopped(struct node *n)
{
    uint32_t stopped = 0;
    for (uint32_t i = 0; i < n->shard_count; i++)
        stopped += atomic_load(&n->shards[i].has_stopped);
    return stopped == n->shard_count;
}

/* Lets them publish for a while; then everything must come home without any help from here. The
 * shards never all wait for their messages: all that can be held is less than one's allowance for
 * each of them. */
static void node_run(struct node *n, uint32_t ms)
{
    struct stress_watch watch = {0};
    uint64_t end_ms = stress_now_ms() + ms;
    while (stress_now_ms() < end_ms) {
        stress_pause_ms(5);
        stress_watch(&watch, node_sum(n, true), "publishing");
    }
    atomic_store(&n->stop, true);
    ring_all(n);
    while (!node_has_stopped(n) || node_sum(n, false) != node_sum(n, true)) {
        stress_pause_ms(1);
        stress_watch(&watch, node_sum(n, true), "coming home");
    }
    atomic_store(&n->finish, true);
    ring_all(n);
}

static void on_leftover(void *ctx, const struct ring_item *item)
{
    (void)ctx;
    (void)item;
    STRESS_REQUIRE(!"an item is left in the mesh");
}

/* Everything has come home: every pool is empty. */
static void shard_verify(struct shard *s)
{
    STRESS_REQUIRE(s->unreturned == 0);
    message_pool_trim(&s->pool); /* what is kept for the next messages counts as used */
    STRESS_REQUIRE(s->pool.runs.used == 0);
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        STRESS_REQUIRE(s->pool.classes[k].used == 0);
    STRESS_REQUIRE(s->pool.large_now == 0);
    STRESS_REQUIRE(s->pool.large_bytes == 0);
    message_pool_deinit(&s->pool);
    stress_bell_deinit(&s->bell);
}

int main(int argc, char **argv)
{
    static struct node node;
    struct mesh *mesh;
    struct stress_args args = stress_parse(argc, argv, 4);
    struct mesh_config cfg = {
        .shards = args.shards, .ring_slots = RING_SLOTS, .wake = on_wake, .ctx = &node};
    node.shard_count = args.shards;
    STRESS_REQUIRE(mesh_new(&cfg, &mesh) == 0);
    node_start(&node, mesh);
    node_run(&node, args.total_ms);
    for (uint32_t i = 0; i < node.shard_count; i++)
        pthread_join(node.shards[i].thread, NULL);
    for (uint32_t i = 0; i < node.shard_count; i++)
        shard_verify(&node.shards[i]);
    printf("%llu messages made, spread and brought home\n",
           (unsigned long long)node_sum(&node, true));
    STRESS_REQUIRE(node_sum(&node, true) > 0);
    mesh_free(mesh, on_leftover, NULL);
    return 0;
}
