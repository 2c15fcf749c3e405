/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Clients of several nodes. In the simulation's one thread. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_nodes.h"

/* uid, number, checksum of the filler. */
#define HEAD_BYTES 16

static void grow(uint8_t **bytes, size_t *cap, size_t need)
{
    if (*bytes != NULL && need <= *cap)
        return;
    *cap = need * 2 + 256;
    *bytes = realloc(*bytes, *cap);
    CHECK(*bytes != NULL);
}

static void queue(struct peer *p, const void *bytes, size_t len)
{
    if (p->out_pos == p->out_len)
        p->out_pos = p->out_len = 0;
    grow(&p->out, &p->out_cap, p->out_len + len);
    memcpy(p->out + p->out_len, bytes, len);
    p->out_len += len;
}

struct peer *peer_new(struct nodes *c, uint32_t node, uint32_t room, bool wants_echo)
{
    struct peer *p = c->peer_count < PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;
    struct io_addr from;
    char text[256];
    int n;

    CHECK(p != NULL);
    CHECK(io_addr_parse(&from, "10.0.0.1", 40000) == 0);
    *p = (struct peer){
        .c = c, .uid = c->peer_count, .node = node, .room = room, .wants_echo = wants_echo};
    p->client = sim_client_connect(c->net, &c->nodes[node].address, &from);
    CHECK(p->client != NULL);
    n = snprintf(text, sizeof(text),
                 "GET /rooms/r%u%s HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: "
                 "Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Version: 13\r\n\r\n",
                 room, wants_echo ? "" : "?echo=0");
    queue(p, text, (size_t)n);
    c->peers[c->peer_count++] = p;
    return p;
}

void peer_free(struct peer *p)
{
    sim_client_free(p->client);
    free(p->got);
    free(p->out);
    free(p->in);
    free(p);
}

static uint8_t filler(uint32_t uid, uint32_t number, uint32_t i)
{
    return (uint8_t)('a' + (uid * 7 + number * 3 + i) % 26);
}

void peer_publish(struct peer *p, uint32_t len)
{
    uint8_t head[8] = {0x82, 0xfe}; /* binary, masked with 0, RFC 6455 5.2 */
    uint8_t text[PEER_TEXT_MAX];

    len = min_u32(len < HEAD_BYTES ? HEAD_BYTES : len, PEER_TEXT_MAX);
    snprintf((char *)text, HEAD_BYTES, "%03u:%07u:   ", p->uid, p->sent);
    for (uint32_t i = HEAD_BYTES - 1; i < len; i++)
        text[i] = filler(p->uid, p->sent, i);
    if (len < 126) {
        head[1] = (uint8_t)(0x80 | len);
        queue(p, head, 2);
    } else {
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        queue(p, head, 4);
    }
    queue(p, head + 4, 4);
    queue(p, text, len);
    p->sent++;
    p->c->messages++;
}

/* What came
 * -------------------------------------------------------------------------------------- */

static void note(struct peer *p, uint32_t uid, uint32_t number)
{
    if (p->got_count == p->got_cap) {
        p->got_cap = p->got_cap * 2 + 64;
        p->got = realloc(p->got, p->got_cap * sizeof(*p->got));
        CHECK(p->got != NULL);
    }
    p->got[p->got_count++] = uid << 20 | number;
    p->c->hash = (p->c->hash ^ (uid << 20 | number) ^ nodes_now(p->c)) * 0x9e3779b97f4a7c15u;
}

static void on_message(struct peer *p, const uint8_t *text, size_t len)
{
    unsigned uid, number;

    if (len < HEAD_BYTES || sscanf((const char *)text, "%03u:%07u:", &uid, &number) != 2 ||
        uid >= p->c->peer_count || number >= p->c->peers[uid]->sent ||
        p->c->peers[uid]->room != p->room) {
        nodes_fail(p->c, "peer %u got a message that nobody has published", p->uid);
        return;
    }
    for (uint32_t i = HEAD_BYTES - 1; i < len; i++) {
        if (text[i] != filler(uid, number, i)) {
            nodes_fail(p->c, "peer %u got message %u:%u changed", p->uid, uid, number);
            return;
        }
    }
    note(p, uid, number);
}

/* One frame of the server at the beginning of in; its length, 0: not whole yet. */
static size_t take_frame(struct peer *p)
{
    size_t len, head = 2;

    if (p->in_len < 2)
        return 0;
    len = p->in[1];
    if (len == 126) {
        head = 4;
        len = p->in_len < 4 ? 0 : (size_t)p->in[2] << 8 | p->in[3];
    }
    if (p->in_len < head || p->in_len < head + len)
        return 0;
    if ((p->in[0] & 15) == 2)
        on_message(p, p->in + head, len);
    else if ((p->in[0] & 15) == 8)
        p->close_code = len >= 2 ? (uint16_t)(p->in[head] << 8 | p->in[head + 1]) : 1005;
    else if ((p->in[0] & 15) != 9)
        nodes_fail(p->c, "peer %u got an odd frame %02x", p->uid, p->in[0]);
    return head + len;
}

static size_t take_head(struct peer *p)
{
    uint8_t *end = memmem(p->in, p->in_len, "\r\n\r\n", 4);

    if (end == NULL)
        return 0;
    if (memcmp(p->in, "HTTP/1.1 101", 12) != 0)
        nodes_fail(p->c, "peer %u was answered %.12s", p->uid, p->in);
    p->is_open = true;
    return (size_t)(end + 4 - p->in);
}

static bool visit_read(struct peer *p)
{
    size_t n;

    grow(&p->in, &p->in_cap, p->in_len + 4096);
    n = sim_client_recv(p->client, p->in + p->in_len, 4096);
    p->in_len += n;
    while (p->in_len > 0) {
        size_t used = p->is_open ? take_frame(p) : take_head(p);

        if (used == 0)
            break;
        p->in_len -= used;
        memmove(p->in, p->in + used, p->in_len);
    }
    return n > 0;
}

bool peer_visit(struct peer *p)
{
    bool busy;
    size_t n;

    if (p->is_done)
        return false;
    busy = visit_read(p);
    if (p->c->storm && p->is_open && p->todo > 0 && nodes_now(p->c) >= p->act_ns) {
        p->todo--;
        p->act_ns = nodes_now(p->c) + sim_net_below(p->c->net, 100 * NS_PER_MS);
        peer_publish(p, sim_net_below(p->c->net, 4) == 0
                            ? (uint32_t)sim_net_below(p->c->net, PEER_TEXT_MAX)
                            : 40);
        busy = true;
    }
    n = sim_client_send(p->client, p->out + p->out_pos, p->out_len - p->out_pos);
    p->out_pos += n;
    if (sim_client_state(p->client) != SIM_CLIENT_OPEN) {
        p->is_done = true;
        sim_client_close(p->client);
    }
    return busy || n > 0;
}
