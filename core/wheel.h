/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_WHEEL_H
#define CORE_WHEEL_H

/* Hashed timer wheel: O(1) arm and disarm, no allocation, no clock of its own. One shard.
 *
 * A timer fires in the first wheel_advance() at or after its deadline, rounded up to the next whole
 * tick: never early, at most one tick late by the wheel's doing. Timers of one slot whose deadline
 * lies rounds ahead are passed over. */

#include <stdbool.h>

#include "core/base.h"

#define WHEEL_SLOTS 256 /* power of two */

struct wheel_timer {
    struct wheel_timer *next; /* NULL: not armed */
    struct wheel_timer *prev;
    uint64_t deadline_ns;
};

struct wheel {
    struct wheel_timer slots[WHEEL_SLOTS]; /* list heads */
    struct wheel_timer due;                /* head: armed for a tick that had come already */
    uint64_t busy[WHEEL_SLOTS / 64];       /* bit per slot: it may hold timers */
    uint64_t tick_ns;                      /* width of a slot */
    uint64_t now_tick;                     /* ticks below or at this one have fired */
    uint32_t armed;                        /* timers armed now */
};

/* Called by wheel_advance(); the timer is disarmed and may be armed again or freed, and so may any
 * other timer. */
typedef void (*wheel_fire_fn)(void *ctx, struct wheel_timer *t);

void wheel_init(struct wheel *w, uint64_t tick_ns, uint64_t now_ns);

/* Arms t, or moves it when it is armed. A deadline in the past fires at the next advance. A zeroed
 * timer is a disarmed one. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ns);

/* Idempotent. */
void wheel_disarm(struct wheel *w, struct wheel_timer *t);

static inline bool wheel_is_armed(const struct wheel_timer *t)
{
    return t->next != NULL;
}

/* Fires what is due, in order of ticks; what a callback arms in the past waits for the next call.
 * Returns how many. The wheel does not move in memory after wheel_init(). */
uint32_t wheel_advance(struct wheel *w, uint64_t now_ns, wheel_fire_fn fire, void *ctx);

/* When wheel_advance() should next be called, UINT64_MAX when nothing is armed. A lower bound
 * within one revolution: may be early, never later than one tick after the earliest deadline. */
uint64_t wheel_next_ns(const struct wheel *w);

#endif
