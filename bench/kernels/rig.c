/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Rings and send queues without a shard's io. One thread. */

#include "bench/kernels/rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/ring.h"
#include "net/sendq.h"

struct ring_rig {
    struct ring *ring;
};

struct ring_rig *ring_rig_new(uint32_t slots)
{
    struct ring_rig *r = malloc(sizeof(*r));

    CHECK(r != NULL);
    r->ring = ring_new(slots);
    CHECK(r->ring != NULL);
    return r;
}

void ring_rig_free(struct ring_rig *r)
{
    ring_free(r->ring);
    free(r);
}

uint64_t ring_rig_round(struct ring_rig *r, uint32_t batch)
{
    const struct ring_item *items;
    uint64_t sum = 0;
    uint32_t n;

    for (uint32_t i = 0; i < batch; i++)
        CHECK(ring_stage(r->ring, &(struct ring_item){.kind = 1, .a = i}));
    ring_publish(r->ring);
    while (batch > 0) {
        n = ring_peek(r->ring, batch, &items);
        CHECK(n > 0);
        for (uint32_t i = 0; i < n; i++)
            sum += items[i].a;
        ring_consume(r->ring, n);
        batch -= n;
    }
    return sum;
}

struct fanout_rig {
    struct node node;
    struct shard shard;
    struct pool chunks;
    uint32_t members;
    struct sendq queues[];
};

struct fanout_rig *fanout_rig_new(uint32_t members)
{
    struct fanout_rig *r = calloc(1, sizeof(*r) + members * sizeof(r->queues[0]));

    CHECK(r != NULL);
    r->members = members;
    r->shard.node = &r->node;
    message_pool_init(&r->shard.messages, 0);
    pool_init(&r->chunks, "chunks", sizeof(struct sendq_chunk), 0, 0);
    return r;
}

void fanout_rig_free(struct fanout_rig *r)
{
    pool_deinit(&r->chunks);
    message_pool_deinit(&r->shard.messages);
    free(r);
}

void fanout_rig_enqueue(struct fanout_rig *r, uint32_t messages, uint32_t payload_bytes)
{
    for (uint32_t n = 0; n < messages; n++) {
        struct message *m = message_new(&r->shard.messages, payload_bytes);

        CHECK(m != NULL);
        m->head_len = 2;
        struct run *run = run_new(&r->shard.messages, m);

        CHECK(run != NULL);
        for (uint32_t i = 0; i < r->members; i++)
            CHECK(sendq_push(&r->queues[i], &r->chunks, run, 0, run->len));
        shard_run_unref(&r->shard, run);
    }
}

uint64_t fanout_rig_send(struct fanout_rig *r)
{
    struct iovec iov[IO_IOV_MAX];
    uint64_t sum = 0;
    size_t bytes;

    for (uint32_t i = 0; i < r->members; i++) {
        struct sendq *q = &r->queues[i];

        while (!sendq_is_empty(q)) {
            sendq_gather(q, iov, 256 << 10, &bytes);
            sum += sendq_sent(q, &r->shard, &r->chunks);
        }
    }
    return sum;
}
