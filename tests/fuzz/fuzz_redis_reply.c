/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Replies of a Redis server: any split gives the same replies and ends in an error or not; what was
 * read, written again, is read as the same; memory stays within the bound; and who says enough is
 * told nothing more. Input: two bytes of bound, two of seed for the
 * splits, then the stream. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_error.h"
#include "pubsub/redis_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS_BYTES = 4, OWN_BYTES_MAX = 2048 };

/* All replies, as RESP2 again. */
struct transcript {
    char *text;
    size_t len;
    size_t cap;
    uint32_t replies;
    uint32_t stop_at; /* the reply that is enough; 0: none is */
    int err;
};

static void put(struct transcript *t, const void *bytes, size_t len)
{
    if (t->len + len > t->cap) {
        t->cap = (t->len + len) * 2;
        t->text = realloc(t->text, t->cap);
        CHECK(t->text != NULL);
    }
    if (len > 0)
        memcpy(t->text + t->len, bytes, len);
    t->len += len;
}

static void put_number(struct transcript *t, char mark, int64_t n)
{
    char line[32];

    put(t, line, (size_t)snprintf(line, sizeof line, "%c%lld\r\n", mark, (long long)n));
}

static void put_reply(struct transcript *t, const struct redis_reply *r)
{
    switch (r->type) {
    case REDIS_TYPE_NIL:
        put(t, "$-1\r\n", 5);
        return;
    case REDIS_TYPE_INTEGER:
        put_number(t, ':', r->integer);
        return;
    case REDIS_TYPE_ARRAY:
        put_number(t, '*', r->len);
        for (uint32_t i = 0; i < r->len; i++)
            put_reply(t, &r->items[i]);
        return;
    case REDIS_TYPE_STRING:
        CHECK(r->text[r->len] == '\0');
        put_number(t, '$', r->len);
        put(t, r->text, r->len);
        put(t, "\r\n", 2);
        return;
    default:
        CHECK(r->type == REDIS_TYPE_STATUS || r->type == REDIS_TYPE_ERROR);
        CHECK(redis_reply_is(r, r->text) ==
              (r->type == REDIS_TYPE_STATUS && strlen(r->text) == r->len));
        CHECK(r->text[r->len] == '\0');
        CHECK(redis_error_of(r->text, r->len) < REDIS_ERROR_COUNT);
        put(t, r->type == REDIS_TYPE_STATUS ? "+" : "-", 1);
        put(t, r->text, r->len);
        put(t, "\r\n", 2);
    }
}

static bool on_reply(void *ctx, const struct redis_reply *r)
{
    struct transcript *t = ctx;

    put_reply(t, r);
    CHECK(t->stop_at == 0 || t->replies < t->stop_at);
    return ++t->replies != t->stop_at;
}

/* Chunks of 1 to 16 bytes, drawn from the seed, each in memory of exactly its size; seed 0: all at
 * once. */
static struct transcript read_all(const void *bytes, size_t len, uint32_t bytes_max, uint32_t seed,
                                  uint32_t stop_at)
{
    struct redis_reader *reader = redis_reader_new(bytes_max);
    struct transcript t = {.stop_at = stop_at};

    CHECK(reader != NULL);
    for (size_t at = 0; at < len && t.err == 0;) {
        size_t chunk = len - at;
        if (seed != 0) {
            seed = seed * 1664525 + 1013904223;
            chunk = min_size(chunk, 1 + (seed >> 28));
        }
        uint8_t *copy = malloc(chunk);
        CHECK(copy != NULL);
        memcpy(copy, (const uint8_t *)bytes + at, chunk);
        t.err = redis_reader_feed(reader, (struct bytes){copy, chunk}, on_reply, &t);
        free(copy);
        at += chunk;
    }
    CHECK(redis_reader_memory_bytes(reader) <= 2 * (size_t)bytes_max + OWN_BYTES_MAX);
    redis_reader_free(reader);
    return t;
}

static void check_same(const struct transcript *a, const struct transcript *b)
{
    CHECK(a->replies == b->replies);
    CHECK(a->len == b->len);
    CHECK(a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < SETTINGS_BYTES)
        return 0;
    uint32_t bytes_max = (uint32_t)(data[0] << 8 | data[1]);
    uint32_t seed = (uint32_t)(data[2] << 8 | data[3]) + 1;
    const uint8_t *p = data + SETTINGS_BYTES;
    size_t len = size - SETTINGS_BYTES;

    struct transcript whole = read_all(p, len, bytes_max, 0, 0);
    struct transcript split = read_all(p, len, bytes_max, seed, 0);
    check_same(&whole, &split);
    /* A line that is both too long and wrong is found to be the one or the other first. */
    CHECK((whole.err == 0) == (split.err == 0));
    struct transcript again = read_all(whole.text, whole.len, UINT16_MAX * 8, seed, 0);
    CHECK(again.err == 0);
    check_same(&whole, &again);
    if (whole.replies > 0) {
        uint32_t stop_at = 1 + seed % whole.replies;
        struct transcript part = read_all(p, len, bytes_max, 0, stop_at);
        CHECK(part.err == -ECANCELED);
        CHECK(part.replies == stop_at);
        CHECK(memcmp(part.text, whole.text, part.len) == 0);
        free(part.text);
    }
    free(whole.text);
    free(split.text);
    free(again.text);
    return 0;
}
