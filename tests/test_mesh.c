/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/mesh.h with all shards on one thread, so that every interleaving of calls is ours to choose;
 * tests/stress/stress_mesh.c has the interleavings within a call. The module is compiled into this
 * program so that its allocations can be failed. */

#include "core/mesh.h"

#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include <criterion/criterion.h>

static long allocs_until_failure = -1; /* -1: never */
static long failures_left;             /* how many fail from then on */

static bool alloc_fails(void)
{
    if (allocs_until_failure < 0)
        return false;
    if (allocs_until_failure > 0) {
        allocs_until_failure--;
        return false;
    }
    if (failures_left-- > 0)
        return true;
    allocs_until_failure = -1;
    return false;
}

static void *test_malloc(size_t bytes)
{
    return alloc_fails() ? NULL : malloc(bytes);
}

static void *test_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    return alloc_fails() ? MAP_FAILED : mmap(at, bytes, prot, flags, fd, offset);
}

#define malloc test_malloc
#define mmap test_mmap
#include "core/mesh.c" /* NOLINT(bugprone-suspicious-include): see above */
#include "core/ring.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef malloc
#undef mmap

#define SHARDS_MOST MESH_SHARDS_MAX

static struct mesh *mesh;
static uint32_t bells[SHARDS_MOST];    /* rung for each shard */
static uint32_t bells_by[SHARDS_MOST]; /* rung by each shard */
static uint64_t next_b[SHARDS_MOST];   /* next item expected from each shard, by one_drain() */

static void on_wake(void *ctx, uint32_t from, uint32_t to)
{
    cr_assert_eq(ctx, &mesh);
    bells_by[from]++;
    bells[to]++;
}

static int try_start(uint32_t shards, uint32_t slots)
{
    struct mesh_config cfg = {.shards = shards, .ring_slots = slots, .wake = on_wake, .ctx = &mesh};
    memset(bells, 0, sizeof(bells));
    memset(bells_by, 0, sizeof(bells_by));
    memset(next_b, 0, sizeof(next_b));
    return mesh_new(&cfg, &mesh);
}

static void start(uint32_t shards, uint32_t slots)
{
    cr_assert_eq(try_start(shards, slots), 0);
}

static struct mesh_port *port(uint32_t shard)
{
    return mesh_port(mesh, shard);
}

static void post(uint32_t from, uint32_t to, uint64_t b)
{
    struct ring_item i = {.kind = 1, .a = from, .b = b, .c = ~b, .ptr = NULL};
    mesh_post(port(from), to, &i, 10);
}

static void post_many(uint32_t from, uint32_t to, uint64_t first, uint64_t count)
{
    for (uint64_t b = first; b < first + count; b++)
        post(from, to, b);
}

static void on_item(void *ctx, uint32_t from, const struct ring_item *i)
{
    (void)ctx;
    cr_assert_eq(i->a, from);
    cr_assert_eq(i->b, next_b[from]);
    cr_assert_eq(i->c, ~i->b);
    next_b[from]++;
}

/* Drains and checks the order of each producer. */
static uint32_t drain(uint32_t shard)
{
    return mesh_drain(port(shard), on_item, NULL);
}

Test(mesh, items_show_after_the_flush_in_the_order_posted)
{
    start(3, 8);
    post_many(0, 2, 0, 3);
    post_many(1, 2, 0, 2);
    cr_assert_eq(drain(2), 0);
    mesh_flush(port(0));
    cr_assert_eq(drain(2), 3);
    mesh_flush(port(1));
    cr_assert_eq(drain(2), 2);
    cr_assert_eq(drain(2), 0);
    cr_assert_eq(next_b[0], 3);
    cr_assert_eq(next_b[1], 2);
    cr_assert_eq(mesh_stats(port(2))->drained, 5);
    cr_assert_eq(mesh_stats(port(0))->posted, 3);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, a_ring_is_made_when_a_pair_first_talks)
{
    start(4, 0);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert_eq(mesh_stats(port(i))->rings, 0);
    post(0, 3, 0);
    post(0, 3, 1);
    cr_assert_eq(mesh_stats(port(0))->rings, 1);
    post(0, 2, 0);
    cr_assert_eq(mesh_stats(port(0))->rings, 2);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, every_pair_of_many_shards_is_told_apart)
{
    static const uint32_t some[] = {0, 1, 62, 63, 64, 65, 127, 128, 191, 192, 254, 255};
    start(256, 4);
    for (uint32_t i = 0; i < ARRAY_LEN(some); i++) {
        for (uint32_t k = 0; k < ARRAY_LEN(some); k++) {
            if (i != k)
                post(some[i], some[k], 0);
        }
        mesh_flush(port(some[i]));
    }
    for (uint32_t to = 0; to < 256; to++) {
        memset(next_b, 0, sizeof(next_b));
        uint32_t got = drain(to);
        uint32_t expected = 0;
        for (uint32_t i = 0; i < ARRAY_LEN(some); i++) {
            expected += some[i] == to ? ARRAY_LEN(some) - 1 : 0;
            cr_assert(next_b[some[i]] <= 1);
        }
        cr_assert_eq(got, expected);
    }
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, what_finds_no_room_follows_through_the_backlog)
{
    start(2, 4);
    post_many(0, 1, 0, 1000);
    cr_assert_eq(mesh_backlog_bytes(port(0), 1), 9960);
    cr_assert_eq(mesh_stats(port(0))->backlog_items, 996);
    cr_assert_eq(mesh_stats(port(0))->backlog_bytes, 9960);
    for (uint64_t expected = 0; expected < 1000; expected += 4) {
        mesh_flush(port(0));
        cr_assert_eq(drain(1), 4);
        cr_assert_eq(next_b[0], expected + 4);
    }
    cr_assert_eq(mesh_backlog_bytes(port(0), 1), 0);
    cr_assert_eq(mesh_stats(port(0))->backlog_items, 0);
    cr_assert_eq(mesh_stats(port(0))->backlogged, 996);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, nothing_overtakes_a_backlog_when_there_is_room_again)
{
    start(2, 4);
    post_many(0, 1, 0, 6);
    mesh_flush(port(0));
    cr_assert_eq(drain(1), 4);
    post_many(0, 1, 6, 1); /* the ring is empty, yet 4 and 5 come first */
    cr_assert_eq(mesh_stats(port(0))->backlog_items, 3);
    mesh_flush(port(0));
    cr_assert_eq(drain(1), 3);
    post_many(0, 1, 7, 1);
    cr_assert_eq(mesh_stats(port(0))->backlogged, 3, "the backlog is over");
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, a_full_pair_holds_up_no_other)
{
    start(3, 2);
    post_many(0, 1, 0, 500);
    post_many(0, 2, 0, 1);
    mesh_flush(port(0));
    cr_assert_eq(drain(2), 1);
    cr_assert_eq(mesh_backlog_bytes(port(0), 2), 0);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, one_bell_for_a_sleeper_and_none_for_who_is_awake)
{
    start(4, 8);
    cr_assert(mesh_may_sleep(port(3)));
    for (uint32_t from = 0; from < 3; from++) {
        post_many(from, 3, 0, 2);
        post_many(from, (from + 1) % 3, 0, 1);
        mesh_flush(port(from));
    }
    cr_assert_eq(bells[3], 1);
    cr_assert_eq(bells[0] + bells[1] + bells[2], 0);
    cr_assert_eq(bells_by[0], 1);
    cr_assert_eq(mesh_stats(port(0))->wakes, 1);
    mesh_awake(port(3));
    post(0, 3, 2);
    mesh_flush(port(0));
    cr_assert_eq(bells[3], 1);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, who_has_items_does_not_sleep)
{
    start(2, 8);
    post(0, 1, 0);
    mesh_flush(port(0));
    cr_assert_not(mesh_may_sleep(port(1)));
    cr_assert_eq(drain(1), 1);
    cr_assert(mesh_may_sleep(port(1)));
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, who_has_staged_items_does_not_sleep)
{
    start(2, 8);
    post(0, 1, 0);
    cr_assert_not(mesh_may_sleep(port(0)));
    mesh_flush(port(0));
    cr_assert(mesh_may_sleep(port(0)));
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, a_producer_with_a_backlog_sleeps_and_is_woken_for_room)
{
    start(2, 4);
    post_many(0, 1, 0, 20);
    mesh_flush(port(0));
    for (uint32_t rounds = 1; rounds <= 4; rounds++) {
        cr_assert(mesh_may_sleep(port(0)), "no room: nothing to do");
        cr_assert_eq(drain(1), 4);
        cr_assert_eq(bells[0], rounds);
        mesh_awake(port(0));
        mesh_flush(port(0));
    }
    cr_assert(mesh_may_sleep(port(0)));
    cr_assert_eq(drain(1), 4);
    cr_assert_eq(bells[0], 4, "no backlog, no bell");
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, a_drain_while_the_producer_is_awake_does_not_spend_its_wake)
{
    start(2, 4);
    post_many(0, 1, 0, 20);
    mesh_flush(port(0));
    cr_assert_eq(drain(1), 4);
    mesh_flush(port(0)); /* fills the room at once */
    cr_assert(mesh_may_sleep(port(0)));
    cr_assert_eq(drain(1), 4);
    cr_assert_eq(bells[0], 1);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, a_producer_with_a_backlog_and_room_does_not_sleep)
{
    start(2, 4);
    post_many(0, 1, 0, 20);
    mesh_flush(port(0));
    cr_assert_eq(drain(1), 4);
    cr_assert_not(mesh_may_sleep(port(0)));
    mesh_free(mesh, NULL, NULL);
}

static uint32_t answers;

static void post_more(void *ctx, uint32_t from, const struct ring_item *i)
{
    on_item(ctx, from, i);
    post(0, 2, answers);
    post(1, 2, answers++);
    mesh_flush(port(0));
    mesh_flush(port(1));
}

Test(mesh, a_drain_hands_over_only_what_was_there_when_it_began)
{
    start(3, 64);
    post(0, 2, answers);
    post(1, 2, answers++);
    mesh_flush(port(0));
    mesh_flush(port(1));
    for (uint32_t expected = 2; expected <= 16; expected *= 2)
        cr_assert_eq(mesh_drain(port(2), post_more, NULL), expected);
    mesh_free(mesh, NULL, NULL);
}

static void post_answer(void *ctx, uint32_t from, const struct ring_item *i)
{
    on_item(ctx, from, i);
    post(1, from, i->b);
}

Test(mesh, a_callback_may_post)
{
    start(2, 4);
    post_many(0, 1, 0, 4);
    mesh_flush(port(0));
    cr_assert_eq(mesh_drain(port(1), post_answer, NULL), 4);
    mesh_flush(port(1));
    cr_assert_eq(drain(0), 4);
    cr_assert_eq(next_b[1], 4);
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, one_shard_costs_nothing)
{
    start(1, 0);
    cr_assert_leq(mesh->mapped_bytes, 8192);
    cr_assert_eq(drain(0), 0);
    mesh_flush(port(0));
    cr_assert(mesh_may_sleep(port(0)));
    mesh_awake(port(0));
    mesh_free(mesh, NULL, NULL);
}

Test(mesh, idle_shards_hold_no_more_than_their_tables)
{
    start(64, 0);
    size_t pages = (mesh->mapped_bytes + MESH_PAGE - 1) / MESH_PAGE;
    unsigned char *resident = calloc(pages, 1);
    cr_assert_eq(mincore(mesh, mesh->mapped_bytes, resident), 0);
    uint32_t count = 0;
    for (size_t i = 0; i < pages; i++)
        count += resident[i] & 1;
    cr_assert_leq(count, 64 + 1);
    free(resident);
    mesh_free(mesh, NULL, NULL);
}

static uint64_t dropped;

static void on_drop(void *ctx, const struct ring_item *i)
{
    cr_assert_eq(ctx, &dropped);
    cr_assert_eq(i->b, dropped);
    dropped++;
}

Test(mesh, freeing_drops_what_is_left_in_order)
{
    start(2, 8);
    post_many(0, 1, 0, 5); /* published */
    mesh_flush(port(0));
    post_many(0, 1, 5, 995); /* staged, then a backlog of several chunks */
    mesh_free(mesh, on_drop, &dropped);
    cr_assert_eq(dropped, 1000);
}

Test(mesh, making_it_without_memory_fails)
{
    allocs_until_failure = 0;
    failures_left = 1;
    cr_assert_eq(try_start(4, 0), -ENOMEM);
}

/* From the nth allocation on, `failures` fail. Nothing posted may be lost or change its place. */
static bool survives(long nth, long failures)
{
    start(3, 4);
    allocs_until_failure = nth;
    failures_left = failures;
    bool was_short = false;
    for (uint64_t b = 0; b < 2000; b += 100) {
        post_many(0, 1, b, 100);
        post_many(0, 2, b, 1);
        was_short |= mesh_is_short(port(0));
        mesh_flush(port(0));
        was_short |= mesh_is_short(port(0));
        (void)drain(1);
    }
    bool reached = allocs_until_failure < 0 || failures_left < failures;
    cr_assert_eq(was_short, reached);
    allocs_until_failure = -1;
    for (uint32_t i = 0; i < 600; i++) {
        mesh_flush(port(0));
        (void)drain(1);
    }
    cr_assert_not(mesh_is_short(port(0)));
    cr_assert_eq(next_b[0], 2000);
    cr_assert_eq(port(0)->reserve_count >= MESH_RESERVE_CHUNKS, true);
    mesh_free(mesh, NULL, NULL);
    return reached;
}

Test(mesh, loses_nothing_when_any_allocation_fails)
{
    long nth = 0;
    while (survives(nth, 1))
        nth++;
    cr_assert_gt(nth, 10);
}

Test(mesh, lives_on_its_reserve_when_all_allocations_fail)
{
    for (long nth = 0; nth < 20; nth++)
        survives(nth, 1000000);
}

Test(mesh, a_reserve_once_used_is_filled_again)
{
    start(2, 4);
    for (uint32_t round = 0; round < 3; round++) {
        allocs_until_failure = 0;
        failures_left = 1000000;
        post_many(0, 1, round * 6000ULL, 6000);
        cr_assert(mesh_is_short(port(0)));
        mesh_flush(port(0));
        cr_assert_eq(mesh_is_short(port(0)), port(0)->reserve_count < MESH_RESERVE_CHUNKS);
        cr_assert(round > 0 || mesh_is_short(port(0)));
        allocs_until_failure = -1;
        do
            mesh_flush(port(0));
        while (drain(1) > 0);
        cr_assert_not(mesh_is_short(port(0)));
        cr_assert_eq(next_b[0], (round + 1) * 6000ULL);
    }
    cr_assert_gt(mesh_stats(port(0))->short_of_memory, 0);
    mesh_free(mesh, NULL, NULL);
}

/* Four shards take random steps; who sleeps does nothing until a bell. When all sleep, everything
 * must have arrived: any lost wake leaves something behind. */
struct sleeper {
    bool asleep;
    uint32_t bells_seen;
    uint64_t posted[4];
    uint64_t got[4];
};

static struct sleeper sleepers[4];
static uint32_t draining;

static void on_random_item(void *ctx, uint32_t from, const struct ring_item *i)
{
    (void)ctx;
    cr_assert_eq(i->b, sleepers[draining].got[from]);
    sleepers[draining].got[from]++;
}

static void random_step(uint32_t s, uint64_t random, bool may_post)
{
    struct sleeper *me = &sleepers[s];
    if (me->asleep) {
        if (me->bells_seen == bells[s])
            return;
        me->bells_seen = bells[s];
        me->asleep = false;
        mesh_awake(port(s));
    }
    uint32_t count = may_post ? (uint32_t)(random >> 40) % 12 : 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to = (s + 1 + (uint32_t)(random >> 50) % 3) & 3;
        post(s, to, me->posted[to]++);
    }
    draining = s;
    if ((random >> 36 & 3) != 0)
        mesh_drain(port(s), on_random_item, NULL);
    mesh_flush(port(s));
    if ((random >> 38 & 1) == 0)
        me->asleep = mesh_may_sleep(port(s));
}

static bool all_sleep(void)
{
    uint32_t asleep = 0;
    for (uint32_t s = 0; s < 4; s++)
        asleep += sleepers[s].asleep && sleepers[s].bells_seen == bells[s];
    return asleep == 4;
}

Test(mesh, when_all_sleep_everything_has_arrived)
{
    uint64_t random = 5;
    for (uint32_t round = 0; round < 300; round++) {
        start(4, 1u << (round % 4));
        memset(sleepers, 0, sizeof(sleepers));
        for (uint32_t step = 0; step < 400 || !all_sleep(); step++) {
            cr_assert_lt(step, 20000);
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            random_step((uint32_t)(random >> 33) & 3, random, step < 400);
        }
        for (uint32_t s = 0; s < 4; s++) {
            for (uint32_t to = 0; to < 4; to++)
                cr_assert_eq(sleepers[to].got[s], sleepers[s].posted[to]);
        }
        mesh_free(mesh, NULL, NULL);
    }
}
