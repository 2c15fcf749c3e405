/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Very many WebSocket clients in one room, on core/: a ring per thread, direct descriptors, so that
 * the limit on descriptors bounds only the connections of one thread.
 *
 *   hundredk PORT COUNT THREADS HOLD_SECONDS
 *
 * Connects COUNT members, publishes one message that must reach all of them, answers pings for
 * HOLD_SECONDS, publishes another one, closes. Prints a line per step; exits with 1 when a step
 * fails or takes too long. Main coordinates, one thread per ring does the work; they share nothing
 * but the atomics of struct worker and the step. */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/io.h"
#include "core/io_socket.h"

#define THREADS_MAX 64
#define CONNECTING_MAX 128 /* of one thread at a time */
#define SOURCES 64         /* addresses of one thread: ports of one are searched slowly */
#define POLL_NS (5 * NS_PER_MS)
#define STEP_MS_MAX 120000
#define PAYLOAD_BYTES 8 /* of a broadcast: its number */
#define FRAME_MAX 40    /* the longest frame expected: heads of 2 bytes, pings carry little */

enum step { STEP_CONNECT, STEP_FIRST, STEP_HOLD, STEP_SECOND, STEP_CLOSE };
enum state { STATE_NEW, STATE_CONNECTING, STATE_HEAD, STATE_OPEN, STATE_CLOSED };

struct client {
    struct io_conn io;
    struct worker *worker;
    uint8_t state;   /* enum state */
    uint8_t have;    /* bytes of frame[], or compared ones of the head */
    uint8_t matched; /* of the head's end */
    uint8_t seen;    /* number of the last broadcast */
    bool sending;
    bool owes_pong;
    uint8_t pong_len;
    uint8_t pong[FRAME_MAX];
    uint8_t frame[FRAME_MAX]; /* what has come of the next one */
    uint8_t out[FRAME_MAX + 4];
};

struct worker {
    pthread_t thread;
    struct io *io;
    struct client *clients;
    uint32_t idx;
    uint32_t count;
    uint32_t begun;      /* clients[0 .. begun) have been connected or are about to be */
    uint32_t connecting; /* now */
    uint8_t published;   /* number of the last broadcast sent; worker 0 */
    struct io_addr server;
    const atomic_uint *step;
    _Atomic uint32_t open;
    _Atomic uint32_t seen[3]; /* clients that got broadcast 1, 2 */
    _Atomic uint32_t pongs;
    _Atomic uint32_t attached;
};

static const char request[] = "GET /rooms/hundredk HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                              "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static _Noreturn void die(const char *what, int err)
{
    fprintf(stderr, "hundredk: %s%s%s\n", what, err != 0 ? ": " : "",
            err != 0 ? strerror(-err) : "");
    _exit(1);
}

static struct client *client_of(struct io_conn *c)
{
    return container_of(c, struct client, io);
}

static void add(_Atomic uint32_t *counter, uint32_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Sending ---------------------------------------------------------------------------------------
 */

static void send_bytes(struct client *c, const void *bytes, size_t len)
{
    struct iovec iov = {(void *)bytes, len};
    int r = io_send(c->worker->io, &c->io, &iov, 1, len);

    if (r < 0)
        die("send", r);
    c->sending = r == IO_PENDING;
}

/* A frame in c->out, masked with zeros: the bytes stay what they are. */
static void send_frame(struct client *c, uint8_t opcode, const uint8_t *payload, uint8_t len)
{
    c->out[0] = 0x80 | opcode;
    c->out[1] = 0x80 | len;
    memset(c->out + 2, 0, 4);
    memcpy(c->out + 6, payload, len);
    send_bytes(c, c->out, 6u + len);
}

static void send_pong(struct client *c)
{
    c->owes_pong = false;
    send_frame(c, 0xa, c->pong, c->pong_len);
    add(&c->worker->pongs, 1);
}

static void on_sent(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    if (err != 0)
        die("send", err);
    c->sending = false;
    if (c->owes_pong)
        send_pong(c);
}

/* Receiving -------------------------------------------------------------------------------------
 */

static void take_frame(struct client *c)
{
    uint8_t len = c->frame[1];

    switch (c->frame[0]) {
    case 0x82:
        if (len != PAYLOAD_BYTES || c->frame[2] != c->seen + 1 || c->frame[2] > 2)
            die("a broadcast is wrong, lost or doubled", 0);
        c->seen++;
        add(&c->worker->seen[c->seen], 1);
        return;
    case 0x89:
        c->pong_len = len;
        memcpy(c->pong, c->frame + 2, len);
        if (c->sending)
            c->owes_pong = true;
        else
            send_pong(c);
        return;
    default:
        die("an unexpected frame", 0);
    }
}

static void take_frames(struct client *c, struct bytes in)
{
    while (in.len > 0) {
        c->frame[c->have++] = *in.ptr++;
        in.len--;
        if (c->have == 2 && c->frame[1] > FRAME_MAX - 2)
            die("a frame is too long", 0);
        if (c->have < 2 || c->have < 2 + c->frame[1])
            continue;
        take_frame(c);
        c->have = 0;
    }
}

/* Takes the head up to its empty line, in any pieces. */
static void take_head(struct client *c, struct bytes *in)
{
    static const char wanted[] = "HTTP/1.1 101 ";
    static const char mark[] = "\r\n\r\n";

    while (in->len > 0 && c->state == STATE_HEAD) {
        char byte = (char)*in->ptr++;

        in->len--;
        if (c->have < sizeof(wanted) - 1 && byte != wanted[c->have++])
            die("refused", 0);
        c->matched = byte == mark[c->matched] ? c->matched + 1 : byte == mark[0];
        if (c->matched == sizeof(mark) - 1)
            c->state = STATE_OPEN;
    }
    if (c->state != STATE_OPEN)
        return;
    c->have = 0;
    c->worker->connecting--;
    add(&c->worker->open, 1);
}

static void on_recv(struct io_conn *io, struct bytes in)
{
    struct client *c = client_of(io);

    if (c->state == STATE_HEAD)
        take_head(c, &in);
    if (in.len > 0)
        take_frames(c, in);
}

static void on_eof(struct io_conn *io, int err)
{
    (void)io;
    die("the server ended a connection", err);
}

static void on_closed(struct io_conn *io)
{
    struct client *c = client_of(io);

    c->state = STATE_CLOSED;
    atomic_fetch_sub_explicit(&c->worker->attached, 1, memory_order_relaxed);
}

/* Connecting ------------------------------------------------------------------------------------
 */

static void on_connect(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    if (err != 0)
        die("connect", err);
    c->state = STATE_HEAD;
    send_bytes(c, request, sizeof(request) - 1);
}

static const struct io_events client_events = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_connect = on_connect,
    .on_closed = on_closed,
};

static void connect_some(struct worker *w)
{
    while (w->begun < w->count && w->connecting < CONNECTING_MAX) {
        struct client *c = &w->clients[w->begun];
        struct io_addr from = w->server;
        int err;

        from.port = 0;
        from.ip[13] = (uint8_t)(16 + w->idx);
        from.ip[15] = (uint8_t)(1 + w->begun % SOURCES);
        c->worker = w;
        c->io.events = &client_events;
        c->state = STATE_CONNECTING;
        err = io_connect(w->io, &c->io, &w->server, &from);
        if (err != 0)
            die("connect", err);
        add(&w->attached, 1);
        w->begun++;
        w->connecting++;
    }
}

/* Workers ---------------------------------------------------------------------------------------
 */

static void publish(struct worker *w, uint8_t number)
{
    uint8_t payload[PAYLOAD_BYTES] = {number};

    if (w->idx != 0 || w->published >= number || w->clients[0].sending)
        return;
    w->published = number;
    send_frame(&w->clients[0], 0x2, payload, sizeof(payload));
}

static void close_all(struct worker *w)
{
    for (uint32_t i = 0; i < w->begun; i++)
        io_close(w->io, &w->clients[i].io, false);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    bool closing = false;
    int err = io_start(w->io);

    while (err >= 0) {
        enum step step = atomic_load_explicit(w->step, memory_order_acquire);

        if (step == STEP_CONNECT)
            connect_some(w);
        else if (step == STEP_FIRST)
            publish(w, 1);
        else if (step == STEP_SECOND)
            publish(w, 2);
        else if (step == STEP_CLOSE && !closing) {
            closing = true;
            close_all(w);
        }
        if (closing && w->io->conn_count == 0)
            return NULL;
        err = io_poll(w->io, w->io->now_ns + POLL_NS);
    }
    die("the ring is broken", err);
}

static void start_worker(struct worker *w, uint32_t idx, uint32_t count, uint16_t port,
                         const atomic_uint *step)
{
    struct io_config cfg = {.conns_max = count, .shard_idx = idx};
    const char *why = "";
    int err = io_uring_new(&cfg, &w->io, &why);

    if (err != 0)
        die(why, err);
    if (w->io->conns_max < count)
        die("RLIMIT_NOFILE allows fewer connections per thread: use more threads", 0);
    w->clients = calloc(count, sizeof(*w->clients));
    if (w->clients == NULL || io_addr_parse(&w->server, "127.0.0.1", port) != 0)
        die("no memory", 0);
    w->idx = idx;
    w->count = count;
    w->step = step;
    err = pthread_create(&w->thread, NULL, work, w);
    if (err != 0)
        die("can't start a thread", -err);
}

/* Main ------------------------------------------------------------------------------------------
 */

struct crowd {
    struct worker workers[THREADS_MAX];
    uint32_t threads;
    uint32_t count;
    atomic_uint step; /* enum step */
};

static uint32_t sum(const struct crowd *k, size_t offset)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < k->threads; i++)
        n += atomic_load_explicit((_Atomic uint32_t *)((char *)&k->workers[i] + offset),
                                  memory_order_relaxed);
    return n;
}
#define SUM(k, field) sum(k, offsetof(struct worker, field))

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NS_PER_MS;
}

static void pause_ms(uint32_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};

    nanosleep(&t, NULL);
}

/* Begins a step and waits until a counter of the workers is `want`. */
static void run_step(struct crowd *k, enum step step, const char *what, size_t offset,
                     uint32_t want)
{
    uint64_t begin = now_ms();

    atomic_store_explicit(&k->step, step, memory_order_release);
    while (sum(k, offset) != want) {
        if (now_ms() - begin > STEP_MS_MAX) {
            fprintf(stderr, "hundredk: %s: %u of %u\n", what, sum(k, offset), want);
            _exit(1);
        }
        pause_ms(1);
    }
    printf("%s %u ms %u\n", what, k->count, (uint32_t)(now_ms() - begin));
    fflush(stdout);
}

static uint32_t number(const char *text, uint32_t min, uint32_t max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end != '\0' || n < min || n > max)
        die("usage: hundredk PORT COUNT THREADS HOLD_SECONDS", 0);
    return (uint32_t)n;
}

int main(int argc, char **argv)
{
    static struct crowd k;
    uint32_t port, hold;
    int64_t limit = io_socket_raise_nofile();

    if (argc != 5 || limit < 0)
        die("usage: hundredk PORT COUNT THREADS HOLD_SECONDS", 0);
    port = number(argv[1], 1, 65535);
    k.count = number(argv[2], 1, 1000000);
    k.threads = number(argv[3], 1, THREADS_MAX);
    hold = number(argv[4], 0, 3600);
    for (uint32_t i = 0; i < k.threads; i++)
        start_worker(&k.workers[i], i, k.count / k.threads + (i < k.count % k.threads),
                     (uint16_t)port, &k.step);
    run_step(&k, STEP_CONNECT, "connected", offsetof(struct worker, open), k.count);
    run_step(&k, STEP_FIRST, "delivered", offsetof(struct worker, seen[1]), k.count);
    atomic_store_explicit(&k.step, STEP_HOLD, memory_order_release);
    pause_ms(hold * 1000);
    printf("pongs %u\n", SUM(&k, pongs));
    run_step(&k, STEP_SECOND, "delivered", offsetof(struct worker, seen[2]), k.count);
    run_step(&k, STEP_CLOSE, "closed", offsetof(struct worker, attached), 0);
    for (uint32_t i = 0; i < k.threads; i++) {
        pthread_join(k.workers[i].thread, NULL);
        io_free(k.workers[i].io);
        free(k.workers[i].clients);
    }
    return 0;
}
