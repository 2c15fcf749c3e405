/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Headers of messages between nodes: what is read, written again, is the same bytes, and the
 * payload is what follows them; no shorter piece of it is read, nor another first or second byte;
 * and what is written of any values is read as the same values. Input: the message. */

#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads a copy of exactly that length, so that a sanitizer sees a step beyond it. */
static enum redis_envelope_status read_copy(const uint8_t *bytes, size_t len,
                                            struct redis_envelope *e, struct bytes *payload)
{
    uint8_t *copy = malloc(len + (len == 0));
    enum redis_envelope_status status;

    CHECK(copy != NULL);
    if (len > 0)
        memcpy(copy, bytes, len);
    status = redis_envelope_read((struct bytes){copy, len}, e, payload);
    if (status == REDIS_ENVELOPE_OK) {
        CHECK(payload->ptr == copy + (len - payload->len));
        payload->ptr = (uint8_t *)(uintptr_t)bytes + (len - payload->len);
    }
    free(copy);
    return status;
}

static void check_pieces(const uint8_t *bytes, size_t head)
{
    uint8_t other[REDIS_ENVELOPE_MAX];
    struct redis_envelope e;
    struct bytes payload;

    for (size_t len = 0; len < head; len++)
        CHECK(read_copy(bytes, len, &e, &payload) != REDIS_ENVELOPE_OK);
    for (int i = 0; i < 2; i++) {
        memcpy(other, bytes, head);
        other[i] ^= (uint8_t)(1 + bytes[head - 1] % 255);
        CHECK(read_copy(other, head, &e, &payload) ==
              (i == 0 ? REDIS_ENVELOPE_FOREIGN : REDIS_ENVELOPE_VERSION));
    }
}

static void check_read(const uint8_t *data, size_t size)
{
    uint8_t again[REDIS_ENVELOPE_MAX];
    struct redis_envelope e;
    struct bytes payload;
    uint32_t head;

    if (read_copy(data, size, &e, &payload) != REDIS_ENVELOPE_OK)
        return;
    head = redis_envelope_write(&e, again);
    CHECK(head + payload.len == size);
    CHECK(memcmp(again, data, head) == 0);
    check_pieces(data, head);
}

/* The same bytes as values, made such as a node would write. */
static void check_written(const uint8_t *data, size_t size)
{
    uint8_t bytes[REDIS_ENVELOPE_MAX];
    struct redis_envelope e = {0}, got;
    struct bytes payload;
    uint32_t head;

    memcpy(&e, data, size < sizeof(e) ? size : sizeof(e));
    e.opcode = 1 + e.opcode % 2;
    e.seq += e.seq == 0;
    if (e.sender == 0)
        e.sender_shard = 0;
    head = redis_envelope_write(&e, bytes);
    CHECK(read_copy(bytes, head, &got, &payload) == REDIS_ENVELOPE_OK);
    CHECK(payload.len == 0);
    CHECK(got.node == e.node && got.epoch == e.epoch && got.seq == e.seq);
    CHECK(got.sender == e.sender && got.sender_shard == e.sender_shard);
    CHECK(got.opcode == e.opcode);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_read(data, size);
    if (size > 0)
        check_written(data, size);
    return 0;
}
