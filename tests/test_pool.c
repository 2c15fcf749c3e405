/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/pool.h: layout, order of filling, bounds, handles, giving back, and every failing
 * allocation. The module is compiled into this program so that its allocations can be failed. */

#include "core/pool.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include <criterion/criterion.h>

static long allocs_until_failure = -1; /* -1: never */
static uint32_t maps_made;

static bool alloc_fails(void)
{
    return allocs_until_failure >= 0 && allocs_until_failure-- == 0;
}

static void *test_realloc(void *p, size_t bytes)
{
    return alloc_fails() ? NULL : realloc(p, bytes);
}

static void *test_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    maps_made++;
    return alloc_fails() ? MAP_FAILED : mmap(at, bytes, prot, flags, fd, offset);
}

#define realloc test_realloc
#define mmap test_mmap
#include "core/pool.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef realloc
#undef mmap

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % n);
}

static void release_all(struct pool *p)
{
    uint32_t index = 0;
    void *slot;
    while ((slot = pool_next(p, &index)) != NULL)
        pool_release(p, slot);
}

Test(pool, maps_nothing_before_the_first_acquire)
{
    struct pool p;
    pool_init(&p, "test", 100, 0, 0);
    cr_assert_eq(maps_made, 0);
    cr_assert_eq(pool_mapped_bytes(&p), 0);
    void *slot = pool_acquire(&p);
    cr_assert_not_null(slot);
    cr_assert_eq(pool_mapped_bytes(&p), 64u << 10);
    pool_release(&p, slot);
    pool_deinit(&p);
    cr_assert_eq(pool_mapped_bytes(&p), 0);
}

Test(pool, slots_are_aligned_and_do_not_overlap)
{
    struct pool p;
    pool_init(&p, "test", 40, 0, 4096);
    uint8_t *slots[400];
    for (uint32_t i = 0; i < 400; i++) {
        slots[i] = pool_acquire(&p);
        cr_assert_not_null(slots[i]);
        cr_assert_eq((uintptr_t)slots[i] % 16, 0);
        memset(slots[i], (int)(i % 251), 40);
    }
    for (uint32_t i = 0; i < 400; i++) {
        for (uint32_t k = 0; k < 40; k++)
            cr_assert_eq(slots[i][k], i % 251);
        pool_release(&p, slots[i]);
    }
    pool_deinit(&p);
}

/* Fills one chunk and asks for each slot's name. */
static void check_indices(uint32_t slot_bytes, uint32_t chunk_bytes)
{
    struct pool p;
    pool_init(&p, "test", slot_bytes, 1u << POOL_INDEX_BITS, chunk_bytes);
    for (uint32_t i = 0; i < p.per_chunk; i++) {
        void *slot = pool_acquire(&p);
        cr_assert_eq(pool_handle(&p, slot), 1u << POOL_INDEX_BITS | i, "%u of %u bytes", i,
                     slot_bytes);
        cr_assert_eq(pool_find(&p, 1u << POOL_INDEX_BITS | i), slot);
    }
    cr_assert_eq(p.mapped_chunks, 1);
    release_all(&p);
    pool_deinit(&p);
}

Test(pool, every_slot_size_finds_its_index)
{
    for (uint32_t bytes = 1; bytes <= 4096 - 64; bytes += 7)
        check_indices(bytes, 4096);
    for (uint32_t bytes = 16; bytes <= (64u << 10) - 64; bytes = bytes * 9 / 8 + 16)
        check_indices(bytes, 64u << 10);
    for (uint32_t bytes = 4096; bytes <= (4u << 20) - 64; bytes = bytes * 5 / 4 + 16)
        check_indices(bytes, 4u << 20);
    check_indices((4u << 20) - 64, 4u << 20);
    check_indices(16, 4u << 20);
}

Test(pool, refuses_above_its_bound_and_counts_it)
{
    struct pool p;
    for (uint32_t max = 1; max < 300; max += 13) {
        pool_init(&p, "test", 100, max, 4096);
        void *last = NULL;
        for (uint32_t i = 0; i < max; i++) {
            last = pool_acquire(&p);
            cr_assert_not_null(last);
        }
        cr_assert_null(pool_acquire(&p));
        cr_assert_null(pool_acquire(&p));
        cr_assert_eq(p.failures, 2);
        pool_release(&p, last);
        cr_assert_not_null(pool_acquire(&p));
        cr_assert_eq(p.used, max);
        cr_assert_eq(p.used_max, max);
        release_all(&p);
        pool_deinit(&p);
    }
}

Test(pool, fills_the_lowest_chunk_with_room_first)
{
    struct pool p;
    pool_init(&p, "test", 400, 0, 4096);
    uint32_t per_chunk = p.per_chunk;
    void *slots[100];
    for (uint32_t i = 0; i < 10 * per_chunk; i++)
        slots[i] = pool_acquire(&p);
    const uint32_t holes[] = {7, 2, 9, 4};
    for (uint32_t i = 0; i < ARRAY_LEN(holes); i++)
        pool_release(&p, slots[holes[i] * per_chunk + i]);
    const uint32_t order[] = {2, 4, 7, 9};
    for (uint32_t i = 0; i < ARRAY_LEN(order); i++) {
        uint32_t index = pool_handle(&p, pool_acquire(&p)) & ((1u << POOL_INDEX_BITS) - 1);
        cr_assert_eq(index / per_chunk, order[i]);
    }
    release_all(&p);
    pool_deinit(&p);
}

Test(pool, finds_room_among_thousands_of_chunks)
{
    struct pool p;
    pool_init(&p, "test", 4000, 0, 4096); /* one slot each */
    static void *slots[5000];
    for (uint32_t i = 0; i < 5000; i++)
        slots[i] = pool_acquire(&p);
    cr_assert_eq(p.mapped_chunks, 5000);
    for (uint32_t i = 5000; i-- > 0;) {
        if (i % 3 == 0)
            pool_release(&p, slots[i]);
    }
    cr_assert_eq(p.mapped_chunks, 5000 - 1667 + 1);
    for (uint32_t i = 0; i < 5000; i += 3) {
        uint32_t index = pool_handle(&p, pool_acquire(&p)) & ((1u << POOL_INDEX_BITS) - 1);
        cr_assert_eq(index, i);
    }
    release_all(&p);
    cr_assert_eq(p.mapped_chunks, 1);
    pool_deinit(&p);
}

Test(pool, keeps_one_empty_chunk_and_gives_back_the_others)
{
    struct pool p;
    pool_init(&p, "test", 100, 0, 4096);
    for (uint32_t i = 0; i < 20 * p.per_chunk; i++)
        cr_assert_not_null(pool_acquire(&p));
    cr_assert_eq(p.mapped_chunks, 20);
    release_all(&p);
    cr_assert_eq(p.mapped_chunks, 1);
    cr_assert_eq(pool_mapped_bytes(&p), 4096);
    pool_deinit(&p);
}

Test(pool, does_not_flutter_at_a_chunk_boundary)
{
    struct pool p;
    pool_init(&p, "test", 100, 0, 4096);
    for (uint32_t i = 0; i < p.per_chunk; i++)
        cr_assert_not_null(pool_acquire(&p));
    pool_release(&p, pool_acquire(&p));
    uint32_t maps_before = maps_made;
    for (uint32_t i = 0; i < 1000; i++)
        pool_release(&p, pool_acquire(&p));
    cr_assert_eq(maps_made, maps_before);
    release_all(&p);
    pool_deinit(&p);
}

Test(pool, a_handle_names_one_life_of_a_slot)
{
    struct pool p;
    pool_init(&p, "test", 64, 1, 4096);
    uint32_t handles[4095];
    for (uint32_t life = 0; life < 4095; life++) {
        void *slot = pool_acquire(&p);
        handles[life] = pool_handle(&p, slot);
        cr_assert_neq(handles[life], 0);
        cr_assert_eq(pool_find(&p, handles[life]), slot);
        for (uint32_t i = 0; i < life; i++)
            cr_assert_null(pool_find(&p, handles[i]));
        pool_release(&p, slot);
        cr_assert_null(pool_find(&p, handles[life]));
    }
    void *slot = pool_acquire(&p);
    cr_assert_eq(pool_handle(&p, slot), handles[0], "the generation has gone round");
    pool_release(&p, slot);
    pool_deinit(&p);
}

Test(pool, a_handle_stays_dead_when_its_chunk_is_mapped_again)
{
    struct pool p;
    pool_init(&p, "test", 1000, 100, 4096);
    static uint32_t handles[50 * 12];
    uint32_t count = 0;
    for (uint32_t round = 0; round < 50; round++) {
        void *slots[12];
        for (uint32_t i = 0; i < 12; i++) {
            slots[i] = pool_acquire(&p);
            for (uint32_t k = 0; k < count; k++)
                cr_assert_neq(pool_handle(&p, slots[i]), handles[k]);
            handles[count++] = pool_handle(&p, slots[i]);
        }
        for (uint32_t i = 0; i < 12; i++)
            pool_release(&p, slots[i]);
        cr_assert_eq(p.mapped_chunks, 1);
        for (uint32_t k = 0; k < count; k++)
            cr_assert_null(pool_find(&p, handles[k]));
    }
    pool_deinit(&p);
}

Test(pool, any_handle_may_be_asked)
{
    struct pool p;
    pool_init(&p, "test", 64, 1000, 4096);
    cr_assert_null(pool_find(&p, 0));
    cr_assert_null(pool_find(&p, UINT32_MAX));
    void *slot = pool_acquire(&p);
    uint32_t found = 0;
    for (uint32_t generation = 0; generation < 4096; generation++) {
        for (uint32_t index = 0; index < 1u << POOL_INDEX_BITS; index = index * 2 + 1)
            found += pool_find(&p, generation << POOL_INDEX_BITS | index) != NULL;
        found += pool_find(&p, generation << POOL_INDEX_BITS) != NULL;
    }
    cr_assert_eq(found, 2, "index 0 is asked for twice");
    pool_release(&p, slot);
    pool_deinit(&p);
}

Test(pool, walks_the_slots_in_use_in_order)
{
    struct pool p;
    pool_init(&p, "test", 300, 1000, 4096);
    void *slots[200];
    for (uint32_t i = 0; i < 200; i++)
        slots[i] = pool_acquire(&p);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < 200; i++) {
        if (i % 7 < 3 || (i > 50 && i < 120))
            pool_release(&p, slots[i]);
        else
            expected++;
    }
    uint32_t index = 0;
    uint32_t before = 0;
    uint32_t seen = 0;
    void *slot;
    while ((slot = pool_next(&p, &index)) != NULL) {
        uint32_t own = pool_handle(&p, slot) & ((1u << POOL_INDEX_BITS) - 1);
        cr_assert_eq(own + 1, index);
        cr_assert(index > before);
        before = index;
        seen++;
    }
    cr_assert_eq(seen, expected);
    release_all(&p);
    index = 0;
    cr_assert_null(pool_next(&p, &index));
    pool_deinit(&p);
}

/* The invariants that pool.c states, from outside. */
static void check_pool(const struct pool *p, uint32_t used)
{
    uint32_t mapped = 0;
    uint32_t empty = 0;
    uint32_t in_use = 0;
    for (uint32_t i = 0; i < p->chunk_count; i++) {
        const struct pool_chunk *c = p->chunks[i];
        if (c == NULL)
            continue;
        mapped++;
        empty += c->used == 0;
        in_use += c->used;
        if (c->used < c->slot_count)
            cr_assert(p->current != NULL && p->current->number <= i);
    }
    cr_assert_eq(mapped, p->mapped_chunks);
    cr_assert_leq(empty, 1);
    cr_assert_eq(in_use, used);
    cr_assert_eq(p->used, used);
}

Test(pool, agrees_with_a_plain_list_through_random_use)
{
    struct pool p;
    pool_init(&p, "test", 200, 700, 4096);
    static void *slots[700];
    static uint32_t handles[700];
    uint32_t count = 0;
    for (uint32_t step = 0; step < 200000; step++) {
        uint32_t goal = step / 5000 % 2 == 0 ? 705 : 0; /* grows to the bound, then shrinks */
        bool grows = random_below(100) < (count < goal ? 60u : 40u);
        if (grows && count == 700) {
            cr_assert_null(pool_acquire(&p));
        } else if (grows) {
            slots[count] = pool_acquire(&p);
            handles[count] = pool_handle(&p, slots[count]);
            memset(slots[count++], (int)step, 200);
        } else if (count > 0) {
            uint32_t i = random_below(count);
            cr_assert_eq(pool_find(&p, handles[i]), slots[i]);
            pool_release(&p, slots[i]);
            cr_assert_null(pool_find(&p, handles[i]));
            slots[i] = slots[--count];
            handles[i] = handles[count];
        }
        check_pool(&p, count);
    }
    release_all(&p);
    pool_deinit(&p);
}

Test(pool, survives_the_failure_of_every_allocation)
{
    for (long nth = 0;; nth++) {
        struct pool p;
        pool_init(&p, "test", 1000, 0, 4096);
        allocs_until_failure = nth;
        uint32_t acquired = 0;
        for (uint32_t i = 0; i < 60; i++)
            acquired += pool_acquire(&p) != NULL;
        bool reached = allocs_until_failure < 0;
        allocs_until_failure = -1;
        cr_assert_eq(acquired + p.failures, 60);
        cr_assert_leq(p.failures, 1);
        cr_assert_not_null(pool_acquire(&p));
        check_pool(&p, acquired + 1);
        release_all(&p);
        pool_deinit(&p);
        if (!reached)
            break;
        cr_assert_lt(nth, 1000);
    }
}

Test(pool, releasing_twice_is_caught, .signal = SIGABRT)
{
    struct pool p;
    pool_init(&p, "test", 64, 0, 4096);
    void *a = pool_acquire(&p);
    void *b = pool_acquire(&p);
    pool_release(&p, a);
    if (b != NULL)
        pool_release(&p, a);
}

Test(pool, deinit_with_a_slot_in_use_is_caught, .signal = SIGABRT)
{
    struct pool p;
    pool_init(&p, "test", 64, 0, 4096);
    if (pool_acquire(&p) != NULL)
        pool_deinit(&p);
}
