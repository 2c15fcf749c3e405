/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Soak: echo and rooms in open loop, judged as ever, while others come and go, read nothing or
 * break the protocol. The good ones must not notice. On workers' threads, but for setup, finish and
 * what is told. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/load/exits.h"
#include "tools/load/handshake.h"
#include "tools/load/opener.h"
#include "tools/load/report.h"
#include "tools/load/scenarios.h"

#define CHURN_KEEP_NS (100 * NS_PER_MS)
#define BAD_KEEP_NS NS_PER_SEC
#define SLOW_KEEP_NS (1ULL << 62)
/* A slow reader reads for a moment, then not for long. */
#define SLOW_READ_NS (20 * NS_PER_MS)
#define SLOW_PAUSE_NS (500 * NS_PER_MS)
#define SLOTS_MIN 8

/* w->extra */
struct soak {
    struct opener churn;
    struct opener slow;
    struct opener bad;
    uint64_t tolerated; /* misbehaving clients that the server did not end */
    uint64_t slow_turn_ns;
    bool slow_reads;
};

static struct soak *soak_of(const struct client *c)
{
    return c->worker->extra;
}

/* None of the messages that are waited for. */
static void ignore(struct client *c, struct bytes payload, uint8_t opcode)
{
    (void)payload;
    (void)opcode;
    c->worker->received--;
    c->worker->tally->received--;
}

/* Churn -----------------------------------------------------------------------------------------
 */

static void churn_open(struct client *c)
{
    opener_on_open(&soak_of(c)->churn, c);
}

static void churn_end(struct client *c, const struct client_end *end)
{
    opener_on_end(&soak_of(c)->churn, c, end);
}

static void churn_closed(struct client *c)
{
    opener_on_closed(&soak_of(c)->churn, c);
}

static const struct role churn_role = {
    .on_open = churn_open, .on_message = ignore, .on_end = churn_end, .on_closed = churn_closed};

/* Slow readers ----------------------------------------------------------------------------------
 */

static void slow_open(struct client *c)
{
    opener_on_open(&soak_of(c)->slow, c);
    io_recv(c->worker->io, &c->io, soak_of(c)->slow_reads);
}

/* The server may lose patience with them. */
static void slow_end(struct client *c, const struct client_end *end)
{
    opener_on_end(&soak_of(c)->slow, c, end);
}

static void slow_closed(struct client *c)
{
    opener_on_closed(&soak_of(c)->slow, c);
}

static const struct role slow_role = {
    .on_open = slow_open, .on_message = ignore, .on_end = slow_end, .on_closed = slow_closed};

static uint64_t slow_turn(struct worker *w, struct soak *k)
{
    uint64_t now_ns = worker_now(w);

    if (now_ns < k->slow_turn_ns)
        return k->slow_turn_ns;
    k->slow_reads = !k->slow_reads;
    k->slow_turn_ns = now_ns + (k->slow_reads ? SLOW_READ_NS : SLOW_PAUSE_NS);
    for (struct client *c = k->slow.held.first; c != NULL; c = c->list_next)
        io_recv(w->io, &c->io, k->slow_reads);
    return k->slow_turn_ns;
}

/* Misbehaving clients ---------------------------------------------------------------------------
 */

struct misdeed {
    const char *bytes;
    uint8_t len;
    bool is_request; /* instead of the upgrade's */
    bool is_patient; /* a server may wait for the rest */
};

#define FRAME(text) .bytes = (text), .len = sizeof(text) - 1

/* Masked with zeros where masked. RFC 6455 5.2, 5.1, 5.4, 5.5, 7.4.1, 8.1. */
static const struct misdeed misdeeds[] = {
    {FRAME("\x81\x05hello")},                                    /* not masked */
    {FRAME("\x83\x80\0\0\0\0")},                                 /* unknown opcode */
    {FRAME("\xf1\x80\0\0\0\0")},                                 /* reserved bits */
    {FRAME("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0")}, /* 8 EiB announced */
    {FRAME("\x81\x82\0\0\0\0\xc3\x28")},                         /* no UTF-8 */
    {FRAME("\x09\x80\0\0\0\0")},                                 /* fragmented ping */
    {FRAME("\x80\x80\0\0\0\0")},                                 /* continues nothing */
    {FRAME("\x88\x82\0\0\0\0\x03\xed")},                         /* close code 1005 */
    {FRAME("\x82\xfe\x10\x00\0\0\0\0half"), .is_patient = true}, /* stops in a frame */
    {FRAME("BREW coffee\r\n\r\n"), .is_request = true},          /* no HTTP */
    {FRAME("GET / HTTP/1.1\r\nHo"), .is_request = true, .is_patient = true},
};

static const struct misdeed *misdeed_of(const struct client *c)
{
    return &misdeeds[c->misdeed % ARRAY_LEN(misdeeds)];
}

static uint32_t bad_request(struct client *c, char *out)
{
    const struct misdeed *m = misdeed_of(c);

    if (!m->is_request)
        return client_request(c, out);
    memcpy(out, m->bytes, m->len);
    return m->len;
}

static void bad_open(struct client *c)
{
    const struct misdeed *m = misdeed_of(c);

    opener_on_open(&soak_of(c)->bad, c);
    (void)client_send_raw(c, m->bytes, m->len);
}

static void bad_end(struct client *c, const struct client_end *end)
{
    struct soak *k = soak_of(c);

    if (c->was_open && end->why == CLIENT_WHY_SELF && c->worker->phase < PHASE_DRAIN &&
        !misdeed_of(c)->is_patient)
        k->tolerated++;
    opener_on_end(&k->bad, c, end);
}

static void bad_closed(struct client *c)
{
    c->misdeed++;
    opener_on_closed(&soak_of(c)->bad, c);
}

static const struct role bad_role = {.request = bad_request,
                                     .on_open = bad_open,
                                     .on_message = ignore,
                                     .on_end = bad_end,
                                     .on_closed = bad_closed};

/* Putting it together ---------------------------------------------------------------------------
 */

static uint32_t slots_for(uint32_t per_second)
{
    return per_second == 0 ? 0 : SLOTS_MIN + per_second;
}

static void add_waiting(struct run *r, const struct role *role, uint32_t count)
{
    struct group *g = run_add_group(r, role, r->path, count, 0);

    g->rooms = r->config.rooms;
    g->waits = true;
    r->opened_first -= count;
}

static int setup(struct run *r)
{
    const struct load_config *cfg = &r->config;
    int code = fanout_setup(r);

    if (code != 0)
        return code;
    run_add_group(r, &echo_role, cfg->echo_path, cfg->connections,
                  (uint32_t)cfg->echo_payload_bytes);
    add_waiting(r, &churn_role, slots_for(cfg->churn));
    add_waiting(r, &slow_role, cfg->slow_readers);
    add_waiting(r, &bad_role, slots_for(cfg->bad_clients));
    return 0;
}

static void begin_opener(struct opener *o, struct worker *w, const struct role *role,
                         uint32_t per_second)
{
    const struct run *r = w->run;

    o->is_aside = true;
    o->parallel = SLOTS_MIN;
    for (uint32_t g = 0; g < r->group_count; g++) {
        if (r->groups[g].role == role)
            opener_init(o, w, &r->groups[g]);
    }
    for (struct client *c = o->spare.first; c != NULL; c = c->list_next)
        c->misdeed = c->number; /* so that all misdeeds are done from the beginning */
    o->pace = (struct schedule){.per_second = per_second, .first = w->idx, .step = r->threads};
}

static int worker_begin(struct worker *w)
{
    const struct load_config *cfg = &w->run->config;
    struct soak *k = calloc(1, sizeof(*k));

    w->extra = k;
    if (k == NULL)
        return -ENOMEM;
    begin_opener(&k->churn, w, &churn_role, cfg->churn);
    k->churn.keep_ns = CHURN_KEEP_NS;
    k->churn.how = OPENER_MIXED;
    begin_opener(&k->slow, w, &slow_role, 0);
    k->slow.keep_ns = SLOW_KEEP_NS;
    k->slow.may_fail = true;
    begin_opener(&k->bad, w, &bad_role, cfg->bad_clients);
    k->bad.keep_ns = BAD_KEEP_NS;
    k->bad.how = OPENER_RESET;
    k->bad.may_fail = true;
    return fanout_worker_init(w);
}

static void worker_end(struct worker *w)
{
    free(w->extra);
    fanout_worker_deinit(w);
}

static void on_start(struct worker *w)
{
    struct soak *k = w->extra;

    k->churn.pace.start_ns = k->bad.pace.start_ns = w->run->start_ns;
}

static uint64_t on_turn(struct worker *w)
{
    struct soak *k = w->extra;
    uint64_t at_ns = slow_turn(w, k);

    opener_turn(&k->churn, true);
    opener_turn(&k->slow, true);
    opener_turn(&k->bad, true);
    at_ns = min_u64(at_ns, opener_deadline(&k->churn));
    at_ns = min_u64(at_ns, opener_deadline(&k->bad));
    return min_u64(at_ns, fanout_turn(w));
}

static void finish(struct run *r)
{
    echo_finish(r);
    fanout_finish(r);
}

struct soak_sum {
    uint64_t churned, slow_opened, slow_ended, bad, bad_ended, tolerated;
};

static struct soak_sum add_up(const struct run *r)
{
    struct soak_sum s = {0};

    for (uint32_t t = 0; t < r->threads; t++) {
        const struct soak *k = r->workers[t].extra;
        s.churned += k->churn.opened;
        s.slow_opened += k->slow.opened;
        s.slow_ended += k->slow.ended;
        s.bad += k->bad.begun;
        s.bad_ended += k->bad.ended;
        for (uint32_t i = CLIENT_WHY_SELF + 1; i < CLIENT_WHYS; i++)
            s.bad_ended += k->bad.refused[i];
        s.tolerated += k->tolerated;
    }
    return s;
}

static void json(const struct run *r, struct json_out *j)
{
    struct soak_sum s = add_up(r);

    json_open(j, "soak");
    json_number(j, "churned", s.churned);
    json_number(j, "slow_opened", s.slow_opened);
    json_number(j, "slow_ended", s.slow_ended);
    json_number(j, "bad", s.bad);
    json_number(j, "bad_ended", s.bad_ended);
    json_number(j, "bad_tolerated", s.tolerated);
    json_close(j);
}

static void rows(const struct run *r)
{
    struct soak_sum s = add_up(r);

    report_row("came and went", "%llu", (unsigned long long)s.churned);
    report_row("slow readers", "%llu opened, the server ended %llu",
               (unsigned long long)s.slow_opened, (unsigned long long)s.slow_ended);
    report_row("misbehaved", "%llu, the server ended %llu, tolerated %llu",
               (unsigned long long)s.bad, (unsigned long long)s.bad_ended,
               (unsigned long long)s.tolerated);
}

const struct scenario scenario_soak = {
    .name = "soak",
    .summary = "rooms and echo, while others come and go, read slowly or misbehave",
    .path = "/rooms/load-{run}-{room}",
    .sent = "sent",
    .received = "messages",
    .bit = LOAD_SOAK,
    .setup = setup,
    .teardown = fanout_teardown,
    .worker_init = worker_begin,
    .worker_deinit = worker_end,
    .on_start = on_start,
    .on_turn = on_turn,
    .finish = finish,
    .json = json,
    .rows = rows,
    .sources = 64,
};
