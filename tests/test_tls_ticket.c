/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Keys of tickets: shards agree by the clock alone, and what is older than two periods is lost. */

#include "net/tls_ticket.h"

#include <criterion/criterion.h>
#include <string.h>

#define PERIOD_NS 1000
#define START_NS 500

static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {1, 2, 3};
static const uint8_t nonce[TLS_AEAD_NONCE_BYTES] = {9};
static const uint8_t aad[] = "aad";

struct ticket {
    uint8_t name[TLS_TICKET_NAME_BYTES];
    uint8_t text[32];
    uint8_t tag[TLS_AEAD_TAG_BYTES];
};

static void at(struct tls_ticket_keys *k, uint64_t now_ns)
{
    cr_assert_eq(tls_ticket_init(k, seed, START_NS, PERIOD_NS), 0);
    cr_assert_eq(tls_ticket_advance(k, now_ns), 0);
}

static struct ticket seal(struct tls_ticket_keys *k)
{
    struct ticket t = {.text = "what a session is"};

    tls_ticket_seal(k, t.name, nonce, aad, sizeof(aad), t.text, sizeof(t.text), t.tag);
    cr_assert_neq(memcmp(t.text, "what", 4), 0);
    return t;
}

static bool open(struct tls_ticket_keys *k, struct ticket t)
{
    bool ok = tls_ticket_open(k, t.name, nonce, aad, sizeof(aad), t.text, sizeof(t.text), t.tag);

    cr_assert_eq(ok, strcmp((const char *)t.text, "what a session is") == 0);
    return ok;
}

Test(tls_ticket, shards_agree_however_they_came_to_a_time)
{
    static struct tls_ticket_keys a, b;

    at(&a, 0);
    for (uint64_t now = 0; now < 20 * PERIOD_NS; now += 130) {
        cr_assert_eq(tls_ticket_advance(&a, now), 0);
        at(&b, now);
        cr_assert(open(&b, seal(&a)));
        cr_assert(open(&a, seal(&b)));
        cr_assert_arr_eq(&a.last, &b.last, sizeof(a.last));
    }
}

Test(tls_ticket, a_ticket_is_good_in_its_period_and_the_next)
{
    static struct tls_ticket_keys k;
    struct ticket t;

    at(&k, START_NS);
    t = seal(&k);
    for (uint64_t now = START_NS; now < START_NS + 4 * PERIOD_NS; now += 100) {
        cr_assert_eq(tls_ticket_advance(&k, now), 0);
        cr_assert_eq(open(&k, t), now < START_NS + 2 * PERIOD_NS);
    }
    cr_assert_eq(tls_ticket_advance(&k, START_NS), 0, "a clock that steps back");
    cr_assert(!open(&k, t));
}

Test(tls_ticket, any_changed_bit_and_any_other_seed_refuse)
{
    static struct tls_ticket_keys k, other;
    static const uint8_t seed_2[TLS_TICKET_SEED_BYTES] = {4};
    struct ticket t;

    at(&k, START_NS);
    t = seal(&k);
    for (size_t bit = 0; bit < 8 * sizeof(t); bit++) {
        struct ticket bad = t;

        ((uint8_t *)&bad)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert(!tls_ticket_open(&k, bad.name, nonce, aad, sizeof(aad), bad.text,
                                   sizeof(bad.text), bad.tag));
    }
    cr_assert(!tls_ticket_open(&k, t.name, nonce, (const uint8_t *)"aae", sizeof(aad), t.text,
                               sizeof(t.text), t.tag));
    cr_assert_eq(tls_ticket_init(&other, seed_2, START_NS, PERIOD_NS), 0);
    cr_assert(!open(&other, t));
}

Test(tls_ticket, after_the_wipe_nothing_is_left)
{
    static struct tls_ticket_keys k, zero;

    at(&k, 7 * PERIOD_NS);
    (void)seal(&k);
    tls_ticket_wipe(&k);
    cr_assert_arr_eq(&k, &zero, sizeof(k));
}
