/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The line before a shard's inflater, in a whole server on the simulated io. */

#include "net/inflate.h"

#include "tests/server_fixture.h"

#define BIG_BYTES (1u << 20)

static void rig_new(struct rig *r)
{
    static char *argv[] = {"tidewire",      "--echo", "--compress",      "on",
                           "--max-message", "1MiB",   "--max-queue",     "4MiB",
                           "--turn-budget", "100us",  "--ping-interval", "0"};

    rig_init(r, ARRAY_LEN(argv), argv);
}

static void turn_until_quiet(struct rig *r)
{
    for (int i = 0; i < 200 || net_of(r)->inflating != NULL; i++)
        turn(r);
}

/* A compressed message, masked with zeros. */
static void send_packed(struct rig *r, struct client *c, uint8_t opcode, const uint8_t *plain,
                        size_t len)
{
    struct deflate *deflate = deflate_new();
    uint8_t *frame = calloc(1, deflate_bound(len) + 14);
    size_t packed;

    cr_assert_eq(deflate_compress(deflate, 15, plain, len, frame + 8, &packed), 0);
    cr_assert(packed >= 126 && packed < 65536, "%zu", packed);
    frame[0] = 0xc0 | opcode; /* FIN, RSV1 */
    frame[1] = 0x80 | 126;
    frame[2] = (uint8_t)(packed >> 8);
    frame[3] = (uint8_t)packed;
    client_send(r, c, frame, packed + 8);
    deflate_free(deflate);
    free(frame);
}

/* A compressed binary message of `len` times `fill`. */
static void send_compressed(struct rig *r, struct client *c, uint8_t fill, size_t len)
{
    uint8_t *plain = malloc(len);

    memset(plain, fill, len);
    send_packed(r, c, WS_OP_BINARY, plain, len);
    free(plain);
}

static void send_small(struct rig *r, struct client *c, uint8_t what)
{
    const uint8_t frame[] = {0x82, 0x81, 0, 0, 0, 0, what};

    client_send(r, c, frame, sizeof(frame));
}

/* Whether the next answer of c is an uncompressed message of `len` times `fill`. */
static bool got(struct client *c, uint8_t fill, size_t len)
{
    uint8_t *p = c->in + c->seen;
    size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;

    client_recv(c);
    if (c->in_len < c->seen + head + len)
        return false;
    cr_assert_eq(p[0], 0x82);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(p[head + i], fill);
    c->seen += head + len;
    return true;
}

/* The same, in time. */
static bool gets(struct rig *r, struct client *c, uint8_t fill, size_t len)
{
    for (int i = 0; i < 2000; i++) {
        if (got(c, fill, len))
            return true;
        turn(r);
    }
    return false;
}

Test(inflate, a_large_message_takes_many_turns_and_others_are_served_meanwhile)
{
    struct rig r;
    struct client big, small;
    int waited = 0;

    rig_new(&r);
    big = client_open(&r, "/echo");
    small = client_open(&r, "/echo");
    send_compressed(&r, &big, 'b', BIG_BYTES);
    turns(&r, 5);
    cr_assert_eq(net_of(&r)->inflating->holds, CONN_HOLD_INFLATE);
    send_small(&r, &small, 's');
    while (!got(&small, 's', 1)) {
        turn(&r);
        cr_assert_lt(++waited, 10);
    }
    cr_assert_not_null(net_of(&r)->inflating, "the large one is not through yet");
    turn_until_quiet(&r);
    cr_assert(gets(&r, &big, 'b', BIG_BYTES));
    client_free(&big);
    client_free(&small);
    rig_deinit(&r);
}

Test(inflate, a_turn_inflates_no_more_than_its_budget)
{
    struct rig r;
    struct client c;
    uint64_t steps = 0;

    rig_new(&r);
    cr_assert_eq(net_of(&r)->turn_work, 100 * WORK_BYTES_PER_US);
    c = client_open(&r, "/echo");
    send_compressed(&r, &c, 'x', BIG_BYTES);
    turns(&r, 5);
    while (net_of(&r)->inflating != NULL) {
        turn(&r);
        steps++;
    }
    cr_assert_geq(steps + 5, BIG_BYTES / net_of(&r)->turn_work);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &c, 'x', BIG_BYTES));
    client_free(&c);
    rig_deinit(&r);
}

Test(inflate, messages_of_one_connection_keep_their_order)
{
    struct rig r;
    struct client c;

    rig_new(&r);
    c = client_open(&r, "/echo");
    send_compressed(&r, &c, '1', 200000);
    send_small(&r, &c, '2');
    send_compressed(&r, &c, '3', 200000);
    send_small(&r, &c, '4');
    turn_until_quiet(&r);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &c, '1', 200000));
    cr_assert(gets(&r, &c, '2', 1));
    cr_assert(gets(&r, &c, '3', 200000));
    cr_assert(gets(&r, &c, '4', 1));
    client_free(&c);
    rig_deinit(&r);
}

/* First come, first served; and whoever goes leaves the line, wherever it stands. */
Test(inflate, who_leaves_the_line_lets_the_others_go_on)
{
    for (uint32_t leaver = 0; leaver < 3; leaver++) {
        struct rig r;
        struct client c[3];

        rig_new(&r);
        for (uint32_t i = 0; i < 3; i++)
            c[i] = client_open(&r, "/echo");
        for (uint32_t i = 0; i < 3; i++)
            send_compressed(&r, &c[i], (uint8_t)('a' + i), 400000);
        turns(&r, 5);
        sim_client_reset(c[leaver].sim);
        turn_until_quiet(&r);
        for (uint32_t i = 0; i < 3; i++)
            cr_assert_eq(gets(&r, &c[i], (uint8_t)('a' + i), 400000), i != leaver);
        for (uint32_t i = 0; i < 3; i++)
            client_free(&c[i]);
        rig_deinit(&r);
    }
}

/* At whatever point of inflating and copying. */
Test(inflate, one_that_leaves_amid_its_message_leaves_nothing_behind)
{
    for (int after = 5; after < 80; after += 3) {
        struct rig r;
        struct client gone, other;

        rig_new(&r);
        gone = client_open(&r, "/echo");
        other = client_open(&r, "/echo");
        send_compressed(&r, &gone, 'g', BIG_BYTES);
        send_compressed(&r, &other, 'o', 300000);
        turns(&r, after);
        sim_client_reset(gone.sim);
        turn_until_quiet(&r);
        cr_assert(gets(&r, &other, 'o', 300000));
        client_free(&gone);
        client_free(&other);
        rig_deinit(&r);
    }
}

/* At whatever point; nobody comes after it who would have the buffer made smaller. */
Test(inflate, one_that_leaves_amid_its_message_takes_the_inflaters_buffer_along)
{
    for (int after = 8; after < 80; after += 3) {
        struct rig r;
        struct client gone;
        uint64_t before;

        rig_new(&r);
        gone = client_open(&r, "/echo");
        send_compressed(&r, &gone, 'g', 150000);
        turn_until_quiet(&r);
        before = deflate_memory_bytes(net_of(&r)->deflate);
        send_compressed(&r, &gone, 'g', BIG_BYTES);
        turns(&r, after);
        sim_client_reset(gone.sim);
        turn_until_quiet(&r);
        cr_assert_leq(deflate_memory_bytes(net_of(&r)->deflate), before, "%d", after);
        client_free(&gone);
        rig_deinit(&r);
    }
}

/* Sequences of three bytes, cut by slices anywhere; what is wrong is at `wrong`, or nowhere. */
static void send_text(struct rig *r, struct client *c, size_t len, size_t wrong)
{
    uint8_t *plain = malloc(len);

    for (size_t i = 0; i < len; i++)
        plain[i] = (uint8_t[]){0xe2, 0x82, 0xac}[i % 3]; /* euro signs */
    if (wrong < len)
        plain[wrong] = 0xff;
    send_packed(r, c, WS_OP_TEXT, plain, len);
    free(plain);
}

Test(inflate, a_long_text_is_checked_slice_by_slice)
{
    const size_t len = 300000 * 3;
    const struct {
        size_t len, wrong;
        bool good;
    } rows[] = {{len, len, true},      {len, 0, false},       {len, len / 2, false},
                {len, len - 1, false}, {len - 1, len, false}, {len - 2, len, false}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig r;
        struct client c;
        uint64_t turns_copying = 0;

        rig_new(&r);
        c = client_open(&r, "/echo");
        send_text(&r, &c, rows[i].len, rows[i].wrong);
        turns(&r, 5);
        while (net_of(&r)->inflating != NULL) {
            turn(&r);
            turns_copying += net_of(&r)->inflate_copy.to != NULL;
        }
        for (int k = 0; k < 500; k++) {
            turn(&r);
            client_recv(&c);
        }
        if (rows[i].good) {
            cr_assert_gt(turns_copying, 2);
            cr_assert_eq(c.in[c.seen], 0x81);
            cr_assert_eq(c.in_len - c.seen, 10 + len);
            cr_assert_eq(memcmp(c.in + c.in_len - 3, "\xe2\x82\xac", 3), 0);
        } else {
            cr_assert_eq(memcmp(c.in + c.seen, "\x88", 1), 0);
            cr_assert_eq(memcmp(c.in + c.seen + 2, "\x03\xef", 2), 0, "1007");
        }
        client_free(&c);
        rig_deinit(&r);
    }
}

Test(inflate, a_bomb_in_line_ends_its_connection_alone)
{
    struct rig r;
    struct client bomb, other;

    rig_new(&r);
    bomb = client_open(&r, "/echo");
    other = client_open(&r, "/echo");
    send_compressed(&r, &bomb, 'b', BIG_BYTES + 1);
    send_compressed(&r, &other, 'o', 300000);
    turn_until_quiet(&r);
    cr_assert(gets(&r, &other, 'o', 300000));
    cr_assert(client_was_ended(&bomb));
    cr_assert_eq(memcmp(bomb.in + bomb.seen, "\x88", 1), 0);
    cr_assert_eq(memcmp(bomb.in + bomb.seen + 2, "\x03\xf1", 2), 0, "1009");
    client_free(&bomb);
    client_free(&other);
    rig_deinit(&r);
}

/* The answers of c: how many are compressed, how many not. */
static void count_answers(struct client *c, uint32_t *compressed, uint32_t *plain)
{
    client_recv(c);
    while (c->in_len - c->seen >= 4) {
        const uint8_t *p = c->in + c->seen;
        size_t len = p[1] < 126 ? 2u + p[1] : 4u + ((size_t)p[2] << 8 | p[3]);

        if (c->in_len - c->seen < len)
            return;
        *(p[0] & 0x40 ? compressed : plain) += 1;
        c->seen += len;
    }
}

/* All of a turn's messages together; what does not fit is sent as it is, and in its order. */
Test(inflate, a_turn_compresses_no_more_than_its_budget)
{
    enum { MESSAGES = 100, BYTES = 1000 };
    static uint8_t frames[MESSAGES * (BYTES + 8)];
    uint64_t most = 100 * WORK_BYTES_PER_US / WORK_PER_COMPRESSED / BYTES; /* in a turn */
    uint32_t compressed = 0, plain = 0;
    struct rig r;
    struct client c;

    rig_new(&r);
    c = client_open(&r, "/echo");
    for (int i = 0; i < MESSAGES; i++) {
        const uint8_t head[] = {0x82, 0x80 | 126, BYTES >> 8, BYTES & 0xff, 0, 0, 0, 0};

        memcpy(frames + (size_t)i * (BYTES + 8), head, sizeof(head));
    }
    client_send(&r, &c, frames, sizeof(frames));
    for (int i = 0; i < 100; i++) {
        uint64_t before = stat_of(&r, NET_STAT_COMPRESSED);

        turn(&r);
        cr_assert_leq(stat_of(&r, NET_STAT_COMPRESSED) - before, most);
        count_answers(&c, &compressed, &plain);
    }
    cr_assert_eq(compressed + plain, MESSAGES);
    cr_assert_geq(compressed, most);
    cr_assert_gt(plain, 0);
    cr_assert_eq(stat_of(&r, NET_STAT_COMPRESSED), compressed);
    cr_assert_eq(stat_of(&r, NET_STAT_COMPRESS_SKIPPED), plain);
    client_free(&c);
    rig_deinit(&r);
}

Test(inflate, a_stop_empties_the_line)
{
    struct rig r;
    struct client c[2];

    rig_new(&r);
    for (uint32_t i = 0; i < 2; i++) {
        c[i] = client_open(&r, "/echo");
        send_compressed(&r, &c[i], 'z', BIG_BYTES);
    }
    turns(&r, 3);
    cr_assert_not_null(net_of(&r)->inflating);
    client_free(&c[0]);
    client_free(&c[1]);
    rig_deinit(&r);
}
