/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The JSON scanner against RFC 8259: corner cases, every truncation of a corpus, walking,
 * unescaping. Texts lie at the end of memory of their exact size, so that sanitizers see a read
 * behind them. One thread. */

#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/simd.h"

static void choose_kernels(void)
{
    cr_assert_eq(simd_init(NULL), 0);
}

TestSuite(read, .init = choose_kernels);
TestSuite(walk, .init = choose_kernels);
TestSuite(string, .init = choose_kernels);
TestSuite(number, .init = choose_kernels);

/* Reads one text; *at is how far it came. The value's pointer is only good for comparing. */
static struct json_value read_bytes(const void *text, size_t len, size_t *at)
{
    uint8_t *copy = malloc(len + (len == 0));
    const uint8_t *p = copy;

    cr_assert_not_null(copy);
    memcpy(copy, text, len);
    struct json_value v = json_read(&p, copy + len);
    cr_assert(p >= copy && p <= copy + len);
    cr_assert(v.ptr >= copy && v.ptr + v.len <= copy + len);
    *at = (size_t)(p - copy);
    free(copy);
    return v;
}

static enum json_type type_of(const char *text)
{
    size_t at;
    return (enum json_type)read_bytes(text, strlen(text), &at).type;
}

/* One value and nothing but white space behind it. */
static bool is_json(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text, *end = p + len;
    struct json_value v = json_read(&p, end);

    if (v.type == JSON_ERROR || v.type == JSON_END)
        return false;
    return json_read(&p, end).type == JSON_END;
}

static void check_valid(const char *text)
{
    cr_assert(is_json(text, strlen(text)), "refused: %s", text);
}

/* Wrong at the byte where `good` ends. */
static void check_error_behind(const char *good, const char *rest)
{
    char text[512];
    size_t at, len = (size_t)snprintf(text, sizeof(text), "%s%s", good, rest);
    struct json_value v = read_bytes(text, len, &at);

    cr_assert_eq(v.type, JSON_ERROR, "accepted: %s", text);
    cr_assert_eq(at, strlen(good), "%s: stopped at %zu", text, at);
}

/* Texts that end by themselves: every truncation of one is an error at its end. */
static const char *const corpus[] = {
    "{}",
    "[]",
    "\"\"",
    "true",
    "false",
    "null",
    "[0]",
    "[-0.0e-0,1E+9,10.25]",
    "{\"a\":1}",
    "{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : \"x\" }",
    "[[[[[]]]],{\"\":{\"\":{}}}]",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD83D\\uDE00\"",
    "\"\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\x7f\"",
    "{\"id\":1,\"publish\":{\"channel\":\"room:1\",\"data\":{\"text\":\"gr\xc3\xbc\xc3\x9f "
    "dich\"}}}",
    "[\"a string that is longer than any vector of sixty-four bytes, and so is scanned in "
    "blocks\"]",
    "[\"sixty-four bytes or more of text, then one escape at last: ........... \\n\",true,null]",
};

Test(read, accepts_the_corpus)
{
    for (size_t i = 0; i < ARRAY_LEN(corpus); i++)
        check_valid(corpus[i]);
}

Test(read, spans_leave_out_the_white_space_around)
{
    const char *text = " \t\r\n{ \"a\" : 1 } \n";
    const uint8_t *p = (const uint8_t *)text;
    struct json_value v = json_read(&p, p + strlen(text));

    cr_assert_eq(v.type, JSON_OBJECT);
    cr_assert_eq(v.ptr, (const uint8_t *)text + 4);
    cr_assert_eq(v.len, 11);
    cr_assert_eq(p, v.ptr + v.len);
}

Test(read, names_each_type)
{
    cr_assert_eq(type_of("{}"), JSON_OBJECT);
    cr_assert_eq(type_of("[]"), JSON_ARRAY);
    cr_assert_eq(type_of("\"\""), JSON_STRING);
    cr_assert_eq(type_of("-1"), JSON_NUMBER);
    cr_assert_eq(type_of("0"), JSON_NUMBER);
    cr_assert_eq(type_of("true"), JSON_TRUE);
    cr_assert_eq(type_of("false"), JSON_FALSE);
    cr_assert_eq(type_of("null"), JSON_NULL);
}

Test(read, nothing_but_white_space_is_the_end)
{
    size_t at;

    cr_assert_eq(type_of(""), JSON_END);
    cr_assert_eq(read_bytes(" \n\t\r ", 5, &at).type, JSON_END);
    cr_assert_eq(at, 5);
}

Test(read, takes_one_value_after_another)
{
    const char *text = "{\"id\":1}\n{\"id\":2}\n";
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);

    cr_assert_eq(json_read(&p, end).type, JSON_OBJECT);
    struct json_value second = json_read(&p, end);
    cr_assert_eq(second.type, JSON_OBJECT);
    cr_assert_eq(memcmp(second.ptr, "{\"id\":2}", second.len), 0);
    cr_assert_eq(json_read(&p, end).type, JSON_END);
}

Test(read, every_truncation_is_an_error_at_the_end)
{
    for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
        for (size_t len = 1; len < strlen(corpus[i]); len++) {
            size_t at;
            struct json_value v = read_bytes(corpus[i], len, &at);
            cr_assert_eq(v.type, JSON_ERROR, "%.*s", (int)len, corpus[i]);
            cr_assert_eq(at, len, "%.*s: stopped at %zu", (int)len, corpus[i], at);
        }
    }
}

Test(read, every_kernel_reads_every_truncation_alike)
{
    const struct simd_kernels *list[8];
    uint32_t count = simd_available(list);

    for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
        for (size_t len = 0; len <= strlen(corpus[i]); len++) {
            size_t want_at, at;
            cr_assert_eq(simd_init("scalar"), 0);
            struct json_value want = read_bytes(corpus[i], len, &want_at);
            for (uint32_t k = 1; k < count; k++) {
                cr_assert_eq(simd_init(list[k]->name), 0);
                struct json_value v = read_bytes(corpus[i], len, &at);
                cr_assert(v.type == want.type && v.len == want.len && v.escaped == want.escaped);
                cr_assert_eq(at, want_at, "%s", list[k]->name);
            }
        }
    }
}

/* A byte that no JSON text may hold outside of strings, and no string either. */
Test(read, a_control_byte_anywhere_is_found_where_it_is)
{
    for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
        size_t len = strlen(corpus[i]);
        for (size_t pos = 0; pos < len; pos++) {
            char text[256];
            size_t at;
            memcpy(text, corpus[i], len);
            text[pos] = 0x01;
            cr_assert_eq(read_bytes(text, len, &at).type, JSON_ERROR);
            cr_assert_eq(at, pos, "%s: %zu", corpus[i], at);
        }
    }
}

Test(read, errors_stand_at_the_offending_byte)
{
    static const char *const cases[][2] = {
        {"", "x"},
        {"", "]"},
        {"", "}"},
        {"", ","},
        {"", ":"},
        {"", "'a'"},
        {"", "+1"},
        {"", ".5"},
        {"", "NaN"},
        {"", "True"},
        {"", "\xef\xbb\xbf{}"},
        {"tru", "x"},
        {"nul", "L"},
        {"fals", "\""},
        {"-", "x"},
        {"-", "-1"},
        {"[0", "1]"},
        {"[-0", "1]"},
        {"[1.", "]"},
        {"[1.", "e5]"},
        {"[1e", "]"},
        {"[1e+", "]"},
        {"[1e-", "x]"},
        {"[1.5", ".5]"},
        {"[1e5", ".5]"},
        {"[1e5", "e5]"},
        {"[0", "x10]"},
        {"[", ",]"},
        {"[1,", "]"},
        {"[1,", ",2]"},
        {"[1 ", "2]"},
        {"[1", "}"},
        {"[1", ":2]"},
        {"[\"a\"", ":1]"},
        {"{", ",}"},
        {"{", "1:2}"},
        {"{", "a:1}"},
        {"{", "{}:1}"},
        {"{\"a\"", "}"},
        {"{\"a\"", ",1}"},
        {"{\"a\" ", "1}"},
        {"{\"a\":", "}"},
        {"{\"a\":", ":1}"},
        {"{\"a\":1,", "}"},
        {"{\"a\":1", "]"},
        {"{\"a\":1 ", "\"b\":2}"},
        {"{\"a\":1,", "2}"},
        {"{", "]"},
        {"[{", "]}"},
        {"{\"a\":[", "}]"},
        {"\"", "\n\""},
        {"\"a", "\t\""},
        {"\"", "\x1f\""},
        {"\"\\", "x\""},
        {"\"\\", "U0041\""},
        {"\"\\u00", "g0\""},
        {"\"\\u", "\""},
        {"\"\\", "\n\""},
        {"[1,", "/* */2]"},
        {"[", "\f1]"},
        {"[", "\v1]"},
        {"[", "\xc2\xa0"
              "1]"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_error_behind(cases[i][0], cases[i][1]);
}

Test(read, a_number_ends_where_its_grammar_ends)
{
    static const char *const cases[][2] = {{"0", "1"},   {"-0", "0"},  {"12", "a"}, {"1.5", ".5"},
                                           {"1e5", "e"}, {"0", "x10"}, {"7", " 8"}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[32];
        size_t at, len = (size_t)snprintf(text, sizeof(text), "%s%s", cases[i][0], cases[i][1]);
        cr_assert_eq(read_bytes(text, len, &at).type, JSON_NUMBER);
        cr_assert_eq(at, strlen(cases[i][0]), "%s", text);
    }
}

Test(read, accepts_every_form_of_number)
{
    static const char *const numbers[] = {"0",     "-0",
                                          "9",     "-10",
                                          "0.0",   "-0.50",
                                          "1e1",   "1E1",
                                          "1e+1",  "1e-01",
                                          "1.5e5", "-1.5E-500",
                                          "0e0",   "100000000000000000000000000000000000000"};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        check_valid(numbers[i]);
}

Test(read, only_eight_letters_and_u_may_follow_a_backslash)
{
    for (int c = 1; c < 256; c++) {
        char text[] = {'"', '\\', (char)c, '0', '0', '4', '1', '"', '\0'};
        cr_assert_eq(is_json(text, 8), strchr("\"\\/bfnrtu", c) != NULL, "%02x", c);
    }
}

Test(read, hexadecimal_digits_are_what_they_are)
{
    for (int c = 1; c < 256; c++) {
        char text[] = {'"', '\\', 'u', '0', (char)c, '4', '1', '"', '\0'};
        cr_assert_eq(is_json(text, 8), strchr("0123456789abcdefABCDEF", c) != NULL, "%02x", c);
    }
}

Test(read, only_four_bytes_are_white_space)
{
    for (int c = 0; c < 256; c++) {
        char text[] = {(char)c, '[', ']'};
        cr_assert_eq(is_json(text, 3), c == ' ' || c == '\t' || c == '\r' || c == '\n', "%02x", c);
    }
}

Test(read, strings_must_be_utf8)
{
    static const char *const cases[][2] = {
        {"\"", "\x80\""},
        {"\"", "\xc0\x80\""},
        {"\"\xe0", "\x9f\xbf\""},
        {"\"\xed", "\xa0\x80\""},
        {"\"\xf4", "\x90\x80\x80\""},
        {"\"\xc3", "\""},
        {"\"\xe2\x82", "\""},
        {"\"\xe2\x82", "\\n\""},
        {"{\"", "\xff\":1}"},
        {"[\"good \xc3\xa4\",\"", "\xff\"]"},
        {"[\"a text of more than sixty-four bytes before the one byte that spoils all of it \xc3",
         "x\"]"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_error_behind(cases[i][0], cases[i][1]);
}

Test(read, the_first_of_two_offences_is_the_one_shown)
{
    check_error_behind("[\"", "\xff\", x]");
    check_error_behind("[", "x, \"\xff\"]");
}

/* `depth` opening brackets of the two kinds in turn, and their closing ones. */
static size_t nest(char *text, uint32_t depth, bool object_first)
{
    size_t len = 0;

    for (uint32_t i = 0; i < depth; i++)
        len += (size_t)sprintf(text + len, (i % 2 == 0) == object_first ? "{\"k\":" : "[");
    len += (size_t)sprintf(text + len, "1");
    for (uint32_t i = depth; i-- > 0;)
        text[len++] = (i % 2 == 0) == object_first ? '}' : ']';
    return len;
}

Test(read, nesting_up_to_the_bound_is_accepted)
{
    char text[JSON_DEPTH_MAX * 8];

    for (uint32_t depth = 1; depth <= JSON_DEPTH_MAX; depth++) {
        cr_assert(is_json(text, nest(text, depth, true)));
        cr_assert(is_json(text, nest(text, depth, false)));
    }
}

Test(read, nesting_over_the_bound_is_an_error_at_the_bracket_too_many)
{
    char text[(JSON_DEPTH_MAX + 1) * 8];
    size_t at, len;

    memset(text, '[', JSON_DEPTH_MAX + 1);
    cr_assert_eq(read_bytes(text, JSON_DEPTH_MAX + 1, &at).type, JSON_ERROR);
    cr_assert_eq(at, JSON_DEPTH_MAX);
    len = nest(text, JSON_DEPTH_MAX + 1, true);
    cr_assert_eq(read_bytes(text, len, &at).type, JSON_ERROR);
    cr_assert_eq(at, JSON_DEPTH_MAX / 2 * 6);
}

Test(read, brackets_must_close_in_the_order_they_opened)
{
    char text[JSON_DEPTH_MAX * 8];

    for (uint32_t depth = 1; depth <= JSON_DEPTH_MAX; depth++) {
        size_t len = nest(text, depth, true);
        for (uint32_t i = 1; i <= depth; i++) {
            char saved = text[len - i];
            text[len - i] = saved == ']' ? '}' : ']';
            cr_assert_not(is_json(text, len), "%.*s", (int)len, text);
            text[len - i] = saved;
        }
    }
}

Test(read, siblings_do_not_add_to_the_depth)
{
    char text[1024];
    size_t len = 0;

    text[len++] = '[';
    for (int i = 0; i < 200; i++)
        len += (size_t)sprintf(text + len, i == 0 ? "[]" : ",{}");
    text[len++] = ']';
    cr_assert(is_json(text, len));
}

Test(read, marks_strings_that_hold_a_backslash)
{
    size_t at;

    cr_assert_not(read_bytes("\"abc\"", 5, &at).escaped);
    cr_assert(read_bytes("\"a\\nc\"", 6, &at).escaped);
    cr_assert_not(read_bytes("[\"a\\nc\"]", 8, &at).escaped);
}

/* Walking -------------------------------------------------------------------------------------- */

static struct json_value read_text(const char *text, const uint8_t **p, const uint8_t **end)
{
    const uint8_t *from = (const uint8_t *)text;
    struct json_value v = json_read(&from, from + strlen(text));

    cr_assert_neq(v.type, JSON_ERROR);
    *p = v.ptr + 1;
    *end = v.ptr + v.len;
    return v;
}

static void check_span(const struct json_value *v, const char *want)
{
    cr_assert_eq(v->len, strlen(want), "%.*s", (int)v->len, (const char *)v->ptr);
    cr_assert_eq(memcmp(v->ptr, want, v->len), 0, "%.*s", (int)v->len, (const char *)v->ptr);
}

Test(walk, members_come_in_order_with_their_keys)
{
    const uint8_t *p, *end;
    struct json_value key, value;

    read_text(" { \"a\" : 1 ,\"b\":[2, 3], \"c\\n\" : {\"d\":\"}\"},\"a\":null } ", &p, &end);
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_NUMBER);
    check_span(&key, "\"a\"");
    check_span(&value, "1");
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_ARRAY);
    check_span(&key, "\"b\"");
    check_span(&value, "[2, 3]");
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_OBJECT);
    check_span(&key, "\"c\\n\"");
    cr_assert(key.escaped);
    check_span(&value, "{\"d\":\"}\"}");
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_NULL);
    check_span(&key, "\"a\"");
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_END);
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_END);
}

Test(walk, elements_come_in_order)
{
    const uint8_t *p, *end;
    struct json_value value;

    read_text("[ 1 , \"]\" ,[], {} ,true,false ]", &p, &end);
    cr_assert_eq(json_next_element(&p, end, &value), JSON_NUMBER);
    check_span(&value, "1");
    cr_assert_eq(json_next_element(&p, end, &value), JSON_STRING);
    check_span(&value, "\"]\"");
    cr_assert_eq(json_next_element(&p, end, &value), JSON_ARRAY);
    check_span(&value, "[]");
    cr_assert_eq(json_next_element(&p, end, &value), JSON_OBJECT);
    check_span(&value, "{}");
    cr_assert_eq(json_next_element(&p, end, &value), JSON_TRUE);
    cr_assert_eq(json_next_element(&p, end, &value), JSON_FALSE);
    cr_assert_eq(json_next_element(&p, end, &value), JSON_END);
    cr_assert_eq(json_next_element(&p, end, &value), JSON_END);
}

Test(walk, empty_containers_are_through_at_once)
{
    const uint8_t *p, *end;
    struct json_value key, value;

    read_text("{ }", &p, &end);
    cr_assert_eq(json_next_member(&p, end, &key, &value), JSON_END);
    read_text("[ ]", &p, &end);
    cr_assert_eq(json_next_element(&p, end, &value), JSON_END);
}

/* Walks to the end; returns how many values lie in the container, inner ones included. */
static uint32_t count_values(const struct json_value *container)
{
    const uint8_t *p = container->ptr + 1, *end = container->ptr + container->len;
    struct json_value key, value;
    uint32_t count = 0;

    for (;;) {
        enum json_type type = container->type == JSON_OBJECT
                                  ? json_next_member(&p, end, &key, &value)
                                  : json_next_element(&p, end, &value);
        cr_assert_neq(type, JSON_ERROR);
        if (type == JSON_END)
            break;
        cr_assert(value.ptr > container->ptr && value.ptr + value.len < end);
        count++;
        if (type == JSON_OBJECT || type == JSON_ARRAY)
            count += count_values(&value);
    }
    cr_assert_eq(p, end - 1, "stopped before the closing bracket");
    return count;
}

Test(walk, reaches_every_value_of_a_nested_text)
{
    char text[JSON_DEPTH_MAX * 8];
    const uint8_t *p = (const uint8_t *)text;
    size_t len = nest(text, JSON_DEPTH_MAX, true);
    struct json_value v = json_read(&p, p + len);

    cr_assert_eq(count_values(&v), JSON_DEPTH_MAX);
}

/* The contract asks for validated input; what is not must still be walked without harm. */
Test(walk, text_that_was_not_validated_ends_in_an_error_inside_it)
{
    static const char *const texts[] = {"{",        "{\"a\"",    "{\"a\":",   "{\"a\":1",
                                        "{1:2}",    "{\"a\" 1}", "{\"a\":x}", "{\"a\":\"\\",
                                        "{\"a\":[", "{\"a\":1]"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        size_t len = strlen(texts[i]);
        uint8_t *copy = malloc(len);
        const uint8_t *p = copy + 1;
        struct json_value key, value;
        enum json_type type = JSON_NULL;
        cr_assert_not_null(copy);
        memcpy(copy, texts[i], len);
        for (int steps = 0; steps < 3 && type != JSON_ERROR; steps++)
            type = json_next_member(&p, copy + len, &key, &value);
        cr_assert_eq(type, JSON_ERROR, "%s", texts[i]);
        cr_assert(p > copy && p <= copy + len);
        free(copy);
    }
}

/* Strings -------------------------------------------------------------------------------------- */

static void check_copy(const char *text, const char *want, size_t want_len)
{
    const uint8_t *p, *end;
    struct json_value v = read_text(text, &p, &end);
    uint8_t *out = malloc(v.len);

    cr_assert_not_null(out);
    uint32_t len = json_string_copy(&v, out);
    cr_assert_eq(len, want_len, "%s: %u bytes", text, len);
    cr_assert_eq(memcmp(out, want, len), 0, "%s", text);
    free(out);
}

Test(string, copies_resolve_every_escape)
{
    check_copy("\"\"", "", 0);
    check_copy("\"plain\"", "plain", 5);
    check_copy("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
    check_copy("\"a\\nb\\nc\"", "a\nb\nc", 5);
    check_copy("\"\\u0041\\u00e4\\u20AC\"", "A\xc3\xa4\xe2\x82\xac", 6);
    check_copy("\"\\uD83D\\uDE00!\"", "\xf0\x9f\x98\x80!", 5);
    check_copy("\"\\ud800\\udc00\\udbff\\udfff\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8);
    check_copy("\"x\\u0000y\"", "x\0y", 3);
    check_copy("\"\xc3\xa4\\t\xc3\xb6\"", "\xc3\xa4\t\xc3\xb6", 5);
}

Test(string, a_surrogate_without_partner_becomes_the_replacement_character)
{
    check_copy("\"\\ud800\"", "\xef\xbf\xbd", 3);
    check_copy("\"\\udc00\"", "\xef\xbf\xbd", 3);
    check_copy("\"\\ud800x\"", "\xef\xbf\xbdx", 4);
    check_copy("\"\\ud800\\n\"", "\xef\xbf\xbd\n", 4);
    check_copy("\"\\ud800\\u0041\"", "\xef\xbf\xbd\x41", 4);
    check_copy("\"\\udc00\\ud800\"", "\xef\xbf\xbd\xef\xbf\xbd", 6);
    check_copy("\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7);
}

/* Against the definition of UTF-8: every code point by its escape gives itself. */
Test(string, every_escaped_code_point_is_encoded_as_utf8)
{
    for (uint32_t point = 0; point <= 0x10ffff; point += point < 0x10000 ? 1 : 97) {
        char text[32];
        uint8_t out[32];
        size_t at;
        if (point < 0x10000)
            sprintf(text, "\"\\u%04x\"", point);
        else
            sprintf(text, "\"\\u%04X\\u%04x\"", 0xd7c0 + (point >> 10), 0xdc00 + (point & 0x3ff));
        const uint8_t *p = (const uint8_t *)text;
        struct json_value v = json_read(&p, p + strlen(text));
        uint32_t len = json_string_copy(&v, out);
        uint32_t want = point >= 0xd800 && point <= 0xdfff ? 0xfffd : point;
        uint32_t got = len == 1 ? out[0] : out[0] & (0x7fU >> len);
        for (at = 1; at < len; at++)
            got = got << 6 | (out[at] & 0x3f);
        cr_assert_eq(got, want);
        cr_assert(simd->utf8_valid(out, len));
    }
}

static bool string_is(const char *text, const char *name)
{
    const uint8_t *p, *end;
    struct json_value v = read_text(text, &p, &end);
    return json_string_is(&v, name);
}

Test(string, compares_with_a_name_escapes_resolved)
{
    cr_assert(string_is("\"id\"", "id"));
    cr_assert(string_is("\"\"", ""));
    cr_assert(string_is("\"\\u0069d\"", "id"));
    cr_assert(string_is("\"i\\u0064\"", "id"));
    cr_assert(string_is("\"a\\/b\"", "a/b"));
    cr_assert_not(string_is("\"id\"", "i"));
    cr_assert_not(string_is("\"id\"", "idx"));
    cr_assert_not(string_is("\"id\"", "ix"));
    cr_assert_not(string_is("\"\\u0069d\"", "i"));
    cr_assert_not(string_is("\"\\u0069d\"", "idx"));
    cr_assert_not(string_is("\"\\u0069\"", ""));
    cr_assert_not(string_is("\"\\u00e4\"", "a"));
    cr_assert_not(string_is("\"id\\u0000\"", "id"));
    cr_assert_not(string_is("1", "1"));
}

/* Numbers -------------------------------------------------------------------------------------- */

static bool as_u64(const char *text, uint64_t *n)
{
    const uint8_t *p, *end;
    struct json_value v = read_text(text, &p, &end);
    return json_number_u64(&v, n);
}

Test(number, integers_up_to_the_largest_are_read)
{
    uint64_t n = 1;

    cr_assert(as_u64("0", &n));
    cr_assert_eq(n, 0);
    cr_assert(as_u64("42", &n));
    cr_assert_eq(n, 42);
    cr_assert(as_u64("18446744073709551615", &n));
    cr_assert_eq(n, UINT64_MAX);
}

Test(number, all_else_is_refused_and_leaves_the_result_alone)
{
    static const char *const texts[] = {"18446744073709551616",
                                        "18446744073709551620",
                                        "28446744073709551615",
                                        "184467440737095516150",
                                        "100000000000000000000000000000000",
                                        "-1",
                                        "-0",
                                        "1.0",
                                        "1e3",
                                        "\"1\"",
                                        "true",
                                        "[]"};
    uint64_t n = 7;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        cr_assert_not(as_u64(texts[i], &n), "%s", texts[i]);
        cr_assert_eq(n, 7);
    }
}
