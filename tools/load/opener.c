/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Connections that are opened again and again. The worker's thread.
 *
 *   spare --attempt--> the worker's `opening` --upgraded--> held --kept long enough--> (ends)
 *     ^                        | refused                      | the server ends it        |
 *     `------------------------+------------------------------+--------- on_closed -------' */

#include "tools/load/opener.h"

#include "tools/load/run.h"
#include "tools/load/worker.h"

void opener_init(struct opener *o, struct worker *w, const struct group *g)
{
    o->worker = w;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->clients[i].group == g)
            client_list_add(&o->spare, &w->clients[i]);
    }
}

static void count_attempt(struct worker *w, uint64_t due_ns, uint64_t now_ns)
{
    w->sent++;
    w->tally->sent++;
    w->expected++;
    if (due_ns != 0)
        histogram_add(&w->tally->lag, now_ns > due_ns ? now_ns - due_ns : 0);
}

static void count_open(struct worker *w, uint64_t begun_ns, uint64_t now_ns)
{
    w->received++;
    w->tally->received++;
    histogram_add(&w->tally->latency, now_ns > begun_ns ? now_ns - begun_ns : 0);
}

/* An attempt that was due at due_ns, 0: now. */
static void attempt(struct opener *o, uint64_t due_ns)
{
    struct client *c = o->spare.first;

    client_list_remove(&o->spare, c);
    c->was_open = false;
    o->begun++;
    if (!o->is_aside)
        count_attempt(o->worker, due_ns, worker_now(o->worker));
    client_open(c);
    if (due_ns != 0 && client_is_alive(c))
        c->opened_ns = due_ns;
}

static void open_due(struct opener *o)
{
    uint64_t due = schedule_due(&o->pace, worker_clock(o->worker));

    while (o->begun < due && o->spare.first != NULL && worker_may_open(o->worker))
        attempt(o, schedule_at(&o->pace, o->begun));
}

static void open_some(struct opener *o)
{
    uint32_t most = o->parallel;

    while (most-- > 0 && o->worker->opening.count < o->parallel && o->spare.first != NULL &&
           worker_may_open(o->worker))
        attempt(o, 0);
}

static void let_go(struct opener *o, struct client *c)
{
    enum opener_close how = o->how;

    if (how == OPENER_MIXED)
        how = (enum opener_close)(o->closes % OPENER_MIXED);
    o->closes++;
    client_list_remove(&o->held, c);
    c->held = false;
    if (how == OPENER_FRAME)
        client_leave(c);
    else
        client_cut(c, how == OPENER_RESET);
}

void opener_turn(struct opener *o, bool opening)
{
    uint64_t now_ns = worker_now(o->worker);

    while (o->held.first != NULL && o->held.first->kept_from_ns + o->keep_ns <= now_ns)
        let_go(o, o->held.first);
    if (!opening)
        return;
    if (o->pace.per_second > 0)
        open_due(o);
    else
        open_some(o);
}

uint64_t opener_deadline(const struct opener *o)
{
    uint64_t at_ns = IO_FOREVER;

    if (o->held.first != NULL)
        at_ns = o->held.first->kept_from_ns + o->keep_ns;
    if (o->pace.per_second > 0 && o->spare.first != NULL && worker_may_open(o->worker))
        at_ns = min_u64(at_ns, schedule_at(&o->pace, o->begun));
    return at_ns;
}

void opener_on_open(struct opener *o, struct client *c)
{
    uint64_t now_ns = worker_now(o->worker);

    o->opened++;
    if (!o->is_aside)
        count_open(o->worker, c->opened_ns, now_ns);
    c->kept_from_ns = now_ns;
    c->held = c->was_open = true;
    client_list_add(&o->held, c);
}

static void complain(struct opener *o, const struct client *c, const struct client_end *end)
{
    char text[160];

    if (o->may_fail || end->why == CLIENT_WHY_SELF)
        return;
    client_end_text(end, text, sizeof(text));
    worker_fail(o->worker, "connection %u %s", c->id, text);
}

void opener_on_end(struct opener *o, struct client *c, const struct client_end *end)
{
    if (!c->was_open) {
        o->refused[end->why]++;
        o->worker->expected -= !o->is_aside;
        complain(o, c, end);
    } else if (c->held) { /* else we were leaving, and whatever the server did was an answer */
        c->held = false;
        client_list_remove(&o->held, c);
        o->ended += end->why != CLIENT_WHY_SELF;
        complain(o, c, end);
    }
}

void opener_on_closed(struct opener *o, struct client *c)
{
    client_list_add(&o->spare, c);
}
