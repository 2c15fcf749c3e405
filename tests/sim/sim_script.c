/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What users do in the storm: when, how much, and how they end. In the simulation's one thread. */

#include <string.h>

#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_user.h"

/* Messages of one user and wave. */
#define TODO_MAX 12
/* Messages at once: more than one send's spans, or a hub's first table of what waits. */
#define BURST_MAX 90

static enum user_fate draw_fate(struct world *w)
{
    static const uint8_t fates[] = {FATE_CLOSE, FATE_CLOSE, FATE_FIN,    FATE_FIN,
                                    FATE_ABORT, FATE_RESET, FATE_VIOLATE};

    return world_one_in(w, 2) ? FATE_STAY : (enum user_fate)fates[world_below(w, ARRAY_LEN(fates))];
}

static bool cuts(enum user_fate fate)
{
    return fate == FATE_FIN || fate == FATE_ABORT || fate == FATE_RESET;
}

/* Who reads slowly, or pauses. */
static void draw_reading(struct user *u)
{
    struct world *w = u->w;

    u->read_max = world_one_in(w, 4) ? 1 + (uint32_t)world_below(w, 300) : 0;
    u->read_pause_ns = world_one_in(w, 3) ? NS_PER_MS << world_below(w, 9) : 0;
    u->mute = world_one_in(w, 16);
}

static void draw_lengths(struct user *u)
{
    const struct world *w = u->w;
    uint64_t max = min_u64(w->config.net.max_message_bytes, 70000);

    if (w->faults.buffer_max_bytes != 0 && w->faults.buffer_max_bytes < 512)
        max = min_u64(max, 1500);
    if (u->deflate || u->offers_deflate)
        max = min_u64(max, 20000);
    u->len_max = (uint32_t)max;
}

void script_draw(struct user *u)
{
    struct world *w = u->w;

    draw_reading(u);
    draw_lengths(u);
    u->fate = (uint8_t)draw_fate(w);
    if (cuts(u->fate) && world_one_in(w, 6)) /* right behind the handshake, or what waits */
        u->cut_at = u->out_sent + (u->out.len - u->out.pos) + world_below(w, 2);
    else if (cuts(u->fate) && world_one_in(w, 2))
        u->cut_at = u->out_sent + 1 + world_below(w, 1u << world_below(w, 12));
    u->todo = (uint32_t)world_below(w, TODO_MAX);
    u->burst = world_one_in(w, 3) ? TODO_MAX : 1;
    u->is_eager = world_one_in(w, 3);
    if (world_one_in(w, user_is_echo(u) ? 3 : 16)) {
        u->todo = u->burst = 66 + (uint32_t)world_below(w, BURST_MAX - 66);
        u->len_max = min_u32(u->len_max, 40);
    }
    u->act_ns = world_now(w) + world_below(w, 3 * NS_PER_MS);
}

static uint32_t draw_length(struct user *u)
{
    static const uint32_t edges[] = {125, 126, 127, 128, 65535, 65536, 4096, 16384};
    struct world *w = u->w;
    uint64_t len;

    switch (world_below(w, 24)) {
    case 0:
        len = world_below(w, u->len_max + 1ull);
        break;
    case 1:
    case 2:
        len = edges[world_below(w, ARRAY_LEN(edges))];
        break;
    case 3:
        len = u->len_max;
        break;
    case 4:
        len = world_below(w, 4);
        break;
    default:
        len = 8 + world_below(w, 300);
    }
    return (uint32_t)min_u64(len, u->len_max);
}

void script_act(struct user *u)
{
    struct world *w = u->w;
    uint32_t n = min_u32(u->todo, u->burst);

    u->todo -= n;
    while (n-- > 0)
        user_publish(u, draw_length(u), world_one_in(w, 2));
    if (world_one_in(w, 6))
        user_ping(u);
    u->act_ns = world_now(w);
    if (world_one_in(w, 2))
        u->act_ns += world_below(w, 4 * NS_PER_MS);
}

/* Violations ----------------------------------------------------------------------------------- */

static void violate_deflate(struct user *u)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff};

    user_queue_frame(u, 0xc1, garbage, sizeof(garbage));
    u->expected_code = u->deflate ? 1007 : 1002;
}

static void violate_size(struct user *u)
{
    uint64_t len = u->w->config.net.max_message_bytes + 1;
    uint8_t head[14] = {0x82, 0x80 | 127};

    for (int i = 0; i < 8; i++)
        head[2 + i] = (uint8_t)(len >> (56 - 8 * i));
    if (len < 126) {
        head[1] = (uint8_t)(0x80 | len);
        user_queue(u, head, 6);
    } else if (len < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        user_queue(u, head, 8);
    } else {
        user_queue(u, head, 14);
    }
    u->expected_code = 1009;
}

void script_violate(struct user *u)
{
    static const struct {
        uint8_t first;
        uint8_t len;
        uint16_t code;
        char bytes[4];
    } rows[] = {
        {0xa1, 1, 1002, "a"},        /* RSV2 */
        {0x83, 1, 1002, "a"},        /* opcode */
        {0x89, 126, 1002, ""},       /* long control frame */
        {0x09, 1, 1002, "a"},        /* fragmented control frame */
        {0x80, 1, 1002, "a"},        /* continues nothing */
        {0x81, 2, 1007, "\xc3\x28"}, /* not UTF-8 */
        {0x81, 2, 1007, "\xed\xa0"}, /* a surrogate, and cut */
        {0x88, 2, 1002, "\x03\xed"}, /* close with 1005 */
        {0x88, 1, 1002, "a"},        /* close with half a code */
        {0x88, 3, 1007, "\x03\xe8\xff"},
    };
    uint8_t payload[126] = {0};
    uint64_t kind = world_below(u->w, ARRAY_LEN(rows) + 4);

    if (kind == ARRAY_LEN(rows)) {
        user_queue(u, "\x81\x01x", 3); /* no mask */
        u->expected_code = 1002;
    } else if (kind == ARRAY_LEN(rows) + 1) {
        user_queue_frame(u, 0x01, (const uint8_t *)"a", 1);
        user_queue_frame(u, 0x81, (const uint8_t *)"b", 1); /* within a message */
        u->expected_code = 1002;
    } else if (kind == ARRAY_LEN(rows) + 2) {
        violate_deflate(u);
    } else if (kind == ARRAY_LEN(rows) + 3) {
        violate_size(u);
    } else {
        memcpy(payload, rows[kind].bytes, 4);
        user_queue_frame(u, rows[kind].first, payload, rows[kind].len);
        u->expected_code = rows[kind].code;
    }
    u->close_sent = true; /* nothing more is said */
}
