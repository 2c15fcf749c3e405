/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What is said to one Redis server, and how a connection to it ends; the bytes are
 * redis_link_io.c's. On the shard's thread.
 *
 * Every end goes through redis_link_fail(): it tells what was unanswered as lost, closes the
 * socket, and the rest (memory that the io may still read, the next attempt) follows in
 * redis_link_rest(), when the io has given the connection back. So nothing is freed under a caller:
 * callbacks may end the link from anywhere, and who has called them looks at the state afterwards.
 */

#include "pubsub/redis_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_link_internal.h"
#include "pubsub/redis_resolver.h"
#include "pubsub/redis_tls.h"

/* What a pending entry waits for. */
enum pending_kind {
    PENDING_COMMAND,
    PENDING_SUBSCRIBE, /* answered by `answers` pushes of `push`, or an error */
    PENDING_FENCED,    /* a SUNSUBSCRIBE: answered by an error, or by the PING behind it */
    PENDING_FENCE,     /* that PING, when the error has come */
    PENDING_AUTH,      /* the handshake's; in its order */
    PENDING_SELECT,
    PENDING_SETNAME,
    PENDING_ROLE,
    PENDING_PING, /* the last of the handshake */
};

struct redis_pending {
    uint64_t tag;
    uint32_t bytes;        /* of the command */
    uint32_t answers : 24; /* pushes still to come */
    uint32_t kind : 4;     /* enum pending_kind */
    uint32_t push : 4;     /* enum redis_push_kind */
};

static const char *const push_words[] = {[REDIS_PUSH_MESSAGE] = "message",
                                         [REDIS_PUSH_SUBSCRIBE] = "subscribe",
                                         [REDIS_PUSH_UNSUBSCRIBE] = "unsubscribe",
                                         [REDIS_PUSH_SSUBSCRIBE] = "ssubscribe",
                                         [REDIS_PUSH_SUNSUBSCRIBE] = "sunsubscribe"};

/* Ends
 * -----------------------------------------------------------------------------------------------
 */

static struct redis_pending *pending_at(struct redis_link *l, uint32_t i)
{
    return &l->pending[i & (l->pending_cap - 1)];
}

/* The oldest entry is over. */
static struct redis_pending pop_pending(struct redis_link *l)
{
    struct redis_pending p = *pending_at(l, l->pending_head++);

    l->answered_bytes += p.bytes;
    l->unanswered_bytes -= p.bytes;
    l->unanswered--;
    return p;
}

static void lose_pending(struct redis_link *l)
{
    while (l->pending_head != l->pending_tail) {
        bool was_sent = l->answered_bytes < l->handed_bytes;
        struct redis_pending p = pop_pending(l);
        if (p.kind > PENDING_FENCED)
            continue;
        l->stats.lost++;
        if (l->events->on_lost != NULL)
            l->events->on_lost(l, p.tag, was_sent);
    }
}

/* Full jitter: anything from 0 up to what has doubled with every failure. */
static uint64_t backoff_ns(struct redis_link *l)
{
    uint64_t bound = l->config.backoff_min_ns;

    for (uint32_t i = 1; i < l->attempts && bound < l->config.backoff_max_ns; i++)
        bound *= 2;
    return io_random_below(l->io, min_u64(bound, l->config.backoff_max_ns) + 1);
}

/* Nothing is attached to the io any more. */
void redis_link_rest(struct redis_link *l)
{
    redis_out_clear(&l->out);
    redis_reader_free(l->reader);
    l->reader = NULL;
    redis_tls_free(l->tls);
    l->tls = NULL;
    if (l->stopping) {
        l->state = REDIS_LINK_IDLE;
        return;
    }
    l->state = REDIS_LINK_WAITING;
    l->deadline_ns = l->io->now_ns + (l->at_once ? 0 : backoff_ns(l));
    l->at_once = false;
}

static void count_failure(struct redis_link *l, bool was_up)
{
    if (was_up && l->io->now_ns - l->up_since_ns >= l->config.backoff_max_ns)
        l->attempts = 0;
    l->attempts++;
}

/* Ends whatever is under way in RESOLVING, CONNECTING, TLS, HANDSHAKE or UP. */
void redis_link_fail(struct redis_link *l, enum redis_down why, const char *text)
{
    bool was_up = l->state == REDIS_LINK_UP;
    bool is_attached = l->state != REDIS_LINK_RESOLVING;

    if (l->lookup != NULL)
        redis_lookup_free(l->lookup);
    l->lookup = NULL;
    l->state = REDIS_LINK_CLOSING;
    l->stats.downs[why]++;
    count_failure(l, was_up);
    if (is_attached)
        redis_link_part(l, why);
    lose_pending(l);
    if (l->events->on_down != NULL)
        l->events->on_down(l, why, text, was_up);
    if (!is_attached)
        redis_link_rest(l);
}

void redis_link_fail_errno(struct redis_link *l, enum redis_down why, const char *what, int err)
{
    const char *desc = strerrordesc_np(-err);
    char text[REDIS_LINK_TEXT_MAX];

    snprintf(text, sizeof(text), "%s: %s", what, desc != NULL ? desc : "unknown error");
    redis_link_fail(l, why, text);
}

/* Commands
 * ----------------------------------------------------------------------------------------- */

static int reserve_pending(struct redis_link *l)
{
    uint32_t used = l->pending_tail - l->pending_head;
    uint32_t cap = l->pending_cap == 0 ? 64 : l->pending_cap * 2;
    struct redis_pending *ring;

    if (used < l->pending_cap)
        return 0;
    ring = malloc(cap * sizeof(*ring));
    if (ring == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < used; i++)
        ring[i] = *pending_at(l, l->pending_head + i);
    free(l->pending);
    l->pending = ring;
    l->pending_cap = cap;
    l->pending_head = 0;
    l->pending_tail = used;
    return 0;
}

static int enqueue(struct redis_link *l, const char *name, const struct redis_arg *args,
                   uint32_t count, struct redis_pending pending)
{
    int err = reserve_pending(l);

    if (err == 0)
        err = redis_out_add(&l->out, name, args, count);
    if (err != 0)
        return err;
    *pending_at(l, l->pending_tail++) = pending;
    l->unanswered_bytes += pending.bytes;
    l->unanswered++;
    return 0;
}

static int enqueue_bounded(struct redis_link *l, const char *name, const struct redis_arg *args,
                           uint32_t count, struct redis_pending pending)
{
    uint64_t bytes = redis_out_command_bytes(name, args, count);
    int err = -ENOBUFS;

    if (l->state != REDIS_LINK_UP)
        return -ENOTCONN;
    pending.bytes = (uint32_t)bytes;
    if (l->unanswered_bytes + bytes <= l->config.queue_bytes_max)
        err = enqueue(l, name, args, count, pending);
    if (err == 0)
        l->stats.commands++;
    else
        l->stats.refused++;
    return err;
}

int redis_link_command(struct redis_link *l, const char *name, const struct redis_arg *args,
                       uint32_t count, uint64_t tag)
{
    return enqueue_bounded(l, name, args, count,
                           (struct redis_pending){.tag = tag, .kind = PENDING_COMMAND});
}

/* A master whose slot has gone answers a SUNSUBSCRIBE by an error, behind pushes for the same
 * channels that it has sent unasked. So pushes do not tell that the command is over, but a PING
 * behind it does. Without memory for that they have to. */
static void fence(struct redis_link *l)
{
    struct redis_pending ping = {.kind = PENDING_FENCE};

    ping.bytes = (uint32_t)redis_out_command_bytes("PING", NULL, 0);
    if (enqueue(l, "PING", NULL, 0, ping) == 0)
        pending_at(l, l->pending_tail - 2)->kind = PENDING_FENCED;
}

int redis_link_subscribe(struct redis_link *l, enum redis_push_kind kind,
                         const struct redis_arg *channels, uint32_t count, uint64_t tag)
{
    const struct redis_pending pending = {.tag = tag,
                                          .answers = count & REDIS_LINK_BATCH_MAX,
                                          .kind = PENDING_SUBSCRIBE,
                                          .push = kind & 0xfu};
    int err;

    CHECK(l->config.role == REDIS_ROLE_SUBSCRIBER);
    CHECK(kind != REDIS_PUSH_MESSAGE);
    CHECK(count > 0 && count <= REDIS_LINK_BATCH_MAX);
    err = enqueue_bounded(l, push_words[kind], channels, count, pending);
    if (err == 0 && kind == REDIS_PUSH_SUNSUBSCRIBE)
        fence(l);
    return err;
}

/* The handshake
 * ------------------------------------------------------------------------------------ */

static struct redis_arg word(const char *text)
{
    return (struct redis_arg){.head = text, .head_len = text == NULL ? 0 : (uint32_t)strlen(text)};
}

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* With up to two words behind the name. */
static int ask(struct redis_link *l, enum pending_kind kind, const char *name, const char *first,
               const char *second)
{
    const struct redis_arg args[] = {word(first), word(second)};
    uint32_t count = (first != NULL) + (second != NULL);
    struct redis_pending pending = {.kind = kind};

    pending.bytes = (uint32_t)redis_out_command_bytes(name, args, count);
    return enqueue(l, name, args, count, pending);
}

static int ask_auth(struct redis_link *l)
{
    if (!is_given(l->config.password))
        return 0;
    if (is_given(l->config.user))
        return ask(l, PENDING_AUTH, "AUTH", l->config.user, l->config.password);
    return ask(l, PENDING_AUTH, "AUTH", l->config.password, NULL);
}

static int ask_all(struct redis_link *l)
{
    char db[16];
    int err = ask_auth(l);

    snprintf(db, sizeof(db), "%u", l->config.db);
    if (err == 0 && l->config.db != 0)
        err = ask(l, PENDING_SELECT, "SELECT", db, NULL);
    if (err == 0 && is_given(l->config.name))
        err = ask(l, PENDING_SETNAME, "CLIENT", "SETNAME", l->config.name);
    if (err == 0 && l->config.wants_master)
        err = ask(l, PENDING_ROLE, "ROLE", NULL, NULL);
    if (err == 0)
        err = ask(l, PENDING_PING, "PING", NULL, NULL);
    return err;
}

void redis_link_greet(struct redis_link *l)
{
    int err = -ENOMEM;

    l->state = REDIS_LINK_HANDSHAKE;
    l->handed_bytes = 0;
    l->answered_bytes = 0;
    l->reader = redis_reader_new(l->config.reply_bytes_max);
    if (l->reader != NULL)
        err = ask_all(l);
    if (err != 0)
        redis_link_fail_errno(l, REDIS_DOWN_MEMORY, "handshake", err);
    else
        redis_link_flush(l);
}

static void become_up(struct redis_link *l)
{
    l->state = REDIS_LINK_UP;
    l->stats.connects++;
    l->up_since_ns = l->io->now_ns;
    if (l->events->on_up != NULL)
        l->events->on_up(l);
}

/* A name that is refused is no harm. A server that doesn't tell its role is taken for a master, and
 * one that doesn't let us PING has still answered. */
static bool is_fatal(enum pending_kind kind, enum redis_error e)
{
    if (kind == PENDING_SETNAME || kind == PENDING_ROLE)
        return false;
    return kind != PENDING_PING || e != REDIS_ERROR_NOPERM;
}

static bool is_replica(const struct redis_reply *r)
{
    return r->type == REDIS_TYPE_ARRAY && r->len > 0 && !redis_reply_is(&r->items[0], "master");
}

/* A reply to AUTH may repeat what it was given, as "ERR unknown command" does: of those only what
 * is known not to is told. */
static const char *safe_text(enum pending_kind kind, enum redis_error e, const char *text)
{
    if (kind != PENDING_AUTH || e == REDIS_ERROR_WRONGPASS || e == REDIS_ERROR_NOAUTH)
        return text;
    return redis_error_label(e);
}

static void shake(struct redis_link *l, enum pending_kind kind, const struct redis_reply *r)
{
    static const char *const commands[] = {[PENDING_AUTH] = "AUTH",
                                           [PENDING_SELECT] = "SELECT",
                                           [PENDING_SETNAME] = "CLIENT SETNAME",
                                           [PENDING_ROLE] = "ROLE",
                                           [PENDING_PING] = "PING"};
    char text[REDIS_LINK_TEXT_MAX];

    if (r->type == REDIS_TYPE_ERROR) {
        enum redis_error e = redis_error_of(r->text, r->len);
        l->stats.errors[e]++;
        if (is_fatal(kind, e)) {
            l->down_error = (uint8_t)e;
            snprintf(text, sizeof(text), "%s: %s", commands[kind], safe_text(kind, e, r->text));
            redis_link_fail(l, REDIS_DOWN_REFUSED, text);
            return;
        }
    } else if (kind == PENDING_ROLE && is_replica(r)) {
        redis_link_fail(l, REDIS_DOWN_NOT_MASTER, "the server says that it is a replica");
        return;
    }
    if (kind == PENDING_PING)
        become_up(l);
}

/* Replies
 * ------------------------------------------------------------------------------------------ */

static void answered(struct redis_link *l, const struct redis_reply *r)
{
    struct redis_pending p = pop_pending(l);

    if (p.kind == PENDING_FENCED && r->type != REDIS_TYPE_ERROR)
        pop_pending(l); /* it was the fence that was answered */
    if (p.kind == PENDING_FENCE)
        return;
    if (p.kind > PENDING_FENCE) {
        shake(l, p.kind, r);
        return;
    }
    if (r->type == REDIS_TYPE_ERROR)
        l->stats.errors[redis_error_of(r->text, r->len)]++;
    l->stats.replies++;
    if (l->events->on_reply != NULL)
        l->events->on_reply(l, p.tag, r);
}

/* Fills *push when r is one. */
static bool is_push(const struct redis_reply *r, struct redis_push *push)
{
    const struct redis_reply *items = r->items;

    if (r->type != REDIS_TYPE_ARRAY || r->len != 3 || items[0].type != REDIS_TYPE_STRING ||
        items[1].type != REDIS_TYPE_STRING)
        return false;
    *push = (struct redis_push){.channel = items[1].text, .channel_len = items[1].len};
    push->sharded = redis_reply_is(&items[0], "smessage");
    if (push->sharded || redis_reply_is(&items[0], push_words[REDIS_PUSH_MESSAGE])) {
        push->payload = items[2].text;
        push->payload_len = items[2].len;
        return items[2].type == REDIS_TYPE_STRING;
    }
    push->count = items[2].integer;
    for (push->kind = REDIS_PUSH_SUBSCRIBE; push->kind <= REDIS_PUSH_SUNSUBSCRIBE; push->kind++) {
        if (redis_reply_is(&items[0], push_words[push->kind]))
            return items[2].type == REDIS_TYPE_INTEGER;
    }
    return false;
}

/* A push is one of the answers to the oldest command, if that is of its kind; or unasked for. */
static void pushed(struct redis_link *l, const struct redis_push *push, const struct redis_reply *r)
{
    struct redis_pending *p;

    l->stats.pushes++;
    if (l->events->on_push != NULL)
        l->events->on_push(l, push);
    if (l->state != REDIS_LINK_UP || l->pending_head == l->pending_tail)
        return;
    p = pending_at(l, l->pending_head);
    if (p->kind == PENDING_SUBSCRIBE && p->push == push->kind && --p->answers == 0)
        answered(l, r);
}

/* Returns whether to go on. */
bool redis_link_on_reply(void *ctx, const struct redis_reply *r)
{
    struct redis_link *l = ctx;
    struct redis_push push;
    char text[REDIS_LINK_TEXT_MAX];

    if (l->config.role == REDIS_ROLE_SUBSCRIBER && is_push(r, &push)) {
        pushed(l, &push, r);
    } else if (l->pending_head != l->pending_tail) {
        answered(l, r);
    } else {
        snprintf(text, sizeof(text), "a reply that nobody has asked for%s%s",
                 r->type == REDIS_TYPE_ERROR ? ": " : "",
                 r->type == REDIS_TYPE_ERROR ? r->text : "");
        redis_link_fail(l, REDIS_DOWN_PROTOCOL, text);
    }
    return l->state == REDIS_LINK_HANDSHAKE || l->state == REDIS_LINK_UP;
}

/* What the owner calls
 * ----------------------------------------------------------------------------- */

static void release(void *ctx, struct message *m)
{
    struct redis_link *l = ctx;

    l->events->on_release(l, m);
}

void redis_link_init(struct redis_link *l, struct io *io, const struct redis_link_config *config,
                     const struct redis_link_events *events, void *owner)
{
    *l = (struct redis_link){.events = events, .owner = owner, .io = io, .config = *config};
    l->conn.events = &redis_link_io_events;
    redis_out_init(&l->out, release, l);
}

void redis_link_deinit(struct redis_link *l)
{
    CHECK(l->state == REDIS_LINK_IDLE || l->state == REDIS_LINK_WAITING);
    free(l->pending);
    l->pending = NULL;
    l->pending_cap = 0;
}

void redis_link_start(struct redis_link *l)
{
    l->stopping = false;
    if (l->state != REDIS_LINK_IDLE)
        return;
    l->state = REDIS_LINK_WAITING;
    l->attempts = 0;
    l->deadline_ns = 0;
}

static bool is_under_way(const struct redis_link *l)
{
    return l->state >= REDIS_LINK_RESOLVING && l->state <= REDIS_LINK_UP;
}

void redis_link_stop(struct redis_link *l)
{
    l->stopping = true;
    if (l->state == REDIS_LINK_WAITING)
        l->state = REDIS_LINK_IDLE;
    else if (is_under_way(l))
        redis_link_fail(l, REDIS_DOWN_STOPPED, "stopped");
}

void redis_link_reopen(struct redis_link *l, const char *text)
{
    if (l->state == REDIS_LINK_IDLE)
        return;
    l->at_once = true;
    if (l->state == REDIS_LINK_WAITING)
        l->deadline_ns = 0;
    else if (is_under_way(l))
        redis_link_fail(l, REDIS_DOWN_REOPENED, text);
}

void redis_link_retry(struct redis_link *l, const char *text)
{
    if (is_under_way(l))
        redis_link_fail(l, REDIS_DOWN_REOPENED, text);
}

void redis_link_set_endpoint(struct redis_link *l, const struct redis_endpoint *e)
{
    l->config.endpoint = *e;
}

const char *redis_down_label(enum redis_down why)
{
    static const char *const labels[] = {
#define X(id, label) label,
        REDIS_DOWNS(X)
#undef X
    };
    return labels[why];
}

const char *redis_link_state_label(enum redis_link_state state)
{
    static const char *const labels[] = {[REDIS_LINK_IDLE] = "idle",
                                         [REDIS_LINK_WAITING] = "waiting",
                                         [REDIS_LINK_RESOLVING] = "resolving",
                                         [REDIS_LINK_CONNECTING] = "connecting",
                                         [REDIS_LINK_TLS] = "TLS handshake",
                                         [REDIS_LINK_HANDSHAKE] = "handshake",
                                         [REDIS_LINK_UP] = "up",
                                         [REDIS_LINK_CLOSING] = "closing"};

    return labels[state];
}
