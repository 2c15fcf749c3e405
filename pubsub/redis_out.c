/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Commands as RESP on their way out. On the shard's thread.
 *
 * Copied bytes lie in a list of blocks, in order; a span names bytes within one block, or the
 * payload of a message. A command reserves all that it may need before it writes anything, so that
 * it is taken whole or not at all. Neighbouring commands that are copied become one span, but for
 * a span that is lent, which must not grow any more. */

#include "pubsub/redis_out.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_ROOM (REDIS_OUT_BLOCK_BYTES - sizeof(struct redis_out_block))
#define NUMBER_MAX 24 /* '$', 20 digits, "\r\n" */

struct redis_out_block {
    struct redis_out_block *next;
    uint32_t used; /* written */
    uint32_t sent; /* of them; sent <= used */
    uint8_t data[];
};

struct redis_out_span {
    const uint8_t *ptr;
    struct message *body; /* NULL: bytes of the oldest block */
    uint32_t len;
};

void redis_out_init(struct redis_out *o, redis_release_fn release, void *ctx)
{
    *o = (struct redis_out){.release = release, .ctx = ctx};
}

static struct redis_out_span *span_at(struct redis_out *o, uint32_t i)
{
    return &o->spans[i & (o->cap - 1)];
}

void redis_out_clear(struct redis_out *o)
{
    struct redis_out_block *b = o->first;

    for (uint32_t i = o->head; i != o->tail; i++) {
        struct message *m = span_at(o, i)->body;
        if (m != NULL)
            o->release(o->ctx, m);
    }
    while (b != NULL) {
        struct redis_out_block *next = b->next;
        free(b);
        b = next;
    }
    free(o->spans);
    redis_out_init(o, o->release, o->ctx);
}

/* Lengths
 * ------------------------------------------------------------------------------------------ */

static bool is_copied(const struct redis_arg *a)
{
    return a->body == NULL || a->body->payload_len <= REDIS_OUT_COPY_MAX;
}

static uint64_t arg_len(const struct redis_arg *a)
{
    return (uint64_t)a->head_len + a->tail_len + (a->body != NULL ? a->body->payload_len : 0);
}

/* Of "$<n>\r\n" and of "*<n>\r\n". */
static uint32_t number_len(uint64_t n)
{
    uint32_t len = 4;

    while (n >= 10) {
        n /= 10;
        len++;
    }
    return len;
}

uint64_t redis_out_command_bytes(const char *name, const struct redis_arg *args, uint32_t count)
{
    size_t name_len = strlen(name);
    uint64_t bytes = number_len(count + 1) + number_len(name_len) + name_len + 2;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t len = arg_len(&args[i]);
        bytes += number_len(len) + len + 2;
    }
    return bytes;
}

/* Reserving
 * ---------------------------------------------------------------------------------------- */

static int reserve_spans(struct redis_out *o, uint32_t more)
{
    uint32_t used = o->tail - o->head, cap = o->cap == 0 ? 16 : o->cap;
    struct redis_out_span *spans;

    while (cap - used < more)
        cap *= 2;
    if (cap == o->cap)
        return 0;
    spans = malloc(cap * sizeof(*spans));
    if (spans == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < used; i++)
        spans[i] = *span_at(o, o->head + i);
    free(o->spans);
    o->spans = spans;
    o->cap = cap;
    o->head = 0;
    o->tail = used;
    return 0;
}

static struct redis_out_block *new_block(void)
{
    struct redis_out_block *b = malloc(REDIS_OUT_BLOCK_BYTES);

    if (b != NULL)
        *b = (struct redis_out_block){.next = NULL};
    return b;
}

/* Blocks that were made before a failure stay for the next command. */
static int reserve_blocks(struct redis_out *o, uint64_t bytes)
{
    struct redis_out_block **end = o->last != NULL ? &o->last->next : &o->first;
    uint64_t room = o->last != NULL ? BLOCK_ROOM - o->last->used : 0;

    for (; room < bytes; room += BLOCK_ROOM) {
        if (*end == NULL)
            *end = new_block();
        if (*end == NULL)
            return -ENOMEM;
        end = &(*end)->next;
    }
    if (o->last == NULL)
        o->last = o->first;
    return 0;
}

static int reserve(struct redis_out *o, const char *name, const struct redis_arg *args,
                   uint32_t count)
{
    uint64_t copied = redis_out_command_bytes(name, args, count);
    uint32_t bodies = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!is_copied(&args[i])) {
            copied -= args[i].body->payload_len;
            bodies++;
        }
    }
    int err = reserve_blocks(o, copied);
    if (err != 0)
        return err;
    /* A span for each body, one behind it, the first, and one for each further block. */
    return reserve_spans(o, 2 * bodies + 1 + (uint32_t)(copied / BLOCK_ROOM) + 1);
}

/* Writing
 * ------------------------------------------------------------------------------------------ */

/* Bytes at the end of the last block: in the last span, if that may still grow and ends there. */
static void note_written(struct redis_out *o, const uint8_t *ptr, uint32_t len)
{
    struct redis_out_span *s;

    o->bytes += len;
    if (o->tail - o->head > o->lent) {
        s = span_at(o, o->tail - 1);
        if (s->body == NULL && s->ptr + s->len == ptr) {
            s->len += len;
            return;
        }
    }
    *span_at(o, o->tail++) = (struct redis_out_span){.ptr = ptr, .len = len};
}

static void write_bytes(struct redis_out *o, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    while (len > 0) {
        struct redis_out_block *b = o->last;
        size_t part = min_size(len, BLOCK_ROOM - b->used);
        if (part == 0) {
            o->last = b->next;
            continue;
        }
        memcpy(b->data + b->used, p, part);
        note_written(o, b->data + b->used, (uint32_t)part);
        b->used += (uint32_t)part;
        p += part;
        len -= part;
    }
}

static void write_number(struct redis_out *o, char mark, uint64_t n)
{
    char text[NUMBER_MAX], *p = text + sizeof(text);

    *--p = '\n';
    *--p = '\r';
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    *--p = mark;
    write_bytes(o, p, (size_t)(text + sizeof(text) - p));
}

static void write_body(struct redis_out *o, struct message *m)
{
    if (m->payload_len <= REDIS_OUT_COPY_MAX) {
        write_bytes(o, message_payload(m), m->payload_len);
        o->release(o->ctx, m);
        return;
    }
    *span_at(o, o->tail++) =
        (struct redis_out_span){.ptr = message_payload(m), .body = m, .len = m->payload_len};
    o->bytes += m->payload_len;
}

int redis_out_add(struct redis_out *o, const char *name, const struct redis_arg *args,
                  uint32_t count)
{
    size_t name_len = strlen(name);
    int err = reserve(o, name, args, count);

    if (err != 0)
        return err;
    write_number(o, '*', count + 1);
    write_number(o, '$', name_len);
    write_bytes(o, name, name_len);
    write_bytes(o, "\r\n", 2);
    for (uint32_t i = 0; i < count; i++) {
        const struct redis_arg *a = &args[i];
        write_number(o, '$', arg_len(a));
        write_bytes(o, a->head, a->head_len);
        write_bytes(o, a->tail, a->tail_len);
        if (a->body != NULL)
            write_body(o, a->body);
        write_bytes(o, "\r\n", 2);
    }
    return 0;
}

/* Sending
 * ------------------------------------------------------------------------------------------ */

uint32_t redis_out_gather(struct redis_out *o, struct iovec *iov, uint32_t max, size_t *bytes)
{
    uint32_t count = min_u32(o->tail - o->head, max);

    CHECK(o->lent == 0);
    *bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct redis_out_span *s = span_at(o, o->head + i);
        iov[i] = (struct iovec){(void *)s->ptr, s->len};
        *bytes += s->len;
    }
    o->lent = count;
    return count;
}

/* Bytes of the oldest block are gone: an empty one is used again, or freed when others follow. */
static void block_sent(struct redis_out *o, uint32_t len)
{
    struct redis_out_block *b = o->first;

    b->sent += len;
    CHECK(b->sent <= b->used);
    if (b->sent < b->used)
        return;
    if (b != o->last) {
        o->first = b->next;
        free(b);
        return;
    }
    b->used = 0;
    b->sent = 0;
}

void redis_out_sent(struct redis_out *o)
{
    for (; o->lent > 0; o->lent--) {
        struct redis_out_span s = *span_at(o, o->head++);
        o->bytes -= s.len;
        if (s.body != NULL)
            o->release(o->ctx, s.body);
        else
            block_sent(o, s.len);
    }
}

size_t redis_out_memory_bytes(const struct redis_out *o)
{
    size_t bytes = o->cap * sizeof(*o->spans);

    for (const struct redis_out_block *b = o->first; b != NULL; b = b->next)
        bytes += REDIS_OUT_BLOCK_BYTES;
    return bytes;
}
