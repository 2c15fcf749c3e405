/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_MEMORY_H
#define TOOLS_LOAD_MEMORY_H

/* Memory of processes and of the kernel, as /proc tells it. Any thread. */

#include <stdbool.h>

#include "core/options.h"

#define MEMORY_CACHES_MAX 512
#define MEMORY_NAME_MAX 32

/* A cache of kernel objects. */
struct memory_cache {
    char name[MEMORY_NAME_MAX];
    uint64_t bytes;
};

struct memory {
    uint64_t slab_bytes;   /* all kernel objects, their empty places too: /proc/meminfo */
    uint64_t buffer_bytes; /* pages that TCP has in its buffers: /proc/net/sockstat */
    uint64_t sockets;      /* of TCP, in use: ditto */
    uint64_t own_bytes;    /* this process, user space */
    uint64_t server_bytes; /* those of --server-pid and their children, user space */
    uint32_t cache_count;  /* 0: /proc/slabinfo is root's and was not read */
    struct memory_cache caches[MEMORY_CACHES_MAX];
};

/* Pages of a process that only it holds and that would have to be written out (Private_Dirty,
 * Private_Hugetlb) or that it shares with its children and has changed (Shared_Dirty); 0 when its
 * smaps_rollup can't be read. pid "self": this one. */
uint64_t memory_user_bytes(const char *pid);

/* Fills *m. pids may be empty. */
void memory_read(const struct option_list *pids, struct memory *m);

/* By how much a cache has grown since `before`, 0 if it has not. */
uint64_t memory_cache_growth(const struct memory *before, const struct memory_cache *now);

/* By how much the kernel's memory has grown: the caches that did (what else ends meanwhile is not
 * counted against them), or all slabs where caches can't be read, and TCP's buffers. */
uint64_t memory_kernel_growth(const struct memory *before, const struct memory *now);

#endif
