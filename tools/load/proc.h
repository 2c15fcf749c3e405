/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_PROC_H
#define TOOLS_LOAD_PROC_H

/* What the kernel tells about processes under /proc. Any thread. */

#include <stdbool.h>

#include "core/options.h"

/* Processor time of processes, all their threads and the kernel's workers for them included. */
struct proc_cpu {
    uint64_t total_ns; /* exact: schedstat */
    uint64_t user_ns;  /* in ticks of the kernel, 10 ms as a rule */
    uint64_t system_ns;
};

/* Of all processes in the list (of numbers) and their children, theirs ... that live. False: one of
 * them is not there or can't be read; then *missing is its text. */
bool proc_cpu_read(const struct option_list *pids, struct proc_cpu *cpu, const char **missing);

/* Calls `use` for each process of the list and their children, theirs ... Returns as above. */
bool proc_each(const struct option_list *pids, void (*use)(const char *pid, void *arg), void *arg,
               const char **missing);

/* Of the calling thread: its processor time, and how long it waited for a core. */
void proc_thread(uint64_t *cpu_ns, uint64_t *wait_ns);

#endif
