/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_VERIFY_H
#define TOOLS_LOAD_VERIFY_H

/* Whether the messages of one sender come to one receiver each once and in order. A stream knows
 * the number that must come next, and of the 64 before it which have come, so that what comes late
 * is told from what comes twice. Pure; one thread. */

#include "core/base.h"

#define VERIFY_WINDOW 64

struct verify_stream {
    uint64_t next; /* all below have come or are counted as lost */
    uint64_t seen; /* bit b: message next - 1 - b has come */
};

/* What was found; summed over streams. */
struct verify_counts {
    uint64_t checked;    /* messages looked at */
    uint64_t lost;       /* never came */
    uint64_t duplicated; /* came again, or too late to tell */
    uint64_t reordered;  /* came after a later one */
    uint64_t corrupted;  /* other bytes or another length than any message sent */
    uint64_t misrouted;  /* whole, but not for this receiver */
};

enum verify_result { VERIFY_GOOD, VERIFY_GAP, VERIFY_DUPLICATE, VERIFY_REORDERED };

/* Takes what is not simply the next one. */
enum verify_result verify_odd(struct verify_stream *s, struct verify_counts *counts, uint64_t seq);

/* Message number `seq` (from 0 up) has come. VERIFY_GAP: it is the first one behind messages that
 * have not come; they count as lost until they do. */
static inline enum verify_result verify_take(struct verify_stream *s, struct verify_counts *counts,
                                             uint64_t seq)
{
    counts->checked++;
    if (unlikely(seq != s->next))
        return verify_odd(s, counts, seq);
    s->next++;
    s->seen = s->seen << 1 | 1;
    return VERIFY_GOOD;
}

/* The sender has sent `sent` messages and nothing more will come: what is missing at the end is
 * lost. Returns how many that are. */
uint64_t verify_end(struct verify_stream *s, struct verify_counts *counts, uint64_t sent);

void verify_merge(struct verify_counts *counts, const struct verify_counts *from);

/* Whether anything but good messages was counted. */
static inline int verify_has_failed(const struct verify_counts *c)
{
    return (c->lost | c->duplicated | c->reordered | c->corrupted | c->misrouted) != 0;
}

#endif
