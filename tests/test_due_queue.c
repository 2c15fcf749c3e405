/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

#include "pubsub/due_queue.h"

#include <criterion/criterion.h>

Test(due_queue, first_in_is_first_out_while_it_grows_and_wraps)
{
    struct due_queue q = {0};
    uint32_t in = 0, out = 0;

    for (uint32_t round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < round % 37 + 5; i++, in++)
            cr_assert(due_queue_push(&q, in, in * 10));
        for (uint32_t i = 0; i < round % 23 + 3 && !due_queue_is_empty(&q); i++, out++) {
            cr_assert_eq(due_queue_next_ns(&q), out * 10);
            cr_assert_eq(due_queue_at(&q, 0), out);
            cr_assert_eq(due_queue_pop(&q), out);
        }
        cr_assert_eq(due_queue_count(&q), in - out);
    }
    while (!due_queue_is_empty(&q))
        cr_assert_eq(due_queue_pop(&q), out++);
    cr_assert_eq(out, in);
    due_queue_deinit(&q);
}

Test(due_queue, an_empty_one_is_due_never_and_owns_nothing)
{
    struct due_queue q = {0};

    cr_assert_eq(due_queue_next_ns(&q), UINT64_MAX);
    cr_assert_eq(due_queue_count(&q), 0);
    cr_assert(due_queue_push(&q, 7, 1));
    due_queue_trim(&q);
    cr_assert_eq(due_queue_pop(&q), 7);
    cr_assert_eq(due_queue_next_ns(&q), UINT64_MAX);
    due_queue_trim(&q);
    cr_assert_null(q.items);
}

Test(due_queue, counters_may_wrap)
{
    struct due_queue q = {0};

    cr_assert(due_queue_push(&q, 1, 1));
    due_queue_pop(&q);
    q.head = q.tail = UINT32_MAX - 3;
    for (uint32_t i = 0; i < 200; i++)
        cr_assert(due_queue_push(&q, i, i));
    for (uint32_t i = 0; i < 200; i++)
        cr_assert_eq(due_queue_pop(&q), i);
    due_queue_deinit(&q);
}
