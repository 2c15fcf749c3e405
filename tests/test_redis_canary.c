/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

#include "pubsub/redis_canary.h"

#include <criterion/criterion.h>

#define SECOND NS_PER_SEC
#define START (1000 * SECOND)

static struct redis_canary canary;

/* Both links are up, the channel subscribed, the first canary on its way; the clock stands. */
static void begin(uint64_t now_ns)
{
    redis_canary_begin(&canary, now_ns);
    cr_assert(redis_canary_is_due(&canary, now_ns));
    redis_canary_probed(&canary, now_ns, 10);
    cr_assert(redis_canary_probe_answered(&canary));
    canary.number++;
    redis_canary_published(&canary, now_ns, 20, 10);
}

static void set_up(void)
{
    canary = (struct redis_canary){0};
}

TestSuite(redis_canary, .init = set_up);

Test(redis_canary, is_up_when_the_first_one_is_back)
{
    begin(START);
    cr_assert_not(canary.is_up);
    redis_canary_publish_answered(&canary);
    cr_assert_not(canary.is_up);
    cr_assert(redis_canary_returned(&canary, 1, START + 5));
    cr_assert(canary.is_up);
    cr_assert_eq(canary.round_trip_ns, 5);
    cr_assert_not(redis_canary_returned(&canary, 1, START + 6), "told once");
    redis_canary_end(&canary);
    cr_assert_not(canary.is_up);
    cr_assert_eq(redis_canary_next_ns(&canary), UINT64_MAX);
}

Test(redis_canary, one_of_an_earlier_connection_does_not_count)
{
    begin(START);
    redis_canary_end(&canary);
    begin(START + SECOND);
    cr_assert_not(redis_canary_returned(&canary, 1, START + SECOND));
    cr_assert_not(canary.is_up);
    cr_assert_not(redis_canary_returned(&canary, 3, START + SECOND));
    cr_assert(redis_canary_returned(&canary, 2, START + SECOND));
}

Test(redis_canary, the_next_is_due_after_a_second)
{
    begin(START);
    redis_canary_publish_answered(&canary);
    redis_canary_returned(&canary, 1, START);
    cr_assert_not(redis_canary_is_due(&canary, START + SECOND - 1));
    cr_assert(redis_canary_is_due(&canary, START + SECOND));
    cr_assert_eq(redis_canary_next_ns(&canary), START + SECOND);
}

Test(redis_canary, a_link_that_does_not_answer_is_silent_before_2_s)
{
    uint64_t late = START + REDIS_CANARY_SILENT_NS;

    begin(START);
    cr_assert_eq(redis_canary_judge(&canary, late - 1, 20, 10), REDIS_CANARY_FINE);
    cr_assert_eq(redis_canary_judge(&canary, late, 20, 10), REDIS_CANARY_PUBLISHER_SILENT);
    cr_assert_lt(REDIS_CANARY_SILENT_NS + REDIS_CANARY_INTERVAL_NS, 2 * SECOND);
}

Test(redis_canary, a_subscriber_that_does_not_answer_its_probe_is_silent)
{
    redis_canary_begin(&canary, START);
    redis_canary_probed(&canary, START, 10);
    cr_assert_eq(redis_canary_judge(&canary, START + REDIS_CANARY_SILENT_NS, 99, 10),
                 REDIS_CANARY_SUBSCRIBER_SILENT);
}

Test(redis_canary, a_canary_that_was_taken_and_does_not_come_is_the_subscribers)
{
    begin(START);
    redis_canary_publish_answered(&canary);
    cr_assert_eq(redis_canary_judge(&canary, START + REDIS_CANARY_SILENT_NS, 20, 10),
                 REDIS_CANARY_SUBSCRIBER_SILENT);
}

Test(redis_canary, a_link_from_which_bytes_come_is_slow_for_10_s)
{
    uint64_t now_ns = START, bytes = 20;

    begin(START);
    while (redis_canary_judge(&canary, now_ns, bytes, 10 + bytes) == REDIS_CANARY_FINE) {
        now_ns += 100 * NS_PER_MS;
        bytes++;
        cr_assert_leq(now_ns, START + 11 * SECOND);
    }
    cr_assert_geq(now_ns, START + REDIS_CANARY_SLOW_NS);
}

Test(redis_canary, bytes_of_before_do_not_help_for_ever)
{
    begin(START);
    cr_assert_eq(redis_canary_judge(&canary, START + SECOND, 21, 10), REDIS_CANARY_FINE);
    cr_assert_eq(redis_canary_judge(&canary, START + 2 * SECOND, 21, 10),
                 REDIS_CANARY_PUBLISHER_SILENT);
}

Test(redis_canary, who_has_lagged_waits_as_long_again)
{
    uint64_t late_ns = START + 5 * SECOND;

    begin(START);
    redis_canary_excuse(&canary, late_ns);
    cr_assert_eq(redis_canary_judge(&canary, late_ns, 20, 10), REDIS_CANARY_FINE);
    cr_assert_eq(redis_canary_judge(&canary, late_ns + REDIS_CANARY_SILENT_NS, 20, 10),
                 REDIS_CANARY_PUBLISHER_SILENT);
}

Test(redis_canary, lagging_is_no_excuse_for_ever)
{
    uint64_t now_ns = START;

    begin(START);
    while (redis_canary_judge(&canary, now_ns, 20, 10) == REDIS_CANARY_FINE) {
        now_ns += SECOND / 2;
        redis_canary_excuse(&canary, now_ns);
        cr_assert_leq(now_ns, START + 11 * SECOND);
    }
    cr_assert_geq(now_ns, START + REDIS_CANARY_SLOW_NS);
}

Test(redis_canary, nothing_is_waited_for_by_an_excuse)
{
    begin(START);
    redis_canary_publish_answered(&canary);
    cr_assert(redis_canary_returned(&canary, 1, START + 5));
    redis_canary_excuse(&canary, START + SECOND / 2);
    cr_assert_eq(redis_canary_next_ns(&canary), START + SECOND);
}

Test(redis_canary, the_oldest_is_waited_for)
{
    begin(START);
    canary.number++;
    redis_canary_published(&canary, START + SECOND / 2, 20, 10);
    cr_assert_eq(redis_canary_judge(&canary, START + REDIS_CANARY_SILENT_NS, 20, 10),
                 REDIS_CANARY_PUBLISHER_SILENT);
}

Test(redis_canary, a_late_one_still_counts_when_the_next_has_left)
{
    begin(START);
    redis_canary_publish_answered(&canary);
    canary.number++;
    redis_canary_published(&canary, START + SECOND, 20, 10);
    cr_assert(redis_canary_returned(&canary, 1, START + SECOND + 1));
    cr_assert_eq(canary.round_trip_ns, SECOND + 1);
}

Test(redis_canary, another_name_is_begun_anew_and_the_pair_stays_up)
{
    begin(START);
    redis_canary_publish_answered(&canary);
    cr_assert(redis_canary_returned(&canary, 1, START + 5));
    canary.number++;
    redis_canary_probed(&canary, START + SECOND, 10);
    redis_canary_published(&canary, START + SECOND, 20, 10);

    redis_canary_rename(&canary, START + SECOND + 7);
    cr_assert(canary.is_up);
    cr_assert_not(canary.is_subscribed);
    cr_assert_eq(redis_canary_next_ns(&canary), START + SECOND + 7);
    cr_assert_eq(redis_canary_judge(&canary, START + 4 * SECOND, 20, 10), REDIS_CANARY_FINE,
                 "nobody waits for the one before");
    cr_assert_not(redis_canary_returned(&canary, 2, START + 2 * SECOND), "nor takes it");
    cr_assert(redis_canary_is_due(&canary, START + SECOND + 7));
}

Test(redis_canary, another_name_does_not_begin_what_has_not_begun)
{
    redis_canary_rename(&canary, START);
    cr_assert_not(redis_canary_has_begun(&canary));
    begin(START);
    redis_canary_rename(&canary, UINT64_MAX);
    cr_assert_eq(redis_canary_next_ns(&canary), UINT64_MAX);
    cr_assert_not(redis_canary_is_due(&canary, START + 100 * SECOND));
}
