/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tools/load/schedule.h: when messages are due at a fixed rate. */

#include "tools/load/schedule.h"

#include <criterion/criterion.h>

static struct schedule at_rate(uint64_t per_second, uint32_t first, uint32_t step)
{
    return (struct schedule){
        .start_ns = 1000, .per_second = per_second, .first = first, .step = step};
}

Test(load_schedule, messages_are_evenly_spread_from_the_start)
{
    struct schedule s = at_rate(1000, 0, 1);
    cr_assert_eq(schedule_at(&s, 0), 1000);
    cr_assert_eq(schedule_at(&s, 1), 1000 + NS_PER_MS);
    cr_assert_eq(schedule_at(&s, 2500), 1000 + 2500 * NS_PER_MS);
}

Test(load_schedule, what_is_due_is_what_lies_at_or_before_now)
{
    static const uint64_t rates[] = {1, 3, 7, 999, 1000000, 99999999};
    for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
        for (uint32_t step = 1; step < 5; step++) {
            struct schedule s = at_rate(rates[r], step - 1, step);
            for (uint64_t k = 0; k < 2000; k++) {
                uint64_t at = schedule_at(&s, k);
                cr_assert_geq(schedule_due(&s, at), k + 1);
                cr_assert_leq(schedule_due(&s, at - 1), k);
            }
        }
    }
}

Test(load_schedule, nothing_is_due_before_the_start_or_without_a_rate)
{
    struct schedule s = at_rate(1000000, 0, 1);
    cr_assert_eq(schedule_due(&s, 999), 0);
    cr_assert_eq(schedule_due(&s, 1000), 1);
    s.per_second = 0;
    cr_assert_eq(schedule_due(&s, 1ULL << 60), 0);
}

Test(load_schedule, threads_share_the_rate_without_gap_or_overlap)
{
    struct schedule whole = at_rate(12345, 0, 1);
    for (uint32_t thread = 0; thread < 3; thread++) {
        struct schedule s = at_rate(12345, thread, 3);
        for (uint64_t k = 0; k < 1000; k++)
            cr_assert_eq(schedule_at(&s, k), schedule_at(&whole, 3 * k + thread));
    }
}

Test(load_schedule, a_week_later_it_has_not_drifted)
{
    struct schedule s = at_rate(3, 0, 1);
    uint64_t week_s = 7 * 86400;
    cr_assert_eq(schedule_at(&s, 3 * week_s), 1000 + week_s * NS_PER_SEC);
    cr_assert_eq(schedule_due(&s, 1000 + week_s * NS_PER_SEC), 3 * week_s + 1);
}
