/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* wolfSSL's allocators: libc's, which count, and note large blocks while they are told to. Any
 * thread. */

#include "net/tls_heap.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/memory.h>

#include "core/base.h"

/* Smaller blocks have hardly a page of zeros. */
#define LARGE_BYTES (16u << 10)
/* A WOLFSSL has one or two of them. */
#define NOTED_MAX 8

struct block {
    uint8_t *at;
    size_t bytes;
};

/* Set before there are other threads. */
static bool is_ours;

static _Thread_local struct {
    struct block noted[NOTED_MAX];
    int64_t bytes; /* allocated less freed */
    uint32_t count;
    bool watches;
} heap;

/* The whole pages of a block: what the allocator keeps is beside them. */
static struct block pages_of(const struct block *b)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)b->at + page - 1) & ~(page - 1);
    uintptr_t to = ((uintptr_t)b->at + b->bytes) & ~(page - 1);

    return (struct block){(uint8_t *)from, to > from ? to - from : 0};
}

/* wolfSSL will write to all of it: one call instead of a fault for each page that an earlier one
 * has given back. */
static void note(void *p, size_t bytes)
{
    struct block pages;

    if (p == NULL || bytes < LARGE_BYTES || heap.count == NOTED_MAX)
        return;
    heap.noted[heap.count++] = (struct block){p, bytes};
    pages = pages_of(&heap.noted[heap.count - 1]);
    (void)madvise(pages.at, pages.bytes, MADV_POPULATE_WRITE); /* of Linux 5.14; else they fault */
}

static void forget(const void *p)
{
    for (uint32_t i = 0; i < heap.count; i++) {
        if (heap.noted[i].at == p)
            heap.noted[i] = heap.noted[--heap.count];
    }
}

static void *on_malloc(size_t bytes)
{
    void *p = malloc(bytes);

    heap.bytes += (int64_t)malloc_usable_size(p); /* of NULL: 0 */
    if (unlikely(heap.watches))
        note(p, bytes);
    return p;
}

static void on_free(void *p)
{
    if (unlikely(heap.watches))
        forget(p);
    heap.bytes -= (int64_t)malloc_usable_size(p);
    free(p);
}

static void *on_realloc(void *p, size_t bytes)
{
    int64_t before;
    void *other;

    if (unlikely(heap.watches))
        forget(p); /* what grows is not worth another note */
    before = (int64_t)malloc_usable_size(p);
    other = realloc(p, bytes);
    if (other != NULL)
        heap.bytes += (int64_t)malloc_usable_size(other) - before;
    return other;
}

void tls_heap_init(void)
{
    (void)wolfSSL_SetAllocators(on_malloc, on_free, on_realloc); /* never fails */
    is_ours = true;
}

void tls_heap_watch(void)
{
    heap.watches = true;
    heap.count = 0;
}

static bool is_zero(const uint8_t *p, size_t bytes)
{
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

/* The runs of zero pages. */
static void slim(struct block pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t at = 0;

    while (at < pages.bytes) {
        size_t to = at;

        while (to < pages.bytes && is_zero(pages.at + to, page))
            to += page;
        if (to > at)
            (void)madvise(pages.at + at, to - at, MADV_DONTNEED); /* if not, they stay */
        at = to + page;
    }
}

void tls_heap_slim(void)
{
    for (uint32_t i = 0; i < heap.count; i++)
        slim(pages_of(&heap.noted[i]));
    heap.watches = false;
    heap.count = 0;
}

int64_t tls_heap_bytes(void)
{
    CHECK(is_ours); /* else nothing is counted, and nothing seems to leak */
    return heap.bytes;
}
