/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/ring.h on one thread: what is visible when, order, bounds. tests/stress/stress_mesh.c does
 * the same with two. */

#include "core/ring.h"

#include <criterion/criterion.h>

static struct ring_item item(uint64_t n)
{
    return (struct ring_item){.kind = 1, .a = (uint32_t)n, .b = n, .c = ~n, .ptr = NULL};
}

static void check_item(const struct ring_item *i, uint64_t n)
{
    cr_assert_eq(i->b, n);
    cr_assert_eq(i->c, ~n);
}

static bool stage(struct ring *r, uint64_t n)
{
    struct ring_item i = item(n);
    return ring_stage(r, &i);
}

/* Lets the counters go round 2^32 soon. */
static void start_at(struct ring *r, uint32_t position)
{
    atomic_store(&r->head, position);
    atomic_store(&r->tail, position);
    r->staged = position;
    r->tail_seen = position;
    r->head_seen = position;
}

Test(ring, holds_exactly_its_slots)
{
    for (uint32_t slots = 1; slots <= 4096; slots *= 2) {
        struct ring *r = ring_new(slots);
        for (uint32_t i = 0; i < slots; i++)
            cr_assert(stage(r, i));
        cr_assert_not(ring_has_room(r));
        cr_assert_not(stage(r, slots));
        cr_assert(ring_publish(r));
        cr_assert_eq(ring_count(r), slots);
        cr_assert_not(stage(r, slots), "published is not drained");
        ring_free(r);
    }
}

Test(ring, shows_nothing_before_it_is_published)
{
    struct ring *r = ring_new(8);
    const struct ring_item *items;
    cr_assert_not(ring_publish(r));
    cr_assert(stage(r, 0));
    cr_assert(stage(r, 1));
    cr_assert_eq(ring_peek(r, 8, &items), 0);
    cr_assert_eq(ring_count(r), 0);
    cr_assert(ring_publish(r));
    cr_assert_not(ring_publish(r));
    cr_assert(stage(r, 2));
    cr_assert_eq(ring_peek(r, 8, &items), 2);
    check_item(&items[0], 0);
    check_item(&items[1], 1);
    ring_free(r);
}

Test(ring, peek_sees_what_was_published_meanwhile)
{
    struct ring *r = ring_new(8);
    const struct ring_item *items;
    for (uint32_t i = 0; i < 8; i++) {
        cr_assert(stage(r, i));
        ring_publish(r);
        cr_assert_eq(ring_peek(r, 8, &items), i + 1);
    }
    ring_free(r);
}

Test(ring, a_slot_is_free_again_only_when_it_is_consumed)
{
    struct ring *r = ring_new(2);
    const struct ring_item *items;
    stage(r, 0);
    stage(r, 1);
    ring_publish(r);
    cr_assert_eq(ring_peek(r, 2, &items), 2);
    cr_assert_not(stage(r, 2));
    ring_consume(r, 1);
    cr_assert(ring_has_room(r));
    cr_assert(stage(r, 2));
    cr_assert_not(stage(r, 3));
    ring_free(r);
}

Test(ring, peek_stops_at_the_end_of_the_array_and_at_max)
{
    for (uint32_t offset = 0; offset < 8; offset++) {
        for (uint32_t max = 1; max <= 8; max++) {
            struct ring *r = ring_new(8);
            const struct ring_item *items;
            start_at(r, offset);
            for (uint32_t i = 0; i < 8; i++)
                stage(r, i);
            ring_publish(r);
            for (uint32_t seen = 0; seen < 8;) {
                uint32_t n = ring_peek(r, max, &items);
                uint32_t to_end = 8 - ((offset + seen) & 7);
                cr_assert_eq(n, min_u32(min_u32(max, 8 - seen), to_end));
                for (uint32_t i = 0; i < n; i++)
                    check_item(&items[i], seen + i);
                ring_consume(r, n);
                seen += n;
            }
            ring_free(r);
        }
    }
}

/* Random batches on both sides, the counters wrapping on the way. */
static void check_flow(uint32_t slots, uint64_t state)
{
    struct ring *r = ring_new(slots);
    uint64_t staged = 0;
    uint64_t published = 0;
    uint64_t drained = 0;
    start_at(r, UINT32_MAX - 1000);
    for (uint32_t step = 0; step < 20000; step++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t n = (uint32_t)(state >> 40) % (slots + 2);
        switch (state >> 33 & 3) {
        case 0:
            for (; n > 0 && stage(r, staged); n--)
                staged++;
            cr_assert(n == 0 || staged - drained == slots);
            break;
        case 1:
            cr_assert_eq(ring_publish(r), staged > published);
            published = staged;
            break;
        default: {
            const struct ring_item *items;
            uint32_t got = ring_peek(r, n, &items);
            cr_assert(got > 0 || n == 0 || drained == published);
            for (uint32_t i = 0; i < got; i++)
                check_item(&items[i], drained++);
            cr_assert_leq(drained, published);
            ring_consume(r, got);
        }
        }
        cr_assert_eq(ring_count(r), published - drained);
    }
    cr_assert_gt(drained, 1000);
    ring_free(r);
}

Test(ring, keeps_order_and_loses_nothing_whatever_the_batches)
{
    for (uint32_t slots = 1; slots <= 256; slots *= 2)
        check_flow(slots, slots + 11);
}
