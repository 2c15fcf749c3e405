/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Judges what users got. In the simulation's one thread.
 *
 * Nobody but the home knows the order of a room's messages, so members are compared with each
 * other. A member's view is a stretch of that order, from its joining to its end, without its own
 * messages if it wants no echo. So for any two members A and B:
 *  - what both got, both got in the same order;
 *  - what B got between two messages that A got (or behind A's first own one, or, when A was well
 *    to the end, behind A's last), A got too.
 * And of each sender a member gets consecutive numbers; who was well to the end gets the last. */

#include "tests/sim/sim_oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_tls.h"

/* How user.got holds a message. */
#define SEQ_BITS 20
#define SEQ_MASK ((1u << SEQ_BITS) - 1)

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/* Payloads ------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t next(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15u);
}

static void fill_binary(uint64_t *state, uint8_t *out, uint32_t len)
{
    while (len >= 8) {
        uint64_t word = next(state);

        memcpy(out, &word, 8);
        out += 8;
        len -= 8;
    }
    for (uint64_t word = next(state); len > 0; len--, word >>= 8)
        *out++ = (uint8_t)word;
}

/* Characters of one to four bytes. */
static void fill_text(uint64_t *state, uint8_t *out, uint32_t len)
{
    static const char *const chars[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8c\x8a"};
    uint64_t word = 0;

    for (uint32_t i = 0; len > 0; i++) {
        uint32_t n;

        if (i % 16 == 0)
            word = next(state);
        n = (uint32_t)(word & 3) + 1;
        word >>= 4;
        if (n > len)
            n = 1;
        memcpy(out, chars[n - 1], n);
        out += n;
        len -= n;
    }
}

/* Something that compresses. */
static void fill_repeated(uint64_t *state, uint8_t *out, uint32_t len)
{
    uint64_t word = next(state);

    for (uint32_t i = 0; i < len; i++)
        out[i] = (uint8_t)digits[(word >> (i % 7 * 6)) & 63];
}

void oracle_payload(const struct world *w, uint32_t uid, uint32_t seq, uint32_t len, bool text,
                    uint8_t *out)
{
    uint64_t state = mix(mix(w->seed ^ ((uint64_t)uid << 40) ^ ((uint64_t)seq << 8)) ^ len) + text;
    uint64_t sum = mix(state);

    if (len >= ORACLE_HEAD_BYTES) {
        *out++ = (uint8_t)digits[uid >> 6 & 63];
        *out++ = (uint8_t)digits[uid & 63];
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = (uint8_t)digits[seq >> shift & 63];
        *out++ = (uint8_t)digits[sum & 63];
        *out++ = (uint8_t)digits[sum >> 6 & 63];
        len -= ORACLE_HEAD_BYTES;
    }
    if ((sum >> 12) % 3 == 0)
        fill_repeated(&state, out, len);
    else if (text)
        fill_text(&state, out, len);
    else
        fill_binary(&state, out, len);
}

static uint32_t number_of(const uint8_t *p, int count)
{
    uint32_t n = 0;

    while (count-- > 0) {
        const char *at = strchr(digits, *p);

        if (*p == '\0' || at == NULL)
            return UINT32_MAX;
        n = n << 6 | (uint32_t)(at - digits);
        p++;
    }
    return n;
}

/* Arrivals ------------------------------------------------------------------------------------- */

static bool is_unchanged(struct user *u, const struct user *from, uint32_t seq,
                         const uint8_t *payload, size_t len, bool text)
{
    uint8_t *expected = u->w->scratch;
    const struct user_sent *s = &from->sent[seq];

    if (s->len == len && s->text == text) {
        oracle_payload(u->w, from->uid, seq, s->len, s->text, expected);
        if (memcmp(expected, payload, len) == 0)
            return true;
    }
    world_fail(
        u->w, "user %u got message %u of user %u changed: %zu bytes of %s instead of %u of %s",
        u->uid, seq, from->uid, len, text ? "text" : "binary", s->len, s->text ? "text" : "binary");
    return false;
}

static void received_echo(struct user *u, const uint8_t *payload, size_t len, bool text)
{
    if (u->echo_next >= u->sent_count)
        world_fail(u->w, "user %u got an echo of what it never sent: %zu bytes", u->uid, len);
    else if (is_unchanged(u, u, u->echo_next, payload, len, text))
        u->echo_next++;
}

static void note_got(struct user *u, uint32_t uid, uint32_t seq)
{
    if (u->got_count == u->got_cap) {
        uint32_t cap = u->got_cap * 2 + 64;
        uint32_t *bigger = realloc(u->got, cap * sizeof(*bigger));

        CHECK(bigger != NULL);
        u->got = bigger;
        u->got_cap = cap;
    }
    u->got[u->got_count++] = uid << SEQ_BITS | seq;
}

static void received_in_room(struct user *u, const struct user *from, uint32_t seq)
{
    int32_t *expect = &u->expect[from->uid];

    if (from->room != u->room)
        world_fail(u->w, "user %u of room %u got message %u of user %u of room %u", u->uid, u->room,
                   seq, from->uid, from->room);
    else if (from == u && !u->wants_echo)
        world_fail(u->w, "user %u wants no echo and got its own message %u", u->uid, seq);
    else if (*expect >= 0 && (uint32_t)*expect != seq)
        world_fail(u->w, "user %u got message %u of user %u where %d was due", u->uid, seq,
                   from->uid, *expect);
    else if (from == u && *expect < 0 && seq != 0)
        world_fail(u->w, "user %u got its own message %u first", u->uid, seq);
    *expect = (int32_t)seq + 1;
    note_got(u, from->uid, seq);
    if (u->joined_time == 0)
        u->joined_time = u->w->time;
}

void oracle_received(struct user *u, const uint8_t *payload, size_t len, bool text)
{
    struct world *w = u->w;
    uint32_t uid, seq;

    if (user_is_echo(u)) {
        received_echo(u, payload, len, text);
        return;
    }
    uid = len < ORACLE_HEAD_BYTES ? UINT32_MAX : number_of(payload, 2);
    seq = len < ORACLE_HEAD_BYTES ? UINT32_MAX : number_of(payload + 2, 4);
    if (uid >= w->user_count || seq >= w->users[uid]->sent_count) {
        world_fail(w, "user %u got %zu bytes that nobody sent", u->uid, len);
        return;
    }
    if (is_unchanged(u, w->users[uid], seq, payload, len, text))
        received_in_room(u, w->users[uid], seq);
}

/* Calm ----------------------------------------------------------------------------------------- */

/* What u still waits for from s, or NULL. */
static bool waits_for(const struct user *u, const struct user *s)
{
    if (u->room != s->room || (u == s && !u->wants_echo) || !user_is_alive(s))
        return false;
    return s->sent_count > 0 && u->expect[s->uid] != (int32_t)s->sent_count;
}

static bool is_settled(struct user *u, const struct user **missing)
{
    struct world *w = u->w;

    *missing = NULL;
    if (u->state == USER_DONE)
        return true;
    if (u->state != USER_OPEN || user_has_output(u) || u->is_http)
        return false;
    if (u->pongs_seen != u->pings_sent)
        return false;
    if (user_is_echo(u))
        return u->echo_next == u->sent_count;
    for (uint32_t i = 0; i < w->user_count; i++) {
        if (waits_for(u, w->users[i])) {
            *missing = w->users[i];
            return false;
        }
    }
    return true;
}

bool oracle_is_settled(struct world *w)
{
    const struct user *missing;

    for (uint32_t i = 0; i < w->user_count; i++) {
        if (!is_settled(w->users[i], &missing))
            return false;
    }
    return true;
}

void oracle_explain(struct world *w, char *text, size_t cap)
{
    static const char *const states[] = {"connecting", "open", "ending", "done"};
    const struct user *missing;

    for (uint32_t i = 0; i < w->user_count; i++) {
        struct user *u = w->users[i];

        if (is_settled(u, &missing))
            continue;
        if (missing != NULL)
            snprintf(text, cap, "user %u of room %u waits for message %d of user %u, of %u", u->uid,
                     u->room, u->expect[missing->uid], missing->uid, missing->sent_count);
        else
            snprintf(text, cap,
                     "user %u (%s%s, fate %u) has %zu bytes unsent, %u of %u echoes, %u of %u "
                     "pongs",
                     u->uid, states[u->state], user_is_echo(u) ? ", echo" : "", u->fate,
                     u->out.len - u->out.pos, u->echo_next, user_is_echo(u) ? u->sent_count : 0,
                     u->pongs_seen, u->pings_sent);
        return;
    }
    snprintf(text, cap, "nothing is missing");
}

/* Rooms ---------------------------------------------------------------------------------------- */

/* Where each message stands in A's view, plus 1; 0: nowhere. */
struct places {
    uint32_t *table;
    uint32_t stride; /* messages per sender */
};

static uint32_t *place_of(const struct places *p, uint32_t id)
{
    return &p->table[(id >> SEQ_BITS) * p->stride + (id & SEQ_MASK)];
}

static void places_make(struct places *p, const struct user *a)
{
    struct world *w = a->w;

    p->stride = 1;
    for (uint32_t i = 0; i < w->user_count; i++)
        p->stride = p->stride > w->users[i]->sent_count ? p->stride : w->users[i]->sent_count;
    p->table = calloc((size_t)p->stride * WORLD_USERS_MAX, sizeof(*p->table));
    CHECK(p->table != NULL);
    for (uint32_t i = 0; i < a->got_count; i++)
        *place_of(p, a->got[i]) = i + 1;
}

/* The last of B's that A got, as an index + 1. */
static uint32_t last_common(const struct places *p, const struct user *b)
{
    uint32_t i = b->got_count;

    while (i > 0 && *place_of(p, b->got[i - 1]) == 0)
        i--;
    return i;
}

/* Walks B's view beside A's. */
static void compare(const struct user *a, const struct places *p, const struct user *b)
{
    uint32_t due_end = user_is_alive(a) ? b->got_count : last_common(p, b);
    uint32_t at = 0;
    bool joined = false;

    for (uint32_t i = 0; i < due_end; i++) {
        uint32_t uid = b->got[i] >> SEQ_BITS, seq = b->got[i] & SEQ_MASK;
        uint32_t place = *place_of(p, b->got[i]);

        joined |= uid == a->uid || place != 0;
        if (place != 0 && place <= at)
            world_fail(a->w, "users %u and %u got message %u of user %u in different orders",
                       a->uid, b->uid, seq, uid);
        if (place == 0 && joined && (uid != a->uid || a->wants_echo))
            world_fail(a->w, "user %u has lost message %u of user %u, which user %u got", a->uid,
                       seq, uid, b->uid);
        if (place != 0)
            at = place;
    }
}

/* Everything of one whose end is known to have come behind all of it. */
static void check_sender(const struct user *a, const struct user *s)
{
    uint32_t due = 0;

    if (!s->clean || s->room != a->room || s == a || a->joined_time == 0 ||
        a->joined_time >= s->first_time)
        return;
    while (due < s->sent_count && s->sent[due].out_end <= s->out_sent)
        due++;
    if (due > 0 && a->expect[s->uid] != (int32_t)due)
        world_fail(a->w, "user %u got user %u's messages up to %d, not all %u that it sent", a->uid,
                   s->uid, a->expect[s->uid], due);
}

void oracle_check_rooms(struct world *w)
{
    for (uint32_t i = 0; i < w->user_count && world_failure(w) == NULL; i++) {
        const struct user *a = w->users[i];
        struct places p;

        if (user_is_echo(a) || a->got_count == 0)
            continue;
        places_make(&p, a);
        for (uint32_t k = 0; k < w->user_count; k++) {
            const struct user *b = w->users[k];

            if (k != i && b->room == a->room)
                compare(a, &p, b);
            if (user_is_alive(a))
                check_sender(a, b);
        }
        free(p.table);
    }
}

/* Ends ----------------------------------------------------------------------------------------- */

static bool may_be_slow(const struct user *u)
{
    const struct world *w = u->w;
    uint64_t bytes = 0;

    if (user_is_echo(u)) {
        bytes = u->out.len + (140 + SENDQ_REF_COST) * u->pings_sent;
        for (uint32_t i = 0; i < u->sent_count; i++)
            bytes += u->sent[i].len + 10 + SENDQ_REF_COST;
    } else {
        bytes = w->room_bytes[u->room] + (140 + SENDQ_REF_COST) * u->pings_sent;
    }
    bytes += 512 * (u->http_expected + 1ull);
    if (u->tls != NULL)
        bytes += u->tls->terms.flight_bytes[0] + u->tls->terms.flight_bytes[1];
    return w->lossy || bytes > w->config.net.max_queue_bytes;
}

static bool policy_is_possible(const struct user *u)
{
    const struct net_config *c = &u->w->config.net;
    uint64_t now_ns = world_now(u->w);

    if (u->w->lossy || now_ns - u->connect_ns >= c->message_timeout_ns)
        return true;
    return c->ping_interval_ns != 0 && now_ns - u->spoke_ns >= c->pong_timeout_ns / 2;
}

static bool code_is_possible(const struct user *u, uint16_t code)
{
    switch (code) {
    case 1008:
        return policy_is_possible(u);
    case 1012:
        return u->w->draining || sim_tls_wears(u);
    case 1013:
        return may_be_slow(u) || (u->w->crowded && u->got_count == 0);
    default:
        return false;
    }
}

void oracle_closed(struct user *u, uint16_t code)
{
    if (u->expected_code != 0 && code == u->expected_code)
        u->clean = !u->w->lossy && u->cut_at == 0;
    else if (!code_is_possible(u, code))
        world_fail(u->w, "user %u (fate %u, room %u) was closed with %u, expected %u", u->uid,
                   u->fate, u->room, code, u->expected_code);
}

/* A handshake may have lost its slot; what was still on its way then is answered by a reset. */
static bool slot_was_lost(const struct user *u)
{
    return u->tls != NULL && u->w->hurried && u->tls->phase != SIM_TLS_OPEN;
}

/* Resets may come of the network's faults, of our own ends with something under way, and where the
 * server gives up waiting. */
static bool reset_is_possible(const struct user *u)
{
    return u->w->faults.reset != 0 || u->w->faults.accept_error != 0 || !u->intact || u->like_tls ||
           u->w->draining || u->w->crowded || may_be_slow(u) || policy_is_possible(u) ||
           slot_was_lost(u) ||
           world_now(u->w) - u->connect_ns >= u->w->config.net.handshake_timeout_ns;
}

/* RFC 8446 6.1: who has keys tells the peer of the end, by close_notify or an alert. What ends
 * while the peer's close frame is awaited, or for want of room and time, may end without. */
static bool end_is_announced(const struct user *u)
{
    return u->tls == NULL || u->tls->phase != SIM_TLS_OPEN || sim_tls_is_ended(u) ||
           u->w->faults.reset != 0 || u->w->draining || u->w->crowded || may_be_slow(u) ||
           policy_is_possible(u) || sim_tls_wears(u);
}

static bool eof_is_possible(const struct user *u)
{
    return u->w->faults.reset != 0 || u->w->lossy || u->close_seen || u->fin_sent || u->is_http ||
           u->w->draining || u->w->crowded || (u->expected_code != 0) || u->http_status >= 400 ||
           (u->tls != NULL && sim_tls_wants_end(u)) || slot_was_lost(u) ||
           world_now(u->w) - u->connect_ns >= u->w->config.net.handshake_timeout_ns;
}

void oracle_disconnected(struct user *u, bool reset)
{
    if (reset ? !reset_is_possible(u) : !eof_is_possible(u))
        world_fail(u->w,
                   "user %u (fate %u, state %u, HTTP status %u) was %s, no reason given; resets at "
                   "a rate of %u",
                   u->uid, u->fate, u->state, u->http_status, reset ? "reset" : "cut off",
                   u->w->faults.reset);
    if (!reset && !end_is_announced(u))
        world_fail(u->w, "user %u (fate %u, state %u) was cut off without close_notify", u->uid,
                   u->fate, u->state);
    if (reset)
        u->clean = false;
    else if (u->fin_sent && !u->close_seen && u->state != USER_CONNECTING)
        u->clean = !u->w->lossy && u->w->faults.reset == 0;
}
