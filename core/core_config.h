/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_CORE_CONFIG_H
#define CORE_CORE_CONFIG_H

/* Settings of the runtime, filled from the flags of the same names. */

#include <stdbool.h>
#include <stdint.h>

enum core_io { CORE_IO_AUTO, CORE_IO_URING, CORE_IO_EPOLL };

struct core_config {
    uint32_t shards;         /* --shards; 0: one per usable core */
    bool pin;                /* --pin on */
    bool incoming_cpu;       /* --incoming-cpu off */
    int io;                  /* --io auto|uring|epoll: enum core_io */
    uint64_t turn_budget_ns; /* --turn-budget 2ms */
    uint64_t mesh_spin_ns;   /* --mesh-spin 50us; 0: off */
    uint32_t recv_buffers;   /* --recv-buffers (io_uring), power of two; 0: default */
    uint32_t mesh_slots;     /* --mesh-slots 1024 per ring, power of two */
};

#endif
