/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* wolfSSL's allocators, asked as wolfSSL does: which pages go back, and which must not. */

#include "net/tls_heap.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/memory.h>

#include "core/base.h"

#define PAGES 16

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static uint8_t *first_page(uint8_t *p)
{
    return (uint8_t *)(((uintptr_t)p + page_bytes() - 1) & ~(page_bytes() - 1));
}

/* Of the whole pages of a block of PAGES + 1, those that are in memory. */
static uint32_t resident(uint8_t *block)
{
    unsigned char in[PAGES];
    uint32_t count = 0;

    cr_assert_eq(mincore(first_page(block), PAGES * page_bytes(), in), 0);
    for (uint32_t i = 0; i < PAGES; i++)
        count += in[i] & 1;
    return count;
}

static uint8_t *new_block(void)
{
    uint8_t *block = wolfSSL_Malloc((PAGES + 1) * page_bytes());

    cr_assert_not_null(block);
    memset(block, 0, (PAGES + 1) * page_bytes());
    return block;
}

Test(tls_heap, pages_of_zeros_go_back_and_are_zeros_again)
{
    uint8_t *block, *page;

    tls_heap_init();
    tls_heap_watch();
    block = new_block();
    page = first_page(block);
    page[3 * page_bytes() + 17] = 1;
    page[9 * page_bytes() - 1] = 2;
    cr_assert_eq(resident(block), PAGES);
    tls_heap_slim();
    cr_assert_eq(resident(block), 2);
    for (size_t i = 0; i < PAGES * page_bytes(); i++) {
        bool is_set = i == 3 * page_bytes() + 17 || i == 9 * page_bytes() - 1;

        cr_assert_eq(page[i] != 0, is_set, "byte %zu", i);
    }
    memset(block, 7, (PAGES + 1) * page_bytes());
    wolfSSL_Free(block);
}

Test(tls_heap, what_was_not_watched_or_is_small_stays)
{
    uint8_t *before, *after, *small;

    tls_heap_init();
    before = new_block();
    tls_heap_watch();
    small = wolfSSL_Malloc(1000);
    tls_heap_slim();
    after = new_block();
    tls_heap_slim();
    cr_assert_eq(resident(before), PAGES);
    cr_assert_eq(resident(after), PAGES);
    wolfSSL_Free(before);
    wolfSSL_Free(after);
    wolfSSL_Free(small);
}

/* So large that the allocator maps them, and unmaps them at once: to look at them is to crash. */
Test(tls_heap, what_was_freed_or_moved_meanwhile_is_let_alone)
{
    uint8_t *freed, *moved, *after[12];

    tls_heap_init();
    tls_heap_watch();
    freed = wolfSSL_Malloc(4 << 20);
    moved = wolfSSL_Malloc(4 << 20);
    memset(moved, 0, 4 << 20);
    wolfSSL_Free(freed);
    moved = wolfSSL_Realloc(moved, 64 << 20);
    for (size_t i = 0; i < ARRAY_LEN(after); i++) /* more than are noted */
        after[i] = new_block();
    tls_heap_slim();
    for (size_t i = 0; i < ARRAY_LEN(after); i++) {
        cr_assert_eq(after[i][PAGES * page_bytes()], 0);
        wolfSSL_Free(after[i]);
    }
    wolfSSL_Free(moved);
    wolfSSL_Free(NULL);
}

/* Without it nothing is counted: a leak would not be seen. */
Test(tls_heap, nothing_is_counted_before_the_allocators_are_ours, .signal = SIGABRT)
{
    (void)tls_heap_bytes();
}

Test(tls_heap, what_is_allocated_is_counted_until_it_is_freed)
{
    int64_t before;
    void *p;

    tls_heap_init();
    before = tls_heap_bytes();
    p = wolfSSL_Malloc(1000);
    cr_assert_geq(tls_heap_bytes(), before + 1000);
    wolfSSL_Free(p);
    cr_assert_eq(tls_heap_bytes(), before);
}
