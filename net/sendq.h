/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_SENDQ_H
#define NET_SENDQ_H

/* The send queue of a connection: references to runs, first in, first out. One shard.
 *
 * The empty queue owns nothing; one reference lives in the queue itself, further ones in pooled
 * chunks. A gather takes what waits at the front, up to the bounds below, for one send; those
 * references stay in the queue (and hold their runs) until sendq_sent(). */

#include "core/message.h"
#include "core/shard.h"

#define SENDQ_CHUNK_REFS 15

/* A part of a run. Holds one use of it. */
struct sendq_ref {
    struct run *run;
    uint32_t off;
    uint32_t len;
};

struct sendq_chunk {
    struct sendq_chunk *next;
    uint32_t begin; /* refs[begin..end) are queued */
    uint32_t end;
    struct sendq_ref refs[SENDQ_CHUNK_REFS];
};

struct sendq {
    struct sendq_ref first;   /* oldest; first.run NULL: the queue is empty */
    struct sendq_chunk *head; /* behind `first` */
    struct sendq_chunk *tail;
    uint32_t bytes;    /* queued, the ones under way included */
    uint16_t gathered; /* references of the send under way; they are the oldest */
    uint16_t refs;     /* all references, saturating use is prevented by SENDQ_REFS_MAX */
};

/* Of any queue, whatever its bound in bytes. */
#define SENDQ_REFS_MAX 60000

/* What a reference counts beside its bytes. It takes 17 bytes, and a message that nobody else has
 * takes up to 192 more than its bytes: this is between the two, so that a queue of tiny messages
 * holds some three times the memory that it counts, and one of shared messages less than that. */
#define SENDQ_REF_COST 64

static inline bool sendq_is_empty(const struct sendq *q)
{
    return q->first.run == NULL;
}

/* Slow path of sendq_push(): a new chunk. False without memory or over SENDQ_REFS_MAX. */
bool sendq_push_chunk(struct sendq *q, struct pool *chunks, struct sendq_ref ref);

static inline bool sendq_push_ref(struct sendq *q, struct pool *chunks, struct sendq_ref ref)
{
    struct sendq_chunk *tail = q->tail;

    if (likely(q->first.run == NULL))
        q->first = ref;
    else if (likely(tail != NULL && tail->end < SENDQ_CHUNK_REFS))
        tail->refs[tail->end++] = ref;
    else
        return sendq_push_chunk(q, chunks, ref);
    q->refs++;
    return true;
}

/* Appends run[off..off+len) and takes a new use of the run. False: nothing happened, see above. */
MUST_USE static inline bool sendq_push(struct sendq *q, struct pool *chunks, struct run *run,
                                       uint32_t off, uint32_t len)
{
    if (unlikely(!sendq_push_ref(q, chunks, (struct sendq_ref){run, off, len})))
        return false;
    q->bytes += len;
    run_ref(run);
    return true;
}

/* The newest reference; the queue is not empty. Good until something is pushed or sent. */
static inline struct sendq_ref *sendq_last(struct sendq *q)
{
    return q->tail != NULL ? &q->tail->refs[q->tail->end - 1] : &q->first;
}

/* Fills iov (IO_IOV_MAX) with what leaves in the next send: whole references of at most bytes_max
 * together, or a single one of any size. Returns the number of spans, *bytes their sum. Not while a
 * send is under way; the queue is not empty. */
int sendq_gather(struct sendq *q, struct iovec *iov, size_t bytes_max, size_t *bytes);

/* The bytes of all references that are not under way. A walk over those that are. */
uint64_t sendq_waiting_bytes(const struct sendq *q);

/* What was gathered has been sent: its references are dropped. Returns the bytes that left. */
uint32_t sendq_sent(struct sendq *q, struct shard *s, struct pool *chunks);

/* The same for a queue whose one reference was gathered. */
static inline void sendq_sent_single(struct sendq *q, struct shard *s)
{
    struct run *r = q->first.run;

    DCHECK(q->refs == 1);
    q->first.run = NULL;
    q->bytes = 0;
    q->gathered = 0;
    q->refs = 0;
    shard_run_unref(s, r);
}

/* For a transport that copies what it sends: the same for at most refs_max references and bytes_max
 * bytes (> 0). The last reference may be taken in part: *cut is how much of it, or 0. */
int sendq_gather_upto(struct sendq *q, struct iovec *iov, uint32_t refs_max, size_t bytes_max,
                      size_t *bytes, uint32_t *cut);

/* What that has gathered has been sent. What is left of a reference taken in part is the queue's
 * front now. */
uint32_t sendq_sent_upto(struct sendq *q, struct shard *s, struct pool *chunks, uint32_t cut);

/* Drops what is not under way; with `all` that too (the backend has forgotten the send). Returns
 * the bytes dropped. */
uint32_t sendq_drop(struct sendq *q, struct shard *s, struct pool *chunks, bool all);

#endif
