/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* permessage-deflate. Input: a byte that says what, a byte of settings, then
 *   0: a compressed message: the same result in one step and in many, never over the limit;
 *   1: a message: compressed at some window it comes back whole;
 *   2: the value of a Sec-WebSocket-Extensions field: what is answered would be taken as an offer.
 */

#include <stdlib.h>
#include <string.h>

#include "net/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum deflate_status inflate(struct deflate *d, const uint8_t *p, size_t len, uint64_t limit,
                                   size_t budget, struct bytes *out)
{
    enum deflate_status st;
    size_t base = deflate_memory_bytes(d);
    deflate_inflate_begin(d, p, len, limit);
    do
        st = deflate_inflate_step(d, budget, out);
    while (st == DEFLATE_MORE);
    CHECK(st != DEFLATE_NO_MEMORY);
    CHECK(deflate_memory_bytes(d) <= base + limit + (64 << 10)); /* zlib's own, when first used */
    if (st == DEFLATE_DONE)
        CHECK(out->len <= limit);
    return st;
}

static void check_inflate(const uint8_t *p, size_t len, uint8_t settings)
{
    struct deflate *a = deflate_new(), *b = deflate_new();
    uint64_t limit = (uint64_t)settings * settings;
    struct bytes one, many;
    CHECK(a != NULL);
    CHECK(b != NULL);
    enum deflate_status st = inflate(a, p, len, limit, 1 << 20, &one);
    CHECK(inflate(b, p, len, limit, 1 + settings % 7, &many) == st);
    if (st == DEFLATE_DONE) {
        CHECK(one.len == many.len);
        CHECK(one.len == 0 || memcmp(one.ptr, many.ptr, one.len) == 0);
        /* The limit is exact. */
        if (one.len > 0)
            CHECK(inflate(b, p, len, one.len - 1, 100, &many) == DEFLATE_TOO_BIG);
        deflate_trim(b);
        CHECK(inflate(b, p, len, one.len, 100, &many) == DEFLATE_DONE);
    }
    deflate_free(a);
    deflate_free(b);
}

static void check_round_trip(const uint8_t *p, size_t len, uint8_t settings)
{
    struct deflate *d = deflate_new();
    uint8_t *packed = malloc(deflate_bound(len));
    size_t packed_len;
    struct bytes out;
    CHECK(d != NULL);
    CHECK(packed != NULL);
    for (int times = 0; times < 2; times++) /* the first leaves no trace in the second */
        CHECK(deflate_compress(d, 9 + settings % 7, p, len, packed, &packed_len) == 0);
    CHECK(inflate(d, packed, packed_len, len, 1 + settings, &out) == DEFLATE_DONE);
    CHECK(out.len == len);
    CHECK(len == 0 || memcmp(out.ptr, p, len) == 0);
    free(packed);
    deflate_free(d);
}

static void check_offer(const char *value, size_t len)
{
    struct deflate_params params = {0}, again = {0};
    char answer[160];
    if (!deflate_negotiate(value, len, &params) || !params.accepted)
        return;
    CHECK(params.server_max_window_bits >= 9);
    CHECK(params.server_max_window_bits <= 15);
    uint32_t answer_len = deflate_answer(&params, answer);
    CHECK(deflate_negotiate(answer, answer_len, &again));
    CHECK(again.accepted);
    CHECK(again.server_max_window_bits == params.server_max_window_bits);
    CHECK(again.server_max_window_bits_given == params.server_max_window_bits_given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t len = size - 2;
    uint8_t *p = malloc(len + 1); /* not one byte more behind it */
    CHECK(p != NULL);
    memcpy(p + 1, data + 2, len);
    if (data[0] % 3 == 0)
        check_inflate(p + 1, len, data[1]);
    else if (data[0] % 3 == 1)
        check_round_trip(p + 1, len, data[1]);
    else
        check_offer((const char *)p + 1, len);
    free(p);
    return 0;
}
