/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Replies out of hiredis's reader. On the shard's thread.
 *
 * The reader calls create_...() for each item as it completes; the items become nodes of one
 * growing array, their text goes into one growing buffer, and both are used again for the next
 * reply. While a reply is being built, nodes hold positions instead of pointers, since both may
 * move; finish() turns them into pointers. All items of an array have their nodes side by side: the
 * array's node reserves them. To the reader an item is the number of its node plus one. */

#include "pubsub/redis_reply.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/read.h>

/* The reader moves what is left to the front of its buffer after every reply, if this one was over
 * 1 KiB: so it is fed in pieces, and moves little. */
#define FEED_BYTES 4096

/* More than stands before and behind the text of an item. */
#define ITEM_HEAD_MAX 64

/* Buffers that have grown above this are freed behind the feeding. */
#define KEPT_BYTES (256u << 10)

struct redis_reader {
    redisReader *hiredis;
    struct redis_reply *nodes;
    char *text;
    uint32_t node_count;
    uint32_t node_cap;
    uint32_t text_len;
    uint32_t text_cap;
    uint32_t bytes_max;
    int failure; /* why create_...() returned NULL: -ENOMEM, -EMSGSIZE or -EPROTO */
};

/* Room for `more` items of a size in a growing array; false: failure says why. */
static bool make_room(struct redis_reader *r, void **items, uint32_t *cap, uint32_t used,
                      uint64_t more, uint32_t item_bytes)
{
    uint64_t want = used + more;
    uint64_t grown = max_u64(64, (uint64_t)*cap * 2);
    void *p;

    if (want <= *cap)
        return true;
    if (want * item_bytes > r->bytes_max) {
        r->failure = -EMSGSIZE;
        return false;
    }
    grown = max_u64(want, min_u64(grown, r->bytes_max / item_bytes));
    p = realloc(*items, grown * item_bytes);
    if (p == NULL) {
        r->failure = -ENOMEM;
        return false;
    }
    *items = p;
    *cap = (uint32_t)grown;
    return true;
}

static bool make_nodes(struct redis_reader *r, uint64_t more)
{
    void *p = r->nodes;
    bool ok = make_room(r, &p, &r->node_cap, r->node_count, more, sizeof(*r->nodes));

    r->nodes = p;
    return ok;
}

static bool make_text(struct redis_reader *r, uint64_t more)
{
    void *p = r->text;
    bool ok = make_room(r, &p, &r->text_cap, r->text_len, more, 1);

    r->text = p;
    return ok;
}

static void *object_of(uint32_t node)
{
    return (void *)((uintptr_t)node + 1);
}

/* The node of an item: the first one, or the item's place among those of its array. NULL: see
 * failure. */
static struct redis_reply *node_of(struct redis_reader *r, const redisReadTask *task)
{
    if (task->parent != NULL) {
        struct redis_reply *array = &r->nodes[(uintptr_t)task->parent->obj - 1];
        return &r->nodes[(uint32_t)array->integer + (uint32_t)task->idx];
    }
    if (!make_nodes(r, 1))
        return NULL;
    r->node_count = 1;
    return &r->nodes[0];
}

static uint8_t type_of(const redisReadTask *task)
{
    switch (task->type) {
    case REDIS_REPLY_STATUS:
        return REDIS_TYPE_STATUS;
    case REDIS_REPLY_ERROR:
        return REDIS_TYPE_ERROR;
    default:
        return REDIS_TYPE_STRING;
    }
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_reader *r = task->privdata;
    struct redis_reply *node;

    if (!make_text(r, len + 1))
        return NULL;
    node = node_of(r, task);
    if (node == NULL)
        return NULL;
    *node = (struct redis_reply){.type = type_of(task), .len = (uint32_t)len};
    node->integer = r->text_len;
    memcpy(r->text + r->text_len, text, len);
    r->text[r->text_len + len] = '\0';
    r->text_len += (uint32_t)len + 1;
    return object_of((uint32_t)(node - r->nodes));
}

/* From hiredis 1.0 on, whose reader knows RESP3 as well. */
#ifdef REDIS_REPLY_DOUBLE
typedef size_t array_count;
#else
typedef int array_count;
#endif

static void *create_array(const redisReadTask *task, array_count count)
{
    struct redis_reader *r = task->privdata;
    struct redis_reply *node = node_of(r, task);
    uint32_t number;

    if (node == NULL)
        return NULL;
    number = (uint32_t)(node - r->nodes);
    if (!make_nodes(r, (uint64_t)count))
        return NULL;
    r->nodes[number] = (struct redis_reply){.type = REDIS_TYPE_ARRAY, .len = (uint32_t)count};
    r->nodes[number].integer = r->node_count;
    r->node_count += (uint32_t)count;
    return object_of(number);
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct redis_reader *r = task->privdata;
    struct redis_reply *node = node_of(r, task);

    if (node == NULL)
        return NULL;
    *node = (struct redis_reply){.type = REDIS_TYPE_INTEGER, .integer = value};
    return object_of((uint32_t)(node - r->nodes));
}

static void *create_nil(const redisReadTask *task)
{
    struct redis_reader *r = task->privdata;
    struct redis_reply *node = node_of(r, task);

    if (node == NULL)
        return NULL;
    *node = (struct redis_reply){.type = REDIS_TYPE_NIL};
    return object_of((uint32_t)(node - r->nodes));
}

static void free_object(void *object)
{
    (void)object; /* nodes are not freed one by one */
}

#ifdef REDIS_REPLY_DOUBLE
/* Nobody has asked for RESP3. */
static void *refuse(const redisReadTask *task)
{
    ((struct redis_reader *)task->privdata)->failure = -EPROTO;
    return NULL;
}

static void *refuse_double(const redisReadTask *task, double value, char *text, size_t len)
{
    (void)value;
    (void)text;
    (void)len;
    return refuse(task);
}

static void *refuse_bool(const redisReadTask *task, int value)
{
    (void)value;
    return refuse(task);
}
#endif

static const redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
#ifdef REDIS_REPLY_DOUBLE
    .createDouble = refuse_double,
    .createBool = refuse_bool,
#endif
    .createNil = create_nil,
    .freeObject = free_object,
};

struct redis_reader *redis_reader_new(uint32_t bytes_max)
{
    struct redis_reader *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    r->bytes_max = bytes_max;
    /* It only calls them. */
    r->hiredis = redisReaderCreateWithFunctions((redisReplyObjectFunctions *)&functions);
    if (r->hiredis == NULL) {
        free(r);
        return NULL;
    }
    r->hiredis->privdata = r;
    return r;
}

void redis_reader_free(struct redis_reader *r)
{
    if (r == NULL)
        return;
    redisReaderFree(r->hiredis);
    free(r->nodes);
    free(r->text);
    free(r);
}

/* Positions become pointers. */
static const struct redis_reply *finish(struct redis_reader *r)
{
    for (uint32_t i = 0; i < r->node_count; i++) {
        struct redis_reply *node = &r->nodes[i];
        if (node->type == REDIS_TYPE_ARRAY)
            node->items = r->nodes + node->integer;
        else if (node->type != REDIS_TYPE_INTEGER && node->type != REDIS_TYPE_NIL)
            node->text = r->text + node->integer;
    }
    return r->nodes;
}

static int error_of(const struct redis_reader *r)
{
    if (r->hiredis->err != REDIS_ERR_OOM)
        return -EPROTO;
    return r->failure != 0 ? r->failure : -ENOMEM;
}

/* Hands over what is complete. */
static int drain(struct redis_reader *r, redis_reply_fn fn, void *ctx)
{
    void *object;

    for (;;) {
        object = NULL;
        if (redisReaderGetReply(r->hiredis, &object) != REDIS_OK)
            return error_of(r);
        if (object == NULL)
            break;
        bool go_on = fn(ctx, finish(r));
        r->node_count = 0;
        r->text_len = 0;
        if (!go_on)
            return -ECANCELED;
    }
    /* What is kept belongs to one item. */
    return r->hiredis->len - r->hiredis->pos > (uint64_t)r->bytes_max + ITEM_HEAD_MAX ? -EMSGSIZE
                                                                                      : 0;
}

/* Gives back what one large reply has needed. */
static void trim(struct redis_reader *r)
{
    if (r->node_count == 0 && (uint64_t)r->node_cap * sizeof(*r->nodes) > KEPT_BYTES) {
        free(r->nodes);
        r->nodes = NULL;
        r->node_cap = 0;
    }
    if (r->text_len == 0 && r->text_cap > KEPT_BYTES) {
        free(r->text);
        r->text = NULL;
        r->text_cap = 0;
    }
}

int redis_reader_feed(struct redis_reader *r, struct bytes in, redis_reply_fn fn, void *ctx)
{
    int err = 0;

    while (in.len > 0 && err == 0) {
        size_t piece = min_size(in.len, FEED_BYTES);
        if (redisReaderFeed(r->hiredis, (const char *)in.ptr, piece) != REDIS_OK)
            return error_of(r);
        err = drain(r, fn, ctx);
        in.ptr += piece;
        in.len -= piece;
    }
    trim(r);
    return err;
}

size_t redis_reader_memory_bytes(const struct redis_reader *r)
{
    return sizeof(*r) + sizeof(*r->hiredis) + r->node_cap * sizeof(*r->nodes) + r->text_cap;
}

bool redis_reply_is(const struct redis_reply *r, const char *text)
{
    size_t len = strlen(text);

    return redis_reply_is_text(r) && r->len == len && memcmp(r->text, text, len) == 0;
}
