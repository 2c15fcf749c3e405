/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* URLs of Redis servers. Any thread. */

#include "pubsub/redis_url.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PORT_DEFAULT 6379
#define PORT_SENTINEL 26379
/* Longest path of a socket that the kernel takes, without the zero (unix(7)). */
#define UNIX_PATH_LEN_MAX 107

/* A part of the text. */
struct part {
    const char *ptr;
    size_t len;
};

static int complain(char *why, const char *text)
{
    snprintf(why, REDIS_URL_WHY_MAX, "%s", text);
    return -EINVAL;
}

static bool skip(const char **text, const char *prefix)
{
    size_t len = strlen(prefix);

    if (strncmp(*text, prefix, len) != 0)
        return false;
    *text += len;
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into out, at most cap bytes with the zero. False: too long, a bad code, or a
 * zero. */
static bool decode(struct part in, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = i + 1 < in.len ? hex(in.ptr[i + 1]) : -1;
            int low = i + 2 < in.len ? hex(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || n + 1 >= cap)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

/* A decimal number up to max, at least one digit. */
static bool number(struct part p, uint32_t max, uint32_t *value)
{
    uint64_t n = 0;

    if (p.len == 0 || p.len > 10)
        return false;
    for (size_t i = 0; i < p.len; i++) {
        if (p.ptr[i] < '0' || p.ptr[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(p.ptr[i] - '0');
    }
    *value = (uint32_t)n;
    return n <= max;
}

/* "[USER]:PASSWORD", each of REDIS_SECRET_MAX bytes. */
static int parse_secret(struct part p, char *user, char *password, char *why)
{
    const char *colon = memchr(p.ptr, ':', p.len);

    if (colon == NULL)
        return complain(why, "credentials are written USER:PASSWORD, or :PASSWORD");
    struct part first = {p.ptr, (size_t)(colon - p.ptr)};
    struct part second = {colon + 1, p.len - first.len - 1};
    if (second.len == 0)
        return complain(why, "the password is empty");
    if (!decode(first, user, REDIS_SECRET_MAX) || !decode(second, password, REDIS_SECRET_MAX))
        return complain(why, "user or password is too long, or has a bad percent code: write a % "
                             "as %25");
    return 0;
}

/* Credentials and '@' in front of *rest, if they are there: up to the last '@' before a '/'. */
static int parse_credentials(struct part *rest, struct redis_url *url, char *why)
{
    const char *slash = memchr(rest->ptr, '/', rest->len);
    size_t len = slash == NULL ? rest->len : (size_t)(slash - rest->ptr);
    const char *at = memrchr(rest->ptr, '@', len);

    if (at == NULL)
        return 0;
    len = (size_t)(at - rest->ptr);
    int err = parse_secret((struct part){rest->ptr, len}, url->user, url->password, why);
    rest->ptr = at + 1;
    rest->len -= len + 1;
    return err;
}

static int parse_db(struct part p, struct redis_url *url, char *why)
{
    if (!number(p, INT32_MAX, &url->db))
        return complain(why, "the database behind the / must be a number");
    return 0;
}

static bool is_host(struct part p, bool bracketed)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    static const char address[] = "0123456789abcdefABCDEF:.";

    if (p.len == 0 || p.len >= REDIS_HOST_MAX)
        return false;
    for (size_t i = 0; i < p.len; i++) {
        if (p.ptr[i] == '\0' || strchr(bracketed ? address : name, p.ptr[i]) == NULL)
            return false;
    }
    return true;
}

/* HOST[:PORT] or [ADDRESS][:PORT]. */
static int parse_endpoint(struct part p, uint16_t port_default, struct redis_endpoint *e, char *why)
{
    bool bracketed = p.len > 0 && p.ptr[0] == '[';
    const char *end = memchr(p.ptr, bracketed ? ']' : ':', p.len);
    struct part host = {p.ptr + bracketed, p.len - bracketed}, port = {p.ptr + p.len, 0};
    uint32_t n = port_default;

    if (bracketed && end == NULL)
        return complain(why, "the ] behind an IPv6 address is missing");
    if (end != NULL) {
        host.len = (size_t)(end - host.ptr);
        port = (struct part){end + bracketed, p.len - (size_t)(end + bracketed - p.ptr)};
    }
    if (!is_host(host, bracketed))
        return complain(why, "the host must be a name, an IPv4 address, or an IPv6 address in "
                             "brackets");
    if (port.len > 0 &&
        (port.ptr[0] != ':' || !number((struct part){port.ptr + 1, port.len - 1}, UINT16_MAX, &n) ||
         n == 0))
        return complain(why, "the port must be a number from 1 to 65535");
    *e = (struct redis_endpoint){.port = (uint16_t)n};
    memcpy(e->host, host.ptr, host.len);
    return 0;
}

/* One or more, with commas between them. */
static int parse_endpoints(struct part p, uint16_t port_default, struct redis_url *url, char *why)
{
    for (url->endpoint_count = 0; url->endpoint_count < REDIS_URL_ENDPOINTS_MAX;) {
        const char *comma = memchr(p.ptr, ',', p.len);
        struct part one = {p.ptr, comma == NULL ? p.len : (size_t)(comma - p.ptr)};
        int err = parse_endpoint(one, port_default, &url->endpoints[url->endpoint_count], why);
        if (err != 0)
            return err;
        url->endpoint_count++;
        if (comma == NULL)
            return 0;
        p = (struct part){comma + 1, p.len - one.len - 1};
    }
    return complain(why, "at most 16 hosts can be named");
}

/* Takes what stands before the first `mark` off *rest; all of it when there is none. */
static struct part take_until(struct part *rest, char mark)
{
    const char *at = memchr(rest->ptr, mark, rest->len);
    struct part taken = *rest;

    if (at != NULL)
        taken.len = (size_t)(at - rest->ptr);
    rest->ptr += taken.len + (at != NULL);
    rest->len -= taken.len + (at != NULL);
    return taken;
}

static int parse_tcp(const char *text, struct redis_url *url, char *why)
{
    struct part rest = {text, strlen(text)};
    int err = parse_credentials(&rest, url, why);

    url->endpoint_count = 1;
    if (err == 0)
        err = parse_endpoint(take_until(&rest, '/'), PORT_DEFAULT, &url->endpoint, why);
    if (err != 0 || rest.len == 0)
        return err;
    return parse_db(rest, url, why);
}

static int parse_sentinel_query(struct part query, struct redis_url *url, char *why)
{
    struct part name = take_until(&query, '=');

    if (name.len != 8 || memcmp(name.ptr, "sentinel", 8) != 0)
        return complain(why, "behind the ? stands sentinel=USER:PASSWORD");
    return parse_secret(query, url->sentinel_user, url->sentinel_password, why);
}

static int parse_sentinel(const char *text, struct redis_url *url, char *why)
{
    struct part query = {text, strlen(text)}, rest = take_until(&query, '?'), master;
    int err = parse_credentials(&rest, url, why);

    url->kind = REDIS_KIND_SENTINEL;
    if (err == 0)
        err = parse_endpoints(take_until(&rest, '/'), PORT_SENTINEL, url, why);
    if (err != 0)
        return err;
    master = take_until(&rest, '/');
    if (master.len == 0 || !decode(master, url->master, sizeof(url->master)))
        return complain(why, "behind the Sentinels stands /MASTER, the master's name there");
    if (rest.len > 0)
        err = parse_db(rest, url, why);
    if (err == 0 && query.ptr > rest.ptr + rest.len)
        err = parse_sentinel_query(query, url, why);
    return err;
}

static int parse_cluster(const char *text, struct redis_url *url, char *why)
{
    struct part rest = {text, strlen(text)};
    int err = parse_credentials(&rest, url, why);

    url->kind = REDIS_KIND_CLUSTER;
    if (err == 0)
        err = parse_endpoints(take_until(&rest, '/'), PORT_DEFAULT, url, why);
    if (err == 0 && rest.len > 0)
        err = complain(why, "a cluster has no databases: nothing stands behind the hosts");
    return err;
}

static int set_path(struct part p, struct redis_url *url, char *why)
{
    url->endpoint_count = 1;
    url->endpoint.is_unix = true;
    if (p.len == 0)
        return complain(why, "the path of the socket is missing");
    if (!decode(p, url->endpoint.host, UNIX_PATH_LEN_MAX + 1))
        return complain(why, "the path of a socket has at most 107 bytes and no bad percent code");
    return 0;
}

static int parse_unix(const char *text, struct redis_url *url, char *why)
{
    struct part rest = {text, strlen(text)};
    const char *query;
    int err = parse_credentials(&rest, url, why);

    if (err != 0)
        return err;
    query = memchr(rest.ptr, '?', rest.len);
    if (query == NULL)
        return set_path(rest, url, why);
    err = set_path((struct part){rest.ptr, (size_t)(query - rest.ptr)}, url, why);
    if (err != 0)
        return err;
    query++;
    if (!skip(&query, "db="))
        return complain(why, "behind the ? of a socket's URL stands db=NUMBER");
    return parse_db((struct part){query, strlen(query)}, url, why);
}

/* "redis" or "rediss", and what stands behind it. */
static bool skip_scheme(const char **text, const char *rest, struct redis_url *url)
{
    const char *p = *text;

    if (!skip(&p, "redis"))
        return false;
    url->is_tls = skip(&p, "s");
    if (!skip(&p, rest))
        return false;
    *text = p;
    return true;
}

int redis_url_parse(const char *text, struct redis_url *url, char *why)
{
    memset(url, 0, sizeof(*url));
    if (skip_scheme(&text, "://", url))
        return parse_tcp(text, url, why);
    if (skip_scheme(&text, "+sentinel://", url))
        return parse_sentinel(text, url, why);
    if (skip_scheme(&text, "+cluster://", url))
        return parse_cluster(text, url, why);
    url->is_tls = false;
    if (skip(&text, "redis+unix://"))
        return parse_unix(text, url, why);
    if (skip(&text, "unix:"))
        return set_path((struct part){text, strlen(text)}, url, why);
    return complain(why, "a Redis URL begins with redis://, redis+sentinel://, redis+cluster:// "
                         "(by TLS with rediss), redis+unix:// or unix:");
}

/* What is shown
 * ---------------------------------------------------------------------------------- */

#define MASK "***"

/* Whether what follows a host's colon is a port. */
static bool is_port(const char *text, const char *end)
{
    while (text < end && *text >= '0' && *text <= '9')
        text++;
    return text == end || *text == '/' || *text == ',' || *text == '?';
}

/* The password of what stands from `begin` to `end`, credentials and hosts: what is no host in
 * front of an @, but for a user's name; without an @, what should be a port and is none. Empty:
 * none. */
static struct part find_password(const char *begin, const char *end)
{
    const char *at = memrchr(begin, '@', (size_t)(end - begin));
    const char *last = at != NULL ? at : end;
    const char *colon = memchr(begin, ':', (size_t)(last - begin));
    const char *slash = memchr(begin, '/', (size_t)(last - begin));

    if (at != NULL) {
        begin = colon != NULL ? colon + 1 : begin;
        return (struct part){begin, (size_t)(at - begin)};
    }
    if (colon == NULL || *begin == '[' || (slash != NULL && slash < colon) ||
        is_port(colon + 1, end))
        return (struct part){end, 0};
    return (struct part){colon + 1, (size_t)(end - colon - 1)};
}

void redis_url_mask(const char *text, char *out, size_t cap)
{
    static const char key[] = "sentinel=";
    const char *scheme = strstr(text, "://");
    const char *begin = scheme != NULL ? scheme + 3 : text, *end = text + strlen(text);
    const char *query = strstr(begin, key);
    const char *colon;
    struct part first = {end, 0}, second = {end, 0};

    if (query != NULL) {
        query += strlen(key);
        colon = strchr(query, ':');
        second.ptr = colon != NULL ? colon + 1 : query;
        second.len = (size_t)(end - second.ptr);
        end = query;
    }
    if (strncmp(text, "unix:", 5) != 0)
        first = find_password(begin, end);
    if (first.len == 0)
        first.ptr = second.ptr;
    snprintf(out, cap, "%.*s%s%.*s%s", (int)(first.ptr - text), text, first.len > 0 ? MASK : "",
             (int)(second.ptr - first.ptr - first.len), first.ptr + first.len,
             second.len > 0 ? MASK : "");
}

bool redis_url_begins(const char *text)
{
    const char *colon = strchr(text, ':');

    if (skip(&text, "unix:/"))
        return true;
    return skip(&text, "redis") && colon != NULL && strncmp(colon, "://", 3) == 0 &&
           memchr(text, ',', (size_t)(colon - text)) == NULL;
}

void redis_url_format(const struct redis_url *url, char *text)
{
    char endpoint[REDIS_ENDPOINT_TEXT_MAX];

    redis_endpoint_format(&url->endpoint, endpoint);
    if (url->kind == REDIS_KIND_SENTINEL)
        snprintf(text, REDIS_URL_TEXT_MAX, "%s by sentinel %s", url->master, endpoint);
    else if (url->kind == REDIS_KIND_CLUSTER)
        snprintf(text, REDIS_URL_TEXT_MAX, "cluster of %s", endpoint);
    else
        snprintf(text, REDIS_URL_TEXT_MAX, "%s", endpoint);
}

void redis_endpoint_format(const struct redis_endpoint *e, char *text)
{
    if (e->is_unix)
        snprintf(text, REDIS_ENDPOINT_TEXT_MAX, "unix:%s", e->host);
    else if (strchr(e->host, ':') != NULL)
        snprintf(text, REDIS_ENDPOINT_TEXT_MAX, "[%s]:%u", e->host, e->port);
    else
        snprintf(text, REDIS_ENDPOINT_TEXT_MAX, "%s:%u", e->host, e->port);
}
