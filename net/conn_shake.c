/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The line before the shard's handshakes, and their steps. On the shard's thread. */

#include "net/conn_shake.h"

#include <malloc.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "net/conn.h"
#include "net/conn_rx.h"
#include "net/conn_tls.h"
#include "net/inflate.h"

/* What a handshake costs of the turn's budget, in the microseconds that net.c counts as bytes. */
#define START_US 300
#define START_RSA_US 1500
#define STEP_US 60
/* Who sends more before its turn has come is not read from. */
#define INPUT_MAX TLS_HELLO_BYTES_MAX
/* More handshakes than these spare memory, which costs each of them some microseconds. */
#define CROWD 8
/* Addresses that can be at a quarter of the slots each, rounded down: of 7 slots that is one. */
#define FULL_MAX 7

/* On top of X25519's, as measured with Debian's wolfSSL: both steps of the exchange. */
static const uint16_t group_us[TLS_GROUP_COUNT] = {
    [TLS_GROUP_P256] = 150,
    [TLS_GROUP_P384] = 400,
};

/* Lists
 * -------------------------------------------------------------------------------------------- */

static void list_append(struct shake_list *l, struct conn_shake *k)
{
    k->next = NULL;
    k->prev = l->last;
    if (l->last != NULL)
        l->last->next = k;
    else
        l->first = k;
    l->last = k;
    l->count++;
}

static void list_remove(struct shake_list *l, struct conn_shake *k)
{
    if (k->prev != NULL)
        k->prev->next = k->next;
    else
        l->first = k->next;
    if (k->next != NULL)
        k->next->prev = k->prev;
    else
        l->last = k->prev;
    l->count--;
}

static void make_ready(struct net_shake *s, struct conn_shake *k)
{
    if (k->is_ready)
        return;
    k->is_ready = true;
    k->next_ready = NULL;
    *s->ready_end = k;
    s->ready_end = &k->next_ready;
}

static void unmake_ready(struct net_shake *s, struct conn_shake *k)
{
    struct conn_shake **link = &s->ready;

    if (!k->is_ready)
        return;
    while (*link != k)
        link = &(*link)->next_ready;
    *link = k->next_ready;
    if (s->ready_end == &k->next_ready)
        s->ready_end = link;
    k->is_ready = false;
}

/* Gives back everything but the engine, which the caller has dealt with. */
static void shake_release(struct net_shake *s, struct conn_shake *k, bool ran)
{
    unmake_ready(s, k);
    list_remove(ran ? &s->running : &s->line, k);
    s->look = true;
    k->conn->shake = NULL;
    pool_release(&s->shakes, k);
}

/* Begin and end of a shard
 * ------------------------------------------------------------------------- */

int conn_shake_init(struct net *n, struct net_shake *s)
{
    const struct net_config *cfg = n->config;
    struct tls_shared *shared = n->shared->tls;

    s->shared = shared;
    s->slots = cfg->tls_handshakes_max;
    s->ready_end = &s->ready;
    s->free_ns = IO_FOREVER;
    pool_init(&s->shakes, "tls_handshakes", sizeof(struct conn_shake), 0, 0);
    /* With client certificates the context says that there are no tickets; a reload may end that.
     */
    return tls_workshop_init(&s->workshop, shared->ticket_seed, shared->start_ns,
                             cfg->tls_ticket_lifetime_ns);
}

void conn_shake_leave(struct net_shake *s)
{
    tls_workshop_deinit(&s->workshop);
}

void conn_shake_deinit(struct net_shake *s)
{
    tls_ticket_wipe(&s->workshop.tickets); /* where no thread has left */
    tls_context_unref(s->context);
    pool_deinit(&s->shakes);
}

/* What handshakes have freed is in pieces of the heap of this thread. */
void conn_shake_quiet(struct net_shake *s)
{
    pool_trim(&s->shakes);
    if (s->used && s->running.count == 0) {
        malloc_trim(0);
        s->used = false;
    }
}

/* Ends of handshakes
 * ------------------------------------------------------------------------------- */

static void count_failure(struct conn *c, enum tls_failure why, const char *problem)
{
    char peer[IO_ADDR_TEXT_MAX];

    net_stat(c->net, (enum net_stat)(NET_STAT_TLS_FAILURES + why));
    if (likely(log_level_now != LOG_DEBUG))
        return;
    io_addr_format(&c->peer, peer);
    log_debug("TLS handshake failed", "peer", peer, "reason", tls_failure_label(why), "problem",
              problem, NULL);
}

static void shake_drop(struct conn_shake *k)
{
    struct net_shake *s = &k->conn->net->tls->shake;
    bool ran = k->engine != NULL;

    if (ran)
        tls_handshake_free(k->engine);
    shake_release(s, k, ran);
}

static void shake_fail(struct conn_shake *k, enum tls_failure why)
{
    struct conn *c = k->conn;
    bool refused = why == tls_handshake_failure(k->engine);

    count_failure(c, why, refused ? tls_handshake_problem(k->engine) : "");
    shake_drop(k);
    conn_end(c, CONN_END_TLS_HANDSHAKE);
}

bool conn_shake_has_input(const struct conn *c)
{
    return c->shake != NULL && c->shake->is_ready;
}

void conn_shake_cancel(struct conn *c)
{
    if (c->shake == NULL)
        return;
    count_failure(c, c->end == CONN_END_HANDSHAKE_TIMEOUT ? TLS_FAILURE_TIMEOUT : TLS_FAILURE_GONE,
                  "");
    shake_drop(c->shake);
}

static void log_opened(const struct conn *c, const struct tls_handshake_info *info)
{
    static const char *const aeads[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    char peer[IO_ADDR_TEXT_MAX];

    io_addr_format(&c->peer, peer);
    log_debug("TLS handshake complete", "peer", peer, "version",
              info->version == TLS_VERSION_1_3 ? "1.3" : "1.2", "aead", aeads[info->aead],
              "resumed", info->is_resumed ? "true" : "false", "subject", info->subject, NULL);
}

static void count_opened(struct net *n, const struct tls_handshake_info *info)
{
    static const uint16_t rows[2][2] = {
        [TLS_VERSION_1_2] = {NET_STAT_TLS_FULL_12, NET_STAT_TLS_RESUMED_12},
        [TLS_VERSION_1_3] = {NET_STAT_TLS_FULL_13, NET_STAT_TLS_RESUMED_13},
    };

    net_stat(n, (enum net_stat)rows[info->version][info->is_resumed]);
    if (info->is_stapled)
        net_stat(n, info->version == TLS_VERSION_1_3 ? NET_STAT_TLS_STAPLED_13
                                                     : NET_STAT_TLS_STAPLED_12);
}

/* Everything that was received behind the handshake are records: `left` first, which lies in head,
 * then what came while the connection was held. */
static void feed_records(struct conn *c, struct message *head, struct bytes left)
{
    struct conn_rx *rx = c->rx;
    struct message_pool *messages = &c->net->shard->messages;
    struct message *rest = NULL;
    uint32_t rest_off = 0;

    if (rx != NULL && rx->rest != NULL) {
        rest_off = rx->rest_off;
        rest = conn_rx_take(c, &rx->rest, rx->rest_len);
        rx->rest_off = rx->rest_len = 0;
    }
    conn_rx_trim(c);
    if (left.len > 0)
        conn_tls_input(c, left);
    if (rest != NULL) {
        conn_tls_input(
            c, (struct bytes){message_payload(rest) + rest_off, rest->payload_len - rest_off});
        message_free(messages, rest);
    }
    message_free(messages, head);
}

/* The engine is done: its keys become the connection's. */
static void shake_finish(struct conn_shake *k, struct message *head, struct bytes left)
{
    struct conn *c = k->conn;
    struct net *n = c->net;
    struct tls_handshake *engine = k->engine;
    size_t bytes = tls_handshake_record_bytes(engine);
    struct conn_tls *t = bytes == 0 ? NULL : conn_tls_acquire(n, bytes);
    struct tls_handshake_info info;

    if (t == NULL || !tls_handshake_finish(engine, &t->record, &info)) {
        if (t != NULL)
            conn_tls_release(n, t);
        else
            tls_handshake_free(engine);
        count_failure(c, bytes != 0 && t == NULL ? TLS_FAILURE_NO_MEMORY : TLS_FAILURE_EXPORT, "");
        shake_release(&n->tls->shake, k, true);
        conn_end(c, CONN_END_TLS_HANDSHAKE);
        message_free(&n->shard->messages, head);
        return;
    }
    shake_release(&n->tls->shake, k, true);
    count_opened(n, &info);
    if (unlikely(log_level_now == LOG_DEBUG))
        log_opened(c, &info);
    conn_tls_open(c, t);
    feed_records(c, head, left);
}

/* Steps
 * -------------------------------------------------------------------------------------------- */

static void spend(struct net *n, uint64_t us)
{
    n->work_left -= min_u64(n->work_left, us * WORK_BYTES_PER_US);
}

/* Input that brings forth nothing, byte by byte maybe, is none. */
static void note_progress(struct net_shake *s, struct conn_shake *k, uint64_t now_ns)
{
    k->since_ns = min_u64(now_ns, k->until_ns - SHAKE_IDLE_NS);
    list_remove(&s->running, k);
    list_append(&s->running, k);
}

/* What the handshake has to say. False: no memory, c is ended. */
static bool queue_output(struct conn_shake *k, uint64_t now_ns)
{
    struct bytes out = tls_handshake_output(k->engine);
    bool queued;

    if (out.len == 0)
        return true;
    note_progress(&k->conn->net->tls->shake, k, now_ns);
    queued = conn_queue_bytes(k->conn, out.ptr, (uint32_t)out.len);
    tls_handshake_drop_output(k->engine); /* the client may take its time */
    if (queued)
        return true;
    shake_fail(k, TLS_FAILURE_NO_MEMORY);
    return false;
}

/* Goes on with all input that is there; a ClientHello that was cut in its joined form. */
static void shake_step(struct conn_shake *k, const struct tls_hello *hello, uint64_t now_ns)
{
    struct conn *c = k->conn;
    struct net *n = c->net;
    struct net_shake *s = &n->tls->shake;
    struct message *head = conn_rx_take(c, &c->rx->head, c->rx->head_len);
    struct bytes in = {message_payload(head), c->rx->head_len};
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;

    c->rx->head_len = 0;
    s->workshop.now_ns = now_ns;
    if (hello != NULL && hello->joined.ptr != NULL) {
        struct bytes joined = hello->joined;

        in.ptr += hello->record_bytes;
        in.len -= hello->record_bytes;
        st = tls_handshake_step(k->engine, &joined);
    }
    if (st == TLS_HANDSHAKE_MORE && (in.len > 0 || hello == NULL))
        st = tls_handshake_step(k->engine, &in);
    spend(n, STEP_US);
    if (queue_output(k, now_ns) && st == TLS_HANDSHAKE_DONE) {
        shake_finish(k, head, in);
    } else {
        if (c->shake != NULL && st == TLS_HANDSHAKE_FAILED)
            shake_fail(k, tls_handshake_failure(k->engine));
        message_free(&n->shard->messages, head);
        conn_rx_trim(c);
    }
    conn_unhold(c, CONN_HOLD_TLS);
    if (unlikely(c->flags & CONN_F_EOF) && c->state < CONN_ENDING)
        conn_input_over(c, 0); /* it came behind this */
}

/* Takes the certificates of the last reload; the old ones go with the last handshake by them. */
static void renew(struct net *n)
{
    struct net_shake *s = &n->tls->shake;
    bool is_first = s->context == NULL;
    uint32_t before = s->generation;

    tls_shared_renew(s->shared, &s->context, &s->generation);
    if (!is_first && s->generation != before)
        net_stat(n, NET_STAT_TLS_RENEWED);
}

/* Most certificates have nothing to staple, and the clock is not read for them. */
static bool staples(const struct tls_context *ctx, const struct tls_identity *id,
                    const struct tls_hello *hello)
{
    return tls_identity_staple(id) != NULL && tls_context_staples(ctx, id, hello, time(NULL));
}

/* The ClientHello is looked at again: it may have been some time in line, and a reload between. */
static void shake_start(struct net *n, struct conn_shake *k, uint64_t now_ns)
{
    struct net_shake *s = &n->tls->shake;
    struct conn_rx *rx = k->conn->rx;
    struct tls_hello hello;
    const struct tls_identity *id;

    list_remove(&s->line, k);
    list_append(&s->running, k);
    k->since_ns = now_ns;
    k->until_ns = now_ns + SHAKE_SLOT_NS;
    renew(n);
    CHECK(tls_hello_parse(message_payload(rx->head), rx->head_len, s->scratch, &hello) ==
          TLS_HELLO_OK);
    id = tls_context_choose(s->context, &hello);
    s->workshop.is_crowded = s->running.count > CROWD;
    k->engine = tls_handshake_new(&s->workshop, s->context, id, staples(s->context, id, &hello));
    s->used = true;
    spend(n, (tls_identity_is_rsa(id) ? START_RSA_US : START_US) + group_us[hello.group]);
    if (k->engine != NULL) {
        shake_step(k, &hello, now_ns);
        return;
    }
    count_failure(k->conn, TLS_FAILURE_NO_MEMORY, "");
    conn_end(k->conn, CONN_END_TLS_HANDSHAKE);
    shake_release(s, k, true);
}

/* Slots
 * -------------------------------------------------------------------------------------------- */

/* IPv6 addresses count by their /64, as in net/admission.h. */
static bool same_client(const struct io_addr *a, const struct io_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, a->family == AF_INET6 ? 8 : 16) == 0;
}

static bool is_counted(const struct io_addr *a)
{
    return a->family == AF_INET || a->family == AF_INET6;
}

static bool has_share(const struct net_shake *s, const struct io_addr *peer)
{
    uint32_t share = s->slots / 4 > 0 ? s->slots / 4 : 1;
    uint32_t count = 0;

    if (!is_counted(peer))
        return true;
    for (const struct conn_shake *k = s->running.first; k != NULL; k = k->next)
        count += same_client(&k->conn->peer, peer);
    return count < share;
}

/* The first in line of each address that has no share left, so that each is found out once. */
struct full_peers {
    struct conn_shake *first[FULL_MAX];
    uint32_t count;
};

static struct conn_shake *full_find(const struct full_peers *full, const struct io_addr *peer)
{
    for (uint32_t i = 0; i < full->count; i++) {
        if (same_client(&full->first[i]->conn->peer, peer))
            return full->first[i];
    }
    return NULL;
}

/* The first from k on whose address has its share of slots left. Whom it passes it notes. */
static struct conn_shake *next_in_line(const struct net_shake *s, struct conn_shake *k,
                                       struct full_peers *full)
{
    for (; k != NULL; k = k->next) {
        const struct io_addr *peer = &k->conn->peer;

        if (k->conn->state != CONN_TLS) /* its end is marked */
            continue;
        if (full_find(full, peer) != NULL)
            continue;
        if (has_share(s, peer))
            return k;
        if (full->count < FULL_MAX)
            full->first[full->count++] = k;
    }
    return NULL;
}

/* One pass: who was passed by has no share until another slot is given back. */
static void fill_slots(struct net *n, uint64_t now_ns)
{
    struct net_shake *s = &n->tls->shake;
    struct full_peers full = {.count = 0};
    struct conn_shake *k = s->line.first;

    s->look = false;
    while (s->running.count < s->slots && (k = next_in_line(s, k, &full)) != NULL) {
        struct conn_shake *next = k->next;

        if (n->work_left == 0) {
            s->look = true;
            return;
        }
        shake_start(n, k, now_ns);
        k = next;
    }
}

/* When k has been idle for too long for somebody who waits for its slot. */
static uint64_t stalled_at_ns(const struct conn_shake *k, const struct conn_shake *waiter)
{
    return min_u64(k->since_ns + SHAKE_IDLE_NS,
                   max_u64(waiter->since_ns + SHAKE_PATIENCE_NS, k->since_ns + SHAKE_HASTE_NS));
}

/* A handshake that is idle for too long by now, and in *waiter who gains by its end: `any`, who
 * needs but a slot (or NULL), or the first of the same address if that has no share left. NULL:
 * none, and *at_ns is when there may be one. */
static struct conn_shake *find_stalled(const struct net_shake *s, struct conn_shake *any,
                                       const struct full_peers *full, uint64_t now_ns,
                                       struct conn_shake **waiter, uint64_t *at_ns)
{
    *at_ns = IO_FOREVER;
    for (struct conn_shake *k = s->running.first; k != NULL; k = k->next) {
        struct conn_shake *same = full_find(full, &k->conn->peer);
        uint64_t ns;

        *waiter = same != NULL ? same : any; /* whom the search for `any` passed came before it */
        if (*waiter == NULL || k->is_ready || k->conn->state != CONN_TLS)
            continue;
        ns = stalled_at_ns(k, *waiter);
        if (ns <= now_ns)
            return k;
        *at_ns = min_u64(*at_ns, ns);
    }
    return NULL;
}

/* Slots of the stalled go to who waits for them, as many as are waited for. What a late shard has
 * not read yet is no fault of theirs. */
static void free_slots(struct net *n, uint64_t now_ns)
{
    struct net_shake *s = &n->tls->shake;

    s->free_ns = now_ns + NS_PER_MS;
    while (n->work_left > 0 && n->shard->lag_ns <= SHARD_LAG_NS) {
        struct full_peers full = {.count = 0};
        struct conn_shake *any = next_in_line(s, s->line.first, &full), *waiter, *k;

        if (s->running.count < s->slots)
            any = NULL; /* has a slot already */
        k = find_stalled(s, any, &full, now_ns, &waiter, &s->free_ns);
        if (k == NULL)
            return;
        shake_fail(k, TLS_FAILURE_STALLED);
        shake_start(n, waiter, now_ns);
    }
}

bool conn_shake_is_due(const struct net *n)
{
    return n->tls != NULL && n->tls->shake.look && n->tls->shake.line.count > 0;
}

/* Input that came first, then who waits. Who joins the line is judged within SHAKE_LOOK_NS. */
uint64_t conn_shake_turn(struct net *n, uint64_t now_ns)
{
    struct net_shake *s = &n->tls->shake;

    if (s->context != NULL)
        renew(n); /* a shard without handshakes shall not keep old keys */
    n->work_left = max_u64(n->work_left, n->turn_work / 4); /* others may have used up all */
    while (s->ready != NULL && n->work_left > 0) {
        struct conn_shake *k = s->ready;

        unmake_ready(s, k);
        if (k->conn->state == CONN_TLS) /* else its end is marked already */
            shake_step(k, NULL, now_ns);
    }
    if (s->look) {
        s->free_ns = min_u64(s->free_ns, now_ns + SHAKE_LOOK_NS);
        fill_slots(n, now_ns);
    }
    if (s->line.count == 0)
        s->free_ns = IO_FOREVER;
    else if (now_ns >= s->free_ns)
        free_slots(n, now_ns);
    return s->ready != NULL || s->look ? now_ns : s->free_ns;
}

/* Input
 * -------------------------------------------------------------------------------------------- */

/* No TLS at all: what can be understood is answered in the clear (the alert is RFC 8446 6). */
static void refuse_plain(struct conn *c, enum tls_hello_result r)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 10}; /* fatal, unexpected_message */

    if (r == TLS_HELLO_HTTP) {
        count_failure(c, TLS_FAILURE_PLAIN_HTTP, "");
        c->flags &= (uint16_t)~CONN_F_TLS;
        c->state = CONN_HEAD;
        conn_http_plain_on_tls(c);
        return;
    }
    count_failure(c, r == TLS_HELLO_NOT_TLS ? TLS_FAILURE_NOT_TLS : TLS_FAILURE_HELLO, "");
    (void)conn_queue_bytes(c, alert, sizeof(alert));
    conn_end(c, CONN_END_TLS_HANDSHAKE);
}

static void stand_in_line(struct conn *c)
{
    struct net_shake *s = &c->net->tls->shake;
    struct conn_shake *k = pool_acquire(&s->shakes);

    if (k == NULL) {
        count_failure(c, TLS_FAILURE_NO_MEMORY, "");
        conn_end(c, CONN_END_NO_MEMORY);
        return;
    }
    *k = (struct conn_shake){.conn = c, .since_ns = c->net->io->now_ns};
    c->shake = k;
    list_append(&s->line, k);
    s->look = true;
}

void conn_shake_input(struct conn *c, struct bytes *in)
{
    struct conn_rx *rx = conn_rx_get(c);
    struct tls_hello hello;
    enum tls_hello_result r;

    if (rx == NULL || !conn_rx_append(c, &rx->head, &rx->head_len, in->ptr, in->len, in->len))
        return;
    in->len = 0;
    if (c->shake == NULL) {
        if (rx->head_len < min_u32(rx->hello_len, TLS_HELLO_BYTES_MAX))
            return;
        r = tls_hello_parse(message_payload(rx->head), rx->head_len, c->net->tls->shake.scratch,
                            &hello);
        rx->hello_len = rx->head_len + (uint32_t)hello.missing;
        if (r == TLS_HELLO_OK)
            stand_in_line(c);
        else if (r != TLS_HELLO_MORE)
            refuse_plain(c, r);
    } else if (c->shake->engine != NULL) {
        make_ready(&c->net->tls->shake, c->shake);
    }
    if (c->shake != NULL && rx->head_len > INPUT_MAX)
        conn_hold(c, CONN_HOLD_TLS);
}
