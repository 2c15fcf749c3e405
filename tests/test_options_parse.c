/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Sizes, durations, rates and the nearest name. */

#include <criterion/criterion.h>

#include <errno.h>

#include "core/options.h"

Test(options_parse, sizes_are_whole_numbers_with_a_binary_unit)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"512B", 512},
        {"64KiB", 65536},
        {"1MiB", 1 << 20},
        {"2GiB", 2ULL << 30},
        {"3TiB", 3ULL << 40},
        {"007KiB", 7168},
        {"18446744073709551615", UINT64_MAX},
        {"16777215TiB", 16777215ULL << 40},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t bytes = 77;
        cr_assert_eq(options_parse_size(good[i].text, &bytes), 0, "%s", good[i].text);
        cr_assert_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
}

Test(options_parse, what_is_no_size_is_refused_and_changes_nothing)
{
    static const char *const bad[] = {
        "",       "B",    "KiB",   "1 KiB", " 1",
        "1k",     "1KB",  "1kib",  "-1",    "+1",
        "1.5MiB", "0x10", "1KiBx", "1KiB ", "99999999999999999999999zz"};
    static const char *const over[] = {"18446744073709551616", "16777216TiB",
                                       "99999999999999999999B", "18446744073709551615KiB"};
    uint64_t bytes = 77;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(options_parse_size(bad[i], &bytes), -EINVAL, "%s", bad[i]);
    for (size_t i = 0; i < ARRAY_LEN(over); i++)
        cr_assert_eq(options_parse_size(over[i], &bytes), -ERANGE, "%s", over[i]);
    cr_assert_eq(bytes, 77);
}

Test(options_parse, durations_need_a_unit_unless_they_are_zero)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"0", 0},
        {"0s", 0},
        {"100us", 100 * NS_PER_US},
        {"500ms", 500 * NS_PER_MS},
        {"25s", 25 * NS_PER_SEC},
        {"2m", 120 * NS_PER_SEC},
        {"1h", 3600 * NS_PER_SEC},
        {"18446744073s", 18446744073 * NS_PER_SEC},
    };
    static const char *const bad[] = {"",    "25",  "s",   "25 s", "25sec",
                                      "25S", "1ns", "-1s", "1.5s", "1h30m"};
    uint64_t ns = 77;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(options_parse_duration(bad[i], &ns), -EINVAL, "%s", bad[i]);
    cr_assert_eq(options_parse_duration("18446744074s", &ns), -ERANGE);
    cr_assert_eq(ns, 77);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        cr_assert_eq(options_parse_duration(good[i].text, &ns), 0, "%s", good[i].text);
        cr_assert_eq(ns, good[i].ns, "%s", good[i].text);
    }
}

Test(options_parse, a_rate_without_a_burst_has_one_of_a_second)
{
    struct option_rate r = {0};
    cr_assert_eq(options_parse_rate("100", false, &r), 0);
    cr_assert(r.per_second == 100 && r.burst == 100);
    cr_assert_eq(options_parse_rate("100/250", false, &r), 0);
    cr_assert(r.per_second == 100 && r.burst == 250);
    cr_assert_eq(options_parse_rate("64KiB/1MiB", true, &r), 0);
    cr_assert(r.per_second == 65536 && r.burst == 1 << 20);
    cr_assert_eq(options_parse_rate("0", true, &r), 0);
    cr_assert(r.per_second == 0 && r.burst == 0);
}

Test(options_parse, what_is_no_rate_is_refused)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "1/",
                                      "/1",
                                      "1/2/3",
                                      "64KiB",
                                      "10/0",
                                      "0/10",
                                      "1/s",
                                      "10 /20",
                                      "000000000000000000000000000000000000001"};
    struct option_rate r = {7, 7};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(options_parse_rate(bad[i], false, &r), -EINVAL, "%s", bad[i]);
    cr_assert_eq(options_parse_rate("1/99999999999999999999", false, &r), -ERANGE);
    cr_assert(r.per_second == 7 && r.burst == 7);
}

Test(options_parse, the_nearest_name_is_found_but_not_a_far_one)
{
    const char *const names[] = {"port", "ping-interval", "max-connections", "io"};
    cr_assert_str_eq(options_nearest("prot", names, 4), "port");
    cr_assert_str_eq(options_nearest("ping_interval", names, 4), "ping-interval");
    cr_assert_str_eq(options_nearest("max-con", names, 4), "max-connections");
    cr_assert_str_eq(options_nearest("oi", names, 4), "io");
    cr_assert_null(options_nearest("zebra", names, 4));
    cr_assert_null(options_nearest("x", names, 0));
}
