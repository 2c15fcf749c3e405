/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A Redis server on the virtual network. One thread. */

#include "tests/sim/sim_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/map.h"

#define ARGS_MAX 4096
#define NAME_MAX_BYTES 64
#define OUT_KEPT (1u << 20)

struct sub {
    size_t len;
    bool sharded;
    char name[];
};

/* Bytes that grow. */
struct heap {
    uint8_t *ptr;
    size_t len;
    size_t cap;
};

struct sim_redis_conn {
    struct io_conn conn;
    struct sim_redis *redis;
    struct sim_redis_conn *next;
    struct map subs[2]; /* plain and sharded, by name */
    struct heap in;     /* received, not yet carried out */
    struct heap out;    /* not yet given to the io */
    struct heap lent;   /* a send is under way */
    char name[NAME_MAX_BYTES];
    bool sending;
    bool has_subscribed; /* ever */
    bool is_authenticated;
    bool is_closing;
    bool wants_reset; /* once `out` has gone */
};

struct arg {
    const char *ptr;
    size_t len;
};

static bool chance(struct sim_redis *r, uint32_t rate)
{
    return rate > 0 && sim_net_below(r->net, 1000000) < rate;
}

static void append(struct heap *h, const void *bytes, size_t len)
{
    if (h->len + len > h->cap) {
        h->cap = (h->len + len) * 2;
        h->ptr = realloc(h->ptr, h->cap);
        CHECK(h->ptr != NULL);
    }
    if (len > 0)
        memcpy(h->ptr + h->len, bytes, len);
    h->len += len;
}

static void free_heap(struct heap *h)
{
    free(h->ptr);
    *h = (struct heap){NULL, 0, 0};
}

/* Answers -------------------------------------------------------------------------------------- */

static void put(struct sim_redis_conn *c, const void *bytes, size_t len)
{
    append(&c->out, bytes, len);
}

static void put_line(struct sim_redis_conn *c, char mark, const char *text)
{
    put(c, &mark, 1);
    put(c, text, strlen(text));
    put(c, "\r\n", 2);
}

static void put_number(struct sim_redis_conn *c, char mark, int64_t n)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)n);
    put_line(c, mark, text);
}

static void put_bulk(struct sim_redis_conn *c, const void *bytes, size_t len)
{
    put_number(c, '$', (int64_t)len);
    put(c, bytes, len);
    put(c, "\r\n", 2);
}

static void put_word(struct sim_redis_conn *c, const char *text)
{
    put_bulk(c, text, strlen(text));
}

static void put_error(struct sim_redis_conn *c, const char *text)
{
    c->redis->stats.errors++;
    put_line(c, '-', text);
}

/* Subscriptions -------------------------------------------------------------------------------- */

static struct bytes sub_key(const void *object)
{
    const struct sub *s = object;

    return (struct bytes){(uint8_t *)s->name, s->len};
}

static uint32_t sub_count(const struct sim_redis_conn *c)
{
    return c->subs[0].count + c->subs[1].count;
}

static void subscribe(struct sim_redis_conn *c, bool sharded, const struct arg *name)
{
    struct map *m = &c->subs[sharded];
    struct sub *s = map_find(m, name->ptr, name->len);

    c->has_subscribed = true;

    if (s == NULL) {
        s = malloc(sizeof(*s) + name->len);
        CHECK(s != NULL);
        *s = (struct sub){.len = name->len, .sharded = sharded};
        memcpy(s->name, name->ptr, name->len);
        CHECK(map_insert(m, s) == 0);
    }
    put_number(c, '*', 3);
    put_word(c, sharded ? "ssubscribe" : "subscribe");
    put_bulk(c, name->ptr, name->len);
    put_number(c, ':', sharded ? m->count : sub_count(c));
}

static void unsubscribe(struct sim_redis_conn *c, bool sharded, const struct arg *name)
{
    struct map *m = &c->subs[sharded];

    free(map_remove(m, name->ptr, name->len));
    put_number(c, '*', 3);
    put_word(c, sharded ? "sunsubscribe" : "unsubscribe");
    put_bulk(c, name->ptr, name->len);
    put_number(c, ':', sharded ? m->count : sub_count(c));
}

static void free_subs(struct sim_redis_conn *c)
{
    for (int i = 0; i < 2; i++) {
        uint32_t cursor = 0;
        struct sub *s;
        while ((s = map_next(&c->subs[i], &cursor)) != NULL)
            free(s);
        map_deinit(&c->subs[i]);
    }
}

static void deliver(struct sim_redis_conn *to, bool sharded, const struct arg *channel,
                    const struct arg *payload)
{
    put_number(to, '*', 3);
    put_word(to, sharded ? "smessage" : "message");
    put_bulk(to, channel->ptr, channel->len);
    put_bulk(to, payload->ptr, payload->len);
    to->redis->stats.deliveries++;
}

/* To all who have subscribed here. */
static int64_t spread(struct sim_redis *r, bool sharded, const struct arg *channel,
                      const struct arg *payload)
{
    int64_t count = 0;

    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next) {
        if (c->is_closing || map_find(&c->subs[sharded], channel->ptr, channel->len) == NULL)
            continue;
        count++;
        if (r->is_mute || chance(r, r->faults.drop)) {
            r->stats.dropped++;
            continue;
        }
        deliver(c, sharded, channel, payload);
        if (chance(r, r->faults.duplicate)) {
            deliver(c, sharded, channel, payload);
            r->stats.duplicated++;
        }
    }
    return count;
}

void sim_redis_spread(struct sim_redis *r, struct bytes channel, struct bytes payload)
{
    const struct arg name = {(const char *)channel.ptr, channel.len};
    const struct arg text = {(const char *)payload.ptr, payload.len};

    spread(r, true, &name, &text);
}

static int64_t publish(struct sim_redis *r, bool sharded, const struct arg *channel,
                       const struct arg *payload)
{
    r->stats.published++;
    if (r->on_publish != NULL)
        r->on_publish(r->ctx, channel->ptr, channel->len, payload->ptr, payload->len);
    if (sharded && r->cluster != NULL)
        sim_cluster_pass_on(r->cluster, r,
                            (struct bytes){(uint8_t *)(uintptr_t)channel->ptr, channel->len},
                            (struct bytes){(uint8_t *)(uintptr_t)payload->ptr, payload->len});
    return spread(r, sharded, channel, payload);
}

static void flush(struct sim_redis_conn *c);

static bool is_word(const struct arg *a, const char *text)
{
    return a->len == strlen(text) && strncasecmp(a->ptr, text, a->len) == 0;
}

static bool equals(const struct arg *a, const char *text)
{
    return a->len == strlen(text) && memcmp(a->ptr, text, a->len) == 0;
}

/* Sentinels and clusters ----------------------------------------------------------------------- */

static void put_field(struct sim_redis_conn *c, const char *name, const char *value)
{
    put_word(c, name);
    put_word(c, value);
}

static void put_field_number(struct sim_redis_conn *c, const char *name, uint64_t n)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    put_field(c, name, text);
}

static void do_sentinel(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    const struct sim_sentinel *s = c->redis->sentinel;

    if (s == NULL || count != 3 || !is_word(&args[1], "MASTER")) {
        put_error(c, "ERR unknown command");
    } else if (!equals(&args[2], s->name)) {
        put_error(c, "ERR No such master with that name");
    } else {
        put_number(c, '*', 10);
        put_field(c, "name", s->name);
        put_field(c, "ip", s->host);
        put_field_number(c, "port", s->port);
        put_field(c, "flags", "master");
        put_field_number(c, "config-epoch", s->epoch);
    }
}

static void put_slots(struct sim_redis_conn *c, uint32_t first, uint32_t last,
                      const struct sim_redis *node)
{
    char host[IO_ADDR_TEXT_MAX];

    io_addr_format(&node->address, host);
    *strrchr(host, ':') = '\0';
    put_number(c, '*', 3);
    put_number(c, ':', first);
    put_number(c, ':', last);
    put_number(c, '*', 3);
    put_word(c, host);
    put_number(c, ':', node->address.port);
    put_word(c, "0123456789");
}

static void do_cluster_slots(struct sim_redis_conn *c)
{
    const struct sim_cluster *cluster = c->redis->cluster;
    const uint8_t *told = sim_cluster_map(cluster, c->redis);
    uint32_t rows = 0, first = 0;

    for (int round = 0; round < 2; round++) {
        if (round == 1)
            put_number(c, '*', rows);
        first = 0;
        for (uint32_t slot = 1; slot <= SIM_CLUSTER_SLOTS; slot++) {
            if (slot < SIM_CLUSTER_SLOTS && told[slot] == told[first])
                continue;
            if (told[first] < cluster->count) {
                if (round == 1)
                    put_slots(c, first, slot - 1, cluster->nodes[told[first]]);
                rows++;
            }
            first = slot;
        }
    }
}

/* Whether this node may carry the channels; if not it is answered. */
static bool is_here(struct sim_redis_conn *c, const struct arg *channels, uint32_t count)
{
    const struct sim_cluster *cluster = c->redis->cluster;
    uint32_t slot = cluster == NULL ? 0 : sim_cluster_slot(channels[0].ptr, channels[0].len);
    char text[128], host[IO_ADDR_TEXT_MAX];

    if (cluster == NULL)
        return true;
    for (uint32_t i = 1; i < count; i++) {
        if (sim_cluster_slot(channels[i].ptr, channels[i].len) != slot) {
            put_error(c, "CROSSSLOT Keys in request don't hash to the same slot");
            return false;
        }
    }
    if (cluster->owner[slot] >= cluster->count) {
        put_error(c, "CLUSTERDOWN Hash slot not served");
        return false;
    }
    if (c->redis->denies_for != NULL && slot == c->redis->denied_slot) {
        io_addr_format(&c->redis->denies_for->address, host);
        snprintf(text, sizeof(text), "MOVED %u %s", slot, host);
        put_error(c, text);
        return false;
    }
    if (sim_cluster_serves(cluster, c->redis, slot))
        return true;
    if (c->redis->has_moved && c->redis->after_moved != NULL) {
        put_error(c, c->redis->after_moved);
        c->redis->after_moved = NULL;
        return false;
    }
    io_addr_format(&cluster->nodes[cluster->owner[slot]]->address, host);
    snprintf(text, sizeof(text), "MOVED %u %s", slot, host);
    c->redis->has_moved = true;
    put_error(c, text);
    return false;
}

/* Ends the subscriptions of the slot's channels, unasked. */
static void end_slot(struct sim_redis_conn *c, uint32_t slot)
{
    struct sub *found[ARGS_MAX], *s;
    uint32_t count = 0, cursor = 0;

    while ((s = map_next(&c->subs[1], &cursor)) != NULL && count < ARGS_MAX) {
        if (sim_cluster_slot(s->name, s->len) == slot)
            found[count++] = s;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct arg name = {found[i]->name, found[i]->len};
        char copy[256];

        CHECK(name.len <= sizeof(copy));
        memcpy(copy, name.ptr, name.len);
        name.ptr = copy;
        unsubscribe(c, true, &name);
    }
}

void sim_cluster_move(struct sim_cluster *cluster, uint32_t slot, uint32_t to)
{
    uint32_t from = cluster->owner[slot];

    cluster->owner[slot] = (uint8_t)to;
    if (from == to || from >= cluster->count)
        return;
    for (struct sim_redis_conn *c = cluster->nodes[from]->conns; c != NULL; c = c->next) {
        if (c->is_closing || c->subs[1].count == 0)
            continue;
        end_slot(c, slot);
        flush(c);
    }
}

/* Commands ------------------------------------------------------------------------------------- */

static void do_auth(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    struct sim_redis *r = c->redis;
    const char *user = r->user != NULL ? r->user : "default";

    if (r->auth_error != NULL) {
        put_error(c, r->auth_error);
        return;
    }
    if (r->password == NULL) {
        put_error(c, "ERR AUTH <password> called without any password configured for the default "
                     "user. Are you sure your configuration is correct?");
        return;
    }
    if (count > 3 || !equals(&args[count - 1], r->password) ||
        (count == 3 ? !equals(&args[1], user) : r->user != NULL)) {
        put_error(c, "WRONGPASS invalid username-password pair or user is disabled.");
        return;
    }
    c->is_authenticated = true;
    put_line(c, '+', "OK");
}

static void do_client(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    if (count != 3 || !is_word(&args[1], "SETNAME")) {
        put_error(c, "ERR unknown subcommand");
        return;
    }
    snprintf(c->name, sizeof(c->name), "%.*s", (int)args[2].len, args[2].ptr);
    put_line(c, '+', "OK");
}

static void do_role(struct sim_redis_conn *c)
{
    if (c->redis->is_replica) {
        put_number(c, '*', 5);
        put_word(c, "slave");
        put_word(c, "127.0.0.1");
        put_number(c, ':', 6379);
        put_word(c, "connected");
        put_number(c, ':', 0);
        return;
    }
    put_number(c, '*', 3);
    put_word(c, "master");
    put_number(c, ':', 0);
    put_number(c, '*', 0);
}

static void do_ping(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    if (sub_count(c) > 0) {
        put_number(c, '*', 2);
        put_word(c, "pong");
        put_bulk(c, args[1].ptr, count > 1 ? args[1].len : 0);
    } else if (count > 1) {
        put_bulk(c, args[1].ptr, args[1].len);
    } else {
        put_line(c, '+', "PONG");
    }
}

static bool begins_with(const struct arg *channel, const char *prefix)
{
    return channel->len >= strlen(prefix) && memcmp(channel->ptr, prefix, strlen(prefix)) == 0;
}

/* Whether the channels may be used; if not it is answered. */
static bool may(struct sim_redis_conn *c, const struct arg *channels, uint32_t count)
{
    const char *allowed = c->redis->allowed, *banned = c->redis->banned;

    for (uint32_t i = 0; i < count; i++) {
        if ((allowed != NULL && !begins_with(&channels[i], allowed)) ||
            (banned != NULL && begins_with(&channels[i], banned))) {
            put_error(c, "NOPERM this user has no permissions to access one of the channels used "
                         "as arguments");
            return false;
        }
    }
    if (chance(c->redis, c->redis->faults.error)) {
        const char *text = c->redis->error_text;
        put_error(c,
                  text != NULL ? text : "OOM command not allowed when used memory > 'maxmemory'.");
        return false;
    }
    return true;
}

static void do_publish(struct sim_redis_conn *c, bool sharded, const struct arg *args)
{
    if (may(c, &args[1], 1) && (!sharded || is_here(c, &args[1], 1)))
        put_number(c, ':', publish(c->redis, sharded, &args[1], &args[2]));
}

static void do_subscribe(struct sim_redis_conn *c, bool sharded, bool on, const struct arg *names,
                         uint32_t count)
{
    if ((on && !may(c, names, count)) || (sharded && !is_here(c, names, count)))
        return;
    if (!on && c->redis->keeps) {
        put_error(c, "NOPERM this user has no permissions to run the 'unsubscribe' command");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (on)
            subscribe(c, sharded, &names[i]);
        else
            unsubscribe(c, sharded, &names[i]);
    }
}

/* What a connection may do that has subscribed, the sharded twins included. False: none of it. */
static bool do_pubsub(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    static const struct {
        const char *name;
        bool sharded, on;
    } rows[] = {{"SUBSCRIBE", false, true},
                {"UNSUBSCRIBE", false, false},
                {"SSUBSCRIBE", true, true},
                {"SUNSUBSCRIBE", true, false}};

    for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (is_word(&args[0], rows[i].name) && count > 1) {
            do_subscribe(c, rows[i].sharded, rows[i].on, args + 1, count - 1);
            return true;
        }
    }
    return false;
}

static void do_other(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    if (is_word(&args[0], "SELECT") && count == 2)
        put_line(c, '+', "OK");
    else if (is_word(&args[0], "CLIENT"))
        do_client(c, args, count);
    else if (is_word(&args[0], "ROLE"))
        do_role(c);
    else if (is_word(&args[0], "SENTINEL"))
        do_sentinel(c, args, count);
    else if (is_word(&args[0], "CLUSTER") && count == 2 && c->redis->cluster != NULL)
        do_cluster_slots(c);
    else if (is_word(&args[0], "PUBLISH") && count == 3)
        do_publish(c, false, args);
    else if (is_word(&args[0], "SPUBLISH") && count == 3)
        do_publish(c, true, args);
    else
        put_error(c, "ERR unknown command");
}

/* In the order in which Redis checks. */
static void carry_out(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    struct sim_redis *r = c->redis;

    if (is_word(&args[0], "AUTH") && count > 1)
        do_auth(c, args, count);
    else if (r->password != NULL && !c->is_authenticated)
        put_error(c, "NOAUTH Authentication required.");
    else if (r->loading)
        put_error(c, "LOADING Redis is loading the dataset in memory");
    else if (is_word(&args[0], "PING"))
        do_ping(c, args, count);
    else if (do_pubsub(c, args, count))
        return;
    else if (sub_count(c) > 0)
        put_error(c, "ERR Can't execute this command: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                     "PING / QUIT / RESET are allowed in this context");
    else
        do_other(c, args, count);
}

/* Parsing -------------------------------------------------------------------------------------- */

/* "<mark><number>\r\n" at *at: 1, 0 when it is not complete, -1 when it is wrong. */
static int read_number(const struct heap *in, size_t *at, char mark, size_t *n)
{
    size_t i = *at;

    if (i >= in->len)
        return 0;
    if (in->ptr[i++] != (uint8_t)mark)
        return -1;
    *n = 0;
    for (; i < in->len && in->ptr[i] >= '0' && in->ptr[i] <= '9'; i++)
        *n = *n * 10 + (size_t)(in->ptr[i] - '0');
    if (i + 1 >= in->len)
        return i == in->len || in->ptr[i] == '\r' ? 0 : -1;
    if (i == *at + 1 || in->ptr[i] != '\r' || in->ptr[i + 1] != '\n')
        return -1;
    *at = i + 2;
    return 1;
}

/* One command at the beginning of `in`: its length, 0 when it is not complete, -1 when wrong. */
static int64_t read_command(const struct heap *in, struct arg *args, uint32_t *count)
{
    size_t at = 0, n = 0, len = 0;
    int got = read_number(in, &at, '*', &n);

    if (got <= 0)
        return got;
    if (n == 0 || n > ARGS_MAX)
        return -1;
    for (*count = 0; *count < n; (*count)++) {
        got = read_number(in, &at, '$', &len);
        if (got <= 0)
            return got;
        if (in->len - at < len + 2)
            return 0;
        if (memcmp(in->ptr + at + len, "\r\n", 2) != 0)
            return -1;
        args[*count] = (struct arg){(const char *)in->ptr + at, len};
        at += len + 2;
    }
    return (int64_t)at;
}

/* Connections ---------------------------------------------------------------------------------- */

static void close_conn(struct sim_redis_conn *c, bool reset)
{
    c->is_closing = true;
    io_close(c->redis->io, &c->conn, reset);
}

/* An answer may be cut, and the connection ends there. */
static void answer(struct sim_redis_conn *c, const struct arg *args, uint32_t count)
{
    struct sim_redis *r = c->redis;
    size_t before = c->out.len;

    r->stats.commands++;
    if (chance(r, r->faults.reset)) {
        close_conn(c, true);
        return;
    }
    carry_out(c, args, count);
    if (c->out.len > before && chance(r, r->faults.cut)) {
        c->out.len = before + sim_net_below(r->net, c->out.len - before);
        c->wants_reset = true;
    }
}

static void work(struct sim_redis_conn *c)
{
    struct arg args[ARGS_MAX];
    uint32_t count;
    int64_t len = 0;

    while (!c->is_closing && !c->wants_reset && c->in.len > 0) {
        len = read_command(&c->in, args, &count);
        if (len <= 0)
            break;
        answer(c, args, count);
        memmove(c->in.ptr, c->in.ptr + len, c->in.len - (size_t)len);
        c->in.len -= (size_t)len;
    }
    if (len < 0) {
        put_error(c, "ERR Protocol error");
        c->wants_reset = true;
    }
}

static void flush(struct sim_redis_conn *c)
{
    if (c->is_closing || c->sending)
        return;
    if (c->out.len > 0) {
        struct heap lent = c->lent;
        struct iovec iov = {c->out.ptr, c->out.len};
        int result;

        c->lent = c->out;
        c->out = lent;
        c->out.len = 0;
        result = io_send(c->redis->io, &c->conn, &iov, 1, iov.iov_len);
        c->sending = result == IO_PENDING;
        if (result < 0)
            close_conn(c, true);
    }
    if (c->wants_reset && !c->sending && !c->is_closing)
        close_conn(c, true);
}

static struct sim_redis_conn *conn_of(struct io_conn *c)
{
    return container_of(c, struct sim_redis_conn, conn);
}

static void on_recv(struct io_conn *io_conn, struct bytes in)
{
    struct sim_redis_conn *c = conn_of(io_conn);

    append(&c->in, in.ptr, in.len);
}

static void on_eof(struct io_conn *io_conn, int err)
{
    (void)err;
    close_conn(conn_of(io_conn), false);
}

static void on_sent(struct io_conn *io_conn, int err)
{
    struct sim_redis_conn *c = conn_of(io_conn);

    c->sending = false;
    if (err != 0)
        close_conn(c, true);
}

static void on_closed(struct io_conn *io_conn)
{
    struct sim_redis_conn *c = conn_of(io_conn), **at = &c->redis->conns;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free_subs(c);
    free_heap(&c->in);
    free_heap(&c->out);
    free_heap(&c->lent);
    free(c);
}

static const struct io_events conn_events = {
    .on_recv = on_recv, .on_eof = on_eof, .on_sent = on_sent, .on_closed = on_closed};

static struct io_conn *on_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct sim_redis *r = container_of(l, struct sim_redis, listener);
    struct sim_redis_conn *c = calloc(1, sizeof(*c));

    (void)peer;
    if (c == NULL)
        return NULL;
    c->redis = r;
    c->conn.events = &conn_events;
    map_init(&c->subs[0], sub_key, 1);
    map_init(&c->subs[1], sub_key, 1);
    c->next = r->conns;
    r->conns = c;
    r->stats.accepted++;
    return &c->conn;
}

static const struct io_listener_events listener_events = {.on_accept = on_accept};

/* The server ----------------------------------------------------------------------------------- */

bool sim_redis_init(struct sim_redis *r, struct sim_net *net, const char *host, uint16_t port)
{
    struct io_config cfg = {.conns_max = 1000};

    *r = (struct sim_redis){.net = net};
    if (io_addr_parse(&r->address, host, port) != 0 || io_sim_new(net, &cfg, &r->io) != 0)
        return false;
    return io_start(r->io) == 0 && sim_redis_start(r);
}

bool sim_redis_start(struct sim_redis *r)
{
    int fd = sim_net_listen(r->net, &r->address, 128);

    r->listener = (struct io_listener){.events = &listener_events};
    r->is_listening = fd >= 0 && io_listen(r->io, &r->listener, fd) == 0;
    return r->is_listening;
}

void sim_redis_kill_clients(struct sim_redis *r)
{
    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next)
        close_conn(c, true);
}

void sim_redis_kill_publishers(struct sim_redis *r)
{
    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next) {
        if (!c->has_subscribed)
            close_conn(c, true);
    }
}

void sim_redis_stop(struct sim_redis *r)
{
    if (r->is_listening)
        io_unlisten(r->io, &r->listener);
    r->is_listening = false;
    if (r->cluster != NULL)
        sim_cluster_forget(r->cluster, r);
    sim_redis_kill_clients(r);
}

static void turn(struct sim_redis *r)
{
    CHECK(io_poll(r->io, 0) >= 0);
    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next)
        work(c);
    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next)
        flush(c);
}

bool sim_redis_turn(struct sim_redis *r)
{
    bool has_heard;

    if (r->is_silent)
        return false;
    has_heard = r->cluster != NULL && sim_cluster_hear(r->cluster, r);
    if (!has_heard && sim_io_would_wait(r->io, IO_FOREVER))
        return false;
    turn(r);
    return true;
}

void sim_redis_silence(struct sim_redis *r, bool on)
{
    r->is_silent = on;
    /* What is ready here must not stop the clock, until it is polled again. */
    if (on)
        sim_net_retire(r->net, r->io);
    else
        turn(r);
}

void sim_redis_deinit(struct sim_redis *r)
{
    sim_redis_stop(r);
    while (r->conns != NULL) {
        sim_net_advance(r->net, sim_net_now(r->net) + NS_PER_MS);
        CHECK(io_poll(r->io, 0) >= 0);
    }
    io_free(r->io);
}

uint32_t sim_redis_subscribers(struct sim_redis *r, const char *channel)
{
    uint32_t count = 0;

    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next) {
        if (!c->is_closing && (map_find(&c->subs[0], channel, strlen(channel)) != NULL ||
                               map_find(&c->subs[1], channel, strlen(channel)) != NULL))
            count++;
    }
    return count;
}

uint32_t sim_redis_conn_count(struct sim_redis *r)
{
    uint32_t count = 0;

    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next)
        count += !c->is_closing;
    return count;
}

uint32_t sim_redis_named(struct sim_redis *r, const char *name)
{
    uint32_t count = 0;

    for (struct sim_redis_conn *c = r->conns; c != NULL; c = c->next)
        count += !c->is_closing && strcmp(c->name, name) == 0;
    return count;
}
