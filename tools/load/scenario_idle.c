/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Idle: connections that are held and say nothing; what they cost in memory on both sides. At the
 * end each is asked for a pong, so that all are known to have lived. On workers' threads, but for
 * setup, before, after, and what is told. */

#include <stdlib.h>

#include "tools/load/exits.h"
#include "tools/load/memory.h"
#include "tools/load/report.h"
#include "tools/load/run.h"

#define GROWN_MAX 6

/* A cache of kernel objects that has grown. */
struct grown {
    const char *name;
    uint64_t bytes;
};

struct idle {
    struct memory before; /* no connection and no worker yet */
    struct memory after;  /* all held, at the end */
    struct grown grown[GROWN_MAX];
    uint32_t grown_count; /* largest first */
};

static void on_open(struct client *c)
{
    (void)c;
}

/* Others may talk in its room. */
static void on_message(struct client *c, struct bytes payload, uint8_t opcode)
{
    (void)payload;
    (void)opcode;
    c->worker->expected++; /* none of those that are waited for */
}

static void on_pong(struct client *c)
{
    if (c->worker->phase == PHASE_DRAIN && c->seq == 1) {
        c->seq = 2;
        c->worker->received++;
    }
}

static const struct role idle_role = {
    .on_open = on_open, .on_message = on_message, .on_pong = on_pong};

static int setup(struct run *r)
{
    r->shared = calloc(1, sizeof(struct idle));
    run_add_group(r, &idle_role, r->path, r->config.connections, 0)->rooms = r->config.rooms;
    return r->shared == NULL ? LOAD_EXIT_FAILED : 0;
}

static void teardown(struct run *r)
{
    free(r->shared);
}

static int before(struct run *r)
{
    struct idle *k = r->shared;

    memory_read(&r->config.server_pid, &k->before);
    return 0;
}

static void add_grown(struct idle *k, const char *name, uint64_t bytes)
{
    uint32_t at = k->grown_count;

    while (at > 0 && k->grown[at - 1].bytes < bytes)
        at--;
    if (at == GROWN_MAX)
        return;
    if (k->grown_count < GROWN_MAX)
        k->grown_count++;
    for (uint32_t i = k->grown_count - 1; i > at; i--)
        k->grown[i] = k->grown[i - 1];
    k->grown[at] = (struct grown){name, bytes};
}

static void after(struct run *r)
{
    struct idle *k = r->shared;

    memory_read(&r->config.server_pid, &k->after);
    for (uint32_t i = 0; i < k->after.cache_count; i++) {
        uint64_t bytes = memory_cache_growth(&k->before, &k->after.caches[i]);
        if (bytes > 0)
            add_grown(k, k->after.caches[i].name, bytes);
    }
}

/* seq is 1 while a client owes its pong. */
static void on_drain(struct worker *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct client *c = &w->clients[i];
        c->seq = 1;
        w->expected++;
        client_ping(c);
    }
}

static void finish(struct run *r)
{
    for (uint32_t t = 0; t < r->threads; t++) {
        struct worker *w = &r->workers[t];
        for (uint32_t i = 0; i < w->count; i++) {
            if (w->clients[i].seq == 1)
                worker_fail(w, "connection %u did not answer a ping at the end", w->clients[i].id);
        }
    }
}

/* What one connection cost; 0 when memory has shrunk meanwhile. */
static double each(const struct run *r, uint64_t before_bytes, uint64_t after_bytes)
{
    return after_bytes > before_bytes ? (double)(after_bytes - before_bytes) / r->client_count : 0;
}

static void json(const struct run *r, struct json_out *j)
{
    const struct idle *k = r->shared;

    json_open(j, "memory");
    if (r->has_server)
        json_real(j, "server_bytes_per_connection",
                  each(r, k->before.server_bytes, k->after.server_bytes), 1);
    else
        json_null(j, "server_bytes_per_connection");
    json_real(j, "generator_bytes_per_connection", each(r, k->before.own_bytes, k->after.own_bytes),
              1);
    json_real(j, "kernel_bytes_per_connection",
              each(r, 0, memory_kernel_growth(&k->before, &k->after)), 1);
    json_real(j, "sockets_per_connection", each(r, k->before.sockets, k->after.sockets), 3);
    json_open(j, "caches");
    for (uint32_t i = 0; i < k->grown_count; i++)
        json_real(j, k->grown[i].name, (double)k->grown[i].bytes / r->client_count, 1);
    json_close(j);
    json_close(j);
}

static void rows(const struct run *r)
{
    const struct idle *k = r->shared;

    if (r->has_server)
        report_row("server memory", "%.0f bytes a connection, user space",
                   each(r, k->before.server_bytes, k->after.server_bytes));
    report_row("generator memory", "%.0f bytes a connection, user space",
               each(r, k->before.own_bytes, k->after.own_bytes));
    report_row("kernel memory", "%.0f bytes a connection, for %.1f sockets",
               each(r, 0, memory_kernel_growth(&k->before, &k->after)),
               each(r, k->before.sockets, k->after.sockets));
    for (uint32_t i = 0; i < k->grown_count; i++)
        report_row("", "%.0f in %s", (double)k->grown[i].bytes / r->client_count, k->grown[i].name);
}

const struct scenario scenario_idle = {
    .name = "idle",
    .summary = "connections are held and say nothing; memory of each, on both sides",
    .path = "/rooms/load-{run}-{room}",
    .sent = "sent",
    .received = "messages",
    .bit = LOAD_IDLE,
    .setup = setup,
    .teardown = teardown,
    .before = before,
    .after = after,
    .on_drain = on_drain,
    .finish = finish,
    .json = json,
    .rows = rows,
    .is_silent = true,
};
