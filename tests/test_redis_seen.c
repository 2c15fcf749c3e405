/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

#include "pubsub/redis_seen.h"

#include <criterion/criterion.h>

static struct message_pool pool;
static struct redis_seen seen;

static void set_up(void)
{
    message_pool_init(&pool, 0);
    seen = (struct redis_seen){0};
}

static void tear_down(void)
{
    redis_seen_clear(&seen, &pool);
    message_pool_deinit(&pool);
}

TestSuite(redis_seen, .init = set_up, .fini = tear_down);

/* How many are missing before it; -1: it was seen. */
static int64_t note(uint64_t node, uint32_t epoch, uint32_t seq)
{
    uint32_t missed;

    return redis_seen_note(&seen, &pool, node, epoch, seq, &missed) ? (int64_t)missed : -1;
}

Test(redis_seen, one_after_the_other_is_whole)
{
    for (uint32_t i = 1; i < 1000; i++)
        cr_assert_eq(note(1, 1, i), 0);
}

Test(redis_seen, a_node_that_was_not_known_begins_anywhere)
{
    cr_assert_eq(note(1, 7, 500), 0);
    cr_assert_eq(note(1, 7, 501), 0);
}

Test(redis_seen, gaps_are_counted)
{
    note(1, 1, 3);
    cr_assert_eq(note(1, 1, 5), 1);
    cr_assert_eq(note(1, 1, 105), 99);
    cr_assert_eq(note(1, 1, 106), 0);
}

Test(redis_seen, repeats_and_older_ones_are_noticed)
{
    note(1, 1, 3);
    cr_assert_eq(note(1, 1, 3), -1);
    cr_assert_eq(note(1, 1, 2), -1);
    cr_assert_eq(note(1, 1, 4), 0);
}

Test(redis_seen, a_new_epoch_begins_at_1)
{
    note(1, 1, 50);
    cr_assert_eq(note(1, 2, 1), 0);
    cr_assert_eq(note(1, 1, 51), -1);
    cr_assert_eq(note(1, 3, 4), 3);
}

Test(redis_seen, numbers_and_epochs_wrap)
{
    note(1, UINT32_MAX, UINT32_MAX - 1);
    cr_assert_eq(note(1, UINT32_MAX, UINT32_MAX), 0);
    cr_assert_eq(note(1, UINT32_MAX, 1), 1); /* 0 is no number: one of 4 billion */
    cr_assert_eq(note(1, 0, 1), 0);
    cr_assert_eq(note(1, UINT32_MAX, 9), -1);
}

Test(redis_seen, nodes_do_not_disturb_each_other)
{
    for (uint64_t node = 1; node <= REDIS_SEEN_MAX; node++)
        cr_assert_eq(note(node, 1, 10), 0);
    for (uint64_t node = REDIS_SEEN_MAX; node >= 1; node--)
        cr_assert_eq(note(node, 1, 12), 1, "%lu", node);
    cr_assert_eq(seen.count, REDIS_SEEN_MAX);
}

Test(redis_seen, beyond_the_bound_the_oldest_but_the_first_is_given_up)
{
    for (uint64_t node = 1; node <= REDIS_SEEN_MAX + 10; node++)
        note(node, 1, 10);
    cr_assert_eq(seen.count, REDIS_SEEN_MAX);
    cr_assert_eq(note(1, 1, 12), 1);
    cr_assert_eq(note(12, 1, 12), 1);
    cr_assert_eq(note(REDIS_SEEN_MAX + 10, 1, 12), 1);
    cr_assert_eq(note(11, 1, 12), 0); /* not known any more */
}

Test(redis_seen, the_first_stays_however_many_come)
{
    for (uint64_t node = 1; node <= 3 * REDIS_SEEN_MAX; node++)
        note(node, 1, 10);
    cr_assert_eq(note(1, 1, 12), 1);
}

Test(redis_seen, what_passes_while_nobody_is_there_is_not_missing)
{
    note(1, 1, 10);
    note(2, 1, 10);
    redis_seen_resume(&seen, 15);
    cr_assert_eq(note(2, 1, 50), 0);
    cr_assert_eq(note(2, 1, 53), 2);
    cr_assert_eq(note(1, 1, 10), -1);
    cr_assert_eq(note(1, 1, 13), 0); /* published before, ordered after */
    cr_assert_eq(note(1, 1, 12), -1);
    cr_assert_eq(note(1, 1, 17), 1);
    cr_assert_eq(note(1, 1, 19), 1);
}

Test(redis_seen, our_own_first_message_afterwards_is_the_next)
{
    note(1, 1, 0);
    note(1, 1, 4);
    redis_seen_resume(&seen, 6);
    cr_assert_eq(note(1, 1, 7), 0);
    redis_seen_resume(&seen, 7);
    cr_assert_eq(note(1, 1, 9), 1);
    redis_seen_resume(&seen, 20);
    cr_assert_eq(note(1, 2, 3), 2); /* a new epoch */
}

Test(redis_seen, gaps_of_the_first_node_are_counted_beyond_two_billion)
{
    note(1, 1, 0);
    for (uint32_t seq = 1; seq < 0xf0000000; seq += 0x10000000)
        note(1, 1, seq);
    cr_assert_eq(note(1, 1, 0xf0000000), 0x0fffffff - 1);
}

Test(redis_seen, the_memory_goes_back)
{
    for (uint64_t node = 1; node <= REDIS_SEEN_MAX; node++)
        note(node, 1, 1);
    redis_seen_clear(&seen, &pool);
    message_pool_trim(&pool);
    for (uint32_t i = 0; i < MESSAGE_CLASSES; i++)
        cr_assert_eq(pool.classes[i].used, 0);
}
