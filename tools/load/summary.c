/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* All workers' counts of a run, added up. Main thread, after the join. */

#include "tools/load/summary.h"

#include <string.h>

static void add_tally(struct tally *sum, const struct tally *t)
{
    sum->sent += t->sent;
    sum->received += t->received;
    sum->received_bytes += t->received_bytes;
    sum->cpu_ns += t->cpu_ns;
    sum->wait_ns += t->wait_ns;
    histogram_merge(&sum->latency, &t->latency);
    histogram_merge(&sum->lag, &t->lag);
}

static void add_tls(struct summary *s, const struct worker_tls *tls)
{
    if (tls == NULL)
        return;
    s->tls_full += tls->full;
    s->tls_resumed += tls->resumed;
    if (s->tls == NULL || tls->full + tls->resumed > 0)
        s->tls = &tls->info;
}

static void add_worker(struct summary *s, const struct worker *w)
{
    const struct tally *m = w->measured;
    double wall_ns = (double)(m->end_ns - m->begin_ns);

    add_tally(&s->sum, m);
    add_tally(&s->total, w->warm);
    verify_merge(&s->verify, &w->verify);
    s->lost += w->failed;
    add_tls(s, w->tls);
    for (uint32_t i = 0; i < CLIENT_WHYS; i++)
        s->ends[i] += w->ends[i];
    if (s->failure == NULL && w->failure[0] != '\0')
        s->failure = w->failure;
    s->seconds += wall_ns / NS_PER_SEC;
    if (wall_ns <= 0)
        return;
    double cpu = (double)m->cpu_ns / wall_ns;
    double wait = (double)m->wait_ns / wall_ns;
    if (cpu + wait > s->busiest_cpu + s->busiest_wait) {
        s->busiest_cpu = cpu;
        s->busiest_wait = wait;
    }
}

void summary_make(const struct run *r, struct summary *s)
{
    memset(s, 0, sizeof(*s));
    for (uint32_t i = 0; i < r->threads; i++)
        add_worker(s, &r->workers[i]);
    add_tally(&s->total, &s->sum);
    s->seconds /= r->threads;
    s->is_bottleneck = (s->busiest_cpu + s->busiest_wait) * 100 >= SUMMARY_BUSY_PERCENT;
}
