/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_PLAN_H
#define TOOLS_TIDEWIRE_PLAN_H

/* How many nodes a number of users needs: the arithmetic of `tidewire plan`. Pure, any thread.
 *
 * A node is filled until one of memory, processor time or the network is used up; what is needed
 * most decides. The figures per connection and per message are measured ones; who has others gives
 * them (`tools/figures`, bench/README.md). */

#include "core/base.h"

/* What the rule of thumb says: a node's memory holds a connection in each 10 KB (decimal, and a
 * GiB taken for a GB). */
#define PLAN_THUMB_BYTES 10000

struct plan_input {
    uint64_t users;            /* connected at once */
    uint64_t ram_bytes;        /* of a node */
    uint64_t reserve_bytes;    /* of it for the system, queues and messages; less than ram_bytes */
    uint32_t cores;            /* of a node */
    uint32_t busy_percent;     /* how busy they may be, 1 to 100 */
    uint64_t rate;             /* deliveries per second, to all users together */
    uint64_t publish_rate;     /* messages per second that users send, all together */
    uint64_t payload_bytes;    /* of a message */
    uint64_t user_bytes;       /* user-space bytes per idle connection */
    uint64_t kernel_bytes;     /* the kernel's, for its socket */
    uint64_t delivery_ns;      /* processor time per delivery, user and kernel */
    uint64_t publish_ns;       /* per message received and ordered */
    uint64_t heartbeat_ns;     /* per ping with its pong */
    uint64_t ping_interval_ns; /* 0: no heartbeats */
    uint64_t network_bits;     /* bits per second that a node can send; 0: not looked at */
    uint32_t spare;            /* nodes that may be down at once */
};

struct plan {
    uint64_t conn_bytes;     /* user space and kernel */
    uint64_t conns_per_node; /* by memory */
    uint64_t nodes_by_memory;
    uint64_t cpu_milli; /* cores that all users need, in thousandths */
    uint64_t nodes_by_cpu;
    uint64_t network_bits;     /* per second, all users together */
    uint64_t nodes_by_network; /* 0: not looked at */
    uint64_t nodes;            /* the largest of the three, and the spare ones */
    uint64_t users_per_node;   /* while the spare ones are down */
    uint64_t thumb_conns_per_node;
    uint64_t thumb_nodes; /* by memory, without spare ones */
};

/* What does not fit together is an error: NULL, or a constant text that says what would be good. */
const char *plan_check(const struct plan_input *in);

/* Works it out; in has passed plan_check(). Numbers are rounded to the safe side. */
void plan_make(const struct plan_input *in, struct plan *out);

#endif
