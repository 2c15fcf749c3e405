/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* permessage-deflate: offers to the letter of RFC 7692 7.1, messages to that of 7.2, and a bomb. */

#include "net/deflate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PMD "permessage-deflate"
#define BOTH_OFF PMD "; server_no_context_takeover; client_no_context_takeover"

enum { BAD = -1, DECLINED = 0 };

/* Offers: malformed, declined, or the window bits of the accepted one, and whether both window
 * parameters were given. */
static const struct {
    const char *value;
    int bits;
    bool server_given, client_given;
} offers[] = {
    {PMD, 15, false, false},
    {"Permessage-Deflate", 15, false, false},
    {"  " PMD " \t", 15, false, false},
    {PMD "; server_no_context_takeover", 15, false, false},
    {PMD ";client_no_context_takeover", 15, false, false},
    {PMD " ; client_no_context_takeover ; server_no_context_takeover", 15, false, false},
    {PMD "; SERVER_no_context_takeover", 15, false, false},
    {PMD "; server_no_context_takeover=true", DECLINED, false, false},
    {PMD "; client_no_context_takeover=1", DECLINED, false, false},
    {PMD "; client_no_context_takeover=\"x\"", DECLINED, false, false},
    {PMD "; client_max_window_bits", 15, false, true},
    {PMD "; client_max_window_bits=8", 15, false, true},
    {PMD "; client_max_window_bits=15", 15, false, true},
    {PMD "; client_max_window_bits=\"10\"", 15, false, true},
    {PMD "; client_max_window_bits = 10", 15, false, true},
    {PMD "; client_max_window_bits=7", DECLINED, false, false},
    {PMD "; client_max_window_bits=16", DECLINED, false, false},
    {PMD "; client_max_window_bits=010", DECLINED, false, false},
    {PMD "; client_max_window_bits=08", DECLINED, false, false},
    {PMD "; client_max_window_bits=1", DECLINED, false, false},
    {PMD "; client_max_window_bits=0", DECLINED, false, false},
    {PMD "; client_max_window_bits=150", DECLINED, false, false},
    {PMD "; client_max_window_bits=1a", DECLINED, false, false},
    {PMD "; client_max_window_bits=+9", DECLINED, false, false},
    {PMD "; client_max_window_bits=\"1234567890\"", DECLINED, false, false},
    {PMD "; server_max_window_bits=9", 9, true, false},
    {PMD "; server_max_window_bits=10", 10, true, false},
    {PMD "; server_max_window_bits=\"12\"", 12, true, false},
    {PMD "; server_max_window_bits=\"1\\2\"", 12, true, false},
    {PMD "; server_max_window_bits=15", 15, true, false},
    {PMD "; server_max_window_bits=8", DECLINED, false, false}, /* zlib has no such window */
    {PMD "; server_max_window_bits", DECLINED, false, false},
    {PMD "; server_max_window_bits=7", DECLINED, false, false},
    {PMD "; server_max_window_bits=16", DECLINED, false, false},
    {PMD "; server_max_window_bits=010", DECLINED, false, false},
    {PMD "; server_max_window_bits=9; client_max_window_bits=9", 9, true, true},
    {PMD "; server_max_window_bits=10; server_max_window_bits=10", DECLINED, false, false},
    {PMD "; client_max_window_bits; client_max_window_bits", DECLINED, false, false},
    {PMD "; server_no_context_takeover; server_no_context_takeover", DECLINED, false, false},
    {PMD "; client_no_context_takeover; x", DECLINED, false, false},
    {PMD "; unknown", DECLINED, false, false},
    {PMD "; unknown=1", DECLINED, false, false},
    {"x-webkit-deflate-frame", DECLINED, false, false},
    {"permessage-deflat", DECLINED, false, false},
    {"other; a=b; c=\"d\", another", DECLINED, false, false},
    /* Several: the first acceptable one. */
    {PMD "; server_max_window_bits=8, " PMD, 15, false, false},
    {PMD "; server_max_window_bits=11, " PMD, 11, true, false},
    {"other, " PMD "; unknown, " PMD "; client_max_window_bits," PMD, 15, false, true},
    {", ," PMD ",", 15, false, false},
    /* Not what RFC 6455 9.1 allows at all. */
    {"", BAD, false, false},
    {"  ", BAD, false, false},
    {",", BAD, false, false},
    {PMD ";", BAD, false, false},
    {PMD "; ", BAD, false, false},
    {PMD ";;client_max_window_bits", BAD, false, false},
    {PMD "; client_max_window_bits=", BAD, false, false},
    {PMD "; client_max_window_bits=\"\"", BAD, false, false},
    {PMD "; client_max_window_bits=\"10", BAD, false, false},
    {PMD "; client_max_window_bits=\"1 0\"", BAD, false, false},
    {PMD "; client_max_window_bits=\"10\\", BAD, false, false},
    {PMD "; client_max_window_bits=\"10\"x", BAD, false, false},
    {PMD "; client_max_window_bits=1 0", BAD, false, false},
    {PMD "; =10", BAD, false, false},
    {PMD " x", BAD, false, false},
    {PMD "=10", BAD, false, false},
    {"a b", BAD, false, false},
    {"a/b", BAD, false, false},
    {";", BAD, false, false},
    {PMD ", ;", BAD, false, false},
    {PMD ", a=b", BAD, false, false},
    {"\"" PMD "\"", BAD, false, false},
};

/* In memory of exactly the value's size. */
static bool negotiate(const char *value, struct deflate_params *params)
{
    size_t len = strlen(value);
    char *copy = malloc(len + 1);
    cr_assert_not_null(copy);
    memmove(copy + 1, value, len);
    bool good = deflate_negotiate(copy + 1, len, params);
    free(copy);
    return good;
}

Test(deflate, offers_are_answered_to_the_letter)
{
    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        struct deflate_params params = {0};
        bool good = negotiate(offers[i].value, &params);
        cr_assert_eq(good, offers[i].bits != BAD, "%s", offers[i].value);
        if (!good)
            continue;
        cr_assert_eq(params.accepted, offers[i].bits > 0, "%s", offers[i].value);
        if (!params.accepted)
            continue;
        cr_assert_eq(params.server_max_window_bits, offers[i].bits, "%s", offers[i].value);
        cr_assert_eq(params.server_max_window_bits_given, offers[i].server_given);
        cr_assert_eq(params.client_max_window_bits_given, offers[i].client_given);
    }
}

Test(deflate, of_several_fields_the_first_acceptable_offer_wins)
{
    struct deflate_params params = {0};
    cr_assert(negotiate(PMD "; unknown", &params));
    cr_assert_not(params.accepted);
    cr_assert(negotiate(PMD "; server_max_window_bits=10", &params));
    cr_assert(negotiate(PMD "; server_max_window_bits=12", &params));
    cr_assert(params.accepted);
    cr_assert_eq(params.server_max_window_bits, 10);
    cr_assert_not(negotiate("a b", &params)); /* still read */
}

Test(deflate, the_answer_names_what_was_asked_for)
{
    for (int bits = 8; bits <= 15; bits++) {
        const struct deflate_params params = {.accepted = true,
                                              .server_max_window_bits_given = bits > 8,
                                              .client_max_window_bits_given = true,
                                              .server_max_window_bits = (uint8_t)bits};
        char out[160], want[160];
        uint32_t len = deflate_answer(&params, out);
        if (bits == 8)
            strcpy(want, BOTH_OFF);
        else
            snprintf(want, sizeof want, BOTH_OFF "; server_max_window_bits=%d", bits);
        cr_assert_eq(len, strlen(want));
        cr_assert_eq(memcmp(out, want, len), 0);
    }
}

/* Messages ------------------------------------------------------------------------------------ */

/* Inflates in steps of `budget`, from memory of exactly the message's size. */
static enum deflate_status inflate_all(struct deflate *d, const void *in, size_t len,
                                       uint64_t limit, size_t budget, struct bytes *out)
{
    uint8_t *copy = malloc(len + 1);
    cr_assert_not_null(copy);
    memcpy(copy + 1, in, len);
    deflate_inflate_begin(d, copy + 1, len, limit);
    enum deflate_status st = DEFLATE_MORE;
    for (size_t steps = 0; st == DEFLATE_MORE; steps++) {
        cr_assert_leq(steps, 2 * (limit + len + 100) / budget + 10, "no end");
        st = deflate_inflate_step(d, budget, out);
    }
    free(copy);
    return st;
}

static void expect_inflated(const void *in, size_t len, const char *text)
{
    struct deflate *d = deflate_new();
    for (size_t budget = 1; budget <= 64; budget += 3) {
        struct bytes out;
        cr_assert_eq(inflate_all(d, in, len, 1000, budget, &out), DEFLATE_DONE);
        cr_assert_eq(out.len, strlen(text));
        cr_assert(out.len == 0 || memcmp(out.ptr, text, out.len) == 0);
    }
    deflate_free(d);
}

static void expect_bad(const void *in, size_t len)
{
    struct deflate *d = deflate_new();
    struct bytes out;
    cr_assert_eq(inflate_all(d, in, len, 1000, 1000, &out), DEFLATE_BAD);
    cr_assert_eq(inflate_all(d, in, len, 1000, 1, &out), DEFLATE_BAD);
    /* The next message is not spoiled. */
    cr_assert_eq(inflate_all(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 1000, 1000, &out), DEFLATE_DONE);
    deflate_free(d);
}

#define MESSAGE(s) s, sizeof(s) - 1

Test(deflate, the_examples_of_rfc_7692_7_2_3_are_inflated)
{
    expect_inflated(MESSAGE("\xf2\x48\xcd\xc9\xc9\x07\x00"), "Hello");                 /* .1 */
    expect_inflated(MESSAGE("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), "Hello"); /* .3 */
    expect_inflated(MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), "Hello");             /* .4 */
    expect_inflated(MESSAGE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
                    "Hello");             /* .5 */
    expect_inflated(MESSAGE("\x00"), ""); /* .6 */
}

Test(deflate, a_reference_to_the_previous_message_is_bad)
{
    expect_bad(MESSAGE("\xf2\x00\x11\x00\x00")); /* RFC 7692 7.2.3.2 with context takeover */
}

Test(deflate, final_blocks_end_neither_message_nor_what_follows)
{
    /* A final block, then more blocks; one after another; at the very end. */
    expect_inflated(MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00"),
                    "HelloHello");
    expect_inflated(MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
                    "HelloHello");
    expect_inflated(MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00"), "Hello");
    expect_inflated(MESSAGE("\x01\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x01"), "Hello");
    expect_inflated(MESSAGE("\x03\x00\x03\x00\x03\x00\x00"), "");
    /* No reference reaches over a final block. */
    expect_bad(MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00"));
}

Test(deflate, what_is_no_deflate_stream_is_bad)
{
    expect_bad(MESSAGE("\xff\xff\xff"));                                 /* block type 3 */
    expect_bad(MESSAGE("\x06"));                                         /* the same */
    expect_bad(MESSAGE("\x00\x05\x00\x00\x00\x48\x65\x6c\x6c\x6f\x00")); /* lengths differ */
    expect_bad(MESSAGE("\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")); /* code lengths */
    expect_bad(MESSAGE(""));                                                     /* no block */
    expect_bad(MESSAGE("\x00\x00\x00\xff\xff")); /* the tail was not taken off */
    expect_bad(MESSAGE("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f"));
}

Test(deflate, a_message_cut_anywhere_is_bad_or_another_message)
{
    struct deflate *d = deflate_new();
    uint8_t in[300], packed[512];
    size_t packed_len;
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * i >> 3);
    cr_assert_eq(deflate_compress(d, 15, in, sizeof in, packed, &packed_len), 0);
    for (size_t len = 0; len < packed_len; len++) {
        struct bytes out;
        enum deflate_status st = inflate_all(d, packed, len, 1000, 1000, &out);
        /* The tail's bytes may happen to read as what was cut off, with another content. */
        bool another =
            st == DEFLATE_DONE && (out.len != sizeof in || memcmp(out.ptr, in, sizeof in) != 0);
        cr_assert(st == DEFLATE_BAD || another, "%zu", len);
    }
    deflate_free(d);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* kind 0: random; 1: text-like; 2: one byte. */
static void fill(uint8_t *p, size_t len, int kind)
{
    uint32_t state = (uint32_t)len;
    for (size_t i = 0; i < len; i++)
        p[i] = kind == 0   ? (uint8_t)next_random(&state)
               : kind == 1 ? (uint8_t)("etaoin shrdlu"[next_random(&state) % 13])
                           : 'a';
}

static void check_round_trip(struct deflate *d, uint8_t bits, const uint8_t *in, size_t len)
{
    uint8_t *packed = malloc(deflate_bound(len));
    size_t packed_len;
    struct bytes out;
    cr_assert_not_null(packed);
    cr_assert_eq(deflate_compress(d, bits, in, len, packed, &packed_len), 0);
    cr_assert_leq(packed_len, deflate_bound(len));
    cr_assert_eq(inflate_all(d, packed, packed_len, len, 4096, &out), DEFLATE_DONE);
    cr_assert_eq(out.len, len);
    cr_assert(len == 0 || memcmp(out.ptr, in, len) == 0);
    free(packed);
}

Test(deflate, messages_make_the_round_trip_at_every_window)
{
    static const size_t lens[] = {0,   1,    2,    100,   255,   256,   511,   512,
                                  513, 4095, 4096, 20000, 32768, 65535, 65536, 100000};
    struct deflate *d = deflate_new();
    uint8_t *in = malloc(100000);
    cr_assert_not_null(in);
    for (size_t l = 0; l < ARRAY_LEN(lens); l++) {
        for (int kind = 0; kind < 3; kind++) {
            fill(in, lens[l], kind);
            for (uint8_t bits = 9; bits <= 15; bits += (lens[l] > 5000 ? 3 : 1))
                check_round_trip(d, bits, in, lens[l]);
        }
    }
    free(in);
    deflate_free(d);
}

Test(deflate, every_short_length_makes_the_round_trip)
{
    struct deflate *d = deflate_new();
    uint8_t in[600];
    for (size_t len = 0; len < sizeof in; len++) {
        fill(in, len, 0);
        check_round_trip(d, 15, in, len);
    }
    deflate_free(d);
}

Test(deflate, no_message_depends_on_the_one_before)
{
    struct deflate *d = deflate_new();
    uint8_t first[256], again[256];
    size_t first_len, again_len;
    const uint8_t *text = (const uint8_t *)"a text that repeats, a text that repeats";
    cr_assert_eq(deflate_compress(d, 12, text, 40, first, &first_len), 0);
    cr_assert_eq(deflate_compress(d, 12, text, 40, again, &again_len), 0);
    cr_assert_eq(first_len, again_len);
    cr_assert_eq(memcmp(first, again, first_len), 0);
    deflate_free(d);
}

Test(deflate, hello_is_compressed_as_the_rfc_shows)
{
    struct deflate *d = deflate_new();
    uint8_t out[128];
    size_t len;
    cr_assert_eq(deflate_compress(d, 15, (const uint8_t *)"Hello", 5, out, &len), 0);
    cr_assert_eq(len, 7);
    cr_assert_eq(memcmp(out, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7), 0);
    cr_assert_eq(deflate_compress(d, 15, NULL, 0, out, &len), 0);
    cr_assert_eq(len, 1);
    cr_assert_eq(out[0], 0); /* RFC 7692 7.2.3.6 */
    deflate_free(d);
}

/* What a thousand times its size is packed into. */
static uint8_t *make_bomb(struct deflate *d, size_t inflated_len, size_t *len)
{
    uint8_t *zeros = calloc(1, inflated_len), *bomb = malloc(deflate_bound(inflated_len));
    cr_assert_not_null(zeros);
    cr_assert_not_null(bomb);
    cr_assert_eq(deflate_compress(d, 15, zeros, inflated_len, bomb, len), 0);
    free(zeros);
    return bomb;
}

Test(deflate, a_bomb_is_stopped_having_taken_no_more_than_the_limit)
{
    struct deflate *sender = deflate_new(), *d = deflate_new();
    const size_t inflated_len = 16 << 20, limit = 65536;
    size_t len;
    struct bytes out;
    uint8_t *bomb = make_bomb(sender, inflated_len, &len);
    cr_assert_lt(len * 900, inflated_len);

    cr_assert_eq(inflate_all(d, "\x00", 1, limit, 100, &out), DEFLATE_DONE);
    deflate_trim(d);
    size_t idle_bytes = deflate_memory_bytes(d);
    deflate_inflate_begin(d, bomb, len, limit);
    enum deflate_status st;
    const size_t window_bytes = (32 << 10) + 64; /* zlib takes it when it first needs it */
    do {
        st = deflate_inflate_step(d, 1000, &out);
        cr_assert_leq(deflate_memory_bytes(d), idle_bytes + window_bytes + limit);
    } while (st == DEFLATE_MORE);
    cr_assert_eq(st, DEFLATE_TOO_BIG);
    free(bomb);
    deflate_free(sender);
    deflate_free(d);
}

Test(deflate, the_limit_is_exact)
{
    struct deflate *d = deflate_new();
    uint8_t in[5000], packed[8192];
    for (size_t len = 0; len <= sizeof in; len += 7) {
        size_t packed_len;
        struct bytes out;
        fill(in, len, (int)(len % 3));
        cr_assert_eq(deflate_compress(d, 15, in, len, packed, &packed_len), 0);
        cr_assert_eq(inflate_all(d, packed, packed_len, len, 1 << 20, &out), DEFLATE_DONE);
        cr_assert_eq(out.len, len);
        cr_assert_eq(inflate_all(d, packed, packed_len, len + 1, 100, &out), DEFLATE_DONE);
        if (len > 0) {
            cr_assert_eq(inflate_all(d, packed, packed_len, len - 1, 1 << 20, &out),
                         DEFLATE_TOO_BIG);
            cr_assert_eq(inflate_all(d, packed, packed_len, len - 1, 1, &out), DEFLATE_TOO_BIG);
        }
    }
    deflate_free(d);
}

Test(deflate, a_step_keeps_to_its_budget)
{
    struct deflate *sender = deflate_new(), *d = deflate_new();
    const size_t inflated_len = 100000, budget = 1000;
    size_t len, steps = 0;
    struct bytes out;
    uint8_t *bomb = make_bomb(sender, inflated_len, &len);
    deflate_inflate_begin(d, bomb, len, inflated_len);
    while (deflate_inflate_step(d, budget, &out) == DEFLATE_MORE)
        steps++;
    cr_assert_eq(out.len, inflated_len);
    cr_assert_geq(steps, inflated_len / budget - 1);
    cr_assert_leq(steps, inflated_len / budget + 2);
    free(bomb);
    deflate_free(sender);
    deflate_free(d);
}

Test(deflate, input_that_yields_nothing_costs_budget_too)
{
    enum { BLOCKS = 2000 };
    uint8_t in[5 * BLOCKS + 1];
    for (int i = 0; i < BLOCKS; i++) /* empty stored blocks */
        memcpy(in + 5 * i, "\x00\x00\x00\xff\xff", 5);
    in[5 * BLOCKS] = 0;
    struct deflate *d = deflate_new();
    struct bytes out;
    size_t steps = 1;
    deflate_inflate_begin(d, in, sizeof in, 1000);
    while (deflate_inflate_step(d, 500, &out) == DEFLATE_MORE)
        steps++;
    cr_assert_geq(steps, 5 * BLOCKS / 500);
    cr_assert_eq(out.len, 0);

    for (int i = 0; i < BLOCKS; i++) /* empty final blocks, each of which resets zlib */
        memcpy(in + 2 * i, "\x03\x00", 2);
    deflate_inflate_begin(d, in, 2 * BLOCKS, 1000);
    for (steps = 1; deflate_inflate_step(d, 500, &out) == DEFLATE_MORE;)
        steps++;
    cr_assert_geq(steps, 60 * BLOCKS / 500);
    deflate_free(d);
}

Test(deflate, no_budget_no_progress)
{
    struct deflate *d = deflate_new();
    struct bytes out;
    deflate_inflate_begin(d, (const uint8_t *)"\x00", 1, 10);
    cr_assert_eq(deflate_inflate_step(d, 0, &out), DEFLATE_MORE);
    cr_assert_eq(deflate_inflate_step(d, 10, &out), DEFLATE_DONE);
    deflate_free(d);
}

Test(deflate, memory_is_taken_when_used_and_the_buffer_given_back)
{
    struct deflate *d = deflate_new();
    struct bytes out;
    uint8_t packed[128];
    size_t len, fresh = deflate_memory_bytes(d);
    cr_assert_lt(fresh, 256);
    cr_assert_eq(deflate_compress(d, 15, (const uint8_t *)"Hello", 5, packed, &len), 0);
    size_t compressing = deflate_memory_bytes(d);
    cr_assert_gt(compressing, fresh + (32 << 10));
    cr_assert_eq(deflate_compress(d, 15, (const uint8_t *)"Hello", 5, packed, &len), 0);
    cr_assert_eq(deflate_memory_bytes(d), compressing);
    cr_assert_eq(inflate_all(d, packed, len, 1 << 20, 1000, &out), DEFLATE_DONE);
    size_t inflating = deflate_memory_bytes(d);
    cr_assert_gt(inflating, compressing);
    deflate_trim(d);
    cr_assert_lt(deflate_memory_bytes(d), inflating);
    cr_assert_eq(inflate_all(d, packed, len, 1 << 20, 1000, &out), DEFLATE_DONE);
    cr_assert_eq(memcmp(out.ptr, "Hello", 5), 0);
    cr_assert_eq(deflate_memory_bytes(d), inflating);
    deflate_free(d);
    deflate_free(NULL);
}

Test(deflate, a_kept_buffer_does_not_lift_a_lower_limit)
{
    struct deflate *sender = deflate_new(), *d = deflate_new();
    struct bytes out;
    size_t len;
    uint8_t *bomb = make_bomb(sender, 50000, &len);
    cr_assert_eq(inflate_all(d, bomb, len, 50000, 5000, &out), DEFLATE_DONE);
    cr_assert_eq(inflate_all(d, bomb, len, 10000, 5000, &out), DEFLATE_TOO_BIG);
    cr_assert_eq(inflate_all(d, bomb, len, 0, 5000, &out), DEFLATE_TOO_BIG);
    cr_assert_eq(inflate_all(d, "\x00", 1, 0, 5000, &out), DEFLATE_DONE);
    free(bomb);
    deflate_free(sender);
    deflate_free(d);
}
