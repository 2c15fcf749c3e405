/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Any bytes: all kernels agree with the scalar ones, and UTF-8 fed in any pieces fails in the piece
 * that holds the first bad byte, and in no other. The first input byte chooses the widths of pieces
 * and the key. One thread. */

#include <stdlib.h>
#include <string.h>

#include "core/simd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where feeding byte by byte fails, or len. */
static size_t first_bad_byte(const uint8_t *p, size_t len, bool *complete)
{
    struct utf8_state u;
    size_t i = 0;

    utf8_reset(&u);
    while (i < len && utf8_feed(&u, p + i, 1))
        i++;
    *complete = utf8_is_complete(&u);
    return i;
}

static void check_pieces(const uint8_t *p, size_t len, size_t first, size_t width)
{
    bool complete;
    size_t bad = first_bad_byte(p, len, &complete);
    struct utf8_state u;
    size_t to = first;

    utf8_reset(&u);
    for (size_t from = 0; from < len; from = to, to += min_size(width, len - to)) {
        bool ok = utf8_feed(&u, p + from, to - from);
        CHECK(ok == (bad >= to));
        if (!ok)
            return;
    }
    CHECK(utf8_is_complete(&u) == complete);
}

static void check_splits(const uint8_t *p, size_t len, uint8_t choice)
{
    size_t once = len == 0 ? 1 : len;

    for (size_t width = 2; width <= 5; width++)
        check_pieces(p, len, min_size(width, len), width);
    check_pieces(p, len, min_size(choice, len), 1 + choice % 67);
    for (size_t cut = 0; cut <= min_size(len, 160); cut++)
        check_pieces(p, len, cut, once);
}

static void check_unmask(const struct simd_kernels *k, const uint8_t *p, size_t len, uint32_t key)
{
    uint8_t *want = malloc(len + 1), *got = malloc(len + 1), *in_place = malloc(len + 1);

    CHECK(want != NULL);
    CHECK(got != NULL);
    CHECK(in_place != NULL);
    want[len] = got[len] = in_place[len] = 0x5a; /* must survive */
    memcpy(in_place, p, len);
    for (size_t i = 0; i < len; i++)
        want[i] = p[i] ^ (uint8_t)(key >> (8 * (i % 4)));
    k->unmask(got, p, len, key);
    k->unmask(in_place, in_place, len, key);
    CHECK(memcmp(got, want, len + 1) == 0);
    CHECK(memcmp(in_place, want, len + 1) == 0);
    free(want);
    free(got);
    free(in_place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct simd_kernels *list[8];
    uint32_t count = simd_available(list);
    bool complete;

    if (size == 0)
        return 0;
    uint8_t choice = data[0];
    const uint8_t *p = data + 1;
    size_t len = size - 1;
    bool valid = list[0]->utf8_valid(p, len);
    size_t bad = first_bad_byte(p, len, &complete);
    CHECK(valid == (bad == len && complete));
    for (uint32_t i = 0; i < count; i++) {
        CHECK(simd_init(list[i]->name) == 0);
        CHECK(simd->utf8_valid(p, len) == valid);
        CHECK(simd->ascii_prefix(p, len) == list[0]->ascii_prefix(p, len));
        CHECK(simd->json_string_scan(p, len) == list[0]->json_string_scan(p, len));
        check_splits(p, len, choice);
        check_unmask(simd, p, len, choice * 0x9e3779b1U);
    }
    return 0;
}
