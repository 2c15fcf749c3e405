/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Virtual clients: their connection and what they send. In the simulation's one thread. */

#include "tests/sim/sim_user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <zlib.h>

#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_tls.h"

/* One frame of a fragmented message is at least this long, but for the last. */
#define FRAMES_MAX 12

/* Bytes ---------------------------------------------------------------------------------------- */

void user_buffer_add(struct user_buffer *b, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    if (b->pos == b->len)
        b->pos = b->len = 0;
    if (b->len + len > b->cap) {
        size_t cap = b->cap * 2 + len + 256;
        uint8_t *bigger = realloc(b->bytes, cap);

        CHECK(bigger != NULL);
        b->bytes = bigger;
        b->cap = cap;
    }
    memcpy(b->bytes + b->len, bytes, len);
    b->len += len;
}

void user_queue(struct user *u, const void *bytes, size_t len)
{
    user_buffer_add(&u->out, bytes, len);
}

bool user_has_output(const struct user *u)
{
    return u->out.pos < u->out.len || (u->tls != NULL && u->tls->wire.pos < u->tls->wire.len);
}

void user_drop_output(struct user *u)
{
    u->out.pos = u->out.len;
    if (u->tls != NULL)
        u->tls->plain = 0; /* of a begun record the rest must follow */
}

/* RFC 6455 5.2, 5.3. */
void user_queue_frame(struct user *u, uint8_t first, const uint8_t *payload, size_t len)
{
    uint8_t head[14] = {first};
    uint32_t key = (uint32_t)world_below(u->w, UINT32_MAX);
    size_t n = 2;
    uint8_t *at;

    if (len < 126) {
        head[1] = (uint8_t)(0x80 | len);
    } else if (len < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        n = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    memcpy(head + n, &key, 4);
    user_queue(u, head, n + 4);
    user_queue(u, payload, len);
    at = u->out.bytes + u->out.len - len;
    for (size_t i = 0; i < len; i++)
        at[i] ^= head[n + (i & 3)];
}

/* Beginning ------------------------------------------------------------------------------------ */

void user_upgrade(struct user *u)
{
    char text[512];
    char target[64];
    int n;

    if (user_is_echo(u))
        snprintf(target, sizeof(target), "/echo");
    else
        snprintf(target, sizeof(target), "/rooms/room%%20%u%s", u->room,
                 u->wants_echo ? "" : "?echo=0");
    n = snprintf(text, sizeof(text),
                 "GET %s HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                 "%s\r\n",
                 target,
                 u->offers_deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    user_queue(u, text, (size_t)n);
}

static struct user *connect_user(struct world *w, const struct io_addr *to, const char *ip)
{
    struct user *u = w->user_count < WORLD_USERS_MAX ? calloc(1, sizeof(*u)) : NULL;
    struct io_addr from;

    if (u == NULL)
        return NULL;
    CHECK(io_addr_parse(&from, ip, 40000) == 0);
    u->w = w;
    u->uid = w->user_count;
    u->intact = true;
    u->connect_ns = u->spoke_ns = world_now(w);
    for (uint32_t i = 0; i < WORLD_USERS_MAX; i++)
        u->expect[i] = -1;
    u->client = sim_client_connect(w->net, to, &from);
    CHECK(u->client != NULL);
    w->users[w->user_count++] = u;
    return u;
}

struct user *user_new(struct world *w, uint32_t room, bool wants_echo, bool offers_deflate,
                      const char *ip)
{
    struct user *u = connect_user(w, &w->address, ip);

    if (u == NULL)
        return NULL;
    u->room = room;
    u->wants_echo = wants_echo;
    u->offers_deflate = offers_deflate;
    return u;
}

struct user *user_new_tls(struct world *w, uint32_t room, bool wants_echo, bool offers_deflate,
                          const char *ip)
{
    struct user *u = connect_user(w, &w->tls_address, ip);

    if (u == NULL)
        return NULL;
    u->room = room;
    u->wants_echo = wants_echo;
    u->offers_deflate = offers_deflate;
    sim_tls_new(u);
    return u;
}

void user_free(struct user *u)
{
    sim_client_free(u->client);
    sim_tls_free(u);
    free(u->out.bytes);
    free(u->in.bytes);
    free(u->sent);
    free(u->got);
    free(u);
}

void user_request(struct user *u, const char *text)
{
    u->http_expected++;
    user_queue(u, text, strlen(text));
}

/* Messages ------------------------------------------------------------------------------------- */

static uint32_t note_sent(struct user *u, uint32_t len, bool text)
{
    struct world *w = u->w;

    if (u->sent_count == u->sent_cap) {
        uint32_t cap = u->sent_cap * 2 + 32;
        struct user_sent *bigger = realloc(u->sent, cap * sizeof(*bigger));

        CHECK(bigger != NULL);
        u->sent = bigger;
        u->sent_cap = cap;
    }
    w->time++;
    if (u->sent_count == 0)
        u->first_time = w->time;
    if (!user_is_echo(u))
        w->room_bytes[u->room] += len + 10 + SENDQ_REF_COST;
    u->sent[u->sent_count] = (struct user_sent){.len = len, .text = text};
    return u->sent_count++;
}

/* RFC 7692 7.2.1, without context. Returns the length; 0: it does not get smaller. */
static size_t compress_payload(const uint8_t *in, size_t len, uint8_t *out, size_t cap)
{
    z_stream z = {0};
    size_t n;

    if (deflateInit2(&z, 1, Z_DEFLATED, -9, 1, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    z.next_in = (uint8_t *)(uintptr_t)in;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    if (deflate(&z, Z_SYNC_FLUSH) != Z_OK || z.avail_in != 0 || z.avail_out == 0)
        n = 0;
    else
        n = cap - z.avail_out - 4; /* 00 00 ff ff stays away */
    deflateEnd(&z);
    return n;
}

/* In one frame or in several, cut anywhere, with pings in between. */
static void queue_frames(struct user *u, uint8_t opcode, bool rsv1, const uint8_t *p, size_t len)
{
    struct world *w = u->w;
    uint8_t first = (uint8_t)(opcode | (rsv1 ? 0x40 : 0));
    uint64_t frames = world_one_in(w, 3) ? 1 + world_below(w, FRAMES_MAX) : 1;

    frames = min_u64(frames, w->config.net.max_fragments);
    while (--frames > 0) {
        size_t n = world_below(w, len + 1);

        user_queue_frame(u, first, p, n);
        first = 0;
        p += n;
        len -= n;
        if (world_one_in(w, 4))
            user_ping(u);
    }
    user_queue_frame(u, first | 0x80, p, len);
}

void user_publish(struct user *u, uint32_t len, bool text)
{
    struct world *w = u->w;
    uint32_t seq;
    uint8_t *payload, *packed;
    size_t n = 0;

    if (!user_is_echo(u) && len < ORACLE_HEAD_BYTES)
        len = ORACLE_HEAD_BYTES;
    seq = note_sent(u, len, text);
    payload = malloc(2 * (size_t)len + 1024);
    CHECK(payload != NULL);
    packed = payload + len;
    oracle_payload(w, u->uid, seq, len, text, payload);
    if (u->deflate && world_one_in(w, 2))
        n = compress_payload(payload, len, packed, (size_t)len + 1024);
    if (n > 0 && n <= w->config.net.max_message_bytes)
        queue_frames(u, text ? 1 : 2, true, packed, n);
    else
        queue_frames(u, text ? 1 : 2, false, payload, len);
    free(payload);
    u->sent[seq].out_end = u->out_sent + (u->out.len - u->out.pos);
}

void user_ping(struct user *u)
{
    uint8_t payload[125];
    uint32_t n = u->pings_sent++;

    memset(payload, (int)(n & 0xff), sizeof(payload));
    user_queue_frame(u, 0x89, payload, n * 37 % 126);
}

void user_close(struct user *u, uint16_t code)
{
    uint8_t payload[5] = {(uint8_t)(code >> 8), (uint8_t)code, 'b', 'y', 'e'};

    if (u->close_sent)
        return;
    u->close_sent = true;
    user_queue_frame(u, 0x88, payload, sizeof(payload));
}

void user_leave(struct user *u, bool reset)
{
    u->intact = false;
    u->state = USER_DONE;
    if (reset)
        sim_client_reset(u->client);
    else
        sim_client_close(u->client);
}

void user_fin(struct user *u)
{
    u->fin_sent = true;
    u->intact = false;
    if (u->state == USER_OPEN)
        u->state = USER_ENDING;
    sim_client_shutdown(u->client);
}

/* Ends ----------------------------------------------------------------------------------------- */

static void cut(struct user *u)
{
    u->cut_at = 0;
    user_drop_output(u);
    u->fate_done = true;
    if (u->fate == FATE_FIN)
        user_fin(u);
    else
        user_leave(u, u->fate == FATE_RESET);
}

/* At the end of what it had to say. */
static void meet_fate(struct user *u)
{
    u->fate_done = true;
    switch (u->fate) {
    case FATE_CLOSE:
        u->intact = false;
        u->state = USER_ENDING;
        u->expected_code = 1000;
        user_close(u, 1000);
        return;
    case FATE_FIN:
        if (u->tls != NULL)
            sim_tls_end(u);
        else
            user_fin(u);
        return;
    case FATE_VIOLATE:
        u->intact = false;
        u->state = USER_ENDING;
        if (u->tls != NULL && world_one_in(u->w, 2))
            sim_tls_violate(u);
        else
            script_violate(u);
        return;
    default:
        user_leave(u, u->fate == FATE_RESET);
    }
}

static bool is_fated(const struct user *u)
{
    return u->fate != FATE_STAY && !u->fate_done && u->cut_at == 0 && u->todo == 0 &&
           u->state == USER_OPEN && !user_has_output(u);
}

/* Visits --------------------------------------------------------------------------------------- */

static bool visit_read(struct user *u)
{
    uint8_t chunk[8192];
    struct world *w = u->w;
    size_t max = u->read_max != 0 && w->storm ? 1 + world_below(w, u->read_max) : sizeof(chunk);
    size_t n;

    if (w->storm && world_now(w) < u->read_ns)
        return false;
    n = sim_client_recv(u->client, chunk, min_size(max, sizeof(chunk)));
    if (n == 0)
        return false;
    world_note(w, chunk, n);
    if (u->tls != NULL)
        sim_tls_input(u, chunk, n);
    else
        user_buffer_add(&u->in, chunk, n);
    if (w->storm && u->read_pause_ns != 0 && world_one_in(w, 3))
        u->read_ns = world_now(w) + world_below(w, u->read_pause_ns);
    user_parse(u);
    return true;
}

/* The wire is empty: the record's plaintext has left, or the last word. */
static void wire_sent(struct user *u)
{
    struct sim_tls *t = u->tls;

    u->out.pos += t->plain;
    u->out_sent += t->plain;
    t->plain = 0;
    if (t->ending == SIM_TLS_THEN_FIN)
        user_fin(u);
    else if (t->ending == SIM_TLS_THEN_NOTHING)
        u->fin_sent = true;
}

/* Ends where its fate has it: behind a record, or within the last one. */
static bool cuts_wire(struct user *u)
{
    const struct sim_tls *t = u->tls;

    if (u->cut_at == 0 || u->out_sent + t->plain != u->cut_at)
        return false;
    return t->wire.pos == t->wire.len || (t->plain > 0 && t->wire.pos > 0 && world_one_in(u->w, 3));
}

static bool visit_write_tls(struct user *u)
{
    struct world *w = u->w;
    struct sim_tls *t = u->tls;
    size_t len, n;

    if (u->fin_sent || (w->storm && world_now(w) < u->write_ns))
        return false;
    sim_tls_fill(u, u->cut_at != 0 ? u->cut_at - u->out_sent : SIZE_MAX);
    len = t->wire.len - t->wire.pos;
    if (len == 0 && (u->cut_at == 0 || u->out.pos == u->out.len))
        return false;
    if (len > 0 && w->storm && world_one_in(w, 4))
        len = 1 + world_below(w, len);
    n = len > 0 ? sim_client_send(u->client, t->wire.bytes + t->wire.pos, len) : 0;
    t->wire.pos += n;
    if (n > 0)
        u->spoke_ns = world_now(w);
    if (n > 0 && t->wire.pos == t->wire.len)
        wire_sent(u);
    if (cuts_wire(u)) {
        cut(u);
        return true;
    }
    if (w->storm && world_one_in(w, 16))
        u->write_ns = world_now(w) + world_below(w, 5 * NS_PER_MS);
    return n > 0;
}

static bool visit_write(struct user *u)
{
    struct world *w = u->w;
    size_t len = u->out.len - u->out.pos;
    size_t n;

    if (u->tls != NULL)
        return visit_write_tls(u);
    if (len == 0 || u->fin_sent || (w->storm && world_now(w) < u->write_ns))
        return false;
    if (w->storm && world_one_in(w, 4))
        len = 1 + world_below(w, len);
    if (u->cut_at != 0)
        len = min_size(len, u->cut_at - u->out_sent);
    n = len > 0 ? sim_client_send(u->client, u->out.bytes + u->out.pos, len) : 0;
    u->out.pos += n;
    u->out_sent += n;
    if (n > 0)
        u->spoke_ns = world_now(w);
    if (u->cut_at != 0 && u->out_sent == u->cut_at) {
        cut(u);
        return true;
    }
    if (w->storm && world_one_in(w, 16))
        u->write_ns = world_now(w) + world_below(w, 5 * NS_PER_MS);
    return n > 0;
}

/* The connection's own end. */
static bool visit_end(struct user *u)
{
    enum sim_client_state st = sim_client_state(u->client);

    if (st == SIM_CLIENT_OPEN)
        return false;
    if (st == SIM_CLIENT_REFUSED) {
        if (!u->w->draining)
            world_fail(u->w, "user %u was refused: nobody listens", u->uid);
    } else {
        oracle_disconnected(u, st == SIM_CLIENT_RESET);
    }
    u->intact = false;
    u->state = USER_DONE;
    if (u->ended_ns == 0)
        u->ended_ns = world_now(u->w);
    sim_client_close(u->client);
    return true;
}

static bool may_act(const struct user *u)
{
    return u->w->storm && u->todo > 0 &&
           (u->state == USER_OPEN || (u->state == USER_CONNECTING && u->is_eager));
}

bool user_visit(struct user *u)
{
    bool busy;

    if (u->state == USER_DONE)
        return false;
    busy = visit_read(u);
    if (u->state != USER_DONE && visit_write(u))
        busy = true;
    if (u->state != USER_DONE && (!u->w->storm || world_now(u->w) >= u->read_ns) && visit_end(u))
        return true;
    if (u->state == USER_DONE)
        return busy;
    if (may_act(u) && world_now(u->w) >= u->act_ns) {
        script_act(u);
        return true;
    }
    if (is_fated(u)) {
        meet_fate(u);
        return true;
    }
    return busy;
}

uint64_t user_next_ns(const struct user *u)
{
    uint64_t now_ns = world_now(u->w);
    uint64_t next_ns = IO_FOREVER;

    if (u->state == USER_DONE || !u->w->storm)
        return IO_FOREVER;
    if (u->read_ns > now_ns)
        next_ns = u->read_ns;
    if (u->write_ns > now_ns)
        next_ns = min_u64(next_ns, u->write_ns);
    if (u->act_ns > now_ns && may_act(u))
        next_ns = min_u64(next_ns, u->act_ns);
    return next_ns;
}
