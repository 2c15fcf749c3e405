/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Outgoing compression. On the shard's thread. */

#include "net/compress.h"

#include "net/inflate.h"

struct message *compress_message(struct net *n, const struct message *m)
{
    const uint8_t *payload = m->data + MESSAGE_HEAD_ROOM;
    uint64_t work = (uint64_t)m->payload_len * WORK_PER_COMPRESSED;
    struct message *z;
    size_t len;

    if (m->payload_len < n->config->compress_min_bytes || m->payload_len == 0)
        return NULL;
    if (work > n->work_left) {
        net_stat(n, NET_STAT_COMPRESS_SKIPPED);
        return NULL;
    }
    n->work_left -= work;
    if (n->deflate == NULL)
        n->deflate = deflate_new();
    z = n->deflate == NULL
            ? NULL
            : message_new(&n->shard->messages, (uint32_t)deflate_bound(m->payload_len));
    if (z == NULL)
        return NULL;
    if (deflate_compress(n->deflate, COMPRESS_WINDOW_BITS, payload, m->payload_len,
                         message_payload(z), &len) != 0 ||
        len >= m->payload_len) {
        message_free(&n->shard->messages, z);
        return NULL;
    }
    z->payload_len = (uint32_t)len;
    z->opcode = m->opcode;
    z->sender = m->sender;
    z->sender_shard = m->sender_shard;
    net_message_frame(z, true);
    net_stat(n, NET_STAT_COMPRESSED);
    return z;
}
