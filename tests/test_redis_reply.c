/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Replies out of bytes: every split, what is no RESP2, bounds, and every failing allocation. The
 * module is compiled into this program so that its allocations and the reader's can be failed. */

#include "pubsub/redis_reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <hiredis/read.h>

static long allocs_until_failure = -1; /* -1: never */
static uint64_t allocs;

static bool alloc_fails(void)
{
    allocs++;
    return allocs_until_failure >= 0 && allocs_until_failure-- == 0;
}

static void *test_calloc(size_t count, size_t bytes)
{
    return alloc_fails() ? NULL : calloc(count, bytes);
}

static void *test_realloc(void *p, size_t bytes)
{
    return alloc_fails() ? NULL : realloc(p, bytes);
}

static redisReader *test_reader_new(redisReplyObjectFunctions *fn)
{
    return alloc_fails() ? NULL : redisReaderCreateWithFunctions(fn);
}

/* As the library does it when its buffer can't grow. */
static int test_feed(redisReader *r, const char *bytes, size_t len)
{
    if (!alloc_fails())
        return redisReaderFeed(r, bytes, len);
    r->err = REDIS_ERR_OOM;
    return REDIS_ERR;
}

#define calloc test_calloc
#define realloc test_realloc
#define redisReaderCreateWithFunctions test_reader_new
#define redisReaderFeed test_feed
#include "pubsub/redis_reply.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef calloc
#undef realloc
#undef redisReaderCreateWithFunctions
#undef redisReaderFeed

/* What came out, as text: "(a b)" for arrays. */
struct transcript {
    char text[8192];
    size_t len;
    uint32_t replies;
    uint32_t stop_at; /* says false at this reply; 0: never */
};

__attribute__((format(printf, 2, 3))) static void note(struct transcript *t, const char *format,
                                                       ...)
{
    va_list args;

    va_start(args, format);
    t->len += (size_t)vsnprintf(t->text + t->len, sizeof(t->text) - t->len, format, args);
    va_end(args);
    cr_assert_lt(t->len, sizeof(t->text));
}

static void note_reply(struct transcript *t, const struct redis_reply *r)
{
    switch (r->type) {
    case REDIS_TYPE_NIL:
        note(t, "nil ");
        return;
    case REDIS_TYPE_INTEGER:
        note(t, "%ld ", (long)r->integer);
        return;
    case REDIS_TYPE_ARRAY:
        note(t, "(");
        for (uint32_t i = 0; i < r->len; i++)
            note_reply(t, &r->items[i]);
        note(t, ") ");
        return;
    default:
        cr_assert_eq(r->text[r->len], '\0');
        note(t, "%c%u'%.*s' ", "  +$-"[r->type], r -> len, (int)r -> len, r -> text);
    }
}

static bool on_reply(void *ctx, const struct redis_reply *r)
{
    struct transcript *t = ctx;

    note_reply(t, r);
    return ++t->replies != t->stop_at;
}

/* Feeds pieces of that size, out of memory of exactly theirs. */
static int feed(struct redis_reader *r, const char *text, size_t len, size_t piece,
                struct transcript *t)
{
    int err = 0;

    for (size_t at = 0; at < len && err == 0; at += piece) {
        size_t part = min_size(piece, len - at);
        uint8_t *copy = malloc(part);
        cr_assert_not_null(copy);
        memcpy(copy, text + at, part);
        err = redis_reader_feed(r, (struct bytes){copy, part}, on_reply, t);
        free(copy);
    }
    return err;
}

static int read_all(const char *text, size_t len, size_t piece, uint32_t bytes_max,
                    struct transcript *t)
{
    struct redis_reader *r = redis_reader_new(bytes_max);
    int err = r == NULL ? -ENOMEM : feed(r, text, len, piece, t);

    redis_reader_free(r);
    return err;
}

static const char stream[] =
    "+OK\r\n-ERR no\r\n:-9223372036854775808\r\n$-1\r\n*-1\r\n$0\r\n\r\n*0\r\n$5\r\na\r\nbc\r\n"
    "*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$5\r\nhello\r\n"
    "*2\r\n*2\r\n:1\r\n*3\r\n+a\r\n$1\r\nb\r\n:3\r\n*1\r\n*2\r\n$-1\r\n-x\r\n+END\r\n";
static const char expected[] = "+2'OK' -6'ERR no' -9223372036854775808 nil nil $0'' () $5'a\r\nbc' "
                               "($7'message' $4'room' $5'hello' ) "
                               "((1 (+1'a' $1'b' 3 ) ) ((nil -1'x' ) ) ) +3'END' ";

Test(redis_reply, every_split_gives_the_same_replies)
{
    for (size_t piece = 1; piece <= sizeof(stream); piece++) {
        struct transcript t = {.len = 0};
        cr_assert_eq(read_all(stream, sizeof(stream) - 1, piece, 1 << 20, &t), 0);
        cr_assert_str_eq(t.text, expected, "%zu", piece);
    }
    for (size_t cut = 1; cut < sizeof(stream) - 1; cut++) {
        struct transcript t = {.len = 0};
        struct redis_reader *r = redis_reader_new(1 << 20);
        cr_assert_eq(feed(r, stream, cut, cut, &t), 0);
        cr_assert_eq(feed(r, stream + cut, sizeof(stream) - 1 - cut, sizeof(stream), &t), 0);
        cr_assert_str_eq(t.text, expected, "%zu", cut);
        redis_reader_free(r);
    }
}

Test(redis_reply, what_is_no_resp2_is_refused_behind_what_was_good)
{
    static const char *const bad[] = {"HTTP/1.1 400\r\n", "?x\r\n",  ":12x\r\n", "$x\r\n", "*x\r\n",
                                      "$-2\r\n",          "*-2\r\n", "%1\r\n",   ">1\r\n", ":\r\n"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[64];
        int len = snprintf(text, sizeof(text), "+OK\r\n%s+more\r\n", bad[i]);
        for (size_t piece = 1; piece <= (size_t)len; piece++) {
            struct transcript t = {.len = 0};
            cr_assert_eq(read_all(text, (size_t)len, piece, 1 << 20, &t), -EPROTO, "%s", bad[i]);
            cr_assert_str_eq(t.text, "+2'OK' ", "%s", bad[i]);
        }
    }
}

Test(redis_reply, what_is_too_large_is_refused_whatever_the_split)
{
    static char text[40000];
    int head = snprintf(text, sizeof(text), "$20000\r\n");

    memset(text + head, 'x', 20000);
    memcpy(text + head + 20000, "\r\n", 2);
    for (size_t piece = 7; piece < 30000; piece = piece * 3 / 2) {
        uint32_t replies = 0;
        struct transcript t = {.len = 0};
        cr_assert_eq(read_all(text, (size_t)head + 20002, piece, 20000, &t), -EMSGSIZE);
        cr_assert_eq(t.replies, replies);
    }
    /* An announcement is enough. */
    struct transcript t = {.len = 0};
    cr_assert_eq(read_all("*1000000000\r\n", 13, 13, 1 << 20, &t), -EMSGSIZE);
    /* One that never ends is not kept. */
    memset(text, 'x', sizeof(text));
    text[0] = '+';
    cr_assert_eq(read_all(text, sizeof(text), 100, 20000, &t), -EMSGSIZE);
}

static bool check_large(void *ctx, const struct redis_reply *r)
{
    uint32_t *len = ctx;

    cr_assert_eq(r->len, *len);
    for (uint32_t i = 0; i < r->len; i++)
        cr_assert_eq(r->text[i], 'x');
    *len = 0;
    return true;
}

Test(redis_reply, memory_of_a_large_reply_is_given_back)
{
    static char text[1 << 20];
    struct redis_reader *r = redis_reader_new(1 << 20);
    uint32_t len = 1000000;
    int head = snprintf(text, sizeof(text), "$%u\r\n", len);

    memset(text + head, 'x', len);
    memcpy(text + head + len, "\r\n", 2);
    cr_assert_eq(redis_reader_feed(r, (struct bytes){(uint8_t *)text, (size_t)head + len + 2},
                                   check_large, &len),
                 0);
    cr_assert_eq(len, 0);
    cr_assert_lt(redis_reader_memory_bytes(r), 300000);
    redis_reader_free(r);
}

static bool ignore(void *ctx, const struct redis_reply *r)
{
    (void)ctx;
    (void)r;
    return true;
}

Test(redis_reply, replies_cost_no_allocation)
{
    static const char push[] = "*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$5\r\nhello\r\n";
    struct redis_reader *r = redis_reader_new(1 << 20);
    struct bytes in = {(uint8_t *)push, sizeof(push) - 1};
    uint64_t before;

    cr_assert_eq(redis_reader_feed(r, in, ignore, NULL), 0);
    before = allocs;
    for (int i = 0; i < 10000; i++)
        cr_assert_eq(redis_reader_feed(r, in, ignore, NULL), 0);
    cr_assert_eq(allocs - before, 10000, "the calls of redisReaderFeed(), and nothing of ours");
    redis_reader_free(r);
}

Test(redis_reply, the_owner_may_end_the_feeding)
{
    struct transcript t = {.stop_at = 2};

    cr_assert_eq(read_all(stream, sizeof(stream) - 1, 1000, 1 << 20, &t), -ECANCELED);
    cr_assert_eq(t.replies, 2);
}

Test(redis_reply, every_failing_allocation_is_told)
{
    bool failed = true;

    for (long n = 0; failed; n++) {
        struct transcript t = {.len = 0};
        allocs_until_failure = n;
        int err = read_all(stream, sizeof(stream) - 1, 16, 1 << 20, &t);
        failed = allocs_until_failure < 0;
        cr_assert_eq(err, failed ? -ENOMEM : 0);
        cr_assert_eq(strncmp(t.text, expected, t.len), 0);
        cr_assert_lt(n, 1000);
    }
    allocs_until_failure = -1;
}

Test(redis_reply, strings_and_statuses_compare_with_text)
{
    const struct redis_reply ok = {.type = REDIS_TYPE_STATUS, .len = 2, .text = "OK"};
    const struct redis_reply error = {.type = REDIS_TYPE_ERROR, .len = 2, .text = "OK"};

    cr_assert(redis_reply_is(&ok, "OK"));
    cr_assert_not(redis_reply_is(&ok, "OKAY"));
    cr_assert_not(redis_reply_is(&ok, "O"));
    cr_assert_not(redis_reply_is(&error, "OK"));
}
