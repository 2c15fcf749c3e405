/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Choice of the kernels, their scalar twins, and UTF-8 in pieces. Any thread, but simd_init(),
 * which runs before there are others. The vector kernels are in simd_x86.c and simd_neon.c. */

#include "core/simd.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/simd_parts.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "keys and words are little-endian");

const struct simd_kernels *simd = &simd_scalar;

uint32_t simd_available(const struct simd_kernels *list[8])
{
    uint32_t count = 0;

    list[count++] = &simd_scalar;
#if defined(__x86_64__)
    count += simd_x86_available(list + count);
#elif defined(__aarch64__)
    list[count++] = &simd_neon; /* part of the base architecture */
#endif
    return count;
}

int simd_init(const char *want)
{
    const struct simd_kernels *list[8];
    uint32_t count = simd_available(list);

    if (want == NULL) {
        simd = list[count - 1];
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(list[i]->name, want) == 0) {
            simd = list[i];
            return 0;
        }
    }
    return -ENOTSUP;
}

/* UTF-8 in pieces ------------------------------------------------------------------------------ */

/* The range of the second byte tells apart what the length of the sequence does not: overlong
 * forms, surrogates, and what lies above U+10FFFF (RFC 3629 4). */
static bool utf8_begin(struct utf8_state *u, uint8_t lead)
{
    u->lower = 0x80;
    u->upper = 0xbf;
    if (lead < 0xc2 || lead > 0xf4)
        return false; /* a continuation, an overlong lead, or one that never occurs */
    if (lead < 0xe0) {
        u->need = 1;
    } else if (lead < 0xf0) {
        u->need = 2;
        if (lead == 0xe0)
            u->lower = 0xa0;
        else if (lead == 0xed)
            u->upper = 0x9f;
    } else {
        u->need = 3;
        if (lead == 0xf0)
            u->lower = 0x90;
        else if (lead == 0xf4)
            u->upper = 0x8f;
    }
    return true;
}

static bool utf8_step(struct utf8_state *u, uint8_t byte)
{
    if (u->need == 0)
        return byte < 0x80 || utf8_begin(u, byte);
    if (byte < u->lower || byte > u->upper)
        return false;
    u->need--;
    u->lower = 0x80;
    u->upper = 0xbf;
    return true;
}

/* No byte lies within these bounds, so every later step fails too. */
static bool utf8_fail(struct utf8_state *u)
{
    *u = (struct utf8_state){.need = 1, .lower = 0xff, .upper = 0x00};
    return false;
}

/* How many bytes at the end belong to a sequence that may go on behind it: 0 to 3. */
static size_t utf8_open_tail(const uint8_t *p, size_t len)
{
    if (len >= 1 && p[len - 1] >= 0xc0)
        return 1;
    if (len >= 2 && p[len - 2] >= 0xe0)
        return 2;
    if (len >= 3 && p[len - 3] >= 0xf0)
        return 3;
    return 0;
}

/* The bulk ends at a sequence's end or before a lead byte, so it is valid by itself or never. */
bool utf8_feed(struct utf8_state *u, const uint8_t *p, size_t len)
{
    size_t i = 0;

    if (u->lower > u->upper)
        return false;
    if (len == 0) /* the pointer may be NULL */
        return true;
    for (; i < len && u->need > 0; i++) {
        if (!utf8_step(u, p[i]))
            return utf8_fail(u);
    }
    size_t bulk = len - i - utf8_open_tail(p + i, len - i);
    if (bulk > 0 && !simd->utf8_valid(p + i, bulk))
        return utf8_fail(u);
    for (i += bulk; i < len; i++) {
        if (!utf8_step(u, p[i]))
            return utf8_fail(u);
    }
    return true;
}

/* Scalar twins --------------------------------------------------------------------------------- */

static void scalar_unmask(uint8_t *dst, const uint8_t *src, size_t len, uint32_t key)
{
    uint64_t key_twice = key | (uint64_t)key << 32;
    size_t i = 0;

    for (; i + 8 <= len; i += 8)
        simd_store64(dst + i, simd_load64(src + i) ^ key_twice);
    for (; i < len; i++)
        dst[i] = (uint8_t)(src[i] ^ key >> (8 * (i & 3)));
}

static size_t scalar_ascii_prefix(const uint8_t *p, size_t len)
{
    size_t i = 0;

    while (i + 8 <= len && (simd_load64(p + i) & 0x8080808080808080) == 0)
        i += 8;
    while (i < len && p[i] < 0x80)
        i++;
    return i;
}

static bool scalar_utf8_valid(const uint8_t *p, size_t len)
{
    struct utf8_state u = {0};

    for (size_t i = 0; i < len; i++) {
        if (u.need == 0) {
            i += scalar_ascii_prefix(p + i, len - i);
            if (i == len)
                break;
        }
        if (!utf8_step(&u, p[i]))
            return false;
    }
    return u.need == 0;
}

static size_t scalar_json_string_scan(const uint8_t *p, size_t len)
{
    size_t i = 0;

    while (i < len && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20)
        i++;
    return i;
}

const struct simd_kernels simd_scalar = {
    .name = "scalar",
    .unmask = scalar_unmask,
    .utf8_valid = scalar_utf8_valid,
    .ascii_prefix = scalar_ascii_prefix,
    .json_string_scan = scalar_json_string_scan,
};

/* Tables of the vector kernels ----------------------------------------------------------------- */

const uint8_t simd_slide[32] = {
    0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};

/* The vector kernels check UTF-8 by table lookup: J. Keiser, D. Lemire, "Validating UTF-8 in less
 * than one instruction per byte", Software: Practice and Experience 51(5), 2021.
 *
 * Three nibbles of each pair of neighbours (lead, next) decide whether the pair alone is wrong.
 * Each table has, for the values of its nibble, the flags of the errors that this value does not
 * rule out; the AND of the three lookups has a flag left where none of them does.
 *
 *     flag            lead              next
 *     TOO_SHORT       C0..FF            00..7F, C0..FF
 *     TOO_LONG        00..7F            80..BF
 *     OVERLONG_2      C0, C1            80..BF
 *     OVERLONG_3      E0                80..9F
 *     SURROGATE       ED                A0..BF
 *     TOO_LARGE       F4..FF            90..BF
 *     NEVER_8X        F0, F5..FF        80..8F
 *     SECOND_OF_TWO   80..BF            80..BF
 *
 * The last one is no error on the third and fourth byte of a sequence and must be there: a kernel
 * finds these bytes by the leads two and three places before them, and the flag and that finding
 * have to agree. */
enum {
    TOO_SHORT = 0x01,
    TOO_LONG = 0x02,
    OVERLONG_2 = 0x04,
    OVERLONG_3 = 0x08,
    SURROGATE = 0x10,
    TOO_LARGE = 0x20,
    NEVER_8X = 0x40,
    SECOND_OF_TWO = SIMD_UTF8_SECOND_OF_TWO,
    ANY_LOW = TOO_SHORT | TOO_LONG | SECOND_OF_TWO,   /* whatever the lead's low nibble */
    ANY_CONT = TOO_LONG | OVERLONG_2 | SECOND_OF_TWO, /* whatever continuation follows */
};

const struct simd_utf8_tables simd_utf8_tables = {
    .lead_high =
        {
            [0x0 ... 0x7] = TOO_LONG,
            [0x8 ... 0xb] = SECOND_OF_TWO,
            [0xc] = TOO_SHORT | OVERLONG_2,
            [0xd] = TOO_SHORT,
            [0xe] = TOO_SHORT | OVERLONG_3 | SURROGATE,
            [0xf] = TOO_SHORT | TOO_LARGE | NEVER_8X,
        },
    .lead_low =
        {
            [0x0] = ANY_LOW | OVERLONG_2 | OVERLONG_3 | NEVER_8X,
            [0x1] = ANY_LOW | OVERLONG_2,
            [0x2 ... 0x3] = ANY_LOW,
            [0x4] = ANY_LOW | TOO_LARGE,
            [0x5 ... 0xc] = ANY_LOW | TOO_LARGE | NEVER_8X,
            [0xd] = ANY_LOW | TOO_LARGE | NEVER_8X | SURROGATE,
            [0xe ... 0xf] = ANY_LOW | TOO_LARGE | NEVER_8X,
        },
    .next_high =
        {
            [0x0 ... 0x7] = TOO_SHORT,
            [0x8] = ANY_CONT | OVERLONG_3 | NEVER_8X,
            [0x9] = ANY_CONT | OVERLONG_3 | TOO_LARGE,
            [0xa ... 0xb] = ANY_CONT | SURROGATE | TOO_LARGE,
            [0xc ... 0xf] = TOO_SHORT,
        },
};
