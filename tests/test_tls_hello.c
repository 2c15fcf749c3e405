/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* ClientHellos: whole, cut anywhere, in any records, and what is none. */

#include "net/tls_hello.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A message under construction. */
struct draft {
    uint8_t bytes[40000];
    size_t len;
};

static void put(struct draft *d, uint32_t n, size_t bytes)
{
    while (bytes-- > 0)
        d->bytes[d->len++] = (uint8_t)(n >> 8 * bytes);
}

static void put_bytes(struct draft *d, const void *p, size_t len)
{
    memcpy(d->bytes + d->len, p, len);
    d->len += len;
}

struct wanted {
    const char *name;
    uint16_t suites[4];
    uint16_t signatures[4]; /* all 0: no extension */
    uint16_t groups[4];     /* the same */
    uint16_t shares[4];     /* the same */
    uint8_t status;         /* type of the status_request; 0: none */
    bool status_v2;         /* RFC 6961's as well */
    bool is_13;
    size_t padding;
};

static void put_list(struct draft *d, const uint16_t *items)
{
    uint32_t n = 0;

    while (n < 4 && items[n] != 0)
        n++;
    put(d, 2 * n, 2);
    for (uint32_t i = 0; i < n; i++)
        put(d, items[i], 2);
}

static struct draft *message(const struct wanted *w)
{
    struct draft *d = calloc(1, sizeof(*d));
    size_t at, len;

    put(d, 1 << 24, 4);
    put(d, 0x0303, 2);
    d->len += 32;
    put(d, 0, 1);
    put_list(d, w->suites);
    put(d, 0x0100, 2);
    at = d->len;
    put(d, 0, 2);
    if (w->name != NULL) {
        len = strlen(w->name);
        put(d, 0, 2);
        put(d, (uint32_t)len + 5, 2);
        put(d, (uint32_t)len + 3, 2);
        put(d, 0, 1);
        put(d, (uint32_t)len, 2);
        put_bytes(d, w->name, len);
    }
    if (w->signatures[0] != 0) {
        put(d, 13, 2);
        put(d, 10, 2);
        put(d, 8, 2);
        for (int i = 0; i < 4; i++)
            put(d, w->signatures[i], 2);
    }
    if (w->groups[0] != 0) {
        put(d, 10, 2);
        put(d, 10, 2);
        put(d, 8, 2);
        for (int i = 0; i < 4; i++)
            put(d, w->groups[i], 2);
    }
    if (w->shares[0] != 0) {
        put(d, 51, 2);
        put(d, 2 + 4 * 7, 2);
        put(d, 4 * 7, 2);
        for (int i = 0; i < 4; i++) {
            put(d, w->shares[i], 2);
            put(d, 3, 2);
            put(d, 0x1d0017, 3);
        }
    }
    if (w->status_v2) {
        put(d, 17, 2);
        put(d, 9, 2);
        put(d, 7, 2);
        put(d, 0x02000400, 4);
        put(d, 0, 3);
    }
    if (w->status != 0) {
        put(d, 5, 2);
        put(d, 5, 2);
        put(d, w->status, 1);
        put(d, 0, 4);
    }
    if (w->is_13) {
        put(d, 43, 2);
        put(d, 5, 2);
        put(d, 4, 1);
        put(d, 0x03040303, 4);
    }
    if (w->padding > 0) {
        put(d, 21, 2);
        put(d, (uint32_t)w->padding, 2);
        d->len += w->padding;
    }
    len = d->len;
    d->len = at;
    put(d, (uint32_t)(len - at - 2), 2);
    d->len = 1;
    put(d, (uint32_t)len - 4, 3);
    d->len = len;
    return d;
}

/* The same in records of `size` bytes of content. */
static struct draft *records(const struct draft *m, size_t size)
{
    struct draft *d = calloc(1, sizeof(*d));

    for (size_t at = 0; at < m->len; at += size) {
        size_t len = min_size(size, m->len - at);

        put(d, 0x160301, 3);
        put(d, (uint32_t)len, 2);
        put_bytes(d, m->bytes + at, len);
    }
    return d;
}

static enum tls_hello_result parse(const void *p, size_t len, struct tls_hello *hello)
{
    static uint8_t scratch[TLS_HELLO_RECORD_MAX];
    uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees what is read behind it */
    enum tls_hello_result r;

    memcpy(exact, p, len);
    r = tls_hello_parse(exact, len, scratch, hello);
    if (r == TLS_HELLO_OK && hello->server_name != NULL && hello->joined.ptr == NULL)
        hello->server_name = (const char *)p + (hello->server_name - (const char *)exact);
    free(exact);
    return r;
}

static const struct wanted usual = {.name = "example.com",
                                    .suites = {0x1301, 0xc02b, 0xc02f},
                                    .signatures = {0x0403, 0x0804, 0x0401, 0x0503},
                                    .is_13 = true};

Test(tls_hello, it_is_the_same_whatever_the_records_and_incomplete_until_its_last_byte)
{
    struct draft *m = message(&usual);

    for (size_t size = 1; size <= m->len; size++) {
        struct draft *d = records(m, size);
        struct tls_hello h;

        for (size_t len = 0; len < d->len; len++)
            cr_assert(parse(d->bytes, len, &h) == TLS_HELLO_MORE && len + h.missing <= d->len,
                      "%zu of %zu", len, d->len);
        cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_OK);
        cr_assert_eq(h.record_bytes, d->len);
        cr_assert(h.is_13 && h.can_ecdsa && h.can_rsa);
        cr_assert_eq(h.server_name_len, strlen(usual.name));
        cr_assert_arr_eq(h.server_name, usual.name, strlen(usual.name));
        cr_assert_eq(h.joined.ptr != NULL, size < m->len);
        if (h.joined.ptr != NULL) {
            cr_assert_eq(h.joined.len, m->len + 5);
            cr_assert_arr_eq(h.joined.ptr + 5, m->bytes, m->len);
        }
        cr_assert_eq(parse(d->bytes, d->len + 20, &h), TLS_HELLO_OK, "more behind it");
        cr_assert_eq(h.record_bytes, d->len);
        free(d);
    }
    free(m);
}

/* The longest that is taken, byte by byte in records of one byte: each look reads all that is
 * there, so their number is what it costs. */
Test(tls_hello, one_that_comes_byte_by_byte_is_looked_at_some_fifty_times)
{
    static const size_t sizes[] = {1, 2, 7, 100, 16384};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct wanted w = usual;
        struct draft *m, *d;
        struct tls_hello h = {0};
        size_t looks = 0, next = 0;

        w.padding = sizes[i] == 1 ? 3000 : 4000; /* as records of a byte, six times as long */
        m = message(&w);
        d = records(m, sizes[i]);
        cr_assert(sizes[i] > 1 || d->len < TLS_HELLO_BYTES_MAX);
        for (size_t len = 1; len <= d->len && len < TLS_HELLO_BYTES_MAX; len++) {
            if (len < next)
                continue;
            looks++;
            if (parse(d->bytes, len, &h) != TLS_HELLO_MORE)
                break;
            next = len + h.missing;
        }
        cr_assert_eq(parse(d->bytes, min_size(next, d->len), &h), TLS_HELLO_OK);
        cr_assert_leq(looks, 60, "%zu looks at records of %zu", looks, sizes[i]);
        free(d);
        free(m);
    }
}

Test(tls_hello, kinds_of_certificates_follow_from_signatures_and_in_1_2_from_suites)
{
    static const struct {
        struct wanted w;
        bool ecdsa, rsa;
    } cases[] = {
        {{.suites = {0x1301}, .signatures = {0x0403, 1, 1, 1}, .is_13 = true}, true, true},
        {{.suites = {0x1301}, .signatures = {0x0403, 0x0503, 0x0603, 0x0807}, .is_13 = true},
         true,
         false},
        {{.suites = {0x1301}, .signatures = {0x0804, 0x0805, 0x0806, 0x0401}, .is_13 = true},
         false,
         true},
        {{.suites = {0xc02b}, .signatures = {0x0403, 0x0401, 0x0804, 0x0804}}, true, false},
        {{.suites = {0xc02f}, .signatures = {0x0403, 0x0401, 0x0804, 0x0804}}, false, true},
        {{.suites = {0xc02b, 0xc030}, .signatures = {0x0401, 0x0401, 0x0401, 0x0401}}, false, true},
        {{.suites = {0xcca9, 0xcca8}}, true, true},
        {{.suites = {0xc013, 0x002f}}, false, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct draft *m = message(&cases[i].w), *d = records(m, 16384);
        struct tls_hello h;

        cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_OK);
        cr_assert_eq(h.can_ecdsa, cases[i].ecdsa, "case %zu", i);
        cr_assert_eq(h.can_rsa, cases[i].rsa, "case %zu", i);
        cr_assert_null(h.server_name);
        free(m);
        free(d);
    }
}

/* 29: X25519, 23: P-256, 24: P-384. */
Test(tls_hello, the_group_is_the_best_share_or_else_the_best_that_is_named)
{
    static const struct {
        struct wanted w;
        uint8_t group;
    } cases[] = {
        {{.suites = {0x1301}, .groups = {24, 23, 29}, .shares = {23, 29}, .is_13 = true}, 0},
        {{.suites = {0x1301}, .groups = {24, 23, 29}, .shares = {24, 23}, .is_13 = true}, 1},
        {{.suites = {0x1301}, .groups = {29, 23, 24}, .shares = {24}, .is_13 = true}, 2},
        {{.suites = {0x1301}, .groups = {25, 24, 29}, .shares = {25}, .is_13 = true}, 0},
        {{.suites = {0x1301}, .groups = {25, 24}, .is_13 = true}, 2},
        {{.suites = {0xc02b}, .groups = {24, 23}}, 1},
        {{.suites = {0xc02b}, .groups = {24}, .shares = {29}}, 2},
        {{.suites = {0xc02b}}, 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct draft *m = message(&cases[i].w), *d = records(m, m->len);
        struct tls_hello h;

        cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_OK);
        cr_assert_eq(h.group, cases[i].group, "case %zu: %u", i, h.group);
        free(d);
        free(m);
    }
}

/* 1: ocsp, RFC 6066 8. */
Test(tls_hello, an_ocsp_response_is_wanted_by_the_extension_alone)
{
    static const struct {
        struct wanted w;
        bool staple;
    } cases[] = {
        {{.suites = {0x1301}, .is_13 = true}, false},
        {{.suites = {0x1301}, .status = 1, .is_13 = true}, true},
        {{.suites = {0xc02b}, .status = 1}, true},
        {{.suites = {0xc02b}, .status = 2}, false},
        {{.suites = {0xc02b}, .status = 1, .status_v2 = true}, false},
        {{.suites = {0xc02b}, .status_v2 = true}, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct draft *m = message(&cases[i].w), *d = records(m, m->len);
        struct tls_hello h;

        cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_OK);
        cr_assert_eq(h.wants_staple, cases[i].staple, "case %zu", i);
        free(d);
        free(m);
    }
}

Test(tls_hello, what_is_none_is_told_apart)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum tls_hello_result wanted;
    } cases[] = {
        {"", 0, TLS_HELLO_MORE},
        {"G", 1, TLS_HELLO_MORE},
        {"GET /", 5, TLS_HELLO_HTTP},
        {"POST / HTTP/1.1\r\n", 17, TLS_HELLO_HTTP},
        {"PRI * HTTP/2.0", 14, TLS_HELLO_HTTP},
        {"get /", 5, TLS_HELLO_NOT_TLS},
        {"\x80\x2e\x01\x03\x01", 5, TLS_HELLO_NOT_TLS},
        {"\x17\x03\x03\x00\x05hello", 10, TLS_HELLO_NOT_TLS},
        {"\x16\x02", 2, TLS_HELLO_BAD},
        {"\x16\x03\x01\x00\x00", 5, TLS_HELLO_BAD},
        {"\x16\x03\x01\x40\x01", 5, TLS_HELLO_BAD},
        {"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, TLS_HELLO_BAD},
        {"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9, TLS_HELLO_BAD},
        {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, TLS_HELLO_TOO_LONG},
        {"\x16\x03\x01\x00\x01\x01\x17\x03\x03\x00\x05", 11, TLS_HELLO_BAD},
    };
    struct tls_hello h;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(parse(cases[i].bytes, cases[i].len, &h), cases[i].wanted, "case %zu", i);
}

Test(tls_hello, its_length_is_bounded)
{
    struct wanted w = usual;
    struct draft *m = message(&w), *d;
    struct tls_hello h;

    w.padding = 16384 - m->len - 4;
    free(m);
    m = message(&w);
    cr_assert_eq(m->len, 16384);
    d = records(m, 16384);
    cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_OK);
    free(d);
    d = records(m, 8); /* 13 bytes for 8 */
    cr_assert_eq(parse(d->bytes, TLS_HELLO_BYTES_MAX, &h), TLS_HELLO_TOO_LONG);
    free(d);
    free(m);
    w.padding++;
    m = message(&w);
    d = records(m, 16384);
    cr_assert_eq(parse(d->bytes, d->len, &h), TLS_HELLO_TOO_LONG);
    free(d);
    free(m);
}

Test(tls_hello, any_length_in_it_that_is_wrong_is_refused_or_harmless)
{
    struct draft *m = message(&usual), *d = records(m, 16384);
    struct tls_hello h;

    for (size_t at = 5; at < d->len; at++) {
        for (int value = 0; value < 256; value++) {
            uint8_t before = d->bytes[at];
            enum tls_hello_result r;

            d->bytes[at] = (uint8_t)value;
            r = parse(d->bytes, d->len, &h);
            if (r == TLS_HELLO_OK && h.server_name != NULL)
                cr_assert((const uint8_t *)h.server_name >= d->bytes &&
                          (const uint8_t *)h.server_name + h.server_name_len <= d->bytes + d->len);
            d->bytes[at] = before;
        }
    }
    free(d);
    free(m);
}
