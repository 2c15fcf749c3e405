/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Reads the server's configuration and checks what spans several flags; the flags themselves are in
 * config_table.c. Main thread, at start. */

#include "tools/tidewire/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls_context.h"
#include "pubsub/engine_redis.h"
#include "tools/tidewire/address.h"
#include "tools/tidewire/commands.h"
#include "tools/tidewire/redis_trust.h"

#define VALUE_TEXT_MAX 64

typedef int (*config_check_fn)(const struct config *c, const struct options *o, FILE *err);

static int check_admin_off(const struct config *c, const struct options *o, FILE *err);
static int check_incoming_cpu(const struct config *c, const struct options *o, FILE *err);
static int check_same_address(const struct config *c, const struct options *o, FILE *err);
static int check_exposed(const struct config *c, const struct options *o, FILE *err);
static int check_sizes(const struct config *c, const struct options *o, FILE *err);
static int check_byte_rate(const struct config *c, const struct options *o, FILE *err);
static int check_redis(const struct config *c, const struct options *o, FILE *err);
static int check_redis_tls(const struct config *c, const struct options *o, FILE *err);
static int check_tls_files(const struct config *c, const struct options *o, FILE *err);
static int check_tls_ports(const struct config *c, const struct options *o, FILE *err);

static const config_check_fn checks[] = {
    check_incoming_cpu, check_admin_off, check_same_address, check_exposed,   check_sizes,
    check_byte_rate,    check_redis,     check_redis_tls,    check_tls_files, check_tls_ports,
};

int config_check_limits(const struct config *c, const struct options *o, FILE *err)
{
    return check_sizes(c, o, err) != 0 || check_byte_rate(c, o, err) != 0 ? OPTIONS_EXIT_USAGE : 0;
}

static int config_check(const struct config *c, const struct options *o, FILE *err)
{
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        if (checks[i](c, o, err) != 0)
            return OPTIONS_EXIT_USAGE;
    }
    return 0;
}

int config_read(struct config *c, int argc, char **argv, char **envp, FILE *err,
                struct options **options)
{
    *options = NULL;
    memset(c, 0, sizeof(*c));
    struct options *o = NULL;
    int code = options_read(config_table, config_table_len, c, argc, argv, envp,
                            CONFIG_DEFAULT_FILE, err, &o);
    if (code != 0)
        return code;
    if (options_request(o) == OPTIONS_HELP) {
        help_print_serve(stdout);
        code = CONFIG_DONE;
    } else {
        code = config_check(c, o, err);
    }
    if (code == 0 && options_request(o) == OPTIONS_PRINT_CONFIG) {
        options_print_config(o, stdout);
        code = CONFIG_DONE;
    }
    if (code != 0) {
        options_free(o);
        memset(c, 0, sizeof(*c));
        return code;
    }
    *options = o;
    return 0;
}

bool config_admin_is_off(const struct config *c)
{
    return c->admin_address.count == 1 && strcmp(c->admin_address.items[0], "off") == 0;
}

/* The i-th of all places, those of --address first. The table has checked every text. */
static void place_at(const struct config *c, uint32_t i, struct address *a)
{
    bool is_admin = i >= c->address.count;
    const char *text =
        is_admin ? c->admin_address.items[i - c->address.count] : c->address.items[i];
    CHECK((is_admin ? address_parse_with_port(text, a)
                    : address_parse(text, (uint16_t)c->port, a)) == 0);
}

static uint32_t place_count(const struct config *c)
{
    return c->address.count + (config_admin_is_off(c) ? 0 : c->admin_address.count);
}

static const char *place_name(const struct config *c, uint32_t i)
{
    return i < c->address.count ? "address" : "admin-address";
}

static const char *place_text(const struct config *c, uint32_t i)
{
    return i < c->address.count ? c->address.items[i]
                                : c->admin_address.items[i - c->address.count];
}

/* Index of the first place that others reach; place_count() when there is none. */
static uint32_t first_exposed(const struct config *c)
{
    uint32_t count = place_count(c);
    for (uint32_t i = 0; i < count; i++) {
        struct address a;
        place_at(c, i, &a);
        if (!address_is_loopback(&a))
            return i;
    }
    return count;
}

const char *config_exposed_address(const struct config *c)
{
    uint32_t i = first_exposed(c);
    return i < place_count(c) ? place_text(c, i) : NULL;
}

static int check_incoming_cpu(const struct config *c, const struct options *o, FILE *err)
{
    if (!c->core.incoming_cpu || c->core.pin)
        return 0;
    options_complain(o, "incoming-cpu", err, "needs shards that stay on their cores: --pin on");
    return OPTIONS_EXIT_USAGE;
}

static int check_admin_off(const struct config *c, const struct options *o, FILE *err)
{
    for (uint32_t i = 0; c->admin_address.count > 1 && i < c->admin_address.count; i++) {
        if (strcmp(c->admin_address.items[i], "off") != 0)
            continue;
        options_complain(o, "admin-address", err,
                         "off stands alone; remove it or the other addresses");
        return OPTIONS_EXIT_USAGE;
    }
    return 0;
}

static int check_same_address(const struct config *c, const struct options *o, FILE *err)
{
    uint32_t count = place_count(c);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            struct address a, b;
            place_at(c, i, &a);
            place_at(c, k, &b);
            if (!address_overlaps(&a, &b))
                continue;
            options_complain(o, place_name(c, i), err,
                             "%s would be listened on twice; change its port or remove one",
                             place_text(c, i));
            return OPTIONS_EXIT_USAGE;
        }
    }
    return 0;
}

static int check_exposed(const struct config *c, const struct options *o, FILE *err)
{
    uint32_t i = first_exposed(c);
    if (c->insecure || i == place_count(c))
        return 0;
    options_complain(o, place_name(c, i), err,
                     "%s is reached from other hosts, and nobody is authenticated; listen on "
                     "127.0.0.1 behind a proxy, or accept that with --insecure",
                     place_text(c, i));
    return OPTIONS_EXIT_USAGE;
}

/* A message that is let in must fit where it goes next. */
static int check_sizes(const struct config *c, const struct options *o, FILE *err)
{
    char value[VALUE_TEXT_MAX];
    options_value_text(o, "max-message", value, sizeof(value));
    const char *name = NULL;
    if (c->net.max_queue_bytes < c->net.max_message_bytes)
        name = "max-queue";
    else if (c->net.assembly_memory_bytes < c->net.max_message_bytes)
        name = "assembly-memory";
    if (name == NULL)
        return 0;
    options_complain(o, name, err,
                     "smaller than max-message %s, so that such a message would never fit; raise "
                     "%s or lower max-message",
                     value, name);
    return OPTIONS_EXIT_USAGE;
}

static int check_byte_rate(const struct config *c, const struct options *o, FILE *err)
{
    uint64_t burst = c->net.byte_rate.burst;
    if (c->net.byte_rate.per_second == 0 || burst >= c->net.max_message_bytes)
        return 0;
    char value[VALUE_TEXT_MAX];
    options_value_text(o, "max-message", value, sizeof(value));
    options_complain(o, "byte-rate", err,
                     "its burst is smaller than max-message %s, so that such a message would "
                     "always exceed it; give RATE/%s or lower max-message",
                     value, value);
    return OPTIONS_EXIT_USAGE;
}

/* Not by the table's own check, whose message repeats the value: it may hold a password. */
static int check_redis(const struct config *c, const struct options *o, FILE *err)
{
    const struct option_list *urls = &c->pubsub.redis.urls;
    char why[REDIS_URL_WHY_MAX];
    struct redis_url url;
    struct redis_hash hash = {0};
    if (urls->count > REDIS_SERVERS_MAX) {
        options_complain(o, "redis", err, "%u servers are the most; name fewer", REDIS_SERVERS_MAX);
        return OPTIONS_EXIT_USAGE;
    }
    for (uint32_t i = 0; i < urls->count; i++) {
        char text[REDIS_URL_TEXT_MAX];
        if (redis_url_parse(urls->items[i], &url, why) != 0) {
            options_complain(o, "redis", err, "%s", why);
            return OPTIONS_EXIT_USAGE;
        }
        if (url.kind == REDIS_KIND_CLUSTER && strchr(c->pubsub.redis.prefix, '{') != NULL) {
            options_complain(o, "redis-prefix", err,
                             "a { in it puts all rooms into one slot of the cluster; leave it out");
            return OPTIONS_EXIT_USAGE;
        }
        redis_url_format(&url, text);
        if (redis_hash_add(&hash, text) == 0)
            continue;
        options_complain(o, "redis", err, "%s stands twice; remove one", text);
        return OPTIONS_EXIT_USAGE;
    }
    return 0;
}

static bool is_off(const char *text)
{
    return strcmp(text, "off") == 0;
}

/* What belongs to TLS with Redis comes together. */
static int check_redis_tls(const struct config *c, const struct options *o, FILE *err)
{
    const struct redis_config *redis = &c->pubsub.redis;
    const char *idle = strcmp(redis->ca, REDIS_CA_FILE) != 0 ? "redis-ca"
                       : !is_off(redis->cert)                ? "redis-cert"
                       : !is_off(redis->key)                 ? "redis-key"
                                                             : NULL;

    if (idle != NULL && !redis_trust_is_needed(redis)) {
        options_complain(o, idle, err,
                         "has no effect without a server by TLS; give redis as rediss://");
        return OPTIONS_EXIT_USAGE;
    }
    if (is_off(redis->cert) == is_off(redis->key))
        return 0;
    idle = is_off(redis->key) ? "redis-key" : "redis-cert";
    options_complain(o, is_off(redis->key) ? "redis-cert" : "redis-key", err,
                     "a certificate and its key come together; give %s, too", idle);
    return OPTIONS_EXIT_USAGE;
}

uint16_t config_tls_port(const struct config *c, uint32_t i)
{
    return (uint16_t)atoi(c->tls_port.items[i]); /* the table has checked it */
}

/* What belongs to TLS comes together. */
static int check_tls_files(const struct config *c, const struct options *o, FILE *err)
{
    const struct net_config *net = &c->net;
    const char *idle = net->tls_cert.count > 0        ? "tls-cert"
                       : net->tls_key.count > 0       ? "tls-key"
                       : net->tls_client_ca.count > 0 ? "tls-client-ca"
                       : net->tls_ocsp.count > 0      ? "tls-ocsp"
                       : net->ktls != NET_KTLS_OFF    ? "ktls"
                       : c->redirect_http             ? "redirect-http"
                                                      : NULL;

    if (c->tls_port.count == 0) {
        if (idle == NULL)
            return 0;
        options_complain(o, idle, err, "has no effect without tls-port; give it, such as 443");
        return OPTIONS_EXIT_USAGE;
    }
    if (net->tls_cert.count == 0) {
        options_complain(o, "tls-port", err, "needs a certificate; give tls-cert and tls-key");
        return OPTIONS_EXIT_USAGE;
    }
    if (net->tls_cert.count != net->tls_key.count) {
        options_complain(o, net->tls_cert.count > net->tls_key.count ? "tls-cert" : "tls-key", err,
                         "%u certificates and %u keys; give a key for each certificate, in the "
                         "same order",
                         net->tls_cert.count, net->tls_key.count);
        return OPTIONS_EXIT_USAGE;
    }
    if (net->tls_cert.count > TLS_IDENTITIES_MAX) {
        options_complain(o, "tls-cert", err, "%u are too many; give at most %u",
                         net->tls_cert.count, TLS_IDENTITIES_MAX);
        return OPTIONS_EXIT_USAGE;
    }
    return 0;
}

/* Whether one of the first n places is where `a` would listen, or an earlier TLS port. */
static bool is_taken(const struct config *c, const struct address *a, uint32_t tls_count)
{
    struct address other;

    for (uint32_t i = 0; i < place_count(c); i++) {
        place_at(c, i, &other);
        if (address_overlaps(a, &other))
            return true;
    }
    for (uint32_t i = 0; i < tls_count; i++) {
        if (a->addr.port != 0 && config_tls_port(c, i) == a->addr.port)
            return true;
    }
    return false;
}

static int check_tls_ports(const struct config *c, const struct options *o, FILE *err)
{
    uint32_t tcp = 0;

    for (uint32_t i = 0; i < c->tls_port.count; i++) {
        for (uint32_t k = 0; k < c->address.count; k++) {
            struct address a;

            CHECK(address_parse(c->address.items[k], config_tls_port(c, i), &a) == 0);
            tcp += a.path == NULL;
            if (a.path == NULL && is_taken(c, &a, i)) {
                options_complain(o, "tls-port", err,
                                 "%s would be listened on twice; choose another port",
                                 c->tls_port.items[i]);
                return OPTIONS_EXIT_USAGE;
            }
        }
    }
    if (c->tls_port.count == 0 || tcp > 0)
        return 0;
    options_complain(o, "tls-port", err, "there is no TCP address; give one by address");
    return OPTIONS_EXIT_USAGE;
}
