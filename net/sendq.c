/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Queues of references to runs. On the shard's thread. */

#include "net/sendq.h"

#include "core/plant.h"

bool sendq_push_chunk(struct sendq *q, struct pool *chunks, struct sendq_ref ref)
{
    struct sendq_chunk *c = q->refs >= SENDQ_REFS_MAX ? NULL : pool_acquire(chunks);

    if (c == NULL)
        return false;
    c->next = NULL;
    c->begin = 0;
    c->end = 1;
    c->refs[0] = ref;
    if (q->tail == NULL)
        q->head = c;
    else
        q->tail->next = c;
    q->tail = c;
    q->refs++;
    return true;
}

/* Moves the oldest chunked reference to the front place, which has become free. */
static void pull_first(struct sendq *q, struct pool *chunks)
{
    struct sendq_chunk *c = q->head;

    if (c == NULL) {
        q->first.run = NULL;
        return;
    }
    q->first = c->refs[c->begin++];
    if (c->begin < c->end)
        return;
    q->head = c->next;
    if (q->head == NULL)
        q->tail = NULL;
    pool_release(chunks, c);
}

static inline void add_span(struct iovec *iov, const struct sendq_ref *ref)
{
    iov->iov_base = (void *)(ref->run->bytes + ref->off);
    iov->iov_len = ref->len;
}

int sendq_gather(struct sendq *q, struct iovec *iov, size_t bytes_max, size_t *bytes)
{
    size_t sum = q->first.len;
    struct iovec *at = iov + 1;

    DCHECK(q->gathered == 0);
    add_span(iov, &q->first);
    for (struct sendq_chunk *c = q->head; c != NULL; c = c->next) {
        const struct sendq_ref *ref = &c->refs[c->begin];
        const struct sendq_ref *end =
            ref + min_size(c->end - c->begin, (size_t)(iov + IO_IOV_MAX - at));

        for (; ref < end && sum + ref->len <= bytes_max; ref++) {
            add_span(at++, ref);
            sum += ref->len;
        }
        if (ref < &c->refs[c->end])
            break;
    }
    q->gathered = (uint16_t)(at - iov);
    *bytes = sum;
    return (int)(at - iov);
}

int sendq_gather_upto(struct sendq *q, struct iovec *iov, uint32_t refs_max, size_t bytes_max,
                      size_t *bytes, uint32_t *cut)
{
    uint32_t max = min_u32(refs_max, IO_IOV_MAX), at = 0;
    const struct sendq_chunk *c = q->head;
    const struct sendq_ref *ref = &q->first;
    uint32_t i = c == NULL ? 0 : c->begin;
    size_t sum = 0;

    *cut = 0;
    for (;;) {
        add_span(&iov[at++], ref);
        sum += ref->len;
        if (sum >= bytes_max || at == max || c == NULL)
            break;
        ref = &c->refs[i++];
        if (i == c->end) {
            c = c->next;
            i = c == NULL ? 0 : c->begin;
        }
    }
    if (sum > bytes_max) {
        iov[at - 1].iov_len -= sum - bytes_max;
        *cut = (uint32_t)iov[at - 1].iov_len;
        sum = bytes_max;
    }
    q->gathered = (uint16_t)at;
    *bytes = sum;
    return (int)at;
}

uint64_t sendq_waiting_bytes(const struct sendq *q)
{
    uint64_t waiting = q->bytes;
    uint32_t n = q->gathered;

    if (n > 0) {
        waiting -= q->first.len;
        n--;
    }
    for (const struct sendq_chunk *c = q->head; n > 0; c = c->next) {
        for (uint32_t i = c->begin; i < c->end && n > 0; i++, n--)
            waiting -= c->refs[i].len;
    }
    return waiting;
}

/* Drops up to n of the oldest references in chunks; chunks that are through go back. */
static uint32_t drop_oldest(struct sendq *q, struct shard *s, struct pool *chunks, uint32_t n)
{
    uint32_t bytes = 0;

    while (n > 0) {
        struct sendq_chunk *c = q->head;
        uint32_t end = min_u32(c->end, c->begin + n);

        n -= end - c->begin;
        for (uint32_t i = c->begin; i < end; i++) {
            bytes += c->refs[i].len;
            shard_run_unref(s, c->refs[i].run);
        }
        c->begin = end;
        if (c->begin < c->end)
            break;
        q->head = c->next;
        pool_release(chunks, c);
    }
    if (q->head == NULL)
        q->tail = NULL;
    return bytes;
}

uint32_t sendq_sent(struct sendq *q, struct shard *s, struct pool *chunks)
{
    uint32_t n = q->gathered;
    uint32_t bytes = q->first.len;

    if (PLANTED(PLANT_SHORT_SEND_AS_WHOLE) && n == IO_IOV_MAX)
        n = q->refs;
    q->gathered = 0;
    q->refs -= (uint16_t)n;
    shard_run_unref(s, q->first.run);
    if (n > 1)
        bytes += drop_oldest(q, s, chunks, n - 1);
    pull_first(q, chunks);
    q->bytes -= bytes;
    return bytes;
}

uint32_t sendq_sent_upto(struct sendq *q, struct shard *s, struct pool *chunks, uint32_t cut)
{
    uint32_t bytes = cut;

    if (cut != 0)
        q->gathered--;
    if (q->gathered > 0)
        bytes += sendq_sent(q, s, chunks);
    if (cut != 0) {
        q->first.off += cut;
        q->first.len -= cut;
        q->bytes -= cut;
    }
    return bytes;
}

/* Drops every reference of c from refs[from] on. Returns the bytes. */
static uint32_t drop_refs(struct sendq *q, struct shard *s, struct sendq_chunk *c, uint32_t from)
{
    uint32_t bytes = 0;

    for (uint32_t i = from; i < c->end; i++) {
        bytes += c->refs[i].len;
        q->refs--;
        shard_run_unref(s, c->refs[i].run);
    }
    c->end = from;
    return bytes;
}

/* Cuts the queue behind the references that are under way, which include the front one. */
static uint32_t drop_waiting(struct sendq *q, struct shard *s, struct pool *chunks)
{
    uint32_t keep = q->gathered - 1u; /* of those in chunks */
    uint32_t bytes = 0;
    struct sendq_chunk **link = &q->head;
    struct sendq_chunk *last = NULL;

    while (*link != NULL) {
        struct sendq_chunk *c = *link;
        uint32_t n = c->end - c->begin;

        if (keep >= n) {
            keep -= n;
        } else {
            bytes += drop_refs(q, s, c, c->begin + keep);
            keep = 0;
        }
        if (c->begin == c->end) {
            *link = c->next;
            pool_release(chunks, c);
        } else {
            last = c;
            link = &c->next;
        }
    }
    q->tail = last;
    return bytes;
}

static uint32_t drop_all(struct sendq *q, struct shard *s, struct pool *chunks)
{
    uint32_t bytes = 0;

    while (q->first.run != NULL) {
        bytes += q->first.len;
        q->refs--;
        shard_run_unref(s, q->first.run);
        pull_first(q, chunks);
    }
    q->gathered = 0;
    return bytes;
}

uint32_t sendq_drop(struct sendq *q, struct shard *s, struct pool *chunks, bool all)
{
    uint32_t bytes;

    if (PLANTED(PLANT_LEAK_ON_CLOSE) && all)
        q->first.run = NULL;
    if (q->first.run == NULL)
        return 0;
    bytes = all || q->gathered == 0 ? drop_all(q, s, chunks) : drop_waiting(q, s, chunks);
    q->bytes -= bytes;
    return bytes;
}
