/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* AES-GCM by the processor's instructions, beside nettle's: every length, piece and key size, both
 * ways, in memory of exactly the size. Without the instructions there is nothing to test; vectors
 * are in test_tls_aead.c. */

#include "net/tls_gcm.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <nettle/gcm.h>

#define TAG 16

struct input {
    uint8_t key[32];
    uint8_t nonce[12];
    uint8_t aad[64];
    size_t key_bytes, aad_len, len;
    bool sealing;
};

static uint32_t seed = 1;

static uint8_t next_byte(void)
{
    seed = seed * 1664525 + 1013904223;
    return (uint8_t)(seed >> 24);
}

static void fill(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = next_byte();
}

static struct input new_input(size_t key_bytes, size_t aad_len, size_t len, bool sealing)
{
    struct input in = {.key_bytes = key_bytes, .aad_len = aad_len, .len = len, .sealing = sealing};

    fill(in.key, sizeof(in.key));
    fill(in.nonce, sizeof(in.nonce));
    fill(in.aad, sizeof(in.aad));
    return in;
}

#define BY_NETTLE(aes)                                                                             \
    do {                                                                                           \
        struct gcm_##aes##_ctx c;                                                                  \
        gcm_##aes##_set_key(&c, in->key);                                                          \
        gcm_##aes##_set_iv(&c, sizeof(in->nonce), in->nonce);                                      \
        gcm_##aes##_update(&c, in->aad_len, in->aad);                                              \
        if (in->sealing)                                                                           \
            gcm_##aes##_encrypt(&c, in->len, p, p);                                                \
        else                                                                                       \
            gcm_##aes##_decrypt(&c, in->len, p, p);                                                \
        gcm_##aes##_digest(&c, TAG, tag);                                                          \
    } while (0)

static void by_nettle(const struct input *in, uint8_t *p, uint8_t *tag)
{
    if (in->key_bytes == 16)
        BY_NETTLE(aes128);
    else
        BY_NETTLE(aes256);
}

/* In two pieces. */
static void by_instructions(struct tls_gcm *g, const struct input *in, size_t first, uint8_t *p,
                            uint8_t *tag)
{
    tls_gcm_load(g, in->key, in->key_bytes);
    tls_gcm_start(g, in->nonce, in->aad, in->aad_len);
    for (int i = 0; i < 2; i++) {
        uint8_t *piece = i == 0 ? p : p + first;
        size_t len = i == 0 ? first : in->len - first;

        if (in->sealing)
            tls_gcm_encrypt(g, piece, len);
        else
            tls_gcm_decrypt(g, piece, len);
    }
    tls_gcm_tag(g, tag);
}

static void compare(const struct input *in, size_t first)
{
    static struct tls_gcm g; /* changes its key each time */
    uint8_t *ours = malloc(in->len), *theirs = malloc(in->len), tag[2][TAG];

    fill(ours, in->len);
    memcpy(theirs, ours, in->len);
    by_instructions(&g, in, first, ours, tag[0]);
    by_nettle(in, theirs, tag[1]);
    cr_assert_eq(memcmp(ours, theirs, in->len), 0, "%zu bytes, %zu first", in->len, first);
    cr_assert_arr_eq(tag[0], tag[1], TAG, "%zu bytes, %zu first", in->len, first);
    free(ours);
    free(theirs);
}

static bool is_absent(void)
{
    if (!tls_gcm_is_available())
        cr_skip("this processor lacks the instructions");
    return false;
}

Test(tls_gcm, every_length_gives_what_nettle_gives)
{
    if (is_absent())
        return;
    for (size_t len = 0; len <= 520; len++) {
        for (int way = 0; way < 4; way++) {
            struct input in = new_input(way & 1 ? 32 : 16, 5, len, way & 2);
            compare(&in, 0);
        }
    }
    for (size_t len = 4080; len <= 4100; len++) {
        struct input in = new_input(16, 13, len, true);
        compare(&in, 0);
    }
}

Test(tls_gcm, every_length_of_what_is_authenticated_beside_counts)
{
    if (is_absent())
        return;
    for (size_t aad_len = 0; aad_len <= 64; aad_len++) {
        struct input in = new_input(16, aad_len, 40, true);
        compare(&in, 0);
    }
}

Test(tls_gcm, pieces_give_the_same_as_the_whole)
{
    if (is_absent())
        return;
    for (size_t len = 0; len <= 400; len += 3) {
        for (size_t first = 0; first <= len; first += 16) {
            struct input in = new_input(len & 1 ? 32 : 16, 5, len, first & 16);
            compare(&in, first);
        }
    }
}

Test(tls_gcm, many_keys_give_what_nettle_gives)
{
    if (is_absent())
        return;
    for (int i = 0; i < 5000; i++) {
        struct input in = new_input(i & 1 ? 32 : 16, 5, 126, i & 2);
        compare(&in, 0);
    }
}

/* What short messages need not compute must not stay from a former key. */
Test(tls_gcm, nothing_of_the_former_key_stays)
{
    static struct tls_gcm used, fresh;
    static uint8_t text[256];
    uint8_t former[16] = {1}, key[16] = {2}, nonce[12] = {3}, tag[TAG];

    if (is_absent())
        return;
    tls_gcm_load(&used, former, sizeof(former));
    tls_gcm_start(&used, nonce, nonce, 5);
    tls_gcm_encrypt(&used, text, sizeof(text));
    tls_gcm_tag(&used, tag);
    tls_gcm_load(&used, key, sizeof(key));
    tls_gcm_load(&fresh, key, sizeof(key));
    tls_gcm_start(&used, nonce, nonce, 5);
    tls_gcm_start(&fresh, nonce, nonce, 5);
    cr_assert_eq(memcmp(&used, &fresh, sizeof(used)), 0);
}
