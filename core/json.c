/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The JSON scanner. Any thread. Reading is one pass over the grammar, without recursion, with the
 * nesting in a word of bits, and one pass of the UTF-8 kernel over the whole value: outside of
 * strings the grammar allows ASCII only. Walking uses the same passes over the members. */

#include "core/json.h"

#include <assert.h>
#include <string.h>

#include "core/simd.h"

/* What is still to be read. The skip_...() functions step p over one thing; false: p stands at the
 * offending byte, or at the end. */
struct scan {
    const uint8_t *p;
    const uint8_t *end;
};

/* Open containers: the lowest bit tells whether the innermost one is an object. */
struct nesting {
    uint64_t objects;
    uint32_t depth;
};
static_assert(JSON_DEPTH_MAX <= 64, "one bit for each level");

/* RFC 8259 2, one bit for each. */
#define WHITE_SPACE (1ULL << ' ' | 1ULL << '\t' | 1ULL << '\n' | 1ULL << '\r')

static inline void skip_space(struct scan *s)
{
    const uint8_t *p = s->p;

    while (p < s->end && *p <= ' ' && (WHITE_SPACE >> *p & 1) != 0)
        p++;
    s->p = p;
}

static bool is_at(const struct scan *s, uint8_t byte)
{
    return s->p < s->end && *s->p == byte;
}

static bool is_at_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool skip_byte(struct scan *s, uint8_t byte)
{
    if (!is_at(s, byte))
        return false;
    s->p++;
    return true;
}

/* -1: no hexadecimal digit. */
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 8259 7. */
static bool skip_escape(struct scan *s)
{
    if (!skip_byte(s, '\\') || s->p == s->end)
        return false;
    switch (*s->p) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->p++;
        return true;
    case 'u':
        s->p++;
        for (int i = 0; i < 4; i++, s->p++) {
            if (s->p == s->end || hex_digit(*s->p) < 0)
                return false;
        }
        return true;
    default:
        return false;
    }
}

static bool skip_string(struct scan *s, bool *escaped)
{
    *escaped = false;
    if (!skip_byte(s, '"'))
        return false;
    for (;;) {
        s->p += simd->json_string_scan(s->p, (size_t)(s->end - s->p));
        if (is_at(s, '"')) {
            s->p++;
            return true;
        }
        if (!skip_escape(s)) /* also at the end, and at a control character */
            return false;
        *escaped = true;
    }
}

static bool skip_digits(struct scan *s)
{
    if (!is_at_digit(s))
        return false;
    while (is_at_digit(s))
        s->p++;
    return true;
}

/* RFC 8259 6. */
static bool skip_number(struct scan *s)
{
    skip_byte(s, '-');
    if (!skip_byte(s, '0') && !skip_digits(s))
        return false;
    if (skip_byte(s, '.') && !skip_digits(s))
        return false;
    if (skip_byte(s, 'e') || skip_byte(s, 'E')) {
        if (!skip_byte(s, '+'))
            skip_byte(s, '-');
        return skip_digits(s);
    }
    return true;
}

static bool skip_literal(struct scan *s, const char *literal)
{
    for (; *literal != '\0'; literal++) {
        if (!skip_byte(s, (uint8_t)*literal))
            return false;
    }
    return true;
}

static enum json_type type_at(const struct scan *s)
{
    if (s->p == s->end)
        return JSON_ERROR;
    switch (*s->p) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return *s->p == '-' || is_at_digit(s) ? JSON_NUMBER : JSON_ERROR;
    }
}

static bool skip_scalar(struct scan *s, enum json_type type, bool *escaped)
{
    switch (type) {
    case JSON_STRING:
        return skip_string(s, escaped);
    case JSON_NUMBER:
        return skip_number(s);
    case JSON_TRUE:
        return skip_literal(s, "true");
    case JSON_FALSE:
        return skip_literal(s, "false");
    case JSON_NULL:
        return skip_literal(s, "null");
    default:
        return false;
    }
}

/* A key, the colon, and the white space around it: the next byte begins the value. */
static bool skip_key(struct scan *s, bool *escaped)
{
    if (!skip_string(s, escaped))
        return false;
    skip_space(s);
    if (!skip_byte(s, ':'))
        return false;
    skip_space(s);
    return true;
}

/* Steps into a container: to its first value, or with *empty before its closing bracket. */
static bool enter(struct scan *s, struct nesting *n, bool *empty)
{
    bool is_object = *s->p == '{';
    bool escaped;

    if (n->depth == JSON_DEPTH_MAX)
        return false;
    n->depth++;
    n->objects = n->objects << 1 | is_object;
    s->p++;
    skip_space(s);
    *empty = is_at(s, is_object ? '}' : ']');
    return *empty || !is_object || skip_key(s, &escaped);
}

/* From behind a value or before a closing bracket to the next value, out of all containers that end
 * here; at depth 0 the last one has ended. */
static bool advance(struct scan *s, struct nesting *n)
{
    bool escaped;

    while (n->depth > 0) {
        bool is_object = (n->objects & 1) != 0;
        skip_space(s);
        if (skip_byte(s, ',')) {
            skip_space(s);
            return !is_object || skip_key(s, &escaped);
        }
        if (!skip_byte(s, is_object ? '}' : ']'))
            return false;
        n->depth--;
        n->objects >>= 1;
    }
    return true;
}

static bool skip_container(struct scan *s)
{
    struct nesting n = {0};
    bool empty, escaped;

    do {
        enum json_type type = type_at(s);
        if (type == JSON_OBJECT || type == JSON_ARRAY) {
            if (!enter(s, &n, &empty))
                return false;
            if (!empty)
                continue;
        } else if (!skip_scalar(s, type, &escaped)) {
            return false;
        }
        if (!advance(s, &n))
            return false;
    } while (n.depth > 0);
    return true;
}

/* One value by the grammar alone. False: s->p stands at the offending byte, *v is unset. */
static bool skip_value(struct scan *s, struct json_value *v)
{
    const uint8_t *start = s->p;
    enum json_type type = type_at(s);
    bool escaped = false;
    bool ok = type == JSON_OBJECT || type == JSON_ARRAY ? skip_container(s)
                                                        : skip_scalar(s, type, &escaped);

    if (!ok || s->p - start > UINT32_MAX)
        return false;
    *v = (struct json_value){
        .ptr = start, .len = (uint32_t)(s->p - start), .type = type, .escaped = escaped};
    return true;
}

/* Where the text stops being UTF-8, `end` if it does not. */
static const uint8_t *find_bad_utf8(const uint8_t *p, const uint8_t *end)
{
    struct utf8_state u;

    utf8_reset(&u);
    while (p < end) {
        size_t step = min_size(64, (size_t)(end - p));
        struct utf8_state before = u;
        if (utf8_feed(&u, p, step)) {
            p += step;
            continue;
        }
        while (utf8_feed(&before, p, 1))
            p++;
        return p;
    }
    return end;
}

struct json_value json_read(const uint8_t **p, const uint8_t *end)
{
    struct scan s = {.p = *p, .end = end};
    struct json_value v;

    skip_space(&s);
    const uint8_t *start = s.p;
    if (start == end) {
        *p = end;
        return (struct json_value){.ptr = end, .type = JSON_END};
    }
    if (skip_value(&s, &v) && simd->utf8_valid(v.ptr, v.len)) {
        *p = s.p;
        return v;
    }
    *p = find_bad_utf8(start, s.p); /* whichever offence comes first */
    return (struct json_value){.ptr = *p, .type = JSON_ERROR};
}

/* Steps over the comma, if one is there, to the next member or the closing bracket. */
static bool is_through(struct scan *s, uint8_t bracket)
{
    skip_space(s);
    if (skip_byte(s, ','))
        skip_space(s);
    return is_at(s, bracket);
}

enum json_type json_next_member(const uint8_t **p, const uint8_t *end, struct json_value *key,
                                struct json_value *value)
{
    struct scan s = {.p = *p, .end = end};
    struct json_value k;
    bool ok;

    if (is_through(&s, '}')) {
        *p = s.p;
        return JSON_END;
    }
    ok = type_at(&s) == JSON_STRING && skip_value(&s, &k);
    if (ok) {
        skip_space(&s);
        ok = skip_byte(&s, ':');
        skip_space(&s);
    }
    ok = ok && skip_value(&s, value);
    *p = s.p;
    if (!ok)
        return JSON_ERROR;
    *key = k;
    return value->type;
}

enum json_type json_next_element(const uint8_t **p, const uint8_t *end, struct json_value *value)
{
    struct scan s = {.p = *p, .end = end};
    bool through = is_through(&s, ']');
    bool ok = !through && skip_value(&s, value);

    *p = s.p;
    return through ? JSON_END : ok ? value->type : JSON_ERROR;
}

/* Values ------------------------------------------------------------------------------------------
 */

static uint32_t hex4(const uint8_t *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v = v << 4 | (uint32_t)hex_digit(p[i]);
    return v;
}

static uint32_t put_utf8(uint8_t *out, uint32_t point)
{
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (uint8_t)(0xc0 | point >> 6);
        out[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (uint8_t)(0xe0 | point >> 12);
        out[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | point >> 18);
    out[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

/* The digits of a \u at *p, with a second \u when the two are a pair (RFC 8259 7). */
static uint32_t take_code_point(const uint8_t **p, const uint8_t *end)
{
    uint32_t unit = hex4(*p);

    *p += 4;
    if (unit < 0xd800 || unit > 0xdfff)
        return unit;
    if (unit < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        uint32_t low = hex4(*p + 2);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *p += 6;
            return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return 0xfffd;
}

/* One validated escape at *p, which is never shorter than what it stands for: 1 to 4 bytes. */
static uint32_t take_escape(const uint8_t **p, const uint8_t *end, uint8_t *out)
{
    uint8_t c = (*p)[1];

    *p += 2;
    switch (c) {
    case 'b':
        out[0] = '\b';
        return 1;
    case 'f':
        out[0] = '\f';
        return 1;
    case 'n':
        out[0] = '\n';
        return 1;
    case 'r':
        out[0] = '\r';
        return 1;
    case 't':
        out[0] = '\t';
        return 1;
    case 'u':
        return put_utf8(out, take_code_point(p, end));
    default:
        out[0] = c; /* quote, backslash, slash */
        return 1;
    }
}

bool json_string_is(const struct json_value *v, const char *name)
{
    if (v->type != JSON_STRING)
        return false;
    const uint8_t *p = v->ptr + 1;
    const uint8_t *end = v->ptr + v->len - 1;
    size_t name_len = strlen(name);

    if (!v->escaped)
        return (size_t)(end - p) == name_len && memcmp(p, name, name_len) == 0;
    while (p < end) {
        uint8_t out[4];
        uint32_t n = 1;
        if (*p == '\\')
            n = take_escape(&p, end, out);
        else
            out[0] = *p++;
        if (n > name_len || memcmp(out, name, n) != 0)
            return false;
        name += n;
        name_len -= n;
    }
    return name_len == 0;
}

uint32_t json_string_copy(const struct json_value *v, uint8_t *out)
{
    const uint8_t *p = v->ptr + 1;
    const uint8_t *end = v->ptr + v->len - 1;
    uint32_t len = 0;

    while (p < end) {
        const uint8_t *stop = v->escaped ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        size_t plain = (size_t)((stop != NULL ? stop : end) - p);
        memcpy(out + len, p, plain);
        len += (uint32_t)plain;
        p += plain;
        if (p < end)
            len += take_escape(&p, end, out + len);
    }
    return len;
}

bool json_number_u64(const struct json_value *v, uint64_t *n)
{
    uint64_t sum = 0;

    if (v->type != JSON_NUMBER)
        return false;
    for (uint32_t i = 0; i < v->len; i++) {
        if (v->ptr[i] < '0' || v->ptr[i] > '9')
            return false;
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, v->ptr[i] - '0', &sum))
            return false;
    }
    *n = sum;
    return true;
}
