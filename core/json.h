/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_JSON_H
#define CORE_JSON_H

/* JSON scanner (RFC 8259): validates in place and never builds a tree. Values come as spans of the
 * caller's bytes. Pure, any thread. */

#include <stdbool.h>

#include "core/base.h"

#define JSON_DEPTH_MAX 64

enum json_type {
    JSON_ERROR, /* malformed, or deeper than JSON_DEPTH_MAX */
    JSON_END,   /* of the object, array or text */
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
};

/* A value: its whole extent, white space around it left out. Strings: with their quotes. */
struct json_value {
    const uint8_t *ptr;
    uint32_t len;
    uint8_t type; /* enum json_type */
    bool escaped; /* a string that holds a backslash */
};

/* Validates one value at *p (leading white space allowed), steps *p behind it. Nothing but white
 * space left: JSON_END, *p at the end; so what follows a text is found by reading once more. The
 * type JSON_ERROR: *p stands at the first byte that no value can have there, at `end` when the
 * value is cut short. Strings must be UTF-8; keys may repeat. */
struct json_value json_read(const uint8_t **p, const uint8_t *end);

/* Walks a validated object or array: *p begins at value.ptr + 1, `end` is value.ptr + value.len.
 * Next member of an object: the key (with quotes) and value; element of an array:
 * json_next_element. Returns the value's type; JSON_END when through, then key and value are left
 * alone. What was not validated gives JSON_ERROR sooner or later, but nothing outside of it is
 * read. */
enum json_type json_next_member(const uint8_t **p, const uint8_t *end, struct json_value *key,
                                struct json_value *value);
enum json_type json_next_element(const uint8_t **p, const uint8_t *end, struct json_value *value);

/* Whether a string value (escapes resolved) equals the zero-terminated ASCII name. */
bool json_string_is(const struct json_value *v, const char *name);

/* Unescapes a string value into out (at least v->len bytes); returns the length. The result is
 * UTF-8: an escaped surrogate without its partner becomes U+FFFD. It may hold zero bytes. */
uint32_t json_string_copy(const struct json_value *v, uint8_t *out);

/* Reads a number written as an integer, digits only, within 0..UINT64_MAX; false otherwise. */
bool json_number_u64(const struct json_value *v, uint64_t *n);

#endif
