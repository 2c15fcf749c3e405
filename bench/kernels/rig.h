/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef BENCH_KERNELS_RIG_H
#define BENCH_KERNELS_RIG_H

/* Loops over modules whose headers hold C11 atomics, which C++ does not read. Each function is one
 * iteration of a benchmark. One thread. */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ring_rig;
struct fanout_rig;

struct ring_rig *ring_rig_new(uint32_t slots);
void ring_rig_free(struct ring_rig *r);
/* Stages and publishes `batch` items (at most the slots), then takes them out as the consumer does.
 * Returns the sum of what was read. */
uint64_t ring_rig_round(struct ring_rig *r, uint32_t batch);

/* `members` send queues of one shard. */
struct fanout_rig *fanout_rig_new(uint32_t members);
void fanout_rig_free(struct fanout_rig *r);
/* Queues `messages` frames of payload_bytes for every member, one after the other. */
void fanout_rig_enqueue(struct fanout_rig *r, uint32_t messages, uint32_t payload_bytes);
/* Gathers what waits for every member into spans and drops it as sent. Returns the bytes. */
uint64_t fanout_rig_send(struct fanout_rig *r);

#ifdef __cplusplus
}
#endif

#endif
