/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Storm: connections that come as fast as possible or at a rate, are kept for a while and end. On
 * workers' threads, but for setup and what is told. */

#include <stdlib.h>

#include "tools/load/opener.h"
#include "tools/load/report.h"
#include "tools/load/run.h"

static struct opener *opener_of(const struct client *c)
{
    return c->worker->state;
}

static void on_open(struct client *c)
{
    opener_on_open(opener_of(c), c);
}

static void on_message(struct client *c, struct bytes payload, uint8_t opcode)
{
    struct worker *w = c->worker;

    (void)payload;
    (void)opcode;
    w->received--; /* what is counted here are connections */
    w->tally->received--;
}

static void on_end(struct client *c, const struct client_end *end)
{
    opener_on_end(opener_of(c), c, end);
}

static void on_closed(struct client *c)
{
    opener_on_closed(opener_of(c), c);
}

static const struct role storm_role = {
    .on_open = on_open, .on_message = on_message, .on_end = on_end, .on_closed = on_closed};

static int setup(struct run *r)
{
    struct group *g = run_add_group(r, &storm_role, r->path, r->config.connections, 0);

    g->rooms = r->config.rooms;
    g->waits = true;
    r->opened_first = 0;
    return 0;
}

static int worker_begin(struct worker *w)
{
    const struct load_config *cfg = &w->run->config;
    struct opener *o = calloc(1, sizeof(*o));

    w->state = o;
    if (o == NULL)
        return -1;
    o->parallel = cfg->connecting;
    o->keep_ns = cfg->keep_ns;
    o->how = (enum opener_close)cfg->close;
    o->may_fail = cfg->allow_refusals;
    opener_init(o, w, &w->run->groups[0]);
    return 0;
}

static void worker_end(struct worker *w)
{
    free(w->state);
}

static void on_start(struct worker *w)
{
    struct opener *o = w->state;

    o->pace = (struct schedule){.start_ns = w->run->start_ns,
                                .per_second = w->run->config.connect_rate,
                                .first = w->idx,
                                .step = w->run->threads};
}

static uint64_t on_turn(struct worker *w)
{
    struct opener *o = w->state;

    opener_turn(o, true);
    return opener_deadline(o);
}

static void add_up(const struct run *r, struct opener *sum)
{
    for (uint32_t t = 0; t < r->threads; t++) {
        const struct opener *o = r->workers[t].state;
        sum->begun += o->begun;
        sum->opened += o->opened;
        sum->ended += o->ended;
        for (uint32_t i = 0; i < CLIENT_WHYS; i++)
            sum->refused[i] += o->refused[i];
    }
}

static void json(const struct run *r, struct json_out *j)
{
    static const char *const names[] = {"unfinished", "connect",  "tls",    "timeout", "status",
                                        "upgrade",    "protocol", "closed", "lost"};
    struct opener sum = {0};

    add_up(r, &sum);
    json_open(j, "storm");
    json_number(j, "attempts", sum.begun);
    json_number(j, "opened", sum.opened);
    json_number(j, "ended_by_server", sum.ended);
    json_open(j, "refused");
    for (uint32_t i = 0; i < CLIENT_WHYS; i++)
        json_number(j, names[i], sum.refused[i]);
    json_close(j);
    json_close(j);
}

static void rows(const struct run *r)
{
    struct opener sum = {0};

    add_up(r, &sum);
    report_row("attempts", "%llu in all, %llu opened, %llu of them ended by the server",
               (unsigned long long)sum.begun, (unsigned long long)sum.opened,
               (unsigned long long)sum.ended);
    report_row("refused",
               "%llu connect, %llu TLS, %llu not in time, %llu by HTTP status, %llu bad upgrades, "
               "%llu lost",
               (unsigned long long)sum.refused[CLIENT_WHY_CONNECT],
               (unsigned long long)sum.refused[CLIENT_WHY_TLS],
               (unsigned long long)sum.refused[CLIENT_WHY_TIMEOUT],
               (unsigned long long)sum.refused[CLIENT_WHY_STATUS],
               (unsigned long long)sum.refused[CLIENT_WHY_UPGRADE],
               (unsigned long long)sum.refused[CLIENT_WHY_LOST]);
}

const struct scenario scenario_storm = {
    .name = "storm",
    .summary = "connections come as fast as possible or at a rate, and go again",
    .path = "/rooms/load-{run}-{room}",
    .sent = "attempts",
    .received = "connections",
    .bit = LOAD_STORM,
    .setup = setup,
    .worker_init = worker_begin,
    .worker_deinit = worker_end,
    .on_start = on_start,
    .on_turn = on_turn,
    .json = json,
    .rows = rows,
    .sources = 64,
};
