/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Kernel TLS: keys as the kernel reads them, and a record layer whose sending is lent. */

#include "net/tls_ktls.h"

#include <errno.h>
#include <stddef.h>

#include "tests/tls_rig.h"

static uint8_t wire[RIG_BUFFER];

/* The kernel's interface, as its documentation gives it: linux/tls.h must not say otherwise. */
_Static_assert(TLS_TX == 1 && TLS_SET_RECORD_TYPE == 1, "options");
_Static_assert(TLS_1_2_VERSION == 0x0303 && TLS_1_3_VERSION == 0x0304, "versions");
_Static_assert(TLS_CIPHER_AES_GCM_128 == 51 && TLS_CIPHER_AES_GCM_256 == 52 &&
                   TLS_CIPHER_CHACHA20_POLY1305 == 54,
               "ciphers");
_Static_assert(sizeof(struct tls12_crypto_info_aes_gcm_128) == 40 &&
                   sizeof(struct tls12_crypto_info_aes_gcm_256) == 56 &&
                   sizeof(struct tls12_crypto_info_chacha20_poly1305) == 56,
               "sizes");
_Static_assert(offsetof(struct tls12_crypto_info_aes_gcm_256, key) == 12 &&
                   offsetof(struct tls12_crypto_info_aes_gcm_256, salt) == 44 &&
                   offsetof(struct tls12_crypto_info_aes_gcm_256, rec_seq) == 48,
               "offsets");

/* What the kernel makes of *info, its fields read by their offsets: version, cipher, IV, key, salt,
 * number of the next record. */
static struct rig_way as_kernel(const struct rig_suite *s, const union tls_ktls_info *info,
                                size_t len)
{
    const uint8_t *p = (const uint8_t *)info;
    size_t key = rig_key_bytes(s), iv = s->aead == TLS_AEAD_CHACHA20_POLY1305 ? 12 : 8;
    size_t salt = 12 - iv;
    struct rig_way w = {.suite = s};
    cr_assert_eq(len, 4 + iv + key + salt + 8);
    cr_assert_eq(p[0] | p[1] << 8, rig_is_13(s) ? 0x0304 : 0x0303);
    cr_assert_eq(p[2] | p[3] << 8, s->aead == TLS_AEAD_AES_128_GCM   ? 51
                                   : s->aead == TLS_AEAD_AES_256_GCM ? 52
                                                                     : 54);
    memcpy(w.key, p + 4 + iv, key);
    memcpy(w.iv, p + 4 + iv + key, salt);
    memcpy(w.iv + salt, p + 4, iv);
    for (size_t i = 0; i < 8; i++) {
        w.seq = w.seq << 8 | p[4 + iv + key + salt + i];
        w.explicit_nonce = w.explicit_nonce << 8 | w.iv[4 + i];
    }
    return w;
}

static struct rig_way kernel_of(struct rig *rig)
{
    union tls_ktls_info info;
    size_t len = tls_ktls_info(rig->r, &info);

    return as_kernel(rig->suite, &info, len);
}

static void kernel_sends(struct rig *rig, struct rig_way *kernel, uint8_t type, const void *p,
                         size_t len)
{
    size_t n = rig_seal(kernel, type, p, len, wire);

    rig_expect(&rig->out, wire, n, type, p, len);
}

/* Some records by the layer, then the kernel goes on, and the peer sees one stream. */
Test(tls_ktls, the_kernel_goes_on_where_the_layer_stops)
{
    FOR_SUITES(s)
    {
        for (int records = 0; records < 5; records++) {
            struct rig rig = rig_new(s);
            for (int i = 0; i < records; i++) {
                size_t n = rig_layer_seal(&rig, "layer", 5, wire);
                rig_expect(&rig.out, wire, n, RIG_DATA, "layer", 5);
            }
            struct rig_way kernel = kernel_of(&rig);
            for (int i = 0; i < 3; i++)
                kernel_sends(&rig, &kernel, RIG_DATA, "kernel", 6);
            if (rig_has_explicit(s))
                cr_assert_eq(kernel.explicit_nonce, rig.out.explicit_nonce + records + 3u);
            rig_free(&rig);
        }
    }
}

/* Two that seal under one key would use a nonce twice. */
Test(tls_ktls, a_lent_layer_seals_nothing)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        struct iovec iov = {"data", 4};
        struct tls_source src = {&iov, 1, 0};
        tls_ktls_lend(rig.r);
        cr_assert_not(tls_record_is_writable(rig.r));
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &src, 100, wire, sizeof wire), 0);
        tls_record_update(rig.r, true);
        cr_assert_eq(tls_record_seal(rig.r, rig.work, &src, 100, wire, sizeof wire), 0);
        cr_assert_eq(tls_record_seal_end(rig.r, rig.work, wire), 0);
        rig_free(&rig);
    }
}

Test(tls_ktls, a_lent_layer_opens_as_before)
{
    FOR_SUITES(s)
    {
        struct rig rig = rig_new(s);
        tls_ktls_lend(rig.r);
        for (int i = 0; i < 3; i++) {
            size_t n = rig_seal(&rig.in, RIG_DATA, "peer", 4, wire);
            rig_expect_taken(&rig, wire, n, "peer", 4);
        }
        rig_free(&rig);
    }
}

static void kernel_updates(struct rig *rig, struct rig_way *kernel, bool requests)
{
    uint8_t message[TLS_KTLS_UPDATE_BYTES];

    cr_assert(tls_ktls_is_update_due(rig->r));
    tls_ktls_update(rig->r, rig->work, message);
    cr_assert_not(tls_ktls_is_update_due(rig->r));
    cr_assert_eq(memcmp(message, (uint8_t[]){24, 0, 0, 1, requests}, 5), 0);
    kernel_sends(rig, kernel, RIG_HANDSHAKE, message, sizeof message);
    rig_next_keys(&rig->out);
    *kernel = kernel_of(rig);
    cr_assert_eq(kernel->seq, 0);
}

Test(tls_ktls, a_key_that_the_peer_asks_for_follows_the_key_update)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        struct rig_way kernel = kernel_of(&rig);
        tls_ktls_lend(rig.r);
        for (int i = 0; i < 3; i++) {
            kernel_sends(&rig, &kernel, RIG_DATA, "before", 6);
            cr_assert_not(tls_ktls_is_update_due(rig.r));
            size_t n = rig_seal(&rig.in, RIG_HANDSHAKE, (uint8_t[]){24, 0, 0, 1, 1}, 5, wire);
            rig_expect_taken(&rig, wire, n, "", 0);
            rig_next_keys(&rig.in);
            kernel_updates(&rig, &kernel, false);
            kernel_sends(&rig, &kernel, RIG_DATA, "behind", 6);
        }
        rig_free(&rig);
    }
}

Test(tls_ktls, a_key_update_of_the_peer_that_asks_for_none_is_followed)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        tls_ktls_lend(rig.r);
        size_t n = rig_seal(&rig.in, RIG_HANDSHAKE, (uint8_t[]){24, 0, 0, 1, 0}, 5, wire);
        rig_expect_taken(&rig, wire, n, "", 0);
        rig_next_keys(&rig.in);
        cr_assert_not(tls_ktls_is_update_due(rig.r));
        n = rig_seal(&rig.in, RIG_DATA, "next", 4, wire);
        rig_expect_taken(&rig, wire, n, "next", 4);
        rig_free(&rig);
    }
}

Test(tls_ktls, an_update_of_ours_may_ask_for_the_peers)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        struct rig_way kernel = kernel_of(&rig);
        tls_ktls_lend(rig.r);
        tls_record_update(rig.r, true);
        kernel_updates(&rig, &kernel, true);
        rig_free(&rig);
    }
}

/* One that was due when the layer was lent is not forgotten. */
Test(tls_ktls, an_update_that_was_due_before_is_the_kernels)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new(s);
        tls_record_update(rig.r, false);
        struct rig_way kernel = kernel_of(&rig);
        tls_ktls_lend(rig.r);
        kernel_updates(&rig, &kernel, false);
        rig_free(&rig);
    }
}

/* A send of n bytes counts as the records of 1 KiB that it begins, and one. */
Test(tls_ktls, a_key_of_1_3_is_changed_when_it_is_used_up)
{
    FOR_SUITES_13(s)
    {
        struct rig rig = rig_new_with(s, false, 4); /* 16 records */
        struct rig_way kernel = kernel_of(&rig);
        tls_ktls_lend(rig.r);
        for (int i = 0; i < 3; i++) {
            for (int n = 0; n < 12; n++) {
                cr_assert(tls_ktls_may_send(rig.r));
                cr_assert_not(tls_ktls_is_update_due(rig.r));
                tls_ktls_count(rig.r, 1);
            }
            cr_assert(tls_ktls_may_send(rig.r));
            tls_ktls_count(rig.r, 3 * TLS_KTLS_COUNTED_BYTES);
            cr_assert(tls_ktls_may_send(rig.r));
            kernel_updates(&rig, &kernel, false);
        }
        rig_free(&rig);
    }
}

/* There is no other: the connection is told to end in its own good order, and at twice that ends.
 */
Test(tls_ktls, a_key_of_1_2_is_worn_and_then_used_up)
{
    FOR_SUITES_12(s)
    {
        struct rig rig = rig_new_with(s, false, 4);
        tls_ktls_lend(rig.r);
        for (int n = 1; n < 16; n++) {
            cr_assert_not(tls_record_is_worn(rig.r));
            cr_assert(tls_ktls_may_send(rig.r));
            tls_ktls_count(rig.r, 1);
        }
        for (int n = 16; n < 32; n++) {
            cr_assert(tls_record_is_worn(rig.r));
            cr_assert(tls_ktls_may_send(rig.r));
            tls_ktls_count(rig.r, 1);
        }
        cr_assert_not(tls_ktls_may_send(rig.r));
        cr_assert_eq(tls_record_reason(rig.r), TLS_REASON_KEY_LIMIT);
        rig_free(&rig);
    }
}

Test(tls_ktls, the_last_record_is_close_notify_once)
{
    FOR_SUITES(s)
    {
        uint8_t alert[TLS_KTLS_ALERT_BYTES];
        struct rig rig = rig_new(s);
        tls_ktls_lend(rig.r);
        cr_assert_eq(tls_ktls_end(rig.r, alert), 2);
        cr_assert_eq(memcmp(alert, (uint8_t[]){1, 0}, 2), 0);
        cr_assert_not(tls_ktls_may_send(rig.r));
        cr_assert_eq(tls_ktls_end(rig.r, alert), 0);
        rig_free(&rig);
    }
}

Test(tls_ktls, a_failure_has_its_alert_and_a_fatal_one_has_no_answer)
{
    FOR_SUITES(s)
    {
        uint8_t alert[TLS_KTLS_ALERT_BYTES], got[64];
        size_t got_len = 0, left;
        struct rig rig = rig_new(s);
        tls_ktls_lend(rig.r);
        size_t n = rig_seal(&rig.in, RIG_DATA, "x", 1, wire);
        wire[n - 1] ^= 1;
        cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_FAILED);
        cr_assert_not(tls_ktls_may_send(rig.r));
        cr_assert_eq(tls_ktls_end(rig.r, alert), 2);
        cr_assert_eq(memcmp(alert, (uint8_t[]){2, 20}, 2), 0);
        rig_free(&rig);

        rig = rig_new(s);
        tls_ktls_lend(rig.r);
        n = rig_seal(&rig.in, RIG_ALERT, (uint8_t[]){2, 40}, 2, wire);
        cr_assert_eq(rig_feed(&rig, wire, n, got, &got_len, &left), TLS_RECORD_FAILED);
        cr_assert_eq(tls_ktls_end(rig.r, alert), 0);
        rig_free(&rig);
    }
}

Test(tls_ktls, only_the_kernels_suites_and_full_records_fit)
{
    FOR_SUITES(s)
    {
        uint32_t own = TLS_KTLS_SUITE(s->version, s->aead);
        struct rig rig = rig_new(s);
        cr_assert(tls_ktls_fits(rig.r, own));
        cr_assert_not(tls_ktls_fits(rig.r, ~own));
        cr_assert_not(tls_ktls_fits(rig.r, 0));
        struct tls_record_params p = rig_params(&rig.in, &rig.out);
        p.fragment_max = 512;
        cr_assert_eq(tls_record_init(rig.r, &p), 0);
        cr_assert_not(tls_ktls_fits(rig.r, own));
        rig_free(&rig);
    }
}

Test(tls_ktls, a_kernel_that_takes_no_next_key_gets_none_of_1_3)
{
    struct tls_ktls_probe p = {.suites = 0x3f};
    char text[TLS_KTLS_TEXT_MAX];

    cr_assert_str_eq(tls_ktls_text(tls_ktls_usable(&p), text),
                     "1.2 AES-128-GCM, 1.2 AES-256-GCM, 1.2 ChaCha20-Poly1305");
    p.rekeys = true;
    cr_assert_str_eq(tls_ktls_text(tls_ktls_usable(&p), text),
                     "1.2 AES-128-GCM, 1.2 AES-256-GCM, 1.2 ChaCha20-Poly1305, 1.3 AES-128-GCM, "
                     "1.3 AES-256-GCM, 1.3 ChaCha20-Poly1305");
    p.suites = TLS_KTLS_SUITE(TLS_VERSION_1_3, TLS_AEAD_AES_256_GCM);
    cr_assert_str_eq(tls_ktls_text(tls_ktls_usable(&p), text), "1.3 AES-256-GCM");
    cr_assert_str_eq(tls_ktls_text(0, text), "none");
}

/* The kernel that runs the test. */
Test(tls_ktls, the_probe_finds_suites_or_says_why_not)
{
    struct tls_ktls_probe p;

    tls_ktls_probe(&p);
    cr_assert_eq(p.suites == 0, p.err != 0);
    cr_assert(p.err != 0 || (p.suites & ~0x3fu) == 0);
    cr_assert_gt(strlen(tls_ktls_why(p.err != 0 ? p.err : -EIO)), 0);
}
