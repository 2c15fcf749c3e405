/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a cluster's slots, by whatever a server says: answers to CLUSTER SLOTS, and errors
 * (MOVED, ASK, others). The counts of the map agree with it; what is refused changes nothing; what
 * was taken changes nothing when it is said again; the map, said as an answer, is read as the same;
 * a MOVED gives one slot to the one that it names. Input: replies of RESP2. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_error.h"
#include "pubsub/redis_slots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLY_BYTES_MAX = 1 << 20, REPLIES_MAX = 32 };

static const struct redis_endpoint asked = {.host = "asked", .port = 7000};

struct maps {
    struct redis_slots now;
    struct redis_slots before;
    struct redis_slots fresh;
    uint32_t replies;
};

/* A row of CLUSTER SLOTS. */
struct row {
    struct redis_reply items[3];
    struct redis_reply node[2];
};

static bool is_same_at(const struct redis_slots *a, const struct redis_slots *b, uint32_t slot)
{
    uint8_t x = a->owner[slot], y = b->owner[slot];

    if (x == REDIS_SLOT_NONE || y == REDIS_SLOT_NONE)
        return x == y;
    return redis_endpoint_is_same(&a->nodes[x], &b->nodes[y]);
}

static void check_counts(const struct redis_slots *s)
{
    uint32_t counts[REDIS_SLOTS_NODES_MAX] = {0}, covered = 0;

    CHECK(s->node_count <= REDIS_SLOTS_NODES_MAX);
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++) {
        if (s->owner[slot] == REDIS_SLOT_NONE)
            continue;
        CHECK(s->owner[slot] < s->node_count);
        counts[s->owner[slot]]++;
        covered++;
    }
    CHECK(covered == s->covered);
    for (uint32_t i = 0; i < REDIS_SLOTS_NODES_MAX; i++)
        CHECK(counts[i] == s->slot_counts[i]);
}

/* A channel with the tag of a node is one of its. */
static void check_tag(const struct redis_slots *s, uint32_t slot)
{
    uint32_t node = s->owner[slot];
    char channel[32];
    int len;

    if (node == REDIS_SLOT_NONE)
        return;
    len = snprintf(channel, sizeof(channel), "a{%u}b", redis_slots_tag(s, node));
    CHECK(s->owner[redis_slot_of(channel, (size_t)len)] == node);
}

static void fill_row(struct row *r, const struct redis_endpoint *e, uint32_t first, uint32_t last)
{
    r->node[0] = (struct redis_reply){
        .type = REDIS_TYPE_STRING, .len = (uint32_t)strlen(e->host), .text = e->host};
    r->node[1] = (struct redis_reply){.type = REDIS_TYPE_INTEGER, .integer = e->port};
    r->items[0] = (struct redis_reply){.type = REDIS_TYPE_INTEGER, .integer = first};
    r->items[1] = (struct redis_reply){.type = REDIS_TYPE_INTEGER, .integer = last};
    r->items[2] = (struct redis_reply){.type = REDIS_TYPE_ARRAY, .len = 2, .items = r->node};
}

/* One row for each stretch of slots with one master; returns how many. */
static uint32_t fill_rows(const struct redis_slots *s, struct row *rows)
{
    uint32_t count = 0, first = 0;

    for (uint32_t slot = 1; slot <= REDIS_SLOT_COUNT; slot++) {
        if (slot < REDIS_SLOT_COUNT && s->owner[slot] == s->owner[first])
            continue;
        if (s->owner[first] != REDIS_SLOT_NONE)
            fill_row(&rows[count++], &s->nodes[s->owner[first]], first, slot - 1);
        first = slot;
    }
    return count;
}

static void check_said_again(struct maps *m)
{
    struct row *rows = calloc(REDIS_SLOT_COUNT, sizeof(*rows));
    struct redis_reply *items = calloc(REDIS_SLOT_COUNT, sizeof(*items)), answer;
    uint32_t count;

    CHECK(rows != NULL && items != NULL);
    count = fill_rows(&m->now, rows);
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct redis_reply){
            .type = REDIS_TYPE_ARRAY, .len = ARRAY_LEN(rows[i].items), .items = rows[i].items};
    answer = (struct redis_reply){.type = REDIS_TYPE_ARRAY, .len = count, .items = items};
    redis_slots_init(&m->fresh);
    CHECK(redis_slots_read(&m->fresh, &answer, &asked) == (count > 0 ? 1 : -EINVAL));
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++)
        CHECK(is_same_at(&m->now, &m->fresh, slot));
    free(items);
    free(rows);
}

/* A place in the map may be used again within an answer that says two things of a slot. */
static bool names_slots_once(const struct maps *m, const struct redis_reply *r)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->len; i++)
        sum += (uint64_t)(r->items[i].items[1].integer - r->items[i].items[0].integer) + 1;
    return sum == m->now.covered;
}

static void take_answer(struct maps *m, const struct redis_reply *r)
{
    int changed = redis_slots_read(&m->now, r, &asked);

    if (changed <= 0) {
        CHECK(changed == 0 || memcmp(&m->now, &m->before, sizeof(m->now)) == 0);
        return;
    }
    if (names_slots_once(m, r))
        CHECK(redis_slots_read(&m->now, r, &asked) == 0);
    check_said_again(m);
}

static void take_error(struct maps *m, const struct redis_reply *r)
{
    enum redis_error e = redis_error_of(r->text, r->len);
    int slot = redis_slots_moved(&m->now, r->text, r->len, &asked);

    CHECK(redis_error_label(e)[0] != '\0' && redis_error_remedy(e)[0] != '\0');
    if (slot < 0 || e != REDIS_ERROR_MOVED) {
        CHECK(slot < 0 || e == REDIS_ERROR_ASK);
        CHECK(memcmp(&m->now, &m->before, sizeof(m->now)) == 0);
        return;
    }
    CHECK(m->now.owner[slot] != REDIS_SLOT_NONE);
    for (uint32_t i = 0; i < REDIS_SLOT_COUNT; i++)
        CHECK(i == (uint32_t)slot || is_same_at(&m->now, &m->before, i));
}

static bool on_reply(void *ctx, const struct redis_reply *r)
{
    struct maps *m = ctx;

    m->before = m->now;
    if (r->type == REDIS_TYPE_ERROR)
        take_error(m, r);
    else
        take_answer(m, r);
    check_counts(&m->now);
    check_tag(&m->now, m->replies * 1021 % REDIS_SLOT_COUNT);
    return ++m->replies < REPLIES_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_reader *reader = redis_reader_new(REPLY_BYTES_MAX);
    struct maps *m = calloc(1, sizeof(*m));
    int err;

    CHECK(reader != NULL && m != NULL);
    redis_slots_init(&m->now);
    err = redis_reader_feed(reader, (struct bytes){(uint8_t *)(uintptr_t)data, size}, on_reply, m);
    CHECK(err <= 0);
    redis_reader_free(reader);
    free(m);
    return 0;
}
