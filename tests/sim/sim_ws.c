/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What a user reads: HTTP answers, then the server's frames, each looked at closely. In the
 * simulation's one thread. */

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_tls.h"
#include "tests/sim/sim_user.h"

/* A frame of the server's. */
struct frame {
    uint8_t first; /* FIN, RSV, opcode */
    const uint8_t *payload;
    size_t len;
};

/* Answers -------------------------------------------------------------------------------------- */

/* A number behind `name` in a head that ends with a zero. */
static size_t header_number(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);

    return at == NULL ? 0 : strtoul(at + strlen(name), NULL, 10);
}

static void upgraded(struct user *u, const char *head)
{
    /* RFC 6455 1.3: the answer to the key that all users send. */
    if (strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") == NULL)
        world_fail(u->w, "user %u: the handshake's answer proves nothing: %s", u->uid, head);
    u->deflate = strcasestr(head, "permessage-deflate") != NULL;
    if (u->deflate && !u->offers_deflate)
        world_fail(u->w, "user %u was given an extension that it did not offer", u->uid);
    if (u->state == USER_CONNECTING)
        u->state = USER_OPEN;
}

static void answered(struct user *u, const char *head)
{
    u->http_status = (uint16_t)strtoul(head + 9, NULL, 10);
    u->http_seen++;
    if (u->http_status == 101) {
        if (u->http_seen != u->http_expected + 1)
            world_fail(u->w, "user %u: %u answers before the upgrade's, not %u", u->uid,
                       u->http_seen - 1, u->http_expected);
        upgraded(u, head);
    } else if (u->is_http) {
        u->intact = false;
    } else if (u->http_seen > u->http_expected || (u->http_status == 503 && u->w->crowded)) {
        u->intact = false; /* refused; the end follows */
        if (!u->w->crowded && !u->w->draining && !u->w->lossy && u->http_status != 408)
            world_fail(u->w, "user %u: its upgrade was answered with %u", u->uid, u->http_status);
    }
}

/* Returns whether there was a whole answer. */
static bool parse_answer(struct user *u)
{
    struct user_buffer *b = &u->in;
    const uint8_t *begin = b->bytes + b->pos;
    const uint8_t *end = memmem(begin, b->len - b->pos, "\r\n\r\n", 4);
    size_t head_len, body_len;
    char *head;

    if (end == NULL)
        return false;
    head_len = (size_t)(end - begin) + 4;
    head = strndup((const char *)begin, head_len);
    CHECK(head != NULL);
    body_len = header_number(head, "\r\nContent-Length: ");
    if (head_len + body_len > b->len - b->pos) {
        free(head);
        return false;
    }
    b->pos += head_len + body_len;
    if (strncmp(head, "HTTP/1.1 ", 9) != 0)
        world_fail(u->w, "user %u: this is no answer: %.40s", u->uid, head);
    answered(u, head);
    free(head);
    return true;
}

/* Frames --------------------------------------------------------------------------------------- */

/* RFC 7692 7.2.2. */
static void inflate_payload(struct user *u, const struct frame *f)
{
    static const uint8_t tail[4] = {0, 0, 0xff, 0xff};
    uint8_t *in = malloc(f->len + 4), *out = malloc(ORACLE_MESSAGE_MAX);
    z_stream z = {0};
    int r;

    CHECK(in != NULL && out != NULL);
    memcpy(in, f->payload, f->len);
    memcpy(in + f->len, tail, 4);
    CHECK(inflateInit2(&z, -15) == Z_OK);
    z.next_in = in;
    z.avail_in = (uInt)f->len + 4;
    z.next_out = out;
    z.avail_out = ORACLE_MESSAGE_MAX;
    r = inflate(&z, Z_SYNC_FLUSH);
    if (r != Z_OK || z.avail_in != 0)
        world_fail(u->w, "user %u got a compressed message that is none (%d)", u->uid, r);
    else
        oracle_received(u, out, ORACLE_MESSAGE_MAX - z.avail_out, (f->first & 15) == 1);
    inflateEnd(&z);
    free(in);
    free(out);
}

static void got_pong(struct user *u, const struct frame *f)
{
    uint32_t n = u->pongs_seen++;
    bool same = n < u->pings_sent && f->len == n * 37 % 126;

    for (size_t i = 0; same && i < f->len; i++)
        same = f->payload[i] == (n & 0xff);
    if (u->tls != NULL)
        sim_tls_on_pong(u, n);
    if (!same)
        world_fail(u->w, "user %u: pong %u answers no ping of its %u", u->uid, n, u->pings_sent);
}

static void got_close(struct user *u, const struct frame *f)
{
    uint16_t code = f->len >= 2 ? (uint16_t)(f->payload[0] << 8 | f->payload[1]) : 0;

    u->close_seen = true;
    u->close_code = code;
    u->ended_ns = world_now(u->w);
    oracle_closed(u, code);
    u->intact = false;
    if (u->state == USER_OPEN) {
        u->state = USER_ENDING;
        user_drop_output(u); /* what a frame has begun with is lost as well */
        if (!u->fin_sent)
            user_close(u, code);
    }
}

static void got_control(struct user *u, const struct frame *f)
{
    switch (f->first & 15) {
    case 8:
        got_close(u, f);
        return;
    case 9:
        u->pings_seen++;
        u->pinged_ns = world_now(u->w);
        if (u->state == USER_OPEN && !u->mute &&
            (u->pong_every == 0 || u->pings_seen % u->pong_every == 0))
            user_queue_frame(u, 0x8a, f->payload, f->len);
        return;
    case 10:
        got_pong(u, f);
        return;
    default:
        world_fail(u->w, "user %u got a frame with opcode %u", u->uid, f->first & 15);
    }
}

/* RFC 6455 5.1, 5.2, 5.5: what a server may send, and what this one sends. */
static void got_frame(struct user *u, const struct frame *f)
{
    uint8_t opcode = f->first & 15;

    if (u->close_seen)
        world_fail(u->w, "user %u got a frame behind the close frame", u->uid);
    else if ((f->first & 0x80) == 0 || (f->first & 0x30) != 0)
        world_fail(u->w, "user %u got a frame that begins with %02x", u->uid, f->first);
    else if ((f->first & 0x40) != 0 && (!u->deflate || opcode >= 8))
        world_fail(u->w, "user %u got RSV1 without the extension", u->uid);
    else if (opcode >= 8 && f->len > 125)
        world_fail(u->w, "user %u got a control frame of %zu bytes", u->uid, f->len);
    else if (opcode >= 8)
        got_control(u, f);
    else if (opcode != 1 && opcode != 2)
        world_fail(u->w, "user %u got a data frame with opcode %u", u->uid, opcode);
    else if (f->first & 0x40)
        inflate_payload(u, f);
    else
        oracle_received(u, f->payload, f->len, opcode == 1);
}

/* Returns the length of the frame's head, or 0: not whole yet. */
static size_t parse_head(struct user *u, const uint8_t *p, size_t have, size_t *len)
{
    uint64_t n = 0;

    if (have < 2)
        return 0;
    if (p[1] & 0x80)
        world_fail(u->w, "user %u got a masked frame", u->uid);
    if (p[1] < 126) {
        *len = p[1];
        return 2;
    }
    if (have < (p[1] == 126 ? 4u : 10u))
        return 0;
    for (int i = 0; i < (p[1] == 126 ? 2 : 8); i++)
        n = n << 8 | p[2 + i];
    if (n < (p[1] == 126 ? 126 : 65536) || n > ORACLE_MESSAGE_MAX)
        world_fail(u->w, "user %u got a frame of %llu bytes, so encoded", u->uid,
                   (unsigned long long)n);
    *len = n;
    return p[1] == 126 ? 4 : 10;
}

static bool parse_frame(struct user *u)
{
    struct user_buffer *b = &u->in;
    const uint8_t *p = b->bytes + b->pos;
    size_t have = b->len - b->pos, len;
    size_t head = parse_head(u, p, have, &len);
    struct frame f;

    if (head == 0 || u->w->failure[0] != '\0' || have - head < len)
        return false;
    f = (struct frame){.first = p[0], .payload = p + head, .len = len};
    b->pos += head + len;
    got_frame(u, &f);
    return true;
}

void user_parse(struct user *u)
{
    while (u->in.pos < u->in.len && u->w->failure[0] == '\0') {
        if (u->http_status == 101 ? !parse_frame(u) : !parse_answer(u))
            return;
    }
}
