/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The header of a message between nodes. Pure, any thread. */

#include "pubsub/redis_envelope.h"

#include <endian.h>
#include <string.h>

#define MAGIC 0xf7
#define VERSION 1
#define OPCODE_MASK 0x0f
#define HAS_SENDER 0x10
#define HEAD_BYTES 20

static void put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

uint32_t redis_envelope_write(const struct redis_envelope *e, uint8_t *out)
{
    uint64_t node = htole64(e->node);
    uint16_t shard = htole16(e->sender_shard);

    out[0] = MAGIC;
    out[1] = VERSION;
    out[2] = e->opcode;
    out[3] = 0;
    memcpy(out + 4, &node, sizeof(node));
    put32(out + 12, e->epoch);
    put32(out + 16, e->seq);
    if (e->sender == 0)
        return HEAD_BYTES;
    out[2] |= HAS_SENDER;
    put32(out + 20, e->sender);
    memcpy(out + 24, &shard, sizeof(shard));
    return REDIS_ENVELOPE_MAX;
}

static bool read_sender(const uint8_t *p, struct redis_envelope *e)
{
    uint16_t shard;

    memcpy(&shard, p + 4, sizeof(shard));
    e->sender = get32(p);
    e->sender_shard = le16toh(shard);
    return e->sender != 0;
}

enum redis_envelope_status redis_envelope_read(struct bytes in, struct redis_envelope *e,
                                               struct bytes *payload)
{
    const uint8_t *p = in.ptr;
    size_t head = HEAD_BYTES;
    uint64_t node;

    if (in.len == 0 || p[0] != MAGIC)
        return REDIS_ENVELOPE_FOREIGN;
    if (in.len < 2 || p[1] != VERSION)
        return REDIS_ENVELOPE_VERSION;
    if (in.len < HEAD_BYTES)
        return REDIS_ENVELOPE_BROKEN;
    memcpy(&node, p + 4, sizeof(node));
    *e = (struct redis_envelope){.node = le64toh(node),
                                 .epoch = get32(p + 12),
                                 .seq = get32(p + 16),
                                 .opcode = p[2] & OPCODE_MASK};
    if (p[2] & HAS_SENDER) {
        head = REDIS_ENVELOPE_MAX;
        if (in.len < head || !read_sender(p + HEAD_BYTES, e))
            return REDIS_ENVELOPE_BROKEN;
    }
    if ((p[2] & ~(OPCODE_MASK | HAS_SENDER)) != 0 || p[3] != 0 || e->seq == 0 || e->opcode < 1 ||
        e->opcode > 2)
        return REDIS_ENVELOPE_BROKEN;
    *payload = (struct bytes){in.ptr + head, in.len - head};
    return REDIS_ENVELOPE_OK;
}
