/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_URING_SLOTS_H
#define CORE_URING_SLOTS_H

/* The user-space side of io_uring's table of direct descriptors: which slots are free, and which
 * connection is in the others. On the shard's thread, but for init and deinit.
 *
 * The lowest free slot is taken first, so that a population that shrinks leaves whole pages of the
 * table empty: these go back to the kernel, wherever they lie. Which slots are taken stands apart
 * from the slots, in a bitmap and a summary of it: the search reads at most one bit for each 64
 * slots. */

#include <stdbool.h>
#include <stddef.h>

#include "core/base.h"

#define URING_SLOT_NONE UINT32_MAX

struct io_conn;

/* One direct descriptor. All zero in a page that was never touched, or was given back. */
struct uring_slot {
    struct io_conn *conn; /* NULL: free, or held by an accept */
    uint16_t generation;  /* counts the slot's uses */
};

struct uring_slots {
    struct uring_slot *slots; /* `count` entries, mapped, touched on first use */
    uint64_t *taken;          /* a bit for each slot, rounded up; those beyond count are set */
    uint64_t *full;           /* a bit for each word of `taken` that has no zero */
    uint32_t count;
    uint32_t full_words;
    uint32_t full_from; /* no word of `full` before this one has a zero */
    uint32_t touched;   /* slots from here on are all zero */
};

/* All free. 0 or -ENOMEM; then, too, deinit is allowed. */
MUST_USE int uring_slots_init(struct uring_slots *s, uint32_t count);
void uring_slots_deinit(struct uring_slots *s);

/* Takes the lowest free slot, or URING_SLOT_NONE. */
uint32_t uring_slots_take(struct uring_slots *s);

/* Gives one back; every request that names it has completed. Its generation goes up. */
void uring_slots_free(struct uring_slots *s, uint32_t slot);

/* Gives the pages back on which every slot is free. No completion can name a free slot, so these
 * may begin again with any generation. */
void uring_slots_trim(struct uring_slots *s);

#endif
