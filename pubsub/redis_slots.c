/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a Redis Cluster's slots. On the shard's thread. */

#include "pubsub/redis_slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAGS (REDIS_SLOT_COUNT * 8)

void redis_slots_init(struct redis_slots *s)
{
    memset(s, 0, sizeof(*s));
    memset(s->owner, REDIS_SLOT_NONE, sizeof(s->owner));
}

/* CRC16 with the polynomial 0x1021 from 0, four bits at a time: names are short, and the table lies
 * in half a cache line. */
static uint16_t crc16(const uint8_t *p, size_t len)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5,
                                       0x60c6, 0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b,
                                       0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    uint16_t crc = 0;

    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ p[i] >> 4]);
        crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ (p[i] & 15)]);
    }
    return crc;
}

uint32_t redis_slot_of(const void *channel, size_t len)
{
    const uint8_t *p = channel, *open = len == 0 ? NULL : memchr(p, '{', len), *close;

    if (open != NULL) {
        close = memchr(open + 1, '}', len - (size_t)(open + 1 - p));
        if (close != NULL && close > open + 1) {
            p = open + 1;
            len = (size_t)(close - p);
        }
    }
    return crc16(p, len) % REDIS_SLOT_COUNT;
}

uint32_t redis_slots_tag(const struct redis_slots *s, uint32_t node)
{
    char text[16];
    uint32_t tag = 0;

    /* Every slot is that of a number up to 109,757. */
    while (tag < TAGS) {
        int len = snprintf(text, sizeof(text), "%u", tag);

        if (s->owner[redis_slot_of(text, (size_t)len)] == node)
            break;
        tag++;
    }
    return tag;
}

/* Nodes
 * -------------------------------------------------------------------------------------------- */

/* The index of a node, a new one if need be; REDIS_SLOT_NONE when there is no place. */
static uint8_t node_index(struct redis_slots *s, const struct redis_endpoint *e)
{
    uint32_t at = s->node_count;

    for (uint32_t i = s->node_count; i-- > 0;) {
        if (redis_endpoint_is_same(&s->nodes[i], e))
            return (uint8_t)i;
        if (s->slot_counts[i] == 0)
            at = i;
    }
    if (at == REDIS_SLOTS_NODES_MAX)
        return REDIS_SLOT_NONE;
    s->nodes[at] = *e;
    if (at == s->node_count)
        s->node_count++;
    return (uint8_t)at;
}

static void set_owner(struct redis_slots *s, uint32_t slot, uint8_t node)
{
    uint8_t before = s->owner[slot];

    if (before != REDIS_SLOT_NONE) {
        s->slot_counts[before]--;
        s->covered--;
    }
    s->owner[slot] = node;
    if (node != REDIS_SLOT_NONE) {
        s->slot_counts[node]++;
        s->covered++;
    }
}

/* An address as a server tells it: an empty one, or none, is the one that was asked. */
static bool set_endpoint(struct redis_endpoint *e, const char *host, size_t len, uint64_t port,
                         const struct redis_endpoint *asked)
{
    if (len == 0) {
        host = asked->host;
        len = strlen(host);
    }
    if (len >= sizeof(e->host) || memchr(host, '\0', len) != NULL || port == 0 || port > UINT16_MAX)
        return false;
    *e = (struct redis_endpoint){.port = (uint16_t)port};
    memcpy(e->host, host, len);
    return true;
}

/* CLUSTER SLOTS
 * ------------------------------------------------------------------------------------- */

/* One row: [first, last, [host, port, ...] of the master, replicas...]. */
struct row {
    uint32_t first;
    uint32_t last;
    struct redis_endpoint master;
};

static bool read_row(const struct redis_reply *r, const struct redis_endpoint *asked,
                     struct row *row)
{
    const struct redis_reply *node, *host;

    if (r->type != REDIS_TYPE_ARRAY || r->len < 3 || r->items[0].type != REDIS_TYPE_INTEGER ||
        r->items[1].type != REDIS_TYPE_INTEGER || r->items[2].type != REDIS_TYPE_ARRAY)
        return false;
    node = &r->items[2];
    if (node->len < 2 || node->items[1].type != REDIS_TYPE_INTEGER)
        return false;
    host = &node->items[0];
    if (host->type != REDIS_TYPE_STRING && host->type != REDIS_TYPE_NIL)
        return false;
    if (r->items[0].integer < 0 || r->items[0].integer > r->items[1].integer ||
        r->items[1].integer >= REDIS_SLOT_COUNT)
        return false;
    row->first = (uint32_t)r->items[0].integer;
    row->last = (uint32_t)r->items[1].integer;
    return set_endpoint(&row->master, host->text, host->type == REDIS_TYPE_NIL ? 0 : host->len,
                        (uint64_t)node->items[1].integer, asked);
}

static int read_rows(struct redis_slots *s, const struct redis_reply *r,
                     const struct redis_endpoint *asked)
{
    struct row row;

    for (uint32_t i = 0; i < r->len; i++) {
        if (!read_row(&r->items[i], asked, &row))
            return -EINVAL;
        uint8_t node = node_index(s, &row.master);
        if (node == REDIS_SLOT_NONE)
            return -ENOSPC;
        for (uint32_t slot = row.first; slot <= row.last; slot++)
            set_owner(s, slot, node);
    }
    return 0;
}

/* Slots that no row names have no master. */
static void clear_unnamed(struct redis_slots *s, const struct redis_reply *r)
{
    uint32_t named[REDIS_SLOT_COUNT / 32] = {0};

    for (uint32_t i = 0; i < r->len; i++) {
        for (int64_t slot = r->items[i].items[0].integer; slot <= r->items[i].items[1].integer;
             slot++)
            named[slot / 32] |= 1u << (slot % 32);
    }
    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot++) {
        if ((named[slot / 32] >> (slot % 32) & 1) == 0)
            set_owner(s, slot, REDIS_SLOT_NONE);
    }
}

static bool is_equal(const struct redis_slots *a, const struct redis_slots *b)
{
    if (a->node_count != b->node_count || memcmp(a->owner, b->owner, sizeof(a->owner)) != 0)
        return false;
    for (uint32_t i = 0; i < a->node_count; i++) {
        if (!redis_endpoint_is_same(&a->nodes[i], &b->nodes[i]))
            return false;
    }
    return true;
}

int redis_slots_read(struct redis_slots *s, const struct redis_reply *r,
                     const struct redis_endpoint *asked)
{
    struct redis_slots *next;
    int err;

    if (r->type != REDIS_TYPE_ARRAY || r->len == 0) /* a node that was reset knows nobody */
        return -EINVAL;
    next = malloc(sizeof(*next));
    if (next == NULL)
        return -ENOMEM;
    *next = *s;
    err = read_rows(next, r, asked);
    if (err == 0) {
        clear_unnamed(next, r);
        err = !is_equal(s, next);
        *s = *next;
    }
    free(next);
    return err;
}

/* MOVED
 * -------------------------------------------------------------------------------------------- */

int redis_slots_moved(struct redis_slots *s, const char *text, size_t len,
                      const struct redis_endpoint *asked)
{
    char line[REDIS_ENDPOINT_TEXT_MAX + 32], *host, *colon, *end;
    struct redis_endpoint e;
    unsigned long slot, port;

    if (len >= sizeof(line) || len < 6)
        return -EINVAL;
    memcpy(line, text, len);
    line[len] = '\0';
    bool moved = strncmp(line, "MOVED ", 6) == 0;
    if (!moved && strncmp(line, "ASK ", 4) != 0)
        return -EINVAL;
    slot = strtoul(strchr(line, ' ') + 1, &end, 10);
    if (*end != ' ' || slot >= REDIS_SLOT_COUNT)
        return -EINVAL;
    host = end + 1;
    colon = strrchr(host, ':');
    if (colon == NULL)
        return -EINVAL;
    port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || !set_endpoint(&e, host, (size_t)(colon - host), port, asked))
        return -EINVAL;
    if (moved) {
        uint8_t node = node_index(s, &e);
        if (node == REDIS_SLOT_NONE)
            return -ENOSPC;
        set_owner(s, (uint32_t)slot, node);
    }
    return (int)slot;
}
