/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/message.h: size classes, large messages, frames and runs. */

#include "core/message.h"

#include <signal.h>
#include <string.h>

#include <criterion/criterion.h>

#define OVERHEAD 80 /* struct message up to its data, and the room for a header */

static struct message_pool pool;

static void set_up(void)
{
    message_pool_init(&pool, 3);
}

static void tear_down(void)
{
    message_pool_deinit(&pool);
}

TestSuite(message, .init = set_up, .fini = tear_down);

Test(message, maps_nothing_before_the_first_message)
{
    cr_assert_eq(message_pool_mapped_bytes(&pool), 0);
}

Test(message, begins_as_its_own_shards_alone)
{
    struct message *m = message_new(&pool, 5);
    cr_assert_eq(m->refs, 1);
    cr_assert_eq(m->origin, 3);
    cr_assert_eq(m->home, 3);
    cr_assert_eq(m->payload_len, 5);
    cr_assert_eq(m->sender, 0);
    cr_assert_eq(m->head_len, 0);
    cr_assert_eq(m->run.uses, 0);
    cr_assert_null(m->run.message);
    message_free(&pool, m);
}

Test(message, every_length_takes_the_smallest_class_that_holds_it)
{
    static const uint32_t classes[] = {192,   256,   384,   512,   768,  1024,  1536,
                                       2048,  3072,  4096,  6144,  8192, 12288, 16384,
                                       24576, 32768, 49152, 65536, 98304};
    cr_assert_eq(ARRAY_LEN(classes), MESSAGE_CLASSES);
    uint32_t k = 0;
    for (uint32_t len = 0; len + OVERHEAD <= 98304; len++) {
        struct message *m = message_new(&pool, len);
        while (classes[k] < len + OVERHEAD)
            k++;
        cr_assert_eq(m->size_class, k, "payload of %u", len);
        cr_assert_eq(pool.classes[k].slot_bytes, classes[k]);
        cr_assert_eq(message_capacity(m), classes[k] - OVERHEAD);
        cr_assert_eq(m->payload_len, len);
        message_free(&pool, m);
    }
    cr_assert_eq(pool.large_allocs, 0);
}

Test(message, the_whole_capacity_may_be_written)
{
    struct message *messages[3 * 400];
    uint32_t count = 0;
    for (uint32_t len = 0; len < 200000; len = len * 9 / 8 + 31) {
        for (uint32_t i = 0; i < 3; i++) {
            struct message *m = message_new(&pool, len);
            cr_assert_geq(message_capacity(m), len);
            memset(m->data, (int)count, MESSAGE_HEAD_ROOM);
            memset(message_payload(m), (int)count, message_capacity(m));
            messages[count++] = m;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = message_payload(messages[i]);
        for (uint32_t k = 0; k < message_capacity(messages[i]); k++)
            cr_assert_eq(p[k], (uint8_t)i);
        message_free(&pool, messages[i]);
    }
}

Test(message, at_least_four_slots_of_each_class_share_a_chunk)
{
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        cr_assert_geq(pool.classes[k].per_chunk, 4);
}

Test(message, the_frame_is_header_and_payload_in_one_span)
{
    struct message *m = message_new(&pool, 6);
    memcpy(message_payload(m), "abcdef", 6);
    memcpy(message_payload(m) - 2, "\x81\x06", 2);
    m->head_len = 2;
    cr_assert_eq(message_frame_len(m), 8);
    cr_assert_arr_eq(message_frame(m),
                     "\x81\x06"
                     "abcdef",
                     8);
    message_free(&pool, m);
}

Test(message, large_ones_come_from_the_heap_and_are_counted)
{
    struct message *a = message_new(&pool, 98304 - OVERHEAD + 1);
    struct message *b = message_new(&pool, 5u << 20);
    cr_assert_eq(a->size_class, MESSAGE_CLASSES);
    cr_assert_eq(pool.large_now, 2);
    cr_assert_eq(pool.large_allocs, 2);
    cr_assert_geq(pool.large_bytes, 98304 + (5u << 20));
    memset(message_payload(b), 1, message_capacity(b));
    message_free(&pool, a);
    message_free(&pool, b);
    cr_assert_eq(pool.large_now, 0);
    cr_assert_eq(pool.large_bytes, 0);
    cr_assert_eq(message_pool_mapped_bytes(&pool), 0);
}

Test(message, a_large_one_is_kept_for_the_next_of_its_size)
{
    message_free(&pool, message_new(&pool, 100000));
    for (uint32_t i = 0; i < 1000; i++) {
        struct message *m = message_new(&pool, 100000 - i);
        cr_assert_eq(m->payload_len, 100000 - i);
        message_free(&pool, m);
    }
    cr_assert_eq(pool.large_allocs, 1);
}

Test(message, a_kept_one_is_not_spent_on_a_much_smaller_or_larger_one)
{
    message_free(&pool, message_new(&pool, 400000));
    struct message *small = message_new(&pool, 100000);
    struct message *large = message_new(&pool, 410000);
    cr_assert_lt(message_capacity(small), 200000);
    cr_assert_geq(message_capacity(large), 410000);
    cr_assert_eq(pool.large_allocs, 3);
    message_free(&pool, small);
    message_free(&pool, large);
}

Test(message, nothing_above_a_mebibyte_is_kept)
{
    message_free(&pool, message_new(&pool, 2u << 20));
    cr_assert_null(pool.large_kept);
    message_free(&pool, message_new(&pool, 1000000));
    cr_assert_not_null(pool.large_kept);
    cr_assert_geq(pool.large_kept_cap, 1000000);
}

Test(message, the_longest_length_fails_or_holds)
{
    struct message *m = message_new(&pool, UINT32_MAX);
    if (m == NULL)
        cr_skip("no memory for 4 GiB here");
    cr_assert_eq(message_capacity(m), UINT32_MAX);
    message_free(&pool, m);
}

Test(message, the_home_uses_the_messages_own_run_once)
{
    struct message *m = message_new(&pool, 10);
    struct run *own = run_new(&pool, m);
    cr_assert_eq(own, &m->run);
    cr_assert_eq(own->uses, 1);
    cr_assert_eq(own->bytes, message_frame(m));
    cr_assert_eq(own->len, message_frame_len(m));
    struct run *second = run_new(&pool, m);
    cr_assert_neq(second, own);
    cr_assert_eq(pool.runs.used, 1);
    run_ref(own);
    cr_assert_eq(own->uses, 2);
    own->uses = 0;
    cr_assert_eq(run_end(&pool, own), m);
    cr_assert_eq(run_new(&pool, m), own, "free again, used again");
    own->uses = 0;
    second->uses = 0;
    cr_assert_eq(run_end(&pool, own), m);
    cr_assert_eq(run_end(&pool, second), m);
    cr_assert_eq(pool.runs.used, 0);
    message_free(&pool, m);
}

Test(message, another_shard_never_touches_the_messages_own_run)
{
    struct message_pool other;
    message_pool_init(&other, 4);
    struct message *m = message_new(&pool, 10);
    m->head_len = 2;
    struct run *r = run_new(&other, m);
    cr_assert_neq(r, &m->run);
    cr_assert_null(m->run.message);
    cr_assert_eq(r->message, m);
    cr_assert_eq(r->len, 12);
    r->uses--;
    cr_assert_eq(run_end(&other, r), m);
    message_free(&pool, m);
    message_pool_deinit(&other);
}

Test(message, ending_a_run_in_use_is_caught, .signal = SIGABRT)
{
    struct message *m = message_new(&pool, 10);
    run_end(&pool, run_new(&pool, m));
}

Test(message, freeing_on_another_shard_is_caught, .signal = SIGABRT)
{
    struct message_pool other;
    message_pool_init(&other, 4);
    message_free(&other, message_new(&pool, 10));
}
