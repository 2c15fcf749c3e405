/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/uring_slots.h: the order of taking, the end of the table, generations, and what of its
 * memory goes back. The module is compiled into this program so that its allocations can fail. */

#include "core/uring_slots.h"

#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#include <criterion/criterion.h>

static int allocs_until_failure = -1; /* -1: never */

static void *test_calloc(size_t count, size_t bytes)
{
    return allocs_until_failure >= 0 && allocs_until_failure-- == 0 ? NULL : calloc(count, bytes);
}

static void *test_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    return allocs_until_failure >= 0 && allocs_until_failure-- == 0
               ? MAP_FAILED
               : mmap(at, bytes, prot, flags, fd, offset);
}

#define calloc test_calloc
#define mmap test_mmap
#include "core/uring_slots.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef calloc
#undef mmap

static struct uring_slots slots_of(uint32_t count)
{
    struct uring_slots s;

    cr_assert_eq(uring_slots_init(&s, count), 0);
    return s;
}

/* How many pages of the table are in memory. */
static uint32_t pages_in_memory(const struct uring_slots *s)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (s->count * sizeof(*s->slots) + page - 1) / page;
    unsigned char *in = calloc(pages, 1);
    uint32_t n = 0;

    cr_assert_eq(mincore(s->slots, s->count * sizeof(*s->slots), in), 0);
    for (size_t i = 0; i < pages; i++)
        n += in[i] & 1;
    free(in);
    return n;
}

Test(uring_slots, gives_out_each_slot_once_lowest_first_whatever_the_count)
{
    static const uint32_t counts[] = {1, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 70000};

    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct uring_slots s = slots_of(counts[i]);

        for (uint32_t slot = 0; slot < counts[i]; slot++)
            cr_assert_eq(uring_slots_take(&s), slot);
        cr_expect_eq(uring_slots_take(&s), URING_SLOT_NONE);
        cr_expect_eq(uring_slots_take(&s), URING_SLOT_NONE);
        uring_slots_free(&s, counts[i] - 1);
        cr_expect_eq(uring_slots_take(&s), counts[i] - 1);
        uring_slots_deinit(&s);
    }
}

Test(uring_slots, the_lowest_free_slot_is_taken_in_whatever_order_they_came_back)
{
    struct uring_slots s = slots_of(9000);
    static bool taken[9000];
    uint64_t random = 1;

    for (int i = 0; i < 60000; i++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t slot = (uint32_t)(random >> 33) % 9000;

        if (taken[slot]) {
            uring_slots_free(&s, slot);
            taken[slot] = false;
            continue;
        }
        uint32_t lowest = 0;
        while (taken[lowest])
            lowest++;
        cr_assert_eq(uring_slots_take(&s), lowest);
        taken[lowest] = true;
    }
    uring_slots_deinit(&s);
}

Test(uring_slots, a_slot_that_comes_back_has_another_generation_and_no_connection)
{
    struct uring_slots s = slots_of(8);

    for (uint16_t generation = 0; generation < 3; generation++) {
        cr_assert_eq(uring_slots_take(&s), 0);
        cr_expect_eq(s.slots[0].generation, generation);
        s.slots[0].conn = (struct io_conn *)&s;
        uring_slots_free(&s, 0);
        cr_expect_null(s.slots[0].conn);
    }
    uring_slots_deinit(&s);
}

Test(uring_slots, empty_pages_go_back_wherever_they_lie_and_taken_slots_stay)
{
    uint32_t per_page = (uint32_t)((size_t)sysconf(_SC_PAGESIZE) / sizeof(struct uring_slot));
    uint32_t count = 40 * per_page + 100; /* the last page is not a whole one */
    struct uring_slots s = slots_of(count);
    const uint32_t kept[] = {3, 7 * per_page, 30 * per_page - 1, 39 * per_page + 5};

    for (uint32_t slot = 0; slot < 40 * per_page; slot++) {
        cr_assert_eq(uring_slots_take(&s), slot);
        s.slots[slot].conn = (struct io_conn *)&s;
    }
    cr_expect_eq(pages_in_memory(&s), 40);
    for (uint32_t slot = 0; slot < 40 * per_page; slot++) {
        if (slot != kept[0] && slot != kept[1] && slot != kept[2] && slot != kept[3])
            uring_slots_free(&s, slot);
    }
    for (int again = 0; again < 2; again++) {
        uring_slots_trim(&s);
        cr_expect_eq(pages_in_memory(&s), 4);
        for (size_t i = 0; i < ARRAY_LEN(kept); i++)
            cr_expect_eq(s.slots[kept[i]].conn, (struct io_conn *)&s);
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        uring_slots_free(&s, kept[i]);
    uring_slots_trim(&s);
    cr_expect_eq(pages_in_memory(&s), 0);
    for (uint32_t slot = 0; slot < count; slot++) {
        cr_assert_eq(uring_slots_take(&s), slot);
        cr_assert_null(s.slots[slot].conn);
        s.slots[slot].conn = (struct io_conn *)&s;
    }
    cr_expect_eq(pages_in_memory(&s), 41);
    uring_slots_deinit(&s);
}

Test(uring_slots, without_memory_there_is_no_table)
{
    for (int n = 0; n < 3; n++) {
        struct uring_slots s = {0};

        allocs_until_failure = n;
        cr_expect_eq(uring_slots_init(&s, 1000), -ENOMEM);
        uring_slots_deinit(&s);
    }
}
