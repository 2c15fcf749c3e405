/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Slots of direct descriptors. On the shard's thread, but for init and deinit. */

#include "core/uring_slots.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#define WORD_BITS 64u

_Static_assert(4096 / sizeof(struct uring_slot) % WORD_BITS == 0, "pages are whole words of bits");

static uint32_t words_of(uint32_t bits)
{
    return (bits + WORD_BITS - 1) / WORD_BITS;
}

/* Sets the bits of the last word that stand for nothing. */
static void close_last_word(uint64_t *words, uint32_t bits)
{
    if (bits % WORD_BITS != 0)
        words[bits / WORD_BITS] = ~0ULL << (bits % WORD_BITS);
}

int uring_slots_init(struct uring_slots *s, uint32_t count)
{
    uint32_t words = words_of(count);
    void *p = mmap(NULL, count * sizeof(*s->slots), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    *s = (struct uring_slots){.slots = p, .count = count, .full_words = words_of(words)};
    s->taken = calloc(words, sizeof(*s->taken));
    s->full = calloc(s->full_words, sizeof(*s->full));
    if (s->taken == NULL || s->full == NULL)
        return -ENOMEM;
    close_last_word(s->taken, count);
    close_last_word(s->full, words);
    return 0;
}

void uring_slots_deinit(struct uring_slots *s)
{
    if (s->slots != NULL)
        munmap(s->slots, s->count * sizeof(*s->slots));
    free(s->taken);
    free(s->full);
}

uint32_t uring_slots_take(struct uring_slots *s)
{
    while (s->full_from < s->full_words && s->full[s->full_from] == ~0ULL)
        s->full_from++;
    if (s->full_from == s->full_words)
        return URING_SLOT_NONE;
    uint32_t word = s->full_from * WORD_BITS + (uint32_t)__builtin_ctzll(~s->full[s->full_from]);
    uint32_t bit = (uint32_t)__builtin_ctzll(~s->taken[word]);
    uint32_t slot = word * WORD_BITS + bit;

    s->taken[word] |= 1ULL << bit;
    if (s->taken[word] == ~0ULL)
        s->full[word / WORD_BITS] |= 1ULL << (word % WORD_BITS);
    s->touched = slot < s->touched ? s->touched : slot + 1;
    return slot;
}

void uring_slots_free(struct uring_slots *s, uint32_t slot)
{
    uint32_t word = slot / WORD_BITS;

    DCHECK(s->taken[word] >> (slot % WORD_BITS) & 1);
    s->slots[slot].conn = NULL;
    s->slots[slot].generation++;
    s->taken[word] &= ~(1ULL << (slot % WORD_BITS));
    s->full[word / WORD_BITS] &= ~(1ULL << (word % WORD_BITS));
    s->full_from = min_u32(s->full_from, word / WORD_BITS);
}

/* Whether all slots of [from, to) are free; both are multiples of WORD_BITS. */
static bool are_free(const struct uring_slots *s, uint32_t from, uint32_t to)
{
    for (uint32_t word = from / WORD_BITS; word < to / WORD_BITS; word++) {
        if (s->taken[word] != 0)
            return false;
    }
    return true;
}

static void give_back(struct uring_slots *s, uint32_t from, uint32_t to)
{
    if (to > from)
        madvise(s->slots + from, (to - from) * sizeof(*s->slots), MADV_DONTNEED);
}

/* A last page that the table does not fill stays: the bits beyond its end are set. */
void uring_slots_trim(struct uring_slots *s)
{
    uint32_t step = (uint32_t)((size_t)sysconf(_SC_PAGESIZE) / sizeof(*s->slots));
    uint32_t kept_to = 0; /* end of the last page that stays */

    for (uint32_t from = 0; from < s->touched; from += step) {
        if (s->count - from >= step && are_free(s, from, from + step))
            continue;
        give_back(s, kept_to, from);
        kept_to = from + step;
    }
    give_back(s, kept_to, s->touched);
    s->touched = min_u32(s->touched, kept_to);
}
