/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Records as they should not be. Each fails the connection with its reason and alert, gives no
 * plaintext away and seals nothing more; rig_expect_failure() checks all of that. The peer that
 * seals them is libcrypto's. */

#include "tls_rig.h"

static uint8_t text[RIG_BUFFER], wire[64 * RIG_BUFFER];

/* The layer must fail at a single record of this type and content. */
static void expect_content_fails(const struct rig_suite *s, bool is_client, uint8_t type,
                                 const void *content, size_t len, enum tls_reason reason)
{
    struct rig rig = rig_new_with(s, is_client, 0);
    size_t n = rig_seal(&rig.in, type, content, len, wire);
    rig_expect_failure(&rig, wire, n, reason);
    rig_free(&rig);
}

static void expect_content_taken(const struct rig_suite *s, bool is_client, uint8_t type,
                                 const void *content, size_t len)
{
    struct rig rig = rig_new_with(s, is_client, 0);
    size_t n = rig_seal(&rig.in, type, content, len, wire);
    rig_expect_taken(&rig, wire, n, "", 0);
    rig_free(&rig);
}

/* Headers ---------------------------------------------------------------------------------------
 */

static enum tls_reason head_reason(const struct rig_suite *s, const uint8_t head[5])
{
    size_t len = (size_t)head[3] << 8 | head[4], most = 16384 + rig_extra(s) - 5;
    bool type_good = rig_is_13(s) ? head[0] == 23 : head[0] >= 21 && head[0] <= 23;
    if (!type_good)
        return TLS_REASON_TYPE;
    if (!rig_is_13(s) && (head[1] != 3 || head[2] != 3))
        return TLS_REASON_VERSION;
    if (len > most)
        return TLS_REASON_TOO_LONG;
    return len < 16 + (rig_has_explicit(s) ? 8u : 0u) ? TLS_REASON_TOO_SHORT : TLS_REASON_NONE;
}

/* Not before the header is whole, and without waiting for the body. */
static void expect_head_judged(const struct rig_suite *s, const uint8_t head[5])
{
    uint8_t got[8];
    size_t got_len = 0, left;
    struct rig rig = rig_new(s);
    cr_assert_eq(rig_feed(&rig, head, 4, got, &got_len, &left), TLS_RECORD_NEED_MORE);
    cr_assert_eq(left, 4);
    enum tls_reason reason = head_reason(s, head);
    if (reason != TLS_REASON_NONE) {
        rig_expect_failure(&rig, head, 5, reason);
    } else {
        cr_assert_eq(rig_feed(&rig, head, 5, got, &got_len, &left), TLS_RECORD_NEED_MORE);
        cr_assert_eq(left, 5);
    }
    rig_free(&rig);
}

Test(tls_record_wrong, a_header_is_judged_before_its_body_is_there)
{
    FOR_SUITES(s)
    {
        for (uint32_t type = 0; type < 256; type++)
            expect_head_judged(s, (uint8_t[]){(uint8_t)type, 3, 3, 0, 100});
        for (uint32_t version = 0; version <= UINT16_MAX; version += 257)
            expect_head_judged(
                s, (uint8_t[]){23, (uint8_t)(version >> 8), (uint8_t)(version + 3), 0, 100});
        for (uint32_t minor = 0; minor < 256; minor++)
            expect_head_judged(s, (uint8_t[]){23, 3, (uint8_t)minor, 0, 100});
        for (uint32_t len = 0; len <= UINT16_MAX; len += len > 40 && len < 16300 ? 97 : 1) {
            expect_head_judged(s, (uint8_t[]){23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len});
            if (len > 16900)
                len += 4099;
        }
    }
}

/* The length fields that the RFCs name as the first too long. */
Test(tls_record_wrong, a_length_over_the_rfc_bound_is_an_overflow)
{
    FOR_SUITES(s)
    {
        size_t len = rig_is_13(s) ? 16384 + 256 + 1 : 16384 + 2048 + 1;
        struct rig rig = rig_new(s);
        rig_expect_failure(&rig, (uint8_t[]){23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len}, 5,
                           TLS_REASON_TOO_LONG);
        cr_assert_eq(tls_reason_alert(TLS_REASON_TOO_LONG), 22);
        rig_free(&rig);
    }
}

/* One byte more of content, or in 1.3 of padding, than a record may have: sealed correctly. */
Test(tls_record_wrong, content_over_2_to_the_14_is_an_overflow)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        size_t n = rig_seal(&rig.in, RIG_DATA, text, 16385, wire);
        rig_expect_failure(&rig, wire, n, TLS_REASON_TOO_LONG);
        rig_free(&rig);
        if (!rig_is_13(s))
            continue;
        rig = rig_new(s);
        n = rig_seal_padded(&rig.in, RIG_DATA, text, 100, 16285, wire);
        rig_expect_failure(&rig, wire, n, TLS_REASON_TOO_LONG);
        rig_free(&rig);
    }
}

/* Authentication --------------------------------------------------------------------------------
 */

/* Also checks that the bytes which were decrypted are gone. */
static void expect_bad_tag(struct rig *rig, size_t n)
{
    uint8_t *copy = malloc(n);
    size_t skip = rig_has_explicit(rig->suite) ? 13 : 5;
    memcpy(copy, wire, n);
    struct bytes in = {copy, n};
    struct tls_piece piece;
    cr_assert_eq(tls_record_open(rig->r, rig->work, &in, &piece), TLS_RECORD_FAILED);
    cr_assert_null(piece.data.ptr);
    cr_assert_eq(tls_record_reason(rig->r), TLS_REASON_BAD_TAG);
    for (size_t i = skip; i < n - 16; i++)
        cr_assert_eq(copy[i], 0);
    free(copy);
    rig_expect_failure(rig, wire, 0, TLS_REASON_BAD_TAG);
}

Test(tls_record_wrong, a_changed_bit_anywhere_is_noticed)
{
    FOR_SUITES(s)
    {
        struct rig_way in;
        rig_way_init(&in, s, 1);
        size_t n =
            rig_seal(&in, RIG_DATA, "fifty bytes of plaintext that nobody shall see....", 50, wire);
        for (size_t bit = 0; bit < 8 * n; bit++) {
            if (bit / 8 == 3 || bit / 8 == 4)
                continue; /* another length: see the next test */
            struct rig rig = rig_new(s);
            wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum tls_reason reason = head_reason(s, wire);
            if (reason == TLS_REASON_NONE)
                expect_bad_tag(&rig, n);
            else
                rig_expect_failure(&rig, wire, n, reason);
            wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
            rig_free(&rig);
        }
    }
}

Test(tls_record_wrong, a_record_made_shorter_or_longer_is_noticed)
{
    FOR_SUITES(s)
    {
        struct rig_way in;
        rig_way_init(&in, s, 1);
        size_t n =
            rig_seal(&in, RIG_DATA, "fifty bytes of plaintext that nobody shall see....", 50, wire);
        memset(wire + n, 0, 300);
        for (size_t len = 0; len < 300; len++) {
            if (len == n - 5)
                continue;
            struct rig rig = rig_new(s);
            rig_put(wire + 3, len, 2);
            enum tls_reason reason = head_reason(s, wire);
            if (reason == TLS_REASON_NONE)
                expect_bad_tag(&rig, len + 5);
            else
                rig_expect_failure(&rig, wire, len + 5, reason);
            rig_free(&rig);
        }
    }
}

static void expect_third_record_fails(const struct rig_suite *s, const size_t order[3])
{
    size_t offsets[5] = {0};
    struct rig rig = rig_new(s);
    for (size_t i = 0; i < 4; i++)
        offsets[i + 1] = offsets[i] + rig_seal(&rig.in, RIG_DATA, &"abcd"[i], 1, wire + offsets[i]);
    for (size_t i = 0; i < 2; i++)
        rig_expect_taken(&rig, wire + offsets[order[i]], offsets[order[i] + 1] - offsets[order[i]],
                         &"abcd"[order[i]], 1);
    size_t last = order[2];
    rig_expect_failure(&rig, wire + offsets[last], offsets[last + 1] - offsets[last],
                       TLS_REASON_BAD_TAG);
    rig_free(&rig);
}

Test(tls_record_wrong, replayed_reordered_and_lost_records_are_noticed)
{
    FOR_SUITES(s)
    {
        expect_third_record_fails(s, (size_t[]){0, 1, 0});
        expect_third_record_fails(s, (size_t[]){0, 1, 1});
        expect_third_record_fails(s, (size_t[]){0, 1, 3});
    }
}

Test(tls_record_wrong, a_record_of_the_other_direction_is_noticed)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        size_t n = rig_layer_seal(&rig, "echo", 4, wire);
        rig.out.seq++;
        rig_expect_failure(&rig, wire, n, TLS_REASON_BAD_TAG);
        rig_free(&rig);
    }
}

Test(tls_record_wrong, a_record_under_the_old_key_is_noticed)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        size_t n = rig_seal(&rig.in, RIG_HANDSHAKE, "\x18\0\0\1\0", 5, wire);
        rig_expect_taken(&rig, wire, n, "", 0);
        rig.in.seq = 0; /* but no new key */
        n = rig_seal(&rig.in, RIG_DATA, "x", 1, wire);
        rig_expect_failure(&rig, wire, n, TLS_REASON_BAD_TAG);
        rig_free(&rig);
    }
}

/* Content types ---------------------------------------------------------------------------------
 */

Test(tls_record_wrong, only_data_alerts_and_handshake_messages_come)
{
    FOR_SUITES(s)
    {
        for (uint32_t type = 0; type < 256; type++) {
            if (type >= RIG_ALERT && type <= RIG_DATA)
                continue;
            bool padding_only = rig_is_13(s) && type == 0;
            expect_content_fails(s, false, (uint8_t)type, "\1", padding_only ? 0 : 1,
                                 padding_only ? TLS_REASON_NO_TYPE : TLS_REASON_TYPE);
        }
    }
}

Test(tls_record_wrong, nothing_but_padding_is_refused)
{
    static const size_t lens[] = {0, 1, 7, 8, 9, 16, 1000, 16385};
    memset(text, 0, sizeof text);
    FOR_SUITES_13(s)
    {
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            struct rig rig = rig_new(s);
            size_t n = rig_seal_raw(&rig.in, RIG_DATA, 0x0303, text, lens[i], wire);
            rig_expect_failure(&rig, wire, n, TLS_REASON_NO_TYPE);
            rig_free(&rig);
        }
    }
}

Test(tls_record_wrong, empty_alerts_and_handshake_records_are_refused)
{
    FOR_SUITES(s)
    {
        expect_content_fails(s, false, RIG_ALERT, NULL, 0, TLS_REASON_EMPTY);
        expect_content_fails(s, false, RIG_HANDSHAKE, NULL, 0, TLS_REASON_EMPTY);
        expect_content_fails(s, true, RIG_HANDSHAKE, NULL, 0, TLS_REASON_EMPTY);
        expect_content_taken(s, false, RIG_DATA, NULL, 0);
    }
}

/* A 1.3 connection gets no plaintext, whatever it says. */
Test(tls_record_wrong, plaintext_is_refused)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        rig_expect_failure(&rig, (const uint8_t *)"\x15\3\3\0\2\2\x28", 7,
                           rig_is_13(s) ? TLS_REASON_TYPE : TLS_REASON_TOO_SHORT);
        rig_free(&rig);
        rig = rig_new(s);
        rig_expect_failure(&rig, (const uint8_t *)"\x14\3\3\0\1\1", 6, TLS_REASON_TYPE);
        rig_free(&rig);
        rig = rig_new(s);
        rig_expect_failure(&rig, (const uint8_t *)"GET / HTTP/1.1\r\n", 16, TLS_REASON_TYPE);
        rig_free(&rig);
    }
}

/* Alerts ----------------------------------------------------------------------------------------
 */

static void expect_fatal(const struct rig_suite *s, const uint8_t alert[2])
{
    struct rig rig = rig_new(s);
    size_t n = rig_seal(&rig.in, RIG_ALERT, alert, 2, wire);
    rig_expect_failure(&rig, wire, n, TLS_REASON_PEER_ALERT); /* which is not answered */
    cr_assert_eq(tls_record_peer_alert(rig.r), alert[1]);
    rig_free(&rig);
}

static void expect_closure(const struct rig_suite *s, const uint8_t alert[2])
{
    uint8_t got[8];
    size_t got_len = 0, left;
    struct rig rig = rig_new(s);
    size_t n = rig_seal(&rig.in, RIG_ALERT, alert, 2, wire);
    cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_CLOSED);
    rig_free(&rig);
}

Test(tls_record_wrong, every_alert_of_both_levels)
{
    FOR_SUITES(s)
    {
        for (uint32_t description = 0; description < 256; description++) {
            const uint8_t warning[] = {1, (uint8_t)description};
            const uint8_t fatal[] = {2, (uint8_t)description};
            bool mild = rig_is_13(s) && description == 90;
            if (description == 0) {
                expect_closure(s, warning);
                expect_closure(s, fatal);
                continue;
            }
            if (mild || !rig_is_13(s))
                expect_content_taken(s, false, RIG_ALERT, warning, 2);
            else
                expect_fatal(s, warning);
            if (mild)
                expect_content_taken(s, false, RIG_ALERT, fatal, 2);
            else
                expect_fatal(s, fatal);
        }
    }
}

Test(tls_record_wrong, alerts_of_no_level_or_length_are_refused)
{
    FOR_SUITES(s)
    {
        for (uint32_t level = 0; level < 256; level++)
            if (level != 1 && level != 2)
                expect_content_fails(s, false, RIG_ALERT, (uint8_t[]){(uint8_t)level, 0}, 2,
                                     TLS_REASON_ALERT_LEVEL);
        expect_content_fails(s, false, RIG_ALERT, "\1", 1, TLS_REASON_ALERT_FORM);
        expect_content_fails(s, false, RIG_ALERT, "\1\0\1", 3, TLS_REASON_ALERT_FORM);
        expect_content_fails(s, false, RIG_ALERT, "\1\0\1\0", 4, TLS_REASON_ALERT_FORM);
    }
}

/* Handshake messages ----------------------------------------------------------------------------
 */

Test(tls_record_wrong, renegotiation_is_refused)
{
    FOR_SUITES_12(s)
    {
        expect_content_fails(s, false, RIG_HANDSHAKE, "\1\0\0\1\0", 5, TLS_REASON_RENEGOTIATION);
        expect_content_fails(s, true, RIG_HANDSHAKE, "\0\0\0\0", 4, TLS_REASON_RENEGOTIATION);
    }
    cr_assert_eq(tls_reason_alert(TLS_REASON_RENEGOTIATION), 40);
}

Test(tls_record_wrong, handshake_messages_do_not_come_any_more)
{
    FOR_SUITES(s)
    {
        for (uint32_t type = 0; type < 256; type++) {
            for (int is_client = 0; is_client < 2; is_client++) {
                bool allowed = rig_is_13(s) && (type == 24 || (is_client && type == 4));
                bool again = !rig_is_13(s) && type == (is_client ? 0 : 1);
                if (!allowed && !again)
                    expect_content_fails(s, is_client, RIG_HANDSHAKE,
                                         (uint8_t[]){(uint8_t)type, 0, 0, 0}, 4,
                                         TLS_REASON_HANDSHAKE);
            }
        }
    }
}

Test(tls_record_wrong, a_key_update_is_exactly_one_record)
{
    FOR_SUITES_13(s)
    {
        for (int is_client = 0; is_client < 2; is_client++) {
            for (size_t len = 1; len < 5; len++)
                expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\0\0\1", len,
                                     TLS_REASON_UPDATE_FORM);
            expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\0\0\0", 4,
                                 TLS_REASON_UPDATE_FORM);
            expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\0\0\2\0\0", 6,
                                 TLS_REASON_UPDATE_FORM);
            expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\1\0\1\0", 5,
                                 TLS_REASON_UPDATE_FORM);
            expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\0\0\1\0\0", 6,
                                 TLS_REASON_UPDATE_TAIL);
            expect_content_fails(s, is_client, RIG_HANDSHAKE, "\x18\0\0\1\0\x18\0\0\1\0", 10,
                                 TLS_REASON_UPDATE_TAIL);
            for (uint32_t value = 2; value < 256; value++)
                expect_content_fails(s, is_client, RIG_HANDSHAKE,
                                     (uint8_t[]){24, 0, 0, 1, (uint8_t)value}, 5,
                                     TLS_REASON_UPDATE_VALUE);
            expect_content_taken(s, is_client, RIG_HANDSHAKE, "\x18\0\0\1\0", 5);
            expect_content_taken(s, is_client, RIG_HANDSHAKE, "\x18\0\0\1\1", 5);
        }
    }
}

/* Tickets, for a client -------------------------------------------------------------------------
 */

/* Two tickets of 300 and 0 bytes. */
static size_t make_tickets(void)
{
    memset(text, 0x5A, 400);
    memcpy(text, "\4\0\1\x2C", 4);
    memcpy(text + 304, "\4\0\0\0", 4);
    return 308;
}

Test(tls_record_wrong, a_client_lets_tickets_pass_cut_anywhere)
{
    size_t len = make_tickets();
    FOR_SUITES_13(s)
    {
        for (size_t cut = 0; cut <= len; cut++) {
            struct rig rig = rig_new_with(s, true, 0);
            size_t n = 0, first = cut > 0 ? cut : len;
            n += rig_seal(&rig.in, RIG_HANDSHAKE, text, first, wire);
            if (first < len)
                n += rig_seal(&rig.in, RIG_HANDSHAKE, text + first, len - first, wire + n);
            n += rig_seal(&rig.in, RIG_DATA, "data", 4, wire + n);
            rig_expect_taken(&rig, wire, n, "data", 4);
            rig_free(&rig);
        }
    }
}

Test(tls_record_wrong, nothing_may_come_inside_a_ticket)
{
    size_t len = make_tickets();
    FOR_SUITES_13(s)
    {
        for (size_t cut = 1; cut < len; cut++) {
            if (cut == 304)
                continue; /* between the two */
            struct rig rig = rig_new_with(s, true, 0);
            size_t n = rig_seal(&rig.in, RIG_HANDSHAKE, text, cut, wire);
            rig_expect_taken(&rig, wire, n, "", 0);
            bool alert = cut % 2;
            n = rig_seal(&rig.in, alert ? RIG_ALERT : RIG_DATA, "\1\0", 2, wire);
            rig_expect_failure(&rig, wire, n, TLS_REASON_INTERLEAVED);
            rig_free(&rig);
        }
    }
}

Test(tls_record_wrong, what_follows_a_ticket_in_its_record_is_judged_too)
{
    make_tickets();
    FOR_SUITES_13(s)
    {
        text[304] = 24; /* a KeyUpdate behind a ticket does not begin its record */
        expect_content_fails(s, true, RIG_HANDSHAKE, text, 308, TLS_REASON_HANDSHAKE);
        text[304] = 13;
        expect_content_fails(s, true, RIG_HANDSHAKE, text, 308, TLS_REASON_HANDSHAKE);
    }
}

Test(tls_record_wrong, a_key_update_inside_a_ticket_is_a_part_of_it)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new_with(s, true, 0);
        size_t n = rig_seal(&rig.in, RIG_HANDSHAKE, "\4\0\0\5", 4, wire);
        n += rig_seal(&rig.in, RIG_HANDSHAKE, "\x18\0\0\1\0", 5, wire + n);
        n += rig_seal(&rig.in, RIG_DATA, "old key", 7, wire + n);
        rig_expect_taken(&rig, wire, n, "old key", 7);
        rig_free(&rig);
    }
}

/* Floods ----------------------------------------------------------------------------------------
 */

struct quiet {
    uint8_t type;
    const char *content;
    size_t len;
    bool is_client, is_update;
    int version; /* -1: both */
};

static const struct quiet quiets[] = {
    {RIG_DATA, "", 0, false, false, -1},
    {RIG_DATA, "", 0, true, false, -1},
    {RIG_HANDSHAKE, "\x18\0\0\1\0", 5, false, true, TLS_VERSION_1_3},
    {RIG_HANDSHAKE, "\x18\0\0\1\1", 5, true, true, TLS_VERSION_1_3},
    {RIG_HANDSHAKE, "\4\0\0\0", 4, true, false, TLS_VERSION_1_3},
    {RIG_ALERT, "\1\x5A", 2, false, false, -1},
    {RIG_ALERT, "\1\x64", 2, false, false, TLS_VERSION_1_2},
};

static size_t seal_quiet(struct rig *rig, const struct quiet *q, uint8_t *out)
{
    size_t n = rig_seal(&rig->in, q->type, q->content, q->len, out);
    if (q->is_update)
        rig_next_keys(&rig->in);
    return n;
}

/* 32 in a row, data, 32 in a row, and one more. */
static void expect_flood(const struct rig_suite *s, const struct quiet *q)
{
    struct rig rig = rig_new_with(s, q->is_client, 0);
    for (int round = 0; round < 2; round++) {
        size_t n = 0;
        for (int i = 0; i < TLS_RECORD_QUIET_MAX; i++)
            n += seal_quiet(&rig, q, wire + n);
        rig_expect_taken(&rig, wire, n, "", 0);
        if (round == 1)
            break;
        n = rig_seal(&rig.in, RIG_DATA, "!", 1, wire);
        rig_expect_taken(&rig, wire, n, "!", 1);
    }
    size_t n = seal_quiet(&rig, q, wire);
    rig_expect_failure(&rig, wire, n, TLS_REASON_FLOOD);
    rig_free(&rig);
}

Test(tls_record_wrong, a_flood_of_records_without_data_ends_the_connection)
{
    cr_assert_eq(TLS_RECORD_QUIET_MAX, 32);
    FOR_SUITES(s)
    {
        for (size_t i = 0; i < ARRAY_LEN(quiets); i++)
            if (quiets[i].version < 0 || quiets[i].version == (int)s->version)
                expect_flood(s, &quiets[i]);
    }
}

Test(tls_record_wrong, a_flood_may_be_of_all_kinds)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new_with(s, true, 0);
        size_t n = 0;
        for (size_t i = 0; i < TLS_RECORD_QUIET_MAX; i++)
            n += seal_quiet(&rig, &quiets[i % 6], wire + n);
        rig_expect_taken(&rig, wire, n, "", 0);
        n = seal_quiet(&rig, &quiets[0], wire);
        rig_expect_failure(&rig, wire, n, TLS_REASON_FLOOD);
        rig_free(&rig);
    }
}

/* What ends the connection anyway keeps its own name. */
Test(tls_record_wrong, the_end_may_follow_as_many_quiet_records_as_are_allowed)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        uint8_t got[8];
        size_t n = 0, got_len = 0, left;
        for (int i = 0; i < TLS_RECORD_QUIET_MAX; i++)
            n += seal_quiet(&rig, &quiets[0], wire + n);
        n += rig_seal(&rig.in, RIG_ALERT, "\1\0", 2, wire + n);
        cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_CLOSED);
        rig_free(&rig);
    }
}

/* Behind a failure ------------------------------------------------------------------------------
 */

Test(tls_record_wrong, a_failure_lasts_and_what_came_before_it_is_delivered)
{
    FOR_SUITES(s)
    {
        uint8_t got[64];
        size_t got_len = 0, left;
        struct rig rig = rig_new(s);
        size_t n = rig_seal(&rig.in, RIG_DATA, "good", 4, wire);
        size_t bad = n;
        n += rig_seal(&rig.in, RIG_DATA, "bad", 3, wire + n);
        wire[n - 1] ^= 1;
        n += rig_seal(&rig.in, RIG_DATA, "good again", 10, wire + n);
        cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_FAILED);
        cr_assert_eq(got_len, 4);
        cr_assert_eq(memcmp(got, "good", 4), 0);
        cr_assert_eq(left, 0);
        rig_expect_failure(&rig, wire + bad, n - bad, TLS_REASON_BAD_TAG);
        cr_assert(!tls_record_is_update_due(rig.r));
        rig_free(&rig);
    }
}

Test(tls_record_wrong, after_our_close_notify_a_failure_sends_no_alert)
{
    FOR_SUITES(s)
    {
        uint8_t got[8];
        size_t got_len = 0, left;
        struct rig rig = rig_new(s);
        cr_assert_gt(tls_record_seal_end(rig.r, rig.work, wire), 0);
        cr_assert_eq(rig_feed(&rig, (uint8_t *)"GET / HTTP/1.1", 14, got, &got_len, &left),
                     TLS_RECORD_FAILED);
        cr_assert_eq(tls_record_seal_end(rig.r, rig.work, wire), 0);
        rig_free(&rig);
    }
}

Test(tls_record_wrong, reasons_have_names_of_their_own)
{
    for (int i = 0; i < TLS_REASON_COUNT; i++) {
        cr_assert_gt(strlen(tls_reason_text((enum tls_reason)i)), 5);
        for (const char *p = tls_reason_label((enum tls_reason)i); *p != '\0'; p++)
            cr_assert((*p >= 'a' && *p <= 'z') || *p == '_');
        for (int j = 0; j < i; j++)
            cr_assert_neq(
                strcmp(tls_reason_label((enum tls_reason)i), tls_reason_label((enum tls_reason)j)),
                0);
    }
}
