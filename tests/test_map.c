/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/map.h against a plain array, its memory, and failing allocations. The module is compiled
 * into this program so that its allocations can be failed. */

#include "core/map.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static bool calloc_fails;

static void *test_calloc(size_t count, size_t bytes)
{
    return calloc_fails ? NULL : calloc(count, bytes);
}

#define calloc test_calloc
#include "core/map.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef calloc

#define OBJECTS 5000

struct object {
    char key[24];
    uint32_t key_len;
    bool stored;
};

static struct object objects[OBJECTS];
static struct map map;

static struct bytes object_key(const void *object)
{
    const struct object *o = object;
    return (struct bytes){.ptr = (uint8_t *)o->key, .len = o->key_len};
}

static void set_up(void)
{
    for (uint32_t i = 0; i < OBJECTS; i++)
        objects[i].key_len = (uint32_t)snprintf(objects[i].key, sizeof(objects[i].key), "k%u", i);
    map_init(&map, object_key, 42);
}

static void tear_down(void)
{
    map_deinit(&map);
    cr_assert_eq(map_memory_bytes(&map), 0);
}

TestSuite(map, .init = set_up, .fini = tear_down);

static void insert(uint32_t i)
{
    cr_assert_eq(map_insert(&map, &objects[i]), 0);
    objects[i].stored = true;
}

static void remove_key(uint32_t i)
{
    void *removed = map_remove(&map, objects[i].key, objects[i].key_len);
    cr_assert_eq(removed, objects[i].stored ? &objects[i] : NULL);
    objects[i].stored = false;
}

/* Every stored object is found and walked exactly once, every other is not. */
static void check_all(uint32_t limit)
{
    uint32_t stored = 0;
    for (uint32_t i = 0; i < limit; i++) {
        void *found = map_find(&map, objects[i].key, objects[i].key_len);
        cr_assert_eq(found, objects[i].stored ? &objects[i] : NULL);
        stored += objects[i].stored;
    }
    cr_assert_eq(map.count, stored);
    static uint8_t seen[OBJECTS];
    memset(seen, 0, sizeof(seen));
    uint32_t cursor = 0;
    struct object *o;
    for (; (o = map_next(&map, &cursor)) != NULL; stored--) {
        cr_assert(o->stored);
        cr_assert_eq(seen[o - objects]++, 0);
    }
    cr_assert_eq(stored, 0);
}

Test(map, the_empty_map_finds_nothing_and_owns_nothing)
{
    cr_assert_null(map_find(&map, "a", 1));
    cr_assert_null(map_remove(&map, "a", 1));
    check_all(10);
    cr_assert_eq(map_memory_bytes(&map), 0);
}

Test(map, finds_what_was_inserted_and_nothing_else)
{
    for (uint32_t i = 0; i < 300; i++) {
        insert(i);
        check_all(320);
    }
}

Test(map, owns_no_memory_when_it_is_empty_again)
{
    for (uint32_t i = 0; i < OBJECTS; i++)
        insert(i);
    size_t full = map_memory_bytes(&map);
    cr_assert_leq(full, OBJECTS * 16 * 3);
    for (uint32_t i = 0; i < OBJECTS - 100; i++)
        remove_key(i);
    cr_assert_leq(map_memory_bytes(&map), 100 * 16 * 16);
    check_all(OBJECTS);
    for (uint32_t i = OBJECTS - 100; i < OBJECTS; i++)
        remove_key(i);
    cr_assert_eq(map_memory_bytes(&map), 0);
}

Test(map, agrees_with_an_array_through_random_use)
{
    uint64_t state = 3;
    for (uint32_t step = 0; step < 300000; step++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t span = step / 30000 % 2 == 0 ? 40 : 900;
        uint32_t i = (uint32_t)(state >> 33) % span;
        if (objects[i].stored || (state >> 20 & 1) == 0)
            remove_key(i);
        else
            insert(i);
        if (step % 1000 == 0)
            check_all(900);
    }
    check_all(OBJECTS);
}

/* Slots of one cluster around the end of the table, removed in every order: with all objects at
 * one place, only the shifting back keeps them in reach. */
Test(map, removal_keeps_a_cluster_in_reach_whatever_the_order)
{
    uint32_t picked[5];
    uint32_t count = 0;
    for (uint32_t i = 0; i < OBJECTS && count < 5; i++) {
        uint32_t place = map_stored_hash(&map, objects[i].key, objects[i].key_len) % MAP_SLOTS_MIN;
        if (place == (count % 2 == 0 ? 6u : 7u))
            picked[count++] = i;
    }
    cr_assert_eq(count, 5);
    for (uint32_t order = 0; order < 5 * 5 * 5 * 5 * 5; order++) {
        for (uint32_t i = 0; i < 5; i++)
            insert(picked[i]);
        for (uint32_t n = 0, rest = order; n < 5; n++, rest /= 5) {
            remove_key(picked[rest % 5]);
            for (uint32_t i = 0; i < 5; i++) {
                struct object *o = &objects[picked[i]];
                cr_assert_eq(map_find(&map, o->key, o->key_len), o->stored ? o : NULL);
            }
        }
        for (uint32_t i = 0; i < 5; i++)
            remove_key(picked[i]);
    }
}

Test(map, keys_may_be_empty_and_hold_any_byte)
{
    objects[0].key_len = 0;
    memcpy(objects[1].key, "a\0b", 3);
    objects[1].key_len = 3;
    memcpy(objects[2].key, "a\0c", 3);
    objects[2].key_len = 3;
    for (uint32_t i = 0; i < 3; i++)
        insert(i);
    cr_assert_eq(map_find(&map, NULL, 0), &objects[0]);
    cr_assert_eq(map_find(&map, "a\0b", 3), &objects[1]);
    cr_assert_eq(map_find(&map, "a\0c", 3), &objects[2]);
    cr_assert_null(map_find(&map, "a", 1));
}

Test(map, the_hash_is_seeded_xxh3)
{
    cr_assert_eq(map_hash(0, "", 0), 0x2D06800538D394C2ULL, "XXH3_64bits of nothing, published");
    cr_assert_neq(map_hash(1, "channel", 7), map_hash(2, "channel", 7));
    cr_assert_eq(map_hash(9, "channel", 7), map_hash(9, "channel", 7));
}

/* A shard's map holds only keys whose hash is its own modulo the shards; they must not cluster. */
Test(map, keys_of_one_shard_spread_over_the_table)
{
    uint32_t stored = 0;
    for (uint32_t i = 0; i < OBJECTS; i++) {
        if (map_hash(map.seed, objects[i].key, objects[i].key_len) % 8 != 3)
            continue;
        insert(i);
        stored++;
    }
    cr_assert_gt(stored, OBJECTS / 16);
    uint32_t at_home = 0;
    for (uint32_t i = 0; i <= map.mask; i++)
        at_home += map.slots[i].object != NULL && (map.slots[i].hash & map.mask) == i;
    cr_assert_gt(at_home, stored / 2);
}

Test(map, an_insert_without_memory_fails_and_changes_nothing)
{
    for (uint32_t i = 0; i < 1000; i++) {
        calloc_fails = true;
        int err = map_insert(&map, &objects[i]);
        calloc_fails = false;
        if (err == -ENOMEM)
            cr_assert_eq(map_insert(&map, &objects[i]), 0);
        objects[i].stored = true;
        if (i % 50 == 0)
            check_all(1000);
    }
    calloc_fails = true;
    for (uint32_t i = 0; i < 900; i++)
        remove_key(i);
    calloc_fails = false;
    check_all(1000);
}
