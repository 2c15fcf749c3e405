/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The virtual network: clock, random choices, wires, backlogs, clients. One thread; the shards' end
 * of the wires is io_sim.c. */

#include "tests/sim/sim_net.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_START_NS (3 * NS_PER_SEC)
#define SIM_BUFFER_BYTES (64u << 10)
#define SIM_NUMBER_BASE 16
#define SIM_MILLION 1000000u

/* Chance --------------------------------------------------------------------------------------- */

static uint64_t sim_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)sim_random(state) * bound) >> 64);
}

uint64_t sim_net_below(struct sim_net *net, uint64_t bound)
{
    return below(&net->random, bound);
}

bool sim_chance(struct sim_net *net, uint32_t rate)
{
    return rate != 0 && sim_net_below(net, SIM_MILLION) < rate;
}

uint64_t sim_due_ns(struct sim_net *net)
{
    const struct sim_faults *f = &net->faults;

    if (f->stall_max_ns != 0 && sim_chance(net, f->stall))
        return net->now_ns + sim_net_below(net, f->stall_max_ns) + 1;
    if (f->delay_max_ns != 0 && sim_chance(net, f->delay))
        return net->now_ns + sim_net_below(net, f->delay_max_ns) + 1;
    return net->now_ns;
}

/* Cuts are as often a single byte or a few as anywhere: headers are short. */
size_t sim_part(struct sim_net *net, size_t len)
{
    if (len == 1 || !sim_chance(net, net->faults.split))
        return len;
    switch (sim_net_below(net, 4)) {
    case 0:
        return 1;
    case 1:
        return 1 + sim_net_below(net, min_size(len, 16));
    case 2:
        return len - sim_net_below(net, min_size(len, 16));
    default:
        return 1 + sim_net_below(net, len);
    }
}

void sim_noise(struct sim_net *net, uint8_t *bytes, size_t len)
{
    uint64_t word = sim_net_below(net, UINT64_MAX) | 1;

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(word >> 56);
        word *= 0x9e3779b97f4a7c15u;
    }
}

/* Off in a third of the mixtures, else log-uniform from 0.01 % to `max`. */
static uint32_t draw_rate(uint64_t *state, uint32_t max)
{
    uint32_t rate = max;

    if (below(state, 3) == 0)
        return 0;
    for (uint64_t halvings = below(state, 8); halvings > 0 && rate > 100; halvings--)
        rate /= 2;
    return rate;
}

void sim_faults_draw(struct sim_faults *f, uint64_t seed, bool harsh)
{
    uint64_t state = seed ^ 0x5afe5eedfa0175u;

    *f = (struct sim_faults){
        .split = draw_rate(&state, 950000),
        .delay = draw_rate(&state, 700000),
        .stall = draw_rate(&state, 50000),
        .pending = draw_rate(&state, 900000),
        .skip = draw_rate(&state, 500000),
        .overrun = draw_rate(&state, 900000),
        .delay_max_ns = NS_PER_US << below(&state, 12),
        .stall_max_ns = NS_PER_MS << below(&state, 9),
        .buffer_min_bytes = 1u << below(&state, 12),
    };
    f->buffer_max_bytes = f->buffer_min_bytes << below(&state, 8);
    if (harsh) {
        f->reset = draw_rate(&state, 5000);
        f->accept_error = draw_rate(&state, 300000);
        f->adopt_error = draw_rate(&state, 300000);
        f->send_error = f->reset == 0 ? 0 : draw_rate(&state, 5000);
    }
}

/* The network ---------------------------------------------------------------------------------- */

static void client_end(struct sim_client *c, bool reset)
{
    if (c->end == NULL)
        return;
    sim_release(c->end, reset);
    c->end = NULL;
    c->end_state = SIM_CLIENT_CLOSED;
}

struct sim_net *sim_net_new(uint64_t seed, const struct sim_faults *faults)
{
    struct sim_net *net = calloc(1, sizeof(*net));

    if (net == NULL)
        return NULL;
    net->random = seed;
    net->now_ns = SIM_START_NS + sim_net_below(net, NS_PER_SEC);
    sim_net_set_faults(net, faults);
    return net;
}

void sim_net_set_faults(struct sim_net *net, const struct sim_faults *faults)
{
    net->faults = faults != NULL ? *faults : (struct sim_faults){0};
}

void sim_net_free(struct sim_net *net)
{
    CHECK(net->ios_count == 0);
    for (struct sim_client *c = net->clients, *next; c != NULL; c = next) {
        next = c->next;
        client_end(c, false);
        free(c);
    }
    for (uint32_t i = 0; i < net->listeners_count; i++) {
        sim_listener_close(net->listeners[i]);
        free(net->listeners[i]);
    }
    for (uint32_t i = 0; i < net->links_cap; i++) {
        if (net->links[i] != NULL) {
            free(net->links[i]->end[0].rx.ring);
            free(net->links[i]->end[1].rx.ring);
            free(net->links[i]);
        }
    }
    free(net->links);
    free(net);
}

uint64_t sim_net_now(const struct sim_net *net)
{
    return net->now_ns;
}

void sim_net_advance(struct sim_net *net, uint64_t to_ns)
{
    net->now_ns = max_u64(net->now_ns, to_ns);
}

void sim_net_on_wait(struct sim_net *net,
                     void (*wait)(void *ctx, struct io *io, uint64_t deadline_ns), void *ctx)
{
    net->wait = wait;
    net->wait_ctx = ctx;
}

struct sim_stats sim_net_stats(const struct sim_net *net)
{
    return net->stats;
}

void sim_violation(struct sim_net *net, const char *text, ...)
{
    va_list args;

    if (net->violation[0] != 0)
        return;
    va_start(args, text);
    vsnprintf(net->violation, sizeof(net->violation), text, args);
    va_end(args);
}

const char *sim_net_violation(const struct sim_net *net)
{
    return net->violation[0] != 0 ? net->violation : NULL;
}

uint32_t sim_net_open_count(const struct sim_net *net)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < net->links_cap; i++) {
        if (net->links[i] == NULL)
            continue;
        count += net->links[i]->end[0].owner != SIM_FREE;
        count += net->links[i]->end[1].owner != SIM_FREE;
    }
    return count;
}

/* When something can happen at a client's end. Lets arrive what is due, which is an event itself.
 */
static uint64_t client_next_ns(struct sim_client *c)
{
    struct sim_end *e = c->end;

    if (e == NULL)
        return IO_FOREVER;
    uint64_t arrived = e->rx.arrived;
    sim_settle(e);
    return e->rx.arrived != arrived ? c->net->now_ns : sim_arrival_ns(e);
}

uint64_t sim_net_next_ns(struct sim_net *net)
{
    uint64_t next_ns = IO_FOREVER;

    for (uint32_t i = 0; i < net->ios_count; i++) {
        if (!net->ios[i]->is_retired)
            next_ns = min_u64(next_ns, sim_io_next_ns(net->ios[i]));
    }
    for (struct sim_client *c = net->clients; c != NULL; c = c->next)
        next_ns = min_u64(next_ns, client_next_ns(c));
    return max_u64(next_ns, net->now_ns);
}

void sim_net_retire(struct sim_net *net, struct io *io)
{
    for (uint32_t i = 0; i < net->ios_count; i++) {
        if (&net->ios[i]->io == io)
            net->ios[i]->is_retired = true;
    }
}

enum sim_idle sim_net_idle(struct sim_net *net, uint64_t deadline_ns)
{
    uint64_t next_ns = min_u64(sim_net_next_ns(net), deadline_ns);

    if (next_ns == IO_FOREVER)
        return SIM_DEAD;
    if (next_ns <= net->now_ns)
        return SIM_BUSY;
    sim_net_advance(net, next_ns);
    return SIM_ADVANCED;
}

/* Wires ---------------------------------------------------------------------------------------- */

int32_t sim_end_number(const struct sim_end *e)
{
    return (int32_t)(e->link->idx * 2 + e->side + SIM_NUMBER_BASE);
}

struct sim_end *sim_end_find(struct sim_net *net, int32_t number)
{
    if (number < SIM_NUMBER_BASE || number >= SIM_LISTENER_BASE)
        return NULL;
    uint32_t idx = (uint32_t)(number - SIM_NUMBER_BASE) / 2;
    if (idx >= net->links_cap || net->links[idx] == NULL)
        return NULL;
    struct sim_end *e = &net->links[idx]->end[(number - SIM_NUMBER_BASE) & 1];
    return e->owner == SIM_FREE ? NULL : e;
}

static void drop(struct sim_net *net, struct sim_pipe *p, uint64_t down_to)
{
    net->stats.dropped_bytes += p->written - down_to;
    p->written = down_to;
}

/* A reset on its way to e. */
static void send_reset(struct sim_end *e)
{
    if (e->owner == SIM_FREE || e->rx.reset)
        return;
    e->rx.reset = true;
    e->rx.reset_ns = sim_due_ns(e->link->net);
}

void sim_settle(struct sim_end *e)
{
    struct sim_net *net = e->link->net;
    struct sim_pipe *p = &e->rx;

    if (sim_is_reset(e)) {
        /* What was in flight is lost, and an end behind it never comes. */
        if (p->arrived < p->written || p->arrival_ns > net->now_ns)
            p->fin = false;
        drop(net, p, p->arrived);
        return;
    }
    while (p->arrived < p->written && p->arrival_ns <= net->now_ns) {
        if (sim_chance(net, net->faults.reset)) {
            net->stats.resets++;
            send_reset(e);
            send_reset(sim_peer(e));
            return;
        }
        p->arrived += sim_part(net, p->written - p->arrived);
        p->arrival_ns = sim_due_ns(net);
    }
}

size_t sim_readable(const struct sim_end *e)
{
    return e->rx.arrived - e->rx.taken;
}

bool sim_is_reset(const struct sim_end *e)
{
    return e->rx.reset && e->rx.reset_ns <= e->link->net->now_ns;
}

bool sim_is_eof(const struct sim_end *e)
{
    return e->rx.fin && e->rx.taken == e->rx.written && e->rx.arrival_ns <= e->link->net->now_ns;
}

uint64_t sim_arrival_ns(const struct sim_end *e)
{
    const struct sim_pipe *p = &e->rx;
    uint64_t now_ns = e->link->net->now_ns, next_ns = IO_FOREVER;

    if (p->reset && p->reset_ns <= now_ns)
        return IO_FOREVER; /* it has come; nothing follows */
    if (p->reset)
        next_ns = p->reset_ns;
    if (p->arrived < p->written || (p->fin && p->arrival_ns > now_ns))
        next_ns = min_u64(next_ns, p->arrival_ns);
    return next_ns;
}

void sim_take(struct sim_end *e, void *bytes, size_t len)
{
    struct sim_pipe *p = &e->rx;
    uint32_t at = (uint32_t)(p->taken % p->cap);
    size_t first = min_size(len, p->cap - at);

    CHECK(len <= sim_readable(e));
    memcpy(bytes, p->ring + at, first);
    memcpy((uint8_t *)bytes + first, p->ring, len - first);
    p->taken += len;
    e->link->net->stats.received_bytes += len;
}

size_t sim_room(struct sim_end *e)
{
    const struct sim_end *to = sim_peer(e);

    /* What nobody will read finds room: its sender learns of that by a reset. */
    return to->owner == SIM_FREE ? to->rx.cap : to->rx.cap - (to->rx.written - to->rx.taken);
}

void sim_put(struct sim_end *e, const void *bytes, size_t len)
{
    struct sim_end *to = sim_peer(e);
    struct sim_pipe *p = &to->rx;
    struct sim_net *net = e->link->net;

    net->stats.sent_bytes += len;
    if (to->owner == SIM_FREE || p->reset) {
        net->stats.dropped_bytes += len;
        send_reset(e);
        return;
    }
    CHECK(len <= p->cap - (p->written - p->taken));
    uint32_t at = (uint32_t)(p->written % p->cap);
    size_t first = min_size(len, p->cap - at);
    if (p->arrived == p->written)
        p->arrival_ns = max_u64(p->arrival_ns, sim_due_ns(net));
    memcpy(p->ring + at, bytes, first);
    memcpy(p->ring, (const uint8_t *)bytes + first, len - first);
    p->written += len;
}

void sim_put_fin(struct sim_end *e)
{
    struct sim_pipe *p = &sim_peer(e)->rx;

    if (p->fin)
        return;
    if (p->arrived == p->written)
        p->arrival_ns = max_u64(p->arrival_ns, sim_due_ns(e->link->net));
    p->fin = true;
}

static void link_free(struct sim_link *link)
{
    struct sim_net *net = link->net;

    net->links[link->idx] = NULL;
    net->links_free_from = min_u32(net->links_free_from, link->idx);
    free(link);
}

void sim_release(struct sim_end *e, bool reset)
{
    struct sim_end *peer = sim_peer(e);
    bool unread = e->rx.written > e->rx.taken;

    CHECK(e->owner != SIM_FREE);
    drop(e->link->net, &e->rx, e->rx.taken);
    free(e->rx.ring);
    e->rx.ring = NULL;
    e->owner = SIM_FREE;
    if (peer->owner == SIM_FREE)
        link_free(e->link);
    else if (reset || unread)
        send_reset(peer);
    else
        sim_put_fin(e);
}

static struct sim_link **link_slot(struct sim_net *net)
{
    uint32_t i = net->links_free_from;

    while (i < net->links_cap && net->links[i] != NULL)
        i++;
    if (i == net->links_cap) {
        uint32_t cap = net->links_cap * 2 + 64;
        struct sim_link **links = realloc(net->links, cap * sizeof(struct sim_link *));
        if (links == NULL)
            return NULL;
        for (uint32_t k = net->links_cap; k < cap; k++)
            links[k] = NULL;
        net->links = links;
        net->links_cap = cap;
    }
    net->links_free_from = i;
    return &net->links[i];
}

static bool pipe_init(struct sim_net *net, struct sim_pipe *p)
{
    const struct sim_faults *f = &net->faults;
    uint32_t low = f->buffer_min_bytes, high = f->buffer_max_bytes;

    p->cap = SIM_BUFFER_BYTES;
    if (high != 0)
        p->cap = low + (uint32_t)sim_net_below(net, high > low ? high - low + 1 : 1);
    p->cap = p->cap != 0 ? p->cap : 1;
    p->ring = malloc(p->cap);
    return p->ring != NULL;
}

static struct sim_link *link_make(struct sim_net *net)
{
    struct sim_link **slot = link_slot(net);
    struct sim_link *link = slot != NULL ? calloc(1, sizeof(*link)) : NULL;

    if (link == NULL)
        return NULL;
    if (!pipe_init(net, &link->end[0].rx) || !pipe_init(net, &link->end[1].rx)) {
        free(link->end[0].rx.ring);
        free(link->end[1].rx.ring);
        free(link);
        return NULL;
    }
    for (uint8_t side = 0; side < 2; side++) {
        link->end[side].link = link;
        link->end[side].side = side;
    }
    link->net = net;
    link->idx = (uint32_t)(slot - net->links);
    *slot = link;
    return link;
}

/* Backlogs ------------------------------------------------------------------------------------- */

int sim_net_listen(struct sim_net *net, const struct io_addr *a, uint32_t backlog)
{
    struct sim_listener *l;

    if (net->listeners_count == ARRAY_LEN(net->listeners))
        return -EMFILE;
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -ENOMEM;
    l->net = net;
    l->addr = *a;
    l->backlog_max = backlog;
    l->is_open = true;
    net->listeners[net->listeners_count] = l;
    return SIM_LISTENER_BASE + (int)net->listeners_count++;
}

struct sim_listener *sim_listener_find(struct sim_net *net, int32_t number)
{
    if (number < SIM_LISTENER_BASE ||
        (uint32_t)(number - SIM_LISTENER_BASE) >= net->listeners_count)
        return NULL;
    struct sim_listener *l = net->listeners[number - SIM_LISTENER_BASE];
    return l->is_open ? l : NULL;
}

bool sim_listener_is_ready(const struct sim_listener *l)
{
    return l->first != NULL && max_u64(l->first->ready_ns, l->retry_ns) <= l->net->now_ns;
}

struct sim_end *sim_listener_take(struct sim_listener *l, bool even_if_late)
{
    struct sim_end *e = l->first;

    if (e == NULL || (!even_if_late && !sim_listener_is_ready(l)))
        return NULL;
    l->first = e->next;
    if (l->first == NULL)
        l->last = NULL;
    l->backlog_len--;
    e->next = NULL;
    return e;
}

void sim_listener_close(struct sim_listener *l)
{
    struct sim_end *e;

    while ((e = sim_listener_take(l, true)) != NULL)
        sim_release(e, true);
    l->is_open = false;
    l->io = NULL;
    l->owner = NULL;
}

/* One of those that listen there and have room, by lot. */
static struct sim_listener *listener_for(struct sim_net *net, const struct io_addr *to)
{
    struct sim_listener *chosen = NULL;
    uint32_t count = 0;

    for (uint32_t i = 0; i < net->listeners_count; i++) {
        struct sim_listener *l = net->listeners[i];
        if (!l->is_open || l->backlog_len == l->backlog_max || l->addr.port != to->port ||
            memcmp(l->addr.ip, to->ip, sizeof(to->ip)) != 0)
            continue;
        if (sim_net_below(net, ++count) == 0)
            chosen = l;
    }
    return chosen;
}

static void backlog_add(struct sim_listener *l, struct sim_end *e)
{
    e->owner = SIM_BACKLOG;
    e->ready_ns = sim_due_ns(l->net);
    if (l->last != NULL)
        l->last->next = e;
    else
        l->first = e;
    l->last = e;
    l->backlog_len++;
}

int sim_link_new(struct sim_net *net, const struct io_addr *to, const struct io_addr *from,
                 enum sim_owner owner, struct sim_end **end)
{
    struct sim_listener *l = listener_for(net, to);
    struct sim_link *link = link_make(net);

    *end = NULL;
    if (link == NULL)
        return -ENOMEM;
    link->from = *from;
    link->to = *to;
    link->end[0].owner = owner;
    *end = &link->end[0];
    if (l == NULL) {
        free(link->end[1].rx.ring);
        link->end[1].rx.ring = NULL;
        return -ECONNREFUSED;
    }
    net->stats.connections++;
    backlog_add(l, &link->end[1]);
    return 0;
}

/* Clients -------------------------------------------------------------------------------------- */

struct sim_client *sim_client_connect(struct sim_net *net, const struct io_addr *to,
                                      const struct io_addr *from)
{
    struct sim_client *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    int err = sim_link_new(net, to, from, SIM_CLIENT, &c->end);
    if (err == -ENOMEM) {
        free(c);
        return NULL;
    }
    c->net = net;
    if (err != 0) {
        sim_release(c->end, true);
        c->end = NULL;
        c->end_state = SIM_CLIENT_REFUSED;
    }
    c->next = net->clients;
    if (c->next != NULL)
        c->next->prev = c;
    net->clients = c;
    return c;
}

enum sim_client_state sim_client_state(struct sim_client *c)
{
    if (c->end == NULL)
        return c->end_state;
    sim_settle(c->end);
    if (sim_readable(c->end) > 0)
        return SIM_CLIENT_OPEN;
    if (sim_is_eof(c->end))
        return SIM_CLIENT_EOF; /* before a reset that came later: everything is here */
    return sim_is_reset(c->end) ? SIM_CLIENT_RESET : SIM_CLIENT_OPEN;
}

size_t sim_client_send(struct sim_client *c, const void *bytes, size_t len)
{
    if (c->end == NULL || c->end->was_shutdown || sim_is_reset(c->end))
        return 0;
    len = min_size(len, sim_room(c->end));
    if (len > 0)
        sim_put(c->end, bytes, len);
    return len;
}

size_t sim_client_recv(struct sim_client *c, void *bytes, size_t cap)
{
    if (c->end == NULL)
        return 0;
    sim_settle(c->end);
    size_t len = min_size(cap, sim_readable(c->end));
    if (len > 0)
        sim_take(c->end, bytes, len);
    return len;
}

void sim_client_shutdown(struct sim_client *c)
{
    if (c->end == NULL || c->end->was_shutdown)
        return;
    c->end->was_shutdown = true;
    sim_put_fin(c->end);
}

void sim_client_close(struct sim_client *c)
{
    client_end(c, false);
}

void sim_client_reset(struct sim_client *c)
{
    client_end(c, true);
}

void sim_client_free(struct sim_client *c)
{
    client_end(c, false);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        c->net->clients = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    free(c);
}
