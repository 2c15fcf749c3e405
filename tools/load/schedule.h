/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_SCHEDULE_H
#define TOOLS_LOAD_SCHEDULE_H

/* When messages are to be sent at a fixed rate, whatever the answers do (open loop). The times are
 * computed from the number, never added up, so they do not drift; a latency counted from such a
 * time holds what a stalled server or sender kept later messages waiting ("coordinated omission").
 *
 * Several threads share one rate: thread i of n has the events i, i + n, i + 2n, ... of the whole.
 * Pure, any thread. */

#include "core/base.h"

struct schedule {
    uint64_t start_ns;
    uint64_t per_second; /* of the whole; 0: nothing is ever due */
    uint32_t first;      /* the thread's first event in the whole */
    uint32_t step;       /* number of threads, 1 at least */
};

/* When event k of this thread is due. */
static inline uint64_t schedule_at(const struct schedule *s, uint64_t k)
{
    unsigned __int128 event = (unsigned __int128)k * s->step + s->first;
    return s->start_ns + (uint64_t)(event * NS_PER_SEC / s->per_second);
}

/* How many of this thread's events are due at `now_ns`: all k below it have
 * schedule_at(k) <= now_ns. */
uint64_t schedule_due(const struct schedule *s, uint64_t now_ns);

#endif
