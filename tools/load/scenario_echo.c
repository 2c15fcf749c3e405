/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Echo: each connection sends, and each message must come back to it alone. On workers' threads,
 * but for setup and finish. */

#include <errno.h>
#include <stdlib.h>

#include "tools/load/scenarios.h"

static uint32_t window_of(const struct client *c)
{
    return c->worker->run->config.window;
}

static bool is_closed_loop(const struct client *c)
{
    return c->worker->pace.per_second == 0;
}

static void on_open(struct client *c)
{
    (void)c; /* messages flow when all are open */
}

static void on_small_message(struct client *c, struct bytes payload)
{
    struct stamp s;

    if (worker_check_small(c, payload, c->group->payload_bytes, &s))
        worker_take(c, &c->stream, &s);
}

static void on_message(struct client *c, struct bytes payload, uint8_t opcode)
{
    struct worker *w = c->worker;
    struct stamp s;

    (void)opcode;
    if (c->times != NULL) {
        on_small_message(c, payload);
        return;
    }
    if (!worker_check(c, payload, c->group->payload_bytes, &s))
        return;
    if (unlikely(s.sender != c->id)) {
        w->verify.checked++;
        w->verify.misrouted++;
        worker_fail(w, "connection %u got a message of connection %u", c->id, s.sender);
        return;
    }
    worker_take(c, &c->stream, &s);
}

/* Lets as many go as were answered: they leave in one send. */
static void on_batch(struct client *c)
{
    if (is_closed_loop(c) && !c->worker->run->config.lockstep)
        client_allow(c, c->stream.next + window_of(c));
}

const struct role echo_role = {
    .on_open = on_open,
    .on_message = on_message,
    .on_batch = on_batch,
};

static int setup(struct run *r)
{
    run_add_group(r, &echo_role, r->path, r->config.connections, (uint32_t)r->config.payload_bytes);
    return 0;
}

/* Small stamps leave the times of what is under way here. */
static int worker_begin(struct worker *w)
{
    uint64_t *times;
    uint64_t room = 1;

    if (w->run->config.payload_bytes >= STAMP_BYTES)
        return 0;
    while (room < w->run->config.window)
        room *= 2;
    w->state = times = calloc(w->count * room, sizeof(*times));
    if (times == NULL)
        return -ENOMEM;
    w->times_mask = room - 1;
    for (uint32_t i = 0; i < w->count; i++)
        w->clients[i].times = &times[i * room];
    return 0;
}

static void worker_end(struct worker *w)
{
    free(w->state);
}

static void next_windows(struct worker *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        client_allow(&w->clients[i], w->clients[i].allowed + w->run->config.window);
}

static void on_start(struct worker *w)
{
    if (w->pace.per_second == 0)
        next_windows(w);
}

/* In step: the next windows leave when all answers of the former have come. */
static uint64_t on_turn(struct worker *w)
{
    if (w->run->config.lockstep && w->received >= w->expected)
        next_windows(w);
    return IO_FOREVER;
}

void echo_finish(struct run *r)
{
    for (uint32_t t = 0; t < r->threads; t++) {
        struct worker *w = &r->workers[t];
        for (uint32_t i = 0; i < w->count; i++) {
            struct client *c = &w->clients[i];
            if (c->group->role == &echo_role && verify_end(&c->stream, &w->verify, c->seq) > 0)
                worker_fail(w, "connection %u did not get its last messages back", c->id);
        }
    }
}

const struct scenario scenario_echo = {
    .name = "echo",
    .summary = "each connection gets its own messages back",
    .path = "/echo",
    .sent = "sent",
    .received = "answers",
    .bit = LOAD_ECHO,
    .setup = setup,
    .worker_init = worker_begin,
    .worker_deinit = worker_end,
    .on_start = on_start,
    .on_turn = on_turn,
    .finish = echo_finish,
};
