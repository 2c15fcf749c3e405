/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Memory for messages and runs: pools by size class, the heap beyond. On the origin shard's thread;
 * run_new() and run_end() on the thread of the shard whose pool is passed. */

#include "core/message.h"

#include <stdlib.h>

/* Bytes that a class keeps at the most for the next messages. Under AddressSanitizer none, so that
 * it sees who uses a message that was freed. */
#ifdef POOL_POISONS
#define MESSAGE_KEPT_BYTES 0u
#else
#define MESSAGE_KEPT_BYTES (512u << 10)
#endif
/* Large messages take whole pages from the heap, so that one that is kept fits the next of about
 * its size. None above 1 MiB is kept: it would cost more than the allocation it spares. */
#define MESSAGE_LARGE_STEP 4096u
#define MESSAGE_KEPT_MAX (1u << 20)
/* A chunk holds at least this many slots of its class. */
#define MESSAGE_CHUNK_SLOTS_MIN 4

_Static_assert(MESSAGE_HEAD_BYTES == 80, "the smallest class leaves 112 bytes of payload");

/* By the number of 64-byte steps: 192, 256, 384, 512, 768, 1024. */
const uint8_t message_small_classes[17] = {0, 0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5};

/* What stands before a large message; the pooled ones know their capacity by their class. */
struct message_large {
    size_t alloc_bytes; /* of the whole allocation */
    _Alignas(16) struct message message;
};
#define MESSAGE_LARGE_HEAD (offsetof(struct message_large, message) + MESSAGE_HEAD_BYTES)

static const char *const class_names[MESSAGE_CLASSES] = {
    "message_192",   "message_256",   "message_384",   "message_512",   "message_768",
    "message_1024",  "message_1536",  "message_2048",  "message_3072",  "message_4096",
    "message_6144",  "message_8192",  "message_12288", "message_16384", "message_24576",
    "message_32768", "message_49152", "message_65536", "message_98304",
};

/* Even classes are midpoints, 1.5 * 2^(7 + k/2); odd ones powers of two. */
static uint32_t class_bytes(uint32_t k)
{
    return (k & 1) == 0 ? 192u << (k / 2) : 256u << (k / 2);
}

static struct message_large *large_of(const struct message *m)
{
    return container_of(m, struct message_large, message);
}

void message_pool_init(struct message_pool *mp, uint16_t shard)
{
    *mp = (struct message_pool){.shard = shard};
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++) {
        uint32_t chunk = POOL_CHUNK_BYTES_DEFAULT;
        while ((chunk - POOL_CHUNK_HEAD) / class_bytes(k) < MESSAGE_CHUNK_SLOTS_MIN)
            chunk *= 2;
        pool_init(&mp->classes[k], class_names[k], class_bytes(k), 0, chunk);
        mp->kept[k].max = MESSAGE_KEPT_BYTES / class_bytes(k);
    }
    pool_init(&mp->runs, "run", sizeof(struct run), 0, 0);
}

void message_pool_deinit(struct message_pool *mp)
{
    CHECK(mp->large_now == 0);
    message_pool_trim(mp);
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        pool_deinit(&mp->classes[k]);
    pool_deinit(&mp->runs);
}

void message_pool_trim(struct message_pool *mp)
{
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++) {
        struct message_kept *kept = &mp->kept[k];
        while (kept->head != NULL) {
            struct message *m = kept->head;
            kept->head = m->next;
            pool_release(&mp->classes[k], m);
        }
        kept->count = 0;
        pool_trim(&mp->classes[k]);
    }
    pool_trim(&mp->runs);
    if (mp->large_kept != NULL)
        free(large_of(mp->large_kept));
    mp->large_kept = NULL;
    mp->large_kept_cap = 0;
}

/* The kept one is taken unless it is more than twice too big: it may have to last for long. */
static struct message_large *large_take_kept(struct message_pool *mp, uint32_t payload_len)
{
    if (mp->large_kept == NULL || mp->large_kept_cap < payload_len ||
        mp->large_kept_cap / 2 > payload_len)
        return NULL;
    struct message_large *l = large_of(mp->large_kept);
    mp->large_kept = NULL;
    mp->large_kept_cap = 0;
    return l;
}

static struct message *large_new(struct message_pool *mp, uint32_t payload_len)
{
    struct message_large *l = large_take_kept(mp, payload_len);
    if (l == NULL) {
        size_t bytes = (size_t)payload_len + MESSAGE_LARGE_HEAD;
        bytes = (bytes + MESSAGE_LARGE_STEP - 1) & ~((size_t)MESSAGE_LARGE_STEP - 1);
        l = malloc(bytes);
        if (l == NULL)
            return NULL;
        l->alloc_bytes = bytes;
        mp->large_allocs++;
    }
    mp->large_now++;
    mp->large_bytes += l->alloc_bytes;
    message_set_up(&l->message, mp->shard, payload_len, MESSAGE_CLASSES);
    return &l->message;
}

/* The smallest class of at least `bytes`, 1 .. MESSAGE_POOLED_MAX: the highest two bits of the
 * largest index tell which half of which power of two it lies in. */
static uint32_t class_of(uint32_t bytes)
{
    uint32_t last = bytes <= 128 ? 128 : bytes - 1;
    uint32_t log2 = 31 - (uint32_t)__builtin_clz(last);
    return 2 * (log2 - 7) + (last >> (log2 - 1) & 1);
}

static struct message *new_of_class(struct message_pool *mp, uint32_t payload_len)
{
    if (payload_len > MESSAGE_POOLED_MAX - MESSAGE_HEAD_BYTES)
        return large_new(mp, payload_len);
    uint32_t class = class_of(payload_len + MESSAGE_HEAD_BYTES);
    if (mp->kept[class].head != NULL)
        return message_take_kept(&mp->kept[class], payload_len);
    struct message *m = pool_acquire(&mp->classes[class]);
    if (likely(m != NULL))
        message_set_up(m, mp->shard, payload_len, (uint8_t) class);
    return m;
}

struct message *message_new_any(struct message_pool *mp, uint32_t payload_len)
{
    struct message *m = new_of_class(mp, payload_len);
    if (unlikely(m == NULL))
        mp->failures++;
    return m;
}

uint32_t message_capacity(const struct message *m)
{
    if (m->size_class < MESSAGE_CLASSES)
        return class_bytes(m->size_class) - (uint32_t)MESSAGE_HEAD_BYTES;
    return (uint32_t)min_u64(large_of(m)->alloc_bytes - MESSAGE_LARGE_HEAD, UINT32_MAX);
}

static void large_free(struct message_pool *mp, struct message *m)
{
    struct message_large *l = large_of(m);
    mp->large_now--;
    mp->large_bytes -= l->alloc_bytes;
    if (mp->large_kept != NULL || l->alloc_bytes > MESSAGE_KEPT_MAX) {
        free(l);
        return;
    }
    mp->large_kept = m;
    mp->large_kept_cap = message_capacity(m);
}

void message_free_pooled(struct message_pool *mp, struct message *m)
{
    if (likely(m->size_class < MESSAGE_CLASSES))
        pool_release(&mp->classes[m->size_class], m);
    else
        large_free(mp, m);
}

size_t message_pool_mapped_bytes(const struct message_pool *mp)
{
    size_t bytes = pool_mapped_bytes(&mp->runs);
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        bytes += pool_mapped_bytes(&mp->classes[k]);
    return bytes;
}
