/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Records as they should be: published ones, ours against libcrypto's in both directions, every
 * split of a stream, gathered spans, bounds of the caller, closing, and two layers in talk. The
 * other tests of the layer: test_tls_record_wrong.c, _keys.c and _peer.c. */

#include "net/tls_record.h"

#include <errno.h>

#include "tls_rig.h"

static uint8_t text[RIG_BUFFER], wire[8 * RIG_BUFFER], got[8 * RIG_BUFFER];

static void fill_text(void)
{
    uint64_t seed = 77;
    rig_fill(&seed, text, sizeof text);
}

/* Published records -----------------------------------------------------------------------------
 */

/* RFC 8448 3: a 1-RTT handshake with AES-128-GCM. */
static const uint8_t rfc_client_secret[] = {
    0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8, 0x88, 0x9b, 0xce, 0x65, 0x52,
    0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5};
static const uint8_t rfc_server_secret[] = {
    0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32,
    0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43};
static const uint8_t rfc_client_key[] = {0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9,
                                         0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51};
static const uint8_t rfc_client_iv[] = {0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08,
                                        0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9};
static const uint8_t rfc_server_key[] = {0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
                                         0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56};
static const uint8_t rfc_server_iv[] = {0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83,
                                        0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84};
/* The 50 bytes 0 to 49, then close_notify. */
static const uint8_t rfc_client_records[] = {
    0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf, 0xfa, 0xfe,
    0x82, 0x28, 0xba, 0x55, 0xcb, 0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f,
    0x2b, 0x98, 0x19, 0xa8, 0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b,
    0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd, 0x1e, 0x3d, 0xea, 0xe6,
    0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4, 0x17, 0x03, 0x03, 0x00, 0x13, 0xc9, 0x87, 0x27,
    0x60, 0x65, 0x56, 0x66, 0xb7, 0x4d, 0x7f, 0xf1, 0x15, 0x3e, 0xfd, 0x6d, 0xb6, 0xd0, 0xb0, 0xe3};
static const uint8_t rfc_server_records[] = {
    0x17, 0x03, 0x03, 0x00, 0x43, 0x2e, 0x93, 0x7e, 0x11, 0xef, 0x4a, 0xc7, 0x40, 0xe5, 0x38, 0xad,
    0x36, 0x00, 0x5f, 0xc4, 0xa4, 0x69, 0x32, 0xfc, 0x32, 0x25, 0xd0, 0x5f, 0x82, 0xaa, 0x1b, 0x36,
    0xe3, 0x0e, 0xfa, 0xf9, 0x7d, 0x90, 0xe6, 0xdf, 0xfc, 0x60, 0x2d, 0xcb, 0x50, 0x1a, 0x59, 0xa8,
    0xfc, 0xc4, 0x9c, 0x4b, 0xf2, 0xe5, 0xf0, 0xa2, 0x1c, 0x00, 0x47, 0xc2, 0xab, 0xf3, 0x32, 0x54,
    0x0d, 0xd0, 0x32, 0xe1, 0x67, 0xc2, 0x95, 0x5d, 0x17, 0x03, 0x03, 0x00, 0x13, 0xb5, 0x8f, 0xd6,
    0x71, 0x66, 0xeb, 0xf5, 0x99, 0xd2, 0x47, 0x20, 0xcf, 0xbe, 0x7e, 0xfa, 0x7a, 0x88, 0x64, 0xa9};

/* One side of that connection. The server has sealed a ticket already. */
static struct rig rfc_rig(bool is_client)
{
    struct rig rig = {.suite = &rig_suites[0]};
    struct tls_record_params p = {
        .version = TLS_VERSION_1_3,
        .aead = TLS_AEAD_AES_128_GCM,
        .is_client = is_client,
        .read_key = is_client ? rfc_server_key : rfc_client_key,
        .read_iv = is_client ? rfc_server_iv : rfc_client_iv,
        .read_secret = is_client ? rfc_server_secret : rfc_client_secret,
        .read_seq = is_client ? 1 : 0,
        .write_key = is_client ? rfc_client_key : rfc_server_key,
        .write_iv = is_client ? rfc_client_iv : rfc_server_iv,
        .write_secret = is_client ? rfc_client_secret : rfc_server_secret,
        .write_seq = is_client ? 0 : 1,
    };
    rig.r = rig_record_new(&p);
    rig.work = calloc(1, sizeof *rig.work);
    return rig;
}

static void expect_rfc_side(bool is_client)
{
    const uint8_t *in = is_client ? rfc_server_records : rfc_client_records;
    const uint8_t *out = is_client ? rfc_client_records : rfc_server_records;
    size_t got_len = 0, left;
    struct rig rig = rfc_rig(is_client);
    cr_assert_eq(rig_feed(&rig, in, sizeof rfc_client_records, got, &got_len, &left),
                 TLS_RECORD_CLOSED);
    cr_assert_eq(got_len, 50);
    for (uint8_t i = 0; i < 50; i++)
        cr_assert_eq(got[i], i);
    size_t n = rig_layer_seal(&rig, got, 50, wire);
    n += tls_record_seal_end(rig.r, rig.work, wire + n);
    cr_assert_eq(n, sizeof rfc_client_records);
    cr_assert_eq(memcmp(wire, out, n), 0);
    rig_free(&rig);
}

Test(tls_record, both_sides_of_the_rfc_8448_connection)
{
    expect_rfc_side(false);
    expect_rfc_side(true);
}

/* Life ------------------------------------------------------------------------------------------
 */

Test(tls_record, a_state_is_88_to_216_bytes)
{
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_2, TLS_AEAD_AES_128_GCM), 88);
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_2, TLS_AEAD_AES_256_GCM), 120);
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_2, TLS_AEAD_CHACHA20_POLY1305), 120);
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_3, TLS_AEAD_AES_128_GCM), 152);
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_3, TLS_AEAD_AES_256_GCM), 216);
    cr_assert_eq(tls_record_bytes(TLS_VERSION_1_3, TLS_AEAD_CHACHA20_POLY1305), 184);
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        cr_assert_eq(tls_record_state_bytes(rig.r), tls_record_bytes(s->version, s->aead));
        rig_free(&rig);
    }
}

Test(tls_record, values_that_cannot_be_are_refused)
{
    union {
        struct tls_record r;
        uint8_t space[256];
    } u;
    struct rig_way in, out;
    rig_way_init(&in, &rig_suites[0], 1);
    rig_way_init(&out, &rig_suites[0], 2);
    const struct tls_record_params good = rig_params(&in, &out);
    struct tls_record_params p = good;
    cr_assert_eq(tls_record_init(&u.r, &p), 0);
    p.fragment_max = 16385;
    cr_assert_eq(tls_record_init(&u.r, &p), -EINVAL);
    p = good;
    p.rekey_log2 = 63;
    cr_assert_eq(tls_record_init(&u.r, &p), -EINVAL);
    p = good;
    p.aead = TLS_AEAD_COUNT;
    cr_assert_eq(tls_record_init(&u.r, &p), -EINVAL);
    p = good;
    p.version = (enum tls_version)2;
    cr_assert_eq(tls_record_init(&u.r, &p), -EINVAL);
}

/* Of keys, IVs and secrets in both directions. */
Test(tls_record, an_export_that_does_not_fit_its_secrets_is_refused_and_wiped)
{
    FOR_SUITES_13(s)
    {
        struct rig_way in, out;
        uint8_t *state = malloc(tls_record_bytes(s->version, s->aead));
        rig_way_init(&in, s, 1);
        rig_way_init(&out, s, 2);
        struct tls_record_params p = rig_params(&in, &out);
        uint8_t *parts[] = {in.key, in.iv, in.secret, out.key, out.iv, out.secret};
        size_t lens[] = {rig_key_bytes(s), 12, rig_secret_bytes(s)};
        for (size_t part = 0; part < ARRAY_LEN(parts); part++) {
            uint8_t *last = parts[part] + lens[part % 3] - 1;
            *last ^= 1;
            cr_assert_eq(tls_record_init((struct tls_record *)state, &p), -EKEYREJECTED);
            for (size_t i = 0; i < tls_record_bytes(s->version, s->aead); i++)
                cr_assert_eq(state[i], 0);
            *last ^= 1;
        }
        cr_assert_eq(tls_record_init((struct tls_record *)state, &p), 0);
        free(state);
    }
}

Test(tls_record, a_wiped_state_leaves_no_key_behind)
{
    static const struct tls_work zero_work;
    FOR_SUITES(s)
    {
        uint8_t zero[256] = {0};
        struct rig rig = rig_new(s), other = rig_new(s);
        size_t n = rig_seal(&rig.in, RIG_DATA, "x", 1, wire);
        rig_expect_taken(&rig, wire, n, "x", 1);
        rig_layer_seal(&rig, "y", 1, wire);
        size_t state_bytes = tls_record_state_bytes(rig.r);
        tls_record_wipe(rig.r, rig.work);
        cr_assert_eq(memcmp(rig.r, zero, state_bytes), 0);
        cr_assert_eq(memcmp(rig.work, &zero_work, sizeof zero_work), 0);
        /* The keys of others stay. */
        rig_layer_seal(&other, "z", 1, wire);
        struct tls_work before = *other.work;
        struct rig third = {.suite = s, .r = malloc(state_bytes), .work = other.work};
        rig_way_init(&third.in, s, 5);
        rig_way_init(&third.out, s, 6);
        struct tls_record_params p = rig_params(&third.in, &third.out);
        cr_assert_eq(tls_record_init(third.r, &p), 0);
        tls_record_wipe(third.r, third.work);
        cr_assert_eq(memcmp(other.work, &before, sizeof before), 0);
        tls_work_wipe(other.work);
        cr_assert_eq(memcmp(other.work, &zero_work, sizeof zero_work), 0);
        free(third.r);
        free(rig.r);
        free(rig.work);
        rig_free(&other);
    }
}

/* Against libcrypto -----------------------------------------------------------------------------
 */

static const size_t lengths[] = {1,    2,    15,   16,    17,    31,    32,    33,   100,  125,
                                 126,  511,  512,  513,   1024,  4094,  4095,  4096, 4097, 4098,
                                 8191, 8192, 8193, 12288, 16368, 16382, 16383, 16384};

Test(tls_record, libcrypto_opens_what_is_sealed)
{
    fill_text();
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            size_t n = rig_layer_seal(&rig, text, lengths[i], wire);
            cr_assert_eq(n, lengths[i] + rig_extra(s));
            rig_expect(&rig.out, wire, n, RIG_DATA, text, lengths[i]);
        }
        rig_free(&rig);
    }
}

Test(tls_record, what_libcrypto_seals_is_opened)
{
    fill_text();
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            size_t n = rig_seal(&rig.in, RIG_DATA, text, lengths[i], wire);
            rig_expect_taken(&rig, wire, n, text, lengths[i]);
        }
        rig_free(&rig);
    }
}

Test(tls_record, padding_is_taken_off)
{
    static const size_t paddings[] = {0, 1, 6, 7, 8, 9, 15, 16, 17, 63, 255, 4096, 16000};
    fill_text();
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (size_t i = 0; i < ARRAY_LEN(paddings); i++) {
            for (size_t len = 0; len < 20; len++) {
                memset(text, len % 2 ? 0 : 0xFF, len); /* content may end in zeros too */
                size_t n = rig_seal_padded(&rig.in, RIG_DATA, text, len, paddings[i], wire);
                rig_expect_taken(&rig, wire, n, text, len);
            }
        }
        /* As much as fits: content, type and padding are 2^14 + 1 bytes. */
        for (size_t len = 16384 - 20; len <= 16384; len++) {
            size_t n = rig_seal_padded(&rig.in, RIG_DATA, text, len, 16384 - len, wire);
            rig_expect_taken(&rig, wire, n, text, len);
        }
        rig_free(&rig);
    }
}

Test(tls_record, the_version_in_a_1_3_header_means_nothing)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (uint32_t version = 0; version <= UINT16_MAX; version += 251) {
            size_t n =
                rig_seal_raw(&rig.in, RIG_DATA, (uint16_t)version, (uint8_t *)"x\x17", 2, wire);
            rig_expect_taken(&rig, wire, n, "x", 1);
        }
        rig_free(&rig);
    }
}

Test(tls_record, explicit_nonces_count_on_from_the_first)
{
    static struct rig_record rec;
    FOR_SUITES_12(s)
    {
        if (!rig_has_explicit(s))
            continue;
        struct rig rig = rig_new(s);
        uint64_t nonce = rig.out.explicit_nonce;
        for (int i = 0; i < 100; i++) {
            size_t n = rig_layer_seal(&rig, "abc", 3, wire);
            rig_open(&rig.out, wire, n, &rec);
            cr_assert_eq(rec.explicit_nonce, nonce + (uint64_t)i);
        }
        rig_free(&rig);
    }
}

/* A stream cut anywhere -------------------------------------------------------------------------
 */

/* Data, an empty record, padded data, a KeyUpdate and a record of the next key, and the end.
 * Returns the stream's length; offsets[i] is where record i begins, offsets[*count] the end. */
static size_t make_stream(struct rig_way *w, size_t offsets[8], size_t *count)
{
    size_t n = 0;
    *count = 0;
    offsets[(*count)++] = n;
    n += rig_seal(w, RIG_DATA, "first piece, ", 13, wire);
    offsets[(*count)++] = n;
    n += rig_seal(w, RIG_DATA, NULL, 0, wire + n);
    offsets[(*count)++] = n;
    n += rig_seal_padded(w, RIG_DATA, "second", 6, 9, wire + n);
    if (rig_is_13(w->suite)) {
        offsets[(*count)++] = n;
        n += rig_seal(w, RIG_HANDSHAKE, "\x18\0\0\1\1", 5, wire + n);
        rig_next_keys(w);
    }
    offsets[(*count)++] = n;
    n += rig_seal(w, RIG_DATA, " and last", 9, wire + n);
    offsets[(*count)++] = n;
    n += rig_seal(w, RIG_ALERT, "\1\0", 2, wire + n);
    offsets[*count] = n;
    return n;
}

/* What the layer must say of the first `n` bytes of the stream: what it leaves, and how long the
 * cut record is. */
static void expect_cut(const size_t *offsets, size_t count, size_t n, size_t left,
                       size_t record_bytes)
{
    size_t i = 0;
    while (i < count && offsets[i + 1] <= n)
        i++;
    cr_assert_eq(left, n - offsets[i]);
    size_t want = left == 0 ? 0 : left < 5 ? 5 : offsets[i + 1] - offsets[i];
    cr_assert_eq(record_bytes, want);
}

/* Feeds wire[0..n) cut at two places, as a caller does that keeps what is left. */
static void feed_cut(struct rig *rig, const size_t *offsets, size_t count, size_t n,
                     const size_t cuts[2])
{
    size_t taken = 0, got_len = 0;
    size_t ends[] = {cuts[0], cuts[1], n};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        size_t len = ends[i] - taken;
        uint8_t *copy = malloc(len + 1);
        memcpy(copy + 1, wire + taken, len);
        struct bytes in = {copy + 1, len};
        struct tls_piece piece;
        enum tls_record_status st;
        while ((st = tls_record_open(rig->r, rig->work, &in, &piece)) == TLS_RECORD_DATA) {
            memcpy(got + got_len, piece.data.ptr, piece.data.len);
            got_len += piece.data.len;
        }
        cr_assert_eq(memcmp(in.ptr, wire + ends[i] - in.len, in.len), 0); /* unchanged */
        taken = ends[i] - in.len;
        free(copy);
        cr_assert_eq(st, ends[i] == n ? TLS_RECORD_CLOSED : TLS_RECORD_NEED_MORE);
        if (st == TLS_RECORD_NEED_MORE)
            expect_cut(offsets, count, ends[i], in.len, piece.record_bytes);
    }
    cr_assert_eq(got_len, 28);
    cr_assert_eq(memcmp(got, "first piece, second and last", 28), 0);
}

Test(tls_record, a_stream_means_the_same_cut_at_any_two_places)
{
    FOR_SUITES(s)
    {
        struct rig_way in;
        size_t offsets[8], count;
        struct rig rig = rig_new(s);
        in = rig.in;
        size_t n = make_stream(&in, offsets, &count);
        size_t state_bytes = tls_record_state_bytes(rig.r);
        uint8_t *fresh = malloc(state_bytes);
        memcpy(fresh, rig.r, state_bytes);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = i; j < n; j += 1 + (size_t)(j > i) * 6) {
                memcpy(rig.r, fresh, state_bytes);
                feed_cut(&rig, offsets, count, n, (size_t[]){i, j});
            }
        }
        free(fresh);
        rig_free(&rig);
    }
}

Test(tls_record, a_stream_may_come_byte_by_byte)
{
    FOR_SUITES(s)
    {
        size_t offsets[8], count, held = 0, got_len = 0, taken = 0, left;
        struct rig rig = rig_new(s);
        size_t n = make_stream(&rig.in, offsets, &count);
        enum tls_record_status st = TLS_RECORD_NEED_MORE;
        for (size_t end = 1; end <= n; end++) {
            cr_assert_eq(st, TLS_RECORD_NEED_MORE);
            st = rig_feed(&rig, wire + taken, held + 1, got, &got_len, &left);
            held = left;
            taken = end - left;
        }
        cr_assert_eq(st, TLS_RECORD_CLOSED);
        cr_assert_eq(got_len, 28);
        cr_assert_eq(memcmp(got, "first piece, second and last", 28), 0);
        rig_free(&rig);
    }
}

/* Sealing ---------------------------------------------------------------------------------------
 */

/* Cuts text[0..len) into spans at random, empty ones among them. Returns how many. */
static int cut_spans(uint64_t *seed, size_t len, struct iovec *iov, int max)
{
    int count = 0;
    size_t done = 0;
    while (count < max - 1 && done < len) {
        size_t n = rig_random(seed) % 4 == 0 ? 0 : rig_random(seed) % (len - done + 1);
        iov[count++] = (struct iovec){text + done, n};
        done += n;
    }
    iov[count++] = (struct iovec){text + done, len - done};
    return count;
}

Test(tls_record, gathered_spans_seal_like_one)
{
    uint64_t seed = 3;
    fill_text();
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        for (int round = 0; round < 500; round++) {
            struct iovec iov[12];
            size_t len = 1 + rig_random(&seed) % 16384;
            struct tls_source src = {iov, cut_spans(&seed, len, iov, 12), 0};
            uint8_t *out = malloc(len + rig_extra(s));
            size_t n = tls_record_seal(rig.r, rig.work, &src, 16384, out, len + rig_extra(s));
            cr_assert_eq(n, len + rig_extra(s));
            cr_assert_eq(src.count, 0);
            rig_expect(&rig.out, out, n, RIG_DATA, text, len);
            free(out);
        }
        rig_free(&rig);
    }
}

/* plain_max, fragment_max and room: the least of them counts, and what is written stays inside. */
Test(tls_record, a_record_keeps_within_every_bound)
{
    static struct rig_record rec;
    uint64_t seed = 4;
    fill_text();
    FOR_SUITES(s)
    {
        for (int round = 0; round < 300; round++) {
            struct rig_way in, out;
            rig_way_init(&in, s, 1);
            rig_way_init(&out, s, 2);
            struct tls_record_params p = rig_params(&in, &out);
            p.fragment_max = (uint16_t)(512 << rig_random(&seed) % 6);
            struct rig rig = {.suite = s, .r = rig_record_new(&p), .out = out};
            rig.work = calloc(1, sizeof *rig.work);
            size_t plain_max = rig_random(&seed) % 20000;
            size_t room = rig_random(&seed) % 20000, len = rig_random(&seed) % 20000;
            struct iovec iov[6];
            struct tls_source src = {iov, cut_spans(&seed, len, iov, 6), 0};
            uint8_t *buffer = malloc(room + 1);
            size_t n = tls_record_seal(rig.r, rig.work, &src, plain_max, buffer, room);
            size_t extra = rig_extra(s);
            size_t want = min_size(min_size(plain_max, p.fragment_max), len);
            want = min_size(want, room > extra ? room - extra : 0);
            cr_assert_eq(n, want > 0 ? want + extra : 0);
            if (n > 0) {
                rig_open(&rig.out, buffer, n, &rec);
                cr_assert_eq(rec.len, want);
                cr_assert_eq(memcmp(rec.content, text, want), 0);
                /* The source goes on where the record ends. */
                size_t rest = 0;
                for (int i = 0; i < src.count; i++)
                    rest += src.iov[i].iov_len - (i == 0 ? src.off : 0);
                cr_assert_eq(rest, len - want);
                if (rest > 0)
                    cr_assert_eq((uint8_t *)src.iov->iov_base + src.off, text + want);
            }
            free(buffer);
            rig_free(&rig);
        }
    }
}

/* The documented room is enough even when a KeyUpdate stands in front. */
Test(tls_record, the_documented_room_suffices)
{
    fill_text();
    FOR_SUITES(s)
    {
        for (int due = 0; due < 2; due++) {
            struct rig rig = rig_new(s);
            struct iovec iov = {text, 1000};
            struct tls_source src = {&iov, 1, 0};
            if (due)
                tls_record_update(rig.r, false);
            uint8_t *out = malloc(1000 + TLS_RECORD_ROOM);
            size_t n = tls_record_seal(rig.r, rig.work, &src, 16384, out, 1000 + TLS_RECORD_ROOM);
            cr_assert_eq(src.count, 0);
            cr_assert_eq(n, 1000 + rig_extra(s) + (due && rig_is_13(s) ? 27 : 0));
            free(out);
            rig_free(&rig);
        }
    }
    cr_assert_eq(TLS_RECORD_BYTES_MAX, 16384 + 29);
}

Test(tls_record, nothing_is_sealed_from_nothing)
{
    uint8_t out[64];
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        struct iovec empty[3] = {{out, 0}, {NULL, 0}, {out, 0}};
        struct tls_source none = {NULL, 0, 0}, hollow = {empty, 3, 0};
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &none, 16384, out, sizeof out), 0);
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &hollow, 16384, out, sizeof out), 0);
        cr_assert_eq(hollow.count, 0);
        size_t n = rig_layer_seal(&rig, "x", 1, wire);
        rig_expect(&rig.out, wire, n, RIG_DATA, "x", 1); /* no sequence number was used up */
        rig_free(&rig);
    }
}

/* Closing ---------------------------------------------------------------------------------------
 */

Test(tls_record, close_notify_of_the_peer_closes_the_input_only)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        size_t got_len = 0, left;
        size_t n = rig_seal(&rig.in, RIG_DATA, "bye", 3, wire);
        n += rig_seal(&rig.in, RIG_ALERT, "\1\0", 2, wire + n);
        n += rig_seal(&rig.in, RIG_DATA, "ignored", 7, wire + n);
        cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_CLOSED);
        cr_assert_eq(got_len, 3);
        cr_assert_eq(left, 0);
        cr_assert_eq(rig_feed(&rig, (uint8_t *)"rubbish", 7, got, &got_len, &left),
                     TLS_RECORD_CLOSED);
        cr_assert_eq(left, 0);
        cr_assert_eq(tls_record_reason(rig.r), TLS_REASON_NONE);
        cr_assert(tls_record_is_writable(rig.r));
        n = rig_layer_seal(&rig, "last words", 10, wire);
        rig_expect(&rig.out, wire, n, RIG_DATA, "last words", 10);
        rig_free(&rig);
    }
}

Test(tls_record, our_close_notify_ends_the_output_only)
{
    uint8_t out[TLS_RECORD_END_BYTES_MAX];
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        struct iovec iov = {text, 1};
        struct tls_source src = {&iov, 1, 0};
        tls_record_update(rig.r, false);
        size_t n = tls_record_seal_end(rig.r, rig.work, out);
        cr_assert_leq(n, sizeof out);
        rig_expect(&rig.out, out, n, RIG_ALERT, "\1\0", 2);
        cr_assert(!tls_record_is_writable(rig.r));
        cr_assert(!tls_record_is_update_due(rig.r));
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &src, 1, wire, sizeof wire), 0);
        cr_assert_eq(tls_record_seal_end(rig.r, rig.work, out), 0);
        n = rig_seal(&rig.in, RIG_DATA, "still heard", 11, wire);
        rig_expect_taken(&rig, wire, n, "still heard", 11);
        rig_free(&rig);
    }
}

/* Two layers ------------------------------------------------------------------------------------
 */

struct talker {
    struct tls_record *r;
    struct tls_work *work;
    uint8_t wire[8 * RIG_BUFFER]; /* on the way to the other */
    size_t wire_len;
    uint8_t next_out; /* content is a running count */
    uint8_t next_in;
    uint64_t bytes_in;
};

static struct talker *talker_new(const struct rig_way *in, const struct rig_way *out,
                                 bool is_client)
{
    struct talker *t = calloc(1, sizeof *t);
    struct tls_record_params p = rig_params(in, out);
    p.is_client = is_client;
    p.rekey_log2 = rig_is_13(in->suite) ? 6 : 0;
    t->r = rig_record_new(&p);
    t->work = calloc(1, sizeof *t->work);
    return t;
}

static void talker_free(struct talker *t)
{
    tls_record_wipe(t->r, t->work);
    free(t->r);
    free(t->work);
    free(t);
}

static void talk(struct talker *t, uint64_t *seed)
{
    struct iovec iov[2];
    size_t len = 1 + rig_random(seed) % (rig_random(seed) % 8 == 0 ? 9000 : 200);
    for (size_t i = 0; i < len; i++)
        text[i] = t->next_out++;
    size_t cut = rig_random(seed) % (len + 1);
    iov[0] = (struct iovec){text, cut};
    iov[1] = (struct iovec){text + cut, len - cut};
    struct tls_source src = {iov, 2, 0};
    if (rig_random(seed) % 50 == 0)
        tls_record_update(t->r, rig_random(seed) % 2);
    while (src.count > 0) {
        size_t n = tls_record_seal(t->r, t->work, &src, 1 + rig_random(seed) % 5000,
                                   t->wire + t->wire_len, sizeof t->wire - t->wire_len);
        cr_assert_gt(n, 0);
        t->wire_len += n;
    }
}

/* A part of what `from` has sent arrives at `to`. */
static void arrive(struct talker *from, struct talker *to, uint64_t *seed)
{
    size_t n = rig_random(seed) % (from->wire_len + 1);
    struct bytes in = {from->wire, n};
    struct tls_piece piece;
    enum tls_record_status st;
    while ((st = tls_record_open(to->r, to->work, &in, &piece)) == TLS_RECORD_DATA) {
        for (size_t i = 0; i < piece.data.len; i++)
            cr_assert_eq(piece.data.ptr[i], to->next_in++);
        to->bytes_in += piece.data.len;
    }
    cr_assert_eq(st, TLS_RECORD_NEED_MORE, "%s", tls_reason_text(tls_record_reason(to->r)));
    size_t taken = n - in.len;
    memmove(from->wire, from->wire + taken, from->wire_len - taken);
    from->wire_len -= taken;
}

/* The state has no pointers: as another process would, it goes on at another place. */
static void move(struct talker *t)
{
    size_t n = tls_record_state_bytes(t->r);
    struct tls_record *elsewhere = malloc(n);
    memcpy(elsewhere, t->r, n);
    tls_record_wipe(t->r, t->work);
    free(t->r);
    t->r = elsewhere;
}

Test(tls_record, two_layers_understand_each_other)
{
    FOR_SUITES(s)
    {
        uint64_t seed = 9;
        struct rig_way a, b;
        rig_way_init(&a, s, 1);
        rig_way_init(&b, s, 2);
        struct talker *server = talker_new(&a, &b, false), *client = talker_new(&b, &a, true);
        for (int step = 0; step < 4000; step++) {
            if (server->wire_len < RIG_BUFFER && rig_random(&seed) % 2)
                talk(server, &seed);
            if (client->wire_len < RIG_BUFFER && rig_random(&seed) % 2)
                talk(client, &seed);
            arrive(server, client, &seed);
            arrive(client, server, &seed);
            if (rig_random(&seed) % 64 == 0)
                move(rig_random(&seed) % 2 ? server : client);
        }
        cr_assert_gt(server->bytes_in, 500000);
        cr_assert_gt(client->bytes_in, 500000);
        talker_free(server);
        talker_free(client);
    }
}
