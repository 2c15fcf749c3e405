/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Simulated Redis servers as a cluster. One thread. */

#include "tests/sim/sim_cluster.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_redis.h"

struct sim_bus_item {
    struct sim_bus_item *next;
    uint32_t from, to;
    size_t channel_len, payload_len;
    uint8_t text[]; /* both */
};

uint32_t sim_cluster_slot(const char *channel, size_t len)
{
    const char *open = memchr(channel, '{', len);
    const char *close = open == NULL ? NULL : memchr(open, '}', len - (size_t)(open - channel));
    uint32_t crc = 0;

    if (close != NULL && close > open + 1) {
        channel = open + 1;
        len = (size_t)(close - channel);
    }
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint32_t)(uint8_t)channel[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc << 1 ^ ((crc & 0x8000) != 0 ? 0x1021 : 0)) & 0xffff;
    }
    return crc % SIM_CLUSTER_SLOTS;
}

static uint32_t index_of(const struct sim_cluster *c, const struct sim_redis *r)
{
    uint32_t i = 0;

    while (i < c->count && c->nodes[i] != r)
        i++;
    CHECK(i < c->count);
    return i;
}

const uint8_t *sim_cluster_map(const struct sim_cluster *c, const struct sim_redis *r)
{
    uint32_t i = index_of(c, r);

    return c->is_cut[i] ? c->kept[i] : c->told;
}

bool sim_cluster_serves(const struct sim_cluster *c, const struct sim_redis *r, uint32_t slot)
{
    return c->owner[slot] == c->master_of[index_of(c, r)];
}

void sim_cluster_init(struct sim_cluster *c, struct sim_redis *nodes, uint32_t count)
{
    c->count = count;
    c->first = c->last = NULL;
    for (uint32_t i = 0; i < count; i++) {
        c->nodes[i] = &nodes[i];
        nodes[i].cluster = c;
        c->master_of[i] = i;
        c->is_cut[i] = false;
    }
    for (uint32_t slot = 0; slot < SIM_CLUSTER_SLOTS; slot++)
        c->owner[slot] = (uint8_t)(slot * count / SIM_CLUSTER_SLOTS);
    sim_cluster_tell(c);
}

void sim_cluster_tell(struct sim_cluster *c)
{
    memcpy(c->told, c->owner, sizeof(c->told));
}

void sim_cluster_cut(struct sim_cluster *c, uint32_t node, bool on)
{
    if (on && !c->is_cut[node])
        memcpy(c->kept[node], c->told, sizeof(c->told));
    c->is_cut[node] = on;
}

void sim_cluster_add_replica(struct sim_cluster *c, struct sim_redis *r, uint32_t master)
{
    CHECK(c->count < SIM_CLUSTER_NODES_MAX);
    c->nodes[c->count] = r;
    c->master_of[c->count++] = master;
    r->cluster = c;
    r->is_replica = true;
}

void sim_cluster_promote(struct sim_cluster *c, uint32_t replica)
{
    uint32_t old = c->master_of[replica];

    sim_cluster_hear(c, c->nodes[replica]); /* what came before is no news for its clients */
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->master_of[i] == old)
            c->master_of[i] = replica;
    }
    c->nodes[old]->is_replica = true;
    c->nodes[replica]->is_replica = false;
    for (uint32_t slot = 0; slot < SIM_CLUSTER_SLOTS; slot++) {
        if (c->owner[slot] == old)
            sim_cluster_move(c, slot, replica);
    }
}

/* The bus
 * ----------------------------------------------------------------------------------------- */

static void append(struct sim_cluster *c, uint32_t from, uint32_t to, struct bytes channel,
                   struct bytes payload)
{
    struct sim_bus_item *item = malloc(sizeof(*item) + channel.len + payload.len);

    CHECK(item != NULL);
    *item = (struct sim_bus_item){
        .from = from, .to = to, .channel_len = channel.len, .payload_len = payload.len};
    memcpy(item->text, channel.ptr, channel.len);
    memcpy(item->text + channel.len, payload.ptr, payload.len);
    if (c->first == NULL)
        c->first = item;
    else
        c->last->next = item;
    c->last = item;
}

void sim_cluster_pass_on(struct sim_cluster *c, const struct sim_redis *from, struct bytes channel,
                         struct bytes payload)
{
    uint32_t me = index_of(c, from);

    for (uint32_t i = 0; i < c->count; i++) {
        if (i != me && c->master_of[i] == c->master_of[me] && c->nodes[i]->is_listening &&
            !c->is_cut[i] && !c->is_cut[me])
            append(c, me, i, channel, payload);
    }
}

/* The next item that is for the node, or of it as well; NULL: none. The caller frees it. */
static struct sim_bus_item *take(struct sim_cluster *c, uint32_t to, uint32_t from)
{
    struct sim_bus_item *before = NULL, *item = c->first;

    while (item != NULL && item->to != to && item->from != from) {
        before = item;
        item = item->next;
    }
    if (item == NULL)
        return NULL;
    if (before == NULL)
        c->first = item->next;
    else
        before->next = item->next;
    if (c->last == item)
        c->last = before;
    return item;
}

bool sim_cluster_hear(struct sim_cluster *c, struct sim_redis *r)
{
    struct sim_bus_item *item;
    bool has_heard = false;

    while ((item = take(c, index_of(c, r), SIM_CLUSTER_NODES_MAX)) != NULL) {
        sim_redis_spread(r, (struct bytes){item->text, item->channel_len},
                         (struct bytes){item->text + item->channel_len, item->payload_len});
        free(item);
        has_heard = true;
    }
    return has_heard;
}

void sim_cluster_forget(struct sim_cluster *c, const struct sim_redis *r)
{
    uint32_t me = index_of(c, r);
    struct sim_bus_item *item;

    while ((item = take(c, me, me)) != NULL)
        free(item);
}
