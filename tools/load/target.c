/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Where the load goes. Main thread at start, but for target_fill(). */

#include "tools/load/target.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT_PLAIN 80
#define PORT_TLS 443

/* Views of an URL's parts. */
struct parts {
    const char *host; /* without brackets */
    size_t host_len;
    const char *authority; /* host and port as written */
    size_t authority_len;
    uint16_t port;
    bool is_tls;
    const char *path;
};

static const char *split_port(struct parts *p, const char *colon, const char *end)
{
    char *stop;
    unsigned long n;

    p->port = p->is_tls ? PORT_TLS : PORT_PLAIN;
    if (colon == NULL || colon >= end)
        return NULL;
    n = strtoul(colon + 1, &stop, 10);
    if (stop != end || colon + 1 == end || n == 0 || n > UINT16_MAX)
        return "has a bad port; give one of 1 to 65535";
    p->port = (uint16_t)n;
    return NULL;
}

bool target_is_tls(const char *url)
{
    return strncmp(url, "wss://", 6) == 0;
}

static const char *split(const char *url, struct parts *p)
{
    p->is_tls = target_is_tls(url);
    if (!p->is_tls && strncmp(url, "ws://", 5) != 0)
        return "is no ws:// or wss:// URL; give one such as ws://127.0.0.1:8000/echo";
    p->authority = url + (p->is_tls ? 6 : 5);
    p->authority_len = strcspn(p->authority, "/?");
    p->path = p->authority + p->authority_len;
    if (p->path[0] == '?')
        return "has a query without a path; write / before the ?";
    const char *end = p->path;
    const char *colon = memchr(p->authority, ':', p->authority_len);
    p->host = p->authority;
    if (p->authority[0] == '[') {
        const char *close = memchr(p->authority, ']', p->authority_len);
        if (close == NULL)
            return "has an IPv6 address without its ]";
        p->host++;
        p->host_len = (size_t)(close - p->host);
        colon = close[1] == ':' ? close + 1 : NULL;
    } else {
        p->host_len = colon != NULL ? (size_t)(colon - p->host) : p->authority_len;
    }
    if (p->host_len == 0)
        return "names no host; give one such as ws://127.0.0.1:8000/echo";
    if (p->authority_len >= TARGET_TEXT_MAX)
        return "is too long";
    return split_port(p, colon, end);
}

const char *target_check_path(const char *path)
{
    static const char *const places[] = {"{n}", "{room}", "{run}"};

    if (path[0] != '/')
        return "is no path; it begins with /";
    if (strlen(path) >= TARGET_PATH_MAX - 32)
        return "is too long";
    for (const char *p = strchr(path, '{'); p != NULL; p = strchr(p + 1, '{')) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(places); i++)
            known |= strncmp(p, places[i], strlen(places[i])) == 0;
        if (!known)
            return "has an unknown place; {n}, {room} and {run} are filled in";
    }
    return strchr(path, ' ') != NULL ? "has a blank in it; write %20" : NULL;
}

const char *target_check(const char *url)
{
    struct parts p;
    const char *wrong = split(url, &p);

    return wrong != NULL || p.path[0] == '\0' ? wrong : target_check_path(p.path);
}

const char *target_resolve(const char *url, struct target *t)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct parts p;
    const char *wrong = split(url, &p);

    if (wrong != NULL)
        return wrong;
    snprintf(t->name, sizeof(t->name), "%.*s", (int)p.host_len, p.host);
    snprintf(t->host, sizeof(t->host), "%.*s", (int)p.authority_len, p.authority);
    snprintf(t->path, sizeof(t->path), "%s", p.path);
    int err = getaddrinfo(t->name, NULL, &hints, &found);
    if (err != 0 || found == NULL)
        return gai_strerror(err);
    io_addr_from_sockaddr(&t->addr, found->ai_addr, found->ai_addrlen);
    t->addr.port = p.port;
    t->is_tls = p.is_tls;
    t->is_loopback = t->addr.family == AF_INET && t->addr.ip[12] == 127;
    freeaddrinfo(found);
    return NULL;
}

static size_t fill_place(const char *place, const struct target_values *v, char *out, size_t cap)
{
    uint32_t number = place[1] == 'n' ? v->connection : place[2] == 'o' ? v->room : v->run;
    size_t len = (size_t)snprintf(out, cap, "%u", number);

    return min_size(len, cap - 1);
}

uint32_t target_fill(const char *path, const struct target_values *values, char *out)
{
    size_t len = 0;

    while (*path != '\0' && len < TARGET_PATH_MAX - 1) {
        if (*path == '{') {
            len += fill_place(path, values, out + len, TARGET_PATH_MAX - len);
            path += strcspn(path, "}") + 1;
        } else {
            out[len++] = *path++;
        }
    }
    out[len] = '\0';
    return (uint32_t)len;
}
