/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Two readings of one table side by side. Main thread. */

#include <string.h>

#include "core/options_internal.h"

static const size_t value_bytes[] = {
    [OPTION_BOOL] = sizeof(bool),
    [OPTION_U32] = sizeof(uint32_t),
    [OPTION_COUNT] = sizeof(uint64_t),
    [OPTION_SIZE] = sizeof(uint64_t),
    [OPTION_DURATION] = sizeof(uint64_t),
    [OPTION_RATE] = sizeof(struct option_rate),
    [OPTION_ENUM] = sizeof(int),
    [OPTION_TEXT] = sizeof(char *),
    [OPTION_LIST] = sizeof(struct option_list),
};

static bool texts_agree(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool lists_agree(const struct option_list *a, const struct option_list *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (!texts_agree(a->items[i], b->items[i]))
            return false;
    }
    return true;
}

bool options_agree(const struct options *a, const struct options *b, const struct option *row)
{
    const void *in_a = option_at(a->base, row), *in_b = option_at(b->base, row);

    switch (row->type) {
    case OPTION_TEXT:
        return texts_agree(*(char *const *)in_a, *(char *const *)in_b);
    case OPTION_LIST:
        return lists_agree(in_a, in_b);
    default:
        return memcmp(in_a, in_b, value_bytes[row->type]) == 0;
    }
}

void options_copy_reloadable(const struct option *table, uint32_t count, void *to, const void *from)
{
    for (uint32_t i = 0; i < count; i++) {
        if (table[i].reload == OPTION_RELOAD)
            memcpy((char *)to + table[i].offset, (const char *)from + table[i].offset,
                   value_bytes[table[i].type]);
    }
}
