/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Send queues against a plain list of what should be in them. One shard without io. */

#include "net/sendq.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define REFS_MAX 400
#define LEN_MAX 3000
#define GATHER_BYTES (256u << 10)

/* What the queue should hold: the bytes of every reference by where they begin and how many. */
struct model {
    uint32_t off[REFS_MAX];
    uint32_t len[REFS_MAX];
    uint32_t count;
    uint32_t gathered;
};

struct rig {
    struct node node;
    struct shard shard;
    struct pool chunks;
    struct sendq q;
    struct run *run; /* held by the test as well, so that its uses tell the queue's */
    struct model model;
    uint64_t random;
};

static void rig_init(struct rig *r, uint32_t chunks_max, uint64_t seed)
{
    struct message *m;

    memset(r, 0, sizeof(*r));
    r->random = seed * 2 + 1;
    r->shard.node = &r->node;
    message_pool_init(&r->shard.messages, 0);
    pool_init(&r->chunks, "chunks", sizeof(struct sendq_chunk), chunks_max, 0);
    m = message_new(&r->shard.messages, REFS_MAX + LEN_MAX);
    r->run = run_new(&r->shard.messages, m);
}

static void rig_deinit(struct rig *r)
{
    sendq_drop(&r->q, &r->shard, &r->chunks, true);
    cr_assert(sendq_is_empty(&r->q));
    cr_assert_eq(r->q.bytes, 0);
    cr_assert_eq(r->q.refs, 0);
    cr_assert_null(r->q.head);
    cr_assert_null(r->q.tail);
    cr_assert_eq(r->run->uses, 1, "the queue holds nothing");
    shard_run_unref(&r->shard, r->run);
    pool_deinit(&r->chunks); /* CHECKs that every chunk is back */
    message_pool_deinit(&r->shard.messages);
}

static uint32_t below(struct rig *r, uint32_t bound)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((r->random >> 33) % bound);
}

static uint32_t sum(const struct model *m, uint32_t from, uint32_t to)
{
    uint32_t bytes = 0;

    for (uint32_t i = from; i < to; i++)
        bytes += m->len[i];
    return bytes;
}

static void check(struct rig *r)
{
    const struct model *m = &r->model;

    cr_assert_eq(sendq_is_empty(&r->q), m->count == 0);
    cr_assert_eq(r->q.refs, m->count);
    cr_assert_eq(r->q.bytes, sum(m, 0, m->count));
    cr_assert_eq(r->q.gathered, m->gathered);
    cr_assert_eq(sendq_waiting_bytes(&r->q), sum(m, m->gathered, m->count));
    cr_assert_eq(r->run->uses, 1 + m->count);
}

static bool push(struct rig *r, uint32_t len)
{
    struct model *m = &r->model;
    uint32_t off = m->count; /* tells the references apart */
    bool ok = sendq_push(&r->q, &r->chunks, r->run, off, len);

    if (ok) {
        m->off[m->count] = off;
        m->len[m->count] = len;
        m->count++;
    }
    check(r);
    return ok;
}

static void remove_front(struct model *m, uint32_t n)
{
    m->count -= n;
    memmove(m->off, m->off + n, m->count * sizeof(m->off[0]));
    memmove(m->len, m->len + n, m->count * sizeof(m->len[0]));
}

static void gather(struct rig *r)
{
    struct model *m = &r->model;
    struct iovec iov[IO_IOV_MAX];
    size_t bytes;
    int n = sendq_gather(&r->q, iov, GATHER_BYTES, &bytes);

    cr_assert(n >= 1 && n <= IO_IOV_MAX);
    cr_assert_leq((uint32_t)n, m->count);
    m->gathered = (uint32_t)n;
    cr_assert_eq(bytes, sum(m, 0, m->gathered));
    for (int i = 0; i < n; i++) {
        cr_assert_eq((const uint8_t *)iov[i].iov_base, r->run->bytes + m->off[i]);
        cr_assert_eq(iov[i].iov_len, m->len[i]);
    }
    cr_assert(n == 1 || bytes <= GATHER_BYTES);
    if (m->gathered < m->count && n < IO_IOV_MAX)
        cr_assert_gt(bytes + m->len[n], GATHER_BYTES, "it takes all that fits");
    check(r);
}

static void sent(struct rig *r)
{
    uint32_t bytes = sum(&r->model, 0, r->model.gathered);

    cr_assert_eq(sendq_sent(&r->q, &r->shard, &r->chunks), bytes);
    remove_front(&r->model, r->model.gathered);
    r->model.gathered = 0;
    check(r);
}

static void drop(struct rig *r, bool all)
{
    struct model *m = &r->model;
    uint32_t keep = all ? 0 : m->gathered;
    uint32_t bytes = sum(m, keep, m->count);

    cr_assert_eq(sendq_drop(&r->q, &r->shard, &r->chunks, all), bytes);
    m->count = keep;
    m->gathered = keep;
    check(r);
}

static void push_many(struct rig *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        cr_assert(push(r, 1 + i % 7));
}

Test(sendq, an_empty_queue_owns_nothing_and_one_reference_needs_no_chunk)
{
    struct rig r;

    rig_init(&r, 0, 1);
    cr_assert(sendq_is_empty(&r.q));
    cr_assert(push(&r, 5));
    cr_assert_eq(r.chunks.used, 0);
    gather(&r);
    sent(&r);
    rig_deinit(&r);
}

Test(sendq, the_single_reference_has_a_shorter_way)
{
    struct rig r;

    rig_init(&r, 0, 1);
    cr_assert(push(&r, 5));
    r.q.gathered = 1;
    sendq_sent_single(&r.q, &r.shard);
    remove_front(&r.model, 1);
    check(&r);
    cr_assert(push(&r, 6));
    rig_deinit(&r);
}

/* Every length around the bounds of chunks and of a gather; all of it leaves, in order. */
Test(sendq, any_number_of_references_leaves_in_order)
{
    for (uint32_t n = 1; n <= 3 * IO_IOV_MAX; n++) {
        struct rig r;

        rig_init(&r, 0, 1);
        push_many(&r, n);
        while (r.model.count > 0) {
            gather(&r);
            cr_assert_eq(r.model.gathered, min_u32(IO_IOV_MAX, r.model.count));
            sent(&r);
        }
        rig_deinit(&r);
    }
}

/* The queue is cut behind what is under way, wherever that ends, and goes on to be used. */
Test(sendq, a_cut_while_a_send_is_under_way_keeps_what_is_being_sent)
{
    for (uint32_t before = 1; before <= IO_IOV_MAX + 2; before++) {
        for (uint32_t behind = 0; behind <= 2 * SENDQ_CHUNK_REFS + 1; behind++) {
            struct rig r;

            rig_init(&r, 0, 1);
            push_many(&r, before);
            gather(&r);
            push_many(&r, behind);
            drop(&r, false);
            push_many(&r, 3);
            sent(&r);
            cr_assert_eq(r.model.count, 3);
            gather(&r);
            sent(&r);
            rig_deinit(&r);
        }
    }
}

Test(sendq, a_cut_between_sends_drops_everything)
{
    for (uint32_t n = 0; n <= 2 * SENDQ_CHUNK_REFS + 2; n++) {
        struct rig r;

        rig_init(&r, 0, 1);
        push_many(&r, n);
        drop(&r, false);
        cr_assert(sendq_is_empty(&r.q));
        rig_deinit(&r);
    }
}

Test(sendq, all_is_dropped_when_the_send_is_forgotten)
{
    for (uint32_t n = 1; n <= IO_IOV_MAX + 2; n++) {
        struct rig r;

        rig_init(&r, 0, 1);
        push_many(&r, n);
        gather(&r);
        push_many(&r, n % 5);
        drop(&r, true);
        push_many(&r, 2);
        rig_deinit(&r);
    }
}

Test(sendq, a_gather_stops_before_its_bound_but_takes_one_reference_of_any_size)
{
    struct rig r;
    struct message *m;
    struct run *big;
    struct iovec iov[IO_IOV_MAX];
    size_t bytes;

    rig_init(&r, 0, 1);
    m = message_new(&r.shard.messages, 2 * GATHER_BYTES);
    big = run_new(&r.shard.messages, m);
    cr_assert(sendq_push(&r.q, &r.chunks, big, 0, big->len));
    cr_assert(sendq_push(&r.q, &r.chunks, big, 0, GATHER_BYTES - 1));
    cr_assert(sendq_push(&r.q, &r.chunks, big, 0, 1));
    cr_assert(sendq_push(&r.q, &r.chunks, big, 0, 1));
    shard_run_unref(&r.shard, big);
    cr_assert_eq(sendq_gather(&r.q, iov, GATHER_BYTES, &bytes), 1);
    cr_assert_eq(bytes, 2 * GATHER_BYTES);
    sendq_sent(&r.q, &r.shard, &r.chunks);
    cr_assert_eq(sendq_gather(&r.q, iov, GATHER_BYTES, &bytes), 2);
    cr_assert_eq(bytes, GATHER_BYTES);
    sendq_sent(&r.q, &r.shard, &r.chunks);
    cr_assert_eq(r.q.refs, 1);
    cr_assert_eq(r.shard.messages.large_now, 1);
    sendq_drop(&r.q, &r.shard, &r.chunks, true);
    cr_assert_eq(r.shard.messages.large_now, 0, "the last reference frees the message");
    rig_deinit(&r);
}

Test(sendq, without_a_chunk_a_push_fails_and_changes_nothing)
{
    struct rig r;
    uint32_t fit = 1 + 2 * SENDQ_CHUNK_REFS;

    rig_init(&r, 2, 1);
    push_many(&r, fit);
    cr_assert_not(push(&r, 9));
    gather(&r);
    cr_assert_not(push(&r, 9));
    sent(&r);
    cr_assert(sendq_is_empty(&r.q));
    push_many(&r, fit);
    cr_assert_not(push(&r, 9));
    rig_deinit(&r);
}

Test(sendq, the_number_of_references_is_bounded)
{
    struct rig r;
    uint32_t n = 0;

    rig_init(&r, 0, 1);
    while (sendq_push(&r.q, &r.chunks, r.run, 0, 1))
        n++;
    cr_assert(n >= SENDQ_REFS_MAX && n <= SENDQ_REFS_MAX + SENDQ_CHUNK_REFS);
    cr_assert_eq(r.q.refs, n);
    rig_deinit(&r);
}

Test(sendq, any_order_of_calls_agrees_with_a_list)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rig r;

        rig_init(&r, seed % 3 == 0 ? 8 : 0, seed);
        for (int i = 0; i < 800; i++) {
            uint32_t what = below(&r, 100);

            if (what < 70 && r.model.count < REFS_MAX)
                (void)push(&r, 1 + below(&r, LEN_MAX));
            else if (what < 96 && r.model.gathered > 0)
                sent(&r);
            else if (what < 96 && r.model.count > 0)
                gather(&r);
            else if (what < 99)
                drop(&r, false);
            else
                drop(&r, true);
        }
        rig_deinit(&r);
    }
}
