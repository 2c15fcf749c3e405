/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* KeyUpdates in both directions, the limits of a key, and sequence numbers at their end. */

#include "tls_rig.h"

#define KEY_UPDATE "\x18\0\0\1\0"
#define KEY_UPDATE_REQUEST "\x18\0\0\1\1"

static uint8_t wire[RIG_BUFFER];
static struct rig_record rec;

/* Opens out what the layer has sealed into wire: a KeyUpdate with or without request. Returns its
 * length. */
static size_t expect_update(struct rig *rig, const uint8_t *p, size_t len, bool request)
{
    rig_open(&rig->out, p, len, &rec);
    cr_assert_eq(rec.type, RIG_HANDSHAKE);
    cr_assert_eq(rec.len, 5);
    cr_assert_eq(memcmp(rec.content, request ? KEY_UPDATE_REQUEST : KEY_UPDATE, 5), 0);
    cr_assert_eq(rec.record_bytes, TLS_RECORD_UPDATE_BYTES);
    rig_next_keys(&rig->out);
    return rec.record_bytes;
}

static void expect_data(struct rig *rig, const uint8_t *p, size_t len, const char *data)
{
    rig_expect(&rig->out, p, len, RIG_DATA, data, strlen(data));
}

static void send_update(struct rig *rig, bool request)
{
    size_t n =
        rig_seal(&rig->in, RIG_HANDSHAKE, request ? KEY_UPDATE_REQUEST : KEY_UPDATE, 5, wire);
    rig_next_keys(&rig->in);
    rig_expect_taken(rig, wire, n, "", 0);
}

static void send_data(struct rig *rig, const char *data)
{
    size_t n = rig_seal(&rig->in, RIG_DATA, data, strlen(data), wire);
    rig_expect_taken(rig, wire, n, data, strlen(data));
}

static size_t seal_nothing(struct rig *rig)
{
    struct tls_source none = {NULL, 0, 0};
    return tls_record_seal(rig->r, rig->work, &none, 0, wire, sizeof wire);
}

/* KeyUpdate -------------------------------------------------------------------------------------
 */

Test(tls_record_keys, the_peers_key_update_changes_its_key_only)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (int i = 0; i < 50; i++) {
            send_data(&rig, "before");
            send_update(&rig, false);
            cr_assert(!tls_record_is_update_due(rig.r));
            send_data(&rig, "after");
            size_t n = rig_layer_seal(&rig, "answer", 6, wire);
            expect_data(&rig, wire, n, "answer");
        }
        rig_free(&rig);
    }
}

Test(tls_record_keys, a_requested_key_update_stands_before_the_next_data)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (int i = 0; i < 50; i++) {
            send_update(&rig, true);
            cr_assert(tls_record_is_update_due(rig.r));
            size_t n = rig_layer_seal(&rig, "data", 4, wire);
            size_t update = expect_update(&rig, wire, n, false);
            expect_data(&rig, wire + update, n - update, "data");
            cr_assert(!tls_record_is_update_due(rig.r));
            send_data(&rig, "on");
        }
        rig_free(&rig);
    }
}

Test(tls_record_keys, many_requests_are_answered_by_one_key_update)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (int i = 0; i < 10; i++)
            send_update(&rig, true);
        size_t n = seal_nothing(&rig);
        cr_assert_eq(expect_update(&rig, wire, n, false), n);
        cr_assert_eq(seal_nothing(&rig), 0);
        n = rig_layer_seal(&rig, "data", 4, wire);
        expect_data(&rig, wire, n, "data");
        rig_free(&rig);
    }
}

Test(tls_record_keys, we_may_update_and_ask_the_peer_to)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        for (int request = 0; request < 2; request++) {
            tls_record_update(rig.r, request);
            cr_assert(tls_record_is_update_due(rig.r));
            size_t n = rig_layer_seal(&rig, "data", 4, wire);
            size_t update = expect_update(&rig, wire, n, request);
            expect_data(&rig, wire + update, n - update, "data");
        }
        /* A request that is due is not taken back by an update without. */
        tls_record_update(rig.r, true);
        tls_record_update(rig.r, false);
        size_t n = seal_nothing(&rig);
        expect_update(&rig, wire, n, true);
        tls_record_update(rig.r, false);
        n = seal_nothing(&rig);
        expect_update(&rig, wire, n, false);
        rig_free(&rig);
    }
}

Test(tls_record_keys, what_was_expanded_from_an_old_key_is_wiped)
{
    static const struct tls_aead_ctx zero;
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        send_data(&rig, "data");
        rig_layer_seal(&rig, "data", 4, wire);
        cr_assert_neq(memcmp(&rig.work->open, &zero, sizeof zero), 0);
        cr_assert_neq(memcmp(&rig.work->seal, &zero, sizeof zero), 0);
        send_update(&rig, true);
        cr_assert_eq(memcmp(&rig.work->open, &zero, sizeof zero), 0);
        seal_nothing(&rig);
        cr_assert_eq(memcmp(&rig.work->seal, &zero, sizeof zero), 0);
        rig_free(&rig);
    }
}

Test(tls_record_keys, there_is_no_update_in_1_2)
{
    FOR_SUITES_12(s)
    {
        struct rig rig = rig_new(s);
        tls_record_update(rig.r, true);
        cr_assert(!tls_record_is_update_due(rig.r));
        size_t n = rig_layer_seal(&rig, "data", 4, wire);
        expect_data(&rig, wire, n, "data");
        rig_free(&rig);
    }
}

Test(tls_record_keys, an_update_waits_for_room)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        struct iovec iov = {(void *)"data", 4};
        struct tls_source src = {&iov, 1, 0};
        tls_record_update(rig.r, false);
        for (size_t room = 0; room < TLS_RECORD_UPDATE_BYTES; room++)
            cr_assert_eq(tls_record_seal(rig.r, rig.work, &src, 4, wire, room), 0);
        cr_assert(tls_record_is_update_due(rig.r));
        /* Room for itself and not one byte of data: it leaves alone. */
        for (size_t room = TLS_RECORD_UPDATE_BYTES; room <= TLS_RECORD_UPDATE_BYTES + 22; room++) {
            tls_record_update(rig.r, false);
            size_t alone = tls_record_seal(rig.r, rig.work, &src, 4, wire, room);
            cr_assert_eq(expect_update(&rig, wire, alone, false), alone);
            cr_assert_eq(src.count, 1);
        }
        size_t n = tls_record_seal(rig.r, rig.work, &src, 4, wire, sizeof wire);
        expect_data(&rig, wire, n, "data");
        rig_free(&rig);
    }
}

Test(tls_record_keys, close_notify_needs_no_update_before_it)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        send_update(&rig, true);
        size_t n = tls_record_seal_end(rig.r, rig.work, wire);
        rig_expect(&rig.out, wire, n, RIG_ALERT, "\1\0", 2);
        rig_free(&rig);
    }
}

/* The limit of a key ----------------------------------------------------------------------------
 */

Test(tls_record_keys, a_1_3_key_is_changed_after_as_many_records_as_it_may_seal)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new_with(s, false, 4);
        for (int i = 0; i < 200; i++) {
            size_t n = rig_layer_seal(&rig, "data", 4, wire), update = 0;
            if (i > 0 && i % 16 == 0)
                update = expect_update(&rig, wire, n, false);
            expect_data(&rig, wire + update, n - update, "data");
        }
        rig_free(&rig);
    }
}

/* A state that has sealed n records. */
static struct rig rig_after(const struct rig_suite *s, uint64_t reads, uint64_t writes)
{
    struct rig rig = {.suite = s, .work = calloc(1, sizeof *rig.work)};
    rig_way_init(&rig.in, s, 1);
    rig_way_init(&rig.out, s, 2);
    rig.in.seq = reads;
    rig.out.seq = writes;
    struct tls_record_params p = rig_params(&rig.in, &rig.out);
    rig.r = rig_record_new(&p);
    return rig;
}

Test(tls_record_keys, by_default_aes_changes_keys_after_2_to_the_23_and_chacha_does_not)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_after(s, 0, (1u << 23) - 1);
        bool is_chacha = s->aead == TLS_AEAD_CHACHA20_POLY1305;
        size_t n = rig_layer_seal(&rig, "data", 4, wire), update = 0;
        expect_data(&rig, wire, n, "data");
        n = rig_layer_seal(&rig, "data", 4, wire);
        if (!is_chacha)
            update = expect_update(&rig, wire, n, false);
        expect_data(&rig, wire + update, n - update, "data");
        rig_free(&rig);
    }
}

Test(tls_record_keys, a_1_2_key_wears_out_first_gently_then_for_good)
{
    FOR_SUITES_12(s)
    {
        struct rig rig = rig_new_with(s, false, 4);
        for (uint64_t seq = 1; seq < 32; seq++) {
            cr_assert_eq(tls_record_is_worn(rig.r), seq >= 16);
            size_t n = rig_layer_seal(&rig, "data", 4, wire);
            expect_data(&rig, wire, n, "data");
        }
        struct iovec iov = {(void *)"data", 4};
        struct tls_source src = {&iov, 1, 0};
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &src, 4, wire, sizeof wire), 0);
        cr_assert_eq(src.count, 1);
        rig_expect_failure(&rig, wire, 0, TLS_REASON_KEY_LIMIT);
        rig_free(&rig);
    }
}

Test(tls_record_keys, a_1_2_key_wears_out_by_receiving_too)
{
    FOR_SUITES_12(s)
    {
        struct rig rig = rig_new_with(s, false, 4);
        for (uint64_t seq = 1; seq < 100; seq++) {
            cr_assert_eq(tls_record_is_worn(rig.r), seq >= 16);
            send_data(&rig, "data");
        }
        rig_free(&rig);
    }
}

Test(tls_record_keys, by_default_1_2_aes_wears_out_at_2_to_the_23_and_fails_at_twice_that)
{
    FOR_SUITES_12(s)
    {
        bool is_chacha = s->aead == TLS_AEAD_CHACHA20_POLY1305;
        struct rig rig = rig_after(s, 1, (1u << 23) - 1);
        cr_assert(!tls_record_is_worn(rig.r));
        expect_data(&rig, wire, rig_layer_seal(&rig, "data", 4, wire), "data");
        cr_assert_eq(tls_record_is_worn(rig.r), !is_chacha);
        expect_data(&rig, wire, rig_layer_seal(&rig, "data", 4, wire), "data");
        rig_free(&rig);
        rig = rig_after(s, 1, (1u << 24) - 1);
        expect_data(&rig, wire, rig_layer_seal(&rig, "data", 4, wire), "data");
        struct iovec iov = {(void *)"data", 4};
        struct tls_source src = {&iov, 1, 0};
        size_t n = tls_record_seal(rig.r, rig.work, &src, 4, wire, sizeof wire);
        cr_assert_eq(n > 0, is_chacha);
        cr_assert_eq(tls_record_reason(rig.r), is_chacha ? TLS_REASON_NONE : TLS_REASON_KEY_LIMIT);
        rig_free(&rig);
    }
}

Test(tls_record_keys, a_1_3_state_never_wears_out)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_after(s, 1u << 30, 1u << 30);
        cr_assert(!tls_record_is_worn(rig.r));
        rig_free(&rig);
    }
}

/* Twice the limit, since a peer may count otherwise. */
Test(tls_record_keys, a_peer_that_does_not_change_its_key_is_asked_once)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new_with(s, false, 4);
        for (int i = 1; i <= 200; i++) {
            send_data(&rig, "data");
            cr_assert_eq(tls_record_is_update_due(rig.r), i >= 32);
        }
        size_t n = seal_nothing(&rig);
        expect_update(&rig, wire, n, true);
        send_update(&rig, false);
        for (int i = 1; i < 32; i++)
            send_data(&rig, "data");
        cr_assert(!tls_record_is_update_due(rig.r));
        rig_free(&rig);
    }
}

Test(tls_record_keys, the_last_sequence_numbers_are_not_used)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_after(s, UINT64_MAX - 1, 1);
        send_data(&rig, "the last one");
        size_t n = rig_seal(&rig.in, RIG_DATA, "x", 1, wire);
        rig_expect_failure(&rig, wire, n, TLS_REASON_SEQUENCE);
        rig_free(&rig);
    }
}

Test(tls_record_keys, a_key_far_over_its_limit_seals_no_data)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_after(s, 1, UINT64_MAX - 2);
        struct iovec iov = {(void *)"data", 4};
        struct tls_source src = {&iov, 1, 0};
        size_t n = tls_record_seal(rig.r, rig.work, &src, 4, wire, sizeof wire);
        if (rig_is_13(s)) {
            size_t update = expect_update(&rig, wire, n, false);
            expect_data(&rig, wire + update, n - update, "data");
        } else {
            cr_assert_eq(n, 0);
            rig_expect_failure(&rig, wire, 0, TLS_REASON_KEY_LIMIT);
        }
        rig_free(&rig);
    }
}

/* Millions --------------------------------------------------------------------------------------
 */

/* Two layers, the limit at 2^10 records: both sides' keys change a thousand times. */
Test(tls_record_keys, millions_of_records_cross_the_limit)
{
    enum { RECORDS = 1 << 20 };
    for (const struct rig_suite *s = rig_suites; s < rig_suites + 2; s++) {
        struct rig a = rig_new_with(s, false, 10), b = a;
        struct tls_record_params p = rig_params(&a.out, &a.in);
        p.is_client = true;
        p.rekey_log2 = 10;
        b.r = rig_record_new(&p);
        uint64_t updates = 0;
        for (uint64_t i = 0; i < RECORDS; i++) {
            struct rig *from = i % 2 ? &a : &b, *to = i % 2 ? &b : &a;
            struct tls_piece piece;
            size_t n = rig_layer_seal(from, &i, sizeof i, wire);
            updates += n > sizeof i + 22;
            struct bytes in = {wire, n};
            cr_assert_eq(tls_record_open(to->r, to->work, &in, &piece), TLS_RECORD_DATA);
            cr_assert_eq(piece.data.len, sizeof i);
            cr_assert_eq(memcmp(piece.data.ptr, &i, sizeof i), 0);
            cr_assert_eq(in.len, 0);
        }
        cr_assert_eq(updates, 2 * (RECORDS / 2 / 1024 - 1));
        tls_record_wipe(b.r, a.work);
        free(b.r);
        rig_free(&a);
    }
}
