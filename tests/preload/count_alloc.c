/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* LD_PRELOAD: counts heap allocations of a process, and the bytes that are allocated now, into the
 * file $TW_COUNT_ALLOC, which it maps shared: three 64-bit numbers, allocations, frees, live bytes.
 * Whoever runs the process reads them there at any time. Any thread. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct counts {
    _Atomic uint64_t allocations;
    _Atomic uint64_t frees;
    _Atomic int64_t live_bytes; /* as the allocator rounds them up */
};

/* Before the file is mapped, and without one, nobody reads what is counted. */
static struct counts nowhere;
static struct counts *counts = &nowhere;

/* glibc's own names: they need no look-up, which would itself allocate. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *p);

__attribute__((constructor)) static void map_counts(void)
{
    const char *path = getenv("TW_COUNT_ALLOC");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(*counts)) == 0)
        p = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        static const char text[] = "count_alloc: TW_COUNT_ALLOC must name a file\n";

        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        _exit(1);
    }
    close(fd);
    counts = p;
}

static void *counted(void *p)
{
    if (p == NULL)
        return NULL;
    atomic_fetch_add_explicit(&counts->allocations, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->live_bytes, (int64_t)malloc_usable_size(p),
                              memory_order_relaxed);
    return p;
}

static void forget(void *p)
{
    atomic_fetch_add_explicit(&counts->frees, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&counts->live_bytes, (int64_t)malloc_usable_size(p),
                              memory_order_relaxed);
}

void *malloc(size_t bytes)
{
    return counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return counted(__libc_calloc(count, bytes));
}

void *realloc(void *old, size_t bytes)
{
    int64_t before = old == NULL ? 0 : (int64_t)malloc_usable_size(old);
    void *p = __libc_realloc(old, bytes);

    if (p == NULL && bytes != 0)
        return NULL; /* old is as it was */
    if (old != NULL) {
        atomic_fetch_add_explicit(&counts->frees, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&counts->live_bytes, before, memory_order_relaxed);
    }
    return counted(p);
}

void *memalign(size_t alignment, size_t bytes)
{
    return counted(__libc_memalign(alignment, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return counted(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **p, size_t alignment, size_t bytes)
{
    *p = counted(__libc_memalign(alignment, bytes));
    return *p == NULL ? ENOMEM : 0;
}

void free(void *p)
{
    if (p == NULL)
        return;
    forget(p);
    __libc_free(p);
}
