/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The registry of all counters of a node and its text for Prometheus. Registered on the main
 * thread; summed and rendered on any thread afterwards. */

#include "core/stats.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Text that counts on when the buffer is full. */
struct text {
    char *ptr;
    size_t cap;
    size_t len; /* may exceed cap */
};

static void render_row(struct text *t, const struct stats_block *b, uint32_t i);
static void render_head(struct text *t, const struct stats_desc *d);

/* Index of a table's block, or block_count. */
static uint32_t block_find(const struct stats_registry *r, const struct stats_desc *descs)
{
    uint32_t k = 0;
    while (k < r->block_count && r->blocks[k].descs != descs)
        k++;
    return k;
}

void stats_register(struct stats_registry *r, const struct stats_desc *descs, uint32_t count,
                    uint32_t shard, const stats_value *values)
{
    CHECK(shard < STATS_SHARDS_MAX);
    uint32_t k = block_find(r, descs);
    if (k == r->block_count) {
        CHECK(r->block_count < STATS_BLOCKS_MAX);
        r->blocks[r->block_count++] = (struct stats_block){.descs = descs, .count = count};
    }
    struct stats_block *b = &r->blocks[k];
    CHECK(b->count == count);
    CHECK(b->values[shard] == NULL);
    b->values[shard] = values;
    if (b->shard_count <= shard)
        b->shard_count = shard + 1;
}

static uint64_t block_sum(const struct stats_block *b, uint32_t i)
{
    uint64_t sum = 0;
    for (uint32_t s = 0; s < b->shard_count; s++) {
        if (b->values[s] != NULL)
            sum += stats_get(&b->values[s][i]);
    }
    return sum;
}

uint64_t stats_sum(const struct stats_registry *r, const struct stats_desc *descs, uint32_t i)
{
    uint32_t k = block_find(r, descs);
    if (k == r->block_count)
        return 0;
    CHECK(i < r->blocks[k].count);
    return block_sum(&r->blocks[k], i);
}

size_t stats_render(const struct stats_registry *r, char *text, size_t cap)
{
    struct text t = {.ptr = text, .cap = cap};
    if (cap > 0)
        text[0] = 0;
    const char *name = "";
    for (uint32_t k = 0; k < r->block_count; k++) {
        const struct stats_block *b = &r->blocks[k];
        for (uint32_t i = 0; i < b->count; i++) {
            if (strcmp(b->descs[i].name, name) != 0)
                render_head(&t, &b->descs[i]);
            name = b->descs[i].name;
            render_row(&t, b, i);
        }
    }
    return t.len;
}

__attribute__((format(printf, 2, 3))) static void text_add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = t->len < t->cap ? t->cap - t->len : 0;
    int n = vsnprintf(room > 0 ? t->ptr + t->len : NULL, room, format, args);
    va_end(args);
    if (n > 0)
        t->len += (size_t)n;
}

/* The format knows two escapes in help texts, for the backslash and the end of a line. */
static void render_head(struct text *t, const struct stats_desc *d)
{
    text_add(t, "# HELP %s ", d->name);
    for (const char *p = d->help; *p != 0; p++) {
        if (*p == '\\')
            text_add(t, "\\\\");
        else if (*p == '\n')
            text_add(t, "\\n");
        else
            text_add(t, "%c", *p);
    }
    text_add(t, "\n# TYPE %s %s\n", d->name, d->kind == STATS_COUNTER ? "counter" : "gauge");
}

/* A gauge may be raised on one shard and lowered on another: between the two the sum may be seen
 * below zero, and is printed so. */
static void render_row(struct text *t, const struct stats_block *b, uint32_t i)
{
    const struct stats_desc *d = &b->descs[i];
    uint64_t sum = block_sum(b, i);
    bool is_gauge = d->kind == STATS_GAUGE;
    text_add(t, "%s", d->name);
    if (d->labels != NULL)
        text_add(t, "{%s}", d->labels);
    if (d->scale == 0 || d->scale == 1) {
        if (is_gauge)
            text_add(t, " %" PRId64 "\n", (int64_t)sum);
        else
            text_add(t, " %" PRIu64 "\n", sum);
    } else {
        text_add(t, " %.15g\n", (is_gauge ? (double)(int64_t)sum : (double)sum) * d->scale);
    }
}
