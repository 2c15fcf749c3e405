/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

#include "pubsub/redis_envelope.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct redis_envelope sample = {.node = 0x1122334455667788,
                                             .epoch = 0xa1b2c3d4,
                                             .seq = 0x01020304,
                                             .sender = 0x00100007,
                                             .sender_shard = 300,
                                             .opcode = 2};

static enum redis_envelope_status read(const uint8_t *bytes, size_t len, struct redis_envelope *e,
                                       struct bytes *payload)
{
    /* Of that length exactly, so that a sanitizer sees a step beyond it. */
    uint8_t *copy = malloc(len + (len == 0));
    enum redis_envelope_status st;

    memcpy(copy, bytes, len);
    st = redis_envelope_read((struct bytes){copy, len}, e, payload);
    if (st == REDIS_ENVELOPE_OK)
        payload->ptr = (uint8_t *)(uintptr_t)bytes + (payload->ptr - copy);
    free(copy);
    return st;
}

static void assert_same(const struct redis_envelope *a, const struct redis_envelope *b)
{
    cr_assert_eq(a->node, b->node);
    cr_assert_eq(a->epoch, b->epoch);
    cr_assert_eq(a->seq, b->seq);
    cr_assert_eq(a->sender, b->sender);
    cr_assert_eq(a->sender_shard, b->sender_shard);
    cr_assert_eq(a->opcode, b->opcode);
}

Test(redis_envelope, what_is_written_is_read)
{
    for (int with_sender = 0; with_sender < 2; with_sender++) {
        for (uint8_t opcode = 1; opcode <= 2; opcode++) {
            struct redis_envelope e = sample, got;
            uint8_t bytes[REDIS_ENVELOPE_MAX + 5];
            struct bytes payload;
            uint32_t len;

            e.opcode = opcode;
            if (!with_sender)
                e.sender = e.sender_shard = 0;
            len = redis_envelope_write(&e, bytes);
            cr_assert_eq(len, with_sender ? 26 : 20);
            memcpy(bytes + len, "hello", 5);
            cr_assert_eq(read(bytes, len + 5, &got, &payload), REDIS_ENVELOPE_OK);
            assert_same(&e, &got);
            cr_assert_eq(payload.ptr, bytes + len);
            cr_assert_eq(payload.len, 5);
            cr_assert_eq(read(bytes, len, &got, &payload), REDIS_ENVELOPE_OK);
            cr_assert_eq(payload.len, 0);
        }
    }
}

Test(redis_envelope, its_bytes_are_those_of_the_header_file)
{
    static const uint8_t expected[26] = {0xf7, 1,    0x12, 0,    0x88, 0x77, 0x66, 0x55, 0x44,
                                         0x33, 0x22, 0x11, 0xd4, 0xc3, 0xb2, 0xa1, 4,    3,
                                         2,    1,    7,    0,    0x10, 0,    0x2c, 1};
    uint8_t bytes[REDIS_ENVELOPE_MAX];

    cr_assert_eq(redis_envelope_write(&sample, bytes), sizeof(expected));
    cr_assert_arr_eq(bytes, expected, sizeof(expected));
}

Test(redis_envelope, every_cut_is_noticed)
{
    uint8_t bytes[REDIS_ENVELOPE_MAX];
    uint32_t len = redis_envelope_write(&sample, bytes);
    struct redis_envelope e;
    struct bytes payload;

    cr_assert_eq(read(bytes, 0, &e, &payload), REDIS_ENVELOPE_FOREIGN);
    cr_assert_eq(read(bytes, 1, &e, &payload), REDIS_ENVELOPE_VERSION);
    for (uint32_t n = 2; n < len; n++)
        cr_assert_eq(read(bytes, n, &e, &payload), REDIS_ENVELOPE_BROKEN, "%u", n);
}

/* One byte at a time, all its values: what is accepted is what would be written. */
Test(redis_envelope, every_other_byte_is_refused_or_read_as_it_stands)
{
    uint8_t good[REDIS_ENVELOPE_MAX], bytes[REDIS_ENVELOPE_MAX], again[REDIS_ENVELOPE_MAX];
    uint32_t len = redis_envelope_write(&sample, good);
    uint32_t refused = 0;

    for (uint32_t i = 0; i < len; i++) {
        for (uint32_t v = 0; v < 256; v++) {
            struct redis_envelope e;
            struct bytes payload;
            enum redis_envelope_status st;

            memcpy(bytes, good, len);
            bytes[i] = (uint8_t)v;
            st = read(bytes, len, &e, &payload);
            cr_assert_eq(st == REDIS_ENVELOPE_FOREIGN, i == 0 && v != 0xf7);
            cr_assert_eq(st == REDIS_ENVELOPE_VERSION, i == 1 && v != 1);
            if (st != REDIS_ENVELOPE_OK) {
                refused++;
                continue;
            }
            cr_assert_eq(redis_envelope_write(&e, again), len - payload.len);
            cr_assert_arr_eq(again, bytes, len - payload.len);
        }
    }
    /* Magic and version; opcode and flags but for 01, 02, 11, 12; the reserved byte. */
    cr_assert_eq(refused, 255 + 255 + 252 + 255);
}

Test(redis_envelope, number_0_and_sender_0_are_none)
{
    struct redis_envelope e = sample;
    struct bytes payload;
    uint8_t bytes[REDIS_ENVELOPE_MAX];
    uint32_t len;

    e.seq = 0;
    len = redis_envelope_write(&e, bytes);
    cr_assert_eq(read(bytes, len, &e, &payload), REDIS_ENVELOPE_BROKEN);
    len = redis_envelope_write(&sample, bytes);
    memset(bytes + 20, 0, 4);
    cr_assert_eq(read(bytes, len, &e, &payload), REDIS_ENVELOPE_BROKEN);
}
