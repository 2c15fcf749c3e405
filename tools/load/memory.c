/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Memory of processes and of the kernel, as /proc tells it. Any thread. */

#include "tools/load/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/load/proc.h"

#define LINE_BYTES 512

/* Adds up "NAME: 12 kB" lines of a file that begin with one of the names. */
static uint64_t sum_kb(const char *path, const char *const *names, size_t name_count)
{
    FILE *f = fopen(path, "re");
    char line[LINE_BYTES];
    uint64_t kb, sum = 0;

    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        char *colon = strchr(line, ':');
        if (colon == NULL)
            continue;
        *colon = '\0';
        for (size_t i = 0; i < name_count; i++) {
            if (strcmp(line, names[i]) == 0 && sscanf(colon + 1, "%" SCNu64, &kb) == 1)
                sum += kb * 1024;
        }
    }
    fclose(f);
    return sum;
}

uint64_t memory_user_bytes(const char *pid)
{
    static const char *const names[] = {"Private_Dirty", "Private_Hugetlb", "Shared_Dirty"};
    char path[64];

    snprintf(path, sizeof(path), "/proc/%.20s/smaps_rollup", pid);
    return sum_kb(path, names, ARRAY_LEN(names));
}

/* slabinfo(5): name, active_objs, num_objs, objsize, objperslab, pagesperslab : ... Objects in use
 * with their share of a slab: whole slabs would hide connections that take places which others have
 * left. */
static bool parse_cache(const char *line, struct memory_cache *c)
{
    uint64_t active, each, pages;

    if (sscanf(line, "%31s %" SCNu64 " %*u %*u %" SCNu64 " %" SCNu64, c->name, &active, &each,
               &pages) != 4 ||
        each == 0)
        return false;
    c->bytes = active * pages * (uint64_t)sysconf(_SC_PAGESIZE) / each;
    return true;
}

static void read_caches(struct memory *m)
{
    FILE *f = fopen("/proc/slabinfo", "re");
    char line[LINE_BYTES];

    m->cache_count = 0;
    if (f == NULL)
        return;
    while (m->cache_count < MEMORY_CACHES_MAX && fgets(line, sizeof(line), f) != NULL) {
        if (parse_cache(line, &m->caches[m->cache_count]))
            m->cache_count++;
    }
    fclose(f);
}

/* "TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 2": mem in pages. */
static void read_sockets(struct memory *m)
{
    FILE *f = fopen("/proc/net/sockstat", "re");
    char line[LINE_BYTES];
    uint64_t pages;

    m->sockets = m->buffer_bytes = 0;
    if (f == NULL)
        return;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "TCP: inuse %" SCNu64 " orphan %*u tw %*u alloc %*u mem %" SCNu64,
                   &m->sockets, &pages) == 2)
            m->buffer_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    fclose(f);
}

static void add_user(const char *pid, void *arg)
{
    *(uint64_t *)arg += memory_user_bytes(pid);
}

void memory_read(const struct option_list *pids, struct memory *m)
{
    static const char *const slab[] = {"Slab"};
    const char *missing;

    m->slab_bytes = sum_kb("/proc/meminfo", slab, ARRAY_LEN(slab));
    m->own_bytes = memory_user_bytes("self");
    m->server_bytes = 0;
    (void)proc_each(pids, add_user, &m->server_bytes, &missing);
    read_sockets(m);
    read_caches(m);
}

uint64_t memory_cache_growth(const struct memory *before, const struct memory_cache *now)
{
    for (uint32_t i = 0; i < before->cache_count; i++) {
        if (strcmp(before->caches[i].name, now->name) == 0)
            return now->bytes > before->caches[i].bytes ? now->bytes - before->caches[i].bytes : 0;
    }
    return now->bytes;
}

static uint64_t growth(uint64_t before, uint64_t now)
{
    return now > before ? now - before : 0;
}

uint64_t memory_kernel_growth(const struct memory *before, const struct memory *now)
{
    uint64_t sum = growth(before->buffer_bytes, now->buffer_bytes);

    if (now->cache_count == 0)
        return sum + growth(before->slab_bytes, now->slab_bytes);
    for (uint32_t i = 0; i < now->cache_count; i++)
        sum += memory_cache_growth(before, &now->caches[i]);
    return sum;
}
