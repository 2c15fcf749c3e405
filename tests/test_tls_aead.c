/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The AEADs: published vectors, whole and in pieces, wrong tags, and what a context keeps; AES-GCM
 * by the processor's instructions and by nettle. The module is compiled into this test, so that
 * the processor's can be denied. */

#include "net/tls_gcm.h"

static bool has_instructions;

static bool tls_gcm_is_really_available(void)
{
    return tls_gcm_is_available();
}

#define tls_gcm_is_available() has_instructions
#include "net/tls_aead.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef tls_gcm_is_available

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 128

static void use_instructions(void)
{
    has_instructions = tls_gcm_is_really_available();
}

TestSuite(tls_aead, .init = use_instructions);

/* All in hexadecimal. */
static const struct vector {
    const char *source;
    enum tls_aead aead;
    const char *key, *nonce, *aad, *plain, *cipher, *tag;
} vectors[] = {
    {"GCM specification, test case 1", TLS_AEAD_AES_128_GCM, "00000000000000000000000000000000",
     "000000000000000000000000", "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"},
    {"GCM specification, test case 2", TLS_AEAD_AES_128_GCM, "00000000000000000000000000000000",
     "000000000000000000000000", "", "00000000000000000000000000000000",
     "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"},
    {"GCM specification, test case 4", TLS_AEAD_AES_128_GCM, "feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
     "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
     "5bc94fbc3221a5db94fae95ae7121a47"},
    {"GCM specification, test case 13", TLS_AEAD_AES_256_GCM,
     "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
     "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"GCM specification, test case 14", TLS_AEAD_AES_256_GCM,
     "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
     "", "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18",
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {"GCM specification, test case 16", TLS_AEAD_AES_256_GCM,
     "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    {"RFC 8439 2.8.2", TLS_AEAD_CHACHA20_POLY1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
     "73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
     "6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
     "637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
     "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
     "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
     "3ff4def08e4b7a9de576d26586cec64b6116",
     "1ae10b594f09e26a7e902ecbd0600691"},
};

#define FOR_VECTORS(v) for (const struct vector *v = vectors; v < vectors + ARRAY_LEN(vectors); v++)

static size_t unhex(const char *text, uint8_t *out)
{
    size_t n = strlen(text) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned int value;
        cr_assert_eq(sscanf(text + 2 * i, "%2x", &value), 1);
        out[i] = (uint8_t)value;
    }
    return n;
}

/* Loads and starts a message of v. Returns a copy of the text in memory of exactly its size. */
static uint8_t *begin(struct tls_aead_ctx *c, const struct vector *v, bool sealing, size_t *len)
{
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX], nonce[TLS_AEAD_NONCE_BYTES], aad[TEXT_MAX], in[TEXT_MAX];
    cr_assert_eq(unhex(v->key, key), tls_aead_key_bytes(v->aead));
    cr_assert_eq(unhex(v->nonce, nonce), sizeof nonce);
    *len = unhex(sealing ? v->plain : v->cipher, in);
    uint8_t *text = malloc(*len + 1);
    cr_assert_not_null(text);
    memcpy(text + 1, in, *len);
    tls_aead_load(c, v->aead, key);
    tls_aead_start(c, sealing, nonce, aad, unhex(v->aad, aad));
    return text;
}

static void expect_end(struct tls_aead_ctx *c, const struct vector *v, bool sealing, uint8_t *text,
                       size_t len)
{
    uint8_t good[TEXT_MAX], good_tag[TLS_AEAD_TAG_BYTES], tag[TLS_AEAD_TAG_BYTES];
    tls_aead_tag(c, tag);
    unhex(v->tag, good_tag);
    cr_assert_eq(unhex(sealing ? v->cipher : v->plain, good), len);
    cr_assert_eq(memcmp(text + 1, good, len), 0, "%s", v->source);
    cr_assert(tls_aead_is_same(tag, good_tag), "%s", v->source);
    free(text);
}

static void check_vectors(void)
{
    static struct tls_aead_ctx c;
    FOR_VECTORS(v)
    {
        for (int sealing = 0; sealing < 2; sealing++) {
            size_t len;
            uint8_t *text = begin(&c, v, sealing, &len);
            tls_aead_crypt(&c, text + 1, len);
            expect_end(&c, v, sealing, text, len);
        }
    }
    tls_aead_wipe(&c);
}

Test(tls_aead, published_vectors_come_out_both_ways)
{
    check_vectors();
    has_instructions = false;
    check_vectors();
}

/* Seals text in three pieces and leaves its tag. */
static void seal_in_pieces(enum tls_aead aead, uint8_t *text, const size_t ends[3], uint8_t *tag)
{
    static struct tls_aead_ctx c;
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX] = {1, 2}, nonce[TLS_AEAD_NONCE_BYTES] = {3};
    tls_aead_load(&c, aead, key);
    tls_aead_start(&c, true, nonce, key, 13);
    for (size_t i = 0, done = 0; i < 3; done = ends[i++])
        tls_aead_crypt(&c, text + done, ends[i] - done);
    tls_aead_tag(&c, tag);
    tls_aead_wipe(&c);
}

Test(tls_aead, pieces_give_the_same_as_the_whole)
{
    enum { LEN = 700 };
    for (int aead = 0; aead < TLS_AEAD_COUNT; aead++) {
        for (size_t len = 0; len <= LEN; len += 7) {
            uint8_t whole[LEN] = {0}, tag[TLS_AEAD_TAG_BYTES];
            seal_in_pieces((enum tls_aead)aead, whole, (size_t[]){0, 0, len}, tag);
            for (size_t a = 0; a <= len; a += TLS_AEAD_PIECE_BYTES) {
                for (size_t b = a; b <= len; b += TLS_AEAD_PIECE_BYTES) {
                    uint8_t text[LEN] = {0}, other[TLS_AEAD_TAG_BYTES];
                    seal_in_pieces((enum tls_aead)aead, text, (size_t[]){a, b, len}, other);
                    cr_assert_eq(memcmp(text, whole, LEN), 0);
                    cr_assert(tls_aead_is_same(tag, other));
                }
            }
        }
    }
}

/* Without the instructions nettle stands in. */
Test(tls_aead, both_ways_to_aes_gcm_give_the_same)
{
    for (int aead = 0; aead < TLS_AEAD_CHACHA20_POLY1305; aead++) {
        for (size_t len = 0; len <= 300; len++) {
            uint8_t text[2][300] = {0}, tag[2][TLS_AEAD_TAG_BYTES];
            for (int i = 0; i < 2; i++) {
                has_instructions = i == 0 && tls_gcm_is_really_available();
                seal_in_pieces((enum tls_aead)aead, text[i], (size_t[]){0, len / 64 * 64, len},
                               tag[i]);
            }
            cr_assert_eq(memcmp(text[0], text[1], sizeof text[0]), 0);
            cr_assert(tls_aead_is_same(tag[0], tag[1]));
        }
    }
}

Test(tls_aead, a_context_changes_hands_between_aeads)
{
    static struct tls_aead_ctx c;
    for (size_t i = 0; i < 100; i++) {
        const struct vector *v = &vectors[i * 5 % ARRAY_LEN(vectors)];
        size_t len;
        uint8_t *text = begin(&c, v, i % 2, &len);
        tls_aead_crypt(&c, text + 1, len);
        expect_end(&c, v, i % 2, text, len);
    }
}

/* AES-256 expands to more bytes than AES-128. */
Test(tls_aead, another_aead_finds_nothing_of_the_former_key)
{
    static struct tls_aead_ctx used, fresh;
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX], other[TLS_AEAD_KEY_BYTES_MAX];
    memset(key, 0x5a, sizeof key);
    memset(other, 0xc3, sizeof other);
    for (int former = 0; former < TLS_AEAD_COUNT; former++) {
        for (int aead = 0; aead < TLS_AEAD_COUNT; aead++) {
            if (aead == former)
                continue;
            tls_aead_load(&used, (enum tls_aead)former, key);
            tls_aead_load(&used, (enum tls_aead)aead, other);
            tls_aead_load(&fresh, (enum tls_aead)aead, other);
            cr_assert_eq(memcmp(&used, &fresh, sizeof used), 0, "%d after %d", aead, former);
            tls_aead_wipe(&used);
            tls_aead_wipe(&fresh);
        }
    }
}

Test(tls_aead, tags_differ_by_any_bit)
{
    uint8_t tag[TLS_AEAD_TAG_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    uint8_t other[TLS_AEAD_TAG_BYTES];
    for (size_t bit = 0; bit < 8 * sizeof tag; bit++) {
        memcpy(other, tag, sizeof tag);
        cr_assert(tls_aead_is_same(tag, other));
        other[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert(!tls_aead_is_same(tag, other));
        cr_assert(!tls_aead_is_same(other, tag));
    }
}

Test(tls_aead, a_changed_bit_changes_the_tag)
{
    static struct tls_aead_ctx c;
    FOR_VECTORS(v)
    {
        for (size_t bit = 0; bit < strlen(v->cipher) * 4; bit++) {
            uint8_t tag[TLS_AEAD_TAG_BYTES], good[TLS_AEAD_TAG_BYTES];
            size_t len;
            uint8_t *text = begin(&c, v, false, &len);
            text[1 + bit / 8] ^= (uint8_t)(1 << bit % 8);
            tls_aead_crypt(&c, text + 1, len);
            tls_aead_tag(&c, tag);
            unhex(v->tag, good);
            cr_assert(!tls_aead_is_same(tag, good));
            free(text);
        }
    }
}

Test(tls_aead, a_context_knows_its_key_until_it_is_wiped)
{
    static struct tls_aead_ctx c, zero;
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX] = {7};
    for (int aead = 0; aead < TLS_AEAD_COUNT; aead++) {
        for (int other = 0; other < TLS_AEAD_COUNT; other++) {
            tls_aead_load(&c, (enum tls_aead)aead, key);
            cr_assert_eq(tls_aead_has(&c, (enum tls_aead)other, key), aead == other);
        }
        for (size_t i = 0; i < tls_aead_key_bytes((enum tls_aead)aead); i++) {
            key[i] ^= 0x80;
            cr_assert(!tls_aead_has(&c, (enum tls_aead)aead, key));
            key[i] ^= 0x80;
        }
        tls_aead_wipe(&c);
        cr_assert(!tls_aead_has(&c, (enum tls_aead)aead, key));
        cr_assert_eq(memcmp(&c, &zero, sizeof c), 0);
    }
}
