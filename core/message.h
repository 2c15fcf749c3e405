/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_MESSAGE_H
#define CORE_MESSAGE_H

/* Immutable, reference-counted bytes that shards share without atomics, and the runs that queues
 * hold.
 *
 * A message's memory belongs to the pool of its origin shard and returns there. Its counter `refs`
 * counts shards, not queues: it is written by one shard at a time, `home` (first the origin; who
 * passes the message through the mesh passes the counter with it). Every shard that was given the
 * message holds one reference, counts its own uses in a run, and gives the one reference back when
 * they are over (see shard_message_release() in core/shard.h).
 *
 * In front of the payload there is room for a frame header, so that a message becomes its own frame
 * without a copy. */

#include "core/pool.h"

/* Room for the longest header that a server puts before a payload (RFC 6455 5.2: 10 bytes). */
#define MESSAGE_HEAD_ROOM 16

struct message;

/* Bytes that leave together and stay until the last queue has sent them. One shard. */
struct run {
    struct message *message; /* whose bytes these are; the run holds one of its references */
    const uint8_t *bytes;
    uint32_t len;
    uint32_t uses; /* references by queues and holders on this shard */
};

struct message {
    struct run run;       /* the home shard's own run: spares it an allocation */
    struct message *next; /* link of whoever holds the message alone, or of the free list */
    uint64_t seq;         /* position in its channel, given by the home */
    uint32_t refs;        /* shards that hold it; written by `home` only */
    uint32_t payload_len;
    uint16_t origin; /* shard whose pool the memory is from */
    uint16_t home;   /* shard that writes refs */
    uint8_t size_class;
    uint8_t opcode;   /* kind of payload, the transport's number; undefined until it sets it */
    uint8_t head_len; /* bytes of header before the payload */
    uint8_t reserved;
    uint32_t sender; /* handle of the connection it came from, on shard sender_shard; 0: none */
    uint16_t sender_shard;       /* undefined while sender is 0 */
    _Alignas(16) uint8_t data[]; /* MESSAGE_HEAD_ROOM bytes, then the payload */
};

/* Size classes: powers of two and their midpoints from 192 bytes (header included) to 96 KiB come
 * from pools; larger ones from the heap, of which a few are kept. */
#define MESSAGE_CLASSES 19

#define MESSAGE_POOLED_MAX (96u << 10) /* largest class, header included */

/* Freed messages of a class that the next ones take before they ask the pool; given back to it when
 * the shard has nothing to do (message_pool_trim). */
struct message_kept {
    struct message *head; /* linked by message.next */
    uint32_t count;
    uint32_t max;
};

struct message_pool {
    struct message_kept kept[MESSAGE_CLASSES + 1]; /* the last, of large ones, keeps none */
    struct pool classes[MESSAGE_CLASSES];
    struct pool runs;
    uint16_t shard;
    uint64_t large_now;         /* messages larger than the largest class, now */
    uint64_t large_bytes;       /* their bytes, now */
    uint64_t large_allocs;      /* heap allocations made for them, ever */
    uint64_t failures;          /* messages and runs refused for want of memory, ever */
    struct message *large_kept; /* a freed large message kept for the next one, at most one */
    uint32_t large_kept_cap;    /* its payload capacity */
};

void message_pool_init(struct message_pool *mp, uint16_t shard);
void message_pool_deinit(struct message_pool *mp);

/* Gives what is kept back to the pools. */
void message_pool_trim(struct message_pool *mp);

/* The rare parts of new and free. */
struct message *message_new_any(struct message_pool *mp, uint32_t payload_len);
void message_free_pooled(struct message_pool *mp, struct message *m);

#define MESSAGE_HEAD_BYTES ((uint32_t)offsetof(struct message, data) + MESSAGE_HEAD_ROOM)

/* The classes of sizes up to MESSAGE_SMALL_MAX, header included, in steps of 64 bytes. */
#define MESSAGE_SMALL_MAX 1024
extern const uint8_t message_small_classes[17];

static inline void message_set_up(struct message *m, uint16_t shard, uint32_t payload_len,
                                  uint8_t class)
{
    m->run.message = NULL;
    m->refs = 1;
    m->payload_len = payload_len;
    m->origin = shard;
    m->home = shard;
    m->size_class = class;
    m->head_len = 0;
    m->sender = 0;
}

/* Origin and class of a kept message are what they were, its run is unused: the rest is set up. */
static inline struct message *message_take_kept(struct message_kept *kept, uint32_t payload_len)
{
    struct message *m = kept->head;
    kept->head = m->next;
    kept->count--;
    m->refs = 1;
    m->payload_len = payload_len;
    m->home = m->origin;
    m->head_len = 0;
    m->sender = 0;
    return m;
}

/* A message with room for payload_len bytes; refs 1, origin and home this shard, run unused.
 * NULL without memory. Origin shard. */
MUST_USE static inline struct message *message_new(struct message_pool *mp, uint32_t payload_len)
{
    if (unlikely(payload_len > MESSAGE_SMALL_MAX - MESSAGE_HEAD_BYTES))
        return message_new_any(mp, payload_len);
    uint32_t class = message_small_classes[(payload_len + MESSAGE_HEAD_BYTES + 63) / 64];
    if (unlikely(mp->kept[class].head == NULL))
        return message_new_any(mp, payload_len);
    return message_take_kept(&mp->kept[class], payload_len);
}

/* Payload bytes that fit into m without another allocation (>= payload_len asked for). */
uint32_t message_capacity(const struct message *m);

/* message_free() where it was seen already that m is this shard's. */
static inline void message_free_own(struct message_pool *mp, struct message *m)
{
    struct message_kept *kept = &mp->kept[m->size_class];
    if (unlikely(kept->count >= kept->max)) {
        message_free_pooled(mp, m);
        return;
    }
    m->next = kept->head;
    kept->head = m;
    kept->count++;
}

/* Gives the memory back. Origin shard, nobody holds m. */
static inline void message_free(struct message_pool *mp, struct message *m)
{
    CHECK(m->origin == mp->shard);
    DCHECK(m->run.message == NULL);
    message_free_own(mp, m);
}

static inline uint8_t *message_payload(struct message *m)
{
    return m->data + MESSAGE_HEAD_ROOM;
}

/* The header (written by the transport into the room) and the payload in one span. */
static inline const uint8_t *message_frame(const struct message *m)
{
    return m->data + MESSAGE_HEAD_ROOM - m->head_len;
}

static inline uint32_t message_frame_len(const struct message *m)
{
    return m->head_len + m->payload_len;
}

/* A run with uses 1 over a message of which this shard holds a reference, which the run takes over.
 * On the home shard, and while it is not in use, that is the message's own; else one from the pool.
 * NULL without memory (the reference stays the caller's). */
MUST_USE static inline struct run *run_new(struct message_pool *mp, struct message *m)
{
    /* Order matters: only the home may look into m->run. */
    struct run *r = &m->run;
    if (unlikely(m->home != mp->shard || r->message != NULL)) {
        r = pool_acquire(&mp->runs);
        if (unlikely(r == NULL)) {
            mp->failures++;
            return NULL;
        }
    }
    r->message = m;
    r->bytes = message_frame(m);
    r->len = message_frame_len(m);
    r->uses = 1;
    return r;
}

static inline void run_ref(struct run *r)
{
    r->uses++;
}

/* Ends a run whose uses are 0; returns the message whose reference the caller must now release. */
static inline struct message *run_end(struct message_pool *mp, struct run *r)
{
    CHECK(r->uses == 0);
    struct message *m = r->message;
    r->message = NULL;
    if (unlikely(r != &m->run))
        pool_release(&mp->runs, r);
    return m;
}

size_t message_pool_mapped_bytes(const struct message_pool *mp);

#endif
