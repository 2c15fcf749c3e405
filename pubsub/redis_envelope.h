/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_ENVELOPE_H
#define PUBSUB_REDIS_ENVELOPE_H

/* The header of a message between nodes; the payload follows unchanged. Any thread.
 *
 *      0  1  0xF7: begins no UTF-8, so that no text is taken for a header
 *      1  1  version, 1
 *      2  1  bits 0-3: opcode (RFC 6455 5.2: 1 text, 2 binary); bit 4: a sender follows
 *      3  1  0
 *      4  8  node: random, new for every process
 *     12  4  epoch of the room on that node: grows whenever it numbers the room from 1 again
 *     16  4  sequence number in the room, of that node's messages, from 1 on
 *     20  4  handle of the sending connection (with bit 4)
 *     24  2  its shard (with bit 4)
 *
 * Numbers are little-endian. */

#include <stdbool.h>

#include "core/base.h"

#define REDIS_ENVELOPE_MAX 26

struct redis_envelope {
    uint64_t node;
    uint32_t epoch;
    uint32_t seq;
    uint32_t sender; /* 0: nobody who wants no echo */
    uint16_t sender_shard;
    uint8_t opcode; /* 1 or 2 */
};

enum redis_envelope_status {
    REDIS_ENVELOPE_OK,
    REDIS_ENVELOPE_FOREIGN, /* not one of ours: no header */
    REDIS_ENVELOPE_VERSION, /* of a version that is not known here */
    REDIS_ENVELOPE_BROKEN,  /* cut, or with values that no node writes */
};

/* Writes the header into out (REDIS_ENVELOPE_MAX bytes); returns its length. */
uint32_t redis_envelope_write(const struct redis_envelope *e, uint8_t *out);

/* Reads the header of in; *payload is what follows it, in place. */
enum redis_envelope_status redis_envelope_read(struct bytes in, struct redis_envelope *e,
                                               struct bytes *payload);

#endif
