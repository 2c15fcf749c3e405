/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Channels over several servers: even, the same everywhere, and moving as little as can be. */

#include "pubsub/redis_hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#define CHANNELS 100000

static const char *const servers[] = {"a:6379", "b:6379", "c:6379", "d:6379", "e:6379"};

static struct redis_hash hash_of(const char *const *identities, uint32_t count)
{
    struct redis_hash h = {.count = 0};

    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(redis_hash_add(&h, identities[i]), 0);
    return h;
}

static uint32_t pick(const struct redis_hash *h, uint32_t channel)
{
    char name[32];
    int len = snprintf(name, sizeof(name), "room-%u", channel);

    return redis_hash_pick(h, name, (size_t)len);
}

Test(redis_hash, channels_spread_evenly)
{
    for (uint32_t count = 1; count <= ARRAY_LEN(servers); count++) {
        struct redis_hash h = hash_of(servers, count);
        uint32_t counts[ARRAY_LEN(servers)] = {0}, fair = CHANNELS / count;
        for (uint32_t i = 0; i < CHANNELS; i++)
            counts[pick(&h, i)]++;
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_gt(counts[i], fair * 97 / 100, "%u of %u: %u", i, count, counts[i]);
            cr_assert_lt(counts[i], fair * 103 / 100 + 1, "%u of %u: %u", i, count, counts[i]);
        }
    }
}

Test(redis_hash, a_server_that_is_added_takes_its_share_and_nothing_else_moves)
{
    for (uint32_t count = 1; count < ARRAY_LEN(servers); count++) {
        struct redis_hash few = hash_of(servers, count), more = hash_of(servers, count + 1);
        uint32_t moved = 0;
        for (uint32_t i = 0; i < CHANNELS; i++) {
            uint32_t before = pick(&few, i), after = pick(&more, i);
            if (before != after) {
                cr_assert_eq(after, count, "only to the new one");
                moved++;
            }
        }
        cr_assert_lt(moved, CHANNELS / (count + 1) * 103 / 100);
    }
}

Test(redis_hash, the_order_of_the_servers_does_not_matter)
{
    const char *const turned[] = {"c:6379", "e:6379", "a:6379", "d:6379", "b:6379"};
    struct redis_hash h = hash_of(servers, 5), other = hash_of(turned, 5);

    for (uint32_t i = 0; i < 1000; i++)
        cr_assert_str_eq(servers[pick(&h, i)], turned[pick(&other, i)]);
}

/* Nodes of different versions must agree: these never change. */
Test(redis_hash, the_choice_is_fixed_for_ever)
{
    static const uint8_t expected[] = {0, 3, 3, 1, 4, 0, 4, 1, 2, 3, 2, 3, 1, 1, 1, 3};
    struct redis_hash h = hash_of(servers, 5);

    for (uint32_t i = 0; i < ARRAY_LEN(expected); i++)
        cr_assert_eq(pick(&h, i), expected[i], "%u", i);
}

Test(redis_hash, a_server_is_named_once)
{
    struct redis_hash h = hash_of(servers, 5);

    cr_assert_eq(redis_hash_add(&h, "c:6379"), -EEXIST);
    cr_assert_eq(h.count, 5);
}
