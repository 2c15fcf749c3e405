/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Commands on their way out: bytes, references, bounds of memory, and every failing allocation. The
 * module is compiled into this program so that its allocations can be failed. */

#include "pubsub/redis_out.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static long allocs_until_failure = -1; /* -1: never */
static uint64_t allocs;

static void *test_malloc(size_t bytes)
{
    allocs++;
    return allocs_until_failure >= 0 && allocs_until_failure-- == 0 ? NULL : malloc(bytes);
}

#define malloc test_malloc
#include "pubsub/redis_out.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef malloc

static struct message_pool messages;
static uint32_t released;

static void release(void *ctx, struct message *m)
{
    cr_assert_eq(ctx, &messages);
    released++;
    message_free(&messages, m);
}

static struct redis_out out;

static void set_up(void)
{
    message_pool_init(&messages, 0);
    redis_out_init(&out, release, &messages);
}

static void tear_down(void)
{
    redis_out_clear(&out);
    cr_assert_eq(redis_out_memory_bytes(&out), 0);
    message_pool_deinit(&messages); /* checks that all were released */
}

TestSuite(redis_out, .init = set_up, .fini = tear_down);

static struct redis_arg arg_of(const char *head, const char *tail, struct message *body)
{
    return (struct redis_arg){.head = head,
                              .tail = tail,
                              .body = body,
                              .head_len = (uint32_t)strlen(head),
                              .tail_len = (uint32_t)strlen(tail)};
}

static struct message *message_of(uint32_t len, uint8_t fill)
{
    struct message *m = message_new(&messages, len);

    cr_assert_not_null(m);
    memset(message_payload(m), fill, len);
    return m;
}

/* Takes what is unsent, in sends of at most `max` spans, and appends it to text. */
static size_t drain(uint8_t *text, size_t len, uint32_t max)
{
    struct iovec iov[64];
    size_t bytes;

    for (;;) {
        uint32_t count = redis_out_gather(&out, iov, max, &bytes);
        if (count == 0)
            break;
        for (uint32_t i = 0; i < count; i++) {
            memcpy(text + len, iov[i].iov_base, iov[i].iov_len);
            len += iov[i].iov_len;
            bytes -= iov[i].iov_len;
        }
        cr_assert_eq(bytes, 0);
        redis_out_sent(&out);
    }
    cr_assert_eq(out.bytes, 0);
    return len;
}

Test(redis_out, a_command_is_resp)
{
    static const char expected[] = "*1\r\n$4\r\nPING\r\n"
                                   "*3\r\n$7\r\nPUBLISH\r\n$7\r\ntw:room\r\n$0\r\n\r\n";
    const struct redis_arg args[] = {arg_of("tw:", "room", NULL), arg_of("", "", NULL)};
    uint8_t text[200];

    cr_assert_eq(redis_out_command_bytes("PING", NULL, 0), 14);
    cr_assert_eq(redis_out_command_bytes("PUBLISH", args, 2), sizeof(expected) - 1 - 14);
    cr_assert_eq(redis_out_add(&out, "PING", NULL, 0), 0);
    cr_assert_eq(redis_out_add(&out, "PUBLISH", args, 2), 0);
    cr_assert_eq(out.bytes, sizeof(expected) - 1);
    cr_assert_eq(drain(text, 0, 64), sizeof(expected) - 1);
    cr_assert_eq(memcmp(text, expected, sizeof(expected) - 1), 0);
}

Test(redis_out, lengths_of_every_number_of_digits_are_right)
{
    static char head[200001];
    static uint8_t text[200100];

    memset(head, 'x', sizeof(head) - 1);
    for (uint32_t len = 1; len <= 200000; len = len < 10 ? len + 1 : len * 10 / 9) {
        const struct redis_arg arg = {.head = head, .head_len = len};
        char expected[64];
        int n = snprintf(expected, sizeof(expected), "*2\r\n$1\r\nX\r\n$%u\r\n", len);
        cr_assert_eq(redis_out_add(&out, "X", &arg, 1), 0);
        cr_assert_eq(out.bytes, redis_out_command_bytes("X", &arg, 1));
        cr_assert_eq(drain(text, 0, 3), (size_t)n + len + 2);
        cr_assert_eq(memcmp(text, expected, (size_t)n), 0, "%u", len);
        cr_assert_eq(memcmp(text + n + len, "\r\n", 2), 0);
    }
}

Test(redis_out, small_commands_become_one_span)
{
    const struct redis_arg args[] = {arg_of("room", "", NULL), arg_of("hello", "", NULL)};
    struct iovec iov[64];
    size_t bytes;

    for (int i = 0; i < 100; i++)
        cr_assert_eq(redis_out_add(&out, "PUBLISH", args, 2), 0);
    cr_assert_eq(redis_out_gather(&out, iov, 64, &bytes), 1);
    cr_assert_eq(bytes, out.bytes);
    redis_out_sent(&out);
}

Test(redis_out, a_lent_span_does_not_grow)
{
    struct iovec iov[64];
    size_t bytes;
    uint8_t text[100];

    cr_assert_eq(redis_out_add(&out, "A", NULL, 0), 0);
    cr_assert_eq(redis_out_gather(&out, iov, 64, &bytes), 1);
    cr_assert_eq(redis_out_add(&out, "B", NULL, 0), 0);
    cr_assert_eq(redis_out_add(&out, "C", NULL, 0), 0);
    cr_assert_eq(memcmp(iov[0].iov_base, "*1\r\n$1\r\nA\r\n", bytes), 0);
    redis_out_sent(&out);
    cr_assert_eq(out.bytes, 22);
    cr_assert_eq(drain(text, 0, 64), 22);
    cr_assert_eq(memcmp(text, "*1\r\n$1\r\nB\r\n*1\r\n$1\r\nC\r\n", 22), 0);
}

Test(redis_out, small_bodies_are_given_back_at_once_and_large_ones_when_they_are_sent)
{
    static uint8_t text[10000];
    const struct redis_arg small = arg_of("h", "t", message_of(REDIS_OUT_COPY_MAX, 'a'));
    const struct redis_arg large = arg_of("h", "t", message_of(REDIS_OUT_COPY_MAX + 1, 'b'));

    released = 0;
    cr_assert_eq(redis_out_add(&out, "X", &small, 1), 0);
    cr_assert_eq(released, 1);
    cr_assert_eq(redis_out_add(&out, "X", &large, 1), 0);
    cr_assert_eq(released, 1);
    cr_assert_eq(drain(text, 0, 1), 2 * (strlen("*2\r\n$1\r\nX\r\n$1026\r\nht\r\n") + 1024) + 1);
    cr_assert_eq(released, 2);
}

Test(redis_out, clearing_releases_what_is_unsent)
{
    released = 0;
    for (int i = 0; i < 50; i++) {
        const struct redis_arg arg = arg_of("", "", message_of(5000, 'x'));
        cr_assert_eq(redis_out_add(&out, "X", &arg, 1), 0);
    }
    redis_out_clear(&out);
    cr_assert_eq(released, 50);
    cr_assert_eq(out.bytes, 0);
}

/* A steady flow needs no memory but the first block. */
Test(redis_out, a_steady_flow_allocates_nothing)
{
    const struct redis_arg args[] = {arg_of("room", "", NULL), arg_of("hello", "", NULL)};
    static uint8_t text[100000];
    uint64_t before;

    for (int i = 0; i < 20000; i++) {
        if (i == 100)
            before = allocs;
        cr_assert_eq(redis_out_add(&out, "PUBLISH", args, 2), 0);
        if (i % 97 == 0)
            drain(text, 0, 64);
    }
    cr_assert_eq(allocs, before);
    drain(text, 0, 64);
    cr_assert_leq(redis_out_memory_bytes(&out), REDIS_OUT_BLOCK_BYTES + 1024);
}

static uint64_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

#define MODEL_BYTES (40u << 20)

/* What a queue that only copies would hold. */
static size_t model_add(uint8_t *model, size_t len, const struct redis_arg *args, uint32_t count)
{
    len += (size_t)sprintf((char *)model + len, "*%u\r\n$1\r\nX\r\n", count + 1);
    for (uint32_t i = 0; i < count; i++) {
        const struct redis_arg *a = &args[i];
        uint32_t body = a->body == NULL ? 0 : a->body->payload_len;
        len += (size_t)sprintf((char *)model + len, "$%u\r\n", a->head_len + a->tail_len + body);
        memcpy(model + len, a->head, a->head_len);
        memcpy(model + len + a->head_len, a->tail, a->tail_len);
        len += a->head_len + a->tail_len;
        if (body > 0)
            memcpy(model + len, message_payload(a->body), body);
        len += body + sprintf((char *)model + len + body, "\r\n");
    }
    return len;
}

/* Any mixture of commands, sends under way and failing allocations gives the bytes of those that
 * were taken, in order. */
Test(redis_out, equals_a_queue_that_only_copies)
{
    static char filler[40000];
    uint8_t *model = malloc(MODEL_BYTES), *text = malloc(MODEL_BYTES);
    size_t model_len = 0, text_len = 0, bytes;
    uint32_t lent = 0, refused = 0;
    struct iovec iov[64];

    for (size_t i = 0; i < sizeof(filler); i++)
        filler[i] = (char)('a' + i % 26);
    for (int step = 0; step < 20000 && model_len < MODEL_BYTES - 500000; step++) {
        struct redis_arg args[3];
        uint32_t count = below(4), failing = below(20);
        for (uint32_t i = 0; i < count; i++) {
            args[i] = (struct redis_arg){.head = filler + below(100), .tail = filler};
            args[i].head_len = below(10) == 0 ? below(39000) : below(30);
            args[i].tail_len = below(20);
            if (below(3) == 0)
                args[i].body = message_of(below(3) == 0 ? below(30000) : below(1100), (uint8_t)i);
        }
        size_t longer = model_add(model, model_len, args, count);
        if (failing < 3)
            allocs_until_failure = failing;
        int err = redis_out_add(&out, "X", args, count);
        allocs_until_failure = -1;
        if (err == 0) {
            model_len = longer;
        } else {
            refused++;
            cr_assert_eq(err, -ENOMEM);
            for (uint32_t i = 0; i < count; i++) {
                if (args[i].body != NULL)
                    message_free(&messages, args[i].body);
            }
        }
        if (lent > 0 && below(2) == 0) {
            redis_out_sent(&out);
            lent = 0;
        } else if (lent == 0 && below(2) == 0) {
            lent = redis_out_gather(&out, iov, 1 + below(64), &bytes);
            for (uint32_t i = 0; i < lent; i++) {
                memcpy(text + text_len, iov[i].iov_base, iov[i].iov_len);
                text_len += iov[i].iov_len;
            }
        }
    }
    if (lent > 0)
        redis_out_sent(&out);
    text_len = drain(text, text_len, 64);
    cr_assert_gt(refused, 10);
    cr_assert_eq(text_len, model_len);
    cr_assert_eq(memcmp(text, model, model_len), 0);
    free(model);
    free(text);
}
