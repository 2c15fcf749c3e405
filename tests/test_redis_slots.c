/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Hash slots of channels, the map from CLUSTER SLOTS, and MOVED. */

#include "pubsub/redis_slots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/sim/sim_redis.h"

static uint32_t slot_of(const char *text)
{
    return redis_slot_of(text, strlen(text));
}

/* Asked of Redis 7.0 by CLUSTER KEYSLOT. */
Test(redis_slots, slots_are_those_of_the_server)
{
    cr_assert_eq(slot_of("123456789"), 0x31c3);
    cr_assert_eq(slot_of("foo"), 12182);
    cr_assert_eq(slot_of("{user1000}.following"), 3443);
    cr_assert_eq(slot_of("{user1000}.followers"), 3443);
    cr_assert_eq(slot_of("foo{}{bar}"), 8363);
    cr_assert_eq(slot_of("foo{{bar}}zap"), 4015);
    cr_assert_eq(slot_of("foo{bar}{zap}"), 5061);
    cr_assert_eq(slot_of(""), 0);
}

Test(redis_slots, equal_those_computed_bit_by_bit)
{
    uint64_t random = 1;
    char name[40];

    for (int i = 0; i < 100000; i++) {
        size_t len = i % sizeof(name);
        for (size_t k = 0; k < len; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            name[k] = (random >> 40 & 7) == 0   ? '{'
                      : (random >> 40 & 7) == 1 ? '}'
                                                : (char)(random >> 50);
        }
        cr_assert_eq(redis_slot_of(name, len), sim_cluster_slot(name, len));
    }
}

static const struct redis_endpoint asked = {.host = "10.0.0.9", .port = 7000};
static struct redis_slots slots;
static int result;

static bool read_reply(void *ctx, const struct redis_reply *r)
{
    (void)ctx;
    result = redis_slots_read(&slots, r, &asked);
    return true;
}

/* The answer as the server writes it. */
static int read_text(const char *text)
{
    struct redis_reader *reader = redis_reader_new(1 << 20);

    result = -EAGAIN;
    cr_assert_eq(
        redis_reader_feed(reader, (struct bytes){(uint8_t *)text, strlen(text)}, read_reply, NULL),
        0);
    redis_reader_free(reader);
    return result;
}

/* [first, last, [host, port, id]] with a replica behind it. */
static const char *row(char *text, uint32_t first, uint32_t last, const char *host, uint32_t port)
{
    sprintf(text,
            "*4\r\n:%u\r\n:%u\r\n*4\r\n$%zu\r\n%s\r\n:%u\r\n$2\r\nid\r\n*0\r\n"
            "*3\r\n$7\r\nreplica\r\n:1\r\n$2\r\nxy\r\n",
            first, last, strlen(host), host, port);
    return text;
}

static int read_rows(const char *a, const char *b, const char *c)
{
    char text[2048];

    sprintf(text, "*%d\r\n%s%s%s", (a[0] != 0) + (b[0] != 0) + (c[0] != 0), a, b, c);
    return read_text(text);
}

/* Whoever owns a slot has a channel for canaries. */
Test(redis_slots, every_slot_has_a_tag)
{
    uint32_t highest = 0;
    char text[32];

    for (uint32_t slot = 0; slot < REDIS_SLOT_COUNT; slot += 37) {
        uint32_t tag;

        redis_slots_init(&slots);
        slots.owner[slot] = 3;
        tag = redis_slots_tag(&slots, 3);
        sprintf(text, "any{%u}", tag);
        cr_assert_eq(slot_of(text), slot);
        highest = tag > highest ? tag : highest;
    }
    cr_assert_lt(highest, REDIS_SLOT_COUNT * 8);
    cr_assert_eq(redis_slots_tag(&slots, 4), REDIS_SLOT_COUNT * 8, "it has no slot");
}

Test(redis_slots, the_map_names_the_master_of_each_slot)
{
    char a[200], b[200], c[200];

    redis_slots_init(&slots);
    cr_assert_eq(slots.owner[0], REDIS_SLOT_NONE);
    cr_assert_eq(read_rows(row(a, 0, 5460, "10.0.0.1", 7001), row(b, 5461, 10922, "", 7002),
                           row(c, 10923, 16383, "node.example", 7003)),
                 1);
    cr_assert_eq(slots.node_count, 3);
    cr_assert_eq(slots.covered, REDIS_SLOT_COUNT);
    cr_assert_eq(slots.owner[0], 0);
    cr_assert_eq(slots.owner[5460], 0);
    cr_assert_eq(slots.owner[5461], 1);
    cr_assert_eq(slots.owner[16383], 2);
    cr_assert_str_eq(slots.nodes[1].host, "10.0.0.9", "the one that was asked");
    cr_assert_eq(slots.nodes[1].port, 7002);
    cr_assert_str_eq(slots.nodes[2].host, "node.example");
    cr_assert_eq(slots.slot_counts[0], 5461);
}

Test(redis_slots, masters_keep_their_index_and_free_places_are_used_again)
{
    char a[200], b[200], c[200];

    redis_slots_init(&slots);
    cr_assert_eq(
        read_rows(row(a, 0, 99, "a", 1), row(b, 100, 199, "b", 1), row(c, 200, 299, "c", 1)), 1);
    cr_assert_eq(slots.covered, 300);
    cr_assert_eq(
        read_rows(row(c, 200, 299, "c", 1), row(a, 0, 99, "a", 1), row(b, 100, 199, "b", 1)), 0,
        "nothing new");
    /* b hands all to a new one; the order of rows is another. */
    cr_assert_eq(
        read_rows(row(c, 200, 299, "c", 1), row(b, 100, 199, "d", 1), row(a, 0, 99, "a", 1)), 1);
    cr_assert_eq(slots.owner[0], 0);
    cr_assert_eq(slots.owner[150], 3);
    cr_assert_eq(slots.owner[250], 2);
    cr_assert_eq(slots.slot_counts[1], 0);
    cr_assert_eq(slots.node_count, 4);
    cr_assert_eq(read_rows(row(a, 0, 299, "e", 1), "", ""), 1);
    cr_assert_eq(slots.owner[0], 1, "b's place");
    cr_assert_eq(slots.node_count, 4);
    cr_assert_eq(slots.slot_counts[1], 300);
}

Test(redis_slots, what_makes_no_sense_changes_nothing)
{
    static const char *const bad[] = {
        "+OK\r\n",
        "*0\r\n", /* a node that was reset */
        "*1\r\n:1\r\n",
        "*1\r\n*2\r\n:0\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n:1\r\n:1\r\n",
        "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:2\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:65536\r\n",
        "*2\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n:1\r\n",
    };
    struct redis_slots before;
    char a[200];

    redis_slots_init(&slots);
    cr_assert_eq(read_rows(row(a, 5, 16000, "a", 1), "", ""), 1);
    before = slots;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_eq(read_text(bad[i]), -EINVAL, "%s", bad[i]);
        cr_assert_eq(memcmp(&before, &slots, sizeof(slots)), 0);
    }
}

Test(redis_slots, more_masters_than_there_is_room_for_are_refused)
{
    static char text[40000];
    int len = sprintf(text, "*%d\r\n", REDIS_SLOTS_NODES_MAX + 1);

    redis_slots_init(&slots);
    for (uint32_t i = 0; i <= REDIS_SLOTS_NODES_MAX; i++) {
        row(text + len, i, i, "a", i + 1);
        len += (int)strlen(text + len);
    }
    cr_assert_eq(read_text(text), -ENOSPC);
    cr_assert_eq(slots.node_count, 0);
}

static int moved(const char *text)
{
    return redis_slots_moved(&slots, text, strlen(text), &asked);
}

Test(redis_slots, a_move_mends_one_slot)
{
    char a[200];

    redis_slots_init(&slots);
    cr_assert_eq(read_rows(row(a, 0, 16383, "a", 1), "", ""), 1);
    cr_assert_eq(moved("MOVED 3999 127.0.0.1:6381"), 3999);
    cr_assert_eq(slots.owner[3999], 1);
    cr_assert_eq(slots.owner[3998], 0);
    cr_assert_str_eq(slots.nodes[1].host, "127.0.0.1");
    cr_assert_eq(slots.nodes[1].port, 6381);
    cr_assert_eq(slots.slot_counts[0], 16383);
    cr_assert_eq(moved("MOVED 4000 :7002"), 4000);
    cr_assert_str_eq(slots.nodes[slots.owner[4000]].host, "10.0.0.9");
    cr_assert_eq(moved("MOVED 4001 ::1:7002"), 4001);
    cr_assert_str_eq(slots.nodes[slots.owner[4001]].host, "::1");
    cr_assert_eq(moved("ASK 5000 127.0.0.1:6381"), 5000);
    cr_assert_eq(slots.owner[5000], 0, "not yet");
}

Test(redis_slots, moves_that_make_no_sense_are_refused)
{
    static const char *const bad[] = {"MOVED",           "MOVED ",          "MOVED x a:1",
                                      "MOVED 1 a",       "MOVED 16384 a:1", "MOVED 1 a:0",
                                      "MOVED 1 a:x",     "MOVED 1 a:1 b",   "MOVED -1 a:1",
                                      "MOVED 1 a:70000", "ERR 1 a:1",       ""};

    redis_slots_init(&slots);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(moved(bad[i]), -EINVAL, "%s", bad[i]);
    cr_assert_eq(slots.node_count, 0);
}
