/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Any bytes as JSON. What is accepted can be walked to the end of every container, with spans
 * inside the input that read alike by themselves, strings that unescape to UTF-8, and nothing that
 * depends on the kernel. What is refused is refused at the earliest byte: the input cut there has
 * no other offence. What was never validated is walked without harm. One thread. */

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/simd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_string(const struct json_value *v)
{
    uint8_t *out = malloc(v->len);

    CHECK(out != NULL);
    CHECK(v->len >= 2);
    uint32_t len = json_string_copy(v, out);
    CHECK(len <= v->len - 2);
    CHECK(simd->utf8_valid(out, len));
    CHECK(v->escaped == (memchr(v->ptr, '\\', v->len) != NULL));
    if (simd->ascii_prefix(out, len) == len && memchr(out, 0, len) == NULL) {
        out[len] = '\0';
        CHECK(json_string_is(v, (const char *)out));
        out[len] = 'x';
        out[len + 1] = '\0';
        CHECK(!json_string_is(v, (const char *)out));
    }
    free(out);
}

/* A span is the whole of its value, by itself as in its place. */
static void check_alone(const struct json_value *v)
{
    const uint8_t *p = v->ptr;
    struct json_value again = json_read(&p, v->ptr + v->len);

    CHECK(p == v->ptr + v->len);
    CHECK(again.type == v->type);
    CHECK(again.ptr == v->ptr);
    CHECK(again.len == v->len);
    CHECK(again.escaped == v->escaped);
}

static void walk(const struct json_value *v, uint32_t depth);

static void walk_container(const struct json_value *v, uint32_t depth)
{
    const uint8_t *p = v->ptr + 1, *end = v->ptr + v->len, *last = p;
    struct json_value key, value;

    CHECK(depth < JSON_DEPTH_MAX);
    for (;;) {
        enum json_type type = v->type == JSON_OBJECT ? json_next_member(&p, end, &key, &value)
                                                     : json_next_element(&p, end, &value);
        CHECK(type != JSON_ERROR);
        if (type == JSON_END)
            break;
        CHECK(type == (enum json_type)value.type);
        if (v->type == JSON_OBJECT) {
            CHECK(key.ptr >= last);
            CHECK(key.ptr + key.len < value.ptr);
            walk(&key, depth + 1);
        }
        CHECK(value.ptr >= last);
        CHECK(p == value.ptr + value.len);
        CHECK(p < end);
        last = p;
        walk(&value, depth + 1);
    }
    CHECK(p == end - 1);
}

static void walk(const struct json_value *v, uint32_t depth)
{
    uint64_t n;

    check_alone(v);
    if (v->type == JSON_OBJECT || v->type == JSON_ARRAY) {
        walk_container(v, depth);
    } else if (v->type == JSON_STRING) {
        check_string(v);
    } else if (json_number_u64(v, &n)) {
        CHECK(v->type == JSON_NUMBER);
        CHECK(v->len <= 20);
    }
}

/* Bounded by the input: each step but the last takes a byte at least. */
static void walk_unvalidated(const uint8_t *data, size_t size)
{
    const uint8_t *p = data, *end = data + size;
    struct json_value key, value;

    for (;;) {
        const uint8_t *before = p;
        enum json_type type = json_next_member(&p, end, &key, &value);
        CHECK(p >= before && p <= end);
        if (type == JSON_ERROR || type == JSON_END)
            break;
        CHECK(value.ptr + value.len == p);
        CHECK(key.ptr >= before);
    }
    for (p = data;;) {
        const uint8_t *before = p;
        enum json_type type = json_next_element(&p, end, &value);
        CHECK(p >= before && p <= end);
        if (type == JSON_ERROR || type == JSON_END)
            break;
        CHECK(value.ptr >= before && value.ptr + value.len == p);
    }
}

static void check_error(const uint8_t *data, const uint8_t *at)
{
    const uint8_t *p = data;
    struct json_value v = json_read(&p, at);
    struct utf8_state u;

    CHECK(v.type != JSON_ERROR || p == at);
    utf8_reset(&u);
    for (p = data; p < at; p++)
        CHECK(utf8_feed(&u, p, 1));
}

static void check_kernels_agree(const uint8_t *data, size_t size, const struct json_value *want,
                                const uint8_t *want_p)
{
    const struct simd_kernels *list[8];
    uint32_t count = simd_available(list);

    for (uint32_t i = 1; i < count; i++) {
        const uint8_t *p = data;
        CHECK(simd_init(list[i]->name) == 0);
        struct json_value v = json_read(&p, data + size);
        CHECK(v.type == want->type);
        CHECK(v.ptr == want->ptr);
        CHECK(v.len == want->len);
        CHECK(v.escaped == want->escaped);
        CHECK(p == want_p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *p = data, *end = data + size;

    CHECK(simd_init("scalar") == 0);
    struct json_value v = json_read(&p, end);
    CHECK(p >= data && p <= end);
    CHECK(v.ptr >= data && v.ptr + v.len <= end);
    check_kernels_agree(data, size, &v, p); /* leaves the best one in place */
    if (v.type == JSON_ERROR)
        check_error(data, p);
    else if (v.type == JSON_END)
        CHECK(p == end);
    else
        walk(&v, 0);
    walk_unvalidated(data, size);
    return 0;
}
