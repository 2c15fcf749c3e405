/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_URL_H
#define PUBSUB_REDIS_URL_H

/* Where a Redis is, as the operator writes it. Any thread.
 *
 *     redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]           one server; port 6379, database 0
 *     unix:PATH, redis+unix://[[USER]:PASSWORD@]/PATH[?db=DB]
 *     redis+sentinel://[[USER]:PASSWORD@]HOSTS/MASTER[/DB][?sentinel=[USER]:PASSWORD]
 *                  HOSTS: the Sentinels, HOST[:PORT],..., port 26379; the first password is the
 *                  master's
 *     redis+cluster://[[USER]:PASSWORD@]HOSTS
 *                  HOSTS: some nodes of the cluster, port 6379; the others are learned
 *
 * With rediss:// instead of redis:// all of these connections are by TLS, to the same ports, those
 * to Sentinels and to nodes that are learned too: rediss://, rediss+sentinel://, rediss+cluster://.
 *
 * USER, PASSWORD and PATH may be percent-encoded (RFC 3986 2.1); HOST is a name, an IPv4 address
 * or an IPv6 address in brackets. */

#include <stdbool.h>
#include <string.h>

#include "core/base.h"

#define REDIS_HOST_MAX 254   /* longest name (RFC 1035 2.3.4) or path, with its zero */
#define REDIS_SECRET_MAX 512 /* longest user name or password, with its zero */

/* One server. */
struct redis_endpoint {
    char host[REDIS_HOST_MAX]; /* name, address without brackets, or path of a socket */
    uint16_t port;             /* 0 for a path */
    bool is_unix;
};

#define REDIS_URL_ENDPOINTS_MAX 16

enum redis_kind { REDIS_KIND_SINGLE, REDIS_KIND_SENTINEL, REDIS_KIND_CLUSTER };

struct redis_url {
    uint8_t kind; /* enum redis_kind */
    bool is_tls;
    uint32_t endpoint_count;
    union {
        struct redis_endpoint endpoint; /* the first or only one */
        struct redis_endpoint endpoints[REDIS_URL_ENDPOINTS_MAX];
    };
    char master[REDIS_HOST_MAX];              /* REDIS_KIND_SENTINEL: its name */
    char sentinel_user[REDIS_SECRET_MAX];     /* "": the Sentinels' default user */
    char sentinel_password[REDIS_SECRET_MAX]; /* "": none */
    char user[REDIS_SECRET_MAX];              /* "": the server's default user */
    char password[REDIS_SECRET_MAX];          /* "": none */
    uint32_t db;
};

/* Room for a complaint of redis_url_parse(), and for redis_endpoint_format(). */
#define REDIS_URL_WHY_MAX 160
#define REDIS_ENDPOINT_TEXT_MAX (REDIS_HOST_MAX + 16)

/* Fills *url from text. Returns 0, or -EINVAL and in why (REDIS_URL_WHY_MAX bytes) what is wrong
 * and what is right; it never repeats a password. */
MUST_USE int redis_url_parse(const char *text, struct redis_url *url, char *why);

/* Writes the text into out with *** for every password, right URL or not, shortened to cap bytes
 * with its zero. */
void redis_url_mask(const char *text, char *out, size_t cap);

/* Whether a URL begins there: a scheme of redis, or "unix:/". The names of Sentinels do not. */
bool redis_url_begins(const char *text);

/* Whether a URL that redis_url_parse() takes is by TLS. */
static inline bool redis_url_is_tls(const char *text)
{
    return strncmp(text, "rediss", 6) == 0;
}

/* Whether it is that of a cluster. */
static inline bool redis_url_is_cluster(const char *text)
{
    return strncmp(text, "redis+cluster:", 14) == 0 || strncmp(text, "rediss+cluster:", 15) == 0;
}

/* What the URL names, without credentials, from its first host, by TLS or not: for logs, and as the
 * identity that all nodes write alike. */
#define REDIS_URL_TEXT_MAX (REDIS_ENDPOINT_TEXT_MAX + REDIS_HOST_MAX + 16)
void redis_url_format(const struct redis_url *url, char *text);

static inline bool redis_endpoint_is_same(const struct redis_endpoint *a,
                                          const struct redis_endpoint *b)
{
    return a->port == b->port && a->is_unix == b->is_unix && strcmp(a->host, b->host) == 0;
}

/* "host:port", "[::1]:port" or "unix:path", without credentials: for logs, metrics and names. */
void redis_endpoint_format(const struct redis_endpoint *e, char *text);

#endif
