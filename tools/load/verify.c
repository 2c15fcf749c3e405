/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Whether messages come each once and in order. Pure, one thread. */

#include "tools/load/verify.h"

enum verify_result verify_odd(struct verify_stream *s, struct verify_counts *counts, uint64_t seq)
{
    if (seq > s->next) {
        uint64_t missing = seq - s->next;
        counts->lost += missing;
        s->seen = missing < VERIFY_WINDOW - 1 ? s->seen << (missing + 1) | 1 : 1;
        s->next = seq + 1;
        return VERIFY_GAP;
    }
    uint64_t age = s->next - 1 - seq;
    if (age >= VERIFY_WINDOW || (s->seen >> age & 1) != 0) {
        counts->duplicated++;
        return VERIFY_DUPLICATE;
    }
    s->seen |= 1ULL << age;
    counts->lost--; /* it was counted when the gap was seen */
    counts->reordered++;
    return VERIFY_REORDERED;
}

uint64_t verify_end(struct verify_stream *s, struct verify_counts *counts, uint64_t sent)
{
    uint64_t missing = sent > s->next ? sent - s->next : 0;
    counts->lost += missing;
    s->next += missing;
    return missing;
}

void verify_merge(struct verify_counts *counts, const struct verify_counts *from)
{
    counts->checked += from->checked;
    counts->lost += from->lost;
    counts->duplicated += from->duplicated;
    counts->reordered += from->reordered;
    counts->corrupted += from->corrupted;
    counts->misrouted += from->misrouted;
}
