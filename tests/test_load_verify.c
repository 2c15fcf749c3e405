/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tools/load/verify.h and stamp.h: what is lost, doubled or out of order is found and told apart,
 * and a stamp says what was put into it. */

#include "tools/load/verify.h"

#include <string.h>

#include <criterion/criterion.h>

#include "core/simd.h"
#include "tools/load/stamp.h"

static struct verify_stream stream;
static struct verify_counts counts;

static void set_up(void)
{
    memset(&stream, 0, sizeof(stream));
    memset(&counts, 0, sizeof(counts));
}

TestSuite(load_verify, .init = set_up);

static void take_all(const uint64_t *seqs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        verify_take(&stream, &counts, seqs[i]);
}
#define TAKE(...)                                                                                  \
    take_all((const uint64_t[]){__VA_ARGS__},                                                      \
             sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void expect(uint64_t lost, uint64_t duplicated, uint64_t reordered)
{
    cr_expect_eq(counts.lost, lost, "lost %lu", counts.lost);
    cr_expect_eq(counts.duplicated, duplicated, "duplicated %lu", counts.duplicated);
    cr_expect_eq(counts.reordered, reordered, "reordered %lu", counts.reordered);
    cr_expect_eq(verify_has_failed(&counts), lost + duplicated + reordered > 0);
}

Test(load_verify, messages_in_order_are_good)
{
    for (uint64_t i = 0; i < 1000; i++)
        cr_assert_eq(verify_take(&stream, &counts, i), VERIFY_GOOD);
    cr_assert_eq(verify_end(&stream, &counts, 1000), 0);
    cr_assert_eq(counts.checked, 1000);
    expect(0, 0, 0);
}

Test(load_verify, a_missing_message_is_lost)
{
    TAKE(0, 1, 3, 4);
    expect(1, 0, 0);
}

Test(load_verify, a_message_that_comes_again_is_a_duplicate)
{
    TAKE(0, 1, 1, 2, 0);
    expect(0, 2, 0);
}

Test(load_verify, swapped_messages_are_out_of_order_and_not_lost)
{
    TAKE(0, 2, 1, 3);
    expect(0, 0, 1);
}

Test(load_verify, a_late_message_that_comes_twice_is_one_of_each)
{
    TAKE(0, 3, 1, 1);
    expect(1, 1, 1);
}

Test(load_verify, what_never_comes_at_the_end_is_lost)
{
    TAKE(0, 1);
    cr_assert_eq(verify_end(&stream, &counts, 5), 3);
    expect(3, 0, 0);
    cr_assert_eq(verify_end(&stream, &counts, 5), 0);
}

Test(load_verify, everything_lost_is_seen)
{
    cr_assert_eq(verify_end(&stream, &counts, 7), 7);
    expect(7, 0, 0);
}

Test(load_verify, a_gap_wider_than_the_window_is_counted_in_full)
{
    TAKE(0, 1000, 1001);
    expect(999, 0, 0);
    verify_take(&stream, &counts, 999); /* within the window: late */
    expect(998, 0, 1);
    verify_take(&stream, &counts, 5); /* too late to be told from a duplicate */
    expect(998, 1, 1);
}

/* Every way of handing five messages over wrongly by one fault is told as that fault. */
Test(load_verify, each_single_fault_at_each_place_is_told_as_what_it_is)
{
    for (uint64_t at = 0; at < 5; at++) {
        set_up(); /* dropped */
        for (uint64_t i = 0; i < 5; i++)
            if (i != at)
                verify_take(&stream, &counts, i);
        verify_end(&stream, &counts, 5);
        expect(1, 0, 0);

        set_up(); /* doubled */
        for (uint64_t i = 0; i < 5; i++) {
            verify_take(&stream, &counts, i);
            if (i == at)
                verify_take(&stream, &counts, i);
        }
        verify_end(&stream, &counts, 5);
        expect(0, 1, 0);

        set_up(); /* handed over at the end */
        for (uint64_t i = 0; i < 5; i++)
            if (i != at)
                verify_take(&stream, &counts, i);
        verify_take(&stream, &counts, at);
        verify_end(&stream, &counts, 5);
        expect(0, 0, at < 4 ? 1 : 0);
    }
}

Test(load_verify, counts_of_threads_add_up)
{
    struct verify_counts sum = {.lost = 1, .checked = 10};
    struct verify_counts more = {1, 2, 3, 4, 5, 6};
    verify_merge(&sum, &more);
    cr_assert_eq(sum.checked, 11);
    cr_assert_eq(sum.lost, 3);
    cr_assert_eq(sum.duplicated, 3);
    cr_assert_eq(sum.reordered, 4);
    cr_assert_eq(sum.corrupted, 5);
    cr_assert_eq(sum.misrouted, 6);
}

Test(load_stamp, says_what_was_put_into_it_in_ascii)
{
    static const struct stamp stamps[] = {
        {0, 0, 0},
        {1, 2, 3},
        {(1ULL << STAMP_SEQ_BITS) - 1, (1ULL << STAMP_TIME_BITS) - 1, STAMP_SENDERS_MAX - 1},
        {0x123456789, 0x23456789abcdef, 0xabcde},
    };
    for (size_t i = 0; i < ARRAY_LEN(stamps); i++) {
        uint8_t bytes[STAMP_BYTES];
        struct stamp s;
        stamp_put(bytes, &stamps[i], 0);
        for (size_t b = 0; b < STAMP_BYTES; b++)
            cr_assert_lt(bytes[b], 0x80);
        cr_assert(stamp_get(bytes, &s));
        cr_assert(s.seq == stamps[i].seq && s.time_ns == stamps[i].time_ns &&
                  s.sender == stamps[i].sender);
    }
}

Test(load_stamp, is_masked_as_any_payload)
{
    struct stamp s = {77, 123456789, 5};
    uint8_t plain[STAMP_BYTES], masked[STAMP_BYTES];
    stamp_put(plain, &s, 0);
    stamp_put(masked, &s, 0xa1b2c3d4);
    simd->unmask(masked, masked, STAMP_BYTES, 0xa1b2c3d4);
    cr_assert_eq(memcmp(plain, masked, STAMP_BYTES), 0);
}

Test(load_stamp, bytes_above_ascii_are_no_stamp)
{
    struct stamp s = {1, 2, 3};
    uint8_t bytes[STAMP_BYTES];
    for (size_t b = 0; b < STAMP_BYTES; b++) {
        stamp_put(bytes, &s, 0);
        bytes[b] |= 0x80;
        cr_assert_not(stamp_get(bytes, &s));
    }
}

Test(load_stamp, a_small_one_says_how_far_ahead_it_is_modulo_its_bytes)
{
    static const uint64_t seqs[] = {0, 63, 127, 128, 1000003, (1ULL << 35) + 7};
    for (uint32_t bytes = 1; bytes <= STAMP_SMALL_MAX; bytes++) {
        uint64_t numbers = stamp_small_numbers(bytes);
        for (size_t i = 0; i < ARRAY_LEN(seqs); i++) {
            struct stamp s = {.seq = seqs[i], .sender = 77};
            uint8_t plain[8], masked[8];
            uint64_t ahead, key = 0xa1b2c3d4;
            stamp_small_put(plain, bytes, &s, 0);
            stamp_small_put(masked, bytes, &s, (uint32_t)key);
            for (uint32_t b = 0; b < bytes; b++) {
                cr_assert_lt(plain[b], 0x80);
                cr_assert_eq(plain[b] ^ masked[b], (uint8_t)(key >> 8 * (b % 4)));
            }
            cr_assert(stamp_small_get(plain, bytes, 77, seqs[i], &ahead));
            cr_assert_eq(ahead, 0);
            cr_assert(stamp_small_get(plain, bytes, 77, seqs[i] - 5, &ahead));
            cr_assert_eq(ahead, 5);
            cr_assert(stamp_small_get(plain, bytes, 77, seqs[i] + 5, &ahead));
            cr_assert_eq(ahead, numbers - 5);
            cr_assert(stamp_small_get(plain, bytes, 78, seqs[i], &ahead));
            cr_assert_neq(ahead, 0);
            plain[bytes - 1] |= 0x80;
            cr_assert_not(stamp_small_get(plain, bytes, 77, seqs[i], &ahead));
        }
    }
}
