/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* TLS of a connection of the generator. On the worker's thread. */

#include "tools/load/client_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls_client.h"
#include "tools/load/run.h"
#include "tools/load/worker.h"

struct client_tls {
    struct tls_handshake *shake; /* under way, or NULL */
    uint8_t *flight;             /* of it, CLIENT_TLS_FLIGHT_MAX bytes, until it has been sent */
    uint8_t *cut;                /* TLS_RECORD_BYTES_MAX bytes for a record that is cut, or NULL */
    uint32_t flight_len;
    uint32_t cut_len;
    bool is_offered; /* a session, for resumption */
    bool is_open;    /* `record` is there; before that, neither is its memory */
    struct tls_record record;
};

/* A worker's part -------------------------------------------------------------------------------
 */

size_t client_tls_extra_bytes(size_t bytes)
{
    size_t records = 1 + bytes / TLS_RECORD_PLAIN_MAX;

    return records * (TLS_RECORD_EXTRA_MAX + TLS_RECORD_ROOM) + TLS_RECORD_END_BYTES_MAX +
           CLIENT_TLS_FLIGHT_MAX;
}

int worker_tls_init(struct worker *w)
{
    w->tls = calloc(1, sizeof(*w->tls));
    if (w->tls == NULL)
        return -ENOMEM;
    w->tls->plain = malloc(w->out_bytes);
    return w->tls->plain == NULL ? -ENOMEM : 0;
}

void worker_tls_deinit(struct worker *w)
{
    if (w->tls == NULL)
        return;
    while (w->tls->records_free != NULL) {
        uint8_t *next;
        memcpy(&next, w->tls->records_free, sizeof(next));
        free(w->tls->records_free);
        w->tls->records_free = next;
    }
    tls_client_forget(w->tls->session);
    tls_work_wipe(&w->tls->work);
    free(w->tls->plain);
    free(w->tls);
    w->tls = NULL;
}

/* A record that is cut begins. */
static void keep_cut(struct client *c, struct bytes in)
{
    struct worker_tls *shop = c->worker->tls;
    uint8_t *p = shop->records_free;

    if (p != NULL)
        memcpy(&shop->records_free, p, sizeof(shop->records_free));
    else
        p = malloc(TLS_RECORD_BYTES_MAX);
    if (p == NULL) {
        client_fail(c, CLIENT_WHY_PROTOCOL, 0, "no memory for a TLS record");
        return;
    }
    memcpy(p, in.ptr, in.len);
    c->tls->cut = p;
    c->tls->cut_len = (uint32_t)in.len;
}

static void release_cut(struct worker_tls *shop, uint8_t *cut)
{
    memcpy(cut, &shop->records_free, sizeof(shop->records_free));
    shop->records_free = cut;
}

void client_tls_free(struct client *c)
{
    struct client_tls *t = c->tls;

    if (t == NULL)
        return;
    if (t->shake != NULL)
        tls_handshake_free(t->shake);
    if (t->is_open)
        tls_record_wipe(&t->record, &c->worker->tls->work);
    if (t->cut != NULL)
        release_cut(c->worker->tls, t->cut);
    free(t->flight);
    free(t);
    c->tls = NULL;
}

/* The handshake ---------------------------------------------------------------------------------
 */

/* What the library wants to say, behind what waits. */
static bool keep_flight(struct client_tls *t)
{
    struct bytes out = tls_handshake_output(t->shake);

    if (out.len == 0)
        return true;
    if (t->flight == NULL)
        t->flight = malloc(CLIENT_TLS_FLIGHT_MAX);
    if (t->flight == NULL || out.len > CLIENT_TLS_FLIGHT_MAX - t->flight_len)
        return false;
    memcpy(t->flight + t->flight_len, out.ptr, out.len);
    t->flight_len += (uint32_t)out.len;
    return true;
}

void client_tls_push(struct client *c)
{
    struct client_tls *t = c->tls;
    struct bytes flight = {t->flight, t->flight_len};

    if (c->sending || c->state != CLIENT_SHAKE)
        return;
    t->flight_len = 0;
    if (t->is_open)
        client_ask(c, flight);
    else if (flight.len > 0)
        client_tx_flight(c, flight);
    if (c->tls->is_open) {
        free(c->tls->flight);
        c->tls->flight = NULL;
    }
}

/* The first session that can be had is the one that is resumed, until it is refused. */
static void note_session(struct client *c)
{
    struct worker_tls *shop = c->worker->tls;

    if (c->tls->is_offered && !tls_handshake_is_resumed(c->tls->shake)) {
        tls_client_forget(shop->session);
        shop->session = NULL;
    } else if (shop->session == NULL && c->worker->run->config.tls_resume) {
        shop->session = tls_handshake_session(c->tls->shake);
    }
}

/* The keys are ours now, and the library's object goes. NULL, or what is wrong. */
static const char *take_over(struct client *c)
{
    struct worker_tls *shop = c->worker->tls;
    size_t bytes = tls_handshake_record_bytes(c->tls->shake);
    struct tls_handshake *shake = c->tls->shake;
    struct client_tls *bigger;

    if (bytes == 0)
        return "a suite was agreed on that is no AEAD of TLS 1.2 or 1.3";
    bigger = realloc(c->tls, offsetof(struct client_tls, record) + bytes);
    if (bigger == NULL)
        return "out of memory";
    c->tls = bigger;
    note_session(c);
    bigger->shake = NULL;
    bigger->is_open = tls_handshake_finish(shake, &bigger->record, &shop->info);
    if (!bigger->is_open)
        return "keys can't be taken over from the library";
    *(shop->info.is_resumed ? &shop->resumed : &shop->full) += 1;
    return NULL;
}

static void shake(struct client *c, struct bytes *in)
{
    enum tls_handshake_status st = tls_handshake_step(c->tls->shake, in);
    const char *problem = NULL;
    bool is_certificate = false;

    if (!keep_flight(c->tls))
        problem = "a flight is too long";
    else if (st == TLS_HANDSHAKE_DONE)
        problem = take_over(c);
    else if (st == TLS_HANDSHAKE_FAILED)
        problem = tls_client_problem(c->tls->shake, &is_certificate);
    client_tls_push(c); /* an alert, too */
    if (problem != NULL)
        client_fail(c, CLIENT_WHY_TLS, is_certificate, problem);
}

void client_tls_begin(struct client *c)
{
    struct worker_tls *shop = c->worker->tls;
    struct client_tls *t = calloc(1, sizeof(*t));
    struct bytes none = {0};

    c->state = CLIENT_SHAKE;
    c->tls = t;
    if (t != NULL) {
        t->is_offered = shop->session != NULL;
        t->shake =
            tls_client_handshake(c->worker->run->tls, c->worker->run->tls_name, shop->session);
    }
    if (t == NULL || t->shake == NULL) {
        client_fail(c, CLIENT_WHY_TLS, 0, "out of memory");
        return;
    }
    shake(c, &none);
}

/* Records ---------------------------------------------------------------------------------------
 */

/* Opens what is whole of *in. */
static bool open_records(struct client *c, struct bytes *in)
{
    struct client_tls *t = c->tls;
    bool has_frames = false;
    struct tls_piece piece;
    enum tls_record_status st;

    while ((st = tls_record_open(&t->record, &c->worker->tls->work, in, &piece)) == TLS_RECORD_DATA)
        has_frames |= client_input(c, piece.data);
    if (st == TLS_RECORD_CLOSED)
        client_fail(c, CLIENT_WHY_LOST, 0, NULL);
    else if (st == TLS_RECORD_FAILED)
        client_fail(c, CLIENT_WHY_PROTOCOL, 0, tls_reason_text(tls_record_reason(&t->record)));
    return has_frames;
}

/* What the kept record needs, as far as its head tells (RFC 8446 5.1); no more than there is room
 * for, since the layer refuses a longer one by its head. */
static size_t needed(const struct client_tls *t)
{
    if (t->cut_len < TLS_RECORD_HEAD_BYTES)
        return TLS_RECORD_HEAD_BYTES;
    return min_size(TLS_RECORD_HEAD_BYTES + ((size_t)t->cut[3] << 8 | t->cut[4]),
                    TLS_RECORD_BYTES_MAX);
}

/* Goes on with the kept record, and opens it when it is whole. */
static bool continue_cut(struct client *c, struct bytes *in)
{
    struct client_tls *t = c->tls;
    uint8_t *cut = t->cut;
    bool has_frames;

    while (t->cut_len < needed(t)) {
        size_t take = min_size(in->len, needed(t) - t->cut_len);
        if (take == 0)
            return false;
        memcpy(cut + t->cut_len, in->ptr, take);
        t->cut_len += (uint32_t)take;
        in->ptr += take;
        in->len -= take;
    }
    struct bytes whole = {cut, t->cut_len};
    t->cut = NULL;
    has_frames = open_records(c, &whole);
    release_cut(c->worker->tls, cut);
    return has_frames;
}

static bool take_records(struct client *c, struct bytes in)
{
    struct client_tls *t = c->tls;
    bool has_frames = false;

    if (t->cut != NULL)
        has_frames = continue_cut(c, &in);
    if (in.len > 0 && client_is_alive(c))
        has_frames |= open_records(c, &in);
    if (in.len > 0 && client_is_alive(c))
        keep_cut(c, in);
    return has_frames;
}

bool client_tls_input(struct client *c, struct bytes in)
{
    if (c->tls->shake != NULL)
        shake(c, &in);
    if (in.len == 0 || !client_is_alive(c) || !c->tls->is_open)
        return false;
    return take_records(c, in);
}

size_t client_tls_seal(struct client *c, const struct iovec *iov, int count, uint8_t *out,
                       size_t room)
{
    struct client_tls *t = c->tls;
    struct tls_work *work = &c->worker->tls->work;
    struct tls_source src = {iov, count, 0};
    size_t len = 0;

    while (src.count > 0) {
        size_t n =
            tls_record_seal(&t->record, work, &src, TLS_RECORD_PLAIN_MAX, out + len, room - len);
        if (n == 0)
            return 0;
        len += n;
    }
    if (c->state == CLIENT_LEAVING)
        len += tls_record_seal_end(&t->record, work, out + len);
    return len;
}
